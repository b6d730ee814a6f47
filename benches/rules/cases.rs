//! The worst inputs that each rule is known to have, of any size: what the benchmark times and what a test counts.
#![allow(clippy::expect_used, reason = "cases are constants; in the tests that include this file the lint is off")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use greffier::assess::look_alikes::MAX_PICTURES;
use greffier::assess::{answer, coherence, completeness, documentation, file_rules, look_alikes, obsolete_versions, privacy, rounds};
use greffier::bundle::names::{MAX_PATH, Namer};
use greffier::model::Lang;
use greffier::model::facts::{CellValue, Facts, SheetFacts, WorkbookFacts};
use greffier::model::report::{ItemReport, Report};
use greffier::model::submission::{ChangeRequest, FiledUnder, Submission};
use greffier::model::work::Work;
use greffier::pipeline::guards::{CoherencePolicy, LookAlikePolicy, PrivacyPolicy};
use greffier::pipeline::{self, Loaded, ids};
use serde_json::{Value, json};

/// Makes the input of a size, and what reads it.
type Prepare = fn(usize) -> Box<dyn Fn(&Work)>;

/// A rule and its worst input.
pub struct Case {
    pub name: &'static str,
    /// A size at which the rule does measurable work.
    pub size: usize,
    /// Makes the input of a size, and returns what runs the rule over it.
    pub prepare: Prepare,
    /// Whether the rule counts its steps; the others end by what their input may hold.
    pub counts: bool,
}

/// Every rule, and every step that makes names and pages.
pub const CASES: &[Case] = &[
    Case { name: "privacy: one number over and over", size: 4_000, prepare: numbers, counts: true },
    Case { name: "privacy: numbers between invisible characters", size: 4_000, prepare: invisible, counts: true },
    Case { name: "privacy: cells of one figure", size: 20_000, prepare: cells, counts: true },
    Case { name: "privacy: names of share keys without a value", size: 20_000, prepare: share_keys, counts: true },
    Case { name: "privacy: members below a long name", size: 2_000, prepare: members, counts: true },
    Case { name: "look-alikes: equal pictures", size: MAX_PICTURES, prepare: pictures, counts: true },
    Case { name: "duplicates: one file in every item", size: 8_000, prepare: duplicates, counts: true },
    Case { name: "coherence: text made of ids", size: 10_000, prepare: cited, counts: true },
    Case { name: "coherence: a name made of ids", size: 10_000, prepare: named, counts: true },
    Case { name: "file rules: members of a format that is not accepted", size: 20_000, prepare: formats, counts: true },
    Case { name: "documentation: the terms of every topic", size: 5_000, prepare: terms, counts: true },
    Case { name: "obsolete versions: rows of unknown values", size: 4_000, prepare: rows, counts: true },
    Case { name: "names: items of one name", size: 8_000, prepare: one_name, counts: false },
    Case { name: "rounds: every item changed, every request about one proof", size: 4_000, prepare: changed, counts: false },
    Case { name: "answer: a finding on every item", size: 4_000, prepare: answered, counts: false },
];

/// The rules of the example.
pub fn rules() -> &'static Loaded {
    static RULES: OnceLock<Loaded> = OnceLock::new();
    RULES.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/lgc-vague-2.toml");
        pipeline::load(&path).unwrap_or_else(|e| panic!("{e}"))
    })
}

/// Made up, with the right key.
const NUMBER: &str = "185057864608497";

fn text(text: &str) -> Facts {
    serde_json::from_value(facts(json!({ "text": [{ "place": { "line": 1 }, "text": text }] }))).expect("facts")
}

/// Facts as an inspector writes them, with these fields besides.
fn facts(more: Value) -> Value {
    let mut facts = serde_json::to_value(Facts::of_size(1)).expect("facts are JSON");
    if let (Value::Object(facts), Value::Object(more)) = (&mut facts, more) {
        facts.extend(more);
    }
    facts
}

fn scan(facts: Facts) -> Box<dyn Fn(&Work)> {
    Box::new(move |work| drop(privacy::signals("a.txt", Some(&facts), &PrivacyPolicy::default(), work)))
}

fn numbers(n: usize) -> Box<dyn Fn(&Work)> {
    scan(text(&format!("{NUMBER}\n").repeat(n)))
}

fn invisible(n: usize) -> Box<dyn Fn(&Work)> {
    let hidden: String = NUMBER.chars().flat_map(|c| [c, '\u{AD}']).collect();
    scan(text(&format!("{hidden} ").repeat(n)))
}

fn workbook(values: Vec<(u32, u32, CellValue)>) -> WorkbookFacts {
    WorkbookFacts { sheets: vec![SheetFacts { name: "Feuil1".into(), values, ..SheetFacts::default() }], ..WorkbookFacts::default() }
}

fn cells(n: usize) -> Box<dyn Fn(&Work)> {
    let values = (0..n as u32).map(|at| (1, at + 1, CellValue::Text("1".into()))).collect();
    let detail = Some(greffier::model::facts::Detail::Workbook(workbook(values)));
    scan(Facts { detail, ..Facts::default() })
}

fn item(id: usize, preuve: &str, name: &str, sha256: &str, facts: Option<Value>) -> ItemReport {
    let mut item = json!({ "id": format!("{id}"), "preuve": preuve, "name": name, "link": false, "sha256": sha256, "size": 1, "verdict": "accepted", "findings": [] });
    if let (Value::Object(item), Some(facts)) = (&mut item, facts) {
        item.insert("facts".into(), facts);
    }
    serde_json::from_value(item).expect("an item of a report")
}

fn share_keys(n: usize) -> Box<dyn Fn(&Work)> {
    let item = item(1, "INS.02.01.01", &"privacykey".repeat(n), "aa", None);
    Box::new(move |work| privacy::redact_item(&mut item.clone(), &PrivacyPolicy::default(), work))
}

fn archive(members: Vec<Value>) -> Value {
    let members: Vec<Value> = members.into_iter().map(with_member_defaults).collect();
    let mut detail = serde_json::to_value(greffier::model::facts::Detail::Archive(Default::default())).expect("facts are JSON");
    detail["members"] = Value::Array(members);
    facts(json!({ "format": "zip", "detail": detail }))
}

fn with_member_defaults(more: Value) -> Value {
    let mut member = serde_json::to_value(greffier::model::facts::MemberFacts::default()).expect("facts are JSON");
    if let (Value::Object(member), Value::Object(more)) = (&mut member, more) {
        member.extend(more);
    }
    member
}

fn members(n: usize) -> Box<dyn Fn(&Work)> {
    let inside = (0..n).map(|k| json!({ "name": format!("{k}.txt"), "facts": facts(json!({})) })).collect();
    let outside = archive(vec![json!({ "name": "x".repeat(n * 20), "facts": archive(inside) })]);
    scan(serde_json::from_value(outside).expect("facts"))
}

fn exigence(filed: &FiledUnder) -> Option<String> {
    match filed {
        FiledUnder::Preuve(id) => Some(id.clone()),
        FiledUnder::Slot(_) => None,
    }
}

fn pictures(n: usize) -> Box<dyn Fn(&Work)> {
    let picture = json!({ "kind": "image", "width": 1600, "height": 1000, "decoded": true, "luma_deviation": 40.0, "perceptual_hash": "0f0f3c3ca5a50ff0" });
    let mut image = serde_json::to_value(greffier::model::facts::Detail::Image(Default::default())).expect("facts are JSON");
    if let (Value::Object(image), Value::Object(picture)) = (&mut image, picture) {
        image.extend(picture);
    }
    let items: Vec<ItemReport> =
        (0..n).map(|k| item(k, &format!("INS.{k}"), &"n".repeat(200), &format!("{k}"), Some(facts(json!({ "detail": image }))))).collect();
    Box::new(move |work| drop(look_alikes::signals(&items, &exigence, &LookAlikePolicy::default(), work)))
}

fn submission() -> &'static Submission {
    static SUBMISSION: OnceLock<Submission> = OnceLock::new();
    SUBMISSION.get_or_init(|| {
        let text = r#"{"schema":"greffier/submission/1","demarche":"lgc-vague-2","candidature":{"number":"QWHTRVBNZP"},"items":[]}"#;
        greffier::check::folder::parse_submission(text).expect("as written above")
    })
}

fn duplicates(n: usize) -> Box<dyn Fn(&Work)> {
    let items: Vec<ItemReport> = (0..n).map(|k| item(k, &format!("INS.{k}"), "a.png", "aa", None)).collect();
    Box::new(move |work| {
        let expected = completeness::Expected::new(rules(), submission());
        completeness::duplicates(&expected, &mut items.clone(), work);
    })
}

fn cohere(name: String, facts: Facts) -> Box<dyn Fn(&Work)> {
    Box::new(move |work| {
        let known = coherence::Known::new(&rules().catalogue.preuves, &ids::canonical);
        let filed = FiledUnder::Preuve(rules().catalogue.preuves[0].id.clone());
        drop(coherence::signals(&known, &filed, &name, Some(&facts), &CoherencePolicy::default(), work));
    })
}

fn all_ids(n: usize) -> String {
    rules().catalogue.preuves.iter().map(|p| p.id.as_str()).cycle().take(n).fold(String::new(), |mut all, id| {
        let _ = write!(all, "{id} ");
        all
    })
}

fn cited(n: usize) -> Box<dyn Fn(&Work)> {
    cohere("a.txt".into(), text(&all_ids(n)))
}

fn named(n: usize) -> Box<dyn Fn(&Work)> {
    cohere(all_ids(n), Facts::default())
}

fn formats(n: usize) -> Box<dyn Fn(&Work)> {
    let members = (0..n).map(|k| json!({ "name": format!("{k}.flv"), "facts": facts(json!({ "format": "flv" })) })).collect();
    let facts: Facts = serde_json::from_value(archive(members)).expect("facts");
    Box::new(move |work| {
        let looked = greffier::assess::Examined { facts: Some(std::sync::Arc::new(Clone::clone(&facts))), ..Default::default() };
        let slot = rules().pipeline.slots.first().expect("the example has slots");
        let declared = file_rules::Declared { name: "a.zip", size: None, media_type: None, sha256: None };
        drop(file_rules::signals(&declared, &looked, completeness::slot_rules(rules(), slot).as_ref(), work));
    })
}

fn terms(n: usize) -> Box<dyn Fn(&Work)> {
    let config = rules().pipeline.documentation.as_ref().expect("the example has documentation");
    let all: Vec<&str> = config.topics.iter().flat_map(|t| &t.terms).map(String::as_str).cycle().take(n).collect();
    let facts = text(&all.join(" - "));
    Box::new(move |work| drop(documentation::read([&facts], config, &[], work)))
}

fn rows(n: usize) -> Box<dyn Fn(&Work)> {
    let model = rules().pipeline.versions_obsoletes.as_ref().expect("the example has obsolete versions");
    let mut values = Vec::new();
    for (column, header) in (1..).zip(model.columns.iter().filter_map(|c| c.headers.first())) {
        values.push((1, column, CellValue::Text(header.clone())));
    }
    for row in 2..n as u32 {
        values.extend((1..=model.columns.len() as u32).map(|column| (row, column, CellValue::Text(format!("valeur {row} {column}")))));
    }
    let workbook = workbook(values);
    Box::new(move |work| drop(obsolete_versions::read(&workbook, model, work)))
}

fn one_name(n: usize) -> Box<dyn Fn(&Work)> {
    Box::new(move |_| {
        let mut namer = Namer::default();
        (0..n).for_each(|_| drop(namer.file("data/ins/INS.02", "capture.png", "fichier", MAX_PATH)));
    })
}

fn report(items: Vec<ItemReport>) -> Report {
    let work = Work::unbounded();
    let mut report = greffier::assess::assess(rules(), submission(), &BTreeMap::new(), &work);
    report.items = items;
    report
}

fn changed(n: usize) -> Box<dyn Fn(&Work)> {
    let of = |digest: &str| report((0..n).map(|k| item(k, "INS.02.01.01", "a.png", &format!("{digest}{k}"), None)).collect());
    let (before, now) = (of("a"), of("b"));
    let request = ChangeRequest { preuve: "INS.02.01.01".into(), text: "à refaire".into() };
    let requests = vec![request; n];
    Box::new(move |_| drop(rounds::diff(&before, &now, &requests, &ids::canonical).expect("the same deposit")))
}

fn answered(n: usize) -> Box<dyn Fn(&Work)> {
    let mut items: Vec<ItemReport> = (0..n).map(|k| item(k, &format!("INS.{k}"), "a.png", "aa", None)).collect();
    let expected = completeness::Expected::new(rules(), submission());
    completeness::duplicates(&expected, &mut items, &Work::unbounded());
    let report = report(items);
    Box::new(move |_| drop(answer::vendor_message(&report, Lang::Fr)))
}
