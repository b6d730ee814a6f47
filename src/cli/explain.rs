//! `greffier explain CODE`: what a finding means, why the rule exists, how to fix it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::model::messages::{self, Message};
use crate::model::{Lang, Severity};

/// Options of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The code; without one, all codes are listed
    code: Option<String>,
    /// Write one page per code into this folder (for maintainers)
    #[arg(long, value_name = "DIR", hide = true)]
    write_docs: Option<PathBuf>,
}

/// Runs `explain`.
///
/// # Errors
/// An unknown code, or a folder that cannot be written.
pub fn run(args: &ExplainArgs, lang: Lang) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.write_docs {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for (name, page) in pages() {
            std::fs::write(folder.join(&name), page).with_context(|| format!("cannot write {name}"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some(code) = &args.code else {
        for (code, message) in messages::all() {
            anstream::println!("{code:<36} {:<8} {}", severity_word(message.severity), message.summary.get(lang));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some((code, message)) = messages::all().get_key_value(code) else {
        let near = messages::all().keys().min_by_key(|k| strsim::levenshtein(k, code)).map_or("", String::as_str);
        anyhow::bail!("EXPLAIN-UNKNOWN-CODE: `{code}` is not a finding code; the nearest is `{near}`");
    };
    anstream::print!("{}", text(code, message, lang));
    Ok(ExitCode::SUCCESS)
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "notice",
        Severity::Warning => "warning",
        Severity::Fatal => "fatal",
        Severity::Error => "error",
    }
}

fn category_word(message: &Message) -> String {
    serde_json::to_value(message.category).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn text(code: &str, message: &Message, lang: Lang) -> String {
    let (seen, fix) = match lang {
        Lang::Fr => ("Constat", "Que faire"),
        Lang::En => ("Finding", "What to do"),
    };
    let mut page = format!("{code} ({}, {})\n{}\n\n", severity_word(message.severity), category_word(message), message.summary.get(lang));
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{seen} : {}\n{fix} : {}", message.reason.get(lang), message.remedy.get(lang));
    if let Some(help) = &message.help {
        let _ = writeln!(page, "\n{}", help.get(lang).trim());
    }
    if let Some(source) = &message.source {
        let _ = writeln!(page, "\nSource : {source}");
    }
    page
}

/// The pages of `docs/findings/`: (file name, Markdown).
pub fn pages() -> Vec<(String, String)> {
    let mut index = String::from(
        "# Findings\n\nOne page per code, generated from `src/model/messages/*.toml` by `greffier explain --write-docs docs/findings`.\n\
         `greffier explain CODE` shows the same in a terminal.\n\n| code | severity | category | constat | finding |\n|---|---|---|---|---|\n",
    );
    let mut pages = Vec::new();
    for (code, m) in messages::all() {
        let _ = writeln!(
            index,
            "| [{code}]({code}.md) | {} | {} | {} | {} |",
            severity_word(m.severity),
            category_word(m),
            m.summary.fr,
            m.summary.en
        );
        let mut page = format!(
            "# `{code}`\n\nSeverity: **{}** unless the pipeline says otherwise. Category: {}.\n",
            severity_word(m.severity),
            category_word(m)
        );
        for (lang, language, seen, fix) in [(Lang::Fr, "Français", "Constat", "Que faire"), (Lang::En, "English", "Finding", "What to do")]
        {
            let _ = write!(
                page,
                "\n## {language}\n\n**{}**\n\n{seen}: {}\n\n{fix}: {}\n",
                m.summary.get(lang),
                m.reason.get(lang),
                m.remedy.get(lang)
            );
            if let Some(help) = &m.help {
                let _ = write!(page, "\n{}\n", help.get(lang).trim());
            }
        }
        if let Some(source) = &m.source {
            let _ = write!(page, "\nSource: {source}\n");
        }
        pages.push((format!("{code}.md"), page));
    }
    pages.push(("README.md".into(), index));
    pages
}
