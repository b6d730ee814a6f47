//! `greffier verify BUNDLE`: checks a bundle again, offline.
//!
//! Exit codes: 0 valid, 1 not valid, 2 cannot be opened (clap uses 2 for a wrong command line too).

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;

use crate::bundle::verify::{Problem, VerifyReport, verify};
use crate::model::Lang;
use crate::model::messages::bytes;
use crate::seal::{self, KeySet};

/// Checks a bundle again, offline: every digest, every name, nothing missing, nothing added.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A bundle: the ZIP, or the folder it was extracted to.
    pub bundle: PathBuf,
    /// Key set (JWKS) published by who sealed the bundle; without it, the seal is not checked.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The seal; by default `BUNDLE.jws` beside the bundle.
    #[arg(long, value_name = "FILE", requires = "keys")]
    pub seal: Option<PathBuf>,
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

fn check_seal(args: &VerifyArgs, report: &VerifyReport) -> anyhow::Result<SealState> {
    let Some(keys) = &args.keys else { return Ok(SealState::NotChecked) };
    let keys = KeySet::from_file(keys)?;
    let refused = |code: &str, reason: String| Ok(SealState::Refused { code: code.into(), reason });
    let Some(digest) = &report.tagmanifest_sha256 else {
        return refused("SEAL-DIGEST", "the bundle has no tag manifest to compare with".into());
    };
    let path = args.seal.clone().unwrap_or_else(|| seal::seal_path(&args.bundle));
    let jws = match seal::read_file(&path, seal::MAX_SEAL) {
        Ok(jws) => jws,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return refused("SEAL-MISSING", format!("there is no {}", path.display())),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let verified = match seal::verify(digest, jws.trim_end(), &keys) {
        Ok(verified) => verified,
        Err(e) => return refused(e.code(), e.to_string()),
    };
    match report.report.as_deref().map(|r| verified.agrees_with(r)) {
        Some(Ok(())) => Ok(SealState::Sealed { kid: verified.kid.clone() }),
        Some(Err(e)) => refused(e.code(), e.to_string()),
        None => refused("SEAL-OTHER-REPORT", "the bundle holds no readable report".into()),
    }
}

/// Runs the command.
///
/// # Errors
/// When the bundle cannot be opened or the output cannot be written.
pub fn run(args: &VerifyArgs, lang: Lang) -> anyhow::Result<ExitCode> {
    let report = verify(&args.bundle).with_context(|| match lang {
        Lang::Fr => format!("impossible d'ouvrir {}", args.bundle.display()),
        Lang::En => format!("cannot open {}", args.bundle.display()),
    })?;
    let sealed = check_seal(args, &report)?;
    let mut out = anstream::stdout().lock();
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["seal"] = serde_json::to_value(&sealed)?;
        writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
    } else {
        out.write_all(show(&report, lang).as_bytes())?;
        writeln!(out, "{}", show_seal(&sealed, lang))?;
    }
    out.flush()?;
    let intact = report.valid && !matches!(sealed, SealState::Refused { .. });
    Ok(if intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show_seal(state: &SealState, lang: Lang) -> String {
    use crate::model::text::display_safe;
    match (state, lang) {
        (SealState::NotChecked, Lang::Fr) => "Sceau non vérifié (donnez --keys CLÉS.jwks).".into(),
        (SealState::NotChecked, Lang::En) => "Seal not checked (give --keys KEYS.jwks).".into(),
        (SealState::Sealed { kid }, Lang::Fr) => format!("Scellé par la clé {}.", display_safe(kid, 80)),
        (SealState::Sealed { kid }, Lang::En) => format!("Sealed by key {}.", display_safe(kid, 80)),
        (SealState::Refused { code, reason }, Lang::Fr) => format!("Sceau refusé ({code}) : {}", display_safe(reason, 400)),
        (SealState::Refused { code, reason }, Lang::En) => format!("Seal refused ({code}): {}", display_safe(reason, 400)),
    }
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
        assert!(cli.verify.json && cli.verify.bundle.ends_with("bundle.zip"));
    }
}
