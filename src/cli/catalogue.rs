//! `greffier catalogue import|show`: from the agency's spreadsheet to a catalogue file, and what one asks for.
//!
//! Exit codes of `import`: 0 everything is in the catalogue, 1 it was written but something of the sheet is not in it
//! (see the notes), 2 nothing could be imported. Of `show`: as `greffier pipeline`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::pipeline::exit_code;
use crate::model::text::display_safe;
use crate::model::{Lang, submission::Candidature};
use crate::pipeline::catalogue::Preuve;
use crate::pipeline::import::{ImportReport, Options, Weight, import};
use crate::pipeline::{self, Loaded};

/// Import and show the requirement list.
#[derive(Debug, Args)]
pub struct CatalogueArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the agency's export (sheet « Exigences », or the published REM) into a catalogue file.
    Import(ImportArgs),
    /// Say what a pipeline's catalogue asks for: counts, and proofs with --list.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The spreadsheet (xlsx).
    export: PathBuf,
    /// Catalogue file to write (TOML). Without it, the catalogue goes to standard output and the report to standard error.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Version of the catalogue; told from the file name without it.
    #[arg(long)]
    version: Option<String>,
    /// Date of the catalogue (2026-01-31); told from the file name (ddMMyyyy) without it.
    #[arg(long)]
    date: Option<String>,
    /// Sheet to read.
    #[arg(long)]
    sheet: Option<String>,
    /// Pipeline (file or id) whose chapters and profiles are recognised.
    #[arg(long)]
    pipeline: Option<String>,
    /// Where pipelines named by id are.
    #[arg(long, env = "GREFFIER_PIPELINES", default_value = "pipelines")]
    pipelines: PathBuf,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
    /// Language of the report.
    #[arg(long, value_enum, default_value = "fr")]
    lang: Lang,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// A pipeline file, or the id of one in the pipelines directory.
    pipeline: String,
    /// Where pipelines named by id are.
    #[arg(long, env = "GREFFIER_PIPELINES", default_value = "pipelines")]
    pipelines: PathBuf,
    /// Only this chapter (id or label).
    #[arg(long)]
    chapter: Option<String>,
    /// Only what is asked of these profiles (id or label); may be repeated.
    #[arg(long)]
    profile: Vec<String>,
    /// Only what is asked of a product referenced in vague 1 (`true`) or not (`false`).
    #[arg(long, value_name = "BOOL")]
    vague_1: Option<bool>,
    /// List every proof.
    #[arg(long)]
    list: bool,
    /// The proofs as JSON.
    #[arg(long)]
    json: bool,
    /// Language of the labels.
    #[arg(long, value_enum, default_value = "fr")]
    lang: Lang,
}

/// Runs the subcommand.
pub fn run(args: CatalogueArgs) -> anyhow::Result<ExitCode> {
    let done = match args.command {
        Command::Import(args) => return run_import(&args),
        Command::Show(args) => run_show(&args),
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => Ok(done?),
    }
}

fn run_import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let rules = match &args.pipeline {
        None => None,
        Some(pipeline) => match pipeline::find(pipeline, &args.pipelines).and_then(|path| pipeline::read(&path)) {
            Ok(rules) => Some(rules),
            Err(error) => {
                anstream::eprintln!("{error}");
                return Ok(ExitCode::from(2));
            }
        },
    };
    let bytes = fs::read(&args.export).with_context(|| format!("CATALOGUE-WORKBOOK: cannot read {}", args.export.display()))?;
    let name = args.export.file_name().unwrap_or_default().to_string_lossy();
    let options = Options { sheet: args.sheet.clone(), version: args.version.clone(), date: args.date.clone() };
    let (catalogue, report) = match import(&bytes, &name, &options, rules.as_ref()) {
        Ok(imported) => imported,
        Err(error) => {
            anstream::eprintln!("{}: {error}", args.export.display());
            return Ok(ExitCode::from(2));
        }
    };
    let written = catalogue.to_toml().context("the catalogue cannot be written as TOML")?;
    let shown = if args.json { serde_json::to_string_pretty(&report)? } else { describe(&report, args.lang) };
    match &args.out {
        Some(out) => {
            write_whole(out, &written).with_context(|| format!("OUTPUT-UNWRITABLE: cannot write {}", out.display()))?;
            anstream::println!("{}", shown.trim_end());
        }
        None => {
            anstream::print!("{written}");
            anstream::eprintln!("{}", shown.trim_end());
        }
    }
    Ok(ExitCode::from(u8::from(report.count(Weight::Lost) > 0)))
}

/// Either the old file or the whole new one, never a part.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".catalogue").permissions(permissions()).tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A catalogue is no secret: temporary files are private by default.
fn permissions() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o644)
}

/// The report of an import, for people.
pub fn describe(report: &ImportReport, lang: Lang) -> String {
    let say = |fr: &'static str, en: &'static str| match lang {
        Lang::Fr => fr,
        Lang::En => en,
    };
    let mut lines = vec![
        format!(
            "{} · {} « {} » · {} {}",
            report.source,
            say("feuille", "sheet"),
            report.sheet,
            say("en-têtes ligne", "headers in row"),
            report.header_row
        ),
        format!(
            "{} {}, {} {} {} ({} {}), {} {}",
            report.rows,
            say("lignes lues", "rows read"),
            report.rows_used,
            say("utiles ;", "used;"),
            format_args!("{} {}", report.preuves, say("preuves", "proofs")),
            report.implicit,
            say("implicites", "implicit"),
            report.exigences,
            say("exigences", "requirements"),
        ),
    ];
    let width = report.chapters.iter().map(|(chapter, _)| chapter.chars().count()).max().unwrap_or(0);
    for (chapter, count) in &report.chapters {
        lines.push(format!("  {chapter:<width$}  {count:>5}"));
    }
    for (weight, title) in [
        (Weight::Lost, say("Perdu", "Lost")),
        (Weight::Doubtful, say("À vérifier", "To look at")),
        (Weight::Info, say("Pour information", "For the record")),
    ] {
        let notes: Vec<_> = report.notes.iter().filter(|n| n.weight == weight).collect();
        if notes.is_empty() {
            continue;
        }
        lines.push(format!("\n{title} ({})", notes.len()));
        for note in notes {
            lines.push(format!(
                "  {:<8} {:<18} {}",
                format!("{}{}", note.column, if note.row == 0 { String::new() } else { note.row.to_string() }),
                note.code,
                note.text.get(lang)
            ));
        }
    }
    lines.join("\n") + "\n"
}

fn run_show(args: &ShowArgs) -> io::Result<ExitCode> {
    let loaded = match pipeline::find(&args.pipeline, &args.pipelines).and_then(|path| pipeline::load(&path)) {
        Ok(loaded) => loaded,
        Err(error) => {
            anstream::eprintln!("{error}");
            return Ok(exit_code(&error));
        }
    };
    if let Some(unknown) = args.profile.iter().find(|p| loaded.pipeline.profile(p).is_none()) {
        anstream::eprintln!("no profile `{unknown}` in {}", loaded.path.display());
        return Ok(ExitCode::from(2));
    }
    let chapter = match args.chapter.as_deref().map(|c| (c, loaded.pipeline.chapter(c))) {
        Some((unknown, None)) => {
            anstream::eprintln!("no chapter `{unknown}` in {}", loaded.path.display());
            return Ok(ExitCode::from(2));
        }
        Some((_, Some(chapter))) => Some(chapter.id.clone()),
        None => None,
    };
    let mut preuves = select(&loaded, &args.profile, args.vague_1);
    preuves.retain(|p| chapter.as_ref().is_none_or(|c| p.chapter == *c));
    let out = &mut anstream::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &preuves).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        show(out, &loaded, &preuves, args.list, args.lang)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Proofs that apply. Nothing said of profiles means every profile.
fn select<'l>(loaded: &'l Loaded, profiles: &[String], referenced_vague_1: Option<bool>) -> Vec<&'l Preuve> {
    let profiles = if profiles.is_empty() { loaded.pipeline.profiles.iter().map(|p| p.id.clone()).collect() } else { profiles.to_vec() };
    loaded.applicable(&Candidature { profiles, referenced_vague_1, ..Candidature::default() })
}

fn show(out: &mut impl Write, loaded: &Loaded, preuves: &[&Preuve], list: bool, lang: Lang) -> io::Result<()> {
    let catalogue = &loaded.catalogue;
    writeln!(out, "{} · {} · {}", catalogue.version, catalogue.date, catalogue.source)?;
    let mut by_chapter: BTreeMap<&str, Vec<&Preuve>> = BTreeMap::new();
    for preuve in preuves {
        by_chapter.entry(&preuve.chapter).or_default().push(preuve);
    }
    for chapter in &loaded.pipeline.chapters {
        let Some(preuves) = by_chapter.get(chapter.id.as_str()) else { continue };
        writeln!(out, "{:>5}  {}", preuves.len(), chapter.title.get(lang))?;
        if list {
            for preuve in preuves {
                let title: String = preuve.title.split_whitespace().collect::<Vec<_>>().join(" ");
                let conditional = match (preuve.conditional, lang) {
                    (false, _) => "",
                    (true, Lang::Fr) => " (conditionnelle)",
                    (true, Lang::En) => " (conditional)",
                };
                writeln!(out, "         {:<22} {}{conditional}", preuve.id, display_safe(&title, 90))?;
            }
        }
    }
    let total = match lang {
        Lang::Fr => "preuves au total",
        Lang::En => "proofs in all",
    };
    writeln!(out, "{:>5}  {total}", preuves.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: CatalogueArgs,
    }

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn show_counts_what_a_candidature_owes() {
        let loaded = pipeline::load(Path::new("pipelines/lgc-vague-2.toml")).unwrap();
        let profiles = ["general", "medecin-traitant", "prescription"].map(str::to_owned);
        let mut out = Vec::new();
        show(&mut out, &loaded, &select(&loaded, &profiles, Some(false)), false, Lang::Fr).unwrap();
        insta::assert_snapshot!("catalogue_show", String::from_utf8(out).unwrap());
    }
}
