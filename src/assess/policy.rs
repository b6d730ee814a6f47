//! From signals to findings: texts, category, and the severity that the pipeline gives.

use std::collections::{BTreeMap, HashMap};

use crate::model::facts::Facts;
use crate::model::text::display_safe;
use crate::model::work::Work;
use crate::model::{Category, Code, Finding, Lang, Severity, Signal, Text, messages};
use crate::pipeline::Policy;

/// Severities that a pipeline sets, by code.
pub type Severities = BTreeMap<String, Policy>;

/// At most this many findings of one code are kept per item; the rest is counted in `more`.
const MAX_FINDINGS_PER_CODE: usize = 20;

/// At most this many codes are kept of one file: more than one file can honestly have.
const MAX_CODES: usize = 200;

/// The finding a signal makes; `None` where the pipeline ignores its code.
pub fn finding(signal: &Signal, severities: &Severities) -> Option<Finding> {
    let Some(message) = messages::get(&signal.code) else {
        // Stored facts of another version may hold a code this one does not know. Never dropped in silence.
        return Some(unknown_code(&signal.code));
    };
    let severity = match severities.get(signal.code.as_str()) {
        Some(policy) if !is_settled(message.category, message.severity) => policy.severity()?,
        _ => message.severity,
    };
    let fill = |text: &Text| Text::new(messages::fill(&text.fr, &signal.args, Lang::Fr), messages::fill(&text.en, &signal.args, Lang::En));
    Some(Finding {
        code: signal.code.clone(),
        severity,
        category: message.category,
        place: signal.place.clone(),
        summary: message.summary.clone(),
        reason: fill(&message.reason),
        remedy: fill(&message.remedy),
        args: signal.args.clone(),
        more: signal.more,
    })
}

/// What no pipeline may call anything else: a technical failure is not clean, and what an operator requires of the antivirus is
/// his to take back (`antivirus.required`). Otherwise a file could be made to exceed the antivirus, and be accepted for it.
fn is_settled(category: Category, severity: Severity) -> bool {
    severity == Severity::Fatal || (category == Category::Antivirus && severity == Severity::Error)
}

/// The findings of a file and of everything inside it, places seen from outside. Floods of one code are folded before their
/// texts are made: a hostile archive has signals by the hundred thousand, and a finding takes kilobytes.
pub fn findings_of_facts(facts: &Facts, severities: &Severities, work: &Work) -> Vec<Finding> {
    let mut kept = Folded::default();
    gather(facts, &mut Vec::new(), severities, work, &mut kept);
    kept.findings
}

/// Findings of one item, folded by code as they come.
#[derive(Default)]
struct Folded {
    findings: Vec<Finding>,
    /// How many of a code are kept, and where the last of them stands.
    by_code: HashMap<Code, (usize, usize)>,
}

fn gather<'f>(facts: &'f Facts, path: &mut Vec<&'f str>, severities: &Severities, work: &Work, kept: &mut Folded) {
    for signal in work.each(&facts.signals) {
        let (same, last) = kept.by_code.get(&signal.code).copied().unwrap_or_default();
        // Past the number of all codes there are, what comes is not an inspector's.
        let last = if same == 0 && kept.by_code.len() >= MAX_CODES {
            kept.findings.len().checked_sub(1)
        } else {
            (same >= MAX_FINDINGS_PER_CODE).then_some(last)
        };
        if let Some(last) = last.and_then(|n| kept.findings.get_mut(n)) {
            last.more = last.more.saturating_add(1).saturating_add(signal.more);
            continue;
        }
        let Some(mut finding) = finding(signal, severities) else { continue };
        for member in path.iter().rev() {
            finding.place = finding.place.inside(member);
        }
        kept.by_code.insert(signal.code.clone(), (same + 1, kept.findings.len()));
        kept.findings.push(finding);
    }
    for member in work.each(facts.members()) {
        if let Some(inner) = &member.facts {
            path.push(&member.name);
            gather(inner, path, severities, work, kept);
            path.pop();
        }
    }
}

/// Keeps the first finding of each severity and counts the others with it: for a submission that has more than a report can hold.
pub fn fold(findings: &mut Vec<Finding>) {
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings.drain(..) {
        match kept.iter_mut().find(|k| k.severity == finding.severity) {
            Some(first) => first.more = first.more.saturating_add(1).saturating_add(finding.more),
            None => kept.push(finding),
        }
    }
    *findings = kept;
}

/// Adds findings to a list one by one, and counts those of one code past [`MAX_FINDINGS_PER_CODE`] before their texts are made.
#[derive(Debug, Default)]
pub struct Told {
    /// By code: how many were added, and where the last one stands.
    by_code: BTreeMap<Code, (usize, usize)>,
}

impl Told {
    /// Adds the finding that `signal` makes to `findings`, to which nothing else is added meanwhile.
    pub fn add(&mut self, findings: &mut Vec<Finding>, signal: &Signal, severities: &Severities) {
        let (same, last) = self.by_code.get(&signal.code).copied().unwrap_or_default();
        if same >= MAX_FINDINGS_PER_CODE {
            if let Some(last) = findings.get_mut(last) {
                last.more = last.more.saturating_add(1).saturating_add(signal.more);
            }
        } else if let Some(finding) = finding(signal, severities) {
            self.by_code.insert(signal.code.clone(), (same + 1, findings.len()));
            findings.push(finding);
        }
    }
}

/// Puts findings in reading order (heaviest first, then code, then as found), and folds floods of one code.
pub fn settle(findings: &mut Vec<Finding>) {
    findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.code.cmp(&b.code)));
    let mut kept: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings.drain(..) {
        let same = kept.iter().rev().take_while(|k| k.code == finding.code && k.severity == finding.severity).count();
        match kept.last_mut() {
            Some(last) if same >= MAX_FINDINGS_PER_CODE => last.more = last.more.saturating_add(1).saturating_add(finding.more),
            _ => kept.push(finding),
        }
    }
    *findings = kept;
}

fn unknown_code(code: &Code) -> Finding {
    // It may come from a child that a file took over.
    let code = display_safe(code.as_str(), 80);
    Finding {
        code: Code::parse(&code),
        severity: Severity::Fatal,
        category: Category::Technical,
        place: crate::model::Place::default(),
        summary: Text::new("Constat d'une autre version", "Finding of another version"),
        reason: Text::new(
            format!("Le code « {code} » n'est pas connu de cette version de greffier."),
            format!("The code “{code}” is not known to this version of greffier."),
        ),
        remedy: Text::new(
            "Rien à corriger de votre côté : la vérification sera relancée.",
            "Nothing to fix on your side: the check will be run again.",
        ),
        args: BTreeMap::new(),
        more: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_sets_severities_but_cannot_silence_a_technical_failure() {
        let severities = BTreeMap::from([
            ("bomb-depth".to_owned(), Policy::Warning),
            ("bomb-members".to_owned(), Policy::Ignore),
            ("sandbox-wall".to_owned(), Policy::Ignore),
        ]);
        assert_eq!(finding(&Signal::new("bomb-depth"), &severities).unwrap().severity, Severity::Warning);
        assert!(finding(&Signal::new("bomb-members"), &severities).is_none());
        assert_eq!(finding(&Signal::new("sandbox-wall"), &severities).unwrap().severity, Severity::Fatal);
    }

    #[test]
    fn what_the_antivirus_must_see_is_not_for_a_pipeline_to_forgive() {
        for code in ["antivirus-infected", "antivirus-beyond-limits"] {
            for policy in [Policy::Ignore, Policy::Warning] {
                let severities = BTreeMap::from([(code.to_owned(), policy)]);
                assert_eq!(finding(&Signal::new(code), &severities).unwrap().severity, Severity::Error, "{code}");
            }
        }
        let severities = BTreeMap::from([("antivirus-skipped".to_owned(), Policy::Error)]);
        assert_eq!(finding(&Signal::new("antivirus-skipped"), &severities).unwrap().severity, Severity::Error);
    }

    #[test]
    fn an_unknown_code_is_a_technical_failure_not_silence() {
        let found = finding(&Signal { code: Code::parse("from-the-future"), ..Signal::new("bomb-depth") }, &Severities::new()).unwrap();
        assert_eq!(found.severity, Severity::Fatal);
        let hostile = finding(&Signal { code: Code::parse("\u{1b}[31m"), ..Signal::new("bomb-depth") }, &Severities::new()).unwrap();
        assert_eq!(hostile.code.as_str(), "\u{FFFD}[31m");
        assert!(hostile.reason.fr.contains("« \u{FFFD}[31m »"), "{}", hostile.reason.fr);
    }

    #[test]
    fn a_sentence_about_what_is_not_there_is_left_out() {
        let of = |signal: Signal| finding(&signal, &Severities::new()).unwrap().reason;
        let unknown = Signal::new("preuve-unknown").arg("preuve", "X");
        assert_eq!(of(unknown.clone()).fr, "« X » n'est l'identifiant d'aucune preuve du référentiel.");
        assert_eq!(of(unknown.arg("nearest", "Y")).en, "“X” is the id of no proof of the catalogue. The nearest: Y.");
    }

    #[test]
    fn floods_are_folded_heaviest_first() {
        let severities = Severities::new();
        let mut findings: Vec<_> = (0..50).filter_map(|_| finding(&Signal::new("bomb-depth"), &severities)).collect();
        findings.push(finding(&Signal::new("sandbox-wall"), &severities).unwrap());
        settle(&mut findings);
        assert_eq!(findings.len(), MAX_FINDINGS_PER_CODE + 1);
        assert_eq!(findings[MAX_FINDINGS_PER_CODE - 1].more, 30);
        assert_eq!(findings.last().unwrap().code.as_str(), "sandbox-wall");
    }
}
