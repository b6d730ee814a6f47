//! Where bytes rest: staging (what was uploaded), and the vault (what was received, by content, and what we made of it).
//!
//! Goals:
//! 1. **Create-only.** What is written under a key is never another thing later: [`Store::create`] of the same bytes again
//!    is no error, of other bytes is [`StoreError::Conflict`]. Stores that only pretend are refused at start ([`Store::probe`]).
//! 2. **Constant memory**, whatever the size: bytes stream, and travel with their digest, which the store checks.
//! 3. **Durable when it returns.**
//! 4. **Whose fault it is**: [`StoreError::is_transient`] tells what to try again.
//!
//! One trait, two fittings: [`directory`] and [`s3`]; `conformance` in the tests is passed by both.

pub mod config;
pub mod directory;
pub mod key;
pub mod observed;
pub mod s3;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::io::AsyncRead;

use crate::model::probe::Probe;
pub use config::{StoreConfig, StoreKind};
pub use key::{Key, KeyError};

/// Builds the fitting that `config` names. Nothing is asked of the outside world yet: that is [`Store::probe`]'s.
///
/// # Errors
/// [`StoreError::Refused`] where the configuration contradicts itself.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    config.check("store").map_err(|why| StoreError::Refused {
        store: "store".into(),
        what: "the configuration contradicts itself".into(),
        source: why.into(),
    })?;
    Ok(match config.kind {
        StoreKind::Directory => Arc::new(directory::DirectoryStore::new(&config.path)),
        StoreKind::S3 => Arc::new(s3::S3Store::new(config).await),
    })
}

/// An object as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its key.
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex, where the store keeps it (objects that [`Store::create`] wrote; absent in listings).
    pub sha256: Option<String>,
    /// When it was written, as the store says.
    pub modified: Option<Timestamp>,
}

/// An object opened for reading.
pub struct Opened {
    /// What the store says of it.
    pub stat: Stat,
    /// The bytes, from the first. Ends early with an error, never in silence.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// The same bytes as a file of this machine, at its start, where they are one: quicker to read. Use one of the two.
    pub file: Option<std::fs::File>,
}

/// Bytes to be written, with their digest: what arrives is compared with it.
#[derive(Debug)]
pub enum Content<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// A file on this machine that nobody changes meanwhile.
    ///
    /// A directory store links a file that lies below its [`Store::spool`], without reading it again, and makes it read-only:
    /// there the digest is the caller's word, who hashed the bytes while writing them. Every other file is read, and compared
    /// with its digest, on its way into the store; it stays whose it was.
    File {
        /// Where.
        path: &'a Path,
        /// Bytes.
        size: u64,
        /// SHA-256, lower-case hex.
        sha256: &'a str,
    },
}

/// What [`Store::create`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// Nothing was there.
    New,
    /// The same bytes were there already.
    Existed,
}

/// A place for objects by key.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// For messages: `s3://bucket/prefix`, a path. No secret.
    fn name(&self) -> String;

    /// Tries everything that the promises above need (create-only, twice and at once; checksums; reading back), below a
    /// reserved prefix, and says how it ended. `writable` is false for a store that is only read: then it only looks.
    ///
    /// A writable directory is made where it is missing, and what crashes left behind more than a day ago is removed:
    /// spooled files, uploads that nobody completed.
    async fn probe(&self, writable: bool) -> Vec<Probe>;

    /// What is known of the object, or `None` where there is none.
    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError>;

    /// Opens the object, or `None` where there is none. Errors while reading are worth trying again, unless they are of kind
    /// [`std::io::ErrorKind::InvalidData`]: then the bytes are not those that were announced.
    async fn open(&self, key: &Key) -> Result<Option<Opened>, StoreError>;

    /// Writes the object if nothing is there; durable, and compared with its digest, when this returns. What is not what its
    /// digest says is [`StoreError::Corrupt`] and leaves nothing behind.
    async fn create(&self, key: &Key, content: Content<'_>, media_type: &str) -> Result<Created, StoreError>;

    /// Writes a small record over whatever is there: only for state that may change (a heartbeat, a parked job).
    async fn replace(&self, key: &Key, bytes: &[u8], media_type: &str) -> Result<(), StoreError>;

    /// Objects whose key starts with `prefix`, in byte order of keys, from the first after `after`; at most `most`.
    async fn list(&self, prefix: &str, after: Option<&Key>, most: usize) -> Result<Vec<Stat>, StoreError>;

    /// Removes the object; nothing there is no error.
    async fn remove(&self, key: &Key) -> Result<(), StoreError>;

    /// A folder on this machine from which [`Content::File`] is cheapest to create (the same file system), where there is one.
    fn spool(&self) -> Option<PathBuf> {
        None
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, is overloaded, has no space left: worth trying again.
    #[error("STORE-UNAVAILABLE: {store}: {what}")]
    Unavailable {
        /// Which store.
        store: String,
        /// What was tried.
        what: String,
        /// What was answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refuses us: credentials, permissions, a bucket that does not exist.
    #[error("STORE-REFUSED: {store}: {what}")]
    Refused {
        /// Which store.
        store: String,
        /// What was tried.
        what: String,
        /// What was answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Other bytes stand under this key.
    #[error("STORE-CONFLICT: {store}: `{key}` holds other bytes than those to be written")]
    Conflict {
        /// Which store.
        store: String,
        /// Which key.
        key: Key,
    },
    /// What was written or read is not what its digest says.
    #[error("STORE-CORRUPT: {store}: `{key}` is not what its digest says: {detail}")]
    Corrupt {
        /// Which store.
        store: String,
        /// Which key.
        key: Key,
        /// Expected and found.
        detail: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later, without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
