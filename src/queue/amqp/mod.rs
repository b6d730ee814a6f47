//! RabbitMQ as a queue, 3.10 or later.
//!
//! Goals:
//! 1. **What is declared is durable and replicated**: quorum queues, persistent messages, confirmed publishing; dead letters
//!    go at least once.
//! 2. **Where nobody would receive it, that is an error**: every publish is `mandatory`, and a returned message is
//!    [`QueueError::Unroutable`] although the broker acknowledges it.
//! 3. **A lost connection is waited out**: one supervisor reconnects to whatever broker answers; publishing waits for it a
//!    while, consuming waits for it for good, and what was in hand is [`QueueError::Lost`].
//! 4. **A message that is no job of ours is handed on as what it is**: empty fields, never a panic, never dropped.
//!
//! | file | holds |
//! |---|---|
//! | [`address`] | brokers' URLs, TLS, who we say we are |
//! | [`link`] | the connection and its supervisor |
//! | [`topology`] | what is declared, and under which names |
//! | [`wire`] | an [`Envelope`] as message properties, and back |
//! | [`publish`] | confirmed publishing |
//! | [`consume`] | consumers, deliveries, replies |
//! | [`admin`] | what operators do |
//! | [`greeting`] | which server answers |

mod address;
mod admin;
mod consume;
mod greeting;
mod link;
mod publish;
mod topology;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::config::QueueConfig;
use super::{Consumer, Depth, Destination, Health, Place, Queue, QueueError, Replies, Traffic, Waiting};
use crate::model::message::{Envelope, Lane, ParkReason};
use crate::model::probe::Probe;
use link::Link;

/// A queue in a broker.
pub struct AmqpQueue {
    link: Arc<Link>,
}

impl AmqpQueue {
    /// Begins to connect, in the background. Must be called from within a tokio runtime.
    ///
    /// # Errors
    /// [`QueueError::Refused`]: a URL that is none.
    pub fn open(config: &QueueConfig) -> Result<Self, QueueError> {
        Ok(Self { link: Link::start(config)? })
    }
}

impl std::fmt::Debug for AmqpQueue {
    /// Without credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpQueue").field("name", &self.link.name()).finish_non_exhaustive()
    }
}

impl Drop for AmqpQueue {
    /// Ends the supervisor, and with it the connection.
    fn drop(&mut self) {
        self.link.shut();
    }
}

#[async_trait]
impl Queue for AmqpQueue {
    fn name(&self) -> String {
        self.link.name()
    }

    async fn prepare(&self) -> Result<Vec<Probe>, QueueError> {
        topology::prepare(&self.link).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.link.health.subscribe()
    }

    /// « {exchange}:{routing key} » for senders, with the queue for receivers (semantic conventions for RabbitMQ).
    fn destination(&self, traffic: Traffic<'_>) -> Destination {
        let names = &self.link.names;
        let (exchange, key, queue) = match traffic {
            Traffic::Send(lane) => (names.jobs(), lane.as_str(), None),
            Traffic::Receive(lane) => (names.jobs(), lane.as_str(), Some(names.lane(lane))),
            Traffic::Announce(kind) => (names.events(), wire::routing_key(kind), None),
        };
        let name = [Some(exchange), Some(key.to_owned()), queue].into_iter().flatten().collect::<Vec<_>>().join(":");
        Destination { system: "rabbitmq", name, routing_key: Some(key.to_owned()) }
    }

    fn retry_steps(&self) -> usize {
        self.link.names.delays.len()
    }

    async fn enqueue(&self, lane: Lane, job: &Envelope) -> Result<(), QueueError> {
        let marks = wire::Marks { lane: Some(lane), ..wire::Marks::default() };
        let properties = wire::properties(job, &marks).map_err(|what| self.link.refused(what, None))?;
        self.link.publish(&self.link.names.jobs(), lane.as_str(), true, properties, &job.body).await
    }

    async fn announce(&self, event: &Envelope) -> Result<(), QueueError> {
        let properties = wire::properties(event, &wire::Marks::default()).map_err(|what| self.link.refused(what, None))?;
        self.link.publish(&self.link.names.events(), wire::routing_key(&event.kind), true, properties.clone(), &event.body).await?;
        let Some(address) = event.reply_to.as_deref().filter(|a| self.link.names.may_reply_to(a)) else { return Ok(()) };
        // Not mandatory: a queue that is gone has nobody who waits.
        self.link.publish("", address, false, properties, &event.body).await
    }

    async fn consume(&self, lane: Lane, window: u16) -> Result<Box<dyn Consumer>, QueueError> {
        Ok(Box::new(consume::LaneConsumer::start(Arc::clone(&self.link), lane, window.max(1)).await?))
    }

    async fn replies(&self) -> Result<Box<dyn Replies>, QueueError> {
        Ok(Box::new(consume::ReplyBox::open(Arc::clone(&self.link)).await?))
    }

    async fn status(&self) -> Result<Vec<Depth>, QueueError> {
        admin::status(&self.link).await
    }

    async fn peek(&self, place: Place, most: usize) -> Result<Vec<Waiting>, QueueError> {
        admin::peek(&self.link, place, most).await
    }

    async fn requeue(&self, id: Option<&str>, most: usize) -> Result<usize, QueueError> {
        admin::requeue(&self.link, id, most).await
    }

    async fn park_waiting(&self, lane: Lane, id: &str, reason: &ParkReason) -> Result<bool, QueueError> {
        admin::park_waiting(&self.link, lane, id, reason).await
    }

    async fn purge(&self, place: Place) -> Result<u64, QueueError> {
        admin::purge(&self.link, place).await
    }

    async fn close(&self) {
        self.link.close(Duration::from_secs(5)).await;
    }
}
