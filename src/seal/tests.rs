//! Tests of seals, receipts and keys: what is written verifies, and what was changed does not.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::journal::Head;
use super::*;

const MANIFEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const OTHER: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// RFC 8037, appendix A.1.
const RFC_8037_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519",
    "d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
/// RFC 8037, appendix A.3.
const RFC_8037_THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

fn rfc_key() -> SealKey {
    SealKey::from_jwk(RFC_8037_KEY).unwrap()
}

fn set(keys: &[&SealKey]) -> KeySet {
    keys.iter().map(|k| k.public().clone()).collect()
}

/// As a file holds it, so that members added to reports later do not matter here.
fn report() -> Report {
    serde_json::from_value(json!({
        "schema": "greffier/report/1",
        "id": OTHER,
        "producer": "greffier 0.1.0, inspectors 1",
        "pipeline": {"id": "lgc-vague-2", "version": "2026-11", "title": {"fr": "LGC", "en": "LGC"}, "sha256": OTHER,
                     "catalogue_version": "1", "catalogue_source": "test"},
        "candidature": {"number": "IZCYKCWXGY"},
        "stage": {"kind": "chapter", "chapter": "ins"},
        "revision": 2,
        "verdict": "rejected",
        "findings": [],
        "items": [
            {"id": "a", "preuve": "SC.INS.02.01.01", "name": "écran \u{202e}gnp.exe", "sha256": MANIFEST, "size": 3, "verdict": "rejected", "findings": []},
            {"id": "b", "slot": "documentation", "name": "https://gazelle.example/1", "link": true, "verdict": "accepted", "findings": []}
        ],
        "totals": {"items": 2, "severities": {"error": 1}}
    }))
    .unwrap()
}

fn seal() -> Seal {
    Seal::of(&report(), MANIFEST).unwrap()
}

/// A JWS with this header and payload, rightly signed by the RFC's key.
fn forged(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(rfc_key().sign(signed.as_bytes())))
}

fn with_header(header: &Value) -> String {
    forged(&header.to_string(), &serde_json::to_string(&seal()).unwrap())
}

fn refusal(jws: &str) -> SealError {
    verify(MANIFEST, jws, &set(&[&rfc_key()])).unwrap_err()
}

#[test]
fn keys_thumbprints_and_signatures_are_those_of_rfc_8037_appendix_a() {
    let key = rfc_key();
    assert_eq!(key.kid(), RFC_8037_THUMBPRINT);
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())), signature);
    assert!(key.public().verifies(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()));
    assert!(!key.public().verifies(b"something else", &URL_SAFE_NO_PAD.decode(signature).unwrap()));
}

#[test]
fn a_seal_tells_what_was_sealed_and_by_whom() {
    let key = rfc_key();
    let jws = seal().sign(&key).unwrap();
    let verified = verify(MANIFEST, &jws, &set(&[&key])).unwrap();
    assert_eq!(verified, Verified { seal: seal(), kid: RFC_8037_THUMBPRINT.into() });
    verified.agrees_with(&report()).unwrap();
    assert_eq!(verified.seal.candidature, "IZCYKCWXGY");
    assert_eq!(verified.seal.verdict, Verdict::Rejected);
}

#[test]
fn the_same_seal_and_key_give_the_same_bytes() {
    // A golden value: members, their order and the signature are a contract with those who keep seals.
    let jws = seal().sign(&rfc_key()).unwrap();
    let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(
        String::from_utf8(payload).unwrap(),
        format!(
            r#"{{"schema":"greffier/seal/1","report":"{OTHER}","manifest_sha256":"{MANIFEST}","verdict":"rejected","candidature":"IZCYKCWXGY","stage":{{"kind":"chapter","chapter":"ins"}},"revision":2,"pipeline":{{"id":"lgc-vague-2","version":"2026-11"}},"producer":"greffier 0.1.0, inspectors 1"}}"#
        )
    );
    assert_eq!(jws, seal().sign(&rfc_key()).unwrap());
}

#[test]
fn a_line_end_after_the_seal_is_allowed_and_only_that() {
    let jws = seal().sign(&rfc_key()).unwrap();
    let keys = set(&[&rfc_key()]);
    for end in ["\n", "\r\n"] {
        verify(MANIFEST, &format!("{jws}{end}"), &keys).unwrap();
    }
    for spoilt in [format!("{jws}\n\n"), format!("{jws} "), format!(" {jws}"), jws.replace('.', ".\n"), format!("\u{feff}{jws}")] {
        assert!(matches!(verify(MANIFEST, &spoilt, &keys), Err(SealError::Base64(_))), "{spoilt:?}");
    }
}

#[test]
fn after_a_rotation_old_and_new_seals_verify_and_a_withdrawn_key_no_longer_does() {
    let (old, new) = (SealKey::generate().unwrap(), SealKey::generate().unwrap());
    let (before, after) = (seal().sign(&old).unwrap(), seal().sign(&new).unwrap());
    let both = KeySet::from_jwks(&set(&[&old, &new]).to_jwks()).unwrap();
    assert_eq!(verify(MANIFEST, &before, &both).unwrap().kid, old.kid());
    assert_eq!(verify(MANIFEST, &after, &both).unwrap().kid, new.kid());
    assert_eq!(verify(MANIFEST, &before, &set(&[&new])).unwrap_err(), SealError::KeyUnknown(old.kid().into()));
}

#[test]
fn a_seal_of_another_bundle_is_refused_and_both_digests_are_told() {
    let jws = seal().sign(&rfc_key()).unwrap();
    let error = verify(OTHER, &jws, &set(&[&rfc_key()])).unwrap_err();
    assert_eq!(error, SealError::OtherBundle { sealed: MANIFEST.into(), found: OTHER.into() });
}

#[test]
fn a_digest_that_is_none_is_refused_before_anything_is_signed_or_compared() {
    for wrong in ["", "abc", &MANIFEST.to_uppercase(), &format!("{MANIFEST}0"), &MANIFEST.replace('b', "g")] {
        assert_eq!(Seal::of(&report(), wrong).unwrap_err(), SealError::Digest);
        assert_eq!(verify(wrong, "a.b.c", &set(&[&rfc_key()])).unwrap_err(), SealError::Digest);
    }
}

#[test]
fn every_algorithm_but_eddsa_is_refused() {
    for alg in ["none", "None", "HS256", "ES256", "Ed25519", "eddsa", "EdDSA "] {
        let jws = with_header(&json!({"alg": alg, "kid": RFC_8037_THUMBPRINT, "typ": TYPE}));
        assert_eq!(refusal(&jws), SealError::Algorithm(alg.into()));
    }
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode("{}"));
    assert_eq!(refusal(&unsigned), SealError::Algorithm("none".into()));
    assert_eq!(refusal(&with_header(&json!({"kid": RFC_8037_THUMBPRINT, "typ": TYPE}))), SealError::Algorithm("none".into()));
}

#[test]
fn a_public_key_used_as_a_shared_secret_does_not_verify() {
    // The classical confusion: HMAC keyed with the public key, announced as EdDSA.
    let header = json!({"alg": "EdDSA", "kid": RFC_8037_THUMBPRINT, "typ": TYPE}).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(serde_json::to_string(&seal()).unwrap()));
    let mac = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, RFC_8037_THUMBPRINT.as_bytes()), signed.as_bytes());
    assert_eq!(refusal(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))), SealError::Signature);
}

#[test]
fn headers_that_demand_or_bring_something_are_refused() {
    let header = |name: &str, value: Value| {
        let mut header = json!({"alg": "EdDSA", "kid": RFC_8037_THUMBPRINT, "typ": TYPE});
        header[name] = value;
        with_header(&header)
    };
    assert_eq!(refusal(&header("crit", json!(["exp"]))), SealError::Critical);
    assert_eq!(refusal(&header("crit", json!([]))), SealError::Critical);
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/pem")),
        ("x5c", json!([])),
        ("x5t", json!("AAAA")),
        ("x5t#S256", json!("AAAA")),
    ] {
        assert_eq!(refusal(&header(name, value)), SealError::HeaderKey(name.into()));
    }
    assert_eq!(refusal(&header("b64", json!(false))), SealError::HeaderMember("b64".into()));
    assert_eq!(refusal(&header("cty", json!("JWT"))), SealError::HeaderMember("cty".into()));
}

#[test]
fn headers_with_two_readings_are_refused() {
    let payload = serde_json::to_string(&seal()).unwrap();
    for header in [
        format!(r#"{{"alg":"EdDSA","alg":"none","kid":"{RFC_8037_THUMBPRINT}","typ":"{TYPE}"}}"#),
        format!(r#"{{"alg":["EdDSA"],"kid":"{RFC_8037_THUMBPRINT}","typ":"{TYPE}"}}"#),
        format!(r#"{{"alg":"EdDSA","kid":7,"typ":"{TYPE}"}}"#),
        r#"["EdDSA"]"#.into(),
        "EdDSA".into(),
        format!(r#"{{"alg":"EdDSA","kid":"{RFC_8037_THUMBPRINT}","typ":"{TYPE}"}} x"#),
    ] {
        assert_eq!(refusal(&forged(&header, &payload)), SealError::Header, "{header}");
    }
}

#[test]
fn the_key_must_be_named_and_known() {
    assert_eq!(refusal(&with_header(&json!({"alg": "EdDSA", "typ": TYPE}))), SealError::KeyId);
    assert_eq!(refusal(&with_header(&json!({"alg": "EdDSA", "kid": "k1", "typ": TYPE}))), SealError::KeyUnknown("k1".into()));
    // Another key's name over this key's signature.
    let other = SealKey::generate().unwrap();
    let jws = with_header(&json!({"alg": "EdDSA", "kid": other.kid(), "typ": TYPE}));
    assert_eq!(verify(MANIFEST, &jws, &set(&[&rfc_key(), &other])).unwrap_err(), SealError::Signature);
}

#[test]
fn a_receipt_is_no_seal_and_a_seal_is_no_receipt() {
    let (key, keys) = (rfc_key(), set(&[&rfc_key()]));
    let receipt = Receipt::of(&report(), Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).sign(&key).unwrap();
    assert_eq!(refusal(&receipt), SealError::Type { expected: TYPE, found: receipt::TYPE.into() });
    let seal = seal().sign(&key).unwrap();
    assert_eq!(receipt::verify(&seal, &keys).unwrap_err(), SealError::Type { expected: receipt::TYPE, found: TYPE.into() });
    assert_eq!(
        refusal(&with_header(&json!({"alg": "EdDSA", "kid": RFC_8037_THUMBPRINT}))),
        SealError::Type { expected: TYPE, found: String::new() }
    );
}

#[test]
fn forms_other_than_the_compact_one_are_refused() {
    for wrong in ["", ".", "..", "a.b", "a.b.c.d", "eyJhbGciOiJFZERTQSJ9..abcd", ".e30.abcd", r#"{"payload":"","signatures":[]}"#] {
        assert_eq!(refusal(wrong), SealError::Form, "{wrong}");
    }
    assert!(matches!(refusal(&"a".repeat(MAX_SEAL + 1)), SealError::TooLarge { .. }));
}

#[test]
fn base64_has_one_spelling() {
    let jws = seal().sign(&rfc_key()).unwrap();
    let parts: Vec<_> = jws.split('.').collect();
    let padded = |part: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(part).unwrap());
    assert_eq!(refusal(&format!("{}.{}.{}", parts[0], parts[1], padded(parts[2]))), SealError::Base64("signature"));
    assert_eq!(refusal(&format!("{}=.{}.{}", parts[0], parts[1], parts[2])), SealError::Base64("header"));
    // 64 bytes end in a character with four unused bits: fifteen other spellings of the same signature.
    let last = parts[2].chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in alphabet.chars().filter(|c| *c != last) {
        let spelt = format!("{}.{}.{}{other}", parts[0], parts[1], &parts[2][..parts[2].len() - 1]);
        assert!(matches!(refusal(&spelt), SealError::Base64("signature") | SealError::Signature));
    }
    let standard = forged(&json!({"alg": "EdDSA", "kid": RFC_8037_THUMBPRINT, "typ": TYPE}).to_string(), "\u{3fffe}?>").replace('_', "/");
    assert!(matches!(refusal(&standard), SealError::Base64(_) | SealError::KeyUnknown(_)));
}

#[test]
fn signed_content_of_another_kind_or_shape_is_refused() {
    let header = json!({"alg": "EdDSA", "kid": RFC_8037_THUMBPRINT, "typ": TYPE}).to_string();
    let payload = |change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::to_value(seal()).unwrap();
        change(&mut value);
        refusal(&forged(&header, &value.to_string()))
    };
    let schema = payload(&|v| v["schema"] = "greffier/seal/2".into());
    assert_eq!(schema, SealError::Schema { expected: SCHEMA, found: "greffier/seal/2".into() });
    assert!(matches!(payload(&|v| v["extra"] = 1.into()), SealError::Payload(_)));
    assert!(matches!(payload(&|v| drop(v.as_object_mut().unwrap().remove("verdict"))), SealError::Payload(_)));
    assert!(matches!(payload(&|v| v["verdict"] = "perfect".into()), SealError::Payload(_)));
    assert!(matches!(payload(&|v| v["manifest_sha256"] = MANIFEST.to_uppercase().into()), SealError::Payload(_)));
    assert!(matches!(refusal(&forged(&header, "no json")), SealError::Payload(_)));
    let twice = serde_json::to_string(&seal()).unwrap().replacen('{', r#"{"verdict":"accepted","#, 1);
    assert!(matches!(refusal(&forged(&header, &twice)), SealError::Payload(_)));
}

#[test]
fn a_seal_that_tells_another_story_than_the_report_is_refused() {
    let key = rfc_key();
    let lies = [
        ("report", Seal { report: MANIFEST.into(), ..seal() }),
        ("verdict", Seal { verdict: Verdict::Accepted, ..seal() }),
        ("candidature", Seal { candidature: "AAAAAAAAAA".into(), ..seal() }),
        ("stage", Seal { stage: Stage::Dossier, ..seal() }),
        ("revision", Seal { revision: 3, ..seal() }),
        ("pipeline", Seal { pipeline: PipelineName { id: "lgc-vague-2".into(), version: "2027".into() }, ..seal() }),
        ("producer", Seal { producer: "somebody".into(), ..seal() }),
    ];
    for (member, lie) in lies {
        let verified = verify(MANIFEST, &lie.sign(&key).unwrap(), &set(&[&key])).unwrap();
        assert_eq!(verified.agrees_with(&report()).unwrap_err(), SealError::OtherReport(member));
    }
}

#[test]
fn every_refusal_begins_with_its_code() {
    let errors = [
        SealError::Digest,
        SealError::TooLarge { bytes: 2, max: 1 },
        SealError::Form,
        SealError::Base64("header"),
        SealError::Header,
        SealError::Algorithm("x".into()),
        SealError::Critical,
        SealError::HeaderKey("x".into()),
        SealError::HeaderMember("x".into()),
        SealError::Type { expected: TYPE, found: "x".into() },
        SealError::KeyId,
        SealError::KeyUnknown("x".into()),
        SealError::Signature,
        SealError::Payload("x".into()),
        SealError::Schema { expected: SCHEMA, found: "x".into() },
        SealError::OtherBundle { sealed: "x".into(), found: "y".into() },
        SealError::OtherReport("x"),
    ];
    for (n, error) in errors.iter().enumerate() {
        assert!(error.to_string().starts_with(&format!("{}: ", error.code())), "{error}");
        assert!(errors[..n].iter().all(|e| e.code() != error.code()), "{} stands for two reasons", error.code());
    }
}

#[test]
fn hostile_values_in_errors_are_shown_safely() {
    let kid = format!("\u{1b}[2J\u{202e}{}", "k".repeat(500));
    let error = refusal(&with_header(&json!({"alg": "EdDSA", "kid": kid, "typ": TYPE}))).to_string();
    assert!(!error.contains('\u{1b}') && !error.contains('\u{202e}') && error.chars().count() < 200, "{error}");
}

#[test]
fn a_receipt_lists_what_was_received_when_and_with_which_outcome() {
    let key = rfc_key();
    let received: Timestamp = "2026-11-23T10:00:00.5+01:00".parse().unwrap();
    let issued: Timestamp = "2026-11-23T09:00:07Z".parse().unwrap();
    let head = Head { entries: 4, hash: OTHER.into() };
    let jws = Receipt::of(&report(), received, issued).witnessing(&head).sign(&key).unwrap();
    let verified = receipt::verify(&jws, &set(&[&key])).unwrap();
    assert_eq!(verified.kid, key.kid());
    let told = serde_json::to_value(&verified.receipt).unwrap();
    assert_eq!(
        told,
        json!({
            "schema": "greffier/receipt/1",
            "iat": 1_795_424_407,
            "received_at": "2026-11-23T09:00:00.5Z",
            "report": OTHER,
            "verdict": "rejected",
            "candidature": "IZCYKCWXGY",
            "stage": {"kind": "chapter", "chapter": "ins"},
            "revision": 2,
            "pipeline": {"id": "lgc-vague-2", "version": "2026-11"},
            "counts": {"items": 2, "bytes": 3, "verdicts": {"accepted": 1, "rejected": 1}, "findings": {"error": 1}},
            "items": [
                {"id": "a", "filed_under": {"preuve": "SC.INS.02.01.01"}, "name": "écran \u{202e}gnp.exe", "size": 3, "sha256": MANIFEST, "verdict": "rejected"},
                {"id": "b", "filed_under": {"slot": "documentation"}, "name": "https://gazelle.example/1", "verdict": "accepted"}
            ],
            "journal": {"entries": 4, "hash": OTHER},
            "producer": "greffier 0.1.0, inspectors 1"
        })
    );
}

#[test]
fn names_of_what_stands_beside_a_bundle() {
    for (bundle, name) in [("out/X-r1.zip", "X-r1"), ("out/X-r1", "X-r1"), ("out/X.v2.ZIP", "X.v2"), ("Y.zip", "Y")] {
        let bundle = Path::new(bundle);
        let zip = if is_zip(bundle) { bundle.file_name().unwrap().to_string_lossy().into_owned() } else { format!("{name}.zip") };
        assert_eq!(seal_path(bundle), bundle.with_file_name(format!("{zip}.jws")));
        assert_eq!(timestamp_request_path(bundle), bundle.with_file_name(format!("{zip}.jws.tsq")));
        assert_eq!(receipt_path(bundle), bundle.with_file_name(format!("{name}.receipt.jws")));
    }
}

#[test]
fn a_file_that_is_too_long_or_no_text_is_read_to_its_bound_and_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'a'; MAX_SEAL * 3]).unwrap();
    assert!(matches!(refusal(&read_file(file.path(), MAX_SEAL).unwrap()), SealError::TooLarge { .. }));
    std::fs::write(file.path(), b"\xff\xfe.\xff.\xff").unwrap();
    assert_eq!(refusal(&read_file(file.path(), MAX_SEAL).unwrap()), SealError::Base64("header"));
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_panic(text in "\\PC{0,300}", parts in proptest::collection::vec("[A-Za-z0-9_=-]{0,80}", 0..5)) {
        let keys = set(&[&rfc_key()]);
        prop_assert!(verify(MANIFEST, &text, &keys).is_err());
        prop_assert!(verify(MANIFEST, &parts.join("."), &keys).is_err());
        prop_assert!(receipt::verify(&text, &keys).is_err());
        let _ = KeySet::from_jwks(&text);
        let _ = SealKey::from_jwk(&text);
    }

    #[test]
    fn any_changed_character_breaks_a_seal(at in any::<prop::sample::Index>(), to in any::<u8>().prop_map(|b| char::from(b & 0x7f))) {
        let jws = seal().sign(&rfc_key()).unwrap();
        let mut changed: Vec<char> = jws.chars().collect();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != to);
        changed[at] = to;
        prop_assert!(verify(MANIFEST, &changed.into_iter().collect::<String>(), &set(&[&rfc_key()])).is_err());
    }

    #[test]
    fn any_texts_survive_the_round_trip(number in "\\PC{0,60}", producer in any::<String>(), revision in any::<u32>(), seed in any::<u8>()) {
        let mut report = report();
        report.candidature.number = number;
        report.producer = producer;
        report.revision = revision;
        report.verdict = [Verdict::Accepted, Verdict::Undetermined][usize::from(seed % 2)];
        let seal = Seal::of(&report, MANIFEST).unwrap();
        let verified = verify(MANIFEST, &seal.sign(&rfc_key()).unwrap(), &set(&[&rfc_key()])).unwrap();
        prop_assert_eq!(&verified.seal, &seal);
        prop_assert!(verified.agrees_with(&report).is_ok());
    }
}

mod keys {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn code(jwk: &Value) -> &'static str {
        SealKey::from_jwk(&jwk.to_string()).unwrap_err().code()
    }

    #[test]
    fn a_new_key_survives_the_round_trip_and_no_two_are_the_same() {
        let key = SealKey::generate().unwrap();
        let again = SealKey::from_jwk(&key.to_jwk()).unwrap();
        assert_eq!(again.to_jwk(), key.to_jwk());
        assert_eq!(seal().sign(&again).unwrap(), seal().sign(&key).unwrap());
        assert_ne!(key.kid(), SealKey::generate().unwrap().kid());
    }

    #[test]
    fn debug_and_errors_hold_nothing_of_the_private_key() {
        let key = rfc_key();
        assert_eq!(format!("{key:?}"), format!("SealKey {{ kid: {RFC_8037_THUMBPRINT:?}, d: *** }}"));
        // The parser would quote the value that has the wrong type.
        for spoilt in [
            json!(D).to_string(),
            json!([D]).to_string(),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","d":{{"{D}":1}}}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","key_ops":"{D}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","d":"{D}="}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","d":"{D}","d":"{D}"}}"#),
        ] {
            let error = SealKey::from_jwk(&spoilt).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains(&D[..8]), "{told}");
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused_each_with_its_code() {
        let good = || json!({"kty": "OKP", "crv": "Ed25519", "x": X, "d": D});
        let with = |name: &str, value: Value| {
            let mut jwk = good();
            jwk[name] = value;
            jwk
        };
        SealKey::from_jwk(&good().to_string()).unwrap();
        SealKey::from_jwk(&with("key_ops", json!(["sign"])).to_string()).unwrap();
        SealKey::from_jwk(&with("note", json!({"any": "member"})).to_string()).unwrap();
        assert_eq!(code(&with("kty", json!("EC"))), "SEAL-KEY-TYPE");
        assert_eq!(code(&with("crv", json!("X25519"))), "SEAL-KEY-TYPE");
        assert_eq!(code(&with("use", json!("enc"))), "SEAL-KEY-TYPE");
        assert_eq!(code(&with("alg", json!("ES256"))), "SEAL-KEY-TYPE");
        assert_eq!(code(&with("key_ops", json!(["verify"]))), "SEAL-KEY-TYPE");
        assert_eq!(code(&with("kid", json!("main"))), "SEAL-KEY-THUMBPRINT");
        assert_eq!(code(&with("x", json!("AAAA"))), "SEAL-KEY-PUBLIC");
        assert_eq!(code(&with("x", json!(format!("{X}AAAA")))), "SEAL-KEY-PUBLIC");
        assert_eq!(code(&with("d", json!("AAAA"))), "SEAL-KEY-PRIVATE");
        assert_eq!(code(&with("d", json!(X))), "SEAL-KEY-INCONSISTENT");
        assert_eq!(code(&json!({"kty": "OKP", "crv": "Ed25519", "x": X})), "SEAL-KEY-PUBLIC-ONLY");
        assert_eq!(code(&json!({"keys": [good()]})), "SEAL-KEY-JSON");
    }

    #[test]
    fn key_sets_pass_over_foreign_keys_and_refuse_secrets_and_emptiness() {
        let foreign = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "rsa"});
        let ours = json!({"kty": "OKP", "crv": "Ed25519", "x": X});
        let read = |keys: Value| KeySet::from_jwks(&json!({"keys": keys, "more": 1}).to_string());
        assert_eq!(read(json!([foreign, ours])).unwrap().kids().collect::<Vec<_>>(), [RFC_8037_THUMBPRINT]);
        assert_eq!(read(json!([foreign])).unwrap_err().code(), "SEAL-KEYS-EMPTY");
        assert_eq!(read(json!([])).unwrap_err().code(), "SEAL-KEYS-EMPTY");
        assert_eq!(read(json!([{"kty": "OKP", "crv": "Ed25519", "x": X, "d": D}])).unwrap_err().code(), "SEAL-KEYS-PRIVATE");
        assert_eq!(read(json!([ours, {"kty": "oct", "k": "AAAA"}])).unwrap_err().code(), "SEAL-KEYS-PRIVATE");
        // Two names for two keys, or one name for both: a stated id must be the thumbprint.
        let renamed = json!({"kty": "OKP", "crv": "Ed25519", "x": D, "kid": RFC_8037_THUMBPRINT});
        assert_eq!(read(json!([ours, renamed])).unwrap_err().code(), "SEAL-KEY-THUMBPRINT");
        assert_eq!(KeySet::from_jwks(&ours.to_string()).unwrap_err().code(), "SEAL-KEY-JSON");
    }

    #[test]
    fn a_published_key_set_holds_public_members_only() {
        let jwks: Value = serde_json::from_str(&set(&[&rfc_key()]).to_jwks()).unwrap();
        let key = json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": RFC_8037_THUMBPRINT, "x": X});
        assert_eq!(jwks, json!({"keys": [key]}));
    }

    #[test]
    fn a_key_file_that_others_can_open_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.jwk");
        rfc_key().write_new(&path).unwrap();
        assert_eq!(SealKey::from_file(&path).unwrap().kid(), RFC_8037_THUMBPRINT);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o601, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(SealKey::from_file(&path).unwrap_err().code(), "SEAL-KEY-MODE");
            assert_eq!(KeySet::from_any_file(&path).unwrap_err().code(), "SEAL-KEY-MODE");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        SealKey::from_file(&path).unwrap();
        assert_eq!(rfc_key().write_new(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(SealKey::from_file(&folder.path().join("none")).unwrap_err().code(), "SEAL-KEY-UNREADABLE");
        assert_eq!(SealKey::from_file(folder.path()).unwrap_err().code(), "SEAL-KEY-UNREADABLE");
    }

    #[test]
    fn a_key_file_of_another_user_is_refused_unless_that_is_root() {
        use super::super::keys::only_owner;
        let path = Path::new("key.jwk");
        assert_eq!(only_owner(path, 0o100_600, 1001, 1000).unwrap_err().code(), "SEAL-KEY-OWNER");
        assert_eq!(only_owner(path, 0o100_600, 1000, 0).unwrap_err().code(), "SEAL-KEY-OWNER");
        only_owner(path, 0o100_400, 0, 1000).unwrap();
        only_owner(path, 0o010_600, 1000, 1000).unwrap();
    }

    #[test]
    fn public_halves_are_had_from_private_keys_public_keys_and_key_sets() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        rfc_key().write_new(&path("private")).unwrap();
        std::fs::write(path("public"), json!({"kty": "OKP", "crv": "Ed25519", "x": X}).to_string()).unwrap();
        std::fs::write(path("set"), set(&[&rfc_key()]).to_jwks()).unwrap();
        std::fs::write(path("rsa"), json!({"kty": "RSA"}).to_string()).unwrap();
        for name in ["private", "public", "set"] {
            assert_eq!(KeySet::from_any_file(&path(name)).unwrap(), set(&[&rfc_key()]), "{name}");
        }
        let error = KeySet::from_any_file(&path("rsa")).unwrap_err();
        assert_eq!(error.code(), "SEAL-KEY-TYPE");
        assert!(error.to_string().contains("rsa)"), "the file is named: {error}");
    }
}
