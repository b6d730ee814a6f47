//! Where jobs wait, and where events are told.
//!
//! Goals:
//! 1. **A job is in exactly one place** from [`Queue::enqueue`] until it is settled: a lane, a retry delay, a worker's
//!    hands, or parked. A worker that dies gives its jobs back without doing anything.
//! 2. **Confirmed before returned**: enqueue, announce, retry and park return when the broker or the disk has it. Where
//!    nobody would ever receive it, that is an error.
//! 3. **A settlement moves, then acknowledges**: [`Delivery::retry`] and [`Delivery::park`] first put the job durably where
//!    it goes, then take it from where it was. A crash in between makes two of one job, which its derived id makes harmless.
//! 4. **Lanes do not wait for one another**, and within a lane candidatures take turns as far as the fitting can see.
//!
//! One trait, two fittings: [`embedded`] (one file on disk) and [`amqp`] (RabbitMQ); one conformance suite.

pub mod amqp;
pub mod config;
pub mod embedded;
pub mod observed;
pub mod traced;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::watch;

use crate::model::message::{Envelope, Lane, ParkReason};
use crate::model::probe::Probe;

/// Opens the queue that the configuration asks for.
///
/// The file is opened before this returns. A broker is connected to in the background, from within a tokio runtime:
/// [`Queue::health`] tells when, [`Queue::prepare`] waits for it.
///
/// # Errors
/// [`QueueError::Refused`]: the configuration contradicts itself, or the file is no queue of ours;
/// [`QueueError::Unavailable`]: the file cannot be reached now.
pub async fn open(config: &config::QueueConfig) -> Result<Arc<dyn Queue>, QueueError> {
    config.check().map_err(|what| QueueError::Refused { queue: "configuration".to_owned(), what, source: None })?;
    Ok(match config.kind {
        config::QueueKind::Embedded => Arc::new(embedded::EmbeddedQueue::open(config).await?),
        config::QueueKind::Amqp => Arc::new(amqp::AmqpQueue::open(config)?),
    })
}

static EVENTS_EXPIRED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// What counts events that nobody took and that this process deleted ([`config::QueueConfig::events_keep_days`]).
pub fn events_expired() -> Counter {
    EVENTS_EXPIRED.clone()
}

/// Jobs in, events out.
#[async_trait]
pub trait Queue: Send + Sync + std::fmt::Debug {
    /// For messages: broker host, path. No secret.
    fn name(&self) -> String;

    /// Declares what is missing, compares what exists with what the promises need, and says how it ended.
    async fn prepare(&self) -> Result<Vec<Probe>, QueueError>;

    /// How well it is connected, now and later. Readiness follows it.
    fn health(&self) -> watch::Receiver<Health>;

    /// How traces name where messages go and come from.
    fn destination(&self, traffic: Traffic<'_>) -> Destination;

    /// How often a job may be tried again before [`Delivery::retry`] is out of steps.
    fn retry_steps(&self) -> usize;

    /// Puts a job in its lane; durable when this returns.
    async fn enqueue(&self, lane: Lane, job: &Envelope) -> Result<(), QueueError>;

    /// Tells an event to everybody who listens, and to the job's `reply_to` where there is one; durable when this returns.
    /// A `reply_to` that is gone is no error: the event is told to everybody else.
    async fn announce(&self, event: &Envelope) -> Result<(), QueueError>;

    /// Begins to receive the jobs of a lane. At most `window` of them are in this consumer's hands, unsettled, at once.
    async fn consume(&self, lane: Lane, window: u16) -> Result<Box<dyn Consumer>, QueueError>;

    /// A place of one's own for replies: its name goes into [`Envelope::reply_to`] of a job. Gone when dropped.
    async fn replies(&self) -> Result<Box<dyn Replies>, QueueError>;

    /// What waits where.
    async fn status(&self) -> Result<Vec<Depth>, QueueError>;

    /// Looks at the first jobs or events of a place without taking them.
    async fn peek(&self, place: Place, most: usize) -> Result<Vec<Waiting>, QueueError>;

    /// Puts parked jobs back into their lanes, their attempts forgotten: those with this message id, or all of them; at
    /// most `most`. Returns how many.
    async fn requeue(&self, id: Option<&str>, most: usize) -> Result<usize, QueueError>;

    /// Takes a waiting job out of a lane and parks it. Returns whether it was there.
    async fn park_waiting(&self, lane: Lane, id: &str, reason: &ParkReason) -> Result<bool, QueueError>;

    /// Throws away what waits in a place; returns how many. For operators, never for workers.
    async fn purge(&self, place: Place) -> Result<u64, QueueError>;

    /// Stops consuming, gives unsettled jobs back, and closes.
    async fn close(&self);
}

/// A way that messages take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic<'a> {
    /// Jobs into a lane.
    Send(Lane),
    /// Jobs out of it.
    Receive(Lane),
    /// Events of this type.
    Announce(&'a str),
}

/// One end of it, as the semantic conventions of OpenTelemetry for messaging name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// `messaging.system`.
    pub system: &'static str,
    /// `messaging.destination.name`.
    pub name: String,
    /// `messaging.rabbitmq.destination.routing_key`.
    pub routing_key: Option<String>,
}

/// Jobs of one lane.
#[async_trait]
pub trait Consumer: Send {
    /// The next job; waits for one. `None` after [`Queue::close`] or [`Consumer::stop`]; a lost connection is waited out. May be
    /// given up while it waits: no job is lost by it, and none is kept from others.
    async fn next(&mut self) -> Option<Delivery>;

    /// Asks for no more jobs; what was handed out stays the caller's to settle, what was not is given back.
    async fn stop(&mut self);
}

/// Replies to one's own jobs.
#[async_trait]
pub trait Replies: Send {
    /// The name for [`Envelope::reply_to`].
    fn address(&self) -> String;
    /// The next event.
    async fn next(&mut self) -> Result<Envelope, QueueError>;
}

/// A job in a worker's hands.
pub struct Delivery {
    /// Where it came from.
    pub lane: Lane,
    /// The job.
    pub message: Envelope,
    /// Times it was given up for later by [`Delivery::retry`] before.
    pub attempt: u32,
    /// Times it was handed out without being settled before (worker crashes, lost connections), as far as the fitting knows.
    pub redelivered: u32,
    /// How it is settled.
    pub settle: Box<dyn Settle>,
}

/// Settles one delivery. Each consumes it: a job is settled once.
#[async_trait]
pub trait Settle: Send {
    /// Done: it will not come again.
    async fn ack(self: Box<Self>) -> Result<(), QueueError>;
    /// Again later, after the delay of step `attempt` (with jitter). Returns the delay.
    async fn retry(self: Box<Self>, reason: &ParkReason) -> Result<Duration, QueueError>;
    /// Aside, with the reason, until an operator looks.
    async fn park(self: Box<Self>, reason: &ParkReason) -> Result<(), QueueError>;
    /// Back to where it was, at once: somebody else shall do it.
    async fn release(self: Box<Self>) -> Result<(), QueueError>;
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lane, message, attempt, redelivered, settle: _ } = self;
        f.debug_struct("Delivery")
            .field("lane", lane)
            .field("id", &message.id)
            .field("attempt", attempt)
            .field("redelivered", redelivered)
            .finish_non_exhaustive()
    }
}

/// Whether jobs can come and events can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Connected; consumers are served.
    Up,
    /// Not, and why, for people. It is being worked on.
    Down(String),
}

/// Where something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A lane.
    Lane(Lane),
    /// All retry delays of a lane.
    Retry(Lane),
    /// Parked.
    Parked,
    /// Events that nobody has taken yet.
    Events,
}

/// How much waits in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Depth {
    /// Where.
    pub place: Place,
    /// Waiting.
    pub ready: u64,
    /// In workers' hands. `None`: the fitting cannot tell.
    pub unsettled: Option<u64>,
    /// When the oldest of those that wait was put there, where the fitting can tell.
    pub oldest: Option<Timestamp>,
    /// Consumers. `None`: the fitting cannot tell.
    pub consumers: Option<u64>,
}

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The message.
    pub message: Envelope,
    /// Lane it is for, where it is a job.
    pub lane: Option<Lane>,
    /// Times it was tried again.
    pub attempt: u32,
    /// Why it is parked, or waits to be tried again.
    pub reason: Option<ParkReason>,
}

/// Why a queue did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// It does not answer or did not confirm: what was asked may or may not have happened. Worth trying again.
    #[error("QUEUE-UNAVAILABLE: {queue}: {what}")]
    Unavailable {
        /// Which queue.
        queue: String,
        /// What was tried.
        what: String,
        /// What was answered.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It refuses us: credentials, permissions, a queue that exists with other arguments.
    #[error("QUEUE-REFUSED: {queue}: {what}")]
    Refused {
        /// Which queue.
        queue: String,
        /// What was refused, and what to change.
        what: String,
        /// What was answered.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Nobody would ever receive it.
    #[error("QUEUE-UNROUTABLE: {queue}: {what}")]
    Unroutable {
        /// Which queue.
        queue: String,
        /// What was to be sent where.
        what: String,
    },
    /// The delivery is no longer ours (its lease or its channel ended): somebody else has it or will have it.
    #[error("QUEUE-LOST: {queue}: the job is no longer in this worker's hands")]
    Lost {
        /// Which queue.
        queue: String,
    },
    /// All retry steps are used up.
    #[error("QUEUE-NO-MORE-RETRIES: {queue}: attempt {attempt} has no delay")]
    NoMoreRetries {
        /// Which queue.
        queue: String,
        /// The attempt asked for.
        attempt: u32,
    },
}

impl QueueError {
    /// Whether the same call may succeed later, without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// A delay of a step with jitter: between four fifths of it and all of it, so that what failed together does not come back
/// together.
fn jittered(step: Duration) -> Duration {
    let [a, b] = random();
    let share = f64::from(u16::from_be_bytes([a, b])) / f64::from(u16::MAX);
    step.mul_f64(0.8 + 0.2 * share)
}

/// A name that nobody guesses and nobody else draws.
fn random_name() -> String {
    hex::encode(random::<16>())
}

fn random<const N: usize>() -> [u8; N] {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; N];
    // Fails only where the system has no randomness at all; then a clock must do, as nothing secret hangs on it.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        let now = Timestamp::now().as_nanosecond().to_le_bytes();
        bytes.iter_mut().zip(now.iter().cycle()).for_each(|(byte, clock)| *byte = *clock);
    }
    bytes
}
