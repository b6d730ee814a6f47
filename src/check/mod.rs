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
pub mod previews;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::assess::{self, Examined};
use crate::bundle::Preview;
use crate::model::gazelle::{GazelleOutcome, Pin};
use crate::model::report::{ItemReport, Report};
use crate::model::submission::{Content, FileRef, Submission};
use crate::model::{Signal, Text};
use crate::pipeline::Loaded;
use crate::sandbox::Sandbox;
use facts_cache::FactsCache;
use links::Links;
use previews::Renderers;

/// Where the bytes of items come from.
pub trait Sources: Send + Sync {
    /// Opens the bytes of one file for reading.
    ///
    /// # Errors
    /// See [`SourceError`]; the item gets the finding that fits.
    fn open(&self, item: &str, file: &FileRef) -> Result<File, SourceError>;
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
            Self::Unreadable { source, .. } => Signal::new("item-source-unreadable").arg("why", source.kind().to_string()),
        }
    }
}

/// Told as items end, in order of completion.
pub trait Progress: Send + Sync {
    /// One item has been looked at; `done` of `total` have.
    fn item_done(&self, item: &str, done: usize, total: usize);
}

/// Says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;
impl Progress for Silent {
    fn item_done(&self, _item: &str, _done: usize, _total: usize) {}
}

/// Looks at items and judges submissions.
#[derive(Debug, Clone)]
pub struct Examiner {
    sandbox: Sandbox,
    cache: Option<FactsCache>,
    /// Items looked at at once; each may take one child's memory.
    jobs: usize,
    /// Asks Gazelle; without it, links stay undetermined.
    links: Option<Links>,
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
}

impl Examiner {
    /// `jobs` children at most run at once (at least one).
    pub fn new(sandbox: Sandbox, cache: Option<FactsCache>, jobs: usize) -> Self {
        Self { sandbox, cache, jobs: jobs.max(1), links: None, renderers: Renderers::default() }
    }

    /// With a way to ask Gazelle.
    #[must_use]
    pub fn with_links(mut self, links: Links) -> Self {
        self.links = Some(links);
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
        let mut examined = self.examine_all(submission, sources, progress).await;
        let mut pins = BTreeMap::new();
        for (id, looked) in &mut examined {
            if let Some(gazelle) = &mut looked.gazelle {
                if let GazelleOutcome::Fetched { pin, .. } = &gazelle.outcome {
                    pins.insert(id.clone(), (**pin).clone());
                }
                *gazelle = gazelle.without_bodies();
            }
        }
        let mut report = assess::assess(loaded, submission, &examined);
        report.limitations.extend(self.limitations(&examined));
        Checked { report, pins }
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
        out.push(Text::new(
            "Les fichiers n'ont pas été soumis à un antivirus par cette vérification.",
            "The files were not submitted to an antivirus by this check.",
        ));
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

    async fn examine_all(&self, submission: &Submission, sources: Arc<dyn Sources>, progress: &dyn Progress) -> BTreeMap<String, Examined> {
        let total = submission.items.len();
        let slots = Arc::new(Semaphore::new(self.jobs));
        let mut running = JoinSet::new();
        for item in &submission.items {
            let Content::File(file) = &item.content else { continue };
            let (examiner, sources, slots) = (self.clone(), Arc::clone(&sources), Arc::clone(&slots));
            let (id, file) = (item.id.clone(), file.clone());
            running.spawn(async move {
                // The semaphore lives as long as this loop and is never closed.
                let _slot = slots.acquire_owned().await;
                let looked = match sources.open(&id, &file) {
                    Ok(open) => examiner.examine(open).await,
                    Err(e) => Examined { signals: vec![e.signal()], ..Examined::default() },
                };
                (id, looked)
            });
        }
        let links = submission.items.iter().filter_map(|item| match &item.content {
            Content::Link(link) => Some((item.id.clone(), link.url.clone())),
            Content::File(_) => None,
        });
        let mut asking = self.links.as_ref().map(|l| l.start(links.collect())).unwrap_or_default();
        let mut examined = BTreeMap::new();
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok((id, looked)) => {
                    progress.item_done(&id, examined.len() + 1, total);
                    examined.insert(id, looked);
                }
                // The item stays without entry and is judged undetermined (`item-not-examined`).
                Err(e) => tracing::error!(error = %e, "an examination task ended abnormally"),
            }
        }
        while let Some(ended) = asking.join_next().await {
            match ended {
                Ok(links) => {
                    for (id, facts) in links {
                        progress.item_done(&id, examined.len() + 1, total);
                        examined.insert(id, Examined { gazelle: Some(facts), ..Examined::default() });
                    }
                }
                Err(e) => tracing::error!(error = %e, "a task that asked for links ended abnormally"),
            }
        }
        examined
    }

    /// Small pictures of the items of `report`, by item id: see [`previews`].
    pub async fn previews(&self, report: &Report, submission: &Submission, sources: Arc<dyn Sources>) -> BTreeMap<String, Vec<Preview>> {
        previews::previews(&self.sandbox, &self.renderers, self.jobs, report, submission, sources).await
    }

    /// Looks at one open file.
    pub async fn examine(&self, file: File) -> Examined {
        let failed = |why: &str| Signal::new("item-inspection-failed").arg("why", why);
        let hashing = tokio::task::spawn_blocking(move || ingest::digest(file)).await;
        let (file, digest) = match hashing {
            Ok(Ok(hashed)) => hashed,
            Ok(Err(e)) => {
                return Examined {
                    signals: vec![Signal::new("item-source-unreadable").arg("why", e.kind().to_string())],
                    ..Examined::default()
                };
            }
            Err(_) => return Examined { signals: vec![failed("lecture interrompue")], ..Examined::default() },
        };
        let mut looked = Examined { sha256: Some(digest.sha256.clone()), size: Some(digest.size), ..Examined::default() };
        if let Some(cache) = &self.cache
            && let Some(facts) = cache.get(&digest.sha256, self.sandbox.limits()).filter(|facts| facts.size == digest.size)
        {
            looked.facts = Some(facts);
            return looked;
        }
        match self.sandbox.inspect(file).await {
            Ok(facts) => {
                if let Some(cache) = &self.cache
                    && let Err(e) = cache.put(&digest.sha256, self.sandbox.limits(), &facts)
                {
                    tracing::warn!(error = %e, "facts could not be cached; the next run will look again");
                }
                looked.facts = Some(facts);
            }
            Err(e) => {
                tracing::error!(error = %e, sha256 = digest.sha256, "a file could not be inspected");
                looked.signals.push(failed(&e.to_string()));
            }
        }
        looked
    }

    /// Looks at one loose file and judges it by itself.
    pub async fn inspect_loose(
        &self,
        name: &str,
        file: Result<File, SourceError>,
        rules: Option<&assess::file_rules::FileRules<'_>>,
        severities: &assess::policy::Severities,
    ) -> ItemReport {
        let looked = match file {
            Ok(file) => self.examine(file).await,
            Err(e) => Examined { signals: vec![e.signal()], ..Examined::default() },
        };
        assess::assess_loose(name, &looked, rules, severities)
    }
}
