//! The bundle: what is written, what a reader makes of it, and what `verify` says of bags that went wrong.

mod conformance;
pub mod synthetic;

use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use greffier::bundle::verify::ProblemKind;
use greffier::bundle::{BundleError, Options, Preview, Withhold, html, index_csv, names, verify, write};
use greffier::model::report::{PreuveReport, Report, SlotReport, Withheld};
use greffier::model::submission::FiledUnder;
use greffier::model::work::Work;
use greffier::model::{Category, Facts, Format, Place, Severity, Text, Verdict};
use proptest::prelude::*;
use synthetic::{HOSTILE, Memory, candidature, empty, finding, item};

fn build(report: &mut Report, memory: &Memory, options: &Options) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    write(report, memory, options, &mut out, &Work::unbounded()).expect("a bundle in memory");
    out.into_inner()
}

/// Unpacks with an independent reader; gives the bag's folder.
fn unpack(bundle: &[u8], into: &Path) -> std::path::PathBuf {
    let mut zip = zip::ZipArchive::new(Cursor::new(bundle)).expect("a readable ZIP");
    zip.extract(into).expect("extraction");
    std::fs::read_dir(into).unwrap().next().expect("one folder").unwrap().path()
}

/// Names in the order of the directory.
fn members(zip: &zip::ZipArchive<Cursor<&[u8]>>) -> Vec<String> {
    (0..zip.len()).map(|i| zip.name_for_index(i).expect("member").expect("UTF-8").into_owned()).collect()
}

fn read(bundle: &[u8], name: &str) -> String {
    let mut zip = zip::ZipArchive::new(Cursor::new(bundle)).unwrap();
    let full = members(&zip).into_iter().find(|n| n.split_once('/').is_some_and(|(_, inside)| inside == name)).expect("member");
    let mut text = String::new();
    zip.by_name(&full).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// The page as a reader of HTML sees its links: the template engine writes `/` as a reference.
fn unescaped(page: &str) -> String {
    page.replace("&#x2f;", "/")
}

fn verified(bundle: &[u8]) -> verify::VerifyReport {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(bundle).unwrap();
    verify::verify(file.path()).unwrap()
}

/// A small report: two slots, three proofs, five items.
fn small() -> (Report, Memory) {
    let mut report = empty();
    let mut memory = Memory::default();
    let slot = |id: &str| SlotReport { id: id.into(), title: Text::new(id, id), required: true, items: vec![], verdict: None };
    report.slots = vec![slot("documentation"), slot("versions-obsoletes")];
    for (id, exigence, chapter) in
        [("INS.02.01.01", "INS.02", "ins"), ("DMP/UX.10.01.01", "DMP/UX.10", "dmp"), ("DMP/UX.10.01.02", "DMP/UX.10", "dmp")]
    {
        report.preuves.push(PreuveReport {
            id: id.into(),
            title: format!("Preuve {id}"),
            chapter: chapter.into(),
            exigence: exigence.into(),
            exigence_title: "Exigence".into(),
            scenario: format!("{exigence}.01"),
            scenario_title: "Scénario\n1. Ouvrir\n2. Constater".into(),
            criticite: String::new(),
            conditional: false,
            items: vec![],
            verdict: None,
        });
    }
    let preuve = |id: &str| FiledUnder::Preuve(id.into());
    for (id, filed, name, format) in [
        ("d", FiledUnder::Slot("documentation".into()), "Guide d'utilisation.pdf", Format::Pdf),
        ("c10", preuve("INS.02.01.01"), "capture-10.png", Format::Png),
        ("c2", preuve("INS.02.01.01"), "capture-2.png", Format::Png),
        ("h", preuve("DMP/UX.10.01.01"), HOSTILE, Format::Png),
        ("t", preuve("XYZ.99.01.01"), "=1+1.txt", Format::Txt),
    ] {
        let mut one = item(&mut memory, id, filed.clone(), name, format!("octets de {id}").into_bytes());
        one.facts = Some(Facts { format: Some(format), ..Facts::of_size(one.size.unwrap_or(0)) }.into());
        match &filed {
            FiledUnder::Slot(slot) => report.slots.iter_mut().filter(|s| s.id == *slot).for_each(|s| s.items.push(id.into())),
            FiledUnder::Preuve(preuve) => report.preuves.iter_mut().filter(|p| p.id == *preuve).for_each(|p| {
                p.items.push(id.into());
                p.verdict = Some(Verdict::Accepted);
            }),
        }
        report.items.push(one);
    }
    (report, memory)
}

#[test]
fn the_same_inputs_give_the_same_bytes_whatever_order_they_come_in() {
    let (mut report, memory, previews) = candidature();
    let options = Options { previews, ..Options::default() };
    let mut shuffled = report.clone();
    shuffled.items.reverse();
    shuffled.items.rotate_left(17);
    shuffled.preuves.iter_mut().for_each(|p| p.items.reverse());
    let first = build(&mut report, &memory, &options);
    assert!(first == build(&mut report.clone(), &memory, &options), "built twice");
    assert!(first == build(&mut shuffled, &memory, &options), "built from shuffled items");
    assert_eq!(report, shuffled, "the report follows the bundle");
}

#[test]
fn a_bundle_of_ours_is_valid_packed_and_unpacked() {
    let (mut report, memory, previews) = candidature();
    let bundle = build(&mut report, &memory, &Options { previews, ..Options::default() });
    let outcome = verified(&bundle);
    assert!(outcome.valid && outcome.warnings.is_empty(), "{outcome:#?}");
    assert_eq!(outcome.bundle.as_ref().map(|b| b.candidature.as_str()), Some("IZCYKCWXGY"));
    let folder = tempfile::tempdir().unwrap();
    let bag = unpack(&bundle, folder.path());
    for path in [bag.as_path(), folder.path()] {
        let unpacked = verify::verify(path).unwrap();
        assert!(unpacked.valid, "{unpacked:#?}");
        assert_eq!(unpacked.tagmanifest_sha256, outcome.tagmanifest_sha256);
    }
}

#[test]
#[ignore = "needs Python and bagit; run by scripts/test"]
fn bagit_py_accepts_the_unzipped_bundle_and_refuses_a_changed_one() {
    let python = std::env::var("GREFFIER_BAGIT_PYTHON").expect(
        "GREFFIER_BAGIT_PYTHON must name a Python that has the package `bagit`: python3 -m venv V && V/bin/pip install bagit && export GREFFIER_BAGIT_PYTHON=V/bin/python",
    );
    let bagit = |bag: &Path| Command::new(&python).args(["-m", "bagit", "--quiet", "--validate"]).arg(bag).output().expect("python starts");
    let (mut report, memory, _) = candidature();
    let folder = tempfile::tempdir().unwrap();
    let bag = unpack(&build(&mut report, &memory, &Options::default()), folder.path());
    let output = bagit(&bag);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let victim = bag.join(report.items[3].path.as_deref().unwrap());
    std::fs::write(victim, "autre chose").unwrap();
    assert!(!bagit(&bag).status.success(), "the same command must be able to fail");

    // Nothing deposited at all is still a bag.
    let folder = tempfile::tempdir().unwrap();
    let bag = unpack(&build(&mut empty(), &Memory::default(), &Options::default()), folder.path());
    let output = bagit(&bag);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(verify::verify(&bag).unwrap().valid);
}

#[test]
fn the_layout_and_the_table_are_what_they_were() {
    let (mut report, memory) = small();
    let bundle = build(&mut report, &memory, &Options::default());
    let zip = zip::ZipArchive::new(Cursor::new(bundle.as_slice())).unwrap();
    insta::assert_snapshot!("layout", members(&zip).join("\n"));
    insta::assert_snapshot!("bag_info", read(&bundle, "bag-info.txt"));
    insta::assert_snapshot!("manifest", read(&bundle, "manifest-sha256.txt"));
    insta::assert_snapshot!("index_csv", read(&bundle, "index.csv"));
}

#[test]
fn every_name_in_a_bundle_can_be_unpacked_anywhere() {
    let (mut report, memory, previews) = candidature();
    let bundle = build(&mut report, &memory, &Options { previews, ..Options::default() });
    let zip = zip::ZipArchive::new(Cursor::new(bundle.as_slice())).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for name in members(&zip) {
        let name = name.trim_end_matches('/');
        assert!(name.len() <= names::MAX_PATH, "{name}");
        assert!(seen.insert(names::fold(name)), "{name} twice on a system that ignores case");
        for part in name.split('/') {
            assert_eq!(names::component(part, "x", names::MAX_COMPONENT), part);
        }
    }
    let hostile = report.items.iter().find(|i| i.name == HOSTILE).unwrap();
    assert!(hostile.path.as_ref().is_some_and(|p| p.ends_with(".png")), "{:?}", hostile.path);
}

#[test]
fn the_manifests_of_the_bundle_hold_every_file_and_the_report_holds_every_name() {
    let (mut report, memory) = small();
    let bundle = build(&mut report, &memory, &Options::default());
    let stored: Report = serde_json::from_str(&read(&bundle, "report.json")).unwrap();
    assert_eq!(stored, report);
    let manifest = read(&bundle, "manifest-sha256.txt");
    for one in &stored.items {
        assert!(manifest.contains(&format!("{}  {}\n", one.sha256.as_deref().unwrap(), one.path.as_deref().unwrap())), "{}", one.id);
    }
    assert!(stored.items.iter().any(|i| i.name == HOSTILE), "the original name is kept in the report");
}

#[test]
fn what_would_harm_the_reader_is_listed_and_left_out() {
    let (mut report, memory) = small();
    let mut with = |id: &str, change: &dyn Fn(&mut greffier::model::report::ItemReport)| {
        report.items.iter_mut().filter(|i| i.id == id).for_each(change);
    };
    with("d", &|i| i.findings.push(finding("antivirus-infected", Category::Antivirus, Severity::Error, Place::default())));
    with("c2", &|i| i.findings.push(finding("bomb-inflated", Category::Bomb, Severity::Error, Place::default())));
    with("c10", &|i| i.facts = Some(Facts { format: Some(Format::Exe), ..Facts::of_size(1) }.into()));
    with("t", &|i| i.name = "rapport.pdf.JS ".into());
    // Not scanned is not infected.
    with("h", &|i| {
        i.findings.push(finding("antivirus-down", Category::Antivirus, Severity::Fatal, Place::default()));
        i.verdict = Verdict::Rejected;
    });
    let mut out = Cursor::new(Vec::new());
    let summary = write(&mut report, &memory, &Options::default(), &mut out, &Work::unbounded()).unwrap();
    let mut withheld = summary.withheld.clone();
    withheld.sort();
    let expected = [("c10", Withheld::Executable), ("c2", Withheld::Bomb), ("d", Withheld::Antivirus), ("t", Withheld::Executable)];
    assert_eq!(withheld, expected.map(|(id, why)| (id.to_owned(), why)));
    assert_eq!(summary.payload_files, 1);
    assert!(report.items.iter().all(|i| i.sha256.is_some() && i.path.is_none() == i.withheld.is_some()));
    assert!(verified(out.get_ref()).valid);

    let options = Options { withhold: Withhold::Rejected, ..Options::default() };
    assert_eq!(write(&mut report, &memory, &options, Cursor::new(Vec::new()), &Work::unbounded()).unwrap().payload_files, 0);
}

#[test]
fn bytes_that_are_not_those_that_were_checked_stop_the_build() {
    let (report, mut memory) = small();
    let attempt = |memory: &Memory| write(&mut report.clone(), memory, &Options::default(), Cursor::new(Vec::new()), &Work::unbounded());
    memory.0.insert("c2".into(), b"octets de c3".to_vec());
    assert!(matches!(attempt(&memory), Err(BundleError::Changed { item, .. }) if item == "c2"));
    memory.0.remove("c2");
    assert!(matches!(attempt(&memory), Err(BundleError::Source { item, .. }) if item == "c2"));
    let mut twice = report.clone();
    twice.items.push(report.items[0].clone());
    assert!(matches!(
        write(&mut twice, &memory, &Options::default(), Cursor::new(Vec::new()), &Work::unbounded()),
        Err(BundleError::DuplicateItem(_))
    ));
}

#[test]
fn attachments_are_tag_files_with_safe_names_only() {
    let (report, memory) = small();
    let attempt = |path: &str| {
        let options = Options { attachments: [(path.to_owned(), b"<gvr/>".to_vec())].into(), ..Options::default() };
        let mut out = Cursor::new(Vec::new());
        write(&mut report.clone(), &memory, &options, &mut out, &Work::unbounded()).map(|_| out.into_inner())
    };
    let bundle = attempt("gazelle/1.2.3.xml").unwrap();
    assert!(read(&bundle, "tagmanifest-sha256.txt").contains("  gazelle/1.2.3.xml\n"));
    assert!(verified(&bundle).valid);
    for path in ["../x", "/x", "data/x", "DATA/x", "index.html", "Report.JSON", "fetch.txt", "manifest-md5.txt", "a\\b", "a//b", "a%b", ""]
    {
        assert!(matches!(attempt(path), Err(BundleError::Attachment(_))), "{path:?}");
    }
}

#[test]
fn the_page_shows_hostile_text_as_text() {
    let (mut report, memory, previews) = candidature();
    let page = read(&build(&mut report, &memory, &Options { previews, ..Options::default() }), "index.html");
    assert!(!page.contains("<img src=x") && !page.contains("<script>document") && !page.contains('\u{202e}'));
    assert!(page.contains("=&lt;img src=x onerror="));
    // Ours are the only scripts: one of data, one that runs.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    // Nothing that the policy would refuse, and nothing that a network could answer.
    for forbidden in [" onclick=", " onload=", " style=\"", "javascript:", "src=\"http", "href=\"http", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let page = unescaped(&page);
    // Of a file whose format was not found, nothing says that a browser runs nothing of it.
    for one in report.items.iter().filter(|i| i.facts.as_ref().is_some_and(|f| f.format.is_some())).filter_map(|i| i.path.as_deref()) {
        assert!(page.contains(&format!("href=\"{}\"", html::percent_encode(one))), "{one}");
    }
    for preuve in &report.preuves {
        assert!(page.contains(&format!("<bdi>{}</bdi>", preuve.id)), "{}", preuve.id);
    }
}

/// A link is made only where the format found and the name are both of a kind that a browser does not run.
#[test]
fn what_a_browser_would_run_is_never_linked() {
    const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"><script>alert(1)</script></svg>";
    const XHTML: &str = "<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\"><script>alert(1)</script></html>";
    const XSL: &str = "<?xml version=\"1.0\"?><?xml-stylesheet type=\"text/xsl\" href=\"#\"?><a/>";
    const HTML: &str = "<!DOCTYPE html><script>alert(1)</script>";
    const MHT: &str = "MIME-Version: 1.0\r\nSubject: x\r\nFrom: a@b\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>\r\n--b--\r\n";
    const TEXT: &str = "Bonjour, voici la preuve.\n";
    let cases = [
        ("a.svg", SVG, Some(Format::Svg), false),
        ("a.xml", SVG, Some(Format::Svg), false),
        ("a.png", SVG, Some(Format::Svg), false),
        ("a.xhtml", XHTML, Some(Format::Html), false),
        ("a.xml", XHTML, Some(Format::Xml), false),
        ("a.xsl", XSL, Some(Format::Xml), false),
        ("a.xml", XSL, Some(Format::Xml), false),
        ("a.html", HTML, Some(Format::Html), false),
        ("a.pdf", HTML, Some(Format::Html), false),
        ("a.mht", MHT, Some(Format::Eml), false),
        ("a.eml", MHT, Some(Format::Eml), false),
        ("a.svg", TEXT, Some(Format::Txt), false),
        ("a.xml", TEXT, Some(Format::Txt), false),
        ("a.rdf", TEXT, Some(Format::Txt), false),
        ("a", TEXT, Some(Format::Txt), false),
        ("a.png", TEXT, None, false),
        ("a.txt", TEXT, Some(Format::Txt), true),
        ("a.TXT", XHTML, Some(Format::Txt), true),
        ("a.png", TEXT, Some(Format::Png), true),
    ];
    for (name, content, format, linked) in cases {
        let (mut report, mut memory) = small();
        let mut one = item(&mut memory, "x", FiledUnder::Preuve("INS.02.01.01".into()), name, content.as_bytes().to_vec());
        one.facts = Some(std::sync::Arc::new(Facts { format, ..Facts::of_size(content.len() as u64) }));
        report.items.push(one);
        report.preuves[0].items.push("x".into());
        let page = unescaped(&read(&build(&mut report, &memory, &Options::default()), "index.html"));
        let path = report.items.iter().find(|i| i.id == "x").and_then(|i| i.path.clone());
        let found = path.is_some_and(|path| page.contains(&format!("href=\"{}\"", html::percent_encode(&path))));
        assert_eq!(found, linked, "{name} as {format:?}");
        // The same page links what is inert, so that the search above can find something.
        assert!(page.contains("href=\"data/ins/"), "{name}");
    }
}

#[test]
fn a_cell_that_was_not_understood_shows_what_stands_in_it() {
    let (mut report, memory, _) = candidature();
    let page = unescaped(&read(&build(&mut report, &memory, &Options::default()), "index.html"));
    assert!(page.contains("<td class=\"unread\"><bdi>fin &lt;b&gt;2023</bdi></td>"));
    // One left blank is said to be empty, so that no cell of the table is a blank that means two things.
    assert!(page.contains("<td class=\"unread\">") && page.contains("(vide)"));
    assert!(page.contains("td.unread{color:var(--no)"));
}

#[test]
fn without_a_reachable_payload_the_page_has_no_links_to_files() {
    let (mut report, memory) = small();
    build(&mut report, &memory, &Options::default());
    let previews = std::collections::BTreeMap::<String, Vec<Preview>>::new();
    let page = |link_base| {
        html::render(&report, &html::PageOptions { previews: &previews, link_base }, &Work::unbounded()).map(|p| unescaped(&p)).unwrap()
    };
    assert!(!page(None).contains("href=\"data/"));
    assert!(page(Some("bundle/")).contains("href=\"bundle/data/"));
}

#[test]
fn the_profile_says_what_bundles_are() {
    let profile: serde_json::Value = serde_json::from_str(include_str!("../../../docs/bagit-profile.json")).unwrap();
    assert_eq!(profile["BagIt-Profile-Info"]["BagIt-Profile-Identifier"], greffier::bundle::PROFILE_IDENTIFIER);
    let (mut report, memory) = small();
    let info = read(&build(&mut report, &memory, &Options::default()), "bag-info.txt");
    for (label, rule) in profile["Bag-Info"].as_object().unwrap() {
        if rule["required"] == true {
            assert!(info.contains(&format!("{label}: ")), "{label}");
        }
    }
    for line in info.lines() {
        let label = line.split(':').next().unwrap();
        assert!(profile["Bag-Info"].get(label).is_some(), "{label} is not in the profile");
    }
}

#[test]
fn a_name_with_a_line_feed_adds_no_label() {
    let (mut report, memory) = small();
    report.candidature.company = Some("ACME\nPayload-Oxum: 0.0\r\nX: y".into());
    report.candidature.number = "../../ABC\u{202e}".into();
    let bundle = build(&mut report, &memory, &Options::default());
    let info = read(&bundle, "bag-info.txt");
    assert_eq!(info.lines().filter(|l| l.starts_with("Payload-Oxum")).count(), 1, "{info}");
    assert!(verified(&bundle).valid, "{:#?}", verified(&bundle));
}

#[test]
fn cells_of_the_table_are_counted_and_never_formulas() {
    let (mut report, memory, _) = candidature();
    build(&mut report, &memory, &Options::default());
    let table = index_csv::render(&report).unwrap();
    let mut reader = csv::ReaderBuilder::new().delimiter(b';').from_reader(&table[3..]);
    let mut rows = 0;
    for row in reader.records() {
        let row = row.unwrap();
        rows += 1;
        assert_eq!(row.len(), 19);
        assert!(row.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@'])), "{row:?}");
    }
    let missing = report.preuves.iter().filter(|p| p.items.is_empty()).count()
        + report.slots.iter().filter(|s| s.items.is_empty() && s.required).count();
    let removed = report.round.as_ref().map_or(0, |r| r.counts.removed as usize);
    assert_eq!(rows, report.items.len() + missing + removed);
}

/// What programs that read local headers, other hosts or extra fields would unpack otherwise: each is refused at the
/// offset of the field that differs.
#[test]
fn a_bundle_with_a_second_reading_is_refused_at_its_offset() {
    let (mut report, memory) = small();
    let bundle = build(&mut report, &memory, &Options::default());
    let end = bundle.len() - 22;
    let word = |at: usize| u32::from_le_bytes(bundle[at..at + 4].try_into().unwrap());
    let (size, directory) = (word(end + 12), word(end + 16) as usize);
    let name_length = usize::from(u16::from_le_bytes(bundle[directory + 28..directory + 30].try_into().unwrap()));

    let changed = |at: usize, value: u8| {
        let mut bytes = bundle.clone();
        bytes[at] = value;
        bytes
    };
    // Offsets of the directory stay true: the bytes stand before the first record or behind the first central name.
    let mut stub = b"#!/bin/sh\n".to_vec();
    stub.extend(&bundle);
    let mut at = directory + 10;
    while at < end + 10 {
        let header = u32::from_le_bytes(stub[at + 42..at + 46].try_into().unwrap()) + 10;
        stub[at + 42..at + 46].copy_from_slice(&header.to_le_bytes());
        let length = |o: usize| usize::from(u16::from_le_bytes([stub[at + o], stub[at + o + 1]]));
        at += 46 + length(28) + length(30) + length(32);
    }
    stub[end + 26..end + 30].copy_from_slice(&(directory as u32 + 10).to_le_bytes());
    let inserted = |length_field: usize, field: &[u8]| {
        let mut bytes = bundle.clone();
        bytes[end + 12..end + 16].copy_from_slice(&(size + field.len() as u32).to_le_bytes());
        bytes[directory + length_field] = field.len() as u8;
        let after_name = directory + 46 + name_length;
        bytes.splice(after_name..after_name, field.iter().copied());
        bytes
    };

    let cases = [
        ("a program in front", stub, directory + 10 + 42),
        ("a local header says encrypted", changed(6, bundle[6] | 1), 6),
        ("a local CRC-32 differs", changed(14, !bundle[14]), 14),
        ("a local size differs", changed(22, !bundle[22]), 22),
        ("another host", changed(directory + 5, 19), directory + 5),
        ("a Unicode path field", inserted(30, b"\x75\x70\x06\0\x01\0\0\0\0x"), directory + 30),
        ("a comment on a member", inserted(32, b"comment"), directory + 32),
        ("a count on this disk", changed(end + 8, !bundle[end + 8]), end + 8),
    ];
    for (what, bytes, at) in cases {
        let report = verified(&bytes);
        let [problem] = report.problems.as_slice() else { panic!("{what}: {:#?}", report.problems) };
        assert_eq!(problem.kind, ProblemKind::Layout, "{what}");
        assert_eq!(problem.offset, Some(at as u64), "{what}: {problem:?}");
        let detail = problem.detail.clone().unwrap_or_default();
        assert!(detail.starts_with(&format!("byte {at}: expected ")), "{what}: {detail}");
    }
}

/// The smallest sealed thing: one proof and a short page, so that every byte can be tried.
fn tiny() -> Vec<u8> {
    let (mut report, memory) = small();
    report.items.retain(|i| i.id == "c2");
    report.preuves.clear();
    report.slots.clear();
    build(&mut report, &memory, &Options::default())
}

/// Of a bundle, every byte is covered by a digest or fixed by the layout. The page is taken whole: of its bytes, which
/// are all alike to the reader, one in 41.
#[test]
fn one_flipped_bit_anywhere_is_found() {
    let bundle = tiny();
    assert!(verified(&bundle).valid, "{:#?}", verified(&bundle));
    let page = read(&bundle, "index.html").len();
    let start = bundle.windows(15).position(|w| w == b"<!doctype html>" || w == b"<!DOCTYPE html>").expect("the page");
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut tried = 0;
    for at in (0..bundle.len()).filter(|at| !(start..start + page).contains(at) || at % 41 == 0) {
        let mut bytes = bundle.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(file.path(), &bytes).unwrap();
        assert!(!verify::verify(file.path()).unwrap().valid, "bit {} of byte {at}", at % 8);
        tried += 1;
    }
    assert!(tried > 5_000, "{tried}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Bytes removed, put in, repeated, exchanged: any that give other bytes are found.
    #[test]
    fn a_changed_range_anywhere_is_found(
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        length in 1_usize..400,
        noise in proptest::collection::vec(any::<u8>(), 1..60),
        how in 0_u8..5,
    ) {
        static BUNDLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(tiny);
        let bundle = &*BUNDLE;
        let (from, to) = (from.index(bundle.len()), to.index(bundle.len()));
        let end = (from + length).min(bundle.len());
        let mut bytes = bundle.clone();
        match how {
            0 => drop(bytes.drain(from..end)),
            1 => drop(bytes.splice(to..to, noise)),
            2 => drop(bytes.splice(to..to, bundle[from..end].to_vec())),
            3 => bytes[from..end].reverse(),
            _ => {
                let (one, other) = (from.min(to), from.max(to));
                let length = length.min(other - one).min(bundle.len() - other);
                let (left, right) = bytes.split_at_mut(other);
                left[one..one + length].swap_with_slice(&mut right[..length]);
            }
        }
        prop_assert_eq!(verified(&bytes).valid, bytes == *bundle);
    }
}

/// Whole records exchanged with all their offsets: the layout has one order.
#[test]
fn members_in_another_order_are_refused() {
    let bundle = tiny();
    let mut zip = zip::ZipArchive::new(Cursor::new(bundle.as_slice())).unwrap();
    let names = members(&zip);
    for (order, valid) in [((0..names.len()).collect::<Vec<_>>(), true), ([1, 0].into_iter().chain(2..names.len()).collect(), false)] {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for index in order {
            out.raw_copy_file(zip.by_index_raw(index).unwrap()).unwrap();
        }
        let report = verified(&out.finish().unwrap().into_inner());
        assert_eq!(report.valid, valid, "{:#?}", report.problems);
        assert!(report.problems.iter().all(|p| p.kind == ProblemKind::Layout && p.offset.is_some()), "{:#?}", report.problems);
    }
}

/// What an earlier version wrote: the same members, deflated.
#[test]
fn a_bundle_whose_members_are_deflated_is_read() {
    let bundle = tiny();
    let mut zip = zip::ZipArchive::new(Cursor::new(bundle.as_slice())).unwrap();
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .system(zip::System::Unix)
        .last_modified_time(zip::DateTime::default());
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).unwrap();
        let name = member.name().unwrap().into_owned();
        if member.is_dir() {
            out.add_directory(name.clone(), options.unix_permissions(0o755)).unwrap();
            continue;
        }
        out.start_file(name.clone(), options.unix_permissions(0o644)).unwrap();
        std::io::copy(&mut member, &mut out).unwrap();
    }
    let report = verified(&out.finish().unwrap().into_inner());
    assert!(report.valid, "{:#?}", report.problems);
}

#[test]
fn a_report_beyond_its_bound_is_refused_before_it_is_read() {
    let (mut report, memory) = small();
    let folder = tempfile::tempdir().unwrap();
    let bag = unpack(&build(&mut report, &memory, &Options::default()), folder.path());
    let file = std::fs::File::create(bag.join("report.json")).unwrap();
    file.set_len(greffier::model::report::MAX_REPORT_BYTES + 1).unwrap();
    let outcome = verify::verify(&bag).unwrap();
    assert!(outcome.problems.iter().any(|p| p.kind == ProblemKind::TooLarge && p.path.as_deref() == Some("report.json")), "{outcome:#?}");
}

/// One content, one spelling: a manifest that other tools read alike is still not the one that was written.
#[test]
fn manifests_of_a_bundle_have_one_spelling() {
    type Respell = fn(&str) -> String;
    let cases: [(&str, Respell); 4] = [
        ("CRLF", |text| text.replace('\n', "\r\n")),
        ("md5sum's star", |text| text.replacen("  ", " *", 1)),
        ("upper case", |text| text.replacen(char::is_alphabetic, "A", 1)),
        ("another order", |text| text.lines().rev().map(|l| format!("{l}\n")).collect()),
    ];
    for (what, respell) in cases {
        let (mut report, memory) = small();
        let folder = tempfile::tempdir().unwrap();
        let bag = unpack(&build(&mut report, &memory, &Options::default()), folder.path());
        let path = bag.join("tagmanifest-sha256.txt");
        let text = respell(&std::fs::read_to_string(&path).unwrap());
        std::fs::write(&path, text).unwrap();
        assert!(!verify::verify(&bag).unwrap().valid, "{what}");
    }
}

#[test]
fn whatever_is_done_to_an_unpacked_bundle_is_named() {
    type Change = fn(&Path, &str);
    let cases: &[(&str, Change, &[ProblemKind])] = &[
        ("nothing", |_, _| {}, &[]),
        (
            "a changed proof",
            |bag, path| std::fs::write(bag.join(path), "x").unwrap(),
            &[ProblemKind::Oxum, ProblemKind::Changed, ProblemKind::ReportDisagrees],
        ),
        (
            "a removed proof",
            |bag, path| std::fs::remove_file(bag.join(path)).unwrap(),
            &[ProblemKind::Oxum, ProblemKind::Missing, ProblemKind::ReportDisagrees],
        ),
        (
            "an added proof",
            |bag, _| std::fs::write(bag.join("data/x.png"), "x").unwrap(),
            &[ProblemKind::Oxum, ProblemKind::Extra, ProblemKind::ReportDisagrees],
        ),
        ("an added tag file", |bag, _| std::fs::write(bag.join("macro.js"), "x").unwrap(), &[ProblemKind::Extra]),
        (
            "an added file named like a tag manifest",
            |bag, _| std::fs::write(bag.join("tagmanifest-LISEZ-MOI.html"), "x").unwrap(),
            &[ProblemKind::Extra],
        ),
        ("a changed page", |bag, _| std::fs::write(bag.join("index.html"), "x").unwrap(), &[ProblemKind::Changed]),
        ("a changed table", |bag, _| std::fs::write(bag.join("index.csv"), "x").unwrap(), &[ProblemKind::Changed]),
        ("no report", |bag, _| std::fs::remove_file(bag.join("report.json")).unwrap(), &[ProblemKind::Missing, ProblemKind::ReportMissing]),
        (
            "a broken report",
            |bag, _| std::fs::write(bag.join("report.json"), "{").unwrap(),
            &[ProblemKind::Changed, ProblemKind::ReportMalformed],
        ),
        (
            "no tag manifest",
            |bag, _| std::fs::remove_file(bag.join("tagmanifest-sha256.txt")).unwrap(),
            &[ProblemKind::NoManifest, ProblemKind::Extra],
        ),
        (
            "no manifest",
            |bag, _| std::fs::remove_file(bag.join("manifest-sha256.txt")).unwrap(),
            &[ProblemKind::NoManifest, ProblemKind::Missing],
        ),
        (
            "a fetch file",
            |bag, _| std::fs::write(bag.join("fetch.txt"), "http://x/ 1 data/x\n").unwrap(),
            &[ProblemKind::Fetch, ProblemKind::Extra],
        ),
    ];
    for (name, change, expected) in cases {
        let (mut report, memory) = small();
        let folder = tempfile::tempdir().unwrap();
        let bag = unpack(&build(&mut report, &memory, &Options::default()), folder.path());
        let victim = report.items.iter().find_map(|i| i.path.clone()).unwrap();
        change(&bag, &victim);
        let outcome = verify::verify(&bag).unwrap();
        let mut kinds: Vec<ProblemKind> = outcome.problems.iter().map(|p| p.kind).collect();
        kinds.dedup();
        assert_eq!(kinds, *expected, "{name}: {:#?}", outcome.problems);
        assert_eq!(outcome.valid, expected.is_empty(), "{name}");
    }
}

#[test]
#[ignore = "writes, hashes and reads 4.4 GB"]
fn a_payload_beyond_four_gibibytes_streams_both_ways() {
    use greffier::bundle::{Payload, PayloadSource};
    use sha2::{Digest as _, Sha256};
    const SIZE: u64 = 4_400_000_000;
    struct Zeros(String);
    impl PayloadSource for Zeros {
        fn open(&self, _: &str) -> std::io::Result<Payload<'_>> {
            Ok(Payload { reader: Box::new(std::io::repeat(0).take(SIZE)), size: SIZE, sha256: self.0.clone() })
        }
    }
    let mut hasher = Sha256::new();
    let block = vec![0; 1_000_000];
    for _ in 0..SIZE / 1_000_000 {
        hasher.update(&block);
    }
    let (mut report, _) = small();
    report.items.truncate(1);
    report.preuves.clear();
    report.items[0].sha256 = Some(hex::encode(hasher.finalize()));
    report.items[0].size = Some(SIZE);
    let file = tempfile::NamedTempFile::new().unwrap();
    let zeros = Zeros(report.items[0].sha256.clone().unwrap());
    write(&mut report, &zeros, &Options::default(), file.as_file(), &Work::unbounded()).unwrap();
    let outcome = verify::verify(file.path()).unwrap();
    assert!(outcome.valid && outcome.bytes > SIZE, "{outcome:#?}");
}

#[test]
fn the_table_says_what_became_of_every_item() {
    let (report, _, _) = candidature();
    let table = index_csv::render(&report).unwrap();
    let mut reader = csv::ReaderBuilder::new().delimiter(b';').from_reader(&table[3..]);
    let column = reader.headers().unwrap().iter().position(|h| h == "Changement").expect("the column");
    let mut seen: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
    for row in reader.records() {
        *seen.entry(row.unwrap()[column].to_owned()).or_default() += 1;
    }
    let counts = &report.round.as_ref().expect("a second round").counts;
    for (word, count) in [
        ("inchangé", counts.unchanged),
        ("modifié", counts.changed),
        ("ajouté", counts.added),
        ("déplacé", counts.moved),
        ("retiré", counts.removed),
    ] {
        assert_eq!(seen.get(word), Some(&count), "{word}");
        assert!(count > 0, "the invented round holds every kind of change");
    }
    // A missing proof has no item to speak of.
    assert!(seen.contains_key(""), "{seen:?}");
}

#[test]
fn a_first_deposit_speaks_of_no_round() {
    let (mut report, _) = small();
    report.round = None;
    let page =
        html::render(&report, &html::PageOptions { previews: &Default::default(), link_base: Some("") }, &Work::unbounded()).unwrap();
    assert!(!page.contains("id=\"revision\"") && !page.contains("id=\"changed\"") && !page.contains("class=\"chg"), "{page}");
}

#[test]
fn under_other_rules_no_verdict_is_said_to_be_carried_over() {
    let (mut report, _, _) = candidature();
    let said = |report: &Report| {
        html::render(report, &html::PageOptions { previews: &Default::default(), link_base: Some("") }, &Work::unbounded())
            .unwrap()
            .contains("verdict repris")
    };
    assert!(said(&report));
    report.round.as_mut().expect("a second round").same_rules = false;
    assert!(!said(&report));
}

#[test]
fn the_first_picture_of_every_item_comes_before_the_second_of_any() {
    let (report, _, previews) = candidature();
    let one = previews.values().flatten().next().expect("a picture").bytes.clone();
    // What follows the end of a JPEG's picture does not keep it from being one.
    let large = Preview { bytes: [one.as_slice(), &vec![0; html::MAX_PREVIEW - one.len()]].concat(), caption: None };
    let [first, second] = [0, 1].map(|n| report.items[n].id.clone());
    let previews = [(first, vec![large.clone(); 8]), (second, vec![large])].into();
    let page = html::render(&report, &html::PageOptions { previews: &previews, link_base: None }, &Work::unbounded()).unwrap();
    // 1.5 MiB hold six of them: the first of both items, then four more of the first item.
    assert_eq!(page.matches("<img ").count(), 6);
    assert_eq!(page.matches("<summary><span class=\"l\" lang=\"fr\">Pages suivantes").count(), 1);
    assert!(page.contains("3 aperçu(x) sur 9"));
}
