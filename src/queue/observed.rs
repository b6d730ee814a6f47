//! A queue whose requests are told to somebody: how many, how long, how they ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Consumer, Delivery, Depth, Destination, Health, Place, Queue, QueueError, Replies, Settle, Traffic, Waiting};
use crate::model::message::{Envelope, Lane, ParkReason};
use crate::model::probe::Probe;

/// What a queue is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Queue::enqueue`].
    Enqueue,
    /// [`Queue::announce`].
    Announce,
    /// [`Queue::consume`].
    Consume,
    /// A job that came. Not timed: it waits for one.
    Deliver,
    /// [`Settle::ack`].
    Ack,
    /// [`Settle::retry`].
    Retry,
    /// [`Settle::park`] and [`Queue::park_waiting`].
    Park,
    /// [`Settle::release`].
    Release,
    /// [`Queue::status`] and [`Queue::peek`].
    Status,
    /// [`Queue::requeue`] and [`Queue::purge`].
    Requeue,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Enqueue,
        Self::Announce,
        Self::Consume,
        Self::Deliver,
        Self::Ack,
        Self::Retry,
        Self::Park,
        Self::Release,
        Self::Status,
        Self::Requeue,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Announce => "announce",
            Self::Consume => "consume",
            Self::Deliver => "deliver",
            Self::Ack => "ack",
            Self::Retry => "retry",
            Self::Park => "park",
            Self::Release => "release",
            Self::Status => "status",
            Self::Requeue => "requeue",
        }
    }
}

/// Is told of every request that ended.
pub trait QueueObserver: Send + Sync + std::fmt::Debug {
    /// A request ended, with this error where it failed.
    fn called(&self, operation: Operation, error: Option<&QueueError>, took: Duration);

    /// An event was told.
    fn announced(&self, _event: &Envelope) {}
}

/// A queue, and who is told of its requests.
#[derive(Debug, Clone)]
pub struct ObservedQueue {
    inner: Arc<dyn Queue>,
    observer: Arc<dyn QueueObserver>,
}

impl ObservedQueue {
    /// Tells `observer` of every request to `inner`, of the deliveries it gives, and of how they are settled.
    pub fn new(inner: Arc<dyn Queue>, observer: Arc<dyn QueueObserver>) -> Self {
        Self { inner, observer }
    }

    fn told<T>(&self, operation: Operation, since: Instant, ended: Result<T, QueueError>) -> Result<T, QueueError> {
        self.observer.called(operation, ended.as_ref().err(), since.elapsed());
        ended
    }
}

#[async_trait]
impl Queue for ObservedQueue {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn prepare(&self) -> Result<Vec<Probe>, QueueError> {
        self.inner.prepare().await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health()
    }

    fn destination(&self, traffic: Traffic<'_>) -> Destination {
        self.inner.destination(traffic)
    }

    fn retry_steps(&self) -> usize {
        self.inner.retry_steps()
    }

    async fn enqueue(&self, lane: Lane, job: &Envelope) -> Result<(), QueueError> {
        let since = Instant::now();
        self.told(Operation::Enqueue, since, self.inner.enqueue(lane, job).await)
    }

    async fn announce(&self, event: &Envelope) -> Result<(), QueueError> {
        let since = Instant::now();
        self.told(Operation::Announce, since, self.inner.announce(event).await)?;
        self.observer.announced(event);
        Ok(())
    }

    async fn consume(&self, lane: Lane, window: u16) -> Result<Box<dyn Consumer>, QueueError> {
        let since = Instant::now();
        let inner = self.told(Operation::Consume, since, self.inner.consume(lane, window).await)?;
        Ok(Box::new(ObservedConsumer { inner, observer: Arc::clone(&self.observer) }))
    }

    async fn replies(&self) -> Result<Box<dyn Replies>, QueueError> {
        self.inner.replies().await
    }

    async fn status(&self) -> Result<Vec<Depth>, QueueError> {
        let since = Instant::now();
        self.told(Operation::Status, since, self.inner.status().await)
    }

    async fn peek(&self, place: Place, most: usize) -> Result<Vec<Waiting>, QueueError> {
        let since = Instant::now();
        self.told(Operation::Status, since, self.inner.peek(place, most).await)
    }

    async fn requeue(&self, id: Option<&str>, most: usize) -> Result<usize, QueueError> {
        let since = Instant::now();
        self.told(Operation::Requeue, since, self.inner.requeue(id, most).await)
    }

    async fn park_waiting(&self, lane: Lane, id: &str, reason: &ParkReason) -> Result<bool, QueueError> {
        let since = Instant::now();
        self.told(Operation::Park, since, self.inner.park_waiting(lane, id, reason).await)
    }

    async fn purge(&self, place: Place) -> Result<u64, QueueError> {
        let since = Instant::now();
        self.told(Operation::Requeue, since, self.inner.purge(place).await)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct ObservedConsumer {
    inner: Box<dyn Consumer>,
    observer: Arc<dyn QueueObserver>,
}

#[async_trait]
impl Consumer for ObservedConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        let mut delivery = self.inner.next().await?;
        self.observer.called(Operation::Deliver, None, Duration::ZERO);
        delivery.settle = Box::new(ObservedSettle { inner: delivery.settle, observer: Arc::clone(&self.observer) });
        Some(delivery)
    }

    async fn stop(&mut self) {
        self.inner.stop().await;
    }
}

struct ObservedSettle {
    inner: Box<dyn Settle>,
    observer: Arc<dyn QueueObserver>,
}

#[async_trait]
impl Settle for ObservedSettle {
    async fn ack(self: Box<Self>) -> Result<(), QueueError> {
        let since = Instant::now();
        let ended = self.inner.ack().await;
        self.observer.called(Operation::Ack, ended.as_ref().err(), since.elapsed());
        ended
    }

    async fn retry(self: Box<Self>, reason: &ParkReason) -> Result<Duration, QueueError> {
        let since = Instant::now();
        let ended = self.inner.retry(reason).await;
        self.observer.called(Operation::Retry, ended.as_ref().err(), since.elapsed());
        ended
    }

    async fn park(self: Box<Self>, reason: &ParkReason) -> Result<(), QueueError> {
        let since = Instant::now();
        let ended = self.inner.park(reason).await;
        self.observer.called(Operation::Park, ended.as_ref().err(), since.elapsed());
        ended
    }

    async fn release(self: Box<Self>) -> Result<(), QueueError> {
        let since = Instant::now();
        let ended = self.inner.release().await;
        self.observer.called(Operation::Release, ended.as_ref().err(), since.elapsed());
        ended
    }
}
