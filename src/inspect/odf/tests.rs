//! Packages are made here, member by member.

use std::io::Write;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;

use super::*;
use crate::inspect::Limits;

const NS: &str = "xmlns:office='o' xmlns:text='t' xmlns:draw='d' xmlns:xlink='x' xmlns:script='s' xmlns:table='ta' xmlns:presentation='p' xmlns:dc='dc' xmlns:meta='m' xmlns:form='f'";

fn manifest(entries: &str) -> String {
    format!(
        "<manifest:manifest xmlns:manifest='m'><manifest:file-entry manifest:full-path='/' manifest:media-type='application/vnd.oasis.opendocument.text'/>{entries}</manifest:manifest>"
    )
}

fn content(body: &str) -> String {
    format!("<office:document-content {NS}><office:body>{body}</office:body></office:document-content>")
}

fn package(kind: &str, members: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    };
    add("mimetype", format!("application/vnd.oasis.opendocument.{kind}").as_bytes());
    for (name, text) in members {
        add(name, text.as_bytes());
    }
    writer.finish().unwrap().into_inner()
}

fn describe(bytes: &[u8]) -> Facts {
    let mut facts = Facts::of_size(bytes.len() as u64);
    inspect_package(bytes, &mut Context::new(Limits::default()), &mut facts);
    facts
}

fn text_document(body: &str, others: &[(&str, &str)]) -> Facts {
    let (content, manifest) = (content(body), manifest(""));
    let mut members = vec![(MANIFEST, manifest.as_str()), ("content.xml", content.as_str())];
    members.extend(others);
    describe(&package("text", &members))
}

fn codes(facts: &Facts) -> Vec<&str> {
    facts.signals.iter().map(|s| s.code.as_str()).collect()
}

const HELLO: &str = "<text:p>Bonjour<text:s/>le<text:line-break/>monde</text:p>";

#[test]
fn an_ordinary_document_gives_its_text_and_no_signal() {
    let body =
        format!("{HELLO}<text:p><text:a xlink:href='https://example.org'>ici</text:a></text:p><draw:image xlink:href='Pictures/a.png'/>");
    let meta = format!(
        "<office:document-meta {NS}><office:meta><dc:title>Preuve</dc:title><meta:document-statistic meta:page-count='3'/></office:meta></office:document-meta>"
    );
    let facts = text_document(&body, &[("meta.xml", meta.as_str()), ("Basic/Standard/script-lb.xml", "<x/>")]);
    assert_eq!(codes(&facts), [""; 0]);
    assert_eq!(facts.format, Some(Format::Odt));
    assert_eq!(facts.text[0].text, "Bonjour le monde ici");
    assert_eq!(facts.metadata["title"], "Preuve");
    assert!(matches!(&facts.detail, Some(Detail::Office(o)) if o.stated_pages == Some(3)));
}

#[test]
fn missing_and_malformed_parts_are_told() {
    assert_eq!(codes(&describe(&package("text", &[]))), ["office-part-missing", "office-part-missing"]);
    let whole = manifest("");
    assert_eq!(
        codes(&describe(&package("text", &[(MANIFEST, &whole), ("content.xml", "<a>")]))),
        ["office-main-part-invalid", "office-xml-malformed"]
    );
    assert_eq!(codes(&describe(b"PK\x03\x04 cut")), ["office-container-damaged"]);
}

#[test]
fn a_mimetype_that_is_no_media_type_is_told() {
    let (content, manifest) = (content(HELLO), manifest(""));
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in [("mimetype", "\u{89}PNG"), (MANIFEST, manifest.as_str()), ("content.xml", content.as_str())] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    assert_eq!(codes(&describe(&writer.finish().unwrap().into_inner())), ["office-package-invalid"]);
}

#[test]
fn encryption_is_told_by_the_manifest() {
    let encrypted = manifest("<manifest:file-entry manifest:full-path='content.xml'><manifest:encryption-data/></manifest:file-entry>");
    assert_eq!(codes(&describe(&package("text", &[(MANIFEST, &encrypted), ("content.xml", "\u{1}noise")]))), ["office-encrypted"]);
    assert_eq!(codes(&describe(&package("text", &[("encrypted-package", "noise")]))), ["office-encrypted"]);
}

#[test]
fn scripts_are_told_wherever_they_stand() {
    assert_eq!(codes(&text_document(HELLO, &[("Basic/Standard/Module1.xml", "<x/>")])), ["office-macro-script"]);
    assert_eq!(codes(&text_document(HELLO, &[("Scripts/python/a.py", "print()")])), ["office-macro-script"]);
    for body in [
        "<script:event-listener script:event-name='dom:load' xlink:href='vnd.sun.star.script:a?location=document'/>",
        "<text:a xlink:href='vnd.sun.star.script:a'/>",
        "<text:script script:language='JavaScript'>x</text:script>",
    ] {
        assert_eq!(codes(&text_document(&format!("<text:p>a</text:p>{body}"), &[])), ["office-macro-script"], "{body}");
    }
}

#[test]
fn links_are_told_by_what_fetches_them() {
    for (body, code) in [
        ("<draw:image xlink:href='http://example.org/a.png'/>", "office-linked-image"),
        ("<draw:object xlink:href='file:///C:/a.ods'/>", "office-linked-object"),
        ("<draw:floating-frame xlink:href='https://example.org/'/>", "office-remote-object"),
        ("<text:section-source xlink:href='../autre.odt'/>", "office-linked-document"),
        ("<table:table-source xlink:href='file:///a.ods'/>", "office-linked-workbook"),
        ("<office:dde-source office:dde-application='soffice'/>", "office-dde"),
        ("<presentation:event-listener presentation:action='execute' xlink:href='calc.exe'/>", "office-launch"),
        ("<form:form><form:button/></form:form>", "office-form"),
    ] {
        assert_eq!(codes(&text_document(&format!("<text:p>a</text:p>{body}"), &[])), [code], "{body}");
    }
    assert_eq!(codes(&text_document("<text:p>a</text:p><draw:object xlink:href='./Object 1'/>", &[])), [""; 0]);
}

#[test]
fn charts_are_no_embedded_objects_but_documents_are() {
    let inside = manifest(
        "<manifest:file-entry manifest:full-path='Object 1/' manifest:media-type='application/vnd.oasis.opendocument.chart'/>\
         <manifest:file-entry manifest:full-path='Object 2/' manifest:media-type='application/vnd.oasis.opendocument.spreadsheet'/>",
    );
    let facts = describe(&package("text", &[(MANIFEST, &inside), ("content.xml", &content(HELLO))]));
    assert_eq!(codes(&facts), ["office-embedded-object"]);
    assert_eq!(facts.signals[0].place.part.as_deref(), Some("Object 2/"));
}

#[test]
fn a_presentation_is_read_page_by_page() {
    let body =
        "<office:presentation><draw:page><text:p>un</text:p></draw:page><draw:page><text:p>deux</text:p></draw:page></office:presentation>";
    let facts = describe(&package("presentation", &[(MANIFEST, &manifest("")), ("content.xml", &content(body))]));
    assert_eq!(facts.text.iter().map(|t| (t.place.page, t.text.as_str())).collect::<Vec<_>>(), [(Some(1), "un"), (Some(2), "deux")]);
}

#[test]
fn a_flat_document_is_read_too() {
    let flat = format!(
        "<?xml version='1.0'?><office:document {NS} office:mimetype='application/vnd.oasis.opendocument.text'><office:meta><dc:title>T</dc:title></office:meta>\
         <office:scripts><office:script script:language='ooo:Basic'><ooo:libraries xmlns:ooo='ooo'><ooo:module ooo:name='M'/></ooo:libraries></office:script></office:scripts><office:body>{HELLO}</office:body></office:document>"
    );
    let facts = describe(flat.as_bytes());
    assert_eq!((facts.format, codes(&facts)), (Some(Format::Odt), vec!["office-macro-script"]));
    assert_eq!(facts.text[0].text, "Bonjour le monde");
    assert_eq!(facts.metadata["title"], "T");
}

#[test]
fn deleted_text_is_not_shown_text() {
    let body = format!(
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>secret</text:p></text:deletion></text:changed-region></text:tracked-changes>{HELLO}"
    );
    let facts = text_document(&body, &[]);
    assert_eq!(codes(&facts), ["office-tracked-changes"]);
    assert_eq!(facts.text[0].text, "Bonjour le monde");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn mutated_packages_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)) {
        let mut bytes = package("text", &[(MANIFEST, &manifest("")), ("content.xml", &content(HELLO))]);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        describe(&bytes);
    }

    #[test]
    fn mutated_content_never_panics(at in any::<prop::sample::Index>(), value in "[ -~é]{0,4}") {
        let mut body = content(HELLO);
        let at = at.index(body.len());
        body.insert_str(at, &value);
        describe(&package("text", &[(MANIFEST, &manifest("")), ("content.xml", &body)]));
        describe(body.as_bytes());
    }
}
