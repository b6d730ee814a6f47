//! What findings say: one TOML entry per code, in French and English, embedded in the binary.
//!
//! The registry is the single source of a code's category, default severity and texts; the pages under
//! `docs/findings/` are generated from it (`greffier explain --write-docs DIR`) and a test keeps them equal.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use super::finding::{Arg, Category, Code, Severity};
use super::text::{Lang, Text};

/// Everything said of one code.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Kind of trouble.
    pub category: Category,
    /// Severity where the pipeline does not say otherwise.
    pub severity: Severity,
    /// One line: what is wrong. No values in it, so that the same trouble always has the same title.
    pub summary: Text,
    /// What was seen; `{name}` is replaced by the signal's value of that name.
    pub reason: Text,
    /// How to fix it; `{name}` likewise.
    pub remedy: Text,
    /// More, for the help page: why the rule exists, how it is checked, edge cases.
    #[serde(default)]
    pub help: Option<Text>,
    /// Where the rule comes from: RFC, ISO, ANS document.
    #[serde(default)]
    pub source: Option<String>,
}

const SOURCES: &[(&str, &str)] = &[
    ("antivirus.toml", include_str!("messages/antivirus.toml")),
    ("archive.toml", include_str!("messages/archive.toml")),
    ("content.toml", include_str!("messages/content.toml")),
    ("file.toml", include_str!("messages/file.toml")),
    ("gazelle.toml", include_str!("messages/gazelle.toml")),
    ("guards.toml", include_str!("messages/guards.toml")),
    ("media.toml", include_str!("messages/media.toml")),
    ("office.toml", include_str!("messages/office.toml")),
    ("pdf.toml", include_str!("messages/pdf.toml")),
    ("rules.toml", include_str!("messages/rules.toml")),
    ("sandbox.toml", include_str!("messages/sandbox.toml")),
    ("sheet.toml", include_str!("messages/sheet.toml")),
    ("submission.toml", include_str!("messages/submission.toml")),
];

/// The registry, parsed once. The files are part of the binary and a test parses them, so a failure here
/// is a build that was never tested.
pub fn all() -> &'static BTreeMap<String, Message> {
    static ALL: OnceLock<BTreeMap<String, Message>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = BTreeMap::new();
        for (file, source) in SOURCES {
            let entries: BTreeMap<String, Message> =
                toml::from_str(source).unwrap_or_else(|e| panic!("embedded messages/{file} is malformed: {e}"));
            for (code, message) in entries {
                assert!(all.insert(code.clone(), message).is_none(), "finding code `{code}` is defined twice");
            }
        }
        all
    })
}

/// The entry of `code`.
pub fn get(code: &Code) -> Option<&'static Message> {
    all().get(code.as_str())
}

/// Replaces `{name}` by the value of that name; a name without value becomes `—`, and a part in `[…]` that holds one is
/// left out. Sizes end in `_bytes` and are written with thousands separated (`10 485 760 octets`).
pub fn fill(template: &str, args: &BTreeMap<String, Arg>, lang: Lang) -> String {
    let mut filled = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, (optional, after))) = rest.split_once('[').and_then(|(before, more)| Some((before, more.split_once(']')?))) {
        put(&mut filled, before, args, lang);
        if names(optional).all(|name| args.contains_key(name)) {
            put(&mut filled, optional, args, lang);
        }
        rest = after;
    }
    put(&mut filled, rest, args, lang);
    filled
}

/// The names between braces.
fn names(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|part| part.split('}').next())
}

fn put(filled: &mut String, template: &str, args: &BTreeMap<String, Arg>, lang: Lang) {
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        filled.push_str(before);
        match after[1..].find('}') {
            Some(close) => {
                let name = &after[1..=close];
                match args.get(name) {
                    Some(Arg::Int(n)) if name.ends_with("_bytes") => filled.push_str(&bytes(*n, lang)),
                    Some(Arg::Num(n)) => {
                        let shown = format!("{n:.1}");
                        filled.push_str(&if lang == Lang::Fr { shown.replace('.', ",") } else { shown });
                    }
                    Some(value) => filled.push_str(&value.to_string()),
                    None => filled.push('—'),
                }
                rest = &after[close + 2..];
            }
            None => {
                filled.push_str(after);
                rest = "";
            }
        }
    }
    filled.push_str(rest);
}

/// `10 485 760 octets` / `10,485,760 bytes`. French groups digits with U+202F (NF Z 01-001).
pub fn bytes(n: i64, lang: Lang) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(match lang {
                Lang::Fr => '\u{202F}',
                Lang::En => ',',
            });
        }
        grouped.push(d);
    }
    match lang {
        Lang::Fr => format!("{grouped} octet{}", if n.unsigned_abs() < 2 { "" } else { "s" }),
        Lang::En => format!("{grouped} byte{}", if n == 1 { "" } else { "s" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_complete() {
        for (code, m) in all() {
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{code}");
            for text in [&m.summary, &m.reason, &m.remedy] {
                assert!(!text.fr.trim().is_empty() && !text.en.trim().is_empty(), "{code} misses a text");
                assert!(!text.fr.contains("TODO") && !text.en.contains("TODO"), "{code}");
            }
            assert!(!m.summary.fr.contains('{'), "{code}: a summary holds no value");
            for text in [&m.reason.fr, &m.reason.en, &m.remedy.fr, &m.remedy.en] {
                for part in text.split('[').skip(1) {
                    let optional = part.split_once(']').unwrap_or_else(|| panic!("{code}: `[` is not closed")).0;
                    assert!(optional.contains('{'), "{code}: what is in `[…]` depends on no value");
                }
            }
        }
    }

    #[test]
    fn placeholders_agree_between_languages() {
        fn names(s: &str) -> Vec<&str> {
            let mut names: Vec<_> = super::names(s).collect();
            // A value that is words has one name for each language.
            for name in &mut names {
                *name = name.strip_suffix("_fr").or(name.strip_suffix("_en")).unwrap_or(name);
            }
            names.sort_unstable();
            names.dedup();
            names
        }
        for (code, m) in all() {
            assert_eq!(names(&m.reason.fr), names(&m.reason.en), "reason of {code}");
            assert_eq!(names(&m.remedy.fr), names(&m.remedy.en), "remedy of {code}");
        }
    }

    #[test]
    fn values_fill_templates() {
        let args = BTreeMap::from([("size_bytes".to_owned(), Arg::Int(10_485_760)), ("n".to_owned(), Arg::Num(1.5))]);
        assert_eq!(fill("{size_bytes}, {n}, {x}", &args, Lang::Fr), "10\u{202F}485\u{202F}760 octets, 1,5, —");
        assert_eq!(fill("{size_bytes}, {n} {", &args, Lang::En), "10,485,760 bytes, 1.5 {");
        let optional = "Unknown.[ The nearest: {n}.][ Or: {n}, {x}.]";
        assert_eq!(fill(optional, &args, Lang::En), "Unknown. The nearest: 1.5.");
        assert_eq!(fill(optional, &BTreeMap::new(), Lang::En), "Unknown.");
    }
}
