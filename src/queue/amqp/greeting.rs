//! Which server answers: its first frame, `connection.start`, names product and version, and the library keeps neither.
//!
//! One connection of its own that says hello, reads one frame and hangs up; only when the queue is prepared.

use std::io::{Error, Read as _, Write as _};
use std::time::{Duration, Instant};

use lapin::protocol::{self, AMQPClass};
use lapin::tcp::{AMQPUriTcpExt as _, HandshakeError};
use lapin::types::FieldTable;

use super::address::Address;

/// Largest first frame that is read, bytes.
const MAX_FRAME: usize = 64 * 1024;

/// What a server says of itself.
pub struct Server {
    /// `RabbitMQ`.
    pub product: String,
    /// `3.10.8`.
    pub version: String,
}

impl Server {
    /// The first two numbers of a RabbitMQ's version.
    pub fn major_minor(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.split('.').map(|n| n.parse().ok());
        (self.product == "RabbitMQ").then_some((numbers.next()??, numbers.next()??))
    }
}

/// Asks, off the runtime: the library's own TLS is blocking here.
///
/// # Errors
/// Nobody answers, or not as an AMQP server does.
pub async fn ask(address: &Address, limit: Duration) -> Result<Server, Error> {
    let tls = address.tls().await?;
    let mut uri = address.uri().clone();
    uri.query.connection_timeout = u64::try_from(limit.as_millis()).ok();
    tokio::task::spawn_blocking(move || {
        let until = Instant::now() + limit;
        let mut stream = match uri.connect_with_config(tls.as_ref()) {
            Ok(stream) => stream,
            Err(HandshakeError::Failure(e)) => return Err(e),
            Err(HandshakeError::WouldBlock(_)) => return Err(Error::other("the TLS handshake stopped half way")),
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(limit))?;
        // AMQP 0-9-1 §4.2.2: the protocol header.
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        stream.flush()?;
        let mut read = |bytes: &mut [u8]| {
            let mut filled = 0;
            while let Some(rest) = bytes.get_mut(filled..).filter(|r| !r.is_empty()) {
                if Instant::now() > until {
                    return Err(Error::other("it is too slow"));
                }
                match stream.read(rest)? {
                    0 => return Err(Error::other("it hung up")),
                    n => filled += n,
                }
            }
            Ok(())
        };
        // §2.3.5: type, channel, size; then the method.
        let mut head = [0; 7];
        read(&mut head)?;
        let [kind, _, _, size @ ..] = head;
        let size = u32::from_be_bytes(size) as usize;
        if kind != 1 || size > MAX_FRAME {
            return Err(Error::other("it speaks another protocol"));
        }
        let mut method = vec![0; size];
        read(&mut method)?;
        let (_, method) = protocol::parse_class(method.as_slice()).map_err(|_| Error::other("it speaks another protocol"))?;
        let AMQPClass::Connection(protocol::connection::AMQPMethod::Start(start)) = method else {
            return Err(Error::other("it begins with something else than connection.start"));
        };
        let word = |name: &str| property(&start.server_properties, name);
        Ok(Server { product: word("product"), version: word("version") })
    })
    .await
    .map_err(Error::other)?
}

fn property(table: &FieldTable, name: &str) -> String {
    table.inner().get(name).and_then(|v| v.as_long_string()).map(ToString::to_string).unwrap_or_default()
}
