//! OpenDocument files (ISO/IEC 26300, OASIS ODF 1.3): packages and flat XML.
//!
//! Goals:
//! 1. A package is readable when its container, its manifest and its content are; what LibreOffice opens
//!    without a word is no error.
//! 2. Scripts, event bindings, DDE and links are told wherever they stand: content, styles, or folders of the
//!    package.
//!
//! Cells belong to [`super::sheet`], called at the end for spreadsheets that can be read.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::ReadError;
use super::office::{self, Reach, TextSink, reach, shown};
use super::xml::{self, Element, Node, XmlError, XmlReader};
use super::zip_index::ZipIndex;
use super::{Context, Exceeded, fold_whitespace, sheet};
use crate::model::facts::{Detail, OfficeFacts};
use crate::model::{Facts, Format, Place, Signal};

const MANIFEST: &str = "META-INF/manifest.xml";

/// Describes a document and, for spreadsheets, its cells.
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    if inspect_package(bytes, ctx, facts) && facts.format == Some(Format::Ods) {
        sheet::ods(bytes, ctx, facts);
    }
}

/// Describes the document without reading cells; whether its content can be read further.
pub fn inspect_package(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) -> bool {
    let is_zip = bytes.starts_with(b"PK") || !looks_like_xml(bytes);
    match if is_zip { package(bytes, ctx, facts) } else { flat(bytes, ctx, facts) } {
        Ok(readable) => readable,
        Err(exceeded) => {
            exceeded.record(facts, &ctx.budget);
            false
        }
    }
}

fn looks_like_xml(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(64)).unwrap_or_default();
    head.iter().find(|b| !matches!(b, 0xEF | 0xBB | 0xBF | 0xFE | 0xFF | 0 | b' ' | b'\t' | b'\r' | b'\n')) == Some(&b'<')
}

/// The format that an OpenDocument media type tells; templates and master documents count as their kind.
pub fn format_of_media_type(media_type: &str) -> Option<Format> {
    let kind = media_type
        .trim()
        .strip_prefix("application/vnd.oasis.opendocument.")
        .or_else(|| media_type.trim().strip_prefix("application/vnd.sun.xml."))
        .or_else(|| media_type.trim().strip_prefix("application/x-vnd.oasis.opendocument."))?;
    Some(match kind.split(['-', '.']).next()? {
        "text" | "writer" => Format::Odt,
        "spreadsheet" | "calc" => Format::Ods,
        "presentation" | "impress" => Format::Odp,
        "graphics" | "draw" => Format::Odg,
        "formula" | "math" => Format::Odf,
        _ => return None,
    })
}

/// What the manifest says (ODF 1.3 part 2 §4).
#[derive(Debug, Default)]
struct Manifest {
    /// Full path → media type.
    files: BTreeMap<String, String>,
    encrypted: bool,
}

fn package(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let zip = match ZipIndex::open(bytes) {
        Ok(zip) => zip,
        Err(error) => {
            facts.push(Signal::new("office-container-damaged").arg("detail", shown(&error.to_string())));
            return Ok(false);
        }
    };
    office::record_container(&zip, facts);
    office::record_names(&zip, facts);
    if zip.entries.iter().any(|e| e.encrypted) {
        facts.push(Signal::new("office-encrypted").arg("method", "ZIP"));
        return Ok(false);
    }
    let mut names = BTreeSet::new();
    for entry in &zip.entries {
        if !entry.name.ends_with('/') && !names.insert(entry.name.as_str()) {
            facts.push(Signal::new("office-part-duplicate").at(Place::part(entry.name.as_str())).arg("part", shown(&entry.name)));
        }
    }
    let mut inspection = Inspection { office: OfficeFacts::default(), has_content: false, objects: 0, ctx, facts };
    let Some(manifest) = inspection.structure(&zip)? else { return Ok(false) };
    let finished = inspection.parts(&zip, &manifest);
    let Inspection { office, has_content, objects, facts, .. } = inspection;
    if facts.format != Some(Format::Ods) {
        if has_content
            && office.chars == 0
            && office.images == 0
            && objects == 0
            && finished.is_ok()
            && matches!(facts.format, Some(Format::Odt | Format::Odp))
        {
            facts.push(Signal::new("office-blank"));
        }
        facts.detail = Some(Detail::Office(office));
    }
    finished?;
    Ok(has_content)
}

fn flat(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let mut inspection = Inspection { office: OfficeFacts::default(), has_content: false, objects: 0, ctx, facts };
    inspection.xml_part(bytes, "", true)?;
    let Inspection { office, has_content, facts, .. } = inspection;
    if facts.format != Some(Format::Ods) {
        facts.detail = Some(Detail::Office(office));
    }
    Ok(has_content)
}

struct Inspection<'b> {
    office: OfficeFacts,
    has_content: bool,
    /// Frames with something in them: a document without text that holds some is not blank.
    objects: u32,
    ctx: &'b mut Context,
    facts: &'b mut Facts,
}

impl Inspection<'_> {
    /// Media type and manifest; `None` when the content cannot be read.
    fn structure(&mut self, zip: &ZipIndex<'_>) -> Result<Option<Manifest>, Exceeded> {
        if let Some(bytes) = self.read(zip, "mimetype")? {
            let media_type = String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default()).trim().to_owned();
            match format_of_media_type(&media_type) {
                Some(format) => self.facts.format = Some(format),
                None if media_type.starts_with("application/vnd.oasis.opendocument.") => {}
                None => {
                    self.facts.push(Signal::new("office-package-invalid").at(Place::part("mimetype")).arg("detail", shown(&media_type)))
                }
            }
        }
        if zip.entry("encrypted-package").is_some() {
            self.facts.push(Signal::new("office-encrypted").at(Place::part("encrypted-package")).arg("method", "OpenDocument 1.3"));
            return Ok(None);
        }
        let mut manifest = Manifest::default();
        if zip.entry(MANIFEST).is_none() {
            self.missing(MANIFEST);
        } else if let Some(bytes) = self.read(zip, MANIFEST)? {
            let read = xml::walk(&bytes, &self.ctx.budget, |node, _| {
                if let Node::Open(element) = node {
                    match element.name() {
                        "file-entry" => {
                            manifest
                                .files
                                .insert(element.attr("full-path").unwrap_or_default(), element.attr("media-type").unwrap_or_default());
                        }
                        "encryption-data" | "encrypted-key" => manifest.encrypted = true,
                        _ => {}
                    }
                }
            });
            if let Err(error) = read {
                self.not_well_formed(MANIFEST, error)?;
            }
        }
        if manifest.encrypted {
            self.facts.push(Signal::new("office-encrypted").at(Place::part(MANIFEST)).arg("method", "OpenDocument"));
            return Ok(None);
        }
        if let Some(format) = manifest.files.get("/").and_then(|t| format_of_media_type(t))
            && zip.entry("mimetype").is_none()
        {
            self.facts.format = Some(format);
        }
        if zip.entry("content.xml").is_none() {
            self.missing("content.xml");
        }
        Ok(Some(manifest))
    }

    fn parts(&mut self, zip: &ZipIndex<'_>, manifest: &Manifest) -> Result<(), Exceeded> {
        for (path, media_type) in &manifest.files {
            self.ctx.budget.tick()?;
            // Charts and formulas are parts of the page; a whole document inside another is an object.
            let is_document = matches!(format_of_media_type(media_type), Some(Format::Odt | Format::Ods | Format::Odp | Format::Odg));
            if is_document && path.ends_with('/') && path != "/" {
                self.facts.push(
                    Signal::new("office-embedded-object")
                        .at(Place::part(path.as_str()))
                        .arg("object", shown(media_type))
                        .arg("size_bytes", folder_size(zip, path)),
                );
            }
        }
        for entry in &zip.entries {
            self.ctx.budget.tick()?;
            let name = entry.name.as_str();
            if name.ends_with('/') || matches!(name, "mimetype" | MANIFEST) {
                continue;
            }
            let bytes = match zip.read(entry, self.ctx) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.damaged(name, error)?;
                    continue;
                }
            };
            self.part(name, &bytes, manifest.files.get(name).map_or("", String::as_str))?;
        }
        Ok(())
    }

    fn part(&mut self, name: &str, bytes: &[u8], media_type: &str) -> Result<(), Exceeded> {
        let place = || Place::part(name);
        let (top, file) = (name.split('/').next().unwrap_or_default(), name.rsplit('/').next().unwrap_or_default());
        match top {
            // `script-lc.xml` and `script-lb.xml` list libraries and modules; an empty Standard library is not a macro.
            "Basic" if !matches!(file, "script-lc.xml" | "script-lb.xml" | "dialog-lc.xml" | "dialog-lb.xml") => {
                self.facts.push(Signal::new("office-macro-script").at(place()).arg("script", shown(name)));
            }
            "Scripts" => self.facts.push(Signal::new("office-macro-script").at(place()).arg("script", shown(name))),
            _ if office::is_program(bytes, name) => {
                self.facts.push(Signal::new("office-embedded-program").at(place()).arg("object", shown(name)));
            }
            "Pictures" => self.office.images += 1,
            "META-INF" if file.contains("signatures") => self.facts.push(Signal::new("office-signed").at(place())),
            "ObjectReplacements" | "Thumbnails" => {}
            _ if bytes.starts_with(&super::ole::cfb::MAGIC) || media_type == "application/vnd.sun.star.oleobject" => {
                office::embedded(bytes, name, file, false, self.ctx, self.facts)?;
            }
            _ if bytes.starts_with(b"PK\x03\x04") => office::embedded(bytes, name, file, false, self.ctx, self.facts)?,
            _ if matches!(file, "content.xml" | "styles.xml" | "meta.xml" | "settings.xml") => {
                let is_own = !name.contains('/');
                self.xml_part(bytes, name, is_own)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads content, styles, metadata or a whole flat document; `own` for the document's own parts, not
    /// those of an object inside it.
    fn xml_part(&mut self, bytes: &[u8], name: &str, own: bool) -> Result<(), Exceeded> {
        let read = xml::decode(bytes).and_then(|text| {
            let mut reader = XmlReader::new(&text);
            let read = Walk { own, name, ..Walk::default() }.run(&mut reader, self);
            if reader.declares_entities() {
                self.facts.push(Signal::new("office-xml-dtd").at(Place::part(name)).arg("part", shown(name)));
            }
            read
        });
        match read {
            Ok(()) => Ok(()),
            Err(error) => self.not_well_formed(name, error),
        }
    }

    fn read(&mut self, zip: &ZipIndex<'_>, name: &str) -> Result<Option<Vec<u8>>, Exceeded> {
        let Some(entry) = zip.entry(name) else { return Ok(None) };
        match zip.read(entry, self.ctx) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => {
                self.damaged(name, error)?;
                Ok(None)
            }
        }
    }

    fn damaged(&mut self, name: &str, error: ReadError) -> Result<(), Exceeded> {
        let detail = office::damage(error)?;
        self.facts.push(Signal::new("office-part-damaged").at(Place::part(name)).arg("part", shown(name)).arg("detail", detail));
        Ok(())
    }

    fn missing(&mut self, part: &str) {
        self.facts.push(Signal::new("office-part-missing").at(Place::part(part)).arg("part", part));
    }

    fn not_well_formed(&mut self, part: &str, error: XmlError) -> Result<(), Exceeded> {
        match error {
            XmlError::Exceeded(exceeded) => Err(exceeded),
            XmlError::Malformed { detail, byte } => {
                let place = Place { byte: Some(byte), part: Some(part.to_owned()).filter(|p| !p.is_empty()), ..Place::default() };
                self.facts.push(Signal::new("office-xml-malformed").at(place).arg("part", shown(part)).arg("detail", shown(&detail)));
                Ok(())
            }
        }
    }
}

fn folder_size(zip: &ZipIndex<'_>, folder: &str) -> u64 {
    zip.entries.iter().filter(|e| e.name.starts_with(folder)).fold(0u64, |sum, e| sum.saturating_add(e.declared))
}

/// Whether a link leaves the package: a scheme, an absolute path, or a climb out of it (ODF 1.3 part 2 §3.7).
fn leaves_package(href: &str) -> bool {
    let href = href.trim();
    let has_scheme = href
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    !href.is_empty()
        && !href.starts_with('#')
        && (has_scheme || href.starts_with('/') || href.starts_with("../") || href.starts_with("\\\\"))
        && !href.starts_with("data:")
}

/// One pass over an XML part.
#[derive(Default)]
struct Walk<'n> {
    own: bool,
    name: &'n str,
    /// Open `text:p` and `text:h`.
    paragraphs: usize,
    /// Open elements whose text is not shown: deleted text, a script's source.
    unshown: usize,
    comments: u64,
    changes: u64,
    controls: u64,
    page: u32,
    sink: Option<TextSink>,
    metadata: Option<(&'static str, String)>,
    in_meta: bool,
}

impl Walk<'_> {
    fn run(mut self, reader: &mut XmlReader<'_>, inspection: &mut Inspection<'_>) -> Result<(), XmlError> {
        let mut result = Ok(());
        loop {
            match reader.next(&inspection.ctx.budget) {
                Ok(Some(Node::Open(element))) => {
                    if reader.depth() == 1 {
                        self.root(&element, inspection);
                    }
                    self.open(&element, inspection);
                }
                Ok(Some(Node::Close(end))) => self.close(end.name(), inspection),
                Ok(Some(Node::Text(text))) => self.text(&text, inspection),
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.flush(inspection);
        let place = || Place { part: Some(self.name.to_owned()).filter(|n| !n.is_empty()), ..Place::default() };
        if self.comments > 0 {
            inspection.facts.push(Signal::new("office-comments").at(place()).arg("count", self.comments));
        }
        if self.changes > 0 {
            inspection.facts.push(Signal::new("office-tracked-changes").at(place()).arg("count", self.changes));
        }
        if self.controls > 0 {
            inspection.facts.push(Signal::new("office-form").at(place()).arg("count", self.controls));
        }
        result
    }

    fn root(&mut self, element: &Element<'_>, inspection: &mut Inspection<'_>) {
        let expected = match self.name {
            "content.xml" => &["document-content", "math"][..],
            "" => &["document"][..],
            _ => return,
        };
        if !expected.contains(&element.name()) {
            inspection.facts.push(
                Signal::new("office-main-part-invalid")
                    .at(Place::part(self.name))
                    .arg("part", shown(self.name))
                    .arg("found", shown(element.name())),
            );
        } else {
            inspection.has_content = true;
            if let Some(format) = element.attr("mimetype").filter(|_| self.name.is_empty()).and_then(|t| format_of_media_type(&t)) {
                inspection.facts.format = Some(format);
            }
        }
    }

    /// Whether this part's text is the document's: content, headers and footers of a text, not the cells of a
    /// spreadsheet (read elsewhere), not the prompts of a presentation's masters.
    fn keeps_text(&self, inspection: &Inspection<'_>) -> bool {
        match self.name {
            "content.xml" | "" => inspection.facts.format != Some(Format::Ods),
            "styles.xml" => inspection.facts.format == Some(Format::Odt),
            _ => false,
        }
    }

    fn open(&mut self, element: &Element<'_>, inspection: &mut Inspection<'_>) {
        let name = element.name();
        match name {
            "p" | "h" if element.prefix() != Some("svg") => self.paragraphs += 1,
            "s" | "tab" | "line-break" if self.paragraphs > 0 => self.text(" ", inspection),
            "tracked-changes" | "script" | "binary-data" => self.unshown += 1,
            "annotation" => self.comments += 1,
            "changed-region" | "cell-content-change" | "insertion-of-rows" => self.changes += 1,
            "page" if element.prefix() == Some("draw") && inspection.facts.format == Some(Format::Odp) && self.own => {
                self.flush(inspection);
                self.page += 1;
                inspection.office.slides = Some(self.page);
            }
            "object" | "object-ole" | "plugin" | "image" | "floating-frame"
                if element.prefix() == Some("draw") && self.own && self.name != "styles.xml" =>
            {
                inspection.objects += 1;
            }
            "meta" => self.in_meta = true,
            _ => {}
        }
        if self.own && (self.in_meta || self.name == "meta.xml") {
            self.open_metadata(element, inspection);
        }
        if element.prefix() == Some("form")
            && !matches!(
                name,
                "form" | "properties" | "property" | "list-property" | "list-value" | "option" | "item" | "column" | "hidden"
            )
        {
            self.controls += 1;
        }
        self.judge(element, inspection);
    }

    /// What acts or reaches out.
    fn judge(&self, element: &Element<'_>, inspection: &mut Inspection<'_>) {
        let place = || Place {
            part: Some(self.name.to_owned()).filter(|n| !n.is_empty()),
            page: Some(self.page).filter(|p| *p > 0),
            ..Place::default()
        };
        let mut push = |signal: Signal| inspection.facts.push(signal.at(place()));
        let href = element.attr("href").unwrap_or_default();
        let target = shown(&href);
        match element.name() {
            "event-listener" if element.prefix() == Some("presentation") => {
                if element.attr("action").is_some_and(|a| a == "execute") {
                    push(Signal::new("office-launch").arg("target", target.clone()));
                } else if element.attr("action").is_some_and(|a| a == "macro") {
                    push(Signal::new("office-macro-script").arg("script", target.clone()));
                }
            }
            "event-listener" if element.prefix() != Some("presentation") => {
                let script = if href.is_empty() { element.attr("macro-name").unwrap_or_default() } else { href.clone() };
                push(Signal::new("office-macro-script").arg("script", shown(&script)));
            }
            // `office:script` stands in every flat document; a module of it is code (LibreOffice's `ooo` vocabulary).
            "script" | "module" if matches!(element.prefix(), Some("text" | "script" | "ooo")) => {
                let script = element.attr("language").or_else(|| element.attr("name")).unwrap_or_default();
                push(Signal::new("office-macro-script").arg("script", shown(&script)));
            }
            "dde-source" | "dde-connection-decl" => {
                let command =
                    format!("{} {}", element.attr("dde-application").unwrap_or_default(), element.attr("dde-topic").unwrap_or_default());
                push(Signal::new("office-dde").arg("command", shown(&command)));
            }
            "database-source-sql" | "database-source-table" | "database-source-query" => {
                let database = element.attr("database-name").unwrap_or_default();
                push(Signal::new("office-data-connection").arg("target", shown(&database)));
            }
            "applet" => push(Signal::new("office-activex")),
            _ => {}
        }
        if href.starts_with("vnd.sun.star.script:") || href.starts_with("macro:") {
            if element.name() != "event-listener" {
                push(Signal::new("office-macro-script").arg("script", target));
            }
            return;
        }
        if !leaves_package(&href) {
            return;
        }
        let far = reach(&href) == Reach::Remote;
        match element.name() {
            "image" | "background-image" | "list-level-style-image" | "fill-image" | "image-data" => {
                push(Signal::new("office-linked-image").arg("target", target))
            }
            "object" | "object-ole" | "floating-frame" if far => push(Signal::new("office-remote-object").arg("target", target)),
            "object" | "object-ole" => push(Signal::new("office-linked-object").arg("target", target)),
            "floating-frame" | "section-source" => push(Signal::new("office-linked-document").arg("target", target)),
            "table-source" | "cell-range-source" => push(Signal::new("office-linked-workbook").arg("target", target)),
            "plugin" | "sound" | "audio" | "video" => push(Signal::new("office-linked-media").arg("target", target)),
            _ => {}
        }
    }

    fn open_metadata(&mut self, element: &Element<'_>, inspection: &mut Inspection<'_>) {
        let key = match element.name() {
            "title" => "title",
            "creator" => "last-modified-by",
            "initial-creator" => "author",
            "subject" => "subject",
            "keyword" => "keywords",
            "description" => "description",
            "creation-date" => "created",
            "date" => "modified",
            "generator" => "application",
            "document-statistic" => {
                inspection.office.stated_pages = element.attr("page-count").and_then(|n| n.parse().ok());
                return;
            }
            _ => return,
        };
        self.metadata = Some((key, String::new()));
    }

    fn close(&mut self, name: &str, inspection: &mut Inspection<'_>) {
        match name {
            "p" | "h" => {
                self.paragraphs = self.paragraphs.saturating_sub(1);
                if let Some(sink) = &mut self.sink {
                    sink.end_paragraph(inspection.ctx, inspection.facts);
                }
            }
            "tracked-changes" | "script" | "binary-data" => self.unshown = self.unshown.saturating_sub(1),
            "meta" => self.in_meta = false,
            _ => {}
        }
        if let Some((key, value)) = self.metadata.take() {
            let value: String = fold_whitespace(&value).chars().take(500).collect();
            if !value.is_empty() {
                inspection.facts.metadata.insert(key.to_owned(), value);
            }
        }
    }

    fn text(&mut self, text: &str, inspection: &mut Inspection<'_>) {
        if let Some((_, value)) = &mut self.metadata {
            office::push_capped(value, text, 2_000);
        } else if self.own && self.paragraphs > 0 && self.unshown == 0 && self.keeps_text(inspection) {
            let place = match (self.page, self.name) {
                (0, "content.xml" | "") => Place::default(),
                (0, name) => Place::part(name),
                (page, _) => Place::page(page),
            };
            self.sink.get_or_insert_with(|| TextSink::new(place)).push(text, inspection.ctx, inspection.facts);
        }
    }

    fn flush(&mut self, inspection: &mut Inspection<'_>) {
        if let Some(sink) = self.sink.take() {
            inspection.office.chars += sink.finish(inspection.ctx, inspection.facts);
        }
    }
}

#[cfg(test)]
mod tests;
