//! What the parent takes as facts from a child. A child that a file took over answers what that file likes: well-formed
//! facts that no inspection gives must not reach the rules, whose cost and whose arithmetic rest on these bounds.
//!
//! A plausible lie cannot be told from the truth here, and need not be: a file that can run code in its child could as well
//! have been an honest file that says so. What is refused is what the inspectors' own limits exclude. Bounds that
//! the configuration gives are taken as they are; the others stand well above what any inspector keeps, so that a change of
//! an inspector never turns an honest file away.

use crate::inspect::Limits;
use crate::model::facts::{CellValue, Detail, Facts, MAX_SIGNALS_PER_CODE, MemberFacts, Signal, WorkbookFacts};
use crate::model::{Place, Severity, messages};

/// Longest name, key or word, bytes. ZIP names have 65,535 bytes (APPNOTE 4.4.10), each of which decodes to at most three.
const MAX_NAME_BYTES: usize = 256 * 1024;

/// Longest value of metadata, bytes. Inspectors keep some hundreds of characters.
const MAX_METADATA_BYTES: usize = 64 * 1024;

/// Longest list of a kind that has no limit in the configuration (pages described, bookmarks, sheets, tracks, metadata).
/// Inspectors keep at most some thousands.
const MAX_LIST: usize = 100_000;

/// Most of anything that is counted and not kept (pages, rows, lines, more of the same signal): 2^40, so that rules may add
/// up thousands of such counts.
const MAX_COUNT: u64 = 1 << 40;

/// What an inspection that the clock ended says of itself: the one technical failure that a child tells of by itself.
const ENDED_BY_CLOCK: &str = "inspect-clock";

/// Checks that `facts` may be what an inspection within `limits` says of `size` bytes.
///
/// # Errors
/// What no inspection says, in words for a log; nothing of the facts is quoted.
pub(crate) fn check(facts: &Facts, size: u64, limits: &Limits) -> Result<(), &'static str> {
    if facts.size != size {
        return Err("a size that is not the file's");
    }
    let mut left = Left { members: limits.max_members, text: limits.max_text_chars };
    let mut waiting = vec![(facts, 0_u32)];
    while let Some((facts, depth)) = waiting.pop() {
        let members = one(facts, limits, &mut left)?;
        if !members.is_empty() && depth >= limits.max_depth {
            return Err("archives deeper than any is opened");
        }
        for member in members {
            name(&member.name)?;
            digest(member.sha256.as_deref())?;
            match (&member.facts, member.size) {
                (Some(inside), Some(size)) if inside.size != size => return Err("a member whose facts have another size"),
                (Some(inside), _) if inside.size > limits.max_inflated_bytes => return Err("a member larger than may be inflated"),
                (Some(inside), _) => waiting.push((inside, depth + 1)),
                (None, _) => {}
            }
        }
    }
    Ok(())
}

/// What the whole recursion shares.
struct Left {
    members: u64,
    text: usize,
}

/// One file's own facts; returns its members.
fn one<'a>(facts: &'a Facts, limits: &Limits, left: &mut Left) -> Result<&'a [MemberFacts], &'static str> {
    signals(&facts.signals)?;
    name(&facts.identification.basis)?;
    word(facts.identification.infer.as_deref())?;
    list(facts.identification.also.len())?;
    list(facts.metadata.len())?;
    for (key, value) in &facts.metadata {
        name(key)?;
        if value.len() > MAX_METADATA_BYTES {
            return Err("a value of metadata that is too long");
        }
    }
    // Each piece costs something even where it is empty.
    if facts.text.len() > limits.max_text_chars {
        return Err("too many pieces of text");
    }
    for piece in &facts.text {
        place(&piece.place)?;
        left.text = left.text.checked_sub(piece.text.chars().count()).ok_or("more text than is kept")?;
    }
    match &facts.detail {
        None => {}
        Some(Detail::Archive(archive)) => {
            count(archive.entries)?;
            word(archive.layout.as_deref())?;
            let members = archive.members.len() as u64;
            left.members = left.members.checked_sub(members).ok_or("more members than are read")?;
            return Ok(&archive.members);
        }
        Some(Detail::Workbook(book)) => workbook(book, limits)?,
        Some(Detail::Pdf(pdf)) => {
            name(&pdf.version)?;
            list(pdf.page_facts.len())?;
            list(pdf.outline.len())?;
            list(pdf.signatures.len())?;
            pdf.outline.iter().try_for_each(|entry| name(&entry.title))?;
            for signature in &pdf.signatures {
                name(&signature.sub_filter)?;
                word(signature.name.as_deref())?;
                word(signature.date.as_deref())?;
            }
        }
        Some(Detail::Office(office)) => count(office.chars)?,
        Some(Detail::Image(image)) => {
            let deviations = [image.luma_deviation, image.luma_deviation_on_black];
            deviations.into_iter().flatten().map(f64::from).try_for_each(not_negative)?;
            word(image.perceptual_hash.as_deref())?;
            if let Some(gps) = &image.gps {
                finite(gps.latitude)?;
                finite(gps.longitude)?;
            }
        }
        Some(Detail::Video(video)) => {
            name(&video.container)?;
            list(video.tracks.len())?;
            video.duration.into_iter().try_for_each(not_negative)?;
            for track in &video.tracks {
                name(&track.codec)?;
                track.duration.into_iter().try_for_each(not_negative)?;
            }
        }
        Some(Detail::Text(text)) => {
            name(&text.encoding)?;
            count(text.lines)?;
            count(text.chars)?;
            if let Some(table) = &text.as_table {
                workbook(&table.workbook, limits)?;
                signals(&table.signals)?;
            }
        }
    }
    Ok(&[])
}

fn workbook(book: &WorkbookFacts, limits: &Limits) -> Result<(), &'static str> {
    list(book.sheets.len())?;
    word(book.encoding.as_deref())?;
    let (mut cells, mut bytes) = (limits.max_cells, limits.max_text_chars.saturating_mul(4));
    let mut shown = limits.max_cells;
    for sheet in &book.sheets {
        name(&sheet.name)?;
        count(sheet.cells)?;
        count(sheet.formulas)?;
        cells = cells.checked_sub(sheet.values.len()).ok_or("more cells than are kept")?;
        for (row, column, value) in &sheet.values {
            if *row == 0 || *column == 0 {
                return Err("a cell outside the sheet");
            }
            let text = match value {
                CellValue::Text(text) | CellValue::DateIso(text) | CellValue::Error(text) => text.len(),
                CellValue::Number(number) | CellValue::DateSerial(number) => finite(*number).map(|()| 0)?,
                CellValue::Bool(_) | CellValue::Uncomputed => 0,
            };
            bytes = bytes.checked_sub(text).ok_or("more text in cells than is kept")?;
        }
        shown = shown.checked_sub(sheet.shown.len()).ok_or("more cells than are kept")?;
        for (_, _, text) in &sheet.shown {
            bytes = bytes.checked_sub(text.len()).ok_or("more text in cells than is kept")?;
        }
    }
    Ok(())
}

fn signals(signals: &[Signal]) -> Result<(), &'static str> {
    let mut of_code = std::collections::BTreeMap::<&str, usize>::new();
    for signal in signals {
        let code = signal.code.as_str();
        let known = messages::get(&signal.code).ok_or("a code of a finding that does not exist")?;
        // What failed on our side is for the parent to say: a file that could say it would hold up its whole deposit.
        if known.severity == Severity::Fatal && code != ENDED_BY_CLOCK {
            return Err("a technical failure that is not the child's to tell");
        }
        let same = of_code.entry(code).or_default();
        *same += 1;
        if *same > MAX_SIGNALS_PER_CODE {
            return Err("more signals of one code than are kept");
        }
        list(signal.args.len())?;
        signal.args.keys().try_for_each(|key| name(key))?;
        count(signal.more)?;
        place(&signal.place)?;
    }
    Ok(())
}

fn place(place: &Place) -> Result<(), &'static str> {
    list(place.members.len())?;
    place.members.iter().try_for_each(|member| name(member))?;
    word(place.part.as_deref())?;
    word(place.sheet.as_deref())?;
    word(place.cell.as_deref())?;
    place.second.into_iter().try_for_each(not_negative)
}

fn name(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_NAME_BYTES { Err("a name that is too long") } else { Ok(()) }
}

fn word(text: Option<&str>) -> Result<(), &'static str> {
    text.map_or(Ok(()), name)
}

fn list(length: usize) -> Result<(), &'static str> {
    if length > MAX_LIST { Err("a list that is too long") } else { Ok(()) }
}

fn count(n: u64) -> Result<(), &'static str> {
    if n > MAX_COUNT { Err("a count that is too large") } else { Ok(()) }
}

fn finite(number: f64) -> Result<(), &'static str> {
    if number.is_finite() { Ok(()) } else { Err("a number that is none") }
}

fn not_negative(number: f64) -> Result<(), &'static str> {
    finite(number)?;
    if number < 0.0 { Err("a negative measure") } else { Ok(()) }
}

/// SHA-256 in lower-case hexadecimal.
fn digest(text: Option<&str>) -> Result<(), &'static str> {
    let good = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if text.is_none_or(good) { Ok(()) } else { Err("a digest that is none") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::{ArchiveFacts, ImageFacts, SheetFacts, TextChunk, VideoFacts, WorkbookFacts};

    fn limits() -> Limits {
        Limits { max_members: 5, max_depth: 2, max_text_chars: 20, max_cells: 3, ..Limits::default() }
    }

    fn with(detail: Detail) -> Facts {
        Facts { detail: Some(detail), ..Facts::of_size(7) }
    }

    fn archive(members: Vec<MemberFacts>) -> Facts {
        with(Detail::Archive(ArchiveFacts { members, ..ArchiveFacts::default() }))
    }

    fn member(facts: Facts) -> MemberFacts {
        MemberFacts { size: Some(facts.size), facts: Some(Box::new(facts)), ..MemberFacts::default() }
    }

    fn cells(values: Vec<(u32, u32, CellValue)>) -> Facts {
        let sheets = vec![SheetFacts { values, ..SheetFacts::default() }];
        with(Detail::Workbook(WorkbookFacts { sheets, ..WorkbookFacts::default() }))
    }

    fn text(text: String) -> Facts {
        Facts { text: vec![TextChunk { place: Place::default(), text }], ..Facts::of_size(7) }
    }

    fn signal(signal: Signal) -> Facts {
        Facts { signals: vec![signal], ..Facts::of_size(7) }
    }

    #[test]
    fn what_an_inspection_may_say_is_taken() {
        let cell = (1, 1, CellValue::Number(-1.5));
        for facts in [
            Facts::of_size(7),
            archive(vec![member(archive(vec![member(text("é".repeat(20)))]))]),
            archive((0..5).map(|_| MemberFacts::default()).collect()),
            cells(vec![cell.clone(), cell.clone(), cell]),
            signal(Signal::new("file-empty").at(Place::byte(3))),
        ] {
            assert_eq!(check(&facts, 7, &limits()), Ok(()), "{facts:?}");
        }
    }

    #[test]
    fn what_no_inspection_says_is_refused() {
        let cell = (1, 1, CellValue::Bool(true));
        let image = ImageFacts { luma_deviation: Some(f32::INFINITY), ..ImageFacts::default() };
        let video = VideoFacts { container: String::new(), duration: Some(-1.0), tracks: vec![], bit_rate: None, fast_start: None };
        let deep = archive(vec![member(archive(vec![member(archive(vec![MemberFacts::default()]))]))]);
        let other_size = MemberFacts { size: Some(8), ..member(Facts::of_size(7)) };
        let bad_digest = MemberFacts { sha256: Some("../../etc".into()), ..MemberFacts::default() };
        let many = Facts { signals: vec![Signal::new("file-empty"); MAX_SIGNALS_PER_CODE + 1], ..Facts::of_size(7) };
        for facts in [
            Facts::of_size(8),
            archive((0..6).map(|_| MemberFacts::default()).collect()),
            archive(vec![member(archive((0..5).map(|_| MemberFacts::default()).collect()))]),
            deep,
            archive(vec![other_size]),
            archive(vec![bad_digest]),
            archive(vec![MemberFacts { name: "x".repeat(MAX_NAME_BYTES + 1), ..MemberFacts::default() }]),
            text("é".repeat(21)),
            archive(vec![member(text("x".repeat(11))), member(text("x".repeat(10)))]),
            cells(vec![cell.clone(); 4]),
            cells(vec![(0, 1, CellValue::Bool(true))]),
            cells(vec![(1, 1, CellValue::Number(f64::NAN))]),
            cells(vec![(1, 1, CellValue::Text("x".repeat(81)))]),
            with(Detail::Image(image)),
            with(Detail::Video(video)),
            signal(Signal::new("no-such-code")),
            signal(Signal::new("sandbox-wall")),
            signal(Signal::new("item-inspection-failed")),
            signal(Signal { more: u64::MAX, ..Signal::new("file-empty") }),
            signal(Signal::new("file-empty").at(Place { second: Some(f64::INFINITY), ..Place::default() })),
            many,
            Facts { metadata: [("k".into(), "v".repeat(MAX_METADATA_BYTES + 1))].into(), ..Facts::of_size(7) },
        ] {
            assert!(check(&facts, 7, &limits()).is_err(), "{facts:?}");
        }
    }
}
