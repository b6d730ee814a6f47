//! A store whose requests are told to somebody: how many, how long, how they ended.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::{AsyncRead, ReadBuf};

use super::{Content, Created, Key, Opened, Stat, Store, StoreError};
use crate::model::probe::Probe;

/// What a store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Store::stat`].
    Stat,
    /// [`Store::open`], up to the first byte.
    Open,
    /// The bytes of an opened object, up to its end or its failure. One that is given up half-way is not told.
    Read,
    /// [`Store::create`].
    Create,
    /// [`Store::replace`].
    Replace,
    /// [`Store::list`].
    List,
    /// [`Store::remove`].
    Remove,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Stat, Self::Open, Self::Read, Self::Create, Self::Replace, Self::List, Self::Remove];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::Open => "open",
            Self::Read => "read",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::List => "list",
            Self::Remove => "remove",
        }
    }
}

/// Is told of every request that ended.
pub trait StoreObserver: Send + Sync + std::fmt::Debug {
    /// A request ended, with this error where it failed.
    fn called(&self, operation: Operation, error: Option<&StoreError>, took: Duration);
}

/// A store, and who is told of its requests.
#[derive(Debug, Clone)]
pub struct ObservedStore {
    inner: Arc<dyn Store>,
    observer: Arc<dyn StoreObserver>,
}

impl ObservedStore {
    /// Tells `observer` of every request to `inner`.
    pub fn new(inner: Arc<dyn Store>, observer: Arc<dyn StoreObserver>) -> Self {
        Self { inner, observer }
    }

    fn told<T>(&self, operation: Operation, since: Instant, ended: Result<T, StoreError>) -> Result<T, StoreError> {
        self.observer.called(operation, ended.as_ref().err(), since.elapsed());
        ended
    }
}

#[async_trait]
impl Store for ObservedStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn probe(&self, writable: bool) -> Vec<Probe> {
        self.inner.probe(writable).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        let since = Instant::now();
        self.told(Operation::Stat, since, self.inner.stat(key).await)
    }

    async fn open(&self, key: &Key) -> Result<Option<Opened>, StoreError> {
        let since = Instant::now();
        let opened = self.told(Operation::Open, since, self.inner.open(key).await)?;
        Ok(opened.map(|Opened { stat, reader, file }| Opened {
            stat,
            // Whoever reads it instead reads a file of this machine, at its own speed.
            file,
            reader: Box::new(ObservedReader {
                inner: reader,
                store: self.inner.name(),
                observer: Some(Arc::clone(&self.observer)),
                since: Instant::now(),
            }),
        }))
    }

    async fn create(&self, key: &Key, content: Content<'_>, media_type: &str) -> Result<Created, StoreError> {
        let since = Instant::now();
        self.told(Operation::Create, since, self.inner.create(key, content, media_type).await)
    }

    async fn replace(&self, key: &Key, bytes: &[u8], media_type: &str) -> Result<(), StoreError> {
        let since = Instant::now();
        self.told(Operation::Replace, since, self.inner.replace(key, bytes, media_type).await)
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, most: usize) -> Result<Vec<Stat>, StoreError> {
        let since = Instant::now();
        self.told(Operation::List, since, self.inner.list(prefix, after, most).await)
    }

    async fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let since = Instant::now();
        self.told(Operation::Remove, since, self.inner.remove(key).await)
    }

    fn spool(&self) -> Option<PathBuf> {
        self.inner.spool()
    }
}

/// Tells once how reading ended.
struct ObservedReader {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    store: String,
    observer: Option<Arc<dyn StoreObserver>>,
    since: Instant,
}

impl AsyncRead for ObservedReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        match &polled {
            Poll::Ready(Ok(())) if room && buffer.filled().len() == before => {
                if let Some(observer) = self.observer.take() {
                    observer.called(Operation::Read, None, self.since.elapsed());
                }
            }
            Poll::Ready(Err(error)) => {
                if let Some(observer) = self.observer.take() {
                    let source = Box::new(std::io::Error::new(error.kind(), error.to_string()));
                    let error = StoreError::Unavailable { store: self.store.clone(), what: "reading".into(), source };
                    observer.called(Operation::Read, Some(&error), self.since.elapsed());
                }
            }
            _ => {}
        }
        polled
    }
}
