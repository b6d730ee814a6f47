//! Bags of any origin, as a folder and as a ZIP: the cases of the public BagIt conformance suite that a verifier can
//! meet, made here. Each line: what was done, what must be said.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::path::Path;

use greffier::bundle::verify::{ProblemKind, VerifyReport, verify};
use proptest::prelude::*;
use sha2::{Digest, Sha256, Sha512};
use zip::write::SimpleFileOptions;

type Bag = BTreeMap<String, Vec<u8>>;

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A valid bag of two files, version 1.0.
fn bag() -> Bag {
    let mut bag = Bag::new();
    bag.insert("data/hello.txt".into(), b"hello".to_vec());
    bag.insert("data/sub/été.txt".into(), b"summer".to_vec());
    bag.insert("bagit.txt".into(), b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n".to_vec());
    bag.insert("bag-info.txt".into(), b"Contact-Name: A\n  folded\nPayload-Oxum: 11.2\n".to_vec());
    let manifest = format!("{}  data/hello.txt\n{}  data/sub/été.txt\n", sha256(b"hello"), sha256(b"summer"));
    bag.insert("manifest-sha256.txt".into(), manifest.into_bytes());
    seal(&mut bag);
    bag
}

/// Makes the tag manifest agree with whatever was done to tag files.
fn seal(bag: &mut Bag) {
    let lines: String = bag
        .iter()
        .filter(|(p, _)| !p.starts_with("data/") && !p.starts_with("tagmanifest"))
        .map(|(p, b)| format!("{}  {p}\n", sha256(b)))
        .collect();
    bag.insert("tagmanifest-sha256.txt".into(), lines.into_bytes());
}

fn put(bag: &mut Bag, path: &str, content: impl Into<Vec<u8>>) {
    bag.insert(path.into(), content.into());
}

/// Replaces text in one tag file and seals again.
fn edit(bag: &mut Bag, path: &str, from: &str, to: &str) {
    let text = String::from_utf8(bag[path].clone()).unwrap();
    assert!(text.contains(from), "{path} has no {from:?}");
    put(bag, path, text.replace(from, to));
    seal(bag);
}

fn as_folder(bag: &Bag) -> VerifyReport {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in bag {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::create_dir_all(folder.path().join("data")).unwrap();
    verify(folder.path()).unwrap()
}

/// As bundles are written; of other attributes, the ZIP is refused as a whole.
fn plain() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .system(zip::System::Unix)
        .last_modified_time(zip::DateTime::default())
}

fn zip_of<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(name, plain()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn of_zip(bytes: &[u8]) -> VerifyReport {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(bytes).unwrap();
    verify(file.path()).unwrap()
}

/// The bag in the order of bundles, and other members at its end.
fn packed(bag: &Bag, more: &[(&str, &[u8])]) -> Vec<u8> {
    let rank = |path: &str| match path {
        "bagit.txt" => 0,
        "bag-info.txt" => 1,
        "manifest-sha256.txt" => 2,
        "tagmanifest-sha256.txt" => 4,
        payload if payload.starts_with("data/") => 5,
        _ => 3,
    };
    let mut members: Vec<(usize, String, &[u8])> = bag.iter().map(|(p, b)| (rank(p), format!("sac/{p}"), b.as_slice())).collect();
    members.sort();
    zip_of(members.iter().map(|(_, n, b)| (n.as_str(), *b)).chain(more.iter().copied()))
}

fn as_zip(bag: &Bag) -> VerifyReport {
    of_zip(&packed(bag, &[]))
}

fn kinds(report: &VerifyReport) -> Vec<ProblemKind> {
    let mut kinds: Vec<ProblemKind> = report.problems.iter().map(|p| p.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn warnings(report: &VerifyReport) -> Vec<ProblemKind> {
    let mut kinds: Vec<ProblemKind> = report.warnings.iter().map(|p| p.kind).filter(|k| *k != ProblemKind::NotOurs).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// What was done, what is said of it, what is only warned of.
type Case = (&'static str, fn(&mut Bag), &'static [ProblemKind], &'static [ProblemKind]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // valid
    ("basic bag", |_| {}, &[], &[]),
    ("version 0.97", |b| edit(b, "bagit.txt", "1.0", "0.97"), &[], &[]),
    ("CRLF line endings", |b| { edit(b, "bagit.txt", "\n", "\r\n"); edit(b, "manifest-sha256.txt", "\n", "\r\n"); edit(b, "bag-info.txt", "\n", "\r\n"); }, &[], &[]),
    ("CR line endings", |b| edit(b, "manifest-sha256.txt", "\n", "\r"), &[], &[]),
    ("no line feed at the end", |b| { let m = b["manifest-sha256.txt"].clone(); put(b, "manifest-sha256.txt", m.trim_ascii_end()); seal(b) }, &[], &[]),
    ("a tab between checksum and path", |b| edit(b, "manifest-sha256.txt", "  ", "\t"), &[], &[]),
    ("upper-case checksums", |b| { let up = format!("{}  data/hello.txt\n{}  data/sub/été.txt\n", sha256(b"hello").to_uppercase(), sha256(b"summer").to_uppercase()); put(b, "manifest-sha256.txt", up); seal(b) }, &[], &[]),
    ("no bag-info.txt", |b| { b.remove("bag-info.txt"); seal(b) }, &[], &[]),
    ("no tag manifest", |b| { b.remove("tagmanifest-sha256.txt"); }, &[], &[]),
    ("two manifests", |b| { let m = format!("{}  data/hello.txt\n{}  data/sub/été.txt\n", hex::encode(Sha512::digest(b"hello")), hex::encode(Sha512::digest(b"summer"))); put(b, "manifest-sha512.txt", m); seal(b) }, &[], &[]),
    ("UTF-16 tag files", |b| { edit(b, "bagit.txt", "UTF-8", "UTF-16LE"); b.remove("bag-info.txt"); let m: Vec<u8> = format!("{}  data/hello.txt\n{}  data/sub/été.txt\n", sha256(b"hello"), sha256(b"summer")).encode_utf16().flat_map(u16::to_le_bytes).collect(); put(b, "manifest-sha256.txt", m); b.remove("tagmanifest-sha256.txt"); }, &[], &[]),
    ("ISO-8859-1 tag files", |b| { edit(b, "bagit.txt", "UTF-8", "ISO-8859-1"); b.remove("bag-info.txt"); let m: Vec<u8> = format!("{}  data/hello.txt\n{}  data/sub/été.txt\n", sha256(b"hello"), sha256(b"summer")).chars().map(|c| c as u8).collect(); put(b, "manifest-sha256.txt", m); b.remove("tagmanifest-sha256.txt"); }, &[], &[]),
    ("a name with a percent sign, encoded", |b| { put(b, "data/50%.txt", "%"); fix_manifest(b, &[("data/50%25.txt", b"%")]); edit(b, "bag-info.txt", "11.2", "12.3") }, &[], &[]),
    ("a name with a percent sign, not encoded", |b| { put(b, "data/a%25b.txt", "%"); fix_manifest(b, &[("data/a%25b.txt", b"%")]); edit(b, "bag-info.txt", "11.2", "12.3") }, &[], &[ProblemKind::NotDecoded]),
    ("a name with a lone percent sign", |b| { put(b, "data/100%", "%"); fix_manifest(b, &[("data/100%", b"%")]); edit(b, "bag-info.txt", "11.2", "12.3") }, &[], &[]),
    ("md5sum's star before a path", |b| edit(b, "manifest-sha256.txt", "  data/hello", " *data/hello"), &[], &[ProblemKind::LinePrefix]),
    ("a path that starts with ./", |b| edit(b, "manifest-sha256.txt", "  data/hello", "  ./data/hello"), &[], &[ProblemKind::LinePrefix]),
    ("a tag file that no manifest lists", |b| put(b, "notes.txt", "x"), &[], &[ProblemKind::Extra]),
    ("an accent written as two characters", |b| { let f = b.remove("data/sub/été.txt").unwrap(); put(b, "data/sub/e\u{301}te\u{301}.txt", f) }, &[], &[ProblemKind::UnicodeForm]),
    ("a payload file with a leading space in its name", |b| { put(b, "data/ x.txt", "%"); fix_manifest(b, &[("data/ x.txt", b"%")]); edit(b, "bag-info.txt", "11.2", "12.3") }, &[], &[]),
    // payload
    ("a missing file", |b| { b.remove("data/hello.txt"); edit(b, "bag-info.txt", "11.2", "6.1") }, &[ProblemKind::Missing], &[]),
    ("an extra file", |b| { put(b, "data/extra", ""); edit(b, "bag-info.txt", "11.2", "11.3") }, &[ProblemKind::Extra], &[]),
    ("an extra file that the Oxum does not know", |b| put(b, "data/extra", "x"), &[ProblemKind::Oxum, ProblemKind::Extra], &[]),
    ("one byte changed", |b| put(b, "data/hello.txt", "hellp"), &[ProblemKind::Changed], &[]),
    ("one byte added", |b| put(b, "data/hello.txt", "hello\n"), &[ProblemKind::Oxum, ProblemKind::Changed], &[]),
    ("wrong case in the manifest", |b| edit(b, "manifest-sha256.txt", "data/hello", "data/Hello"), &[ProblemKind::WrongCase], &[]),
    ("wrong case on disk", |b| { let f = b.remove("data/hello.txt").unwrap(); put(b, "data/HELLO.txt", f) }, &[ProblemKind::WrongCase], &[]),
    ("a file in one manifest of two", |b| { put(b, "manifest-sha512.txt", format!("{}  data/hello.txt\n", hex::encode(Sha512::digest(b"hello")))); seal(b) }, &[ProblemKind::Extra], &[]),
    // manifests
    ("no payload manifest", |b| { b.remove("manifest-sha256.txt"); seal(b) }, &[ProblemKind::NoManifest], &[]),
    ("an empty payload manifest", |b| { put(b, "manifest-sha256.txt", ""); seal(b) }, &[ProblemKind::Extra], &[]),
    ("MD5 only", |b| { b.remove("manifest-sha256.txt"); put(b, "manifest-md5.txt", "5d41402abc4b2a76b9719d911017c592  data/hello.txt\n"); seal(b) }, &[ProblemKind::NoManifest, ProblemKind::Algorithm], &[]),
    ("an unknown algorithm", |b| { put(b, "manifest-crc32.txt", "x"); seal(b) }, &[ProblemKind::Algorithm], &[]),
    ("a line without a path", |b| edit(b, "manifest-sha256.txt", "  data/hello.txt", ""), &[ProblemKind::ManifestLine, ProblemKind::Extra], &[]),
    ("a short checksum", |b| edit(b, "manifest-sha256.txt", &sha256(b"hello"), "2cf24d"), &[ProblemKind::ManifestLine, ProblemKind::Extra], &[]),
    ("a checksum that is not hexadecimal", |b| { let h = sha256(b"hello"); edit(b, "manifest-sha256.txt", &h, &"z".repeat(64)) }, &[ProblemKind::ManifestLine, ProblemKind::Extra], &[]),
    ("the same file twice", |b| fix_manifest(b, &[("data/hello.txt", b"hello")]), &[ProblemKind::ManifestDuplicate], &[]),
    ("the same file twice with two checksums", |b| fix_manifest(b, &[("data/hello.txt", b"other")]), &[ProblemKind::ManifestDuplicate], &[]),
    ("a manifest that is not UTF-8", |b| { put(b, "manifest-sha256.txt", [sha256(b"hello").as_bytes(), b"  data/hello.txt\n", sha256(b"x").as_bytes(), b"  data/\xff\n"].concat()); seal(b) }, &[ProblemKind::Encoding, ProblemKind::Missing, ProblemKind::Extra], &[]),
    ("a tag file in the payload manifest", |b| fix_manifest(b, &[("bag-info.txt", b"x")]), &[ProblemKind::UnsafePath], &[]),
    // escapes
    ("../ in a manifest", |b| fix_manifest(b, &[("data/../../etc/passwd", b"x")]), &[ProblemKind::UnsafePath], &[]),
    ("an absolute path in a manifest", |b| fix_manifest(b, &[("/etc/passwd", b"x")]), &[ProblemKind::UnsafePath], &[]),
    ("a home path in a manifest", |b| fix_manifest(b, &[("~/.ssh/id_rsa", b"x")]), &[ProblemKind::UnsafePath], &[]),
    ("backslashes in a manifest", |b| fix_manifest(b, &[("data\\..\\..\\x", b"x")]), &[ProblemKind::UnsafePath], &[]),
    ("a drive in a manifest", |b| fix_manifest(b, &[("C:/x", b"x")]), &[ProblemKind::UnsafePath], &[]),
    ("an encoded line feed in a manifest", |b| fix_manifest(b, &[("data/a%0Ab", b"x")]), &[ProblemKind::UnsafePath], &[]),
    ("../ in a tag manifest", |b| { let mut t = b["tagmanifest-sha256.txt"].clone(); t.extend(format!("{}  ../x\n", sha256(b"x")).bytes()); put(b, "tagmanifest-sha256.txt", t) }, &[ProblemKind::UnsafePath], &[]),
    // declaration
    ("no bagit.txt", |b| { b.remove("bagit.txt"); }, &[ProblemKind::NotABag], &[]),
    ("an empty bagit.txt", |b| { put(b, "bagit.txt", ""); seal(b) }, &[ProblemKind::Declaration], &[]),
    ("a third line in bagit.txt", |b| edit(b, "bagit.txt", "UTF-8\n", "UTF-8\nX: y\n"), &[ProblemKind::Declaration], &[]),
    ("lines of bagit.txt swapped", |b| { put(b, "bagit.txt", "Tag-File-Character-Encoding: UTF-8\nBagIt-Version: 1.0\n"); seal(b) }, &[ProblemKind::Declaration], &[]),
    ("a byte-order mark in bagit.txt", |b| edit(b, "bagit.txt", "BagIt", "\u{feff}BagIt"), &[ProblemKind::Declaration], &[]),
    ("no space in bagit.txt", |b| edit(b, "bagit.txt", "Version: ", "Version:"), &[ProblemKind::Declaration], &[]),
    ("a version that is no number", |b| edit(b, "bagit.txt", "1.0", "1.x"), &[ProblemKind::Declaration], &[]),
    ("a version from the future", |b| edit(b, "bagit.txt", "1.0", "2.0"), &[ProblemKind::Version], &[]),
    ("an unknown encoding", |b| edit(b, "bagit.txt", "UTF-8", "KLINGON-8"), &[ProblemKind::Encoding], &[]),
    // bag-info and tags
    ("a line without a colon in bag-info.txt", |b| edit(b, "bag-info.txt", "Contact-Name: A", "Contact-Name A"), &[ProblemKind::BagInfo], &[]),
    ("a continuation before any label", |b| edit(b, "bag-info.txt", "Contact", "  x\nContact"), &[ProblemKind::BagInfo], &[]),
    ("a wrong Oxum", |b| edit(b, "bag-info.txt", "11.2", "11.3"), &[ProblemKind::Oxum], &[]),
    ("an Oxum that is no Oxum", |b| edit(b, "bag-info.txt", "11.2", "beaucoup"), &[ProblemKind::Oxum], &[]),
    ("two Oxums", |b| edit(b, "bag-info.txt", "Contact", "Payload-Oxum: 11.2\nContact"), &[ProblemKind::BagInfo], &[]),
    ("a changed tag file", |b| put(b, "bag-info.txt", "Payload-Oxum: 11.2\n"), &[ProblemKind::Changed], &[]),
    ("a missing tag file", |b| { b.remove("bag-info.txt"); }, &[ProblemKind::Missing], &[]),
    ("a fetch file", |b| { put(b, "fetch.txt", "http://example.org/ 5 data/hello.txt\n"); seal(b) }, &[ProblemKind::Fetch], &[]),
];

/// Adds lines to the payload manifest and seals again.
fn fix_manifest(bag: &mut Bag, lines: &[(&str, &[u8])]) {
    let mut manifest = format!("{}  data/hello.txt\n{}  data/sub/été.txt\n", sha256(b"hello"), sha256(b"summer"));
    for (path, bytes) in lines {
        manifest.push_str(&format!("{}  {path}\n", sha256(bytes)));
    }
    put(bag, "manifest-sha256.txt", manifest);
    seal(bag);
}

#[test]
fn bags_are_judged_alike_as_a_folder_and_as_a_zip() {
    assert!(CASES.len() >= 60, "{} cases", CASES.len());
    for (name, change, problems, warned) in CASES {
        let mut bag = bag();
        change(&mut bag);
        for (form, report) in [("folder", as_folder(&bag)), ("zip", as_zip(&bag))] {
            assert_eq!(kinds(&report), *problems, "{name} ({form}): {:#?}", report.problems);
            assert_eq!(warnings(&report), *warned, "{name} ({form}): {:#?}", report.warnings);
            assert_eq!(report.valid, problems.is_empty(), "{name} ({form})");
        }
    }
}

#[test]
fn names_in_a_zip_that_leave_the_bag_are_refused() {
    let bag = bag();
    for hostile in ["../x", "/etc/passwd", "sac/../../x", "sac\\..\\x", "C:/x", "sac//x", "sac/./x", "sac/a\nb"] {
        // Same length, then renamed in place: the writer would tidy some of these names.
        let placeholder = "Z".repeat(hostile.len());
        let mut bytes = packed(&bag, &[(placeholder.as_str(), b"x")]);
        rename(&mut bytes, &placeholder, hostile);
        let report = of_zip(&bytes);
        assert!(kinds(&report).contains(&ProblemKind::UnsafePath), "{hostile:?}: {:#?}", report.problems);
    }
}

/// Replaces a name everywhere in a ZIP: local header and central directory.
fn rename(zip: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut at = 0;
    let mut renamed = 0;
    while let Some(found) = zip[at..].windows(from.len()).position(|w| w == from.as_bytes()) {
        zip[at + found..at + found + to.len()].copy_from_slice(to.as_bytes());
        at += found + to.len();
        renamed += 1;
    }
    assert_eq!(renamed, 2);
}

#[test]
fn two_members_of_one_name_are_refused() {
    let bag = bag();
    for (other, name) in [("sac/data/hellO_txt", "sac/data/hello.txt"), ("sac/data/hellO_txt", "sac/data/HELLO.TXT")] {
        let mut bytes = packed(&bag, &[(other, b"evil")]);
        rename(&mut bytes, other, name);
        let report = of_zip(&bytes);
        assert!(kinds(&report).contains(&ProblemKind::Duplicate), "{name}: {:#?}", report.problems);
    }
}

#[test]
fn files_beside_the_bag_are_refused() {
    let bag = bag();
    let bytes = packed(&bag, &[("setup.exe", b"MZ")]);
    assert_eq!(kinds(&of_zip(&bytes)), [ProblemKind::OutsideRoot]);
}

#[test]
fn links_and_devices_are_refused_and_never_followed() {
    let bag = bag();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in &bag {
        zip.start_file(format!("sac/{path}"), plain()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.add_symlink("sac/data/link", "/etc/passwd", plain()).unwrap();
    assert_eq!(kinds(&of_zip(&zip.finish().unwrap().into_inner())), [ProblemKind::Layout]);

    #[cfg(unix)]
    {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in &bag {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("data/link")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("data/root")).unwrap();
        assert_eq!(kinds(&verify(folder.path()).unwrap()), [ProblemKind::SpecialFile]);
    }
}

#[test]
fn what_is_no_bag_is_said_to_be_none() {
    assert_eq!(kinds(&of_zip(b"not a zip")), [ProblemKind::Container]);
    assert_eq!(kinds(&of_zip(b"")), [ProblemKind::Container]);
    assert_eq!(kinds(&of_zip(&zip_of([("a.txt", b"a".as_slice())]))), [ProblemKind::NotABag]);
    assert_eq!(kinds(&verify(tempfile::tempdir().unwrap().path()).unwrap()), [ProblemKind::NotABag]);
    assert!(verify(Path::new("/nowhere/at/all")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// A bag of any origin: whatever byte of its ZIP is changed, it is found.
    #[test]
    fn a_changed_byte_is_always_seen(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = packed(&bag(), &[]);
        let i = at.index(bytes.len());
        bytes[i] ^= flip;
        prop_assert!(!of_zip(&bytes).valid);
    }
}

/// ZIPs of other producers: refused with the advice to extract them, after which the folder is judged by BagIt's rules.
#[test]
fn a_zip_of_another_producer_is_to_be_extracted() {
    let bag = bag();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in &bag {
        zip.start_file(format!("sac/{path}"), plain().unix_permissions(0o600)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    let bytes = zip.finish().unwrap().into_inner();
    let report = of_zip(&bytes);
    assert_eq!(kinds(&report), [ProblemKind::Layout]);
    assert!(report.problems[0].offset.is_some() && report.problems[0].message.en.contains("extract it and verify the folder"));
    let folder = tempfile::tempdir().unwrap();
    zip::ZipArchive::new(Cursor::new(bytes)).unwrap().extract(folder.path()).unwrap();
    assert!(verify(folder.path()).unwrap().valid);
}

#[test]
fn names_that_some_system_takes_for_one_are_refused_in_folders_too() {
    for (one, other) in [("data/sub/a.txt", "data/sub/A.txt"), ("data/sub/x.txt", "data/SUB/y.txt"), ("data/q", "data/Q/r")] {
        let mut bag = bag();
        put(&mut bag, one, "1");
        put(&mut bag, other, "2");
        fix_manifest(&mut bag, &[(one, b"1"), (other, b"2")]);
        edit(&mut bag, "bag-info.txt", "11.2", "13.4");
        for (form, report) in [("folder", as_folder(&bag)), ("zip", as_zip(&bag))] {
            assert_eq!(kinds(&report), [ProblemKind::Duplicate], "{one} {other} ({form}): {:#?}", report.problems);
        }
    }
}
