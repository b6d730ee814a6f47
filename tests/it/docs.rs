//! What is written down stays true: finding pages, schemas, codes used in the source.

use std::collections::BTreeSet;
use std::path::Path;

use greffier::cli::explain::pages;
use greffier::cli::schema::SchemaName;
use greffier::model::messages;

use crate::support::root;

#[test]
fn finding_pages_are_current() {
    let folder = root().join("docs/findings");
    let pages = pages();
    for (name, page) in &pages {
        let written = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(written == *page, "docs/findings/{name} is not current: run `greffier explain --write-docs docs/findings`");
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(pages.iter().any(|(n, _)| *n == name), "docs/findings/{name} belongs to no code");
    }
}

#[test]
fn schemas_are_current() {
    for (schema, file) in SchemaName::ALL {
        let written = std::fs::read_to_string(root().join("docs/schemas").join(file)).unwrap_or_default();
        let current = serde_json::to_string_pretty(&schema.schema()).unwrap();
        assert!(written.trim_end() == current, "docs/schemas/{file} is not current: run `scripts/docs`");
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
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            literals(&path, used);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_none_or(|n| n != "tests.rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for call in ["Signal::new(", "Code::of("] {
                for after in source.split(call).skip(1) {
                    let literal = after.trim_start();
                    if let Some(code) = literal.strip_prefix('"').and_then(|l| l.split('"').next()) {
                        used.insert(code.to_owned());
                    }
                }
            }
        }
    }
}
