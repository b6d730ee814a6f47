//! Compound files ([MS-CFB]) read tolerantly: what can be read is read, what is wrong is told apart.
//!
//! Goals:
//! 1. Real files bend the rules (a last sector cut short, stale FAT counts, a directory that is no
//!    red-black tree): none of that may make an honest document look damaged. What a reader truly needs
//!    (the chains of the streams it opens) is checked strictly, by the stream.
//! 2. Every walk is bounded by the number of sectors or entries that the bytes really hold; loops and
//!    cross-links end it.

use crate::inspect::budget::{Budget, Exceeded};

/// First eight bytes of a compound file (§2.2).
pub const MAGIC: [u8; 8] = [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];

/// Largest regular sector number (§2.1 MAXREGSECT); above are markers.
const MAX_REGULAR_SECTOR: u32 = 0xFFFF_FFFA;
const END_OF_CHAIN: u32 = 0xFFFF_FFFE;
const NO_STREAM: u32 = 0xFFFF_FFFF;

/// Directory entries that are read; the busiest honest files hold a few thousand.
const MAX_ENTRIES: usize = 65_536;

const HEADER_LEN: usize = 512;
const DIRECTORY_ENTRY_LEN: usize = 128;
const MINI_SECTOR_SHIFT: u32 = 6;
/// Storages inside storages; honest files stay below 10.
const MAX_STORAGE_DEPTH: usize = 32;

/// What is wrong with a compound file or one of its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Shorter than a header.
    #[error("shorter than a compound file header")]
    NoHeader,
    /// The header holds values that no version allows.
    #[error("invalid compound file header")]
    BadHeader,
    /// No allocation table sector can be read.
    #[error("unreadable allocation table")]
    BadFat,
    /// No root entry.
    #[error("unreadable directory")]
    BadDirectory,
    /// Directory entries point out of the directory or at one another in circles.
    #[error("directory entries out of order")]
    BrokenTree,
    /// A chain of sectors ends before the declared size.
    #[error("stream cut short")]
    CutShort,
    /// A chain of sectors leaves the file.
    #[error("stream outside the file")]
    OutOfFile,
    /// A chain of sectors runs in circles or through another stream.
    #[error("sectors used twice")]
    CrossLinked,
}

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Storage names joined by `/`, the root left out.
    pub path: String,
    /// Own name.
    pub name: String,
    /// Whether it is a stream (else a storage).
    pub is_stream: bool,
    /// Class of the object in a storage (§2.6.1), little-endian GUID bytes.
    pub clsid: [u8; 16],
    /// Declared size of a stream, bytes.
    pub size: u64,
    start: u32,
}

/// A compound file held in memory.
#[derive(Debug)]
pub struct CompoundFile<'a> {
    bytes: &'a [u8],
    sector_shift: u32,
    fat: Vec<u32>,
    mini_fat: Vec<u32>,
    mini_stream: Vec<u8>,
    mini_cutoff: u64,
    /// Class of the root storage.
    pub root_clsid: [u8; 16],
    /// Everything reachable from the root, in tree order.
    pub entries: Vec<Entry>,
    /// Whether directory entries point at nothing or at one another.
    pub broken_tree: bool,
}

/// Little-endian integers at an offset, `None` past the end.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// See [`u16_at`].
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

impl<'a> CompoundFile<'a> {
    /// Reads header, allocation tables and directory.
    ///
    /// # Errors
    /// [`Damage`] when not even the directory can be read.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Damage> {
        let header = bytes.get(..HEADER_LEN).ok_or(Damage::NoHeader)?;
        if !header.starts_with(&MAGIC) {
            return Err(Damage::BadHeader);
        }
        let field = |at| u32_at(header, at).unwrap_or(NO_STREAM);
        let sector_shift = u32::from(u16_at(header, 30).unwrap_or(0));
        if !matches!(sector_shift, 9 | 12) || u16_at(header, 32) != Some(6) {
            return Err(Damage::BadHeader);
        }
        let mut file = Self {
            bytes,
            sector_shift,
            fat: Vec::new(),
            mini_fat: Vec::new(),
            mini_stream: Vec::new(),
            mini_cutoff: u64::from(field(56)),
            root_clsid: [0; 16],
            entries: Vec::new(),
            broken_tree: false,
        };
        if file.mini_cutoff != 4096 {
            return Err(Damage::BadHeader);
        }
        file.read_fat(header)?;
        let (directory, _) = file.open_chain(field(48));
        file.mini_fat = file.open_chain(field(60)).0.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        file.read_directory(&directory)?;
        Ok(file)
    }

    /// Sectors that the bytes hold, a last incomplete one included.
    fn sectors(&self) -> usize {
        (self.bytes.len() >> self.sector_shift) + usize::from(self.bytes.len() & ((1 << self.sector_shift) - 1) != 0) - 1
    }

    fn sector(&self, number: u32) -> Option<&'a [u8]> {
        let start = (number as usize).checked_add(1)?.checked_shl(self.sector_shift)?;
        let end = (start + (1 << self.sector_shift)).min(self.bytes.len());
        self.bytes.get(start..end).filter(|s| !s.is_empty())
    }

    fn read_fat(&mut self, header: &[u8]) -> Result<(), Damage> {
        let sectors = self.sectors();
        let per_sector = (1usize << self.sector_shift) / 4;
        let mut pending: Vec<u32> = header[76..].chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        let mut next = u32_at(header, 68).unwrap_or(END_OF_CHAIN);
        for _ in 0..sectors {
            let Some(difat) = (next <= MAX_REGULAR_SECTOR).then(|| self.sector(next)).flatten() else { break };
            let numbers: Vec<u32> = difat.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
            next = numbers.get(per_sector - 1).copied().unwrap_or(END_OF_CHAIN);
            pending.extend(numbers.iter().take(per_sector - 1));
            if pending.len() * per_sector > sectors + per_sector * 110 {
                break;
            }
        }
        let mut readable = 0usize;
        for number in pending {
            if number > MAX_REGULAR_SECTOR || self.fat.len() >= sectors {
                continue;
            }
            match self.sector(number) {
                Some(sector) => {
                    readable += 1;
                    self.fat.extend(sector.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])));
                    self.fat.resize(readable * per_sector, NO_STREAM);
                }
                None => {
                    readable += 1;
                    self.fat.resize(readable.min(sectors / per_sector + 1) * per_sector, NO_STREAM);
                }
            }
        }
        if self.fat.is_empty() { Err(Damage::BadFat) } else { Ok(()) }
    }

    /// Reads a chain of regular sectors of unknown length as far as it goes.
    fn open_chain(&self, start: u32) -> (Vec<u8>, Option<Damage>) {
        self.read_chain(start, u64::MAX)
    }

    /// Reads up to `size` bytes of a chain of regular sectors, and says what stopped it early.
    fn read_chain(&self, start: u32, size: u64) -> (Vec<u8>, Option<Damage>) {
        let mut out = Vec::new();
        let mut next = start;
        for _ in 0..=self.sectors() {
            if out.len() as u64 >= size {
                out.truncate(usize::try_from(size).unwrap_or(usize::MAX));
                return (out, None);
            }
            if next == END_OF_CHAIN || next > MAX_REGULAR_SECTOR {
                let damage = (size != u64::MAX).then_some(Damage::CutShort);
                return (out, damage);
            }
            let Some(sector) = self.sector(next) else { return (out, Some(Damage::OutOfFile)) };
            out.extend_from_slice(sector);
            next = self.fat.get(next as usize).copied().unwrap_or(NO_STREAM);
        }
        if out.len() as u64 >= size {
            out.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            return (out, None);
        }
        (out, Some(Damage::CrossLinked))
    }

    fn read_mini_chain(&self, start: u32, size: u64) -> (Vec<u8>, Option<Damage>) {
        let mut out = Vec::new();
        let mut next = start;
        for _ in 0..=self.mini_fat.len() {
            if out.len() as u64 >= size {
                out.truncate(usize::try_from(size).unwrap_or(usize::MAX));
                return (out, None);
            }
            if next > MAX_REGULAR_SECTOR {
                return (out, Some(Damage::CutShort));
            }
            let at = (next as usize).checked_shl(MINI_SECTOR_SHIFT).unwrap_or(usize::MAX);
            let end = at.saturating_add(1 << MINI_SECTOR_SHIFT).min(self.mini_stream.len());
            let Some(sector) = self.mini_stream.get(at..end).filter(|s| !s.is_empty()) else { return (out, Some(Damage::OutOfFile)) };
            out.extend_from_slice(sector);
            next = self.mini_fat.get(next as usize).copied().unwrap_or(NO_STREAM);
        }
        (out, Some(Damage::CrossLinked))
    }

    fn read_directory(&mut self, directory: &[u8]) -> Result<(), Damage> {
        let raw: Vec<&[u8]> = directory.chunks_exact(DIRECTORY_ENTRY_LEN).collect();
        let root = raw.first().ok_or(Damage::BadDirectory)?;
        if root[66] != 5 {
            return Err(Damage::BadDirectory);
        }
        self.root_clsid.copy_from_slice(&root[80..96]);
        self.mini_stream = self.read_chain(u32_at(root, 116).unwrap_or(END_OF_CHAIN), self.declared_size(root)).0;
        let mut seen = vec![false; raw.len()];
        seen[0] = true;
        // (entry, path of the storage that holds it, its depth)
        let mut pending = vec![(u32_at(root, 76).unwrap_or(NO_STREAM), String::new(), 0usize)];
        while let Some((number, parent, depth)) = pending.pop() {
            if self.entries.len() >= MAX_ENTRIES {
                self.broken_tree = true;
                break;
            }
            if number == NO_STREAM {
                continue;
            }
            let Some(entry) = raw.get(number as usize) else {
                self.broken_tree = true;
                continue;
            };
            if std::mem::replace(&mut seen[number as usize], true) {
                self.broken_tree = true;
                continue;
            }
            let name = entry_name(entry);
            let path = if parent.is_empty() { name.clone() } else { format!("{parent}/{name}") };
            pending.push((u32_at(entry, 72).unwrap_or(NO_STREAM), parent.clone(), depth));
            match entry[66] {
                1 if depth < MAX_STORAGE_DEPTH => pending.push((u32_at(entry, 76).unwrap_or(NO_STREAM), path.clone(), depth + 1)),
                1 | 2 => {}
                _ => {
                    self.broken_tree = true;
                    pending.push((u32_at(entry, 68).unwrap_or(NO_STREAM), parent, depth));
                    continue;
                }
            }
            pending.push((u32_at(entry, 68).unwrap_or(NO_STREAM), parent, depth));
            let mut clsid = [0; 16];
            clsid.copy_from_slice(&entry[80..96]);
            self.entries.push(Entry {
                path,
                name,
                is_stream: entry[66] == 2,
                clsid,
                size: self.declared_size(entry),
                start: u32_at(entry, 116).unwrap_or(END_OF_CHAIN),
            });
        }
        Ok(())
    }

    /// Version 3 files keep the high half of the size undefined (§2.6.3).
    fn declared_size(&self, entry: &[u8]) -> u64 {
        let low = u64::from(u32_at(entry, 120).unwrap_or(0));
        let high = u64::from(u32_at(entry, 124).unwrap_or(0));
        if self.sector_shift == 9 { low } else { high << 32 | low }
    }

    /// The entry at `path`; names compare without case (§2.6.4).
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.path.eq_ignore_ascii_case(path))
    }

    /// The stream at `path`.
    pub fn stream(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.is_stream && e.path.eq_ignore_ascii_case(path))
    }

    /// Reads a stream as far as its sectors go, and says what is missing.
    pub fn read(&self, entry: &Entry) -> (Vec<u8>, Option<Damage>) {
        if !entry.is_stream || entry.size == 0 {
            return (Vec::new(), None);
        }
        if entry.size < self.mini_cutoff { self.read_mini_chain(entry.start, entry.size) } else { self.read_chain(entry.start, entry.size) }
    }

    /// Walks every stream's chain without copying, and names the damaged ones. A sector that two streams
    /// share is charged to the second.
    ///
    /// # Errors
    /// When the CPU budget ends.
    pub fn damaged_streams(&self, budget: &Budget) -> Result<Vec<(&Entry, Damage)>, Exceeded> {
        let mut used = vec![false; self.sectors()];
        let mut mini_used = vec![false; self.mini_fat.len()];
        let mut damaged = Vec::new();
        for (i, entry) in self.entries.iter().enumerate() {
            if i.is_multiple_of(64) {
                budget.tick()?;
            }
            if !entry.is_stream || entry.size == 0 {
                continue;
            }
            let mini = entry.size < self.mini_cutoff;
            let (shift, table, used) =
                if mini { (MINI_SECTOR_SHIFT, &self.mini_fat, &mut mini_used) } else { (self.sector_shift, &self.fat, &mut used) };
            let present = if mini { self.mini_stream.len() } else { self.bytes.len() - (1 << self.sector_shift).min(self.bytes.len()) };
            if let Some(damage) = walk_chain(entry, shift, table, used, present) {
                damaged.push((entry, damage));
            }
        }
        Ok(damaged)
    }
}

/// Follows one chain; every sector may be used once, so that all walks together are linear in the file.
fn walk_chain(entry: &Entry, shift: u32, table: &[u32], used: &mut [bool], present: usize) -> Option<Damage> {
    let mut left = entry.size;
    let mut next = entry.start;
    while left > 0 {
        if next > MAX_REGULAR_SECTOR {
            return Some(Damage::CutShort);
        }
        let at = (next as usize).checked_shl(shift).unwrap_or(usize::MAX);
        let here = present.saturating_sub(at).min(1 << shift) as u64;
        if here == 0 {
            return Some(Damage::OutOfFile);
        }
        match used.get_mut(next as usize) {
            Some(flag) if *flag => return Some(Damage::CrossLinked),
            Some(flag) => *flag = true,
            None => return Some(Damage::OutOfFile),
        }
        if here < left.min(1 << shift) {
            return Some(Damage::CutShort);
        }
        left = left.saturating_sub(1 << shift);
        next = table.get(next as usize).copied().unwrap_or(NO_STREAM);
    }
    None
}

fn entry_name(entry: &[u8]) -> String {
    let len = usize::from(u16_at(entry, 64).unwrap_or(0)).min(64);
    let units: Vec<u16> =
        entry.get(..len).unwrap_or_default().chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).take_while(|u| *u != 0).collect();
    String::from_utf16_lossy(&units)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::inspect::Limits;

    fn build(streams: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut file = cfb::CompoundFile::create_with_version(cfb::Version::V3, std::io::Cursor::new(Vec::new())).unwrap();
        for (path, content) in streams {
            if let Some((storage, _)) = path.rsplit_once('/') {
                file.create_storage_all(format!("/{storage}")).unwrap();
            }
            file.create_stream(format!("/{path}")).unwrap().write_all(content).unwrap();
        }
        file.flush().unwrap();
        file.into_inner().into_inner()
    }

    fn sample() -> Vec<u8> {
        build(&[("Big", vec![7; 10_000]), ("Small", vec![8; 100]), ("A/B/Inner", vec![9; 5000])])
    }

    #[test]
    fn streams_of_both_sizes_and_nested_storages_are_read() {
        let bytes = sample();
        let file = CompoundFile::open(&bytes).unwrap();
        assert_eq!(file.read(file.stream("big").unwrap()), (vec![7; 10_000], None));
        assert_eq!(file.read(file.stream("Small").unwrap()), (vec![8; 100], None));
        assert_eq!(file.read(file.stream("A/B/Inner").unwrap()), (vec![9; 5000], None));
        assert!(!file.entry("A/B").unwrap().is_stream);
        assert!(!file.broken_tree);
        assert_eq!(file.damaged_streams(&Budget::new(Limits::default())).unwrap(), vec![]);
    }

    #[test]
    fn a_stream_past_the_end_of_a_truncated_file_is_told() {
        let bytes = sample();
        let cut = &bytes[..bytes.len() - 4096];
        let file = CompoundFile::open(cut).unwrap();
        assert!(!file.damaged_streams(&Budget::new(Limits::default())).unwrap().is_empty());
    }

    #[test]
    fn a_chain_in_circles_ends() {
        let mut bytes = sample();
        let fat = (u32_at(&bytes, 76).unwrap() as usize + 1) * 512;
        let file = CompoundFile::open(&bytes).unwrap();
        let start = file.stream("Big").unwrap().start;
        bytes[fat + start as usize * 4..][..4].copy_from_slice(&start.to_le_bytes());
        let file = CompoundFile::open(&bytes).unwrap();
        let damaged = file.damaged_streams(&Budget::new(Limits::default())).unwrap();
        assert_eq!(damaged.iter().map(|(e, d)| (e.name.as_str(), *d)).collect::<Vec<_>>(), [("Big", Damage::CrossLinked)]);
        let (read, _) = file.read(file.stream("Big").unwrap());
        assert!(read.len() <= bytes.len());
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40), cut in any::<prop::sample::Index>()) {
            let mut bytes = sample();
            for (at, value) in edits {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            if let Ok(file) = CompoundFile::open(&bytes) {
                let _ = file.damaged_streams(&Budget::new(Limits::default()));
                for entry in &file.entries {
                    prop_assert!(file.read(entry).0.len() <= bytes.len() + 4096);
                }
            }
        }
    }
}
