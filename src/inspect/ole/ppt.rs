//! PowerPoint 97–2003 presentations ([MS-PPT]).
//!
//! Read the way PowerPoint does: `Current User` → last edit → persist directory → document → slides. What no
//! edit reaches is dead matter and is not looked at.

use std::collections::BTreeMap;

use flate2::read::ZlibDecoder;

use super::cfb::{CompoundFile, u16_at, u32_at};
use super::damaged_stream;
use crate::inspect::budget::ReadError;
use crate::inspect::office::{self, TextSink, shown};
use crate::inspect::{Context, Exceeded};
use crate::model::facts::OfficeFacts;
use crate::model::{Facts, Place, Signal};

const STREAM: &str = "PowerPoint Document";
const DUAL_STORAGE: &str = "PP97_DUALSTORAGE";

// Record types (§2.13.24).
const DOCUMENT: u16 = 0x03E8;
const SLIDE: u16 = 0x03EE;
const SLIDE_PERSIST: u16 = 0x03F3;
const SLIDE_SHOW_INFO: u16 = 0x03F9;
const VBA_INFO: u16 = 0x0400;
const TEXT_CHARS: u16 = 0x0FA0;
const TEXT_BYTES: u16 = 0x0FA8;
const C_STRING: u16 = 0x0FBA;
const EX_OLE_OBJECT: u16 = 0x0FC3;
const SLIDE_LIST: u16 = 0x0FF0;
const INTERACTIVE_INFO: u16 = 0x0FF3;
const USER_EDIT: u16 = 0x0FF5;
const CURRENT_USER: u16 = 0x0FF6;
const EX_OLE_STORAGE: u16 = 0x1011;
const PERSIST_DIRECTORY: u16 = 0x1772;
const COMMENT: u16 = 0x2EE0;
const EX_MEDIA: [u16; 4] = [0x1006, 0x1007, 0x100D, 0x1010];
/// OfficeArt BLIP records hold pictures; references to them stand in shapes (0x0104 `pib`), counted by store entry.
const BLIP_STORE_ENTRY: u16 = 0xF007;

/// `headerToken` of an encrypted presentation (§2.3.2).
const TOKEN_ENCRYPTED: u32 = 0xF3D1_C4DF;

/// Edits chained in one file; each save adds at most one.
const MAX_EDITS: usize = 4_096;

/// A record header (§2.3.1) and where its content stands.
#[derive(Debug, Clone, Copy)]
struct Record {
    is_container: bool,
    instance: u16,
    kind: u16,
    start: usize,
    end: usize,
}

/// The record at `at`; `None` when it does not fit before `limit`.
fn record(bytes: &[u8], at: usize, limit: usize) -> Option<Record> {
    let (head, kind, len) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?, u32_at(bytes, at + 4)? as usize);
    let start = at + 8;
    let end = start.checked_add(len)?;
    (end <= limit.min(bytes.len())).then_some(Record { is_container: head & 0x0F == 0x0F, instance: head >> 4, kind, start, end })
}

/// Reads the presentation; whether it can be read.
pub fn inspect(file: &CompoundFile<'_>, detail: &mut OfficeFacts, ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    // A file for PowerPoint 95 and 97 at once keeps the newer one in a storage.
    let folder = if file.entry(DUAL_STORAGE).is_some() { format!("{DUAL_STORAGE}/") } else { String::new() };
    let Some(entry) = file.stream(&format!("{folder}{STREAM}")) else { return Ok(powerpoint_4(file, facts)) };
    let bytes = file.read(entry).0;
    let Some(user) = file.stream(&format!("{folder}Current User")).map(|e| file.read(e).0) else {
        return Ok(powerpoint_95(file, &bytes, facts));
    };
    if u16_at(&user, 2) != Some(CURRENT_USER) || u32_at(&user, 8).is_none() {
        damaged_stream(facts, "Current User", "CurrentUserAtom", 0);
        return Ok(false);
    }
    if u32_at(&user, 12) == Some(TOKEN_ENCRYPTED) {
        facts.push(Signal::new("office-encrypted").at(Place::part("Current User")).arg("method", "RC4 CryptoAPI"));
        return Ok(false);
    }
    let Some(live) = u32_at(&user, 16).and_then(|at| Live::read(&bytes, at as usize)) else {
        damaged_stream(facts, STREAM, "UserEditAtom, PersistDirectoryAtom", 0);
        return Ok(false);
    };
    if live.encrypted {
        facts.push(Signal::new("office-encrypted").at(Place::part(STREAM)).arg("method", "RC4 CryptoAPI"));
        return Ok(false);
    }
    Presentation { bytes: &bytes, live, slides: Vec::new(), objects: BTreeMap::new(), vba: None, images: 0, intact: true }
        .read(detail, ctx, facts)
}

/// Before PowerPoint 97 no format was published: only a stream that can hold no presentation is told.
const SMALLEST_OLD: usize = 512;

/// PowerPoint 4 keeps everything in `PP40`.
fn powerpoint_4(file: &CompoundFile<'_>, facts: &mut Facts) -> bool {
    let content = file.stream("PP40").map(|e| file.read(e).0).unwrap_or_default();
    if content.len() < SMALLEST_OLD {
        damaged_stream(facts, "PP40", "length", 0);
        return false;
    }
    true
}

/// PowerPoint 95 keeps its header in a stream `Header`; later versions cannot do without `Current User`.
fn powerpoint_95(file: &CompoundFile<'_>, bytes: &[u8], facts: &mut Facts) -> bool {
    if file.stream("Header").is_none() || bytes.len() < SMALLEST_OLD {
        facts.push(Signal::new("office-part-missing").at(Place::part("Current User")).arg("part", "Current User"));
        return false;
    }
    true
}

/// What the edits keep alive.
struct Live {
    /// Persist id → offset, the newest edit's.
    persists: BTreeMap<u32, usize>,
    document: u32,
    encrypted: bool,
}

impl Live {
    /// Follows the edits from the newest back (§2.3.3, §2.3.4).
    fn read(bytes: &[u8], newest: usize) -> Option<Self> {
        let mut live = Self { persists: BTreeMap::new(), document: 0, encrypted: false };
        let mut at = newest;
        for n in 0..MAX_EDITS {
            let edit = record(bytes, at, bytes.len()).filter(|r| r.kind == USER_EDIT && r.end - r.start >= 28)?;
            if n == 0 {
                live.document = u32_at(bytes, edit.start + 16)?;
                live.encrypted = edit.end - edit.start >= 32 && u32_at(bytes, edit.start + 28).is_some_and(|id| id != 0);
            }
            let directory = u32_at(bytes, edit.start + 12)? as usize;
            let directory = record(bytes, directory, bytes.len()).filter(|r| r.kind == PERSIST_DIRECTORY)?;
            live.read_directory(bytes, directory)?;
            let previous = u32_at(bytes, edit.start + 8)? as usize;
            if previous == 0 || previous >= at {
                break;
            }
            at = previous;
        }
        Some(live)
    }

    /// §2.3.6: runs of consecutive ids.
    fn read_directory(&mut self, bytes: &[u8], directory: Record) -> Option<()> {
        let mut at = directory.start;
        while at + 4 <= directory.end {
            let run = u32_at(bytes, at)?;
            let (first, count) = (run & 0x000F_FFFF, run >> 20);
            at += 4;
            for i in 0..count {
                if at + 4 > directory.end {
                    return None;
                }
                let offset = u32_at(bytes, at)? as usize;
                self.persists.entry(first + i).or_insert(offset);
                at += 4;
            }
        }
        Some(())
    }
}

/// What an OLE object of the presentation is (§2.10.12).
#[derive(Clone, Copy, PartialEq, Eq)]
enum ObjectKind {
    Embedded,
    Linked,
    Control,
}

struct Presentation<'a> {
    bytes: &'a [u8],
    live: Live,
    /// Persist id and outline text of each slide.
    slides: Vec<(u32, String)>,
    /// Persist id of its storage → kind.
    objects: BTreeMap<u32, ObjectKind>,
    vba: Option<(u32, bool)>,
    images: u32,
    intact: bool,
}

impl Presentation<'_> {
    fn read(mut self, detail: &mut OfficeFacts, ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
        let document = self.live.persists.get(&self.live.document).and_then(|at| record(self.bytes, *at, self.bytes.len()));
        let Some(document) = document.filter(|r| r.kind == DOCUMENT && r.is_container) else {
            damaged_stream(facts, STREAM, "DocumentContainer", 0);
            return Ok(false);
        };
        self.read_document(document, ctx, facts)?;
        self.read_slides(detail, ctx, facts)?;
        self.read_objects(ctx, facts)?;
        detail.images = self.images;
        Ok(self.intact)
    }

    /// Visits the records inside `container`, containers entered; a record that does not fit ends it.
    fn walk(
        &mut self,
        container: Record,
        ctx: &mut Context,
        facts: &mut Facts,
        mut visit: impl FnMut(&mut Self, Record, &mut Context, &mut Facts),
    ) -> Result<(), Exceeded> {
        ctx.budget.inflate((container.end - container.start) as u64)?;
        let mut ends = vec![container.end];
        let mut at = container.start;
        for n in 0usize.. {
            if n.is_multiple_of(1_024) {
                ctx.budget.work(1_024 * 100)?;
            }
            while ends.last().is_some_and(|end| at >= *end) {
                ends.pop();
            }
            let Some(end) = ends.last().copied() else { break };
            let Some(found) = record(self.bytes, at, end) else {
                // Up to seven stray bytes at the end of a container are padding.
                if end - at >= 8 {
                    self.intact = false;
                    damaged_stream(facts, STREAM, "RecordHeader", at);
                    return Ok(());
                }
                at = end;
                continue;
            };
            visit(self, found, ctx, facts);
            if found.is_container && ends.len() < 64 {
                ends.push(found.end);
                at = found.start;
            } else {
                at = found.end;
            }
        }
        Ok(())
    }

    fn read_document(&mut self, document: Record, ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
        let mut list = None;
        let mut media = None;
        self.walk(document, ctx, facts, |this, found, _, facts| {
            let field = |at: usize| u32_at(this.bytes, found.start + at);
            match found.kind {
                SLIDE_LIST => list = Some((found.instance, found.end)),
                SLIDE_PERSIST if list.is_some_and(|(instance, end)| instance == 0 && found.start < end) => {
                    this.slides.push((field(0).unwrap_or(0), String::new()));
                }
                TEXT_CHARS | TEXT_BYTES if list.is_some_and(|(instance, end)| instance == 0 && found.start < end) => {
                    let text = this.text(found);
                    if let Some((_, outline)) = this.slides.last_mut() {
                        outline.push_str(&text);
                        outline.push('\n');
                    }
                }
                VBA_INFO => this.vba = Some((field(0).unwrap_or(0), field(4).unwrap_or(0) != 0)),
                EX_OLE_OBJECT => {
                    let kind = match field(4) {
                        Some(1) => ObjectKind::Linked,
                        Some(2) => ObjectKind::Control,
                        _ => ObjectKind::Embedded,
                    };
                    this.objects.insert(field(16).unwrap_or(0), kind);
                }
                BLIP_STORE_ENTRY => this.images += 1,
                _ if EX_MEDIA.contains(&found.kind) => media = Some(found.end),
                C_STRING if media.is_some_and(|end| found.start < end) => {
                    let target = shown(&this.text(found));
                    facts.push(Signal::new("office-linked-media").at(Place::part(STREAM)).arg("target", target));
                    media = None;
                }
                _ => {}
            }
        })
    }

    fn read_slides(&mut self, detail: &mut OfficeFacts, ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
        let mut comments = 0u64;
        for (i, (id, outline)) in std::mem::take(&mut self.slides).into_iter().enumerate() {
            let page = u32::try_from(i + 1).unwrap_or(u32::MAX);
            detail.slides = Some(page);
            let mut sink = TextSink::new(Place::page(page));
            sink.push(&outline, ctx, facts);
            let slide = self.live.persists.get(&id).and_then(|at| record(self.bytes, *at, self.bytes.len())).filter(|r| r.kind == SLIDE);
            let Some(slide) = slide else {
                self.intact = false;
                damaged_stream(facts, STREAM, "SlideContainer", 0);
                sink.finish(ctx, facts);
                continue;
            };
            self.walk(slide, ctx, facts, |this, found, ctx, facts| match found.kind {
                TEXT_CHARS | TEXT_BYTES => {
                    sink.push(&this.text(found), ctx, facts);
                    sink.end_paragraph(ctx, facts);
                }
                // Action 2 of an interaction runs a program (§2.8.3).
                INTERACTIVE_INFO if this.bytes.get(found.start + 8) == Some(&2) => {
                    facts.push(Signal::new("office-launch").at(Place::page(page)).arg("target", ""));
                }
                SLIDE_SHOW_INFO if u16_at(this.bytes, found.start + 10).is_some_and(|flags| flags & 0x0004 != 0) => {
                    facts.push(Signal::new("office-hidden-slide").at(Place::page(page)));
                }
                COMMENT => comments += 1,
                _ => {}
            })?;
            detail.chars += sink.finish(ctx, facts);
        }
        if comments > 0 {
            facts.push(Signal::new("office-comments").at(Place::part(STREAM)).arg("count", comments));
        }
        Ok(())
    }

    /// Macros and objects stand in storages of their own, often deflated (§2.10.34).
    fn read_objects(&mut self, ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
        for (id, kind) in std::mem::take(&mut self.objects) {
            match kind {
                ObjectKind::Control => {
                    if !facts.has("office-activex") {
                        facts.push(Signal::new("office-activex").at(Place::part(STREAM)));
                    }
                }
                ObjectKind::Linked => {
                    facts.push(Signal::new("office-linked-object").at(Place::part(STREAM)).arg("target", format!("OLE {id}")))
                }
                ObjectKind::Embedded => {
                    let part = format!("{STREAM}/OLE {id}");
                    match self.storage(id, ctx)? {
                        Some(content) => office::embedded(&content, &part, &format!("OLE {id}"), false, ctx, facts)?,
                        None => facts.push(
                            Signal::new("office-embedded-object")
                                .at(Place::part(part))
                                .arg("object", format!("OLE {id}"))
                                .arg("size_bytes", 0u64),
                        ),
                    }
                }
            }
        }
        if let Some((id, has_macros)) = self.vba {
            // The flag alone is the author's word; a project in the storage is a fact.
            let project = self.storage(id, ctx)?.is_some_and(|content| {
                CompoundFile::open(&content).is_ok_and(|file| file.entries.iter().any(|e| e.name.eq_ignore_ascii_case("_VBA_PROJECT")))
            });
            if has_macros || project {
                facts.push(Signal::new("office-macro-vba").at(Place::part(STREAM)));
            }
        }
        Ok(())
    }

    /// The content of an object's storage, inflated within the budget.
    fn storage(&self, id: u32, ctx: &mut Context) -> Result<Option<Vec<u8>>, Exceeded> {
        let found =
            self.live.persists.get(&id).and_then(|at| record(self.bytes, *at, self.bytes.len())).filter(|r| r.kind == EX_OLE_STORAGE);
        let Some(found) = found else { return Ok(None) };
        let content = self.bytes.get(found.start..found.end).unwrap_or_default();
        if found.instance == 0 {
            ctx.budget.inflate(content.len() as u64)?;
            return Ok(Some(content.to_vec()));
        }
        match ctx.budget.read_to_end(&mut ZlibDecoder::new(content.get(4..).unwrap_or_default())) {
            Ok(inflated) => Ok(Some(inflated)),
            Err(ReadError::Exceeded(exceeded)) => Err(exceeded),
            Err(ReadError::Io(_)) => Ok(None),
        }
    }

    fn text(&self, found: Record) -> String {
        let raw = self.bytes.get(found.start..found.end).unwrap_or_default();
        if found.kind == TEXT_BYTES {
            raw.iter().map(|b| char::from(*b)).collect()
        } else {
            encoding_rs::UTF_16LE.decode_without_bom_handling(raw).0.into_owned()
        }
    }
}
