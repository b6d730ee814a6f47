//! Amazon S3, and servers that speak its protocol, as a store.
//!
//! Goals:
//! 1. **Create-only by the server**: every write carries `If-None-Match: *`, also the completion of one in parts; a server
//!    that ignores it is refused by [`Store::probe`].
//! 2. **Checked on both sides**: the SHA-256 of what is sent travels as `x-amz-checksum-sha256`, which the server compares,
//!    and what it answers is compared with ours. The whole object's digest stays in its metadata (`sha256`), and whoever
//!    reads the object to its end gets an error where the bytes are others.
//! 3. **Constant memory**: files stream from the disk, parts too; how many are sent at once is bounded over all
//!    writes of a store.
//! 4. **No type of the SDK leaves this module.**

mod errors;
mod multipart;
mod read;
mod trial;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime, Length};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode, ServerSideEncryption};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;

use self::errors::{Failed, Kind, failed};
use super::{Content, Created, Key, Opened, Stat, Store, StoreConfig, StoreError};
use crate::model::probe::Probe;

/// How long a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a body may stand still before it is given up.
const STALL: Duration = Duration::from_secs(20);

/// Slowest upload that is waited for, bytes per second: an upload has the time of a request and that of its body.
const SLOWEST: u64 = 256 * 1024;

/// Waits between attempts of ours and of the SDK: the first, and the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Parts that are sent at once, over all writes of a store.
const PARTS_AT_ONCE: usize = 4;

/// Most objects of one answer to a listing (API reference, `ListObjectsV2`).
const PAGE: usize = 1000;

/// Metadata entry that holds the digest of the whole object, lower-case hex.
const SHA256: &str = "sha256";

const NO_LOCK: &str = "the object is not locked for `lock_days`: make the bucket with object lock";

const DAY: u64 = 24 * 3600;

/// A bucket, or what lies below a prefix of it.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    config: StoreConfig,
    parts: Arc<Semaphore>,
}

/// Bytes to be sent.
enum Body<'a> {
    Memory(Bytes),
    File(&'a Path),
}

/// What is written under a key, besides the bytes.
struct Object<'a> {
    key: &'a Key,
    size: u64,
    /// Lower-case hex.
    sha256: &'a str,
    media_type: &'a str,
}

impl S3Store {
    /// The store that `config` names, with the credentials of the usual places: environment, profiles, web identity,
    /// container, instance. Sends nothing yet.
    pub async fn new(config: &StoreConfig) -> Self {
        Self::build(config, None).await
    }

    /// The same with credentials that are given.
    pub async fn with_credentials(config: &StoreConfig, access_key_id: &str, secret_access_key: &str) -> Self {
        let credentials = Credentials::new(access_key_id, secret_access_key, None, None, "given");
        Self::build(config, Some(credentials)).await
    }

    async fn build(config: &StoreConfig, credentials: Option<Credentials>) -> Self {
        use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
        let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(request_timeout(config)).build();
        let retries = RetryConfig::standard()
            .with_max_attempts(config.max_attempts.max(1))
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(LONGEST_BACKOFF);
        let stalls = StalledStreamProtectionConfig::enabled().grace_period(STALL).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(retries)
            .stalled_stream_protection(stalls)
            // Digests are ours: the SDK adds none of its own, which some servers would refuse.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &config.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(credentials) = credentials {
            loader = loader.credentials_provider(credentials);
        }
        let shared = loader.load().await;
        let client = Client::from_conf(aws_sdk_s3::config::Builder::from(&shared).force_path_style(config.path_style).build());
        Self { client, config: config.clone(), parts: Arc::new(Semaphore::new(PARTS_AT_ONCE)) }
    }

    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.config.prefix, key = key.as_str())
    }

    /// The object's key as the caller knows it; `None` for what no key can name.
    fn key(&self, path: &str) -> Option<Key> {
        path.strip_prefix(&self.config.prefix)?.parse().ok()
    }

    /// `doing` failed.
    fn error(&self, doing: &str, key: Option<&Key>, failed: Failed) -> StoreError {
        let Failed { kind, advice, source } = failed;
        let store = self.name();
        let what = match advice {
            "" => doing.to_owned(),
            advice => format!("{doing}: {advice}"),
        };
        match (kind, key) {
            (Kind::Corrupt, Some(key)) => StoreError::Corrupt { store, key: key.clone(), detail: source.to_string() },
            (Kind::Unavailable | Kind::Contended, _) => StoreError::Unavailable { store, what, source },
            _ => StoreError::Refused { store, what, source },
        }
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        (!self.config.encryption.is_empty()).then(|| ServerSideEncryption::from(self.config.encryption.as_str()))
    }

    /// Until when what is written now is locked.
    fn locked_until(&self) -> Option<DateTime> {
        let days = u64::from(self.config.lock_days);
        (days > 0).then(|| DateTime::from(SystemTime::now() + Duration::from_secs(days * DAY)))
    }

    /// Time limit of one attempt to send `size` bytes.
    fn upload_limit(&self, size: u64) -> aws_sdk_s3::config::Builder {
        let limit = request_timeout(&self.config) + Duration::from_secs(size / SLOWEST);
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(limit).build();
        aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
    }

    /// One PutObject; `Ok` holds the checksum that the server answers.
    async fn put(&self, object: &Object<'_>, body: &Body<'_>, create_only: bool, checksum: &str) -> Result<Option<String>, Failed> {
        let stream = match body {
            Body::Memory(bytes) => ByteStream::from(bytes.clone()),
            Body::File(path) => {
                let opened = ByteStream::read_from().path(path).length(Length::Exact(object.size)).build().await;
                opened.map_err(|e| Failed::new(Kind::Unavailable, "the file cannot be read", e))?
            }
        };
        let request = self
            .client
            .put_object()
            .bucket(&self.config.bucket)
            .key(self.path(object.key))
            .content_type(object.media_type)
            .metadata(SHA256, object.sha256)
            .checksum_sha256(checksum)
            .set_if_none_match(create_only.then(|| "*".to_owned()))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.config.kms_key_id.clone())
            .set_object_lock_mode(self.locked_until().filter(|_| create_only).map(|_| ObjectLockMode::Compliance))
            .set_object_lock_retain_until_date(self.locked_until().filter(|_| create_only))
            .body(stream)
            .customize()
            .config_override(self.upload_limit(object.size))
            // The checksum is signed, and binds the body.
            .disable_payload_signing();
        let answer = request.send().await.map_err(failed)?;
        Ok(answer.checksum_sha256)
    }

    async fn head(&self, key: &Key) -> Result<Option<HeadObjectOutput>, Failed> {
        let request = self.client.head_object().bucket(&self.config.bucket).key(self.path(key)).checksum_mode(ChecksumMode::Enabled);
        match request.send().await.map_err(failed) {
            Ok(head) => Ok(Some(head)),
            Err(Failed { kind: Kind::Missing, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn head_bucket(&self) -> Result<(), Failed> {
        match self.client.head_bucket().bucket(&self.config.bucket).send().await.map_err(failed) {
            Ok(_) => Ok(()),
            Err(Failed { kind: Kind::Missing, source, .. }) => Err(Failed { kind: Kind::Refused, advice: errors::NO_BUCKET, source }),
            Err(e) => Err(e),
        }
    }

    /// Writes, and says whether it was there; conflicting writes of others at the same time are waited out.
    async fn write(&self, object: &Object<'_>, body: &Body<'_>) -> Result<Created, StoreError> {
        let doing = || format!("writing `{}`", object.key);
        let parts = matches!(body, Body::File(_)) && object.size >= self.config.multipart_from_bytes;
        let checksum = base64_of(object.sha256);
        let mut attempt = 0;
        loop {
            let written = match body {
                Body::File(path) if parts => {
                    // Looked at first: a job that is done again must not send gigabytes to learn that they are there.
                    if let Some(head) = self.head(object.key).await.map_err(|e| self.error(&doing(), Some(object.key), e))? {
                        return self.same(object, &head).await;
                    }
                    multipart::upload(self, object, path).await.map(|composite| (composite.clone(), Some(composite)))
                }
                _ => self.put(object, body, true, &checksum).await.map(|answered| (checksum.clone(), answered)),
            };
            match written {
                Ok((expected, answered)) => return self.written(object, &expected, answered).await,
                Err(Failed { kind: Kind::Exists, .. }) => {
                    let head = self.head(object.key).await.map_err(|e| self.error(&doing(), Some(object.key), e))?;
                    match head {
                        Some(head) => return self.same(object, &head).await,
                        // Removed in between: again.
                        None if attempt < self.config.max_attempts => {}
                        None => {
                            let source = "it is said to exist, and it is said not to".into();
                            return Err(StoreError::Unavailable { store: self.name(), what: doing(), source });
                        }
                    }
                }
                Err(Failed { kind: Kind::Contended, .. }) if attempt < self.config.max_attempts => {}
                Err(e) => return Err(self.error(&doing(), Some(object.key), e)),
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    /// Compares what the server says it stored with what was sent, and reads back what was asked of it besides.
    async fn written(&self, object: &Object<'_>, expected: &str, answered: Option<String>) -> Result<Created, StoreError> {
        let doing = || format!("reading `{}` back", object.key);
        let mut found = answered;
        if found.is_none() || self.config.lock_days > 0 || !self.config.encryption.is_empty() {
            let head = self.head(object.key).await.map_err(|e| self.error(&doing(), Some(object.key), e))?;
            let absent = || {
                let source = "it is not there right after it was written".into();
                StoreError::Unavailable { store: self.name(), what: doing(), source }
            };
            let mut head = head.ok_or_else(absent)?;
            // Some servers lock what is written whole, and forget it for what is written in parts.
            if self.locked_until().is_some() && !self.locked(&head) {
                self.lock(object.key).await?;
                head = self.head(object.key).await.map_err(|e| self.error(&doing(), Some(object.key), e))?.ok_or_else(absent)?;
            }
            if size_of(&head) != object.size {
                return Err(self.corrupt(object.key, format!("{} bytes sent, {} stored", object.size, size_of(&head))));
            }
            self.protected(&head).map_err(|(advice, seen)| self.error(&doing(), None, Failed::new(Kind::Refused, advice, seen)))?;
            found = found.or_else(|| head.checksum_sha256.clone());
        }
        match found {
            Some(found) if found != expected => Err(self.corrupt(object.key, format!("checksum {expected} sent, {found} stored"))),
            // Without an answer: the probe proved that the server compares what it is sent.
            _ => Ok(Created::New),
        }
    }

    /// Whether an object has the encryption and the lock that the configuration asks for.
    fn protected(&self, head: &HeadObjectOutput) -> Result<(), (&'static str, String)> {
        if let Some(wanted) = self.encryption() {
            if head.server_side_encryption.as_ref() != Some(&wanted) {
                let seen = head.server_side_encryption.as_ref().map_or("none", |e| e.as_str());
                return Err(("the object is not encrypted as `encryption` asks: let the bucket allow it", format!("it says {seen}")));
            }
            // The answer is an ARN, the configuration may be an id or an alias: only a plain id can be compared.
            if let (Some(key), Some(seen)) = (&self.config.kms_key_id, &head.ssekms_key_id)
                && !key.contains("alias/")
                && !seen.ends_with(key.as_str())
            {
                return Err(("the object is encrypted with another key than `kms_key_id`", format!("it says {seen}")));
            }
        }
        if self.config.lock_days > 0 && !self.locked(head) {
            let seen = format!("mode {:?}, until {:?}", head.object_lock_mode, head.object_lock_retain_until_date);
            return Err((NO_LOCK, seen));
        }
        Ok(())
    }

    fn locked(&self, head: &HeadObjectOutput) -> bool {
        // A day of grace: clocks differ, and servers round.
        let least = self.locked_until().map_or(0, |until| until.secs()) - i64::try_from(DAY).unwrap_or(0);
        head.object_lock_mode == Some(ObjectLockMode::Compliance) && head.object_lock_retain_until_date.is_some_and(|d| d.secs() >= least)
    }

    /// Locks an object from now on.
    async fn lock(&self, key: &Key) -> Result<(), StoreError> {
        let retention =
            ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Compliance).set_retain_until_date(self.locked_until()).build();
        let request = self.client.put_object_retention().bucket(&self.config.bucket).key(self.path(key)).retention(retention);
        request.send().await.map(|_| ()).map_err(|e| {
            let mut e = failed(e);
            if e.advice == errors::ASKED {
                e.advice = NO_LOCK;
            }
            self.error(&format!("locking `{key}`"), None, e)
        })
    }

    /// Compares what stands under a key with what was to be written.
    async fn same(&self, object: &Object<'_>, head: &HeadObjectOutput) -> Result<Created, StoreError> {
        let conflict = || StoreError::Conflict { store: self.name(), key: object.key.clone() };
        if size_of(head) != object.size {
            return Err(conflict());
        }
        let found = match digest_of(head) {
            Some(digest) => digest,
            None => self.hash(object.key).await?,
        };
        if found != object.sha256 {
            return Err(conflict());
        }
        // Written before the lock was configured, or long ago: what is received again is kept as long as what is new.
        if self.locked_until().is_some() && !self.locked(head) {
            self.lock(object.key).await?;
        }
        Ok(Created::Existed)
    }

    /// SHA-256 of the bytes that stand under a key.
    async fn hash(&self, key: &Key) -> Result<String, StoreError> {
        let unavailable = |source| StoreError::Unavailable { store: self.name(), what: format!("comparing `{key}`"), source };
        let Some(mut opened) = self.open(key).await? else {
            return Err(unavailable("it was removed meanwhile".into()));
        };
        let mut hasher = Sha256::new();
        let mut chunk = vec![0u8; 64 * 1024];
        loop {
            match opened.reader.read(&mut chunk).await {
                Ok(0) => return Ok(hex::encode(hasher.finalize())),
                Ok(n) => hasher.update(&chunk[..n]),
                Err(e) => return Err(unavailable(Box::new(e))),
            }
        }
    }

    fn corrupt(&self, key: &Key, detail: String) -> StoreError {
        StoreError::Corrupt { store: self.name(), key: key.clone(), detail }
    }
}

#[async_trait]
impl Store for S3Store {
    fn name(&self) -> String {
        format!("s3://{}/{}", self.config.bucket, self.config.prefix)
    }

    async fn probe(&self, writable: bool) -> Vec<Probe> {
        trial::run(self, writable).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<Stat>, StoreError> {
        let doing = || format!("looking at `{key}`");
        match self.head(key).await.map_err(|e| self.error(&doing(), None, e))? {
            Some(head) => Ok(Some(Stat {
                key: key.clone(),
                size: size_of(&head),
                sha256: digest_of(&head),
                modified: head.last_modified.as_ref().and_then(timestamp),
            })),
            // The answer has no body: a bucket that is gone looks like an object that is not there, which would be the
            // vendor's fault.
            None => self.head_bucket().await.map(|()| None).map_err(|e| self.error(&doing(), None, e)),
        }
    }

    async fn open(&self, key: &Key) -> Result<Option<Opened>, StoreError> {
        let request = self.client.get_object().bucket(&self.config.bucket).key(self.path(key));
        let answer = match request.send().await.map_err(failed) {
            Ok(answer) => answer,
            Err(Failed { kind: Kind::Missing, .. }) => return Ok(None),
            Err(e) => return Err(self.error(&format!("opening `{key}`"), None, e)),
        };
        let sha256 = answer.metadata.as_ref().and_then(|m| m.get(SHA256)).filter(|d| is_digest(d)).cloned();
        let stat = Stat {
            key: key.clone(),
            size: unsigned(answer.content_length),
            sha256,
            modified: answer.last_modified.as_ref().and_then(timestamp),
        };
        let reader = read::Reader::new(self, &stat, answer.e_tag, answer.body).into_async_read();
        Ok(Some(Opened { stat, reader, file: None }))
    }

    async fn create(&self, key: &Key, content: Content<'_>, media_type: &str) -> Result<Created, StoreError> {
        match content {
            Content::Bytes(bytes) => {
                let sha256 = hex::encode(Sha256::digest(bytes));
                let object = Object { key, size: bytes.len() as u64, sha256: &sha256, media_type };
                self.write(&object, &Body::Memory(Bytes::copy_from_slice(bytes))).await
            }
            Content::File { path, size, sha256 } => {
                let found = tokio::fs::metadata(path).await.map_err(|e| {
                    let what = format!("writing `{key}`: its file cannot be read");
                    StoreError::Unavailable { store: self.name(), what, source: Box::new(e) }
                })?;
                if found.len() != size {
                    return Err(self.corrupt(key, format!("{size} bytes announced, the file has {}", found.len())));
                }
                self.write(&Object { key, size, sha256, media_type }, &Body::File(path)).await
            }
        }
    }

    async fn replace(&self, key: &Key, bytes: &[u8], media_type: &str) -> Result<(), StoreError> {
        let sha256 = hex::encode(Sha256::digest(bytes));
        let object = Object { key, size: bytes.len() as u64, sha256: &sha256, media_type };
        let body = Body::Memory(Bytes::copy_from_slice(bytes));
        let put = self.put(&object, &body, false, &base64_of(&sha256)).await;
        put.map(|_| ()).map_err(|e| self.error(&format!("replacing `{key}`"), Some(key), e))
    }

    async fn list(&self, prefix: &str, after: Option<&Key>, most: usize) -> Result<Vec<Stat>, StoreError> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        while found.len() < most {
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.config.bucket)
                .prefix(format!("{}{prefix}", self.config.prefix))
                .set_start_after(after.filter(|_| token.is_none()).map(|k| self.path(k)))
                .set_continuation_token(token.take())
                .max_keys(i32::try_from(PAGE.min(most - found.len())).unwrap_or(1));
            let answer = request.send().await.map_err(|e| self.error(&format!("listing `{prefix}`"), None, failed(e)))?;
            for object in answer.contents.unwrap_or_default() {
                let Some(key) = object.key.as_deref().and_then(|path| self.key(path)) else { continue };
                if !super::trial::hidden(key.as_str(), prefix) {
                    let modified = object.last_modified.as_ref().and_then(timestamp);
                    found.push(Stat { key, size: unsigned(object.size), sha256: None, modified });
                }
            }
            token = answer.next_continuation_token.filter(|_| answer.is_truncated == Some(true));
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let request = self.client.delete_object().bucket(&self.config.bucket).key(self.path(key));
        match request.send().await.map_err(failed) {
            Ok(_) | Err(Failed { kind: Kind::Missing, .. }) => Ok(()),
            Err(e) => Err(self.error(&format!("removing `{key}`"), None, e)),
        }
    }
}

fn request_timeout(config: &StoreConfig) -> Duration {
    Duration::from_millis(config.request_timeout_ms.max(1))
}

/// Wait before attempt `n + 1`.
fn backoff(n: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << n.min(10)).min(LONGEST_BACKOFF)
}

fn size_of(head: &HeadObjectOutput) -> u64 {
    unsigned(head.content_length)
}

fn unsigned(size: Option<i64>) -> u64 {
    size.and_then(|s| u64::try_from(s).ok()).unwrap_or(0)
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// SHA-256 of a whole object, lower-case hex: as the server computed it where it did, else as we stated it when we wrote it.
fn digest_of(head: &HeadObjectOutput) -> Option<String> {
    let computed = head
        .checksum_sha256
        .as_deref()
        .filter(|c| !c.contains('-') && head.checksum_type != Some(ChecksumType::Composite))
        .and_then(|c| BASE64_STANDARD.decode(c).ok())
        .map(hex::encode);
    let stated = |m: &HashMap<String, String>| m.get(SHA256).cloned();
    computed.or_else(|| head.metadata.as_ref().and_then(stated)).filter(|d| is_digest(d))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A digest in the form that headers have. What is no digest stays what it is, and the server refuses it.
fn base64_of(sha256: &str) -> String {
    hex::decode(sha256).map_or_else(|_| sha256.to_owned(), |bytes| BASE64_STANDARD.encode(bytes))
}
