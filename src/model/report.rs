//! The outcome of one submission: `report.json`, the same for the terminal, the bundle and the events.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::finding::{Finding, Severity, Verdict};
use super::gazelle::GazelleFacts;
use super::rounds::RoundDiff;
use super::submission::{Candidature, FiledUnder, Stage};
use super::text::Text;

/// The schema this version writes.
pub const SCHEMA: &str = "greffier/report/1";

/// Largest `report.json`, bytes: no writer makes a larger one, and every reader reads one of this size. A dossier of 239 proofs
/// takes about 2 MB.
pub const MAX_REPORT_BYTES: u64 = 64 * 1024 * 1024;

/// Everything a verifier or a program wants to know of one checked submission. Holds no clock reading of the
/// machine that made it: the same inputs give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Always `greffier/report/1`.
    pub schema: String,
    /// Derived id: SHA-256 (hex) over submission, pipeline, catalogue, inspector and rules versions and item digests.
    pub id: String,
    /// What made it, for the curious: `greffier 0.1.0, inspectors 1`.
    pub producer: String,
    /// The démarche's rules that were applied.
    pub pipeline: PipelineRef,
    /// Who deposited.
    pub candidature: Candidature,
    /// Part of the journey.
    pub stage: Stage,
    /// Revision.
    pub revision: u32,
    /// When the deposit was made, as the submission states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<String>,
    /// The verdict over everything.
    pub verdict: Verdict,
    /// Findings of the submission as a whole (missing proofs, deadline, identifiers…).
    pub findings: Vec<Finding>,
    /// Items in display order: slots first, then proofs in catalogue order, then unknown ones.
    pub items: Vec<ItemReport>,
    /// Completeness by chapter, in display order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chapters: Vec<ChapterReport>,
    /// Completeness by applicable proof, in catalogue order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preuves: Vec<PreuveReport>,
    /// Eligibility slots, in display order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<SlotReport>,
    /// The obsolete-versions table as read; rows are column id → value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obsolete_versions: Vec<ObsoleteRow>,
    /// The columns of that table, in the order and with the words of the pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obsolete_columns: Vec<ObsoleteColumn>,
    /// Topics of the product documentation and where they are mentioned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documentation: Vec<TopicMention>,
    /// What changed since the revision before, where that one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<RoundDiff>,
    /// Things that were not done and that a reader must know (no antivirus, no network…).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limitations: Vec<Text>,
    /// Counts.
    pub totals: Totals,
}

/// Which rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineRef {
    /// Pipeline id.
    pub id: String,
    /// Pipeline version.
    pub version: String,
    /// Name for people.
    pub title: Text,
    /// Names for people of the profiles that the candidature chose, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<String, Text>,
    /// SHA-256 of the pipeline's content, hex.
    pub sha256: String,
    /// Catalogue version.
    pub catalogue_version: String,
    /// Catalogue source statement.
    pub catalogue_source: String,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemReport {
    /// Id in the submission.
    pub id: String,
    /// Where it is filed, canonical.
    #[serde(flatten)]
    pub filed_under: FiledUnder,
    /// File name as the vendor sees it, or the redacted link (untrusted).
    pub name: String,
    /// `true` for a link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
    /// SHA-256, hex; absent when the bytes could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Verdict over this item.
    pub verdict: Verdict,
    /// Findings, heaviest first.
    pub findings: Vec<Finding>,
    /// Where the payload is inside the bundle (`data/…`), set when a bundle is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why the bytes were left out of the bundle although they were received, set when a bundle is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Withheld>,
    /// What the file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// Gazelle facts, for links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gazelle: Option<GazelleFacts>,
}

/// Why a received file is listed in a bundle, with its digest, and not laid before the verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Withheld {
    /// The antivirus recognised it.
    Antivirus,
    /// Opening it would exhaust the machine that opens it.
    Bomb,
    /// It is a program, or a double click on it would run something.
    Executable,
    /// The operator's policy leaves out what was rejected.
    Rejected,
}

impl Withheld {
    /// The words a person reads.
    pub fn label(self) -> Text {
        match self {
            Self::Antivirus => Text::new("reconnu par l'antivirus", "recognised by the antivirus"),
            Self::Bomb => Text::new("son ouverture saturerait le poste", "opening it would exhaust the computer"),
            Self::Executable => {
                Text::new("programme, ou fichier qui s'exécute à l'ouverture", "a program, or a file that runs when opened")
            }
            Self::Rejected => Text::new("fichier rejeté", "rejected file"),
        }
    }
}

/// Completeness of one chapter: « 81/81 ».
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChapterReport {
    /// Chapter id.
    pub id: String,
    /// Label.
    pub title: Text,
    /// Applicable proofs.
    pub expected: u32,
    /// Of these, with at least one file or link.
    pub provided: u32,
    /// Of these, with an item rejected.
    pub rejected: u32,
    /// Of these, with warnings and nothing heavier.
    pub warned: u32,
    /// Of these, undetermined.
    pub undetermined: u32,
}

/// One applicable proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreuveReport {
    /// Proof id.
    pub id: String,
    /// Wording.
    pub title: String,
    /// Chapter id.
    pub chapter: String,
    /// Exigence id.
    pub exigence: String,
    /// Wording of the exigence.
    pub exigence_title: String,
    /// Scenario id.
    pub scenario: String,
    /// Wording of the scenario.
    pub scenario_title: String,
    /// Criticité.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub criticite: String,
    /// Conditional requirement.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conditional: bool,
    /// Ids of the items filed under it.
    pub items: Vec<String>,
    /// Worst verdict of its items; absent when nothing was provided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// One eligibility slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotReport {
    /// Slot id.
    pub id: String,
    /// Name.
    pub title: Text,
    /// Mandatory.
    pub required: bool,
    /// Ids of the items filed under it.
    pub items: Vec<String>,
    /// Worst verdict of its items; absent when nothing was provided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// One column of the obsolete-versions table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObsoleteColumn {
    /// Column id, the key of [`ObsoleteRow::values`].
    pub id: String,
    /// The usual header of the column.
    pub title: String,
}

/// One row of the obsolete-versions table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObsoleteRow {
    /// Item it was read from.
    pub item: String,
    /// Sheet.
    pub sheet: String,
    /// Row, from 1.
    pub row: u32,
    /// Column id → value; dates as ISO 8601.
    pub values: BTreeMap<String, String>,
}

/// Where the documentation speaks of a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicMention {
    /// Topic id.
    pub topic: String,
    /// Name.
    pub title: Text,
    /// Times mentioned.
    pub count: u32,
    /// First places: (item id, place).
    pub places: Vec<(String, super::place::Place)>,
}

/// Counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Totals {
    /// Items.
    pub items: u32,
    /// Files.
    pub files: u32,
    /// Links.
    pub links: u32,
    /// Bytes of files.
    pub bytes: u64,
    /// Proofs that apply.
    pub preuves_expected: u32,
    /// Proofs with at least one item.
    pub preuves_provided: u32,
    /// Items by verdict.
    pub verdicts: BTreeMap<String, u32>,
    /// Findings by severity, repeated ones included.
    pub severities: BTreeMap<String, u64>,
}

impl Totals {
    /// Adds one finding and its repetitions.
    pub fn count(&mut self, finding: &Finding) {
        let name = match finding.severity {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Fatal => "fatal",
            Severity::Error => "error",
        };
        // A count that came from a file never stops the report.
        let count = self.severities.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1).saturating_add(finding.more);
    }
}
