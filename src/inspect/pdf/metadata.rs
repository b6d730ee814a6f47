//! Descriptive metadata: the information dictionary and XMP (ISO 32000-2 §14.3; ISO 16684-1).

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::file::File;
use super::object::{Dict, text_string};
use crate::inspect::budget::{Budget, Exceeded};

/// Characters kept of one value.
const MAX_VALUE: usize = 500;
/// Bytes of XMP that are read.
const MAX_XMP: usize = 1024 * 1024;

/// Information dictionary key, XMP element, name in the facts.
const KEYS: &[(&str, &str, &str)] = &[
    ("Title", "dc:title", "title"),
    ("Author", "dc:creator", "author"),
    ("Subject", "dc:description", "subject"),
    ("Keywords", "pdf:Keywords", "keywords"),
    ("Creator", "xmp:CreatorTool", "creator"),
    ("Producer", "pdf:Producer", "producer"),
    ("CreationDate", "xmp:CreateDate", "created"),
    ("ModDate", "xmp:ModifyDate", "modified"),
    ("", "pdfaid:part", "pdfa-part"),
    ("", "pdfaid:conformance", "pdfa-conformance"),
    ("", "pdfuaid:part", "pdfua-part"),
];

/// Reads both; the information dictionary wins where they disagree, as viewers show it.
///
/// # Errors
/// [`Exceeded`] when the budget ends.
pub fn read(file: &mut File, root: &Dict, budget: &mut Budget) -> Result<BTreeMap<String, String>, Exceeded> {
    let mut metadata = BTreeMap::new();
    let xmp = file.entry(root, "Metadata", budget)?;
    if let Some(stream) = xmp.stream() {
        let bytes = file.decode(stream, budget)?.bytes;
        read_xmp(&bytes, &mut metadata, budget)?;
    }
    let info = file.trailer.get("Info").clone();
    let info = file.resolve(&info, budget)?;
    for (key, _, name) in KEYS.iter().filter(|(key, ..)| !key.is_empty()) {
        let value = file.entry(info.dict_or_empty(), key, budget)?;
        if let Some(value) = value.string() {
            let value = text_string(value);
            put(&mut metadata, name, &if key.ends_with("Date") { iso_date(&value) } else { value });
        }
    }
    Ok(metadata)
}

fn put(metadata: &mut BTreeMap<String, String>, name: &str, value: &str) {
    let value: String = crate::inspect::fold_whitespace(value).chars().take(MAX_VALUE).collect();
    if !value.is_empty() {
        metadata.insert(name.to_owned(), value);
    }
}

/// Reads the properties of [`KEYS`] wherever they stand, as elements (the first text inside counts, so that
/// the first language alternative does) or as attributes.
fn read_xmp(bytes: &[u8], metadata: &mut BTreeMap<String, String>, budget: &Budget) -> Result<(), Exceeded> {
    let name_of = |element: &str| KEYS.iter().find(|(_, xmp, _)| *xmp == element).map(|(.., name)| *name);
    let source = String::from_utf8_lossy(bytes.get(..MAX_XMP).unwrap_or(bytes));
    let mut reader = Reader::from_str(&source);
    reader.config_mut().check_end_names = false;
    let mut inside: Option<&str> = None;
    let mut text = String::new();
    for step in 0u32.. {
        if step.is_multiple_of(256) {
            budget.work(256 * 200)?;
        }
        let event = match reader.read_event() {
            Ok(Event::Eof) | Err(_) => break,
            Ok(event) => event,
        };
        match &event {
            Event::Text(piece) if inside.is_some() => text.push_str(piece),
            // Entities come as events of their own: the five, and characters by number.
            Event::GeneralRef(name) if inside.is_some() => match name.resolve_char_ref() {
                Ok(Some(c)) => text.push(c),
                _ => text.push_str(quick_xml::escape::resolve_predefined_entity(name).unwrap_or_default()),
            },
            Event::Start(_) | Event::Empty(_) | Event::End(_) => {
                if let Some(name) = inside
                    && !text.trim().is_empty()
                {
                    put(metadata, name, &text);
                    inside = None;
                }
                text.clear();
            }
            _ => {}
        }
        match &event {
            Event::Start(start) | Event::Empty(start) => {
                if let Some(name) = name_of(start.name().as_ref()) {
                    inside = Some(name);
                }
                for attribute in start.attributes().with_checks(false).flatten().take(100) {
                    if let Some(name) = name_of(attribute.key.as_ref()) {
                        put(metadata, name, &attribute.value);
                    }
                }
            }
            Event::End(end) if name_of(end.name().as_ref()).is_some() => inside = None,
            _ => {}
        }
    }
    Ok(())
}

/// `D:20250903151900+02'00'` (§7.9.4) as `2025-09-03T15:19:00+02:00`; anything else as it stands.
pub fn iso_date(date: &str) -> String {
    let digits = date.strip_prefix("D:").unwrap_or(date);
    let len = digits.bytes().take_while(u8::is_ascii_digit).count().min(14);
    let (stamp, zone) = digits.split_at(len);
    if len < 4 || len % 2 == 1 || !zone.is_ascii() || stamp.starts_with("0000") {
        return date.to_owned();
    }
    // Parts that are left out have their first value.
    let padded = format!("{stamp}{}", &"00000101000000"[len..]);
    let part = |from: usize, to: usize| padded.get(from..to).unwrap_or_default();
    let mut iso = format!("{}-{}-{}T{}:{}:{}", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14));
    match zone.bytes().next() {
        Some(b'Z') => iso.push('Z'),
        Some(sign @ (b'+' | b'-')) => {
            let digits: String = zone.chars().filter(char::is_ascii_digit).take(4).collect();
            if digits.len() >= 2 {
                iso.push(char::from(sign));
                iso.push_str(&digits[..2]);
                iso.push(':');
                iso.push_str(if digits.len() == 4 { &digits[2..] } else { "00" });
            }
        }
        _ => {}
    }
    iso
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Limits;

    #[test]
    fn pdf_dates_become_iso_8601() {
        assert_eq!(iso_date("D:20250903151900+02'00'"), "2025-09-03T15:19:00+02:00");
        assert_eq!(iso_date("D:2025"), "2025-01-01T00:00:00");
        assert_eq!(iso_date("D:20250903151900Z00'00'"), "2025-09-03T15:19:00Z");
        assert_eq!(iso_date("hier"), "hier");
    }

    #[test]
    fn xmp_is_read_from_elements_and_attributes() {
        let source = br#"<x:xmpmeta><rdf:RDF><rdf:Description pdf:Producer="Scribe" pdfaid:part="2">
            <dc:title><rdf:Alt><rdf:li xml:lang="fr">Guide &amp; FAQ</rdf:li><rdf:li>Manual</rdf:li></rdf:Alt></dc:title>
            <xmp:CreateDate>2025-09-03</xmp:CreateDate></rdf:Description></rdf:RDF></x:xmpmeta>"#;
        let mut metadata = BTreeMap::new();
        read_xmp(source, &mut metadata, &Budget::new(Limits::default())).unwrap();
        assert_eq!(metadata["title"], "Guide & FAQ");
        assert_eq!(metadata["producer"], "Scribe");
        assert_eq!(metadata["pdfa-part"], "2");
        assert_eq!(metadata["created"], "2025-09-03");
    }
}
