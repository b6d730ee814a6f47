//! OpenDocument spreadsheets (ISO/IEC 26300-3 §9): `content.xml` read once, streaming.
//!
//! A cell or a row may be repeated by an attribute. Empty repeats only move the position; repeats of a
//! value are counted by multiplication and written out until the cap of kept cells. So a file of 1 KB that
//! claims 10^18 cells costs no more than its 1 KB, and is called a bomb because no sheet is that large.

use std::collections::BTreeSet;
use std::io::Cursor;

use quick_xml::events::{BytesStart, Event};

use super::collect::{Collector, MAX_CELL_CHARS, sheet_place};
use super::part::{Fault, XmlPart, attr, push_reference};
use super::xlsx::{Package, report};
use super::{Context, Facts, MAX_COLUMNS, MAX_ROWS, WorkbookFacts, a1, formula, number_format};
use crate::model::facts::CellValue;
use crate::model::{Place, Signal};

/// Table styles read; each may hide the sheets that use it.
const MAX_STYLES: usize = 10_000;
/// Cells of one row that are remembered while the row is read.
const MAX_ROW_CELLS: usize = MAX_COLUMNS as usize;
/// Characters of what one number or date shows; a column is 255 characters wide at most.
const MAX_SHOWN_CHARS: usize = 255;
/// Filled cells of one sheet that stand there by repetition alone, from which on it is a bomb: people fill a column of its full
/// height (1,048,576 cells) or a few, no reader lays out sixteen of them from a file of some kilobytes without minutes of work.
const MAX_REPEATED_CELLS: u64 = 16 * MAX_ROWS as u64;

/// Describes the cells of an OpenDocument spreadsheet on `facts`: a package, or a flat XML file (fods).
pub fn ods(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let mut out = Collector::new(ctx.budget.limits());
    if let Err(fault) = read(bytes, ctx, facts, &mut out) {
        report(&fault, ctx, facts);
        out.cut_here();
    }
    out.finish(ctx, facts, WorkbookFacts::default());
}

fn read(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, out: &mut Collector) -> Result<(), Fault> {
    let flat = bytes.trim_ascii_start().starts_with(b"<") || bytes.starts_with(b"\xEF\xBB\xBF<");
    if flat {
        return read_content(&mut XmlPart::new(Box::new(Cursor::new(bytes)), &mut ctx.budget, false), facts, out);
    }
    let mut package = Package::open(bytes)?;
    let index = package.find("content.xml").ok_or_else(|| Fault::Damaged("content.xml is missing".to_owned()))?;
    let mut part = package.xml(index, &mut ctx.budget).map_err(|f| f.in_part("content.xml"))?;
    read_content(&mut part, facts, out).map_err(|f| f.in_part("content.xml"))
}

/// A cell being read.
#[derive(Default)]
struct Cell {
    repeat: u64,
    covered: bool,
    kind: String,
    value: Option<String>,
    text: String,
    paragraphs: u32,
    formula: Option<String>,
}

/// Where the reader stands.
#[derive(Default)]
struct State {
    tables: u32,
    found_body: bool,
    hidden_styles: BTreeSet<String>,
    style: Option<String>,
    row: u64,
    column: u64,
    row_repeat: u64,
    /// Filled cells of the row: (first column, repeats, value), not yet multiplied by the row's repeats.
    row_cells: Vec<(u64, u64, CellValue, Option<String>)>,
    row_filled: u64,
    row_last: u64,
    row_formulas: u64,
    cell: Option<Cell>,
    /// Depth inside elements of a cell whose text is not the cell's (notes, drawn shapes).
    aside: u32,
    /// Filled cells of the sheet beyond those that the file writes out.
    repeated: u64,
    bomb: Option<(u64, u64)>,
}

fn read_content(part: &mut XmlPart<'_>, facts: &mut Facts, out: &mut Collector) -> Result<(), Fault> {
    let mut state = State::default();
    loop {
        match part.next()? {
            Event::Start(e) if !state.start(&e, out) => break,
            Event::End(e) => state.end(e.local_name().as_ref(), facts, out),
            Event::Text(t) => state.text(&t.xml10_content()),
            Event::CData(t) => state.text(&t.xml10_content()),
            Event::GeneralRef(r) => {
                let mut one = String::new();
                push_reference(&r, &mut one);
                state.text(&one);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !state.found_body {
        return Err(Fault::Damaged("no office:spreadsheet element".to_owned()));
    }
    Ok(())
}

impl State {
    /// Returns `false` when reading must stop (too many sheets).
    fn start(&mut self, e: &BytesStart<'_>, out: &mut Collector) -> bool {
        let local = e.local_name();
        let local = local.as_ref();
        if self.aside > 0 {
            self.aside += 1;
            return true;
        }
        match local {
            "spreadsheet" => self.found_body = true,
            "style" if attr(e, "family").is_some_and(|f| f == "table") => self.style = attr(e, "name"),
            "table-properties" => {
                if attr(e, "display").is_some_and(|d| d == "false")
                    && self.hidden_styles.len() < MAX_STYLES
                    && let Some(style) = self.style.clone()
                {
                    self.hidden_styles.insert(style);
                }
            }
            // Tracked changes and cached copies of other documents hold tables too; only those of the body count.
            "tracked-changes" => self.aside = 1,
            "table" if self.found_body => {
                // A cell may hold a table of its own (is-sub-table); its cells are not the sheet's.
                if self.cell.is_some() {
                    self.aside = 1;
                    return true;
                }
                self.tables += 1;
                if self.tables == 1 {
                    let hidden = attr(e, "style-name").is_some_and(|s| self.hidden_styles.contains(&s));
                    (self.row, self.column, self.repeated, self.bomb) = (0, 0, 0, None);
                    return out.sheet(&attr(e, "name").unwrap_or_default(), hidden);
                }
            }
            "table-row" if self.tables == 1 => {
                self.row_repeat = repeat(e, "number-rows-repeated");
                self.column = 0;
                self.row_cells.clear();
                (self.row_filled, self.row_last, self.row_formulas) = (0, 0, 0);
            }
            "table-cell" | "covered-table-cell" if self.tables == 1 && self.cell.is_none() => {
                let kind = attr(e, "value-type").unwrap_or_default();
                let value = match kind.as_str() {
                    "date" => attr(e, "date-value"),
                    "time" => attr(e, "time-value"),
                    "boolean" => attr(e, "boolean-value"),
                    "string" => attr(e, "string-value"),
                    "float" | "percentage" | "currency" => attr(e, "value"),
                    _ => None,
                };
                self.cell = Some(Cell {
                    repeat: repeat(e, "number-columns-repeated"),
                    covered: local == "covered-table-cell",
                    kind,
                    value,
                    formula: attr(e, "formula"),
                    ..Cell::default()
                });
            }
            "annotation" | "detective" if self.cell.is_some() => self.aside = 1,
            "frame" | "custom-shape" | "object" | "rect" | "ellipse" | "path" | "g" if self.tables > 0 => {
                out.has_drawings = true;
                self.aside = 1;
            }
            "p" => {
                if let Some(cell) = &mut self.cell {
                    if cell.paragraphs > 0 {
                        cell.push("\n");
                    }
                    cell.paragraphs += 1;
                }
            }
            "s" => self.text(" "),
            "tab" => self.text("\t"),
            "line-break" => self.text("\n"),
            _ => {}
        }
        true
    }

    fn text(&mut self, piece: &str) {
        if self.aside > 0 {
            return;
        }
        if let Some(cell) = &mut self.cell
            && cell.paragraphs > 0
        {
            cell.push(piece);
        }
    }

    fn end(&mut self, local: &str, facts: &mut Facts, out: &mut Collector) {
        if self.aside > 0 {
            self.aside -= 1;
            return;
        }
        match local {
            "style" => self.style = None,
            "table" if self.tables > 0 => {
                self.tables -= 1;
                if let Some((rows, columns)) = self.bomb.take() {
                    facts.push(
                        Signal::new("sheet-cells-bomb").at(sheet_place(&out.sheet_name())).arg("detail", format!("{rows} × {columns}")),
                    );
                }
            }
            "table-cell" | "covered-table-cell" => {
                if let Some(cell) = self.cell.take() {
                    self.finish_cell(cell, facts, out);
                }
            }
            "table-row" if self.tables == 1 => self.finish_row(out),
            _ => {}
        }
    }

    fn finish_cell(&mut self, cell: Cell, facts: &mut Facts, out: &mut Collector) {
        let first = self.column.saturating_add(1);
        self.column = self.column.saturating_add(cell.repeat);
        if let Some(text) = &cell.formula {
            self.row_formulas = self.row_formulas.saturating_add(cell.repeat);
            formula::report(facts, &Place::cell(out.sheet_name(), name(self.row + 1, first)), text);
        }
        let repeat = cell.repeat;
        let covered = cell.covered;
        let shown = cell.shown();
        let Some(value) = cell.into_value() else { return };
        if covered {
            return;
        }
        if let CellValue::Error(shown) = &value {
            out.error(clamp(self.row + 1, MAX_ROWS), clamp(first, MAX_COLUMNS), shown);
        }
        self.row_filled = self.row_filled.saturating_add(repeat);
        self.row_last = self.column;
        if self.row_cells.len() < MAX_ROW_CELLS {
            self.row_cells.push((first, repeat, value, shown));
        }
    }

    fn finish_row(&mut self, out: &mut Collector) {
        let first = self.row.saturating_add(1);
        self.row = self.row.saturating_add(self.row_repeat);
        out.count_formulas(self.row_formulas.saturating_mul(self.row_repeat));
        if self.row_filled == 0 {
            return;
        }
        if self.row > u64::from(MAX_ROWS) || self.row_last > u64::from(MAX_COLUMNS) {
            self.bomb.get_or_insert((self.row, self.row_last));
        }
        let written = self.row_cells.len() as u64;
        self.repeated = self.repeated.saturating_add(self.row_filled.saturating_mul(self.row_repeat).saturating_sub(written));
        if self.repeated > MAX_REPEATED_CELLS {
            self.bomb.get_or_insert((self.row, self.row_last));
        }
        out.count(clamp(self.row, MAX_ROWS), clamp(self.row_last, MAX_COLUMNS), self.row_filled.saturating_mul(self.row_repeat));
        // Ends with the cap of kept cells at the latest: every turn keeps one.
        for row in first..=self.row {
            for (column, repeat, value, shown) in &self.row_cells {
                for offset in 0..*repeat {
                    if !out.has_room() {
                        out.cut_here();
                        return;
                    }
                    if let Some(shown) = shown {
                        out.show(clamp(row, MAX_ROWS), clamp(column.saturating_add(offset), MAX_COLUMNS), shown.clone());
                    }
                    out.keep(clamp(row, MAX_ROWS), clamp(column.saturating_add(offset), MAX_COLUMNS), value.clone());
                }
            }
        }
    }
}

impl Cell {
    fn push(&mut self, piece: &str) {
        if self.text.len() + piece.len() <= MAX_CELL_CHARS {
            self.text.push_str(piece);
        }
    }

    /// What the cell shows, where that is another text than its value: LibreOffice writes it beside the value, as the number format
    /// and the language of the sheet have it.
    fn shown(&self) -> Option<String> {
        let text = self.text.trim();
        if text.is_empty() || text.chars().count() > MAX_SHOWN_CHARS || is_error(text) {
            return None;
        }
        match self.kind.as_str() {
            "float" | "percentage" | "currency" => {
                let number: f64 = self.value.as_deref()?.trim().parse().ok()?;
                // Longer numbers are identifiers, and their masking must find them in one place only.
                let text = if text.matches(',').count() == 1 && !text.contains('.') { text.replace(',', ".") } else { text.to_owned() };
                (number.abs() < 1e10 && text != number_format::plain(number)).then_some(text)
            }
            "date" => Some(text.to_owned()),
            _ => None,
        }
    }

    fn into_value(self) -> Option<CellValue> {
        let text = self.text;
        let shown = || (!text.trim().is_empty()).then(|| text.clone());
        Some(match self.kind.as_str() {
            "" => match shown() {
                // A formula whose result is an error has no value type in some writers.
                Some(shown) if is_error(&shown) => CellValue::Error(shown),
                Some(shown) => CellValue::Text(shown),
                None if self.formula.is_some() => CellValue::Uncomputed,
                None => return None,
            },
            "float" | "percentage" | "currency" => match self.value.as_deref().map(|v| v.trim().parse::<f64>()) {
                // LibreOffice writes an error as `value="0"` beside the text `#DIV/0!`.
                Some(Ok(_)) if self.formula.is_some() && is_error(&text) => CellValue::Error(text),
                Some(Ok(n)) => CellValue::Number(n),
                _ => CellValue::Text(shown()?),
            },
            "date" => match self.value {
                Some(date) if !date.is_empty() => CellValue::DateIso(date.chars().take(64).collect()),
                _ => CellValue::Text(shown()?),
            },
            "boolean" => CellValue::Bool(self.value.as_deref() == Some("true")),
            // A duration (`PT09H30M`) reads better as it is shown.
            "time" => CellValue::Text(shown().or(self.value)?),
            _ => match shown().or_else(|| self.value.filter(|v| !v.is_empty())) {
                Some(text) if self.formula.is_some() && is_error(&text) => CellValue::Error(text),
                Some(text) => CellValue::Text(super::collect::cell_text(&text)),
                None => return None,
            },
        })
    }
}

/// Whether a cell shows an error value (`#REF!`, `Err:502`).
fn is_error(text: &str) -> bool {
    let text = text.trim();
    text.len() <= 16
        && (text.starts_with("Err:")
            || (text.starts_with('#') && (text.ends_with('!') || text.ends_with('?') || text == "#N/A" || text == "#N/D")))
}

/// A repeat count; absent or unreadable is 1.
fn repeat(e: &BytesStart<'_>, name: &str) -> u64 {
    attr(e, name).and_then(|n| n.trim().parse().ok()).unwrap_or(1).max(1)
}

fn clamp(n: u64, max: u32) -> u32 {
    u32::try_from(n).unwrap_or(max).min(max)
}

fn name(row: u64, column: u64) -> String {
    a1(clamp(row, MAX_ROWS), clamp(column, MAX_COLUMNS))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{codes, facts_by, facts_within, flat, number, ods_of, package, sheet, text};
    use super::*;
    use crate::inspect::Limits;
    use proptest::prelude::*;

    const TABLE: &str = r##"<table:table table:name="Feuil1" table:style-name="ta1">
        <table:table-column table:number-columns-repeated="3"/>
        <table:table-header-rows><table:table-row>
            <table:table-cell office:value-type="string"><text:p>Produit<text:s/><text:span>A</text:span></text:p><text:p>bis</text:p><office:annotation><text:p>note</text:p></office:annotation></table:table-cell>
            <table:table-cell table:number-columns-repeated="2"/>
            <table:table-cell office:value-type="date" office:date-value="2025-12-31"><text:p>31/12/25</text:p></table:table-cell>
        </table:table-row></table:table-header-rows>
        <table:table-row table:number-rows-repeated="2">
            <table:table-cell office:value-type="float" office:value="1.5" table:number-columns-repeated="2"><text:p>1,5</text:p></table:table-cell>
            <table:covered-table-cell office:value-type="string"><text:p>sous la fusion</text:p></table:covered-table-cell>
            <table:table-cell office:value-type="boolean" office:boolean-value="true"><text:p>VRAI</text:p></table:table-cell>
        </table:table-row>
        <table:table-row table:number-rows-repeated="1048573"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>
    </table:table>"##;
    const STYLES: &str =
        r#"<style:style style:name="ta1" style:family="table"><style:table-properties table:display="false"/></style:style>"#;

    #[test]
    fn cells_repeats_dates_and_hidden_sheets_are_read() {
        for bytes in [ods_of(STYLES, TABLE), flat(STYLES, TABLE).into_bytes()] {
            let facts = facts_by(ods, &bytes);
            assert_eq!(codes(&facts), ["sheet-hidden"]);
            let read = sheet(&facts, 0);
            assert_eq!(
                read.values,
                [
                    text(1, 1, "Produit A\nbis"),
                    (1, 4, CellValue::DateIso("2025-12-31".into())),
                    number(2, 1, 1.5),
                    number(2, 2, 1.5),
                    (2, 4, CellValue::Bool(true)),
                    number(3, 1, 1.5),
                    number(3, 2, 1.5),
                    (3, 4, CellValue::Bool(true)),
                ]
            );
            assert_eq!((read.cells, read.rows, read.columns, read.kept_all), (8, 3, 4, true));
        }
    }

    #[test]
    fn a_billion_repeated_cells_cost_no_more_than_the_cap() {
        let row = |rows: &str, columns: &str| {
            format!(
                r#"<table:table table:name="F"><table:table-row table:number-rows-repeated="{rows}"><table:table-cell table:number-columns-repeated="{columns}" office:value-type="string"><text:p>X</text:p></table:table-cell></table:table-row></table:table>"#
            )
        };
        let facts = facts_within(ods, &ods_of("", &row("999999999", "999999999")), Limits { max_cells: 100, ..Limits::default() });
        assert_eq!(codes(&facts), ["sheet-cells-cut", "sheet-cells-bomb"].map(|c| c).into_iter().rev().collect::<Vec<_>>());
        assert_eq!((sheet(&facts, 0).cells, sheet(&facts, 0).values.len()), (1 << 40, 100));
        let facts = facts_by(ods, &ods_of("", &row("18446744073709551615", "18446744073709551615")));
        assert!(facts.has("sheet-cells-bomb"));
        // A filled column of the full height is odd and legal.
        let facts = facts_by(ods, &ods_of("", &row("1048576", "1")));
        assert_eq!(codes(&facts), ["sheet-cells-cut"]);
    }

    #[test]
    fn repeated_filled_cells_are_counted_before_they_are_written_out() {
        let table = |rows: u32, columns: u32| {
            let cell =
                format!(r#"<table:table-cell table:number-columns-repeated="{columns}" office:value-type="float" office:value="1"/>"#);
            ods_of(
                "",
                &format!(
                    r#"<table:table table:name="F"><table:table-row table:number-rows-repeated="{rows}">{cell}</table:table-row></table:table>"#
                ),
            )
        };
        // The whole grid is legal by its bounds, and no program lays it out.
        let facts = facts_by(ods, &table(1_048_576, 16_384));
        assert!(facts.has("sheet-cells-bomb"));
        assert_eq!(sheet(&facts, 0).cells, 17_179_869_184);
        assert!(!facts_by(ods, &table(1_048_576, 4)).has("sheet-cells-bomb"));
    }

    #[test]
    fn what_libreoffice_shows_of_a_number_or_a_day_is_kept() {
        let cells = r#"<table:table table:name="F"><table:table-row>
            <table:table-cell office:value-type="float" office:value="1.1"><text:p>1,10</text:p></table:table-cell>
            <table:table-cell office:value-type="float" office:value="1.5"><text:p>1,5</text:p></table:table-cell>
            <table:table-cell office:value-type="date" office:date-value="2025-12-31"><text:p>déc. 2025</text:p></table:table-cell>
            <table:table-cell table:formula="of:=1+1"/>
        </table:table-row></table:table>"#;
        let facts = facts_by(ods, &ods_of("", cells));
        assert_eq!(sheet(&facts, 0).shown, [(1, 1, "1.10".to_owned()), (1, 3, "déc. 2025".to_owned())]);
        assert_eq!(sheet(&facts, 0).values.last(), Some(&(1, 4, CellValue::Uncomputed)));
    }

    #[test]
    fn errors_and_formulas_that_act_are_named() {
        let cells = r#"<table:table table:name="F"><table:table-row>
            <table:table-cell table:formula="of:=1/0" office:value-type="string" office:string-value=""><text:p>#DIV/0!</text:p></table:table-cell>
            <table:table-cell table:formula="of:=DDE(&quot;soffice&quot;;&quot;a&quot;;&quot;b&quot;)" office:value-type="float" office:value="1"><text:p>1</text:p></table:table-cell>
        </table:table-row></table:table>"#;
        let facts = facts_by(ods, &ods_of("", cells));
        assert_eq!(codes(&facts), ["sheet-formula-program", "sheet-error-values"]);
        assert_eq!(facts.signals[0].place, Place::cell("F", "B1"));
        assert_eq!(sheet(&facts, 0).formulas, 2);
    }

    #[test]
    fn what_is_no_spreadsheet_or_is_cut_is_damaged() {
        for bytes in [
            package(&[("content.xml", b"<office:document-content/>")]),
            package(&[("content.xml", b"")]),
            package(&[("mimetype", b"x")]),
            package(&[("content.xml", &flat("", TABLE).as_bytes()[..600])]),
        ] {
            assert_eq!(codes(&facts_by(ods, &bytes)), ["sheet-corrupt"]);
        }
    }

    #[test]
    fn a_table_inside_a_cell_is_not_the_sheet() {
        let nested = r#"<table:table table:name="F"><table:table-row><table:table-cell office:value-type="string"><text:p>a</text:p><table:table table:name="G"><table:table-row><table:table-cell office:value-type="string"><text:p>b</text:p></table:table-cell></table:table-row></table:table></table:table-cell></table:table-row></table:table>"#;
        let facts = facts_by(ods, &ods_of("", nested));
        assert_eq!(facts.workbook().unwrap().sheets.len(), 1);
        assert_eq!(sheet(&facts, 0).values, [text(1, 1, "a")]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn mutated_content_never_panics(at in any::<proptest::sample::Index>(), with in "[<>/a-z0-9\"=:-]{0,6}", cut in any::<proptest::sample::Index>()) {
            let mut xml = flat(STYLES, TABLE);
            let spots: Vec<usize> = xml.char_indices().map(|(i, _)| i).collect();
            xml.insert_str(spots[at.index(spots.len())], &with);
            let _ = facts_by(ods, xml.as_bytes());
            let bytes = xml.into_bytes();
            let _ = facts_by(ods, &bytes[..cut.index(bytes.len())]);
        }
        #[test]
        fn mutated_packages_never_panic(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = ods_of(STYLES, TABLE);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = facts_by(ods, &bytes);
        }
    }
}
