//! Thumbnails for the bundle, of images and of what a renderer drew: small, deterministic, within limits.
//!
//! A verifier pages through dozens of captures; a thumbnail spares opening each. It is made by general
//! decoders, in the child process like everything that reads a vendor's bytes, and only of pictures whose
//! decoding fits in the child's address space.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, Limits, Rgb, RgbImage};

use crate::model::Format;

/// Pixels past which no thumbnail is made.
const MAX_PIXELS: u64 = 40_000_000;
/// What the decoded picture may take of the child's address space, which must also hold the file.
const MAX_DECODED_BYTES: u64 = 192 * 1024 * 1024;
/// The same with what the decoder keeps beside its output.
const MAX_WORKING_BYTES: u64 = 288 * 1024 * 1024;
/// What a progressive JPEG keeps per pixel beside its output: three components of 16-bit coefficients.
const COEFFICIENT_BYTES: u64 = 6;
/// JPEG quality of thumbnails: large text stays readable, 240 pixels of a screenshot weigh about 6 KB.
const QUALITY: u8 = 65;

/// A JPEG thumbnail of an image, at most `max_side` pixels across and down, upright as EXIF says,
/// transparency over white. The same bytes always give the same thumbnail. `None` when the format is not
/// PNG or JPEG, the picture is damaged beyond its decoder, or decoding it costs too much.
pub fn thumbnail(bytes: &[u8], format: Format, max_side: u32) -> Option<Vec<u8>> {
    let format = match format {
        Format::Png => image::ImageFormat::Png,
        Format::Jpeg => image::ImageFormat::Jpeg,
        _ => return None,
    };
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(u32::from(u16::MAX));
    limits.max_image_height = Some(u32::from(u16::MAX));
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let cost = decoder.total_bytes().saturating_add(if format == image::ImageFormat::Jpeg { pixels * COEFFICIENT_BYTES } else { 0 });
    if pixels > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED_BYTES || cost > MAX_WORKING_BYTES || max_side == 0 {
        return None;
    }
    let orientation = decoder.orientation().ok();
    let decoded = DynamicImage::from_decoder(decoder).ok()?;
    let side = max_side.min(width.max(height));
    // Each pixel of the thumbnail is a weighted mean of all it covers, so thin text leaves a trace.
    let mut small = if width.max(height) > side { decoded.resize(side, side, FilterType::Triangle) } else { decoded };
    if let Some(orientation) = orientation {
        small.apply_orientation(orientation);
    }
    encode(&over_white(&small))
}

/// Most pictures taken from what one renderer drew.
const MAX_PICTURES: usize = 8;
/// Largest side of a picture that a renderer drew, pixels; it was asked for far less.
const MAX_DRAWN_SIDE: u32 = 4_096;

/// JPEG thumbnails of the PPM images (`P6`, 8 bits) that stand one after the other in `bytes`, at most `max_side` pixels
/// across and down. Reads up to the first that is not whole or not of that kind.
pub fn pictures(bytes: &[u8], max_side: u32) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut jpegs = Vec::new();
    while jpegs.len() < MAX_PICTURES {
        let Some((picture, after)) = drawn(rest) else { break };
        rest = after;
        let side = max_side.min(picture.width().max(picture.height()));
        let small = if picture.width().max(picture.height()) > side {
            DynamicImage::ImageRgb8(picture).resize(side, side, FilterType::Triangle).to_rgb8()
        } else {
            picture
        };
        jpegs.extend(encode(&small));
    }
    jpegs
}

/// The PPM image at the beginning of `bytes`, and what follows it.
fn drawn(bytes: &[u8]) -> Option<(RgbImage, &[u8])> {
    let mut rest = bytes.strip_prefix(b"P6")?;
    let mut number = || -> Option<u32> {
        // One space or line end or more, then digits; renderers write no comments.
        let spaces = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let digits = rest.get(spaces..)?.iter().take(8).take_while(|b| b.is_ascii_digit()).count();
        let (text, after) = rest.get(spaces..)?.split_at_checked(digits)?;
        rest = after;
        if spaces == 0 { None } else { std::str::from_utf8(text).ok()?.parse().ok() }
    };
    let (width, height, depth) = (number()?, number()?, number()?);
    let pixels = rest.split_first().filter(|(space, _)| space.is_ascii_whitespace())?.1;
    if depth != 255 || !(1..=MAX_DRAWN_SIDE).contains(&width) || !(1..=MAX_DRAWN_SIDE).contains(&height) {
        return None;
    }
    // At most 48 MiB: both sides are bounded.
    let (pixels, after) = pixels.split_at_checked(width as usize * height as usize * 3)?;
    Some((RgbImage::from_raw(width, height, pixels.to_vec())?, after))
}

fn over_white(picture: &DynamicImage) -> RgbImage {
    let rgba = picture.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, alpha] = rgba.get_pixel(x, y).0.map(u32::from);
        let blend = |c: u32| ((c * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        Rgb([blend(r), blend(g), blend(b)])
    })
}

fn encode(picture: &RgbImage) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut out, QUALITY);
    encoder.write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(picture: &DynamicImage) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
        out.into_inner()
    }

    fn opened(jpeg: &[u8]) -> RgbImage {
        image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg).unwrap().to_rgb8()
    }

    #[test]
    fn a_thumbnail_keeps_proportions_and_is_the_same_every_time() {
        let large = png(&DynamicImage::ImageRgb8(RgbImage::from_fn(800, 400, |x, y| Rgb([(x / 4) as u8, (y / 2) as u8, 90]))));
        let thumbnail_of = || thumbnail(&large, Format::Png, 200).unwrap();
        assert_eq!(opened(&thumbnail_of()).dimensions(), (200, 100));
        assert_eq!(thumbnail_of(), thumbnail_of());
    }

    #[test]
    fn a_small_picture_is_not_enlarged_and_transparency_is_white() {
        let clear = png(&DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(20, 10, image::Rgba([0, 0, 0, 0]))));
        let shown = opened(&thumbnail(&clear, Format::Png, 200).unwrap());
        assert_eq!(shown.dimensions(), (20, 10));
        assert!(shown.get_pixel(5, 5).0.iter().all(|c| *c > 250));
    }

    #[test]
    fn a_photo_is_turned_upright() {
        let mut jpeg = Vec::new();
        let encoder = JpegEncoder::new(&mut jpeg);
        encoder.write_image(&[128; 64 * 32 * 3], 64, 32, ExtendedColorType::Rgb8).unwrap();
        // One entry: Orientation (0x0112), SHORT, 6 = turn right.
        let tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = (tiff.len() as u16 + 8).to_be_bytes();
        let turned = [&jpeg[..2], &[0xFF, 0xE1], &length, b"Exif\0\0", tiff, &jpeg[2..]].concat();
        assert_eq!(opened(&thumbnail(&turned, Format::Jpeg, 200).unwrap()).dimensions(), (32, 64));
    }

    #[test]
    fn what_costs_too_much_or_is_no_image_has_no_thumbnail() {
        let mut huge = png(&DynamicImage::new_luma8(4, 4));
        huge[16..24].copy_from_slice(&[0, 0, 0x4E, 0x20, 0, 0, 0x4E, 0x20]);
        let crc = crc32fast::hash(&huge[12..29]).to_be_bytes();
        huge[29..33].copy_from_slice(&crc);
        assert_eq!(thumbnail(&huge, Format::Png, 200), None);
        assert_eq!(thumbnail(b"%PDF-", Format::Pdf, 200), None);
        assert_eq!(thumbnail(b"\x89PNG", Format::Png, 200), None);
        assert_eq!(thumbnail(&png(&DynamicImage::new_luma8(4, 4)), Format::Png, 0), None);
    }

    #[test]
    fn what_a_renderer_drew_is_read_picture_by_picture() {
        let one = [b"P6\n4 2\n255\n".as_slice(), &[200; 24]].concat();
        let two = [b"P6 600 300 255 ".as_slice(), &[10; 540_000]].concat();
        let both = [one.as_slice(), &two].concat();
        let sizes = |bytes: &[u8]| pictures(bytes, 200).iter().map(|j| opened(j).dimensions()).collect::<Vec<_>>();
        assert_eq!(sizes(&both), [(4, 2), (200, 100)]);
        // A cut picture is left out, those before it stay.
        assert_eq!(sizes(&both[..both.len() - 1]), [(4, 2)]);
        assert_eq!(sizes(&one.repeat(20)).len(), MAX_PICTURES);
        for wrong in ["P5\n4 2\n255\n", "P6\n0 2\n255\n", "P6\n99999 2\n255\n", "P6\n4 2\n65535\n", "P6\n42255\n", "P6\n-4 2\n255\n", "P6"]
        {
            assert_eq!(sizes(&[wrong.as_bytes(), &[0; 64]].concat()), [], "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_pixels_never_panic(text in "(P6[ \n]?)?[0-9 \n#]{0,30}", bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = pictures(&[text.as_bytes(), &bytes].concat(), 16);
        }

        #[test]
        fn mutated_pictures_never_panic(at in 8usize..2000, value in 0u8..=255, as_jpeg in proptest::bool::ANY) {
            let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(40, 30, |x, y| Rgb([(x * y) as u8, x as u8, y as u8])));
            let mut bytes = if as_jpeg { encode(&picture.to_rgb8()).unwrap() } else { png(&picture) };
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = thumbnail(&bytes, if as_jpeg { Format::Jpeg } else { Format::Png }, 16);
        }
    }
}
