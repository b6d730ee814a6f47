//! Pinned copies: what is kept, replays, drift, damage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greffier::gazelle::{CopyId, DirPins, GazelleClient, GazelleConfig, MemoryPins, NoPins, Owner};
use greffier::model::gazelle::{GazelleFacts, GazelleOutcome, Pin, ReplayReason, Unreachable};
use sha2::{Digest, Sha256};

use super::server::{OID, Reply, Server, codes, signals};

fn report(result: &str, date: &str, space: &str) -> String {
    let failed = if result == "FAILED" {
        r#"{"assertionID":"a","severity":"ERROR","result":"FAILED"}"#
    } else {
        r#"{"assertionID":"a","result":"PASSED"}"#
    };
    format!(
        r#"{{{space}"uuid":"u","dateTime":"{date}","overallResult":"{result}","reports":[{{"name":"p","subReportResult":"{result}","assertionReports":[{failed}]}}],"validationItems":[{{"itemId":"i","content":"aGVsbG8="}}]}}"#
    )
}

const RECORD: &str =
    r#"{"oid":"1.3.6.1.4.1.12559.11.36.4.17466","status":"DONE_PASSED","object":[{"originalFileName":"a.xml","content":"aGVsbG8="}]}"#;
const DATE: &str = "2025-09-30T12:44:06Z";

/// A server whose report is the one of `phases` that `phase` points to.
async fn changing(phases: Vec<Reply>) -> (Server, Arc<AtomicUsize>) {
    let phase = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&phase);
    let server = Server::start(move |r| match r {
        r if r.is_report() => phases[at.load(Ordering::SeqCst)].clone(),
        r if r.is_service() => Reply::status(405),
        _ => Reply::status(404),
    })
    .await;
    (server, phase)
}

fn owner() -> Owner {
    candidature("AAAAAAAAAA")
}

fn candidature(number: &str) -> Owner {
    Owner::new("deposits", "lgc-vague-2", number)
}

/// The name of the copy of `link` that `owner` may have.
fn copy_of(server: &Server, link: &str, owner: &Owner) -> CopyId {
    server.client().copy_id(link, owner).expect("a link to a report")
}

/// The copy of what `facts` say of the server's link.
fn pins_of(server: &Server, facts: &GazelleFacts) -> MemoryPins {
    MemoryPins(BTreeMap::from([(copy_of(server, &server.link(), &owner()), facts.pin().unwrap().clone())]))
}

fn offline(server: &Server) -> GazelleClient {
    GazelleClient::new(GazelleConfig { offline: true, ..server.config() }, server.policy()).unwrap()
}

#[tokio::test]
async fn a_pin_holds_the_bytes_the_digests_and_the_metadata() {
    let body = r#"<validationReport  result='PASSED'><validationOverview validationDateTime="2025-09-30T12:44:06Z"/><!-- kept -->
<subReport name="p"/></validationReport>"#;
    let server = Server::reporting(Reply::xml(body).with("etag", "\"1\"").with("set-cookie", "JSESSIONID=secret")).await;
    let facts = server.fetch().await;
    let pin = facts.pin().unwrap();
    let exchange = &pin.exchanges[0];
    let copy = exchange.copy.as_ref().unwrap();
    assert!(copy.exact && copy.dropped.is_empty());
    assert_eq!(pin.bodies[&copy.file].0, body.as_bytes());
    assert_eq!(exchange.received_sha256, hex::encode(Sha256::digest(body)));
    assert_eq!((exchange.method.as_str(), exchange.status, exchange.peer.as_deref()), ("GET", 200, Some("127.0.0.1")));
    assert!(exchange.response_headers.contains(&("etag".into(), "\"1\"".into())));
    assert!(!format!("{pin:?}").contains("secret"));
    let files = pin.to_files();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["01-report.xml", "pin.json"]);
    assert_eq!(files, pin.to_files());
}

#[tokio::test]
async fn the_document_is_cut_out_of_the_copy_and_the_digest_of_the_exact_bytes_stays() {
    let body = report("PASSED", DATE, "");
    let server = Server::reporting(Reply::json(body.clone())).await;
    let facts = server.fetch().await;
    let exchange = &facts.pin().unwrap().exchanges[0];
    let copy = exchange.copy.as_ref().unwrap();
    assert!(!copy.exact);
    assert_eq!(exchange.body_sha256, hex::encode(Sha256::digest(&body)));
    let dropped = &copy.dropped[0];
    assert_eq!(&body[dropped.at as usize..(dropped.at + dropped.length) as usize], "aGVsbG8=");
    assert_eq!(dropped.sha256.as_deref(), facts.report().unwrap().objects[0].sha256.as_deref());
    // Whoever has the document can rebuild the exact bytes and check the digest.
    let kept = String::from_utf8(facts.pin().unwrap().bodies[&copy.file].0.clone()).unwrap();
    let mark = kept.split('"').find(|s| s.starts_with("greffier:dropped")).unwrap();
    assert_eq!(kept.replace(mark, "aGVsbG8="), body);
}

#[tokio::test]
async fn offline_a_pinned_copy_says_what_the_server_said() {
    let server = Server::start(|r| if r.is_report() { Reply::json(report("PASSED", DATE, "")) } else { Reply::json(RECORD) }).await;
    let facts = server.fetch().await;
    let dir = tempfile::tempdir().unwrap();
    let pin_dir = dir.path().join(copy_of(&server, &server.link(), &owner()).directory());
    std::fs::create_dir(&pin_dir).unwrap();
    for (name, bytes) in facts.pin().unwrap().to_files() {
        std::fs::write(pin_dir.join(name), bytes).unwrap();
    }
    let asked = server.seen().len();
    for replayed in [
        offline(&server).fetch_or_replay(&server.link(), &pins_of(&server, &facts), &owner()).await,
        offline(&server).fetch_or_replay(&server.link(), &DirPins(dir.path().to_owned()), &owner()).await,
        // The same result under another spelling of its link.
        offline(&server)
            .fetch_or_replay(&server.url(&format!("/evs/rest/validations/{OID}/report")), &pins_of(&server, &facts), &owner())
            .await,
    ] {
        assert_eq!(replayed.report(), facts.report());
        assert_eq!(replayed.pin(), facts.pin());
        assert_eq!(replayed.replayed.as_ref().map(|r| r.because), Some(ReplayReason::Offline));
        assert_eq!(codes(&signals(&server, &replayed, None)), ["gazelle-replayed"]);
    }
    assert_eq!(server.seen().len(), asked);
    let nothing = offline(&server).fetch_or_replay(&server.link(), &NoPins, &owner()).await;
    assert_eq!(codes(&signals(&server, &nothing, None)), ["gazelle-offline"]);
    // A damaged copy is never shown as faithful.
    std::fs::write(pin_dir.join("01-report.json"), report("PASSED", "2025-10-01T00:00:00Z", "")).unwrap();
    let damaged = offline(&server).fetch_or_replay(&server.link(), &DirPins(dir.path().to_owned()), &owner()).await;
    assert!(matches!(damaged.outcome, GazelleOutcome::Unreachable { reason: Unreachable::PinDamaged, .. }), "{damaged:?}");
    assert_eq!(codes(&signals(&server, &damaged, None)), ["gazelle-pin-damaged"]);
}

#[tokio::test]
async fn a_pin_that_points_outside_its_directory_is_refused() {
    let server = Server::reporting(Reply::json(report("PASSED", DATE, ""))).await;
    let facts = server.fetch().await;
    let dir = tempfile::tempdir().unwrap();
    let mut pin: Pin = facts.pin().unwrap().clone();
    std::fs::write(dir.path().join("outside.xml"), "x").unwrap();
    pin.exchanges[0].copy.as_mut().unwrap().file = "../outside.xml".into();
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("pin.json"), &pin.to_files()["pin.json"]).unwrap();
    assert!(greffier::gazelle::pin::load(&inner).is_err());
}

#[tokio::test]
async fn a_later_run_tells_how_the_report_changed() {
    let same = Reply::json(report("PASSED", DATE, ""));
    let (server, phase) = changing(vec![
        same.clone(),
        same,
        Reply::json(report("PASSED", DATE, "\n  ")),
        Reply::json(report("FAILED", "2025-10-02T08:00:00Z", "")),
        Reply::status(404),
        Reply::status(401),
        Reply::status(503),
        Reply::status(202).with("x-progress", "IN_PROGRESS"),
        Reply::status(418),
    ])
    .await;
    let pins = pins_of(&server, &server.fetch().await);
    for (at, expected) in [
        (1, &[][..]),
        (2, &["gazelle-drift-bytes"]),
        (3, &["gazelle-drift", "gazelle-failed"]),
        (4, &["gazelle-gone", "gazelle-unknown"]),
        (5, &["gazelle-gone", "gazelle-private"]),
        (6, &["gazelle-replayed"]),
        (7, &["gazelle-replayed"]),
        (8, &["gazelle-unreachable"]),
    ] {
        phase.store(at, Ordering::SeqCst);
        let facts = server.client().fetch_or_replay(&server.link(), &pins, &owner()).await;
        assert_eq!(codes(&signals(&server, &facts, None)), expected, "{at}: {:?}", facts.drift);
        if at == 3 {
            let fields: Vec<_> = facts.drift.iter().map(|d| d.field.as_str()).collect();
            assert_eq!(fields, ["result", "errors", "date", "bytes"]);
        }
    }
}

/// A server whose one result is private: only the share key of vendor A opens it.
async fn private_to_a() -> (Server, Arc<AtomicUsize>) {
    let outage = Arc::new(AtomicUsize::new(0));
    let at = Arc::clone(&outage);
    let server = Server::start(move |r| match r {
        _ if at.load(Ordering::SeqCst) > 0 => Reply::status(503),
        r if r.is_service() => Reply::status(405),
        r if r.query().contains("privacyKey=S3CR3T") && r.is_report() => Reply::json(report("PASSED", DATE, "")),
        r if r.is_report() => Reply::status(401),
        _ => Reply::status(404),
    })
    .await;
    (server, outage)
}

#[tokio::test]
async fn a_copy_opens_for_the_candidature_and_the_key_it_was_made_with_and_for_no_other() {
    let (server, outage) = private_to_a().await;
    let with_key = |key: &str| format!("{}&privacyKey={key}", server.link());
    let (a, b) = (candidature("AAAAAAAAAA"), candidature("BBBBBBBBBB"));
    let opened = server.client().fetch_or_replay(&with_key("S3CR3T"), &NoPins, &a).await;
    let copy = copy_of(&server, &with_key("S3CR3T"), &a);
    assert!(!copy.as_str().contains("S3CR3T") && !copy.directory().contains("S3CR3T"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(copy.directory())).unwrap();
    for (name, bytes) in opened.pin().unwrap().to_files() {
        std::fs::write(dir.path().join(copy.directory()).join(name), bytes).unwrap();
    }
    let memory = MemoryPins(BTreeMap::from([(copy, opened.pin().unwrap().clone())]));
    let folder = DirPins(dir.path().to_owned());
    let pre_check = Owner::new("pre-checks", "lgc-vague-2", "AAAAAAAAAA");
    let others =
        [(with_key("S3CR3T"), &pre_check), (with_key("WRONG"), &a), (server.link(), &a), (with_key("WRONG"), &b), (server.link(), &b)];
    for pins in [&memory as &dyn greffier::gazelle::PinSource, &folder] {
        outage.store(0, Ordering::SeqCst);
        // With the server there, who has no key has no report.
        for (link, owner) in &others[1..] {
            let facts = server.client().fetch_or_replay(link, pins, owner).await;
            assert_eq!(facts.outcome, GazelleOutcome::Private { status: 401, opens_with_credential: false }, "{link}");
            assert_eq!(codes(&signals(&server, &facts, None)), ["gazelle-private"]);
        }
        // In an outage, and with no network, the copy opens for its own link only.
        outage.store(1, Ordering::SeqCst);
        for client in [server.client(), offline(&server)] {
            let facts = client.fetch_or_replay(&with_key("S3CR3T"), pins, &a).await;
            assert_eq!(facts.report(), opened.report());
            assert_eq!(codes(&signals(&server, &facts, None)), ["gazelle-replayed"]);
            for (link, owner) in others.iter().chain([&(with_key("S3CR3T"), &b)]) {
                let facts = client.fetch_or_replay(link, pins, owner).await;
                assert!(facts.pin().is_none() && facts.drift.is_empty(), "{link} {owner:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_copy_under_the_name_of_another_or_of_an_earlier_version_is_not_replayed() {
    let server = Server::reporting(Reply::json(report("PASSED", DATE, ""))).await;
    let facts = server.fetch().await;
    let dir = tempfile::tempdir().unwrap();
    // Named by the link alone, as earlier versions did.
    for name in [greffier::gazelle::pin::directory(&facts.link.id), facts.link.id.clone()] {
        std::fs::create_dir(dir.path().join(&name)).unwrap();
        for (file, bytes) in facts.pin().unwrap().to_files() {
            std::fs::write(dir.path().join(&name).join(file), bytes).unwrap();
        }
    }
    let replayed = offline(&server).fetch_or_replay(&server.link(), &DirPins(dir.path().to_owned()), &owner()).await;
    assert_eq!(replayed.outcome, GazelleOutcome::Offline);
    // Moved to where the copy of another result belongs, or opened with an account.
    let other = server.url("/evs/report.seam?oid=1.3.6.1.4.1.12559.11.36.4.1");
    let mut with_account = facts.pin().unwrap().clone();
    with_account.needed_credential = true;
    for (link, pin) in [(other, facts.pin().unwrap().clone()), (server.link(), with_account)] {
        let pins = MemoryPins(BTreeMap::from([(copy_of(&server, &link, &owner()), pin)]));
        let replayed = offline(&server).fetch_or_replay(&link, &pins, &owner()).await;
        assert!(matches!(replayed.outcome, GazelleOutcome::Unreachable { reason: Unreachable::PinDamaged, .. }), "{replayed:?}");
    }
}

/// The whole of `greffier check --out`, whose copies stay below `--out` from one deposit to the next.
#[tokio::test(flavor = "multi_thread")]
async fn check_replays_a_copy_to_the_deposit_it_was_made_for_only() {
    use crate::support::{codes as codes_of, command, root};
    let (server, outage) = private_to_a().await;
    let dir = tempfile::tempdir().unwrap();
    let rules = std::fs::read_to_string(root().join("pipelines/lgc-vague-2.toml")).unwrap();
    let rules = rules.replace("../fixtures", root().join("fixtures").to_str().unwrap());
    let ours = format!("hosts = [\n  {{ host = \"127.0.0.1\", port = {}, role = \"referencement\" }},", server.port);
    std::fs::write(dir.path().join("lgc-vague-2.toml"), rules.replace("hosts = [", &ours)).unwrap();
    let check = async |number: &str, link: String| {
        let deposit = dir.path().join(format!("deposit-{number}"));
        std::fs::create_dir_all(deposit.join("INS.04.03.01")).unwrap();
        std::fs::write(deposit.join("candidature.toml"), format!("[candidature]\nnumber = \"{number}\"\n")).unwrap();
        std::fs::write(deposit.join("INS.04.03.01/gazelle.url"), format!("[InternetShortcut]\r\nURL={link}\r\n")).unwrap();
        let mut command = command();
        command
            .env("GREFFIER_GAZELLE__ALLOW_LOOPBACK", format!("[\"127.0.0.1:{}\"]", server.port))
            .env("GREFFIER_GAZELLE__MIN_INTERVAL_MS", "0")
            .env("GREFFIER_GAZELLE__MAX_ATTEMPTS", "1")
            .args(["check", "--json", "--pipeline"])
            .arg(dir.path().join("lgc-vague-2.toml"))
            .arg("--out")
            .arg(dir.path().join("out"))
            .arg(&deposit);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
        let item = report["items"].as_array().unwrap().iter().find(|i| i["id"].as_str().unwrap().contains("gazelle.url")).unwrap();
        let mut codes: Vec<String> = codes_of(item).into_iter().filter(|code| code.starts_with("gazelle-")).collect();
        codes.sort();
        codes
    };
    let with_key = |key: &str| format!("{}&privacyKey={key}", server.link());
    let opened = check("AAAAAAAAAA", with_key("S3CR3T")).await;
    assert!(!opened.iter().any(|code| code == "gazelle-private"), "{opened:?}");
    assert_eq!(check("BBBBBBBBBB", with_key("WRONG")).await, ["gazelle-private"]);
    assert_eq!(check("BBBBBBBBBB", server.link()).await, ["gazelle-private"]);
    outage.store(1, Ordering::SeqCst);
    assert!(check("AAAAAAAAAA", with_key("S3CR3T")).await.contains(&"gazelle-replayed".to_owned()));
    for (number, key) in [("BBBBBBBBBB", "WRONG"), ("BBBBBBBBBB", "S3CR3T"), ("AAAAAAAAAA", "WRONG")] {
        assert_eq!(check(number, with_key(key)).await, ["gazelle-unreachable"], "{number} {key}");
    }
}
