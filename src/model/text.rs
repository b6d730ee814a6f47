//! Bilingual text: French first, English too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The language of what a person reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// French, the language of the démarche.
    #[default]
    Fr,
    /// English.
    En,
}

/// One sentence in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a text in both languages: { fr = \"…\", en = \"…\" }")]
pub struct Text {
    /// French.
    pub fr: String,
    /// English.
    pub en: String,
}

impl Text {
    /// Both languages at once.
    pub fn new(fr: impl Into<String>, en: impl Into<String>) -> Self {
        Self { fr: fr.into(), en: en.into() }
    }

    /// The text in `lang`.
    pub fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::Fr => &self.fr,
            Lang::En => &self.en,
        }
    }
}

/// Makes an untrusted string safe to show in a terminal, a log line or a header: control characters
/// (C0, C1, DEL) and bidirectional overrides (Unicode UAX #9: U+202A–U+202E, U+2066–U+2069, U+200E/F,
/// U+061C) become `�`, and the result holds at most `max_chars` characters.
pub fn display_safe(untrusted: &str, max_chars: usize) -> String {
    let mut shown: String = untrusted.chars().take(max_chars).map(|c| if is_unsafe_to_show(c) { '\u{FFFD}' } else { c }).collect();
    if untrusted.chars().nth(max_chars).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// Whether showing `c` could move the cursor, reorder text or hide itself.
pub fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200B}'..='\u{200F}' | '\u{061C}' | '\u{FEFF}' | '\u{2028}' | '\u{2029}')
}

/// An error and its causes in one line, causes that only repeat it left out.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    for cause in std::iter::successors(error.source(), |e| e.source()) {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_bidi_overrides_are_replaced() {
        assert_eq!(display_safe("a\u{1b}[31mb\u{202e}gnp.exe", 50), "a\u{FFFD}[31mb\u{FFFD}gnp.exe");
    }

    #[test]
    fn long_names_are_cut_at_the_limit() {
        assert_eq!(display_safe("abcdef", 4), "abc…");
        assert_eq!(display_safe("abcd", 4), "abcd");
    }
}
