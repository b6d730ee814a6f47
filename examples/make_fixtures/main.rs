//! Makes every file under `fixtures/`, so that nothing binary there is a mystery.
//!
//! ```text
//! cargo run --example make_fixtures            # writes them
//! cargo run --example make_fixtures -- --check # compares, and says what differs
//! ```
//!
//! The bytes depend on nothing but this code: no clock, no randomness, no library compressor.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a generator stops where something fails")]

mod dossiers;
mod office;
mod pack;
mod pdf;
mod picture;
mod requirements;
mod video;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use greffier::pipeline::catalogue::{self, Catalogue};
use greffier::pipeline::import::{ImportReport, Options, import};
use requirements::Requirement;

/// Files by path below `fixtures/`.
type Files = BTreeMap<String, Vec<u8>>;

/// Statement that stands where a real catalogue names the agency's export.
const SOURCE: &str = "fixture: libellés inventés, sans valeur réglementaire ; seule la forme (chapitres, nombres, identifiants) imite le catalogue LGC vague 2";
/// File name of the fixture export, as the agency names them.
const EXPORT: &str = "EXPORT_CONVERGENCE_03092025_FIX_LGC-VA2.xlsx";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = all(root);
    let differences = differences(&root.join("fixtures"), &files);
    if std::env::args().any(|a| a == "--check") {
        for difference in &differences {
            println!("{difference}");
        }
        return ExitCode::from(u8::from(!differences.is_empty()));
    }
    for stale in existing(&root.join("fixtures")).into_iter().filter(|path| !files.contains_key(path)) {
        fs::remove_file(root.join("fixtures").join(stale)).expect("a file just listed");
    }
    for (path, bytes) in &files {
        let path = root.join("fixtures").join(path);
        fs::create_dir_all(path.parent().expect("below fixtures")).expect("fixtures are writable");
        fs::write(path, bytes).expect("fixtures are writable");
    }
    let size: usize = files.values().map(Vec::len).sum();
    println!("{} files, {size} bytes, {} changed", files.len(), differences.len());
    ExitCode::SUCCESS
}

/// Every fixture. Reads the pipelines, because what a candidature owes follows from them.
fn all(root: &Path) -> Files {
    let mut files = Files::new();
    let lgc = requirements::lgc();
    let export = export(&lgc);
    let pipeline = greffier::pipeline::read(&root.join("pipelines/lgc-vague-2.toml")).unwrap_or_else(|e| panic!("{e}"));
    let (mut catalogue, report) = import_export(&export, Some(&pipeline));
    catalogue.source = SOURCE.to_owned();
    catalogue.source_sha256 = None;
    catalogue.version = "fixture-1".to_owned();
    // What the export cannot say: it has no column for conditions.
    for preuve in &mut catalogue.preuves {
        preuve.conditional = lgc.iter().any(|r| r.preuve.id == preuve.id && r.preuve.conditional);
    }
    assert_eq!(report.preuves, lgc.len());
    files.insert(format!("catalogue/{EXPORT}"), export);
    files.insert("catalogue/lgc.toml".to_owned(), catalogue_file(&catalogue));
    let dpi = Catalogue {
        schema: catalogue::SCHEMA.to_owned(),
        version: "example-1".to_owned(),
        date: "2026-01-15".to_owned(),
        source: "fixture: exigences inventées pour un exemple de seconde démarche, sans valeur réglementaire".to_owned(),
        source_sha256: None,
        preuves: requirements::dpi(),
    };
    files.insert("catalogue/dpi-example.toml".to_owned(), catalogue_file(&dpi));
    dossiers::add(&mut files, &pipeline, &catalogue, &lgc);
    files
}

fn import_export(export: &[u8], pipeline: Option<&greffier::pipeline::Pipeline>) -> (Catalogue, ImportReport) {
    import(export, EXPORT, &Options::default(), pipeline).unwrap_or_else(|e| panic!("{e}"))
}

fn catalogue_file(catalogue: &Catalogue) -> Vec<u8> {
    let note = "#:schema ../../docs/schemas/catalogue.json\n#\n# FIXTURE, made by `cargo run --example make_fixtures`. Every wording is INVENTED; nothing here is regulatory text.\n\n";
    format!("{note}{}", catalogue.to_toml().expect("plain tables")).into_bytes()
}

/// The catalogue as the agency exports it: HTML cells, no-break spaces, `SC.` prefixes, joined profiles, a blank row,
/// an obsolete row and a row that is there twice.
fn export(requirements: &[Requirement]) -> Vec<u8> {
    let html = |text: &str| -> String {
        let escaped = office::escape(text)
            .replace('é', "&eacute;")
            .replace('É', "&Eacute;")
            .replace('è', "&egrave;")
            .replace('à', "&agrave;")
            .replace('’', "&rsquo;");
        let lines: Vec<String> = escaped.split('\n').map(|line| format!("<p class=\"mb-1\">{line}</p>")).collect();
        if text.is_empty() { String::new() } else { lines.concat() }
    };
    let headers = [
        "Périmètre",
        "ID",
        "Chapitre",
        "Fonction",
        "Exigence",
        "Commentaire",
        "Profil",
        "N° scénario",
        "Scénario de conformité",
        "N° preuve",
        "Preuve",
        "Profil historique",
        "Criticité",
        "Ordre",
    ];
    let mut rows: Vec<Vec<office::Cell>> = vec![headers.iter().map(|h| office::Cell::from(*h)).collect()];
    for (n, Requirement { preuve, .. }) in requirements.iter().enumerate() {
        let prefixed = |id: &str| match n % 5 {
            0 => format!("SC.\u{a0}{id}"),
            1 => format!("SC.{id} "),
            _ => id.to_owned(),
        };
        let row: Vec<office::Cell> = vec![
            preuve.perimetre.as_str().into(),
            preuve.exigence.as_str().into(),
            preuve.chapter.as_str().into(),
            preuve.fonction.as_str().into(),
            html(&preuve.exigence_title).into(),
            html(&preuve.comment).into(),
            preuve.profiles.join(" , ").into(),
            prefixed(&preuve.scenario).into(),
            html(&preuve.scenario_title).into(),
            if preuve.implicit { String::new() } else { prefixed(&preuve.id) }.into(),
            html(&preuve.title).into(),
            "".into(),
            preuve.criticite.as_str().into(),
            office::Cell::Number(n as f64 + 1.0),
        ];
        rows.push(row.clone());
        match n {
            30 => rows.push(Vec::new()),
            31 => rows.push(row),
            32 => {
                let mut obsolete = row;
                obsolete[1] = "INS.90".into();
                obsolete[9] = "INS.90.01.01".into();
                obsolete[12] = "OBSOLETE".into();
                rows.push(obsolete);
            }
            _ => {}
        }
    }
    office::xlsx("Exigences", &rows, false)
}

/// What differs between the files on disk and those of this code.
fn differences(directory: &Path, files: &Files) -> Vec<String> {
    let mut differences: Vec<String> = existing(directory)
        .into_iter()
        .filter(|path| !files.contains_key(path))
        .map(|path| format!("{path}: not made by this code"))
        .collect();
    for (path, bytes) in files {
        match fs::read(directory.join(path)) {
            Ok(there) if there == *bytes => {}
            Ok(_) => differences.push(format!("{path}: differs")),
            Err(_) => differences.push(format!("{path}: missing")),
        }
    }
    differences
}

/// Files that are there, among those this code is responsible for.
fn existing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut to_visit: Vec<PathBuf> = ["catalogue", "dossiers"].iter().map(|d| directory.join(d)).collect();
    while let Some(visited) = to_visit.pop() {
        for entry in fs::read_dir(&visited).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                to_visit.push(path);
            } else if let Some(path) = path.strip_prefix(directory).ok().and_then(Path::to_str) {
                found.push(path.to_owned());
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::requirements::Kind;
    use super::*;

    const ROOT: &str = env!("CARGO_MANIFEST_DIR");

    /// Made once for all tests: a debug build takes seconds.
    fn files() -> &'static Files {
        static FILES: std::sync::OnceLock<Files> = std::sync::OnceLock::new();
        FILES.get_or_init(|| all(Path::new(ROOT)))
    }

    #[test]
    fn committed_fixtures_are_those_of_this_code() {
        let differences = differences(&Path::new(ROOT).join("fixtures"), files());
        assert!(differences.is_empty(), "run `cargo run --example make_fixtures`:\n{}", differences.join("\n"));
    }

    #[test]
    fn the_export_is_read_back_whole() {
        let requirements = requirements::lgc();
        let (catalogue, report) = import_export(&export(&requirements), None);
        let expected: Vec<_> = requirements.into_iter().map(|r| catalogue::Preuve { conditional: false, ..r.preuve }).collect();
        for (read, expected) in catalogue.preuves.iter().zip(&expected) {
            assert_eq!(read, expected);
        }
        assert_eq!(catalogue.preuves.len(), expected.len());
        assert_eq!((catalogue.version.as_str(), catalogue.date.as_str()), ("FIX-LGC-VA2-2025-09-03", "2025-09-03"));
        let codes: Vec<_> = report.notes.iter().map(|n| n.code).filter(|c| *c != "level").collect();
        assert_eq!(codes, ["duplicate", "obsolete"], "{:?}", report.notes);
    }

    #[test]
    fn fixtures_are_small() {
        let size: usize = files().values().map(Vec::len).sum();
        assert!(size < 6_000_000, "{size} bytes");
    }

    #[test]
    fn every_kind_of_proof_is_asked_for() {
        let kinds: Vec<Kind> = requirements::lgc().iter().map(|r| r.kind).collect();
        for kind in [Kind::Capture, Kind::Video, Kind::Attestation, Kind::Document, Kind::Tableau, Kind::Texte, Kind::Message, Kind::Lien] {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
    }
}
