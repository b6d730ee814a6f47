//! A vendor's pre-check through the console: files come one by one into a draft, and the draft becomes a submission by the
//! same rules as a folder on disk (`check::folder`), enqueued in the interactive lane.
//!
//! Archives are unpacked by the browser, never here: no parser of uploaded bytes runs in this process.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::config::HttpConfig;
use super::secret;
use crate::check::folder;
use crate::model::event::About;
use crate::model::message::{Envelope, Lane, MAX_JOB, SUBMISSION_REQUESTED};
use crate::model::submission::{Content, Stage, Submission};
use crate::pipeline::Loaded;
use crate::queue::{Queue, QueueError};
use crate::store::{self, Key, Store, StoreError};
use crate::worker::records::{about, job_id};

/// A draft to which nothing was added for so long is thrown away.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Drafts at once.
const MAX_DRAFTS: usize = 32;
/// Submitted jobs of which it is remembered that they wait.
const MAX_WAITING: usize = 1_000;
/// Deepest path, segments: what `check::folder` looks into.
const MAX_DEPTH: usize = 30;

/// Why a deposit was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DepositError {
    /// No such draft, or no longer.
    #[error("DEPOSIT-UNKNOWN: there is no such draft, or nothing was added to it for an hour")]
    Unknown,
    /// Too many people deposit at once.
    #[error("DEPOSIT-BUSY: too many deposits are being made at once")]
    Busy,
    /// The path of a file cannot be used.
    #[error("DEPOSIT-PATH: {0}")]
    Path(&'static str),
    /// A file, the sum of all, or their number is over its limit.
    #[error("DEPOSIT-TOO-LARGE: more than {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Nothing was deposited.
    #[error("DEPOSIT-EMPTY: there is no file in it")]
    Empty,
    /// What describes the deposit is wrong.
    #[error("{0}")]
    Malformed(String),
    /// The upload ended early, or this machine's disk failed.
    #[error("DEPOSIT-INTERRUPTED: a file was not received whole")]
    Io(#[from] std::io::Error),
    /// The staging store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What the person says of the deposit; empty = as the deposit's own `candidature.toml` says.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct Said {
    /// Id of the démarche.
    pub demarche: String,
    /// Candidature number.
    pub number: String,
    /// Company.
    pub company: String,
    /// Product.
    pub product: String,
    /// Version of the product.
    pub version: String,
    /// Ids of profiles, joined by commas.
    pub profiles: String,
    /// `true`, `false`, or empty.
    pub vague1: String,
    /// `dossier`, `eligibility`, or `chapter:` and its id.
    pub stage: String,
}

/// What a deposit page has to know.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Démarches, the default first.
    pub demarches: Vec<Arc<Loaded>>,
    /// Largest file, bytes.
    pub max_file: u64,
    /// Largest deposit, bytes.
    pub max_deposit: u64,
    /// Most files.
    pub max_files: usize,
}

/// Takes deposits.
#[async_trait]
pub trait Intake: Send + Sync + std::fmt::Debug {
    /// What can be deposited.
    fn offer(&self) -> Offer;
    /// Begins a draft; its id is a secret between us and the page.
    async fn begin(&self) -> Result<String, DepositError>;
    /// Adds one file under its path in the deposit.
    async fn put(&self, draft: &str, path: &str, body: BoxStream<'static, std::io::Result<Bytes>>) -> Result<(), DepositError>;
    /// Makes it a job; returns its id.
    async fn submit(&self, draft: &str, said: Said) -> Result<String, DepositError>;
    /// A job that was submitted here, and since when it waits.
    fn waiting(&self, job: &str) -> Option<(About, Timestamp)>;
}

/// Drafts on this machine's disk, then the staging store and the queue.
pub struct SpoolIntake {
    folder: PathBuf,
    staging: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    offer: Offer,
    reply_to: Option<String>,
    drafts: Mutex<HashMap<String, Draft>>,
    waiting: Mutex<BTreeMap<String, (About, Timestamp)>>,
}

impl std::fmt::Debug for SpoolIntake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolIntake").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Draft {
    /// Removed with everything in it when the draft goes.
    folder: Arc<tempfile::TempDir>,
    files: BTreeMap<String, Uploaded>,
    bytes: u64,
    touched: Instant,
}

#[derive(Debug, Clone)]
struct Uploaded {
    size: u64,
    sha256: String,
}

impl SpoolIntake {
    /// Drafts are kept below `folder`, which is made. `demarches`: the default first; never empty in a server that runs.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(
        folder: PathBuf,
        staging: Arc<dyn Store>,
        queue: Arc<dyn Queue>,
        demarches: Vec<Arc<Loaded>>,
        config: &HttpConfig,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let offer = Offer {
            demarches,
            max_file: config.max_upload_bytes,
            max_deposit: config.max_deposit_bytes,
            max_files: config.max_deposit_files,
        };
        Ok(Self { folder, staging, queue, offer, reply_to: None, drafts: Mutex::default(), waiting: Mutex::default() })
    }

    /// With a queue that also gets the events of the jobs made here (`Replies::address`).
    #[must_use]
    pub fn with_replies(mut self, address: String) -> Self {
        self.reply_to = Some(address);
        self
    }

    fn drafts(&self) -> MutexGuard<'_, HashMap<String, Draft>> {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What else may be received for a draft now, bytes, and where.
    fn room(&self, draft: &str, path: &str) -> Result<(Arc<tempfile::TempDir>, u64), DepositError> {
        let mut drafts = self.drafts();
        let draft = drafts.get_mut(draft).ok_or(DepositError::Unknown)?;
        draft.touched = Instant::now();
        if draft.files.len() >= self.offer.max_files && !draft.files.contains_key(path) {
            return Err(DepositError::TooLarge { limit: self.offer.max_files as u64, unit: "files" });
        }
        Ok((Arc::clone(&draft.folder), self.offer.max_deposit.saturating_sub(draft.bytes)))
    }
}

impl Offer {
    /// Makes a submission of what lies in the folder.
    fn read(&self, folder: &Path, said: &Said) -> Result<(Arc<Loaded>, Submission), DepositError> {
        let malformed = |e: folder::FolderError| {
            // Where it lies on this machine is nobody's business.
            DepositError::Malformed(e.to_string().replace(&format!("{}/", folder.display()), ""))
        };
        let opened = folder::open(folder).map_err(malformed)?;
        let wanted = Some(said.demarche.as_str()).filter(|d| !d.is_empty()).or(opened.demarche());
        let loaded = match wanted {
            Some(id) => self.demarches.iter().find(|l| l.pipeline.id == id),
            None => self.demarches.first(),
        };
        let unknown = || DepositError::Malformed("PIPELINE-UNKNOWN: this démarche is not known here".into());
        let loaded = Arc::clone(loaded.ok_or_else(unknown)?);
        let (mut submission, _) = opened.into_submission(&loaded).map_err(malformed)?;
        let candidature = &mut submission.candidature;
        if !said.number.trim().is_empty() {
            said.number.trim().clone_into(&mut candidature.number);
        }
        for (said, field) in [
            (&said.company, &mut candidature.company),
            (&said.product, &mut candidature.product),
            (&said.version, &mut candidature.version),
        ] {
            if !said.trim().is_empty() {
                *field = Some(said.trim().to_owned());
            }
        }
        let profiles: Vec<_> = said.profiles.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect();
        if !profiles.is_empty() {
            candidature.profiles = profiles;
        }
        if let Ok(referenced) = said.vague1.parse() {
            candidature.referenced_vague_1 = Some(referenced);
        }
        match said.stage.as_str() {
            "dossier" => submission.stage = Stage::Dossier,
            "eligibility" => submission.stage = Stage::Eligibility,
            stage => {
                if let Some(chapter) = stage.strip_prefix("chapter:") {
                    submission.stage = Stage::Chapter { chapter: chapter.to_owned() };
                }
            }
        }
        if submission.items.is_empty() {
            return Err(DepositError::Empty);
        }
        Ok((loaded, submission))
    }
}

/// Where the files of a draft lie: apart from those that are still being received.
fn files_of(draft: &tempfile::TempDir) -> PathBuf {
    draft.path().join("files")
}

/// A path inside the draft: relative, without `.` and `..`, of names that a file system takes.
fn inside(path: &str) -> Result<PathBuf, DepositError> {
    let segments: Vec<_> = path.split('/').collect();
    if path.len() > 2_000 || segments.len() > MAX_DEPTH {
        return Err(DepositError::Path("the path is too long or too deep"));
    }
    for segment in &segments {
        if matches!(*segment, "" | "." | "..") || segment.len() > 255 {
            return Err(DepositError::Path("a name in the path is empty, `.`, `..` or longer than 255 bytes"));
        }
        if segment.contains('\0') {
            return Err(DepositError::Path("a name in the path has a null character"));
        }
    }
    Ok(segments.iter().collect())
}

#[async_trait]
impl Intake for SpoolIntake {
    fn offer(&self) -> Offer {
        self.offer.clone()
    }

    async fn begin(&self) -> Result<String, DepositError> {
        let id = secret()?;
        let folder = Arc::new(tempfile::Builder::new().prefix("draft-").tempdir_in(&self.folder)?);
        std::fs::create_dir(files_of(&folder))?;
        let mut drafts = self.drafts();
        drafts.retain(|_, draft| draft.touched.elapsed() < FORGOTTEN);
        if drafts.len() >= MAX_DRAFTS {
            return Err(DepositError::Busy);
        }
        drafts.insert(id.clone(), Draft { folder, files: BTreeMap::new(), bytes: 0, touched: Instant::now() });
        Ok(id)
    }

    async fn put(&self, draft: &str, path: &str, mut body: BoxStream<'static, std::io::Result<Bytes>>) -> Result<(), DepositError> {
        let relative = inside(path)?;
        let (folder, room) = self.room(draft, path)?;
        let target = files_of(&folder).join(relative);
        let parent = target.parent().unwrap_or(folder.path());
        let taken = |_| DepositError::Path("a file and a folder have the same name");
        tokio::fs::create_dir_all(parent).await.map_err(taken)?;
        // Written aside first: an upload that breaks off leaves nothing that looks whole.
        let part = folder.path().join(secret()?);
        let mut file = tokio::fs::File::create_new(&part).await?;
        let mut hasher = Sha256::new();
        let mut size = 0_u64;
        let received: Result<(), DepositError> = async {
            while let Some(chunk) = body.next().await {
                let chunk = chunk?;
                size += chunk.len() as u64;
                if size > self.offer.max_file {
                    return Err(DepositError::TooLarge { limit: self.offer.max_file, unit: "bytes in one file" });
                }
                if size > room {
                    return Err(DepositError::TooLarge { limit: self.offer.max_deposit, unit: "bytes in one deposit" });
                }
                hasher.update(&chunk);
                file.write_all(&chunk).await?;
            }
            file.flush().await?;
            Ok(())
        }
        .await;
        let moved = match received {
            Ok(()) => tokio::fs::rename(&part, &target).await.map_err(taken),
            Err(error) => Err(error),
        };
        if moved.is_err() {
            // It goes with the draft otherwise.
            let _ = tokio::fs::remove_file(&part).await;
        }
        moved?;
        let mut drafts = self.drafts();
        let draft = drafts.get_mut(draft).ok_or(DepositError::Unknown)?;
        let uploaded = Uploaded { size, sha256: hex::encode(hasher.finalize()) };
        draft.bytes = draft.bytes.saturating_add(size);
        if let Some(before) = draft.files.insert(path.to_owned(), uploaded) {
            draft.bytes = draft.bytes.saturating_sub(before.size);
        }
        // Two uploads at once may each have found room for itself.
        if draft.bytes > self.offer.max_deposit {
            return Err(DepositError::TooLarge { limit: self.offer.max_deposit, unit: "bytes in one deposit" });
        }
        draft.touched = Instant::now();
        Ok(())
    }

    async fn submit(&self, draft: &str, said: Said) -> Result<String, DepositError> {
        // Taken out: a draft is submitted once. What is wrong with it gives it back, to be put right.
        let taken = self.drafts().remove(draft).ok_or(DepositError::Unknown)?;
        let submitted = self.hand_over(draft, &taken, &said).await;
        if submitted.is_err() {
            self.drafts().insert(draft.to_owned(), Draft { touched: Instant::now(), ..taken });
        }
        submitted
    }

    fn waiting(&self, job: &str) -> Option<(About, Timestamp)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get(job).cloned()
    }
}

impl SpoolIntake {
    async fn hand_over(&self, id: &str, draft: &Draft, said: &Said) -> Result<String, DepositError> {
        if draft.bytes > self.offer.max_deposit {
            return Err(DepositError::TooLarge { limit: self.offer.max_deposit, unit: "bytes in one deposit" });
        }
        let (offer, said, folder) = (self.offer.clone(), said.clone(), Arc::clone(&draft.folder));
        let read = tokio::task::spawn_blocking(move || offer.read(&files_of(&folder), &said));
        let (loaded, mut submission) = read.await.map_err(std::io::Error::other)??;
        let mut keys: BTreeMap<String, Key> = BTreeMap::new();
        for item in &mut submission.items {
            let Content::File(file) = &mut item.content else { continue };
            let next = keys.len();
            let object = std::mem::take(&mut file.object);
            let key = keys.entry(object.clone()).or_insert_with(|| Key::ours(format!("precheck/{id}/{next}"))).clone();
            key.as_str().clone_into(&mut file.object);
            // What a document names and nobody uploaded is missing: the check says so.
            let Some(uploaded) = draft.files.get(&object) else { continue };
            let path = files_of(&draft.folder).join(inside(&object)?);
            let content = store::Content::File { path: &path, size: uploaded.size, sha256: &uploaded.sha256 };
            self.staging.create(&key, content, "application/octet-stream").await?;
        }
        let job = job_id(&loaded, &submission, Lane::Interactive);
        let body = serde_json::to_vec(&submission).map_err(|e| DepositError::Malformed(e.to_string()))?;
        if body.len() > MAX_JOB {
            return Err(DepositError::TooLarge { limit: MAX_JOB as u64, unit: "bytes in the list of items" });
        }
        let mut envelope = Envelope::new(&job, SUBMISSION_REQUESTED, "greffier/console", body);
        envelope.subject = Some(job.clone());
        envelope.time = Some(Timestamp::now());
        envelope.candidature = Some(submission.candidature.number.clone()).filter(|number| !number.is_empty());
        envelope.reply_to.clone_from(&self.reply_to);
        self.queue.enqueue(Lane::Interactive, &envelope).await?;
        // Only now: what is not in the queue waits for nothing.
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            while waiting.len() >= MAX_WAITING {
                let Some(oldest) = waiting.iter().min_by_key(|(_, (_, since))| *since).map(|(job, _)| job.clone()) else { break };
                waiting.remove(&oldest);
            }
            waiting.insert(job.clone(), (about(&job, &submission, Lane::Interactive), Timestamp::now()));
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_inside_the_draft() {
        for outside in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\0b", &"x".repeat(256), &"a/".repeat(40)] {
            assert!(inside(outside).is_err(), "{outside:?}");
        }
        assert_eq!(inside("INS.02/é t\u{202e}é.pdf").unwrap(), Path::new("INS.02/é t\u{202e}é.pdf"));
    }
}
