//! `greffier pipeline check|show`: is a rules file right, and what does it say?
//!
//! Exit codes: 0 everything is right, 1 a file has problems, 2 a file cannot be read at all.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::model::{Format, Lang, Text};
use crate::pipeline::{self, Loaded, PipelineError, SizeLimit};

/// Check and show the rules of a démarche.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check pipeline files and the catalogues they name; every problem with file, line and column.
    Check {
        /// Pipeline files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// One JSON object a line for each file.
        #[arg(long)]
        json: bool,
    },
    /// Say what a pipeline declares, for people.
    Show {
        /// A pipeline file, or the id of one in the pipelines directory.
        pipeline: String,
        /// Where pipelines named by id are.
        #[arg(long, env = "GREFFIER_PIPELINES", default_value = "pipelines")]
        pipelines: PathBuf,
        /// Language of the labels.
        #[arg(long, value_enum, default_value = "fr")]
        lang: Lang,
        /// The whole pipeline as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the subcommand.
pub fn run(args: PipelineArgs) -> anyhow::Result<ExitCode> {
    let out = &mut anstream::stdout().lock();
    let done = match args.command {
        Command::Check { files, json } => check(out, &files, json),
        Command::Show { pipeline, pipelines, lang, json } => {
            let loaded = match pipeline::find(&pipeline, &pipelines).and_then(|path| pipeline::load(&path)) {
                Ok(loaded) => loaded,
                Err(error) => {
                    anstream::eprintln!("{error}");
                    return Ok(exit_code(&error));
                }
            };
            if json {
                serde_json::to_writer_pretty(&mut *out, &loaded.pipeline)?;
                writeln!(out).map(|()| ExitCode::SUCCESS)
            } else {
                show(out, &loaded, lang).map(|()| ExitCode::SUCCESS)
            }
        }
    };
    match done {
        // `greffier pipeline show … | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => Ok(done?),
    }
}

/// 1 for wrong rules, 2 for rules that cannot be had.
pub(super) fn exit_code(error: &PipelineError) -> ExitCode {
    match error {
        PipelineError::Invalid(_) => ExitCode::from(1),
        PipelineError::Unreadable { .. } | PipelineError::Unknown { .. } => ExitCode::from(2),
    }
}

fn check(out: &mut impl Write, files: &[PathBuf], json: bool) -> io::Result<ExitCode> {
    let mut worst = 0;
    for path in files {
        match pipeline::load(path) {
            Ok(loaded) if json => {
                let summary = serde_json::json!({
                    "file": path, "ok": true, "id": loaded.pipeline.id, "version": loaded.pipeline.version, "sha256": loaded.sha256,
                    "catalogue": loaded.catalogue.version, "preuves": loaded.catalogue.preuves.len(), "problems": [],
                });
                writeln!(out, "{summary}")?;
            }
            Ok(loaded) => {
                let (pipeline, catalogue) = (&loaded.pipeline, &loaded.catalogue);
                writeln!(
                    out,
                    "{}: ok: {} {}, {} slots, {} chapters, catalogue {} ({} proofs)",
                    path.display(),
                    pipeline.id,
                    pipeline.version,
                    pipeline.slots.len(),
                    pipeline.chapters.len(),
                    catalogue.version,
                    catalogue.preuves.len()
                )?;
            }
            Err(error) => {
                worst = worst.max(if matches!(error, PipelineError::Invalid(_)) { 1 } else { 2 });
                if json {
                    let problems: Vec<_> = error
                        .problems()
                        .iter()
                        .map(|p| {
                            serde_json::json!({
                                "file": p.path, "line": p.position.map(|p| p.0), "column": p.position.map(|p| p.1),
                                "code": p.code(), "key": p.key, "message": p.kind.to_string(),
                            })
                        })
                        .collect();
                    let unreadable = problems.is_empty().then(|| error.to_string());
                    writeln!(out, "{}", serde_json::json!({ "file": path, "ok": false, "error": unreadable, "problems": problems }))?;
                } else {
                    writeln!(out, "{error}")?;
                }
            }
        }
    }
    Ok(ExitCode::from(worst))
}

/// What a person wants to know of a pipeline.
fn show(out: &mut impl Write, loaded: &Loaded, lang: Lang) -> io::Result<()> {
    let pipeline = &loaded.pipeline;
    let say = |fr: &'static str, en: &'static str| match lang {
        Lang::Fr => fr,
        Lang::En => en,
    };
    let text = |text: &Text| text.get(lang).to_owned();
    writeln!(out, "{} ({} {})", text(&pipeline.title), pipeline.id, pipeline.version)?;
    if let Some(reference) = &pipeline.reference {
        writeln!(out, "  {:<14} {reference}", say("référence", "reference"))?;
    }
    writeln!(out, "  {:<14} {}", say("fichier", "file"), loaded.path.display())?;
    writeln!(out, "  {:<14} {}", "sha256", loaded.sha256)?;
    let deadlines =
        [(say("éligibilité", "eligibility"), &pipeline.deadlines.eligibility), (say("preuves", "proofs"), &pipeline.deadlines.preuves)];
    for (stage, deadline) in deadlines {
        if let Some(deadline) = deadline {
            writeln!(out, "  {:<14} {} : {} ({})", say("échéance", "deadline"), stage, deadline.replace('T', " "), pipeline.time_zone)?;
        }
    }

    writeln!(out, "\n{}", say("Emplacements", "Slots"))?;
    for slot in &pipeline.slots {
        let set = pipeline.format_set(&slot.formats);
        let mut formats = set.map(|s| codes(&s.accepted)).unwrap_or_default();
        if let Some(unconfirmed) = set.map(|s| &s.unconfirmed).filter(|u| !u.is_empty()) {
            formats = format!("{formats} ({} : {})", say("non confirmés", "unconfirmed"), codes(unconfirmed));
        }
        if let Some(overflow) = slot.overflow_formats.as_deref().and_then(|name| pipeline.format_set(name)) {
            formats = format!("{formats} ; {} : {}", say("au-delà", "beyond that"), codes(&overflow.accepted));
        }
        let required = if slot.required { say("obligatoire", "required") } else { say("facultatif", "optional") };
        let most = say("fichiers au plus", "files at most");
        writeln!(
            out,
            "  {:<20} {required}, {} {most}, {}, {formats}",
            slot.id,
            slot.max_files,
            limit(slot.max_size, pipeline.bytes_per_mo, lang)
        )?;
    }
    let preuves = &pipeline.preuves;
    let links = if preuves.links { say(", liens acceptés", ", links accepted") } else { "" };
    let (each, most) = (say("par preuve", "for each proof"), say("éléments au plus", "items at most"));
    writeln!(out, "  {:<20} {} {most}, {}{links}", each, preuves.max_items, limit(preuves.max_size, pipeline.bytes_per_mo, lang))?;
    if let Some(set) = pipeline.format_set(&preuves.formats) {
        writeln!(out, "  {:<20} {}", "", codes(&set.accepted))?;
        if !set.unconfirmed.is_empty() {
            writeln!(out, "  {:<20} {} : {}", "", say("non confirmés", "unconfirmed"), codes(&set.unconfirmed))?;
        }
    }

    writeln!(out, "\n{}", say("Profils", "Profiles"))?;
    for profile in &pipeline.profiles {
        let always = if profile.always { say(" (toujours)", " (always)") } else { "" };
        writeln!(out, "  {:<20} {}{always}", profile.id, text(&profile.title))?;
    }
    writeln!(out, "\n{}", say("Identifiants", "Identifiers"))?;
    for identifier in &pipeline.identifiers {
        let asked = match (identifier.required, identifier.recommended, identifier.only_if_referenced_vague_1) {
            (true, _, true) => say("obligatoire si référencé en vague 1", "required if referenced in wave 1"),
            (true, ..) => say("obligatoire", "required"),
            (false, true, _) => say("recommandé", "recommended"),
            (false, false, _) => say("facultatif", "optional"),
        };
        writeln!(out, "  {:<20} {}, {asked}", identifier.id, text(&identifier.title))?;
    }
    if !pipeline.dependencies.is_empty() {
        writeln!(out, "\n{}", say("Autres guichets", "Other guichets"))?;
    }
    for dependency in &pipeline.dependencies {
        let after = if dependency.after.is_empty() {
            String::new()
        } else {
            format!(" ({} {})", say("après", "after"), dependency.after.join(", "))
        };
        writeln!(out, "  {:<20} {}{after}", dependency.id, text(&dependency.title))?;
    }
    writeln!(out, "\n{} {} : {}", say("Catalogue", "Catalogue"), loaded.catalogue.version, loaded.catalogue.source)?;
    for chapter in &pipeline.chapters {
        let count = loaded.catalogue.preuves.iter().filter(|p| p.chapter == chapter.id).count();
        writeln!(out, "  {:<22} {count:>4}  {}", chapter.id, text(&chapter.title))?;
    }
    let total = say("total, tous profils", "total, every profile");
    writeln!(out, "  {:<22} {:>4}", total, loaded.catalogue.preuves.len())
}

fn codes(formats: &[Format]) -> String {
    formats.iter().map(|f| f.code()).collect::<Vec<_>>().join(" ")
}

/// « < 15 Mo (15 728 640 octets) ».
fn limit(limit: SizeLimit, bytes_per_mo: u64, lang: Lang) -> String {
    let sign = if limit.inclusive { "≤" } else { "<" };
    let unit = if lang == Lang::Fr { "Mo" } else { "MB" };
    let bytes = i64::try_from(limit.bytes(bytes_per_mo)).unwrap_or(i64::MAX);
    format!("{sign} {} {unit} ({})", limit.mo, crate::model::messages::bytes(bytes, lang))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: PipelineArgs,
    }

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn show_says_limits_and_counts_in_both_languages() {
        let loaded = pipeline::load(std::path::Path::new("pipelines/lgc-vague-2.toml")).unwrap();
        for lang in [Lang::Fr, Lang::En] {
            let mut out = Vec::new();
            show(&mut out, &loaded, lang).unwrap();
            let shown = String::from_utf8(out).unwrap().replace(&loaded.sha256, "[sha256]");
            insta::assert_snapshot!(format!("pipeline_show_{lang:?}").to_lowercase(), shown);
        }
    }
}
