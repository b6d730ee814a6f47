//! Spans that have ended, on their way to the collector: a bounded queue and one task that empties it.
//!
//! The SDK's own batching does the same on a thread of its own, but tells nobody what it drops, and waits for as long as a
//! request takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::config::TelemetryConfig;
use super::{DROPPED, TRACER};
use crate::model::probe::Probe;
use crate::model::text::{chain, display_safe};

/// Most spans in one request (OpenTelemetry SDK, « Batching processor », `maxExportBatchSize`).
const BATCH: usize = 512;
/// How long a span waits for others to go along with.
const LINGER: Duration = Duration::from_secs(2);
/// How long one request may take; after it, none is repeated.
const REQUEST: Duration = Duration::from_secs(10);
/// How long the last spans of a process may take.
const LAST_SPANS: Duration = Duration::from_secs(3);

/// Why nothing can be traced as configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A setting that cannot work.
    #[error("TELEMETRY-SETTINGS: {0}")]
    Setting(String),
    /// No HTTP client.
    #[error("TELEMETRY-SETTINGS: no client for the collector can be made")]
    Client(#[source] reqwest::Error),
    /// The exporter refuses its settings, which may also stand in `OTEL_EXPORTER_OTLP_…`.
    #[error("TELEMETRY-SETTINGS: traces cannot be sent as configured")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Begins to trace, where an address is given; called once, within the runtime.
///
/// # Errors
/// [`TelemetryError`]: settings that cannot work. A collector that does not answer is none.
pub fn start(config: &TelemetryConfig) -> Result<Option<Telemetry>, TelemetryError> {
    config.check().map_err(TelemetryError::Setting)?;
    if config.endpoint.is_empty() {
        return Ok(None);
    }
    let mut exporter = exporter(config)?;
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    exporter.set_resource(&resource);
    let (sender, receiver) = mpsc::channel(config.max_queued_spans as usize);
    tokio::spawn(send(receiver, exporter));
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
        .with_span_processor(Queued { sender: sender.clone(), told: AtomicBool::new(false) })
        .build();
    // Called once: what a second call would bring is refused, and dropped.
    let _ = TRACER.set(provider.tracer("greffier"));
    Ok(Some(Telemetry { sender }))
}

/// What sends spans to the collector; it is not asked anything yet.
fn exporter(config: &TelemetryConfig) -> Result<SpanExporter, TelemetryError> {
    crate::tls::install_tls_provider();
    let mut builder = reqwest::Client::builder().timeout(REQUEST).redirect(reqwest::redirect::Policy::none());
    if let Some(file) = &config.extra_ca_file {
        let wrong = |why| TelemetryError::Setting(format!("telemetry.extra_ca_file: {why}"));
        builder = builder.tls_certs_merge(crate::tls::authorities(file).map_err(wrong)?);
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(builder.build().map_err(TelemetryError::Client)?)
        .with_endpoint(format!("{}/v1/traces", config.endpoint.trim_end_matches('/')))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(REQUEST)
        .build()?;
    Ok(exporter)
}

/// Whether the collector takes what it would be told, tried with an export of nothing; `None` where nothing is traced. Neither
/// address nor headers are in what is said of it.
pub async fn probe(config: &TelemetryConfig) -> Option<Probe> {
    let name = "collector of traces";
    let failed = |e: TelemetryError| Some(Probe::failed(name, chain(&e)));
    if let Err(why) = config.check() {
        return failed(TelemetryError::Setting(why));
    }
    if config.endpoint.is_empty() {
        return None;
    }
    let exporter = match exporter(config) {
        Ok(exporter) => exporter,
        Err(e) => return failed(e),
    };
    let why = match timeout(REQUEST, exporter.export(Vec::new())).await {
        Ok(Ok(())) => return Some(Probe::passed(name, "takes an empty export")),
        Ok(Err(e)) => e.to_string(),
        Err(_) => format!("no answer in {} s", REQUEST.as_secs()),
    };
    let advice = "start it, or correct telemetry.endpoint, telemetry.extra_ca_file or OTEL_EXPORTER_OTLP_HEADERS";
    Some(Probe::failed(name, format!("TELEMETRY-UNREACHABLE: {}: {advice}; no job waits for it", display_safe(&why, 300))))
}

/// What goes through the queue.
enum Queueing {
    Span(Box<SpanData>),
    /// Answered once everything before it has gone.
    Flush(oneshot::Sender<()>),
}

/// Puts spans into the queue as they end.
#[derive(Debug)]
struct Queued {
    sender: mpsc::Sender<Queueing>,
    /// Whether it was said that the queue is full.
    told: AtomicBool,
}

impl SpanProcessor for Queued {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.sender.try_send(Queueing::Span(Box::new(span))).is_err() {
            DROPPED.inc();
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!("TELEMETRY-DROPPED: more spans end than the collector takes; those that do not fit are dropped and counted");
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends what is in the queue until nobody can put anything into it.
async fn send(mut queue: mpsc::Receiver<Queueing>, exporter: SpanExporter) {
    let mut silent = false;
    while let Some(first) = queue.recv().await {
        let until = Instant::now() + LINGER;
        let (mut batch, mut flushed) = (Vec::new(), None);
        let mut next = Some(first);
        while let Some(queued) = next {
            match queued {
                Queueing::Span(span) => batch.push(*span),
                Queueing::Flush(done) => flushed = Some(done),
            }
            let full = batch.len() >= BATCH || flushed.is_some();
            next = if full { None } else { timeout_at(until, queue.recv()).await.ok().flatten() };
        }
        if !batch.is_empty() {
            let spans = batch.len();
            match exporter.export(batch).await {
                Ok(()) => {
                    if std::mem::take(&mut silent) {
                        tracing::info!("the collector takes traces again");
                    }
                }
                Err(error) => {
                    DROPPED.inc_by(spans as u64);
                    // Said once for as long as it lasts; neither address nor headers are in the error.
                    if !std::mem::replace(&mut silent, true) {
                        tracing::warn!(%error, spans, "TELEMETRY-UNREACHABLE: the collector takes no traces; they are dropped and counted");
                    }
                }
            }
        }
        if let Some(done) = flushed {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }
}

/// Traces that are being told.
#[derive(Debug)]
pub struct Telemetry {
    sender: mpsc::Sender<Queueing>,
}

impl Telemetry {
    /// Sends the last spans, for three seconds at most.
    pub async fn finish(self) {
        let (done, told) = oneshot::channel();
        let last = async {
            if self.sender.send(Queueing::Flush(done)).await.is_ok() {
                let _ = told.await;
            }
        };
        if timeout(LAST_SPANS, last).await.is_err() {
            tracing::warn!("TELEMETRY-UNREACHABLE: the collector did not take the last traces in time");
        }
    }
}
