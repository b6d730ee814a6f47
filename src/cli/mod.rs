//! The command line: one file per subcommand; human output, `--json`, exit codes. No logic of its own.

pub mod audit;
pub mod catalogue;
pub mod check;
pub mod doctor;
pub mod explain;
pub mod fleet;
pub mod gazelle;
pub mod health;
pub mod inspect;
pub mod keys;
pub mod pipeline;
pub mod queue;
pub mod render;
pub mod schema;
pub mod submit;
pub mod verify;
pub mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, LogConfig, LogFormat, Origin, found};
use crate::model::{Lang, Verdict, errors};
use crate::sandbox::Sandbox;
use crate::telemetry;

/// Everything accepted, perhaps with warnings.
pub const EXIT_ACCEPTED: u8 = 0;
/// Something is rejected, or a bundle is not intact.
pub const EXIT_REJECTED: u8 = 1;
/// Bad usage, configuration, pipeline or submission document; nothing was checked.
pub const EXIT_USAGE: u8 = 2;
/// A technical failure left something undetermined, and nothing is rejected.
pub const EXIT_UNDETERMINED: u8 = 3;

/// greffier vérifie les preuves d'une candidature avant le vérificateur.
///
/// greffier checks the proofs of a candidature before the verifier does.
#[derive(Debug, Parser)]
#[command(name = "greffier", version, after_help = EXIT_HELP)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const EXIT_HELP: &str = "Exit codes: 0 accepted (perhaps with warnings), 1 rejected, 2 bad usage, configuration or \
document, 3 undetermined (technical failure).";

/// Options of every subcommand.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Configuration file (TOML)
    #[arg(long, global = true, env = "GREFFIER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Language of what people read
    #[arg(long, global = true, value_enum)]
    lang: Option<Lang>,
    /// Colours
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    color: Colour,
    /// Tell more on standard error; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a folder or a submission document and write a verification-ready bundle
    Check(check::CheckArgs),
    /// Describe and judge loose files, without a candidature
    Inspect(inspect::InspectArgs),
    /// Check and show the rules of a démarche
    Pipeline(pipeline::PipelineArgs),
    /// Import and show a requirement list
    Catalogue(catalogue::CatalogueArgs),
    /// Ask Gazelle for the reports behind links
    Gazelle(gazelle::GazelleArgs),
    /// Check that a bundle is complete and unchanged
    Verify(verify::VerifyArgs),
    /// Take submissions from the queue, check them, publish bundles, until told to stop
    Worker(worker::WorkerArgs),
    /// Work, with a console in the browser that also takes deposits for a pre-check
    Serve(worker::ServeArgs),
    /// Put a deposit into the queue, follow it, print the verdict
    Submit(submit::SubmitArgs),
    /// Tell whether anything that was received is nowhere
    Audit(audit::AuditArgs),
    /// Explain a finding or error code
    Explain(explain::ExplainArgs),
    /// Try the sandbox and compare this machine with the limits
    Doctor(doctor::DoctorArgs),
    /// Ask a worker of this machine whether it is ready, or makes progress; for probes
    Health(health::HealthArgs),
    /// Print the JSON Schema of a document
    Schema(schema::SchemaArgs),
    /// Make the keys that seal bundles and sign receipts
    Keys(keys::KeysArgs),
    /// See what waits in the queue, and put parked jobs back
    Queue(queue::QueueArgs),
}

impl Command {
    /// The folders of what this command looks at, which come from outside.
    fn deposits(&self) -> Vec<PathBuf> {
        match self {
            Self::Check(args) => found::deposits([args.path()]),
            Self::Inspect(args) => found::deposits(args.files()),
            Self::Submit(args) => found::deposits([args.path()]),
            _ => Vec::new(),
        }
    }
}

/// Says which settings file was found and read, where the command line names none.
fn tell_origin(config: &Config, lang: Lang) {
    if let Origin::WorkingDirectory(path) = &config.origin {
        let words = if lang == Lang::Fr { "Réglages lus dans" } else { "Settings read from" };
        anstream::eprintln!("{words} ./{}", path.display());
    }
}

/// Reads the command line and runs it.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    // Variables that are not UTF-8 cannot be ours.
    let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let config = match Config::load(cli.common.config.as_deref(), environment, &cli.command.deposits()) {
        Ok(config) => config,
        Err(e) => return fail(&anyhow::Error::new(e), cli.common.lang.unwrap_or_default()),
    };
    match cli.common.color {
        Colour::Auto => {}
        Colour::Always => anstream::ColorChoice::Always.write_global(),
        Colour::Never => anstream::ColorChoice::Never.write_global(),
    }
    start_logging(&config.log, cli.common.verbose, cli.common.color);
    let lang = cli.common.lang.unwrap_or(config.check.lang);
    if let Some(path) = config.origin.path() {
        tracing::info!(path = %path.display(), "settings were read from a file");
    }
    // What jobs go through; other commands are over before anybody would look at a trace of them.
    let traced = matches!(cli.command, Command::Worker(_) | Command::Serve(_) | Command::Submit(_));
    let telemetry = match traced.then(|| telemetry::start(&config.telemetry)).transpose() {
        Ok(telemetry) => telemetry.flatten(),
        Err(e) => return fail(&e.into(), lang),
    };
    let ended = match cli.command {
        Command::Check(args) => check::run(args, &config, lang).await,
        Command::Inspect(args) => inspect::run(args, &config, lang).await,
        Command::Pipeline(args) => pipeline::run(args),
        Command::Catalogue(args) => catalogue::run(args),
        Command::Gazelle(args) => gazelle::run(args, &config, lang).await,
        Command::Verify(args) => verify::run(&args, lang),
        Command::Worker(args) => worker::run(&args, &config, lang).await,
        Command::Serve(args) => worker::serve(&args, &config, lang).await,
        Command::Submit(args) => submit::run(args, &config, lang).await,
        Command::Audit(args) => audit::run(args, &config, lang).await,
        Command::Explain(args) => explain::run(&args, lang),
        Command::Doctor(args) => doctor::run(&args, &config, lang).await,
        Command::Health(args) => health::run(&args, &config, lang).await,
        Command::Schema(args) => schema::run(&args),
        Command::Keys(args) => keys::run(&args, lang),
        Command::Queue(args) => queue::run(args, &config, lang).await,
    };
    if let Some(telemetry) = telemetry {
        telemetry.finish().await;
    }
    ended.unwrap_or_else(|e| fail(&e, lang))
}

/// An error a person reads: what its code means in their language, then what, then why, one cause per line; nothing of the
/// inside.
fn fail(error: &anyhow::Error, lang: Lang) -> ExitCode {
    use crate::model::text::display_safe;
    // Reading end closed (`greffier … | head`): nobody is left to tell, and nothing failed.
    if error.chain().any(|c| c.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)) {
        return ExitCode::from(EXIT_ACCEPTED);
    }
    let lines: Vec<_> = error.chain().flat_map(|cause| cause.to_string().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let code = lines.iter().find_map(|line| errors::code_in(line));
    let summary = code.and_then(errors::get).map(|page| page.summary.get(lang).to_owned());
    for (n, line) in summary.into_iter().chain(lines).enumerate() {
        anstream::eprintln!("{}{}", if n == 0 { "greffier: " } else { "  " }, display_safe(&line, 2000));
    }
    if let Some(code) = code {
        anstream::eprintln!("  → greffier explain {code}");
    }
    // Nobody has to change anything but to try again.
    let passes = error.chain().any(|c| c.downcast_ref::<crate::queue::QueueError>().is_some_and(crate::queue::QueueError::is_transient));
    ExitCode::from(if passes { EXIT_UNDETERMINED } else { EXIT_USAGE })
}

fn start_logging(config: &LogConfig, verbose: u8, colour: Colour) {
    use tracing_subscriber::EnvFilter;
    let filter = match verbose {
        0 => config.filter.clone(),
        1 => "info,lapin=error".into(),
        _ => "debug,lapin=error".into(),
    };
    let filter = EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new("warn,lapin=error"));
    let coloured = match colour {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => std::io::IsTerminal::is_terminal(&std::io::stderr()),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(coloured);
    // Only fails when a logger is installed already, which nothing before this does.
    let _ = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().map_event_format(telemetry::log::Traced).try_init(),
    };
}

/// The exit code of a verdict.
pub fn exit_code(verdict: Verdict, strict: bool) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::Accepted => EXIT_ACCEPTED,
        Verdict::AcceptedWithWarnings if strict => EXIT_REJECTED,
        Verdict::AcceptedWithWarnings => EXIT_ACCEPTED,
        Verdict::Rejected => EXIT_REJECTED,
        Verdict::Undetermined => EXIT_UNDETERMINED,
    })
}

/// Starts the sandbox, and says loudly what this machine lacks.
async fn start_sandbox(config: &Config) -> anyhow::Result<Sandbox> {
    use anyhow::Context as _;
    let sandbox = Sandbox::start(config.sandbox.clone(), config.inspect.clone()).await.context(
        "SANDBOX-UNAVAILABLE: files are only opened in isolation; to go on without a mechanism, list it under `sandbox.allow_missing` \
         (or GREFFIER_SANDBOX__ALLOW_MISSING='[\"landlock\"]')",
    )?;
    for (mechanism, reason) in sandbox.missing() {
        tracing::warn!(mechanism = mechanism.as_str(), reason, "isolation is incomplete on this machine, as configured");
    }
    Ok(sandbox)
}

/// The rules of a démarche: of the one that the user asked for, by id or by file; else of the one that the deposit names, by id
/// only, because a deposit does not choose a file of this machine; else of the default. Rules that are found relative to the working
/// directory are obeyed as its settings are.
fn find_pipeline(config: &Config, asked: Option<&str>, named_by_deposit: Option<&str>, deposits: &[PathBuf]) -> anyhow::Result<PathBuf> {
    if let Some(file) = asked.filter(|asked| asked.ends_with(".toml")) {
        return Ok(PathBuf::from(file));
    }
    let wanted = asked.or(named_by_deposit).unwrap_or(&config.pipelines.default);
    let safe = wanted.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let candidates = config.pipelines.folders.iter().map(|f| f.join(format!("{wanted}.toml")));
    if let Some(found) = safe.then_some(candidates).into_iter().flatten().find(|p| p.is_file()) {
        if found.is_relative() {
            found::check(&found, deposits)?;
        }
        return Ok(found);
    }
    let searched: Vec<_> = config.pipelines.folders.iter().map(|f| f.display().to_string()).collect();
    anyhow::bail!("PIPELINE-NOT-FOUND: no `{wanted}.toml` in {}", searched.join(", "))
}
