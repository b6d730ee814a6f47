//! Writing a large file in parts: create-only at its completion, checked part by part and as a whole.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ObjectLockMode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::errors::{Failed, Kind, failed};
use super::{DAY, Object, S3Store, SHA256};

const MIB: u64 = 1024 * 1024;

/// Smallest part of ours.
const PART: u64 = 8 * MIB;

/// Bytes hashed at once.
const CHUNK: usize = 256 * 1024;

/// Most parts of an object (user guide, « Multipart upload limits »).
const MOST_PARTS: u64 = 10_000;

/// Age from which an upload that nobody completed is aborted, seconds.
const STALE: i64 = DAY as i64;

/// Bytes of one part of an object of `size` bytes.
fn part_size(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(MIB).max(PART)
}

/// Sends the file and completes the object where nothing is there. Returns its checksum, as the server has it: that of the
/// parts' checksums.
pub(super) async fn upload(store: &S3Store, object: &Object<'_>, path: &Path) -> Result<String, Failed> {
    let request = store
        .client
        .create_multipart_upload()
        .bucket(&store.config.bucket)
        .key(store.path(object.key))
        .content_type(object.media_type)
        .metadata(SHA256, object.sha256)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .set_server_side_encryption(store.encryption())
        .set_ssekms_key_id(store.config.kms_key_id.clone())
        .set_object_lock_mode(store.locked_until().map(|_| ObjectLockMode::Compliance))
        .set_object_lock_retain_until_date(store.locked_until());
    let id = request.send().await.map_err(failed)?.upload_id.unwrap_or_default();
    let done = match parts(store, object, path, &id).await {
        Ok(parts) => complete(store, object, &id, parts).await,
        Err(e) => Err(e),
    };
    if let Err(e) = &done
        && e.kind != Kind::NoUpload
    {
        // Where this fails too, the next probe finds it.
        let _ = abort(store, &store.path(object.key), &id).await;
    }
    match done {
        // An earlier attempt of the same request was done, and its answer was lost: the caller looks what is there.
        Err(e) if e.kind == Kind::NoUpload => Err(Failed { kind: Kind::Exists, ..e }),
        done => done,
    }
}

/// Sends the parts, several at once, and compares the whole with its digest before anything is completed.
async fn parts(store: &S3Store, object: &Object<'_>, path: &Path, id: &str) -> Result<Vec<CompletedPart>, Failed> {
    let unreadable = |e: std::io::Error| Failed::new(Kind::Unavailable, "the file cannot be read", e);
    let shared: Arc<Path> = Arc::from(path);
    let opened = Arc::clone(&shared);
    let file = Arc::new(blocking(move || File::open(opened)).await?.map_err(unreadable)?);
    let mut whole = Sha256::new();
    // Dropped, it aborts what is under way.
    let mut sending = JoinSet::new();
    let mut sent = Vec::new();
    let size = part_size(object.size);
    for (number, offset) in (1..).zip((0..object.size).step_by(usize::try_from(size).unwrap_or(usize::MAX))) {
        let turn = Arc::clone(&store.parts).acquire_owned().await.map_err(|e| Failed::new(Kind::Unavailable, "", e))?;
        let length = size.min(object.size - offset);
        let file = Arc::clone(&file);
        let (digest, hasher) = blocking(move || hash(&file, offset, length, whole)).await?.map_err(unreadable)?;
        whole = hasher;
        let part = Part { number, offset, length, digest };
        let (store, key, path, id) = (store.clone(), store.path(object.key), Arc::clone(&shared), id.to_owned());
        sending.spawn(async move {
            let sent = send(&store, key, id, &path, part).await;
            drop(turn);
            sent
        });
        while let Some(ended) = sending.try_join_next() {
            sent.push(ended.map_err(|e| Failed::new(Kind::Unavailable, "", e))??);
        }
    }
    while let Some(ended) = sending.join_next().await {
        sent.push(ended.map_err(|e| Failed::new(Kind::Unavailable, "", e))??);
    }
    let found = hex::encode(whole.finalize());
    if found != object.sha256 {
        return Err(Failed::new(Kind::Corrupt, "", format!("announced {}, found {found}", object.sha256)));
    }
    sent.sort_by_key(|part| part.part_number);
    Ok(sent)
}

/// A part of the file.
struct Part {
    number: i32,
    offset: u64,
    length: u64,
    /// SHA-256 as headers have it.
    digest: String,
}

/// Digest of one part, and that of the whole so far. What was read lies in the system's cache when it is sent.
fn hash(file: &File, mut offset: u64, length: u64, mut whole: Sha256) -> std::io::Result<(String, Sha256)> {
    let mut part = Sha256::new();
    let mut chunk = vec![0u8; CHUNK];
    let mut left = length;
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        file.read_exact_at(&mut chunk[..room], offset)?;
        part.update(&chunk[..room]);
        whole.update(&chunk[..room]);
        offset += room as u64;
        left -= room as u64;
    }
    Ok((BASE64_STANDARD.encode(part.finalize()), whole))
}

async fn send(store: &S3Store, key: String, id: String, path: &Path, part: Part) -> Result<CompletedPart, Failed> {
    let Part { number, offset, length, digest } = part;
    let body = ByteStream::read_from().path(path).offset(offset).length(Length::Exact(length)).build().await;
    let body = body.map_err(|e| Failed::new(Kind::Unavailable, "the file cannot be read", e))?;
    let request = store
        .client
        .upload_part()
        .bucket(&store.config.bucket)
        .key(key)
        .upload_id(id)
        .part_number(number)
        .checksum_sha256(&digest)
        .body(body)
        .customize()
        .config_override(store.upload_limit(length))
        // The checksum is signed, and binds the body.
        .disable_payload_signing();
    let answer = request.send().await.map_err(failed)?;
    if let Some(found) = answer.checksum_sha256.filter(|found| *found != digest) {
        return Err(Failed::new(Kind::Corrupt, "", format!("part {number}: checksum {digest} sent, {found} stored")));
    }
    Ok(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).checksum_sha256(digest).build())
}

async fn complete(store: &S3Store, object: &Object<'_>, id: &str, parts: Vec<CompletedPart>) -> Result<String, Failed> {
    let expected = composite(parts.iter().filter_map(CompletedPart::checksum_sha256));
    let request = store
        .client
        .complete_multipart_upload()
        .bucket(&store.config.bucket)
        .key(store.path(object.key))
        .upload_id(id)
        .if_none_match("*")
        .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
        .customize()
        // The server puts the parts together meanwhile.
        .config_override(store.upload_limit(object.size));
    let answer = request.send().await.map_err(failed)?;
    match answer.checksum_sha256 {
        Some(found) if found != expected => Err(Failed::new(Kind::Corrupt, "", format!("checksum {expected} sent, {found} stored"))),
        _ => Ok(expected),
    }
}

/// Checksum of checksums (user guide, « Composite checksums »).
fn composite<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    let mut count = 0;
    for part in parts {
        hasher.update(BASE64_STANDARD.decode(part).unwrap_or_default());
        count += 1;
    }
    format!("{}-{count}", BASE64_STANDARD.encode(hasher.finalize()))
}

async fn abort(store: &S3Store, path: &str, id: &str) -> Result<(), Failed> {
    let request = store.client.abort_multipart_upload().bucket(&store.config.bucket).key(path).upload_id(id);
    request.send().await.map(|_| ()).map_err(failed)
}

/// Aborts uploads below the store's prefix that nobody completed within a day; returns how many.
pub(super) async fn sweep(store: &S3Store) -> Result<usize, Failed> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    let (mut key, mut id) = (None, None);
    let mut aborted = 0;
    loop {
        let request = store
            .client
            .list_multipart_uploads()
            .bucket(&store.config.bucket)
            .prefix(&store.config.prefix)
            .set_key_marker(key.take())
            .set_upload_id_marker(id.take());
        let answer = request.send().await.map_err(failed)?;
        for upload in answer.uploads.unwrap_or_default() {
            let stale = upload.initiated.is_some_and(|at| at.secs() < now - STALE);
            if let (true, Some(path), Some(id)) = (stale, &upload.key, &upload.upload_id) {
                match abort(store, path, id).await {
                    Ok(()) => aborted += 1,
                    Err(e) if e.kind == Kind::NoUpload => {}
                    Err(e) => return Err(e),
                }
            }
        }
        (key, id) = (answer.next_key_marker, answer.next_upload_id_marker);
        if answer.is_truncated != Some(true) || key.is_none() {
            return Ok(aborted);
        }
    }
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    tokio::task::spawn_blocking(job).await.map_err(|e| Failed::new(Kind::Unavailable, "", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_object_has_parts_of_a_lawful_size_and_number() {
        assert_eq!(part_size(5 * MIB), PART);
        for size in [PART, 80_000 * MIB, 80_001 * MIB, 5 * 1024 * 1024 * MIB] {
            let part = part_size(size);
            assert!(size.div_ceil(part) <= MOST_PARTS && part >= PART && part.is_multiple_of(MIB), "{size}: {part}");
        }
    }
}
