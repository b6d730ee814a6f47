//! FLV (Adobe, *Flash Video File Format Specification* 10.1; Enhanced RTMP for newer codecs): header, then
//! tags one after the other, each followed by its own size.

use super::number::{be16, be32};
use super::{Movie, Stop, add_metadata, corrupt, four_cc, seconds, track, truncated};
use crate::inspect::Context;
use crate::inspect::trailing::{Trailer, classify};
use crate::model::facts::{TrackFacts, TrackKind};
use crate::model::{Facts, Signal};

/// Bytes of a tag's header, and of the size that follows every tag.
const TAG_HEADER: usize = 11;
const BACK_POINTER: usize = 4;
/// `onMetaData` entries looked at.
const MAX_PROPERTIES: usize = 128;
/// A stated duration may exceed the last timestamp by this share and this many seconds (last frame, rounding).
const DURATION_SLACK: f64 = 1.1;
const DURATION_SLACK_SECONDS: f64 = 2.0;

/// What the tags showed.
#[derive(Debug, Default)]
struct Flv {
    video: Option<TrackFacts>,
    audio: Option<TrackFacts>,
    width: Option<u32>,
    height: Option<u32>,
    last_millisecond: u32,
    stated: Option<f64>,
    odd_pointers: u64,
    tags: u64,
    filtered: u64,
}

/// Walks the file.
pub(super) fn walk(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, movie: &mut Movie) -> Result<(), Stop> {
    "FLV".clone_into(&mut movie.facts.container);
    let header = bytes.get(..9).filter(|h| h.starts_with(b"FLV"));
    let Some(start) = header.and_then(|h| be32(h, 5)).map(|n| n as usize).filter(|n| (9..=4096).contains(n)) else {
        return Err(corrupt(facts, 0, "FLV"));
    };
    let mut flv = Flv::default();
    let mut at = start + BACK_POINTER;
    let walked = loop {
        ctx.budget.tick()?;
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(&first) = rest.first() else { break Ok(()) };
        let kind = first & 0x1F;
        if !matches!(kind, 8 | 9 | 18) || first & 0xC0 != 0 {
            // A known kind of trailer after tags is told as such by the caller; anything else is damage.
            let is_trailer = flv.tags > 0 && classify(rest) != Trailer::Unknown;
            break if is_trailer { Ok(()) } else { Err(corrupt(facts, at, "tag")) };
        }
        let Some(head) = rest.first_chunk::<TAG_HEADER>() else {
            break Err(truncated(facts, bytes.len(), "tag", (TAG_HEADER - rest.len()) as u64));
        };
        let size = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        let Some(data) = rest.get(TAG_HEADER..TAG_HEADER + size) else {
            break Err(truncated(facts, bytes.len(), "tag", (TAG_HEADER + size - rest.len()) as u64));
        };
        flv.tags += 1;
        // The filter bit announces encryption or other pre-processing (annex E.4.1).
        if first & 0x20 != 0 {
            flv.filtered += 1;
        } else {
            tag(kind, data, &mut flv, facts);
        }
        if kind != 18 {
            flv.last_millisecond = flv.last_millisecond.max(time);
        }
        if let Some(pointer) = be32(rest, TAG_HEADER + size) {
            flv.odd_pointers += u64::from(pointer as usize != TAG_HEADER + size);
        }
        at = at.saturating_add(TAG_HEADER + size + BACK_POINTER);
    };
    finish(flv, walked.is_ok(), facts, movie);
    movie.end = Some(at.min(bytes.len()));
    walked
}

/// Hands on what the tags showed; what does not agree is said only of a `whole` file.
fn finish(flv: Flv, whole: bool, facts: &mut Facts, movie: &mut Movie) {
    let last = seconds(f64::from(flv.last_millisecond), 1000.0);
    movie.has_media = flv.video.is_some() || flv.audio.is_some() || flv.filtered > 0;
    if flv.filtered > 0 {
        movie.encrypted.push("FLV".to_owned());
    }
    for mut described in [flv.video, flv.audio].into_iter().flatten() {
        described.duration = last;
        if described.kind == TrackKind::Video {
            (described.width, described.height) = (flv.width, flv.height);
        }
        movie.facts.tracks.push(described);
    }
    movie.facts.duration = last.filter(|d| *d > 0.0).or(flv.stated);
    if let (Some(stated), Some(last)) = (flv.stated, last)
        && stated > last * DURATION_SLACK + DURATION_SLACK_SECONDS
        && movie.has_media
        && whole
    {
        facts.push(Signal::new("video-index-odd").arg("element", "onMetaData"));
    } else if whole && flv.odd_pointers * 2 > flv.tags {
        facts.push(Signal::new("video-index-odd").arg("element", "PreviousTagSize"));
    }
}

fn tag(kind: u8, data: &[u8], flv: &mut Flv, facts: &mut Facts) {
    match (kind, data.first()) {
        (9, Some(first)) => {
            let described = flv.video.get_or_insert_with(|| track(TrackKind::Video, video_codec(*first, data)));
            described.samples = Some(described.samples.unwrap_or(0) + 1);
        }
        (8, Some(first)) => {
            let described = flv.audio.get_or_insert_with(|| track(TrackKind::Audio, audio_codec(*first, data)));
            described.samples = Some(described.samples.unwrap_or(0) + 1);
        }
        (18, _) => script(data, flv, facts),
        _ => {}
    }
}

fn video_codec(first: u8, data: &[u8]) -> String {
    if first & 0x80 != 0 {
        return data.get(1..5).map(four_cc).unwrap_or_default();
    }
    let code = match first & 15 {
        2 => "FLV1",
        3 => "FSV1",
        4 => "VP6 ",
        5 => "VP6A",
        6 => "FSV2",
        7 => "avc1",
        12 => "hvc1",
        other => return format!("flv-video-{other}"),
    };
    code.to_owned()
}

fn audio_codec(first: u8, data: &[u8]) -> String {
    let code = match first >> 4 {
        0 | 3 => "pcm",
        1 => "adpcm",
        2 | 14 => "mp3",
        4..=6 => "nellymoser",
        9 => return data.get(1..5).map(four_cc).unwrap_or_default(),
        10 => "mp4a",
        11 => "speex",
        other => return format!("flv-audio-{other}"),
    };
    code.to_owned()
}

/// `onMetaData`: a name, then one object or ECMA array of flat AMF0 values. Nested values end the reading:
/// what matters is written first and flat.
fn script(data: &[u8], flv: &mut Flv, facts: &mut Facts) {
    let Some(rest) = data.strip_prefix(b"\x02\x00\x0aonMetaData") else { return };
    let mut rest = match rest.first() {
        Some(8) => rest.get(5..),
        Some(3) => rest.get(1..),
        _ => None,
    }
    .unwrap_or_default();
    for _ in 0..MAX_PROPERTIES {
        let Some(length) = be16(rest, 0).map(usize::from) else { break };
        let (Some(name), Some(value)) = (rest.get(2..2 + length), rest.get(2 + length..)) else { break };
        let used = match value.first() {
            Some(0) => {
                let Some(number) = value.get(1..).and_then(<[u8]>::first_chunk).map(|b| f64::from_be_bytes(*b)) else { break };
                match name {
                    b"duration" => flv.stated = seconds(number, 1.0),
                    b"width" => flv.width = pixels(number),
                    b"height" => flv.height = pixels(number),
                    _ => {}
                }
                9
            }
            Some(1) => 2,
            Some(2) => {
                let Some(size) = be16(value, 1).map(usize::from) else { break };
                let Some(text) = value.get(3..3 + size) else { break };
                add_metadata(facts, &format!("video:{}", String::from_utf8_lossy(name)), &String::from_utf8_lossy(text));
                3 + size
            }
            Some(5 | 6) => 1,
            Some(11) => 11,
            _ => break,
        };
        rest = value.get(used..).unwrap_or_default();
    }
}

fn pixels(number: f64) -> Option<u32> {
    (1.0..=65_535.0).contains(&number).then_some(number as u32)
}
