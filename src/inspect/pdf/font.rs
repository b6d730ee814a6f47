//! From the bytes of a text-showing operator to characters and widths (ISO 32000-2 §9.4–9.10).
//!
//! In order: the `/ToUnicode` map, the font's encoding with its differences, the predefined Unicode
//! character maps of composite fonts. What none of them maps is counted as a glyph without a character.

use std::collections::BTreeMap;

use super::file::File;
use super::lexer::{Lexer, Token};
use super::object::{Dict, Object};
use crate::inspect::budget::{Budget, Exceeded};

/// Entries of one `/ToUnicode` map that are kept; a font has at most 65,536 codes.
const MAX_MAPPINGS: usize = 70_000;
/// Widths of one composite font that are kept.
const MAX_WIDTHS: usize = 70_000;
/// Units of work of an entry of a map or of a list of widths.
const ENTRY: u64 = 100;
/// Units of work of a byte of a character map.
const MAP_BYTE: u64 = 20;
/// UTF-16 units that one code may map to (§9.10.3 allows 256, ligatures need 3).
const MAX_UNITS: usize = 16;

/// One shown code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Glyph<'f> {
    /// Its characters; absent where nothing maps them.
    pub text: Option<&'f str>,
    /// Advance in thousandths of the font size.
    pub width: f64,
    /// Whether it is the single-byte code 32, to which word spacing applies (§9.3.3).
    pub word_space: bool,
}

/// A font, as far as text extraction needs it.
#[derive(Debug, Default)]
pub struct Font {
    /// Bytes per code: 1 for simple fonts, mostly 2 for composite ones.
    code_len: usize,
    mapped: BTreeMap<u32, String>,
    ranges: Vec<(u32, u32, Vec<u16>)>,
    /// Codes are UTF-16 themselves (`UniJIS-UTF16-H`, `/ToUnicode /Identity-H`).
    utf16: bool,
    widths: BTreeMap<u32, f64>,
    default_width: f64,
}

impl Font {
    /// Reads the font dictionary `dict`.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn read(file: &mut File, dict: &Dict, budget: &mut Budget) -> Result<Self, Exceeded> {
        let mut font = Self { code_len: 1, default_width: 500.0, ..Self::default() };
        let composite = file.entry(dict, "Subtype", budget)?.is_name("Type0");
        let encoding = file.entry(dict, "Encoding", budget)?;
        if composite {
            font.code_len = 2;
            font.default_width = 1000.0;
            let name = encoding.name().unwrap_or_default();
            font.utf16 = [&b"UCS2"[..], b"UTF16"].iter().any(|w| memchr::memmem::find(name, w).is_some());
            let descendants = file.entry(dict, "DescendantFonts", budget)?;
            if let Some(descendant) = descendants.items().first() {
                let descendant = file.resolve(descendant, budget)?;
                font.composite_widths(file, descendant.dict_or_empty(), budget)?;
            }
            if let Some(stream) = encoding.stream() {
                let bytes = file.decode(stream, budget)?.bytes;
                font.code_len = code_length(&bytes).unwrap_or(2);
            }
        } else {
            font.simple_encoding(file, dict, &encoding, budget)?;
            font.simple_widths(file, dict, budget)?;
        }
        let to_unicode = file.entry(dict, "ToUnicode", budget)?;
        if let Some(stream) = to_unicode.stream() {
            let bytes = file.decode(stream, budget)?.bytes;
            font.read_to_unicode(&bytes, budget)?;
            font.ranges.sort_by_key(|(low, ..)| *low);
        } else if composite && to_unicode.name().is_some_and(|n| n.starts_with(b"Identity")) {
            font.utf16 = true;
        }
        Ok(font)
    }

    /// The code at the start of `bytes` and how many bytes it takes (at least 1).
    pub fn next_glyph(&self, bytes: &[u8]) -> (Glyph<'_>, usize) {
        let len = self.code_len.clamp(1, 4).min(bytes.len()).max(1);
        let code = bytes.iter().take(len).fold(0u32, |code, b| code << 8 | u32::from(*b));
        let width = self.widths.get(&code).copied().unwrap_or(self.default_width);
        let text = self.mapped.get(&code).map(String::as_str).filter(|s| !s.is_empty());
        (Glyph { text, width, word_space: self.code_len == 1 && code == 32 }, len)
    }

    /// Entries held, for the reader's bound on memory.
    pub fn size(&self) -> usize {
        self.mapped.len() + self.ranges.len() + self.widths.len()
    }

    /// Characters of a code that the plain table does not hold: ranges and UTF-16 codes.
    pub fn computed(&self, bytes: &[u8], len: usize) -> Option<String> {
        let code = bytes.iter().take(len).fold(0u32, |code, b| code << 8 | u32::from(*b));
        let after = self.ranges.partition_point(|(low, ..)| *low <= code);
        let range = after.checked_sub(1).and_then(|i| self.ranges.get(i)).filter(|(_, high, _)| code <= *high);
        if let Some((low, _, base)) = range {
            let mut units = base.clone();
            let last = units.last_mut()?;
            *last = last.wrapping_add(u16::try_from(code - low).unwrap_or(0));
            return Some(String::from_utf16_lossy(&units)).filter(|s| !s.contains('\0'));
        }
        if self.utf16 {
            let unit = u16::try_from(code).ok()?;
            return char::from_u32(u32::from(unit)).filter(|c| !c.is_control()).map(String::from);
        }
        None
    }

    fn simple_encoding(&mut self, file: &mut File, dict: &Dict, encoding: &Object, budget: &mut Budget) -> Result<(), Exceeded> {
        let base_font = file.entry(dict, "BaseFont", budget)?;
        let pictorial = [&b"Symbol"[..], b"ZapfDingbats", b"Wingdings"]
            .iter()
            .any(|name| base_font.name().is_some_and(|n| memchr::memmem::find(n, name).is_some()));
        let type3 = file.entry(dict, "Subtype", budget)?.is_name("Type3");
        let base = match encoding {
            Object::Name(name) => name.clone(),
            other => match file.entry(other.dict_or_empty(), "BaseEncoding", budget)?.name() {
                Some(name) => name.to_vec(),
                // A TrueType subset without encoding mostly keeps the codes of its system.
                None if dict.is("Subtype", "TrueType") => b"WinAnsiEncoding".to_vec(),
                None => b"StandardEncoding".to_vec(),
            },
        };
        if !pictorial && !type3 {
            for (code, text) in base_encoding(&base) {
                self.mapped.insert(u32::from(code), text);
            }
        }
        let differences = file.entry(encoding.dict_or_empty(), "Differences", budget)?;
        let mut names = Vec::new();
        for item in differences.items().iter().take(2_000) {
            names.push(file.resolve(item, budget)?);
        }
        let coded = type3.then(|| CodedNames::of(names.iter().filter_map(|n| n.name())));
        let mut code = 0u32;
        for item in &names {
            match &**item {
                Object::Name(name) => {
                    if code < 256 {
                        match glyph_text(name).or_else(|| coded.as_ref()?.text(name)) {
                            Some(text) => self.mapped.insert(code, text),
                            None => self.mapped.remove(&code),
                        };
                    }
                    code = code.saturating_add(1);
                }
                other => code = other.int().and_then(|n| u32::try_from(n).ok()).unwrap_or(256),
            }
        }
        Ok(())
    }

    fn simple_widths(&mut self, file: &mut File, dict: &Dict, budget: &mut Budget) -> Result<(), Exceeded> {
        let first = file.entry(dict, "FirstChar", budget)?.int().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let widths = file.entry(dict, "Widths", budget)?;
        // Type 3 fonts have their own glyph space: bring it to thousandths (§9.6.4).
        let matrix = file.entry(dict, "FontMatrix", budget)?;
        let scale = matrix.items().first().and_then(Object::number).map_or(1.0, |a| (a * 1000.0).abs());
        if widths.items().is_empty() {
            // The 14 standard fonts need not state their widths (§9.6.2.2): near enough to tell words apart.
            let base_font = file.entry(dict, "BaseFont", budget)?;
            let fixed = base_font.name().is_some_and(|n| memchr::memmem::find(n, b"Courier").is_some());
            self.widths.extend((0..256).map(|code| (code, if fixed { 600.0 } else { usual_width(code) })));
        }
        for (code, width) in (first..256).zip(widths.items()) {
            if let Some(width) = file.resolve(width, budget)?.number() {
                self.widths.insert(code, width * scale);
            }
        }
        Ok(())
    }

    /// `/W` of a descendant font: `c [w1 w2 …]` or `first last w` (§9.7.4.3).
    fn composite_widths(&mut self, file: &mut File, dict: &Dict, budget: &mut Budget) -> Result<(), Exceeded> {
        if let Some(width) = file.entry(dict, "DW", budget)?.number() {
            self.default_width = width;
        }
        let widths = file.entry(dict, "W", budget)?;
        let mut items = widths.items().iter();
        while let (Some(first), Some(second)) = (items.next(), items.next()) {
            let Some(first) = file.resolve(first, budget)?.int().and_then(|n| u32::try_from(n).ok()) else { return Ok(()) };
            let second = file.resolve(second, budget)?;
            if let Object::Array(list) = &*second {
                for (code, width) in (first..).zip(list) {
                    if let Some(width) = file.resolve(width, budget)?.number() {
                        self.widths.insert(code, width);
                    }
                }
            } else {
                let (last, width) = (second.int().and_then(|n| u32::try_from(n).ok()), items.next());
                let width = width.map(|w| file.resolve(w, budget)).transpose()?.and_then(|w| w.number());
                let (Some(last), Some(width)) = (last, width) else { return Ok(()) };
                // A range may be stated again and again: each time counts.
                budget.work(u64::from(last.saturating_sub(first).min(0xFFFF)) * ENTRY)?;
                for code in first..=last.min(first.saturating_add(0xFFFF)) {
                    self.widths.insert(code, width);
                }
            }
            budget.tick()?;
            if self.widths.len() > MAX_WIDTHS {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A `/ToUnicode` character map (§9.10.3).
    fn read_to_unicode(&mut self, bytes: &[u8], budget: &Budget) -> Result<(), Exceeded> {
        if self.code_len > 1
            && let Some(len) = code_length(bytes)
        {
            // A producer that says one byte here for a two-byte font is wrong; a longer one may be right.
            self.code_len = self.code_len.max(len);
        }
        budget.work(bytes.len() as u64 * MAP_BYTE)?;
        let mut lexer = Lexer::new(bytes, 0);
        let mut held: Vec<Vec<u8>> = Vec::new();
        let mut in_ranges = false;
        let mut steps = 0u32;
        loop {
            steps += 1;
            if steps.is_multiple_of(1024) {
                budget.work(1024 * ENTRY)?;
            }
            if self.mapped.len() + self.ranges.len() > MAX_MAPPINGS {
                return Ok(());
            }
            match lexer.token() {
                Token::End => return Ok(()),
                Token::Word(b"beginbfchar") => {
                    in_ranges = false;
                    held.clear();
                }
                Token::Word(b"beginbfrange") => {
                    in_ranges = true;
                    held.clear();
                }
                Token::Word(_) => held.clear(),
                Token::Str(string) => {
                    held.push(string);
                    match held.as_slice() {
                        [code, text] if !in_ranges => {
                            self.mapped.insert(code_of(code), text_of(text));
                            held.clear();
                        }
                        [low, high, base] if in_ranges => {
                            let (low, high) = (code_of(low), code_of(high));
                            let base = units_of(base);
                            if low == high {
                                self.mapped.insert(low, String::from_utf16_lossy(&base));
                            } else if low < high && !base.is_empty() {
                                // The range is the newer statement: whatever the encoding said is gone.
                                // Only what is really there is looked at, so that a thousand wide ranges cost a thousand look-ups.
                                let replaced: Vec<u32> = self.mapped.range(low..=high).map(|(code, _)| *code).collect();
                                for code in replaced {
                                    self.mapped.remove(&code);
                                }
                                self.ranges.push((low, high, base));
                            }
                            held.clear();
                        }
                        _ => {}
                    }
                }
                Token::ArrayOpen => {
                    let mut code = held.first().map_or(0, |low| code_of(low));
                    while let Token::Str(text) = lexer.token() {
                        if self.mapped.len() > MAX_MAPPINGS {
                            return Ok(());
                        }
                        self.mapped.insert(code, text_of(&text));
                        code = code.saturating_add(1);
                    }
                    held.clear();
                }
                _ => {}
            }
        }
    }
}

/// Widths of Latin text fonts, between Helvetica's and Times'.
fn usual_width(code: u32) -> f64 {
    match u8::try_from(code).map_or('x', char::from) {
        'i' | 'j' | 'l' | '\'' | '|' => 230.0,
        ' ' | '.' | ',' | ':' | ';' | '!' | '/' | '(' | ')' | '[' | ']' | '-' | 'f' | 't' | 'I' | 'r' => 300.0,
        'm' | 'M' | 'w' | 'W' | '@' | '%' => 840.0,
        'A'..='Z' => 680.0,
        _ => 530.0,
    }
}

fn code_of(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |code, b| code << 8 | u32::from(*b))
}

fn units_of(bytes: &[u8]) -> Vec<u16> {
    match bytes {
        [byte] => vec![u16::from(*byte)],
        _ => bytes.chunks_exact(2).take(MAX_UNITS).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf16_lossy(&units_of(bytes)).chars().filter(|c| *c != '\0' && *c != '\u{FFFD}').collect()
}

/// Bytes per code, from the first code-space range of a character map.
fn code_length(bytes: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(bytes, b"begincodespacerange")?;
    let mut lexer = Lexer::new(bytes, at + b"begincodespacerange".len());
    match lexer.token() {
        Token::Str(low) if (1..=4).contains(&low.len()) => Some(low.len()),
        _ => None,
    }
}

/// The characters of a predefined single-byte encoding (annex D), by lopdf's tables.
fn base_encoding(name: &[u8]) -> Vec<(u8, String)> {
    let mut font = lopdf::Dictionary::new();
    font.set("Type", lopdf::Object::Name(b"Font".to_vec()));
    let known = matches!(name, b"WinAnsiEncoding" | b"MacRomanEncoding" | b"MacExpertEncoding" | b"PDFDocEncoding");
    font.set("Encoding", lopdf::Object::Name(if known { name.to_vec() } else { b"StandardEncoding".to_vec() }));
    let document = lopdf::Document::new();
    let Ok(encoding) = font.get_font_encoding(&document) else { return Vec::new() };
    let character = |code: u8| encoding.bytes_to_string(&[code]).ok().filter(|s| !s.is_empty());
    (0..=255).filter_map(|code| Some((code, character(code)?))).collect()
}

/// Glyph names that are a letter and a character code: `a65`, `c101`, `g41`, `x4A`. Bitmap fonts that TeX makes have them, in a Type 3
/// font without other names; readers take the number for the character.
struct CodedNames {
    radix: u32,
}

impl CodedNames {
    fn digits(name: &[u8]) -> Option<&str> {
        let (letter, digits) = name.split_first()?;
        let known = letter.is_ascii_alphabetic() && (1..=3).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
        std::str::from_utf8(digits).ok().filter(|_| known)
    }

    /// The codes of a font are hexadecimal where one of them has a letter for a digit.
    fn of<'n>(names: impl Iterator<Item = &'n [u8]>) -> Self {
        let hexadecimal = names.filter_map(Self::digits).any(|digits| digits.len() == 2 && digits.bytes().any(|b| b.is_ascii_alphabetic()));
        Self { radix: if hexadecimal { 16 } else { 10 } }
    }

    fn text(&self, name: &[u8]) -> Option<String> {
        let code = u8::try_from(u32::from_str_radix(Self::digits(name)?, self.radix).ok()?).ok()?;
        // Ligatures have codes below the space, in TeX's old text encoding (OT1) and in its European one (T1).
        let ligature = match code {
            11 | 27 => "ff",
            12 | 28 => "fi",
            13 | 29 => "fl",
            14 | 30 => "ffi",
            15 | 31 => "ffl",
            _ => return Some(char::from(code)).filter(|c| !c.is_control()).map(String::from),
        };
        Some(ligature.to_owned())
    }
}

/// The characters of a glyph name: `eacute`, `uni00E9`, `u1F600`, `f_i`, `a.alt` (Adobe Glyph List
/// specification §2).
fn glyph_text(name: &[u8]) -> Option<String> {
    let name = name.split(|b| *b == b'.').next().filter(|n| !n.is_empty())?;
    let parts: Vec<String> = name.split(|b| *b == b'_').take(8).map(one_glyph).collect::<Option<_>>()?;
    Some(parts.concat())
}

fn one_glyph(name: &[u8]) -> Option<String> {
    let hex = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().and_then(char::from_u32);
    match name {
        [b'u', b'n', b'i', digits @ ..] if digits.len() >= 4 && digits.len() % 4 == 0 && digits.iter().all(u8::is_ascii_hexdigit) => {
            return digits.chunks(4).take(8).map(hex).collect();
        }
        [b'u', digits @ ..] if (4..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit) => {
            return hex(digits).map(String::from);
        }
        _ => {}
    }
    let mut encoding = lopdf::Dictionary::new();
    encoding.set("Differences", vec![lopdf::Object::Integer(0), lopdf::Object::Name(name.to_vec())]);
    let mut font = lopdf::Dictionary::new();
    font.set("Type", lopdf::Object::Name(b"Font".to_vec()));
    font.set("Encoding", lopdf::Object::Dictionary(encoding));
    let document = lopdf::Document::new();
    match font.get_font_encoding(&document).ok()? {
        encoding @ lopdf::Encoding::Differences(_) => encoding.bytes_to_string(&[0]).ok().filter(|s| !s.is_empty()),
        // An unknown name makes lopdf fall back to the standard encoding.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glyph_names_become_characters() {
        assert_eq!(glyph_text(b"eacute").as_deref(), Some("é"));
        assert_eq!(glyph_text(b"uni00E9").as_deref(), Some("é"));
        assert_eq!(glyph_text(b"f_i.alt").as_deref(), Some("fi"));
        assert_eq!(glyph_text(b"g123"), None);
        assert_eq!(glyph_text(b".notdef"), None);
    }

    #[test]
    fn windows_encoding_holds_french_letters() {
        let table: BTreeMap<u8, String> = base_encoding(b"WinAnsiEncoding").into_iter().collect();
        assert_eq!(table[&0xE9], "é");
        assert_eq!(table[&0x9C], "œ");
    }

    #[test]
    fn character_maps_are_read_in_their_three_forms() {
        let mut font = Font { code_len: 2, ..Font::default() };
        let source = b"1 begincodespacerange <0000> <FFFF> endcodespacerange
            1 beginbfchar <0003> <0020> endbfchar
            2 beginbfrange <0010> <0020> <0041> <0030> <0031> [<00660069> <00E9>] endbfrange";
        font.read_to_unicode(source, &Budget::new(crate::inspect::Limits::default())).unwrap();
        assert_eq!(font.next_glyph(&[0, 3]).0.text, Some(" "));
        assert_eq!(font.next_glyph(&[0, 0x30]).0.text, Some("fi"));
        assert_eq!(font.next_glyph(&[0, 0x31]).0.text, Some("é"));
        assert_eq!(font.computed(&[0, 0x12], 2).as_deref(), Some("C"));
    }
}
