//! Measurements that `scripts/soak` makes with the release binary: how many jobs a second, how long it takes to stop, and
//! what memory does over time. Each prints lines of a Markdown table.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use greffier::model::message::Lane;
use rustix::process::Signal;

use super::harness::{Fleet, Kind, Worker, enqueue, envelope, setting};

const BOTH: [Kind; 2] = [Kind::Embedded, Kind::Real];

/// Jobs that a worker says it ended.
fn ended(worker: &Worker) -> usize {
    worker.log().matches("job ended").count()
}

/// Waits for that many.
async fn until_ended(worker: &Worker, jobs: usize) {
    let since = Instant::now();
    while ended(worker) < jobs {
        assert!(since.elapsed() < Duration::from_secs(900), "{} of {jobs}\n{}", ended(worker), worker.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; scripts/soak runs it"]
async fn jobs_a_second_beside_their_traffic_alone() {
    let jobs = setting("GREFFIER_SOAK_RATE_JOBS", 300);
    let traffic = std::env::var_os("GREFFIER_SOAK_TRAFFIC").expect("scripts/soak names examples/traffic");
    println!("| fitting | jobs | jobs/s | the same reads, writes and events alone, per second |\n|---|---|---|---|");
    for kind in BOTH {
        let fleet = Fleet::new(kind, |_| ()).await;
        enqueue(&fleet, jobs).await;
        let worker = fleet.worker();
        worker.says("working").await;
        let since = Instant::now();
        until_ended(&worker, jobs).await;
        let rate = jobs as f64 / since.elapsed().as_secs_f64();
        drop(worker);
        let fleet = Fleet::new(kind, |_| ()).await;
        let output = std::process::Command::new(&traffic).arg(fleet.config_path()).arg(jobs.to_string()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("| {kind:?} | {jobs} | {rate:.1} | {} |", String::from_utf8_lossy(&output.stdout).trim());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; scripts/soak runs it"]
async fn from_the_signal_to_the_end() {
    println!("| fitting | jobs waiting | from SIGTERM to exit, ms (each of 5, two jobs under way) |\n|---|---|---|");
    for kind in BOTH {
        let mut took = Vec::new();
        let fleet = Fleet::new(kind, |_| ()).await;
        enqueue(&fleet, 200).await;
        for _ in 0..5 {
            let mut worker = fleet.worker();
            worker.says("working").await;
            until_ended(&worker, 3).await;
            let since = Instant::now();
            worker.signal(Signal::TERM);
            assert_eq!(worker.exit().await, Some(0), "{}", worker.log());
            took.push(since.elapsed().as_millis().to_string());
        }
        println!("| {kind:?} | 200 | {} |", took.join(", "));
    }
}

/// Resident memory of a process and of everything it started, KiB: (its own, all together).
fn resident(root: u32) -> (u64, u64) {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut sizes: HashMap<u32, u64> = HashMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        // Processes come and go while we look.
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        if let Some(parent) = field("PPid:") {
            children.entry(u32::try_from(parent).unwrap()).or_default().push(pid);
            sizes.insert(pid, field("VmRSS:").unwrap_or(0));
        }
    }
    let (mut all, mut ahead) = (0, vec![root]);
    while let Some(pid) = ahead.pop() {
        all += sizes.get(&pid).copied().unwrap_or(0);
        ahead.extend(children.remove(&pid).unwrap_or_default());
    }
    (sizes.get(&root).copied().unwrap_or(0), all)
}

/// Least squares: how much the values change in one second.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (over, under) = points.iter().fold((0.0, 0.0), |(o, u), p| (o + (p.0 - x) * (p.1 - y), u + (p.0 - x) * (p.0 - x)));
    over / under
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; scripts/soak runs it"]
async fn memory_over_time() {
    let length = Duration::from_secs(setting("GREFFIER_SOAK_SECONDS", 600) as u64);
    println!(
        "| fitting | minutes | jobs | worker alone, MiB: min / median / max | with its children: max | slope of the second half, MiB/h |"
    );
    println!("|---|---|---|---|---|---|");
    for kind in BOTH {
        let fleet = Fleet::new(kind, |_| ()).await;
        let worker = fleet.worker();
        worker.says("working").await;
        let (since, pid) = (Instant::now(), worker.child.id());
        let sampling = tokio::task::spawn_blocking(move || {
            let mut samples = Vec::new();
            while since.elapsed() < length {
                let (own, all) = resident(pid);
                samples.push((since.elapsed().as_secs_f64(), own as f64 / 1024.0, all as f64 / 1024.0));
                std::thread::sleep(Duration::from_secs(1));
            }
            samples
        });
        let mut sent = 0;
        while since.elapsed() < length {
            // Every twentieth has 8 MB besides.
            let submission = if sent % 20 == 19 { fleet.heavy(sent, 8_000_000).await } else { fleet.submission(sent).await };
            fleet.send(Lane::Submission, &envelope(&submission)).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let samples = sampling.await.unwrap();
        until_ended(&worker, sent).await;
        let mut own: Vec<f64> = samples.iter().map(|s| s.1).collect();
        own.sort_by(f64::total_cmp);
        let all = samples.iter().map(|s| s.2).fold(0.0, f64::max);
        let half: Vec<_> = samples[samples.len() / 2..].iter().map(|s| (s.0, s.1)).collect();
        let (least, middle, most) = (own[0], own[own.len() / 2], own[own.len() - 1]);
        let minutes = length.as_secs_f64() / 60.0;
        println!("| {kind:?} | {minutes:.0} | {sent} | {least:.0} / {middle:.0} / {most:.0} | {all:.0} | {:.1} |", slope(&half) * 3600.0);
    }
}
