//! What the parent takes from a child and from the upload service, judged and shown: whatever they say, the report
//! can be read again, and the page, the table and the terminal show nothing that acts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use super::files::shown;
use crate::assess::{Examined, assess};
use crate::bundle::{html, index_csv};
use crate::check::folder::parse_submission;
use crate::inspect::Limits;
use crate::model::facts::Facts;
use crate::model::report::Report;
use crate::model::submission::Submission;
use crate::model::work::Work;
use crate::pipeline::{self, Loaded};
use crate::sandbox::{Reply, Request, heard, wire};

/// Where a file is filed whose facts are read as a table, as documentation, as a proof.
const SUBMISSION: &str = r#"{"schema":"greffier/submission/1","demarche":"lgc-vague-2",
    "candidature":{"number":"QWHTRVBNZP","product":"CabinetDémo","version":"7.2.0","profiles":["general"]},"items":[
    {"id":"a","slot":"versions-obsoletes","file":{"object":"a","name":"versions.xlsx"}},
    {"id":"b","slot":"documentation","file":{"object":"b","name":"documentation.pdf"}},
    {"id":"c","preuve":"INS.02.01.01","file":{"object":"c","name":"capture.png"}}]}"#;

/// The rules of the example.
pub fn rules() -> &'static Loaded {
    static RULES: OnceLock<Loaded> = OnceLock::new();
    RULES.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/lgc-vague-2.toml");
        pipeline::load(&path).unwrap_or_else(|e| panic!("{e}"))
    })
}

/// What a child answers, even one that a file took over; and what a child is asked.
pub fn child(bytes: &[u8]) {
    if wire::decode(bytes).is_ok() {
        let length = bytes.get(1..).and_then(|rest| rest.first_chunk());
        assert_eq!(length.map(|n| u64::from_le_bytes(*n)), Some(bytes.len() as u64 - 9), "one whole answer");
    }
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let again = serde_json::to_vec(&request).expect("a request is JSON");
        assert!(serde_json::from_slice::<Request>(&again).is_ok(), "a request survives the wire");
    }
    let whole = [[wire::LOCKED_IN].as_slice(), &(bytes.len() as u64).to_le_bytes(), bytes].concat();
    let Ok(reply) = wire::decode(&whole) else { return };
    assert!(!matches!(reply, Reply::Unavailable { .. }), "a child that is locked in blames the machine");
    let again = [vec![wire::LOCKED_IN], wire::encode(&reply).expect("an answer is JSON")].concat();
    let Reply::Facts { facts } = reply else { return };
    match wire::decode(&again) {
        // The facts cache keeps what was heard, and is heard the same.
        Ok(Reply::Facts { facts: again }) => assert_eq!(facts, again, "facts survive the cache"),
        other => panic!("facts became {other:?}"),
    }
    // What the rules are shown is what the parent takes, of a file of any size.
    if heard::check(&facts, facts.size, &Limits::default()).is_err() {
        return;
    }
    assert!(heard::check(&facts, facts.size.wrapping_add(1), &Limits::default()).is_err(), "facts of another size are taken");
    static FIXED: OnceLock<Submission> = OnceLock::new();
    let submission = FIXED.get_or_init(|| parse_submission(SUBMISSION).expect("as written above"));
    judge(submission, Some(&facts));
}

/// What the upload service asks for.
pub fn submission(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(submission) = parse_submission(text) else { return };
    let again = serde_json::to_string(&submission).expect("a submission is JSON");
    assert_eq!(parse_submission(&again).as_ref(), Ok(&submission), "a submission survives the queue");
    judge(&submission, None);
}

fn judge(submission: &Submission, facts: Option<&Facts>) {
    let looked =
        Examined { sha256: Some("0".repeat(64)), size: Some(1), facts: facts.cloned().map(std::sync::Arc::new), ..Examined::default() };
    let examined: BTreeMap<String, Examined> = submission.items.iter().take(8).map(|item| (item.id.clone(), looked.clone())).collect();
    let report = assess(rules(), submission, &examined, &Work::unbounded());
    for finding in report.items.iter().flat_map(|item| &item.findings).chain(&report.findings) {
        shown(finding.code.as_str());
        for text in [&finding.summary, &finding.reason, &finding.remedy] {
            shown(&text.fr.replace('\n', " "));
            shown(&text.en.replace('\n', " "));
        }
    }
    let json = serde_json::to_vec(&report).expect("a report is JSON");
    let again: Report = serde_json::from_slice(&json).expect("a report can be read again");
    assert_eq!(report, again, "a report says the same when it is read again");
    page(&report);
    table(&report);
}

/// Nothing in the page comes from outside but text: no element, no address that acts, nothing that hides.
fn page(report: &Report) {
    let previews = BTreeMap::new();
    let page = html::render(report, &html::PageOptions { previews: &previews, link_base: Some("") }, &Work::unbounded())
        .expect("the template renders");
    let (markup, rest) = page.split_once("<script type=\"application/json\"").expect("texts for the search");
    let (texts, _) = rest.split_once("</script>").expect("its end");
    assert!(!texts.contains('<'), "the texts for the search stay inside their element");
    assert!(!markup.contains("<script") && !markup.contains("<img") && !markup.contains("<iframe"), "an element from outside");
    for address in markup.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let scheme = address.split_once(':').map(|(scheme, _)| scheme);
        assert!(scheme.is_none_or(|s| matches!(s, "https" | "http")), "an address that acts: {address:?}");
    }
    shown(&markup.replace('\n', " "));
}

/// No cell is a formula.
fn table(report: &Report) {
    let table = index_csv::render(report).expect("written to memory");
    let mut reader = csv::ReaderBuilder::new().delimiter(b';').from_reader(table.strip_prefix(b"\xEF\xBB\xBF").expect("a mark"));
    for record in reader.records() {
        for cell in &record.expect("as many cells in each row") {
            shown(cell);
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "a formula: {cell:?}");
        }
    }
}
