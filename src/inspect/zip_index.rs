//! The index of a ZIP container: what its records really say, before anything is inflated.
//!
//! Goals:
//! 1. Every entry of the central directory is kept, duplicates included: libraries that build a map lose
//!    them, and two programs then show two different documents.
//! 2. Each central entry is compared with its local header, its data descriptor and its neighbours. What
//!    does not agree is a [`ZipProblem`] with a [`ZipSeverity`]; the caller decides what it means for its
//!    format. Word, Excel and LibreOffice open containers with [`ZipSeverity::Tolerated`] and most
//!    [`ZipSeverity::Ambiguous`] problems; nobody can open a [`ZipSeverity::Broken`] member.
//! 3. Opening reads headers only: its cost follows the number of entries, not the size of the file.
//!
//! Section numbers are those of PKWARE APPNOTE 6.3.10, quoted as `§`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::Context;
use super::budget::{Exceeded, ReadError};
use super::zip_methods::{DEFLATED, Fault, MAX_WINDOW, STORED, Unpacker};

/// Entries kept; the rest is counted in [`ZipIndex::count`]. Far beyond the budget of members, so that it
/// only bounds memory.
const MAX_ENTRIES: usize = 200_000;
/// Problems kept; a hostile directory must not make the list longer than itself.
const MAX_PROBLEMS: usize = 1_000;
/// Bytes of one member that may be held in memory at once. The child runs under 512 MB of address space.
pub const MAX_MEMBER_BYTES: u64 = 192 * 1024 * 1024;
/// End records tried before giving up: a file made of nothing but end signatures must stay cheap.
const MAX_END_CANDIDATES: usize = 256;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";
const SIGNATURE: &[u8] = b"PK\x05\x05";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";

/// §4.4.5: the real method stands in an AES extra field.
const AES: u16 = 99;

/// A ZIP container held in memory.
#[derive(Debug)]
pub struct ZipIndex<'a> {
    bytes: &'a [u8],
    /// Entries in central-directory order, duplicates included.
    pub entries: Vec<ZipEntry>,
    /// Entries counted in the central directory, kept or not.
    pub count: u64,
    /// What does not agree, in order of appearance.
    pub problems: Vec<ZipProblem>,
    /// Bytes before the first record of the container (a self-extractor's program, another document).
    pub leading: u64,
    /// Bytes after the end record and its comment.
    pub trailing: u64,
    /// Bytes between records that belong to nothing.
    pub hidden: u64,
    first_by_name: HashMap<String, usize>,
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
    /// Compression method (§4.4.5), the real one where AES hides it.
    pub method: u16,
    /// CRC-32 of the content, from the central directory.
    pub crc32: u32,
    /// General-purpose flags (§4.4.4).
    pub flags: u16,
    /// Where the local header stands, from the start of the file.
    pub header: u64,
    /// Unix mode, where the container was made on a Unix system (§4.4.15).
    pub unix_mode: Option<u32>,
    /// Where the compressed bytes stand; absent when there is no local header or they leave the file.
    data: Option<Range<usize>>,
}

impl ZipEntry {
    /// Whether the entry is a directory: its name ends with a slash (§4.4.17.1), or with the backslash
    /// that some Windows tools write and its content is empty.
    pub fn is_dir(&self) -> bool {
        self.name.ends_with('/') || (self.name.ends_with('\\') && self.declared == 0)
    }

    /// Whether the entry is a symbolic link (`S_IFLNK`).
    pub fn is_symlink(&self) -> bool {
        self.unix_mode.is_some_and(|mode| mode & 0o170_000 == 0o120_000)
    }
}

/// How much a problem weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZipSeverity {
    /// Common tools and office applications read it all the same, and all read the same.
    Tolerated,
    /// Two readers may see two different things.
    Ambiguous,
    /// Something cannot be read.
    Broken,
}

/// One thing that does not agree in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZipProblem {
    /// What.
    pub kind: ZipProblemKind,
    /// The entry concerned, by its position in the central directory.
    pub entry: Option<usize>,
    /// Where, from the start of the file.
    pub byte: u64,
}

/// What does not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZipProblemKind {
    /// No local header where the central directory points.
    LocalHeaderMissing,
    /// The compressed bytes run past the end of the file, or into the central directory.
    DataOutside,
    /// Local and central header contradict each other on this field.
    HeadersDisagree(ZipField),
    /// The data descriptor (§4.3.9) contradicts the central directory, or is absent where announced.
    DescriptorDisagrees,
    /// An extra field (§4.5) runs past its block, or appears twice where once is allowed.
    ExtraField,
    /// Fewer than four bytes of padding after the last extra field (alignment by Android tools).
    ExtraPadding,
    /// Two entries share bytes.
    Overlap,
    /// Bytes between records that belong to nothing.
    Gap,
    /// Bytes between the central directory and the end record.
    GapBeforeEnd,
    /// The end record contradicts the directory, or its ZIP64 twin, on this field.
    EndDisagrees(ZipField),
    /// A second end record also fits the file: two directories, two contents.
    SecondEnd,
    /// Bytes after the end record, or a comment that is cut.
    Trailing,
    /// Bytes before the first record.
    Leading,
    /// A NUL inside a name (some readers stop there).
    NulInName,
    /// Announced as UTF-8 and not UTF-8.
    NameEncoding,
    /// A comment announced as UTF-8 and not UTF-8, or holding a NUL.
    Comment,
    /// More entries than are kept.
    TooManyEntries,
}

/// A field of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZipField {
    /// File name.
    Name,
    /// Compression method.
    Method,
    /// Encryption flags.
    Encryption,
    /// Last modification date and time.
    Date,
    /// CRC-32.
    Crc,
    /// Compressed size.
    Compressed,
    /// Uncompressed size.
    Size,
    /// Number of entries.
    Entries,
    /// Size of the central directory.
    DirectorySize,
    /// Offset of the central directory.
    DirectoryOffset,
    /// Disk number.
    Disk,
    /// Size of the ZIP64 end record.
    Zip64,
}

impl ZipField {
    /// The field as APPNOTE names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "file name",
            Self::Method => "compression method",
            Self::Encryption => "general purpose bit flag",
            Self::Date => "last mod file date/time",
            Self::Crc => "crc-32",
            Self::Compressed => "compressed size",
            Self::Size => "uncompressed size",
            Self::Entries => "total number of entries",
            Self::DirectorySize => "size of the central directory",
            Self::DirectoryOffset => "offset of start of central directory",
            Self::Disk => "disk number",
            Self::Zip64 => "size of zip64 end of central directory record",
        }
    }
}

impl ZipProblem {
    /// How much it weighs.
    pub const fn severity(&self) -> ZipSeverity {
        match self.kind {
            ZipProblemKind::LocalHeaderMissing | ZipProblemKind::DataOutside => ZipSeverity::Broken,
            ZipProblemKind::HeadersDisagree(ZipField::Date)
            | ZipProblemKind::ExtraPadding
            | ZipProblemKind::Comment
            | ZipProblemKind::Gap => ZipSeverity::Tolerated,
            _ => ZipSeverity::Ambiguous,
        }
    }
}

/// Why a container could not be indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ZipError {
    /// No end record: the file is cut, or is not a ZIP.
    #[error("not a readable ZIP container: no end of central directory record")]
    NoEnd,
    /// One volume of several.
    #[error("not a readable ZIP container: one volume of a split archive")]
    Split,
    /// The end record points outside the file, or at something else than a directory.
    #[error("not a readable ZIP container: no central directory where the end record points (byte {byte})")]
    NoDirectory {
        /// Where it should stand.
        byte: u64,
    },
    /// The directory stops before its last entry.
    #[error("not a readable ZIP container: the central directory is damaged after {entries} entries (byte {byte})")]
    DirectoryDamaged {
        /// Entries read before.
        entries: u64,
        /// Where.
        byte: u64,
    },
}

/// Why a member could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The budget ended first.
    #[error("the budget of the item is spent ({0:?})")]
    Exceeded(Exceeded),
    /// It needs a password.
    #[error("the member is encrypted")]
    Encrypted,
    /// A compression method that is not read, or not in this kind of container.
    #[error("the compression method {0} is not read")]
    Unsupported(u16),
    /// Unpacking it would take more memory than a member is given.
    #[error("the compression method {method} asks for a window of {bytes} bytes, more than {MAX_WINDOW}")]
    Window {
        /// Compression method.
        method: u16,
        /// Declared by the stream, bytes.
        bytes: u64,
    },
    /// No local header, or its bytes leave the file.
    #[error("the bytes of the member are not in the file")]
    Missing,
    /// The compressed stream is malformed or cut.
    #[error("the compressed stream is damaged")]
    Damaged,
    /// What came out is not of the declared size.
    #[error("{declared} bytes are declared and {real} came out")]
    Size {
        /// From the central directory.
        declared: u64,
        /// Really inflated.
        real: u64,
    },
    /// What came out has another CRC-32.
    #[error("the content does not match its CRC-32")]
    Crc,
    /// Larger than [`MAX_MEMBER_BYTES`].
    #[error("the member is larger than {MAX_MEMBER_BYTES} bytes")]
    TooLarge,
}

impl From<Exceeded> for MemberError {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

impl From<MemberError> for ReadError {
    fn from(error: MemberError) -> Self {
        use std::io::ErrorKind;
        let kind = match error {
            MemberError::Exceeded(exceeded) => return Self::Exceeded(exceeded),
            MemberError::TooLarge => return Self::Exceeded(Exceeded::Inflated),
            MemberError::Encrypted => ErrorKind::PermissionDenied,
            MemberError::Unsupported(_) | MemberError::Window { .. } => ErrorKind::Unsupported,
            MemberError::Missing => ErrorKind::UnexpectedEof,
            MemberError::Damaged | MemberError::Size { .. } | MemberError::Crc => ErrorKind::InvalidData,
        };
        Self::Io(std::io::Error::new(kind, error.to_string()))
    }
}

/// The content of a member.
#[derive(Debug)]
pub struct Member<'a> {
    /// The content, borrowed from the container where it is stored without compression.
    pub bytes: Cow<'a, [u8]>,
    /// Compressed bytes left over after the end of the stream.
    pub unused: u64,
}

impl<'a> ZipIndex<'a> {
    /// Reads the end record, the central directory and every local header.
    ///
    /// # Errors
    /// When no consistent central directory can be found.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ZipError> {
        let end = End::find(bytes)?;
        let mut index = Self {
            bytes,
            entries: Vec::new(),
            count: 0,
            problems: Vec::new(),
            leading: 0,
            trailing: end.trailing,
            hidden: 0,
            first_by_name: HashMap::new(),
        };
        for kind in &end.problems {
            index.problem(*kind, None, end.at);
        }
        let base = end.base(bytes);
        if base > 0 && !end.fits && bytes.starts_with(LOCAL) {
            // The end record of an archive stored inside this one, whose own end is cut off.
            return Err(ZipError::NoEnd);
        }
        let (directory_start, originals) = index.walk_directory(&end, base)?;
        let mut spans = index.check_locals(base, directory_start, &originals);
        index.check_spans(&mut spans, directory_start);
        for (i, entry) in index.entries.iter().enumerate() {
            index.first_by_name.entry(entry.name.clone()).or_insert(i);
        }
        Ok(index)
    }

    /// The first entry with this exact name.
    pub fn entry(&self, name: &str) -> Option<&ZipEntry> {
        self.first_by_name.get(name).and_then(|i| self.entries.get(*i))
    }

    /// The first entry with this name, ASCII case ignored, as OPC compares part names (ECMA-376-2 §6.2.2).
    pub fn entry_ignoring_case(&self, name: &str) -> Option<&ZipEntry> {
        self.entry(name).or_else(|| self.entries.iter().find(|e| e.name.eq_ignore_ascii_case(name)))
    }

    /// The heaviest problem's weight; `None` when everything agrees.
    pub fn severity(&self) -> Option<ZipSeverity> {
        self.problems.iter().map(ZipProblem::severity).max()
    }

    /// Inflates one part of a document within the budget and checks its size and CRC-32. Documents may use stored and deflate
    /// only (ISO/IEC 29500-2, annex on ZIP; ODF 1.3 part 2 §2.2): what office applications do not open is not read here either.
    ///
    /// # Errors
    /// [`ReadError::Exceeded`] or [`ReadError::Io`]: `PermissionDenied` when encrypted, `Unsupported` for
    /// another compression method, `UnexpectedEof` when its bytes are missing, `InvalidData` when damaged.
    pub fn read(&self, entry: &ZipEntry, ctx: &mut Context) -> Result<Vec<u8>, ReadError> {
        if !entry.encrypted && !matches!(entry.method, STORED | DEFLATED) {
            return Err(MemberError::Unsupported(entry.method).into());
        }
        Ok(self.member(entry, ctx)?.bytes.into_owned())
    }

    /// Unpacks one member of an archive within the budget, by any method that is read, and checks its size and CRC-32; with the
    /// reason of a failure, and without a copy where nothing is compressed.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub fn member(&self, entry: &ZipEntry, ctx: &mut Context) -> Result<Member<'a>, MemberError> {
        if entry.encrypted {
            return Err(MemberError::Encrypted);
        }
        let raw = self.raw(entry).ok_or(MemberError::Missing)?;
        if entry.method == STORED {
            ctx.budget.inflate(raw.len() as u64)?;
            check(entry, raw)?;
            return Ok(Member { bytes: Cow::Borrowed(raw), unused: 0 });
        }
        let (bytes, unused) = unpack(raw, entry, ctx)?;
        check(entry, &bytes)?;
        Ok(Member { bytes: Cow::Owned(bytes), unused })
    }

    /// The first bytes of a member, at most `max`, whether or not the rest is sound; for identification,
    /// where the size is small and fixed. Empty when nothing can be read.
    pub fn peek(&self, entry: &ZipEntry, max: usize) -> Vec<u8> {
        match self.raw(entry) {
            Some(raw) if !entry.encrypted => peek_data(raw, entry.method, entry.flags, entry.declared, max),
            _ => Vec::new(),
        }
    }

    /// The compressed bytes of an entry.
    fn raw(&self, entry: &ZipEntry) -> Option<&'a [u8]> {
        self.bytes.get(entry.data.clone()?)
    }

    fn problem(&mut self, kind: ZipProblemKind, entry: Option<usize>, byte: u64) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(ZipProblem { kind, entry, byte });
        }
    }

    /// Walks the central directory (§4.3.12); returns where it starts, and what is compared and then dropped.
    fn walk_directory(&mut self, end: &End, base: u64) -> Result<(u64, Vec<Original<'a>>), ZipError> {
        let mut originals = Vec::new();
        let start = end.directory_offset.saturating_add(base);
        let limit = end.directory_limit;
        let mut pos = start;
        while pos < limit && has(self.bytes, pos, CENTRAL) {
            let Some(header) = Central::read(self.bytes, pos, limit) else {
                return Err(ZipError::DirectoryDamaged { entries: self.count, byte: pos });
            };
            self.count += 1;
            if self.entries.len() < MAX_ENTRIES {
                let twin = self.keep(&header, pos, base);
                originals.push(Original { name: header.name, unicode_twin: twin, date: header.date });
            } else if self.entries.len() as u64 + 1 == self.count {
                self.problem(ZipProblemKind::TooManyEntries, None, pos);
            }
            pos = header.end;
        }
        let records_end = pos;
        if has(self.bytes, pos, SIGNATURE) {
            // §4.3.13: the digital signature of the directory.
            pos = pos.saturating_add(6).saturating_add(u64::from(u16_at(self.bytes, pos + 4).unwrap_or(0))).min(limit);
        }
        let complete = if end.zip64 { self.count == end.entries } else { self.count & 0xFFFF == end.entries & 0xFFFF };
        if !complete && (pos < limit || self.count == 0) {
            return Err(if self.count == 0 {
                ZipError::NoDirectory { byte: start }
            } else {
                ZipError::DirectoryDamaged { entries: self.count, byte: pos }
            });
        }
        if !complete {
            self.problem(ZipProblemKind::EndDisagrees(ZipField::Entries), None, end.at);
        }
        if pos < limit {
            self.hidden = self.hidden.saturating_add(limit - pos);
            self.problem(ZipProblemKind::GapBeforeEnd, None, pos);
        } else if end.directory_size != records_end.saturating_sub(start) && end.directory_size != pos.saturating_sub(start) {
            self.problem(ZipProblemKind::EndDisagrees(ZipField::DirectorySize), None, end.at);
        }
        Ok((start, originals))
    }

    /// Keeps one entry; returns whether a Unicode twin named it.
    fn keep(&mut self, header: &Central<'_>, pos: u64, base: u64) -> bool {
        let index = self.entries.len();
        let extra = Extra::read(header.extra);
        for kind in &extra.problems {
            self.problem(*kind, Some(index), pos);
        }
        let (mut declared, mut compressed, mut offset) = (u64::from(header.size), u64::from(header.compressed), u64::from(header.offset));
        // §4.5.3: only the fields that are full in the header stand in the extra field, in this order.
        let mut wide = extra.zip64.unwrap_or(&[]);
        for value in [&mut declared, &mut compressed, &mut offset] {
            if *value == u64::from(u32::MAX) {
                match u64_at(wide, 0) {
                    Some(n) => {
                        *value = n;
                        wide = wide.get(8..).unwrap_or(&[]);
                    }
                    None => self.problem(ZipProblemKind::ExtraField, Some(index), pos),
                }
            }
        }
        if header.disk == u16::MAX && extra.zip64.is_some() {
            match u32_at(wide, 0) {
                Some(0) => {}
                Some(_) => self.problem(ZipProblemKind::HeadersDisagree(ZipField::Disk), Some(index), pos),
                None => self.problem(ZipProblemKind::ExtraField, Some(index), pos),
            }
        } else if header.disk != 0 {
            self.problem(ZipProblemKind::HeadersDisagree(ZipField::Disk), Some(index), pos);
        }
        let name = self.decode_name(header.name, header.flags, &extra, Some(index), pos);
        if header.flags & UTF8 != 0 && (std::str::from_utf8(header.comment).is_err() || header.comment.contains(&0)) {
            self.problem(ZipProblemKind::Comment, Some(index), pos);
        }
        // §4.4.2: the upper byte tells whose attributes these are; 3 is Unix, 19 is macOS.
        let unix_mode = matches!(header.made_by >> 8, 3 | 19).then_some(header.attributes >> 16);
        self.entries.push(ZipEntry {
            index,
            name,
            compressed,
            declared,
            encrypted: header.flags & (ENCRYPTED | STRONG) != 0 || header.method == AES || extra.aes_method.is_some(),
            method: if header.method == AES { extra.aes_method.unwrap_or(AES) } else { header.method },
            crc32: header.crc32,
            flags: header.flags,
            header: offset.saturating_add(base),
            unix_mode,
            data: None,
        });
        extra.unicode_path.is_some()
    }

    /// Whether what follows the end record is nothing but line ends and zeros.
    pub fn trailing_is_padding(&self) -> bool {
        let start = usize::try_from(self.trailing).ok().and_then(|trailing| self.bytes.len().checked_sub(trailing));
        start.and_then(|start| self.bytes.get(start..)).is_some_and(|tail| tail.iter().all(|b| matches!(b, 0 | b'\r' | b'\n' | 0x1A)))
    }

    /// Decodes a name, noting what is wrong with it (§4.4.4 bit 11, §4.6.9).
    fn decode_name(&mut self, raw: &[u8], flags: u16, extra: &Extra<'_>, entry: Option<usize>, pos: u64) -> String {
        if flags & UTF8 != 0 && std::str::from_utf8(raw).is_err() {
            self.problem(ZipProblemKind::NameEncoding, entry, pos);
        }
        let name = effective_name(raw, flags, extra);
        if name.contains('\0') {
            self.problem(ZipProblemKind::NulInName, entry, pos);
        }
        if extra.unicode_path.is_some() && raw.is_ascii() && !is_transliteration(raw, &name) {
            // Half of the programs show one name and half the other.
            self.problem(ZipProblemKind::HeadersDisagree(ZipField::Name), entry, pos);
        }
        name
    }

    /// Compares each central entry with its local header (§4.3.7); returns the bytes each entry takes.
    fn check_locals(&mut self, base: u64, directory_start: u64, originals: &[Original<'a>]) -> Vec<Span> {
        let mut spans = Vec::with_capacity(self.entries.len());
        for (i, original) in originals.iter().enumerate().take(self.entries.len()) {
            let at = self.entries[i].header;
            let Some(local) = Local::read(self.bytes, at) else {
                self.problem(ZipProblemKind::LocalHeaderMissing, Some(i), at);
                continue;
            };
            self.check_local(i, &local, original, at);
            let entry = &self.entries[i];
            let (Some(data_end), Ok(data_start)) = (local.data.checked_add(entry.compressed), usize::try_from(local.data)) else {
                self.problem(ZipProblemKind::DataOutside, Some(i), at);
                continue;
            };
            let outside = data_end > self.bytes.len() as u64 || (at < directory_start && data_end > directory_start);
            if outside {
                self.problem(ZipProblemKind::DataOutside, Some(i), at);
                continue;
            }
            let Ok(data_stop) = usize::try_from(data_end) else { continue };
            self.entries[i].data = Some(data_start..data_stop);
            spans.push(Span {
                entry: i,
                start: at,
                end: data_end,
                descriptor: local.flags & DEFERRED != 0 || self.entries[i].flags & DEFERRED != 0,
            });
        }
        let first = self.entries.iter().map(|e| e.header).min().unwrap_or(directory_start);
        self.leading = if self.entries.is_empty() { base } else { first };
        // §8.5.4: a split archive that fitted in one volume starts with this marker.
        if self.leading > 0 && !(self.leading == 4 && (self.bytes.starts_with(b"PK00") || self.bytes.starts_with(DESCRIPTOR))) {
            self.problem(ZipProblemKind::Leading, None, 0);
        }
        spans
    }

    fn check_local(&mut self, i: usize, local: &Local<'_>, original: &Original<'_>, at: u64) {
        use ZipProblemKind::HeadersDisagree;
        let extra = Extra::read(local.extra);
        for kind in &extra.problems {
            self.problem(*kind, Some(i), at);
        }
        let (mut size, mut compressed) = (u64::from(local.size), u64::from(local.compressed));
        let wide = extra.zip64.unwrap_or(&[]);
        // §4.5.3: in a local header both sizes stand in the extra field; writers that put one are read too.
        let both = wide.len() >= 16;
        if size == u64::from(u32::MAX) {
            size = u64_at(wide, 0).unwrap_or(size);
        }
        if compressed == u64::from(u32::MAX) {
            compressed = u64_at(wide, if both { 8 } else { 0 }).unwrap_or(compressed);
        }
        let entry = &self.entries[i];
        let name = effective_name(local.name, local.flags, &extra);
        let mut disagree = Vec::new();
        // The same bytes announced in another encoding are no contradiction: every reader takes the
        // encoding from the central directory. Two different Unicode twins are one.
        let twins = original.unicode_twin && extra.unicode_path.is_some();
        if name != entry.name && (original.name != local.name || twins) {
            disagree.push(ZipField::Name);
        }
        if extra.unicode_path.is_some() && local.name.is_ascii() && !is_transliteration(local.name, &name) {
            disagree.push(ZipField::Name);
        }
        let method = if local.method == AES { extra.aes_method.unwrap_or(AES) } else { local.method };
        if method != entry.method {
            disagree.push(ZipField::Method);
        }
        let masked = local.flags & MASKED != 0 || entry.flags & MASKED != 0;
        if (local.flags ^ entry.flags) & (ENCRYPTED | STRONG) != 0 {
            disagree.push(ZipField::Encryption);
        }
        if original.date != local.date && !masked {
            disagree.push(ZipField::Date);
        }
        // Bit 3: the values stand after the data, and zero here. Writers that know them already may set both.
        let deferred = local.flags & DEFERRED != 0;
        let tells = |local: u64, central: u64| !masked && local != central && !(deferred && (local == 0 || local == u64::from(u32::MAX)));
        if tells(u64::from(local.crc32), u64::from(entry.crc32)) {
            disagree.push(ZipField::Crc);
        }
        if tells(compressed, entry.compressed) {
            disagree.push(ZipField::Compressed);
        }
        // A streaming writer may tell one size and defer the other; it is the descriptor that counts then.
        if tells(size, entry.declared) {
            disagree.push(ZipField::Size);
        }
        disagree.dedup();
        for field in disagree {
            self.problem(HeadersDisagree(field), Some(i), at);
        }
    }

    /// Looks at what stands between the entries: overlaps, gaps, data descriptors (§4.3.9).
    fn check_spans(&mut self, spans: &mut [Span], directory_start: u64) {
        spans.sort_by_key(|s| (s.start, s.end));
        let mut covered = self.leading;
        let mut hidden = 0u64;
        for i in 0..spans.len() {
            let span = &spans[i];
            let (entry, start, data_end) = (span.entry, span.start, span.end);
            let next = spans.get(i + 1).map_or(directory_start, |s| s.start).max(start);
            if start < covered {
                self.problem(ZipProblemKind::Overlap, Some(entry), start);
            } else if start > covered {
                hidden = hidden.saturating_add(start - covered);
                self.problem(ZipProblemKind::Gap, None, covered);
            }
            let mut end = data_end;
            if span.descriptor {
                match self.descriptor_len(&self.entries[entry], data_end, next) {
                    Some(len) => end = data_end.saturating_add(len),
                    None => {
                        self.problem(ZipProblemKind::DescriptorDisagrees, Some(entry), data_end);
                        end = data_end.max(next.min(data_end.saturating_add(24)));
                    }
                }
            }
            covered = covered.max(end);
        }
        if !spans.is_empty() && covered < directory_start {
            hidden = hidden.saturating_add(directory_start - covered);
            self.problem(ZipProblemKind::Gap, None, covered);
        }
        self.hidden = self.hidden.saturating_add(hidden);
    }

    /// Length of the data descriptor at `at` that says what the central directory says: with or without its
    /// signature, with sizes of four or eight bytes. `Some(0)` when none is there and the next record follows
    /// at once, local header complete: harmless, every reader agrees.
    fn descriptor_len(&self, entry: &ZipEntry, at: u64, next: u64) -> Option<u64> {
        // AES (AE-2) leaves the CRC at zero.
        let crc_matches = |pos: u64| u32_at(self.bytes, pos).is_some_and(|crc| crc == entry.crc32 || (entry.encrypted && crc == 0));
        let narrow = |pos: u64| {
            crc_matches(pos)
                && u32_at(self.bytes, pos + 4).map(u64::from) == Some(entry.compressed & 0xFFFF_FFFF)
                && u32_at(self.bytes, pos + 8).map(u64::from) == Some(entry.declared & 0xFFFF_FFFF)
        };
        let wide = |pos: u64| {
            crc_matches(pos)
                && u64_at(self.bytes, pos + 4) == Some(entry.compressed)
                && u64_at(self.bytes, pos + 12) == Some(entry.declared)
        };
        let signed = has(self.bytes, at, DESCRIPTOR);
        let mut lengths = Vec::new();
        if signed && wide(at + 4) {
            lengths.push(24);
        }
        if signed && narrow(at + 4) {
            lengths.push(16);
        }
        if wide(at) {
            lengths.push(20);
        }
        if narrow(at) {
            lengths.push(12);
        }
        // An empty member makes the wide and the narrow form look alike: the one that ends at the next record wins.
        let exact = lengths.iter().copied().find(|len| at + len == next);
        exact.or_else(|| lengths.iter().copied().filter(|len| at + len <= next).min()).or_else(|| {
            let local = Local::read(self.bytes, entry.header)?;
            (at == next && local.crc32 == entry.crc32 && u64::from(local.compressed) == entry.compressed).then_some(0)
        })
    }
}

/// General-purpose bit 0 (§4.4.4): encrypted.
const ENCRYPTED: u16 = 1;
/// Bit 3: CRC and sizes stand in a data descriptor.
const DEFERRED: u16 = 1 << 3;
/// Bit 6: strong encryption.
const STRONG: u16 = 1 << 6;
/// Bit 11: name and comment are UTF-8.
const UTF8: u16 = 1 << 11;
/// Bit 13: local header values are masked because the directory is encrypted.
const MASKED: u16 = 1 << 13;

/// What a central header says that is compared with the local one and then dropped.
#[derive(Debug)]
struct Original<'a> {
    name: &'a [u8],
    unicode_twin: bool,
    date: u32,
}

/// The bytes one entry takes, local header included.
#[derive(Debug)]
struct Span {
    entry: usize,
    start: u64,
    end: u64,
    descriptor: bool,
}

/// The end record (§4.3.16) and its ZIP64 twin (§4.3.14), merged.
#[derive(Debug)]
struct End {
    /// Where it stands.
    at: u64,
    /// Where the central directory must end: this record, or the ZIP64 end record.
    directory_limit: u64,
    entries: u64,
    directory_size: u64,
    directory_offset: u64,
    zip64: bool,
    trailing: u64,
    /// Whether its comment ends exactly with the file.
    fits: bool,
    problems: Vec<ZipProblemKind>,
}

impl End {
    /// Finds the end record from the end of the file: first one whose comment ends exactly with the file,
    /// else the last one followed by foreign bytes.
    fn find(bytes: &[u8]) -> Result<Self, ZipError> {
        let len = bytes.len() as u64;
        let mut fallback: Option<(u64, u64)> = None;
        let mut exact: Vec<u64> = Vec::new();
        let mut split = false;
        // Most files hold none, which looking forwards tells many times faster than looking backwards.
        let candidates = if memchr::memmem::find(bytes, END).is_some() { MAX_END_CANDIDATES } else { 0 };
        for at in memchr::memmem::FinderRev::new(END).rfind_iter(bytes).take(candidates) {
            let at = at as u64;
            // A comment holds at most 65,535 bytes: further back, no record can fit the end of the file.
            if !exact.is_empty() && len - at > 22 + 0xFFFF {
                break;
            }
            let Some(comment) = u16_at(bytes, at + 20) else { continue };
            let end = at + 22 + u64::from(comment);
            let (disk, start_disk) = (u16_at(bytes, at + 4), u16_at(bytes, at + 6));
            if (disk, start_disk) != (Some(0), Some(0)) && disk != Some(u16::MAX) {
                // Remember it, but an honest record may still stand before.
                split |= disk.is_some_and(|d| d < 1000) && end == len;
                continue;
            }
            if !Self::plausible(bytes, at) {
                continue;
            }
            if end == len {
                exact.push(at);
            } else if fallback.is_none() {
                fallback = Some((at, len.saturating_sub(end)));
            }
        }
        let mut problems = Vec::new();
        let (at, trailing) = match (exact.first(), fallback) {
            (Some(at), _) => {
                if exact.len() > 1 {
                    problems.push(ZipProblemKind::SecondEnd);
                }
                (*at, 0)
            }
            (None, Some((at, trailing))) => {
                problems.push(ZipProblemKind::Trailing);
                (at, trailing)
            }
            (None, None) if split => return Err(ZipError::Split),
            (None, None) => return Err(ZipError::NoEnd),
        };
        Self::read(bytes, at, trailing, problems)
    }

    /// Whether the record's own figures can be true.
    fn plausible(bytes: &[u8], at: u64) -> bool {
        let (Some(entries), Some(size), Some(offset)) = (u16_at(bytes, at + 10), u32_at(bytes, at + 12), u32_at(bytes, at + 16)) else {
            return false;
        };
        let zip64 = size == u32::MAX || offset == u32::MAX || entries == u16::MAX;
        zip64 || (u64::from(size) <= at && u64::from(offset) <= at && u64::from(size) >= u64::from(entries).min(1) * 46)
    }

    fn read(bytes: &[u8], at: u64, trailing: u64, mut problems: Vec<ZipProblemKind>) -> Result<Self, ZipError> {
        let field16 = |pos: u64| u16_at(bytes, at + pos).unwrap_or(0);
        let field32 = |pos: u64| u32_at(bytes, at + pos).unwrap_or(0);
        let mut end = Self {
            at,
            directory_limit: at,
            entries: u64::from(field16(10)),
            directory_size: u64::from(field32(12)),
            directory_offset: u64::from(field32(16)),
            zip64: false,
            trailing,
            fits: !problems.contains(&ZipProblemKind::Trailing),
            problems: Vec::new(),
        };
        if field16(8) != field16(10) {
            problems.push(ZipProblemKind::EndDisagrees(ZipField::Entries));
        }
        let locator = at.checked_sub(20).filter(|pos| has(bytes, *pos, LOCATOR64));
        if let Some(locator) = locator {
            let declared = u64_at(bytes, locator + 8).unwrap_or(u64::MAX);
            // Where bytes were put before the container the offset is short: the record then stands just before its locator.
            let beside = locator.checked_sub(56);
            let record = [Some(declared), beside].into_iter().flatten().find(|pos| *pos < locator && has(bytes, *pos, END64));
            if let Some(pos) = record {
                end.merge_zip64(bytes, pos, locator, &mut problems)?;
            } else if [end.directory_size, end.directory_offset].contains(&u64::from(u32::MAX)) {
                return Err(ZipError::NoDirectory { byte: declared });
            }
        }
        end.problems = problems;
        Ok(end)
    }

    fn merge_zip64(&mut self, bytes: &[u8], pos: u64, locator: u64, problems: &mut Vec<ZipProblemKind>) -> Result<(), ZipError> {
        let size = u64_at(bytes, pos + 4).unwrap_or(0);
        if pos.saturating_add(12).saturating_add(size) != locator {
            problems.push(ZipProblemKind::EndDisagrees(ZipField::Zip64));
        }
        let (Some(entries), Some(directory_size), Some(directory_offset)) =
            (u64_at(bytes, pos + 32), u64_at(bytes, pos + 40), u64_at(bytes, pos + 48))
        else {
            return Err(ZipError::NoDirectory { byte: pos });
        };
        if u32_at(bytes, pos + 16) != Some(0) || u32_at(bytes, pos + 20) != Some(0) {
            return Err(ZipError::Split);
        }
        for (narrow, full, wide, field) in [
            (self.entries, u64::from(u16::MAX), entries, ZipField::Entries),
            (self.directory_size, u64::from(u32::MAX), directory_size, ZipField::DirectorySize),
            (self.directory_offset, u64::from(u32::MAX), directory_offset, ZipField::DirectoryOffset),
        ] {
            if narrow != full && narrow != wide {
                problems.push(ZipProblemKind::EndDisagrees(field));
            }
        }
        self.zip64 = true;
        self.entries = entries;
        self.directory_size = directory_size;
        self.directory_offset = directory_offset;
        self.directory_limit = pos;
        Ok(())
    }

    /// How many bytes every offset is short of: a container glued behind something else keeps its own offsets.
    fn base(&self, bytes: &[u8]) -> u64 {
        let Some(start) = self.directory_limit.checked_sub(self.directory_size) else { return 0 };
        let base = start.saturating_sub(self.directory_offset);
        let empty = self.entries == 0 && self.directory_size == 0;
        if base > 0 && (empty || has(bytes, start, CENTRAL)) { base } else { 0 }
    }
}

/// A central directory file header (§4.3.12).
struct Central<'a> {
    made_by: u16,
    flags: u16,
    method: u16,
    date: u32,
    crc32: u32,
    compressed: u32,
    size: u32,
    disk: u16,
    attributes: u32,
    offset: u32,
    name: &'a [u8],
    extra: &'a [u8],
    comment: &'a [u8],
    /// Where the next one starts.
    end: u64,
}

impl<'a> Central<'a> {
    fn read(bytes: &'a [u8], pos: u64, limit: u64) -> Option<Self> {
        if !has(bytes, pos, CENTRAL) {
            return None;
        }
        let name_end = pos + 46 + u64::from(u16_at(bytes, pos + 28)?);
        let extra_end = name_end + u64::from(u16_at(bytes, pos + 30)?);
        let end = extra_end + u64::from(u16_at(bytes, pos + 32)?);
        if end > limit {
            return None;
        }
        Some(Self {
            made_by: u16_at(bytes, pos + 4)?,
            flags: u16_at(bytes, pos + 8)?,
            method: u16_at(bytes, pos + 10)?,
            date: u32_at(bytes, pos + 12)?,
            crc32: u32_at(bytes, pos + 16)?,
            compressed: u32_at(bytes, pos + 20)?,
            size: u32_at(bytes, pos + 24)?,
            disk: u16_at(bytes, pos + 34)?,
            attributes: u32_at(bytes, pos + 38)?,
            offset: u32_at(bytes, pos + 42)?,
            name: slice(bytes, pos + 46, name_end)?,
            extra: slice(bytes, name_end, extra_end)?,
            comment: slice(bytes, extra_end, end)?,
            end,
        })
    }
}

/// A local file header (§4.3.7).
pub(crate) struct Local<'a> {
    flags: u16,
    method: u16,
    date: u32,
    crc32: u32,
    pub(crate) compressed: u32,
    size: u32,
    pub(crate) name: &'a [u8],
    extra: &'a [u8],
    /// Where the data starts.
    pub(crate) data: u64,
}

impl<'a> Local<'a> {
    fn read(bytes: &'a [u8], pos: u64) -> Option<Self> {
        if !has(bytes, pos, LOCAL) {
            return None;
        }
        let name_end = pos + 30 + u64::from(u16_at(bytes, pos + 26)?);
        let data = name_end + u64::from(u16_at(bytes, pos + 28)?);
        Some(Self {
            flags: u16_at(bytes, pos + 6)?,
            method: u16_at(bytes, pos + 8)?,
            date: u32_at(bytes, pos + 10)?,
            crc32: u32_at(bytes, pos + 14)?,
            compressed: u32_at(bytes, pos + 18)?,
            size: u32_at(bytes, pos + 22)?,
            name: slice(bytes, pos + 30, name_end)?,
            extra: slice(bytes, name_end, data)?,
            data,
        })
    }
}

/// Entries found by their local headers alone, where the directory is lost: name and first bytes of content.
/// For identification of what a damaged file was meant to be; never for reading it.
pub fn salvage(bytes: &[u8], max_entries: usize, max_content: usize) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for at in memchr::memmem::find_iter(bytes, LOCAL).take(max_entries.saturating_mul(4)) {
        if found.len() >= max_entries {
            break;
        }
        let at = at as u64;
        let Some(name_len) = u16_at(bytes, at + 26) else { break };
        // The length of the name is lost in the smallest remains: then the name runs to where it can.
        let (name, data, method) = match Local::read(bytes, at) {
            Some(local) if name_len > 0 => (local.name, local.data, local.method),
            _ => (slice(bytes, at + 30, (at + 30 + 64).min(bytes.len() as u64)).unwrap_or(&[]), at + 30, STORED),
        };
        if name.is_empty() || name.len() > 1024 {
            continue;
        }
        let stop = (data.saturating_add(max_content as u64)).min(bytes.len() as u64);
        // Documents have no other methods, and thousands of BZIP2 blocks would take minutes.
        let known = matches!(method, STORED | DEFLATED);
        let content = slice(bytes, data, stop).filter(|_| known).map(|raw| peek_data(raw, method, 0, 0, max_content)).unwrap_or_default();
        found.push((decode(name, false), content));
    }
    found
}

/// The extra fields of one header (§4.5) that matter here.
#[derive(Default)]
struct Extra<'a> {
    zip64: Option<&'a [u8]>,
    unicode_path: Option<&'a [u8]>,
    aes_method: Option<u16>,
    problems: Vec<ZipProblemKind>,
}

impl<'a> Extra<'a> {
    fn read(mut block: &'a [u8]) -> Self {
        let mut extra = Self::default();
        let mut once: BTreeMap<u16, ()> = BTreeMap::new();
        while let (Some(id), Some(len)) = (u16_at(block, 0), u16_at(block, 2)) {
            let end = 4 + usize::from(len);
            let Some(data) = block.get(4..end) else {
                extra.problems.push(ZipProblemKind::ExtraField);
                return extra;
            };
            match id {
                0x0001 => extra.zip64 = Some(data),
                0x7075 => extra.unicode_path = Some(data),
                // AE-x: the real compression method is the last two bytes of seven.
                0x9901 => extra.aes_method = Some(u16_at(data, 5).unwrap_or(AES)),
                _ => {}
            }
            if matches!(id, 0x0001 | 0x7075 | 0x6375 | 0x9901) && once.insert(id, ()).is_some() {
                extra.problems.push(ZipProblemKind::ExtraField);
            }
            block = block.get(end..).unwrap_or(&[]);
        }
        if block.iter().any(|b| *b != 0) {
            extra.problems.push(ZipProblemKind::ExtraPadding);
        }
        extra
    }
}

/// The name a current reader shows: the Unicode twin (§4.6.9) where it is valid and still belongs to the
/// header's name, else that name.
fn effective_name(raw: &[u8], flags: u16, extra: &Extra<'_>) -> String {
    if let Some(field) = extra.unicode_path
        && field.first() == Some(&1)
        && u32_at(field, 1) == Some(crc32fast::hash(raw))
        && let Some(name) = field.get(5..).and_then(|n| std::str::from_utf8(n).ok())
    {
        return name.to_owned();
    }
    decode(raw, flags & UTF8 != 0)
}

/// Whether the ASCII bytes `raw` are what an archiver on a system without Unicode makes of `name`: characters that the OEM
/// code page lacks (’ – œ €) become up to three others, everything else stands unchanged and in order. Two names that differ in
/// more, or in their extension, would unpack as two different files.
fn is_transliteration(raw: &[u8], name: &str) -> bool {
    /// « … » is written as three full stops, « œ » as two letters.
    const LONGEST: usize = 3;
    let extension = |name: &str| name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let Ok(raw) = std::str::from_utf8(raw) else { return false };
    if extension(raw) != extension(name) {
        return false;
    }
    let mut rest = raw;
    // ASCII characters that may stand for the ones of `name` that were replaced just before.
    let mut replaced = 0;
    let mut runs = name.split(|c: char| !c.is_ascii()).peekable();
    while let Some(run) = runs.next() {
        // No other folder may begin in what stands for replaced characters. The last run ends the name.
        let at = if runs.peek().is_some() {
            rest.find(run)
        } else {
            rest.len().checked_sub(run.len()).filter(|at| rest.get(*at..) == Some(run))
        };
        let Some(at) = at.filter(|at| *at <= replaced && !rest[..*at].contains(['/', '\\'])) else { return false };
        rest = &rest[at + run.len()..];
        replaced = if run.is_empty() { replaced - at + LONGEST } else { LONGEST };
    }
    true
}

/// UTF-8 where it is announced or true (macOS writes it without saying so), else CP437 (Appendix D).
fn decode(raw: &[u8], announced_utf8: bool) -> String {
    match std::str::from_utf8(raw) {
        Ok(name) => name.to_owned(),
        Err(_) if announced_utf8 => String::from_utf8_lossy(raw).into_owned(),
        Err(_) => raw.iter().map(|b| cp437(*b)).collect(),
    }
}

fn cp437(byte: u8) -> char {
    const HIGH: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";
    match byte.checked_sub(0x80) {
        None => char::from(byte),
        Some(high) => HIGH.chars().nth(usize::from(high)).unwrap_or('\u{FFFD}'),
    }
}

/// Units of work of one call of a decoder, whatever comes out of it: some blocks are empty.
const UNPACKED_CHUNK: u64 = 500;

/// Unpacks `raw` within the budget; returns the content and how many bytes of `raw` are left over.
fn unpack(raw: &[u8], entry: &ZipEntry, ctx: &mut Context) -> Result<(Vec<u8>, u64), MemberError> {
    let fault = |fault: Fault| match fault {
        Fault::Unsupported => MemberError::Unsupported(entry.method),
        Fault::Window { bytes } => MemberError::Window { method: entry.method, bytes },
        Fault::Damaged => MemberError::Damaged,
    };
    let mut unpacker = Unpacker::new(raw, entry.method, entry.flags, entry.declared).map_err(fault)?;
    ctx.budget.work(raw.len() as u64 * unpacker.units_per_packed_byte())?;
    // Deflate cannot expand more than 1,032 times: a lie about the size reserves no more than that. Other methods can; what they
    // have beyond it grows as it comes.
    let expected = entry.declared.min((raw.len() as u64).saturating_mul(1_032)).min(MAX_MEMBER_BYTES);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
    let mut chunk = [0u8; 32 * 1024];
    while let Some(n) = unpacker.read(&mut chunk).map_err(fault)? {
        ctx.budget.inflate(n as u64)?;
        ctx.budget.work((n as u64 * unpacker.units_per_byte()).max(UNPACKED_CHUNK))?;
        let room = MAX_MEMBER_BYTES.saturating_sub(bytes.len() as u64);
        if n as u64 > room {
            return Err(MemberError::TooLarge);
        }
        if bytes.capacity() - bytes.len() < n {
            // Doubled, never beyond what a member may have: a vector left to itself would take up to twice that.
            bytes.reserve_exact(bytes.len().max(n).min(usize::try_from(room).unwrap_or(n)));
        }
        bytes.extend_from_slice(chunk.get(..n).unwrap_or(&[]));
    }
    Ok((bytes, unpacker.unused()))
}

/// The first `max` bytes that come out of `raw`, ignoring what is wrong behind them.
fn peek_data(raw: &[u8], method: u16, flags: u16, declared: u64, max: usize) -> Vec<u8> {
    if method == STORED {
        return raw.get(..max.min(raw.len())).unwrap_or(&[]).to_vec();
    }
    let mut bytes = vec![0; max];
    let mut filled = 0;
    if let Ok(mut unpacker) = Unpacker::new(raw, method, flags, declared) {
        while filled < max {
            match bytes.get_mut(filled..).map(|rest| unpacker.read(rest)) {
                Some(Ok(Some(n))) => filled += n,
                _ => break,
            }
        }
    }
    bytes.truncate(filled);
    bytes
}

fn check(entry: &ZipEntry, content: &[u8]) -> Result<(), MemberError> {
    if content.len() as u64 != entry.declared {
        return Err(MemberError::Size { declared: entry.declared, real: content.len() as u64 });
    }
    if crc32fast::hash(content) != entry.crc32 {
        return Err(MemberError::Crc);
    }
    Ok(())
}

fn slice(bytes: &[u8], start: u64, end: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn has(bytes: &[u8], pos: u64, signature: &[u8]) -> bool {
    usize::try_from(pos).ok().and_then(|pos| bytes.get(pos..)).is_some_and(|rest| rest.starts_with(signature))
}

fn array<const N: usize>(bytes: &[u8], pos: u64) -> Option<[u8; N]> {
    let pos = usize::try_from(pos).ok()?;
    bytes.get(pos..pos.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], pos: u64) -> Option<u16> {
    array(bytes, pos).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], pos: u64) -> Option<u32> {
    array(bytes, pos).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], pos: u64) -> Option<u64> {
    array(bytes, pos).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Cursor, Write as _};

    use proptest::prelude::*;
    use zip::CompressionMethod;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::inspect::{Limits, inspect};

    /// An archive as an ordinary library writes it.
    pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        with_method(members, CompressionMethod::Deflated)
    }

    pub(crate) fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
        with_method(members, CompressionMethod::Stored)
    }

    fn with_method(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    /// Replaces every occurrence; both texts have the same length, so that no offset moves.
    pub(crate) fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.to_vec();
        let places: Vec<usize> = memchr::memmem::find_iter(&bytes, from).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        bytes
    }

    fn kinds(bytes: &[u8]) -> Vec<ZipProblemKind> {
        ZipIndex::open(bytes).unwrap().problems.iter().map(|p| p.kind).collect()
    }

    fn context() -> Context {
        Context::new(Limits::default())
    }

    fn at(bytes: &[u8], signature: &[u8]) -> usize {
        memchr::memmem::find(bytes, signature).unwrap()
    }

    /// Puts `added` at `place` and corrects the offset of the directory.
    fn insert(bytes: &[u8], place: usize, added: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes.splice(place..place, added.iter().copied());
        let end = memchr::memmem::rfind(&bytes, END).unwrap();
        let offset = u32_at(&bytes, end as u64 + 16).unwrap();
        if offset as usize >= place {
            let moved = offset + added.len() as u32;
            bytes[end + 16..end + 20].copy_from_slice(&moved.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn duplicates_are_kept() {
        let bytes = replace(&archive(&[("file1", b"one"), ("file2", b"two")]), b"file2", b"file1");
        let index = ZipIndex::open(&bytes).unwrap();
        assert_eq!(index.count, 2);
        assert_eq!(index.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["file1", "file1"]);
        assert_eq!(index.read(index.entry("file1").unwrap(), &mut context()).unwrap(), b"one");
        assert_eq!(index.read(&index.entries[1], &mut context()).unwrap(), b"two");
    }

    #[test]
    fn a_local_header_that_contradicts_the_directory_is_told() {
        let good = archive(&[("file1", b"content of the file")]);
        let mut name = good.clone();
        name[30] = b'F';
        assert_eq!(kinds(&name), [ZipProblemKind::HeadersDisagree(ZipField::Name)]);
        for (byte, field) in
            [(8, ZipField::Method), (10, ZipField::Date), (14, ZipField::Crc), (18, ZipField::Compressed), (22, ZipField::Size)]
        {
            let mut bytes = good.clone();
            bytes[byte] ^= 1;
            assert_eq!(kinds(&bytes), [ZipProblemKind::HeadersDisagree(field)]);
        }
        let mut lost = good;
        lost[3] = 9;
        let index = ZipIndex::open(&lost).unwrap();
        assert_eq!(index.severity(), Some(ZipSeverity::Broken));
        assert!(matches!(index.member(&index.entries[0], &mut context()), Err(MemberError::Missing)));
    }

    #[test]
    fn streamed_members_agree_with_or_without_the_descriptor_signature() {
        let mut writer = zip::ZipWriter::new_stream(Vec::new());
        writer.start_file("s", SimpleFileOptions::default()).unwrap();
        writer.write_all(b"streamed content").unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        assert_eq!(kinds(&bytes), []);
        let descriptor = at(&bytes, DESCRIPTOR);
        let mut wrong = bytes.clone();
        wrong[descriptor + 8] ^= 1;
        assert_eq!(kinds(&wrong), [ZipProblemKind::DescriptorDisagrees]);
        let mut bare = bytes;
        bare.drain(descriptor..descriptor + 4);
        let end = at(&bare, END);
        let offset = u32_at(&bare, end as u64 + 16).unwrap() - 4;
        bare[end + 16..end + 20].copy_from_slice(&offset.to_le_bytes());
        assert_eq!(kinds(&bare), []);
    }

    #[test]
    fn bytes_before_after_and_between_are_counted() {
        let good = archive(&[("a", b"one")]);
        let prefixed = [b"MZ program".as_slice(), &good].concat();
        let index = ZipIndex::open(&prefixed).unwrap();
        assert_eq!((index.leading, index.problems[0].kind), (10, ZipProblemKind::Leading));
        assert_eq!(index.read(&index.entries[0], &mut context()).unwrap(), b"one");
        let trailed = [&good, b"more".as_slice()].concat();
        assert_eq!((ZipIndex::open(&trailed).unwrap().trailing, kinds(&trailed)), (4, vec![ZipProblemKind::Trailing]));
        let gap = insert(&good, at(&good, CENTRAL), b"hidden");
        assert_eq!((ZipIndex::open(&gap).unwrap().hidden, kinds(&gap)), (6, vec![ZipProblemKind::Gap]));
        let before_end = insert(&good, at(&good, END), b"X");
        assert_eq!(kinds(&before_end), [ZipProblemKind::GapBeforeEnd]);
    }

    #[test]
    fn overlapping_entries_are_told() {
        let mut bytes = stored(&[("a", b"12345678"), ("b", b"12345678")]);
        let second = memchr::memmem::rfind(&bytes, CENTRAL).unwrap();
        bytes[second + 42..second + 46].copy_from_slice(&0u32.to_le_bytes());
        assert!(kinds(&bytes).contains(&ZipProblemKind::Overlap));
    }

    #[test]
    fn an_archive_cut_behind_a_stored_archive_is_not_taken_for_the_inner_one() {
        let inner = stored(&[("inner", b"inner")]);
        let outer = stored(&[("a", b"first"), ("inner.zip", &inner), ("z", b"last")]);
        let cut = at(&outer, &inner) + inner.len() + 3;
        assert_eq!(ZipIndex::open(&outer[..cut]).unwrap_err(), ZipError::NoEnd);
        assert_eq!(salvage(&outer[..cut], 10, 10)[0], ("a".to_owned(), b"firstPK\x03\x04\x0a".to_vec()));
    }

    #[test]
    fn a_damaged_directory_is_an_error() {
        let mut bytes = archive(&[("a", b"1"), ("b", b"2")]);
        let second = memchr::memmem::rfind(&bytes, CENTRAL).unwrap();
        bytes[second + 2] = 7;
        assert_eq!(ZipIndex::open(&bytes).unwrap_err(), ZipError::DirectoryDamaged { entries: 1, byte: second as u64 });
        assert_eq!(ZipIndex::open(b"no archive at all").unwrap_err(), ZipError::NoEnd);
        let mut split = archive(&[("a", b"1")]);
        let end = at(&split, END);
        split[end + 4] = 1;
        assert_eq!(ZipIndex::open(&split).unwrap_err(), ZipError::Split);
    }

    #[test]
    fn zip64_archives_read_the_same() {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("big", SimpleFileOptions::default().large_file(true)).unwrap();
        writer.write_all(b"not so big").unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        let index = ZipIndex::open(&bytes).unwrap();
        assert_eq!(index.problems, []);
        assert_eq!(index.read(&index.entries[0], &mut context()).unwrap(), b"not so big");
    }

    #[test]
    fn names_are_decoded_as_announced_or_as_they_are() {
        assert_eq!(decode("é".as_bytes(), false), "é", "macOS does not announce UTF-8");
        assert_eq!(decode(b"\x82t\x82", false), "été");
        let utf8 = archive(&[("été", b"1")]);
        assert_eq!(ZipIndex::open(&utf8).unwrap().entries[0].name, "été");
        let invalid = replace(&utf8, "été".as_bytes(), b"\xFFt\xFF\xFFx");
        assert!(kinds(&invalid).contains(&ZipProblemKind::NameEncoding));
        assert!(kinds(&replace(&archive(&[("ab", b"1")]), b"ab", b"a\0")).contains(&ZipProblemKind::NulInName));
    }

    #[test]
    fn a_unicode_twin_of_an_ascii_name_must_not_show_another_name() {
        let mut field = vec![1];
        field.extend_from_slice(&crc32fast::hash(b"test").to_le_bytes());
        field.extend_from_slice(b"evil!");
        let block = [0x75, 0x70, field.len() as u8, 0].into_iter().chain(field).collect::<Vec<u8>>();
        let extra = Extra::read(&block);
        assert_eq!(effective_name(b"test", 0, &extra), "evil!");
        assert_eq!(effective_name(b"renamed", 0, &extra), "renamed", "a twin of another name is stale");
        assert_eq!(Extra::read(&block[..8]).problems, [ZipProblemKind::ExtraField]);
        assert_eq!(Extra::read(&[block.clone(), block].concat()).problems, [ZipProblemKind::ExtraField]);
        assert_eq!(Extra::read(&[0xFF, 0xFF, 0xFF]).problems, [ZipProblemKind::ExtraPadding]);
    }

    #[test]
    fn an_ascii_name_and_its_unicode_twin_may_differ_by_what_ascii_lacks() {
        for (raw, name) in [
            ("Preuve - INS.png", "Preuve – INS.png"),
            ("l'INS.png", "l’INS.png"),
            ("coeur.pdf", "cœur.pdf"),
            ("100 EUR.pdf", "100 €.pdf"),
            ("a/b?.txt", "a/b→.txt"),
            ("suite....pdf", "suite….pdf"),
            ("same.pdf", "same.pdf"),
        ] {
            assert!(is_transliteration(raw.as_bytes(), name), "{raw} / {name}");
        }
        for (raw, name) in [
            ("proof.png", "proof.exe"),
            ("proof.png", "evil.png"),
            ("a_b.png", "a–evil–b.png"),
            ("a/b.png", "a–b.png"),
            ("INS.01.png", "INS.02.png"),
            ("a.png", "…a.png.exe"),
            ("innocent.png", "é.png"),
        ] {
            assert!(!is_transliteration(raw.as_bytes(), name), "{raw} / {name}");
        }
    }

    #[test]
    fn lies_about_content_are_told_apart() {
        let good = archive(&[("a", b"some content that is long enough")]);
        let central = at(&good, CENTRAL);
        let failure = |patch: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            patch(&mut bytes);
            let index = ZipIndex::open(&bytes).unwrap();
            index.member(&index.entries[0], &mut context()).map(|_| ()).unwrap_err()
        };
        assert!(matches!(failure(&|b| b[central + 16] ^= 1), MemberError::Crc));
        assert!(matches!(failure(&|b| b[central + 24] = 5), MemberError::Size { declared: 5, real: 32 }));
        assert!(matches!(failure(&|b| b[central + 8] |= 1), MemberError::Encrypted));
        assert!(matches!(failure(&|b| b[central + 10] = 98), MemberError::Unsupported(98)));
        assert!(matches!(failure(&|b| b[central + 10] = 14), MemberError::Damaged));
        assert!(matches!(failure(&|b| b[central + 20] = 250), MemberError::Missing));
        let mut small = Context::new(Limits { max_inflated_bytes: 10, ..Limits::default() });
        let index = ZipIndex::open(&good).unwrap();
        assert!(matches!(index.read(&index.entries[0], &mut small), Err(ReadError::Exceeded(Exceeded::Inflated))));
    }

    fn members() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        proptest::collection::btree_map("[a-zé/]{1,12}", proptest::collection::vec(0u8..4, 0..300), 0..8)
            .prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_the_zip_crate_writes_is_read_back_without_a_problem(members in members(), deflate: bool, comment in "[ -~]{0,40}") {
            let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
            writer.set_comment(comment).unwrap();
            let method = if deflate { CompressionMethod::Deflated } else { CompressionMethod::Stored };
            for (name, content) in &members {
                writer.start_file(name.as_str(), SimpleFileOptions::default().compression_method(method)).unwrap();
                writer.write_all(content).unwrap();
            }
            let bytes = writer.finish().unwrap().into_inner();
            let index = ZipIndex::open(&bytes).unwrap();
            prop_assert_eq!(&index.problems, &[]);
            prop_assert_eq!(index.entries.len(), members.len());
            for (entry, (name, content)) in index.entries.iter().zip(&members) {
                prop_assert_eq!(&entry.name, name);
                prop_assert_eq!(&index.read(entry, &mut context()).unwrap(), content);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), magic in 0usize..8) {
            let magics: [&[u8]; 8] = [b"", b"PK\x03\x04", b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", b"\0\0\0\x10ftyp", b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n", b"<?xml ", b"%PDF-1.4"];
            let bytes = [magics[magic], &bytes].concat();
            inspect(&bytes, &mut context());
            salvage(&bytes, 50, 50);
        }

        #[test]
        fn mutated_archives_never_panic(members in members(), edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), cut in any::<prop::sample::Index>()) {
            let list: Vec<(&str, &[u8])> = members.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
            let mut bytes = archive(&list);
            for (place, value) in edits {
                let i = place.index(bytes.len());
                bytes[i] = value;
            }
            inspect(&bytes, &mut context());
            inspect(&bytes[..cut.index(bytes.len())], &mut context());
        }

        #[test]
        fn mutated_compound_files_and_text_never_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40), text in "\\PC{0,200}") {
            let mut file = ::cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
            file.create_stream("/Workbook").unwrap().write_all(&[1; 5000]).unwrap();
            file.flush().unwrap();
            let mut bytes = file.into_inner().into_inner();
            for (place, value) in edits {
                let i = place.index(bytes.len());
                bytes[i] = value;
            }
            let mut facts = crate::model::Facts::default();
            crate::identify::identify(&bytes, &mut facts);
            crate::identify::identify(text.as_bytes(), &mut facts);
        }
    }
}
