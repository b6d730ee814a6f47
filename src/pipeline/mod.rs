//! The declared rules of one démarche, as data: slots, limits, formats, stages, chapters, profiles.
//!
//! Goals:
//! 1. Nothing of a démarche is compiled in: a second one is a second TOML file.
//! 2. A mistake in a rules file is found when it is loaded, with file, line and column, not when a vendor's
//!    file meets it: unknown keys, unknown formats, dangling references and duplicate ids are refused.
//! 3. What is inferred rather than published says so in a comment beside the setting.

pub mod catalogue;
pub mod columns;
pub mod guards;
mod stub;
pub use stub::*;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::gazelle::GazellePolicy;
use crate::model::{Format, Severity, Text};

/// The schema this version reads.
pub const SCHEMA: &str = "greffier/pipeline/1";

/// The rules of one démarche.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Always `greffier/pipeline/1`.
    pub schema: String,
    /// Stable id, as submissions name it (`lgc-vague-2`).
    pub id: String,
    /// Version of these rules; part of every outcome's identity.
    pub version: String,
    /// Name for people.
    pub title: Text,
    /// The agency's reference (`DSR-MDV-LGC-Va2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// IANA time zone of the deadlines (`Europe/Paris`).
    pub time_zone: String,
    /// Path of the catalogue file, relative to this file.
    pub catalogue: String,
    /// Shape of a candidature number: a regular expression, matched whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidature_number: Option<String>,
    /// What « Mo » means in this démarche's limits, in bytes.
    pub bytes_per_mo: u64,
    /// First-submission deadlines.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// Profiles a vendor chooses from.
    #[serde(default)]
    pub profiles: Vec<Profile>,
    /// Which « périmètres » of the catalogue apply, by vague-1 status.
    pub vague_1: Vague1Rule,
    /// Chapters in display order.
    #[serde(default)]
    pub chapters: Vec<Chapter>,
    /// Identifiers asked for at eligibility.
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    /// Other guichets that must run in parallel (EDC PSC, CNDA).
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// Named sets of formats.
    pub formats: BTreeMap<String, FormatSet>,
    /// Slots of the eligibility stage.
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// Rules of every proof.
    pub preuves: PreuveRules,
    /// Identity numbers, evidence filed elsewhere, look-alike pictures.
    #[serde(default)]
    pub guards: guards::Guards,
    /// Which Gazelle servers count, and which identifiers are expected of them.
    #[serde(default)]
    pub gazelle: GazellePolicy,
    /// Severities that differ from a finding's default; `ignore` drops it.
    #[serde(default)]
    pub severities: BTreeMap<String, Policy>,
}

/// What a pipeline makes of a finding code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Never shown.
    Ignore,
    /// Good to know.
    Notice,
    /// A verifier should look.
    Warning,
    /// The vendor must fix it.
    Error,
}

impl Policy {
    /// The severity, or `None` for `ignore`.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Ignore => None,
            Self::Notice => Some(Severity::Notice),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }
}

/// First-submission deadlines: civil date-times (`2026-02-20T12:00:00`) in the pipeline's time zone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// Eligibility.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eligibility: Option<String>,
    /// All proofs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preuves: Option<String>,
    /// A deposit after the deadline: `error`, `warning`, `notice` or `ignore` is set under `[severities]`
    /// (`deadline-passed`); this many hours before it, `deadline-near` is raised.
    pub near_hours: u32,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Stable id, as submissions name it.
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// How the agency's catalogue writes it, all spellings.
    pub labels: Vec<String>,
    /// Applies whether chosen or not (« Profil Général »).
    #[serde(default)]
    pub always: bool,
}

/// Which catalogue perimeters apply. Not referenced in vague 1: v1 scenarios are carried over; referenced:
/// only v2 scenarios.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vague1Rule {
    /// `Périmètre` values that apply to a product referenced in vague 1.
    pub referenced: Vec<String>,
    /// `Périmètre` values that apply to a product that was not.
    pub not_referenced: Vec<String>,
}

/// A chapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chapter {
    /// Stable id (`ins`).
    pub id: String,
    /// Exact label on the platform, and a translation.
    pub title: Text,
    /// Other spellings in catalogues and folder names.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// An identifier asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// Stable id (`nie`).
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// Whether the form marks it mandatory.
    #[serde(default)]
    pub required: bool,
    /// Asked only of products referenced in vague 1 (wiin.io).
    #[serde(default)]
    pub only_if_referenced_vague_1: bool,
    /// Strongly recommended: its absence is a warning.
    #[serde(default)]
    pub recommended: bool,
    /// A regular expression, matched whole; a mismatch is a warning because no public definition exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What to tell about it: where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<Text>,
}

/// Another guichet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Stable id (`edc-psc`).
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// What it brings and when.
    pub help: Text,
    /// Identifiers that show it was started.
    #[serde(default)]
    pub identifiers: Vec<String>,
    /// Dependencies that must be done first.
    #[serde(default)]
    pub after: Vec<String>,
    /// Slot where a proof of it is expected, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

/// A set of formats.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FormatSet {
    /// Accepted.
    pub accepted: Vec<Format>,
    /// Accepted with a notice: the published list is unreadable or silent about them.
    pub unconfirmed: Vec<Format>,
}

/// A size limit: `octets` and whether exactly that size is still accepted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizeLimit {
    /// « Mo » as the form writes it; multiplied by `bytes_per_mo`.
    pub mo: f64,
    /// `true` for « ≤ », `false` for « < ».
    pub inclusive: bool,
}

impl SizeLimit {
    /// The limit in bytes.
    pub fn bytes(self, bytes_per_mo: u64) -> u64 {
        // Limits are a few Mo: the product is far below 2^53 and exact.
        (self.mo * bytes_per_mo as f64).round() as u64
    }
    /// Whether a file of `size` bytes is accepted.
    pub fn allows(self, size: u64, bytes_per_mo: u64) -> bool {
        let limit = self.bytes(bytes_per_mo);
        if self.inclusive { size <= limit } else { size < limit }
    }
}

/// What reads the content of a slot beyond format checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// Product documentation: outline, text, topics.
    Documentation,
    /// The obsolete-versions table.
    VersionsObsoletes,
}

/// A slot of the eligibility form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Stable id, as submissions name it (`documentation`).
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// Folder names that mean this slot in a plain folder (any case, accents ignored).
    #[serde(default)]
    pub folders: Vec<String>,
    /// Mandatory.
    #[serde(default)]
    pub required: bool,
    /// Most files.
    pub max_files: u32,
    /// Largest file.
    pub max_size: SizeLimit,
    /// Name of a format set.
    pub formats: String,
    /// Name of a format set accepted only when the files would exceed `max_files` (« au-delà, déposer une
    /// archive zip »): an archive whose members follow `formats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow_formats: Option<String>,
    /// What reads the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<Reader>,
}

/// Rules of every proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreuveRules {
    /// Most files and links for one proof.
    pub max_items: u32,
    /// Largest file.
    pub max_size: SizeLimit,
    /// Name of a format set.
    pub formats: String,
    /// Whether links are accepted.
    #[serde(default)]
    pub links: bool,
}
