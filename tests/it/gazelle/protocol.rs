//! The protocol: every status, slow, truncated and inflated bodies, politeness, credentials, expectations.

use std::io::Write as _;
use std::time::Duration;

use greffier::gazelle::config::{Credential, CredentialScheme, Expectation, HostRole, Secret};
use greffier::gazelle::{GazelleClient, GazelleConfig, assess};
use greffier::model::Verdict;
use greffier::model::gazelle::{GazelleOutcome, Unreachable};

use super::server::{OID, Reply, Server, codes, signals, verdict};

const GOOD: &str = r#"<validationReport result="PASSED"><validationOverview validationDateTime="2025-09-30T12:44:06Z"><validationServiceName>Schematron Based CDA Validator</validationServiceName><validatorID>.Structuration minimale des documents de santé v1.16</validatorID></validationOverview><subReport name="p" subReportResult="PASSED"><constraint testResult="PASSED"/></subReport></validationReport>"#;

fn record(oid: &str, status: &str) -> String {
    format!(
        r#"{{"oid":"{oid}","status":"{status}","date":"2025-09-30T12:44:06Z","validationService":{{"name":"Schematron Based CDA Validator","validator":"x"}},"object":[{{"originalFileName":"CR-bio.xml","content":"aGVsbG8="}}],"sharing":{{"private":false}},"owner":{{"username":"jdupont","organization":"ACME"}}}}"#
    )
}

fn unreachable(outcome: &GazelleOutcome) -> Unreachable {
    match outcome {
        GazelleOutcome::Unreachable { reason, .. } => *reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_status_of_the_report_has_its_outcome() {
    for (status, code, expected) in [
        (202, "gazelle-pending", Verdict::Undetermined),
        (204, "gazelle-unreachable", Verdict::Undetermined),
        (400, "gazelle-unreachable", Verdict::Undetermined),
        (401, "gazelle-private", Verdict::Rejected),
        (403, "gazelle-private", Verdict::Rejected),
        (404, "gazelle-unknown", Verdict::Rejected),
        (405, "gazelle-unreachable", Verdict::Undetermined),
        (406, "gazelle-unreachable", Verdict::Undetermined),
        (410, "gazelle-unknown", Verdict::Rejected),
        (418, "gazelle-unreachable", Verdict::Undetermined),
        (429, "gazelle-unreachable", Verdict::Undetermined),
        (500, "gazelle-unreachable", Verdict::Undetermined),
        (501, "gazelle-unreachable", Verdict::Undetermined),
        (502, "gazelle-unreachable", Verdict::Undetermined),
        (503, "gazelle-unreachable", Verdict::Undetermined),
        (504, "gazelle-unreachable", Verdict::Undetermined),
    ] {
        let server = Server::reporting(Reply::status(status)).await;
        let facts = server.fetch().await;
        let said = signals(&server, &facts, None);
        assert_eq!((codes(&said), verdict(&said)), (vec![code], expected), "{status}");
    }
}

#[tokio::test]
async fn a_404_is_asked_again_at_the_record() {
    for (answer, code) in [
        (Reply::status(202), "gazelle-pending"),
        (Reply::status(401), "gazelle-private"),
        (Reply::status(403), "gazelle-private"),
        (Reply::status(404), "gazelle-unknown"),
        (Reply::json(record(OID, "IN_PROGRESS")), "gazelle-pending"),
        (Reply::json(record(OID, "DONE_FAILED")), "gazelle-failed"),
        (Reply::html("<html>oops</html>"), "gazelle-unreadable"),
    ] {
        let shown = format!("{answer:?}");
        let server = Server::start(move |r| match r {
            r if r.is_record() => answer.clone(),
            r if r.is_service() => Reply::status(405),
            _ => Reply::status(404),
        })
        .await;
        let facts = server.fetch().await;
        let said = signals(&server, &facts, None);
        assert!(codes(&said).contains(&code), "{shown}: {:?}", codes(&said));
    }
}

#[tokio::test]
async fn a_service_that_is_gone_is_not_the_vendors_fault() {
    let server = Server::start(|_| Reply::status(404)).await;
    assert_eq!(unreachable(&server.fetch().await.outcome), Unreachable::UnexpectedStatus);
}

#[tokio::test]
async fn a_pending_validation_is_asked_again_and_then_read() {
    let server = Server::start(|r| match (r.is_report(), r.before) {
        (true, 0) => Reply::status(202).with("x-progress", "IN_PROGRESS"),
        (true, _) => Reply::xml(GOOD),
        _ => Reply::status(404),
    })
    .await;
    assert!(server.fetch().await.report().is_some_and(|r| r.is_pass()));
    let server = Server::reporting(Reply::status(202).with("x-progress", "IN_PROGRESS")).await;
    assert_eq!(server.fetch().await.outcome, GazelleOutcome::Pending { progress: "IN_PROGRESS".into() });
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_after_a_while() {
    for status in [429, 500, 502, 503, 504] {
        let server = Server::start(move |r| match (r.is_report(), r.before) {
            (true, 0 | 1) => Reply::status(status),
            (true, _) => Reply::xml(GOOD),
            _ => Reply::status(404),
        })
        .await;
        assert!(server.fetch().await.report().is_some(), "{status}");
        assert_eq!(server.seen().iter().filter(|r| r.is_report()).count(), 3);
    }
}

#[tokio::test]
async fn a_long_retry_after_is_handed_to_the_caller_and_not_waited_for() {
    let server = Server::reporting(Reply::status(429).with("retry-after", "120")).await;
    match server.fetch().await.outcome {
        GazelleOutcome::Unreachable { reason, retry_after_s, .. } => {
            assert_eq!((reason, retry_after_s), (Unreachable::RateLimited, Some(120)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn json_is_asked_for_where_xml_is_not_acceptable() {
    let server = Server::start(|r| match r.header("accept") {
        Some("application/json") if r.is_report() => Reply::json(r#"{"overallResult":"PASSED","reports":[]}"#),
        _ => Reply::status(406),
    })
    .await;
    assert!(server.fetch().await.report().is_some());
}

#[tokio::test]
async fn share_keys_are_sent_and_never_told() {
    let server = Server::start(|r| match r.query() {
        "privacyKey=K3YK3YK3Y" if r.is_report() => Reply::xml(GOOD),
        "" if r.is_service() => Reply::status(405),
        "privacyKey=K3YK3YK3Y" => Reply::json(record(OID, "DONE_PASSED")).with("content-location", "/evs/x?privacyKey=K3YK3YK3Y"),
        _ => Reply::status(401),
    })
    .await;
    let facts = server.client().fetch(&format!("{}&privacyKey=K3YK3YK3Y", server.link())).await;
    assert!(facts.report().is_some_and(|r| r.is_pass()), "{facts:?}");
    let told = serde_json::to_string(&facts).unwrap() + &format!("{facts:?} {:?}", signals(&server, &facts, None));
    assert!(!told.contains("K3YK3Y"), "{told}");
    for (name, bytes) in facts.pin().unwrap().to_files() {
        assert!(!String::from_utf8_lossy(&bytes).contains("K3YK3Y"), "{name}");
    }
}

fn with_credential(server: &Server, scheme: CredentialScheme) -> GazelleClient {
    let credential = Credential { host: "127.0.0.1".into(), scheme, secret: Secret::new("t0k3n-t0k3n") };
    GazelleClient::new(GazelleConfig { credentials: vec![credential], ..server.config() }, server.policy()).unwrap()
}

#[tokio::test]
async fn what_a_credential_opens_is_neither_copied_nor_judged() {
    for (scheme, header) in [(CredentialScheme::ApiKey, "GazelleAPIKey t0k3n-t0k3n"), (CredentialScheme::Bearer, "Bearer t0k3n-t0k3n")] {
        let server = Server::start(move |r| match r.header("authorization") {
            Some(h) if h == header && r.is_report() => Reply::xml(GOOD),
            Some(h) if h == header => Reply::json(record(OID, "DONE_PASSED")),
            _ => Reply::status(401),
        })
        .await;
        let facts = with_credential(&server, scheme).fetch(&server.link()).await;
        let said = signals(&server, &facts, None);
        assert_eq!((codes(&said), verdict(&said)), (vec!["gazelle-private", "gazelle-read-with-credential"], Verdict::Rejected));
        assert_eq!(facts.outcome, GazelleOutcome::Private { status: 401, opens_with_credential: true });
        assert!(facts.pin().is_none() && facts.report().is_none());
        let seen = server.seen();
        assert_eq!(seen[0].header("authorization"), None, "an anonymous reader is tried first");
        assert!(seen.iter().all(|r| r.header("authorization").is_none() || !r.is_report()), "the report is not even asked for");
        assert!(!serde_json::to_string(&facts).unwrap().contains("t0k3n"));
        assert!(!format!("{facts:?}").contains("t0k3n"));
    }
    // A result that nobody knows is not called known.
    let server = Server::start(|r| match r.header("authorization") {
        Some(_) => Reply::status(404),
        None if r.is_service() => Reply::status(405),
        None => Reply::status(401),
    })
    .await;
    let facts = with_credential(&server, CredentialScheme::ApiKey).fetch(&server.link()).await;
    assert_eq!(facts.outcome, GazelleOutcome::Private { status: 401, opens_with_credential: false });
    // A public result is read without it.
    let server = Server::reporting(Reply::xml(GOOD)).await;
    let facts = with_credential(&server, CredentialScheme::ApiKey).fetch(&server.link()).await;
    assert!(facts.report().is_some_and(|r| !r.needed_credential));
    assert!(server.seen().iter().all(|r| r.header("authorization").is_none()));
    // Refused all the same: the link is private.
    let server = Server::reporting(Reply::status(403)).await;
    let facts = with_credential(&server, CredentialScheme::ApiKey).fetch(&server.link()).await;
    assert_eq!(facts.outcome, GazelleOutcome::Private { status: 403, opens_with_credential: false });
}

#[tokio::test]
async fn a_server_that_refuses_everybody_says_nothing_of_the_result() {
    let login = Reply::html("<html><input type='password'></html>");
    for refusal in [Reply::status(401), Reply::status(403), Reply::redirect("https://sso.example/cas/login"), login] {
        let server = Server::start(move |_| refusal.clone()).await;
        assert_eq!(unreachable(&server.fetch().await.outcome), Unreachable::UnexpectedStatus);
    }
}

#[tokio::test]
async fn many_links_to_one_host_do_not_run_out_of_time_while_they_queue() {
    let server = Server::start(|r| if r.is_report() { Reply::xml(GOOD) } else { Reply::status(404) }).await;
    let config = GazelleConfig { min_interval_ms: 60, max_concurrent_per_host: 2, link_timeout_ms: 2_000, ..server.config() };
    let client = GazelleClient::new(config, server.policy()).unwrap();
    let (link, mut tasks) = (server.link(), tokio::task::JoinSet::new());
    for _ in 0..30 {
        let (client, link) = (client.clone(), link.clone());
        tasks.spawn(async move { client.fetch(&link).await });
    }
    for facts in tasks.join_all().await {
        assert!(facts.report().is_some(), "{:?}", facts.outcome);
    }
}

#[tokio::test]
async fn a_credential_does_not_follow_a_redirect_to_another_server() {
    let other = Server::start(|_| Reply::xml(GOOD)).await;
    let target = other.url("/evs/elsewhere");
    let server =
        Server::start(move |r| if r.header("authorization").is_some() { Reply::redirect(&target) } else { Reply::status(401) }).await;
    let mut policy = server.policy();
    policy.hosts.extend(other.policy().hosts);
    let credential = Credential { host: "127.0.0.1".into(), scheme: CredentialScheme::ApiKey, secret: Secret::new("t0k3n") };
    let config = GazelleConfig {
        credentials: vec![credential],
        allow_loopback: [server.config().allow_loopback, other.config().allow_loopback].concat(),
        ..server.config()
    };
    let facts = GazelleClient::new(config, policy).unwrap().fetch(&server.link()).await;
    assert!(matches!(facts.outcome, GazelleOutcome::Private { .. }), "{facts:?}");
    assert!(!other.seen().is_empty() && other.seen().iter().all(|r| r.header("authorization").is_none()));
}

#[tokio::test]
async fn a_redirect_to_a_login_page_is_a_private_result() {
    for login in ["https://sso.esante.example/cas/login?service=x", "https://idp.example/realms/g/protocol/openid-connect/auth?client_id=g"]
    {
        let server = Server::reporting(Reply::redirect(login)).await;
        let private = GazelleOutcome::Private { status: 302, opens_with_credential: false };
        assert_eq!(server.fetch().await.outcome, private, "{login}");
    }
}

#[tokio::test]
async fn slow_and_truncated_bodies_end() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: 100000\r\n\r\n".to_vec();
    // What never comes is waited for briefly; what comes and is wrong must not be taken for late on a busy machine.
    let (brief, patient) = (300, 60_000);
    for (name, milliseconds, reply, reasons) in [
        ("no answer", brief, Reply::Stall(vec![]), &[Unreachable::Timeout][..]),
        ("half a status line", brief, Reply::Stall(b"HTTP/1.1 20".to_vec()), &[Unreachable::Timeout]),
        ("head, then silence", brief, Reply::Stall(head.clone()), &[Unreachable::Timeout]),
        (
            "a byte at a time",
            brief,
            Reply::Drip { head: head.clone(), chunk: b" ".to_vec(), every: Duration::from_millis(20) },
            &[Unreachable::Timeout],
        ),
        (
            "endless headers",
            brief,
            Reply::Drip { head: b"HTTP/1.1 200 OK\r\n".to_vec(), chunk: b"x: y\r\n".to_vec(), every: Duration::ZERO },
            &[Unreachable::Connect, Unreachable::Timeout],
        ),
        ("body cut", patient, Reply::Raw([head.clone(), GOOD.as_bytes().to_vec()].concat()), &[Unreachable::Truncated]),
        (
            "chunked body cut",
            patient,
            Reply::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n<validationRepor".to_vec()),
            &[Unreachable::Truncated],
        ),
        ("connection closed", patient, Reply::Raw(vec![]), &[Unreachable::Connect]),
        ("not HTTP", patient, Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), &[Unreachable::Connect]),
    ] {
        let server = Server::reporting(reply).await;
        let config = GazelleConfig { header_timeout_ms: milliseconds, body_timeout_ms: milliseconds, max_attempts: 2, ..server.config() };
        let facts = GazelleClient::new(config, server.policy()).unwrap().fetch(&server.link()).await;
        let reason = unreachable(&facts.outcome);
        assert!(reasons.contains(&reason), "{name}: {reason:?} {:?}", facts.outcome);
        assert_eq!(verdict(&signals(&server, &facts, None)), Verdict::Undetermined, "{name}");
    }
}

#[tokio::test]
async fn one_link_has_one_deadline() {
    let server = Server::reporting(Reply::status(503)).await;
    let config = GazelleConfig { link_timeout_ms: 100, max_attempts: 1_000_000, ..server.config() };
    let facts = GazelleClient::new(config, server.policy()).unwrap().fetch(&server.link()).await;
    assert_eq!(unreachable(&facts.outcome), Unreachable::Timeout);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn bodies_are_capped_before_and_after_decompression() {
    let big = vec![b' '; 8 * 1024 * 1024];
    let bomb = gzip(&big);
    assert!(bomb.len() < 64 * 1024);
    let chunked =
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800000\r\n".to_vec(), big.clone(), b"\r\n0\r\n\r\n".to_vec()].concat();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("report.xml", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(&big).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let with_body = |body: Vec<u8>| Reply::Full { status: 200, headers: vec![], body };
    for (name, reply) in [
        ("declared too long", with_body(big.clone())),
        ("chunked, too long", Reply::Raw(chunked)),
        ("no length at all", Reply::Raw([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), big.clone()].concat())),
        ("gzip bomb", with_body(bomb.clone()).with("content-encoding", "gzip")),
        ("gzip bomb, old name", with_body(bomb).with("content-encoding", "x-gzip")),
        ("zip bomb", with_body(zip)),
    ] {
        let server = Server::reporting(reply).await;
        let facts = server.fetch().await;
        assert_eq!(unreachable(&facts.outcome), Unreachable::TooLarge, "{name}");
    }
}

#[tokio::test]
async fn a_compressed_body_that_nobody_asked_for_is_read() {
    let server = Server::reporting(Reply::xml(gzip(GOOD.as_bytes())).with("content-encoding", "gzip")).await;
    let facts = server.fetch().await;
    assert!(facts.report().is_some_and(|r| r.is_pass()));
    let exchange = &facts.pin().unwrap().exchanges[0];
    assert_ne!(exchange.received_sha256, exchange.body_sha256);
    assert_eq!(exchange.body_size, GOOD.len() as u64);
    assert_eq!(server.seen()[0].header("accept-encoding"), Some("identity"));
    // A damaged one is truncated, an unknown one unreadable.
    let mut cut = gzip(GOOD.as_bytes());
    cut.truncate(cut.len() / 2);
    let server = Server::reporting(Reply::xml(cut).with("content-encoding", "gzip")).await;
    assert!(matches!(unreachable(&server.fetch().await.outcome), Unreachable::Truncated));
    let server = Server::reporting(Reply::xml("x").with("content-encoding", "br")).await;
    assert_eq!(unreachable(&server.fetch().await.outcome), Unreachable::Unreadable);
}

#[tokio::test]
async fn the_record_names_the_tested_object_and_its_content_is_dropped() {
    let server = Server::start(|r| if r.is_report() { Reply::xml(GOOD) } else { Reply::json(record(OID, "DONE_PASSED")) }).await;
    let facts = server.fetch().await;
    let report = facts.report().unwrap();
    let object = &report.objects[0];
    assert_eq!(object.name.as_deref(), Some("CR-bio.xml"));
    assert_eq!(object.sha256.as_deref(), Some("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"));
    assert!(!serde_json::to_string(&facts).unwrap().contains("aGVsbG8"));
    for bytes in facts.pin().unwrap().to_files().values() {
        assert!(!String::from_utf8_lossy(bytes).contains("aGVsbG8"));
    }
    assert!(codes(&signals(&server, &facts, None)).is_empty());
    // The user name is personal data: the model does not have it.
    assert_eq!(report.record.as_ref().unwrap().organization.as_deref(), Some("ACME"));
    assert!(!serde_json::to_string(report).unwrap().contains("jdupont"));
}

#[tokio::test]
async fn a_record_that_contradicts_its_report_is_told() {
    for (answer, code) in [
        (record(OID, "DONE_FAILED"), "gazelle-result-contradiction"),
        (record("1.3.6.1.4.1.12559.11.36.4.9", "DONE_PASSED"), "gazelle-oid-mismatch"),
    ] {
        let server = Server::start(move |r| if r.is_report() { Reply::xml(GOOD) } else { Reply::json(answer.clone()) }).await;
        let facts = server.fetch().await;
        let said = signals(&server, &facts, None);
        assert_eq!((codes(&said), verdict(&said)), (vec![code], Verdict::Rejected));
    }
}

#[tokio::test]
async fn what_the_requirement_expects_is_compared() {
    let server = Server::start(|r| if r.is_report() { Reply::xml(GOOD) } else { Reply::json(record(OID, "DONE_PASSED")) }).await;
    let facts = server.fetch().await;
    let list = |s: &str| vec![s.to_owned()];
    for (expectation, expected) in [
        (
            Expectation {
                services: list("schematron based cda validator"),
                validators: list("*structuration minimale*v1.16"),
                object_names: list("cr-bio*"),
            },
            &[][..],
        ),
        (Expectation { services: list("Gazelle HL7v2.x validator"), ..Expectation::default() }, &["gazelle-validator-unexpected"]),
        (Expectation { validators: list("*v1.15"), ..Expectation::default() }, &["gazelle-validator-unexpected"]),
        (Expectation { object_names: list("VSM*"), ..Expectation::default() }, &["gazelle-object-unexpected"]),
    ] {
        assert_eq!(codes(&signals(&server, &facts, Some(&expectation))), expected);
    }
    let without_record = Server::reporting(Reply::xml(GOOD)).await;
    let expectation = Expectation { object_names: list("x"), ..Expectation::default() };
    let facts = without_record.fetch().await;
    assert_eq!(codes(&signals(&without_record, &facts, Some(&expectation))), ["gazelle-object-unknown"]);
}

#[tokio::test]
async fn dates_are_compared_with_the_window() {
    let server = Server::reporting(Reply::xml(GOOD)).await;
    let naive = Server::reporting(Reply::xml(GOOD.replace("12:44:06Z", "12:44:06"))).await;
    for (server, start, end, expected) in [
        (&server, "2025-09-01T00:00:00Z", "2025-10-01T00:00:00Z", &[][..]),
        (&server, "2025-10-01T00:00:00Z", "2025-11-01T00:00:00Z", &["gazelle-date-before-window"]),
        (&server, "2025-09-01T00:00:00Z", "2025-09-30T11:44:06Z", &["gazelle-date-after-window"]),
        // Paris time read as UTC is up to two hours ahead.
        (&naive, "2025-09-01T00:00:00Z", "2025-09-30T11:44:06Z", &[]),
        (&naive, "2025-09-01T00:00:00Z", "2025-09-30T10:00:00Z", &["gazelle-date-after-window"]),
    ] {
        let facts = server.fetch().await;
        let window = Some((start.parse().unwrap(), end.parse().unwrap()));
        assert_eq!(codes(&assess(&facts, &server.policy(), None, window)), expected, "{start} {end}");
    }
}

#[tokio::test]
async fn the_wrong_environment_and_a_foreign_identifier_are_told() {
    let server = Server::reporting(Reply::xml(GOOD)).await;
    let facts = server.client().fetch(&server.url("/evs/report.seam?oid=1.3.6.1.4.1.12559.11.11.4.1")).await;
    let mut policy = server.policy();
    assert_eq!(codes(&assess(&facts, &policy, None, None)), ["gazelle-oid-unexpected"]);
    policy.hosts[0].role = HostRole::EarlyTesting;
    assert_eq!(codes(&assess(&facts, &policy, None, None)), ["gazelle-oid-unexpected", "gazelle-wrong-environment"]);
    policy.hosts[0].role = HostRole::Other;
    assert_eq!(codes(&assess(&facts, &policy, None, None)), ["gazelle-wrong-environment"]);
}

#[tokio::test]
async fn pages_that_are_no_reports_are_never_asked() {
    let server = Server::start(|_| Reply::xml(GOOD)).await;
    for (path, code) in [
        ("/evs/fhir/validator.seam?standard=37", "gazelle-not-a-proof"),
        ("/evs/home.seam", "gazelle-not-a-proof"),
        ("/evs/administration/apiKeyManagement.seam", "gazelle-not-a-proof"),
        ("/gazelle/testInstance.seam?id=12", "gazelle-shape-only"),
        ("/PatientManager/messages/messageDisplay.seam?id=95830", "gazelle-shape-only"),
        ("/evs/report.seam?oid=abc", "gazelle-link-not-recognised"),
        ("/evs/report.seam", "gazelle-link-not-recognised"),
        ("/whatever", "gazelle-link-not-recognised"),
    ] {
        let facts = server.client().fetch(&server.url(path)).await;
        assert_eq!(codes(&signals(&server, &facts, None)), [code], "{path}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_portal_link_is_read_or_left_to_a_person() {
    let server = Server::start(|r| match r.path() {
        "/evs/rest/validations/item-1/report" => Reply::xml(GOOD),
        "/evs/rest/validations" => Reply::status(405),
        _ => Reply::status(404),
    })
    .await;
    let facts = server.client().fetch(&server.url("/validation-portal/reports/item-1?readAccessKey=abcdefghij")).await;
    assert!(facts.report().is_some());
    assert!(server.seen().iter().any(|r| r.query() == "readAccessKey=abcdefghij"));
    let facts = server.client().fetch(&server.url("/validation-portal/reports/item-2")).await;
    assert_eq!(codes(&signals(&server, &facts, None)), ["gazelle-shape-only"]);
}

#[tokio::test]
async fn the_client_is_polite_to_one_host() {
    let server = Server::start(|r| if r.is_report() { Reply::xml(GOOD) } else { Reply::status(404) }).await;
    let config = GazelleConfig { min_interval_ms: 20, max_concurrent_per_host: 1, ..server.config() };
    let client = GazelleClient::new(config, server.policy()).unwrap();
    let start = std::time::Instant::now();
    let (url, other) = (server.link(), server.link());
    let (a, b) = tokio::join!(client.fetch(&url), client.fetch(&other));
    assert!(a.report().is_some() && b.report().is_some());
    // Four requests, three gaps: a sleep never ends early.
    assert_eq!(server.seen().len(), 4);
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn facts_survive_their_own_serialisation() {
    let server = Server::start(|r| if r.is_report() { Reply::xml(GOOD) } else { Reply::json(record(OID, "DONE_PASSED")) }).await;
    let facts = server.fetch().await;
    let json = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<greffier::model::gazelle::GazelleFacts>(&json).unwrap(), facts);
    let schema = serde_json::to_value(schemars::schema_for!(greffier::model::gazelle::GazelleFacts)).unwrap();
    assert!(jsonschema::is_valid(&schema, &serde_json::from_str(&json).unwrap()));
}
