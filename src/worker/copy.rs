//! One pass over the bytes of one file: read, hashed and written at the same time.
//!
//! Goals:
//! 1. **As fast as hashing alone**: reading, hashing and writing are three stages that hand chunks on, so that the slowest
//!    of them sets the pace, not their sum. Hashing has a thread of its own.
//! 2. **Constant memory**: chunks are few, and go round.
//! 3. A file that fits one chunk costs one hand-over, not three threads.
//!
//! Nothing is synced here: whoever gives the file a name makes it durable first.

use std::fs::File;
use std::io::{self, Write as _};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use crate::check::ingest::Digest;

/// Bytes handed on at once: few enough to stay in the processor's cache, many enough that a hand-over costs nothing.
const CHUNK: usize = 512 * 1024;
/// Chunks that go round: one in each stage, and one on its way.
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

/// Streams `from` to `to`, hashed on the way. `expected` is the announced size, bytes; it is no promise. `allow` is told how
/// many bytes came, each time some did, and says with a limit that they are too many.
///
/// Given up (dropped) at any moment, its threads end by themselves.
///
/// # Errors
/// [`CopyError`]; what was written until then stays.
pub async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: File,
    expected: u64,
    mut allow: impl FnMut(u64) -> Result<(), u64>,
) -> Result<Digest, CopyError> {
    // One byte more than announced, so that the end is seen with the first reading.
    let room = usize::try_from(expected.saturating_add(1)).map_or(CHUNK, |n| n.min(CHUNK));
    let mut first = Chunk { bytes: vec![0; room], filled: 0 };
    first.fill(&mut from).await?;
    allow(first.filled as u64).map_err(CopyError::TooLarge)?;
    let mut size = first.filled as u64;
    if first.filled < room {
        let whole = move || to.write_all(first.filled()).map(|()| Sha256::digest(first.filled()));
        let sha256 = tokio::task::spawn_blocking(whole).await.map_err(io::Error::other)??;
        return Ok(Digest { sha256: hex::encode(sha256), size });
    }

    let (to_hash, mut hashing) = mpsc::channel::<Chunk>(CHUNKS);
    let (to_write, mut writing) = mpsc::channel::<Chunk>(CHUNKS);
    let (back, mut free) = mpsc::channel::<Chunk>(CHUNKS);
    // Each stage ends when the one before it does, or when the one behind it is gone.
    let hasher = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new();
        while let Some(chunk) = hashing.blocking_recv() {
            hasher.update(chunk.filled());
            if to_write.blocking_send(chunk).is_err() {
                break;
            }
        }
        hasher
    });
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = writing.blocking_recv() {
            to.write_all(chunk.filled())?;
            // Full only where there are more chunks than go round, closed where nobody reads any more.
            let _ = back.try_send(chunk);
        }
        Ok::<_, io::Error>(())
    });
    let mut made = 1;
    let mut next = Some(first);
    while let Some(chunk) = next {
        if to_hash.send(chunk).await.is_err() {
            break;
        }
        let mut chunk = if made < CHUNKS {
            made += 1;
            Chunk { bytes: vec![0; CHUNK], filled: 0 }
        } else {
            match free.recv().await {
                Some(chunk) => chunk,
                // The writer failed, and tells below.
                None => break,
            }
        };
        chunk.fill(&mut from).await?;
        size += chunk.filled as u64;
        allow(chunk.filled as u64).map_err(CopyError::TooLarge)?;
        next = (chunk.filled > 0).then_some(chunk);
    }
    drop(to_hash);
    let hasher = hasher.await.map_err(io::Error::other)?;
    writer.await.map_err(io::Error::other)??;
    Ok(Digest { sha256: hex::encode(hasher.finalize()), size })
}

impl Chunk {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` may be right, too small or too large: what came is what counts.
    #[tokio::test]
    async fn every_size_around_a_chunk_is_copied_whole_whatever_was_announced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("to");
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 9 * CHUNK + 7] {
            let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            for expected in [0, 1, size as u64, size as u64 / 2, u64::MAX] {
                let mut told = 0;
                let counted = |n| {
                    told += n;
                    Ok(())
                };
                let digest = copy(bytes.as_slice(), File::create(&path).unwrap(), expected, counted).await.unwrap();
                assert_eq!((digest.size, told), (size as u64, size as u64));
                assert_eq!(digest.sha256, hex::encode(Sha256::digest(&bytes)), "{size} bytes, {expected} announced");
                assert!(std::fs::read(&path).unwrap() == bytes, "{size} bytes, {expected} announced");
            }
        }
    }

    #[tokio::test]
    async fn too_many_bytes_and_a_disk_that_refuses_end_it() {
        let bytes = vec![1; 5 * CHUNK];
        let to = || tempfile::tempfile().unwrap();
        for limit in [0, 10, 3 * CHUNK as u64] {
            let mut told = 0;
            let capped = |n| {
                told += n;
                if told > limit { Err(limit) } else { Ok(()) }
            };
            let error = copy(bytes.as_slice(), to(), bytes.len() as u64, capped).await.unwrap_err();
            assert!(matches!(error, CopyError::TooLarge(l) if l == limit), "{error}");
        }
        // Always full.
        let full = || File::options().write(true).open("/dev/full").unwrap();
        for some in [&bytes[..], &bytes[..10]] {
            let error = copy(some, full(), some.len() as u64, |_| Ok(())).await.unwrap_err();
            assert!(matches!(&error, CopyError::Io(e) if e.kind() == io::ErrorKind::StorageFull), "{error:?}");
        }
    }
}
