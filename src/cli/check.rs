//! `greffier check PATH`: the main job on one machine, with nothing else installed.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::render::{self, Style};
use super::{exit_code, find_pipeline, start_sandbox};
use crate::check::facts_cache::FactsCache;
use crate::check::{Checked, Examiner, Progress, folder};
use crate::config::Config;
use crate::model::Lang;
use crate::model::submission::Stage;
use crate::pipeline;

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// A submission document (JSON), or a folder laid out by proof id
    path: PathBuf,
    /// Where to write the bundle; without it, nothing is written
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Démarche: an id or a path; by default the one the submission names
    #[arg(long, value_name = "ID|FILE")]
    pipeline: Option<String>,
    /// Check only this part: `eligibility`, a chapter id, or `dossier`
    #[arg(long)]
    stage: Option<String>,
    /// Print report.json instead of text
    #[arg(long)]
    json: bool,
    /// Show every finding in full, notices too
    #[arg(long)]
    all: bool,
    /// Warnings count as rejections in the exit code
    #[arg(long)]
    strict: bool,
    /// Look at every file again, whatever is cached under --out
    #[arg(long)]
    no_cache: bool,
}

/// Runs `check`.
///
/// # Errors
/// Bad usage, configuration, pipeline or document; or the bundle cannot be written.
pub async fn run(args: CheckArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    let opened = folder::open(&args.path)?;
    let wanted = args.pipeline.as_deref().or(opened.demarche()).unwrap_or(&config.pipelines.default);
    let loaded = pipeline::load(&find_pipeline(config, wanted)?)?;
    let (mut submission, sources) = opened.into_submission(&loaded)?;
    if let Some(stage) = &args.stage {
        submission.stage = match stage.as_str() {
            "eligibility" => Stage::Eligibility,
            "dossier" => Stage::Dossier,
            chapter => Stage::Chapter { chapter: chapter.to_owned() },
        };
    }
    let sources = Arc::new(sources);
    let cache = args.out.as_ref().filter(|_| !args.no_cache).map(|out| FactsCache::new(out.join(".cache/facts")));
    let examiner = Examiner::new(start_sandbox(config).await?, cache, config.check.jobs());
    let bar = Bar::new(submission.items.len() as u64, lang);
    let Checked { report, pins: _ } = examiner.check(&loaded, &submission, sources.clone(), &bar).await;
    bar.bar.finish_and_clear();

    if args.json {
        render::print_line(&serde_json::to_string_pretty(&report)?)?;
    } else {
        render::report(&Style::new(lang), &report, args.all)?;
    }
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    }
    Ok(exit_code(report.verdict, args.strict))
}

struct Bar {
    bar: ProgressBar,
}

impl Bar {
    fn new(total: u64, lang: Lang) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::new(total);
        let word = match lang {
            Lang::Fr => "Vérification",
            Lang::En => "Checking",
        };
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:32} {pos}/{len} ({eta})") {
            bar.set_style(style);
        }
        bar.set_message(word);
        Self { bar }
    }
}

impl Progress for Bar {
    fn item_done(&self, _item: &str, done: usize, _total: usize) {
        self.bar.set_position(done as u64);
    }
}
