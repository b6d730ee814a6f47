//! Excel 97–2003 workbooks ([MS-XLS]): the record stream is walked here, then decoded by calamine.
//!
//! calamine reads this format eagerly: it indexes records by the lengths they should have, clones a shared
//! string for every cell that points to it, and lays cells out in a dense rectangle (two cells in opposite
//! corners take half a gigabyte). So it gets a stream of our making, that holds only what the walk proved
//! sound: code page, date mode, number formats, shared strings, and the first cells up to the cap, moved
//! next to each other on a small grid; where each cell really stands stays on our side. Formulas are left
//! out (their cached results are kept), as are pictures, names and everything else.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};

use calamine::{Data, DataRef, Reader as _, Xls};

use super::collect::{Collector, MAX_SHEETS, sheet_place};
use super::xlsx::{Covered, shown, value_of};
use super::{Context, Facts, WorkbookFacts, a1, number_format};
use crate::inspect::Exceeded;
use crate::inspect::contained;
use crate::inspect::ole::cfb::CompoundFile;
use crate::model::{Place, Signal};

/// Columns of the grid given to calamine.
const GRID: usize = 256;
/// Bytes of shared strings decoded; more than any file people open by hand.
const MAX_STRING_BYTES: usize = 40 * 1024 * 1024;
/// CONTINUE records of one record: calamine's cost grows with their square.
const MAX_CONTINUES: usize = 8_000;
const MAX_MERGES: usize = 20_000;

mod record {
    //! Record types ([MS-XLS] §2.3.1).
    pub const FORMULA: u16 = 0x0006;
    pub const EOF: u16 = 0x000A;
    pub const DATE_MODE: u16 = 0x0022;
    pub const EXTERN_NAME: u16 = 0x0023;
    pub const FILE_PASS: u16 = 0x002F;
    pub const CONTINUE: u16 = 0x003C;
    pub const CODE_PAGE: u16 = 0x0042;
    pub const OBJ: u16 = 0x005D;
    pub const BOUND_SHEET: u16 = 0x0085;
    pub const MUL_RK: u16 = 0x00BD;
    pub const RSTRING: u16 = 0x00D6;
    pub const XF: u16 = 0x00E0;
    pub const MERGE_CELLS: u16 = 0x00E5;
    pub const MSO_DRAWING: u16 = 0x00EC;
    pub const SST: u16 = 0x00FC;
    pub const LABEL_SST: u16 = 0x00FD;
    pub const SUP_BOOK: u16 = 0x01AE;
    pub const NUMBER: u16 = 0x0203;
    pub const LABEL: u16 = 0x0204;
    pub const BOOL_ERR: u16 = 0x0205;
    pub const STRING: u16 = 0x0207;
    pub const RK: u16 = 0x027E;
    pub const FORMAT: u16 = 0x041E;
    pub const BOF: u16 = 0x0809;
}

/// Why a stream was not walked to its end.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the budget of the item is spent")]
    Exceeded(Exceeded),
    #[error("{0}")]
    Damaged(String),
    /// Sound as far as can be told, but of a kind that is not read.
    #[error("{0}")]
    Unread(String),
    /// Encrypted (FILEPASS): nothing more can be read, and the OLE inspector says so.
    #[error("encrypted")]
    Encrypted,
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

fn damaged(detail: &str) -> Fault {
    Fault::Damaged(detail.to_owned())
}

/// Describes the cells of an Excel 97–2003 workbook on `facts`. An encrypted one is left as it is.
pub fn xls(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let mut out = Collector::new(ctx.budget.limits());
    let mut workbook = WorkbookFacts::default();
    match read(bytes, ctx, facts, &mut out, &mut workbook) {
        Ok(()) => {}
        Err(Fault::Encrypted) => return,
        Err(fault) => {
            match &fault {
                Fault::Exceeded(exceeded) => exceeded.record(facts, &ctx.budget),
                Fault::Damaged(detail) => facts.push(Signal::new("sheet-corrupt").arg("detail", detail.as_str())),
                Fault::Unread(detail) => facts.push(Signal::new("sheet-unread").arg("detail", detail.as_str())),
                Fault::Encrypted => {}
            }
            out.cut_here();
        }
    }
    out.finish(ctx, facts, workbook);
}

/// The workbook stream of an OLE file, or the bytes themselves where they are a bare stream (Excel 2–4).
fn workbook_stream(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    if !bytes.starts_with(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1") {
        return Ok(bytes.to_vec());
    }
    // The reader of the OLE inspector, which passes over header fields that Excel and LibreOffice do not look at either.
    let ole = CompoundFile::open(bytes).map_err(|e| Fault::Damaged(format!("OLE container: {e}")))?;
    let entry = ["Workbook", "Book"].into_iter().find_map(|n| ole.stream(n)).ok_or_else(|| damaged("no Workbook stream"))?;
    match ole.read(entry) {
        (stream, None) => Ok(stream),
        (_, Some(damage)) => Err(Fault::Damaged(format!("{}: {damage}", entry.name))),
    }
}

/// One record, bounds checked.
#[derive(Clone, Copy)]
struct Record<'a> {
    kind: u16,
    data: &'a [u8],
}

impl Record<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        self.data.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
    }
    fn u32(&self, at: usize) -> Option<u32> {
        self.data.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
    }
}

/// Walks records from an offset.
struct Records<'a> {
    stream: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// The next record; `None` at the end of the stream.
    fn next(&mut self) -> Result<Option<Record<'a>>, Fault> {
        let rest = self.stream.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let cut = || Fault::Damaged(format!("record cut at byte {} of the workbook stream", self.at));
        let [k0, k1, n0, n1] = *rest.first_chunk().ok_or_else(cut)?;
        let len = usize::from(u16::from_le_bytes([n0, n1]));
        let data = rest.get(4..4 + len).ok_or_else(cut)?;
        self.at += 4 + len;
        Ok(Some(Record { kind: u16::from_le_bytes([k0, k1]), data }))
    }

    /// The CONTINUE records that follow.
    fn continues(&mut self) -> Result<Vec<&'a [u8]>, Fault> {
        let mut found = Vec::new();
        while self.stream.get(self.at..).and_then(|rest| rest.first_chunk()) == Some(&record::CONTINUE.to_le_bytes()) {
            match self.next()? {
                Some(record) => found.push(record.data),
                None => break,
            }
        }
        Ok(found)
    }
}

/// A sheet as the globals list it.
struct Bound {
    name: String,
    hidden: bool,
    kind: u8,
    at: usize,
}

/// What the globals hold.
#[derive(Default)]
struct Globals {
    biff8: bool,
    date_1904: bool,
    sheets: Vec<Bound>,
    /// Characters of each shared string.
    lengths: Vec<u32>,
    /// Number format of each cell format (XF), and the codes of those that the file defines.
    cell_formats: Vec<u16>,
    codes: BTreeMap<u16, String>,
    /// Records for calamine, without the sheet list.
    clean: Vec<u8>,
}

fn push(clean: &mut Vec<u8>, kind: u16, data: &[u8]) {
    // Callers copy record data (at most 65,535 bytes) or write a few bytes of their own.
    let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
    clean.extend(kind.to_le_bytes());
    clean.extend(len.to_le_bytes());
    clean.extend(data.iter().take(usize::from(len)));
}

fn read(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, out: &mut Collector, workbook: &mut WorkbookFacts) -> Result<(), Fault> {
    let stream = workbook_stream(bytes)?;
    let globals = read_globals(&stream, ctx, facts)?;
    workbook.date_1904 = globals.date_1904;
    if globals.sheets.is_empty() {
        return Err(damaged("the workbook lists no sheet"));
    }
    let mut budget =
        Keep { cells: ctx.budget.limits().max_cells.min(16_000_000), bytes: ctx.budget.limits().max_text_chars.saturating_mul(4) };
    let mut walked = Vec::new();
    let mut ended = None;
    for bound in &globals.sheets {
        let mut sheet = Walked::default();
        if ended.is_none() && matches!(bound.kind, 0 | 1) {
            match sheet.walk(&stream, bound, &globals, ctx, &mut budget) {
                Ok(()) => {}
                Err(Fault::Damaged(detail)) => sheet.damage = Some((None, detail)),
                Err(fault) => ended = Some(fault),
            }
        }
        walked.push(sheet);
    }
    let decoded = decode(&globals, &walked);
    if let Err(detail) = &decoded {
        facts.push(Signal::new("sheet-unread").arg("detail", detail.as_str()));
    }
    for (number, (bound, sheet)) in globals.sheets.iter().zip(&walked).enumerate() {
        if !out.sheet(&bound.name, bound.hidden) {
            break;
        }
        out.has_drawings |= bound.kind == 2 || sheet.drawings;
        out.count(sheet.rows, sheet.columns, sheet.cells);
        out.count_formulas(sheet.formulas);
        if let Some((cell, detail)) = &sheet.damage {
            let place = cell.map_or_else(|| sheet_place(&bound.name), |(row, column)| Place::cell(bound.name.as_str(), a1(row, column)));
            facts.push(Signal::new("sheet-corrupt").at(place).arg("detail", detail.as_str()));
            out.cut_here();
        }
        let Ok(values) = &decoded else {
            out.cut_here();
            continue;
        };
        let covered = Covered::of(&sheet.merges);
        for (slot, value) in values.get(number).into_iter().flatten() {
            let Some((row, column)) = sheet.kept.get(*slot).copied() else { continue };
            let Some(value) = value_of(&borrowed(value)) else { continue };
            if let crate::model::facts::CellValue::Error(shown) = &value {
                out.error(row, column, shown);
            }
            if !covered.has(row, column) {
                if let Some(shown) =
                    sheet.formats.get(*slot).and_then(|f| globals.code(*f)).and_then(|code| shown(&value, code, globals.date_1904))
                {
                    out.show(row, column, shown);
                }
                out.keep(row, column, value);
            }
        }
        if let Some(values) = out.values_mut() {
            // Writers may store cells in any order within a row block.
            values.sort_by_key(|(row, column, _)| (*row, *column));
        }
        if sheet.left_out {
            out.overflow();
        }
    }
    ended.map_or(Ok(()), Err)
}

fn read_globals(stream: &[u8], ctx: &Context, facts: &mut Facts) -> Result<Globals, Fault> {
    let mut records = Records { stream, at: 0 };
    let mut globals = Globals::default();
    match records.next()? {
        Some(Record { kind: record::BOF, data }) => {
            globals.biff8 = match (Record { kind: record::BOF, data }).u16(0) {
                Some(0x0600) => true,
                Some(0x0500) => false,
                Some(version) => return Err(Fault::Damaged(format!("unknown BIFF version {version:04X}"))),
                None => return Err(damaged("empty BOF record")),
            };
            push(&mut globals.clean, record::BOF, data);
        }
        Some(Record { kind: 0x0009 | 0x0209 | 0x0409, .. }) => return Err(Fault::Unread("Excel 2, 3 or 4 (BIFF2–BIFF4)".to_owned())),
        _ => return Err(damaged("the workbook stream does not start with a BOF record")),
    }
    let mut code_page = None;
    let mut dde_server: Option<String> = None;
    for turn in 0u32.. {
        if turn.is_multiple_of(256) {
            ctx.budget.work(256 * super::RECORD)?;
        }
        let Some(record) = records.next()? else { return Err(damaged("the workbook globals have no end")) };
        match record.kind {
            record::EOF => break,
            record::FILE_PASS => return Err(Fault::Encrypted),
            record::CODE_PAGE => code_page = record.u16(0),
            record::DATE_MODE => {
                globals.date_1904 = record.u16(0) == Some(1);
                push(&mut globals.clean, record::DATE_MODE, &u16::from(globals.date_1904).to_le_bytes());
            }
            record::XF => {
                // calamine reads the format index alone; a short record keeps its place in the table.
                let format = record.u16(2).unwrap_or(0);
                globals.cell_formats.push(format);
                let [low, high] = format.to_le_bytes();
                push(&mut globals.clean, record::XF, &[0, 0, low, high]);
            }
            record::FORMAT => {
                if let (Some(id), Some(code)) = (record.u16(0), format_code(&record, globals.biff8)) {
                    globals.codes.insert(id, code);
                }
                if globals.biff8 {
                    if record.data.len() >= 5 {
                        push(&mut globals.clean, record::FORMAT, record.data);
                    }
                } else if let (Some([low, high, chars]), Some(text)) = (record.data.first_chunk(), record.data.get(3..)) {
                    // BIFF5 counts the characters in one byte where calamine expects two.
                    let data: Vec<u8> = [*low, *high, *chars, 0].into_iter().chain(text.iter().copied()).collect();
                    push(&mut globals.clean, record::FORMAT, &data);
                }
            }
            record::BOUND_SHEET if globals.sheets.len() < MAX_SHEETS => globals.sheets.push(bound_sheet(&record, globals.biff8)?),
            record::SST => {
                let continues = records.continues()?;
                let bytes = record.data.len() + continues.iter().map(|c| c.len()).sum::<usize>();
                if continues.len() > MAX_CONTINUES || bytes > MAX_STRING_BYTES {
                    return Err(Fault::Unread(format!("{bytes} bytes of shared strings in {} records", continues.len() + 1)));
                }
                globals.lengths = string_lengths(record.data, &continues);
                push(&mut globals.clean, record::SST, record.data);
                for data in continues {
                    push(&mut globals.clean, record::CONTINUE, data);
                }
            }
            // SupBook: `server ETX topic` is a DDE or OLE link; the name that follows tells which.
            record::SUP_BOOK => dde_server = link_server(&record),
            record::EXTERN_NAME => {
                const OLE_LINK: u16 = 0x0010;
                if let (Some(server), Some(flags)) = (&dde_server, record.u16(0))
                    && flags & OLE_LINK == 0
                {
                    facts.push(Signal::new("sheet-formula-program").at(Place::part("Workbook")).arg("formula", format!("{server}|…")));
                    dde_server = None;
                }
            }
            _ => {}
        }
    }
    if !globals.biff8 {
        let page = match code_page {
            Some(0x8000) => 10_000,
            Some(page @ (1250..=1258 | 866 | 874 | 932 | 936 | 949 | 950 | 10_000)) => page,
            _ => 1252,
        };
        // Goes after the BOF record, before any string.
        let after_bof = 4 + usize::from(Record { kind: 0, data: &globals.clean }.u16(2).unwrap_or(0));
        let [low, high] = u16::to_le_bytes(page);
        let [k0, k1] = record::CODE_PAGE.to_le_bytes();
        globals.clean.splice(after_bof..after_bof, [k0, k1, 2, 0, low, high]);
    }
    Ok(globals)
}

/// The code of a FORMAT record ([MS-XLS] §2.4.126); BIFF5 counts its characters in one byte.
fn format_code(record: &Record<'_>, biff8: bool) -> Option<String> {
    if !biff8 {
        return Some(encoding_rs::WINDOWS_1252.decode_without_bom_handling(record.data.get(3..)?).0.into_owned());
    }
    let chars = usize::from(record.u16(2)?);
    let text = record.data.get(5..)?;
    Some(if record.data.get(4)? & 1 != 0 {
        let units: Vec<u16> = text.chunks_exact(2).take(chars).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
        String::from_utf16_lossy(&units)
    } else {
        text.iter().take(chars).map(|b| char::from(*b)).collect()
    })
}

impl Globals {
    /// The format code of a cell format, where it may show another text than the value.
    fn code(&self, cell_format: u16) -> Option<&str> {
        let id = *self.cell_formats.get(usize::from(cell_format))?;
        self.codes.get(&id).map(String::as_str).or_else(|| number_format::built_in(id))
    }
}

fn bound_sheet(record: &Record<'_>, biff8: bool) -> Result<Bound, Fault> {
    let cut = || damaged("BOUNDSHEET record cut");
    let at = record.u32(0).and_then(|at| usize::try_from(at).ok()).ok_or_else(cut)?;
    let &[.., state, kind, chars] = record.data.first_chunk::<7>().ok_or_else(cut)?;
    let name = if biff8 {
        let wide = record.data.get(7).ok_or_else(cut)? & 1 != 0;
        let text = record.data.get(8..).unwrap_or_default();
        if wide {
            let units: Vec<u16> = text.chunks_exact(2).take(usize::from(chars)).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
            String::from_utf16_lossy(&units)
        } else {
            text.iter().take(usize::from(chars)).map(|b| char::from(*b)).collect()
        }
    } else {
        let text = record.data.get(7..).unwrap_or_default();
        encoding_rs::WINDOWS_1252.decode_without_bom_handling(text.get(..usize::from(chars)).unwrap_or(text)).0.into_owned()
    };
    Ok(Bound { name: name.replace('\0', ""), hidden: matches!(state & 3, 1 | 2), kind, at })
}

/// The server of a `SupBook` that is a DDE or OLE link.
fn link_server(record: &Record<'_>) -> Option<String> {
    let wide = record.data.get(4)? & 1 != 0;
    let text = record.data.get(5..)?;
    let chars: String = if wide {
        char::decode_utf16(text.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]]))).map(|c| c.unwrap_or(' ')).take(300).collect()
    } else {
        text.iter().take(300).map(|b| char::from(*b)).collect()
    };
    let (server, _) = chars.split_once('\u{3}')?;
    Some(server.chars().take(60).collect())
}

/// Characters of each shared string ([MS-XLS] §2.5.293), as far as the table is sound. They bound what the
/// cells that point to them may cost.
fn string_lengths(first: &[u8], continues: &[&[u8]]) -> Vec<u32> {
    struct Blocks<'a> {
        current: &'a [u8],
        rest: std::slice::Iter<'a, &'a [u8]>,
    }
    impl<'a> Blocks<'a> {
        fn refill(&mut self) -> Option<()> {
            while self.current.is_empty() {
                self.current = self.rest.next()?;
            }
            Some(())
        }
        fn take(&mut self, n: usize) -> Option<&'a [u8]> {
            let (taken, rest) = self.current.split_at_checked(n)?;
            self.current = rest;
            Some(taken)
        }
        fn skip(&mut self, mut n: usize) -> Option<()> {
            while n > 0 {
                self.refill()?;
                let step = n.min(self.current.len());
                self.take(step)?;
                n -= step;
            }
            Some(())
        }
        fn string(&mut self) -> Option<u32> {
            self.refill()?;
            let &[n0, n1, flags] = self.take(3)?.first_chunk()?;
            let chars = u16::from_le_bytes([n0, n1]);
            let runs = if flags & 8 != 0 { usize::from(u16::from_le_bytes(*self.take(2)?.first_chunk()?)) } else { 0 };
            let extra = if flags & 4 != 0 { u32::from_le_bytes(*self.take(4)?.first_chunk()?) } else { 0 };
            let mut wide = flags & 1 != 0;
            let mut left = usize::from(chars);
            while left > 0 {
                if self.current.is_empty() {
                    self.refill()?;
                    wide = self.take(1)?.first()? & 1 != 0;
                }
                let size = if wide { 2 } else { 1 };
                let here = (self.current.len() / size).min(left);
                if here == 0 && !self.current.is_empty() {
                    return None;
                }
                self.take(here * size)?;
                left -= here;
            }
            self.skip(runs * 4)?;
            self.skip(usize::try_from(extra).ok()?)?;
            Some(u32::from(chars))
        }
    }
    let mut blocks = Blocks { current: first.get(8..).unwrap_or_default(), rest: continues.iter() };
    std::iter::from_fn(|| blocks.string()).collect()
}

/// What may still be kept for calamine, over all sheets.
struct Keep {
    cells: usize,
    bytes: usize,
}

/// What the walk of one sheet found.
#[derive(Default)]
struct Walked {
    cells: u64,
    rows: u32,
    columns: u32,
    formulas: u64,
    drawings: bool,
    merges: Vec<(u32, u32, u32, u32)>,
    damage: Option<(Option<(u32, u32)>, String)>,
    /// Where the cells given to calamine really stand, by their slot on its grid.
    kept: Vec<(u32, u32)>,
    /// The cell format (XF) of each of them.
    formats: Vec<u16>,
    left_out: bool,
    /// Records for calamine: this sheet's substream.
    clean: Vec<u8>,
}

impl Walked {
    fn walk(&mut self, stream: &[u8], bound: &Bound, globals: &Globals, ctx: &Context, keep: &mut Keep) -> Result<(), Fault> {
        let mut records = Records { stream, at: bound.at };
        match records.next()? {
            Some(Record { kind: record::BOF, data }) => push(&mut self.clean, record::BOF, data),
            _ => return Err(Fault::Damaged(format!("no sheet at byte {} of the workbook stream", bound.at))),
        }
        let mut depth = 0u32;
        // Whether the last formula kept awaits its text in a STRING record.
        let mut awaits_text = false;
        for turn in 0u32.. {
            if turn.is_multiple_of(512) {
                ctx.budget.work(512 * super::RECORD)?;
            }
            let Some(r) = records.next()? else { return Err(damaged("the sheet has no end")) };
            match r.kind {
                record::BOF => depth += 1,
                record::EOF if depth == 0 => break,
                record::EOF => depth -= 1,
                record::OBJ | record::MSO_DRAWING => self.drawings = true,
                _ if depth > 0 => {}
                record::NUMBER if r.data.len() >= 14 => {
                    let at = self.cell(&r, 1);
                    self.emit(r.kind, at, r.data.get(4..14).unwrap_or_default(), 0, keep);
                }
                record::RK if r.data.len() >= 10 => {
                    let at = self.cell(&r, 1);
                    self.emit(r.kind, at, r.data.get(4..10).unwrap_or_default(), 0, keep);
                }
                record::MUL_RK if r.data.len() >= 12 => {
                    let (row, first) = (u32::from(r.u16(0).unwrap_or(0)) + 1, u32::from(r.u16(2).unwrap_or(0)) + 1);
                    for (column, rk) in (first..).zip(r.data.get(4..r.data.len() - 2).unwrap_or_default().chunks_exact(6)) {
                        self.count(row, column);
                        self.emit(record::RK, (row, column), rk, 0, keep);
                    }
                }
                record::BOOL_ERR if r.data.len() >= 8 => {
                    let at = self.cell(&r, 1);
                    let sound = match (r.data.get(6), r.data.get(7)) {
                        (Some(_), Some(0)) => true,
                        (Some(code), Some(1)) => is_error_code(*code),
                        _ => false,
                    };
                    if sound {
                        self.emit(r.kind, at, r.data.get(4..8).unwrap_or_default(), 0, keep);
                    }
                }
                record::LABEL | record::RSTRING if r.data.len() >= 8 => {
                    let at = self.cell(&r, 1);
                    self.emit(record::LABEL, at, r.data.get(4..).unwrap_or_default(), r.data.len(), keep);
                }
                record::LABEL_SST if r.data.len() >= 10 => {
                    let at = self.cell(&r, 1);
                    let index = r.u32(6).and_then(|i| usize::try_from(i).ok()).unwrap_or(usize::MAX);
                    match globals.lengths.get(index) {
                        Some(chars) => self.emit(r.kind, at, r.data.get(4..10).unwrap_or_default(), *chars as usize * 2, keep),
                        None => self.damage(Some(at), format!("shared string {index} of {}", globals.lengths.len())),
                    }
                }
                record::FORMULA if r.data.len() >= 20 => {
                    self.formulas += 1;
                    let at = (u32::from(r.u16(0).unwrap_or(0)) + 1, u32::from(r.u16(2).unwrap_or(0)) + 1);
                    let value = r.data.get(6..14).unwrap_or_default();
                    awaits_text = matches!(value, [0, .., 0xFF, 0xFF]);
                    let sound = match value {
                        [0 | 1, .., 0xFF, 0xFF] => true,
                        [2, _, code, .., 0xFF, 0xFF] => is_error_code(*code),
                        [.., 0xFF, 0xFF] => false,
                        _ => true,
                    };
                    if sound {
                        self.count(at.0, at.1);
                        // xf, result, flags, then a formula of our own: the integer 0 in place of the tokens.
                        let data: Vec<u8> = r.data.get(4..20).unwrap_or_default().iter().copied().chain([3, 0, 0x1E, 0, 0]).collect();
                        awaits_text &= self.emit_kept(r.kind, at, &data, 0, keep);
                    }
                }
                record::STRING if awaits_text => {
                    awaits_text = false;
                    if r.data.len() >= 3 {
                        keep.bytes = keep.bytes.saturating_sub(r.data.len());
                        push(&mut self.clean, r.kind, r.data);
                    }
                }
                record::MERGE_CELLS => {
                    let count = usize::from(r.u16(0).unwrap_or(0));
                    for region in r.data.get(2..).unwrap_or_default().chunks_exact(8).take(count) {
                        let at =
                            |i: usize| region.get(i..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from(u16::from_le_bytes(*b)) + 1);
                        if self.merges.len() < MAX_MERGES {
                            self.merges.push((at(0), at(4), at(2), at(6)));
                        }
                    }
                }
                record::NUMBER
                | record::RK
                | record::MUL_RK
                | record::BOOL_ERR
                | record::LABEL
                | record::RSTRING
                | record::LABEL_SST
                | record::FORMULA => self.damage(None, format!("cell record of {} bytes", r.data.len())),
                _ => {}
            }
        }
        push(&mut self.clean, record::EOF, &[]);
        Ok(())
    }

    /// Reads a cell's position (row and column from 1) and counts `n` cells there.
    fn cell(&mut self, r: &Record<'_>, n: u64) -> (u32, u32) {
        let at = (u32::from(r.u16(0).unwrap_or(0)) + 1, u32::from(r.u16(2).unwrap_or(0)) + 1);
        self.count(at.0, at.1);
        self.cells += n - 1;
        at
    }

    fn count(&mut self, row: u32, column: u32) {
        self.cells += 1;
        self.rows = self.rows.max(row);
        self.columns = self.columns.max(column);
    }

    fn damage(&mut self, cell: Option<(u32, u32)>, detail: String) {
        if self.damage.is_none() {
            self.damage = Some((cell, detail));
        }
    }

    fn emit(&mut self, kind: u16, at: (u32, u32), data: &[u8], text_bytes: usize, keep: &mut Keep) {
        self.emit_kept(kind, at, data, text_bytes, keep);
    }

    /// Gives a cell to calamine on the next slot of its grid; `false` where the caps are met.
    fn emit_kept(&mut self, kind: u16, at: (u32, u32), data: &[u8], text_bytes: usize, keep: &mut Keep) -> bool {
        let slot = self.kept.len();
        let (Ok(row), Ok(column)) = (u16::try_from(slot / GRID), u16::try_from(slot % GRID)) else {
            self.left_out = true;
            return false;
        };
        if keep.cells == 0 || keep.bytes < text_bytes {
            self.left_out = true;
            return false;
        }
        keep.cells -= 1;
        keep.bytes -= text_bytes;
        self.kept.push(at);
        // Every cell record holds its XF behind row and column.
        self.formats.push(data.first_chunk().map_or(0, |b| u16::from_le_bytes(*b)));
        let record: Vec<u8> = row.to_le_bytes().into_iter().chain(column.to_le_bytes()).chain(data.iter().copied()).collect();
        push(&mut self.clean, kind, &record);
        true
    }
}

/// Error codes that [MS-XLS] §2.5.10 knows.
fn is_error_code(code: u8) -> bool {
    matches!(code, 0x00 | 0x07 | 0x0F | 0x17 | 0x1D | 0x24 | 0x2A | 0x2B)
}

/// Puts the clean stream together and has calamine decode it: for each sheet, (slot, value).
fn decode(globals: &Globals, walked: &[Walked]) -> Result<Vec<Vec<(usize, Data)>>, String> {
    let mut stream = globals.clean.clone();
    let mut patches = Vec::new();
    for number in 0..walked.len() {
        let name = format!("s{number}");
        // Position (patched below), visible, worksheet, characters; BIFF8 adds a flag byte.
        let mut data = vec![0, 0, 0, 0, 0, 0, u8::try_from(name.len()).unwrap_or(0)];
        if globals.biff8 {
            data.push(0);
        }
        data.extend(name.bytes());
        patches.push(stream.len() + 4);
        push(&mut stream, record::BOUND_SHEET, &data);
    }
    push(&mut stream, record::EOF, &[]);
    for (sheet, patch) in walked.iter().zip(patches) {
        let at = u32::try_from(stream.len()).map_err(|e| e.to_string())?;
        if let Some(field) = stream.get_mut(patch..patch + 4) {
            field.copy_from_slice(&at.to_le_bytes());
        }
        // A damaged sheet has no end of its own; what was sound before the damage is still read.
        stream.extend(&sheet.clean);
        if !sheet.clean.ends_with(&[0x0A, 0, 0, 0]) {
            push(&mut stream, record::EOF, &[]);
        }
    }
    let mut ole = cfb::CompoundFile::create_with_version(cfb::Version::V3, Cursor::new(Vec::new())).map_err(|e| e.to_string())?;
    ole.create_stream("/Workbook").and_then(|mut s| s.write_all(&stream)).map_err(|e| e.to_string())?;
    ole.flush().map_err(|e| e.to_string())?;
    drop(stream);
    let bytes = ole.into_inner().into_inner();
    let mut book = contained(|| Xls::new(Cursor::new(bytes))).ok_or_else(|| "the reader stopped".to_owned())?.map_err(|e| e.to_string())?;
    let mut sheets = Vec::new();
    for number in 0..walked.len() {
        let range = book.worksheet_range(&format!("s{number}")).map_err(|e| e.to_string())?;
        let (top, left) = range.start().unwrap_or((0, 0));
        let values =
            range.used_cells().map(|(row, column, value)| ((top as usize + row) * GRID + left as usize + column, value.clone())).collect();
        sheets.push(values);
    }
    Ok(sheets)
}

/// The same value, in the form the streaming readers give.
fn borrowed(value: &Data) -> DataRef<'_> {
    match value {
        Data::Int(n) => DataRef::Int(*n),
        Data::Float(n) => DataRef::Float(*n),
        Data::String(s) => DataRef::SharedString(s),
        Data::Bool(b) => DataRef::Bool(*b),
        Data::DateTime(d) => DataRef::DateTime(*d),
        Data::DateTimeIso(s) => DataRef::DateTimeIso(s.clone()),
        Data::DurationIso(s) => DataRef::DurationIso(s.clone()),
        Data::Error(e) => DataRef::Error(e.clone()),
        Data::Empty => DataRef::Empty,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{codes, facts_by, facts_within, number, sheet, text};
    use super::*;
    use crate::inspect::Limits;
    use crate::model::facts::CellValue;
    use proptest::prelude::*;

    fn bof(version: u16, kind: u16) -> Vec<u8> {
        [version, kind, 0, 0, 0, 0, 0, 0].into_iter().flat_map(u16::to_le_bytes).collect()
    }

    fn at(row: u16, column: u16, xf: u16, rest: &[u8]) -> Vec<u8> {
        [row, column, xf].into_iter().flat_map(u16::to_le_bytes).chain(rest.iter().copied()).collect()
    }

    /// A shared string table whose second string is cut by a CONTINUE record and goes on in UTF-16.
    fn strings(stream: &mut Vec<u8>) {
        let mut table = vec![3, 0, 0, 0, 3, 0, 0, 0];
        table.extend([7, 0, 0]);
        table.extend(b"Produit");
        table.extend([4, 0, 0]);
        table.extend(b"ab");
        push(stream, record::SST, &table);
        let mut rest = vec![1];
        rest.extend("é€".encode_utf16().flat_map(u16::to_le_bytes));
        // A third with a formatting run.
        rest.extend([3, 0, 8, 1, 0]);
        rest.extend(b"xyz");
        rest.extend([0, 0, 0, 0]);
        push(stream, record::CONTINUE, &rest);
    }

    /// A BIFF8 stream of two sheets, the second hidden. `cells` fills the first.
    fn stream_with(cells: &dyn Fn(&mut Vec<u8>), globals: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut stream = Vec::new();
        push(&mut stream, record::BOF, &bof(0x0600, 5));
        globals(&mut stream);
        // Format 164 `dd/mm/yyyy`, then XF 0 (General) and XF 1 (that format).
        let mut format = vec![164, 0, 10, 0, 0];
        format.extend(b"dd/mm/yyyy");
        push(&mut stream, record::FORMAT, &format);
        push(&mut stream, record::XF, &[0; 20]);
        let mut dated = [0u8; 20];
        dated[2] = 164;
        push(&mut stream, record::XF, &dated);
        let mut patches = Vec::new();
        for (name, state) in [("Feuil1", 0u8), ("Listes", 1)] {
            patches.push(stream.len() + 4);
            let mut bound = vec![0, 0, 0, 0, state, 0, 6, 0];
            bound.extend(name.bytes());
            push(&mut stream, record::BOUND_SHEET, &bound);
        }
        strings(&mut stream);
        push(&mut stream, record::EOF, &[]);
        for (number, patch) in patches.into_iter().enumerate() {
            let here = u32::try_from(stream.len()).unwrap();
            stream[patch..patch + 4].copy_from_slice(&here.to_le_bytes());
            push(&mut stream, record::BOF, &bof(0x0600, 0x10));
            if number == 0 {
                cells(&mut stream);
            }
            push(&mut stream, record::EOF, &[]);
        }
        stream
    }

    fn ole(stream: &[u8]) -> Vec<u8> {
        let mut ole = cfb::CompoundFile::create_with_version(cfb::Version::V3, Cursor::new(Vec::new())).unwrap();
        ole.create_stream("/Workbook").unwrap().write_all(stream).unwrap();
        ole.flush().unwrap();
        ole.into_inner().into_inner()
    }

    fn xls_of(cells: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
        ole(&stream_with(cells, &|_| {}))
    }

    fn sample(stream: &mut Vec<u8>) {
        // DIMENSIONS that claim the whole sheet: not believed.
        push(stream, 0x0200, &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
        push(stream, record::LABEL_SST, &at(0, 0, 0, &[0, 0, 0, 0]));
        push(stream, record::LABEL_SST, &at(0, 1, 0, &[1, 0, 0, 0]));
        push(stream, record::LABEL_SST, &at(0, 2, 0, &[2, 0, 0, 0]));
        push(stream, record::NUMBER, &at(1, 0, 0, &12.5f64.to_le_bytes()));
        push(stream, record::NUMBER, &at(1, 1, 1, &45_657f64.to_le_bytes()));
        // RK integer 7 (<< 2 | 2), then a MULRK of two.
        push(stream, record::RK, &at(1, 2, 0, &[30, 0, 0, 0]));
        push(stream, record::MUL_RK, &[2, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 10, 0, 0, 0, 1, 0]);
        push(stream, record::BOOL_ERR, &at(3, 0, 0, &[1, 0]));
        push(stream, record::BOOL_ERR, &at(3, 1, 0, &[0x2A, 1]));
        // A formula whose text comes in a STRING record.
        let mut formula = at(4, 0, 0, &[0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0]);
        formula.extend([3, 0, 0x1E, 1, 0]);
        push(stream, record::FORMULA, &formula);
        push(stream, record::STRING, &[3, 0, 0, b'o', b'u', b'i']);
        // A merged region hides its second cell.
        push(stream, record::NUMBER, &at(6, 0, 0, &1f64.to_le_bytes()));
        push(stream, record::NUMBER, &at(6, 1, 0, &2f64.to_le_bytes()));
        push(stream, record::MERGE_CELLS, &[1, 0, 6, 0, 6, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn every_kind_of_cell_is_read_where_it_stands() {
        let facts = facts_by(xls, &xls_of(&sample));
        assert_eq!(codes(&facts), ["sheet-hidden", "sheet-error-values"]);
        let first = sheet(&facts, 0);
        assert_eq!(
            first.values,
            [
                text(1, 1, "Produit"),
                text(1, 2, "abé€"),
                text(1, 3, "xyz"),
                number(2, 1, 12.5),
                (2, 2, CellValue::DateSerial(45_657.0)),
                number(2, 3, 7.0),
                number(3, 1, 1.0),
                number(3, 2, 2.0),
                (4, 1, CellValue::Bool(true)),
                (4, 2, CellValue::Error("#N/A".into())),
                text(5, 1, "oui"),
                number(7, 1, 1.0),
            ]
        );
        assert_eq!((first.cells, first.rows, first.columns, first.formulas), (13, 7, 3, 1));
        assert!(sheet(&facts, 1).hidden);
    }

    #[test]
    fn two_cells_in_opposite_corners_are_two_cells() {
        let facts = facts_by(
            xls,
            &xls_of(&|s| {
                push(s, record::NUMBER, &at(0, 0, 0, &1f64.to_le_bytes()));
                push(s, record::NUMBER, &at(65_535, 255, 0, &2f64.to_le_bytes()));
            }),
        );
        assert_eq!(sheet(&facts, 0).values, [number(1, 1, 1.0), number(65_536, 256, 2.0)]);
        assert_eq!(codes(&facts), ["sheet-sparse", "sheet-hidden"]);
    }

    #[test]
    fn the_epoch_of_1904_is_told_and_a_password_leaves_the_file_alone() {
        let dated = stream_with(&sample, &|s| push(s, record::DATE_MODE, &[1, 0]));
        assert!(facts_by(xls, &ole(&dated)).workbook().unwrap().date_1904);
        let locked = stream_with(&sample, &|s| push(s, record::FILE_PASS, &[1, 0, 1, 0]));
        let facts = facts_by(xls, &ole(&locked));
        assert!(facts.signals.is_empty() && facts.detail.is_none());
    }

    #[test]
    fn damage_is_told_and_what_came_before_is_kept() {
        let whole = stream_with(&sample, &|_| {});
        let facts = facts_by(xls, &ole(&whole[..whole.len() - 30]));
        assert!(facts.has("sheet-corrupt"));
        assert_eq!(sheet(&facts, 0).values.first(), Some(&text(1, 1, "Produit")));
        let missing_string = xls_of(&|s| push(s, record::LABEL_SST, &at(2, 3, 0, &[9, 0, 0, 0])));
        let facts = facts_by(xls, &missing_string);
        let signal = facts.signals.iter().find(|s| s.code.as_str() == "sheet-corrupt").unwrap();
        assert_eq!(signal.place, Place::cell("Feuil1", "D3"));
        assert_eq!(codes(&facts_by(xls, &ole(b"not a workbook"))), ["sheet-corrupt"]);
        assert_eq!(codes(&facts_by(xls, b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1cut")), ["sheet-corrupt"]);
        assert_eq!(codes(&facts_by(xls, &[0x09, 0x04, 6, 0, 0, 0, 0, 0, 0, 0])), ["sheet-unread"]);
    }

    #[test]
    fn header_fields_that_no_reader_looks_at_refuse_no_workbook() {
        // The byte order ([MS-CFB] §2.2: 0xFFFE), and a mini stream whose size is no multiple of 64.
        let sound = xls_of(&sample);
        let values = sheet(&facts_by(xls, &sound), 0).values.clone();
        let mut order = sound.clone();
        order[28..30].copy_from_slice(&[0xFF, 0xFE]);
        let root = (u32::from_le_bytes(sound[48..52].try_into().unwrap()) as usize + 1) << u16::from_le_bytes([sound[30], sound[31]]);
        let mut size = sound.clone();
        let of = u32::from_le_bytes(size[root + 120..root + 124].try_into().unwrap());
        size[root + 120..root + 124].copy_from_slice(&(of.next_multiple_of(64) + 6).to_le_bytes());
        for bytes in [order, size] {
            let facts = facts_by(xls, &bytes);
            assert!(!facts.has("sheet-corrupt"), "{:?}", facts.signals);
            assert_eq!(sheet(&facts, 0).values, values);
        }
    }

    #[test]
    fn a_number_is_shown_in_its_format() {
        // Two cell formats of our own in front: General, and the built-in format 2 (`0.00`).
        let formats = |s: &mut Vec<u8>| {
            let mut two_decimals = [0u8; 20];
            two_decimals[2] = 2;
            push(s, record::XF, &[0; 20]);
            push(s, record::XF, &two_decimals);
        };
        let cells = |s: &mut Vec<u8>| {
            push(s, record::NUMBER, &at(0, 0, 0, &1.1f64.to_le_bytes()));
            push(s, record::NUMBER, &at(0, 1, 1, &1.1f64.to_le_bytes()));
        };
        let facts = facts_by(xls, &ole(&stream_with(&cells, &formats)));
        assert_eq!(sheet(&facts, 0).values, [number(1, 1, 1.1), number(1, 2, 1.1)]);
        assert_eq!(sheet(&facts, 0).shown, [(1, 2, "1.10".to_owned())]);
    }

    #[test]
    fn a_dde_server_is_named() {
        let link = stream_with(&sample, &|s| {
            let mut book = vec![0, 0, 11, 0, 0];
            book.extend(b"cmd\x03/c calc");
            push(s, record::SUP_BOOK, &book);
            push(s, record::EXTERN_NAME, &[0xE2, 0x7F, 0, 0, 0, 0, 2, 0, b'A', b'0']);
        });
        // Flags 0x7FE2: a clipboard format, and fOleLink (0x10) not set.
        assert!(facts_by(xls, &ole(&link)).has("sheet-formula-program"));
    }

    #[test]
    fn past_the_cap_cells_are_counted_not_kept() {
        let many = xls_of(&|s| {
            for row in 0..40u16 {
                push(s, record::NUMBER, &at(row, 0, 0, &f64::from(row).to_le_bytes()));
            }
        });
        let facts = facts_within(xls, &many, Limits { max_cells: 10, ..Limits::default() });
        assert_eq!((sheet(&facts, 0).cells, sheet(&facts, 0).values.len(), sheet(&facts, 0).kept_all), (40, 10, false));
        assert!(facts.has("sheet-cells-cut"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_mutated_stream_never_panics(spots in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4)) {
            let mut stream = stream_with(&sample, &|_| {});
            for (at, byte) in spots {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
            let _ = facts_by(xls, &ole(&stream));
            let _ = facts_by(xls, &stream);
        }
        #[test]
        fn a_mutated_container_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<proptest::sample::Index>()) {
            let mut bytes = xls_of(&sample);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = facts_by(xls, &bytes);
            bytes.truncate(cut.index(bytes.len()));
            let _ = facts_by(xls, &bytes);
        }
    }
}
