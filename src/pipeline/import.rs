//! From the agency's spreadsheet to a catalogue file, with an account of everything that could not be read as it is.
//!
//! Two layouts are known: the export of the requirements base (sheet `Exigences`, one row for each proof) and the
//! published « REM » (one row for each scenario, up to ten pairs of columns « N° preuve k », « Preuve k »). Headers
//! are recognised whatever their case, accents, spacing and order. Nothing is dropped without a note: a requirement
//! that vanished between two spreadsheets would be asked of nobody.
//!
//! The export comes from an operator, not from a vendor; it is still read as a stream, under bounds, because a
//! sheet with cells A1 and XFD1048576 would otherwise ask for half a terabyte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Cursor, Read};

use calamine::{DataRef, DataType, Reader, Xlsx};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::catalogue::{self, Catalogue, Preuve};
use super::labels::fold;
use super::{Pipeline, html, ids};

/// Most bytes of a spreadsheet that are read.
const LARGEST: usize = 128 << 20;
/// Most rows of a sheet that are read.
const MOST_ROWS: u32 = 50_000;
/// Most columns: the REM layout has about forty.
const MOST_COLUMNS: u32 = 256;
/// Most text of a sheet, bytes.
const MOST_TEXT: usize = 64 << 20;
/// The header is looked for in this many first rows.
const HEADER_WITHIN: u32 = 40;
/// Most pairs « N° preuve k », « Preuve k ».
const MOST_PREUVES: u8 = 10;

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not a workbook this program reads.
    #[error("CATALOGUE-WORKBOOK: not a readable xlsx workbook: {0}")]
    Workbook(String),
    /// Larger than an export may be.
    #[error("CATALOGUE-TOO-LARGE: {0}")]
    TooLarge(String),
    /// No sheet of requirements.
    #[error("CATALOGUE-SHEET: no sheet `{wanted}` (there: {})", .there.join(", "))]
    Sheet {
        /// The sheet looked for.
        wanted: String,
        /// Sheets that are there.
        there: Vec<String>,
    },
    /// The header row was not recognised.
    #[error("CATALOGUE-COLUMNS: sheet `{sheet}`: no row has the columns {}", .missing.join(", "))]
    Columns {
        /// The sheet.
        sheet: String,
        /// Mandatory columns that the best row misses.
        missing: Vec<&'static str>,
    },
    /// The date or version cannot be told.
    #[error("CATALOGUE-DATE: {0}")]
    Date(String),
    /// Rows were there and none was a requirement.
    #[error("CATALOGUE-EMPTY: sheet `{0}` holds no requirement")]
    Empty(String),
}

/// What an operator may say of an export.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Sheet to read; `Exigences` without.
    pub sheet: Option<String>,
    /// Version of the catalogue; told from the file name without.
    pub version: Option<String>,
    /// Date of the catalogue, ISO 8601; told from the file name without.
    pub date: Option<String>,
}

/// Which spreadsheet it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// One row for each proof.
    Export,
    /// One row for each scenario, proofs side by side.
    Rem,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Something of the sheet is not in the catalogue.
    Lost,
    /// It is in the catalogue, as best understood: look at it.
    Doubtful,
    /// For the record.
    Info,
}

/// One thing the import could not take as it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// Row, from 1 as spreadsheets show it; 0 for the sheet as a whole.
    pub row: u32,
    /// Column letters (`G`), empty for the row as a whole.
    pub column: String,
    /// Stable code.
    pub code: &'static str,
    /// What was seen and what was made of it.
    pub text: String,
}

/// The account of an import.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportReport {
    /// File name of the export.
    pub source: String,
    /// SHA-256 of the export, hex.
    pub source_sha256: String,
    /// Sheet that was read.
    pub sheet: String,
    /// Its layout.
    pub layout: Layout,
    /// Row of the headers, from 1.
    pub header_row: u32,
    /// Rows under the header that held anything.
    pub rows: u32,
    /// Of these, rows that gave at least one proof.
    pub rows_used: u32,
    /// Proofs in the catalogue.
    pub preuves: usize,
    /// Of these, made from a scenario without proof number.
    pub implicit: usize,
    /// Exigences in the catalogue.
    pub exigences: usize,
    /// Proofs by chapter, in order of appearance.
    pub chapters: Vec<(String, usize)>,
    /// Everything that could not be taken as it was, in row order.
    pub notes: Vec<Note>,
}

impl ImportReport {
    /// How many notes have this weight.
    pub fn count(&self, weight: Weight) -> usize {
        self.notes.iter().filter(|n| n.weight == weight).count()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Perimetre,
    Exigence,
    Chapitre,
    Fonction,
    ExigenceTitle,
    Commentaire,
    Profil,
    Scenario,
    ScenarioTitle,
    /// `N° preuve`, `N° preuve 3`; the single pair of the export is number 1.
    Preuve(u8),
    PreuveTitle(u8),
    Criticite,
    Conditionnelle,
    Nature,
    Statut,
    /// Recognised, and of no use here: `Profil historique`, `Ordre`, `ID Section`, `Section`.
    Unused,
}

impl Column {
    /// The column under this header. `fold` leaves words; « N° », « Nº », « No », « Numéro » are one word.
    fn of(header: &str) -> Option<Self> {
        let words: Vec<String> = fold(header)
            .split(' ')
            .map(|w| if matches!(w, "n" | "no" | "num" | "numero" | "n°" | "id") { "n".to_owned() } else { w.to_owned() })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let numbered = |word: &&str| word.parse::<u8>().ok().filter(|k| (1..=MOST_PREUVES).contains(k));
        Some(match words.as_slice() {
            ["perimetre", ..] => Self::Perimetre,
            ["n"] | ["n", "exigence"] | ["n", "de", "l", "exigence"] => Self::Exigence,
            ["chapitre"] | ["bloc"] => Self::Chapitre,
            ["fonction"] => Self::Fonction,
            ["exigence"] | ["enonce", ..] | ["libelle", "exigence"] => Self::ExigenceTitle,
            ["commentaire" | "commentaires"] => Self::Commentaire,
            ["profil" | "profils"] => Self::Profil,
            ["n", "scenario"] | ["n", "scenario", "de", "conformite"] => Self::Scenario,
            ["scenario"] | ["scenario", "de", "conformite"] => Self::ScenarioTitle,
            ["n", "preuve"] | ["n", "de", "preuve"] => Self::Preuve(1),
            ["n", "preuve", k] => Self::Preuve(numbered(k)?),
            ["preuve"] => Self::PreuveTitle(1),
            ["preuve", k] => Self::PreuveTitle(numbered(k)?),
            ["criticite"] => Self::Criticite,
            ["exigence", "conditionnelle", ..] => Self::Conditionnelle,
            ["nature", ..] => Self::Nature,
            ["statut" | "etat" | "status"] => Self::Statut,
            ["profil", "historique"] | ["ordre"] | ["n", "section"] | ["section"] => Self::Unused,
            _ => return None,
        })
    }

    const MANDATORY: [(Self, &'static str); 5] = [
        (Self::Exigence, "« ID » or « N° exigence »"),
        (Self::Chapitre, "« Chapitre » or « Bloc »"),
        (Self::Scenario, "« N° scénario »"),
        (Self::Preuve(1), "« N° preuve »"),
        (Self::PreuveTitle(1), "« Preuve »"),
    ];
}

type Cells = BTreeMap<u32, BTreeMap<u32, String>>;

/// Reads an export. `name` is its file name, from which version and date are told when the options do not say.
/// With a pipeline, chapters become its ids and joined profiles are taken apart by its labels.
pub fn import(bytes: &[u8], name: &str, options: &Options, pipeline: Option<&Pipeline>) -> Result<(Catalogue, ImportReport), ImportError> {
    let mut notes = Vec::new();
    let (sheet, cells) = read_cells(bytes, options.sheet.as_deref(), &mut notes)?;
    let (header_row, columns) = find_header(&sheet, &cells, &mut notes)?;
    let layout = if columns.values().any(|c| matches!(c, Column::Preuve(k) if *k > 1)) { Layout::Rem } else { Layout::Export };
    let mut reading =
        Reading { columns, pipeline, notes, preuves: Vec::new(), taken: BTreeMap::new(), carried: None, unknown_labels: BTreeSet::new() };
    let (mut rows, mut rows_used) = (0, 0);
    for (row, cells) in cells.range(header_row + 1..) {
        let texts = reading.texts(cells);
        if texts.is_empty() {
            continue;
        }
        rows += 1;
        rows_used += u32::from(reading.row(*row, texts));
    }
    reading.drop_implicit_doubles();
    let Reading { mut notes, preuves, .. } = reading;
    if preuves.is_empty() {
        return Err(ImportError::Empty(sheet));
    }
    notes.sort_by(|a, b| (a.row, column_number(&a.column), a.weight).cmp(&(b.row, column_number(&b.column), b.weight)));

    let (version, date) = version_and_date(name, options)?;
    let source_sha256 = hex::encode(Sha256::digest(bytes));
    let mut chapters: Vec<(String, usize)> = Vec::new();
    for (preuve, _) in &preuves {
        match chapters.iter_mut().find(|(chapter, _)| *chapter == preuve.chapter) {
            Some((_, count)) => *count += 1,
            None => chapters.push((preuve.chapter.clone(), 1)),
        }
    }
    let report = ImportReport {
        source: name.to_owned(),
        source_sha256: source_sha256.clone(),
        sheet,
        layout,
        header_row: header_row + 1,
        rows,
        rows_used,
        preuves: preuves.len(),
        implicit: preuves.iter().filter(|(p, _)| p.implicit).count(),
        exigences: preuves.iter().map(|(p, _)| &p.exigence).collect::<BTreeSet<_>>().len(),
        chapters,
        notes,
    };
    let catalogue = Catalogue {
        schema: catalogue::SCHEMA.to_owned(),
        version,
        date,
        source: name.to_owned(),
        source_sha256: Some(source_sha256),
        preuves: preuves.into_iter().map(|(preuve, _)| preuve).collect(),
    };
    Ok((catalogue, report))
}

/// `EXPORT_CONVERGENCE_ddMMyyyy_<trigramme>_<jalon>.xlsx` tells a date and a milestone.
fn version_and_date(name: &str, options: &Options) -> Result<(String, String), ImportError> {
    let stem = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    let parts: Vec<&str> = stem.split('_').collect();
    let dated = parts.iter().enumerate().find_map(|(at, part)| {
        let digits = part.len() == 8 && part.bytes().all(|b| b.is_ascii_digit());
        let number = |range: std::ops::Range<usize>| part.get(range)?.parse::<i16>().ok();
        let date = jiff::civil::Date::new(number(4..8)?, number(2..4)? as i8, number(0..2)? as i8).ok()?;
        digits.then_some((at, date))
    });
    let date = match (&options.date, dated) {
        (Some(date), _) => match date.parse::<jiff::civil::Date>() {
            Ok(date) => date,
            Err(error) => return Err(ImportError::Date(format!("`{date}` is not a date such as 2026-01-31: {error}"))),
        },
        (None, Some((_, date))) => date,
        (None, None) => return Err(ImportError::Date(format!("the name `{name}` tells no date (ddMMyyyy): give one with --date"))),
    };
    let version = match (&options.version, dated) {
        (Some(version), _) => version.clone(),
        (None, Some((at, _))) if at + 1 < parts.len() => format!("{}-{date}", parts[at + 1..].join("-")),
        (None, _) => date.to_string(),
    };
    Ok((version, date.to_string()))
}

fn read_cells(bytes: &[u8], wanted: Option<&str>, notes: &mut Vec<Note>) -> Result<(String, Cells), ImportError> {
    if bytes.len() > LARGEST {
        return Err(ImportError::TooLarge(format!("{} bytes, at most {LARGEST} are read", bytes.len())));
    }
    refuse_lying_shared_strings(bytes)?;
    let workbook = |e: calamine::XlsxError| ImportError::Workbook(e.to_string());
    let mut xlsx = Xlsx::new(Cursor::new(bytes)).map_err(workbook)?;
    let there = xlsx.sheet_names();
    let wanted = wanted.unwrap_or("Exigences");
    let named = there.iter().find(|name| fold(name) == fold(wanted)).cloned();
    // A workbook of one sheet needs no name.
    let Some(sheet) = named.or_else(|| (there.len() == 1 && wanted == "Exigences").then(|| there[0].clone())) else {
        return Err(ImportError::Sheet { wanted: wanted.to_owned(), there });
    };
    let mut reader = xlsx.worksheet_cells_reader(&sheet).map_err(workbook)?;
    let mut cells: Cells = BTreeMap::new();
    let mut text_bytes = 0;
    let mut beyond = false;
    while let Some(cell) = reader.next_cell().map_err(workbook)? {
        let (row, column) = cell.get_position();
        let text = match cell.get_value() {
            DataRef::Empty => continue,
            DataRef::Error(error) => {
                notes.push(Note {
                    weight: Weight::Doubtful,
                    row: row + 1,
                    column: letters(column),
                    code: "error-cell",
                    text: format!("the cell shows {error} and is read as empty"),
                });
                continue;
            }
            DataRef::Bool(true) => "oui".to_owned(),
            DataRef::Bool(false) => "non".to_owned(),
            DataRef::DateTime(date) => date.as_f64().to_string(),
            DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
            value => value.as_string().unwrap_or_default(),
        };
        if text.trim().is_empty() {
            continue;
        }
        if row >= MOST_ROWS || column >= MOST_COLUMNS {
            beyond = true;
            continue;
        }
        text_bytes += text.len();
        if text_bytes > MOST_TEXT {
            return Err(ImportError::TooLarge(format!("sheet `{sheet}` holds more than {MOST_TEXT} bytes of text")));
        }
        cells.entry(row).or_default().insert(column, text);
    }
    if beyond {
        notes.push(Note {
            weight: Weight::Lost,
            row: 0,
            column: String::new(),
            code: "beyond-bounds",
            text: format!("cells beyond row {MOST_ROWS} or column {} were not read", letters(MOST_COLUMNS - 1)),
        });
    }
    Ok((sheet, cells))
}

/// The reader reserves memory for as many strings as the workbook declares, and the process ends when that is
/// impossible: a declaration of more strings than the file could hold is refused first.
fn refuse_lying_shared_strings(bytes: &[u8]) -> Result<(), ImportError> {
    let workbook = |e: zip::result::ZipError| ImportError::Workbook(e.to_string());
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).map_err(workbook)?;
    for index in 0..zip.len() {
        let mut start = Vec::new();
        let member = zip.by_index(index).map_err(workbook)?;
        if !member.name_raw().to_ascii_lowercase().ends_with(b"sharedstrings.xml") {
            continue;
        }
        member.take(64 << 10).read_to_end(&mut start).map_err(|e| ImportError::Workbook(e.to_string()))?;
        let start = String::from_utf8_lossy(&start);
        let declared = start.split_once("uniqueCount").map_or("", |(_, after)| after);
        let declared: String = declared.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        if declared.len() > 7 {
            return Err(ImportError::Workbook(format!("declares {declared} shared strings")));
        }
    }
    Ok(())
}

fn find_header(sheet: &str, cells: &Cells, notes: &mut Vec<Note>) -> Result<(u32, BTreeMap<u32, Column>), ImportError> {
    let mut best: Option<(usize, Vec<&'static str>)> = None;
    for (row, line) in cells.range(..HEADER_WITHIN) {
        let mut columns: BTreeMap<u32, Column> = BTreeMap::new();
        let mut ignored = Vec::new();
        for (column, header) in line {
            match Column::of(&html::to_text(header)) {
                Some(found) if found == Column::Unused || !columns.values().any(|c| *c == found) => {
                    columns.insert(*column, found);
                }
                Some(_) => ignored.push((*column, header, "is there twice; the first one is read")),
                None => ignored.push((*column, header, "is not a known column and is not read")),
            }
        }
        let missing: Vec<_> =
            Column::MANDATORY.into_iter().filter(|(c, _)| !columns.values().any(|found| found == c)).map(|(_, name)| name).collect();
        if missing.is_empty() {
            for (column, header, why) in ignored {
                notes.push(Note {
                    weight: Weight::Info,
                    row: row + 1,
                    column: letters(column),
                    code: "column-ignored",
                    text: format!("« {} » {why}", crate::model::text::display_safe(header.trim(), 60)),
                });
            }
            return Ok((*row, columns));
        }
        if best.as_ref().is_none_or(|(found, _)| columns.len() > *found) {
            best = Some((columns.len(), missing));
        }
    }
    let missing = best.map_or_else(|| Column::MANDATORY.iter().map(|(_, name)| *name).collect(), |(_, missing)| missing);
    Err(ImportError::Columns { sheet: sheet.to_owned(), missing })
}

/// A row's texts by column, with the place of each.
type Texts = BTreeMap<Column, (u32, String)>;

struct Reading<'p> {
    columns: BTreeMap<u32, Column>,
    pipeline: Option<&'p Pipeline>,
    notes: Vec<Note>,
    /// Proofs with the row each came from.
    preuves: Vec<(Preuve, u32)>,
    /// Position of each id.
    taken: BTreeMap<String, usize>,
    /// What a merged cell leaves to the rows below it: the last row's exigence.
    carried: Option<Texts>,
    unknown_labels: BTreeSet<(Column, String)>,
}

impl Reading<'_> {
    fn note(&mut self, weight: Weight, row: u32, column: Option<u32>, code: &'static str, text: impl fmt::Display) {
        let column = column.map(letters).unwrap_or_default();
        self.notes.push(Note { weight, row: row + 1, column, code, text: text.to_string() });
    }

    fn texts(&self, cells: &BTreeMap<u32, String>) -> Texts {
        let mut texts = Texts::new();
        for (column, cell) in cells {
            let Some(known) = self.columns.get(column).filter(|c| **c != Column::Unused) else { continue };
            let text = html::to_text(cell);
            if !text.is_empty() {
                texts.insert(*known, (*column, text));
            }
        }
        texts
    }

    /// Reads one row; whether it gave a proof.
    fn row(&mut self, row: u32, mut texts: Texts) -> bool {
        if let Some((column, _)) = [Column::Statut, Column::Criticite, Column::Nature, Column::Exigence]
            .iter()
            .filter_map(|c| texts.get(c))
            .find(|(_, t)| fold(t) == "obsolete")
        {
            let column = *column;
            self.note(Weight::Info, row, Some(column), "obsolete", "marked OBSOLETE: left out");
            return false;
        }
        let has_preuve = texts.keys().any(|c| matches!(c, Column::Preuve(_) | Column::PreuveTitle(_)));
        if !texts.contains_key(&Column::Exigence) {
            if !has_preuve && !texts.contains_key(&Column::Scenario) {
                self.note(Weight::Info, row, None, "not-a-requirement", "no exigence, scenario or proof: taken for a title and left out");
                return false;
            }
            let Some(above) = &self.carried else {
                self.note(Weight::Lost, row, None, "no-exigence", "a scenario or proof under no exigence: left out");
                return false;
            };
            // Only the exigence's own cells are merged over its rows.
            for column in [
                Column::Perimetre,
                Column::Exigence,
                Column::Chapitre,
                Column::Fonction,
                Column::ExigenceTitle,
                Column::Commentaire,
                Column::Profil,
                Column::Criticite,
                Column::Conditionnelle,
                Column::Nature,
            ] {
                if let Some(text) = above.get(&column) {
                    texts.entry(column).or_insert_with(|| text.clone());
                }
            }
            if !texts.contains_key(&Column::Scenario) {
                for column in [Column::Scenario, Column::ScenarioTitle] {
                    if let Some(text) = above.get(&column) {
                        texts.entry(column).or_insert_with(|| text.clone());
                    }
                }
            }
            self.note(Weight::Info, row, None, "carried", "no exigence in this row: taken from the row above, as merged cells are");
        }
        self.carried = Some(texts.clone());

        let common = self.common(row, &texts);
        let mut used = false;
        let mut empty = true;
        for k in 1..=MOST_PREUVES {
            let (number, title) = (texts.get(&Column::Preuve(k)), texts.get(&Column::PreuveTitle(k)));
            match (number, title) {
                (None, None) => continue,
                (Some((column, number)), title) => {
                    let id = self.id(row, *column, number, Some(3));
                    if title.is_none() {
                        self.note(Weight::Doubtful, row, Some(*column), "no-wording", format!("proof {id} has no wording"));
                    }
                    let title = title.map(|(_, t)| t.clone()).unwrap_or_default();
                    used |= self.add(row, Some(*column), Preuve { id, title, ..common.clone() });
                }
                (None, Some((column, title))) if k == 1 || !empty => {
                    used |= self.add_implicit(row, Some(*column), title.clone(), &common);
                }
                (None, Some((column, title))) => {
                    let said = format!("a proof without number: « {} »", crate::model::text::display_safe(title, 60));
                    self.note(Weight::Doubtful, row, Some(*column), "no-number", said);
                    used |= self.add_implicit(row, Some(*column), title.clone(), &common);
                }
            }
            empty = false;
        }
        if empty {
            used |= self.add_implicit(row, None, String::new(), &common);
        }
        used
    }

    /// What all proofs of a row share.
    fn common(&mut self, row: u32, texts: &Texts) -> Preuve {
        let text = |column: Column| texts.get(&column).map(|(_, t)| t.clone()).unwrap_or_default();
        let exigence = texts.get(&Column::Exigence).map(|(column, t)| self.id(row, *column, t, Some(1))).unwrap_or_default();
        let scenario = texts.get(&Column::Scenario).map(|(column, t)| self.id(row, *column, t, Some(2))).unwrap_or_default();
        let label = text(Column::Chapitre);
        let chapter = match (self.pipeline.and_then(|p| p.chapter(&label)), texts.get(&Column::Chapitre)) {
            (Some(chapter), _) => chapter.id.clone(),
            (None, Some((column, label))) => {
                let (column, label) = (*column, label.replace('\n', " "));
                if self.pipeline.is_some() && self.unknown_labels.insert((Column::Chapitre, label.clone())) {
                    self.note(
                        Weight::Doubtful,
                        row,
                        Some(column),
                        "unknown-chapter",
                        format!("« {label} » is no chapter of the pipeline (noted once)"),
                    );
                }
                label
            }
            (None, None) => {
                self.note(Weight::Doubtful, row, None, "no-chapter", "no chapter");
                String::new()
            }
        };
        let joined = text(Column::Profil);
        let known = |label: &str| self.pipeline.is_some_and(|p| p.knows_profile_label(label));
        let profiles: Vec<String> = catalogue::split_profiles(&joined, known)
            .into_iter()
            .filter(|l| !matches!(fold(l).as_str(), "tous" | "tous profils" | "tous les profils"))
            .collect();
        if let Some(pipeline) = self.pipeline {
            for label in profiles.iter().filter(|l| !pipeline.knows_profile_label(l)) {
                if self.unknown_labels.insert((Column::Profil, label.clone())) {
                    let column = texts.get(&Column::Profil).map(|(c, _)| *c);
                    self.note(
                        Weight::Doubtful,
                        row,
                        column,
                        "unknown-profile",
                        format!("« {label} » is no profile of the pipeline (noted once)"),
                    );
                }
            }
        }
        // A recommendation is not owed any more than a condition that is not met.
        let conditional = matches!(fold(&text(Column::Conditionnelle)).as_str(), "oui" | "o" | "x" | "vrai" | "true" | "1")
            || fold(&text(Column::Nature)).starts_with("preconisation");
        Preuve {
            chapter,
            fonction: text(Column::Fonction).replace('\n', " "),
            exigence,
            exigence_title: text(Column::ExigenceTitle),
            scenario,
            scenario_title: text(Column::ScenarioTitle),
            profiles,
            perimetre: text(Column::Perimetre).replace('\n', " "),
            criticite: text(Column::Criticite),
            conditional,
            comment: text(Column::Commentaire),
            ..Preuve::default()
        }
    }

    /// The canonical form of an id; one outside the grammar is kept without white space, and noted.
    fn id(&mut self, row: u32, column: u32, spelled: &str, level: Option<usize>) -> String {
        match ids::canonical(spelled) {
            Some(id) => {
                const LEVELS: [&str; 4] = ["", "an exigence", "a scenario", "a proof"];
                if let Some(level) = level.filter(|level| ids::numbers(&id) != *level) {
                    let looks = LEVELS.get(ids::numbers(&id)).copied().unwrap_or("something else");
                    let is = LEVELS[level];
                    self.note(Weight::Info, row, Some(column), "level", format!("{id} is numbered like {looks}; its column makes it {is}"));
                }
                id
            }
            None => {
                let id = ids::compact(spelled);
                self.note(
                    Weight::Doubtful,
                    row,
                    Some(column),
                    "id-grammar",
                    format!("`{}` does not follow the grammar of ids", crate::model::text::display_safe(&id, 60)),
                );
                id
            }
        }
    }

    fn add_implicit(&mut self, row: u32, column: Option<u32>, title: String, common: &Preuve) -> bool {
        let id = if common.scenario.is_empty() { common.exigence.clone() } else { common.scenario.clone() };
        let title = match title.is_empty() {
            false => title,
            true if common.scenario_title.is_empty() => common.exigence_title.clone(),
            true => common.scenario_title.clone(),
        };
        self.add(row, column, Preuve { id, title, implicit: true, ..common.clone() })
    }

    /// Adds a proof, or joins it to the one that has its id already.
    fn add(&mut self, row: u32, column: Option<u32>, preuve: Preuve) -> bool {
        if preuve.id.is_empty() {
            self.note(Weight::Lost, row, column, "no-id", "neither proof, scenario nor exigence has an id: left out");
            return false;
        }
        let Some(position) = self.taken.get(&preuve.id).copied() else {
            self.taken.insert(preuve.id.clone(), self.preuves.len());
            self.preuves.push((preuve, row));
            return true;
        };
        let (first, first_row) = &mut self.preuves[position];
        let first_row = *first_row + 1;
        let mut alike = preuve.clone();
        alike.profiles.clone_from(&first.profiles);
        if preuve == *first {
            self.note(Weight::Info, row, column, "duplicate", format!("{} is in row {first_row} already, word for word", preuve.id));
            return true;
        }
        if alike == *first {
            // The same proof asked of other profiles: asked of both; no profile at all means everyone.
            if first.profiles.is_empty() || preuve.profiles.is_empty() {
                first.profiles.clear();
            } else {
                for profile in &preuve.profiles {
                    if !first.profiles.contains(profile) {
                        first.profiles.push(profile.clone());
                    }
                }
            }
            self.note(
                Weight::Info,
                row,
                column,
                "duplicate-profile",
                format!("{} is in row {first_row} for other profiles: joined", preuve.id),
            );
            return true;
        }
        if preuve.implicit {
            self.note(
                Weight::Lost,
                row,
                column,
                "no-number-twice",
                format!("{} has a second proof without number (first: row {first_row}): left out", preuve.id),
            );
        } else {
            self.note(
                Weight::Lost,
                row,
                column,
                "duplicate-id",
                format!("{} is in row {first_row} with another content: the first one stays", preuve.id),
            );
        }
        false
    }

    /// A scenario with numbered proofs and a row without number: the row only repeats the scenario, unless it
    /// words a proof of its own.
    fn drop_implicit_doubles(&mut self) {
        let numbered: BTreeSet<String> = self.preuves.iter().filter(|(p, _)| !p.implicit).map(|(p, _)| p.scenario.clone()).collect();
        let mut dropped = Vec::new();
        self.preuves.retain(|(p, row)| {
            let words_nothing = p.title == p.scenario_title || p.title == p.exigence_title;
            let drop = p.implicit && words_nothing && numbered.contains(&p.scenario);
            if drop {
                dropped.push((p.id.clone(), *row));
            }
            !drop
        });
        for (id, row) in dropped {
            self.note(
                Weight::Info,
                row,
                None,
                "scenario-row",
                format!("scenario {id} has numbered proofs in other rows: no proof made of this one"),
            );
        }
    }
}

/// Column letters as spreadsheets show them, from 0: `A`, `Z`, `AA`.
fn letters(mut column: u32) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'A' + (column % 26) as u8));
        if column < 26 {
            break;
        }
        column = column / 26 - 1;
    }
    letters.iter().rev().collect()
}

fn column_number(letters: &str) -> u32 {
    letters.bytes().fold(0, |n, b| n * 26 + u32::from(b - b'A') + 1)
}
