//! `greffier queue`, as operators use it: the real binary beside an open queue.

use std::process::Output;

use greffier::model::message::{Envelope, Lane, ParkReason};
use greffier::queue::Place;
use greffier::queue::config::QueueKind;
use serde_json::Value;

use super::{Bench, job, next};
use crate::support::{command, stdout};

/// Runs `greffier queue …` on the bench's queue.
fn run(bench: &Bench, arguments: &[&str]) -> Output {
    let mut command = command();
    match bench.config.kind {
        QueueKind::Embedded => command.env("GREFFIER_QUEUE__PATH", &bench.config.path),
        QueueKind::Amqp => command
            .env("GREFFIER_QUEUE__KIND", "amqp")
            .env("GREFFIER_WORKER__JOB_SECONDS", "600")
            .env("GREFFIER_QUEUE__URLS", serde_json::json!(bench.config.urls).to_string())
            .env("GREFFIER_QUEUE__PREFIX", &bench.config.prefix)
            .env("GREFFIER_QUEUE__RETRY_DELAYS_SECONDS", "[1, 2]"),
    };
    command.args(["--lang", "fr", "queue"]).args(arguments).output().expect("the binary runs")
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|l| serde_json::from_str(l).expect("one JSON object a line")).collect()
}

async fn operators_see_and_mend(bench: &Bench) {
    let queue = bench.open().await;
    let hostile = Envelope { subject: Some("\u{1b}]0;owned\u{7}\u{202e}txt".to_owned()), ..job("bad", Some("C-1")) };
    queue.enqueue(Lane::Submission, &hostile).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    next(&mut consumer).await.settle.park(&ParkReason::new("JOB-MALFORMED", "no stage")).await.expect("parked");
    consumer.stop().await;
    drop(consumer);
    queue.enqueue(Lane::Submission, &job("waits", None)).await.expect("enqueued");

    let status = run(bench, &["status", "--json"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let status = &lines(&status)[0];
    let places = status["places"].as_array().expect("places");
    let of = |word: &str| places.iter().find(|p| p["place"] == word).expect("a place")["ready"].as_u64();
    assert_eq!((of("parked"), of("submission"), of("retry-replay"), of("events")), (Some(1), Some(1), Some(0), Some(0)));
    assert!(!status.to_string().contains("guest"), "no credentials: {status}");
    let table = stdout(&run(bench, &["status"]));
    assert!(table.contains("en attente") && table.lines().count() == 9, "{table}");

    let peeked = run(bench, &["peek", "parked"]);
    let shown = stdout(&peeked);
    assert!(shown.contains("JOB-MALFORMED") && shown.contains("no stage") && shown.contains("C-1"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "safe for a terminal: {shown:?}");
    let peeked = &lines(&run(bench, &["peek", "parked", "--json"]))[0];
    assert_eq!((&peeked["id"], &peeked["reason"]["code"], &peeked["lane"]), (&"bad".into(), &"JOB-MALFORMED".into(), &"submission".into()));
    assert!(peeked.get("body").is_none(), "bodies are asked for");
    let peeked = &lines(&run(bench, &["peek", "parked", "--json", "--body"]))[0];
    assert_eq!(peeked["body"]["job"], "bad");

    assert_eq!(run(bench, &["park", "submission", "none", "--reason", "x"]).status.code(), Some(1), "not there");
    assert_eq!(run(bench, &["park", "submission", "waits", "--reason", "x"]).status.code(), Some(0));
    assert_eq!(run(bench, &["requeue", "none"]).status.code(), Some(1), "not there");
    assert_eq!(run(bench, &["requeue"]).status.code(), Some(2), "which?");
    let requeued = run(bench, &["requeue", "bad", "--json"]);
    assert_eq!((requeued.status.code(), lines(&requeued)[0]["requeued"].as_u64()), (Some(0), Some(1)));

    let kept = run(bench, &["purge", "parked"]);
    assert_eq!(kept.status.code(), Some(2), "not without --yes");
    assert_eq!(queue.peek(Place::Parked, 10).await.expect("seen").len(), 1);
    assert_eq!(run(bench, &["purge", "parked", "--yes"]).status.code(), Some(0));
    assert_eq!(queue.peek(Place::Parked, 10).await.expect("seen").len(), 0);
    assert_eq!(run(bench, &["purge", "everything", "--yes"]).status.code(), Some(2), "no such place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_and_mend_a_file() {
    operators_see_and_mend(&Bench::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ; run by scripts/test"]
async fn operators_see_and_mend_a_broker() {
    operators_see_and_mend(&Bench::amqp()).await;
}

#[test]
fn a_broker_that_is_away_is_exit_code_3_and_no_secret_is_shown() {
    let mut command = command();
    command.env("GREFFIER_QUEUE__KIND", "amqp").env("GREFFIER_QUEUE__CONNECT_TIMEOUT_MS", "300");
    command.env("GREFFIER_WORKER__JOB_SECONDS", "600");
    command.env("GREFFIER_QUEUE__URLS", r#"["amqp://someone:hunter2@127.0.0.1:1/%2f"]"#);
    let output = command.args(["queue", "status"]).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("QUEUE-UNAVAILABLE") && said.contains("127.0.0.1:1") && !said.contains("hunter2"), "{said}");
}
