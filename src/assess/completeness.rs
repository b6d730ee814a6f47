//! What is expected against what was deposited: slots, proofs, counts, duplicates.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::facts::{Facts, WorkbookFacts};
use crate::model::gazelle::GazellePolicy;
use crate::model::report::{ChapterReport, ItemReport, ObsoleteColumn, ObsoleteRow, PreuveReport, SlotReport, TopicMention};
use crate::model::submission::{FiledUnder, Item, Stage, Submission};
use crate::model::work::Work;
use crate::model::{Signal, Text, Verdict};
use crate::pipeline::catalogue::Preuve;
use crate::pipeline::columns::{Column, ColumnModel};
use crate::pipeline::documentation::DocumentationConfig;
use crate::pipeline::guards::Guards;
use crate::pipeline::{Loaded, Pipeline, Reader, Slot, ids};

use super::documentation::{self, DeclaredProfile};
use super::edits;
use super::file_rules::FileRules;
use super::obsolete_versions;
use super::policy::{self, Severities};

/// What this submission is expected to hold.
pub struct Expected<'a> {
    loaded: &'a Loaded,
    stage: &'a Stage,
    /// Applicable proofs of the stage, in catalogue order.
    preuves: Vec<&'a Preuve>,
    /// Position in the catalogue by canonical id, whole catalogue.
    catalogue: BTreeMap<String, usize>,
    applicable: BTreeSet<String>,
}

impl<'a> Expected<'a> {
    /// Works out what applies to this candidature at this stage.
    pub fn new(loaded: &'a Loaded, submission: &'a Submission) -> Self {
        let applicable = loaded.applicable(&submission.candidature);
        let catalogue = loaded.catalogue.preuves.iter().enumerate().map(|(n, p)| (p.id.clone(), n)).collect();
        let of_stage = |p: &&Preuve| match &submission.stage {
            Stage::Eligibility => false,
            Stage::Chapter { chapter } => p.chapter == *chapter,
            Stage::Dossier => true,
        };
        let ids = applicable.iter().map(|p| p.id.clone()).collect();
        Self { loaded, stage: &submission.stage, preuves: applicable.into_iter().filter(of_stage).collect(), catalogue, applicable: ids }
    }

    /// Severities of the pipeline.
    pub fn severities(&self) -> &'a Severities {
        &self.loaded.pipeline.severities
    }

    /// What the pipeline sets for the guards.
    pub fn guards(&self) -> &'a Guards {
        &self.loaded.pipeline.guards
    }

    /// The exigence that something filed there is evidence of.
    pub fn exigence(&self, filed: &FiledUnder) -> Option<String> {
        self.preuve(filed).map(|p| p.exigence.clone())
    }

    /// Which Gazelle servers count.
    pub fn gazelle_policy(&self) -> &'a GazellePolicy {
        &self.loaded.pipeline.gazelle
    }

    fn slot(&self, filed: &FiledUnder) -> Option<&'a Slot> {
        match filed {
            FiledUnder::Slot(id) => self.loaded.pipeline.slot(id),
            FiledUnder::Preuve(_) => None,
        }
    }

    fn preuve(&self, filed: &FiledUnder) -> Option<&'a Preuve> {
        match filed {
            FiledUnder::Preuve(id) => self.loaded.preuve(id),
            FiledUnder::Slot(_) => None,
        }
    }

    /// The place in the pipeline's own spelling.
    pub fn canonical(&self, filed: &FiledUnder) -> FiledUnder {
        match filed {
            FiledUnder::Preuve(id) => {
                let known = self.loaded.preuve(id).map(|p| p.id.clone());
                FiledUnder::Preuve(known.or_else(|| ids::canonical(id)).unwrap_or_else(|| id.clone()))
            }
            FiledUnder::Slot(id) => FiledUnder::Slot(id.clone()),
        }
    }

    /// What is accepted there; `None` for a place that does not exist.
    pub fn file_rules(&self, filed: &FiledUnder) -> Option<FileRules<'a>> {
        match filed {
            FiledUnder::Slot(_) => slot_rules(self.loaded, self.slot(filed)?),
            FiledUnder::Preuve(_) => preuve_rules(self.loaded),
        }
    }

    /// Whether the rules over all items read the content of what is filed there ([`read_slots`]).
    pub fn reads_contents(&self, filed: &FiledUnder) -> bool {
        !matches!(self.stage, Stage::Chapter { .. }) && self.slot(filed).is_some_and(|slot| slot.reader.is_some())
    }

    /// Whether a link may be filed there.
    pub fn accepts_links(&self, filed: &FiledUnder) -> bool {
        matches!(filed, FiledUnder::Preuve(_)) && self.loaded.pipeline.preuves.links
    }

    /// What is wrong with where an item is filed.
    pub fn filing(&self, item: &Item) -> Vec<Signal> {
        match &item.filed_under {
            FiledUnder::Slot(id) => match self.loaded.pipeline.slot(id) {
                None => {
                    let known: Vec<_> = self.loaded.pipeline.slots.iter().map(|s| s.id.as_str()).collect();
                    vec![Signal::new("slot-unknown").arg("slot", id.as_str()).arg("known", known.join(", "))]
                }
                Some(_) if matches!(self.stage, Stage::Chapter { .. }) => vec![Signal::new("item-other-stage").arg("place", id.as_str())],
                Some(_) => Vec::new(),
            },
            FiledUnder::Preuve(id) if id.is_empty() => vec![Signal::new("item-unfiled")],
            FiledUnder::Preuve(id) => match self.preuve(&item.filed_under) {
                None => {
                    let canonical = ids::canonical(id).unwrap_or_else(|| id.clone());
                    let unknown = Signal::new("preuve-unknown").arg("preuve", id.as_str());
                    vec![match nearest(&canonical, self.catalogue.keys()) {
                        Some(near) => unknown.arg("nearest", near),
                        None => unknown,
                    }]
                }
                Some(preuve) => self.filing_of_preuve(preuve),
            },
        }
    }

    fn filing_of_preuve(&self, preuve: &Preuve) -> Vec<Signal> {
        if !self.applicable.contains(&preuve.id) {
            return vec![
                Signal::new("preuve-not-applicable")
                    .arg("preuve", preuve.id.as_str())
                    .arg("profiles", preuve.profiles.join(", "))
                    .arg("perimetre", preuve.perimetre.as_str()),
            ];
        }
        match self.stage {
            Stage::Chapter { chapter } if preuve.chapter != *chapter => {
                vec![Signal::new("preuve-other-chapter").arg("preuve", preuve.id.as_str()).arg("chapter", preuve.chapter.as_str())]
            }
            Stage::Eligibility => vec![Signal::new("item-other-stage").arg("place", preuve.id.as_str())],
            Stage::Chapter { .. } | Stage::Dossier => Vec::new(),
        }
    }

    /// Slots first, then proofs in catalogue order, then what is unknown; within one place by item id.
    pub fn display_order(&self, filed: &FiledUnder, id: &str) -> (u8, usize, String, String) {
        match filed {
            FiledUnder::Slot(slot) => {
                let position = self.loaded.pipeline.slots.iter().position(|s| s.id == *slot).unwrap_or(usize::MAX);
                (0, position, slot.clone(), id.to_owned())
            }
            FiledUnder::Preuve(preuve) => match self.catalogue.get(preuve) {
                Some(position) => (1, *position, String::new(), id.to_owned()),
                None => (2, 0, preuve.clone(), id.to_owned()),
            },
        }
    }

    /// What is expected and absent, and what is too many.
    pub fn missing(&self, items: &[ItemReport], work: &Work) -> Vec<Signal> {
        let mut out = Vec::new();
        let filed = by_place(items, work);
        let count_of = |place| filed.get(&place).map_or(0, Vec::len);
        if !matches!(self.stage, Stage::Chapter { .. }) {
            for slot in &self.loaded.pipeline.slots {
                let count = count_of(FiledUnder::Slot(slot.id.clone()));
                if count == 0 && slot.required {
                    out.push(Signal::new("slot-missing").arg("title_fr", slot.title.fr.as_str()).arg("title_en", slot.title.en.as_str()));
                }
                if count > slot.max_files as usize {
                    let many = Signal::new("slot-too-many-files")
                        .arg("title_fr", slot.title.fr.as_str())
                        .arg("title_en", slot.title.en.as_str())
                        .arg("count", count)
                        .arg("limit", slot.max_files);
                    out.push(if slot.overflow_formats.is_some() { many.arg("overflow", "zip") } else { many });
                }
            }
        }
        for preuve in &self.preuves {
            let count = count_of(FiledUnder::Preuve(preuve.id.clone()));
            if count == 0 {
                let signal = if preuve.conditional { Signal::new("preuve-missing-conditional") } else { Signal::new("preuve-missing") };
                out.push(
                    signal
                        .arg("preuve", preuve.id.as_str())
                        .arg("exigence", preuve.exigence.as_str())
                        .arg("chapter", preuve.chapter.as_str())
                        .arg("title", preuve.title.as_str()),
                );
            }
            if count > self.loaded.pipeline.preuves.max_items as usize {
                out.push(
                    Signal::new("preuve-too-many-items")
                        .arg("preuve", preuve.id.as_str())
                        .arg("count", count)
                        .arg("limit", self.loaded.pipeline.preuves.max_items),
                );
            }
        }
        out
    }

    /// One line per applicable proof.
    pub fn preuve_reports(&self, items: &[ItemReport], work: &Work) -> Vec<PreuveReport> {
        let filed = by_place(items, work);
        self.preuves
            .iter()
            .map(|p| {
                let here = filed.get(&FiledUnder::Preuve(p.id.clone())).map(Vec::as_slice).unwrap_or_default();
                PreuveReport {
                    id: p.id.clone(),
                    title: p.title.clone(),
                    chapter: p.chapter.clone(),
                    exigence: p.exigence.clone(),
                    exigence_title: p.exigence_title.clone(),
                    scenario: p.scenario.clone(),
                    scenario_title: p.scenario_title.clone(),
                    criticite: p.criticite.clone(),
                    conditional: p.conditional,
                    verdict: worst(here),
                    items: here.iter().map(|i| i.id.clone()).collect(),
                }
            })
            .collect()
    }

    /// « 81/81 » by chapter.
    pub fn chapter_reports(&self, preuves: &[PreuveReport]) -> Vec<ChapterReport> {
        let known = self.loaded.pipeline.chapters.iter().map(|c| (c.id.clone(), c.title.clone()));
        let unknown: BTreeMap<String, Text> = preuves
            .iter()
            .filter(|p| self.loaded.pipeline.chapter(&p.chapter).is_none())
            .map(|p| (p.chapter.clone(), Text::new(p.chapter.clone(), p.chapter.clone())))
            .collect();
        known
            .chain(unknown)
            .filter_map(|(id, title)| {
                let here: Vec<_> = preuves.iter().filter(|p| p.chapter == id).collect();
                let with = |v: Verdict| count(here.iter().filter(|p| p.verdict == Some(v)).count());
                (!here.is_empty()).then(|| ChapterReport {
                    id,
                    title,
                    expected: count(here.len()),
                    provided: count(here.iter().filter(|p| !p.items.is_empty()).count()),
                    rejected: with(Verdict::Rejected),
                    warned: with(Verdict::AcceptedWithWarnings),
                    undetermined: with(Verdict::Undetermined),
                })
            })
            .collect()
    }

    /// One line per eligibility slot.
    pub fn slot_reports(&self, items: &[ItemReport], work: &Work) -> Vec<SlotReport> {
        if matches!(self.stage, Stage::Chapter { .. }) {
            return Vec::new();
        }
        let filed = by_place(items, work);
        let slots = self.loaded.pipeline.slots.iter();
        slots
            .map(|slot| {
                let here = filed.get(&FiledUnder::Slot(slot.id.clone())).map(Vec::as_slice).unwrap_or_default();
                SlotReport {
                    id: slot.id.clone(),
                    title: slot.title.clone(),
                    required: slot.required,
                    verdict: worst(here),
                    items: here.iter().map(|i| i.id.clone()).collect(),
                }
            })
            .collect()
    }
}

/// What every proof accepts; `None` when the pipeline names a format set that does not exist (refused at load).
pub fn preuve_rules(loaded: &Loaded) -> Option<FileRules<'_>> {
    let pipeline = &loaded.pipeline;
    Some(FileRules {
        max_size: pipeline.preuves.max_size,
        bytes_per_mo: pipeline.bytes_per_mo,
        formats: pipeline.format_set(&pipeline.preuves.formats)?,
        overflow: None,
        members_follow: false,
    })
}

/// What a slot accepts; `None` when it names a format set that does not exist (refused at load).
pub fn slot_rules<'a>(loaded: &'a Loaded, slot: &'a Slot) -> Option<FileRules<'a>> {
    let pipeline = &loaded.pipeline;
    Some(FileRules {
        max_size: slot.max_size,
        bytes_per_mo: pipeline.bytes_per_mo,
        formats: pipeline.format_set(&slot.formats)?,
        overflow: slot.overflow_formats.as_ref().and_then(|name| pipeline.format_set(name)),
        members_follow: true,
    })
}

/// Marks items that hold the same bytes.
pub fn duplicates(expected: &Expected<'_>, items: &mut [ItemReport], work: &Work) {
    /// Other places named in a finding; the rest is counted.
    const NAMED: usize = 8;
    let mut by_digest: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (n, item) in work.each(items.iter().enumerate()) {
        if let (Some(digest), Some(1..)) = (&item.sha256, item.size) {
            by_digest.entry(digest.clone()).or_default().push(n);
        }
    }
    for same in by_digest.into_values().filter(|same| same.len() > 1) {
        // What is said of each of them comes from one list of the places, made once.
        let places: BTreeSet<FiledUnder> = same.iter().map(|n| items[*n].filed_under.clone()).collect();
        let mut named: BTreeMap<&str, usize> = BTreeMap::new();
        for place in &places {
            *named.entry(place_name(place)).or_default() += 1;
        }
        let (first, second) = (items[same[0]].name.clone(), items[same[1]].name.clone());
        for n in work.each(same) {
            let here = &items[n].filed_under;
            let signal = if places.len() == 1 {
                let other = if items[n].name == first { &second } else { &first };
                Signal::new("duplicate-in-place").arg("other", other.as_str())
            } else {
                // A slot and a proof may have the same name.
                let is_elsewhere = |(name, count): &(&&str, &usize)| **name != place_name(here) || **count > 1;
                let count = named.len() - usize::from(named.get(place_name(here)) == Some(&1));
                let shown: Vec<&str> = named.iter().filter(is_elsewhere).take(NAMED).map(|(name, _)| *name).collect();
                Signal::new("duplicate-elsewhere").arg("places", shown.join(", ")).arg("count", count)
            };
            items[n].findings.extend(policy::finding(&signal, expected.severities()));
        }
    }
}

/// Items by where they are filed, each in the order of `items`.
fn by_place<'i>(items: &'i [ItemReport], work: &Work) -> BTreeMap<FiledUnder, Vec<&'i ItemReport>> {
    let mut filed: BTreeMap<FiledUnder, Vec<&ItemReport>> = BTreeMap::new();
    for item in work.each(items) {
        filed.entry(item.filed_under.clone()).or_default().push(item);
    }
    filed
}

/// What the slots' readers found.
#[derive(Debug, Default)]
pub struct SlotReading {
    /// About the submission as a whole.
    pub signals: Vec<Signal>,
    /// Rows of the obsolete-versions table.
    pub obsolete_versions: Vec<ObsoleteRow>,
    /// Its columns as the pipeline words them; empty where there are no rows.
    pub obsolete_columns: Vec<ObsoleteColumn>,
    /// Topics of the documentation.
    pub documentation: Vec<TopicMention>,
}

/// Reads the content of the slots that have a reader. What a reader says of a file goes to that file; what it
/// says of the absence of files goes to the submission.
pub fn read_slots(expected: &Expected<'_>, submission: &Submission, items: &mut [ItemReport], work: &Work) -> SlotReading {
    let mut reading = SlotReading::default();
    if matches!(submission.stage, Stage::Chapter { .. }) {
        return reading;
    }
    let pipeline = &expected.loaded.pipeline;
    for slot in &pipeline.slots {
        let here: Vec<usize> = work
            .each(items.iter().enumerate())
            .filter(|(_, item)| matches!(&item.filed_under, FiledUnder::Slot(id) if *id == slot.id))
            .map(|(n, _)| n)
            .collect();
        match slot.reader {
            Some(Reader::VersionsObsoletes) => {
                if let Some(model) = &pipeline.versions_obsoletes {
                    read_obsolete_versions(expected, model, &here, items, &mut reading, work);
                }
            }
            Some(Reader::Documentation) => {
                if let Some(config) = &pipeline.documentation {
                    let declared = declared_profiles(pipeline, submission);
                    read_documentation(expected, config, &declared, &here, items, &mut reading, work);
                }
            }
            None => {}
        }
    }
    reading
}

fn read_obsolete_versions(
    expected: &Expected<'_>,
    model: &ColumnModel,
    here: &[usize],
    items: &mut [ItemReport],
    reading: &mut SlotReading,
    work: &Work,
) {
    if here.is_empty() {
        reading.signals.push(Signal::new("obsolete-versions-absent"));
        return;
    }
    for &n in here {
        let item = &mut items[n];
        let Some(facts) = &item.facts else { continue };
        let mut told = policy::Told::default();
        for (members, workbook) in work.each(workbooks(facts)) {
            let read = obsolete_versions::read(workbook, model, work);
            for row in read.rows {
                reading.obsolete_versions.push(ObsoleteRow {
                    item: item.id.clone(),
                    sheet: row.sheet,
                    row: row.row,
                    values: row.values,
                    unread: row.unread,
                });
            }
            for mut signal in read.signals {
                signal.place.members.splice(0..0, members.iter().map(|m| (*m).to_owned()));
                told.add(&mut item.findings, &signal, expected.severities());
            }
        }
    }
    if !reading.obsolete_versions.is_empty() {
        reading.obsolete_columns = model.columns.iter().map(column).collect();
    }
}

/// A column under its usual header; under its id where the pipeline gives none.
fn column(column: &Column) -> ObsoleteColumn {
    ObsoleteColumn { id: column.id.clone(), title: column.headers.first().unwrap_or(&column.id).clone() }
}

/// The workbooks of a file: itself, or those in an archive, with the path of members that leads to each.
fn workbooks(facts: &Facts) -> Vec<(Vec<&str>, &WorkbookFacts)> {
    fn gather<'f>(facts: &'f Facts, path: &mut Vec<&'f str>, found: &mut Vec<(Vec<&'f str>, &'f WorkbookFacts)>) {
        found.extend(facts.workbook().map(|workbook| (path.clone(), workbook)));
        for member in facts.members() {
            if let Some(inner) = &member.facts {
                path.push(&member.name);
                gather(inner, path, found);
                path.pop();
            }
        }
    }
    let mut found = Vec::new();
    gather(facts, &mut Vec::new(), &mut found);
    found
}

fn declared_profiles(pipeline: &Pipeline, submission: &Submission) -> Vec<DeclaredProfile> {
    let chosen = submission.candidature.profiles.iter().filter_map(|id| pipeline.profile(id));
    chosen.map(|p| DeclaredProfile { id: p.id.clone(), title: p.title.fr.clone() }).collect()
}

fn read_documentation(
    expected: &Expected<'_>,
    config: &DocumentationConfig,
    declared: &[DeclaredProfile],
    here: &[usize],
    items: &mut [ItemReport],
    reading: &mut SlotReading,
    work: &Work,
) {
    // One by one, so that every place names its file; a topic absent from one file may stand in another.
    let mut mentions: BTreeMap<&str, TopicMention> = config
        .topics
        .iter()
        .map(|t| (t.id.as_str(), TopicMention { topic: t.id.clone(), title: t.title.clone(), count: 0, places: Vec::new() }))
        .collect();
    for &n in here {
        let Some(facts) = items[n].facts.as_deref() else { continue };
        let read = documentation::read([facts], config, declared, work);
        let id = items[n].id.clone();
        for mention in read.mentions {
            if let Some(known) = mentions.get_mut(mention.topic.as_str()) {
                known.count = known.count.saturating_add(u32::try_from(mention.count).unwrap_or(u32::MAX));
                let room = config.max_places.saturating_sub(known.places.len());
                known.places.extend(mention.places.into_iter().take(room).map(|p| (id.clone(), p)));
            }
        }
        let mut told = policy::Told::default();
        for signal in read.signals.iter().filter(|s| !is_absence(s)) {
            told.add(&mut items[n].findings, signal, expected.severities());
        }
    }
    let all: Vec<&Facts> = here.iter().filter_map(|n| items[*n].facts.as_deref()).collect();
    reading.signals.extend(documentation::read(all, config, declared, work).signals.into_iter().filter(is_absence));
    reading.documentation = config.topics.iter().filter_map(|t| mentions.remove(t.id.as_str())).collect();
}

/// Said of the documentation as a whole, never of one file.
fn is_absence(signal: &Signal) -> bool {
    matches!(signal.code.as_str(), "documentation-topic-absent" | "documentation-profile-absent")
}

fn place_name(filed: &FiledUnder) -> &str {
    match filed {
        FiledUnder::Slot(id) | FiledUnder::Preuve(id) => id,
    }
}

/// The worst verdict of some items; `None` when there are none.
fn worst(items: &[&ItemReport]) -> Option<Verdict> {
    (!items.is_empty()).then(|| Verdict::of(items.iter().flat_map(|i| &i.findings).map(|f| f.severity)))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The known id closest to `id`, where one is close enough to be a slip of the finger.
fn nearest<'k>(id: &str, known: impl Iterator<Item = &'k String>) -> Option<&'k str> {
    /// Typing errors that a slip of the finger makes.
    const SLIPS: usize = 2;
    known.filter_map(|k| Some((edits::within(id, k, SLIPS)?, k.as_str()))).min().map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_id_is_offered_only_for_a_slip_of_the_finger() {
        let known = ["INS.02.01".to_owned(), "DMP/UX.10.01".to_owned()];
        assert_eq!(nearest("INS.02.10", known.iter()), Some("INS.02.01"));
        assert_eq!(nearest("MSS.07.03", known.iter()), None);
    }
}
