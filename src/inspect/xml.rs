//! XML read safely: the one reader that every XML-based format here goes through.
//!
//! Goals:
//! 1. Nothing outside the bytes is ever reached: DTDs are not read, entities beyond the five predefined
//!    ones (XML 1.0 §4.6) are never expanded, so neither XXE nor entity bombs exist here.
//! 2. Well-formed means well-formed. The parser underneath is lenient (it takes an unfinished document, two
//!    roots, raw control characters); the office suites are not, and a vendor must hear of it.
//! 3. Memory is bounded by the input: names nest at most [`MAX_DEPTH`] deep, nothing recurses, and the CPU
//!    budget is looked at as the document is read.

use std::borrow::Cow;
use std::collections::BTreeSet;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use quick_xml::XmlVersion;
use quick_xml::errors::Error as QuickError;
use quick_xml::events::{BytesEnd, BytesStart, Event};
use quick_xml::reader::Reader;

use super::budget::{Budget, Exceeded};

/// Elements inside elements. Office documents stay below 200; XML libraries commonly refuse beyond 256.
pub const MAX_DEPTH: usize = 1_024;

/// Attributes of one element. The widest honest ones (namespace declarations) stay below 100.
const MAX_ATTRIBUTES: usize = 4_096;

/// Namespace prefixes in scope at once.
const MAX_PREFIXES: usize = 1_024;

/// How many nodes, and how many bytes, are read between two counts of the work done.
const NODES_PER_TICK: u32 = 512;
const BYTES_PER_TICK: u64 = 16 * 1024;
/// Units of work of a node, and of each byte of markup or text.
const NODE: u64 = 600;
const TEXT_BYTE: u64 = 150;

/// Why a document was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed (XML 1.0, Namespaces in XML 1.0).
    #[error("{detail} (byte {byte})")]
    Malformed {
        /// What is wrong, in a few words.
        detail: String,
        /// Where in the decoded text.
        byte: u64,
    },
    /// The budget of the item ended first.
    #[error("the budget of the item is spent ({0:?})")]
    Exceeded(Exceeded),
}

impl From<Exceeded> for XmlError {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

fn malformed(detail: impl Into<String>, byte: usize) -> XmlError {
    XmlError::Malformed { detail: detail.into(), byte: byte as u64 }
}

/// Decodes a document: byte order mark, else UTF-16 told by its first character, else the declared encoding,
/// else UTF-8 (XML 1.0 appendix F). The byte order mark is dropped.
///
/// # Errors
/// [`XmlError::Malformed`] for an unknown encoding, a sequence that the encoding does not allow, or a
/// character that XML does not allow (§2.2).
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let (encoding, body) = match Encoding::for_bom(bytes) {
        Some((encoding, mark)) => (encoding, bytes.get(mark..).unwrap_or_default()),
        None => (told_encoding(bytes)?, bytes),
    };
    let text = if encoding == UTF_8 {
        Cow::Borrowed(std::str::from_utf8(body).map_err(|e| malformed("invalid UTF-8", e.valid_up_to()))?)
    } else {
        encoding
            .decode_without_bom_handling_and_without_replacement(body)
            .ok_or_else(|| malformed(format!("invalid {} sequence", encoding.name()), 0))?
    };
    match first_illegal_char(text.as_bytes()) {
        Some(at) => Err(malformed("character not allowed in XML", at)),
        None => Ok(text),
    }
}

fn told_encoding(bytes: &[u8]) -> Result<&'static Encoding, XmlError> {
    if bytes.starts_with(b"<\0") {
        return Ok(UTF_16LE);
    }
    if bytes.starts_with(b"\0<") {
        return Ok(UTF_16BE);
    }
    let Some(label) = declared_encoding(bytes) else { return Ok(UTF_8) };
    let encoding =
        Encoding::for_label(label).ok_or_else(|| malformed(format!("unknown encoding {}", String::from_utf8_lossy(label)), 0))?;
    if encoding == UTF_16LE || encoding == UTF_16BE {
        return Err(malformed("declared as UTF-16 but written in single bytes", 0));
    }
    Ok(encoding)
}

/// The label of `<?xml … encoding="label"?>` in ASCII-compatible bytes.
fn declared_encoding(bytes: &[u8]) -> Option<&[u8]> {
    if !bytes.starts_with(b"<?xml") {
        return None;
    }
    let head = bytes.get(..bytes.len().min(256))?;
    let head = head.get(..memchr::memmem::find(head, b"?>")?)?;
    let after = head.get(memchr::memmem::find(head, b"encoding")? + b"encoding".len()..)?;
    let open = after.iter().position(|b| matches!(b, b'"' | b'\''))?;
    let quote = *after.get(open)?;
    let label = after.get(open + 1..)?;
    label.get(..memchr::memchr(quote, label)?)
}

/// First byte of a character outside XML 1.0 §2.2 `Char` in UTF-8 `text`: C0 controls but tab, LF and CR,
/// U+FFFE and U+FFFF (surrogates cannot occur).
fn first_illegal_char(text: &[u8]) -> Option<usize> {
    text.iter().enumerate().position(|(i, &b)| {
        (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) || (b == 0xEF && matches!(text.get(i + 1..i + 3), Some([0xBF, 0xBE | 0xBF])))
    })
}

/// What [`XmlReader::next`] gives.
#[derive(Debug)]
pub enum Node<'a> {
    /// A start tag. An empty element gives `Open` then `Close`.
    Open(Element<'a>),
    /// An end tag.
    Close(End<'a>),
    /// Character data, references resolved; one run of text may come in several pieces.
    Text(Cow<'a, str>),
}

/// A start tag.
#[derive(Debug)]
pub struct Element<'a>(BytesStart<'a>);

/// An end tag.
#[derive(Debug)]
pub struct End<'a>(BytesEnd<'a>);

impl End<'_> {
    /// Name without prefix.
    pub fn name(&self) -> &str {
        split_name(self.0.name().0).1
    }
}

impl Element<'_> {
    /// Name without prefix. Prefixes are free, so names are compared without them; where two vocabularies
    /// share a local name, the caller looks at [`Element::prefix`] or at the parent.
    pub fn name(&self) -> &str {
        split_name(self.0.name().0).1
    }

    /// Prefix, as written.
    pub fn prefix(&self) -> Option<&str> {
        split_name(self.0.name().0).0
    }

    /// Attributes as (prefix, local name, value); a value whose references cannot be resolved is given raw.
    pub fn attributes(&self) -> impl Iterator<Item = (Option<&str>, &str, Cow<'_, str>)> {
        let mut attributes = self.0.attributes();
        attributes.with_checks(false);
        attributes.flatten().map(|a| {
            let (prefix, local) = split_name(a.key.0);
            let value = a.normalized_value(XmlVersion::Implicit1_0).unwrap_or_else(|_| a.value.clone());
            (prefix, local, value)
        })
    }

    /// The attribute with this local name; one without prefix wins.
    pub fn attr(&self, local: &str) -> Option<String> {
        let mut found = None;
        for (prefix, name, value) in self.attributes() {
            if name == local && prefix != Some("xmlns") {
                if prefix.is_none() {
                    return Some(value.into_owned());
                }
                found.get_or_insert_with(|| value.into_owned());
            }
        }
        found
    }

    /// The prefixed attribute with this local name (`r:id` beside `id`).
    pub fn attr_prefixed(&self, local: &str) -> Option<String> {
        self.attributes().find(|(prefix, name, _)| prefix.is_some_and(|p| p != "xmlns") && *name == local).map(|(_, _, v)| v.into_owned())
    }

    /// The namespace that this element's own declarations give to its prefix (enough for a root element).
    pub fn own_namespace(&self) -> Option<String> {
        let wanted = self.prefix();
        self.attributes()
            .find(|(prefix, local, _)| match wanted {
                Some(p) => *prefix == Some("xmlns") && *local == p,
                None => prefix.is_none() && *local == "xmlns",
            })
            .map(|(_, _, v)| v.into_owned())
    }
}

fn split_name(name: &str) -> (Option<&str>, &str) {
    match name.split_once(':') {
        Some((prefix, local)) => (Some(prefix), local),
        None => (None, name),
    }
}

/// Reads a decoded document node by node, checking that it is well-formed.
pub struct XmlReader<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
    nodes: u32,
    /// Bytes whose work is counted.
    counted: u64,
    started: bool,
    root_closed: bool,
    doctype: bool,
    declares_entities: bool,
    finished: bool,
    /// Prefixes in scope and the depth that declared them.
    prefixes: Vec<(usize, String)>,
}

impl<'a> XmlReader<'a> {
    /// A reader over a document that [`decode`] gave.
    pub fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self {
            reader,
            depth: 0,
            nodes: 0,
            counted: 0,
            started: false,
            root_closed: false,
            doctype: false,
            declares_entities: false,
            finished: false,
            prefixes: Vec::new(),
        }
    }

    /// Open elements: 1 right after the root's start tag.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Whether a document type declaration was met.
    pub fn has_doctype(&self) -> bool {
        self.doctype
    }

    /// Whether the document type declaration declares entities.
    pub fn declares_entities(&self) -> bool {
        self.declares_entities
    }

    /// The next node, or `None` at the end of a well-formed document.
    ///
    /// # Errors
    /// [`XmlError`]; after one, the reader only repeats that the document has ended.
    #[allow(clippy::should_implement_trait, reason = "an iterator could not borrow the budget per step")]
    pub fn next(&mut self, budget: &Budget) -> Result<Option<Node<'a>>, XmlError> {
        if self.finished {
            return Ok(None);
        }
        let next = self.step(budget);
        if !matches!(next, Ok(Some(_))) {
            self.finished = true;
        }
        next
    }

    fn step(&mut self, budget: &Budget) -> Result<Option<Node<'a>>, XmlError> {
        loop {
            self.nodes = self.nodes.wrapping_add(1);
            if self.nodes.is_multiple_of(NODES_PER_TICK) {
                budget.work(u64::from(NODES_PER_TICK) * NODE)?;
            }
            // Nodes may be few and long.
            let unread = self.reader.buffer_position().saturating_sub(self.counted);
            if unread >= BYTES_PER_TICK {
                budget.work(unread * TEXT_BYTE)?;
                self.counted += unread;
            }
            let event = self.reader.read_event().map_err(|e| self.refused(&e))?;
            let first = !std::mem::replace(&mut self.started, true);
            match event {
                Event::Start(start) | Event::Empty(start) => {
                    self.open(&start, budget)?;
                    return Ok(Some(Node::Open(Element(start))));
                }
                Event::End(end) => {
                    while self.prefixes.last().is_some_and(|(depth, _)| *depth >= self.depth) {
                        self.prefixes.pop();
                    }
                    self.depth = self.depth.saturating_sub(1);
                    self.root_closed |= self.depth == 0;
                    return Ok(Some(Node::Close(End(end))));
                }
                Event::Text(text) => {
                    if self.depth > 0 {
                        return Ok(Some(Node::Text(text.xml10_content())));
                    }
                    if !text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
                        return Err(self.wrong("text outside the root element"));
                    }
                }
                Event::CData(data) => {
                    if self.depth == 0 {
                        return Err(self.wrong("text outside the root element"));
                    }
                    return Ok(Some(Node::Text(data.xml10_content())));
                }
                Event::GeneralRef(reference) => {
                    if self.depth == 0 {
                        return Err(self.wrong("reference outside the root element"));
                    }
                    if let Some(c) = self.resolve(&reference)? {
                        return Ok(Some(Node::Text(Cow::Owned(c.to_string()))));
                    }
                }
                Event::Decl(_) if first => {}
                Event::Decl(_) => return Err(self.wrong("XML declaration that is not at the very beginning")),
                Event::DocType(text) => {
                    if self.depth > 0 || self.root_closed {
                        return Err(self.wrong("misplaced document type declaration"));
                    }
                    self.doctype = true;
                    self.declares_entities |= text.contains("<!ENTITY");
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if self.depth > 0 => return Err(self.wrong("the document ends inside an element")),
                Event::Eof if !self.root_closed => return Err(self.wrong("no root element")),
                Event::Eof => return Ok(None),
            }
        }
    }

    fn open(&mut self, start: &BytesStart<'_>, budget: &Budget) -> Result<(), XmlError> {
        if self.depth == 0 && self.root_closed {
            return Err(self.wrong("second root element"));
        }
        if self.depth >= MAX_DEPTH {
            return Err(self.wrong("elements nested too deep"));
        }
        self.depth += 1;
        let name = start.name();
        if !is_name(name.0) {
            return Err(self.wrong("invalid element name"));
        }
        let mut names: Vec<&str> = Vec::new();
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|e| self.wrong(&format!("attribute: {e}")))?;
            if names.len() >= MAX_ATTRIBUTES {
                return Err(self.wrong("too many attributes on one element"));
            }
            if !is_name(attribute.key.0) {
                return Err(self.wrong("invalid attribute name"));
            }
            if attribute.value.contains('<') {
                return Err(self.wrong("`<` in an attribute value"));
            }
            if attribute.value.contains('&') && !self.doctype && attribute.normalized_value(XmlVersion::Implicit1_0).is_err() {
                return Err(self.wrong("unknown reference in an attribute value"));
            }
            if let (Some("xmlns"), declared) = split_name(attribute.key.0) {
                if self.prefixes.len() >= MAX_PREFIXES {
                    return Err(self.wrong("too many namespace prefixes"));
                }
                self.prefixes.push((self.depth, declared.to_owned()));
            }
            names.push(attribute.key.0);
        }
        if names.len() > 64 {
            budget.tick()?;
        }
        let twice = if names.len() <= 16 {
            names.iter().enumerate().any(|(i, n)| names.iter().skip(i + 1).any(|m| m == n))
        } else {
            names.iter().collect::<BTreeSet<_>>().len() < names.len()
        };
        if twice {
            return Err(self.wrong("attribute given twice"));
        }
        for used in names.iter().chain(std::iter::once(&name.0)) {
            if let (Some(prefix), _) = split_name(used)
                && !self.is_bound(prefix)
            {
                return Err(self.wrong(&format!("undeclared namespace prefix `{prefix}`")));
            }
        }
        Ok(())
    }

    fn is_bound(&self, prefix: &str) -> bool {
        matches!(prefix, "xml" | "xmlns") || self.prefixes.iter().any(|(_, p)| p == prefix)
    }

    /// A reference in text: one of the five, or a character; unknown ones only pass (as nothing) where a
    /// document type declaration, which is not read, may have declared them.
    fn resolve(&self, reference: &quick_xml::events::BytesRef<'_>) -> Result<Option<char>, XmlError> {
        if reference.is_char_ref() {
            return match reference.resolve_char_ref() {
                Ok(Some(c)) if is_xml_char(c) => Ok(Some(c)),
                _ => Err(self.wrong("reference to a character not allowed in XML")),
            };
        }
        let name: &str = reference;
        match name {
            "lt" => Ok(Some('<')),
            "gt" => Ok(Some('>')),
            "amp" => Ok(Some('&')),
            "apos" => Ok(Some('\'')),
            "quot" => Ok(Some('"')),
            _ if self.doctype => Ok(None),
            _ => Err(self.wrong("unknown entity reference")),
        }
    }

    fn refused(&self, error: &QuickError) -> XmlError {
        XmlError::Malformed { detail: error.to_string(), byte: self.reader.error_position() }
    }

    fn wrong(&self, detail: &str) -> XmlError {
        XmlError::Malformed { detail: detail.to_owned(), byte: self.reader.buffer_position() }
    }
}

fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// A qualified name, loosely: ASCII punctuation that no name may hold is refused, other scripts pass.
fn is_name(name: &str) -> bool {
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii())
            && p.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') || !c.is_ascii())
    };
    match name.split_once(':') {
        Some((prefix, local)) => part(prefix) && part(local),
        None => part(name),
    }
}

/// Reads a whole document, giving every node to `visit` with the number of open elements.
///
/// # Errors
/// [`XmlError`]; what was visited before stays visited.
pub fn walk(bytes: &[u8], budget: &Budget, mut visit: impl FnMut(&Node<'_>, usize)) -> Result<Walked, XmlError> {
    let text = decode(bytes)?;
    let mut reader = XmlReader::new(&text);
    while let Some(node) = reader.next(budget)? {
        visit(&node, reader.depth());
    }
    Ok(Walked { doctype: reader.has_doctype(), declares_entities: reader.declares_entities() })
}

/// What is known of a document that was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// It has a document type declaration.
    pub doctype: bool,
    /// That declares entities.
    pub declares_entities: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::budget::Limits;
    use super::*;

    fn text_of(bytes: &[u8]) -> Result<String, XmlError> {
        let mut all = String::new();
        walk(bytes, &Budget::new(Limits::default()), |node, _| {
            if let Node::Text(text) = node {
                all.push_str(text);
            }
        })?;
        Ok(all)
    }

    fn is_malformed(bytes: &[u8]) -> bool {
        matches!(text_of(bytes), Err(XmlError::Malformed { .. }))
    }

    #[test]
    fn the_five_entities_and_character_references_are_resolved() {
        assert_eq!(text_of(b"<a>&lt;&#233;&amp;<![CDATA[<b>]]></a>").unwrap(), "<é&<b>");
    }

    #[test]
    fn entities_that_a_dtd_declares_are_never_expanded() {
        let bomb = b"<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\"><!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&b;&x;</a>";
        assert_eq!(text_of(bomb).unwrap(), "");
        assert!(walk(bomb, &Budget::new(Limits::default()), |_, _| {}).unwrap().declares_entities);
    }

    #[test]
    fn an_unknown_entity_without_dtd_is_malformed() {
        assert!(is_malformed(b"<a>&nbsp;</a>"));
        assert!(is_malformed(b"<a b='&nbsp;'/>"));
    }

    #[test]
    fn what_office_suites_refuse_is_malformed() {
        for bad in [
            &b""[..],
            b"   ",
            b"<a>",
            b"<a></b>",
            b"<a/><b/>",
            b"<a/>text",
            b"text<a/>",
            b" <?xml version='1.0'?><a/>",
            b"<a b='1' b='2'/>",
            b"<a b='<'/>",
            b"<a b=1/>",
            b"<a>\x01</a>",
            b"<a>&#0;</a>",
            b"<a>&#11;</a>",
            b"<p:a/>",
            b"<a p:b='1'/>",
            b"<a>\xFF</a>",
            b"<a>&</a>",
            b"<a <b/>",
            b"<?xml version='1.0' encoding='UTF-16'?><a/>",
            b"<?xml version='1.0' encoding='nonsense'?><a/>",
        ] {
            assert!(is_malformed(bad), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn prefixes_end_with_the_element_that_declares_them() {
        assert!(text_of(b"<a><p:b xmlns:p='u'><p:c/></p:b></a>").is_ok());
        assert!(is_malformed(b"<a><p:b xmlns:p='u'/><p:c/></a>"));
    }

    #[test]
    fn utf16_and_legacy_encodings_are_decoded() {
        let units: Vec<u8> = "<a>é€</a>".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(text_of(&units).unwrap(), "é€");
        let marked: Vec<u8> =
            "\u{FEFF}<?xml version=\"1.0\" encoding=\"UTF-16\"?><a>é</a>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(text_of(&marked).unwrap(), "é");
        assert_eq!(text_of(b"<?xml version='1.0' encoding='windows-1252'?><a>\x80\xE9</a>").unwrap(), "€é");
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}{}", "<a>".repeat(MAX_DEPTH + 1), "</a>".repeat(MAX_DEPTH + 1));
        assert!(is_malformed(deep.as_bytes()));
        let near = format!("{}{}", "<a>".repeat(MAX_DEPTH), "</a>".repeat(MAX_DEPTH));
        assert!(text_of(near.as_bytes()).is_ok());
    }

    #[test]
    fn the_budget_of_work_ends_the_reading() {
        let budget = Budget::new(Limits { max_work: 100_000, ..Limits::default() });
        let long = format!("<a>{}</a>", "<b/>".repeat(10_000));
        assert_eq!(walk(long.as_bytes(), &budget, |_, _| {}), Err(XmlError::Exceeded(Exceeded::Work)));
    }

    #[test]
    fn unprefixed_attributes_win() {
        let budget = Budget::new(Limits::default());
        let mut seen = (None, None, None);
        walk(b"<a xmlns='urn:n' xmlns:r='u' r:id='rId1' id='256'/>", &budget, |node, _| {
            if let Node::Open(e) = node {
                seen = (e.attr("id"), e.attr_prefixed("id"), e.own_namespace());
            }
        })
        .unwrap();
        assert_eq!(seen, (Some("256".into()), Some("rId1".into()), Some("urn:n".into())));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = text_of(&bytes);
        }

        #[test]
        fn arbitrary_markup_never_panics(text in "[<>a-c:/&;#x0-9\"'= !\\[\\]?-]{0,120}") {
            let _ = text_of(text.as_bytes());
        }
    }
}
