//! Facts of plain text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkbookFacts;
use crate::model::Signal;

/// A plain text file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextFacts {
    /// Character encoding (WHATWG name).
    pub encoding: String,
    /// Whether a byte-order mark stands first.
    pub bom: bool,
    /// Lines.
    pub lines: u64,
    /// Characters.
    pub chars: u64,
    /// How a spreadsheet program reads the file, where that makes columns or formulas. Bytes alone cannot tell a table from lines of
    /// text: it counts where the file is named `.csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_table: Option<Box<TableFacts>>,
}

/// A text read as a table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableFacts {
    /// Its first cells.
    pub workbook: WorkbookFacts,
    /// What is said of it as a table, beyond what is said of it as a text.
    pub signals: Vec<Signal>,
}
