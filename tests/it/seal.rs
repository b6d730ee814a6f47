//! Seals, receipts and journals, checked by others than those who made them: Python with `jwcrypto` and `hashlib`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use greffier::seal::{self, Journal, KeySet, Receipt, Seal, SealKey};
use serde_json::{Value, json};

use crate::support::{command, root, stdout};

const MANIFEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// What both sides need to verify a JWS: the key named by the header, whose name must be its thumbprint.
const OPEN: &str = r#"
import base64, json, sys
from jwcrypto import jwk, jws
given = json.load(sys.stdin)
def opened(token, jwks):
    token_object = jws.JWS()
    token_object.deserialize(token)
    header = token_object.jose_header
    assert header["alg"] == "EdDSA", header
    key = jwks.get_key(header["kid"])
    assert key is not None and key.thumbprint() == header["kid"], header
    token_object.verify(key, alg="EdDSA")
    return header["typ"], json.loads(token_object.payload)
"#;

/// The Python that `scripts/test` provides. Without it a test fails: an independent check that is skipped checks nothing.
fn interpreter() -> std::ffi::OsString {
    std::env::var_os("GREFFIER_TEST_PYTHON")
        .expect("GREFFIER_TEST_PYTHON must name a Python that has jwcrypto: run the tests with scripts/test")
}

/// Runs `script` after [`OPEN`] with `given` on standard input, and returns what it prints as JSON.
fn python(script: &str, given: &Value) -> Value {
    let mut child = Command::new(interpreter())
        .args(["-c", &format!("{OPEN}{script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("GREFFIER_TEST_PYTHON runs");
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script ends with {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

fn report() -> greffier::model::report::Report {
    serde_json::from_value(json!({
        "schema": "greffier/report/1", "id": MANIFEST, "producer": "greffier 0.1.0, inspectors 1",
        "pipeline": {"id": "lgc-vague-2", "version": "2026-11", "title": {"fr": "LGC", "en": "LGC"}, "sha256": MANIFEST,
                     "catalogue_version": "1", "catalogue_source": "test"},
        "candidature": {"number": "IZCYKCWXGY"}, "stage": {"kind": "eligibility"}, "revision": 1,
        "verdict": "accepted_with_warnings", "findings": [],
        "items": [{"id": "a", "slot": "documentation", "name": "Éléments « 1 ».pdf", "sha256": MANIFEST, "size": 3,
                   "verdict": "accepted_with_warnings", "findings": []}],
        "totals": {"items": 1}
    }))
    .unwrap()
}

fn keys(arguments: &[&str]) -> Output {
    command().arg("keys").args(arguments).output().unwrap()
}

fn new_key(path: &Path) -> SealKey {
    let made = keys(&["new", "--out", path.to_str().unwrap()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(made.stdout.is_empty(), "the private key goes to the file only");
    SealKey::from_file(path).unwrap()
}

#[test]
#[ignore = "needs Python and openssl; run by scripts/test"]
fn an_independent_library_verifies_seals_and_receipts_across_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let (old_path, new_path) = (folder.path().join("old.jwk"), folder.path().join("new.jwk"));
    let (old, new) = (new_key(&old_path), new_key(&new_path));
    let jwks = stdout(&keys(&["public", new_path.to_str().unwrap(), old_path.to_str().unwrap()]));
    let sealed = Seal::of(&report(), MANIFEST).unwrap();
    let at: jiff::Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
    let receipt = Receipt::of(&report(), at, at);
    let tokens = [sealed.sign(&old).unwrap(), sealed.sign(&new).unwrap(), receipt.sign(&new).unwrap()];
    let told = python(
        r#"
jwks = jwk.JWKSet.from_json(given["jwks"])
refused = 0
for token in given["tokens"]:
    head, body, signature = token.split(".")
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b"IZCYKCWXGY", b"AAAAAAAAAA")).rstrip(b"=").decode()
    for spoilt in (f"{head}.{forged}.{signature}", f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"):
        try:
            opened(spoilt, jwks)
        except jws.InvalidJWSSignature:
            refused += 1
print(json.dumps({"opened": [opened(t, jwks) for t in given["tokens"]], "refused": refused}))
"#,
        &json!({"jwks": jwks, "tokens": tokens}),
    );
    let (seal_told, receipt_told) = (serde_json::to_value(&sealed).unwrap(), serde_json::to_value(&receipt).unwrap());
    assert_eq!(told["refused"], 6);
    assert_eq!(
        told["opened"],
        json!([["greffier-seal+jws", seal_told], ["greffier-seal+jws", seal_told], ["greffier-receipt+jws", receipt_told]])
    );
}

#[test]
#[ignore = "needs Python and openssl; run by scripts/test"]
fn an_independent_library_signs_the_same_bytes_with_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.jwk");
    let key = new_key(&path);
    let sealed = Seal::of(&report(), MANIFEST).unwrap();
    let told = python(
        r#"
key = jwk.JWK.from_json(given["key"])
token = jws.JWS(given["payload"].encode())
token.add_signature(key, alg="EdDSA", protected=given["header"])
own = jwk.JWK.generate(kty="OKP", crv="Ed25519", use="sig", alg="EdDSA")
print(json.dumps({"token": token.serialize(compact=True), "own": own.export_private(), "thumbprint": own.thumbprint(),
                  "set": f'{{"keys":[{key.export_public()},{own.export_public()}]}}'}))
"#,
        &json!({
            "key": std::fs::read_to_string(&path).unwrap(),
            "payload": serde_json::to_string(&sealed).unwrap(),
            "header": format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"greffier-seal+jws"}}"#, key.kid()),
        }),
    );
    let token = told["token"].as_str().unwrap();
    assert_eq!(token, sealed.sign(&key).unwrap());
    // And the other way: a key and a key set that the library made.
    let own = SealKey::from_jwk(told["own"].as_str().unwrap()).unwrap();
    assert_eq!(own.kid(), told["thumbprint"].as_str().unwrap());
    let set = KeySet::from_jwks(told["set"].as_str().unwrap()).unwrap();
    assert_eq!(seal::verify(MANIFEST, token, &set).unwrap().seal, sealed);
    assert_eq!(seal::verify(MANIFEST, &sealed.sign(&own).unwrap(), &set).unwrap().kid, own.kid());
}

/// Runs the script that `docs/seal.md` gives readers under this name.
fn documented(name: &str, arguments: &[&Path]) -> Output {
    let page = std::fs::read_to_string(root().join("docs/seal.md")).unwrap();
    let (_, script) = page.split_once(&format!("```python {name}\n")).expect("the page has the script");
    let (script, _) = script.split_once("```").unwrap();
    Command::new(interpreter()).args(["-c", script]).args(arguments).output().expect("GREFFIER_TEST_PYTHON runs")
}

#[test]
#[ignore = "needs Python and openssl; run by scripts/test"]
fn the_documented_script_accepts_a_good_seal_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = new_key(&path("key.jwk"));
    std::fs::write(path("jwks.json"), stdout(&keys(&["public", path("key.jwk").to_str().unwrap()]))).unwrap();
    // FIPS 180-4: the digest of `abc`.
    std::fs::write(path("tagmanifest-sha256.txt"), "abc").unwrap();
    let verify = |seal: &str| {
        std::fs::write(path("seal.jws"), seal).unwrap();
        documented("verify", &[&path("jwks.json"), &path("seal.jws"), &path("tagmanifest-sha256.txt")])
    };
    let good = Seal::of(&report(), MANIFEST).unwrap().sign(&key).unwrap();
    assert_eq!(stdout(&verify(&good)), "IZCYKCWXGY accepted_with_warnings\n");
    let other = Seal::of(&report(), &MANIFEST.replace('b', "c")).unwrap().sign(&key).unwrap();
    let stranger = Seal::of(&report(), MANIFEST).unwrap().sign(&SealKey::generate().unwrap()).unwrap();
    let receipt = Receipt::of(&report(), jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::UNIX_EPOCH).sign(&key).unwrap();
    for wrong in [other, stranger, receipt] {
        assert!(!verify(&wrong).status.success());
    }
}

#[test]
#[ignore = "needs Python and openssl; run by scripts/test"]
fn the_documented_script_verifies_a_journal_with_a_hash_function_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut journal = Journal::open(&path).unwrap();
    for n in 0..5_u64 {
        let at = jiff::Timestamp::from_second(1_795_424_400).unwrap();
        journal.append(at, "checked", [("name".into(), "« é » \u{1F600}".into()), ("n".into(), n.into())].into()).unwrap();
    }
    let head = journal.head();
    assert_eq!(stdout(&documented("journal", &[&path])), format!("{} {}\n", head.entries, head.hash));
    let changed = std::fs::read_to_string(&path).unwrap().replacen("checked", "blessed", 1);
    std::fs::write(&path, changed).unwrap();
    assert!(!documented("journal", &[&path]).status.success());
}

#[test]
fn keys_come_from_a_file_or_the_environment_and_never_leave_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.jwk");
    let key = new_key(&path);
    let d: Value = serde_json::from_str(&key.to_jwk()).unwrap();
    let d = d["d"].as_str().unwrap();

    let again = keys(&["new", "--out", path.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2), "a key is never overwritten");
    assert_eq!(SealKey::from_file(&path).unwrap().kid(), key.kid());

    let from_environment = command().args(["keys", "public"]).env("GREFFIER_SEAL_KEY", key.to_jwk().as_str()).output().unwrap();
    let jwks = stdout(&from_environment);
    assert_eq!(KeySet::from_jwks(&jwks).unwrap().kids().collect::<Vec<_>>(), [key.kid()]);
    assert!(!jwks.contains(d));
    assert_eq!(jwks, stdout(&keys(&["public", path.to_str().unwrap()])));

    for (value, code) in [("", "SEAL-KEY-EMPTY"), (d, "SEAL-KEY-JSON"), (&format!("\"{d}\""), "SEAL-KEY-JSON")] {
        let refused = command().args(["keys", "public"]).env("GREFFIER_SEAL_KEY", value).output().unwrap();
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(told.contains(code) && !told.contains(&d[..8]), "{told}");
    }
    let none = keys(&["public"]);
    assert!(String::from_utf8(none.stderr).unwrap().contains("SEAL-KEY-NONE"));
    // Without --out, the key is the only thing on standard output, ready for a secret store.
    let printed = keys(&["new"]);
    assert!(SealKey::from_jwk(&stdout(&printed)).is_ok());
}

/// Runs `openssl`, Debian's package of the same name.
pub fn openssl(folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// An authority of our own, and its answer to `request`.
fn stamp(folder: &Path, request: &str, answer: &str) {
    if !folder.join("tsa.pem").exists() {
        let config =
            "[tsa]\ndefault_tsa=ours\n[ours]\nserial=serial\ndefault_policy=1.2.3.4.1\nsigner_digest=sha256\ndigests=sha256,sha512\n";
        std::fs::write(folder.join("tsa.cnf"), config).unwrap();
        let make = "req -x509 -newkey rsa:2048 -nodes -keyout tsa.key -out tsa.pem -days 2 -subj /CN=TSA -addext";
        let make: Vec<&str> = make.split(' ').chain(["extendedKeyUsage=critical,timeStamping"]).collect();
        openssl(folder, &make);
    }
    let reply = "ts -reply -config tsa.cnf -signer tsa.pem -inkey tsa.key -queryfile";
    openssl(folder, &reply.split(' ').chain([request, "-out", answer]).collect::<Vec<_>>());
}

/// `greffier verify` with `--json`: exit code, and what it printed.
fn verify(arguments: &[&Path]) -> (Option<i32>, Value) {
    let output = command().args(["verify", "--json"]).args(arguments).output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

#[test]
#[ignore = "needs Python and openssl; run by scripts/test"]
fn a_check_that_signs_leaves_seal_receipt_journal_and_request_and_verify_reads_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let path = |name: &str| out.join(name);
    let key_path = folder.path().join("key.jwk");
    let key = new_key(&key_path);
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, stdout(&keys(&["public", key_path.to_str().unwrap()]))).unwrap();
    let check = || {
        let arguments = ["check", "fixtures/dossiers/lgc-eligibility", "--offline", "--timestamp-request", "--seal-key"];
        let output = command().args(arguments).args([&key_path, Path::new("--out"), &out]).output().unwrap();
        assert!(output.status.code().is_some_and(|c| c < 2), "{}", String::from_utf8_lossy(&output.stderr));
    };
    check();
    let names = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let bundle = names.into_iter().find(|n| n.ends_with(".zip")).unwrap();
    let sealed = std::fs::read(path(&format!("{bundle}.jws"))).unwrap();
    let zip = std::fs::read(path(&bundle)).unwrap();
    let receipt = path(&bundle.replace(".zip", ".receipt.jws"));
    let journal = path("journal.jsonl");
    let events = || {
        let text = std::fs::read_to_string(&journal).unwrap();
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(events(), ["received", "checked", "bundle-published", "receipt"]);
    assert_eq!(events().len().to_string(), stdout(&documented("journal", &[&journal])).split(' ').next().unwrap());

    let (request, answer) = (format!("{bundle}.jws.tsq"), format!("{bundle}.jws.tsr"));
    stamp(&out, &request, &answer);
    // The command of docs/seal.md, by a program that knows certificates.
    let seal_name = format!("{bundle}.jws");
    openssl(&out, &["ts", "-verify", "-data", &seal_name, "-in", &answer, "-CAfile", "tsa.pem"]);

    let (bundle_path, flag) = (path(&bundle), |name: &'static str| Path::new(name));
    let all = [&*bundle_path, flag("--keys"), &jwks, flag("--receipt"), &receipt, flag("--journal"), &journal];
    let (code, told) = verify(&all);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told["seal"], json!({"state": "sealed", "kid": key.kid()}));
    assert_eq!(told["receipt"]["compared_with_bundle"], true);
    assert_eq!((&told["journal"]["head"]["entries"], &told["journal"]["witnessed"]), (&json!(4), &json!(true)));
    assert_eq!((&told["timestamp"]["state"], &told["timestamp"]["authority_checked"]), (&json!("of-this-seal"), &json!(false)));
    // The vendor has neither the bundle nor the journal.
    let (code, told) = verify(&[flag("--receipt"), &receipt, flag("--keys"), &jwks]);
    assert_eq!((code, &told["receipt"]["compared_with_bundle"]), (Some(0), &json!(false)));

    // A second run goes on with the journal; bundle, seal and request are the same, the older receipt still witnesses.
    let first_receipt = out.join("first.receipt.jws");
    std::fs::copy(&receipt, &first_receipt).unwrap();
    check();
    assert_eq!((std::fs::read(path(&bundle)).unwrap(), std::fs::read(path(&seal_name)).unwrap()), (zip, sealed));
    assert_eq!(events().len(), 8);
    assert_eq!(verify(&[flag("--keys"), &jwks, flag("--receipt"), &first_receipt, flag("--journal"), &journal]).0, Some(0));

    // What each of them tells when it was touched.
    let whole = std::fs::read_to_string(&journal).unwrap();
    let tampered: [(String, &str); 3] = [
        (whole.replacen("bundle-published", "bundle-withdrawn", 1), "JOURNAL-BROKEN"),
        (whole.lines().take(7).map(|l| format!("{l}\n")).collect(), "JOURNAL-SHORTENED"),
        (whole[..whole.len() - 5].to_owned(), "JOURNAL-TORN"),
    ];
    for (text, expected) in tampered {
        std::fs::write(&journal, text).unwrap();
        let (code, told) = verify(&all);
        assert_eq!((code, told["journal"]["code"].as_str()), (Some(1), Some(expected)));
    }
    std::fs::write(&journal, whole).unwrap();
    let other = Receipt::of(&report(), jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::UNIX_EPOCH).sign(&key).unwrap();
    std::fs::write(&first_receipt, other).unwrap();
    let (code, told) = verify(&[&bundle_path, flag("--keys"), &jwks, flag("--receipt"), &first_receipt]);
    assert_eq!((code, told["receipt"]["code"].as_str()), (Some(1), Some("SEAL-OTHER-REPORT")));

    // Time stamps of something else, and over another kind of digest.
    std::fs::write(path("else"), "else").unwrap();
    for (digest, expected) in [("-sha256", "TIMESTAMP-OTHER-SEAL"), ("-sha512", "TIMESTAMP-ALGORITHM")] {
        openssl(&out, &["ts", "-query", "-data", "else", digest, "-cert", "-out", "else.tsq"]);
        stamp(&out, "else.tsq", "else.tsr");
        let (code, told) = verify(&[&bundle_path, flag("--timestamp"), &path("else.tsr")]);
        assert_eq!((code, told["timestamp"]["code"].as_str()), (Some(1), Some(expected)));
    }
    // A refusal: the authority does not know the policy that is asked for.
    std::fs::write(path("refused.tsr"), [0x30, 5, 0x30, 3, 2, 1, 2]).unwrap();
    let (code, told) = verify(&[&bundle_path, flag("--timestamp"), &path("refused.tsr")]);
    assert_eq!((code, told["timestamp"]["code"].as_str()), (Some(1), Some("TIMESTAMP-NOT-GRANTED")));
}

#[test]
fn a_time_stamp_without_a_seal_is_refused_before_anything_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let output = command()
        .args(["check", "fixtures/dossiers/lgc-clean", "--timestamp-request", "--out", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("TIMESTAMP-NO-SEAL"));
    assert_eq!((output.status.code(), std::fs::read_dir(folder.path()).unwrap().count()), (Some(2), 0));
}
