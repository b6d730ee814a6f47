//! One pass over the bytes of one file: read, hashed and written at the same time.
//!
//! Goals:
//! 1. **As fast as hashing alone**: hashing has a thread of its own, and reading and writing go on meanwhile. A file of this
//!    machine is read by the thread that writes: on two processors, three threads would only wake one another.
//! 2. **Constant memory**: chunks are few, and go round.
//! 3. A file that fits one chunk costs one hand-over, not two threads.
//!
//! Nothing is synced here: whoever gives the file a name makes it durable first.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::check::ingest::Digest;
use crate::store::Opened;

/// Bytes handed on at once: few enough to stay in the processor's cache, many enough that a hand-over costs nothing.
const CHUNK: usize = 1024 * 1024;
/// Chunks that go round: one is filled, one hashed, one written, one on its way.
const CHUNKS: usize = 4;

/// Why a file was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It has more bytes than this.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Some bytes on their way.
struct Chunk {
    bytes: Vec<u8>,
    filled: usize,
}

impl Chunk {
    fn new(size: usize) -> Self {
        Self { bytes: vec![0; size], filled: 0 }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Fills it, whatever pieces the network delivers; less only at the end.
    async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        self.filled = 0;
        while self.filled < self.bytes.len() {
            match from.read(&mut self.bytes[self.filled..]).await? {
                0 => break,
                n => self.filled += n,
            }
        }
        Ok(())
    }
}

/// Streams an object to `to`, hashed on the way. The announced size is no promise. `allow` is told how many bytes came, each
/// time some did, and says with a limit that they are too many.
///
/// Given up (dropped) at any moment, its threads end by themselves.
///
/// # Errors
/// [`CopyError`]; what was written until then stays.
pub async fn copy(opened: Opened, to: File, mut allow: impl FnMut(u64) -> Result<(), u64> + Send + 'static) -> Result<Digest, CopyError> {
    let Opened { stat, reader: mut from, file } = opened;
    // One byte more than announced, so that the end is seen with the first reading.
    let room = usize::try_from(stat.size.saturating_add(1)).map_or(CHUNK, |n| n.min(CHUNK));
    if let Some(file) = file.filter(|_| room == CHUNK) {
        return blocking(move |stop| pump(Source::File { file, left: stat.size }, to, allow, stop)).await;
    }
    let mut first = Chunk::new(room);
    first.fill(&mut from).await?;
    if first.filled < room {
        return blocking(move |_| {
            allow(first.filled as u64).map_err(CopyError::TooLarge)?;
            let mut to = to;
            to.write_all(first.filled())?;
            Ok(Digest { sha256: hex::encode(Sha256::digest(first.filled())), size: first.filled as u64 })
        })
        .await;
    }
    let (sender, full) = mpsc::channel::<Chunk>(CHUNKS);
    let (back, mut free) = mpsc::channel::<Chunk>(CHUNKS);
    let reading = async move {
        let (mut made, mut next) = (1, first);
        // Where the other side is gone, it tells why.
        while next.filled > 0 && sender.send(next).await.is_ok() {
            next = if made < CHUNKS {
                made += 1;
                Chunk::new(CHUNK)
            } else {
                let Some(chunk) = free.recv().await else { break };
                chunk
            };
            next.fill(&mut from).await?;
        }
        Ok::<_, CopyError>(())
    };
    let writing = blocking(move |stop| pump(Source::Stream { full, back }, to, allow, stop));
    // A reading that fails closes the stream, which would look like its end: it is asked first.
    let (read, digest) = tokio::join!(reading, writing);
    read?;
    digest
}

/// Runs `work` on a thread that may wait; it is told to stop where nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&CancellationToken) -> Result<T, CopyError> + Send + 'static,
) -> Result<T, CopyError> {
    let stop = CancellationToken::new();
    let _stopped_when_dropped = stop.clone().drop_guard();
    tokio::task::spawn_blocking(move || work(&stop)).await.map_err(io::Error::other)?
}

/// Where a pump has its bytes from.
enum Source {
    /// A file of this machine, of which so many bytes were announced.
    File { file: File, left: u64 },
    /// Filled chunks, and where they go back to.
    Stream { full: mpsc::Receiver<Chunk>, back: mpsc::Sender<Chunk> },
}

impl Source {
    /// The next bytes, in a chunk that is free where one is needed; `None` at the end.
    fn next(&mut self, free: impl FnOnce() -> Option<Chunk>) -> io::Result<Option<Chunk>> {
        let (file, left) = match self {
            Self::Stream { full, .. } => return Ok(full.blocking_recv()),
            Self::File { left: 0, .. } => return Ok(None),
            Self::File { file, left } => (file, left),
        };
        let Some(mut chunk) = free() else { return Ok(None) };
        let room = usize::try_from(*left).map_or(CHUNK, |n| n.min(CHUNK));
        file.read_exact(&mut chunk.bytes[..room])?;
        chunk.filled = room;
        *left -= room as u64;
        Ok(Some(chunk))
    }
}

/// Writes everything while another thread hashes it.
fn pump(
    mut source: Source,
    mut to: File,
    mut allow: impl FnMut(u64) -> Result<(), u64>,
    stop: &CancellationToken,
) -> Result<Digest, CopyError> {
    let (to_hash, hashing) = std::sync::mpsc::sync_channel::<Arc<Chunk>>(CHUNKS);
    let (hashed, done) = std::sync::mpsc::channel::<Arc<Chunk>>();
    let hasher = std::thread::Builder::new().name("hash".into()).spawn(move || {
        let mut hasher = Sha256::new();
        for chunk in hashing {
            hasher.update(chunk.filled());
            // Nobody takes it back where the copy was given up.
            let _ = hashed.send(chunk);
        }
        hasher
    })?;
    let (mut made, mut size) = (0, 0);
    loop {
        let free = || {
            made += 1;
            if made <= CHUNKS { Some(Chunk::new(CHUNK)) } else { Arc::into_inner(done.recv().ok()?) }
        };
        let Some(chunk) = source.next(free)? else { break };
        if stop.is_cancelled() {
            return Err(io::Error::other("given up").into());
        }
        allow(chunk.filled as u64).map_err(CopyError::TooLarge)?;
        size += chunk.filled as u64;
        let chunk = Arc::new(chunk);
        if to_hash.send(Arc::clone(&chunk)).is_err() {
            break;
        }
        to.write_all(chunk.filled())?;
        drop(chunk);
        if let Source::Stream { back, .. } = &source
            && let Some(chunk) = done.recv().ok().and_then(Arc::into_inner)
        {
            // Hashed and written; before the next is waited for, or each side would wait for the other.
            let _ = back.try_send(chunk);
        }
    }
    drop(to_hash);
    let hasher = hasher.join().map_err(|_| io::Error::other("the hashing thread ended abnormally"))?;
    Ok(Digest { sha256: hex::encode(hasher.finalize()), size })
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store::{Key, Stat};

    /// An object that is announced with `expected` bytes, as a stream, or as a file.
    fn opened(bytes: &[u8], expected: u64, as_file: bool) -> Opened {
        let stat = Stat { key: Key::ours("a".to_owned()), size: expected, sha256: None, modified: None };
        let file = as_file.then(|| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            file
        });
        Opened { stat, reader: Box::new(io::Cursor::new(bytes.to_vec())), file }
    }

    #[tokio::test]
    async fn every_size_around_a_chunk_is_copied_whole_whatever_was_announced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("to");
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 9 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let right = size as u64;
            // Only a stream may be other than announced: a directory store tells of a file what it is.
            for (expected, as_file) in [(0, false), (right, false), (right, true), (right / 2, false), (u64::MAX, false)] {
                let told = Arc::new(AtomicU64::new(0));
                let count = Arc::clone(&told);
                let counted = move |n| {
                    count.fetch_add(n, Ordering::Relaxed);
                    Ok(())
                };
                let digest = copy(opened(&bytes, expected, as_file), File::create(&path).unwrap(), counted).await.unwrap();
                assert_eq!((digest.size, told.load(Ordering::Relaxed)), (right, right));
                assert_eq!(digest.sha256, hex::encode(Sha256::digest(&bytes)), "{size} bytes, {expected} announced");
                assert!(std::fs::read(&path).unwrap() == bytes, "{size} bytes, {expected} announced");
            }
        }
    }

    #[tokio::test]
    async fn too_many_bytes_a_full_disk_and_a_file_that_was_cut_end_it() {
        let bytes = vec![1; 5 * CHUNK];
        let size = bytes.len() as u64;
        for as_file in [false, true] {
            for limit in [0, 10, 3 * CHUNK as u64] {
                let mut told = 0;
                let capped = move |n| {
                    told += n;
                    if told > limit { Err(limit) } else { Ok(()) }
                };
                let error = copy(opened(&bytes, size, as_file), tempfile::tempfile().unwrap(), capped).await.unwrap_err();
                assert!(matches!(error, CopyError::TooLarge(l) if l == limit), "{error}");
            }
            // Always full.
            let full = || File::options().write(true).open("/dev/full").unwrap();
            for some in [&bytes[..], &bytes[..10]] {
                let error = copy(opened(some, some.len() as u64, as_file), full(), |_| Ok(())).await.unwrap_err();
                assert!(matches!(&error, CopyError::Io(e) if e.kind() == io::ErrorKind::StorageFull), "{error:?}");
            }
        }
        let error = copy(opened(&bytes, size + 1, true), tempfile::tempfile().unwrap(), |_| Ok(())).await.unwrap_err();
        assert!(matches!(&error, CopyError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof), "{error:?}");
    }
}
