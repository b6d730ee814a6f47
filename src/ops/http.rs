//! The server: health, metrics, and the console under `/`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router, middleware};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::board::Board;
use super::config::{Checked, HttpConfig, HttpError};
use super::console;
use super::deposit::Intake;
use super::guard::{Guard, Visitor, guard};
use super::health::{Condition, Health};
use super::ledger::Ledger;
use super::listen::Listener;
use super::oidc::Provider;
use crate::metrics::{Metrics, OPEN_METRICS};
use crate::model::Lang;
use crate::queue::Queue;
use crate::worker::state::State as WorkerState;

/// How long requests under way may go on after the server was told to stop.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What the server shows. What is absent is not offered.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What is counted.
    pub metrics: Metrics,
    /// Whether we live and are ready.
    pub health: Health,
    /// What the worker of this process is doing.
    pub state: Option<WorkerState>,
    /// What is under way, here and elsewhere.
    pub board: Board,
    /// Where parked jobs are, and are requeued.
    pub queue: Option<Arc<dyn Queue>>,
    /// Submissions.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Takes deposits: `serve` only.
    pub intake: Option<Arc<dyn Intake>>,
    /// Language until somebody chooses.
    pub lang: Lang,
}

/// A server that listens and does not answer yet.
pub struct Server {
    listener: Listener,
    router: Router,
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    provider: Option<(Arc<Provider>, Health)>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens. `checked` is what [`HttpConfig::resolve`] made of `config`: once, since secrets may come from what gives them
    /// once only (a pipe).
    ///
    /// # Errors
    /// [`HttpError`]: the address is taken, or a file cannot be used.
    pub async fn bind(config: &HttpConfig, checked: Checked, parts: Parts) -> Result<Self, HttpError> {
        let listener = Listener::bind(config, &checked).await?;
        let address = listener.local_addr().map_err(|source| HttpError::Address { listen: config.listen.clone(), source })?;
        let (stopping, stopped) = watch::channel(false);
        // Who looks at nothing but health and metrics has no login.
        let provider = match checked.oidc.clone().filter(|_| config.console) {
            Some(settings) => Some(Arc::new(Provider::new(settings)?)),
            None => None,
        };
        let followed = provider.clone().map(|provider| (provider, parts.health.clone()));
        let rules = Guard::new(config, &checked, provider);
        let app = Watched {
            metrics: parts.metrics.clone(),
            health: parts.health.clone(),
            worker: parts.state.clone(),
            stalled: config.stalled_seconds.max(10),
        };
        let mut router =
            Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(metrics)).with_state(app);
        if config.console {
            router = router.merge(console::router(parts, rules.clone(), stopped));
        }
        let router = router.layer(middleware::from_fn_with_state(rules, guard));
        Ok(Self { listener, router, address, stopping, provider: followed })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is done; then lets requests under way end, for a few seconds.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) {
        let Self { listener, router, address, stopping, provider } = self;
        tracing::info!(%address, "serving metrics, health and console");
        let mut stopped = stopping.subscribe();
        let served = listener.serve(router, stopping.subscribe());
        let stop = async move {
            stop.await;
            // Streams of events end by themselves when they see this.
            stopping.send_replace(true);
            std::future::pending::<()>().await;
        };
        let too_long = async move {
            let _ = stopped.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let following = async move {
            match provider {
                Some((provider, health)) => provider.follow(health).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = served => {}
            () = stop => {}
            () = too_long => {}
            () = following => {}
        }
    }
}

#[derive(Clone)]
struct Watched {
    metrics: Metrics,
    health: Health,
    worker: Option<WorkerState>,
    stalled: u64,
}

async fn livez(State(app): State<Watched>) -> Response {
    let stalled = app.worker.as_ref().and_then(WorkerState::stalled_for);
    if let Some(seconds) = stalled.filter(|seconds| *seconds > app.stalled) {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("jobs are under way, and none went further for {seconds} s\n")).into_response();
    }
    "ok\n".into_response()
}

/// What `/readyz` answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Whether a job could be taken now.
    pub ready: bool,
    /// What does not hold; empty where it is ready.
    pub reasons: Vec<Reason>,
}

/// A condition that does not hold.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reason {
    /// Which.
    pub condition: Condition,
    /// Why, for those who may know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

async fn readyz(State(app): State<Watched>, Extension(visitor): Extension<Visitor>) -> Response {
    // Why holds host names and paths: for those who have the token. What is enough for a probe.
    if app.worker.as_ref().is_some_and(WorkerState::is_draining) {
        app.health.drain();
    }
    let reason = |unmet: super::health::Unmet| Reason { condition: unmet.condition, why: visitor.known.then_some(unmet.why) };
    let reasons: Vec<_> = app.health.unmet().into_iter().map(reason).collect();
    let ready = !reasons.iter().any(|reason| reason.condition.is_needed());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, reasons })).into_response()
}

async fn metrics(State(app): State<Watched>) -> Response {
    match app.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
