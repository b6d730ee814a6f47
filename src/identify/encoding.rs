//! What tells text from other bytes, and UTF-32 from other text: shared by recognition and by the inspector of texts.

/// Bytes looked at to tell UTF-16 and UTF-32 without a mark.
pub(crate) const SNIFFED: usize = 4096;

/// Information separators (ECMA-48 §8.2.10): they part the fields of 2D-Doc and GS1 codes, FS ends an MLLP frame (HL7).
pub(crate) const fn is_separator(c: char) -> bool {
    matches!(c, '\u{1C}'..='\u{1F}')
}

/// Zero bytes that a text of this length may hold: a log keeps some where a program was stopped while it wrote, and every editor
/// shows the rest. More are the padding of a binary format.
pub(crate) fn few_zeros(len: usize) -> usize {
    (len / 20).min(16).max(len / 100)
}

/// Whether bytes are UTF-32 (Unicode Standard §3.10, D99–D101), in which order, and whether its mark stands first. Without a mark,
/// every four bytes must be a character.
pub(crate) fn utf32(bytes: &[u8]) -> Option<(&'static str, bool)> {
    if !bytes.len().is_multiple_of(4) || bytes.len() < 8 {
        return None;
    }
    match bytes.first_chunk()? {
        [0xFF, 0xFE, 0, 0] => return Some(("UTF-32LE", true)),
        [0, 0, 0xFE, 0xFF] => return Some(("UTF-32BE", true)),
        _ => {}
    }
    let all = |order: fn([u8; 4]) -> u32| {
        let is_character = |unit: &[u8]| unit.first_chunk().and_then(|unit| char::from_u32(order(*unit))).is_some_and(|c| c != '\0');
        bytes.chunks_exact(4).take(SNIFFED / 4).all(is_character)
    };
    if all(u32::from_le_bytes) {
        Some(("UTF-32LE", false))
    } else if all(u32::from_be_bytes) {
        Some(("UTF-32BE", false))
    } else {
        None
    }
}

/// Decodes UTF-32 without its mark; what is no character becomes U+FFFD.
pub(crate) fn decode_utf32(bytes: &[u8], encoding: &str, bom: bool) -> String {
    let order = if encoding == "UTF-32LE" { u32::from_le_bytes } else { u32::from_be_bytes };
    let units = bytes.chunks_exact(4).skip(usize::from(bom));
    units.map(|unit| unit.first_chunk().and_then(|unit| char::from_u32(order(*unit))).unwrap_or('\u{FFFD}')).collect()
}
