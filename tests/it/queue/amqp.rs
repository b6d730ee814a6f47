//! The queue in a broker: what it promises besides. Needs a RabbitMQ at `GREFFIER_TEST_AMQP`.

use std::sync::Arc;
use std::time::Duration;

use greffier::model::message::{Envelope, Lane, ParkReason};
use greffier::queue::amqp::wire;
use greffier::queue::config::QueueConfig;
use greffier::queue::{self, Health, Place, Queue, QueueError, Replies};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use proptest::prelude::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::conformance::suite;
use super::{Bench, PATIENCE, job, next};

suite! { with [ignore = "needs RabbitMQ; run by scripts/test"] crate::queue::Bench::amqp() }

/// Deletes what a test declared: every name is known.
pub fn remove_all(config: &QueueConfig) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let p = &config.prefix;
    let mut queues = vec![format!("{p}.parked"), format!("{p}.events")];
    for lane in Lane::ALL {
        queues.push(format!("{p}.jobs.{lane}"));
        let seconds = config.retry_delays_seconds.iter().copied().chain([1, 2, 3]);
        queues.extend(seconds.map(|s| format!("{p}.retry.{lane}.{s}s")));
    }
    runtime.block_on(async {
        let Ok(connection) = Connection::connect(&broker(), ConnectionProperties::default()).await else { return };
        let Ok(channel) = connection.create_channel().await else { return };
        for queue in queues {
            let _ = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
        }
        for exchange in ["jobs", "retry", "parked", "events"] {
            let _ = channel.exchange_delete(format!("{p}.{exchange}").as_str().into(), ExchangeDeleteOptions::default()).await;
        }
        let _ = connection.close(200, "bye".into()).await;
    });
}

fn broker() -> String {
    std::env::var("GREFFIER_TEST_AMQP").expect("no broker in GREFFIER_TEST_AMQP: run ./scripts/test")
}

/// A client that is not ours.
async fn stranger() -> (Connection, Channel) {
    let connection = Connection::connect(&broker(), ConnectionProperties::default()).await.expect("connects");
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    (connection, channel)
}

async fn publish(channel: &Channel, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) {
    let sent = channel.basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), body, properties).await;
    let confirmed = sent.expect("published").await.expect("confirmed");
    assert!(confirmed.is_ack(), "{confirmed:?}");
}

/// A wire between queue and broker that can be cut.
struct Wire {
    url: String,
    up: watch::Sender<bool>,
}

impl Wire {
    async fn new() -> Self {
        let url = url::Url::parse(&broker()).expect("a URL");
        let target = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5672));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let up = watch::Sender::new(true);
        let state = up.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (target, mut state) = (target.clone(), state.clone());
                tokio::spawn(async move {
                    if !*state.borrow_and_update() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|up| !*up) => {}
                    }
                });
            }
        });
        let mut cut = url;
        cut.set_host(Some("127.0.0.1")).expect("a host");
        cut.set_port(Some(port)).expect("a port");
        Self { url: cut.to_string(), up }
    }

    fn bench(&self) -> Bench {
        let mut bench = Bench::amqp();
        // The first broker of the list is not there.
        bench.config.urls = vec!["amqp://guest:guest@127.0.0.1:1/%2f".to_owned(), self.url.clone()];
        bench
    }
}

async fn becomes(queue: &Arc<dyn Queue>, up: bool) {
    let mut health = queue.health();
    let changed = health.wait_for(|h| (*h == Health::Up) == up);
    tokio::time::timeout(PATIENCE, changed).await.expect("health follows").expect("known");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn a_lost_connection_is_waited_out() {
    let wire = Wire::new().await;
    let bench = wire.bench();
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    let mut replies = queue.replies().await.expect("a box");
    let held = next(&mut consumer).await;
    wire.up.send_replace(false);
    becomes(&queue, false).await;
    let late = held.settle.ack().await.expect_err("its channel is gone");
    assert!(matches!(late, QueueError::Lost { .. }), "{late}");
    let out = queue.enqueue(Lane::Submission, &job("b", None)).await.expect_err("nobody is there");
    assert!(out.is_transient(), "{out}");
    assert!(!out.to_string().contains("guest"), "no credentials: {out}");
    let lost = tokio::time::timeout(PATIENCE, replies.next()).await.expect("told").expect_err("replies may be lost");
    assert!(lost.is_transient(), "{lost}");
    // A consumer that is asked meanwhile waits.
    let waiting = tokio::spawn(async move {
        let delivery = next(&mut consumer).await;
        (consumer, delivery)
    });
    wire.up.send_replace(true);
    becomes(&queue, true).await;
    let (mut consumer, again) = waiting.await.expect("it goes on");
    assert_eq!((again.message.id.as_str(), again.redelivered), ("a", 1));
    again.settle.ack().await.expect("acknowledged");
    queue.enqueue(Lane::Submission, &job("c", None)).await.expect("enqueued");
    assert_eq!(next(&mut consumer).await.message.id, "c");
    assert_eq!(told(&queue, replies).await.id, "e");
    queue.close().await;
}

/// What comes when an event `e` is told to this box. It is made again when it is asked for; until then an event passes it by.
async fn told(queue: &Arc<dyn Queue>, mut replies: Box<dyn Replies>) -> Envelope {
    let told = Envelope { reply_to: Some(replies.address()), ..job("e", None) };
    let mut listening = tokio::spawn(async move { replies.next().await });
    let reply = tokio::time::timeout(PATIENCE, async {
        loop {
            queue.announce(&told).await.expect("announced");
            if let Ok(reply) = tokio::time::timeout(Duration::from_millis(300), &mut listening).await {
                return reply.expect("it listens");
            }
        }
    });
    reply.await.expect("it comes").expect("it is read")
}

/// A worker that waits for a job also waits for other things, and gives this up whenever one of them comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn waiting_in_vain_leaves_no_consumer_behind() {
    let wire = Wire::new().await;
    let bench = wire.bench();
    let queue = bench.open().await;
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    let mut replies = queue.replies().await.expect("a box");
    wire.up.send_replace(false);
    becomes(&queue, false).await;
    assert!(replies.next().await.is_err(), "it is told that replies may be lost");
    // It finds out, and has to begin anew.
    drop(tokio::time::timeout(Duration::from_millis(1), consumer.next()).await);
    wire.up.send_replace(true);
    becomes(&queue, true).await;
    // Given up at every possible moment of that: after a tenth of a millisecond first, and each time a little later.
    let mut moment = 0.000_1;
    while moment < 0.2 {
        drop(tokio::time::timeout(Duration::from_secs_f64(moment), consumer.next()).await);
        drop(tokio::time::timeout(Duration::from_secs_f64(moment), replies.next()).await);
        moment *= 1.05;
    }
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message.id, "a");
    let depths = queue.status().await.expect("counted");
    let lane = depths.iter().find(|depth| depth.place == Place::Lane(Lane::Submission)).expect("the lane");
    assert_eq!(lane.consumers, Some(1), "another would take jobs that nobody sees");
    delivery.settle.ack().await.expect("acknowledged");
    assert_eq!(told(&queue, replies).await.id, "e");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn a_job_that_nobody_would_receive_is_an_error() {
    let bench = Bench::amqp();
    let unprepared = queue::open(&bench.config).await.expect("opens");
    let error = unprepared.enqueue(Lane::Submission, &job("a", None)).await.expect_err("nothing is declared");
    assert!(matches!(error, QueueError::Unroutable { .. }), "{error}");
    let queue = bench.open().await;
    let (_connection, channel) = stranger().await;
    let name = format!("{}.jobs.replay", bench.config.prefix);
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    let error = queue.enqueue(Lane::Replay, &job("a", None)).await.expect_err("its queue is gone");
    assert!(matches!(error, QueueError::Unroutable { .. }), "{error}");
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("other lanes go on");
    // And at once, many: each gets its own answer.
    let tries = (0..40).map(|n| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move {
            let lane = if n % 2 == 0 { Lane::Submission } else { Lane::Replay };
            (n % 2 == 0, queue.enqueue(lane, &job(&n.to_string(), None)).await)
        })
    });
    for tried in tries.collect::<Vec<_>>() {
        let (routable, answer) = tried.await.expect("it ends");
        assert_eq!(answer.is_ok(), routable, "{answer:?}");
    }
    let consumed = queue.consume(Lane::Replay, 1).await;
    assert!(matches!(consumed.err(), Some(QueueError::Refused { .. })), "no consumer of a queue that is not there");
    let counted = queue.status().await.expect_err("a queue is missing");
    assert!(counted.to_string().contains(&name), "{counted}");
    for probe in queue.prepare().await.expect("declared again") {
        assert!(probe.ok, "{probe:?}");
    }
    queue.enqueue(Lane::Replay, &job("a", None)).await.expect("enqueued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn a_queue_declared_otherwise_is_refused_by_name() {
    let bench = Bench::amqp();
    let (_connection, channel) = stranger().await;
    let name = format!("{}.jobs.submission", bench.config.prefix);
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await.expect("a classic queue");
    let queue = queue::open(&bench.config).await.expect("opens");
    let error = queue.prepare().await.expect_err("it is a classic queue");
    assert!(matches!(error, QueueError::Refused { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains(&name) && said.contains("inequivalent arg") && said.contains("delete_queue"), "{said}");
    // The connection stands: mended, it goes on.
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    queue.prepare().await.expect("mended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn wrong_credentials_are_refused_and_never_shown() {
    let mut bench = Bench::amqp();
    let mut url = url::Url::parse(&broker()).expect("a URL");
    url.set_username("nobody").expect("a name");
    url.set_password(Some("hunter2-secret")).expect("a password");
    bench.config.urls = vec![url.to_string()];
    let queue = queue::open(&bench.config).await.expect("opens");
    becomes(&queue, false).await;
    let error = queue.prepare().await.expect_err("nobody");
    assert!(matches!(error, QueueError::Refused { .. }), "{error:?}");
    let shown = format!("{error} {error:?} {queue:?} {} {:?}", queue.name(), queue.health().borrow());
    assert!(!shown.contains("hunter2") && shown.contains("ACCESS_REFUSED"), "{shown}");
    bench.config.urls = vec!["http://nobody:hunter2-secret@127.0.0.1/".to_owned()];
    let error = queue::open(&bench.config).await.expect_err("no broker's URL");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("queue.urls[0]") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn garbage_is_handed_out_and_parked_whole() {
    let bench = Bench::amqp();
    let queue = bench.open().await;
    let (_connection, channel) = stranger().await;
    let exchange = format!("{}.jobs", bench.config.prefix);
    let text = |s: &str| AMQPValue::LongString(s.into());
    let headers = |pairs: Vec<(&str, AMQPValue)>| {
        let mut table = FieldTable::default();
        for (name, value) in pairs {
            table.insert(ShortString::from(name), value);
        }
        BasicProperties::default().with_headers(table)
    };
    let nested = (0..50).fold(AMQPValue::Boolean(true), |inner, _| AMQPValue::FieldArray(vec![inner].into()));
    let garbage = vec![
        BasicProperties::default(),
        headers(vec![("cloudEvents:id", AMQPValue::LongString(vec![0xff, 0xfe, 0].into()))]),
        headers(vec![
            ("cloudEvents:id", AMQPValue::LongLongInt(7)),
            ("cloudEvents:type", AMQPValue::Boolean(true)),
            ("cloudEvents:time", text("yesterday")),
        ]),
        headers(vec![("x-greffier-attempt", text("many")), ("x-greffier-lane", text("express")), ("x-death", text("no array"))]),
        headers(vec![("x-greffier-attempt", AMQPValue::LongLongInt(-1)), ("x-delivery-count", AMQPValue::LongLongInt(i64::MAX))]),
        headers(vec![("huge", text(&"h".repeat(100_000)))]),
        headers(vec![("deep", nested)]),
        // What would send or throw away the copy.
        headers(vec![
            ("CC", AMQPValue::FieldArray(vec![text("elsewhere")].into())),
            ("BCC", AMQPValue::FieldArray(vec![text("elsewhere")].into())),
        ])
        .with_expiration("60000".into())
        .with_user_id("guest".into()),
        BasicProperties::default().with_content_type("application/cloudevents+json".into()),
    ];
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    for (n, properties) in garbage.into_iter().enumerate() {
        let body = format!("garbage {n} \u{0}").into_bytes();
        publish(&channel, &exchange, "submission", properties, &body).await;
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.message.id.as_str(), delivery.message.kind.as_str()), ("", ""), "{n}");
        assert_eq!(delivery.message.body, body, "{n}");
        assert_eq!(delivery.message.time, None, "{n}");
        delivery.settle.retry(&ParkReason::new("X", "")).await.unwrap_or_else(|e| panic!("{n}: {e}"));
        let delivery = next(&mut consumer).await;
        delivery.settle.park(&ParkReason::new("JOB-MALFORMED", "no id")).await.unwrap_or_else(|e| panic!("{n}: {e}"));
        let parked = queue.peek(Place::Parked, 10).await.expect("seen");
        assert_eq!(parked.len(), 1, "{n}");
        assert_eq!((&parked[0].message.body, parked[0].lane), (&body, Some(Lane::Submission)), "{n}");
        assert_eq!(parked[0].reason, Some(ParkReason::new("JOB-MALFORMED", "no id")), "{n}");
        assert_eq!(queue.purge(Place::Parked).await.expect("purged"), 1, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn other_senders_ways_are_read() {
    let bench = Bench::amqp();
    let queue = bench.open().await;
    let (_connection, channel) = stranger().await;
    let exchange = format!("{}.jobs", bench.config.prefix);
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    for prefix in ["cloudEvents_", "ce-", "cloudEvents:"] {
        let mut table = FieldTable::default();
        for (name, value) in [("id", "1"), ("type", "t"), ("source", "/s"), ("candidature", "C"), ("time", "2026-01-02T03:04:05Z")] {
            table.insert(ShortString::from(format!("{prefix}{name}")), AMQPValue::LongString(value.into()));
        }
        publish(&channel, &exchange, "submission", BasicProperties::default().with_headers(table), b"{}").await;
        let delivery = next(&mut consumer).await;
        let Envelope { id, kind, source, candidature, time, .. } = &delivery.message;
        assert_eq!((id.as_str(), kind.as_str(), source.as_str(), candidature.as_deref()), ("1", "t", "/s", Some("C")), "{prefix}");
        assert_eq!(time.map(|t| t.to_string()).as_deref(), Some("2026-01-02T03:04:05Z"));
        delivery.settle.ack().await.expect("acknowledged");
    }
    let plain = BasicProperties::default()
        .with_message_id("2".into())
        .with_type("t".into())
        .with_app_id("them".into())
        .with_timestamp(1_767_322_800)
        .with_content_type("application/json".into())
        .with_correlation_id("c".into())
        .with_reply_to("r".into());
    publish(&channel, &exchange, "submission", plain, b"{}").await;
    let delivery = next(&mut consumer).await;
    let Envelope { id, kind, source, correlation_id, reply_to, time, .. } = &delivery.message;
    assert_eq!((id.as_str(), kind.as_str(), source.as_str()), ("2", "t", "them"));
    assert_eq!((correlation_id.as_deref(), reply_to.as_deref(), time.map(|t| t.as_second())), (Some("c"), Some("r"), Some(1_767_322_800)));
    delivery.settle.ack().await.expect("acknowledged");
    let whole =
        br#"{"specversion":"1.0","id":"3","type":"t","source":"/s","subject":"x","data":{"a":1},"datacontenttype":"application/json"}"#;
    let structured = BasicProperties::default().with_content_type("application/cloudevents+json; charset=utf-8".into());
    publish(&channel, &exchange, "submission", structured, whole).await;
    let delivery = next(&mut consumer).await;
    assert_eq!((delivery.message.id.as_str(), delivery.message.content_type.as_str()), ("3", "application/json"));
    assert_eq!(delivery.message.body, br#"{"a":1}"#);
    delivery.settle.ack().await.expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn what_the_broker_parks_itself_says_so_and_can_be_requeued() {
    let bench = Bench::amqp();
    let queue = bench.open().await;
    queue.enqueue(Lane::Interactive, &job("a", Some("1"))).await.expect("enqueued");
    let (_connection, channel) = stranger().await;
    let name = format!("{}.jobs.interactive", bench.config.prefix);
    // Worker after worker that takes it and never says a word.
    let mut deliveries = 0;
    for _ in 0..=bench.config.delivery_limit {
        let got = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(got) = channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await.expect("asked") {
                    return got;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let got = got.await.expect("it comes again");
        deliveries += 1;
        got.delivery.acker.nack(lapin::options::BasicNackOptions { requeue: true, multiple: false }).await.expect("given back");
    }
    assert_eq!(deliveries, bench.config.delivery_limit + 1, "a limit of N gives N + 1 deliveries");
    let parked = tokio::time::timeout(PATIENCE, async {
        loop {
            let parked = queue.peek(Place::Parked, 10).await.expect("seen");
            if !parked.is_empty() {
                return parked;
            }
        }
    });
    let parked = parked.await.expect("parked by the broker");
    assert_eq!((parked[0].message.clone(), parked[0].lane), (job("a", Some("1")), Some(Lane::Interactive)));
    assert_eq!(parked[0].reason.as_ref().map(|r| r.code.as_str()), Some("JOB-DELIVERY-LIMIT"));
    assert_eq!(queue.requeue(Some("a"), 1).await.expect("requeued"), 1);
    let mut consumer = queue.consume(Lane::Interactive, 1).await.expect("consumes");
    let again = next(&mut consumer).await;
    assert_eq!((again.message.id.as_str(), again.redelivered), ("a", 0));
    again.settle.ack().await.expect("acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn changed_delays_make_new_queues_and_the_old_ones_still_come_back() {
    let mut bench = Bench::amqp();
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    next(&mut consumer).await.settle.retry(&ParkReason::new("X", "")).await.expect("put back for later");
    queue.close().await;
    bench.config.retry_delays_seconds = vec![3];
    let changed = bench.open().await;
    assert_eq!(changed.retry_steps(), 1);
    let mut consumer = changed.consume(Lane::Submission, 1).await.expect("consumes");
    assert_eq!(next(&mut consumer).await.attempt, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn attributes_that_fit_no_frame_are_refused_and_the_connection_stands() {
    let bench = Bench::amqp();
    let queue = bench.open().await;
    let long = Envelope { subject: Some("s".repeat(200_000)), ..job("a", None) };
    let error = queue.enqueue(Lane::Submission, &long).await.expect_err("too long");
    assert!(matches!(error, QueueError::Refused { .. }), "{error}");
    queue.enqueue(Lane::Submission, &job("b", None)).await.expect("enqueued");
    // The longest that is taken comes through every way.
    let most = Envelope { subject: Some("s".repeat(wire::MAX_HEADERS - 2000)), ..job("c", None) };
    queue.enqueue(Lane::Replay, &most).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Replay, 1).await.expect("consumes");
    let delivery = next(&mut consumer).await;
    assert!(delivery.message == most);
    delivery.settle.park(&ParkReason::new("X", "y".repeat(100_000))).await.expect("parked");
    assert!(queue.peek(Place::Parked, 1).await.expect("seen")[0].message == most);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn what_is_declared_is_quorum_and_persistent() {
    let bench = Bench::amqp();
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let (_connection, channel) = stranger().await;
    let name = format!("{}.jobs.submission", bench.config.prefix);
    let got = channel.basic_get(name.as_str().into(), BasicGetOptions::default()).await.expect("asked").expect("it is there");
    assert_eq!(*got.delivery.properties.delivery_mode(), Some(2), "persistent");
    assert_eq!(got.delivery.properties.message_id().as_ref().map(ShortString::as_str), Some("a"));
    got.delivery.acker.ack(BasicAckOptions::default()).await.expect("acknowledged");
    let probes = queue.prepare().await.expect("prepared");
    let version = probes.iter().find(|p| p.name == "broker version").expect("a version");
    assert!(version.ok && version.detail.starts_with("RabbitMQ "), "{version:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever an envelope says, its properties say it too, also after it was handed on.
    #[test]
    fn an_envelope_survives_the_wire(
        words in prop::collection::vec("\\PC{0,300}", 4),
        options in prop::collection::vec(prop::option::of("(?s).{0,300}"), 5),
        time in prop::option::of((-62_000_000_000_i64..250_000_000_000, 0_i32..1_000_000_000)),
        body in prop::collection::vec(any::<u8>(), 0..200),
        attempt in any::<u32>(),
    ) {
        let [id, kind, source, content_type] = <[String; 4]>::try_from(words).expect("four");
        let [subject, correlation_id, reply_to, traceparent, candidature] = <[Option<String>; 5]>::try_from(options).expect("five");
        prop_assume!(!content_type.to_ascii_lowercase().starts_with("application/cloudevents+json"));
        let time = time.and_then(|(s, n)| jiff::Timestamp::new(s, n).ok());
        let sent = Envelope { id, kind, source, subject, time, content_type, correlation_id, reply_to, traceparent, candidature, body };
        let marks = wire::Marks { lane: Some(Lane::Replay), attempt, redelivered: 3, reason: Some(ParkReason::new("X", "y")), ..wire::Marks::default() };
        let first = wire::properties(&sent, &marks).expect("short enough");
        let none = |_: &str| None;
        prop_assert_eq!(wire::marks(&first, none), marks.clone());
        prop_assert_eq!(wire::envelope(&first, sent.body.clone()), sent.clone());
        let on = wire::forwarded(&first, &wire::Marks::default());
        prop_assert_eq!(wire::marks(&on, none), wire::Marks::default());
        prop_assert_eq!(wire::envelope(&on, sent.body.clone()), sent);
    }
}

/// In whichever form a sender names its trace, a job that is moved goes on in the one of whoever moved it.
#[test]
fn a_job_that_is_moved_goes_on_in_another_trace() {
    let named = |properties: BasicProperties, name: &'static str| {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), AMQPValue::LongString("its own".into()));
        properties.with_headers(headers)
    };
    let (binary, structured) =
        (BasicProperties::default(), BasicProperties::default().with_content_type("application/cloudevents+json".into()));
    let body = br#"{"specversion":"1.0","id":"1","traceparent":"its own","data":{}}"#.to_vec();
    let forms = [
        (named(binary.clone(), "cloudEvents:traceparent"), Vec::new()),
        (named(binary.clone(), "ce-traceparent"), Vec::new()),
        (named(binary, "traceparent"), Vec::new()),
        (structured, body),
    ];
    for (came, body) in forms {
        let read = |properties: &BasicProperties| wire::envelope(properties, body.clone()).traceparent.unwrap();
        assert_eq!(read(&came), "its own");
        assert_eq!(read(&wire::forwarded(&came, &wire::Marks::default())), "its own");
        let moved = wire::Marks { traceparent: Some("another".into()), ..wire::Marks::default() };
        assert_eq!(read(&wire::forwarded(&came, &moved)), "another", "{came:?}");
    }
}

/// `rabbitmqctl` of the broker that `scripts/services` started.
fn rabbitmqctl(arguments: &[&str]) -> String {
    let output = std::process::Command::new(crate::support::root().join("scripts/services"))
        .args(["ctl", "rabbit1", "--"])
        .args(arguments)
        .output()
        .expect("scripts/services runs");
    assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn a_policy_of_the_broker_ends_old_events_and_workers_start_as_before() {
    let mut bench = Bench::amqp();
    let queue = bench.open().await;
    let events = format!("{}.events", bench.config.prefix);
    // As we ship it, with the name of this test's queue and two seconds for its days.
    let shipped = std::fs::read(crate::support::root().join("deploy/rabbitmq/events-policy.json")).expect("deploy/rabbitmq");
    let shipped: serde_json::Value = serde_json::from_slice(&shipped).expect("JSON");
    let policy = &shipped["policies"][0];
    let mut definition = policy["definition"].clone();
    definition["message-ttl"] = 2_000.into();
    let pattern = policy["pattern"].as_str().expect("a pattern").replace("greffier", &bench.config.prefix);
    let apply_to = policy["apply-to"].as_str().expect("queues");
    rabbitmqctl(&["set_policy", &events, &pattern, &definition.to_string(), "--apply-to", apply_to]);
    let (connection, channel) = stranger().await;
    let own = format!("{}-own", bench.config.prefix);
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(own.as_str().into(), exclusive, FieldTable::default()).await.expect("declared");
    let (from, all) = (events.as_str().into(), "#".into());
    channel
        .queue_bind(own.as_str().into(), from, all, lapin::options::QueueBindOptions::default(), FieldTable::default())
        .await
        .expect("bound");

    // A second start declares the same queues under the policy.
    let again = bench.open().await;
    again.announce(&job("told", None)).await.expect("told");
    again.enqueue(Lane::Submission, &job("waits", None)).await.expect("enqueued");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !queue.peek(Place::Events, 10).await.expect("looked at").is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the event is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let theirs =
        channel.basic_get(own.as_str().into(), BasicGetOptions::default()).await.expect("asked").expect("a queue of their own keeps it");
    assert_eq!(theirs.delivery.properties.message_id().as_ref().map(ShortString::as_str), Some("told"));
    assert_eq!(queue.peek(Place::Lane(Lane::Submission), 10).await.expect("looked at").len(), 1, "only events end");
    assert!(queue.peek(Place::Parked, 10).await.expect("looked at").is_empty(), "and go nowhere");
    let _ = connection.close(200, "bye".into()).await;
    rabbitmqctl(&["clear_policy", &events]);
    // The file itself, as operators import it.
    let vhost = policy["vhost"].as_str().expect("a virtual host");
    rabbitmqctl(&["add_vhost", vhost]);
    rabbitmqctl(&["import_definitions", crate::support::root().join("deploy/rabbitmq/events-policy.json").to_str().expect("UTF-8")]);
    let listed = rabbitmqctl(&["list_policies", "-p", vhost, "--formatter", "json"]);
    rabbitmqctl(&["delete_vhost", vhost]);
    assert!(listed.contains(policy["name"].as_str().expect("a name")) && listed.contains("message-ttl"), "{listed}");
    bench.config.events_keep_days = 1;
    assert!(matches!(queue::open(&bench.config).await, Err(QueueError::Refused { .. })), "it would be ignored");
}
