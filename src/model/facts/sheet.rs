//! Facts of spreadsheets, CSV included: the cells themselves, capped, so that rules can read tables.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A spreadsheet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkbookFacts {
    /// Sheets in workbook order.
    pub sheets: Vec<SheetFacts>,
    /// Whether dates count from 1904 (ECMA-376 Part 1 §18.17.4.1).
    #[serde(default)]
    pub date_1904: bool,
    /// CSV only: the delimiter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// CSV only: the character encoding (WHATWG name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
}

/// One sheet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SheetFacts {
    /// Name (`Feuil1`), untrusted.
    pub name: String,
    /// Hidden or very hidden.
    #[serde(default)]
    pub hidden: bool,
    /// Non-empty cells seen, kept or not.
    pub cells: u64,
    /// Last used row, from 1 (0 = empty sheet).
    pub rows: u32,
    /// Last used column, from 1.
    pub columns: u32,
    /// Formulas seen.
    #[serde(default)]
    pub formulas: u64,
    /// The cells kept: (row from 1, column from 1, value), row by row; merged regions carry their value in
    /// the top-left cell only. Capped by the inspector; see `kept_all`.
    #[serde(default)]
    pub values: Vec<(u32, u32, CellValue)>,
    /// What number and date cells show where their format makes it another text than the value itself (`1.10` for 1.1 in the format
    /// `0.00`): (row, column, text), in the order of `values`. Kept for the first cells only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<(u32, u32, String)>,
    /// Whether `values` holds every non-empty cell.
    #[serde(default)]
    pub kept_all: bool,
}

/// A cell's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CellValue {
    /// Text, as written.
    Text(String),
    /// A number that is not shown as a date.
    Number(f64),
    /// A serial shown as a date or time: days since 1899-12-30 (or 1904-01-01).
    DateSerial(f64),
    /// A date the format itself stores as text (OpenDocument `office:date-value`), ISO 8601.
    DateIso(String),
    /// TRUE or FALSE.
    Bool(bool),
    /// An error value (`#N/A`).
    Error(String),
    /// A formula whose result was never saved: programs that write workbooks without calculating leave it out.
    Uncomputed,
}

/// The day of a spreadsheet serial (ECMA-376 Part 1 §18.17.4.1); absent outside 0–9999-12-31. Serials below
/// 61 of the 1900 system carry the 29 February 1900 that never was; no plausible date is that old.
pub fn serial_date(serial: f64, date_1904: bool) -> Option<jiff::civil::Date> {
    if !(0.0..2_958_466.0).contains(&serial) {
        return None;
    }
    let origin = if date_1904 { jiff::civil::Date::constant(1904, 1, 1) } else { jiff::civil::Date::constant(1899, 12, 30) };
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    let days = serial.floor() as i64;
    origin.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}
