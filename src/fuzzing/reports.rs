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
use crate::model::Place;
use crate::model::facts::{Facts, TextChunk};
use crate::model::report::Report;
use crate::model::submission::{Content, Submission};
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
pub fn example() -> &'static Loaded {
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

/// Steps that judging an input may take, for each of its bytes and in all. Several rules read each byte, and one topic of the
/// documentation after another.
const STEPS: (u64, u64) = (200, 500_000);

/// Rules, redaction and the report over any facts: they end within their steps, and no identity number is left to read.
/// The input is the name of the file, a line break, and its facts as JSON; whatever is no facts is the text of the file.
pub fn rules(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (name, content) = text.split_once('\n').unwrap_or(("a.txt", &text));
    let facts: Facts = serde_json::from_str(content).unwrap_or_else(|_| {
        let chunk = TextChunk { place: Place::line(1), text: content.to_owned() };
        Facts { text: vec![chunk], ..Facts::of_size(content.len() as u64) }
    });
    static FIXED: OnceLock<Submission> = OnceLock::new();
    let mut submission = FIXED.get_or_init(|| parse_submission(SUBMISSION).expect("as written above")).clone();
    for item in &mut submission.items {
        if let Content::File(file) = &mut item.content {
            file.name = name.to_owned();
        }
    }
    let looked = Examined { sha256: Some("0".repeat(64)), size: Some(1), facts: Some(std::sync::Arc::new(facts)), ..Examined::default() };
    let examined: BTreeMap<String, Examined> = submission.items.iter().map(|item| (item.id.clone(), looked.clone())).collect();
    let work = Work::new(STEPS.1 + STEPS.0 * bytes.len() as u64);
    let report = assess(example(), &submission, &examined, &work);
    assert_eq!(work.ended(), None, "judging {} bytes took {} steps", bytes.len(), work.spent());
    let json = serde_json::to_value(&report).expect("a report is JSON");
    assert_eq!(report, serde_json::from_value(json.clone()).expect("a report can be read again"), "a report says the same");
    for field in ["text", "metadata"] {
        for item in json["items"].as_array().expect("items") {
            no_number(&item["facts"][field]);
        }
    }
    for item in json["items"].as_array().expect("items") {
        no_number(&item["name"]);
        no_number(&item["findings"]);
    }
    no_number(&json["findings"]);
}

/// No word of fifteen digits that has the structure and the key of an identity number: told otherwise than the rule tells it.
fn no_number(value: &serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            for word in text.split_whitespace().filter(|w| w.len() == 15 && w.bytes().all(|b| b.is_ascii_digit())) {
                let part = |from: usize, to: usize| word[from..to].parse::<u64>().expect("digits");
                let place = match part(5, 7) {
                    0 => false,
                    97 | 98 => (1..=90).contains(&part(8, 10)),
                    _ => (1..=990).contains(&part(7, 10)),
                };
                let is_plain = matches!(part(0, 1), 1 | 2) && (1..=12).contains(&part(3, 5)) && place && part(10, 13) > 0;
                // Test numbers are shown: they are no person's.
                let known = example().pipeline.guards.privacy.test_numbers.iter().any(|t| t.starts_with(&word[..13]));
                let near_oid = text.contains("1.2.250.1.213.1.4.1");
                let right = is_plain && 97 - part(0, 13) % 97 == part(13, 15);
                assert!(known || near_oid || !right, "a number is left in {text:?}");
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(no_number),
        serde_json::Value::Object(fields) => fields.values().for_each(no_number),
        _ => {}
    }
}

fn judge(submission: &Submission, facts: Option<&Facts>) {
    let looked =
        Examined { sha256: Some("0".repeat(64)), size: Some(1), facts: facts.cloned().map(std::sync::Arc::new), ..Examined::default() };
    let examined: BTreeMap<String, Examined> = submission.items.iter().take(8).map(|item| (item.id.clone(), looked.clone())).collect();
    let report = assess(example(), submission, &examined, &Work::unbounded());
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
