//! Files past an antivirus: clean, infected, or not scanned, which is never clean.
//!
//! Goals:
//! 1. **Only a whole and unmistakable `OK` is clean.** A timeout, a closed connection, an error, a cut reply, a file above
//!    what the engine looks at, or a file that changed meanwhile is [`Scan::NotScanned`], with a reason from a short list, so
//!    that the same trouble always reads the same.
//!    A failure may pass and is tried again; a file beyond a limit is beyond it at every attempt, and that is a finding.
//! 2. **Engines add up.** A file is infected where any engine says so, clean only where all of them do.
//! 3. **Nothing of a file leaves but to the engines.** Logs hold sizes, engines and reasons, never content; what an engine
//!    answers is untrusted and cut before it is shown.
//! 4. **Limits are compared before work starts** ([`Antivirus::probe`]): an engine that answers `OK` to what it did not
//!    look at is found out then.
//!
//! The result of a scan is not kept with facts: signatures change, the bytes do not.

pub mod clamd;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::facts::Detail;
use crate::model::probe::Probe;
use crate::model::{Facts, Signal, Text};
use clamd::{Bytes, Engine};

/// Who scans. Configuration `[antivirus]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AntivirusConfig {
    /// `clamd` engines: `127.0.0.1:3310` or a path of a Unix socket. A file is clean where every engine says so.
    pub engines: Vec<String>,
    /// Whether every file must have been scanned: one that was not is undetermined, and one that is beyond the limits of the
    /// engines is rejected. `false`: every report says that it was not scanned.
    pub required: bool,
    /// How long an engine may take to be reached, milliseconds.
    pub connect_timeout_ms: u64,
    /// How long one scan may take, milliseconds.
    pub scan_timeout_ms: u64,
    /// Largest file that every engine really looks at, bytes: the smallest of `StreamMaxLength`, `MaxFileSize` and
    /// `MaxScanSize` of their clamd.conf. A larger one is not sent and counts as not scanned. 0 = not known: an engine's
    /// `OK` is believed whatever the size.
    pub max_stream_bytes: u64,
    /// Age of an engine's signatures from which it is warned of, days.
    pub max_signature_age_days: u32,
}

impl Default for AntivirusConfig {
    fn default() -> Self {
        Self {
            engines: Vec::new(),
            required: false,
            connect_timeout_ms: 3_000,
            scan_timeout_ms: 120_000,
            // clamd.conf(5): the default of StreamMaxLength and MaxFileSize.
            max_stream_bytes: 100 * 1024 * 1024,
            max_signature_age_days: 7,
        }
    }
}

impl AntivirusConfig {
    /// What contradicts itself.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn check(&self) -> Result<(), String> {
        if self.required && self.engines.is_empty() {
            return Err("antivirus.required is set and antivirus.engines names none".into());
        }
        if let Some(wrong) = self.engines.iter().find(|e| !e.starts_with('/') && !is_host_port(e)) {
            return Err(format!("antivirus.engines: `{wrong}` is neither HOST:PORT nor the absolute path of a Unix socket"));
        }
        if self.connect_timeout_ms == 0 || self.scan_timeout_ms == 0 {
            return Err("antivirus.connect_timeout_ms and antivirus.scan_timeout_ms must be at least 1".into());
        }
        Ok(())
    }
}

fn is_host_port(engine: &str) -> bool {
    engine.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// What the antivirus says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scan {
    /// Every engine looked at all of it and recognised nothing.
    Clean,
    /// An engine recognised it.
    Infected {
        /// Name that the engine gives to what it recognised (untrusted).
        signature: String,
    },
    /// At least one engine did not look at it, and none recognised it. Never clean.
    NotScanned {
        /// Why.
        why: Why,
    },
}

/// Why a file was not scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Larger than what the engines look at.
    TooLarge,
    /// The engine stopped at one of its own limits: size, depth, members, time.
    EngineLimit,
    /// The engine could not be reached.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The engine closed the connection without an answer.
    Closed,
    /// The engine answered an error, or something that is not an answer.
    Failed,
    /// The file could not be read to its end, or changed meanwhile.
    Unreadable,
}

impl Why {
    /// The words a person reads, in the middle of a sentence.
    pub fn words(self) -> Text {
        let (fr, en) = match self {
            Self::TooLarge => ("fichier plus grand que ce que l'antivirus analyse", "file larger than what the antivirus scans"),
            Self::EngineLimit => ("l'antivirus s'est arrêté à l'une de ses limites", "the antivirus stopped at one of its limits"),
            Self::Unreachable => ("antivirus injoignable", "antivirus unreachable"),
            Self::TimedOut => ("pas de réponse dans le délai", "no answer in time"),
            Self::Closed => ("l'antivirus a rompu la connexion", "the antivirus closed the connection"),
            Self::Failed => ("l'antivirus a répondu par une erreur", "the antivirus answered with an error"),
            Self::Unreadable => ("le fichier n'a pas pu être lu en entier", "the file could not be read to its end"),
        };
        Text::new(fr, en)
    }

    /// Whether the same scan may succeed later, without anybody changing anything; else the file is beyond a limit.
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::TooLarge | Self::EngineLimit)
    }
}

/// The engines that every file goes past. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Antivirus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: AntivirusConfig,
    engines: Vec<Engine>,
}

impl Antivirus {
    /// The configured engines; `None` where there are none. Nothing is asked of them yet.
    pub fn new(config: &AntivirusConfig) -> Option<Self> {
        if config.engines.is_empty() {
            return None;
        }
        let (connect, scan) = (Duration::from_millis(config.connect_timeout_ms), Duration::from_millis(config.scan_timeout_ms));
        let engines = config.engines.iter().map(|address| Engine::new(address, connect, scan)).collect();
        Some(Self(Arc::new(Shared { config: config.clone(), engines })))
    }

    /// Whether every file must have been scanned.
    pub fn required(&self) -> bool {
        self.0.config.required
    }

    /// Sends the first `size` bytes of `file` past every engine, all at once. Reads by position: the offset that other
    /// holders of the same description share stays where it is.
    pub async fn scan(&self, file: &Arc<File>, size: u64) -> Scan {
        let limit = self.0.config.max_stream_bytes;
        if limit > 0 && size > limit {
            return Scan::NotScanned { why: Why::TooLarge };
        }
        let read = |at: u64, length: usize| {
            let file = Arc::clone(file);
            async move {
                let reading = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, at).map(|()| bytes)
                });
                reading.await.map_err(std::io::Error::other)?
            }
        };
        let scans = self.0.engines.iter().map(|engine| engine.scan(Bytes { size, read: &read }));
        let scan = together(join_all(scans).await);
        // Grown meanwhile: what was sent is not what the file is now.
        match (&scan, file.metadata()) {
            (Scan::Clean, Ok(now)) if now.len() == size => scan,
            (Scan::Clean, _) => Scan::NotScanned { why: Why::Unreadable },
            _ => scan,
        }
    }

    /// Corrects a clean scan by what an inspection has found: an archive that holds more than the engines look at may have
    /// come back `OK` with half of it unseen (clamd does that unless `AlertExceedsMax` is set).
    #[must_use]
    pub fn judged_by(&self, scan: Scan, facts: Option<&Facts>) -> Scan {
        let limit = self.0.config.max_stream_bytes;
        match (scan, facts.and_then(|f| f.detail.as_ref())) {
            (Scan::Clean, Some(Detail::Archive(archive))) if limit > 0 && archive.inflated > limit => {
                Scan::NotScanned { why: Why::TooLarge }
            }
            (scan, _) => scan,
        }
    }

    /// The signal that a scan makes; a clean file makes none.
    pub fn signal(&self, scan: &Scan) -> Option<Signal> {
        match scan {
            Scan::Clean => None,
            Scan::Infected { signature } => Some(Signal::new("antivirus-infected").arg("signature", signature.as_str())),
            Scan::NotScanned { why } => {
                let words = why.words();
                let signal = match (self.required(), why.is_transient()) {
                    (false, _) => Signal::new("antivirus-skipped"),
                    (true, true) => Signal::new("antivirus-not-scanned"),
                    // No attempt would end otherwise: it is said of the file, and the job is done.
                    (true, false) => Signal::new("antivirus-beyond-limits"),
                };
                let limit = self.0.config.max_stream_bytes;
                let signal = if *why == Why::TooLarge && limit > 0 { signal.arg("limit_bytes", limit) } else { signal };
                Some(signal.arg("why_fr", words.fr).arg("why_en", words.en))
            }
        }
    }

    /// What a report says of the antivirus: the kind of engine and what was left out. Neither engine addresses nor versions:
    /// two workers of a fleet, and two days, give the same sentence over the same result.
    pub fn limitations<'a>(scans: impl Iterator<Item = &'a Scan>) -> Vec<Text> {
        let skipped = scans.filter(|scan| matches!(scan, Scan::NotScanned { .. })).count();
        let mut said = vec![Text::new(
            "Les fichiers ont été soumis à ClamAV : ne pas être reconnu par un antivirus ne prouve pas qu'un fichier soit sain.",
            "The files were submitted to ClamAV: not being recognised by an antivirus does not prove that a file is harmless.",
        )];
        if skipped > 0 {
            said.push(Text::new(
                format!("{skipped} fichier(s) n'ont pas pu être analysés par l'antivirus et ne sont pas réputés sains."),
                format!("{skipped} file(s) could not be scanned by the antivirus and are not deemed clean."),
            ));
        }
        said
    }

    /// What a report says where no engine is configured.
    pub fn absent() -> Text {
        Text::new(
            "Les fichiers n'ont pas été soumis à un antivirus par cette vérification.",
            "The files were not submitted to an antivirus by this check.",
        )
    }

    /// Tries every engine: it answers, knows the test file, admits what it does not look at, takes streams as large as
    /// `max_stream_bytes`, and has signatures of this month. `max_file_bytes` is the largest file that will be received.
    pub async fn probe(&self, max_file_bytes: u64, now: Timestamp) -> Vec<Probe> {
        let config = &self.0.config;
        let mut probes = vec![self.compared(max_file_bytes)];
        for engine in &self.0.engines {
            let name = |what: &str| format!("antivirus {} {what}", engine.name());
            if let Err(e) = engine.ping().await {
                probes.push(Probe::failed(name("answers"), format!("{e}; start clamd, or correct antivirus.engines")));
                continue;
            }
            probes.push(match engine.version().await {
                Ok(version) => age(name("version"), &version, config.max_signature_age_days, now),
                Err(e) => Probe::failed(name("version"), e.to_string()),
            });
            let eicar = clamd::eicar();
            probes.push(match engine.scan_bytes(&eicar).await {
                Scan::Infected { signature } => Probe::passed(name("test file"), format!("recognised as {signature}")),
                Scan::Clean => Probe::failed(
                    name("test file"),
                    "the standard test file (EICAR) is not recognised: the engine has no signatures; run freshclam and restart clamd",
                ),
                Scan::NotScanned { why } => Probe::failed(name("test file"), why.words().en),
            });
            probes.push(match clamd::deep_archive().map(|deep| async move { engine.scan_bytes(&deep).await }) {
                // An engine that stopped at its depth limit says so, or answers OK and has not looked.
                Ok(scan) => match scan.await {
                    Scan::NotScanned { why: Why::EngineLimit } => {
                        Probe::passed(name("limits"), "says so when it stops at one of its limits (AlertExceedsMax)")
                    }
                    Scan::Clean => {
                        let detail = "answers OK to an archive deeper than it looks: set `AlertExceedsMax yes` in its clamd.conf";
                        if config.required { Probe::failed(name("limits"), detail) } else { Probe::passed(name("limits"), detail) }
                    }
                    Scan::Infected { signature } => Probe::failed(name("limits"), format!("takes a harmless archive for {signature}")),
                    Scan::NotScanned { why } => Probe::failed(name("limits"), why.words().en),
                },
                Err(e) => Probe::failed(name("limits"), e.to_string()),
            });
            if config.max_stream_bytes > 0 {
                probes.push(match engine.takes(config.max_stream_bytes).await {
                    Ok(true) => Probe::passed(name("stream"), format!("takes streams of {} bytes", config.max_stream_bytes)),
                    Ok(false) => Probe::failed(
                        name("stream"),
                        format!(
                            "StreamMaxLength of its clamd.conf is below antivirus.max_stream_bytes ({}): raise the one or lower the other",
                            config.max_stream_bytes
                        ),
                    ),
                    Err(e) => Probe::failed(name("stream"), e.to_string()),
                });
            }
        }
        probes
    }

    /// Whether every engine really looks at the largest file that is to be sent to it, tried with that many zeros: nothing
    /// tells `MaxFileSize` and `MaxScanSize` but the alert that they are exceeded. Costs a scan of that size; nothing is
    /// tried where the largest is not known (`max_stream_bytes` 0).
    pub async fn probe_largest(&self, max_file_bytes: u64) -> Vec<Probe> {
        let size = self.0.config.max_stream_bytes.min(max_file_bytes);
        if size == 0 {
            return Vec::new();
        }
        let tried = join_all(self.0.engines.iter().map(async |engine| {
            let name = format!("antivirus {} largest file", engine.name());
            let settings = "antivirus.max_stream_bytes, or raise StreamMaxLength, MaxFileSize and MaxScanSize of its clamd.conf";
            match engine.scan_zeros(size).await {
                Scan::Clean => Some(Probe::passed(name, format!("looks at {size} bytes, or does not say otherwise (see limits)"))),
                Scan::Infected { signature } => Some(Probe::failed(name, format!("takes zeros for {signature}"))),
                Scan::NotScanned { why: Why::TooLarge | Why::EngineLimit } => {
                    Some(Probe::failed(name, format!("does not look at {size} bytes, which it would be sent: lower {settings}")))
                }
                // That it does not answer is said already.
                Scan::NotScanned { why: Why::Unreachable } => None,
                Scan::NotScanned { why: Why::TimedOut } => Some(Probe::failed(
                    name,
                    format!("{size} bytes take it longer than antivirus.scan_timeout_ms: raise that, or lower {settings}"),
                )),
                Scan::NotScanned { why } => Some(Probe::failed(name, why.words().en)),
            }
        }));
        tried.await.into_iter().flatten().collect()
    }

    /// Our own limits against each other.
    fn compared(&self, max_file_bytes: u64) -> Probe {
        let (limit, name) = (self.0.config.max_stream_bytes, "antivirus sizes");
        if limit == 0 {
            return Probe::passed(name, "antivirus.max_stream_bytes is 0: what the engines look at is not known, their OK is believed");
        }
        if limit >= max_file_bytes {
            return Probe::passed(name, format!("every file that is received ({max_file_bytes} bytes at most) is scanned"));
        }
        let detail = format!(
            "files above antivirus.max_stream_bytes ({limit}) are received up to worker.max_file_bytes ({max_file_bytes}) and count as not \
             scanned"
        );
        if self.required() {
            return Probe::failed(
                name,
                format!("{detail}, thus rejected (antivirus-beyond-limits): raise the one (and clamd.conf) or lower the other"),
            );
        }
        Probe::passed(name, detail)
    }
}

/// What several engines say together.
fn together(scans: Vec<Scan>) -> Scan {
    let mut missed: Option<Why> = None;
    for scan in scans {
        match scan {
            Scan::Infected { .. } => return scan,
            // What may pass comes first: the next attempt may find the file infected, where a limit ends the matter.
            Scan::NotScanned { why } => {
                missed = Some(missed.filter(|before| before.is_transient() || !why.is_transient()).unwrap_or(why));
            }
            Scan::Clean => {}
        }
    }
    missed.map_or(Scan::Clean, |why| Scan::NotScanned { why })
}

/// An engine's version and how old its signatures are. Old ones are warned of; they do not keep work from starting, since
/// nothing gets better by not scanning.
fn age(name: String, version: &clamd::Version, most_days: u32, now: Timestamp) -> Probe {
    let Some(signatures) = version.signatures else {
        return Probe::passed(name, format!("{}; it does not tell the date of its signatures", version.text));
    };
    let days = now.duration_since(signatures).as_hours().div_euclid(24);
    if days <= i64::from(most_days) {
        return Probe::passed(name, version.text.clone());
    }
    tracing::warn!(antivirus.signature_age_days = days, "the signatures of an antivirus engine are old");
    Probe::passed(name, format!("{}: signatures are {days} days old (antivirus.max_signature_age_days): run freshclam", version.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infected() -> Scan {
        Scan::Infected { signature: "Win.Test".into() }
    }

    fn missed(why: Why) -> Scan {
        Scan::NotScanned { why }
    }

    #[test]
    fn engines_add_up_to_the_worst_and_only_all_of_them_make_a_file_clean() {
        assert_eq!(together(vec![Scan::Clean, Scan::Clean]), Scan::Clean);
        assert_eq!(together(vec![Scan::Clean, missed(Why::Closed)]), missed(Why::Closed));
        assert_eq!(together(vec![missed(Why::Closed), infected(), Scan::Clean]), infected());
        assert_eq!(together(vec![missed(Why::TimedOut), missed(Why::Closed)]), missed(Why::TimedOut));
        for both in [[Why::TooLarge, Why::Closed], [Why::Closed, Why::TooLarge]] {
            assert_eq!(together(both.map(missed).to_vec()), missed(Why::Closed), "{both:?}");
        }
        assert_eq!(together(vec![missed(Why::EngineLimit), Scan::Clean, missed(Why::TooLarge)]), missed(Why::EngineLimit));
    }

    #[test]
    fn only_what_may_pass_is_a_failure_where_the_scan_is_required() {
        let code = |required, why| {
            let config = AntivirusConfig { engines: vec!["127.0.0.1:1".into()], required, ..AntivirusConfig::default() };
            Antivirus::new(&config).unwrap().signal(&missed(why)).unwrap().code.as_str().to_owned()
        };
        for why in [Why::Unreachable, Why::TimedOut, Why::Closed, Why::Failed, Why::Unreadable] {
            assert_eq!((code(true, why), code(false, why)), ("antivirus-not-scanned".into(), "antivirus-skipped".into()), "{why:?}");
        }
        for why in [Why::TooLarge, Why::EngineLimit] {
            assert_eq!((code(true, why), code(false, why)), ("antivirus-beyond-limits".into(), "antivirus-skipped".into()), "{why:?}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let with = |engine: &str| AntivirusConfig { engines: vec![engine.into()], ..AntivirusConfig::default() };
        for good in ["127.0.0.1:3310", "[::1]:3310", "clamd.example:3310", "/run/clamav/clamd.ctl"] {
            assert_eq!(with(good).check(), Ok(()), "{good}");
        }
        for bad in ["", "clamd", ":3310", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "run/clamd.ctl"] {
            assert!(with(bad).check().is_err(), "{bad}");
        }
        assert!(AntivirusConfig { required: true, ..AntivirusConfig::default() }.check().is_err());
        assert!(AntivirusConfig { scan_timeout_ms: 0, ..with("127.0.0.1:3310") }.check().is_err());
    }

    #[test]
    fn old_signatures_are_told_and_do_not_keep_work_from_starting() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let version = |at: &str| clamd::Version { text: "ClamAV".into(), signatures: Some(at.parse().unwrap()) };
        assert_eq!(age("v".into(), &version("2026-11-20T12:00:00Z"), 7, now).detail, "ClamAV");
        let old = age("v".into(), &version("2026-11-01T12:00:00Z"), 7, now);
        assert!(old.ok && old.detail.contains("23 days"), "{old:?}");
    }
}
