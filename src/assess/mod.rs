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
pub mod file_rules;
pub mod identity;
pub mod look_alikes;
pub mod obsolete_versions;
pub mod policy;
pub mod privacy;
pub mod rounds;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::antivirus::Scan;
use crate::gazelle;
use crate::model::facts::{Facts, INSPECTOR_VERSION};
use crate::model::gazelle::GazelleFacts;
use crate::model::report::{ItemReport, PipelineRef, Report, SCHEMA, Totals};
use crate::model::submission::{Content, FiledUnder, Item, Submission};
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
    /// What the file is.
    pub facts: Option<Facts>,
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
            Some(facts) => Cow::Owned(Self { facts: file_rules::as_named(Some(facts.clone()), name), ..self.clone() }),
            None => Cow::Borrowed(self),
        }
    }
}

/// Judges a whole submission. `examined` is keyed by item id; an item without entry is undetermined.
pub fn assess(loaded: &Loaded, submission: &Submission, examined: &BTreeMap<String, Examined>) -> Report {
    let pipeline = &loaded.pipeline;
    let expected = completeness::Expected::new(loaded, submission);
    let known = coherence::Known::new(&loaded.catalogue.preuves, &ids::canonical);
    let mut totals = Totals::default();
    let mut items: Vec<ItemReport> = Vec::new();
    for (position, item) in submission.items.iter().enumerate() {
        let nothing = Examined { signals: vec![Signal::new("item-not-examined")], ..Examined::default() };
        let looked = examined.get(&item.id).unwrap_or(&nothing);
        items.push(judge_item(&expected, &known, submission, item, position, looked));
    }
    completeness::duplicates(&expected, &mut items);
    let alike = look_alikes::signals(&items, &|filed| expected.exigence(filed), &pipeline.guards.look_alikes);
    for (n, signal) in alike {
        items[n].findings.extend(policy::finding(&signal, &pipeline.severities));
    }
    let reading = completeness::read_slots(&expected, submission, &mut items);
    for item in &mut items {
        policy::settle(&mut item.findings);
        item.verdict = Verdict::of(item.findings.iter().map(|f| f.severity));
    }
    items.sort_by_key(|item| expected.display_order(&item.filed_under, &item.id));

    let mut signals = identity::signals(loaded, submission);
    signals.extend(reading.signals);
    signals.extend(expected.missing(&items));
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
    let preuves = expected.preuve_reports(&items);
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
        slots: expected.slot_reports(&items),
        preuves,
        obsolete_versions: reading.obsolete_versions,
        obsolete_columns: reading.obsolete_columns,
        documentation: reading.documentation,
        limitations: Vec::new(),
        round: None,
        items,
        totals,
    };
    report.id = derived_id(loaded, submission, examined);
    // Last: every rule above reads what files really say.
    privacy::redact_report(&mut report, &pipeline.guards.privacy);
    report
}

/// Judges items one by one, as they end, before [`assess`] has seen them all: what a vendor is told meanwhile.
pub struct Preview<'a> {
    submission: &'a Submission,
    expected: completeness::Expected<'a>,
    known: coherence::Known<'a>,
    positions: BTreeMap<&'a str, usize>,
}

impl<'a> Preview<'a> {
    /// For the items of `submission`.
    pub fn new(loaded: &'a Loaded, submission: &'a Submission) -> Self {
        Self {
            submission,
            expected: completeness::Expected::new(loaded, submission),
            known: coherence::Known::new(&loaded.catalogue.preuves, &ids::canonical),
            positions: submission.items.iter().enumerate().map(|(n, item)| (item.id.as_str(), n)).collect(),
        }
    }

    /// One item by itself, without its facts: rules that compare items come later. `None` for an id that is not there.
    pub fn item(&self, id: &str, looked: &Examined) -> Option<ItemReport> {
        let position = *self.positions.get(id)?;
        let item = self.submission.items.get(position)?;
        let mut judged = judge_item(&self.expected, &self.known, self.submission, item, position, looked);
        policy::settle(&mut judged.findings);
        judged.verdict = Verdict::of(judged.findings.iter().map(|f| f.severity));
        // Not told here, and long to mask.
        judged.facts = None;
        privacy::redact_item(&mut judged, &self.expected.guards().privacy);
        Some(judged)
    }
}

fn judge_item(
    expected: &completeness::Expected<'_>,
    known: &coherence::Known<'_>,
    submission: &Submission,
    item: &Item,
    position: usize,
    looked: &Examined,
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
    if submission.items[..position].iter().any(|other| other.id == item.id) {
        signals.push(Signal::new("item-id-repeated").arg("id", item.id.as_str()));
    }
    signals.extend(expected.filing(item));
    let filed_under = expected.canonical(&item.filed_under);
    let (name, link) = match &item.content {
        Content::File(file) => {
            let rules = expected.file_rules(&item.filed_under);
            let declared =
                Declared { name: &file.name, size: file.size, media_type: file.media_type.as_deref(), sha256: file.sha256.as_deref() };
            signals.extend(file_rules::signals(&declared, looked, rules.as_ref()));
            let guards = expected.guards();
            signals.extend(privacy::signals(&file.name, looked.facts.as_ref(), &guards.privacy));
            signals.extend(coherence::signals(known, &filed_under, &file.name, looked.facts.as_ref(), &guards.coherence));
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
        findings.extend(policy::findings_of_facts(facts, expected.severities()));
    }
    let facts = looked.facts.clone();
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
        facts,
        gazelle: looked.gazelle.clone(),
    }
}

/// A report must not be younger than the deposit it belongs to.
fn until_deposit(submission: &Submission) -> Option<(Timestamp, Timestamp)> {
    let deposit = submission.submitted_at.as_ref()?.parse().ok()?;
    Some((Timestamp::UNIX_EPOCH, deposit))
}

/// Judges one loose file, without a candidature: what `greffier inspect` shows.
pub fn assess_loose(name: &str, looked: &Examined, rules: Option<&FileRules<'_>>, severities: &policy::Severities) -> ItemReport {
    let named = looked.as_named(name);
    let looked = &*named;
    let declared = Declared { name, size: None, media_type: None, sha256: None };
    let mut signals = looked.signals.clone();
    signals.extend(file_rules::signals(&declared, looked, rules));
    let private = PrivacyPolicy::default();
    signals.extend(privacy::signals(name, looked.facts.as_ref(), &private));
    let mut findings: Vec<_> = signals.iter().filter_map(|s| policy::finding(s, severities)).collect();
    if let Some(facts) = &looked.facts {
        findings.extend(policy::findings_of_facts(facts, severities));
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
        gazelle: None,
    };
    privacy::redact_item(&mut item, &private);
    item.id.clone_from(&item.name);
    item
}

/// The id of an outcome: a digest over everything it follows from, in a fixed order. Two runs over the same
/// inputs get the same id; any difference in rules, catalogue, bytes or facts gives another.
fn derived_id(loaded: &Loaded, submission: &Submission, examined: &BTreeMap<String, Examined>) -> String {
    use sha2::{Digest as _, Sha256};
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
    for (id, looked) in examined {
        field(id.as_bytes());
        field(looked.sha256.as_deref().unwrap_or("").as_bytes());
        field(&serde_json::to_vec(&looked.facts).unwrap_or_default());
        field(&serde_json::to_vec(&looked.signals).unwrap_or_default());
        field(&serde_json::to_vec(&looked.gazelle).unwrap_or_default());
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod guards_tests;
