//! A vendor's pre-check through the console: files come one by one into a draft, and the draft becomes a submission by the
//! same rules as a folder on disk (`check::folder`), enqueued in the interactive lane.
//!
//! Archives are unpacked by the browser, never here. Of what was uploaded this process reads the description of the deposit and
//! its files of links, both small ([`folder`] refuses larger ones unread); everything else is read by the worker's children.
//!
//! What one client can take is bounded: drafts at once, their age, files, bytes, and the names that they bring along. Uploads
//! leave `http.least_free_bytes` on the disk. Folders are made only when a whole file is there to lie in them.

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

use super::client::Client;
use super::config::HttpConfig;
use super::{make_room, secret};
use crate::check::folder;
use crate::model::event::About;
use crate::model::message::{Envelope, Lane, MAX_JOB, SUBMISSION_REQUESTED};
use crate::model::submission::{Content, Stage, Submission};
use crate::model::text::chain;
use crate::pipeline::Loaded;
use crate::queue::{Queue, QueueError, traced};
use crate::store::{self, Key, Store, StoreError};
use crate::worker::records::{PRECHECK, about, job_id};

/// A draft to which nothing was added for so long is removed.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// A draft that received no file for so long is removed: pages send the first one at once.
const FORGOTTEN_EMPTY: Duration = Duration::from_secs(300);
/// A draft is removed at this age, however much is still added to it. The largest deposit takes a day at 100 kB a second.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Drafts at once.
const MAX_DRAFTS: usize = 32;
/// Drafts of one client at once: every press of the page's button begins one.
const MAX_DRAFTS_OF_CLIENT: usize = 4;
/// Bytes of the paths of one draft, every folder counted once: what its folders and this table may take. 5,000 files have 400.
const MAX_PATH_BYTES: usize = 2 * 1024 * 1024;
/// Received bytes after which the free space of the disk is looked at again.
const SPACE_EVERY: u64 = 1024 * 1024;
/// Submitted jobs of which it is remembered that they wait.
const MAX_WAITING: usize = 1_000;
/// Uploads are removed from the staging store after so long. Not with the outcome: a job that is told again by another version
/// of the rules reads them once more.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// How often they are looked for.
const SWEEP: Duration = Duration::from_secs(3600);
/// Objects looked at in one request to the store.
const LISTING: usize = 500;
/// Deepest path, segments: what `check::folder` looks into.
const MAX_DEPTH: usize = 30;

/// Why a deposit was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DepositError {
    /// No such draft, or no longer.
    #[error("DEPOSIT-UNKNOWN: there is no such draft, or nothing was added to it for an hour")]
    Unknown,
    /// Too many deposits are being made at once, here or by one client.
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
    /// The disk of the drafts would be fuller than it may be.
    #[error("DEPOSIT-NO-SPACE: the server's disk has too little space left")]
    NoSpace,
    /// The client sent slower than `http.least_bytes_per_second`.
    #[error("DEPOSIT-TOO-SLOW: the file came too slowly, and its connection was closed")]
    TooSlow,
    /// Nothing was deposited.
    #[error("DEPOSIT-EMPTY: there is no file in it")]
    Empty,
    /// What describes the deposit is wrong.
    #[error("{0}")]
    Malformed(String),
    /// The upload ended early, or this machine's disk failed.
    #[error("DEPOSIT-INTERRUPTED: a file was not received whole")]
    Io(#[source] std::io::Error),
    /// The staging store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl From<std::io::Error> for DepositError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace,
            std::io::ErrorKind::InvalidFilename => Self::Path("a name in the path is longer than this server's disk takes"),
            std::io::ErrorKind::TimedOut => Self::TooSlow,
            _ => Self::Io(error),
        }
    }
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

/// The bytes of a file, as they come.
pub type UploadStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Takes deposits.
#[async_trait]
pub trait Intake: Send + Sync + std::fmt::Debug {
    /// What can be deposited.
    fn offer(&self) -> Offer;
    /// Begins a draft; its id is a secret between us and the page.
    async fn begin(&self, client: Client) -> Result<String, DepositError>;
    /// Adds one file under its path in the deposit. `length`: how many bytes it announces, where it does.
    async fn put(&self, draft: &str, path: &str, length: Option<u64>, body: UploadStream) -> Result<(), DepositError>;
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
    least_free: u64,
    reply_to: Option<String>,
    drafts: Mutex<HashMap<String, Draft>>,
    waiting: Mutex<HashMap<String, (About, Timestamp)>>,
}

impl std::fmt::Debug for SpoolIntake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpoolIntake").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Draft {
    folder: Arc<DraftFolder>,
    client: Client,
    files: BTreeMap<String, Uploaded>,
    bytes: u64,
    /// Files that are there or are being received, and the folders that they lie in.
    names: Names,
    /// Of uploads under way: how many there are, and what they have received.
    uploads: usize,
    receiving: u64,
    began: Instant,
    touched: Instant,
}

/// The folder of a draft. It is removed with everything in it when the last one that uses it goes: by a thread of its own, since
/// thousands of files take a while, and those who answer requests must not wait for them.
#[derive(Debug)]
struct DraftFolder(Option<tempfile::TempDir>);

impl DraftFolder {
    fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }
}

impl Drop for DraftFolder {
    fn drop(&mut self) {
        let Some(folder) = self.0.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(folder))),
            Err(_) => drop(folder),
        }
    }
}

impl Draft {
    fn is_over(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.touched);
        let empty = self.files.is_empty() && self.uploads == 0;
        idle >= if empty { FORGOTTEN_EMPTY } else { FORGOTTEN } || now.saturating_duration_since(self.began) >= MAX_AGE
    }
}

/// Paths of a draft, before anything of them is on disk.
#[derive(Debug, Default)]
struct Names {
    /// How many uploads, finished or under way, hold each file.
    files: BTreeMap<String, usize>,
    /// How many files lie in each folder, at any depth.
    folders: BTreeMap<String, usize>,
    bytes: usize,
}

/// The folders that a path lies in.
fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

impl Names {
    /// Holds a path; refused where a folder has its name, a file has the name of one of its folders, or it is one too many.
    fn add(&mut self, path: &str) -> Result<(), DepositError> {
        if self.folders.contains_key(path) || folders_of(path).any(|folder| self.files.contains_key(folder)) {
            return Err(DepositError::Path("a file and a folder have the same name"));
        }
        if let Some(held) = self.files.get_mut(path) {
            *held += 1;
            return Ok(());
        }
        let new: usize = folders_of(path).filter(|folder| !self.folders.contains_key(*folder)).map(str::len).sum();
        if self.bytes.saturating_add(new).saturating_add(path.len()) > MAX_PATH_BYTES {
            return Err(DepositError::TooLarge { limit: MAX_PATH_BYTES as u64, unit: "bytes in the names of one deposit" });
        }
        self.bytes += new + path.len();
        for folder in folders_of(path) {
            *self.folders.entry(folder.to_owned()).or_insert(0) += 1;
        }
        self.files.insert(path.to_owned(), 1);
        Ok(())
    }

    /// Lets a path go.
    fn remove(&mut self, path: &str) {
        let Some(held) = self.files.get_mut(path) else { return };
        *held -= 1;
        if *held > 0 {
            return;
        }
        self.files.remove(path);
        self.bytes = self.bytes.saturating_sub(path.len());
        for folder in folders_of(path) {
            if let Some(held) = self.folders.get_mut(folder) {
                *held -= 1;
                if *held == 0 {
                    self.folders.remove(folder);
                    self.bytes = self.bytes.saturating_sub(folder.len());
                }
            }
        }
    }
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
        let least_free = config.least_free_bytes;
        Ok(Self { folder, staging, queue, offer, least_free, reply_to: None, drafts: Mutex::default(), waiting: Mutex::default() })
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

    /// Begins a draft at a given moment. A client with its share of drafts loses the one that it touched least recently.
    fn begin_at(&self, client: Client, now: Instant) -> Result<String, DepositError> {
        let id = secret()?;
        let mut drafts = self.drafts();
        drafts.retain(|_, draft| !draft.is_over(now));
        let mut own: Vec<_> = drafts.iter().filter(|(_, draft)| draft.client.overlaps(&client)).collect();
        if own.len() >= MAX_DRAFTS_OF_CLIENT {
            own.retain(|(_, draft)| draft.uploads == 0);
            let oldest = own.into_iter().min_by_key(|(_, draft)| draft.touched).map(|(id, _)| id.clone()).ok_or(DepositError::Busy)?;
            drafts.remove(&oldest);
        }
        if drafts.len() >= MAX_DRAFTS {
            return Err(DepositError::Busy);
        }
        let folder = Arc::new(DraftFolder(Some(tempfile::Builder::new().prefix("draft-").tempdir_in(&self.folder)?)));
        std::fs::create_dir(files_of(&folder))?;
        let draft = Draft {
            folder,
            client,
            files: BTreeMap::new(),
            bytes: 0,
            names: Names::default(),
            uploads: 0,
            receiving: 0,
            began: now,
            touched: now,
        };
        drafts.insert(id.clone(), draft);
        Ok(id)
    }

    /// Lets one more upload into a draft: the folder, and what it reserves while it lasts.
    fn admit<'a>(&'a self, draft: &'a str, path: &'a str) -> Result<(Arc<DraftFolder>, UploadReservation<'a>), DepositError> {
        let (mut drafts, now) = (self.drafts(), Instant::now());
        let found = drafts.get_mut(draft).filter(|draft| !draft.is_over(now)).ok_or(DepositError::Unknown)?;
        found.touched = now;
        if found.files.len() + found.uploads >= self.offer.max_files && !found.files.contains_key(path) {
            return Err(DepositError::TooLarge { limit: self.offer.max_files as u64, unit: "files" });
        }
        found.names.add(path)?;
        found.uploads += 1;
        Ok((Arc::clone(&found.folder), UploadReservation { intake: self, draft, path, bytes: 0, kept: false }))
    }

    /// Whether `more` bytes fit on the disk of the drafts beside what must stay free.
    fn has_space(&self, more: u64) -> Result<(), DepositError> {
        let disk = rustix::fs::statvfs(&self.folder).map_err(std::io::Error::from)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.least_free.saturating_add(more) {
            return Err(DepositError::NoSpace);
        }
        Ok(())
    }
}

/// What one upload takes of its draft's limits: taken before bytes are accepted, so that uploads at once do not each find the
/// same room; free again when dropped, also when the browser leaves.
struct UploadReservation<'a> {
    intake: &'a SpoolIntake,
    draft: &'a str,
    path: &'a str,
    bytes: u64,
    kept: bool,
}

impl UploadReservation<'_> {
    fn take(&mut self, more: u64) -> Result<(), DepositError> {
        let offer = &self.intake.offer;
        if self.bytes.saturating_add(more) > offer.max_file {
            return Err(DepositError::TooLarge { limit: offer.max_file, unit: "bytes in one file" });
        }
        let (mut drafts, now) = (self.intake.drafts(), Instant::now());
        let draft = drafts.get_mut(self.draft).filter(|draft| !draft.is_over(now)).ok_or(DepositError::Unknown)?;
        if draft.bytes.saturating_add(draft.receiving).saturating_add(more) > offer.max_deposit {
            return Err(DepositError::TooLarge { limit: offer.max_deposit, unit: "bytes in one deposit" });
        }
        draft.receiving += more;
        draft.touched = now;
        self.bytes += more;
        Ok(())
    }

    /// What was received is a file of the draft from now on.
    fn keep(mut self, sha256: String) -> Result<(), DepositError> {
        let size = std::mem::take(&mut self.bytes);
        let mut drafts = self.intake.drafts();
        let draft = drafts.get_mut(self.draft).ok_or(DepositError::Unknown)?;
        draft.receiving = draft.receiving.saturating_sub(size);
        draft.bytes = draft.bytes.saturating_add(size);
        if let Some(before) = draft.files.insert(self.path.to_owned(), Uploaded { size, sha256 }) {
            draft.bytes = draft.bytes.saturating_sub(before.size);
            // The one before held the path too.
            draft.names.remove(self.path);
        }
        self.kept = true;
        draft.touched = Instant::now();
        Ok(())
    }
}

impl Drop for UploadReservation<'_> {
    fn drop(&mut self) {
        if let Some(draft) = self.intake.drafts().get_mut(self.draft) {
            draft.uploads = draft.uploads.saturating_sub(1);
            draft.receiving = draft.receiving.saturating_sub(self.bytes);
            if !self.kept {
                draft.names.remove(self.path);
            }
        }
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

/// Removes old uploads from the staging store, again and again. Ends when dropped.
pub async fn sweep_uploads(staging: Arc<dyn Store>) {
    loop {
        match sweep(staging.as_ref(), KEPT).await {
            Ok(removed) if removed > 0 => tracing::info!(removed, "old uploads of pre-checks were removed"),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = chain(&error), "old uploads of pre-checks could not be removed"),
        }
        tokio::time::sleep(SWEEP).await;
    }
}

/// Removes uploads of pre-checks older than `age`, by the store's clock; says how many.
async fn sweep(staging: &dyn Store, age: Duration) -> Result<usize, StoreError> {
    let before = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
    let (mut removed, mut after) = (0, None);
    loop {
        let listed = staging.list(PRECHECK, after.as_ref(), LISTING).await?;
        for stat in listed.iter().filter(|stat| stat.modified.is_some_and(|at| at < before)) {
            staging.remove(&stat.key).await?;
            removed += 1;
        }
        match listed.last() {
            Some(last) if listed.len() >= LISTING => after = Some(last.key.clone()),
            _ => return Ok(removed),
        }
    }
}

/// Where the files of a draft lie: apart from those that are still being received.
fn files_of(draft: &DraftFolder) -> PathBuf {
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

    async fn begin(&self, client: Client) -> Result<String, DepositError> {
        self.has_space(0)?;
        self.begin_at(client, Instant::now())
    }

    async fn put(&self, draft: &str, path: &str, length: Option<u64>, mut body: UploadStream) -> Result<(), DepositError> {
        let relative = inside(path)?;
        let (folder, mut reservation) = self.admit(draft, path)?;
        if length.is_some_and(|length| length > self.offer.max_file) {
            return Err(DepositError::TooLarge { limit: self.offer.max_file, unit: "bytes in one file" });
        }
        self.has_space(length.unwrap_or_default())?;
        // Written aside first, and removed when dropped: an upload that breaks off leaves nothing, whole or not.
        let part = tempfile::TempPath::try_from_path(folder.path().join(secret()?))?;
        let mut file = tokio::fs::File::create_new(&part).await?;
        let (mut hasher, mut unlooked) = (Sha256::new(), 0_u64);
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            reservation.take(chunk.len() as u64)?;
            unlooked += chunk.len() as u64;
            if unlooked >= SPACE_EVERY {
                self.has_space(0)?;
                unlooked = 0;
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        let target = files_of(&folder).join(relative);
        tokio::fs::create_dir_all(target.parent().unwrap_or(folder.path())).await?;
        tokio::fs::rename(&part, &target).await?;
        reservation.keep(hex::encode(hasher.finalize()))
    }

    async fn submit(&self, draft: &str, said: Said) -> Result<String, DepositError> {
        let taken = {
            let mut drafts = self.drafts();
            // It would find the draft that is given back below, and free room there that is another's by then.
            if drafts.get(draft).is_some_and(|found| found.uploads > 0) {
                return Err(std::io::Error::other("an upload is under way").into());
            }
            // Taken out: a draft is submitted once. What is wrong with it gives it back, to be put right.
            let now = Instant::now();
            drafts.remove(draft).filter(|draft| !draft.is_over(now)).ok_or(DepositError::Unknown)?
        };
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
        let (offer, said, folder) = (self.offer.clone(), said.clone(), Arc::clone(&draft.folder));
        let read = tokio::task::spawn_blocking(move || offer.read(&files_of(&folder), &said));
        let (loaded, mut submission) = read.await.map_err(std::io::Error::other)??;
        let mut keys: BTreeMap<String, Key> = BTreeMap::new();
        for item in &mut submission.items {
            let Content::File(file) = &mut item.content else { continue };
            let next = keys.len();
            let object = std::mem::take(&mut file.object);
            let key = keys.entry(object.clone()).or_insert_with(|| Key::ours(format!("{PRECHECK}{id}/{next}"))).clone();
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
        traced::enqueue(self.queue.as_ref(), Lane::Interactive, envelope).await?;
        // Only now: what is not in the queue waits for nothing.
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            make_room(&mut waiting, MAX_WAITING, |(_, since)| *since);
            waiting.insert(job.clone(), (about(&job, &submission, Lane::Interactive), Timestamp::now()));
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::config::QueueConfig;
    use crate::queue::embedded::EmbeddedQueue;
    use crate::store::directory::DirectoryStore;

    async fn intake(folder: &Path, max_deposit_bytes: u64, max_deposit_files: usize) -> SpoolIntake {
        let staging = Arc::new(DirectoryStore::new(folder.join("staging")));
        let queue = QueueConfig { path: folder.join("queue.sqlite"), ..QueueConfig::default() };
        let queue = Arc::new(EmbeddedQueue::open(&queue).await.unwrap());
        let config =
            HttpConfig { max_upload_bytes: 1_000, max_deposit_bytes, max_deposit_files, least_free_bytes: 0, ..HttpConfig::default() };
        SpoolIntake::new(folder.join("drafts"), staging, queue, Vec::new(), &config).unwrap()
    }

    fn client(n: u8) -> Client {
        Client::new(Some([192, 0, 2, n].into()), None)
    }

    /// A whole body.
    fn whole(bytes: &'static [u8]) -> UploadStream {
        futures_util::stream::iter([Ok(Bytes::from_static(bytes))]).boxed()
    }

    #[test]
    fn a_path_stays_inside_the_draft() {
        for outside in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\0b", &"x".repeat(256), &"a/".repeat(40)] {
            assert!(inside(outside).is_err(), "{outside:?}");
        }
        assert_eq!(inside("INS.02/é t\u{202e}é.pdf").unwrap(), Path::new("INS.02/é t\u{202e}é.pdf"));
    }

    /// A body whose bytes come when the test sends them.
    fn body() -> (tokio::sync::mpsc::UnboundedSender<Bytes>, BoxStream<'static, std::io::Result<Bytes>>) {
        let (send, receive) = tokio::sync::mpsc::unbounded_channel();
        let stream = futures_util::stream::unfold(receive, |mut receive| async { Some((Ok(receive.recv().await?), receive)) });
        (send, stream.boxed())
    }

    #[tokio::test]
    async fn uploads_at_once_share_the_room_of_their_draft() {
        let folder = tempfile::tempdir().unwrap();
        let intake = Arc::new(intake(folder.path(), 100, 3).await);
        let draft = intake.begin(client(1)).await.unwrap();
        let put = |path: &'static str, body| {
            let (intake, draft) = (Arc::clone(&intake), draft.clone());
            tokio::spawn(async move { intake.put(&draft, path, None, body).await })
        };
        let until = async |done: &dyn Fn(&Draft) -> bool| {
            let waiting = async {
                while !done(&intake.drafts()[&draft]) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
        };
        let bytes = |n: usize| Bytes::from(vec![b'x'; n]);
        let (send, slow) = body();
        let slow = put("a", slow);
        send.send(bytes(60)).unwrap();
        until(&|draft| draft.receiving == 60).await;
        // While one is under way, the room that it took is nobody else's.
        let (other, stream) = body();
        other.send(bytes(41)).unwrap();
        drop(other);
        let refused = put("b", stream).await.unwrap().unwrap_err();
        assert!(matches!(refused, DepositError::TooLarge { limit: 100, .. }), "{refused}");
        assert_eq!(intake.drafts()[&draft].receiving, 60, "what was refused takes no room");
        // A deposit that is submitted meanwhile would forget that room.
        let early = intake.submit(&draft, Said::default()).await.unwrap_err();
        assert!(matches!(early, DepositError::Io(_)), "{early}");
        assert_eq!(intake.drafts()[&draft].receiving, 60);
        drop(send);
        slow.await.unwrap().unwrap();
        let counted = |draft: &Draft| (draft.bytes, draft.receiving, draft.uploads);
        assert_eq!(counted(&intake.drafts()[&draft]), (60, 0, 0));
        // A browser that leaves gives its room back; so does a file that is sent again.
        let (send, stream) = body();
        let left = put("b", stream);
        send.send(bytes(40)).unwrap();
        until(&|draft| draft.receiving == 40).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        assert_eq!(intake.drafts()[&draft].receiving, 0);
        let left = std::fs::read_dir(intake.drafts()[&draft].folder.path()).unwrap().count();
        assert_eq!(left, 1, "nothing but the folder of whole files");
        let (send, stream) = body();
        send.send(bytes(10)).unwrap();
        drop(send);
        put("a", stream).await.unwrap().unwrap();
        assert_eq!(intake.drafts()[&draft].bytes, 10);
        // Files are counted before they are there.
        let (_hold_b, b) = body();
        let (_hold_c, c) = body();
        let (_b, _c) = (put("b", b), put("c", c));
        until(&|draft| draft.uploads == 2).await;
        let (_hold_d, d) = body();
        assert!(matches!(put("d", d).await.unwrap(), Err(DepositError::TooLarge { limit: 3, .. })));
    }

    #[tokio::test]
    async fn a_client_with_its_share_of_drafts_loses_its_oldest_and_no_other_is_refused_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let intake = intake(folder.path(), 100, 3).await;
        let now = Instant::now();
        let at = |n: u8, seconds: u64| intake.begin_at(client(n), now + Duration::from_secs(seconds));
        let mine = at(1, 0).unwrap();
        let theirs: Vec<_> = (1..50).map(|s| at(2, s).unwrap()).collect();
        assert!(intake.drafts().contains_key(&mine));
        let left: Vec<_> = theirs.iter().map(|id| intake.drafts().contains_key(id)).collect();
        assert_eq!(left, (1..50).map(|s| s >= 46).collect::<Vec<_>>());
        let removed = async {
            while std::fs::read_dir(folder.path().join("drafts")).unwrap().count() > 5 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), removed).await.expect("what is gone has no folder");
        // One that receives a file is not thrown away for a new one.
        intake.drafts().values_mut().for_each(|draft| draft.uploads = 1);
        assert!(matches!(at(2, 60), Err(DepositError::Busy)));
        assert!(at(3, 60).is_ok());
    }

    #[tokio::test]
    async fn a_draft_ends_with_rest_and_with_age_however_busy() {
        let folder = tempfile::tempdir().unwrap();
        let intake = intake(folder.path(), 100, 3).await;
        let draft = intake.begin(client(1)).await.unwrap();
        let is_over = |later: Duration| intake.drafts()[&draft].is_over(Instant::now() + later);
        assert!(!is_over(FORGOTTEN_EMPTY / 2) && is_over(FORGOTTEN_EMPTY));
        intake.put(&draft, "a", None, whole(b"x")).await.unwrap();
        assert!(!is_over(FORGOTTEN_EMPTY) && is_over(FORGOTTEN));
        // Something came a moment ago, and more is coming.
        let later = Instant::now() + MAX_AGE;
        intake.drafts().values_mut().for_each(|draft| (draft.touched, draft.uploads) = (later, 1));
        assert!(intake.drafts()[&draft].is_over(later));
        assert!(!is_over(MAX_AGE - Duration::from_secs(600)));
        let _ = intake.begin_at(client(2), later).unwrap();
        let refused = intake.put(&draft, "b", None, whole(b"x")).await.unwrap_err();
        assert!(matches!(refused, DepositError::Unknown), "{refused}");
    }

    #[tokio::test]
    async fn folders_are_made_for_whole_files_only_and_names_that_collide_are_refused_before() {
        let folder = tempfile::tempdir().unwrap();
        let intake = intake(folder.path(), 100, 10).await;
        let draft = intake.begin(client(1)).await.unwrap();
        let files = files_of(&intake.drafts()[&draft].folder);
        let there = || std::fs::read_dir(&files).unwrap().count();
        let broken = || futures_util::stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("gone"))]).boxed();
        for n in 0..50 {
            let path = format!("{n}/b/c/d/e.txt");
            assert!(intake.put(&draft, &path, Some(10), broken()).await.is_err());
        }
        assert_eq!(there(), 0, "broken uploads leave no folder");
        let held = |names: &Names| (names.bytes, names.folders.len());
        assert_eq!(held(&intake.drafts()[&draft].names), (0, 0));
        intake.put(&draft, "a/b.txt", None, whole(b"x")).await.unwrap();
        for collides in ["a", "a/b.txt/c"] {
            let refused = intake.put(&draft, collides, None, whole(b"x")).await.unwrap_err();
            assert!(matches!(refused, DepositError::Path(_)), "{collides}: {refused}");
        }
        intake.put(&draft, "a/b.txt", None, whole(b"yy")).await.unwrap();
        assert_eq!(intake.drafts()[&draft].names.bytes, "a".len() + "a/b.txt".len(), "sent again, and counted once");
        assert_eq!(there(), 1);
    }

    #[test]
    fn the_names_of_a_draft_are_bounded_together() {
        let mut names = Names::default();
        let deep = |n: usize| (0..29).map(|k| format!("{n}-{k}-{}", "x".repeat(40))).collect::<Vec<_>>().join("/");
        let taken = (0..5_000).take_while(|n| names.add(&deep(*n)).is_ok()).count();
        assert!((10..1_000).contains(&taken), "{taken}");
        assert!(names.bytes <= MAX_PATH_BYTES);
        for n in 0..taken {
            names.remove(&deep(n));
        }
        assert!(names.bytes == 0 && names.files.is_empty() && names.folders.is_empty());
        // What an honest deposit brings fits.
        assert!(
            (0..5_000).all(|n| names
                .add(&format!("INS.{:02}/INS.{:02}.01.01/Capture d'écran {n}, page de connexion.png", n % 80, n % 80))
                .is_ok())
        );
    }

    #[tokio::test]
    async fn a_disk_that_is_nearly_full_takes_no_deposit_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut intake = intake(folder.path(), 100, 10).await;
        let draft = intake.begin(client(1)).await.unwrap();
        let length = u64::MAX / 2;
        intake.offer.max_file = u64::MAX;
        let refused = intake.put(&draft, "a", Some(length), whole(b"x")).await.unwrap_err();
        assert!(matches!(refused, DepositError::NoSpace), "announced: {refused}");
        intake.put(&draft, "a", Some(1), whole(b"x")).await.unwrap();
        // Free space that is gone while a file is received: the part of it goes too.
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        intake.least_free = (disk.f_bavail * disk.f_frsize).saturating_sub(SPACE_EVERY);
        (intake.offer.max_file, intake.offer.max_deposit) = (u64::MAX, u64::MAX);
        let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
        let endless = futures_util::stream::repeat_with(move || Ok(chunk.clone())).take(1 << 14).boxed();
        let refused = intake.put(&draft, "b", None, endless).await.unwrap_err();
        assert!(matches!(refused, DepositError::NoSpace), "{refused}");
        assert_eq!(std::fs::read_dir(intake.drafts()[&draft].folder.path()).unwrap().count(), 1, "nothing but the folder of whole files");
        intake.least_free = u64::MAX;
        assert!(matches!(intake.begin(client(2)).await, Err(DepositError::NoSpace)));
    }

    #[tokio::test]
    async fn only_old_uploads_of_pre_checks_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("staging")).unwrap();
        let staging = DirectoryStore::new(folder.path().join("staging"));
        for key in ["greffier-precheck/a/0", "greffier-precheck/b/0", "uploads/x"] {
            staging.create(&Key::ours(key.to_owned()), store::Content::Bytes(b"x"), "text/plain").await.unwrap();
        }
        assert_eq!(sweep(&staging, Duration::from_secs(3600)).await.unwrap(), 0);
        let old = std::time::SystemTime::now() - Duration::from_secs(7200);
        std::fs::File::open(folder.path().join("staging/greffier-precheck/a/0")).unwrap().set_modified(old).unwrap();
        std::fs::File::open(folder.path().join("staging/uploads/x")).unwrap().set_modified(old).unwrap();
        assert_eq!(sweep(&staging, Duration::from_secs(3600)).await.unwrap(), 1);
        let left: Vec<_> = staging.list("", None, 10).await.unwrap().into_iter().map(|stat| stat.key.as_str().to_owned()).collect();
        assert_eq!(left, ["greffier-precheck/b/0", "uploads/x"]);
    }
}
