//! The guards on a whole submission, with the real pipeline and catalogue.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::model::facts::{Detail, ImageFacts, TextChunk};
use crate::model::submission::{Candidature, FileRef};
use crate::model::{Lang, Place};

const NIR: &str = "185057864608497";

fn text(text: &str) -> Facts {
    Facts { text: vec![TextChunk { place: Place::page(3), text: text.into() }], ..Facts::default() }
}

fn picture() -> Facts {
    let image = ImageFacts {
        width: 1600,
        height: 900,
        decoded: true,
        luma_deviation: Some(40.0),
        perceptual_hash: Some("0f0f3c3ca5a50ff0".into()),
        ..ImageFacts::default()
    };
    Facts { detail: Some(Detail::Image(image)), ..Facts::default() }
}

/// A submission of (id, proof, name, facts), and what was seen of it.
fn deposit(revision: u32, items: &[(&str, &str, String, Facts)]) -> (Submission, BTreeMap<String, Examined>) {
    let submission = Submission {
        schema: crate::model::submission::SCHEMA.into(),
        demarche: "lgc-vague-2".into(),
        candidature: Candidature { number: "IZCYKCWXGY".into(), ..Candidature::default() },
        stage: crate::model::submission::Stage::Dossier,
        revision,
        submitted_at: None,
        requests: Vec::new(),
        items: items
            .iter()
            .map(|(id, preuve, name, _)| Item {
                id: (*id).into(),
                filed_under: FiledUnder::Preuve((*preuve).into()),
                content: Content::File(FileRef { object: name.clone(), name: name.clone(), size: None, media_type: None, sha256: None }),
            })
            .collect(),
    };
    let seen = |(id, _, _, facts): &(&str, &str, String, Facts)| {
        (
            (*id).to_owned(),
            Examined { sha256: Some(format!("digest of {id}")), size: Some(1), facts: Some(facts.clone()), ..Examined::default() },
        )
    };
    (submission, items.iter().map(seen).collect())
}

#[test]
fn the_guards_speak_and_the_report_keeps_the_secret() {
    let loaded = crate::pipeline::load(Path::new("pipelines/lgc-vague-2.toml")).unwrap_or_else(|e| panic!("{e}"));
    let preuves = &loaded.catalogue.preuves;
    let (one, other) = (&preuves[0], preuves.iter().find(|p| p.exigence != preuves[0].exigence).expect("two exigences"));
    let items = [
        ("a", one.id.as_str(), format!("{NIR}.pdf"), text(&format!("Scénario SC.{}, patient {NIR}", other.scenario))),
        ("b", one.id.as_str(), format!("{}.pdf", other.id.replace('/', "_")), text(&format!("Scénario {}", one.scenario))),
        ("c", one.id.as_str(), "c.png".into(), picture()),
        ("d", other.id.as_str(), "d.jpg".into(), picture()),
    ];
    let (submission, examined) = deposit(1, &items);
    let report = assess(&loaded, &submission, &examined, &crate::model::work::Work::unbounded());
    let codes = |id: &str| -> Vec<&str> {
        let item = report.items.iter().find(|i| i.id == id).expect("every item is in the report");
        item.findings
            .iter()
            .map(|f| f.code.as_str())
            .filter(|c| ["privacy", "coherence", "look"].iter().any(|p| c.starts_with(p)))
            .collect()
    };
    assert_eq!(codes("a"), ["coherence-other-requirement", "privacy-nir", "privacy-nir-name"]);
    assert_eq!(codes("b"), ["coherence-name-other-proof"]);
    assert_eq!([codes("c"), codes("d")], [["look-alike-image"], ["look-alike-image"]]);
    assert!(!serde_json::to_string(&report).expect("a report serialises").contains(NIR));
    for lang in [Lang::Fr, Lang::En] {
        assert!(!answer::vendor_message(&report, lang).contains(NIR));
    }

    let items: Vec<_> = items.into_iter().filter(|i| i.0 != "b").collect();
    let (submission, examined) = deposit(2, &items);
    let mut next = assess(&loaded, &submission, &examined, &crate::model::work::Work::unbounded());
    rounds::attach(&mut next, &report, &submission.requests, &ids::canonical, &loaded.pipeline.severities).expect("the same deposit");
    let round = next.round.expect("just attached");
    assert_eq!((round.counts.unchanged, round.counts.removed, round.same_rules), (3, 1, true));
    assert!(round.resolved.iter().any(|f| f.code.as_str() == "coherence-name-other-proof"));
}
