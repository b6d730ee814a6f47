//! The receipt: what a submitter can show to anybody: these bytes were received then, with this outcome.
//!
//! It lists every item with size and SHA-256, so that the submitter compares it with the files it still has, and no
//! bundle is needed. Moments are given by the caller: when the deposit arrived is known where it arrived.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::journal::Head;
use super::{KeySet, PipelineName, SealError, SealKey, is_sha256, jws};
use crate::model::Verdict;
use crate::model::report::Report;
use crate::model::submission::{FiledUnder, Stage};

/// The schema this version writes and reads.
pub const SCHEMA: &str = "greffier/receipt/1";
/// The `typ` of a receipt.
pub const TYPE: &str = "greffier-receipt+jws";
/// Longest receipt that is read, bytes: some 50 000 items.
pub const MAX_RECEIPT: usize = 16 * 1024 * 1024;

/// What a receipt states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Always `greffier/receipt/1`.
    pub schema: String,
    /// When this receipt was made: seconds since 1970-01-01T00:00:00Z (RFC 7519 `NumericDate`, known to JWT libraries).
    pub iat: i64,
    /// When the deposit was received, RFC 3339 in UTC.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
    /// Id of the report.
    pub report: String,
    /// The verdict over everything.
    pub verdict: Verdict,
    /// Candidature number, as the submission states it.
    pub candidature: String,
    /// Part of the journey.
    pub stage: Stage,
    /// Revision.
    pub revision: u32,
    /// The rules that were applied.
    pub pipeline: PipelineName,
    /// How much, and how it was judged.
    pub counts: Counts,
    /// What was received, in the order of the report.
    pub items: Vec<ReceivedItem>,
    /// The journal of this submission when the receipt was made: the submitter becomes its witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Head>,
    /// What made it.
    pub producer: String,
}

/// How much was received, and how it was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Files and links.
    pub items: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Items by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Findings by severity, repeated ones included.
    pub findings: BTreeMap<String, u64>,
}

/// One file or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceivedItem {
    /// Id in the submission.
    pub id: String,
    /// Where it is filed.
    pub filed_under: FiledUnder,
    /// File name as the submitter gave it, or the link without its secrets (untrusted).
    pub name: String,
    /// Size, bytes; absent for links and where the bytes could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256, lower-case hex; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Verdict over this item.
    pub verdict: Verdict,
}

/// A receipt whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What it states.
    pub receipt: Receipt,
    /// Thumbprint (RFC 7638) of the key that signed.
    pub kid: String,
}

impl Receipt {
    /// The receipt for what `report` tells: the deposit arrived at `received_at`, the receipt is made at `issued_at`.
    pub fn of(report: &Report, received_at: Timestamp, issued_at: Timestamp) -> Self {
        let items: Vec<_> = report
            .items
            .iter()
            .map(|item| ReceivedItem {
                id: item.id.clone(),
                filed_under: item.filed_under.clone(),
                name: item.name.clone(),
                size: item.size,
                sha256: item.sha256.clone(),
                verdict: item.verdict,
            })
            .collect();
        // Counted over the very items listed, so that a receipt never contradicts itself.
        let mut verdicts = BTreeMap::new();
        for item in &items {
            *verdicts.entry(item.verdict.as_str().to_owned()).or_default() += 1;
        }
        Self {
            schema: SCHEMA.to_owned(),
            iat: issued_at.as_second(),
            received_at,
            report: report.id.clone(),
            verdict: report.verdict,
            candidature: report.candidature.number.clone(),
            stage: report.stage.clone(),
            revision: report.revision,
            pipeline: PipelineName { id: report.pipeline.id.clone(), version: report.pipeline.version.clone() },
            counts: Counts {
                items: items.len() as u64,
                bytes: items.iter().filter_map(|i| i.size).fold(0, u64::saturating_add),
                verdicts,
                findings: report.totals.severities.clone(),
            },
            items,
            journal: None,
            producer: report.producer.clone(),
        }
    }

    /// The same, with the head of the submission's journal: the caller appends « receipt made » first.
    #[must_use]
    pub fn witnessing(mut self, journal: &Head) -> Self {
        self.journal = Some(journal.clone());
        self
    }

    /// The compact JWS, without an end of line.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] for more items than [`MAX_RECEIPT`] holds.
    pub fn sign(&self, key: &SealKey) -> Result<String, SealError> {
        jws::sign(TYPE, self, key, MAX_RECEIPT)
    }
}

impl Verified {
    /// Checks that the receipt states what `report` (the `report.json` of a bundle) states, item by item.
    ///
    /// # Errors
    /// [`SealError::OtherReport`] names the first member that differs.
    pub fn agrees_with(&self, report: &Report) -> Result<(), SealError> {
        let stated = &self.receipt;
        let told = Receipt::of(report, stated.received_at, Timestamp::UNIX_EPOCH);
        let members = [
            ("report", stated.report == told.report),
            ("verdict", stated.verdict == told.verdict),
            ("candidature", stated.candidature == told.candidature),
            ("stage", stated.stage == told.stage),
            ("revision", stated.revision == told.revision),
            ("pipeline", stated.pipeline == told.pipeline),
            ("items", stated.items == told.items),
            ("counts", stated.counts == told.counts),
            ("producer", stated.producer == told.producer),
        ];
        match members.into_iter().find(|(_, same)| !same) {
            Some((member, _)) => Err(SealError::OtherReport(member)),
            None => Ok(()),
        }
    }
}

/// Checks that `receipt` was made by a key of `keys`, and reads it.
///
/// # Errors
/// [`SealError`].
pub fn verify(receipt: &str, keys: &KeySet) -> Result<Verified, SealError> {
    let opened = jws::open(receipt, TYPE, MAX_RECEIPT, keys)?;
    let receipt: Receipt = opened.payload(SCHEMA)?;
    if let Some(item) = receipt.items.iter().find(|i| i.sha256.as_deref().is_some_and(|d| !is_sha256(d))) {
        let id = crate::model::text::display_safe(&item.id, 80);
        return Err(SealError::Payload(format!("item `{id}`: `sha256` is no lower-case hexadecimal SHA-256")));
    }
    Ok(Verified { receipt, kid: opened.kid })
}
