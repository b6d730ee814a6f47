//! What an S3 server must prove before it is trusted.

use std::io::Write as _;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::errors::{Failed, Kind, failed};
use super::{Body, NO_LOCK, Object, S3Store, base64_of, multipart};
use crate::model::probe::Probe;
use crate::store::trial::{RESERVED, create_only, folder, words};
use crate::store::{Content, Key, Store as _, StoreConfig, StoreError};

/// Tries the server.
pub(super) async fn run(store: &S3Store, writable: bool) -> Vec<Probe> {
    if let Err(e) = store.head_bucket().await {
        return vec![Probe::failed("bucket", words(&store.error("looking at the bucket", None, e)))];
    }
    let mut probes = vec![Probe::passed("bucket", store.name())];
    if !writable {
        probes.push(match store.list("", None, 1).await {
            Ok(_) => Probe::passed("list", "permitted"),
            Err(e) => Probe::failed("list", words(&e)),
        });
        return probes;
    }
    // What is tried is removed again, so it must not be locked.
    let free = S3Store { config: StoreConfig { lock_days: 0, ..store.config.clone() }, ..store.clone() };
    let folder = folder();
    probes.extend(create_only(&free, &folder).await);
    let key = |name: &str| Key::ours(format!("{folder}{name}"));
    if probes.iter().all(|p| p.ok) {
        probes.push(in_parts(&free, &key("parts")).await);
        probes.push(checksum(&free, &key("checksum")).await);
        if !store.config.encryption.is_empty() {
            probes.push(encrypted(&free, &key("encrypted")).await);
        }
        if store.config.lock_days > 0 {
            probes.push(locked(store).await);
        }
    }
    for name in ["parts", "checksum", "encrypted"] {
        let _ = free.remove(&key(name)).await;
    }
    forget_versions(&free, &folder).await;
    probes.push(match multipart::sweep(store).await {
        Ok(0) => Probe::passed("uploads", "none left over"),
        Ok(n) => Probe::passed("uploads", format!("{n} left over from crashes aborted")),
        Err(Failed { kind: Kind::Refused, source, .. }) => {
            Probe::passed("uploads", format!("not looked at, let the bucket's life cycle abort incomplete ones: {source}"))
        }
        Err(e) => Probe::failed("uploads", words(&store.error("listing uploads", None, e))),
    });
    probes
}

/// Completing an upload in parts must be create-only too: some servers heed `If-None-Match` for whole objects only.
async fn in_parts(store: &S3Store, key: &Key) -> Probe {
    const NAME: &str = "create-only in parts";
    let tried = async {
        let (first, second) = (b"first".as_slice(), b"other".as_slice());
        let refused =
            |e: std::io::Error| StoreError::Unavailable { store: store.name(), what: "making a file".into(), source: Box::new(e) };
        store.create(key, Content::Bytes(first), "application/octet-stream").await?;
        let mut file = tempfile::NamedTempFile::new().map_err(refused)?;
        file.write_all(second).map_err(refused)?;
        let sha256 = hex::encode(Sha256::digest(second));
        let object = Object { key, size: second.len() as u64, sha256: &sha256, media_type: "application/octet-stream" };
        match multipart::upload(store, &object, file.path()).await {
            Err(Failed { kind: Kind::Exists, .. }) => Ok(true),
            Ok(_) => Ok(false),
            Err(e) => Err(store.error("writing in parts", Some(key), e)),
        }
    };
    match tried.await {
        Ok(true) => Probe::passed(NAME, "completing over another object is refused"),
        Ok(false) => Probe::failed(
            NAME,
            "an upload in parts replaced another object: this server ignores `If-None-Match: *` there. Use another server, or raise \
             `multipart_from_bytes` above the largest file once it is fixed",
        ),
        Err(e) => Probe::failed(NAME, words(&e)),
    }
}

/// A server that takes bytes with a wrong checksum takes damaged bytes.
async fn checksum(store: &S3Store, key: &Key) -> Probe {
    const NAME: &str = "checksum";
    let sha256 = hex::encode(Sha256::digest(b"what was meant"));
    let bytes = Bytes::from_static(b"what was sent");
    let object = Object { key, size: bytes.len() as u64, sha256: &sha256, media_type: "application/octet-stream" };
    match store.put(&object, &Body::Memory(bytes), true, &base64_of(&sha256)).await {
        Ok(_) => Probe::failed(
            NAME,
            "bytes were taken that their checksum does not fit: this server does not compare `x-amz-checksum-sha256`, and what is damaged \
             on the way would be kept. Use one that does",
        ),
        Err(Failed { kind: Kind::Corrupt, .. }) => Probe::passed(NAME, "bytes that their checksum does not fit are refused"),
        Err(e) => Probe::failed(NAME, words(&store.error("sending a wrong checksum", None, e))),
    }
}

async fn encrypted(store: &S3Store, key: &Key) -> Probe {
    const NAME: &str = "encryption";
    // Writing reads it back.
    match store.create(key, Content::Bytes(b"encrypted"), "application/octet-stream").await {
        Ok(_) => Probe::passed(NAME, format!("read back: {}", store.config.encryption)),
        Err(e) => Probe::failed(NAME, words(&e)),
    }
}

/// What is locked stays: one object a day, whatever starts how often.
async fn locked(store: &S3Store) -> Probe {
    const NAME: &str = "object lock";
    let days = store.config.lock_days;
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let key = Key::ours(format!("{RESERVED}locked/{days}-days/{today}"));
    let tried = async {
        store.create(&key, Content::Bytes(b"locked"), "application/octet-stream").await?;
        store.head(&key).await.map_err(|e| store.error("reading the lock back", None, e))
    };
    let until = |head: &HeadObjectOutput| head.object_lock_retain_until_date.as_ref().map(ToString::to_string).unwrap_or_default();
    match tried.await {
        Ok(Some(head)) if store.locked(&head) => Probe::passed(NAME, format!("read back: `{key}` stays until {}", until(&head))),
        Ok(_) => Probe::failed(NAME, NO_LOCK),
        Err(e) => Probe::failed(NAME, words(&e)),
    }
}

/// In a bucket with versions, what was removed is still there: as far as permitted, the versions of this trial go for good.
async fn forget_versions(store: &S3Store, folder: &str) {
    let request = store.client.list_object_versions().bucket(&store.config.bucket).prefix(format!("{}{folder}", store.config.prefix));
    let Ok(answer) = request.send().await.map_err(failed) else { return };
    let versions = answer.versions.unwrap_or_default().into_iter().map(|v| (v.key, v.version_id));
    let markers = answer.delete_markers.unwrap_or_default().into_iter().map(|m| (m.key, m.version_id));
    for (key, version) in versions.chain(markers) {
        if let (Some(key), Some(version)) = (key, version) {
            let _ = store.client.delete_object().bucket(&store.config.bucket).key(key).version_id(version).send().await;
        }
    }
}
