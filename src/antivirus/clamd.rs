//! The protocol of `clamd(8)`, as far as it is used: `PING`, `VERSION`, `INSTREAM`, over TCP or a Unix socket.
//!
//! `INSTREAM`: `zINSTREAM\0`, then chunks, each a four-byte big-endian length and that many bytes; a length of zero ends the
//! stream. The engine answers `stream: OK`, `stream: NAME FOUND` or `… ERROR`, ended by NUL, and may answer before the end of
//! the stream, where it is over its limit. Every connection serves one command: it shows at once whether the engine lives.

use std::future::Future;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{Scan, Why};
use crate::model::text::display_safe;

/// Bytes of a file sent at once; one scan holds twice that in memory per engine.
const CHUNK: usize = 512 * 1024;

/// Longest answer that is read, bytes. Names of signatures are short.
const MAX_REPLY: usize = 4096;

/// Longest name of a signature that is kept, characters.
const MAX_SIGNATURE: usize = 200;

/// How long an engine is given to object to a length that was announced, without any byte of it having been sent.
const OBJECTION: Duration = Duration::from_millis(500);

/// How long an answer is waited for after the engine stopped reading.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The archive that no engine looks to the bottom of: above clamd's default of 17 levels and any sensible setting.
const DEEP: usize = 120;

/// Where bytes to scan come from: `read(at, length)` gives exactly `length` bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a, R> {
    /// How many there are.
    pub size: u64,
    /// Reads some of them.
    pub read: &'a R,
}

/// One clamd.
#[derive(Debug)]
pub struct Engine {
    address: Address,
    connect: Duration,
    scan: Duration,
}

#[derive(Debug)]
enum Address {
    Tcp(String),
    Unix(String),
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As it says it, made safe to show.
    pub text: String,
    /// Date of its signatures, where it has the official ones.
    pub signatures: Option<Timestamp>,
}

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No connection.
    #[error("cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// No connection, or no answer, in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection ended before the answer did.
    #[error("closed the connection")]
    Closed(#[source] io::Error),
    /// An answer that is none.
    #[error("answered `{0}`")]
    Unexpected(String),
}

impl EngineError {
    fn why(&self) -> Why {
        match self {
            Self::Unreachable(_) => Why::Unreachable,
            Self::TimedOut => Why::TimedOut,
            Self::Closed(_) => Why::Closed,
            Self::Unexpected(_) => Why::Failed,
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Engine {
    /// `address`: `HOST:PORT`, or the path of a Unix socket.
    pub fn new(address: &str, connect: Duration, scan: Duration) -> Self {
        let address = if address.starts_with('/') { Address::Unix(address.to_owned()) } else { Address::Tcp(address.to_owned()) };
        Self { address, connect, scan }
    }

    /// Its address, for people.
    pub fn name(&self) -> &str {
        match &self.address {
            Address::Tcp(address) | Address::Unix(address) => address,
        }
    }

    async fn open(&self) -> Result<Box<dyn Duplex>, EngineError> {
        let opening = async {
            Ok::<Box<dyn Duplex>, io::Error>(match &self.address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            })
        };
        timeout(self.connect, opening).await.map_err(|_| EngineError::TimedOut)?.map_err(EngineError::Unreachable)
    }

    /// Asks one question that has no data.
    async fn ask(&self, command: &str) -> Result<Vec<u8>, EngineError> {
        let mut stream = self.open().await?;
        let asking = async {
            stream.write_all(format!("z{command}\0").as_bytes()).await?;
            reply(&mut stream).await
        };
        timeout(self.connect, asking).await.map_err(|_| EngineError::TimedOut)?.map_err(EngineError::Closed)
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// It does not, or something else answers in its place.
    pub async fn ping(&self) -> Result<(), EngineError> {
        match self.ask("PING").await? {
            answer if answer == b"PONG" => Ok(()),
            other => Err(EngineError::Unexpected(shown(&other))),
        }
    }

    /// Its version and the date of its signatures.
    ///
    /// # Errors
    /// It does not answer, or says nothing of a version.
    pub async fn version(&self) -> Result<Version, EngineError> {
        let answer = self.ask("VERSION").await?;
        let text = shown(&answer);
        if !text.starts_with("ClamAV ") {
            return Err(EngineError::Unexpected(text));
        }
        Ok(Version { signatures: signature_date(&text), text })
    }

    /// Sends bytes past it. What keeps it from looking at them is logged here, once.
    pub async fn scan<R, F>(&self, bytes: Bytes<'_, R>) -> Scan
    where
        R: Fn(u64, usize) -> F + Sync,
        F: Future<Output = io::Result<Vec<u8>>> + Send,
    {
        let size = bytes.size;
        let sent = self.sent(bytes).await;
        let said = match &sent {
            Ok(Sent::Answer(answer)) => shown(answer),
            Ok(Sent::Unreadable(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let scan = meaning(&sent);
        if let Scan::NotScanned { why } = scan {
            tracing::warn!(antivirus.engine = self.name(), file.size_bytes = size, ?why, said, "a file was not scanned");
        }
        scan
    }

    async fn sent<R, F>(&self, bytes: Bytes<'_, R>) -> Result<Sent, EngineError>
    where
        R: Fn(u64, usize) -> F + Sync,
        F: Future<Output = io::Result<Vec<u8>>> + Send,
    {
        timeout(self.scan, self.stream(bytes)).await.unwrap_or(Err(EngineError::TimedOut))
    }

    /// Sends bytes of ours past it, to try it; nothing is logged.
    pub async fn scan_bytes(&self, bytes: &[u8]) -> Scan {
        let read = |at: u64, length: usize| {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let part = bytes.get(start..start.saturating_add(length)).map(<[u8]>::to_vec);
            std::future::ready(part.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
        };
        meaning(&self.sent(Bytes { size: bytes.len() as u64, read: &read }).await)
    }

    /// Sends that many zeros past it, to try it; nothing is logged.
    pub async fn scan_zeros(&self, size: u64) -> Scan {
        let read = |_: u64, length: usize| std::future::ready(Ok(vec![0; length]));
        meaning(&self.sent(Bytes { size, read: &read }).await)
    }

    /// One `INSTREAM`.
    async fn stream<R, F>(&self, bytes: Bytes<'_, R>) -> Result<Sent, EngineError>
    where
        R: Fn(u64, usize) -> F + Sync,
        F: Future<Output = io::Result<Vec<u8>>> + Send,
    {
        let (mut from, mut to) = tokio::io::split(self.open().await?);
        // Sending and listening at once: over its limit, an engine answers and closes while we still send.
        let mut answer = Box::pin(reply(&mut from));
        let ended = tokio::select! {
            answer = &mut answer => return answer.map(Sent::Answer).map_err(EngineError::Closed),
            ended = send(&mut to, bytes) => ended,
        };
        match ended {
            Ok(()) => answer.await.map(Sent::Answer).map_err(EngineError::Closed),
            Err(SendError::File(error)) => Ok(Sent::Unreadable(error)),
            Err(SendError::Engine(error)) => match timeout(LAST_WORDS, answer).await {
                Ok(Ok(answer)) => Ok(Sent::Answer(answer)),
                _ => Err(EngineError::Closed(error)),
            },
        }
    }

    /// Whether it takes a stream of `size` bytes, learnt without sending one: clamd objects to a chunk as soon as its length
    /// is announced. Silence is consent; a slow engine's consent is corrected by the first file that it refuses.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn takes(&self, size: u64) -> Result<bool, EngineError> {
        let mut stream = self.open().await?;
        // The protocol's lengths end at 4 GiB, and so does StreamMaxLength.
        let announced = u32::try_from(size).unwrap_or(u32::MAX);
        let mut command = b"zINSTREAM\0".to_vec();
        command.extend(announced.to_be_bytes());
        stream.write_all(&command).await.map_err(EngineError::Closed)?;
        match timeout(OBJECTION, reply(&mut stream)).await {
            Err(_) => Ok(true),
            Ok(Ok(answer)) if is_size_objection(&answer) => Ok(false),
            Ok(Ok(answer)) => Err(EngineError::Unexpected(shown(&answer))),
            Ok(Err(error)) => Err(EngineError::Closed(error)),
        }
    }
}

enum Sent {
    Answer(Vec<u8>),
    Unreadable(io::Error),
}

enum SendError {
    File(io::Error),
    Engine(io::Error),
}

async fn send<R, F>(to: &mut (impl AsyncWrite + Unpin), bytes: Bytes<'_, R>) -> Result<(), SendError>
where
    R: Fn(u64, usize) -> F + Sync,
    F: Future<Output = io::Result<Vec<u8>>> + Send,
{
    to.write_all(b"zINSTREAM\0").await.map_err(SendError::Engine)?;
    let mut frame = Vec::new();
    let mut at = 0;
    while at < bytes.size {
        let length = usize::try_from(bytes.size - at).unwrap_or(usize::MAX).min(CHUNK);
        let part = (bytes.read)(at, length).await.map_err(SendError::File)?;
        // In one piece: a length sent by itself would wait for the engine's acknowledgement of what went before.
        frame.clear();
        // CHUNK fits in 32 bits.
        frame.extend((length as u32).to_be_bytes());
        frame.extend(part);
        to.write_all(&frame).await.map_err(SendError::Engine)?;
        at += length as u64;
    }
    to.write_all(&0_u32.to_be_bytes()).await.map_err(SendError::Engine)?;
    to.flush().await.map_err(SendError::Engine)
}

/// One answer without its NUL. An answer that is cut or too long is an error: `stream: OK` may go on as `stream: OKAY FOUND`.
async fn reply(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut part = [0; 512];
    loop {
        let read = from.read(&mut part).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&part[..read]);
        if let Some(end) = answer.iter().position(|b| *b == 0) {
            answer.truncate(end);
            return Ok(answer);
        }
        if answer.len() > MAX_REPLY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer does not end"));
        }
    }
}

fn meaning(sent: &Result<Sent, EngineError>) -> Scan {
    match sent {
        Ok(Sent::Answer(answer)) => read_answer(answer),
        Ok(Sent::Unreadable(_)) => Scan::NotScanned { why: Why::Unreadable },
        Err(error) => Scan::NotScanned { why: error.why() },
    }
}

/// What an answer to `INSTREAM` means.
fn read_answer(answer: &[u8]) -> Scan {
    if is_size_objection(answer) {
        return Scan::NotScanned { why: Why::TooLarge };
    }
    let failed = Scan::NotScanned { why: Why::Failed };
    let Some(said) = answer.strip_prefix(b"stream: ") else { return failed };
    if said == b"OK" {
        return Scan::Clean;
    }
    match said.strip_suffix(b" FOUND") {
        // Alerts of AlertExceedsMax: the engine recognised nothing, it stopped looking.
        Some(name) if name.starts_with(b"Heuristics.Limits.Exceeded") => Scan::NotScanned { why: Why::EngineLimit },
        Some(name) if !name.is_empty() => Scan::Infected { signature: display_safe(String::from_utf8_lossy(name).trim(), MAX_SIGNATURE) },
        _ => failed,
    }
}

/// `INSTREAM size limit exceeded. ERROR`: no prefix, whatever the file.
fn is_size_objection(answer: &[u8]) -> bool {
    answer.starts_with(b"INSTREAM size limit exceeded") && answer.ends_with(b"ERROR")
}

fn shown(answer: &[u8]) -> String {
    display_safe(String::from_utf8_lossy(answer).trim(), MAX_SIGNATURE)
}

/// The date in `ClamAV 1.4.6/27500/Tue Nov  4 10:02:10 2026`. It has no zone; days are all that is made of it.
fn signature_date(version: &str) -> Option<Timestamp> {
    let date = version.splitn(3, '/').nth(2)?.split_whitespace().collect::<Vec<_>>().join(" ");
    let parsed = jiff::fmt::strtime::parse("%a %b %d %H:%M:%S %Y", &date).ok()?;
    parsed.to_datetime().ok()?.in_tz("UTC").ok().map(|z| z.timestamp())
}

/// The standard antivirus test file (EICAR), put together at run time: an antivirus that looks at this program's own file
/// must find nothing.
pub fn eicar() -> Vec<u8> {
    const KEY: u8 = 0x55;
    // In a constant, so that the text itself is not in the program.
    const HIDDEN: [u8; 68] = {
        let mut hidden = *b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";
        let mut at = 0;
        while at < hidden.len() {
            hidden[at] ^= KEY;
            at += 1;
        }
        hidden
    };
    HIDDEN.iter().map(|b| std::hint::black_box(*b) ^ KEY).collect()
}

/// A harmless archive inside an archive, deeper than any engine looks: 120 levels in 15 kB.
///
/// # Errors
/// It could not be made.
pub fn deep_archive() -> io::Result<Vec<u8>> {
    use std::io::Write as _;
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut inner = b"greffier".to_vec();
    for level in 0..DEEP {
        let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        archive.start_file(if level == 0 { "a.txt" } else { "a.zip" }, stored).map_err(io::Error::other)?;
        archive.write_all(&inner)?;
        inner = archive.finish().map_err(io::Error::other)?.into_inner();
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_an_exact_ok_is_clean() {
        assert_eq!(read_answer(b"stream: OK"), Scan::Clean);
        for not in [
            &b"stream: OK "[..],
            b"OK",
            b"stream: ok",
            b"stream:OK",
            b"",
            b"stream: ",
            b"stream:  FOUND",
            b"stream: FOUND",
            b"x: OK",
            b"stream: OK\nstream: Eicar FOUND\n",
            b"stream: Can't allocate memory ERROR",
            b"UNKNOWN COMMAND",
            b"COMMAND READ TIMED OUT",
        ] {
            assert_eq!(read_answer(not), Scan::NotScanned { why: Why::Failed }, "{}", shown(not));
        }
        assert_eq!(read_answer(b"INSTREAM size limit exceeded. ERROR"), Scan::NotScanned { why: Why::TooLarge });
        let limit = Scan::NotScanned { why: Why::EngineLimit };
        assert_eq!(read_answer(b"stream: Heuristics.Limits.Exceeded FOUND"), limit);
        assert_eq!(read_answer(b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND"), limit);
    }

    #[test]
    fn a_signature_is_named_and_cannot_write_to_a_terminal() {
        let named = |answer: &[u8]| match read_answer(answer) {
            Scan::Infected { signature } => signature,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(b"stream: Win.Test.EICAR_HDB-1 FOUND"), "Win.Test.EICAR_HDB-1");
        assert_eq!(named(b"stream: a\x1b[2Jb\xff FOUND"), "a\u{FFFD}[2Jb\u{FFFD}");
        assert_eq!(named(format!("stream: {} FOUND", "x".repeat(3000)).as_bytes()).chars().count(), MAX_SIGNATURE);
    }

    #[test]
    fn the_date_of_signatures_is_read_from_the_version() {
        let date = |text: &str| signature_date(text).map(|t| t.to_string());
        assert_eq!(date("ClamAV 1.4.6/27500/Tue Nov 24 10:02:10 2026").as_deref(), Some("2026-11-24T10:02:10Z"));
        assert_eq!(date("ClamAV 0.103.8/26820/Wed Feb  1 08:50:00 2023").as_deref(), Some("2023-02-01T08:50:00Z"));
        for none in ["ClamAV 1.4.6", "ClamAV 1.4.6/27500", "ClamAV 1.4.6/27500/yesterday", "ClamAV 1.4.6/27500/Tue Nov 31 10:02:10 2026"] {
            assert_eq!(date(none), None, "{none}");
        }
    }

    #[test]
    fn the_test_file_is_the_one_that_engines_know() {
        use sha2::{Digest as _, Sha256};
        // https://www.eicar.org/download-anti-malware-testfile/
        assert_eq!(hex::encode(Sha256::digest(eicar())), "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f");
    }

    fn read_whole(bytes: &[u8]) -> Option<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { reply(&mut &*bytes).await.ok() })
    }

    #[test]
    fn an_answer_that_is_cut_is_none() {
        assert_eq!(read_whole(b"stream: OK\0").as_deref(), Some(&b"stream: OK"[..]));
        assert_eq!(read_whole(b"stream: OK"), None);
        assert_eq!(read_whole(b""), None);
        assert_eq!(read_whole(&vec![b'x'; MAX_REPLY * 2]), None);
    }

    proptest! {
        #[test]
        fn whatever_is_answered_nothing_panics_and_nothing_but_ok_is_clean(answer in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(read_answer(&answer) == Scan::Clean, answer == b"stream: OK");
            signature_date(&shown(&answer));
        }

        #[test]
        fn text_around_a_verdict_never_makes_it_clean(before in "[ -~]{0,20}", name in "[ -~]{0,40}", after in "[ -~]{0,20}") {
            let answer = format!("{before}stream: {name} FOUND{after}");
            prop_assert_ne!(read_answer(answer.as_bytes()), Scan::Clean);
            if before.is_empty() && after.is_empty() && !name.trim().is_empty() && !name.starts_with("Heuristics.Limits.Exceeded") {
                prop_assert!(matches!(read_answer(answer.as_bytes()), Scan::Infected { .. }), "not recognised");
            }
        }
    }
}
