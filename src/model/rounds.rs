//! What changed from one revision of a deposit to the next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::finding::{Code, Severity, Verdict};
use super::place::Place;
use super::submission::FiledUnder;
use super::text::Text;

/// Revision N against an earlier one: what a verifier need not look at again, and what must be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoundDiff {
    /// Id of the earlier report.
    pub previous_id: String,
    /// Its revision.
    pub previous_revision: u32,
    /// Whether both were judged by the same rules (pipeline content and program): an unchanged item then has the
    /// same verdict, which is carried over.
    pub same_rules: bool,
    /// Items, in the order of the report; removed ones last.
    pub items: Vec<ItemChange>,
    /// Findings that are gone, with or without the item they were on.
    pub resolved: Vec<FindingRef>,
    /// Findings that were not there before.
    pub new: Vec<FindingRef>,
    /// Findings that are still there.
    pub still: Vec<FindingRef>,
    /// Proofs that had nothing and now have something.
    pub newly_provided: Vec<String>,
    /// Proofs that had something and now have nothing, and still apply.
    pub newly_missing: Vec<String>,
    /// The verifier's requests and how each was answered.
    pub requests: Vec<RequestAnswer>,
    /// Counts by kind of change.
    pub counts: RoundCounts,
}

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Same place, same bytes (or same link): the verdict is carried over.
    Unchanged,
    /// Same item or same name at the same place, other bytes.
    Changed,
    /// Was not there.
    Added,
    /// The same bytes, now filed elsewhere.
    Moved,
    /// Is no longer there.
    Removed,
}

impl Change {
    /// The word a person reads.
    pub fn label(self) -> Text {
        match self {
            Self::Unchanged => Text::new("inchangé, verdict repris", "unchanged, verdict carried over"),
            Self::Changed => Text::new("modifié", "changed"),
            Self::Added => Text::new("ajouté", "added"),
            Self::Moved => Text::new("déplacé", "moved"),
            Self::Removed => Text::new("retiré", "removed"),
        }
    }
}

/// One item across two revisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemChange {
    /// What became of it.
    pub change: Change,
    /// The item now; absent when it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<ItemRef>,
    /// The item before; absent when it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<ItemRef>,
}

/// An item as one of the two reports knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemRef {
    /// Id in its report.
    pub id: String,
    /// Where it is filed.
    pub place: FiledUnder,
    /// Name (untrusted).
    pub name: String,
    /// Verdict of its report.
    pub verdict: Verdict,
}

/// A finding that is gone, new, or still there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingRef {
    /// Code.
    pub code: Code,
    /// Severity; that of now where it is still there.
    pub severity: Severity,
    /// Summary, for people.
    pub summary: Text,
    /// The item it is on: of the earlier report where it is resolved, of the present one otherwise. Absent for a
    /// finding about the submission as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// What a finding about the whole is about: a proof's or an identifier's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Where in the item.
    #[serde(default, skip_serializing_if = "Place::is_empty")]
    pub place: Place,
}

/// One request « A modifier » and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestAnswer {
    /// The proof or slot, canonical.
    pub preuve: String,
    /// What was asked (untrusted).
    pub text: String,
    /// How it was answered.
    pub answer: Answer,
    /// Ids of the items that answer it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Something was changed or added there.
    Answered,
    /// Something was only taken away.
    Removed,
    /// Nothing changed there.
    Unanswered,
}

/// Counts by kind of change.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoundCounts {
    /// Verdict carried over.
    pub unchanged: u32,
    /// Other bytes.
    pub changed: u32,
    /// Not there before.
    pub added: u32,
    /// Filed elsewhere.
    pub moved: u32,
    /// No longer there.
    pub removed: u32,
}

impl RoundCounts {
    /// Counts one item.
    pub fn count(&mut self, change: Change) {
        match change {
            Change::Unchanged => self.unchanged += 1,
            Change::Changed => self.changed += 1,
            Change::Added => self.added += 1,
            Change::Moved => self.moved += 1,
            Change::Removed => self.removed += 1,
        }
    }
}
