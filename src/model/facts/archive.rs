//! Facts of ZIP archives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Facts;

/// A ZIP archive (APPNOTE 6.3.10).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveFacts {
    /// Entries in the central directory, directories included (counted by us, not by its header).
    pub entries: u64,
    /// Bytes that really came out of the members that were read.
    pub inflated: u64,
    /// Known layout inside: `ihe-xdm` where `INDEX.HTM` and `IHE_XDM/` stand at the top (IHE ITI TF-2 §3.32).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Members in directory order, capped by the budget.
    #[serde(default)]
    pub members: Vec<MemberFacts>,
}

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberFacts {
    /// Raw name, decoded (untrusted).
    pub name: String,
    /// Compressed size, bytes.
    pub compressed: u64,
    /// Size really inflated, bytes; absent when the member was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of the content, hex; absent when the member was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the member is; absent when it was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Box<Facts>>,
}
