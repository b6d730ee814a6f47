//! A directory as a store.
//!
//! Goals:
//! 1. **Create-only by the file system itself**: bytes are written to a temporary file below `.spool`, synced, and linked to
//!    their name; `link(2)` fails where something has that name, whoever wrote it, on this machine or another one.
//! 2. **Durable when it returns**: the file, its folder and every folder above it up to the root are synced, also where the
//!    object was there already: whoever made it may have crashed before its own sync. A folder's name is synced once by each
//!    process, and again where somebody removed the folder and we made it anew.
//! 3. **Never outside the root**: every name is resolved by the kernel below the root, and no symbolic link is followed.
//! 4. **A crash leaves rubbish below `.spool` only**, and [`Store::probe`] sweeps what is older than a day from there.
//!
//! Objects are made read-only (mode 0444). No digest is kept beside them: it would tell nothing about the bytes that are
//! there now, so where it matters the bytes are read.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat as RawStat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Content, Created, Key, Opened, Stat, Store, StoreError, trial};
use crate::model::probe::Probe;

/// Folder below the root that holds what is being written. No key lies there, and nothing there is listed.
const SPOOL: &str = ".spool";

/// Bytes copied at once.
const CHUNK: usize = 256 * 1024;

/// Age from which what lies below `.spool` belongs to nobody: longer than any job.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// A folder below `.spool` with a file of this name has an owner, and is not swept by age.
pub const LOCK: &str = ".lock";

/// Deepest folder below `.spool` that is swept.
const SWEEP_DEPTH: usize = 16;

/// A directory of this machine.
#[derive(Debug)]
pub struct DirectoryStore {
    inner: Arc<Inner>,
}

impl DirectoryStore {
    /// The store below `root`. Touches nothing: [`Store::probe`] of a writable store makes the root where it is missing, and
    /// everything else needs it there, so that a disk that is not mounted is an error and not an empty store.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { inner: Arc::new(Inner { root: root.into(), named: Mutex::default() }) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || job(&inner)).await {
            Ok(result) => result,
            // Cancelled: the runtime is shutting down.
            Err(e) => Err(StoreError::Unavailable { store: self.name(), what: "the work was given up".into(), source: Box::new(e) }),
        }
    }
}

#[async_trait]
impl Store for DirectoryStore {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn probe(&self, writable: bool) -> Vec<Probe> {
        let place = self.blocking(move |inner| inner.place(writable)).await;
        let mut probes = vec![match place {
            Ok(detail) => Probe::passed("directory", detail),
            Err(e) => return vec![Probe::failed("directory", trial::words(&e))],
        }];
        if writable {
            probes.extend(trial::create_only(self, &trial::folder()).await);
            probes.push(match self.blocking(Inner::sweep).await {
                Ok(0) => Probe::passed("spool", "nothing left over"),
                Ok(n) => Probe::passed("spool", format!("{n} files left over from crashes removed")),
                Err(e) => Probe::failed("spool", trial::words(&e)),
            });
        }
        probes
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        let key = key.clone();
        self.blocking(move |inner| Ok(inner.open_object(&key)?.map(|(_, stat)| stat))).await
    }

    async fn open(&self, key: &Key) -> Result<Option<Opened>, StoreError> {
        let key = key.clone();
        let opened = self.blocking(move |inner| inner.open_object(&key)).await?;
        Ok(opened.map(|(file, stat)| {
            // Without a second descriptor the reader does alone.
            let same = file.try_clone().ok();
            let reader = Whole { inner: tokio::fs::File::from_std(file), left: stat.size };
            Opened { stat, reader: Box::new(reader), file: same }
        }))
    }

    async fn create(&self, key: &Key, content: Content<'_>, _media_type: &str) -> Result<Created, StoreError> {
        let key = key.clone();
        let content = match content {
            Content::Bytes(bytes) => Owned::Bytes(bytes.to_vec()),
            Content::File { path, size, sha256 } => Owned::File { path: path.to_owned(), size, sha256: sha256.to_owned() },
        };
        self.blocking(move |inner| inner.create(&key, &content)).await
    }

    async fn replace(&self, key: &Key, bytes: &[u8], _media_type: &str) -> Result<(), StoreError> {
        let (key, bytes) = (key.clone(), bytes.to_vec());
        self.blocking(move |inner| inner.replace(&key, &bytes)).await
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, most: usize) -> Result<Vec<Stat>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |inner| {
            let mut found = Vec::new();
            let root = inner.root()?;
            let wanted = Wanted { prefix: &prefix, after: after.as_ref().map_or("", Key::as_str), most };
            inner.walk(&root, "", &wanted, &mut found)?;
            Ok(found)
        })
        .await
    }

    async fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let key = key.clone();
        self.blocking(move |inner| inner.remove(&key)).await
    }

    fn spool(&self) -> Option<PathBuf> {
        // Made here too, so that whoever asks may use it; where that fails, writing there says why.
        let root = self.inner.root().ok()?;
        let _ = rustix::fs::mkdirat(&root, SPOOL, Mode::from_raw_mode(0o700));
        Some(self.inner.root.join(SPOOL))
    }
}

/// [`Content`] that another thread may keep.
enum Owned {
    Bytes(Vec<u8>),
    File { path: PathBuf, size: u64, sha256: String },
}

impl Owned {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
    fn sha256(&self) -> String {
        match self {
            Self::Bytes(bytes) => hex::encode(Sha256::digest(bytes)),
            Self::File { sha256, .. } => sha256.clone(),
        }
    }
}

/// What a listing looks for.
struct Wanted<'a> {
    prefix: &'a str,
    /// Empty: from the first.
    after: &'a str,
    most: usize,
}

impl Wanted<'_> {
    fn object(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && key > self.after
    }
    /// Whether the folder `base`, which ends in `/`, can hold a wanted object.
    fn folder(&self, base: &str) -> bool {
        (base.starts_with(self.prefix) || self.prefix.starts_with(base)) && (base > self.after || self.after.starts_with(base))
    }
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Folders, by device and inode, whose names this process has synced: a sync that changes nothing still makes the disk
    /// empty its cache.
    named: Mutex<HashSet<(u64, u64)>>,
}

/// Folders remembered to be synced, at most; then all are forgotten.
const MAX_NAMED: usize = 10_000;

/// Everything that is opened below the root: by the kernel's own resolution, without symbolic links.
const BENEATH: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::BENEATH).union(ResolveFlags::NO_MAGICLINKS);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Inner {
    fn name(&self) -> String {
        crate::model::text::display_safe(&self.root.to_string_lossy(), 4096)
    }

    /// What `doing` failed with, in the words of whoever has to do something about it.
    fn failed(&self, doing: &str, source: impl Into<io::Error>) -> StoreError {
        let source = source.into();
        let errno = Errno::from_io_error(&source);
        let (transient, advice) = match errno {
            Some(Errno::NOSPC) => (true, "no space left on the disk: free some, or enlarge it"),
            Some(Errno::DQUOT) => (true, "the disk quota is used up: raise it"),
            Some(Errno::IO) => (true, "the disk reports input/output errors: see the kernel log, replace it"),
            Some(Errno::MFILE | Errno::NFILE) => (true, "too many open files: raise the limit (LimitNOFILE=)"),
            Some(Errno::ACCESS | Errno::PERM) => (false, "not permitted: let the worker's user write there"),
            Some(Errno::ROFS) => (false, "the file system is mounted read-only: remount it for writing"),
            Some(Errno::NAMETOOLONG) => (false, "the name is too long for this file system"),
            Some(Errno::LOOP) => (false, "a symbolic link is in the way: none is followed in a store"),
            Some(Errno::NOTDIR | Errno::EXIST) => (false, "a file stands where a folder is needed"),
            Some(Errno::ISDIR) => (false, "a folder stands where an object is needed"),
            Some(Errno::XDEV) => (false, "another file system is mounted below the store: it must be one"),
            Some(Errno::MLINK) => (false, "the file has too many names"),
            Some(Errno::NOSYS) => (false, "openat2 is missing: Linux 5.6 or later, and a seccomp profile that allows it"),
            Some(Errno::OPNOTSUPP) => (false, "the file system cannot do this: it must know hard links"),
            _ => (true, "the system refused"),
        };
        let (store, what) = (self.name(), format!("{doing}: {advice}"));
        match transient {
            true => StoreError::Unavailable { store, what, source: Box::new(source) },
            false => StoreError::Refused { store, what, source: Box::new(source) },
        }
    }

    /// The root, opened anew each time: what is mounted there later is what counts.
    fn root(&self) -> Result<OwnedFd, StoreError> {
        rustix::fs::open(&self.root, FOLDER, Mode::empty()).map_err(|e| match e {
            Errno::NOENT => StoreError::Unavailable {
                store: self.name(),
                what: "the folder is not there: mount it, or make it".into(),
                source: Box::new(io::Error::from(e)),
            },
            e => self.failed("opening the folder", e),
        })
    }

    /// `Ok` where a key may be used: `.spool` is ours.
    fn allowed(&self, key: &Key) -> Result<(), StoreError> {
        match key.as_str().split('/').next() {
            Some(SPOOL) => Err(StoreError::Refused {
                store: self.name(),
                what: format!("`{key}`: `{SPOOL}` is reserved"),
                source: Box::new(io::Error::from(io::ErrorKind::InvalidInput)),
            }),
            _ => Ok(()),
        }
    }

    /// The object, where there is one: what is no ordinary file and no folder is an error, because somebody put it there.
    fn open_object(&self, key: &Key) -> Result<Option<(File, Stat)>, StoreError> {
        self.allowed(key)?;
        let root = self.root()?;
        // O_NONBLOCK: a FIFO must not hold anything up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let doing = || format!("opening `{key}`");
        let file = match rustix::fs::openat2(&root, key.as_str(), flags, Mode::empty(), BENEATH) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(self.failed(&doing(), e)),
        };
        let raw = rustix::fs::fstat(&file).map_err(|e| self.failed(&doing(), e))?;
        match FileType::from_raw_mode(raw.st_mode) {
            FileType::RegularFile => Ok(Some((file, stat_of(key.clone(), &raw)))),
            FileType::Directory => Ok(None),
            _ => Err(StoreError::Refused {
                store: self.name(),
                what: format!("{}: it is no ordinary file", doing()),
                source: Box::new(io::Error::from(io::ErrorKind::InvalidInput)),
            }),
        }
    }

    fn create(&self, key: &Key, content: &Owned) -> Result<Created, StoreError> {
        self.allowed(key)?;
        // Looked at first: a job that is done again must not copy gigabytes to find that they are there.
        if let Some((file, stat)) = self.open_object(key)? {
            return self.same(key, file, &stat, content);
        }
        let root = self.root()?;
        self.make_spool(&root)?;
        let doing = format!("writing `{key}`");
        let io = |e: io::Error| self.failed(&doing, e);
        // What is linked: a file of the caller's below `.spool`, or a copy of ours.
        let mut temp = None;
        let source = match content {
            Owned::Bytes(bytes) => {
                let mut made = Temp::new(&root).map_err(io)?;
                made.file.write_all(bytes).map_err(io)?;
                temp.insert(made).name.clone()
            }
            Owned::File { path, size, sha256 } => match path.strip_prefix(self.root.join(SPOOL)) {
                Ok(below) => {
                    let name = Path::new(SPOOL).join(below);
                    self.seal(&root, &name, key, *size)?;
                    name
                }
                Err(_) => {
                    let mut made = Temp::new(&root).map_err(io)?;
                    self.copy(path, &mut made.file, key, *size, sha256)?;
                    temp.insert(made).name.clone()
                }
            },
        };
        if let Some(temp) = &temp {
            rustix::fs::fchmod(&temp.file, Mode::from_raw_mode(0o444))
                .and_then(|()| rustix::fs::fsync(&temp.file))
                .map_err(|e| io(e.into()))?;
        }
        let folders = self.make_folders(&root, key)?;
        let folder = folders.last().unwrap_or(&root);
        let name = last(key);
        match rustix::fs::linkat(&root, source, folder, name, AtFlags::empty()) {
            Ok(()) => {
                self.sync(&root, &folders).map_err(|e| self.failed(&doing, e))?;
                Ok(Created::New)
            }
            Err(Errno::EXIST) => match self.open_object(key)? {
                Some((file, stat)) => self.same(key, file, &stat, content),
                None => Err(self.failed(&doing, Errno::ISDIR)),
            },
            // What the caller wrote below `.spool` is gone, or was on another file system.
            Err(e) => Err(self.failed(&doing, e)),
        }
    }

    /// Compares what stands under a key with what was to be written.
    fn same(&self, key: &Key, file: File, stat: &Stat, content: &Owned) -> Result<Created, StoreError> {
        let doing = || format!("comparing `{key}`");
        let conflict = || Err(StoreError::Conflict { store: self.name(), key: key.clone() });
        if stat.size != content.size() {
            return conflict();
        }
        let (_, found) = pour(file, io::sink(), stat.size).map_err(|e| self.failed(&doing(), e.1))?;
        if found != content.sha256() {
            return conflict();
        }
        let root = self.root()?;
        let folders = self.make_folders(&root, key)?;
        self.sync(&root, &folders).map_err(|e| self.failed(&doing(), e))?;
        Ok(Created::Existed)
    }

    /// Makes a file that the caller wrote below `.spool` ready to be linked: it was hashed while it was written there, and
    /// the folder is ours, so it is not read again.
    fn seal(&self, root: &OwnedFd, name: &Path, key: &Key, size: u64) -> Result<(), StoreError> {
        let doing = || format!("taking the spooled file of `{key}`");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat2(root, name, flags, Mode::empty(), BENEATH).map_err(|e| self.failed(&doing(), e))?;
        let raw = rustix::fs::fstat(&file).map_err(|e| self.failed(&doing(), e))?;
        if FileType::from_raw_mode(raw.st_mode) != FileType::RegularFile || unsigned(raw.st_size) != size {
            return Err(self.corrupt(key, format!("{size} bytes announced, the file has {}", raw.st_size)));
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444)).and_then(|()| rustix::fs::fsync(&file)).map_err(|e| self.failed(&doing(), e))
    }

    fn corrupt(&self, key: &Key, detail: String) -> StoreError {
        StoreError::Corrupt { store: self.name(), key: key.clone(), detail }
    }

    fn copy(&self, path: &Path, to: &mut File, key: &Key, size: u64, sha256: &str) -> Result<(), StoreError> {
        let shown = crate::model::text::display_safe(&path.to_string_lossy(), 4096);
        let reading = |e: io::Error| self.failed(&format!("reading {shown}"), e);
        let from =
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).map_err(|e| reading(e.into()))?;
        // One byte more than announced is enough to know that it is another file.
        let (read, found) = pour(File::from(from), to, size.saturating_add(1)).map_err(|(side, e)| match side {
            Side::Reading => reading(e),
            Side::Writing => self.failed(&format!("writing `{key}`"), e),
        })?;
        if read != size {
            return Err(self.corrupt(
                key,
                format!("{size} bytes announced, the file has {}", if read > size { "more".into() } else { read.to_string() }),
            ));
        }
        if found != sha256 {
            return Err(self.corrupt(key, format!("announced {sha256}, found {found}")));
        }
        Ok(())
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), StoreError> {
        self.allowed(key)?;
        let root = self.root()?;
        self.make_spool(&root)?;
        let doing = format!("replacing `{key}`");
        let io = |e: io::Error| self.failed(&doing, e);
        let mut temp = Temp::new(&root).map_err(io)?;
        temp.file.write_all(bytes).map_err(io)?;
        rustix::fs::fchmod(&temp.file, Mode::from_raw_mode(0o644)).map_err(|e| io(e.into()))?;
        rustix::fs::fsync(&temp.file).map_err(|e| io(e.into()))?;
        let folders = self.make_folders(&root, key)?;
        let folder = folders.last().unwrap_or(&root);
        rustix::fs::renameat(&root, &temp.name, folder, last(key)).map_err(|e| io(e.into()))?;
        self.sync(&root, &folders).map_err(|e| io(e.into()))
    }

    /// Folders that were emptied stay: whoever is about to write there must find them.
    fn remove(&self, key: &Key) -> Result<(), StoreError> {
        self.allowed(key)?;
        let root = self.root()?;
        let doing = || format!("removing `{key}`");
        let gone = |e: Errno| matches!(e, Errno::NOENT | Errno::NOTDIR);
        let folder = match key.as_str().rsplit_once('/') {
            None => root,
            Some((folder, _)) => match rustix::fs::openat2(&root, folder, FOLDER, Mode::empty(), BENEATH) {
                Ok(folder) => folder,
                Err(e) if gone(e) => return Ok(()),
                Err(e) => return Err(self.failed(&doing(), e)),
            },
        };
        match rustix::fs::unlinkat(&folder, last(key), AtFlags::empty()) {
            Ok(()) => rustix::fs::fsync(&folder).map_err(|e| self.failed(&doing(), e)),
            // A folder of that name: no object.
            Err(e) if gone(e) || e == Errno::ISDIR => Ok(()),
            Err(e) => Err(self.failed(&doing(), e)),
        }
    }

    fn make_spool(&self, root: &OwnedFd) -> Result<(), StoreError> {
        match rustix::fs::mkdirat(root, SPOOL, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(self.failed("making `.spool`", e)),
        }
    }

    /// The folders of a key, from the top, made where they are missing.
    fn make_folders(&self, root: &OwnedFd, key: &Key) -> Result<Vec<OwnedFd>, StoreError> {
        let mut folders: Vec<OwnedFd> = Vec::new();
        let mut segments: Vec<&str> = key.as_str().split('/').collect();
        segments.pop();
        for segment in segments {
            let parent = folders.last().unwrap_or(root);
            let open = || rustix::fs::openat2(parent, segment, FOLDER, Mode::empty(), BENEATH);
            let folder = match open() {
                Err(Errno::NOENT) => match rustix::fs::mkdirat(parent, segment, Mode::from_raw_mode(0o755)) {
                    Ok(()) => open().and_then(|folder| {
                        // Its number may have been that of a folder which somebody removed: this name is not synced yet.
                        self.named().remove(&number(&folder)?);
                        Ok(folder)
                    }),
                    Err(Errno::EXIST) => open(),
                    Err(e) => Err(e),
                },
                other => other,
            };
            folders.push(folder.map_err(|e| self.failed(&format!("making the folder of `{key}`"), e))?);
        }
        Ok(folders)
    }

    /// Syncs the folder that holds a new name, and from the bottom those that hold the name of a folder not known to be synced.
    fn sync(&self, root: &OwnedFd, folders: &[OwnedFd]) -> Result<(), Errno> {
        rustix::fs::fsync(folders.last().unwrap_or(root))?;
        for (n, folder) in folders.iter().enumerate().rev() {
            let folder = number(folder)?;
            if !self.named().contains(&folder) {
                rustix::fs::fsync(n.checked_sub(1).map_or(root, |above| &folders[above]))?;
                let mut named = self.named();
                if named.len() >= MAX_NAMED {
                    named.clear();
                }
                named.insert(folder);
            }
        }
        Ok(())
    }

    fn named(&self) -> MutexGuard<'_, HashSet<(u64, u64)>> {
        // A set of numbers has no state in between.
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the wanted objects below `base`, in byte order of keys.
    fn walk(&self, root: &OwnedFd, base: &str, wanted: &Wanted<'_>, found: &mut Vec<Stat>) -> Result<(), StoreError> {
        let doing = || format!("listing `{}`", crate::model::text::display_safe(base, 1024));
        let open = || rustix::fs::openat2(root, if base.is_empty() { "." } else { base }, FOLDER, Mode::empty(), BENEATH);
        let folder = match open() {
            Ok(folder) => folder,
            // Removed meanwhile, or a link that was put in its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !base.is_empty() => return Ok(()),
            Err(e) => return Err(self.failed(&doing(), e)),
        };
        // Folders sort as their objects do: with the `/`. Of files, no more are kept than can be asked for.
        let (mut folders, mut files) = (BTreeSet::new(), BTreeSet::new());
        for entry in Dir::read_from(&folder).map_err(|e| self.failed(&doing(), e))? {
            let entry = entry.map_err(|e| self.failed(&doing(), e))?;
            // What is not UTF-8 has no key.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") || (base.is_empty() && name == SPOOL) {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let raw = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
                kind = raw.map_or(FileType::Unknown, |raw| FileType::from_raw_mode(raw.st_mode));
            }
            let path = format!("{base}{name}");
            match kind {
                FileType::Directory => {
                    let path = path + "/";
                    if wanted.folder(&path) && !trial::hidden(&path, wanted.prefix) {
                        folders.insert(path);
                    }
                }
                FileType::RegularFile if wanted.object(&path) && !trial::hidden(&path, wanted.prefix) => {
                    files.insert(path);
                    if files.len() > wanted.most {
                        files.pop_last();
                    }
                }
                _ => {}
            }
        }
        let mut all: Vec<String> = folders.into_iter().chain(files).collect();
        all.sort();
        for path in all {
            if found.len() >= wanted.most {
                break;
            }
            if path.ends_with('/') {
                self.walk(root, &path, wanted, found)?;
                continue;
            }
            let Ok(key) = path.parse::<Key>() else { continue };
            match rustix::fs::statat(&folder, last(&key), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(raw) => found.push(stat_of(key, &raw)),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.failed(&doing(), e)),
            }
        }
        Ok(())
    }

    /// Whether the folder is there and holds what is asked of it; makes it where it is to be written.
    fn place(&self, writable: bool) -> Result<String, StoreError> {
        if writable {
            std::fs::create_dir_all(&self.root).map_err(|e| self.failed("making the folder", e))?;
        }
        let root = self.root()?;
        Dir::read_from(&root).map_err(|e| self.failed("listing the folder", e))?;
        if writable {
            self.make_spool(&root)?;
        }
        let space = rustix::fs::fstatvfs(&root).map_err(|e| self.failed("asking for its size", e))?;
        let mib = space.f_bavail.saturating_mul(space.f_frsize) / (1024 * 1024);
        Ok(format!("{}, {mib} MiB free", self.name()))
    }

    /// Removes what is older than [`STALE`] below `.spool`; returns how many files.
    fn sweep(&self) -> Result<usize, StoreError> {
        let root = self.root()?;
        let before = SystemTime::now().checked_sub(STALE).unwrap_or(SystemTime::UNIX_EPOCH);
        sweep(&root, Path::new(SPOOL), before, 0).map_err(|e| self.failed("sweeping `.spool`", e))
    }
}

fn sweep(root: &OwnedFd, base: &Path, before: SystemTime, depth: usize) -> Result<usize, Errno> {
    let folder = rustix::fs::openat2(root, base, FOLDER, Mode::empty(), BENEATH)?;
    let mut removed = 0;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // Others sweep too, and jobs end: what is gone is fine.
        let Ok(raw) = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let stale = modified(&raw).is_some_and(|m| m < before);
        if FileType::from_raw_mode(raw.st_mode) == FileType::Directory {
            let Ok(name) = name.to_str() else { continue };
            // Of a process that lives, however long nothing was written there, or of one whose next of kin goes by its lock.
            if rustix::fs::statat(&folder, Path::new(name).join(LOCK), AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                continue;
            }
            if depth < SWEEP_DEPTH {
                removed += sweep(root, &base.join(name), before, depth + 1)?;
            }
            if stale {
                // Fails where something is in it, which is what it should do.
                let _ = rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR);
            }
        } else if stale && rustix::fs::unlinkat(&folder, name, AtFlags::empty()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Device and inode.
fn number(folder: &OwnedFd) -> Result<(u64, u64), Errno> {
    rustix::fs::fstat(folder).map(|raw| (raw.st_dev, raw.st_ino))
}

/// Last segment.
fn last(key: &Key) -> &str {
    key.as_str().rsplit('/').next().unwrap_or_default()
}

fn unsigned(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}

fn modified(raw: &RawStat) -> Option<SystemTime> {
    let seconds = u64::try_from(raw.st_mtime).ok()?;
    let nanos = u32::try_from(raw.st_mtime_nsec).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

fn stat_of(key: Key, raw: &RawStat) -> Stat {
    Stat { key, size: unsigned(raw.st_size), sha256: None, modified: modified(raw).and_then(|m| Timestamp::try_from(m).ok()) }
}

/// Which side of a copy failed.
enum Side {
    Reading,
    Writing,
}

/// Copies at most `most` bytes and hashes them: how many, and their SHA-256.
fn pour(mut from: File, mut to: impl io::Write, most: u64) -> Result<(u64, String), (Side, io::Error)> {
    let mut hasher = Sha256::new();
    let mut done = 0u64;
    let mut chunk = vec![0u8; CHUNK];
    while done < most {
        let room = usize::try_from(most - done).unwrap_or(CHUNK).min(CHUNK);
        let n = match from.read(&mut chunk[..room]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err((Side::Reading, e)),
        };
        hasher.update(&chunk[..n]);
        to.write_all(&chunk[..n]).map_err(|e| (Side::Writing, e))?;
        done += n as u64;
    }
    Ok((done, hex::encode(hasher.finalize())))
}

/// A file below `.spool` that goes when this is dropped; its other name, where it got one, stays.
struct Temp<'a> {
    root: &'a OwnedFd,
    name: PathBuf,
    file: File,
}

impl<'a> Temp<'a> {
    fn new(root: &'a OwnedFd) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            // Several machines may share the folder: the process id tells only our own apart, and O_EXCL the rest.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = Path::new(SPOOL).join(format!("{}-{count}-{now:x}.tmp", std::process::id()));
            match rustix::fs::openat2(root, &name, flags, Mode::from_raw_mode(0o600), BENEATH) {
                Ok(descriptor) => return Ok(Self { root, name, file: File::from(descriptor) }),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        // Where it was renamed nothing is there; where it cannot be removed it is swept later.
        let _ = rustix::fs::unlinkat(self.root, &self.name, AtFlags::empty());
    }
}

/// A file that must have as many bytes as it had when it was opened.
struct Whole {
    inner: tokio::fs::File,
    left: u64,
}

impl AsyncRead for Whole {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        if read == 0 {
            let left = self.left;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ended {left} bytes early"))));
        }
        if read > self.left {
            // It grew meanwhile: what was announced is what is given.
            let kept = usize::try_from(self.left).unwrap_or(0);
            buffer.set_filled(before + kept);
        }
        self.left = self.left.saturating_sub(read);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_an_owner_is_not_swept_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(dir.path());
        let spool = store.spool().unwrap();
        let old = SystemTime::now() - STALE * 2;
        for (name, file) in [("owned", LOCK), ("left", "0")] {
            let folder = spool.join(name);
            std::fs::create_dir(&folder).unwrap();
            File::create(folder.join(file)).unwrap().set_modified(old).unwrap();
            File::open(&folder).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(store.blocking(Inner::sweep).await.unwrap(), 1);
        assert!(spool.join("owned").join(LOCK).exists());
        assert!(!spool.join("left").join("0").exists());
    }
}
