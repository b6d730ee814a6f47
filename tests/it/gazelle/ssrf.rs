//! Attempts to make us ask for something we must not. Each says what stopped it; a canary server proves that
//! nothing was sent. `cargo test --test it ssrf -- --nocapture` prints the table.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use greffier::gazelle::guard::Lookup;
use greffier::gazelle::{GazelleClient, GazelleConfig, GazellePolicy};
use greffier::model::Verdict;
use greffier::model::gazelle::{GazelleOutcome, Unreachable};

use super::server::{OID, Reply, Server, codes, host, quick, signals, verdict};

const GOOD: &str = r#"<validationReport result="PASSED"><validationOverview validationDateTime="2025-09-30T12:44:06Z"/><subReport name="p" subReportResult="PASSED"><constraint testResult="PASSED"/></subReport></validationReport>"#;

/// A resolver that gives these answers in turn, the last one for ever, and counts.
#[derive(Debug, Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|a| a.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        Arc::new(Self { answers: Arc::new(Mutex::new(answers)), asked: Arc::default() })
    }
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Lookup for Script {
    fn lookup(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        self.asked.lock().unwrap().push(host);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such host")) })
    }
}

fn stopped_by(outcome: &GazelleOutcome) -> String {
    match outcome {
        GazelleOutcome::Unreachable { reason, detail, .. } => format!("{}: {detail}", reason.as_str()),
        other => format!("{other:?}"),
    }
}

fn reason(outcome: &GazelleOutcome) -> Option<Unreachable> {
    match outcome {
        GazelleOutcome::Unreachable { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_link_to_a_forbidden_place_is_refused_before_any_look_up() {
    let canary = Server::start(|_| Reply::xml(GOOD)).await;
    let lookup = Script::new(&[&["127.0.0.1"]]);
    let client = GazelleClient::with_lookup(canary.config(), canary.policy(), lookup.clone()).unwrap();
    let port = canary.port;
    for link in [
        format!("http://localhost:{port}/evs/report.seam?oid={OID}"),
        format!("http://127.0.0.2:{port}/evs/report.seam?oid={OID}"),
        format!("http://[::1]:{port}/evs/report.seam?oid={OID}"),
        format!("http://[::ffff:127.0.0.1]:{port}/evs/report.seam?oid={OID}"),
        format!("http://0.0.0.0:{port}/evs/report.seam?oid={OID}"),
        format!("http://127.0.0.1.nip.io:{port}/evs/report.seam?oid={OID}"),
        format!("http://169.254.169.254/evs/report.seam?oid={OID}"),
        format!("http://2852039166/evs/report.seam?oid={OID}"),
        format!("http://0xa9.0xfe.0xa9.0xfe/evs/report.seam?oid={OID}"),
        format!("https://interopsegur.esante.gouv.fr@evil.example/evs/report.seam?oid={OID}"),
        format!("https://interopsegur.esante.gouv.fr.evil.example/evs/report.seam?oid={OID}"),
        format!("https://evil.example/evs/report.seam?oid={OID}"),
        format!("https://evil.example#@127.0.0.1:{port}/evs/report.seam?oid={OID}"),
        format!("https://evil.example\\@127.0.0.1:{port}/evs/report.seam?oid={OID}"),
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1:6379/_INFO".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
        "javascript:alert(1)".to_owned(),
        "//evil.example/evs/report.seam?oid=1.2".to_owned(),
    ] {
        let facts = client.fetch(&link).await;
        println!("{:80} {}", link.replace(&port.to_string(), "PORT"), stopped_by(&facts.outcome));
        assert!(matches!(facts.outcome, GazelleOutcome::NotAllowed { .. } | GazelleOutcome::NotALink { .. }), "{link}: {facts:?}");
        assert_eq!(verdict(&signals(&canary, &facts, None)), Verdict::Rejected, "{link}");
    }
    // Numbers that are written otherwise and mean the permitted host are that host, and nothing else.
    for same in [format!("http://2130706433:{port}"), format!("http://0x7f.1:{port}"), format!("http://0177.0.0.1:{port}")] {
        let facts = client.fetch(&format!("{same}/evs/report.seam?oid={OID}")).await;
        assert_eq!(facts.link.host.as_deref(), Some("127.0.0.1"));
    }
    assert_eq!(lookup.asked(), 0);
    assert!(canary.seen().iter().all(|r| r.header("host") == Some(&format!("127.0.0.1:{port}"))));
}

#[tokio::test]
async fn a_listed_host_that_resolves_to_a_private_address_is_not_asked() {
    let canary = Server::start(|_| Reply::xml(GOOD)).await;
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:7f00:1::1",
        "2001:0:7f00:1::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "2a00:1450::5efe:7f00:1",
    ] {
        for answer in [vec![address], vec!["93.184.215.14", address], vec![address, "93.184.215.14"]] {
            let lookup = Script::new(&[&answer]);
            let policy = GazellePolicy { hosts: vec![host("gazelle.example", canary.port)], oid_arcs: vec![] };
            let client = GazelleClient::with_lookup(quick(&[]), policy, lookup.clone()).unwrap();
            let facts = client.fetch(&format!("https://gazelle.example:{}/evs/report.seam?oid={OID}", canary.port)).await;
            if answer.len() == 1 {
                println!("{address:28} {}", stopped_by(&facts.outcome));
            }
            assert_eq!(reason(&facts.outcome), Some(Unreachable::AddressRefused), "{answer:?}: {:?}", facts.outcome);
            assert_eq!(codes(&signals(&canary, &facts, None)), ["gazelle-request-refused"], "{answer:?}");
            // Refused is final: it is not asked again.
            assert_eq!(lookup.asked(), 1);
        }
    }
    assert!(canary.seen().is_empty());
}

#[tokio::test]
async fn a_listed_address_without_loopback_permission_is_not_asked() {
    let canary = Server::start(|_| Reply::xml(GOOD)).await;
    let client = GazelleClient::new(quick(&[]), canary.policy()).unwrap();
    for link in [canary.link(), canary.link().replace("http:", "https:")] {
        let facts = client.fetch(&link).await;
        assert_eq!(reason(&facts.outcome), Some(Unreachable::AddressRefused), "{:?}", facts.outcome);
    }
    assert!(canary.seen().is_empty());
}

/// What is checked is what is connected to: there is one look-up per connection, and its answer is used.
#[tokio::test]
async fn an_answer_that_changes_between_check_and_connect_changes_nothing() {
    let server = Server::reporting(Reply::xml(GOOD)).await;
    let loopback = format!("gazelle.test:{}", server.port);
    let policy = GazellePolicy { hosts: vec![host("gazelle.test", server.port)], oid_arcs: vec![] };
    let link = format!("http://gazelle.test:{}/evs/report.seam?oid={OID}", server.port);

    // The first answer is good, every later one is not: with a second look-up before connecting, nothing would be read.
    let lookup = Script::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let client = GazelleClient::with_lookup(quick(std::slice::from_ref(&loopback)), policy.clone(), lookup.clone()).unwrap();
    let facts = client.fetch(&link).await;
    assert!(facts.report().is_some(), "{:?}", facts.outcome);
    assert_eq!(facts.pin().unwrap().exchanges[0].peer.as_deref(), Some("127.0.0.1"));
    // The report came over the first connection. The record needed a second one, whose answer was refused.
    assert_eq!((server.seen().len(), lookup.asked()), (1, 2));

    // The other way round: the first answer is bad, and a good one behind it does not help.
    let lookup = Script::new(&[&["10.0.0.1"], &["127.0.0.1"]]);
    let client = GazelleClient::with_lookup(quick(std::slice::from_ref(&loopback)), policy.clone(), lookup.clone()).unwrap();
    let facts = client.fetch(&link).await;
    assert_eq!(reason(&facts.outcome), Some(Unreachable::AddressRefused));
    assert_eq!((server.seen().len(), lookup.asked()), (1, 1));

    // Loopback permission permits loopback, not the rest of the world.
    let lookup = Script::new(&[&["8.8.8.8"]]);
    let client = GazelleClient::with_lookup(quick(&[loopback]), policy, lookup).unwrap();
    assert_eq!(reason(&client.fetch(&link).await.outcome), Some(Unreachable::AddressRefused));
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_place_is_not_followed() {
    let canary = Server::start(|_| Reply::xml(GOOD)).await;
    for target in [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::ffff:169.254.169.254]/".to_owned(),
        "http://[64:ff9b::a9fe:a9fe]/".to_owned(),
        "http://metadata.google.internal/computeMetadata/v1/".to_owned(),
        format!("http://127.0.0.1:{}/evs/rest/validations/{OID}/report", canary.port),
        format!("http://localhost:{}/", canary.port),
        format!("//127.0.0.1:{}/", canary.port),
        "https://evil.example/evs/report".to_owned(),
        "//evil.example/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
        "gopher://127.0.0.1:6379/_INFO".to_owned(),
        "data:text/xml,<validationReport/>".to_owned(),
        "http://user:pass@SELF/evs/x".to_owned(),
        "http://169.254.169.254/cas/login".to_owned(),
        "http://".to_owned(),
        "LOOP".to_owned(),
    ] {
        for status in [301u16, 302, 303, 307, 308] {
            let to = target.clone();
            let server = Server::start(move |r| {
                let me = r.header("host").unwrap_or_default();
                let to = if to == "LOOP" { format!("http://{me}{}x", r.path()) } else { to.replace("SELF", me) };
                Reply::status(status).with("location", &to)
            })
            .await;
            let facts = server.fetch().await;
            if status == 302 {
                println!(
                    "{:75} {}",
                    target.replace(&canary.port.to_string(), "PORT"),
                    stopped_by(&facts.outcome).replace(&canary.port.to_string(), "PORT").replace(&server.port.to_string(), "SELF")
                );
            }
            assert_eq!(reason(&facts.outcome), Some(Unreachable::RedirectRefused), "{target} {status}: {:?}", facts.outcome);
            assert_eq!(verdict(&signals(&server, &facts, None)), Verdict::Undetermined);
            assert!(server.seen().len() <= 7, "{target}: {}", server.seen().len());
        }
    }
    assert!(canary.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_within_the_server_is_followed_a_few_times() {
    for (hops, ok) in [(1, true), (3, true), (4, false)] {
        let server = Server::start(move |r| {
            let n: usize = r.query().strip_prefix("hop=").and_then(|n| n.parse().ok()).unwrap_or(0);
            match r {
                r if r.is_record() => Reply::status(404),
                _ if n < hops => Reply::redirect(&format!("?hop={}", n + 1)),
                _ => Reply::xml(GOOD),
            }
        })
        .await;
        let facts = server.fetch().await;
        assert_eq!(facts.report().is_some(), ok, "{hops}: {:?}", facts.outcome);
        if ok {
            assert_eq!(facts.pin().unwrap().exchanges[0].redirects.len(), hops);
        }
    }
}

#[tokio::test]
async fn a_listed_host_whose_redirect_target_resolves_to_a_private_address_is_not_asked() {
    let server = Server::start(|r| {
        let port = r.header("host").and_then(|h| h.rsplit_once(':')).map_or("", |(_, p)| p);
        Reply::redirect(&format!("https://gazelle.example:{port}/evs/x"))
    })
    .await;
    let mut policy = server.policy();
    policy.hosts.push(host("gazelle.example", server.port));
    let client = GazelleClient::with_lookup(server.config(), policy, Script::new(&[&["10.0.0.1"]])).unwrap();
    assert_eq!(reason(&client.fetch(&server.link()).await.outcome), Some(Unreachable::RedirectRefused));
}

#[tokio::test]
async fn offline_nothing_is_looked_up_or_asked() {
    let server = Server::reporting(Reply::xml(GOOD)).await;
    let lookup = Script::new(&[&["127.0.0.1"]]);
    let client = GazelleClient::with_lookup(GazelleConfig { offline: true, ..server.config() }, server.policy(), lookup.clone()).unwrap();
    assert_eq!(client.fetch(&server.link()).await.outcome, GazelleOutcome::Offline);
    // What the address alone says is still said.
    assert_eq!(client.fetch(&server.url("/evs/home.seam")).await.outcome, GazelleOutcome::NotAProof);
    assert_eq!((server.seen().len(), lookup.asked()), (0, 0));
}
