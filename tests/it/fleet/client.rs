//! The client in Python, as a newcomer runs it: real broker, real S3, real worker.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greffier::store::config::StoreConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::harness::{Fleet, Kind, PATIENCE, service};
use crate::support::{python, root};

const CLEAN: &str = "fixtures/dossiers/lgc-clean/submission.json";

/// The script with this fleet's broker, prefix and staging.
fn client(fleet: &Fleet, document: &Path) -> Command {
    client_of(fleet, document, &fleet.config.queue.urls[0])
}

fn client_of(fleet: &Fleet, document: &Path, broker: &str) -> Command {
    let mut command = Command::new(python());
    command.current_dir(root()).arg("examples/python/submit.py").arg(document).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["--prefix", &fleet.config.queue.prefix, "--timeout", &PATIENCE.as_secs().to_string()]).env("GREFFIER_AMQP", broker);
    match &fleet.config.staging.endpoint {
        Some(endpoint) => command.args(["--staging", &format!("s3://{}", fleet.config.staging.bucket), "--endpoint", endpoint]),
        None => command.arg("--staging").arg(&fleet.config.staging.path),
    };
    command
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A document in a folder of its own; `change` alters the clean one.
fn document(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) -> PathBuf {
    let mut submission: serde_json::Value = serde_json::from_slice(&std::fs::read(root().join(CLEAN)).unwrap()).unwrap();
    for item in submission["items"].as_array_mut().unwrap() {
        let object = item["file"]["object"].as_str().unwrap().to_owned();
        std::fs::create_dir_all(folder.join(&object).parent().unwrap()).unwrap();
        std::fs::copy(root().join("fixtures/dossiers/lgc-clean").join(&object), folder.join(&object)).unwrap();
    }
    change(&mut submission);
    let path = folder.join("submission.json");
    std::fs::write(&path, serde_json::to_vec(&submission).unwrap()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ, S3 and Python; run by scripts/test"]
async fn the_python_client_deposits_follows_and_prints_the_verdict() {
    let fleet = Fleet::new(Kind::Real, |_| ()).await;
    let worker = fleet.worker();
    let first = run(client(&fleet, Path::new(CLEAN)));
    assert_eq!(first.code, Some(0), "{}{}\n{}", first.out, first.err, worker.log());
    assert!(first.err.contains("Reçu : 7 élément(s)") && first.err.contains("[7/7] ✔"), "{}", first.err);
    assert!(first.out.contains("Verdict : accepted") && first.out.contains("Paquet : bundles/"), "{}", first.out);

    // Once more: told again, made once, nothing uploaded twice.
    let again = run(client(&fleet, Path::new(CLEAN)));
    assert_eq!((again.code, &again.out), (Some(0), &first.out), "{}", again.err);
    assert!(!again.err.contains("Reçu"), "{}", again.err);
    assert_eq!(fleet.records("outcomes/").await.len(), 1);
    let staged = fleet.staging.list("uploads/", None, 100).await.unwrap();
    assert_eq!(staged.len(), 7, "{staged:?}");

    // A vendor's mistake.
    let dir = tempfile::tempdir().unwrap();
    let mistaken = document(dir.path(), |submission| {
        submission["candidature"]["number"] = "AAAAAAAAAB".into();
        submission["items"][1]["file"]["name"] = "capture\u{1b}[31m.pdf".into();
    });
    let rejected = run(client(&fleet, &mistaken));
    assert_eq!(rejected.code, Some(1), "{}{}", rejected.out, rejected.err);
    assert!(rejected.err.contains("✘ capture") && rejected.out.contains("Verdict : rejected"), "{}{}", rejected.out, rejected.err);
    assert!(!rejected.err.contains('\u{1b}') && !rejected.out.contains('\u{1b}'), "a file name moves the cursor");

    // A message that can never become a job.
    let unknown = document(dir.path(), |submission| submission["demarche"] = "lgc-vague-99".into());
    let parked = run(client(&fleet, &unknown));
    assert_eq!(parked.code, Some(3), "{}{}", parked.out, parked.err);
    assert!(parked.out.contains("[JOB-DEMARCHE-UNKNOWN]"), "{}", parked.out);

    // What the sender has to mend.
    let missing = document(dir.path(), |submission| submission["items"][0]["file"]["object"] = "depot/absent".into());
    let nowhere = { client(&fleet, Path::new(CLEAN)).args(["--prefix", "nobody-here"]).output().unwrap() };
    assert_eq!(nowhere.status.code(), Some(2), "{}", String::from_utf8_lossy(&nowhere.stderr));
    for (path, word) in [(missing, "depot/absent"), (PathBuf::from("/nowhere.json"), "/nowhere.json")] {
        let refused = run(client(&fleet, &path));
        assert_eq!(refused.code, Some(2), "{}", refused.err);
        assert!(refused.err.contains(word) && !refused.err.contains("Traceback"), "{}", refused.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ, S3 and Python; run by scripts/test"]
async fn the_python_client_survives_a_lost_connection_and_stages_into_a_folder() {
    let staging = tempfile::tempdir().unwrap();
    let fleet = Fleet::new(Kind::Real, |config| config.staging = StoreConfig::directory(staging.path())).await;
    let real = service("GREFFIER_TEST_AMQP");
    let authority = url::Url::parse(&real).unwrap();
    let cut = Arc::new(Notify::new());
    let port = pass_on(format!("{}:{}", authority.host_str().unwrap(), authority.port().unwrap()), Arc::clone(&cut)).await;
    let mut through = authority.clone();
    through.set_port(Some(port)).unwrap();

    let said = tempfile::NamedTempFile::new().unwrap();
    let child = client_of(&fleet, Path::new(CLEAN), through.as_str()).stdout(Stdio::null()).stderr(said.reopen().unwrap()).spawn();
    let mut child = Running(child.unwrap());
    let err = || std::fs::read_to_string(said.path()).unwrap();
    let until = async |what: &str| {
        let since = Instant::now();
        while !err().contains(what) {
            assert!(since.elapsed() < PATIENCE, "never said `{what}`: {}", err());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until("Déposé").await;
    cut.notify_waiters();
    until("Connexion perdue").await;
    let worker = fleet.worker();
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(since.elapsed() < PATIENCE, "{}\n{}", err(), worker.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(status.code(), Some(0), "{}\n{}", err(), worker.log());
    assert_eq!(err().matches("Déposé").count(), 2, "{}", err());
    assert_eq!(fleet.records("outcomes/").await.len(), 1, "the job was sent twice and is one job");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Passes connections on to `real` until told to cut those that are open.
async fn pass_on(real: String, cut: Arc<Notify>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let (real, cut) = (real.clone(), Arc::clone(&cut));
            tokio::spawn(async move {
                let Ok(mut there) = TcpStream::connect(real).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    port
}
