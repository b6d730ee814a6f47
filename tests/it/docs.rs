//! What is written down stays true: pages of findings and errors, schemas, the contract, codes used in the source.

use std::collections::BTreeSet;
use std::path::Path;

use greffier::cli::explain::{error_pages, pages};
use greffier::cli::schema::SchemaName;
use greffier::model::event::{self, ItemChecked, Outcome, SubmissionDelayed, SubmissionParked, SubmissionReceived};
use greffier::model::message::{Lane, SUBMISSION_REQUESTED};
use greffier::model::submission::Submission;
use greffier::model::{errors, messages};
use greffier::worker::records::Received;
use regex::Regex;
use serde_json::{Value, json};

use crate::support::{Contract, greffier, root, stdout};

#[test]
fn pages_of_findings_and_errors_are_current() {
    for (folder, pages) in [("findings", pages()), ("errors", error_pages())] {
        for (name, page) in &pages {
            let written = std::fs::read_to_string(root().join("docs").join(folder).join(name)).unwrap_or_default();
            assert!(written == *page, "docs/{folder}/{name} is not current: run `scripts/docs`");
        }
        for entry in std::fs::read_dir(root().join("docs").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(pages.iter().any(|(n, _)| *n == name), "docs/{folder}/{name} belongs to no code");
        }
    }
}

#[test]
fn schemas_are_current() {
    for (schema, file) in SchemaName::ALL {
        let written = std::fs::read_to_string(root().join("docs/schemas").join(file)).unwrap_or_default();
        let current = serde_json::to_string_pretty(&schema.schema()).unwrap();
        assert!(written.trim_end() == current, "docs/schemas/{file} is not current: run `scripts/docs`");
    }
    for entry in std::fs::read_dir(root().join("docs/schemas")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(SchemaName::ALL.iter().any(|(_, file)| *file == name), "docs/schemas/{name} is the schema of nothing");
    }
}

#[test]
fn every_error_code_in_the_source_has_a_page_and_every_page_is_of_a_code_in_the_source() {
    let used = error_codes();
    let documented: BTreeSet<String> = errors::all().keys().cloned().collect();
    let undocumented: Vec<_> = used.difference(&documented).collect();
    assert!(undocumented.is_empty(), "codes without an entry in src/model/errors.toml: {undocumented:?}");
    let unused: Vec<_> = documented.difference(&used).collect();
    assert!(unused.is_empty(), "entries of src/model/errors.toml that nothing raises: {unused:?}");
    for reason in greffier::metrics::REASONS.iter().filter(|r| **r != "other") {
        assert!(used.contains(*reason), "a metric counts {reason}, which nothing raises");
    }
}

#[test]
fn an_error_names_its_page_and_explain_knows_both_kinds_of_code() {
    let failed = greffier(&["check", "/nowhere"]);
    assert_eq!(failed.status.code(), Some(2));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.starts_with("greffier: Le dossier ou le document de soumission ne peut pas être lu.\n  SUBMISSION-UNREADABLE: "),
        "{said}"
    );
    assert!(said.ends_with("→ greffier explain SUBMISSION-UNREADABLE\n"), "{said}");
    let english = greffier(&["check", "/nowhere", "--lang", "en"]);
    assert!(String::from_utf8_lossy(&english.stderr).starts_with("greffier: The folder or submission document cannot be read.\n"));
    for (asked, lang, expected) in [
        ("SUBMISSION-UNREADABLE", "fr", "Que faire"),
        ("submission-unreadable", "en", "What to do"),
        ("FILE-EMPTY", "fr", "Constat"),
        ("job-store", "en", "greffier doctor"),
    ] {
        let explained = greffier(&["explain", asked, "--lang", lang]);
        assert!(explained.status.success() && stdout(&explained).contains(expected), "{asked}: {explained:?}");
    }
    for (asked, near) in [("SEAL-SIGNATUR", "`SEAL-SIGNATURE`"), ("image-trunkated", "`image-truncated`")] {
        let refused = greffier(&["explain", asked]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(near), "{refused:?}");
    }
    let all = stdout(&greffier(&["explain"]));
    assert!(all.contains("image-truncated") && all.contains("JOB-UNDETERMINED"), "{all}");
}

#[test]
#[ignore = "needs Python; run by scripts/test"]
fn the_contract_names_every_message_and_only_what_is_there() {
    let contract = Contract::read();
    let messages = contract.0["components"]["messages"].as_object().unwrap();
    let named: BTreeSet<_> = messages.values().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(named, event::TYPES.into_iter().chain([SUBMISSION_REQUESTED]).collect());
    assert_eq!(contract.0["channels"]["events"]["parameters"]["type"]["enum"], json!(event::TYPES));
    assert_eq!(contract.0["channels"]["jobs"]["parameters"]["lane"]["enum"], json!(Lane::ALL.map(Lane::as_str)));

    let mut references = BTreeSet::new();
    collect(&contract.0, &mut references);
    references.iter().for_each(|reference| drop(contract.resolve(reference)));
    for entry in std::fs::read_dir(root().join("docs/examples")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            name == "received.json" || references.contains(&format!("./examples/{name}")),
            "docs/examples/{name} is an example of nothing"
        );
    }
}

#[test]
#[ignore = "needs Python; run by scripts/test"]
fn every_example_is_what_its_schema_says_and_what_the_program_reads() {
    let contract = Contract::read();
    for message in contract.0["components"]["messages"].as_object().unwrap().values() {
        let kind = message["name"].as_str().unwrap();
        let examples = message["examples"].as_array().unwrap_or_else(|| panic!("{kind} has no example"));
        for example in examples {
            let body = contract.resolve(example["payload"]["$ref"].as_str().unwrap());
            contract.validate(&message["payload"], &body, kind);
            let read = match kind {
                SUBMISSION_REQUESTED => again::<Submission>(&body),
                event::SUBMISSION_RECEIVED => again::<SubmissionReceived>(&body),
                event::ITEM_CHECKED => again::<ItemChecked>(&body),
                event::SUBMISSION_DELAYED => again::<SubmissionDelayed>(&body),
                event::BUNDLE_READY | event::SUBMISSION_REJECTED => again::<Outcome>(&body),
                event::SUBMISSION_PARKED => again::<SubmissionParked>(&body),
                other => panic!("{other}"),
            };
            assert_eq!(read, body, "{kind}");
        }
    }
    let record = contract.resolve("./examples/received.json");
    contract.validate(&json!({"$ref": "./schemas/received.json"}), &record, "received");
    assert_eq!(again::<Received>(&record), record);
    // The schemas refuse something.
    let mut wrong = contract.resolve("./examples/bundle-ready.json");
    wrong["verdict"] = "clean".into();
    assert!(!jsonschema::is_valid(&contract.resolve("./schemas/outcome.json"), &wrong));
}

/// What the program reads, written again.
fn again<T: serde::de::DeserializeOwned + serde::Serialize>(body: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(body.clone()).unwrap()).unwrap()
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|v| collect(v, references));
        }
        Value::Array(values) => values.iter().for_each(|v| collect(v, references)),
        _ => {}
    }
}

#[test]
fn every_code_in_the_source_is_documented_and_every_documented_code_is_used() {
    let mut used = BTreeSet::new();
    literals(&root().join("src"), &mut used);
    let documented: BTreeSet<String> = messages::all().keys().cloned().collect();
    let undocumented: Vec<_> = used.difference(&documented).collect();
    assert!(undocumented.is_empty(), "codes without message: {undocumented:?}");
    let unused: Vec<_> = documented.difference(&used).collect();
    assert!(unused.is_empty(), "messages that nothing raises: {unused:?}");
}

/// Literals given to `Signal::new` and `Code::of`, tests left out.
fn literals(folder: &Path, used: &mut BTreeSet<String>) {
    sources(folder, &mut |_, source| {
        for call in ["Signal::new(", "Code::of("] {
            for after in source.split(call).skip(1) {
                let literal = after.trim_start();
                if let Some(code) = literal.strip_prefix('"').and_then(|l| l.split('"').next()) {
                    used.insert(code.to_owned());
                }
            }
        }
    });
}

/// Codes that a person may meet: texts that begin with one (`"CODE: …"`), codes as constants, as reasons to park, as
/// answers of `fn code`, and those of rules files, which are put together from the kind of file and the kind of problem.
fn error_codes() -> BTreeSet<String> {
    let code = "[A-Z]{2,}(?:-[A-Z0-9]+)+|NOT-FIT";
    let raised = Regex::new(&format!(r#""(?:({code}): )|: &str = "({code})"|(?:ParkReason::new|refused)\(\s*"({code})""#)).unwrap();
    let answered = Regex::new(&format!(r#"=> "({code}|[A-Z]+)""#)).unwrap();
    let mut codes = BTreeSet::new();
    sources(&root().join("src"), &mut |path, source| {
        for captures in raised.captures_iter(source) {
            codes.extend(captures.iter().skip(1).flatten().map(|c| c.as_str().to_owned()));
        }
        for body in source.split("pub fn code(&self) -> &'static str {").skip(1) {
            let body = &body[..body.find("\n    }\n").unwrap()];
            for captures in answered.captures_iter(body) {
                let word = captures.get(1).unwrap().as_str();
                if !path.ends_with("pipeline/document.rs") {
                    codes.insert(word.to_owned());
                    continue;
                }
                // Every problem of a pipeline; of a catalogue, what it can have.
                codes.insert(format!("PIPELINE-{word}"));
                let never = ["UNKNOWN-FORMAT", "CYCLE", "REGEX", "TIME-ZONE", "LOCAL-TIME", "ZERO", "COLUMNS", "UNKNOWN-FINDING"];
                if !never.contains(&word) {
                    codes.insert(format!("CATALOGUE-{word}"));
                }
            }
        }
    });
    codes
}

/// Every source file, without its tests.
fn sources(folder: &Path, read: &mut dyn FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, read);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_none_or(|n| n != "tests.rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            read(&path, source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}
