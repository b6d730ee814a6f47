//! The index of a ZIP container: what its central directory really says, before anything is inflated.

use std::io::Read;

use super::Context;
use super::budget::ReadError;

/// A ZIP container held in memory.
#[derive(Debug)]
pub struct ZipIndex<'a> {
    bytes: &'a [u8],
    /// Entries in central-directory order, duplicates included.
    pub entries: Vec<ZipEntry>,
}

/// One entry of the central directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZipEntry {
    /// Position in the central directory.
    pub index: usize,
    /// Raw name, decoded (UTF-8 or CP437), never normalised.
    pub name: String,
    /// Compressed size, from the central directory.
    pub compressed: u64,
    /// Declared size; not to be trusted.
    pub declared: u64,
    /// General-purpose bit 0 or AES extra field.
    pub encrypted: bool,
}

/// Why a container could not be indexed.
#[derive(Debug, thiserror::Error)]
#[error("not a readable ZIP container: {0}")]
pub struct ZipError(pub String);

impl<'a> ZipIndex<'a> {
    /// Reads the central directory.
    ///
    /// # Errors
    /// When no consistent central directory can be found.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ZipError> {
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).map_err(|e| ZipError(e.to_string()))?;
        let mut entries = Vec::new();
        for index in 0..archive.len() {
            let file = archive.by_index_raw(index).map_err(|e| ZipError(e.to_string()))?;
            entries.push(ZipEntry { index, name: file.name().map_err(|e| ZipError(e.to_string()))?.into_owned(), compressed: file.compressed_size(), declared: file.size(), encrypted: file.encrypted() });
        }
        Ok(Self { bytes, entries })
    }

    /// The first entry with this exact name.
    pub fn entry(&self, name: &str) -> Option<&ZipEntry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Inflates one entry within the budget and checks its CRC-32.
    ///
    /// # Errors
    /// [`ReadError::Exceeded`] or [`ReadError::Io`] (damaged, encrypted or unsupported method).
    pub fn read(&self, entry: &ZipEntry, ctx: &mut Context) -> Result<Vec<u8>, ReadError> {
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(self.bytes)).map_err(std::io::Error::other)?;
        let mut file = archive.by_index(entry.index).map_err(std::io::Error::other)?;
        ctx.budget.read_to_end(&mut file as &mut dyn Read)
    }
}
