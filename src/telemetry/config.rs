//! Configuration of traces.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Traces of jobs, told to an OpenTelemetry collector (OTLP over HTTP, protobuf). Configuration `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// Base address of the collector (`http://localhost:4318`), to which `/v1/traces` is added; also
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`. Empty: nothing is traced. Credentials go into `OTEL_EXPORTER_OTLP_HEADERS`.
    pub endpoint: String,
    /// `service.name` of what is told; also `OTEL_SERVICE_NAME`.
    pub service_name: String,
    /// Share of the traces begun here that is kept, 0 to 1. A trace that a message or a request brings is kept where whoever
    /// began it keeps it.
    pub sample_ratio: f64,
    /// Spans that wait for the collector at most; those beyond are dropped and counted.
    pub max_queued_spans: u32,
    /// PEM file of certificate authorities trusted besides those of the system; also `OTEL_EXPORTER_OTLP_CERTIFICATE`.
    pub extra_ca_file: Option<PathBuf>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { endpoint: String::new(), service_name: "greffier".into(), sample_ratio: 1.0, max_queued_spans: 8_192, extra_ca_file: None }
    }
}

impl TelemetryConfig {
    /// What cannot work. The address is not repeated: it may hold what it should not.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn check(&self) -> Result<(), String> {
        if !self.endpoint.is_empty() {
            let url = Url::parse(&self.endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let Some(url) = url else {
                return Err("telemetry.endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT) is no address beginning with http:// or https://".into());
            };
            if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
                return Err("telemetry.endpoint must be an address only: credentials go into OTEL_EXPORTER_OTLP_HEADERS".into());
            }
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err("telemetry.sample_ratio must lie between 0 and 1".into());
        }
        if self.max_queued_spans == 0 {
            return Err("telemetry.max_queued_spans must be at least 1".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_and_holds_no_secret() {
        let with = |endpoint: &str| TelemetryConfig { endpoint: endpoint.into(), ..TelemetryConfig::default() }.check();
        for good in ["", "http://localhost:4318", "https://collector.example/otlp/"] {
            assert_eq!(with(good), Ok(()), "{good}");
        }
        for bad in ["collector:4318", "grpc://collector:4317", "http://me:hunter2@collector", "http://collector/?key=hunter2"] {
            let refused = with(bad).unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn a_ratio_is_a_share() {
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(TelemetryConfig { sample_ratio: bad, ..TelemetryConfig::default() }.check().is_err(), "{bad}");
        }
    }
}
