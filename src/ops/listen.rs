//! Connections: plain or TLS, a bounded number of them, none that stays silent. One address gets no more than half of the
//! seats, so that health is answered to whoever watches while somebody else takes all that he can get.

use std::collections::HashMap;
use std::future::Future as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::config::{Checked, HttpError};
use super::guard::network;

/// A connection on which nothing is read or written for so long is closed. Streams of events say something more often.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where connections come from.
pub(super) struct Door {
    listener: Arc<TcpListener>,
    seats: Seats,
    tls: Option<mpsc::Receiver<(Connection, SocketAddr)>>,
    /// Ends the task that shakes hands when the door is dropped.
    _greeter: Option<tokio::task::JoinSet<()>>,
}

impl Door {
    /// At most `connections` at once. `shared`: those of many people come from one address, that of a proxy.
    pub(super) async fn open(config: &Checked, connections: u32, shared: bool) -> Result<Self, HttpError> {
        let refused = |source| HttpError::Address { listen: config.listen.to_string(), source };
        let listener = Arc::new(TcpListener::bind(config.listen).await.map_err(refused)?);
        let seats = Seats::new(connections, shared);
        let Some((certificate, key)) = &config.tls else { return Ok(Self { listener, seats, tls: None, _greeter: None }) };
        let acceptor = TlsAcceptor::from(Arc::new(tls(certificate, key)?));
        let (send, receive) = mpsc::channel(16);
        let mut greeter = tokio::task::JoinSet::new();
        greeter.spawn(greet(Arc::clone(&listener), seats.clone(), acceptor, send));
        Ok(Self { listener, seats, tls: Some(receive), _greeter: Some(greeter) })
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

/// Shakes hands with everybody at once, so that one who is slow holds up nobody.
async fn greet(listener: Arc<TcpListener>, seats: Seats, acceptor: TlsAcceptor, send: mpsc::Sender<(Connection, SocketAddr)>) {
    let mut hands = tokio::task::JoinSet::new();
    loop {
        let (stream, address, seat) = accept(&listener, &seats).await;
        while hands.try_join_next().is_some() {}
        let (acceptor, send) = (acceptor.clone(), send.clone());
        hands.spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                let _ = send.send((Connection::new(Stream::Tls(Box::new(stream)), seat), address)).await;
            }
        });
    }
}

/// Seats, and who has how many of them.
#[derive(Clone)]
struct Seats {
    all: Arc<Semaphore>,
    of: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// Most of one address.
    most: usize,
}

/// A seat, free again when dropped.
struct Seat {
    of: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
    _one: Option<OwnedSemaphorePermit>,
}

impl Seats {
    fn new(connections: u32, shared: bool) -> Self {
        let all = connections.max(8) as usize;
        Self { all: Arc::new(Semaphore::new(all)), of: Arc::default(), most: if shared { all } else { all / 2 } }
    }

    /// `None` where the address has its share.
    fn take(&self, one: Option<OwnedSemaphorePermit>, address: IpAddr) -> Option<Seat> {
        let address = network(address);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let held = of.entry(address).or_insert(0);
        if *held >= self.most {
            return None;
        }
        *held += 1;
        Some(Seat { of: Arc::clone(&self.of), address, _one: one })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = of.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                of.remove(&self.address);
            }
        }
    }
}

async fn accept(listener: &TcpListener, seats: &Seats) -> (TcpStream, SocketAddr, Seat) {
    // Never closed: the error cannot happen, and would only mean that nobody counts.
    let mut one = Arc::clone(&seats.all).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let Some(seat) = seats.take(one.take(), address.ip()) else {
                    // Closed without a word.
                    drop(stream);
                    one = Arc::clone(&seats.all).acquire_owned().await.ok();
                    continue;
                };
                // Small answers are not held back; where it cannot be said, they only come later.
                let _ = stream.set_nodelay(true);
                return (stream, address, seat);
            }
            Err(error) => {
                // Out of descriptors, or a client that left: neither is mended by asking again at once.
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        if let Some(tls) = &mut self.tls {
            return match tls.recv().await {
                Some(greeted) => greeted,
                // The greeter lives as long as this door.
                None => std::future::pending().await,
            };
        }
        let (stream, address, seat) = accept(&self.listener, &self.seats).await;
        (Connection::new(Stream::Plain(stream), seat), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that has a seat, and is closed when it falls silent.
pub(super) struct Connection {
    stream: Stream,
    silence: Pin<Box<Sleep>>,
    _seat: Seat,
}

impl Connection {
    fn new(stream: Stream, seat: Seat) -> Self {
        Self { stream, silence: Box::pin(tokio::time::sleep(SILENCE)), _seat: seat }
    }

    fn heard<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE);
            return polled;
        }
        match self.silence.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        self.heard(polled, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.heard(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_no_more_than_half_of_the_seats() {
        let seats = Seats::new(8, false);
        let [one, two]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let mut taken: Vec<_> = (0..4).map(|_| seats.take(None, one).unwrap()).collect();
        assert!(seats.take(None, one).is_none());
        assert!(seats.take(None, two).is_some());
        taken.pop();
        assert!(seats.take(None, one).is_some(), "a seat that is left is free again");
        drop(taken);
        assert!(seats.of.lock().unwrap().is_empty(), "who is gone is forgotten");
        let behind = Seats::new(8, true);
        assert_eq!((0..8).filter_map(|_| behind.take(None, one)).collect::<Vec<_>>().len(), 8);
    }
}
