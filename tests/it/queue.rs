//! Queues: one conformance suite that every fitting passes, and what is particular to each.

mod amqp;
mod command;
mod conformance;
mod embedded;

use std::sync::Arc;
use std::time::Duration;

use greffier::model::message::{Envelope, SUBMISSION_REQUESTED};
use greffier::queue::config::{QueueConfig, QueueKind};
use greffier::queue::{self, Consumer, Delivery, Queue};

/// Longest that anything may take before a test says that it does not come.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How long something is given to come that must not.
pub const A_WHILE: Duration = Duration::from_millis(600);

/// Where one test's queue is.
pub struct Bench {
    pub config: QueueConfig,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A file of its own.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = QueueConfig { path: folder.path().join("queue.sqlite"), lease_seconds: 5, ..Self::steps() };
        Self { config, _folder: folder }
    }

    /// Names of its own in the broker.
    pub fn amqp() -> Self {
        let url = std::env::var("GREFFIER_TEST_AMQP").expect("no broker in GREFFIER_TEST_AMQP: run ./scripts/test");
        let prefix = format!("test-{}", &hex::encode(uuid())[..12]);
        let config = QueueConfig { kind: QueueKind::Amqp, urls: vec![url], prefix, delivery_limit: 6, ..Self::steps() };
        Self { config, _folder: tempfile::tempdir().expect("a folder") }
    }

    /// Another one of this kind, which has jobs that are tried again wait so long.
    pub fn with_delays(&self, seconds: &[u64]) -> Self {
        let mut other = match self.config.kind {
            QueueKind::Embedded => Self::embedded(),
            QueueKind::Amqp => Self::amqp(),
        };
        other.config.retry_delays_seconds = seconds.to_vec();
        other
    }

    fn steps() -> QueueConfig {
        crate::watchdog::watch();
        QueueConfig { retry_delays_seconds: vec![1, 2], ..QueueConfig::default() }
    }

    /// Another handle on the same queue, everything declared.
    pub async fn open(&self) -> Arc<dyn Queue> {
        let opened = queue::open(&self.config).await.expect("the queue opens");
        for probe in opened.prepare().await.expect("the queue is prepared") {
            assert!(probe.ok, "{}: {}", probe.name, probe.detail);
        }
        opened
    }
}

impl Drop for Bench {
    /// Takes away what was declared, also when the test failed.
    fn drop(&mut self) {
        if self.config.kind == QueueKind::Amqp {
            let config = self.config.clone();
            let _ = std::thread::spawn(move || amqp::remove_all(&config)).join();
        }
    }
}

fn uuid() -> [u8; 16] {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let draw = || RandomState::new().build_hasher().finish().to_le_bytes();
    [draw(), draw()].concat().try_into().expect("16 bytes")
}

/// A job with that id, of that candidature.
pub fn job(id: &str, candidature: Option<&str>) -> Envelope {
    let body = format!("{{\"job\":\"{id}\"}}").into_bytes();
    Envelope { candidature: candidature.map(str::to_owned), ..Envelope::new(id, SUBMISSION_REQUESTED, "/tests", body) }
}

/// The next job, or the test fails.
pub async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a job comes").expect("the consumer goes on")
}

/// Nothing comes.
pub async fn nothing(consumer: &mut Box<dyn Consumer>) {
    if let Ok(Some(delivery)) = tokio::time::timeout(A_WHILE, consumer.next()).await {
        panic!("{delivery:?} comes, and nothing should");
    }
}
