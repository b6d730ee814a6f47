//! Excel workbooks (ISO/IEC 29500-1 §18, `SpreadsheetML`): walked part by part, then decoded by calamine.
//!
//! The walk inflates every part once within the budget, checks that the XML is whole, that cells name real
//! cells and that shared strings exist, counts everything, and looks at every formula. Then a package of
//! our making is put together for calamine: a workbook list, the date formats and the shared strings are
//! written anew, sheets are copied as they stand (compressed). So `uniqueCount`, style tables, odd part
//! names and sheet kinds that calamine refuses never reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Cursor, Read as _, Write as _};

use calamine::{DataRef, Reader as _, Xlsx};
use quick_xml::escape::escape;
use quick_xml::events::Event;
use zip::ZipArchive;
use zip::write::SimpleFileOptions;

use super::collect::{Collector, cell_text, sheet_place};
use super::part::{Fault, XmlPart, attr, push_reference, raw_attrs};
use super::{Context, Facts, MAX_COLUMNS, MAX_ROWS, WorkbookFacts, a1, formula, number_format, parse_a1};
use crate::inspect::budget::Budget;
use crate::inspect::contained;
use crate::model::facts::{CellValue, serial_date};
use crate::model::{Place, Signal};

/// Shared strings given to calamine; cells that point further are counted, not kept.
const MAX_STRINGS: usize = 1_000_000;
/// Bytes of shared strings given to calamine, likewise.
const MAX_STRING_BYTES: usize = 48 * 1024 * 1024;
/// Cell formats read; Excel allows 65,490.
const MAX_FORMATS: usize = 65_536;
/// Merged regions kept for one sheet.
const MAX_MERGES: usize = 20_000;
/// Bytes of one part in UTF-16, which is decoded whole.
const MAX_UTF16_BYTES: usize = 32 * 1024 * 1024;
/// Characters of one formula looked at; Excel allows 8,192.
const MAX_FORMULA_CHARS: usize = 16_384;
/// Formulas without a result that are kept by their place, for one sheet.
const MAX_UNCOMPUTED: usize = 10_000;
/// Cells with a number format that are looked at again for what they show, for one sheet.
const MAX_SHOWN: usize = 10_000;

/// Describes the cells of an Excel workbook (xlsx, xlsm, xltx) on `facts`.
pub fn xlsx(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let mut out = Collector::new(ctx.budget.limits());
    let mut workbook = WorkbookFacts::default();
    if let Err(fault) = read(bytes, ctx, facts, &mut out, &mut workbook) {
        report(&fault, ctx, facts);
        out.cut_here();
    }
    out.finish(ctx, facts, workbook);
}

/// Turns a fault that ended the reading into a signal.
pub(super) fn report(fault: &Fault, ctx: &Context, facts: &mut Facts) {
    match fault {
        Fault::Exceeded(exceeded) => exceeded.record(facts, &ctx.budget),
        Fault::HugeToken => facts.push(Signal::new("sheet-cells-bomb").arg("detail", fault.to_string())),
        Fault::Damaged(detail) => facts.push(Signal::new("sheet-corrupt").arg("detail", detail.as_str())),
    }
}

/// The parts of a package, found by name whatever the case of its letters (ISO/IEC 29500-2 §6.2.2.3).
pub(super) struct Package<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    by_name: BTreeMap<String, usize>,
}

impl<'a> Package<'a> {
    /// Opens the container.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| Fault::Damaged(format!("ZIP container: {e}")))?;
        let mut by_name = BTreeMap::new();
        for index in 0..zip.len() {
            let Ok(file) = zip.by_index_raw(index) else { continue };
            if let Ok(name) = file.name() {
                by_name.entry(normalise(&name)).or_insert(index);
            }
        }
        Ok(Self { zip, by_name })
    }

    /// The entry of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&normalise(name)).copied()
    }

    /// Entries whose names (in lower case) end so.
    pub(super) fn parts_that_end_with(&self, end: &str) -> Vec<(String, usize)> {
        self.by_name.iter().filter(|(name, _)| name.ends_with(end)).map(|(name, index)| (name.clone(), *index)).collect()
    }

    /// Opens one XML part.
    pub(super) fn xml<'b>(&'b mut self, index: usize, budget: &'b mut Budget) -> Result<XmlPart<'b>, Fault> {
        if self.is_utf16(index)? {
            let text = self.utf16(index, budget)?;
            return Ok(XmlPart::new(Box::new(Cursor::new(text.into_bytes())), budget, false));
        }
        let file = self.zip.by_index(index).map_err(|e| Fault::Damaged(e.to_string()))?;
        Ok(XmlPart::new(Box::new(file), budget, true))
    }

    /// Whether a part is written in UTF-16, which OPC allows beside UTF-8 (ISO/IEC 29500-2 §6.2.5).
    fn is_utf16(&mut self, index: usize) -> Result<bool, Fault> {
        let mut file = self.zip.by_index(index).map_err(|e| Fault::Damaged(e.to_string()))?;
        let mut head = [0u8; 2];
        // A part of less than two bytes, or damaged at once: the XML reader says so in its own words.
        Ok(file.read_exact(&mut head).is_ok() && matches!(head, [0xFE, 0xFF] | [0xFF, 0xFE] | [0, b'<'] | [b'<', 0]))
    }

    /// A UTF-16 part as UTF-8, without its declaration (which would name the old encoding).
    fn utf16(&mut self, index: usize, budget: &mut Budget) -> Result<String, Fault> {
        let bytes = self.read(index, budget)?;
        if bytes.len() > MAX_UTF16_BYTES {
            return Err(Fault::HugeToken);
        }
        let little = matches!(bytes.first_chunk(), Some([0xFF, 0xFE] | [b'<', 0]));
        let encoding = if little { encoding_rs::UTF_16LE } else { encoding_rs::UTF_16BE };
        let text = encoding.decode(&bytes).0;
        let text = text.trim_start();
        let body = if text.starts_with("<?xml") { text.split_once("?>").map_or("", |(_, rest)| rest) } else { text };
        Ok(body.to_owned())
    }

    /// Inflates one part.
    pub(super) fn read(&mut self, index: usize, budget: &mut Budget) -> Result<Vec<u8>, Fault> {
        let mut file = self.zip.by_index(index).map_err(|e| Fault::Damaged(e.to_string()))?;
        budget.read_to_end(&mut file).map_err(|e| match e {
            crate::inspect::budget::ReadError::Exceeded(exceeded) => Fault::Exceeded(exceeded),
            crate::inspect::budget::ReadError::Io(e) => Fault::Damaged(e.to_string()),
        })
    }

    /// Copies one entry that was read before, still compressed, under another name; UTF-16 becomes UTF-8.
    fn copy(&mut self, index: usize, budget: &mut Budget, to: &mut CleanZip, name: &str) -> Result<(), Fault> {
        let failed = |e: zip::result::ZipError| Fault::Damaged(e.to_string());
        if self.is_utf16(index)? {
            let text = self.utf16(index, budget)?;
            to.start_file(name, stored()).map_err(failed)?;
            return to.write_all(text.as_bytes()).map_err(|e| Fault::Damaged(e.to_string()));
        }
        let file = self.zip.by_index_raw(index).map_err(failed)?;
        to.raw_copy_file_rename(file, name).map_err(failed)
    }

    /// Relationships of a part: id → (last segment of the type, resolved target). External ones are left out.
    pub(super) fn relationships(&mut self, of: &str, budget: &mut Budget) -> Result<BTreeMap<String, (String, String)>, Fault> {
        let (folder, name) = of.rsplit_once('/').unwrap_or(("", of));
        let path = if folder.is_empty() { format!("_rels/{name}.rels") } else { format!("{folder}/_rels/{name}.rels") };
        let mut found = BTreeMap::new();
        let Some(index) = self.find(&path) else { return Ok(found) };
        let mut part = self.xml(index, budget).map_err(|f| f.in_part(&path))?;
        loop {
            match part.next().map_err(|f| f.in_part(&path))? {
                Event::Start(e) if e.local_name().as_ref() == "Relationship" => {
                    if attr(&e, "TargetMode").is_some_and(|m| m == "External") {
                        continue;
                    }
                    if let (Some(id), Some(kind), Some(target)) = (attr(&e, "Id"), attr(&e, "Type"), attr(&e, "Target")) {
                        let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
                        found.entry(id).or_insert((kind, resolve(folder, &target)));
                    }
                }
                Event::Eof => return Ok(found),
                _ => {}
            }
        }
    }
}

impl Fault {
    /// The same fault, naming the part it was met in.
    pub(super) fn in_part(self, part: &str) -> Self {
        match self {
            Self::Damaged(detail) => Self::Damaged(format!("{part}: {detail}")),
            other => other,
        }
    }
}

/// Part names are compared without case; some writers use `\`.
fn normalise(name: &str) -> String {
    name.trim_start_matches(['/', '\\']).replace('\\', "/").to_ascii_lowercase()
}

/// A relationship target seen from the folder of its source.
fn resolve(folder: &str, target: &str) -> String {
    let target = target.replace('\\', "/");
    let joined = if target.starts_with('/') || folder.is_empty() { target } else { format!("{folder}/{target}") };
    let mut segments: Vec<&str> = Vec::new();
    for segment in joined.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    segments.join("/")
}

/// A sheet as the workbook part lists it.
#[derive(Debug, Default)]
struct Listed {
    name: String,
    hidden: bool,
    part: Option<usize>,
    has_cells: bool,
    needs_data: bool,
}

/// What the walk of one sheet found.
#[derive(Debug, Default)]
struct Scan {
    cells: u64,
    rows: u32,
    columns: u32,
    formulas: u64,
    merges: Vec<(u32, u32, u32, u32)>,
    errors: u64,
    first_error: Option<(u32, u32, String)>,
    /// Error values that calamine does not know (`#SPILL!`).
    new_errors: Vec<(u32, u32, String)>,
    /// Formulas without a saved result, which calamine passes over.
    uncomputed: Vec<(u32, u32)>,
    /// Cell formats (`s`) of the cells whose format may show another text than the value.
    formats: Vec<(u32, u32, u32)>,
    damage: Option<(Option<(u32, u32)>, String)>,
    has_data: bool,
    drawings: bool,
    sound: bool,
}

fn read(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, out: &mut Collector, workbook: &mut WorkbookFacts) -> Result<(), Fault> {
    let mut package = Package::open(bytes)?;
    let path = package
        .relationships("", &mut ctx.budget)?
        .into_values()
        .find(|(kind, _)| kind == "officeDocument")
        .map_or_else(|| "xl/workbook.xml".to_owned(), |(_, target)| target);
    let index = package.find(&path).ok_or_else(|| Fault::Damaged(format!("{path} is missing")))?;
    let relationships = package.relationships(&path, &mut ctx.budget)?;
    let listed = read_workbook(&mut package, index, &path, &relationships, ctx, facts, workbook)?;
    if listed.is_empty() {
        return Err(Fault::Damaged(format!("{path} lists no sheet")));
    }
    let of_kind = |kind: &str| relationships.values().find(|(k, _)| k == kind).map(|(_, target)| target.clone());
    let strings = match of_kind("sharedStrings").and_then(|p| package.find(&p).map(|i| (p, i))) {
        Some((path, index)) => read_strings(&mut package, index, &mut ctx.budget).map_err(|f| f.in_part(&path))?,
        None => Strings { xml: String::from("<sst></sst>"), count: 0, empty: BTreeSet::new() },
    };
    let styles = match of_kind("styles").and_then(|p| package.find(&p).map(|i| (p, i))) {
        Some((path, index)) => read_styles(&mut package, index, &mut ctx.budget).map_err(|f| f.in_part(&path))?,
        None => Styles { xml: String::from("<styleSheet></styleSheet>"), codes: Vec::new() },
    };

    let mut scans = Vec::new();
    let mut ended = None;
    for sheet in &listed {
        let mut scan = Scan::default();
        if let (Some(index), true, None) = (sheet.part, sheet.has_cells, &ended) {
            match scan_sheet(&mut package, index, &sheet.name, &strings, &styles, &mut ctx.budget, facts, &mut scan) {
                Ok(()) if sheet.needs_data && !scan.has_data => scan.damage = Some((None, "no sheetData element".to_owned())),
                Ok(()) => scan.sound = true,
                Err(Fault::Damaged(detail)) => scan.damage = Some((None, detail)),
                Err(fault) => ended = Some(fault),
            }
        }
        scans.push(scan);
    }

    let mut calamine = open_with_calamine(&mut package, &mut ctx.budget, &listed, &scans, &strings.xml, &styles.xml);
    drop(strings);
    if let Err(detail) = &calamine {
        facts.push(Signal::new("sheet-unread").arg("detail", detail.as_str()));
    }
    for (number, (sheet, scan)) in listed.iter().zip(scans).enumerate() {
        if !out.sheet(&sheet.name, sheet.hidden) {
            break;
        }
        out.count(scan.rows, scan.columns, scan.cells);
        out.count_formulas(scan.formulas);
        out.has_drawings |= scan.drawings || !sheet.has_cells;
        if let Some((row, column, shown)) = &scan.first_error {
            for _ in 0..scan.errors.min(1_000_000) {
                out.error(*row, *column, shown);
            }
        }
        if let Some((cell, detail)) = &scan.damage {
            let place = cell.map_or_else(|| sheet_place(&sheet.name), |(row, column)| Place::cell(sheet.name.as_str(), a1(row, column)));
            facts.push(Signal::new("sheet-corrupt").at(place).arg("detail", detail.as_str()));
            out.cut_here();
        }
        if sheet.part.is_none() {
            facts.push(Signal::new("sheet-corrupt").at(sheet_place(&sheet.name)).arg("detail", "the part of this sheet is missing"));
        }
        if !scan.sound || scan.cells == 0 {
            if sheet.has_cells && !scan.sound {
                out.cut_here();
            }
            continue;
        }
        match &mut calamine {
            Ok(book) => read_values(book, number, sheet, &scan, (&styles, workbook.date_1904), ctx, facts, out)?,
            Err(_) => out.cut_here(),
        }
    }
    ended.map_or(Ok(()), Err)
}

fn read_workbook(
    package: &mut Package<'_>,
    index: usize,
    path: &str,
    relationships: &BTreeMap<String, (String, String)>,
    ctx: &mut Context,
    facts: &mut Facts,
    workbook: &mut WorkbookFacts,
) -> Result<Vec<Listed>, Fault> {
    let mut listed = Vec::new();
    let mut name = None;
    {
        let names = package.by_name.clone();
        let mut part = package.xml(index, &mut ctx.budget).map_err(|f| f.in_part(path))?;
        let mut text = String::new();
        loop {
            match part.next().map_err(|f| f.in_part(path))? {
                Event::Start(e) => match e.local_name().as_ref() {
                    "sheet" if listed.len() < super::collect::MAX_SHEETS => {
                        let target = attr(&e, "id").and_then(|id| relationships.get(&id));
                        let kind = target.map_or("", |(kind, _)| kind.as_str());
                        listed.push(Listed {
                            name: attr(&e, "name").unwrap_or_default(),
                            hidden: attr(&e, "state")
                                .is_some_and(|s| s.eq_ignore_ascii_case("hidden") || s.eq_ignore_ascii_case("veryHidden")),
                            part: target.and_then(|(_, target)| names.get(&normalise(target)).copied()),
                            has_cells: kind != "chartsheet" && kind != "dialogsheet",
                            needs_data: kind == "worksheet",
                        });
                    }
                    "workbookPr" => workbook.date_1904 |= attr(&e, "date1904").is_some_and(|v| v == "1" || v == "true"),
                    "definedName" => {
                        name = attr(&e, "name");
                        text.clear();
                    }
                    _ => {}
                },
                Event::Text(t) if name.is_some() && text.len() < MAX_FORMULA_CHARS => text.push_str(&t.xml10_content()),
                Event::GeneralRef(r) if name.is_some() && text.len() < MAX_FORMULA_CHARS => push_reference(&r, &mut text),
                Event::End(e) if e.local_name().as_ref() == "definedName" => {
                    name = None;
                    formula::report(facts, &Place::part(path), &text);
                }
                Event::Eof => break,
                _ => {}
            }
        }
    }
    Ok(listed)
}

/// Shared strings written anew: plain text only, counted by us.
struct Strings {
    xml: String,
    count: usize,
    /// Strings without a character: a cell that points to one is empty.
    empty: BTreeSet<usize>,
}

fn read_strings(package: &mut Package<'_>, index: usize, budget: &mut Budget) -> Result<Strings, Fault> {
    let mut xml = String::from("<sst>");
    let mut count = 0usize;
    let mut empty = BTreeSet::new();
    let mut text = String::new();
    let (mut in_text, mut in_phonetic) = (false, false);
    let mut part = package.xml(index, budget)?;
    loop {
        match part.next()? {
            Event::Start(e) => match e.local_name().as_ref() {
                "si" => text.clear(),
                "t" => in_text = !in_phonetic,
                "rPh" => in_phonetic = true,
                _ => {}
            },
            Event::End(e) => match e.local_name().as_ref() {
                "si" => {
                    if text.is_empty() && empty.len() < MAX_FORMATS {
                        empty.insert(count);
                    }
                    count += 1;
                    if count <= MAX_STRINGS && xml.len() < MAX_STRING_BYTES {
                        let _ = write!(xml, "<si><t xml:space=\"preserve\">{}</t></si>", escape(without_controls(&cell_text(&text))));
                    }
                }
                "t" => in_text = false,
                "rPh" => in_phonetic = false,
                _ => {}
            },
            Event::Text(t) if in_text && text.len() < 4 * super::collect::MAX_CELL_CHARS => text.push_str(&t.xml10_content()),
            Event::CData(t) if in_text && text.len() < 4 * super::collect::MAX_CELL_CHARS => text.push_str(&t.xml10_content()),
            Event::GeneralRef(r) if in_text => push_reference(&r, &mut text),
            Event::Eof => break,
            _ => {}
        }
    }
    xml.push_str("</sst>");
    Ok(Strings { xml, count, empty })
}

/// Characters that XML cannot hold, and carriage returns that its reader would fold, become spaces.
fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect()
}

/// Number formats of a workbook.
struct Styles {
    /// Written anew for calamine: what tells a date from a number, and nothing else.
    xml: String,
    /// The format code of each cell format (`s`) that may show another text than the value.
    codes: Vec<Option<String>>,
}

impl Styles {
    /// The code of a cell format, where it may show another text than the value.
    fn code(&self, format: u32) -> Option<&str> {
        self.codes.get(usize::try_from(format).ok()?)?.as_deref()
    }
}

fn read_styles(package: &mut Package<'_>, index: usize, budget: &mut Budget) -> Result<Styles, Fault> {
    let mut formats = BTreeMap::new();
    let mut cells: Vec<String> = Vec::new();
    let mut in_cells = false;
    let mut part = package.xml(index, budget)?;
    loop {
        match part.next()? {
            Event::Start(e) => match e.local_name().as_ref() {
                "numFmt" if formats.len() < MAX_FORMATS => {
                    if let (Some(id), Some(code)) = (attr(&e, "numFmtId"), attr(&e, "formatCode"))
                        && id.len() <= 10
                    {
                        formats.insert(id, code.chars().take(300).collect::<String>());
                    }
                }
                "cellXfs" => in_cells = true,
                "xf" if in_cells && cells.len() < MAX_FORMATS => {
                    cells.push(attr(&e, "numFmtId").filter(|id| id.len() <= 10).unwrap_or_else(|| "0".to_owned()));
                }
                _ => {}
            },
            Event::End(e) if e.local_name().as_ref() == "cellXfs" => in_cells = false,
            Event::Eof => break,
            _ => {}
        }
    }
    let mut xml = String::from("<styleSheet><numFmts>");
    for (id, code) in &formats {
        let _ = write!(xml, "<numFmt numFmtId=\"{}\" formatCode=\"{}\"/>", escape(id.as_str()), escape(code.as_str()));
    }
    xml.push_str("</numFmts><cellXfs>");
    for id in &cells {
        let _ = write!(xml, "<xf numFmtId=\"{}\"/>", escape(id.as_str()));
    }
    xml.push_str("</cellXfs></styleSheet>");
    let code = |id: &String| formats.get(id).cloned().or_else(|| number_format::built_in(id.parse().ok()?).map(str::to_owned));
    let codes = cells.iter().map(code).map(|code| code.filter(|c| !matches!(c.as_str(), "General" | "@" | "0"))).collect();
    Ok(Styles { xml, codes })
}

/// Error values of ECMA-376 Part 1 §18.18.11 that calamine decodes; the newer ones it refuses.
const CLASSIC_ERRORS: &[&str] = &["#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#GETTING_DATA", "#DATA!"];

/// A cell while it is walked.
#[derive(Default)]
struct Cell {
    row: u32,
    column: u32,
    kind: Kind,
    value: String,
    filled: bool,
    format: u32,
    has_formula: bool,
}

/// What the walk must know of a cell's type (`t`).
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    SharedString,
    Error,
    /// A number, which is what a cell without a type holds.
    #[default]
    Number,
    Other,
}

impl Kind {
    fn of(t: &str) -> Self {
        match t {
            "s" => Self::SharedString,
            "e" => Self::Error,
            "n" => Self::Number,
            _ => Self::Other,
        }
    }
}

impl Cell {
    fn restart(&mut self, at: (u32, u32), kind: Kind) {
        (self.row, self.column) = at;
        self.kind = kind;
        self.value.clear();
        (self.filled, self.format, self.has_formula) = (false, 0, false);
    }
}

#[expect(clippy::too_many_arguments, reason = "a walk reads from five tables and writes to two")]
fn scan_sheet(
    package: &mut Package<'_>,
    index: usize,
    sheet: &str,
    strings: &Strings,
    styles: &Styles,
    budget: &mut Budget,
    facts: &mut Facts,
    scan: &mut Scan,
) -> Result<(), Fault> {
    enum Inside {
        Nothing,
        Value,
        Formula,
        Inline,
    }
    let mut part = package.xml(index, budget)?;
    let (mut row, mut column) = (0u32, 0u32);
    let mut cell: Option<Cell> = None;
    let mut in_cell = false;
    let mut inside = Inside::Nothing;
    let mut text = String::new();
    loop {
        match part.next()? {
            Event::Start(e) => match e.local_name().as_ref() {
                "sheetData" => scan.has_data = true,
                "drawing" | "legacyDrawing" | "picture" | "oleObjects" => scan.drawings = true,
                "row" => {
                    column = 0;
                    let [r] = raw_attrs(&e, ["r"]);
                    row = match r {
                        None => row.saturating_add(1),
                        Some(r) => match r.trim().parse::<u32>() {
                            Ok(n) if (1..=MAX_ROWS).contains(&n) => n,
                            _ => {
                                scan.damage(None, format!("row number {}", r.chars().take(20).collect::<String>()));
                                row.saturating_add(1)
                            }
                        },
                    };
                }
                "c" => {
                    column = column.saturating_add(1);
                    let mut at = (row.max(1), column);
                    let [r, kind, format] = raw_attrs(&e, ["r", "t", "s"]);
                    if let Some(r) = r {
                        match parse_a1(&r) {
                            Some(named) => at = named,
                            None => scan.damage(None, format!("cell reference {}", r.chars().take(20).collect::<String>())),
                        }
                        column = at.1;
                    }
                    if at.0 > MAX_ROWS || at.1 > MAX_COLUMNS {
                        scan.damage(None, "cells beyond the last row or column".to_owned());
                    }
                    let kind = kind.as_deref().map_or(Kind::Number, Kind::of);
                    match &mut cell {
                        // The buffers of the last cell serve again.
                        Some(cell) => cell.restart(at, kind),
                        None => cell = Some(Cell { row: at.0, column: at.1, kind, ..Cell::default() }),
                    }
                    if let (Some(cell), Some(format)) = (&mut cell, format) {
                        cell.format = format.trim().parse().unwrap_or(0);
                    }
                    in_cell = true;
                }
                "v" if in_cell => inside = Inside::Value,
                "f" if in_cell => {
                    scan.formulas += 1;
                    if let Some(cell) = &mut cell {
                        cell.has_formula = true;
                    }
                    text.clear();
                    inside = Inside::Formula;
                }
                "t" if in_cell => inside = Inside::Inline,
                "mergeCell" if scan.merges.len() < MAX_MERGES => {
                    if let Some(range) = attr(&e, "ref")
                        && let Some((from, to)) = range.split_once(':')
                        && let (Some(from), Some(to)) = (parse_a1(from), parse_a1(to))
                    {
                        scan.merges.push((from.0, from.1, to.0, to.1));
                    }
                }
                _ => {}
            },
            Event::Text(t) => take(&t.xml10_content(), &inside, &mut cell, &mut text),
            Event::CData(t) => take(&t.xml10_content(), &inside, &mut cell, &mut text),
            Event::GeneralRef(r) => {
                let mut one = String::new();
                push_reference(&r, &mut one);
                take(&one, &inside, &mut cell, &mut text);
            }
            Event::End(e) => match e.local_name().as_ref() {
                "v" | "t" => inside = Inside::Nothing,
                "f" => {
                    inside = Inside::Nothing;
                    if let Some(cell) = &cell
                        && !text.is_empty()
                    {
                        formula::report(facts, &Place::cell(sheet, a1(cell.row, cell.column)), &text);
                    }
                }
                "c" => {
                    in_cell = false;
                    if let Some(cell) = &cell {
                        scan.finish_cell(cell, strings, styles);
                    }
                }
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    return Ok(());

    fn take(piece: &str, inside: &Inside, cell: &mut Option<Cell>, text: &mut String) {
        let Some(cell) = cell else { return };
        match inside {
            Inside::Value => {
                cell.filled |= !piece.is_empty();
                // Only the values of these two kinds are looked at.
                if matches!(cell.kind, Kind::SharedString | Kind::Error) && cell.value.len() < 64 {
                    cell.value.extend(piece.chars().take(64));
                }
            }
            Inside::Inline => cell.filled |= !piece.is_empty(),
            Inside::Formula if text.len() < MAX_FORMULA_CHARS => text.push_str(piece),
            Inside::Formula | Inside::Nothing => {}
        }
    }
}

impl Scan {
    fn damage(&mut self, cell: Option<(u32, u32)>, detail: String) {
        if self.damage.is_none() {
            self.damage = Some((cell, detail));
        }
    }

    fn finish_cell(&mut self, cell: &Cell, strings: &Strings, styles: &Styles) {
        let string = (cell.kind == Kind::SharedString).then(|| cell.value.trim().parse::<usize>());
        // An empty text as a result is written as the type `str` with an empty value.
        if !cell.filled && cell.has_formula && cell.kind == Kind::Number {
            self.cells += 1;
            self.rows = self.rows.max(cell.row.min(MAX_ROWS));
            self.columns = self.columns.max(cell.column.min(MAX_COLUMNS));
            if self.uncomputed.len() < MAX_UNCOMPUTED {
                self.uncomputed.push((cell.row, cell.column));
            }
            return;
        }
        if cell.filled && cell.kind == Kind::Number && self.formats.len() < MAX_SHOWN && styles.code(cell.format).is_some() {
            self.formats.push((cell.row, cell.column, cell.format));
        }
        if !cell.filled || matches!(&string, Some(Ok(n)) if strings.empty.contains(n)) {
            return;
        }
        self.cells += 1;
        self.rows = self.rows.max(cell.row.min(MAX_ROWS));
        self.columns = self.columns.max(cell.column.min(MAX_COLUMNS));
        match cell.kind {
            Kind::SharedString if !matches!(&string, Some(Ok(n)) if *n < strings.count) => {
                self.damage(Some((cell.row, cell.column)), format!("shared string {} of {}", cell.value.trim(), strings.count));
            }
            Kind::Error => {
                self.errors += 1;
                let shown = cell.value.trim();
                if self.first_error.is_none() {
                    self.first_error = Some((cell.row, cell.column, shown.to_owned()));
                }
                if !CLASSIC_ERRORS.contains(&shown) && self.new_errors.len() < 1_000 {
                    self.new_errors.push((cell.row, cell.column, shown.to_owned()));
                }
            }
            Kind::SharedString | Kind::Number | Kind::Other => {}
        }
    }
}

type Book = Xlsx<Cursor<Vec<u8>>>;
type CleanZip = zip::ZipWriter<Cursor<Vec<u8>>>;

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)
}

/// Puts the clean package together and opens it.
fn open_with_calamine(
    package: &mut Package<'_>,
    budget: &mut Budget,
    listed: &[Listed],
    scans: &[Scan],
    strings: &str,
    styles: &str,
) -> Result<Book, String> {
    const REL: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let mut zip = CleanZip::new(Cursor::new(Vec::new()));
    let mut sheets = String::new();
    let mut rels = String::new();
    for (number, (sheet, scan)) in listed.iter().zip(scans).enumerate() {
        let (Some(index), true, true) = (sheet.part, scan.sound, scan.cells > 0) else { continue };
        package.copy(index, budget, &mut zip, &format!("xl/s{number}.xml")).map_err(|e| e.to_string())?;
        let _ = write!(sheets, "<sheet name=\"s{number}\" sheetId=\"{}\" r:id=\"r{number}\"/>", number + 1);
        let _ = write!(rels, "<Relationship Id=\"r{number}\" Type=\"{REL}/worksheet\" Target=\"s{number}.xml\"/>");
    }
    let package_rels =
        format!("<Relationships><Relationship Id=\"r\" Type=\"{REL}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>");
    let workbook_rels = format!("<Relationships>{rels}</Relationships>");
    let workbook = format!("<workbook xmlns:r=\"{REL}\"><sheets>{sheets}</sheets></workbook>");
    for (name, xml) in [
        ("_rels/.rels", package_rels.as_str()),
        ("xl/_rels/workbook.xml.rels", &workbook_rels),
        ("xl/workbook.xml", &workbook),
        ("xl/sharedStrings.xml", strings),
        ("xl/styles.xml", styles),
    ] {
        zip.start_file(name, stored()).map_err(|e| e.to_string())?;
        zip.write_all(xml.as_bytes()).map_err(|e| e.to_string())?;
    }
    let bytes = zip.finish().map_err(|e| e.to_string())?;
    contained(|| Xlsx::new(bytes)).ok_or_else(|| "the reader stopped".to_owned())?.map_err(|e| e.to_string())
}

/// Reads the values of sheet `number` until the cap.
#[expect(clippy::too_many_arguments, reason = "reads from four tables and writes to two")]
fn read_values(
    book: &mut Book,
    number: usize,
    sheet: &Listed,
    scan: &Scan,
    (styles, date_1904): (&Styles, bool),
    ctx: &Context,
    facts: &mut Facts,
    out: &mut Collector,
) -> Result<(), Fault> {
    if !out.has_room() {
        out.cut_here();
        return Ok(());
    }
    let covered = Covered::of(&scan.merges);
    let formats: BTreeMap<(u32, u32), u32> = scan.formats.iter().map(|(row, column, format)| ((*row, *column), *format)).collect();
    let ended = contained(|| {
        let mut unread = 0u64;
        let mut reader = match book.worksheet_cells_reader(&format!("s{number}")) {
            Ok(reader) => reader,
            Err(e) => return Ok(Some((scan.cells, e.to_string()))),
        };
        let mut first = String::new();
        for turn in 0u64.. {
            if turn.is_multiple_of(512) {
                ctx.budget.work(512 * super::RECORD)?;
            }
            match reader.next_cell() {
                Ok(Some(cell)) => {
                    let (row, column) = cell.get_position();
                    let (row, column) = (row.saturating_add(1), column.saturating_add(1));
                    let Some(value) = value_of(cell.get_value()) else { continue };
                    if covered.has(row, column) {
                        continue;
                    }
                    if !out.has_room() {
                        out.cut_here();
                        break;
                    }
                    if let Some(code) = formats.get(&(row, column)).and_then(|f| styles.code(*f))
                        && let Some(shown) = shown(&value, code, date_1904)
                    {
                        out.show(row, column, shown);
                    }
                    out.keep(row, column, value);
                }
                Ok(None) => break,
                // The walk found the XML sound: this is one value that calamine does not know. The reader goes
                // on with the next cell.
                Err(e) => {
                    if unread == 0 {
                        first = e.to_string();
                    }
                    unread += 1;
                    if unread > 10_000 {
                        break;
                    }
                }
            }
        }
        let known = scan.new_errors.len() as u64;
        Ok::<_, Fault>((unread > known).then(|| (unread - known, first)))
    });
    match ended {
        // Where the walk found damage, that is what the vendor must hear.
        Some(Ok(Some(_))) if scan.damage.is_some() => out.cut_here(),
        Some(Ok(None)) => {}
        Some(Ok(Some((count, detail)))) => {
            facts.push(Signal::new("sheet-unread").at(sheet_place(&sheet.name)).arg("detail", format!("{detail} ({count})")));
            out.cut_here();
        }
        Some(Err(fault)) => return Err(fault),
        None => {
            facts.push(Signal::new("sheet-unread").at(sheet_place(&sheet.name)).arg("detail", "the reader stopped"));
            out.cut_here();
        }
    }
    if !scan.new_errors.is_empty() || !scan.uncomputed.is_empty() {
        for (row, column, shown) in &scan.new_errors {
            out.keep(*row, *column, CellValue::Error(shown.clone()));
        }
        for (row, column) in &scan.uncomputed {
            out.keep(*row, *column, CellValue::Uncomputed);
        }
        if let Some(values) = out.values_mut() {
            values.sort_by_key(|(row, column, _)| (*row, *column));
        }
    }
    Ok(())
}

/// What a cell of this value and format code shows, where that is not the value itself.
pub(super) fn shown(value: &CellValue, code: &str, date_1904: bool) -> Option<String> {
    match value {
        CellValue::Number(n) => number_format::show_number(*n, code),
        CellValue::DateSerial(n) => number_format::show_date(serial_date(*n, date_1904)?, code),
        _ => None,
    }
}

/// A value as facts hold it; absent for an empty cell.
pub(super) fn value_of(value: &DataRef<'_>) -> Option<CellValue> {
    #[expect(clippy::cast_precision_loss, reason = "spreadsheet numbers are doubles")]
    Some(match value {
        DataRef::Int(n) => CellValue::Number(*n as f64),
        DataRef::Float(n) => CellValue::Number(*n),
        DataRef::String(s) if s.is_empty() => return None,
        DataRef::SharedString("") | DataRef::Empty => return None,
        DataRef::String(s) => CellValue::Text(cell_text(s)),
        DataRef::SharedString(s) => CellValue::Text(cell_text(s)),
        DataRef::Bool(b) => CellValue::Bool(*b),
        DataRef::DateTime(d) => CellValue::DateSerial(d.as_f64()),
        DataRef::DateTimeIso(s) => CellValue::DateIso(cell_text(s)),
        DataRef::DurationIso(s) => CellValue::Text(cell_text(s)),
        DataRef::Error(e) => CellValue::Error(e.to_string()),
    })
}

/// Cells hidden under a merged region: all of it but the top-left cell.
pub(super) struct Covered {
    /// Row → (first column, last column, whether the first is the visible one).
    rows: BTreeMap<u32, Vec<(u32, u32, bool)>>,
}

impl Covered {
    /// Regions as (first row, first column, last row, last column), from 1.
    pub(super) fn of(merges: &[(u32, u32, u32, u32)]) -> Self {
        let mut rows: BTreeMap<u32, Vec<(u32, u32, bool)>> = BTreeMap::new();
        // A bound on rows listed: a region over a whole column hides nothing that a table needs.
        let mut left = 200_000u32;
        let unique: BTreeSet<_> = merges.iter().copied().collect();
        for (top, first, bottom, last) in unique {
            for row in top..=bottom {
                if left == 0 {
                    return Self { rows };
                }
                left -= 1;
                let spans = rows.entry(row).or_default();
                if spans.len() < 256 {
                    spans.push((first, last, row == top));
                }
            }
        }
        Self { rows }
    }

    /// Whether the cell lies under a region and is not its top-left cell.
    pub(super) fn has(&self, row: u32, column: u32) -> bool {
        self.rows
            .get(&row)
            .is_some_and(|spans| spans.iter().any(|(first, last, top)| (*first..=*last).contains(&column) && !(*top && column == *first)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{codes, facts_by, facts_within, number, package, sheet, text, xlsx_of};
    use super::*;
    use crate::inspect::Limits;
    use proptest::prelude::*;
    use rust_xlsxwriter::{Format, Formula, Workbook};

    fn two_sheets() -> Vec<u8> {
        let mut workbook = Workbook::new();
        let first = workbook.add_worksheet();
        first.set_name("Déclaration").unwrap();
        first.write_string(0, 0, "Produit").unwrap();
        first.write_string(0, 1, "é & <b>").unwrap();
        first.write_number(1, 0, 12.5).unwrap();
        first.write_boolean(1, 1, true).unwrap();
        first.write_number_with_format(1, 2, 45_657.0, &Format::new().set_num_format("dd/mm/yyyy")).unwrap();
        first.write_formula(2, 0, Formula::new("SUM(A2:A2)").set_result("12.5")).unwrap();
        first.merge_range(4, 0, 5, 2, "titre", &Format::new()).unwrap();
        let second = workbook.add_worksheet();
        second.set_name("Listes").unwrap();
        second.set_hidden(true);
        second.write_string(0, 0, "oui").unwrap();
        workbook.save_to_buffer().unwrap()
    }

    #[test]
    fn cells_dates_formulas_merges_and_hidden_sheets_are_read() {
        let facts = facts_by(xlsx, &two_sheets());
        assert_eq!(codes(&facts), ["sheet-hidden"]);
        let first = sheet(&facts, 0);
        assert_eq!(
            first.values,
            [
                text(1, 1, "Produit"),
                text(1, 2, "é & <b>"),
                number(2, 1, 12.5),
                (2, 2, CellValue::Bool(true)),
                (2, 3, CellValue::DateSerial(45_657.0)),
                number(3, 1, 12.5),
                text(5, 1, "titre"),
            ]
        );
        assert_eq!((first.name.as_str(), first.cells, first.rows, first.columns, first.formulas), ("Déclaration", 7, 5, 3, 1));
        assert!(first.kept_all && sheet(&facts, 1).hidden);
        assert_eq!(facts.text[0].place, Place::cell("Déclaration", "A1"));
        assert!(facts.text[0].text.starts_with("Produit | é & <b> 12.5 | VRAI | 2024-12-31"));
    }

    #[test]
    fn two_cells_in_opposite_corners_are_two_cells() {
        let bytes = xlsx_of(
            r#"<worksheet><dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData></worksheet>"#,
            "<sst/>",
        );
        let facts = facts_by(xlsx, &bytes);
        assert_eq!(sheet(&facts, 0).values, [number(1, 1, 1.0), number(1_048_576, 16_384, 2.0)]);
        assert_eq!(codes(&facts), ["sheet-sparse"]);
    }

    #[test]
    fn counts_that_the_file_declares_allocate_nothing() {
        let bytes = xlsx_of(
            r#"<worksheet><sheetData><row><c t="s"><v>0</v></c></row></sheetData></worksheet>"#,
            r#"<sst count="99999999999" uniqueCount="99999999999"><si><r><t>ri</t></r><r><t>che</t></r><rPh><t>x</t></rPh></si></sst>"#,
        );
        let facts = facts_by(xlsx, &bytes);
        assert_eq!(sheet(&facts, 0).values, [text(1, 1, "riche")]);
        assert!(facts.signals.is_empty());
    }

    #[test]
    fn cells_are_shown_as_their_number_format_has_them() {
        let mut workbook = Workbook::new();
        let page = workbook.add_worksheet();
        let format = |code: &str| Format::new().set_num_format(code);
        page.write_number_with_format(0, 0, 1.1, &format("0.00")).unwrap();
        page.write_number(0, 1, 1.1).unwrap();
        page.write_number_with_format(0, 2, 421.0, &format("0\".\"0\".\"0")).unwrap();
        page.write_number_with_format(0, 3, 46_022.0, &format("mm/yyyy")).unwrap();
        page.write_number_with_format(0, 4, 46_022.0, &format("dd/mm/yyyy")).unwrap();
        let facts = facts_by(xlsx, &workbook.save_to_buffer().unwrap());
        let shown: Vec<_> = sheet(&facts, 0).shown.iter().map(|(row, column, text)| (*row, *column, text.as_str())).collect();
        assert_eq!(shown, [(1, 1, "1.10"), (1, 3, "4.2.1"), (1, 4, "12/2025")]);
    }

    #[test]
    fn a_formula_without_a_saved_result_is_kept_as_one() {
        let cells = r#"<worksheet><sheetData><row r="1"><c r="A1"><f>1+1</f><v></v></c><c r="B1"><f>1+1</f></c><c r="C1" t="str"><f>""</f><v></v></c><c r="D1"><f>1+1</f><v>2</v></c></row></sheetData></worksheet>"#;
        let facts = facts_by(xlsx, &xlsx_of(cells, "<sst/>"));
        assert_eq!(codes(&facts), [""; 0]);
        assert_eq!(sheet(&facts, 0).values, [(1, 1, CellValue::Uncomputed), (1, 2, CellValue::Uncomputed), number(1, 4, 2.0)]);
    }

    #[test]
    fn new_error_values_are_error_values_not_damage() {
        let bytes = xlsx_of(
            r##"<worksheet><sheetData><row r="1"><c r="A1" t="e"><v>#SPILL!</v></c><c r="B1" t="e"><v>#REF!</v></c><c r="C1"><v>3</v></c></row></sheetData></worksheet>"##,
            "<sst/>",
        );
        let facts = facts_by(xlsx, &bytes);
        assert_eq!(codes(&facts), ["sheet-error-values"]);
        assert_eq!(
            sheet(&facts, 0).values,
            [(1, 1, CellValue::Error("#SPILL!".into())), (1, 2, CellValue::Error("#REF!".into())), number(1, 3, 3.0)]
        );
    }

    #[test]
    fn damage_is_named_where_it_is() {
        let cases = [
            (r#"<worksheet><sheetData><row r="1"><c r="B2" t="s"><v>7</v></c></row></sheetData></worksheet>"#, Some("B2")),
            (r#"<worksheet><sheetData><row r="1"><c r="A1"><v>1</v></c>"#, None),
            (r#"<worksheet><sheetData><row r="0"/></sheetData></worksheet>"#, None),
            (r#"<worksheet><sheetData><row r="1"><c r="XFE1"><v>1</v></c></row></sheetData></worksheet>"#, None),
            ("<worksheet/>", None),
        ];
        for (worksheet, cell) in cases {
            let facts = facts_by(xlsx, &xlsx_of(worksheet, "<sst/>"));
            assert_eq!(codes(&facts), ["sheet-corrupt"], "{worksheet}");
            assert_eq!((facts.signals[0].place.sheet.as_deref(), facts.signals[0].place.cell.as_deref()), (Some("F"), cell), "{worksheet}");
        }
        assert_eq!(codes(&facts_by(xlsx, &package(&[("xl/workbook.xml", b"<workbook/>")]))), ["sheet-corrupt"]);
        assert_eq!(codes(&facts_by(xlsx, b"PK nothing")), ["sheet-corrupt"]);
    }

    #[test]
    fn formulas_and_names_that_act_are_named() {
        let bytes = xlsx_of(
            r#"<worksheet><sheetData><row r="1"><c r="C4"><f>cmd|'/c calc'!A1</f><v>0</v></c><c r="D4"><f>_xlfn.WEBSERVICE(A1)</f></c></row></sheetData></worksheet>"#,
            "<sst/>",
        );
        let facts = facts_by(xlsx, &bytes);
        assert_eq!(codes(&facts), ["sheet-formula-program", "sheet-formula-network"]);
        assert_eq!(facts.signals[0].place, Place::cell("F", "C4"));
    }

    #[test]
    fn an_empty_workbook_says_so_and_a_drawn_one_does_not() {
        assert_eq!(codes(&facts_by(xlsx, &xlsx_of("<worksheet><sheetData/></worksheet>", "<sst/>"))), ["sheet-no-cells"]);
        let drawn = "<worksheet><sheetData/><drawing/></worksheet>";
        assert_eq!(codes(&facts_by(xlsx, &xlsx_of(drawn, "<sst/>"))), ["sheet-only-drawings"]);
    }

    #[test]
    fn a_part_in_utf16_reads_like_any_other() {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-16\"?><worksheet><sheetData><row><c t=\"inlineStr\"><is><t>été</t></is></c></row></sheetData></worksheet>";
        let utf16: Vec<u8> = "\u{FEFF}".encode_utf16().chain(xml.encode_utf16()).flat_map(u16::to_be_bytes).collect();
        let rels = br#"<Relationships><Relationship Id="r" Type="x/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;
        let bytes = package(&[
            ("_rels/.rels", rels),
            (
                "XL/Workbook.xml",
                br#"<workbook xmlns:r="r"><workbookPr date1904="1"/><sheets><sheet name="F" r:id="a"/></sheets></workbook>"#,
            ),
            (
                "xl/_rels/workbook.xml.rels",
                br#"<Relationships><Relationship Id="a" Type="x/worksheet" Target="../xl/s.xml"/></Relationships>"#,
            ),
            ("xl/s.xml", &utf16),
        ]);
        let facts = facts_by(xlsx, &bytes);
        assert_eq!(codes(&facts), [""; 0]);
        assert_eq!(sheet(&facts, 0).values, [text(1, 1, "été")]);
        assert!(facts.workbook().unwrap().date_1904);
    }

    #[test]
    fn past_the_cap_cells_are_counted_not_kept() {
        let row: String = (0..50).map(|n| format!("<c><v>{n}</v></c>")).collect();
        let bytes = xlsx_of(&format!("<worksheet><sheetData>{}</sheetData></worksheet>", format!("<row>{row}</row>").repeat(20)), "<sst/>");
        let facts = facts_within(xlsx, &bytes, Limits { max_cells: 60, ..Limits::default() });
        assert_eq!((sheet(&facts, 0).cells, sheet(&facts, 0).values.len(), sheet(&facts, 0).kept_all), (1000, 60, false));
        assert_eq!(codes(&facts), ["sheet-cells-cut"]);
    }

    #[test]
    fn one_long_shared_string_in_every_cell_is_bounded_by_its_text() {
        let cells = "<c t=\"s\"><v>0</v></c>".repeat(2_000);
        let bytes = xlsx_of(
            &format!("<worksheet><sheetData><row>{cells}</row></sheetData></worksheet>"),
            &format!("<sst><si><t>{}</t></si></sst>", "a".repeat(30_000)),
        );
        let facts = facts_by(xlsx, &bytes);
        assert!(sheet(&facts, 0).values.len() < 200);
        assert_eq!(sheet(&facts, 0).cells, 2_000);
    }

    #[test]
    fn what_inflates_is_counted_in_the_budget() {
        let bytes = xlsx_of(&format!("<worksheet><sheetData>{}</sheetData></worksheet>", " ".repeat(3_000_000)), "<sst/>");
        let facts = facts_within(xlsx, &bytes, Limits { max_inflated_bytes: 1_000_000, ..Limits::default() });
        assert_eq!(codes(&facts), ["bomb-inflated"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_mutated_package_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<proptest::sample::Index>()) {
            let mut bytes = two_sheets();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = facts_by(xlsx, &bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = facts_by(xlsx, &bytes);
        }
        #[test]
        fn a_mutated_sheet_never_panics(at in any::<proptest::sample::Index>(), with in "[<>/a-z0-9\"=:A-Z&;]{0,6}") {
            let mut xml = r##"<worksheet><dimension ref="A1:C3"/><sheetData><row r="1"><c r="A1" t="s" s="0"><v>0</v></c><c r="B1"><f t="shared" ref="B1:B2" si="0">A1+1</f><v>2</v></c><c r="C1" t="inlineStr"><is><t>x</t></is></c></row><row r="2"><c r="A2" t="e"><v>#N/A</v></c></row></sheetData><mergeCells count="1"><mergeCell ref="A1:B2"/></mergeCells></worksheet>"##.to_owned();
            xml.insert_str(at.index(xml.len()), &with);
            let _ = facts_by(xlsx, &xlsx_of(&xml, "<sst><si><t>a</t></si></sst>"));
        }
    }
}
