//! `greffier audit`: whether anything that was received is nowhere.

use std::process::ExitCode;

use super::fleet::Edges;
use super::{EXIT_REJECTED, render};
use crate::config::Config;
use crate::model::Lang;
use crate::model::message::{Envelope, SUBMISSION_REQUESTED};
use crate::model::text::display_safe;
use crate::worker::audit;
use crate::worker::records::{self, RECEIVED, Received, job_key};

/// Options of `audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Enqueue again what is missing, from its record
    #[arg(long)]
    repair: bool,
}

/// Runs `audit`: exit code 0 when nothing is missing, 1 otherwise (also where `--repair` has mended it).
///
/// # Errors
/// Queue or store fail.
pub async fn run(args: AuditArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    let edges = Edges::open(config).await?;
    let audit = audit::audit(edges.vault.as_ref(), edges.queue.as_ref()).await?;
    if args.json {
        render::print_line(&serde_json::to_string(&audit)?)?;
    } else {
        show(&audit, lang)?;
    }
    if args.repair {
        for missing in &audit.missing {
            let Some(received) = records::read::<Received>(edges.vault.as_ref(), &job_key(RECEIVED, &missing.about.job)).await? else {
                continue;
            };
            let message = Envelope {
                correlation_id: received.correlation_id.clone(),
                reply_to: received.reply_to.clone(),
                candidature: Some(received.about.candidature.clone()).filter(|n| !n.is_empty()),
                time: Some(jiff::Timestamp::now()),
                ..Envelope::new(
                    received.message_id.clone(),
                    SUBMISSION_REQUESTED,
                    "greffier audit",
                    serde_json::to_vec(&received.submission)?,
                )
            };
            edges.queue.enqueue(received.lane, &message).await?;
            if !args.json {
                let words = match lang {
                    Lang::Fr => "remis en file",
                    Lang::En => "enqueued again",
                };
                render::print_line(&format!("  {words}: {}", missing.about.job))?;
            }
        }
    }
    Ok(if audit.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REJECTED) })
}

fn show(audit: &audit::Audit, lang: Lang) -> anyhow::Result<()> {
    let rows: [(&str, &str, u64); 8] = [
        ("reçus", "received", audit.received),
        ("publiés", "published", audit.published),
        ("rejetés", "rejected", audit.rejected),
        ("publiés indéterminés", "published undetermined", audit.undetermined),
        ("mis de côté", "parked", audit.parked),
        ("en cours", "in flight", audit.in_flight),
        ("introuvables", "missing", audit.missing.len() as u64),
        ("messages illisibles mis de côté", "unreadable messages parked", audit.unread),
    ];
    for (fr, en, n) in rows {
        render::print_line(&format!("{n:>8}  {}", if lang == Lang::Fr { fr } else { en }))?;
    }
    for missing in &audit.missing {
        let about = &missing.about;
        render::print_line(&format!(
            "✘ {} {} r{} {}",
            about.job,
            display_safe(&about.candidature, 40),
            about.revision,
            missing.received_at
        ))?;
    }
    for job in &audit.orphans {
        let words = if lang == Lang::Fr { "résultat sans trace de réception" } else { "outcome without a record of reception" };
        render::print_line(&format!("✘ {job} {words}"))?;
    }
    for (job, key) in &audit.broken {
        let words = if lang == Lang::Fr { "absent du coffre, ou endommagé" } else { "not in the vault, or damaged" };
        render::print_line(&format!("✘ {job} {words}: {}", display_safe(key, 200)))?;
    }
    if !audit.queue_tells_unsettled && audit.in_flight > 0 {
        let words = match lang {
            Lang::Fr => {
                "Le broker ne dit pas ce que les workers tiennent : relancez l'audit une fois les workers arrêtés ou les files vides."
            }
            Lang::En => "The broker does not tell what workers hold: audit again once workers are stopped or queues are empty.",
        };
        render::print_line(words)?;
    }
    Ok(())
}
