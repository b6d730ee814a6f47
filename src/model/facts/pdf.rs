//! Facts of PDF files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A PDF (ISO 32000-2).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PdfFacts {
    /// Header version (`1.7`).
    pub version: String,
    /// Pages in the page tree.
    pub pages: u32,
    /// What each page holds, capped.
    #[serde(default)]
    pub page_facts: Vec<PageFacts>,
    /// Bookmarks, depth first, capped.
    #[serde(default)]
    pub outline: Vec<OutlineEntry>,
    /// Signatures seen (not validated).
    #[serde(default)]
    pub signatures: Vec<SignatureFacts>,
    /// Encrypted, even when it opens without a password.
    #[serde(default)]
    pub encrypted: bool,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageFacts {
    /// Characters of text.
    pub chars: u32,
    /// Images drawn.
    pub images: u32,
    /// Whether anything at all is drawn.
    pub blank: bool,
}

/// A bookmark.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlineEntry {
    /// Depth, from 0.
    pub level: u8,
    /// Title, untrusted.
    pub title: String,
    /// Page from 1, where it could be resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
}

/// A signature field with a value (ISO 32000-2 §12.8). Seen, not validated.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureFacts {
    /// `/SubFilter`, such as `ETSI.CAdES.detached`.
    pub sub_filter: String,
    /// `/Name`, untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `/M`, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Whether `/ByteRange` covers the file to its end (nothing was appended after signing).
    pub covers_whole_file: bool,
}
