//! What a démarche sets for the guards: identity numbers, evidence filed elsewhere, look-alike pictures.
//!
//! Everything has a default, so that a pipeline without `[guards]` is guarded all the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `[guards]` section of a pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Identity numbers of patients.
    pub privacy: PrivacyPolicy,
    /// Evidence filed under the wrong requirement.
    pub coherence: CoherencePolicy,
    /// The same picture under several requirements.
    pub look_alikes: LookAlikePolicy,
}

/// Which identity numbers belong to nobody. They are still mentioned (`privacy-test-nir`), as a notice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyPolicy {
    /// Whole numbers, of 13 or 15 characters; separators do not count.
    pub test_numbers: Vec<String>,
    /// First characters of the numbers of a test range; separators do not count.
    pub test_prefixes: Vec<String>,
    /// Assigning authorities of test and demonstration identities: a number that stands beside one of these and
    /// beside no other authority of matricules INS is a test number.
    pub test_oids: Vec<String>,
}

impl Default for PrivacyPolicy {
    fn default() -> Self {
        let list = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect();
        Self {
            test_numbers: list(&[
                // The patient « PAT-TROIS DOMINIQUE » of the examples of the ANS (CI-SIS) and of HL7 France.
                "279035121518989",
                // The specimens of the carte Vitale, first and second generation, that the Assurance maladie shows.
                "255081416802538",
                "269054958815780",
            ]),
            // No test range is published: a démarche adds those it was given.
            test_prefixes: Vec::new(),
            // ANS, « Liste des OID des autorités d'affectation des INS »: INS-NIR of test, INS-NIR of demonstration.
            test_oids: list(&["1.2.250.1.213.1.4.10", "1.2.250.1.213.1.4.11"]),
        }
    }
}

/// When the requirements that a document cites speak against where it is filed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CoherencePolicy {
    /// A document that cites more exigences than this is a matrix or a manual, and says nothing of one of them.
    pub max_exigences: usize,
}

impl Default for CoherencePolicy {
    fn default() -> Self {
        Self { max_exigences: 5 }
    }
}

/// When two pictures are taken for the same one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LookAlikePolicy {
    /// Most bits, of 64, in which the difference hashes may differ.
    pub max_distance: u32,
    /// Pictures flatter than this (standard deviation of luma, 0–127.5) are left out: all blank screens look alike.
    pub min_luma_deviation: f32,
    /// Largest relative difference of width to height, in percent.
    pub max_aspect_percent: f32,
    /// Largest difference of the standard deviations of luma.
    pub max_deviation_difference: f32,
    /// Most items in a group that hangs together by likeness and is still told picture by picture: a larger one is told
    /// once, since screens of one application share their frame.
    pub max_group: usize,
}

impl Default for LookAlikePolicy {
    fn default() -> Self {
        Self { max_distance: 2, min_luma_deviation: 8.0, max_aspect_percent: 2.0, max_deviation_difference: 1.5, max_group: 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_has_its_default() {
        let guards: Guards = toml::from_str("[privacy]\ntest_prefixes = [\"29912\"]\n").unwrap();
        assert_eq!(guards.privacy.test_prefixes, ["29912"]);
        assert_eq!(guards.privacy.test_oids, PrivacyPolicy::default().test_oids);
        assert_eq!(guards.coherence, CoherencePolicy::default());
        assert!(toml::from_str::<Guards>("[privacy]\ntest_number = []\n").is_err());
    }
}
