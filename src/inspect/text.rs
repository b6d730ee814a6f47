//! Plain text and CSV: the character encoding, and whether it is text at all.
//!
//! The encoding is told, in order, by a byte-order mark, by the zero bytes of UTF-16, by being valid UTF-8,
//! and else taken for windows-1252, which French Windows software writes (WHATWG Encoding Standard names).
//! Text of another legacy encoding then reads wrong but is never called damaged: only bytes that no text
//! holds (zeros, control characters in number) say that. UTF-8 in which some bytes are wrong, or that ends inside a character, stays
//! UTF-8: one bad byte must not turn every accent of a text into two wrong letters.

use std::borrow::Cow;

use super::{Context, sheet};
use crate::identify::encoding::{SNIFFED, decode_utf32, few_zeros, is_separator, utf32};
use crate::model::facts::{Detail, TextFacts};
use crate::model::format::Format;
use crate::model::text::is_unsafe_to_show;
use crate::model::{Facts, Place, Signal};

/// Units of work of a line, and of each of its bytes.
const LINE: u64 = 50;
const LINE_BYTE: u64 = 70;
/// Lines that make one chunk of text.
const CHUNK_LINES: u64 = 50;

/// Describes one file of this family.
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    if facts.format == Some(Format::Csv) {
        return sheet::csv(bytes, ctx, facts);
    }
    let Some(decoded) = decode(bytes, facts) else { return };
    let text = decoded.text.as_ref();
    let mut lines = 0u64;
    let mut chars = 0u64;
    let mut hidden: Option<(u64, char)> = None;
    let mut hidden_count = 0u64;
    let mut chunk = String::new();
    let mut chunk_line = 1u64;
    for line in text.split_inclusive('\n') {
        lines += 1;
        let mut next = line.chars().skip(1);
        for c in line.chars() {
            chars += 1;
            if hides(c, next.next()) {
                hidden_count += 1;
                hidden.get_or_insert((lines, c));
            }
        }
        if let Err(exceeded) = ctx.budget.work(LINE + line.len() as u64 * LINE_BYTE) {
            exceeded.record(facts, &ctx.budget);
            break;
        }
        chunk.push_str(line);
        if lines + 1 - chunk_line >= CHUNK_LINES || chunk.len() > 8_000 {
            ctx.add_text(facts, Place::line(chunk_line), &chunk);
            chunk.clear();
            chunk_line = lines + 1;
        }
    }
    if !chunk.is_empty() {
        ctx.add_text(facts, Place::line(chunk_line), &chunk);
    }
    if let Some((line, c)) = hidden {
        facts.push(
            Signal::new("text-hidden-characters")
                .at(Place::line(line))
                .arg("character", format!("U+{:04X}", u32::from(c)))
                .arg("count", hidden_count),
        );
    }
    if text.chars().all(|c| c.is_whitespace() || is_unsafe_to_show(c)) {
        facts.push(Signal::new("text-blank").arg("size_bytes", facts.size));
    }
    let as_table = sheet::as_table(text, decoded.encoding, ctx).map(Box::new);
    facts.detail = Some(Detail::Text(TextFacts { encoding: decoded.encoding.to_owned(), bom: decoded.bom, lines, chars, as_table }));
}

/// Text out of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded<'a> {
    /// The text, without byte-order mark.
    pub text: Cow<'a, str>,
    /// WHATWG name of the encoding.
    pub encoding: &'static str,
    /// Whether a byte-order mark stood first.
    pub bom: bool,
    /// What is wrong with the bytes, where the encoding is UTF-8.
    errors: Utf8Errors,
}

/// Decodes `bytes`, and records on `facts` what is wrong with them; `None` where they are no text.
pub(crate) fn decode<'a>(bytes: &'a [u8], facts: &mut Facts) -> Option<Decoded<'a>> {
    let decoded = decode_quietly(bytes);
    // SO and SI are shifts of ISO-2022. UTF-16 has its zeros decoded away; a zero or a crowd of control characters that is left is binary.
    // DOS text ends in U+001A, which is let through.
    let body = decoded.text.trim_end_matches(['\u{1A}', '\0']);
    let mut controls = 0usize;
    let (mut separators, mut zeros) = (0usize, 0usize);
    let mut first = None;
    for (at, c) in body.char_indices() {
        if is_separator(c) {
            separators += 1;
            first.get_or_insert((at, c));
        } else if c == '\0' {
            zeros += 1;
            first.get_or_insert((at, c));
        } else if c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{0C}' | '\u{0B}' | '\u{1B}' | '\u{08}' | '\u{0E}' | '\u{0F}')
        {
            controls += 1;
            first.get_or_insert((at, c));
        }
    }
    // What is wrong in a text that is UTF-8 beyond doubt has findings of its own.
    let is_told = decoded.encoding == "windows-1252" || decoded.errors != Utf8Errors::default();
    let replaced = if is_told { 0 } else { body.matches('\u{FFFD}').count() };
    if zeros > few_zeros(body.len()) || controls * 100 > body.len().max(1) * 2 || replaced * 20 > body.len().max(1) {
        let (at, c) = first.unwrap_or((0, '\u{FFFD}'));
        facts.push(
            Signal::new("text-binary")
                .at(Place::byte(at as u64))
                .arg("character", format!("U+{:04X}", u32::from(c)))
                .arg("count", (controls + zeros).max(replaced)),
        );
        return None;
    }
    if let (Some((at, _)), 1..) = (first, zeros) {
        facts.push(Signal::new("text-zero-bytes").at(Place::line(line_of(body, at))).arg("count", zeros));
    } else if let Some((at, c)) = first {
        let line = line_of(body, at);
        facts.push(
            Signal::new("text-control-characters")
                .at(Place::line(line))
                .arg("character", format!("U+{:04X}", u32::from(c)))
                .arg("count", controls + separators),
        );
    }
    if decoded.encoding == "windows-1252" {
        let at = bytes.iter().position(|b| *b >= 0x80).unwrap_or(0);
        facts.push(Signal::new("text-legacy-encoding").at(Place::byte(at as u64)).arg("encoding", decoded.encoding));
    }
    if let Some(byte) = decoded.errors.first {
        facts.push(Signal::new("text-invalid-bytes").at(Place::byte(byte as u64)).arg("count", decoded.errors.inside));
    }
    if decoded.errors.cut {
        facts.push(Signal::new("text-truncated").at(Place::byte(bytes.len() as u64)).arg("encoding", decoded.encoding));
    }
    if decoded.encoding.starts_with("UTF-32") {
        facts.push(Signal::new("text-unusual-encoding").arg("encoding", decoded.encoding));
    }
    Some(decoded)
}

fn line_of(text: &str, at: usize) -> u64 {
    1 + text.get(..at).map_or(0, |before| before.matches('\n').count() as u64)
}

/// Which bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Utf8Errors {
    /// Invalid sequences before the end, and the position of the first.
    inside: usize,
    first: Option<usize>,
    /// Whether the last character is cut.
    cut: bool,
}

/// Text in which most characters beyond ASCII are valid UTF-8, which is no chance (RFC 3629 §1), with what is wrong in it.
fn nearly_utf8(bytes: &[u8]) -> Option<Utf8Errors> {
    let mut errors = Utf8Errors::default();
    let (mut valid, mut at, mut last) = (0usize, 0usize, None);
    for chunk in bytes.utf8_chunks() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        at += chunk.valid().len();
        if let [lead, ..] = chunk.invalid() {
            last = Some(*lead);
            let end = at + chunk.invalid().len();
            // A lead byte whose character would go on behind the end.
            if end == bytes.len() && std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none()) {
                errors.cut = true;
            } else {
                errors.inside += 1;
                errors.first.get_or_insert(at);
            }
            at = end;
        }
    }
    // In windows-1252, 0xC3 is a capital that ends no French word; in UTF-8 it begins nearly every French accent.
    let certain = if errors.inside > 0 { valid > errors.inside } else { valid > 0 || last == Some(0xC3) };
    certain.then_some(errors)
}

fn decode_quietly(bytes: &[u8]) -> Decoded<'_> {
    let errors = Utf8Errors::default();
    if let Some((encoding, bom)) = utf32(bytes) {
        return Decoded { text: Cow::Owned(decode_utf32(bytes, encoding, bom)), encoding, bom, errors };
    }
    let (encoding, bom) = match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, _)) => (encoding, true),
        None => (unmarked_utf16(bytes).unwrap_or(encoding_rs::UTF_8), false),
    };
    if encoding != encoding_rs::UTF_8 {
        return Decoded { text: encoding.decode(bytes).0, encoding: encoding.name(), bom, errors };
    }
    let body = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    match std::str::from_utf8(body) {
        Ok(text) => Decoded { text: Cow::Borrowed(text), encoding: "UTF-8", bom, errors },
        Err(_) => {
            // A marked file is UTF-8 whatever its bytes are.
            if let Some(errors) = nearly_utf8(body).or(bom.then_some(errors)) {
                return Decoded { text: String::from_utf8_lossy(body), encoding: "UTF-8", bom, errors };
            }
            let (text, _) = encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes);
            Decoded { text, encoding: "windows-1252", bom: false, errors }
        }
    }
}

/// UTF-16 without a mark: nearly every second byte is zero, on one side only.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let head = bytes.get(..bytes.len().min(SNIFFED) & !1)?;
    if head.len() < 4 || !bytes.len().is_multiple_of(2) {
        return None;
    }
    let even = head.iter().step_by(2).filter(|b| **b == 0).count();
    let odd = head.iter().skip(1).step_by(2).filter(|b| **b == 0).count();
    let pairs = head.len() / 2;
    if odd * 10 >= pairs * 7 && even == 0 {
        Some(encoding_rs::UTF_16LE)
    } else if even * 10 >= pairs * 7 && odd == 0 {
        Some(encoding_rs::UTF_16BE)
    } else {
        None
    }
}

/// Whether a character makes text read otherwise than it is: terminal escapes, backspaces, bidirectional
/// overrides and isolates (Unicode UAX #9). Marks that right-to-left scripts need are not counted.
fn hides(c: char, next: Option<char>) -> bool {
    // ISO-2022 encodings shift with ESC `$` and ESC `(`; a terminal obeys ESC `[`, `]`, `P`, `_`, `^`.
    (c == '\u{1B}' && matches!(next, Some('[' | ']' | 'P' | '_' | '^' | 'c')))
        || matches!(c, '\u{08}' | '\u{202D}' | '\u{202E}' | '\u{2066}'..='\u{2068}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Limits;
    use proptest::prelude::*;

    fn said_of(bytes: &[u8]) -> (Vec<String>, String) {
        let mut facts = Facts { format: Some(Format::Txt), ..Facts::of_size(bytes.len() as u64) };
        inspect(bytes, &mut Context::new(Limits::default()), &mut facts);
        let text = facts.text.iter().map(|c| c.text.as_str()).collect();
        (facts.signals.iter().map(|s| s.code.to_string()).collect(), text)
    }

    #[test]
    fn utf8_that_is_cut_or_holds_a_bad_byte_stays_utf8() {
        assert_eq!(
            said_of("Le procès à l'intérieur, coupé".as_bytes().split_last().unwrap().1),
            (vec!["text-truncated".into()], "Le procès à l'intérieur, coup\u{FFFD}".into())
        );
        let (said, text) = said_of(b"d\xC3\xA9j\xC3\xA0 \xFF vu");
        assert_eq!((said, text.as_str()), (vec!["text-invalid-bytes".to_owned()], "déjà \u{FFFD} vu"));
        // Windows-1252 stays what it is, also where two of its letters make a UTF-8 character by chance.
        assert_eq!(said_of(b"caf\xE9").0, ["text-legacy-encoding"]);
        assert_eq!(said_of(b"\xAB CAF\xC9\xA0\xBB d\xE9j\xE0 vu").0, ["text-legacy-encoding"]);
    }

    #[test]
    fn utf32_is_read_with_and_without_its_mark() {
        for (encode, mark) in
            [(u32::to_le_bytes as fn(u32) -> [u8; 4], true), (u32::to_be_bytes, true), (u32::to_le_bytes, false), (u32::to_be_bytes, false)]
        {
            let text = if mark { "\u{FEFF}nom;valeur\né;1\n" } else { "nom;valeur\né;1\n" };
            let bytes: Vec<u8> = text.chars().flat_map(|c| encode(u32::from(c))).collect();
            assert_eq!(said_of(&bytes), (vec!["text-unusual-encoding".into()], "nom;valeur é;1".into()));
            let mut facts = Facts::default();
            crate::identify::identify(&bytes, &mut facts);
            assert_eq!(facts.format, Some(Format::Csv));
        }
    }

    #[test]
    fn separators_of_codes_and_a_few_zero_bytes_are_text() {
        assert_eq!(said_of("DC04FR0001\u{1D}26\u{1E}B0DUPONT\u{1F}\u{1D}".as_bytes()).0, ["text-control-characters"]);
        let log = format!("{}\0\0{}", "ligne de journal\n".repeat(20), "suite du journal\n".repeat(20));
        assert_eq!(said_of(log.as_bytes()).0, ["text-zero-bytes"]);
        assert_eq!(said_of(&[b"MZ".as_slice(), &[0; 300], b"texte"].concat()).0, ["text-binary"]);
    }

    fn facts_of(bytes: &[u8], format: Format) -> Facts {
        let mut facts = Facts::of_size(bytes.len() as u64);
        facts.format = Some(format);
        inspect(bytes, &mut Context::new(Limits::default()), &mut facts);
        facts
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        text.encode_utf16().flat_map(|u| if little { u.to_le_bytes() } else { u.to_be_bytes() }).collect()
    }

    fn encoding_of(bytes: &[u8]) -> (String, bool) {
        match facts_of(bytes, Format::Txt).detail {
            Some(Detail::Text(text)) => (text.encoding, text.bom),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_usual_encoding_is_told() {
        assert_eq!(encoding_of("été".as_bytes()), ("UTF-8".into(), false));
        assert_eq!(encoding_of("\u{FEFF}été".as_bytes()), ("UTF-8".into(), true));
        assert_eq!(encoding_of(b"\xE9t\xE9"), ("windows-1252".into(), false));
        assert_eq!(encoding_of(&utf16("\u{FEFF}été", true)), ("UTF-16LE".into(), true));
        assert_eq!(encoding_of(&utf16("\u{FEFF}été", false)), ("UTF-16BE".into(), true));
        assert_eq!(encoding_of(&utf16("bonjour à tous", true)), ("UTF-16LE".into(), false));
        assert_eq!(encoding_of(&utf16("bonjour à tous", false)), ("UTF-16BE".into(), false));
    }

    #[test]
    fn the_text_is_kept_with_its_line_and_counted() {
        let facts = facts_of("un\ndeux\r\n".repeat(60).as_bytes(), Format::Txt);
        assert_eq!(facts.text[0].place, Place::line(1));
        assert!(facts.text[0].text.starts_with("un deux un"));
        assert_eq!(facts.text[1].place, Place::line(51));
        assert!(matches!(&facts.detail, Some(Detail::Text(t)) if t.lines == 120 && t.chars == 60 * 9));
        assert!(facts.signals.is_empty());
    }

    #[test]
    fn binary_is_not_text_but_a_stray_control_character_is() {
        assert!(facts_of(b"PK\x03\x04\x00\x00\x08\x00", Format::Txt).has("text-binary"));
        assert!(facts_of(&[1, 2, 3, 4, 5, 6, 7, 14], Format::Csv).has("text-binary"));
        let stray = facts_of(format!("{}\u{1}", "ligne de texte ".repeat(50)).as_bytes(), Format::Txt);
        assert!(stray.has("text-control-characters") && !stray.has("text-binary"));
        assert!(facts_of(b"fin de fichier DOS\x1A", Format::Txt).signals.is_empty());
    }

    #[test]
    fn characters_that_make_text_lie_are_named() {
        let facts = facts_of("preuve\nacc\u{202E}etpu\u{1b}[2K".as_bytes(), Format::Txt);
        let signal = facts.signals.iter().find(|s| s.code.as_str() == "text-hidden-characters").unwrap();
        assert_eq!(signal.place, Place::line(2));
    }

    #[test]
    fn blank_text_is_said_to_be_blank() {
        assert!(facts_of(b" \r\n\t\n", Format::Txt).has("text-blank"));
        assert!(!facts_of(b".", Format::Txt).has("text-blank"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_described(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = facts_of(&bytes, Format::Txt);
            let _ = facts_of(&bytes, Format::Csv);
        }
        #[test]
        fn utf8_text_is_never_called_anything_else(text in "[ -~éàç€\n]{1,200}") {
            prop_assert_eq!(encoding_of(text.as_bytes()).0, "UTF-8");
        }
    }
}
