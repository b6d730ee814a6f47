//! `greffier doctor`: what this machine can and cannot do, before work starts.

use std::process::ExitCode;

use jiff::Timestamp;

use super::fleet::Edges;
use super::{EXIT_REJECTED, render};
use crate::antivirus::Antivirus;
use crate::check::previews::Renderers;
use crate::config::Config;
use crate::model::Lang;
use crate::model::probe::Probe;
use crate::model::text::{chain, display_safe};
use crate::ops::{login_probes, machine};
use crate::sandbox::{Drill, Sandbox};
use crate::telemetry;

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Try what a worker needs too: its folders, its queue (what is missing there is declared) and its stores
    #[arg(long)]
    worker: bool,
}

/// Runs `doctor`: exit code 0 when everything holds, 1 otherwise.
///
/// # Errors
/// Standard output is closed.
pub async fn run(args: &DoctorArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let mut probes = vec![settings(config)];
    probes.extend(sandbox(config).await?);
    probes.extend(machine::probes(config, now).await);
    match Antivirus::new(&config.antivirus) {
        Some(antivirus) => {
            probes.extend(antivirus.probe(config.worker.max_file_bytes, now).await);
            probes.extend(antivirus.probe_largest(config.worker.max_file_bytes).await);
        }
        None => probes.push(Probe::passed("antivirus", "none is configured (antivirus.engines): reports say that nothing was scanned")),
    }
    probes.extend(renderers(config));
    // What neither a check nor a worker waits for, each bounded by the time that its own client gives it.
    let (login, collector) = tokio::join!(login_probes(&config.http.oidc), telemetry::probe(&config.telemetry));
    probes.extend(login.into_iter().chain(collector));
    if args.worker {
        probes.extend(machine::worker_probes(config, now).await);
        match Edges::open(config).await {
            Ok(edges) => {
                probes.extend(edges.probe().await);
                edges.queue.close().await;
            }
            Err(e) => probes.push(Probe::failed("queue and stores", chain(e.as_ref()))),
        }
    }
    let ok = probes.iter().all(|p| p.ok);
    if args.json {
        render::print_line(&serde_json::json!({ "ok": ok, "checks": probes }).to_string())?;
    } else {
        let width = probes.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
        for probe in &probes {
            // What servers answered stands in some of these.
            let detail = display_safe(&probe.detail, 2000);
            render::print_line(&format!("{} {:<width$} {detail}", if probe.ok { "✔" } else { "✘" }, display_safe(&probe.name, 200)))?;
        }
        let (fr, en) = if ok {
            ("Cette machine est prête.", "This machine is ready.")
        } else {
            ("Cette machine n'est pas prête.", "This machine is not ready.")
        };
        render::print_line(if lang == Lang::Fr { fr } else { en })?;
        if !args.worker {
            let (fr, en) = (
                "La file, les stockages et les dossiers d'un worker n'ont pas été regardés : greffier doctor --worker.",
                "A worker's queue, stores and folders were not looked at: greffier doctor --worker.",
            );
            render::print_line(if lang == Lang::Fr { fr } else { en })?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REJECTED) })
}

/// Which file the settings were read from.
fn settings(config: &Config) -> Probe {
    let none = || "no file: defaults and the environment".to_owned();
    Probe::passed("settings", config.origin.path().map_or_else(none, |path| path.display().to_string()))
}

/// What draws previews. That nothing does costs pictures, and nothing else.
fn renderers(config: &Config) -> Vec<Probe> {
    let found = match Renderers::find(&config.preview, std::env::var_os("PATH").as_deref()) {
        Ok(found) => found,
        Err(e) => return vec![Probe::failed("previews", e.to_string())],
    };
    let of = |what, program: Option<&std::path::Path>, key| {
        let none = || format!("none: no pictures ({key})");
        Probe::passed(format!("previews of {what}"), program.map_or_else(none, |program| program.display().to_string()))
    };
    vec![
        of("PDF", found.pdf(), "pdftoppm in PATH, or preview.pdf_renderer"),
        of("videos", found.video(), "ffmpeg in PATH, or preview.video_renderer"),
    ]
}

/// The mechanisms of the sandbox, and how each drill ends.
async fn sandbox(config: &Config) -> anyhow::Result<Vec<Probe>> {
    let sandbox = match Sandbox::start(config.sandbox.clone(), config.inspect.clone()).await {
        Err(e) => return Ok(vec![Probe::failed("sandbox", e.to_string())]),
        Ok(sandbox) => sandbox,
    };
    let missing =
        sandbox.missing().iter().map(|(mechanism, reason)| Probe::failed(format!("sandbox {}", mechanism.as_str()), reason.clone()));
    let mut probes: Vec<Probe> = missing.collect();
    for drill in Drill::ALL {
        let name = format!("drill {}", serde_json::to_value(drill)?.as_str().unwrap_or_default());
        let ended = sandbox.drill(drill).await;
        let ok = ended.is_ok();
        probes.push(Probe { name, ok, detail: ended.unwrap_or_else(|e| e.to_string()) });
    }
    Ok(probes)
}
