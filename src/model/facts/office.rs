//! Facts of Word and PowerPoint documents, in any of their packages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text document or a presentation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfficeFacts {
    /// Pages as the document's own metadata states them (not laid out by us).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_pages: Option<u32>,
    /// Slides counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slides: Option<u32>,
    /// Pictures stored inside.
    #[serde(default)]
    pub images: u32,
    /// Characters of text that were read.
    #[serde(default)]
    pub chars: u64,
}
