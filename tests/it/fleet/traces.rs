//! Traces, as a collector gets them: from the sender through the queue and the worker to the events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use greffier::config::Config;
use greffier::model::message::{Envelope, Lane, SUBMISSION_REQUESTED};
use greffier::queue::Place;
use greffier::telemetry::config::TelemetryConfig;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::harness::{Fleet, Following, Kind, PATIENCE, Worker, end, envelope};
use super::jobs::honest;
use crate::doctor::{check, doctor};
use crate::seal::openssl;

/// A span that somebody else began.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What a collector was told of one span; ids in hexadecimal, an absent one empty.
#[derive(Debug, Clone)]
struct Told {
    service: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: SpanKind,
    failed: bool,
    attributes: BTreeMap<String, String>,
}

impl Told {
    fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    address: String,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        Self::serving(listener, address)
    }

    /// The same over TLS, with a certificate for 127.0.0.1.
    async fn start_tls(folder: &std::path::Path) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        let certificate = CertificateDer::from_pem_file(folder.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        Self::serving(Tls { listener, acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(config)) }, address)
    }

    fn serving<L: axum::serve::Listener<Addr = std::net::SocketAddr>>(listener: L, address: String) -> Self {
        let collector = Self { address, ..Self::default() };
        let take = async |State(collector): State<Self>, headers: HeaderMap, body: Bytes| {
            collector.requests.lock().unwrap().push((headers, body));
        };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        collector
    }

    /// Everything that was told so far.
    fn spans(&self) -> Vec<Told> {
        let mut all = Vec::new();
        for (_, body) in self.requests.lock().unwrap().iter() {
            for resource in ExportTraceServiceRequest::decode(body.clone()).unwrap().resource_spans {
                let about = named(&resource.resource.unwrap().attributes);
                all.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| Told {
                    service: about["service.name"].clone(),
                    trace: hex::encode(&span.trace_id),
                    id: hex::encode(&span.span_id),
                    parent: hex::encode(&span.parent_span_id),
                    kind: span.kind(),
                    failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
                    attributes: named(&span.attributes),
                    name: span.name,
                }));
            }
        }
        all
    }
}

/// Connections that shook hands; whoever does not trust us goes away unseen.
struct Tls {
    listener: tokio::net::TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn named(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let word = |value: &AnyValue| match &value.value {
        Some(any_value::Value::StringValue(word)) => word.clone(),
        Some(any_value::Value::IntValue(n)) => n.to_string(),
        Some(any_value::Value::BoolValue(yes)) => yes.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|a| (a.key.clone(), a.value.as_ref().map(word).unwrap_or_default())).collect()
}

/// The only span of this name.
#[track_caller]
fn one<'a>(spans: &'a [Told], name: &str) -> &'a Told {
    let found: Vec<_> = spans.iter().filter(|s| s.name == name).collect();
    assert_eq!(found.len(), 1, "{name}: {spans:#?}");
    found[0]
}

async fn traced(kind: Kind, collector: &Collector, change: impl FnOnce(&mut Config)) -> Fleet {
    Fleet::new(kind, |config| {
        config.telemetry.endpoint.clone_from(&collector.address);
        change(config);
    })
    .await
}

/// JSON lines of a log with this message.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["fields"]["message"].as_str().is_some_and(|m| m.starts_with(message))).collect()
}

/// What a worker counts, once it serves.
async fn metric(worker: &Worker, name: &str) -> u64 {
    worker.says("serving metrics").await;
    let address = lines(&worker.log(), "serving metrics")[0]["fields"]["address"].as_str().unwrap().to_owned();
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_sender_through_the_worker_to_the_events() {
    for kind in Kind::at_hand() {
        let collector = Collector::start().await;
        let fleet = traced(kind, &collector, |_| ()).await;
        let deposit = fleet.dir.path().join("depot");
        std::fs::create_dir_all(deposit.join("APCV.01")).unwrap();
        let (table, text) = ("cas;valeur\n1;confidentiel\n", "Phrase confidentielle.\n");
        std::fs::write(deposit.join("APCV.01/dossier-secret.csv"), table).unwrap();
        std::fs::write(deposit.join("APCV.01/nom-du-patient.txt"), text).unwrap();
        let worker = fleet.worker();
        let mut submit = fleet.command();
        submit.arg("submit").arg(&deposit).args(["--json", "--timeout", &PATIENCE.as_secs().to_string()]);
        submit.env("OTEL_SERVICE_NAME", "guichet").env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2");
        let submitted = tokio::task::spawn_blocking(move || submit.output().unwrap()).await.unwrap();
        let outcome: Value = serde_json::from_slice(&submitted.stdout).unwrap_or_else(|e| panic!("{e}: {submitted:?}"));
        let log = end(worker).await;

        let spans = collector.spans();
        let (system, sent, worked) = match kind {
            Kind::Embedded => ("greffier", "submission".to_owned(), "submission".to_owned()),
            Kind::Real => {
                let prefix = &fleet.config.queue.prefix;
                ("rabbitmq", format!("{prefix}.jobs:submission"), format!("{prefix}.jobs:submission:{prefix}.jobs.submission"))
            }
        };
        let send = one(&spans, &format!("send {sent}"));
        assert_eq!((send.parent.as_str(), send.kind, send.service.as_str()), ("", SpanKind::Producer, "guichet"));
        let process = one(&spans, &format!("process {worked}"));
        assert_eq!((&process.parent, process.kind, process.service.as_str()), (&send.id, SpanKind::Consumer, "greffier"));
        assert!(!process.failed && spans.iter().all(|span| span.trace == send.trace), "{spans:#?}");
        for (operation, span, destination) in [("send", send, &sent), ("process", process, &worked)] {
            for (name, expected) in [
                ("messaging.system", system),
                ("messaging.destination.name", destination),
                ("messaging.operation.type", operation),
                ("messaging.operation.name", operation),
                ("messaging.message.id", &send.attributes["messaging.message.id"]),
            ] {
                assert_eq!(span.attributes[name], expected, "{name}");
            }
        }
        assert_eq!(process.attributes["greffier.job"], outcome["job"]);
        assert_eq!(process.attributes["greffier.outcome"], "published");

        // Every stage below the job, every file below the check.
        let check = one(&spans, "check");
        for stage in [check, one(&spans, "bundle"), one(&spans, "publish")] {
            assert_eq!(stage.parent, process.id, "{}", stage.name);
        }
        assert_eq!(one(&spans, "assess").parent, check.id);
        let items: Vec<_> = spans.iter().filter(|s| s.name == "item").collect();
        let positions: Vec<_> = items.iter().map(|item| item.attributes["greffier.item.position"].as_str()).collect();
        assert!(items.iter().all(|item| item.parent == check.id) && positions.len() == 2, "{spans:#?}");
        for (position, format, size) in [("0", "csv", table.len()), ("1", "txt", text.len())] {
            let item = items.iter().find(|item| item.attributes["greffier.item.position"] == position).unwrap();
            let found = (item.attributes["greffier.item.format"].as_str(), item.attributes["greffier.item.size"].as_str());
            assert_eq!(found, (format, size.to_string().as_str()), "{items:#?}");
            for part in ["ingest", "inspect"] {
                let parts = spans.iter().filter(|s| s.name == part && s.parent == item.id).count();
                assert_eq!(parts, 1, "{part} of {item:?}: {spans:#?}");
            }
        }

        // Every event carries the span that sent it, which is part of the job.
        let events = fleet.queue.peek(Place::Events, 100).await.unwrap();
        assert!(events.len() >= 4, "{events:?}");
        for Envelope { id, traceparent, .. } in events.iter().map(|waiting| &waiting.message) {
            let sent: Vec<_> = spans.iter().filter(|s| traceparent.as_ref() == Some(&s.traceparent())).collect();
            assert_eq!(sent.len(), 1, "{traceparent:?} {spans:#?}");
            assert_eq!((&sent[0].attributes["messaging.message.id"], sent[0].kind), (id, SpanKind::Producer));
            assert!([&process.id, &check.id].contains(&&sent[0].parent), "{:?}", sent[0]);
        }

        // The same ids in the log; nothing that anybody wrote, and no secret.
        let ended = &lines(&log, "job ended")[0];
        assert_eq!((&ended["trace_id"], &ended["span_id"]), (&process.trace.as_str().into(), &process.id.as_str().into()), "{ended}");
        assert!(lines(&log, "working")[0].get("trace_id").is_none());
        for (_, body) in collector.requests.lock().unwrap().iter() {
            for secret in ["nom-du-patient", "dossier-secret", "onfidentiel", "APCV"] {
                assert!(memchr::memmem::find(body, secret.as_bytes()).is_none(), "{secret}: {spans:#?}");
            }
        }
        let authorised = collector
            .requests
            .lock()
            .unwrap()
            .iter()
            .any(|(headers, _)| headers.get("authorization").is_some_and(|h| h == "Bearer hunter2"));
        assert!(authorised && !String::from_utf8_lossy(&submitted.stderr).contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_put_off_or_parked_goes_on_where_it_was_left() {
    for kind in Kind::at_hand() {
        let collector = Collector::start().await;
        let fleet = traced(kind, &collector, |_| ()).await;
        let worker = fleet.worker();
        let submission = honest(&fleet, 1).await;
        let message = Envelope { traceparent: Some(format!("00-{TRACE}-{PARENT}-01")), ..envelope(&submission) };
        fleet.send(Lane::Submission, &message).await;
        fleet.until("parked", Some(&worker), async |f| !f.queue.peek(Place::Parked, 10).await.unwrap().is_empty()).await;
        let parked = fleet.queue.peek(Place::Parked, 10).await.unwrap().remove(0);
        end(worker).await;

        let spans = collector.spans();
        let attempt = |n: &str| {
            let found = spans.iter().find(|s| s.kind == SpanKind::Consumer && s.attributes["greffier.attempt"] == n);
            found.unwrap_or_else(|| panic!("no attempt {n}: {spans:#?}"))
        };
        let attempts = [attempt("0"), attempt("1"), attempt("2")];
        assert_eq!(attempts.map(|a| a.trace.as_str()), [TRACE; 3]);
        assert_eq!(attempts.map(|a| a.parent.as_str()), [PARENT, &attempts[0].id, &attempts[1].id]);
        assert_eq!(attempts.map(|a| a.attributes["greffier.outcome"].as_str()), ["retried", "retried", "parked"]);
        assert!(attempts.iter().all(|a| a.failed && a.attributes["error.type"] == "JOB-UNDETERMINED"), "{attempts:#?}");
        assert_eq!(parked.message.traceparent, Some(attempts[2].traceparent()));
        let asked = spans.iter().filter(|s| s.name == "gazelle").collect::<Vec<_>>();
        assert!(!asked.is_empty() && asked.iter().all(|s| s.attributes["greffier.gazelle.outcome"] == "offline"), "{spans:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_traced_a_message_is_carried_on_as_it_came() {
    for kind in Kind::at_hand() {
        let fleet = Fleet::new(kind, |_| ()).await;
        let worker = fleet.worker();
        for (n, traceparent) in [format!("00-{TRACE}-{PARENT}-00"), "Not one – at all".to_owned(), String::new()].into_iter().enumerate()
        {
            let submission = fleet.submission(n).await;
            let replies = fleet.queue.replies().await.unwrap();
            let carried = Some(traceparent);
            let reply_to = Some(replies.address());
            let message = Envelope { traceparent: carried.clone(), reply_to, ..envelope(&submission) };
            fleet.send(Lane::Submission, &message).await;
            let mut following = Following::of(replies);
            following.outcome(&worker).await;
            assert!(following.told.len() >= 4 && following.told.iter().all(|event| event.traceparent == carried), "{:?}", following.told);

            let garbage =
                Envelope { traceparent: carried.clone(), ..Envelope::new(format!("g{n}"), SUBMISSION_REQUESTED, "test", b"{".to_vec()) };
            fleet.send(Lane::Submission, &garbage).await;
            fleet.until("parked", Some(&worker), async |f| f.queue.peek(Place::Parked, 10).await.unwrap().len() > n).await;
            let parked = fleet.queue.peek(Place::Parked, 10).await.unwrap();
            assert!(parked.iter().any(|w| w.message.id == garbage.id && w.message.traceparent == carried), "{parked:?}");
        }
        let log = end(worker).await;
        assert!(!log.contains("trace_id"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_kept_where_whoever_began_it_keeps_it() {
    let collector = Collector::start().await;
    let fleet = traced(Kind::Embedded, &collector, |config| config.telemetry.sample_ratio = 0.0).await;
    let worker = fleet.worker();
    for (n, (traceparent, flags)) in [(None, "-00"), (Some("00"), "-00"), (Some("01"), "-01")].into_iter().enumerate() {
        let traceparent = traceparent.map(|flags| format!("00-{TRACE}-{PARENT}-{flags}"));
        let replies = fleet.queue.replies().await.unwrap();
        let reply_to = Some(replies.address());
        fleet.send(Lane::Submission, &Envelope { traceparent, reply_to, ..envelope(&fleet.submission(n).await) }).await;
        let mut following = Following::of(replies);
        following.outcome(&worker).await;
        for event in &following.told {
            let carried = event.traceparent.as_deref().unwrap();
            assert!(carried.len() == 55 && carried.ends_with(flags) && !carried.contains(PARENT), "{carried}");
        }
    }
    end(worker).await;
    let spans = collector.spans();
    assert_eq!(spans.iter().filter(|s| s.kind == SpanKind::Consumer).count(), 1, "{spans:#?}");
    assert!(spans.iter().all(|s| s.trace == TRACE), "{spans:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_costs_a_warning_and_nothing_else() {
    let address = format!("http://{}", crate::support::nobody());
    let collector = Collector { address, ..Collector::default() };
    let fleet = traced(Kind::Embedded, &collector, |config| config.http.listen = "127.0.0.1:0".into()).await;
    let worker = fleet.worker();
    let mut before = 0;
    for n in 0..2 {
        fleet.submit(Lane::Submission, &fleet.submission(n).await).await.outcome(&worker).await;
        fleet.until("counted", Some(&worker), async |_| metric(&worker, "greffier_trace_spans_dropped_total").await > before).await;
        before = metric(&worker, "greffier_trace_spans_dropped_total").await;
    }
    let log = end(worker).await;
    assert_eq!(lines(&log, "TELEMETRY-UNREACHABLE").len(), 1, "{log}");
    assert!(lines(&log, "TELEMETRY-").len() == 1 && lines(&log, "job ended").len() == 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_says_nothing_holds_up_neither_jobs_nor_the_end() {
    // Takes connections and requests, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector { address: format!("http://{}", silent.local_addr().unwrap()), ..Collector::default() };
    let change = |config: &mut Config| {
        config.http.listen = "127.0.0.1:0".into();
        config.telemetry.max_queued_spans = 1;
    };
    let fleet = traced(Kind::Embedded, &collector, change).await;
    let worker = fleet.worker();
    for n in 0..3 {
        fleet.submit(Lane::Submission, &fleet.submission(n).await).await.outcome(&worker).await;
    }
    worker.says("TELEMETRY-DROPPED").await;
    assert!(metric(&worker, "greffier_trace_spans_dropped_total").await > 0);
    let log = end(worker).await;
    assert_eq!(lines(&log, "TELEMETRY-DROPPED").len(), 1, "{log}");
    assert_eq!(lines(&log, "job ended").len(), 3, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_in_the_browser_goes_on_with_the_trace_of_its_request() {
    let collector = Collector::start().await;
    let fleet = traced(Kind::Embedded, &collector, |config| config.http.listen = "127.0.0.1:0".into()).await;
    let worker = fleet.started("serve");
    worker.says("greffier: http://").await;
    let address = worker.log().lines().find_map(|line| line.strip_prefix("greffier: ")).unwrap().trim_end_matches('/').to_owned();
    let client = reqwest::Client::new();
    let post = |path: &str| client.post(format!("{address}{path}")).header("sec-fetch-site", "same-origin");
    let begun: Value = serde_json::from_slice(&post("/deposit").send().await.unwrap().bytes().await.unwrap()).unwrap();
    let draft = begun["draft"].as_str().unwrap();
    let put = client.put(format!("{address}/deposit/{draft}/file?path=APCV.01/note.txt")).header("sec-fetch-site", "same-origin");
    assert!(put.body("Une note.").send().await.unwrap().status().is_success());
    let submit = post(&format!("/deposit/{draft}")).header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let answer = submit.header("content-type", "application/json").body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    fleet.until("an outcome", Some(&worker), async |fleet| fleet.count("outcomes/").await == 1).await;
    end(worker).await;

    let spans = collector.spans();
    let request = one(&spans, "POST /deposit/{draft}");
    assert_eq!((request.trace.as_str(), request.parent.as_str(), request.kind), (TRACE, PARENT, SpanKind::Server));
    assert_eq!(
        (request.attributes["http.route"].as_str(), request.attributes["http.response.status_code"].as_str()),
        ("/deposit/{draft}", "200")
    );
    let send = one(&spans, "send interactive");
    assert_eq!(send.parent, request.id);
    assert_eq!(one(&spans, "process interactive").parent, send.id);
    assert!(!format!("{spans:?}").contains(draft), "the draft's id opens it");
}

/// `ca.pem`, and `server.pem` and `server.key` for 127.0.0.1 that it vouches for; `other.pem` vouches for nobody.
fn certificates(folder: &std::path::Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    for name in ["ca", "other"] {
        let (out, kept) = (format!("{name}.pem"), format!("{name}.key"));
        openssl(folder, &[["req", "-x509"].as_slice(), &key, &["-subj", "/CN=test authority", "-keyout", &kept, "-out", &out]].concat());
    }
    let own = ["-subj", "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem"];
    openssl(folder, &[["req", "-x509"].as_slice(), &key, &own, &signed].concat());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs openssl; run by scripts/test"]
async fn a_collector_is_told_over_tls_where_its_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let collector = Collector::start_tls(folder.path()).await;
    let with = |file: &str| {
        let file = folder.path().join(file);
        move |config: &mut Config| config.telemetry.extra_ca_file = Some(file)
    };
    let fleet = traced(Kind::Embedded, &collector, with("ca.pem")).await;
    let worker = fleet.worker();
    fleet.submit(Lane::Submission, &fleet.submission(1).await).await.outcome(&worker).await;
    let log = end(worker).await;
    one(&collector.spans(), "check");
    assert_eq!(lines(&log, "TELEMETRY-").len(), 0, "{log}");

    let before = collector.requests.lock().unwrap().len();
    let fleet = traced(Kind::Embedded, &collector, with("other.pem")).await;
    let worker = fleet.worker();
    fleet.submit(Lane::Submission, &fleet.submission(1).await).await.outcome(&worker).await;
    assert_eq!(lines(&end(worker).await, "TELEMETRY-UNREACHABLE").len(), 1);
    assert_eq!(collector.requests.lock().unwrap().len(), before, "told to nobody that is not trusted");

    let fleet = traced(Kind::Embedded, &collector, with("none.pem")).await;
    let output = fleet.command().arg("worker").output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("TELEMETRY-SETTINGS: telemetry.extra_ca_file: "), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs openssl; run by scripts/test"]
async fn doctor_says_whether_the_collector_takes_traces() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (open, tls) = (Collector::start().await, Collector::start_tls(folder.path()).await);
    let ca = folder.path().join("ca.pem").to_str().unwrap().to_owned();
    let look = |endpoint: &str, ca: Option<&str>| {
        let mut settings = vec![
            ("NO_PROXY", "127.0.0.1"),
            ("GREFFIER_TELEMETRY__ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2"),
        ];
        settings.extend(ca.map(|ca| ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca)));
        let (exit, report) = tokio::task::block_in_place(|| doctor(&settings, &[]));
        assert!(!report.to_string().contains("hunter2"), "{report}");
        let told = check(&report, "collector of traces").clone();
        assert!(told["ok"] == true || exit == Some(1), "{exit:?} {told}");
        (told["ok"] == true, told["detail"].as_str().unwrap().to_owned())
    };
    for (collector, ca) in [(&open, None), (&tls, Some(ca.as_str()))] {
        let told = look(&collector.address, ca);
        assert!(told.0, "{told:?}");
        let requests = collector.requests.lock().unwrap();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].0["authorization"], "Bearer hunter2");
        let told = ExportTraceServiceRequest::decode(requests[0].1.clone()).unwrap();
        assert!(told.resource_spans.iter().all(|resource| resource.scope_spans.is_empty()), "{told:?}");
    }
    let refusing = axum::Router::new().fallback(async || axum::http::StatusCode::UNAUTHORIZED);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, refusing).into_future());
    let told = look(&refuses, None);
    assert!(!told.0 && told.1.starts_with("TELEMETRY-UNREACHABLE: "), "{told:?}");
    for (endpoint, ca, expected) in [
        ("http://127.0.0.1:1", None, "TELEMETRY-UNREACHABLE: "),
        (tls.address.as_str(), None, "TELEMETRY-UNREACHABLE: "),
        (tls.address.as_str(), Some("other.pem"), "TELEMETRY-UNREACHABLE: "),
        ("collector:4318", None, "TELEMETRY-SETTINGS: "),
        (tls.address.as_str(), Some("none.pem"), "TELEMETRY-SETTINGS: telemetry.extra_ca_file: "),
    ] {
        let config =
            TelemetryConfig { endpoint: endpoint.into(), extra_ca_file: ca.map(|ca| folder.path().join(ca)), ..TelemetryConfig::default() };
        let told = greffier::telemetry::probe(&config).await.unwrap();
        assert!(!told.ok && told.detail.starts_with(expected) && !told.detail.contains(&tls.address), "{endpoint}: {told:?}");
    }
    assert_eq!(tls.requests.lock().unwrap().len(), 1, "told to nobody that is not trusted");
    let (_, report) = tokio::task::block_in_place(|| doctor(&[], &[]));
    assert!(report["checks"].as_array().unwrap().iter().all(|c| c["name"] != "collector of traces"), "{report}");
}
