//! What every fitting promises.

use std::collections::BTreeSet;
use std::time::Instant;

use greffier::model::message::{Envelope, Lane, ParkReason};
use greffier::queue::{Depth, Health, Place, Queue, QueueError};

use super::{Bench, PATIENCE, job, next, nothing};

/// Every test of the suite, for one way of making a bench; `with` names attributes of each test.
macro_rules! suite {
    (@each $attributes:tt $bench:expr; $($name:ident)*) => {
        $($crate::queue::conformance::suite! { @one $attributes $bench; $name })*
    };
    (@one [$($attribute:meta)*] $bench:expr; $name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $name() {
            let bench = $bench;
            $crate::queue::conformance::$name(&bench).await;
        }
    };
    (with [$($attribute:meta)*] $bench:expr) => {
        $crate::queue::conformance::suite! { @each [$($attribute)*] $bench;
            jobs_come_in_order_and_once_acknowledged_never_again
            the_window_bounds_what_is_in_hand
            a_released_job_comes_again_at_once
            a_job_dropped_in_a_panic_comes_again
            a_retried_job_comes_after_its_delay_with_its_attempt
            a_retried_job_is_seen_while_it_waits
            retries_end
            parked_jobs_are_seen_with_their_reason_and_requeued_without_their_past
            one_parked_job_is_requeued_by_its_id
            a_waiting_job_is_parked_and_the_others_stay
            looking_takes_nothing_and_counts_for_nothing
            purging_empties_one_place_only
            events_reach_the_listener_and_the_sender
            a_sender_that_is_gone_does_not_stop_an_event
            a_dead_worker_gives_its_jobs_back
            lanes_do_not_wait_for_one_another
            a_megabyte_and_hostile_words_survive_every_way
            a_stopped_consumer_gives_back_what_it_did_not_hand_out
            closing_gives_back_what_is_in_hand
            two_handles_share_the_work
            health_is_up_until_closed
            everything_is_durable
        }
    };
    ($bench:expr) => {
        $crate::queue::conformance::suite! { with [] $bench }
    };
}
pub(super) use suite;

pub async fn jobs_come_in_order_and_once_acknowledged_never_again(bench: &Bench) {
    let queue = bench.open().await;
    for id in ["a", "b", "c"] {
        queue.enqueue(Lane::Submission, &job(id, None)).await.expect("enqueued");
    }
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    for id in ["a", "b", "c"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message, job(id, None), "first in, first out, and whole");
        assert_eq!((delivery.lane, delivery.attempt, delivery.redelivered), (Lane::Submission, 0, 0));
        delivery.settle.ack().await.expect("acknowledged");
    }
    nothing(&mut consumer).await;
    assert_eq!(ready(&*queue, Place::Lane(Lane::Submission)).await, 0);
}

pub async fn the_window_bounds_what_is_in_hand(bench: &Bench) {
    let queue = bench.open().await;
    for id in ["a", "b", "c"] {
        queue.enqueue(Lane::Interactive, &job(id, None)).await.expect("enqueued");
    }
    let mut consumer = queue.consume(Lane::Interactive, 2).await.expect("consumes");
    let (first, _second) = (next(&mut consumer).await, next(&mut consumer).await);
    nothing(&mut consumer).await;
    first.settle.ack().await.expect("acknowledged");
    assert_eq!(next(&mut consumer).await.message.id, "c");
}

pub async fn a_released_job_comes_again_at_once(bench: &Bench) {
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", Some("1"))).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    // More often than what makes a worker park a job that crashes it, and than the broker's delivery limit.
    for _ in 0..10 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message, job("a", Some("1")));
        assert_eq!(delivery.attempt, 0, "given back is not tried");
        assert!(delivery.redelivered <= 2, "given back politely is not crashed: {}", delivery.redelivered);
        delivery.settle.release().await.expect("released");
    }
    next(&mut consumer).await.settle.ack().await.expect("acknowledged");
}

pub async fn a_job_dropped_in_a_panic_comes_again(bench: &Bench) {
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((again.message.id.as_str(), again.redelivered), ("a", 1));
    again.settle.ack().await.expect("acknowledged");
}

pub async fn a_retried_job_comes_after_its_delay_with_its_attempt(bench: &Bench) {
    let queue = bench.open().await;
    assert_eq!(queue.retry_steps(), 2);
    queue.enqueue(Lane::Submission, &job("a", Some("7"))).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    for (attempt, step) in [(1, 1.0), (2, 2.0)] {
        let delivery = next(&mut consumer).await;
        let began = Instant::now();
        let delay = delivery.settle.retry(&ParkReason::new("STORE-UNAVAILABLE", "the vault is away")).await.expect("put back for later");
        assert!(delay.as_secs_f64() <= step && delay.as_secs_f64() >= 0.8 * step, "jitter shortens by a fifth at most: {delay:?}");
        let again = next(&mut consumer).await;
        // The broker's clock began a moment before the answer came.
        assert!(began.elapsed() >= delay.mul_f64(0.95), "not before its delay: {:?} of {delay:?}", began.elapsed());
        assert_eq!((again.message.clone(), again.attempt), (job("a", Some("7")), attempt));
        again.settle.release().await.expect("released");
    }
}

pub async fn a_retried_job_is_seen_while_it_waits(bench: &Bench) {
    // Its last delay is longer than any machine takes to look.
    for (attempt, delays) in [(1, &[3_600][..]), (2, &[1, 3_600])] {
        let bench = bench.with_delays(delays);
        let queue = bench.open().await;
        queue.enqueue(Lane::Submission, &job("a", Some("7"))).await.expect("enqueued");
        let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
        let reason = ParkReason::new("STORE-UNAVAILABLE", "the vault is away");
        for _ in delays {
            next(&mut consumer).await.settle.retry(&reason).await.expect("put back for later");
        }
        let waiting = queue.peek(Place::Retry(Lane::Submission), 10).await.expect("seen");
        assert_eq!(waiting.len(), 1);
        assert_eq!((&waiting[0].message, &waiting[0].reason), (&job("a", Some("7")), &Some(reason)));
        assert_eq!((waiting[0].attempt, waiting[0].lane), (attempt, Some(Lane::Submission)));
    }
}

pub async fn retries_end(bench: &Bench) {
    let queue = bench.open().await;
    queue.enqueue(Lane::Replay, &job("a", None)).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Replay, 1).await.expect("consumes");
    let reason = ParkReason::new("STORE-UNAVAILABLE", "");
    for _ in 0..2 {
        next(&mut consumer).await.settle.retry(&reason).await.expect("put back for later");
    }
    let last = next(&mut consumer).await;
    assert_eq!(last.attempt, 2);
    let refused = last.settle.retry(&reason).await.expect_err("there is no third step");
    assert!(matches!(refused, QueueError::NoMoreRetries { attempt: 2, .. }), "{refused}");
    assert_eq!(next(&mut consumer).await.message.id, "a", "it is not lost for it");
}

pub async fn parked_jobs_are_seen_with_their_reason_and_requeued_without_their_past(bench: &Bench) {
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", Some("7"))).await.expect("enqueued");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    next(&mut consumer).await.settle.retry(&ParkReason::new("X", "y")).await.expect("put back for later");
    let reason = ParkReason::new("JOB-MALFORMED", "« submission » : champ `étape` inconnu");
    next(&mut consumer).await.settle.park(&reason).await.expect("parked");
    let parked = queue.peek(Place::Parked, 10).await.expect("seen");
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].message, job("a", Some("7")));
    assert_eq!((parked[0].lane, parked[0].attempt, parked[0].reason.clone()), (Some(Lane::Submission), 1, Some(reason)));
    nothing(&mut consumer).await;
    assert_eq!(queue.requeue(None, 10).await.expect("requeued"), 1);
    let again = next(&mut consumer).await;
    assert_eq!((again.message.clone(), again.attempt, again.redelivered), (job("a", Some("7")), 0, 0));
    again.settle.ack().await.expect("acknowledged");
    assert_eq!(queue.peek(Place::Parked, 10).await.expect("seen"), Vec::new());
}

pub async fn one_parked_job_is_requeued_by_its_id(bench: &Bench) {
    let queue = bench.open().await;
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    for id in ["a", "b", "c"] {
        queue.enqueue(Lane::Submission, &job(id, None)).await.expect("enqueued");
        next(&mut consumer).await.settle.park(&ParkReason::new("X", id)).await.expect("parked");
    }
    assert_eq!(queue.requeue(Some("none"), 10).await.expect("searched"), 0);
    assert_eq!(queue.requeue(Some("b"), 10).await.expect("requeued"), 1);
    assert_eq!(next(&mut consumer).await.message.id, "b");
    let left: BTreeSet<String> = queue.peek(Place::Parked, 10).await.expect("seen").into_iter().map(|w| w.message.id).collect();
    assert_eq!(left, BTreeSet::from(["a".to_owned(), "c".to_owned()]));
    assert_eq!(queue.requeue(None, 1).await.expect("requeued"), 1, "no more than asked for");
    assert_eq!(queue.peek(Place::Parked, 10).await.expect("seen").len(), 1);
}

pub async fn a_waiting_job_is_parked_and_the_others_stay(bench: &Bench) {
    let queue = bench.open().await;
    for id in ["a", "b", "c"] {
        queue.enqueue(Lane::Submission, &job(id, None)).await.expect("enqueued");
    }
    let reason = ParkReason::new("JOB-BY-OPERATOR", "on the phone with the vendor");
    assert!(!queue.park_waiting(Lane::Submission, "none", &reason).await.expect("searched"));
    assert!(!queue.park_waiting(Lane::Replay, "b", &reason).await.expect("searched"), "another lane");
    assert!(queue.park_waiting(Lane::Submission, "b", &reason).await.expect("parked"));
    let parked = queue.peek(Place::Parked, 10).await.expect("seen");
    assert_eq!((parked.len(), parked[0].message.id.as_str(), parked[0].lane), (1, "b", Some(Lane::Submission)));
    assert_eq!(parked[0].reason, Some(reason));
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    // In which order is not promised: a broker that gave jobs back to a search has them stand behind one another anew.
    let mut left = BTreeSet::new();
    for _ in 0..2 {
        let delivery = next(&mut consumer).await;
        left.insert(delivery.message.id.clone());
        delivery.settle.ack().await.expect("acknowledged");
    }
    assert_eq!(left, BTreeSet::from(["a".to_owned(), "c".to_owned()]));
    nothing(&mut consumer).await;
}

pub async fn looking_takes_nothing_and_counts_for_nothing(bench: &Bench) {
    let queue = bench.open().await;
    for id in ["a", "b", "c"] {
        queue.enqueue(Lane::Submission, &job(id, None)).await.expect("enqueued");
    }
    for _ in 0..10 {
        let seen = queue.peek(Place::Lane(Lane::Submission), 2).await.expect("seen");
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|w| w.lane == Some(Lane::Submission) && w.reason.is_none() && w.attempt == 0));
    }
    let mut consumer = queue.consume(Lane::Submission, 3).await.expect("consumes");
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let delivery = next(&mut consumer).await;
        assert!(delivery.redelivered <= 2, "looking is not crashing: {}", delivery.redelivered);
        ids.insert(delivery.message.id.clone());
        delivery.settle.ack().await.expect("acknowledged");
    }
    assert_eq!(ids.len(), 3);
}

pub async fn purging_empties_one_place_only(bench: &Bench) {
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    queue.enqueue(Lane::Replay, &job("b", None)).await.expect("enqueued");
    queue.announce(&job("e", None)).await.expect("announced");
    let mut consumer = queue.consume(Lane::Interactive, 1).await.expect("consumes");
    queue.enqueue(Lane::Interactive, &job("p", None)).await.expect("enqueued");
    next(&mut consumer).await.settle.park(&ParkReason::new("X", "")).await.expect("parked");
    assert_eq!(queue.purge(Place::Lane(Lane::Submission)).await.expect("purged"), 1);
    let left = |place| ready(&*queue, place);
    assert_eq!((left(Place::Lane(Lane::Submission)).await, left(Place::Lane(Lane::Replay)).await), (0, 1));
    assert_eq!((left(Place::Parked).await, left(Place::Events).await), (1, 1));
    assert_eq!(queue.purge(Place::Parked).await.expect("purged"), 1);
    assert_eq!(queue.purge(Place::Events).await.expect("purged"), 1);
    assert_eq!(queue.purge(Place::Retry(Lane::Submission)).await.expect("purged"), 0);
    assert_eq!((left(Place::Parked).await, left(Place::Events).await, left(Place::Lane(Lane::Replay)).await), (0, 0, 1));
}

pub async fn events_reach_the_listener_and_the_sender(bench: &Bench) {
    let queue = bench.open().await;
    let (mut mine, mut others) = (queue.replies().await.expect("a box"), queue.replies().await.expect("a box"));
    assert_ne!(mine.address(), others.address());
    let told = Envelope {
        subject: Some("C-1/eligibility/r1".to_owned()),
        time: Some("2026-11-24T23:59:59.123456789Z".parse().expect("a time")),
        correlation_id: Some("their ref".to_owned()),
        reply_to: Some(mine.address()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..job("evt-1", Some("C-1"))
    };
    // From another handle, as a worker would.
    let worker = bench.open().await;
    worker.announce(&told).await.expect("announced");
    let reply = tokio::time::timeout(PATIENCE, mine.next()).await.expect("it comes").expect("it is read");
    assert_eq!(reply, told);
    let seen = queue.peek(Place::Events, 10).await.expect("seen");
    assert_eq!(seen.into_iter().map(|w| (w.message, w.lane)).collect::<Vec<_>>(), [(told, None)]);
    let quiet = tokio::time::timeout(super::A_WHILE, others.next()).await;
    assert!(quiet.is_err(), "nobody else's reply");
}

pub async fn a_sender_that_is_gone_does_not_stop_an_event(bench: &Bench) {
    let queue = bench.open().await;
    let gone = queue.replies().await.expect("a box");
    let address = gone.address();
    drop(gone);
    // Never was, and would lead into our own queues.
    let inside = format!("{}.jobs.submission", bench.config.prefix);
    for (n, address) in [address, "never-was".to_owned(), inside, String::new(), "x".repeat(300)].into_iter().enumerate() {
        let event = Envelope { reply_to: Some(address), ..job(&n.to_string(), None) };
        queue.announce(&event).await.expect("announced to everybody else");
    }
    assert_eq!(ready(&*queue, Place::Events).await, 5);
    assert_eq!(ready(&*queue, Place::Lane(Lane::Submission)).await, 0, "an event is never a job");
}

pub async fn a_dead_worker_gives_its_jobs_back(bench: &Bench) {
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    // A runtime that is torn down while a job is in hand: no destructor of the delivery runs, nothing is renewed, and
    // every socket closes.
    let config = bench.config.clone();
    let died = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let queue = greffier::queue::open(&config).await.expect("opens");
            let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
            let delivery = next(&mut consumer).await;
            std::mem::forget((delivery, consumer, queue));
        });
        runtime.shutdown_background();
    });
    died.join().expect("the worker dies as planned");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    let again = next(&mut consumer).await;
    assert_eq!((again.message.id.as_str(), again.redelivered, again.attempt), ("a", 1, 0));
    again.settle.ack().await.expect("acknowledged");
}

pub async fn lanes_do_not_wait_for_one_another(bench: &Bench) {
    let queue = bench.open().await;
    for n in 0..20 {
        queue.enqueue(Lane::Replay, &job(&n.to_string(), None)).await.expect("enqueued");
    }
    let mut replay = queue.consume(Lane::Replay, 1).await.expect("consumes");
    let _busy = next(&mut replay).await;
    let mut interactive = queue.consume(Lane::Interactive, 1).await.expect("consumes");
    queue.enqueue(Lane::Interactive, &job("now", None)).await.expect("enqueued");
    assert_eq!(next(&mut interactive).await.message.id, "now");
}

pub async fn a_megabyte_and_hostile_words_survive_every_way(bench: &Bench) {
    let queue = bench.open().await;
    let nasty = "'; DROP TABLE jobs; --\u{0}\r\nX: y\u{202e}é\u{1F4A3}{{7*7}}";
    let hostile = Envelope {
        id: nasty.to_owned(),
        kind: format!("{nasty}{}", "k".repeat(400)),
        source: nasty.to_owned(),
        subject: Some(nasty.repeat(20)),
        time: Some("1969-12-31T23:59:59.5Z".parse().expect("a time")),
        content_type: nasty.to_owned(),
        correlation_id: Some("c".repeat(5000)),
        reply_to: Some(nasty.to_owned()),
        traceparent: Some(String::new()),
        candidature: Some(nasty.to_owned()),
        body: (0..1_048_576_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
    };
    let empty = Envelope { content_type: String::new(), ..Envelope::new("", "", "", Vec::new()) };
    for message in [hostile, empty] {
        queue.enqueue(Lane::Submission, &message).await.expect("enqueued");
        let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
        let delivery = next(&mut consumer).await;
        assert!(delivery.message == message, "as it was sent");
        delivery.settle.retry(&ParkReason::new("X", nasty)).await.expect("put back for later");
        let delivery = next(&mut consumer).await;
        assert!(delivery.message == message, "after a delay");
        delivery.settle.park(&ParkReason::new(nasty, nasty)).await.expect("parked");
        let parked = queue.peek(Place::Parked, 10).await.expect("seen");
        assert!(parked[0].message == message, "parked");
        assert_eq!(parked[0].reason, Some(ParkReason::new(nasty, nasty)));
        assert_eq!(queue.requeue(Some(&message.id), 10).await.expect("requeued"), 1);
        let delivery = next(&mut consumer).await;
        assert!(delivery.message == message, "requeued");
        delivery.settle.ack().await.expect("acknowledged");
        queue.announce(&message).await.expect("announced");
        assert!(queue.peek(Place::Events, 10).await.expect("seen")[0].message == message, "announced");
        queue.purge(Place::Events).await.expect("purged");
    }
}

pub async fn a_stopped_consumer_gives_back_what_it_did_not_hand_out(bench: &Bench) {
    let queue = bench.open().await;
    for id in ["a", "b", "c"] {
        queue.enqueue(Lane::Submission, &job(id, None)).await.expect("enqueued");
    }
    let mut consumer = queue.consume(Lane::Submission, 3).await.expect("consumes");
    let mine = next(&mut consumer).await;
    consumer.stop().await;
    assert!(consumer.next().await.is_none(), "no more after stop");
    drop(consumer);
    let mut other = queue.consume(Lane::Submission, 3).await.expect("consumes");
    let (second, third) = (next(&mut other).await, next(&mut other).await);
    assert_eq!(BTreeSet::from([second.message.id.as_str(), third.message.id.as_str()]), BTreeSet::from(["b", "c"]));
    nothing(&mut other).await;
    mine.settle.ack().await.expect("what was handed out stays to be settled");
}

pub async fn closing_gives_back_what_is_in_hand(bench: &Bench) {
    let (worker, other) = (bench.open().await, bench.open().await);
    worker.enqueue(Lane::Submission, &job("a", None)).await.expect("enqueued");
    let mut consumer = worker.consume(Lane::Submission, 1).await.expect("consumes");
    let mine = next(&mut consumer).await;
    worker.close().await;
    assert!(consumer.next().await.is_none(), "no more after close");
    let mut others = other.consume(Lane::Submission, 1).await.expect("consumes");
    let again = next(&mut others).await;
    assert_eq!(again.message.id, "a");
    let late = mine.settle.ack().await.expect_err("somebody else has it");
    assert!(matches!(late, QueueError::Lost { .. }), "{late}");
    again.settle.ack().await.expect("acknowledged");
}

pub async fn two_handles_share_the_work(bench: &Bench) {
    let (one, two) = (bench.open().await, bench.open().await);
    let wanted: BTreeSet<String> = (0..40).map(|n| n.to_string()).collect();
    for id in &wanted {
        one.enqueue(Lane::Submission, &job(id, None)).await.expect("enqueued");
    }
    let (sent, mut got) = tokio::sync::mpsc::unbounded_channel();
    for queue in [&one, &two] {
        let (mut consumer, sent) = (queue.consume(Lane::Submission, 4).await.expect("consumes"), sent.clone());
        tokio::spawn(async move {
            while let Some(delivery) = consumer.next().await {
                let id = delivery.message.id.clone();
                delivery.settle.ack().await.expect("acknowledged");
                if sent.send(id).is_err() {
                    return;
                }
            }
        });
    }
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        seen.push(tokio::time::timeout(PATIENCE, got.recv()).await.expect("every job comes").expect("somebody works"));
    }
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), wanted, "each once");
    one.close().await;
    two.close().await;
}

pub async fn health_is_up_until_closed(bench: &Bench) {
    let queue = bench.open().await;
    let mut health = queue.health();
    tokio::time::timeout(PATIENCE, health.wait_for(|h| *h == Health::Up)).await.expect("up").expect("known");
    queue.close().await;
    tokio::time::timeout(PATIENCE, health.wait_for(|h| matches!(h, Health::Down(_)))).await.expect("down").expect("known");
}

pub async fn everything_is_durable(bench: &Bench) {
    let queue = bench.open().await;
    queue.enqueue(Lane::Submission, &job("a", Some("1"))).await.expect("enqueued");
    queue.enqueue(Lane::Submission, &job("b", Some("2"))).await.expect("enqueued");
    queue.announce(&job("e", None)).await.expect("announced");
    let mut consumer = queue.consume(Lane::Submission, 1).await.expect("consumes");
    next(&mut consumer).await.settle.park(&ParkReason::new("X", "y")).await.expect("parked");
    queue.close().await;
    drop((queue, consumer));
    let queue = bench.open().await;
    assert_eq!(queue.peek(Place::Parked, 9).await.expect("seen")[0].message, job("a", Some("1")));
    assert_eq!(queue.peek(Place::Lane(Lane::Submission), 9).await.expect("seen")[0].message, job("b", Some("2")));
    assert_eq!(queue.peek(Place::Events, 9).await.expect("seen")[0].message, job("e", None));
}

/// How much waits in a place. A broker counts a moment later than it confirms.
pub async fn ready(queue: &dyn Queue, place: Place) -> u64 {
    let mut last = None;
    for _ in 0..100 {
        let now = queue.status().await.expect("counted").into_iter().find(|d: &Depth| d.place == place).expect("a place").ready;
        if last == Some(now) {
            return now;
        }
        last = Some(now);
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    panic!("{place:?} never comes to rest");
}
