//! The declared rules of one démarche, as data: slots, limits, formats, stages, chapters, profiles.
//!
//! Goals:
//! 1. Nothing of a démarche is compiled in: a second one is a second TOML file.
//! 2. A mistake in a rules file is found when it is loaded, with file, line and column, not when a vendor's
//!    file meets it: unknown keys, unknown formats, dangling references and duplicate ids are refused.
//! 3. What is inferred rather than published says so in a comment beside the setting.

pub mod catalogue;
pub mod columns;
pub mod document;
pub mod documentation;
pub mod guards;
pub mod html;
pub mod ids;
pub mod import;
pub mod labels;
pub(crate) mod load;
mod validate;

pub use document::{Kind, Problem};
pub use load::{Loaded, PipelineError, find, load, read, read_catalogue};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::gazelle::GazellePolicy;
use crate::model::submission::Stage;
use crate::model::{Format, Severity, Text};

/// The schema this version reads.
pub const SCHEMA: &str = "greffier/pipeline/1";

/// The rules of one démarche.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Always `greffier/pipeline/1`.
    pub schema: String,
    /// Stable id, as submissions name it (`lgc-vague-2`).
    pub id: String,
    /// Version of these rules; part of every outcome's identity.
    pub version: String,
    /// Name for people.
    pub title: Text,
    /// The agency's reference (`DSR-MDV-LGC-Va2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// IANA time zone of the deadlines (`Europe/Paris`).
    pub time_zone: String,
    /// Path of the catalogue file, relative to this file.
    pub catalogue: String,
    /// Shape of a candidature number: a regular expression, matched whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidature_number: Option<String>,
    /// What « Mo » means in this démarche's limits, in bytes.
    pub bytes_per_mo: u64,
    /// First-submission deadlines.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// Profiles a vendor chooses from.
    #[serde(default)]
    pub profiles: Vec<Profile>,
    /// Profile labels of the catalogue that belong to other démarches: a proof asked of these alone applies to
    /// nobody here. Declared, so that a label nobody thought of is a mistake and not a silent gap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_profiles: Vec<String>,
    /// Which « périmètres » of the catalogue apply, by vague-1 status.
    pub vague_1: Vague1Rule,
    /// Chapters in display order.
    #[serde(default)]
    pub chapters: Vec<Chapter>,
    /// Identifiers asked for at eligibility.
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    /// Other guichets that must run in parallel (EDC PSC, CNDA).
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// Named sets of formats.
    pub formats: BTreeMap<String, FormatSet>,
    /// Slots of the eligibility stage.
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// Rules of every proof.
    pub preuves: PreuveRules,
    /// Columns of the obsolete-versions table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions_obsoletes: Option<columns::ColumnModel>,
    /// What the product documentation is expected to speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation: Option<documentation::DocumentationConfig>,
    /// Identity numbers, evidence filed elsewhere, look-alike pictures.
    #[serde(default)]
    pub guards: guards::Guards,
    /// Which Gazelle servers count, and which identifiers are expected of them.
    #[serde(default)]
    pub gazelle: GazellePolicy,
    /// Severities that differ from a finding's default; `ignore` drops it.
    #[serde(default)]
    pub severities: BTreeMap<String, Policy>,
}

/// What a pipeline makes of a finding code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Never shown.
    Ignore,
    /// Good to know.
    Notice,
    /// A verifier should look.
    Warning,
    /// The vendor must fix it.
    Error,
}

impl Policy {
    /// The severity, or `None` for `ignore`.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Ignore => None,
            Self::Notice => Some(Severity::Notice),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
        }
    }
}

/// First-submission deadlines: civil date-times (`2026-02-20T12:00:00`) in the pipeline's time zone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// Eligibility.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eligibility: Option<String>,
    /// All proofs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preuves: Option<String>,
    /// A deposit after the deadline: `error`, `warning`, `notice` or `ignore` is set under `[severities]`
    /// (`deadline-passed`); this many hours before it, `deadline-near` is raised.
    pub near_hours: u32,
}

/// A profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Stable id, as submissions name it.
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// How the agency's catalogue writes it, all spellings.
    pub labels: Vec<String>,
    /// Applies whether chosen or not (« Profil Général »).
    #[serde(default)]
    pub always: bool,
}

/// Which catalogue perimeters apply. Not referenced in vague 1: v1 scenarios are carried over; referenced:
/// only v2 scenarios.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vague1Rule {
    /// `Périmètre` values that apply to a product referenced in vague 1.
    pub referenced: Vec<String>,
    /// `Périmètre` values that apply to a product that was not.
    pub not_referenced: Vec<String>,
}

/// A chapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chapter {
    /// Stable id (`ins`).
    pub id: String,
    /// Exact label on the platform, and a translation.
    pub title: Text,
    /// Other spellings in catalogues and folder names.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// An identifier asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// Stable id (`nie`).
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// Whether the form marks it mandatory.
    #[serde(default)]
    pub required: bool,
    /// Asked only of products referenced in vague 1 (wiin.io).
    #[serde(default)]
    pub only_if_referenced_vague_1: bool,
    /// Strongly recommended: its absence is a warning.
    #[serde(default)]
    pub recommended: bool,
    /// A regular expression, matched whole; a mismatch is a warning because no public definition exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// What to tell about it: where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<Text>,
}

/// Another guichet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Stable id (`edc-psc`).
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// What it brings and when.
    pub help: Text,
    /// Identifiers that show it was started.
    #[serde(default)]
    pub identifiers: Vec<String>,
    /// Dependencies that must be done first.
    #[serde(default)]
    pub after: Vec<String>,
    /// Slot where a proof of it is expected, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

/// A set of formats.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FormatSet {
    /// Accepted.
    pub accepted: Vec<Format>,
    /// Accepted with a notice: the published list is unreadable or silent about them.
    pub unconfirmed: Vec<Format>,
}

/// A size limit: `octets` and whether exactly that size is still accepted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizeLimit {
    /// « Mo » as the form writes it; multiplied by `bytes_per_mo`.
    pub mo: f64,
    /// `true` for « ≤ », `false` for « < ».
    pub inclusive: bool,
}

impl SizeLimit {
    /// The limit in bytes.
    pub fn bytes(self, bytes_per_mo: u64) -> u64 {
        // Limits are a few Mo: the product is far below 2^53 and exact.
        (self.mo * bytes_per_mo as f64).round() as u64
    }
    /// Whether a file of `size` bytes is accepted.
    pub fn allows(self, size: u64, bytes_per_mo: u64) -> bool {
        let limit = self.bytes(bytes_per_mo);
        if self.inclusive { size <= limit } else { size < limit }
    }
}

/// What reads the content of a slot beyond format checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// Product documentation: outline, text, topics.
    Documentation,
    /// The obsolete-versions table.
    VersionsObsoletes,
}

/// A slot of the eligibility form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Stable id, as submissions name it (`documentation`).
    pub id: String,
    /// Name for people.
    pub title: Text,
    /// Folder names that mean this slot in a plain folder (any case, accents ignored).
    #[serde(default)]
    pub folders: Vec<String>,
    /// Mandatory.
    #[serde(default)]
    pub required: bool,
    /// Most files.
    pub max_files: u32,
    /// Largest file.
    pub max_size: SizeLimit,
    /// Name of a format set.
    pub formats: String,
    /// Name of a format set accepted only when the files would exceed `max_files` (« au-delà, déposer une
    /// archive zip »): an archive whose members follow `formats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow_formats: Option<String>,
    /// What reads the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<Reader>,
}

/// Rules of every proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreuveRules {
    /// Most files and links for one proof.
    pub max_items: u32,
    /// Largest file.
    pub max_size: SizeLimit,
    /// Name of a format set.
    pub formats: String,
    /// Whether links are accepted.
    #[serde(default)]
    pub links: bool,
}

impl Pipeline {
    /// The slot with this id.
    pub fn slot(&self, id: &str) -> Option<&Slot> {
        self.slots.iter().find(|s| s.id == id)
    }

    /// The slot that a folder of this name means: its id or one of its `folders`, in any spelling.
    pub fn slot_in_folder(&self, folder: &str) -> Option<&Slot> {
        let folder = labels::fold(folder);
        self.slots.iter().find(|s| std::iter::once(&s.id).chain(&s.folders).any(|name| labels::fold(name) == folder))
    }

    /// The chapter with this id, or with this label in any spelling.
    pub fn chapter(&self, id_or_label: &str) -> Option<&Chapter> {
        self.chapters.iter().find(|c| c.id == id_or_label).or_else(|| {
            let label = labels::fold(id_or_label);
            self.chapters.iter().find(|c| c.names().any(|name| labels::fold(name) == label))
        })
    }

    /// The profile with this id, or with this label in any spelling.
    pub fn profile(&self, id_or_label: &str) -> Option<&Profile> {
        self.profiles.iter().find(|p| p.id == id_or_label).or_else(|| {
            let label = labels::fold(id_or_label);
            self.profiles.iter().find(|p| p.names().any(|name| labels::fold(name) == label))
        })
    }

    /// The identifier with this id.
    pub fn identifier(&self, id: &str) -> Option<&Identifier> {
        self.identifiers.iter().find(|i| i.id == id)
    }

    /// The format set with this name.
    pub fn format_set(&self, name: &str) -> Option<&FormatSet> {
        self.formats.get(name)
    }

    /// The instant after which a first deposit of `stage` is late. A whole dossier is judged by the last deadline:
    /// it is a vendor's own check, and its eligibility part may have been deposited long before.
    pub fn deadline(&self, stage: &Stage) -> Option<jiff::ZonedDateTime> {
        let civil = match stage {
            Stage::Eligibility => self.deadlines.eligibility.as_deref()?,
            Stage::Chapter { .. } | Stage::Dossier => self.deadlines.preuves.as_deref()?,
        };
        // Refused when the file was loaded if any of this fails.
        let zone = jiff::tz::TimeZone::get(&self.time_zone).ok()?;
        civil.parse::<jiff::civil::DateTime>().ok()?.to_zoned_datetime(zone).ok()
    }

    /// `Périmètre` values that apply, by vague-1 status. Unknown status: those of a product that was not
    /// referenced, which leave nothing out.
    pub fn perimetres(&self, referenced_vague_1: Option<bool>) -> &[String] {
        if referenced_vague_1 == Some(true) { &self.vague_1.referenced } else { &self.vague_1.not_referenced }
    }

    /// Whether a proof is asked of a product with these profiles (ids or labels) and this vague-1 status.
    /// A proof without profile is asked of everyone; one without périmètre, in every vague.
    pub fn asks(&self, preuve: &catalogue::Preuve, profiles: &[String], referenced_vague_1: Option<bool>) -> bool {
        let in_perimetre = preuve.perimetre.trim().is_empty()
            || self.perimetres(referenced_vague_1).iter().any(|perimetre| labels::same(perimetre, &preuve.perimetre));
        if !in_perimetre {
            return false;
        }
        let asked = self.profile_labels(preuve);
        asked.is_empty()
            || asked.iter().filter_map(|label| self.profile(label)).any(|profile| {
                profile.always || profiles.iter().any(|chosen| self.profile(chosen).is_some_and(|chosen| chosen.id == profile.id))
            })
    }

    /// The profile labels of a proof, joined ones taken apart (see [`catalogue::split_profiles`]).
    fn profile_labels(&self, preuve: &catalogue::Preuve) -> Vec<String> {
        preuve.profiles.iter().flat_map(|label| catalogue::split_profiles(label, |label| self.knows_profile_label(label))).collect()
    }

    /// Whether a catalogue's profile label is declared, as ours or as another démarche's.
    pub(crate) fn knows_profile_label(&self, label: &str) -> bool {
        self.profile(label).is_some() || self.other_profiles.iter().any(|other| labels::same(other, label))
    }
}

impl Chapter {
    /// Everything this chapter is called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [self.id.as_str(), &self.title.fr, &self.title.en].into_iter().chain(self.labels.iter().map(String::as_str))
    }
}

impl Profile {
    /// Everything this profile is called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [self.id.as_str(), &self.title.fr, &self.title.en].into_iter().chain(self.labels.iter().map(String::as_str))
    }
}

/// A pattern of the pipeline compiled to match a whole value.
pub fn whole(pattern: &str) -> Result<regex::Regex, regex::Error> {
    // Alone first: `a)(b` would compile inside the group.
    regex::Regex::new(pattern)?;
    regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build()
}

/// JSON Schema of a pipeline file, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Pipeline).to_value();
    schema["title"] = "greffier: pipeline".into();
    schema
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lgc() -> Loaded {
        load(Path::new("pipelines/lgc-vague-2.toml")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn candidature(profiles: &[&str], referenced_vague_1: Option<bool>) -> crate::model::submission::Candidature {
        let profiles = profiles.iter().map(|p| (*p).to_owned()).collect();
        crate::model::submission::Candidature { profiles, referenced_vague_1, ..Default::default() }
    }

    const DEMO: [&str; 3] = ["general", "medecin-traitant", "prescription"];

    #[test]
    fn the_demonstration_candidature_owes_239_proofs_in_the_seeds_shape() {
        let loaded = lgc();
        let owed = loaded.applicable(&candidature(&DEMO, Some(false)));
        let counts: Vec<usize> = loaded.pipeline.chapters.iter().map(|c| owed.iter().filter(|p| p.chapter == c.id).count()).collect();
        assert_eq!(counts, [81, 35, 56, 10, 7, 37, 7, 6]);
        assert_eq!(owed.len(), 239);
        let last: Vec<&str> = owed.iter().filter(|p| p.chapter == "services-socles").map(|p| p.exigence.as_str()).collect();
        assert_eq!(last, ["APCV.01", "ON/PSC.60", "ORDN/CONF.01", "ORDN/CONF.04", "ORDN/CONF.04", "ORDN/CONF.05"]);
    }

    #[test]
    fn a_product_referenced_in_vague_1_owes_only_vague_2() {
        let loaded = lgc();
        let owed = loaded.applicable(&candidature(&DEMO, Some(true)));
        assert!(owed.len() < 239 && !owed.is_empty());
        assert!(owed.iter().all(|p| p.perimetre == "Vague 2"));
        // Unknown status leaves nothing out.
        assert_eq!(loaded.applicable(&candidature(&DEMO, None)).len(), 239);
    }

    #[test]
    fn each_chosen_profile_adds_its_own_proofs_and_the_general_one_always_applies() {
        let loaded = lgc();
        let count = |profiles: &[&str]| loaded.applicable(&candidature(profiles, Some(false))).len();
        assert_eq!(count(&[]), count(&["general"]));
        assert!(count(&["sec"]) > count(&[]));
        // A proof of two profiles is owed once.
        assert!(count(&["ciba", "medecin-traitant"]) < count(&["ciba"]) + count(&["medecin-traitant"]) - count(&[]));
        // Labels in any spelling do as well as ids.
        assert_eq!(count(&["MEDECIN TRAITANT et  suivi de l’enfant"]), count(&["medecin-traitant"]));
        assert_eq!(count(&["general", "medecin-traitant", "prescription", "ciba", "sec"]), loaded.catalogue.preuves.len());
    }

    #[test]
    fn proofs_are_found_by_all_spellings() {
        let loaded = lgc();
        for spelled in
            ["DMP/HISTO.01.01.01", "SC.\u{a0}DMP/HISTO.01.01.01", "DMP_HISTO.01.01.01", "dmp-histo.01.01.01", "LGC.DMP/HISTO.01.01.01"]
        {
            assert_eq!(loaded.preuve(spelled).map(|p| p.id.as_str()), Some("DMP/HISTO.01.01.01"), "{spelled}");
        }
        assert_eq!(loaded.preuve("AF/TB.01.01.01").map(|p| p.id.as_str()), Some("LGC.AF/TB.01.01.01"));
        assert!(loaded.preuve("INS.99.01.01").is_none());
    }

    #[test]
    fn every_proof_of_the_fixture_has_a_canonical_id_and_a_folder_of_its_own() {
        let loaded = lgc();
        let mut folders = std::collections::BTreeSet::new();
        for preuve in &loaded.catalogue.preuves {
            assert_eq!(ids::canonical(&preuve.id).as_ref(), Some(&preuve.id));
            assert!(folders.insert(ids::folder_name(&preuve.id)), "{}", preuve.id);
            assert_eq!(loaded.preuve(&ids::folder_name(&preuve.id)).map(|p| &p.id), Some(&preuve.id));
        }
    }

    #[test]
    fn a_second_demarche_needs_no_code() {
        let loaded = load(Path::new("pipelines/dpi-vague-2.toml")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded.applicable(&candidature(&["urgences"], None)).len(), 5);
        assert_eq!(loaded.applicable(&candidature(&[], None)).len(), 3);
        assert_eq!(loaded.preuve("SC.MSS/UX.DPI.2.01.01").map(|p| p.chapter.as_str()), Some("mssante"));
    }

    #[test]
    fn deadlines_are_paris_time_summer_and_winter() {
        let pipeline = lgc().pipeline;
        let at = |stage: &Stage| pipeline.deadline(stage).unwrap().timestamp().to_string();
        assert_eq!(at(&Stage::Eligibility), "2025-10-10T13:19:00Z");
        assert_eq!(at(&Stage::Dossier), "2026-02-20T11:00:00Z");
        assert_eq!(at(&Stage::Chapter { chapter: "ins".into() }), "2026-02-20T11:00:00Z");
    }

    #[test]
    fn limits_are_exact_on_both_sides() {
        let pipeline = lgc().pipeline;
        let mo = pipeline.bytes_per_mo;
        let documentation = pipeline.slot("documentation").unwrap().max_size;
        assert!(documentation.allows(15 * 1_048_576 - 1, mo));
        assert!(!documentation.allows(15 * 1_048_576, mo), "« < 15 Mo » leaves 15 Mo out");
        assert!(pipeline.preuves.max_size.allows(10 * 1_048_576, mo));
        assert!(!pipeline.preuves.max_size.allows(10 * 1_048_576 + 1, mo));
    }

    #[test]
    fn folders_and_labels_are_recognised() {
        let pipeline = lgc().pipeline;
        for (folder, slot) in
            [("Versions_Obsolètes", "versions-obsoletes"), ("DOCUMENTATION", "documentation"), ("CNDA", "cnda-pre-examen")]
        {
            assert_eq!(pipeline.slot_in_folder(folder).map(|s| s.id.as_str()), Some(slot));
        }
        assert!(pipeline.slot_in_folder("preuves").is_none());
        assert_eq!(pipeline.chapter("DMP").map(|c| c.id.as_str()), Some("dmp"));
        assert_eq!(pipeline.chapter("Identification électronique et ProSanté Connect").map(|c| c.id.as_str()), Some("identification"));
    }

    #[test]
    fn patterns_match_whole_values() {
        let number = whole(lgc().pipeline.candidature_number.as_deref().unwrap()).unwrap();
        assert!(number.is_match("IZCYKCWXGY"));
        assert!(!number.is_match("IZCYKCWXGY1") && !number.is_match("IZCYKCWXGY\n"));
        assert!(whole("a)(b").is_err());
    }

    /// Whoever adds a démarche is told here what `greffier pipeline check` would tell.
    #[test]
    fn every_pipeline_and_catalogue_of_this_repository_loads_and_is_what_its_schema_says() {
        for (schema, folder) in [(schema(), "pipelines"), (catalogue::schema(), "fixtures/catalogue")] {
            let validator = jsonschema::validator_for(&schema).unwrap();
            let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let mut seen = 0;
            for path in paths.filter(|path| path.extension().is_some_and(|e| e == "toml")) {
                let value: serde_json::Value = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
                assert!(errors.is_empty(), "{}: {errors:?}", path.display());
                let read = if folder == "pipelines" { load(&path).map(drop) } else { read_catalogue(&path).map(drop) };
                read.unwrap_or_else(|problems| panic!("{problems}"));
                seen += 1;
            }
            assert!(seen > 1, "{folder}");
        }
    }
}
