//! The chain of length-prefixed units inside H.264 and HEVC samples (ISO/IEC 14496-15): damage to the
//! media data of a file breaks it even where the index is sound.

use super::number::be32;

/// How the units of a track are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Units {
    /// Bytes of each length, 1–4.
    pub length_bytes: usize,
}

impl Units {
    /// From a sample entry: the body of its `avcC` or `hvcC` box.
    pub fn from_entry(entry: &[u8]) -> Option<Self> {
        // Sample entries hold a few hundred bytes; the box is found by its name, its version byte (1) confirms it.
        let configuration = |name: &[u8], at: usize| {
            let body = entry.get(memchr::memmem::find(entry, name)? + 4..)?;
            (body.first() == Some(&1)).then(|| body.get(at).copied()).flatten()
        };
        let byte = configuration(b"avcC", 4).or_else(|| configuration(b"hvcC", 21))?;
        Some(Self { length_bytes: usize::from(byte & 3) + 1 })
    }

    /// Whether `sample` is an unbroken chain of units.
    pub fn chain_holds(self, sample: &[u8]) -> bool {
        let mut rest = sample;
        while !rest.is_empty() {
            let length = match self.length_bytes {
                4 => be32(rest, 0).map(|n| n as usize),
                n => rest.get(..n).map(|b| b.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))),
            };
            let Some(length) = length else { return rest.iter().all(|b| *b == 0) };
            if length == 0 {
                // Zero padding after the last unit is harmless; a sample of zeros is a hole in the file.
                return rest.iter().all(|b| *b == 0) && rest.len() < sample.len();
            }
            // The highest bit of a unit's header is forbidden (H.264 7.4.1, H.265 7.4.2.2).
            let Some(unit) = rest.get(self.length_bytes..).and_then(|r| r.get(..length)) else { return false };
            if unit.first().is_none_or(|header| header & 0x80 != 0) {
                return false;
            }
            rest = rest.get(self.length_bytes + length..).unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_units_holds_and_a_broken_one_does_not() {
        let units = Units { length_bytes: 4 };
        assert!(units.chain_holds(&[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 1, 0x41]));
        assert!(units.chain_holds(&[0, 0, 0, 1, 0x65, 0, 0, 0, 0]), "zero padding");
        assert!(!units.chain_holds(&[0, 0, 0, 9, 0x65, 1]), "longer than the sample");
        assert!(!units.chain_holds(&[0; 32]), "a hole");
        assert!(!units.chain_holds(&[0, 0, 0, 1, 0xE5]), "forbidden bit");
        assert!(Units { length_bytes: 2 }.chain_holds(&[0, 1, 0x65]));
    }

    #[test]
    fn the_length_is_read_from_the_configuration() {
        assert_eq!(Units::from_entry(b"....avcC\x01\x64\x00\x1f\xff\xe1"), Some(Units { length_bytes: 4 }));
        assert_eq!(Units::from_entry(b"....avcC\x01\x64\x00\x1f\xfd\xe1"), Some(Units { length_bytes: 2 }));
        assert_eq!(Units::from_entry(b"....mp4a"), None);
    }
}
