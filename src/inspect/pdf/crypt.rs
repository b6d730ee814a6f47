//! Encryption (ISO 32000-2 §7.6): can the file be opened without a password, and with which key.
//!
//! The ciphers are lopdf's; only the `/Encrypt` dictionary is handed to it, checked and completed first.

use std::borrow::Cow;
use std::sync::Arc;

use lopdf::EncryptionState;
use lopdf::encryption::crypt_filters::CryptFilter;

use super::object::{Dict, Object};

/// How the content can be reached.
#[derive(Debug)]
pub enum Access {
    /// Not encrypted.
    Plain,
    /// Encrypted, and the empty user password opens it.
    Open(Box<Key>),
    /// A password, a certificate or an unknown scheme stands between the reader and the content.
    Locked {
        /// The security handler, `Standard` for passwords.
        handler: String,
    },
}

/// What decrypts an opened file.
#[derive(Debug)]
pub struct Key {
    file_key: Vec<u8>,
    strings: Arc<dyn CryptFilter>,
    streams: Arc<dyn CryptFilter>,
    metadata: bool,
    /// `/P`: what the owner allows (table 22).
    pub permissions: i64,
}

impl Access {
    /// Tries the empty password on the (resolved, direct) `/Encrypt` dictionary.
    pub fn of(encrypt: &Dict, first_id: &[u8]) -> Self {
        let handler = String::from_utf8_lossy(encrypt.get("Filter").name().unwrap_or(b"?")).into_owned();
        if handler != "Standard" {
            return Self::Locked { handler };
        }
        // A damaged `/Length` must not lock an honest file out: readers fall back to the usual lengths.
        let version = encrypt.get("V").int().unwrap_or(0);
        let lengths: &[Option<i64>] = match version {
            1 => &[Some(40)],
            4 => &[Some(128)],
            5 => &[Some(256)],
            _ => &[None, Some(128), Some(40)],
        };
        for length in lengths {
            if let Some(key) = open(encrypt, first_id, *length) {
                return Self::Open(Box::new(key));
            }
        }
        Self::Locked { handler }
    }
}

fn open(encrypt: &Dict, first_id: &[u8], length: Option<i64>) -> Option<Key> {
    let permissions = encrypt.get("P").int()?;
    // Shorter verifiers than the standard's would be read past their end.
    let verifier = if encrypt.get("R").int()? >= 5 { 48 } else { 32 };
    if ["O", "U"].iter().any(|key| encrypt.get(key).string().is_none_or(|s| s.len() < verifier)) {
        return None;
    }
    let mut dict = to_lopdf(encrypt, 0);
    if let Some(length) = length {
        dict.set("Length", length);
    }
    let mut document = lopdf::Document::new();
    document.objects.insert((1, 0), lopdf::Object::Dictionary(dict));
    document.trailer.set("Encrypt", lopdf::Object::Reference((1, 0)));
    let id = lopdf::Object::string_literal(first_id.to_vec());
    document.trailer.set("ID", vec![id.clone(), id]);
    let state = EncryptionState::decode(&document, "").ok()?;
    Some(Key {
        file_key: state.file_encryption_key().to_vec(),
        strings: state.get_string_filter(),
        streams: state.get_stream_filter(),
        metadata: state.encrypt_metadata(),
        permissions,
    })
}

fn to_lopdf(dict: &Dict, depth: u32) -> lopdf::Dictionary {
    let mut copy = lopdf::Dictionary::new();
    for (key, value) in &dict.0 {
        let value = match value {
            Object::Bool(b) => lopdf::Object::Boolean(*b),
            Object::Int(n) => lopdf::Object::Integer(*n),
            Object::Str(s) => lopdf::Object::string_literal(s.clone()),
            Object::Name(n) => lopdf::Object::Name(n.clone()),
            Object::Dict(inner) if depth < 3 => lopdf::Object::Dictionary(to_lopdf(inner, depth + 1)),
            _ => continue,
        };
        copy.set(key.clone(), value);
    }
    copy
}

impl Key {
    /// Decrypts the strings of an object, in place. What does not decrypt stays as it is.
    pub fn decrypt_strings(&self, object: &mut Object, num: u32, generation: u16) {
        let Ok(key) = self.strings.compute_key(&self.file_key, (num, generation)) else { return };
        self.each_string(object, &key);
    }

    // Nesting is bounded by the lexer.
    fn each_string(&self, object: &mut Object, key: &[u8]) {
        match object {
            Object::Str(string) => {
                if let Ok(plain) = self.strings.decrypt(key, string) {
                    *string = plain;
                }
            }
            Object::Array(items) => items.iter_mut().for_each(|item| self.each_string(item, key)),
            Object::Dict(dict) => self.each_entry(dict, key),
            Object::Stream(stream) => self.each_entry(&mut stream.dict, key),
            _ => {}
        }
    }

    fn each_entry(&self, dict: &mut Dict, key: &[u8]) {
        // The signature itself is never encrypted (§7.6.2).
        let signature = dict.has("ByteRange");
        for (name, value) in &mut dict.0 {
            if !(signature && name == b"Contents") {
                self.each_string(value, key);
            }
        }
    }

    /// Decrypts the data of a stream.
    pub fn decrypt_stream<'a>(&self, dict: &Dict, num: u32, generation: u16, data: &'a [u8]) -> Cow<'a, [u8]> {
        let exempt = dict.is("Type", "XRef") || (dict.is("Type", "Metadata") && !self.metadata) || has_identity_filter(dict);
        if exempt {
            return Cow::Borrowed(data);
        }
        // AES data is whole blocks; bytes that hang over are a wrong `/Length` or a line end.
        let whole = if self.streams.method().starts_with(b"AES") { data.len() / 16 * 16 } else { data.len() };
        let plain = self.streams.compute_key(&self.file_key, (num, generation));
        let plain = plain.and_then(|key| self.streams.decrypt(&key, data.get(..whole).unwrap_or_default()));
        plain.map_or(Cow::Borrowed(data), Cow::Owned)
    }
}

/// `/Filter [/Crypt …]` whose parameters name no filter, or `Identity`: the stream is in clear.
fn has_identity_filter(dict: &Dict) -> bool {
    let filter = dict.get("Filter");
    let crypt = filter.is_name("Crypt") || filter.items().iter().any(|f| f.is_name("Crypt"));
    let params = dict.get("DecodeParms");
    let params = params.dict().or_else(|| params.items().first().and_then(Object::dict));
    crypt && params.is_none_or(|p| !p.has("Name") || p.is("Name", "Identity"))
}
