//! The loop that joins queue, stores, check and bundle. It decides when, never what.
//!
//! Goals:
//! 1. **Nothing lost, nothing twice**: durable output, then confirmed event, then ack ([`job`]); what a dead worker began is
//!    found and finished by the next.
//! 2. **Bounded**: jobs by lane, children by number and memory, spool by job; lanes do not wait for one another, and
//!    within a lane candidatures take turns.
//! 3. **It stops when asked**: the first signal drains within a bound and gives the rest back, the second ends at once.
//! 4. **Never silent**: every job that leaves a worker's hands is one log line, one count and, where it ends, one event.
//!
//! Read in this order: this file (the loop), [`job`] (one job), [`intake`] (its bytes), [`records`] (what is remembered).

pub mod audit;
pub mod config;
pub mod copy;
pub mod intake;
pub mod job;
pub mod journal;
pub mod read;
pub mod records;
pub mod spool;
pub mod state;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::check::Examiner;
use crate::check::judging::Judging;
use crate::check::links::Links;
use crate::check::places::Places;
use crate::metrics::Metrics;
use crate::model::message::Lane;
use crate::queue::{Consumer, Delivery, Queue, QueueError};
use crate::seal::SealKey;
use crate::store::Store;
use config::WorkerConfig;
use read::Pipelines;
use spool::Spool;
use state::State;

/// How often memory that jobs have freed goes back to the system: reports and pages are large, and come on many threads.
const TRIM: Duration = Duration::from_secs(15);

/// How often states are counted.
const WATCH: Duration = Duration::from_secs(2);

/// Everything a worker works with.
pub struct Parts {
    /// How it works.
    pub config: WorkerConfig,
    /// Where jobs come from and events go.
    pub queue: Arc<dyn Queue>,
    /// Where uploads are.
    pub staging: Arc<dyn Store>,
    /// Where everything is kept.
    pub vault: Arc<dyn Store>,
    /// Rules by démarche.
    pub pipelines: Pipelines,
    /// Looks at items; its facts are shared through the vault.
    pub examiner: Examiner,
    /// Children at once.
    pub places: Places,
    /// Asks Gazelle, by démarche; empty where the worker is offline.
    pub links: BTreeMap<String, Links>,
    /// Seals bundles and signs receipts.
    pub key: Option<SealKey>,
    /// Where files lie while a job is worked on.
    pub spool: Spool,
    /// Counts.
    pub metrics: Metrics,
    /// Jobs held for each that runs, at least one: more than one only where the queue itself gives candidatures no turns, since
    /// what one worker holds is not there for others.
    pub window: u16,
    /// How long a job may wait in this worker's window before it is given back.
    pub longest_wait: Duration,
    /// What jobs run on.
    pub threads: JobThreads,
}

/// The threads on which jobs run. Health checks, metrics, the console, the connection to the broker and the renewal of leases run
/// on others, so that no job can hold them up.
#[derive(Debug)]
pub struct JobThreads(Option<tokio::runtime::Runtime>);

impl JobThreads {
    /// Starts them.
    ///
    /// # Errors
    /// The machine gives none.
    pub fn start() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("jobs").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where to spawn a job; `None` only while it is dropped.
    fn handle(&self) -> Option<&tokio::runtime::Handle> {
        self.0.as_ref().map(tokio::runtime::Runtime::handle)
    }
}

impl Drop for JobThreads {
    fn drop(&mut self) {
        // Waited for nowhere: a worker may end on a thread that must not block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What all jobs of a worker share.
struct Shared {
    config: WorkerConfig,
    queue: Arc<dyn Queue>,
    staging: Arc<dyn Store>,
    vault: Arc<dyn Store>,
    pipelines: Pipelines,
    examiner: Examiner,
    places: Places,
    links: BTreeMap<String, Links>,
    key: Option<SealKey>,
    spool: Spool,
    metrics: Metrics,
    state: State,
    /// Write bundles: as many as there are jobs, so that many gigabytes of files never keep another job from being judged.
    writing: Judging,
    /// Held together by jobs that run beside one another, and alone by one that is suspected of ending workers.
    company: RwLock<()>,
}

impl Shared {
    fn intake_limits(&self) -> intake::IntakeLimits {
        intake::IntakeLimits { file: self.config.max_file_bytes, submission: self.config.max_submission_bytes }
    }
}

/// A worker.
pub struct Worker {
    shared: Arc<Shared>,
    window: u16,
    longest_wait: Duration,
    threads: JobThreads,
}

/// Asks a worker to stop. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Take no more jobs; finish those under way within `worker.drain_seconds`.
    drain: CancellationToken,
}

impl Stop {
    /// Begins to drain.
    pub fn drain(&self) {
        self.drain.cancel();
    }
}

impl Worker {
    /// A worker that does nothing yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, queue, staging, vault, pipelines, examiner, places, links, key, spool, metrics, window, longest_wait, threads } =
            parts;
        metrics.set_child_slots(places.total());
        let state = State::default();
        let company = RwLock::new(());
        let jobs = [config.interactive_jobs, config.submission_jobs, config.replay_jobs];
        let writing = Judging::new(jobs.into_iter().map(usize::from).sum());
        let shared =
            Shared { config, queue, staging, vault, pipelines, examiner, places, links, key, spool, metrics, state, writing, company };
        Self { shared: Arc::new(shared), window: window.max(1), longest_wait, threads }
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.shared.state.clone()
    }

    /// Works until `stop`, then drains: jobs under way get `worker.drain_seconds`, and are then given back.
    ///
    /// # Errors
    /// The queue refuses to be consumed. A queue that goes away while the worker runs is waited out.
    pub async fn run(&self, stop: &Stop) -> Result<(), QueueError> {
        let config = &self.shared.config;
        let lanes =
            [(Lane::Interactive, config.interactive_jobs), (Lane::Submission, config.submission_jobs), (Lane::Replay, config.replay_jobs)];
        // Cancels the jobs themselves, once draining has taken too long.
        let give_back = CancellationToken::new();
        let mut running = JoinSet::new();
        for (lane, jobs) in lanes.into_iter().filter(|(_, jobs)| *jobs > 0) {
            let consumer = self.shared.queue.consume(lane, jobs.saturating_mul(self.window)).await?;
            let lane = LaneLoop {
                shared: Arc::clone(&self.shared),
                jobs: usize::from(jobs),
                longest_wait: self.longest_wait,
                drain: stop.drain.clone(),
                give_back: give_back.clone(),
                threads: self.threads.handle().cloned().unwrap_or_else(tokio::runtime::Handle::current),
            };
            running.spawn(lane.run(consumer));
        }
        let watching = tokio::spawn(watch(Arc::clone(&self.shared)));
        stop.drain.cancelled().await;
        self.shared.state.drain();
        self.shared.metrics.set_draining(true);
        tracing::info!(jobs = self.shared.state.jobs().len(), bound_s = config.drain_seconds, "draining");
        let drained = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(config.drain_seconds), drained).await.is_err() {
            tracing::warn!(jobs = self.shared.state.jobs().len(), "jobs under way are given back");
            give_back.cancel();
            while running.join_next().await.is_some() {}
        }
        watching.abort();
        self.shared.queue.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Counts what is a state rather than an event.
async fn watch(shared: Arc<Shared>) {
    let mut trimmed = Instant::now();
    loop {
        if trimmed.elapsed() >= TRIM {
            give_memory_back();
            trimmed = Instant::now();
        }
        shared.metrics.set_children(shared.places.busy());
        let counted = Arc::clone(&shared);
        if let Ok(bytes) = tokio::task::spawn_blocking(move || counted.spool.bytes()).await {
            shared.metrics.set_spool(bytes);
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// The allocator of the GNU C library keeps what is freed, thread by thread, unless it is told.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper"))]
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The jobs of one lane.
struct LaneLoop {
    shared: Arc<Shared>,
    jobs: usize,
    longest_wait: Duration,
    drain: CancellationToken,
    give_back: CancellationToken,
    threads: tokio::runtime::Handle,
}

impl LaneLoop {
    async fn run(self, mut consumer: Box<dyn Consumer>) {
        let mut waiting = Window::default();
        let mut running = JoinSet::new();
        loop {
            while running.len() < self.jobs
                && let Some(delivery) = waiting.next()
            {
                running.spawn_on(job::handle(Arc::clone(&self.shared), delivery, self.give_back.clone()), &self.threads);
            }
            let oldest = waiting.oldest().map(|since| since + self.longest_wait);
            tokio::select! {
                biased;
                () = self.drain.cancelled() => break,
                Some(ended) = running.join_next() => {
                    if let Err(e) = ended {
                        // Its delivery went with it, unsettled: the queue hands it out again.
                        tracing::error!(error = %e, "a job ended abnormally");
                    }
                }
                delivery = consumer.next() => match delivery {
                    Some(delivery) => waiting.push(delivery),
                    None => break,
                },
                () = until(oldest) => {
                    for delivery in waiting.too_old(self.longest_wait) {
                        release(delivery).await;
                    }
                }
            }
        }
        consumer.stop().await;
        for delivery in waiting.all() {
            release(delivery).await;
        }
        while running.join_next().await.is_some() {}
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

async fn release(delivery: Delivery) {
    let id = delivery.message.id.clone();
    if let Err(e) = delivery.settle.release().await {
        tracing::warn!(error = %e, message_id = id, "a waiting job could not be given back; its lease or channel ends with this worker");
    }
}

/// Jobs in hand that do not run yet, by candidature: whoever was served longest ago is next.
#[derive(Default)]
struct Window {
    parties: VecDeque<(Option<String>, Held)>,
}

/// Deliveries and since when they are held, the oldest first.
type Held = VecDeque<(Instant, Delivery)>;

impl Window {
    fn push(&mut self, delivery: Delivery) {
        let party = delivery.message.candidature.clone();
        let held = (Instant::now(), delivery);
        // Jobs that name no candidature have nothing in common: each is a party of its own.
        match self.parties.iter_mut().find(|(name, _)| name.is_some() && *name == party) {
            Some((_, jobs)) => jobs.push_back(held),
            None => self.parties.push_back((party, VecDeque::from([held]))),
        }
    }

    fn next(&mut self) -> Option<Delivery> {
        let (name, mut jobs) = self.parties.pop_front()?;
        let next = jobs.pop_front();
        if !jobs.is_empty() {
            self.parties.push_back((name, jobs));
        }
        next.map(|(_, delivery)| delivery)
    }

    fn oldest(&self) -> Option<Instant> {
        self.parties.iter().filter_map(|(_, jobs)| jobs.front().map(|(since, _)| *since)).min()
    }

    fn too_old(&mut self, longest: Duration) -> Vec<Delivery> {
        let mut old = Vec::new();
        for (_, jobs) in &mut self.parties {
            while jobs.front().is_some_and(|(since, _)| since.elapsed() >= longest) {
                old.extend(jobs.pop_front().map(|(_, delivery)| delivery));
            }
        }
        self.parties.retain(|(_, jobs)| !jobs.is_empty());
        old
    }

    fn all(self) -> impl Iterator<Item = Delivery> {
        self.parties.into_iter().flat_map(|(_, jobs)| jobs).map(|(_, delivery)| delivery)
    }
}
