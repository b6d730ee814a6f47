//! Revision N against an earlier one. Pure: two reports in, their difference out.
//!
//! Goals:
//! 1. What did not change is not judged twice by a person: same place and same bytes carry the verdict over.
//! 2. An item is followed by what it is before what it is called: bytes first, then id, then name.
//! 3. What the verifier asked for is listed with its answer; a request without answer is a warning.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::report::{ItemReport, Report};
use crate::model::rounds::{Answer, Change, FindingRef, ItemChange, ItemRef, RequestAnswer, RoundDiff};
use crate::model::submission::{ChangeRequest, FiledUnder};
use crate::model::{Finding, Signal, Verdict};

use super::coherence::Canonical;
use super::policy::{self, Severities};

/// Why two reports cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoundError {
    /// Of somebody else.
    #[error("ROUND-OTHER-CANDIDATURE: the earlier report is about candidature `{previous}`, this one about `{current}`")]
    OtherCandidature {
        /// Of the earlier report.
        previous: String,
        /// Of this one.
        current: String,
    },
    /// Of another démarche.
    #[error("ROUND-OTHER-DEMARCHE: the earlier report follows `{previous}`, this one `{current}`")]
    OtherDemarche {
        /// Of the earlier report.
        previous: String,
        /// Of this one.
        current: String,
    },
    /// Of another part of the journey.
    #[error("ROUND-OTHER-STAGE: the earlier report is about another stage or chapter")]
    OtherStage,
}

/// The difference between two reports of the same deposit.
///
/// # Errors
/// [`RoundError`] when they are not about the same deposit.
pub fn diff(previous: &Report, current: &Report, requests: &[ChangeRequest], canonical: Canonical<'_>) -> Result<RoundDiff, RoundError> {
    comparable(previous, current)?;
    let pairs = pair(&previous.items, &current.items);
    let mut round = RoundDiff {
        previous_id: previous.id.clone(),
        previous_revision: previous.revision,
        same_rules: previous.pipeline.sha256 == current.pipeline.sha256 && previous.producer == current.producer,
        ..RoundDiff::default()
    };
    for (before, now, change) in pairs {
        let before = before.map(|n| &previous.items[n]);
        let now = now.map(|n| &current.items[n]);
        round.counts.count(change);
        compare_findings(
            before.map_or(&[], |i| &i.findings),
            before.map(|i| i.id.as_str()),
            now.map_or(&[], |i| &i.findings),
            now.map(|i| i.id.as_str()),
            &mut round,
        );
        round.items.push(ItemChange { change, now: now.map(reference), before: before.map(reference) });
    }
    compare_findings(&previous.findings, None, &current.findings, None, &mut round);
    let provided =
        |report: &Report| -> BTreeMap<String, bool> { report.preuves.iter().map(|p| (p.id.clone(), !p.items.is_empty())).collect() };
    let (was, is) = (provided(previous), provided(current));
    for preuve in &current.preuves {
        match (was.get(&preuve.id).copied().unwrap_or(false), is[&preuve.id]) {
            (false, true) => round.newly_provided.push(preuve.id.clone()),
            (true, false) => round.newly_missing.push(preuve.id.clone()),
            _ => {}
        }
    }
    let touched = touched(&round.items);
    round.requests = requests.iter().map(|r| answer(r, &touched, canonical)).collect();
    Ok(round)
}

/// The signals of a round: requests that nothing answers.
pub fn signals(round: &RoundDiff) -> Vec<Signal> {
    let unanswered = round.requests.iter().filter(|r| r.answer == Answer::Unanswered);
    unanswered.map(|r| Signal::new("request-unanswered").arg("preuve", r.preuve.as_str()).arg("text", r.text.as_str())).collect()
}

/// Adds to `report` what changed since `previous`: the difference, its findings, and their weight in the verdict and
/// counts. The outcome now follows from the earlier report too, and so does its id.
///
/// # Errors
/// [`RoundError`] when they are not about the same deposit; `report` is then left as it was.
pub fn attach(
    report: &mut Report,
    previous: &Report,
    requests: &[ChangeRequest],
    canonical: Canonical<'_>,
    severities: &Severities,
) -> Result<(), RoundError> {
    use sha2::{Digest as _, Sha256};
    let round = diff(previous, report, requests, canonical)?;
    let findings: Vec<_> = signals(&round).iter().filter_map(|s| policy::finding(s, severities)).collect();
    findings.iter().for_each(|f| report.totals.count(f));
    report.findings.extend(findings);
    policy::settle(&mut report.findings);
    report.verdict = Verdict::of(report.items.iter().flat_map(|i| &i.findings).chain(&report.findings).map(|f| f.severity));
    report.id = hex::encode(Sha256::digest(format!("{}\nround\n{}", report.id, previous.id)));
    report.round = Some(round);
    Ok(())
}

fn comparable(previous: &Report, current: &Report) -> Result<(), RoundError> {
    let (was, is) = (previous.candidature.number.as_str(), current.candidature.number.as_str());
    // A vendor's own folder may have no number yet.
    if !was.is_empty() && !is.is_empty() && was != is {
        return Err(RoundError::OtherCandidature { previous: was.into(), current: is.into() });
    }
    if previous.pipeline.id != current.pipeline.id {
        return Err(RoundError::OtherDemarche { previous: previous.pipeline.id.clone(), current: current.pipeline.id.clone() });
    }
    if previous.stage != current.stage {
        return Err(RoundError::OtherStage);
    }
    Ok(())
}

fn reference(item: &ItemReport) -> ItemRef {
    ItemRef { id: item.id.clone(), place: item.filed_under.clone(), name: item.name.clone(), verdict: item.verdict }
}

/// Items that are listed as answering one request: there may be many requests about one place, and many items there.
const MAX_ANSWERING: usize = 200;

/// What an item is: its bytes, or for a link its address (without share key). `None` where it could not be had.
fn substance(item: &ItemReport) -> Option<(bool, &str)> {
    if item.link { Some((true, item.name.as_str())) } else { item.sha256.as_deref().map(|digest| (false, digest)) }
}

type Pairs = Vec<(Option<usize>, Option<usize>, Change)>;

/// What two items may have in common.
#[derive(Debug, Clone, Copy)]
enum Trait {
    Substance,
    Place,
    Id,
    Name,
}

/// What must agree for two items to be the same one, the surest first; each pass takes what the one before left.
const PASSES: [&[Trait]; 8] = [
    &[Trait::Substance, Trait::Place, Trait::Id],
    &[Trait::Substance, Trait::Place, Trait::Name],
    &[Trait::Substance, Trait::Place],
    &[Trait::Substance, Trait::Id],
    &[Trait::Substance, Trait::Name],
    &[Trait::Substance],
    &[Trait::Id],
    &[Trait::Place, Trait::Name],
];

/// Follows every item from one report to the other: present ones in their order, then removed ones in theirs.
fn pair(previous: &[ItemReport], current: &[ItemReport]) -> Pairs {
    let mut matching = Matching { of_now: vec![None; current.len()], taken: vec![false; previous.len()] };
    for traits in PASSES {
        matching.pass(previous, current, traits);
    }
    let mut pairs: Pairs = Vec::with_capacity(current.len());
    for (n, now) in current.iter().enumerate() {
        let change = match matching.of_now[n].map(|b| &previous[b]) {
            None => Change::Added,
            Some(before) if substance(before).is_none() || substance(before) != substance(now) => Change::Changed,
            Some(before) if before.filed_under == now.filed_under => Change::Unchanged,
            Some(_) => Change::Moved,
        };
        pairs.push((matching.of_now[n], Some(n), change));
    }
    pairs.extend((0..previous.len()).filter(|b| !matching.taken[*b]).map(|b| (Some(b), None, Change::Removed)));
    pairs
}

struct Matching {
    /// The earlier item of each present one.
    of_now: Vec<Option<usize>>,
    taken: Vec<bool>,
}

impl Matching {
    fn pass(&mut self, previous: &[ItemReport], current: &[ItemReport], traits: &[Trait]) {
        let mut free: BTreeMap<Vec<String>, Vec<usize>> = BTreeMap::new();
        for (b, item) in previous.iter().enumerate().rev().filter(|(b, _)| !self.taken[*b]) {
            if let Some(key) = key(item, traits) {
                free.entry(key).or_default().push(b);
            }
        }
        for (n, item) in current.iter().enumerate() {
            if self.of_now[n].is_none()
                && let Some(b) = key(item, traits).and_then(|k| free.get_mut(&k)).and_then(Vec::pop)
            {
                self.of_now[n] = Some(b);
                self.taken[b] = true;
            }
        }
    }
}

/// The values of some traits; `None` where the item lacks one.
fn key(item: &ItemReport, traits: &[Trait]) -> Option<Vec<String>> {
    let value = |t: &Trait| match t {
        Trait::Substance => substance(item).map(|(link, what)| format!("{link} {what}")),
        Trait::Place => Some(format!("{:?}", item.filed_under)),
        Trait::Id => Some(item.id.clone()),
        Trait::Name => Some(item.name.clone()),
    };
    traits.iter().map(value).collect()
}

/// Sorts findings of one item (or of the whole) into resolved, new and still there; equal ones are counted off.
fn compare_findings(before: &[Finding], before_item: Option<&str>, now: &[Finding], now_item: Option<&str>, round: &mut RoundDiff) {
    let mut left: BTreeMap<(String, String, Option<String>), Vec<&Finding>> = BTreeMap::new();
    let key = |f: &Finding, whole: bool| {
        // A place always serialises; it is compared as it is written.
        let place = serde_json::to_string(&f.place).unwrap_or_default();
        (f.code.to_string(), place, whole.then(|| subject(f)).flatten())
    };
    let whole = before_item.is_none() && now_item.is_none();
    for finding in before.iter().rev() {
        left.entry(key(finding, whole)).or_default().push(finding);
    }
    for finding in now {
        let was = left.get_mut(&key(finding, whole)).and_then(Vec::pop);
        let list = if was.is_some() { &mut round.still } else { &mut round.new };
        list.push(finding_ref(finding, now_item));
    }
    // In the order in which they were reported, not in that of the keys.
    let left: BTreeSet<*const Finding> = left.into_values().flatten().map(std::ptr::from_ref).collect();
    let gone: Vec<&Finding> = before.iter().filter(|f| left.contains(&std::ptr::from_ref(*f))).collect();
    round.resolved.extend(gone.into_iter().map(|f| finding_ref(f, before_item)));
}

fn finding_ref(finding: &Finding, item: Option<&str>) -> FindingRef {
    FindingRef {
        code: finding.code.clone(),
        severity: finding.severity,
        summary: finding.summary.clone(),
        item: item.map(str::to_owned),
        subject: if item.is_none() { subject(finding) } else { None },
        place: finding.place.clone(),
    }
}

/// What a finding about the whole submission is about.
fn subject(finding: &Finding) -> Option<String> {
    ["preuve", "id", "identifier", "profile", "title_fr"].iter().find_map(|k| finding.args.get(*k)).map(ToString::to_string)
}

/// What changed at a place.
#[derive(Debug, Default)]
struct Touched<'a> {
    /// Ids of the items that stand there now.
    now: Vec<&'a str>,
}

/// Places where an item changed, came or went: made once for all requests.
fn touched(items: &[ItemChange]) -> BTreeMap<&FiledUnder, Touched<'_>> {
    let mut touched: BTreeMap<&FiledUnder, Touched<'_>> = BTreeMap::new();
    for change in items.iter().filter(|c| c.change != Change::Unchanged) {
        if let Some(before) = &change.before {
            touched.entry(&before.place).or_default();
        }
        if let Some(now) = &change.now {
            touched.entry(&now.place).or_default().now.push(&now.id);
        }
    }
    touched
}

fn answer(request: &ChangeRequest, touched: &BTreeMap<&FiledUnder, Touched<'_>>, canonical: Canonical<'_>) -> RequestAnswer {
    let asked = canonical(&request.preuve).unwrap_or_else(|| request.preuve.clone());
    let places = [FiledUnder::Preuve(asked.clone()), FiledUnder::Slot(request.preuve.clone())];
    let there: Vec<&Touched<'_>> = places.iter().filter_map(|place| touched.get(place)).collect();
    let answering: Vec<String> = there.iter().flat_map(|t| &t.now).take(MAX_ANSWERING).map(|id| (*id).to_owned()).collect();
    let answer = match (answering.is_empty(), there.is_empty()) {
        (false, _) => Answer::Answered,
        (true, false) => Answer::Removed,
        (true, true) => Answer::Unanswered,
    };
    // One line: a request typed on several would otherwise show its breaks as control characters.
    let text = request.text.split_whitespace().collect::<Vec<_>>().join(" ");
    RequestAnswer { preuve: asked, text: crate::model::text::display_safe(&text, 2000), answer, items: answering }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::fixtures::{item, report, with_finding};
    use crate::model::Place;
    use crate::model::rounds::RoundCounts;

    fn canonical(id: &str) -> Option<String> {
        Some(id.strip_prefix("SC.").unwrap_or(id).to_owned())
    }

    fn between(before: Vec<ItemReport>, now: Vec<ItemReport>) -> RoundDiff {
        diff(&report(1, before), &report(2, now), &[], &canonical).unwrap()
    }

    fn changes(round: &RoundDiff) -> Vec<(Change, Option<&str>, Option<&str>)> {
        fn id(item: &Option<ItemRef>) -> Option<&str> {
            item.as_ref().map(|i| i.id.as_str())
        }
        round.items.iter().map(|c| (c.change, id(&c.before), id(&c.now))).collect()
    }

    #[test]
    fn items_are_followed_by_bytes_then_id_then_name() {
        let round = between(
            vec![
                item("a", "INS.01.01.01", "a.png", "aa"),
                item("b", "INS.01.01.01", "b.png", "bb"),
                item("c", "INS.02.01.01", "c.png", "cc"),
                item("d", "INS.02.01.01", "d.png", "dd"),
                item("e", "INS.02.01.01", "e.png", "ee"),
            ],
            vec![
                item("a", "INS.01.01.01", "a.png", "aa"),
                item("b", "INS.01.01.01", "b2.png", "b2"),
                item("x", "INS.03.01.01", "c.png", "cc"),
                item("y", "INS.02.01.01", "d.png", "d2"),
                item("z", "INS.04.01.01", "z.png", "zz"),
            ],
        );
        assert_eq!(
            changes(&round),
            [
                (Change::Unchanged, Some("a"), Some("a")),
                (Change::Changed, Some("b"), Some("b")),
                (Change::Moved, Some("c"), Some("x")),
                (Change::Changed, Some("d"), Some("y")),
                (Change::Added, None, Some("z")),
                (Change::Removed, Some("e"), None),
            ]
        );
        assert_eq!(round.counts, RoundCounts { unchanged: 1, changed: 2, added: 1, moved: 1, removed: 1 });
    }

    #[test]
    fn a_file_replaced_by_another_ones_bytes_is_followed_to_its_new_place() {
        let round = between(
            vec![item("a", "INS.01.01.01", "a.png", "aa"), item("b", "INS.02.01.01", "b.png", "bb")],
            vec![item("a", "INS.01.01.01", "a.png", "bb"), item("b", "INS.02.01.01", "b.png", "b2")],
        );
        // b's bytes now stand at a; a's own are gone, and b's place holds something new under a name that was taken.
        assert_eq!(changes(&round)[0], (Change::Moved, Some("b"), Some("a")));
    }

    #[test]
    fn an_item_whose_bytes_could_not_be_had_is_never_carried_over() {
        let unread = || ItemReport { sha256: None, ..item("a", "INS.01.01.01", "a.png", "") };
        assert_eq!(changes(&between(vec![unread()], vec![unread()])), [(Change::Changed, Some("a"), Some("a"))]);
        let link = || ItemReport { link: true, ..unread() };
        assert_eq!(changes(&between(vec![link()], vec![link()])), [(Change::Unchanged, Some("a"), Some("a"))]);
    }

    #[test]
    fn findings_are_resolved_new_or_still_there() {
        let codes = |list: &[FindingRef]| list.iter().map(|f| (f.code.to_string(), f.item.clone())).collect::<Vec<_>>();
        let before = vec![
            with_finding(
                with_finding(item("a", "INS.01.01.01", "a.png", "aa"), "file-empty", Place::page(1)),
                "file-empty",
                Place::page(1),
            ),
            with_finding(item("b", "INS.01.01.01", "b.png", "bb"), "zip-encrypted", Place::default()),
        ];
        let now = vec![with_finding(
            with_finding(item("a", "INS.01.01.01", "a.png", "a2"), "file-empty", Place::page(1)),
            "zip-encrypted",
            Place::default(),
        )];
        let round = between(before, now);
        assert_eq!(codes(&round.still), [("file-empty".to_owned(), Some("a".to_owned()))]);
        assert_eq!(codes(&round.new), [("zip-encrypted".to_owned(), Some("a".to_owned()))]);
        assert_eq!(
            codes(&round.resolved),
            [("file-empty".to_owned(), Some("a".to_owned())), ("zip-encrypted".to_owned(), Some("b".to_owned()))]
        );
    }

    #[test]
    fn proofs_newly_provided_and_newly_missing_are_named() {
        let round = between(
            vec![item("a", "INS.01.01.01", "a.png", "aa"), item("b", "INS.02.01.01", "b.png", "bb")],
            vec![item("a", "INS.01.01.01", "a.png", "aa"), item("c", "INS.03.01.01", "c.png", "cc")],
        );
        assert_eq!(round.newly_provided, ["INS.03.01.01"]);
        assert_eq!(round.newly_missing, ["INS.02.01.01"]);
    }

    #[test]
    fn requests_are_answered_by_a_change_at_their_place() {
        let requests = ["SC.INS.01.01.01", "INS.02.01.01", "INS.03.01.01"]
            .map(|preuve| ChangeRequest { preuve: preuve.into(), text: "Illisible".into() });
        let before = report(
            1,
            vec![
                item("a", "INS.01.01.01", "a.png", "aa"),
                item("b", "INS.02.01.01", "b.png", "bb"),
                item("c", "INS.03.01.01", "c.png", "cc"),
                item("d", "INS.03.01.01", "d.png", "dd"),
            ],
        );
        let mut now = report(
            2,
            vec![
                item("a", "INS.01.01.01", "a.png", "a2"),
                item("b", "INS.02.01.01", "b.png", "bb"),
                item("c", "INS.03.01.01", "c.png", "cc"),
            ],
        );
        let id = now.id.clone();
        attach(&mut now, &before, &requests, &canonical, &Severities::new()).unwrap();
        let round = now.round.as_ref().unwrap();
        let answers: Vec<_> = round.requests.iter().map(|r| (r.preuve.as_str(), r.answer, r.items.clone())).collect();
        assert_eq!(
            answers,
            [
                ("INS.01.01.01", Answer::Answered, vec!["a".to_owned()]),
                ("INS.02.01.01", Answer::Unanswered, vec![]),
                ("INS.03.01.01", Answer::Removed, vec![]),
            ]
        );
        assert_eq!(now.findings.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["request-unanswered"]);
        assert_eq!(now.verdict, Verdict::AcceptedWithWarnings);
        assert_eq!(now.totals.severities["warning"], 1);
        assert_ne!(now.id, id);
    }

    #[test]
    fn reports_of_different_deposits_are_not_compared() {
        let one = report(1, vec![]);
        let mut other = report(2, vec![]);
        other.candidature.number = "ABCDEFGHIJ".into();
        assert!(matches!(diff(&one, &other, &[], &canonical), Err(RoundError::OtherCandidature { .. })));
        let mut other = report(2, vec![]);
        other.stage = crate::model::submission::Stage::Eligibility;
        assert_eq!(diff(&one, &other, &[], &canonical), Err(RoundError::OtherStage));
        let mut other = report(2, vec![]);
        other.pipeline.id = "dpi".into();
        assert!(matches!(diff(&one, &other, &[], &canonical), Err(RoundError::OtherDemarche { .. })));
    }

    proptest::proptest! {
        #[test]
        fn every_item_is_accounted_for_once(before in deposit(), now in deposit()) {
            let round = between(before.clone(), now.clone());
            let of = |side: fn(&ItemChange) -> &Option<ItemRef>| round.items.iter().filter_map(|c| side(c).clone()).count();
            proptest::prop_assert_eq!(of(|c| &c.now), now.len());
            proptest::prop_assert_eq!(of(|c| &c.before), before.len());
            let counts = &round.counts;
            let counted = counts.unchanged + counts.changed + counts.added + counts.moved + counts.removed;
            proptest::prop_assert_eq!(counted as usize, round.items.len());
        }

        #[test]
        fn nothing_changed_is_all_unchanged(items in deposit()) {
            let round = between(items.clone(), items.clone());
            proptest::prop_assert_eq!(round.counts.unchanged as usize, items.len());
            proptest::prop_assert!(round.new.is_empty() && round.resolved.is_empty());
        }
    }

    fn deposit() -> impl proptest::strategy::Strategy<Value = Vec<ItemReport>> {
        use proptest::prelude::*;
        proptest::collection::vec((0u8..4, 0u8..3, 0u8..3, 0u8..4), 0..8).prop_map(|items| {
            let one = |(n, (id, place, name, bytes)): (usize, (u8, u8, u8, u8))| {
                // Ids are unique in a submission; what repeats is places, names and bytes.
                item(&format!("{id}-{n}"), &format!("INS.0{place}.01.01"), &format!("{name}.png"), &format!("{bytes}"))
            };
            items.into_iter().enumerate().map(one).collect()
        })
    }
}
