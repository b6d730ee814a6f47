//! What comes through the queue and over the network.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::files::shown;
use super::parts;
use crate::gazelle::report::{decode, form, legacy, read_record, read_report, unwrap_zip};
use crate::gazelle::{GazelleConfig, GazellePolicy, Owner, link, polite, scrub};
use crate::model::message::Lane;
use crate::queue::amqp::wire;

/// Most that a report in an archive may inflate to, bytes.
const MAX_REPORT: u64 = 1024 * 1024;

/// A message of the broker: one part is a header or a property, the part without name is the body.
pub fn message(list: &[u8]) {
    let mut headers = FieldTable::default();
    let mut properties = BasicProperties::default();
    let mut body = Vec::new();
    for (name, value) in parts::parts(list) {
        let word = || ShortString::try_new(String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
        match name {
            "" => body = value.to_vec(),
            "content_type" => properties = properties.with_content_type(word()),
            "message_id" => properties = properties.with_message_id(word()),
            "type" => properties = properties.with_type(word()),
            "app_id" => properties = properties.with_app_id(word()),
            "correlation_id" => properties = properties.with_correlation_id(word()),
            "reply_to" => properties = properties.with_reply_to(word()),
            "timestamp" => properties = properties.with_timestamp(value.iter().fold(0, |n, b| n << 8 | u64::from(*b))),
            name => {
                let value = match std::str::from_utf8(value).ok().and_then(|v| v.trim().parse::<i64>().ok()) {
                    Some(number) => AMQPValue::LongLongInt(number),
                    None => AMQPValue::LongString(LongString::from(value.to_vec())),
                };
                if let Ok(name) = ShortString::try_new(name) {
                    headers.insert(name, value);
                }
            }
        }
    }
    let properties = properties.with_headers(headers);
    let lane_of = |queue: &str| queue.rsplit('.').next().and_then(|lane| lane.parse::<Lane>().ok());
    let marks = wire::marks(&properties, lane_of);
    let handed_on = wire::forwarded(&properties, &marks);
    let again = wire::marks(&handed_on, lane_of);
    assert_eq!(
        (again.lane, again.attempt, again.redelivered),
        (marks.lane, marks.attempt, marks.redelivered),
        "marks survive being handed on"
    );
    let read = wire::envelope(&properties, body.clone());
    assert_eq!(read, wire::envelope(&handed_on, body), "a message handed on says the same");
    // Structured mode is read, never written.
    if !read.content_type.to_ascii_lowercase().starts_with("application/cloudevents+json")
        && let Ok(written) = wire::properties(&read, &marks)
    {
        assert_eq!(read, wire::envelope(&written, read.body.clone()), "an envelope survives the broker");
    }
}

/// What a Gazelle server answers: reports of every generation, records, and their copies without health data.
pub fn gazelle_report(bytes: &[u8]) {
    let report = read_report(bytes, MAX_REPORT);
    match &report {
        Ok(report) => each_text(&serde_json::to_value(report).expect("a report is JSON")),
        Err(why) => shown(&why.to_string()),
    }
    if let Ok(record) = read_record(bytes) {
        each_text(&serde_json::to_value(record).expect("a record is JSON"));
    }
    legacy::status(&String::from_utf8_lossy(bytes));
    let plain = unwrap_zip(bytes, MAX_REPORT).ok().flatten().unwrap_or_else(|| bytes.to_vec());
    let Some(scrubbed) = scrub::scrub(&plain) else { return };
    match scrub::scrub(&scrubbed.bytes) {
        Some(again) => assert_eq!(again.bytes, scrubbed.bytes, "nothing is left to drop in a copy"),
        // A word of an old server may have become too long for one.
        None => assert!(form(&decode(&plain)).is_err(), "a copy is as well-formed as what was received"),
    }
}

fn each_text(value: &serde_json::Value) {
    match value {
        serde_json::Value::String(text) => shown(text),
        serde_json::Value::Array(values) => values.iter().for_each(each_text),
        serde_json::Value::Object(values) => values.values().for_each(each_text),
        _ => {}
    }
}

/// A link as a vendor pastes it, and what a server says of waiting.
pub fn gazelle_link(bytes: &[u8]) {
    let given = String::from_utf8_lossy(bytes);
    let secret = "s3cr3tK3Yv4lu3";
    let with_key = format!("{given}&privacyKey={secret}");
    for given in [given.as_ref(), &with_key] {
        let facts = match link::recognise(given, policy(), &GazelleConfig::default()) {
            link::Recognised::Settled(facts, _) => facts,
            link::Recognised::Report(link) => {
                for url in [link.report_url(), link.record_url(), link.service_url(), link.legacy_url("GetValidationStatus")] {
                    assert_eq!(url.scheme(), "https");
                    let rule = policy().host(url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
                    assert!(rule.is_some() && url.username().is_empty() && url.password().is_none(), "leads elsewhere: {url}");
                }
                let (a, b) = (Owner::new("deposits", "lgc", "A"), Owner::new("deposits", "lgc", "B"));
                let copy = link.copy_id(&a);
                assert_ne!(copy, link.copy_id(&b), "two candidatures share a copy");
                assert!(!copy.as_str().contains(secret) && copy.as_str() != link.facts.id, "a copy is named by key or result");
                link.facts
            }
        };
        shown(&facts.shown);
        let once = given.matches(secret).count() == 1 && given.ends_with(&format!("&privacyKey={secret}"));
        assert!(!once || !facts.shown.contains(secret), "a share key is shown: {}", facts.shown);
    }
    let wait = polite::retry_after(&given, jiff::Timestamp::UNIX_EPOCH);
    assert!(wait.is_none_or(|wait| wait.as_secs() <= 86_400), "a server makes us wait {wait:?}");
}

fn policy() -> &'static GazellePolicy {
    &super::reports::example().pipeline.gazelle
}
