//! What a rule may care about in the facts of a link. Pure: no clock, no network.
//!
//! The verdict rule: a report proves a pass if it says PASSED, lists no failed ERROR assertion and no error of the
//! validator, and its counters, its parts and the server's record agree. UNDEFINED is not a pass, a missing
//! result is not one, and a warning inside a report does not fail it.

use jiff::{SignedDuration, Timestamp};

use crate::model::gazelle::{
    Expectation, GazelleFacts, GazelleOutcome, GazellePolicy, GazelleReport, HostRole, LinkFacts, LinkKind, NotAllowed, ReportDate,
    TestResult, Unreachable,
};
use crate::model::{Place, Signal};

use super::fetch::AVAILABILITY;
use super::link::is_oid;
use super::pin::record_result;

/// A moment without offset may be Paris time read as UTC, which is up to two hours ahead of the truth.
const NAIVE_SLACK: SignedDuration = SignedDuration::from_hours(2);

/// The signals of one link. `window` is the time in which the validation is expected: from the opening of the
/// démarche to the deposit, both included.
pub fn assess(
    facts: &GazelleFacts,
    policy: &GazellePolicy,
    expectation: Option<&Expectation>,
    window: Option<(Timestamp, Timestamp)>,
) -> Vec<Signal> {
    let mut signals = Vec::new();
    link(facts, policy, &mut signals);
    outcome(facts, &mut signals);
    if let Some(report) = facts.report() {
        result(report, &mut signals);
        counters(report, &mut signals);
        date(report, window, &mut signals);
        if let Some(expectation) = expectation {
            expected(report, expectation, &mut signals);
        }
        record(&facts.link, report, &mut signals);
    }
    history(facts, &mut signals);
    signals
}

/// The address itself.
fn link(facts: &GazelleFacts, policy: &GazellePolicy, signals: &mut Vec<Signal>) {
    let link = &facts.link;
    let proof = link.kind.is_some_and(|kind| kind.is_report() || kind.is_shape_only());
    if !proof {
        return;
    }
    if link.upgraded_from_http {
        signals.push(Signal::new("gazelle-link-http").arg("link", link.shown.as_str()));
    }
    let Some(host) = &link.host else { return };
    let role = policy.hosts.iter().find(|rule| rule.host.eq_ignore_ascii_case(host)).map(|rule| rule.role);
    if role.is_some_and(|role| role != HostRole::Referencement) {
        signals.push(Signal::new("gazelle-wrong-environment").arg("host", host.as_str()).arg("expected", policy.referencement_hosts()));
    }
    if let Some(oid) = link.result_id.as_deref().filter(|id| is_oid(id))
        && link.kind.is_some_and(LinkKind::is_report)
        && matches!(role, Some(HostRole::Referencement | HostRole::EarlyTesting))
        && !policy.oid_arcs.is_empty()
        && !policy.oid_arcs.iter().any(|arc| under(oid, arc))
    {
        signals.push(Signal::new("gazelle-oid-unexpected").arg("oid", oid).arg("expected", policy.oid_arcs.join(", ")));
    }
}

/// Whether `oid` is under `arc` (or is it).
fn under(oid: &str, arc: &str) -> bool {
    let arc = arc.trim_end_matches(['.', '*']);
    oid.strip_prefix(arc).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What came of it, where that is no report.
fn outcome(facts: &GazelleFacts, signals: &mut Vec<Signal>) {
    let link = facts.link.shown.as_str();
    let host = facts.link.host.as_deref().unwrap_or("—");
    let id = facts.link.result_id.as_deref().unwrap_or("—");
    let signal = match &facts.outcome {
        GazelleOutcome::Fetched { .. } => return,
        GazelleOutcome::NotALink { why } => Signal::new("gazelle-not-a-link").arg("link", link).arg("why", why.as_str()),
        GazelleOutcome::NotAllowed { why } => match why {
            NotAllowed::Host(host) => Signal::new("gazelle-host-not-allowed").arg("host", host.as_str()),
            NotAllowed::Scheme(scheme) => Signal::new("gazelle-link-forbidden").arg("link", link).arg("what", format!("{scheme}:")),
            NotAllowed::Port(port) => Signal::new("gazelle-link-forbidden").arg("link", link).arg("what", format!(":{port}")),
            NotAllowed::Credentials => Signal::new("gazelle-link-forbidden").arg("link", link).arg("what", "***@"),
        },
        GazelleOutcome::NotAProof => {
            Signal::new("gazelle-not-a-proof").arg("link", link).arg("page", facts.link.kind.map_or("—", LinkKind::as_str))
        }
        GazelleOutcome::NotRecognised { why } => Signal::new("gazelle-link-not-recognised").arg("link", link).arg("why", why.as_str()),
        GazelleOutcome::ShapeOnly => {
            Signal::new("gazelle-shape-only").arg("link", link).arg("page", facts.link.kind.map_or("—", LinkKind::as_str))
        }
        GazelleOutcome::Private { status, opens_with_credential } => {
            if *opens_with_credential {
                signals.push(Signal::new("gazelle-read-with-credential").arg("host", host));
            }
            Signal::new("gazelle-private").arg("host", host).arg("status", *status).arg("key", u8::from(facts.link.has_share_key))
        }
        GazelleOutcome::Unknown => Signal::new("gazelle-unknown").arg("host", host).arg("id", id),
        GazelleOutcome::Pending { progress } => Signal::new("gazelle-pending").arg("id", id).arg("progress", progress.as_str()),
        GazelleOutcome::Offline => Signal::new("gazelle-offline").arg("link", link),
        GazelleOutcome::Unreachable { reason, detail, .. } => {
            let signal = match reason {
                Unreachable::AddressRefused | Unreachable::RedirectRefused => Signal::new("gazelle-request-refused"),
                Unreachable::TooLarge => Signal::new("gazelle-too-large"),
                Unreachable::Unreadable => Signal::new("gazelle-unreadable"),
                Unreachable::PinDamaged => Signal::new("gazelle-pin-damaged"),
                _ => Signal::new("gazelle-unreachable"),
            };
            signal.arg("host", host).arg("reason", reason.as_str()).arg("detail", detail.as_str())
        }
    };
    signals.push(signal);
}

/// Does the report prove a pass?
fn result(report: &GazelleReport, signals: &mut Vec<Signal>) {
    let declared = report.declared_result;
    let computed = report.computed_result;
    let contradiction = |one: String, other: String| Signal::new("gazelle-result-contradiction").arg("one", one).arg("other", other);
    match declared {
        Some(TestResult::Passed) => {}
        Some(TestResult::Failed) => signals.push(
            Signal::new("gazelle-failed")
                .arg("errors", report.computed_counters.errors.max(report.declared_counters.and_then(|c| c.errors).unwrap_or(0)))
                .arg("first", first_failure(report)),
        ),
        Some(TestResult::Undefined) => signals.push(Signal::new("gazelle-undefined").arg("result", "UNDEFINED")),
        None => signals.push(Signal::new("gazelle-undefined").arg("result", "—")),
    }
    if let (Some(declared), Some(computed)) = (declared, computed)
        && declared != computed
    {
        signals.push(contradiction(
            format!("result {declared}"),
            format!(
                "{computed} ({} × ERROR, {} × UNDEFINED, {} × unexpected)",
                report.computed_counters.errors, report.computed_counters.undefined, report.computed_counters.unexpected
            ),
        ));
    } else if declared == Some(TestResult::Passed) && !report.is_pass() && report.declared_elsewhere.is_none() {
        let counters = report.declared_counters.unwrap_or_default();
        signals.push(contradiction(
            "result PASSED".into(),
            format!("counters: {} × ERROR, {} × unexpected", counters.errors.unwrap_or(0), counters.unexpected.unwrap_or(0)),
        ));
    }
    if let (Some(declared), Some(other)) = (declared, report.declared_elsewhere) {
        signals.push(contradiction(format!("result {declared}"), format!("validationOverallResult {other}")));
    }
    if let (Some(declared), Some(recorded)) = (declared, report.record.as_ref().and_then(|r| record_result(r.status.as_deref()?)))
        && declared != recorded
    {
        signals.push(contradiction(format!("result {declared}"), format!("status DONE_{recorded}")));
    }
    for part in report.walk() {
        let name = part.name.clone().unwrap_or_else(|| "—".into());
        // Said once where the whole says the same.
        if declared == computed && part.declared_result == Some(TestResult::Passed) && part.computed_result != Some(TestResult::Passed) {
            signals.push(
                contradiction(format!("subReportResult PASSED ({name})"), part.computed_result.map_or("—", TestResult::as_str).into())
                    .at(Place::part(name.clone())),
            );
        }
        if part.declared_result == Some(TestResult::Undefined) && part.computed_result == Some(TestResult::Passed) {
            signals.push(Signal::new("gazelle-part-undefined").at(Place::part(name.clone())).arg("part", name));
        }
    }
    if report.generation.is_status_only() {
        signals.push(Signal::new("gazelle-status-only"));
    }
}

/// The first failed assertion, in words.
fn first_failure(report: &GazelleReport) -> String {
    let parts = report.walk();
    let mut all = parts.iter().flat_map(|part| &part.not_passed);
    let found = all
        .clone()
        .find(|a| a.result == TestResult::Failed && a.severity == crate::model::gazelle::AssertionSeverity::Error)
        .or_else(|| all.next());
    match found {
        Some(a) => match (&a.id, &a.description) {
            (Some(id), Some(text)) => format!("{id}: {text}"),
            (Some(text), None) | (None, Some(text)) => text.clone(),
            (None, None) => "—".into(),
        },
        None => "—".into(),
    }
}

/// Do the counters agree with what is listed?
fn counters(report: &GazelleReport, signals: &mut Vec<Signal>) {
    if report.generation.is_status_only() {
        return;
    }
    let listed = report.computed_counters;
    let declared = report.declared_counters.unwrap_or_default();
    let contradiction = |what: &str, declared: u64, listed: u64| {
        Signal::new("gazelle-counters-contradiction").arg("what", what).arg("declared", declared).arg("listed", listed)
    };
    match declared.assertions {
        Some(n) if n > listed.assertions => {
            signals.push(Signal::new("gazelle-report-incomplete").arg("declared", n).arg("listed", listed.assertions));
        }
        Some(n) if n < listed.assertions => signals.push(contradiction("assertions", n, listed.assertions)),
        _ => {}
    }
    let complete = declared.assertions.is_none_or(|n| n <= listed.assertions) && listed.assertions > 0;
    for (what, claimed, found) in [
        ("errors", declared.errors, listed.errors),
        ("warnings", declared.warnings, listed.warnings),
        ("infos", declared.infos, listed.infos),
    ] {
        if let Some(n) = claimed
            && (found > n || (complete && found < n))
        {
            signals.push(contradiction(what, n, found));
        }
    }
    if listed.unexpected > 0 && declared.unexpected == Some(0) {
        signals.push(contradiction("unexpected", 0, listed.unexpected));
    }
    if listed.assertions == 0
        && listed.unexpected == 0
        && declared.assertions.unwrap_or(0) == 0
        && report.declared_result == Some(TestResult::Passed)
    {
        signals.push(Signal::new("gazelle-nothing-tested"));
    }
    let warnings = listed.warnings.max(declared.warnings.unwrap_or(0));
    if warnings > 0 && report.is_pass() {
        signals.push(Signal::new("gazelle-warnings").arg("warnings", warnings));
    }
}

/// Was it done when it should have been?
fn date(report: &GazelleReport, window: Option<(Timestamp, Timestamp)>, signals: &mut Vec<Signal>) {
    let date: Option<&ReportDate> = report.date.as_ref().or_else(|| report.record.as_ref().and_then(|r| r.date.as_ref()));
    let Some(date) = date else {
        signals.push(Signal::new("gazelle-date-missing"));
        return;
    };
    let (Some((start, end)), Ok(at)) = (window, date.at.parse::<Timestamp>()) else { return };
    let slack = if date.without_offset { NAIVE_SLACK } else { SignedDuration::ZERO };
    if at < start {
        signals.push(Signal::new("gazelle-date-before-window").arg("date", date.at.as_str()).arg("start", start.to_string()));
    } else if end.checked_add(slack).is_ok_and(|end| at > end) {
        signals.push(Signal::new("gazelle-date-after-window").arg("date", date.at.as_str()).arg("end", end.to_string()));
    }
}

/// Is it the validation that the requirement asks for?
fn expected(report: &GazelleReport, expectation: &Expectation, signals: &mut Vec<Signal>) {
    let record = report.record.as_ref();
    let mut check = |what: &str, patterns: &[String], found: &[Option<&str>]| {
        let found: Vec<&str> = found.iter().flatten().copied().collect();
        if !patterns.is_empty() && !found.iter().any(|text| patterns.iter().any(|pattern| matches(pattern, text))) {
            let shown = if found.is_empty() { "—".to_owned() } else { found.join(", ") };
            signals.push(
                Signal::new("gazelle-validator-unexpected").arg("what", what).arg("found", shown).arg("expected", patterns.join(" | ")),
            );
        }
    };
    check("service", &expectation.services, &[report.method.service.as_deref(), record.and_then(|r| r.service.as_deref())]);
    check(
        "validator",
        &expectation.validators,
        &[report.method.validator_id.as_deref(), report.method.validator_name.as_deref(), record.and_then(|r| r.validator.as_deref())],
    );
    if expectation.object_names.is_empty() {
        return;
    }
    let from_record = record.map(|r| r.objects.as_slice()).unwrap_or_default();
    let names: Vec<&str> = report.objects.iter().chain(from_record).filter_map(|object| object.name.as_deref()).collect();
    if names.is_empty() {
        signals.push(Signal::new("gazelle-object-unknown").arg("expected", expectation.object_names.join(" | ")));
    } else if !names.iter().any(|name| expectation.object_names.iter().any(|pattern| matches(pattern, name))) {
        signals.push(
            Signal::new("gazelle-object-unexpected").arg("found", names.join(", ")).arg("expected", expectation.object_names.join(" | ")),
        );
    }
}

/// Does the record speak of the result the link names?
fn record(link: &LinkFacts, report: &GazelleReport, signals: &mut Vec<Signal>) {
    let asked = link.result_id.as_deref().filter(|id| is_oid(id));
    let answered = report.record.as_ref().and_then(|r| r.oid.as_deref());
    if let (Some(asked), Some(answered)) = (asked, answered)
        && asked != answered
    {
        signals.push(Signal::new("gazelle-oid-mismatch").arg("asked", asked).arg("answered", answered));
    }
}

/// Where the report comes from, and whether it changed.
fn history(facts: &GazelleFacts, signals: &mut Vec<Signal>) {
    if let Some(replayed) = &facts.replayed {
        let because = replayed.because.as_str();
        signals.push(Signal::new("gazelle-replayed").arg("because", because).arg("fetched_at", replayed.fetched_at.as_str()));
        return;
    }
    if let Some(gone) = facts.drift.iter().find(|d| d.field == AVAILABILITY) {
        signals.push(Signal::new("gazelle-gone").arg("now", gone.now.as_str()).arg("fetched_at", gone.pinned.as_str()));
        return;
    }
    let mut visible = facts.drift.iter().filter(|d| d.field != "bytes").peekable();
    if visible.peek().is_none() && !facts.drift.is_empty() {
        signals.push(Signal::new("gazelle-drift-bytes"));
    }
    for drift in visible {
        signals.push(
            Signal::new("gazelle-drift")
                .arg("field", drift.field.as_str())
                .arg("pinned", drift.pinned.as_str())
                .arg("now", drift.now.as_str()),
        );
    }
}

/// Whether `text` fits `pattern`: case and runs of whitespace do not count, `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let fold = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase().chars().collect::<Vec<_>>();
    let (pattern, text) = (fold(pattern), fold(text));
    // Greedy, with one place to come back to: linear in practice, quadratic at worst, never exponential.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::messages;
    use proptest::prelude::*;

    #[test]
    fn patterns_ignore_case_and_spacing() {
        assert!(matches("Schematron Based CDA Validator", "schematron  based CDA validator "));
        assert!(matches("1.3.6.1.4.1.12559.11.36.8.3.*", "1.3.6.1.4.1.12559.11.36.8.3.19"));
        assert!(matches("*v1.16*", ".Structuration minimale v1.16"));
        assert!(!matches("abc", "abcd") && !matches("*b", "abc") && matches("*", "") && matches("a*c*e", "abcde"));
    }

    #[test]
    fn an_arc_ends_at_a_dot() {
        assert!(under("1.3.6.1.4.1.12559.11.36.4.1", "1.3.6.1.4.1.12559.11.36"));
        assert!(!under("1.3.6.1.4.1.12559.11.360.4.1", "1.3.6.1.4.1.12559.11.36"));
        assert!(under("1.2.3", "1.2.*"));
    }

    #[test]
    fn every_code_said_here_is_explained() {
        let source = include_str!("assess.rs");
        let mut said: Vec<&str> = source.split("Signal::new(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        said.sort_unstable();
        said.dedup();
        let known: Vec<&str> = messages::all().keys().map(String::as_str).filter(|code| code.starts_with("gazelle-")).collect();
        let said: Vec<&str> = said.into_iter().filter(|code| code.starts_with("gazelle-")).collect();
        assert_eq!(said, known);
    }

    proptest! {
        #[test]
        fn matching_never_panics(pattern in "[a*]{0,12}", text in "[ab]{0,40}") {
            let _ = matches(&pattern, &text);
        }
    }
}
