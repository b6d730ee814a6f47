//! True format from bytes and structure.
//!
//! Goals:
//! 1. Names and declared types are not looked at: facts are cached by content.
//! 2. `infer` is the first look, and is recorded; structure decides. A ZIP is a `docx` because its package
//!    says so, not because a folder is called `word/`; a damaged document is still told by what remains,
//!    so that its inspector can say that it is damaged.
//! 3. The same bytes may open as two formats. The one an ordinary reader would see first is the format, the
//!    other stands in `also`, with the signal `file-polyglot`.

mod bmff;
mod cfb;
pub(crate) mod encoding;
mod magic;
mod package;
mod polyglot;
mod text;

use crate::model::facts::{Facts, Identification, Signal};
use crate::model::format::{Family, Format};
use crate::model::text::display_safe;

/// What was told of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    format: Format,
    /// What decided, for a curious reader.
    basis: String,
    /// Bytes before the document proper.
    leading: usize,
    /// Formats that the structure itself shows besides.
    also: Vec<Format>,
}

impl Told {
    /// `basis` may quote the file: it is shown, so it moves no cursor, hides nothing and is short.
    fn new(format: Format, basis: impl AsRef<str>) -> Self {
        Self { format, basis: display_safe(basis.as_ref(), 200), leading: 0, also: Vec::new() }
    }
}

/// Tells what `bytes` are and records it on `facts`.
pub fn identify(bytes: &[u8], facts: &mut Facts) {
    let infer = infer::get(bytes).map(|t| t.mime_type().to_owned());
    facts.identification = Identification { infer, ..Identification::default() };
    if bytes.is_empty() {
        return;
    }
    let Some(told) = tell(bytes) else {
        facts.push(unknown(bytes));
        return;
    };
    facts.format = Some(told.format);
    facts.identification.basis.clone_from(&told.basis);
    if told.format.is_executable() {
        facts.push(Signal::new("file-executable").arg("format", told.format.label()));
    }
    // A plain archive says so itself, as an error of its own.
    if told.leading > 0 && told.format != Format::Zip {
        facts.push(Signal::new("file-leading-data").arg("leading_bytes", told.leading).arg("format", told.format.label()));
    }
    polyglot::look(bytes, &told, facts);
}

/// The format alone; `None` when nothing known matches.
fn tell(bytes: &[u8]) -> Option<Told> {
    if let Some(told) = package::tell(bytes) {
        return Some(told);
    }
    if let Some(told) = cfb::tell(bytes) {
        return Some(told);
    }
    if let Some(told) = magic::tell(bytes) {
        return Some(told);
    }
    if let Some(told) = bmff::tell(bytes) {
        return Some(told);
    }
    if let Some(told) = pdf_behind_something(bytes) {
        return Some(told);
    }
    if let Some(told) = package::tell_behind_something(bytes) {
        return Some(told);
    }
    if is_office_lock(bytes) {
        return None;
    }
    text::tell(bytes).or_else(|| magic::tell_late(bytes))
}

/// A PDF whose header does not stand first: readers look for it in the first 1,024 bytes (ISO 32000-1
/// Annex H, implementation note 13). A text that merely speaks of `%PDF-` has no objects.
fn pdf_behind_something(bytes: &[u8]) -> Option<Told> {
    let at = pdf_header(bytes)?;
    let body = bytes.get(at..)?;
    let objects = memchr::memmem::find(body, b" obj").is_some() && memchr::memmem::find(body, b"endobj").is_some();
    if !objects {
        return None;
    }
    let junk = bytes.get(..at).unwrap_or(&[]);
    let harmless = junk.iter().all(|b| b.is_ascii_whitespace() || matches!(b, 0 | 0xEF | 0xBB | 0xBF));
    Some(Told { leading: if harmless { 0 } else { at }, ..Told::new(Format::Pdf, format!("%PDF- at byte {at}")) })
}

/// Where `%PDF-` and a version stand in the first 1,024 bytes.
fn pdf_header(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..bytes.len().min(1024 + 8))?;
    memchr::memmem::find_iter(head, b"%PDF-")
        .take(8)
        .find(|at| head.get(at + 5).is_some_and(u8::is_ascii_digit) && head.get(at + 6).is_none_or(|b| *b == b'.'))
}

/// The signal of bytes that nothing known matches.
fn unknown(bytes: &[u8]) -> Signal {
    if is_office_lock(bytes) {
        return Signal::new("file-office-lock").arg("size_bytes", bytes.len());
    }
    match bytes.first() {
        Some(first) if bytes.len() > 1 && bytes.iter().all(|b| b == first) => {
            Signal::new("file-one-value").arg("size_bytes", bytes.len()).arg("value", format!("0x{first:02X}"))
        }
        _ => Signal::new("file-unknown-format").arg("size_bytes", bytes.len()),
    }
}

/// The `~$…` file that Word, Excel or PowerPoint keeps beside an open document: the length of the user's
/// name, the name in the ANSI code page, the length again, the name in UTF-16.
fn is_office_lock(bytes: &[u8]) -> bool {
    let (Some(name_len), true) = (bytes.first(), (56..=165).contains(&bytes.len())) else { return false };
    if !(1..=53).contains(name_len) {
        return false;
    }
    let twin = |at: usize| bytes.get(at) == Some(name_len) && bytes.get(at + 1) == Some(&0);
    let padded = bytes.get(1 + usize::from(*name_len)..54).is_some_and(|pad| pad.iter().all(|b| matches!(b, 0 | b' ')));
    padded && (twin(54) || twin(55))
}

/// Whether a ZIP-based reader is the one that opens this format.
fn is_zip_based(format: Format) -> bool {
    matches!(format.family(), Family::Zip | Family::Ooxml)
        || matches!(format, Format::Jar | Format::Epub | Format::Visio)
        || format.family() == Family::Odf
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

fn u64_be(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_be_bytes)
}
