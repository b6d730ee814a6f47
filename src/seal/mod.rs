//! Who says so: signatures that outlive this program, over what was received and what was answered.
//!
//! Goals:
//! 1. **Any common library verifies them**: JWS in compact form (RFC 7515) with Ed25519 (RFC 8037), public keys in a
//!    JWKS (RFC 7517), key ids that follow from the key (RFC 7638). No cryptography of our own: `ring` signs.
//! 2. **One reading only**: [`verify()`] trusts the key set it is given and nothing inside the signature: one algorithm,
//!    no `crit`, no key or address of a key in the header, no second spelling of base64url, no unknown member.
//! 3. **The bundle does not depend on the key**: the seal stands beside the ZIP (`NAME.zip.jws`) and signs the digest of
//!    `tagmanifest-sha256.txt`, which fixes every byte of the bag, zipped or unpacked.
//! 4. **Same inputs, same seal**: no clock, no randomness (Ed25519 draws none). A moment stands in the [`receipt`],
//!    given by the caller; proof of a moment by somebody else is a time stamp ([`timestamp`], RFC 3161).
//! 5. **History cannot be rewritten in silence**: the [`journal`] chains what was done, and a receipt can carry the
//!    journal's head, so that every submitter holds a witness of it.
//!
//! `docs/seal.md` says how to verify all of this without greffier.

pub mod journal;
pub(crate) mod jws;
pub mod keys;
pub mod receipt;
pub mod timestamp;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use journal::Journal;
pub use keys::{KeyError, KeySet, SealKey};
pub use receipt::Receipt;

use crate::model::Verdict;
use crate::model::report::Report;
use crate::model::submission::Stage;

/// The schema this version writes and reads.
pub const SCHEMA: &str = "greffier/seal/1";
/// The `typ` of a seal: a receipt is never taken for one.
pub const TYPE: &str = "greffier-seal+jws";
/// Longest seal that is read, bytes; real ones have less than a thousand.
pub const MAX_SEAL: usize = 64 * 1024;

/// What a seal states: this bag, and no other, is the outcome of this submission.
///
/// Members are written in this order. A later version that adds one changes [`SCHEMA`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Always `greffier/seal/1`.
    pub schema: String,
    /// Id of the report in the bag.
    pub report: String,
    /// SHA-256 of the bag's `tagmanifest-sha256.txt`, lower-case hex.
    pub manifest_sha256: String,
    /// The verdict over everything.
    pub verdict: Verdict,
    /// Candidature number (untrusted: as the submission states it).
    pub candidature: String,
    /// Part of the journey.
    pub stage: Stage,
    /// Revision.
    pub revision: u32,
    /// The rules that were applied.
    pub pipeline: PipelineName,
    /// What made it: `greffier 0.1.0, inspectors 1`.
    pub producer: String,
}

/// Which rules were applied; the report says more of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineName {
    /// Pipeline id.
    pub id: String,
    /// Pipeline version.
    pub version: String,
}

/// A seal whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What it states.
    pub seal: Seal,
    /// Thumbprint (RFC 7638) of the key that signed.
    pub kid: String,
}

impl Seal {
    /// The seal of a bag that holds `report` and whose `tagmanifest-sha256.txt` has this SHA-256 (lower-case hex).
    ///
    /// # Errors
    /// [`SealError::Digest`] where that is no digest.
    pub fn of(report: &Report, manifest_sha256: &str) -> Result<Self, SealError> {
        if !is_sha256(manifest_sha256) {
            return Err(SealError::Digest);
        }
        Ok(Self {
            schema: SCHEMA.to_owned(),
            report: report.id.clone(),
            manifest_sha256: manifest_sha256.to_owned(),
            verdict: report.verdict,
            candidature: report.candidature.number.clone(),
            stage: report.stage.clone(),
            revision: report.revision,
            pipeline: PipelineName { id: report.pipeline.id.clone(), version: report.pipeline.version.clone() },
            producer: report.producer.clone(),
        })
    }

    /// The compact JWS, without an end of line: the content of `NAME.zip.jws`. The same seal and key give the same bytes.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] where the submission's texts are absurdly long.
    pub fn sign(&self, key: &SealKey) -> Result<String, SealError> {
        jws::sign(TYPE, self, key, MAX_SEAL)
    }
}

/// Checks that `seal` (the content of `NAME.zip.jws`) was made by a key of `keys` for the bag whose
/// `tagmanifest-sha256.txt` has the SHA-256 `manifest_sha256` (lower-case hex).
///
/// Says nothing of the bag itself: `bundle::verify` tells whether files and manifests agree, and gives the digest.
///
/// # Errors
/// [`SealError`], each reason with a code of its own.
pub fn verify(manifest_sha256: &str, seal: &str, keys: &KeySet) -> Result<Verified, SealError> {
    if !is_sha256(manifest_sha256) {
        return Err(SealError::Digest);
    }
    let opened = jws::open(seal, TYPE, MAX_SEAL, keys)?;
    let seal: Seal = opened.payload(SCHEMA)?;
    if !is_sha256(&seal.manifest_sha256) {
        return Err(SealError::Payload("`manifest_sha256` is no lower-case hexadecimal SHA-256".into()));
    }
    if seal.manifest_sha256 != manifest_sha256 {
        return Err(SealError::OtherBundle { sealed: seal.manifest_sha256, found: manifest_sha256.to_owned() });
    }
    Ok(Verified { seal, kid: opened.kid })
}

impl Verified {
    /// Checks that the seal states what the bag's `report.json` states. Cannot fail for a bag that greffier made and
    /// that is intact; a person who reads only the seal must not be told another story than one who opens the bag.
    ///
    /// # Errors
    /// [`SealError::OtherReport`] names the first member that differs.
    pub fn agrees_with(&self, report: &Report) -> Result<(), SealError> {
        let stated = &self.seal;
        let told = Seal::of(report, &stated.manifest_sha256)?;
        let members = [
            ("report", stated.report == told.report),
            ("verdict", stated.verdict == told.verdict),
            ("candidature", stated.candidature == told.candidature),
            ("stage", stated.stage == told.stage),
            ("revision", stated.revision == told.revision),
            ("pipeline", stated.pipeline == told.pipeline),
            ("producer", stated.producer == told.producer),
        ];
        match members.into_iter().find(|(_, same)| !same) {
            Some((member, _)) => Err(SealError::OtherReport(member)),
            None => Ok(()),
        }
    }
}

/// Reads a seal or receipt file for [`verify()`] or [`receipt::verify`], which say what is wrong with it: at most one
/// byte more than `max` is read, and what is not UTF-8 is no JWS.
///
/// # Errors
/// What the file system answers.
pub fn read_file(path: &Path, max: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where the seal of a bundle stands: `NAME.zip.jws` beside `NAME.zip`, and beside the folder `NAME` too.
pub fn seal_path(bundle: &Path) -> PathBuf {
    beside(bundle, ".jws")
}

/// Where the receipt of a bundle stands: `NAME.receipt.jws`. It is for the submitter, not for the verifier.
pub fn receipt_path(bundle: &Path) -> PathBuf {
    let name = bundle.file_name().unwrap_or_default();
    let stem = if is_zip(bundle) { bundle.file_stem().unwrap_or_default() } else { name };
    let mut name = OsString::from(stem);
    name.push(".receipt.jws");
    bundle.with_file_name(name)
}

/// Where the time stamp request of a bundle's seal stands: `NAME.zip.jws.tsq`.
pub fn timestamp_request_path(bundle: &Path) -> PathBuf {
    beside(bundle, ".jws.tsq")
}

/// Where its answer belongs.
pub fn timestamp_answer_path(bundle: &Path) -> PathBuf {
    beside(bundle, ".jws.tsr")
}

/// Where `greffier check` keeps the journal of what it did: one below each output folder.
pub fn journal_path(out: &Path) -> PathBuf {
    out.join("journal.jsonl")
}

fn beside(bundle: &Path, suffix: &str) -> PathBuf {
    let mut name = bundle.file_name().unwrap_or_default().to_owned();
    if !is_zip(bundle) {
        name.push(".zip");
    }
    name.push(suffix);
    bundle.with_file_name(name)
}

fn is_zip(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("zip"))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Why a seal or a receipt was refused, or could not be made. What comes out of the signature is untrusted and shown
/// shortened, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The caller's digest is none.
    #[error("SEAL-DIGEST: the manifest digest is no lower-case hexadecimal SHA-256")]
    Digest,
    /// Longer than any real one.
    #[error("SEAL-TOO-LARGE: {bytes} bytes, at most {max} are read")]
    TooLarge {
        /// Size, bytes.
        bytes: usize,
        /// Limit, bytes.
        max: usize,
    },
    /// Not `header.payload.signature`.
    #[error("SEAL-FORM: not a compact JWS: three parts separated by dots are expected")]
    Form,
    /// Padding, line breaks, the other alphabet, or bits beyond the last byte.
    #[error("SEAL-BASE64: the {0} is not base64url without padding")]
    Base64(&'static str),
    /// The header cannot be read in one way only.
    #[error("SEAL-HEADER: the protected header is not a JSON object of distinct text members")]
    Header,
    /// Anything but `EdDSA`, `none` first of all.
    #[error("SEAL-ALGORITHM: algorithm `{0}` is refused, only EdDSA with Ed25519 is known")]
    Algorithm(String),
    /// RFC 7515, section 4.1.11: an extension that must be understood, and is not.
    #[error("SEAL-CRITICAL: the header demands extensions (`crit`), none is known")]
    Critical,
    /// `jwk`, `jku`, `x5u`…: whoever forges a seal would bring the key along.
    #[error("SEAL-HEADER-KEY: the header brings its own key (`{0}`), only the given key set is trusted")]
    HeaderKey(String),
    /// A member that greffier never writes.
    #[error("SEAL-HEADER-MEMBER: unknown header member `{0}`")]
    HeaderMember(String),
    /// A receipt shown as a seal, or somebody else's token.
    #[error("SEAL-TYPE: type `{found}`, `{expected}` is expected")]
    Type {
        /// What was asked for.
        expected: &'static str,
        /// What it says it is.
        found: String,
    },
    /// No key is named.
    #[error("SEAL-KEY-ID: the header names no key (`kid`)")]
    KeyId,
    /// The named key is not in the set.
    #[error("SEAL-KEY-UNKNOWN: key `{0}` is not in the key set")]
    KeyUnknown(String),
    /// The bytes are not what that key signed.
    #[error("SEAL-SIGNATURE: the signature does not hold: content or signature were changed, or another key signed")]
    Signature,
    /// Signed, and not what this version understands as its schema.
    #[error("SEAL-PAYLOAD: the signed content is malformed: {0}")]
    Payload(String),
    /// Signed, of a kind or version that is not known here.
    #[error("SEAL-SCHEMA: schema `{found}`, `{expected}` is expected")]
    Schema {
        /// What was asked for.
        expected: &'static str,
        /// What it says it is.
        found: String,
    },
    /// A good seal, of another bundle: files and manifests were rewritten together, or seals were swapped.
    #[error("SEAL-OTHER-BUNDLE: the seal is of manifest {sealed}, the bundle's is {found}")]
    OtherBundle {
        /// Digest in the seal.
        sealed: String,
        /// Digest of the bundle.
        found: String,
    },
    /// A good seal or receipt that tells another story than the report in the bag.
    #[error("SEAL-OTHER-REPORT: what was signed and report.json differ in `{0}`")]
    OtherReport(&'static str),
}

impl SealError {
    /// The stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Digest => "SEAL-DIGEST",
            Self::TooLarge { .. } => "SEAL-TOO-LARGE",
            Self::Form => "SEAL-FORM",
            Self::Base64(_) => "SEAL-BASE64",
            Self::Header => "SEAL-HEADER",
            Self::Algorithm(_) => "SEAL-ALGORITHM",
            Self::Critical => "SEAL-CRITICAL",
            Self::HeaderKey(_) => "SEAL-HEADER-KEY",
            Self::HeaderMember(_) => "SEAL-HEADER-MEMBER",
            Self::Type { .. } => "SEAL-TYPE",
            Self::KeyId => "SEAL-KEY-ID",
            Self::KeyUnknown(_) => "SEAL-KEY-UNKNOWN",
            Self::Signature => "SEAL-SIGNATURE",
            Self::Payload(_) => "SEAL-PAYLOAD",
            Self::Schema { .. } => "SEAL-SCHEMA",
            Self::OtherBundle { .. } => "SEAL-OTHER-BUNDLE",
            Self::OtherReport(_) => "SEAL-OTHER-REPORT",
        }
    }
}

#[cfg(test)]
mod tests;
