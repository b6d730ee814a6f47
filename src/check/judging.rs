//! The threads on which submissions are judged, redacted and rendered.
//!
//! Goals:
//! 1. **Nothing else waits for them.** They are neither the threads of the asynchronous runtime, which answers health checks and
//!    renews leases, nor its pool for blocking calls, which grows without a bound and which nothing can stop.
//! 2. **Bounded.** At most so many run at once; a place is free again when its thread has really ended, so that work that was
//!    given up and still runs is counted.
//! 3. **It ends.** All of it counts its steps with [`Work`]. Dropping the future (the job ran out of time, the worker stops)
//!    stops the work, and the thread ends at its next step.
//! 4. **A panic is ours and is contained**: it is an error of this piece of work, never a worker that dies.
//!
//! Threads and not child processes: facts are already decoded and are plain data of ours, the rules are linear in them, and their
//! amount is bounded. The same pure code is meant to run where there are no processes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use crate::model::work::{Work, WorkEnded};

/// Why a piece of work gave no result.
#[derive(Debug, thiserror::Error)]
pub enum JudgingError {
    /// It needed more steps than it may take, or was stopped.
    #[error("judging was not completed")]
    Ended(#[from] WorkEnded),
    /// A rule or a template panicked: a mistake of ours. What it said is in the log only, since it may quote a file.
    #[error("judging ended abnormally: this is a mistake in greffier")]
    Panicked,
    /// The machine gave no thread.
    #[error("no thread could be started")]
    Thread(#[source] std::io::Error),
}

impl JudgingError {
    /// Whether the same submission always ends like this, so that trying again is useless.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Ended(WorkEnded::StepsUsedUp { .. }))
    }
}

/// A bounded number of threads. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Judging {
    places: Arc<Semaphore>,
    total: usize,
}

impl Judging {
    /// `total` threads at once, at least one.
    pub fn new(total: usize) -> Self {
        let total = total.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(total)), total }
    }

    /// As many as the machine has cores.
    pub fn by_cores() -> Self {
        Self::new(std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }

    /// Threads that run now, those of work that was given up included.
    pub fn busy(&self) -> usize {
        self.total.saturating_sub(self.places.available_permits())
    }

    /// Runs `job` on a thread of its own once a place is free. Its result counts only if `work` has not ended. Dropping the
    /// future stops the work.
    ///
    /// # Errors
    /// [`JudgingError`].
    pub async fn run<T: Send + 'static>(&self, work: &Work, job: impl FnOnce(&Work) -> T + Send + 'static) -> Result<T, JudgingError> {
        let stop = StopOnDrop(Some(work.clone()));
        // The semaphore is never closed: without a place there is no thread.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return Err(JudgingError::Ended(WorkEnded::Stopped)) };
        let (sender, ended) = oneshot::channel();
        let inside = work.clone();
        let thread = std::thread::Builder::new().name("judging".to_owned()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| job(&inside)));
            // The place first: a caller that sees the result finds the place free. A future that was dropped wants no result.
            drop(place);
            let _ = sender.send(result.map_err(|_| JudgingError::Panicked));
        });
        thread.map_err(JudgingError::Thread)?;
        let result = ended.await.unwrap_or(Err(JudgingError::Panicked))?;
        stop.done();
        match work.ended() {
            Some(why) => Err(why.into()),
            None => Ok(result),
        }
    }
}

/// Stops the work unless it was told that it is done.
struct StopOnDrop(Option<Work>);

impl StopOnDrop {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(work) = &self.0 {
            work.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Counts steps until it is stopped.
    fn endless(work: &Work) {
        while work.spend(1) {
            std::hint::spin_loop();
        }
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("it never came to be");
    }

    #[tokio::test]
    async fn giving_up_ends_the_thread_and_frees_its_place() {
        let judging = Judging::new(1);
        let given_up = tokio::time::timeout(Duration::from_millis(50), judging.run(&Work::unbounded(), endless)).await;
        assert!(given_up.is_err());
        until(|| judging.busy() == 0).await;
        assert_eq!(judging.run(&Work::unbounded(), |_| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn used_up_steps_are_an_error_and_no_result() {
        let judging = Judging::new(1);
        let error = judging.run(&Work::new(1_000), endless).await.unwrap_err();
        assert!(error.is_settled(), "{error:?}");
    }

    #[tokio::test]
    async fn a_panic_is_contained_and_the_place_is_free_again() {
        let judging = Judging::new(1);
        let error = judging.run(&Work::unbounded(), |_| panic!("as the test wants it")).await.unwrap_err();
        assert!(matches!(error, JudgingError::Panicked) && !error.is_settled(), "{error:?}");
        assert_eq!(judging.busy(), 0);
        assert_eq!(judging.run(&Work::unbounded(), |_| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn no_more_run_at_once_than_there_are_places() {
        let judging = Judging::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (judging, running, most) = (judging.clone(), Arc::clone(&running), Arc::clone(&most));
            all.spawn(async move {
                let work = Work::unbounded();
                let counted = move |_: &Work| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                judging.run(&work, counted).await
            });
        }
        while let Some(ended) = all.join_next().await {
            ended.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn the_runtime_goes_on_beside_work_on_every_place() {
        // One thread runs this test and everything asynchronous in it.
        let judging = Judging::new(2);
        let works = [Work::unbounded(), Work::unbounded()];
        let beside = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            works.iter().for_each(Work::stop);
        };
        let (one, other, ()) = tokio::join!(judging.run(&works[0], endless), judging.run(&works[1], endless), beside);
        assert!(one.is_err() && other.is_err());
    }
}
