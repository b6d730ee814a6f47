//! `index.csv`: one row per item, one per missing proof, one per item that the revision before had, for people who work in a spreadsheet.
//!
//! Opens well in a French Excel: UTF-8 with a byte-order mark, `;` between cells, CRLF. No cell can be taken for a
//! formula, whatever a vendor called a file (CWE-1236).

use std::collections::BTreeMap;

use super::BundleError;
use crate::model::report::{ItemReport, Report};
use crate::model::rounds::Change;
use crate::model::submission::FiledUnder;
use crate::model::text::{Lang, display_safe};

/// A spreadsheet cell holds 32,767 characters; a readable one far less.
const MAX_CELL: usize = 2_000;

const HEADER: [&str; 19] = [
    "Chapitre",
    "Exigence",
    "Scénario",
    "Preuve",
    "Libellé de la preuve",
    "Élément",
    "Nom d'origine",
    "Chemin dans le dossier",
    "Format",
    "Taille (octets)",
    "SHA-256",
    "Verdict",
    "Erreurs",
    "Avertissements",
    "Codes",
    "Constats",
    "Corrections",
    "Remarque",
    "Changement",
];

/// Column « Remarque ».
const REMARK: usize = 17;
/// Column « Changement », empty for a first deposit.
const CHANGE: usize = 18;

/// One word, for a spreadsheet's filter.
fn word(change: Change) -> &'static str {
    match change {
        Change::Unchanged => "inchangé",
        Change::Changed => "modifié",
        Change::Added => "ajouté",
        Change::Moved => "déplacé",
        Change::Removed => "retiré",
    }
}

/// The whole file.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn render(report: &Report) -> Result<Vec<u8>, BundleError> {
    let mut out = vec![0xEF, 0xBB, 0xBF];
    let mut table = csv::WriterBuilder::new().delimiter(b';').terminator(csv::Terminator::CRLF).from_writer(&mut out);
    table.write_record(HEADER)?;
    let items: BTreeMap<&str, &ItemReport> = report.items.iter().map(|i| (i.id.as_str(), i)).collect();
    let chapters: BTreeMap<&str, &str> = report.chapters.iter().map(|c| (c.id.as_str(), c.title.fr.as_str())).collect();
    let mut listed = std::collections::BTreeSet::new();
    let changes: BTreeMap<&str, Change> =
        report.round.iter().flat_map(|r| &r.items).filter_map(|c| Some((c.now.as_ref()?.id.as_str(), c.change))).collect();
    let row = |place: &[String; 5], item: &ItemReport| {
        let mut cells = row(place, item);
        cells.push(changes.get(item.id.as_str()).map(|c| word(*c)).unwrap_or_default().to_owned());
        cells
    };

    for slot in &report.slots {
        let place = [String::from("Éligibilité"), String::new(), String::new(), slot.id.clone(), slot.title.fr.clone()];
        for item in slot.items.iter().filter_map(|id| items.get(id.as_str())) {
            listed.insert(item.id.as_str());
            table.write_record(row(&place, item))?;
        }
        if slot.items.is_empty() && slot.required {
            table.write_record(missing(&place, "Aucun fichier déposé"))?;
        }
    }
    for preuve in &report.preuves {
        let chapter = chapters.get(preuve.chapter.as_str()).copied().unwrap_or(preuve.chapter.as_str());
        let place = [chapter.to_owned(), preuve.exigence.clone(), preuve.scenario.clone(), preuve.id.clone(), preuve.title.clone()];
        for item in preuve.items.iter().filter_map(|id| items.get(id.as_str())) {
            listed.insert(item.id.as_str());
            table.write_record(row(&place, item))?;
        }
        if preuve.items.is_empty() {
            let remark = if preuve.conditional { "Exigence conditionnelle, aucune preuve déposée" } else { "Aucune preuve déposée" };
            table.write_record(missing(&place, remark))?;
        }
    }
    for item in report.items.iter().filter(|i| !listed.contains(i.id.as_str())) {
        let filed = match &item.filed_under {
            FiledUnder::Slot(id) | FiledUnder::Preuve(id) => id.clone(),
        };
        table.write_record(row(&[String::from("Hors catalogue"), String::new(), String::new(), filed, String::new()], item))?;
    }
    // What the revision before held and this one does not.
    for gone in report.round.iter().flat_map(|r| &r.items).filter(|c| c.change == Change::Removed).filter_map(|c| c.before.as_ref()) {
        let (FiledUnder::Slot(id) | FiledUnder::Preuve(id)) = &gone.place;
        let mut cells = vec![String::new(); HEADER.len()];
        cells[3] = cell(id);
        cells[5] = cell(&gone.id);
        cells[6] = cell(&gone.name);
        cells[REMARK] = "N'est plus dans le dossier".to_owned();
        cells[CHANGE] = word(Change::Removed).to_owned();
        table.write_record(cells)?;
    }
    table.flush()?;
    drop(table);
    Ok(out)
}

fn row(place: &[String; 5], item: &ItemReport) -> Vec<String> {
    let counted = |severity| item.findings.iter().filter(|f| f.severity == severity).map(|f| 1 + f.more).sum::<u64>();
    let join = |pieces: Vec<String>| pieces.join(" | ");
    let mut codes: Vec<String> = Vec::new();
    for finding in &item.findings {
        if !codes.iter().any(|c| c == finding.code.as_str()) {
            codes.push(finding.code.to_string());
        }
    }
    let said = |f: &crate::model::Finding| {
        let place = f.place.show(Lang::Fr);
        if place.is_empty() { f.summary.fr.clone() } else { format!("{} ({place})", f.summary.fr) }
    };
    let mut remedies: Vec<String> = Vec::new();
    for finding in item.findings.iter().filter(|f| f.severity >= crate::model::Severity::Warning) {
        if !remedies.contains(&finding.remedy.fr) {
            remedies.push(finding.remedy.fr.clone());
        }
    }
    let remark = match (item.withheld, item.link, item.path.is_some()) {
        (Some(why), _, _) => format!("Non joint : {}", why.label().fr),
        (None, true, _) => "Lien".to_owned(),
        (None, false, false) if item.sha256.is_none() => "Contenu non obtenu".to_owned(),
        _ => String::new(),
    };
    let mut cells: Vec<String> = place.iter().map(|s| cell(s)).collect();
    cells.extend([
        cell(&item.id),
        cell(&item.name),
        cell(item.path.as_deref().unwrap_or_default()),
        cell(item.facts.as_ref().and_then(|f| f.format).map(|f| f.code()).unwrap_or_default()),
        item.size.map(|n| n.to_string()).unwrap_or_default(),
        cell(item.sha256.as_deref().unwrap_or_default()),
        cell(&item.verdict.label().fr),
        counted(crate::model::Severity::Error).to_string(),
        counted(crate::model::Severity::Warning).to_string(),
        cell(&codes.join(", ")),
        cell(&join(item.findings.iter().map(said).collect())),
        cell(&join(remedies)),
        cell(&remark),
    ]);
    cells
}

fn missing(place: &[String; 5], remark: &str) -> Vec<String> {
    let mut cells: Vec<String> = place.iter().map(|s| cell(s)).collect();
    cells.resize(HEADER.len(), String::new());
    cells[11] = "manquant".to_owned();
    cells[REMARK] = cell(remark);
    cells
}

/// Text that no spreadsheet takes for a formula and no terminal for a command: control and bidirectional characters
/// replaced, and `'` before what starts, after any blank, with `=`, `+`, `-`, `@` or their full-width twins.
pub fn cell(untrusted: &str) -> String {
    let folded = untrusted.replace(['\r', '\n', '\t'], " ");
    let safe = display_safe(&folded, MAX_CELL);
    let first = safe.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FFFD}').chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '−' | '|' | '%') => format!("'{safe}"),
        _ => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for hostile in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r\n=1", "＝1", "\u{202e}=1", "=cmd|'/c calc'!A1"] {
            let cell = cell(hostile);
            assert!(cell.starts_with('\''), "{hostile:?} gave {cell:?}");
            assert!(!cell.contains(['\r', '\n', '\t', '\u{202e}']), "{cell:?}");
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["capture.png", "INS.02.01.01", "", "Écran n°2", "a=b", "3 - suite"] {
            assert_eq!(cell(text), text);
        }
    }
}
