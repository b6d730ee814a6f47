//! What a worker is doing right now: for health, the console, and whoever asks why it does not stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use crate::model::event::About;
use crate::model::message::Lane;

/// The stage of a job that is not noted as begun yet.
pub const BEGIN: &str = "begin";

/// Shared by the worker and those who watch it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct State(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    jobs: Mutex<BTreeMap<u64, JobState>>,
    next: AtomicU64,
    draining: AtomicBool,
    /// Seconds since 1970 of the last step forward.
    progressed: AtomicI64,
}

/// One job under way.
#[derive(Debug, Clone, Serialize)]
pub struct JobState {
    /// Lane.
    pub lane: Lane,
    /// Id of its message.
    pub message_id: String,
    /// Which submission, once it has been read.
    pub about: Option<About>,
    /// What is being done.
    pub stage: &'static str,
    /// Items looked at.
    pub done: usize,
    /// Items of the submission.
    pub total: usize,
    /// Since when this worker has it.
    pub since: Timestamp,
}

/// A job's entry; gone when dropped.
#[derive(Debug)]
pub struct Entry {
    state: State,
    number: u64,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, JobState>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job has begun.
    pub fn enter(&self, lane: Lane, message_id: &str) -> Entry {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let job =
            JobState { lane, message_id: message_id.to_owned(), about: None, stage: BEGIN, done: 0, total: 0, since: Timestamp::now() };
        self.lock().insert(number, job);
        self.progress();
        Entry { state: self.clone(), number }
    }

    /// Jobs under way, the oldest first.
    pub fn jobs(&self) -> Vec<JobState> {
        self.lock().values().cloned().collect()
    }

    /// Something went forward.
    pub fn progress(&self) {
        self.0.progressed.store(Timestamp::now().as_second(), Ordering::Relaxed);
    }

    /// Seconds since something last went forward; `None` where nothing is under way, so that nothing need.
    pub fn stalled_for(&self) -> Option<u64> {
        if self.lock().is_empty() {
            return None;
        }
        let since = Timestamp::now().as_second() - self.0.progressed.load(Ordering::Relaxed);
        Some(u64::try_from(since).unwrap_or(0))
    }

    /// Whether no new job is taken any more.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    pub(super) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }
}

impl Entry {
    fn change(&self, with: impl FnOnce(&mut JobState)) {
        if let Some(job) = self.state.lock().get_mut(&self.number) {
            with(job);
        }
        self.state.progress();
    }

    /// The submission has been read.
    pub fn read(&self, about: About, total: usize) {
        self.change(|job| (job.about, job.total) = (Some(about), total));
    }

    /// The next stage has begun.
    pub fn stage(&self, stage: &'static str) {
        self.change(|job| job.stage = stage);
    }

    /// Which submission, once it has been read.
    pub fn about(&self) -> Option<About> {
        self.state.lock().get(&self.number).and_then(|job| job.about.clone())
    }

    /// What is being done.
    pub fn current_stage(&self) -> &'static str {
        self.state.lock().get(&self.number).map_or("end", |job| job.stage)
    }

    /// Items looked at so far.
    pub fn done(&self, done: usize) {
        self.change(|job| job.done = done);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.state.lock().remove(&self.number);
        self.state.progress();
    }
}
