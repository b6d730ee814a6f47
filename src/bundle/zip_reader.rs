//! A small, strict ZIP reader for [`super::verify()`]: the container of a bundle comes from anywhere.
//!
//! Goals:
//! 1. What the central directory says is taken literally: duplicate names stay duplicates, raw names stay raw.
//! 2. One reading only: records follow one another from byte 0 to the directory, in its order; local headers equal
//!    central ones field by field; no comments, no extra fields but ZIP64, no data descriptors; a deflate stream ends
//!    where its member ends. A program that reads local headers, and one that reads the directory, unpack the same.
//! 3. Bounded: the directory by [`MAX_DIRECTORY`], what a member inflates to by the size it declares.
//!
//! Source: APPNOTE.TXT 6.3.10 §4.3 and §4.5.3.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::read::DeflateDecoder;

/// Largest central directory that is read, bytes. 239 proofs take 60 kB.
pub const MAX_DIRECTORY: u64 = 64 * 1024 * 1024;

const EOCD: usize = 22;
const LOCAL: u64 = 30;

/// Why a container is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a ZIP, or not one that has a single reading.
    #[error("{0}")]
    Malformed(&'static str),
    /// A byte is not the one that the single layout asks for.
    #[error("byte {at}: expected {expected}")]
    Differs {
        /// Offset in the file of the first field that differs.
        at: u64,
        /// What stands there in a bundle.
        expected: &'static str,
    },
    /// Two members share bytes.
    #[error("two members share the same bytes: {0}")]
    Overlap(String),
}

/// Why a member could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Encrypted, or a method other than store and deflate.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Inflates to another size than declared, or another checksum, or not at all.
    #[error("{0}")]
    Lies(&'static str),
}

/// One member, as the central directory describes it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Name, decoded; where it is not UTF-8, with replacement characters and `name_is_utf8` false.
    pub name: String,
    /// Whether the name means the same to every program.
    pub name_is_utf8: bool,
    /// Declared size, bytes.
    pub size: u64,
    /// Neither a file nor a folder (symbolic link, device), by its Unix mode.
    pub special: bool,
    method: u16,
    encrypted: bool,
    crc: u32,
    compressed: u64,
    data: u64,
}

/// A ZIP container.
pub struct ZipReader<R> {
    file: R,
    /// Members in directory order, duplicates included.
    pub members: Vec<Member>,
}

impl<R: Read + Seek> ZipReader<R> {
    /// Reads the directory and every local header.
    ///
    /// # Errors
    /// See [`ContainerError`].
    pub fn open(mut file: R) -> Result<Self, ContainerError> {
        use ContainerError::Malformed;
        let length = file.seek(SeekFrom::End(0))?;
        let tail_length = length.min((EOCD + 0xFFFF) as u64);
        let mut tail = vec![0; usize::try_from(tail_length).map_err(|_| Malformed("too large"))?];
        file.seek(SeekFrom::Start(length - tail_length))?;
        file.read_exact(&mut tail)?;
        let at = (0..=tail.len().saturating_sub(EOCD))
            .rev()
            .find(|&i| {
                tail[i..].starts_with(b"PK\x05\x06") && u16_at(&tail, i + 20).is_some_and(|n| i + EOCD + usize::from(n) == tail.len())
            })
            .ok_or(Malformed("no end of central directory at the end of the file"))?;
        let eocd = length - tail_length + at as u64;
        let field16 = |o| u64::from(u16_at(&tail, at + o).unwrap_or(0));
        let field32 = |o| u64::from(u32_at(&tail, at + o).unwrap_or(0));
        expect(field16(4) == 0 && field16(6) == 0, eocd + 4, "disk number 0")?;
        expect(field16(8) == field16(10), eocd + 8, "the same count on this disk as in total")?;
        expect(field16(20) == 0, eocd + 20, "no archive comment")?;
        let (mut count, mut size, mut offset, mut end) = (field16(10), field32(12), field32(16), eocd);
        if count == 0xFFFF || size == 0xFFFF_FFFF || offset == 0xFFFF_FFFF {
            let locator_at = eocd.checked_sub(20).ok_or(Malformed("no room for the ZIP64 locator"))?;
            let locator = read_at(&mut file, locator_at, 20)?;
            if locator.starts_with(b"PK\x06\x07") {
                let at = u64_at(&locator, 8).unwrap_or(u64::MAX);
                if at.checked_add(56).is_none_or(|e| e > locator_at) {
                    return Err(Malformed("ZIP64 end of central directory out of bounds"));
                }
                let eocd64 = read_at(&mut file, at, 56)?;
                let record = u64_at(&eocd64, 4).unwrap_or(u64::MAX);
                if !eocd64.starts_with(b"PK\x06\x06") || at.checked_add(12).and_then(|x| x.checked_add(record)) != Some(locator_at) {
                    return Err(Malformed("malformed ZIP64 end of central directory"));
                }
                expect(u32_at(&locator, 4) == Some(0) && u32_at(&locator, 16) == Some(1), locator_at + 4, "one disk, number 0")?;
                expect(record == 44, at + 4, "a ZIP64 end record without further data")?;
                expect(u64_at(&eocd64, 16) == Some(0), at + 16, "disk number 0")?;
                expect(u64_at(&eocd64, 24) == u64_at(&eocd64, 32), at + 24, "the same count on this disk as in total")?;
                count = u64_at(&eocd64, 32).unwrap_or(0);
                size = u64_at(&eocd64, 40).unwrap_or(0);
                offset = u64_at(&eocd64, 48).unwrap_or(0);
                end = at;
            }
        }
        if offset.checked_add(size) != Some(end) {
            return Err(Malformed("bytes before the archive or between its records"));
        }
        if size > MAX_DIRECTORY {
            return Err(Malformed("central directory too large"));
        }
        let directory = read_at(&mut file, offset, size)?;
        let mut reader = Self { file, members: Vec::new() };
        reader.read_directory(&directory, count, offset)?;
        Ok(reader)
    }

    fn read_directory(&mut self, directory: &[u8], count: u64, directory_at: u64) -> Result<(), ContainerError> {
        use ContainerError::Malformed;
        let mut spans: Vec<(u64, u64, usize)> = Vec::new();
        let mut at = 0_usize;
        while at < directory.len() {
            let short = Malformed("malformed central directory");
            let Some(record) = directory.get(at..at + 46).filter(|r| r.starts_with(b"PK\x01\x02")) else { return Err(short) };
            let word = |o: usize| u16_at(record, o).unwrap_or(0);
            let long = |o: usize| u32_at(record, o).unwrap_or(0);
            let (name_length, extra_length, comment_length) = (usize::from(word(28)), usize::from(word(30)), usize::from(word(32)));
            let next = at + 46 + name_length + extra_length + comment_length;
            let (Some(raw), Some(extra)) =
                (directory.get(at + 46..at + 46 + name_length), directory.get(at + 46 + name_length..at + 46 + name_length + extra_length))
            else {
                return Err(short);
            };
            if next > directory.len() {
                return Err(short);
            }
            let here = directory_at + at as u64;
            let raw_sizes = (long(20), long(24), long(42));
            expect(comment_length == 0, here + 32, "no comment on a member")?;
            expect(word(4) >> 8 == 3, here + 5, "host 3 (Unix)")?;
            expect(word(8) & !0x800 == 0, here + 8, "no flag but UTF-8 names (no encryption, no data descriptor)")?;
            expect(word(34) == 0, here + 34, "disk number 0")?;
            let wanted = [raw_sizes.0, raw_sizes.1, raw_sizes.2].iter().filter(|v| **v == u32::MAX).count() * 8;
            let extra_fits = if wanted == 0 {
                extra.is_empty()
            } else {
                extra.len() == wanted + 4 && u16_at(extra, 0) == Some(1) && u16_at(extra, 2).map(usize::from) == Some(wanted)
            };
            expect(extra_fits, here + 46 + name_length as u64, "no extra field but the ZIP64 values that are needed")?;
            let (mut size, mut compressed, mut header) = (u64::from(long(24)), u64::from(long(20)), u64::from(long(42)));
            zip64(extra, [&mut size, &mut compressed, &mut header]).ok_or(Malformed("malformed ZIP64 field"))?;

            let (flags, method, mode) = (word(8), word(10), long(38) >> 16);
            let local = read_at(&mut self.file, header, LOCAL).map_err(|_| Malformed("local header out of bounds"))?;
            let local_name = u64::from(u16_at(&local, 26).unwrap_or(0));
            let local_extra = u64::from(u16_at(&local, 28).unwrap_or(0));
            let agrees = local.starts_with(b"PK\x03\x04")
                && u16_at(&local, 8) == Some(method)
                && local_name == name_length as u64
                && read_at(&mut self.file, header + LOCAL, local_name).is_ok_and(|n| n == raw);
            if !agrees {
                return Err(ContainerError::Differs { at: header, expected: "a local header equal to the central one" });
            }
            for (local_at, length, central_at, expected) in [
                (6, 2, 8, "the flags of the central directory"),
                (10, 4, 12, "the time of the central directory"),
                (14, 4, 16, "the CRC-32 of the central directory"),
            ] {
                expect(
                    local.get(local_at..local_at + length) == record.get(central_at..central_at + length),
                    header + local_at as u64,
                    expected,
                )?;
            }
            if local_extra == 0 {
                expect(u32_at(&local, 18).map(u64::from) == Some(compressed), header + 18, "the compressed size of the central directory")?;
                expect(u32_at(&local, 22).map(u64::from) == Some(size), header + 22, "the size of the central directory")?;
            } else {
                // What the writer makes of a large member: both sizes in one ZIP64 field (APPNOTE §4.5.3).
                let field_at = header + LOCAL + local_name;
                expect(local_extra == 20, header + 28, "no extra field but one ZIP64 field with both sizes")?;
                expect(
                    u32_at(&local, 18) == Some(u32::MAX) && u32_at(&local, 22) == Some(u32::MAX),
                    header + 18,
                    "0xFFFFFFFF, beside a ZIP64 field",
                )?;
                let field = read_at(&mut self.file, field_at, 20)?;
                let equal =
                    u32_at(&field, 0) == Some(0x0010_0001) && u64_at(&field, 4) == Some(size) && u64_at(&field, 12) == Some(compressed);
                expect(equal, field_at, "a ZIP64 field with the sizes of the central directory")?;
            }
            let data = header + LOCAL + local_name + local_extra;
            let data_end = data.checked_add(compressed).filter(|e| *e <= directory_at).ok_or(Malformed("a member out of bounds"))?;
            spans.push((header, data_end, self.members.len()));

            let utf8 = std::str::from_utf8(raw);
            self.members.push(Member {
                name: String::from_utf8_lossy(raw).into_owned(),
                name_is_utf8: utf8.is_ok_and(|n| n.is_ascii() || flags & 0x800 != 0),
                size,
                // The type nibble is 0 where the maker left it out.
                special: !matches!(mode >> 12, 0 | 0o10 | 0o4),
                method,
                encrypted: flags & 0x41 != 0,
                crc: long(16),
                compressed,
                data,
            });
            at = next;
        }
        if self.members.len() as u64 != count {
            return Err(Malformed("the directory does not hold as many members as it says"));
        }
        let in_order = spans.clone();
        spans.sort_unstable();
        for pair in spans.windows(2) {
            if let [(_, end, _), (start, _, index)] = pair
                && start < end
            {
                return Err(ContainerError::Overlap(self.members.get(*index).map(|m| m.name.clone()).unwrap_or_default()));
            }
        }
        let mut next = 0;
        for (start, end, _) in in_order {
            expect(start == next, next, "the local header of the next member of the central directory")?;
            next = end;
        }
        expect(next == directory_at, next, "the central directory")?;
        Ok(())
    }

    /// Gives the member's bytes to `sink`, piece by piece, never more than it declares; an error may come after
    /// some pieces were given.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn read(&mut self, index: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), MemberError> {
        let Some(member) = self.members.get(index).cloned() else { return Err(MemberError::Lies("no such member")) };
        if member.encrypted {
            return Err(MemberError::Unsupported("encrypted"));
        }
        self.file.seek(SeekFrom::Start(member.data))?;
        let raw = (&mut self.file).take(member.compressed);
        let mut content = match member.method {
            0 => Content::Stored(raw),
            8 => Content::Deflated(DeflateDecoder::new(raw)),
            _ => return Err(MemberError::Unsupported("compression method other than store and deflate")),
        };
        let mut crc = crc32fast::Hasher::new();
        let mut seen = 0_u64;
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if member.method == 8 => return Err(MemberError::Lies("damaged compressed data")),
                Err(e) => return Err(e.into()),
            };
            seen += n as u64;
            if seen > member.size {
                return Err(MemberError::Lies("larger than declared"));
            }
            crc.update(&buffer[..n]);
            sink(&buffer[..n]);
        }
        if seen != member.size {
            return Err(MemberError::Lies("smaller than declared"));
        }
        if let Content::Deflated(decoder) = &content
            && decoder.total_in() != member.compressed
        {
            return Err(MemberError::Lies("bytes after the end of the compressed data"));
        }
        if crc.finalize() != member.crc {
            return Err(MemberError::Lies("CRC-32 differs"));
        }
        Ok(())
    }
}

/// A member's bytes, as its method stores them.
enum Content<R> {
    Stored(R),
    Deflated(DeflateDecoder<R>),
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(raw) => raw.read(buffer),
            Self::Deflated(decoder) => decoder.read(buffer),
        }
    }
}

fn expect(holds: bool, at: u64, expected: &'static str) -> Result<(), ContainerError> {
    if holds { Ok(()) } else { Err(ContainerError::Differs { at, expected }) }
}

/// Replaces the 32-bit fields that say « see the ZIP64 extra » (§4.5.3); the extra holds only those, in this order.
fn zip64(extra: &[u8], fields: [&mut u64; 3]) -> Option<()> {
    if fields.iter().all(|f| **f != 0xFFFF_FFFF) {
        return Some(());
    }
    let mut rest = extra;
    while rest.len() >= 4 {
        let (id, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let body = rest.get(4..4 + length)?;
        if id == 1 {
            let mut at = 0;
            for field in fields {
                if *field == 0xFFFF_FFFF {
                    *field = u64_at(body, at)?;
                    at += 8;
                }
            }
            return Some(());
        }
        rest = &rest[4 + length..];
    }
    // 0xFFFFFFFF without the extra field is what it says.
    Some(())
}

fn read_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*b.get(at..)?.first_chunk()?))
}
fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*b.get(at..)?.first_chunk()?))
}
fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*b.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, method) in [("a.txt", zip::CompressionMethod::Stored), ("é/b.txt", zip::CompressionMethod::Deflated)] {
            zip.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
            zip.write_all(&b"some text, some text, some text".repeat(20)).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut zip = ZipReader::open(Cursor::new(bytes)).map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        for i in 0..zip.members.len() {
            let mut content = Vec::new();
            zip.read(i, &mut |piece| content.extend_from_slice(piece)).map_err(|e| e.to_string())?;
            all.push((zip.members[i].name.clone(), content));
        }
        Ok(all)
    }

    #[test]
    fn stored_and_deflated_members_read_back() {
        let all = read_all(&sample()).unwrap();
        assert_eq!(all.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["a.txt", "é/b.txt"]);
        assert!(all.iter().all(|(_, c)| c.len() == 31 * 20));
    }

    #[test]
    fn bytes_before_or_after_are_refused() {
        let mut before = b"#!/bin/sh\n".to_vec();
        before.extend(sample());
        assert!(read_all(&before).is_err());
        let mut after = sample();
        after.extend(b"more");
        assert!(read_all(&after).is_err());
    }

    /// A program that reads local headers must see what the directory says: the first field that differs is named.
    #[test]
    fn a_local_header_that_disagrees_is_refused_at_its_offset() {
        for (at, expected) in [(6, 6), (10, 10), (14, 14), (18, 18), (22, 22)] {
            let mut bytes = sample();
            bytes[at] ^= 1;
            let error = ZipReader::open(Cursor::new(&bytes)).map(|_| ()).unwrap_err();
            assert!(matches!(error, ContainerError::Differs { at, .. } if at == expected), "{at}: {error}");
        }
    }

    #[test]
    fn a_count_on_this_disk_that_differs_is_refused() {
        let mut bytes = sample();
        let eocd = bytes.len() - EOCD;
        bytes[eocd + 8] ^= 1;
        let error = ZipReader::open(Cursor::new(&bytes)).map(|_| ()).unwrap_err();
        assert!(matches!(error, ContainerError::Differs { at, .. } if at == eocd as u64 + 8), "{error}");
    }

    #[test]
    fn a_member_that_inflates_beyond_its_declared_size_is_stopped() {
        let mut bytes = sample();
        // The size in the last member's headers, central and local, so that they agree.
        for (signature, field) in [(b"PK\x01\x02", 24), (b"PK\x03\x04", 22)] {
            let at = bytes.windows(4).rposition(|w| w == signature).unwrap() + field;
            bytes[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
        }
        assert_eq!(read_all(&bytes).unwrap_err(), "larger than declared");
    }

    #[test]
    fn two_members_over_the_same_bytes_are_refused() {
        let mut bytes = sample();
        let records: Vec<usize> = bytes.windows(4).enumerate().filter(|(_, w)| *w == b"PK\x01\x02").map(|(i, _)| i).collect();
        let first = bytes[records[0]..records[1]].to_vec();
        let end = bytes.windows(4).rposition(|w| w == b"PK\x05\x06").unwrap();
        bytes.splice(end..end, first.iter().copied());
        let eocd = end + first.len();
        let size = u32_at(&bytes, eocd + 12).unwrap() + first.len() as u32;
        bytes[eocd + 8..eocd + 10].copy_from_slice(&3_u16.to_le_bytes());
        bytes[eocd + 10..eocd + 12].copy_from_slice(&3_u16.to_le_bytes());
        bytes[eocd + 12..eocd + 16].copy_from_slice(&size.to_le_bytes());
        assert!(matches!(ZipReader::open(Cursor::new(&bytes)), Err(ContainerError::Overlap(name)) if name == "a.txt"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn no_mutation_makes_it_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = sample();
            let i = at.index(bytes.len());
            bytes[i] = value;
            let _ = read_all(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = read_all(&bytes);
        }
    }
}
