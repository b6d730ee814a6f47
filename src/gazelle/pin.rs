//! The copy that is kept of what a Gazelle server said, so that a verifier can trust it after the link has
//! changed or died; how it is read again; and how a later answer differs from it.
//!
//! # Layout
//! In a bundle, one directory per link, named by the first 32 characters of its identity (SHA-256 of host, port and
//! identifier, without share key):
//!
//! | file | holds |
//! |---|---|
//! | `pin.json` | a [`Pin`] without bodies: the link, when and by what it was fetched, and every exchange: URL asked, request headers, address that answered, redirects followed, status, response headers, and the SHA-256 and size of the body *exactly as received* and as decoded |
//! | `01-report.xml` (`.json`, `.txt`), `02-record.xml`… | the bodies, numbered in the order they were asked for |
//!
//! A body is kept byte for byte (`copy.exact = true`), unless it carries the tested document, values quoted from it, or a
//! share key: these are cut out in place (`copy.dropped` lists each with its offset, its length and, for a
//! document, its digest) and every other byte stays. `received_sha256` is always that of the bytes as
//! received: a verifier who fetches the same bytes again can tell. A report wrapped in a ZIP is kept unwrapped.
//!
//! WARC 1.1 was considered: a `response` record must hold the whole body, which this must not.
//!
//! The facts of a link are always derived from the copies, never from the bodies in flight: so a replay says
//! what the first run said.
//!
//! # Who may read a copy again
//! A private report opens with a share key that stands in the link. A copy that were found by the result alone would open
//! without it: another vendor, with a wrong key or none, would be handed the report. Therefore:
//!
//! 1. A copy is found by its [`CopyId`]: a digest of its [`Owner`] (démarche and candidature, deposits and pre-checks
//!    apart), of the result and of the share keys. Another candidature, or another key, is another copy. The key itself
//!    stands in no name and in no file.
//! 2. A copy stands in for the server only where that gave no answer about the result (network, timeout, 429, 5xx, or no
//!    network at all) or says that the validation is under way. Private, forbidden, unknown, unreadable are answers, and
//!    they stand; that an earlier run could read the report is told beside them (`gazelle-gone`).
//! 3. What opens with the operator's credential only is never copied and never read into facts: the account may open the
//!    results of every vendor, and the number of a candidature is whatever the deposit says, so that binding the account to
//!    numbers would bind it to nothing. The finding says that an anonymous reader cannot open the link.
//!
//! Copies of earlier versions were named by the result alone. No [`CopyId`] equals such a name: they are never found.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::report::{self, Unreadable, legacy};
use super::scrub;
use crate::model::gazelle::{
    BodyCopy, Drift, Exchange, GazelleReport, Generation, Method, PIN_SCHEMA, Pin, PinnedBody, Purpose, TestResult,
};

/// Largest file of a stored pin that is read.
const MAX_PIN_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// For whom copies are kept. Copies of one owner are never shown to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    series: String,
    demarche: String,
    candidature: String,
}

impl Owner {
    /// One candidature of one démarche. `series` keeps apart what is received in different ways: a pre-check that names a
    /// candidature is not a deposit of it.
    pub fn new(series: &str, demarche: &str, candidature: &str) -> Self {
        Self { series: series.into(), demarche: demarche.into(), candidature: candidature.trim().into() }
    }

    /// The user of the command line: the folder of copies is their own, and so is every deposit that they check.
    pub fn local(demarche: &str, candidature: &str) -> Self {
        Self::new("local", demarche, candidature)
    }
}

/// The name of one copy: SHA-256 of owner, result and share keys, 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyId(String);

impl CopyId {
    /// `link_id` names the result; `share_keys` are name and value.
    pub(super) fn of(owner: &Owner, link_id: &str, share_keys: &[(&str, &str)]) -> Self {
        let mut hasher = Sha256::new();
        let fields = ["greffier/gazelle-copy/2", &owner.series, &owner.demarche, &owner.candidature, link_id];
        for field in fields.into_iter().chain(share_keys.iter().flat_map(|(name, value)| [*name, *value])) {
            // The length first: no two lists of fields give the same bytes.
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        Self(hex::encode(hasher.finalize()))
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the directory of this copy below a [`DirPins`].
    pub fn directory(&self) -> &str {
        &self.0
    }
}

/// Where pinned copies are found.
pub trait PinSource: Send + Sync {
    /// The copy of this name, if there is one.
    ///
    /// # Errors
    /// What is wrong with the stored copy.
    fn find(&self, copy: &CopyId) -> Result<Option<Pin>, PinError>;
}

/// Why a stored pin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The store.
    #[error("cannot read the pinned copy: {0}")]
    Io(#[from] io::Error),
    /// `pin.json`.
    #[error("pin.json: {0}")]
    Json(#[from] serde_json::Error),
    /// Another schema.
    #[error("schema `{0}` is not {PIN_SCHEMA}")]
    Schema(String),
    /// A body that is missing.
    #[error("`{0}` is missing")]
    Missing(String),
    /// A body that was changed.
    #[error("`{0}` does not match its digest")]
    Digest(String),
    /// A copy that stands where the copy of another link is expected, or that the operator's account opened.
    #[error("it is not a copy of what this link shows to an anonymous reader")]
    OtherLink,
    /// A body that is no report.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// No pins.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPins;

impl PinSource for NoPins {
    fn find(&self, _: &CopyId) -> Result<Option<Pin>, PinError> {
        Ok(None)
    }
}

/// Pins in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryPins(pub BTreeMap<CopyId, Pin>);

impl PinSource for MemoryPins {
    fn find(&self, copy: &CopyId) -> Result<Option<Pin>, PinError> {
        self.0.get(copy).map(|pin| verified(pin.clone())).transpose()
    }
}

/// Pins in a directory, one sub-directory each, named by [`CopyId::directory`].
#[derive(Debug, Clone)]
pub struct DirPins(pub PathBuf);

impl PinSource for DirPins {
    fn find(&self, copy: &CopyId) -> Result<Option<Pin>, PinError> {
        let dir = self.0.join(copy.directory());
        if !dir.join("pin.json").try_exists()? {
            return Ok(None);
        }
        load(&dir).map(Some)
    }
}

/// Name of the directory of a link's pin in a bundle.
pub fn directory(link_id: &str) -> String {
    link_id.chars().take(32).collect()
}

impl Pin {
    /// The files of the documented layout, by name, in order: `pin.json` and the bodies. The same pin gives the same bytes.
    pub fn to_files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<String, Vec<u8>> = self.bodies.iter().map(|(name, body)| (name.clone(), body.0.clone())).collect();
        let light = Self { bodies: BTreeMap::new(), ..self.clone() };
        let mut json = serde_json::to_vec_pretty(&light).unwrap_or_default();
        json.push(b'\n');
        files.insert("pin.json".into(), json);
        files
    }
}

/// Reads a pin from the directory it was written to, and checks every digest.
///
/// # Errors
/// See [`PinError`].
pub fn load(dir: &Path) -> Result<Pin, PinError> {
    let mut pin: Pin = serde_json::from_slice(&read_capped(&dir.join("pin.json"))?)?;
    pin.bodies.clear();
    for exchange in &pin.exchanges {
        if let Some(copy) = &exchange.copy {
            if !is_body_name(&copy.file) {
                return Err(PinError::Missing(copy.file.chars().take(60).collect()));
            }
            let path = dir.join(&copy.file);
            if !path.try_exists()? {
                return Err(PinError::Missing(copy.file.clone()));
            }
            pin.bodies.insert(copy.file.clone(), PinnedBody(read_capped(&path)?));
        }
    }
    verified(pin)
}

/// A body's name is ours; one read from `pin.json` must not lead out of the directory.
fn is_body_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 40
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_PIN_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn verified(pin: Pin) -> Result<Pin, PinError> {
    if pin.schema != PIN_SCHEMA {
        return Err(PinError::Schema(pin.schema.chars().take(60).collect()));
    }
    for copy in pin.exchanges.iter().filter_map(|e| e.copy.as_ref()) {
        let body = pin.bodies.get(&copy.file).ok_or_else(|| PinError::Missing(copy.file.clone()))?;
        if hex::encode(Sha256::digest(&body.0)) != copy.sha256 {
            return Err(PinError::Digest(copy.file.clone()));
        }
    }
    Ok(pin)
}

/// Makes the copy of `body` that may be kept, names it in `exchange` and puts it among `bodies`.
///
/// # Errors
/// Where the body cannot be read well enough to be sure that nothing of the tested document stays in it.
pub(crate) fn keep(
    exchange: &mut Exchange,
    body: &[u8],
    max_bytes: u64,
    bodies: &mut BTreeMap<String, PinnedBody>,
) -> Result<(), Unreadable> {
    let unwrapped = report::unwrap_zip(body, max_bytes)?;
    let plain = unwrapped.as_deref().unwrap_or(body);
    let text = report::decode(plain);
    let form = report::form(&text);
    let Some(copy) = scrub::scrub(plain) else {
        // Says more precisely what is wrong, where it can.
        return Err(report::read_report(plain, max_bytes).err().or(form.err()).unwrap_or(Unreadable::NoFormat));
    };
    let (word, extension) = (
        match exchange.purpose {
            Purpose::Report => "report",
            Purpose::Record => "record",
            Purpose::LegacyStatus => "status",
            Purpose::LegacyDate => "date",
        },
        match form {
            Ok(report::Form::Xml) => "xml",
            Ok(report::Form::Json) => "json",
            Err(_) => "txt",
        },
    );
    let file = format!("{:02}-{word}.{extension}", bodies.len() + 1);
    exchange.copy = Some(BodyCopy {
        file: file.clone(),
        sha256: hex::encode(Sha256::digest(&copy.bytes)),
        size: copy.bytes.len() as u64,
        exact: copy.dropped.is_empty() && unwrapped.is_none(),
        dropped: copy.dropped,
    });
    bodies.insert(file, PinnedBody(copy.bytes));
    Ok(())
}

/// The report that a pin's copies make.
///
/// # Errors
/// Where they make none.
pub fn report_of(pin: &Pin, max_bytes: u64) -> Result<GazelleReport, Unreadable> {
    let mut report = assemble(&pin.exchanges, &pin.bodies, max_bytes)?;
    report.needed_credential = pin.needed_credential;
    Ok(report)
}

/// The report that exchanges and their copies make.
pub(crate) fn assemble(exchanges: &[Exchange], bodies: &BTreeMap<String, PinnedBody>, max_bytes: u64) -> Result<GazelleReport, Unreadable> {
    let body = |purpose: Purpose| {
        let exchange = exchanges.iter().find(|e| e.purpose == purpose && e.status == 200)?;
        bodies.get(&exchange.copy.as_ref()?.file).map(|body| body.0.as_slice())
    };
    let record = body(Purpose::Record).and_then(|bytes| report::read_record(bytes).ok());
    let mut report = if let Some(bytes) = body(Purpose::Report) {
        report::read_report(bytes, max_bytes)?
    } else if let Some(bytes) = body(Purpose::LegacyStatus) {
        let Some(legacy::Status::Done(result)) = legacy::status(&report::decode(bytes)) else {
            return Err(Unreadable::NoReport("legacy status".into()));
        };
        let mut report = GazelleReport::empty(Generation::LegacyText);
        report.declared_result = Some(result);
        report.date = body(Purpose::LegacyDate).and_then(|bytes| report::date(&report::decode(bytes)));
        report
    } else {
        let record = record.as_ref().ok_or(Unreadable::Empty)?;
        let mut report = GazelleReport::empty(Generation::RecordOnly);
        report.declared_result = record.status.as_deref().and_then(record_result);
        report.date.clone_from(&record.date);
        report.method = Method { service: record.service.clone(), validator_name: record.validator.clone(), ..Method::default() };
        report
    };
    if report.objects.is_empty()
        && let Some(record) = &record
    {
        report.objects.clone_from(&record.objects);
    }
    report.record = record;
    Ok(report)
}

/// The result that a record's status stands for.
pub(crate) fn record_result(status: &str) -> Option<TestResult> {
    match status {
        "DONE_PASSED" => Some(TestResult::Passed),
        "DONE_FAILED" => Some(TestResult::Failed),
        "DONE_UNDEFINED" => Some(TestResult::Undefined),
        _ => None,
    }
}

/// How the report read now differs from the one pinned earlier. What a rule can see comes first; `bytes` alone
/// means that the text was written anew and says the same.
pub fn drift(pinned: (&Pin, &GazelleReport), now: (&Pin, &GazelleReport)) -> Vec<Drift> {
    fn shown(value: Option<&dyn fmt::Display>) -> String {
        value.map_or_else(|| "—".to_owned(), ToString::to_string)
    }
    let mut all = Vec::new();
    let mut compare = |field: &str, before: String, after: String| {
        if before != after {
            all.push(Drift { field: field.to_owned(), pinned: before, now: after });
        }
    };
    let (a, b) = (pinned.1, now.1);
    let result = |r: &GazelleReport| shown(r.declared_result.as_ref().map(|r| r as &dyn fmt::Display));
    let text = |t: &Option<String>| shown(t.as_ref().map(|t| t as &dyn fmt::Display));
    compare("result", result(a), result(b));
    compare("errors", a.computed_counters.errors.to_string(), b.computed_counters.errors.to_string());
    compare("warnings", a.computed_counters.warnings.to_string(), b.computed_counters.warnings.to_string());
    compare("assertions", a.computed_counters.assertions.to_string(), b.computed_counters.assertions.to_string());
    let date = |r: &GazelleReport| shown(r.date.as_ref().map(|d| &d.at as &dyn fmt::Display));
    compare("date", date(a), date(b));
    compare("uuid", text(&a.uuid), text(&b.uuid));
    compare("service", text(&a.method.service), text(&b.method.service));
    compare("validator", text(&a.method.validator_id), text(&b.method.validator_id));
    compare("validator-name", text(&a.method.validator_name), text(&b.method.validator_name));
    compare("validator-version", text(&a.method.validator_version), text(&b.method.validator_version));
    let objects = |r: &GazelleReport| {
        let all: Vec<_> = r.objects.iter().map(|o| o.sha256.clone().or_else(|| o.name.clone()).unwrap_or_default()).collect();
        all.join(", ")
    };
    compare("objects", objects(a), objects(b));
    let digest = |pin: &Pin| {
        let main = pin.exchanges.iter().find(|e| matches!(e.purpose, Purpose::Report | Purpose::LegacyStatus));
        main.or(pin.exchanges.first()).map(|e| e.body_sha256.clone()).unwrap_or_default()
    };
    compare("bytes", digest(pinned.0), digest(now.0));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_name_cannot_lead_out_of_its_directory() {
        assert!(is_body_name("01-report.xml"));
        for name in ["", "../x", "/etc/passwd", "a/b", "..", ".hidden", "a\\b", "a\0b"] {
            assert!(!is_body_name(name), "{name:?}");
        }
    }
}
