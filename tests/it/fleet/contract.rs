//! What travels over a real broker is what `docs/asyncapi.yaml` says: bodies, headers, properties, routing keys.
//!
//! `GREFFIER_WRITE_EXAMPLES=1` writes `docs/examples/` from what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use futures_util::StreamExt as _;
use greffier::model::event::{BUNDLE_READY, ITEM_CHECKED, SUBMISSION_PARKED, SUBMISSION_REJECTED, TYPES};
use greffier::model::message::{Lane, SUBMISSION_REQUESTED};
use greffier::model::submission::{Content, Submission};
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::harness::{Fleet, Kind, PATIENCE};
use super::jobs::honest;
use crate::support::{Contract, root};

/// A message as a program without greffier's code sees it.
struct Seen {
    exchange: String,
    routing_key: String,
    headers: Value,
    properties: Value,
    body: Value,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ, S3 and Python; run by scripts/test"]
async fn what_travels_is_what_the_contract_says() {
    let fleet = Fleet::new(Kind::Real, |_| ()).await;
    let prefix = fleet.config.queue.prefix.clone();
    let connection = lapin::Connection::connect(&fleet.config.queue.urls[0], lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("watch".into(), exclusive, FieldTable::default()).await.unwrap();
    let mut bindings = vec![(format!("{prefix}.events"), "#")];
    bindings.extend(Lane::ALL.map(|lane| (format!("{prefix}.jobs"), lane.as_str())));
    for (exchange, key) in bindings {
        let bound =
            channel.queue_bind("watch".into(), exchange.as_str().into(), key.into(), QueueBindOptions::default(), FieldTable::default());
        bound.await.unwrap();
    }
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut watching = channel.basic_consume("watch".into(), "".into(), options, FieldTable::default()).await.unwrap();

    // Every way that a job can go: accepted, rejected, put off and parked.
    let worker = fleet.worker();
    let clean = fleet.command().args(["submit", "fixtures/dossiers/lgc-clean"]).stdout(Stdio::null()).output().unwrap();
    assert_eq!(clean.status.code(), Some(0), "{}", String::from_utf8_lossy(&clean.stderr));
    // The same with a vendor's mistakes: a picture with the wrong name, and a proof left out.
    let record = fleet.records("received/").await.into_values().next().unwrap();
    let mut mistaken: Submission = serde_json::from_value(record["submission"].clone()).unwrap();
    mistaken.candidature.number = "QWHTRVBNZA".into();
    mistaken.items.pop();
    if let Content::File(file) = &mut mistaken.items[1].content {
        file.name = "capture.pdf".into();
    }
    fleet.submit(Lane::Submission, &mistaken).await.outcome(&worker).await;
    fleet.submit(Lane::Replay, &honest(&fleet, 4).await).await.end(Some(&worker)).await;

    let mut seen = Vec::new();
    let mut missing: BTreeSet<&str> = TYPES.into_iter().chain([SUBMISSION_REQUESTED]).collect();
    while !missing.is_empty() {
        let next = tokio::time::timeout(PATIENCE, watching.next()).await;
        let delivery = next.unwrap_or_else(|_| panic!("never seen: {missing:?}")).unwrap().unwrap();
        let one = look(&delivery);
        missing.remove(one.properties["type"].as_str().unwrap_or_default());
        seen.push(one);
    }

    let contract = Contract::read();
    let mut ids: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for one in &seen {
        let kind = one.properties["type"].as_str().unwrap();
        let message = contract.message(kind);
        contract.validate(&message["headers"], &one.headers, kind);
        contract.validate(&message["x-amqp-properties"], &one.properties, kind);
        contract.validate(&message["payload"], &one.body, kind);
        assert_eq!(one.headers["cloudEvents:type"], kind);
        assert_eq!(one.headers["cloudEvents:id"], one.properties["message_id"]);
        if kind == SUBMISSION_REQUESTED {
            assert_eq!(one.exchange, format!("{prefix}.jobs"));
            assert!(Lane::ALL.iter().any(|l| l.as_str() == one.routing_key), "{}", one.routing_key);
        } else {
            assert_eq!((one.exchange.as_str(), one.routing_key.as_str()), (format!("{prefix}.events").as_str(), kind));
            // What an upload service relies on to skip duplicates.
            let body = serde_json::to_vec(&one.body).unwrap();
            let id = one.headers["cloudEvents:id"].as_str().unwrap().to_owned();
            assert_eq!(ids.entry(id).or_insert_with(|| body.clone()), &body, "two events with one id");
        }
    }
    let received = fleet.records("received/").await;
    assert_eq!(received.len(), 3);
    for record in received.values() {
        contract.validate(&json!({"$ref": "./schemas/received.json"}), record, "received");
    }

    if std::env::var_os("GREFFIER_WRITE_EXAMPLES").is_some() {
        let first = |kind: &str, fits: &dyn Fn(&Value) -> bool| {
            seen.iter()
                .find(|s| s.properties["type"] == kind && fits(&s.body))
                .unwrap_or_else(|| panic!("no example of {kind}"))
                .body
                .clone()
        };
        let any = |_: &Value| true;
        for (file, example) in [
            ("submission.json", first(SUBMISSION_REQUESTED, &any)),
            ("submission-received.json", first(TYPES[0], &any)),
            ("item-checked.json", first(ITEM_CHECKED, &|body| body["verdict"] == "rejected")),
            ("submission-delayed.json", first(TYPES[2], &any)),
            ("bundle-ready.json", first(BUNDLE_READY, &any)),
            ("submission-rejected.json", first(SUBMISSION_REJECTED, &any)),
            ("submission-parked.json", first(SUBMISSION_PARKED, &any)),
            ("received.json", received.values().find(|r| r["candidature"] == "QWHTRVBNZP").unwrap().clone()),
        ] {
            let text = serde_json::to_string_pretty(&example).unwrap() + "\n";
            std::fs::create_dir_all(root().join("docs/examples")).unwrap();
            std::fs::write(root().join("docs/examples").join(file), text).unwrap();
        }
    }
}

fn look(delivery: &lapin::message::Delivery) -> Seen {
    let properties = &delivery.properties;
    let mut plain = serde_json::Map::new();
    for (name, value) in [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
    ] {
        if let Some(value) = value {
            plain.insert(name.into(), value.as_str().into());
        }
    }
    if let Some(mode) = properties.delivery_mode() {
        plain.insert("delivery_mode".into(), (*mode).into());
    }
    if let Some(timestamp) = properties.timestamp() {
        plain.insert("timestamp".into(), (*timestamp).into());
    }
    let headers = properties.headers().iter().flat_map(|table| table.inner().iter());
    let headers = headers.map(|(name, value)| match value {
        AMQPValue::LongString(text) => (name.as_str().to_owned(), String::from_utf8(text.as_bytes().to_vec()).unwrap().into()),
        other => (name.as_str().to_owned(), json!(format!("{other:?}"))),
    });
    Seen {
        exchange: delivery.exchange.as_str().to_owned(),
        routing_key: delivery.routing_key.as_str().to_owned(),
        headers: Value::Object(headers.collect()),
        properties: Value::Object(plain),
        body: serde_json::from_slice(&delivery.data).unwrap(),
    }
}
