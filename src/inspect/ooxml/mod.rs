//! Office Open XML documents (ISO/IEC 29500): Word, Excel and PowerPoint since 2007, strict or transitional.
//!
//! Goals:
//! 1. What the office suites refuse is told as damage: a container, part, relationship or XML that they
//!    cannot read. What they repair silently is no error.
//! 2. Everything that acts or reaches out on opening is told by its mechanism: macros by content type,
//!    relationship or name, whatever the extension claims; links by what fetches them.
//! 3. Every part is inflated once, checked and dropped before the next: memory follows the largest part.
//!
//! Cells belong to [`super::sheet`], called at the end for workbooks that can be read.

mod package;
mod parts;

use std::collections::{BTreeMap, BTreeSet};

use super::office::{self, Reach, reach, shown};
use super::xml::{Walked, XmlError};
use super::zip_index::ZipIndex;
use super::{Context, Exceeded, sheet};
use crate::model::facts::{Detail, OfficeFacts};
use crate::model::{Facts, Format, Place, Signal};
use package::{CONTENT_TYPES, ContentTypes, Package, ROOT_RELS, Relationship, parse_relationships, source_of};
use parts::Role;

/// Relationship kinds whose target must exist for the suites to open the document without repair.
const ESSENTIAL: &[&str] = &[
    "officeDocument",
    "worksheet",
    "chartsheet",
    "dialogsheet",
    "xlMacrosheet",
    "sharedStrings",
    "styles",
    "slide",
    "slideMaster",
    "slideLayout",
    "notesSlide",
    "notesMaster",
    "header",
    "footer",
    "footnotes",
    "endnotes",
    "numbering",
    "drawing",
    "chart",
];

/// Describes a document and, for workbooks, its cells.
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    if !inspect_package(bytes, ctx, facts) {
        return;
    }
    match facts.format {
        Some(Format::Xlsx | Format::Xlsm | Format::Xltx) => sheet::xlsx(bytes, ctx, facts),
        Some(Format::Xlsb) => sheet::xlsb(bytes, ctx, facts),
        _ => {}
    }
}

/// Describes the package without reading cells; whether its content can be read further.
pub fn inspect_package(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) -> bool {
    match Inspection::run(bytes, ctx, facts) {
        Ok(readable) => readable,
        Err(exceeded) => {
            exceeded.record(facts, &ctx.budget);
            false
        }
    }
}

/// The format that a main part's content type tells (ISO/IEC 29500-1 §11.3, §12.3, §13.3; [MS-OFFMACRO2]).
pub fn format_of_main_type(content_type: &str) -> Option<Format> {
    let name = content_type.strip_suffix("+xml").unwrap_or(content_type).strip_suffix(".main")?;
    let macros = name.contains("macroenabled");
    Some(match name {
        "application/vnd.ms-excel.sheet.binary.macroenabled" => Format::Xlsb,
        _ if name.starts_with("application/vnd.ms-word.") && macros => Format::Docm,
        _ if name.starts_with("application/vnd.ms-excel.") && macros => Format::Xlsm,
        _ if name.starts_with("application/vnd.ms-powerpoint.") && macros => Format::Pptm,
        _ => match name.strip_prefix("application/vnd.openxmlformats-officedocument.")? {
            "wordprocessingml.document" => Format::Docx,
            "wordprocessingml.template" => Format::Dotx,
            "spreadsheetml.sheet" => Format::Xlsx,
            "spreadsheetml.template" => Format::Xltx,
            "presentationml.presentation" => Format::Pptx,
            "presentationml.slideshow" | "presentationml.template" => Format::Ppsx,
            _ => return None,
        },
    })
}

struct Inspection<'a, 'b> {
    package: Package<'a>,
    types: ContentTypes,
    relationships: Vec<Relationship>,
    main: Option<String>,
    /// Slide or notes part → slide number, from 1.
    pages: BTreeMap<String, u32>,
    office: OfficeFacts,
    /// Charts, diagrams, media, objects: a document without text that holds some is not blank.
    objects: u32,
    ctx: &'b mut Context,
    facts: &'b mut Facts,
}

impl<'a> Inspection<'a, '_> {
    fn run(bytes: &'a [u8], ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
        let zip = match ZipIndex::open(bytes) {
            Ok(zip) => zip,
            Err(error) => {
                facts.push(Signal::new("office-container-damaged").arg("detail", shown(&error.to_string())));
                return Ok(false);
            }
        };
        office::record_container(&zip, facts);
        office::record_names(&zip, facts);
        let package = Package::new(zip);
        if package.is_encrypted() {
            facts.push(Signal::new("office-encrypted").arg("method", "ZIP"));
            return Ok(false);
        }
        for name in &package.duplicates {
            facts.push(Signal::new("office-part-duplicate").at(Place::part(name.as_str())).arg("part", shown(name)));
        }
        let mut inspection = Inspection {
            package,
            types: ContentTypes::default(),
            relationships: Vec::new(),
            main: None,
            pages: BTreeMap::new(),
            office: OfficeFacts::default(),
            objects: 0,
            ctx,
            facts,
        };
        let readable = inspection.read_structure()?;
        let finished = inspection.judge_relationships().and_then(|()| inspection.read_parts());
        let Inspection { office, objects, facts, .. } = inspection;
        if !matches!(facts.format, Some(Format::Xlsx | Format::Xlsm | Format::Xltx | Format::Xlsb | Format::Opc)) {
            if readable && office.chars == 0 && office.images == 0 && objects == 0 && !has_damage(facts) && finished.is_ok() {
                facts.push(Signal::new("office-blank"));
            }
            facts.detail = Some(Detail::Office(office));
        }
        finished?;
        Ok(readable)
    }

    /// Content types, relationships and the main part: what everything else is found by.
    fn read_structure(&mut self) -> Result<bool, Exceeded> {
        let mut readable = true;
        match self.read(CONTENT_TYPES)? {
            Read::Missing => {
                self.missing("[Content_Types].xml");
                readable = false;
            }
            Read::Damaged => readable = false,
            Read::Content(bytes) => match ContentTypes::parse(&bytes, &self.ctx.budget) {
                Ok(types) => self.types = types,
                Err(error) => {
                    self.not_well_formed(CONTENT_TYPES, error)?;
                    readable = false;
                }
            },
        }
        let rels: Vec<String> = self.package.parts().map(|(name, _)| name.to_owned()).filter(|name| source_of(name).is_some()).collect();
        for name in rels {
            let source = source_of(&name).unwrap_or_default();
            if !source.is_empty() && !self.package.has(&source) {
                continue;
            }
            if let Read::Content(bytes) = self.read(&name)? {
                match parse_relationships(&bytes, &source, &self.ctx.budget) {
                    Ok(found) => self.relationships.extend(found),
                    Err(error) => {
                        self.not_well_formed(&name, error)?;
                        readable = readable && name != ROOT_RELS;
                    }
                }
            }
        }
        Ok(self.find_main_part() && readable)
    }

    fn find_main_part(&mut self) -> bool {
        let stated = self.relationships.iter().find(|r| r.source.is_empty() && r.kind == "officeDocument").and_then(Relationship::part);
        let typed = || self.types.overrides().find(|(_, t)| format_of_main_type(t).is_some()).map(|(part, _)| part.to_owned());
        let unrelated = stated.is_none();
        self.main = stated.or_else(typed);
        let Some(main) = self.main.clone() else {
            if self.facts.format != Some(Format::Opc) {
                self.missing("officeDocument");
            }
            return self.facts.format == Some(Format::Opc);
        };
        match format_of_main_type(self.types.of(&main)) {
            Some(format) => self.facts.format = Some(format),
            None if self.facts.format == Some(Format::Opc) => {}
            None if self.facts.has("office-xml-malformed") || self.facts.has("office-part-damaged") => {}
            None => {
                let content_type = shown(self.types.of(&main));
                self.facts.push(
                    Signal::new("office-main-part-invalid")
                        .at(Place::part(main.as_str()))
                        .arg("part", shown(&main))
                        .arg("found", content_type),
                );
            }
        }
        if unrelated {
            self.missing("_rels/.rels");
            return false;
        }
        if !self.package.has(&main) {
            self.missing(&main);
            return false;
        }
        true
    }

    /// What relationships alone tell: missing targets, links, macros, controls.
    fn judge_relationships(&mut self) -> Result<(), Exceeded> {
        let core = self.relationships.iter().filter(|r| r.source.is_empty() && r.kind == "core-properties").count();
        if core > 1 {
            self.facts.push(Signal::new("office-package-invalid").at(Place::part("_rels/.rels")).arg("detail", "core-properties × 2"));
        }
        let mut unresolved = BTreeSet::new();
        for relationship in std::mem::take(&mut self.relationships) {
            self.ctx.budget.tick()?;
            if relationship.external {
                self.judge_external(&relationship);
            } else if let Some(part) = relationship.part() {
                if self.package.has(&part) {
                    self.judge_internal(&relationship, &part);
                } else if self.main.as_deref() != Some(part.as_str()) && unresolved.insert(part.clone()) {
                    if ESSENTIAL.contains(&relationship.kind.as_str()) && !relationship.target.eq_ignore_ascii_case("null") {
                        self.missing(&part);
                    } else if !matches!(relationship.kind.as_str(), "hyperlink" | "image" | "thumbnail") {
                        let source = self.package.written_name(&relationship.source);
                        self.facts.push(Signal::new("office-part-unresolved").at(Place::part(source)).arg("target", shown(&part)));
                    }
                }
            }
            self.relationships.push(relationship);
        }
        Ok(())
    }

    fn judge_external(&mut self, relationship: &Relationship) {
        let source = self.package.written_name(&relationship.source);
        let target = shown(&relationship.target);
        let far = reach(&relationship.target) == Reach::Remote;
        let signal = match relationship.apparent_kind() {
            "hyperlink" => return,
            "attachedTemplate" if far => Signal::new("office-remote-template"),
            "attachedTemplate" => Signal::new("office-local-template"),
            "oleObject" | "package" | "frame" | "aFChunk" | "control" | "vbaProject" if far => Signal::new("office-remote-object"),
            "oleObject" | "package" | "control" | "vbaProject" => Signal::new("office-linked-object"),
            "subDocument" | "frame" | "aFChunk" | "mailMergeSource" | "mailMergeHeaderSource" | "recipientData" | "transform" => {
                Signal::new("office-linked-document")
            }
            "image" => Signal::new("office-linked-image"),
            "audio" | "video" | "media" => Signal::new("office-linked-media"),
            "externalLink"
            | "externalLinkPath"
            | "xlStartup"
            | "xlAlternateStartup"
            | "xlPathMissing"
            | "externalLinkLongPath"
            | "pivotCacheDefinition" => Signal::new("office-linked-workbook"),
            "slide" | "slideUpdateInfo" | "slideUpdateUrl" | "printerSettings" | "core-properties" | "thumbnail" => return,
            _ if relationship.target.starts_with('#') => return,
            _ => Signal::new("office-linked-other").arg("kind", shown(&relationship.kind)),
        };
        self.objects += 1;
        self.facts.push(signal.at(Place::part(source)).arg("target", target));
    }

    fn judge_internal(&mut self, relationship: &Relationship, part: &str) {
        let written = self.package.written_name(part);
        let place = || Place::part(written.as_str());
        match relationship.kind.as_str() {
            "aFChunk" => self.facts.push(Signal::new("office-imported-chunk").at(place()).arg("part", shown(&written))),
            "webextension" | "webextensiontaskpanes" if !self.facts.has("office-web-extension") => {
                self.facts.push(Signal::new("office-web-extension").at(place()));
            }
            // A control that is not a form control of the sheet itself (`ctrlProp`).
            "control" | "activeXControlBinary" if !self.facts.has("office-activex") => {
                self.facts.push(Signal::new("office-activex").at(place()));
            }
            _ => {}
        }
    }

    /// Inflates every part once: its CRC is checked, its XML read, its role looked at.
    fn read_parts(&mut self) -> Result<(), Exceeded> {
        let reached: BTreeMap<String, Vec<(String, String)>> = {
            let mut reached: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
            for r in &self.relationships {
                if let Some(part) = r.part() {
                    reached.entry(part).or_default().push((r.kind.clone(), r.source.clone()));
                }
            }
            reached
        };
        let mut order: Vec<String> =
            self.package.parts().map(|(name, _)| name.to_owned()).filter(|n| source_of(n).is_none() && n != CONTENT_TYPES).collect();
        if let Some(main) = self.main.clone()
            && let Some(at) = order.iter().position(|n| *n == main)
        {
            order.remove(at);
            self.read_part(&main, reached.get(&main))?;
        }
        let pages = &self.pages;
        order.sort_by_key(|name| pages.get(name).copied().unwrap_or(u32::MAX));
        for name in order {
            self.ctx.budget.tick()?;
            self.read_part(&name, reached.get(&name))?;
        }
        Ok(())
    }

    fn read_part(&mut self, name: &str, reached_by: Option<&Vec<(String, String)>>) -> Result<(), Exceeded> {
        let content_type = self.types.of(name).to_owned();
        let by = |kind: &str| reached_by.is_some_and(|rels| rels.iter().any(|(k, _)| k == kind));
        let written = self.package.written_name(name);
        self.macro_part(name, &content_type, &by);
        let Read::Content(bytes) = self.read(name)? else { return Ok(()) };
        let is_main = self.main.as_deref() == Some(name);
        if content_type.starts_with("image/") && name.contains("/media/") || by("image") {
            self.office.images += 1;
        }
        if ["/charts/", "/diagrams/", "/embeddings/", "/ink/", "/media/", "/activex/"].iter().any(|folder| name.contains(folder)) {
            self.objects += 1;
        }
        if name.contains("/embeddings/") || by("oleObject") || by("package") {
            let from_charts =
                reached_by.is_some_and(|rels| rels.iter().all(|(kind, source)| kind == "package" && source.contains("/charts/")));
            let file = written.rsplit('/').next().unwrap_or_default().to_owned();
            return office::embedded(&bytes, &written, &file, from_charts, self.ctx, self.facts);
        }
        if name.starts_with("_xmlsignatures/") && name.ends_with(".xml") || by("signature") {
            self.facts.push(Signal::new("office-signed").at(Place::part(written)));
            return Ok(());
        }
        // A part outside the package's root that no relationship leads to was put there by hand.
        if reached_by.is_none() && !is_main && written.starts_with(['/', '\\']) {
            self.facts.push(Signal::new("office-part-escapes").at(Place::part(written.as_str())).arg("part", shown(&written)));
        }
        if !is_xml(name, &content_type) {
            if office::is_program(&bytes, &written) {
                self.facts.push(Signal::new("office-embedded-program").at(Place::part(written.as_str())).arg("object", shown(&written)));
            }
            if is_main {
                self.binary_main(name, &bytes);
            }
            return Ok(());
        }
        let role = Role::of(&content_type, name, is_main, &by);
        let read = parts::read(&bytes, role, name, &written, self);
        match read {
            Ok(walked) => self.after_walk(walked, &written),
            Err(XmlError::Exceeded(exceeded)) => return Err(exceeded),
            // A part that nothing leads to is never opened by the suites.
            Err(error) if reached_by.is_some() || is_main => self.not_well_formed(name, error)?,
            Err(_) => {}
        }
        Ok(())
    }

    fn after_walk(&mut self, walked: Walked, written: &str) {
        if walked.doctype {
            self.facts.push(Signal::new("office-xml-dtd").at(Place::part(written)).arg("part", shown(written)));
        }
    }

    fn macro_part(&mut self, name: &str, content_type: &str, by: &dyn Fn(&str) -> bool) {
        let written = self.package.written_name(name);
        let file = name.rsplit('/').next().unwrap_or_default();
        if content_type.contains("vbaproject") && !content_type.contains("signature") || by("vbaProject") || file == "vbaproject.bin" {
            self.facts.push(Signal::new("office-macro-vba").at(Place::part(written)));
        } else if content_type.contains("macrosheet")
            || by("xlMacrosheet")
            || by("xlIntlMacrosheet")
            || name.starts_with("xl/macrosheets/") && file.ends_with("l")
        {
            self.facts.push(Signal::new("office-macro-xlm").at(Place::part(written)));
        } else if (content_type.contains("activex") && content_type.contains("xml") || name.contains("/activex/") && name.ends_with(".xml"))
            && !self.facts.has("office-activex")
        {
            self.facts.push(Signal::new("office-activex").at(Place::part(written)));
        }
    }

    /// `xl/workbook.bin` begins with BrtBeginBook ([MS-XLSB] §2.1.7.61), record type 131.
    fn binary_main(&mut self, name: &str, bytes: &[u8]) {
        if self.facts.format == Some(Format::Xlsb) && !bytes.starts_with(&[0x83, 0x01]) {
            let written = self.package.written_name(name);
            self.facts.push(
                Signal::new("office-main-part-invalid").at(Place::part(written.as_str())).arg("part", shown(&written)).arg("found", "?"),
            );
        }
    }

    fn read(&mut self, part: &str) -> Result<Read, Exceeded> {
        match self.package.read(part, self.ctx) {
            Ok(Some(bytes)) => Ok(Read::Content(bytes)),
            Ok(None) => Ok(Read::Missing),
            Err(error) => {
                let detail = office::damage(error)?;
                let written = self.package.written_name(part);
                self.facts.push(
                    Signal::new("office-part-damaged").at(Place::part(written.as_str())).arg("part", shown(&written)).arg("detail", detail),
                );
                Ok(Read::Damaged)
            }
        }
    }

    fn missing(&mut self, part: &str) {
        self.facts.push(Signal::new("office-part-missing").at(Place::part(part)).arg("part", shown(part)));
    }

    fn not_well_formed(&mut self, part: &str, error: XmlError) -> Result<(), Exceeded> {
        match error {
            XmlError::Exceeded(exceeded) => Err(exceeded),
            XmlError::Malformed { detail, byte } => {
                let written = self.package.written_name(part);
                let place = Place { byte: Some(byte), ..Place::part(written.as_str()) };
                self.facts.push(Signal::new("office-xml-malformed").at(place).arg("part", shown(&written)).arg("detail", shown(&detail)));
                Ok(())
            }
        }
    }
}

enum Read {
    Content(Vec<u8>),
    Missing,
    Damaged,
}

fn has_damage(facts: &Facts) -> bool {
    ["office-part-damaged", "office-part-missing", "office-xml-malformed", "office-main-part-invalid"].iter().any(|code| facts.has(code))
}

/// VML drawings are read leniently by the suites themselves, XHTML chunks by a converter.
fn is_xml(name: &str, content_type: &str) -> bool {
    let typed = content_type.ends_with("+xml") || content_type.ends_with("/xml");
    typed && !content_type.contains("vmldrawing") && !content_type.contains("xhtml") && !name.ends_with(".vml")
}

#[cfg(test)]
mod tests;
