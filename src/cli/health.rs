//! `greffier health`: asks a worker of this machine how it is. For probes that run a command (Docker, Compose) and scripts.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use url::Url;

use super::{EXIT_REJECTED, render};
use crate::config::Config;
use crate::model::Lang;
use crate::model::text::{chain, display_safe};
use crate::ops::http::Ready;

/// How long a worker may take to answer: below the ten seconds that supervisors give a probe.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Options of `health`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 yes; 1 no, with the reasons, or no answer; 2 bad usage or configuration.")]
pub struct HealthArgs {
    /// Ask whether it makes progress (/livez) rather than whether it could take a job now (/readyz): for whoever restarts it
    #[arg(long)]
    live: bool,
    /// Address of the worker, `http://127.0.0.1:9464`; by default where `http.listen` says
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
}

/// Runs `health`: exit code 0 for yes, 1 for no and for no answer.
///
/// # Errors
/// The configuration names no address that can be asked; standard output is closed.
pub async fn run(args: &HealthArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    crate::tls::install_tls_provider();
    let base = args.url.clone().map_or_else(|| config.http.local_url(), Ok)?;
    let url = base.join(if args.live { "livez" } else { "readyz" }).with_context(|| format!("{base} is no address to ask"))?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        // A certificate names the host that others ask, not this machine's own address. No secret is sent, and health is no secret.
        .tls_danger_accept_invalid_certs(args.url.is_none())
        .build()?;
    let asking = async {
        let answer = client.get(url.clone()).send().await?;
        Ok::<_, reqwest::Error>((answer.status(), answer.text().await?))
    };
    let (status, body) = match asking.await {
        Ok(answer) => answer,
        Err(e) => {
            let (fr, en) = ("ne répond pas", "does not answer");
            return said(false, &format!("{url} {} : {}", if lang == Lang::Fr { fr } else { en }, chain(&e.without_url())));
        }
    };
    let (fr, en) = match (args.live, status.as_u16()) {
        (false, 200) => ("Ce worker est prêt.", "This worker is ready."),
        (true, 200) => ("Ce worker avance.", "This worker makes progress."),
        (false, 503) => ("Ce worker n'est pas prêt.", "This worker is not ready."),
        (true, 503) => ("Ce worker n'avance plus.", "This worker makes no progress."),
        (_, other) => return said(false, &format!("{url} : HTTP {other}")),
    };
    let told = said(status.is_success(), if lang == Lang::Fr { fr } else { en })?;
    if args.live && !status.is_success() {
        render::print_line(&format!("  {}", display_safe(body.trim(), 500)))?;
    }
    if let Ok(Ready { reasons, .. }) = serde_json::from_str(&body) {
        for reason in reasons {
            // Why is told where there is no token: it holds host names and paths.
            let why = reason.why.map(|why| format!(": {}", display_safe(&why, 500))).unwrap_or_default();
            render::print_line(&format!("  {}{why}", serde_json::to_value(reason.condition)?.as_str().unwrap_or_default()))?;
        }
    }
    Ok(told)
}

fn said(yes: bool, what: &str) -> anyhow::Result<ExitCode> {
    render::print_line(&format!("{} {what}", if yes { "✔" } else { "✘" }))?;
    Ok(if yes { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REJECTED) })
}
