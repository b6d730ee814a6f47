//! Reading a rules file: TOML whose every problem is told with file, line, column and key.
//!
//! `serde` stops at the first mistake; a person who edits a rules file wants them all. So a key or a value that
//! is refused is reported, taken out of a copy of the document, and reading goes on. The untouched document is
//! kept to find the place of whatever later checks complain about.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::labels::nearest;
use crate::model::text::display_safe;

/// Which kind of rules file: the first half of a problem's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `pipelines/*.toml`.
    Pipeline,
    /// A catalogue.
    Catalogue,
}

/// What is wrong at one place of a rules file. The texts are for the person who edits the file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Kind {
    /// Not TOML.
    #[error("malformed TOML: {0}")]
    Syntax(String),
    /// A key nobody reads: a misspelt setting would silently be without effect.
    #[error("unknown key `{key}`{}", suggestion(.nearest, .known))]
    UnknownKey {
        /// As written.
        key: String,
        /// The known key it may have meant.
        nearest: Option<String>,
        /// All known keys of that table.
        known: Vec<String>,
    },
    /// A value outside a closed list.
    #[error("unknown value `{value}`{}", suggestion(.nearest, .known))]
    UnknownValue {
        /// As written.
        value: String,
        /// The known value it may have meant.
        nearest: Option<String>,
        /// The list.
        known: Vec<String>,
    },
    /// A format code that is not in the table of formats.
    #[error("unknown format `{value}`{}", did_you_mean(.nearest))]
    UnknownFormat {
        /// As written.
        value: String,
        /// The code it may have meant.
        nearest: Option<String>,
    },
    /// A mandatory key is absent.
    #[error("missing key `{0}`")]
    MissingKey(String),
    /// Wrong type of value, or anything else the reader refuses.
    #[error("{0}")]
    Type(String),
    /// Another schema than this version reads.
    #[error("schema `{found}` is not read by this version, which reads `{expected}`")]
    Schema {
        /// As written.
        found: String,
        /// What this version reads.
        expected: &'static str,
    },
    /// An id that is not lower-case words joined by `-`.
    #[error("`{0}` is not an id: lower-case letters and digits, joined by `-`")]
    IdShape(String),
    /// A proof, scenario or exigence id that cannot be a name.
    #[error("`{0}` cannot be the id of a requirement: {1}")]
    RequirementId(String, &'static str),
    /// The same id or label twice where it must be unique.
    #[error("{what} `{value}` is already taken by {by}")]
    Duplicate {
        /// What is twice.
        what: &'static str,
        /// The value.
        value: String,
        /// Who has it.
        by: String,
    },
    /// A reference to something that is not declared.
    #[error("no {what} is named `{value}`{}", suggestion(.nearest, .known))]
    Dangling {
        /// What is referred to.
        what: &'static str,
        /// As written.
        value: String,
        /// What it may have meant.
        nearest: Option<String>,
        /// What is declared.
        known: Vec<String>,
    },
    /// Dependencies that wait for each other.
    #[error("dependency `{0}` waits for itself through `after`")]
    Cycle(String),
    /// A regular expression that does not compile.
    #[error("bad regular expression: {0}")]
    Regex(String),
    /// Not an IANA time zone.
    #[error("`{0}` is not an IANA time zone such as `Europe/Paris`")]
    TimeZone(String),
    /// Not a civil date or date-time.
    #[error("`{value}` is not {expected}: {reason}")]
    Date {
        /// As written.
        value: String,
        /// Expected notation.
        expected: &'static str,
        /// Why not.
        reason: String,
    },
    /// The columns of the obsolete-versions table contradict each other.
    #[error("{0}")]
    Columns(String),
    /// A local time that the clock skips or shows twice (daylight saving).
    #[error("{value} {why} in {zone}: choose another time")]
    LocalTime {
        /// As written.
        value: String,
        /// Skipped or doubled.
        why: &'static str,
        /// The time zone.
        zone: String,
    },
    /// A limit that nothing can satisfy, or that is no number.
    #[error("`{0}` must be more than zero")]
    Zero(&'static str),
    /// A text or a list that must not be empty.
    #[error("`{0}` must not be empty")]
    Empty(&'static str),
    /// A severity for a finding that does not exist.
    #[error("no finding has the code `{code}`{}", did_you_mean(.nearest))]
    UnknownFinding {
        /// As written.
        code: String,
        /// The code it may have meant.
        nearest: Option<String>,
    },
    /// The file beside it cannot be read.
    #[error("cannot read `{path}`: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl Kind {
    /// Second half of the problem's stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "SYNTAX",
            Self::Columns(_) => "COLUMNS",
            Self::UnknownKey { .. } => "UNKNOWN-KEY",
            Self::UnknownValue { .. } => "UNKNOWN-VALUE",
            Self::UnknownFormat { .. } => "UNKNOWN-FORMAT",
            Self::MissingKey(_) => "MISSING-KEY",
            Self::Type(_) => "TYPE",
            Self::Schema { .. } => "SCHEMA",
            Self::IdShape(_) | Self::RequirementId(..) => "ID",
            Self::Duplicate { .. } => "DUPLICATE",
            Self::Dangling { .. } => "DANGLING",
            Self::Cycle(_) => "CYCLE",
            Self::Regex(_) => "REGEX",
            Self::TimeZone(_) => "TIME-ZONE",
            Self::Date { .. } => "DATE",
            Self::LocalTime { .. } => "LOCAL-TIME",
            Self::Zero(_) => "ZERO",
            Self::Empty(_) => "EMPTY",
            Self::UnknownFinding { .. } => "UNKNOWN-FINDING",
            Self::Unreadable { .. } => "UNREADABLE",
        }
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |n| format!(", did you mean `{n}`?"))
}

fn suggestion(nearest: &Option<String>, known: &[String]) -> String {
    match nearest {
        Some(_) => did_you_mean(nearest),
        None if known.is_empty() => String::new(),
        None => format!(", expected one of {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// One problem of a rules file.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Which kind of file.
    pub document: Document,
    /// The file.
    pub path: PathBuf,
    /// Line and column, from 1; the column counts characters. `None` for the file as a whole.
    pub position: Option<(u32, u32)>,
    /// The key it is about: `slots[documentation].max_size.mo`. Empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub kind: Kind,
}

impl Problem {
    /// Stable code: `PIPELINE-UNKNOWN-KEY`, `CATALOGUE-DUPLICATE`…
    pub fn code(&self) -> String {
        let document = match self.document {
            Document::Pipeline => "PIPELINE",
            Document::Catalogue => "CATALOGUE",
        };
        format!("{document}-{}", self.kind.code())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.code())?;
        // Values come from files that people paste into: nothing of them moves the cursor.
        if !self.key.is_empty() {
            write!(f, ": {}", display_safe(&self.key, 200))?;
        }
        write!(f, ": {}", display_safe(&self.kind.to_string(), 2000))
    }
}

/// One step from a table or an array to what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// A position in an array, from 0.
    At(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Step {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Step {
    fn from(position: usize) -> Self {
        Self::At(position)
    }
}

/// `at!["slots", 2, "formats"]`.
macro_rules! at {
    ($($step:expr),* $(,)?) => { &[$($crate::pipeline::document::Step::from($step)),*] };
}
pub(super) use at;

/// A parsed rules file: finds the place of a key.
pub struct Source<'t> {
    document: Document,
    path: PathBuf,
    text: &'t str,
    root: DeTable<'t>,
}

impl<'t> Source<'t> {
    /// Parses `text`; a syntax error leaves what could be understood and is among the problems.
    pub fn parse(document: Document, path: &Path, text: &'t str) -> (Self, Vec<Problem>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let source = Self { document, path: path.to_owned(), text, root: root.into_inner() };
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| source.problem_at(error.span().map(|s| s.start), String::new(), Kind::Syntax(error.message().to_owned())))
            .collect();
        // One unclosed quote makes a complaint on each following line: the first ones tell it.
        problems.truncate(5);
        (source, problems)
    }

    /// Reads the document as `T`. Refused keys and values are reported and left out; `None` when what remains
    /// is still not a `T`.
    pub fn read<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        const MOST: usize = 100;
        let mut remaining = self.root.clone();
        let mut value_left_out = false;
        loop {
            let whole = Spanned::new(0..self.text.len(), remaining.clone());
            let error = match T::deserialize(toml::de::Deserializer::from(whole)) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let kind = kind_of(error.message());
            // A mandatory value that was just left out is not missing as well.
            if value_left_out && matches!(kind, Kind::MissingKey(_)) {
                return None;
            }
            // Found twice: positions in arrays move once something was left out, names must not.
            let place = error.span().and_then(|span| find(&remaining, &span));
            let named = error.span().and_then(|span| find(&self.root, &span)).unwrap_or_default();
            let kind = match kind {
                Kind::Type(_) if self.is_date(&named) => Kind::Type("a date and time goes between quotes here".to_owned()),
                kind => kind,
            };
            let is_value = !matches!(kind, Kind::UnknownKey { .. });
            let goes_on = matches!(kind, Kind::UnknownKey { .. } | Kind::UnknownValue { .. } | Kind::UnknownFormat { .. } | Kind::Type(_));
            problems.push(self.problem_at(error.span().map(|s| s.start), self.key(&named), kind));
            let left_out = goes_on && place.is_some_and(|steps| remove(&mut remaining, &steps));
            if !left_out || problems.len() >= MOST {
                return None;
            }
            value_left_out |= is_value;
        }
    }

    /// A problem with what `steps` lead to, or with the nearest thing around it that is in the file.
    pub fn problem(&self, steps: &[Step], kind: Kind) -> Problem {
        Problem { document: self.document, path: self.path.clone(), position: self.position(steps), key: self.key(steps), kind }
    }

    /// Line and column of what `steps` lead to, or of the nearest thing around it that is in the file.
    pub fn position(&self, steps: &[Step]) -> Option<(u32, u32)> {
        let mut start = None;
        let mut table = Some(&self.root);
        let mut value: Option<&Spanned<DeValue<'t>>> = None;
        for step in steps {
            let next = match (step, table, value.map(Spanned::get_ref)) {
                (Step::Key(key), Some(table), _) => table.get_key_value(key.as_str()).map(|(key, value)| (key.span(), value)),
                (Step::At(position), _, Some(DeValue::Array(array))) => array.get(*position).map(|value| (value.span(), value)),
                _ => None,
            };
            let Some((span, found)) = next else { break };
            start = Some(span.start);
            table = found.get_ref().as_table();
            value = Some(found);
        }
        start.map(|start| line_and_column(self.text, start))
    }

    fn problem_at(&self, offset: Option<usize>, key: String, kind: Kind) -> Problem {
        let position = offset.map(|offset| line_and_column(self.text, offset));
        Problem { document: self.document, path: self.path.clone(), position, key, kind }
    }

    fn is_date(&self, steps: &[Step]) -> bool {
        let [Step::Key(first), rest @ ..] = steps else { return false };
        let mut value = self.root.get(first.as_str()).map(Spanned::get_ref);
        for step in rest {
            value = match (step, value) {
                (Step::Key(key), Some(DeValue::Table(table))) => table.get(key.as_str()).map(Spanned::get_ref),
                (Step::At(position), Some(DeValue::Array(array))) => array.get(*position).map(Spanned::get_ref),
                _ => None,
            };
        }
        matches!(value, Some(DeValue::Datetime(_)))
    }

    /// `slots[documentation].formats`: an element is named by its `id` where it has one.
    fn key(&self, steps: &[Step]) -> String {
        let mut written = String::new();
        let mut table = Some(&self.root);
        let mut value: Option<&DeValue<'t>> = None;
        for step in steps {
            let next = match (step, table, value) {
                (Step::Key(key), Some(table), _) => table.get(key.as_str()),
                (Step::At(position), _, Some(DeValue::Array(array))) => array.get(*position),
                _ => None,
            }
            .map(Spanned::get_ref);
            match step {
                Step::Key(key) => {
                    if !written.is_empty() {
                        written.push('.');
                    }
                    written.push_str(key);
                }
                Step::At(position) => {
                    let id = next.and_then(DeValue::as_table).and_then(|t| t.get("id")).and_then(|id| id.get_ref().as_str());
                    written.push_str(&id.map_or_else(|| format!("[{position}]"), |id| format!("[{id}]")));
                }
            }
            table = next.and_then(DeValue::as_table);
            value = next;
        }
        written
    }
}

/// Line and column from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line as u32, before[line_start..].chars().count() as u32 + 1)
}

/// What serde says, sorted into kinds. Its wording is stable (it is part of `serde_core::de::Error`), and a
/// change would only make these messages plainer, never wrong: the fallback shows the text as it is.
fn kind_of(message: &str) -> Kind {
    let mut quoted = message.split('`').skip(1).step_by(2).map(str::to_owned);
    if message.starts_with("unknown field ") {
        let key = quoted.next().unwrap_or_default();
        let known: Vec<String> = quoted.collect();
        let nearest = nearest(&key, known.iter().map(String::as_str)).map(str::to_owned);
        Kind::UnknownKey { key, nearest, known }
    } else if message.starts_with("unknown variant ") {
        let value = quoted.next().unwrap_or_default();
        let known: Vec<String> = quoted.collect();
        let nearest = nearest(&value.to_lowercase(), known.iter().map(String::as_str)).map(str::to_owned);
        // The list of formats is long: only the nearest is shown.
        let is_format = crate::model::Format::ALL.iter().map(|f| f.code()).eq(known.iter().map(String::as_str));
        if is_format { Kind::UnknownFormat { value, nearest } } else { Kind::UnknownValue { value, nearest, known } }
    } else if message.starts_with("missing field ") {
        Kind::MissingKey(quoted.next().unwrap_or_default())
    } else {
        Kind::Type(message.to_owned())
    }
}

/// The steps to the key or value with exactly this span.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    fn in_value(value: &Spanned<DeValue<'_>>, span: &Range<usize>, steps: &mut Vec<Step>) -> bool {
        match value.get_ref() {
            DeValue::Table(table) => in_table(table, span, steps),
            DeValue::Array(array) => array.iter().enumerate().any(|(position, value)| {
                steps.push(Step::At(position));
                let found = in_value(value, span, steps) || value.span() == *span;
                if !found {
                    steps.pop();
                }
                found
            }),
            _ => false,
        }
    }
    fn in_table(table: &DeTable<'_>, span: &Range<usize>, steps: &mut Vec<Step>) -> bool {
        table.iter().any(|(key, value)| {
            steps.push(Step::Key(key.get_ref().to_string()));
            let found = key.span() == *span || in_value(value, span, steps) || value.span() == *span;
            if !found {
                steps.pop();
            }
            found
        })
    }
    let mut steps = Vec::new();
    in_table(table, span, &mut steps).then_some(steps)
}

/// Takes out what `steps` lead to; whether something was.
fn remove(table: &mut DeTable<'_>, steps: &[Step]) -> bool {
    fn in_value(value: &mut DeValue<'_>, steps: &[Step]) -> bool {
        match (value, steps) {
            (DeValue::Table(table), steps) => remove(table, steps),
            (DeValue::Array(array), [Step::At(position)]) => {
                if *position >= array.len() {
                    return false;
                }
                // The default array is `'static`: `take` would ask the same of this one.
                #[allow(clippy::mem_replace_with_default)]
                let all = std::mem::replace(array, DeArray::default());
                *array = all.into_iter().enumerate().filter(|(at, _)| at != position).map(|(_, value)| value).collect();
                true
            }
            (DeValue::Array(array), [Step::At(position), rest @ ..]) => {
                array.get_mut(*position).is_some_and(|value| in_value(value.get_mut(), rest))
            }
            _ => false,
        }
    }
    match steps {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => table.get_mut(key.as_str()).is_some_and(|value| in_value(value.get_mut(), rest)),
        _ => false,
    }
}
