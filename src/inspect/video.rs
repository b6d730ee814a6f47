//! Videos: is the container whole, is every sample it indexes there, can it be played, what rides along.
//!
//! Goals:
//! 1. Walk containers, never decode: a codec is a large attack surface, and the index of a container
//!    already tells an interrupted recording or a cut upload from a whole one. Where samples are made of
//!    length-prefixed units (H.264, HEVC), the chain of lengths is followed, which reveals damage inside.
//! 2. Judge a file by its samples, not by its box sizes: a box that claims too much while every sample is
//!    there plays everywhere; one sample out of the file does not.
//! 3. Every loop is bounded by bytes that exist in the file, not by counts it declares.

mod avi;
mod bmff;
mod codec;
mod flv;
mod nal;
mod samples;

use super::Context;
use super::media::{Stop, add_metadata};
use super::trailing::{Trailer, carried_format, classify};
use crate::model::facts::{Detail, TrackFacts, TrackKind, VideoFacts};
use crate::model::{Facts, Format, Place, Signal};

/// Below this many seconds a recording shows nothing that can be followed.
const SHORT_SECONDS: f64 = 1.0;
/// Bits per second under which a picture of [`LEGIBLE_PIXELS`] or more can hardly be legible.
const LOW_BIT_RATE: u64 = 10_000;
/// Fewer pixels than 480 × 270 do not show a screen legibly.
const LEGIBLE_PIXELS: u64 = 480 * 270;
/// Tracks described per file.
const MAX_TRACKS: usize = 64;

/// What a container says of itself, gathered by its walk.
#[derive(Debug, Default)]
struct Movie {
    facts: VideoFacts,
    /// Schemes of encrypted tracks (`cenc`), in file order.
    encrypted: Vec<String>,
    /// Whether any sample, frame or tag of pictures or sound is there.
    has_media: bool,
    /// Where the container ends, when the walk reached its end.
    end: Option<usize>,
}

/// Describes a video; the container is told from its first bytes, else from [`Facts::format`].
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let mut movie = Movie::default();
    let walked = match (bytes, facts.format) {
        ([b'F', b'L', b'V', ..], _) => flv::walk(bytes, ctx, facts, &mut movie),
        ([b'R', b'I', b'F', b'F', ..], _) => avi::walk(bytes, ctx, facts, &mut movie),
        (_, Some(Format::Flv)) => flv::walk(bytes, ctx, facts, &mut movie),
        (_, Some(Format::Avi)) => avi::walk(bytes, ctx, facts, &mut movie),
        _ => bmff::walk(bytes, ctx, facts, &mut movie),
    };
    movie.facts.bit_rate = bit_rate(bytes.len(), movie.facts.duration);
    match walked {
        Ok(()) => {
            quality(&movie, facts);
            // Every byte is looked at for a second document.
            match ctx.budget.work(bytes.len() as u64) {
                Ok(()) => trailing(bytes, movie.end, facts),
                Err(exceeded) => exceeded.record(facts, &ctx.budget),
            }
        }
        Err(Stop::Told) => encryption(&movie, facts),
        Err(Stop::Exceeded(exceeded)) => exceeded.record(facts, &ctx.budget),
    }
    facts.detail = Some(Detail::Video(movie.facts));
}

fn bit_rate(size: usize, duration: Option<f64>) -> Option<u64> {
    let seconds = duration.filter(|d| *d > 0.0)?;
    Some((size as f64 * 8.0 / seconds).round().min(1e15) as u64)
}

fn encryption(movie: &Movie, facts: &mut Facts) {
    if let Some(scheme) = movie.encrypted.first() {
        facts.push(Signal::new("video-encrypted").arg("scheme", scheme.as_str()).arg("tracks", movie.encrypted.len()));
    }
}

/// Signals about what the video is worth, from its figures.
fn quality(movie: &Movie, facts: &mut Facts) {
    if !movie.encrypted.is_empty() {
        // What cannot be seen is neither too small nor too short.
        return encryption(movie, facts);
    }
    let video = &movie.facts;
    if !movie.has_media {
        // Said once: a file without a single frame is neither too short nor without pictures.
        facts.push(Signal::new("video-no-media").arg("tracks", video.tracks.len()));
        return;
    }
    if facts.format == Some(Format::M4a) {
        return; // sound by nature: whether sound is accepted is not for here
    }
    let mut pictures = video.tracks.iter().filter(|t| t.kind == TrackKind::Video).peekable();
    if pictures.peek().is_none() {
        facts.push(Signal::new("video-no-video-track").arg("tracks", video.tracks.len()));
        return;
    }
    for track in pictures.clone().filter(|t| !codec::plays_everywhere(&t.codec)) {
        facts.push(Signal::new("video-codec-unusual").arg("codec", track.codec.as_str()).arg("name", codec::name(&track.codec)));
    }
    let largest = pictures.filter_map(|t| Some((t.width?, t.height?))).max_by_key(|(w, h)| u64::from(*w) * u64::from(*h));
    let pixels = largest.map(|(w, h)| u64::from(w) * u64::from(h));
    if let Some((width, height)) = largest.filter(|_| pixels.is_some_and(|p| p > 0 && p < LEGIBLE_PIXELS)) {
        facts.push(Signal::new("video-small-picture").arg("width", width).arg("height", height));
    }
    match video.duration {
        Some(seconds) if seconds <= 0.0 => facts.push(Signal::new("video-zero-duration")),
        Some(seconds) if seconds < SHORT_SECONDS => facts.push(Signal::new("video-too-short").arg("seconds", seconds)),
        _ => {}
    }
    if let Some(rate) = video.bit_rate.filter(|rate| *rate < LOW_BIT_RATE)
        && pixels.is_some_and(|p| p >= LEGIBLE_PIXELS)
    {
        facts.push(Signal::new("video-low-bit-rate").arg("bit_rate", rate));
    }
}

/// Says what stands after the container, which ends at byte `end`, and whether the file opens as something else.
fn trailing(bytes: &[u8], end: Option<usize>, facts: &mut Facts) {
    let trailer = end.and_then(|end| bytes.get(end..)).unwrap_or_default();
    let kind = if trailer.is_empty() { Trailer::Padding } else { classify(trailer) };
    let place = end.map_or_else(Place::default, |end| Place::byte(end as u64));
    if let Trailer::Document(format) = kind {
        facts.push(Signal::new("video-polyglot").at(place).arg("format", format.label()));
    } else if let Some(format) = carried_format(bytes) {
        facts.push(Signal::new("video-polyglot").arg("format", format.label()));
    } else if kind != Trailer::Padding {
        facts.push(Signal::new("video-trailing-data").at(place).arg("trailing_bytes", trailer.len()));
    }
}

/// Says that the container breaks its own rules at `byte`; `element` is the box, chunk or tag.
fn corrupt(facts: &mut Facts, byte: usize, element: impl Into<String>) -> Stop {
    facts.push(Signal::new("video-corrupt").at(Place::byte(byte as u64)).arg("element", element.into()));
    Stop::Told
}

/// Says that the container ends too early: `missing` bytes of `element` are not there.
fn truncated(facts: &mut Facts, byte: usize, element: impl Into<String>, missing: u64) -> Stop {
    let signal = Signal::new("video-truncated").at(Place::byte(byte as u64));
    facts.push(signal.arg("element", element.into()).arg("missing_bytes", missing));
    Stop::Told
}

/// A four-character code as text: Latin-1, so that `©nam` reads, control characters as `?`.
fn four_cc(code: &[u8]) -> String {
    code.iter().map(|b| if b.is_ascii_control() { '?' } else { char::from(*b) }).collect()
}

/// A new track of `kind`.
fn track(kind: TrackKind, codec: String) -> TrackFacts {
    TrackFacts { kind, codec, duration: None, width: None, height: None, samples: None }
}

/// Whole milliseconds are all that containers promise, and keep facts stable.
fn seconds(units: f64, per_second: f64) -> Option<f64> {
    let seconds = units / per_second;
    // Also refuses NaN and infinities; a hundred years is not a duration.
    (0.0..3.2e9).contains(&seconds).then(|| (seconds * 1000.0).round() / 1000.0)
}

/// Numbers at an offset that may not be there.
mod number {
    pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
        bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
    }
    pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }
    pub(super) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
        bytes.get(at..)?.first_chunk().map(|b| u64::from_be_bytes(*b))
    }
    pub(super) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
        bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
    }
    pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }
}

#[cfg(test)]
mod tests;
