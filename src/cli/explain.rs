//! `greffier explain CODE`: what a finding or an error means, and what to do about it.
//!
//! Findings are about a deposit and have lower-case codes; errors are about commands, machines and jobs, and have upper-case
//! ones. Whoever looks one up does not care, so one command knows both.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::model::errors::{self, ErrorPage};
use crate::model::messages::{self, Message};
use crate::model::{Lang, Severity};

/// Options of `explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The code; without one, all codes are listed
    code: Option<String>,
    /// Write one page per code into `findings/` and `errors/` below this folder (for maintainers)
    #[arg(long, value_name = "DIR", hide = true)]
    write_docs: Option<PathBuf>,
}

/// Runs `explain`.
///
/// # Errors
/// An unknown code, or a folder that cannot be written.
pub fn run(args: &ExplainArgs, lang: Lang) -> anyhow::Result<ExitCode> {
    if let Some(docs) = &args.write_docs {
        for (folder, pages) in [("findings", pages()), ("errors", error_pages())] {
            let folder = docs.join(folder);
            let unwritable = || format!("OUTPUT-UNWRITABLE: cannot write {}", folder.display());
            std::fs::create_dir_all(&folder).with_context(unwritable)?;
            for (name, page) in pages {
                std::fs::write(folder.join(&name), page).with_context(unwritable)?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some(asked) = &args.code else {
        for (code, message) in messages::all() {
            anstream::println!("{code:<36} {:<8} {}", severity_word(message.severity), message.summary.get(lang));
        }
        for (code, page) in errors::all() {
            anstream::println!("{code:<36} {:<8} {}", "-", page.summary.get(lang));
        }
        return Ok(ExitCode::SUCCESS);
    };
    // People type codes as they remember them.
    let (lower, upper) = (asked.to_lowercase(), asked.to_uppercase());
    let shown = if let Some(message) = messages::all().get(&lower) {
        text(&lower, message, lang)
    } else if let Some(page) = errors::get(&upper) {
        error_text(&upper, page, lang)
    } else {
        let known = messages::all().keys().map(|k| (strsim::levenshtein(k, &lower), k));
        let near = known.chain(errors::all().keys().map(|k| (strsim::levenshtein(k, &upper), k))).min();
        let near = near.map_or("", |(_, code)| code.as_str());
        anyhow::bail!("EXPLAIN-UNKNOWN-CODE: `{asked}` is the code of no finding and no error; the nearest is `{near}`");
    };
    anstream::print!("{shown}");
    Ok(ExitCode::SUCCESS)
}

fn error_text(code: &str, page: &ErrorPage, lang: Lang) -> String {
    let fix = match lang {
        Lang::Fr => "Que faire",
        Lang::En => "What to do",
    };
    format!("{code}\n{}\n\n{fix} : {}\n", page.summary.get(lang), page.remedy.get(lang))
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
        "# Findings\n\nOne page per code, generated from `src/model/messages/*.toml` by `scripts/docs`.\n\
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

/// The pages of `docs/errors/`: (file name, Markdown).
pub fn error_pages() -> Vec<(String, String)> {
    let mut index = String::from(
        "# Errors\n\nWhat commands, workers and the console answer when something is wrong with a machine, a configuration or a message, rather \
         than with a deposit. One page per code, generated from `src/model/errors.toml` by `scripts/docs`.\n\
         `greffier explain CODE` shows the same in a terminal.\n\n| code | ce qui s'est passé | what happened |\n|---|---|---|\n",
    );
    let mut pages = Vec::new();
    for (code, page) in errors::all() {
        let _ = writeln!(index, "| [{code}]({code}.md) | {} | {} |", page.summary.fr, page.summary.en);
        let text = format!(
            "# `{code}`\n\n## Français\n\n**{}**\n\nQue faire : {}\n\n## English\n\n**{}**\n\nWhat to do: {}\n",
            page.summary.fr, page.remedy.fr, page.summary.en, page.remedy.en
        );
        pages.push((format!("{code}.md"), text));
    }
    pages.push(("README.md".into(), index));
    pages
}
