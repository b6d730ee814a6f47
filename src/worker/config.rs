//! Configuration of a worker.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::queue::config::{QueueConfig, QueueKind};

/// How a worker works. Configuration `[worker]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// Interactive jobs at once.
    pub interactive_jobs: u16,
    /// Submission jobs at once.
    pub submission_jobs: u16,
    /// Replay jobs at once.
    pub replay_jobs: u16,
    /// Memory that inspection children may take together, bytes; `check.jobs` bounds their number besides. 0 = not bounded.
    pub memory_budget_bytes: u64,
    /// How long one job may take, seconds; then it is tried again later. Below the broker's consumer timeout.
    pub job_seconds: u64,
    /// Times that a job may be handed out again after a worker did not settle it (it crashed, or was cut off) before it is
    /// parked: it may be what crashed the worker. At its last time it runs alone in its worker, so that no other job is
    /// taken for the culprit; other jobs of that worker wait meanwhile.
    pub max_redeliveries: u32,
    /// Largest file that is ingested, bytes; a larger one is a finding.
    pub max_file_bytes: u64,
    /// Largest sum of the files of one submission, bytes.
    pub max_submission_bytes: u64,
    /// What becomes of staged objects once the outcome is published. The console's own uploads for pre-checks (below
    /// `greffier-precheck/`) are removed after 14 days in any case.
    pub staging: StagingPolicy,
    /// Where files lie while a job is worked on; empty: beside the vault where that is a directory, else the system's
    /// temporary folder.
    pub spool: PathBuf,
    /// What becomes of a job whose retries are used up and that still has something undetermined.
    pub undetermined: UndeterminedPolicy,
    /// How long SIGTERM waits for jobs under way before it gives them back, seconds.
    pub drain_seconds: u64,
}

/// What becomes of staged objects once the outcome is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StagingPolicy {
    /// Left to the upload service.
    Keep,
    /// Removed.
    Remove,
}

/// What becomes of a job that stays undetermined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UndeterminedPolicy {
    /// Parked: an operator looks, and requeues it.
    Park,
    /// Published as it is: the verdict says `undetermined`.
    Publish,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            interactive_jobs: 2,
            submission_jobs: 2,
            replay_jobs: 1,
            memory_budget_bytes: 0,
            job_seconds: 600,
            max_redeliveries: 5,
            max_file_bytes: 16 * 1024 * 1024 * 1024,
            max_submission_bytes: 64 * 1024 * 1024 * 1024,
            staging: StagingPolicy::Keep,
            spool: PathBuf::new(),
            undetermined: UndeterminedPolicy::Park,
            drain_seconds: 25,
        }
    }
}

impl WorkerConfig {
    /// What contradicts itself, or the queue.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn check(&self, queue: &QueueConfig) -> Result<(), String> {
        if self.job_seconds == 0 {
            return Err("worker.job_seconds must be at least 1".into());
        }
        // A job waits at most one job's time in the worker's window before it is worked on.
        if queue.kind == QueueKind::Amqp && self.job_seconds.saturating_mul(2) >= queue.consumer_timeout_minutes.saturating_mul(60) {
            return Err("twice worker.job_seconds must stay below queue.consumer_timeout_minutes: the broker would take jobs back".into());
        }
        if queue.kind == QueueKind::Amqp && self.max_redeliveries >= queue.delivery_limit {
            return Err("worker.max_redeliveries must be below queue.delivery_limit, so that what is parked has our reason".into());
        }
        if self.interactive_jobs == 0 && self.submission_jobs == 0 && self.replay_jobs == 0 {
            return Err("worker has no job in any lane".into());
        }
        Ok(())
    }
}
