//! Conservation: received = published + rejected + undetermined + parked + in flight. What is in none of them is named.
//!
//! A job is in flight where the queue still holds it, waiting or in a worker's hands. Queues tell how many they hold, not
//! always which: so a job without outcome is *missing* for certain only where the queue holds fewer jobs than have no
//! outcome, and then the oldest are named, since younger ones may just have been taken up.

use jiff::Timestamp;
use serde::Serialize;

use super::records::{OUTCOMES, PARKED, RECEIVED, Received, job_key, read};
use crate::model::Verdict;
use crate::model::event::{About, Outcome};
use crate::queue::{Depth, Place, Queue, QueueError};
use crate::store::{Key, Store, StoreError};

/// Records listed at once.
const PAGE: usize = 500;

/// Why the audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The vault.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What became of everything that was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Jobs that workers recorded.
    pub received: u64,
    /// With an outcome that is accepted, perhaps with warnings.
    pub published: u64,
    /// With an outcome that is rejected.
    pub rejected: u64,
    /// Published as undetermined, where the operator lets that be.
    pub undetermined: u64,
    /// Parked, and recorded as such.
    pub parked: u64,
    /// Messages parked before they could be read as jobs.
    pub unread: u64,
    /// Without any of these; the queue holds at least as many jobs.
    pub in_flight: u64,
    /// Jobs that the queue holds, waiting, waiting to be tried again, and in workers' hands.
    pub queued: u64,
    /// Whether the queue can tell how many jobs are in workers' hands.
    pub queue_tells_unsettled: bool,
    /// Jobs that were received and are nowhere, the oldest first.
    pub missing: Vec<Missing>,
    /// Outcomes of jobs that were never recorded as received: records were removed.
    pub orphans: Vec<String>,
    /// Objects of outcomes that are not in the vault or have another size, and records that cannot be read: (job, key).
    pub broken: Vec<(String, String)>,
}

/// A job that is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Which.
    #[serde(flatten)]
    pub about: About,
    /// When it was received.
    pub received_at: Timestamp,
}

impl Audit {
    /// Whether nothing is missing and nothing is broken.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.orphans.is_empty() && self.broken.is_empty()
    }
}

/// Counts everything. The vault is read before the queue: a job that ends meanwhile is counted as in flight, never as missing.
///
/// # Errors
/// [`AuditError`].
pub async fn audit(vault: &dyn Store, queue: &dyn Queue) -> Result<Audit, AuditError> {
    let received = jobs(vault, RECEIVED).await?;
    let before = queue.status().await?;
    let mut audit = Audit {
        received: received.len() as u64,
        published: 0,
        rejected: 0,
        undetermined: 0,
        parked: 0,
        unread: 0,
        in_flight: 0,
        queued: 0,
        queue_tells_unsettled: true,
        missing: Vec::new(),
        orphans: Vec::new(),
        broken: Vec::new(),
    };
    let known: std::collections::BTreeSet<&str> = received.iter().map(String::as_str).collect();
    for job in jobs(vault, OUTCOMES).await? {
        if !known.contains(job.as_str()) && vault.stat(&job_key(RECEIVED, &job)).await?.is_none() {
            audit.orphans.push(job);
        }
    }
    for job in jobs(vault, PARKED).await? {
        if job.starts_with("message-") {
            audit.unread += 1;
        }
    }
    let mut open = Vec::new();
    for job in &received {
        // A record that cannot be read is named, and the others are counted all the same.
        let key = job_key(OUTCOMES, job);
        let outcome = match read::<Outcome>(vault, &key).await {
            Err(StoreError::Corrupt { .. }) => {
                audit.broken.push((job.clone(), key.as_str().to_owned()));
                continue;
            }
            read => read?,
        };
        if let Some(outcome) = outcome {
            match outcome.verdict {
                Verdict::Rejected => audit.rejected += 1,
                Verdict::Undetermined => audit.undetermined += 1,
                Verdict::Accepted | Verdict::AcceptedWithWarnings => audit.published += 1,
            }
            let objects = &outcome.objects;
            let all = [Some(&objects.bundle), Some(&objects.report), Some(&objects.page), objects.seal.as_ref(), objects.receipt.as_ref()];
            for object in all.into_iter().flatten() {
                let there = match object.key.parse::<Key>() {
                    Ok(key) => vault.stat(&key).await?.is_some_and(|stat| stat.size == object.size),
                    Err(_) => false,
                };
                if !there {
                    audit.broken.push((job.clone(), object.key.clone()));
                }
            }
        } else if vault.stat(&job_key(PARKED, job)).await?.is_some() {
            audit.parked += 1;
        } else {
            let key = job_key(RECEIVED, job);
            match read::<Received>(vault, &key).await {
                Err(StoreError::Corrupt { .. }) => audit.broken.push((job.clone(), key.as_str().to_owned())),
                read => open.extend(read?.map(|record| Missing { about: record.about, received_at: record.received_at })),
            }
        }
    }
    // Twice, and the larger counts: a job that moves from a retry delay to its lane in between is in neither.
    let after = queue.status().await?;
    let (first, second) = (held(&before), held(&after));
    audit.queued = first.0.max(second.0);
    audit.queue_tells_unsettled = second.1;
    open.sort_by_key(|job| job.received_at);
    let lost = (open.len() as u64).saturating_sub(audit.queued);
    if audit.queue_tells_unsettled || after.iter().all(|d| d.consumers == Some(0) || !matches!(d.place, Place::Lane(_))) {
        audit.missing = open.iter().take(usize::try_from(lost).unwrap_or(usize::MAX)).cloned().collect();
    }
    audit.in_flight = open.len() as u64 - audit.missing.len() as u64;
    Ok(audit)
}

/// Jobs held by lanes and retry delays, and whether those in workers' hands are among them.
fn held(depths: &[Depth]) -> (u64, bool) {
    let lanes = || depths.iter().filter(|d| matches!(d.place, Place::Lane(_) | Place::Retry(_)));
    let held = lanes().map(|d| d.ready + d.unsettled.unwrap_or(0)).sum();
    (held, lanes().all(|d| d.unsettled.is_some() || matches!(d.place, Place::Retry(_))))
}

/// Names of the records below a prefix.
async fn jobs(vault: &dyn Store, prefix: &str) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let listed = vault.list(prefix, after.as_ref(), PAGE).await?;
        let Some(last) = listed.last() else { return Ok(names) };
        after = Some(last.key.clone());
        let name = |key: &Key| Some(key.as_str().strip_prefix(prefix)?.strip_suffix(".json")?.to_owned());
        names.extend(listed.iter().filter_map(|stat| name(&stat.key)));
    }
}
