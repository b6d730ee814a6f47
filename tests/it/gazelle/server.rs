//! A Gazelle server of ours: HTTP/1.1 written by hand, so that it can misbehave in every way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use greffier::gazelle::config::{HostRole, HostRule};
use greffier::gazelle::{GazelleClient, GazelleConfig, GazellePolicy, assess};
use greffier::model::gazelle::{Expectation, GazelleFacts};
use greffier::model::messages;
use greffier::model::{Signal, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A result identifier on ANS's arc.
pub const OID: &str = "1.3.6.1.4.1.12559.11.36.4.17466";

/// One request as the server saw it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How many requests for the same path came before.
    pub before: usize,
}

impl Request {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, q)| q)
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// `/evs/rest/validations/OID/report`.
    pub fn is_report(&self) -> bool {
        self.path().starts_with("/evs/rest/validations/") && self.path().ends_with("/report")
    }
    /// `/evs/rest/validations/OID`.
    pub fn is_record(&self) -> bool {
        self.path().starts_with("/evs/rest/validations/") && !self.is_report()
    }
    /// `/evs/rest/validations`.
    pub fn is_service(&self) -> bool {
        self.path() == "/evs/rest/validations"
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A whole answer.
    Full { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Bytes as they are, then the connection closes.
    Raw(Vec<u8>),
    /// Bytes as they are, then silence on an open connection.
    Stall(Vec<u8>),
    /// A head, then the same bytes again and again, this often.
    Drip { head: Vec<u8>, chunk: Vec<u8>, every: Duration },
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Full { status, headers: vec![], body: vec![] }
    }
    pub fn xml(body: impl Into<Vec<u8>>) -> Self {
        Self::Full { status: 200, headers: vec![], body: body.into() }.with("content-type", "application/xml")
    }
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::Full { status: 200, headers: vec![], body: body.into() }.with("content-type", "application/json")
    }
    pub fn text(body: impl Into<Vec<u8>>) -> Self {
        Self::Full { status: 200, headers: vec![], body: body.into() }.with("content-type", "text/plain")
    }
    pub fn html(body: impl Into<Vec<u8>>) -> Self {
        Self::Full { status: 200, headers: vec![], body: body.into() }.with("content-type", "text/html")
    }
    pub fn redirect(location: &str) -> Self {
        Self::status(302).with("location", location)
    }
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Full { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

/// The server: listens on a loopback port until dropped.
pub struct Server {
    pub port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers as `handler` says.
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        crate::watchdog::watch();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let log = Arc::clone(&seen);
        let handler = Arc::new(handler);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, handler) = (Arc::clone(&log), Arc::clone(&handler));
                tokio::spawn(async move {
                    let _ = serve(stream, &log, &*handler).await;
                });
            }
        });
        Self { port, seen, task }
    }

    /// Gives `report` for every report asked, and knows nothing else.
    pub async fn reporting(report: Reply) -> Self {
        Self::start(move |request| match request {
            r if r.is_report() => report.clone(),
            r if r.is_service() => Reply::status(405),
            _ => Reply::status(404),
        })
        .await
    }

    /// Requests seen so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// `http://127.0.0.1:PORT` + `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The permanent link of [`OID`].
    pub fn link(&self) -> String {
        self.url(&format!("/evs/report.seam?oid={OID}"))
    }

    /// A policy that lists this server as one whose reports count.
    pub fn policy(&self) -> GazellePolicy {
        GazellePolicy { hosts: vec![host("127.0.0.1", self.port)], oid_arcs: vec!["1.3.6.1.4.1.12559.11.36".into()] }
    }

    /// Settings for tests: this server may be asked over loopback, and is not waited for between requests.
    pub fn config(&self) -> GazelleConfig {
        quick(&[format!("127.0.0.1:{}", self.port)])
    }

    pub fn client(&self) -> GazelleClient {
        GazelleClient::new(self.config(), self.policy()).unwrap()
    }

    /// Fetches the permanent link.
    pub async fn fetch(&self) -> GazelleFacts {
        self.client().fetch(&self.link()).await
    }
}

pub fn host(host: &str, port: u16) -> HostRule {
    HostRule { host: host.into(), port: Some(port), role: HostRole::Referencement, portal_path: None }
}

/// Settings under which nothing is waited for but answers, with loopback permission for `loopback`. For those there is more
/// time than a busy machine needs: tests of what does not come in time set their own.
pub fn quick(loopback: &[String]) -> GazelleConfig {
    GazelleConfig {
        allow_loopback: loopback.to_vec(),
        min_interval_ms: 0,
        backoff_base_ms: 2,
        backoff_max_ms: 50,
        header_timeout_ms: 60_000,
        body_timeout_ms: 60_000,
        link_timeout_ms: 120_000,
        pending_polls: 2,
        pending_wait_ms: 5,
        max_attempts: 3,
        max_body_bytes: 1024 * 1024,
        ..GazelleConfig::default()
    }
}

async fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    handler: &(dyn Fn(&Request) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16_384 {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let headers = lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
    let request = {
        let mut seen = log.lock().unwrap();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let request = Request { before: seen.iter().filter(|r| r.path() == path).count(), target, headers };
        seen.push(request.clone());
        request
    };
    match handler(&request) {
        Reply::Full { status, headers, body } => {
            let mut answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                answer.push_str(&format!("{name}: {value}\r\n"));
            }
            answer.push_str("\r\n");
            stream.write_all(answer.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Reply::Raw(bytes) => stream.write_all(&bytes).await?,
        Reply::Stall(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Reply::Drip { head, chunk, every } => {
            stream.write_all(&head).await?;
            loop {
                stream.write_all(&chunk).await?;
                stream.flush().await?;
                tokio::time::sleep(every).await;
            }
        }
    }
    stream.shutdown().await
}

/// The signals of `facts` under the policy of `server`.
pub fn signals(server: &Server, facts: &GazelleFacts, expectation: Option<&Expectation>) -> Vec<Signal> {
    assess(facts, &server.policy(), expectation, None)
}

/// Codes, sorted, each once.
pub fn codes(signals: &[Signal]) -> Vec<&str> {
    let mut codes: Vec<&str> = signals.iter().map(|s| s.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The verdict that default severities make.
pub fn verdict(signals: &[Signal]) -> Verdict {
    Verdict::of(signals.iter().map(|s| messages::get(&s.code).unwrap_or_else(|| panic!("{} is explained nowhere", s.code)).severity))
}
