//! `greffier queue`: what waits, why it is parked, and putting it back.

use std::process::ExitCode;
use std::str::FromStr;

use unicode_width::UnicodeWidthStr as _;

use super::{EXIT_REJECTED, EXIT_USAGE, render};
use crate::config::Config;
use crate::model::Lang;
use crate::model::message::{Lane, ParkReason};
use crate::model::text::display_safe;
use crate::queue::{self, Depth, Place, Queue, Waiting};

/// Code of what an operator set aside.
const BY_OPERATOR: &str = "JOB-PARKED-BY-OPERATOR";

/// Options of `queue`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Places: interactive, submission, replay (lanes), retry-interactive, retry-submission, retry-replay (waiting to be \
tried again), parked, events.\n\nExit codes: 0 done, 1 nothing there that was asked for, 2 bad usage or configuration, or the queue refuses \
us, 3 the queue cannot be reached now."
)]
pub struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, clap::Subcommand)]
enum QueueCommand {
    /// Count what waits where
    Status {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Look at the first jobs or events of a place, without taking them
    Peek {
        /// Where
        place: PlaceArg,
        /// At most so many
        #[arg(long, default_value_t = 20, value_name = "N")]
        most: usize,
        /// With bodies: they hold what vendors sent
        #[arg(long)]
        body: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Put parked jobs back into their lanes; what was tried before is forgotten
    Requeue {
        /// Message id of one job
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// Every parked job
        #[arg(long)]
        all: bool,
        /// At most so many
        #[arg(long, default_value_t = 1000, value_name = "N")]
        most: usize,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Throw away everything that waits in a place. There is no way back
    Purge {
        /// Where
        place: PlaceArg,
        /// Really
        #[arg(long)]
        yes: bool,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Take a waiting job out of its lane and set it aside
    Park {
        /// Its lane
        lane: Lane,
        /// Its message id
        id: String,
        /// Why, for whoever finds it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

/// A place as operators write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PlaceArg(Place);

impl FromStr for PlaceArg {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        places().find(|place| place_word(*place) == word).map(Self).ok_or_else(|| {
            let words: Vec<_> = places().map(place_word).collect();
            format!("none of {}", words.join(", "))
        })
    }
}

fn places() -> impl Iterator<Item = Place> {
    let lanes = Lane::ALL.into_iter();
    lanes.clone().map(Place::Lane).chain(lanes.map(Place::Retry)).chain([Place::Parked, Place::Events])
}

fn place_word(place: Place) -> String {
    match place {
        Place::Lane(lane) => lane.to_string(),
        Place::Retry(lane) => format!("retry-{lane}"),
        Place::Parked => "parked".to_owned(),
        Place::Events => "events".to_owned(),
    }
}

/// Runs `queue`.
///
/// # Errors
/// The queue refuses, or cannot be reached; standard output is closed.
pub async fn run(args: QueueArgs, config: &Config, lang: Lang) -> anyhow::Result<ExitCode> {
    if let QueueCommand::Purge { place: PlaceArg(place), yes: false, .. } = &args.command {
        let place = place_word(*place);
        let (fr, en) = (
            format!("QUEUE-PURGE-UNCONFIRMED: rien n'a été jeté ; pour vider « {place} » sans retour, ajouter --yes"),
            format!("QUEUE-PURGE-UNCONFIRMED: nothing was thrown away; to empty `{place}` for good, add --yes"),
        );
        anstream::eprintln!("greffier: {}", if lang == Lang::Fr { fr } else { en });
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let queue = queue::open(&config.queue).await?;
    let ended = act(args.command, &*queue, lang).await;
    queue.close().await;
    ended
}

async fn act(command: QueueCommand, queue: &dyn Queue, lang: Lang) -> anyhow::Result<ExitCode> {
    match command {
        QueueCommand::Status { json } => {
            let depths = queue.status().await?;
            if json {
                let rows: Vec<_> = depths.iter().map(depth_json).collect();
                render::print_json(&serde_json::json!({ "queue": queue.name(), "places": rows }).to_string())?;
            } else {
                table(&depths, lang)?;
            }
        }
        QueueCommand::Peek { place: PlaceArg(place), most, body, json } => {
            let waiting = queue.peek(place, most).await?;
            for one in &waiting {
                if json {
                    render::print_json(&waiting_json(one, body).to_string())?;
                } else {
                    show(one, body, lang)?;
                }
            }
            if waiting.is_empty() && !json {
                render::print_line(say(lang, "rien n'attend ici", "nothing waits here"))?;
            }
        }
        QueueCommand::Requeue { id, all: _, most, json } => {
            let moved = queue.requeue(id.as_deref(), most).await?;
            count(json, "requeued", moved as u64, lang, ("remis en file", "put back"))?;
            if moved == 0 {
                return Ok(ExitCode::from(EXIT_REJECTED));
            }
        }
        QueueCommand::Purge { place: PlaceArg(place), yes: _, json } => {
            let purged = queue.purge(place).await?;
            tracing::warn!(place = place_word(place), purged, "a place was emptied by an operator");
            count(json, "purged", purged, lang, ("jetés", "thrown away"))?;
        }
        QueueCommand::Park { lane, id, reason, json } => {
            let found = queue.park_waiting(lane, &id, &ParkReason::new(BY_OPERATOR, reason)).await?;
            count(json, "parked", u64::from(found), lang, ("mis de côté", "set aside"))?;
            if !found {
                return Ok(ExitCode::from(EXIT_REJECTED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(lang: Lang, fr: &'static str, en: &'static str) -> &'static str {
    if lang == Lang::Fr { fr } else { en }
}

fn count(json: bool, key: &str, many: u64, lang: Lang, words: (&'static str, &'static str)) -> std::io::Result<()> {
    if json {
        return render::print_json(&serde_json::json!({ key: many }).to_string());
    }
    render::print_line(&format!("{} : {many}", say(lang, words.0, words.1)))
}

fn depth_json(depth: &Depth) -> serde_json::Value {
    let Depth { place, ready, unsettled, oldest, consumers } = depth;
    serde_json::json!({
        "place": place_word(*place), "ready": ready, "unsettled": unsettled, "oldest": oldest, "consumers": consumers,
    })
}

fn table(depths: &[Depth], lang: Lang) -> std::io::Result<()> {
    let head = match lang {
        Lang::Fr => ["où", "en attente", "en cours", "à l'écoute", "depuis"],
        Lang::En => ["where", "waiting", "in hand", "consumers", "since"],
    };
    // The fitting cannot tell.
    let number = |n: Option<u64>| n.map_or("–".to_owned(), |n| n.to_string());
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(depths.iter().map(|d| {
        let since = d.oldest.map_or(String::new(), |t| t.to_string());
        [place_word(d.place), d.ready.to_string(), number(d.unsettled), number(d.consumers), since]
    }));
    for [place, ready, unsettled, consumers, since] in rows {
        // Columns count what a terminal shows: `où` is two wide and three bytes.
        let right = |word: &str| format!("{}{word}", " ".repeat(11_usize.saturating_sub(word.width())));
        let pad = " ".repeat(18_usize.saturating_sub(place.width()));
        let line = format!("{place}{pad} {} {} {}  {since}", right(&ready), right(&unsettled), right(&consumers));
        render::print_line(line.trim_end())?;
    }
    Ok(())
}

fn waiting_json(waiting: &Waiting, body: bool) -> serde_json::Value {
    let Waiting { message, lane, attempt, reason } = waiting;
    let mut out = serde_json::json!({
        "id": message.id, "type": message.kind, "source": message.source, "subject": message.subject, "time": message.time,
        "candidature": message.candidature, "correlation_id": message.correlation_id, "reply_to": message.reply_to,
        "lane": lane, "attempt": attempt, "reason": reason, "body_bytes": message.body.len(),
    });
    if let (true, Some(fields)) = (body, out.as_object_mut()) {
        // As it is where it is JSON, else as text with replacement characters.
        let read = serde_json::from_slice(&message.body);
        fields.insert("body".into(), read.unwrap_or_else(|_| String::from_utf8_lossy(&message.body).into_owned().into()));
    }
    out
}

fn show(waiting: &Waiting, body: bool, lang: Lang) -> std::io::Result<()> {
    let Waiting { message, lane, attempt, reason } = waiting;
    let or_dash = |word: &str| if word.is_empty() { "–".to_owned() } else { display_safe(word, 120) };
    let mut line = format!("{}  {}", or_dash(&message.id), or_dash(&message.kind));
    let mut add = |label: &str, word: &str| line.push_str(&format!("  {label} {word}"));
    if let Some(candidature) = &message.candidature {
        add("candidature", &display_safe(candidature, 60));
    }
    if let Some(subject) = &message.subject {
        add(say(lang, "objet", "subject"), &display_safe(subject, 120));
    }
    if let Some(lane) = lane {
        add(say(lang, "voie", "lane"), lane.as_str());
    }
    if *attempt > 0 {
        add(say(lang, "reprises", "retries"), &attempt.to_string());
    }
    add(say(lang, "octets", "bytes"), &message.body.len().to_string());
    render::print_line(&line)?;
    if let Some(ParkReason { code, detail }) = reason {
        render::print_line(&format!("    {} : {}", display_safe(code, 60), display_safe(detail, 1000)))?;
    }
    if body {
        for text in String::from_utf8_lossy(&message.body).lines() {
            render::print_line(&format!("    {}", display_safe(text, 4000)))?;
        }
    }
    Ok(())
}
