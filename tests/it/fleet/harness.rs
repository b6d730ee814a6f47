//! Fleets to break: a queue, two stores, and workers that are real processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greffier::config::Config;
use greffier::model::event::{BUNDLE_READY, Outcome, SUBMISSION_PARKED, SUBMISSION_REJECTED};
use greffier::model::message::{Envelope, Lane, SUBMISSION_REQUESTED};
use greffier::model::submission::{Candidature, Content, FileRef, FiledUnder, Item, SCHEMA, Stage, Submission};
use greffier::queue::config::QueueKind;
use greffier::queue::{self, Queue, Replies};
use greffier::store::config::{StoreConfig, StoreKind};
use greffier::store::{self, Key, Store};
use sha2::{Digest as _, Sha256};

use crate::support;

/// What a fleet is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedded queue and directories.
    Embedded,
    /// RabbitMQ and S3.
    Real,
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
                config.queue.lease_seconds = 5;
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
        let log = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        let child = self.command().arg("worker").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.reopen().unwrap()).spawn().unwrap();
        Worker { child, log }
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

    pub async fn send(&self, lane: Lane, message: &Envelope) {
        self.queue.enqueue(lane, message).await.unwrap();
    }

    /// Sends a submission and a place for its answers.
    pub async fn submit(&self, lane: Lane, submission: &Submission) -> Following {
        let replies = self.queue.replies().await.unwrap();
        let mut message = envelope(submission);
        message.reply_to = Some(replies.address());
        self.send(lane, &message).await;
        Following { replies, told: Vec::new() }
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

    /// Waits until `done` holds; panics after a minute, with the logs of `worker`.
    pub async fn until(&self, what: &str, worker: Option<&Worker>, mut done: impl AsyncFnMut(&Self) -> bool) {
        let since = Instant::now();
        while !done(self).await {
            let log = worker.map_or_else(String::new, Worker::log);
            assert!(since.elapsed() < Duration::from_secs(60), "not within a minute: {what}\n{log}");
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
    /// The last event; panics after a minute.
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
        match tokio::time::timeout(Duration::from_secs(60), wait).await {
            Ok(ended) => ended,
            Err(_) => {
                let kinds: Vec<_> = self.told.iter().map(|e| e.kind.clone()).collect();
                panic!("no end within a minute; told: {kinds:?}\n{}", worker.map_or_else(String::new, Worker::log))
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
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
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
            assert!(since.elapsed() < Duration::from_secs(60), "never said `{words}`:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Exit code, within a minute.
    pub async fn exit(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(since.elapsed() < Duration::from_secs(60), "still running:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Acts on a server that `scripts/services` started: `kill`, `start`, `freeze`, `thaw`.
pub fn services(action: &str, name: &str, state: &Path) {
    let status = Command::new(support::root().join("scripts/services")).args([action, name, "--state"]).arg(state).status().unwrap();
    assert!(status.success(), "scripts/services {action} {name}");
}
