//! Takes the tested document out of a body, and leaves every other byte as it was received.
//!
//! A report may carry the document that was tested, in base64, and quote values from it: possibly health data
//! that a bundle must not spread. Rewriting the whole body would lose the bytes a verifier may want to compare;
//! so the values are cut out in place, and the pin says where, how long they were, and the digest of the document.
//!
//! Dropped at any depth, as element, attribute or JSON member: `content` (digest kept), `valueInValidatedObject`
//! and `subjectValue` (no digest: the value is short, its digest would give it away), `privacyKey` and
//! `readAccessKey`, also inside URLs.

use std::ops::Range;

use quick_xml::events::Event;

use super::report::tree::MAX_ATTRIBUTES;
use super::report::{DROPPED, Form, decode, document_digest, form};
use crate::model::gazelle::Dropped;

/// Fields whose value is dropped.
const FIELDS: &[&str] = &["content", "valueInValidatedObject", "subjectValue", "privacyKey", "readAccessKey"];

/// A body without the tested document.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrubbed {
    /// The copy to keep.
    pub bytes: Vec<u8>,
    /// What was replaced; offsets count in the body as received (transcoded to UTF-8 where it was not).
    pub dropped: Vec<Dropped>,
}

/// Scrubs `body`. `None` where it cannot be read well enough to be sure: then no copy may be kept.
pub fn scrub(body: &[u8]) -> Option<Scrubbed> {
    let text = decode(body);
    let mut spans = match form(&text) {
        Ok(Form::Xml) => xml_spans(&text)?,
        Ok(Form::Json) => json_spans(&text)?,
        // A legacy one-word answer holds nothing to drop; anything longer is not kept.
        Err(_) if text.len() <= 200 && !text.contains('<') => Vec::new(),
        Err(_) => return None,
    };
    spans.extend(key_spans(&text));
    spans.sort_by_key(|span| (span.range.start, std::cmp::Reverse(span.range.end)));
    let mut copy = String::with_capacity(text.len());
    let mut dropped = Vec::new();
    let mut at = 0;
    for span in spans {
        if span.range.start < at || span.range.is_empty() {
            continue;
        }
        copy.push_str(text.get(at..span.range.start)?);
        copy.push_str(&span.with);
        at = span.range.end;
        dropped.push(Dropped {
            field: span.field.to_owned(),
            at: span.range.start as u64,
            length: span.range.len() as u64,
            sha256: span.digest.as_ref().map(|(sha256, _)| sha256.clone()),
            size: span.digest.as_ref().map(|(_, size)| *size),
        });
    }
    copy.push_str(text.get(at..)?);
    // What was not touched is kept as received, whatever its encoding.
    let bytes = if dropped.is_empty() { body.to_vec() } else { copy.into_bytes() };
    Some(Scrubbed { bytes, dropped })
}

struct Span {
    range: Range<usize>,
    field: &'static str,
    digest: Option<(String, u64)>,
    with: String,
}

fn span(range: Range<usize>, field: &'static str, value: &str, quoted: bool) -> Span {
    let already = value.starts_with(DROPPED);
    let digest = (field == "content" && !already && !value.trim().is_empty()).then(|| document_digest(value));
    let mark = match &digest {
        Some((sha256, size)) => format!("{DROPPED};sha256={sha256};bytes={size}"),
        None if already => value.to_owned(),
        None => DROPPED.to_owned(),
    };
    Span { range, field, digest, with: if quoted { mark } else { format!("\"{mark}\"") } }
}

fn field(name: &str) -> Option<&'static str> {
    FIELDS.iter().copied().find(|f| f.eq_ignore_ascii_case(name))
}

/// Values of elements and attributes. The whole inside of an element goes, markup included.
fn xml_spans(text: &str) -> Option<Vec<Span>> {
    let skip = text.len() - text.strip_prefix('\u{FEFF}').unwrap_or(text).len();
    let mut reader = quick_xml::Reader::from_str(text.get(skip..)?);
    let mut spans = Vec::new();
    // The open element that is being dropped: field, start of its inside, depth, text so far.
    let mut dropping: Option<(&'static str, usize, usize, String)> = None;
    let mut depth = 0usize;
    loop {
        let before = skip + usize::try_from(reader.buffer_position()).ok()?;
        let event = reader.read_event().ok()?;
        let after = skip + usize::try_from(reader.buffer_position()).ok()?;
        match event {
            Event::Start(start) => {
                depth += 1;
                if dropping.is_none() {
                    attribute_spans(text, before..after, &start, &mut spans)?;
                    if let Some(field) = field(start.local_name().into_inner()) {
                        dropping = Some((field, after, depth, String::new()));
                    }
                }
            }
            Event::Empty(start) => {
                if dropping.is_none() {
                    attribute_spans(text, before..after, &start, &mut spans)?;
                }
            }
            Event::End(_) => {
                if let Some((field, from, at_depth, value)) = dropping.take() {
                    if at_depth == depth {
                        spans.push(span(from..before, field, value.trim(), true));
                    } else {
                        dropping = Some((field, from, at_depth, value));
                    }
                }
                depth = depth.checked_sub(1)?;
            }
            Event::Text(chars) => {
                if let Some((_, _, _, value)) = &mut dropping {
                    value.push_str(&chars.xml10_content());
                }
            }
            Event::CData(chars) => {
                if let Some((_, _, _, value)) = &mut dropping {
                    value.push_str(&chars.xml10_content());
                }
            }
            Event::GeneralRef(reference) => {
                if let Some((_, _, _, value)) = &mut dropping {
                    match reference.resolve_char_ref().ok()? {
                        Some(c) => value.push(c),
                        None => value.push_str(quick_xml::escape::resolve_predefined_entity(&reference.xml10_content())?),
                    }
                }
            }
            Event::DocType(_) => return None,
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
    dropping.is_none().then_some(spans)
}

fn attribute_spans(text: &str, tag: Range<usize>, start: &quick_xml::events::BytesStart<'_>, spans: &mut Vec<Span>) -> Option<()> {
    let raw = text.get(tag.clone())?;
    let mut from = 0;
    for (index, attribute) in start.attributes().enumerate() {
        let attribute = attribute.ok().filter(|_| index < MAX_ATTRIBUTES)?;
        let value = attribute.value.as_ref();
        let key = attribute.key.into_inner();
        // Attributes come in order, so each is found behind the one before.
        let key_at = from + raw.get(from..)?.find(key)?;
        let quote_at = key_at + key.len() + raw.get(key_at + key.len()..)?.find(['"', '\''])?;
        let value_at = quote_at + 1;
        if raw.get(value_at..value_at + value.len())? != value {
            return None;
        }
        from = value_at + value.len();
        if let Some(field) = field(attribute.key.local_name().into_inner()) {
            let at = tag.start + value_at;
            spans.push(span(at..at + value.len(), field, value, true));
        }
    }
    Some(())
}

/// Values of JSON members. The text must be valid JSON; strings, objects and arrays are replaced whole.
fn json_spans(text: &str) -> Option<Vec<Span>> {
    let bytes = text.as_bytes();
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'"' {
            at += 1;
            continue;
        }
        let end = string_end(bytes, at)?;
        let colon = skip_space(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            at = end;
            continue;
        }
        // A name. It may be spelt with escapes.
        let name: String = serde_json::from_str(text.get(at..end)?).ok()?;
        let local = name.rsplit(':').next().unwrap_or(&name).trim_start_matches('@');
        let value_at = skip_space(bytes, colon + 1);
        let Some(field) = field(local) else {
            at = value_at;
            continue;
        };
        let value_end = value_end(bytes, value_at)?;
        let raw = text.get(value_at..value_end)?;
        if bytes.get(value_at) == Some(&b'"') {
            let value: String = serde_json::from_str(raw).ok()?;
            spans.push(span(value_at + 1..value_end - 1, field, &value, true));
        } else if raw != "null" {
            spans.push(span(value_at..value_end, field, raw, false));
        }
        at = value_end;
    }
    Some(spans)
}

/// End (exclusive) of the string that starts at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    loop {
        match bytes.get(i)? {
            b'\\' => i += 2,
            b'"' => return Some(i + 1),
            _ => i += 1,
        }
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// End (exclusive) of the value that starts at `at`.
fn value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut i = at;
    loop {
        match bytes.get(i)? {
            b'"' => {
                i = string_end(bytes, i)?;
                if depth == 0 {
                    return Some(i);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                // The bracket of whatever holds this bare value.
                if depth == 0 {
                    return Some(i);
                }
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return Some(i),
            _ => {}
        }
        i += 1;
    }
}

/// Share keys inside URLs, anywhere in the text.
fn key_spans(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let lower = text.to_ascii_lowercase();
    for (name, field) in [("privacykey=", "privacyKey"), ("readaccesskey=", "readAccessKey")] {
        let mut end = 0;
        for (found, _) in lower.match_indices(name) {
            // Inside the value before: looking for its end again and again would take for ever.
            if found < end {
                continue;
            }
            let from = found + name.len();
            let Some(rest) = text.get(from..) else { continue };
            let length = rest
                .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | '<' | '>' | '\\' | ';' | '#'))
                .unwrap_or(rest.len());
            end = from + length;
            // `privacyKey="…"` is an attribute, found as such.
            if length > 0 {
                spans.push(span(from..from + length, field, "", true));
            }
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scrubbed(body: &str) -> (String, Vec<Dropped>) {
        let s = scrub(body.as_bytes()).expect("readable");
        (String::from_utf8(s.bytes).unwrap(), s.dropped)
    }

    #[test]
    fn the_tested_document_is_cut_out_and_digested() {
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for body in [
            r#"{"a":1,"validationItems":[{"itemId":"f","content":"aGVsbG8="}],"z":2}"#,
            r#"{"a":1,"x":{"con\u0074ent" : "aGVsbG8="},"z":2}"#,
            r#"<r a="1"><object><content>aGVsbG8=</content></object><z>2</z></r>"#,
            r#"<r a="1"><o:content xmlns:o='u'><![CDATA[aGVsbG8=]]></o:content></r>"#,
            r#"<r a="1"><object content="aGVsbG8="/></r>"#,
        ] {
            let (copy, dropped) = scrubbed(body);
            assert!(!copy.contains("aGVsbG8"), "{copy}");
            assert_eq!((dropped[0].sha256.as_deref(), dropped[0].size), (Some(hello), Some(5)), "{body}");
            let at = dropped[0].at as usize;
            assert!(copy.starts_with(&body[..at]) && copy.ends_with(&body[at + dropped[0].length as usize..]), "{copy}");
        }
    }

    #[test]
    fn quoted_values_and_share_keys_leave_no_digest() {
        let (copy, dropped) = scrubbed(
            r#"{"subjectValue":"DUPONT","valueInValidatedObject":{"n":["1850"]},"url":"https://h/x?oid=1&privacyKey=K3Y&b=1","privacyKey":"K3Y"}"#,
        );
        assert!(!copy.contains("DUPONT") && !copy.contains("1850") && !copy.contains("K3Y"), "{copy}");
        assert!(copy.contains("&b=1") && dropped.len() == 4 && dropped.iter().all(|d| d.sha256.is_none()));
        assert!(serde_json::from_str::<serde_json::Value>(&copy).is_ok());
        let (copy, _) = scrubbed(r#"<a l="u?privacyKey=K3Y&amp;x=1"><valueInValidatedObject>DU<b>P</b>ONT</valueInValidatedObject></a>"#);
        assert_eq!(
            copy,
            r#"<a l="u?privacyKey=greffier:dropped&amp;x=1"><valueInValidatedObject>greffier:dropped</valueInValidatedObject></a>"#
        );
    }

    #[test]
    fn a_body_without_them_is_kept_byte_for_byte() {
        for body in [
            &b"{\"a\" : [1, \"x\"] }\n"[..],
            b"\xEF\xBB\xBF<r>\r\n</r>",
            b"PASSED\n",
            b"<?xml version='1.0' encoding='ISO-8859-1'?><r>\xe9</r>",
        ] {
            let s = scrub(body).unwrap();
            assert_eq!((s.bytes.as_slice(), s.dropped.len()), (body, 0));
        }
    }

    #[test]
    fn scrubbing_twice_changes_nothing_more() {
        let (once, _) = scrubbed(r#"{"content":"aGVsbG8=","subjectValue":"x"}"#);
        let (twice, _) = scrubbed(&once);
        assert_eq!(once, twice);
    }

    #[test]
    fn a_body_made_to_be_slow_is_not() {
        // Each of these takes hours where a step is quadratic.
        let keys = "privacyKey=".repeat(500_000);
        let (copy, dropped) = scrubbed(&format!("{{\"a\":\"{keys}\"}}"));
        assert_eq!((copy.as_str(), dropped.len()), ("{\"a\":\"privacyKey=greffier:dropped\"}", 1));
        let attributes: String = (0..500_000).map(|n| format!(" a{n}=''")).collect();
        assert!(scrub(format!("<a{attributes}/>").as_bytes()).is_none());
        let nested = format!("{{\"content\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(scrub(nested.as_bytes()).is_some());
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        assert!(scrub(b"<r><content>abc</r>").is_none());
        assert!(scrub(b"<html><body>hello</body></html>").is_none());
        assert!(scrub(b"<!DOCTYPE r [<!ENTITY a 'b'>]><r><content>&a;</content></r>").is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = scrub(&bytes);
        }

        #[test]
        fn json_like_text_never_panics(text in "[{}\\[\\]\":,\\\\a-c 0-9]{0,200}") {
            let _ = scrub(format!("{{{text}").as_bytes());
            let _ = scrub(format!("{{\"content\":{text}").as_bytes());
        }

        #[test]
        fn a_document_never_survives(secret in "[A-Za-z0-9+/]{24,80}", name in "[a-z]{1,8}", nested in any::<bool>()) {
            let item = serde_json::json!({ "itemId": name, "content": secret });
            let body = if nested { serde_json::json!({ "inputs": [item], "n": 1 }) } else { item };
            for text in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
                let s = scrub(text.as_bytes()).unwrap();
                let copy = String::from_utf8(s.bytes).unwrap();
                prop_assert!(!copy.contains(&secret));
                prop_assert!(serde_json::from_str::<serde_json::Value>(&copy).is_ok());
            }
        }
    }
}
