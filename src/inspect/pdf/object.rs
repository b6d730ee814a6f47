//! The eight kinds of PDF objects (ISO 32000-2 §7.3), owned and compact.

/// Any object. An indirect reference keeps the object number only: generations play no part in finding an
/// object, and readers ignore them.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// `null`, and anything that is absent.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// An integer, saturated to 64 bits.
    Int(i64),
    /// A real number.
    Real(f64),
    /// A string, unescaped and (in an encrypted file) decrypted.
    Str(Vec<u8>),
    /// A name without its slash, `#xx` decoded.
    Name(Vec<u8>),
    /// An array.
    Array(Vec<Object>),
    /// A dictionary.
    Dict(Dict),
    /// A stream: its dictionary and where its bytes stand in the file.
    Stream(Box<Stream>),
    /// `12 0 R`.
    Ref(u32),
}

/// A dictionary, in file order. Keys written twice are kept twice; the last one counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dict(pub Vec<(Vec<u8>, Object)>);

/// A stream object; its bytes stay in the file until they are decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its dictionary.
    pub dict: Dict,
    /// Offset of the first byte of data in the file.
    pub start: usize,
    /// Bytes of data, after repair where `/Length` was wrong.
    pub len: usize,
    /// Object number, for decryption and messages.
    pub num: u32,
    /// Generation, for decryption.
    pub generation: u16,
}

static NULL: Object = Object::Null;
static NO_DICT: Dict = Dict(Vec::new());

impl Dict {
    /// The value under `key`, `Null` where absent.
    pub fn get(&self, key: impl AsRef<[u8]>) -> &Object {
        let key = key.as_ref();
        self.0.iter().rev().find(|(k, _)| k == key).map_or(&NULL, |(_, v)| v)
    }
    /// Whether `key` is there with a value.
    pub fn has(&self, key: &str) -> bool {
        *self.get(key) != Object::Null
    }
    /// Whether the value under `key` is the name `name`, written directly.
    pub fn is(&self, key: &str, name: &str) -> bool {
        self.get(key).is_name(name)
    }
}

impl Object {
    /// The dictionary of a dictionary or of a stream.
    pub fn dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(dict) => Some(dict),
            Self::Stream(stream) => Some(&stream.dict),
            _ => None,
        }
    }
    /// The dictionary, or an empty one.
    pub fn dict_or_empty(&self) -> &Dict {
        self.dict().unwrap_or(&NO_DICT)
    }
    /// The stream.
    pub fn stream(&self) -> Option<&Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            _ => None,
        }
    }
    /// The items of an array; none for anything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
    /// The name.
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
    /// Whether it is this name.
    pub fn is_name(&self, name: &str) -> bool {
        self.name() == Some(name.as_bytes())
    }
    /// The string.
    pub fn string(&self) -> Option<&[u8]> {
        match self {
            Self::Str(string) => Some(string),
            _ => None,
        }
    }
    /// An integer, also where it is written as a real without fraction.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
            Self::Real(r) if r.fract() == 0.0 => Some(*r as i64),
            _ => None,
        }
    }
    /// A number.
    pub fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "coordinates and widths")]
            Self::Int(n) => Some(*n as f64),
            Self::Real(r) => Some(*r),
            _ => None,
        }
    }
    /// The object number of a reference.
    pub fn reference(&self) -> Option<u32> {
        match self {
            Self::Ref(num) => Some(*num),
            _ => None,
        }
    }
}

/// A text string (ISO 32000-2 §7.9.2.2): UTF-16 or UTF-8 with a byte-order mark, else PDFDocEncoding.
pub fn text_string(bytes: &[u8]) -> String {
    let utf16 = |rest: &[u8], read: fn([u8; 2]) -> u16| {
        let units = rest.chunks_exact(2).map(|pair| read([pair[0], pair[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or('\u{FFFD}')).filter(|c| *c != '\u{1B}').collect()
    };
    match bytes {
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => lopdf::decode_text_string(&lopdf::Object::string_literal(bytes.to_vec())).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_written_twice_counts_last() {
        let dict = Dict(vec![(b"A".to_vec(), Object::Int(1)), (b"A".to_vec(), Object::Int(2))]);
        assert_eq!(dict.get("A").int(), Some(2));
        assert_eq!(*dict.get("B"), Object::Null);
    }

    #[test]
    fn text_strings_are_read_in_their_four_encodings() {
        assert_eq!(text_string(b"\xFE\xFF\x00\xe9"), "é");
        assert_eq!(text_string(b"\xFF\xFE\xe9\x00"), "é");
        assert_eq!(text_string(b"\xEF\xBB\xBF\xC3\xA9"), "é");
        assert_eq!(text_string(b"d\xe9p\xf4t"), "dépôt");
    }
}
