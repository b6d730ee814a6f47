//! The run of one submission: items → bytes → facts → findings → report. `greffier check` and a fleet of
//! workers run this same code; they differ in where bytes come from and where the outcome goes.
//!
//! Goals:
//! 1. One bad item never stops the others: whatever goes wrong with it is a finding on it.
//! 2. Bytes are read once to be hashed and once, inside the child, to be described; facts are cached by
//!    content, so that what was seen before is not opened again.
//! 3. The report depends on the inputs only, not on timing, order of completion or concurrency.
//! 4. Bounded: each item is judged while it still holds its place for a child, and its text and cells are dropped then; what is
//!    kept beyond that fits into the submission's own memory ([`Examiner::with_memory`]). Judging runs on threads of its own,
//!    within a number of steps ([`judging`]).

pub mod facts_cache;
pub mod folder;
pub mod ingest;
pub mod judging;
pub mod links;
pub mod places;
pub mod previews;
pub mod room;
pub mod shortcuts;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::antivirus::{Antivirus, Scan, Why};
use crate::assess::{self, Examined, Judge, Judged, Leans, policy};
use crate::bundle::Preview;
use crate::model::gazelle::{GazelleOutcome, Pin};
use crate::model::report::{ItemReport, Report};
use crate::model::submission::{Content, FileRef, Item, Submission};
use crate::model::work::{Work, WorkEnded};
use crate::model::{Facts, Signal, Text};
use crate::pipeline::Loaded;
use crate::sandbox::{Sandbox, SandboxError};
use crate::telemetry::{self, KeyValue, Span, SpanKind};
use facts_cache::FactsCache;
use ingest::Digest;
use judging::{Judging, JudgingError};
use links::Links;
use places::{Places, Turn};
use previews::Renderers;
use room::Room;

/// Steps that the rules may take over one item: some hundred times what the largest facts of an honest file need.
pub const MAX_ITEM_STEPS: u64 = 200_000_000;
/// Steps that the rules over all items, redaction and rendering may take, each: a dossier of 239 proofs needs about a million.
pub const MAX_JOB_STEPS: u64 = 1_000_000_000;
/// Findings of a submission that are told one by one: a rejected dossier has some hundreds. Each takes about 3 kB in memory.
const MAX_FINDINGS: u64 = 10_000;
/// Memory that one submission may keep, bytes, where nothing else is configured.
pub const MEMORY: u64 = 256 * 1024 * 1024;

/// Where the bytes of items come from.
#[async_trait]
pub trait Sources: Send + Sync {
    /// Brings the bytes to this machine, where they are elsewhere. Called before a place for a child is taken, so that a
    /// slow network holds no place; what goes wrong is told by [`Sources::open`].
    async fn fetch(&self, _item: &str, _file: &FileRef) {}

    /// Opens the bytes of one file for reading.
    ///
    /// # Errors
    /// See [`SourceError`]; the item gets the finding that fits.
    async fn open(&self, item: &str, file: &FileRef) -> Result<Source, SourceError>;
}

/// The bytes of one file on this machine.
#[derive(Debug)]
pub struct Source {
    /// Open for reading, at its start.
    pub file: File,
    /// Its digest, where whoever brought the bytes here has hashed them on the way.
    pub digest: Option<Digest>,
}

/// Why the bytes of an item could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Announced, and not there.
    #[error("there is nothing at `{0}`")]
    Missing(String),
    /// A link, a folder, a device, or a path that leaves the submission.
    #[error("`{0}` is not an ordinary file of the submission")]
    NotAFile(String),
    /// Larger than what is received at all.
    #[error("`{object}` is larger than {limit} bytes")]
    TooLarge {
        /// Its reference.
        object: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// There, but it could not be read.
    #[error("`{object}` could not be read")]
    Unreadable {
        /// Its reference.
        object: String,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
}

impl SourceError {
    fn signal(&self) -> Signal {
        match self {
            Self::Missing(object) => Signal::new("item-source-missing").arg("object", object.as_str()),
            Self::NotAFile(object) => Signal::new("item-not-a-file").arg("object", object.as_str()),
            Self::TooLarge { limit, .. } => Signal::new("item-too-large-to-receive").arg("limit_bytes", *limit),
            Self::Unreadable { source, .. } => Signal::new("item-source-unreadable").arg("why", source.kind().to_string()),
        }
    }
}

/// Told as items end, in order of completion.
pub trait Progress: Send + Sync {
    /// Whether [`Progress::item_done`] wants to know how an item was judged.
    fn wants_judgement(&self) -> bool {
        false
    }

    /// One item has been looked at and judged by itself; `done` of `total` have. `told` is what a vendor may read of it, masked;
    /// `None` where it was not wanted or could not be made.
    fn item_done(&self, judged: &Judged, told: Option<ItemReport>, done: usize, total: usize);
}

/// Says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;
impl Progress for Silent {
    fn item_done(&self, _judged: &Judged, _told: Option<ItemReport>, _done: usize, _total: usize) {}
}

/// Looks at items and judges submissions.
#[derive(Debug, Clone)]
pub struct Examiner {
    sandbox: Sandbox,
    cache: Option<FactsCache>,
    /// Items looked at at once; each may take one child's memory.
    places: Places,
    turn: Turn,
    /// Asks Gazelle; without it, links stay undetermined.
    links: Option<Links>,
    /// Scans every file beside its inspection; without it, reports say that nothing was scanned.
    antivirus: Option<Antivirus>,
    /// Draw pages and frames; by default nothing does.
    renderers: Renderers,
    judging: Judging,
    /// What a submission may keep in memory, bytes.
    memory: u64,
}

/// A checked submission.
#[derive(Debug)]
pub struct Checked {
    /// What was found.
    pub report: Report,
    /// Copies of Gazelle reports, by item id.
    pub pins: BTreeMap<String, Pin>,
    /// How long its parts took. Not part of the report.
    pub took: Took,
}

/// How long parts of a check took, by the clock on the wall; files and links are looked at side by side.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// Until the last file was looked at.
    pub files: Duration,
    /// Until the last link was answered.
    pub links: Duration,
    /// The rules over everything.
    pub assess: Duration,
}

impl Examiner {
    /// `jobs` children at most run at once (at least one).
    pub fn new(sandbox: Sandbox, cache: Option<FactsCache>, jobs: usize) -> Self {
        Self {
            sandbox,
            cache,
            places: Places::new(jobs),
            turn: Turn::default(),
            links: None,
            antivirus: None,
            renderers: Renderers::default(),
            judging: Judging::by_cores(),
            memory: MEMORY,
        }
    }

    /// With memory for what one submission keeps beyond the items that are looked at, bytes.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// The threads that judge.
    pub fn judging(&self) -> &Judging {
        &self.judging
    }

    /// With places shared with others, taken in the name of `turn`.
    #[must_use]
    pub fn with_places(mut self, places: Places, turn: Turn) -> Self {
        (self.places, self.turn) = (places, turn);
        self
    }

    /// With a way to ask Gazelle.
    #[must_use]
    pub fn with_links(mut self, links: Links) -> Self {
        self.links = Some(links);
        self
    }

    /// With an antivirus; `None` where none is configured.
    #[must_use]
    pub fn with_antivirus(mut self, antivirus: Option<Antivirus>) -> Self {
        self.antivirus = antivirus;
        self
    }

    /// With programs that draw pages and frames for the bundle's page.
    #[must_use]
    pub fn with_renderers(mut self, renderers: Renderers) -> Self {
        self.renderers = renderers;
        self
    }

    /// Looks at every item of `submission` and judges it. Dropping the future ends everything that was begun.
    ///
    /// # Errors
    /// The rules over all items need more steps than they may take, a rule panicked, or the machine gave no thread. An item that
    /// alone needs too many steps has a finding that says so.
    pub async fn check(
        &self,
        loaded: &Arc<Loaded>,
        submission: &Arc<Submission>,
        sources: Arc<dyn Sources>,
        progress: &dyn Progress,
    ) -> Result<Checked, JudgingError> {
        let Looked { judged, pins, mut took, cut } = self.look_at_all(loaded, submission, sources, progress).await?;
        let mut limitations = self.limitations(judged.iter().flatten());
        limitations.extend(cut);
        let (assessing, span) = (Instant::now(), Span::part("assess"));
        let (loaded, submission) = (Arc::clone(loaded), Arc::clone(submission));
        let finishing = move |work: &Work| assess::finish(&loaded, &submission, judged, work);
        let mut report = self.judging.run(&Work::new(MAX_JOB_STEPS), finishing).await?;
        took.assess = assessing.elapsed();
        drop(span);
        report.limitations.extend(limitations);
        Ok(Checked { report, pins, took })
    }

    /// What this run could not do, for people to know.
    fn limitations<'j>(&self, judged: impl Iterator<Item = &'j Judged> + Clone) -> Vec<Text> {
        let mut out: Vec<Text> = self
            .sandbox
            .missing()
            .iter()
            .map(|(mechanism, _)| {
                Text::new(
                    format!("Isolation incomplète : « {} » n'est pas disponible sur la machine qui a vérifié.", mechanism.as_str()),
                    format!("Incomplete isolation: “{}” is not available on the machine that checked.", mechanism.as_str()),
                )
            })
            .collect();
        match self.antivirus {
            Some(_) => out.extend(Antivirus::limitations(judged.clone().filter_map(|e| e.scan.as_ref()))),
            None => out.push(Antivirus::absent()),
        }
        let unanswered = judged.filter_map(|e| e.item.gazelle.as_ref());
        let unanswered = unanswered.filter(|g| matches!(g.outcome, GazelleOutcome::Offline | GazelleOutcome::Unreachable { .. })).count();
        if unanswered > 0 {
            out.push(Text::new(
                format!("Gazelle n'a pas pu être consulté : {unanswered} lien(s) restent indéterminés."),
                format!("Gazelle could not be consulted: {unanswered} link(s) remain undetermined."),
            ));
        }
        out
    }

    async fn look_at_all(
        &self,
        loaded: &Arc<Loaded>,
        submission: &Arc<Submission>,
        sources: Arc<dyn Sources>,
        progress: &dyn Progress,
    ) -> Result<Looked, JudgingError> {
        let total = submission.items.len();
        let party = Arc::new(Party {
            examiner: self.clone(),
            loaded: Arc::clone(loaded),
            submission: Arc::clone(submission),
            leans: Leans::default(),
            recent: Recent::new(self.memory / 4),
            told: progress.wants_judgement(),
        });
        let mut running = JoinSet::new();
        let mut positions = HashMap::new();
        let mut links = Vec::new();
        for (position, item) in submission.items.iter().enumerate() {
            let file = match &item.content {
                Content::File(file) => file.clone(),
                Content::Link(link) => {
                    positions.insert(item.id.clone(), position);
                    links.push((position, item.id.clone(), link.url.clone()));
                    continue;
                }
            };
            let (party, sources, id) = (Arc::clone(&party), Arc::clone(&sources), item.id.clone());
            let span = item_span("item", position);
            running.spawn(async move {
                let looking = async {
                    sources.fetch(&id, &file).await;
                    let _place = party.examiner.places.take(&party.examiner.turn).await;
                    let looked = match sources.open(&id, &file).await {
                        Ok(source) => party.examiner.examine_once(source, Some(&party.recent)).await,
                        Err(e) => Examined { signals: vec![e.signal()], ..Examined::default() },
                    };
                    looked.size.into_iter().for_each(|size| span.set(telemetry::count("greffier.item.size", size)));
                    if let Some(facts) = &looked.facts {
                        span.set(KeyValue::new("greffier.facts.known", looked.was_known));
                        facts.format.into_iter().for_each(|format| span.set(KeyValue::new("greffier.item.format", format.code())));
                    }
                    // With the place still taken: facts with all their content are in memory for as many items as there are places.
                    party.judge(position, looked).await
                };
                (position, span.run(looking).await)
            });
        }
        let mut asking = self.links.as_ref().map(|l| l.start(links)).unwrap_or_default();
        let (began, mut took) = (Instant::now(), Took::default());
        let mut kept = Kept::new(submission, self.memory);
        let (mut pins, mut done) = (BTreeMap::new(), 0);
        loop {
            tokio::select! {
                Some(ended) = running.join_next() => {
                    match ended {
                        Ok((position, Ok((judged, told)))) => {
                            // Of files; links are judged at once when they are answered.
                            if !judged.item.link {
                                took.files = began.elapsed();
                            }
                            done += 1;
                            progress.item_done(&judged, told, done, total);
                            kept.keep(position, judged);
                        }
                        Ok((_, Err(e))) => return Err(e),
                        // The item stays without entry and is judged undetermined (`item-not-examined`).
                        Err(e) => tracing::error!(error = %e, "an examination task ended abnormally"),
                    }
                }
                Some(answered) = asking.join_next() => {
                    took.links = began.elapsed();
                    match answered {
                        Ok(answered) => for (id, mut gazelle) in answered {
                            if let GazelleOutcome::Fetched { pin, .. } = &gazelle.outcome {
                                pins.insert(id.clone(), (**pin).clone());
                            }
                            gazelle = gazelle.without_bodies();
                            let Some(position) = positions.get(&id).copied() else { continue };
                            let (party, looked) = (Arc::clone(&party), Examined { gazelle: Some(gazelle), ..Examined::default() });
                            running.spawn(async move { (position, party.judge(position, looked).await) });
                        },
                        Err(e) => tracing::error!(error = %e, "a task that asked for links ended abnormally"),
                    }
                }
                else => break,
            }
        }
        let (judged, cut) = kept.all();
        Ok(Looked { judged, pins, took, cut })
    }

    /// Small pictures of the items of `report`, by item id: see [`previews`].
    pub async fn previews(&self, report: &Report, submission: &Submission, sources: Arc<dyn Sources>) -> BTreeMap<String, Vec<Preview>> {
        previews::previews(&self.sandbox, &self.renderers, (&self.places, &self.turn), report, submission, sources).await
    }

    /// Looks at one open file.
    pub async fn examine(&self, source: Source) -> Examined {
        self.examine_once(source, None).await
    }

    async fn examine_once(&self, source: Source, recent: Option<&Recent>) -> Examined {
        let (file, digest) = match source {
            Source { file, digest: Some(digest) } => (file, digest),
            Source { file, digest: None } => match tokio::task::spawn_blocking(move || ingest::digest(file)).await {
                Ok(Ok(hashed)) => hashed,
                Ok(Err(e)) => {
                    return Examined {
                        signals: vec![Signal::new("item-source-unreadable").arg("why", e.kind().to_string())],
                        ..Examined::default()
                    };
                }
                Err(_) => return Examined { signals: vec![inspection_failed("lecture interrompue")], ..Examined::default() },
            },
        };
        let Some(antivirus) = &self.antivirus else { return self.describe(file, digest, recent).await };
        // Beside each other, in one place: the scan costs this machine the reading only.
        let size = digest.size;
        let (mut looked, scan) = match file.try_clone().map(Arc::new) {
            Ok(copy) => {
                let began = Instant::now();
                let scanning = async {
                    let scan = Span::part("antivirus").run(antivirus.scan(&copy, size)).await;
                    (scan, began.elapsed())
                };
                let (mut looked, (scan, took)) = tokio::join!(self.describe(file, digest, recent), scanning);
                looked.scan_took = took;
                (looked, scan)
            }
            Err(e) => {
                tracing::warn!(error = %e, "a file was not scanned: its descriptor cannot be duplicated");
                (self.describe(file, digest, recent).await, Scan::NotScanned { why: Why::Unreadable })
            }
        };
        let scan = antivirus.judged_by(scan, looked.facts.as_deref());
        looked.signals.extend(antivirus.signal(&scan));
        looked.scan = Some(scan);
        looked
    }

    /// What a hashed file is: from the cache, or from a child.
    async fn describe(&self, file: File, digest: Digest, recent: Option<&Recent>) -> Examined {
        let mut looked = Examined { sha256: Some(digest.sha256.clone()), size: Some(digest.size), ..Examined::default() };
        if let Some(facts) = recent.and_then(|recent| recent.get(&digest.sha256)) {
            (looked.facts, looked.was_known) = (Some(facts), true);
            return looked;
        }
        if let Some(cache) = &self.cache
            && let Some(facts) = cache.get(&digest.sha256, self.sandbox.limits()).await.filter(|facts| facts.size == digest.size)
        {
            (looked.facts, looked.was_known) = (Some(Arc::new(facts)), true);
            return looked;
        }
        if let Some(cache) = &self.cache
            && cache.is_set_aside(&digest.sha256, self.sandbox.limits()).await
        {
            looked.facts = Some(Arc::new(set_aside(digest.size)));
            return looked;
        }
        let span = Span::part("inspect");
        let ended = span.run(self.sandbox.inspect(file)).await;
        if ended.is_err() {
            span.fail("item-inspection-failed");
        }
        drop(span);
        if let Some(cache) = &self.cache
            && (matches!(ended, Err(SandboxError::Killed)) || ended.as_ref().is_ok_and(facts_cache::ended_by_clock))
            && cache.ended_early(&digest.sha256, self.sandbox.limits()).await
        {
            // Once may be the machine's doing; what ended early twice is not opened a third time.
            looked.facts = Some(Arc::new(set_aside(digest.size)));
            return looked;
        }
        match ended {
            Ok(facts) => {
                if let Some(cache) = &self.cache {
                    cache.put(&digest.sha256, self.sandbox.limits(), &facts).await;
                }
                looked.facts = Some(Arc::new(facts));
            }
            Err(e) => {
                tracing::error!(error = %e, sha256 = digest.sha256, "a file could not be inspected");
                looked.signals.push(inspection_failed(&e.to_string()));
            }
        }
        looked
    }

    /// Looks at one loose file and judges it by itself.
    pub async fn inspect_loose(
        &self,
        name: &str,
        source: Result<Source, SourceError>,
        rules: Option<&assess::file_rules::FileRules<'_>>,
        severities: &assess::policy::Severities,
    ) -> ItemReport {
        let looked = match source {
            Ok(source) => self.examine(source).await,
            Err(e) => Examined { signals: vec![e.signal()], ..Examined::default() },
        };
        // One file on its owner's machine, who can stop it.
        assess::assess_loose(name, &looked, rules, severities, &Work::unbounded())
    }
}

/// What was seen of the items of a submission.
struct Looked {
    /// In the order of the submission.
    judged: Vec<Option<Judged>>,
    pins: BTreeMap<String, Pin>,
    took: Took,
    /// What was cut for want of room.
    cut: Vec<Text>,
}

/// What the items of one submission are judged with.
struct Party {
    examiner: Examiner,
    loaded: Arc<Loaded>,
    submission: Arc<Submission>,
    leans: Leans,
    recent: Recent,
    /// Whether the judgement of single items is reported as they end.
    told: bool,
}

impl Party {
    fn item(&self, position: usize) -> &Item {
        &self.submission.items[position]
    }

    /// Judges one item by itself.
    async fn judge(self: Arc<Self>, position: usize, looked: Examined) -> Result<(Judged, Option<ItemReport>), JudgingError> {
        let (judging, looked) = (self.examiner.judging.clone(), Arc::new(looked));
        let (party, seen) = (Arc::clone(&self), Arc::clone(&looked));
        let one = move |work: &Work| {
            let judge = Judge::new(&party.loaded, &party.submission);
            let judged = judge.item(party.item(position), &seen, &party.leans, work);
            if let (Some(sha256), Some(facts)) = (&seen.sha256, &seen.facts) {
                party.recent.put(sha256, facts, judged.measured.0.in_memory());
            }
            let told = party.told.then(|| judge.told(&judged, work));
            (judged, told)
        };
        match judging.run(&Work::new(MAX_ITEM_STEPS), one).await {
            Err(JudgingError::Ended(WorkEnded::StepsUsedUp { max })) => {
                tracing::warn!(
                    position,
                    steps = max,
                    sha256 = looked.sha256,
                    "an item needs more steps than its judgement may take; it is rejected"
                );
                let party = Arc::clone(&self);
                let one = move |work: &Work| {
                    let judge = Judge::new(&party.loaded, &party.submission);
                    let judged = judge.beyond_limit(party.item(position), &looked, max);
                    let told = party.told.then(|| judge.told(&judged, work));
                    (judged, told)
                };
                judging.run(&Work::new(MAX_ITEM_STEPS), one).await
            }
            ended => ended,
        }
    }
}

/// Facts that were read last, by digest: a file that many items name is described once.
struct Recent {
    max: u64,
    state: Mutex<RecentFacts>,
}

#[derive(Default)]
struct RecentFacts {
    /// Of all entries.
    bytes: u64,
    /// Digest, facts and their size in memory, oldest first.
    entries: VecDeque<(String, Arc<Facts>, u64)>,
}

/// Entries of [`Recent`] at most: it is searched from end to end.
const MAX_RECENT: usize = 64;

impl Recent {
    /// For `max` bytes.
    fn new(max: u64) -> Self {
        Self { max, state: Mutex::default() }
    }

    fn get(&self, sha256: &str) -> Option<Arc<Facts>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entries.iter().find(|(known, ..)| known == sha256).map(|(_, facts, _)| Arc::clone(facts))
    }

    fn put(&self, sha256: &str, facts: &Arc<Facts>, bytes: u64) {
        // A technical failure may not meet the next look.
        if bytes > self.max || facts_cache::ended_by_clock(facts) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.entries.iter().any(|(known, ..)| known == sha256) {
            return;
        }
        state.bytes += bytes;
        state.entries.push_back((sha256.to_owned(), Arc::clone(facts), bytes));
        while (state.bytes > self.max || state.entries.len() > MAX_RECENT)
            && let Some((.., bytes)) = state.entries.pop_front()
        {
            state.bytes -= bytes;
        }
    }
}

/// What is kept of the items that have been judged, within the memory of a submission.
struct Kept {
    judged: Vec<Option<Judged>>,
    /// By position: the first position that names the same object.
    groups: Vec<usize>,
    /// Content that rules over all items will read.
    contents: Room,
    /// Facts for the report.
    facts: Room,
    findings: Room,
}

impl Kept {
    fn new(submission: &Submission, memory: u64) -> Self {
        let mut first: HashMap<&str, usize> = HashMap::new();
        let mut groups = Vec::with_capacity(submission.items.len());
        for (position, item) in submission.items.iter().enumerate() {
            groups.push(match &item.content {
                Content::File(file) => *first.entry(file.object.as_str()).or_insert(position),
                Content::Link(_) => position,
            });
        }
        // A quarter besides is for facts that were read last, and the rest for findings, report and page.
        Self {
            judged: submission.items.iter().map(|_| None).collect(),
            groups,
            contents: Room::new(memory / 4),
            facts: Room::new(memory / 16),
            findings: Room::new(MAX_FINDINGS),
        }
    }

    fn keep(&mut self, position: usize, judged: Judged) {
        let (Some(group), Some(place)) = (self.groups.get(position).copied(), self.judged.get_mut(position)) else { return };
        let mut moved = self.findings.weigh(position, judged.item.findings.len() as u64);
        moved |= judged.contents.is_some() && self.contents.weigh(group, judged.measured.0.in_memory());
        moved |= judged.item.facts.is_some() && self.facts.weigh(group, judged.measured.1.in_memory());
        *place = Some(judged);
        if moved {
            (0..self.judged.len()).for_each(|position| self.cut(position));
        } else {
            self.cut(position);
        }
    }

    fn cut(&mut self, position: usize) {
        let (group, Some(Some(judged))) = (self.groups[position], self.judged.get_mut(position)) else { return };
        if !self.contents.has(group) && judged.contents.take().is_some() {
            judged.not_read = true;
        }
        if !self.facts.has(group)
            && let Some(facts) = judged.item.facts.as_mut().filter(|facts| facts.left_out.is_none_or(|left| !left.details))
        {
            *facts = Arc::new(facts.without_details());
        }
        if !self.findings.has(position) {
            policy::fold(&mut judged.item.findings);
        }
    }

    /// Everything, and what a reader must know of what was cut.
    fn all(self) -> (Vec<Option<Judged>>, Vec<Text>) {
        let cut = |gone: &dyn Fn(usize, &Judged) -> bool| {
            self.judged.iter().enumerate().filter(|(position, judged)| judged.as_ref().is_some_and(|j| gone(*position, j))).count()
        };
        let mut said = Vec::new();
        let facts = cut(&|position, judged| judged.item.facts.is_some() && !self.facts.has(self.groups[position]));
        if facts > 0 {
            said.push(Text::new(
                format!("Dépôt très volumineux : la description détaillée de {facts} élément(s) ne figure pas dans ce rapport. Les règles les ont lus."),
                format!("Very large deposit: the detailed description of {facts} item(s) is not in this report. The rules have read them."),
            ));
        }
        let findings = cut(&|position, _| !self.findings.has(position));
        if findings > 0 {
            said.push(Text::new(
                format!("Très nombreux constats : ceux de {findings} élément(s) sont regroupés par gravité, le premier de chaque étant détaillé."),
                format!("Very many findings: those of {findings} item(s) are grouped by severity, the first of each being told in full."),
            ));
        }
        (self.judged, said)
    }
}

/// The span of an item, which is told by its position in the submission, from 0: its id may be the name of a file.
fn item_span(name: &'static str, position: usize) -> Span {
    Span::begin(SpanKind::Internal, name, [telemetry::count("greffier.item.position", position as u64)])
}

/// Facts of a file that is not opened any more, because its inspection ended early twice.
fn set_aside(size: u64) -> Facts {
    let mut facts = Facts::of_size(size);
    facts.push(Signal::new("sandbox-repeated"));
    facts
}

fn inspection_failed(why: &str) -> Signal {
    Signal::new("item-inspection-failed").arg("why", why)
}
