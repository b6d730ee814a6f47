//! The journal of one submission: what was done to it, line by line, append-only and hash-chained.
//!
//! Goals:
//! 1. **No line can be changed, removed from the middle, inserted or reordered** without [`verify`] naming the first
//!    line that broke. The chain alone cannot tell that the *last* lines were cut off, or that somebody wrote the whole
//!    file anew: heads kept elsewhere ([`Head`] in a receipt) are the witnesses of that, and [`verify`] takes them.
//! 2. **Acknowledged is durable**: [`Journal::append`] returns after `fdatasync`.
//! 3. **A crash loses nothing in silence**: a torn last line is reported, never read as an event; the next append keeps
//!    its bytes aside (`FILE.torn-…`), and says so in the journal before it goes on. Nothing is ever appended after a
//!    line that does not verify.
//! 4. **Several writers, one chain**: appending holds an exclusive lock on the file (`flock`), and reads what others
//!    appended before it adds its own.
//!
//! One line (UTF-8, ended by LF), its members in this order and spelling:
//! ```json
//! {"seq":0,"at":"2026-11-23T09:00:00Z","event":"received","fields":{"files":239},"prev":"<hex>","hash":"<hex>"}
//! ```
//! `hash` is the SHA-256 of the line without its `hash` member, that is of the bytes before `,"hash":` and a `}`.
//! `prev` is the hash of the line before; on the first line, the SHA-256 of `greffier/journal/1`.
//!
//! Calls block on the lock and on the disk: from asynchronous code, call them where blocking is allowed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Names the format; its SHA-256 is the `prev` of the first line.
pub const SCHEMA: &str = "greffier/journal/1";
/// The event that tells of a torn line kept aside.
pub const TORN_EVENT: &str = "journal-torn";
/// Longest line, its end included, bytes.
pub const MAX_LINE: usize = 1024 * 1024;

/// What errors call a journal that is no file.
const IN_MEMORY: &str = "journal";

/// `,"hash":"` + 64 digits + `"}`.
const HASH_MEMBER: usize = 9 + 64 + 2;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts from 0.
    pub seq: u64,
    /// When, as the writer states it. Not used for order: clocks go backwards, `seq` does not.
    pub at: Timestamp,
    /// What: a word like `received`, `checked`, `bundle-published`.
    pub event: String,
    /// Details (texts untrusted).
    pub fields: Fields,
    /// Hash of the line before.
    pub prev: String,
    /// Hash of this line.
    pub hash: String,
}

/// Details of an event.
pub type Fields = BTreeMap<String, Field>;

/// A detail. Neither real numbers nor nested values: these have more than one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// Yes or no.
    Flag(bool),
    /// Counts, sizes in bytes.
    Number(i64),
    /// Text.
    Text(String),
}

impl From<bool> for Field {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u64> for Field {
    /// A number beyond the range becomes text, so that nothing is rounded.
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or_else(|_| Self::Text(number.to_string()), Self::Number)
    }
}

impl From<u32> for Field {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// How far a journal goes: keep it elsewhere, and lines up to it can no longer be changed or cut off unnoticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Lines so far.
    pub entries: u64,
    /// Hash of the last of them, lower-case hex.
    pub hash: String,
}

impl Head {
    /// The head of an empty journal.
    pub fn empty() -> Self {
        Self { entries: 0, hash: hex::encode(Sha256::digest(SCHEMA)) }
    }
}

/// What is hashed, in the order of its members.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    seq: u64,
    at: Timestamp,
    event: String,
    fields: Fields,
    prev: String,
}

/// A journal open for appending.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Verified up to here.
    checked: Checked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Checked {
    /// Bytes.
    offset: u64,
    head: Head,
}

impl Journal {
    /// Opens the journal, or begins one; its folder must exist. Every line is verified once, here.
    ///
    /// A torn last line is no error: the next append deals with it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        // 0600: fields name vendors and products.
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(io)?;
        let start = Checked { offset: 0, head: Head::empty() };
        let mut journal = Self { file, path: path.to_owned(), checked: start };
        let lock = Lock::exclusive(&journal.file).map_err(io)?;
        let walked = walk(&journal.file, path, journal.checked.clone(), |_| ())?;
        if walked.end == 0 {
            // The name must survive a crash as well as the lines.
            sync_folder(path).map_err(io)?;
        }
        drop(lock);
        journal.checked = walked.checked;
        Ok(journal)
    }

    /// Appends an event: on the disk when this returns.
    ///
    /// # Errors
    /// [`JournalError`]. After [`JournalError::Io`] the event may or may not be in the journal; the next append finds out.
    pub fn append(&mut self, at: Timestamp, event: &str, fields: Fields) -> Result<Entry, JournalError> {
        // Before the lock: a wrong event or too long a line leaves the file alone, torn end included.
        line(&Head::empty(), at, event, fields.clone())?;
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let _lock = Lock::exclusive(&self.file).map_err(io)?;
        let (open, named) = (self.file.metadata().map_err(io)?, std::fs::metadata(&self.path).map_err(io)?);
        if (open.dev(), open.ino()) != (named.dev(), named.ino()) {
            return Err(JournalError::Replaced { path: self.path.clone() });
        }
        let walked = walk(&self.file, &self.path, self.checked.clone(), |_| ())?;
        self.checked = walked.checked;
        if walked.end > self.checked.offset {
            let torn = set_aside(&self.file, &self.path, self.checked.offset).map_err(io)?;
            append_line(&self.file, &self.path, &mut self.checked, at, TORN_EVENT, torn)?;
        }
        append_line(&self.file, &self.path, &mut self.checked, at, event, fields)
    }

    /// How far the journal goes, as of the last call of this handle.
    pub fn head(&self) -> &Head {
        &self.checked.head
    }
}

/// Verifies every line, and that the journal goes on from each of `witnesses`.
///
/// # Errors
/// [`JournalError`] names the first line that is wrong. A torn last line is an error too: it tells of a crash.
pub fn verify(path: &Path, witnesses: &[Head]) -> Result<Head, JournalError> {
    let mut contradicted = wrong_start(witnesses);
    let head = read(path, |entry| contradicted = contradicted.or_else(|| contradicts(witnesses, &entry)));
    if let Some(line) = contradicted {
        return Err(JournalError::Rewritten { path: path.to_owned(), line });
    }
    let head = head?;
    not_shortened(&head, witnesses, path)?;
    Ok(head)
}

/// That a journal read by [`read_lines`] goes on from each of `witnesses`.
///
/// # Errors
/// [`JournalError::Rewritten`], [`JournalError::Shortened`].
pub fn witnessed(entries: &[Entry], head: &Head, witnesses: &[Head]) -> Result<(), JournalError> {
    match wrong_start(witnesses).or_else(|| entries.iter().find_map(|e| contradicts(witnesses, e))) {
        Some(line) => Err(JournalError::Rewritten { path: IN_MEMORY.into(), line }),
        None => not_shortened(head, witnesses, Path::new(IN_MEMORY)),
    }
}

/// A witness of an empty journal still tells which format it was.
fn wrong_start(witnesses: &[Head]) -> Option<u64> {
    witnesses.iter().any(|w| w.entries == 0 && *w != Head::empty()).then_some(0)
}

/// The line that `entry` is, where a witness saw another one there.
fn contradicts(witnesses: &[Head], entry: &Entry) -> Option<u64> {
    let line = entry.seq + 1;
    witnesses.iter().any(|w| w.entries == line && w.hash != entry.hash).then_some(line)
}

fn not_shortened(head: &Head, witnesses: &[Head], path: &Path) -> Result<(), JournalError> {
    match witnesses.iter().map(|w| w.entries).max() {
        Some(entries) if entries > head.entries => Err(JournalError::Shortened { path: path.to_owned(), found: head.entries, entries }),
        _ => Ok(()),
    }
}

/// Reads and verifies every line, and hands each to `each`.
///
/// # Errors
/// As [`verify`]; the lines before have been handed over.
pub fn read(path: &Path, each: impl FnMut(Entry)) -> Result<Head, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let _lock = Lock::shared(&file).map_err(io)?;
    let walked = walk(&file, path, Checked { offset: 0, head: Head::empty() }, each)?;
    let Checked { offset, head } = walked.checked;
    match walked.end.saturating_sub(offset) {
        0 => Ok(head),
        bytes => Err(JournalError::Torn { path: path.to_owned(), line: head.entries + 1, bytes }),
    }
}

/// The line that follows `before`, its end included, and the head after it: for a journal that is not a file, such as
/// one object a line in a store that creates and never overwrites. Writes nothing.
///
/// Whoever keeps the lines elsewhere keeps the promises of this module: create-only names that follow from the number
/// of the line, durable before the next step.
///
/// # Errors
/// [`JournalError::Event`], [`JournalError::TooLong`].
pub fn line(before: &Head, at: Timestamp, event: &str, fields: Fields) -> Result<(Vec<u8>, Head), JournalError> {
    if event.is_empty() || event.len() > 64 || !event.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
        return Err(JournalError::Event(event.chars().take(64).collect()));
    }
    let Head { entries: seq, hash: prev } = before.clone();
    let body = Body { seq, at, event: event.to_owned(), fields, prev };
    let unwritable = |e: serde_json::Error| JournalError::Io { path: IN_MEMORY.into(), source: e.into() };
    let mut line = serde_json::to_vec(&body).map_err(unwritable)?;
    let hash = hex::encode(Sha256::digest(&line));
    line.pop();
    line.extend_from_slice(format!(r#","hash":"{hash}"}}"#).as_bytes());
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(JournalError::TooLong { bytes: line.len() });
    }
    Ok((line, Head { entries: seq + 1, hash }))
}

/// Reads and verifies lines made by [`line()`], one after the other from the first; errors call them `journal`.
/// [`witnessed`] compares the entries with what others saw.
///
/// # Errors
/// As [`verify`], without witnesses.
pub fn read_lines(bytes: &[u8]) -> Result<(Vec<Entry>, Head), JournalError> {
    let mut entries = Vec::new();
    let start = Checked { offset: 0, head: Head::empty() };
    let Checked { offset, head } = walk_lines(bytes, Path::new(IN_MEMORY), start, |e| entries.push(e))?;
    match bytes.len() as u64 - offset {
        0 => Ok((entries, head)),
        torn => Err(JournalError::Torn { path: IN_MEMORY.into(), line: head.entries + 1, bytes: torn }),
    }
}

/// What a walk over the lines found.
struct Walked {
    checked: Checked,
    /// Where the bytes end, torn ones included.
    end: u64,
}

/// Verifies the lines after `checked`.
fn walk(mut file: &File, path: &Path, checked: Checked, each: impl FnMut(Entry)) -> Result<Walked, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let end = file.metadata().map_err(io)?.len();
    if end < checked.offset {
        return Err(JournalError::Truncated { path: path.to_owned() });
    }
    file.seek(SeekFrom::Start(checked.offset)).map_err(io)?;
    let checked = walk_lines(BufReader::new(file), path, checked, each)?;
    Ok(Walked { checked, end })
}

/// Verifies the whole lines of `reader`, which come after `checked`.
fn walk_lines(
    mut reader: impl io::BufRead,
    path: &Path,
    mut checked: Checked,
    mut each: impl FnMut(Entry),
) -> Result<Checked, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line).map_err(io)?;
        let broken = |flaw| JournalError::Broken { path: path.to_owned(), line: checked.head.entries + 1, flaw };
        let Some(content) = line.strip_suffix(b"\n") else {
            // Ours are shorter than that: no crash leaves so much.
            return if n == MAX_LINE { Err(broken(Flaw::TooLong)) } else { Ok(checked) };
        };
        let entry = parse(content, &checked.head).map_err(broken)?;
        checked.offset += n as u64;
        checked.head = Head { entries: checked.head.entries + 1, hash: entry.hash.clone() };
        each(entry);
    }
}

/// Reads the line that follows `before`.
fn parse(line: &[u8], before: &Head) -> Result<Entry, Flaw> {
    let (body, member) = line.split_at_checked(line.len().saturating_sub(HASH_MEMBER)).ok_or(Flaw::Form)?;
    let hash = member.strip_prefix(br#","hash":""#).and_then(|m| m.strip_suffix(br#""}"#)).ok_or(Flaw::Form)?;
    let body = [body, b"}"].concat();
    let computed = hex::encode(Sha256::digest(&body));
    if hash != computed.as_bytes() {
        return Err(Flaw::Hash);
    }
    let parsed: Body = serde_json::from_slice(&body).map_err(|_| Flaw::Form)?;
    if parsed.prev != before.hash {
        return Err(Flaw::Previous);
    }
    if parsed.seq != before.entries {
        return Err(Flaw::Sequence);
    }
    // One event, one spelling: nothing hides in white space, repeated members or escapes.
    if serde_json::to_vec(&parsed).ok().as_ref() != Some(&body) {
        return Err(Flaw::Spelling);
    }
    let Body { seq, at, event, fields, prev } = parsed;
    Ok(Entry { seq, at, event, fields, prev, hash: computed })
}

/// Writes one line at the end, which `checked` is.
fn append_line(
    mut file: &File,
    path: &Path,
    checked: &mut Checked,
    at: Timestamp,
    event: &str,
    fields: Fields,
) -> Result<Entry, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let before = checked.head.clone();
    let (line, head) = line(&before, at, event, fields.clone())?;
    file.write_all(&line).map_err(io)?;
    file.sync_data().map_err(io)?;
    checked.offset += line.len() as u64;
    checked.head = head.clone();
    Ok(Entry { seq: before.entries, at, event: event.to_owned(), fields, prev: before.hash, hash: head.hash })
}

/// Moves what stands after the last whole line to a file of its own, named by its content: a crash in between repeats
/// the same move. Only then the journal is cut.
fn set_aside(mut file: &File, path: &Path, offset: u64) -> io::Result<Fields> {
    let mut torn = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(MAX_LINE as u64).read_to_end(&mut torn)?;
    let sha256 = hex::encode(Sha256::digest(&torn));
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(format!(".torn-{}", &sha256[..16]));
    let kept = path.with_file_name(name);
    let mut copy = tempfile::NamedTempFile::new_in(folder(path))?;
    copy.write_all(&torn)?;
    copy.as_file().sync_all()?;
    copy.persist(&kept).map_err(|e| e.error)?;
    sync_folder(path)?;
    file.set_len(offset)?;
    file.sync_all()?;
    let kept = kept.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Fields::from([("bytes".into(), (torn.len() as u64).into()), ("sha256".into(), sha256.into()), ("kept".into(), kept.into())]))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// A lock on the whole file, given back when dropped. It holds between handles and between processes.
struct Lock<'a>(&'a File);

impl<'a> Lock<'a> {
    fn exclusive(file: &'a File) -> io::Result<Self> {
        file.lock().map(|()| Self(file))
    }

    fn shared(file: &'a File) -> io::Result<Self> {
        file.lock_shared().map(|()| Self(file))
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Closing the file gives the lock back in any case.
        let _ = self.0.unlock();
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not a line of a journal.
    #[error("not a journal line")]
    Form,
    /// Longer than any line.
    #[error("longer than any journal line")]
    TooLong,
    /// The content is not what was hashed.
    #[error("its content and its hash disagree")]
    Hash,
    /// The line before is another one than this line followed.
    #[error("it does not follow the line before")]
    Previous,
    /// Numbers jump.
    #[error("its number is not the next")]
    Sequence,
    /// Right, and not as greffier writes it.
    #[error("it is not spelled as greffier writes it")]
    Spelling,
}

/// Why a journal was refused. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("JOURNAL-IO: {path} cannot be read or written")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The first line that does not verify.
    #[error("JOURNAL-BROKEN: {path}, line {line}: {flaw}")]
    Broken {
        /// Which.
        path: PathBuf,
        /// Line.
        line: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The last line is not whole: a crash while writing, or a cut.
    #[error("JOURNAL-TORN: {path}, line {line}: {bytes} bytes without an end; the next append keeps them aside")]
    Torn {
        /// Which.
        path: PathBuf,
        /// Line.
        line: u64,
        /// Bytes after the last whole line.
        bytes: u64,
    },
    /// A witness knows another line.
    #[error("JOURNAL-REWRITTEN: {path}, line {line} is not the one that a witness saw")]
    Rewritten {
        /// Which.
        path: PathBuf,
        /// Line.
        line: u64,
    },
    /// A witness saw more lines.
    #[error("JOURNAL-SHORTENED: {path} has {found} lines, a witness saw {entries}")]
    Shortened {
        /// Which.
        path: PathBuf,
        /// Lines there are.
        found: u64,
        /// Lines there were.
        entries: u64,
    },
    /// The file became shorter while it was open.
    #[error("JOURNAL-TRUNCATED: {path} became shorter while it was open")]
    Truncated {
        /// Which.
        path: PathBuf,
    },
    /// The file was moved away or exchanged while it was open.
    #[error("JOURNAL-REPLACED: {path} is another file than the one that was opened")]
    Replaced {
        /// Which.
        path: PathBuf,
    },
    /// Not a word.
    #[error("JOURNAL-EVENT: `{0}` is not an event: 1 to 64 of a-z, 0-9 and `-`")]
    Event(String),
    /// Too many or too long fields.
    #[error("JOURNAL-TOO-LONG: a line of {bytes} bytes, at most {MAX_LINE}")]
    TooLong {
        /// Size, bytes.
        bytes: usize,
    },
}

impl JournalError {
    /// The stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "JOURNAL-IO",
            Self::Broken { .. } => "JOURNAL-BROKEN",
            Self::Torn { .. } => "JOURNAL-TORN",
            Self::Rewritten { .. } => "JOURNAL-REWRITTEN",
            Self::Shortened { .. } => "JOURNAL-SHORTENED",
            Self::Truncated { .. } => "JOURNAL-TRUNCATED",
            Self::Replaced { .. } => "JOURNAL-REPLACED",
            Self::Event(_) => "JOURNAL-EVENT",
            Self::TooLong { .. } => "JOURNAL-TOO-LONG",
        }
    }
}

#[cfg(test)]
mod tests;
