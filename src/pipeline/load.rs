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

fn parse_pipeline(path: &Path, text: &str) -> (Option<Pipeline>, Vec<Problem>) {
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

fn parse_catalogue(path: &Path, text: &str, pipeline: Option<&Pipeline>) -> (Option<Catalogue>, Vec<Problem>) {
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
