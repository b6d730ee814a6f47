//! `greffier submit PATH`: put a deposit into staging, enqueue it, follow it, print the verdict.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::fleet::Edges;
use super::{EXIT_UNDETERMINED, exit_code, find_pipeline, render};
use crate::check::folder::{self, FolderSources};
use crate::check::ingest;
use crate::config::{Config, found};
use crate::model::event::{
    BUNDLE_READY, ITEM_CHECKED, ItemChecked, Outcome, SUBMISSION_DELAYED, SUBMISSION_PARKED, SUBMISSION_RECEIVED, SUBMISSION_REJECTED,
    SubmissionDelayed, SubmissionParked,
};
use crate::model::message::{Envelope, Lane, SUBMISSION_REQUESTED};
use crate::model::submission::{Content, Submission};
use crate::model::text::display_safe;
use crate::model::{Lang, Verdict};
use crate::pipeline;
use crate::queue::traced;
use crate::store::{self, Key, Store};

/// How long nothing may be heard before a person is told that perhaps nobody works.
const QUIET: Duration = Duration::from_secs(15);

/// Options of `submit`.
#[derive(Debug, clap::Args)]
pub struct SubmitArgs {
    /// A folder laid out by proof id, or a submission document (JSON)
    path: PathBuf,
    /// Lane
    #[arg(long, value_enum, default_value_t = Lane::Submission)]
    lane: Lane,
    /// The document's objects are keys of staging already: nothing is uploaded
    #[arg(long)]
    staged: bool,
    /// Revision, where it is not the document's own
    #[arg(long)]
    revision: Option<u32>,
    /// Do not wait for the outcome: print the message id and leave
    #[arg(long)]
    no_wait: bool,
    /// Give up waiting after this many seconds; the job goes on
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Where to put the bundle and its page once they are there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the outcome as JSON
    #[arg(long, conflicts_with = "no_wait")]
    json: bool,
}

impl SubmitArgs {
    /// What is to be deposited.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Runs `submit`. Exit codes are those of `check`; 3 also where the job is parked or the wait is given up.
///
/// # Errors
/// Bad document or configuration; queue or store fail.
pub async fn run(args: SubmitArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    let opened = folder::open(&args.path)?;
    let deposits = found::deposits([args.path.as_path()]);
    let loaded = pipeline::load(&find_pipeline(config, None, opened.demarche(), &deposits)?)?;
    let (mut submission, sources) = opened.into_submission(&loaded)?;
    if let Some(revision) = args.revision {
        submission.revision = revision;
    }
    let edges = Edges::open(config).await?;
    edges.queue.prepare().await?;
    if !args.staged {
        upload(&mut submission, &sources, edges.staging.as_ref()).await?;
    }
    let body = serde_json::to_vec(&submission)?;
    let id = hex::encode(&Sha256::digest(&body)[..16]);
    let mut replies = if args.no_wait { None } else { Some(edges.queue.replies().await?) };
    let message = Envelope {
        correlation_id: Some(id.clone()),
        reply_to: replies.as_ref().map(|r| r.address()),
        candidature: Some(submission.candidature.number.clone()).filter(|n| !n.is_empty()),
        time: Some(jiff::Timestamp::now()),
        ..Envelope::new(id.clone(), SUBMISSION_REQUESTED, "greffier submit", body)
    };
    traced::enqueue(edges.queue.as_ref(), args.lane, message).await?;
    let Some(replies) = &mut replies else {
        render::print_line(&id)?;
        return Ok(ExitCode::SUCCESS);
    };

    let bar = bar(submission.items.len() as u64, lang);
    let deadline = args.timeout.map(|s| tokio::time::Instant::now() + Duration::from_secs(s));
    let mut heard = false;
    // A job that is tried again tells its items again.
    let mut shown = BTreeSet::new();
    loop {
        // One wait for one event, whatever happens meanwhile: an event that is half received must not be dropped.
        let next = replies.next();
        tokio::pin!(next);
        let event = loop {
            let wait = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = &mut next => break event?,
                () = wait => {
                    bar.finish_and_clear();
                    let words = match lang {
                        Lang::Fr => "Aucun résultat pour l'instant ; le dépôt reste en file.",
                        Lang::En => "No outcome yet; the submission stays in the queue.",
                    };
                    anstream::eprintln!("{words}");
                    return Ok(ExitCode::from(EXIT_UNDETERMINED));
                }
                () = tokio::time::sleep(QUIET), if !heard => {
                    heard = true;
                    let words = match lang {
                        Lang::Fr => "Toujours en attente d'un worker (greffier worker, ou greffier serve sur ce poste)…",
                        Lang::En => "Still waiting for a worker (greffier worker, or greffier serve on this machine)…",
                    };
                    bar.suspend(|| anstream::eprintln!("{words}"));
                }
            }
        };
        heard = true;
        match event.kind.as_str() {
            SUBMISSION_RECEIVED => {}
            ITEM_CHECKED => {
                let item: ItemChecked = serde_json::from_slice(&event.body)?;
                bar.set_position(item.done);
                if item.verdict == Verdict::Rejected && !args.json && shown.insert(item.item.clone()) {
                    let line = match item.findings.first() {
                        Some(finding) => format!("✘ {} — {}", display_safe(&item.item, 120), finding.summary.get(lang)),
                        None => format!("✘ {}", display_safe(&item.item, 120)),
                    };
                    bar.suspend(|| anstream::eprintln!("{line}"));
                }
            }
            SUBMISSION_DELAYED => {
                let delayed: SubmissionDelayed = serde_json::from_slice(&event.body)?;
                let words = match lang {
                    Lang::Fr => "Remis à plus tard, nouvel essai automatique",
                    Lang::En => "Put off, tried again by itself",
                };
                let detail = display_safe(&delayed.reason.detail, 300);
                bar.suspend(|| anstream::eprintln!("{words}: {} [{}] {detail}", delayed.explanation.get(lang), delayed.reason.code));
            }
            BUNDLE_READY | SUBMISSION_REJECTED => {
                bar.finish_and_clear();
                let outcome: Outcome = serde_json::from_slice(&event.body)?;
                if let Some(out) = &args.out {
                    download(&outcome, edges.vault.as_ref(), out).await?;
                }
                if args.json {
                    render::print_json(&serde_json::to_string_pretty(&outcome)?)?;
                } else {
                    render::print_line(outcome.message.get(lang))?;
                    render::print_line(&format!("→ {}", display_safe(&outcome.objects.bundle.key, 300)))?;
                }
                return Ok(exit_code(outcome.verdict, false));
            }
            SUBMISSION_PARKED => {
                bar.finish_and_clear();
                let parked: SubmissionParked = serde_json::from_slice(&event.body)?;
                if args.json {
                    render::print_json(&serde_json::to_string_pretty(&parked)?)?;
                } else {
                    let detail = display_safe(&parked.reason.detail, 500);
                    render::print_line(&format!("{} [{}] {detail}", parked.explanation.get(lang), parked.reason.code))?;
                }
                return Ok(ExitCode::from(EXIT_UNDETERMINED));
            }
            // A later version tells more; it is not for us.
            _ => {}
        }
    }
}

/// Puts every file into staging under its digest, and states its size and digest in the submission.
async fn upload(submission: &mut Submission, sources: &FolderSources, staging: &dyn Store) -> anyhow::Result<()> {
    for item in &mut submission.items {
        let Content::File(file) = &mut item.content else { continue };
        let opened = match sources.open_now(file) {
            Ok(opened) => opened,
            // Told by the check, like any other file that is not there: its key leads nowhere.
            Err(e) => {
                tracing::warn!(error = %e, "a file cannot be uploaded");
                continue;
            }
        };
        let (mut opened, digest) = tokio::task::spawn_blocking(move || ingest::digest(opened)).await??;
        let key = Key::ours(format!("uploads/{}/{}", &digest.sha256[..2], digest.sha256));
        // A copy that nobody changes while it is written.
        let mut copy = match staging.spool() {
            Some(spool) => {
                std::fs::create_dir_all(&spool)?;
                tempfile::NamedTempFile::new_in(spool)?
            }
            None => tempfile::NamedTempFile::new()?,
        };
        std::io::copy(&mut opened, copy.as_file_mut())?;
        let content = store::Content::File { path: copy.path(), size: digest.size, sha256: &digest.sha256 };
        staging.create(&key, content, "application/octet-stream").await?;
        file.object = key.as_str().to_owned();
        file.size.get_or_insert(digest.size);
        file.sha256.get_or_insert(digest.sha256);
    }
    Ok(())
}

/// Copies bundle, page, report, seal and receipt.
async fn download(outcome: &Outcome, vault: &dyn Store, out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("OUTPUT-UNWRITABLE: cannot write {}", out.display()))?;
    let objects = &outcome.objects;
    let all = [Some(&objects.bundle), Some(&objects.report), Some(&objects.page), objects.seal.as_ref(), objects.receipt.as_ref()];
    for object in all.into_iter().flatten() {
        let key: Key = object.key.parse()?;
        let name = object.key.rsplit('/').next().unwrap_or("object");
        let mut opened = vault.open(&key).await?.with_context(|| format!("STORE-GONE: `{key}` is not in the vault"))?;
        let mut file = tempfile::NamedTempFile::new_in(out)?;
        let mut chunk = vec![0_u8; 256 * 1024];
        let mut hasher = Sha256::new();
        loop {
            let n = opened.reader.read(&mut chunk).await?;
            if n == 0 {
                break;
            }
            hasher.update(&chunk[..n]);
            std::io::Write::write_all(&mut file, &chunk[..n])?;
        }
        if hex::encode(hasher.finalize()) != object.sha256 {
            anyhow::bail!("STORE-CORRUPT: `{key}` is not what its digest says");
        }
        file.persist(out.join(name)).map_err(|e| e.error)?;
    }
    Ok(())
}

fn bar(total: u64, lang: Lang) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:32} {pos}/{len} ({eta})") {
        bar.set_style(style);
    }
    bar.set_message(match lang {
        Lang::Fr => "Vérification",
        Lang::En => "Checking",
    });
    bar
}
