//! Consumers, deliveries, replies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, BasicProperties, Channel};
use tokio::task::JoinHandle;

use super::link::{Link, State};
use super::topology::Names;
use super::wire::{self, Marks};
use crate::model::message::{Envelope, Lane, ParkReason};
use crate::queue::{Consumer, Delivery, QueueError, Replies, Settle, jittered};
use crate::telemetry;

/// Up to so many times a job is given back by telling the broker so: it stands before what was never handed out, but
/// RabbitMQ counts a delivery. From then on it is published again with its true count and stands last: giving back politely
/// never adds up to what parks a job.
const COUNTED_RETURNS: u32 = 2;
/// Pause before a consumer that could not be set up is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a consumer that stops waits for the broker. What is not given back by then goes back with the channel.
const GOODBYE: Duration = Duration::from_secs(2);

/// A consumer, and the channel that it is on.
type Stream = (Channel, lapin::Consumer);

/// A consumer that is being set up, in a task of its own: whoever waits for it may stop waiting at any moment, and one that is
/// given up between being asked for and being answered stays at the broker for as long as the connection stands (lapin 4.12
/// keeps it, and with it its channel). It would take jobs that nobody ever sees.
#[derive(Default)]
struct Beginning(Option<JoinHandle<Result<Stream, QueueError>>>);

impl Beginning {
    /// Its end, begun by `subscribe` where nothing is under way. May be given up, and goes on where it was.
    async fn wait<F>(&mut self, link: &Link, subscribe: impl FnOnce() -> F) -> Result<Stream, QueueError>
    where
        F: Future<Output = Result<Stream, QueueError>> + Send + 'static,
    {
        let ended = self.0.get_or_insert_with(|| tokio::spawn(subscribe())).await;
        self.0 = None;
        // Only where the runtime comes down, or a library panics.
        ended.unwrap_or_else(|e| Err(link.unavailable(format!("cannot consume: {e}"), None)))
    }
}

/// Jobs of one lane, on a channel of its own: the window is the channel's.
pub struct LaneConsumer {
    link: Arc<Link>,
    lane: Lane,
    window: u16,
    stream: Option<Stream>,
    beginning: Beginning,
    stopped: bool,
}

async fn subscribe(link: Arc<Link>, lane: Lane, window: u16) -> Result<Stream, QueueError> {
    let channel = link.channel().await?;
    let failed = |e| link.failed("consume", e);
    channel.basic_qos(window, BasicQosOptions::default()).await.map_err(failed)?;
    let queue = short(&link, &link.names.lane(lane))?;
    let consumer = channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await;
    Ok((channel, consumer.map_err(failed)?))
}

impl LaneConsumer {
    /// Subscribes, where there is a connection.
    ///
    /// # Errors
    /// [`QueueError::Refused`]: the lane's queue does not exist, or may not be read.
    pub async fn start(link: Arc<Link>, lane: Lane, window: u16) -> Result<Self, QueueError> {
        let mut consumer = Self { link, lane, window, stream: None, beginning: Beginning::default(), stopped: false };
        match consumer.subscribed().await {
            Ok(stream) => consumer.stream = Some(stream),
            Err(e) if e.is_transient() => {}
            Err(e) => return Err(e),
        }
        Ok(consumer)
    }

    async fn subscribed(&mut self) -> Result<Stream, QueueError> {
        let (link, lane, window) = (Arc::clone(&self.link), self.lane, self.window);
        self.beginning.wait(&self.link, || subscribe(link, lane, window)).await
    }
}

#[async_trait]
impl Consumer for LaneConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        let mut state = self.link.state();
        loop {
            if self.stopped || self.link.is_closed() {
                return None;
            }
            let Some((channel, stream)) = &mut self.stream else {
                // Up, or closed; for as long as it takes.
                let up = state.wait_for(|s| !matches!(s, State::Down { .. })).await.map(|s| matches!(*s, State::Up(_)));
                if !matches!(up, Ok(true)) {
                    return None;
                }
                match self.subscribed().await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(e) => {
                        tracing::warn!(error = %e, lane = self.lane.as_str(), "cannot consume; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            };
            let received = tokio::select! {
                received = stream.next() => received,
                _ = state.wait_for(|s| matches!(s, State::Closed)) => return None,
            };
            match received {
                Some(Ok(delivery)) => return Some(hand_out(&self.link, self.lane, channel.clone(), delivery)),
                Some(Err(e)) => {
                    tracing::debug!(error = %e, lane = self.lane.as_str(), "consumer lost its channel");
                    self.stream = None;
                }
                // Cancelled by the broker: the queue was deleted, or its leader is gone.
                None => {
                    self.stream = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn stop(&mut self) {
        self.stopped = true;
        if self.beginning.0.is_some() {
            if let Ok(Ok(stream)) = tokio::time::timeout(GOODBYE, self.subscribed()).await {
                self.stream = Some(stream);
            }
            // Where it is answered after all, nobody keeps it, and it is cancelled.
            self.beginning.0 = None;
        }
        let Some((channel, mut stream)) = self.stream.take() else { return };
        if let Err(e) = channel.basic_cancel(stream.tag(), BasicCancelOptions::default()).await {
            tracing::debug!(error = %e, "a consumer ended by itself");
            return;
        }
        // What the broker had sent ahead. Not at its end in time: the broker takes it back with the channel.
        let back = async {
            while let Some(Ok(delivery)) = stream.next().await {
                let _ = delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, back).await;
    }
}

/// A delivery as the trait knows it.
fn hand_out(link: &Arc<Link>, lane: Lane, channel: Channel, delivery: lapin::message::Delivery) -> Delivery {
    let lapin::message::Delivery { properties, data, acker, .. } = delivery;
    let marks = wire::marks(&properties, |queue| link.names.lane_of(queue));
    Delivery {
        lane,
        message: wire::envelope(&properties, data.clone()),
        attempt: marks.attempt,
        redelivered: marks.redelivered,
        settle: Box::new(Hand { link: Arc::clone(link), lane, marks, channel, acker, properties, body: data, settled: false }),
    }
}

/// A job in hand. Dropped unsettled, it is given back at once: whoever had it panicked.
struct Hand {
    link: Arc<Link>,
    lane: Lane,
    marks: Marks,
    /// Stays open as long as something of it is in hand, whatever becomes of the consumer.
    channel: Channel,
    acker: Acker,
    /// As they came: what is handed on is handed on whole.
    properties: BasicProperties,
    body: Vec<u8>,
    settled: bool,
}

impl Hand {
    fn lost(&self) -> QueueError {
        QueueError::Lost { queue: self.link.name() }
    }

    /// A delivery belongs to its channel: where that ended, the broker has taken it back.
    fn still_ours(&self) -> Result<(), QueueError> {
        if self.acker.usable() && self.channel.status().connected() { Ok(()) } else { Err(self.lost()) }
    }

    async fn acknowledge(&mut self) -> Result<(), QueueError> {
        self.settled = true;
        match self.acker.ack(BasicAckOptions::default()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(self.lost()),
        }
    }

    /// What is noted on it where it goes.
    fn moved(&self, reason: &ParkReason) -> Marks {
        Marks { lane: Some(self.lane), reason: Some(reason.clone()), traceparent: telemetry::traceparent(), ..self.marks.clone() }
    }

    /// First there, then no longer here.
    async fn move_to(&mut self, exchange: &str, key: &str, marks: &Marks, expires: Option<Duration>) -> Result<(), QueueError> {
        self.still_ours()?;
        let mut properties = wire::forwarded(&self.properties, marks);
        if let Some(expires) = expires {
            properties = properties.with_expiration(short(&self.link, &expires.as_millis().to_string())?);
        }
        self.link.publish(exchange, key, true, properties, &self.body).await?;
        self.acknowledge().await
    }
}

#[async_trait]
impl Settle for Hand {
    async fn ack(mut self: Box<Self>) -> Result<(), QueueError> {
        self.still_ours()?;
        self.acknowledge().await
    }

    async fn retry(mut self: Box<Self>, reason: &ParkReason) -> Result<Duration, QueueError> {
        let attempt = self.marks.attempt;
        let step = self.link.names.delays.get(attempt as usize).copied();
        let Some(step) = step else { return Err(QueueError::NoMoreRetries { queue: self.link.name(), attempt }) };
        let delay = jittered(step);
        let marks = Marks { attempt: attempt.saturating_add(1), redelivered: 0, ..self.moved(reason) };
        let (exchange, key) = (self.link.names.retry(), Names::retry_key(self.lane, step));
        self.move_to(&exchange, &key, &marks, Some(delay)).await?;
        Ok(delay)
    }

    async fn park(mut self: Box<Self>, reason: &ParkReason) -> Result<(), QueueError> {
        let exchange = self.link.names.parked();
        self.move_to(&exchange, "", &self.moved(reason), None).await
    }

    async fn release(mut self: Box<Self>) -> Result<(), QueueError> {
        self.still_ours()?;
        self.settled = true;
        give_back(&self.link, self.lane, &self.acker, &self.marks, &self.properties, &self.body).await
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if self.settled || !self.acker.usable() {
            return;
        }
        // Without a runtime everything is coming down, and the broker takes it back with the connection.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (acker, channel) = (self.acker.clone(), self.channel.clone());
            runtime.spawn(async move {
                let _ = acker.nack(BasicNackOptions { requeue: true, multiple: false }).await;
                drop(channel);
            });
        }
    }
}

/// Gives a job of a lane back unworked, without making it look like one that crashes workers.
pub async fn give_back(
    link: &Link,
    lane: Lane,
    acker: &Acker,
    marks: &Marks,
    properties: &BasicProperties,
    body: &[u8],
) -> Result<(), QueueError> {
    let lost = || QueueError::Lost { queue: link.name() };
    if marks.redelivered >= COUNTED_RETURNS {
        let same = wire::forwarded(properties, &Marks { lane: Some(lane), ..marks.clone() });
        match link.publish(&link.names.jobs(), lane.as_str(), true, same, body).await {
            Ok(()) => {
                return match acker.ack(BasicAckOptions::default()).await {
                    Ok(true) => Ok(()),
                    Ok(false) | Err(_) => Err(lost()),
                };
            }
            Err(e) => tracing::debug!(error = %e, "a job is given back with its count raised"),
        }
    }
    match acker.nack(BasicNackOptions { requeue: true, multiple: false }).await {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(lost()),
    }
}

/// A queue of one's own for replies: exclusive, gone with the connection, and made again under the same name after it.
pub struct ReplyBox {
    link: Arc<Link>,
    name: String,
    stream: Option<Stream>,
    beginning: Beginning,
}

async fn listen(link: Arc<Link>, name: String) -> Result<Stream, QueueError> {
    let channel = link.channel().await?;
    let failed = |e| link.failed("receive replies", e);
    let name = short(&link, &name)?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.clone(), options, FieldTable::default()).await.map_err(failed)?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(name, "".into(), options, FieldTable::default()).await.map_err(failed)?;
    Ok((channel, consumer))
}

impl ReplyBox {
    /// Declares it and listens.
    ///
    /// # Errors
    /// No connection, or no permission.
    pub async fn open(link: Arc<Link>) -> Result<Self, QueueError> {
        let mut made = Self { name: link.names.new_reply(), link, stream: None, beginning: Beginning::default() };
        made.stream = Some(made.listening().await?);
        Ok(made)
    }

    async fn listening(&mut self) -> Result<Stream, QueueError> {
        let (link, name) = (Arc::clone(&self.link), self.name.clone());
        self.beginning.wait(&self.link, || listen(link, name)).await
    }
}

#[async_trait]
impl Replies for ReplyBox {
    fn address(&self) -> String {
        self.name.clone()
    }

    async fn next(&mut self) -> Result<Envelope, QueueError> {
        let mut state = self.link.state();
        if self.stream.is_none() {
            self.stream = Some(self.listening().await?);
        }
        let Some((_, stream)) = &mut self.stream else { return Err(self.link.unavailable("no place for replies", None)) };
        let received = tokio::select! {
            received = stream.next() => received,
            _ = state.wait_for(|s| matches!(s, State::Closed)) => return Err(self.link.unavailable("the queue is closed", None)),
        };
        match received {
            Some(Ok(delivery)) => Ok(wire::envelope(&delivery.properties, delivery.data)),
            Some(Err(e)) => {
                self.stream = None;
                Err(self.link.unavailable("replies that came meanwhile are lost", Some(e)))
            }
            None => {
                self.stream = None;
                Err(self.link.unavailable("replies that came meanwhile are lost", None))
            }
        }
    }
}

/// A name on the wire.
///
/// # Errors
/// [`QueueError::Refused`]: longer than 255 bytes.
pub fn short(link: &Link, name: &str) -> Result<ShortString, QueueError> {
    ShortString::try_new(name)
        .map_err(|_| link.refused(format!("`{}…` is longer than 255 bytes", name.chars().take(40).collect::<String>()), None))
}
