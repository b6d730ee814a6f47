//! What errors and reasons to park say: one TOML entry per code, in French and English, embedded in the binary.
//!
//! As with findings, the pages under `docs/errors/` are generated from it (`greffier explain --write-docs docs`), and a
//! test keeps registry, pages and source in step.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use super::text::Text;

/// Everything said of one code.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorPage {
    /// Other codes of which the same holds, word for word.
    #[serde(default)]
    pub also: Vec<String>,
    /// One line: what happened.
    pub summary: Text,
    /// What to do about it.
    pub remedy: Text,
}

/// The registry, parsed once; a test parses it, so a failure here is a build that was never tested.
pub fn all() -> &'static BTreeMap<String, ErrorPage> {
    static ALL: OnceLock<BTreeMap<String, ErrorPage>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: BTreeMap<String, ErrorPage> =
            toml::from_str(include_str!("errors.toml")).unwrap_or_else(|e| panic!("embedded errors.toml is malformed: {e}"));
        let others: Vec<_> = all.values().flat_map(|page| page.also.iter().map(|code| (code.clone(), page.clone()))).collect();
        for (code, page) in others {
            assert!(all.insert(code.clone(), page).is_none(), "embedded errors.toml has {code} twice");
        }
        all
    })
}

/// The first code in what an error says that has a page.
pub fn code_in(said: &str) -> Option<&'static str> {
    let mut words = said.split_whitespace().filter_map(|word| word.strip_suffix(':'));
    words.find_map(|word| all().get_key_value(word).map(|(code, _)| code.as_str()))
}

/// The page of `code`.
pub fn get(code: &str) -> Option<&'static ErrorPage> {
    all().get(code)
}
