//! Files past a real clamd (`GREFFIER_TEST_CLAMD`, started by `scripts/services`), and past small servers that misbehave as
//! a real one seldom does when asked to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use greffier::antivirus::{Antivirus, AntivirusConfig, Scan, Why, clamd};
use serde_json::Value;

use crate::support::{codes, command, stdout};

/// What `scripts/services` started; a missing server fails the test.
fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run the tests through scripts/test or scripts/services run"))
}

fn engine() -> String {
    service("GREFFIER_TEST_CLAMD")
}

fn config(engines: &[&str]) -> AntivirusConfig {
    AntivirusConfig {
        engines: engines.iter().map(|e| (*e).to_owned()).collect(),
        connect_timeout_ms: 60_000,
        // Tests of engines that do not answer set their own.
        scan_timeout_ms: 120_000,
        ..AntivirusConfig::default()
    }
}

fn scan(config: &AntivirusConfig, bytes: &[u8]) -> Scan {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let antivirus = Antivirus::new(config).unwrap();
    runtime().block_on(antivirus.scan(&Arc::new(file), bytes.len() as u64))
}

fn runtime() -> tokio::runtime::Runtime {
    crate::watchdog::watch();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A server on a port of its own that treats every connection as `serve` does, and lives as long as the tests.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

/// Reads a whole `INSTREAM`, then answers.
fn answering(answer: &'static [u8]) -> String {
    server(move |mut stream| {
        let mut command = [0; 10];
        stream.read_exact(&mut command).unwrap();
        assert_eq!(&command, b"zINSTREAM\0");
        read_stream(&mut stream);
        stream.write_all(answer).unwrap();
    })
}

/// Reads what follows the command: chunks, and an empty one at the end.
fn read_stream(stream: &mut TcpStream) {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut chunk = vec![0; u32::from_be_bytes(length) as usize];
        if chunk.is_empty() {
            return;
        }
        stream.read_exact(&mut chunk).unwrap();
    }
}

/// An engine that is not there.
fn nobody() -> String {
    crate::support::nobody().to_string()
}

pub fn zipped(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(bytes).unwrap();
    archive.finish().unwrap().into_inner()
}

fn infected(scan: &Scan) -> bool {
    matches!(scan, Scan::Infected { signature } if signature.contains("EICAR"))
}

const fn missed(why: Why) -> Scan {
    Scan::NotScanned { why }
}

/// `greffier inspect` with these engines: exit code and one report per file.
fn inspect(engines: &[&str], required: bool, files: &[&Path], more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = command()
        .env("GREFFIER_ANTIVIRUS__ENGINES", serde_json::to_string(engines).unwrap())
        .env("GREFFIER_ANTIVIRUS__REQUIRED", required.to_string())
        .args(["inspect", "--json"])
        .args(more)
        .args(files)
        .output()
        .unwrap();
    let reports = stdout(&output).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    (output.status.code(), reports)
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn the_test_file_is_recognised_bare_and_in_an_archive_and_a_clean_file_is_clean() {
    for engine in [engine(), service("GREFFIER_TEST_CLAMD_SOCKET")] {
        let config = config(&[&engine]);
        assert!(infected(&scan(&config, &clamd::eicar())), "{engine}");
        assert!(infected(&scan(&config, &zipped("photo.jpg", &clamd::eicar()))), "{engine}");
        assert_eq!(scan(&config, b"Compte rendu de la s\xc3\xa9ance.\n"), Scan::Clean, "{engine}");
        assert_eq!(scan(&config, b""), Scan::Clean, "{engine}");
        // Several chunks, the last one cut.
        assert_eq!(scan(&config, &vec![b'a'; 3_000_001]), Scan::Clean, "{engine}");
    }
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn what_an_engine_does_not_look_at_is_not_scanned() {
    let small = service("GREFFIER_TEST_CLAMD_SMALL");
    let too_long = vec![b'a'; 8 * 1024 * 1024];
    // The engine objects while bytes are still on their way.
    let unknown = AntivirusConfig { max_stream_bytes: 0, ..config(&[&small]) };
    assert_eq!(scan(&unknown, &too_long), missed(Why::TooLarge));
    // Its limit is known: nothing is sent at all, not even to an engine that is not there.
    let known = AntivirusConfig { max_stream_bytes: 1024 * 1024, ..config(&[&nobody()]) };
    assert_eq!(scan(&known, &too_long), missed(Why::TooLarge));
    assert_eq!(scan(&known, b"short"), missed(Why::Unreachable));
    // A stream within its limit, what it unpacks to is not.
    assert_eq!(scan(&unknown, &zipped("a.bin", &too_long)), missed(Why::EngineLimit));
}

#[test]
fn a_bomb_that_comes_back_ok_is_not_scanned() {
    let dir = tempfile::tempdir().unwrap();
    let bomb = dir.path().join("export.zip");
    std::fs::write(&bomb, zipped("a.csv", &b"a;b\n".repeat(2 * 1024 * 1024))).unwrap();
    let ok = answering(b"stream: OK\0");
    let output = command()
        .env("GREFFIER_ANTIVIRUS__ENGINES", format!("[\"{ok}\"]"))
        .env("GREFFIER_ANTIVIRUS__MAX_STREAM_BYTES", "4194304")
        .args(["inspect", "--json"])
        .arg(&bomb)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(codes(&report).contains(&"antivirus-skipped".to_owned()), "{:?}", codes(&report));
}

#[test]
fn an_engine_that_fails_makes_nothing_clean() {
    let dies = server(|mut stream| {
        let mut part = [0; 100];
        stream.read_exact(&mut part).unwrap();
    });
    let content = vec![b'a'; 4 * 1024 * 1024];
    assert_eq!(scan(&config(&[&dies]), &content), missed(Why::Closed));
    assert_eq!(scan(&config(&[&answering(b"")]), &content), missed(Why::Closed));
    assert_eq!(scan(&config(&[&answering(b"stream: OK")]), &content), missed(Why::Closed), "an answer without its end");
    assert_eq!(scan(&config(&[&answering(b"stream: Can't allocate memory ERROR\0")]), &content), missed(Why::Failed));
    assert_eq!(scan(&config(&[&nobody()]), &content), missed(Why::Unreachable));
    assert_eq!(scan(&config(&["/nonexistent/clamd.sock"]), &content), missed(Why::Unreachable));
    let silent = server(std::mem::forget);
    let hasty = AntivirusConfig { scan_timeout_ms: 300, ..config(&[&silent]) };
    assert_eq!(scan(&hasty, b"x"), missed(Why::TimedOut));
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn a_file_that_is_not_what_was_hashed_is_not_scanned() {
    let antivirus = Antivirus::new(&config(&[&engine()])).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"ten bytes.").unwrap();
    let file = Arc::new(file);
    for size in [9, 11] {
        assert_eq!(runtime().block_on(antivirus.scan(&file, size)), missed(Why::Unreadable), "{size}");
    }
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn engines_that_disagree_are_believed_when_they_warn() {
    let (real, lax, dead) = (engine(), answering(b"stream: OK\0"), nobody());
    assert!(infected(&scan(&config(&[&lax, &real]), &clamd::eicar())));
    assert!(infected(&scan(&config(&[&dead, &real]), &clamd::eicar())));
    assert_eq!(scan(&config(&[&lax, &real]), b"harmless"), Scan::Clean);
    assert_eq!(scan(&config(&[&real, &dead]), b"harmless"), missed(Why::Unreachable));
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn an_infected_file_is_rejected_with_or_without_cached_facts() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, clamd::eicar()).unwrap();
    let cached = ["--cache", cache.to_str().unwrap()];
    // Facts of a time when nobody scanned.
    let (_, before) = inspect(&[], false, &[&file], &cached);
    assert!(!codes(&before[0]).iter().any(|c| c.starts_with("antivirus")), "{:?}", codes(&before[0]));
    for _ in 0..2 {
        let (exit, reports) = inspect(&[&engine()], true, &[&file], &cached);
        assert_eq!(exit, Some(1));
        assert_eq!(reports[0]["verdict"], "rejected");
        let found =
            reports[0]["findings"].as_array().unwrap().iter().find(|f| f["code"] == "antivirus-infected").expect("it is recognised");
        assert_eq!((&found["severity"], &found["category"]), (&"error".into(), &"antivirus".into()));
        assert!(found["args"]["signature"].as_str().unwrap().contains("EICAR"), "{found}");
    }
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn a_file_that_was_not_scanned_is_undetermined_where_the_scan_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "Compte rendu de la séance du mardi : rien à signaler.\n").unwrap();
    let dead = nobody();
    let (exit, reports) = inspect(&[&dead], true, &[&file], &[]);
    assert_eq!((exit, &reports[0]["verdict"]), (Some(3), &"undetermined".into()));
    assert!(codes(&reports[0]).contains(&"antivirus-not-scanned".to_owned()));
    let (exit, reports) = inspect(&[&dead], false, &[&file], &[]);
    assert_eq!((exit, &reports[0]["verdict"]), (Some(0), &"accepted".into()));
    assert!(codes(&reports[0]).contains(&"antivirus-skipped".to_owned()));
    let (exit, reports) = inspect(&[&engine()], true, &[&file], &[]);
    assert_eq!(exit, Some(0));
    assert!(!codes(&reports[0]).iter().any(|c| c.starts_with("antivirus")), "{:?}", codes(&reports[0]));
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn a_file_beyond_the_limits_is_a_finding_where_the_scan_is_required() {
    let dir = tempfile::tempdir().unwrap();
    // Larger than the engine takes, and small with much in it: it is the engine that says so.
    let (text, archive) = (dir.path().join("long.txt"), dir.path().join("export.zip"));
    let long = "Compte rendu de la séance du mardi : rien à signaler.\n".repeat(40_000);
    std::fs::write(&text, &long).unwrap();
    std::fs::write(&archive, zipped("a.csv", &b"a;b\n".repeat(600_000))).unwrap();
    let small = service("GREFFIER_TEST_CLAMD_SMALL");
    for (file, limit) in [(&text, "1048576"), (&text, "0"), (&archive, "0")] {
        let settings = |required: &str| {
            let mut command = command();
            command.env("GREFFIER_ANTIVIRUS__ENGINES", format!("[\"{small}\"]")).env("GREFFIER_ANTIVIRUS__REQUIRED", required);
            let output = command.env("GREFFIER_ANTIVIRUS__MAX_STREAM_BYTES", limit).args(["inspect", "--json"]).arg(file).output().unwrap();
            let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
            (output.status.code(), report)
        };
        let (exit, report) = settings("true");
        assert_eq!((exit, &report["verdict"]), (Some(1), &"rejected".into()), "{report}");
        let found = report["findings"].as_array().unwrap().iter().find(|f| f["code"] == "antivirus-beyond-limits").expect("it is said");
        assert_eq!(found["severity"], "error");
        assert_eq!(found["reason"]["en"].as_str().unwrap().contains("1,048,576 bytes"), limit != "0", "{found}");
        let (exit, report) = settings("false");
        assert_eq!(exit, Some(0), "{report}");
        assert!(codes(&report).contains(&"antivirus-skipped".to_owned()), "{report}");
    }
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn an_engine_that_does_not_look_at_the_largest_file_is_found_out() {
    let (mib, small) = (1024 * 1024, service("GREFFIER_TEST_CLAMD_SMALL"));
    let largest = |engine: &str, stream: u64, file: u64| {
        let antivirus = Antivirus::new(&AntivirusConfig { max_stream_bytes: stream, ..config(&[engine]) }).unwrap();
        runtime().block_on(antivirus.probe_largest(file))
    };
    for (engine, stream, file, ok) in [
        (&small, mib, 16 * mib, true),
        (&small, 2 * mib, 16 * mib, false),
        (&small, 16 * mib, mib, true),
        (&engine(), 32 * mib, 64 * mib, true),
    ] {
        let probes = largest(engine, stream, file);
        assert!(probes.len() == 1 && probes[0].ok == ok, "{stream} {file}: {probes:?}");
        assert!(ok || probes[0].detail.contains("antivirus.max_stream_bytes"), "{probes:?}");
    }
    // It takes the stream, and looks at less of it: only the alert tells.
    let stops = answering(b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0");
    let probes = largest(&stops, mib, mib);
    assert!(probes.len() == 1 && !probes[0].ok && probes[0].detail.contains("MaxFileSize"), "{probes:?}");
    assert!(largest(&engine(), 0, mib).is_empty() && largest(&nobody(), mib, mib).is_empty(), "not known; said already");
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn a_bundle_leaves_an_infected_file_out_and_says_what_was_scanned() {
    let dir = tempfile::tempdir().unwrap();
    let deposit = dir.path().join("deposit");
    copy(&crate::support::root().join("fixtures/dossiers/lgc-eligibility"), &deposit);
    std::fs::write(deposit.join("documentation/notice.txt"), clamd::eicar()).unwrap();
    let run = |engines: &[&str], out: &str| {
        let output = command()
            .env("GREFFIER_ANTIVIRUS__ENGINES", serde_json::to_string(engines).unwrap())
            .args(["check", "--offline", "--json"])
            .arg(&deposit)
            .arg("--out")
            .arg(dir.path().join(out))
            .output()
            .unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        let limitations: String =
            report["limitations"].as_array().unwrap().iter().map(|l| l["en"].as_str().unwrap()).collect::<Vec<_>>().join("\n");
        (report, limitations)
    };
    let notice = |report: &Value| {
        let items = report["items"].as_array().unwrap();
        items.iter().find(|i| i["name"] == "notice.txt").cloned().expect("it is listed")
    };

    let (report, said) = run(&[&engine()], "scanned");
    assert_eq!(notice(&report)["withheld"], "antivirus");
    assert!(said.contains("submitted to ClamAV") && !said.contains("could not be scanned"), "{said}");
    let mut bundle = std::fs::read_dir(dir.path().join("scanned")).unwrap().map(|e| e.unwrap().path());
    let bundle = bundle.find(|p| p.extension().is_some_and(|e| e == "zip")).expect("a bundle");
    let names: Vec<String> =
        zip::ZipArchive::new(std::fs::File::open(bundle).unwrap()).unwrap().file_names().map(|n| n.unwrap().into_owned()).collect();
    assert!(!names.iter().any(|n| n.ends_with("notice.txt")), "{names:?}");

    let (report, said) = run(&[], "nobody");
    assert_ne!(notice(&report)["withheld"], "antivirus");
    assert!(said.contains("not submitted to an antivirus"), "{said}");

    let (_, said) = run(&[&nobody()], "down");
    assert!(said.contains("could not be scanned"), "{said}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The probes of one configuration that failed, as `NAME: DETAIL`.
fn failures(config: &AntivirusConfig, max_file_bytes: u64) -> Vec<String> {
    let antivirus = Antivirus::new(config).unwrap();
    let probes = runtime().block_on(antivirus.probe(max_file_bytes, "2026-11-24T00:00:00Z".parse().unwrap()));
    assert!(probes.len() > 1, "{probes:?}");
    probes.iter().filter(|p| !p.ok).map(|p| format!("{}: {}", p.name, p.detail)).collect()
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn the_probe_passes_a_good_engine_and_names_what_a_bad_one_lacks() {
    let mib = 1024 * 1024;
    let good = AntivirusConfig { required: true, max_stream_bytes: 100 * mib, ..config(&[&engine()]) };
    assert_eq!(failures(&good, 100 * mib), Vec::<String>::new());
    let large = failures(&good, 101 * mib);
    assert!(large.len() == 1 && large[0].contains("worker.max_file_bytes"), "{large:?}");
    assert_eq!(failures(&AntivirusConfig { required: false, ..good.clone() }, 101 * mib), Vec::<String>::new());

    let small = service("GREFFIER_TEST_CLAMD_SMALL");
    let below = failures(&AntivirusConfig { engines: vec![small.clone()], ..good.clone() }, mib);
    assert!(below.len() == 1 && below[0].contains("StreamMaxLength"), "{below:?}");
    assert_eq!(failures(&AntivirusConfig { engines: vec![small], max_stream_bytes: mib, ..good.clone() }, mib), Vec::<String>::new());

    let down = failures(&AntivirusConfig { engines: vec![nobody()], ..good.clone() }, mib);
    assert!(down.len() == 1 && down[0].contains("start clamd"), "{down:?}");

    // Says OK to everything: has no signatures, and does not admit what it did not look at.
    let lax = server(|mut stream| {
        let mut command = Vec::new();
        while !command.ends_with(b"\0") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            command.push(byte[0]);
        }
        let answer: &[u8] = match command.as_slice() {
            b"zPING\0" => b"PONG\0",
            b"zVERSION\0" => b"ClamAV 1.0.0/27000/Mon Jan  5 08:00:00 2026\0",
            b"zINSTREAM\0" => {
                read_stream(&mut stream);
                b"stream: OK\0"
            }
            _ => b"UNKNOWN COMMAND\0",
        };
        let _ = stream.write_all(answer);
    });
    let lax = AntivirusConfig { engines: vec![lax], max_stream_bytes: 0, ..good };
    let failed = failures(&lax, mib);
    assert!(failed.iter().any(|f| f.contains("EICAR")) && failed.iter().any(|f| f.contains("AlertExceedsMax")), "{failed:?}");
    let antivirus = Antivirus::new(&lax).unwrap();
    let probes = runtime().block_on(antivirus.probe(mib, "2026-11-24T00:00:00Z".parse().unwrap()));
    assert!(probes.iter().any(|p| p.ok && p.detail.contains("322 days old")), "{probes:?}");
}
