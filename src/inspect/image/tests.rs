//! Pictures made in code, then broken in one way each.

use base64::Engine as _;
use image::{ExtendedColorType, ImageEncoder as _};
use proptest::prelude::*;

use super::*;
use crate::inspect::Limits;
use crate::model::{Severity, messages};

/// 48 × 40 pixels, progressive with successive approximation and 4:2:0 chroma: ten scans, 722 bytes,
/// written by the reference encoder from a gradient (the encoder used elsewhere here has no progressive mode).
const PROGRESSIVE: &str = concat!(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/",
    "2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wgARCAAoADADASIAAhEBAxEB/8QA",
    "GAAAAwEBAAAAAAAAAAAAAAAAAAIDAQX/xAAZAQADAQEBAAAAAAAAAAAAAAABAgQDBQD/2gAMAwEAAhADEAAAAeTR9ISlAbpR9SiNH0cidXFoSri7xoHuTtAS",
    "gqCUf//EABYQAQEBAAAAAAAAAAAAAAAAAAARAf/aAAgBAQABBQKIiIjMRERERERERERERERH/8QAFhEBAQEAAAAAAAAAAAAAAAAAAgAB/9oACAEDAQE/ASoq",
    "KioqKs2zbNv/xAAaEQACAwEBAAAAAAAAAAAAAAAAAQIREiEx/9oACAECAQE/AbrrG8+jeTWel4LwQIMif//EABQQAQAAAAAAAAAAAAAAAAAAAED/2gAIAQEA",
    "Bj8Cd//EABgQAQEBAQEAAAAAAAAAAAAAAAEAERAh/9oACAEBAAE/ISFIGOgQxEIQhgiEIQ8RCEIQhCEIT//aAAwDAQACAAMAAAAQs1KSulddi//EABYRAQEB",
    "AAAAAAAAAAAAAAAAAAARAf/aAAgBAwEBPxAUUUUUbNmz/8QAGxEAAwACAwAAAAAAAAAAAAAAAAERITFRYYH/2gAIAQIBAT8QhEi07IhzmmnkMm/obbGVjvJ/",
    "/8QAHhAAAgICAwEBAAAAAAAAAAAAAREQMQAhQWGhgbH/2gAIAQEAAT8QwfxAxRPyAC9AfuPgDomYE8AeyChDZgVWh6YEVXWa/ZgTrgemDpXUgtaoQVaqoAOs",
    "/9k=",
);

fn progressive() -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(PROGRESSIVE).unwrap()
}

/// A picture with slopes and edges, so that every kind of block and filter turns up.
fn rgb(width: u32, height: u32) -> Vec<u8> {
    let pixel =
        |x: u32, y: u32| [(x * 255 / width) as u8, (y * 255 / height) as u8, if (x / 16 + y / 16).is_multiple_of(2) { 30 } else { 220 }];
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 80);
    encoder.write_image(&rgb(width, height), width, height, ExtendedColorType::Rgb8).unwrap();
    out
}

fn png_of(pixels: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
    let mut out = Vec::new();
    image::codecs::png::PngEncoder::new(&mut out).write_image(pixels, width, height, color).unwrap();
    out
}

fn png(width: u32, height: u32) -> Vec<u8> {
    png_of(&rgb(width, height), width, height, ExtendedColorType::Rgb8)
}

/// One PNG chunk with a right checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut out = (data.len() as u32).to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(data);
    out.extend(crc32fast::hash(&out[4..]).to_be_bytes());
    out
}

fn header(width: u32, height: u32, depth: u8, color: u8, interlace: u8) -> Vec<u8> {
    let mut data = [width.to_be_bytes(), height.to_be_bytes()].concat();
    data.extend([depth, color, 0, 0, interlace]);
    chunk(b"IHDR", &data)
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// A PNG from its chunks between signature and IEND.
fn assembled(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunks.concat(), chunk(b"IEND", b"")].concat()
}

/// `png` with `extra` right after its header.
fn with_chunk(png: &[u8], extra: &[u8]) -> Vec<u8> {
    [&png[..33], extra, &png[33..]].concat()
}

fn described(bytes: &[u8]) -> Facts {
    described_within(bytes, Limits::default())
}

fn described_within(bytes: &[u8], limits: Limits) -> Facts {
    let mut facts = Facts::of_size(bytes.len() as u64);
    inspect(bytes, &mut Context::new(limits), &mut facts);
    for signal in &facts.signals {
        let message = messages::get(&signal.code).unwrap_or_else(|| panic!("{} has no message", signal.code));
        for name in message.reason.fr.split('{').skip(1).filter_map(|p| p.split('}').next()) {
            assert!(signal.args.contains_key(name), "{} lacks the value {name}", signal.code);
        }
    }
    facts
}

fn codes(bytes: &[u8]) -> Vec<String> {
    described(bytes).signals.iter().map(|s| s.code.to_string()).collect()
}

fn errors(facts: &Facts) -> Vec<&str> {
    let is_error = |s: &&Signal| messages::get(&s.code).is_some_and(|m| m.severity == Severity::Error);
    facts.signals.iter().filter(is_error).map(|s| s.code.as_str()).collect()
}

fn detail(facts: &Facts) -> ImageFacts {
    match &facts.detail {
        Some(Detail::Image(image)) => image.clone(),
        other => panic!("no image facts: {other:?}"),
    }
}

#[test]
fn whole_pictures_give_figures_and_no_signal() {
    for bytes in [png(320, 240), jpeg(320, 240)] {
        let facts = described(&bytes);
        assert_eq!(facts.signals, []);
        let image = detail(&facts);
        assert_eq!((image.width, image.height, image.decoded), (320, 240, true));
        assert!(image.luma_deviation.unwrap() > 20.0);
        assert_eq!(image.perceptual_hash.unwrap().len(), 16);
    }
}

#[test]
fn the_same_picture_has_nearly_the_same_hash_in_both_formats_and_sizes() {
    let bits = |bytes: &[u8]| u64::from_str_radix(&detail(&described(bytes)).perceptual_hash.unwrap(), 16).unwrap();
    let reference = bits(&png(320, 240));
    for other in [jpeg(320, 240), jpeg(640, 480)] {
        assert!((reference ^ bits(&other)).count_ones() <= 8);
    }
}

#[test]
fn every_colour_type_is_decoded() {
    let cases = [
        (ExtendedColorType::L8, 1),
        (ExtendedColorType::La8, 2),
        (ExtendedColorType::Rgba8, 4),
        (ExtendedColorType::L16, 2),
        (ExtendedColorType::Rgb16, 6),
        (ExtendedColorType::Rgba16, 8),
    ];
    for (color, bytes) in cases {
        let pixels: Vec<u8> = rgb(320, 240).into_iter().cycle().take(320 * 240 * bytes).collect();
        let facts = described(&png_of(&pixels, 320, 240, color));
        assert!(detail(&facts).decoded && errors(&facts).is_empty(), "{color:?}: {:?}", facts.signals);
    }
}

#[test]
fn small_depths_and_palettes_are_decoded() {
    // 8 × 2 pixels of 1, 2 and 4 bits; half black, half white.
    for (depth, row) in [(1u8, vec![0x0F]), (2, vec![0, 0xFF]), (4, vec![0, 0, 0xFF, 0xFF])] {
        let data: Vec<u8> = [0].into_iter().chain(row).collect::<Vec<_>>().repeat(2);
        let gray = assembled(&[header(8, 2, depth, 0, 0), chunk(b"IDAT", &deflate(&data))]);
        assert_eq!(detail(&described(&gray)).luma_deviation, Some(127.5), "depth {depth}");
        let last = (1usize << depth) - 1;
        let palette: Vec<u8> = (0..=last).flat_map(|i| [if i == last { 255 } else { 0 }; 3]).collect();
        let indexed = assembled(&[header(8, 2, depth, 3, 0), chunk(b"PLTE", &palette), chunk(b"IDAT", &deflate(&data))]);
        assert_eq!(detail(&described(&indexed)).luma_deviation, Some(127.5), "palette of depth {depth}");
    }
}

#[test]
fn an_interlaced_png_is_decoded_pass_by_pass() {
    // 3 × 3 grey pixels: passes 1, 4 (none), 5, 6, 7 hold 1, 1, 2, 2, 3 samples in rows of their own.
    let rows: &[&[u8]] = &[&[0, 10], &[0, 20], &[0, 10, 20], &[0, 30], &[0, 30], &[0, 1, 2, 3]];
    let interlaced = assembled(&[header(3, 3, 8, 0, 1), chunk(b"IDAT", &deflate(&rows.concat()))]);
    let facts = described(&interlaced);
    assert!(detail(&facts).decoded, "{:?}", facts.signals);
    let short = assembled(&[header(3, 3, 8, 0, 1), chunk(b"IDAT", &deflate(&rows[..4].concat()))]);
    assert_eq!(errors(&described(&short)), ["image-truncated"]);
}

#[test]
fn cut_files_are_truncated_with_their_share() {
    for whole in [png(320, 240), jpeg(320, 240)] {
        let facts = described(&whole[..whole.len() * 6 / 10]);
        assert_eq!(errors(&facts), ["image-truncated"]);
        let Some(crate::model::finding::Arg::Int(percent)) = facts.signals[0].args.get("percent").cloned() else { panic!() };
        assert!((20..90).contains(&percent), "{percent} %");
        assert!(!detail(&facts).decoded);
    }
}

#[test]
fn a_file_that_lacks_only_its_end_marker_is_readable() {
    for (whole, lost) in [(png(320, 240), 12), (jpeg(320, 240), 2)] {
        assert_eq!(codes(&whole[..whole.len() - lost]), ["image-unterminated"]);
    }
}

#[test]
fn a_progressive_jpeg_is_decoded_to_its_last_refinement() {
    let facts = described(&progressive());
    assert!(detail(&facts).decoded && errors(&facts).is_empty(), "{:?}", facts.signals);
}

#[test]
fn a_progressive_jpeg_cut_between_two_scans_is_truncated() {
    let whole = progressive();
    let scans: Vec<usize> = memchr::memmem::find_iter(&whole, b"\xFF\xDA").collect();
    assert_eq!(scans.len(), 10);
    for cut in &scans[1..] {
        assert_eq!(errors(&described(&whole[..*cut])), ["image-truncated"], "cut at {cut}");
    }
}

#[test]
fn data_that_is_lost_in_the_middle_of_a_scan_is_seen() {
    let mut hole = jpeg(320, 240);
    let middle = hole.len() / 2;
    hole.drain(middle..middle + 200);
    let facts = described(&hole);
    assert!(matches!(errors(&facts)[..], ["image-truncated" | "image-corrupt"]), "{:?}", facts.signals);
}

#[test]
fn restart_markers_must_follow_one_another() {
    // One grey block per interval: DC category 0 and end of block are one bit each.
    let table = |class: u8| [vec![0xFF, 0xC4, 0, 20, class, 1], vec![0; 15], vec![0]].concat();
    let with_markers = |markers: &[u8]| {
        let mut out = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
        out.extend([1; 64]);
        out.extend([0xFF, 0xC0, 0, 11, 8, 0, 8, 0, 32, 1, 1, 0x11, 0]);
        out.extend([table(0x00), table(0x10)].concat());
        out.extend([0xFF, 0xDD, 0, 4, 0, 1, 0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]);
        for marker in markers {
            out.extend([0x3F, 0xFF, *marker]);
        }
        out
    };
    assert_eq!(errors(&described(&with_markers(&[0xD0, 0xD1, 0xD2, 0xD9]))), [""; 0]);
    assert_eq!(errors(&described(&with_markers(&[0xD0, 0xD2, 0xD2, 0xD9]))), ["image-corrupt"]);
    assert_eq!(errors(&described(&with_markers(&[0xD0, 0xD1, 0xD9]))), ["image-truncated"]);
}

#[test]
fn wrong_checksums_are_told_apart_by_what_they_protect() {
    let whole = png(320, 240);
    let mut critical = whole.clone();
    critical[30] ^= 1; // the checksum of IHDR
    assert_eq!(codes(&critical), ["image-checksum"]);
    let mut text = chunk(b"tEXt", b"Title\0Preuve");
    *text.last_mut().unwrap() ^= 1;
    assert_eq!(codes(&with_chunk(&whole, &text)), ["image-metadata-checksum"]);
}

#[test]
fn an_adler_mismatch_is_an_alteration() {
    let rows: Vec<u8> = rgb(300, 300).chunks(900).flat_map(|row| [&[0], row].concat()).collect();
    let mut data = deflate(&rows);
    *data.last_mut().unwrap() ^= 1;
    let png = assembled(&[header(300, 300, 8, 2, 0), chunk(b"IDAT", &data)]);
    assert!(matches!(errors(&described(&png))[..], ["image-checksum" | "image-corrupt"]));
}

#[test]
fn headers_must_make_sense() {
    let invalid = |header| errors(&described(&assembled(&[header, chunk(b"IDAT", &deflate(&[0; 100]))]))).join(",");
    assert_eq!(invalid(header(8, 8, 3, 0, 0)), "image-element-invalid");
    assert_eq!(invalid(header(8, 8, 4, 2, 0)), "image-element-invalid");
    assert_eq!(invalid(header(0, 8, 8, 0, 0)), "image-element-invalid");
    assert_eq!(invalid(header(8, 8, 8, 3, 0)), "image-element-missing"); // no palette
}

#[test]
fn image_data_must_be_contiguous() {
    let data = deflate(&[0; 72]);
    let (first, second) = data.split_at(5);
    let split = assembled(&[header(8, 8, 8, 0, 0), chunk(b"IDAT", first), chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", second)]);
    assert_eq!(codes(&split), ["image-element-misplaced"]);
}

#[test]
fn an_unknown_filter_is_damage_at_its_row() {
    let mut rows = vec![0u8; 9 * 8];
    rows[9 * 5] = 9;
    let facts = described(&assembled(&[header(8, 8, 8, 0, 0), chunk(b"IDAT", &deflate(&rows))]));
    assert_eq!(errors(&facts), ["image-corrupt"]);
    assert_eq!(facts.signals[0].args["line"], crate::model::finding::Arg::Int(6));
}

#[test]
fn optional_chunks_follow_their_rules() {
    let whole = png(320, 240);
    assert_eq!(codes(&with_chunk(&whole, &chunk(b"pHYs", &[0; 9]))), [""; 0]);
    assert_eq!(codes(&with_chunk(&whole, &chunk(b"pHYs", &[0; 8]))), ["image-nonconforming"]);
    assert_eq!(codes(&with_chunk(&whole, &chunk(b"hIST", &[0; 2]))), ["image-nonconforming"]);
    let twice = with_chunk(&with_chunk(&whole, &chunk(b"sRGB", &[0])), &chunk(b"sRGB", &[0]));
    assert_eq!(codes(&twice), ["image-nonconforming"]);
    assert_eq!(codes(&with_chunk(&whole, &chunk(b"prVt", b"anything"))), [""; 0]);
}

#[test]
fn a_text_mode_transfer_is_recognised() {
    let converted: Vec<u8> = png(320, 240).into_iter().filter(|b| *b != b'\r').collect();
    let mut facts = Facts { format: Some(Format::Png), ..Facts::default() };
    inspect(&converted, &mut Context::new(Limits::default()), &mut facts);
    assert_eq!(errors(&facts), ["image-signature-damaged"]);
}

#[test]
fn a_huge_picture_is_not_decoded() {
    let bomb = assembled(&[header(20_000, 20_000, 8, 0, 0), chunk(b"IDAT", &deflate(&vec![0; 100_000]))]);
    let facts = described(&bomb);
    assert_eq!(errors(&facts), ["image-too-many-pixels"]);
    assert!(!detail(&facts).decoded);
    let mut tall = jpeg(32, 32);
    let frame = memchr::memmem::find(&tall, b"\xFF\xC0").unwrap();
    tall[frame + 5..frame + 9].fill(0xFF);
    assert_eq!(errors(&described(&tall)), ["image-too-many-pixels"]);
}

#[test]
fn too_many_scans_are_a_bomb() {
    let whole = progressive();
    let eoi = whole.len() - 2;
    // A refinement of chroma with nothing in it costs a handful of bytes; repeated, it costs the reader.
    let scan = [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0x10, 0, 0, 0, 0, 0];
    let bomb = [&whole[..eoi], &scan.repeat(600), &whole[eoi..]].concat();
    assert_eq!(errors(&described(&bomb)), ["image-too-many-scans"]);
}

#[test]
fn a_compressed_text_may_not_inflate_without_bound() {
    let text = |length| [b"Comment\0\0".to_vec(), deflate(&vec![b'a'; length])].concat();
    let bomb = with_chunk(&png(320, 240), &chunk(b"zTXt", &text(20 << 20)));
    assert_eq!(codes(&bomb), ["image-text-bomb"]);
    let facts = described(&with_chunk(&png(320, 240), &chunk(b"zTXt", &text(20))));
    assert_eq!(facts.metadata["png:Comment"], "a".repeat(20));
}

#[test]
fn the_budget_is_respected() {
    let mut ctx = Context::new(Limits { max_work: 0, ..Limits::default() });
    for bytes in [png(320, 240), jpeg(320, 240)] {
        let mut facts = Facts::default();
        inspect(&bytes, &mut ctx, &mut facts);
        assert!(facts.has("bomb-time"));
    }
    let little = Limits { max_inflated_bytes: 1000, ..Limits::default() };
    let text = [b"Comment\0\0".to_vec(), deflate(&vec![b'a'; 5000])].concat();
    let facts = described_within(&with_chunk(&png(320, 240), &chunk(b"zTXt", &text)), little);
    assert!(facts.has("bomb-inflated"));
}

#[test]
fn what_follows_the_picture_is_told() {
    for whole in [png(320, 240), jpeg(320, 240)] {
        let with = |tail: &[u8]| codes(&[&whole[..], tail].concat()).join(",");
        assert_eq!(with(&[0; 100]), "");
        assert_eq!(with(b"unknown trailer"), "image-trailing-data");
        assert_eq!(with(&jpeg(64, 64)), "image-camera-trailer");
        assert_eq!(with(b"%PDF-1.7 ..."), "image-polyglot");
        assert_eq!(with(b"<html><script>alert(1)</script>"), "image-polyglot");
    }
}

#[test]
fn flat_pictures_are_blank_and_small_ones_small() {
    let flat = png_of(&[200; 320 * 240], 320, 240, ExtendedColorType::L8);
    assert_eq!(codes(&flat), ["image-blank"]);
    let transparent = png_of(&[10, 0].repeat(320 * 240), 320, 240, ExtendedColorType::La8);
    assert_eq!(codes(&transparent), ["image-blank"]);
    let mut nearly = vec![255u8; 320 * 240];
    nearly[..2].fill(0);
    assert_eq!(codes(&png_of(&nearly, 320, 240, ExtendedColorType::L8)), ["image-nearly-blank"]);
    assert_eq!(codes(&png(100, 80)), ["image-too-small"]);
    assert_eq!(codes(&png(3000, 20)), ["image-too-small"]);
}

#[test]
fn metadata_position_and_animation_are_read() {
    let whole = png(320, 240);
    let tiff = exif::tests::block();
    let facts = described(&with_chunk(&whole, &chunk(b"eXIf", &tiff)));
    assert!(facts.has("image-gps"));
    assert_eq!(facts.metadata["exif:Make"], "Marque");
    let jpeg = jpeg(320, 240);
    let length = ((tiff.len() + 8) as u16).to_be_bytes();
    let with_exif = [&jpeg[..2], &[0xFF, 0xE1], &length, b"Exif\0\0", &tiff, &jpeg[2..]].concat();
    let facts = described(&with_exif);
    assert!(facts.has("image-gps"));
    assert_eq!(facts.metadata["exif:Orientation"], "6");
    let animated = with_chunk(&whole, &chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]));
    assert_eq!(codes(&animated), ["image-animated"]);
}

#[test]
fn stray_bytes_behind_the_start_of_a_jpeg_are_a_warning_and_fill_bytes_are_nothing() {
    let whole = jpeg(320, 240);
    let with = |stray: &[u8]| codes(&[&whole[..2], stray, &whole[2..]].concat()).join(",");
    assert_eq!(with(&[0, 0]), "image-stray-bytes");
    assert_eq!(with(&[0xFF, 0xFF]), "");
    assert_eq!(with(&[1, 2]), "image-stray-bytes");
}

#[test]
fn other_worlds_of_jpeg_are_named() {
    let mut arithmetic = jpeg(320, 240);
    let frame = memchr::memmem::find(&arithmetic, b"\xFF\xC0").unwrap();
    arithmetic[frame + 1] = 0xC9;
    assert_eq!(codes(&arithmetic), ["image-unsupported-coding"]);
}

#[test]
fn essential_segments_are_missed() {
    let whole = jpeg(320, 240);
    for marker in [b"\xFF\xDB", b"\xFF\xC4"] {
        let mut without = whole.clone();
        while let Some(at) = memchr::memmem::find(&without, marker) {
            let length = usize::from(u16::from_be_bytes([without[at + 2], without[at + 3]]));
            without.drain(at..at + 2 + length);
        }
        assert_eq!(codes(&without), ["image-element-missing"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn mutated_pictures_never_panic(
        which in 0usize..4,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut bytes = match which {
            0 => jpeg(64, 48),
            1 => progressive(),
            2 => png(64, 48),
            _ => with_chunk(&png(16, 16), &chunk(b"eXIf", &exif::tests::block())),
        };
        for (at, value) in &edits {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = described(&bytes);
    }

    #[test]
    fn any_chunk_of_any_header_is_survived(
        (width, height) in (1u32..70, 1u32..70),
        depth in prop::sample::select(vec![1u8, 2, 4, 8, 16]),
        color in 0u8..7,
        interlace in 0u8..2,
        kind in prop::sample::select(vec![*b"PLTE", *b"tRNS", *b"zTXt", *b"iTXt", *b"tEXt", *b"eXIf", *b"acTL", *b"hIST", *b"sBIT"]),
        data in proptest::collection::vec(any::<u8>(), 0..40),
        rows in proptest::collection::vec(0u8..5, 0..3000),
    ) {
        let _ = described(&assembled(&[
            header(width, height, depth, color, interlace),
            chunk(b"PLTE", data.get(..data.len() / 3 * 3).unwrap_or_default()),
            chunk(&kind, &data),
            chunk(b"IDAT", &deflate(&rows)),
        ]));
    }

    #[test]
    fn any_scan_header_and_data_are_survived(
        frame in prop::sample::select(vec![0xC0u8, 0xC1, 0xC2]),
        header in proptest::collection::vec(any::<u8>(), 0..12),
        data in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut bytes = jpeg(48, 40);
        let sof = memchr::memmem::find(&bytes, b"\xFF\xC0").unwrap();
        bytes[sof + 1] = frame;
        bytes.truncate(memchr::memmem::find(&bytes, b"\xFF\xDA").unwrap());
        for spectrum in [[0u8, 63, 0], [0, 0, 0], [1, 63, 0], [1, 63, 0x21]] {
            let mut scan = vec![0xFF, 0xDA, 0, 8, 1, 1, 0];
            scan.extend(spectrum);
            scan.extend(&data);
            bytes.extend(scan);
        }
        bytes.extend([0xFF, 0xDA, 0, header.len() as u8 + 2]);
        bytes.extend(&header);
        bytes.extend(&data);
        let _ = described(&bytes);
    }
}

#[test]
fn stray_bytes_between_segments_of_a_jpeg_are_a_warning() {
    let sound = jpeg(320, 240);
    // After SOI and APP0, whose length stands in its second and third byte.
    let after = 4 + usize::from(u16::from_be_bytes([sound[4], sound[5]]));
    for stray in [&b"\x12\x34\x56\x78\x9a"[..], b"\xff\x00", &[0; 200], b"\xff\xed\x00\x06Phot8BIM\x04\x04"] {
        let bytes = [&sound[..after], stray, &sound[after..]].concat();
        let facts = described(&bytes);
        assert_eq!(facts.signals.iter().map(|s| s.code.to_string()).collect::<Vec<_>>(), ["image-stray-bytes"], "{stray:?}");
        assert!(detail(&facts).decoded);
    }
    let second = [&sound[..after], &[0xFF, 0xD8], &sound[after..]].concat();
    assert_eq!(codes(&second), ["image-element-misplaced"]);
}

#[test]
fn white_on_transparent_shows_on_dark_only() {
    let picture: Vec<u8> = (0..320u32 * 240).flat_map(|i| [255, if i / 320 % 20 < 4 { 255 } else { 0 }]).collect();
    let facts = described(&png_of(&picture, 320, 240, ExtendedColorType::La8));
    assert_eq!(facts.signals.iter().map(|s| s.code.to_string()).collect::<Vec<_>>(), ["image-only-on-dark"]);
    assert!(detail(&facts).luma_deviation_on_black.unwrap() > 10.0);
}

#[test]
fn a_colour_profile_that_inflates_without_end_is_a_bomb() {
    let profile = |megabytes: usize| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &vec![0; megabytes << 20]).unwrap();
        chunk(b"iCCP", &[&b"profil\0\0"[..], &encoder.finish().unwrap()].concat())
    };
    assert_eq!(codes(&with_chunk(&png(320, 240), &profile(40))), ["image-text-bomb"]);
    assert!(codes(&with_chunk(&png(320, 240), &profile(3))).is_empty());
}
