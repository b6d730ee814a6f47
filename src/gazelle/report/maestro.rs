//! Maestro test reports: tests run, each of steps. Counters count tests; steps are read as assertions.

use crate::model::gazelle::{Assertion, AssertionSeverity, DeclaredCounters, GazelleReport, Generation, Method, SubReport, TestResult};

use super::tree::Node;
use super::validation::MAX_KEPT_DEPTH;
use super::{counter, date, kept_scalar, result, results};

/// Most runs, and steps of one run, kept.
const MAX_KEPT: usize = 300;

/// Whether `tree` is a Maestro report.
pub fn is_maestro(tree: &Node) -> bool {
    tree.has("testRunReports") || tree.has("testCounters")
}

/// Reads it. Nested reports are read likewise, as deep as the tree goes, which is bounded.
pub fn read(tree: &Node) -> GazelleReport {
    let mut report = GazelleReport::empty(Generation::MaestroJson);
    report.uuid = kept_scalar(tree, &["uuid"]);
    report.date = tree.scalar(&["dateTime"]).and_then(date);
    report.method = Method { service: Some("Maestro".into()), ..Method::default() };
    (report.declared_result, report.declared_elsewhere) = results(&[tree.scalar(&["result"])]);
    report.declared_counters = tree.kid("testCounters").map(|c| DeclaredCounters {
        assertions: counter(c, &["total"]),
        errors: counter(c, &["failed"]),
        undefined: counter(c, &["undefined"]),
        unexpected: counter(c, &["unexpectedErrors"]),
        ..DeclaredCounters::default()
    });
    let mut room = MAX_KEPT;
    let part = suite(tree, 0, &mut room);
    report.computed_counters = part.counters;
    if part.counters.assertions > 0 || part.counters.unexpected > 0 {
        report.computed_result = part.computed_result;
    }
    if let Some(first) = part.sub_reports.first() {
        report.method.validator_name.clone_from(&first.name);
    }
    report.truncated = room == 0;
    report.sub_reports = part.sub_reports;
    report
}

/// The runs and nested reports of one report.
fn suite(node: &Node, depth: usize, room: &mut usize) -> SubReport {
    let mut part = SubReport {
        name: kept_scalar(node, &["name"]),
        declared_result: node.scalar(&["result"]).and_then(result),
        ..SubReport::default()
    };
    let mut heaviest = TestResult::Passed;
    let mut keep = |inner: SubReport, room: &mut usize| {
        heaviest = heaviest.max(inner.computed_result.unwrap_or(TestResult::Passed));
        part.counters.add(&inner.counters);
        if *room > 0 && depth < MAX_KEPT_DEPTH {
            *room -= 1;
            part.sub_reports.push(inner);
        }
    };
    for node in node.list(&["testRunReports", "testRunReport"]) {
        keep(run(node), room);
    }
    for node in node.list(&["subReports", "subReport"]) {
        let inner = suite(node, depth + 1, room);
        keep(inner, room);
    }
    part.computed_result = Some(heaviest);
    part
}

/// One test run: its claimed result or the heaviest of its steps, whichever weighs more.
fn run(node: &Node) -> SubReport {
    let none = Node::default();
    let test = node.kid("test").unwrap_or(&none);
    let mut part = SubReport {
        name: kept_scalar(test, &["name", "id"]).or_else(|| kept_scalar(node, &["runId"])),
        declared_result: node.scalar(&["result"]).and_then(result),
        ..SubReport::default()
    };
    let mut heaviest = TestResult::Passed;
    let steps = node.list(&["stepRunReports", "stepRunReport"]);
    for step in &steps {
        let outcome = step.scalar(&["result"]).and_then(result).unwrap_or(TestResult::Undefined);
        heaviest = heaviest.max(outcome);
        if outcome != TestResult::Passed && part.not_passed.len() < MAX_KEPT {
            part.not_passed.push(Assertion {
                id: kept_scalar(step, &["stepName", "name"]),
                description: kept_scalar(step, &["type"]),
                location: None,
                severity: AssertionSeverity::Error,
                result: outcome,
            });
        }
    }
    if steps.is_empty() {
        // Nothing listed below: what the run claims is all there is.
        heaviest = part.declared_result.unwrap_or(TestResult::Undefined);
    } else if let Some(claimed) = part.declared_result {
        heaviest = heaviest.max(claimed);
    }
    part.counters.assertions = 1;
    match heaviest {
        TestResult::Passed => {}
        TestResult::Failed => part.counters.errors = 1,
        TestResult::Undefined => part.counters.undefined = 1,
    }
    part.computed_result = Some(heaviest);
    part
}
