//! The requirement list: chapter > exigence > scénario > preuve, versioned, never compiled in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema this version reads and writes.
pub const SCHEMA: &str = "greffier/catalogue/1";

/// A catalogue file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Always `greffier/catalogue/1`.
    pub schema: String,
    /// Version, as people cite it.
    pub version: String,
    /// Date of the source, ISO 8601.
    pub date: String,
    /// Where it was imported from (file name), or a statement that it is invented.
    pub source: String,
    /// SHA-256 of the source file, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
    /// Proofs in order.
    pub preuves: Vec<Preuve>,
}

/// One proof asked for: one row of the agency's export.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preuve {
    /// Proof id as displayed (`INS.02.01.01`), canonical: no `SC.`, no spaces. A scenario without proof
    /// number carries its scenario id here and `implicit = true`.
    pub id: String,
    /// The id was made from the scenario's because the export leaves the cell empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub implicit: bool,
    /// Wording of the proof, plain text.
    pub title: String,
    /// Chapter id of the pipeline, or the export's label where no chapter matched.
    pub chapter: String,
    /// `Fonction` column.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fonction: String,
    /// Exigence id, canonical (`INS.02`).
    pub exigence: String,
    /// Wording of the exigence, plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exigence_title: String,
    /// Scenario id, canonical.
    pub scenario: String,
    /// Wording of the scenario, plain text; its steps are the « points de contrôle ».
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scenario_title: String,
    /// Profile labels as the export writes them, split; empty = every profile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// `Périmètre` column (« Vague 1 »).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub perimetre: String,
    /// `Criticité` column.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub criticite: String,
    /// Conditional requirement: its absence is a notice, not a missing proof.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub conditional: bool,
    /// Comment of the export, plain text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// Takes apart profile labels that the export joins with « , ». A label may itself hold a comma: it is taken
/// apart at bare commas only when every piece is then `known`.
pub fn split_profiles(joined: &str, known: impl Fn(&str) -> bool) -> Vec<String> {
    let joined = joined.replace(['\u{a0}', '\u{202f}', '\t'], " ");
    let mut labels = Vec::new();
    for piece in joined.split(" , ").flat_map(|p| p.split(['\n', '\r', ';', '|'])) {
        let piece = piece.trim_matches(|c: char| c.is_whitespace() || c == ',');
        if piece.is_empty() {
            continue;
        }
        let parts: Vec<&str> = piece.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
        if parts.len() > 1 && !known(piece) && parts.iter().all(|p| known(p)) {
            labels.extend(parts.into_iter().map(str::to_owned));
        } else {
            labels.push(piece.to_owned());
        }
    }
    labels
}

impl Catalogue {
    /// The file's content: TOML, one table for each proof and one line for each field, so that a revision of the
    /// agency's export shows as a readable difference.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

/// JSON Schema of a catalogue file, for editors.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Catalogue).to_value();
    schema["title"] = "greffier: catalogue".into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_profiles_are_taken_apart() {
        let none = |_: &str| false;
        assert_eq!(split_profiles("A , B\u{a0},\u{a0}C", none), ["A", "B", "C"]);
        assert_eq!(split_profiles("  ", none), Vec::<String>::new());
        assert_eq!(split_profiles("Soins, suivi", none), ["Soins, suivi"]);
        assert_eq!(split_profiles("CIBA,Suivi", |l| matches!(l, "CIBA" | "Suivi")), ["CIBA", "Suivi"]);
    }

    #[test]
    fn a_catalogue_survives_its_file() {
        let preuve = Preuve {
            id: "INS.02.01.01".into(),
            title: "Étape 1 : « ouvrir » \"x\"\nÉtape 2 : \\ et ''' puis \"\"\" fin\n".into(),
            chapter: "ins".into(),
            profiles: vec!["A".into(), "B".into()],
            conditional: true,
            ..Preuve::default()
        };
        let catalogue = Catalogue {
            schema: SCHEMA.into(),
            version: "1".into(),
            date: "2026-01-01".into(),
            source: "test".into(),
            source_sha256: None,
            preuves: vec![preuve],
        };
        let written = catalogue.to_toml().unwrap();
        assert_eq!(toml::from_str::<Catalogue>(&written).unwrap(), catalogue, "{written}");
    }
}
