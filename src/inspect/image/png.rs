//! PNG (ISO/IEC 15948): every chunk is walked, every critical checksum verified, every row inflated and
//! unfiltered, in the memory of two rows.
//!
//! The walk is our own because decoders are lenient where a proof must not be: they stop at the last row
//! and never see what follows, they skip checksums, they accept chunks out of order.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::luma::{Luma, luma_of, over_black, over_white};
use super::{Stop, add_metadata, exif, too_many_pixels, trailing};
use crate::inspect::Context;
use crate::inspect::budget::ReadError;
use crate::model::facts::ImageFacts;
use crate::model::{Facts, Place, Signal};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// One compressed text or profile may inflate to this; profiles of editors reach a few megabytes.
const MAX_TEXT_BYTES: u64 = 16 * 1024 * 1024;
/// Largest colour profile, inflated. The largest in use, for printing presses, have some 4 MB.
const MAX_PROFILE_BYTES: u64 = 32 * 1024 * 1024;
/// An EXIF block larger than this is not handed to the EXIF reader (a JPEG allows 64 KiB).
const MAX_EXIF_BYTES: usize = 256 * 1024;
/// Rows between two looks at the clock.
const ROWS_PER_TICK: u32 = 64;
/// Units of work of a chunk, on top of one for each of its bytes, whose checksum is computed.
const CHUNK: u64 = 1_000;
/// Units of work of a row, of a byte of it (inflated, filtered), and of a pixel on each ground (its brightness).
const ROW: u64 = 2_000;
const ROW_BYTE: u64 = 12;
const PIXEL: u64 = 12;

/// The header (IHDR).
#[derive(Debug, Clone, Copy)]
struct Header {
    width: u32,
    height: u32,
    depth: u8,
    color: u8,
    interlaced: bool,
}

impl Header {
    /// Samples per pixel.
    fn channels(self) -> usize {
        match self.color {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        }
    }

    /// Whether colour type, depth and methods are a combination that the standard has (table 11.1).
    fn is_valid(data: &[u8; 13]) -> bool {
        let depths: &[u8] = match data[9] {
            0 => &[1, 2, 4, 8, 16],
            3 => &[1, 2, 4, 8],
            2 | 4 | 6 => &[8, 16],
            _ => &[],
        };
        depths.contains(&data[8]) && data[10] == 0 && data[11] == 0 && data[12] <= 1
    }
}

/// What the chunk walk gathers for the pixels.
#[derive(Debug, Default)]
struct Walk<'a> {
    header: Option<Header>,
    palette: Option<&'a [u8]>,
    alpha: &'a [u8],
    data: Vec<&'a [u8]>,
    data_ended: bool,
    ended: bool,
    /// Ancillary kinds already seen that may appear once.
    seen: Vec<[u8; 4]>,
}

/// Describes a PNG.
pub(super) fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, image: &mut ImageFacts) -> Result<(), Stop> {
    let Some(body) = bytes.strip_prefix(SIGNATURE) else {
        // Line-end conversion is what the odd signature was made to reveal (clause 5.2).
        facts.push(Signal::new("image-signature-damaged").at(Place::byte(0)));
        return Err(Stop::Told);
    };
    let mut walk = Walk::default();
    let mut at = SIGNATURE.len();
    let mut rest = body;
    while !walk.ended {
        let Some((chunk, after)) = Chunk::split(rest) else {
            break;
        };
        ctx.budget.work(CHUNK + chunk.data.len() as u64)?;
        chunk_seen(&chunk, at as u64, &mut walk, ctx, facts, image)?;
        at += chunk.data.len() + 12;
        rest = after;
    }
    if walk.header.is_none() {
        facts.push(Signal::new("image-element-missing").at(Place::byte(at as u64)).arg("element", "IHDR"));
        return Err(Stop::Told);
    }
    if !walk.ended {
        // The last chunk may be there in part: what it holds of the picture is still worth counting.
        if let Some(partial) = Chunk::partial_data(rest) {
            walk.data.push(partial);
        }
    }
    let complete = pixels(&walk, ctx, facts, image)?;
    if walk.ended {
        trailing(bytes, at, facts);
    } else if complete {
        facts.push(Signal::new("image-unterminated").at(Place::byte(bytes.len() as u64)).arg("element", "IEND"));
    }
    Ok(())
}

/// One chunk, whole.
struct Chunk<'a> {
    kind: [u8; 4],
    data: &'a [u8],
    crc: u32,
}

impl<'a> Chunk<'a> {
    fn split(rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind: [u8; 4] = *rest.get(4..)?.first_chunk()?;
        let end = length.checked_add(8)?;
        let data = rest.get(8..end)?;
        let crc = u32::from_be_bytes(*rest.get(end..)?.first_chunk()?);
        Some((Self { kind, data, crc }, rest.get(end + 4..)?))
    }

    /// What is there of an image-data chunk that the end of the file cuts.
    fn partial_data(rest: &'a [u8]) -> Option<&'a [u8]> {
        (rest.get(4..8)? == b"IDAT").then(|| rest.get(8..)).flatten()
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(&self.kind).into_owned()
    }

    fn is_critical(&self) -> bool {
        self.kind[0] & 0x20 == 0
    }

    fn crc_holds(&self) -> bool {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.kind);
        crc.update(self.data);
        crc.finalize() == self.crc
    }
}

fn chunk_seen<'a>(
    chunk: &Chunk<'a>,
    at: u64,
    walk: &mut Walk<'a>,
    ctx: &mut Context,
    facts: &mut Facts,
    image: &mut ImageFacts,
) -> Result<(), Stop> {
    let place = Place::byte(at);
    if !chunk.kind.iter().all(u8::is_ascii_alphabetic) {
        facts.push(Signal::new("image-element-invalid").at(place).arg("element", chunk.name()));
        return Err(Stop::Told);
    }
    if walk.header.is_none() && &chunk.kind != b"IHDR" {
        facts.push(Signal::new("image-element-missing").at(place).arg("element", "IHDR"));
        return Err(Stop::Told);
    }
    if !chunk.crc_holds() {
        if chunk.is_critical() {
            facts.push(Signal::new("image-checksum").at(place).arg("element", chunk.name()));
            return Err(Stop::Told);
        }
        facts.push(Signal::new("image-metadata-checksum").at(place).arg("element", chunk.name()));
        return Ok(()); // what an ancillary chunk says is not believed without its checksum
    }
    if &chunk.kind != b"IDAT" && !walk.data.is_empty() {
        walk.data_ended = true;
    }
    match &chunk.kind {
        b"IHDR" => header(chunk, place, walk, facts, image)?,
        b"PLTE" => {
            let gray = walk.header.is_some_and(|h| matches!(h.color, 0 | 4));
            let most = walk.header.filter(|h| h.color == 3).map_or(256, |h| 1usize << h.depth.min(8));
            let entries = chunk.data.len() / 3;
            if !chunk.data.len().is_multiple_of(3) || entries == 0 || entries > most || gray {
                facts.push(Signal::new("image-element-invalid").at(place).arg("element", "PLTE"));
                return Err(Stop::Told);
            }
            if walk.palette.is_some() || !walk.data.is_empty() {
                facts.push(Signal::new("image-element-misplaced").at(place).arg("element", "PLTE"));
                return Err(Stop::Told);
            }
            walk.palette = Some(chunk.data);
        }
        b"IDAT" => {
            if walk.data_ended {
                facts.push(Signal::new("image-element-misplaced").at(place).arg("element", "IDAT"));
                return Err(Stop::Told);
            }
            walk.data.push(chunk.data);
        }
        b"IEND" => {
            if !chunk.data.is_empty() {
                facts.push(Signal::new("image-element-invalid").at(place.clone()).arg("element", "IEND"));
            }
            walk.ended = true;
        }
        _ if chunk.is_critical() => {
            facts.push(Signal::new("image-element-invalid").at(place).arg("element", chunk.name()));
            return Err(Stop::Told);
        }
        _ => ancillary(chunk, at, walk, ctx, facts, image)?,
    }
    Ok(())
}

fn header(chunk: &Chunk<'_>, place: Place, walk: &mut Walk<'_>, facts: &mut Facts, image: &mut ImageFacts) -> Result<(), Stop> {
    if walk.header.is_some() {
        facts.push(Signal::new("image-element-misplaced").at(place).arg("element", "IHDR"));
        return Err(Stop::Told);
    }
    let invalid = || Signal::new("image-element-invalid").at(place.clone()).arg("element", "IHDR");
    let Ok(data) = <&[u8; 13]>::try_from(chunk.data) else {
        facts.push(invalid());
        return Err(Stop::Told);
    };
    let width = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
    let height = u32::from_be_bytes([data[4], data[5], data[6], data[7]]);
    if width == 0 || height == 0 || width > i32::MAX as u32 || height > i32::MAX as u32 || !Header::is_valid(data) {
        facts.push(invalid());
        return Err(Stop::Told);
    }
    image.width = width;
    image.height = height;
    walk.header = Some(Header { width, height, depth: data[8], color: data[9], interlaced: data[12] == 1 });
    Ok(())
}

/// Rules of ancillary chunks (clause 11.3): how long they are, beside which colour type they make sense,
/// and what they must stand before.
fn ancillary<'a>(
    chunk: &Chunk<'a>,
    at: u64,
    walk: &mut Walk<'a>,
    ctx: &mut Context,
    facts: &mut Facts,
    image: &mut ImageFacts,
) -> Result<(), Stop> {
    let Some(header) = walk.header else { return Ok(()) };
    let length = chunk.data.len();
    let palette = walk.palette.map_or(0, |p| p.len() / 3);
    let sound = match &chunk.kind {
        b"gAMA" => length == 4,
        b"cHRM" => length == 32,
        b"sRGB" => length == 1,
        b"pHYs" => length == 9,
        b"tIME" => length == 7,
        b"hIST" => palette > 0 && length == palette * 2,
        b"sBIT" => length == if header.color == 3 { 3 } else { header.channels() },
        b"bKGD" => {
            length
                == match header.color {
                    3 => 1,
                    0 | 4 => 2,
                    _ => 6,
                }
        }
        b"tRNS" => match header.color {
            0 => length == 2,
            2 => length == 6,
            3 => length >= 1 && length <= palette,
            _ => false,
        },
        _ => true,
    };
    let before_data = matches!(
        &chunk.kind,
        b"gAMA" | b"cHRM" | b"sRGB" | b"iCCP" | b"sBIT" | b"pHYs" | b"hIST" | b"bKGD" | b"tRNS" | b"sPLT" | b"cICP" | b"acTL"
    );
    let before_palette = matches!(&chunk.kind, b"gAMA" | b"cHRM" | b"sRGB" | b"iCCP" | b"sBIT" | b"cICP");
    let well_placed = !(before_data && !walk.data.is_empty() || before_palette && walk.palette.is_some());
    let once = before_data && &chunk.kind != b"sPLT";
    let repeated = once && walk.seen.contains(&chunk.kind);
    if once && !repeated {
        walk.seen.push(chunk.kind);
    }
    if !sound || !well_placed || repeated {
        facts.push(Signal::new("image-nonconforming").at(Place::byte(at)).arg("element", chunk.name()));
        return Ok(());
    }
    match &chunk.kind {
        b"tRNS" if header.color == 3 => walk.alpha = chunk.data,
        // One frame is a still picture in an animation's clothes.
        b"acTL" => image.animated |= chunk.data.first_chunk().is_some_and(|n| u32::from_be_bytes(*n) > 1),
        b"eXIf" if length <= MAX_EXIF_BYTES => exif::read(chunk.data, facts, image),
        b"tEXt" | b"zTXt" | b"iTXt" => text(chunk, at, ctx, facts, image)?,
        b"iCCP" => colour_profile(chunk, at, ctx, facts)?,
        _ => {}
    }
    Ok(())
}

/// Textual chunks (clause 11.3.4): keyword, then Latin-1 or UTF-8, possibly deflated.
fn text(chunk: &Chunk<'_>, at: u64, ctx: &mut Context, facts: &mut Facts, image: &mut ImageFacts) -> Result<(), Stop> {
    let Some((keyword, rest)) = split_nul(chunk.data) else { return Ok(()) };
    let keyword: String = keyword.iter().map(|b| char::from(*b)).collect();
    let value = match &chunk.kind {
        b"tEXt" => rest.iter().map(|b| char::from(*b)).collect(),
        b"zTXt" => {
            let Some((0, deflated)) = rest.split_first().map(|(method, data)| (*method, data)) else { return Ok(()) };
            match inflate_text(deflated, &keyword, at, ctx, facts)? {
                Some(inflated) => inflated.iter().map(|b| char::from(*b)).collect(),
                None => return Ok(()),
            }
        }
        _ => {
            let Some((&[compressed, method], rest)) = rest.split_first_chunk::<2>() else { return Ok(()) };
            let Some((_language, rest)) = split_nul(rest) else { return Ok(()) };
            let Some((_translated, rest)) = split_nul(rest) else { return Ok(()) };
            if compressed == 1 && method == 0 {
                match inflate_text(rest, &keyword, at, ctx, facts)? {
                    Some(inflated) => String::from_utf8_lossy(&inflated).into_owned(),
                    None => return Ok(()),
                }
            } else {
                String::from_utf8_lossy(rest).into_owned()
            }
        }
    };
    if keyword == "XML:com.adobe.xmp" {
        exif::xmp(value.as_bytes(), image);
    } else {
        add_metadata(facts, &format!("png:{keyword}"), &value);
    }
    Ok(())
}

/// Inflates an embedded ICC profile (clause 11.3.2.3) only to see that it ends: viewers hold it whole.
fn colour_profile(chunk: &Chunk<'_>, at: u64, ctx: &mut Context, facts: &mut Facts) -> Result<(), Stop> {
    let Some((_, rest)) = split_nul(chunk.data) else { return Ok(()) };
    let Some((0, deflated)) = rest.split_first().map(|(method, data)| (*method, data)) else { return Ok(()) };
    inflate_capped(deflated, "iCCP", MAX_PROFILE_BYTES, at, ctx, facts).map(drop)
}

/// Inflates one text within its own cap and the item's budget; `None` when it is damaged or too long.
fn inflate_text(deflated: &[u8], keyword: &str, at: u64, ctx: &mut Context, facts: &mut Facts) -> Result<Option<Vec<u8>>, Stop> {
    inflate_capped(deflated, keyword, MAX_TEXT_BYTES, at, ctx, facts)
}

fn inflate_capped(
    deflated: &[u8],
    keyword: &str,
    limit: u64,
    at: u64,
    ctx: &mut Context,
    facts: &mut Facts,
) -> Result<Option<Vec<u8>>, Stop> {
    let mut capped = ZlibDecoder::new(deflated).take(limit + 1);
    match ctx.budget.read_to_end(&mut capped) {
        Ok(inflated) if inflated.len() as u64 > limit => {
            let signal = Signal::new("image-text-bomb").at(Place::byte(at));
            facts.push(signal.arg("keyword", keyword).arg("limit_bytes", limit).arg("stored_bytes", deflated.len()));
            Ok(None)
        }
        Ok(inflated) => Ok(Some(inflated)),
        Err(ReadError::Exceeded(exceeded)) => Err(exceeded.into()),
        Err(ReadError::Io(_)) => {
            facts.push(Signal::new("image-metadata-damaged").at(Place::byte(at)).arg("element", keyword));
            Ok(None)
        }
    }
}

fn split_nul(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = memchr::memchr(0, data)?;
    Some((data.get(..nul)?, data.get(nul + 1..)?))
}

/// The chunks of image data read as one stream.
struct ImageData<'w, 'a> {
    chunks: std::slice::Iter<'w, &'a [u8]>,
    current: &'a [u8],
}

impl Read for ImageData<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.next() {
                Some(next) => self.current = next,
                None => return Ok(0),
            }
        }
        self.current.read(buffer)
    }
}

/// The passes of a picture: first column, first row, step across, step down (clause 8.2 for Adam7).
const WHOLE: [(u32, u32, u32, u32); 1] = [(0, 0, 1, 1)];
const ADAM7: [(u32, u32, u32, u32); 7] = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];

/// Inflates and unfilters every row; returns whether all of them are there.
fn pixels(walk: &Walk<'_>, ctx: &mut Context, facts: &mut Facts, image: &mut ImageFacts) -> Result<bool, Stop> {
    let Some(header) = walk.header else { return Ok(false) };
    if header.color == 3 && walk.palette.is_none() {
        facts.push(Signal::new("image-element-missing").arg("element", "PLTE"));
        return Err(Stop::Told);
    }
    if walk.data.is_empty() {
        if walk.ended {
            facts.push(Signal::new("image-element-missing").arg("element", "IDAT"));
        } else {
            facts.push(Signal::new("image-truncated").arg("percent", 0));
        }
        return Err(Stop::Told);
    }
    if too_many_pixels(header.width, header.height, ctx, facts) {
        return Err(Stop::Told);
    }
    let mut grounds = vec![Ground::new(header, walk, over_white)];
    if matches!(header.color, 4 | 6) || !walk.alpha.is_empty() {
        grounds.push(Ground::new(header, walk, over_black));
    }
    // Rows stream through two buffers, so what is inflated here is bounded by max_pixels and counted as work,
    // and does not weigh on the budget that the other members of an archive share.
    let mut stream = ZlibDecoder::new(ImageData { chunks: walk.data.iter(), current: &[] });
    let bits = header.channels() * usize::from(header.depth);
    let step = bits.div_ceil(8).max(1);
    let passes: &[_] = if header.interlaced { &ADAM7 } else { &WHOLE };
    let total: u64 = passes.iter().map(|&(_, y0, _, dy)| u64::from(header.height.saturating_sub(y0).div_ceil(dy))).sum();
    let mut done = 0u64;
    for &(x0, y0, dx, dy) in passes {
        let across = header.width.saturating_sub(x0).div_ceil(dx);
        let down = header.height.saturating_sub(y0).div_ceil(dy);
        if across == 0 {
            done += u64::from(down);
            continue;
        }
        // `too_many_pixels` bounds the sides, so this fits in memory whatever the file says.
        let row_bytes = (across as usize * bits).div_ceil(8);
        let mut previous = vec![0u8; row_bytes];
        let mut row = vec![0u8; row_bytes + 1];
        for y in 0..down {
            if y.is_multiple_of(ROWS_PER_TICK) {
                let per_row = ROW + row_bytes as u64 * ROW_BYTE + u64::from(across) * PIXEL * grounds.len() as u64;
                ctx.budget.work(u64::from((down - y).min(ROWS_PER_TICK)) * per_row)?;
            }
            match fill(&mut stream, &mut row) {
                Filled::Whole => {}
                Filled::Ended => {
                    let percent = done * 100 / total.max(1);
                    facts.push(Signal::new("image-truncated").arg("percent", percent));
                    return Err(Stop::Told);
                }
                Filled::Damaged => {
                    facts.push(corrupt_at(done, total));
                    return Err(Stop::Told);
                }
            }
            let Some((filter, current)) = row.split_first_mut() else { break };
            if !super::filter::unfilter(*filter, step, &previous, current) {
                facts.push(corrupt_at(done, total));
                return Err(Stop::Told);
            }
            for ground in &mut grounds {
                ground.add(header, current, across, (x0, y0 + y * dy, dx));
            }
            previous.copy_from_slice(current);
            done += 1;
        }
    }
    image.decoded = true;
    let mut stats = grounds.iter().map(|ground| ground.luma.finish());
    if let Some(on_white) = stats.next().flatten() {
        image.luma_deviation = Some(on_white.deviation);
        image.perceptual_hash = on_white.hash;
    }
    image.luma_deviation_on_black = stats.next().flatten().map(|on_black| on_black.deviation);
    // The Adler-32 follows the last byte; reading on makes the inflater verify it.
    match fill(&mut stream, &mut [0u8; 1]) {
        Filled::Damaged => {
            facts.push(Signal::new("image-checksum").arg("element", "IDAT"));
            Ok(true)
        }
        Filled::Whole => {
            facts.push(Signal::new("image-stray-bytes").arg("element", "IDAT"));
            Ok(true)
        }
        Filled::Ended => Ok(true),
    }
}

fn corrupt_at(done: u64, total: u64) -> Signal {
    Signal::new("image-corrupt").arg("line", done + 1).arg("lines", total)
}

/// How reading a row went.
enum Filled {
    Whole,
    Ended,
    Damaged,
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Filled {
    let mut at = 0;
    while at < buffer.len() {
        match stream.read(&mut buffer[at..]) {
            Ok(0) => return Filled::Ended,
            Ok(n) => at += n,
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Filled::Ended,
            Err(_) => return Filled::Damaged,
        }
    }
    Filled::Whole
}

/// The picture as it is seen on one ground, where it is transparent.
struct Ground {
    over: fn(u8, u8) -> u8,
    /// Luma of every palette entry.
    palette: Vec<u8>,
    luma: Luma,
    /// The brightness of the samples of one row.
    samples: Vec<u8>,
}

impl Ground {
    fn new(header: Header, walk: &Walk<'_>, over: fn(u8, u8) -> u8) -> Self {
        let entries = walk.palette.unwrap_or_default().chunks_exact(3);
        let alpha = |i: usize| walk.alpha.get(i).copied().unwrap_or(255);
        let palette = entries.enumerate().map(|(i, c)| over(luma_of(c[0], c[1], c[2]), alpha(i))).collect();
        Self { over, palette, luma: Luma::new(header.width, header.height), samples: Vec::new() }
    }

    fn add(&mut self, header: Header, row: &[u8], across: u32, (x0, y, dx): (u32, u32, u32)) {
        self.samples.clear();
        self.samples.resize(across as usize, 0);
        row_luma(header, &self.palette, self.over, row, &mut self.samples);
        self.luma.add_row(y, x0, dx, &self.samples);
    }
}

/// Writes the brightness of the pixels of one unfiltered `row` to `out`. The loops count by hand for the reason that
/// [`Luma::add_row`] gives.
fn row_luma(header: Header, palette: &[u8], over: fn(u8, u8) -> u8, row: &[u8], out: &mut [u8]) {
    // 16-bit samples are big-endian: the first byte is all that luma needs.
    let wide = usize::from(header.depth == 16) + 1;
    let depth = usize::from(header.depth);
    let bytes = header.channels() * wide;
    // A row holds whole pixels; of fewer than eight bits each, `row` holds several to the byte.
    let count = if depth >= 8 { out.len().min(row.len() / bytes) } else { out.len().min(row.len() * 8 / depth.max(1)) };
    let mut x = 0;
    match header.color {
        2 | 6 => {
            let opaque = header.color == 2;
            while x < count {
                let at = x * bytes;
                let luma = luma_of(row[at], row[at + wide], row[at + 2 * wide]);
                out[x] = if opaque { luma } else { over(luma, row[at + 3 * wide]) };
                x += 1;
            }
        }
        4 => {
            while x < count {
                out[x] = over(row[x * bytes], row[x * bytes + wide]);
                x += 1;
            }
        }
        0 if depth >= 8 => {
            while x < count {
                out[x] = row[x * bytes];
                x += 1;
            }
        }
        color => {
            // What each value of a sample looks like, once for the row: at most 256 of them.
            let most = (1usize << depth.min(8)) - 1;
            let mut shades = [0u8; 256];
            for (value, shade) in shades.iter_mut().enumerate().take(most + 1) {
                *shade = if color == 3 { palette.get(value).copied().unwrap_or(0) } else { (value * 255 / most.max(1)) as u8 };
            }
            while x < count {
                let bit = x * depth;
                let value = (row[bit / 8] as usize) >> (8 - depth - bit % 8) & most;
                out[x] = shades[value];
                x += 1;
            }
        }
    }
}
