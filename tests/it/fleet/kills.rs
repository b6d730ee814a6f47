//! Workers, broker and store killed and frozen while they work. Nothing may be lost, nothing made differently, nothing
//! stuck. `scripts/soak` runs the same with thousands of jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use greffier::model::event::{BUNDLE_READY, SUBMISSION_REJECTED};
use greffier::model::message::{Envelope, Lane};
use greffier::queue::Place;

use super::harness::{Fleet, Kind, Worker, envelope, service, services};

/// A number from the environment: the short run of the tests, unless `scripts/soak` asks for more.
fn setting(variable: &str, short: usize) -> usize {
    std::env::var(variable).ok().map_or(short, |text| text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

/// What the vault says of every job: (report, digest of the bundle), by candidature.
async fn outcomes(fleet: &Fleet) -> BTreeMap<String, (String, String)> {
    let records = fleet.records("outcomes/").await;
    let one = |outcome: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&outcome["candidature"]), (text(&outcome["report"]), text(&outcome["objects"]["bundle"]["sha256"])))
    };
    records.values().map(one).collect()
}

/// Final events that the queue holds: how many different bundles were told for each job, and how often altogether.
async fn told(fleet: &Fleet) -> (BTreeMap<String, BTreeSet<String>>, usize) {
    let mut by_job: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut all = 0;
    for waiting in fleet.queue.peek(Place::Events, 1_000_000).await.unwrap() {
        let Envelope { kind, body, .. } = waiting.message;
        if kind == BUNDLE_READY || kind == SUBMISSION_REJECTED {
            let outcome: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let job = outcome["candidature"].as_str().unwrap().to_owned();
            by_job.entry(job).or_default().insert(outcome["objects"]["bundle"]["sha256"].as_str().unwrap().to_owned());
            all += 1;
        }
    }
    (by_job, all)
}

/// Waits until every job has an outcome, as long as there is progress.
async fn all_done(fleet: &Fleet, jobs: usize, workers: &[Worker]) {
    let mut before = 0;
    let mut since = Instant::now();
    loop {
        let done = fleet.records("outcomes/").await.len();
        if done == jobs {
            return;
        }
        if done > before {
            (before, since) = (done, Instant::now());
        }
        let logs =
            || workers.iter().map(|w| w.log().lines().rev().take(30).collect::<Vec<_>>().join("\n")).collect::<Vec<_>>().join("\n--\n");
        assert!(since.elapsed() < Duration::from_secs(90), "stuck at {done} of {jobs}: {}\n{}", fleet.audit(), logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The ledger: everything received has exactly one outcome, told at least once, and the same as where nothing was killed.
async fn settle(fleet: &Fleet, reference: &BTreeMap<String, (String, String)>, what: &str) {
    let jobs = reference.len();
    let differing: Vec<_> = outcomes(fleet).await.into_iter().filter(|(job, made)| reference.get(job) != Some(made)).collect();
    let (told, all) = told(fleet).await;
    let twice: Vec<_> = told.iter().filter(|(_, bundles)| bundles.len() > 1).collect();
    let audit = fleet.audit();
    println!(
        "{what}: received {}, published {}, rejected {}, parked {}, missing {}, bundles differing {}, told {all} times for {} jobs, told with another digest {}",
        audit["received"],
        audit["published"],
        audit["rejected"],
        audit["parked"],
        audit["missing"].as_array().map_or(0, Vec::len),
        differing.len(),
        told.len(),
        twice.len()
    );
    assert!(differing.is_empty() && twice.is_empty(), "{differing:?} {twice:?}");
    assert_eq!(told.len(), jobs, "jobs whose end was never told");
    assert_eq!((&audit["received"], &audit["parked"], &audit["in_flight"]), (&jobs.into(), &0.into(), &0.into()), "{audit}");
    assert_eq!(audit["missing"].as_array().map(Vec::len), Some(0), "{audit}");
    assert_eq!(audit["broken"].as_array().map(Vec::len), Some(0), "{audit}");
}

/// What the jobs make where nothing is killed: the embedded fitting, one worker.
async fn reference(jobs: usize) -> BTreeMap<String, (String, String)> {
    let fleet = Fleet::new(Kind::Embedded, |_| ()).await;
    let worker = fleet.worker();
    enqueue(&fleet, jobs).await;
    let workers = [worker];
    all_done(&fleet, jobs, &workers).await;
    outcomes(&fleet).await
}

async fn enqueue(fleet: &Fleet, jobs: usize) {
    for n in 0..jobs {
        fleet.send(Lane::Submission, &envelope(&fleet.submission(n).await)).await;
    }
}

/// Kills one of two workers at random instants until `kills` have been killed.
async fn kill_workers(fleet: &Fleet, kills: usize, seed: u64) -> Vec<Worker> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut workers = vec![fleet.worker(), fleet.worker()];
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.u64(100..1_000))).await;
        let victim = random.usize(..workers.len());
        workers[victim].kill();
        workers[victim] = fleet.worker();
    }
    workers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_random_instants_lose_nothing_and_make_nothing_differently() {
    let (jobs, kills) = (setting("GREFFIER_SOAK_JOBS", 40), setting("GREFFIER_SOAK_KILLS", 8));
    let reference = reference(jobs).await;
    for kind in [Kind::Embedded, Kind::Real] {
        let fleet = Fleet::new(kind, |config| {
            // Far above what these kills can do to an honest job.
            config.worker.max_redeliveries = 40;
            config.queue.delivery_limit = 1_000;
        })
        .await;
        enqueue(&fleet, jobs).await;
        let workers = kill_workers(&fleet, kills, 7).await;
        all_done(&fleet, jobs, &workers).await;
        drop(workers);
        settle(&fleet, &reference, &format!("{kind:?}, {jobs} jobs, {kills} kills")).await;
    }
}

fn state() -> PathBuf {
    service("GREFFIER_TEST_SERVICES").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_and_store_that_are_killed_or_frozen_are_waited_out() {
    // Servers of its own: others must not feel it.
    if std::env::var_os("GREFFIER_TEST_FAULTS").is_none() {
        let status = std::process::Command::new(crate::support::root().join("scripts/services"))
            .args(["run", "--with", "rabbitmq,s3", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "fleet::kills::broker_and_store_that_are_killed_or_frozen_are_waited_out", "--nocapture"])
            .env("GREFFIER_TEST_FAULTS", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let jobs = setting("GREFFIER_SOAK_JOBS", 40);
    let reference = reference(jobs).await;
    let fleet = Fleet::new(Kind::Real, |config| {
        config.vault.request_timeout_ms = 3_000;
        config.staging.request_timeout_ms = 3_000;
        config.queue.retry_delays_seconds = vec![1, 2, 4, 8, 16, 32];
    })
    .await;
    let worker = fleet.worker();
    worker.says("working").await;
    enqueue(&fleet, jobs).await;
    let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    for (server, down, up) in [("rabbit1", "kill", "start"), ("s3", "freeze", "thaw"), ("rabbit1", "freeze", "thaw")] {
        services(down, server, &state());
        pause(3).await;
        services(up, server, &state());
        pause(1).await;
    }
    let workers = [worker];
    all_done(&fleet, jobs, &workers).await;
    drop(workers);
    settle(&fleet, &reference, "broker killed and frozen, store frozen").await;
}
