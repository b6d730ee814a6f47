//! The folder of this process for files of jobs under way. It goes with the process; what a killed one left behind is
//! swept by the next that starts.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A folder that is ours as long as we live.
#[derive(Debug)]
pub struct Spool {
    folder: tempfile::TempDir,
    /// Held for the life of the process: a folder whose lock can be taken belongs to nobody any more.
    _lock: File,
}

const PREFIX: &str = "worker-";
/// Stores that sweep their own spool by age leave a folder with this file alone.
const LOCK: &str = crate::store::directory::LOCK;

impl Spool {
    /// Makes a folder below `root`, and sweeps those of dead processes.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn open(root: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(root)?;
        // Whoever owns the folder could put other files in the place of ours.
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(root)?);
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it belongs to another user (uid {owner})")));
        }
        sweep(root);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(root)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where jobs put their files.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Bytes of the files that lie there now.
    pub fn bytes(&self) -> u64 {
        // Folders of jobs that end meanwhile count for nothing.
        let files = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| e.ok()?.metadata().ok());
        let jobs = std::fs::read_dir(self.path()).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
        jobs.flat_map(files).map(|m| m.len()).sum()
    }
}

/// Best effort: what cannot be swept now is swept later, and is told.
fn sweep(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    let folders: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX)))
        .collect();
    for folder in folders {
        // A folder without lock file is being made at this very moment, or was never finished: the next sweep tells.
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => {
                if let Err(e) = std::fs::remove_dir_all(&folder) {
                    tracing::warn!(error = %e, folder = %folder.display(), "the files of a dead worker could not be swept");
                }
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => {
                tracing::warn!(error = %e, folder = %folder.display(), "the spool of another worker cannot be read")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_swept_and_the_living_are_not() {
        let root = tempfile::tempdir().unwrap();
        let living = Spool::open(root.path()).unwrap();
        let dead = root.path().join("worker-dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), "").unwrap();
        std::fs::write(dead.join("0"), "bytes").unwrap();
        let next = Spool::open(root.path()).unwrap();
        assert!(living.path().is_dir() && next.path().is_dir());
        assert!(!dead.exists());
    }
}
