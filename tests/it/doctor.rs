//! `greffier doctor` on this machine, with what is wrong put there on purpose.

use std::process::Output;

use serde_json::Value;

use crate::support::command;

/// `doctor --json` with these settings. The sandbox's own drills are tried elsewhere: here they end soon.
pub fn doctor(settings: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = command();
    command
        .env("GREFFIER_INSPECT__MAX_CPU_MS", "500")
        .env("GREFFIER_SANDBOX__CPU_SECONDS", "1")
        .env("GREFFIER_SANDBOX__MEMORY_BYTES", "134217728");
    command.env("GREFFIER_SANDBOX__MAX_MAPPED_BYTES", "67108864");
    command.args(["doctor", "--json"]).args(arguments).envs(settings.iter().copied());
    read(&command.output().unwrap())
}

fn read(output: &Output) -> (Option<i32>, Value) {
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

pub fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no check `{name}` in {report}"))
}

#[test]
#[ignore = "needs clamd; run by scripts/test"]
fn a_fit_machine_is_told_line_by_line() {
    let engine = std::env::var("GREFFIER_TEST_CLAMD").expect("GREFFIER_TEST_CLAMD: run the tests through scripts/test");
    let engines = format!("[\"{engine}\"]");
    let (exit, report) = doctor(&[("GREFFIER_CHECK__JOBS", "2"), ("GREFFIER_ANTIVIRUS__ENGINES", &engines)], &[]);
    for one in report["checks"].as_array().unwrap() {
        let fields: Vec<_> = one.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["detail", "name", "ok"], "{one}");
        assert!(one["name"].is_string() && one["ok"].is_boolean() && one["detail"].is_string(), "{one}");
    }
    for name in ["memory", "open files", "clock", "antivirus sizes"] {
        assert_eq!(check(&report, name)["ok"], true, "{report}");
    }
    for what in ["version", "test file", "limits", "stream", "largest file"] {
        assert_eq!(check(&report, &format!("antivirus {engine} {what}"))["ok"], true, "{report}");
    }
    for (what, renderer) in [("PDF", "pdftoppm"), ("videos", "ffmpeg")] {
        let drawn = check(&report, &format!("previews of {what}"));
        assert!(drawn["detail"].as_str().unwrap().ends_with(renderer), "{drawn}");
    }
    let all = report["checks"].as_array().unwrap().iter().all(|c| c["ok"] == true);
    assert_eq!(report["ok"], all);
    assert_eq!(exit, Some(i32::from(!all)));
}

#[test]
fn what_is_not_enough_is_named_with_what_to_change() {
    let settings = [
        ("GREFFIER_CHECK__JOBS", "1000000"),
        ("GREFFIER_ANTIVIRUS__ENGINES", "[\"127.0.0.1:1\"]"),
        ("GREFFIER_PREVIEW__PDF_RENDERER", "/no/pdftoppm"),
    ];
    let (exit, report) = doctor(&settings, &[]);
    assert_eq!((exit, &report["ok"]), (Some(1), &false.into()));
    for (name, advice) in [
        ("memory", "check.jobs"),
        ("open files", "LimitNOFILE"),
        ("antivirus 127.0.0.1:1 answers", "start clamd"),
        ("previews", "/no/pdftoppm"),
    ] {
        let check = check(&report, name);
        assert!(check["ok"] == false && check["detail"].as_str().unwrap().contains(advice), "{check}");
    }
}

#[test]
fn a_worker_is_told_of_its_folders_queue_and_stores() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("staging")).unwrap();
    let (vault, staging, queue) = (path("vault"), path("staging"), path("queue.sqlite"));
    let settings = [
        ("GREFFIER_CHECK__JOBS", "1"),
        ("GREFFIER_VAULT__PATH", vault.as_str()),
        ("GREFFIER_STAGING__PATH", staging.as_str()),
        ("GREFFIER_QUEUE__PATH", queue.as_str()),
    ];
    let (_, report) = doctor(&settings, &["--worker"]);
    for name in ["disk of vault.path", "disk of queue.path", "clock of vault.path"] {
        assert!(check(&report, name)["ok"].is_boolean());
    }
    let names: Vec<_> = report["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.iter().any(|n| n.starts_with("vault: ")) && names.iter().any(|n| n.starts_with("staging: ")), "{names:?}");
    let (_, without) = doctor(&settings, &[]);
    assert!(without["checks"].as_array().unwrap().len() < names.len());

    let broker = [("GREFFIER_QUEUE__KIND", "amqp"), ("GREFFIER_QUEUE__URLS", "[\"amqp://127.0.0.1:1\"]")];
    let (exit, report) = doctor(&[settings.as_slice(), &broker].concat(), &["--worker"]);
    assert_eq!(exit, Some(1));
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().any(|c| c["ok"] == false && c["detail"].as_str().unwrap().starts_with("QUEUE-")), "{report}");
}

#[test]
#[ignore = "needs S3; run by scripts/test"]
fn the_clock_of_an_s3_server_is_compared_with_ours() {
    let server = std::env::var("GREFFIER_TEST_S3").expect("GREFFIER_TEST_S3: run the tests through scripts/test");
    let s3 = |endpoint: &str| {
        let settings = [
            ("GREFFIER_CHECK__JOBS", "1"),
            ("GREFFIER_VAULT__KIND", "s3"),
            ("GREFFIER_VAULT__BUCKET", "doctor-absent"),
            ("GREFFIER_VAULT__PATH_STYLE", "true"),
            ("GREFFIER_VAULT__ENDPOINT", endpoint),
            ("GREFFIER_VAULT__MAX_ATTEMPTS", "1"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let queue = dir.path().join("queue.sqlite");
        let more = [("GREFFIER_QUEUE__PATH", queue.to_str().unwrap())];
        doctor(&[settings.as_slice(), &more].concat(), &["--worker"]).1
    };
    assert_eq!(check(&s3(&server), "clock of vault")["ok"], true);
    // A server whose clock stands still.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 403 Forbidden\r\ndate: Sun, 01 Nov 2026 00:00:00 GMT\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    let behind = s3(&address);
    let clock = check(&behind, "clock of vault");
    assert!(clock["ok"] == false && clock["detail"].as_str().unwrap().contains("NTP"), "{clock}");
}
