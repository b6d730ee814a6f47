//! `greffier worker` and `greffier serve`: work until told to stop.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::fleet;
use crate::config::Config;
use crate::worker::Stop;

/// Exit code of a second signal: the shell's 128 + SIGINT.
const EXIT_HARD_STOP: i32 = 130;

/// Options of `worker`.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {}

/// Runs `worker` (`serve` is the same with a console).
///
/// # Errors
/// Bad configuration or rules, or something outside is not as it must be.
pub async fn run(_args: WorkerArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (worker, _metrics, edges) = fleet::worker(config).await?;
    let stop = Stop::default();
    watch_signals(stop.clone())?;
    tracing::info!(queue = edges.queue.name(), vault = edges.vault.name(), staging = edges.staging.name(), "working");
    worker.run(&stop).await?;
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
