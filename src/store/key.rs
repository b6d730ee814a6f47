//! Keys of objects: what a job may name, and what we derive.

use std::fmt;
use std::str::FromStr;

/// Longest key, bytes (Amazon S3 user guide, « Object key naming guidelines »).
pub const MAX_KEY: usize = 1024;

/// A key that is safe in every fitting: relative, `/` between segments, no empty, `.` or `..` segment, no control
/// character, no back slash, UTF-8, at most [`MAX_KEY`] bytes, segments of at most 255 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or too long.
    #[error("an object key has 1 to {MAX_KEY} bytes, and segments of at most 255")]
    Length,
    /// Absolute, or a segment that is empty, `.` or `..`.
    #[error("an object key is relative, without empty, `.` or `..` segments")]
    Path,
    /// A control character or a back slash.
    #[error("an object key has no control character and no back slash")]
    Character,
}

impl Key {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key that this program makes up itself.
    ///
    /// # Panics
    /// Never for what the callers in this program pass: literals and hexadecimal digests.
    #[track_caller]
    pub fn ours(text: impl Into<String>) -> Self {
        let text = text.into();
        assert!(check(&text).is_ok(), "not a key: {text:?}");
        Self(text)
    }
}

fn check(text: &str) -> Result<(), KeyError> {
    if text.is_empty() || text.len() > MAX_KEY || text.split('/').any(|s| s.len() > 255) {
        return Err(KeyError::Length);
    }
    if text.split('/').any(|s| matches!(s, "" | "." | "..")) {
        return Err(KeyError::Path);
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(KeyError::Character);
    }
    Ok(())
}

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        check(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::model::text::display_safe(&self.0, MAX_KEY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_leave_a_store_or_a_terminal_line_is_no_key() {
        for (text, why) in [
            ("", KeyError::Length),
            ("/etc/passwd", KeyError::Path),
            ("a//b", KeyError::Path),
            ("a/../b", KeyError::Path),
            ("a/.", KeyError::Path),
            ("a/", KeyError::Path),
            ("a\nb", KeyError::Character),
            ("a\\b", KeyError::Character),
            ("a\u{0}", KeyError::Character),
        ] {
            assert_eq!(text.parse::<Key>(), Err(why), "{text:?}");
        }
        assert_eq!("x".repeat(256).parse::<Key>(), Err(KeyError::Length));
        assert!("vault/été 1.pdf".parse::<Key>().is_ok());
    }

    proptest! {
        #[test]
        fn a_key_joined_to_a_folder_stays_inside(text in ".{0,80}") {
            if let Ok(key) = text.parse::<Key>() {
                let path = std::path::Path::new("/base").join(key.as_str());
                prop_assert!(path.starts_with("/base"));
                prop_assert!(path.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
            }
        }
    }
}
