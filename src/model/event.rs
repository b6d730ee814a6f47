//! What a worker tells: the bodies of events. `docs/asyncapi.yaml` is the contract; `greffier schema` gives the schema of
//! each body.
//!
//! Ids of events are derived from the job: what is announced twice carries the same id twice. Progress
//! ([`ItemChecked`], [`SubmissionDelayed`]) is told once and may be lost with a worker; how a job ended is told until it is confirmed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::message::ParkReason;
use super::submission::{FiledUnder, Stage};
use super::{Finding, Text, Verdict};

/// A worker has begun: the job is recorded and will not be lost.
pub const SUBMISSION_RECEIVED: &str = "greffier.submission.received.v1";
/// One item has been looked at.
pub const ITEM_CHECKED: &str = "greffier.item.checked.v1";
/// Put off: something outside failed, and the job is tried again by itself.
pub const SUBMISSION_DELAYED: &str = "greffier.submission.delayed.v1";
/// Accepted, perhaps with warnings: the bundle is there for a verifier.
pub const BUNDLE_READY: &str = "greffier.bundle.ready.v1";
/// Rejected: the vendor has something to fix. The bundle is there as well.
pub const SUBMISSION_REJECTED: &str = "greffier.submission.rejected.v1";
/// Set aside: an operator must look.
pub const SUBMISSION_PARKED: &str = "greffier.submission.parked.v1";
/// Every type of event, in the order of a job's life.
pub const TYPES: [&str; 6] = [SUBMISSION_RECEIVED, ITEM_CHECKED, SUBMISSION_DELAYED, BUNDLE_READY, SUBMISSION_REJECTED, SUBMISSION_PARKED];

/// Which submission an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Id of the job: derived from the submission and the rules, the same for the same submission under the same rules.
    pub job: String,
    /// A check ahead of any deposit, asked for in the interactive lane: nothing has been deposited by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub precheck: bool,
    /// Démarche.
    pub demarche: String,
    /// Candidature number (untrusted).
    pub candidature: String,
    /// Company (untrusted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Product (untrusted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Part of the journey.
    pub stage: Stage,
    /// Revision.
    pub revision: u32,
}

/// Body of [`SUBMISSION_RECEIVED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmissionReceived {
    /// Which.
    #[serde(flatten)]
    pub about: About,
    /// Files and links that will be looked at.
    pub items: u64,
    /// When a worker first recorded it.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
}

/// Body of [`ITEM_CHECKED`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemChecked {
    /// Id of the job.
    pub job: String,
    /// Id of the item in the submission.
    pub item: String,
    /// Where it is filed.
    #[serde(flatten)]
    pub filed_under: FiledUnder,
    /// File name, or the link without its secrets (untrusted).
    pub name: String,
    /// Verdict over this item by itself; rules that compare items are applied when all have been looked at.
    pub verdict: Verdict,
    /// What was found in it by itself, heaviest first.
    pub findings: Vec<Finding>,
    /// Items looked at so far.
    pub done: u64,
    /// Items of the submission.
    pub total: u64,
}

/// Body of [`SUBMISSION_DELAYED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmissionDelayed {
    /// Id of the job.
    pub job: String,
    /// Why.
    pub reason: ParkReason,
    /// For people.
    pub explanation: Text,
}

/// Body of [`BUNDLE_READY`] and [`SUBMISSION_REJECTED`]: how it ended. Also what the vault keeps under `outcomes/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Always `greffier/outcome/1`.
    pub schema: String,
    /// Which submission.
    #[serde(flatten)]
    pub about: About,
    /// Id of the report.
    pub report: String,
    /// The verdict over everything.
    pub verdict: Verdict,
    /// Items by verdict.
    pub verdicts: BTreeMap<String, u32>,
    /// Proofs that apply and of which nothing was provided.
    pub missing: u32,
    /// Findings by severity.
    pub severities: BTreeMap<String, u64>,
    /// The message for the vendor, ready to paste.
    pub message: Text,
    /// What was written, by role.
    pub objects: Objects,
    /// When a worker first recorded the submission.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
    /// When this outcome was written.
    #[schemars(with = "String")]
    pub ended_at: Timestamp,
}

/// The schema of [`Outcome`].
pub const OUTCOME_SCHEMA: &str = "greffier/outcome/1";

/// What was written for a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objects {
    /// The bundle (BagIt in a ZIP).
    pub bundle: Object,
    /// SHA-256 of the bag's `tagmanifest-sha256.txt`: what a seal signs.
    pub manifest_sha256: String,
    /// `report.json`.
    pub report: Object,
    /// The page, without the files.
    pub page: Object,
    /// The seal, where a key is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Object>,
    /// The receipt for the submitter, where a key is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Object>,
}

/// One object of the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Its key in the vault.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// Body of [`SUBMISSION_PARKED`]. Also what the vault keeps under `parked/` while it is parked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmissionParked {
    /// Which submission; absent where the message could not be read that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// Id of the message that was parked: what `greffier queue requeue` takes.
    pub message_id: String,
    /// Why.
    pub reason: ParkReason,
    /// For people.
    pub explanation: Text,
    /// Findings of the items that stayed undetermined, where it came to that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undetermined: Vec<String>,
    /// When.
    #[schemars(with = "String")]
    pub parked_at: Timestamp,
}
