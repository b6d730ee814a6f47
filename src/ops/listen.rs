//! Accepts TCP and TLS connections and serves HTTP/1.1 on them, to clients that may be hostile.
//!
//! 1. **Every wait for a client ends.** A request head has a deadline for the whole of it (hyper's `header_read_timeout`, which
//!    also bounds idle keep-alive connections). A body, and the reading of an answer, have a floor on their rate and no absolute
//!    deadline: a large video on a slow line takes long, and moves all the time.
//! 2. **Connections that run no request give way.** When all permits are taken, or a client has its share of them, the oldest
//!    connection that waits for a request is closed for the newcomer: first of the same client, else of the client that has most.
//! 3. **Health is answered even when every permit runs a request.** [`RESERVED`] more connections are accepted for a few seconds
//!    each, and are answered health and metrics only. A second listener for probes would do this too; it was not chosen because
//!    what already probes `http.listen` (load balancers, Kubernetes, Prometheus) would be protected only once reconfigured.
//!
//! A client is an IPv4 address or an IPv6 /64 ([`network`]).

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::Future as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::config::{Checked, HttpConfig, HttpError};
use super::guard::network;

/// Connections beyond `http.max_connections` that are answered health and metrics.
pub(super) const RESERVED: usize = 32;
/// How long a reserved connection may last, TLS and answer included. A probe sends its request at once.
const RESERVED_TIME: Duration = Duration::from_secs(3);
/// Largest head of a request, and buffer of a connection, bytes. An OpenID provider's answer in an address has a few thousand.
const MAX_HEAD: usize = 64 * 1024;
/// Most that a client which was fast may rest before its rate counts again.
const MAX_REST: Duration = Duration::from_secs(60);
/// After an error of `accept` (no descriptors left, a client that reset its connection): at once it would fail again.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// What is answered on reserved connections.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// A bound address, its limits, and its TLS.
pub(super) struct Listener {
    listener: TcpListener,
    limit: ConnectionLimit,
    tls: Option<TlsAcceptor>,
    patience: Patience,
}

/// How long clients are waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For a whole request head, or a TLS handshake; twice as long for the first bytes of a body.
    head: Duration,
    /// Least rate of bodies and of reading answers, bytes a second.
    rate: u64,
}

impl Listener {
    pub(super) async fn bind(config: &HttpConfig, checked: &Checked) -> Result<Self, HttpError> {
        let refused = |source| HttpError::Address { listen: checked.listen.to_string(), source };
        let listener = TcpListener::bind(checked.listen).await.map_err(refused)?;
        let tls = match &checked.tls {
            Some((certificate, key)) => Some(TlsAcceptor::from(Arc::new(tls(certificate, key)?))),
            None => None,
        };
        // Behind a proxy every connection has the proxy's address: the whole is one client's share.
        let limit = ConnectionLimit::new(config.max_connections as usize, config.behind_tls || config.trust_forwarded_for);
        let patience =
            Patience { head: Duration::from_secs(config.head_seconds.clamp(1, 600)), rate: config.least_bytes_per_second.max(1) };
        Ok(Self { listener, limit, tls, patience })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stopped` is true and the requests under way have ended.
    pub(super) async fn serve(self, router: Router, mut stopped: watch::Receiver<bool>) {
        let Self { listener, limit, tls, patience } = self;
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = is_true(&mut stopped) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Small answers are not held back. Where the option cannot be set, they only arrive later.
                    let _ = stream.set_nodelay(true);
                    let permit = limit.admit(peer.ip());
                    let connection = Connecting { peer, patience, tls: tls.clone(), router: router.clone(), stopped: stopped.clone() };
                    connections.spawn(connection.run(stream, permit));
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
    }
}

fn tls(certificate: &Path, key: &Path) -> Result<rustls::ServerConfig, HttpError> {
    let wrong = |path: &Path, why: &dyn std::fmt::Display| HttpError::Tls(format!("{}: {why}", path.display()));
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<_, _>>).map_err(|e| wrong(certificate, &e))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
    crate::tls::install_tls_provider();
    let mut config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private).map_err(|e| wrong(certificate, &e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

// ------------------------------------------------------------------------------------------------------- how many at once

/// Permits for connections, and which of them may be taken back.
#[derive(Clone)]
struct ConnectionLimit(Arc<Limit>);

struct Limit {
    max: usize,
    max_of_client: usize,
    open: Mutex<Open>,
}

/// Open connections, in the order in which they were accepted.
#[derive(Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Entry>,
}

struct Entry {
    client: IpAddr,
    reserved: bool,
    activity: Arc<Activity>,
    evicted: Arc<Notify>,
}

/// What a connection is doing.
#[derive(Debug, Default)]
struct Activity {
    /// A request is answered: from its whole head to the end of the answer's body.
    request: AtomicBool,
    /// Bytes of an answer wait for the client to read.
    writing: AtomicBool,
}

impl Activity {
    /// Nothing is lost but time when the connection is closed.
    fn is_waiting(&self) -> bool {
        !self.request.load(Ordering::Relaxed) && !self.writing.load(Ordering::Relaxed)
    }
}

/// Permission to keep one connection open; given back when dropped.
struct ConnectionPermit {
    limit: Arc<Limit>,
    id: u64,
    reserved: bool,
    activity: Arc<Activity>,
    evicted: Arc<Notify>,
}

impl ConnectionLimit {
    fn new(max: usize, shared: bool) -> Self {
        let max = max.max(8);
        Self(Arc::new(Limit { max, max_of_client: if shared { max } else { max / 2 }, open: Mutex::default() }))
    }

    /// Never refuses: it makes room among connections that wait, or gives a reserved permit.
    fn admit(&self, address: IpAddr) -> ConnectionPermit {
        let client = network(address);
        let mut open = self.0.open();
        let (mut of_client, mut of_all, mut reserved) = (0, 0, 0);
        for entry in open.connections.values() {
            if entry.reserved {
                reserved += 1;
            } else {
                of_all += 1;
                of_client += usize::from(entry.client == client);
            }
        }
        let idle = |entry: &Entry| !entry.reserved && entry.activity.is_waiting();
        let found = if of_client >= self.0.max_of_client {
            open.evict(|entry| idle(entry) && entry.client == client)
        } else if of_all >= self.0.max {
            open.evict(idle)
        } else {
            true
        };
        if !found && reserved >= RESERVED {
            // Also one that is being answered: probes are short, and this one has had its time.
            open.evict(|entry| entry.reserved);
        }
        let (id, activity, evicted) = (open.next, Arc::default(), Arc::default());
        open.next += 1;
        let entry = Entry { client, reserved: !found, activity: Arc::clone(&activity), evicted: Arc::clone(&evicted) };
        open.connections.insert(id, entry);
        ConnectionPermit { limit: Arc::clone(&self.0), id, reserved: !found, activity, evicted }
    }
}

impl Limit {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes the oldest of the connections that `may` says, of the client that has most of them; false where there is none.
    fn evict(&mut self, may: impl Fn(&Entry) -> bool) -> bool {
        let mut clients: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (id, entry) in self.connections.iter().filter(|(_, entry)| may(entry)) {
            clients.entry(entry.client).or_insert((0, *id)).0 += 1;
        }
        let oldest = clients.into_values().max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)));
        let evicted = oldest.and_then(|(_, id)| self.connections.remove(&id));
        if let Some(entry) = &evicted {
            entry.evicted.notify_one();
        }
        evicted.is_some()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limit.open().connections.remove(&self.id);
    }
}

/// Marks a connection as answering a request until dropped.
struct Answering(Arc<Activity>);

impl Answering {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.request.store(true, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.request.store(false, Ordering::Relaxed);
    }
}

// --------------------------------------------------------------------------------------------------------- one connection

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What one connection is served with.
struct Connecting {
    peer: SocketAddr,
    patience: Patience,
    tls: Option<TlsAcceptor>,
    router: Router,
    stopped: watch::Receiver<bool>,
}

impl Connecting {
    async fn run(self, stream: TcpStream, permit: ConnectionPermit) {
        let lasts = if permit.reserved { RESERVED_TIME } else { Duration::MAX };
        let evicted = Arc::clone(&permit.evicted);
        tokio::select! {
            // Dropping the future closes the connection.
            _ = tokio::time::timeout(lasts, self.serve(stream, &permit)) => {}
            () = evicted.notified() => tracing::debug!("closed a connection without a request: another client needs its place"),
        }
    }

    async fn serve(self, stream: TcpStream, permit: &ConnectionPermit) {
        let Self { peer, patience, tls, router, mut stopped } = self;
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(acceptor) => match tokio::time::timeout(patience.head, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                Ok(Err(_)) | Err(_) => return,
            },
        };
        let connection = Connection { stream, pace: Pace::new(patience), activity: Arc::clone(&permit.activity) };
        let (inner, activity, reserved) = (TowerToHyperService::new(router), Arc::clone(&permit.activity), permit.reserved);
        let service = service_fn(move |request: Request<Incoming>| {
            let answering = Answering::begin(&activity);
            let answered = (!reserved || is_probe(request.uri().path())).then(|| {
                let mut request = request.map(|body| Body::new(PacedBody { body, pace: Pace::new(patience) }));
                request.extensions_mut().insert(ConnectInfo(Peer(peer)));
                inner.call(request)
            });
            async move {
                let response = match answered {
                    Some(answered) => answered.await?,
                    None => overloaded(),
                };
                Ok::<_, Infallible>(response.map(|body| AnswerBody { body, _answering: answering }))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(patience.head).max_buf_size(MAX_HEAD).keep_alive(!reserved);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = is_true(&mut stopped) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::trace!(%error, "a connection ended early");
        }
    }
}

/// Waits until the server was told to stop.
async fn is_true(stopped: &mut watch::Receiver<bool>) {
    // An error says that the server is gone.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Every permit is in use, and this request is no probe.
fn overloaded() -> Response<Body> {
    let headers = [(header::RETRY_AFTER, "5"), (header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CONNECTION, "close")];
    let text = "Trop de connexions : réessayez dans quelques secondes. / Too many connections: try again in some seconds.\n";
    (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
}

/// How long a peer may still let us wait. Bytes that move give more time, as much as they take at the least rate; time in which
/// we do not wait for the peer does not count.
struct Pace {
    rate: u64,
    left: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    fn new(patience: Patience) -> Self {
        Self { rate: patience.rate, left: patience.head.saturating_mul(2), waiting: None }
    }

    fn moved(&mut self, bytes: usize) {
        self.waited();
        let earned = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        // Never shortened: what is left at the beginning may be more than a rest.
        self.left = self.left.max(self.left.saturating_add(earned).min(MAX_REST));
    }

    fn waited(&mut self) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    /// To be polled whenever the peer lets us wait; ready once it did for too long.
    fn poll_used_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let (_, sleep) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        sleep.as_mut().poll(cx)
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is slower than http.least_bytes_per_second")
}

/// A request's body that ends with an error when it comes too slowly.
struct PacedBody {
    body: Incoming,
    pace: Pace,
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
                self.pace.moved(bytes.unwrap_or_default());
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(self.pace.poll_used_up(cx));
                Poll::Ready(Some(Err(too_slow().into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body: its connection is busy until it is written.
struct AnswerBody {
    body: Body,
    _answering: Answering,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that fails when its client reads an answer too slowly.
struct Connection {
    stream: Stream,
    pace: Pace,
    activity: Arc<Activity>,
}

impl Connection {
    /// `bytes`: how many were taken of what there is to write.
    fn written<T>(&mut self, polled: Poll<io::Result<T>>, bytes: impl Fn(&T) -> usize, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.activity.writing.store(polled.is_pending(), Ordering::Relaxed);
        match polled {
            Poll::Ready(done) => {
                self.pace.moved(done.as_ref().map_or(0, bytes));
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.pace.poll_used_up(cx));
                Poll::Ready(Err(too_slow()))
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.written(polled, |written| *written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.written(polled, |()| 0, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        self.written(polled, |()| 0, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_open(permit: &ConnectionPermit) -> bool {
        permit.limit.open().connections.contains_key(&permit.id)
    }

    #[test]
    fn a_client_with_its_share_loses_its_own_oldest_idle_connection() {
        let limit = ConnectionLimit::new(8, false);
        let [one, two] = [address("192.0.2.1"), address("192.0.2.2")];
        let held: Vec<_> = (0..4).map(|_| limit.admit(one)).collect();
        let other = limit.admit(two);
        held[0].activity.request.store(true, Ordering::Relaxed);
        let fifth = limit.admit(one);
        assert!(!fifth.reserved);
        assert_eq!(held.iter().map(is_open).collect::<Vec<_>>(), [true, false, true, true], "the oldest that runs no request");
        assert!(is_open(&other), "another client's stays");
        let neighbours: Vec<_> = (0..6).map(|n| limit.admit(address(&format!("2001:db8::{n}")))).collect();
        assert_eq!(neighbours.iter().filter(|permit| is_open(permit)).count(), 4, "a /64 is one client");
    }

    #[test]
    fn the_client_with_most_idle_connections_makes_room_for_a_newcomer() {
        let limit = ConnectionLimit::new(8, false);
        let single = limit.admit(address("192.0.2.1"));
        let flood: Vec<_> = (0..7).map(|n| limit.admit(address(["192.0.2.2", "192.0.2.3"][n % 2]))).collect();
        let newcomer = limit.admit(address("192.0.2.9"));
        assert!(!newcomer.reserved && is_open(&single));
        assert_eq!(flood.iter().map(is_open).collect::<Vec<_>>(), [false, true, true, true, true, true, true]);
    }

    #[test]
    fn where_every_connection_runs_a_request_probes_have_permits_of_their_own() {
        let limit = ConnectionLimit::new(8, true);
        let busy: Vec<_> = (0..8).map(|_| limit.admit(address("192.0.2.1"))).collect();
        busy.iter().for_each(|permit| permit.activity.request.store(true, Ordering::Relaxed));
        let honest = limit.admit(address("192.0.2.9"));
        assert!(honest.reserved && busy.iter().all(is_open));
        let flood: Vec<_> = (0..10 * RESERVED).map(|_| limit.admit(address("192.0.2.1"))).collect();
        assert!(is_open(&honest), "a flood of one client closes its own");
        assert_eq!(flood.iter().filter(|permit| is_open(permit)).count(), RESERVED - 1);
        drop((busy, flood, honest));
        assert!(limit.0.open().connections.is_empty());
        assert!(!limit.admit(address("192.0.2.1")).reserved);
    }

    #[tokio::test]
    async fn bytes_give_time_and_our_own_work_takes_none() {
        let mut pace = Pace::new(Patience { head: Duration::from_secs(5), rate: 1_000 });
        assert_eq!(pace.left, Duration::from_secs(10));
        pace.moved(2_000);
        assert_eq!(pace.left, Duration::from_secs(12));
        pace.moved(usize::MAX / 4);
        assert_eq!(pace.left, MAX_REST, "a fast beginning does not buy hours of rest");
        // A wait that began a minute ago; nothing is waited for outside of one.
        let Some(before) = Instant::now().checked_sub(Duration::from_secs(50)) else { return };
        pace.waiting = Some((before, Box::pin(tokio::time::sleep(Duration::ZERO))));
        pace.moved(1);
        assert!(pace.left <= Duration::from_secs(11) && pace.waiting.is_none(), "{:?}", pace.left);
        let before = pace.left;
        pace.moved(0);
        assert_eq!(pace.left, before);
    }
}
