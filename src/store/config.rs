//! Configuration of a store.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where objects rest. Configuration `[staging]` (what was uploaded) and `[vault]` (what was received and made).
///
/// Credentials of S3 come from the usual places (`AWS_ACCESS_KEY_ID`, profiles, instance and web identity), never from here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Which fitting.
    pub kind: StoreKind,
    /// Directory: where.
    pub path: PathBuf,
    /// S3: bucket.
    pub bucket: String,
    /// S3: every key begins with it (`greffier/`); may be empty.
    pub prefix: String,
    /// S3: region.
    pub region: String,
    /// S3: address of a server that is not Amazon's (`http://127.0.0.1:9000`).
    pub endpoint: Option<String>,
    /// S3: bucket in the path rather than in the host name.
    pub path_style: bool,
    /// S3: server-side encryption to ask for: empty, `AES256` or `aws:kms`.
    pub encryption: String,
    /// S3: key id for `aws:kms`.
    pub kms_key_id: Option<String>,
    /// S3: days that written objects are locked (object lock, compliance mode); 0 = not. Read back after writing.
    pub lock_days: u32,
    /// S3: above this, an object is written in parts, bytes.
    pub multipart_from_bytes: u64,
    /// S3: one request's time limit, milliseconds, bodies not counted.
    pub request_timeout_ms: u64,
    /// S3: times one request is tried.
    pub max_attempts: u32,
}

/// Which fitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// A directory of this machine.
    Directory,
    /// Amazon S3 or a server that speaks its protocol.
    S3,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::Directory,
            path: PathBuf::new(),
            bucket: String::new(),
            prefix: String::new(),
            region: "us-east-1".into(),
            endpoint: None,
            path_style: false,
            encryption: String::new(),
            kms_key_id: None,
            lock_days: 0,
            multipart_from_bytes: 64 * 1024 * 1024,
            request_timeout_ms: 30_000,
            max_attempts: 4,
        }
    }
}

impl StoreConfig {
    /// A directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// What contradicts itself; `section` names it.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn check(&self, section: &str) -> Result<(), String> {
        match self.kind {
            StoreKind::Directory if self.path.as_os_str().is_empty() => Err(format!("{section}.path is empty")),
            StoreKind::S3 if self.bucket.is_empty() => Err(format!("{section}.bucket is empty")),
            StoreKind::S3 if !matches!(self.encryption.as_str(), "" | "AES256" | "aws:kms") => {
                Err(format!("{section}.encryption is none of ``, `AES256`, `aws:kms`"))
            }
            // Amazon S3 user guide, « Multipart upload limits »: parts have 5 MiB at least.
            StoreKind::S3 if self.multipart_from_bytes < 5 * 1024 * 1024 => Err(format!("{section}.multipart_from_bytes is below 5 MiB")),
            StoreKind::S3 if !self.prefix.is_empty() && !self.prefix.ends_with('/') => Err(format!("{section}.prefix does not end in `/`")),
            _ => Ok(()),
        }
    }
}
