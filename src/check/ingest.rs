//! Bytes in: hashed and counted in one pass, in constant memory.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use sha2::{Digest as _, Sha256};

/// Bytes read at once: large enough for full hashing speed, small enough to stay in the cache.
const CHUNK: usize = 256 * 1024;

/// What one pass over the bytes gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Bytes read.
    pub size: u64,
}

/// Hashes `file` from its start and hands it back rewound.
///
/// # Errors
/// What reading or seeking gives.
pub fn digest(file: File) -> io::Result<(File, Digest)> {
    digest_unless(file, &|| false)
}

/// As [`digest`], unless `stopped` says so meanwhile.
///
/// # Errors
/// What reading or seeking gives; [`io::ErrorKind::Other`] where it was stopped.
pub fn digest_unless(mut file: File, stopped: &dyn Fn() -> bool) -> io::Result<(File, Digest)> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut chunk = vec![0u8; CHUNK];
    loop {
        if stopped() {
            return Err(io::Error::other("stopped"));
        }
        let n = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&chunk[..n]);
        size += n as u64;
    }
    file.rewind()?;
    Ok((file, Digest { sha256: hex::encode(hasher.finalize()), size }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_digest_is_that_of_the_whole_file_wherever_it_was_left() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let (_, digest) = digest(file).unwrap();
        // FIPS 180-4, example of one block.
        assert_eq!(digest.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.size, 3);
    }
}
