//! Facts by content: `<inspector version>-<program version>-<limits>/<first two digits>/<sha256>.json`.
//!
//! Facts are a pure function of bytes, inspector version and limits; that triple is the key, so an entry never
//! goes stale. One machine keeps them in a directory; a fleet shares them through its vault. A cache that fails is
//! only slower: it says so in the log, and the file is looked at again.
//!
//! What a clock ended is no function of the bytes: a slow machine ends what a fast one reads. It is never kept as facts, so
//! that the next look may say more. That the inspection of the same bytes ended early twice is kept apart from facts
//! (`.ended`, `.aside`); from then on they are not opened again, and the finding is the same each time.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::inspect::Limits;
use crate::model::facts::{Facts, INSPECTOR_VERSION};
use crate::store::{Content, Created, Key, Store};

/// Largest entry that is read, bytes: above the largest answer of a child (`sandbox.max_reply_bytes`).
const MAX_ENTRY: u64 = 64 * 1024 * 1024;

/// Signals of an inspection that a clock ended: on the wall, of the processor as the kernel counts it (`RLIMIT_CPU`), and of
/// the processor as the inspection itself looks at it, its last resort behind counted work.
pub const ENDED_BY_CLOCK: [&str; 3] = ["sandbox-wall", "sandbox-cpu", "inspect-clock"];

/// Whether a clock ended the inspection that gave `facts`, of the file or of one of its members.
pub fn ended_by_clock(facts: &Facts) -> bool {
    ENDED_BY_CLOCK.iter().any(|code| facts.has_anywhere(code))
}

/// Where facts are kept.
#[derive(Debug, Clone)]
pub struct FactsCache(Kept);

#[derive(Debug, Clone)]
enum Kept {
    Directory(PathBuf),
    /// Below this prefix of a store.
    Store(Arc<dyn Store>, String),
}

impl FactsCache {
    /// The cache in a directory; nothing is created before the first entry.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(Kept::Directory(root.into()))
    }

    /// The cache in a store, below `prefix` (`facts/`).
    pub fn in_store(store: Arc<dyn Store>, prefix: &str) -> Self {
        Self(Kept::Store(store, prefix.to_owned()))
    }

    fn name(sha256: &str, limits: &Limits, extension: &str) -> String {
        // Limits are plain numbers: they always serialise.
        let limits = serde_json::to_vec(limits).unwrap_or_default();
        let limits = hex::encode(&Sha256::digest(&limits)[..6]);
        let shard = sha256.get(..2).unwrap_or("xx");
        format!("{INSPECTOR_VERSION}-{}-{limits}/{shard}/{sha256}.{extension}", env!("CARGO_PKG_VERSION"))
    }

    /// The facts of these bytes, where they are known. A damaged entry is as good as none.
    pub async fn get(&self, sha256: &str, limits: &Limits) -> Option<Facts> {
        let bytes = self.read(&Self::name(sha256, limits, "json")).await?;
        // A hundred milliseconds for the largest: too long for a thread that others wait for.
        let facts: Option<Facts> = tokio::task::spawn_blocking(move || serde_json::from_slice(&bytes).ok()).await.ok()?;
        facts.filter(|facts| !ended_by_clock(facts))
    }

    async fn read(&self, name: &str) -> Option<Vec<u8>> {
        match &self.0 {
            Kept::Directory(root) => tokio::fs::read(root.join(name)).await.ok(),
            Kept::Store(store, prefix) => match store.open(&Key::ours(format!("{prefix}{name}"))).await {
                Ok(Some(opened)) => {
                    let mut bytes = Vec::new();
                    let read = opened.reader.take(MAX_ENTRY).read_to_end(&mut bytes).await;
                    read.inspect_err(|e| tracing::warn!(error = %e, "cached facts could not be read; the file is looked at again")).ok()?;
                    Some(bytes)
                }
                Ok(None) => None,
                Err(e) => {
                    tracing::warn!(error = %e, "cached facts could not be read; the file is looked at again");
                    None
                }
            },
        }
    }

    /// Keeps the facts of these bytes, unless a clock ended their inspection: the next look may say more. A failure to keep
    /// them is logged.
    pub async fn put(&self, sha256: &str, limits: &Limits, facts: &Facts) {
        if ended_by_clock(facts) {
            return;
        }
        let kept = match serde_json::to_vec(facts) {
            Ok(bytes) => self.write(&Self::name(sha256, limits, "json"), &bytes).await.map(|_| ()),
            Err(e) => Err(e.into()),
        };
        if let Err(e) = kept {
            tracing::warn!(error = %e, "facts could not be cached; the next run will look again");
        }
    }

    /// Notes that the inspection of these bytes was ended by a clock or from outside; returns whether it is not the first
    /// time, and then they are set aside. Once may be the machine's doing.
    pub async fn ended_early(&self, sha256: &str, limits: &Limits) -> bool {
        let noted = match self.write(&Self::name(sha256, limits, "ended"), b"1").await {
            Ok(Created::Existed) => self.write(&Self::name(sha256, limits, "aside"), b"1").await.map(|_| true),
            Ok(_) => Ok(false),
            Err(e) => Err(e),
        };
        noted.unwrap_or_else(|e| {
            tracing::warn!(error = %e, "that the inspection of a file ended early could not be noted; the next run opens it again");
            false
        })
    }

    /// Whether these bytes were set aside by [`FactsCache::ended_early`]: they are not opened again.
    pub async fn is_set_aside(&self, sha256: &str, limits: &Limits) -> bool {
        self.read(&Self::name(sha256, limits, "aside")).await.is_some()
    }

    /// Writes an entry whole or not at all. An entry of a store is never replaced: whoever wrote it first had the same facts.
    async fn write(&self, name: &str, bytes: &[u8]) -> Result<Created, Box<dyn std::error::Error + Send + Sync>> {
        match &self.0 {
            Kept::Directory(root) => {
                let path = root.join(name);
                let folder = path.parent().ok_or("a cache entry has a folder")?;
                std::fs::create_dir_all(folder)?;
                let existed = path.exists();
                let mut file = tempfile::NamedTempFile::new_in(folder)?;
                file.write_all(bytes)?;
                file.persist(&path).map_err(|e| e.error)?;
                Ok(if existed { Created::Existed } else { Created::New })
            }
            Kept::Store(store, prefix) => {
                let key = Key::ours(format!("{prefix}{name}"));
                match store.create(&key, Content::Bytes(bytes), crate::model::message::JSON).await {
                    // A damaged entry would be looked at anew each time.
                    Err(crate::store::StoreError::Conflict { .. }) => {
                        store.replace(&key, bytes, crate::model::message::JSON).await?;
                        Ok(Created::Existed)
                    }
                    other => Ok(other?),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, FactsCache, Limits) {
        let dir = tempfile::tempdir().unwrap();
        let cache = FactsCache::new(dir.path());
        (dir, cache, Limits::default())
    }

    #[tokio::test]
    async fn facts_come_back_and_other_limits_are_another_entry() {
        let (_dir, cache, limits) = cache();
        cache.put("abcd", &limits, &Facts::of_size(3)).await;
        assert_eq!(cache.get("abcd", &limits).await, Some(Facts::of_size(3)));
        assert_eq!(cache.get("abcd", &Limits { max_depth: 9, ..limits }).await, None);
    }

    #[tokio::test]
    async fn a_damaged_entry_is_as_good_as_none_and_is_replaced() {
        let (dir, cache, limits) = cache();
        cache.put("abcd", &limits, &Facts::of_size(3)).await;
        std::fs::write(dir.path().join(FactsCache::name("abcd", &limits, "json")), b"{").unwrap();
        assert_eq!(cache.get("abcd", &limits).await, None);
        cache.put("abcd", &limits, &Facts::of_size(4)).await;
        assert_eq!(cache.get("abcd", &limits).await, Some(Facts::of_size(4)));
    }

    #[tokio::test]
    async fn what_a_clock_ended_is_not_kept_as_facts() {
        use crate::model::facts::{ArchiveFacts, Detail, MemberFacts};
        let (_dir, cache, limits) = cache();
        for code in ENDED_BY_CLOCK {
            let mut facts = Facts::of_size(3);
            facts.push(crate::model::Signal::new(code));
            let members = vec![MemberFacts { facts: Some(Box::new(facts.clone())), ..MemberFacts::default() }];
            let archive = Detail::Archive(ArchiveFacts { members, ..ArchiveFacts::default() });
            let outer = Facts { detail: Some(archive), ..Facts::of_size(30) };
            for facts in [facts, outer] {
                cache.put("abcd", &limits, &facts).await;
                assert_eq!(cache.get("abcd", &limits).await, None, "{code}");
            }
        }
    }

    #[tokio::test]
    async fn bytes_whose_inspection_ended_early_twice_are_set_aside_beside_their_facts() {
        let (_dir, cache, limits) = cache();
        assert!(!cache.ended_early("abcd", &limits).await);
        assert!(!cache.is_set_aside("abcd", &limits).await);
        assert!(cache.ended_early("abcd", &limits).await);
        assert!(cache.is_set_aside("abcd", &limits).await);
        assert_eq!(cache.get("abcd", &limits).await, None, "no facts follow from it");
        assert!(!cache.ended_early("ef01", &limits).await && !cache.is_set_aside("ef01", &limits).await);
    }
}
