//! RFC 3161: asking a time stamping authority to say that a seal existed at a moment.
//!
//! A seal proves who, not when: whoever holds the key can sign again tomorrow. A time stamp over the seal file, by an
//! authority that the reader trusts, proves that it existed before, even if the key leaks later. greffier writes the
//! request; the operator sends it and keeps the answer, and `openssl ts` verifies it (`docs/seal.md`), because trust
//! in an authority is a matter of certificates that this program should not decide.

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
}
