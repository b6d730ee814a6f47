//! The package around an Office Open XML document: content types, relationships, part names
//! (ISO/IEC 29500-2, Open Packaging Conventions).

use std::collections::BTreeMap;

use crate::inspect::Context;
use crate::inspect::budget::{Budget, ReadError};
use crate::inspect::xml::{self, Node, XmlError};
use crate::inspect::zip_index::{ZipEntry, ZipIndex};

/// Name of the part that gives every other its type (§7.3.7).
pub const CONTENT_TYPES: &str = "[content_types].xml";
/// Relationships of the package itself (§6.5.2).
pub const ROOT_RELS: &str = "_rels/.rels";

/// A relationship (§6.5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// Part that holds it, normalised; empty for the package.
    pub source: String,
    /// Id, unique in its source.
    pub id: String,
    /// Last segment of a type that the office suites define, so that transitional, strict and Microsoft types agree; the whole
    /// type where it is of another vocabulary, which the suites carry along and do not follow.
    pub kind: String,
    /// Target, as written.
    pub target: String,
    /// `TargetMode="External"`.
    pub external: bool,
}

impl Relationship {
    /// Last segment of the type, whatever its vocabulary: what a target outside the package is judged by, since programs differ
    /// in what they take for their own.
    pub fn apparent_kind(&self) -> &str {
        self.kind.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// The part that an internal relationship leads to, normalised; `None` for a mere fragment.
    pub fn part(&self) -> Option<String> {
        let target = self.target.split(['#', '?']).next().unwrap_or_default().trim();
        if self.external || target.is_empty() {
            return None;
        }
        let base = self.source.rsplit_once('/').map_or("", |(folder, _)| folder);
        Some(resolve(base, target))
    }
}

/// Part names compare without ASCII case (§6.2.2.3); some writers use `\`, some percent-encode.
pub fn normalise(name: &str) -> String {
    percent_decode(&name.replace('\\', "/")).trim_start_matches('/').to_ascii_lowercase()
}

fn resolve(base: &str, target: &str) -> String {
    let target = target.replace('\\', "/");
    let joined = if target.starts_with('/') || base.is_empty() { target } else { format!("{base}/{target}") };
    let mut path: Vec<&str> = Vec::new();
    for segment in joined.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            _ => path.push(segment),
        }
    }
    normalise(&path.join("/"))
}

fn percent_decode(name: &str) -> String {
    if !name.contains('%') {
        return name.to_owned();
    }
    String::from_utf8(crate::inspect::percent_decode(name)).unwrap_or_else(|_| name.to_owned())
}

/// The part that a relationships part belongs to: `word/_rels/document.xml.rels` → `word/document.xml`.
pub fn source_of(rels: &str) -> Option<String> {
    let stem = rels.strip_suffix(".rels")?;
    match stem.rsplit_once("_rels/") {
        Some((folder, file)) if folder.is_empty() || folder.ends_with('/') => Some(format!("{folder}{file}")),
        _ => None,
    }
}

/// Content types (§7.3): by part name, else by extension.
#[derive(Debug, Default)]
pub struct ContentTypes {
    overrides: BTreeMap<String, String>,
    defaults: BTreeMap<String, String>,
}

impl ContentTypes {
    /// Reads `[Content_Types].xml`.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn parse(bytes: &[u8], budget: &Budget) -> Result<Self, XmlError> {
        let mut types = Self::default();
        let mut root = false;
        xml::walk(bytes, budget, |node, depth| {
            let Node::Open(element) = node else { return };
            let content_type =
                || element.attr("ContentType").unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            match element.name() {
                "Types" if depth == 1 => root = true,
                "Override" => {
                    if let Some(part) = element.attr("PartName") {
                        types.overrides.insert(normalise(&part), content_type());
                    }
                }
                "Default" => {
                    if let Some(extension) = element.attr("Extension") {
                        types.defaults.insert(extension.trim_start_matches('.').to_ascii_lowercase(), content_type());
                    }
                }
                _ => {}
            }
        })?;
        if root { Ok(types) } else { Err(XmlError::Malformed { detail: "no Types element".into(), byte: 0 }) }
    }

    /// The type of a part by normalised name; empty when none is given.
    pub fn of(&self, part: &str) -> &str {
        if let Some(content_type) = self.overrides.get(part) {
            return content_type;
        }
        let extension = part.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map_or("", |(_, e)| e);
        self.defaults.get(extension).map_or("", String::as_str)
    }

    /// Part names given a type of their own.
    pub fn overrides(&self) -> impl Iterator<Item = (&str, &str)> {
        self.overrides.iter().map(|(part, content_type)| (part.as_str(), content_type.as_str()))
    }
}

/// Vocabularies of relationship types: OPC (ISO/IEC 29500-2 annex E), transitional and strict Office Open XML
/// (ISO/IEC 29500-1 and -4), and Microsoft's extensions ([MS-OFFMACRO2], [MS-XLSX], [MS-DOCX]).
const VOCABULARIES: [&str; 4] = [
    "http://schemas.openxmlformats.org/package/2006/relationships/",
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships/",
    "http://purl.oclc.org/ooxml/officeDocument/relationships/",
    "http://schemas.microsoft.com/office/",
];

/// Types that only OPC defines, below `metadata/`. LibreOffice and Office for Mac 2011 write them once more in other vocabularies.
const OPC_METADATA: &str = "metadata/";

fn kind_of(written: &str) -> String {
    let written = written.trim();
    let known = VOCABULARIES.iter().enumerate().find_map(|(n, vocabulary)| Some((n, written.strip_prefix(vocabulary)?)));
    match known {
        Some((opc, kind)) if opc == 0 || !kind.starts_with(OPC_METADATA) => {
            kind.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
        }
        _ => written.to_owned(),
    }
}

/// Reads a relationships part.
///
/// # Errors
/// [`XmlError`].
pub fn parse_relationships(bytes: &[u8], source: &str, budget: &Budget) -> Result<Vec<Relationship>, XmlError> {
    let mut found = Vec::new();
    xml::walk(bytes, budget, |node, _| {
        let Node::Open(element) = node else { return };
        if element.name() != "Relationship" {
            return;
        }
        let kind = element.attr("Type").unwrap_or_default();
        found.push(Relationship {
            source: source.to_owned(),
            id: element.attr("Id").unwrap_or_default(),
            kind: kind_of(&kind),
            target: element.attr("Target").unwrap_or_default(),
            external: element.attr("TargetMode").is_some_and(|mode| mode.trim().eq_ignore_ascii_case("external")),
        });
    })?;
    Ok(found)
}

/// A package and where its parts stand.
#[derive(Debug)]
pub struct Package<'a> {
    zip: ZipIndex<'a>,
    by_name: BTreeMap<String, usize>,
    /// Names that two entries share once normalised, as written.
    pub duplicates: Vec<String>,
}

impl<'a> Package<'a> {
    /// Indexes the parts of a container; folders are no parts.
    pub fn new(zip: ZipIndex<'a>) -> Self {
        let mut by_name = BTreeMap::new();
        let mut duplicates = Vec::new();
        for (i, entry) in zip.entries.iter().enumerate() {
            if entry.name.ends_with(['/', '\\']) {
                continue;
            }
            if by_name.insert(normalise(&entry.name), i).is_some() {
                duplicates.push(entry.name.clone());
            }
        }
        Self { zip, by_name, duplicates }
    }

    /// Whether a part exists, by normalised name.
    pub fn has(&self, part: &str) -> bool {
        self.by_name.contains_key(part)
    }

    /// Parts as (normalised name, entry), in name order.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &ZipEntry)> {
        self.by_name.iter().filter_map(|(name, i)| Some((name.as_str(), self.zip.entries.get(*i)?)))
    }

    /// Whether any entry is encrypted by the container itself.
    pub fn is_encrypted(&self) -> bool {
        self.zip.entries.iter().any(|e| e.encrypted)
    }

    /// The name of a part as the container writes it.
    pub fn written_name(&self, part: &str) -> String {
        self.by_name.get(part).and_then(|i| self.zip.entries.get(*i)).map_or_else(|| part.to_owned(), |e| e.name.clone())
    }

    /// Inflates a part; `None` when there is none of that name.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, part: &str, ctx: &mut Context) -> Result<Option<Vec<u8>>, ReadError> {
        match self.by_name.get(part).and_then(|i| self.zip.entries.get(*i)) {
            Some(entry) => self.zip.read(entry, ctx).map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relationship(source: &str, target: &str) -> Relationship {
        Relationship { source: source.into(), id: "rId1".into(), kind: "image".into(), target: target.into(), external: false }
    }

    #[test]
    fn targets_resolve_from_the_folder_of_their_source() {
        assert_eq!(relationship("word/document.xml", "media/Image1.PNG").part().unwrap(), "word/media/image1.png");
        assert_eq!(relationship("ppt/slides/slide1.xml", "../media/a%20b.png#x").part().unwrap(), "ppt/media/a b.png");
        assert_eq!(relationship("", "/word/document.xml").part().unwrap(), "word/document.xml");
        assert_eq!(relationship("xl/workbook.xml", "/xl\\worksheets\\sheet1.xml").part().unwrap(), "xl/worksheets/sheet1.xml");
        assert_eq!(relationship("a/b", "../../../x").part().unwrap(), "x");
        assert_eq!(relationship("xl/worksheets/sheet1.xml", "#Feuil2!A1").part(), None);
    }

    #[test]
    fn a_relationships_part_names_its_source() {
        assert_eq!(source_of("_rels/.rels").as_deref(), Some(""));
        assert_eq!(source_of("word/_rels/document.xml.rels").as_deref(), Some("word/document.xml"));
        assert_eq!(source_of("word/x_rels/document.xml.rels"), None);
        assert_eq!(source_of("word/document.xml"), None);
    }
}
