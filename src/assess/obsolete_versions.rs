//! Reads the table of obsolete versions out of a workbook, against the columns that a pipeline declares.
//!
//! Goals:
//! 1. **Read what people really send**: titles above the header, columns in any order and spelling, several
//!    sheets, headers repeated, totals, notes, dates in every French habit or as bare serial numbers.
//! 2. **Name the cell.** Every signal stands at a cell (`Feuil1!C7`) and says what was understood.
//! 3. **Never guess silently.** A date that reads two ways, a version that Excel turned into a date, a value
//!    near a known one: said, with the suggestion, and left to the vendor.
//! 4. **A cell is what the spreadsheet program shows.** A version stored as 1.1 in the format `0.00` reads 1.10, a day in the format
//!    `mm/yyyy` is a month.
//! 5. An empty table without the sentence « aucune version obsolète » puts the financing at risk; it is not
//!    an error of form (ANS FAQ: the absence of obsolete versions must be stated in the file).

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inspect::sheet::a1;
use crate::model::facts::{CellValue, Facts, MAX_SIGNALS_PER_CODE, SheetFacts, WorkbookFacts, serial_date};
use crate::model::work::Work;
use crate::model::{Place, Signal};
use crate::pipeline::columns::{Choice, Column, ColumnKind, ColumnModel, fold};

use super::edits;

/// Cells of a row that may be headers: a table has some twenty columns, a sheet sixteen thousand.
const MAX_HEADER_CELLS: usize = 256;
/// Longest header, characters.
const MAX_HEADER: usize = 120;

/// Characters kept of a cell that was not understood; a page shows them in one cell.
const MAX_UNREAD_CHARS: usize = 200;

/// What was read of a workbook.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObsoleteReading {
    /// Tables recognised, in workbook order.
    pub tables: Vec<TableFound>,
    /// Rows of data, in workbook order.
    pub rows: Vec<ObsoleteRow>,
    /// Whether the workbook says that there is no obsolete version.
    pub none_declared: bool,
    /// What a person should know.
    pub signals: Vec<Signal>,
}

/// A table that was recognised.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableFound {
    /// Sheet name, untrusted.
    pub sheet: String,
    /// Header row, from 1.
    pub header_row: u32,
    /// Column id → column of the sheet, from 1.
    pub columns: BTreeMap<String, u32>,
    /// Headers that the model does not know, untrusted.
    pub unknown: Vec<String>,
}

/// One row of data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObsoleteRow {
    /// Sheet name, untrusted.
    pub sheet: String,
    /// Row, from 1.
    pub row: u32,
    /// Column id → value: text trimmed, choices as ids, dates as ISO 8601 with the precision they were
    /// written with (`2025-12-31`, `2025-12`, `2025`). Cells that could not be read are absent.
    pub values: BTreeMap<String, String>,
    /// Column id → what stands in a cell of which a finding says that it is not what is expected; empty for a cell left blank.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<String, String>,
}

/// Reads the table. Pure: the same workbook and model give the same reading.
pub fn read(workbook: &WorkbookFacts, model: &ColumnModel, work: &Work) -> ObsoleteReading {
    let mut reader = Reading::new(workbook, model, work);
    let skipped = |sheet: &SheetFacts| workbook.sheets.len() > 1 && reader_ignores(model, &sheet.name);
    let visible: Vec<&SheetFacts> = workbook.sheets.iter().filter(|s| !s.hidden && !skipped(s)).collect();
    for sheet in &visible {
        reader.sheet(sheet);
    }
    if reader.out.tables.is_empty() {
        // Nothing where people look: a hidden or oddly named sheet may hold the table all the same.
        for sheet in workbook.sheets.iter().filter(|s| s.hidden || skipped(s)) {
            reader.sheet_if_table(sheet);
        }
    } else {
        // « Liste MediDoc » may be a list of choices, or the declaration of one product beside those of others.
        for sheet in workbook.sheets.iter().filter(|s| !s.hidden && skipped(s)) {
            if reader.holds_data(sheet) {
                reader.sheet(sheet);
            }
        }
    }
    if reader.out.rows.is_empty() && reader.none_at.is_none() {
        for sheet in workbook.sheets.iter().filter(|s| !s.hidden && skipped(s)) {
            reader.look_for_sentence(sheet);
        }
    }
    reader.finish()
}

fn reader_ignores(model: &ColumnModel, name: &str) -> bool {
    let name = fold(name);
    model.ignored_sheets.iter().map(|s| fold(s)).any(|s| !s.is_empty() && name.starts_with(&s))
}

/// A cell, and what the spreadsheet program shows where that is not its value.
#[derive(Debug, Clone, Copy)]
struct Cell<'a> {
    value: &'a CellValue,
    shown: Option<&'a str>,
}

impl Cell<'_> {
    /// The cell as a person reads it.
    fn text(&self) -> String {
        match (self.value, self.shown) {
            (CellValue::Number(_), Some(shown)) => shown.to_owned(),
            (value, _) => as_text(value),
        }
    }
}

type Rows<'a> = BTreeMap<u32, Cells<'a>>;
type Cells<'a> = BTreeMap<u32, Cell<'a>>;

/// A header that was found.
struct Header<'a> {
    /// First and last of its rows, from 1: two where it stands in two.
    rows: (u32, u32),
    /// Column of the sheet → column id.
    columns: BTreeMap<u32, &'a str>,
}

struct Reading<'a> {
    model: &'a ColumnModel,
    work: &'a Work,
    /// By column id: folded spelling → choice.
    choices: BTreeMap<&'a str, Vec<(String, &'a Choice)>>,
    date_1904: bool,
    none_phrases: Vec<String>,
    none_words: BTreeSet<String>,
    ignored_rows: Vec<String>,
    /// Folded header → column id.
    headers: Vec<(String, &'a str)>,
    keys: BTreeMap<String, Place>,
    none_at: Option<Place>,
    /// A row that names a product and says « néant » of it: a declaration where no row declares a version.
    none_for_product: Option<Place>,
    has_text: bool,
    nearest_header: Option<(usize, Place, String)>,
    sink: Facts,
    out: ObsoleteReading,
}

impl<'a> Reading<'a> {
    fn new(workbook: &WorkbookFacts, model: &'a ColumnModel, work: &'a Work) -> Self {
        let spellings =
            |c: &'a Column| c.values.iter().flat_map(|v| v.spellings.iter().chain([&v.id]).map(move |s| (fold(s), v))).collect::<Vec<_>>();
        Self {
            model,
            work,
            choices: model.columns.iter().map(|c| (c.id.as_str(), spellings(c))).collect(),
            date_1904: workbook.date_1904,
            none_phrases: model.none_phrases.iter().map(|p| fold(p)).filter(|p| !p.is_empty()).collect(),
            none_words: model.none_words.iter().map(|p| fold(p)).filter(|p| !p.is_empty()).collect(),
            ignored_rows: model.ignored_rows.iter().map(|p| fold(p)).filter(|p| !p.is_empty()).collect(),
            headers: model.columns.iter().flat_map(|c| c.headers.iter().map(|h| (fold(h), c.id.as_str()))).collect(),
            keys: BTreeMap::new(),
            none_at: None,
            none_for_product: None,
            has_text: false,
            nearest_header: None,
            sink: Facts::default(),
            out: ObsoleteReading::default(),
        }
    }

    fn sheet_if_table(&mut self, sheet: &SheetFacts) {
        let rows = rows_of(sheet);
        if self.find_header(&rows, sheet).is_some() {
            self.sheet(sheet);
        }
    }

    /// Whether a sheet that people do not fill by its name holds a row of data: a version and a date under a header.
    fn holds_data(&mut self, sheet: &SheetFacts) -> bool {
        if fold(&sheet.name).starts_with("exemple") {
            return false;
        }
        let rows = rows_of(sheet);
        let Some(header) = self.find_header(&rows, sheet) else { return false };
        self.work.each(rows.range(header.rows.1 + 1..)).any(|(_, cells)| {
            let first = self.work.each(cells.values()).map(Cell::text).find(|t| !t.trim().is_empty()).unwrap_or_default();
            self.is_data(cells, &header.columns) && !is_example(&first)
        })
    }

    /// Whether a row has a version and a date, which no title, note or total has.
    fn is_data(&self, cells: &Cells<'_>, columns: &BTreeMap<u32, &str>) -> bool {
        let of_kind = |kind: ColumnKind| {
            let is_kind = move |id: &str| self.model.column(id).is_some_and(|c| c.kind == kind);
            columns.iter().filter(move |(_, id)| is_kind(id)).filter_map(|(column, _)| cells.get(column))
        };
        let is_date = |cell: &Cell<'_>| match cell.value {
            CellValue::DateSerial(_) | CellValue::DateIso(_) => true,
            _ => parse_date(&cell.text()) != DateReading::Unreadable,
        };
        of_kind(ColumnKind::Version).any(|cell| !self.is_none_word(&cell.text())) && of_kind(ColumnKind::Date).any(is_date)
    }

    /// Looks for the sentence that declares nothing, in a sheet that is otherwise passed over.
    fn look_for_sentence(&mut self, sheet: &SheetFacts) {
        for (row, cells) in &rows_of(sheet) {
            let column = self.work.each(cells).find(|(_, cell)| matches!(cell.value, CellValue::Text(text) if self.declares_none(text)));
            if let (Some((column, _)), None) = (column, &self.none_at) {
                self.none_at = Some(Place::cell(sheet.name.as_str(), a1(*row, *column)));
            }
        }
    }

    fn sheet(&mut self, sheet: &SheetFacts) {
        let rows = rows_of(sheet);
        self.has_text |= !rows.is_empty();
        let Some(Header { rows: (header_top, header_row), columns }) = self.find_header(&rows, sheet) else {
            for (row, cells) in self.work.each(&rows) {
                self.look_for_none(sheet, *row, cells);
            }
            return;
        };
        for (row, cells) in self.work.each(rows.range(..header_top)) {
            self.look_for_none(sheet, *row, cells);
        }
        let by_id: BTreeMap<String, u32> = columns.iter().map(|(column, id)| ((*id).to_owned(), *column)).collect();
        let mut unknown_at: BTreeMap<u32, String> = BTreeMap::new();
        for (column, cell) in rows.range(header_top..=header_row).flat_map(|(_, cells)| cells).filter(|(c, _)| !columns.contains_key(c)) {
            unknown_at.insert(*column, cell.text());
        }
        self.unknown_columns(sheet, &rows, header_row, &unknown_at, &by_id);
        let unknown = unknown_at.into_values().take(100).collect();
        self.out.tables.push(TableFound { sheet: sheet.name.clone(), header_row, columns: by_id.clone(), unknown });
        for column in self.model.columns.iter().filter(|c| c.required && !by_id.contains_key(&c.id)) {
            self.sink.push(
                Signal::new("obsolete-versions-column-missing")
                    .at(Place::cell(sheet.name.as_str(), a1(header_row, 1)))
                    .arg("column", title(column)),
            );
        }
        let mut table = Table {
            sheet,
            by_id: &by_id,
            above: BTreeMap::new(),
            us_columns: BTreeSet::new(),
            either: Vec::new(),
            unread: BTreeMap::new(),
            vague: BTreeMap::new(),
            none_words: BTreeMap::new(),
        };
        for (row, cells) in self.work.each(rows.range(header_row + 1..)) {
            self.row(&mut table, *row, cells, &columns);
        }
        for (column, place, value) in std::mem::take(&mut table.either) {
            if table.us_columns.contains(&column) {
                self.sink.push(Signal::new("obsolete-versions-date-ambiguous").at(place).arg("value", value));
            }
        }
    }

    /// Says which columns of a table were not understood, where columns that the model expects were not found.
    fn unknown_columns(
        &mut self,
        sheet: &SheetFacts,
        rows: &Rows<'_>,
        header_row: u32,
        unknown: &BTreeMap<u32, String>,
        by_id: &BTreeMap<String, u32>,
    ) {
        // A column that only numbers the rows, or that no row fills, is missed by no reader.
        const NUMBERING: &[&str] = &["", "n", "no", "num", "numero", "id", "ligne", "rang", "ordre", "index"];
        let below = self.work.each(rows.range(header_row + 1..));
        let filled: BTreeSet<u32> = below.flat_map(|(_, cells)| self.work.each(cells.keys().copied())).collect();
        let named: Vec<(&u32, &String)> =
            unknown.iter().filter(|(column, text)| !NUMBERING.contains(&fold(text).as_str()) && filled.contains(column)).take(20).collect();
        let counts = |c: &&Column| c.required || !matches!(c.kind, ColumnKind::Text | ColumnKind::Version | ColumnKind::Url);
        let expected: Vec<String> = self.model.columns.iter().filter(counts).filter(|c| !by_id.contains_key(&c.id)).map(title).collect();
        if let (Some((column, _)), false) = (named.first(), expected.is_empty()) {
            let shown: Vec<&str> = named.iter().map(|(_, text)| text.as_str()).collect();
            self.sink.push(
                Signal::new("obsolete-versions-column-unknown")
                    .at(Place::cell(sheet.name.as_str(), a1(header_row, **column)))
                    .arg("columns", shown.join(" ; "))
                    .arg("expected", expected.join(" ; ")),
            );
        }
    }

    /// The row, or the two rows together, that name the most columns among the first ones.
    fn find_header(&mut self, rows: &Rows<'_>, sheet: &SheetFacts) -> Option<Header<'a>> {
        let needed = if self.model.columns.len() == 1 { 1 } else { 2 };
        let mut best: Option<Header<'a>> = None;
        for (row, cells) in self.work.each(rows.range(..=self.model.header_rows)) {
            let named = self.match_headers(cells, &[true, false]);
            if !named.is_empty() && self.nearest_header.as_ref().is_none_or(|(n, _, _)| named.len() > *n) {
                let texts: Vec<String> = cells.values().map(Cell::text).take(20).collect();
                self.nearest_header = Some((named.len(), Place::cell(sheet.name.as_str(), a1(*row, 1)), texts.join(" ; ")));
            }
            let below = rows.get(&(row + 1));
            let joined = below.map(|below| self.match_two_rows(cells, below)).filter(|joined| {
                let alone = below.map_or(0, |below| self.match_headers(below, &[true, false]).len());
                joined.len() > named.len().max(alone)
            });
            let (last, columns) = match joined {
                Some(joined) => (row + 1, joined),
                None => (*row, named),
            };
            if columns.len() >= needed && best.as_ref().is_none_or(|b| columns.len() > b.columns.len()) {
                best = Some(Header { rows: (*row, last), columns });
            }
        }
        best
    }

    /// Reads two rows as one header: « Dates » above « Mise en service » and « Fin de support », beside « Produit », whose cell is
    /// merged downwards. Empty where the lower row is none of a header.
    fn match_two_rows(&self, above: &Cells<'_>, below: &Cells<'_>) -> BTreeMap<u32, &'a str> {
        let text = |cell: Option<&Cell<'_>>| match cell.map(|c| c.value) {
            Some(CellValue::Text(text)) if text.len() <= 4 * MAX_HEADER && text.chars().count() <= MAX_HEADER => Some(text.clone()),
            _ => None,
        };
        if below.values().any(|cell| !matches!(cell.value, CellValue::Text(_))) {
            return BTreeMap::new();
        }
        let mut spellings: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        let mut group: Option<String> = None;
        let columns: BTreeSet<u32> = above.keys().chain(below.keys()).copied().collect();
        for column in self.work.each(columns.into_iter().take(MAX_HEADER_CELLS)) {
            let (top, bottom) = (text(above.get(&column)), text(below.get(&column)));
            if top.is_some() {
                group.clone_from(&top);
            }
            let joined = group.as_ref().zip(bottom.as_ref()).map(|(top, bottom)| format!("{top} {bottom}"));
            let named_above = top.as_ref().is_some_and(|t| self.header(t, true).is_some());
            if named_above && let (Some(bottom), Some(joined)) = (&bottom, &joined) {
                // Below a header that is whole stands a hint or the rest of its name; anything else is a row of data.
                const HINTS: &[&str] = &["", "date", "jour", "mois", "annee", "texte"];
                let is_hint = HINTS.contains(&strip_hints(&fold(bottom)).as_str()) || bottom.trim_start().starts_with(['(', '[']);
                if !is_hint && self.header(joined, true).is_none() {
                    return BTreeMap::new();
                }
            }
            let order = if named_above { [joined, top, None] } else { [bottom, joined, top] };
            spellings.insert(column, order.into_iter().flatten().collect());
        }
        let mut named: BTreeMap<u32, &'a str> = BTreeMap::new();
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        for exact in [true, false] {
            for (column, spellings) in &spellings {
                if !named.contains_key(column)
                    && let Some(id) = spellings.iter().find_map(|s| self.header(s, exact))
                    && taken.insert(id)
                {
                    named.insert(*column, id);
                }
            }
        }
        named
    }

    /// Which cells of a row are headers: in a pass that is `true` exact spellings, else small typing errors
    /// where only one column is near. The first of two equal headers wins.
    fn match_headers(&self, cells: &Cells<'_>, passes: &[bool]) -> BTreeMap<u32, &'a str> {
        let mut named: BTreeMap<u32, &'a str> = BTreeMap::new();
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        for exact in passes.iter().copied() {
            for (column, cell) in self.work.each(cells.iter().take(MAX_HEADER_CELLS)) {
                let CellValue::Text(text) = cell.value else { continue };
                if named.contains_key(column) || text.len() > 4 * MAX_HEADER || text.chars().count() > MAX_HEADER {
                    continue;
                }
                if let Some(id) = self.header(text, exact)
                    && taken.insert(id)
                {
                    named.insert(*column, id);
                }
            }
        }
        named
    }

    fn header(&self, text: &str, exact: bool) -> Option<&'a str> {
        // « Date de fin (JJ/MM/AAAA) », « Version * (obligatoire) »: what stands in brackets is a hint.
        let mut bare = String::new();
        let mut depth = 0u32;
        for c in text.chars() {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                c if depth == 0 => bare.push(c),
                _ => {}
            }
        }
        let spellings = [fold(text), fold(&bare), strip_hints(&fold(text))];
        let mut near: Option<&'a str> = None;
        for (header, id) in &self.headers {
            for spelling in spellings.iter().filter(|s| !s.is_empty()) {
                if exact {
                    if spelling == header {
                        return Some(id);
                    }
                } else if typing_error(spelling, header) {
                    if near.is_some_and(|other| other != *id) {
                        return None;
                    }
                    near = Some(id);
                }
            }
        }
        near
    }

    /// Whether a text says that there is nothing to declare. In a sentence, the words of an instruction
    /// (« si aucune version obsolète, indiquez… ») undo it.
    fn declares_none(&self, text: &str) -> bool {
        const INSTRUCTION: &[&str] = &[
            "si",
            "cas",
            "lorsque",
            "indiquer",
            "indiquez",
            "mentionner",
            "mentionnez",
            "renseigner",
            "renseignez",
            "preciser",
            "precisez",
            "saisir",
            "saisissez",
            "inscrire",
            "inscrivez",
            "ecrire",
            "ecrivez",
            "cocher",
            "cochez",
            "devra",
            "doit",
            "exemple",
            "if",
        ];
        let folded = fold(text);
        if self.none_phrases.contains(&folded) {
            return true;
        }
        folded.len() <= 160
            && self.none_phrases.iter().any(|p| folded.contains(p.as_str()))
            && !folded.split(' ').any(|word| INSTRUCTION.contains(&word))
    }

    fn is_none_word(&self, text: &str) -> bool {
        let folded = fold(text);
        self.none_words.contains(&folded) || !text.chars().any(char::is_alphanumeric)
    }

    /// Whether a text that stands alone in its row says that there is nothing: « Néant », « RAS à ce jour ».
    fn is_none_alone(&self, text: &str) -> bool {
        let folded = fold(text);
        let mut words = folded.split(' ');
        self.none_words.contains(&folded)
            || folded.starts_with("r a s ")
            || (matches!(words.next(), Some("neant" | "ras")) && words.count() <= 6 && !folded.split(' ').any(|w| w == "si"))
    }

    fn look_for_none(&mut self, sheet: &SheetFacts, row: u32, cells: &Cells<'_>) {
        for (column, cell) in cells {
            let CellValue::Text(text) = cell.value else { continue };
            let alone = cells.len() == 1 && self.is_none_alone(text);
            if self.none_at.is_none() && (self.declares_none(text) || alone) {
                self.none_at = Some(Place::cell(sheet.name.as_str(), a1(row, *column)));
            }
        }
    }

    fn row(&mut self, table: &mut Table<'_>, row: u32, cells: &Cells<'_>, columns: &BTreeMap<u32, &str>) {
        // Every cell is folded several times: counted once, by its text.
        let texts: Vec<String> = self.work.each(cells.values()).map(Cell::text).filter(|t| !t.trim().is_empty()).collect();
        let Some(first) = texts.first() else { return };
        let opening = fold(first);
        let ignored =
            self.ignored_rows.iter().any(|w| opening.split(' ').zip(w.split(' ')).filter(|(a, b)| a == b).count() == w.split(' ').count());
        // « Total Dossier » is a product: a total has no version.
        if ignored && (is_example(first) || !self.is_data(cells, columns)) {
            return;
        }
        let again = self.match_headers(cells, &[true]);
        if again.len() >= 2 && again.iter().all(|(column, id)| columns.get(column) == Some(id)) {
            return;
        }
        if texts.iter().any(|t| self.declares_none(t)) && texts.len() <= 2 {
            self.look_for_none(table.sheet, row, cells);
            return;
        }
        if let [only] = texts.as_slice()
            && self.is_none_alone(only)
        {
            self.look_for_none(table.sheet, row, cells);
            return;
        }
        if let [product, rest @ ..] = texts.as_slice()
            && !self.is_none_word(product)
            && rest.iter().all(|t| self.is_none_word(t))
            && rest.iter().any(|t| self.none_words.contains(&fold(t)))
            && cells.keys().next().is_some_and(|c| columns.get(c).is_some_and(|id| self.model.column(id).is_some_and(|c| c.carry_down)))
        {
            let column = cells.keys().nth(1).copied().unwrap_or(1);
            self.none_for_product.get_or_insert(Place::cell(table.sheet.name.as_str(), a1(row, column)));
            return;
        }
        if texts.iter().all(|t| self.is_none_word(t)) {
            if texts.iter().any(|t| self.none_words.contains(&fold(t))) && self.none_at.is_none() {
                let column = cells.keys().next().copied().unwrap_or(1);
                self.none_at = Some(Place::cell(table.sheet.name.as_str(), a1(row, column)));
            }
            return;
        }
        // A row with nothing in the columns that name it, and a single long text, is a note below the table.
        let filled: Vec<&u32> = cells.keys().filter(|c| columns.contains_key(c)).collect();
        if filled.is_empty() || (texts.len() == 1 && first.chars().count() > 60) || is_note(first, &texts) {
            self.look_for_none(table.sheet, row, cells);
            return;
        }
        let values = self.values(table, row, cells);
        self.check_row(table, row, &values);
        let unread = std::mem::take(&mut table.unread);
        self.out.rows.push(ObsoleteRow { sheet: table.sheet.name.clone(), row, values, unread });
    }

    /// Reads the cells of a row of data; what cannot be read is said and left out.
    fn values(&mut self, table: &mut Table<'_>, row: u32, cells: &Cells<'_>) -> BTreeMap<String, String> {
        let model = self.model;
        let mut values = BTreeMap::new();
        for column in &model.columns {
            let Some(number) = table.by_id.get(&column.id).copied() else { continue };
            let place = Place::cell(table.sheet.name.as_str(), a1(row, number));
            let cell = cells.get(&number).copied().filter(|cell| !cell.text().trim().is_empty());
            let Some(cell) = cell.filter(|cell| !self.is_none_word(&cell.text())) else {
                if let Some(cell) = cell {
                    table.none_words.insert(column.id.clone(), cell.text().trim().to_owned());
                }
                if column.carry_down
                    && let Some(above) = table.above.get(&column.id)
                {
                    values.insert(column.id.clone(), above.clone());
                }
                continue;
            };
            let text = cell.text().trim().to_owned();
            if let CellValue::Uncomputed = cell.value {
                self.sink.push(Signal::new("obsolete-versions-formula-not-computed").at(place).arg("column", title(column)));
                table.unread(column, text);
                continue;
            }
            if let CellValue::Error(shown) = cell.value {
                self.sink.push(
                    Signal::new("obsolete-versions-value-invalid").at(place).arg("column", title(column)).arg("value", shown.as_str()),
                );
                table.unread(column, text);
                continue;
            }
            let value = match column.kind {
                ColumnKind::Text => Some(crate::inspect::fold_whitespace(&text)),
                ColumnKind::Version => {
                    if let CellValue::DateSerial(_) | CellValue::DateIso(_) = cell.value
                        && let Some(shown) = cell.shown.filter(|s| looks_like_version(s))
                    {
                        Some(shown.to_owned())
                    } else if let CellValue::DateSerial(_) | CellValue::DateIso(_) = cell.value {
                        let day = || self.cell_date(cell.value).map_or_else(|| text.clone(), |d| d.to_string());
                        let shown = cell.shown.map_or_else(day, str::to_owned);
                        self.sink.push(
                            Signal::new("obsolete-versions-version-is-date").at(place).arg("column", title(column)).arg("value", shown),
                        );
                        None
                    } else {
                        Some(crate::inspect::fold_whitespace(&text))
                    }
                }
                ColumnKind::Date => self.date(table, column, number, place, cell, &text),
                ColumnKind::Choice => self.choice(column, place, &text),
                ColumnKind::Integer => {
                    // What a format adds to a whole number (`12 clients`) is no part of it.
                    let text = match cell.value {
                        CellValue::Number(n) if n.fract() == 0.0 => as_text(cell.value),
                        _ => text.clone(),
                    };
                    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
                    let whole = digits.strip_suffix(",0").or_else(|| digits.strip_suffix(".0")).unwrap_or(&digits);
                    match whole.parse::<u64>() {
                        Ok(n) => Some(n.to_string()),
                        Err(_) => {
                            self.sink.push(
                                Signal::new("obsolete-versions-value-invalid").at(place).arg("column", title(column)).arg("value", text),
                            );
                            None
                        }
                    }
                }
                ColumnKind::Url => match url::Url::parse(&text) {
                    Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(text.clone()),
                    _ => {
                        self.sink.push(
                            Signal::new("obsolete-versions-value-invalid")
                                .at(place)
                                .arg("column", title(column))
                                .arg("value", text.as_str()),
                        );
                        None
                    }
                },
            };
            if let Some(value) = value {
                if column.carry_down {
                    table.above.insert(column.id.clone(), value.clone());
                }
                values.insert(column.id.clone(), value);
            } else {
                // Said above: not to be said again as missing.
                let shown = cell.shown.map_or_else(|| self.cell_date(cell.value).map_or(text, |d| d.to_string()), str::to_owned);
                table.unread(column, shown);
            }
        }
        values
    }

    fn choice(&mut self, column: &Column, place: Place, text: &str) -> Option<String> {
        let folded = fold(text);
        let known = self.choices.get(column.id.as_str())?;
        if let Some((_, choice)) = known.iter().find(|(s, _)| *s == folded) {
            return Some(choice.id.clone());
        }
        let unknown = Signal::new("obsolete-versions-choice-unknown").at(place);
        // Past the number that is shown, only the count grows: nothing is suggested.
        if self.sink.signals.iter().filter(|s| s.code == unknown.code).count() >= MAX_SIGNALS_PER_CODE {
            self.sink.push(unknown);
            return None;
        }
        let model_column = self.model.column(&column.id)?;
        let nearest = known.iter().min_by_key(|(s, _)| distance(s, &folded)).map(|(_, c)| *c);
        let suggestion = nearest.map(|c| c.spellings.first().unwrap_or(&c.id).as_str()).unwrap_or_default();
        let expected: Vec<&str> = model_column.values.iter().map(|c| c.spellings.first().unwrap_or(&c.id).as_str()).collect();
        self.sink.push(
            unknown.arg("column", title(column)).arg("value", text).arg("suggestion", suggestion).arg("expected", expected.join(" ; ")),
        );
        None
    }

    /// A cell that holds a date by its own format.
    fn cell_date(&self, cell: &CellValue) -> Option<Date> {
        match cell {
            CellValue::DateSerial(serial) => serial_date(*serial, self.date_1904),
            CellValue::DateIso(iso) => iso.get(..10)?.parse().ok(),
            _ => None,
        }
    }

    fn date(&mut self, table: &mut Table<'_>, column: &Column, number: u32, place: Place, cell: Cell<'_>, text: &str) -> Option<String> {
        let reading = match cell.value {
            CellValue::DateSerial(_) | CellValue::DateIso(_) => match self.cell_date(cell.value) {
                Some(date) => shown_precision(date, cell.shown),
                None => DateReading::Impossible,
            },
            // A number that its format shows as a date (`00"/"00"/"0000`).
            CellValue::Number(_) if cell.shown.is_some_and(|s| s.contains(['/', '-']) && parse_date(s) != DateReading::Unreadable) => {
                parse_date(text)
            }
            // A bare number: a year, or a day count whose cell lost its date format.
            CellValue::Number(n) if (1900.0..=2200.0).contains(n) && n.fract() == 0.0 => parse_date(text),
            CellValue::Number(n) if (20_000.0..80_000.0).contains(n) => {
                serial_date(*n, self.date_1904).map_or(DateReading::Unreadable, DateReading::Day)
            }
            CellValue::Number(_) => DateReading::Unreadable,
            _ => parse_date(text),
        };
        let value = match reading {
            DateReading::Day(date) => {
                if let CellValue::Text(_) = cell.value
                    && date.day() <= 12
                    && date.month() <= 12
                    && i32::from(date.day()) != i32::from(date.month())
                    && is_numeric_day_first(text)
                {
                    table.either.push((number, place.clone(), text.to_owned()));
                }
                date.to_string()
            }
            DateReading::Month(year, month) => format!("{year:04}-{month:02}"),
            DateReading::Year(year) => format!("{year:04}"),
            DateReading::UsOrder(date) => {
                table.us_columns.insert(number);
                self.sink.push(
                    Signal::new("obsolete-versions-date-us-order").at(place.clone()).arg("value", text).arg("understood", date.to_string()),
                );
                date.to_string()
            }
            DateReading::Impossible => {
                self.sink.push(Signal::new("obsolete-versions-date-impossible").at(place).arg("column", title(column)).arg("value", text));
                return None;
            }
            DateReading::Unreadable if is_open(text) => {
                self.sink.push(Signal::new("obsolete-versions-date-open").at(place).arg("column", title(column)).arg("value", text));
                return None;
            }
            DateReading::Unreadable => {
                self.sink.push(Signal::new("obsolete-versions-date-unreadable").at(place).arg("column", title(column)).arg("value", text));
                return None;
            }
        };
        // « fin 2023 » may be any day of some months: read as the year, and said.
        if let (DateReading::Month(..) | DateReading::Year(_), CellValue::Text(_)) = (reading, cell.value)
            && fold(text).split(' ').next() == Some("fin")
        {
            self.sink.push(
                Signal::new("obsolete-versions-date-vague")
                    .at(place.clone())
                    .arg("column", title(column))
                    .arg("value", text)
                    .arg("understood", value.as_str()),
            );
            table.vague.insert(column.id.clone(), text.to_owned());
        }
        let before = self.model.dates.earliest.as_deref().is_some_and(|e| cut_to(&value, e) < cut_to(e, &value));
        let after = self.model.dates.latest.as_deref().is_some_and(|l| cut_to(&value, l) > cut_to(l, &value));
        if before || after {
            self.sink.push(
                Signal::new("obsolete-versions-date-implausible").at(place).arg("column", title(column)).arg("value", value.as_str()),
            );
        }
        Some(value)
    }

    fn check_row(&mut self, table: &mut Table<'_>, row: u32, values: &BTreeMap<String, String>) {
        let model = self.model;
        let none_words = std::mem::take(&mut table.none_words);
        table.unread.append(&mut table.vague);
        let (by_id, sheet) = (table.by_id, table.sheet);
        let place = |id: &str| by_id.get(id).map(|number| Place::cell(sheet.name.as_str(), a1(row, *number)));
        let mut missing: Vec<(String, String)> = Vec::new();
        for column in &model.columns {
            if values.contains_key(&column.id) || table.unread.contains_key(&column.id) {
                continue;
            }
            let wanted = column.required
                || column.required_when.as_ref().is_some_and(|w| values.get(&w.column).is_some_and(|v| w.is.iter().any(|i| i == v)));
            if wanted && let Some(at) = place(&column.id) {
                let stands = none_words.get(&column.id).cloned().unwrap_or_default();
                // A dash is an empty cell; « N/A » where a date is expected is an answer that is none.
                self.sink.push(if column.kind == ColumnKind::Date && stands.chars().any(char::is_alphanumeric) {
                    Signal::new("obsolete-versions-date-open").at(at).arg("column", title(column)).arg("value", stands.as_str())
                } else {
                    Signal::new("obsolete-versions-cell-missing").at(at).arg("column", title(column))
                });
                missing.push((column.id.clone(), stands));
            }
        }
        table.unread.extend(missing);
        for order in &model.order {
            if let (Some(first), Some(then), Some(at)) = (values.get(&order.first), values.get(&order.then), place(&order.then))
                && cut_to(then, first) < cut_to(first, then)
            {
                let name = |id: &str| model.column(id).map(title).unwrap_or_default();
                self.sink.push(
                    Signal::new("obsolete-versions-date-order")
                        .at(at)
                        .arg("first_column", name(&order.first))
                        .arg("first", first.as_str())
                        .arg("then_column", name(&order.then))
                        .arg("then", then.as_str()),
                );
            }
        }
        let key: Vec<String> = model.unique.iter().filter_map(|id| values.get(id)).map(|v| key_of(v)).collect();
        // A key with a piece missing would make duplicates of different versions.
        if !key.is_empty() && key.len() == model.unique.len() {
            let at = model.unique.iter().rev().find_map(|id| place(id)).unwrap_or_default();
            match self.keys.entry(key.join("\u{1F}")) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(at);
                }
                std::collections::btree_map::Entry::Occupied(entry) => {
                    let first = entry.get().show(crate::model::Lang::Fr);
                    let shown: Vec<&str> = model.unique.iter().filter_map(|id| values.get(id)).map(String::as_str).collect();
                    self.sink.push(Signal::new("obsolete-versions-duplicate").at(at).arg("value", shown.join(" ")).arg("first", first));
                }
            }
        }
    }

    fn finish(mut self) -> ObsoleteReading {
        if self.out.rows.is_empty() && self.none_at.is_none() {
            self.none_at = self.none_for_product.take();
        }
        self.out.none_declared = self.none_at.is_some();
        match (&self.none_at, self.out.rows.is_empty()) {
            (Some(at), false) => {
                self.sink.push(Signal::new("obsolete-versions-contradiction").at(at.clone()).arg("rows", self.out.rows.len()));
            }
            (None, true) => {
                if self.out.tables.is_empty() && self.has_text {
                    let place = self.nearest_header.as_ref().map(|(_, place, _)| place.clone()).unwrap_or_default();
                    let found = self.nearest_header.as_ref().map_or("—", |(_, _, texts)| texts.as_str());
                    let expected: Vec<String> = self.model.columns.iter().filter(|c| c.required).map(title).collect();
                    self.sink.push(
                        Signal::new("obsolete-versions-table-not-found")
                            .at(place)
                            .arg("rows", self.model.header_rows)
                            .arg("found", found)
                            .arg("expected", expected.join(" ; ")),
                    );
                }
                self.sink.push(Signal::new("obsolete-versions-financing-at-risk"));
            }
            (Some(_), true) | (None, false) => {}
        }
        self.out.signals = self.sink.signals;
        self.out
    }
}

/// The table being read.
struct Table<'a> {
    sheet: &'a SheetFacts,
    by_id: &'a BTreeMap<String, u32>,
    /// Last value of the columns that carry down.
    above: BTreeMap<String, String>,
    /// Columns that hold a date with the month first.
    us_columns: BTreeSet<u32>,
    /// Dates that read both ways: column, place, as written.
    either: Vec<(u32, Place, String)>,
    /// Of the current row, by column id: what stands in cells that were not understood, in those that hold a date too vague, and in
    /// those that hold a word for « nothing ».
    unread: BTreeMap<String, String>,
    vague: BTreeMap<String, String>,
    none_words: BTreeMap<String, String>,
}

impl Table<'_> {
    /// Remembers a cell of the current row of which a finding was made, so that it is not said to be missing too.
    fn unread(&mut self, column: &Column, text: String) {
        self.unread.insert(column.id.clone(), text.chars().take(MAX_UNREAD_CHARS).collect());
    }
}

fn rows_of(sheet: &SheetFacts) -> Rows<'_> {
    let mut rows: Rows<'_> = BTreeMap::new();
    let shown: BTreeMap<(u32, u32), &str> = sheet.shown.iter().map(|(row, column, text)| ((*row, *column), text.as_str())).collect();
    for (row, column, value) in &sheet.values {
        rows.entry(*row).or_default().insert(*column, Cell { value, shown: shown.get(&(*row, *column)).copied() });
    }
    rows
}

/// A cell as a person would read it; numbers without a needless fraction.
fn as_text(value: &CellValue) -> String {
    match value {
        CellValue::Text(text) | CellValue::DateIso(text) => text.clone(),
        CellValue::Number(n) if n.fract() != 0.0 && n.abs() < 1e10 => as_general(*n),
        CellValue::Number(n) | CellValue::DateSerial(n) => n.to_string(),
        CellValue::Bool(b) => (if *b { "VRAI" } else { "FAUX" }).to_owned(),
        CellValue::Error(shown) => shown.clone(),
        CellValue::Uncomputed => "(formule non calculée)".to_owned(),
    }
}

/// A number with a fraction as the format `General` shows it: nine digits behind the mark at most, so that the rounding of binary
/// fractions (0.1 + 0.2) does not show.
fn as_general(n: f64) -> String {
    let shown = format!("{n:.9}");
    shown.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Whether a row is the example that a template brings along: « Exemple », « Ex : Logiciel ».
fn is_example(first: &str) -> bool {
    let folded = fold(first);
    let word = folded.split(' ').next().unwrap_or_default();
    matches!(word, "exemple" | "ex" | "example")
        && (folded == word || first.trim_start().split_once(':').is_some_and(|(b, _)| fold(b) == word))
}

/// Whether what a date cell shows can be a version: figures and full stops (`2.5`), and no whole day.
fn looks_like_version(shown: &str) -> bool {
    shown.chars().all(|c| c.is_ascii_digit() || c == '.') && !matches!(parse_date(shown), DateReading::Day(_) | DateReading::UsOrder(_))
}

/// A day with the precision that its cell shows: a cell of the format `mm/yyyy` holds a day and says a month.
fn shown_precision(date: Date, shown: Option<&str>) -> DateReading {
    match shown.map(parse_date) {
        Some(DateReading::Month(year, month)) if (year, month) == (date.year(), date.month()) => DateReading::Month(year, month),
        Some(DateReading::Year(year)) if year == date.year() => DateReading::Year(year),
        _ => DateReading::Day(date),
    }
}

/// Whether a text says that a date is not settled.
fn is_open(text: &str) -> bool {
    const OPEN: &[&str] = &[
        "en cours",
        "à définir",
        "à déterminer",
        "à venir",
        "à confirmer",
        "à préciser",
        "non défini",
        "non définie",
        "non déterminé",
        "indéterminé",
        "inconnu",
        "inconnue",
        "non connu",
        "non connue",
        "illimité",
        "non communiqué",
        "ultérieurement",
        "tbd",
        "tbc",
    ];
    let folded = fold(text);
    OPEN.iter().any(|open| {
        let open = fold(open);
        folded == open || folded.starts_with(&format!("{open} "))
    })
}

fn title(column: &Column) -> String {
    column.headers.first().unwrap_or(&column.id).clone()
}

/// A line below or between the rows that only explains: `* …`, `NB : …`, `Note : …`.
fn is_note(first: &str, texts: &[String]) -> bool {
    let folded = fold(first);
    texts.len() == 1
        && (first.trim_start().starts_with('*')
            || ["note", "nb", "remarque", "source", "legende"].contains(&folded.split(' ').next().unwrap_or_default()))
}

/// Duplicates are compared without case and spaces, and without the `v` that some write before a version.
fn key_of(value: &str) -> String {
    let key: String = value.to_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    match key.strip_prefix('v') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest.to_owned(),
        _ => key,
    }
}

/// The part of `date` that has the precision of both.
fn cut_to<'a>(date: &'a str, other: &str) -> &'a str {
    date.get(..other.len().min(date.len())).unwrap_or(date)
}

/// Removes what forms write after a header: `jj mm aaaa`, `obligatoire`.
fn strip_hints(folded: &str) -> String {
    const HINTS: &[&str] = &["jj", "mm", "aaaa", "aa", "yyyy", "dd", "obligatoire", "facultatif", "optionnel", "format", "requi"];
    folded.split(' ').filter(|w| !HINTS.contains(w)).collect::<Vec<_>>().join(" ")
}

/// Whether two folded headers differ by typing errors only: one in six letters, two in twelve.
fn typing_error(a: &str, b: &str) -> bool {
    let shorter = a.chars().count().min(b.chars().count());
    let allowed = if shorter >= 12 { 2 } else { usize::from(shorter >= 6) };
    allowed > 0 && edits::within(a, b, allowed).is_some()
}

/// Edits between two texts (Damerau–Levenshtein, adjacent letters swapped count once), of their first 80
/// characters.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(80).collect();
    let b: Vec<char> = b.chars().take(80).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut line = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(line[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[b.len()]
}

/// How a date reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateReading {
    /// A day.
    Day(Date),
    /// A month: year, month.
    Month(i16, i8),
    /// A year.
    Year(i16),
    /// A day that exists only with the month first (`12/31/2025`).
    UsOrder(Date),
    /// Written like a date, and no day of any calendar (`31/02/2025`).
    Impossible,
    /// No date.
    Unreadable,
}

/// Whether a text is a date in figures with the day first.
fn is_numeric_day_first(text: &str) -> bool {
    let pieces: Vec<&str> = text.split(['/', '-', '.', ' ']).filter(|p| !p.is_empty()).collect();
    pieces.len() >= 3
        && pieces.first().is_some_and(|p| p.len() <= 2)
        && pieces.iter().take(3).all(|p| p.bytes().all(|b| b.is_ascii_digit()))
}

/// Reads a date as it is written in France: `31/12/2025`, `31-12-25`, `31.12.2025`, `31 décembre 2025`,
/// `1er janv. 2026`, `déc. 2025`, `12/2025`, `2025`, and ISO 8601 (`2025-12-31`, with or without a time).
/// Two-digit years are 1980–2079.
pub fn parse_date(text: &str) -> DateReading {
    let cleaned: String = {
        use unicode_normalization::UnicodeNormalization as _;
        let short: String = text.trim().chars().take(60).collect();
        short.nfkd().filter(|c| !unicode_normalization::char::is_combining_mark(*c)).flat_map(char::to_lowercase).collect()
    };
    let mut pieces: Vec<&str> = Vec::new();
    // A time after the date says nothing more of the day.
    let dated = cleaned
        .split_once('t')
        .filter(|(d, t)| d.len() == 10 && t.starts_with(|c: char| c.is_ascii_digit()))
        .map_or(cleaned.as_str(), |(d, _)| d);
    for piece in dated.split(|c: char| !(c.is_alphanumeric() || c == ':')).filter(|p| !p.is_empty()) {
        if piece.contains(':') || matches!(piece, "utc" | "z" | "h") {
            continue;
        }
        if matches!(piece, "le" | "au" | "fin" | "lundi" | "mardi" | "mercredi" | "jeudi" | "vendredi" | "samedi" | "dimanche" | "of") {
            continue;
        }
        pieces.push(piece);
    }
    let number = |piece: &str| -> Option<i16> {
        let piece = piece.strip_suffix("er").or_else(|| piece.strip_suffix("st")).unwrap_or(piece);
        (piece.len() <= 4 && piece.bytes().all(|b| b.is_ascii_digit())).then(|| piece.parse().ok()).flatten()
    };
    let year = |piece: &str| -> Option<i16> {
        let n = number(piece)?;
        match piece.len() {
            4 if (1900..=2200).contains(&n) => Some(n),
            2 if n < 80 => Some(2000 + n),
            2 => Some(1900 + n),
            _ => None,
        }
    };
    let day = |y: i16, m: i16, d: i16| -> Option<Date> { Date::new(y, i8::try_from(m).ok()?, i8::try_from(d).ok()?).ok() };
    match pieces.as_slice() {
        [compact] if compact.len() == 8 && compact.bytes().all(|b| b.is_ascii_digit()) => {
            let field = |range: std::ops::Range<usize>| compact.get(range).and_then(|p| p.parse::<i16>().ok());
            match (field(0..4), field(4..6), field(6..8)) {
                (Some(y @ 1900..=2200), Some(m), Some(d)) => day(y, m, d).map_or(DateReading::Impossible, DateReading::Day),
                _ => DateReading::Unreadable,
            }
        }
        [one] if one.len() == 4 => year(one).map_or(DateReading::Unreadable, DateReading::Year),
        [a, b] => {
            let (y, m) = match (month(a), month(b)) {
                (Some(m), None) => (year(b), Some(m)),
                (None, None) if a.len() == 4 => (year(a), number(b).and_then(|m| i8::try_from(m).ok())),
                (None, None) if b.len() == 4 => (year(b), number(a).and_then(|m| i8::try_from(m).ok())),
                _ => (None, None),
            };
            match (y, m) {
                (Some(y), Some(m @ 1..=12)) => DateReading::Month(y, m),
                (Some(_), Some(_)) => DateReading::Impossible,
                _ => DateReading::Unreadable,
            }
        }
        [a, b, c] => {
            if let (Some(d), Some(m), Some(y)) = (number(a), month(b), year(c)) {
                return day(y, i16::from(m), d).map_or(DateReading::Impossible, DateReading::Day);
            }
            if let (Some(m), Some(d), Some(y)) = (month(a), number(b), year(c)) {
                return day(y, i16::from(m), d).map_or(DateReading::Impossible, DateReading::Day);
            }
            let (Some(x), Some(m), Some(z)) = (number(a), number(b), number(c)) else { return DateReading::Unreadable };
            if a.len() == 4 {
                return match year(a) {
                    Some(y) => day(y, m, z).map_or(DateReading::Impossible, DateReading::Day),
                    None => DateReading::Unreadable,
                };
            }
            let Some(y) = year(c) else { return DateReading::Unreadable };
            match (day(y, m, x), day(y, x, m)) {
                (Some(date), _) => DateReading::Day(date),
                (None, Some(date)) => DateReading::UsOrder(date),
                (None, None) => DateReading::Impossible,
            }
        }
        _ => DateReading::Unreadable,
    }
}

/// The month that a folded word names, in French or English, whole or cut.
fn month(word: &str) -> Option<i8> {
    const NAMES: [(&str, &str); 12] = [
        ("janvier", "january"),
        ("fevrier", "february"),
        ("mars", "march"),
        ("avril", "april"),
        ("mai", "may"),
        ("juin", "june"),
        ("juillet", "july"),
        ("aout", "august"),
        ("septembre", "september"),
        ("octobre", "october"),
        ("novembre", "november"),
        ("decembre", "december"),
    ];
    if word.len() < 3 || !word.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    // `jui` names two months; `juin` and `juil` do not.
    let mut found = NAMES.iter().zip(1i8..).filter(|((fr, en), _)| fr.starts_with(word) || en.starts_with(word)).map(|(_, n)| n);
    match (found.next(), found.next()) {
        (Some(n), None) => Some(n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A sheet out of rows of text; empty text is an empty cell. The first row is row `first`.
    fn sheet(name: &str, first: u32, rows: &[&[&str]]) -> SheetFacts {
        let mut values = Vec::new();
        for (row, cells) in (first..).zip(rows) {
            for (column, text) in (1..).zip(*cells) {
                if !text.is_empty() {
                    values.push((row, column, CellValue::Text((*text).to_owned())));
                }
            }
        }
        SheetFacts { name: name.to_owned(), cells: values.len() as u64, values, kept_all: true, ..SheetFacts::default() }
    }

    fn read_sheets(sheets: Vec<SheetFacts>) -> ObsoleteReading {
        read(&WorkbookFacts { sheets, ..WorkbookFacts::default() }, &ColumnModel::sample(), &Work::unbounded())
    }

    fn read_rows(rows: &[&[&str]]) -> ObsoleteReading {
        read_sheets(vec![sheet("Feuil1", 1, rows)])
    }

    fn codes(reading: &ObsoleteReading) -> Vec<(&str, &str)> {
        reading.signals.iter().map(|s| (s.code.as_str(), s.place.cell.as_deref().unwrap_or(""))).collect()
    }

    const HEADER: &[&str] =
        &["Produit", "Version", "Date de mise en service", "Date de fin de support", "Type de fin", "Nombre de clients"];

    #[test]
    fn an_ordinary_table_reads_without_a_word() {
        let reading = read_rows(&[
            HEADER,
            &["Logiciel A", "1.0", "01/02/2015", "31/12/2020", "Fin de support", "1 250"],
            &["Logiciel A", "2.0", "mars 2018", "2022", "fin de maintenance", "12"],
        ]);
        assert_eq!(codes(&reading), []);
        assert_eq!(reading.rows.len(), 2);
        let first = &reading.rows[0].values;
        assert_eq!(first["date-mise-en-service"], "2015-02-01");
        assert_eq!(first["type-de-fin"], "fin-de-support");
        assert_eq!(first["nombre-clients"], "1250");
        let second = &reading.rows[1].values;
        assert_eq!((second["date-mise-en-service"].as_str(), second["date-fin-support"].as_str()), ("2018-03", "2022"));
        assert!(!reading.none_declared);
    }

    #[test]
    fn the_header_is_found_under_titles_whatever_its_order_and_spelling() {
        let reading = read_sheets(vec![sheet(
            "Déclaration",
            3,
            &[
                &["Déclaration des versions obsolètes"],
                &[],
                &["Éditeur : Société X"],
                &["N°", "DATE FIN\nSUPPORT (JJ/MM/AAAA)", "N° de\u{a0}versions *", "Logiciels", "Observation", "Couleur"],
                &["1", "31.12.2024", "4.2", "Suite B", "rien", "bleu"],
            ],
        )]);
        assert_eq!(codes(&reading), [("obsolete-versions-column-unknown", "F6")]);
        assert_eq!((reading.tables[0].header_row, reading.tables[0].columns["version"]), (6, 3));
        assert_eq!(reading.tables[0].unknown, ["N°", "Couleur"]);
        assert_eq!(reading.rows[0].values["date-fin-support"], "2024-12-31");
    }

    #[test]
    fn small_typing_errors_in_headers_are_forgiven_only_where_one_column_is_near() {
        let reading = read_rows(&[&["Prodiut", "Vesrion", "Date de fin de suport"], &["A", "1", "2020"]]);
        assert_eq!(codes(&reading), []);
        assert_eq!(reading.tables[0].columns.len(), 3);
        let far = read_rows(&[&["Produit", "Occasion"], &["A", "1"]]);
        assert!(far.tables.is_empty());
    }

    #[test]
    fn instructions_notes_totals_blank_rows_and_repeated_headers_are_no_data() {
        let reading = read_sheets(vec![
            sheet("Instructions", 1, &[HEADER, &["Exemple", "0.1", "2010", "2011", "Retrait", "3"]]),
            sheet(
                "2024",
                1,
                &[
                    HEADER,
                    &["Exemple : Logiciel", "9.9", "2010", "2011", "Retrait", "3"],
                    &["A", "1", "2010", "2011", "Retrait", "3"],
                    &[],
                    HEADER,
                    &["B", "2", "2010", "2011", "Retrait", "3"],
                    &["Total", "", "", "", "", "6"],
                    &["* les versions majeures seulement"],
                ],
            ),
            sheet("2025", 1, &[HEADER, &["C", "3", "2010", "2011", "Retrait", "3"]]),
        ]);
        assert_eq!(codes(&reading), []);
        let rows: Vec<_> = reading.rows.iter().map(|r| (r.sheet.as_str(), r.row)).collect();
        assert_eq!(rows, [("2024", 3), ("2024", 6), ("2025", 2)]);
    }

    #[test]
    fn serials_read_by_the_epoch_of_the_workbook() {
        let mut one = sheet("F", 1, &[HEADER, &["A", "1"]]);
        one.values.push((2, 4, CellValue::DateSerial(45_657.0)));
        let model = ColumnModel::sample();
        let read_with = |date_1904| {
            read(&WorkbookFacts { sheets: vec![one.clone()], date_1904, ..WorkbookFacts::default() }, &model, &Work::unbounded())
        };
        assert_eq!(read_with(false).rows[0].values["date-fin-support"], "2024-12-31");
        assert_eq!(read_with(true).rows[0].values["date-fin-support"], "2029-01-01");
    }

    #[test]
    fn dates_that_cannot_be_are_named_at_their_cell() {
        let reading = read_rows(&[
            HEADER,
            &["A", "1", "31/02/2025"],
            &["A", "2", "bientôt"],
            &["A", "3", "12/31/2019"],
            &["A", "4", "03/04/2019"],
            &["A", "5", "01/01/1970"],
            &["A", "6", "2020", "2019"],
        ]);
        assert_eq!(
            codes(&reading),
            [
                ("obsolete-versions-date-impossible", "C2"),
                ("obsolete-versions-date-unreadable", "C3"),
                ("obsolete-versions-date-us-order", "C4"),
                ("obsolete-versions-date-implausible", "C6"),
                ("obsolete-versions-date-order", "D7"),
                ("obsolete-versions-date-ambiguous", "C5"),
            ]
        );
        assert!(!reading.rows[0].values.contains_key("date-mise-en-service"));
    }

    #[test]
    fn missing_cells_and_columns_are_named() {
        let reading = read_rows(&[&["Produit", "Type de fin", "Fin de support"], &["A", "retrait", "-"], &["", "retrait", "2020"]]);
        // The product carries down; a dash is an empty cell.
        assert_eq!(codes(&reading), [("obsolete-versions-column-missing", "A1"), ("obsolete-versions-cell-missing", "C2")]);
        assert_eq!(reading.rows[1].values["produit"], "A");
    }

    #[test]
    fn an_unknown_choice_comes_with_the_nearest() {
        let reading = read_rows(&[HEADER, &["A", "1", "2010", "2011", "Fin du suport technique"]]);
        assert_eq!(codes(&reading), [("obsolete-versions-choice-unknown", "E2")]);
        assert_eq!(reading.signals[0].args["suggestion"].to_string(), "Fin de support");
    }

    #[test]
    fn duplicates_name_the_first_and_a_version_turned_date_is_told() {
        let mut rows = sheet("F", 1, &[HEADER, &["A", "v2.1"], &["a", "2.1"], &["A"]]);
        rows.values.push((4, 2, CellValue::DateSerial(45_779.0)));
        let reading = read_sheets(vec![rows]);
        assert_eq!(codes(&reading), [("obsolete-versions-duplicate", "B3"), ("obsolete-versions-version-is-date", "B4")]);
        assert_eq!(reading.signals[0].args["first"].to_string(), "F!B2");
    }

    #[test]
    fn none_is_recognised_wherever_it_is_said() {
        for rows in [
            &[HEADER, &["Aucune version obsolète"]] as &[&[&str]],
            &[HEADER, &["Néant"]],
            &[HEADER, &["néant", "néant", "-", "sans objet"]],
            &[&["Nous déclarons qu'aucune version obsolète n'existe à ce jour."], HEADER],
            &[&["AUCUNE VERSION OBSOLÈTE"]],
            &[&["Titre"], &["Néant"]],
            &[HEADER, &["RAS"]],
            &[HEADER, &["R.A.S. à ce jour"]],
            &[HEADER, &["Absence de version obsolète"]],
            &[&["Absence d'obsolescence pour MediDoc"]],
            &[HEADER, &["MediDoc", "néant", "-", "-"]],
        ] {
            let reading = read_rows(rows);
            assert!(reading.none_declared, "{rows:?}");
            assert_eq!(codes(&reading), [], "{rows:?}");
        }
    }

    #[test]
    fn an_instruction_that_quotes_the_sentence_declares_nothing() {
        let reading = read_rows(&[&["Si aucune version obsolète n'est à déclarer, indiquez « aucune version obsolète »."], HEADER]);
        assert!(!reading.none_declared);
        assert_eq!(codes(&reading), [("obsolete-versions-financing-at-risk", "")]);
    }

    #[test]
    fn rows_and_none_together_contradict() {
        let reading = read_rows(&[HEADER, &["A", "1"], &["Aucune version obsolète"]]);
        assert_eq!(codes(&reading), [("obsolete-versions-contradiction", "A3")]);
    }

    #[test]
    fn an_empty_or_foreign_workbook_puts_the_financing_at_risk() {
        assert_eq!(codes(&read_rows(&[HEADER])), [("obsolete-versions-financing-at-risk", "")]);
        assert_eq!(codes(&read_sheets(vec![])), [("obsolete-versions-financing-at-risk", "")]);
        let foreign = read_rows(&[&["Budget", "2024"], &["Loyer", "12"]]);
        assert_eq!(codes(&foreign), [("obsolete-versions-table-not-found", ""), ("obsolete-versions-financing-at-risk", "")]);
    }

    #[test]
    fn a_real_workbook_and_a_csv_read_the_same() {
        use crate::inspect::{Context, Limits, sheet};
        use rust_xlsxwriter::{Format, Workbook};

        let mut workbook = Workbook::new();
        let page = workbook.add_worksheet();
        page.merge_range(0, 0, 0, 3, "Déclaration des versions obsolètes", &Format::new()).unwrap();
        for (column, header) in (0u16..).zip(["Produit", "N° de version", "Date de fin de support", "Nombre de clients"]) {
            page.write_string(2, column, header).unwrap();
        }
        page.write_string(3, 0, "Logiciel A").unwrap();
        page.write_number(3, 1, 5.0).unwrap();
        page.write_number_with_format(3, 2, 45_657.0, &Format::new().set_num_format("dd/mm/yyyy")).unwrap();
        page.write_number(3, 3, 1250.0).unwrap();
        let csv = "Déclaration des versions obsolètes;;;\n\nProduit;N° de version;Date de fin de support;Nombre de clients\nLogiciel A;5;31/12/2024;1 250\n";

        let read_by = |inspect: fn(&[u8], &mut Context, &mut Facts), bytes: &[u8]| {
            let mut facts = Facts::default();
            inspect(bytes, &mut Context::new(Limits::default()), &mut facts);
            read(facts.workbook().unwrap(), &ColumnModel::sample(), &Work::unbounded())
        };
        let xlsx = read_by(sheet::xlsx, &workbook.save_to_buffer().unwrap());
        let csv = read_by(sheet::csv, csv.as_bytes());
        assert_eq!((codes(&xlsx), codes(&csv)), (vec![], vec![]));
        assert_eq!(xlsx.rows[0].values, csv.rows[0].values);
        assert_eq!((xlsx.rows[0].row, csv.rows[0].row), (4, 4));
        assert_eq!(xlsx.rows[0].values["date-fin-support"], "2024-12-31");
    }

    #[test]
    fn a_header_over_two_rows_reads_as_one() {
        let reading = read_rows(&[
            &["Produit", "Version", "Dates", "", "Type de fin"],
            &["", "", "Mise en service", "Fin de support", ""],
            &["MediDoc", "4.2", "01/03/2017", "31/02/2021", "Fin de support"],
        ]);
        assert_eq!(codes(&reading), [("obsolete-versions-date-impossible", "D3")]);
        assert_eq!((reading.tables[0].header_row, reading.rows.len()), (2, 1));
        assert_eq!(reading.rows[0].unread["date-fin-support"], "31/02/2021");
        // The rest of a name, carried from the group above.
        let joined = read_rows(&[
            &["Produit", "Version", "Date de fin de", "", "Nombre de"],
            &["", "", "commercialisation", "support", "clients"],
            &["A", "1", "2010", "2011", "3"],
        ]);
        assert_eq!((codes(&joined), joined.tables[0].columns.len()), (vec![], 5));
        // A row of data below a header of one row is data, whatever it says.
        let single = read_rows(&[&["Produit", "Version", "Nature"], &["Fin de support", "1", "Fin de support"]]);
        assert_eq!((single.tables[0].header_row, single.rows.len()), (1, 1));
    }

    #[test]
    fn a_sheet_called_liste_is_read_where_it_declares_something() {
        let data: &[&str] = &["A", "1", "2010", "31/02/2011", "Fin de support", "3"];
        let two = read_sheets(vec![
            sheet("Liste MediDoc", 1, &[HEADER, data]),
            sheet("MediDoc Mobile", 1, &[HEADER, &["B", "2", "2010", "2011", "Retrait", "3"]]),
            sheet("Listes", 1, &[&["Fin de support"], &["Retrait"], &["Aucune"]]),
        ]);
        assert_eq!(codes(&two), [("obsolete-versions-date-impossible", "D2")]);
        assert_eq!((two.rows.len(), two.none_declared), (2, false));
        let none = read_sheets(vec![sheet("Liste des versions obsolètes", 1, &[&["Aucune version obsolète"]]), sheet("Feuil2", 1, &[])]);
        assert_eq!((codes(&none), none.none_declared), (vec![], true));
    }

    #[test]
    fn a_product_called_total_is_data_and_a_total_is_not() {
        let reading = read_rows(&[
            HEADER,
            &["Total Dossier", "1", "2010", "31/02/2021", "Fin de support", "3"],
            &["Total", "", "", "", "", "3"],
            &["Exemple : Logiciel", "9.9", "2010", "2011", "Retrait", "3"],
        ]);
        assert_eq!(codes(&reading), [("obsolete-versions-date-impossible", "D2")]);
        assert_eq!(reading.rows.len(), 1);
    }

    #[test]
    fn a_version_reads_as_the_spreadsheet_shows_it() {
        let mut one = sheet("F", 1, &[HEADER, &["A"], &["A"], &["A"]]);
        one.values.extend([
            (2, 2, CellValue::Number(1.1)),
            (3, 2, CellValue::Number(1.1)),
            (4, 2, CellValue::Number(0.1 + 0.2)),
            (2, 4, CellValue::DateSerial(46_022.0)),
            (2, 6, CellValue::Number(1250.0)),
        ]);
        one.shown = vec![(3, 2, "1.10".into()), (2, 4, "12/2025".into()), (2, 6, "1 250 clients".into())];
        let reading = read_sheets(vec![one]);
        assert_eq!(codes(&reading), []);
        let versions: Vec<_> = reading.rows.iter().map(|r| r.values["version"].as_str()).collect();
        assert_eq!(versions, ["1.1", "1.10", "0.3"]);
        assert_eq!(
            (reading.rows[0].values["date-fin-support"].as_str(), reading.rows[0].values["nombre-clients"].as_str()),
            ("2025-12", "1250")
        );
    }

    #[test]
    fn dates_that_are_none_are_said_with_what_stands_there() {
        let reading = read_rows(&[
            HEADER,
            &["A", "1", "2010", "fin 2023", "Fin de support", "1"],
            &["A", "2", "2010", "en cours", "Fin de support", "1"],
            &["A", "3", "2010", "N/A", "Fin de support", "1"],
            &["A", "4", "2010", "", "Fin de support", "1"],
            &["A", "5", "N/A", "2020", "Fin de support", "1"],
        ]);
        assert_eq!(
            codes(&reading),
            [
                ("obsolete-versions-date-vague", "D2"),
                ("obsolete-versions-date-open", "D3"),
                ("obsolete-versions-date-open", "D4"),
                ("obsolete-versions-cell-missing", "D5"),
            ]
        );
        let values: Vec<_> = reading.signals.iter().map(|s| s.args.get("value").map(ToString::to_string)).collect();
        assert_eq!(values, [Some("fin 2023".to_owned()), Some("en cours".to_owned()), Some("N/A".to_owned()), None]);
        let unread: Vec<_> = reading.rows.iter().map(|r| r.unread.get("date-fin-support").map(String::as_str)).collect();
        assert_eq!(unread, [Some("fin 2023"), Some("en cours"), Some("N/A"), Some(""), None]);
    }

    #[test]
    fn a_formula_that_was_never_calculated_is_not_an_empty_cell() {
        let mut one = sheet("F", 1, &[HEADER, &["A", "1", "2010", "", "Fin de support"]]);
        one.values.push((2, 4, CellValue::Uncomputed));
        assert_eq!(codes(&read_sheets(vec![one])), [("obsolete-versions-formula-not-computed", "D2")]);
    }

    #[test]
    fn columns_that_were_not_understood_are_named_with_what_was_expected() {
        let reading = read_rows(&[&["Produit", "Version", "Arrêt définitif"], &["A", "1", "31/02/2021"]]);
        assert_eq!(codes(&reading), [("obsolete-versions-column-unknown", "C1")]);
        assert_eq!(reading.signals[0].args["columns"].to_string(), "Arrêt définitif");
        assert!(reading.signals[0].args["expected"].to_string().contains("Date de fin de support"));
    }

    #[test]
    fn french_dates_read_in_every_habit() {
        use DateReading::{Day, Impossible, Month, Unreadable, UsOrder, Year};
        let day = Day(Date::constant(2025, 12, 31));
        for text in [
            "31/12/2025",
            "31-12-25",
            "31.12.2025",
            "31 12 2025",
            "31 décembre 2025",
            "le 31 déc. 2025",
            "mercredi 31 DÉCEMBRE 2025",
            "2025-12-31",
            "2025-12-31T00:00:00",
            "31/12/2025 00:00:00",
            "20251231",
            "31 Dec 2025",
            "December 31, 2025",
            "2025/12/31",
        ] {
            assert_eq!(parse_date(text), day, "{text}");
        }
        assert_eq!(parse_date("1er janv. 2026"), Day(Date::constant(2026, 1, 1)));
        assert_eq!(parse_date("29/02/2024"), Day(Date::constant(2024, 2, 29)));
        assert_eq!(parse_date("01/03/99"), Day(Date::constant(1999, 3, 1)));
        for (text, month) in
            [("déc. 2025", 12), ("12/2025", 12), ("2025-12", 12), ("fin août 2025", 8), ("juil. 2025", 7), ("juin 2025", 6)]
        {
            assert_eq!(parse_date(text), Month(2025, month), "{text}");
        }
        assert_eq!(parse_date("2025"), Year(2025));
        assert_eq!(parse_date("12/31/2025"), UsOrder(Date::constant(2025, 12, 31)));
        for text in ["31/02/2025", "29/02/2025", "32/01/2025", "13/2025", "2025-02-30", "30 février 2025", "00/12/2025"] {
            assert_eq!(parse_date(text), Impossible, "{text}");
        }
        for text in ["", "bientôt", "T4 2025", "v2.1.3.4", "1.2", "jui 2025", "31/12", "99999999", "en cours", "31/12/2025 ou 2026"] {
            assert_eq!(parse_date(text), Unreadable, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_day_round_trips_in_figures_words_and_iso(days in 0i64..40_000) {
            let date = Date::constant(1950, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            let (y, m, d) = (date.year(), date.month(), date.day());
            prop_assert_eq!(parse_date(&format!("{d:02}/{m:02}/{y}")), DateReading::Day(date));
            prop_assert_eq!(parse_date(&date.to_string()), DateReading::Day(date));
            let names = ["janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"];
            prop_assert_eq!(parse_date(&format!("{d} {} {y}", names[(m - 1) as usize])), DateReading::Day(date));
        }
        #[test]
        fn serials_and_days_round_trip(serial in 61.0f64..100_000.0) {
            let date = serial_date(serial, false).unwrap();
            let later = serial_date(serial + 1.0, false).unwrap();
            prop_assert_eq!(date.tomorrow().unwrap(), later);
        }
        #[test]
        fn any_text_is_a_date_or_not(text in "\\PC{0,40}") {
            let _ = parse_date(&text);
        }
        #[test]
        fn headers_match_whatever_case_order_and_noise(order in Just(vec![0usize, 1, 3, 4, 8]).prop_shuffle(), upper in any::<bool>(), tail in "[ :*\u{a0}\n]{0,3}") {
            let model = ColumnModel::sample();
            let headers: Vec<String> = order.iter().map(|i| {
                let header = model.columns[*i].headers[0].replace(' ', "\u{a0}");
                format!("{}{tail}", if upper { header.to_uppercase() } else { header })
            }).collect();
            let cells: Vec<&str> = headers.iter().map(String::as_str).collect();
            let reading = read_rows(&[&cells]);
            prop_assert_eq!(reading.tables.len(), 1);
            for (column, i) in (1u32..).zip(&order) {
                prop_assert_eq!(reading.tables[0].columns[&model.columns[*i].id], column);
            }
        }
        #[test]
        fn any_workbook_is_read(cells in proptest::collection::vec((1u32..40, 1u32..12, "[A-Za-zé0-9/. :-]{0,16}"), 0..60), dates in any::<bool>()) {
            let values = cells.into_iter().map(|(r, c, t)| (r, c, match t.parse::<f64>() {
                Ok(n) if dates => CellValue::DateSerial(n),
                Ok(n) => CellValue::Number(n),
                Err(_) => CellValue::Text(t),
            })).collect();
            let _ = read_sheets(vec![SheetFacts { name: "F".into(), values, ..SheetFacts::default() }]);
        }
    }
}
