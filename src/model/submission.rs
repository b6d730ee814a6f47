//! The submission: one job, one versioned JSON document, the same on disk and in the queue.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema this version writes and reads.
pub const SCHEMA: &str = "greffier/submission/1";

/// Most items of one submission: a whole dossier has 239 proofs, each with some files. Each item costs memory and a place in the
/// report, whatever it holds.
pub const MAX_ITEMS: usize = 5_000;
/// Most items of one submission that name the same file: a documentation may be filed under every proof of a dossier.
pub const MAX_ITEMS_PER_OBJECT: usize = 500;

/// Whether a submission of these items is too large, with the number and the limit in words.
///
/// # Errors
/// A sentence for people, without a code.
pub fn count_items(items: &[Item]) -> Result<(), String> {
    if items.len() > MAX_ITEMS {
        return Err(format!("{} items, at most {MAX_ITEMS}", items.len()));
    }
    let mut named: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for item in items {
        if let Content::File(file) = &item.content {
            let count = named.entry(&file.object).or_default();
            *count += 1;
            if *count > MAX_ITEMS_PER_OBJECT {
                return Err(format!("more than {MAX_ITEMS_PER_OBJECT} items name one file"));
            }
        }
    }
    Ok(())
}

/// One job: a candidature, a stage, a revision, and its items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Always `greffier/submission/1`.
    pub schema: String,
    /// Id of the démarche's pipeline (`lgc-vague-2`).
    pub demarche: String,
    /// Who deposits, and what.
    pub candidature: Candidature,
    /// Which part of the journey this deposit is for.
    #[serde(default)]
    pub stage: Stage,
    /// Counts the deposits of one stage, from 1.
    #[serde(default = "one")]
    pub revision: u32,
    /// When the deposit was made, RFC 3339 with offset. Deadlines are compared with this moment, never with
    /// the clock of the machine that checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<String>,
    /// What the verifier asked to change in the revision before (chapter « A modifier »).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<ChangeRequest>,
    /// Files and links.
    #[serde(default)]
    pub items: Vec<Item>,
}

/// One request of a verifier about one proof or slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    /// The proof, in any of the agency's spellings, or the slot.
    pub preuve: String,
    /// What was asked (untrusted).
    pub text: String,
}

fn one() -> u32 {
    1
}

/// Who deposits, and what (step 1 of the journey).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Candidature {
    /// Candidature number: ten capital letters on the platform.
    pub number: String,
    /// Company name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Product version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Chosen profiles, by the pipeline's profile ids.
    pub profiles: Vec<String>,
    /// Whether the product was referenced in vague 1; decides which requirements apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referenced_vague_1: Option<bool>,
    /// Identifiers by the pipeline's identifier ids (`nie`, `nil`, `nru-lps`, `nru-proxy`, `wiin`).
    pub identifiers: BTreeMap<String, String>,
}

/// Which part of the journey.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stage {
    /// Step 2: documentation, obsolete versions, identifiers.
    Eligibility,
    /// Step 3: the proofs of one chapter.
    Chapter {
        /// Chapter id of the pipeline (`ins`).
        chapter: String,
    },
    /// Everything at once: a vendor's own check before depositing.
    #[default]
    Dossier,
}

/// One file or one link, filed under a slot or a proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Unique within the submission; stays the same from revision to revision.
    pub id: String,
    /// Where it is filed.
    #[serde(flatten)]
    pub filed_under: FiledUnder,
    /// What it is.
    #[serde(flatten)]
    pub content: Content,
}

/// Where an item is filed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FiledUnder {
    /// A slot of the pipeline (`documentation`, `versions-obsoletes`).
    Slot(String),
    /// A proof of the catalogue, in any of the agency's spellings (`SC.INS.02.01.01`).
    Preuve(String),
}

/// A file or a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// An uploaded file.
    File(FileRef),
    /// A Gazelle report.
    Link(LinkRef),
}

/// Reference to an uploaded file, and what its sender declared of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Where the bytes are: a key of the staging store, or for `greffier check` a path relative to the
    /// submission document. Never an absolute path, never `..`.
    pub object: String,
    /// File name as the vendor sees it (untrusted).
    pub name: String,
    /// Declared size, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Declared media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Declared SHA-256, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkRef {
    /// The address, as the vendor gave it. May carry a share key: never logged whole.
    pub url: String,
}
