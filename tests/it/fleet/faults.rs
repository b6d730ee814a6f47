//! What breaks around a worker, one thing at a time: a queue's leader, a disk, a process that stands still, a job that ends
//! whoever takes it, bytes that are not what they were, an antivirus that says nothing. Each ends in the same ledger.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use greffier::antivirus::{Antivirus, AntivirusConfig, Scan};
use greffier::model::event::{BUNDLE_READY, SUBMISSION_DELAYED, SUBMISSION_REJECTED};
use greffier::model::message::Lane;
use greffier::model::submission::{Content, FileRef, FiledUnder, Item, Stage, Submission};
use greffier::queue::{self, Place, Queue};
use greffier::worker::{journal, records};
use rustix::process::Signal;

use super::harness::{
    Ended, Fleet, Kind, PATIENCE, Worker, all_done, enqueue, envelope, own_services, reference, reference_of, service, services, settle,
    short_leases, state, stop,
};

/// The identity of a job: everything in it, and the rules.
fn job_of(submission: &Submission) -> String {
    let loaded = greffier::pipeline::load(&crate::support::root().join("pipelines/lgc-vague-2.toml")).unwrap();
    records::job_id(&loaded, submission, Lane::Submission)
}

/// The file of an object in a store that is a directory.
fn on_disk(root: &Path, key: &str) -> PathBuf {
    let path = root.join(key);
    assert!(path.is_file(), "{}", path.display());
    path
}

/// Changes a byte in the middle of a file: as long as before, and another.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Objects are made read-only, which is no protection against root or a disk.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Sends a job as often as it takes: the broker may be without a leader for a moment. Twice in the queue is one job.
async fn insist(queue: &dyn Queue, submission: &Submission) {
    let since = Instant::now();
    while let Err(e) = queue.enqueue(Lane::Submission, &envelope(submission)).await {
        assert!(since.elapsed() < PATIENCE, "{e}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ and S3; run by scripts/test"]
async fn the_node_that_leads_the_queue_is_killed_and_comes_back() {
    let options = ["--with", "rabbitmq,s3", "--rabbit-nodes", "3"];
    if !own_services("fleet::faults::the_node_that_leads_the_queue_is_killed_and_comes_back", &options) {
        return;
    }
    let jobs = 30;
    let reference = reference(jobs).await;
    let fleet = Fleet::new(Kind::Real, |config| {
        config.queue.urls = service("GREFFIER_TEST_AMQP_NODES").split(',').map(str::to_owned).collect();
        config.queue.replicas = 3;
        config.queue.retry_delays_seconds = vec![1, 2, 4, 8, 16, 32];
    })
    .await;
    let leader = leader(&fleet);
    let worker = fleet.worker();
    worker.says("working").await;
    for n in 0..jobs {
        let submission = fleet.submission(n).await;
        if n == jobs / 2 {
            services("kill", &leader, &state());
            // Those who come while the queue has no leader must not be left with what they saw then.
            let newcomer = async || insist(&*queue::open(&fleet.config.queue).await.unwrap(), &submission).await;
            futures_util::future::join_all((0..12).map(|_| newcomer())).await;
        }
        insist(&*fleet.queue, &submission).await;
    }
    all_done(&fleet, jobs, std::slice::from_ref(&worker)).await;
    services("start", &leader, &state());
    stop([worker]).await;
    settle(&fleet, &reference, "the queue's leader killed").await;
}

/// The server on which the lane's queue has its leader.
fn leader(fleet: &Fleet) -> String {
    let output = Command::new(crate::support::root().join("scripts/services"))
        .args(["ctl", "rabbit1", "--", "--quiet", "--formatter", "json", "list_queues", "name", "leader"])
        .output()
        .unwrap();
    let queues: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stdout)));
    let name = format!("{}.jobs.submission", fleet.config.queue.prefix);
    let queue = queues.iter().find(|q| q["name"] == *name).unwrap_or_else(|| panic!("no {name} in {queues:?}"));
    queue["leader"].as_str().unwrap().split('@').next().unwrap().to_owned()
}

/// Runs `test` in a mount namespace of its own, where the folder named by `GREFFIER_TEST_FULL_DISK` is a disk of 4 MiB.
fn on_a_small_disk(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let script = "mount -t tmpfs -o size=4m tmpfs \"$GREFFIER_TEST_FULL_DISK\" && exec \"$0\" --exact \"$1\" --ignored --nocapture";
    let output = command
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("GREFFIER_TEST_FULL_DISK", dir.path())
        .output()
        .expect("util-linux is installed");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn small_disk() -> PathBuf {
    std::env::var_os("GREFFIER_TEST_FULL_DISK").expect("set by the test that runs this one").into()
}

fn enlarge(disk: &Path) {
    assert!(Command::new("mount").args(["-o", "remount,size=256m"]).arg(disk).status().unwrap().success());
}

/// Steps of retrying that leave time to enlarge a disk.
fn patient(config: &mut greffier::config::Config) {
    config.queue.retry_delays_seconds = vec![1, 2, 3, 4, 5, 6, 7, 8];
}

#[test]
fn a_full_spool_delays_a_job_until_there_is_room() {
    on_a_small_disk("fleet::faults::child::with_a_full_spool");
}

async fn with_a_full_spool() {
    let reference = reference_of(async |fleet| vec![fleet.heavy(1, 6_000_000).await]).await;
    let disk = small_disk();
    let fleet = Fleet::new(Kind::Embedded, |config| {
        config.worker.spool = disk.clone();
        patient(config);
    })
    .await;
    full_then_enlarged(&fleet, &disk).await;
    settle(&fleet, &reference, "spool full").await;
}

#[test]
fn a_full_vault_delays_a_job_until_there_is_room() {
    on_a_small_disk("fleet::faults::child::with_a_full_vault");
}

async fn with_a_full_vault() {
    let reference = reference_of(async |fleet| vec![fleet.heavy(1, 6_000_000).await]).await;
    let disk = small_disk();
    let fleet = Fleet::new(Kind::Embedded, |config| {
        config.vault.path = disk.join("vault");
        std::fs::create_dir(&config.vault.path).unwrap();
        patient(config);
    })
    .await;
    full_then_enlarged(&fleet, &disk).await;
    settle(&fleet, &reference, "vault full").await;
}

#[test]
fn a_vault_without_a_byte_left_delays_a_job_too() {
    on_a_small_disk("fleet::faults::child::with_no_byte_left_in_the_vault");
}

async fn with_no_byte_left_in_the_vault() {
    let reference = reference(1).await;
    let disk = small_disk();
    let fleet = Fleet::new(Kind::Embedded, |config| {
        config.vault.path = disk.join("vault");
        std::fs::create_dir(&config.vault.path).unwrap();
        patient(config);
    })
    .await;
    let worker = fleet.worker();
    worker.says("working").await;
    let filler = disk.join("filler");
    let full = std::fs::write(&filler, vec![0; 8_000_000]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // Not even that the job exists can be written down.
    let mut following = fleet.submit(Lane::Submission, &fleet.submission(0).await).await;
    worker.says("a job is put off").await;
    assert!(worker.log().contains("no space left"), "{}", worker.log());
    assert_eq!(fleet.records("outcomes/").await.len(), 0);
    std::fs::remove_file(&filler).unwrap();
    following.outcome(&worker).await;
    stop([worker]).await;
    settle(&fleet, &reference, "vault full to the last byte").await;
}

/// A job that does not fit is delayed and published once it does; whatever the vault holds meanwhile is whole.
async fn full_then_enlarged(fleet: &Fleet, disk: &Path) {
    let worker = fleet.worker();
    worker.says("working").await;
    let mut following = fleet.submit(Lane::Submission, &fleet.heavy(1, 6_000_000).await).await;
    worker.says("a job is put off").await;
    assert_eq!(fleet.records("outcomes/").await.len(), 0, "published on a full disk");
    for stat in fleet.vault.list("vault/", None, 1_000).await.unwrap() {
        let bytes = records::read_bytes(fleet.vault.as_ref(), &stat.key, 1 << 30).await.unwrap().unwrap();
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
        assert!(stat.key.as_str().ends_with(&digest), "{} is half written", stat.key);
    }
    assert!(fleet.vault.list("bundles/", None, 1).await.unwrap().is_empty());
    enlarge(disk);
    following.outcome(&worker).await;
    assert!(following.kinds().contains(&SUBMISSION_DELAYED), "{:?}", following.kinds());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_past_its_lease_does_no_harm() {
    let reference = reference_of(async |fleet| vec![fleet.heavy(1, 30_000_000).await]).await;
    let fleet = Fleet::new(Kind::Embedded, short_leases).await;
    let frozen = fleet.worker();
    frozen.says("working").await;
    let submission = fleet.heavy(1, 30_000_000).await;
    fleet.send(Lane::Submission, &envelope(&submission)).await;
    begun(&fleet, &job_of(&submission), 0).await;
    freeze(&fleet, &frozen).await;
    assert_eq!(fleet.records("outcomes/").await.len(), 0, "it was done before it could be frozen");
    // Its lease ends, another takes over and publishes.
    let other = fleet.worker();
    all_done(&fleet, 1, std::slice::from_ref(&other)).await;
    other.says("job ended").await;
    frozen.signal(Signal::CONT);
    frozen.says("job ended").await;
    assert!(frozen.log().contains("a job could not be settled"), "{}", frozen.log());
    drop(other);
    settle(&fleet, &reference, "a worker frozen past its lease").await;
    // It works on as if nothing had been.
    let next = fleet.submission(2).await;
    fleet.submit(Lane::Submission, &next).await.outcome(&frozen).await;
}

/// Stops a worker where it is not writing to the queue's file: one that stands still in the middle of that keeps everybody else
/// from writing, and no lease of its own ends.
async fn freeze(fleet: &Fleet, worker: &Worker) {
    let file = rusqlite::Connection::open(&fleet.config.queue.path).unwrap();
    file.busy_timeout(Duration::ZERO).unwrap();
    let since = Instant::now();
    loop {
        worker.signal(Signal::STOP);
        // Its threads stop one after the other.
        while !stands_still(worker) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if file.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "the file is always being written");
        worker.signal(Signal::CONT);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether every thread of a process is stopped.
fn stands_still(worker: &Worker) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", worker.child.id())).unwrap();
    // A thread that ends meanwhile does nothing any more.
    let states = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    states.into_iter().all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}

/// Waits until a worker has begun this job more than `before` times; returns how often it was begun.
async fn begun(fleet: &Fleet, job: &str, before: usize) -> usize {
    let since = Instant::now();
    loop {
        let (entries, _) = journal::read(fleet.vault.as_ref(), job).await.unwrap();
        let times = entries.iter().filter(|e| e.event == "begun").count();
        if times > before {
            return times;
        }
        assert!(since.elapsed() < PATIENCE, "{job} was never begun again: {entries:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_every_worker_is_parked_and_its_neighbours_are_published() {
    for kind in Kind::at_hand() {
        let neighbours = 7;
        let fleet = Fleet::new(kind, |config| {
            short_leases(config);
            config.worker.max_redeliveries = 2;
            config.worker.submission_jobs = 3;
        })
        .await;
        let poison = fleet.heavy(1_000, 8_000_000).await;
        for n in 0..neighbours {
            fleet.send(Lane::Submission, &envelope(&fleet.submission(n).await)).await;
            if n == 2 {
                fleet.send(Lane::Submission, &envelope(&poison)).await;
            }
        }
        // It kills its worker the very moment it is begun, with all that runs beside it.
        let job = job_of(&poison);
        let mut times = 0;
        for _ in 0..3 {
            let mut worker = fleet.worker();
            times = begun(&fleet, &job, times).await;
            worker.kill_group();
        }
        let worker = fleet.worker();
        all_done(&fleet, neighbours, std::slice::from_ref(&worker)).await;
        fleet.until("the job is parked", Some(&worker), async |f| f.records("parked/").await.len() == 1).await;
        let parked = fleet.records("parked/").await.into_values().next().unwrap();
        assert_eq!((&parked["about"]["job"], &parked["reason"]["code"]), (&job.as_str().into(), &"JOB-WORKER-LOST".into()), "{parked}");
        assert_eq!(begun(&fleet, &job, 0).await, 3, "begun again after it was known");
        fleet.until("it is put aside", Some(&worker), async |f| f.queue.peek(Place::Parked, 10).await.unwrap().len() == 1).await;
        drop(worker);
        let audit = fleet.audit();
        let ended = audit["published"].as_u64().unwrap() + audit["rejected"].as_u64().unwrap();
        println!("{kind:?}, poison: received {}, published or rejected {ended}, parked {}", audit["received"], audit["parked"]);
        assert_eq!((&audit["received"], ended, &audit["parked"]), (&(neighbours + 1).into(), neighbours as u64, &1.into()), "{audit}");
        assert_eq!((audit["missing"].as_array().map(Vec::len), &audit["in_flight"]), (Some(0), &0.into()), "{audit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_changed_on_the_disk_are_never_published_as_what_they_were() {
    let fleet = Fleet::new(Kind::Embedded, |_| ()).await;
    let worker = fleet.worker();
    // In staging: what came is not what was announced, which is a finding.
    let changed = fleet.submission(1).await;
    let Content::File(staged) = &changed.items[0].content else { panic!() };
    spoil(&on_disk(&fleet.config.staging.path, &staged.object));
    let outcome = fleet.submit(Lane::Submission, &changed).await.outcome(&worker).await;
    let report = records::read::<serde_json::Value>(fleet.vault.as_ref(), &outcome.objects.report.key.parse().unwrap()).await.unwrap();
    let item = report.unwrap()["items"].as_array().unwrap().iter().find(|i| i["id"] == *changed.items[0].id).unwrap().clone();
    assert!(crate::support::codes(&item).contains(&"file-digest-differs".to_owned()), "{item}");

    // In the vault: what stands there under the digest is something else. Nothing is published on top of it.
    let first = complete(&fleet, 2).await;
    let made = fleet.submit(Lane::Submission, &first).await.outcome(&worker).await;
    let Content::File(received) = &first.items[0].content else { panic!() };
    let sha256 = received.object.strip_prefix("uploads/").unwrap();
    spoil(&on_disk(&fleet.config.vault.path, records::vault_key(sha256).as_str()));
    let mut second = first.clone();
    second.revision = 2;
    let Ended::Parked(parked) = fleet.submit(Lane::Submission, &second).await.end(Some(&worker)).await else {
        panic!("published on a damaged vault\n{}", worker.log())
    };
    assert_eq!(parked["reason"]["code"], "JOB-UNDETERMINED", "{parked}");
    assert!(worker.log().contains("the vault holds other bytes under this digest"), "{}", worker.log());
    assert_eq!(fleet.records("outcomes/").await.len(), 2);
    // What was published before is whole: a bundle holds its own bytes.
    let bundle = records::read_bytes(fleet.vault.as_ref(), &made.objects.bundle.key.parse().unwrap(), 1 << 30).await.unwrap().unwrap();
    assert_eq!(hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bundle)), made.objects.bundle.sha256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_message_fifty_times_at_once_is_one_outcome_told_as_one_event() {
    let reference = reference(1).await;
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |_| ()).await;
        let message = envelope(&fleet.submission(0).await);
        for _ in 0..50 {
            fleet.send(Lane::Submission, &message).await;
        }
        let workers = [fleet.worker(), fleet.worker()];
        let held = async |fleet: &Fleet| {
            let depths = fleet.queue.status().await.unwrap();
            depths
                .iter()
                .filter(|d| matches!(d.place, Place::Lane(_) | Place::Retry(_)))
                .map(|d| d.ready + d.unsettled.unwrap_or(0))
                .sum::<u64>()
        };
        let ended = |w: &Worker| w.log().matches("job ended").count();
        fleet
            .until("all fifty are settled", Some(&workers[0]), async |fleet| {
                workers.iter().map(ended).sum::<usize>() >= 50 && held(fleet).await == 0
            })
            .await;
        stop(workers).await;
        settle(&fleet, &reference, &format!("{kind:?}, one message fifty times")).await;
        let events = fleet.queue.peek(Place::Events, 10_000).await.unwrap();
        let finals: Vec<_> = events.iter().filter(|e| [BUNDLE_READY, SUBMISSION_REJECTED].contains(&e.message.kind.as_str())).collect();
        let ids: BTreeSet<_> = finals.iter().map(|e| e.message.id.as_str()).collect();
        assert_eq!((finals.len(), ids.len()), (50, 1), "each asks for an answer, and all get the same");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_killed_with_everything_it_started_loses_nothing() {
    let jobs = 30;
    let reference = reference(jobs).await;
    let fleet = Fleet::new(Kind::Embedded, |config| {
        short_leases(config);
        config.http.listen = "127.0.0.1:0".into();
        config.worker.max_redeliveries = 40;
    })
    .await;
    enqueue(&fleet, jobs).await;
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..8 {
        let mut serving = fleet.started("serve");
        serving.says("working").await;
        tokio::time::sleep(Duration::from_millis(random.u64(20..800))).await;
        serving.kill_group();
    }
    let serving = fleet.started("serve");
    all_done(&fleet, jobs, std::slice::from_ref(&serving)).await;
    stop([serving]).await;
    settle(&fleet, &reference, "serve killed with its group, 8 times").await;
}

/// A submission with everything that is asked for, so that nothing but the antivirus stands in its way.
async fn complete(fleet: &Fleet, n: usize) -> Submission {
    let loaded = greffier::pipeline::load(&crate::support::root().join("pipelines/lgc-vague-2.toml")).unwrap();
    let mut submission = fleet.submission(n).await;
    submission.items.clear();
    let Stage::Chapter { chapter } = &submission.stage else { panic!("{:?}", submission.stage) };
    for preuve in loaded.applicable(&submission.candidature) {
        if loaded.pipeline.chapter(&preuve.chapter).is_some_and(|c| c.id == *chapter) {
            let text = format!("Preuve {} de la candidature {n}.\n\nLe scénario a été joué, et son résultat est conforme.\n", preuve.id);
            let object = fleet.stage(text.as_bytes()).await;
            let name = format!("{}.txt", preuve.id.replace(['/', '.'], "_"));
            let file = FileRef { object, name, size: None, media_type: None, sha256: None };
            submission.items.push(Item {
                id: preuve.id.clone(),
                filed_under: FiledUnder::Preuve(preuve.id.clone()),
                content: Content::File(file),
            });
        }
    }
    submission
}

/// Waits until the engine has scanned a file: one that was thawed first ends what was sent to it meanwhile.
async fn engine_is_well(config: &greffier::config::Config) {
    let patient = AntivirusConfig { scan_timeout_ms: 120_000, ..config.antivirus.clone() };
    let file = std::sync::Arc::new(tempfile::tempfile().unwrap());
    assert_eq!(Antivirus::new(&patient).unwrap().scan(&file, 0).await, Scan::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs clamd; run by scripts/test"]
async fn an_antivirus_that_is_frozen_or_dead_delays_then_parks_and_requeueing_publishes() {
    if !own_services("fleet::faults::an_antivirus_that_is_frozen_or_dead_delays_then_parks_and_requeueing_publishes", &["--with", "clamd"])
    {
        return;
    }
    let fleet = Fleet::new(Kind::Embedded, |config| {
        config.antivirus.engines = vec![service("GREFFIER_TEST_CLAMD")];
        config.antivirus.required = true;
        // Every file of every attempt waits so long for an engine that stands still; one that is well must do it in less.
        config.antivirus.scan_timeout_ms = 1_500;
        config.worker.max_file_bytes = 10_000_000;
        config.worker.max_submission_bytes = 100_000_000;
    })
    .await;
    engine_is_well(&fleet.config).await;
    let worker = fleet.worker();
    worker.says("working").await;
    for (n, down, up) in [(1, "freeze", "thaw"), (2, "kill", "start")] {
        services(down, "clamd", &state());
        let mut following = fleet.submit(Lane::Submission, &complete(&fleet, n).await).await;
        let Ended::Parked(parked) = following.end(Some(&worker)).await else {
            panic!("published unscanned: {:?}\n{}", following.kinds(), worker.log())
        };
        assert_eq!(parked["reason"]["code"], "JOB-UNDETERMINED", "{parked}");
        assert_eq!(following.kinds().iter().filter(|k| **k == SUBMISSION_DELAYED).count(), 2, "{:?}", following.kinds());
        assert_eq!(fleet.records("outcomes/").await.len(), n - 1);
        // It is told before it is put aside.
        fleet.until("it is put aside", Some(&worker), async |f| f.queue.peek(Place::Parked, 10).await.unwrap().len() == 1).await;
        services(up, "clamd", &state());
        engine_is_well(&fleet.config).await;
        let id = parked["message_id"].as_str().unwrap();
        let requeued = fleet.command().args(["queue", "requeue", id]).output().unwrap();
        assert!(requeued.status.success(), "{}", String::from_utf8_lossy(&requeued.stderr));
        let outcome = following.outcome(&worker).await;
        println!("antivirus {down}: parked, then {:?}", outcome.verdict);
    }
    drop(worker);
    let audit = fleet.audit();
    assert_eq!((&audit["received"], &audit["parked"], &audit["in_flight"]), (&2.into(), &0.into(), &0.into()), "{audit}");
    assert_eq!(audit["missing"].as_array().map(Vec::len), Some(0), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ and S3; run by scripts/test"]
async fn a_broker_over_tls_is_trusted_by_its_authority_and_trusts_our_certificate() {
    if !own_services(
        "fleet::faults::a_broker_over_tls_is_trusted_by_its_authority_and_trusts_our_certificate",
        &["--with", "rabbitmq,s3", "--rabbit-tls"],
    ) {
        return;
    }
    let certificates = PathBuf::from(service("GREFFIER_TEST_AMQP_CERTIFICATES"));
    let fleet = Fleet::new(Kind::Real, |config| {
        config.queue.urls = vec![service("GREFFIER_TEST_AMQPS")];
        config.queue.ca_file = Some(certificates.join("ca.pem"));
    })
    .await;
    {
        let worker = fleet.worker();
        fleet.submit(Lane::Submission, &fleet.submission(1).await).await.outcome(&worker).await;
    }

    // By our certificate instead of a password: the broker takes the name from it.
    for arguments in
        [["add_user", "greffier-worker", "not-used", "", ""], ["set_permissions", "greffier-worker", ".*", ".*", ".*"]].map(|a| a.to_vec())
    {
        let status = Command::new(crate::support::root().join("scripts/services"))
            .args(["ctl", "rabbit1", "--"])
            .args(arguments.into_iter().filter(|a| !a.is_empty()))
            .status()
            .unwrap();
        assert!(status.success());
    }
    let external = service("GREFFIER_TEST_AMQPS").replace("guest:guest@", "");
    fleet.reconfigure(|config| {
        config.queue.urls = vec![external.clone()];
        config.queue.client_certificate_file = Some(certificates.join("client.pem"));
        config.queue.client_key_file = Some(certificates.join("client.key"));
    });
    {
        let worker = fleet.worker();
        fleet.submit(Lane::Submission, &fleet.submission(2).await).await.outcome(&worker).await;
    }

    // Refused before any work, in words: by an authority that is not the broker's, and where the broker has another name.
    let refused = |change: &dyn Fn(&mut greffier::config::Config)| {
        fleet.reconfigure(|config| change(config));
        let output = fleet.command().arg("worker").output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(!words.contains("guest:guest"), "{words}");
        words.to_lowercase()
    };
    let words = refused(&|config| config.queue.ca_file = Some(certificates.join("other-ca.pem")));
    assert!(words.contains("certificate") && words.contains("unknownissuer"), "{words}");
    let words = refused(&|config| config.queue.urls = vec![service("GREFFIER_TEST_AMQPS").replace("127.0.0.1", "localhost")]);
    assert!(words.contains("certificate") && words.contains("not valid for"), "{words}");
}

/// Tests that another test starts, in a process of their own; `scripts/test` leaves out what is in a module of this name.
mod child {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "run by a_full_spool_delays_a_job_until_there_is_room"]
    async fn with_a_full_spool() {
        Box::pin(super::with_a_full_spool()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "run by a_full_vault_delays_a_job_until_there_is_room"]
    async fn with_a_full_vault() {
        Box::pin(super::with_a_full_vault()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "run by a_vault_without_a_byte_left_delays_a_job_too"]
    async fn with_no_byte_left_in_the_vault() {
        Box::pin(super::with_no_byte_left_in_the_vault()).await;
    }
}
