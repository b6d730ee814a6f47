//! Traces: what became of a job from its sender to its events, told to an OpenTelemetry collector.
//!
//! Goals:
//! 1. **Off unless an address is given**, and then nothing differs: no span exists, messages carry on the `traceparent` they
//!    came with, log lines are as they were.
//! 2. **Never in the way**: ending a span costs one push into a bounded queue ([`export`]); what does not fit, and what no
//!    collector takes, is dropped and counted.
//! 3. **Nothing that a sender wrote** but the ids of messages: attributes are ids of ours, positions, codes, sizes, formats.
//!    An item is told by its position in the submission, since its id may be the name of a file.
//! 4. **The same ids everywhere**: a message carries the span that sent it, a JSON log line the span it was written in
//!    ([`log`]).
//!
//! Names follow the semantic conventions of OpenTelemetry for messaging and HTTP; what they do not name begins with
//! `greffier.`. Contexts travel as W3C Trace Context `traceparent`; `tracestate` is not carried on.

pub mod config;
mod export;
pub mod log;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{FutureExt as _, Status, TraceContextExt as _, Tracer as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use prometheus_client::metrics::counter::Counter;

pub use export::{Telemetry, TelemetryError, probe, start};
pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::SpanKind;

/// Makes spans, once [`start`] was told where they go.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();
static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The name of `traceparent` in headers and attributes (W3C Trace Context §3.2.1).
const TRACEPARENT: &str = "traceparent";

/// What counts spans that no collector got.
pub fn dropped() -> Counter {
    DROPPED.clone()
}

/// Something that takes time, and may have parts. It ends when it is dropped; where nothing is traced, it is nothing.
#[derive(Debug)]
pub struct Span(Context);

impl Span {
    /// A part of the span that is current, or the beginning of a trace.
    pub fn begin(kind: SpanKind, name: impl Into<Cow<'static, str>>, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        Context::map_current(|current| Self::below(current, kind, name, attributes))
    }

    /// A part of this process's own work.
    pub fn part(name: &'static str) -> Self {
        Self::begin(SpanKind::Internal, name, [])
    }

    /// Goes on with the trace that a message or a request came with; begins one where that is absent or no `traceparent`.
    pub fn follow(
        traceparent: Option<&str>,
        kind: SpanKind,
        name: impl Into<Cow<'static, str>>,
        attributes: impl IntoIterator<Item = KeyValue>,
    ) -> Self {
        let carried = HashMap::from([(TRACEPARENT.to_owned(), traceparent.unwrap_or_default().to_owned())]);
        let before = TraceContextPropagator::new().extract_with_context(&Context::new(), &carried);
        Self::below(&before, kind, name, attributes)
    }

    fn below(parent: &Context, kind: SpanKind, name: impl Into<Cow<'static, str>>, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(Context::new()) };
        let builder = tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
        Self(parent.with_span(builder.start_with_context(tracer, parent)))
    }

    /// Does `work` with this span as the current one.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        work.with_context(self.0.clone()).await
    }

    /// What a message carries that is sent in it. `None` where nothing is traced.
    pub fn traceparent(&self) -> Option<String> {
        traceparent_of(&self.0)
    }

    /// Notes something that was not known when it began.
    pub fn set(&self, attribute: KeyValue) {
        self.0.span().set_attribute(attribute);
    }

    /// It failed, with this code.
    pub fn fail(&self, code: impl Into<Cow<'static, str>>) {
        self.set(KeyValue::new("error.type", code.into()));
        // Without words: they may hold what a sender wrote.
        self.0.span().set_status(Status::error(""));
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Tasks that are still being dropped may hold its context: it ends now all the same.
        self.0.span().end();
    }
}

/// An attribute that counts something.
pub fn count(name: &'static str, n: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(n).unwrap_or(i64::MAX))
}

/// Lets a task that is to be spawned go on in the span that is current here.
pub fn carried_along<T: Future>(task: T) -> impl Future<Output = T::Output> {
    task.with_current_context()
}

/// The `traceparent` of the current span, for what follows from it. `None` where nothing is traced.
pub fn traceparent() -> Option<String> {
    Context::map_current(traceparent_of)
}

fn traceparent_of(context: &Context) -> Option<String> {
    let mut carried = HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut carried);
    carried.remove(TRACEPARENT)
}
