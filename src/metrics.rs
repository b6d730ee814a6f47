//! What a worker and a server count, for Prometheus.
//!
//! Goals:
//! 1. **Nobody else knows a label.** Callers say what happened, in types; names, units and label words stand here only, so
//!    that dashboards and alerts have one place to be compared with.
//! 2. **Every series exists from the start.** A counter that appears with its first error has no rate, and an alert on it
//!    misses exactly that error.
//! 3. **Bounded.** No label holds what a sender chooses: no candidature, no file name, no address, no free text. A code
//!    that is not known here is counted as `other`.
//! 4. **Cheap**: a handle is a reference count; recording is a few atomic operations, or a short lock for histograms.
//!
//! Names follow the conventions of Prometheus (base units, `_total` on counters); the text is OpenMetrics 1.0.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::model::gazelle::GazelleOutcome;
use crate::model::message::Lane;
use crate::model::{Code, Verdict, messages};
use crate::queue::observed::{Operation as QueueOperation, QueueObserver};
use crate::queue::{self, Depth, Place, QueueError};
use crate::store::StoreError;
use crate::store::observed::{Operation as StoreOperation, StoreObserver};
use crate::telemetry;

/// Media type of what [`Metrics::encode`] writes (OpenMetrics 1.0, « Overall Structure »).
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A closed set of label values: what may be told, and the word for it.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$what])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// How a job left the worker's hands.
    JobOutcome {
        /// Checked; its outcome is published, whatever the verdict.
        Published = "published",
        /// No submission that can be checked: told to its sender, and not tried again.
        Rejected = "rejected",
        /// Set aside for an operator.
        Parked = "parked",
        /// Tried again later.
        Retried = "retried",
        /// Given back untouched: the worker is draining.
        Returned = "returned",
        /// Done before: its outcome was there, and was announced again.
        Duplicate = "duplicate",
    }
}

words! {
    /// What a job goes through.
    Stage {
        /// From staging into the vault, hashed.
        Ingest = "ingest",
        /// Format and facts, in the child.
        Inspect = "inspect",
        /// Past the antivirus engines.
        Antivirus = "antivirus",
        /// Reports behind links.
        Gazelle = "gazelle",
        /// Facts to findings.
        Assess = "assess",
        /// The bundle is written.
        Bundle = "bundle",
        /// Into the vault, and told.
        Publish = "publish",
    }
}

words! {
    /// What ended an inspection child before its time.
    ChildDeath {
        /// Address space.
        Memory = "memory",
        /// CPU time.
        Cpu = "cpu",
        /// Wall-clock time.
        Wall = "wall",
        /// Size of its answer.
        Reply = "reply",
        /// A system call that is not on the list.
        Syscall = "syscall",
        /// A signal or a panic of its own.
        Crash = "crash",
        /// Killed from outside: no limit of ours.
        Killed = "killed",
    }
}

impl ChildDeath {
    /// The death that a finding code of the sandbox tells (`sandbox-memory`…).
    pub fn of_code(code: &str) -> Option<Self> {
        let word = code.strip_prefix("sandbox-")?;
        Self::ALL.iter().copied().find(|death| death.as_str() == word)
    }
}

words! {
    /// What the antivirus said of a file.
    ScanResult {
        /// Every engine says so.
        Clean = "clean",
        /// One engine at least found something.
        Infected = "infected",
        /// Not scanned: an engine is missing, failed or refused. Never clean.
        NotScanned = "not_scanned",
        /// Not scanned: larger or deeper than an engine looks, at every attempt. Never clean.
        BeyondLimits = "beyond_limits",
    }
}

words! {
    /// Which store.
    StoreName {
        /// What was uploaded.
        Staging = "staging",
        /// What was received and made.
        Vault = "vault",
    }
}

/// Codes for which jobs are parked or tried again later; any other is counted as `other`.
pub const REASONS: &[&str] = &[
    "JOB-BUNDLE",
    "JOB-DELIVERY-LIMIT",
    "JOB-DEMARCHE-UNKNOWN",
    "JOB-FILE-SET-ASIDE",
    "JOB-MACHINE",
    "JOB-MALFORMED",
    "JOB-PARKED-BY-OPERATOR",
    "JOB-QUEUE",
    "JOB-STORE",
    "JOB-TIMEOUT",
    "JOB-TOO-LARGE",
    "JOB-TYPE-UNKNOWN",
    "JOB-UNDETERMINED",
    "JOB-WORKER-LOST",
    OTHER,
];

const OTHER: &str = "other";

const VERDICTS: [Verdict; 4] = [Verdict::Accepted, Verdict::AcceptedWithWarnings, Verdict::Rejected, Verdict::Undetermined];

const OK: &str = "ok";
const STORE_RESULTS: &[&str] = &[OK, "unavailable", "refused", "conflict", "corrupt"];
const QUEUE_RESULTS: &[&str] = &[OK, "unavailable", "refused", "unroutable", "lost", "no_more_retries"];

fn store_result(error: Option<&StoreError>) -> &'static str {
    match error {
        None => OK,
        Some(StoreError::Unavailable { .. }) => "unavailable",
        Some(StoreError::Refused { .. }) => "refused",
        Some(StoreError::Conflict { .. }) => "conflict",
        Some(StoreError::Corrupt { .. }) => "corrupt",
    }
}

fn queue_result(error: Option<&QueueError>) -> &'static str {
    match error {
        None => OK,
        Some(QueueError::Unavailable { .. }) => "unavailable",
        Some(QueueError::Refused { .. }) => "refused",
        Some(QueueError::Unroutable { .. }) => "unroutable",
        Some(QueueError::Lost { .. }) => "lost",
        Some(QueueError::NoMoreRetries { .. }) => "no_more_retries",
    }
}

/// Every place of a queue.
pub const PLACES: [Place; 8] = [
    Place::Lane(Lane::Interactive),
    Place::Lane(Lane::Submission),
    Place::Lane(Lane::Replay),
    Place::Retry(Lane::Interactive),
    Place::Retry(Lane::Submission),
    Place::Retry(Lane::Replay),
    Place::Parked,
    Place::Events,
];

/// The word for a place: the lane's own, `retry-` and the lane's, `parked`, `events`.
pub const fn place_word(place: Place) -> &'static str {
    match place {
        Place::Lane(Lane::Interactive) => "interactive",
        Place::Lane(Lane::Submission) => "submission",
        Place::Lane(Lane::Replay) => "replay",
        Place::Retry(Lane::Interactive) => "retry-interactive",
        Place::Retry(Lane::Submission) => "retry-submission",
        Place::Retry(Lane::Replay) => "retry-replay",
        Place::Parked => "parked",
        Place::Events => "events",
    }
}

type Label = (&'static str, &'static str);
type Labels1 = [Label; 1];
type Labels2 = [Label; 2];
type Labels3 = [Label; 3];
/// A number with a fraction, or NaN where it is not known.
type Real = Gauge<f64, AtomicU64>;

/// Which program this is; all of it ends up in one series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// Version of the inspectors.
    pub inspectors: String,
    /// Rules in use: `lgc-vague-2@1f3a…`, several joined by commas.
    pub rules: String,
}

/// A handle on everything that is counted. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Inner {
    registry: Registry,
    queue_ready: Family<Labels1, Gauge>,
    queue_unsettled: Family<Labels1, Real>,
    queue_oldest: Family<Labels1, Real>,
    queue_eta: Family<Labels1, Real>,
    queue_up: Gauge,
    in_flight: Family<Labels1, Gauge>,
    jobs: Family<Labels2, Counter>,
    job_duration: Family<Labels1, Histogram>,
    stage_duration: Family<Labels1, Histogram>,
    items: Family<Labels1, Counter>,
    item_bytes: Counter,
    findings: Family<Labels1, Counter>,
    facts_cache: Family<Labels1, Counter>,
    child_deaths: Family<Labels1, Counter>,
    retries: Family<Labels1, Counter>,
    parked: Family<Labels1, Counter>,
    scans: Family<Labels1, Counter>,
    links: Family<Labels1, Counter>,
    store_requests: Family<Labels3, Counter>,
    store_duration: Family<Labels2, Histogram>,
    queue_requests: Family<Labels2, Counter>,
    child_slots: Family<Labels1, Gauge>,
    spool: Gauge,
    draining: Gauge,
    /// Smoothed duration of jobs by lane, seconds, as bits of an f64; 0 = none has ended yet.
    pace: [AtomicU64; Lane::ALL.len()],
}

/// Weight of the latest job in the smoothed duration.
const PACE_WEIGHT: f64 = 0.1;

fn job_buckets() -> Histogram {
    Histogram::new([0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0])
}

fn stage_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0])
}

fn request_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

impl Metrics {
    /// Everything at zero.
    pub fn new(build: &Build) -> Self {
        let mut registry = Registry::default();
        let build: Vec<(&'static str, String)> = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("inspectors", build.inspectors.clone()),
            ("rules", build.rules.clone()),
        ];
        registry.register("greffier_build", "Version of the program, of its inspectors, and the rules in use", Info::new(build));
        registry.register_collector(Box::new(ProcessCollector));
        let inner = Inner {
            queue_ready: Family::default(),
            queue_unsettled: Family::default(),
            queue_oldest: Family::default(),
            queue_eta: Family::default(),
            queue_up: Gauge::default(),
            in_flight: Family::default(),
            jobs: Family::default(),
            job_duration: Family::new_with_constructor(job_buckets as fn() -> Histogram),
            stage_duration: Family::new_with_constructor(stage_buckets as fn() -> Histogram),
            items: Family::default(),
            item_bytes: Counter::default(),
            findings: Family::default(),
            facts_cache: Family::default(),
            child_deaths: Family::default(),
            retries: Family::default(),
            parked: Family::default(),
            scans: Family::default(),
            links: Family::default(),
            store_requests: Family::default(),
            store_duration: Family::new_with_constructor(request_buckets as fn() -> Histogram),
            queue_requests: Family::default(),
            child_slots: Family::default(),
            spool: Gauge::default(),
            draining: Gauge::default(),
            pace: Default::default(),
            registry: Registry::default(),
        };
        inner.register(&mut registry);
        inner.begin_at_zero();
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// Everything as OpenMetrics text ([`OPEN_METRICS`]).
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(64 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    // ------------------------------------------------------------------------------------------------------- jobs

    /// A job is in this worker's hands until what is returned is dropped.
    #[must_use]
    pub fn job_started(&self, lane: Lane) -> InFlight {
        let gauge = self.0.in_flight.get_or_create_owned(&[("lane", lane.as_str())]);
        gauge.inc();
        InFlight(gauge)
    }

    /// A job left this worker's hands.
    pub fn job_ended(&self, lane: Lane, outcome: JobOutcome, took: Duration) {
        self.0.jobs.get_or_create(&[("lane", lane.as_str()), ("outcome", outcome.as_str())]).inc();
        self.0.job_duration.get_or_create(&[("lane", lane.as_str())]).observe(took.as_secs_f64());
        // What was only handed on says nothing of how long work takes.
        if matches!(outcome, JobOutcome::Published) {
            let blend = |old: u64| {
                let (old, new) = (f64::from_bits(old), took.as_secs_f64());
                Some((if old == 0.0 { new } else { old + PACE_WEIGHT * (new - old) }).to_bits())
            };
            let _ = self.pace_of(lane).fetch_update(Ordering::Relaxed, Ordering::Relaxed, blend);
        }
    }

    /// A stage of one job, or of one item of it, took this long.
    pub fn stage_ended(&self, stage: Stage, took: Duration) {
        self.0.stage_duration.get_or_create(&[("stage", stage.as_str())]).observe(took.as_secs_f64());
    }

    /// A job will be tried again, for the reason of this code ([`REASONS`]).
    pub fn retried(&self, code: &str) {
        self.0.retries.get_or_create(&[("reason", known(REASONS, code))]).inc();
    }

    /// A job was parked, for the reason of this code ([`REASONS`]).
    pub fn parked(&self, code: &str) {
        self.0.parked.get_or_create(&[("reason", known(REASONS, code))]).inc();
    }

    // ------------------------------------------------------------------------------------------------------- items

    /// An item got its verdict; `bytes` of it were received (0 for a link).
    pub fn item_judged(&self, verdict: Verdict, bytes: u64) {
        self.0.items.get_or_create(&[("verdict", verdict.as_str())]).inc();
        self.0.item_bytes.inc_by(bytes);
    }

    /// A finding was given, on an item or on the whole.
    pub fn found(&self, code: &Code) {
        // The registry's own key: it outlives us, and no other word becomes a label.
        let word = messages::all().get_key_value(code.as_str()).map_or(OTHER, |(word, _)| word.as_str());
        self.0.findings.get_or_create(&[("code", word)]).inc();
    }

    /// Facts were looked up by content; whether they were there.
    pub fn facts_looked_up(&self, hit: bool) {
        self.0.facts_cache.get_or_create(&[("result", if hit { "hit" } else { "miss" })]).inc();
    }

    /// An inspection child died.
    pub fn child_died(&self, death: ChildDeath) {
        self.0.child_deaths.get_or_create(&[("limit", death.as_str())]).inc();
    }

    /// A file went past the antivirus.
    pub fn scanned(&self, result: ScanResult) {
        self.0.scans.get_or_create(&[("result", result.as_str())]).inc();
    }

    /// A link was followed, or not.
    pub fn link_followed(&self, outcome: &GazelleOutcome) {
        self.0.links.get_or_create(&[("outcome", outcome.label())]).inc();
    }

    // -------------------------------------------------------------------------------------------------- saturation

    /// How many inspection children may run at once.
    pub fn set_child_slots(&self, total: usize) {
        self.0.child_slots.get_or_create(&[("state", "total")]).set(count(total as u64));
    }

    /// Inspection children that run now.
    pub fn set_children(&self, busy: usize) {
        self.0.child_slots.get_or_create(&[("state", "busy")]).set(count(busy as u64));
    }

    /// Bytes that lie in the spool now.
    pub fn set_spool(&self, bytes: u64) {
        self.0.spool.set(count(bytes));
    }

    /// Whether this worker takes no more jobs and ends those it has.
    pub fn set_draining(&self, draining: bool) {
        self.0.draining.set(i64::from(draining));
    }

    /// Whether the queue can be reached.
    pub fn set_queue_up(&self, up: bool) {
        self.0.queue_up.set(i64::from(up));
    }

    /// What waits where, as [`crate::queue::Queue::status`] told at `now`.
    pub fn queue_seen(&self, depths: &[Depth], now: Timestamp) {
        for depth in depths {
            let place = [("place", place_word(depth.place))];
            self.0.queue_ready.get_or_create(&place).set(count(depth.ready));
            self.0.queue_unsettled.get_or_create(&place).set(depth.unsettled.map_or(f64::NAN, real));
            let oldest = match depth.oldest {
                Some(since) => now.duration_since(since).as_secs_f64().max(0.0),
                None if depth.ready == 0 => 0.0,
                None => f64::NAN,
            };
            self.0.queue_oldest.get_or_create(&place).set(oldest);
            if let Place::Lane(lane) = depth.place {
                let eta = self.eta(lane, depth).map_or(f64::NAN, |eta| eta.as_secs_f64());
                self.0.queue_eta.get_or_create(&[("lane", lane.as_str())]).set(eta);
            }
        }
    }

    /// When a job that is put into the lane now would be done, as far as can be told: what is before it, at the pace of this
    /// worker's latest jobs, spread over as many hands as hold jobs of this lane now. `None`: no job has ended here yet.
    pub fn eta(&self, lane: Lane, depth: &Depth) -> Option<Duration> {
        let hands = depth.unsettled.unwrap_or(1).max(1);
        let waiting = depth.ready.saturating_add(depth.unsettled.unwrap_or(0));
        if waiting == 0 {
            return Some(Duration::ZERO);
        }
        let pace = f64::from_bits(self.pace_of(lane).load(Ordering::Relaxed));
        (pace > 0.0).then(|| Duration::try_from_secs_f64(real(waiting) * pace / real(hands)).unwrap_or(Duration::MAX))
    }

    fn pace_of(&self, lane: Lane) -> &AtomicU64 {
        let [interactive, submission, replay] = &self.0.pace;
        match lane {
            Lane::Interactive => interactive,
            Lane::Submission => submission,
            Lane::Replay => replay,
        }
    }

    // ---------------------------------------------------------------------------------------------------- requests

    /// Counts the requests of a store: for [`crate::store::observed::ObservedStore`].
    pub fn store_observer(&self, store: StoreName) -> Arc<dyn StoreObserver> {
        Arc::new(StoreCounter { metrics: self.clone(), store })
    }

    /// Counts the requests of the queue: for [`crate::queue::observed::ObservedQueue`].
    pub fn queue_observer(&self) -> Arc<dyn QueueObserver> {
        Arc::new(QueueCounter { metrics: self.clone() })
    }
}

/// Something is under way until this is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug)]
struct StoreCounter {
    metrics: Metrics,
    store: StoreName,
}

impl StoreObserver for StoreCounter {
    fn called(&self, operation: StoreOperation, error: Option<&StoreError>, took: Duration) {
        let (store, operation) = (("store", self.store.as_str()), ("operation", operation.as_str()));
        self.metrics.0.store_requests.get_or_create(&[store, operation, ("result", store_result(error))]).inc();
        self.metrics.0.store_duration.get_or_create(&[store, operation]).observe(took.as_secs_f64());
    }
}

#[derive(Debug)]
struct QueueCounter {
    metrics: Metrics,
}

impl QueueObserver for QueueCounter {
    fn called(&self, operation: QueueOperation, error: Option<&QueueError>, _took: Duration) {
        self.metrics.0.queue_requests.get_or_create(&[("operation", operation.as_str()), ("result", queue_result(error))]).inc();
    }
}

impl Inner {
    fn register(&self, to: &mut Registry) {
        to.register("greffier_queue_ready", "Messages that wait, by place", self.queue_ready.clone());
        to.register(
            "greffier_queue_unsettled",
            "Jobs in workers' hands, by place; NaN where the queue cannot tell",
            self.queue_unsettled.clone(),
        );
        to.register(
            "greffier_queue_oldest_age_seconds",
            "Age of the oldest message that waits, by place; NaN where the queue cannot tell",
            self.queue_oldest.clone(),
        );
        to.register(
            "greffier_queue_eta_seconds",
            "When a job put into the lane now would be done, at the present pace; NaN before the first job has ended",
            self.queue_eta.clone(),
        );
        to.register("greffier_queue_up", "Whether the queue can be reached (0 or 1)", self.queue_up.clone());
        to.register("greffier_jobs_in_flight", "Jobs in this worker's hands", self.in_flight.clone());
        to.register("greffier_jobs", "Jobs that left this worker's hands, by how", self.jobs.clone());
        to.register("greffier_job_duration_seconds", "From the receipt of a job to its settlement", self.job_duration.clone());
        to.register("greffier_stage_duration_seconds", "Duration of one stage of a job or item", self.stage_duration.clone());
        to.register("greffier_items", "Items by verdict", self.items.clone());
        to.register("greffier_item_bytes", "Bytes of files received", self.item_bytes.clone());
        to.register("greffier_findings", "Findings by code", self.findings.clone());
        to.register("greffier_facts_cache", "Facts looked up by content", self.facts_cache.clone());
        to.register("greffier_child_deaths", "Inspection children that died, by the limit they hit", self.child_deaths.clone());
        to.register("greffier_retries", "Jobs put off for later, by reason", self.retries.clone());
        to.register("greffier_parked", "Jobs set aside for an operator, by reason", self.parked.clone());
        to.register("greffier_antivirus_scans", "Files past the antivirus, by result", self.scans.clone());
        to.register("greffier_gazelle_links", "Links by what came of them", self.links.clone());
        to.register("greffier_store_requests", "Requests to a store, by result", self.store_requests.clone());
        to.register("greffier_store_request_duration_seconds", "Duration of requests to a store", self.store_duration.clone());
        to.register("greffier_queue_requests", "Requests to the queue, by result", self.queue_requests.clone());
        to.register(
            "greffier_queue_events_expired",
            "Events that nobody took, deleted from the embedded queue (queue.events_keep_days)",
            queue::events_expired(),
        );
        to.register("greffier_child_slots", "Inspection children: running, and allowed at once", self.child_slots.clone());
        to.register("greffier_spool_bytes", "Bytes in the spool", self.spool.clone());
        to.register(
            "greffier_trace_spans_dropped",
            "Spans that no collector got: the queue was full, or the collector did not take them",
            telemetry::dropped(),
        );
        to.register("greffier_draining", "Whether this worker takes no more jobs (0 or 1)", self.draining.clone());
    }

    /// Makes every series exist.
    fn begin_at_zero(&self) {
        for place in PLACES {
            let place = [("place", place_word(place))];
            drop(self.queue_ready.get_or_create(&place));
            drop(self.queue_unsettled.get_or_create(&place));
            drop(self.queue_oldest.get_or_create(&place));
        }
        for lane in Lane::ALL {
            let lane = ("lane", lane.as_str());
            drop(self.queue_eta.get_or_create(&[lane]));
            drop(self.in_flight.get_or_create(&[lane]));
            drop(self.job_duration.get_or_create(&[lane]));
            for outcome in JobOutcome::ALL {
                drop(self.jobs.get_or_create(&[lane, ("outcome", outcome.as_str())]));
            }
        }
        for stage in Stage::ALL {
            drop(self.stage_duration.get_or_create(&[("stage", stage.as_str())]));
        }
        let single = |family: &Family<Labels1, Counter>, label: &'static str, words: &[&'static str]| {
            for word in words {
                drop(family.get_or_create(&[(label, *word)]));
            }
        };
        single(&self.items, "verdict", &VERDICTS.map(Verdict::as_str));
        single(&self.facts_cache, "result", &["hit", "miss"]);
        single(&self.retries, "reason", REASONS);
        single(&self.parked, "reason", REASONS);
        single(&self.links, "outcome", GazelleOutcome::LABELS);
        single(&self.findings, "code", &[OTHER]);
        for code in messages::all().keys() {
            drop(self.findings.get_or_create(&[("code", code.as_str())]));
        }
        for death in ChildDeath::ALL {
            drop(self.child_deaths.get_or_create(&[("limit", death.as_str())]));
        }
        for result in ScanResult::ALL {
            drop(self.scans.get_or_create(&[("result", result.as_str())]));
        }
        for state in ["busy", "total"] {
            drop(self.child_slots.get_or_create(&[("state", state)]));
        }
        for operation in StoreOperation::ALL {
            for store in StoreName::ALL {
                let (store, operation) = (("store", store.as_str()), ("operation", operation.as_str()));
                drop(self.store_duration.get_or_create(&[store, operation]));
                for result in STORE_RESULTS {
                    drop(self.store_requests.get_or_create(&[store, operation, ("result", *result)]));
                }
            }
        }
        for operation in QueueOperation::ALL {
            for result in QUEUE_RESULTS {
                drop(self.queue_requests.get_or_create(&[("operation", operation.as_str()), ("result", *result)]));
            }
        }
    }
}

fn known(words: &'static [&'static str], code: &str) -> &'static str {
    words.iter().copied().find(|word| *word == code).unwrap_or(OTHER)
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// As a float, which holds counts exactly up to 2^53.
fn real(n: u64) -> f64 {
    n as f64
}

// ------------------------------------------------------------------------------------------------------- the process

/// What the kernel says of this process, read when asked (names: Prometheus, « Writing client libraries », process metrics).
#[derive(Debug)]
struct ProcessCollector;

/// Ticks per second in `/proc`: `USER_HZ`, 100 on every architecture of Linux that this program runs on (proc(5)).
const USER_HZ: f64 = 100.0;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        let to =
            encoder.encode_descriptor("process_cpu_seconds", "CPU time of this process, children not counted.", None, cpu.metric_type())?;
        cpu.encode(to)?;
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
            }
            // Not told rather than told wrong.
            None => Ok(()),
        };
        gauge("process_resident_memory_bytes", "Resident memory of this process, children not counted.", resident_bytes())?;
        gauge("process_open_fds", "Open descriptors.", open_descriptors())?;
        gauge("process_max_fds", "Descriptors that may be open.", max_descriptors())?;
        gauge("process_start_time_seconds", "When this process began, seconds since 1970.", started_at())
    }
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(real(kibibytes.saturating_mul(1024)))
}

fn open_descriptors() -> Option<f64> {
    // Less the one that lists them.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(real(open.saturating_sub(1) as u64))
}

fn max_descriptors() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn started_at() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in parentheses and may hold anything; field 22 counts from the state, field 3.
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&Build { inspectors: "7".into(), rules: "lgc-vague-2@abc".into() })
    }

    fn line<'a>(text: &'a str, series: &str) -> &'a str {
        text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series} in\n{text}")).trim()
    }

    #[test]
    fn every_promised_series_exists_at_zero() {
        let text = metrics().encode().unwrap();
        for series in [
            "greffier_queue_ready{place=\"submission\"}",
            "greffier_queue_ready{place=\"retry-replay\"}",
            "greffier_queue_ready{place=\"parked\"}",
            "greffier_queue_unsettled{place=\"interactive\"}",
            "greffier_queue_oldest_age_seconds{place=\"events\"}",
            "greffier_queue_eta_seconds{lane=\"submission\"}",
            "greffier_queue_up",
            "greffier_jobs_in_flight{lane=\"replay\"}",
            "greffier_jobs_total{lane=\"submission\",outcome=\"published\"}",
            "greffier_jobs_total{lane=\"interactive\",outcome=\"duplicate\"}",
            "greffier_job_duration_seconds_count{lane=\"submission\"}",
            "greffier_stage_duration_seconds_count{stage=\"antivirus\"}",
            "greffier_items_total{verdict=\"undetermined\"}",
            "greffier_item_bytes_total",
            "greffier_findings_total{code=\"sandbox-memory\"}",
            "greffier_facts_cache_total{result=\"hit\"}",
            "greffier_child_deaths_total{limit=\"syscall\"}",
            "greffier_retries_total{reason=\"JOB-STORE\"}",
            "greffier_parked_total{reason=\"JOB-MALFORMED\"}",
            "greffier_antivirus_scans_total{result=\"not_scanned\"}",
            "greffier_gazelle_links_total{outcome=\"unreachable\"}",
            "greffier_store_requests_total{store=\"vault\",operation=\"create\",result=\"conflict\"}",
            "greffier_store_request_duration_seconds_count{store=\"staging\",operation=\"open\"}",
            "greffier_queue_requests_total{operation=\"announce\",result=\"unroutable\"}",
            "greffier_child_slots{state=\"total\"}",
            "greffier_spool_bytes",
            "greffier_draining",
        ] {
            assert_eq!(line(&text, series).parse::<f64>().unwrap(), 0.0, "{series}");
        }
        assert_eq!(
            line(&text, "greffier_build_info{version="),
            format!("\"{}\",inspectors=\"7\",rules=\"lgc-vague-2@abc\"}} 1", env!("CARGO_PKG_VERSION"))
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_the_kernel_says_is_told() {
        let text = metrics().encode().unwrap();
        assert!(line(&text, "process_resident_memory_bytes").parse::<f64>().unwrap() > 1e6);
        assert!(line(&text, "process_open_fds").parse::<f64>().unwrap() >= 3.0);
        assert!(line(&text, "process_max_fds").parse::<f64>().unwrap() >= 64.0);
        assert!(line(&text, "process_cpu_seconds_total").parse::<f64>().unwrap() > 0.0);
        let started = line(&text, "process_start_time_seconds").parse::<f64>().unwrap();
        let now = Timestamp::now().as_second() as f64;
        assert!(started <= now + 1.0 && started > now - 86_400.0, "{started} against {now}");
    }

    #[test]
    fn what_happens_is_counted_and_unknown_words_become_other() {
        let metrics = metrics();
        {
            let _held = metrics.job_started(Lane::Submission);
            assert!(metrics.encode().unwrap().contains("greffier_jobs_in_flight{lane=\"submission\"} 1\n"));
        }
        metrics.job_ended(Lane::Submission, JobOutcome::Published, Duration::from_secs(4));
        metrics.parked("JOB-MALFORMED");
        metrics.parked("<script>");
        metrics.retried("candidature ABCDEFGHIJ");
        metrics.item_judged(Verdict::Rejected, 1_000);
        let text = metrics.encode().unwrap();
        for (series, value) in [
            ("greffier_jobs_in_flight{lane=\"submission\"}", "0"),
            ("greffier_jobs_total{lane=\"submission\",outcome=\"published\"}", "1"),
            ("greffier_job_duration_seconds_sum{lane=\"submission\"}", "4.0"),
            ("greffier_parked_total{reason=\"JOB-MALFORMED\"}", "1"),
            ("greffier_parked_total{reason=\"other\"}", "1"),
            ("greffier_retries_total{reason=\"other\"}", "1"),
            ("greffier_items_total{verdict=\"rejected\"}", "1"),
            ("greffier_item_bytes_total", "1000"),
        ] {
            assert_eq!(line(&text, series), value, "{series}");
        }
        assert!(!text.contains("<script") && !text.contains("ABCDEFGHIJ"));
    }

    #[test]
    fn a_lane_tells_when_a_new_job_would_be_done() {
        let metrics = metrics();
        let depth = |ready, unsettled| Depth { place: Place::Lane(Lane::Submission), ready, unsettled, oldest: None, consumers: None };
        assert_eq!(metrics.eta(Lane::Submission, &depth(3, Some(1))), None, "no job has ended yet");
        assert_eq!(metrics.eta(Lane::Submission, &depth(0, Some(0))), Some(Duration::ZERO));
        metrics.job_ended(Lane::Submission, JobOutcome::Published, Duration::from_secs(10));
        metrics.job_ended(Lane::Submission, JobOutcome::Retried, Duration::from_millis(1));
        assert_eq!(metrics.eta(Lane::Submission, &depth(6, Some(2))), Some(Duration::from_secs(40)));
        metrics.queue_seen(&[depth(6, None)], Timestamp::now());
        let text = metrics.encode().unwrap();
        assert_eq!(line(&text, "greffier_queue_eta_seconds{lane=\"submission\"}"), "60.0");
        assert_eq!(line(&text, "greffier_queue_unsettled{place=\"submission\"}"), "NaN");
    }

    #[test]
    fn every_death_of_the_sandbox_is_known() {
        let told: Vec<_> = messages::all().keys().filter_map(|code| ChildDeath::of_code(code)).collect();
        assert_eq!(told.len(), ChildDeath::ALL.len() - 1, "all but `killed`, which is no finding: {told:?}");
    }
}
