//! Reading an object to its end: a connection that breaks is taken up where it broke, and what ends early, was replaced
//! meanwhile, or is not what its digest says is an error, never a shorter object.

use std::io;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::errors::{Failed, Kind, failed};
use super::{S3Store, backoff};
use crate::store::{Key, Stat, Store as _};

/// Broken connections in a row that are taken up again. One that brought [`PROGRESS`] begins a new row.
const BREAKS: u32 = 5;

/// Bytes that a connection must bring to be worth another row of attempts.
const PROGRESS: u64 = 1024 * 1024;

/// An object that is being read.
pub(super) struct Reader {
    store: S3Store,
    key: Key,
    size: u64,
    /// So that no other object's bytes are taken for the rest of this one.
    e_tag: Option<String>,
    /// Lower-case hex.
    expected: Option<String>,
    hasher: Sha256,
    body: ByteStream,
    /// Bytes that were handed out.
    at: u64,
    /// Of these, before the last row of breaks began.
    taken_up_at: u64,
    breaks: u32,
}

impl Reader {
    pub(super) fn new(store: &S3Store, stat: &Stat, e_tag: Option<String>, body: ByteStream) -> Self {
        Self {
            store: store.clone(),
            key: stat.key.clone(),
            size: stat.size,
            e_tag,
            expected: stat.sha256.clone(),
            hasher: Sha256::new(),
            body,
            at: 0,
            taken_up_at: 0,
            breaks: 0,
        }
    }

    pub(super) fn into_async_read(self) -> Box<dyn AsyncRead + Send + Unpin> {
        let chunks = futures_util::stream::try_unfold(self, |mut reader| async move {
            let chunk = reader.next().await?;
            Ok::<_, io::Error>(chunk.map(|chunk| (chunk, reader)))
        });
        Box::new(StreamReader::new(Box::pin(chunks)))
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let why = match self.body.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => {
                    self.at += chunk.len() as u64;
                    if self.at > self.size {
                        return Err(self.broken(io::ErrorKind::InvalidData, "more bytes came than were announced"));
                    }
                    if self.expected.is_some() {
                        self.hasher.update(&chunk);
                    }
                    return Ok(Some(chunk));
                }
                None if self.at == self.size => return self.finish().map(|()| None),
                // The size is known, so whatever ended after the last byte ended well.
                Some(Err(_)) if self.at == self.size => return self.finish().map(|()| None),
                Some(Err(e)) => crate::store::trial::words(&e),
                None => "the connection ended".to_owned(),
            };
            self.take_up(why).await?;
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let found = hex::encode(self.hasher.finalize_reset());
        match &self.expected {
            Some(expected) if *expected != found => {
                Err(self.broken(io::ErrorKind::InvalidData, &format!("its digest should be {expected}, and is {found}")))
            }
            _ => Ok(()),
        }
    }

    /// Asks for the bytes from where it broke.
    async fn take_up(&mut self, mut why: String) -> io::Result<()> {
        if self.at >= self.taken_up_at + PROGRESS {
            self.breaks = 0;
        }
        self.taken_up_at = self.at;
        loop {
            if self.breaks >= BREAKS {
                return Err(self.broken(io::ErrorKind::UnexpectedEof, &format!("given up after {BREAKS} attempts: {why}")));
            }
            tokio::time::sleep(backoff(self.breaks)).await;
            self.breaks += 1;
            let request = self
                .store
                .client
                .get_object()
                .bucket(&self.store.config.bucket)
                .key(self.store.path(&self.key))
                .range(format!("bytes={}-", self.at))
                .set_if_match(self.e_tag.clone());
            match request.send().await.map_err(failed) {
                Ok(answer) if answer.content_range.as_deref().is_some_and(|r| r.starts_with(&format!("bytes {}-", self.at))) => {
                    self.body = answer.body;
                    return Ok(());
                }
                Ok(_) => return Err(self.broken(io::ErrorKind::UnexpectedEof, &format!("the server knows no ranges: {why}"))),
                Err(Failed { kind: Kind::Exists, .. }) => {
                    return Err(self.broken(io::ErrorKind::InvalidData, "it was replaced while it was read"));
                }
                Err(Failed { kind: Kind::Missing, .. }) => {
                    return Err(self.broken(io::ErrorKind::NotFound, "it was removed while it was read"));
                }
                Err(e) => why = e.source.to_string(),
            }
        }
    }

    fn broken(&self, kind: io::ErrorKind, why: &str) -> io::Error {
        io::Error::new(kind, format!("{}: `{}`, at byte {} of {}: {why}", self.store.name(), self.key, self.at, self.size))
    }
}
