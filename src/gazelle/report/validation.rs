//! Validation reports: v1 (GVR) and v2. The two differ in names, not in structure.
//!
//! The result of a part is the heaviest of what it lists (UNDEFINED > FAILED > PASSED); a failed assertion whose
//! severity is not ERROR does not weigh; an error of the validator itself makes it UNDEFINED. That is how
//! Gazelle computes it. A part that claims FAILED without listing why weighs as claimed.

use crate::model::gazelle::{
    Assertion, AssertionSeverity, Counters, DeclaredCounters, GazelleReport, Generation, Method, SubReport, TestResult,
};

use super::tree::Node;
use super::{counter, date, kept, kept_scalar, result, results, tested_object};

/// Most assertions kept in one report; beyond it they are counted.
const MAX_ASSERTIONS: usize = 500;
/// Most sub-reports kept in one report; beyond it they are counted in their parent.
const MAX_SUB_REPORTS: usize = 300;
/// Deepest sub-report kept: what is written as JSON must be readable again by readers that stop at 128 levels.
pub(super) const MAX_KEPT_DEPTH: usize = 16;
/// Most lines of a list (standards, metadata, errors, objects) kept.
const MAX_LINES: usize = 50;

/// Whether `tree` is a v1 report, told as Gazelle tells it.
pub fn is_v1(tree: &Node) -> bool {
    ["validationOverview", "subReports", "subReport"].iter().any(|name| tree.has(name))
}

/// Whether `tree` is a v2 report.
pub fn is_v2(tree: &Node) -> bool {
    tree.has("overallResult") || tree.has("validationMethod") || tree.has("reports")
}

/// Reads v1.
pub fn read_v1(tree: &Node, generation: Generation) -> GazelleReport {
    let none = Node::default();
    let overview = tree.kid("validationOverview").unwrap_or(&none);
    let mut report = GazelleReport::empty(generation);
    report.uuid = kept_scalar(tree, &["uuid"]);
    report.date = overview.scalar(&["validationDateTime"]).or_else(|| tree.scalar(&["validationDateTime"])).and_then(date);
    report.method = Method {
        service: kept_scalar(overview, &["validationServiceName"]),
        service_version: kept_scalar(overview, &["validationServiceVersion"]),
        validator_id: kept_scalar(overview, &["validatorID"]),
        validator_name: kept_scalar(overview, &["validatorName"]),
        validator_version: kept_scalar(overview, &["validatorVersion"]),
    };
    (report.declared_result, report.declared_elsewhere) = results(&[
        tree.scalar(&["result"]),
        overview.scalar(&["validationOverallResult"]),
        tree.scalar(&["validationOverallResult"]),
        overview.scalar(&["validationTestResult"]),
        tree.scalar(&["validationTestResult"]),
    ]);
    report.declared_counters = tree.kid("counters").map(declared_counters);
    metadata(overview, &mut report);
    parts(tree, &["subReports", "subReport"], &mut report);
    report
}

/// Reads v2.
pub fn read_v2(tree: &Node, generation: Generation) -> GazelleReport {
    let none = Node::default();
    let method = tree.kid("validationMethod").unwrap_or(&none);
    let mut report = GazelleReport::empty(generation);
    report.model_version = kept_scalar(tree, &["modelVersion"]);
    report.uuid = kept_scalar(tree, &["uuid"]);
    report.date = tree.scalar(&["dateTime"]).and_then(date);
    report.method = Method {
        service: kept_scalar(method, &["validationServiceName"]),
        service_version: kept_scalar(method, &["validationServiceVersion"]),
        validator_id: kept_scalar(method, &["validationProfileID"]),
        validator_name: kept_scalar(method, &["validationProfileName"]),
        validator_version: kept_scalar(method, &["validationProfileVersion"]),
    };
    (report.declared_result, report.declared_elsewhere) = results(&[tree.scalar(&["overallResult"])]);
    report.declared_counters = tree.kid("counters").map(declared_counters);
    report.objects =
        tree.list(&["validationItems", "validationItem", "inputs", "input"]).into_iter().take(MAX_LINES).map(tested_object).collect();
    metadata(tree, &mut report);
    parts(tree, &["reports", "report", "subReports", "subReport"], &mut report);
    report
}

fn metadata(node: &Node, report: &mut GazelleReport) {
    for entry in node.list(&["additionalMetadata", "metadata"]).into_iter().take(MAX_LINES) {
        let value = kept_scalar(entry, &["value"]).or_else(|| entry.own_text().map(kept));
        if let (Some(name), Some(value)) = (kept_scalar(entry, &["name"]), value) {
            report.metadata.insert(name, value);
        }
    }
}

/// The sub-reports of `tree`, and what follows from them.
fn parts(tree: &Node, names: &[&str], report: &mut GazelleReport) {
    let mut room = Room { assertions: MAX_ASSERTIONS, sub_reports: MAX_SUB_REPORTS, ran_out: false };
    // Assertions or errors that stand outside any sub-report.
    let mut loose = SubReport::default();
    loose.computed_result = Some(own(tree, &mut loose, &mut room));
    let mut heaviest = None;
    for node in tree.list(names) {
        let part = sub_report(node, 1, &mut room);
        heaviest = heaviest.max(part.computed_result);
        report.computed_counters.add(&part.counters);
        if report.sub_reports.len() < MAX_SUB_REPORTS {
            report.sub_reports.push(part);
        } else {
            room.ran_out = true;
        }
    }
    if loose.counters != Counters::default() {
        heaviest = heaviest.max(loose.computed_result);
        report.computed_counters.add(&loose.counters);
        report.sub_reports.push(loose);
    }
    report.computed_result = heaviest;
    report.truncated = room.ran_out;
}

struct Room {
    assertions: usize,
    sub_reports: usize,
    ran_out: bool,
}

/// The assertions and errors that `node` itself lists: counted and kept in `part`; gives what they weigh.
fn own(node: &Node, part: &mut SubReport, room: &mut Room) -> TestResult {
    let mut heaviest = TestResult::Passed;
    for assertion in node.list(&["constraints", "constraint", "assertionReports", "assertionReport"]) {
        heaviest = heaviest.max(count(assertion, part, room));
    }
    let errors = node.list(&["unexpectedErrors", "unexpectedError"]);
    part.counters.unexpected = part.counters.unexpected.saturating_add(errors.len() as u64);
    if !errors.is_empty() {
        heaviest = TestResult::Undefined;
    }
    part.unexpected_errors.extend(errors.into_iter().take(MAX_LINES).map(unexpected));
    heaviest
}

/// One sub-report and everything below it. The depth of the recursion is that of the tree, which is bounded.
fn sub_report(node: &Node, depth: usize, room: &mut Room) -> SubReport {
    let mut part = SubReport {
        name: kept_scalar(node, &["name"]),
        standards: node.list(&["standards", "standard"]).into_iter().take(MAX_LINES).filter_map(|s| s.own_text().map(kept)).collect(),
        declared_result: node.scalar(&["subReportResult"]).and_then(result),
        declared_counters: node.kid("subCounters").map(declared_counters),
        ..SubReport::default()
    };
    let mut heaviest = own(node, &mut part, room);
    for kid in node.list(&["subReports", "subReport"]) {
        let inner = sub_report(kid, depth + 1, room);
        heaviest = heaviest.max(inner.computed_result.unwrap_or(TestResult::Passed));
        part.counters.add(&inner.counters);
        if room.sub_reports > 0 && depth < MAX_KEPT_DEPTH {
            room.sub_reports -= 1;
            part.sub_reports.push(inner);
        } else {
            room.ran_out = true;
        }
    }
    // A part may claim to have failed and not list why; it cannot claim to have passed against its list. One
    // that lists nothing and claims UNDEFINED was not run: Gazelle counts it as passed, and so do we.
    if part.declared_result == Some(TestResult::Failed) {
        heaviest = heaviest.max(TestResult::Failed);
    }
    part.computed_result = Some(heaviest);
    part
}

/// Counts one assertion, keeps it if it did not pass, and gives what it weighs.
fn count(node: &Node, part: &mut SubReport, room: &mut Room) -> TestResult {
    let outcome = node.scalar(&["testResult", "result"]).and_then(result).unwrap_or(TestResult::Undefined);
    let severity = node.scalar(&["severity"]).and_then(severity).unwrap_or_else(|| computed_severity(node, outcome));
    let counters = &mut part.counters;
    counters.assertions += 1;
    match (outcome, severity) {
        (TestResult::Passed, _) => {}
        (TestResult::Failed, AssertionSeverity::Error) => counters.errors += 1,
        (TestResult::Failed, AssertionSeverity::Warning) => counters.warnings += 1,
        (TestResult::Failed, AssertionSeverity::Info) => counters.infos += 1,
        (TestResult::Undefined, _) => counters.undefined += 1,
    }
    let errors = node.list(&["unexpectedErrors", "unexpectedError"]);
    counters.unexpected = counters.unexpected.saturating_add(errors.len() as u64);
    part.unexpected_errors.extend(errors.iter().take(MAX_LINES.saturating_sub(part.unexpected_errors.len())).map(|e| unexpected(e)));
    if outcome != TestResult::Passed {
        if room.assertions > 0 {
            room.assertions -= 1;
            part.not_passed.push(Assertion {
                id: kept_scalar(node, &["constraintID", "assertionID", "constraintType"]),
                description: kept_scalar(node, &["constraintDescription", "description"]),
                location: location(node),
                severity,
                result: outcome,
            });
        } else {
            room.ran_out = true;
        }
    }
    match (outcome, severity) {
        _ if !errors.is_empty() => TestResult::Undefined,
        (TestResult::Failed, AssertionSeverity::Info | AssertionSeverity::Warning) => TestResult::Passed,
        (outcome, _) => outcome,
    }
}

fn location(node: &Node) -> Option<String> {
    if let Some(text) = kept_scalar(node, &["locationInValidatedObject", "subjectLocation"]) {
        return Some(text);
    }
    let places: Vec<_> = node.list(&["subjectLocations"]).into_iter().take(5).filter_map(|l| l.scalar(&["value"])).collect();
    (!places.is_empty()).then(|| kept(&places.join(", ")))
}

fn severity(text: &str) -> Option<AssertionSeverity> {
    match text.trim().to_ascii_uppercase().as_str() {
        "INFO" => Some(AssertionSeverity::Info),
        "WARNING" => Some(AssertionSeverity::Warning),
        "ERROR" => Some(AssertionSeverity::Error),
        _ => None,
    }
}

/// Where none is given, priority decides; where that is missing too, the requirement is mandatory.
fn computed_severity(node: &Node, outcome: TestResult) -> AssertionSeverity {
    if outcome == TestResult::Passed {
        return AssertionSeverity::Info;
    }
    match node.scalar(&["priority"]).map(str::to_ascii_uppercase).as_deref() {
        Some("RECOMMENDED") => AssertionSeverity::Warning,
        Some("PERMITTED") => AssertionSeverity::Info,
        _ => AssertionSeverity::Error,
    }
}

fn unexpected(node: &Node) -> String {
    let name = node.scalar(&["name"]);
    let message = node.scalar(&["message"]).or_else(|| node.own_text());
    match (name, message) {
        (Some(name), Some(message)) => kept(&format!("{name}: {message}")),
        (Some(text), None) | (None, Some(text)) => kept(text),
        (None, None) => String::new(),
    }
}

fn declared_counters(node: &Node) -> DeclaredCounters {
    DeclaredCounters {
        assertions: counter(node, &["numberOfAssertions", "numberOfConstraints"]),
        infos: counter(node, &["numberOfFailedWithInfos", "failedWithInfoNumber", "numberOfInfos"]),
        warnings: counter(node, &["numberOfFailedWithWarnings", "numberOfWarnings"]),
        errors: counter(node, &["numberOfFailedWithErrors", "numberOfErrors"]),
        undefined: counter(node, &["numberOfUndefined"]),
        unexpected: counter(node, &["numberOfUnexpectedErrors"]),
    }
}
