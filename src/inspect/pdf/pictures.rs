//! Pictures inside a PDF (ISO 32000-2 §8.9), judged as pictures deposited alone are: whether they are all there, and whether
//! they decode to more than any viewer can hold.
//!
//! A scanned document *is* its pictures: where the data of one ends early, a viewer paints the rest white or grey and says
//! nothing.

use super::file::File;
use super::filters::{self, Outcome};
use super::object::{Dict, Object, Stream};
use crate::inspect::Context;
use crate::inspect::budget::Exceeded;
use crate::model::{Facts, Format, Place, Signal};

/// Pixels of all pictures that are decoded to see whether they are whole; the rest is trusted. Some 60 scanned pages.
const MAX_PIXELS: u64 = 500_000_000;
/// Bits of one component at most (§8.9.5.1).
const MAX_BITS: i64 = 16;

/// Looks at the pictures among the objects `nums`; what is lost goes to the file's damage, what is too large to `facts`.
///
/// # Errors
/// [`Exceeded`] when the budget ends.
pub fn check(file: &mut File, nums: &[u32], ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
    let mut pixels_left = MAX_PIXELS;
    for num in nums {
        ctx.budget.tick()?;
        let object = file.get(*num, &mut ctx.budget)?;
        let Some(stream) = object.stream() else { continue };
        let side = |value: &Object| value.int().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let width = side(&*file.entry(&stream.dict, "Width", &mut ctx.budget)?);
        let height = side(&*file.entry(&stream.dict, "Height", &mut ctx.budget)?);
        let (pixels, limit) = (width.saturating_mul(height), ctx.budget.limits().max_pixels);
        if pixels > limit {
            let signal = Signal::new("pdf-image-too-many-pixels").at(Place::part(format!("{num} 0 R")));
            facts.push(signal.arg("width", width).arg("height", height).arg("limit", limit));
            continue;
        }
        if pixels == 0 || pixels > pixels_left {
            continue;
        }
        pixels_left -= pixels;
        if let Some(percent) = missing(file, stream, (width, height), ctx)? {
            file.harm.lost(format!("{num} 0 obj: image {percent} %"));
        }
    }
    Ok(())
}

/// How much of a picture is there, in per cent, where some of it is not.
fn missing(file: &mut File, stream: &Stream, (width, height): (u64, u64), ctx: &mut Context) -> Result<Option<u64>, Exceeded> {
    let chain = file.filters(stream, &mut ctx.budget)?;
    let codec = chain.last().map_or(&b""[..], |(name, _)| name.as_slice());
    match codec {
        b"DCTDecode" | b"DCT" => {
            let before = chain.split_last().map_or(&[][..], |(_, before)| before);
            let jpeg = filters::decode(file.raw(stream), before, &mut ctx.budget)?;
            if jpeg.outcome > Outcome::Cut {
                return Ok(None);
            }
            let mut picture = Facts { format: Some(Format::Jpeg), ..Facts::of_size(jpeg.bytes.len() as u64) };
            crate::inspect::image::inspect(&jpeg.bytes, ctx, &mut picture);
            let cut = picture.signals.iter().find(|s| s.code.as_str() == "image-truncated");
            Ok(cut.map(|signal| match signal.args.get("percent") {
                Some(crate::model::finding::Arg::Int(percent)) => u64::try_from(*percent).unwrap_or(0),
                _ => 0,
            }))
        }
        // Codecs of their own, whose lengths nothing here tells.
        b"JPXDecode" | b"JBIG2Decode" | b"CCITTFaxDecode" | b"CCF" => Ok(None),
        _ => {
            let Some(row) = row_bytes(file, &stream.dict, width, ctx)? else { return Ok(None) };
            let expected = row.saturating_mul(height);
            let decoded = file.decode(stream, &mut ctx.budget)?;
            let found = decoded.bytes.len() as u64;
            // A last row that is short by some bytes is nothing that anybody sees.
            let whole = decoded.outcome == Outcome::Opaque || decoded.outcome == Outcome::Cut || found.saturating_add(row) >= expected;
            Ok((!whole).then(|| found.saturating_mul(100) / expected.max(1)))
        }
    }
}

/// Bytes of one row of samples (§8.9.3); `None` where the colour space does not tell.
fn row_bytes(file: &mut File, dict: &Dict, width: u64, ctx: &mut Context) -> Result<Option<u64>, Exceeded> {
    let budget = &mut ctx.budget;
    let mask = matches!(*file.entry(dict, "ImageMask", budget)?, Object::Bool(true));
    let bits = if mask { 1 } else { file.entry(dict, "BitsPerComponent", budget)?.int().unwrap_or(8) };
    let components = if mask {
        Some(1)
    } else {
        let space = file.entry(dict, "ColorSpace", budget)?;
        components(file, &space, ctx)?
    };
    let (Some(components), Ok(bits)) = (components, u64::try_from(bits.clamp(0, MAX_BITS))) else { return Ok(None) };
    Ok(width.checked_mul(components).and_then(|samples| samples.checked_mul(bits)).map(|bits| bits.div_ceil(8)).filter(|row| *row > 0))
}

fn components(file: &mut File, space: &Object, ctx: &mut Context) -> Result<Option<u64>, Exceeded> {
    let budget = &mut ctx.budget;
    let family = match space {
        Object::Name(name) => name.clone(),
        Object::Array(items) => match items.first() {
            Some(name) => file.resolve(name, budget)?.name().unwrap_or_default().to_vec(),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(match family.as_slice() {
        b"DeviceGray" | b"G" | b"CalGray" | b"Indexed" | b"I" | b"Separation" => Some(1),
        b"DeviceRGB" | b"RGB" | b"CalRGB" | b"Lab" => Some(3),
        b"DeviceCMYK" | b"CMYK" => Some(4),
        b"ICCBased" => {
            let profile = space.items().get(1).cloned().unwrap_or(Object::Null);
            let profile = file.resolve(&profile, budget)?;
            file.entry(profile.dict_or_empty(), "N", budget)?.int().and_then(|n| u64::try_from(n).ok()).filter(|n| matches!(n, 1 | 3 | 4))
        }
        b"DeviceN" => {
            let names = space.items().get(1).cloned().unwrap_or(Object::Null);
            Some(file.resolve(&names, budget)?.items().len() as u64).filter(|n| *n > 0)
        }
        _ => None,
    })
}
