//! `greffier gazelle fetch URL…`: shows what a link leads to, as a check would see it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::render::{self, Style};
use super::{exit_code, find_pipeline};
use crate::assess::policy;
use crate::config::Config;
use crate::gazelle::{DirPins, GazelleClient, GazelleConfig, NoPins, Owner, PinSource, assess};
use crate::model::gazelle::GazelleOutcome;
use crate::model::{Lang, Verdict};
use crate::pipeline;

/// Options of `gazelle`.
#[derive(Debug, clap::Args)]
pub struct GazelleArgs {
    #[command(subcommand)]
    command: GazelleCommand,
}

#[derive(Debug, clap::Subcommand)]
enum GazelleCommand {
    /// Fetch the reports behind links and judge them
    Fetch(FetchArgs),
}

#[derive(Debug, clap::Args)]
struct FetchArgs {
    /// Links, as a vendor would deposit them
    #[arg(required = true, value_name = "URL")]
    urls: Vec<String>,
    /// Démarche whose servers and expectations apply: an id or a path
    #[arg(long, value_name = "ID|FILE")]
    pipeline: Option<String>,
    /// Folder of copies: written after a fetch, compared with what the server says now, and used when it is silent
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// Ask nobody; answer from the copies
    #[arg(long)]
    offline: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs `gazelle`.
///
/// # Errors
/// Bad usage, configuration or pipeline, or copies that cannot be written; never because of a link.
pub async fn run(args: GazelleArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    let GazelleCommand::Fetch(args) = args.command;
    let path = find_pipeline(config, args.pipeline.as_deref(), None, &[])?;
    let pipeline = pipeline::read(&path)?;
    let settings = GazelleConfig { offline: config.gazelle.offline || args.offline, ..config.gazelle.clone() };
    let client = GazelleClient::new(settings, pipeline.gazelle.clone())?;
    let pins: Box<dyn PinSource> = match &args.pins {
        Some(folder) => Box::new(DirPins(folder.clone())),
        None => Box::new(NoPins),
    };
    let style = Style::new(lang);
    // No candidature: the folder of copies is the user's own.
    let owner = Owner::local(&pipeline.id, "");
    let mut severities = Vec::new();
    for url in &args.urls {
        let facts = client.fetch_or_replay(url, pins.as_ref(), &owner).await;
        let signals = assess(&facts, &pipeline.gazelle, None, None);
        let mut findings: Vec<_> = signals.iter().filter_map(|s| policy::finding(s, &pipeline.severities)).collect();
        policy::settle(&mut findings);
        severities.extend(findings.iter().map(|f| f.severity));
        if let (Some(folder), GazelleOutcome::Fetched { pin, .. }, None) = (&args.pins, &facts.outcome, &facts.replayed)
            && let Some(copy) = client.copy_id(url, &owner)
        {
            let folder = folder.join(copy.directory());
            std::fs::create_dir_all(&folder).with_context(|| format!("OUTPUT-UNWRITABLE: cannot write {}", folder.display()))?;
            for (name, bytes) in pin.to_files() {
                std::fs::write(folder.join(name), bytes)
                    .with_context(|| format!("OUTPUT-UNWRITABLE: cannot write {}", folder.display()))?;
            }
        }
        let verdict = Verdict::of(findings.iter().map(|f| f.severity));
        if args.json {
            let light = facts.without_bodies();
            render::print_line(&serde_json::json!({ "verdict": verdict, "findings": findings, "gazelle": light }).to_string())?;
        } else {
            render::gazelle(&style, &facts, verdict, &findings)?;
        }
    }
    Ok(exit_code(Verdict::of(severities), false))
}
