//! Text or not, and which: markup, data, mail, scripts, and tables against plain text.
//!
//! A table is told by its own regularity, never by its name: when unsure, it is plain text, and a rule that
//! knows the name may still read it as a table.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::Told;
use super::encoding::{decode_utf32, few_zeros, is_separator, utf32};
use super::package::{attribute, tags};
use crate::model::format::Format;

/// Bytes looked at to tell text from binary.
const SAMPLE: usize = 1024 * 1024;
/// Characters looked at to tell what the text is.
const HEAD: usize = 64 * 1024;
/// Larger JSON or undeclared XML is not parsed to be told.
const MAX_PARSED: usize = 16 * 1024 * 1024;

pub(super) fn tell(bytes: &[u8]) -> Option<Told> {
    let sample = bytes.get(..bytes.len().min(SAMPLE))?;
    let (text, encoding) = decode(sample)?;
    let whole = bytes.len() <= SAMPLE;
    let head_end = text.char_indices().nth(HEAD).map_or(text.len(), |(i, _)| i);
    let head = text.get(..head_end)?;
    let complete = whole && head_end == text.len();
    let trimmed = head.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
    let told = markup(trimmed, &text, whole)
        .or_else(|| json(trimmed, bytes, encoding))
        .or_else(|| script(trimmed))
        .or_else(|| mail(trimmed))
        .or_else(|| table(trimmed.is_empty(), head, complete));
    Some(told.unwrap_or_else(|| Told::new(Format::Txt, format!("text in {encoding}"))))
}

/// The sample as text and the name of its encoding; `None` when it is binary.
fn decode(sample: &[u8]) -> Option<(Cow<'_, str>, &'static str)> {
    if let Some((encoding, bom)) = utf32(sample) {
        let text = decode_utf32(sample, encoding, bom);
        return is_text(&text).then_some((Cow::Owned(text), encoding));
    }
    if let Some((encoding, bom)) = Encoding::for_bom(sample) {
        let (text, _) = encoding.decode_without_bom_handling(sample.get(bom..)?);
        return is_text(&text).then_some((text, encoding.name()));
    }
    if let Some(encoding) = utf16_without_bom(sample) {
        let (text, _) = encoding.decode_without_bom_handling(sample);
        return is_text(&text).then_some((text, encoding.name()));
    }
    // The sample may cut the last character.
    let valid = match std::str::from_utf8(sample) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() && sample.len() == SAMPLE => std::str::from_utf8(sample.get(..e.valid_up_to())?).ok(),
        Err(_) => None,
    };
    if let Some(text) = valid {
        return is_text(text).then_some((Cow::Borrowed(text), if text.is_ascii() { "ASCII" } else { "UTF-8" }));
    }
    // Any 8-bit or multi-byte encoding: its letters stand above 0x7F and its controls are the ASCII ones.
    let (text, _) = WINDOWS_1252.decode_without_bom_handling(sample);
    // Where most bytes are high ones at random places, C1 controls that Windows-1252 leaves undefined are many.
    is_text(&text).then_some((text, "an 8-bit encoding"))
}

/// UTF-16 without its mark: in Western text every other byte is zero.
fn utf16_without_bom(sample: &[u8]) -> Option<&'static Encoding> {
    let sample = sample.get(..sample.len().min(4096) & !1)?;
    let pairs = sample.len() / 2;
    if pairs < 2 {
        return None;
    }
    let zeros = |odd: usize| sample.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    if odd * 10 >= pairs * 7 && even * 50 <= pairs {
        Some(UTF_16LE)
    } else if even * 10 >= pairs * 7 && odd * 50 <= pairs {
        Some(UTF_16BE)
    } else {
        None
    }
}

/// Whether so few control characters stand in it that a person wrote it: at most one in a hundred. Tab, line
/// ends, form feed, backspace, escape, shift-in/out (ISO 2022), information separators and the DOS end of file do not count, nor do a
/// few zero bytes.
fn is_text(text: &str) -> bool {
    let (mut controls, mut zeros, mut all) = (0usize, 0usize, 0usize);
    for c in text.chars() {
        all += 1;
        if is_separator(c) {
            continue;
        }
        if c == '\0' {
            zeros += 1;
            continue;
        }
        let fine = matches!(c, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{8}' | '\u{1b}' | '\u{e}' | '\u{f}' | '\u{1a}' | '\u{85}');
        // C1 controls are letters of other 8-bit encodings.
        controls += usize::from((c < ' ' || c == '\u{7f}') && !fine);
    }
    controls * 100 <= all && zeros <= few_zeros(all)
}

/// XML, HTML, SVG, flat OpenDocument.
fn markup(trimmed: &str, text: &str, whole: bool) -> Option<Told> {
    if !trimmed.starts_with('<') {
        return None;
    }
    let declared = trimmed.starts_with("<?xml");
    if trimmed.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("<?php")) {
        return Some(Told::new(Format::Script, "<?php"));
    }
    let (tag, doctype) = first_element(trimmed)?;
    let qualified = tag.split(|c: char| c.is_whitespace() || matches!(c, '/' | '>')).next().unwrap_or_default();
    let local = qualified.rsplit(':').next().unwrap_or_default();
    if doctype.as_deref() == Some("html") || local.eq_ignore_ascii_case("html") {
        return Some(Told::new(Format::Html, "root element html"));
    }
    if local == "svg" && (declared || doctype.is_some() || tag.contains("http://www.w3.org/2000/svg")) {
        return Some(Told::new(Format::Svg, "root element svg"));
    }
    if local == "document" && tag.contains("urn:oasis:names:tc:opendocument:xmlns:office:1.0") {
        let media_type = tags(tag_source(trimmed, tag), "document").next().and_then(|t| attribute(t, "mimetype")).unwrap_or_default();
        let kinds = [("spreadsheet", Format::Ods), ("presentation", Format::Odp), ("graphics", Format::Odg), ("text", Format::Odt)];
        if let Some((_, format)) = kinds.iter().find(|(kind, _)| media_type.contains(&format!("opendocument.{kind}"))) {
            return Some(Told::new(*format, "flat OpenDocument XML"));
        }
    }
    if declared || doctype.is_some() {
        return Some(Told::new(Format::Xml, format!("XML root {qualified}")));
    }
    const HTML_STARTS: &[&str] = &[
        "head", "body", "script", "table", "div", "iframe", "style", "title", "meta", "center", "font", "p", "h1", "a", "img", "span", "br",
    ];
    if HTML_STARTS.iter().any(|name| local.eq_ignore_ascii_case(name)) {
        return Some(Told::new(Format::Html, format!("HTML element {local}")));
    }
    // Without a declaration, only what is well-formed to its end is XML: `<doctag>` or `<- see` is text.
    let well_formed = if whole { text.len() <= MAX_PARSED && is_well_formed(text) } else { tag.contains("xmlns") };
    well_formed.then(|| Told::new(Format::Xml, format!("XML root {qualified}")))
}

/// The text from `tag` on, with its angle bracket.
fn tag_source<'t>(text: &'t str, tag: &str) -> &'t str {
    text.find(tag).and_then(|at| text.get(at.saturating_sub(1)..)).unwrap_or(text)
}

/// The inside of the first start tag, behind declarations, comments and the document type.
fn first_element(text: &str) -> Option<(&str, Option<String>)> {
    let mut rest = text;
    let mut doctype = None;
    for _ in 0..200 {
        let at = rest.find('<')?;
        rest = rest.get(at + 1..)?;
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->")?.1;
        } else if rest.starts_with('?') {
            rest = rest.split_once("?>")?.1;
        } else if let Some(declaration) = rest.strip_prefix('!') {
            let mut words = declaration.split(|c: char| c.is_whitespace() || c == '>');
            if words.next().is_some_and(|w| w.eq_ignore_ascii_case("doctype")) {
                doctype = words.next().map(str::to_ascii_lowercase);
            }
            // An internal subset may hold angle brackets of its own.
            let end = match (declaration.find('['), declaration.find('>')) {
                (Some(open), Some(close)) if open < close => declaration.find("]>").map(|i| i + 1)?,
                (_, Some(close)) => close,
                _ => return doctype.map(|d| ("", Some(d))),
            };
            rest = declaration.get(end..)?;
        } else {
            let tag = rest.split('>').next()?;
            let starts_well = tag.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
            return if starts_well { Some((tag, doctype)) } else { doctype.map(|d| ("", Some(d))) };
        }
    }
    None
}

fn is_well_formed(text: &str) -> bool {
    let mut reader = quick_xml::Reader::from_str(text);
    let mut depth = 0u64;
    let mut roots = 0u64;
    loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Start(_)) => {
                roots += u64::from(depth == 0);
                depth += 1;
            }
            Ok(quick_xml::events::Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(quick_xml::events::Event::Empty(_)) => roots += u64::from(depth == 0),
            Ok(quick_xml::events::Event::Eof) => return depth == 0 && roots == 1,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

fn json(trimmed: &str, bytes: &[u8], encoding: &str) -> Option<Told> {
    if !trimmed.starts_with(['{', '[']) || bytes.len() > MAX_PARSED || !matches!(encoding, "ASCII" | "UTF-8") {
        return None;
    }
    let start = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes.get(start..)?).ok().map(|_| Told::new(Format::Json, "well-formed JSON"))
}

fn script(trimmed: &str) -> Option<Told> {
    let line = trimmed.lines().next()?;
    if line.strip_prefix("#!").is_some_and(|rest| rest.trim_start().starts_with('/')) {
        let shown: String = line.chars().take(60).collect();
        return Some(Told::new(Format::Script, shown));
    }
    let lower = line.trim().to_ascii_lowercase();
    (lower == "@echo off" || lower.starts_with("@echo off ")).then(|| Told::new(Format::Script, "@echo off"))
}

/// RFC 5322 §2.2: header lines up to the first empty one, some of which only a mail system writes.
fn mail(trimmed: &str) -> Option<Told> {
    const KNOWN: &[&str] = &[
        "from",
        "to",
        "cc",
        "subject",
        "date",
        "received",
        "return-path",
        "mime-version",
        "message-id",
        "delivered-to",
        "content-type",
        "reply-to",
        "x-mailer",
        "dkim-signature",
    ];
    const BY_SYSTEMS: &[&str] = &["received", "return-path", "mime-version", "message-id", "delivered-to", "dkim-signature"];
    let (mut known, mut by_systems) = (0, 0);
    for line in trimmed.lines().take(200) {
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let (name, _) = line.split_once(':')?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        known += u32::from(KNOWN.contains(&name.as_str()));
        by_systems += u32::from(BY_SYSTEMS.contains(&name.as_str()));
    }
    (known >= 3 && by_systems >= 1).then(|| Told::new(Format::Eml, "mail headers"))
}

/// A table: the same number of delimiters over its lines, quotes respected (RFC 4180).
fn table(blank: bool, head: &str, complete: bool) -> Option<Told> {
    if blank {
        return None;
    }
    // Excel's own first line says which delimiter follows.
    let first = head.trim_start_matches('\u{FEFF}').lines().next().unwrap_or_default().trim_matches('"');
    if let Some(delimiter @ ("\t" | ";" | "," | "|" | ":")) = first.strip_prefix("sep=") {
        return Some(Told::new(Format::Csv, format!("a first line that says sep={}", delimiter.escape_default())));
    }
    [('\t', "tab"), (';', "semicolon"), (',', "comma"), ('|', "pipe")]
        .into_iter()
        .filter_map(|(delimiter, name)| Some((regularity(head, delimiter, complete)?, name)))
        // The most columns among regular readings: `1,5;2,5` is two columns of semicolons.
        .max_by_key(|(columns, _)| *columns)
        .map(|(columns, name)| Told::new(Format::Csv, format!("{columns} columns by {name}")))
}

/// How many columns `delimiter` makes, where it makes the same number on nearly every line.
fn regularity(text: &str, delimiter: char, complete: bool) -> Option<usize> {
    let (mut widths, mut spaced, mut delimiters) = (Vec::new(), 0usize, 0usize);
    let (mut fields, mut quoted, mut at_start, mut any) = (1usize, false, true, false);
    let mut edges = 0usize;
    let mut line_starts_with_delimiter = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quoted {
            if c == '"' {
                if chars.peek() == Some(&'"') {
                    chars.next();
                } else {
                    quoted = false;
                }
            }
            continue;
        }
        match c {
            '"' if at_start => {
                quoted = true;
                at_start = false;
                any = true;
            }
            '\n' | '\r' => {
                if any {
                    widths.push(fields);
                    edges += usize::from(line_starts_with_delimiter && at_start);
                }
                (fields, at_start, any, line_starts_with_delimiter) = (1, true, false, false);
            }
            c if c == delimiter => {
                line_starts_with_delimiter |= fields == 1 && at_start;
                fields += 1;
                delimiters += 1;
                spaced += usize::from(chars.peek() == Some(&' '));
                at_start = true;
                any = true;
            }
            c => {
                at_start &= c == ' ';
                any |= !c.is_whitespace();
            }
        }
    }
    if quoted && complete {
        // A quote that never closes is no table quote.
        return None;
    }
    // A line that the sample cuts does not count.
    if any && complete {
        widths.push(fields);
        edges += usize::from(line_starts_with_delimiter && at_start);
    }
    let mut counts = std::collections::BTreeMap::new();
    for width in &widths {
        *counts.entry(*width).or_insert(0usize) += 1;
    }
    let (columns, lines) = counts.into_iter().max_by_key(|(width, n)| (*n, *width))?;
    if columns < 2 {
        return None;
    }
    // Rows of Markdown start and end with a pipe.
    if delimiter == '|' && edges * 2 > widths.len() {
        return None;
    }
    // Prose puts a space behind its commas and semicolons, and lists of names have as many on each line.
    let prose = spaced * 2 > delimiters && delimiter != '\t';
    let share = lines * 100 / widths.len().max(1);
    let regular = match (delimiter, columns) {
        _ if prose => widths.len() >= 4 && share == 100 && columns >= 3,
        (_, _) if widths.len() == 1 => columns >= 3 && (delimiter != ',' || columns >= 4),
        (',' | '|', 2) => share >= 95 && widths.len() >= 3 || share == 100 && widths.len() == 2,
        (_, 2 | 3) => share >= 90,
        _ => share >= 70,
    };
    regular.then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> Option<Format> {
        tell(text.as_bytes()).map(|t| t.format)
    }

    #[test]
    fn regular_delimiters_make_a_table() {
        assert_eq!(format("nom;version\nA;1\nB;2\n"), Some(Format::Csv));
        assert_eq!(format("a,b,c\n1,2,3\n"), Some(Format::Csv));
        assert_eq!(format("a\tb\n1\t2\n"), Some(Format::Csv));
        assert_eq!(format("prix;taux\n1,5;2,5\n3,5;4,5\n"), Some(Format::Csv));
        assert_eq!(format("\"un; deux\";x\n\"a\nb\";y\n"), Some(Format::Csv), "delimiters and line ends inside quotes are content");
        assert_eq!(tell("prix;taux\n1,5;2,5\n3,5;4,5\n".as_bytes()).unwrap().basis, "2 columns by semicolon");
    }

    #[test]
    fn the_delimiter_line_of_excel_makes_a_table() {
        assert_eq!(format("sep=;\r\na;b\r\n"), Some(Format::Csv));
        assert_eq!(format("\"sep=,\"\nseul\n"), Some(Format::Csv));
        assert_ne!(format("sep=oui\nreste du texte\n"), Some(Format::Csv));
    }

    #[test]
    fn prose_stays_text() {
        assert_eq!(format("Bonjour, voici le document.\nMerci, et bonne journée.\n"), Some(Format::Txt));
        assert_eq!(format("une seule ligne, avec une virgule"), Some(Format::Txt));
        assert_eq!(format("Algérie\nBénin\nTogo\n"), Some(Format::Txt));
        assert_eq!(format("| a | b |\n|---|---|\n| 1 | 2 |\n"), Some(Format::Txt));
    }

    #[test]
    fn encodings_do_not_hide_text() {
        let utf16: Vec<u8> = "nom;âge\r\nÉloïse;3\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(tell(&utf16).unwrap().format, Format::Csv);
        assert_eq!(tell(&[&[0xFF, 0xFE], utf16.as_slice()].concat()).unwrap().format, Format::Csv);
        assert_eq!(tell(b"d\xE9j\xE0 vu, \xE7a va").unwrap().format, Format::Txt);
        assert_eq!(tell(&[0, 1, 2, 3, 250, 17, 0, 4]), None);
        let noise: Vec<u8> = (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        assert_eq!(tell(&noise), None);
    }

    #[test]
    fn markup_is_told_by_its_root() {
        assert_eq!(format("<!DOCTYPE html><p>x"), Some(Format::Html));
        assert_eq!(format("\u{FEFF}<?xml version=\"1.0\"?><!-- c --><svg/>"), Some(Format::Svg));
        assert_eq!(format("<?xml version=\"1.0\"?><?mso-application progid=\"Word.Document\"?><w:wordDocument/>"), Some(Format::Xml));
        assert_eq!(format("<ClinicalDocument xmlns=\"urn:hl7-org:v3\"><a/></ClinicalDocument>"), Some(Format::Xml));
        assert_eq!(format("<doctag><text><loc_1>unclosed</text></doctag>"), Some(Format::Txt));
        assert_eq!(
            format(
                "<?xml version=\"1.0\"?>\n<office:document xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" office:mimetype=\"application/vnd.oasis.opendocument.spreadsheet\">"
            ),
            Some(Format::Ods)
        );
    }

    #[test]
    fn data_mail_and_scripts_are_told() {
        assert_eq!(format("{\"a\": [1, 2]}"), Some(Format::Json));
        assert_eq!(format("[note] see below"), Some(Format::Txt));
        assert_eq!(format("Received: from a\n by b\nFrom: x\nSubject: y\nMIME-Version: 1.0\n\nbody"), Some(Format::Eml));
        assert_eq!(format("Date: lundi\nSubject: test\nTo: moi\n\nnotes"), Some(Format::Txt));
        assert_eq!(format("#!/bin/sh\necho"), Some(Format::Script));
        assert_eq!(format("@echo off\r\ndir"), Some(Format::Script));
    }
}
