//! One job, from a message in hand to an outcome that is told: the order of commitment stands here.
//!
//! ```text
//! read ─▶ known outcome? ─▶ record (received/) ─▶ bring files to the vault ─▶ check ─▶ bundle ─▶ vault ─▶ outcome ─▶ event ─▶ ack
//! ```
//! Every arrow may be where a worker dies. What was written stays and is found again: keys follow from the inputs, writes
//! never replace, and the first outcome of a job is its outcome. An ack comes last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::config::{StagingPolicy, UndeterminedPolicy};
use super::intake::{Intake, Payloads};
use super::records::{self, OUTCOMES, PARKED, RECEIVED, RECEIVED_SCHEMA, Received, Round, job_key, round_key};
use super::{Shared, journal, read, state};
use crate::antivirus::Scan;
use crate::assess::{Judged, answer, privacy, rounds};
use crate::bundle::BundleSummary;
use crate::check::ingest::Digest;
use crate::check::judging::JudgingError;
use crate::check::links::Links;
use crate::check::places::Turn;
use crate::check::{Checked, Examiner, MAX_JOB_STEPS, Progress, Sources};
use crate::gazelle::pin;
use crate::gazelle::{CopyId, MemoryPins, Owner};
use crate::metrics::{ChildDeath, JobOutcome, ScanResult, Stage};
use crate::model::event::{
    About, BUNDLE_READY, ITEM_CHECKED, ItemChecked, OUTCOME_SCHEMA, Object, Objects, Outcome, SUBMISSION_DELAYED, SUBMISSION_PARKED,
    SUBMISSION_RECEIVED, SUBMISSION_REJECTED, SubmissionDelayed, SubmissionParked, SubmissionReceived,
};
use crate::model::gazelle::Pin;
use crate::model::message::{Envelope, Lane, ParkReason};
use crate::model::report::{ItemReport, MAX_REPORT_BYTES, Report};
use crate::model::submission::{Content, Submission};
use crate::model::text::{chain, display_safe};
use crate::model::work::Work;
use crate::model::{Lang, Severity, Text, Verdict};
use crate::pipeline::{Loaded, ids};
use crate::queue::{Delivery, QueueError, traced};
use crate::seal::journal::Fields;
use crate::seal::{Receipt, Seal};
use crate::store::{self, Created, Key, StoreError};
use crate::telemetry::{self, KeyValue, Span, SpanKind};
use crate::{bundle, seal};

/// A worker died or was cut off with this job in its hands, time after time.
pub const WORKER_LOST: &str = "JOB-WORKER-LOST";
/// It took longer than a job may.
pub const TIMEOUT: &str = "JOB-TIMEOUT";
/// A store failed.
pub const STORE: &str = "JOB-STORE";
/// The queue failed.
pub const QUEUE: &str = "JOB-QUEUE";
/// Something of the outside world failed, and left items undetermined.
pub const UNDETERMINED: &str = "JOB-UNDETERMINED";
/// A file ended its inspection twice from outside.
pub const FILE_SET_ASIDE: &str = "JOB-FILE-SET-ASIDE";
/// The bundle could not be made.
pub const BUNDLE: &str = "JOB-BUNDLE";
/// Judging it needs more steps than a job may take.
pub const TOO_COMPLEX: &str = "JOB-TOO-COMPLEX";
/// Its report would be larger than what can be read again.
pub const REPORT_TOO_LARGE: &str = "REPORT-TOO-LARGE";
/// This machine failed: no space, no memory, no child; or we did.
pub const MACHINE: &str = "JOB-MACHINE";

/// How many times more a job is handed out than begun, at most: it may have waited in a window each time.
const WAITED: u32 = 4;

/// How long a job that could be neither published nor parked stays in hand before it is put back.
const PUT_BACK: Duration = Duration::from_secs(10);

/// How long telling and settling a job that has ended may take: a store or broker that does not answer must not hold it longer,
/// since its time is up.
const SETTLE: Duration = Duration::from_secs(30);

/// How a job left this worker's hands.
#[derive(Debug)]
enum End {
    Published,
    Duplicate,
    Retry(ParkReason),
    Park(Parking),
    Returned,
}

#[derive(Debug)]
struct Parking {
    about: Option<About>,
    reason: ParkReason,
    undetermined: Vec<String>,
}

/// A bundle, before it is published.
struct Written {
    path: PathBuf,
    report: Report,
    summary: BundleSummary,
    digest: Digest,
    /// `index.html` and `report.json` as they are published beside the bundle.
    page: (PathBuf, Digest),
    json: (PathBuf, Digest),
    /// What the vendor is told.
    message: Text,
}

/// Why a job did not come to an end here.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] journal::JobJournalError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("the bundle cannot be made")]
    Bundle(#[from] bundle::BundleError),
    #[error("the seal cannot be made")]
    Seal(#[from] seal::SealError),
    #[error("the spool cannot be written")]
    Spool(#[from] std::io::Error),
    #[error(transparent)]
    Judging(#[from] JudgingError),
    #[error("a record cannot be serialised")]
    Json(#[from] serde_json::Error),
}

impl Trouble {
    fn reason(&self) -> ParkReason {
        let code = match self {
            Self::Store(_) | Self::Journal(_) => STORE,
            Self::Queue(_) => QUEUE,
            Self::Bundle(bundle::BundleError::TooLarge { .. }) => REPORT_TOO_LARGE,
            Self::Judging(e) if e.is_settled() => TOO_COMPLEX,
            Self::Bundle(_) | Self::Seal(_) | Self::Json(_) => BUNDLE,
            Self::Spool(_) | Self::Judging(_) => MACHINE,
        };
        ParkReason::new(code, display_safe(&chain(self), 500))
    }

    /// Whether the same job always ends like this.
    fn is_settled(&self) -> bool {
        match self {
            Self::Bundle(e) => matches!(e, bundle::BundleError::TooLarge { .. }),
            Self::Judging(e) => e.is_settled(),
            _ => false,
        }
    }
}

/// Works on one delivery and settles it. `stop` gives it back.
pub(super) async fn handle(shared: Arc<Shared>, delivery: Delivery, stop: CancellationToken) {
    let span = traced::process(shared.queue.as_ref(), &delivery);
    // Boxed: 28 kB of state would otherwise be copied into each task that awaits this.
    Box::pin(span.run(work_off(shared, delivery, stop, &span))).await;
}

async fn work_off(shared: Arc<Shared>, delivery: Delivery, stop: CancellationToken, span: &Span) {
    let started = Instant::now();
    let Delivery { lane, message, attempt, redelivered, settle } = delivery;
    let in_flight = shared.metrics.job_started(lane);
    let entry = shared.state.enter(lane, &message.id);
    let job = Job { shared: &shared, message: &message, lane, attempt, redelivered, entry: &entry, head: tokio::sync::Mutex::default() };
    let budget = Duration::from_secs(shared.config.job_seconds);
    let mut end = tokio::select! {
        biased;
        () = stop.cancelled() => End::Returned,
        ended = tokio::time::timeout(budget, job.run()) => ended.unwrap_or_else(|_| {
            End::Retry(ParkReason::new(TIMEOUT, format!("not done after {} s, at stage {}", shared.config.job_seconds, job.stage())))
        }),
    };
    if let End::Retry(reason) = &end
        && job.is_last_attempt()
    {
        end = End::Park(Parking { about: job.about(), reason: reason.clone(), undetermined: Vec::new() });
    }
    let outcome = match &end {
        End::Published => JobOutcome::Published,
        End::Duplicate => JobOutcome::Duplicate,
        End::Retry(_) => JobOutcome::Retried,
        End::Park(_) => JobOutcome::Parked,
        End::Returned => JobOutcome::Returned,
    };
    span.set(KeyValue::new("greffier.outcome", outcome.as_str()));
    if let Some(about) = job.about() {
        span.set(KeyValue::new("greffier.job", about.job));
    }
    if let End::Retry(reason) | End::Park(Parking { reason, .. }) = &end {
        span.fail(reason.code.clone());
    }
    let settled = async {
        match end {
            End::Published | End::Duplicate => settle.ack().await,
            End::Returned => {
                if let Some(about) = job.about().filter(|_| job.stage() != state::BEGIN)
                    && let Err(e) = job.note(&about, "returned", []).await
                {
                    tracing::warn!(error = chain(&e), "that a job was given back could not be noted");
                }
                settle.release().await
            }
            End::Retry(reason) => {
                shared.metrics.retried(&reason.code);
                if let Err(e) = job.delay(&reason).await {
                    tracing::warn!(error = chain(&e), "a job that is put off could not be told");
                }
                tracing::warn!(message_id = message.id, attempt, reason.code, reason.detail, "a job is put off");
                settle.retry(&reason).await.map(|_| ())
            }
            End::Park(parking) => {
                shared.metrics.parked(&parking.reason.code);
                tracing::error!(
                    message_id = message.id,
                    attempt,
                    redelivered,
                    parking.reason.code,
                    parking.reason.detail,
                    "a job is parked"
                );
                match job.park(&parking).await {
                    Ok(()) => settle.park(&parking.reason).await,
                    // Not parked without anybody being told: it comes again, and is parked then.
                    Err(e) => {
                        tracing::error!(error = chain(&e), "a parked job could not be told; it is put back");
                        // It comes again at once, and what failed most likely still does: not in a circle without a pause.
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = tokio::time::sleep(PUT_BACK) => {}
                        }
                        settle.release().await
                    }
                }
            }
        }
    };
    let settled = match tokio::time::timeout(SETTLE + PUT_BACK, settled).await {
        Ok(settled) => settled,
        Err(_) => {
            tracing::error!(
                message_id = message.id,
                seconds = (SETTLE + PUT_BACK).as_secs(),
                outcome = outcome.as_str(),
                "how a job ended could not be told in time; it will come again"
            );
            Ok(())
        }
    };
    if let Err(e) = settled {
        // Whoever has it now finds what was written here.
        tracing::warn!(
            error = chain(&e),
            message_id = message.id,
            outcome = outcome.as_str(),
            "a job could not be settled; it will come again"
        );
    }
    shared.metrics.job_ended(lane, outcome, started.elapsed());
    tracing::info!(
        message_id = message.id,
        job = job.about().map_or_else(String::new, |a| a.job),
        lane = lane.as_str(),
        attempt,
        outcome = outcome.as_str(),
        took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "job ended"
    );
    drop(in_flight);
}

struct Job<'a> {
    shared: &'a Shared,
    message: &'a Envelope,
    lane: Lane,
    attempt: u32,
    redelivered: u32,
    entry: &'a state::Entry,
    /// Where its journal ends, as far as we know: spares reading it again for every line.
    head: tokio::sync::Mutex<Option<crate::seal::journal::Head>>,
}

impl Job<'_> {
    fn is_last_attempt(&self) -> bool {
        self.attempt as usize >= self.shared.queue.retry_steps()
    }

    fn about(&self) -> Option<About> {
        self.entry.about()
    }

    fn stage(&self) -> &'static str {
        self.entry.current_stage()
    }

    async fn run(&self) -> End {
        // Before anything is done with it: whatever it does to workers, it shall not do it once more. The queue counts the
        // jobs that merely waited in the hands of a worker that died, so its count alone must be high to be believed.
        if self.redelivered > self.shared.config.max_redeliveries.saturating_mul(WAITED) {
            return self.lost(None, self.redelivered);
        }
        let (submission, loaded) = match read::job(self.message, &self.shared.pipelines) {
            Ok(read) => read,
            Err(reason) => return End::Park(Parking { about: None, reason, undetermined: Vec::new() }),
        };
        let about = records::about(&records::job_id(&loaded, &submission, self.lane), &submission, self.lane);
        self.entry.read(about.clone(), submission.items.len());
        match self.work(&about, &Arc::new(submission), &loaded).await {
            Ok(end) => end,
            Err(trouble) if trouble.is_settled() => {
                End::Park(Parking { about: Some(about.clone()), reason: trouble.reason(), undetermined: Vec::new() })
            }
            Err(trouble) => End::Retry(trouble.reason()),
        }
    }

    fn lost(&self, about: Option<About>, times: u32) -> End {
        let reason = ParkReason::new(WORKER_LOST, format!("{times} times in the hands of a worker that did not settle it"));
        End::Park(Parking { about, reason, undetermined: Vec::new() })
    }

    async fn work(&self, about: &About, submission: &Arc<Submission>, loaded: &Arc<Loaded>) -> Result<End, Trouble> {
        let vault = &self.shared.vault;
        if let Some(outcome) = records::outcome(vault.as_ref(), &about.job).await? {
            // Whoever wrote it may have died right after: what follows an outcome is made up for.
            if let Some(key) = round_key(submission, self.lane, about.revision) {
                records::first(vault.as_ref(), &key, round_of(&outcome)).await?;
            }
            self.unpark(about).await;
            self.tell_outcome(&outcome).await?;
            return Ok(End::Duplicate);
        }
        let mut lost = 0;
        if self.redelivered > 0 {
            let (entries, head) = journal::read(vault.as_ref(), &about.job).await?;
            *self.head.lock().await = Some(head);
            lost = journal::unfinished(&entries);
            if lost > self.shared.config.max_redeliveries {
                return Ok(self.lost(Some(about.clone()), lost));
            }
        }
        // Its last chance is alone, so that it is parked for what it did and not for the company it kept. Waited for before
        // it begins: a worker that ends meanwhile does not count against it.
        let (_alone, _beside);
        if lost > 0 && lost == self.shared.config.max_redeliveries {
            tracing::warn!(job = about.job, lost, "a job that was in the hands of workers that ended runs alone");
            _alone = self.shared.company.write().await;
        } else {
            _beside = self.shared.company.read().await;
        }
        let received = self.receive(about, submission).await?;
        self.note(about, "begun", [("attempt", self.attempt.into())]).await?;

        let limits = self.shared.intake_limits();
        let intake = Intake::new(Arc::clone(&self.shared.staging), Arc::clone(vault), limits, self.shared.spool.path(), submission)?;
        let intake = Arc::new(intake);
        self.entry.stage("inspect");
        let checking = Span::begin(SpanKind::Internal, "check", [telemetry::count("greffier.items", submission.items.len() as u64)]);
        let Checked { report, pins, took } = checking.run(self.check(about, submission, loaded, &intake)).await?;
        drop(checking);
        let watched =
            [(Stage::Ingest, intake.took()), (Stage::Inspect, took.files), (Stage::Gazelle, took.links), (Stage::Assess, took.assess)];
        watched.into_iter().for_each(|(stage, took)| self.shared.metrics.stage_ended(stage, took));
        let report = self.attach_round(submission, loaded, report).await?;
        self.keep_pins(submission, loaded, &pins).await?;

        if let Some(end) = self.undetermined(about, &report) {
            return Ok(end);
        }
        let written = Span::part("bundle").run(self.bundle(about, submission, &intake, report, &pins)).await?;
        let ready = Span::part("publish").run(self.publish(about, written, &received)).await?;
        let (outcome, created) = records::first(vault.as_ref(), &job_key(OUTCOMES, &about.job), ready).await?;
        if created == Created::New {
            self.note(about, "published", [("report", outcome.report.as_str().into()), ("verdict", outcome.verdict.as_str().into())])
                .await?;
        }
        if let Some(key) = round_key(submission, self.lane, about.revision) {
            records::replace(vault.as_ref(), &key, &round_of(&outcome)).await?;
        }
        self.unpark(about).await;
        self.tell_outcome(&outcome).await?;
        if self.shared.config.staging == StagingPolicy::Remove {
            for key in intake.brought() {
                // The vault has it: what stays behind costs room and nothing else.
                if let Err(e) = self.shared.staging.remove(&key).await {
                    tracing::warn!(error = chain(&e), "a staged object could not be removed");
                }
            }
        }
        Ok(End::Published)
    }

    /// It has an outcome: that it was parked is over. Vaults from which nobody may remove anything are good vaults: the outcome
    /// is told whether or not the record goes.
    async fn unpark(&self, about: &About) {
        if let Err(e) = self.shared.vault.remove(&job_key(PARKED, &about.job)).await {
            tracing::warn!(error = chain(&e), job = about.job, "that a job was parked could not be removed");
        }
    }

    /// Writes down that the job exists, before anything else, and tells it.
    async fn receive(&self, about: &About, submission: &Submission) -> Result<Received, Trouble> {
        let record = Received {
            schema: RECEIVED_SCHEMA.to_owned(),
            about: about.clone(),
            lane: self.lane,
            message_id: self.message.id.clone(),
            correlation_id: self.message.correlation_id.clone(),
            reply_to: self.message.reply_to.clone(),
            received_at: Timestamp::now(),
            submission: submission.clone(),
        };
        let (received, created) = records::first(self.shared.vault.as_ref(), &job_key(RECEIVED, &about.job), record).await?;
        if created == Created::New {
            self.note(about, "received", [("items", (submission.items.len() as u64).into())]).await?;
        }
        let event = SubmissionReceived { about: about.clone(), items: submission.items.len() as u64, received_at: received.received_at };
        self.tell(SUBMISSION_RECEIVED, &about.job, "", &event).await?;
        Ok(received)
    }

    /// Looks at items in this job's turn.
    fn examiner(&self, about: &About, submission: &Submission) -> Examiner {
        let number = &submission.candidature.number;
        let party = if number.is_empty() { about.job.as_str() } else { number.as_str() };
        let urgency = match self.lane {
            Lane::Interactive => 0,
            Lane::Submission => 1,
            Lane::Replay => 2,
        };
        self.shared.examiner.clone().with_places(self.shared.places.clone(), Turn { urgency, party: party.into() })
    }

    async fn check(
        &self,
        about: &About,
        submission: &Arc<Submission>,
        loaded: &Arc<Loaded>,
        intake: &Arc<Intake>,
    ) -> Result<Checked, Trouble> {
        let examiner = self.examiner(about, submission);
        let examiner = match self.shared.links.get(&loaded.pipeline.id) {
            None => examiner,
            Some(links) => {
                let links = match self.owner_of_copies(submission) {
                    None => links.clone(),
                    Some(owner) => {
                        let copies = copies_of(links, submission, &owner);
                        let pins = self.pins(copies.values()).await?;
                        links.with_pins(Arc::new(pins), owner)
                    }
                };
                examiner.with_links(links)
            }
        };
        let (sender, mut told) = mpsc::unbounded_channel();
        let progress = Telling { about, entry: self.entry, metrics: &self.shared.metrics, sender };
        let sources: Arc<dyn Sources> = Arc::clone(intake) as _;
        let checking = async {
            let checked = examiner.check(loaded, submission, sources, &progress).await;
            // Ends the telling.
            drop(progress);
            checked
        };
        let telling = async {
            while let Some(item) = told.recv().await {
                // Another attempt may end its items in another order, so that `done` differs: another event, with another id.
                let which = format!("{} {}", item.done, item.item);
                if let Err(e) = self.tell(ITEM_CHECKED, &about.job, &which, &item).await {
                    tracing::warn!(error = chain(&e), "the progress of an item could not be told");
                }
            }
        };
        let (checked, ()) = tokio::join!(checking, telling);
        Ok(checked?)
    }

    /// Copies of the reports behind links, as earlier jobs kept them. A copy that cannot be read is as good as none.
    async fn pins(&self, copies: impl IntoIterator<Item = &CopyId>) -> Result<MemoryPins, Trouble> {
        let mut pins = MemoryPins::default();
        for copy in copies {
            if pins.0.contains_key(copy) {
                continue;
            }
            match records::read::<Pin>(self.shared.vault.as_ref(), &pin_key(copy)).await {
                Ok(Some(pin)) => {
                    pins.0.insert(copy.clone(), pin);
                }
                Ok(None) => {}
                Err(e) if e.is_transient() => return Err(e.into()),
                Err(e) => tracing::warn!(error = chain(&e), "a kept copy of a Gazelle report cannot be used"),
            }
        }
        Ok(pins)
    }

    async fn keep_pins(&self, submission: &Submission, loaded: &Loaded, pins: &BTreeMap<String, Pin>) -> Result<(), Trouble> {
        let Some(links) = self.shared.links.get(&loaded.pipeline.id) else { return Ok(()) };
        let Some(owner) = self.owner_of_copies(submission) else { return Ok(()) };
        let copies = copies_of(links, submission, &owner);
        for (item, pin) in pins {
            if let Some(copy) = copies.get(item.as_str()) {
                records::replace(self.shared.vault.as_ref(), &pin_key(copy), pin).await?;
            }
        }
        Ok(())
    }

    /// For whom copies of this job are kept and looked up. `None` where there is no number of a candidature: whose report it
    /// is cannot be told, and none is kept.
    fn owner_of_copies(&self, submission: &Submission) -> Option<Owner> {
        let number = submission.candidature.number.trim();
        let series = match self.lane {
            Lane::Interactive => "pre-checks",
            Lane::Submission | Lane::Replay => "deposits",
        };
        (!number.is_empty()).then(|| Owner::new(series, &submission.demarche, number))
    }

    /// Adds what changed since the revision before, where there was one.
    async fn attach_round(&self, submission: &Arc<Submission>, loaded: &Arc<Loaded>, report: Report) -> Result<Report, Trouble> {
        let vault = self.shared.vault.as_ref();
        let Some(before) = submission.revision.checked_sub(1).filter(|r| *r > 0) else { return Ok(report) };
        let Some(key) = round_key(submission, self.lane, before) else { return Ok(report) };
        let Some(round) = records::read::<Round>(vault, &key).await? else { return Ok(report) };
        let Ok(key) = round.report.parse::<Key>() else { return Ok(report) };
        let bytes = match records::read_bytes(vault, &key, MAX_REPORT_BYTES).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(report),
            // Larger than any report that is written now.
            Err(e @ StoreError::Corrupt { .. }) => {
                tracing::warn!(error = chain(&e), key = %key, "the report of the revision before cannot be read; the round is told without it");
                return Ok(report);
            }
            Err(e) => return Err(e.into()),
        };
        let (submission, loaded) = (Arc::clone(submission), Arc::clone(loaded));
        let comparing = move |_: &Work| {
            let mut report = report;
            let previous: Report = match serde_json::from_slice(&bytes) {
                Ok(previous) => previous,
                Err(e) => {
                    // Written by another version.
                    tracing::warn!(error = %e, key = %key, "the report of the revision before cannot be read; the round is told without it");
                    return report;
                }
            };
            drop(bytes);
            let requests = privacy::masked_requests(&submission.requests, &loaded.pipeline.guards.privacy);
            if let Err(e) = rounds::attach(&mut report, &previous, &requests, &ids::canonical, &loaded.pipeline.severities) {
                tracing::warn!(error = %e, "the revision before cannot be compared");
            }
            report
        };
        Ok(self.shared.examiner.judging().run(&Work::new(MAX_JOB_STEPS), comparing).await?)
    }

    /// Whether the job is not to be published as it is: tried again, or parked.
    ///
    /// What is certainly wrong is told at once, even where something else could not be determined; unless it was we who
    /// failed, since then the next attempt may say more.
    fn undetermined(&self, about: &About, report: &Report) -> Option<End> {
        let fatal: Vec<_> = report
            .items
            .iter()
            .flat_map(|item| item.findings.iter().map(move |f| (item, f)))
            .filter(|(_, f)| f.severity == Severity::Fatal)
            .collect();
        let ours = fatal.iter().any(|(_, f)| !f.code.as_str().starts_with("gazelle-") && f.code.as_str() != "sandbox-repeated");
        let undetermined = report.verdict == Verdict::Undetermined;
        if !(undetermined || ours) {
            return None;
        }
        let set_aside = fatal.iter().all(|(_, f)| f.code.as_str() == "sandbox-repeated");
        let (code, last) = if set_aside { (FILE_SET_ASIDE, true) } else { (UNDETERMINED, self.is_last_attempt()) };
        let mut codes: BTreeMap<&str, u32> = BTreeMap::new();
        fatal.iter().for_each(|(_, f)| *codes.entry(f.code.as_str()).or_default() += 1);
        let told: Vec<_> = codes.iter().map(|(code, n)| format!("{code} × {n}")).collect();
        let reason = ParkReason::new(code, told.join(", "));
        if !last {
            return Some(End::Retry(reason));
        }
        if !undetermined || self.shared.config.undetermined == UndeterminedPolicy::Publish {
            return None;
        }
        let mut items: Vec<String> = fatal.iter().map(|(item, _)| item.id.clone()).collect();
        items.dedup();
        items.truncate(100);
        Some(End::Park(Parking { about: Some(about.clone()), reason, undetermined: items }))
    }

    /// Makes the bundle, in the job's folder.
    async fn bundle(
        &self,
        about: &About,
        submission: &Submission,
        intake: &Arc<Intake>,
        report: Report,
        pins: &BTreeMap<String, Pin>,
    ) -> Result<Written, Trouble> {
        let started = Instant::now();
        self.entry.stage("bundle");
        let sources: Arc<dyn Sources> = Arc::clone(intake) as _;
        let examiner = self.examiner(about, submission);
        let mut options = bundle::Options { previews: examiner.previews(&report, submission, sources).await, ..bundle::Options::default() };
        for pin in pins.values() {
            let folder = pin::directory(&pin.link.id);
            let files = pin.to_files().into_iter().map(|(name, bytes)| (format!("gazelle/{folder}/{name}"), bytes));
            options.attachments.extend(files);
        }
        let payloads = Payloads::new(intake, submission);
        let folder = intake.folder().to_owned();
        let writing = move |work: &Work| write_all(&folder, report, &payloads, &options, work);
        let written = self.shared.writing.run(&Work::new(MAX_JOB_STEPS), writing).await??;
        self.shared.metrics.stage_ended(Stage::Bundle, started.elapsed());
        for item in &written.report.items {
            self.shared.metrics.item_judged(item.verdict, item.size.unwrap_or(0));
            item.findings.iter().for_each(|f| self.shared.metrics.found(&f.code));
        }
        written.report.findings.iter().for_each(|f| self.shared.metrics.found(&f.code));
        Ok(written)
    }

    /// Writes everything that is published to the vault.
    async fn publish(&self, about: &About, written: Written, received: &Received) -> Result<Outcome, Trouble> {
        let Written { path, report, summary, digest, page, json, message } = written;
        let started = Instant::now();
        self.entry.stage("publish");
        let folder = format!("bundles/{}/{}", about.job, &summary.tagmanifest_sha256[..16]);
        let put = Put { shared: self.shared, folder: &folder };
        let bundle = put.file(&format!("{}.zip", summary.root), &path, &digest.sha256, digest.size, "application/zip").await?;
        let page = put.file("index.html", &page.0, &page.1.sha256, page.1.size, "text/html; charset=utf-8").await?;
        let report_object = put.file("report.json", &json.0, &json.1.sha256, json.1.size, crate::model::message::JSON).await?;
        self.note(about, "checked", [("bundle", bundle.sha256.as_str().into()), ("report", report.id.as_str().into())]).await?;
        let (mut sealed, mut receipt) = (None, None);
        if let Some(key) = &self.shared.key {
            let seal = Seal::of(&report, &summary.tagmanifest_sha256)?.sign(key)?;
            sealed = Some(put.bytes(&format!("{}.zip.jws", summary.root), seal.as_bytes(), "application/jose").await?);
            let head = self.note(about, "receipt", []).await?;
            let signed = Receipt::of(&report, received.received_at, Timestamp::now()).witnessing(&head).sign(key)?;
            // Two attempts make two receipts, which differ in their moment: each has a key of its own.
            let name = format!("{}.{}.receipt.jws", summary.root, head.entries);
            receipt = Some(put.bytes(&name, signed.as_bytes(), "application/jose").await?);
        }
        self.shared.metrics.stage_ended(Stage::Publish, started.elapsed());
        Ok(Outcome {
            schema: OUTCOME_SCHEMA.to_owned(),
            about: about.clone(),
            report: report.id.clone(),
            verdict: report.verdict,
            verdicts: report.totals.verdicts.clone(),
            missing: report.totals.preuves_expected.saturating_sub(report.totals.preuves_provided),
            severities: report.totals.severities.clone(),
            message,
            objects: Objects { bundle, manifest_sha256: summary.tagmanifest_sha256, report: report_object, page, seal: sealed, receipt },
            received_at: received.received_at,
            ended_at: Timestamp::now(),
        })
    }

    /// Tells that the job is put off: progress, like the items.
    async fn delay(&self, reason: &ParkReason) -> Result<(), Trouble> {
        let Some(about) = self.about() else { return Ok(()) };
        self.note(&about, "delayed", [("code", reason.code.as_str().into())]).await?;
        let event = SubmissionDelayed { job: about.job.clone(), reason: reason.clone(), explanation: explanation(&reason.code) };
        self.tell(SUBMISSION_DELAYED, &about.job, &self.attempt.to_string(), &event).await
    }

    /// Records and tells that the job is parked. The settlement follows.
    async fn park(&self, parking: &Parking) -> Result<(), Trouble> {
        let about = parking.about.clone().or_else(|| self.about());
        // Messages that could not be read are told apart by what they are: the same garbage again is the same record.
        let subject = match &about {
            Some(about) => about.job.clone(),
            None => format!("message-{}", hex::encode(Sha256::digest(&self.message.body))),
        };
        let record = SubmissionParked {
            about: about.clone(),
            message_id: display_safe(&self.message.id, 200),
            reason: parking.reason.clone(),
            explanation: explanation(&parking.reason.code),
            undetermined: parking.undetermined.clone(),
            parked_at: Timestamp::now(),
        };
        records::replace(self.shared.vault.as_ref(), &job_key(PARKED, &subject), &record).await?;
        if let Some(about) = &about {
            match self.note(about, "parked", [("code", parking.reason.code.as_str().into())]).await {
                // A journal that is broken stays so: it must not keep the job from being parked, where somebody looks.
                Err(Trouble::Journal(e)) if !e.is_transient() => {
                    tracing::error!(error = chain(&e), job = about.job, "that a job is parked could not be noted in its journal");
                }
                noted => drop(noted?),
            }
        }
        self.tell(SUBMISSION_PARKED, &subject, &format!("{}", record.parked_at), &record).await
    }

    async fn tell_outcome(&self, outcome: &Outcome) -> Result<(), Trouble> {
        let kind = if outcome.verdict == Verdict::Rejected { SUBMISSION_REJECTED } else { BUNDLE_READY };
        self.tell(kind, &outcome.about.job, "", outcome).await
    }

    /// Tells an event about a job; `which` tells apart those of one kind.
    async fn tell(&self, kind: &str, job: &str, which: &str, body: &impl Serialize) -> Result<(), Trouble> {
        let mut hasher = Sha256::new();
        for part in [kind, job, which] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let id = hex::encode(&hasher.finalize()[..16]);
        let event = Envelope {
            subject: Some(job.to_owned()),
            time: Some(Timestamp::now()),
            correlation_id: self.message.correlation_id.clone().or_else(|| Some(self.message.id.clone())),
            reply_to: self.message.reply_to.clone(),
            // Where nothing is traced; else that of the event's own span.
            traceparent: self.message.traceparent.clone(),
            candidature: self.about().map(|a| a.candidature),
            ..Envelope::new(id, kind, SOURCE, serde_json::to_vec(body)?)
        };
        Ok(traced::announce(self.shared.queue.as_ref(), event).await?)
    }

    /// A line in the job's journal.
    async fn note<const N: usize>(
        &self,
        about: &About,
        event: &str,
        fields: [(&str, crate::seal::journal::Field); N],
    ) -> Result<crate::seal::journal::Head, Trouble> {
        let fields: Fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut head = self.head.lock().await;
        let next = journal::append(self.shared.vault.as_ref(), &about.job, head.take(), Timestamp::now(), event, fields).await?;
        *head = Some(next.clone());
        Ok(next)
    }
}

/// Bundle, page and report, in the folder of the job.
fn write_all(folder: &Path, mut report: Report, payloads: &Payloads, options: &bundle::Options, work: &Work) -> Result<Written, Trouble> {
    let create = |name: &str| -> std::io::Result<(PathBuf, std::fs::File)> {
        let path = folder.join(name);
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok((path, file))
    };
    let (path, mut file) = create("bundle.zip")?;
    let summary = bundle::write(&mut report, payloads, options, &mut file, work)?;
    file.sync_all()?;
    let digest = digest(file, work)?;
    let (page_path, mut file) = create("index.html")?;
    bundle::html::write(&report, &bundle::html::PageOptions { previews: &options.previews, link_base: None }, &mut file, work)?;
    let page = (page_path, self::digest(file, work)?);
    let (json_path, mut file) = create("report.json")?;
    bundle::write_report(&report, &mut file, work)?;
    let json = (json_path, self::digest(file, work)?);
    let message = Text::new(answer::vendor_message(&report, Lang::Fr), answer::vendor_message(&report, Lang::En));
    Ok(Written { path, report, summary, digest, page, json, message })
}

/// The digest of a whole file, unless `work` is stopped: a bundle may have many gigabytes.
fn digest(file: std::fs::File, work: &Work) -> Result<Digest, Trouble> {
    let (_, digest) = crate::check::ingest::digest_unless(file, &|| work.ended().is_some())?;
    Ok(digest)
}

/// CloudEvents `source` of everything that workers tell.
pub const SOURCE: &str = "greffier";

fn round_of(outcome: &Outcome) -> Round {
    Round { job: outcome.about.job.clone(), report: outcome.objects.report.key.clone(), revision: outcome.about.revision }
}

fn pin_key(copy: &CopyId) -> Key {
    // A hexadecimal digest of ours.
    Key::ours(format!("gazelle/{}.json", copy.as_str()))
}

/// The copies that `owner` may have of the reports behind the links of `submission`, by item id.
fn copies_of<'a>(links: &Links, submission: &'a Submission, owner: &Owner) -> BTreeMap<&'a str, CopyId> {
    let of = |item: &'a crate::model::submission::Item| match &item.content {
        Content::Link(link) => Some((item.id.as_str(), links.copy_id(&link.url, owner)?)),
        Content::File(_) => None,
    };
    submission.items.iter().filter_map(of).collect()
}

/// Writes what was made below one folder of the vault.
struct Put<'a> {
    shared: &'a Shared,
    folder: &'a str,
}

impl Put<'_> {
    async fn bytes(&self, name: &str, bytes: &[u8], media_type: &str) -> Result<Object, StoreError> {
        let key = Key::ours(format!("{}/{name}", self.folder));
        self.shared.vault.create(&key, store::Content::Bytes(bytes), media_type).await?;
        Ok(Object { key: key.as_str().to_owned(), size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) })
    }

    async fn file(&self, name: &str, path: &Path, sha256: &str, size: u64, media_type: &str) -> Result<Object, StoreError> {
        let key = Key::ours(format!("{}/{name}", self.folder));
        self.shared.vault.create(&key, store::Content::File { path, size, sha256 }, media_type).await?;
        Ok(Object { key: key.as_str().to_owned(), size, sha256: sha256.to_owned() })
    }
}

/// Tells items as they end.
struct Telling<'a> {
    about: &'a About,
    entry: &'a state::Entry,
    metrics: &'a crate::metrics::Metrics,
    sender: mpsc::UnboundedSender<ItemChecked>,
}

impl Progress for Telling<'_> {
    fn wants_judgement(&self) -> bool {
        true
    }

    fn item_done(&self, judged: &Judged, told: Option<ItemReport>, done: usize, total: usize) {
        self.entry.done(done);
        if let Some(gazelle) = &judged.item.gazelle {
            self.metrics.link_followed(&gazelle.outcome);
        }
        if let Some(facts) = &judged.item.facts {
            self.metrics.facts_looked_up(judged.was_known);
            if !judged.was_known {
                facts.signals.iter().filter_map(|s| ChildDeath::of_code(s.code.as_str())).for_each(|death| self.metrics.child_died(death));
            }
        }
        if judged.scan.is_some() {
            self.metrics.stage_ended(Stage::Antivirus, judged.scan_took);
        }
        match &judged.scan {
            None => {}
            Some(Scan::Clean) => self.metrics.scanned(ScanResult::Clean),
            Some(Scan::Infected { .. }) => self.metrics.scanned(ScanResult::Infected),
            Some(Scan::NotScanned { why }) if why.is_transient() => self.metrics.scanned(ScanResult::NotScanned),
            Some(Scan::NotScanned { .. }) => self.metrics.scanned(ScanResult::BeyondLimits),
        }
        let Some(judged) = told else { return };
        let told = ItemChecked {
            job: self.about.job.clone(),
            item: judged.id,
            filed_under: judged.filed_under,
            name: judged.name,
            verdict: judged.verdict,
            findings: judged.findings,
            done: done as u64,
            total: total as u64,
        };
        // Nobody listens any more only where the job itself has been given up.
        let _ = self.sender.send(told);
    }
}

/// What a person reads of a reason to park.
pub fn explanation(code: &str) -> Text {
    match crate::model::errors::get(code) {
        Some(page) => page.summary.clone(),
        None => Text::new("Dépôt mis de côté.", "Submission set aside."),
    }
}
