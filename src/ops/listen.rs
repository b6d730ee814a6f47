//! Connections: plain or TLS, a bounded number of them, none that stays silent.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
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

/// A connection on which nothing is read or written for so long is closed. Streams of events say something more often.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where connections come from.
pub(super) struct Door {
    listener: Arc<TcpListener>,
    seats: Arc<Semaphore>,
    tls: Option<mpsc::Receiver<(Connection, SocketAddr)>>,
    /// Ends the task that shakes hands when the door is dropped.
    _greeter: Option<tokio::task::JoinSet<()>>,
}

impl Door {
    pub(super) async fn open(config: &Checked, connections: u32) -> Result<Self, HttpError> {
        let refused = |source| HttpError::Address { listen: config.listen.to_string(), source };
        let listener = Arc::new(TcpListener::bind(config.listen).await.map_err(refused)?);
        let seats = Arc::new(Semaphore::new(connections.max(8) as usize));
        let Some((certificate, key)) = &config.tls else { return Ok(Self { listener, seats, tls: None, _greeter: None }) };
        let acceptor = TlsAcceptor::from(Arc::new(tls(certificate, key)?));
        let (send, receive) = mpsc::channel(16);
        let mut greeter = tokio::task::JoinSet::new();
        greeter.spawn(greet(Arc::clone(&listener), Arc::clone(&seats), acceptor, send));
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
async fn greet(listener: Arc<TcpListener>, seats: Arc<Semaphore>, acceptor: TlsAcceptor, send: mpsc::Sender<(Connection, SocketAddr)>) {
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

async fn accept(listener: &TcpListener, seats: &Arc<Semaphore>) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Never closed: the error cannot happen, and would only mean that nobody counts.
    let seat = Arc::clone(seats).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
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
    _seat: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: Stream, seat: Option<OwnedSemaphorePermit>) -> Self {
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
