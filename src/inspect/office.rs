//! What the office formats share whatever their container: where a link leads, what a field does, what an
//! embedded object is, and the signals that say so.
//!
//! Goals:
//! 1. The same trouble has the same code in a `.doc`, a `.docx` and an `.odt`: one message, one rule.
//! 2. Links are told by what happens when the document is opened: an ordinary hyperlink waits for a click and
//!    is no signal; a template, an object or a picture elsewhere is fetched.

use super::budget::ReadError;
use super::ole::cfb::{self, CompoundFile};
use super::zip_index::{ZipIndex, ZipProblemKind, ZipSeverity};
use super::zip_names::clashes;
use super::{Context, Exceeded, odf, ole, ooxml};
use crate::model::text::display_safe;
use crate::model::{Facts, Place, Signal};

/// How much of an untrusted target or command is kept for the texts.
const SHOWN_CHARS: usize = 160;
/// Text is handed over in chunks of about this many bytes, whole paragraphs where they are shorter.
const CHUNK_BYTES: usize = 4_096;

/// Where a link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Another machine: opening the document makes a network request, and on Windows shares sends the
    /// reader's credentials.
    Remote,
    /// The reader's own disks, or beside the document: absent on any other machine.
    Local,
}

/// Tells where `target` leads.
pub fn reach(target: &str) -> Reach {
    let target = target.trim().replace('\\', "/").to_ascii_lowercase();
    if let Some(path) = target.strip_prefix("file:") {
        let path = path.replace("%5c", "/");
        let slashes = path.len() - path.trim_start_matches('/').len();
        let host = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let is_drive = host.ends_with(':') || host.ends_with('|') || host.contains(":") || host == "localhost";
        // `file://host/share`, `file:////host/share` and `file://///host/share` name another machine; three slashes do not.
        return if is_drive || host.is_empty() || matches!(slashes, 0 | 1 | 3) { Reach::Local } else { Reach::Remote };
    }
    if target.starts_with("//") {
        return Reach::Remote;
    }
    match target.split_once(':') {
        // One letter before the colon is a drive.
        Some((scheme, _)) if scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) => {
            if matches!(scheme, "mailto" | "tel" | "cid" | "urn" | "data" | "about" | "ppaction" | "vnd.sun.star.package" | "embed") {
                Reach::Local
            } else {
                Reach::Remote
            }
        }
        _ => Reach::Local,
    }
}

/// What an untrusted string looks like in a text.
pub fn shown(untrusted: &str) -> String {
    display_safe(untrusted.trim(), SHOWN_CHARS)
}

/// Gathers text and hands it to the facts in chunks of bounded number and size.
#[derive(Debug)]
pub struct TextSink {
    place: Place,
    buffer: String,
    chars: u64,
}

impl TextSink {
    /// Text found at `place`.
    pub fn new(place: Place) -> Self {
        Self { place, buffer: String::new(), chars: 0 }
    }

    /// Adds a run of text.
    pub fn push(&mut self, text: &str, ctx: &mut Context, facts: &mut Facts) {
        self.chars += text.chars().filter(|c| !c.is_whitespace()).count() as u64;
        let mut rest = text;
        // Once the budget of text is spent, what follows is only counted.
        while !rest.is_empty() && !facts.text_truncated {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(4 * CHUNK_BYTES));
            self.buffer.push_str(piece);
            if self.buffer.len() > 4 * CHUNK_BYTES {
                self.flush(ctx, facts);
            }
            rest = after;
        }
    }

    /// Ends a paragraph, a cell or a line.
    pub fn end_paragraph(&mut self, ctx: &mut Context, facts: &mut Facts) {
        if !self.buffer.is_empty() {
            self.buffer.push('\n');
        }
        if self.buffer.len() > CHUNK_BYTES {
            self.flush(ctx, facts);
        }
    }

    /// Hands over what is left; returns the characters seen, white space not counted.
    pub fn finish(mut self, ctx: &mut Context, facts: &mut Facts) -> u64 {
        self.flush(ctx, facts);
        self.chars
    }

    fn flush(&mut self, ctx: &mut Context, facts: &mut Facts) {
        if !self.buffer.is_empty() {
            ctx.add_text(facts, self.place.clone(), &self.buffer);
            self.buffer.clear();
        }
    }
}

/// Records what a Word field does (ISO/IEC 29500-1 §17.16.5, [MS-DOC] §2.9.90), where it reaches out.
pub fn record_field(instruction: &str, part: &str, facts: &mut Facts) {
    let instruction = instruction.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    let keyword: String = instruction.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
    let arguments = instruction.get(keyword.len()..).unwrap_or_default();
    let place = || Place::part(part);
    match keyword.as_str() {
        "DDE" | "DDEAUTO" => facts.push(Signal::new("office-dde").at(place()).arg("command", shown(arguments))),
        "LINK" => facts.push(Signal::new("office-linked-object").at(place()).arg("target", shown(arguments))),
        "INCLUDETEXT" | "INCLUDE" | "DATABASE" | "RD" => {
            facts.push(Signal::new("office-linked-document").at(place()).arg("target", shown(arguments)));
        }
        "INCLUDEPICTURE" | "IMPORT" => facts.push(Signal::new("office-linked-image").at(place()).arg("target", shown(arguments))),
        _ => {}
    }
}

/// Nested Word fields, met as begin, separate and end marks between pieces of text.
#[derive(Debug, Default)]
pub struct Fields {
    open: Vec<(String, bool)>,
}

/// Fields inside fields; Word allows 20.
const MAX_FIELD_DEPTH: usize = 64;
/// Longest field instruction that is looked at.
const MAX_INSTRUCTION: usize = 4_096;

impl Fields {
    /// A field begins. Past the bound the outermost is judged and forgotten, so that no pile of fields
    /// hides one.
    pub fn begin(&mut self, part: &str, facts: &mut Facts) {
        if self.open.len() >= MAX_FIELD_DEPTH {
            let (instruction, in_result) = self.open.remove(0);
            if !in_result {
                record_field(&instruction, part, facts);
            }
        }
        self.open.push((String::new(), false));
    }

    /// Its result begins: what follows is shown, not executed.
    pub fn separate(&mut self, part: &str, facts: &mut Facts) {
        if let Some((instruction, in_result)) = self.open.last_mut() {
            if !*in_result {
                record_field(instruction, part, facts);
            }
            *in_result = true;
        }
    }

    /// It ends.
    pub fn end(&mut self, part: &str, facts: &mut Facts) {
        if let Some((instruction, in_result)) = self.open.pop()
            && !in_result
        {
            record_field(&instruction, part, facts);
        }
    }

    /// Whether text met now belongs to an instruction.
    pub fn in_instruction(&self) -> bool {
        self.open.last().is_some_and(|(_, in_result)| !in_result)
    }

    /// A piece of the current instruction.
    pub fn push(&mut self, text: &str) {
        if let Some((instruction, false)) = self.open.last_mut()
            && instruction.len() < MAX_INSTRUCTION
        {
            push_capped(instruction, if instruction.is_empty() { text.trim_start() } else { text }, MAX_INSTRUCTION);
        }
    }

    /// The part ends; a field left open still counts.
    pub fn finish(mut self, part: &str, facts: &mut Facts) {
        while !self.open.is_empty() {
            self.end(part, facts);
        }
    }
}

/// Appends `text` to `kept`, which does not grow beyond about `max` bytes.
pub fn push_capped(kept: &mut String, text: &str, max: usize) {
    let room = max.saturating_sub(kept.len());
    kept.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
}

/// Records what two readers of the same container could see differently. Honest writers leave none of
/// these; data before and after the container are told by identification.
pub fn record_container(zip: &ZipIndex<'_>, facts: &mut Facts) {
    let doubtful = zip.problems.iter().find(|p| {
        p.severity() == ZipSeverity::Ambiguous
            && !matches!(p.kind, ZipProblemKind::Leading | ZipProblemKind::Trailing | ZipProblemKind::GapBeforeEnd)
    });
    if let Some(problem) = doubtful {
        let part = problem.entry.and_then(|i| zip.entries.get(i)).map(|e| e.name.clone());
        let detail = match problem.kind {
            ZipProblemKind::HeadersDisagree(field) | ZipProblemKind::EndDisagrees(field) => field.as_str().to_owned(),
            kind => format!("{kind:?}"),
        };
        let place = Place { part, byte: Some(problem.byte), ..Place::default() };
        facts.push(Signal::new("office-container-ambiguous").at(place).arg("detail", detail));
    }
}

/// Records parts of a package that are one file, or a file and the folder of another, to a program that unpacks it (ISO/IEC 29500-2
/// §6.2.2.3 forbids both). Equal names are told by the caller.
pub fn record_names(zip: &ZipIndex<'_>, facts: &mut Facts) {
    let names: Vec<&str> = zip.entries.iter().map(|e| e.name.as_str()).collect();
    for clash in clashes(&names) {
        let (Some(name), Some(other)) = (names.get(clash.entry), names.get(clash.other)) else { continue };
        // Whether case matters depends on the kind of package, which the caller knows.
        if name.eq_ignore_ascii_case(other) {
            continue;
        }
        facts.push(Signal::new("office-part-clash").at(Place::part(*name)).arg("part", shown(name)).arg("other", shown(other)));
    }
    for name in names.iter().filter(|n| n.split(['/', '\\']).any(|segment| segment == "..")) {
        facts.push(Signal::new("office-part-escapes").at(Place::part(*name)).arg("part", shown(name)));
    }
}

/// Signals of an embedded document that matter to the one that holds it.
const LIFTED: &[&str] = &[
    "office-macro-vba",
    "office-macro-xlm",
    "office-macro-script",
    "office-dde",
    "office-remote-template",
    "office-remote-object",
    "office-activex",
    "office-embedded-program",
    "office-launch",
    "bomb-inflated",
    "bomb-members",
    "bomb-depth",
    "bomb-time",
    "inspect-clock",
];

/// Looks into the bytes of an object embedded at `part`: says that it is there (unless `quiet`, for the
/// workbooks that charts are drawn from), whether it is a program, and what acts inside it.
///
/// # Errors
/// When the budget of the item ends.
pub fn embedded(bytes: &[u8], part: &str, name: &str, quiet: bool, ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
    ctx.budget.tick()?;
    let native = bytes.starts_with(&cfb::MAGIC).then(|| native_payload(bytes)).flatten();
    let (content, name): (&[u8], String) = match &native {
        Some(native) => (&native.content, if native.name.is_empty() { name.to_owned() } else { native.name.clone() }),
        None => (bytes, class_of(bytes).unwrap_or_else(|| name.to_owned())),
    };
    if is_program(content, &name) {
        facts.push(Signal::new("office-embedded-program").at(Place::part(part)).arg("object", shown(&name)));
    } else if !quiet {
        facts.push(
            Signal::new("office-embedded-object").at(Place::part(part)).arg("object", shown(&name)).arg("size_bytes", content.len() as u64),
        );
    }
    inside(content, part, quiet, ctx, facts)
}

/// Inspects an embedded office document for what acts when it is opened.
fn inside(bytes: &[u8], part: &str, quiet: bool, ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
    let is_zip = bytes.starts_with(b"PK\x03\x04");
    if !is_zip && !bytes.starts_with(&cfb::MAGIC) {
        return Ok(());
    }
    if ctx.depth + 1 >= ctx.budget.limits().max_depth {
        return if quiet { Ok(()) } else { Err(Exceeded::Depth) };
    }
    ctx.budget.member()?;
    ctx.depth += 1;
    let mut inner = Facts::of_size(bytes.len() as u64);
    if !is_zip {
        ole::inspect_package(bytes, ctx, &mut inner);
    } else if memchr::memmem::find(bytes.get(..200).unwrap_or(bytes), b"mimetypeapplication/vnd.oasis").is_some() {
        odf::inspect_package(bytes, ctx, &mut inner);
    } else {
        ooxml::inspect_package(bytes, ctx, &mut inner);
    }
    ctx.depth -= 1;
    for signal in inner.signals {
        if LIFTED.contains(&signal.code.as_str()) {
            let place = signal.place.clone().inside(part);
            facts.push(signal.at(place));
        }
    }
    Ok(())
}

/// An OLE object that does not say what made it.
const UNNAMED_CLASS: &str = "OLE";

/// What an OLE object carries, unwrapped.
struct Native {
    name: String,
    content: Vec<u8>,
}

/// Unwraps the content of an OLE object: a file dropped into the document (`\x01Ole10Native`, [MS-OLEDS]
/// §2.3.6), an Open XML package (`Package`), or a server's own `CONTENTS`.
fn native_payload(bytes: &[u8]) -> Option<Native> {
    let file = CompoundFile::open(bytes).ok()?;
    native_in(&file, "")
}

fn native_in(file: &CompoundFile<'_>, storage: &str) -> Option<Native> {
    let at = |name: &str| if storage.is_empty() { name.to_owned() } else { format!("{storage}/{name}") };
    if let Some(entry) = file.stream(&at("\u{1}Ole10Native")) {
        return Some(parse_ole10_native(&file.read(entry).0));
    }
    for (stream, name) in [("Package", ""), ("CONTENTS", ""), ("EmbeddedOdf", ""), ("package_stream", "")] {
        if let Some(entry) = file.stream(&at(stream)) {
            return Some(Native { name: name.to_owned(), content: file.read(entry).0 });
        }
    }
    None
}

/// `\x01Ole10Native`: size, then (for packages) type, label, original path, and the file itself. Other
/// servers write their own bytes after the size.
fn parse_ole10_native(stream: &[u8]) -> Native {
    let raw = || Native { name: String::new(), content: stream.get(4..).unwrap_or_default().to_vec() };
    let parse = || -> Option<Native> {
        if cfb::u16_at(stream, 4)? != 2 {
            return None;
        }
        let mut at = 6;
        let mut text = || -> Option<String> {
            let rest = stream.get(at..)?;
            let end = memchr::memchr(0, rest)?;
            at += end + 1;
            Some(legacy_text(rest.get(..end)?))
        };
        let label = text()?;
        let path = text()?;
        at += 4;
        let command_len = cfb::u32_at(stream, at)? as usize;
        at = at.checked_add(4)?.checked_add(command_len)?;
        let size = cfb::u32_at(stream, at)? as usize;
        let content = stream.get(at + 4..)?;
        let name = if label.is_empty() { path } else { label };
        Some(Native { name, content: content.get(..size.min(content.len()))?.to_vec() })
    };
    parse().unwrap_or_else(raw)
}

/// Names in old structures: UTF-8 where a recent writer used it, else the usual Western code page.
fn legacy_text(raw: &[u8]) -> String {
    std::str::from_utf8(raw).map_or_else(|_| encoding_rs::WINDOWS_1252.decode_without_bom_handling(raw).0.into_owned(), str::to_owned)
}

/// What the root of a lone OLE object says it is.
fn class_of(bytes: &[u8]) -> Option<String> {
    let file = bytes.starts_with(&cfb::MAGIC).then(|| CompoundFile::open(bytes).ok()).flatten()?;
    Some(class_name(&file, "")).filter(|class| class != UNNAMED_CLASS)
}

/// Name extensions that Windows or macOS runs on a double click.
const PROGRAM_EXTENSIONS: &[&str] = &[
    "exe",
    "dll",
    "scr",
    "com",
    "pif",
    "cpl",
    "msi",
    "msp",
    "bat",
    "cmd",
    "ps1",
    "psm1",
    "vbs",
    "vbe",
    "js",
    "jse",
    "wsf",
    "wsh",
    "hta",
    "lnk",
    "url",
    "jar",
    "reg",
    "sct",
    "chm",
    "inf",
    "application",
    "gadget",
    "settingcontent-ms",
    "iqy",
    "slk",
    "xll",
    "command",
    "sh",
];

/// Whether `content` is a program, or `name` one that Windows starts.
pub fn is_program(content: &[u8], name: &str) -> bool {
    let is_pe = content.starts_with(b"MZ")
        && cfb::u32_at(content, 60).is_some_and(|pe| content.get(pe as usize..).is_some_and(|header| header.starts_with(b"PE\0\0")));
    let is_elf = content.starts_with(b"\x7FELF");
    let is_shortcut = content.starts_with(b"\x4C\0\0\0\x01\x14\x02\0");
    let by_name = name.rsplit_once('.').is_some_and(|(_, e)| PROGRAM_EXTENSIONS.contains(&e.trim().to_ascii_lowercase().as_str()));
    is_pe || is_elf || is_shortcut || by_name
}

/// Looks into an object that is a storage of the document's own compound file.
///
/// # Errors
/// When the budget of the item ends.
pub fn embedded_storage(file: &CompoundFile<'_>, storage: &str, ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
    ctx.budget.tick()?;
    let class = class_name(file, storage);
    match native_in(file, storage) {
        Some(native) => {
            let name = if native.name.is_empty() { class } else { native.name };
            embedded(&native.content, storage, &name, false, ctx, facts)
        }
        None => {
            facts.push(
                Signal::new("office-embedded-object")
                    .at(Place::part(storage))
                    .arg("object", shown(&class))
                    .arg("size_bytes", storage_size(file, storage)),
            );
            Ok(())
        }
    }
}

fn storage_size(file: &CompoundFile<'_>, storage: &str) -> u64 {
    let prefix = format!("{storage}/");
    file.entries.iter().filter(|e| e.path.starts_with(&prefix)).map(|e| e.size).sum()
}

/// The user type or program id that `\x01CompObj` names ([MS-OLEDS] §2.3.8), else nothing.
fn class_name(file: &CompoundFile<'_>, storage: &str) -> String {
    let path = if storage.is_empty() { String::from("\u{1}CompObj") } else { format!("{storage}/\u{1}CompObj") };
    let Some(entry) = file.stream(&path) else { return UNNAMED_CLASS.to_owned() };
    let stream = file.read(entry).0;
    let text = || -> Option<String> {
        let len = cfb::u32_at(&stream, 28)? as usize;
        let raw = stream.get(32..32usize.checked_add(len.min(200))?)?;
        Some(legacy_text(raw).trim_end_matches('\0').to_owned())
    };
    text().filter(|t| !t.trim().is_empty()).unwrap_or_else(|| UNNAMED_CLASS.to_owned())
}

/// Splits what went wrong while reading a package part: the budget goes up, damage is described.
///
/// # Errors
/// When the budget of the item ended.
pub fn damage(error: ReadError) -> Result<String, Exceeded> {
    match error {
        ReadError::Exceeded(exceeded) => Err(exceeded),
        ReadError::Io(error) => Ok(display_safe(&error.to_string(), 120)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Limits;

    #[test]
    fn only_other_machines_are_remote() {
        for remote in [
            "http://example.org/t.dotm",
            "HTTPS://example.org/t.dotm",
            "\\\\server\\share\\t.dotx",
            "//server/share/t.dotx",
            "file://server/share/t.dotx",
            "file:///\\\\server\\share\\t.dotx",
            "file://///server/share/t.dotx",
            "mhtml:http://example.org/x!y",
            "ftp://example.org/x",
        ] {
            assert_eq!(reach(remote), Reach::Remote, "{remote}");
        }
        for local in [
            "file:///C:\\Users\\a\\t.dotx",
            "file:///C:/t.dotx",
            "C:\\t.dotx",
            "Normal.dotm",
            "../media/a.png",
            "/Users/a/b.xlsx",
            "file:t.dot",
            "#x",
            "",
            "data:image/png;base64,AA",
        ] {
            assert_eq!(reach(local), Reach::Local, "{local}");
        }
    }

    #[test]
    fn a_field_split_over_runs_is_one_instruction() {
        let mut facts = Facts::default();
        let mut fields = Fields::default();
        fields.begin("p", &mut facts);
        fields.push(" DD");
        fields.push("EAUTO c:\\\\windows\\\\system32\\\\cmd.exe \"/k calc\" ");
        fields.separate("p", &mut facts);
        fields.push("DDE shown, not run");
        fields.end("p", &mut facts);
        assert_eq!(facts.signals.len(), 1);
        assert!(facts.has("office-dde"));
    }

    #[test]
    fn a_pile_of_fields_or_of_spaces_hides_none() {
        for hidden_at in [0, 150] {
            let mut facts = Facts::default();
            let mut fields = Fields::default();
            for i in 0..200 {
                fields.begin("p", &mut facts);
                if i == hidden_at {
                    for _ in 0..1_000 {
                        fields.push("          ");
                    }
                    fields.push("DDE cmd");
                }
            }
            fields.finish("p", &mut facts);
            assert!(facts.has("office-dde"), "{hidden_at}");
        }
    }

    #[test]
    fn ordinary_fields_are_no_signal() {
        let mut facts = Facts::default();
        for field in ["HYPERLINK \"http://example.org\"", "PAGE", " TOC \\o \"1-3\"", "MERGEFIELD Nom", "DDEX", "REF _Ref1 \\h", ""] {
            record_field(field, "p", &mut facts);
        }
        assert!(facts.signals.is_empty(), "{:?}", facts.signals);
    }

    fn ole10_native(label: &str, content: &[u8]) -> Vec<u8> {
        let mut body = vec![2, 0];
        body.extend_from_slice(label.as_bytes());
        body.extend_from_slice(b"\0C:\\x\0\0\0\x03\0");
        body.extend_from_slice(&2u32.to_le_bytes());
        body.extend_from_slice(b"C\0");
        body.extend_from_slice(&(content.len() as u32).to_le_bytes());
        body.extend_from_slice(content);
        let mut stream = (body.len() as u32).to_le_bytes().to_vec();
        stream.extend(body);
        stream
    }

    #[test]
    fn a_packaged_file_is_unwrapped() {
        let native = parse_ole10_native(&ole10_native("facture.pdf", b"%PDF-1.7"));
        assert_eq!((native.name.as_str(), native.content.as_slice()), ("facture.pdf", &b"%PDF-1.7"[..]));
    }

    #[test]
    fn a_program_is_told_by_name_or_by_content() {
        assert!(is_program(b"", "facture.pdf.exe"));
        assert!(is_program(b"WScript.Echo 1", "a.VBS"));
        assert!(!is_program(b"MZ in a sentence", "note.txt"));
        assert!(!is_program(b"%PDF-1.7", "facture.pdf"));
    }

    #[test]
    fn many_short_paragraphs_make_few_chunks() {
        let mut ctx = Context::new(Limits::default());
        let mut facts = Facts::default();
        let mut sink = TextSink::new(Place::default());
        for _ in 0..100_000 {
            sink.push("ab", &mut ctx, &mut facts);
            sink.end_paragraph(&mut ctx, &mut facts);
        }
        assert_eq!(sink.finish(&mut ctx, &mut facts), 200_000);
        assert!(facts.text.len() < 100, "{}", facts.text.len());
    }
}
