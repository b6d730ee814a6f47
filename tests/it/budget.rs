//! What one submission may cost the process that judges it: memory, time, and the patience of those who ask how it is.

use std::io::{Cursor, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greffier::config::Config;
use greffier::model::message::Lane;
use greffier::model::submission::{Content, FileRef, FiledUnder, Item};
use zip::write::SimpleFileOptions;

use crate::fleet::harness::{Fleet, Kind};
use crate::support;

/// What is promised of a worker besides its children and the memory of submissions, bytes.
const ITSELF: u64 = 100 * 1024 * 1024;

/// A table of 100,000 cells, as long as a row: each sheet differs from the others in its first cell.
fn sheet(n: usize) -> Vec<u8> {
    let mut table = format!("{n:02}");
    for cell in 1..100_000 {
        table.push_str(if cell % 10 == 0 { "\n" } else { ";" });
        table.push_str("ab");
    }
    table.into_bytes()
}

/// One member that compresses to next to nothing.
fn zipped(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

/// A submission whose `n` items name `objects` in turn.
fn submission(folder: &Path, objects: &[String], n: usize) {
    let items: Vec<_> = (0..n)
        .map(|i| {
            let object = &objects[i % objects.len()];
            serde_json::json!({ "id": format!("i{i}"), "preuve": "INS.04.03.01", "file": { "object": object, "name": format!("{i}-{object}") } })
        })
        .collect();
    let document = serde_json::json!({
        "schema": "greffier/submission/1", "demarche": "lgc-vague-2", "candidature": { "number": "AAAAAAAAAA" },
        "stage": { "kind": "chapter", "chapter": "ins" }, "items": items,
    });
    std::fs::write(folder.join("submission.json"), serde_json::to_vec(&document).unwrap()).unwrap();
}

/// Runs to the end; gives the most memory that the process itself (not its children) had resident, bytes.
fn peak(mut command: Command) -> (i32, u64) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    loop {
        // Gone at the very end: what was read last stands.
        most = most.max(high_water(&child).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code().unwrap_or(-1), most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `VmHWM` of a process (proc_pid_status(5)), bytes.
fn high_water(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The most that the process may take: itself, one child's share (whose answer it holds while it is judged), one submission.
fn promised() -> u64 {
    let config = Config::default();
    ITSELF + config.sandbox.memory_bytes + config.check.submission_memory_bytes
}

fn check(folder: &Path, out: &Path) -> Command {
    let mut command = support::command();
    command.env("GREFFIER_CHECK__JOBS", "1");
    command.arg("check").arg(folder.join("submission.json")).arg("--out").arg(out).args(["--offline", "--json"]);
    command
}

/// The one bundle below a folder.
fn bundle(out: &Path) -> std::path::PathBuf {
    let mut zips = std::fs::read_dir(out).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "zip"));
    zips.next().expect("a bundle")
}

#[test]
fn one_small_archive_under_two_hundred_proofs_is_described_once_and_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.zip"), zipped("a.csv", &sheet(0))).unwrap();
    submission(folder.path(), &["a.zip".into()], 200);
    let out = folder.path().join("out");
    let (code, peak) = peak(check(folder.path(), &out));
    assert!((0..=1).contains(&code), "{code}");
    eprintln!("peak {} MB", peak / 1_000_000);
    // Far below what is promised: one file is one file, whatever names it.
    assert!(peak < 300_000_000, "{peak}");

    let json = std::fs::read(out.join("report.json")).unwrap();
    assert!(json.len() < 4_000_000, "{}", json.len());
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let items = report["items"].as_array().unwrap();
    assert_eq!(items.iter().filter(|i| i["facts"].is_object()).count(), 1);
    assert_eq!(items.iter().filter(|i| i["facts_of"] == items[0]["id"]).count(), 199);
    let inner = &items[0]["facts"]["detail"]["members"][0]["facts"];
    assert_eq!(inner["left_out"]["cells"], 100_000, "what was left out is counted");
    assert_eq!(inner["detail"]["sheets"][0]["values"].as_array().map(Vec::len), Some(0));

    // What was written can be read: by `verify`, and as the round before.
    let verified = support::command().arg("verify").arg(bundle(&out)).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    let again = check(folder.path(), &folder.path().join("again")).arg("--previous").arg(out.join("report.json")).output().unwrap();
    let round: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(round["round"]["counts"]["unchanged"], 200);
}

#[test]
fn many_large_tables_stay_within_what_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::env::var("GREFFIER_TEST_SHEETS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let objects: Vec<String> = (0..count).map(|n| format!("{n}.csv")).collect();
    objects.iter().enumerate().for_each(|(n, object)| std::fs::write(folder.path().join(object), sheet(n)).unwrap());
    submission(folder.path(), &objects, count);
    let (code, peak) = peak(check(folder.path(), &folder.path().join("out")));
    assert!((0..=1).contains(&code), "{code}");
    eprintln!("peak {} MB", peak / 1_000_000);
    assert!(peak < promised(), "{peak}");
    // Cells are held for the files in hand and no longer: those of 40 tables would take more.
    assert!(peak < 400_000_000, "{peak}");
}

#[test]
fn a_submission_of_too_many_items_is_refused_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "x").unwrap();
    submission(folder.path(), &["a".into()], 501);
    let output = check(folder.path(), &folder.path().join("out")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("JOB-TOO-MANY-ITEMS"), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The status line of `/livez`, and how long it took.
fn livez(address: std::net::SocketAddr) -> Option<Duration> {
    let since = Instant::now();
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let (status, _) = crate::ops::ask_at(&address.to_string(), stream, "GET /livez HTTP/1.1\nHost: HOST");
    (status == 200).then(|| since.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_beside_the_worst_deposits() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fleet = Fleet::new(Kind::Embedded, |config| config.http.listen = address.to_string()).await;
    // Text that the rules look at letter by letter: one valid test number after the other, and cells to the limit.
    let numbers = "1850578006084 36 ".repeat(50_000);
    let files = [("numbers.zip", zipped("a.txt", numbers.as_bytes())), ("cells.zip", zipped("a.csv", &sheet(1)))];
    let mut following = Vec::new();
    for n in 0..3 {
        let mut submission = fleet.submission(n).await;
        for (name, bytes) in &files {
            let object = fleet.stage(bytes).await;
            for copy in 0..20 {
                let file = FileRef { object: object.clone(), name: format!("{copy}-{name}"), size: None, media_type: None, sha256: None };
                let filed_under = FiledUnder::Preuve("APCV.01".into());
                submission.items.push(Item { id: format!("{copy}-{name}"), filed_under, content: Content::File(file) });
            }
        }
        following.push(fleet.submit(Lane::Submission, &submission).await);
    }
    let worker = fleet.worker();
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let until = std::sync::Arc::clone(&over);
    let polling = std::thread::spawn(move || {
        let started = Instant::now();
        while livez(address).is_none() {
            assert!(started.elapsed() < Duration::from_secs(120), "it never answered");
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut answers = Vec::new();
        while !until.load(std::sync::atomic::Ordering::Relaxed) {
            answers.push(livez(address).expect("alive"));
            std::thread::sleep(Duration::from_millis(100));
        }
        answers
    });
    for one in &mut following {
        one.end(Some(&worker)).await;
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut answers = polling.join().unwrap();
    answers.sort_unstable();
    assert!(answers.len() >= 10, "{} answers: the deposits ended too soon to say anything", answers.len());
    let most = answers[(answers.len() * 99 / 100).min(answers.len() - 1)];
    let longest = answers[answers.len() - 1];
    eprintln!("{} answers, 99 % within {most:?}, longest {longest:?}", answers.len());
    assert!(most < Duration::from_secs(1), "{most:?}");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
}

/// CPU time of a process and of its children that ended, clock ticks (proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<u64> = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(4).map(|n| n.parse().unwrap()).collect();
    fields.iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_job_runs_on_after_its_time() {
    let fleet = Fleet::new(Kind::Embedded, |config| {
        config.worker.job_seconds = 1;
        config.queue.retry_delays_seconds = vec![1];
    })
    .await;
    let mut submission = fleet.submission(0).await;
    // No two alike, so that each is looked at and judged.
    for n in 0..60 {
        let bytes = zipped("a.csv", &sheet(n));
        let object = fleet.stage(&bytes).await;
        let file = FileRef { object, name: format!("{n}.zip"), size: None, media_type: None, sha256: None };
        let filed_under = FiledUnder::Preuve("APCV.01".into());
        submission.items.push(Item { id: format!("{n}.zip"), filed_under, content: Content::File(file) });
    }
    let mut following = fleet.submit(Lane::Submission, &submission).await;
    let worker = fleet.worker();
    let ended = following.end(Some(&worker)).await;
    let crate::fleet::harness::Ended::Parked(parked) = ended else { panic!("{ended:?}") };
    assert_eq!(parked["reason"]["code"], "JOB-TIMEOUT");
    // A child or a thread that was given up ends within a moment; then the worker has nothing to do.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = ticks(worker.child.id());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let spent = ticks(worker.child.id()) - before;
    // On Linux a clock tick as proc(5) tells it is a hundredth of a second.
    assert!(spent < 100, "{spent} hundredths of a second of CPU time within three seconds: something runs on");
}
