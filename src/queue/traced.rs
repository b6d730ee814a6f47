//! Spans of what goes through a queue, by the semantic conventions of OpenTelemetry for messaging: a message carries the
//! span that sent it, and whoever works on it goes on from there.

use super::{Delivery, Destination, Queue, QueueError, Traffic};
use crate::model::errors;
use crate::model::message::{Envelope, Lane};
use crate::model::text::display_safe;
use crate::telemetry::{self, KeyValue, Span, SpanKind};

/// Longest id of a message that is told, characters.
const MAX_ID: usize = 200;

/// The span of the work on a job.
pub fn process(queue: &dyn Queue, delivery: &Delivery) -> Span {
    let Delivery { lane, message, attempt, redelivered, settle: _ } = delivery;
    let (name, mut attributes) = described("process", &queue.destination(Traffic::Receive(*lane)), message);
    attributes.extend([
        KeyValue::new("greffier.lane", lane.as_str()),
        KeyValue::new("greffier.attempt", i64::from(*attempt)),
        KeyValue::new("greffier.redelivered", i64::from(*redelivered)),
    ]);
    Span::follow(message.traceparent.as_deref(), SpanKind::Consumer, name, attributes)
}

/// [`Queue::enqueue`] in a span, which the job carries.
///
/// # Errors
/// As there.
pub async fn enqueue(queue: &dyn Queue, lane: Lane, mut job: Envelope) -> Result<(), QueueError> {
    let span = sending(&queue.destination(Traffic::Send(lane)), &mut job);
    let sent = span.run(queue.enqueue(lane, &job)).await;
    sent.inspect_err(|e| failed(&span, e))
}

/// [`Queue::announce`] in a span, which the event carries.
///
/// # Errors
/// As there.
pub async fn announce(queue: &dyn Queue, mut event: Envelope) -> Result<(), QueueError> {
    let span = sending(&queue.destination(Traffic::Announce(&event.kind)), &mut event);
    let sent = span.run(queue.announce(&event)).await;
    sent.inspect_err(|e| failed(&span, e))
}

fn sending(to: &Destination, message: &mut Envelope) -> Span {
    let (name, attributes) = described("send", to, message);
    let span = Span::begin(SpanKind::Producer, name, attributes);
    // Where nothing is traced, it carries on what it has.
    message.traceparent = span.traceparent().or(message.traceparent.take());
    span
}

fn failed(span: &Span, error: &QueueError) {
    span.fail(errors::code_in(&error.to_string()).unwrap_or("_OTHER"));
}

fn described(operation: &'static str, to: &Destination, message: &Envelope) -> (String, Vec<KeyValue>) {
    let mut attributes = vec![
        KeyValue::new("messaging.system", to.system),
        KeyValue::new("messaging.destination.name", to.name.clone()),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.message.id", display_safe(&message.id, MAX_ID)),
        telemetry::count("messaging.message.body.size", message.body.len() as u64),
    ];
    attributes.extend(to.routing_key.clone().map(|key| KeyValue::new("messaging.rabbitmq.destination.routing_key", key)));
    (format!("{operation} {}", to.name), attributes)
}
