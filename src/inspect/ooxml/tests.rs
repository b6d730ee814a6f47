//! Packages are made here, part by part.

use std::io::Write;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;

use super::*;
use crate::inspect::Limits;
use crate::model::{Severity, messages};

const W: &str = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
const R: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const WORD: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml";
const RELS_TYPE: &str = "application/vnd.openxmlformats-package.relationships+xml";

pub(crate) fn zip_of(parts: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A package under construction.
struct Draft {
    overrides: Vec<(String, String)>,
    parts: Vec<(String, Vec<u8>)>,
    rels: BTreeMap<String, Vec<String>>,
}

impl Draft {
    fn word(body: &str) -> Self {
        let mut draft = Self { overrides: vec![], parts: vec![], rels: BTreeMap::new() };
        draft.relate("", "rId1", "officeDocument", "word/document.xml", false);
        draft.part(
            "word/document.xml",
            &format!("{WORD}.document.main+xml"),
            &format!("<w:document xmlns:w='{W}' xmlns:r='{R}'><w:body>{body}</w:body></w:document>"),
        );
        draft
    }

    fn part(&mut self, name: &str, content_type: &str, content: &str) -> &mut Self {
        self.parts.retain(|(n, _)| n != name);
        self.overrides.retain(|(n, _)| n != name);
        self.overrides.push((name.into(), content_type.into()));
        self.parts.push((name.into(), content.as_bytes().to_vec()));
        self
    }

    fn relate(&mut self, source: &str, id: &str, kind: &str, target: &str, external: bool) -> &mut Self {
        let mode = if external { " TargetMode='External'" } else { "" };
        let relationship = format!("<Relationship Id='{id}' Type='{R}/{kind}' Target='{target}'{mode}/>");
        let name = match source.rsplit_once('/') {
            Some((folder, file)) => format!("{folder}/_rels/{file}.rels"),
            None => format!("_rels/{source}.rels"),
        };
        self.rels.entry(name).or_default().push(relationship);
        self
    }

    fn build(&self) -> Vec<u8> {
        let mut types = format!(
            "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'><Default Extension='rels' ContentType='{RELS_TYPE}'/><Default Extension='png' ContentType='image/png'/>"
        );
        for (name, content_type) in &self.overrides {
            types.push_str(&format!("<Override PartName='/{name}' ContentType='{content_type}'/>"));
        }
        types.push_str("</Types>");
        let mut parts: Vec<(&str, Vec<u8>)> = vec![("[Content_Types].xml", types.into_bytes())];
        for (name, rels) in &self.rels {
            let xml = format!(
                "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>{}</Relationships>",
                rels.concat()
            );
            parts.push((name, xml.into_bytes()));
        }
        parts.extend(self.parts.iter().map(|(n, c)| (n.as_str(), c.clone())));
        zip_of(&parts)
    }

    fn facts(&self) -> Facts {
        describe(&self.build())
    }
}

fn describe(bytes: &[u8]) -> Facts {
    let mut facts = Facts::of_size(bytes.len() as u64);
    inspect_package(bytes, &mut Context::new(Limits::default()), &mut facts);
    facts
}

fn codes(facts: &Facts) -> Vec<&str> {
    facts.signals.iter().map(|s| s.code.as_str()).collect()
}

fn text(facts: &Facts) -> String {
    facts.text.iter().map(|t| t.text.as_str()).collect::<Vec<_>>().join("|")
}

const HELLO: &str = "<w:p><w:r><w:t>Bonjour</w:t></w:r></w:p>";

#[test]
fn an_ordinary_document_gives_its_text_and_no_signal() {
    let mut draft = Draft::word(&format!("{HELLO}<w:p><w:r><w:t>le</w:t><w:tab/><w:t>monde</w:t></w:r></w:p>"));
    draft.relate("word/document.xml", "rId9", "hyperlink", "https://example.org", true);
    let facts = draft.facts();
    assert_eq!(codes(&facts), [""; 0]);
    assert_eq!(facts.format, Some(Format::Docx));
    assert_eq!(text(&facts), "Bonjour le monde");
    assert!(matches!(&facts.detail, Some(Detail::Office(o)) if o.chars == 14));
}

#[test]
fn a_cut_container_is_damaged() {
    let bytes = Draft::word(HELLO).build();
    assert_eq!(codes(&describe(&bytes[..bytes.len() / 2])), ["office-container-damaged"]);
}

#[test]
fn a_flipped_bit_in_a_part_is_damage() {
    let mut draft = Draft::word(HELLO);
    let filler: String = (0..3_000).map(|i| format!("{}", i * 7919)).collect();
    draft.part("word/theme/theme1.xml", "application/vnd.openxmlformats-officedocument.theme+xml", &format!("<a>{filler}</a>"));
    let mut bytes = draft.build();
    let at = bytes.windows(21).position(|w| w == b"word/theme/theme1.xml").unwrap() + 21 + 500;
    bytes[at] ^= 0x10;
    assert_eq!(codes(&describe(&bytes)), ["office-part-damaged"]);
}

#[test]
fn malformed_xml_is_told_where_it_matters_only() {
    let mut draft = Draft::word(HELLO);
    draft.part("word/styles.xml", &format!("{WORD}.styles+xml"), "<w:styles>");
    assert_eq!(codes(&draft.facts()), [""; 0], "nothing leads to it");
    draft.relate("word/document.xml", "rId2", "styles", "styles.xml", false);
    assert_eq!(codes(&draft.facts()), ["office-xml-malformed"]);
}

#[test]
fn a_missing_main_part_or_essential_target_is_told() {
    let mut draft = Draft::word(HELLO);
    draft.relate("word/document.xml", "rId2", "header", "header1.xml", false);
    draft.relate("word/document.xml", "rId3", "image", "media/absent.png", false);
    draft.relate("word/document.xml", "rId4", "printerSettings", "p.bin", false);
    assert_eq!(codes(&draft.facts()), ["office-part-missing", "office-part-unresolved"]);
    draft.parts.clear();
    assert!(draft.facts().has("office-part-missing"));
}

#[test]
fn a_main_part_of_another_kind_is_told() {
    let mut draft = Draft::word(HELLO);
    draft.part("word/document.xml", &format!("{WORD}.document.main+xml"), "<html/>");
    assert_eq!(codes(&draft.facts()), ["office-main-part-invalid"]);
}

#[test]
fn part_names_that_differ_by_case_collide() {
    let mut draft = Draft::word(HELLO);
    draft.parts.push(("WORD/Document.xml".into(), b"<x/>".to_vec()));
    assert!(draft.facts().has("office-part-duplicate"));
}

#[test]
fn a_part_name_given_twice_is_told() {
    let mut draft = Draft::word(HELLO);
    draft.parts.push(("word/documenX.xml".into(), b"<x/>".to_vec()));
    let mut bytes = draft.build();
    while let Some(at) = memchr::memmem::find(&bytes, b"documenX") {
        bytes[at..at + 8].copy_from_slice(b"document");
    }
    assert!(describe(&bytes).has("office-part-duplicate"));
}

#[test]
fn macros_are_told_whatever_the_type_says() {
    let mut draft = Draft::word(HELLO);
    draft.parts.push(("word/vbaProject.bin".into(), b"x".to_vec()));
    let facts = draft.facts();
    assert_eq!((codes(&facts), facts.format), (vec!["office-macro-vba"], Some(Format::Docx)));
    let mut renamed = Draft::word(HELLO);
    renamed.parts.push(("word/innocent.bin".into(), b"x".to_vec()));
    renamed.relate("word/document.xml", "rId7", "vbaProject", "innocent.bin", false);
    assert_eq!(codes(&renamed.facts()), ["office-macro-vba"]);
}

#[test]
fn templates_are_judged_by_where_they_are() {
    for (target, code) in [("https://evil.example/t.dotm", "office-remote-template"), ("file:///C:\\t.dotx", "office-local-template")] {
        let mut draft = Draft::word(HELLO);
        draft.part("word/settings.xml", &format!("{WORD}.settings+xml"), &format!("<w:settings xmlns:w='{W}'/>"));
        draft.relate("word/settings.xml", "rId1", "attachedTemplate", target, true);
        assert_eq!(codes(&draft.facts()), [code]);
    }
}

#[test]
fn a_dde_field_split_over_runs_is_found() {
    let field = "<w:p><w:r><w:fldChar w:fldCharType='begin'/></w:r><w:r><w:instrText> DD</w:instrText></w:r><w:r><w:instrText>EAUTO cmd</w:instrText></w:r>\
                 <w:r><w:fldChar w:fldCharType='separate'/></w:r><w:r><w:t>x</w:t></w:r><w:r><w:fldChar w:fldCharType='end'/></w:r></w:p>";
    assert_eq!(codes(&Draft::word(field).facts()), ["office-dde"]);
    assert_eq!(
        codes(&Draft::word("<w:p><w:fldSimple w:instr='DDE excel x'><w:r><w:t>1</w:t></w:r></w:fldSimple></w:p>").facts()),
        ["office-dde"]
    );
}

#[test]
fn external_relationships_are_told_by_kind() {
    for (kind, target, code) in [
        ("image", "http://example.org/a.png", "office-linked-image"),
        ("oleObject", "http://example.org/x.html!", "office-remote-object"),
        ("oleObject", "file:///C:\\a.xlsx", "office-linked-object"),
        ("subDocument", "http://example.org/b.docx", "office-linked-document"),
        ("frame", "http://example.org/b.htm", "office-remote-object"),
    ] {
        let mut draft = Draft::word(HELLO);
        draft.relate("word/document.xml", "rId5", kind, target, true);
        assert_eq!(codes(&draft.facts()), [code], "{kind} {target}");
    }
}

#[test]
fn macros_of_an_embedded_document_are_lifted() {
    let mut inner = Draft::word(HELLO);
    inner.parts.push(("word/vbaProject.bin".into(), b"x".to_vec()));
    let mut outer = Draft::word(HELLO);
    outer.parts.push(("word/embeddings/a.docx".into(), inner.build()));
    outer.relate("word/document.xml", "rId5", "package", "embeddings/a.docx", false);
    let facts = outer.facts();
    assert_eq!(codes(&facts), ["office-embedded-object", "office-macro-vba"]);
    assert_eq!(facts.signals[1].place.members, ["word/embeddings/a.docx"]);
}

#[test]
fn documents_nested_too_deep_end_with_a_finding() {
    let mut bytes = Draft::word(HELLO).build();
    for _ in 0..8 {
        let mut outer = Draft::word(HELLO);
        outer.parts.push(("word/embeddings/a.docx".into(), bytes));
        outer.relate("word/document.xml", "rId5", "package", "embeddings/a.docx", false);
        bytes = outer.build();
    }
    assert!(describe(&bytes).has("bomb-depth"));
}

#[test]
fn the_workbook_of_a_chart_is_no_embedded_object() {
    let mut draft = Draft::word(HELLO);
    draft.part("word/charts/chart1.xml", "application/vnd.openxmlformats-officedocument.drawingml.chart+xml", "<c/>");
    draft.parts.push(("word/embeddings/data.xlsx".into(), b"PK not really".to_vec()));
    draft.relate("word/document.xml", "rId3", "chart", "charts/chart1.xml", false);
    draft.relate("word/charts/chart1.xml", "rId1", "package", "../embeddings/data.xlsx", false);
    assert_eq!(codes(&draft.facts()), [""; 0]);
}

#[test]
fn a_dtd_is_refused_and_not_read() {
    let mut draft = Draft::word(HELLO);
    let body = format!(
        "<!DOCTYPE w [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><w:document xmlns:w='{W}'><w:body><w:p><w:r><w:t>&x;</w:t></w:r></w:p></w:body></w:document>"
    );
    draft.part("word/document.xml", &format!("{WORD}.document.main+xml"), &body);
    assert!(draft.facts().has("office-xml-dtd"));
}

#[test]
fn text_boxes_are_read_once_and_comments_counted() {
    let mut draft = Draft::word(
        "<w:p><mc:AlternateContent xmlns:mc='u'><mc:Choice><w:r><w:t>un</w:t></w:r></mc:Choice><mc:Fallback><w:r><w:t>un</w:t></w:r></mc:Fallback></mc:AlternateContent></w:p>\
         <w:p><w:ins w:author='a'><w:r><w:t>deux</w:t></w:r></w:ins></w:p>",
    );
    draft.part(
        "word/comments.xml",
        &format!("{WORD}.comments+xml"),
        &format!("<w:comments xmlns:w='{W}'><w:comment w:id='0'>{HELLO}</w:comment></w:comments>"),
    );
    draft.relate("word/document.xml", "rId3", "comments", "comments.xml", false);
    let facts = draft.facts();
    assert_eq!(codes(&facts), ["office-tracked-changes", "office-comments"]);
    assert_eq!(text(&facts), "un deux|Bonjour");
}

fn presentation() -> Draft {
    const P: &str = "http://schemas.openxmlformats.org/presentationml/2006/main";
    const PML: &str = "application/vnd.openxmlformats-officedocument.presentationml";
    let mut draft = Draft { overrides: vec![], parts: vec![], rels: BTreeMap::new() };
    draft.relate("", "rId1", "officeDocument", "ppt/presentation.xml", false);
    draft.part(
        "ppt/presentation.xml",
        &format!("{PML}.presentation.main+xml"),
        &format!("<p:presentation xmlns:p='{P}' xmlns:r='{R}'><p:sldIdLst><p:sldId id='256' r:id='rId2'/><p:sldId id='257' r:id='rId3'/></p:sldIdLst></p:presentation>"),
    );
    // The first slide shown is the second part: order comes from the presentation.
    for (id, file, said, show) in [("rId3", "slide1", "fin", " show='0'"), ("rId2", "slide2", "début", "")] {
        draft.relate("ppt/presentation.xml", id, "slide", &format!("slides/{file}.xml"), false);
        draft.part(
            &format!("ppt/slides/{file}.xml"),
            &format!("{PML}.slide+xml"),
            &format!("<p:sld xmlns:p='{P}' xmlns:a='a' xmlns:r='{R}'{show}><a:p><a:r><a:t>{said}</a:t></a:r></a:p></p:sld>"),
        );
    }
    draft
}

#[test]
fn slides_are_read_in_the_order_of_the_presentation() {
    let facts = presentation().facts();
    assert_eq!(facts.text.iter().map(|t| (t.place.page, t.text.as_str())).collect::<Vec<_>>(), [(Some(1), "début"), (Some(2), "fin")]);
    assert_eq!(codes(&facts), ["office-hidden-slide"]);
    assert!(matches!(&facts.detail, Some(Detail::Office(o)) if o.slides == Some(2)));
}

#[test]
fn a_slide_without_part_is_missing() {
    let mut draft = presentation();
    draft.rels.get_mut("ppt/_rels/presentation.xml.rels").unwrap().remove(0);
    assert!(draft.facts().has("office-part-missing"));
}

#[test]
fn a_name_given_twice_differently_makes_the_container_doubtful() {
    let mut bytes = Draft::word(HELLO).build();
    let local = memchr::memmem::find(&bytes, b"word/document.xml").unwrap();
    bytes[local..local + 4].copy_from_slice(b"WORD");
    assert!(describe(&bytes).has("office-container-ambiguous"));
}

#[test]
fn a_huge_run_of_text_is_cut_not_copied() {
    let facts = Draft::word(&format!("<w:p><w:r><w:t>{}</w:t></w:r></w:p>", "é".repeat(3_000_000))).facts();
    assert!(facts.text_truncated);
    assert!(facts.text.iter().all(|t| t.text.len() < 100_000));
    assert!(matches!(&facts.detail, Some(Detail::Office(o)) if o.chars == 3_000_000));
}

#[test]
fn what_is_inflated_is_bounded() {
    let mut draft = Draft::word(HELLO);
    draft.parts.push(("word/media/bomb.png".into(), vec![0; 3_000_000]));
    let mut facts = Facts::default();
    inspect_package(&draft.build(), &mut Context::new(Limits { max_inflated_bytes: 1_000_000, ..Limits::default() }), &mut facts);
    assert!(facts.has("bomb-inflated"));
}

#[test]
fn every_code_is_documented_and_active_ones_are_errors() {
    for code in
        ["office-macro-vba", "office-remote-template", "office-dde", "office-activex", "office-encrypted", "office-container-damaged"]
    {
        assert_eq!(messages::all()[code].severity, Severity::Error, "{code}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn mutated_packages_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)) {
        let mut bytes = presentation().build();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        describe(&bytes);
    }

    #[test]
    fn mutated_parts_never_panic(cut in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut draft = Draft::word(&format!("{HELLO}<w:p><w:fldSimple w:instr='DDE a'/></w:p>"));
        let content = &mut draft.parts[0].1;
        let at = cut.index(content.len());
        content[at] = byte;
        describe(&draft.build());
    }
}

#[test]
fn a_type_of_another_vocabulary_is_carried_along() {
    let core = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties";
    let types = |types: &[&str]| {
        let mut draft = Draft::word(HELLO);
        draft.part("docProps/core.xml", "application/vnd.openxmlformats-package.core-properties+xml", "<c/>");
        for (n, kind) in types.iter().enumerate() {
            let relationship = format!("<Relationship Id='rId{}' Type='{kind}' Target='docProps/core.xml'/>", n + 10);
            draft.rels.get_mut("_rels/.rels").unwrap().push(relationship);
        }
        codes(&draft.facts()).iter().map(|c| c.to_string()).collect::<Vec<_>>()
    };
    for foreign in [
        "http://schemas.openxmlformats.org/officedocument/2006/relationships/metadata/core-properties",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships/metadata/core-properties",
        "http://exemple.fr/core-properties",
    ] {
        assert!(types(&[core, foreign]).is_empty(), "{foreign}");
    }
    assert_eq!(types(&[core, core]), ["office-package-invalid"]);
}

#[test]
fn a_type_of_another_vocabulary_does_not_hide_what_lies_outside() {
    let mut draft = Draft::word(HELLO);
    let relationship =
        "<Relationship Id='rId10' Type='http://exemple.fr/attachedTemplate' Target='https://exemple.fr/a.dotm' TargetMode='External'/>";
    draft.rels.get_mut("_rels/.rels").unwrap().push(relationship.to_owned());
    assert_eq!(codes(&draft.facts()), ["office-remote-template"]);
}

#[test]
fn a_missing_theme_is_a_warning_and_a_missing_header_an_error() {
    let missing = |kind: &str, target: &str| {
        let mut draft = Draft::word(HELLO);
        draft.relate("word/document.xml", "rId5", kind, target, false);
        codes(&draft.facts()).iter().map(|c| c.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(missing("theme", "theme/theme1.xml"), ["office-part-unresolved"]);
    assert_eq!(missing("header", "header1.xml"), ["office-part-missing"]);
}
