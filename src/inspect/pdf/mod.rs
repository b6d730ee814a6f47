//! PDF (ISO 32000-1 and -2): structure, encryption, active content, text, bookmarks, signatures.
//!
//! Goals:
//! 1. One reader of our own, lazy and under the item's budget ([`file`]): it says exactly what is damaged,
//!    inflates nothing uncounted, and a million objects cost it a table. lopdf lends its ciphers, its
//!    character tables, and (in tests) its writer; its loader builds the whole document first, drops what
//!    goes past its per-stream limit without a word, and so is not used.
//! 2. What acts is found wherever it hides: object streams, escaped names, indirect names, fields that hang
//!    on no form ([`active`]).
//! 3. Damage is graded by what it costs: `pdf-corrupt` no page can be read, `pdf-content-lost` something is
//!    missing, `pdf-damaged` all was read after repair.
//! 4. Text is extracted well enough to search it: by page, in drawing order, words whole ([`content`]).

mod active;
mod content;
mod crypt;
mod file;
mod filters;
mod font;
mod lexer;
mod metadata;
mod object;
mod pages;
mod pictures;
mod revision;
#[cfg(test)]
mod tests;

use memchr::memmem;

use self::crypt::Access;
use self::file::{File, OpenError};
use self::filters::Outcome;
use self::object::{Dict, Object};
use super::Context;
use super::budget::Exceeded;
use crate::model::facts::{Detail, PageFacts, PdfFacts};
use crate::model::{Facts, Format, Place, Signal};

/// The header stands within the first bytes (annex H.3, note 13 of Adobe's implementation).
const HEADER_WITHIN: usize = 1024;
/// Annotations of one page whose appearance is read.
const MAX_ANNOTATIONS: usize = 2_000;
/// Bytes inflated only to check that streams are sound; past this they are trusted.
const MAX_CHECKED: u64 = 48 * 1024 * 1024;

/// Describes a PDF.
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let mut pdf = PdfFacts::default();
    let before = ctx.budget.inflated();
    if let Err(exceeded) = describe(bytes, ctx, facts, &mut pdf) {
        exceeded.record(facts, &ctx.budget);
    }
    judge_ratio(bytes, ctx.budget.inflated().saturating_sub(before), facts);
    facts.detail = Some(Detail::Pdf(pdf));
}

fn describe(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, pdf: &mut PdfFacts) -> Result<(), Exceeded> {
    let head = bytes.get(..HEADER_WITHIN.min(bytes.len())).unwrap_or_default();
    let start = memmem::find(head, b"%PDF-");
    let from_header = bytes.get(start.unwrap_or(0)..).unwrap_or_default();
    pdf.version = header_version(from_header);
    let mut opened = File::open(from_header, &mut ctx.budget);
    // Offsets count from the header (annex H.3), yet some producers count from the first byte.
    if start.is_some_and(|s| s > 0)
        && opened.as_ref().map_or(true, |file| file.harm.all_repaired().is_some())
        && let Ok(file) = File::open(bytes, &mut ctx.budget)
        && file.harm.all_repaired().is_none()
    {
        opened = Ok(file);
    }
    let mut file = match opened {
        Ok(file) => file,
        Err(OpenError::Exceeded(exceeded)) => return Err(exceeded),
        Err(OpenError::TooManyObjects) => {
            facts.push(Signal::new("pdf-too-many-objects").arg("limit", file::MAX_ENTRIES));
            return Ok(());
        }
        Err(OpenError::Corrupt(what)) => {
            facts.push(Signal::new("pdf-corrupt").arg("what", what));
            return Ok(());
        }
    };
    if start.is_none() {
        file.harm.repaired("%PDF-");
    }
    match &file.access {
        Access::Plain => {}
        Access::Locked { handler } => {
            pdf.encrypted = true;
            facts.push(Signal::new("pdf-encrypted").arg("handler", handler.as_str()));
            return Ok(());
        }
        Access::Open(key) => {
            pdf.encrypted = true;
            facts.push(Signal::new("pdf-restricted").arg("forbidden", forbidden(key.permissions)));
        }
    }
    let outcome = read(&mut file, bytes, ctx, facts, pdf);
    report_harm(&file, facts);
    outcome
}

fn header_version(bytes: &[u8]) -> String {
    let version = bytes.get(5..).unwrap_or_default().iter().take(8).take_while(|b| b.is_ascii_digit() || **b == b'.');
    version.map(|b| char::from(*b)).collect()
}

/// How many of the six operations of table 22 the owner forbids: printing, modifying, copying, annotating,
/// filling forms, assembling.
fn forbidden(permissions: i64) -> usize {
    [3, 4, 5, 6, 9, 11].iter().filter(|bit| permissions >> (**bit - 1) & 1 == 0).count()
}

fn report_harm(file: &File, facts: &mut Facts) {
    if facts.has("pdf-corrupt") || facts.has("pdf-no-pages") {
        return;
    }
    if let Some((count, what)) = file.harm.all_lost() {
        facts.push(Signal::new("pdf-content-lost").arg("count", count).arg("what", what));
    } else if let Some((count, what)) = file.harm.all_repaired() {
        facts.push(Signal::new("pdf-damaged").arg("count", count).arg("what", what));
    }
}

fn read(file: &mut File, bytes: &[u8], ctx: &mut Context, facts: &mut Facts, pdf: &mut PdfFacts) -> Result<(), Exceeded> {
    let budget = &mut ctx.budget;
    let root = file.trailer.get("Root").clone();
    let root = file.resolve(&root, budget)?;
    let Some(root) = root.dict() else {
        facts.push(Signal::new("pdf-corrupt").arg("what", "/Root"));
        return Ok(());
    };
    if !file.entry(root, "Type", budget)?.is_name("Catalog") {
        file.harm.repaired("/Root /Type");
    }
    let pages = pages::Pages::read(file, root, budget)?;
    pdf.pages = pages.count;
    if pages.count == 0 {
        if pages.missing > 0 {
            facts.push(Signal::new("pdf-corrupt").arg("what", "/Pages"));
        } else {
            facts.push(Signal::new("pdf-no-pages"));
        }
    }
    // What acts comes before what costs: a budget spent on text must not hide a script.
    let found = active::walk(file, root, &pages, facts, budget)?;
    if found.widgets > 0 {
        facts.push(Signal::new("pdf-form").arg("fields", found.widgets));
    }
    signatures(file, bytes, &found, ctx, facts, pdf)?;
    let budget = &mut ctx.budget;
    pdf.outline = pages::outline(file, root, &pages, budget)?;
    facts.metadata = metadata::read(file, root, budget)?;
    embedded(file, &found.embedded, ctx, facts)?;
    read_pages(file, &pages, ctx, facts, pdf)?;
    pictures::check(file, &found.pictures, ctx, facts)?;
    check_streams(file, &found.streams, ctx)
}

fn signatures(
    file: &mut File,
    bytes: &[u8],
    found: &active::Found,
    ctx: &mut Context,
    facts: &mut Facts,
    pdf: &mut PdfFacts,
) -> Result<(), Exceeded> {
    for (signature, end) in &found.signatures {
        let tail = end.and_then(|end| bytes.get(usize::try_from(end).ok()?..));
        let covers = tail.is_some_and(|tail| tail.iter().all(u8::is_ascii_whitespace));
        let signal = Signal::new("pdf-signature")
            .arg("format", signature.sub_filter.as_str())
            .arg("name", signature.name.as_deref().unwrap_or("—"))
            .arg("date", signature.date.as_deref().unwrap_or("—"));
        facts.push(signal);
        pdf.signatures.push(crate::model::facts::SignatureFacts { covers_whole_file: covers, ..signature.clone() });
    }
    // An earlier signature never covers a later one; long-term validation data (§12.8.4.3) is added after
    // the last one by design.
    if !pdf.signatures.is_empty() && pdf.signatures.iter().all(|s| !s.covers_whole_file) {
        let end = found.signatures.iter().filter_map(|(_, end)| *end).max().unwrap_or(0);
        if !revision::adds_validation_data_only(file, bytes, end, &mut ctx.budget)? {
            let after = (file.len() as u64).saturating_sub(end);
            facts.push(Signal::new("pdf-signature-not-covering").arg("after_bytes", after));
        }
    }
    Ok(())
}

/// Names embedded files, and says of each what its own content says.
fn embedded(file: &mut File, files: &[active::Embedded], ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
    for embedded in files {
        let name = if embedded.name.is_empty() { "?" } else { embedded.name.as_str() };
        let place = embedded.place.clone();
        let by_name = name.rsplit_once('.').is_some_and(|(_, ext)| Format::from_extension(ext).any(Format::is_executable));
        let mut inner = None;
        if let Some(stream) = embedded.stream.as_ref().and_then(|s| s.stream()) {
            ctx.budget.member()?;
            let decoded = file.decode(stream, &mut ctx.budget)?;
            if decoded.outcome != Outcome::Opaque && ctx.depth + 1 < ctx.budget.limits().max_depth {
                ctx.depth += 1;
                inner = Some(super::inspect(&decoded.bytes, ctx));
                ctx.depth -= 1;
            } else if decoded.outcome != Outcome::Opaque {
                Exceeded::Depth.record(facts, &ctx.budget);
            }
        }
        let format = inner.as_ref().and_then(|f| f.format);
        let executable = by_name || format.is_some_and(Format::is_executable);
        let signal = if executable { Signal::new("pdf-embedded-executable") } else { Signal::new("pdf-embedded-files") };
        let size = inner.as_ref().map_or(0, |f| f.size);
        let kind = format.map_or("?", Format::code);
        facts.push(signal.at(place).arg("name", name).arg("format", kind).arg("size_bytes", size));
        // What an attachment does when it is opened is the document's business too; how good it is, is not.
        for signal in inner.map(|f| f.signals).unwrap_or_default() {
            // Data beside a document is ordinary: an attachment need not be a proof by itself.
            if matches!(signal.code.as_str(), "file-unknown-format" | "file-empty" | "file-office-lock") {
                continue;
            }
            if crate::model::messages::get(&signal.code).is_none_or(|m| m.category != crate::model::Category::Quality) {
                let place = signal.place.clone().inside(name);
                facts.push(signal.at(place));
            }
        }
    }
    Ok(())
}

fn read_pages(file: &mut File, pages: &pages::Pages, ctx: &mut Context, facts: &mut Facts, pdf: &mut PdfFacts) -> Result<(), Exceeded> {
    let mut reader = content::Reader::default();
    let (mut glyphs, mut unmapped) = (0, 0);
    for (page, number) in pages.listed.iter().zip(1u32..) {
        let dict = page.dict.dict_or_empty();
        let mut drawn = content::Drawn::default();
        let outcome = reader.page(file, dict, page.resources.dict_or_empty(), &mut drawn, &mut ctx.budget);
        ctx.add_text(facts, Place::page(number), &content::without_ligatures(&drawn.text));
        outcome?;
        let annotated = annotations(file, dict, &mut reader, ctx, facts, number)?;
        let mapped = drawn.glyphs.saturating_sub(drawn.unmapped);
        glyphs += drawn.glyphs;
        unmapped += drawn.unmapped;
        pdf.page_facts.push(PageFacts {
            chars: u32::try_from(mapped.max(drawn.unmapped) + annotated.glyphs).unwrap_or(u32::MAX),
            images: u32::try_from(drawn.images).unwrap_or(u32::MAX),
            blank: drawn.glyphs + drawn.images + drawn.paints + annotated.glyphs + annotated.images + annotated.paints == 0,
        });
    }
    facts.text_truncated |= pages.listed.len() < pages.count as usize;
    quality(pdf, file.harm.all_lost().is_some(), facts);
    // A few symbols without a character are ordinary; half of the text is not.
    if unmapped >= 20 && unmapped * 2 > glyphs {
        facts.push(Signal::new("pdf-text-unmappable").arg("glyphs", unmapped).arg("of", glyphs));
    }
    Ok(())
}

/// Filled form fields and comments are read through their normal appearance (§12.5.5).
fn annotations(
    file: &mut File,
    page: &Dict,
    reader: &mut content::Reader,
    ctx: &mut Context,
    facts: &mut Facts,
    number: u32,
) -> Result<content::Drawn, Exceeded> {
    let mut all = content::Drawn::default();
    let annotations = file.entry(page, "Annots", &mut ctx.budget)?;
    for annotation in annotations.items().iter().take(MAX_ANNOTATIONS) {
        let annotation = file.resolve(annotation, &mut ctx.budget)?;
        let Some(dict) = annotation.dict() else { continue };
        // Hidden (bit 2) or not viewed (bit 6): nothing is seen.
        if file.entry(dict, "F", &mut ctx.budget)?.int().unwrap_or(0) & 0b10_0010 != 0 {
            continue;
        }
        let appearances = file.entry(dict, "AP", &mut ctx.budget)?;
        let mut normal = file.entry(appearances.dict_or_empty(), "N", &mut ctx.budget)?;
        if let Object::Dict(states) = &*normal {
            let state = file.entry(dict, "AS", &mut ctx.budget)?;
            normal = file.entry(states, state.name().unwrap_or_default(), &mut ctx.budget)?;
        }
        let Some(form) = normal.stream() else { continue };
        let drawn = reader.appearance(file, form, &mut ctx.budget)?;
        ctx.add_text(facts, Place::page(number), &content::without_ligatures(&drawn.text));
        all.glyphs += drawn.glyphs;
        all.images += drawn.images;
        all.paints += drawn.paints;
    }
    Ok(all)
}

fn quality(pdf: &PdfFacts, content_lost: bool, facts: &mut Facts) {
    let numbers = |keep: &dyn Fn(&PageFacts) -> bool| -> Vec<u32> {
        pdf.page_facts.iter().zip(1u32..).filter(|(page, _)| keep(page)).map(|(_, number)| number).collect()
    };
    let listed = pdf.page_facts.len();
    let blank = numbers(&|page| page.blank);
    // A page whose content is lost only looks blank.
    if !blank.is_empty() && !content_lost {
        if blank.len() == listed {
            facts.push(Signal::new("pdf-blank").arg("pages", pdf.pages));
        } else {
            facts.push(Signal::new("pdf-blank-pages").arg("count", blank.len()).arg("pages", shown(&blank)));
        }
    }
    let scanned = numbers(&|page| page.chars == 0 && page.images > 0);
    if !scanned.is_empty() {
        if scanned.len() + blank.len() == listed {
            facts.push(Signal::new("pdf-scanned").arg("pages", pdf.pages));
        } else {
            facts.push(Signal::new("pdf-scanned-pages").arg("count", scanned.len()).arg("pages", shown(&scanned)));
        }
    }
}

/// `2, 5, 7–12` — at most eight ranges.
fn shown(pages: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for page in pages {
        match ranges.last_mut() {
            Some((_, last)) if last.saturating_add(1) == *page => *last = *page,
            _ => ranges.push((*page, *page)),
        }
    }
    let text = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}–{last}") };
    let mut shown: Vec<String> = ranges.iter().take(8).map(text).collect();
    if ranges.len() > 8 {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// What no honest PDF reaches: this many bytes out of one file at this ratio. Deflate alone stops at 1,032:1.
const BOMB_RATIOS: [(u64, u64); 2] = [(200 * 1024 * 1024, 200), (64 * 1024 * 1024, 800)];

fn judge_ratio(bytes: &[u8], inflated: u64, facts: &mut Facts) {
    let ratio = inflated / (bytes.len() as u64).max(1);
    if BOMB_RATIOS.iter().any(|(size, times)| inflated >= *size && ratio >= *times) {
        facts.push(Signal::new("pdf-bomb-ratio").arg("size_bytes", bytes.len()).arg("inflated_bytes", inflated).arg("ratio", ratio));
    }
}

/// Decodes streams that nothing else asked for, to find damaged ones; [`pictures`] looks at pictures.
fn check_streams(file: &mut File, streams: &[u32], ctx: &mut Context) -> Result<(), Exceeded> {
    let until = ctx.budget.inflated().saturating_add(MAX_CHECKED);
    for num in streams {
        if ctx.budget.inflated() > until {
            break;
        }
        if !file.decoded.contains(num) {
            let object = file.get(*num, &mut ctx.budget)?;
            if let Some(stream) = object.stream() {
                file.decode(stream, &mut ctx.budget)?;
            }
        }
    }
    Ok(())
}
