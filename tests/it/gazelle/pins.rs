//! Pinned copies: what is kept, replays, drift, damage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greffier::gazelle::{DirPins, GazelleClient, GazelleConfig, MemoryPins, NoPins};
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

fn pins_of(facts: &GazelleFacts) -> MemoryPins {
    let pin = facts.pin().unwrap().clone();
    MemoryPins(BTreeMap::from([(pin.link.id.clone(), pin)]))
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
    let pin_dir = dir.path().join(greffier::gazelle::pin::directory(&facts.link.id));
    std::fs::create_dir(&pin_dir).unwrap();
    for (name, bytes) in facts.pin().unwrap().to_files() {
        std::fs::write(pin_dir.join(name), bytes).unwrap();
    }
    let asked = server.seen().len();
    for replayed in [
        offline(&server).fetch_or_replay(&server.link(), &pins_of(&facts)).await,
        offline(&server).fetch_or_replay(&server.link(), &DirPins(dir.path().to_owned())).await,
        // The same result under another spelling of its link.
        offline(&server).fetch_or_replay(&server.url(&format!("/evs/rest/validations/{OID}/report")), &pins_of(&facts)).await,
    ] {
        assert_eq!(replayed.report(), facts.report());
        assert_eq!(replayed.pin(), facts.pin());
        assert_eq!(replayed.replayed.as_ref().map(|r| r.because), Some(ReplayReason::Offline));
        assert_eq!(codes(&signals(&server, &replayed, None)), ["gazelle-replayed"]);
    }
    assert_eq!(server.seen().len(), asked);
    let nothing = offline(&server).fetch_or_replay(&server.link(), &NoPins).await;
    assert_eq!(codes(&signals(&server, &nothing, None)), ["gazelle-offline"]);
    // A damaged copy is never shown as faithful.
    std::fs::write(pin_dir.join("01-report.json"), report("PASSED", "2025-10-01T00:00:00Z", "")).unwrap();
    let damaged = offline(&server).fetch_or_replay(&server.link(), &DirPins(dir.path().to_owned())).await;
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
    let inner = dir.path().join(greffier::gazelle::pin::directory(&facts.link.id));
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
    ])
    .await;
    let pins = pins_of(&server.fetch().await);
    for (at, expected) in [
        (1, &[][..]),
        (2, &["gazelle-drift-bytes"]),
        (3, &["gazelle-drift", "gazelle-failed"]),
        (4, &["gazelle-gone"]),
        (5, &["gazelle-gone"]),
        (6, &["gazelle-replayed"]),
    ] {
        phase.store(at, Ordering::SeqCst);
        let facts = server.client().fetch_or_replay(&server.link(), &pins).await;
        assert_eq!(codes(&signals(&server, &facts, None)), expected, "{at}: {:?}", facts.drift);
        if at == 3 {
            let fields: Vec<_> = facts.drift.iter().map(|d| d.field.as_str()).collect();
            assert_eq!(fields, ["result", "errors", "date", "bytes"]);
        }
    }
}
