//! Files of settings and rules that are found relative to the working directory, and were not named by anybody.
//!
//! A deposit is a folder from outside. Where a person stands in it, or beside what was unpacked with it, its `greffier.toml`
//! would decide where files are sent to be scanned, and its `pipelines/` what is accepted. So a file that is only found is
//! obeyed where nobody else could have written it and where it is no part of what is checked; a file that is named
//! (`--config`, `GREFFIER_CONFIG`, `--pipeline FILE`, an absolute folder) is obeyed as it stands.
//!
//! Unpacking a deposit makes its files the user's own: owner and mode cannot tell them from the user's. What was unpacked
//! beside the folder that is checked is therefore obeyed, and every command says which file it has read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Others may write: the bits of `st_mode` for group and world.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// In a directory with this bit, only the owner of a file may replace it (`S_ISVTX`, inode(7)).
const STICKY: u32 = 0o1000;

/// Why a file that was found is not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum NotObeyed {
    /// It is part of what is checked.
    #[error("CONFIG-IN-DEPOSIT: {path} is part of what is checked ({deposit}): it is not obeyed unless it is named")]
    InDeposit {
        /// The file.
        path: PathBuf,
        /// What is checked.
        deposit: PathBuf,
    },
    /// Somebody else could have written it.
    #[error("CONFIG-UNTRUSTED: {path} is not obeyed unless it is named: {place} {why}")]
    OfOthers {
        /// The file.
        path: PathBuf,
        /// The file, or a directory on the way to it.
        place: PathBuf,
        /// What is wrong with that place.
        why: &'static str,
    },
    /// It cannot be looked at.
    #[error("CONFIG-UNTRUSTED: {path} cannot be looked at")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
}

/// The folders whose content is the deposit, where `paths` are what a command was told to check: folders themselves; for a
/// document or a loose file, the folder that it stands in.
pub fn deposits<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let folder = |path: &Path| {
        let path = path.canonicalize().ok()?;
        if path.is_dir() { Some(path) } else { path.parent().map(Path::to_owned) }
    };
    paths.into_iter().filter_map(folder).collect()
}

/// Checks that `path`, found relative to the working directory, may be obeyed while `deposits` are checked.
///
/// # Errors
/// [`NotObeyed`].
pub fn check(path: &Path, deposits: &[PathBuf]) -> Result<(), NotObeyed> {
    let unreadable = |source| NotObeyed::Unreadable { path: path.to_owned(), source };
    let real = path.canonicalize().map_err(unreadable)?;
    // The folder in which it was found as well: a link from a deposit to elsewhere comes with the deposit.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).canonicalize().map_err(unreadable)?;
    if let Some(deposit) = deposits.iter().find(|deposit| real.starts_with(deposit) || folder.starts_with(deposit)) {
        return Err(NotObeyed::InDeposit { path: path.to_owned(), deposit: deposit.clone() });
    }
    let user = rustix::process::geteuid().as_raw();
    let refuse = |place: &Path, why| Err(NotObeyed::OfOthers { path: path.to_owned(), place: place.to_owned(), why });
    let ours = |uid: u32| uid == user || uid == 0;
    let link = std::fs::symlink_metadata(path).map_err(unreadable)?;
    if !ours(link.uid()) {
        return refuse(path, "belongs to another user");
    }
    // From the file to the working directory, by the way it was found and by where it really stands.
    let here = Path::new(".").canonicalize().map_err(unreadable)?;
    let up = |from: &Path| -> Vec<PathBuf> {
        let inside = from.starts_with(&here);
        from.ancestors().take_while(|at| if inside { at.starts_with(&here) } else { *at == from }).map(Path::to_owned).collect()
    };
    let places = [vec![real.clone()], real.parent().map(up).unwrap_or_default(), up(&folder)].concat();
    for place in places {
        let told = std::fs::metadata(&place).map_err(unreadable)?;
        if !ours(told.uid()) {
            return refuse(&place, "belongs to another user");
        }
        let replaceable = !told.is_dir() || told.mode() & STICKY == 0;
        if told.mode() & WRITABLE_BY_OTHERS != 0 && replaceable {
            return refuse(&place, "can be written by other users (chmod go-w)");
        }
    }
    Ok(())
}

/// Checks the rules in those of `folders` that are relative to the working directory.
///
/// # Errors
/// [`NotObeyed`] for the first file that must not be obeyed.
pub fn check_folders(folders: &[PathBuf]) -> Result<(), NotObeyed> {
    for folder in folders.iter().filter(|folder| folder.is_relative()) {
        // What does not exist holds no rules; what cannot be listed is told by whoever reads it.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "toml")) {
            check(&path, &[])?;
        }
    }
    Ok(())
}
