//! Fleets to break: a queue, two stores, and workers that are real processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greffier::config::Config;
use greffier::model::event::{BUNDLE_READY, Outcome, SUBMISSION_PARKED, SUBMISSION_REJECTED};
use greffier::model::message::{Envelope, Lane, SUBMISSION_REQUESTED};
use greffier::model::submission::{Candidature, Content, FileRef, FiledUnder, Item, SCHEMA, Stage, Submission};
use greffier::queue::config::QueueKind;
use greffier::queue::{self, Place, Queue, Replies};
use greffier::store::config::{StoreConfig, StoreKind};
use greffier::store::{self, Key, Store};
use sha2::{Digest as _, Sha256};

use crate::support;

/// Longest that anything may take before a test says that it does not come. It costs nothing where all is well, and a machine
/// with more to do than it has cores for may need it.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// What a fleet is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedded queue and directories.
    Embedded,
    /// RabbitMQ and S3.
    Real,
}

impl Kind {
    /// The kinds that can be had: the real servers where `scripts/test` has started them, and named one of them at least.
    /// That it named both is held by `the_servers_that_fleets_need_are_named`.
    pub fn at_hand() -> Vec<Self> {
        let named = ["GREFFIER_TEST_AMQP", "GREFFIER_TEST_S3"].iter().any(|variable| std::env::var_os(variable).is_some());
        if named { vec![Self::Embedded, Self::Real] } else { vec![Self::Embedded] }
    }
}

/// Tests of both kinds of fleet are tests of one kind where no server is named. This fails then, under `scripts/test`.
#[test]
#[ignore = "needs RabbitMQ and S3; run by scripts/test"]
fn the_servers_that_fleets_need_are_named() {
    assert_eq!(Kind::at_hand(), [Kind::Embedded, Kind::Real]);
    assert!(service("GREFFIER_TEST_AMQP").starts_with("amqp") && service("GREFFIER_TEST_S3").starts_with("http"));
}

/// For workers that are killed or stand still: their jobs come again when their lease ends, and no lease is shorter. Others keep
/// the long one: a machine that is busy for five seconds must not make a job of theirs come twice.
pub fn short_leases(config: &mut Config) {
    config.queue.lease_seconds = 5;
}

/// A server that `scripts/test` starts.
pub fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run ./scripts/test, which starts what tests need"))
}

pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub queue: Arc<dyn Queue>,
    pub staging: Arc<dyn Store>,
    pub vault: Arc<dyn Store>,
    kind: Kind,
}

impl Fleet {
    /// A fleet of its own; `change` alters its configuration.
    pub async fn new(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        crate::watchdog::watch();
        greffier::tls::install_tls_provider();
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.gazelle.offline = true;
        // Several workers on one machine.
        config.http.listen = String::new();
        config.log.filter = "info".into();
        config.log.format = greffier::config::LogFormat::Json;
        config.queue.retry_delays_seconds = vec![1, 2];
        config.worker.spool = dir.path().join("spool");
        config.preview.pdf_renderer = greffier::check::previews::RendererChoice::None;
        config.preview.video_renderer = greffier::check::previews::RendererChoice::None;
        let unique = hex::encode(&Sha256::digest(dir.path().to_string_lossy().as_bytes())[..6]);
        match kind {
            Kind::Embedded => {
                config.queue.path = dir.path().join("queue.sqlite");
                config.staging = StoreConfig::directory(dir.path().join("staging"));
                config.vault = StoreConfig::directory(dir.path().join("vault"));
                std::fs::create_dir(&config.staging.path).unwrap();
                std::fs::create_dir(&config.vault.path).unwrap();
            }
            Kind::Real => {
                config.queue.kind = QueueKind::Amqp;
                config.queue.urls = vec![service("GREFFIER_TEST_AMQP")];
                config.queue.prefix = format!("test-{unique}");
                let endpoint = service("GREFFIER_TEST_S3");
                for (section, name) in [(&mut config.staging, "staging"), (&mut config.vault, "vault")] {
                    let bucket = format!("{name}-{unique}");
                    let made = reqwest::Client::new().put(format!("{endpoint}/{bucket}")).send().await.unwrap();
                    assert!(made.status().is_success(), "{}", made.status());
                    *section = StoreConfig {
                        kind: StoreKind::S3,
                        bucket,
                        endpoint: Some(endpoint.clone()),
                        path_style: true,
                        ..StoreConfig::default()
                    };
                }
            }
        }
        change(&mut config);
        std::fs::write(dir.path().join("greffier.toml"), toml::to_string(&config).unwrap()).unwrap();
        let queue = queue::open(&config.queue).await.unwrap();
        queue.prepare().await.unwrap();
        let staging = store::open(&config.staging).await.unwrap();
        let vault = store::open(&config.vault).await.unwrap();
        Self { dir, config, queue, staging, vault, kind }
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("greffier.toml")
    }

    /// The binary with this fleet's configuration.
    pub fn command(&self) -> Command {
        let mut command = support::command();
        command.env("GREFFIER_CONFIG", self.config_path());
        command
    }

    /// A worker process; killed when dropped.
    pub fn worker(&self) -> Worker {
        self.started("worker")
    }

    /// `worker` or `serve`, in a process group of its own.
    pub fn started(&self, role: &str) -> Worker {
        use std::os::unix::process::CommandExt as _;
        let log = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        let mut command = self.command();
        command.arg(role).process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.reopen().unwrap());
        let child = command.spawn().unwrap();
        crate::watchdog::started(child.id(), log.path().to_owned());
        Worker { child, log }
    }

    /// The same with another configuration from now on, for what is started next.
    pub fn reconfigure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.clone();
        change(&mut config);
        std::fs::write(self.config_path(), toml::to_string(&config).unwrap()).unwrap();
    }

    /// Puts bytes into staging; returns the key.
    pub async fn stage(&self, bytes: &[u8]) -> String {
        let key = format!("uploads/{}", hex::encode(Sha256::digest(bytes)));
        self.staging.create(&Key::ours(key.clone()), store::Content::Bytes(bytes), "application/octet-stream").await.unwrap();
        key
    }

    /// A small submission of one chapter, like no other `n`.
    pub async fn submission(&self, n: usize) -> Submission {
        let mut items = Vec::new();
        for (preuve, name) in [("APCV.01", "note.txt"), ("ORDN/CONF.01", "trace.csv")] {
            let bytes = format!("candidature;{n}\npreuve;{preuve}\nrésultat;conforme à ce qui est demandé, étape {n}\n");
            let object = self.stage(bytes.as_bytes()).await;
            items.push(Item {
                id: format!("{preuve}/{name}"),
                filed_under: FiledUnder::Preuve(preuve.into()),
                content: Content::File(FileRef {
                    object,
                    name: name.into(),
                    size: Some(bytes.len() as u64),
                    media_type: None,
                    sha256: Some(hex::encode(Sha256::digest(bytes.as_bytes()))),
                }),
            });
        }
        Submission {
            schema: SCHEMA.into(),
            demarche: "lgc-vague-2".into(),
            candidature: Candidature { number: number(n), profiles: vec!["general".into()], ..Candidature::default() },
            stage: Stage::Chapter { chapter: "services-socles".into() },
            revision: 1,
            submitted_at: Some("2026-01-15T09:00:00+01:00".into()),
            requests: Vec::new(),
            items,
        }
    }

    /// A submission with a text besides that takes a while to be looked at and to be copied: `size` bytes.
    pub async fn heavy(&self, n: usize, size: usize) -> Submission {
        let mut submission = self.submission(n).await;
        let mut random = fastrand::Rng::with_seed(n as u64);
        let mut text = String::with_capacity(size + 64);
        while text.len() < size {
            text.extend(std::iter::repeat_with(|| random.alphanumeric()).take(60));
            text.push('\n');
        }
        let object = self.stage(text.as_bytes()).await;
        let file = FileRef { object, name: "journal.txt".into(), size: Some(text.len() as u64), media_type: None, sha256: None };
        let filed_under = FiledUnder::Preuve("APCV.01".into());
        submission.items.push(Item { id: "APCV.01/journal.txt".into(), filed_under, content: Content::File(file) });
        submission
    }

    pub async fn send(&self, lane: Lane, message: &Envelope) {
        self.queue.enqueue(lane, message).await.unwrap();
    }

    /// Sends a submission and a place for its answers.
    pub async fn submit(&self, lane: Lane, submission: &Submission) -> Following {
        let replies = self.queue.replies().await.unwrap();
        let mut message = envelope(submission);
        message.reply_to = Some(replies.address());
        self.send(lane, &message).await;
        Following::of(replies)
    }

    /// `greffier audit --json`.
    pub fn audit(&self) -> serde_json::Value {
        let output = self.command().args(["audit", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Every record below a prefix of the vault, by name.
    pub async fn records(&self, prefix: &str) -> BTreeMap<String, serde_json::Value> {
        let mut all = BTreeMap::new();
        let mut after = None;
        loop {
            let listed = self.vault.list(prefix, after.as_ref(), 500).await.unwrap();
            let Some(last) = listed.last() else { return all };
            after = Some(last.key.clone());
            for stat in &listed {
                let record: serde_json::Value =
                    greffier::worker::records::read(self.vault.as_ref(), &stat.key).await.unwrap().expect("a record that is listed");
                all.insert(stat.key.as_str().to_owned(), record);
            }
        }
    }

    /// How many objects there are below a prefix of the vault.
    pub async fn count(&self, prefix: &str) -> usize {
        let (mut all, mut after) = (0, None);
        loop {
            let listed = self.vault.list(prefix, after.as_ref(), 1_000).await.unwrap();
            let Some(last) = listed.last() else { return all };
            all += listed.len();
            after = Some(last.key.clone());
        }
    }

    /// Waits until `done` holds; panics when it takes too long, with the logs of `worker`.
    pub async fn until(&self, what: &str, worker: Option<&Worker>, mut done: impl AsyncFnMut(&Self) -> bool) {
        let since = Instant::now();
        while !done(self).await {
            let log = worker.map_or_else(String::new, Worker::log);
            assert!(since.elapsed() < PATIENCE, "not in time: {what}\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.kind == Kind::Real {
            self.queue_cleanup();
        }
    }
}

impl Fleet {
    /// Queues of one test are many, and a broker keeps a process for each.
    fn queue_cleanup(&self) {
        let (url, prefix) = (self.config.queue.urls[0].clone(), self.config.queue.prefix.clone());
        let delays = self.config.queue.retry_delays_seconds.clone();
        // A runtime of its own: this one may be shutting down.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Ok(connection) = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await else { return };
                let Ok(channel) = connection.create_channel().await else { return };
                let mut queues = vec![format!("{prefix}.parked"), format!("{prefix}.events")];
                for lane in Lane::ALL {
                    queues.push(format!("{prefix}.jobs.{lane}"));
                    queues.extend(delays.iter().map(|seconds| format!("{prefix}.retry.{lane}.{seconds}s")));
                }
                for queue in queues {
                    let _ = channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await;
                }
            });
        })
        .join();
    }
}

/// Ten capital letters for a number.
pub fn number(n: usize) -> String {
    let mut letters = [b'A'; 10];
    let mut rest = n;
    for letter in letters.iter_mut().rev() {
        *letter = b'A' + u8::try_from(rest % 26).unwrap();
        rest /= 26;
    }
    String::from_utf8(letters.to_vec()).unwrap()
}

/// The message of a submission.
pub fn envelope(submission: &Submission) -> Envelope {
    let body = serde_json::to_vec(submission).unwrap();
    let id = hex::encode(&Sha256::digest(&body)[..16]);
    Envelope {
        correlation_id: Some(id.clone()),
        candidature: Some(submission.candidature.number.clone()),
        ..Envelope::new(id, SUBMISSION_REQUESTED, "test", body)
    }
}

/// The answers to one submission.
pub struct Following {
    replies: Box<dyn Replies>,
    /// Everything told so far.
    pub told: Vec<Envelope>,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    Outcome(Box<Outcome>),
    Parked(serde_json::Value),
}

impl Following {
    /// What is told there.
    pub fn of(replies: Box<dyn Replies>) -> Self {
        Self { replies, told: Vec::new() }
    }

    /// The last event; panics when it takes too long.
    pub async fn end(&mut self, worker: Option<&Worker>) -> Ended {
        let wait = async {
            loop {
                let event = self.replies.next().await.unwrap();
                self.told.push(event.clone());
                match event.kind.as_str() {
                    BUNDLE_READY | SUBMISSION_REJECTED => {
                        return Ended::Outcome(Box::new(serde_json::from_slice(&event.body).unwrap()));
                    }
                    SUBMISSION_PARKED => return Ended::Parked(serde_json::from_slice(&event.body).unwrap()),
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(ended) => ended,
            Err(_) => {
                let kinds: Vec<_> = self.told.iter().map(|e| e.kind.clone()).collect();
                panic!("no end in time; told: {kinds:?}\n{}", worker.map_or_else(String::new, Worker::log))
            }
        }
    }

    /// The outcome; panics where it was parked.
    pub async fn outcome(&mut self, worker: &Worker) -> Outcome {
        match self.end(Some(worker)).await {
            Ended::Outcome(outcome) => *outcome,
            Ended::Parked(why) => panic!("parked: {why}\n{}", worker.log()),
        }
    }

    pub fn kinds(&self) -> Vec<&str> {
        self.told.iter().map(|e| e.kind.as_str()).collect()
    }
}

/// A worker process.
pub struct Worker {
    pub child: Child,
    log: tempfile::NamedTempFile,
}

impl Worker {
    /// What it said so far, in whole lines: the last one may still be being written.
    pub fn log(&self) -> String {
        let said = std::fs::read(self.log.path()).unwrap_or_default();
        let whole = said.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        String::from_utf8_lossy(&said[..whole]).into_owned()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGKILL to the process and everything it started, and gone.
    pub fn kill_group(&mut self) {
        rustix::process::kill_process_group(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until a line of the log holds `words`.
    pub async fn says(&self, words: &str) {
        let since = Instant::now();
        while !self.log().contains(words) {
            assert!(since.elapsed() < PATIENCE, "never said `{words}`:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Exit code; panics when it takes too long.
    pub async fn exit(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(since.elapsed() < PATIENCE, "still running:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        crate::watchdog::ended(self.child.id());
    }
}

/// Acts on a server that `scripts/services` started: `kill`, `start`, `freeze`, `thaw`.
pub fn services(action: &str, name: &str, state: &Path) {
    let status = Command::new(support::root().join("scripts/services")).args([action, name, "--state"]).arg(state).status().unwrap();
    assert!(status.success(), "scripts/services {action} {name}");
}

/// The file that `scripts/services` keeps of its servers.
pub fn state() -> PathBuf {
    service("GREFFIER_TEST_SERVICES").into()
}

/// Runs the test `name` again in a process of its own with servers of its own, which it may break. True in that process;
/// false where it has been done.
pub fn own_services(name: &str, options: &[&str]) -> bool {
    if std::env::var_os("GREFFIER_TEST_FAULTS").is_some() {
        return true;
    }
    let status = Command::new(support::root().join("scripts/services"))
        .arg("run")
        .args(options)
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--include-ignored", "--nocapture"])
        .env("GREFFIER_TEST_FAULTS", "1")
        .status()
        .unwrap();
    assert!(status.success());
    false
}

/// A number from the environment: the short run of the tests, unless `scripts/soak` asks for more.
pub fn setting(variable: &str, short: usize) -> usize {
    std::env::var(variable).ok().map_or(short, |text| text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

/// What the vault says of every job: (report, digest of the bundle), by candidature.
pub async fn outcomes(fleet: &Fleet) -> Made {
    let records = fleet.records("outcomes/").await;
    let one = |outcome: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&outcome["candidature"]), (text(&outcome["report"]), text(&outcome["objects"]["bundle"]["sha256"])))
    };
    records.values().map(one).collect()
}

/// Final events that the queue holds: how many different bundles were told for each job, and how often altogether.
pub async fn told(fleet: &Fleet) -> (BTreeMap<String, BTreeSet<String>>, usize) {
    let mut by_job: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut all = 0;
    for waiting in fleet.queue.peek(Place::Events, 1_000_000).await.unwrap() {
        let Envelope { kind, body, .. } = waiting.message;
        if kind == BUNDLE_READY || kind == SUBMISSION_REJECTED {
            let outcome: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let job = outcome["candidature"].as_str().unwrap().to_owned();
            by_job.entry(job).or_default().insert(outcome["objects"]["bundle"]["sha256"].as_str().unwrap().to_owned());
            all += 1;
        }
    }
    (by_job, all)
}

/// Waits until every job has an outcome, as long as there is progress.
pub async fn all_done(fleet: &Fleet, jobs: usize, workers: &[Worker]) {
    let mut before = 0;
    let mut since = Instant::now();
    loop {
        let done = fleet.count("outcomes/").await;
        if done == jobs {
            return;
        }
        if done > before {
            (before, since) = (done, Instant::now());
        }
        let logs =
            || workers.iter().map(|w| w.log().lines().rev().take(30).collect::<Vec<_>>().join("\n")).collect::<Vec<_>>().join("\n--\n");
        assert!(since.elapsed() < PATIENCE, "stuck at {done} of {jobs}: {}\n{}", fleet.audit(), logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Lets workers end what they have begun: an outcome that stands in the vault may not have been told yet.
pub async fn stop(workers: impl IntoIterator<Item = Worker>) {
    for worker in workers {
        end(worker).await;
    }
}

/// Lets one worker end what it has begun, its traces included; gives its log.
pub async fn end(mut worker: Worker) -> String {
    // One that has just been started does not listen to signals yet.
    worker.says("working").await;
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.exit().await, Some(0), "{}", worker.log());
    worker.log()
}

/// Works off what the queue still holds once the workers are gone: one that was killed between writing an outcome and telling it
/// leaves a job that comes again, perhaps only when its lease ends.
async fn work_off(fleet: &Fleet) {
    // Queues do not always tell what is in workers' hands: the count is exact only where there are no workers. A broker takes a
    // moment to see that one is dead, and gives its jobs back as it strikes its consumers off.
    if fleet.kind == Kind::Real {
        let gone = async |fleet: &Fleet| fleet.queue.status().await.is_ok_and(|all| all.iter().all(|depth| depth.consumers == Some(0)));
        fleet.until("the broker knows of no worker", None, gone).await;
    }
    for _ in 0..3 {
        if fleet.audit()["queued"] == 0 {
            return;
        }
        let worker = fleet.worker();
        worker.says("working").await;
        fleet.until("the queue is empty", Some(&worker), async |fleet| fleet.audit()["queued"] == 0).await;
        end(worker).await;
    }
}

/// The ledger: everything received has exactly one outcome, told at least once, and the same as where nothing was killed. No
/// worker may be left when it is drawn.
pub async fn settle(fleet: &Fleet, reference: &Made, what: &str) {
    work_off(fleet).await;
    let jobs = reference.len();
    let differing: Vec<_> = outcomes(fleet).await.into_iter().filter(|(job, made)| reference.get(job) != Some(made)).collect();
    let (told, all) = told(fleet).await;
    let twice: Vec<_> = told.iter().filter(|(_, bundles)| bundles.len() > 1).collect();
    let audit = fleet.audit();
    println!(
        "{what}: received {}, published {}, rejected {}, parked {}, missing {}, bundles differing {}, told {all} times for {} jobs, told with another digest {}",
        audit["received"],
        audit["published"],
        audit["rejected"],
        audit["parked"],
        audit["missing"].as_array().map_or(0, Vec::len),
        differing.len(),
        told.len(),
        twice.len()
    );
    assert!(differing.is_empty() && twice.is_empty(), "{differing:?} {twice:?}");
    assert_eq!(told.len(), jobs, "jobs whose end was never told");
    assert_eq!((&audit["received"], &audit["parked"], &audit["in_flight"]), (&jobs.into(), &0.into(), &0.into()), "{audit}");
    assert_eq!(audit["queued"], 0, "{audit}");
    assert_eq!(audit["missing"].as_array().map(Vec::len), Some(0), "{audit}");
    assert_eq!(audit["broken"].as_array().map(Vec::len), Some(0), "{audit}");
}

/// What a ledger is compared with: (report, digest of the bundle), by candidature.
pub type Made = BTreeMap<String, (String, String)>;

/// What the jobs make where nothing is killed: the embedded fitting, one worker.
pub async fn reference(jobs: usize) -> Made {
    reference_of(async |fleet| {
        let mut all = Vec::new();
        for n in 0..jobs {
            all.push(fleet.submission(n).await);
        }
        all
    })
    .await
}

/// The same for other submissions, staged in the fleet that `make` is given.
pub async fn reference_of(make: impl AsyncFn(&Fleet) -> Vec<Submission>) -> Made {
    let fleet = Fleet::new(Kind::Embedded, |_| ()).await;
    let workers = [fleet.worker()];
    let submissions = make(&fleet).await;
    for submission in &submissions {
        fleet.send(Lane::Submission, &envelope(submission)).await;
    }
    all_done(&fleet, submissions.len(), &workers).await;
    outcomes(&fleet).await
}

pub async fn enqueue(fleet: &Fleet, jobs: usize) {
    for n in 0..jobs {
        fleet.send(Lane::Submission, &envelope(&fleet.submission(n).await)).await;
    }
}
