//! What is declared, and under which names.
//!
//! ```text
//!   <p>.jobs ──lane──▶ <p>.jobs.<lane> ──delivery limit──▶ <p>.parked ──▶ <p>.parked
//!      ▲                                                       ▲
//!      └──lane── TTL ends ── <p>.retry.<lane>.<seconds>s ◀── <p>.retry (worker, confirmed)
//!   <p>.events ──#──▶ <p>.events
//! ```
//!
//! RabbitMQ 3.10 has no delayed messages: a job that is to be tried again waits in a queue of its delay whose messages
//! expire back into the lane. Expired messages leave at the head of the queue only, so a message with a shorter expiration
//! waits behind a longer one: as jitter only shortens the delay of one step, by a fifth at most, nothing comes later than
//! its step says. Queues are named by their delay, not by the number of the step: changed delays make new queues, and
//! what waits in the old ones still comes back.
//!
//! Dead letters go at least once (`x-dead-letter-strategy`, 3.10 with the feature flag `stream_queue`), which asks for
//! `reject-publish`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use super::greeting;
use super::link::{Link, reply_code};
use crate::model::message::Lane;
use crate::model::probe::Probe;
use crate::queue::config::QueueConfig;
use crate::queue::{QueueError, random_name};

/// The oldest server whose quorum queues expire messages and dead-letter at least once.
const OLDEST: (u32, u32) = (3, 10);
/// Where messages are looked at but never worked on: RabbitMQ 4 drops at 20 deliveries what has no limit of its own, and
/// every look is a delivery.
const LOOKED_AT_OFTEN: i64 = 1_000_000;
/// Declaring a dozen replicated queues takes a while on a busy cluster.
const DECLARE_LIMIT: Duration = Duration::from_secs(60);

/// Names of what is declared.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
    /// Delays of the steps.
    pub delays: Vec<Duration>,
}

impl Names {
    /// From the configuration.
    pub fn new(config: &QueueConfig) -> Self {
        Self { prefix: config.prefix.clone(), delays: config.retry_delays_seconds.iter().map(|s| Duration::from_secs(*s)).collect() }
    }
    /// Exchange of jobs.
    pub fn jobs(&self) -> String {
        format!("{}.jobs", self.prefix)
    }
    /// Queue of a lane.
    pub fn lane(&self, lane: Lane) -> String {
        format!("{}.jobs.{lane}", self.prefix)
    }
    /// Exchange of what waits to be tried again.
    pub fn retry(&self) -> String {
        format!("{}.retry", self.prefix)
    }
    /// Its routing key for a delay; its queue has the same ending.
    pub fn retry_key(lane: Lane, delay: Duration) -> String {
        format!("{lane}.{}s", delay.as_secs())
    }
    /// Queue of one delay of a lane.
    pub fn retry_queue(&self, lane: Lane, delay: Duration) -> String {
        format!("{}.retry.{}", self.prefix, Self::retry_key(lane, delay))
    }
    /// The delays, each once.
    pub fn distinct_delays(&self) -> Vec<Duration> {
        let mut delays = self.delays.clone();
        delays.dedup();
        delays
    }
    /// Exchange and queue of what is parked.
    pub fn parked(&self) -> String {
        format!("{}.parked", self.prefix)
    }
    /// Exchange and queue of events.
    pub fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }
    /// A new name for a box of replies.
    pub fn new_reply(&self) -> String {
        format!("{}.reply.{}", self.prefix, random_name())
    }
    /// Whether a sender may have events sent there: not into our own queues, whose messages are jobs.
    pub fn may_reply_to(&self, address: &str) -> bool {
        let ours = address.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.'));
        !address.is_empty() && address.len() <= 255 && ours.is_none_or(|rest| rest.starts_with("reply."))
    }
    /// The lane whose queue it is.
    pub fn lane_of(&self, queue: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| self.lane(*lane) == queue)
    }
}

/// Declares everything, and compares.
///
/// # Errors
/// [`QueueError::Refused`]: something exists with other arguments, or we may not declare.
pub async fn prepare(link: &Link) -> Result<Vec<Probe>, QueueError> {
    let live = link.live().await?;
    declare(link, &live.connection).await?;
    link.prepared.store(true, Ordering::Relaxed);
    let mut probes = Vec::new();
    probes.push(match greeting::ask(&live.address, Duration::from_millis(link.config.connect_timeout_ms)).await {
        Ok(server) => {
            let seen = format!("{} {}", server.product, server.version);
            match server.major_minor() {
                Some(version) if version >= OLDEST => Probe::passed("broker version", seen),
                Some(_) => Probe::failed("broker version", format!("{seen}; it must be {}.{} at least", OLDEST.0, OLDEST.1)),
                None => Probe::failed("broker version", format!("{seen} is no version of RabbitMQ that is known here")),
            }
        }
        Err(e) => Probe::failed("broker version", format!("the server does not introduce itself: {e}")),
    });
    probes.push(Probe::passed("broker queues", format!("quorum queues declared, all beginning with `{}.`", link.config.prefix)));
    // Confirmed, mandatory, and nobody there: what must come back is an error.
    let nowhere = link.publish("", &link.names.new_reply(), true, lapin::BasicProperties::default(), b"").await;
    probes.push(match nowhere {
        Err(QueueError::Unroutable { .. }) => Probe::passed("broker confirms", "publishing is confirmed; what nobody receives is returned"),
        Ok(()) => Probe::failed("broker confirms", "a message for a queue that does not exist was not returned"),
        Err(e) => Probe::failed("broker confirms", e.to_string()),
    });
    let (frame, heartbeat) = (live.connection.configuration().frame_max(), live.connection.configuration().heartbeat());
    let seen = format!("frames of {frame} bytes, heartbeat {heartbeat} s");
    let enough = frame == 0 || frame as usize >= super::wire::MAX_HEADERS + 4096;
    probes.push(match (enough, heartbeat) {
        (true, 1..) => Probe::passed("broker limits", seen),
        (true, _) => Probe::failed("broker limits", format!("{seen}; without heartbeat a dead broker goes unnoticed")),
        (false, _) => Probe::failed("broker limits", format!("{seen}; set frame_max to 131072 at least")),
    });
    probes.push(Probe::passed(
        "broker consumer timeout",
        format!(
            "cannot be asked over AMQP: it is taken to be {} min (queue.consumer_timeout_minutes); RabbitMQ's default is 30",
            link.config.consumer_timeout_minutes
        ),
    ));
    Ok(probes)
}

/// Declares everything on one connection.
///
/// # Errors
/// As [`prepare`].
pub async fn declare(link: &Link, connection: &Connection) -> Result<(), QueueError> {
    let channel = connection.create_channel().await.map_err(|e| link.failed("open a channel", e))?;
    let all = declare_all(link, &channel);
    tokio::time::timeout(DECLARE_LIMIT, all).await.map_err(|_| link.unavailable("declaring took too long", None))?
}

async fn declare_all(link: &Link, channel: &Channel) -> Result<(), QueueError> {
    let names = &link.names;
    let declare = Declare { link, channel };
    declare.exchange(&names.jobs(), ExchangeKind::Direct).await?;
    declare.exchange(&names.retry(), ExchangeKind::Direct).await?;
    declare.exchange(&names.parked(), ExchangeKind::Fanout).await?;
    declare.exchange(&names.events(), ExchangeKind::Topic).await?;
    let often = AMQPValue::LongLongInt(LOOKED_AT_OFTEN);
    declare.queue(&names.parked(), [("x-delivery-limit", often.clone())]).await?;
    declare.bind(&names.parked(), &names.parked(), "").await?;
    declare.queue(&names.events(), [("x-delivery-limit", often)]).await?;
    declare.bind(&names.events(), &names.events(), "#").await?;
    let text = |word: String| AMQPValue::LongString(LongString::from(word));
    for lane in Lane::ALL {
        let limit = AMQPValue::LongLongInt(i64::from(link.config.delivery_limit));
        let aside = [
            ("x-delivery-limit", limit),
            ("x-dead-letter-exchange", text(names.parked())),
            ("x-dead-letter-strategy", text("at-least-once".to_owned())),
        ];
        declare.queue(&names.lane(lane), aside).await?;
        declare.bind(&names.lane(lane), &names.jobs(), lane.as_str()).await?;
        for delay in names.distinct_delays() {
            let ttl = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            let back = [
                ("x-message-ttl", AMQPValue::LongLongInt(ttl)),
                ("x-delivery-limit", AMQPValue::LongLongInt(LOOKED_AT_OFTEN)),
                ("x-dead-letter-exchange", text(names.jobs())),
                ("x-dead-letter-routing-key", text(lane.as_str().to_owned())),
                ("x-dead-letter-strategy", text("at-least-once".to_owned())),
            ];
            declare.queue(&names.retry_queue(lane, delay), back).await?;
            declare.bind(&names.retry_queue(lane, delay), &names.retry(), &Names::retry_key(lane, delay)).await?;
        }
    }
    Ok(())
}

/// Declares on one channel; the first refusal closes it.
struct Declare<'a> {
    link: &'a Link,
    channel: &'a Channel,
}

impl Declare<'_> {
    fn short(&self, name: &str) -> Result<ShortString, QueueError> {
        ShortString::try_new(name).map_err(|_| self.link.refused("queue.prefix is too long: names have 255 bytes at most", None))
    }

    async fn exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), QueueError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = self.channel.exchange_declare(self.short(name)?, kind, options, FieldTable::default()).await;
        declared.map_err(|e| self.told("exchange", name, e))
    }

    async fn queue(&self, name: &str, more: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> Result<(), QueueError> {
        let text = |word: &str| AMQPValue::LongString(LongString::from(word));
        let mut arguments: BTreeMap<ShortString, AMQPValue> = BTreeMap::new();
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        if self.link.config.replicas > 0 {
            arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongLongInt(i64::from(self.link.config.replicas)));
        }
        for (key, value) in more {
            arguments.insert(key.into(), value);
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(self.short(name)?, options, arguments.into()).await;
        declared.map(drop).map_err(|e| self.told("queue", name, e))
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), QueueError> {
        let (queue_name, exchange_name, key) = (self.short(queue)?, self.short(exchange)?, self.short(key)?);
        let bound = self.channel.queue_bind(queue_name, exchange_name, key, QueueBindOptions::default(), FieldTable::default()).await;
        bound.map_err(|e| self.told("binding of queue", queue, e))
    }

    /// What the broker said, and what to do about it.
    fn told(&self, kind: &str, name: &str, error: lapin::Error) -> QueueError {
        match reply_code(&error) {
            // The broker's words name the argument, what is wanted and what is there.
            Some(406) => self.link.refused(
                format!(
                    "{kind} `{name}` exists with other arguments ({error}): when it is empty, delete it (`rabbitmqctl delete_queue {name}`) \
                     and start again, put the setting back, or choose another queue.prefix"
                ),
                Some(error),
            ),
            Some(403) => self.link.refused(
                format!("may not declare {kind} `{name}` ({error}): grant configure, write and read on `^{}\\.`", self.link.config.prefix),
                Some(error),
            ),
            _ => self.link.failed(&format!("declare {kind} `{name}`"), error),
        }
    }
}
