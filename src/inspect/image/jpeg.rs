//! JPEG (ITU-T T.81, ISO/IEC 10918-1): every segment is walked and every entropy-coded block is decoded.
//!
//! Goals:
//! 1. Say whether the *whole* picture is there. Common decoders paint what is missing in grey and report
//!    success, so a truncated proof would pass; here the Huffman data of every scan, baseline or
//!    progressive, must make exactly the blocks that the frame declares ([`super::scan`]).
//! 2. Hold no picture in memory: the DC coefficients that the check decodes on its way are the picture at
//!    1/8 of its size, enough for brightness and the difference hash.
//! 3. Be as strict as the reference decoder's errors and as lenient as its warnings: what every viewer
//!    shows without loss (stray bytes, a missing end marker) is a warning.

use super::luma::{Luma, luma_of};
use super::scan::{Component, DecodeError, Frame, HuffmanTable, Progress, Scan, ScanComponent};
use super::{Stop, add_metadata, exif, too_many_pixels, trailing};
use crate::inspect::Context;
use crate::model::facts::ImageFacts;
use crate::model::{Facts, Place, Signal};

/// Scans of one picture. Encoders write about ten; the reference decoder's own guard is 500.
const MAX_SCANS: u32 = 500;
/// Zero bytes between segments are padding up to this; more, or anything else, is damage.
/// Bytes of no known use left over in a scan: encoders leave a few, damaged data leaves many.
const MAX_LEFT_OVER_IN_SCANS: u64 = 16;
/// Blocks whose average is out of the range of any pixel: rounding makes none, damage makes many.
const MAX_IMPOSSIBLE_BLOCKS: u64 = 4;

/// Markers (table B.1).
mod marker {
    pub(super) const TEM: u8 = 0x01;
    pub(super) const DHT: u8 = 0xC4;
    pub(super) const JPG: u8 = 0xC8;
    pub(super) const DAC: u8 = 0xCC;
    pub(super) const RST0: u8 = 0xD0;
    pub(super) const RST7: u8 = 0xD7;
    pub(super) const SOI: u8 = 0xD8;
    pub(super) const EOI: u8 = 0xD9;
    pub(super) const SOS: u8 = 0xDA;
    pub(super) const DQT: u8 = 0xDB;
    pub(super) const DRI: u8 = 0xDD;
    pub(super) const APP0: u8 = 0xE0;
    pub(super) const APP1: u8 = 0xE1;
    pub(super) const APP14: u8 = 0xEE;
    pub(super) const COM: u8 = 0xFE;
}

/// What the segments said so far.
#[derive(Default)]
struct State {
    frame: Option<Frame>,
    quantization: [Option<u16>; 4],
    dc_tables: [Option<Box<HuffmanTable>>; 4],
    ac_tables: [Option<Box<HuffmanTable>>; 4],
    restart_interval: u32,
    scans: u32,
    jfif: bool,
    adobe_transform: Option<u8>,
    stray: u64,
    left_over: u64,
}

/// Describes a JPEG.
pub(super) fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, image: &mut ImageFacts) -> Result<(), Stop> {
    let mut state = State::default();
    let end = walk(bytes, &mut state, ctx, facts, image)?;
    let Some(frame) = state.frame.as_ref() else {
        if end.is_none() {
            return tell(facts, Signal::new("image-truncated").arg("percent", 0));
        }
        return tell(facts, Signal::new("image-element-missing").arg("element", "SOF"));
    };
    if state.scans == 0 {
        if end.is_none() {
            return tell(facts, Signal::new("image-truncated").arg("percent", 0));
        }
        return tell(facts, Signal::new("image-element-missing").arg("element", "SOS"));
    }
    let complete = if end.is_some() { frame.is_started() } else { frame.is_complete() };
    if !complete {
        // Scans are missing as a whole: the file was cut between two of them.
        return tell(facts, Signal::new("image-truncated").arg("percent", frame.percent_of_scans()));
    }
    if state.left_over > MAX_LEFT_OVER_IN_SCANS || frame.impossible_blocks(&state.quantization) > MAX_IMPOSSIBLE_BLOCKS {
        let lines = u64::from(image.height);
        return tell(facts, Signal::new("image-corrupt").arg("line", lines).arg("lines", lines));
    }
    image.decoded = true;
    brightness(frame, &state, image);
    if state.stray + state.left_over > 0 {
        facts.push(Signal::new("image-stray-bytes").arg("element", "JPEG"));
    }
    match end {
        Some(end) => trailing(bytes, end, facts),
        None => facts.push(Signal::new("image-unterminated").at(Place::byte(bytes.len() as u64)).arg("element", "EOI")),
    }
    Ok(())
}

fn tell(facts: &mut Facts, signal: Signal) -> Result<(), Stop> {
    facts.push(signal);
    Err(Stop::Told)
}

/// Walks the segments; returns where the picture ends (after EOI), or `None` when the file ends first.
fn walk(bytes: &[u8], state: &mut State, ctx: &mut Context, facts: &mut Facts, image: &mut ImageFacts) -> Result<Option<usize>, Stop> {
    if !bytes.starts_with(&[0xFF, marker::SOI]) {
        facts.push(Signal::new("image-signature-damaged").at(Place::byte(0)));
        return Err(Stop::Told);
    }
    let mut at = 2usize;
    loop {
        ctx.budget.tick()?;
        let rest = bytes.get(at..).unwrap_or_default();
        // Bytes that belong to no segment: libjpeg, and so every viewer, warns and goes on at the next marker.
        let stray = memchr::memchr(0xFF, rest).unwrap_or(rest.len());
        state.stray += stray as u64;
        at += stray;
        // Any number of fill bytes 0xFF may precede a marker (B.1.1.2).
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(fill) = rest.iter().position(|b| *b != 0xFF) else { return Ok(None) };
        let Some(&code) = rest.get(fill) else { return Ok(None) };
        let place = Place::byte((at + fill).saturating_sub(1) as u64);
        at += fill + 1;
        match code {
            marker::EOI => return Ok(Some(at)),
            // `FF 00` is no marker but the escape of entropy-coded data.
            0x00 | marker::TEM | marker::RST0..=marker::RST7 => {
                state.stray += 2;
                continue;
            }
            marker::SOI => {
                facts.push(Signal::new("image-element-misplaced").at(place).arg("element", name_of(code)));
                return Err(Stop::Told);
            }
            _ => {}
        }
        let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk).map(|l| usize::from(u16::from_be_bytes(*l))) else {
            return Ok(None);
        };
        if length < 2 {
            facts.push(Signal::new("image-element-invalid").at(place).arg("element", name_of(code)));
            return Err(Stop::Told);
        }
        let Some(data) = bytes.get(at + 2..at + length) else { return Ok(None) };
        at += length;
        match code {
            marker::SOS => at = scan(bytes, at, data, place, state, ctx, facts, image)?,
            marker::DAC => return unsupported(name_of(code), place, facts),
            _ => {
                if !segment(code, data, state, ctx, facts, image)? {
                    facts.push(Signal::new("image-element-invalid").at(place).arg("element", name_of(code)));
                    return Err(Stop::Told);
                }
            }
        }
    }
}

fn unsupported<T>(coding: String, place: Place, facts: &mut Facts) -> Result<T, Stop> {
    facts.push(Signal::new("image-unsupported-coding").at(place).arg("coding", coding));
    Err(Stop::Told)
}

/// The name of a marker as the standard writes it.
fn name_of(code: u8) -> String {
    match code {
        marker::DHT => "DHT".to_owned(),
        marker::DAC => "DAC".to_owned(),
        marker::SOI => "SOI".to_owned(),
        marker::SOS => "SOS".to_owned(),
        marker::DQT => "DQT".to_owned(),
        marker::DRI => "DRI".to_owned(),
        marker::COM => "COM".to_owned(),
        0xC0..=0xCF => format!("SOF{}", code - 0xC0),
        0xE0..=0xEF => format!("APP{}", code - 0xE0),
        _ => format!("FF{code:02X}"),
    }
}

/// Reads one segment other than SOS; false when it breaks its own rules.
fn segment(code: u8, data: &[u8], state: &mut State, ctx: &Context, facts: &mut Facts, image: &mut ImageFacts) -> Result<bool, Stop> {
    match code {
        marker::DHT => Ok(huffman_tables(data, state)),
        marker::DQT => Ok(quantization_tables(data, state)),
        marker::DRI => {
            let Ok(interval) = <[u8; 2]>::try_from(data) else { return Ok(false) };
            state.restart_interval = u32::from(u16::from_be_bytes(interval));
            Ok(true)
        }
        marker::JPG => Ok(false),
        0xC0..=0xCF => frame(code, data, state, ctx, facts, image),
        marker::APP0 => {
            state.jfif |= data.starts_with(b"JFIF\0");
            Ok(true)
        }
        marker::APP1 => {
            if let Some(tiff) = data.strip_prefix(b"Exif\0").and_then(|d| d.get(1..)) {
                exif::read(tiff, facts, image);
            } else if let Some(packet) = data.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
                exif::xmp(packet, image);
            }
            Ok(true)
        }
        marker::APP14 => {
            if data.starts_with(b"Adobe") {
                state.adobe_transform = data.get(11).copied();
            }
            Ok(true)
        }
        marker::COM => {
            add_metadata(facts, "jpeg:comment", &String::from_utf8_lossy(data));
            Ok(true)
        }
        _ => Ok(true),
    }
}

fn huffman_tables(mut data: &[u8], state: &mut State) -> bool {
    while let Some((&selector, rest)) = data.split_first() {
        let (class, id) = (selector >> 4, usize::from(selector & 15));
        let Some((counts, rest)) = rest.split_first_chunk::<16>() else { return false };
        let total: usize = counts.iter().map(|c| usize::from(*c)).sum();
        let Some(symbols) = rest.get(..total) else { return false };
        let Some(table) = HuffmanTable::new(counts, symbols) else { return false };
        // A DC symbol is a number of bits, at most 15 for the 12-bit process (F.1.2.1.2).
        let slot = match class {
            0 if symbols.iter().all(|s| *s <= 15) => state.dc_tables.get_mut(id),
            1 => state.ac_tables.get_mut(id),
            _ => None,
        };
        let Some(slot) = slot else { return false };
        *slot = Some(Box::new(table));
        data = rest.get(total..).unwrap_or_default();
    }
    true
}

fn quantization_tables(mut data: &[u8], state: &mut State) -> bool {
    while let Some((&selector, rest)) = data.split_first() {
        let bytes = match selector >> 4 {
            0 => 64,
            1 => 128,
            _ => return false,
        };
        let Some(table) = rest.get(..bytes) else { return false };
        let Some(slot) = state.quantization.get_mut(usize::from(selector & 15)) else { return false };
        // Only the step of the DC coefficient is needed here.
        *slot = Some(if bytes == 64 { u16::from(table[0]) } else { u16::from_be_bytes([table[0], table[1]]) });
        data = rest.get(bytes..).unwrap_or_default();
    }
    true
}

/// The frame header (B.2.2).
fn frame(code: u8, data: &[u8], state: &mut State, ctx: &Context, facts: &mut Facts, image: &mut ImageFacts) -> Result<bool, Stop> {
    let Some((head, list)) = data.split_first_chunk::<6>() else { return Ok(false) };
    let (precision, count) = (head[0], usize::from(head[5]));
    let height = u16::from_be_bytes([head[1], head[2]]);
    let width = u16::from_be_bytes([head[3], head[4]]);
    if state.frame.is_some() || width == 0 || height == 0 || !(1..=4).contains(&count) || list.len() != count * 3 {
        return Ok(false);
    }
    image.width = u32::from(width);
    image.height = u32::from(height);
    // Baseline, extended sequential and progressive Huffman at 8 bits are what viewers show; lossless,
    // hierarchical and arithmetic processes, and 12 bits, are other worlds.
    if !matches!(code, 0xC0..=0xC2) || precision != 8 {
        return unsupported(format!("{}, {precision} bits", name_of(code)), Place::default(), facts);
    }
    if too_many_pixels(image.width, image.height, ctx, facts) {
        return Err(Stop::Told);
    }
    let mut components = Vec::with_capacity(count);
    for c in list.chunks_exact(3) {
        let (id, h, v, table) = (c[0], c[1] >> 4, c[1] & 15, c[2]);
        if !(1..=4).contains(&h) || !(1..=4).contains(&v) || table > 3 {
            return Ok(false);
        }
        components.push((id, h, v, table));
    }
    state.frame = Some(Frame::new(u32::from(width), u32::from(height), code == 0xC2, &components));
    Ok(true)
}

/// Reads a scan header (B.2.3) and decodes its data, which starts at `at`; returns where the data ends.
#[allow(clippy::too_many_arguments)] // the header needs what the segment walk knows; a struct would only rename it
fn scan(
    bytes: &[u8],
    at: usize,
    header: &[u8],
    place: Place,
    state: &mut State,
    ctx: &mut Context,
    facts: &mut Facts,
    image: &ImageFacts,
) -> Result<usize, Stop> {
    let missing = |element: &str| Signal::new("image-element-missing").at(place.clone()).arg("element", element);
    state.scans += 1;
    if state.scans > MAX_SCANS {
        facts.push(Signal::new("image-too-many-scans").at(place).arg("limit", MAX_SCANS));
        return Err(Stop::Told);
    }
    let Some(frame) = state.frame.as_mut() else {
        facts.push(missing("SOF"));
        return Err(Stop::Told);
    };
    let scan = match parse_scan(header, frame) {
        Some(scan) => scan,
        None => {
            facts.push(Signal::new("image-element-invalid").at(place).arg("element", "SOS"));
            return Err(Stop::Told);
        }
    };
    for component in &scan.components {
        let quantized = frame.components.get(component.index).and_then(|c| state.quantization.get(usize::from(c.table)));
        if !matches!(quantized, Some(Some(_))) {
            facts.push(missing("DQT"));
            return Err(Stop::Told);
        }
    }
    let data = bytes.get(at..).unwrap_or_default();
    match scan.decode(data, frame, &state.dc_tables, &state.ac_tables, state.restart_interval, &ctx.budget) {
        Ok(Progress { used, left_over, .. }) => {
            state.left_over += left_over;
            Ok(at + used)
        }
        Err(DecodeError::Exceeded(exceeded)) => Err(exceeded.into()),
        Err(DecodeError::NoTable) => {
            facts.push(missing("DHT"));
            Err(Stop::Told)
        }
        Err(DecodeError::Short { done, total, ended }) => {
            let percent = done * 100 / total.max(1);
            // Every scan but the first refines a picture that is already there in part.
            let percent = if frame.progressive { frame.percent_of_scans() } else { percent };
            facts.push(Signal::new("image-truncated").at(Place::byte(if ended { bytes.len() } else { at } as u64)).arg("percent", percent));
            Err(Stop::Told)
        }
        Err(DecodeError::Damaged { done, total }) => {
            let lines = u64::from(image.height);
            let line = (done * lines / total.max(1) + 1).min(lines.max(1));
            facts.push(Signal::new("image-corrupt").arg("line", line).arg("lines", lines));
            Err(Stop::Told)
        }
    }
}

fn parse_scan(header: &[u8], frame: &Frame) -> Option<Scan> {
    let (&count, rest) = header.split_first()?;
    let count = usize::from(count);
    if !(1..=4).contains(&count) || rest.len() != count * 2 + 3 {
        return None;
    }
    let mut components: Vec<ScanComponent> = Vec::with_capacity(count);
    for pair in rest.get(..count * 2)?.chunks_exact(2) {
        let index = frame.components.iter().position(|c| c.id == pair[0])?;
        let (dc, ac) = (usize::from(pair[1] >> 4), usize::from(pair[1] & 15));
        if dc > 3 || ac > 3 || components.iter().any(|c| c.index == index) {
            return None;
        }
        components.push(ScanComponent { index, dc, ac });
    }
    let &[start, end, approximation] = rest.get(count * 2..)?.first_chunk::<3>()?;
    let (high, low) = (approximation >> 4, approximation & 15);
    if frame.progressive {
        let spectrum = if start == 0 { end == 0 } else { start <= end && end <= 63 && count == 1 };
        if !spectrum || low > 13 || (high != 0 && high != low + 1) {
            return None;
        }
        Some(Scan { components, start, end, high, low })
    } else {
        // Baseline writes 0, 63, 0; decoders ignore what else stands there.
        Some(Scan { components, start: 0, end: 63, high: 0, low: 0 })
    }
}

/// How the components make a colour.
#[derive(Clone, Copy)]
enum Colour {
    FirstIsLuma,
    Rgb,
    /// Inks; Adobe writes them inverted. With `ycc`, the first three are a YCbCr picture.
    Inks {
        inverted: bool,
        ycc: bool,
    },
}

/// Brightness from the DC coefficients: each is 8 × the mean of its block, level-shifted by 128 (A.3.1, A.3.3).
fn brightness(frame: &Frame, state: &State, image: &mut ImageFacts) {
    let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
    let colour = match (frame.components.len(), state.adobe_transform) {
        (3, Some(0)) => Colour::Rgb,
        (3, None) if !state.jfif && ids == *b"RGB" => Colour::Rgb,
        (4, transform) => Colour::Inks { inverted: transform.is_some(), ycc: transform == Some(2) },
        _ => Colour::FirstIsLuma,
    };
    let (across, down) = (frame.width.div_ceil(8), frame.height.div_ceil(8));
    let mean = |component: &Component, x: u32, y: u32| -> u8 {
        let step = state.quantization.get(usize::from(component.table)).copied().flatten().unwrap_or(1);
        let dc = i32::from(component.dc_at(frame.scaled_x(component, x), frame.scaled_y(component, y)));
        (128 + (dc * i32::from(step) + 4).div_euclid(8)).clamp(0, 255) as u8
    };
    let mut luma = Luma::new(across, down);
    for y in 0..down {
        let row: Vec<u8> = (0..across)
            .map(|x| match (colour, frame.components.as_slice()) {
                (Colour::Rgb, [r, g, b]) => luma_of(mean(r, x, y), mean(g, x, y), mean(b, x, y)),
                (Colour::Inks { inverted, ycc }, [c, m, y_ink, k]) => {
                    let ink = |component| if inverted { mean(component, x, y) } else { 255 - mean(component, x, y) };
                    let paper = if ycc { mean(c, x, y) } else { luma_of(ink(c), ink(m), ink(y_ink)) };
                    (u32::from(paper) * u32::from(ink(k)) / 255) as u8
                }
                (_, [first, ..]) => mean(first, x, y),
                (_, []) => 0,
            })
            .collect();
        luma.add_row(y, 0, 1, &row);
    }
    if let Some(stats) = luma.finish() {
        image.luma_deviation = Some(stats.deviation);
        image.perceptual_hash = stats.hash;
    }
}
