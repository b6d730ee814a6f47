//! An [`Envelope`] as message properties, and back.
//!
//! CloudEvents in binary mode. AMQP 0-9-1 has no binding of its own; attributes travel as headers `cloudEvents:<name>`, as
//! the binding for AMQP 1.0 names them, and besides as the properties that every AMQP 0-9-1 client shows (`message_id`,
//! `type`, `timestamp`, `correlation_id`, `reply_to`). Headers win: properties hold 255 bytes at most, and whole seconds.
//!
//! Read are also the prefixes `cloudEvents_` and `ce-`, messages with properties only, and structured mode
//! (`application/cloudevents+json`). What cannot be read leaves a field empty: judging is the worker's.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::model::message::{Envelope, JSON, Lane, ParkReason, SPEC_VERSION};

/// Most that headers and properties may take, bytes: they must fit into one frame of 131 072 bytes, RabbitMQ's default.
pub const MAX_HEADERS: usize = 96 * 1024;
/// Longest header that is handed on with a message that is not ours.
const MAX_FOREIGN: usize = 8 * 1024;
/// Longest detail of a reason that travels.
const MAX_DETAIL: usize = 4 * 1024;

const LANE: &str = "x-greffier-lane";
const ATTEMPT: &str = "x-greffier-attempt";
const REDELIVERED: &str = "x-greffier-redelivered";
const REASON_CODE: &str = "x-greffier-reason-code";
const REASON: &str = "x-greffier-reason";
/// Code of what the broker parked itself, because it was handed out too often.
const DELIVERY_LIMIT: &str = "JOB-DELIVERY-LIMIT";

/// What we note on a job besides its envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its lane.
    pub lane: Option<Lane>,
    /// Times it was tried again.
    pub attempt: u32,
    /// Times it was handed out unsettled.
    pub redelivered: u32,
    /// Why it waits or is parked.
    pub reason: Option<ParkReason>,
    /// The trace that it goes on in, instead of the one it came with.
    pub traceparent: Option<String>,
}

/// Properties of a new message.
///
/// # Errors
/// A sentence for people: the attributes are too long for a frame.
pub fn properties(message: &Envelope, marks: &Marks) -> Result<BasicProperties, String> {
    let Envelope { id, kind, source, subject, time, content_type, correlation_id, reply_to, traceparent, candidature, body: _ } = message;
    let mut headers = BTreeMap::new();
    let mut attribute = |name: &str, value: Option<&str>| {
        if let (Some(value), Ok(name)) = (value, ShortString::try_new(format!("cloudEvents:{name}"))) {
            headers.insert(name, AMQPValue::LongString(value.into()));
        }
    };
    attribute("specversion", Some(SPEC_VERSION));
    attribute("id", Some(id));
    attribute("type", Some(kind));
    attribute("source", Some(source));
    attribute("subject", subject.as_deref());
    attribute("time", time.map(|t| t.to_string()).as_deref());
    attribute("traceparent", traceparent.as_deref());
    attribute("candidature", candidature.as_deref());
    // These are properties; a header only where a property cannot hold them.
    let long = |value: &str| value.len() > 255;
    attribute("datacontenttype", Some(content_type.as_str()).filter(|v| long(v)));
    attribute("correlationid", correlation_id.as_deref().filter(|v| long(v)));
    attribute("replyto", reply_to.as_deref().filter(|v| long(v)));
    if weight(&headers) > MAX_HEADERS {
        return Err(format!("the attributes of the message take more than {MAX_HEADERS} bytes"));
    }
    mark(&mut headers, marks);
    let mut out = BasicProperties::default().with_headers(headers.into()).with_app_id("greffier".into());
    if let Ok(content_type) = ShortString::try_new(content_type.as_str()) {
        out = out.with_content_type(content_type);
    }
    if let Ok(id) = ShortString::try_new(id.as_str()) {
        out = out.with_message_id(id);
    }
    if let Ok(kind) = ShortString::try_new(kind.as_str()) {
        out = out.with_type(kind);
    }
    if let Some(Ok(correlation_id)) = correlation_id.as_deref().map(ShortString::try_new) {
        out = out.with_correlation_id(correlation_id);
    }
    if let Some(Ok(reply_to)) = reply_to.as_deref().map(ShortString::try_new) {
        out = out.with_reply_to(reply_to);
    }
    if let Some(Ok(seconds)) = time.map(|t| u64::try_from(t.as_second())) {
        out = out.with_timestamp(seconds);
    }
    Ok(out)
}

/// Properties of a message that is handed on as it came, with other marks.
///
/// Left behind: what the broker noted on its way so far, and what would do something to the copy (`expiration` would throw
/// it away, `CC` would send it elsewhere, `user_id` would have it refused).
pub fn forwarded(original: &BasicProperties, marks: &Marks) -> BasicProperties {
    let mut headers: BTreeMap<ShortString, AMQPValue> = BTreeMap::new();
    let mut room = MAX_HEADERS;
    // Attributes first: what is left is for what others noted.
    for attributes in [true, false] {
        for (name, value) in original.headers().iter().flatten().filter(|(name, _)| is_attribute(name.as_str()) == attributes) {
            let size = name.as_str().len() + size(value);
            if !is_doing(name.as_str()) && size <= room && (attributes || size <= MAX_FOREIGN) {
                room -= size;
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    mark(&mut headers, marks);
    let mut out = BasicProperties::default().with_headers(headers.into());
    let keep = |value: &Option<ShortString>| value.clone();
    if let Some(v) = keep(original.content_type()) {
        out = out.with_content_type(v);
    }
    if let Some(v) = keep(original.content_encoding()) {
        out = out.with_content_encoding(v);
    }
    if let Some(v) = keep(original.correlation_id()) {
        out = out.with_correlation_id(v);
    }
    if let Some(v) = keep(original.reply_to()) {
        out = out.with_reply_to(v);
    }
    if let Some(v) = keep(original.message_id()) {
        out = out.with_message_id(v);
    }
    if let Some(v) = keep(original.kind()) {
        out = out.with_type(v);
    }
    if let Some(v) = keep(original.app_id()) {
        out = out.with_app_id(v);
    }
    if let Some(v) = original.timestamp() {
        out = out.with_timestamp(*v);
    }
    out
}

/// Reads a message. Never fails: what is missing or unreadable is empty.
pub fn envelope(properties: &BasicProperties, body: Vec<u8>) -> Envelope {
    let attribute = |name: &str| {
        let headers = properties.headers().as_ref()?.inner();
        let found = ["cloudEvents:", "cloudEvents_", "ce-"].iter().find_map(|prefix| headers.get(format!("{prefix}{name}").as_str()));
        found.and_then(text)
    };
    let property = |value: &Option<ShortString>| value.as_ref().map(|v| v.as_str().to_owned());
    let plain_time = || Timestamp::from_second(i64::try_from((*properties.timestamp())?).ok()?).ok();
    let plain_trace = || properties.headers().as_ref()?.inner().get("traceparent").and_then(text);
    let message = Envelope {
        id: attribute("id").or_else(|| property(properties.message_id())).unwrap_or_default(),
        kind: attribute("type").or_else(|| property(properties.kind())).unwrap_or_default(),
        source: attribute("source").or_else(|| property(properties.app_id())).unwrap_or_default(),
        subject: attribute("subject"),
        time: attribute("time").and_then(|t| Timestamp::from_str(&t).ok()).or_else(plain_time),
        content_type: attribute("datacontenttype").or_else(|| property(properties.content_type())).unwrap_or_default(),
        correlation_id: attribute("correlationid").or_else(|| property(properties.correlation_id())),
        reply_to: attribute("replyto").or_else(|| property(properties.reply_to())),
        traceparent: attribute("traceparent").or_else(plain_trace),
        candidature: attribute("candidature"),
        body,
    };
    if !message.content_type.to_ascii_lowercase().starts_with("application/cloudevents+json") {
        return message;
    }
    let mut message = structured(message);
    // Beside a structured body, the attribute is newer: it is ours, of a job that was moved (`Marks::traceparent`).
    message.traceparent = attribute("traceparent").or(message.traceparent);
    message
}

/// Structured mode: the body holds everything. What it does not say stays as the properties say.
fn structured(mut message: Envelope) -> Envelope {
    use base64::Engine as _;
    use serde_json::{Map, Value};
    let Ok(mut event) = serde_json::from_slice::<Map<String, Value>>(&message.body) else { return message };
    let mut take = |name: &str| match event.remove(name) {
        Some(Value::String(word)) => Some(word),
        _ => None,
    };
    if let Some(id) = take("id") {
        message.id = id;
    }
    if let Some(kind) = take("type") {
        message.kind = kind;
    }
    if let Some(source) = take("source") {
        message.source = source;
    }
    message.subject = take("subject").or(message.subject);
    message.time = take("time").and_then(|t| t.parse().ok()).or(message.time);
    message.traceparent = take("traceparent").or(message.traceparent);
    message.candidature = take("candidature").or(message.candidature);
    message.correlation_id = take("correlationid").or(message.correlation_id);
    message.content_type = take("datacontenttype").unwrap_or_else(|| JSON.to_owned());
    let encoded = take("data_base64");
    message.body = match (event.remove("data"), encoded) {
        (Some(data), _) => data.to_string().into_bytes(),
        (None, Some(encoded)) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    message
}

/// Reads what is noted on a job. `lane_of` knows the lanes' queues: what the broker parked has no note of ours.
pub fn marks(properties: &BasicProperties, lane_of: impl Fn(&str) -> Option<Lane>) -> Marks {
    let Some(headers) = properties.headers().as_ref().map(FieldTable::inner) else { return Marks::default() };
    let word = |name: &str| headers.get(name).and_then(text);
    let number = |name: &str| headers.get(name).and_then(count).unwrap_or_default();
    let mut lane = word(LANE).and_then(|l| l.parse().ok());
    let mut reason = word(REASON_CODE).map(|code| ParkReason { code, detail: word(REASON).unwrap_or_default() });
    for death in headers.get("x-death").and_then(AMQPValue::as_array).into_iter().flat_map(|deaths| deaths.as_slice()) {
        let Some(death) = death.as_field_table().map(FieldTable::inner) else { continue };
        let queue = death.get("queue").and_then(text).unwrap_or_default();
        lane = lane.or_else(|| lane_of(&queue));
        if death.get("reason").and_then(text).as_deref() == Some("delivery_limit") {
            reason = Some(ParkReason::new(DELIVERY_LIMIT, format!("the broker handed it out too often without hearing of it: {queue}")));
        }
    }
    // The broker counts from the last publishing on; `REDELIVERED` is what was counted before.
    let redelivered = number(REDELIVERED).saturating_add(number("x-delivery-count"));
    Marks { lane, attempt: number(ATTEMPT), redelivered, reason, traceparent: None }
}

/// The routing key of an event type.
pub fn routing_key(kind: &str) -> &str {
    if kind.is_empty() || kind.len() > 255 { "unknown" } else { kind }
}

fn mark(headers: &mut BTreeMap<ShortString, AMQPValue>, marks: &Marks) {
    let Marks { lane, attempt, redelivered, reason, traceparent } = marks;
    if let Some(traceparent) = traceparent {
        headers.insert("cloudEvents:traceparent".into(), AMQPValue::LongString(traceparent.as_str().into()));
    }
    if let Some(lane) = lane {
        headers.insert(LANE.into(), AMQPValue::LongString(lane.as_str().into()));
    }
    if *attempt > 0 {
        headers.insert(ATTEMPT.into(), AMQPValue::LongLongInt((*attempt).into()));
    }
    if *redelivered > 0 {
        headers.insert(REDELIVERED.into(), AMQPValue::LongLongInt((*redelivered).into()));
    }
    if let Some(ParkReason { code, detail }) = reason {
        headers.insert(REASON_CODE.into(), AMQPValue::LongString(cut(code).into()));
        headers.insert(REASON.into(), AMQPValue::LongString(cut(detail).into()));
    }
}

fn cut(word: &str) -> &str {
    word.get(..word.floor_char_boundary(MAX_DETAIL)).unwrap_or_default()
}

/// Headers that do something to a message, and notes: the broker's, and ours, which are written anew.
fn is_doing(name: &str) -> bool {
    matches!(name, "CC" | "BCC" | "x-death" | "x-delivery-count" | "x-acquired-count" | "x-delay")
        || ["x-first-death-", "x-last-death-", "x-greffier-"].iter().any(|prefix| name.starts_with(prefix))
}

fn is_attribute(name: &str) -> bool {
    ["cloudEvents:", "cloudEvents_", "ce-"].iter().any(|prefix| name.starts_with(prefix))
}

fn weight(headers: &BTreeMap<ShortString, AMQPValue>) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + size(value)).sum()
}

/// About what a value takes on the wire.
fn size(value: &AMQPValue) -> usize {
    8 + match value {
        AMQPValue::LongString(s) => s.len(),
        AMQPValue::ShortString(s) => s.as_str().len(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(size).sum(),
        AMQPValue::FieldTable(table) => weight(table.inner()),
        _ => 8,
    }
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(s) => std::str::from_utf8(s.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(s) => Some(s.as_str().to_owned()),
        _ => None,
    }
}

fn count(value: &AMQPValue) -> Option<u32> {
    let number: i64 = match value {
        AMQPValue::ShortShortInt(n) => (*n).into(),
        AMQPValue::ShortShortUInt(n) => (*n).into(),
        AMQPValue::ShortInt(n) => (*n).into(),
        AMQPValue::ShortUInt(n) => (*n).into(),
        AMQPValue::LongInt(n) => (*n).into(),
        AMQPValue::LongUInt(n) => (*n).into(),
        AMQPValue::LongLongInt(n) => *n,
        _ => return None,
    };
    u32::try_from(number).ok()
}
