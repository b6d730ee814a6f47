//! Files, as the child reads them: any bytes give facts, within the budget, that the parent can take and show.

use super::parts;
use crate::assess::policy;
use crate::inspect::{Context, Limits, inspect, pdf, preview, zip};
use crate::inspect::{image as images, odf as opendocument, ole as compound, text as texts, video as videos};
use crate::model::facts::{Detail, Facts, MAX_SIGNALS_PER_CODE};
use crate::model::text::is_unsafe_to_show;
use crate::model::{Format, Lang, messages};
use crate::sandbox::{Reply, heard, wire};

/// The child's own proportions, smaller: an input of a few kilobytes that asks for more is a find.
fn limits() -> Limits {
    Limits {
        max_inflated_bytes: 32 * 1024 * 1024,
        max_members: 200,
        max_work: 2_000_000_000,
        max_text_chars: 20_000,
        max_cells: 2_000,
        max_pixels: 4_000_000,
        ..Limits::default()
    }
}

/// The whole way of a file: identified, then read by its family's inspector.
pub fn identify(bytes: &[u8]) {
    settle(bytes, |ctx| inspect(bytes, ctx));
}

/// PDF.
pub fn pdf(bytes: &[u8]) {
    read_as(bytes, Some(Format::Pdf), pdf::inspect);
}

/// ZIP archives, whatever their headers say.
pub fn zip(bytes: &[u8]) {
    read_as(bytes, Some(Format::Zip), zip::inspect);
}

/// Office Open XML packages and their sheets.
pub fn ooxml(list: &[u8]) {
    identify(&parts::zip(list));
}

/// OpenDocument packages and their sheets; without a list of parts, flat XML.
pub fn odf(list: &[u8]) {
    let package = parts::zip(list);
    read_as(if list.first() == Some(&b'<') { list } else { &package }, None, opendocument::inspect);
}

/// OLE compound files, and the bare Excel streams that older versions wrote.
pub fn ole(bytes: &[u8]) {
    let compound_file = bytes.starts_with(b"\xD0\xCF\x11\xE0");
    read_as(bytes, (!compound_file).then_some(Format::Xls), compound::inspect);
}

/// Word, Excel and PowerPoint streams in a sound compound file.
pub fn ole_streams(list: &[u8]) {
    identify(&parts::compound(list));
}

/// PNG and JPEG: their facts and their thumbnail; what a renderer drew.
pub fn image(bytes: &[u8]) {
    if bytes.starts_with(b"P6") {
        assert!(preview::pictures(bytes, 64).iter().all(|picture| picture.starts_with(&[0xFF, 0xD8])), "a picture is a JPEG");
        return;
    }
    read_as(bytes, None, images::inspect);
    let format = if bytes.first() == Some(&0xFF) { Format::Jpeg } else { Format::Png };
    if let Some(thumbnail) = preview::thumbnail(bytes, format, 64) {
        assert!(thumbnail.starts_with(&[0xFF, 0xD8]), "a thumbnail is a JPEG");
    }
}

/// MP4 and its kin, FLV, AVI.
pub fn video(bytes: &[u8]) {
    read_as(bytes, None, videos::inspect);
}

/// Text and CSV.
pub fn text(bytes: &[u8]) {
    read_as(bytes, Some(Format::Txt), texts::inspect);
    read_as(bytes, Some(Format::Csv), texts::inspect);
}

fn read_as(bytes: &[u8], format: Option<Format>, inspector: impl Fn(&[u8], &mut Context, &mut Facts)) {
    settle(bytes, |ctx| {
        let mut facts = Facts { format, ..Facts::of_size(bytes.len() as u64) };
        inspector(bytes, ctx, &mut facts);
        facts
    });
}

fn settle(bytes: &[u8], read: impl Fn(&mut Context) -> Facts) {
    let facts = read(&mut Context::new(limits()));
    check(&facts);
    // One in eight is read twice: the same bytes give the same facts, unless it was time that ended the reading.
    if bytes.len().is_multiple_of(8) && !facts.has_anywhere("inspect-clock") {
        assert_eq!(facts, read(&mut Context::new(limits())), "the same bytes give the same facts");
    }
    // What the child says is what the parent hears.
    let reply = wire::encode(&Reply::Facts { facts: Box::new(facts.clone()) }).expect("facts are JSON");
    let reply = [vec![wire::LOCKED_IN], reply].concat();
    assert!(reply.len() < 8 * 1024 * 1024, "{} bytes of facts", reply.len());
    match wire::decode(&reply) {
        Ok(Reply::Facts { facts: heard }) => {
            assert_eq!(facts, *heard, "facts survive the wire");
            assert_eq!(heard::check(&heard, facts.size, &limits()), Ok(()), "the parent refuses what an inspection says");
        }
        other => panic!("facts became {other:?}"),
    }
}

/// What holds of any facts, whatever the file.
fn check(facts: &Facts) {
    let limits = limits();
    for signal in &facts.signals {
        let code = signal.code.as_str();
        assert!(messages::get(&signal.code).is_some(), "`{code}` has no message");
        let kept = facts.signals.iter().filter(|s| s.code == signal.code).count();
        assert!(kept <= MAX_SIGNALS_PER_CODE, "{kept} signals `{code}`");
        shown(&signal.place.show(Lang::Fr));
    }
    for finding in policy::findings_of_facts(facts, &Default::default(), &crate::model::work::Work::unbounded()) {
        for text in [&finding.summary, &finding.reason, &finding.remedy] {
            shown(&text.fr);
            shown(&text.en);
        }
    }
    shown(&facts.identification.basis);
    let chars: usize = facts.text.iter().map(|chunk| chunk.text.chars().count()).sum();
    assert!(chars <= limits.max_text_chars, "{chars} characters of text");
    for word in facts.text.iter().map(|chunk| &chunk.text).chain(facts.metadata.keys()).chain(facts.metadata.values()) {
        assert!(!word.chars().any(char::is_control), "control characters in {word:?}");
    }
    match &facts.detail {
        Some(Detail::Workbook(workbook)) => {
            let cells: usize = workbook.sheets.iter().map(|sheet| sheet.values.len()).sum();
            assert!(cells <= limits.max_cells, "{cells} cells");
        }
        Some(Detail::Archive(archive)) => {
            assert!(archive.members.len() as u64 <= limits.max_members, "{} members", archive.members.len());
            archive.members.iter().filter_map(|member| member.facts.as_deref()).for_each(check);
        }
        Some(Detail::Image(image)) => {
            if let Some(gps) = &image.gps {
                assert!(gps.latitude.abs() <= 90.0 && gps.longitude.abs() <= 180.0, "{gps:?}");
            }
        }
        Some(Detail::Video(video)) => {
            assert!(video.duration.is_none_or(|seconds| seconds >= 0.0), "{:?} seconds", video.duration);
        }
        _ => {}
    }
}

/// What a person is shown moves no cursor and hides nothing.
pub fn shown(text: &str) {
    assert!(!text.chars().any(is_unsafe_to_show), "unsafe to show: {text:?}");
}
