//! Evidence filed under the wrong requirement: the ids that a document, its name and its members cite, against
//! where it is filed.
//!
//! Goals:
//! 1. Only ids of the catalogue count: `ISO.27001` or a version number cite nothing.
//! 2. A document that cites its own requirement is where it belongs, whatever else it cites; one that cites many is
//!    a matrix or a manual. What remains is a document about something else.
//! 3. A verifier is shown it; the vendor's deposit stands. A passing mention is no finding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use regex::Regex;

use crate::model::facts::Facts;
use crate::model::submission::FiledUnder;
use crate::model::work::Work;
use crate::model::{Place, Signal};
use crate::pipeline::catalogue::Preuve;
use crate::pipeline::guards::CoherencePolicy;

/// Prefixes that some sources write and others do not.
const PREFIXES: &[&str] = &["SC", "CH", "LGC", "DPI", "PFI", "SGL", "RIS", "DB", "LGO", "DUI"];
/// Most alphanumeric runs that one id spelled in a file name is made of (`SC.SCN_DB/CO.01.BIS.04.01`).
const LONGEST: usize = 9;
/// How far into the first text a document says what it is about, bytes.
const HEADING: usize = 300;
/// Ids named in a finding; the rest is counted.
const NAMED: usize = 6;

/// One spelling of an id → its canonical form, where it is one.
pub type Canonical<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// What the catalogue says an id is. The same id may be a scenario's and a proof's: published catalogues do that.
#[derive(Debug, Clone, Default)]
struct Meaning {
    is_preuve: bool,
    scenarios: BTreeSet<String>,
    exigences: BTreeSet<String>,
}

/// The ids of a catalogue, at all levels.
pub struct Known<'a> {
    canonical: Canonical<'a>,
    meanings: BTreeMap<String, Meaning>,
    /// By what remains of an id once separators, case and prefixes are dropped; `None` where two ids meet there.
    loose: BTreeMap<String, Option<String>>,
}

impl<'a> Known<'a> {
    /// The ids of these proofs, of their scenarios and of their exigences.
    pub fn new(preuves: &[Preuve], canonical: Canonical<'a>) -> Self {
        let mut meanings: BTreeMap<String, Meaning> = BTreeMap::new();
        for preuve in preuves {
            for (id, is_preuve) in [(&preuve.id, true), (&preuve.scenario, false), (&preuve.exigence, false)] {
                if id.is_empty() {
                    continue;
                }
                let meaning = meanings.entry(id.clone()).or_default();
                meaning.is_preuve |= is_preuve;
                meaning.exigences.insert(preuve.exigence.clone());
                // An exigence is not one of its scenarios.
                if *id != preuve.exigence {
                    meaning.scenarios.insert(preuve.scenario.clone());
                }
            }
        }
        let mut loose: BTreeMap<String, Option<String>> = BTreeMap::new();
        for id in meanings.keys() {
            loose.entry(loose_key(&runs(id))).and_modify(|known| *known = None).or_insert_with(|| Some(id.clone()));
        }
        Self { canonical, meanings, loose }
    }

    /// The id of the catalogue that `spelled` means.
    fn find(&self, spelled: &str) -> Option<&str> {
        let exact = (self.canonical)(spelled).and_then(|id| self.meanings.get_key_value(&id)).map(|(id, _)| id.as_str());
        exact.or_else(|| self.loose.get(&loose_key(&runs(spelled)))?.as_deref())
    }
}

/// The signals of one item filed under `filed` (canonical). Nothing is said of slots and unknown proofs.
pub fn signals(
    known: &Known<'_>,
    filed: &FiledUnder,
    name: &str,
    facts: Option<&Facts>,
    policy: &CoherencePolicy,
    work: &Work,
) -> Vec<Signal> {
    let FiledUnder::Preuve(own) = filed else { return Vec::new() };
    let Some(meaning) = known.meanings.get(own).filter(|m| m.is_preuve) else { return Vec::new() };
    let mut out = Vec::new();
    out.extend(names(known, own, meaning, name, facts, work));
    if let Some(facts) = facts {
        out.extend(text(known, own, meaning, facts, policy, work));
    }
    out
}

/// Whether citing `id` fits evidence of the proof `own`: itself, its scenario, its exigence.
fn names_own(own: &str, meaning: &Meaning, id: &str) -> bool {
    id == own || meaning.scenarios.contains(id) || meaning.exigences.contains(id)
}

/// The ids that names cite, and where the first of them stands.
#[derive(Debug, Default)]
struct Cited {
    ids: BTreeSet<String>,
    first: Option<Place>,
}

fn names(known: &Known<'_>, own: &str, meaning: &Meaning, name: &str, facts: Option<&Facts>, work: &Work) -> Option<Signal> {
    let mut cited = Cited { ids: ids_in_name(known, name, work).into_iter().collect(), first: Some(Place::default()) };
    if cited.ids.is_empty()
        && let Some(facts) = facts
    {
        cited.first = None;
        members(known, facts, &mut Vec::new(), &mut cited, work);
    }
    if cited.ids.is_empty() || cited.ids.iter().any(|id| names_own(own, meaning, id)) {
        return None;
    }
    let ids: BTreeSet<&str> = cited.ids.iter().map(String::as_str).collect();
    let place = cited.first.unwrap_or_default();
    Some(Signal::new("coherence-name-other-proof").at(place).arg("preuve", own).arg("cited", list(&ids)))
}

/// The ids that the names of members cite. `way` leads to `facts`.
fn members<'f>(known: &Known<'_>, facts: &'f Facts, way: &mut Vec<&'f str>, cited: &mut Cited, work: &Work) {
    for member in work.each(facts.members()) {
        way.push(&member.name);
        let ids = ids_in_name(known, &member.name, work);
        if !ids.is_empty() && cited.first.is_none() {
            cited.first = Some(Place { members: way.iter().map(|name| (*name).to_owned()).collect(), ..Place::default() });
        }
        cited.ids.extend(ids);
        if let Some(inner) = &member.facts {
            members(known, inner, way, cited, work);
        }
        way.pop();
    }
}

/// The ids that a file name or path cites, in any spelling that a name can have (`INS_02_01_01 - capture.png`).
fn ids_in_name(known: &Known<'_>, name: &str, work: &Work) -> Vec<String> {
    if !work.read(name.len()) {
        return Vec::new();
    }
    // The extension is no part of an id: `INS.02.01` + `.mp4`.
    let stem = name.rsplit_once('.').filter(|(_, e)| e.chars().any(char::is_alphabetic)).map_or(name, |(stem, _)| stem);
    let runs = runs(stem);
    let mut found = Vec::new();
    let mut from = 0;
    while from < runs.len() {
        let longest = (from + 2..=runs.len().min(from + LONGEST)).rev().find_map(|to| {
            let id = known.loose.get(&loose_key(&runs[from..to]))?.as_deref()?;
            // « INS 02 » may be the second picture about INS: an exigence in a name must be written as one.
            let is_exigence = known.meanings.get(id).is_some_and(|m| m.scenarios.is_empty());
            (!is_exigence || stem.contains(id)).then(|| (id.to_owned(), to))
        });
        match longest {
            Some((id, to)) => {
                found.push(id);
                from = to;
            }
            None => from += 1,
        }
    }
    found
}

/// Mentions of one exigence, through any of its ids.
#[derive(Debug, Default)]
struct Mentions {
    ids: BTreeSet<String>,
    count: u32,
    first: Place,
    /// Mentioned where a document says what it is about: its title, its first page, a scenario's or proof's id.
    is_prominent: bool,
}

fn text(known: &Known<'_>, own: &str, meaning: &Meaning, facts: &Facts, policy: &CoherencePolicy, work: &Work) -> Option<Signal> {
    let mut mentions = BTreeMap::new();
    if !read(known, facts, &mut Vec::new(), &mut mentions, work) {
        // The text was cut: its own requirement may be named further on.
        return None;
    }
    let own_exigence = meaning.exigences.iter().next()?;
    let speaks_of_own = meaning.exigences.iter().any(|e| mentions.contains_key(e));
    if mentions.is_empty() || speaks_of_own || mentions.len() > policy.max_exigences {
        return None;
    }
    let heaviest = mentions.values().max_by_key(|m| (m.is_prominent, m.count))?;
    if !heaviest.is_prominent && heaviest.count < 2 {
        return None;
    }
    let ids: BTreeSet<&str> = mentions.values().flat_map(|m| &m.ids).map(String::as_str).collect();
    let total: u32 = mentions.values().map(|m| m.count).sum();
    Some(
        Signal::new("coherence-other-requirement")
            .at(heaviest.first.clone())
            .arg("preuve", own)
            .arg("exigence", own_exigence.as_str())
            .arg("cited", list(&ids))
            .arg("count", total),
    )
}

/// Collects what the text of a file and of its members mentions; `false` where some text was cut. `way` leads to `facts`.
fn read<'f>(known: &Known<'_>, facts: &'f Facts, way: &mut Vec<&'f str>, mentions: &mut BTreeMap<String, Mentions>, work: &Work) -> bool {
    let inside = |place: Place, way: &[&str]| {
        let mut place = place;
        place.members.splice(0..0, way.iter().map(|name| (*name).to_owned()));
        place
    };
    let titles = facts.metadata.iter().filter(|(key, _)| key.to_lowercase().contains("title") || key.to_lowercase().contains("subject"));
    for (key, value) in work.each(titles) {
        cite(known, value, &|| inside(Place::part(key.as_str()), way), true, mentions, work);
    }
    for (n, chunk) in work.each(facts.text.iter().enumerate()) {
        let is_first = n == 0 || chunk.place.page == Some(1);
        cite(known, &chunk.text, &|| inside(chunk.place.clone(), way), is_first, mentions, work);
    }
    let mut whole = !facts.text_truncated;
    for member in work.each(facts.members()) {
        if let Some(inner) = &member.facts {
            way.push(&member.name);
            whole &= read(known, inner, way, mentions, work);
            way.pop();
        }
    }
    whole
}

fn cite(known: &Known<'_>, text: &str, place: &dyn Fn() -> Place, is_first: bool, mentions: &mut BTreeMap<String, Mentions>, work: &Work) {
    if !work.read(text.len()) {
        return;
    }
    for found in spelled().find_iter(text) {
        let before = text[..found.start()].chars().next_back();
        let mut after = text[found.end()..].chars();
        let goes_on = match after.next() {
            Some('.') => after.next().is_some_and(|c| c.is_ascii_digit()),
            Some(c) => c.is_alphanumeric(),
            None => false,
        };
        if goes_on || before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '-' | '@')) {
            continue;
        }
        let Some(id) = known.find(found.as_str()) else { continue };
        let Some(meaning) = known.meanings.get(id) else { continue };
        for exigence in &meaning.exigences {
            let mention = mentions.entry(exigence.clone()).or_insert_with(|| Mentions { first: place(), ..Mentions::default() });
            mention.count = mention.count.saturating_add(1);
            mention.is_prominent |= (is_first && found.start() < HEADING) || !meaning.scenarios.is_empty();
            mention.ids.insert(id.to_owned());
        }
    }
}

/// What may be an id in running text. Whether it is one, the catalogue decides.
#[expect(clippy::expect_used, reason = "the pattern is made of constants, and tests compile it")]
fn spelled() -> &'static Regex {
    static SPELLED: OnceLock<Regex> = OnceLock::new();
    SPELLED.get_or_init(|| {
        let prefixes = PREFIXES.join("|");
        Regex::new(&format!(
            r"(?:(?:{prefixes})\.\s?)?[A-Z]{{2,12}}(?:[/_-][A-Za-z0-9]{{1,12}}){{0,3}}(?:\.(?:{prefixes}))?\.\d{{1,3}}(?:\.(?:BIS|TER|QUATER))?(?:\.\d{{2}}){{0,2}}"
        ))
        .expect("the pattern is a constant")
    })
}

/// The alphanumeric runs of a spelling.
fn runs(spelled: &str) -> Vec<&str> {
    spelled.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()).collect()
}

/// The key under which all spellings meet: capitals, one separator, no prefix.
fn loose_key(runs: &[&str]) -> String {
    // `SC.01` is a family named SC, not a prefix: something else than a number must follow.
    let is_prefix = |first: &&str| PREFIXES.iter().any(|p| p.eq_ignore_ascii_case(first));
    let drop = runs.first().is_some_and(is_prefix) && runs.get(1).is_some_and(|next| !next.starts_with(|c: char| c.is_ascii_digit()));
    runs[usize::from(drop)..].join(".").to_uppercase()
}

fn list(ids: &BTreeSet<&str>) -> String {
    let mut shown: Vec<&str> = ids.iter().copied().take(NAMED).collect();
    if ids.len() > NAMED {
        shown.push("…");
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::{ArchiveFacts, Detail, MemberFacts, TextChunk};

    fn preuve(exigence: &str, scenario: &str, id: &str) -> Preuve {
        Preuve { id: id.into(), scenario: scenario.into(), exigence: exigence.into(), ..Preuve::default() }
    }

    fn catalogue() -> Vec<Preuve> {
        vec![
            preuve("INS.02", "INS.02.01", "INS.02.01.01"),
            preuve("INS.02", "INS.02.01", "INS.02.01.02"),
            preuve("INS.02", "INS.02.02", "INS.02.02.01"),
            preuve("INS.05", "INS.05.01", "INS.05.01.01"),
            preuve("INS/va1.62", "INS/va1.62.01", "INS/va1.62.01.01"),
            preuve("LGC.DMP/UX.10", "LGC.DMP/UX.10.01", "LGC.DMP/UX.10.01.01"),
            // A proof numbered like a scenario, as published.
            preuve("DMP/AIRS.07", "DMP/AIRS.07.01", "DMP/AIRS.07.01"),
            preuve("MSS.01", "MSS.01.01", "MSS.01.01.01"),
            preuve("MSS.02", "MSS.02.01", "MSS.02.01.01"),
        ]
    }

    fn canonical(spelled: &str) -> Option<String> {
        let compact: String = spelled.chars().filter(|c| !c.is_whitespace()).collect();
        Some(compact.strip_prefix("SC.").unwrap_or(&compact).to_owned())
    }

    fn document(pages: &[&str]) -> Facts {
        let chunk = |(n, text): (usize, &&str)| TextChunk { place: Place::page(n as u32 + 1), text: (*text).to_owned() };
        Facts { text: pages.iter().enumerate().map(chunk).collect(), ..Facts::default() }
    }

    fn codes(own: &str, name: &str, facts: &Facts) -> Vec<String> {
        found(own, name, facts).iter().map(|s| s.code.to_string()).collect()
    }

    fn found(own: &str, name: &str, facts: &Facts) -> Vec<Signal> {
        let catalogue = catalogue();
        let known = Known::new(&catalogue, &canonical);
        signals(&known, &FiledUnder::Preuve(own.into()), name, Some(facts), &CoherencePolicy::default(), &Work::unbounded())
    }

    #[test]
    fn a_document_about_another_requirement_is_shown_with_its_page() {
        let facts = document(&["Compte rendu", "Scénario SC.\u{a0}INS.05.01 : étape 1", "Fin de INS.05.01.01."]);
        let signals = found("INS.02.01.01", "capture.pdf", &facts);
        assert_eq!(signals.len(), 1);
        assert_eq!(signals[0].code.as_str(), "coherence-other-requirement");
        assert_eq!(signals[0].place, Place::page(2));
        assert_eq!(signals[0].args["cited"].to_string(), "INS.05.01, INS.05.01.01");
        assert_eq!(signals[0].args["count"].to_string(), "2");
    }

    #[test]
    fn a_document_that_cites_its_own_requirement_is_where_it_belongs() {
        for own in ["INS.02", "INS.02.01", "SC.INS.02.02.01", "LGC.INS.02"] {
            let facts = document(&[&format!("Voir INS.05.01.01. Ici : {own}, étape 3")]);
            assert_eq!(codes("INS.02.01.01", "a.pdf", &facts), Vec::<String>::new(), "{own}");
        }
    }

    #[test]
    fn a_passing_mention_a_matrix_and_a_cut_text_say_nothing() {
        let mention = document(&["Titre", "Comme pour INS.05, l'identité est qualifiée."]);
        assert_eq!(codes("INS.02.01.01", "a.pdf", &mention), Vec::<String>::new());
        let twice = document(&["Titre", "Comme pour INS.05, l'identité est qualifiée (INS.05)."]);
        assert_eq!(codes("INS.02.01.01", "a.pdf", &twice), ["coherence-other-requirement"]);
        let matrix = document(&["INS.05.01 INS/va1.62.01 DMP/UX.10.01 DMP/AIRS.07.01 MSS.01 MSS.02"]);
        assert_eq!(codes("INS.02.01.01", "a.pdf", &matrix), Vec::<String>::new());
        let cut = Facts { text_truncated: true, ..document(&["INS.05.01.01"]) };
        assert_eq!(codes("INS.02.01.01", "a.pdf", &cut), Vec::<String>::new());
    }

    #[test]
    fn what_only_looks_like_an_id_cites_nothing() {
        let facts = document(&["ISO.27001, TLS.1.2, XINS.05.01.01, INS.05.01.01.7, INS.99.01, http://x/INS.05.01.01, v.INS.05.01"]);
        assert_eq!(codes("INS.02.01.01", "a.pdf", &facts), Vec::<String>::new());
    }

    #[test]
    fn a_name_that_cites_another_proof_is_shown_in_every_spelling() {
        let nothing = Facts::default();
        for name in ["INS.05.01.01.png", "ins_05_01_01-capture 2.png", "SC.INS.05.01.mp4", "Preuve INS-02-01-02.docx", "INS.05 étape 1.png"]
        {
            assert_eq!(codes("INS.02.01.01", name, &nothing), ["coherence-name-other-proof"], "{name}");
        }
        for name in [
            "INS.02.01.01.png",
            "INS_02_01.mp4",
            "INS.02.01.01 et INS.05.01.01.pdf",
            "INS 05.png",
            "capture_INS_05_3.png",
            "INS.02.png",
            "2026-02-01.pdf",
            "a.b",
            "",
        ] {
            assert_eq!(codes("INS.02.01.01", name, &nothing), Vec::<String>::new(), "{name}");
        }
        assert_eq!(codes("DMP/AIRS.07.01", "DMP_AIRS.07.01.png", &nothing), Vec::<String>::new());
        assert_eq!(codes("LGC.DMP/UX.10.01.01", "DMP-UX.10.01.01.png", &nothing), Vec::<String>::new());
    }

    #[test]
    fn members_are_judged_together() {
        let member = |name: &str| MemberFacts { name: name.into(), facts: Some(Box::default()), ..MemberFacts::default() };
        let archive = |names: &[&str]| Facts {
            detail: Some(Detail::Archive(ArchiveFacts { members: names.iter().map(|n| member(n)).collect(), ..ArchiveFacts::default() })),
            ..Facts::default()
        };
        assert_eq!(codes("INS.02.01.01", "preuves.zip", &archive(&["INS.02.01.01/a.png", "INS.05.01.01/b.png"])), Vec::<String>::new());
        let signals = found("INS.02.01.01", "preuves.zip", &archive(&["lisez-moi.txt", "x/INS.05.01.01.png"]));
        assert_eq!(signals[0].code.as_str(), "coherence-name-other-proof");
        assert_eq!(signals[0].place, Place::member("x/INS.05.01.01.png"));
    }

    #[test]
    fn slots_and_unknown_proofs_are_not_judged() {
        let catalogue = catalogue();
        let known = Known::new(&catalogue, &canonical);
        let facts = document(&["INS.05.01.01"]);
        for filed in [FiledUnder::Slot("documentation".into()), FiledUnder::Preuve("XX.01".into())] {
            assert!(signals(&known, &filed, "INS.05.01.01.pdf", Some(&facts), &CoherencePolicy::default(), &Work::unbounded()).is_empty());
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_and_names_never_panic(text in "\\PC{0,200}", name in "\\PC{0,80}") {
            let _ = codes("INS.02.01.01", &name, &document(&[&text]));
        }

        #[test]
        fn citing_ones_own_requirement_always_silences(before in "[a-z ]{0,20}", n in 0usize..4) {
            let own = ["INS.02", "INS.02.01", "INS.02.01.01", "SC.INS.02.01.02"][n];
            let facts = document(&[&format!("{before} MSS.01.01.01 {own} MSS.02.01")]);
            proptest::prop_assert_eq!(codes("INS.02.01.01", "a.pdf", &facts), Vec::<String>::new());
        }
    }
}
