//! `greffier check PATH`: the main job on one machine, with nothing else installed.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::render::{self, Style};
use super::{exit_code, find_pipeline, start_sandbox};
use crate::antivirus::Antivirus;
use crate::assess::{Examined, answer, privacy, rounds};
use crate::check::facts_cache::FactsCache;
use crate::check::folder::{self, FolderSources};
use crate::check::links::Links;
use crate::check::previews::Renderers;
use crate::check::{Checked, Examiner, Progress};
use crate::config::Config;
use crate::gazelle::{DirPins, GazelleConfig, NoPins, PinSource, pin};
use crate::model::Lang;
use crate::model::gazelle::Pin;
use crate::model::report::Report;
use crate::model::submission::{Content, FileRef, Stage, Submission};
use crate::model::text::display_safe;
use crate::pipeline::ids;
use crate::seal::journal::{Field, Fields};
use crate::seal::{self, Journal, Receipt, Seal, SealKey};
use crate::{bundle, pipeline};

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
    /// Ask no Gazelle server: links stay undetermined, or are answered from copies kept by an earlier run
    #[arg(long)]
    offline: bool,
    /// Report of the round before (its report.json or its bundle): what changed since is told
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Print the message to paste into the platform's messaging instead of the report
    #[arg(long, conflicts_with = "json")]
    message: bool,
    /// Private key (JWK) that seals the bundle and signs the receipt; also read from GREFFIER_SEAL_KEY
    #[arg(long, value_name = "FILE", requires = "out")]
    seal_key: Option<PathBuf>,
    /// Write the request by which a time stamping authority (RFC 3161) can date the seal; nothing is sent
    #[arg(long, requires = "out")]
    timestamp_request: bool,
    /// Look at every file again, whatever is cached under --out
    #[arg(long)]
    no_cache: bool,
}

/// Runs `check`.
///
/// # Errors
/// Bad usage, configuration, pipeline or document; or the bundle cannot be written.
pub async fn run(args: CheckArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    // What can fail before any file is looked at fails first.
    let received_at = Timestamp::now();
    let key = SealKey::find(args.seal_key.as_deref())?;
    if args.timestamp_request && key.is_none() {
        anyhow::bail!("TIMESTAMP-NO-SEAL: a time stamp is over the seal: give --seal-key or GREFFIER_SEAL_KEY");
    }
    let previous = args.previous.as_deref().map(earlier_report).transpose()?;
    let opened = folder::open(&args.path)?;
    let wanted = args.pipeline.as_deref().or(opened.demarche()).unwrap_or(&config.pipelines.default);
    let loaded = pipeline::load(&find_pipeline(config, wanted)?)?;
    let walked = opened.walked().map(Path::to_owned);
    let (mut submission, sources) = opened.into_submission(&loaded)?;
    if let Some(stage) = &args.stage {
        submission.stage = match stage.as_str() {
            "eligibility" => Stage::Eligibility,
            "dossier" => Stage::Dossier,
            wanted => {
                let Some(chapter) = loaded.pipeline.chapter(wanted) else {
                    let known: Vec<_> = loaded.pipeline.chapters.iter().map(|c| c.id.as_str()).collect();
                    anyhow::bail!("CHECK-UNKNOWN-STAGE: `{wanted}` is none of eligibility, dossier, {}", known.join(", "));
                };
                Stage::Chapter { chapter: chapter.id.clone() }
            }
        };
    }
    if let Some(out) = &args.out {
        prepare_out(out, walked.as_deref())?;
    }
    let mut signing = match (&args.out, key) {
        (Some(out), Some(key)) => Some(Signing::begin(out, key, received_at, args.timestamp_request, &submission)?),
        _ => None,
    };
    let sources = Arc::new(sources);
    let cache = args.out.as_ref().filter(|_| !args.no_cache).map(|out| FactsCache::new(out.join(".cache/facts")));
    let pins: Arc<dyn PinSource> = match &args.out {
        Some(out) => Arc::new(DirPins(out.join(PINS))),
        None => Arc::new(NoPins),
    };
    let gazelle = GazelleConfig { offline: config.gazelle.offline || args.offline, ..config.gazelle.clone() };
    let links = Links::new(gazelle, loaded.pipeline.gazelle.clone(), pins)?;
    let renderers = Renderers::find(&config.preview, std::env::var_os("PATH").as_deref())?;
    let examiner = Examiner::new(start_sandbox(config).await?, cache, config.check.jobs())
        .with_links(links)
        .with_renderers(renderers)
        .with_antivirus(Antivirus::new(&config.antivirus));
    let bar = Bar::new(submission.items.len() as u64, lang);
    let Checked { mut report, pins, took: _ } = examiner.check(&loaded, &submission, sources.clone(), &bar).await;
    bar.bar.finish_and_clear();
    if let Some(previous) = &previous {
        let requests = privacy::masked_requests(&submission.requests, &loaded.pipeline.guards.privacy);
        rounds::attach(&mut report, previous, &requests, &ids::canonical, &loaded.pipeline.severities)?;
    }
    let written = match &args.out {
        Some(out) => {
            let previews = examiner.previews(&report, &submission, sources.clone()).await;
            let outputs = Outputs { out, previews, pins: &pins, signing: signing.as_mut() };
            Some(write_outputs(outputs, &mut report, &submission, &sources)?)
        }
        None => None,
    };

    let shown = if args.json {
        render::print_json(&serde_json::to_string_pretty(&report)?)
    } else if args.message {
        render::print_line(&answer::vendor_message(&report, lang))
    } else {
        render::report(&Style::new(lang), &report, args.all).and_then(|()| match &written {
            Some(written) => render::print_line(&format!("  → {}", display_safe(&written.to_string_lossy(), 2000))),
            None => Ok(()),
        })
    };
    match shown {
        // Nobody reads on (`… | head`): the verdict stands all the same.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(exit_code(report.verdict, args.strict)),
    }
}

/// Learns before hours of checking, rather than after, that nothing could be written.
fn prepare_out(out: &Path, walked: Option<&Path>) -> anyhow::Result<()> {
    let failed = || format!("OUTPUT-UNWRITABLE: cannot write {}", out.display());
    let existing = std::path::absolute(out).with_context(failed)?.ancestors().find_map(|a| a.canonicalize().ok());
    if let (Some(existing), Some(walked)) = (existing, walked.and_then(|w| w.canonicalize().ok()))
        && existing.starts_with(&walked)
    {
        anyhow::bail!(
            "OUTPUT-INSIDE-DEPOSIT: {} stands inside the folder that is checked, and would be deposited by the next run",
            out.display()
        );
    }
    std::fs::create_dir_all(out).with_context(failed)?;
    tempfile::tempfile_in(out).with_context(failed)?;
    Ok(())
}

/// Copies of Gazelle reports kept from run to run, below `--out`.
const PINS: &str = ".cache/gazelle";

/// The report of an earlier round: a `report.json`, or the one inside a bundle, which must then be intact.
fn earlier_report(path: &Path) -> anyhow::Result<Report> {
    let unreadable = || format!("ROUND-UNREADABLE: no report can be read from {}", path.display());
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|f| f.take(crate::model::report::MAX_REPORT_BYTES).read_to_end(&mut bytes))
            .with_context(unreadable)?;
        return serde_json::from_slice(&bytes).with_context(unreadable);
    }
    let verified = bundle::verify::verify(path).with_context(unreadable)?;
    match verified.report {
        Some(report) if verified.valid => Ok(*report),
        _ => anyhow::bail!("ROUND-NOT-INTACT: {} is not an intact bundle; `greffier verify` says why", path.display()),
    }
}

/// What goes below `--out` besides the report.
struct Outputs<'a> {
    out: &'a Path,
    previews: BTreeMap<String, Vec<bundle::Preview>>,
    pins: &'a BTreeMap<String, Pin>,
    signing: Option<&'a mut Signing>,
}

/// What is signed and written down beside the bundle: seal, receipt, journal. They hold clocks or depend on a key, so the
/// bundle knows nothing of them.
struct Signing {
    key: SealKey,
    received_at: Timestamp,
    timestamp_request: bool,
    journal: Journal,
}

impl Signing {
    /// Opens the journal and writes down that the deposit was received, before any of it is looked at.
    fn begin(out: &Path, key: SealKey, received_at: Timestamp, timestamp_request: bool, submission: &Submission) -> anyhow::Result<Self> {
        let mut journal = Journal::open(&seal::journal_path(out))?;
        let fields = Fields::from([
            ("candidature".into(), submission.candidature.number.as_str().into()),
            ("revision".into(), submission.revision.into()),
            ("items".into(), (submission.items.len() as u64).into()),
        ]);
        journal.append(received_at, "received", fields)?;
        Ok(Self { key, received_at, timestamp_request, journal })
    }

    fn note(&mut self, event: &str, fields: [(&str, Field); 2]) -> anyhow::Result<()> {
        let fields = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
        self.journal.append(Timestamp::now(), event, fields)?;
        Ok(())
    }

    /// Seals the bundle at `path`, writes everything down, and signs the receipt last: it witnesses the rest.
    fn finish(&mut self, out: &Path, path: &Path, tagmanifest_sha256: &str, report: &Report) -> anyhow::Result<()> {
        let write = |path: &Path, bytes: &[u8]| {
            whole(out, path, bytes).with_context(|| format!("OUTPUT-UNWRITABLE: cannot write {}", path.display()))
        };
        self.note("checked", [("report", report.id.as_str().into()), ("verdict", report.verdict.as_str().into())])?;
        let seal = Seal::of(report, tagmanifest_sha256)?.sign(&self.key)?;
        write(&seal::seal_path(path), seal.as_bytes())?;
        if self.timestamp_request {
            write(&seal::timestamp_request_path(path), &seal::timestamp::request(seal.as_bytes()))?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.note("bundle-published", [("bundle", name.into()), ("manifest_sha256", tagmanifest_sha256.into())])?;
        let issued_at = Timestamp::now();
        self.note("receipt", [("report", report.id.as_str().into()), ("key", self.key.kid().into())])?;
        let receipt = Receipt::of(report, self.received_at, issued_at).witnessing(self.journal.head()).sign(&self.key)?;
        write(&seal::receipt_path(path), receipt.as_bytes())
    }
}

/// Writes bundle, seal, report, page and message below `out`, each whole or not at all; returns the bundle's path.
fn write_outputs(outputs: Outputs<'_>, report: &mut Report, submission: &Submission, sources: &FolderSources) -> anyhow::Result<PathBuf> {
    let out = outputs.out;
    let failed = |what: &Path| format!("OUTPUT-UNWRITABLE: cannot write {}", what.display());
    std::fs::create_dir_all(out).with_context(|| failed(out))?;
    let mut options = bundle::Options { previews: outputs.previews, ..bundle::Options::default() };
    for pin in outputs.pins.values() {
        let folder = pin::directory(&pin.link.id);
        for (name, bytes) in pin.to_files() {
            let kept = out.join(PINS).join(&folder);
            std::fs::create_dir_all(&kept).with_context(|| failed(&kept))?;
            std::fs::write(kept.join(&name), &bytes).with_context(|| failed(&kept))?;
            options.attachments.insert(format!("gazelle/{folder}/{name}"), bytes);
        }
    }
    let payloads = Payloads::new(report, submission, sources);
    let mut file = tempfile::NamedTempFile::new_in(out).with_context(|| failed(out))?;
    let summary = bundle::write(report, &payloads, &options, &mut file).context("BUNDLE-FAILED: the bundle was not written")?;
    let path = out.join(format!("{}.zip", summary.root));
    keep(file, &path).with_context(|| failed(&path))?;
    match outputs.signing {
        Some(signing) => signing.finish(out, &path, &summary.tagmanifest_sha256, report)?,
        // A seal of what stood here before would only accuse the new bundle.
        None => {
            for stale in [seal::seal_path(&path), seal::timestamp_request_path(&path)] {
                match std::fs::remove_file(&stale) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(|| failed(&stale)),
                    _ => {}
                }
            }
        }
    }
    let page = bundle::html::render(report, &bundle::html::PageOptions { previews: &options.previews, link_base: None })?;
    let message = answer::vendor_message(report, Lang::Fr);
    let files =
        [("report.json", serde_json::to_vec_pretty(report)?), ("index.html", page.into_bytes()), ("message.txt", message.into_bytes())];
    for (name, bytes) in files {
        let path = out.join(name);
        whole(out, &path, &bytes).with_context(|| failed(&path))?;
    }
    Ok(path)
}

/// Writes a file whole or not at all.
fn whole(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    keep(file, path)
}

/// Gives a finished temporary file its name, readable like any other file of the user.
fn keep(file: tempfile::NamedTempFile, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map(|_| ()).map_err(|e| e.error)
}

/// The bytes of items, for the bundle.
struct Payloads<'a> {
    sources: &'a FolderSources,
    files: BTreeMap<String, (FileRef, u64, String)>,
}

impl<'a> Payloads<'a> {
    fn new(report: &Report, submission: &Submission, sources: &'a FolderSources) -> Self {
        let mut files = BTreeMap::new();
        let reports: BTreeMap<&str, _> = report.items.iter().map(|r| (r.id.as_str(), r)).collect();
        for item in &submission.items {
            let looked = reports.get(item.id.as_str());
            if let (Content::File(file), Some((Some(size), Some(sha256)))) = (&item.content, looked.map(|r| (r.size, r.sha256.clone()))) {
                files.insert(item.id.clone(), (file.clone(), size, sha256));
            }
        }
        Self { sources, files }
    }
}

impl bundle::PayloadSource for Payloads<'_> {
    fn open(&self, item: &str) -> std::io::Result<bundle::Payload<'_>> {
        let Some((file, size, sha256)) = self.files.get(item) else {
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no bytes were received for this item"));
        };
        let open = self.sources.open_now(file).map_err(std::io::Error::other)?;
        Ok(bundle::Payload { reader: Box::new(open), size: *size, sha256: sha256.clone() })
    }
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
    fn item_done(&self, _item: &str, _looked: &Examined, done: usize, _total: usize) {
        self.bar.set_position(done as u64);
    }
}
