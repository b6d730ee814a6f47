//! Still images, PNG and JPEG: is the whole picture there, is it readable, and what rides along.
//!
//! Goals:
//! 1. Structure first, pixels second: both formats are walked by parsers of ours ([`png`], [`jpeg`]) that
//!    verify every checksum or every entropy-coded block. General decoders are made to show *something*;
//!    a proof needs to know that *everything* is there.
//! 2. Dimensions before anything: past the pixel limit nothing is decoded, and nothing is ever held whole.
//! 3. Measure, do not judge: size, luma deviation and a difference hash are facts; blank and tiny pictures
//!    are signals with the figures in them.

mod exif;
pub(super) mod filter;
mod jpeg;
mod luma;
mod png;
mod scan;

use super::Context;
use super::media::{Stop, add_metadata};
use super::trailing::{Trailer, classify, second_format};
use crate::model::facts::{Detail, ImageFacts};
use crate::model::{Facts, Format, Place, Signal};

/// Neither side of a JPEG can be longer, and no viewer shows a longer PNG.
const MAX_SIDE: u32 = 65_535;
/// Luma deviation below which a picture is one flat colour: what remains is compression noise.
const BLANK_DEVIATION: f32 = 0.5;
/// Below this, at most some 0.01 % of a white page is ink: a stray line, not a screen.
const NEARLY_BLANK_DEVIATION: f32 = 1.5;
/// Fewer pixels than 200 × 150 hold no readable screen.
const SMALL_PIXELS: u64 = 200 * 150;
/// Nor does a picture with a side this short, however long the other.
const SMALL_SIDE: u32 = 32;

/// Describes a PNG or a JPEG; told apart by [`Facts::format`], else by the first byte.
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let mut image = ImageFacts::default();
    let is_jpeg = facts.format.map_or(bytes.first() == Some(&0xFF), |f| f == Format::Jpeg);
    let walked = if is_jpeg { jpeg::inspect(bytes, ctx, facts, &mut image) } else { png::inspect(bytes, ctx, facts, &mut image) };
    if let Err(Stop::Exceeded(exceeded)) = walked {
        exceeded.record(facts, &ctx.budget);
    }
    quality(&image, facts);
    facts.detail = Some(Detail::Image(image));
}

/// Signals about what the picture is worth, from its figures.
fn quality(image: &ImageFacts, facts: &mut Facts) {
    if let Some(gps) = &image.gps {
        facts.push(Signal::new("image-gps").arg("latitude", gps.latitude).arg("longitude", gps.longitude));
    }
    if image.animated {
        facts.push(Signal::new("image-animated"));
    }
    if !image.decoded {
        return;
    }
    let (width, height) = (image.width, image.height);
    // A picture of a few pixels is small before it is blank.
    match image.luma_deviation.filter(|_| width.min(height) >= SMALL_SIDE) {
        // White on transparent: there is a picture, on any other ground than a white page.
        Some(deviation) if deviation < BLANK_DEVIATION && image.luma_deviation_on_black.is_some_and(|d| d >= BLANK_DEVIATION) => {
            facts.push(Signal::new("image-only-on-dark"));
        }
        Some(deviation) if deviation < BLANK_DEVIATION => {
            facts.push(Signal::new("image-blank").arg("width", width).arg("height", height));
        }
        Some(deviation) if deviation < NEARLY_BLANK_DEVIATION => {
            facts.push(Signal::new("image-nearly-blank").arg("deviation", f64::from(deviation)));
        }
        _ => {}
    }
    if u64::from(width) * u64::from(height) < SMALL_PIXELS || width.min(height) < SMALL_SIDE {
        facts.push(Signal::new("image-too-small").arg("width", width).arg("height", height));
    }
}

/// Whether a picture of this size may not be decoded; says so.
fn too_many_pixels(width: u32, height: u32, ctx: &Context, facts: &mut Facts) -> bool {
    let limit = ctx.budget.limits().max_pixels;
    let over = u64::from(width) * u64::from(height) > limit || width > MAX_SIDE || height > MAX_SIDE;
    if over {
        facts.push(Signal::new("image-too-many-pixels").arg("width", width).arg("height", height).arg("limit", limit));
    }
    over
}

/// Says what stands after the picture, which ends at byte `end`, and whether the file opens as something else.
fn trailing(bytes: &[u8], end: usize, facts: &mut Facts) {
    let trailer = bytes.get(end..).unwrap_or_default();
    let place = Place::byte(end as u64);
    let kind = if trailer.is_empty() { Trailer::Padding } else { classify(trailer) };
    match kind {
        Trailer::Document(format) => facts.push(Signal::new("image-polyglot").at(place).arg("format", format.label())),
        _ if let Some(format) = second_format(bytes) => {
            facts.push(Signal::new("image-polyglot").arg("format", format.label()));
        }
        Trailer::Padding => {}
        Trailer::Camera(kind) => {
            facts.push(Signal::new("image-camera-trailer").at(place).arg("trailer", kind).arg("trailing_bytes", trailer.len()));
        }
        Trailer::Unknown => {
            facts.push(Signal::new("image-trailing-data").at(place).arg("trailing_bytes", trailer.len()));
        }
    }
}

#[cfg(test)]
mod tests;
