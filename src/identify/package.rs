//! ZIP packages: OPC (ISO/IEC 29500-2), OpenDocument (ISO/IEC 26300-3), EPUB, Java, or a plain archive.
//!
//! The package's own declarations decide, not the names of its folders. Where the central directory is
//! lost, the local headers tell what the file was meant to be.

use super::{Told, polyglot};
use crate::inspect::zip_index::{ZipError, ZipIndex, salvage};
use crate::model::format::Format;

/// Declarations read at most: `[Content_Types].xml` of a large presentation has some tens of kilobytes.
const MAX_DECLARATION: usize = 1024 * 1024;
/// Local headers looked at where the directory is lost, and bytes of content kept of each.
const SALVAGED: (usize, usize) = (2_000, 16 * 1024);

/// Where members come from.
enum Source<'a> {
    Index(ZipIndex<'a>),
    Remains(Vec<(String, Vec<u8>)>),
}

impl Source<'_> {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Index(index) => Box::new(index.entries.iter().map(|e| e.name.as_str())),
            Self::Remains(members) => Box::new(members.iter().map(|(name, _)| name.as_str())),
        }
    }

    /// The first bytes of the member of this name, ASCII case and the kind of slash ignored.
    fn content(&self, name: &str) -> Option<Vec<u8>> {
        let same = |candidate: &str| {
            let candidate = candidate.strip_prefix('/').unwrap_or(candidate);
            candidate.len() == name.len()
                && candidate.bytes().zip(name.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b) || (a == b'\\' && b == b'/'))
        };
        match self {
            Self::Index(index) => index.entries.iter().find(|e| same(&e.name)).map(|e| index.peek(e, MAX_DECLARATION)),
            Self::Remains(members) => members.iter().find(|(n, _)| same(n)).map(|(_, content)| content.clone()),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names().any(|n| n.eq_ignore_ascii_case(name))
    }
}

/// A ZIP that starts as one: local header, end record of an empty one, or the marker of a split one.
pub(super) fn tell(bytes: &[u8]) -> Option<Told> {
    let starts = [b"PK\x03\x04".as_slice(), b"PK\x05\x06", b"PK\x07\x08", b"PK00PK\x03\x04"].iter().any(|magic| bytes.starts_with(magic));
    if !starts {
        return None;
    }
    match ZipIndex::open(bytes) {
        Ok(index) => Some(by_content(Source::Index(index))),
        Err(_) => Some(by_content(Source::Remains(salvage(bytes, SALVAGED.0, SALVAGED.1)))),
    }
}

/// A ZIP behind bytes that are nothing by themselves. Its directory must be whole: anything less is a guess.
pub(super) fn tell_behind_something(bytes: &[u8]) -> Option<Told> {
    if ZipIndex::open(bytes).is_err_and(|e| e == ZipError::Split) {
        return Some(Told::new(Format::Zip, "end record of a split archive"));
    }
    let index = polyglot::zip_at_end(bytes)?;
    let leading = usize::try_from(index.leading).ok()?;
    Some(Told { leading, ..by_content(Source::Index(index)) })
}

fn by_content(source: Source<'_>) -> Told {
    let odf = by_mimetype(&source);
    let opc = by_content_types(&source);
    let mut told = match (odf, opc) {
        (Some(first), Some(other)) => {
            let also = if other.format == Format::Opc { Vec::new() } else { vec![other.format] };
            Told { also, ..first }
        }
        (Some(told), None) | (None, Some(told)) => told,
        (None, None) => by_odf_parts(&source).or_else(|| by_java(&source)).unwrap_or_else(|| match &source {
            Source::Index(index) => Told::new(Format::Zip, format!("ZIP directory of {} entries", index.count)),
            Source::Remains(members) => by_office_names(members)
                .unwrap_or_else(|| Told::new(Format::Zip, format!("{} local headers and no readable directory", members.len()))),
        }),
    };
    if matches!(source, Source::Remains(_)) && told.format != Format::Zip {
        told.basis.push_str(", no readable directory");
    }
    told
}

/// ISO/IEC 26300-3 §3.3, EPUB OCF §4.3: a `mimetype` member holds the media type.
fn by_mimetype(source: &Source<'_>) -> Option<Told> {
    let content = match source.content("mimetype") {
        Some(content) => content,
        // In the smallest remains the name and the content have run together.
        None => match source {
            Source::Remains(members) => {
                members.iter().find_map(|(name, content)| name.strip_prefix("mimetype").map(|rest| [rest.as_bytes(), content].concat()))?
            }
            Source::Index(_) => return None,
        },
    };
    let text = text_of(content.get(..content.len().min(512)).unwrap_or(&[]));
    let media_type = text.trim().trim_start_matches("mimetype").trim();
    let format = of_odf_type(media_type)?;
    let shown: String = media_type.chars().take_while(|c| c.is_ascii_graphic()).take(100).collect();
    Some(Told::new(format, format!("member mimetype {shown}")))
}

/// The format of a media type that starts like this.
fn of_odf_type(media_type: &str) -> Option<Format> {
    if media_type.starts_with("application/epub+zip") {
        return Some(Format::Epub);
    }
    // OpenOffice.org 1, the same package under older names; every ODF application opens it.
    if let Some(kind) = media_type.strip_prefix("application/vnd.sun.xml.") {
        let kinds =
            [("calc", Format::Ods), ("writer", Format::Odt), ("impress", Format::Odp), ("math", Format::Odf), ("draw", Format::Odg)];
        return kinds.into_iter().find_map(|(prefix, format)| kind.starts_with(prefix).then_some(format));
    }
    let kind = media_type.strip_prefix("application/vnd.oasis.opendocument.")?;
    [
        ("spreadsheet", Format::Ods),
        ("text", Format::Odt),
        ("presentation", Format::Odp),
        ("formula", Format::Odf),
        ("graphics", Format::Odg),
    ]
    .into_iter()
    .find_map(|(prefix, format)| kind.starts_with(prefix).then_some(format))
}

/// ISO/IEC 29500-2: the package relationship `officeDocument` points to the main part, and
/// `[Content_Types].xml` says what it is.
fn by_content_types(source: &Source<'_>) -> Option<Told> {
    let types = text_of(&source.content("[Content_Types].xml")?);
    let main = source.content("_rels/.rels").and_then(|rels| main_part(&text_of(&rels)));
    if let Some(part) = &main
        && let Some(format) = content_type(&types, part).and_then(|t| of_content_type(&t))
    {
        return Some(Told::new(format, format!("OPC main part {part}")));
    }
    // The relationship is missing or wrong: any part declared as a main part, as long as it is there.
    // A package has one; a list of thousands would be looked up for nothing.
    let mut main_parts = tags(&types, "Override").filter_map(|tag| Some((tag, of_content_type(&attribute(tag, "ContentType")?)?))).take(50);
    let declared = main_parts.find_map(|(tag, format)| {
        let part = attribute(tag, "PartName")?;
        source.content(part.trim_start_matches('/')).map(|_| Told::new(format, format!("OPC part {part} declared as a main part")))
    });
    declared
        .or_else(|| {
            WELL_KNOWN
                .iter()
                .find(|(part, _)| source.content(part).is_some())
                .map(|(part, format)| Told::new(*format, format!("OPC part {part}")))
        })
        .or_else(|| {
            // What remains of a list of types may not even be XML.
            let found = CONTENT_TYPES.iter().find(|(content_type, _)| types.to_ascii_lowercase().contains(content_type));
            found.map(|(content_type, format)| Told::new(*format, format!("OPC content type {content_type}")))
        })
        .or_else(|| {
            let remains = [("document.main+xml", Format::Docx), ("sheet.main+xml", Format::Xlsx), ("presentation.main+xml", Format::Pptx)];
            remains
                .into_iter()
                .find(|(end, _)| types.contains(end))
                .map(|(end, format)| Told::new(format, format!("damaged OPC content type …{end}")))
        })
        .or_else(|| match source {
            Source::Remains(members) => by_office_names(members),
            Source::Index(_) => None,
        })
        .or_else(|| Some(Told::new(Format::Opc, "OPC package without a known main part")))
}

/// Main parts under the names that every common writer uses.
const WELL_KNOWN: &[(&str, Format)] = &[
    ("word/document.xml", Format::Docx),
    ("xl/workbook.xml", Format::Xlsx),
    ("xl/workbook.bin", Format::Xlsb),
    ("ppt/presentation.xml", Format::Pptx),
    ("visio/document.xml", Format::Visio),
];

/// Content types of main parts ([MS-OFFMACRO2], ISO/IEC 29500-1), lower case.
const CONTENT_TYPES: &[(&str, Format)] = &[
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document.main", Format::Docx),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.template.main", Format::Dotx),
    ("application/vnd.ms-word.document.macroenabled.main", Format::Docm),
    ("application/vnd.ms-word.template.macroenabledtemplate.main", Format::Docm),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main", Format::Xlsx),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.template.main", Format::Xltx),
    ("application/vnd.ms-excel.sheet.macroenabled.main", Format::Xlsm),
    ("application/vnd.ms-excel.template.macroenabled.main", Format::Xlsm),
    ("application/vnd.ms-excel.addin.macroenabled.main", Format::Xlsm),
    ("application/vnd.ms-excel.sheet.binary.macroenabled.main", Format::Xlsb),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation.main", Format::Pptx),
    ("application/vnd.openxmlformats-officedocument.presentationml.slideshow.main", Format::Ppsx),
    ("application/vnd.openxmlformats-officedocument.presentationml.template.main", Format::Ppsx),
    ("application/vnd.ms-powerpoint.presentation.macroenabled.main", Format::Pptm),
    ("application/vnd.ms-powerpoint.slideshow.macroenabled.main", Format::Pptm),
    ("application/vnd.ms-powerpoint.template.macroenabled.main", Format::Pptm),
    ("application/vnd.ms-powerpoint.addin.macroenabled.main", Format::Pptm),
    ("application/vnd.ms-visio.", Format::Visio),
];

fn of_content_type(content_type: &str) -> Option<Format> {
    let content_type = content_type.to_ascii_lowercase();
    CONTENT_TYPES.iter().find(|(prefix, _)| content_type.starts_with(prefix)).map(|(_, format)| *format)
}

/// Target of the `officeDocument` relationship, transitional or strict, or of its Visio sister.
fn main_part(rels: &str) -> Option<String> {
    tags(rels, "Relationship").find_map(|tag| {
        let kind = attribute(tag, "Type")?;
        let target = attribute(tag, "Target")?;
        let is_main = kind.ends_with("/officeDocument") || kind == "http://schemas.microsoft.com/visio/2010/relationships/document";
        is_main.then(|| target.trim_start_matches("./").trim_start_matches('/').to_owned())
    })
}

/// The content type of a part: its override, else the default of its extension.
fn content_type(types: &str, part: &str) -> Option<String> {
    let by_override = tags(types, "Override")
        .find(|tag| attribute(tag, "PartName").is_some_and(|name| name.trim_start_matches('/').eq_ignore_ascii_case(part)))
        .and_then(|tag| attribute(tag, "ContentType"));
    by_override.or_else(|| {
        let extension = part.rsplit_once('.')?.1;
        tags(types, "Default")
            .find(|tag| attribute(tag, "Extension").is_some_and(|e| e.eq_ignore_ascii_case(extension)))
            .and_then(|tag| attribute(tag, "ContentType"))
    })
}

/// OpenDocument without a `mimetype` member: the manifest, then the root of the content.
fn by_odf_parts(source: &Source<'_>) -> Option<Told> {
    if let Some(manifest) = source.content("META-INF/manifest.xml") {
        let manifest = text_of(&manifest);
        let root = tags(&manifest, "file-entry").find(|tag| attribute(tag, "full-path").as_deref() == Some("/"));
        let media_type = root.and_then(|tag| attribute(tag, "media-type")).or_else(|| {
            // Remains that are no longer XML.
            let at = manifest.find("application/vnd.oasis.opendocument.").or_else(|| manifest.find("application/vnd.sun.xml."))?;
            manifest.get(at..).map(str::to_owned)
        });
        if let Some(format) = media_type.as_deref().and_then(of_odf_type) {
            return Some(Told::new(format, "OpenDocument manifest"));
        }
    }
    let content = text_of(&source.content("content.xml")?);
    if !content.contains("document-content") {
        return None;
    }
    [
        ("office:spreadsheet", Format::Ods),
        ("office:presentation", Format::Odp),
        ("office:drawing", Format::Odg),
        ("office:text", Format::Odt),
    ]
    .into_iter()
    .find(|(element, _)| content.contains(&format!("<{element}")))
    .map(|(element, format)| Told::new(format, format!("OpenDocument content with {element}")))
}

/// Java and Android archives: a manifest that stands first, as `jar` writes it, or what only they hold.
fn by_java(source: &Source<'_>) -> Option<Told> {
    let ends = |extension: &str| source.names().any(|n| n.to_ascii_lowercase().ends_with(extension));
    if source.has("AndroidManifest.xml") && (ends(".dex") || source.has("resources.arsc")) {
        return Some(Told::new(Format::Jar, "member AndroidManifest.xml"));
    }
    let manifest_first = source.names().take(2).any(|n| n == "META-INF/MANIFEST.MF");
    if source.has("META-INF/MANIFEST.MF") && (manifest_first || ends(".class") || source.has("WEB-INF/web.xml")) {
        return Some(Told::new(Format::Jar, "member META-INF/MANIFEST.MF"));
    }
    None
}

/// Where the directory and the declarations are lost: main part names beside a package's own folders.
fn by_office_names(members: &[(String, Vec<u8>)]) -> Option<Told> {
    let package = members
        .iter()
        .any(|(n, _)| n.starts_with("_rels/") || n.contains("/_rels/") || n.starts_with("docProps/") || n.starts_with("[Content_Types]"));
    if !package {
        return None;
    }
    WELL_KNOWN
        .iter()
        .find(|(part, _)| members.iter().any(|(n, _)| n == part))
        .or_else(|| {
            WELL_KNOWN.iter().find(|(part, _)| {
                part.split_once('/').is_some_and(|(folder, _)| members.iter().any(|(n, _)| n.split('/').next() == Some(folder)))
            })
        })
        .map(|(part, format)| Told::new(*format, format!("office members such as {part}")))
}

/// XML as text, for a scan that must survive damage: UTF-8, or UTF-16 by its byte order mark.
pub(super) fn text_of(bytes: &[u8]) -> String {
    match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding.decode(bytes).0.into_owned(),
        None if bytes.starts_with(b"<\0") => encoding_rs::UTF_16LE.decode(bytes).0.into_owned(),
        None if bytes.starts_with(b"\0<") => encoding_rs::UTF_16BE.decode(bytes).0.into_owned(),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The inside of every start tag of this local name, whatever its prefix.
pub(super) fn tags<'t>(xml: &'t str, name: &'t str) -> impl Iterator<Item = &'t str> {
    xml.split('<').skip(1).filter_map(move |piece| {
        let tag = piece.split('>').next()?;
        let qualified = tag.split(|c: char| c.is_whitespace() || c == '/').next()?;
        (qualified.rsplit(':').next() == Some(name)).then_some(tag)
    })
}

/// The value of an attribute of this local name inside a tag.
pub(super) fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once('=') {
        let key = before.trim_end().rsplit(|c: char| c.is_whitespace()).next().unwrap_or_default();
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, next) = after.get(1..)?.split_once(quote)?;
        if key.rsplit(':').next() == Some(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::write::SimpleFileOptions;

    use super::*;

    fn package(members: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn format(bytes: &[u8]) -> Option<Format> {
        tell(bytes).map(|t| t.format)
    }

    const RELS: &str = r#"<Relationships xmlns="x"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>"#;

    fn types(content_type: &str) -> String {
        format!(
            r#"<Types><Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType="{content_type}"/></Types>"#
        )
    }

    const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml";

    #[test]
    fn the_content_type_of_the_main_part_decides() {
        let of = |t: &str| format(&package(&[("[Content_Types].xml", &types(t)), ("_rels/.rels", RELS), ("word/document.xml", "<w/>")]));
        assert_eq!(of(DOCX), Some(Format::Docx));
        assert_eq!(of("application/vnd.ms-word.document.macroEnabled.main+xml"), Some(Format::Docm));
        assert_eq!(
            of("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"),
            Some(Format::Xlsx),
            "whatever the part is called"
        );
    }

    #[test]
    fn a_junk_first_member_leaves_a_docx_a_docx() {
        let bytes =
            package(&[("junk.bin", "zzz"), ("[Content_Types].xml", &types(DOCX)), ("_rels/.rels", RELS), ("word/document.xml", "<w/>")]);
        assert_eq!(format(&bytes), Some(Format::Docx));
    }

    #[test]
    fn a_folder_called_xl_makes_no_workbook() {
        assert_eq!(format(&package(&[("xl/workbook.xml", "<x/>"), ("notes.txt", "n")])), Some(Format::Zip));
    }

    #[test]
    fn a_truncated_docx_is_still_a_docx() {
        let mut bytes =
            package(&[("[Content_Types].xml", &types(DOCX)), ("_rels/.rels", RELS), ("word/document.xml", &"<w>text</w>".repeat(50))]);
        bytes.truncate(bytes.len() * 6 / 10);
        assert!(ZipIndex::open(&bytes).is_err());
        assert_eq!(format(&bytes), Some(Format::Docx));
    }

    #[test]
    fn opendocument_is_told_by_mimetype_manifest_or_content() {
        assert_eq!(
            format(&package(&[("mimetype", "application/vnd.oasis.opendocument.spreadsheet"), ("content.xml", "")])),
            Some(Format::Ods)
        );
        let manifest = r#"<manifest:manifest><manifest:file-entry manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.presentation"/></manifest:manifest>"#;
        assert_eq!(format(&package(&[("META-INF/manifest.xml", manifest), ("content.xml", "")])), Some(Format::Odp));
        let content = "<office:document-content><office:body><office:text/></office:body></office:document-content>";
        assert_eq!(format(&package(&[("content.xml", content)])), Some(Format::Odt));
        assert_eq!(format(&package(&[("mimetype", "application/epub+zip")])), Some(Format::Epub));
    }

    #[test]
    fn a_skeleton_of_an_odt_is_an_odt() {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.resize(30, 0);
        bytes.extend_from_slice(b"mimetypeapplication/vnd.oasis.opendocument.text");
        assert_eq!(format(&bytes), Some(Format::Odt));
    }

    #[test]
    fn java_archives_are_not_plain_archives() {
        assert_eq!(format(&package(&[("META-INF/MANIFEST.MF", "Manifest-Version: 1.0"), ("a/B.class", "x")])), Some(Format::Jar));
        assert_eq!(format(&package(&[("AndroidManifest.xml", "x"), ("classes.dex", "x")])), Some(Format::Jar));
        assert_eq!(format(&package(&[("doc.pdf", "x"), ("src/x", ""), ("META-INF/MANIFEST.MF", "x")])), Some(Format::Zip));
    }

    #[test]
    fn attributes_are_found_whatever_their_prefix_and_quotes() {
        assert_eq!(attribute(r#"m:file-entry m:full-path='/' m:media-type="a=b""#, "media-type").as_deref(), Some("a=b"));
        assert_eq!(attribute("x a=b", "a"), None);
    }
}
