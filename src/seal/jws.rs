//! JWS in compact form (RFC 7515), the one profile that seals and receipts use.
//!
//! Header: exactly `alg` (`EdDSA`, RFC 8037), `kid` (RFC 7638 thumbprint) and `typ`. RFC 7515 lets a reader ignore
//! members it does not know; this one refuses them, because greffier never writes any and every known attack on
//! JWS readers starts with a header that says more than it should.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{KeySet, SealError, SealKey};
use crate::model::text::display_safe;

/// The only algorithm. RFC 9864 also names it `Ed25519`; libraries in the field know this name.
const ALGORITHM: &str = "EdDSA";
/// Header members that carry or point at a key (RFC 7515, section 4.1).
const KEY_MEMBERS: [&str; 6] = ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"];
/// Characters of an untrusted value that an error shows.
const SHOWN: usize = 80;

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

/// Signs `payload` as JSON.
pub(crate) fn sign<T: Serialize>(typ: &'static str, payload: &T, key: &SealKey, max: usize) -> Result<String, SealError> {
    let json = |e: serde_json::Error| SealError::Payload(e.to_string());
    let header = serde_json::to_vec(&Header { alg: ALGORITHM, kid: key.kid(), typ }).map_err(json)?;
    let payload = serde_json::to_vec(payload).map_err(json)?;
    let mut compact = URL_SAFE_NO_PAD.encode(header);
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut compact);
    let signature = key.sign(compact.as_bytes());
    compact.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
    // What is written can be read again.
    if compact.len() > max { Err(SealError::TooLarge { bytes: compact.len(), max }) } else { Ok(compact) }
}

/// A JWS whose signature holds.
pub(super) struct Opened {
    /// The key that signed.
    pub(super) kid: String,
    bytes: Vec<u8>,
}

/// Reads and verifies. An end of line after the last part is allowed: editors add it, and it is no part of the JWS.
pub(super) fn open(compact: &str, typ: &'static str, max: usize, keys: &KeySet) -> Result<Opened, SealError> {
    if compact.len() > max {
        return Err(SealError::TooLarge { bytes: compact.len(), max });
    }
    let compact = compact.strip_suffix('\n').map_or(compact, |c| c.strip_suffix('\r').unwrap_or(c));
    let Some((signed, signature)) = compact.rsplit_once('.') else { return Err(SealError::Form) };
    let Some((header, payload)) = signed.split_once('.') else { return Err(SealError::Form) };
    if [header, payload].iter().any(|p| p.is_empty()) || payload.contains('.') {
        return Err(SealError::Form);
    }
    let Members(mut members) = serde_json::from_slice(&decode(header, "header")?).map_err(|_| SealError::Header)?;
    if members.contains_key("crit") {
        return Err(SealError::Critical);
    }
    if let Some(name) = KEY_MEMBERS.into_iter().find(|n| members.contains_key(*n)) {
        return Err(SealError::HeaderKey(name.to_owned()));
    }
    let mut take = |name: &str| match members.remove(name) {
        None => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(SealError::Header),
    };
    let (alg, found_typ, kid) = (take("alg")?, take("typ")?, take("kid")?);
    if alg.as_deref() != Some(ALGORITHM) {
        return Err(SealError::Algorithm(shown(alg.as_deref().unwrap_or("none"))));
    }
    if let Some(name) = members.keys().next() {
        return Err(SealError::HeaderMember(shown(name)));
    }
    if found_typ.as_deref() != Some(typ) {
        return Err(SealError::Type { expected: typ, found: shown(found_typ.as_deref().unwrap_or_default()) });
    }
    let kid = kid.ok_or(SealError::KeyId)?;
    let key = keys.get(&kid).ok_or_else(|| SealError::KeyUnknown(shown(&kid)))?;
    let signature = decode(signature, "signature")?;
    let bytes = decode(payload, "payload")?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(SealError::Signature);
    }
    Ok(Opened { kid, bytes })
}

impl Opened {
    /// The signed content, which must be of this schema. The schema is read first, so that what a later version
    /// wrote is named as such instead of as malformed.
    pub(super) fn payload<T: DeserializeOwned>(&self, schema: &'static str) -> Result<T, SealError> {
        #[derive(Deserialize)]
        struct Kind {
            schema: String,
        }
        let malformed = |e: serde_json::Error| SealError::Payload(shown(&e.to_string()));
        let kind: Kind = serde_json::from_slice(&self.bytes).map_err(malformed)?;
        if kind.schema != schema {
            return Err(SealError::Schema { expected: schema, found: shown(&kind.schema) });
        }
        serde_json::from_slice(&self.bytes).map_err(malformed)
    }
}

fn shown(untrusted: &str) -> String {
    display_safe(untrusted, SHOWN)
}

/// Base64url as RFC 7515, section 2 wants it. The engine refuses padding and non-zero bits beyond the last byte,
/// so that one signature has one spelling.
fn decode(part: &str, name: &'static str) -> Result<Vec<u8>, SealError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| SealError::Base64(name))
}

/// A JSON object whose member names are distinct (RFC 7515, section 4); `serde_json` alone would take the last.
struct Members(BTreeMap<String, serde_json::Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Distinct;
        impl<'de> Visitor<'de> for Distinct {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, serde_json::Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Distinct)
    }
}
