//! AVI (Microsoft RIFF/AVI, OpenDML 1.02): headers, streams, the list of media chunks, the index.

use super::number::{le16, le32};
use super::{MAX_TRACKS, Movie, Stop, add_metadata, corrupt, four_cc, seconds, track, truncated};
use crate::inspect::Context;
use crate::model::facts::TrackKind;
use crate::model::{Facts, Place, Signal};

/// `avih` flag: the file has an index (`AVIF_HASINDEX`).
const HAS_INDEX: u32 = 0x10;
/// Share of index entries, in percent, that may point at nothing before the index is called wrong.
const ODD_INDEX_PERCENT: u64 = 5;

/// One RIFF chunk.
#[derive(Debug, Clone, Copy)]
struct Chunk<'a> {
    id: [u8; 4],
    /// Offset of its header in the file.
    start: usize,
    body: &'a [u8],
    missing: u64,
}

/// Chunks of a list, one level; stops at the first thing that is not a chunk.
struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let start = self.at;
        let rest = self.bytes.get(start..self.end)?;
        let id: [u8; 4] = *rest.first_chunk()?;
        let size = le32(rest, 4)?;
        if !id.iter().all(|b| matches!(b, 0x20..=0x7E)) {
            return None;
        }
        let body = rest.get(8..)?;
        let there = (size as usize).min(body.len());
        // Chunks stand on even offsets.
        self.at = start.checked_add(8)?.checked_add(there)?.checked_add(there & 1)?.min(self.end.max(start + 8 + there));
        Some(Chunk { id, start, body: body.get(..there)?, missing: u64::from(size) - there as u64 })
    }
}

fn chunks(bytes: &[u8], from: usize, to: usize) -> Chunks<'_> {
    Chunks { bytes, at: from, end: to.min(bytes.len()) }
}

/// What the headers and the media lists said.
#[derive(Debug, Default)]
struct Avi {
    microseconds_per_frame: u32,
    flags: u32,
    total_frames: u32,
    extended_frames: u32,
    /// Frame counts stated per stream.
    stated: Vec<u32>,
    /// Chunks of pictures seen.
    pictures: u64,
    /// Chunks of sound or other streams seen.
    others: u64,
    has_index: bool,
    has_header: bool,
    has_movie: bool,
}

/// Walks the file.
pub(super) fn walk(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, movie: &mut Movie) -> Result<(), Stop> {
    "AVI".clone_into(&mut movie.facts.container);
    if bytes.get(..4) != Some(b"RIFF") || bytes.get(8..12) != Some(b"AVI ") {
        return Err(corrupt(facts, 0, "RIFF"));
    }
    let mut avi = Avi::default();
    let mut cut: Option<(String, u64)> = None;
    let mut at = 0usize;
    // A RIFF per gigabyte or so: AVI first, then AVIX (OpenDML).
    while let Some(size) = bytes.get(at..).filter(|r| r.starts_with(b"RIFF")).and_then(|r| le32(r, 4)) {
        ctx.budget.tick()?;
        // An interrupted recorder leaves the size at 0.
        let stated = if size == 0 { bytes.len() } else { at.saturating_add(8).saturating_add(size as usize) };
        let end = stated.min(bytes.len());
        let overrun = (stated - end) as u64;
        let mut inside = chunks(bytes, at + 12, end);
        for chunk in inside.by_ref() {
            ctx.budget.tick()?;
            if chunk.missing > 0 && chunk.start + 8 + chunk.body.len() == bytes.len() {
                cut = Some((four_cc(&chunk.id), chunk.missing));
            }
            top_chunk(bytes, &chunk, &mut avi, ctx, facts, movie)?;
        }
        // One byte is the padding of the last chunk, which some muxers count and do not write.
        if overrun > 1 && cut.is_none() {
            if avi.has_index {
                // Every chunk is whole, the index that closes the file too: the size is a muxer's slip.
                facts
                    .push(Signal::new("video-box-overrun").at(Place::byte(at as u64)).arg("element", "RIFF").arg("missing_bytes", overrun));
            } else {
                cut = Some(("RIFF".to_owned(), overrun));
            }
        }
        let next = end.saturating_add(end & 1).min(bytes.len());
        if next <= at {
            break;
        }
        at = next;
    }
    movie.end = Some(at);
    movie.has_media = avi.pictures + avi.others > 0;
    if !avi.has_header || movie.facts.tracks.is_empty() {
        return match cut {
            Some((element, missing)) => Err(truncated(facts, bytes.len(), element, missing)),
            None => Err(corrupt(facts, 12, if avi.has_header { "strl" } else { "hdrl" })),
        };
    }
    durations(&avi, movie);
    if let Some((element, missing)) = cut {
        return Err(truncated(facts, bytes.len(), element, missing));
    }
    if !avi.has_movie {
        return Err(corrupt(facts, bytes.len(), "movi"));
    }
    // A whole file whose last act never happened: the recorder writes the index when it stops.
    if avi.flags & HAS_INDEX != 0 && !avi.has_index && avi.pictures > 0 {
        facts.push(Signal::new("video-index-odd").arg("element", "idx1"));
    } else if u64::from(avi.total_frames.max(avi.extended_frames)) > avi.pictures.saturating_mul(2).max(25) && avi.pictures > 0 {
        facts.push(Signal::new("video-index-odd").arg("element", "avih"));
    }
    Ok(())
}

fn top_chunk(bytes: &[u8], chunk: &Chunk<'_>, avi: &mut Avi, ctx: &Context, facts: &mut Facts, movie: &mut Movie) -> Result<(), Stop> {
    let (from, to) = (chunk.start + 12, chunk.start + 8 + chunk.body.len());
    match (&chunk.id, chunk.body.get(..4)) {
        (b"LIST", Some(b"hdrl")) => headers(bytes, from, to, avi, ctx, movie)?,
        (b"LIST", Some(b"INFO")) => {
            for text in chunks(bytes, from, to) {
                ctx.budget.tick()?;
                let end = memchr::memchr(0, text.body).unwrap_or(text.body.len());
                let value = String::from_utf8_lossy(text.body.get(..end).unwrap_or_default()).into_owned();
                add_metadata(facts, &format!("video:{}", four_cc(&text.id)), &value);
            }
        }
        (b"LIST", Some(b"movi")) => {
            avi.has_movie = true;
            media(bytes, from, to, avi, ctx, facts)?;
        }
        (b"idx1", _) => {
            avi.has_index = true;
            index(bytes, chunk, ctx, facts)?;
        }
        // A recorder that was interrupted leaves the size of `movi` at 0, and its chunks out of it.
        _ => avi.count(&chunk.id),
    }
    Ok(())
}

impl Avi {
    /// Counts a media chunk: `NNdc` and `NNdb` are pictures, other `NNxx` sound or text.
    fn count(&mut self, id: &[u8; 4]) {
        match id {
            [a, b, b'd', b'b' | b'c'] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => self.pictures += 1,
            [a, b, ..] if a.is_ascii_digit() && b.is_ascii_hexdigit() => self.others += 1,
            _ => {}
        }
    }
}

fn headers(bytes: &[u8], from: usize, to: usize, avi: &mut Avi, ctx: &Context, movie: &mut Movie) -> Result<(), Stop> {
    for chunk in chunks(bytes, from, to) {
        ctx.budget.tick()?;
        let (inside, end) = (chunk.start + 12, chunk.start + 8 + chunk.body.len());
        match (&chunk.id, chunk.body.get(..4)) {
            (b"avih", _) => {
                avi.has_header = true;
                avi.microseconds_per_frame = le32(chunk.body, 0).unwrap_or(0);
                avi.flags = le32(chunk.body, 12).unwrap_or(0);
                avi.total_frames = le32(chunk.body, 16).unwrap_or(0);
            }
            (b"LIST", Some(b"strl")) if movie.facts.tracks.len() < MAX_TRACKS => stream(bytes, inside, end, avi, movie),
            (b"LIST", Some(b"odml")) => {
                if let Some(header) = chunks(bytes, inside, end).find(|c| &c.id == b"dmlh") {
                    avi.extended_frames = le32(header.body, 0).unwrap_or(0);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A stream's header (`strh`) and format (`strf`).
fn stream(bytes: &[u8], from: usize, to: usize, avi: &mut Avi, movie: &mut Movie) {
    let mut described = track(TrackKind::Other, String::new());
    let mut length = 0;
    for chunk in chunks(bytes, from, to) {
        match &chunk.id {
            b"strh" => {
                described.kind = match chunk.body.get(..4) {
                    // `iavs` is DV, picture and sound in one.
                    Some(b"vids" | b"iavs") => TrackKind::Video,
                    Some(b"auds") => TrackKind::Audio,
                    _ => TrackKind::Other,
                };
                let (scale, rate) = (le32(chunk.body, 20).unwrap_or(0), le32(chunk.body, 24).unwrap_or(0));
                length = le32(chunk.body, 32).unwrap_or(0);
                described.samples = Some(u64::from(length));
                described.duration = seconds(f64::from(length) * f64::from(scale), f64::from(rate));
            }
            b"strf" if described.kind == TrackKind::Video => {
                described.width = le32(chunk.body, 4);
                // A negative height means rows from the top.
                described.height = le32(chunk.body, 8).map(|h| (h as i32).unsigned_abs());
                described.codec = match chunk.body.get(16..20) {
                    Some([0, 0, 0, 0]) => "BI_RGB".to_owned(),
                    Some(code) => four_cc(code),
                    None => String::new(),
                };
            }
            b"strf" if described.kind == TrackKind::Audio => {
                described.codec = le16(chunk.body, 0).map(|tag| format!("0x{tag:04x}")).unwrap_or_default();
            }
            _ => {}
        }
    }
    if described.kind == TrackKind::Video {
        avi.stated.push(length);
    }
    movie.facts.tracks.push(described);
}

/// Walks a media list, whose chunks are `NNxx` (stream, kind), records (`rec `) of them, indexes and junk.
fn media(bytes: &[u8], from: usize, to: usize, avi: &mut Avi, ctx: &Context, facts: &mut Facts) -> Result<(), Stop> {
    let to = to.min(bytes.len());
    let mut at = from;
    while at + 8 <= to {
        let mut list = chunks(bytes, at, to);
        let Some(chunk) = list.next() else {
            // Zeros at the end of a list are what recorders leave when they reserve space.
            if bytes.get(at..to).is_some_and(|rest| rest.iter().all(|b| *b == 0)) {
                return Ok(());
            }
            return Err(corrupt(facts, at, "movi"));
        };
        if chunk.missing > 0 && to < bytes.len() {
            return Err(corrupt(facts, at, four_cc(&chunk.id)));
        }
        match (&chunk.id, chunk.body.get(..4)) {
            // The records of a list stand in line with what follows it: stepping in flattens them.
            (b"LIST", Some(b"rec ")) => {
                at += 12;
                continue;
            }
            _ => avi.count(&chunk.id),
        }
        if (avi.pictures + avi.others).is_multiple_of(64) {
            ctx.budget.tick()?;
        }
        at = list.at.max(at + 8);
    }
    Ok(())
}

/// Checks that entries of `idx1` point at chunks: offsets count from `movi` or from the file's start.
fn index(bytes: &[u8], chunk: &Chunk<'_>, ctx: &Context, facts: &mut Facts) -> Result<(), Stop> {
    let Some(movi) = memchr::memmem::find(bytes.get(..chunk.start).unwrap_or_default(), b"movi") else { return Ok(()) };
    let (mut entries, mut from_list, mut from_file) = (0u64, 0u64, 0u64);
    for entry in chunk.body.chunks_exact(16) {
        if entries.is_multiple_of(1024) {
            ctx.budget.tick()?;
        }
        let (Some(id), Some(offset)) = (entry.get(..4), le32(entry, 8)) else { break };
        // `rec ` entries point at the list that holds them.
        if id == b"rec " {
            continue;
        }
        entries += 1;
        let points = |base: usize| base.checked_add(offset as usize).and_then(|at| bytes.get(at..at.checked_add(4)?)) == Some(id);
        from_list += u64::from(points(movi));
        from_file += u64::from(points(0));
    }
    let right = from_list.max(from_file);
    if (entries - right) * 100 > entries * ODD_INDEX_PERCENT {
        facts.push(Signal::new("video-index-odd").at(Place::byte(chunk.start as u64)).arg("element", "idx1"));
    }
    Ok(())
}

fn durations(avi: &Avi, movie: &mut Movie) {
    let frames = u64::from(avi.total_frames.max(avi.extended_frames)).max(avi.stated.iter().map(|n| u64::from(*n)).max().unwrap_or(0));
    let by_frames = seconds(frames as f64 * f64::from(avi.microseconds_per_frame), 1e6).filter(|d| *d > 0.0);
    let by_streams = movie.facts.tracks.iter().filter_map(|t| t.duration).reduce(f64::max).filter(|d| *d > 0.0);
    // The stream's own rate is finer than microseconds per frame.
    movie.facts.duration = by_streams.or(by_frames);
}
