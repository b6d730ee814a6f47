//! Configuration of the queue.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where jobs wait. Configuration `[queue]`.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Which fitting.
    pub kind: QueueKind,
    /// Embedded: the file that holds everything.
    pub path: PathBuf,
    /// Embedded: how long a job stays in the hands of a worker that says nothing, seconds.
    pub lease_seconds: u64,
    /// Embedded: how long events that nobody took are kept, days; older ones are deleted within an hour, counted
    /// (`greffier_queue_events_expired_total`) and logged. 0 = for ever. With a broker, a policy does that (deploy/rabbitmq).
    pub events_keep_days: u32,
    /// AMQP: brokers of one cluster, tried in turn (`amqps://user:password@host:5671/vhost`). Secrets: better in the
    /// environment, `GREFFIER_QUEUE__URLS='["amqps://…"]'`.
    pub urls: Vec<String>,
    /// AMQP: name of everything that is declared begins with it.
    pub prefix: String,
    /// AMQP: PEM file of certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// AMQP: PEM files of our own certificate and key, for SASL EXTERNAL.
    pub client_certificate_file: Option<PathBuf>,
    /// AMQP: see `client_certificate_file`.
    pub client_key_file: Option<PathBuf>,
    /// AMQP: how long a connection may take, milliseconds.
    pub connect_timeout_ms: u64,
    /// AMQP: how long a confirmation may take, milliseconds.
    pub publish_timeout_ms: u64,
    /// AMQP: the broker's `consumer_timeout`, minutes. Workers stay below it; RabbitMQ's default is 30.
    pub consumer_timeout_minutes: u64,
    /// AMQP: replicas of a quorum queue (`x-quorum-initial-group-size`); 0 = the broker's default.
    pub replicas: u32,
    /// AMQP: number of times that the broker hands a job out again after a worker did not settle it, before it parks it
    /// itself. The worker parks earlier (`worker.max_redeliveries`); this is the net below.
    pub delivery_limit: u32,
    /// Delays of the steps of retrying, seconds, growing.
    pub retry_delays_seconds: Vec<u64>,
}

/// Which fitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueueKind {
    /// One file on disk.
    Embedded,
    /// RabbitMQ 3.10 or later.
    Amqp,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            kind: QueueKind::Embedded,
            path: "greffier-data/queue.sqlite".into(),
            lease_seconds: 60,
            events_keep_days: 0,
            urls: Vec::new(),
            prefix: "greffier".into(),
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
            connect_timeout_ms: 3_000,
            publish_timeout_ms: 5_000,
            consumer_timeout_minutes: 30,
            replicas: 0,
            delivery_limit: 20,
            retry_delays_seconds: vec![5, 30, 120, 600],
        }
    }
}

impl std::fmt::Debug for QueueConfig {
    /// Without credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueConfig")
            .field("kind", &self.kind)
            .field("path", &self.path)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl QueueConfig {
    /// What contradicts itself.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn check(&self) -> Result<(), String> {
        if self.kind == QueueKind::Amqp && self.urls.is_empty() {
            return Err("queue.urls names no broker".into());
        }
        if self.kind == QueueKind::Amqp && self.events_keep_days > 0 {
            return Err(
                "queue.events_keep_days is of the embedded queue: a broker keeps events as its policy says (deploy/rabbitmq)".into()
            );
        }
        if self.retry_delays_seconds.is_empty() || !self.retry_delays_seconds.is_sorted() || self.retry_delays_seconds.contains(&0) {
            return Err("queue.retry_delays_seconds must grow, from at least 1".into());
        }
        if self.lease_seconds < 5 {
            return Err("queue.lease_seconds must be at least 5: a busy worker renews its leases in a third of it".into());
        }
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.prefix.is_empty() || !self.prefix.chars().all(safe) {
            return Err("queue.prefix has letters, digits, `-`, `_` and `.` only".into());
        }
        if self.client_certificate_file.is_some() != self.client_key_file.is_some() {
            return Err("queue.client_certificate_file and queue.client_key_file go together".into());
        }
        Ok(())
    }
}
