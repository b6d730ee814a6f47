//! What inspectors say of known bytes, and what rules say of known facts, is written down in `tests/it/frozen/`.
//!
//! Facts are cached under `INSPECTOR_VERSION`, and outcomes are identified by `RULES_VERSION`: an answer that changes under an
//! unchanged version would mix old and new answers in every vault. So each file carries the version that it was recorded
//! under, and recording refuses to replace an answer to the same input under the same version.
//!
//! `GREFFIER_RECORD=1 cargo test --test it frozen` records. `GREFFIER_RECORD=unreleased` also replaces answers under the same
//! version: for a version that no release has had, so that no vault knows it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use greffier::assess::{Examined, RULES_VERSION, assess, assess_loose};
use greffier::check::folder;
use greffier::inspect::{Context, Limits, inspect};
use greffier::model::Finding;
use greffier::model::facts::{Facts, INSPECTOR_VERSION};
use greffier::model::report::ItemReport;
use greffier::model::submission::Content;
use greffier::model::text::display_safe;
use greffier::pipeline;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::root;

// The fuzzer's way of writing containers, for its seeds that are lists of parts.
#[path = "../../src/fuzzing/parts.rs"]
mod parts;

/// Targets of the fuzzer whose inputs are files, or lists of the parts of one.
const TARGETS: &[&str] = &["image", "odf", "ole", "ole_streams", "ooxml", "pdf", "text", "video", "zip"];

#[test]
fn facts_of_known_files_change_with_the_version_of_inspectors_only() {
    hold_facts();
}

fn hold_facts() {
    let mut answers = Vec::new();
    for path in files(&["fixtures/dossiers", "fuzz/seeds", "fuzz/regressions"]) {
        // Of the file as it is committed: a container made of its parts may carry the time.
        let input = std::fs::read(root().join(&path)).unwrap();
        let Some(bytes) = bytes_of(&path, &input) else { continue };
        let facts = serde_json::to_value(facts_of(&bytes)).unwrap();
        let lines = facts.as_object().unwrap().iter().map(|(field, value)| format!("{field} {value}")).collect();
        answers.push(Answer { input: digest(&input), name: path, lines });
    }
    held(&FACTS, &Recorded { version: INSPECTOR_VERSION.to_owned(), answers });
}

#[test]
fn findings_of_known_facts_change_with_the_version_of_rules_only() {
    if Record::asked() != Record::No {
        // What follows reads the facts that are recorded.
        hold_facts();
    }
    let stored = stored();
    let mut answers: Vec<Answer> = ["lgc-clean", "lgc-demo", "lgc-eligibility"].iter().map(|name| dossier(name, &stored)).collect();
    answers.extend(loose());
    held(&RULES, &Recorded { version: RULES_VERSION.to_owned(), answers });
}

/// One thing that is written down, and what it says when it changes.
struct Kept {
    file: &'static str,
    what: &'static str,
    constant: &'static str,
    place: &'static str,
}

const FACTS: Kept =
    Kept { file: "tests/it/frozen/facts.txt", what: "facts", constant: "INSPECTOR_VERSION", place: "src/model/facts/mod.rs" };
const RULES: Kept = Kept { file: "tests/it/frozen/findings.txt", what: "findings", constant: "RULES_VERSION", place: "src/assess/mod.rs" };

/// What one input is answered with.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    name: String,
    /// Digest of everything that the answer follows from.
    input: String,
    lines: Vec<String>,
}

/// The answers of a version.
#[derive(Debug, Clone, PartialEq)]
struct Recorded {
    version: String,
    answers: Vec<Answer>,
}

impl Recorded {
    fn parse(text: &str) -> Self {
        let mut recorded = Self { version: String::new(), answers: Vec::new() };
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("== ") {
                recorded.answers.push(Answer { name: name.to_owned(), input: String::new(), lines: Vec::new() });
            } else if let Some(version) = line.strip_prefix("version ").filter(|_| recorded.answers.is_empty()) {
                version.clone_into(&mut recorded.version);
            } else if let Some(answer) = recorded.answers.last_mut() {
                match line.strip_prefix("input ") {
                    Some(input) => input.clone_into(&mut answer.input),
                    None => answer.lines.push(line.to_owned()),
                }
            }
        }
        recorded
    }

    fn write(&self) -> String {
        let mut text = format!("Written by tests/it/frozen.rs, which says how to record it again.\nversion {}\n", self.version);
        for Answer { name, input, lines } in &self.answers {
            let _ = writeln!(text, "== {name}\ninput {input}");
            for line in lines {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }

    /// What differs in `current`: answers to the same input, and everything else.
    fn compare(&self, current: &Self) -> (Vec<String>, Vec<String>) {
        let (mut changed, mut other) = (Vec::new(), Vec::new());
        let known: BTreeMap<&str, &Answer> = self.answers.iter().map(|a| (a.name.as_str(), a)).collect();
        for answer in &current.answers {
            match known.get(answer.name.as_str()) {
                Some(before) if *before == answer => {}
                Some(before) if before.input == answer.input => changed.push(difference(before, answer)),
                Some(_) => other.push(format!("{}: its input changed", answer.name)),
                None => other.push(format!("{}: new", answer.name)),
            }
        }
        let gone = known.keys().filter(|name| current.answers.iter().all(|a| a.name != **name));
        other.extend(gone.map(|name| format!("{name}: gone")));
        if self.version != current.version {
            other.push(format!("recorded under version {}, and the version is {}", self.version, current.version));
        }
        (changed, other)
    }
}

/// The lines that only one of the two has.
fn difference(before: &Answer, now: &Answer) -> String {
    let mut text = now.name.clone();
    let cut = |line: &str| line.chars().take(400).collect::<String>();
    for (sign, one, two) in [('-', before, now), ('+', now, before)] {
        for line in one.lines.iter().filter(|line| !two.lines.contains(line)) {
            let _ = write!(text, "\n  {sign} {}", cut(line));
        }
    }
    text
}

/// How a test may replace what is recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Record {
    No,
    Yes,
    Unreleased,
}

impl Record {
    fn asked() -> Self {
        match std::env::var("GREFFIER_RECORD").as_deref() {
            Err(_) => Self::No,
            Ok("unreleased") => Self::Unreleased,
            Ok(_) => Self::Yes,
        }
    }
}

/// Whether `current` is what is recorded (`Ok(None)`) or may be recorded (`Ok(Some)`); otherwise what to do.
fn judged(kept: &Kept, recorded: &Recorded, current: &Recorded, record: Record) -> Result<Option<String>, String> {
    let (changed, other) = recorded.compare(current);
    let Kept { file, what, constant, place } = kept;
    if !changed.is_empty() && recorded.version == current.version && record != Record::Unreleased {
        let shown: Vec<_> = changed.iter().take(10).cloned().collect();
        return Err(format!(
            "{what} changed: bump {constant} in {place}, then accept with `GREFFIER_RECORD=1 cargo test --test it frozen`.\n\
             {} answers to the same input under version {}:\n{}",
            changed.len(),
            current.version,
            shown.join("\n")
        ));
    }
    if changed.is_empty() && other.is_empty() {
        return Ok(None);
    }
    if record != Record::No {
        return Ok(Some(current.write()));
    }
    let all: Vec<_> = changed.into_iter().chain(other).take(20).collect();
    Err(format!("{file} is not current: `GREFFIER_RECORD=1 cargo test --test it frozen` writes it.\n{}", all.join("\n")))
}

fn held(kept: &Kept, current: &Recorded) {
    let path = root().join(kept.file);
    let recorded = Recorded::parse(&std::fs::read_to_string(&path).unwrap_or_default());
    match judged(kept, &recorded, current, Record::asked()) {
        Ok(None) => {}
        Ok(Some(text)) => {
            // In one step: the other test may be reading.
            let folder = path.parent().unwrap();
            std::fs::create_dir_all(folder).unwrap();
            let mut new = tempfile::NamedTempFile::new_in(folder).unwrap();
            std::io::Write::write_all(&mut new, text.as_bytes()).unwrap();
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(new.path(), permissions).unwrap();
            new.persist(&path).unwrap();
        }
        Err(why) => panic!("{why}"),
    }
}

/// Paths of all files below these folders, from the root, in order.
fn files(folders: &[&str]) -> Vec<String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    folders.iter().for_each(|folder| below(&root().join(folder), &mut found));
    let mut named: Vec<_> = found.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect();
    named.sort();
    named
}

/// The bytes that an inspector would be given; none where the fuzzer's input is no file.
fn bytes_of<'a>(path: &str, input: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let target = path.strip_prefix("fuzz/").and_then(|rest| rest.split('/').nth(1));
    match target {
        Some(target) if !TARGETS.contains(&target) => None,
        Some("ooxml") => Some(parts::zip(input).into()),
        Some("odf") if !input.starts_with(b"<") => Some(parts::zip(input).into()),
        Some("ole_streams") => Some(parts::compound(input).into()),
        _ => Some(input.into()),
    }
}

/// The facts of these bytes; time must not decide what they are on a busy machine.
fn facts_of(bytes: &[u8]) -> Facts {
    inspect(bytes, &mut Context::new(Limits { max_cpu_ms: 3_600_000, ..Limits::default() }))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..12])
}

/// The facts that are written down, by path. Rules are tried on these, whatever inspectors say by now.
fn stored() -> BTreeMap<String, Facts> {
    let recorded = Recorded::parse(&std::fs::read_to_string(root().join(FACTS.file)).unwrap_or_default());
    let facts = |answer: &Answer| -> Facts {
        let fields: Map<String, Value> = answer
            .lines
            .iter()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(field, value)| (field.to_owned(), serde_json::from_str(value).unwrap()))
            .collect();
        serde_json::from_value(fields.into()).unwrap_or_else(|e| panic!("{}: facts of the recorded form are not read: {e}", answer.name))
    };
    recorded.answers.iter().map(|answer| (answer.name.clone(), facts(answer))).collect()
}

/// Findings of a committed dossier from its stored facts. Links have none.
fn dossier(name: &str, stored: &BTreeMap<String, Facts>) -> Answer {
    let loaded = pipeline::load(&root().join("pipelines/lgc-vague-2.toml")).unwrap();
    let folder = root().join("fixtures/dossiers").join(name);
    let given = if folder.join("submission.json").exists() { folder.join("submission.json") } else { folder };
    let (submission, _) = folder::open(&given).unwrap().into_submission(&loaded).unwrap();
    let mut examined = BTreeMap::new();
    for item in &submission.items {
        let looked = match &item.content {
            Content::File(file) => {
                let path = format!("fixtures/dossiers/{name}/{}", file.object);
                let facts = stored.get(&path).unwrap_or_else(|| panic!("no facts are recorded of {path}")).clone();
                let sha256 = Sha256::digest(std::fs::read(root().join(&path)).unwrap());
                Examined { sha256: Some(hex::encode(sha256)), size: Some(facts.size), facts: Some(facts), ..Examined::default() }
            }
            Content::Link(_) => Examined::default(),
        };
        examined.insert(item.id.clone(), looked);
    }
    let facts: Vec<_> = examined.values().map(|looked| &looked.facts).collect();
    let input = digest(&serde_json::to_vec(&json!([loaded.sha256, loaded.catalogue_sha256, submission, facts])).unwrap());
    let report = assess(&loaded, &submission, &examined);
    let mut lines = vec![format!("{} in all", report.verdict.as_str())];
    lines.extend(report.findings.iter().map(line));
    lines.extend(report.items.iter().filter(|item| !item.findings.is_empty()).flat_map(lines_of));
    Answer { name: name.to_owned(), input, lines }
}

/// Findings of loose files, from facts made by hand: what no committed file is.
fn loose() -> Vec<Answer> {
    let picture = json!({"kind": "image", "width": 640, "height": 400, "decoded": true, "animated": false});
    let cases = [
        ("facture.pdf.exe", json!({"size": 900, "format": "exe"})),
        ("capture.jpg", json!({"size": 900, "format": "png", "detail": picture})),
        ("capture.PNG", json!({"size": 900, "format": "png", "detail": picture, "identification": {"basis": "magic", "also": ["zip"]}})),
        ("nom\u{202E}gnp.exe.png", json!({"size": 900, "format": "png", "detail": picture})),
        ("inconnu.bin", json!({"size": 900})),
        ("vide.txt", json!({"size": 0, "signals": [{"code": "file-empty"}]})),
        ("numero.txt", json!({"size": 90, "format": "txt", "text": [{"text": "Patient 2 69 05 49 588 157 80, né le 01/05/1969"}]})),
        ("essai.txt", json!({"size": 90, "format": "txt", "text": [{"text": "INS 2 99 99 99 999 999 34"}]})),
        (
            "copies.zip",
            json!({"size": 900, "format": "zip", "signals": [{"code": "zip-encrypted", "place": {"members": ["a.xml"]}, "more": 3}]}),
        ),
        ("2690549588157 80.png", json!({"size": 900, "format": "png", "detail": picture})),
    ];
    let answer = |(name, facts): (&str, Value)| {
        let input = digest(&serde_json::to_vec(&json!([name, facts])).unwrap());
        let facts: Facts = serde_json::from_value(facts).unwrap_or_else(|e| panic!("{name}: {e}"));
        let looked = Examined { size: Some(facts.size), facts: Some(facts), ..Examined::default() };
        let item = assess_loose(name, &looked, None, &BTreeMap::new());
        Answer { name: format!("by hand: {}", display_safe(name, 80)), input, lines: lines_of(&item) }
    };
    cases.into_iter().map(answer).collect()
}

fn lines_of(item: &ItemReport) -> Vec<String> {
    let mut lines = vec![format!("{} {}", item.verdict.as_str(), item.id)];
    lines.extend(item.findings.iter().map(line));
    lines
}

/// A finding without its texts, which are no rules.
fn line(finding: &Finding) -> String {
    let severity = serde_json::to_value(finding.severity).unwrap();
    let mut line = format!("  {} {}", severity.as_str().unwrap(), finding.code);
    let place = serde_json::to_value(&finding.place).unwrap();
    for (what, value) in [("at", place), ("with", json!(finding.args)), ("more", json!(finding.more))] {
        if value != json!({}) && value != json!(0) && !value.is_null() {
            let _ = write!(line, " {what} {value}");
        }
    }
    line
}

#[test]
fn an_answer_to_the_same_input_is_not_replaced_under_the_same_version() {
    let answer = |name: &str, input: &str, line: &str| Answer { name: name.into(), input: input.into(), lines: vec![line.into()] };
    let version = |version: &str, answers: Vec<Answer>| Recorded { version: version.into(), answers };
    let recorded = version("3", vec![answer("a", "1", "size 1"), answer("b", "2", "size 2")]);
    assert_eq!(Recorded::parse(&recorded.write()), recorded);
    let judge = |current: &Recorded, record| judged(&FACTS, &recorded, current, record);
    assert_eq!(judge(&recorded, Record::No), Ok(None));

    let changed = version("3", vec![answer("a", "1", "size 7"), answer("b", "2", "size 2")]);
    for record in [Record::No, Record::Yes] {
        let why = judge(&changed, record).unwrap_err();
        assert!(why.starts_with("facts changed: bump INSPECTOR_VERSION in src/model/facts/mod.rs, then accept"), "{why}");
        assert!(why.contains("a\n  - size 1\n  + size 7") && !why.contains("size 2"), "{why}");
    }
    assert_eq!(judge(&changed, Record::Unreleased), Ok(Some(changed.write())));
    let bumped = Recorded { version: "4".into(), ..changed };
    assert!(judge(&bumped, Record::No).unwrap_err().contains("not current"));
    assert_eq!(judge(&bumped, Record::Yes), Ok(Some(bumped.write())));

    // Other inputs are no other answers; a version alone must be recorded too.
    let files = version("3", vec![answer("a", "9", "size 7"), answer("c", "3", "size 3")]);
    assert!(judge(&files, Record::No).is_err());
    assert_eq!(judge(&files, Record::Yes), Ok(Some(files.write())));
    let alone = version("4", recorded.answers.clone());
    assert!(judge(&alone, Record::No).unwrap_err().contains("recorded under version 3"));
}
