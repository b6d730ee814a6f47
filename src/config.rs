//! Configuration: one TOML file, overridden by the environment; one struct per concern.
//!
//! `greffier.toml` is looked for where `--config` or `GREFFIER_CONFIG` says, then in the working directory, then
//! in `/etc/greffier/`. A key of a section is overridden by `GREFFIER_<SECTION>__<KEY>`
//! (`GREFFIER_SANDBOX__MEMORY_BYTES=268435456`; of a section inside one: `GREFFIER_HTTP__OIDC__ISSUER`); the value is read
//! as TOML, or as a string where it is not TOML. Variables of OpenTelemetry that have a key here ([`STANDARD`]) override the
//! file as well, and ours override them.
//! A file that was only found, in the working directory, is obeyed where nobody else could have written it and where it is no
//! part of what is checked: see [`found`].
//! Unknown keys are refused with file, line and column, or with the name of the variable.

pub mod found;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::antivirus::AntivirusConfig;
use crate::check::folder::position;
use crate::check::previews::PreviewConfig;
use crate::gazelle::GazelleConfig;
use crate::inspect::Limits;
use crate::model::Lang;
use crate::ops::config::HttpConfig;
use crate::queue::config::QueueConfig;
use crate::sandbox::SandboxConfig;
use crate::store::config::StoreConfig;
use crate::telemetry::config::TelemetryConfig;
use crate::worker::config::WorkerConfig;

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What one item may cost.
    pub inspect: Limits,
    /// How inspection children are limited.
    pub sandbox: SandboxConfig,
    /// How submissions are checked.
    pub check: CheckConfig,
    /// Pictures of PDF and videos on the bundle's page.
    pub preview: PreviewConfig,
    /// How Gazelle reports are fetched.
    pub gazelle: GazelleConfig,
    /// Who scans for malware.
    pub antivirus: AntivirusConfig,
    /// Where jobs wait.
    pub queue: QueueConfig,
    /// Where uploads are found.
    pub staging: StoreConfig,
    /// Where what was received is kept, and what was made of it.
    pub vault: StoreConfig,
    /// How a worker works.
    pub worker: WorkerConfig,
    /// Where pipelines are.
    pub pipelines: PipelinesConfig,
    /// Metrics, health and console over HTTP.
    pub http: HttpConfig,
    /// Traces of jobs for an OpenTelemetry collector.
    pub telemetry: TelemetryConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Which file the settings were read from; no setting itself.
    #[serde(skip)]
    pub origin: Origin,
}

/// Which file settings were read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// None: defaults and the environment.
    #[default]
    Nowhere,
    /// The one that was named.
    Named(PathBuf),
    /// One that was found in the working directory.
    WorkingDirectory(PathBuf),
    /// The one of the machine, in `/etc/greffier`.
    Machine(PathBuf),
}

impl Origin {
    /// The file, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Nowhere => None,
            Self::Named(path) | Self::WorkingDirectory(path) | Self::Machine(path) => Some(path),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inspect: Limits::default(),
            sandbox: SandboxConfig::default(),
            check: CheckConfig::default(),
            preview: PreviewConfig::default(),
            gazelle: GazelleConfig::default(),
            antivirus: AntivirusConfig::default(),
            queue: QueueConfig::default(),
            staging: StoreConfig::directory("greffier-data/staging"),
            vault: StoreConfig::directory("greffier-data/vault"),
            worker: WorkerConfig::default(),
            pipelines: PipelinesConfig::default(),
            http: HttpConfig::default(),
            telemetry: TelemetryConfig::default(),
            log: LogConfig::default(),
            origin: Origin::Nowhere,
        }
    }
}

/// How submissions are checked. Configuration `[check]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// Items looked at at once; 0 = one per core. Each may take `sandbox.memory_bytes`.
    pub jobs: usize,
    /// Language of what people read.
    pub lang: Lang,
    /// Memory that one submission may keep, bytes, beyond that of the items that are looked at (`sandbox.memory_bytes` each):
    /// facts, findings, report. What does not fit is left out of the report by its position, and the report says so.
    pub submission_memory_bytes: u64,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self { jobs: 0, lang: Lang::Fr, submission_memory_bytes: crate::check::MEMORY }
    }
}

impl CheckConfig {
    /// `jobs`, with 0 replaced by the number of cores.
    pub fn jobs(&self) -> usize {
        if self.jobs > 0 { self.jobs } else { std::thread::available_parallelism().map_or(2, std::num::NonZero::get) }
    }
}

/// Where pipelines are. Configuration `[pipelines]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PipelinesConfig {
    /// Folders searched for `<id>.toml`, in order.
    pub folders: Vec<PathBuf>,
    /// The démarche assumed where nothing names one.
    pub default: String,
}

impl Default for PipelinesConfig {
    fn default() -> Self {
        Self {
            folders: ["pipelines", "/etc/greffier/pipelines", "/usr/share/greffier/pipelines"].map(PathBuf::from).to_vec(),
            default: "lgc-vague-2".into(),
        }
    }
}

/// What is logged, and how. Configuration `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A `tracing` filter: `warn`, `info,greffier=debug`…
    pub filter: String,
    /// Text for people or JSON for machines, on standard error.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        // lapin prints whole messages in its warnings: what they tell is told by the queue, without contents.
        Self { filter: "warn,lapin=error".into(), format: LogFormat::Text }
    }
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("CONFIG-UNREADABLE: {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// A key or a value is not known.
    #[error("CONFIG-INVALID: {path}:{line}:{column}: {message}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// Why.
        message: String,
    },
    /// A variable of the environment is not known or has a bad value.
    #[error("CONFIG-VARIABLE: {variable}: {message}")]
    Variable {
        /// Which.
        variable: String,
        /// Why.
        message: String,
    },
    /// Two settings contradict each other.
    #[error("CONFIG-CONTRADICTION: {0}")]
    Contradiction(String),
    /// A file that was found in the working directory and must not be obeyed.
    #[error(transparent)]
    NotObeyed(#[from] found::NotObeyed),
}

const PREFIX: &str = "GREFFIER_";

/// Variables by which every program is told the same, and their keys here (OpenTelemetry, « Environment Variable
/// Specification »: an empty value is as good as none). `OTEL_EXPORTER_OTLP_HEADERS` is read by the exporter alone: secrets.
const STANDARD: [(&str, &str, &str); 3] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry", "endpoint"),
    ("OTEL_SERVICE_NAME", "telemetry", "service_name"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "telemetry", "extra_ca_file"),
];

impl Config {
    /// Reads the file (`explicit`, or the usual places) and the environment, for a command that looks at `deposits`
    /// ([`found::deposits`]).
    ///
    /// # Errors
    /// [`ConfigError`]; a file that is named must exist, the usual places may be empty.
    pub fn load(
        explicit: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        deposits: &[PathBuf],
    ) -> Result<Self, ConfigError> {
        let (here, machine) = (Path::new("greffier.toml"), Path::new("/etc/greffier/greffier.toml"));
        let origin = match explicit {
            Some(path) => Origin::Named(path.to_owned()),
            None if here.is_file() => Origin::WorkingDirectory(here.to_owned()),
            None if machine.is_file() => Origin::Machine(machine.to_owned()),
            None => Origin::Nowhere,
        };
        if let Origin::WorkingDirectory(path) = &origin {
            found::check(path, deposits)?;
        }
        let mut table = match origin.path() {
            None => toml::Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
                parse(&text, path)?
            }
        };
        let environment: BTreeMap<String, String> = environment.collect();
        // Traced or not by the same words as any other program; our own variable still decides.
        let off = |variable: &str, word: &str| environment.get(variable).is_some_and(|value| value.eq_ignore_ascii_case(word));
        let untraced = off("OTEL_SDK_DISABLED", "true") || off("OTEL_TRACES_EXPORTER", "none");
        for (variable, section, key) in STANDARD {
            if let Some(value) = environment.get(variable).filter(|value| !value.is_empty()) {
                set(&mut table, variable, section, key, toml::Value::String(value.clone()))?;
            }
        }
        if untraced {
            set(&mut table, "OTEL_SDK_DISABLED", "telemetry", "endpoint", toml::Value::String(String::new()))?;
        }
        for (variable, value) in environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX) && name.contains("__")) {
            overlay(&mut table, &variable, &value)?;
            // Read again after each variable, so that the one at fault is named.
            Self::deserialize(table.clone()).map_err(|e| wrong(&variable, e.message()))?;
        }
        let config = Self::deserialize(table).map_err(|e| ConfigError::Contradiction(e.message().to_owned()))?;
        let config = Self { origin, ..config };
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |message: String| Err(ConfigError::Contradiction(message));
        if self.sandbox.max_mapped_bytes >= self.sandbox.memory_bytes {
            return refuse("sandbox.max_mapped_bytes must be below sandbox.memory_bytes".into());
        }
        if self.inspect.max_cpu_ms >= self.sandbox.cpu_seconds.saturating_mul(1000) {
            return refuse("inspect.max_cpu_ms must be below sandbox.cpu_seconds, so that an inspection ends with facts".into());
        }
        if self.sandbox.cpu_seconds > self.sandbox.wall_seconds {
            return refuse("sandbox.wall_seconds must be at least sandbox.cpu_seconds".into());
        }
        self.antivirus.check().map_err(ConfigError::Contradiction)?;
        self.preview.check().map_err(ConfigError::Contradiction)?;
        self.queue.check().map_err(ConfigError::Contradiction)?;
        self.staging.check("staging").map_err(ConfigError::Contradiction)?;
        self.vault.check("vault").map_err(ConfigError::Contradiction)?;
        self.worker.check(&self.queue).map_err(ConfigError::Contradiction)?;
        self.gazelle.check().map_err(ConfigError::Contradiction)
    }
}

fn parse(text: &str, path: &Path) -> Result<toml::Table, ConfigError> {
    let invalid = |e: toml::de::Error| {
        let (line, column) = position(text, e.span().map_or(0, |s| s.start));
        ConfigError::Invalid { path: path.to_owned(), line, column, message: e.message().to_owned() }
    };
    // Through the typed structs first: they know the keys, and their errors carry positions.
    toml::from_str::<Config>(text).map_err(invalid)?;
    toml::from_str(text).map_err(invalid)
}

fn wrong(variable: &str, message: &str) -> ConfigError {
    ConfigError::Variable { variable: variable.to_owned(), message: message.to_owned() }
}

fn overlay(table: &mut toml::Table, variable: &str, value: &str) -> Result<(), ConfigError> {
    let path = variable.trim_start_matches(PREFIX).to_lowercase();
    let (sections, key) = path.rsplit_once("__").ok_or_else(|| wrong(variable, "expected GREFFIER_<SECTION>__<KEY>"))?;
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    set(table, variable, sections, key, value)
}

/// Sets `key` of `sections`, one inside the other, their names joined by `__`.
fn set(mut table: &mut toml::Table, variable: &str, sections: &str, key: &str, value: toml::Value) -> Result<(), ConfigError> {
    for section in sections.split("__") {
        let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = section.as_table_mut().ok_or_else(|| wrong(variable, "not a section"))?;
    }
    table.insert(key.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), &[])
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config =
            load("[check]\njobs = 3\n", &[("GREFFIER_CHECK__JOBS", "5"), ("GREFFIER_CHECK__LANG", "en"), ("GREFFIER_CONFIG", "x")])
                .unwrap();
        assert_eq!(config.check, CheckConfig { jobs: 5, lang: Lang::En, ..CheckConfig::default() });
        let nested = load("[http.oidc]\nissuer = \"https://a\"\n", &[("GREFFIER_HTTP__OIDC__CLIENT_SECRET", "s3cret")]).unwrap();
        assert_eq!((nested.http.oidc.issuer.as_str(), nested.http.oidc.client_secret.as_str()), ("https://a", "s3cret"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let error = load("[check]\njobs = 3\njosb = 4\n", &[]).unwrap_err();
        assert!(matches!(&error, ConfigError::Invalid { line: 3, column: 1, message, .. } if message.contains("josb")), "{error}");
    }

    #[test]
    fn an_unknown_variable_is_refused_by_name() {
        let error = load("", &[("GREFFIER_CHECK__JOSB", "5")]).unwrap_err();
        assert!(matches!(&error, ConfigError::Variable { variable, .. } if variable == "GREFFIER_CHECK__JOSB"), "{error}");
    }

    #[test]
    fn variables_that_every_program_knows_override_the_file_and_are_overridden_by_ours() {
        let file = "[telemetry]\nendpoint = \"http://file\"\n";
        let standard = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard"), ("OTEL_SERVICE_NAME", "42")];
        let config = load(file, &standard).unwrap().telemetry;
        assert_eq!((config.endpoint.as_str(), config.service_name.as_str()), ("http://standard", "42"));
        let trusting = load(file, &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem")]).unwrap().telemetry;
        assert_eq!(trusting.extra_ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
        let ours = [standard[0], ("GREFFIER_TELEMETRY__ENDPOINT", "")];
        assert_eq!(load(file, &ours).unwrap().telemetry.endpoint, "", "how one program among others is left out");
        assert_eq!(load(file, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap().telemetry.endpoint, "http://file");
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(load(file, &[off, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all")]).unwrap().telemetry.endpoint, "", "{off:?}");
        }
        // Meant for another protocol: what traces nothing is not stopped by it.
        assert_eq!(load("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "all:4317")]).unwrap().telemetry.endpoint, "all:4317");
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        assert!(matches!(load("[inspect]\nmax_cpu_ms = 60000\n", &[]), Err(ConfigError::Contradiction(_))));
    }
}
