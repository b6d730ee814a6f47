//! Ed25519 keys as JSON Web Keys: the private one that seals, the public ones that verify.
//!
//! Goals:
//! 1. A key's id follows from the key (RFC 7638 thumbprint): nobody chooses it, no two keys share one, and a stated
//!    id that differs is refused.
//! 2. Rotation without ceremony: a [`KeySet`] holds old and new public keys, and each seal names its own.
//! 3. A private key is hard to leak: not from a file that others can read, not through `Debug`, not through an error
//!    message, not published in a key set by mistake; its text is wiped from memory after reading. (The expanded key
//!    inside `ring` lives as long as [`SealKey`] and is not wiped.)
//!
//! Source: RFC 7517 (JWK), RFC 7638 (thumbprint), RFC 8037 (OKP keys).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom as _;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::model::text::display_safe;

/// The variable of the environment that may hold the private key (a JWK, not a path).
pub const VARIABLE: &str = "GREFFIER_SEAL_KEY";
/// Longest key or key set that is read, bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Length of an Ed25519 seed and of a public key, bytes (RFC 8032, section 5.1).
const KEY_BYTES: usize = 32;

/// A private key: signs seals and receipts.
pub struct SealKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; KEY_BYTES]>,
    public: PublicKey,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("kid", &self.public.kid).field("d", &format_args!("***")).finish()
    }
}

impl SealKey {
    /// A new key, from the system's random numbers.
    ///
    /// # Errors
    /// [`KeyError::Random`] where the system gives none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        ring::rand::SystemRandom::new().fill(seed.as_mut()).map_err(|_| KeyError::Random)?;
        Self::from_seed(seed)
    }

    fn from_seed(seed: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| KeyError::Private)?;
        let mut x = [0; KEY_BYTES];
        x.copy_from_slice(pair.public_key().as_ref());
        Ok(Self { pair, seed, public: PublicKey::new(x) })
    }

    /// Reads a private JWK: `kty`, `crv`, `x` and `d`. What else it states (`kid`, `use`, `alg`, `key_ops`) must fit.
    ///
    /// # Errors
    /// [`KeyError`]; no message holds any part of the key.
    pub fn from_jwk(json: &str) -> Result<Self, KeyError> {
        let jwk = Jwk::parse(json)?;
        let public = jwk.public("sign")?.ok_or(KeyError::NotEd25519)?;
        let Some(d) = &jwk.d else { return Err(KeyError::PublicOnly) };
        let mut seed = Zeroizing::new([0; KEY_BYTES]);
        let written = URL_SAFE_NO_PAD.decode_slice(d.as_bytes(), seed.as_mut()).map_err(|_| KeyError::Private)?;
        if written != KEY_BYTES {
            return Err(KeyError::Private);
        }
        let key = Self::from_seed(seed)?;
        if key.public.x == public.x { Ok(key) } else { Err(KeyError::Inconsistent) }
    }

    /// Reads a private JWK from a file that only its owner can read, and that belongs to this user or to root.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let (text, metadata) = read(path)?;
        only_owner(path, metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw())?;
        Self::from_jwk(&text).map_err(|e| e.at(path))
    }

    /// The key in [`VARIABLE`], where that is set. Set and empty is an error: a secret that was not mounted must not
    /// pass for the wish not to seal.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_environment() -> Result<Option<Self>, KeyError> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let text = value.into_string().map(Zeroizing::new).map_err(|_| KeyError::Json { line: 1, column: 1 }.of(VARIABLE))?;
        if text.trim().is_empty() {
            return Err(KeyError::Empty(VARIABLE));
        }
        Self::from_jwk(&text).map(Some).map_err(|e| e.of(VARIABLE))
    }

    /// The key of `file`, or else of the environment.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn find(file: Option<&Path>) -> Result<Option<Self>, KeyError> {
        match file {
            Some(path) => Self::from_file(path).map(Some),
            None => Self::from_environment(),
        }
    }

    /// Thumbprint of the public key.
    pub fn kid(&self) -> &str {
        &self.public.kid
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private JWK, one line. Wiped when dropped; whoever writes it out decides who can read it.
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let d = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.seed.as_ref()));
        let PublicKey { kid, x } = &self.public;
        // Base64url needs no escaping; made at its final size, so that no copy is left behind by growing.
        let mut json = Zeroizing::new(String::with_capacity(256));
        for part in [
            r#"{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":""#,
            kid,
            r#"","x":""#,
            &URL_SAFE_NO_PAD.encode(x),
            r#"","d":""#,
            &d,
            r#""}"#,
        ] {
            json.push_str(part);
        }
        json
    }

    /// Writes the private JWK to a new file that only its owner can read. Never overwrites.
    ///
    /// # Errors
    /// What the file system answers; `AlreadyExists` where something is there.
    pub fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(self.to_jwk().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// The Ed25519 signature of `message` (RFC 8032; deterministic).
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: String,
    x: [u8; KEY_BYTES],
}

impl PublicKey {
    fn new(x: [u8; KEY_BYTES]) -> Self {
        // RFC 7638, section 3: required members only, in lexicographic order, no white space.
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(x));
        Self { kid: URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)), x }
    }

    /// Thumbprint (RFC 7638): base64url of a SHA-256.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.x).verify(message, signature).is_ok()
    }
}

/// Public keys by thumbprint: a JWKS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet {
    keys: BTreeMap<String, PublicKey>,
}

impl KeySet {
    /// Reads a JWKS (RFC 7517, section 5). Keys of other types and purposes are passed over, as section 5 asks;
    /// a set without any key of ours, or with a private or shared key in it, is refused.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_jwks(json: &str) -> Result<Self, KeyError> {
        let Jwks { keys } = serde_json::from_str(json).map_err(KeyError::json)?;
        let mut set = Self::default();
        for jwk in &keys {
            if jwk.d.is_some() || jwk.k.is_some() {
                return Err(KeyError::PrivatePublished);
            }
            if let Some(key) = jwk.public("verify")? {
                set.add(key);
            }
        }
        if set.keys.is_empty() { Err(KeyError::NoKeys) } else { Ok(set) }
    }

    /// Reads a JWKS file.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::from_jwks(&read(path)?.0).map_err(|e| e.at(path))
    }

    /// The public keys of a file of any kind: a JWKS, a public JWK, or a private JWK (which only its owner may read).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_any_file(path: &Path) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Kind {
            keys: Option<serde::de::IgnoredAny>,
            d: Option<serde::de::IgnoredAny>,
        }
        let (text, metadata) = read(path)?;
        let kind: Kind = serde_json::from_str(&text).map_err(KeyError::json).map_err(|e| e.at(path))?;
        if kind.keys.is_some() {
            return Self::from_jwks(&text).map_err(|e| e.at(path));
        }
        let mut set = Self::default();
        set.add(if kind.d.is_some() {
            only_owner(path, metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw())?;
            SealKey::from_jwk(&text).map_err(|e| e.at(path))?.public
        } else {
            let key = Jwk::parse(&text).and_then(|jwk| jwk.public("verify"));
            key.and_then(|k| k.ok_or(KeyError::NotEd25519)).map_err(|e| e.at(path))?
        });
        Ok(set)
    }

    /// Adds a key; the same key twice is one.
    pub fn add(&mut self, key: PublicKey) {
        self.keys.insert(key.kid.clone(), key);
    }

    /// Adds every key of `other`.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }

    /// The key with this thumbprint.
    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.get(kid)
    }

    /// Thumbprints, in order.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The JWKS to publish (`application/jwk-set+json`), in the order of thumbprints.
    pub fn to_jwks(&self) -> String {
        #[derive(Serialize)]
        struct Public<'a> {
            kty: &'static str,
            crv: &'static str,
            #[serde(rename = "use")]
            purpose: &'static str,
            alg: &'static str,
            kid: &'a str,
            x: String,
        }
        let keys: Vec<_> = self
            .keys
            .values()
            .map(|k| Public { kty: "OKP", crv: "Ed25519", purpose: "sig", alg: "EdDSA", kid: &k.kid, x: URL_SAFE_NO_PAD.encode(k.x) })
            .collect();
        // Plain text members only: this cannot fail.
        serde_json::to_string_pretty(&BTreeMap::from([("keys", keys)])).unwrap_or_default()
    }
}

impl FromIterator<PublicKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut set = Self::default();
        keys.into_iter().for_each(|k| set.add(k));
        set
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// The members of a JWK that matter here; others are ignored, as RFC 7517, section 4 demands. Secret members are
/// wiped when dropped.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    d: Option<Secret>,
    k: Option<Secret>,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    key_ops: Option<Vec<String>>,
}

struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|s| Self(Zeroizing::new(s)))
    }
}

impl std::ops::Deref for Secret {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Jwk {
    fn parse(json: &str) -> Result<Self, KeyError> {
        serde_json::from_str(json).map_err(KeyError::json)
    }

    /// The public key, or `None` where this is a key of another kind or not meant for `operation`.
    fn public(&self, operation: &str) -> Result<Option<PublicKey>, KeyError> {
        let fits = self.kty == "OKP"
            && self.crv.as_deref() == Some("Ed25519")
            && self.purpose.as_deref().is_none_or(|u| u == "sig")
            // RFC 9864 gives the algorithm its full name.
            && self.alg.as_deref().is_none_or(|a| matches!(a, "EdDSA" | "Ed25519"))
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|o| o == operation));
        if !fits {
            return Ok(None);
        }
        let mut x = [0; KEY_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(self.x.as_deref().unwrap_or_default(), &mut x) {
            Ok(KEY_BYTES) => {}
            _ => return Err(KeyError::Public),
        }
        let key = PublicKey::new(x);
        match &self.kid {
            Some(stated) if *stated != key.kid => Err(KeyError::Thumbprint { stated: display_safe(stated, 80), thumbprint: key.kid }),
            _ => Ok(Some(key)),
        }
    }
}

/// Reads a file of at most [`MAX_FILE`] bytes, and tells what the open descriptor belongs to: a name could be given to
/// another file in between. Named pipes (`<(…)` of a shell) are files too.
fn read(path: &Path) -> Result<(Zeroizing<String>, Metadata), KeyError> {
    let unreadable = |source: io::Error| KeyError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(io::Error::other("larger than any key")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok((Zeroizing::new(text.to_owned()), metadata)),
        Err(_) => Err(KeyError::Json { line: 1, column: 1 }.at(path)),
    }
}

/// Refuses a private key that somebody else than `user` or root can read or exchange.
pub(super) fn only_owner(path: &Path, mode: u32, owner: u32, user: u32) -> Result<(), KeyError> {
    let mode = mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    if owner != user && owner != 0 {
        return Err(KeyError::Owner { path: path.to_owned(), owner, user });
    }
    Ok(())
}

/// Why a key was refused. No message holds any part of a private key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Which file or variable, around the reason.
    #[error("{inner} (in {place})")]
    In {
        /// File or variable.
        place: String,
        /// Why.
        inner: Box<Self>,
    },
    /// The file cannot be read.
    #[error("SEAL-KEY-UNREADABLE: {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// Others can read or write the private key.
    #[error("SEAL-KEY-MODE: {path} has mode {mode:04o}: others than its owner have access; `chmod 600` it")]
    Mode {
        /// Which.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// Somebody else owns the private key, and can change it.
    #[error("SEAL-KEY-OWNER: {path} belongs to user {owner}, not to user {user} or root")]
    Owner {
        /// Which.
        path: PathBuf,
        /// Owner of the file.
        owner: u32,
        /// This process.
        user: u32,
    },
    /// Set and empty.
    #[error("SEAL-KEY-EMPTY: {0} is set and empty: give it a private JWK or unset it")]
    Empty(&'static str),
    /// Not JSON, or not with these members. (What the parser says may quote the key: only the place is told.)
    #[error("SEAL-KEY-JSON: not a JSON Web Key, or not a key set where one is expected: line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// RSA, P-256, encryption…
    #[error("SEAL-KEY-TYPE: not an Ed25519 key for signatures (`kty` OKP, `crv` Ed25519, `use` sig, `alg` EdDSA)")]
    NotEd25519,
    /// `x` is not 32 bytes.
    #[error("SEAL-KEY-PUBLIC: `x` is not 32 bytes in base64url without padding")]
    Public,
    /// `d` is not 32 bytes.
    #[error("SEAL-KEY-PRIVATE: `d` is not 32 bytes in base64url without padding")]
    Private,
    /// No `d` where one is needed.
    #[error("SEAL-KEY-PUBLIC-ONLY: a private key (`d`) is needed to sign")]
    PublicOnly,
    /// `x` does not belong to `d`.
    #[error("SEAL-KEY-INCONSISTENT: `x` is not the public key of `d`")]
    Inconsistent,
    /// `kid` is not the thumbprint.
    #[error("SEAL-KEY-THUMBPRINT: `kid` is `{stated}`, the key's thumbprint (RFC 7638) is `{thumbprint}`")]
    Thumbprint {
        /// As stated (untrusted).
        stated: String,
        /// As computed.
        thumbprint: String,
    },
    /// A key set with secrets in it.
    #[error("SEAL-KEYS-PRIVATE: the key set holds a private or shared key (`d`, `k`): it must be treated as known to everybody")]
    PrivatePublished,
    /// Nothing to verify with.
    #[error("SEAL-KEYS-EMPTY: the key set holds no Ed25519 key for signatures")]
    NoKeys,
    /// No random numbers.
    #[error("SEAL-KEY-RANDOM: the system gives no random numbers")]
    Random,
}

impl KeyError {
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
    fn json(e: serde_json::Error) -> Self {
        Self::Json { line: e.line(), column: e.column() }
    }

    fn at(self, path: &Path) -> Self {
        self.of(&path.display().to_string())
    }

    fn of(self, place: &str) -> Self {
        match self {
            // These name their place themselves.
            Self::Unreadable { .. } | Self::Mode { .. } | Self::Owner { .. } | Self::Empty(_) | Self::In { .. } => self,
            other => Self::In { place: place.to_owned(), inner: Box::new(other) },
        }
    }

    /// The stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::In { inner, .. } => inner.code(),
            Self::Unreadable { .. } => "SEAL-KEY-UNREADABLE",
            Self::Mode { .. } => "SEAL-KEY-MODE",
            Self::Owner { .. } => "SEAL-KEY-OWNER",
            Self::Empty(_) => "SEAL-KEY-EMPTY",
            Self::Json { .. } => "SEAL-KEY-JSON",
            Self::NotEd25519 => "SEAL-KEY-TYPE",
            Self::Public => "SEAL-KEY-PUBLIC",
            Self::Private => "SEAL-KEY-PRIVATE",
            Self::PublicOnly => "SEAL-KEY-PUBLIC-ONLY",
            Self::Inconsistent => "SEAL-KEY-INCONSISTENT",
            Self::Thumbprint { .. } => "SEAL-KEY-THUMBPRINT",
            Self::PrivatePublished => "SEAL-KEYS-PRIVATE",
            Self::NoKeys => "SEAL-KEYS-EMPTY",
            Self::Random => "SEAL-KEY-RANDOM",
        }
    }
}
