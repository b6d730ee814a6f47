//! What operators do.
//!
//! AMQP has no way to look at a message without taking it: looking is getting and giving back, and RabbitMQ counts a
//! delivery for each (measured on 3.10.8: `basic.nack`, `basic.reject`, `basic.recover` and closing the channel all raise
//! `x-delivery-count` by one). Parked jobs,
//! events and delays have limits so high that looking never meets them; jobs of a lane are given back as
//! [`give_back`](super::consume::give_back) does, so that looking never makes a job look like one that crashes workers.
//! While they are looked at, nobody else receives them: milliseconds.

use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{Acker, BasicProperties, Channel};

use super::consume::{give_back, short};
use super::link::{Link, reply_code};
use super::wire::{self, Marks};
use crate::model::message::{Lane, ParkReason};
use crate::queue::{Depth, Place, QueueError, Waiting};

/// Most messages that one search goes through: each of them is kept from others meanwhile.
const SEARCHED: usize = 10_000;

/// Names of the queues behind a place.
fn queues(link: &Link, place: Place) -> Vec<String> {
    let names = &link.names;
    match place {
        Place::Lane(lane) => vec![names.lane(lane)],
        Place::Retry(lane) => names.distinct_delays().into_iter().map(|delay| names.retry_queue(lane, delay)).collect(),
        Place::Parked => vec![names.parked()],
        Place::Events => vec![names.events()],
    }
}

/// Ready messages and consumers of a queue.
async fn count(link: &Link, channel: &Channel, queue: &str) -> Result<(u32, u32), QueueError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(short(link, queue)?, options, FieldTable::default()).await;
    let declared = declared.map_err(|e| missing(link, queue, "look at", e))?;
    Ok((declared.message_count(), declared.consumer_count()))
}

fn missing(link: &Link, queue: &str, what: &str, error: lapin::Error) -> QueueError {
    if reply_code(&error) == Some(404) {
        return link.refused(format!("queue `{queue}` does not exist; a worker declares it when it starts"), Some(error));
    }
    link.failed(&format!("{what} `{queue}`"), error)
}

/// What waits where.
pub async fn status(link: &Link) -> Result<Vec<Depth>, QueueError> {
    let channel = link.channel().await?;
    let places = Lane::ALL.map(Place::Lane).into_iter().chain(Lane::ALL.map(Place::Retry)).chain([Place::Parked, Place::Events]);
    let mut depths = Vec::new();
    for place in places {
        let (mut ready, mut consumers) = (0, 0);
        for queue in queues(link, place) {
            let (messages, listening) = count(link, &channel, &queue).await?;
            ready += u64::from(messages);
            consumers += u64::from(listening);
        }
        depths.push(Depth { place, ready, unsettled: None, oldest: None, consumers: Some(consumers) });
    }
    Ok(depths)
}

/// Waits until what was given back to a queue stands there again. Giving back is not confirmed, and the next look, on another
/// channel, would not see it. `expected` is what was ready before, without what was moved. Bounded: others may take it first.
async fn settle_down(link: &Link, channel: &Channel, queue: &str, expected: u32) -> Result<(), QueueError> {
    for _ in 0..40 {
        let (ready, consumers) = count(link, channel, queue).await?;
        if ready >= expected || consumers > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// A message that was got, and must be given back.
struct Got {
    acker: Acker,
    properties: BasicProperties,
    body: Vec<u8>,
    marks: Marks,
}

async fn get(link: &Link, channel: &Channel, queue: &str) -> Result<Option<Got>, QueueError> {
    let got = channel.basic_get(short(link, queue)?, BasicGetOptions::default()).await;
    Ok(got.map_err(|e| missing(link, queue, "get from", e))?.map(|got| {
        let lapin::message::Delivery { properties, data, acker, .. } = got.delivery;
        let marks = wire::marks(&properties, |queue| link.names.lane_of(queue));
        Got { acker, properties, body: data, marks }
    }))
}

/// Looks at the first messages of a place.
pub async fn peek(link: &Link, place: Place, most: usize) -> Result<Vec<Waiting>, QueueError> {
    let channel = link.channel().await?;
    let (mut seen, mut held, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for queue in queues(link, place) {
        let (ready, _) = count(link, &channel, &queue).await?;
        while seen.len() < most {
            let Some(got) = get(link, &channel, &queue).await? else { break };
            let lane = got.marks.lane.filter(|_| place != Place::Events);
            let lane = if let Place::Lane(lane) | Place::Retry(lane) = place { Some(lane) } else { lane };
            seen.push(Waiting {
                message: wire::envelope(&got.properties, got.body.clone()),
                lane,
                attempt: got.marks.attempt,
                reason: got.marks.reason.clone(),
            });
            held.push(got);
        }
        counts.push((queue, ready));
    }
    // In the order they came, so that they stand in this order again.
    for got in held {
        if let Place::Lane(lane) = place {
            give_back(link, lane, &got.acker, &got.marks, &got.properties, &got.body).await?;
        } else {
            let back = got.acker.nack(BasicNackOptions { requeue: true, multiple: false }).await;
            back.map_err(|e| link.failed("give back what was looked at", e))?;
        }
    }
    for (queue, ready) in counts {
        settle_down(link, &channel, &queue, ready).await?;
    }
    Ok(seen)
}

/// Puts parked jobs back into their lanes.
pub async fn requeue(link: &Link, id: Option<&str>, most: usize) -> Result<usize, QueueError> {
    let channel = link.channel().await?;
    let queue = link.names.parked();
    let (ready, _) = count(link, &channel, &queue).await?;
    let (mut moved, mut kept) = (0, 0);
    while moved < most && kept < SEARCHED {
        let Some(got) = get(link, &channel, &queue).await? else { break };
        let wanted = id.is_none_or(|id| wire::envelope(&got.properties, Vec::new()).id == id);
        // What somebody else put there has no lane to go back to.
        let Some(lane) = got.marks.lane.filter(|_| wanted) else {
            kept += 1;
            continue;
        };
        let fresh = wire::forwarded(&got.properties, &Marks { lane: Some(lane), ..Marks::default() });
        link.publish(&link.names.jobs(), lane.as_str(), true, fresh, &got.body).await?;
        let acknowledged = got.acker.ack(BasicAckOptions::default()).await;
        acknowledged.map_err(|e| link.failed("take a job from the parked ones", e))?;
        moved += 1;
    }
    if kept > 0 {
        give_all_back(link, &channel).await?;
        settle_down(link, &channel, &queue, ready.saturating_sub(u32::try_from(moved).unwrap_or(u32::MAX))).await?;
    }
    Ok(moved)
}

/// Parks a job that waits in a lane.
pub async fn park_waiting(link: &Link, lane: Lane, id: &str, reason: &ParkReason) -> Result<bool, QueueError> {
    let channel = link.channel().await?;
    let queue = link.names.lane(lane);
    // What was given back comes again at the end of the queue: the search ends where it began.
    let (ready, _) = count(link, &channel, &queue).await?;
    let (mut found, mut held, mut returned) = (false, 0, 0);
    while held + returned < SEARCHED && returned <= ready as usize {
        let Some(got) = get(link, &channel, &queue).await? else { break };
        // Structured messages have their id in the body.
        if wire::envelope(&got.properties, got.body.clone()).id != id {
            // Bodies of thousands of jobs are not kept: what must be published again goes back at once.
            if got.marks.redelivered > 1 {
                give_back(link, lane, &got.acker, &got.marks, &got.properties, &got.body).await?;
                returned += 1;
            } else {
                held += 1;
            }
            continue;
        }
        let marks = Marks { lane: Some(lane), reason: Some(reason.clone()), ..got.marks };
        link.publish(&link.names.parked(), "", true, wire::forwarded(&got.properties, &marks), &got.body).await?;
        let acknowledged = got.acker.ack(BasicAckOptions::default()).await;
        acknowledged.map_err(|e| link.failed("take a job from its lane", e))?;
        found = true;
        break;
    }
    if held > 0 {
        give_all_back(link, &channel).await?;
        settle_down(link, &channel, &queue, ready.saturating_sub(u32::from(found))).await?;
    }
    Ok(found)
}

/// Everything that this channel holds.
async fn give_all_back(link: &Link, channel: &Channel) -> Result<(), QueueError> {
    let back = channel.basic_nack(0, BasicNackOptions { requeue: true, multiple: true }).await;
    back.map_err(|e| link.failed("give back what was looked at", e))
}

/// Throws away what waits in a place.
pub async fn purge(link: &Link, place: Place) -> Result<u64, QueueError> {
    let channel = link.channel().await?;
    let mut purged = 0;
    for queue in queues(link, place) {
        let count = channel.queue_purge(short(link, &queue)?, QueuePurgeOptions::default()).await;
        purged += u64::from(count.map_err(|e| missing(link, &queue, "purge", e))?);
    }
    Ok(purged)
}
