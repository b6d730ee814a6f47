//! From a body to a [`GazelleReport`]: recognises the generation and reads it with the tolerances of Gazelle's
//! own reader (names in singular or plural, as attribute or element, any prefix; blank and `null` absent;
//! missing priority is MANDATORY; the first result that can be read counts), and recomputes counters and
//! results from what is listed.
//!
//! One tolerance is not copied: where a date cannot be read, Gazelle puts the present moment; here it is missing.

pub mod legacy;
mod maestro;
mod record;
pub mod tree;
mod validation;

use std::borrow::Cow;
use std::io::Read as _;

use base64::Engine as _;
use sha2::{Digest, Sha256};

use crate::model::gazelle::{GazelleReport, Generation, ReportDate, TestResult, TestedObject, ValidationRecord};
use crate::model::text::display_safe;
use tree::{Node, TreeError};

/// Most members looked at in a ZIP that wraps a report.
const MAX_ZIP_MEMBERS: usize = 50;
/// Longest text kept of any field, characters.
pub(crate) const MAX_TEXT: usize = 1_000;

/// Why a body is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nothing in it.
    #[error("the body is empty")]
    Empty,
    /// A web page.
    #[error("a web page, not a report")]
    Html,
    /// Neither XML nor JSON.
    #[error("neither XML nor JSON")]
    NoFormat,
    /// XML or JSON that cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Well-formed, and no report that we know.
    #[error("`{0}` is no kind of report that is known")]
    NoReport(String),
    /// A ZIP without report.
    #[error("an archive that holds no report")]
    NoMember,
    /// More bytes than are ever read.
    #[error("inflates to more than {0} bytes")]
    TooLarge(u64),
}

/// Reads a report of any generation. `max_bytes` bounds what an archive may inflate to.
///
/// # Errors
/// See [`Unreadable`].
pub fn read_report(body: &[u8], max_bytes: u64) -> Result<GazelleReport, Unreadable> {
    match unwrap_zip(body, max_bytes)? {
        Some(member) => read_plain(&member),
        None => read_plain(body),
    }
}

/// The report inside a ZIP, or `None` where `body` is no ZIP. Members that are no report are skipped.
pub(crate) fn unwrap_zip(body: &[u8], max_bytes: u64) -> Result<Option<Vec<u8>>, Unreadable> {
    if !body.starts_with(b"PK\x03\x04") {
        return Ok(None);
    }
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(body)).map_err(|_| Unreadable::NoMember)?;
    let mut left = max_bytes;
    for index in 0..archive.len().min(MAX_ZIP_MEMBERS) {
        let Ok(member) = archive.by_index(index) else { continue };
        if member.is_dir() {
            continue;
        }
        let mut bytes = Vec::new();
        if member.take(left.saturating_add(1)).read_to_end(&mut bytes).is_err() {
            continue;
        }
        left = left.checked_sub(bytes.len() as u64).ok_or(Unreadable::TooLarge(max_bytes))?;
        if read_plain(&bytes).is_ok() {
            return Ok(Some(bytes));
        }
    }
    Err(Unreadable::NoMember)
}

fn read_plain(body: &[u8]) -> Result<GazelleReport, Unreadable> {
    let text = decode(body);
    match form(&text)? {
        Form::Xml => {
            let (root, tree) = tree::from_xml(&text)?;
            // The SOAP-like habit of wrapping: a report may stand one level below its root.
            let inner = tree.kid("validationReport").filter(|_| root != "validationReport");
            let tree = inner.unwrap_or(&tree);
            if maestro::is_maestro(tree) {
                return Ok(maestro::read(tree));
            }
            if validation::is_v1(tree) {
                return Ok(validation::read_v1(tree, Generation::GvrXml));
            }
            if validation::is_v2(tree) {
                return Ok(validation::read_v2(tree, Generation::V2Xml));
            }
            if root.eq_ignore_ascii_case("validationReport") && !tree.kids.is_empty() {
                return Ok(validation::read_v1(tree, Generation::GvrXml));
            }
            Err(Unreadable::NoReport(display_safe(&root, 60)))
        }
        Form::Json => {
            let tree = tree::from_json(&text)?;
            let inner = tree.kid("validationReport").filter(|inner| !inner.kids.is_empty());
            let tree = inner.unwrap_or(&tree);
            if maestro::is_maestro(tree) {
                return Ok(maestro::read(tree));
            }
            if validation::is_v1(tree) {
                return Ok(validation::read_v1(tree, Generation::GvrJson));
            }
            if validation::is_v2(tree) {
                return Ok(validation::read_v2(tree, Generation::V2Json));
            }
            Err(Unreadable::NoReport("JSON object".into()))
        }
    }
}

/// Reads the server's record of a validation.
///
/// # Errors
/// See [`Unreadable`].
pub fn read_record(body: &[u8]) -> Result<ValidationRecord, Unreadable> {
    let text = decode(body);
    let tree = match form(&text)? {
        Form::Xml => tree::from_xml(&text)?.1,
        Form::Json => tree::from_json(&text)?,
    };
    record::read(&tree).ok_or_else(|| Unreadable::NoReport("validation record".into()))
}

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Xml,
    Json,
}

pub(crate) fn form(text: &str) -> Result<Form, Unreadable> {
    let start = text.trim_start_matches('\u{FEFF}').trim_start();
    let head: String = start.chars().take(600).collect::<String>().to_ascii_lowercase();
    match start.as_bytes().first() {
        None => Err(Unreadable::Empty),
        Some(b'<') if head.starts_with("<!doctype html") || head.starts_with("<html") || head.contains("<html") => Err(Unreadable::Html),
        Some(b'<') => Ok(Form::Xml),
        Some(b'{' | b'[') => Ok(Form::Json),
        Some(_) => Err(Unreadable::NoFormat),
    }
}

/// Text of a body: UTF-8, or what the byte order mark or the XML declaration says.
pub(crate) fn decode(body: &[u8]) -> Cow<'_, str> {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(body) {
        return encoding.decode_with_bom_removal(body).0;
    }
    if let Ok(text) = std::str::from_utf8(body) {
        return Cow::Borrowed(text);
    }
    let head = String::from_utf8_lossy(body.get(..body.len().min(200)).unwrap_or_default()).into_owned();
    let declared = head
        .split_once("encoding=")
        .and_then(|(_, rest)| rest.get(1..).and_then(|rest| rest.split(['"', '\'']).next()))
        .and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()));
    declared.unwrap_or(encoding_rs::UTF_8).decode_without_bom_handling(body).0
}

/// The first of `candidates` that is a result, and a later one that differs from it.
fn results(candidates: &[Option<&str>]) -> (Option<TestResult>, Option<TestResult>) {
    let mut read = candidates.iter().flatten().filter_map(|text| result(text));
    let first = read.next();
    let other = first.and_then(|first| read.find(|other| *other != first));
    (first, other)
}

/// A result word, in any case.
fn result(text: &str) -> Option<TestResult> {
    match text.trim().to_ascii_uppercase().as_str() {
        "PASSED" => Some(TestResult::Passed),
        "FAILED" => Some(TestResult::Failed),
        "UNDEFINED" => Some(TestResult::Undefined),
        _ => None,
    }
}

/// A counter. Text that is no number is absent.
fn counter(node: &Node, names: &[&str]) -> Option<u64> {
    node.scalar(names)?.parse().ok()
}

/// A date: an instant, a date-time with offset, or one without, read as UTC; in JSON also milliseconds since 1970.
pub(crate) fn date(text: &str) -> Option<ReportDate> {
    let text = text.trim();
    if text.len() > 64 {
        return None;
    }
    let at = |instant: jiff::Timestamp, without_offset| Some(ReportDate { at: instant.to_string(), without_offset });
    if (11..=14).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        return at(jiff::Timestamp::from_millisecond(text.parse().ok()?).ok()?, false);
    }
    // Without a time of day it is no moment.
    if !text.contains(['T', 't', ' ']) {
        return None;
    }
    // `[Europe/Paris]` repeats in words what the offset says.
    let text = text.split('[').next().unwrap_or(text);
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return at(instant, false);
    }
    let naive: jiff::civil::DateTime = text.parse().ok()?;
    at(naive.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp(), true)
}

/// Text of a field as it is kept: trimmed, safe to show, at most [`MAX_TEXT`] characters.
fn kept(text: &str) -> String {
    display_safe(text.trim(), MAX_TEXT)
}

fn kept_scalar(node: &Node, names: &[&str]) -> Option<String> {
    node.scalar(names).map(kept)
}

/// What stands in a pinned copy where a document was.
pub(crate) const DROPPED: &str = "greffier:dropped";

/// The digest and size of the document that `encoded` carries: base64 decoded where it is base64.
pub(crate) fn document_digest(encoded: &str) -> (String, u64) {
    let compact: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let lenient = base64::engine::GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);
    for alphabet in [&base64::alphabet::STANDARD, &base64::alphabet::URL_SAFE] {
        if let Ok(document) = base64::engine::GeneralPurpose::new(alphabet, lenient).decode(&compact)
            && !compact.is_empty()
        {
            return (hex::encode(Sha256::digest(&document)), document.len() as u64);
        }
    }
    (hex::encode(Sha256::digest(encoded.as_bytes())), encoded.len() as u64)
}

/// A tested object: its content is digested and dropped. Reads the mark that a pinned copy holds instead.
fn tested_object(node: &Node) -> TestedObject {
    let mut object = TestedObject {
        name: kept_scalar(node, &["originalFileName", "itemId", "id", "name", "location"]),
        kind: kept_scalar(node, &["objectType", "role", "type"]),
        sha256: None,
        size: None,
    };
    if let Some(content) = node.scalar(&["content"]) {
        let (sha256, size) = match content.strip_prefix(DROPPED) {
            Some(mark) => {
                let field = |name: &str| mark.split(';').find_map(|part| part.strip_prefix(name));
                (field("sha256=").map(str::to_owned), field("bytes=").and_then(|n| n.parse().ok()))
            }
            None => {
                let (sha256, size) = document_digest(content);
                (Some(sha256), Some(size))
            }
        };
        object.sha256 = sha256;
        object.size = size;
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLES: &[&str] = &[
        r#"<gvr:validationReport xmlns:gvr="http://validationreport.gazelle.ihe.net/" result="FAILED"><gvr:validationOverview validationDateTime="2025-09-30T12:44:06.137Z"/><gvr:subReport name="P" subReportResult="FAILED"><gvr:constraint severity="ERROR" testResult="FAILED"><gvr:constraintDescription>&lt;é&gt;</gvr:constraintDescription><gvr:valueInValidatedObject>DUPONT</gvr:valueInValidatedObject></gvr:constraint></gvr:subReport></gvr:validationReport>"#,
        r#"{"modelVersion":"2.0","overallResult":"PASSED","reports":[{"name":"p","subReportResult":"PASSED","assertionReports":[{"assertionID":"a","subjectValue":"x","result":"FAILED","severity":"WARNING"}],"subReports":[]}],"inputs":[{"id":"i","content":"aGVsbG8="}],"counters":{"numberOfAssertions":1}}"#,
        r#"{"result":"PASSED","testCounters":{"total":1},"testRunReports":[{"result":"PASSED","stepRunReports":[{"name":"s","result":"PASSED"}]}]}"#,
        r#"{"oid":"1.2","status":"DONE_PASSED","object":[{"originalFileName":"a","content":"aGVsbG8="}]}"#,
    ];

    #[test]
    fn a_scrubbed_copy_reads_as_the_body_did() {
        for sample in SAMPLES {
            let copy = crate::gazelle::scrub::scrub(sample.as_bytes()).unwrap().bytes;
            assert_eq!(read_report(&copy, 1 << 20), read_report(sample.as_bytes(), 1 << 20));
            assert_eq!(read_record(&copy), read_record(sample.as_bytes()));
        }
    }

    #[test]
    fn a_deeply_nested_report_can_be_written_and_read_again() {
        let deep = format!(
            "<validationReport result='PASSED'>{}<constraint testResult='FAILED'/>{}</validationReport>",
            "<subReport name='x'>".repeat(60),
            "</subReport>".repeat(60)
        );
        let report = read_report(deep.as_bytes(), 1 << 20).unwrap();
        assert_eq!((report.computed_counters.errors, report.computed_result, report.truncated), (1, Some(TestResult::Failed), true));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<GazelleReport>(&json).unwrap(), report);
    }

    #[test]
    fn a_flood_of_failures_is_counted_and_not_kept() {
        let many =
            format!("<validationReport><subReport>{}</subReport></validationReport>", "<constraint testResult='FAILED'/>".repeat(10_000));
        let report = read_report(many.as_bytes(), 1 << 20).unwrap();
        assert_eq!((report.computed_counters.errors, report.truncated), (10_000, true));
        assert!(report.walk().iter().map(|p| p.not_passed.len()).sum::<usize>() <= 500);
    }

    proptest! {
        #[test]
        fn mutated_reports_never_panic(
            which in 0..SAMPLES.len(),
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = SAMPLES[which].as_bytes().to_vec();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for body in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                let read = read_report(body, 1 << 20);
                let _ = read_record(body);
                if let (Ok(read), Some(copy)) = (read, crate::gazelle::scrub::scrub(body)) {
                    prop_assert_eq!(Ok(read), read_report(&copy.bytes, 1 << 20));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_report(&bytes, 1 << 20);
            let _ = read_record(&bytes);
        }
    }

    #[test]
    fn dates_are_instants_or_read_as_utc_or_missing() {
        for (text, at, naive) in [
            ("2025-09-30T12:44:06.137Z", "2025-09-30T12:44:06.137Z", false),
            ("2025-09-30T14:44:06+02:00", "2025-09-30T12:44:06Z", false),
            ("2025-09-30T14:44:06.137+0200", "2025-09-30T12:44:06.137Z", false),
            ("2025-09-30T12:44:06", "2025-09-30T12:44:06Z", true),
            ("2025-09-30T14:44:06+02:00[Europe/Paris]", "2025-09-30T12:44:06Z", false),
            ("1759236246137", "2025-09-30T12:44:06.137Z", false),
        ] {
            assert_eq!(date(text), Some(ReportDate { at: at.into(), without_offset: naive }), "{text}");
        }
        for text in ["", "yesterday", "2025-09-30", "2025-13-01T00:00:00Z", "30/09/2025 12:44", "0", "99999999999999999"] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn a_document_is_digested_decoded() {
        assert_eq!(document_digest("aGVs\n bG8="), document_digest("aGVsbG8"));
        assert_eq!(document_digest("aGVsbG8=").1, 5);
        assert_eq!(document_digest("<not base64>").1, 12);
    }

    #[test]
    fn bodies_in_other_encodings_are_decoded() {
        let latin1 = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><r>\xe9</r>";
        assert!(decode(latin1).contains("é"));
        let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain("<r/>".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(decode(&utf16), "<r/>");
    }
}
