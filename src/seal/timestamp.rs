//! RFC 3161: asking a time stamping authority to say that a seal existed at a moment.
//!
//! A seal proves who, not when: whoever holds the key can sign again tomorrow. A time stamp over the seal file, by an
//! authority that the reader trusts, proves that it existed before, even if the key leaks later. greffier writes the
//! request; the operator sends it and keeps the answer. [`check`] reads the answer: granted, of this seal, at which
//! moment. The authority's signature is verified by `openssl ts` (`docs/seal.md`), because trust in an authority is a
//! matter of certificates that this program should not decide.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// `TimeStampReq` in DER up to the digest (RFC 3161, section 2.4.1):
/// `SEQUENCE { version 1, messageImprint SEQUENCE { SEQUENCE { sha-256, NULL }, OCTET STRING (32) … } … }`.
const BEFORE_DIGEST: [u8; 24] = [
    0x30, 0x39, 0x02, 0x01, 0x01, 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];
/// `certReq TRUE`: the answer brings the authority's certificate along.
const AFTER_DIGEST: [u8; 3] = [0x01, 0x01, 0xff];

/// The request (`application/timestamp-query`) for the SHA-256 of `bytes`, which is the content of `NAME.zip.jws`.
///
/// It holds no nonce: the answer is matched by its digest, and the same seal gives the same request.
pub fn request(bytes: &[u8]) -> Vec<u8> {
    [&BEFORE_DIGEST[..], Sha256::digest(bytes).as_slice(), &AFTER_DIGEST[..]].concat()
}

/// SHA-256 in an `AlgorithmIdentifier`: the OID's content.
const SHA256: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// `id-signedData`.
const SIGNED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `id-ct-TSTInfo`.
const TST_INFO: [u8; 11] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
/// Longest answer that is read, bytes: a token with a chain of certificates has some five thousand.
pub const MAX_ANSWER: usize = 256 * 1024;

/// What an authority's answer states. **Its signature is not verified here**: that takes the authority's certificates
/// and the reader's trust in them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Stated {
    /// The moment it states.
    pub at: Timestamp,
    /// Its serial number, hex.
    pub serial: String,
}

/// Why an answer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Not DER, or not a `TimeStampResp` with a token.
    #[error("TIMESTAMP-FORM: not a time stamp answer: {0} cannot be read")]
    Form(&'static str),
    /// Longer than any real one.
    #[error("TIMESTAMP-TOO-LARGE: {bytes} bytes, at most {MAX_ANSWER} are read")]
    TooLarge {
        /// Size, bytes.
        bytes: usize,
    },
    /// The authority refused.
    #[error("TIMESTAMP-NOT-GRANTED: the authority answered with status {0}, not with a time stamp")]
    NotGranted(u8),
    /// Another digest than the one that was asked for.
    #[error("TIMESTAMP-ALGORITHM: the time stamp is over another digest than SHA-256")]
    Algorithm,
    /// A time stamp of something else.
    #[error("TIMESTAMP-OTHER-SEAL: the time stamp is of {stamped}, the seal is {sealed}")]
    OtherSeal {
        /// SHA-256 that was stamped, hex.
        stamped: String,
        /// SHA-256 of the seal file, hex.
        sealed: String,
    },
}

impl TimestampError {
    /// The stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form(_) => "TIMESTAMP-FORM",
            Self::TooLarge { .. } => "TIMESTAMP-TOO-LARGE",
            Self::NotGranted(_) => "TIMESTAMP-NOT-GRANTED",
            Self::Algorithm => "TIMESTAMP-ALGORITHM",
            Self::OtherSeal { .. } => "TIMESTAMP-OTHER-SEAL",
        }
    }
}

/// Checks that `answer` (`application/timestamp-reply`) grants a time stamp, and that it is over `bytes`, the content of
/// `NAME.zip.jws`.
///
/// # Errors
/// [`TimestampError`].
pub fn check(answer: &[u8], bytes: &[u8]) -> Result<Stated, TimestampError> {
    use TimestampError::Form;
    if answer.len() > MAX_ANSWER {
        return Err(TimestampError::TooLarge { bytes: answer.len() });
    }
    let mut outside = Der(answer);
    let mut response = Der(outside.take(0x30).ok_or(Form("the answer"))?);
    let mut info = Der(response.take(0x30).ok_or(Form("the status"))?);
    // PKIStatus: 0 granted, 1 granted with modifications (which the comparison below would tell).
    match info.take(0x02) {
        Some([0 | 1]) => {}
        Some([status]) => return Err(TimestampError::NotGranted(*status)),
        _ => return Err(Form("the status")),
    }
    let mut token = Der(response.take(0x30).ok_or(Form("the token"))?);
    if !response.0.is_empty() || !outside.0.is_empty() || token.take(0x06) != Some(&SIGNED_DATA) {
        return Err(Form("the token"));
    }
    let mut signed = token.take(0xa0).and_then(|inside| Der(inside).take(0x30)).map(Der).ok_or(Form("the signed data"))?;
    let content = signed.take(0x02).and_then(|_| signed.take(0x31)).and_then(|_| signed.take(0x30));
    let mut content = Der(content.ok_or(Form("the signed data"))?);
    if content.take(0x06) != Some(&TST_INFO) {
        return Err(Form("the kind of content"));
    }
    let inside = content.take(0xa0).and_then(|octets| Der(octets).take(0x04)).and_then(|der| Der(der).take(0x30));
    let mut stamp = Der(inside.ok_or(Form("the time stamp"))?);
    let imprint = stamp.take(0x02).and_then(|_| stamp.take(0x06)).and_then(|_| stamp.take(0x30));
    let mut imprint = Der(imprint.ok_or(Form("what was stamped"))?);
    let mut algorithm = Der(imprint.take(0x30).ok_or(Form("what was stamped"))?);
    if algorithm.take(0x06) != Some(&SHA256) {
        return Err(TimestampError::Algorithm);
    }
    let stamped = imprint.take(0x04).ok_or(Form("what was stamped"))?;
    let sealed = Sha256::digest(bytes);
    if stamped != sealed.as_slice() {
        return Err(TimestampError::OtherSeal { stamped: hex::encode(stamped), sealed: hex::encode(sealed) });
    }
    let serial = hex::encode(stamp.take(0x02).ok_or(Form("the serial number"))?);
    let at = stamp.take(0x18).and_then(moment).ok_or(Form("the moment"))?;
    Ok(Stated { at, serial })
}

/// `GeneralizedTime` as RFC 3161 wants it: `20261124235959Z`, with a fraction or without.
fn moment(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_suffix('Z')?;
    let (whole, fraction) = digits.split_once('.').map_or((digits, ""), |(whole, fraction)| (whole, fraction));
    if whole.len() != 14 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to);
    let point = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    let rfc3339 = format!("{}-{}-{}T{}:{}:{}{point}Z", part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?);
    rfc3339.parse().ok()
}

/// Elements of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element if it has this tag; lengths are definite and of four bytes at most.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            long @ 0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        if *found != tag {
            return None;
        }
        self.0 = rest;
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_one_that_openssl_writes() {
        // printf abc >abc; openssl ts -query -data abc -sha256 -no_nonce -cert
        let openssl = "30390201013031300d060960864801650304020105000420\
                       ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0101ff";
        assert_eq!(hex::encode(request(b"abc")), openssl);
    }

    #[test]
    fn moments_are_read_as_authorities_write_them() {
        assert_eq!(moment(b"20261124235959Z").unwrap().to_string(), "2026-11-24T23:59:59Z");
        assert_eq!(moment(b"20261124235959.25Z").unwrap().to_string(), "2026-11-24T23:59:59.25Z");
        for wrong in ["20261124235959", "2026112423595Z", "20261324235959Z", "20261124235959.Zé", "2026112423595é"] {
            assert_eq!(moment(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_is_told_from_an_answer_and_from_noise() {
        // SEQUENCE { SEQUENCE { INTEGER 2 } }
        assert_eq!(check(&[0x30, 5, 0x30, 3, 2, 1, 2], b"abc"), Err(TimestampError::NotGranted(2)));
        assert_eq!(check(b"<html>", b"abc").unwrap_err().code(), "TIMESTAMP-FORM");
        assert_eq!(check(&[0x30; MAX_ANSWER + 1], b"abc").unwrap_err().code(), "TIMESTAMP-TOO-LARGE");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_answers_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = check(&bytes, b"abc");
            let _ = check(&[&[0x30, 0x82, 0, bytes.len() as u8][..], &bytes].concat(), b"abc");
        }
    }
}
