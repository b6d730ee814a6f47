//! `greffier doctor`: what this machine can and cannot do, before work starts.

use std::process::ExitCode;

use super::{EXIT_REJECTED, render};
use crate::config::Config;
use crate::model::Lang;
use crate::sandbox::{Drill, Sandbox};

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// One thing that was tried.
#[derive(Debug, serde::Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
}

/// Runs `doctor`: exit code 0 when everything holds, 1 otherwise.
///
/// # Errors
/// Standard output is closed.
pub async fn run(args: &DoctorArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    let mut checks = Vec::new();
    match Sandbox::start(config.sandbox.clone(), config.inspect.clone()).await {
        Err(e) => checks.push(Check { name: "sandbox".into(), ok: false, detail: e.to_string() }),
        Ok(sandbox) => {
            for (mechanism, reason) in sandbox.missing() {
                checks.push(Check { name: format!("sandbox {}", mechanism.as_str()), ok: false, detail: reason.clone() });
            }
            for drill in Drill::ALL {
                let name = format!("drill {}", serde_json::to_value(drill)?.as_str().unwrap_or_default());
                let ended = sandbox.drill(drill).await;
                let ok = ended.is_ok() || drill == Drill::HalfAnswer;
                checks.push(Check { name, ok, detail: ended.unwrap_or_else(|e| e.to_string()) });
            }
        }
    }
    let memory = config.sandbox.memory_bytes.saturating_mul(config.check.jobs() as u64);
    let available = available_memory();
    checks.push(Check {
        name: "memory".into(),
        ok: available.is_none_or(|a| a >= memory),
        detail: format!(
            "{} children × {} bytes = {memory}; available {}",
            config.check.jobs(),
            config.sandbox.memory_bytes,
            available.unwrap_or(0)
        ),
    });
    let ok = checks.iter().all(|c| c.ok);
    if args.json {
        render::print_line(&serde_json::json!({ "ok": ok, "checks": checks }).to_string())?;
    } else {
        for check in &checks {
            render::print_line(&format!("{} {:<26} {}", if check.ok { "✔" } else { "✘" }, check.name, check.detail))?;
        }
        let (fr, en) = if ok {
            ("Cette machine est prête.", "This machine is ready.")
        } else {
            ("Cette machine n'est pas prête.", "This machine is not ready.")
        };
        render::print_line(if lang == Lang::Fr { fr } else { en })?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REJECTED) })
}

/// `MemAvailable` of proc(5), bytes.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}
