//! What judging a submission may cost, counted in steps.
//!
//! Rules, redaction and rendering run in the worker's own process, on facts that come from hostile files. Each of their
//! loops whose length a file or a submission decides counts its steps here, so that they end, in one of two ways:
//!
//! 1. **The steps are used up.** They are counted, never timed: the same submission always ends at the same place.
//! 2. **Somebody stops the work** ([`Work::stop`]): the job has run out of time, or the worker shuts down.
//!
//! After either, [`Work::spend`] answers `false` for good and loops end early. Whatever they made is incomplete and must be thrown
//! away: the caller asks [`Work::ended`] before it believes a result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Steps left for one piece of work. Clones share the same count.
#[derive(Debug, Clone)]
pub struct Work(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: u64,
    spent: AtomicU64,
    stopped: AtomicBool,
}

/// Why work ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkEnded {
    /// It needed more steps than it may take.
    #[error("the work needs more than {max} steps")]
    StepsUsedUp {
        /// Steps allowed.
        max: u64,
    },
    /// It was stopped from outside.
    #[error("the work was stopped")]
    Stopped,
}

impl Work {
    /// At most `max` steps. A step is about one entry of a list looked at, or 64 bytes of text read.
    pub fn new(max: u64) -> Self {
        Self(Arc::new(Inner { max, spent: AtomicU64::new(0), stopped: AtomicBool::new(false) }))
    }

    /// As many steps as it takes: for a single file on somebody's own machine, and for tests.
    pub fn unbounded() -> Self {
        Self::new(u64::MAX)
    }

    /// Counts `steps` more, and says whether to go on.
    #[must_use]
    pub fn spend(&self, steps: u64) -> bool {
        // Saturates: a count that wrapped around would give the work a second life.
        let before = self.0.spent.fetch_add(steps, Ordering::Relaxed);
        if before.checked_add(steps).is_none() {
            self.0.spent.store(u64::MAX, Ordering::Relaxed);
        }
        self.ended().is_none()
    }

    /// Counts reading `bytes` of text, and says whether to go on.
    #[must_use]
    pub fn read(&self, bytes: usize) -> bool {
        self.spend(1 + bytes as u64 / 64)
    }

    /// The entries of `list`, each counted as one step, until the work ends.
    pub fn each<'a, I: IntoIterator + 'a>(&'a self, list: I) -> impl Iterator<Item = I::Item> + 'a
    where
        I::IntoIter: 'a,
    {
        list.into_iter().take_while(|_| self.spend(1))
    }

    /// Ends the work, from any thread.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }

    /// Steps counted so far.
    pub fn spent(&self) -> u64 {
        self.0.spent.load(Ordering::Relaxed)
    }

    /// Why the work ended early, or `None` while it may go on. Asked once at the end, it says whether a result is complete.
    pub fn ended(&self) -> Option<WorkEnded> {
        if self.0.stopped.load(Ordering::Relaxed) {
            Some(WorkEnded::Stopped)
        } else if self.spent() > self.0.max {
            Some(WorkEnded::StepsUsedUp { max: self.0.max })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_where_they_are_used_up_and_stay_ended() {
        let work = Work::new(3);
        assert_eq!(work.each(0..10).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(work.ended(), Some(WorkEnded::StepsUsedUp { max: 3 }));
        assert!(!work.spend(0));
    }

    #[test]
    fn exactly_the_allowed_steps_are_complete() {
        let work = Work::new(10);
        assert_eq!(work.each(0..10).count(), 10);
        assert_eq!(work.ended(), None);
    }

    #[test]
    fn stopping_one_clone_stops_all() {
        let work = Work::unbounded();
        let other = work.clone();
        assert!(work.spend(1));
        other.stop();
        assert_eq!(work.ended(), Some(WorkEnded::Stopped));
        assert!(!work.spend(1));
    }

    #[test]
    fn a_count_beyond_the_largest_number_is_used_up() {
        let work = Work::new(u64::MAX - 1);
        let _ = work.spend(u64::MAX);
        assert!(!work.spend(5));
    }
}
