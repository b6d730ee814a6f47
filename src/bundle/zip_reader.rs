//! A strict ZIP reader for [`super::verify()`]: the container of a bundle comes from anywhere.
//!
//! Goals:
//! 1. **One reading only.** A ZIP describes each member twice and lets writers put bytes between records, so that two
//!    programs can unpack two contents. Of each member this reader takes name, method, CRC-32 and sizes from the
//!    central directory, builds from them the exact headers that [`super::write`] writes, and compares every byte.
//!    Records follow one another from byte 0 to the end of the file: there is no byte that nothing accounts for.
//! 2. **Bounded.** The directory by [`MAX_DIRECTORY`] and [`MAX_MEMBERS`], what a member inflates to by the size that
//!    it declares.
//!
//! Bundles hold stored members only. Deflated ones are read because earlier versions deflated tag files and text.
//!
//! Source: APPNOTE.TXT 6.3.10 §4.3 and §4.5.3.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::{Decompress, FlushDecompress, Status};

/// Largest central directory that is read, bytes. 239 proofs take 60 kB.
pub const MAX_DIRECTORY: u64 = 64 * 1024 * 1024;
/// Most members that are read.
pub const MAX_MEMBERS: usize = 500_000;
/// From this size, bytes, a member's sizes stand in a ZIP64 field. Lower than 4 GiB because the writer decides before
/// it knows how far deflating makes a member grow.
pub const ZIP64_FROM: u64 = 0xFF00_0000;

const END: u64 = 22;
const END64: u64 = 56 + 20;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Why a container is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file does not end with the end record of a ZIP.
    #[error("byte {at}: expected the end of central directory, without a comment, as the last 22 bytes")]
    NotAZip {
        /// Where the record would begin.
        at: u64,
    },
    /// A byte is not the one that the single layout asks for.
    #[error("byte {at}: expected {expected}")]
    Differs {
        /// Offset in the file of the first byte that differs.
        at: u64,
        /// What stands there in a bundle.
        expected: &'static str,
    },
    /// Beyond [`MAX_DIRECTORY`] or [`MAX_MEMBERS`].
    #[error("byte {at}: the central directory is too large to be read")]
    TooLarge {
        /// Where the directory begins.
        at: u64,
    },
}

/// Why a member could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Inflates to another size than declared, or another checksum, or not at all.
    #[error("byte {at}: {what}")]
    Lies {
        /// Offset in the container: of the bytes that are too many, otherwise of the member's first byte.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// One member, as its headers describe it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Name; of a folder, with a slash at the end.
    pub name: String,
    /// Size, bytes, inflated.
    pub size: u64,
    /// Offset of the local header.
    pub header: u64,
    method: u16,
    crc: u32,
    compressed: u64,
    data: u64,
}

/// A ZIP container.
pub struct ZipReader<R> {
    file: R,
    /// Members in the order of their bytes, which is the order of the directory. Names may repeat.
    pub members: Vec<Member>,
}

/// Bytes of one record together with the names of its fields, for the message about the first byte that differs.
struct Record {
    bytes: Vec<u8>,
    fields: Vec<(usize, &'static str)>,
}

impl Record {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(128), fields: Vec::with_capacity(20) }
    }

    fn put(mut self, field: &'static str, bytes: &[u8]) -> Self {
        self.fields.push((self.bytes.len(), field));
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Whether `found`, which stands at `at`, is this record; bytes after it are not looked at.
    fn compare(&self, found: &[u8], at: u64) -> Result<(), ContainerError> {
        let differs = self.bytes.iter().enumerate().find(|(i, byte)| found.get(*i) != Some(byte));
        let Some((i, _)) = differs else { return Ok(()) };
        let expected = self.fields.iter().rev().find(|(start, _)| *start <= i).map_or("a record", |(_, field)| field);
        Err(ContainerError::Differs { at: at + i as u64, expected })
    }
}

/// What is free in the headers of a member; every other byte of them follows from it.
struct Headers<'a> {
    name: &'a [u8],
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    /// Offset of the local header.
    at: u64,
}

impl Headers<'_> {
    fn is_folder(&self) -> bool {
        self.name.ends_with(b"/")
    }

    fn sizes_in_zip64(&self) -> bool {
        self.size >= ZIP64_FROM
    }

    /// §4.4.3.2: 4.5 for ZIP64 sizes, 2.0 for deflate and folders, else 1.0.
    fn version(&self) -> u16 {
        match (self.sizes_in_zip64(), self.method == DEFLATED || self.is_folder()) {
            (true, _) => 45,
            (false, true) => 20,
            (false, false) => 10,
        }
    }

    /// From the version to the sizes, the two headers hold the same fields (§4.3.7 and §4.3.12).
    fn common(&self, record: Record) -> Record {
        let narrow = |size: u64| if self.sizes_in_zip64() { u32::MAX } else { u32::try_from(size).unwrap_or(u32::MAX) };
        let flags: u16 = if self.name.is_ascii() { 0 } else { 0x800 };
        record
            .put("the version needed that follows from the method", &self.version().to_le_bytes())
            .put("no flag but that of a UTF-8 name", &flags.to_le_bytes())
            .put("method 0 (stored) or 8 (deflated), the same in both headers", &self.method.to_le_bytes())
            .put("the time 00:00", &[0, 0])
            .put("the date 1980-01-01", &[0x21, 0])
            .put("one CRC-32 in both headers", &self.crc.to_le_bytes())
            .put("one compressed size in both headers, the true one", &narrow(self.compressed).to_le_bytes())
            .put("one size in both headers, the true one", &narrow(self.size).to_le_bytes())
            .put("one length of the name in both headers", &u16::try_from(self.name.len()).unwrap_or(u16::MAX).to_le_bytes())
    }

    fn local(&self) -> Record {
        let record = self.common(Record::new().put("the local header of the next member of the directory", b"PK\x03\x04"));
        let extra: u16 = if self.sizes_in_zip64() { 20 } else { 0 };
        let record = record
            .put("no extra field but the ZIP64 sizes of a large member", &extra.to_le_bytes())
            .put("one name in both headers", self.name);
        if self.sizes_in_zip64() { self.zip64(record, false) } else { record }
    }

    fn central(&self) -> Record {
        let far = self.at >= u64::from(u32::MAX);
        let extra = 16 * u16::from(self.sizes_in_zip64()) + 8 * u16::from(far);
        let extra = if extra == 0 { 0 } else { extra + 4 };
        // A regular file that all read and the owner writes, or a folder that all enter.
        let mode: u32 = if self.is_folder() { 0o040_755 } else { 0o100_644 };
        let offset = if far { u32::MAX } else { u32::try_from(self.at).unwrap_or(u32::MAX) };
        let record = Record::new()
            .put("a record of the central directory", b"PK\x01\x02")
            .put("the version made by that follows from the method", &self.version().to_le_bytes()[..1])
            .put("host 3 (Unix)", &[3]);
        let record = self
            .common(record)
            .put("no extra field but the ZIP64 values of a large or far member", &extra.to_le_bytes())
            .put("no comment on a member", &[0, 0])
            .put("disk number 0", &[0, 0])
            .put("internal attributes 0", &[0, 0])
            .put("the attributes of a plain file or folder", &(mode << 16).to_le_bytes())
            .put("the offset where the member before ends", &offset.to_le_bytes())
            .put("the name", self.name);
        if extra == 0 { record } else { self.zip64(record, far) }
    }

    /// §4.5.3: the values whose 32-bit fields hold 0xFFFFFFFF, in this order.
    fn zip64(&self, record: Record, far: bool) -> Record {
        let mut body = Vec::with_capacity(24);
        if self.sizes_in_zip64() {
            body.extend_from_slice(&self.size.to_le_bytes());
            body.extend_from_slice(&self.compressed.to_le_bytes());
        }
        if far {
            body.extend_from_slice(&self.at.to_le_bytes());
        }
        record
            .put("a ZIP64 field", &[1, 0])
            .put("a ZIP64 field of the values that are needed", &u16::try_from(body.len()).unwrap_or(u16::MAX).to_le_bytes())
            .put("true values in the ZIP64 field", &body)
    }
}

impl<R: Read + Seek> ZipReader<R> {
    /// Reads the directory and every local header.
    ///
    /// # Errors
    /// See [`ContainerError`].
    pub fn open(mut file: R) -> Result<Self, ContainerError> {
        let length = file.seek(SeekFrom::End(0))?;
        let end = length.saturating_sub(END);
        let last = read_at(&mut file, end, length - end)?;
        let (Some(count), Some(size), Some(offset), true) =
            (u16_at(&last, 10), u32_at(&last, 12), u32_at(&last, 16), last.starts_with(b"PK\x05\x06"))
        else {
            return Err(ContainerError::NotAZip { at: end });
        };
        let (mut size, mut offset, mut directory_end) = (u64::from(size), u64::from(offset), end);
        if (count == u16::MAX || size == u64::from(u32::MAX) || offset == u64::from(u32::MAX))
            && let Some(end64) = end.checked_sub(END64)
        {
            // Whether they are needed and say the truth is seen when the whole tail is compared.
            let record = read_at(&mut file, end64, END64)?;
            if let (true, Some(size64), Some(offset64)) = (record.starts_with(b"PK\x06\x06"), u64_at(&record, 40), u64_at(&record, 48)) {
                (size, offset, directory_end) = (size64, offset64, end64);
            }
        }
        if offset.checked_add(size) != Some(directory_end) {
            return Err(ContainerError::Differs { at: end + 12, expected: "a directory that ends where the end record begins" });
        }
        if size > MAX_DIRECTORY {
            return Err(ContainerError::TooLarge { at: offset });
        }
        let directory = read_at(&mut file, offset, size)?;
        let mut reader = Self { file, members: Vec::new() };
        let version = reader.read_directory(&directory, offset)?;
        let tail = read_at(&mut reader.file, directory_end, length - directory_end)?;
        end_of_directory(reader.members.len() as u64, size, offset, version).compare(&tail, directory_end)?;
        Ok(reader)
    }

    /// Gives the highest version that a member needs.
    fn read_directory(&mut self, directory: &[u8], directory_at: u64) -> Result<u16, ContainerError> {
        let (mut central_at, mut local_at, mut version) = (0_usize, 0_u64, 10);
        while central_at < directory.len() {
            let rest = directory.get(central_at..).unwrap_or_default();
            let here = directory_at + central_at as u64;
            if self.members.len() >= MAX_MEMBERS {
                return Err(ContainerError::TooLarge { at: directory_at });
            }
            let headers = parse_central(rest, local_at)
                .ok_or(ContainerError::Differs { at: here, expected: "a whole record of the central directory" })?;
            let central = headers.central();
            central.compare(rest, here)?;
            let local = headers.local();
            let data = local_at + local.bytes.len() as u64;
            let Some(next) = data.checked_add(headers.compressed).filter(|next| *next <= directory_at) else {
                return Err(ContainerError::Differs { at: here + 20, expected: "a member that ends before the directory" });
            };
            local.compare(&read_at(&mut self.file, local_at, local.bytes.len() as u64)?, local_at)?;
            let name = std::str::from_utf8(headers.name)
                .map_err(|e| ContainerError::Differs { at: here + 46 + e.valid_up_to() as u64, expected: "a name in UTF-8" })?;
            version = version.max(headers.version());
            self.members.push(Member {
                name: name.to_owned(),
                size: headers.size,
                header: local_at,
                method: headers.method,
                crc: headers.crc,
                compressed: headers.compressed,
                data,
            });
            central_at += central.bytes.len();
            local_at = next;
        }
        if local_at != directory_at {
            return Err(ContainerError::Differs { at: local_at, expected: "the central directory, after the last member that it names" });
        }
        Ok(version)
    }

    /// Gives the member's bytes to `sink`, piece by piece, never more than it declares; an error may come after
    /// some pieces were given.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn read(&mut self, index: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), MemberError> {
        let Some(member) = self.members.get(index).cloned() else { return Err(io::Error::from(io::ErrorKind::NotFound).into()) };
        self.file.seek(SeekFrom::Start(member.data))?;
        let mut raw = (&mut self.file).take(member.compressed);
        let mut crc = crc32fast::Hasher::new();
        let mut checked = |piece: &[u8]| {
            crc.update(piece);
            sink(piece);
        };
        if member.method == DEFLATED {
            inflate(&mut raw, &member, &mut checked)?;
        } else {
            let mut buffer = vec![0; BUFFER];
            loop {
                match raw.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => checked(buffer.get(..n).unwrap_or_default()),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e.into()),
                }
            }
            if raw.limit() != 0 {
                return Err(MemberError::Lies { at: member.data, what: "the file ends inside this member" });
            }
        }
        if crc.finalize() != member.crc {
            return Err(MemberError::Lies { at: member.data, what: "the CRC-32 of these bytes differs from the declared one" });
        }
        Ok(())
    }
}

const BUFFER: usize = 128 * 1024;

/// A deflate stream whose final block ends with the last byte of the member, and that inflates to its size.
fn inflate(raw: &mut impl Read, member: &Member, sink: &mut dyn FnMut(&[u8])) -> Result<(), MemberError> {
    let lies = |at: u64, what| Err(MemberError::Lies { at: member.data + at, what });
    let mut decoder = Decompress::new(false);
    let (mut input, mut output) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let filled = match raw.read(&mut input) {
            Ok(0) => return lies(0, "the compressed data has no final block"),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        let mut rest = input.get(..filled).unwrap_or_default();
        loop {
            let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
            let Ok(status) = decoder.decompress(rest, &mut output, FlushDecompress::None) else {
                return lies(decoder.total_in(), "damaged compressed data");
            };
            // Both are at most the lengths of the buffers.
            let consumed = usize::try_from(decoder.total_in() - before_in).unwrap_or(usize::MAX);
            let produced = usize::try_from(decoder.total_out() - before_out).unwrap_or(usize::MAX);
            if decoder.total_out() > member.size {
                return lies(decoder.total_in(), "the member inflates to more than it declares");
            }
            sink(output.get(..produced).unwrap_or_default());
            rest = rest.get(consumed..).unwrap_or_default();
            if status == Status::StreamEnd {
                return match (decoder.total_in() == member.compressed, decoder.total_out() == member.size) {
                    (false, _) => lies(decoder.total_in(), "bytes after the end of the compressed data"),
                    (true, false) => lies(0, "the member inflates to less than it declares"),
                    (true, true) => Ok(()),
                };
            }
            // A full output buffer may leave bytes inside the decoder; otherwise it waits for input.
            if consumed == 0 && produced == 0 || rest.is_empty() && produced < output.len() {
                break;
            }
        }
    }
}

/// What is free in a record of the central directory; `None` where it is cut short. The extra field counts only where
/// the sizes ask for it, and whatever else stands there is found by comparing the record.
fn parse_central(record: &[u8], at: u64) -> Option<Headers<'_>> {
    let name = record.get(46..)?.get(..usize::from(u16_at(record, 28)?))?;
    let (mut compressed, mut size) = (u64::from(u32_at(record, 20)?), u64::from(u32_at(record, 24)?));
    if size == u64::from(u32::MAX) && compressed == u64::from(u32::MAX) {
        let extra = record.get(46 + name.len()..)?;
        (size, compressed) = (u64_at(extra, 4)?, u64_at(extra, 12)?);
    }
    let mut crc = u32_at(record, 16)?;
    // Any other method is found at its place.
    let mut method = if u16_at(record, 10)? == DEFLATED { DEFLATED } else { STORED };
    if name.ends_with(b"/") {
        (method, crc, size) = (STORED, 0, 0);
    }
    if method == STORED {
        compressed = size;
    }
    Some(Headers { name, method, crc, compressed, size, at })
}

/// §4.3.14 to §4.3.16, with the ZIP64 records only where a value does not fit.
fn end_of_directory(count: u64, size: u64, offset: u64, version: u16) -> Record {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let wide = count > u64::from(u16::MAX) || size.max(offset) > u64::from(u32::MAX);
    let mut record = Record::new();
    if wide {
        record = record
            .put("a ZIP64 end of central directory", b"PK\x06\x06")
            .put("44 bytes of it", &44_u64.to_le_bytes())
            .put("the version made by that the members need", &version.to_le_bytes())
            .put("the version that the members need", &version.to_le_bytes())
            .put("disk number 0", &[0; 8])
            .put("the count of members, on this disk", &count.to_le_bytes())
            .put("the count of members", &count.to_le_bytes())
            .put("the size of the directory", &size.to_le_bytes())
            .put("the offset of the directory", &offset.to_le_bytes())
            .put("the locator of the ZIP64 end", b"PK\x06\x07")
            .put("disk number 0", &[0; 4])
            .put("the offset of the ZIP64 end", &(offset + size).to_le_bytes())
            .put("one disk", &1_u32.to_le_bytes());
    }
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    record
        .put("the end of central directory, with a ZIP64 one before it only where needed", b"PK\x05\x06")
        .put("disk number 0", &[0; 4])
        .put("the count of members, on this disk", &count.to_le_bytes())
        .put("the count of members", &count.to_le_bytes())
        .put("the size of the directory", &(if wide { u32::MAX } else { narrow(size) }).to_le_bytes())
        .put("the offset of the directory", &narrow(offset).to_le_bytes())
        .put("no archive comment", &[0, 0])
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

    fn options(method: zip::CompressionMethod) -> SimpleFileOptions {
        SimpleFileOptions::default().compression_method(method).system(zip::System::Unix).last_modified_time(zip::DateTime::default())
    }

    fn sample() -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, method) in [("a.txt", zip::CompressionMethod::Stored), ("é/b.txt", zip::CompressionMethod::Deflated)] {
            zip.start_file(name, options(method)).unwrap();
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
        let eocd = bytes.len() - END as usize;
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
        let error = read_all(&bytes).unwrap_err();
        assert!(error.ends_with("the member inflates to more than it declares"), "{error}");
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
        bytes[eocd + 8] = 3;
        bytes[eocd + 10] = 3;
        bytes[eocd + 12..eocd + 16].copy_from_slice(&size.to_le_bytes());
        // The second record of `a.txt` stands where the directory was closed, and points back to byte 0.
        let error = ZipReader::open(Cursor::new(&bytes)).map(|_| ()).unwrap_err();
        assert!(matches!(error, ContainerError::Differs { at, .. } if at == end as u64 + 42), "{error}");
    }

    #[test]
    fn a_deflate_stream_must_end_with_its_final_block_at_the_last_byte() {
        let text = b"some text, some text, some text".repeat(20);
        let mut deflated = Vec::new();
        flate2::read::DeflateEncoder::new(&text[..], flate2::Compression::default()).read_to_end(&mut deflated).unwrap();
        let member = |bytes: &[u8], size| Member {
            name: "a".into(),
            size,
            header: 0,
            method: DEFLATED,
            crc: 0,
            compressed: bytes.len() as u64,
            data: 31,
        };
        let inflated = |bytes: &[u8], size| {
            let mut seen = Vec::new();
            inflate(&mut &bytes[..], &member(bytes, size), &mut |piece| seen.extend_from_slice(piece))
                .map(|()| seen)
                .map_err(|e| e.to_string())
        };
        let size = text.len() as u64;
        assert_eq!(inflated(&deflated, size), Ok(text.clone()));
        let after = [deflated.as_slice(), b"hidden"].concat();
        let at = 31 + deflated.len();
        assert_eq!(inflated(&after, size), Err(format!("byte {at}: bytes after the end of the compressed data")));
        assert_eq!(inflated(&deflated[..deflated.len() - 1], size), Err("byte 31: the compressed data has no final block".into()));
        assert_eq!(inflated(&deflated, size + 1), Err("byte 31: the member inflates to less than it declares".into()));
        assert!(inflated(&deflated, size - 1).is_err_and(|e| e.ends_with("inflates to more than it declares")));
    }

    /// Large members cannot be written in a test of this length; their headers can, by the library that writes bundles.
    #[test]
    fn zip64_sizes_of_a_small_member_are_refused() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("a.txt", options(zip::CompressionMethod::Stored).large_file(true)).unwrap();
        zip.write_all(b"a").unwrap();
        let bytes = zip.finish().unwrap().into_inner();
        let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap() as u64;
        let error = ZipReader::open(Cursor::new(&bytes)).map(|_| ()).unwrap_err();
        assert!(matches!(error, ContainerError::Differs { at, .. } if at == directory + 4), "{error}");
    }

    #[test]
    fn more_members_than_sixteen_bits_count_need_the_zip64_end_and_fewer_refuse_it() {
        let many = |count: u32| {
            let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
            for i in 0..count {
                zip.start_file(format!("{i}"), options(zip::CompressionMethod::Stored)).unwrap();
            }
            zip.finish().unwrap().into_inner()
        };
        for count in [65_535, 65_536] {
            let zip = ZipReader::open(Cursor::new(many(count))).map_err(|e| e.to_string()).unwrap();
            assert_eq!(zip.members.len(), count as usize);
        }
        // The ZIP64 end of a larger archive, put before the end of a smaller one, with the truth in it.
        let mut bytes = many(2);
        let end = bytes.len() - END as usize;
        let (size, offset) = (u32_at(&bytes, end + 12).unwrap(), u32_at(&bytes, end + 16).unwrap());
        let mut tail = end_of_directory(65_536, u64::from(size), u64::from(offset), 10).bytes;
        tail.truncate(END64 as usize);
        for at in [24, 32] {
            tail[at..at + 8].copy_from_slice(&2_u64.to_le_bytes());
        }
        bytes[end + 12..end + 16].fill(0xFF);
        bytes.splice(end..end, tail);
        let error = ZipReader::open(Cursor::new(&bytes)).map(|_| ()).unwrap_err();
        assert!(matches!(error, ContainerError::Differs { at, .. } if at == end as u64 + 2), "{error}");
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
