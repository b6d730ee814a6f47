//! Text as it is seen: a number must not hide behind characters that take no space, or behind digits of another script.

use std::ops::Range;

/// The zeros of the decimal digits of Unicode 16.0 (general category `Nd`) besides ASCII; the nine digits after each follow it.
const ZEROS: [u32; 75] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040,
    0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50,
    0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x10D40, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x116D0,
    0x116DA, 0x11730, 0x118E0, 0x11950, 0x11BF0, 0x11C50, 0x11D50, 0x11DA0, 0x11F50, 0x16130, 0x16A60, 0x16AC0, 0x16B50, 0x16D70, 0x1CCF0,
    0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E5F1, 0x1E950, 0x1FBF0,
];

/// A text as it is seen, and where each of its bytes comes from.
pub(super) struct Plain {
    pub(super) text: String,
    /// For each byte of `text`, where its character starts in the text that it was made of.
    origins: Vec<usize>,
}

impl Plain {
    /// The bytes of `text`, of which this was made, that are seen as these.
    pub(super) fn origin(&self, text: &str, seen: Range<usize>) -> Range<usize> {
        let start = self.origins.get(seen.start).copied().unwrap_or(text.len());
        let last = seen.end.checked_sub(1).and_then(|n| self.origins.get(n)).copied().unwrap_or(start);
        start..last + text.get(last..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
    }
}

/// `text` as it is seen; `None` where that is how it is written.
pub(super) fn plain(text: &str) -> Option<Plain> {
    if text.is_ascii() || !text.chars().any(|c| seen(c) != Some(c)) {
        return None;
    }
    let mut plain = Plain { text: String::with_capacity(text.len()), origins: Vec::with_capacity(text.len()) };
    for (at, c) in text.char_indices() {
        if let Some(seen) = seen(c) {
            plain.text.push(seen);
            plain.origins.resize(plain.text.len(), at);
        }
    }
    Some(plain)
}

/// What a reader sees of a character; `None` where that is nothing.
fn seen(c: char) -> Option<char> {
    match c {
        '\0'..='\u{7F}' => Some(c),
        // Soft hyphen, joiners, marks and isolates of direction, byte-order marks, variation selectors. U+FFFD stands for such a
        // character where a report shows a name.
        '\u{AD}'
        | '\u{34F}'
        | '\u{61C}'
        | '\u{180B}'..='\u{180E}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}'
        | '\u{FFFD}'
        | '\u{E0000}'..='\u{E0FFF}' => None,
        // Blanks that are no white space to Unicode.
        '\u{2800}' | '\u{3164}' | '\u{FFA0}' => Some(' '),
        '\u{2014}' | '\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' | '\u{FF0D}' => Some('-'),
        '\u{FF0E}' | '\u{2024}' => Some('.'),
        '\u{FF0F}' | '\u{2044}' | '\u{2215}' => Some('/'),
        // Corsica.
        'Ａ' | 'ａ' => Some('A'),
        'Ｂ' | 'ｂ' => Some('B'),
        '²' | '³' => char::from_digit(u32::from(c) - 0xB0, 10),
        '¹' => Some('1'),
        '\u{2070}' | '\u{2074}'..='\u{2079}' => char::from_digit(u32::from(c) - 0x2070, 10),
        '\u{2080}'..='\u{2089}' => char::from_digit(u32::from(c) - 0x2080, 10),
        _ => {
            let code = u32::from(c);
            let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last();
            Some(zero.and_then(|zero| char::from_digit(code - zero, 10)).unwrap_or(c))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_one_to_unicode() {
        assert!(ZEROS.is_sorted());
        for (zero, n) in ZEROS.iter().flat_map(|zero| (0..10).map(move |n| (*zero, n))) {
            // The ones that this compiler's Unicode does not know yet are left to it.
            if let Some(c) = char::from_u32(zero + n) {
                assert_eq!(seen(c), char::from_digit(n, 10), "U+{:04X}", zero + n);
            }
        }
        assert!(ZEROS.iter().filter(|z| char::from_u32(**z).is_some_and(char::is_numeric)).count() > 60);
        assert_eq!(seen('é'), Some('é'));
    }

    #[test]
    fn a_place_leads_back_to_what_was_written() {
        let text = "é１\u{200B}8\u{AD}x";
        let plain = plain(text).unwrap();
        assert_eq!(plain.text, "é18x");
        assert_eq!(&text[plain.origin(text, 2..4)], "１\u{200B}8");
        assert!(super::plain("é 18").is_none());
    }
}
