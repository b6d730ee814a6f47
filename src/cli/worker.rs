//! `greffier worker` and `greffier serve`: work until told to stop.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::fleet;
use crate::config::{Config, found};
use crate::model::Lang;
use crate::ops::board::Board;
use crate::ops::config::HttpConfig;
use crate::ops::deposit::{Intake, SpoolIntake, sweep_uploads};
use crate::ops::health::{Condition, Health};
use crate::ops::http::{Parts, Server};
use crate::ops::ledger::StoreLedger;
use crate::queue::Queue;
use crate::queue::observed::ObservedQueue;
use crate::worker::Stop;
use crate::worker::read::Pipelines;

/// Exit code of a second signal: the shell's 128 + SIGINT.
const EXIT_HARD_STOP: i32 = 130;

/// How often queue and stores are asked how they are.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Options of `worker`.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// Serve the console too, beside metrics and health (see `[http]`)
    #[arg(long)]
    console: bool,
}

/// Options of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {}

/// Runs `worker`.
///
/// # Errors
/// Bad configuration or rules, or something outside is not as it must be.
pub async fn run(args: &WorkerArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    work(config, lang, args.console && config.http.console, false).await
}

/// Runs `serve`: a worker with a console that takes deposits.
///
/// # Errors
/// See [`run`].
pub async fn serve(_args: &ServeArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    work(config, lang, true, true).await
}

async fn work(config: &Config, lang: Lang, console: bool, deposits: bool) -> anyhow::Result<ExitCode> {
    // Refused before anything is begun: an open door is no matter of luck.
    let checked = config.http.resolve()?;
    let board = Board::default();
    let (worker, metrics, edges) = fleet::worker(config, &board).await?;
    let stop = Stop::default();
    watch_signals(stop.clone())?;

    let mut conditions = vec![Condition::Queue, Condition::Staging, Condition::Vault];
    let antivirus = config.antivirus.required && !config.antivirus.engines.is_empty();
    conditions.extend(antivirus.then_some(Condition::Antivirus));
    let provider = console && checked.as_ref().is_some_and(|checked| checked.oidc.is_some());
    conditions.extend(provider.then_some(Condition::Login));
    let health = Health::new(&conditions);
    let queue: Arc<dyn Queue> = Arc::new(ObservedQueue::new(Arc::clone(&edges.queue), metrics.queue_observer()));
    let mut background = JoinSet::new();
    background.spawn(health.clone().follow_queue(Arc::clone(&queue), metrics.clone(), LOOK_AGAIN));
    for (condition, store) in [(Condition::Staging, &edges.staging), (Condition::Vault, &edges.vault)] {
        background.spawn(health.clone().follow_store(condition, Arc::clone(store), LOOK_AGAIN * 3));
    }
    if antivirus {
        background.spawn(health.clone().follow_antivirus(config.antivirus.clone(), LOOK_AGAIN * 3));
    }
    // What a killed process left of drafts is swept by the next one.
    let drafts = if deposits { Some(fleet::spool(config, edges.vault.as_ref())?) } else { None };
    let intake: Option<Arc<dyn Intake>> = if let Some(drafts) = &drafts {
        found::check_folders(&config.pipelines.folders)?;
        let pipelines = Pipelines::load(&config.pipelines.folders)?;
        let mut demarches: Vec<_> = pipelines.all().cloned().collect();
        demarches.sort_by_key(|loaded| loaded.pipeline.id != config.pipelines.default);
        background.spawn(sweep_uploads(Arc::clone(&edges.staging)));
        let intake =
            SpoolIntake::new(drafts.path().join("drafts"), Arc::clone(&edges.staging), Arc::clone(&queue), demarches, &config.http);
        Some(Arc::new(intake.context("SPOOL-UNWRITABLE: the folder for deposits cannot be made")?))
    } else {
        None
    };
    let parts = Parts {
        metrics,
        health,
        state: Some(worker.state()),
        board,
        queue: Some(queue),
        ledger: Some(Arc::new(StoreLedger::new(Arc::clone(&edges.vault)))),
        intake,
        lang,
    };
    let http = HttpConfig { console, ..config.http.clone() };
    let mut answering = None;
    if let Some(checked) = checked {
        let server = Server::bind(&http, checked, parts).await?;
        let address = server.address();
        if console {
            let scheme = if config.http.certificate_file.is_some() { "https" } else { "http" };
            anstream::eprintln!("greffier: {scheme}://{address}/");
        }
        // Until the worker has ended, not until it is told to: whoever watches it drain sees that.
        let (ended, until) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async move {
            let _ = until.await;
        }));
        answering = Some((ended, task));
    }
    tracing::info!(queue = edges.queue.name(), vault = edges.vault.name(), staging = edges.staging.name(), "working");
    let worked = worker.run(&stop).await;
    if let Some((ended, task)) = answering {
        let _ = ended.send(());
        let _ = task.await;
    }
    worked?;
    Ok(ExitCode::SUCCESS)
}

/// The first SIGTERM or SIGINT drains, the second ends at once: what is under way is then found by the next worker.
fn watch_signals(stop: Stop) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        stop.drain();
        next().await;
        tracing::warn!("stopped at once by a second signal");
        std::process::exit(EXIT_HARD_STOP);
    });
    Ok(())
}
