//! Small reports for the tests of rules that read whole reports.

use std::collections::BTreeMap;

use crate::model::report::{ItemReport, PipelineRef, PreuveReport, Report, SCHEMA, Totals};
use crate::model::submission::{Candidature, FiledUnder, Stage};
use crate::model::{Code, Place, Signal, Text, Verdict};

use super::policy;

/// A file filed under a proof, nothing wrong with it.
pub fn item(id: &str, preuve: &str, name: &str, sha256: &str) -> ItemReport {
    ItemReport {
        id: id.into(),
        filed_under: FiledUnder::Preuve(preuve.into()),
        name: name.into(),
        link: false,
        sha256: Some(sha256.into()),
        size: Some(1),
        verdict: Verdict::Accepted,
        findings: Vec::new(),
        path: None,
        withheld: None,
        facts: None,
        facts_of: None,
        gazelle: None,
    }
}

/// The item with one more finding, as its message words it.
pub fn with_finding(item: ItemReport, code: &str, place: Place) -> ItemReport {
    with_signal(item, Signal { code: Code::parse(code), place, args: BTreeMap::new(), more: 0 })
}

/// The item with one more finding made of a signal.
pub fn with_signal(mut item: ItemReport, signal: Signal) -> ItemReport {
    item.findings.extend(policy::finding(&signal, &BTreeMap::new()));
    item.verdict = Verdict::of(item.findings.iter().map(|f| f.severity));
    item
}

/// A report over these items; proofs 1 to 4 of « INS » apply.
pub fn report(revision: u32, items: Vec<ItemReport>) -> Report {
    let preuve = |n: u32| {
        let id = format!("INS.0{n}.01.01");
        PreuveReport {
            title: format!("Copie d'écran de la fonction {n}"),
            chapter: "ins".into(),
            exigence: format!("INS.0{n}"),
            exigence_title: format!("Le logiciel assure la fonction {n}"),
            scenario: format!("INS.0{n}.01"),
            scenario_title: String::new(),
            criticite: String::new(),
            conditional: false,
            items: items.iter().filter(|i| i.filed_under == FiledUnder::Preuve(id.clone())).map(|i| i.id.clone()).collect(),
            verdict: None,
            id,
        }
    };
    let mut totals = Totals { items: items.len() as u32, files: items.len() as u32, preuves_expected: 4, ..Totals::default() };
    for item in &items {
        *totals.verdicts.entry(item.verdict.as_str().to_owned()).or_default() += 1;
        item.findings.iter().for_each(|f| totals.count(f));
    }
    Report {
        schema: SCHEMA.into(),
        id: format!("report of revision {revision}"),
        producer: "greffier".into(),
        pipeline: PipelineRef {
            id: "lgc-vague-2".into(),
            version: "1".into(),
            title: Text::new("LGC vague 2", "LGC wave 2"),
            profiles: Default::default(),
            sha256: "00".into(),
            catalogue_version: "1".into(),
            catalogue_source: "inventé".into(),
        },
        candidature: Candidature { number: "IZCYKCWXGY".into(), ..Candidature::default() },
        stage: Stage::Chapter { chapter: "ins".into() },
        revision,
        submitted_at: None,
        verdict: Verdict::of(items.iter().flat_map(|i| &i.findings).map(|f| f.severity)),
        findings: Vec::new(),
        chapters: Vec::new(),
        preuves: (1..=4).map(preuve).collect(),
        slots: Vec::new(),
        obsolete_versions: Vec::new(),
        obsolete_columns: Vec::new(),
        documentation: Vec::new(),
        limitations: Vec::new(),
        round: None,
        items,
        totals,
    }
}
