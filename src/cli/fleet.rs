//! What the commands of the fleet share: stores, queue and worker as the configuration describes them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::start_sandbox;
use crate::antivirus::Antivirus;
use crate::assess::RULES_VERSION;
use crate::check::Examiner;
use crate::check::facts_cache::FactsCache;
use crate::check::links::Links;
use crate::check::places::Places;
use crate::check::previews::Renderers;
use crate::config::{Config, found};
use crate::gazelle::{NoPins, Owner};
use crate::metrics::{Build, Metrics, StoreName};
use crate::model::facts::INSPECTOR_VERSION;
use crate::model::probe::Probe;
use crate::model::text::chain;
use crate::ops::board::Board;
use crate::queue::config::QueueKind;
use crate::queue::observed::ObservedQueue;
use crate::queue::{self, Queue};
use crate::seal::SealKey;
use crate::store::config::{StoreConfig, StoreKind};
use crate::store::observed::ObservedStore;
use crate::store::{self, Store};
use crate::worker::read::Pipelines;
use crate::worker::spool::Spool;
use crate::worker::{JobThreads, Parts, Worker, records};

/// Margin between the longest that a job may be in hand and the broker's consumer timeout.
const MARGIN: Duration = Duration::from_secs(60);

/// Jobs that a worker holds for each that runs where the broker only knows first come, first served.
const WINDOW: u16 = 4;

/// The queue and the stores.
pub struct Edges {
    /// Where jobs wait.
    pub queue: Arc<dyn Queue>,
    /// Where uploads are.
    pub staging: Arc<dyn Store>,
    /// Where everything is kept.
    pub vault: Arc<dyn Store>,
}

impl Edges {
    /// Opens them; nothing is tried yet.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        crate::tls::install_tls_provider();
        for store in [&config.staging, &config.vault] {
            make_folder(store)?;
        }
        Ok(Self {
            queue: queue::open(&config.queue).await?,
            staging: store::open(&config.staging).await?,
            vault: store::open(&config.vault).await?,
        })
    }

    /// Tries everything that a worker needs of them.
    pub async fn probe(&self) -> Vec<Probe> {
        let mut probes = match self.queue.prepare().await {
            Ok(probes) => probes,
            Err(e) => vec![Probe::failed(format!("queue {}", self.queue.name()), chain(&e))],
        };
        for (name, store, writable) in [("staging", &self.staging, false), ("vault", &self.vault, true)] {
            let found = store.probe(writable).await;
            probes.extend(found.into_iter().map(|p| Probe { name: format!("{name}: {}", p.name), ..p }));
        }
        probes
    }
}

/// On one machine, nothing need be prepared: a folder that is not there yet is made, and said. It is its owner's only, like
/// the file of the queue: deposits name people.
fn make_folder(store: &StoreConfig) -> anyhow::Result<()> {
    if store.kind == StoreKind::Directory && !store.path.exists() {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&store.path);
        made.with_context(|| format!("STORE-REFUSED: {} cannot be made", store.path.display()))?;
        tracing::info!(folder = %store.path.display(), "made the folder of a store");
    }
    Ok(())
}

/// A worker, after everything that it needs has been tried. What it tells is shown on `board`.
///
/// # Errors
/// What is not as it must be, each thing with what to change.
pub async fn worker(config: &Config, board: &Board) -> anyhow::Result<(Worker, Metrics, Edges)> {
    found::check_folders(&config.pipelines.folders)?;
    let pipelines = Pipelines::load(&config.pipelines.folders)?;
    if pipelines.all().next().is_none() {
        let searched: Vec<_> = config.pipelines.folders.iter().map(|f| f.display().to_string()).collect();
        anyhow::bail!("PIPELINE-NOT-FOUND: no rules in {}", searched.join(", "));
    }
    let key = SealKey::find(None)?;
    let sandbox = start_sandbox(config).await?;
    let edges = Edges::open(config).await?;
    let antivirus = Antivirus::new(&config.antivirus);
    let mut probes = edges.probe().await;
    if let Some(antivirus) = &antivirus {
        let scanning = antivirus.probe(config.worker.max_file_bytes, jiff::Timestamp::now()).await;
        if antivirus.required() {
            probes.extend(scanning);
        } else {
            // Reports say what was not scanned: the operator chose to go on without.
            scanning
                .iter()
                .filter(|p| !p.ok)
                .for_each(|p| tracing::warn!(probe = p.name, p.detail, "the antivirus is not as it should be"));
        }
    }
    refuse(&probes)?;

    let rules: Vec<_> = pipelines.all().map(|l| format!("{}@{}", l.pipeline.id, l.sha256.get(..12).unwrap_or_default())).collect();
    let inspectors = format!("{INSPECTOR_VERSION} (rules {RULES_VERSION})");
    let metrics = Metrics::new(&Build { inspectors, rules: rules.join(",") });
    let queue: Arc<dyn Queue> = Arc::new(ObservedQueue::new(Arc::clone(&edges.queue), board.watching(metrics.queue_observer())));
    let staging: Arc<dyn Store> = Arc::new(ObservedStore::new(Arc::clone(&edges.staging), metrics.store_observer(StoreName::Staging)));
    let vault: Arc<dyn Store> = Arc::new(ObservedStore::new(Arc::clone(&edges.vault), metrics.store_observer(StoreName::Vault)));

    let places = Places::new(children(config));
    let cache = FactsCache::in_store(Arc::clone(&vault), records::FACTS);
    let renderers = Renderers::find(&config.preview, std::env::var_os("PATH").as_deref())?;
    let examiner = Examiner::new(sandbox, Some(cache), places.total())
        .with_renderers(renderers)
        .with_antivirus(antivirus)
        .with_memory(config.check.submission_memory_bytes);
    let mut links = BTreeMap::new();
    for loaded in pipelines.all() {
        let asks =
            Links::new(config.gazelle.clone(), loaded.pipeline.gazelle.clone(), Arc::new(NoPins), Owner::local(&loaded.pipeline.id, ""))?;
        links.insert(loaded.pipeline.id.clone(), asks);
    }
    let spool = spool(config, vault.as_ref())?;
    let (window, longest_wait) = match config.queue.kind {
        // It gives turns itself, and leases are renewed as long as this process lives.
        QueueKind::Embedded => (1, Duration::from_secs(3600)),
        QueueKind::Amqp => (
            WINDOW,
            Duration::from_secs(config.queue.consumer_timeout_minutes.saturating_mul(60))
                .saturating_sub(Duration::from_secs(config.worker.job_seconds))
                .saturating_sub(MARGIN),
        ),
    };
    let worker = Worker::new(Parts {
        config: config.worker.clone(),
        queue,
        staging,
        vault,
        pipelines,
        examiner,
        places,
        links,
        key,
        spool,
        metrics: metrics.clone(),
        window,
        longest_wait,
        threads: JobThreads::start().context("JOB-MACHINE: the threads for jobs could not be started")?,
    });
    Ok((worker, metrics, edges))
}

/// Children at once: by number and by memory.
pub fn children(config: &Config) -> usize {
    let by_memory = match config.worker.memory_budget_bytes {
        0 => usize::MAX,
        budget => usize::try_from(budget / config.sandbox.memory_bytes.max(1)).unwrap_or(usize::MAX),
    };
    config.check.jobs().min(by_memory).max(1)
}

/// Where files lie while jobs are worked on.
pub fn spool_root(config: &Config, vault: &dyn Store) -> PathBuf {
    if !config.worker.spool.as_os_str().is_empty() {
        return config.worker.spool.clone();
    }
    vault.spool().unwrap_or_else(|| std::env::temp_dir().join("greffier-spool"))
}

/// A folder of this process below [`spool_root`]; what dead ones left there is swept.
///
/// # Errors
/// It cannot be made.
pub fn spool(config: &Config, vault: &dyn Store) -> anyhow::Result<Spool> {
    let root = spool_root(config, vault);
    Spool::open(&root).with_context(|| format!("SPOOL-UNWRITABLE: {} cannot be used for files of jobs", root.display()))
}

/// Refuses to work with what is not as it must be.
///
/// # Errors
/// Every probe that failed, one a line.
pub fn refuse(probes: &[Probe]) -> anyhow::Result<()> {
    let failed: Vec<_> = probes.iter().filter(|p| !p.ok).map(|p| format!("{}: {}", p.name, p.detail)).collect();
    if failed.is_empty() {
        return Ok(());
    }
    anyhow::bail!("NOT-FIT: {}", failed.join("\n"))
}
