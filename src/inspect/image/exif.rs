//! EXIF (CIPA DC-008) and XMP inside pictures: who, with what, when, and where.
//!
//! The reader parses values lazily, so only the few tags asked for are ever built; blocks are small
//! (64 KiB in a JPEG, capped by the caller in a PNG).

use exif::{Exif, In, Tag, Value};
use memchr::memmem;

use super::add_metadata;
use crate::model::facts::{GpsPosition, ImageFacts};
use crate::model::{Facts, Signal};

/// Text tags worth keeping: what a verifier may compare with the proof.
const TEXTS: [(Tag, &str); 13] = [
    (Tag::Make, "exif:Make"),
    (Tag::Model, "exif:Model"),
    (Tag::Software, "exif:Software"),
    (Tag::Artist, "exif:Artist"),
    (Tag::Copyright, "exif:Copyright"),
    (Tag::ImageDescription, "exif:ImageDescription"),
    (Tag::DateTime, "exif:DateTime"),
    (Tag::DateTimeOriginal, "exif:DateTimeOriginal"),
    (Tag::DateTimeDigitized, "exif:DateTimeDigitized"),
    (Tag::OffsetTimeOriginal, "exif:OffsetTimeOriginal"),
    (Tag::CameraOwnerName, "exif:CameraOwnerName"),
    (Tag::BodySerialNumber, "exif:BodySerialNumber"),
    (Tag::ImageUniqueID, "exif:ImageUniqueID"),
];

/// Reads a TIFF-structured EXIF block.
pub(super) fn read(tiff: &[u8], facts: &mut Facts, image: &mut ImageFacts) {
    let exif = match exif::Reader::new().continue_on_error(true).read_raw(tiff.to_vec()) {
        Ok(exif) => exif,
        // Makers' blocks are often slightly off; what can be read is read, in silence.
        Err(exif::Error::PartialResult(partial)) => partial.into_inner().0,
        Err(_) => {
            facts.push(Signal::new("image-metadata-damaged").arg("element", "EXIF"));
            return;
        }
    };
    for (tag, key) in TEXTS {
        if let Some(Value::Ascii(lines)) = exif.get_field(tag, In::PRIMARY).map(|f| &f.value)
            && let Some(line) = lines.first()
        {
            add_metadata(facts, key, &String::from_utf8_lossy(line));
        }
    }
    if let Some(orientation) = exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|f| f.value.get_uint(0)) {
        add_metadata(facts, "exif:Orientation", &orientation.to_string());
    }
    let latitude = degrees(&exif, Tag::GPSLatitude, Tag::GPSLatitudeRef, b'S', 90.0);
    let longitude = degrees(&exif, Tag::GPSLongitude, Tag::GPSLongitudeRef, b'W', 180.0);
    position(latitude, longitude, image);
}

/// Looks for a position in an XMP packet (`exif:GPSLatitude="48,51.4933N"`, XMP part 2, GPSCoordinate).
pub(super) fn xmp(packet: &[u8], image: &mut ImageFacts) {
    let latitude = coordinate(packet, b"GPSLatitude", b'S', 90.0);
    let longitude = coordinate(packet, b"GPSLongitude", b'W', 180.0);
    position(latitude, longitude, image);
}

/// Keeps a position unless there is one; 0, 0 is what cameras write when they have none.
fn position(latitude: Option<f64>, longitude: Option<f64>, image: &mut ImageFacts) {
    if let (Some(latitude), Some(longitude), None) = (latitude, longitude, &image.gps)
        && (latitude != 0.0 || longitude != 0.0)
    {
        image.gps = Some(GpsPosition { latitude, longitude });
    }
}

fn degrees(exif: &Exif, tag: Tag, reference: Tag, negative: u8, most: f64) -> Option<f64> {
    let Value::Rational(parts) = &exif.get_field(tag, In::PRIMARY)?.value else { return None };
    let part = |i: usize| parts.get(i).map_or(0.0, exif::Rational::to_f64);
    let degrees = parts.first()?.to_f64() + part(1) / 60.0 + part(2) / 3600.0;
    let is_negative = match exif.get_field(reference, In::PRIMARY).map(|f| &f.value) {
        Some(Value::Ascii(lines)) => lines.first().and_then(|l| l.first()).is_some_and(|c| c.eq_ignore_ascii_case(&negative)),
        _ => false,
    };
    signed(degrees, is_negative, most)
}

fn coordinate(packet: &[u8], name: &[u8], negative: u8, most: f64) -> Option<f64> {
    let at = memmem::find(packet, name)? + name.len();
    let text = packet.get(at..packet.len().min(at + 40))?;
    let text = text.strip_prefix(b"=\"").or_else(|| text.strip_prefix(b"='")).or_else(|| text.strip_prefix(b">"))?;
    let end = text.iter().position(|b| b.is_ascii_alphabetic())?;
    let mut degrees = 0.0;
    let mut unit = 1.0;
    for part in std::str::from_utf8(text.get(..end)?).ok()?.split(',') {
        degrees += part.trim().parse::<f64>().ok()? / unit;
        unit *= 60.0;
    }
    signed(degrees, text.get(end)?.eq_ignore_ascii_case(&negative), most)
}

/// Rounded to a micro-degree (11 cm), so that facts do not depend on the last bit of a division.
fn signed(degrees: f64, is_negative: bool, most: f64) -> Option<f64> {
    let rounded = (degrees * 1e6).round() / 1e6;
    // Fails for NaN and infinities too: a rational may be 0/0.
    (rounded.abs() <= most).then_some(if is_negative { -rounded } else { rounded })
}

#[cfg(test)]
pub(in crate::inspect::image) mod tests {
    use super::*;

    /// A big-endian EXIF block with a camera and a position.
    pub(in crate::inspect::image) fn block() -> Vec<u8> {
        use exif::experimental::Writer;
        use exif::{Field, Rational};
        let rationals = |d: u32, m: u32, s: u32| Value::Rational([d, m, s].map(|num| Rational { num, denom: 1 }).to_vec());
        let fields = [
            (Tag::Make, Value::Ascii(vec![b"Marque".to_vec()])),
            (Tag::Orientation, Value::Short(vec![6])),
            (Tag::GPSLatitudeRef, Value::Ascii(vec![b"N".to_vec()])),
            (Tag::GPSLatitude, rationals(48, 51, 30)),
            (Tag::GPSLongitudeRef, Value::Ascii(vec![b"W".to_vec()])),
            (Tag::GPSLongitude, rationals(2, 21, 0)),
        ]
        .map(|(tag, value)| Field { tag, ifd_num: In::PRIMARY, value });
        let mut writer = Writer::new();
        for field in &fields {
            writer.push_field(field);
        }
        let mut out = std::io::Cursor::new(Vec::new());
        writer.write(&mut out, false).unwrap();
        out.into_inner()
    }

    #[test]
    fn camera_orientation_and_position_are_read() {
        let (mut facts, mut image) = (Facts::default(), ImageFacts::default());
        read(&block(), &mut facts, &mut image);
        assert_eq!(facts.metadata.get("exif:Make").map(String::as_str), Some("Marque"));
        assert_eq!(facts.metadata.get("exif:Orientation").map(String::as_str), Some("6"));
        assert_eq!(image.gps, Some(GpsPosition { latitude: 48.858333, longitude: -2.35 }));
    }

    #[test]
    fn a_position_in_xmp_is_read() {
        let mut image = ImageFacts::default();
        xmp(br#"<rdf exif:GPSLatitude="48,51.5N" exif:GPSLongitude="2,21,0E"/>"#, &mut image);
        assert_eq!(image.gps, Some(GpsPosition { latitude: 48.858333, longitude: 2.35 }));
    }

    #[test]
    fn impossible_positions_are_ignored() {
        let mut image = ImageFacts::default();
        xmp(br#"<rdf exif:GPSLatitude="nanN" exif:GPSLongitude="2,21E"/>"#, &mut image);
        xmp(br#"<rdf exif:GPSLatitude="0,0N" exif:GPSLongitude="0,0E"/>"#, &mut image);
        xmp(br#"<rdf exif:GPSLatitude="948,0N" exif:GPSLongitude="2,0E"/>"#, &mut image);
        assert_eq!(image.gps, None);
    }

    proptest::proptest! {
        #[test]
        fn mutated_blocks_never_panic(at in 0usize..200, value in 0u8..=255, cut in 0usize..200) {
            let mut block = block();
            let at = at % block.len();
            block[at] = value;
            block.truncate(block.len() - cut % block.len());
            read(&block, &mut Facts::default(), &mut ImageFacts::default());
            xmp(&block, &mut ImageFacts::default());
        }
    }
}
