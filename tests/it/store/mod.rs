//! Stores: one suite for both fittings, then what is particular to each, against a real S3 server and against servers of
//! ours that misbehave.

mod conformance;
mod directory;
mod proxy;
mod s3;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use greffier::store::{Content, Created, Key, Store, StoreError};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

/// Every test of the suite, for both fittings.
macro_rules! suite {
    ($($name:ident)*) => {
        mod directory_conforms {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::conformance::$name(&super::directory::store(dir.path())).await;
            })*
        }
        mod s3_conforms {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs S3; run by scripts/test"]
            async fn $name() {
                let bucket = super::s3::bucket().await;
                super::conformance::$name(&super::s3::store(&bucket).await).await;
            })*
        }
    };
}

suite! {
    what_is_created_is_there_and_stays
    of_writers_at_once_exactly_one_wins
    a_file_is_stored_whole
    a_large_file_is_stored_whole
    what_is_not_what_its_digest_says_leaves_nothing
    nothing_is_an_object_too
    what_is_not_there_is_none
    listings_go_on_where_they_ended_in_byte_order
    strange_keys_are_kept_as_they_are
    a_record_is_replaced_and_removed
    it_passes_its_own_probe
}

fn key(text: impl Into<String>) -> Key {
    text.into().parse().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Bytes that do not repeat at any size of part or buffer.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

async fn create(store: &dyn Store, key: &Key, bytes: &[u8]) -> Result<Created, StoreError> {
    store.create(key, Content::Bytes(bytes), "application/octet-stream").await
}

async fn create_file(store: &dyn Store, key: &Key, path: &Path, bytes: &[u8]) -> Result<Created, StoreError> {
    let sha256 = digest(bytes);
    std::fs::write(path, bytes).unwrap();
    store.create(key, Content::File { path, size: bytes.len() as u64, sha256: &sha256 }, "application/octet-stream").await
}

async fn read(store: &dyn Store, key: &Key) -> Option<Vec<u8>> {
    let mut opened = store.open(key).await.unwrap()?;
    let mut bytes = Vec::new();
    opened.reader.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(opened.stat.size, bytes.len() as u64);
    Some(bytes)
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix, None, 10_000).await.unwrap().into_iter().map(|s| s.key.as_str().to_owned()).collect()
}

/// Different in every call of this process and of others.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{}-{}-{now:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
