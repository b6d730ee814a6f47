//! Report variants: each is served, fetched, read, assessed; signals and verdict must be exactly these.
//! `cargo test --test it variants -- --nocapture` prints the table.

use std::io::Write as _;

use greffier::model::Verdict;
use greffier::model::gazelle::Generation;

use super::server::{OID, Reply, Server, codes, signals, verdict};

use Generation::{GvrJson, GvrXml, LegacyText, MaestroJson, RecordOnly, V2Json, V2Xml};

const OK: Verdict = Verdict::Accepted;
const WARN: Verdict = Verdict::AcceptedWithWarnings;
const KO: Verdict = Verdict::Rejected;
const UNDET: Verdict = Verdict::Undetermined;

struct Variant {
    name: &'static str,
    reply: Reply,
    generation: Option<Generation>,
    codes: &'static [&'static str],
    verdict: Verdict,
}

fn v(name: &'static str, reply: Reply, generation: Generation, codes: &'static [&'static str], verdict: Verdict) -> Variant {
    Variant { name, reply, generation: Some(generation), codes, verdict }
}

fn no(name: &'static str, reply: Reply, codes: &'static [&'static str], verdict: Verdict) -> Variant {
    Variant { name, reply, generation: None, codes, verdict }
}

const DATE: &str = r#"validationDateTime="2025-09-30T12:44:06.137Z""#;

/// A v1 report: attributes of the root, of the overview, and what follows the overview.
fn gvr(root: &str, overview: &str, rest: &str) -> Reply {
    Reply::xml(format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><gvr:validationReport xmlns:gvr="http://validationreport.gazelle.ihe.net/" {root} uuid="u-1"><gvr:validationOverview {overview}><gvr:disclaimer>d</gvr:disclaimer><gvr:validationServiceName>Schematron Based CDA Validator</gvr:validationServiceName><gvr:validatorID>1.3.6.1.4.1.12559.11.36.8.3.19</gvr:validatorID></gvr:validationOverview>{rest}</gvr:validationReport>"#
    ))
}

/// A v1 sub-report.
fn part(result: &str, constraints: &str) -> String {
    format!(r#"<gvr:subReport name="Part" subReportResult="{result}">{constraints}</gvr:subReport>"#)
}

fn constraint(attributes: &str) -> String {
    format!(
        r#"<gvr:constraint constraintID="A-1" {attributes}><gvr:constraintDescription>Le champ doit être présent</gvr:constraintDescription><gvr:locationInValidatedObject>/ClinicalDocument</gvr:locationInValidatedObject></gvr:constraint>"#
    )
}

fn good() -> String {
    part("PASSED", &constraint(r#"priority="MANDATORY" severity="INFO" testResult="PASSED""#))
}

const PASSED: &str = r#"result="PASSED""#;

fn overview_passed() -> String {
    format!(r#"{DATE} validationOverallResult="PASSED""#)
}

/// A v2 report with these members besides the usual ones.
fn v2(members: &str) -> Reply {
    Reply::json(format!(
        r#"{{"uuid":"u-2","dateTime":"2025-09-30T12:44:06.137Z","disclaimer":"d","validationMethod":{{"validationServiceName":"Matchbox","validationServiceVersion":"3","validationProfileID":"http://x/profile","validationProfileVersion":"1"}},{members}}}"#
    ))
}

const V2_GOOD: &str = r#"[{"name":"p","standards":["FHIR"],"subReportResult":"PASSED","assertionReports":[{"assertionID":"a","description":"d","subjectLocation":"Bundle","severity":"INFO","priority":"MANDATORY","result":"PASSED"}],"subCounters":{"numberOfAssertions":1,"numberOfFailedWithErrors":0}}]"#;

fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn body(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Full { body, .. } => body,
        _ => unreachable!(),
    }
}

fn variants() -> Vec<Variant> {
    let op = overview_passed();
    let err = constraint(r#"priority="MANDATORY" severity="ERROR" testResult="FAILED""#);
    let gvr_good =
        || gvr(PASSED, &op, &format!(r#"<gvr:counters numberOfConstraints="1" numberOfErrors="0" numberOfWarnings="0"/>{}"#, good()));
    let gvr_text = String::from_utf8(body(gvr_good())).unwrap();
    vec![
        // v1, XML
        v("v1 xml, passed, counters agree", gvr_good(), GvrXml, &[], OK),
        v(
            "v1 xml, failed, nested, no counters (official sample)",
            gvr(r#"result="FAILED""#, &format!(r#"{DATE} validationOverallResult="FAILED""#), &part("FAILED", &part("FAILED", &err))),
            GvrXml,
            &["gazelle-failed"],
            KO,
        ),
        v("v1 xml, default namespace", Reply::xml(gvr_text.replace("gvr:", "").replace("xmlns:gvr", "xmlns")), GvrXml, &[], OK),
        v("v1 xml, another prefix", Reply::xml(gvr_text.replace("gvr:", "ns2:").replace("xmlns:gvr", "xmlns:ns2")), GvrXml, &[], OK),
        v(
            "v1 xml, gateway dump: elements, wrapped lists",
            Reply::xml(
                "<ValidationReport><uuid>u</uuid><result>PASSED</result><validationOverview><validationDateTime>2025-09-30T12:44:06Z</validationDateTime><validationOverallResult>PASSED</validationOverallResult></validationOverview><subReports><subReports><name>p</name><subReportResult>PASSED</subReportResult><constraints><constraints><constraintID>a</constraintID><testResult>PASSED</testResult></constraints></constraints></subReports></subReports></ValidationReport>",
            ),
            GvrXml,
            &[],
            OK,
        ),
        v("v1 xml, result in lower case", gvr(r#"result="passed""#, DATE, &good()), GvrXml, &[], OK),
        v("v1 xml, result in the overview only", gvr("", &op, &good()), GvrXml, &[], OK),
        v("v1 xml, unreadable result, readable overview", gvr(r#"result="DONE""#, &op, &good()), GvrXml, &[], OK),
        v("v1 xml, validationTestResult alias", gvr(r#"validationTestResult="PASSED""#, DATE, &good()), GvrXml, &[], OK),
        v("v1 xml, result is the word null", gvr(r#"result="null""#, DATE, &good()), GvrXml, &["gazelle-undefined"], KO),
        v("v1 xml, UNDEFINED", gvr(r#"result="UNDEFINED""#, DATE, ""), GvrXml, &["gazelle-undefined"], KO),
        v("v1 xml, PASSED above a listed error", gvr(PASSED, &op, &part("FAILED", &err)), GvrXml, &["gazelle-result-contradiction"], KO),
        v(
            "v1 xml, PASSED with 2 errors counted",
            gvr(PASSED, &op, &format!(r#"<gvr:counters numberOfConstraints="9" numberOfErrors="2"/>{}"#, good())),
            GvrXml,
            &["gazelle-report-incomplete", "gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v1 xml, PASSED here, FAILED in the overview",
            gvr(PASSED, &format!(r#"{DATE} validationOverallResult="FAILED""#), &good()),
            GvrXml,
            &["gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v1 xml, FAILED above nothing wrong",
            gvr(r#"result="FAILED""#, DATE, &good()),
            GvrXml,
            &["gazelle-failed", "gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v1 xml, a part claims PASSED above its error",
            gvr(r#"result="FAILED""#, DATE, &part("PASSED", &err)),
            GvrXml,
            &["gazelle-failed", "gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v1 xml, recommendations not followed",
            gvr(PASSED, &op, &part("PASSED", &constraint(r#"priority="RECOMMENDED" severity="WARNING" testResult="FAILED""#))),
            GvrXml,
            &["gazelle-warnings"],
            OK,
        ),
        v(
            "v1 xml, failed without priority or severity: mandatory",
            gvr(PASSED, &op, &part("PASSED", &constraint(r#"testResult="FAILED""#))),
            GvrXml,
            &["gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v1 xml, unknown severity, recommended",
            gvr(PASSED, &op, &part("PASSED", &constraint(r#"severity="MINOR" priority="RECOMMENDED" testResult="FAILED""#))),
            GvrXml,
            &["gazelle-warnings"],
            OK,
        ),
        v(
            "v1 xml, an assertion is UNDEFINED",
            gvr(PASSED, &op, &part("PASSED", &constraint(r#"testResult="UNDEFINED""#))),
            GvrXml,
            &["gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v1 xml, error of the validator under PASSED",
            gvr(
                PASSED,
                &op,
                &part(
                    "PASSED",
                    "<gvr:unexpectedErrors><gvr:name>IOException</gvr:name><gvr:message>boom</gvr:message></gvr:unexpectedErrors>",
                ),
            ),
            GvrXml,
            &["gazelle-result-contradiction"],
            KO,
        ),
        v("v1 xml, no date", gvr(PASSED, r#"validationOverallResult="PASSED""#, &good()), GvrXml, &["gazelle-date-missing"], WARN),
        v(
            "v1 xml, unreadable date is no date",
            gvr(PASSED, r#"validationDateTime="hier à midi""#, &good()),
            GvrXml,
            &["gazelle-date-missing"],
            WARN,
        ),
        v("v1 xml, date without offset", gvr(PASSED, r#"validationDateTime="2025-09-30T12:44:06.137""#, &good()), GvrXml, &[], OK),
        v("v1 xml, offset without colon", gvr(PASSED, r#"validationDateTime="2025-09-30T14:44:06+0200""#, &good()), GvrXml, &[], OK),
        v(
            "v1 xml, passed constraints left out",
            gvr(PASSED, &op, &format!(r#"<gvr:counters numberOfConstraints="412" numberOfErrors="0"/>{}"#, good())),
            GvrXml,
            &["gazelle-report-incomplete"],
            OK,
        ),
        v(
            "v1 xml, counts fewer than it lists",
            gvr(PASSED, &op, &format!(r#"<gvr:counters numberOfConstraints="1" numberOfErrors="0"/>{}{}"#, good(), good())),
            GvrXml,
            &["gazelle-counters-contradiction"],
            WARN,
        ),
        v("v1 xml, PASSED on nothing", gvr(PASSED, &op, ""), GvrXml, &["gazelle-nothing-tested"], WARN),
        v(
            "v1 xml, a part that was not run",
            gvr(PASSED, &op, &format!("{}{}", good(), part("UNDEFINED", ""))),
            GvrXml,
            &["gazelle-part-undefined"],
            OK,
        ),
        v(
            "v1 xml, ISO-8859-1",
            Reply::xml(encoding_rs::WINDOWS_1252.encode(&gvr_text.replace("UTF-8", "ISO-8859-1").replace(">d<", ">été<")).0.into_owned()),
            GvrXml,
            &[],
            OK,
        ),
        v(
            "v1 xml, UTF-16 with byte order mark",
            Reply::xml([0xFF, 0xFE].into_iter().chain(gvr_text.encode_utf16().flat_map(u16::to_le_bytes)).collect::<Vec<u8>>()),
            GvrXml,
            &[],
            OK,
        ),
        v(
            "v1 xml, inside a ZIP, after a note",
            Reply::Full {
                status: 200,
                headers: vec![],
                body: zipped(&[("lisez-moi.txt", b"bonjour"), ("report.xml", gvr_text.as_bytes())]),
            },
            GvrXml,
            &[],
            OK,
        ),
        // v1, JSON
        v(
            "v1 json, singular names",
            Reply::json(
                r#"{"result":"PASSED","uuid":"u","validationOverview":{"validationDateTime":"2025-09-30T12:44:06Z","validationOverallResult":"PASSED"},"subReport":[{"name":"p","subReportResult":"PASSED","constraint":[{"constraintID":"a","testResult":"PASSED"}]}]}"#,
            ),
            GvrJson,
            &[],
            OK,
        ),
        v(
            "v1 json, plural names, subjectLocations",
            Reply::json(
                r#"{"result":"FAILED","validationOverview":{"validationDateTime":"2025-09-30T12:44:06Z"},"subReports":[{"name":"p","subReportResult":"FAILED","constraints":[{"constraintID":"a","constraintDescription":"d","testResult":"FAILED","severity":"ERROR","subjectLocations":[{"type":"xpath","value":"/a"}]}]}]}"#,
            ),
            GvrJson,
            &["gazelle-failed"],
            KO,
        ),
        v(
            "v1 json, counters with infos",
            Reply::json(
                r#"{"result":"PASSED","validationOverview":{"validationDateTime":"2025-09-30T12:44:06Z"},"counters":{"numberOfConstraints":1,"numberOfErrors":0,"numberOfWarnings":0,"failedWithInfoNumber":1},"subReports":[{"name":"p","subReportResult":"PASSED","constraints":[{"testResult":"FAILED","severity":"INFO","priority":"PERMITTED"}]}]}"#,
            ),
            GvrJson,
            &[],
            OK,
        ),
        // v2
        v(
            "v2 json 0.1, passed, document dropped",
            v2(&format!(
                r#""modelVersion":"0.1","overallResult":"PASSED","reports":{V2_GOOD},"validationItems":[{{"itemId":"first","content":"aGVsbG8=","role":"request"}}],"counters":{{"numberOfAssertions":1,"numberOfFailedWithErrors":0,"numberOfUnexpectedErrors":0}}"#
            )),
            V2Json,
            &[],
            OK,
        ),
        v(
            "v2 json 2.0, inputs, subjectLocations, recommendation",
            v2(
                r#""modelVersion":"2.0","overallResult":"PASSED","reports":[{"name":"p","subReportResult":"PASSED","assertionReports":[{"assertionID":"a","severity":"WARNING","priority":"RECOMMENDED","result":"FAILED","subjectLocations":[{"type":"FHIRPath","value":"Bundle","inputId":"i"}]}]}],"inputs":[{"id":"i","content":"aGVsbG8="}]"#,
            ),
            V2Json,
            &["gazelle-warnings"],
            OK,
        ),
        v(
            "v2 json, failed",
            v2(
                r#""overallResult":"FAILED","reports":[{"name":"p","subReportResult":"FAILED","assertionReports":[{"assertionID":"a","severity":"ERROR","priority":"MANDATORY","result":"FAILED"}]}],"counters":{"numberOfAssertions":1,"numberOfFailedWithErrors":1}"#,
            ),
            V2Json,
            &["gazelle-failed"],
            KO,
        ),
        v(
            "v2 json, UNDEFINED outweighs FAILED",
            v2(
                r#""overallResult":"UNDEFINED","reports":[{"name":"p","subReportResult":"FAILED","assertionReports":[{"assertionID":"a","severity":"ERROR","result":"FAILED"}]},{"name":"q","unexpectedErrors":[{"name":"E","message":"m"}]}],"counters":{"numberOfAssertions":1,"numberOfFailedWithErrors":1,"numberOfUnexpectedErrors":1}"#,
            ),
            V2Json,
            &["gazelle-undefined"],
            KO,
        ),
        v(
            "v2 json, PASSED with unexpected errors counted",
            v2(&format!(
                r#""overallResult":"PASSED","reports":{V2_GOOD},"counters":{{"numberOfAssertions":1,"numberOfUnexpectedErrors":1}}"#
            )),
            V2Json,
            &["gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v2 json, a part claims FAILED and lists nothing",
            v2(r#""overallResult":"PASSED","reports":[{"name":"p","subReportResult":"FAILED"}],"counters":{"numberOfAssertions":4}"#),
            V2Json,
            &["gazelle-report-incomplete", "gazelle-result-contradiction"],
            KO,
        ),
        v(
            "v2 json, date in milliseconds",
            Reply::json(format!(r#"{{"dateTime":1759236246137,"overallResult":"PASSED","reports":{V2_GOOD}}}"#)),
            V2Json,
            &[],
            OK,
        ),
        v(
            "v2 xml",
            Reply::xml(
                "<ValidationReport><modelVersion>2.0</modelVersion><dateTime>2025-09-30T12:44:06Z</dateTime><validationMethod><validationServiceName>s</validationServiceName></validationMethod><overallResult>PASSED</overallResult><reports><reports><name>p</name><subReportResult>PASSED</subReportResult><assertionReports><assertionReports><assertionID>a</assertionID><result>PASSED</result></assertionReports></assertionReports></reports></reports><counters><numberOfAssertions>1</numberOfAssertions></counters></ValidationReport>",
            ),
            V2Xml,
            &[],
            OK,
        ),
        // Maestro
        v(
            "maestro, passed",
            Reply::json(
                r#"{"uuid":"m","result":"PASSED","dateTime":"2026-01-10T09:00:00Z","testCounters":{"total":1,"passed":1,"failed":0,"undefined":0,"unexpectedErrors":0},"testRunReports":[{"runId":"r","result":"PASSED","test":{"id":"t","name":"DMP 1"},"stepRunReports":[{"stepName":"s","type":"VALIDATION","result":"PASSED"}]}],"subReports":[]}"#,
            ),
            MaestroJson,
            &[],
            OK,
        ),
        v(
            "maestro, failed step in a nested report",
            Reply::json(
                r#"{"result":"FAILED","dateTime":"2026-01-10T09:00:00Z","testCounters":{"total":1,"passed":0,"failed":1},"testRunReports":[],"subReports":[{"testRunReports":[{"runId":"r","result":"FAILED","test":{"name":"t"},"stepRunReports":[{"name":"s","type":"VALIDATION","result":"FAILED"}]}]}]}"#,
            ),
            MaestroJson,
            &["gazelle-failed"],
            KO,
        ),
        v(
            "maestro, PASSED above a failed step",
            Reply::json(
                r#"{"result":"PASSED","dateTime":"2026-01-10T09:00:00Z","testCounters":{"total":1,"passed":1,"failed":0},"testRunReports":[{"runId":"r","result":"PASSED","stepRunReports":[{"name":"s","result":"FAILED"}]}]}"#,
            ),
            MaestroJson,
            &["gazelle-counters-contradiction", "gazelle-result-contradiction"],
            KO,
        ),
        // No report
        no(
            "xml with a document type",
            Reply::xml(format!("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>{}", gvr_text.split_once("?>").unwrap().1)),
            &["gazelle-unreadable"],
            UNDET,
        ),
        no("xml with an entity of its own", Reply::xml(gvr_text.replace(">d<", ">&e;<")), &["gazelle-unreadable"], UNDET),
        no("xml cut in the middle", Reply::xml(gvr_text[..gvr_text.len() / 2].to_owned()), &["gazelle-unreadable"], UNDET),
        no(
            "xml nested 5 000 deep",
            Reply::xml(format!("{}{}", "<subReport>".repeat(5000), "</subReport>".repeat(5000))),
            &["gazelle-unreadable"],
            UNDET,
        ),
        no("json nested 5 000 deep", Reply::json("[".repeat(5000)), &["gazelle-unreadable"], UNDET),
        no(
            "json that gives its result twice",
            Reply::json(r#"{"overallResult":"FAILED","overallResult":"PASSED","reports":[]}"#),
            &["gazelle-unreadable"],
            UNDET,
        ),
        no("json of something else", Reply::json(r#"{"hello":"world"}"#), &["gazelle-unreadable"], UNDET),
        no("xml of something else", Reply::xml("<rss/>"), &["gazelle-unreadable"], UNDET),
        no("a web page", Reply::html("<!DOCTYPE html><html><a href='/login'>Login</a> maintenance</html>"), &["gazelle-unreadable"], UNDET),
        no("a login page", Reply::html("<html><form><input type=\"password\"></form></html>"), &["gazelle-private"], KO),
        no("nothing at all", Reply::xml(""), &["gazelle-unreadable"], UNDET),
        no(
            "a ZIP without report",
            Reply::Full { status: 200, headers: vec![], body: zipped(&[("a.txt", b"x")]) },
            &["gazelle-unreadable"],
            UNDET,
        ),
        no("an image", Reply::Full { status: 200, headers: vec![], body: b"\x89PNG\r\n\x1a\n".to_vec() }, &["gazelle-unreadable"], UNDET),
    ]
}

#[tokio::test]
async fn every_report_variant_gets_its_signals_and_its_verdict() {
    let all = variants();
    assert!(all.len() >= 40, "{}", all.len());
    let mut wrong = Vec::new();
    for variant in all {
        let server = Server::reporting(variant.reply).await;
        let facts = server.fetch().await;
        let said = signals(&server, &facts, None);
        let got = (facts.report().map(|r| r.generation), codes(&said), verdict(&said));
        println!("{:58} {:24} {}", variant.name, got.2.as_str(), got.1.join(", "));
        if got != (variant.generation, variant.codes.to_vec(), variant.verdict) {
            wrong.push(format!(
                "{}\n  expected {:?} {:?} {:?}\n  got      {got:?}\n  {:?}",
                variant.name,
                variant.generation,
                variant.codes,
                variant.verdict,
                facts.without_bodies().outcome
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn legacy_answers_are_read_where_only_they_exist() {
    for (status, expected_codes, expected) in [
        ("PASSED", &["gazelle-status-only"][..], WARN),
        ("FAILED", &["gazelle-failed", "gazelle-status-only"][..], KO),
        ("ABORTED", &["gazelle-status-only", "gazelle-undefined"][..], KO),
        ("NOT_PERFORMED", &["gazelle-pending"][..], UNDET),
        ("not performed", &["gazelle-pending"][..], UNDET),
        ("", &["gazelle-unknown"][..], KO),
    ] {
        let server = Server::start(move |r| match r.path() {
            "/EVSClient/rest/GetValidationStatus" => Reply::text(status),
            "/EVSClient/rest/GetValidationDate" => Reply::text("2025-09-30T12:44:06.137+02:00"),
            "/evs/rest/validations" => Reply::status(405),
            _ => Reply::status(404),
        })
        .await;
        let facts = server.client().fetch(&server.url(&format!("/EVSClient//detailedResult.seam?type=ATNA&oid={OID}"))).await;
        let said = signals(&server, &facts, None);
        assert_eq!((codes(&said), verdict(&said)), (expected_codes.to_vec(), expected), "{status}");
        if let Some(report) = facts.report() {
            assert_eq!((report.generation, report.date.is_some()), (LegacyText, true));
        }
    }
}

#[tokio::test]
async fn an_old_link_is_read_from_the_new_service_where_the_old_one_is_gone() {
    let report = body(gvr(PASSED, &overview_passed(), &good()));
    let server = Server::start(move |r| if r.is_report() { Reply::xml(report.clone()) } else { Reply::status(404) }).await;
    let facts = server.client().fetch(&server.url(&format!("/EVSClient/hl7v2Result.seam?&oid={OID}"))).await;
    assert_eq!(facts.report().map(|r| r.generation), Some(GvrXml));
}

#[tokio::test]
async fn a_validation_whose_report_was_not_kept_is_a_status() {
    let server = Server::start(|r| {
        if r.is_record() {
            Reply::xml(format!(
                r#"<validation xmlns="http://evsobjects.gazelle.ihe.net/" oid="{OID}" date="2025-09-30T12:44:06Z"><status>DONE_PASSED</status><validationService name="s" validator="v"/></validation>"#
            ))
        } else {
            Reply::status(404)
        }
    })
    .await;
    let facts = server.fetch().await;
    let said = signals(&server, &facts, None);
    assert_eq!(facts.report().map(|r| r.generation), Some(RecordOnly));
    assert_eq!((codes(&said), verdict(&said)), (vec!["gazelle-status-only"], WARN));
}
