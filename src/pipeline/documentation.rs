//! What the product documentation is expected to speak of: topics and the words that name them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Text;

/// What to look for in the documentation. Pipeline section `[documentation]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentationConfig {
    /// Topics of the reference.
    #[serde(default)]
    pub topics: Vec<Topic>,
    /// From this many pages on, a PDF is expected to have bookmarks.
    #[serde(default = "default_long_document_pages")]
    pub long_document_pages: u32,
    /// Places kept per topic; all mentions are counted.
    #[serde(default = "default_max_places")]
    pub max_places: usize,
}

fn default_long_document_pages() -> u32 {
    30
}

fn default_max_places() -> usize {
    10
}

impl Default for DocumentationConfig {
    fn default() -> Self {
        Self { topics: Vec::new(), long_document_pages: default_long_document_pages(), max_places: default_max_places() }
    }
}

/// A topic that a documentation may treat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// Stable id (`ins`, `mssante`).
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// Words and phrases, in French, with their aliases (`identité nationale de santé`, `INS`).
    pub terms: Vec<String>,
    /// Profile ids it belongs to; empty = all of them.
    #[serde(default)]
    pub profiles: Vec<String>,
}
