//! Where each item stands in the bundle, in which order, and which are left out.

use std::collections::BTreeMap;

use super::names::{self, Namer};
use super::{BundleError, Withhold};
use crate::model::finding::Category;
use crate::model::report::{ItemReport, Report, Withheld};
use crate::model::submission::{FiledUnder, Stage};
use crate::model::{Severity, Verdict};

// Component limits add up so that a file name always has more than forty bytes of MAX_PATH left.
const MAX_ROOT: usize = 60;
const MAX_CHAPTER: usize = 40;
const MAX_EXIGENCE: usize = 40;
const MAX_PREUVE: usize = 48;

/// The one folder at the top of the ZIP: `IZCYKCWXGY-chapitre-ins-r1`.
pub(super) fn root(report: &Report) -> String {
    let stage = match &report.stage {
        Stage::Eligibility => "eligibilite".to_owned(),
        Stage::Chapter { chapter } => format!("chapitre-{}", names::id_component(chapter, "inconnu", 24)),
        Stage::Dossier => "dossier".to_owned(),
    };
    let candidature = names::id_component(&report.candidature.number, "candidature", 20);
    names::id_component(&format!("{candidature}-{stage}-r{}", report.revision), "bundle", MAX_ROOT)
}

/// Puts items in the canonical order, whatever order they arrived in: slots as the form shows them, then proofs in
/// catalogue order, then unknown ones; within one place by name as people sort (`capture-2` before `capture-10`),
/// then by id.
pub(super) fn order(report: &mut Report) -> Result<(), BundleError> {
    let slots: BTreeMap<&str, usize> = report.slots.iter().enumerate().map(|(i, s)| (s.id.as_str(), i)).collect();
    let preuves: BTreeMap<&str, usize> = report.preuves.iter().enumerate().map(|(i, p)| (p.id.as_str(), i)).collect();
    let rank = |item: &ItemReport| match &item.filed_under {
        FiledUnder::Slot(id) => (0, slots.get(id.as_str()).copied().unwrap_or(usize::MAX), id.clone()),
        FiledUnder::Preuve(id) => (1, preuves.get(id.as_str()).copied().unwrap_or(usize::MAX), id.clone()),
    };
    // Keys are made once for each item, not at each comparison: a name may have 64 kB.
    let mut keys: Vec<_> =
        report.items.iter().enumerate().map(|(n, item)| (rank(item), natural(&item.name), &item.name, &item.id, n)).collect();
    keys.sort();
    let mut position: BTreeMap<String, usize> = BTreeMap::new();
    for (i, (.., id, _)) in keys.iter().enumerate() {
        if position.insert((*id).clone(), i).is_some() {
            return Err(BundleError::DuplicateItem((*id).clone()));
        }
    }
    let order: Vec<usize> = keys.into_iter().map(|(.., n)| n).collect();
    let mut unsorted: Vec<Option<ItemReport>> = std::mem::take(&mut report.items).into_iter().map(Some).collect();
    report.items = order.into_iter().filter_map(|n| unsorted.get_mut(n)?.take()).collect();
    let by_position = |id: &String| (position.get(id).copied().unwrap_or(usize::MAX), id.clone());
    for slot in &mut report.slots {
        slot.items.sort_by_key(by_position);
    }
    for preuve in &mut report.preuves {
        preuve.items.sort_by_key(by_position);
    }
    Ok(())
}

/// A piece of a name, ordered as people sort: numbers before text, by value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    /// Digits without leading zeros: more of them make a larger number.
    Number(usize, String),
    Text(String),
}

/// Digits compare as numbers, everything else as characters, case ignored.
fn natural(name: &str) -> Vec<Piece> {
    let lower = name.to_lowercase();
    let mut pieces = Vec::new();
    let mut rest = lower.as_str();
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit();
        let (piece, after) = rest.split_at(rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len()));
        pieces.push(if is_number {
            let digits = piece.trim_start_matches('0');
            Piece::Number(digits.len(), digits.to_owned())
        } else {
            Piece::Text(piece.to_owned())
        });
        rest = after;
    }
    pieces
}

/// Sets `path` or `withheld` of every item; expects [`order`] to have run.
pub(super) fn place(report: &mut Report, root: &str, policy: Withhold) {
    let mut namer = Namer::default();
    let max_path = names::MAX_PATH - root.len() - 1;
    let known: BTreeMap<String, (String, String)> =
        report.preuves.iter().map(|p| (p.id.clone(), (p.chapter.clone(), p.exigence.clone()))).collect();
    // Every folder of the catalogue is named before any file, so that a folder's name does not depend on whether
    // another proof was provided.
    let slots = namer.folder("data", "eligibilite", "eligibilite", MAX_CHAPTER);
    for preuve in &report.preuves {
        let chapter = namer.folder("data", &preuve.chapter, "chapitre", MAX_CHAPTER);
        let exigence = namer.folder(&chapter, &preuve.exigence, "exigence", MAX_EXIGENCE);
        namer.folder(&exigence, &preuve.id, "preuve", MAX_PREUVE);
    }
    for item in &mut report.items {
        item.path = None;
        item.withheld = None;
        if item.link || item.sha256.is_none() || item.size.is_none() {
            continue;
        }
        item.withheld = withheld(item, policy);
        if item.withheld.is_some() {
            continue;
        }
        let folder = match &item.filed_under {
            FiledUnder::Slot(id) => namer.folder(&slots, id, "depot", MAX_PREUVE),
            FiledUnder::Preuve(id) => match known.get(id) {
                Some((chapter, exigence)) => {
                    let chapter = namer.folder("data", chapter, "chapitre", MAX_CHAPTER);
                    let exigence = namer.folder(&chapter, exigence, "exigence", MAX_EXIGENCE);
                    namer.folder(&exigence, id, "preuve", MAX_PREUVE)
                }
                None => {
                    let unknown = namer.folder("data", "hors-catalogue", "hors-catalogue", MAX_CHAPTER);
                    namer.folder(&unknown, id, "preuve", MAX_PREUVE)
                }
            },
        };
        item.path = Some(namer.file(&folder, &item.name, "fichier", max_path));
    }
}

fn withheld(item: &ItemReport, policy: Withhold) -> Option<Withheld> {
    let error = |category| item.findings.iter().any(|f| f.category == category && f.severity == Severity::Error);
    // Not the category: of a file that could not be scanned, nothing is known that would keep it from whoever looks into why.
    if item.findings.iter().any(|f| f.code.as_str() == "antivirus-infected" && f.severity == Severity::Error) {
        return Some(Withheld::Antivirus);
    }
    if error(Category::Bomb) {
        return Some(Withheld::Bomb);
    }
    let executable = item.facts.as_ref().and_then(|f| f.format).is_some_and(|f| f.is_executable());
    if executable || names::runs_when_opened(&item.name) {
        return Some(Withheld::Executable);
    }
    (policy == Withhold::Rejected && item.verdict == Verdict::Rejected).then_some(Withheld::Rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_people_sort_them() {
        let mut names = vec!["capture-10.png", "Capture-2.png", "capture-2.png", "a", "capture-1.png", "2", "10", "002"];
        names.sort_by_key(|name| (natural(name), *name));
        assert_eq!(names, ["002", "2", "10", "a", "capture-1.png", "Capture-2.png", "capture-2.png", "capture-10.png"]);
    }
}
