//! Settings of the machine that fetches: limits, politeness, credentials. What a démarche says of Gazelle
//! (hosts, roles, identifiers) is the pipeline's [`GazellePolicy`] and holds no secret.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

pub use crate::model::gazelle::{Expectation, GazellePolicy, HostRole, HostRule};

/// How reports are fetched. Every limit has a default that suits a public server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GazelleConfig {
    /// No network at all: links are answered from pinned copies, or stay undetermined.
    pub offline: bool,
    /// `host:port` pairs that may be asked over plain `http:` and must then resolve to loopback addresses
    /// only. For tests and nothing else; the host must be on the pipeline's allow-list too.
    pub allow_loopback: Vec<String>,
    /// Credentials by host. Tried only after an anonymous reader was refused, to tell a private result from one that does
    /// not exist; what they open is neither copied nor judged.
    pub credentials: Vec<Credential>,
    /// PEM file of certificate authorities trusted besides the system's (an outgoing proxy, a test server).
    pub extra_ca_file: Option<PathBuf>,
    /// Most bytes of one body, counted before and after decompression.
    pub max_body_bytes: u64,
    /// Most redirects followed for one request.
    pub max_redirects: u32,
    /// Time to connect, TLS handshake included, milliseconds.
    pub connect_timeout_ms: u64,
    /// Time from the request to the last response header, milliseconds.
    pub header_timeout_ms: u64,
    /// Time to read one body, milliseconds.
    pub body_timeout_ms: u64,
    /// Time for one link, waits and retries included, milliseconds.
    pub link_timeout_ms: u64,
    /// Least time between the starts of two requests to one host, milliseconds.
    pub min_interval_ms: u64,
    /// Most requests under way at one host.
    pub max_concurrent_per_host: u32,
    /// Attempts of one request where the server is overloaded or the connection breaks.
    pub max_attempts: u32,
    /// First wait between two attempts, doubled each time, milliseconds; the real wait is drawn between half of it and all of it.
    pub backoff_base_ms: u64,
    /// Longest wait between two attempts, milliseconds. A `Retry-After` beyond it ends the attempts: the job comes back later.
    pub backoff_max_ms: u64,
    /// How often a validation under way is asked again before it is left for later.
    pub pending_polls: u32,
    /// Wait between two of these, milliseconds.
    pub pending_wait_ms: u64,
}

impl Default for GazelleConfig {
    fn default() -> Self {
        Self {
            offline: false,
            allow_loopback: Vec::new(),
            credentials: Vec::new(),
            extra_ca_file: None,
            max_body_bytes: 8 * 1024 * 1024,
            max_redirects: 3,
            connect_timeout_ms: 5_000,
            header_timeout_ms: 20_000,
            body_timeout_ms: 30_000,
            link_timeout_ms: 120_000,
            min_interval_ms: 1_000,
            max_concurrent_per_host: 2,
            max_attempts: 4,
            backoff_base_ms: 1_000,
            backoff_max_ms: 30_000,
            pending_polls: 3,
            pending_wait_ms: 5_000,
        }
    }
}

impl GazelleConfig {
    /// What makes these settings unusable, in words for whoever wrote them.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("max_body_bytes", self.max_body_bytes),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("header_timeout_ms", self.header_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("link_timeout_ms", self.link_timeout_ms),
            ("max_concurrent_per_host", u64::from(self.max_concurrent_per_host)),
            ("max_attempts", u64::from(self.max_attempts)),
        ] {
            if value == 0 {
                return Err(format!("gazelle.{name} must be at least 1"));
            }
        }
        for entry in &self.allow_loopback {
            if !entry.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
                return Err(format!("gazelle.allow_loopback: `{entry}` is not `host:port`"));
            }
        }
        for credential in &self.credentials {
            if credential.host.is_empty() || credential.secret.expose().is_empty() {
                return Err(format!("gazelle.credentials: the entry for `{}` lacks a host or a secret", credential.host));
            }
            if !credential.secret.expose().bytes().all(|b| (0x21..=0x7e).contains(&b)) {
                return Err(format!("gazelle.credentials: the secret for `{}` holds characters a header cannot carry", credential.host));
            }
        }
        Ok(())
    }

    /// Whether `host:port` may be a loopback server.
    pub fn permits_loopback(&self, host: &str, port: u16) -> bool {
        self.allow_loopback
            .iter()
            .filter_map(|entry| entry.rsplit_once(':'))
            .any(|(h, p)| h.eq_ignore_ascii_case(host) && p.parse() == Ok(port))
    }

    /// The credential for `host`.
    pub fn credential(&self, host: &str) -> Option<&Credential> {
        self.credentials.iter().find(|c| c.host.eq_ignore_ascii_case(host))
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }
    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }
    pub(crate) fn link_timeout(&self) -> Duration {
        Duration::from_millis(self.link_timeout_ms)
    }
}

/// A credential for one host. Gazelle keys are specific to the server that made them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// Host name it is for; it is sent to no other, redirects included.
    pub host: String,
    /// How it is sent.
    pub scheme: CredentialScheme,
    /// The key or token.
    pub secret: Secret,
}

impl Credential {
    /// The value of the `Authorization` header.
    pub fn header(&self) -> String {
        format!("{} {}", self.scheme.as_str(), self.secret.expose())
    }
}

/// How a credential is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialScheme {
    /// `Authorization: GazelleAPIKey …`: EVS Client 6.
    ApiKey,
    /// `Authorization: Bearer …`: validation gateway.
    Bearer,
}

impl CredentialScheme {
    /// The word before the secret.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "GazelleAPIKey",
            Self::Bearer => "Bearer",
        }
    }
}

/// A value that is never printed: `Debug`, `Display` and serialisation all give `***`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }
    /// The value itself: for the header it goes into, nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let config = GazelleConfig {
            credentials: vec![Credential { host: "h".into(), scheme: CredentialScheme::ApiKey, secret: Secret::new("s3cr3t-value") }],
            ..GazelleConfig::default()
        };
        assert!(!format!("{config:?}").contains("s3cr3t"));
        assert!(!serde_json::to_string(&config).unwrap().contains("s3cr3t"));
        assert_eq!(config.credentials[0].header(), "GazelleAPIKey s3cr3t-value");
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(toml::from_str::<GazelleConfig>("max_redirect = 3").is_err());
        assert!(toml::from_str::<GazelleConfig>("max_redirects = 3").is_ok());
        assert!(toml::from_str::<GazellePolicy>("[[hosts]]\nhost = \"h\"\nrole = \"referencement\"\nkey = \"x\"").is_err());
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let bad = GazelleConfig { max_attempts: 0, ..GazelleConfig::default() };
        assert!(bad.check().unwrap_err().contains("max_attempts"));
        let bad = GazelleConfig { allow_loopback: vec!["localhost".into()], ..GazelleConfig::default() };
        assert!(bad.check().unwrap_err().contains("localhost"));
        assert!(GazelleConfig::default().check().is_ok());
    }

    #[test]
    fn loopback_permission_is_for_one_host_and_one_port() {
        let config = GazelleConfig { allow_loopback: vec!["127.0.0.1:8080".into()], ..GazelleConfig::default() };
        assert!(config.permits_loopback("127.0.0.1", 8080));
        assert!(!config.permits_loopback("127.0.0.1", 8081));
        assert!(!config.permits_loopback("localhost", 8080));
    }
}
