//! The compression methods of ZIP members (APPNOTE 6.3.10 §4.4.5) that are read, each as a stream whose memory is bounded.
//!
//! Windows Explorer writes Deflate, and Deflate64 above 2 GB; 7-Zip offers BZIP2, LZMA and XZ besides, newer tools Zstandard.
//! What is packed with anything else stays unseen, and the caller says so.
//!
//! No decoder gets to decide how much memory it takes: a window that an archive declares is compared with [`MAX_WINDOW`] before
//! the first byte of it exists. None starts a thread or opens anything.

use std::io::Read as _;

use bzip2::bufread::BzDecoder;
use deflate64::InflaterManaged;
use flate2::bufread::DeflateDecoder;
use lzma_rust2::{Action, LzmaReader, Status, XzStream};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::contained;

/// §4.4.5: no compression.
pub const STORED: u16 = 0;
/// §4.4.5: deflate (RFC 1951).
pub const DEFLATED: u16 = 8;
/// §4.4.5: Deflate64, with a window of 64 KiB and matches as long.
pub const DEFLATE64: u16 = 9;
/// §4.4.5: BZIP2.
pub const BZIP2: u16 = 12;
/// §4.4.5, §5.8: LZMA.
pub const LZMA: u16 = 14;
/// §4.4.5: Zstandard (RFC 8878).
pub const ZSTANDARD: u16 = 93;
/// §4.4.5: a whole `.xz` stream.
pub const XZ: u16 = 95;

/// General-purpose bit 1 (§4.4.4) of an LZMA member: its stream ends with a marker, not with its size.
const LZMA_ENDS_WITH_MARKER: u16 = 1 << 1;

/// Bytes behind itself that a decoder may keep. What 7-Zip takes at its higher levels; the child has 512 MB of address space,
/// of which the file and the member that comes out take up to 192 MB each. A member that is smaller than the window its stream
/// declares needs only its own size.
pub const MAX_WINDOW: u64 = 64 * 1024 * 1024;
/// What the XZ decoder counts on top of its window.
const XZ_OWN_KIB: u32 = 1024;
/// The same for Zstandard, whose decoder holds its window twice over while that grows. More than any level but the `ultra` ones
/// takes (8 MiB, which RFC 8878 §3.1.1.1.2 asks of every decoder).
const MAX_WINDOW_ZSTANDARD: u64 = 16 * 1024 * 1024;
/// The last bytes of a Deflate64 stream are handed over one by one: its decoder reads ahead by up to three, and what is left over
/// would be counted as used.
const DEFLATE64_LOOKAHEAD: usize = 4;

/// Whether a method is one that the built-in tools of today's systems do not all open. The Explorer of Windows, where files are
/// verified, opens [`STORED`], [`DEFLATED`] and [`DEFLATE64`]; the last it also writes by itself.
pub const fn is_uncommon(method: u16) -> bool {
    matches!(method, BZIP2 | LZMA | ZSTANDARD | XZ)
}

/// Why a stream gives no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No method that is read, or a variant of one that is not: a filter of XZ, a dictionary of Zstandard that is not at hand.
    Unsupported,
    /// Its window would be larger than [`MAX_WINDOW`].
    Window {
        /// Declared, bytes.
        bytes: u64,
    },
    /// Malformed or cut.
    Damaged,
}

/// A compressed member on its way out.
pub struct Unpacker<'a>(Decoder<'a>);

enum Decoder<'a> {
    Deflate { decoder: DeflateDecoder<&'a [u8]>, packed: u64 },
    Deflate64 { decoder: Box<InflaterManaged>, rest: &'a [u8] },
    Bzip2(BzDecoder<&'a [u8]>),
    Lzma(Box<LzmaReader<&'a [u8]>>),
    Zstandard { decoder: Box<FrameDecoder>, rest: &'a [u8], frames: u64 },
    Xz { decoder: Box<XzStream>, rest: &'a [u8], ended: bool },
}

impl<'a> Unpacker<'a> {
    /// Starts on the packed bytes of a member, with its general-purpose flags and its declared size.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] for a method that is not read, or for [`STORED`], where there is nothing to do; the other faults
    /// where the head of the stream tells already.
    pub fn new(raw: &'a [u8], method: u16, flags: u16, declared: u64) -> Result<Self, Fault> {
        Ok(Self(match method {
            DEFLATED => Decoder::Deflate { decoder: DeflateDecoder::new(raw), packed: raw.len() as u64 },
            DEFLATE64 => Decoder::Deflate64 { decoder: Box::new(InflaterManaged::new()), rest: raw },
            BZIP2 => Decoder::Bzip2(BzDecoder::new(raw)),
            LZMA => Decoder::Lzma(Box::new(contained(|| lzma(raw, flags, declared)).unwrap_or(Err(Fault::Damaged))?)),
            ZSTANDARD => {
                let mut decoder = Box::new(FrameDecoder::new());
                decoder.set_max_window_size(MAX_WINDOW_ZSTANDARD);
                Decoder::Zstandard { decoder, rest: raw, frames: 0 }
            }
            XZ => {
                let limit = u32::try_from(MAX_WINDOW / 1024).unwrap_or(0) + XZ_OWN_KIB;
                Decoder::Xz { decoder: Box::new(XzStream::new_mem_limit(false, limit)), rest: raw, ended: false }
            }
            _ => return Err(Fault::Unsupported),
        }))
    }

    /// Unpacks into `chunk`; how many bytes came out, which may be none for a while, or `None` at the end of the stream. The work
    /// of one call is bounded by the size of `chunk` and one block of the format.
    ///
    /// # Errors
    /// [`Fault`], after which nothing more comes.
    pub fn read(&mut self, chunk: &mut [u8]) -> Result<Option<usize>, Fault> {
        contained(|| self.0.read(chunk)).unwrap_or(Err(Fault::Damaged))
    }

    /// Units of work that a byte takes beyond what [`crate::inspect::Budget::inflate`] counts: by how much its decoder is slower
    /// than inflate.
    pub const fn units_per_byte(&self) -> u64 {
        match self.0 {
            Decoder::Deflate { .. } | Decoder::Zstandard { .. } | Decoder::Deflate64 { .. } => 4,
            Decoder::Lzma(_) | Decoder::Xz { .. } => 16,
            Decoder::Bzip2(_) => 32,
        }
    }

    /// Units of work of a packed byte, on top of those of what comes out of it: data that does not shrink costs these methods
    /// most, as every literal is coded bit by bit.
    pub const fn units_per_packed_byte(&self) -> u64 {
        match self.0 {
            Decoder::Lzma(_) | Decoder::Xz { .. } => 80,
            Decoder::Bzip2(_) => 40,
            Decoder::Deflate { .. } | Decoder::Zstandard { .. } | Decoder::Deflate64 { .. } => 4,
        }
    }

    /// Packed bytes that stand after the end of the stream.
    pub fn unused(self) -> u64 {
        match self.0 {
            Decoder::Deflate { decoder, packed } => packed.saturating_sub(decoder.total_in()),
            Decoder::Bzip2(decoder) => decoder.into_inner().len() as u64,
            Decoder::Lzma(decoder) => {
                let (rest, read_ahead) = decoder.into_parts();
                (rest.len() + read_ahead.len()) as u64
            }
            Decoder::Deflate64 { rest, .. } | Decoder::Zstandard { rest, .. } | Decoder::Xz { rest, .. } => rest.len() as u64,
        }
    }
}

impl Decoder<'_> {
    fn read(&mut self, chunk: &mut [u8]) -> Result<Option<usize>, Fault> {
        match self {
            Self::Deflate { decoder, .. } => some(decoder.read(chunk)),
            Self::Bzip2(decoder) => some(decoder.read(chunk)),
            Self::Lzma(decoder) => some(decoder.read(chunk)),
            Self::Deflate64 { decoder, rest } => deflate64(decoder, rest, chunk),
            Self::Zstandard { decoder, rest, frames } => zstandard(decoder, rest, frames, chunk),
            Self::Xz { decoder, rest, ended } => xz(decoder, rest, ended, chunk),
        }
    }
}

fn some(read: std::io::Result<usize>) -> Result<Option<usize>, Fault> {
    match read {
        Ok(0) => Ok(None),
        Ok(n) => Ok(Some(n)),
        Err(_) => Err(Fault::Damaged),
    }
}

fn deflate64(decoder: &mut InflaterManaged, rest: &mut &[u8], chunk: &mut [u8]) -> Result<Option<usize>, Fault> {
    loop {
        let length = if rest.len() > DEFLATE64_LOOKAHEAD { rest.len() - DEFLATE64_LOOKAHEAD } else { rest.len().min(1) };
        let done = decoder.inflate(rest.get(..length).unwrap_or(&[]), chunk);
        *rest = rest.get(done.bytes_consumed..).unwrap_or(&[]);
        if done.data_error {
            return Err(Fault::Damaged);
        }
        if done.bytes_written > 0 {
            return Ok(Some(done.bytes_written));
        }
        if decoder.finished() {
            return Ok(None);
        }
        if done.bytes_consumed == 0 {
            return Err(Fault::Damaged);
        }
    }
}

/// §5.8.8: two bytes of version, two of length, then the five of `.lzma`: properties and dictionary.
fn lzma(raw: &[u8], flags: u16, declared: u64) -> Result<LzmaReader<&[u8]>, Fault> {
    let [_, _, 5, 0, properties, d0, d1, d2, d3, stream @ ..] = raw else { return Err(Fault::Damaged) };
    let dictionary = u64::from(u32::from_le_bytes([*d0, *d1, *d2, *d3]));
    if dictionary.min(declared) > MAX_WINDOW {
        return Err(Fault::Window { bytes: dictionary });
    }
    // To the decoder, a size above the half of 64 bits is none.
    let size = if flags & LZMA_ENDS_WITH_MARKER != 0 { u64::MAX } else { declared.min(u64::MAX / 2) };
    let dictionary = u32::try_from(dictionary.min(MAX_WINDOW)).unwrap_or(0);
    let mut reader = LzmaReader::new_with_props(stream, size, *properties, dictionary, None).map_err(|_| Fault::Damaged)?;
    reader.set_relaxed_end_condition(false);
    Ok(reader)
}

/// Frames follow one another, as parallel writers make them. Skippable ones hold what no content is: they are left over.
fn zstandard(decoder: &mut FrameDecoder, rest: &mut &[u8], frames: &mut u64, chunk: &mut [u8]) -> Result<Option<usize>, Fault> {
    let fault = |error: FrameDecoderError| match error {
        FrameDecoderError::WindowSizeTooBig { requested, .. } => Fault::Window { bytes: requested },
        FrameDecoderError::DictNotProvided { .. } => Fault::Unsupported,
        _ => Fault::Damaged,
    };
    if decoder.can_collect() == 0 {
        if !decoder.is_finished() {
            decoder.decode_blocks(&mut *rest, BlockDecodingStrategy::UptoBlocks(1)).map_err(fault)?;
        } else if *frames == 0 || rest.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
            decoder.reset(&mut *rest).map_err(fault)?;
            *frames += 1;
        } else {
            return Ok(None);
        }
    }
    decoder.read(chunk).map(Some).map_err(|_| Fault::Damaged)
}

fn xz(decoder: &mut XzStream, rest: &mut &[u8], ended: &mut bool, chunk: &mut [u8]) -> Result<Option<usize>, Fault> {
    if *ended {
        return Ok(None);
    }
    let done = decoder.process(rest, chunk, Action::Finish).map_err(|error| match error.kind() {
        // Its window is too large; or there is no room for it, beside the file and what has come out of it.
        std::io::ErrorKind::OutOfMemory => match u64::from(decoder.memory_usage().unwrap_or(0)) * 1024 {
            bytes if bytes > MAX_WINDOW => Fault::Window { bytes },
            _ => Fault::Unsupported,
        },
        std::io::ErrorKind::Unsupported => Fault::Unsupported,
        _ => Fault::Damaged,
    })?;
    *rest = rest.get(done.bytes_consumed..).unwrap_or(&[]);
    *ended = done.status == Status::StreamEnd;
    if done.bytes_produced == 0 && done.bytes_consumed == 0 && !*ended {
        return Err(Fault::Damaged);
    }
    Ok(Some(done.bytes_produced))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::inspect::budget::ReadError;
    use crate::inspect::zip_index::{MemberError, ZipIndex};
    use crate::inspect::{Context, Exceeded, Limits, inspect};
    use crate::model::facts::Facts;
    use crate::model::finding::Arg;
    use crate::model::{Format, Place};

    // What other tools made of `content()`, without the headers of their archives.
    /// `7zz a -mm=Deflate64`, 7-Zip 26.02.
    const DEFLATE64_7ZIP: &str = "\
    e5cab10d00101404d05e62879bc000a6b003574808f131bf15f4f7ea9716cf25221a518659e5026d238f3e1b77f04e7ec80ff9213fe4c7f778";
    /// `7zz a -mm=BZip2`.
    const BZIP2_7ZIP: &str = "\
    425a6839314159265359433a9ff60000b45b8000124001001040000e26df0020009028018000a5527a8641a6693413026c27226827026a2604d44d44\
    d027426e26e2604ec26a2644c0991322702722644fc2644d84f22604ec26813a13f8bb9229c2848219d4ffb0";
    /// `zipfile` of Python 3.11, `ZIP_BZIP2`.
    const BZIP2_PYTHON: &str = "\
    425a6839314159265359433a9ff60000c7db8000124001001040000e26df0020009029931320c8c0a551a8641a3693413026e27226827e13613026c2\
    6c26813a13813813026a26c2644c09913227e13913227d13226e27813026a26813a13f8bb9229c2848219d4ffb00";
    /// `7zz a -mm=LZMA`.
    const LZMA_7ZIP: &str = "\
    1a0205005d0010000000281c88a78941b27264cca4ad104c9a2020a3e2ceec181db6419079a9f73d2620dc2a6f2fdb3c2b55a85343c707844a7ffffb\
    f29000";
    /// `zipfile` of Python 3.11, `ZIP_LZMA`: a dictionary of 8 MiB.
    const LZMA_PYTHON: &str = "\
    090405005d0000800000281c88a78941b27264cca4ad104c9a2020a3e2ceec181db6419079a9f73d2620dc2a6f2fdb3c2b55a85343c707844a7ffffb\
    f29000";
    /// `7zz a -mm=xz`.
    const XZ_7ZIP: &str = "\
    fd377a585a0000016922de360200210100000000372797d6e0054f00305d00281c88a78941b27264cca4ad104c9a2020a3e2ceec181db6419079a9f7\
    3d2620dc2a6f2fdb3c2b55a85343c6fe9a22000046565879000148d00a000000e1c316c63e300d8b020000000001595a";
    /// `zstd -19`, 1.5.4.
    const ZSTANDARD_ZSTD: &str = "\
    28b52ffd6450045d01002402507265757665203a206c6520646f73736965722065737420636f6d706c65742e0d0a01005aa9fcea095815d701";
    /// `xz --lzma2=dict=128MiB`, 5.4.1.
    const XZ_OF_128_MIB: &str = "\
    fd377a585a000004e6d6b446020021011e0000009b075166e0054f00305d00281c88a78941b27264cca4ad104c9a2020a3e2ceec181db6419079a9f7\
    3d2620dc2a6f2fdb3c2b55a85343c6fe9a2200001ba36940fd8b2cbc00014cd00a000000f781875db1c467fb020000000004595a";

    /// What every stream above holds.
    fn content() -> Vec<u8> {
        b"Preuve : le dossier est complet.\r\n".repeat(40)
    }

    /// A stream of each method and way of writing it: method, flags, packed bytes.
    fn streams() -> Vec<(u16, u16, Vec<u8>)> {
        let xz = hex::decode(XZ_7ZIP).unwrap();
        // The one chunk of an LZMA2 stream is LZMA that ends with its size (`.xz` 1.2.0 §5.3.1; the properties stand in its head).
        let chunk = memchr::memmem::find(&xz, &[0xE0, 0x05, 0x4F, 0x00, 0x30, 0x5D]).unwrap() + 6;
        let without_marker = [&[0x1A, 2, 5, 0, 0x5D, 0, 0, 1, 0], &xz[chunk..chunk + 0x31]].concat();
        let decoded = |hex: &str| hex::decode(hex).unwrap();
        vec![
            (DEFLATE64, 0, decoded(DEFLATE64_7ZIP)),
            (BZIP2, 0, decoded(BZIP2_7ZIP)),
            (BZIP2, 0, decoded(BZIP2_PYTHON)),
            (LZMA, LZMA_ENDS_WITH_MARKER, decoded(LZMA_7ZIP)),
            (LZMA, LZMA_ENDS_WITH_MARKER, decoded(LZMA_PYTHON)),
            (LZMA, 0, without_marker),
            (ZSTANDARD, 0, decoded(ZSTANDARD_ZSTD)),
            (XZ, 0, xz),
        ]
    }

    /// One member of a container: its name, method, flags and packed bytes, its size and what it holds.
    type Packed<'a> = (&'a str, u16, u16, &'a [u8], u32, u32);

    fn container(members: &[Packed<'_>]) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (name, method, flags, raw, size, crc) in members {
            let mut header = Vec::new();
            for field in [63, *flags, *method, 0, 33] {
                header.extend_from_slice(&field.to_le_bytes());
            }
            for field in [*crc, raw.len() as u32, *size] {
                header.extend_from_slice(&field.to_le_bytes());
            }
            header.extend_from_slice(&(name.len() as u32).to_le_bytes());
            directory.extend_from_slice(b"PK\x01\x02\x3F\x00");
            directory.extend_from_slice(&header);
            directory.extend_from_slice(&[0; 10]);
            directory.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            directory.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b"PK\x03\x04");
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(raw);
        }
        let (count, start, size) = (members.len() as u16, bytes.len() as u32, directory.len() as u32);
        bytes.extend_from_slice(&directory);
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        bytes.extend_from_slice(&[count.to_le_bytes(), count.to_le_bytes()].concat());
        bytes.extend_from_slice(&[size.to_le_bytes(), start.to_le_bytes()].concat());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }

    fn one(name: &str, method: u16, flags: u16, raw: &[u8], content: &[u8]) -> Vec<u8> {
        container(&[(name, method, flags, raw, content.len() as u32, crc32fast::hash(content))])
    }

    fn member(bytes: &[u8]) -> Result<(Vec<u8>, u64), MemberError> {
        let index = ZipIndex::open(bytes).unwrap();
        let read = index.member(&index.entries[0], &mut Context::new(Limits::default()));
        read.map(|m| (m.bytes.into_owned(), m.unused))
    }

    fn facts(bytes: &[u8]) -> Facts {
        inspect(bytes, &mut Context::new(Limits::default()))
    }

    fn codes(facts: &Facts) -> Vec<&str> {
        facts.signals.iter().map(|s| s.code.as_str()).collect()
    }

    fn bzip2(content: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// A Zstandard frame (RFC 8878 §3.1.1) with this window descriptor and `blocks` times 128 KiB of zeros.
    fn zstandard_zeros(window: u8, blocks: usize) -> Vec<u8> {
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, window];
        for block in 1..=blocks {
            let header = u32::from(block == blocks) | 1 << 1 | (128 * 1024) << 3;
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.push(0);
        }
        frame
    }

    #[test]
    fn what_other_tools_pack_is_read_checked_and_told() {
        for (method, flags, raw) in streams() {
            let bytes = one("note.txt", method, flags, &raw, &content());
            assert_eq!(member(&bytes).unwrap(), (content(), 0), "method {method}");
            let facts = facts(&bytes);
            let expected: &[&str] = if method == DEFLATE64 { &[] } else { &["zip-method-uncommon"] };
            assert_eq!(codes(&facts), expected, "method {method}");
            assert_eq!(facts.members()[0].facts.as_ref().unwrap().format, Some(Format::Txt));
        }
    }

    #[test]
    fn a_peek_takes_the_beginning() {
        for (method, flags, raw) in streams() {
            let bytes = one("note.txt", method, flags, &raw, &content());
            let index = ZipIndex::open(&bytes).unwrap();
            assert_eq!(index.peek(&index.entries[0], 9), b"Preuve : ", "method {method}");
        }
    }

    #[test]
    fn a_wrong_checksum_or_size_is_told() {
        for (method, flags, raw) in streams() {
            let (size, crc) = (content().len() as u32, crc32fast::hash(&content()));
            let read = |size: u32, crc: u32| member(&container(&[("a", method, flags, &raw, size, crc)]));
            assert!(matches!(read(size, crc ^ 1), Err(MemberError::Crc)), "method {method}");
            for wrong in [0, size - 1, size + 1, u32::MAX / 64] {
                let told = read(wrong, crc);
                // A stream that ends with its size is malformed where that is wrong.
                let as_damage = method == LZMA && flags == 0 && matches!(told, Err(MemberError::Damaged));
                let as_size =
                    matches!(told, Err(MemberError::Size { declared, real }) if declared == u64::from(wrong) && real == u64::from(size));
                assert!(as_damage || as_size, "method {method}, {wrong}: {told:?}");
            }
        }
    }

    #[test]
    fn a_stream_cut_anywhere_is_damaged() {
        for (method, flags, raw) in streams() {
            for cut in 0..raw.len() {
                let told = member(&one("a", method, flags, &raw[..cut], &content()));
                assert!(matches!(told, Err(MemberError::Damaged)), "method {method} cut at {cut}: {told:?}");
            }
        }
    }

    #[test]
    fn bytes_after_the_stream_are_counted() {
        for (method, flags, raw) in streams() {
            for added in [&b"\0"[..], b"\xFF", b"PK", b"\0\0\0", b"hidden", &[0; 64], &[0xFF; 300]] {
                let bytes = one("a", method, flags, &[&raw, added].concat(), &content());
                match member(&bytes) {
                    Ok((read, unused)) => {
                        assert_eq!(read, content());
                        // The decoder of Deflate64 reads up to three bytes ahead.
                        let exact = unused == added.len() as u64;
                        assert!(exact || (method == DEFLATE64 && unused > 0), "method {method}: {unused} of {}", added.len());
                    }
                    told => panic!("method {method}: {told:?}"),
                }
                assert!(facts(&bytes).has("zip-member-damaged"), "method {method}");
            }
        }
        let (_, _, frame) = streams().into_iter().find(|s| s.0 == ZSTANDARD).unwrap();
        let skippable = [&frame[..], &[0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, b'h', b'i']].concat();
        assert_eq!(member(&one("a", ZSTANDARD, 0, &skippable, &content())).unwrap(), (content(), 10), "a skippable frame hides nothing");
        let twice = [&frame[..], &frame].concat();
        assert_eq!(member(&one("a", ZSTANDARD, 0, &twice, &content().repeat(2))).unwrap(), (content().repeat(2), 0));
    }

    #[test]
    fn what_comes_out_is_counted_in_the_budget_of_the_item() {
        let tight = || Context::new(Limits { max_inflated_bytes: 1_000, ..Limits::default() });
        for (method, flags, raw) in streams() {
            let bytes = one("a", method, flags, &raw, &content());
            assert_eq!(codes(&inspect(&bytes, &mut tight())).last(), Some(&"bomb-inflated"), "method {method}");
        }
        for (method, raw) in [(BZIP2, bzip2(&vec![0; 20 << 20])), (ZSTANDARD, zstandard_zeros(0x38, 160))] {
            let bytes = one("a", method, 0, &raw, &vec![0; 20 << 20]);
            assert_eq!(codes(&facts(&bytes)), ["zip-method-uncommon", "zip-bomb-ratio"], "method {method}");
            let lies = one("a", method, 0, &raw, b"");
            assert_eq!(codes(&facts(&lies)), ["zip-member-size", "zip-bomb-ratio"], "method {method}");
        }
        let huge = one("a", ZSTANDARD, 0, &zstandard_zeros(0x38, 1_600), b"");
        assert!(facts(&huge).has("zip-member-too-large"));
        let endless = one("a", ZSTANDARD, 0, &[&zstandard_zeros(0x38, 1)[..6], &[0; 3_000]].concat(), b"");
        assert!(matches!(member(&endless), Err(MemberError::Damaged)), "empty blocks without a last one");
        let mut ctx = Context::new(Limits { max_work: 0, ..Limits::default() });
        let index = ZipIndex::open(&endless).unwrap();
        assert!(matches!(index.member(&index.entries[0], &mut ctx), Err(MemberError::Exceeded(Exceeded::Work))));
    }

    #[test]
    fn a_window_is_refused_before_it_exists() {
        let mut raw = hex::decode(LZMA_7ZIP).unwrap();
        raw[5..9].copy_from_slice(&[0xFF; 4]);
        let small = one("a", LZMA, LZMA_ENDS_WITH_MARKER, &raw, &content());
        assert_eq!(member(&small).unwrap().0, content(), "a small member needs no more than its size of 4 GiB");
        let large = container(&[("a", LZMA, LZMA_ENDS_WITH_MARKER, &raw, 100 << 20, 0)]);
        let xz = one("a", XZ, 0, &hex::decode(XZ_OF_128_MIB).unwrap(), &content());
        let zstandard = one("a", ZSTANDARD, 0, &zstandard_zeros(0x88, 1), &[0; 128 * 1024]);
        for (bytes, window) in [(large, u64::from(u32::MAX)), (xz, 128 << 20), (zstandard, 128 << 20)] {
            let Err(MemberError::Window { bytes: declared, .. }) = member(&bytes) else { panic!("{window}") };
            assert!((window..window + (1 << 20)).contains(&declared), "{declared}");
            let facts = facts(&bytes);
            assert_eq!(codes(&facts), ["zip-method-unsupported"]);
            assert_eq!(facts.signals[0].args.get("window_bytes"), Some(&Arg::from(declared)));
        }
    }

    #[test]
    fn what_no_decoder_is_here_for_is_told_unread() {
        // `7zz a -mm=PPMd` and what never was a method.
        for method in [98, 1_000] {
            let bytes = one("a", method, 0, &hex::decode("07005023fd1286a08b17259a").unwrap(), &content());
            assert_eq!(codes(&facts(&bytes)), ["zip-method-unsupported"]);
        }
        let encrypted = one("a", BZIP2, 1, &hex::decode(BZIP2_7ZIP).unwrap(), &content());
        assert_eq!(codes(&facts(&encrypted)), ["zip-encrypted"]);
    }

    #[test]
    fn a_document_inside_is_described_by_its_own_inspector() {
        let pdf = include_bytes!("../../fixtures/dossiers/lgc-demo/preuves/INS.19/INS.19.01.02/attestation.pdf");
        let told = facts(&one("attestation.pdf", BZIP2, 0, &bzip2(pdf), pdf));
        let inner = told.members()[0].facts.as_ref().unwrap();
        assert_eq!(inner.format, Some(Format::Pdf));
        assert!(matches!(&inner.detail, Some(crate::model::facts::Detail::Pdf(pdf)) if pdf.pages == 1), "{:?}", inner.detail);
        let program = one("run", BZIP2, 0, &bzip2(b"\x7FELF and more"), b"\x7FELF and more");
        let nested = one("note.zip", BZIP2, 0, &bzip2(&program), &program);
        assert!(facts(&nested).has_anywhere("file-executable"));
    }

    #[test]
    fn packages_whose_standards_allow_two_methods_are_told_apart() {
        let (content, (_, _, deflate64)) = (content(), streams().remove(0));
        let (size, crc) = (content.len() as u32, crc32fast::hash(&content));
        let xdm = container(&[("IHE_XDM/SUBSET01/NOTE.TXT", DEFLATE64, 0, &deflate64, size, crc)]);
        let told = facts(&xdm);
        assert!(told.signals.iter().any(|s| s.code.as_str() == "zip-method-uncommon"
            && s.place == Place::member("IHE_XDM/SUBSET01/NOTE.TXT")
            && s.args.get("method") == Some(&Arg::from("Deflate64 (9)"))));

        let types = b"<Types><Override PartName='/word/document.xml' ContentType='application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml'/></Types>";
        let packed = bzip2(types);
        let docx = container(&[
            ("[Content_Types].xml", BZIP2, 0, &packed, types.len() as u32, crc32fast::hash(types)),
            ("word/document.xml", DEFLATE64, 0, &deflate64, size, crc),
        ]);
        let told = facts(&docx);
        assert_eq!(told.format, Some(Format::Docx));
        assert!(told.has("office-part-damaged"), "{:?}", told.signals);

        let media_type = b"application/vnd.oasis.opendocument.text";
        let odt = container(&[
            ("mimetype", STORED, 0, media_type, media_type.len() as u32, crc32fast::hash(media_type)),
            ("content.xml", DEFLATE64, 0, &deflate64, size, crc),
        ]);
        let told = facts(&odt);
        assert_eq!(told.format, Some(Format::Odt));
        assert!(told.has("office-part-damaged"), "{:?}", told.signals);
        let index = ZipIndex::open(&odt).unwrap();
        let part = index.read(&index.entries[1], &mut Context::new(Limits::default()));
        assert!(matches!(part, Err(ReadError::Io(e)) if e.kind() == std::io::ErrorKind::Unsupported));
    }

    proptest! {
        /// Not through [`Unpacker::read`], which would catch it.
        #[test]
        fn mutated_streams_never_panic(
            which in 0usize..8,
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            declared in prop_oneof![Just(1_360u64), any::<u64>()],
        ) {
            let (method, flags, mut raw) = streams().swap_remove(which);
            for (place, value) in edits {
                let i = place.index(raw.len());
                raw[i] = value;
            }
            let mut chunk = [0; 4096];
            let (mut out, mut calls) = (0, 0);
            if let Ok(mut unpacker) = Unpacker::new(&raw, method, flags, declared) {
                while let Ok(Some(n)) = unpacker.0.read(&mut chunk) {
                    (out, calls) = (out + n, calls + 1);
                    if out > 4 << 20 || calls > 10_000 {
                        break;
                    }
                }
                unpacker.unused();
            }
        }
    }
}
