//! The XML parts of a document: what each one tells.

use super::{Inspection, Relationship};
use crate::inspect::office::{Fields, TextSink, push_capped, record_field, shown};
use crate::inspect::xml::{self, Element, Node, Walked, XmlError, XmlReader};
use crate::model::{Place, Signal};

/// What a part is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `word/document.xml`.
    WordMain,
    /// Headers, footers, notes: text and fields.
    WordStory,
    /// Comments.
    WordComments,
    /// `xl/workbook.xml`.
    Workbook,
    /// `xl/externalLinks/externalLink1.xml`.
    ExternalLink,
    /// `xl/connections.xml`.
    Connections,
    /// `ppt/presentation.xml`.
    Presentation,
    /// A slide or its notes.
    Slide,
    /// Comments of slides.
    SlideComments,
    /// `docProps/core.xml`.
    CoreProperties,
    /// `docProps/app.xml`.
    AppProperties,
    /// Ribbon customisation.
    CustomUi,
    /// Anything else: well-formed is enough.
    Other,
}

impl Role {
    /// Tells a part's role by its content type, else by the relationship that leads to it.
    pub fn of(content_type: &str, name: &str, is_main: bool, by: &dyn Fn(&str) -> bool) -> Self {
        let ends = |suffix: &str| content_type.ends_with(suffix);
        if is_main {
            return match content_type {
                t if t.contains("word") => Self::WordMain,
                t if t.contains("spreadsheet") || t.contains("excel") => Self::Workbook,
                t if t.contains("presentation") || t.contains("powerpoint") => Self::Presentation,
                _ => Self::Other,
            };
        }
        if content_type.contains("wordprocessingml") {
            return match () {
                () if ends(".header+xml")
                    || ends(".footer+xml")
                    || ends(".footnotes+xml")
                    || ends(".endnotes+xml")
                    || ends(".document.glossary+xml") =>
                {
                    Self::WordStory
                }
                () if ends(".comments+xml") => Self::WordComments,
                () => Self::Other,
            };
        }
        match () {
            () if ends("spreadsheetml.externallink+xml") || by("externalLink") => Self::ExternalLink,
            () if ends("spreadsheetml.connections+xml") => Self::Connections,
            () if ends("presentationml.slide+xml") || ends("presentationml.notesslide+xml") => Self::Slide,
            () if ends("presentationml.comments+xml") || content_type.contains("ms-powerpoint.comments+xml") => Self::SlideComments,
            () if ends("core-properties+xml") => Self::CoreProperties,
            () if ends("extended-properties+xml") => Self::AppProperties,
            () if by("extensibility") || by("customUI") || name.starts_with("customui/") => Self::CustomUi,
            () => Self::Other,
        }
    }
}

/// Reads one part for its role, checking that it is well-formed to its end.
pub fn read(bytes: &[u8], role: Role, name: &str, written: &str, inspection: &mut Inspection<'_, '_>) -> Result<Walked, XmlError> {
    let text = xml::decode(bytes)?;
    let mut reader = XmlReader::new(&text);
    let result = match role {
        Role::WordMain | Role::WordStory | Role::WordComments => word(&mut reader, role, written, inspection),
        Role::Slide | Role::SlideComments => slide(&mut reader, role, name, written, inspection),
        Role::Presentation => presentation(&mut reader, name, written, inspection),
        Role::Workbook => workbook(&mut reader, name, written, inspection),
        Role::CoreProperties | Role::AppProperties => properties(&mut reader, inspection),
        Role::ExternalLink | Role::Connections | Role::CustomUi => simple(&mut reader, role, written, inspection),
        Role::Other => drain(&mut reader, inspection),
    };
    result.map(|()| Walked { doctype: reader.has_doctype(), declares_entities: reader.declares_entities() })
}

fn drain(reader: &mut XmlReader<'_>, inspection: &mut Inspection<'_, '_>) -> Result<(), XmlError> {
    while reader.next(&inspection.ctx.budget)?.is_some() {}
    Ok(())
}

/// The root of a main part must be `expected` in the vocabulary named `vocabulary`.
fn check_root(element: &Element<'_>, expected: &str, vocabulary: &str, written: &str, inspection: &mut Inspection<'_, '_>) {
    let namespace = element.own_namespace().unwrap_or_default();
    if element.name() != expected || !namespace.contains(vocabulary) {
        inspection.facts.push(
            Signal::new("office-main-part-invalid")
                .at(Place::part(written))
                .arg("part", shown(written))
                .arg("found", shown(element.name())),
        );
    }
}

/// WordprocessingML (ISO/IEC 29500-1 §17): text by paragraph, fields, tracked changes, comments.
fn word(reader: &mut XmlReader<'_>, role: Role, written: &str, inspection: &mut Inspection<'_, '_>) -> Result<(), XmlError> {
    let place = if role == Role::WordMain { Place::default() } else { Place::part(written) };
    let mut sink = TextSink::new(place);
    let mut fields = Fields::default();
    let mut in_text = false;
    let mut in_instruction = false;
    // Inside mc:Fallback, the same content stands a second time for older readers.
    let mut fallback = 0usize;
    let mut comments = 0u64;
    let mut changes = 0u64;
    let mut result = Ok(());
    loop {
        let node = match reader.next(&inspection.ctx.budget) {
            Ok(Some(node)) => node,
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        match node {
            Node::Open(element) => {
                if reader.depth() == 1 && role == Role::WordMain {
                    check_root(&element, "document", "wordprocessingml", written, inspection);
                }
                match element.name() {
                    "t" => in_text = true,
                    "instrText" | "delInstrText" => in_instruction = true,
                    "tab" | "br" | "cr" if fallback == 0 => sink.push(" ", inspection.ctx, inspection.facts),
                    "noBreakHyphen" if fallback == 0 => sink.push("-", inspection.ctx, inspection.facts),
                    "Fallback" => fallback += 1,
                    "fldSimple" => {
                        if let Some(instruction) = element.attr("instr") {
                            record_field(&instruction, written, inspection.facts);
                        }
                    }
                    "fldChar" => match element.attr("fldCharType").as_deref() {
                        Some("begin") => fields.begin(written, inspection.facts),
                        Some("separate") => fields.separate(written, inspection.facts),
                        Some("end") => fields.end(written, inspection.facts),
                        _ => {}
                    },
                    "comment" if role == Role::WordComments => comments += 1,
                    "ins" | "del" | "moveFrom" | "moveTo" if element.attr("author").is_some() => changes += 1,
                    _ => {}
                }
            }
            Node::Close(end) => match end.name() {
                "t" => in_text = false,
                "instrText" | "delInstrText" => in_instruction = false,
                "Fallback" => fallback = fallback.saturating_sub(1),
                "p" | "tc" if fallback == 0 => sink.end_paragraph(inspection.ctx, inspection.facts),
                _ => {}
            },
            Node::Text(text) => {
                if in_instruction {
                    fields.push(&text);
                } else if in_text && fallback == 0 {
                    sink.push(&text, inspection.ctx, inspection.facts);
                }
            }
        }
    }
    fields.finish(written, inspection.facts);
    inspection.office.chars += sink.finish(inspection.ctx, inspection.facts);
    if comments > 0 {
        inspection.facts.push(Signal::new("office-comments").at(Place::part(written)).arg("count", comments));
    }
    if changes > 0 {
        inspection.facts.push(Signal::new("office-tracked-changes").at(Place::part(written)).arg("count", changes));
    }
    result
}

/// A slide (§19.3.1.38) or its notes: text by paragraph, whether it is shown.
fn slide(reader: &mut XmlReader<'_>, role: Role, name: &str, written: &str, inspection: &mut Inspection<'_, '_>) -> Result<(), XmlError> {
    let page = inspection.pages.get(name).copied();
    let mut sink = TextSink::new(page.map_or_else(|| Place::part(written), Place::page));
    let mut in_text = false;
    let mut fallback = 0usize;
    let mut comments = 0u64;
    let mut result = Ok(());
    loop {
        let node = match reader.next(&inspection.ctx.budget) {
            Ok(Some(node)) => node,
            Ok(None) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        match node {
            Node::Open(element) => match element.name() {
                "sld" if reader.depth() == 1 && element.attr("show").is_some_and(|s| matches!(s.as_str(), "0" | "false")) => {
                    inspection.facts.push(Signal::new("office-hidden-slide").at(Place { page, ..Place::part(written) }));
                }
                "t" | "text" => in_text = true,
                "Fallback" => fallback += 1,
                "br" if fallback == 0 => sink.push(" ", inspection.ctx, inspection.facts),
                "cm" if role == Role::SlideComments => comments += 1,
                "hlinkClick" | "hlinkHover"
                    if element.attr("action").is_some_and(|a| a.to_ascii_lowercase().starts_with("ppaction://program")) =>
                {
                    let id = element.attr_prefixed("id").unwrap_or_default();
                    let program =
                        inspection.relationships.iter().find(|r| r.id == id && r.source == name).map_or("", |r| r.target.as_str());
                    let signal = Signal::new("office-launch").at(Place { page, ..Place::part(written) }).arg("target", shown(program));
                    inspection.facts.push(signal);
                }
                _ => {}
            },
            Node::Close(end) => match end.name() {
                "t" | "text" => in_text = false,
                "Fallback" => fallback = fallback.saturating_sub(1),
                "p" | "cm" if fallback == 0 => sink.end_paragraph(inspection.ctx, inspection.facts),
                _ => {}
            },
            Node::Text(text) if in_text && fallback == 0 => sink.push(&text, inspection.ctx, inspection.facts),
            Node::Text(_) => {}
        }
    }
    inspection.office.chars += sink.finish(inspection.ctx, inspection.facts);
    if comments > 0 {
        inspection.facts.push(Signal::new("office-comments").at(Place::part(written)).arg("count", comments));
    }
    result
}

/// `ppt/presentation.xml` (§19.2.1.26): the order of slides.
fn presentation(reader: &mut XmlReader<'_>, name: &str, written: &str, inspection: &mut Inspection<'_, '_>) -> Result<(), XmlError> {
    let mut ids = Vec::new();
    while let Some(node) = reader.next(&inspection.ctx.budget)? {
        if let Node::Open(element) = node {
            if reader.depth() == 1 {
                check_root(&element, "presentation", "presentationml", written, inspection);
            }
            if element.name() == "sldId"
                && let Some(id) = element.attr_prefixed("id")
            {
                ids.push(id);
            }
        }
    }
    for (i, id) in ids.iter().enumerate() {
        inspection.ctx.budget.tick()?;
        let page = u32::try_from(i + 1).unwrap_or(u32::MAX);
        if let Some(part) = target_of(id, name, inspection) {
            let notes = inspection.relationships.iter().find(|r| r.source == part && r.kind == "notesSlide").and_then(Relationship::part);
            inspection.pages.insert(part, page);
            if let Some(notes) = notes {
                inspection.pages.insert(notes, page);
            }
        } else {
            inspection.missing(&format!("slide {page} ({id})"));
        }
    }
    inspection.office.slides = Some(u32::try_from(ids.len()).unwrap_or(u32::MAX));
    Ok(())
}

/// `xl/workbook.xml` (§18.2.27): every sheet must lead to a part.
fn workbook(reader: &mut XmlReader<'_>, name: &str, written: &str, inspection: &mut Inspection<'_, '_>) -> Result<(), XmlError> {
    let mut sheets = Vec::new();
    while let Some(node) = reader.next(&inspection.ctx.budget)? {
        if let Node::Open(element) = node {
            if reader.depth() == 1 {
                check_root(&element, "workbook", "spreadsheetml", written, inspection);
            }
            if element.name() == "sheet" {
                sheets.push((element.attr("name").unwrap_or_default(), element.attr_prefixed("id").unwrap_or_default()));
            }
        }
    }
    for (sheet, id) in sheets {
        inspection.ctx.budget.tick()?;
        if target_of(&id, name, inspection).is_none() {
            inspection.missing(&format!("« {sheet} » ({id})"));
        }
    }
    Ok(())
}

fn target_of(id: &str, source: &str, inspection: &Inspection<'_, '_>) -> Option<String> {
    inspection.relationships.iter().find(|r| r.id == id && r.source == source).and_then(Relationship::part)
}

/// `docProps/core.xml` (ISO/IEC 29500-2 §8.3) and `docProps/app.xml` (ISO/IEC 29500-1 §22.2).
fn properties(reader: &mut XmlReader<'_>, inspection: &mut Inspection<'_, '_>) -> Result<(), XmlError> {
    let mut current: Option<&'static str> = None;
    let mut value = String::new();
    while let Some(node) = reader.next(&inspection.ctx.budget)? {
        match node {
            Node::Open(element) if reader.depth() == 2 => {
                value.clear();
                current = match element.name() {
                    "title" => Some("title"),
                    "creator" => Some("author"),
                    "subject" => Some("subject"),
                    "keywords" => Some("keywords"),
                    "description" => Some("description"),
                    "lastModifiedBy" => Some("last-modified-by"),
                    "created" => Some("created"),
                    "modified" => Some("modified"),
                    "Application" => Some("application"),
                    "AppVersion" => Some("application-version"),
                    "Company" => Some("company"),
                    "Manager" => Some("manager"),
                    "Template" => Some("template"),
                    "Pages" => Some("pages"),
                    _ => None,
                };
            }
            Node::Text(text) if current.is_some() => push_capped(&mut value, &text, 2_000),
            Node::Close(_) if reader.depth() == 1 => {
                if let Some(key) = current.take() {
                    if key == "pages" {
                        inspection.office.stated_pages = value.trim().parse().ok();
                    } else {
                        put_metadata(inspection.facts, key, &value);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Keeps a piece of metadata, folded and cut.
pub fn put_metadata(facts: &mut crate::model::Facts, key: &str, value: &str) {
    let value: String = crate::inspect::fold_whitespace(value).chars().take(500).collect();
    if !value.is_empty() {
        facts.metadata.insert(key.to_owned(), value);
    }
}

fn simple(reader: &mut XmlReader<'_>, role: Role, written: &str, inspection: &mut Inspection<'_, '_>) -> Result<(), XmlError> {
    while let Some(node) = reader.next(&inspection.ctx.budget)? {
        let Node::Open(element) = node else { continue };
        let place = || Place::part(written);
        match (role, element.name()) {
            (Role::ExternalLink, "ddeLink") => {
                let command =
                    format!("{} {}", element.attr("ddeService").unwrap_or_default(), element.attr("ddeTopic").unwrap_or_default());
                inspection.facts.push(Signal::new("office-dde").at(place()).arg("command", shown(&command)));
            }
            (Role::ExternalLink, "oleLink") => {
                let target = element.attr("progId").unwrap_or_default();
                inspection.facts.push(Signal::new("office-linked-object").at(place()).arg("target", shown(&target)));
            }
            (Role::Connections, "connection") => {
                let target = element.attr("name").unwrap_or_default();
                inspection.facts.push(Signal::new("office-data-connection").at(place()).arg("target", shown(&target)));
            }
            (Role::CustomUi, "customUI") if element.attr("onLoad").is_some() => {
                inspection.facts.push(Signal::new("office-custom-ui").at(place()));
            }
            _ => {}
        }
    }
    Ok(())
}
