//! Staging → vault: every file is streamed once to this machine while it is hashed and capped, and goes to the vault
//! under its digest. What is worked on is the copy on this machine.
//!
//! Goals:
//! 1. Constant memory; bytes are read from staging once.
//! 2. Whatever goes wrong with one file is told of that file: absent and too large are findings, a store that fails is a
//!    technical failure of the job.
//! 3. Nothing is worked on that is not in the vault.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{OnceCell, Semaphore};

use super::copy::{self, CopyError};
use super::records::vault_key;
use crate::bundle;
use crate::check::ingest::Digest;
use crate::check::{Source, SourceError, Sources};
use crate::model::submission::{Content, FileRef, Submission};
use crate::model::text::chain;
use crate::store::{self, Key, Opened, Store, StoreError};
use crate::telemetry::{self, Span};

/// Files of one submission that are brought here at once.
const AT_ONCE: usize = 4;

/// Limits of what is received.
#[derive(Debug, Clone, Copy)]
pub struct IntakeLimits {
    /// One file, bytes.
    pub file: u64,
    /// All files of one submission together, bytes.
    pub submission: u64,
}

/// The files of one submission, brought here as they are asked for.
#[derive(Debug)]
pub struct Intake {
    staging: Arc<dyn Store>,
    vault: Arc<dyn Store>,
    limits: IntakeLimits,
    /// Removed with everything in it when the job ends.
    folder: tempfile::TempDir,
    /// By object: two items may name the same one.
    files: HashMap<String, OnceCell<Result<Held, Failure>>>,
    /// File names on disk by object.
    names: BTreeMap<String, String>,
    received: Arc<AtomicU64>,
    /// When the job began, and milliseconds from then to the last file that was brought.
    began: Instant,
    took_ms: AtomicU64,
    turns: Semaphore,
}

/// A file that is here and in the vault.
#[derive(Debug, Clone)]
struct Held {
    path: PathBuf,
    digest: Digest,
}

/// Why it is not; cloned for every item that names it.
#[derive(Debug, Clone)]
enum Failure {
    Missing,
    NotAKey,
    TooLarge(u64),
    Technical(String),
}

impl Intake {
    /// For the files of `submission`; below `spool`, nothing is brought yet.
    ///
    /// # Errors
    /// The spool cannot be written.
    pub fn new(
        staging: Arc<dyn Store>,
        vault: Arc<dyn Store>,
        limits: IntakeLimits,
        spool: &Path,
        submission: &Submission,
    ) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("job-").tempdir_in(spool)?;
        let objects = submission.items.iter().filter_map(|item| match &item.content {
            Content::File(file) => Some(file.object.clone()),
            Content::Link(_) => None,
        });
        let mut names = BTreeMap::new();
        for object in objects {
            let next = format!("{}", names.len());
            names.entry(object).or_insert(next);
        }
        let files = names.keys().map(|object| (object.clone(), OnceCell::new())).collect();
        Ok(Self {
            staging,
            vault,
            limits,
            folder,
            files,
            names,
            received: Arc::default(),
            began: Instant::now(),
            took_ms: AtomicU64::new(0),
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// The folder of this job: what is put there goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Bytes received so far.
    pub fn bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How long it took to bring them, by the clock on the wall.
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms.load(Ordering::Relaxed))
    }

    /// Objects of staging that were brought here.
    pub fn brought(&self) -> Vec<Key> {
        let held = self.files.iter().filter(|(_, cell)| matches!(cell.get(), Some(Ok(_))));
        held.filter_map(|(object, _)| object.parse().ok()).collect()
    }

    async fn held(&self, object: &str) -> Result<Held, Failure> {
        let (Some(cell), Some(name)) = (self.files.get(object), self.names.get(object)) else { return Err(Failure::Missing) };
        cell.get_or_init(|| async {
            // Never closed while `self` lives.
            let _turn = self.turns.acquire().await;
            let span = Span::part("ingest");
            let brought = span.run(self.bring(object, self.folder.path().join(name))).await;
            match &brought {
                Ok(held) => span.set(telemetry::count("greffier.item.size", held.digest.size)),
                Err(Failure::Technical(_)) => span.fail(super::job::STORE),
                // Told of the file, as a finding.
                Err(Failure::Missing | Failure::NotAKey | Failure::TooLarge(_)) => {}
            }
            self.took_ms.fetch_max(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            brought
        })
        .await
        .clone()
    }

    async fn bring(&self, object: &str, path: PathBuf) -> Result<Held, Failure> {
        let key: Key = object.parse().map_err(|_| Failure::NotAKey)?;
        // Names that stores keep to themselves: no upload is there, and asking would look like a failure of the store.
        if object.starts_with('.') {
            return Err(Failure::NotAKey);
        }
        let technical = |e: &(dyn std::error::Error + 'static)| {
            let words = chain(e);
            tracing::warn!(error = words, "a file could not be brought from staging to the vault");
            Failure::Technical(words)
        };
        let opened = self.staging.open(&key).await.map_err(|e| technical(&e))?.ok_or(Failure::Missing)?;
        // What is announced as too large is not even begun.
        if opened.stat.size > self.limits.file {
            return Err(Failure::TooLarge(self.limits.file));
        }
        let digest = self.copy(opened, &path).await.map_err(|e| match e {
            CopyError::TooLarge(limit) => Failure::TooLarge(limit),
            CopyError::Io(e) => technical(&e),
        })?;
        let content = store::Content::File { path: &path, size: digest.size, sha256: &digest.sha256 };
        // Untrusted bytes: never a type that a browser would run.
        match self.vault.create(&vault_key(&digest.sha256), content, "application/octet-stream").await {
            Ok(_) => Ok(Held { path, digest }),
            Err(e @ StoreError::Conflict { .. }) => {
                tracing::error!(error = %e, sha256 = digest.sha256, "the vault holds other bytes under this digest: it was tampered with or is damaged");
                Err(Failure::Technical(e.to_string()))
            }
            Err(e) => Err(technical(&e)),
        }
    }

    /// Streams to a file on this machine, hashed and capped on the way.
    async fn copy(&self, opened: Opened, path: &Path) -> Result<Digest, CopyError> {
        let to = std::fs::File::create_new(path)?;
        let (limits, received) = (self.limits, Arc::clone(&self.received));
        let mut size = 0_u64;
        let allow = move |more: u64| {
            size += more;
            let all = received.fetch_add(more, Ordering::Relaxed) + more;
            if size > limits.file {
                return Err(limits.file);
            }
            if all > limits.submission {
                return Err(limits.submission);
            }
            Ok(())
        };
        copy::copy(opened, to, allow).await
    }
}

#[async_trait]
impl Sources for Intake {
    async fn fetch(&self, _item: &str, file: &FileRef) {
        // What went wrong is kept, and told by `open`.
        let _ = self.held(&file.object).await;
    }

    async fn open(&self, _item: &str, file: &FileRef) -> Result<Source, SourceError> {
        let object = || file.object.clone();
        let held = self.held(&file.object).await.map_err(|failure| match failure {
            Failure::Missing => SourceError::Missing(object()),
            Failure::NotAKey => SourceError::NotAFile(object()),
            Failure::TooLarge(limit) => SourceError::TooLarge { object: object(), limit },
            Failure::Technical(words) => SourceError::Unreadable { object: object(), source: std::io::Error::other(words) },
        })?;
        let open = File::open(&held.path).map_err(|source| SourceError::Unreadable { object: object(), source })?;
        Ok(Source { file: open, digest: Some(held.digest) })
    }
}

/// The bytes of items for the bundle, from the copies on this machine.
pub struct Payloads {
    files: HashMap<String, Held>,
}

impl Payloads {
    /// Of every item of `submission` whose bytes are here.
    pub fn new(intake: &Intake, submission: &Submission) -> Self {
        let files = submission.items.iter().filter_map(|item| match &item.content {
            Content::File(file) => match intake.files.get(&file.object)?.get()? {
                Ok(held) => Some((item.id.clone(), held.clone())),
                Err(_) => None,
            },
            Content::Link(_) => None,
        });
        Self { files: files.collect() }
    }
}

impl bundle::PayloadSource for Payloads {
    fn open(&self, item: &str) -> std::io::Result<bundle::Payload<'_>> {
        let Some(held) = self.files.get(item) else {
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no bytes were received for this item"));
        };
        Ok(bundle::Payload { reader: Box::new(File::open(&held.path)?), size: held.digest.size, sha256: held.digest.sha256.clone() })
    }
}
