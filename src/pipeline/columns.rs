//! The column model of a declared table: which columns a pipeline expects, how people may spell them, and
//! what their cells may hold.
//!
//! The agency's template of the « versions obsolètes » file is not public, so nothing of it is compiled in:
//! a pipeline declares it. A model reads like this (the same one as [`ColumnModel::sample`]):
//!
//! ```toml
#![doc = include_str!("columns.example.toml")]
//! ```

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A table as a pipeline declares it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnModel {
    /// Columns, in the order they are shown.
    pub columns: Vec<Column>,
    /// The header row is looked for down to this row of each sheet.
    #[serde(default = "default_header_rows")]
    pub header_rows: u32,
    /// Sentences that declare the table empty, wherever they stand (« aucune version obsolète »).
    #[serde(default)]
    pub none_phrases: Vec<String>,
    /// Words that declare it only where they fill the row alone (« néant »); in a filled row they mean an
    /// empty cell.
    #[serde(default)]
    pub none_words: Vec<String>,
    /// Sheets that hold no answer: names that start with one of these are passed over.
    #[serde(default)]
    pub ignored_sheets: Vec<String>,
    /// Rows whose first cell starts with one of these are no data (« total », « exemple »).
    #[serde(default)]
    pub ignored_rows: Vec<String>,
    /// Columns that together name a row; two rows with the same are a duplicate.
    #[serde(default)]
    pub unique: Vec<String>,
    /// Pairs of date columns of which the second is never before the first.
    #[serde(default)]
    pub order: Vec<DateOrder>,
    /// Dates outside are implausible.
    #[serde(default)]
    pub dates: DateWindow,
}

const fn default_header_rows() -> u32 {
    30
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Stable id, the key of the values read.
    pub id: String,
    /// Accepted headers, the usual one first. Case, accents, punctuation, plural and small words do not count.
    pub headers: Vec<String>,
    /// What its cells hold.
    #[serde(default)]
    pub kind: ColumnKind,
    /// The column must exist, and every row must fill it.
    #[serde(default)]
    pub required: bool,
    /// A row must fill it when another column holds one of these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_when: Option<RequiredWhen>,
    /// An empty cell means « as above » (cells merged downwards, or written once).
    #[serde(default)]
    pub carry_down: bool,
    /// The values of a `choice`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Choice>,
}

/// What a column's cells hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnKind {
    /// Anything.
    #[default]
    Text,
    /// A version number, as written.
    Version,
    /// A day, a month or a year.
    Date,
    /// One of the declared values.
    Choice,
    /// A whole number, zero or more.
    Integer,
    /// An `http` or `https` address.
    Url,
}

/// One value of a `choice`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Stable id, the value read.
    pub id: String,
    /// Accepted spellings, the usual one first; the id itself is accepted too.
    #[serde(default)]
    pub spellings: Vec<String>,
}

/// When a cell must be filled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequiredWhen {
    /// Id of the column looked at.
    pub column: String,
    /// Values (of a `choice`: their ids) that make it required.
    pub is: Vec<String>,
}

/// A pair of date columns.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DateOrder {
    /// Id of the column with the earlier date.
    pub first: String,
    /// Id of the column with the later one.
    pub then: String,
}

/// Plausible days, both ends included, ISO 8601 (`2000-01-01`). An absent end is open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DateWindow {
    /// First plausible day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest: Option<String>,
    /// Last plausible day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<String>,
}

/// A model that contradicts itself. The pipeline refuses to start with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ColumnModelError {
    /// No column at all.
    #[error("a column model declares at least one column")]
    Empty,
    /// Two columns share an id.
    #[error("column `{0}` is declared twice")]
    TwiceDeclared(String),
    /// A column nobody could write.
    #[error("column `{0}` accepts no header")]
    NoHeader(String),
    /// Two columns accept headers that read the same.
    #[error("columns `{0}` and `{1}` both accept the header `{2}`")]
    SharedHeader(String, String, String),
    /// `values` and `kind` disagree.
    #[error("column `{0}`: `values` goes with kind `choice`, and only with it")]
    Values(String),
    /// A rule names a column that does not exist (or is no date where a date is needed).
    #[error("{rule} names `{column}`, which is no such column")]
    UnknownColumn {
        /// The key of the rule.
        rule: &'static str,
        /// What it names.
        column: String,
    },
    /// A bound that is no day.
    #[error("`{0}` is not a day such as 2000-01-01")]
    NotADay(String),
}

impl ColumnModel {
    /// The column with this id.
    pub fn column(&self, id: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// Checks that the model does not contradict itself.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), ColumnModelError> {
        if self.columns.is_empty() {
            return Err(ColumnModelError::Empty);
        }
        let mut ids = BTreeSet::new();
        let mut headers: Vec<(String, &str)> = Vec::new();
        for column in &self.columns {
            if !ids.insert(column.id.as_str()) {
                return Err(ColumnModelError::TwiceDeclared(column.id.clone()));
            }
            if column.headers.iter().all(|h| fold(h).is_empty()) {
                return Err(ColumnModelError::NoHeader(column.id.clone()));
            }
            for header in &column.headers {
                let folded = fold(header);
                match headers.iter().find(|(h, _)| *h == folded) {
                    Some((_, other)) if *other != column.id => {
                        return Err(ColumnModelError::SharedHeader((*other).to_owned(), column.id.clone(), header.clone()));
                    }
                    Some(_) => {}
                    None => headers.push((folded, &column.id)),
                }
            }
            if (column.kind == ColumnKind::Choice) == column.values.is_empty() {
                return Err(ColumnModelError::Values(column.id.clone()));
            }
            if let Some(when) = &column.required_when {
                self.known("required-when", &when.column, false)?;
            }
        }
        for column in &self.unique {
            self.known("unique", column, false)?;
        }
        for order in &self.order {
            self.known("order", &order.first, true)?;
            self.known("order", &order.then, true)?;
        }
        for day in [&self.dates.earliest, &self.dates.latest].into_iter().flatten() {
            day.parse::<jiff::civil::Date>().map_err(|_| ColumnModelError::NotADay(day.clone()))?;
        }
        Ok(())
    }

    fn known(&self, rule: &'static str, column: &str, date: bool) -> Result<(), ColumnModelError> {
        match self.column(column) {
            Some(c) if !date || c.kind == ColumnKind::Date => Ok(()),
            _ => Err(ColumnModelError::UnknownColumn { rule, column: column.to_owned() }),
        }
    }

    /// A plausible model of the « versions obsolètes » table, for tests and as a start for a pipeline.
    ///
    /// # Panics
    /// Never: the embedded file is parsed by a test.
    #[expect(clippy::expect_used, reason = "the sample is embedded, and a test parses it")]
    pub fn sample() -> Self {
        toml::from_str(include_str!("columns.example.toml")).expect("the embedded sample is parsed by a test")
    }
}

/// What is compared of two headers or two spellings: lower case, no accents, no punctuation, no small
/// words, no plural.
pub fn fold(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    const SMALL: &[&str] = &["de", "du", "des", "la", "le", "les", "l", "d", "en", "au", "aux", "et", "of", "the", "ou"];
    let plain: String = text
        .nfkd()
        .filter(|c| !unicode_normalization::char::is_combining_mark(*c))
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .collect();
    let mut folded = String::with_capacity(plain.len());
    for word in plain.split_whitespace().filter(|w| !SMALL.contains(w)) {
        if !folded.is_empty() {
            folded.push(' ');
        }
        let singular = if word.chars().count() > 3 { word.strip_suffix(['s', 'x']).unwrap_or(word) } else { word };
        folded.push_str(singular);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_sample_is_sound() {
        assert_eq!(ColumnModel::sample().check(), Ok(()));
        assert!(ColumnModel::sample().columns.len() >= 9);
    }

    #[test]
    fn spellings_that_people_mix_fold_to_the_same() {
        for spelling in [
            "Date de fin de support",
            "DATE FIN SUPPORT",
            "date\u{a0}de fin\nde  support :",
            "Dates de fin du support*",
            "Date fin d’support",
        ] {
            assert_eq!(fold(spelling), "date fin support", "{spelling}");
        }
        assert_eq!(fold("N° de VERSION"), "n version");
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let mut model = ColumnModel::sample();
        model.order.push(DateOrder { first: "version".into(), then: "date-fin-support".into() });
        assert!(matches!(model.check(), Err(ColumnModelError::UnknownColumn { rule: "order", .. })));

        let mut model = ColumnModel::sample();
        model.columns[1].headers.push("PRODUITS".into());
        assert!(matches!(model.check(), Err(ColumnModelError::SharedHeader(..))));

        let mut model = ColumnModel::sample();
        model.dates.latest = Some("2025-02-31".into());
        assert_eq!(model.check(), Err(ColumnModelError::NotADay("2025-02-31".into())));

        assert!(toml::from_str::<ColumnModel>("columns = []\nheader-row = 3").is_err(), "unknown keys are refused");
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing_more(text in "[A-Za-zéèàçÉ°'’ .:\u{a0}-]{0,40}") {
            // A plural of a plural loses another letter; words that end in one `s` do not.
            let once = fold(&text);
            prop_assume!(!once.split(' ').any(|w| w.len() > 3 && w.ends_with(['s', 'x'])));
            prop_assume!(!once.split(' ').any(|w| ["de", "du", "des", "la", "le", "les", "l", "d", "en", "au", "aux", "et", "of", "the", "ou"].contains(&w)));
            prop_assert_eq!(fold(&once), once);
        }
    }
}
