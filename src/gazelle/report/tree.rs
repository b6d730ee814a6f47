//! XML or JSON as one tree of named values, so that each report generation is read by one piece of code.
//!
//! Gazelle writes the same field as an attribute, an element or a JSON member, with any namespace prefix, in
//! the singular or the plural. The tree keeps local names only and flattens arrays into repeated names.
//!
//! Bounds: no document type declaration and no entity besides the five of XML, a depth of [`MAX_DEPTH`],
//! [`MAX_NODES`] values; JSON objects that give one name twice are refused, because two readers would see
//! two different reports.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::model::text::display_safe;

/// Deepest nesting that is read. Real reports stay below 12.
pub const MAX_DEPTH: usize = 64;
/// Most values in one document. A report of 20 000 constraints holds 200 000.
pub const MAX_NODES: usize = 250_000;
/// Most attributes of one element: looking for doubles among them takes the square of their number.
pub const MAX_ATTRIBUTES: usize = 128;

/// Longest complaint, characters.
const MAX_WORDS: usize = 200;

/// Why a document is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Not well-formed.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A `<!DOCTYPE …>`: no report has one, and it is how entities get in.
    #[error("a document type declaration is refused")]
    DocType,
    /// An entity that XML does not predefine.
    #[error("the entity `{0}` is refused")]
    Entity(String),
    /// Nested too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Too many values.
    #[error("more than {MAX_NODES} values")]
    TooMany,
}

/// A value: text, named values inside it, or both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Character data, concatenated.
    pub text: String,
    /// Named values, in document order.
    pub kids: Vec<(String, Node)>,
}

impl Node {
    /// The first value named `name`.
    pub fn kid(&self, name: &str) -> Option<&Self> {
        self.kids.iter().find(|(n, _)| n == name).map(|(_, kid)| kid)
    }
    /// Whether a value of that name is there.
    pub fn has(&self, name: &str) -> bool {
        self.kid(name).is_some()
    }
    /// The text of the first of `names` that has one. Blank and the word `null` count as absent.
    pub fn scalar(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.kids.iter().filter(|(n, _)| n == name).find_map(|(_, kid)| kid.own_text()))
    }
    /// This value's own text, trimmed; blank and the word `null` count as absent.
    pub fn own_text(&self) -> Option<&str> {
        let text = self.text.trim();
        (!text.is_empty() && !text.eq_ignore_ascii_case("null")).then_some(text)
    }
    /// Every value named by one of `names`. An element that only wraps such values is looked through.
    pub fn list(&self, names: &[&str]) -> Vec<&Self> {
        let named = |n: &str| names.contains(&n);
        let mut all = Vec::new();
        for (_, kid) in self.kids.iter().filter(|(n, _)| named(n)) {
            let wraps = !kid.kids.is_empty() && kid.own_text().is_none() && kid.kids.iter().all(|(n, _)| named(n));
            if wraps {
                all.extend(kid.kids.iter().map(|(_, inner)| inner));
            } else if !kid.kids.is_empty() || kid.own_text().is_some() {
                all.push(kid);
            }
        }
        all
    }
}

/// Reads XML. Gives the local name of the root element and its tree.
///
/// # Errors
/// See [`TreeError`].
pub fn from_xml(text: &str) -> Result<(String, Node), TreeError> {
    let mut reader = quick_xml::Reader::from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text));
    let mut open: Vec<(String, Node)> = Vec::new();
    let mut root: Option<(String, Node)> = None;
    let mut nodes = 0usize;
    loop {
        match reader.read_event().map_err(|e| malformed(&e))? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(TreeError::TooDeep);
                }
                if open.is_empty() && root.is_some() {
                    return Err(TreeError::Malformed("two root elements".into()));
                }
                open.push(element(&start, &mut nodes)?);
            }
            Event::Empty(start) => {
                if open.is_empty() && root.is_some() {
                    return Err(TreeError::Malformed("two root elements".into()));
                }
                close(element(&start, &mut nodes)?, &mut open, &mut root);
            }
            Event::End(_) => {
                if let Some(ended) = open.pop() {
                    close(ended, &mut open, &mut root);
                }
            }
            Event::Text(chars) => add_text(&chars.xml10_content(), &mut open)?,
            Event::CData(chars) => add_text(&chars.xml10_content(), &mut open)?,
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                let resolved = match reference.resolve_char_ref().map_err(|e| malformed(&e))? {
                    Some(c) => c.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&name)
                        .ok_or_else(|| TreeError::Entity(display_safe(&name, 40)))?
                        .to_owned(),
                };
                add_text(&resolved, &mut open)?;
            }
            Event::DocType(_) => return Err(TreeError::DocType),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    if !open.is_empty() {
        return Err(TreeError::Malformed("ends before its root element does".into()));
    }
    root.ok_or_else(|| TreeError::Malformed("no root element".into()))
}

/// What the reader says is wrong; its words quote names out of the document.
fn malformed(words: &dyn fmt::Display) -> TreeError {
    TreeError::Malformed(display_safe(&words.to_string(), MAX_WORDS))
}

fn element(start: &BytesStart<'_>, nodes: &mut usize) -> Result<(String, Node), TreeError> {
    let mut node = Node::default();
    count(nodes)?;
    for (index, attribute) in start.attributes().enumerate() {
        if index >= MAX_ATTRIBUTES {
            return Err(TreeError::TooMany);
        }
        let attribute = attribute.map_err(|e| malformed(&e))?;
        let key = attribute.key.as_ref();
        if key == "xmlns" || key.starts_with("xmlns:") {
            continue;
        }
        count(nodes)?;
        let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|e| malformed(&e))?;
        node.kids.push((attribute.key.local_name().into_inner().to_owned(), Node { text: value.into_owned(), kids: Vec::new() }));
    }
    Ok((start.local_name().into_inner().to_owned(), node))
}

fn close(ended: (String, Node), open: &mut [(String, Node)], root: &mut Option<(String, Node)>) {
    match open.last_mut() {
        Some((_, parent)) => parent.kids.push(ended),
        None => *root = Some(ended),
    }
}

fn add_text(text: &str, open: &mut [(String, Node)]) -> Result<(), TreeError> {
    match open.last_mut() {
        Some((_, node)) => node.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(TreeError::Malformed("text outside the root element".into())),
    }
    Ok(())
}

fn count(nodes: &mut usize) -> Result<(), TreeError> {
    *nodes += 1;
    if *nodes > MAX_NODES { Err(TreeError::TooMany) } else { Ok(()) }
}

/// Reads JSON.
///
/// # Errors
/// See [`TreeError`].
pub fn from_json(text: &str) -> Result<Node, TreeError> {
    let left = Cell::new(MAX_NODES);
    let mut json = serde_json::Deserializer::from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text));
    let values = Seed { left: &left, depth: 0 }.deserialize(&mut json).map_err(|e| json_error(&e))?;
    json.end().map_err(|e| json_error(&e))?;
    match values {
        Values::One(node) => Ok(node),
        Values::Many(_) => Err(TreeError::Malformed("a list, not an object".into())),
    }
}

fn json_error(e: &serde_json::Error) -> TreeError {
    let said = e.to_string();
    match said.as_str() {
        s if s.starts_with(DEEP) || s.starts_with("recursion limit") => TreeError::TooDeep,
        s if s.starts_with(MANY) => TreeError::TooMany,
        _ => malformed(&said),
    }
}

const DEEP: &str = "too deep";
const MANY: &str = "too many";

enum Values {
    One(Node),
    Many(Vec<Node>),
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    left: &'a Cell<usize>,
    depth: usize,
}

impl Seed<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom(DEEP)) } else { Ok(Self { depth: self.depth + 1, ..self }) }
    }
    fn take<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| E::custom(MANY))?;
        self.left.set(left);
        Ok(())
    }
    fn leaf<E: serde::de::Error>(self, text: String) -> Result<Values, E> {
        self.take()?;
        Ok(Values::One(Node { text, kids: Vec::new() }))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Values;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Values, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Values;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Values, E> {
        self.leaf(v.to_string())
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Values, E> {
        self.leaf(v.to_string())
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Values, E> {
        self.leaf(v.to_string())
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Values, E> {
        self.leaf(v.to_string())
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Values, E> {
        self.leaf(v.to_owned())
    }
    fn visit_string<E: serde::de::Error>(self, v: String) -> Result<Values, E> {
        self.leaf(v)
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Values, E> {
        self.leaf(String::new())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Values, A::Error> {
        let inner = self.inner()?;
        let mut all = Vec::new();
        while let Some(values) = seq.next_element_seed(inner)? {
            match values {
                Values::One(node) => all.push(node),
                Values::Many(nodes) => all.extend(nodes),
            }
        }
        Ok(Values::Many(all))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
        self.take()?;
        let inner = self.inner()?;
        let mut node = Node::default();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                let shown = display_safe(&key, 40);
                return Err(A::Error::custom(format!("the name `{shown}` appears twice")));
            }
            // `gvr:subReport`, `@result`: the prefix and the attribute mark are not part of the name.
            let local = key.rsplit(':').next().unwrap_or(&key).trim_start_matches('@').to_owned();
            match map.next_value_seed(inner)? {
                Values::One(kid) => node.kids.push((local, kid)),
                Values::Many(kids) => node.kids.extend(kids.into_iter().map(|kid| (local.clone(), kid))),
            }
        }
        Ok(Values::One(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_elements_and_members_read_alike() {
        let (root, xml) = from_xml(r#"<g:r xmlns:g="u" g:a="1"><g:b>&lt;2&#62;</g:b><c><![CDATA[3]]></c></g:r>"#).unwrap();
        let json = from_json(r#"{"@a":1,"g:b":"<2>","c":["3"]}"#).unwrap();
        assert_eq!(root, "r");
        for tree in [xml, json] {
            assert_eq!((tree.scalar(&["a"]), tree.scalar(&["b"]), tree.scalar(&["c"])), (Some("1"), Some("<2>"), Some("3")));
        }
    }

    #[test]
    fn blank_and_null_are_absent() {
        let tree = from_json(r#"{"a":null,"b":"  ","c":"NULL","d":"x"}"#).unwrap();
        assert_eq!(tree.scalar(&["a", "b", "c"]), None);
        assert_eq!(tree.scalar(&["a", "d"]), Some("x"));
    }

    #[test]
    fn wrapped_lists_are_looked_through() {
        let (_, tree) = from_xml("<r><subs><sub n='1'/><sub n='2'/></subs></r>").unwrap();
        assert_eq!(tree.list(&["subs", "sub"]).len(), 2);
        let (_, tree) = from_xml("<r><sub n='0'><sub n='1'/></sub></r>").unwrap();
        assert_eq!(tree.list(&["subs", "sub"]).len(), 1);
    }

    #[test]
    fn entities_and_document_types_are_refused() {
        assert_eq!(from_xml("<!DOCTYPE r [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><r>&x;</r>"), Err(TreeError::DocType));
        assert_eq!(from_xml("<r>&x;</r>"), Err(TreeError::Entity("x".into())));
        assert!(from_xml("<r a='&x;'/>").is_err());
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let deep = format!("{}{}", "<a>".repeat(1000), "</a>".repeat(1000));
        assert_eq!(from_xml(&deep), Err(TreeError::TooDeep));
        let deep = format!("{}{}", "{\"a\":".repeat(100), "1").to_string() + &"}".repeat(100);
        assert_eq!(from_json(&deep), Err(TreeError::TooDeep));
        let deep = "[".repeat(100_000);
        assert_eq!(from_json(&deep), Err(TreeError::TooDeep));
        let many = format!("{{\"a\":[{}0]}}", "0,".repeat(MAX_NODES));
        assert_eq!(from_json(&many), Err(TreeError::TooMany));
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_NODES));
        assert_eq!(from_xml(&many), Err(TreeError::TooMany));
        let many: String = (0..500_000).map(|n| format!(" a{n}=''")).collect();
        assert_eq!(from_xml(&format!("<a{many}/>")), Err(TreeError::TooMany));
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        assert!(matches!(from_json(r#"{"result":"FAILED","result":"PASSED"}"#), Err(TreeError::Malformed(_))));
        assert!(from_xml("<r a='1' a='2'/>").is_err());
    }

    #[test]
    fn a_cut_document_is_malformed() {
        for text in ["<a><b></b>", "<a", "", "  ", "<a/><b/>", "x<a/>", "{\"a\":", "{} {}", "[1]"] {
            assert!(from_xml(text).is_err() || from_json(text).is_err(), "{text}");
        }
        assert!(from_xml("<a><b></b>").is_err() && from_json("{\"a\":").is_err() && from_json("[1]").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,300}") {
            let _ = from_xml(&text);
            let _ = from_json(&text);
        }

        #[test]
        fn markup_like_text_never_panics(text in "[<>/a-c=\"'&;!\\[\\]{}:,0-9 -]{0,200}") {
            let _ = from_xml(&text);
            let _ = from_json(&text);
        }
    }
}
