//! The run of one submission: items → bytes → facts → findings → report. `greffier check` and a fleet of
//! workers run this same code; they differ in where bytes come from and where the outcome goes.
//!
//! Goals:
//! 1. One bad item never stops the others: whatever goes wrong with it is a finding on it.
//! 2. Bytes are read once to be hashed and once, inside the child, to be described; facts are cached by
//!    content, so that what was seen before is not opened again.
//! 3. The report depends on the inputs only, not on timing, order of completion or concurrency.

pub mod facts_cache;
pub mod folder;
pub mod ingest;
pub mod links;
pub mod places;
pub mod previews;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::antivirus::{Antivirus, Scan, Why};
use crate::assess::{self, Examined};
use crate::bundle::Preview;
use crate::model::gazelle::{GazelleOutcome, Pin};
use crate::model::report::{ItemReport, Report};
use crate::model::submission::{Content, FileRef, Submission};
use crate::model::{Facts, Signal, Text};
use crate::pipeline::Loaded;
use crate::sandbox::{Sandbox, SandboxError};
use crate::telemetry::{self, KeyValue, Span, SpanKind};
use facts_cache::FactsCache;
use ingest::Digest;
use links::Links;
use places::{Places, Turn};
use previews::Renderers;

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
    /// One item has been looked at; `done` of `total` have.
    fn item_done(&self, item: &str, looked: &Examined, done: usize, total: usize);
}

/// Says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;
impl Progress for Silent {
    fn item_done(&self, _item: &str, _looked: &Examined, _done: usize, _total: usize) {}
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
        }
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

    /// Looks at every item of `submission` and judges it.
    pub async fn check(&self, loaded: &Loaded, submission: &Submission, sources: Arc<dyn Sources>, progress: &dyn Progress) -> Checked {
        let (mut examined, mut took) = self.examine_all(submission, sources, progress).await;
        let mut pins = BTreeMap::new();
        for (id, looked) in &mut examined {
            if let Some(gazelle) = &mut looked.gazelle {
                if let GazelleOutcome::Fetched { pin, .. } = &gazelle.outcome {
                    pins.insert(id.clone(), (**pin).clone());
                }
                *gazelle = gazelle.without_bodies();
            }
        }
        let (assessing, span) = (Instant::now(), Span::part("assess"));
        let mut report = assess::assess(loaded, submission, &examined, &crate::model::work::Work::unbounded());
        took.assess = assessing.elapsed();
        drop(span);
        report.limitations.extend(self.limitations(&examined));
        Checked { report, pins, took }
    }

    /// What this run could not do, for people to know.
    fn limitations(&self, examined: &BTreeMap<String, Examined>) -> Vec<Text> {
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
            Some(_) => out.extend(Antivirus::limitations(examined.values().filter_map(|e| e.scan.as_ref()))),
            None => out.push(Antivirus::absent()),
        }
        let unanswered = examined.values().filter_map(|e| e.gazelle.as_ref());
        let unanswered = unanswered.filter(|g| matches!(g.outcome, GazelleOutcome::Offline | GazelleOutcome::Unreachable { .. })).count();
        if unanswered > 0 {
            out.push(Text::new(
                format!("Gazelle n'a pas pu être consulté : {unanswered} lien(s) restent indéterminés."),
                format!("Gazelle could not be consulted: {unanswered} link(s) remain undetermined."),
            ));
        }
        out
    }

    async fn examine_all(
        &self,
        submission: &Submission,
        sources: Arc<dyn Sources>,
        progress: &dyn Progress,
    ) -> (BTreeMap<String, Examined>, Took) {
        let total = submission.items.len();
        let mut running = JoinSet::new();
        for (position, item) in submission.items.iter().enumerate() {
            let Content::File(file) = &item.content else { continue };
            let (examiner, sources) = (self.clone(), Arc::clone(&sources));
            let (id, file) = (item.id.clone(), file.clone());
            let span = item_span("item", position);
            running.spawn(async move {
                let looking = async {
                    sources.fetch(&id, &file).await;
                    let _place = examiner.places.take(&examiner.turn).await;
                    match sources.open(&id, &file).await {
                        Ok(source) => examiner.examine(source).await,
                        Err(e) => Examined { signals: vec![e.signal()], ..Examined::default() },
                    }
                };
                let looked = span.run(looking).await;
                looked.size.into_iter().for_each(|size| span.set(telemetry::count("greffier.item.size", size)));
                if let Some(facts) = &looked.facts {
                    span.set(KeyValue::new("greffier.facts.known", looked.was_known));
                    facts.format.into_iter().for_each(|format| span.set(KeyValue::new("greffier.item.format", format.code())));
                }
                (id, looked)
            });
        }
        let links = submission.items.iter().enumerate().filter_map(|(position, item)| match &item.content {
            Content::Link(link) => Some((position, item.id.clone(), link.url.clone())),
            Content::File(_) => None,
        });
        let mut asking = self.links.as_ref().map(|l| l.start(links.collect())).unwrap_or_default();
        let mut examined = BTreeMap::new();
        let (began, mut took) = (Instant::now(), Took::default());
        let mut ended = |id: String, looked: Examined| {
            progress.item_done(&id, &looked, examined.len() + 1, total);
            examined.insert(id, looked);
        };
        loop {
            tokio::select! {
                Some(file) = running.join_next() => {
                    took.files = began.elapsed();
                    match file {
                        Ok((id, looked)) => ended(id, looked),
                        // The item stays without entry and is judged undetermined (`item-not-examined`).
                        Err(e) => tracing::error!(error = %e, "an examination task ended abnormally"),
                    }
                }
                Some(links) = asking.join_next() => {
                    took.links = began.elapsed();
                    match links {
                        Ok(links) => links
                            .into_iter()
                            .for_each(|(id, facts)| ended(id, Examined { gazelle: Some(facts), ..Examined::default() })),
                        Err(e) => tracing::error!(error = %e, "a task that asked for links ended abnormally"),
                    }
                }
                else => break,
            }
        }
        (examined, took)
    }

    /// Small pictures of the items of `report`, by item id: see [`previews`].
    pub async fn previews(&self, report: &Report, submission: &Submission, sources: Arc<dyn Sources>) -> BTreeMap<String, Vec<Preview>> {
        previews::previews(&self.sandbox, &self.renderers, (&self.places, &self.turn), report, submission, sources).await
    }

    /// Looks at one open file.
    pub async fn examine(&self, source: Source) -> Examined {
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
        let Some(antivirus) = &self.antivirus else { return self.describe(file, digest).await };
        // Beside each other, in one place: the scan costs this machine the reading only.
        let size = digest.size;
        let (mut looked, scan) = match file.try_clone().map(Arc::new) {
            Ok(copy) => {
                let began = Instant::now();
                let scanning = async {
                    let scan = Span::part("antivirus").run(antivirus.scan(&copy, size)).await;
                    (scan, began.elapsed())
                };
                let (mut looked, (scan, took)) = tokio::join!(self.describe(file, digest), scanning);
                looked.scan_took = took;
                (looked, scan)
            }
            Err(e) => {
                tracing::warn!(error = %e, "a file was not scanned: its descriptor cannot be duplicated");
                (self.describe(file, digest).await, Scan::NotScanned { why: Why::Unreadable })
            }
        };
        let scan = antivirus.judged_by(scan, looked.facts.as_ref());
        looked.signals.extend(antivirus.signal(&scan));
        looked.scan = Some(scan);
        looked
    }

    /// What a hashed file is: from the cache, or from a child.
    async fn describe(&self, file: File, digest: Digest) -> Examined {
        let mut looked = Examined { sha256: Some(digest.sha256.clone()), size: Some(digest.size), ..Examined::default() };
        if let Some(cache) = &self.cache
            && let Some(facts) = cache.get(&digest.sha256, self.sandbox.limits()).await.filter(|facts| facts.size == digest.size)
        {
            (looked.facts, looked.was_known) = (Some(facts), true);
            return looked;
        }
        let span = Span::part("inspect");
        let ended = span.run(self.sandbox.inspect(file)).await;
        if ended.is_err() {
            span.fail("item-inspection-failed");
        }
        drop(span);
        if let Some(cache) = &self.cache
            && (matches!(ended, Err(SandboxError::Killed)) || ended.as_ref().is_ok_and(|facts| facts.has("sandbox-wall")))
            && cache.strike(&digest.sha256, self.sandbox.limits()).await
        {
            // Once may be the machine's doing; what ended its inspection twice is not opened a third time.
            let mut facts = Facts::of_size(digest.size);
            facts.push(Signal::new("sandbox-repeated"));
            cache.put(&digest.sha256, self.sandbox.limits(), &facts).await;
            looked.facts = Some(facts);
            return looked;
        }
        match ended {
            Ok(facts) => {
                if let Some(cache) = &self.cache {
                    cache.put(&digest.sha256, self.sandbox.limits(), &facts).await;
                }
                looked.facts = Some(facts);
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
        assess::assess_loose(name, &looked, rules, severities, &crate::model::work::Work::unbounded())
    }
}

/// The span of an item, which is told by its position in the submission, from 0: its id may be the name of a file.
fn item_span(name: &'static str, position: usize) -> Span {
    Span::begin(SpanKind::Internal, name, [telemetry::count("greffier.item.position", position as u64)])
}

fn inspection_failed(why: &str) -> Signal {
    Signal::new("item-inspection-failed").arg("why", why)
}
