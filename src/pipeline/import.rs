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
use std::io::{Cursor, Read};

use calamine::{DataRef, DataType, Reader, Xlsx};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::catalogue::{self, Catalogue, Preuve};
use super::labels::fold;
use super::{Pipeline, html, ids, validate};
use crate::model::Text;
use crate::model::text::display_safe;

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
    pub text: Text,
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
    let mut reading = Reading {
        columns,
        pipeline,
        notes,
        preuves: Vec::new(),
        taken: BTreeMap::new(),
        carried: None,
        under_obsolete: false,
        unknown_labels: BTreeSet::new(),
    };
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
    notes.sort_by_key(|note| (note.row, column_number(&note.column), note.weight));

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
                    text: Text::new(
                        format!("la cellule affiche {error} : lue comme vide"),
                        format!("the cell shows {error} and is read as empty"),
                    ),
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
            text: Text::new(
                format!("les cellules au-delà de la ligne {MOST_ROWS} ou de la colonne {} n'ont pas été lues", letters(MOST_COLUMNS - 1)),
                format!("cells beyond row {MOST_ROWS} or column {} were not read", letters(MOST_COLUMNS - 1)),
            ),
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
                Some(_) => {
                    ignored.push((*column, header, ["est là deux fois ; la première est lue", "is there twice; the first one is read"]))
                }
                None => ignored.push((
                    *column,
                    header,
                    ["n'est pas une colonne connue et n'est pas lue", "is not a known column and is not read"],
                )),
            }
        }
        let missing: Vec<_> =
            Column::MANDATORY.into_iter().filter(|(c, _)| !columns.values().any(|found| found == c)).map(|(_, name)| name).collect();
        if missing.is_empty() {
            for (column, header, [fr, en]) in ignored {
                let header = display_safe(header.trim(), 60);
                notes.push(Note {
                    weight: Weight::Info,
                    row: row + 1,
                    column: letters(column),
                    code: "column-ignored",
                    text: Text::new(format!("« {header} » {fr}"), format!("“{header}” {en}")),
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
    /// The last exigence was obsolete: rows that only continue it are too.
    under_obsolete: bool,

    unknown_labels: BTreeSet<(Column, String)>,
}

impl Reading<'_> {
    fn note(&mut self, weight: Weight, row: u32, column: Option<u32>, code: &'static str, fr: impl Into<String>, en: impl Into<String>) {
        let column = column.map(letters).unwrap_or_default();
        self.notes.push(Note { weight, row: row + 1, column, code, text: Text::new(fr, en) });
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
            self.under_obsolete |= texts.contains_key(&Column::Exigence);
            self.note(Weight::Info, row, Some(column), "obsolete", "marquée OBSOLETE : laissée de côté", "marked OBSOLETE: left out");
            return false;
        }
        let has_preuve = texts.keys().any(|c| matches!(c, Column::Preuve(_) | Column::PreuveTitle(_)));
        if !texts.contains_key(&Column::Exigence) {
            if !has_preuve && !texts.contains_key(&Column::Scenario) {
                self.note(
                    Weight::Info,
                    row,
                    None,
                    "not-a-requirement",
                    "ni exigence, ni scénario, ni preuve : prise pour un titre et laissée de côté",
                    "no exigence, scenario or proof: taken for a title and left out",
                );
                return false;
            }
            if self.under_obsolete {
                self.note(
                    Weight::Info,
                    row,
                    None,
                    "obsolete",
                    "sous une exigence OBSOLETE : laissée de côté",
                    "under an OBSOLETE exigence: left out",
                );
                return false;
            }
            let Some(above) = &self.carried else {
                self.note(
                    Weight::Lost,
                    row,
                    None,
                    "no-exigence",
                    "un scénario ou une preuve sans exigence au-dessus : laissé de côté",
                    "a scenario or proof under no exigence: left out",
                );
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
            self.note(
                Weight::Info,
                row,
                None,
                "carried",
                "pas d'exigence dans cette ligne : reprise de la ligne au-dessus, comme le sont des cellules fusionnées",
                "no exigence in this row: taken from the row above, as merged cells are",
            );
        }
        self.under_obsolete = false;
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
                        self.note(
                            Weight::Doubtful,
                            row,
                            Some(*column),
                            "no-wording",
                            format!("la preuve {id} n'a pas de libellé"),
                            format!("proof {id} has no wording"),
                        );
                    }
                    let title = title.map(|(_, t)| t.clone()).unwrap_or_default();
                    used |= self.add(row, Some(*column), Preuve { id, title, ..common.clone() });
                }
                (None, Some((column, title))) if k == 1 || !empty => {
                    used |= self.add_implicit(row, Some(*column), title.clone(), &common);
                }
                (None, Some((column, title))) => {
                    let title_shown = display_safe(title, 60);
                    let (fr, en) =
                        (format!("une preuve sans numéro : « {title_shown} »"), format!("a proof without number: “{title_shown}”"));
                    self.note(Weight::Doubtful, row, Some(*column), "no-number", fr, en);
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
                        format!("« {label} » n'est pas un chapitre du pipeline, qui refusera ces preuves (noté une fois)"),
                        format!("“{label}” is no chapter of the pipeline, which will refuse these proofs (noted once)"),
                    );
                }
                label
            }
            (None, None) => {
                self.note(Weight::Doubtful, row, None, "no-chapter", "pas de chapitre", "no chapter");
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
                        format!("« {label} » n'est pas un profil du pipeline, qui refusera ces preuves (noté une fois) : voir `profiles` et `other_profiles`"), format!("“{label}” is no profile of the pipeline, which will refuse these proofs (noted once): see `profiles` and `other_profiles`"),
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
                const FR: [&str; 4] = ["", "une exigence", "un scénario", "une preuve"];
                const EN: [&str; 4] = ["", "an exigence", "a scenario", "a proof"];
                if let Some(level) = level.filter(|level| ids::numbers(&id) != *level) {
                    let looks = |names: [&'static str; 4]| names.get(ids::numbers(&id)).copied().unwrap_or("?");
                    let fr = format!("{id} est numéroté comme {} ; sa colonne en fait {}", looks(FR), FR[level]);
                    let en = format!("{id} is numbered like {}; its column makes it {}", looks(EN), EN[level]);
                    self.note(Weight::Info, row, Some(column), "level", fr, en);
                }
                id
            }
            None => {
                let id = ids::compact(spelled);
                let shown = display_safe(&id, 60);
                if validate::cannot_be_an_id(&id, true).is_some() {
                    let fr = format!("`{shown}` ne peut pas servir d'identifiant : le catalogue sera refusé tant qu'il n'est pas corrigé");
                    let en = format!("`{shown}` cannot be an id: the catalogue will be refused until it is corrected");
                    self.note(Weight::Doubtful, row, Some(column), "id-unusable", fr, en);
                } else {
                    let fr = format!("`{shown}` ne suit pas la grammaire des identifiants");
                    let en = format!("`{shown}` does not follow the grammar of ids");
                    self.note(Weight::Doubtful, row, Some(column), "id-grammar", fr, en);
                }
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
            self.note(
                Weight::Lost,
                row,
                column,
                "no-id",
                "ni la preuve, ni le scénario, ni l'exigence n'ont d'identifiant : laissée de côté",
                "neither proof, scenario nor exigence has an id: left out",
            );
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
            self.note(
                Weight::Info,
                row,
                column,
                "duplicate",
                format!("{} est déjà ligne {first_row}, mot pour mot", preuve.id),
                format!("{} is in row {first_row} already, word for word", preuve.id),
            );
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
                format!("{} est ligne {first_row} pour d'autres profils : réunis", preuve.id),
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
                format!("{} a une seconde preuve sans numéro (la première : ligne {first_row}) : laissée de côté", preuve.id),
                format!("{} has a second proof without number (first: row {first_row}): left out", preuve.id),
            );
        } else {
            self.note(
                Weight::Lost,
                row,
                column,
                "duplicate-id",
                format!("{} est ligne {first_row} avec un autre contenu : la première reste", preuve.id),
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
                format!("le scénario {id} a des preuves numérotées dans d'autres lignes : celle-ci n'en fait pas une de plus"),
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

#[cfg(test)]
mod tests {
    use rust_xlsxwriter::{Formula, Workbook};

    use super::*;
    use crate::cli::catalogue::describe;
    use crate::model::Lang;

    const EXPORT: &[&str] = &[
        "PÉRIMETRE",
        "ID",
        "Chapitre",
        "Fonction",
        "Exigence",
        "Commentaire",
        "Profil",
        "Nº  Scenario",
        "Scénario de conformité",
        "N° preuve",
        "Preuve",
        "Profil historique",
        "Criticité",
        "Ordre",
        "Trigramme",
    ];

    fn workbook(sheet: &str, rows: &[&[&str]]) -> Vec<u8> {
        let mut workbook = Workbook::new();
        let worksheet = workbook.add_worksheet().set_name(sheet).unwrap();
        for (r, row) in rows.iter().enumerate() {
            for (c, cell) in row.iter().enumerate() {
                if let Some(formula) = cell.strip_prefix("=") {
                    worksheet.write_formula(r as u32, c as u16, Formula::new(formula).set_result("#N/A")).unwrap();
                } else if !cell.is_empty() {
                    worksheet.write_string(r as u32, c as u16, *cell).unwrap();
                }
            }
        }
        workbook.save_to_buffer().unwrap()
    }

    fn pipeline() -> Pipeline {
        crate::pipeline::read(std::path::Path::new("pipelines/lgc-vague-2.toml")).unwrap()
    }

    fn shown(bytes: &[u8], options: &Options, pipeline: Option<&Pipeline>) -> String {
        let (catalogue, mut report) = import(bytes, "EXPORT_CONVERGENCE_16022026_ABC_J2.xlsx", options, pipeline).unwrap();
        report.source_sha256 = String::new();
        let preuves = Catalogue { source_sha256: None, ..catalogue }.to_toml().unwrap();
        format!("{}\n{preuves}", describe(&report, Lang::Fr))
    }

    #[test]
    fn an_export_with_its_usual_oddities_is_read_with_an_account_of_them() {
        let ins = "Gestion de l’identité nationale de santé";
        let general = "Médecin de ville - LGC : Profil Général";
        let rows: &[&[&str]] = &[
            &["Export du 16/02/2026"],
            EXPORT,
            &[
                "Vague 1",
                "SC.\u{a0}INS.02",
                ins,
                "Qualifier",
                "<p class=\"mb-1\">Le syst&egrave;me DOIT<br/>qualifier.</p>",
                "",
                &format!("{general} , CIBA"),
                "SC.INS.02.01",
                "<ol><li>Ouvrir</li><li>Voir</li></ol>",
                "SC.INS.02.01.01",
                "<p>Copie d&rsquo;&eacute;cran</p>",
                "",
                "Majeure",
                "1",
                "ABC",
            ],
            &["", "", "", "", "", "", "", "", "", "INS.02.01.02", "Vidéo", "", "", "2"],
            // No proof number: implicit.
            &["Vague 2", "INS.03", ins, "", "E", "", general, "INS.03.01", "S", "", "", "", "", "3"],
            // Level anomalies.
            &[
                "Vague 2",
                "DMP/HISTO.04",
                "Chapitre inconnu",
                "",
                "E",
                "",
                "Autre profil",
                "DMP/HISTO.04",
                "S",
                "DMP/HISTO.04.01",
                "P",
                "",
                "",
                "4",
            ],
            &[],
            &["Titre de bloc", "", "", "", "", "", "", "", "", "", "", "", "", ""],
            &["Vague 2", "INS.90", ins, "", "E", "", general, "INS.90.01", "S", "INS.90.01.01", "P", "", "Obsolète", "5"],
            &["Vague 2", "INS.91", ins, "", "E", "", general, "INS.91.01", "S", "INS.91.01.01", "P", "", "OBSOLETE", "6"],
            &["", "", "", "", "", "", "", "INS.91.02", "S", "INS.91.02.01", "P"],
            // The same again, for another profile, and with another text.
            &["Vague 2", "INS.04", ins, "", "E", "", general, "INS.04.01", "S", "INS.04.01.01", "P", "", "", "7"],
            &["Vague 2", "INS.04", ins, "", "E", "", general, "INS.04.01", "S", "INS.04.01.01", "P", "", "", "7"],
            &["Vague 2", "INS.04", ins, "", "E", "", "CIBA", "INS.04.01", "S", "INS.04.01.01", "P", "", "", "7"],
            &["Vague 2", "INS.04", ins, "", "E", "", general, "INS.04.01", "S", "INS.04.01.01", "autre", "", "", "7"],
            // A row for the scenario beside its numbered proofs.
            &["Vague 2", "INS.04", ins, "", "E", "", general, "INS.04.01", "S", "", "", "", "", "7"],
            &["Vague 2", "INS 5?", ins, "", "=NA()", "", "Tous profils", "INS.05.01", "S", "INS.05.01.01", "", "", "", "8"],
        ];
        insta::assert_snapshot!("export", shown(&workbook("exigences ", rows), &Options::default(), Some(&pipeline())));
    }

    #[test]
    fn the_published_layout_with_ten_pairs_of_proofs_is_read() {
        let mut header = vec![
            "Exigence conditionnelle OUI/NON",
            "Profil",
            "ID Section",
            "Section",
            "Bloc",
            "Fonction",
            "Nature de l'exigence",
            "N° exigence",
            "Énoncé de l'exigence",
            "N° scénario",
            "Scénario de conformité",
        ];
        let numbered: Vec<String> = (1..=10).flat_map(|k| [format!("N° preuve {k}"), format!("Preuve {k}")]).collect();
        header.extend(numbered.iter().map(String::as_str));
        let row = |start: &[&'static str], pairs: usize, id: &str| -> Vec<String> {
            let mut row: Vec<String> = start.iter().map(|c| (*c).to_owned()).collect();
            row.extend((1..=pairs).flat_map(|k| [format!("{id}.{k:02}"), format!("Preuve n° {k}")]));
            row
        };
        let rows = [
            row(
                &["NON", "Profil Général", "S1", "Section", "INS", "F", "EXIGENCE", "INS.02", "Énoncé", "INS.02.01", "Scénario"],
                10,
                "INS.02.01",
            ),
            // Merged over the rows of one exigence.
            row(&["", "", "", "", "", "", "", "", "", "INS.02.02", "Scénario 2"], 1, "INS.02.02"),
            row(
                &["OUI", "Profil Général", "S1", "Section", "INS", "F", "EXIGENCE", "INS.03", "Énoncé", "INS.03.01", "Scénario"],
                2,
                "INS.03.01",
            ),
            row(
                &["NON", "Profil Général", "S1", "Section", "INS", "F", "PRECONISATION", "INS.04", "Énoncé", "INS.04.01", "Scénario"],
                0,
                "",
            ),
        ];
        let rows: Vec<Vec<&str>> = std::iter::once(header).chain(rows.iter().map(|r| r.iter().map(String::as_str).collect())).collect();
        let rows: Vec<&[&str]> = rows.iter().map(Vec::as_slice).collect();
        let (catalogue, report) =
            import(&workbook("REM", &rows), "REM.xlsx", &Options { date: Some("2024-11-07".into()), ..Options::default() }, None).unwrap();
        assert_eq!(report.layout, Layout::Rem);
        assert_eq!(catalogue.preuves.iter().map(|p| p.id.as_str()).filter(|id| id.starts_with("INS.02.01.")).count(), 10);
        assert_eq!(catalogue.preuves[10].exigence, "INS.02");
        let conditional: Vec<&str> = catalogue.preuves.iter().filter(|p| p.conditional).map(|p| p.id.as_str()).collect();
        assert_eq!(conditional, ["INS.03.01.01", "INS.03.01.02", "INS.04.01"]);
        assert_eq!((report.rows, report.rows_used, report.preuves, report.implicit), (4, 4, 14, 1));
        assert_eq!((catalogue.version.as_str(), catalogue.date.as_str()), ("2024-11-07", "2024-11-07"));
    }

    #[test]
    fn what_is_no_export_is_refused_with_a_code() {
        let said = |bytes: &[u8], name: &str| import(bytes, name, &Options::default(), None).unwrap_err().to_string();
        let good = workbook("Exigences", &[EXPORT, &["Vague 1", "INS.02", "INS", "", "E", "", "", "INS.02.01", "S", "INS.02.01.01", "P"]]);
        assert!(said(b"PK\x03\x04 no workbook", "x_16022026.xlsx").starts_with("CATALOGUE-WORKBOOK"));
        assert!(
            said(&workbook("Exigences", &[&["ID", "Chapitre"]]), "x_16022026.xlsx")
                .starts_with("CATALOGUE-COLUMNS: sheet `Exigences`: no row has the columns « N° scénario »")
        );
        assert!(said(&workbook("Exigences", &[EXPORT]), "x_16022026.xlsx").starts_with("CATALOGUE-EMPTY"));
        assert!(said(&good, "export.xlsx").starts_with("CATALOGUE-DATE"));
        assert!(said(&good, "export_31132026.xlsx").starts_with("CATALOGUE-DATE"), "no such month");
        let other = Options { sheet: Some("Autre".into()), ..Options::default() };
        assert!(
            import(&good, "x_16022026.xlsx", &other, None)
                .unwrap_err()
                .to_string()
                .starts_with("CATALOGUE-SHEET: no sheet `Autre` (there: Exigences)")
        );
    }

    #[test]
    fn a_cell_at_the_far_corner_costs_nothing_and_is_noted() {
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet().set_name("Exigences").unwrap();
        for (c, header) in EXPORT.iter().enumerate() {
            sheet.write_string(0, c as u16, *header).unwrap();
        }
        for (c, cell) in ["Vague 1", "INS.02", "INS", "", "E", "", "", "INS.02.01", "S", "INS.02.01.01", "P"].into_iter().enumerate() {
            sheet.write_string(1, c as u16, cell).unwrap();
        }
        sheet.write_string(1_048_575, 16_383, "loin").unwrap();
        let (_, report) = import(&workbook.save_to_buffer().unwrap(), "x_16022026.xlsx", &Options::default(), None).unwrap();
        assert_eq!(report.notes.iter().map(|n| n.code).collect::<Vec<_>>(), ["beyond-bounds", "column-ignored"]);
        assert_eq!(report.count(Weight::Lost), 1);
    }

    #[test]
    fn a_workbook_that_declares_endless_strings_is_refused_before_memory_is_reserved() {
        let good = workbook("Exigences", &[EXPORT, &["x"]]);
        let mut read = zip::ZipArchive::new(Cursor::new(good)).unwrap();
        let mut written = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for n in 0..read.len() {
            let mut member = read.by_index(n).unwrap();
            let name = String::from_utf8(member.name_raw().to_vec()).unwrap();
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).unwrap();
            if name.ends_with("sharedStrings.xml") {
                bytes = String::from_utf8(bytes).unwrap().replace("uniqueCount=\"", "uniqueCount=\"999999999999").into_bytes();
            }
            written.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut written, &bytes).unwrap();
        }
        let lying = written.finish().unwrap().into_inner();
        let said = import(&lying, "x_16022026.xlsx", &Options::default(), None).unwrap_err().to_string();
        assert!(said.starts_with("CATALOGUE-WORKBOOK: ") && said.contains("declares 999999999999"), "{said}");
    }

    #[test]
    fn columns_are_named_as_spreadsheets_do() {
        for (column, name) in [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ"), (702, "AAA"), (16_383, "XFD")] {
            assert_eq!(letters(column), name);
            assert_eq!(column_number(name), column + 1);
        }
    }

    #[test]
    fn headers_are_recognised_in_other_spellings() {
        for (header, column) in [
            ("N° Preuve", Column::Preuve(1)),
            ("Nº preuve 10", Column::Preuve(10)),
            ("Numéro de preuve", Column::Preuve(1)),
            ("n°preuve 3", Column::Preuve(3)),
            ("PREUVE 2", Column::PreuveTitle(2)),
            ("Énoncé de l’exigence", Column::ExigenceTitle),
            ("Périmètre (vague)", Column::Perimetre),
            ("Bloc", Column::Chapitre),
        ] {
            assert_eq!(Column::of(header), Some(column), "{header}");
        }
        assert_eq!(Column::of("Preuve 11"), None);
        assert_eq!(Column::of("Montant"), None);
    }
}
