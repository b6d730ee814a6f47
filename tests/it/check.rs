//! The main job, end to end, with the real binary on the committed dossiers.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::{codes, command, greffier, inspect, root, stdout};

fn check(dossier: &str, out: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let output = command()
        .args(["check", &format!("fixtures/dossiers/{dossier}"), "--offline", "--json", "--out"])
        .arg(out)
        .args(more)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

#[test]
fn an_honest_dossier_is_accepted_without_a_single_error() {
    let out = tempfile::tempdir().unwrap();
    for dossier in ["lgc-clean", "lgc-eligibility"] {
        let (_, report) = check(dossier, out.path(), &[]);
        let wrong: Vec<_> = report["items"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|i| i["findings"].as_array().unwrap().iter().map(move |f| (i["id"].clone(), f)))
            .chain(report["findings"].as_array().unwrap().iter().map(|f| (Value::Null, f)))
            .filter(|(_, f)| f["severity"] == "error" || f["severity"] == "warning")
            .map(|(id, f)| format!("{id}: {}", f["code"]))
            .collect();
        assert!(wrong.is_empty(), "{dossier}: {wrong:?}");
    }
}

#[test]
fn the_demo_dossier_gets_exactly_what_was_planted() {
    let out = tempfile::tempdir().unwrap();
    let (exit, report) = check("lgc-demo", out.path(), &[]);
    assert_eq!(exit, Some(1));
    assert_eq!(report["verdict"], "rejected");
    assert_eq!(report["totals"]["preuves_expected"], 239);
    assert_eq!(report["totals"]["preuves_provided"], 238);
    let counts: Vec<u64> = report["chapters"].as_array().unwrap().iter().map(|c| c["expected"].as_u64().unwrap()).collect();
    assert_eq!(counts, [81, 35, 56, 10, 7, 37, 7, 6]);
    let found = findings(&report);
    let of = |severities: &[&str]| -> BTreeSet<(String, String)> {
        found
            .iter()
            .filter(|(_, _, severity)| severities.contains(&severity.as_str()))
            .map(|(at, code, _)| (at.clone(), code.clone()))
            .collect()
    };
    assert_eq!(of(&["error", "warning"]), planted(), "left: found; right: planted, by the table of fixtures/dossiers/README.md");
    // Without a network the links that could be reports are left open, and nothing else is.
    let links: BTreeSet<_> = of(&["fatal"]);
    assert!(!links.is_empty() && links.iter().all(|(_, code)| code == "gazelle-offline"), "{links:?}");
    let told: BTreeSet<_> = of(&["notice"]).into_iter().map(|(_, code)| code).collect();
    let expected = ["dependency-not-shown", "format-unconfirmed", "look-alike-crowd", "look-alike-image", "video-small-picture"];
    assert_eq!(told, expected.map(str::to_owned).into());
}

/// Every finding of a report as (path or proof, code, severity); those of the candidature as a whole stand under the file that
/// describes it.
fn findings(report: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for item in report["items"].as_array().unwrap() {
        // `liens.txt#1` is the first link of a file.
        let path = item["id"].as_str().unwrap().split('#').next().unwrap();
        found.extend(item["findings"].as_array().unwrap().iter().map(|f| (path.to_owned(), text(&f["code"]), text(&f["severity"]))));
    }
    for finding in report["findings"].as_array().unwrap() {
        let (args, code) = (&finding["args"], text(&finding["code"]));
        let missing = || format!("preuves/{}/{}", args["exigence"].as_str().unwrap(), args["preuve"].as_str().unwrap());
        let path = if code == "preuve-missing" { missing() } else { "candidature.toml".to_owned() };
        found.push((path, code, text(&finding["severity"])));
    }
    found
}

/// What the generator planted, as (path, code), from the table that it writes.
fn planted() -> BTreeSet<(String, String)> {
    let page = std::fs::read_to_string(root().join("fixtures/dossiers/README.md")).unwrap();
    let table = page.split("## Mistakes planted in `lgc-demo`").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |"));
    let planted: BTreeSet<_> = rows
        .flat_map(|row| {
            let (path, rest) = row.split_once("` |").unwrap();
            let codes = rest.rsplit_once("| `").unwrap().1;
            codes.split("`, `").map(|code| (path.to_owned(), code.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    assert!(planted.len() > 10, "the table of planted mistakes is not read: {planted:?}");
    planted
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let bundle = |jobs: &str, cached: bool| {
        let out = tempfile::tempdir().unwrap();
        let run = |more: &[&str]| {
            let output = command()
                .env("GREFFIER_CHECK__JOBS", jobs)
                .args(["check", "fixtures/dossiers/lgc-clean", "--offline", "--out"])
                .arg(out.path())
                .args(more)
                .output()
                .unwrap();
            assert!(output.status.code().is_some_and(|c| c < 2 || c == 3), "{}", String::from_utf8_lossy(&output.stderr));
        };
        run(&[]);
        if cached {
            run(&[]);
        }
        let zip = std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "zip"));
        std::fs::read(zip.expect("a bundle")).unwrap()
    };
    let first = bundle("1", false);
    assert!(first == bundle("4", false), "concurrency shows in the bundle");
    assert!(first == bundle("2", true), "the cache shows in the bundle");
}

#[test]
fn a_bundle_verifies_and_one_changed_byte_does_not() {
    let out = tempfile::tempdir().unwrap();
    check("lgc-clean", out.path(), &[]);
    let zip =
        std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "zip")).unwrap();
    assert_eq!(greffier(&["verify", zip.to_str().unwrap()]).status.code(), Some(0));
    let mut bytes = std::fs::read(&zip).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&zip, bytes).unwrap();
    assert_eq!(greffier(&["verify", zip.to_str().unwrap()]).status.code(), Some(1));
}

#[test]
fn a_sealed_bundle_is_verified_with_the_published_key_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert!(greffier(&["keys", "new", "--out", &path("a.jwk")]).status.success());
    assert!(greffier(&["keys", "new", "--out", &path("b.jwk")]).status.success());
    for key in ["a", "b"] {
        std::fs::write(path(&format!("{key}.jwks")), greffier(&["keys", "public", &path(&format!("{key}.jwk"))]).stdout).unwrap();
    }
    let out = dir.path().join("out");
    check("lgc-clean", &out, &["--seal-key", &path("a.jwk")]);
    let zip = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "zip")).unwrap();
    let verify = |keys: &str| greffier(&["verify", zip.to_str().unwrap(), "--keys", &path(keys), "--json"]);
    let sealed = verify("a.jwks");
    assert_eq!(sealed.status.code(), Some(0), "{}", stdout(&sealed));
    assert!(stdout(&sealed).contains("\"sealed\""));
    let other = verify("b.jwks");
    assert_eq!(other.status.code(), Some(1));
    assert!(stdout(&other).contains("SEAL-KEY-UNKNOWN"), "{}", stdout(&other));
}

#[test]
fn a_second_round_says_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("first");
    check("lgc-demo", &first, &[]);
    let second = dir.path().join("second");
    let (_, report) = check("lgc-demo", &second, &["--previous", first.join("report.json").to_str().unwrap()]);
    let counts = &report["round"]["counts"];
    assert_eq!(counts["unchanged"], report["totals"]["items"], "{counts}");
    assert!(report["round"]["resolved"].as_array().unwrap().is_empty());
}

#[test]
fn the_message_for_the_vendor_is_short_and_says_where() {
    let output = greffier(&["check", "fixtures/dossiers/lgc-demo", "--offline", "--message"]);
    let message = stdout(&output);
    assert!(message.chars().count() <= 4_200, "{}", message.chars().count());
    assert!(message.contains("INS.14.01.04"), "{message}");
}

#[test]
fn reports_and_items_follow_their_published_schemas() {
    let schema = |name: &str| serde_json::from_slice::<Value>(&std::fs::read(root().join("docs/schemas").join(name)).unwrap()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let (_, report) = check("lgc-demo", out.path(), &[]);
    let validator = jsonschema::validator_for(&schema("report.json")).unwrap();
    let errors: Vec<_> = validator.iter_errors(&report).take(3).map(|e| format!("{e} at {}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let validator = jsonschema::validator_for(&schema("item.json")).unwrap();
    for line in inspect(&[&root().join("fixtures/dossiers/lgc-demo/documentation"), &root().join("Cargo.toml")]) {
        let errors: Vec<_> = validator.iter_errors(&line).take(3).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    let submission: Value =
        serde_json::from_slice(&std::fs::read(root().join("fixtures/dossiers/lgc-clean/submission.json")).unwrap()).unwrap();
    assert!(jsonschema::validator_for(&schema("submission.json")).unwrap().is_valid(&submission));
}

#[test]
fn bad_documents_are_refused_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("submission.json");
    std::fs::write(&path, "{\n  \"schema\": \"greffier/submission/1\",\n  \"demarch\": \"x\"\n}").unwrap();
    let output = greffier(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("SUBMISSION-MALFORMED") && error.contains(":3:") && error.contains("demarch"), "{error}");
}

#[test]
fn exact_bounds_hold_through_the_whole_program() {
    // « < 15 Mo » for documentation: padded PDFs of the limit and of one byte less.
    let pipeline = stdout(&greffier(&["pipeline", "show", "lgc-vague-2"]));
    assert!(pipeline.contains("15"), "{pipeline}");
    let dir = tempfile::tempdir().unwrap();
    let pdf = std::fs::read_dir(root().join("fixtures/dossiers/lgc-demo/documentation")).unwrap().next().unwrap().unwrap().path();
    let pdf = std::fs::read(pdf).unwrap();
    let limit = 15 * 1_048_576;
    for (size, refused) in [(limit, true), (limit - 1, false)] {
        // Padding before the trailer would move offsets: a comment after the last %%EOF is what editors leave.
        let mut padded = pdf.clone();
        padded.push(b'%');
        padded.resize(size - 1, b' ');
        padded.push(b'\n');
        let path = dir.path().join("manuel.pdf");
        std::fs::write(&path, &padded).unwrap();
        let output = greffier(&["inspect", "--json", "--slot", "documentation", path.to_str().unwrap()]);
        let item: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(item["size"], size);
        assert_eq!(codes(&item).contains(&"file-not-below-limit".to_owned()), refused, "{size}: {:?}", codes(&item));
    }
}
