//! What the vault remembers of every job, so that nothing is lost without anybody noticing.
//!
//! ```text
//! vault/<first two>/<sha256>            what was received, by content
//! received/<job>.json                   written before anything is done; holds the submission, so that it can be enqueued again
//! bundles/<job>/<manifest digest>/…     bundle, report.json, index.html, seal, receipt
//! outcomes/<job>.json                   written once everything it names is there; decides which bundle is the outcome
//! parked/<job>.json                     while it is parked
//! journal/<job>/<line>.json             what was done, hash-chained
//! rounds/<series>/<revision>.json       which job was revision N of a deposit
//! gazelle/<link>.json                   copies of Gazelle reports
//! facts/…                               what files are, by content and inspector version
//! ```
//! Everything but `parked/`, `rounds/` and `gazelle/` is written once and never changed.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::assess::RULES_VERSION;
use crate::model::event::{About, Outcome};
use crate::model::facts::INSPECTOR_VERSION;
use crate::model::message::{JSON, Lane};
use crate::model::submission::Submission;
use crate::pipeline::Loaded;
use crate::store::{Content, Created, Key, Store, StoreError};

/// The schema of [`Received`].
pub const RECEIVED_SCHEMA: &str = "greffier/received/1";

/// Prefix of what was received.
pub const VAULT: &str = "vault/";
/// Prefix in the staging store of what the console uploads for pre-checks: a name that no sender picks by accident, since what
/// lies there is swept.
pub const PRECHECK: &str = "greffier-precheck/";
/// Prefix of [`Received`] records.
pub const RECEIVED: &str = "received/";
/// Prefix of [`Outcome`] records.
pub const OUTCOMES: &str = "outcomes/";
/// Prefix of parked records.
pub const PARKED: &str = "parked/";
/// Prefix of facts.
pub const FACTS: &str = "facts/";

/// Largest record that is read, bytes.
const MAX_RECORD: u64 = 64 * 1024 * 1024;

/// A job that a worker has begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Received {
    /// Always `greffier/received/1`.
    pub schema: String,
    /// Which.
    #[serde(flatten)]
    pub about: About,
    /// Lane it came in.
    pub lane: Lane,
    /// Id of the message.
    pub message_id: String,
    /// The sender's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where the sender wants answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// When a worker first saw it.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
    /// The submission.
    pub submission: Submission,
}

/// Which job was a revision of a deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// The job.
    pub job: String,
    /// Key of its `report.json`.
    pub report: String,
    /// Revision.
    pub revision: u32,
}

/// The id of a job: a digest over the submission and everything that judges it. The same submission under the same rules
/// is the same job, however often it is sent; checked ahead of a deposit, it is another, since it deposits nothing.
pub fn job_id(loaded: &Loaded, submission: &Submission, lane: Lane) -> String {
    let mut hasher = Sha256::new();
    // A struct of plain values always serialises.
    let document = serde_json::to_vec(submission).unwrap_or_default();
    for field in [
        b"greffier/job/1".as_slice(),
        if lane.is_precheck() { b"pre-check".as_slice() } else { b"deposit" },
        env!("CARGO_PKG_VERSION").as_bytes(),
        INSPECTOR_VERSION.as_bytes(),
        RULES_VERSION.as_bytes(),
        loaded.sha256.as_bytes(),
        loaded.catalogue_sha256.as_bytes(),
        &document,
    ] {
        hasher.update((field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hex::encode(hasher.finalize())
}

/// Which submission.
pub fn about(job: &str, submission: &Submission, lane: Lane) -> About {
    let candidature = &submission.candidature;
    About {
        job: job.to_owned(),
        precheck: lane.is_precheck(),
        demarche: submission.demarche.clone(),
        candidature: candidature.number.clone(),
        company: candidature.company.clone(),
        product: candidature.product.clone(),
        stage: submission.stage.clone(),
        revision: submission.revision,
    }
}

/// Key of the bytes with this SHA-256.
pub fn vault_key(sha256: &str) -> Key {
    Key::ours(format!("{VAULT}{}/{sha256}", sha256.get(..2).unwrap_or("xx")))
}

/// Key of the record of a job below `prefix`.
pub fn job_key(prefix: &str, job: &str) -> Key {
    Key::ours(format!("{prefix}{job}.json"))
}

/// Key of a revision in the series of deposits of one part of one candidature. Numbers and names come from outside: they
/// are digested. Pre-checks are a series of their own: they are no revision of what was deposited. `None` where there is no
/// number: whose revision it is cannot be told, and nobody is shown what another one deposited.
pub fn round_key(submission: &Submission, lane: Lane, revision: u32) -> Option<Key> {
    let number = submission.candidature.number.trim();
    if number.is_empty() {
        return None;
    }
    let mut hasher = Sha256::new();
    let stage = serde_json::to_vec(&submission.stage).unwrap_or_default();
    let series: &[u8] = match lane {
        Lane::Interactive => b"pre-checks",
        Lane::Submission | Lane::Replay => b"deposits",
    };
    for field in [series, submission.demarche.as_bytes(), number.as_bytes(), &stage] {
        hasher.update((field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let series = hex::encode(&hasher.finalize()[..16]);
    Some(Key::ours(format!("rounds/{series}/{revision}.json")))
}

/// Reads a JSON record; `None` where there is none.
///
/// # Errors
/// [`StoreError`]; a record that is no JSON of its kind is [`StoreError::Corrupt`].
pub async fn read<T: DeserializeOwned>(store: &dyn Store, key: &Key) -> Result<Option<T>, StoreError> {
    let Some(bytes) = read_bytes(store, key, MAX_RECORD).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| StoreError::Corrupt {
        store: store.name(),
        key: key.clone(),
        detail: e.to_string(),
    })
}

/// Reads a small object whole; `None` where there is none.
///
/// # Errors
/// [`StoreError`]; an object of more than `max` bytes is [`StoreError::Corrupt`].
pub async fn read_bytes(store: &dyn Store, key: &Key, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(opened) = store.open(key).await? else { return Ok(None) };
    let mut bytes = Vec::new();
    opened.reader.take(max + 1).read_to_end(&mut bytes).await.map_err(|e| StoreError::Unavailable {
        store: store.name(),
        what: format!("reading `{key}`"),
        source: Box::new(e),
    })?;
    if bytes.len() as u64 > max {
        return Err(StoreError::Corrupt { store: store.name(), key: key.clone(), detail: format!("more than {max} bytes") });
    }
    Ok(Some(bytes))
}

/// Writes a record if there is none, and gives back the one that is there: the first one stands.
///
/// # Errors
/// [`StoreError`].
pub async fn first<T: Serialize + DeserializeOwned>(store: &dyn Store, key: &Key, record: T) -> Result<(T, Created), StoreError> {
    if let Some(standing) = read(store, key).await? {
        return Ok((standing, Created::Existed));
    }
    let bytes = to_json(store, key, &record)?;
    match store.create(key, Content::Bytes(&bytes), JSON).await {
        Ok(created) => Ok((record, created)),
        // Somebody was faster.
        Err(StoreError::Conflict { .. }) => match read(store, key).await? {
            Some(standing) => Ok((standing, Created::Existed)),
            None => Err(StoreError::Conflict { store: store.name(), key: key.clone() }),
        },
        Err(e) => Err(e),
    }
}

/// Writes a record over what is there.
///
/// # Errors
/// [`StoreError`].
pub async fn replace<T: Serialize>(store: &dyn Store, key: &Key, record: &T) -> Result<(), StoreError> {
    store.replace(key, &to_json(store, key, record)?, JSON).await
}

fn to_json<T: Serialize>(store: &dyn Store, key: &Key, record: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|e| StoreError::Corrupt { store: store.name(), key: key.clone(), detail: e.to_string() })
}

/// The outcome of a job, where there is one.
///
/// # Errors
/// [`StoreError`].
pub async fn outcome(store: &dyn Store, job: &str) -> Result<Option<Outcome>, StoreError> {
    read(store, &job_key(OUTCOMES, job)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_of_one_candidature_and_pre_checks_are_not_in_it() {
        let of = |number: &str| -> Submission {
            let document = serde_json::json!({
                "schema": crate::model::submission::SCHEMA, "demarche": "d", "candidature": { "number": number },
                "stage": { "kind": "eligibility" }, "revision": 2, "items": [],
            });
            serde_json::from_value(document).unwrap()
        };
        let key = |number, lane| round_key(&of(number), lane, 1);
        assert!(key("A", Lane::Submission).is_some());
        assert_eq!(key("A", Lane::Submission), key("A", Lane::Replay));
        assert_ne!(key("A", Lane::Submission), key("A", Lane::Interactive));
        assert_ne!(key("A", Lane::Submission), key("B", Lane::Submission));
        assert_eq!((key("", Lane::Submission), key(" ", Lane::Submission)), (None, None));
    }
}
