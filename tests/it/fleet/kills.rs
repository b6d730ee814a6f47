//! Workers, broker and store killed and frozen while they work. Nothing may be lost, nothing made differently, nothing
//! stuck. `scripts/soak` runs the same with thousands of jobs.

use std::time::Duration;

use super::harness::{
    Fleet, Kind, Worker, all_done, enqueue, own_services, reference, services, setting, settle, short_leases, state, stop, told,
};

/// Kills one of two workers at random instants until `kills` have been killed.
async fn kill_workers(fleet: &Fleet, kills: usize, seed: u64) -> Vec<Worker> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut workers = vec![fleet.worker(), fleet.worker()];
    // One that refuses to start would be killed in vain.
    for worker in &workers {
        worker.says("working").await;
    }
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
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |config| {
            short_leases(config);
            // Far above what these kills can do to an honest job.
            config.worker.max_redeliveries = 40;
            config.queue.delivery_limit = 1_000;
        })
        .await;
        enqueue(&fleet, jobs).await;
        let workers = kill_workers(&fleet, kills, 7).await;
        all_done(&fleet, jobs, &workers).await;
        stop(workers).await;
        settle(&fleet, &reference, &format!("{kind:?}, {jobs} jobs, {kills} kills")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ and S3; run by scripts/test"]
async fn broker_and_store_that_are_killed_or_frozen_are_waited_out() {
    // Servers of its own: others must not feel it.
    if !own_services("fleet::kills::broker_and_store_that_are_killed_or_frozen_are_waited_out", &["--with", "rabbitmq,s3"]) {
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
    for (server, down, up) in
        [("rabbit1", "kill", "start"), ("s3", "freeze", "thaw"), ("rabbit1", "freeze", "thaw"), ("s3", "kill", "start")]
    {
        services(down, server, &state());
        pause(3).await;
        services(up, server, &state());
        pause(1).await;
    }
    let workers = [worker];
    all_done(&fleet, jobs, &workers).await;
    stop(workers).await;
    settle(&fleet, &reference, "broker killed and frozen, store frozen").await;
}

/// Killed when its outcome stands in the vault, a worker has not told it yet: the job that comes again must be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_was_written_and_not_told_is_told_by_the_next_worker() {
    let reference = reference(1).await;
    for _ in 0..10 {
        let fleet = Fleet::new(Kind::Embedded, short_leases).await;
        let mut worker = fleet.worker();
        worker.says("working").await;
        enqueue(&fleet, 1).await;
        // Its bundle is there, and its outcome comes a few files later. To tell is to write to the queue, which waits while we
        // do: where we came in time, it cannot have told.
        while fleet.count("bundles/").await == 0 {}
        let writing = rusqlite::Connection::open(&fleet.config.queue.path).unwrap();
        writing.execute_batch("BEGIN IMMEDIATE").unwrap();
        fleet.until("an outcome", Some(&worker), async |fleet| fleet.count("outcomes/").await == 1).await;
        worker.kill();
        drop(writing);
        let (told_before, _) = told(&fleet).await;
        settle(&fleet, &reference, "killed on its outcome").await;
        if told_before.is_empty() {
            return;
        }
    }
    panic!("never killed before its outcome was told");
}
