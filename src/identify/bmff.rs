//! ISO base media files (ISO/IEC 14496-12) and QuickTime: told by their first boxes and brands.

use super::{Told, u32_be, u64_be};
use crate::model::format::Format;

/// Boxes looked at before giving up on finding `ftyp` behind padding.
const MAX_BOXES: usize = 16;

pub(super) fn tell(bytes: &[u8]) -> Option<Told> {
    let first = kind(bytes, 0)?;
    if &first == b"ftyp" {
        return Some(by_brands(bytes, 0));
    }
    match &first {
        // Segments of a fragmented file start with these (ISO/IEC 14496-12 §8.16).
        b"styp" | b"moof" | b"sidx" | b"emsg" | b"prft" if plausible(bytes) => {
            Some(Told::new(Format::Mp4, format!("first box {}", show(first))))
        }
        // QuickTime before 2001 had no ftyp: any of these may stand first.
        b"moov" | b"mdat" | b"wide" | b"skip" | b"free" | b"pnot" | b"cmov" | b"udta" | b"PICT" if plausible(bytes) => {
            Some(ftyp_behind(bytes).unwrap_or_else(|| Told::new(Format::Mov, format!("first atom {} and no ftyp", show(first)))))
        }
        _ => None,
    }
}

fn kind(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at.checked_add(4)?..at.checked_add(8)?)?.try_into().ok()
}

fn show(kind: [u8; 4]) -> String {
    kind.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' }).collect()
}

/// Whether the first four bytes are a box size and not four letters of a text that goes on with `free`.
/// A cut file keeps the size it had.
fn plausible(bytes: &[u8]) -> bool {
    match u32_be(bytes, 0) {
        Some(0 | 1) => true,
        Some(size) if size < 8 => false,
        Some(size) => size as usize <= bytes.len() || size < 0x2000_0000,
        None => false,
    }
}

/// Some writers put padding before `ftyp`.
fn ftyp_behind(bytes: &[u8]) -> Option<Told> {
    let mut at = 0usize;
    for _ in 0..MAX_BOXES {
        let size = match u32_be(bytes, at)? {
            0 => return None,
            1 => usize::try_from(u64_be(bytes, at.checked_add(8)?)?).ok()?,
            n => n as usize,
        };
        if size < 8 {
            return None;
        }
        at = at.checked_add(size)?;
        if kind(bytes, at)? == *b"ftyp" {
            return Some(by_brands(bytes, at));
        }
    }
    None
}

/// The registered brands (mp4ra.org) that mean something else than MP4.
fn of_brand(brand: &[u8]) -> Option<Format> {
    match brand {
        b"qt  " | b"mqt " => Some(Format::Mov),
        b"F4V " | b"F4P " | b"f4v " | b"f4p " => Some(Format::F4v),
        b"M4A " | b"M4B " | b"M4P " | b"F4A " | b"F4B " => Some(Format::M4a),
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"hevm" | b"hevs" | b"mif1" | b"msf1" | b"avif" | b"avis" => {
            Some(Format::Heif)
        }
        b"jp2 " | b"jpx " | b"jpm " => Some(Format::Jp2),
        [b'3', b'g', b'p' | b'e' | b'g' | b's' | b'2' | b'r' | b'h' | b't', _] => Some(Format::ThreeGp),
        _ => None,
    }
}

fn by_brands(bytes: &[u8], at: usize) -> Told {
    let size = u32_be(bytes, at).unwrap_or(0) as usize;
    let brand_at = |n: usize| -> Option<&[u8]> {
        let start = at.checked_add(n)?;
        bytes.get(start..start.checked_add(4)?)
    };
    let major = brand_at(8).unwrap_or(b"");
    let shown = String::from_utf8_lossy(major).into_owned();
    if let Some(format) = of_brand(major) {
        return Told::new(format, format!("ftyp brand {shown}"));
    }
    // A major brand that nobody knows: the compatible ones may tell, unless one of them says MP4.
    let compatible: Vec<&[u8]> = (16..size.min(256)).step_by(4).map_while(brand_at).collect();
    let is_mp4 =
        |b: &[u8]| b.starts_with(b"iso") || b.starts_with(b"mp4") || matches!(b, b"avc1" | b"dash" | b"MSNV" | b"M4V " | b"M4VH" | b"M4VP");
    let known = is_mp4(major) || compatible.iter().any(|b| is_mp4(b));
    let format = if known { Format::Mp4 } else { compatible.iter().find_map(|b| of_brand(b)).unwrap_or(Format::Mp4) };
    Told::new(format, format!("ftyp brand {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ftyp(major: &[u8; 4], compatible: &[&[u8; 4]]) -> Vec<u8> {
        let mut bytes = (16 + 4 * compatible.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(b"ftyp");
        bytes.extend_from_slice(major);
        bytes.extend_from_slice(&[0; 4]);
        for brand in compatible {
            bytes.extend_from_slice(*brand);
        }
        bytes
    }

    fn format(bytes: &[u8]) -> Option<Format> {
        tell(bytes).map(|t| t.format)
    }

    #[test]
    fn the_major_brand_decides() {
        assert_eq!(format(&ftyp(b"qt  ", &[])), Some(Format::Mov));
        assert_eq!(format(&ftyp(b"F4V ", &[b"isom"])), Some(Format::F4v));
        assert_eq!(format(&ftyp(b"isom", &[b"isom", b"3gp4"])), Some(Format::Mp4));
        assert_eq!(format(&ftyp(b"3gp5", &[b"isom"])), Some(Format::ThreeGp));
        assert_eq!(format(&ftyp(b"M4A ", &[b"isom"])), Some(Format::M4a));
        assert_eq!(format(&ftyp(b"mif1", &[b"heic"])), Some(Format::Heif));
        assert_eq!(format(&ftyp(b"dash", &[])), Some(Format::Mp4));
    }

    #[test]
    fn quicktime_without_ftyp_is_told_by_its_first_atom() {
        for atom in [b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"] {
            let mut bytes = vec![0, 0, 0, 8];
            bytes.extend_from_slice(atom);
            assert_eq!(format(&bytes), Some(Format::Mov));
        }
    }

    #[test]
    fn padding_before_ftyp_does_not_hide_it() {
        let mut bytes = vec![0, 0, 0, 8];
        bytes.extend_from_slice(b"free");
        bytes.extend_from_slice(&ftyp(b"isom", &[]));
        assert_eq!(format(&bytes), Some(Format::Mp4));
    }

    #[test]
    fn a_sentence_with_free_as_its_second_word_is_no_video() {
        assert_eq!(format(b"The free lunch is over"), None);
    }
}
