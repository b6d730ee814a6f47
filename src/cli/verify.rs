//! `greffier verify [BUNDLE]`: checks again, offline, what greffier made: the bundle and its seal, the receipt, the
//! journal, the time stamp.
//!
//! Exit codes: 0 valid, 1 not valid, 2 cannot be opened (clap uses 2 for a wrong command line too).

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;

use crate::bundle::verify::{Problem, VerifyReport, verify};
use crate::model::Lang;
use crate::model::messages::bytes;
use crate::model::text::display_safe;
use crate::seal::journal::{self, Head};
use crate::seal::receipt::{self, MAX_RECEIPT};
use crate::seal::{self, KeySet, timestamp};

/// Checks a bundle again, offline: every digest, every name, nothing missing, nothing added; and what was signed about it.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A bundle: the ZIP, or the folder it was extracted to.
    #[arg(required_unless_present_any = ["receipt", "journal"])]
    pub bundle: Option<PathBuf>,
    /// Key set (JWKS) published by who sealed the bundle; without it, the seal is not checked.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The seal; by default `BUNDLE.jws` beside the bundle.
    #[arg(long, value_name = "FILE", requires = "keys", requires = "bundle")]
    pub seal: Option<PathBuf>,
    /// A receipt (`NAME.receipt.jws`): checked against the keys, and against the bundle where one is given.
    #[arg(long, value_name = "FILE", requires = "keys")]
    pub receipt: Option<PathBuf>,
    /// A journal (JSON lines): checked line by line, and against the head that the receipt carries.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// The answer of a time stamping authority (RFC 3161); by default `BUNDLE.jws.tsr` beside the bundle, where it is.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pub timestamp: Option<PathBuf>,
    /// Print the outcome as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What became of the seal.
#[derive(Debug, serde::Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum SealState {
    /// No key set was given.
    NotChecked,
    /// Sealed by this key, and about this bundle.
    Sealed { kid: String },
    /// Refused, or not there.
    Refused { code: String, reason: String },
}

/// What became of the receipt.
#[derive(Debug, serde::Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum ReceiptState {
    /// Signed by this key; about the bundle, where one was given.
    Verified { kid: String, report: String, received_at: String, items: u64, compared_with_bundle: bool },
    /// Refused.
    Refused { code: String, reason: String },
}

/// What became of the journal.
#[derive(Debug, serde::Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum JournalState {
    /// Every line follows the one before, and the witness, if there is one, saw the same.
    Verified { head: Head, witnessed: bool },
    /// Refused, at the line that the reason names.
    Refused { code: String, reason: String },
}

/// What became of the time stamp.
#[derive(Debug, serde::Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum TimestampState {
    /// It is of this seal. The signature of the authority is not checked here.
    OfThisSeal { at: String, serial: String, authority_checked: bool },
    /// Refused.
    Refused { code: String, reason: String },
}

/// Everything that is checked besides the bundle itself.
#[derive(Debug, Default)]
struct Signed {
    seal: Option<SealState>,
    receipt: Option<ReceiptState>,
    journal: Option<JournalState>,
    timestamp: Option<TimestampState>,
}

impl Signed {
    fn refused(&self) -> bool {
        matches!(self.seal, Some(SealState::Refused { .. }))
            || matches!(self.receipt, Some(ReceiptState::Refused { .. }))
            || matches!(self.journal, Some(JournalState::Refused { .. }))
            || matches!(self.timestamp, Some(TimestampState::Refused { .. }))
    }
}

fn check_seal(path: &Path, keys: &KeySet, report: &VerifyReport) -> anyhow::Result<SealState> {
    let refused = |code: &str, reason: String| Ok(SealState::Refused { code: code.into(), reason });
    let Some(digest) = &report.tagmanifest_sha256 else {
        return refused("SEAL-DIGEST", "the bundle has no tag manifest to compare with".into());
    };
    let jws = match seal::read_file(path, seal::MAX_SEAL) {
        Ok(jws) => jws,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return refused("SEAL-MISSING", format!("there is no {}", path.display())),
        Err(e) => return Err(e).with_context(|| format!("VERIFY-UNREADABLE: cannot read {}", path.display())),
    };
    let verified = match seal::verify(digest, jws.trim_end(), keys) {
        Ok(verified) => verified,
        Err(e) => return refused(e.code(), e.to_string()),
    };
    match report.report.as_deref().map(|r| verified.agrees_with(r)) {
        Some(Ok(())) => Ok(SealState::Sealed { kid: verified.kid.clone() }),
        Some(Err(e)) => refused(e.code(), e.to_string()),
        None => refused("SEAL-OTHER-REPORT", "the bundle holds no readable report".into()),
    }
}

/// Also gives the journal's head that the receipt carries, where its signature holds.
fn check_receipt(path: &Path, keys: &KeySet, bundle: Option<&VerifyReport>) -> anyhow::Result<(ReceiptState, Option<Head>)> {
    let refused = |code: &str, reason: String| ReceiptState::Refused { code: code.into(), reason };
    let jws = seal::read_file(path, MAX_RECEIPT).with_context(|| format!("VERIFY-UNREADABLE: cannot read {}", path.display()))?;
    let verified = match receipt::verify(jws.trim_end(), keys) {
        Ok(verified) => verified,
        Err(e) => return Ok((refused(e.code(), e.to_string()), None)),
    };
    let witness = verified.receipt.journal.clone();
    let agrees = bundle.map(|b| b.report.as_deref().map(|r| verified.agrees_with(r)));
    let state = match agrees {
        Some(Some(Err(e))) => refused(e.code(), e.to_string()),
        Some(None) => refused("SEAL-OTHER-REPORT", "the bundle holds no readable report".into()),
        None | Some(Some(Ok(()))) => ReceiptState::Verified {
            kid: verified.kid,
            report: verified.receipt.report,
            received_at: verified.receipt.received_at.to_string(),
            items: verified.receipt.counts.items,
            compared_with_bundle: agrees.is_some(),
        },
    };
    Ok((state, witness))
}

fn check_journal(path: &Path, witness: Option<Head>) -> anyhow::Result<JournalState> {
    match journal::verify(path, witness.as_slice()) {
        Ok(head) => Ok(JournalState::Verified { head, witnessed: witness.is_some() }),
        Err(e @ journal::JournalError::Io { .. }) => Err(e.into()),
        Err(e) => Ok(JournalState::Refused { code: e.code().into(), reason: e.to_string() }),
    }
}

/// `None` where no answer is named and none stands beside the bundle.
fn check_timestamp(named: Option<&Path>, bundle: &Path, seal: &Path) -> anyhow::Result<Option<TimestampState>> {
    let beside = seal::timestamp_answer_path(bundle);
    let path = match named {
        Some(path) => path,
        None if beside.exists() => &beside,
        None => return Ok(None),
    };
    let read = |path: &Path, max: usize| -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let open = std::fs::File::open(path).with_context(|| format!("VERIFY-UNREADABLE: cannot read {}", path.display()))?;
        open.take(max as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("VERIFY-UNREADABLE: cannot read {}", path.display()))?;
        Ok(bytes)
    };
    Ok(Some(match timestamp::check(&read(path, timestamp::MAX_ANSWER)?, &read(seal, seal::MAX_SEAL)?) {
        Ok(stated) => TimestampState::OfThisSeal { at: stated.at.to_string(), serial: stated.serial, authority_checked: false },
        Err(e) => TimestampState::Refused { code: e.code().into(), reason: e.to_string() },
    }))
}

/// Runs the command.
///
/// # Errors
/// When a file that is named cannot be opened or the output cannot be written.
pub fn run(args: &VerifyArgs, lang: Lang) -> anyhow::Result<ExitCode> {
    let report = match &args.bundle {
        Some(bundle) => Some(verify(bundle).with_context(|| match lang {
            Lang::Fr => format!("VERIFY-UNREADABLE: impossible d'ouvrir {}", bundle.display()),
            Lang::En => format!("VERIFY-UNREADABLE: cannot open {}", bundle.display()),
        })?),
        None => None,
    };
    let keys = args.keys.as_deref().map(KeySet::from_file).transpose()?;
    let mut signed = Signed::default();
    let mut witness = None;
    if let (Some(bundle), Some(report)) = (&args.bundle, &report) {
        let seal = args.seal.clone().unwrap_or_else(|| seal::seal_path(bundle));
        signed.seal = Some(match &keys {
            Some(keys) => check_seal(&seal, keys, report)?,
            None => SealState::NotChecked,
        });
        signed.timestamp = check_timestamp(args.timestamp.as_deref(), bundle, &seal)?;
    }
    if let (Some(path), Some(keys)) = (&args.receipt, &keys) {
        let (state, head) = check_receipt(path, keys, report.as_ref())?;
        signed.receipt = Some(state);
        witness = head;
    }
    if let Some(path) = &args.journal {
        signed.journal = Some(check_journal(path, witness)?);
    }
    let mut out = anstream::stdout().lock();
    if args.json {
        let mut json = match &report {
            Some(report) => serde_json::to_value(report)?,
            None => serde_json::json!({}),
        };
        let mut put = |name: &str, state: Result<serde_json::Value, serde_json::Error>| -> anyhow::Result<()> {
            match state? {
                serde_json::Value::Null => {}
                state => json[name] = state,
            }
            Ok(())
        };
        put("seal", serde_json::to_value(&signed.seal))?;
        put("receipt", serde_json::to_value(&signed.receipt))?;
        put("journal", serde_json::to_value(&signed.journal))?;
        put("timestamp", serde_json::to_value(&signed.timestamp))?;
        writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
    } else {
        if let Some(report) = &report {
            out.write_all(show(report, lang).as_bytes())?;
        }
        for line in show_signed(&signed, lang) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    let intact = report.is_none_or(|r| r.valid) && !signed.refused();
    Ok(if intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line for each thing that was checked.
fn show_signed(signed: &Signed, lang: Lang) -> Vec<String> {
    let t = |fr: String, en: String| match lang {
        Lang::Fr => fr,
        Lang::En => en,
    };
    let refused = |fr: &str, en: &str, code: &str, reason: &str| {
        let reason = display_safe(reason, 400);
        t(format!("{fr} ({code}) : {reason}"), format!("{en} ({code}): {reason}"))
    };
    let mut lines = Vec::new();
    lines.extend(signed.seal.as_ref().map(|state| match state {
        SealState::NotChecked => {
            t("Sceau non vérifié (donnez --keys CLÉS.jwks).".into(), "Seal not checked (give --keys KEYS.jwks).".into())
        }
        SealState::Sealed { kid } => {
            t(format!("Scellé par la clé {}.", display_safe(kid, 80)), format!("Sealed by key {}.", display_safe(kid, 80)))
        }
        SealState::Refused { code, reason } => refused("Sceau refusé", "Seal refused", code, reason),
    }));
    lines.extend(signed.timestamp.as_ref().map(|state| match state {
        TimestampState::OfThisSeal { at, .. } => t(
            format!(
                "Horodatage de ce sceau : {at}. La signature de l'autorité n'est pas vérifiée ici : « openssl ts -verify » le fait (docs/seal.md)."
            ),
            format!("Time stamp of this seal: {at}. The authority's signature is not checked here: “openssl ts -verify” does (docs/seal.md)."),
        ),
        TimestampState::Refused { code, reason } => refused("Horodatage refusé", "Time stamp refused", code, reason),
    }));
    lines.extend(signed.receipt.as_ref().map(|state| match state {
        ReceiptState::Verified { kid, received_at, items, compared_with_bundle, .. } => {
            let kid = display_safe(kid, 80);
            let (fr, en) = match compared_with_bundle {
                true => (", et dit la même chose que le dossier", ", and says what the bundle says"),
                false => ("", ""),
            };
            t(
                format!("Reçu signé par la clé {kid} : {items} élément(s) reçu(s) le {received_at}{fr}."),
                format!("Receipt signed by key {kid}: {items} item(s) received at {received_at}{en}."),
            )
        }
        ReceiptState::Refused { code, reason } => refused("Reçu refusé", "Receipt refused", code, reason),
    }));
    lines.extend(signed.journal.as_ref().map(|state| match state {
        JournalState::Verified { head, witnessed } => {
            let (fr, en) = match witnessed {
                true => (" ; il prolonge ce que le reçu atteste", "; it goes on from what the receipt witnesses"),
                false => (
                    " ; sans témoin (--receipt), rien ne dit que ses dernières lignes n'ont pas été coupées",
                    "; without a witness (--receipt), nothing tells whether its last lines were cut off",
                ),
            };
            let Head { entries, hash } = head;
            t(format!("Journal intact : {entries} ligne(s), {hash}{fr}."), format!("Journal intact: {entries} line(s), {hash}{en}."))
        }
        JournalState::Refused { code, reason } => refused("Journal refusé", "Journal refused", code, reason),
    }));
    lines
}

/// What a person reads; colours are stripped by the stream where nobody sees them.
fn show(report: &VerifyReport, lang: Lang) -> String {
    let t = |fr: &'static str, en: &'static str| match lang {
        Lang::Fr => fr,
        Lang::En => en,
    };
    let bold = Style::new().bold();
    let dim = Style::new().dimmed();
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let green = Style::new().bold().fg_color(Some(AnsiColor::Green.into()));
    let yellow = Style::new().bold().fg_color(Some(AnsiColor::Yellow.into()));
    let mut text = String::new();
    let mut line = |s: String| {
        text.push_str(&s);
        text.push('\n');
    };
    if let Some(bundle) = &report.bundle {
        line(format!(
            "{bold}{} {}{bold:#}, {} {}, {} {} — {}",
            t("Candidature", "Application"),
            bundle.candidature,
            t("révision", "revision"),
            bundle.revision,
            bundle.items,
            t("éléments", "items"),
            bundle.verdict.label().get(lang)
        ));
        line(format!("{dim}{}{dim:#}", bundle.id));
    }
    let list = |line: &mut dyn FnMut(String), problems: &[Problem], style: Style, mark: &str| {
        for problem in problems {
            let path = problem.path.as_deref().map(|p| format!("{}{p}", t(" : ", ": "))).unwrap_or_default();
            line(format!("{style}{mark}{style:#} {}{path}", problem.message.get(lang)));
            if let Some(detail) = &problem.detail {
                line(format!("    {dim}{detail}{dim:#}"));
            }
        }
    };
    list(&mut line, &report.problems, red, "✗");
    list(&mut line, &report.warnings, yellow, "!");
    if report.more > 0 {
        line(format!("    … {} {}", report.more, t("autres", "more")));
    }
    let size = bytes(i64::try_from(report.bytes).unwrap_or(i64::MAX), lang);
    let read = format!("{} {}, {size}", report.files, t("fichiers relus", "files read again"));
    if report.valid {
        line(format!("{green}✓ {}{green:#} ({read})", t("Le dossier est intact", "The bundle is intact")));
    } else {
        let n = report.problems.len() as u64 + report.more;
        line(match lang {
            Lang::Fr => format!("{red}✗ Le dossier n'est pas intact{red:#} : {n} problème{} ({read})", if n < 2 { "" } else { "s" }),
            Lang::En => format!("{red}✗ The bundle is not intact{red:#}: {n} problem{} ({read})", if n == 1 { "" } else { "s" }),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bag_with_a_changed_file_is_named_in_both_languages() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        put("bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n");
        put("data/a\u{202e}b.txt", "changed");
        put("manifest-sha256.txt", &format!("{}  data/a\u{202e}b.txt\n", "0".repeat(64)));
        let report = verify(folder.path()).unwrap();
        let plain = |lang| anstream::adapter::strip_str(&show(&report, lang)).to_string();
        let (fr, en) = (plain(Lang::Fr), plain(Lang::En));
        assert!(fr.contains("le contenu a changé : data/a\u{FFFD}b.txt") && fr.contains("n'est pas intact"), "{fr}");
        assert!(en.contains("the content has changed: data/a\u{FFFD}b.txt") && en.contains("is not intact: 1 problem "), "{en}");
        assert!(!fr.contains('\u{202e}'));
    }

    #[test]
    fn arguments_parse() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            verify: VerifyArgs,
        }
        use clap::Parser as _;
        let cli = Cli::parse_from(["greffier", "bundle.zip", "--json"]);
        assert!(cli.verify.json && cli.verify.bundle.is_some_and(|b| b.ends_with("bundle.zip")));
        assert!(Cli::try_parse_from(["greffier", "--journal", "journal.jsonl"]).is_ok());
        assert!(Cli::try_parse_from(["greffier"]).is_err(), "something is to be verified");
        assert!(Cli::try_parse_from(["greffier", "--receipt", "r.jws"]).is_err(), "a receipt needs keys");
    }
}
