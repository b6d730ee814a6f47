//! ISO base media files and QuickTime movies (ISO/IEC 14496-12; Apple, *QuickTime File Format*): mp4,
//! mov, m4v, m4a, 3gp, f4v; plain and fragmented.
//!
//! The boxes that matter stand at fixed depths, so the walk is one function per level and nothing recurses
//! by the file's will. Boxes not named here are passed over: unknown boxes are legal anywhere.

use std::collections::BTreeMap;

use flate2::read::ZlibDecoder;

use super::nal::Units;
use super::number::{be16, be32, be64};
use super::samples::{Sizes, Tables, following};
use super::{MAX_TRACKS, Movie, Stop, add_metadata, corrupt, four_cc, seconds, track, truncated};
use crate::inspect::Context;
use crate::inspect::budget::ReadError;
use crate::model::facts::TrackKind;
use crate::model::{Facts, Place, Signal};

/// A compressed movie box may inflate to this; real ones hold a few megabytes of tables.
const MAX_MOVIE_BYTES: u64 = 64 * 1024 * 1024;
/// Share of broken samples, in percent, from which a track is damaged and not merely odd.
const DAMAGED_PERCENT: u64 = 1;
/// Boxes of which each container holds at most one (14496-12 table 1).
const AT_MOST_ONE: [&[u8; 4]; 13] =
    [b"mvhd", b"tkhd", b"mdia", b"mdhd", b"hdlr", b"minf", b"stbl", b"stsd", b"stts", b"stsc", b"stsz", b"stco", b"ctts"];
/// Among them, those whose repetition costs the track: FFmpeg, and with it most players, refuses a second header or sample
/// description of a track, and so whatever holds one.
const REFUSED_TWICE: [&[u8; 4]; 7] = [b"tkhd", b"mdia", b"mdhd", b"minf", b"stbl", b"stsd", b"ctts"];
/// Tables that say which bytes are which sample: of two that differ, one player reads the first and another the last.
const SAMPLE_TABLES: [&[u8; 4]; 3] = [b"stsc", b"stsz", b"stco"];
/// Seconds between 1904-01-01, the epoch of movies, and 1970-01-01.
const EPOCH_1904: i64 = 2_082_844_800;

/// Boxes that stand at the top of files (14496-12 table 1, QuickTime, DASH).
const TOP_LEVEL: [&[u8; 4]; 20] = [
    b"ftyp", b"styp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"ssix", b"free", b"skip", b"wide", b"uuid", b"meta", b"udta", b"pnot",
    b"PICT", b"emsg", b"pdin", b"prft", b"junk",
];

/// One box: its kind and where its body stands.
#[derive(Debug, Clone, Copy)]
struct Bx<'a> {
    kind: [u8; 4],
    /// Offset of the header in the slice that was walked.
    start: usize,
    /// What of the body is there.
    body: &'a [u8],
    /// Bytes of the body that the file lacks.
    missing: u64,
}

/// Walks the boxes of `bytes`, one level. Ends at the first thing that is not a box.
struct Boxes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Boxes<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The body of the first box of this kind.
    fn find(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
        Self::of(bytes).find(|b| &b.kind == kind).map(|b| b.body)
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Bx<'a>;

    fn next(&mut self) -> Option<Bx<'a>> {
        let start = self.at;
        let rest = self.bytes.get(start..)?;
        let size = be32(rest, 0)?;
        let kind: [u8; 4] = *rest.get(4..)?.first_chunk()?;
        let (header, size) = match size {
            // To the end of what encloses it (4.2); a kind of zeros is padding.
            0 if kind == [0; 4] => return None,
            0 => (8usize, rest.len() as u64),
            1 => (16, be64(rest, 8)?),
            n => (8, u64::from(n)),
        };
        let length = size.checked_sub(header as u64)?;
        if !kind.iter().all(|b| matches!(b, 0x20..=0x7E | 0xA9)) {
            return None;
        }
        let body = rest.get(header..)?;
        let there = usize::try_from(length).unwrap_or(usize::MAX).min(body.len());
        self.at = start + header + there;
        Some(Bx { kind, start, body: body.get(..there)?, missing: length - there as u64 })
    }
}

/// The kinds of [`AT_MOST_ONE`] that one container has held so far, with the body of the first of each.
#[derive(Debug, Default)]
struct Once<'a>([Option<&'a [u8]>; AT_MOST_ONE.len()]);

impl<'a> Once<'a> {
    /// Notes the box `b`. A repeated box is a warning where players show the same film all the same.
    ///
    /// # Errors
    /// [`Stop::Told`] where they refuse the track, or may read different samples.
    fn check(&mut self, b: &Bx<'a>, facts: &mut Facts) -> Result<(), Stop> {
        // Two of these are two ways to write one table.
        let kind = match &b.kind {
            b"stz2" => b"stsz",
            b"co64" => b"stco",
            kind => kind,
        };
        let Some(index) = AT_MOST_ONE.iter().position(|one| *one == kind) else { return Ok(()) };
        let Some(seen) = self.0.get_mut(index) else { return Ok(()) };
        let Some(first) = *seen else {
            *seen = Some(b.body);
            return Ok(());
        };
        if REFUSED_TWICE.contains(&kind) || (SAMPLE_TABLES.contains(&kind) && first != b.body) {
            return Err(corrupt(facts, b.start, four_cc(&b.kind)));
        }
        tables_disagree(facts, Place::byte(b.start as u64), four_cc(&b.kind));
        Ok(())
    }
}

/// Says, once per file, that the index contradicts itself in `element` where players make do.
fn tables_disagree(facts: &mut Facts, place: Place, element: impl Into<String>) {
    if !facts.has("video-tables-disagree") {
        facts.push(Signal::new("video-tables-disagree").at(place).arg("element", element.into()));
    }
}

/// What one track said.
#[derive(Debug, Default)]
struct Track<'a> {
    id: u32,
    kind: Option<TrackKind>,
    timescale: u32,
    duration: u64,
    width: u32,
    height: u32,
    codec: String,
    encrypted: Option<String>,
    external: bool,
    /// Whether `stsd` holds an entry: without one nothing of the track can be decoded.
    has_entry: bool,
    tables: Tables<'a>,
    units: Option<Units>,
}

impl Track<'_> {
    /// Pictures or sound; chapters, timecodes and hints are not worth a rejection.
    fn is_media(&self) -> bool {
        matches!(self.kind, Some(TrackKind::Video | TrackKind::Audio))
    }
}

/// Defaults of a track's fragments (`trex`), and what its fragments added up to.
#[derive(Debug, Default, Clone, Copy)]
struct Fragments {
    duration: u32,
    size: u32,
    samples: u64,
    units: u64,
}

/// Walks the file.
pub(super) fn walk(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, movie: &mut Movie) -> Result<(), Stop> {
    let mut boxes = Boxes::of(bytes);
    let mut media: Vec<(u64, u64)> = Vec::new();
    let mut movie_box: Option<Bx<'_>> = None;
    let mut fragments: Vec<Bx<'_>> = Vec::new();
    let mut cut: Option<Bx<'_>> = None;
    let (mut first_media, mut second_file, mut any) = (None, None, false);
    while let Some(b) = boxes.next() {
        ctx.budget.tick()?;
        if any && b.missing > 0 && !TOP_LEVEL.contains(&&b.kind) {
            // Text or another document after the movie reads as a box of an odd name and an absurd size.
            boxes.at = b.start;
            break;
        }
        any = true;
        match &b.kind {
            // Players stop at the first movie: what follows a second file type is never shown.
            b"ftyp" if movie_box.is_some() && second_file.is_none() => second_file = Some(b.start),
            b"ftyp" | b"styp" if movie.facts.container.is_empty() => {
                movie.facts.container = four_cc(b.body.get(..4).unwrap_or_default());
            }
            b"moov" if movie_box.is_none() => movie_box = Some(b),
            b"mdat" => {
                first_media.get_or_insert(b.start);
                let end = boxes.at as u64;
                media.push((end - b.body.len() as u64, end));
            }
            b"moof" => {
                first_media.get_or_insert(b.start);
                fragments.push(b);
            }
            _ => {}
        }
        if b.missing > 0 {
            cut = Some(b);
        }
    }
    if movie.facts.container.is_empty() {
        "qt  ".clone_into(&mut movie.facts.container); // movies older than ftyp
    }
    if !any {
        return Err(corrupt(facts, 0, "ftyp"));
    }
    let Some(movie_box) = movie_box else {
        let there: u64 = media.iter().map(|(from, to)| to - from).sum();
        facts.push(Signal::new("video-index-missing").at(Place::byte(bytes.len() as u64)).arg("media_bytes", there));
        return Err(Stop::Told);
    };
    if movie_box.missing > 0 {
        return Err(truncated(facts, bytes.len(), "moov", movie_box.missing));
    }
    movie.facts.fast_start = Some(first_media.is_none_or(|media| movie_box.start < media));
    movie.end = second_file.or((cut.is_none()).then_some(boxes.at));
    // Boxes that go on after something that is no box: bytes were lost or overwritten in between.
    let rest = bytes.get(boxes.at..).unwrap_or_default();
    if [b"moof", b"mdat", b"moov"].iter().any(|kind| memchr::memmem::find(rest, *kind).is_some()) {
        return Err(corrupt(facts, boxes.at, "mdat"));
    }
    let told = facts.signals.len();
    if let Some(inflated) = compressed_movie(movie_box, ctx, facts)? {
        match Boxes::find(&inflated, b"moov") {
            Some(body) => described(body, bytes, &media, &fragments, cut, ctx, facts, movie)?,
            None => return Err(corrupt(facts, movie_box.start, "cmov")),
        }
    } else {
        described(movie_box.body, bytes, &media, &fragments, cut, ctx, facts, movie)?;
    }
    // A box that claims more than the file has, while no sample lacks a byte, is an encoder's slip.
    let is_told = facts.signals.get(told..).unwrap_or_default().iter().any(|s| s.code.as_str() == "video-truncated");
    if let Some(cut) = cut.filter(|_| !is_told) {
        let signal = Signal::new("video-box-overrun").at(Place::byte(cut.start as u64));
        facts.push(signal.arg("element", four_cc(&cut.kind)).arg("missing_bytes", cut.missing));
    }
    Ok(())
}

/// The movie box inside a compressed one (QuickTime, *Compressed Movie Resources*).
fn compressed_movie(movie_box: Bx<'_>, ctx: &mut Context, facts: &mut Facts) -> Result<Option<Vec<u8>>, Stop> {
    let Some(compressed) = Boxes::find(movie_box.body, b"cmov") else { return Ok(None) };
    let method = Boxes::find(compressed, b"dcom");
    let data = Boxes::find(compressed, b"cmvd").and_then(|body| body.get(4..));
    let (Some(b"zlib"), Some(data)) = (method.and_then(|m| m.get(..4)), data) else {
        return Err(corrupt(facts, movie_box.start, "cmov"));
    };
    let mut capped = std::io::Read::take(ZlibDecoder::new(data), MAX_MOVIE_BYTES + 1);
    match ctx.budget.read_to_end(&mut capped) {
        Ok(inflated) if inflated.len() as u64 > MAX_MOVIE_BYTES => {
            facts.push(Signal::new("video-index-bomb").arg("stored_bytes", data.len()).arg("limit_bytes", MAX_MOVIE_BYTES));
            Err(Stop::Told)
        }
        Ok(inflated) => Ok(Some(inflated)),
        Err(ReadError::Exceeded(exceeded)) => Err(exceeded.into()),
        Err(ReadError::Io(_)) => Err(corrupt(facts, movie_box.start, "cmov")),
    }
}

/// Reads a movie box, then lays its tracks and the file's fragments over the file.
#[allow(clippy::too_many_arguments)] // one call site; the walk's findings are what it is about
fn described(
    body: &[u8],
    bytes: &[u8],
    media: &[(u64, u64)],
    fragments: &[Bx<'_>],
    cut: Option<Bx<'_>>,
    ctx: &mut Context,
    facts: &mut Facts,
    movie: &mut Movie,
) -> Result<(), Stop> {
    let mut tracks: Vec<Track<'_>> = Vec::new();
    let mut defaults: BTreeMap<u32, Fragments> = BTreeMap::new();
    let mut header = None;
    let mut fragment_duration = None;
    let mut reference = false;
    let mut once = Once::default();
    for b in Boxes::of(body) {
        ctx.budget.tick()?;
        once.check(&b, facts)?;
        match &b.kind {
            b"mvhd" => header = times(b.body),
            b"trak" if tracks.len() < MAX_TRACKS => tracks.push(read_track(b.body, ctx, facts)?),
            b"mvex" => {
                for m in Boxes::of(b.body) {
                    ctx.budget.tick()?;
                    match &m.kind {
                        b"mehd" => {
                            fragment_duration = if m.body.first() == Some(&1) { be64(m.body, 4) } else { be32(m.body, 4).map(u64::from) }
                        }
                        b"trex" => {
                            let (Some(id), Some(duration), Some(size)) = (be32(m.body, 4), be32(m.body, 12), be32(m.body, 16)) else {
                                continue;
                            };
                            defaults.insert(id, Fragments { duration, size, ..Fragments::default() });
                        }
                        _ => {}
                    }
                }
            }
            b"rmra" | b"rmda" => reference = true,
            b"udta" => user_data(b.body, ctx, facts)?,
            b"meta" => metadata(b.body, ctx, facts)?,
            _ => {}
        }
    }
    if reference {
        facts.push(Signal::new("video-external-data").arg("element", "rmra"));
    }
    if tracks.is_empty() && !reference {
        let element = if header.is_none() { "moov" } else { "trak" };
        return Err(corrupt(facts, bytes.len().min(8), element));
    }
    let laid = lay_tracks(&tracks, bytes, media, ctx, facts, movie);
    let units: BTreeMap<u32, Units> = tracks.iter().filter_map(|t| Some((t.id, t.units?))).collect();
    let fragmented = lay_fragments(fragments, bytes, &units, &mut defaults, ctx, facts, movie);
    let timescale = header.as_ref().map_or(0, |h| h.timescale);
    describe_tracks(&tracks, &defaults, movie);
    if let Some(created) = header.as_ref().and_then(|h| created(h.created)) {
        add_metadata(facts, "video:created", &created);
    }
    let longest = movie.facts.tracks.iter().filter_map(|t| t.duration).reduce(f64::max);
    let stated = header.filter(|h| h.duration > 0).map(|h| h.duration).or(fragment_duration.filter(|d| *d > 0));
    movie.facts.duration = stated.and_then(|units| seconds(units as f64, f64::from(timescale))).or(longest);
    // Described as far as it can be read, then judged whole or not.
    laid?;
    fragmented?;
    undescribed_fragments(&tracks, &defaults, facts)?;
    // An initialisation segment is an index of nothing; where media was cut off, `truncated` said so.
    movie.has_media |= reference || tracks.iter().any(|t| t.external);
    if let Some(cut) = cut.filter(|_| !movie.has_media) {
        return Err(truncated(facts, bytes.len(), four_cc(&cut.kind), cut.missing));
    }
    Ok(())
}

/// Fragments hold samples only; how to decode them stands in the movie box (8.8.1). Without the sample description of their
/// track, or without the track, players show nothing.
fn undescribed_fragments(tracks: &[Track<'_>], fragments: &BTreeMap<u32, Fragments>, facts: &mut Facts) -> Result<(), Stop> {
    let mut filled = fragments.iter().filter(|(_, f)| f.samples > 0).map(|(id, _)| tracks.iter().find(|t| t.id == *id)).peekable();
    if filled.peek().is_none() {
        return Ok(());
    }
    let mut any_track = false;
    for track in filled.flatten() {
        any_track = true;
        if !track.has_entry && (track.is_media() || track.kind.is_none()) {
            return Err(corrupt(facts, 0, "stsd"));
        }
    }
    if any_track { Ok(()) } else { Err(corrupt(facts, 0, "trak")) }
}

/// Creation time, time scale and duration of a movie or media header.
struct Times {
    created: u64,
    timescale: u32,
    duration: u64,
}

fn times(body: &[u8]) -> Option<Times> {
    // All ones mean "unknown".
    if body.first() == Some(&1) {
        let duration = be64(body, 24).filter(|d| *d != u64::MAX).unwrap_or(0);
        return Some(Times { created: be64(body, 4)?, timescale: be32(body, 20)?, duration });
    }
    let duration = be32(body, 16).filter(|d| *d != u32::MAX).unwrap_or(0);
    Some(Times { created: u64::from(be32(body, 4)?), timescale: be32(body, 12)?, duration: u64::from(duration) })
}

fn created(since_1904: u64) -> Option<String> {
    let unix = i64::try_from(since_1904).ok()?.checked_sub(EPOCH_1904)?;
    // Some writers leave 0, some count from 1970: neither is a date of this.
    (unix > 0).then(|| jiff::Timestamp::from_second(unix).ok()).flatten().map(|t| t.to_string())
}

fn read_track<'a>(body: &'a [u8], ctx: &Context, facts: &mut Facts) -> Result<Track<'a>, Stop> {
    let mut track = Track::default();
    let mut once = Once::default();
    for b in Boxes::of(body) {
        ctx.budget.tick()?;
        once.check(&b, facts)?;
        match &b.kind {
            b"tkhd" => {
                let wide = b.body.first() == Some(&1);
                track.id = be32(b.body, if wide { 20 } else { 12 }).unwrap_or(0);
                // The last two numbers, 16.16 fixed point.
                let at = b.body.len().saturating_sub(8);
                track.width = be32(b.body, at).unwrap_or(0) >> 16;
                track.height = be32(b.body, at + 4).unwrap_or(0) >> 16;
            }
            b"mdia" => read_media(b.body, ctx, facts, &mut track)?,
            b"udta" => user_data(b.body, ctx, facts)?,
            _ => {}
        }
    }
    Ok(track)
}

fn read_media<'a>(body: &'a [u8], ctx: &Context, facts: &mut Facts, track: &mut Track<'a>) -> Result<(), Stop> {
    let mut information = None;
    let mut once = Once::default();
    for b in Boxes::of(body) {
        ctx.budget.tick()?;
        once.check(&b, facts)?;
        match &b.kind {
            b"mdhd" => {
                if let Some(times) = times(b.body) {
                    track.timescale = times.timescale;
                    track.duration = times.duration;
                }
            }
            b"hdlr" => {
                track.kind = Some(match b.body.get(8..12) {
                    Some(b"vide") => TrackKind::Video,
                    Some(b"soun") => TrackKind::Audio,
                    _ => TrackKind::Other,
                });
            }
            b"minf" => information = Some(b.body),
            _ => {}
        }
    }
    let Some(information) = information else { return Ok(()) };
    let mut once = Once::default();
    for b in Boxes::of(information) {
        ctx.budget.tick()?;
        once.check(&b, facts)?;
    }
    let references = Boxes::find(information, b"dinf").and_then(|d| Boxes::find(d, b"dref"));
    let Some(table) = Boxes::find(information, b"stbl") else { return Ok(()) };
    read_tables(table, references, ctx, facts, track)
}

fn read_tables<'a>(body: &'a [u8], references: Option<&[u8]>, ctx: &Context, facts: &mut Facts, track: &mut Track<'a>) -> Result<(), Stop> {
    // Entries follow a count; the count must fit, or the table was cut or overwritten.
    let entries = |body: &'a [u8], size: usize| -> Option<&'a [u8]> {
        let count = be32(body, 4)? as usize;
        body.get(8..8usize.checked_add(count.checked_mul(size)?)?)
    };
    let mut once = Once::default();
    for b in Boxes::of(body) {
        ctx.budget.tick()?;
        once.check(&b, facts)?;
        let sound = match &b.kind {
            b"stsd" => {
                track.has_entry = sample_entry(b.body, references, track);
                track.tables.descriptions = be32(b.body, 4).filter(|_| track.kind == Some(TrackKind::Video));
                track.has_entry || be32(b.body, 4) == Some(0)
            }
            b"stts" => entries(b.body, 8).map(|t| track.tables.stts = t).is_some(),
            b"stsc" => entries(b.body, 12).map(|t| track.tables.stsc = t).is_some(),
            b"stco" => entries(b.body, 4).map(|t| (track.tables.offsets, track.tables.wide_offsets) = (t, false)).is_some(),
            b"co64" => entries(b.body, 8).map(|t| (track.tables.offsets, track.tables.wide_offsets) = (t, true)).is_some(),
            b"stsz" => b.body.get(4..).and_then(Sizes::from_stsz).map(|s| track.tables.sizes = s).is_some(),
            b"stz2" => b.body.get(4..).and_then(Sizes::from_stz2).map(|s| track.tables.sizes = s).is_some(),
            _ => true,
        };
        if !sound {
            return Err(corrupt(facts, b.start, four_cc(&b.kind)));
        }
    }
    if !track.has_entry && track.tables.sizes.count() > 0 && track.is_media() {
        return Err(corrupt(facts, 0, "stsd"));
    }
    Ok(())
}

/// Reads the first sample entry of `stsd`; false when there is none.
fn sample_entry(body: &[u8], references: Option<&[u8]>, track: &mut Track<'_>) -> bool {
    let Some(first) = body.get(8..).and_then(|entries| Boxes::of(entries).next()) else { return false };
    let entry = first.body;
    track.codec = four_cc(&first.kind);
    if track.kind == Some(TrackKind::Video) {
        // A visual sample entry: 24 bytes after the header stand width and height (8.5.2).
        if let (Some(width), Some(height)) = (be16(entry, 24), be16(entry, 26)) {
            (track.width, track.height) = (u32::from(width), u32::from(height));
        }
    }
    let is_protected = matches!(&first.kind, b"encv" | b"enca" | b"enct" | b"encs" | b"encf" | b"encm" | b"drms" | b"drmi" | b"p608");
    // Sample entries are small and hold child boxes after a part whose length depends on the codec: the
    // protection boxes are found by name.
    let after = |name: &[u8], at: usize| {
        let found = memchr::memmem::find(entry, name)?;
        entry.get(found + 4 + at..found + 8 + at)
    };
    if is_protected && &first.kind != b"p608" || after(b"sinf", 0).is_some() && after(b"schm", 4).is_some() {
        let scheme = after(b"schm", 4).map_or_else(|| four_cc(&first.kind), four_cc);
        track.encrypted = Some(scheme);
        if let Some(original) = after(b"frma", 0) {
            track.codec = four_cc(original);
        }
    }
    track.units = Units::from_entry(entry).filter(|_| track.encrypted.is_none());
    // Where the samples are: in this file, unless the entry's data reference points out of it (8.7.2).
    let index = usize::from(be16(entry, 6).unwrap_or(0));
    let reference = references.and_then(|r| r.get(8..)).and_then(|list| Boxes::of(list).nth(index.checked_sub(1)?));
    track.external = reference.is_some_and(|r| be32(r.body, 0).is_some_and(|version_flags| version_flags & 1 == 0) && r.body.len() > 4);
    true
}

/// Lays the tracks' tables over the file and says what does not hold.
fn lay_tracks(
    tracks: &[Track<'_>],
    bytes: &[u8],
    media: &[(u64, u64)],
    ctx: &Context,
    facts: &mut Facts,
    movie: &mut Movie,
) -> Result<(), Stop> {
    let mut outcome = Ok(());
    for track in tracks {
        ctx.budget.tick()?;
        if let Some(scheme) = &track.encrypted {
            movie.encrypted.push(scheme.clone());
        }
        let stated = track.tables.sizes.count();
        if track.external {
            facts.push(Signal::new("video-external-data").arg("element", "dref"));
            continue;
        }
        if stated == 0 {
            continue;
        }
        let laid = track.tables.lay(bytes, media, track.units, &ctx.budget)?;
        movie.has_media |= track.is_media() && laid.samples > laid.outside;
        let at_second = |sample: u64| {
            let share = sample as f64 / stated.max(1) as f64;
            seconds(track.duration.max(track.tables.duration()) as f64 * share, f64::from(track.timescale))
        };
        let place = |sample| Place { second: at_second(sample), ..Place::default() };
        if laid.outside > 0 {
            // Every track of a cut file ends early; the file is said to be cut once, where it ends first.
            if outcome.is_ok() {
                let signal = Signal::new("video-truncated").at(place(laid.before_outside));
                facts.push(signal.arg("element", track.codec.as_str()).arg("missing_bytes", laid.missing));
            }
            outcome = Err(Stop::Told);
        } else if track.is_media() && (laid.samples == 0 || laid.astray * 2 > laid.samples) {
            // Sizes without chunks, or chunks that point at no media: the index is not this file's.
            outcome = Err(corrupt(facts, 0, if laid.samples == 0 { "stsc" } else { "stco" }));
        } else if let Some(table) = track.tables.lost(&laid).filter(|_| track.is_media()) {
            outcome = Err(corrupt(facts, 0, table));
        } else {
            if let Some(table) = track.tables.contradiction(&laid).filter(|_| track.is_media()) {
                tables_disagree(facts, Place::default(), table);
            }
            if laid.broken > 0 {
                facts.push(odd_frames(laid.broken, laid.followed, place(laid.before_broken)));
            }
        }
    }
    outcome
}

/// Says that samples are not what their format makes: a few may be an encoder's habit, more are damage.
fn odd_frames(broken: u64, followed: u64, place: Place) -> Signal {
    let signal = if broken * 100 / followed.max(1) >= DAMAGED_PERCENT {
        Signal::new("video-damaged-frames")
    } else {
        Signal::new("video-odd-frames")
    };
    signal.at(place).arg("frames", broken).arg("of", followed)
}

/// Adds up the movie fragments (8.8) and checks that their data is there.
fn lay_fragments(
    fragments: &[Bx<'_>],
    bytes: &[u8],
    units: &BTreeMap<u32, Units>,
    defaults: &mut BTreeMap<u32, Fragments>,
    ctx: &Context,
    facts: &mut Facts,
    movie: &mut Movie,
) -> Result<(), Stop> {
    let (mut followed, mut broken, mut first_broken) = (0u64, 0u64, None);
    for fragment in fragments {
        ctx.budget.tick()?;
        if fragment.missing > 0 {
            return Err(truncated(facts, bytes.len(), "moof", fragment.missing));
        }
        for traf in Boxes::of(fragment.body).filter(|b| &b.kind == b"traf") {
            ctx.budget.tick()?;
            let Some(header) = Boxes::find(traf.body, b"tfhd") else {
                return Err(corrupt(facts, fragment.start, "traf"));
            };
            let (Some(flags), Some(id)) = (be32(header, 0), be32(header, 4)) else {
                return Err(corrupt(facts, fragment.start, "tfhd"));
            };
            // Optional fields in this order: base offset (8 bytes), description, duration, size.
            let mut at = 8;
            let mut field = |flag: u32, length: usize| {
                (flags & flag != 0).then(|| {
                    at += length;
                    at - length
                })
            };
            let base = field(0x1, 8).and_then(|at| be64(header, at));
            field(0x2, 4);
            let duration = field(0x8, 4).and_then(|at| be32(header, at));
            let size = field(0x10, 4).and_then(|at| be32(header, at));
            if defaults.len() >= MAX_TRACKS && !defaults.contains_key(&id) {
                continue;
            }
            let track = defaults.entry(id).or_default();
            let (duration, size) = (duration.unwrap_or(track.duration), size.unwrap_or(track.size));
            let base = base.unwrap_or(fragment.start as u64);
            let mut next = base;
            for run in Boxes::of(traf.body).filter(|b| &b.kind == b"trun") {
                ctx.budget.tick()?;
                let Some(run) = Run::read(run.body, duration, size) else {
                    return Err(corrupt(facts, fragment.start, "trun"));
                };
                track.samples = track.samples.saturating_add(run.samples);
                track.units = track.units.saturating_add(run.units);
                movie.has_media |= run.samples > 0;
                // Without an offset the data follows the previous run's.
                let start = run.offset.map_or(next, |offset| base.saturating_add_signed(offset));
                next = start.saturating_add(run.bytes);
                if next > bytes.len() as u64 && run.samples > 0 && (run.offset.is_some() || next > base) {
                    return Err(truncated(facts, bytes.len(), "trun", next - bytes.len() as u64));
                }
                // Runs may overlap as the file likes.
                ctx.budget.work(run.samples.min(run.rows.len() as u64).saturating_mul(following(0)).saturating_add(run.bytes / 2))?;
                let Some(units) = units.get(&id).filter(|_| run.offset.is_some()) else { continue };
                let mut at = start;
                for size in run.sizes() {
                    let end = at.saturating_add(u64::from(size));
                    let sample = bytes.get(at as usize..end as usize).unwrap_or_default();
                    followed += 1;
                    if !units.chain_holds(sample) {
                        broken += 1;
                        first_broken.get_or_insert(at);
                    }
                    at = end;
                }
            }
        }
    }
    if let Some(byte) = first_broken {
        facts.push(odd_frames(broken, followed, Place::byte(byte)));
    }
    Ok(())
}

/// A track run: how many samples, how long, how many bytes.
struct Run<'a> {
    samples: u64,
    units: u64,
    bytes: u64,
    offset: Option<i64>,
    /// The rows of the run, and where in each its size stands.
    rows: std::slice::ChunksExact<'a, u8>,
    size_at: Option<usize>,
}

impl<'a> Run<'a> {
    fn read(body: &'a [u8], duration: u32, size: u32) -> Option<Self> {
        let (flags, count) = (be32(body, 0)?, be32(body, 4)?);
        let mut at = 8usize;
        let mut offset = None;
        if flags & 0x1 != 0 {
            offset = Some(i64::from(be32(body, at)? as i32));
            at += 4;
        }
        if flags & 0x4 != 0 {
            at += 4;
        }
        // Each row holds, where its flag is set: duration, size, flags, composition offset.
        let per_sample = (flags & 0xF00).count_ones() as usize * 4;
        let table = body.get(at..at.checked_add(per_sample.checked_mul(count as usize)?)?)?;
        let rows = table.chunks_exact(per_sample.max(1));
        let (duration_at, size_at) = match (flags & 0x100 != 0, flags & 0x200 != 0) {
            (true, true) => (Some(0), Some(4)),
            (true, false) => (Some(0), None),
            (false, true) => (None, Some(0)),
            (false, false) => (None, None),
        };
        // What does not differ between samples is multiplied, not looped, whatever the count.
        let total = |at: Option<usize>, same: u32| match at {
            Some(at) => rows.clone().map(|row| u64::from(be32(row, at).unwrap_or(0))).sum(),
            None => u64::from(count) * u64::from(same),
        };
        let (units, bytes) = (total(duration_at, duration), total(size_at, size));
        Some(Self { samples: u64::from(count), units, bytes, offset, rows, size_at })
    }

    /// Sizes of the samples, where the run states them one by one.
    fn sizes(&self) -> impl Iterator<Item = u32> {
        let at = self.size_at;
        self.rows.clone().filter_map(move |row| be32(row, at?))
    }
}

fn describe_tracks(tracks: &[Track<'_>], fragments: &BTreeMap<u32, Fragments>, movie: &mut Movie) {
    for t in tracks {
        let kind = t.kind.unwrap_or(TrackKind::Other);
        let mut described = track(kind, t.codec.clone());
        let added = fragments.get(&t.id).copied().unwrap_or_default();
        let units = t.duration.max(t.tables.duration()).max(added.units);
        described.duration = seconds(units as f64, f64::from(t.timescale));
        described.samples = Some(t.tables.sizes.count().saturating_add(added.samples));
        if kind == TrackKind::Video {
            (described.width, described.height) = (Some(t.width), Some(t.height));
        }
        movie.facts.tracks.push(described);
    }
}

/// User data: texts whose kind starts with `©`, iTunes metadata, and places.
fn user_data(body: &[u8], ctx: &Context, facts: &mut Facts) -> Result<(), Stop> {
    for b in Boxes::of(body) {
        ctx.budget.tick()?;
        match &b.kind {
            [0xA9, b'x', b'y', b'z'] => place_found(&text_of(b.body), facts),
            [0xA9, ..] => add_metadata(facts, &format!("video:{}", four_cc(&b.kind)), &text_of(b.body)),
            b"meta" => metadata(b.body, ctx, facts)?,
            b"loci" => place_found(&location_information(b.body).unwrap_or_default(), facts),
            _ => {}
        }
    }
    Ok(())
}

/// International text: size, language, then the text (QuickTime, *User Data Text Strings*).
fn text_of(body: &[u8]) -> String {
    let length = usize::from(be16(body, 0).unwrap_or(0));
    let text = body.get(4..).unwrap_or_default();
    String::from_utf8_lossy(text.get(..length.min(text.len())).unwrap_or_default()).into_owned()
}

/// Metadata as Apple writes it: names in `keys`, values in `ilst` by index; or `ilst` alone, by kind.
fn metadata(body: &[u8], ctx: &Context, facts: &mut Facts) -> Result<(), Stop> {
    // In ISO files `meta` has a version and flags, in QuickTime it has none.
    let body = if body.get(4..8) == Some(b"hdlr") { body } else { body.get(4..).unwrap_or_default() };
    let keys: Vec<&[u8]> = Boxes::find(body, b"keys")
        .and_then(|k| k.get(8..))
        .map(|list| Boxes::of(list).take(256).map(|b| b.body).collect())
        .unwrap_or_default();
    let Some(list) = Boxes::find(body, b"ilst") else { return Ok(()) };
    let mut rest = list;
    // Kinds of items are numbers here, not four characters, so the list is split by hand.
    while let (Some(size), Some(kind)) = (be32(rest, 0), rest.get(4..8)) {
        ctx.budget.tick()?;
        let Some(item) = rest.get(8..size as usize) else { break };
        rest = rest.get(size as usize..).unwrap_or_default();
        let index = be32(kind, 0).and_then(|n| usize::try_from(n).ok()).and_then(|n| n.checked_sub(1));
        let name = match index.and_then(|i| keys.get(i)) {
            Some(key) => String::from_utf8_lossy(key).into_owned(),
            None => four_cc(kind),
        };
        let Some(data) = Boxes::find(item, b"data") else { continue };
        // Type 1 is UTF-8; numbers and pictures are not kept.
        if be32(data, 0) == Some(1) {
            let value = String::from_utf8_lossy(data.get(8..).unwrap_or_default()).into_owned();
            if name.contains("location.ISO6709") || name == "©xyz" {
                place_found(&value, facts);
            } else {
                add_metadata(facts, &format!("video:{name}"), &value);
            }
        }
    }
    Ok(())
}

/// Location information (3GPP TS 26.244, 8.15): name, role, longitude and latitude in 16.16 degrees.
fn location_information(body: &[u8]) -> Option<String> {
    let named = body.get(6..)?;
    let after = if named.starts_with(&[0xFE, 0xFF]) {
        named.chunks_exact(2).position(|c| c == [0, 0])?.checked_mul(2)?.checked_add(2)?
    } else {
        memchr::memchr(0, named)? + 1
    };
    let degrees = |at: usize| be32(named, after + at).map(|n| f64::from(n as i32) / 65_536.0);
    let (longitude, latitude) = (degrees(1)?, degrees(5)?);
    // Muxers write an empty location along with an empty name.
    (longitude != 0.0 || latitude != 0.0).then(|| format!("{latitude:+.4}{longitude:+.4}"))
}

fn place_found(position: &str, facts: &mut Facts) {
    if !position.trim().is_empty() && !facts.has("video-gps") {
        facts.push(Signal::new("video-gps").arg("position", position.trim_end_matches('/')));
    }
}
