//! Facts + pipeline + submission → findings → verdict. Pure: no file, no network, no clock.
//!
//! Goals:
//! 1. Everything a rule says is said here, so that a changed rule is replayed over old facts.
//! 2. A rule makes a [`Signal`]; [`policy`] alone turns signals into findings, applying the pipeline's
//!    severities and the texts. Inspectors' signals and rules' signals take the same way.
//! 3. The order of everything is derived from pipeline, catalogue and submission: same inputs, same report.

pub mod answer;
pub mod coherence;
pub mod completeness;
pub mod documentation;
mod edits;
pub mod file_rules;
pub mod identity;
pub mod look_alikes;
pub mod obsolete_versions;
pub mod policy;
pub mod privacy;
pub mod rounds;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::antivirus::Scan;
use crate::gazelle;
use crate::model::facts::{Facts, INSPECTOR_VERSION, Measured};
use crate::model::gazelle::GazelleFacts;
use crate::model::report::{ItemReport, PipelineRef, Report, SCHEMA, Totals};
use crate::model::submission::{Content, FiledUnder, Item, Submission};
use crate::model::work::Work;
use crate::model::{Signal, Verdict};
use crate::pipeline::guards::PrivacyPolicy;
use crate::pipeline::{Loaded, ids};
use file_rules::{Declared, FileRules};

/// Bumped whenever rules may say something else of the same facts; part of every outcome's identity.
pub const RULES_VERSION: &str = "5";

/// What is known of one item once it has been looked at.
#[derive(Debug, Clone, Default)]
pub struct Examined {
    /// SHA-256, hex.
    pub sha256: Option<String>,
    /// Size, bytes.
    pub size: Option<u64>,
    /// What the file is; items of the same bytes share it.
    pub facts: Option<Arc<Facts>>,
    /// What is already known to be wrong before any rule: unreadable source, sandbox failure, Gazelle.
    pub signals: Vec<Signal>,
    /// Gazelle facts, for links.
    pub gazelle: Option<GazelleFacts>,
    /// What the antivirus said, where one is configured; what matters of it to a report is among the signals.
    pub scan: Option<Scan>,
    /// How long that took. For those who watch; no rule reads it.
    pub scan_took: Duration,
    /// Whether the facts were known before. Likewise.
    pub was_known: bool,
}

impl Examined {
    /// The same, with the facts that the name settles (see [`file_rules::as_named`]); copied only where the name says something else.
    fn as_named(&self, name: &str) -> Cow<'_, Self> {
        match self.facts.as_ref().filter(|facts| file_rules::is_renamed(facts, name)) {
            Some(facts) => Cow::Owned(Self { facts: file_rules::as_named(Some(Arc::clone(facts)), name), ..self.clone() }),
            None => Cow::Borrowed(self),
        }
    }
}

/// One item after the rules that look at one item, and what the rules over all items still need of it.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its report: facts without their content, findings settled, nothing masked yet.
    pub item: ItemReport,
    /// The facts with their content, where a rule over all items reads them.
    pub contents: Option<Arc<Facts>>,
    /// Set where a rule over all items should have read its content, and it was dropped for want of memory.
    pub not_read: bool,
    /// How large the facts are, with their content and without.
    pub measured: (Measured, Measured),
    /// What it was judged by, for the id of the outcome; `None` where it was not examined.
    fingerprint: Option<[u8; 32]>,
    /// What the antivirus said.
    pub scan: Option<Scan>,
    /// How long that took.
    pub scan_took: Duration,
    /// Whether the facts were known before.
    pub was_known: bool,
}

/// Facts without their content, by digest: items of the same bytes share them.
#[derive(Debug, Default)]
pub struct Leans(Mutex<HashMap<String, Lean>>);

#[derive(Debug)]
struct Lean {
    of: Weak<Facts>,
    measured: (Measured, Measured),
    facts: Arc<Facts>,
}

impl Leans {
    fn of(&self, sha256: Option<&str>, whole: &Arc<Facts>, work: &Work) -> (Arc<Facts>, (Measured, Measured)) {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sha256) = sha256
            && let Some(known) = lock().get(sha256)
            && std::ptr::eq(known.of.as_ptr(), Arc::as_ptr(whole))
        {
            return (Arc::clone(&known.facts), known.measured);
        }
        let measured = whole.measure();
        // What was used up is told at the end of the judgement.
        let _ = work.read(usize::try_from(measured.json_bytes).unwrap_or(usize::MAX));
        let mut lean = Arc::new(whole.lean());
        let measured = (measured, lean.measure());
        if let Some(sha256) = sha256 {
            let mut all = lock();
            // Read again meanwhile: the same facts in another place of memory.
            if let Some(known) = all.get(sha256).filter(|known| known.measured == measured) {
                lean = Arc::clone(&known.facts);
            }
            all.insert(sha256.to_owned(), Lean { of: Arc::downgrade(whole), measured, facts: Arc::clone(&lean) });
        }
        (lean, measured)
    }
}

/// Judges a whole submission. `examined` is keyed by item id; an item without entry is undetermined. What comes out counts only
/// where `work` has not ended.
pub fn assess(loaded: &Loaded, submission: &Submission, examined: &BTreeMap<String, Examined>, work: &Work) -> Report {
    let (judge, leans) = (Judge::new(loaded, submission), Leans::default());
    let judged = submission.items.iter().map(|item| Some(judge.item(item, examined.get(&item.id)?, &leans, work))).collect();
    finish(loaded, submission, judged, work)
}

/// Judges items one by one, as they end, by the rules that look at one item.
pub struct Judge<'a> {
    submission: &'a Submission,
    expected: completeness::Expected<'a>,
    known: coherence::Known<'a>,
}

impl<'a> Judge<'a> {
    /// For the items of `submission`.
    pub fn new(loaded: &'a Loaded, submission: &'a Submission) -> Self {
        Self {
            submission,
            expected: completeness::Expected::new(loaded, submission),
            known: coherence::Known::new(&loaded.catalogue.preuves, &ids::canonical),
        }
    }

    /// One item. What comes out counts only where `work` has not ended.
    pub fn item(&self, item: &Item, looked: &Examined, leans: &Leans, work: &Work) -> Judged {
        let (lean, measured) = match &looked.facts {
            None => (None, Default::default()),
            Some(whole) => {
                let (lean, measured) = leans.of(looked.sha256.as_deref(), whole, work);
                (Some(lean), measured)
            }
        };
        let mut judged = judge_item(&self.expected, &self.known, self.submission, item, looked, work);
        judged.facts = file_rules::as_named(lean, &judged.name);
        policy::settle(&mut judged.findings);
        judged.verdict = Verdict::of(judged.findings.iter().map(|f| f.severity));
        let contents = looked.facts.as_ref().filter(|_| self.expected.reads_contents(&item.filed_under));
        Judged {
            contents: contents.and_then(|facts| file_rules::as_named(Some(Arc::clone(facts)), &judged.name)),
            item: judged,
            not_read: false,
            measured,
            fingerprint: Some(fingerprint(looked, &measured.0)),
            scan: looked.scan.clone(),
            scan_took: looked.scan_took,
            was_known: looked.was_known,
        }
    }

    /// An item whose judgement needs more steps than it may take: it is rejected for that, whatever else may be wrong with it.
    pub fn beyond_limit(&self, item: &Item, looked: &Examined, steps: u64) -> Judged {
        let signals = vec![Signal::new("item-judging-limit").arg("steps", steps)];
        let without = Examined { sha256: looked.sha256.clone(), size: looked.size, signals, ..Examined::default() };
        let judged = self.item(item, &without, &Leans::default(), &Work::unbounded());
        Judged { scan: looked.scan.clone(), scan_took: looked.scan_took, was_known: looked.was_known, ..judged }
    }

    /// What a vendor is told of an item before all are known: without its facts, which are not told, and masked.
    pub fn told(&self, judged: &Judged, work: &Work) -> ItemReport {
        let mut told = ItemReport { facts: None, ..judged.item.clone() };
        privacy::redact_item(&mut told, &self.expected.guards().privacy, work);
        told
    }
}

/// The rules over all items, and the report. `judged` stands in the order of the submission's items, `None` for what could not be
/// examined. What comes out counts only where `work` has not ended.
pub fn finish(loaded: &Loaded, submission: &Submission, judged: Vec<Option<Judged>>, work: &Work) -> Report {
    let pipeline = &loaded.pipeline;
    let judge = Judge::new(loaded, submission);
    let expected = &judge.expected;
    let mut totals = Totals::default();
    let (mut items, mut leans, mut prints): (Vec<ItemReport>, Vec<_>, BTreeMap<&str, [u8; 32]>) = Default::default();
    let mut ids_seen = BTreeSet::new();
    let nothing = Examined { signals: vec![Signal::new("item-not-examined")], ..Examined::default() };
    let mut judged = judged.into_iter();
    for item in work.each(&submission.items) {
        let one = judged.next().flatten();
        let one = one.unwrap_or_else(|| Judged { fingerprint: None, ..judge.item(item, &nothing, &Leans::default(), work) });
        let Judged { item: mut report, contents, not_read, fingerprint, .. } = one;
        let mut signals = Vec::new();
        if !ids_seen.insert(item.id.as_str()) {
            signals.push(Signal::new("item-id-repeated").arg("id", item.id.as_str()));
        }
        if not_read {
            signals.push(Signal::new("item-content-not-read"));
        }
        report.findings.extend(signals.iter().filter_map(|s| policy::finding(s, &pipeline.severities)));
        prints.extend(fingerprint.map(|print| (item.id.as_str(), print)));
        leans.push(report.facts.clone());
        report.facts = contents.or(report.facts);
        items.push(report);
    }
    completeness::duplicates(expected, &mut items, work);
    let alike = look_alikes::signals(&items, &|filed| expected.exigence(filed), &pipeline.guards.look_alikes, work);
    for (n, signal) in alike {
        items[n].findings.extend(policy::finding(&signal, &pipeline.severities));
    }
    let reading = completeness::read_slots(expected, submission, &mut items, work);
    // Every rule that reads content has run.
    items.iter_mut().zip(leans).for_each(|(item, lean)| item.facts = lean);
    for item in &mut items {
        policy::settle(&mut item.findings);
        item.verdict = Verdict::of(item.findings.iter().map(|f| f.severity));
    }
    items.sort_by_cached_key(|item| expected.display_order(&item.filed_under, &item.id));

    let mut signals = identity::signals(loaded, submission);
    signals.extend(reading.signals);
    signals.extend(expected.missing(&items, work));
    let mut findings: Vec<_> = signals.iter().filter_map(|s| policy::finding(s, &pipeline.severities)).collect();
    policy::settle(&mut findings);

    for item in &items {
        totals.items += 1;
        totals.bytes += item.size.unwrap_or(0);
        if item.link {
            totals.links += 1;
        } else {
            totals.files += 1;
        }
        *totals.verdicts.entry(item.verdict.as_str().to_owned()).or_default() += 1;
        item.findings.iter().for_each(|f| totals.count(f));
    }
    findings.iter().for_each(|f| totals.count(f));
    let preuves = expected.preuve_reports(&items, work);
    totals.preuves_expected = u32::try_from(preuves.len()).unwrap_or(u32::MAX);
    totals.preuves_provided = u32::try_from(preuves.iter().filter(|p| !p.items.is_empty()).count()).unwrap_or(u32::MAX);
    let verdict = Verdict::of(items.iter().flat_map(|i| &i.findings).chain(&findings).map(|f| f.severity));
    let mut report = Report {
        schema: SCHEMA.into(),
        id: String::new(),
        producer: format!("greffier {}, inspectors {INSPECTOR_VERSION}, rules {RULES_VERSION}", env!("CARGO_PKG_VERSION")),
        pipeline: PipelineRef {
            id: pipeline.id.clone(),
            version: pipeline.version.clone(),
            title: pipeline.title.clone(),
            profiles: submission
                .candidature
                .profiles
                .iter()
                .filter_map(|chosen| Some((chosen.clone(), pipeline.profile(chosen)?.title.clone())))
                .collect(),
            sha256: loaded.sha256.clone(),
            catalogue_version: loaded.catalogue.version.clone(),
            catalogue_source: loaded.catalogue.source.clone(),
        },
        candidature: submission.candidature.clone(),
        stage: submission.stage.clone(),
        revision: submission.revision,
        submitted_at: submission.submitted_at.clone(),
        verdict,
        findings,
        chapters: expected.chapter_reports(&preuves),
        slots: expected.slot_reports(&items, work),
        preuves,
        obsolete_versions: reading.obsolete_versions,
        obsolete_columns: reading.obsolete_columns,
        documentation: reading.documentation,
        limitations: Vec::new(),
        round: None,
        items,
        totals,
    };
    report.id = derived_id(loaded, submission, &prints);
    // Last: every rule above reads what files really say.
    let facts: Vec<_> = report.items.iter_mut().map(|item| item.facts.take()).collect();
    privacy::redact_report(&mut report, &pipeline.guards.privacy, work);
    // Facts that items share are masked once, and stay shared.
    let mut masked: HashMap<*const Facts, Arc<Facts>> = HashMap::new();
    for (item, facts) in report.items.iter_mut().zip(&facts) {
        let Some(facts) = facts else { continue };
        let shared = masked.entry(Arc::as_ptr(facts)).or_insert_with(|| {
            let mut facts = Facts::clone(facts);
            privacy::redact_facts(&mut facts, &pipeline.guards.privacy, work);
            Arc::new(facts)
        });
        item.facts = Some(Arc::clone(shared));
    }
    report
}

fn judge_item(
    expected: &completeness::Expected<'_>,
    known: &coherence::Known<'_>,
    submission: &Submission,
    item: &Item,
    looked: &Examined,
    work: &Work,
) -> ItemReport {
    let named;
    let looked = match &item.content {
        Content::File(file) => {
            named = looked.as_named(&file.name);
            &*named
        }
        Content::Link(_) => looked,
    };
    let mut signals = looked.signals.clone();
    signals.extend(expected.filing(item));
    let filed_under = expected.canonical(&item.filed_under);
    let (name, link) = match &item.content {
        Content::File(file) => {
            let rules = expected.file_rules(&item.filed_under);
            let declared =
                Declared { name: &file.name, size: file.size, media_type: file.media_type.as_deref(), sha256: file.sha256.as_deref() };
            signals.extend(file_rules::signals(&declared, looked, rules.as_ref(), work));
            let guards = expected.guards();
            signals.extend(privacy::signals(&file.name, looked.facts.as_deref(), &guards.privacy, work));
            signals.extend(coherence::signals(known, &filed_under, &file.name, looked.facts.as_deref(), &guards.coherence, work));
            (file.name.clone(), false)
        }
        Content::Link(link) => {
            if !expected.accepts_links(&item.filed_under) {
                signals.push(Signal::new("link-not-accepted"));
            }
            if let Some(facts) = &looked.gazelle {
                signals.extend(gazelle::assess(facts, expected.gazelle_policy(), None, until_deposit(submission)));
            }
            let shown = looked.gazelle.as_ref().map_or_else(|| gazelle::redact(&link.url), |g| g.link.shown.clone());
            (shown, true)
        }
    };
    let mut findings: Vec<_> = signals.iter().filter_map(|s| policy::finding(s, expected.severities())).collect();
    if let Some(facts) = &looked.facts {
        findings.extend(policy::findings_of_facts(facts, expected.severities(), work));
    }
    ItemReport {
        id: item.id.clone(),
        filed_under,
        name,
        link,
        sha256: looked.sha256.clone(),
        size: looked.size,
        verdict: Verdict::Accepted,
        findings,
        path: None,
        withheld: None,
        facts: None,
        facts_of: None,
        gazelle: looked.gazelle.clone(),
    }
}

/// A report must not be younger than the deposit it belongs to.
fn until_deposit(submission: &Submission) -> Option<(Timestamp, Timestamp)> {
    let deposit = submission.submitted_at.as_ref()?.parse().ok()?;
    Some((Timestamp::UNIX_EPOCH, deposit))
}

/// Judges one loose file, without a candidature: what `greffier inspect` shows.
pub fn assess_loose(
    name: &str,
    looked: &Examined,
    rules: Option<&FileRules<'_>>,
    severities: &policy::Severities,
    work: &Work,
) -> ItemReport {
    let named = looked.as_named(name);
    let looked = &*named;
    let declared = Declared { name, size: None, media_type: None, sha256: None };
    let mut signals = looked.signals.clone();
    signals.extend(file_rules::signals(&declared, looked, rules, work));
    let private = PrivacyPolicy::default();
    signals.extend(privacy::signals(name, looked.facts.as_deref(), &private, work));
    let mut findings: Vec<_> = signals.iter().filter_map(|s| policy::finding(s, severities)).collect();
    if let Some(facts) = &looked.facts {
        findings.extend(policy::findings_of_facts(facts, severities, work));
    }
    policy::settle(&mut findings);
    let mut item = ItemReport {
        id: name.to_owned(),
        filed_under: FiledUnder::Slot(String::new()),
        name: name.to_owned(),
        link: false,
        sha256: looked.sha256.clone(),
        size: looked.size,
        verdict: Verdict::of(findings.iter().map(|f| f.severity)),
        findings,
        path: None,
        withheld: None,
        facts: looked.facts.clone(),
        facts_of: None,
        gazelle: None,
    };
    privacy::redact_item(&mut item, &private, work);
    item.id.clone_from(&item.name);
    item
}

/// The id of an outcome: a digest over everything it follows from, in a fixed order. Two runs over the same
/// inputs get the same id; any difference in rules, catalogue, bytes or facts gives another.
fn derived_id(loaded: &Loaded, submission: &Submission, prints: &BTreeMap<&str, [u8; 32]>) -> String {
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(SCHEMA.as_bytes());
    field(env!("CARGO_PKG_VERSION").as_bytes());
    field(INSPECTOR_VERSION.as_bytes());
    field(RULES_VERSION.as_bytes());
    field(loaded.sha256.as_bytes());
    field(loaded.catalogue_sha256.as_bytes());
    // A struct of plain values always serialises; an empty field would still be a distinct, stable input.
    field(&serde_json::to_vec(submission).unwrap_or_default());
    for (id, print) in prints {
        field(id.as_bytes());
        field(print);
    }
    hex::encode(hasher.finalize())
}

/// A digest over everything that an item is judged by.
fn fingerprint(looked: &Examined, facts: &Measured) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(looked.sha256.as_deref().unwrap_or("").as_bytes());
    field(&facts.sha256);
    field(&serde_json::to_vec(&looked.signals).unwrap_or_default());
    field(&serde_json::to_vec(&looked.gazelle).unwrap_or_default());
    hasher.finalize().into()
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod guards_tests;
