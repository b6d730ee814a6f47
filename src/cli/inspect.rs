//! `greffier inspect FILE…`: facts, findings and verdict of loose files, one after the other, whatever they are.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::render::{self, Style};
use super::{exit_code, find_pipeline, start_sandbox, tell_origin};
use crate::antivirus::Antivirus;
use crate::assess::completeness::{preuve_rules, slot_rules};
use crate::assess::file_rules::FileRules;
use crate::assess::policy::Severities;
use crate::check::facts_cache::FactsCache;
use crate::check::folder::open_file;
use crate::check::{Examiner, Source};
use crate::config::{Config, found};
use crate::model::{Lang, Severity, Verdict};
use crate::pipeline::{self, Loaded};

/// Options of `inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// Files; folders are walked
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Judge as a file of this slot (`documentation`, `versions-obsoletes`…), or `preuve` for any proof
    #[arg(long)]
    slot: Option<String>,
    /// Démarche whose limits and severities apply: an id or a path
    #[arg(long, value_name = "ID|FILE")]
    pipeline: Option<String>,
    /// One JSON object per line, as in report.json
    #[arg(long)]
    json: bool,
    /// Keep facts in this folder and use those already there
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Warnings count as rejections in the exit code
    #[arg(long)]
    strict: bool,
}

impl InspectArgs {
    /// What is to be inspected.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }
}

/// Runs `inspect`.
///
/// # Errors
/// Bad usage, configuration or pipeline; never because of a file.
pub async fn run(args: InspectArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    if !args.json {
        tell_origin(config, lang);
    }
    let loaded = match (&args.pipeline, &args.slot) {
        (None, None) => None,
        (wanted, _) => {
            let deposits = found::deposits(args.files());
            let path = find_pipeline(config, wanted.as_deref(), None, &deposits)?;
            Some(Arc::new(pipeline::load(&path)?))
        }
    };
    if let (Some(loaded), Some(slot)) = (&loaded, &args.slot) {
        rules_of(loaded, slot).with_context(|| {
            let known: Vec<_> = loaded.pipeline.slots.iter().map(|s| s.id.as_str()).collect();
            format!("INSPECT-UNKNOWN-SLOT: `{slot}` is not a slot of {}; slots: preuve, {}", loaded.pipeline.id, known.join(", "))
        })?;
    }
    let sandbox = start_sandbox(config).await?;
    let jobs = config.check.jobs();
    let examiner = Examiner::new(sandbox, args.cache.as_ref().map(FactsCache::new), jobs).with_antivirus(Antivirus::new(&config.antivirus));
    let style = Style::new(lang);
    let mut worst = Vec::new();
    let mut waiting = std::collections::VecDeque::new();
    let mut files = expand(&args.files).into_iter();
    let slot = args.slot.clone().map(Arc::<str>::from);
    loop {
        // A window of `jobs` children; results are shown in the order of the arguments.
        while waiting.len() < jobs {
            let Some(path) = files.next() else { break };
            waiting.push_back(tokio::spawn(inspect_one(path, examiner.clone(), loaded.clone(), slot.clone())));
        }
        let Some(next) = waiting.pop_front() else { break };
        let (path, report) = next.await.context("an inspection task ended abnormally")?;
        worst.push(match report.verdict {
            Verdict::Accepted => Severity::Notice,
            Verdict::AcceptedWithWarnings => Severity::Warning,
            Verdict::Undetermined => Severity::Fatal,
            Verdict::Rejected => Severity::Error,
        });
        let shown =
            if args.json { render::print_json(&serde_json::to_string(&report)?) } else { render::loose_item(&style, &path, &report) };
        match shown {
            // Nobody reads on (`… | head`): what was not looked at is undetermined, never accepted.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                if !waiting.is_empty() || files.next().is_some() {
                    worst.push(Severity::Fatal);
                }
                break;
            }
            shown => shown?,
        }
    }
    Ok(exit_code(Verdict::of(worst), args.strict))
}

async fn inspect_one(
    path: PathBuf,
    examiner: Examiner,
    loaded: Option<Arc<Loaded>>,
    slot: Option<Arc<str>>,
) -> (PathBuf, crate::model::report::ItemReport) {
    let none = Severities::new();
    let severities = loaded.as_ref().map_or(&none, |l| &l.pipeline.severities);
    let rules = match (&loaded, &slot) {
        (Some(loaded), Some(slot)) => rules_of(loaded, slot),
        _ => None,
    };
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), std::ffi::OsStr::to_string_lossy).into_owned();
    let source = open_file(&path, None, &path.to_string_lossy()).map(|file| Source { file, digest: None });
    let mut report = examiner.inspect_loose(&name, source, rules.as_ref(), severities).await;
    report.id = path.to_string_lossy().into_owned();
    if let Some(slot) = slot {
        report.filed_under = crate::model::submission::FiledUnder::Slot(slot.to_string());
    }
    (path, report)
}

fn rules_of<'a>(loaded: &'a Loaded, slot: &str) -> Option<FileRules<'a>> {
    if slot == "preuve" {
        return preuve_rules(loaded);
    }
    slot_rules(loaded, loaded.pipeline.slot(slot)?)
}

/// Files as given; folders replaced by the files below them, in name order.
fn expand(paths: &[PathBuf]) -> Vec<PathBuf> {
    fn below(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            // Shown as an item that cannot be read.
            files.push(folder.to_owned());
            return;
        };
        let mut entries: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
        entries.sort();
        for entry in entries {
            if entry.is_dir() && !entry.is_symlink() && depth < 32 {
                below(&entry, depth + 1, files);
            } else {
                files.push(entry);
            }
        }
    }
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            below(path, 0, &mut files);
        } else {
            files.push(path.clone());
        }
    }
    files
}
