//! The console: pages for people who run the fleet, and for vendors who try a deposit.
//!
//! Pages are made here from what [`Ledger`](super::ledger::Ledger), [`Board`](super::board::Board), queue and [`Health`](super::health::Health) say; the one script refreshes them, follows a
//! submission under way, and uploads. Without script everything can still be read, searched and requeued.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Form, Path, Query as UrlQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::io::ReaderStream;

use super::board::{End, Line, Live, UnderWay};
use super::client::{ClientLimit, ClientPermit};
use super::config::CALLBACK;
use super::deposit::{DepositError, Said};
use super::guard::{Cookie, Guard, Visitor, cookie, is_foreign};
use super::health::Condition;
use super::http::Parts;
use super::ledger::{Query, Record, Standing};
use super::oidc::{Answer, LoginError};
use crate::model::event::{About, Object, SubmissionParked};
use crate::model::message::Lane;
use crate::model::submission::Stage;
use crate::model::text::display_safe;
use crate::model::{Lang, Text, Verdict, errors};
use crate::queue::{Place, QueueError, Waiting};
use crate::store::StoreError;
use crate::telemetry::{KeyValue, Span, SpanKind};
use crate::worker::state::{JobState, State as WorkerState};

const STYLE: &str = include_str!("templates/console.css");
const SCRIPT: &str = include_str!("templates/console.js");
const MARK: &str = include_str!("templates/mark.svg");
const TEMPLATES: [(&str, &str); 10] = [
    ("parts.html", include_str!("templates/parts.html")),
    ("base.html", include_str!("templates/base.html")),
    ("overview.html", include_str!("templates/overview.html")),
    ("submissions.html", include_str!("templates/submissions.html")),
    ("submission.html", include_str!("templates/submission.html")),
    ("parked.html", include_str!("templates/parked.html")),
    ("deposit.html", include_str!("templates/deposit.html")),
    ("login.html", include_str!("templates/login.html")),
    ("message.html", include_str!("templates/message.html")),
    ("onward.html", include_str!("templates/onward.html")),
];

/// Lines of one page of submissions.
const PAGE: usize = 50;
/// Longest address gone back to after a login, bytes: it is kept while the login is under way.
const MAX_WANTED: usize = 2 * 1024;
/// Where a draft becomes a job.
const SUBMIT: &str = "/deposit/{draft}";
/// Parked jobs looked at.
const MAX_PARKED: usize = 500;
/// Streams of events at once.
const MAX_STREAMS: usize = 100;
/// Streams of events of one client at once: a page has one, a browser opens no more than six connections to one server.
const MAX_STREAMS_OF_CLIENT: usize = 12;
/// A stream of events ends after so long; the page asks again, with the rights that its reader then has.
const STREAM_TIME: Duration = Duration::from_secs(600);
/// Largest body of a request that is no upload, bytes: forms, and what the deposit page says of a deposit.
const MAX_FORM: usize = 64 * 1024;
/// How often a stream looks at the stage.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After so many looks the vault is asked whether the job has ended elsewhere.
const ASK_AGAIN: u32 = 4;
/// Part of a bundle's page in which its own policy stands, bytes.
const HEAD: usize = 8 * 1024;
/// Largest page of a bundle that is served, bytes.
const MAX_REPORT: u64 = 128 * 1024 * 1024;

#[derive(Clone)]
struct App(Arc<Inner>);

struct Inner {
    parts: Parts,
    guard: Guard,
    streams: ClientLimit,
    stream_time: Duration,
    stopped: watch::Receiver<bool>,
}

/// Every page of the console.
pub(super) fn router(parts: Parts, guard: Guard, stopped: watch::Receiver<bool>) -> Router {
    let app = App(Arc::new(Inner {
        parts,
        guard,
        streams: ClientLimit::new(MAX_STREAMS, MAX_STREAMS_OF_CLIENT),
        stream_time: STREAM_TIME,
        stopped,
    }));
    Router::new()
        .route("/", get(overview))
        .route("/submissions", get(submissions))
        .route("/submissions/{job}", get(submission))
        .route("/submissions/{job}/events", get(events))
        .route("/submissions/{job}/report", get(report))
        .route("/submissions/{job}/files/{file}", get(download))
        .route("/parked", get(parked))
        .route("/parked/requeue", post(requeue))
        .route("/deposit", get(deposit).post(begin))
        .route(SUBMIT, post(submit))
        .route("/deposit/{draft}/file", put(upload).layer(DefaultBodyLimit::disable()))
        .route("/login", get(login_page).post(login))
        .route("/login/start", get(login_start))
        .route(CALLBACK, get(login_callback))
        .route("/logout", post(logout))
        .route("/lang", get(choose_lang))
        .route("/static/{file}", get(asset))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .with_state(app)
}

// --------------------------------------------------------------------------------------------------- how pages are made

fn environment(lang: Lang) -> &'static Environment<'static> {
    static FR: OnceLock<Environment<'static>> = OnceLock::new();
    static EN: OnceLock<Environment<'static>> = OnceLock::new();
    let cell = match lang {
        Lang::Fr => &FR,
        Lang::En => &EN,
    };
    cell.get_or_init(|| {
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::Html);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default());
        env.add_function("l", move |fr: String, en: String| if lang == Lang::Fr { fr } else { en });
        for (name, text) in TEMPLATES {
            // Part of the binary, and rendered by every test of the console.
            env.add_template(name, text).unwrap_or_else(|e| panic!("embedded templates/{name} is malformed: {e:#}"));
        }
        env
    })
}

/// Who looks, in what language, at what.
struct Look<'a> {
    app: &'a App,
    visitor: Visitor,
    lang: Lang,
    path: String,
}

impl<'a> Look<'a> {
    fn new(app: &'a App, visitor: Visitor, headers: &HeaderMap, path: impl Into<String>) -> Self {
        let lang = match cookie(headers, "greffier_lang") {
            Some("en") => Lang::En,
            Some("fr") => Lang::Fr,
            _ => app.0.parts.lang,
        };
        Self { app, visitor, lang, path: path.into() }
    }

    fn page(&self, template: &str, page: &'static str, view: impl Serialize) -> Response {
        self.page_as(StatusCode::OK, template, page, view)
    }

    fn page_as(&self, status: StatusCode, template: &str, page: &'static str, view: impl Serialize) -> Response {
        let parts = &self.app.0.parts;
        let rendered = environment(self.lang).get_template(template).and_then(|template| {
            template.render(context! {
                lang => match self.lang { Lang::Fr => "fr", Lang::En => "en" },
                page => page,
                back => form(&[("to", &self.path)]),
                known => self.visitor.known,
                session => self.visitor.session.is_some(),
                person => self.visitor.session.as_ref().and_then(|session| session.person.as_ref()).map(|person| person.name.as_str()),
                has_ledger => parts.ledger.is_some(),
                has_queue => parts.queue.is_some(),
                has_intake => parts.intake.is_some(),
                style => asset_path("console.css", STYLE),
                script => asset_path("console.js", SCRIPT),
                version => env!("CARGO_PKG_VERSION"),
                v => Value::from(Serde(view)),
            })
        });
        match rendered {
            Ok(page) => (status, Html(page)).into_response(),
            Err(error) => {
                tracing::error!(template, %error, "a page could not be made");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn t(&self, fr: &str, en: &str) -> String {
        match self.lang {
            Lang::Fr => fr.to_owned(),
            Lang::En => en.to_owned(),
        }
    }

    fn text(&self, text: &Text) -> String {
        paragraph(text.get(self.lang))
    }

    fn message(&self, status: StatusCode, title: (&str, &str), body: (&str, &str), detail: &str) -> Response {
        let view = context! { title => self.t(title.0, title.1), body => self.t(body.0, body.1), detail => display_safe(detail, 500) };
        self.page_as(status, "message.html", "", view)
    }

    fn store_failed(&self, error: &StoreError) -> Response {
        tracing::warn!(%error, "the console could not read the vault");
        let body = ("Le coffre ne répond pas. Réessayez dans un instant.", "The vault does not answer. Try again in a moment.");
        self.message(StatusCode::BAD_GATEWAY, ("Coffre injoignable", "Vault out of reach"), body, &error.to_string())
    }

    fn queue_failed(&self, error: &QueueError) -> Response {
        tracing::warn!(%error, "the console could not use the queue");
        let body = ("La file ne répond pas. Réessayez dans un instant.", "The queue does not answer. Try again in a moment.");
        self.message(StatusCode::BAD_GATEWAY, ("File injoignable", "Queue out of reach"), body, &error.to_string())
    }

    fn not_found(&self) -> Response {
        let body = ("Cette page n'existe pas, ou n'existe plus.", "There is no such page, or no longer.");
        self.message(StatusCode::NOT_FOUND, ("Introuvable", "Not found"), body, "")
    }

    fn when(&self, at: Timestamp) -> When {
        // Times of the démarche are French times.
        let zone = TimeZone::get("Europe/Paris").unwrap_or(TimeZone::UTC);
        let zoned = at.to_zoned_datetime(zone);
        let shown = match self.lang {
            Lang::Fr => zoned.strftime("%d/%m/%Y à %H:%M:%S").to_string(),
            Lang::En => zoned.strftime("%Y-%m-%d at %H:%M:%S").to_string(),
        };
        When { machine: at.to_string(), shown }
    }

    fn about(&self, about: &About) -> AboutView {
        let (fr, en) = match &about.stage {
            Stage::Eligibility => ("Éligibilité".to_owned(), "Eligibility".to_owned()),
            Stage::Dossier => ("Dossier complet".to_owned(), "Whole file".to_owned()),
            Stage::Chapter { chapter } => (format!("Chapitre {}", line(chapter)), format!("Chapter {}", line(chapter))),
        };
        AboutView {
            job: about.job.clone(),
            short: about.job.chars().take(12).collect(),
            candidature: Some(line(&about.candidature)).filter(|number| !number.trim().is_empty()),
            company: about.company.as_deref().map(line),
            product: about.product.as_deref().map(line),
            demarche: line(&about.demarche),
            stage: self.t(&fr, &en),
            revision: about.revision,
        }
    }

    fn standing(&self, standing: Standing) -> Badge {
        let (key, icon, fr, en) = match standing {
            Standing::UnderWay => ("running", "◌", "En cours", "Under way"),
            Standing::Parked => ("undetermined", "‖", "Mis de côté", "Parked"),
            Standing::Ended(verdict) => return self.verdict(verdict),
        };
        Badge { key, icon, word: self.t(fr, en) }
    }

    fn verdict(&self, verdict: Verdict) -> Badge {
        let (key, icon, fr, en) = match verdict {
            Verdict::Accepted => ("accepted", "✓", "Accepté", "Accepted"),
            Verdict::AcceptedWithWarnings => ("warned", "!", "Avec réserves", "With warnings"),
            Verdict::Rejected => ("rejected", "✕", "Rejeté", "Rejected"),
            Verdict::Undetermined => ("undetermined", "?", "Indéterminé", "Undetermined"),
        };
        Badge { key, icon, word: self.t(fr, en) }
    }

    fn job(&self, job: &UnderWay) -> JobView {
        JobView {
            about: self.about(&job.about),
            lane: None,
            stage: None,
            done: job.done,
            total: job.total,
            percent: (job.done.min(job.total) * 100).checked_div(job.total).unwrap_or(0),
            since: self.duration(Timestamp::now().duration_since(job.began).unsigned_abs()),
            lines: job.lines.iter().map(|line| self.item(line)).collect(),
        }
    }

    /// A job of this process's worker.
    fn state(&self, job: &JobState) -> JobView {
        let (done, total) = (job.done as u64, job.total as u64);
        JobView {
            about: job.about.as_ref().map_or_else(
                || AboutView {
                    job: String::new(),
                    short: String::new(),
                    candidature: None,
                    company: None,
                    product: None,
                    demarche: String::new(),
                    stage: self.t("Lecture du message", "Reading the message"),
                    revision: 0,
                },
                |about| self.about(about),
            ),
            lane: Some(self.lane(job.lane)),
            stage: Some(self.stage(job.stage)),
            done,
            total,
            percent: (done.min(total) * 100).checked_div(total).unwrap_or(0),
            since: self.duration(Timestamp::now().duration_since(job.since).unsigned_abs()),
            lines: Vec::new(),
        }
    }

    fn item(&self, line: &Line) -> LineView {
        LineView {
            name: line.name.clone(),
            filed: line.filed.clone(),
            badge: self.verdict(line.verdict),
            summary: line.summary.as_ref().map(|text| self.text(text)).unwrap_or_default(),
            more: line.findings.saturating_sub(1),
        }
    }

    fn lane(&self, lane: Lane) -> String {
        match lane {
            Lane::Interactive => self.t("Pré-contrôle", "Pre-check"),
            Lane::Submission => self.t("Dépôt", "Deposit"),
            Lane::Replay => self.t("Rejeu", "Replay"),
        }
    }

    fn stage(&self, stage: &str) -> String {
        match stage {
            "inspect" => self.t("Examen des éléments", "Looking at items"),
            "bundle" => self.t("Constitution du dossier", "Making the bundle"),
            "publish" => self.t("Publication", "Publishing"),
            _ => self.t("Début", "Beginning"),
        }
    }

    fn duration(&self, lasted: Duration) -> String {
        let s = lasted.as_secs();
        match s {
            0..60 => format!("{s} s"),
            60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
            3_600..86_400 => format!("{} h {:02} min", s / 3_600, s % 3_600 / 60),
            _ => self.t(&format!("{} j {} h", s / 86_400, s % 86_400 / 3_600), &format!("{} d {} h", s / 86_400, s % 86_400 / 3_600)),
        }
    }

    fn bytes(&self, n: u64) -> String {
        let (divisor, fr, en) = match n {
            0..1_000 => return self.t(&format!("{n} octets"), &format!("{n} bytes")),
            1_000..1_000_000 => (1_000, "ko", "kB"),
            1_000_000..1_000_000_000 => (1_000_000, "Mo", "MB"),
            _ => (1_000_000_000, "Go", "GB"),
        };
        let tenths = n / (divisor / 10);
        let (whole, tenth) = (tenths / 10, tenths % 10);
        self.t(&format!("{whole},{tenth} {fr}"), &format!("{whole}.{tenth} {en}"))
    }
}

/// One line of untrusted text.
fn line(untrusted: &str) -> String {
    display_safe(untrusted, 200)
}

/// Untrusted text whose line breaks mean something.
fn paragraph(untrusted: &str) -> String {
    untrusted.lines().take(400).map(|line| display_safe(line, 2_000)).collect::<Vec<_>>().join("\n")
}

/// A file of ours whose address changes with it, so that it may be kept.
fn asset_path(name: &str, text: &str) -> String {
    let digest = hex::encode(Sha256::digest(text.as_bytes()));
    format!("/static/{name}?{}", digest.get(..12).unwrap_or_default())
}

#[derive(Serialize)]
struct When {
    machine: String,
    shown: String,
}

#[derive(Serialize)]
struct AboutView {
    job: String,
    short: String,
    candidature: Option<String>,
    company: Option<String>,
    product: Option<String>,
    demarche: String,
    stage: String,
    revision: u32,
}

#[derive(Serialize)]
struct Badge {
    key: &'static str,
    icon: &'static str,
    word: String,
}

#[derive(Serialize)]
struct JobView {
    about: AboutView,
    lane: Option<String>,
    stage: Option<String>,
    done: u64,
    total: u64,
    percent: u64,
    since: String,
    lines: Vec<LineView>,
}

#[derive(Serialize)]
struct LineView {
    name: String,
    filed: String,
    badge: Badge,
    summary: String,
    more: usize,
}

#[derive(Serialize)]
struct EntryView {
    about: AboutView,
    items: usize,
    received: When,
    badge: Badge,
}

// ------------------------------------------------------------------------------------------------------------- overview

#[derive(Serialize)]
struct Overview {
    unmet: Vec<UnmetView>,
    noted: Vec<UnmetView>,
    tiles: Vec<Tile>,
    lanes: Vec<LaneView>,
    seen: Option<When>,
    jobs: Vec<JobView>,
    latest: Vec<EntryView>,
}

#[derive(Serialize)]
struct UnmetView {
    what: String,
    why: String,
}

#[derive(Serialize)]
struct Tile {
    figure: String,
    label: String,
    href: Option<&'static str>,
    alarm: bool,
}

#[derive(Serialize)]
struct LaneView {
    name: String,
    ready: u64,
    unsettled: Option<u64>,
    retry: u64,
    oldest: Option<String>,
    eta: Option<String>,
    consumers: Option<u64>,
}

async fn overview(State(app): State<App>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    let look = Look::new(&app, visitor, &headers, "/");
    let parts = &app.0.parts;
    let condition = |condition| match condition {
        Condition::Queue => look.t("File d'attente", "Queue"),
        Condition::Staging => look.t("Zone de dépôt", "Staging store"),
        Condition::Vault => look.t("Coffre", "Vault"),
        Condition::Antivirus => look.t("Antivirus", "Antivirus"),
        Condition::Worker => look.t("Contrôleur", "Worker"),
        Condition::Login => look.t("Fournisseur d'identité", "Identity provider"),
    };
    let (unmet, noted): (Vec<_>, Vec<_>) = parts.health.unmet().into_iter().partition(|unmet| unmet.condition.is_needed());
    let [unmet, noted] =
        [unmet, noted].map(|all| all.into_iter().map(|u| UnmetView { what: condition(u.condition), why: u.why }).collect::<Vec<_>>());
    let seen = parts.health.queue_seen();
    let depth = |place| seen.as_ref().and_then(|seen| seen.depths.iter().find(|depth| depth.place == place));
    let now = Timestamp::now();
    let lanes: Vec<_> = Lane::ALL
        .into_iter()
        .filter_map(|lane| {
            let here = depth(Place::Lane(lane))?;
            Some(LaneView {
                name: look.lane(lane),
                ready: here.ready,
                unsettled: here.unsettled,
                retry: depth(Place::Retry(lane)).map_or(0, |depth| depth.ready),
                oldest: here.oldest.map(|since| look.duration(now.duration_since(since).unsigned_abs())),
                eta: parts.metrics.eta(lane, here).map(|eta| look.duration(eta)),
                consumers: here.consumers,
            })
        })
        .collect();
    // The worker of this process knows more of its jobs than events tell.
    let jobs: Vec<_> = match &parts.state {
        Some(state) => state.jobs().iter().take(100).map(|job| look.state(job)).collect(),
        None => parts.board.under_way().iter().take(100).map(|job| look.job(job)).collect(),
    };
    let (minute, hour) = parts.board.pace();
    let parked = depth(Place::Parked).map_or(0, |depth| depth.ready);
    let tile = |figure: String, fr: &str, en: &str, href, alarm| Tile { figure, label: look.t(fr, en), href, alarm };
    let waiting: u64 = lanes.iter().map(|lane| lane.ready).sum();
    let mut tiles = vec![
        tile(waiting.to_string(), "en attente", "waiting", None, false),
        tile(jobs.len().to_string(), "en cours ici", "under way here", None, false),
        tile(lanes.iter().map(|lane| lane.retry).sum::<u64>().to_string(), "à réessayer", "to be tried again", None, false),
    ];
    if parts.queue.is_some() {
        tiles.push(tile(parked.to_string(), "mis de côté", "parked", Some("/parked"), parked > 0));
    }
    tiles.push(tile(minute.to_string(), "rendus en une minute", "done in the last minute", None, false));
    tiles.push(tile(hour.to_string(), "rendus en une heure", "done in the last hour", None, false));
    let mut latest = Vec::new();
    if let Some(ledger) = &parts.ledger {
        match ledger.search(&Query { most: 8, ..Query::default() }).await {
            Ok(found) => latest = found.entries.iter().map(|entry| look.entry(entry)).collect(),
            Err(error) => return look.store_failed(&error),
        }
    }
    let view = Overview { unmet, noted, tiles, lanes, seen: seen.map(|seen| look.when(seen.at)), jobs, latest };
    look.page("overview.html", "overview", view)
}

impl Look<'_> {
    fn entry(&self, entry: &super::ledger::Entry) -> EntryView {
        EntryView {
            about: self.about(&entry.about),
            items: entry.items,
            received: self.when(entry.received_at),
            badge: self.standing(entry.standing),
        }
    }
}

// ---------------------------------------------------------------------------------------------------------- submissions

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Search {
    q: String,
    state: String,
    page: usize,
}

async fn submissions(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    UrlQuery(search): UrlQuery<Search>,
) -> Response {
    let number = if search.page > 1 { search.page.to_string() } else { String::new() };
    let here = format!("/submissions?{}", form(&[("q", &search.q), ("state", &search.state), ("page", &number)]));
    let look = Look::new(&app, visitor, &headers, here);
    let Some(ledger) = &app.0.parts.ledger else { return look.not_found() };
    let page = search.page.clamp(1, 10_000);
    let standing = Standing::ALL.into_iter().find(|standing| standing.as_str() == search.state);
    let text: String = search.q.chars().take(200).collect();
    let query = Query { text: text.clone(), standing, skip: (page - 1) * PAGE, most: PAGE };
    let found = match ledger.search(&query).await {
        Ok(found) => found,
        Err(error) => return look.store_failed(&error),
    };
    let to = |page: usize| format!("/submissions?{}", form(&[("q", &text), ("state", &search.state), ("page", &page.to_string())]));
    let states: Vec<_> =
        Standing::ALL.into_iter().map(|standing| context! { key => standing.as_str(), word => look.standing(standing).word }).collect();
    let view = context! {
        q => display_safe(&text, 200),
        state => standing.map_or("", Standing::as_str),
        states => states,
        entries => Value::from(Serde(found.entries.iter().map(|entry| look.entry(entry)).collect::<Vec<_>>())),
        total => found.total,
        cut => found.cut,
        number => page,
        pages => found.total.div_ceil(PAGE).max(1),
        before => (page > 1).then(|| to(page - 1)),
        after => (page * PAGE < found.total).then(|| to(page + 1)),
    };
    look.page("submissions.html", "submissions", view)
}

/// `a=b&c=d`, escaped.
pub(super) fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty())).finish()
}

/// What is known of a job, wherever it is.
enum Known {
    Recorded(Box<Record>),
    Waiting(About, Timestamp),
    Nowhere,
}

impl App {
    async fn known(&self, job: &str) -> Result<Known, StoreError> {
        let parts = &self.0.parts;
        if let Some(ledger) = &parts.ledger
            && let Some(record) = ledger.get(job).await?
        {
            return Ok(Known::Recorded(Box::new(record)));
        }
        if let Some((about, since)) = parts.intake.as_ref().and_then(|intake| intake.waiting(job)) {
            return Ok(Known::Waiting(about, since));
        }
        Ok(match parts.board.follow(job) {
            Some((job, _)) => Known::Waiting(job.about, job.began),
            None => Known::Nowhere,
        })
    }
}

async fn submission(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Path(job): Path<String>,
) -> Response {
    let look = Look::new(&app, visitor, &headers, format!("/submissions/{job}"));
    let live = app.0.parts.board.follow(&job).map(|(job, _)| job).filter(|job| job.ended.is_none());
    let (about, since, items, record) = match app.known(&job).await {
        Err(error) => return look.store_failed(&error),
        Ok(Known::Nowhere) => return look.not_found(),
        Ok(Known::Waiting(about, since)) => (about, since, None, None),
        Ok(Known::Recorded(record)) => {
            (record.received.about.clone(), record.received.received_at, Some(record.received.submission.items.len()), Some(record))
        }
    };
    let outcome = record.as_ref().and_then(|record| record.outcome.as_ref());
    let parked = record.as_ref().and_then(|record| record.parked.as_ref()).filter(|_| outcome.is_none() && live.is_none());
    let standing = match (outcome, parked) {
        (Some(outcome), _) => Standing::Ended(outcome.verdict),
        (None, Some(_)) => Standing::Parked,
        (None, None) => Standing::UnderWay,
    };
    let files = outcome.map(|outcome| {
        let objects = &outcome.objects;
        let file = |name: &str, fr: &str, en: &str, object: &Object| {
            context! { name => name, label => look.t(fr, en), size => look.bytes(object.size), sha256 => object.sha256.clone() }
        };
        let mut files = vec![
            file("bundle.zip", "Dossier pour le vérificateur (ZIP)", "Bundle for the verifier (ZIP)", &objects.bundle),
            file("report.json", "Rapport pour les machines (JSON)", "Report for machines (JSON)", &objects.report),
        ];
        files.extend(objects.seal.as_ref().map(|seal| file("seal.json", "Sceau", "Seal", seal)));
        files.extend(objects.receipt.as_ref().map(|receipt| file("receipt.json", "Récépissé", "Receipt", receipt)));
        files
    });
    let counts = outcome.map(|outcome| {
        let order = [
            (Verdict::Rejected, "rejeté", "rejected"),
            (Verdict::Undetermined, "indéterminé", "undetermined"),
            (Verdict::AcceptedWithWarnings, "avec réserves", "with warnings"),
            (Verdict::Accepted, "accepté", "accepted"),
        ];
        let count = |(verdict, fr, en): (Verdict, &str, &str)| {
            let n = outcome.verdicts.get(verdict.as_str()).copied().unwrap_or(0);
            let plural = if n > 1 && !fr.ends_with('s') { "s" } else { "" };
            context! { n => n, key => look.verdict(verdict).key, word => look.t(&format!("{fr}{plural}"), en) }
        };
        order.into_iter().map(count).collect::<Vec<_>>()
    });
    let view = context! {
        about => Value::from(Serde(look.about(&about))),
        since => Value::from(Serde(look.when(since))),
        items => items,
        badge => Value::from(Serde(look.standing(standing))),
        live => Value::from(Serde(live.as_ref().map(|job| look.job(job)))),
        ended => outcome.map(|outcome| Value::from(Serde(look.when(outcome.ended_at)))),
        missing => outcome.map(|outcome| outcome.missing),
        message => outcome.map(|outcome| look.text(&outcome.message)),
        counts => counts,
        files => files,
        parked => parked.map(|parked| Value::from(Serde(look.parked(parked)))),
        following => outcome.is_none() && parked.is_none(),
    };
    look.page("submission.html", "submissions", view)
}

/// The page that lies in the bundle. It is our own, and yet shown as a stranger: an origin of its own, no network, and only
/// the script and style whose digests its own policy names.
async fn report(State(app): State<App>, Extension(visitor): Extension<Visitor>, headers: HeaderMap, Path(job): Path<String>) -> Response {
    let look = Look::new(&app, visitor, &headers, format!("/submissions/{job}"));
    let Some(ledger) = &app.0.parts.ledger else { return look.not_found() };
    let opened = match ledger.get(&job).await {
        Ok(Some(Record { outcome: Some(outcome), .. })) => ledger.open(&outcome.objects.page).await,
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    };
    let opened = match opened {
        Ok(Some(opened)) if opened.stat.size <= MAX_REPORT => opened,
        Ok(_) => return look.not_found(),
        Err(error) => return look.store_failed(&error),
    };
    let mut reader = opened.reader;
    let mut head = Vec::new();
    {
        use tokio::io::AsyncReadExt as _;
        if let Err(error) = (&mut reader).take(HEAD as u64).read_to_end(&mut head).await {
            tracing::warn!(%error, "a bundle's page could not be read");
            return StatusCode::BAD_GATEWAY.into_response();
        }
    }
    let policy = stranger(&String::from_utf8_lossy(&head));
    let rest = ReaderStream::new(reader);
    let body = Body::from_stream(stream::once(async move { Ok(bytes::Bytes::from(head)) }).chain(rest));
    let Ok(policy) = HeaderValue::from_str(&policy) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")), (header::CONTENT_SECURITY_POLICY, policy)], body)
        .into_response()
}

/// The policy for a bundle's page: what its own allows, by digest, in an origin that is nobody's.
fn stranger(head: &str) -> String {
    let hashes = |directive: &str| {
        let part = head.split("Content-Security-Policy").nth(1).and_then(|rest| rest.split('>').next()).unwrap_or_default();
        let part = part.replace("&#x27;", "'").replace("&#39;", "'");
        let values = part.split(';').find_map(|one| one.split_once(directive)).map(|(_, values)| values.to_owned()).unwrap_or_default();
        let is_hash = |value: &&str| {
            let inner = value.strip_prefix("'sha256-").and_then(|v| v.strip_suffix('\''));
            inner.is_some_and(|v| v.len() == 44 && v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')))
        };
        let hashes: Vec<_> = values.split_whitespace().filter(is_hash).map(str::to_owned).collect();
        if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
    };
    format!(
        "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src {}; script-src {}; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hashes("style-src"),
        hashes("script-src")
    )
}

async fn download(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Path((job, file)): Path<(String, String)>,
) -> Response {
    let look = Look::new(&app, visitor, &headers, format!("/submissions/{job}"));
    let Some(ledger) = &app.0.parts.ledger else { return look.not_found() };
    let outcome = match ledger.get(&job).await {
        Ok(Some(Record { outcome: Some(outcome), .. })) => outcome,
        Ok(_) => return look.not_found(),
        Err(error) => return look.store_failed(&error),
    };
    let (object, media) = match file.as_str() {
        "bundle.zip" => (Some(&outcome.objects.bundle), "application/zip"),
        "report.json" => (Some(&outcome.objects.report), "application/json"),
        "seal.json" => (outcome.objects.seal.as_ref(), "application/json"),
        "receipt.json" => (outcome.objects.receipt.as_ref(), "application/json"),
        _ => (None, ""),
    };
    let Some(object) = object else { return look.not_found() };
    let opened = match ledger.open(object).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return look.not_found(),
        Err(error) => return look.store_failed(&error),
    };
    let short: String = job.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    let disposition = format!("attachment; filename=\"greffier-{short}-{file}\"");
    let headers = [
        (header::CONTENT_TYPE, media.to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CONTENT_LENGTH, opened.stat.size.to_string()),
    ];
    (headers, Body::from_stream(ReaderStream::with_capacity(opened.reader, 128 * 1024))).into_response()
}

// ----------------------------------------------------------------------------------------------------- a job, as it goes

/// What a stream says, in the reader's language: the script only sets texts.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum Told {
    Waiting,
    Snapshot { job: Box<JobView> },
    Stage { word: String },
    Item { line: LineView, done: u64, total: u64 },
    End,
}

/// A stream of events of one job.
struct Follower {
    app: App,
    visitor: Visitor,
    headers: HeaderMap,
    job: String,
    state: Following,
    stage: &'static str,
    ticks: u32,
    until: Instant,
    _permit: ClientPermit,
}

enum Following {
    /// Not on the board yet.
    Begun,
    Elsewhere,
    Here(broadcast::Receiver<Live>),
    Ended,
}

async fn events(State(app): State<App>, Extension(visitor): Extension<Visitor>, headers: HeaderMap, Path(job): Path<String>) -> Response {
    let Some(permit) = app.0.streams.take(&visitor.client()) else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")]).into_response();
    };
    let until = Instant::now() + app.0.stream_time;
    let follower = Follower { app, visitor, headers, job, state: Following::Begun, stage: "", ticks: 0, until, _permit: permit };
    let events = stream::unfold(follower, |mut follower| async move {
        let said = tokio::time::timeout_at(follower.until, follower.next()).await.ok()?;
        let said = said.filter(|_| follower.may_look())?;
        // Views always serialise; an event that did not would be left out.
        let event = Event::default().json_data(&said).unwrap_or_default();
        Some((Ok::<_, Infallible>(event), follower))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

impl Follower {
    /// Whether the session that opened this stream still lasts, where it was one.
    fn may_look(&self) -> bool {
        self.visitor.session.is_none() || self.app.0.guard.session(&self.headers).is_some()
    }

    /// Whether the vault says that it is over.
    async fn is_over(&self) -> bool {
        let on_board = self.app.0.parts.board.follow(&self.job).is_some_and(|(job, _)| job.ended.is_none());
        match self.app.known(&self.job).await {
            Ok(Known::Recorded(record)) => record.outcome.is_some() || (record.parked.is_some() && !on_board),
            Ok(Known::Waiting(..)) => false,
            Ok(Known::Nowhere) => true,
            Err(_) => false,
        }
    }

    async fn next(&mut self) -> Option<Told> {
        let mut stopped = self.app.0.stopped.clone();
        loop {
            if let Some((job, receiver)) =
                matches!(self.state, Following::Begun | Following::Elsewhere).then(|| self.app.0.parts.board.follow(&self.job)).flatten()
                && !matches!(job.ended, Some(End::Published { .. } | End::Parked { .. }))
            {
                self.state = Following::Here(receiver);
                return Some(Told::Snapshot { job: Box::new(self.look().job(&job)) });
            }
            match &mut self.state {
                Following::Ended => return None,
                Following::Begun => {
                    if self.is_over().await {
                        self.state = Following::Ended;
                        return Some(Told::End);
                    }
                    self.state = Following::Elsewhere;
                    return Some(Told::Waiting);
                }
                Following::Elsewhere => {
                    tokio::select! {
                        _ = stopped.wait_for(|stopped| *stopped) => return None,
                        () = tokio::time::sleep(Duration::from_millis(700)) => {}
                    }
                    if self.is_over().await {
                        self.state = Following::Ended;
                        return Some(Told::End);
                    }
                }
                Following::Here(receiver) => {
                    let heard = tokio::select! {
                        _ = stopped.wait_for(|stopped| *stopped) => return None,
                        () = tokio::time::sleep(LOOK_AGAIN) => None,
                        heard = receiver.recv() => Some(heard),
                    };
                    match heard {
                        Some(Ok(Live::Item { line, done, total })) => {
                            return Some(Told::Item { line: self.look().item(&line), done, total });
                        }
                        Some(Ok(Live::End(End::Later))) => {
                            self.state = Following::Elsewhere;
                            return Some(Told::Waiting);
                        }
                        Some(Ok(Live::End(_))) => {
                            self.state = Following::Ended;
                            return Some(Told::End);
                        }
                        // Lagging behind, or begun again: everything is told anew.
                        Some(Err(_)) => self.state = Following::Elsewhere,
                        None => {
                            let jobs = self.app.0.parts.state.as_ref().map(WorkerState::jobs).unwrap_or_default();
                            let here = jobs.iter().find(|job| job.about.as_ref().is_some_and(|about| about.job == self.job));
                            if let Some(job) = here.filter(|job| job.stage != self.stage) {
                                self.stage = job.stage;
                                return Some(Told::Stage { word: self.look().stage(job.stage) });
                            }
                            self.ticks += 1;
                            if self.ticks.is_multiple_of(ASK_AGAIN) && self.is_over().await {
                                self.state = Following::Ended;
                                return Some(Told::End);
                            }
                        }
                    }
                }
            }
        }
    }

    fn look(&self) -> Look<'_> {
        Look::new(&self.app, self.visitor.clone(), &self.headers, "")
    }
}

// --------------------------------------------------------------------------------------------------------------- parked

#[derive(Serialize)]
struct ParkedView {
    id: String,
    about: Option<AboutView>,
    lane: Option<String>,
    attempt: Option<u32>,
    code: String,
    detail: String,
    explanation: String,
    undetermined: Vec<String>,
    at: Option<When>,
}

impl Look<'_> {
    fn parked(&self, parked: &SubmissionParked) -> ParkedView {
        ParkedView {
            id: parked.message_id.clone(),
            about: parked.about.as_ref().map(|about| self.about(about)),
            lane: None,
            attempt: None,
            code: line(&parked.reason.code),
            detail: display_safe(&parked.reason.detail, 1_000),
            explanation: self.text(&parked.explanation),
            undetermined: parked.undetermined.iter().take(20).map(|item| line(item)).collect(),
            at: Some(self.when(parked.parked_at)),
        }
    }

    /// What waits in the queue, with what the vault knows of it.
    fn parked_message(&self, waiting: &Waiting, records: &[SubmissionParked]) -> ParkedView {
        let record = records.iter().find(|record| record.message_id == waiting.message.id);
        let mut view = record.map_or_else(
            || ParkedView {
                id: waiting.message.id.clone(),
                about: None,
                lane: None,
                attempt: None,
                code: String::new(),
                detail: String::new(),
                explanation: String::new(),
                undetermined: Vec::new(),
                at: None,
            },
            |record| self.parked(record),
        );
        if let Some(reason) = waiting.reason.as_ref().filter(|_| record.is_none()) {
            view.code = line(&reason.code);
            view.detail = display_safe(&reason.detail, 1_000);
        }
        view.lane = waiting.lane.map(|lane| self.lane(lane));
        view.attempt = Some(waiting.attempt);
        view
    }
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Requeued {
    requeued: Option<usize>,
}

async fn parked(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    UrlQuery(done): UrlQuery<Requeued>,
) -> Response {
    let look = Look::new(&app, visitor, &headers, "/parked");
    let Some(queue) = &app.0.parts.queue else { return look.not_found() };
    let waiting = match queue.peek(Place::Parked, MAX_PARKED).await {
        Ok(waiting) => waiting,
        Err(error) => return look.queue_failed(&error),
    };
    let records = match &app.0.parts.ledger {
        // What is parked can be requeued whether or not the vault can say more of it.
        Some(ledger) => ledger.parked().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let view = context! {
        parked => Value::from(Serde(waiting.iter().map(|one| look.parked_message(one, &records)).collect::<Vec<_>>())),
        full => waiting.len() >= MAX_PARKED,
        requeued => done.requeued,
    };
    look.page("parked.html", "parked", view)
}

#[derive(Debug, Deserialize)]
struct Requeue {
    id: Option<String>,
    back: Option<String>,
}

async fn requeue(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Form(wanted): Form<Requeue>,
) -> Response {
    let look = Look::new(&app, visitor, &headers, "/parked");
    let Some(queue) = &app.0.parts.queue else { return look.not_found() };
    let id = wanted.id.as_deref().filter(|id| !id.is_empty());
    match queue.requeue(id, if id.is_some() { 1 } else { MAX_PARKED }).await {
        Ok(requeued) => {
            tracing::info!(requeued, id, by = look.visitor.subject(), "requeued through the console");
            match wanted.back.as_deref().filter(|job| super::ledger::is_job(job)) {
                Some(job) => Redirect::to(&format!("/submissions/{job}")).into_response(),
                None => Redirect::to(&format!("/parked?requeued={requeued}")).into_response(),
            }
        }
        Err(error) => look.queue_failed(&error),
    }
}

// -------------------------------------------------------------------------------------------------------------- deposit

async fn deposit(State(app): State<App>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    let look = Look::new(&app, visitor, &headers, "/deposit");
    let Some(intake) = &app.0.parts.intake else { return look.not_found() };
    let offer = intake.offer();
    let named = |id: &str, title: &Text| context! { id => id, title => look.text(title) };
    let demarches: Vec<_> = offer
        .demarches
        .iter()
        .map(|loaded| {
            let pipeline = &loaded.pipeline;
            context! {
                id => pipeline.id.clone(),
                title => look.text(&pipeline.title),
                chapters => pipeline.chapters.iter().map(|chapter| named(&chapter.id, &chapter.title)).collect::<Vec<_>>(),
                profiles => pipeline.profiles.iter().filter(|p| !p.always).map(|p| named(&p.id, &p.title)).collect::<Vec<_>>(),
            }
        })
        .collect();
    let view = context! {
        demarches => demarches,
        max_file => offer.max_file,
        max_files => offer.max_files,
        max_file_words => look.bytes(offer.max_file),
        max_deposit_words => look.bytes(offer.max_deposit),
    };
    look.page("deposit.html", "deposit", view)
}

impl Look<'_> {
    /// For the script: a code, and a sentence in the reader's language.
    fn deposit_failed(&self, error: &DepositError) -> Response {
        let (status, fr, en) = match error {
            DepositError::Unknown => {
                (StatusCode::NOT_FOUND, "Ce dépôt n'existe plus : recommencez.", "This deposit is no more: begin again.")
            }
            DepositError::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Trop de dépôts sont en préparation : réessayez dans quelques minutes.",
                "Too many deposits are being made: try again in a few minutes.",
            ),
            DepositError::Path(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Ce chemin de fichier ne peut pas être déposé.", "This file path cannot be deposited.")
            }
            DepositError::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "Le dépôt dépasse la limite.", "The deposit is over the limit.")
            }
            DepositError::NoSpace => (
                StatusCode::INSUFFICIENT_STORAGE,
                "Le serveur manque de place sur son disque : prévenez l'exploitant, puis réessayez.",
                "The server is short of disk space: tell those who run it, then try again.",
            ),
            DepositError::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "Un fichier arrivait trop lentement : vérifiez la connexion, puis renvoyez-le.",
                "A file came too slowly: check the connection, then send it again.",
            ),
            DepositError::Empty => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Le dépôt ne contient aucun fichier.", "There is no file in the deposit.")
            }
            DepositError::Malformed(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "Ce qui décrit le dépôt n'est pas lisible.",
                "What describes the deposit cannot be read.",
            ),
            DepositError::Io(_) => (StatusCode::BAD_REQUEST, "Un fichier n'a pas été reçu en entier.", "A file was not received whole."),
            DepositError::Store(_) | DepositError::Queue(_) => (
                StatusCode::BAD_GATEWAY,
                "Le dépôt n'a pas pu être enregistré : incident technique, réessayez.",
                "The deposit could not be recorded: a technical incident, try again.",
            ),
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a deposit through the console failed");
        }
        // What the outside world answered is for the log.
        let detail = match error {
            DepositError::Store(_) | DepositError::Queue(_) | DepositError::Io(_) => String::new(),
            told => display_safe(&told.to_string(), 500),
        };
        (status, Json(serde_json::json!({ "message": self.t(fr, en), "detail": detail }))).into_response()
    }
}

async fn begin(State(app): State<App>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    let look = Look::new(&app, visitor, &headers, "/deposit");
    let Some(intake) = &app.0.parts.intake else { return look.not_found() };
    match intake.begin(look.visitor.client()).await {
        Ok(draft) => Json(serde_json::json!({ "draft": draft })).into_response(),
        Err(error) => look.deposit_failed(&error),
    }
}

#[derive(Debug, Deserialize)]
struct Where {
    path: String,
}

/// Why a body ended early. That it came too slowly is told by the kind of the error that the connection gave.
fn body_error(error: axum::Error) -> std::io::Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut kind = std::io::ErrorKind::Other;
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            kind = io.kind();
        }
        source = cause.source();
    }
    std::io::Error::new(kind, error)
}

async fn upload(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Path(draft): Path<String>,
    UrlQuery(place): UrlQuery<Where>,
    request: Request,
) -> Response {
    let look = Look::new(&app, visitor, &headers, "/deposit");
    let Some(intake) = &app.0.parts.intake else { return look.not_found() };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = request.into_body().into_data_stream().map(|chunk| chunk.map_err(body_error)).boxed();
    match intake.put(&draft, &place.path, length, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => look.deposit_failed(&error),
    }
}

async fn submit(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Path(draft): Path<String>,
    Json(said): Json<Said>,
) -> Response {
    let look = Look::new(&app, visitor, &headers, "/deposit");
    let Some(intake) = &app.0.parts.intake else { return look.not_found() };
    // The route and not the path, in which the draft's secret stands.
    let attributes = [KeyValue::new("http.request.method", "POST"), KeyValue::new("http.route", SUBMIT)];
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let span = Span::follow(traceparent, SpanKind::Server, format!("POST {SUBMIT}"), attributes);
    let response = match span.run(intake.submit(&draft, said)).await {
        Ok(job) => {
            tracing::info!(job, by = look.visitor.subject(), "deposited through the console");
            Json(serde_json::json!({ "location": format!("/submissions/{job}") })).into_response()
        }
        Err(error) => look.deposit_failed(&error),
    };
    span.set(KeyValue::new("http.response.status_code", i64::from(response.status().as_u16())));
    response
}

// ---------------------------------------------------------------------------------------------------- door, words, files

/// The page of ours that is wanted after a login.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    to: String,
}

impl Wanted {
    /// Only a page of ours: what a browser would take for another site's, or for a header, is the first page; so is what is
    /// longer than any address of ours.
    fn local(&self) -> &str {
        let to = self.to.as_str();
        let inside = to.starts_with('/') && !to.starts_with("//") && to.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if inside && to.len() <= MAX_WANTED { to } else { "/" }
    }
}

impl Look<'_> {
    fn login(&self, status: StatusCode, to: &str, wrong: bool) -> Response {
        let guard = &self.app.0.guard;
        let view = context! {
            wrong => wrong,
            wait => status == StatusCode::TOO_MANY_REQUESTS,
            token => guard.has_token(),
            provider => guard.provider().map(|provider| line(provider.name())),
            start => form(&[("to", to)]),
            to => to,
        };
        self.page_as(status, "login.html", "login", view)
    }

    fn wait_for_login(&self, to: &str) -> Response {
        let wait = [(header::RETRY_AFTER, self.app.0.guard.retry_after())];
        (wait, self.login(StatusCode::TOO_MANY_REQUESTS, to, false)).into_response()
    }

    fn login_failed(&self, error: &LoginError) -> Response {
        tracing::warn!(address = %self.visitor.address, %error, "a login to the console through the OpenID provider failed");
        let said = error.to_string();
        let code = said.split(':').next().unwrap_or_default();
        let status = match error {
            LoginError::State => StatusCode::BAD_REQUEST,
            LoginError::Denied(_) | LoginError::Token { .. } | LoginError::NotAllowed(_) => StatusCode::FORBIDDEN,
            LoginError::Provider(_) => StatusCode::BAD_GATEWAY,
            LoginError::Random(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // Where the provider is, and why it does not answer, is nothing for strangers.
        let detail = if status.is_server_error() { code } else { &said };
        let title = ("Connexion impossible", "Login not possible");
        let page = errors::get(code);
        let body = page.map(|page| [Lang::Fr, Lang::En].map(|lang| format!("{} {}", page.summary.get(lang), page.remedy.get(lang))));
        let [fr, en] = body.unwrap_or_default();
        self.message(status, title, (&fr, &en), detail)
    }

    /// To another page, by a page of ours: strict cookies go along, and no policy on forms stands in the way.
    fn onward(&self, cookies: &[HeaderValue], title: (&str, &str), next: &str) -> Response {
        let view = context! { title => self.t(title.0, title.1), next => next };
        let mut response = self.page("onward.html", "", view);
        let headers = response.headers_mut();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
        if let Ok(refresh) = HeaderValue::from_str(&format!("0; url={next}")) {
            headers.insert(header::REFRESH, refresh);
        }
        response
    }
}

fn no_cookie(error: &std::io::Error) -> Response {
    tracing::error!(%error, "a session could not be made");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

async fn login_page(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    UrlQuery(wanted): UrlQuery<Wanted>,
) -> Response {
    if visitor.known {
        return Redirect::to(wanted.local()).into_response();
    }
    Look::new(&app, visitor, &headers, "/login").login(StatusCode::OK, wanted.local(), false)
}

#[derive(Deserialize)]
struct Login {
    token: String,
    #[serde(default)]
    to: String,
}

async fn login(State(app): State<App>, Extension(visitor): Extension<Visitor>, headers: HeaderMap, Form(shown): Form<Login>) -> Response {
    let (look, guard) = (Look::new(&app, visitor, &headers, "/login"), &app.0.guard);
    let (address, wanted) = (look.visitor.address, Wanted { to: shown.to });
    if !guard.attempt(address) {
        return look.wait_for_login(wanted.local());
    }
    if !guard.is_token(shown.token.trim().as_bytes()) {
        tracing::warn!(%address, "a login to the console failed");
        return look.login(StatusCode::FORBIDDEN, wanted.local(), true);
    }
    guard.succeeded(address);
    match guard.open(None, None) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(wanted.local())).into_response(),
        Err(error) => no_cookie(&error),
    }
}

async fn login_start(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    UrlQuery(wanted): UrlQuery<Wanted>,
) -> Response {
    let (look, guard) = (Look::new(&app, visitor, &headers, "/login"), &app.0.guard);
    let Some(provider) = guard.provider() else { return look.not_found() };
    // A login begins on our own page: another site's could use up the attempts of everybody at this address.
    if is_foreign(&headers) {
        return Redirect::to(&format!("/login?{}", form(&[("to", wanted.local())]))).into_response();
    }
    // Paid for now, and given back to whoever comes back and may enter.
    if !guard.attempt(look.visitor.address) {
        return look.wait_for_login(wanted.local());
    }
    let (url, browser) = match provider.begin(wanted.local(), look.visitor.address) {
        Ok(begun) => begun,
        Err(error) => {
            guard.succeeded(look.visitor.address);
            return look.login_failed(&error);
        }
    };
    match guard.login_cookie(Some(&browser)) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(url.as_str())).into_response(),
        Err(error) => no_cookie(&error),
    }
}

async fn login_callback(
    State(app): State<App>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    UrlQuery(answer): UrlQuery<Answer>,
) -> Response {
    let (look, guard) = (Look::new(&app, visitor, &headers, "/login"), &app.0.guard);
    let Some(provider) = guard.provider() else { return look.not_found() };
    // Paid for when it began. An answer that no login waits for costs nothing: any site can send people here with one, and
    // nobody guesses a state.
    let arrival = match provider.finish(answer, guard.kept_by(&headers, Cookie::Login)).await {
        Ok(arrival) => arrival,
        Err(error) => return look.login_failed(&error),
    };
    guard.succeeded(look.visitor.address);
    tracing::info!(by = arrival.person.subject, "logged in to the console through the OpenID provider");
    match guard.open(Some(arrival.person), arrival.id_token).and_then(|session| Ok([session, guard.login_cookie(None)?])) {
        Ok(cookies) => look.onward(&cookies, ("Vous êtes connecté", "You are logged in"), &arrival.to),
        Err(error) => no_cookie(&error),
    }
}

async fn logout(State(app): State<App>, Extension(mut visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    let guard = &app.0.guard;
    let ended = visitor.session.take();
    visitor.known = false;
    let cookie = match guard.close(&headers) {
        Ok(cookie) => cookie,
        Err(error) => return no_cookie(&error),
    };
    // Who came through the provider leaves there too: else the next one at this browser would be let in without a question.
    let person = ended.filter(|session| session.person.is_some());
    match person.zip(guard.provider()).and_then(|(session, provider)| provider.logout(session.id_token.as_deref())) {
        Some(next) => {
            let look = Look::new(&app, visitor, &headers, "/login");
            look.onward(&[cookie], ("Vous êtes déconnecté", "You are logged out"), next.as_str())
        }
        None => ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response(),
    }
}

#[derive(Debug, Deserialize)]
struct Choice {
    set: String,
    #[serde(flatten)]
    wanted: Wanted,
}

async fn choose_lang(UrlQuery(choice): UrlQuery<Choice>) -> Response {
    let lang = if choice.set == "en" { "en" } else { "fr" };
    let cookie = format!("greffier_lang={lang}; Path=/; SameSite=Lax; Max-Age=31536000");
    ([(header::SET_COOKIE, cookie)], Redirect::to(choice.wanted.local())).into_response()
}

async fn asset(Path(file): Path<String>) -> Response {
    let (text, media) = match file.as_str() {
        "console.css" => (STYLE, "text/css; charset=utf-8"),
        "console.js" => (SCRIPT, "text/javascript; charset=utf-8"),
        "mark.svg" => (MARK, "image/svg+xml"),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers: [(HeaderName, &'static str); 2] = [(header::CONTENT_TYPE, media), (header::CACHE_CONTROL, "public, max-age=86400")];
    (headers, text).into_response()
}

async fn nothing_here(State(app): State<App>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    Look::new(&app, visitor, &headers, "/").not_found()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Build, Metrics};
    use crate::ops::board::Board;
    use crate::ops::config::HttpConfig;
    use crate::ops::guard::Session;
    use crate::ops::health::Health;

    #[test]
    fn a_bundles_page_runs_only_what_its_own_policy_names() {
        let hash = format!("'sha256-{}='", "A".repeat(43));
        let head = format!(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {hash}; script-src {hash} 'unsafe-inline' https://evil.example; img-src data:\"><script>"
        );
        let policy = stranger(&head);
        assert!(policy.starts_with("sandbox allow-scripts ") && !policy.contains("allow-same-origin"), "{policy}");
        assert!(policy.contains(&format!("style-src {hash}; script-src {hash};")), "{policy}");
        assert!(!policy.contains("unsafe-inline") && !policy.contains("evil"), "{policy}");
        assert!(stranger("<script>alert(1)</script>").contains("script-src 'none'"));
    }

    #[test]
    fn only_a_short_address_of_ours_is_gone_back_to() {
        let local = |to: &str| Wanted { to: to.to_owned() }.local().to_owned();
        let longest = format!("/{}", "x".repeat(MAX_WANTED - 1));
        for ours in ["/parked?page=2", &longest] {
            assert_eq!(local(ours), ours);
        }
        for other in ["", "//evil.example", "/\\evil.example", "/a b", &format!("{longest}x")] {
            assert_eq!(local(other), "/", "{other}");
        }
    }

    fn app_with(guard: Guard, board: Board, stream_time: Duration) -> (App, watch::Sender<bool>) {
        let parts = Parts {
            metrics: Metrics::new(&Build::default()),
            health: Health::new(&[]),
            state: None,
            board,
            queue: None,
            ledger: None,
            intake: None,
            lang: Lang::En,
        };
        let (stopping, stopped) = watch::channel(false);
        (App(Arc::new(Inner { parts, guard, streams: ClientLimit::new(3, 2), stream_time, stopped })), stopping)
    }

    fn guard_with_token() -> Guard {
        let config = HttpConfig { token: "correct-horse-battery".into(), ..HttpConfig::default() };
        Guard::new(&config, &config.resolve().unwrap().unwrap(), None)
    }

    async fn follow(app: &App, session: Option<Session>, address: [u8; 4], headers: &HeaderMap) -> Response {
        let visitor = Visitor { known: true, session, address: address.into(), proxied: false };
        events(State(app.clone()), Extension(visitor), headers.clone(), Path("job".into())).await
    }

    async fn told(response: Response) -> String {
        String::from_utf8(axum::body::to_bytes(response.into_body(), 10_000).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_open_stream_says_nothing_after_the_logout_of_the_session_that_opened_it() {
        let guard = guard_with_token();
        let kept = guard.open(None, None).unwrap();
        let kept = kept.to_str().unwrap().split(';').next().unwrap().parse().unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, kept)]);
        let (app, _stopping) = app_with(guard.clone(), Board::default(), STREAM_TIME);
        let session = || guard.session(&headers);
        let (before, after) =
            (follow(&app, session(), [192, 0, 2, 1], &headers).await, follow(&app, session(), [192, 0, 2, 2], &headers).await);
        let third = follow(&app, session(), [192, 0, 2, 3], &headers).await;
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE, "streams are counted by session");
        assert!(told(before).await.contains("end"));
        guard.close(&headers).unwrap();
        assert_eq!(told(after).await, "");
    }

    #[tokio::test]
    async fn streams_end_with_age_and_one_address_does_not_take_them_all() {
        let (board, headers) = (Board::default(), HeaderMap::new());
        let about = About {
            job: "job".into(),
            precheck: true,
            demarche: "lgc-vague-2".into(),
            candidature: String::new(),
            company: None,
            product: None,
            stage: Stage::Dossier,
            revision: 1,
        };
        board.begin(&about, 3);
        let (app, _stopping) = app_with(guard_with_token(), board, Duration::from_millis(300));
        let first = follow(&app, None, [192, 0, 2, 1], &headers).await;
        let _second = follow(&app, None, [192, 0, 2, 1], &headers).await;
        assert_eq!(follow(&app, None, [192, 0, 2, 1], &headers).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(follow(&app, None, [192, 0, 2, 2], &headers).await.status(), StatusCode::OK, "another address has its own share");
        // The job goes on: the stream ends all the same, and its place is free.
        let said = tokio::time::timeout(Duration::from_secs(60), told(first)).await.expect("the stream goes on for ever");
        assert!(said.contains("snapshot") && !said.contains("\"end\""), "{said}");
        assert_eq!(follow(&app, None, [192, 0, 2, 1], &headers).await.status(), StatusCode::OK);
    }
}
