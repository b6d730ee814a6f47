//! What is read back: rules and requirements, names, bundles, seals.

use std::collections::BTreeSet;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::OnceLock;

use super::files::shown;
use super::parts;
use crate::bundle::{index_csv, names, verify, zip_reader};
use crate::pipeline::{html, import, load};
use crate::seal::{self, KeySet, SealKey, journal, jws, receipt, timestamp};

/// Pipelines and catalogues in TOML; from a list of parts, the agency's spreadsheet.
pub fn pipeline(bytes: &[u8]) {
    if bytes.starts_with(b"=== ") {
        let imported = import::import(&parts::zip(bytes), "EXPORT_03092025.xlsx", &import::Options::default(), None);
        if let Ok((catalogue, _)) = imported {
            let text = catalogue.to_toml().expect("a catalogue is TOML");
            let (again, _) = load::parse_catalogue(Path::new("catalogue.toml"), &text, None);
            assert_eq!(again.as_ref(), Some(&catalogue), "an imported catalogue can be read again");
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    html::to_text(text);
    let path = Path::new("rules.toml");
    for problem in load::parse_pipeline(path, text).1.iter().chain(&load::parse_catalogue(path, text, None).1) {
        let lines = u32::try_from(text.split('\n').count()).unwrap_or(u32::MAX);
        assert!(problem.position.is_none_or(|(line, _)| line <= lines), "a problem outside the file: {problem:?}");
    }
}

/// File names, ids and table cells of vendors.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut namer = names::Namer::default();
    let mut taken = BTreeSet::new();
    let folder = namer.folder("", text.lines().next().unwrap_or_default(), "dossier", names::MAX_COMPONENT);
    safe(&folder);
    for name in text.lines().take(32) {
        let component = names::component(name, "fichier", names::MAX_COMPONENT);
        safe(&component);
        assert_eq!(names::component(&component, "fichier", names::MAX_COMPONENT), component, "a safe name stays as it is");
        let path = namer.file(&folder, name, "fichier", names::MAX_PATH);
        safe(path.strip_prefix(&folder).and_then(|p| p.strip_prefix('/')).expect("inside its folder"));
        assert!(path.len() <= names::MAX_PATH && taken.insert(names::fold(&path)), "too long or given twice: {path:?}");
        let cell = index_csv::cell(name);
        shown(&cell);
        assert!(!cell.starts_with(['=', '+', '-', '@']), "a formula: {cell:?}");
        assert!(crate::bundle::html::percent_encode(name).bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>&?#".contains(&b)));
    }
}

/// What Windows, macOS and Linux create, show and delete.
fn safe(name: &str) {
    shown(name);
    assert!((1..=names::MAX_COMPONENT).contains(&name.len()), "{name:?}");
    assert!(!name.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*', '%']), "{name:?}");
    assert!(!name.ends_with(['.', ' ']) && !name.starts_with([' ', '.', '-', '~']), "{name:?}");
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    assert!(!["con", "prn", "aux", "nul", "com1", "lpt9"].contains(&stem.as_str()), "a device: {name:?}");
}

/// A bundle that somebody hands back, as a container and, from a list of parts, as a bag.
pub fn bundle(bytes: &[u8]) {
    if let Ok(mut zip) = zip_reader::ZipReader::open(Cursor::new(bytes)) {
        for index in 0..zip.members.len().min(64) {
            let (size, mut seen) = (zip.members[index].size, 0);
            let read = zip.read(index, &mut |piece| seen += piece.len() as u64);
            assert!(seen <= size && (read.is_err() || seen == size), "{seen} bytes of {size}");
        }
    }
    let bag = if bytes.starts_with(b"PK") { bytes.to_vec() } else { parts::zip(bytes) };
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&bag).expect("room for it");
    let report = verify(file.path()).expect("the file is there");
    assert_eq!(report.valid, report.problems.is_empty(), "problems make a bundle invalid");
    for problem in report.problems.iter().chain(&report.warnings) {
        problem.path.iter().chain(&problem.detail).for_each(|text| shown(text));
    }
}

/// Keys, seals, receipts, time stamps and journals. The signature is ours, so that what is signed is read.
pub fn seal(bytes: &[u8]) {
    let digest = "0".repeat(64);
    let text = String::from_utf8_lossy(bytes);
    for error in [SealKey::from_jwk(&text).err(), KeySet::from_jwks(&text).err()].into_iter().flatten() {
        shown(&error.to_string());
    }
    let (key, keys) = key();
    let refusals = [seal::verify(&digest, &text, keys).err(), receipt::verify(&text, keys).err()];
    let signed = serde_json::from_slice::<serde_json::Value>(bytes).ok().map(|payload| {
        let sign = |kind| jws::sign(kind, &payload, key, receipt::MAX_RECEIPT).expect("signed");
        [seal::verify(&digest, &sign(seal::TYPE), keys).err(), receipt::verify(&sign(receipt::TYPE), keys).err()]
    });
    refusals.into_iter().chain(signed.into_iter().flatten()).flatten().for_each(|why| shown(&why.to_string()));
    match timestamp::check(bytes, b"abc") {
        Ok(stated) => assert!(stated.serial.bytes().all(|b| b.is_ascii_hexdigit())),
        Err(why) => shown(&why.to_string()),
    }
    if let Ok((entries, head)) = journal::read_lines(bytes) {
        assert_eq!(entries.len() as u64, head.entries, "every line is an entry");
    }
}

fn key() -> &'static (SealKey, KeySet) {
    // RFC 8037, appendix A.1.
    const JWK: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    static KEY: OnceLock<(SealKey, KeySet)> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = SealKey::from_jwk(JWK).expect("the RFC's key");
        let mut keys = KeySet::default();
        keys.add(key.public().clone());
        (key, keys)
    })
}
