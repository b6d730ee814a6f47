//! Gathers cells from any reader into [`WorkbookFacts`], within the caps, and says what can be said of
//! every workbook alike: hidden sheets, empty workbooks, cells far away, error values.

use std::fmt::Write as _;

use super::{Context, Facts, WorkbookFacts, a1};
use crate::inspect::Limits;
use crate::model::facts::{CellValue, Detail, SheetFacts, serial_date};
use crate::model::{Place, Signal};

/// Characters that one cell may hold (Excel specifications and limits: 32,767); more is cut.
pub const MAX_CELL_CHARS: usize = 32_767;

/// Sheets kept; Excel has no limit but memory, people have fewer.
pub const MAX_SHEETS: usize = 2_000;
/// Where counting the cells of a sheet stops: 64 times the largest grid. A file of a kilobyte may claim 10^18 by repetition.
const MAX_COUNTED: u64 = 1 << 40;

/// Characters that make one chunk of text.
const CHUNK_CHARS: usize = 2_000;

/// Cells of a workbook whose shown text is kept; tables that a rule reads cell by cell are shorter.
const MAX_SHOWN: usize = 10_000;

/// A sheet whose used area is larger than this, and nearly empty, is called sparse.
const SPARSE_AREA: u64 = 10_000_000;
/// … nearly empty: fewer than one cell in this many.
const SPARSE_RATIO: u64 = 10_000;

/// A workbook being gathered.
#[derive(Debug)]
pub struct Collector {
    sheets: Vec<SheetFacts>,
    cells_left: usize,
    bytes_left: usize,
    shown_left: usize,
    /// Error cells: how many, and the first (sheet index, row, column, what it shows).
    errors: u64,
    first_error: Option<(usize, u32, u32, String)>,
    /// Whether the caps were met: more cells exist than were kept.
    full: bool,
    /// Whether reading stopped before an end: what was not read may not be called absent.
    broken: bool,
    /// Whether any sheet shows pictures, charts or objects.
    pub has_drawings: bool,
}

impl Collector {
    /// Nothing gathered yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            sheets: Vec::new(),
            cells_left: limits.max_cells,
            // Four bytes for each character of readable text: enough for any honest table, and a bound for
            // 100,000 cells of 32,767 characters.
            bytes_left: limits.max_text_chars.saturating_mul(4),
            shown_left: MAX_SHOWN,
            errors: 0,
            first_error: None,
            full: false,
            broken: false,
            has_drawings: false,
        }
    }

    /// Opens the next sheet. Past [`MAX_SHEETS`] returns `false`: the caller stops.
    pub fn sheet(&mut self, name: &str, hidden: bool) -> bool {
        if self.sheets.len() >= MAX_SHEETS {
            self.full = true;
            return false;
        }
        let name = name.chars().take(255).collect();
        self.sheets.push(SheetFacts { name, hidden, kept_all: true, ..SheetFacts::default() });
        true
    }

    /// The name of the sheet being read.
    pub fn sheet_name(&self) -> String {
        self.sheets.last().map(|s| s.name.clone()).unwrap_or_default()
    }

    /// Counts `n` non-empty cells of the current sheet, the last at (`row`, `column`) from 1.
    pub fn count(&mut self, row: u32, column: u32, n: u64) {
        if let Some(sheet) = self.sheets.last_mut() {
            sheet.cells = sheet.cells.saturating_add(n).min(MAX_COUNTED);
            sheet.rows = sheet.rows.max(row);
            sheet.columns = sheet.columns.max(column);
        }
    }

    /// Counts formulas of the current sheet.
    pub fn count_formulas(&mut self, n: u64) {
        if let Some(sheet) = self.sheets.last_mut() {
            sheet.formulas = sheet.formulas.saturating_add(n);
        }
    }

    /// Notes an error value (`#REF!`) of the current sheet.
    pub fn error(&mut self, row: u32, column: u32, shown: &str) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some((self.sheets.len().saturating_sub(1), row, column, shown.chars().take(40).collect()));
        }
    }

    /// Whether another cell can still be kept.
    pub fn has_room(&self) -> bool {
        self.cells_left > 0 && self.bytes_left > 0
    }

    /// Keeps a cell that was counted, at (`row`, `column`) from 1, where there is room.
    pub fn keep(&mut self, row: u32, column: u32, value: CellValue) {
        let room = self.has_room();
        let Some(sheet) = self.sheets.last_mut() else { return };
        if !room {
            sheet.kept_all = false;
            self.full = true;
            return;
        }
        self.cells_left -= 1;
        if let CellValue::Text(text) | CellValue::DateIso(text) | CellValue::Error(text) = &value {
            self.bytes_left = self.bytes_left.saturating_sub(text.len());
        }
        sheet.values.push((row, column, value));
    }

    /// Keeps what a cell shows, where its number format makes that another text than its value.
    pub fn show(&mut self, row: u32, column: u32, shown: String) {
        if let Some(sheet) = self.sheets.last_mut().filter(|_| self.shown_left > 0) {
            self.shown_left -= 1;
            sheet.shown.push((row, column, shown));
        }
    }

    /// Marks the current sheet as not kept whole.
    pub fn cut_here(&mut self) {
        self.full |= !self.has_room();
        self.broken = true;
        if let Some(sheet) = self.sheets.last_mut() {
            sheet.kept_all = false;
        }
    }

    /// Notes that the current sheet has more cells than its reader kept.
    pub fn overflow(&mut self) {
        self.full = true;
        if let Some(sheet) = self.sheets.last_mut() {
            sheet.kept_all = false;
        }
    }

    /// Cells kept of the current sheet, for a reader that must drop or sort some.
    pub fn values_mut(&mut self) -> Option<&mut Vec<(u32, u32, CellValue)>> {
        self.sheets.last_mut().map(|s| &mut s.values)
    }

    /// Records the workbook on `facts`: its cells, its text, and what was noticed.
    pub fn finish(self, ctx: &mut Context, facts: &mut Facts, workbook: WorkbookFacts) {
        for sheet in &self.sheets {
            add_text(sheet, workbook.date_1904, ctx, facts);
        }
        self.finish_without_text(facts, workbook);
    }

    /// The same, for a file whose text was added before.
    pub fn finish_without_text(self, facts: &mut Facts, mut workbook: WorkbookFacts) {
        let kept: u64 = self.sheets.iter().map(|s| s.values.len() as u64).sum();
        let seen: u64 = self.sheets.iter().fold(0, |n, s| n.saturating_add(s.cells));
        for sheet in &self.sheets {
            if sheet.hidden {
                facts.push(
                    Signal::new("sheet-hidden").at(sheet_place(&sheet.name)).arg("sheet", sheet.name.as_str()).arg("cells", sheet.cells),
                );
            }
            let area = u64::from(sheet.rows) * u64::from(sheet.columns);
            if area > SPARSE_AREA && sheet.cells < area / SPARSE_RATIO {
                facts.push(
                    Signal::new("sheet-sparse")
                        .at(sheet_place(&sheet.name))
                        .arg("sheet", sheet.name.as_str())
                        .arg("last", a1(sheet.rows, sheet.columns))
                        .arg("cells", sheet.cells),
                );
            }
        }
        if let Some((index, row, column, shown)) = &self.first_error {
            let name = self.sheets.get(*index).map(|s| s.name.clone()).unwrap_or_default();
            facts.push(
                Signal::new("sheet-error-values")
                    .at(Place::cell(name, a1(*row, *column)))
                    .arg("value", shown.as_str())
                    .arg("count", self.errors),
            );
        }
        if seen == 0 && !self.broken && !facts.has("sheet-unread") {
            facts.push(if self.has_drawings {
                Signal::new("sheet-only-drawings").arg("sheets", self.sheets.len())
            } else {
                Signal::new("sheet-no-cells").arg("sheets", self.sheets.len())
            });
        }
        if self.full {
            facts.push(Signal::new("sheet-cells-cut").arg("kept", kept).arg("cells", seen));
        }
        workbook.sheets = self.sheets;
        facts.detail = Some(Detail::Workbook(workbook));
    }
}

/// A whole sheet.
pub fn sheet_place(name: &str) -> Place {
    Place { sheet: Some(name.to_owned()), ..Place::default() }
}

/// Cuts text at what a cell can hold.
pub fn cell_text(text: &str) -> String {
    if text.len() <= MAX_CELL_CHARS { text.to_owned() } else { text.chars().take(MAX_CELL_CHARS).collect() }
}

/// Adds the kept cells as text, some rows to a chunk. Cells are parted by ` | `, so that the digits of two
/// neighbours never read as one number.
fn add_text(sheet: &SheetFacts, date_1904: bool, ctx: &mut Context, facts: &mut Facts) {
    let mut chunk = String::new();
    let mut first = (1, 1);
    let mut last_row = 0;
    for (row, column, value) in &sheet.values {
        if chunk.is_empty() {
            first = (*row, *column);
        } else if *row != last_row && chunk.len() >= CHUNK_CHARS {
            ctx.add_text(facts, Place::cell(sheet.name.as_str(), a1(first.0, first.1)), &chunk);
            chunk.clear();
            first = (*row, *column);
        } else {
            chunk.push_str(if *row == last_row { " | " } else { " \n" });
        }
        last_row = *row;
        match value {
            CellValue::Text(text) | CellValue::DateIso(text) | CellValue::Error(text) => chunk.push_str(text),
            CellValue::Number(n) => {
                let _ = write!(chunk, "{n}");
            }
            CellValue::DateSerial(n) => {
                // A time of day alone has no date to show.
                let _ = match serial_date(*n, date_1904).filter(|_| *n >= 1.0) {
                    Some(date) => write!(chunk, "{date}"),
                    None => write!(chunk, "{n}"),
                };
            }
            // The text of the workbook is what its cells hold, not what calculating them would give.
            CellValue::Uncomputed => {}
            CellValue::Bool(b) => chunk.push_str(if *b { "VRAI" } else { "FAUX" }),
        }
    }
    if !chunk.is_empty() {
        ctx.add_text(facts, Place::cell(sheet.name.as_str(), a1(first.0, first.1)), &chunk);
    }
}
