//! Findings: what a rule says of facts. Stable code, severity, place, reason and remedy.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::text::Text;

/// The stable code of a finding: lower-case words joined by `-`, first the family (`pdf-encrypted`).
/// Every code has an entry in `messages/*.toml` and a page `docs/findings/CODE.md`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Code(Cow<'static, str>);

impl Code {
    /// A code known at compile time. A test checks that every literal given here is documented.
    pub const fn of(code: &'static str) -> Self {
        Self(Cow::Borrowed(code))
    }
    /// A code read from outside (a pipeline file, a stored report).
    pub fn parse(code: &str) -> Self {
        Self(Cow::Owned(code.to_owned()))
    }
    /// The code itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much a finding weighs. Ordered: the heaviest decides the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; changes no verdict.
    Notice,
    /// A verifier should look; the deposit stands.
    Warning,
    /// The check could not be done (never the vendor's fault): the verdict is `undetermined`.
    Fatal,
    /// The vendor must fix it: the item is rejected.
    Error,
}

/// What kind of trouble a finding is about; groups findings in reports and statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Damaged, truncated or malformed: cannot be read as what it claims to be.
    Corrupt,
    /// No content at all.
    Empty,
    /// Encrypted or password-protected.
    Encrypted,
    /// Name, declared type and content disagree.
    Mislabeled,
    /// Two formats at once, or data hidden before or after the document.
    Polyglot,
    /// Macros (VBA, XLM).
    Macro,
    /// Anything else that acts or reaches out when the file is opened.
    ActiveContent,
    /// Costs more to read than any honest file: decompression bombs, endless structures.
    Bomb,
    /// Archive structure: names that escape, duplicates, overlaps.
    Archive,
    /// A format that the slot does not accept.
    Format,
    /// Size limits.
    Size,
    /// Count limits.
    Count,
    /// Blank, too small, too short: readable but of little use as a proof.
    Quality,
    /// Personal data: position, author, identity numbers.
    Privacy,
    /// Signatures seen in the file.
    Signature,
    /// What a table or a text says against what is expected of it.
    Content,
    /// Expected and absent.
    Missing,
    /// Present and not expected.
    Surplus,
    /// The same bytes, or the same item, more than once.
    Duplicate,
    /// Dates and deadlines.
    Deadline,
    /// NIE, NIL, NRU, wiin.io…
    Identifier,
    /// Gazelle links and reports.
    Gazelle,
    /// Antivirus.
    Antivirus,
    /// The submission document itself.
    Submission,
    /// A technical failure on our side or the outside world's.
    Technical,
}

/// What a rule says, at one place of one item (or of the whole submission).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable code.
    pub code: Code,
    /// Severity after the pipeline's policy.
    pub severity: Severity,
    /// Kind of trouble.
    pub category: Category,
    /// Where in the item.
    #[serde(default, skip_serializing_if = "Place::is_empty")]
    pub place: Place,
    /// One line: what is wrong.
    pub summary: Text,
    /// What was seen, with the figures.
    pub reason: Text,
    /// How to fix it.
    pub remedy: Text,
    /// The values the texts were filled with, for machines.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Arg>,
    /// How many times the same was seen beyond the one shown (0 = once).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A value inside a signal or a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Arg {
    /// An integer: counts, sizes in bytes.
    Int(i64),
    /// A real number: seconds, ratios.
    Num(f64),
    /// Text, untrusted; safe to show however it came, also out of a child that a file took over.
    Str(#[serde(deserialize_with = "safe")] String),
}

fn safe<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| super::text::display_safe(&text, MAX_ARG))
}

/// Longest text of a value, characters.
const MAX_ARG: usize = 300;

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Num(n) => write!(f, "{n:.1}"),
            Self::Str(s) => f.write_str(s),
        }
    }
}

macro_rules! arg_from_int { ($($t:ty),*) => { $(impl From<$t> for Arg {
    fn from(n: $t) -> Self { Self::Int(i64::try_from(n).unwrap_or(i64::MAX)) }
})* } }
arg_from_int!(i64, i32, u64, u32, u16, u8, usize);
impl From<f64> for Arg {
    fn from(n: f64) -> Self {
        Self::Num(n)
    }
}
impl From<&str> for Arg {
    fn from(s: &str) -> Self {
        Self::Str(super::text::display_safe(s, MAX_ARG))
    }
}
impl From<String> for Arg {
    fn from(s: String) -> Self {
        Self::from(s.as_str())
    }
}

/// The outcome of an item or of a whole submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to say, or notices only.
    Accepted,
    /// At least one warning, nothing heavier.
    AcceptedWithWarnings,
    /// At least one error: the vendor must fix it.
    Rejected,
    /// A technical failure: never shown as clean, never the vendor's fault.
    Undetermined,
}

impl Verdict {
    /// The verdict that a set of severities makes. An error outweighs a technical failure: what is
    /// certainly wrong stays wrong whatever could not be checked.
    pub fn of(severities: impl IntoIterator<Item = Severity>) -> Self {
        match severities.into_iter().max() {
            Some(Severity::Error) => Self::Rejected,
            Some(Severity::Fatal) => Self::Undetermined,
            Some(Severity::Warning) => Self::AcceptedWithWarnings,
            Some(Severity::Notice) | None => Self::Accepted,
        }
    }
    /// The word used in JSON, file names and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AcceptedWithWarnings => "accepted_with_warnings",
            Self::Rejected => "rejected",
            Self::Undetermined => "undetermined",
        }
    }
    /// The words a person reads.
    pub fn label(self) -> Text {
        match self {
            Self::Accepted => Text::new("accepté", "accepted"),
            Self::AcceptedWithWarnings => Text::new("accepté avec réserves", "accepted with warnings"),
            Self::Rejected => Text::new("rejeté", "rejected"),
            Self::Undetermined => Text::new("indéterminé", "undetermined"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_severity_decides() {
        assert_eq!(Verdict::of([]), Verdict::Accepted);
        assert_eq!(Verdict::of([Severity::Notice]), Verdict::Accepted);
        assert_eq!(Verdict::of([Severity::Notice, Severity::Warning]), Verdict::AcceptedWithWarnings);
        assert_eq!(Verdict::of([Severity::Warning, Severity::Fatal]), Verdict::Undetermined);
        assert_eq!(Verdict::of([Severity::Fatal, Severity::Error]), Verdict::Rejected);
    }

    #[test]
    fn a_value_is_safe_to_show_however_it_came() {
        for hostile in ["\u{1b}[31m\u{202e}x", &"é".repeat(400)] {
            let read: Arg = serde_json::from_value(serde_json::json!(hostile)).unwrap();
            assert_eq!(read, Arg::from(hostile));
        }
        let numbers: Vec<Arg> = serde_json::from_str("[1, 1.5]").unwrap();
        assert_eq!(numbers, [Arg::Int(1), Arg::Num(1.5)]);
    }
}
