//! Facts of plain text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}
