//! A server between us and the real one that changes what passes, or answers by itself.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Requests that came before, over all connections.
    pub before: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    pub fn strip(&mut self, prefix: &str) {
        self.headers.retain(|(name, _)| !name.starts_with(prefix));
    }
}

/// What becomes of a request.
pub enum Act {
    /// It goes to the real server, as it is now, and its answer comes back.
    Pass,
    /// It goes to the real server, whose answer is lost.
    LoseAnswer,
    /// These bytes are the answer; then the connection closes.
    Answer(Vec<u8>),
    /// No answer, on an open connection.
    Silence,
}

/// An answer with a body whose announced length may be another.
pub fn answer(status: &str, headers: &[(&str, &str)], announced: usize, body: &[u8]) -> Act {
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {announced}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    Act::Answer(bytes)
}

/// An error as S3 words it.
pub fn error(status: &str, code: &str) -> Act {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
    answer(status, &[("content-type", "application/xml")], body.len(), body.as_bytes())
}

/// The server: listens on a loopback port until dropped.
pub struct Proxy {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// `act` may change the request before it passes to `real` (`127.0.0.1:port`).
    pub async fn start(real: &str, act: impl Fn(&mut Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (act, real, kept) = (Arc::new(act), real.to_owned(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (act, real, kept) = (Arc::clone(&act), real.clone(), Arc::clone(&kept));
                // An error here is a client that went away.
                tokio::spawn(async move { serve(stream, &real, &*act, &kept).await });
            }
        });
        Self { url, seen, task }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    mut client: TcpStream,
    real: &str,
    act: &(dyn Fn(&mut Request) -> Act + Send + Sync),
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut request = receive(&mut client).await?;
    let done = {
        let mut seen = seen.lock().unwrap();
        request.before = seen.len();
        seen.push(request.clone());
        act(&mut request)
    };
    match done {
        Act::Pass => client.write_all(&forward(real, &request).await?).await?,
        Act::LoseAnswer => {
            forward(real, &request).await?;
        }
        Act::Answer(bytes) => client.write_all(&bytes).await?,
        Act::Silence => std::future::pending().await,
    }
    client.shutdown().await
}

async fn receive(client: &mut TcpStream) -> std::io::Result<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let headers: Vec<_> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())).collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = bytes.split_off(end + 4);
    if headers.iter().any(|(n, v)| n == "expect" && v == "100-continue") && body.is_empty() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Request { method, target, headers, body, before: 0 })
}

async fn forward(real: &str, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(real).await?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in request.headers.iter().filter(|(n, _)| !matches!(n.as_str(), "connection" | "expect")) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("connection: close\r\n\r\n");
    server.write_all(head.as_bytes()).await?;
    server.write_all(&request.body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}
