//! Where a tag file is written to: hashed, counted as work, and never larger than what a reader reads.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::BundleError;
use crate::model::work::Work;

/// A writer with a limit. Once a limit is reached every write fails, which is what ends a serialiser or a template half-way;
/// [`Limited::checked`] then says why.
pub(super) struct Limited<'a, W> {
    out: W,
    path: &'a str,
    max: u64,
    written: u64,
    is_full: bool,
    hasher: Sha256,
    work: &'a Work,
}

impl<'a, W: Write> Limited<'a, W> {
    /// At most `max` bytes of the tag file `path` to `out`.
    pub(super) fn new(out: W, path: &'a str, max: u64, work: &'a Work) -> Self {
        Self { out, path, max, written: 0, is_full: false, hasher: Sha256::new(), work }
    }

    /// `result`, or the limit that is the reason for it.
    ///
    /// # Errors
    /// [`BundleError`].
    pub(super) fn checked<T>(&self, result: Result<T, BundleError>) -> Result<T, BundleError> {
        if let Some(why) = self.work.ended() {
            return Err(why.into());
        }
        if self.is_full {
            return Err(BundleError::TooLarge { path: self.path.to_owned(), max: self.max });
        }
        result
    }

    /// Bytes written, and their SHA-256 as hex.
    pub(super) fn finish(self) -> (u64, String) {
        (self.written, hex::encode(self.hasher.finalize()))
    }
}

impl<W: Write> Write for Limited<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.work.read(bytes.len()) {
            return Err(io::Error::other("the work has ended"));
        }
        if self.written.saturating_add(bytes.len() as u64) > self.max {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beyond_the_limit_is_written_and_the_reason_is_told() {
        let (mut kept, work) = (Vec::new(), Work::unbounded());
        let mut out = Limited::new(&mut kept, "report.json", 3, &work);
        let written = out.write_all(b"abc").and_then(|()| out.write_all(b"d")).map_err(BundleError::from);
        assert!(matches!(out.checked(written), Err(BundleError::TooLarge { max: 3, .. })));
        assert_eq!(kept, b"abc");
    }

    #[test]
    fn stopped_work_writes_no_more() {
        let (mut kept, work) = (Vec::new(), Work::unbounded());
        let mut out = Limited::new(&mut kept, "report.json", 30, &work);
        out.write_all(b"abc").unwrap();
        work.stop();
        let written = out.write_all(b"d").map_err(BundleError::from);
        assert!(matches!(out.checked(written), Err(BundleError::Ended(_))));
        assert_eq!(kept, b"abc");
    }
}
