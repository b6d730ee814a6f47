//! Loading a pipeline and the catalogue beside it, or refusing both with every reason at once.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::catalogue::{Catalogue, Preuve};
use super::document::{Document, Kind, Problem, Source, at};
use super::ids::Index;
use super::{Pipeline, validate};
use crate::model::submission::Candidature;

/// Largest rules file that is read: a catalogue of ten thousand proofs stays below.
const LARGEST: u64 = 64 << 20;

/// Why a pipeline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The file cannot be read.
    #[error("PIPELINE-UNREADABLE: cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No pipeline of this name.
    #[error("PIPELINE-UNKNOWN: no pipeline `{id}` in {}{}", directory.display(), if .known.is_empty() { String::new() } else { format!(" (there: {})", .known.join(", ")) })]
    Unknown {
        /// As asked.
        id: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// Ids that are there.
        known: Vec<String>,
    },
    /// The files were read and are wrong; never empty, in file and line order.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

impl PipelineError {
    /// The problems, when the files could be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => problems,
            Self::Unreadable { .. } | Self::Unknown { .. } => &[],
        }
    }
}

/// A pipeline with its catalogue, both checked.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The rules.
    pub pipeline: Pipeline,
    /// The requirement list. Chapters are pipeline chapter ids.
    pub catalogue: Catalogue,
    /// SHA-256 of the pipeline file, hex.
    pub sha256: String,
    /// SHA-256 of the catalogue file, hex.
    pub catalogue_sha256: String,
    /// The pipeline file.
    pub path: PathBuf,
    index: Index,
}

impl Loaded {
    /// Joins rules and requirements that are already in memory; [`load`] is the way from files.
    pub fn new(pipeline: Pipeline, mut catalogue: Catalogue, sha256: String, catalogue_sha256: String, path: PathBuf) -> Self {
        for preuve in &mut catalogue.preuves {
            if let Some(chapter) = pipeline.chapter(&preuve.chapter) {
                preuve.chapter.clone_from(&chapter.id);
            }
        }
        let index = Index::new(catalogue.preuves.iter().map(|p| p.id.as_str()));
        Self { pipeline, catalogue, sha256, catalogue_sha256, path, index }
    }

    /// The proof that `spelled` means, in any of the agency's spellings or as a folder name.
    pub fn preuve(&self, spelled: &str) -> Option<&Preuve> {
        self.index.find(spelled).and_then(|position| self.catalogue.preuves.get(position))
    }

    /// Proofs asked of this candidature, in catalogue order (conditional ones included).
    pub fn applicable(&self, candidature: &Candidature) -> Vec<&Preuve> {
        self.catalogue
            .preuves
            .iter()
            .filter(|preuve| self.pipeline.asks(preuve, &candidature.profiles, candidature.referenced_vague_1))
            .collect()
    }
}

/// Loads the pipeline at `path` and the catalogue it names.
pub fn load(path: &Path) -> Result<Loaded, PipelineError> {
    let text = read_text(path).map_err(|reason| PipelineError::Unreadable { path: path.to_owned(), reason })?;
    let (pipeline, mut problems) = parse_pipeline(path, &text);
    let mut catalogue = None;
    if let Some(pipeline) = &pipeline {
        let beside = path.parent().unwrap_or(Path::new("")).join(&pipeline.catalogue);
        match read_text(&beside) {
            Ok(text) => {
                let (parsed, wrong) = parse_catalogue(&beside, &text, Some(pipeline));
                problems.extend(wrong);
                catalogue = parsed.map(|catalogue| (catalogue, sha256_hex(&text)));
            }
            Err(reason) => {
                let (source, _) = Source::parse(Document::Pipeline, path, &text);
                let kind = Kind::Unreadable { path: beside.display().to_string(), reason };
                problems.push(source.problem(at!["catalogue"], kind));
            }
        }
    }
    match (pipeline, catalogue) {
        (Some(pipeline), Some((catalogue, catalogue_sha256))) if problems.is_empty() => {
            Ok(Loaded::new(pipeline, catalogue, sha256_hex(&text), catalogue_sha256, path.to_owned()))
        }
        _ => Err(PipelineError::Invalid(problems)),
    }
}

/// Reads and checks a pipeline without its catalogue: what an import needs.
pub fn read(path: &Path) -> Result<Pipeline, PipelineError> {
    let text = read_text(path).map_err(|reason| PipelineError::Unreadable { path: path.to_owned(), reason })?;
    match parse_pipeline(path, &text) {
        (Some(pipeline), problems) if problems.is_empty() => Ok(pipeline),
        (_, problems) => Err(PipelineError::Invalid(problems)),
    }
}

/// Reads and checks a catalogue alone: without a pipeline, chapters and profiles are taken as they are.
pub fn read_catalogue(path: &Path) -> Result<Catalogue, PipelineError> {
    let text = read_text(path).map_err(|reason| PipelineError::Unreadable { path: path.to_owned(), reason })?;
    match parse_catalogue(path, &text, None) {
        (Some(catalogue), problems) if problems.is_empty() => Ok(catalogue),
        (_, problems) => Err(PipelineError::Invalid(problems)),
    }
}

/// The file of a pipeline given by path, or by id: `lgc-vague-2` is `lgc-vague-2.toml` in `directory`.
pub fn find(file_or_id: &str, directory: &Path) -> Result<PathBuf, PipelineError> {
    let given = Path::new(file_or_id);
    if given.is_file() {
        return Ok(given.to_owned());
    }
    let is_id = !file_or_id.is_empty() && file_or_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !is_id {
        return Err(PipelineError::Unreadable { path: given.to_owned(), reason: "no such file".to_owned() });
    }
    let named = directory.join(format!("{file_or_id}.toml"));
    if named.is_file() {
        return Ok(named);
    }
    let mut known: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.path().file_name()?.to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    known.sort();
    Err(PipelineError::Unknown { id: file_or_id.to_owned(), directory: directory.to_owned(), known })
}

pub(crate) fn parse_pipeline(path: &Path, text: &str) -> (Option<Pipeline>, Vec<Problem>) {
    let (source, mut problems) = Source::parse(Document::Pipeline, path, text);
    // A document cut short by a syntax error would only look full of gaps.
    if !problems.is_empty() {
        return (None, problems);
    }
    let pipeline: Option<Pipeline> = source.read(&mut problems);
    if let Some(pipeline) = &pipeline {
        validate::pipeline(pipeline, &source, &mut problems);
    }
    problems.sort_by_key(|p| p.position);
    (pipeline, problems)
}

pub(crate) fn parse_catalogue(path: &Path, text: &str, pipeline: Option<&Pipeline>) -> (Option<Catalogue>, Vec<Problem>) {
    let (source, mut problems) = Source::parse(Document::Catalogue, path, text);
    if !problems.is_empty() {
        return (None, problems);
    }
    let catalogue: Option<Catalogue> = source.read(&mut problems);
    if let Some(catalogue) = &catalogue {
        validate::catalogue(catalogue, pipeline, &source, &mut problems);
    }
    problems.sort_by_key(|p| p.position);
    (catalogue, problems)
}

/// The file's text, or why it cannot be had.
fn read_text(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > LARGEST {
        return Err(format!("{size} bytes is more than a rules file may have ({LARGEST})"));
    }
    fs::read_to_string(path).map_err(|e| e.to_string())
}

fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &str = r#"
        schema = "greffier/catalogue/1"
        version = "1"
        date = "2026-01-31"
        source = "test"
        [[preuves]]
        id = "INS.02.01.01"
        title = "x"
        chapter = "Identité"
        exigence = "INS.02"
        scenario = "INS.02.01"
        profiles = ["Profil Général , Suivi"]
        perimetre = "vague 1"
    "#;

    const PIPELINE: &str = r#"schema = "greffier/pipeline/1"
id = "test"
version = "1"
title = { fr = "Essai", en = "Test" }
time_zone = "Europe/Paris"
catalogue = "catalogue.toml"
bytes_per_mo = 1000000

[vague_1]
referenced = ["Vague 2"]
not_referenced = ["Vague 1", "Vague 2"]

[[profiles]]
id = "general"
title = { fr = "Profil Général", en = "General" }
labels = ["Profil Général"]
always = true

[[profiles]]
id = "suivi"
title = { fr = "Suivi", en = "Follow-up" }
labels = ["Suivi"]

[[chapters]]
id = "ins"
title = { fr = "Identité", en = "Identity" }

[[identifiers]]
id = "nie"
title = { fr = "NIE", en = "NIE" }

[formats.preuve]
accepted = ["png"]

[[slots]]
id = "documentation"
title = { fr = "Documentation", en = "Documentation" }
max_files = 10
max_size = { mo = 15, inclusive = false }
formats = "preuve"

[preuves]
max_items = 20
max_size = { mo = 10, inclusive = true }
formats = "preuve"
"#;

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new(pipeline: &str, catalogue: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("pipeline.toml"), pipeline).unwrap();
            fs::write(directory.path().join("catalogue.toml"), catalogue).unwrap();
            Self(directory)
        }
        /// What `load` says, without the directory.
        fn said(&self) -> String {
            match load(&self.0.path().join("pipeline.toml")) {
                Ok(loaded) => format!("ok: {}", loaded.pipeline.id),
                Err(error) => error.to_string().replace(&format!("{}/", self.0.path().display()), ""),
            }
        }
    }

    fn said(pipeline: &str) -> String {
        Directory::new(pipeline, CATALOGUE).said()
    }

    fn said_of_catalogue(catalogue: &str) -> String {
        Directory::new(PIPELINE, catalogue).said()
    }

    #[test]
    fn a_right_pipeline_loads_with_its_catalogue() {
        let directory = Directory::new(PIPELINE, CATALOGUE);
        let loaded = load(&directory.0.path().join("pipeline.toml")).unwrap();
        assert_eq!(loaded.catalogue.preuves[0].chapter, "ins", "labels become chapter ids");
        assert_eq!(loaded.sha256, hex::encode(Sha256::digest(PIPELINE)));
        let suivi = Candidature { profiles: vec!["suivi".into()], referenced_vague_1: Some(false), ..Candidature::default() };
        assert_eq!(loaded.applicable(&suivi).len(), 1);
        assert_eq!(loaded.applicable(&Candidature { referenced_vague_1: Some(true), ..suivi }).len(), 0);
    }

    #[test]
    fn unknown_keys_are_all_told_with_their_place_and_the_key_they_meant() {
        let wrong = PIPELINE
            .replace("max_files = 10", "max_flies = 10\nmax_files = 10\ncolour = \"é\"")
            .replace("always = true", "allways = true")
            .replace("bytes_per_mo = 1000000", "bytes_per_mo = 1000000\nlimit = 3");
        insta::assert_snapshot!("unknown_keys", said(&wrong));
    }

    #[test]
    fn formats_and_values_outside_their_lists_are_all_told() {
        let wrong = PIPELINE
            .replace("accepted = [\"png\"]", "accepted = [\"pgn\", \"png\", \"PDF\", \"wordperfect\"]\nunconfirmed = [\"png\"]")
            .replace("formats = \"preuve\"\n\n[preuves]", "formats = \"preuve\"\nreader = \"documentations\"\n\n[preuves]");
        insta::assert_snapshot!("unknown_values", said(&wrong));
    }

    #[test]
    fn every_semantic_problem_is_told_at_once() {
        let wrong = PIPELINE
            .replace("id = \"test\"", "id = \"Test 1\"")
            .replace("greffier/pipeline/1", "greffier/pipeline/2")
            .replace("Europe/Paris", "Europe/Pari")
            .replace("id = \"suivi\"", "id = \"general\"")
            .replace("labels = [\"Suivi\"]", "labels = [\"profil general\", \"Suivi\"]")
            .replace("bytes_per_mo = 1000000", "bytes_per_mo = 0")
            .replace("title = { fr = \"NIE\", en = \"NIE\" }", "title = { fr = \"NIE\", en = \"NIE\" }\npattern = '[A-Z'")
            .replace("max_files = 10", "max_files = 0\noverflow_formats = \"archive\"")
            .replace("mo = 15", "mo = -1.5")
            .replace("formats = \"preuve\"\n\n[preuves]", "formats = \"preuves\"\n\n[preuves]");
        let wrong = wrong
            + r#"
[severities]
sandbox-tiemout = "notice"

[[dependencies]]
id = "a"
title = { fr = "A", en = "A" }
help = { fr = "A", en = "A" }
identifiers = ["nie", "nil"]
after = ["b", "c"]
slot = "cnda"

[[dependencies]]
id = "b"
title = { fr = "B", en = "B" }
help = { fr = "B", en = "B" }
after = ["a"]
"#;
        insta::assert_snapshot!("semantic_problems", said(&wrong));
    }

    #[test]
    fn local_times_that_do_not_exist_or_come_twice_are_refused() {
        let with = |deadlines: &str| said(&(PIPELINE.to_owned() + "\n[deadlines]\n" + deadlines));
        assert_eq!(with("eligibility = \"2025-10-10T15:19:00\""), "ok: test");
        insta::assert_snapshot!(
            "local_times",
            [
                with("preuves = \"2026-03-29T02:30:00\""),
                with("preuves = \"2026-10-25T02:30:00\""),
                with("preuves = \"2026-02-30T12:00:00\""),
                with("preuves = \"2026-02-20\""),
                with("preuves = 2026-02-20T12:00:00"),
            ]
            .join("\n")
        );
    }

    #[test]
    fn malformed_toml_is_told_with_line_and_column() {
        insta::assert_snapshot!("malformed", said(&PIPELINE.replace("version = \"1\"", "version = \"1")));
    }

    #[test]
    fn missing_keys_and_wrong_types_are_told() {
        insta::assert_snapshot!(
            "missing_and_types",
            [
                said(&PIPELINE.replace("max_items = 20\n", "")),
                said(&PIPELINE.replace("max_items = 20", "max_items = -1")),
                said(&PIPELINE.replace("max_items = 20", "max_items = \"20\"").replace("always = true", "always = \"oui\"")),
            ]
            .join("\n")
        );
    }

    #[test]
    fn problems_of_the_catalogue_are_told_in_its_own_lines() {
        let second = r#"
        [[preuves]]
        id = "INS.02.01.01"
        title = "x"
        chapter = "MSSanté"
        exigence = "SC.INS.02"
        scenario = "INS .02"
        profiles = ["Suivis"]
        perimetre = "Vague 3"
        [[preuves]]
        id = "../etc"
        title = "x"
        chapter = "ins"
        exigence = ""
        "#;
        let wrong = CATALOGUE.replace("2026-01-31", "31/01/2026").replace("title = \"x\"", "titre = \"x\"") + second;
        insta::assert_snapshot!("catalogue_problems", said_of_catalogue(&wrong));
    }

    #[test]
    fn a_catalogue_that_is_not_there_is_told_at_the_key_that_names_it() {
        let directory = Directory::new(PIPELINE, CATALOGUE);
        fs::remove_file(directory.0.path().join("catalogue.toml")).unwrap();
        assert!(
            directory.said().starts_with("pipeline.toml:6:1: PIPELINE-UNREADABLE: catalogue: cannot read `catalogue.toml`"),
            "{}",
            directory.said()
        );
    }

    #[test]
    fn a_pipeline_is_found_by_path_or_id() {
        let directory = Path::new("pipelines");
        assert_eq!(find("lgc-vague-2", directory).unwrap(), directory.join("lgc-vague-2.toml"));
        assert!(find("pipelines/dpi-vague-2.toml", directory).is_ok());
        let unknown = find("lgc-vague-3", directory).unwrap_err();
        assert!(unknown.to_string().starts_with("PIPELINE-UNKNOWN: no pipeline `lgc-vague-3` in pipelines (there: "), "{unknown}");
        assert!(matches!(unknown, PipelineError::Unknown { known, .. } if known.iter().any(|id| id == "dpi-vague-2")));
        assert!(find("../pipelines/lgc-vague-2", directory).is_err(), "an id names no other directory");
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_file_never_panics(at in 0usize..1400, inserted in "[\\[\\]={}\"'.,#\\n a0é-]{0,4}", removed in 0usize..30) {
            let mut text = PIPELINE.to_owned();
            let start = (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
            let end = (start..=(start + removed).min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap();
            text.replace_range(start..end, &inserted);
            let (pipeline, problems) = parse_pipeline(Path::new("x.toml"), &text);
            proptest::prop_assert!(pipeline.is_some() || !problems.is_empty());
        }
    }
}
