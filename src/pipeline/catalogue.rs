//! The requirement list: chapter > exigence > scénario > preuve, versioned, never compiled in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema this version reads and writes.
pub const SCHEMA: &str = "greffier/catalogue/1";

/// A catalogue file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Always `greffier/catalogue/1`.
    pub schema: String,
    /// Version, as people cite it.
    pub version: String,
    /// Date of the source, ISO 8601.
    pub date: String,
    /// Where it was imported from (file name), or a statement that it is invented.
    pub source: String,
    /// SHA-256 of the source file, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
    /// Proofs in order.
    pub preuves: Vec<Preuve>,
}

/// One proof asked for: one row of the agency's export.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preuve {
    /// Proof id as displayed (`INS.02.01.01`), canonical: no `SC.`, no spaces. A scenario without proof
    /// number carries its scenario id here and `implicit = true`.
    pub id: String,
    /// The id was made from the scenario's because the export leaves the cell empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub implicit: bool,
    /// Wording of the proof, plain text.
    pub title: String,
    /// Chapter id of the pipeline, or the export's label where no chapter matched.
    pub chapter: String,
    /// `Fonction` column.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fonction: String,
    /// Exigence id, canonical (`INS.02`).
    pub exigence: String,
    /// Wording of the exigence, plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exigence_title: String,
    /// Scenario id, canonical.
    pub scenario: String,
    /// Wording of the scenario, plain text; its steps are the « points de contrôle ».
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scenario_title: String,
    /// Profile labels as the export writes them, split; empty = every profile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// `Périmètre` column (« Vague 1 »).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub perimetre: String,
    /// `Criticité` column.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criticite: String,
    /// Conditional requirement: its absence is a notice, not a missing proof.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub conditional: bool,
    /// Comment of the export, plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
}
