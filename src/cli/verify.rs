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

/// Checks a bundle again, offline: every digest, every name, nothing missing, nothing added.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A bundle: the ZIP, or the folder it was extracted to.
    pub bundle: PathBuf,
    /// Print the outcome as one JSON object.
    #[arg(long)]
    pub json: bool,
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
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        out.write_all(show(&report, lang).as_bytes())?;
    }
    out.flush()?;
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
