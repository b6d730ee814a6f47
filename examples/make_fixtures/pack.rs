//! Containers written by hand, so that their bytes depend on nothing but this code: deflate, zlib, ZIP (also
//! password-protected) and OLE compound files. Library compressors choose other matches on other processors.

/// Deflate (RFC 1951) with fixed Huffman codes and greedy matches.
pub fn deflate(data: &[u8]) -> Vec<u8> {
    const HASH_BITS: u32 = 15;
    const CHAIN: usize = 24;
    let mut out = Bits::default();
    out.low_first(1, 1); // last block
    out.low_first(1, 2); // fixed codes
    let hash = |at: usize| -> usize {
        let three = u32::from(data[at]) | u32::from(data[at + 1]) << 8 | u32::from(data[at + 2]) << 16;
        (three.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
    };
    let mut heads = vec![usize::MAX; 1 << HASH_BITS];
    let mut previous = vec![usize::MAX; data.len()];
    let mut at = 0;
    while at < data.len() {
        let (mut length, mut distance) = (0, 0);
        if at + 3 <= data.len() {
            let mut candidate = heads[hash(at)];
            for _ in 0..CHAIN {
                if candidate == usize::MAX || at - candidate > 32_768 {
                    break;
                }
                let most = (data.len() - at).min(258);
                // Slices first: comparing byte by byte takes seconds in a debug build.
                let mut same = 0;
                while same + 16 <= most && data[candidate + same..][..16] == data[at + same..][..16] {
                    same += 16;
                }
                while same < most && data[candidate + same] == data[at + same] {
                    same += 1;
                }
                if same > length {
                    (length, distance) = (same, at - candidate);
                }
                if length == most {
                    break;
                }
                candidate = previous[candidate];
            }
        }
        let step = if length >= 3 {
            out.length(length);
            out.distance(distance);
            length
        } else {
            out.literal(u16::from(data[at]));
            1
        };
        // Inside a long match, a few positions are enough: screen copies are mostly runs.
        for covered in (at..at + step).step_by(if step > 32 { 16 } else { 1 }) {
            if covered + 3 <= data.len() {
                let slot = &mut heads[hash(covered)];
                previous[covered] = *slot;
                *slot = covered;
            }
        }
        at += step;
    }
    out.literal(256);
    out.finish()
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl Bits {
    fn low_first(&mut self, value: u32, bits: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.bytes.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }
    /// Huffman codes are packed from their most significant bit.
    fn code(&mut self, code: u32, bits: u32) {
        self.low_first(code.reverse_bits() >> (32 - bits), bits);
    }
    fn literal(&mut self, symbol: u16) {
        let symbol = u32::from(symbol);
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xC0 + symbol - 280, 8),
        }
    }
    fn length(&mut self, length: usize) {
        const BASE: [usize; 29] =
            [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
        const EXTRA: [u32; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
        let index = BASE.iter().rposition(|base| *base <= length).expect("a match has three bytes at least");
        self.literal(257 + index as u16);
        self.low_first((length - BASE[index]) as u32, EXTRA[index]);
    }
    fn distance(&mut self, distance: usize) {
        const BASE: [usize; 30] = [
            1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289,
            16385, 24577,
        ];
        let index = BASE.iter().rposition(|base| *base <= distance).expect("a distance is one at least");
        self.code(index as u32, 5);
        self.low_first((distance - BASE[index]) as u32, (index as u32 / 2).saturating_sub(1));
    }
    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.bytes.push(self.held as u8);
        }
        self.bytes
    }
}

/// A zlib stream (RFC 1950).
pub fn zlib(data: &[u8]) -> Vec<u8> {
    let (mut a, mut b) = (1u32, 0u32);
    // 5,552 bytes are as many as fit in 32 bits without a remainder in between.
    for part in data.chunks(5552) {
        for byte in part {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % 65_521, b % 65_521);
    }
    let mut stream = vec![0x78, 0x9C];
    stream.extend(deflate(data));
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// A ZIP archive being written. Every member is dated 2026-01-15 10:00:00.
#[derive(Default)]
pub struct Zip {
    bytes: Vec<u8>,
    central: Vec<u8>,
    members: u16,
}

const ZIP_TIME: u16 = 10 << 11;
const ZIP_DATE: u16 = (2026 - 1980) << 9 | 1 << 5 | 15;

impl Zip {
    /// Adds a compressed member.
    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.member(name, data, 8, None)
    }
    /// Adds a member as it is (`mimetype` of OpenDocument).
    pub fn stored(self, name: &str, data: &[u8]) -> Self {
        self.member(name, data, 0, None)
    }
    /// Adds a member under a password (the old PKWARE cipher, APPNOTE 6.1: what « Zip with password » usually means).
    pub fn protected(self, name: &str, data: &[u8], password: &str) -> Self {
        self.member(name, data, 8, Some(password))
    }

    fn member(mut self, name: &str, data: &[u8], method: u16, password: Option<&str>) -> Self {
        let crc = crc32fast::hash(data);
        let mut packed = if method == 8 { deflate(data) } else { data.to_vec() };
        let mut flags: u16 = 1 << 11; // names are UTF-8
        if let Some(password) = password {
            flags |= 1;
            packed = encrypt(&packed, crc, password);
        }
        let mut common = Vec::new();
        for field in [20u16, flags, method, ZIP_TIME, ZIP_DATE] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc, packed.len() as u32, data.len() as u32] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes());
        let offset = self.bytes.len() as u32;
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(packed);
        self.central.extend(b"PK\x01\x02\x14\x00");
        self.central.extend(&common);
        self.central.extend([0; 10]); // comment, disk, attributes
        self.central.extend(offset.to_le_bytes());
        self.central.extend(name.as_bytes());
        self.members += 1;
        self
    }

    /// The archive.
    pub fn finish(mut self) -> Vec<u8> {
        let offset = self.bytes.len() as u32;
        self.bytes.extend(&self.central);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(self.members.to_le_bytes());
        self.bytes.extend(self.members.to_le_bytes());
        self.bytes.extend((self.central.len() as u32).to_le_bytes());
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend([0, 0]);
        self.bytes
    }
}

fn encrypt(data: &[u8], crc: u32, password: &str) -> Vec<u8> {
    let step = |crc: u32, byte: u8| {
        let mut c = (crc ^ u32::from(byte)) & 0xFF;
        for _ in 0..8 {
            c = if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 };
        }
        c ^ (crc >> 8)
    };
    let mut keys = [0x1234_5678u32, 0x2345_6789, 0x3456_7890];
    let update = |keys: &mut [u32; 3], byte: u8| {
        keys[0] = step(keys[0], byte);
        keys[1] = keys[1].wrapping_add(keys[0] & 0xFF).wrapping_mul(134_775_813).wrapping_add(1);
        keys[2] = step(keys[2], (keys[1] >> 24) as u8);
    };
    for byte in password.bytes() {
        update(&mut keys, byte);
    }
    // Eleven arbitrary bytes, then the check byte.
    let header = *b"greffier-fx";
    header
        .iter()
        .copied()
        .chain([(crc >> 24) as u8])
        .chain(data.iter().copied())
        .map(|plain| {
            let t = (keys[2] | 2) & 0xFFFF;
            let cipher = plain ^ (t.wrapping_mul(t ^ 1) >> 8) as u8;
            update(&mut keys, plain);
            cipher
        })
        .collect()
}

/// An OLE compound file ([MS-CFB], version 3) with streams under the root, each padded to the size below which
/// streams would go to the mini stream.
pub fn compound(class: [u8; 16], streams: &[(&str, Vec<u8>)]) -> Vec<u8> {
    const SECTOR: usize = 512;
    const END: u32 = 0xFFFF_FFFE;
    const FREE: u32 = 0xFFFF_FFFF;
    // Sector 0 is the allocation table, sector 1 the directory (four entries).
    assert!(streams.len() <= 3, "one directory sector");
    let mut fat = vec![0xFFFF_FFFD, END];
    let mut sectors = Vec::new();
    let mut placed = Vec::new();
    for (name, data) in streams {
        let mut data = data.clone();
        data.resize(data.len().max(4096), 0);
        let size = data.len();
        data.resize(size.next_multiple_of(SECTOR), 0);
        let start = fat.len() as u32;
        let count = (data.len() / SECTOR) as u32;
        fat.extend((1..count).map(|n| start + n));
        fat.push(END);
        sectors.extend(data);
        placed.push((*name, start, size as u32));
    }
    assert!(fat.len() <= SECTOR / 4, "one allocation sector");
    fat.resize(SECTOR / 4, FREE);

    let mut file = vec![0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];
    file.extend([0; 16]);
    for field in [0x3Eu16, 3, 0xFFFE, 9, 6, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    for field in [0u32, 1, 1, 0, 4096, END, 0, END, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend(FREE.to_le_bytes().repeat(108));
    file.extend(fat.iter().flat_map(|s| s.to_le_bytes()));
    let entry = |name: &str, kind: u8, child: u32, right: u32, class: [u8; 16], start: u32, size: u32| {
        let mut entry: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = if name.is_empty() { 0 } else { entry.len() as u16 + 2 };
        entry.resize(64, 0);
        entry.extend(length.to_le_bytes());
        entry.extend([kind, 1]); // black
        for link in [FREE, right, child] {
            entry.extend(link.to_le_bytes());
        }
        entry.extend(class);
        entry.extend([0; 20]);
        entry.extend(start.to_le_bytes());
        entry.extend(u64::from(size).to_le_bytes());
        entry
    };
    file.extend(entry("Root Entry", 5, if placed.is_empty() { FREE } else { 1 }, FREE, class, END, 0));
    // Siblings form a tree ordered by name length, then name: a chain to the right of sorted names is one.
    placed.sort_by_key(|(name, ..)| (name.len(), name.to_uppercase()));
    for n in 0..3 {
        match placed.get(n) {
            Some((name, start, size)) => {
                let right = if n + 1 < placed.len() { n as u32 + 2 } else { FREE };
                file.extend(entry(name, 2, FREE, right, [0; 16], *start, *size));
            }
            None => file.extend(entry("", 0, FREE, FREE, [0; 16], 0, 0)),
        }
    }
    file.extend(sectors);
    file
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_deflated_inflates_to_itself() {
        for data in [
            Vec::new(),
            b"a".to_vec(),
            b"abcabcabcabcabcabc".repeat(100),
            (0..100_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect(),
        ] {
            let mut back = Vec::new();
            flate2::read::ZlibDecoder::new(zlib(&data).as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == data, "{} bytes", data.len());
        }
    }

    #[test]
    fn archives_are_read_by_others() {
        let zip = Zip::default().file("a.txt", b"bonjour").stored("b/é.txt", b"x").finish();
        let mut read = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
        let mut text = String::new();
        read.by_name("a.txt").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "bonjour");
        assert!(read.by_name("b/é.txt").is_ok());
    }

    #[test]
    fn compound_files_are_read_by_others() {
        let file = compound([7; 16], &[("Workbook", vec![9; 5000]), ("PROJECT", b"x".to_vec())]);
        let mut read = cfb::CompoundFile::open_strict(std::io::Cursor::new(file)).unwrap();
        let mut workbook = Vec::new();
        read.open_stream("Workbook").unwrap().read_to_end(&mut workbook).unwrap();
        assert_eq!(workbook, vec![9; 5000]);
        assert!(read.open_stream("PROJECT").is_ok());
    }
}
