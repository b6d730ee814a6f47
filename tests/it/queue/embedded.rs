//! The queue in a file: what it promises besides.

use std::collections::BTreeMap;
use std::sync::Arc;

use greffier::model::message::Lane;
use greffier::queue::config::QueueConfig;
use greffier::queue::{self, Place, Queue, QueueError};

use super::conformance::suite;
use super::{A_WHILE, Bench, PATIENCE, job, next};

suite!(crate::queue::Bench::embedded());

#[tokio::test]
async fn candidatures_take_turns() {
    let bench = Bench::embedded();
    let queue = bench.open().await;
    for n in 0..6 {
        queue.enqueue(Lane::Submission, &job(&format!("big-{n}"), Some("big"))).await.expect("enqueued");
    }
    queue.enqueue(Lane::Submission, &job("small-0", Some("small"))).await.expect("enqueued");
    queue.enqueue(Lane::Submission, &job("other-0", Some("other"))).await.expect("enqueued");
    queue.enqueue(Lane::Submission, &job("small-1", Some("small"))).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    let mut order = Vec::new();
    for _ in 0..6 {
        let delivery = next(&mut consumer).await;
        order.push(delivery.message.id.clone());
        delivery.settle.ack().await.expect("acknowledged");
    }
    assert_eq!(order, ["big-0", "small-0", "other-0", "big-1", "small-1", "big-2"]);
}

#[tokio::test]
async fn no_candidature_takes_every_hand() {
    let bench = Bench::embedded();
    let queue = bench.open().await;
    for n in 0..6 {
        queue.enqueue(Lane::Submission, &job(&format!("big-{n}"), Some("big"))).await.expect("enqueued");
    }
    let mut consumer = queue.consume(Lane::Submission, 4).await.expect("consumes");
    let mut held = vec![next(&mut consumer).await, next(&mut consumer).await];
    for n in 0..2 {
        queue.enqueue(Lane::Submission, &job(&format!("small-{n}"), Some("small"))).await.expect("enqueued");
    }
    held.push(next(&mut consumer).await);
    held.push(next(&mut consumer).await);
    let mut by = BTreeMap::new();
    for delivery in &held {
        *by.entry(delivery.message.candidature.clone().unwrap_or_default()).or_insert(0) += 1;
    }
    assert_eq!(by, BTreeMap::from([("big".to_owned(), 2), ("small".to_owned(), 2)]));
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_it_is_held() {
    let bench = Bench::embedded();
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    let held = next(&mut consumer).await;
    let mut other = bench.open().await.consume(Lane::Submission, 1).await.expect("consumes");
    let longer = std::time::Duration::from_secs(bench.config.lease_seconds + 2);
    assert!(tokio::time::timeout(longer, other.next()).await.is_err(), "it is in hand");
    held.settle.ack().await.expect("still ours");
}

#[tokio::test]
async fn a_lease_that_somebody_else_has_is_lost() {
    let bench = Bench::embedded();
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    let slow = next(&mut consumer).await;
    // As if this process had slept through its lease.
    let file = rusqlite::Connection::open(&bench.config.path).expect("opens");
    file.execute("UPDATE jobs SET lease_until = 0", []).expect("changed");
    let mut other = bench.open().await.consume(Lane::Submission, 1).await.expect("consumes");
    let taken = next(&mut other).await;
    assert_eq!(taken.redelivered, 1);
    let late = slow.settle.ack().await.expect_err("somebody else has it");
    assert!(matches!(late, QueueError::Lost { .. }) && !late.is_transient(), "{late}");
    taken.settle.ack().await.expect("theirs");
}

#[tokio::test]
async fn files_that_are_not_ours_are_refused_and_left_alone() {
    let bench = Bench::embedded();
    let refused = async |what: &str| {
        let opened = queue::open(&bench.config).await;
        let error = opened.err().unwrap_or_else(|| panic!("{what} was opened"));
        assert!(matches!(error, QueueError::Refused { .. }), "{what}: {error}");
        error.to_string()
    };
    std::fs::write(&bench.config.path, b"This is a letter, and no database at all; it is long enough to be read as one.".repeat(50))
        .expect("written");
    assert!(refused("a letter").await.contains("no queue"));
    std::fs::remove_file(&bench.config.path).expect("removed");
    let other = rusqlite::Connection::open(&bench.config.path).expect("opens");
    other.execute_batch("CREATE TABLE bookmarks (url TEXT)").expect("made");
    drop(other);
    assert!(refused("another program's").await.contains("another program"));
    std::fs::remove_file(&bench.config.path).expect("removed");
    drop(bench.open().await);
    let ours = rusqlite::Connection::open(&bench.config.path).expect("opens");
    ours.pragma_update(None, "user_version", 99).expect("changed");
    drop(ours);
    let said = refused("a newer one").await;
    assert!(said.contains("schema 99"), "{said}");
}

#[tokio::test]
async fn a_file_that_is_locked_too_long_is_unavailable_and_then_available() {
    let bench = Bench::embedded();
    let queue = bench.open().await;
    let other = rusqlite::Connection::open(&bench.config.path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let error = queue.enqueue(Lane::Submission, &job("a", None)).await.expect_err("somebody writes");
    assert!(error.is_transient(), "{error}");
    assert!(matches!(&*queue.health().borrow(), greffier::queue::Health::Down(why) if why.contains("another process")));
    other.execute_batch("ROLLBACK").expect("unlocked");
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    assert_eq!(*queue.health().borrow(), greffier::queue::Health::Up);
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let config = QueueConfig { path: folder.path().join("deep/er/queue.sqlite"), ..QueueConfig::default() };
    let queue = queue::open(&config).await.expect("opens");
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    for name in ["", "-wal", "-shm"] {
        let path = format!("{}{name}", config.path.display());
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path} is {mode:o}");
    }
}

#[tokio::test]
async fn waiting_in_vain_leaks_no_lease() {
    let mut bench = Bench::embedded();
    // One that leaked would not end while we wait.
    bench.config.lease_seconds = 3_600;
    let queue = bench.open().await;
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    // Given up at every possible moment: wherever the lease was by then, the job must come again.
    for microseconds in (0..2000).step_by(10) {
        drop(tokio::time::timeout(std::time::Duration::from_micros(microseconds), consumer.next()).await);
    }
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message.id, "a");
    delivery.settle.ack().await.expect("acknowledged");
}

/// Polls until it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A queue with events told that many days before now, opened again with `keep` and swept once; `copies`: of the first event.
async fn swept(keep: u32, days: &[i64], copies: u32) -> (Bench, Arc<dyn Queue>) {
    let mut bench = Bench::embedded();
    let before = bench.open().await;
    let replies = before.replies().await.expect("a box for replies");
    for day in days {
        before.announce(&job(&format!("{day} days"), None)).await.expect("told");
    }
    before.close().await;
    let file = rusqlite::Connection::open(&bench.config.path).expect("the file");
    let now = jiff::Timestamp::now().as_millisecond();
    for day in days {
        // A minute on the older side, so that the day is over.
        let at = now - day * 24 * 3600 * 1000 - 60_000;
        assert_eq!(file.execute("UPDATE events SET at = ?1 WHERE id = ?2", rusqlite::params![at, format!("{day} days")]), Ok(1));
    }
    let copy = "INSERT INTO events (seq, at, id, kind, source, content_type, body)
                WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
                SELECT -n, at, 'copy-' || n, kind, source, content_type, body FROM n, events WHERE seq = (SELECT MIN(seq) FROM events) AND n > 0";
    assert_eq!(file.execute(copy, [copies]), Ok(copies as usize));
    // The same sweep looks at boxes that nobody has looked into for long: it shows that it was there.
    assert_eq!(file.execute("UPDATE mailboxes SET seen_at = 0", []), Ok(1));
    bench.config.events_keep_days = keep;
    let queue = bench.open().await;
    let boxes = || file.query_row("SELECT COUNT(*) FROM mailboxes", [], |r| r.get::<_, i64>(0)).expect("counted");
    until("swept", async || boxes() == 0).await;
    drop(replies);
    (bench, queue)
}

async fn events(queue: &Arc<dyn Queue>) -> Vec<String> {
    queue.peek(Place::Events, 10_000).await.expect("looked at").into_iter().map(|waiting| waiting.message.id).collect()
}

/// One test, as what is counted is of the process.
#[tokio::test]
async fn events_that_nobody_took_are_kept_for_as_long_as_is_asked_and_for_ever_by_default() {
    let (_bench, queue) = swept(0, &[400, 3, 0], 0).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(events(&queue).await, ["400 days", "3 days", "0 days"]);
    assert_eq!(queue::events_expired().get(), 0);

    let (_bench, queue) = swept(3, &[400, 3, 2, 0], 0).await;
    until("deleted and counted", async || queue::events_expired().get() == 2).await;
    assert_eq!(events(&queue).await, ["2 days", "0 days"]);

    // More than are deleted at once.
    let (_bench, queue) = swept(1, &[9, 0], 1_200).await;
    until("all deleted and counted", async || queue::events_expired().get() == 2 + 1_201).await;
    assert_eq!(events(&queue).await, ["0 days"]);
}
