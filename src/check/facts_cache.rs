//! Facts by content: `facts/<inspector version>-<limits>/<sha256>.json` in a directory.
//!
//! Facts are a pure function of bytes, inspector version and limits; that triple is the key, so an entry never
//! goes stale. A file is written beside its place and renamed into it: a reader sees all of it or nothing.

use std::io::Write as _;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::inspect::Limits;
use crate::model::facts::{Facts, INSPECTOR_VERSION};

/// A directory of facts.
#[derive(Debug, Clone)]
pub struct FactsCache {
    root: PathBuf,
}

impl FactsCache {
    /// The cache under `root`; nothing is created before the first entry.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, sha256: &str, limits: &Limits) -> PathBuf {
        // Limits are plain numbers: they always serialise.
        let limits = serde_json::to_vec(limits).unwrap_or_default();
        let limits = hex::encode(&Sha256::digest(&limits)[..6]);
        let shard = sha256.get(..2).unwrap_or("xx");
        self.root.join(format!("{INSPECTOR_VERSION}-{}-{limits}", env!("CARGO_PKG_VERSION"))).join(shard).join(format!("{sha256}.json"))
    }

    /// The facts of these bytes, where they are known. A damaged entry is as good as none.
    pub fn get(&self, sha256: &str, limits: &Limits) -> Option<Facts> {
        let bytes = std::fs::read(self.path(sha256, limits)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps the facts of these bytes, unless they tell of a technical failure that the next look may not meet.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn put(&self, sha256: &str, limits: &Limits, facts: &Facts) -> std::io::Result<()> {
        if facts.has("sandbox-wall") {
            return Ok(());
        }
        let path = self.path(sha256, limits);
        let folder = path.parent().ok_or_else(|| std::io::Error::other("a cache entry has a folder"))?;
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, facts)?;
        file.flush()?;
        file.persist(&path).map_err(|e| e.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_and_other_limits_are_another_entry() {
        let dir = tempfile::tempdir().unwrap();
        let cache = FactsCache::new(dir.path());
        let limits = Limits::default();
        cache.put("abcd", &limits, &Facts::of_size(3)).unwrap();
        assert_eq!(cache.get("abcd", &limits), Some(Facts::of_size(3)));
        assert_eq!(cache.get("abcd", &Limits { max_depth: 9, ..limits }), None);
    }

    #[test]
    fn a_damaged_entry_is_as_good_as_none_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = FactsCache::new(dir.path());
        let limits = Limits::default();
        cache.put("abcd", &limits, &Facts::of_size(3)).unwrap();
        std::fs::write(cache.path("abcd", &limits), b"{").unwrap();
        assert_eq!(cache.get("abcd", &limits), None);
        cache.put("abcd", &limits, &Facts::of_size(4)).unwrap();
        assert_eq!(cache.get("abcd", &limits), Some(Facts::of_size(4)));
    }

    #[test]
    fn a_technical_failure_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = FactsCache::new(dir.path());
        let mut facts = Facts::of_size(3);
        facts.push(crate::model::Signal::new("sandbox-wall"));
        cache.put("abcd", &Limits::default(), &facts).unwrap();
        assert_eq!(cache.get("abcd", &Limits::default()), None);
    }
}
