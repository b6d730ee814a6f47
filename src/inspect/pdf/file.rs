//! The file structure (ISO 32000-2 §7.5): cross-reference tables and streams, object streams, and objects
//! on demand.
//!
//! Goals:
//! 1. Lazy: an object is parsed when it is asked for, and an object stream is inflated under the item's
//!    budget, so that neither a million tiny objects nor a hundred object streams of 60 MiB cost memory.
//! 2. What was repaired and what was lost is told apart ([`Harm`]): most viewers repair silently, a
//!    verifier should know, and a vendor is refused only where content is missing.
//! 3. Dead revisions do not matter: only what the newest cross-reference table names is read, unless that
//!    table is unusable; then the objects are found by scanning, the last one of a number wins.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use memchr::memmem;

use super::crypt::Access;
use super::filters::{self, Decoded, Outcome};
use super::lexer::{Lexer, Token, Unreadable, is_space};
use super::object::{Dict, Object, Stream};
use crate::inspect::budget::{Budget, Exceeded};

/// Units of work of an entry of a cross-reference table, or of an object found by scanning.
const ENTRY: u64 = 200;
/// Units of work of a byte that is searched for lost objects, and of a look at the head of one.
const SCANNED_BYTE: u64 = 20;
const HEAD: u64 = 4_000;
/// Units of work of parsing, for each unit of weight that an object has in the cache.
const WEIGHT: u64 = 20;
/// Cross-reference entries that are followed. The largest honest documents have some 500,000.
pub const MAX_ENTRIES: usize = 2_000_000;
/// Cross-reference sections (revisions) that are followed.
const MAX_SECTIONS: usize = 5_000;
/// Readers look for `startxref` in so many last bytes (annex H.3 says 1,024 for `%%EOF`).
const TAIL: usize = 1_054;
/// Source bytes of parsed objects kept (an object takes up to 16 times its source).
const MAX_CACHED: usize = 4 * 1024 * 1024;
/// Bytes of decoded object streams kept.
const MAX_PACKED: usize = 96 * 1024 * 1024;
/// Object streams and indirect lengths that need one another, at most.
const MAX_DEPTH: u32 = 8;
/// References to references that are followed.
const MAX_CHAIN: u32 = 16;

/// Where an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Free,
    At(usize),
    Packed { stream: u32, index: u32 },
}

/// A decoded object stream.
#[derive(Debug)]
struct Pack {
    bytes: Vec<u8>,
    /// Object number and offset, in stream order.
    objects: Vec<(u32, usize)>,
}

/// What was found damaged.
#[derive(Debug, Default)]
pub struct Harm {
    repaired: BTreeSet<String>,
    lost: BTreeSet<String>,
    more: u64,
}

impl Harm {
    /// Damage that was read around: everything is there.
    pub fn repaired(&mut self, what: impl Into<String>) {
        Self::add(&mut self.repaired, &mut self.more, what.into());
    }
    /// Damage that costs content.
    pub fn lost(&mut self, what: impl Into<String>) {
        Self::add(&mut self.lost, &mut self.more, what.into());
    }
    fn add(set: &mut BTreeSet<String>, more: &mut u64, what: String) {
        if set.len() < 1000 {
            set.insert(what);
        } else {
            *more += 1;
        }
    }
    /// How many repairs, and the first few by name.
    pub fn all_repaired(&self) -> Option<(u64, String)> {
        Self::show(&self.repaired, self.more)
    }
    /// How many losses, and the first few by name.
    pub fn all_lost(&self) -> Option<(u64, String)> {
        Self::show(&self.lost, self.more)
    }
    fn show(set: &BTreeSet<String>, more: u64) -> Option<(u64, String)> {
        let first: Vec<&str> = set.iter().take(6).map(String::as_str).collect();
        (!set.is_empty()).then(|| (set.len() as u64 + if set.len() == 1000 { more } else { 0 }, first.join(", ")))
    }
}

/// Why a file was not opened at all.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The budget ended.
    Exceeded(Exceeded),
    /// More objects than [`MAX_ENTRIES`].
    TooManyObjects,
    /// Nothing leads to the document; what is missing.
    Corrupt(&'static str),
}

impl From<Exceeded> for OpenError {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

/// An open PDF.
#[derive(Debug)]
pub struct File<'a> {
    data: &'a [u8],
    entries: BTreeMap<u32, Entry>,
    /// Objects that the section being read was the first to call free.
    freed: Vec<u32>,
    /// The newest trailer dictionary.
    pub trailer: Dict,
    /// Damage met so far.
    pub harm: Harm,
    /// Encryption.
    pub access: Access,
    /// Cross-reference sections read: 1 + incremental updates (a linearized file has 2 for one revision).
    pub sections: usize,
    cache: BTreeMap<u32, Rc<Object>>,
    cached: usize,
    packs: BTreeMap<u32, Rc<Pack>>,
    packed: usize,
    depth: u32,
    /// Streams decoded at least once.
    pub decoded: BTreeSet<u32>,
}

impl<'a> File<'a> {
    /// Opens `bytes`, which begin with the header.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(bytes: &'a [u8], budget: &mut Budget) -> Result<Self, OpenError> {
        let mut file = Self {
            data: bytes,
            entries: BTreeMap::new(),
            freed: Vec::new(),
            trailer: Dict::default(),
            harm: Harm::default(),
            access: Access::Plain,
            sections: 0,
            cache: BTreeMap::new(),
            cached: 0,
            packs: BTreeMap::new(),
            packed: 0,
            depth: 0,
            decoded: BTreeSet::new(),
        };
        if let Err(broken) = file.read_sections(budget)? {
            file.harm.repaired(broken);
            file.rebuild(budget)?;
        } else {
            file.check_size();
            file.check_entries(budget)?;
        }
        if file.trailer.get("Root").reference().is_none() && file.trailer.get("Root").dict().is_none() {
            return Err(OpenError::Corrupt("trailer /Root"));
        }
        file.unlock(budget)?;
        if !matches!(file.access, Access::Locked { .. }) {
            file.measure_packs(budget)?;
        }
        Ok(file)
    }

    /// Bytes of the file, from its header.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Numbers of the objects that stand at or behind byte `end`: those of revisions that were added there.
    pub fn changed_from(&self, end: usize) -> Vec<u32> {
        let late = |num: &u32| matches!(self.entries.get(num), Some(Entry::At(at)) if *at >= end);
        let numbers = self.entries.iter().filter(|(num, entry)| match entry {
            Entry::At(_) => late(num),
            Entry::Packed { stream, .. } => late(stream),
            Entry::Free => false,
        });
        numbers.map(|(num, _)| *num).collect()
    }

    // ---- cross-reference sections -------------------------------------------------------------------

    /// Follows the chain of sections from `startxref`. The inner error says which piece is broken.
    fn read_sections(&mut self, budget: &mut Budget) -> Result<Result<(), &'static str>, OpenError> {
        let Some(at) = memmem::rfind(self.data, b"startxref") else { return Ok(Err("startxref")) };
        // Readers look for it in the last bytes only.
        if self.data.len() - at > TAIL {
            self.harm.repaired("startxref");
        }
        let mut lexer = Lexer::new(self.data, at + b"startxref".len());
        let Token::Int(first) = lexer.token() else { return Ok(Err("startxref")) };
        let mut next = usize::try_from(first).ok();
        let mut seen = BTreeSet::new();
        while let Some(offset) = next {
            budget.tick()?;
            if !seen.insert(offset) || seen.len() > MAX_SECTIONS {
                return Ok(Err("/Prev"));
            }
            self.freed.clear();
            let Some(section) = self.read_section(offset, budget)? else { return Ok(Err("xref")) };
            // A hybrid file (§7.5.8.4) hides objects from old readers: they stand as free in its table.
            if let Some(stream) = section.get("XRefStm").int() {
                let at = usize::try_from(stream).unwrap_or(usize::MAX);
                let hidden = std::mem::take(&mut self.freed);
                hidden.iter().for_each(|num| _ = self.entries.remove(num));
                if seen.insert(at) && self.read_section(at, budget)?.is_none() {
                    return Ok(Err("/XRefStm"));
                }
                hidden.iter().for_each(|num| _ = self.entries.entry(*num).or_insert(Entry::Free));
            }
            next = match section.get("Prev") {
                Object::Null => None,
                prev => match prev.int().and_then(|n| usize::try_from(n).ok()) {
                    Some(prev) => Some(prev),
                    None => return Ok(Err("/Prev")),
                },
            };
            if self.sections == 0 {
                self.trailer = section;
            }
            self.sections += 1;
        }
        Ok(if self.sections == 0 { Err("startxref") } else { Ok(()) })
    }

    fn read_section(&mut self, offset: usize, budget: &mut Budget) -> Result<Option<Dict>, OpenError> {
        let mut lexer = Lexer::new(self.data, offset);
        match lexer.token() {
            Token::Word(b"xref") => self.read_table(lexer, budget),
            Token::Int(_) => self.read_xref_stream(offset, budget),
            _ => Ok(None),
        }
    }

    fn read_table(&mut self, mut lexer: Lexer<'a>, budget: &mut Budget) -> Result<Option<Dict>, OpenError> {
        loop {
            let start = match lexer.token() {
                Token::Int(start) => start,
                Token::Word(b"trailer") => break,
                _ => return Ok(None),
            };
            let (Ok(mut num), Token::Int(count)) = (u32::try_from(start), lexer.token()) else { return Ok(None) };
            for i in 0..count {
                if i % 1024 == 0 {
                    budget.work(1024 * ENTRY)?;
                }
                let before = lexer.pos;
                let (Token::Int(at), Token::Int(generation), Token::Word(kind)) = (lexer.token(), lexer.token(), lexer.token()) else {
                    // Fewer entries than announced: the trailer may follow all the same.
                    lexer.pos = before;
                    self.harm.repaired("xref");
                    break;
                };
                // A table that starts at 1 with the head of the free list is off by one.
                if i == 0 && num == 1 && at == 0 && generation == 65_535 && kind == b"f" {
                    num = 0;
                    self.harm.repaired("xref");
                }
                let entry = match (kind, usize::try_from(at)) {
                    // An object at offset 0 is a producer's way to say "free".
                    (b"n", Ok(at)) if at > 0 => Entry::At(at),
                    (b"n" | b"f", _) => Entry::Free,
                    _ => return Ok(None),
                };
                self.add(num, entry)?;
                let Some(following) = num.checked_add(1) else { return Ok(None) };
                num = following;
            }
        }
        match lexer.object() {
            Ok(Object::Dict(dict)) => {
                if lexer.odd {
                    self.harm.repaired("trailer");
                }
                Ok(Some(dict))
            }
            _ => Ok(None),
        }
    }

    fn add(&mut self, num: u32, entry: Entry) -> Result<(), OpenError> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(OpenError::TooManyObjects);
        }
        // Sections are read newest first: what stands already wins.
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.entries.entry(num) {
            vacant.insert(entry);
            if entry == Entry::Free {
                self.freed.push(num);
            }
        }
        Ok(())
    }

    fn read_xref_stream(&mut self, offset: usize, budget: &mut Budget) -> Result<Option<Dict>, OpenError> {
        let Some((_, stream)) = self.stream_at(offset) else { return Ok(None) };
        if !stream.dict.is("Type", "XRef") {
            return Ok(None);
        }
        let chain = filters::chain(stream.dict.get("Filter"), stream.dict.get("DecodeParms"));
        let raw = self.data.get(stream.start..stream.start + stream.len).unwrap_or_default();
        let decoded = filters::decode(Cow::Borrowed(raw), &chain, budget)?;
        if decoded.outcome >= Outcome::Damaged {
            return Ok(None);
        }
        let dict = &stream.dict;
        let widths: Vec<usize> = dict.get("W").items().iter().filter_map(|w| usize::try_from(w.int()?).ok()).collect();
        let &[kind_width, first_width, second_width] = widths.as_slice() else { return Ok(None) };
        let row = kind_width + first_width + second_width;
        if row == 0 || kind_width > 8 || first_width > 8 || second_width > 8 {
            return Ok(None);
        }
        let mut ranges: Vec<(i64, i64)> =
            dict.get("Index").items().chunks_exact(2).filter_map(|pair| Some((pair[0].int()?, pair[1].int()?))).collect();
        if ranges.is_empty() {
            ranges.push((0, dict.get("Size").int().unwrap_or(i64::MAX)));
        }
        let mut rows = decoded.bytes.chunks_exact(row);
        for (start, count) in ranges {
            let Ok(mut num) = u32::try_from(start) else { return Ok(None) };
            for i in 0..count {
                if i % 1024 == 0 {
                    budget.work(1024 * ENTRY)?;
                }
                let Some(fields) = rows.next() else { break };
                let big_endian = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                let (kind, rest) = fields.split_at(kind_width);
                let (first, second) = rest.split_at(first_width);
                let (first, second) = (big_endian(first), big_endian(second));
                let kind = if kind.is_empty() { 1 } else { big_endian(kind) };
                let entry = match (kind, usize::try_from(first), u32::try_from(first), u32::try_from(second)) {
                    (1, Ok(at), ..) if at > 0 => Entry::At(at),
                    (2, _, Ok(stream), Ok(index)) => Entry::Packed { stream, index },
                    _ => Entry::Free,
                };
                self.add(num, entry)?;
                let Some(following) = num.checked_add(1) else { break };
                num = following;
            }
        }
        Ok(Some(stream.dict))
    }

    /// `/Size` is one more than the highest object number (§7.5.5).
    fn check_size(&mut self) {
        let highest = self.entries.keys().next_back().map_or(0, |n| i64::from(*n) + 1);
        if self.trailer.get("Size").int() != Some(highest) {
            self.harm.repaired("trailer /Size");
        }
    }

    /// Checks that an object stands wherever the table says so; those that do not are looked for.
    fn check_entries(&mut self, budget: &Budget) -> Result<(), OpenError> {
        let mut astray = Vec::new();
        for (i, (num, entry)) in self.entries.iter().enumerate() {
            if i % 1024 == 0 {
                budget.work(1024 * ENTRY)?;
            }
            if let Entry::At(at) = entry
                && self.header_at(*at).is_none_or(|(found, ..)| found != *num)
            {
                astray.push(*num);
            }
        }
        if astray.is_empty() {
            return Ok(());
        }
        let found = self.scan(budget)?;
        for num in astray {
            self.harm.repaired(format!("xref {num} 0 R"));
            match found.objects.get(&num) {
                Some(at) => self.entries.insert(num, Entry::At(*at)),
                None => self.entries.insert(num, Entry::Free),
            };
        }
        Ok(())
    }

    // ---- repair -------------------------------------------------------------------------------------

    /// Builds the table anew by scanning for objects and trailers.
    fn rebuild(&mut self, budget: &mut Budget) -> Result<(), OpenError> {
        let found = self.scan(budget)?;
        if found.objects.len() >= MAX_ENTRIES {
            return Err(OpenError::TooManyObjects);
        }
        self.freed = Vec::new();
        self.entries = found.objects.iter().map(|(num, at)| (*num, Entry::At(*at))).collect();
        // The last trailer that names a root counts; cross-reference streams are trailers too.
        self.trailer = Dict::default();
        for at in found.trailers {
            let mut lexer = Lexer::new(self.data, at);
            if let Ok(Object::Dict(dict)) = lexer.object()
                && dict.has("Root")
            {
                if lexer.odd {
                    self.harm.repaired("trailer");
                }
                self.trailer = dict;
            }
        }
        let mut packs = Vec::new();
        for (i, at) in found.objects.values().enumerate() {
            if i % 1024 == 0 {
                budget.work(1024 * HEAD)?;
            }
            if self.head_has(*at, b"XRef") || self.head_has(*at, b"ObjStm") {
                let Some((num, stream)) = self.stream_at(*at) else { continue };
                if stream.dict.is("Type", "XRef") && stream.dict.has("Root") && !self.trailer.has("Root") {
                    self.trailer = stream.dict;
                } else if stream.dict.is("Type", "ObjStm") {
                    packs.push(num);
                }
            }
        }
        if !self.trailer.has("Root") {
            return Err(OpenError::Corrupt("trailer"));
        }
        // Decrypting comes before unpacking.
        self.unlock(budget)?;
        for stream in packs {
            let Some(pack) = self.pack(stream, budget)? else { continue };
            for (index, (num, _)) in pack.objects.iter().enumerate() {
                let entry = Entry::Packed { stream, index: u32::try_from(index).unwrap_or(u32::MAX) };
                self.add(*num, entry)?;
            }
        }
        Ok(())
    }

    fn scan(&self, budget: &Budget) -> Result<Found, Exceeded> {
        let mut found = Found::default();
        let data = self.data;
        budget.work(data.len() as u64 * SCANNED_BYTE)?;
        for (i, at) in memmem::find_iter(data, b"obj").enumerate() {
            if i % 1024 == 0 {
                budget.work(1024 * ENTRY)?;
            }
            // Backwards: spaces, generation, spaces, number, and nothing glued before.
            let Some((generation, before)) = number_before(data, at) else { continue };
            let Some((num, start)) = number_before(data, before) else { continue };
            let glued = start.checked_sub(1).and_then(|p| data.get(p)).is_some_and(u8::is_ascii_alphanumeric);
            if let (Ok(num), Ok(_), false) = (u32::try_from(num), u16::try_from(generation), glued)
                && found.objects.len() < MAX_ENTRIES
            {
                found.objects.insert(num, start);
            }
        }
        found.trailers = memmem::find_iter(data, b"trailer").map(|at| at + b"trailer".len()).take(MAX_SECTIONS).collect();
        Ok(found)
    }

    /// Whether `word` stands within the first bytes of the object at `at`: a cheap look before a parse.
    fn head_has(&self, at: usize, word: &[u8]) -> bool {
        let head = self.data.get(at..at.saturating_add(512).min(self.data.len())).unwrap_or_default();
        let head = &head[..memmem::find(head, b"stream").unwrap_or(head.len())];
        memmem::find(head, word).is_some()
    }

    // ---- encryption ---------------------------------------------------------------------------------

    fn unlock(&mut self, budget: &mut Budget) -> Result<(), Exceeded> {
        if !matches!(self.access, Access::Plain) || !self.trailer.has("Encrypt") {
            return Ok(());
        }
        let encrypt = self.resolve(&self.trailer.get("Encrypt").clone(), budget)?;
        let ids = self.resolve(&self.trailer.get("ID").clone(), budget)?;
        let Some(dict) = encrypt.dict() else {
            self.harm.lost("trailer /Encrypt");
            return Ok(());
        };
        let mut direct = Dict::default();
        for (key, value) in &dict.0 {
            direct.0.push((key.clone(), (*self.resolve(value, budget)?).clone()));
        }
        let id = match ids.items().first() {
            Some(id) => self.resolve(id, budget)?.string().unwrap_or_default().to_vec(),
            None => Vec::new(),
        };
        self.access = Access::of(&direct, &id);
        // What was read so far was read undecrypted; the encryption dictionary itself stays so (§7.6.2).
        self.cache.clear();
        self.packs.clear();
        (self.cached, self.packed) = (0, 0);
        Ok(())
    }

    // ---- objects ------------------------------------------------------------------------------------

    /// The object numbered `num`; `Null` where there is none (§7.3.10).
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn get(&mut self, num: u32, budget: &mut Budget) -> Result<Rc<Object>, Exceeded> {
        if let Some(object) = self.cache.get(&num) {
            return Ok(Rc::clone(object));
        }
        budget.tick()?;
        let (object, weight) = match self.entries.get(&num).copied() {
            None | Some(Entry::Free) => return Ok(Rc::new(Object::Null)),
            Some(Entry::At(at)) => self.read_at(at, num, budget)?,
            Some(Entry::Packed { stream, index }) => self.read_packed(stream, index, num, budget)?,
        };
        // Parsing: objects that do not fit in the cache are parsed whenever they are asked for.
        budget.work(weight as u64 * WEIGHT)?;
        let object = Rc::new(object);
        if self.cached + weight > MAX_CACHED {
            self.cache.clear();
            self.cached = 0;
        }
        if weight <= MAX_CACHED {
            self.cached += weight;
            self.cache.insert(num, Rc::clone(&object));
        }
        Ok(object)
    }

    /// `object` itself, or what it refers to.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn resolve(&mut self, object: &Object, budget: &mut Budget) -> Result<Rc<Object>, Exceeded> {
        let Object::Ref(num) = object else { return Ok(Rc::new(object.clone())) };
        let mut found = self.get(*num, budget)?;
        for _ in 0..MAX_CHAIN {
            let Object::Ref(next) = *found else { return Ok(found) };
            found = self.get(next, budget)?;
        }
        Ok(Rc::new(Object::Null))
    }

    /// The value under `key`, resolved.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn entry(&mut self, dict: &Dict, key: impl AsRef<[u8]>, budget: &mut Budget) -> Result<Rc<Object>, Exceeded> {
        self.resolve(dict.get(key), budget)
    }

    /// Number, generation and offset of the body of the object at `at`.
    fn header_at(&self, at: usize) -> Option<(u32, u16, usize)> {
        let mut lexer = Lexer::new(self.data, at);
        let Token::Int(num) = lexer.token() else { return None };
        let Token::Int(generation) = lexer.token() else { return None };
        let Token::Word(b"obj") = lexer.token() else { return None };
        Some((u32::try_from(num).ok()?, u16::try_from(generation).unwrap_or(0), lexer.pos))
    }

    fn read_at(&mut self, at: usize, num: u32, budget: &mut Budget) -> Result<(Object, usize), Exceeded> {
        let Some((found, generation, body)) = self.header_at(at) else {
            self.harm.lost(format!("{num} 0 obj"));
            return Ok((Object::Null, 64));
        };
        let mut lexer = Lexer::new(self.data, body);
        let mut object = match lexer.object() {
            Ok(object) => object,
            Err(Unreadable) => {
                // `5 0 obj endobj` is null; anything else that cannot be read is lost.
                let empty = Lexer::new(self.data, body).token() == Token::Word(b"endobj");
                if empty {
                    self.harm.repaired(format!("{num} 0 obj"))
                } else {
                    self.harm.lost(format!("{num} 0 obj"))
                }
                return Ok((Object::Null, 64));
            }
        };
        if lexer.odd {
            self.harm.repaired(format!("{num} 0 obj"));
        }
        let weight = lexer.pos - at + 64;
        if let Access::Open(key) = &self.access
            && self.trailer.get("Encrypt").reference() != Some(num)
        {
            key.decrypt_strings(&mut object, found, generation);
        }
        let mut end = lexer.clone();
        match (end.token(), object) {
            (Token::Word(b"stream"), Object::Dict(dict)) => {
                let stream = self.locate(dict, end.pos, num, generation, budget)?;
                Ok((Object::Stream(Box::new(stream)), weight))
            }
            (Token::Word(b"endobj"), object) => Ok((object, weight)),
            (_, object) => {
                self.harm.repaired(format!("{num} 0 obj: endobj"));
                Ok((object, weight))
            }
        }
    }

    /// Finds where the data of a stream starts and ends; `after` is the offset behind the word `stream`.
    fn locate(&mut self, dict: Dict, after: usize, num: u32, generation: u16, budget: &mut Budget) -> Result<Stream, Exceeded> {
        let data = self.data;
        let start = match data.get(after..) {
            Some([b'\r', b'\n', ..]) => after + 2,
            Some([b'\n', ..]) => after + 1,
            // §7.3.8.1 forbids a lone CR; readers take it.
            Some([b'\r', ..]) => {
                self.harm.repaired(format!("{num} 0 obj: stream"));
                after + 1
            }
            Some([b' ', b'\r', b'\n', ..]) => after + 3,
            Some([b' ', b'\n', ..]) => after + 2,
            _ => after,
        };
        let declared = if self.depth < MAX_DEPTH {
            self.depth += 1;
            let length = self.resolve(dict.get("Length"), budget);
            self.depth -= 1;
            length?.int().and_then(|n| usize::try_from(n).ok())
        } else {
            None
        };
        if let Some(len) = declared
            && let Some(end) = start.checked_add(len).filter(|end| *end <= data.len())
        {
            let mut lexer = Lexer::new(data, end);
            while lexer.peek().is_some_and(is_space) {
                lexer.pos += 1;
            }
            if lexer.rest().starts_with(b"endstream") {
                lexer.pos += b"endstream".len();
                if lexer.token() != Token::Word(b"endobj") {
                    self.harm.repaired(format!("{num} 0 obj: endobj"));
                }
                return Ok(Stream { dict, start, len, num, generation });
            }
        }
        let rest = data.get(start..).unwrap_or_default();
        let len = if let Some(end) = memmem::find(rest, b"endstream") {
            self.harm.repaired(format!("{num} 0 obj: /Length"));
            // The line end before `endstream` is not data.
            match &rest[..end] {
                [data @ .., b'\r', b'\n'] | [data @ .., b'\n' | b'\r'] => data.len(),
                data => data.len(),
            }
        } else {
            // The file ends inside the stream, or the next object starts without an end to this one.
            self.harm.lost(format!("{num} 0 obj: endstream"));
            memmem::find(rest, b"endobj").unwrap_or(rest.len())
        };
        Ok(Stream { dict, start, len, num, generation })
    }

    /// The stream at `at`, its length direct or found by its end: for cross-reference streams, which are
    /// read before any object can be looked up.
    fn stream_at(&mut self, at: usize) -> Option<(u32, Stream)> {
        let (num, generation, body) = self.header_at(at)?;
        let mut lexer = Lexer::new(self.data, body);
        let Ok(Object::Dict(dict)) = lexer.object() else { return None };
        let Token::Word(b"stream") = lexer.token() else { return None };
        let mut start = lexer.pos;
        if self.data.get(start) == Some(&b'\r') {
            start += 1;
        }
        if self.data.get(start) == Some(&b'\n') {
            start += 1;
        }
        let rest = self.data.get(start..)?;
        let declared = dict.get("Length").int().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= rest.len());
        let len = declared.or_else(|| memmem::find(rest, b"endstream"))?;
        Some((num, Stream { dict, start, len, num, generation }))
    }

    fn read_packed(&mut self, stream: u32, index: u32, num: u32, budget: &mut Budget) -> Result<(Object, usize), Exceeded> {
        let Some(pack) = self.pack(stream, budget)? else {
            self.harm.lost(format!("{stream} 0 obj: ObjStm"));
            return Ok((Object::Null, 64));
        };
        let at = usize::try_from(index).ok().and_then(|i| pack.objects.get(i)).filter(|o| o.0 == num);
        let at = at.or_else(|| pack.objects.iter().find(|o| o.0 == num));
        let Some((_, offset)) = at else {
            self.harm.repaired(format!("xref {num} 0 R"));
            return Ok((Object::Null, 64));
        };
        let mut lexer = Lexer::new(&pack.bytes, *offset);
        let object = lexer.object();
        if object.is_err() {
            self.harm.lost(format!("{num} 0 obj"));
        } else if lexer.odd {
            self.harm.repaired(format!("{num} 0 obj"));
        }
        Ok((object.unwrap_or(Object::Null), lexer.pos.saturating_sub(*offset) + 64))
    }

    /// The object stream `num` (§7.5.7), decoded; `None` where it is none.
    fn pack(&mut self, num: u32, budget: &mut Budget) -> Result<Option<Rc<Pack>>, Exceeded> {
        if let Some(pack) = self.packs.get(&num) {
            return Ok(Some(Rc::clone(pack)));
        }
        // Object streams do not stand in object streams.
        if self.depth >= MAX_DEPTH || !matches!(self.entries.get(&num), Some(Entry::At(_))) {
            return Ok(None);
        }
        self.depth += 1;
        let pack = self.read_pack(num, budget);
        self.depth -= 1;
        let Some(pack) = pack? else { return Ok(None) };
        if self.packed + pack.bytes.len() > MAX_PACKED {
            self.packs.clear();
            self.packed = 0;
        }
        self.packed += pack.bytes.len();
        let pack = Rc::new(pack);
        self.packs.insert(num, Rc::clone(&pack));
        Ok(Some(pack))
    }

    fn read_pack(&mut self, num: u32, budget: &mut Budget) -> Result<Option<Pack>, Exceeded> {
        let object = self.get(num, budget)?;
        let Some(stream) = object.stream() else { return Ok(None) };
        let first = self.entry(&stream.dict, "First", budget)?.int().and_then(|n| usize::try_from(n).ok());
        let count = self.entry(&stream.dict, "N", budget)?.int().and_then(|n| usize::try_from(n).ok());
        let (Some(first), Some(count)) = (first, count) else { return Ok(None) };
        let bytes = self.decode_strictly(stream, budget)?.bytes.into_owned();
        let mut lexer = Lexer::new(bytes.get(..first).unwrap_or(&bytes), 0);
        let mut objects = Vec::new();
        while objects.len() < count.min(MAX_ENTRIES) {
            let (Token::Int(num), Token::Int(offset)) = (lexer.token(), lexer.token()) else { break };
            let (Ok(num), Ok(offset)) = (u32::try_from(num), usize::try_from(offset)) else { break };
            objects.push((num, first.saturating_add(offset)));
        }
        if objects.len() < count {
            self.harm.repaired(format!("{num} 0 obj: ObjStm /N"));
        }
        Ok(Some(Pack { bytes, objects }))
    }

    /// Inflates every object stream once, whether or not anything in it is asked for: whoever opens the
    /// file with another reader will.
    fn measure_packs(&mut self, budget: &mut Budget) -> Result<(), Exceeded> {
        let mut packs: BTreeSet<u32> = BTreeSet::new();
        for (num, entry) in &self.entries {
            match entry {
                Entry::Packed { stream, .. } => _ = packs.insert(*stream),
                Entry::At(at) if self.head_has(*at, b"ObjStm") => _ = packs.insert(*num),
                _ => {}
            }
        }
        for num in packs {
            self.pack(num, budget)?;
        }
        Ok(())
    }

    // ---- stream data --------------------------------------------------------------------------------

    /// The data of `stream` as it stands in the file, decrypted.
    pub fn raw(&self, stream: &Stream) -> Cow<'a, [u8]> {
        let end = stream.start.saturating_add(stream.len).min(self.data.len());
        let data = self.data.get(stream.start..end).unwrap_or_default();
        match &self.access {
            Access::Open(key) => key.decrypt_stream(&stream.dict, stream.num, stream.generation, data),
            _ => Cow::Borrowed(data),
        }
    }

    /// Names and parameters of the filters of `stream`.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn filters(&mut self, stream: &Stream, budget: &mut Budget) -> Result<Vec<(Vec<u8>, Dict)>, Exceeded> {
        let filter = self.direct(stream.dict.get("Filter"), budget)?;
        let params = if stream.dict.has("DecodeParms") { "DecodeParms" } else { "DP" };
        let params = self.direct(stream.dict.get(params), budget)?;
        Ok(filters::chain(&filter, &params))
    }

    fn direct(&mut self, object: &Object, budget: &mut Budget) -> Result<Object, Exceeded> {
        let object = self.resolve(object, budget)?;
        Ok(match &*object {
            Object::Array(items) => {
                let mut direct = Vec::new();
                for item in items.iter().take(16) {
                    direct.push((*self.resolve(item, budget)?).clone());
                }
                Object::Array(direct)
            }
            other => other.clone(),
        })
    }

    /// Decodes the data of `stream`, which the pages or the structure depend on: a wrong checksum is noted
    /// too, as what was decoded may be wrong.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn decode_strictly(&mut self, stream: &Stream, budget: &mut Budget) -> Result<Decoded<'a>, Exceeded> {
        let decoded = self.decode(stream, budget)?;
        if decoded.outcome == Outcome::Unchecked {
            self.harm.repaired(format!("{} 0 obj: Adler-32", stream.num));
        }
        Ok(decoded)
    }

    /// Decodes the data of `stream`; damage is noted.
    ///
    /// # Errors
    /// [`Exceeded`] when the budget ends.
    pub fn decode(&mut self, stream: &Stream, budget: &mut Budget) -> Result<Decoded<'a>, Exceeded> {
        let chain = self.filters(stream, budget)?;
        let raw = self.raw(stream);
        let had_data = !raw.is_empty();
        let decoded = filters::decode(raw, &chain, budget)?;
        self.decoded.insert(stream.num);
        if decoded.outcome == Outcome::Damaged {
            let filter = chain.first().map_or_else(String::new, |(name, _)| String::from_utf8_lossy(name).into_owned());
            let what = format!("{} 0 obj: {filter}", stream.num);
            if decoded.bytes.is_empty() && had_data { self.harm.lost(what) } else { self.harm.repaired(what) }
        }
        Ok(decoded)
    }
}

/// What a scan of the whole file finds.
#[derive(Debug, Default)]
struct Found {
    /// Object number → offset of the last object of that number.
    objects: BTreeMap<u32, usize>,
    /// Offsets behind the word `trailer`.
    trailers: Vec<usize>,
}

/// The digits that end (after spaces) at `end`: their value and where they start.
fn number_before(data: &[u8], end: usize) -> Option<(u64, usize)> {
    let before = data.get(..end)?;
    let spaces = before.iter().rev().take(32).take_while(|b| is_space(**b)).count();
    let digits_end = end - spaces;
    let digits = before[..digits_end].iter().rev().take(10).take_while(|b| b.is_ascii_digit()).count();
    if spaces == 0 && data.get(end).is_some_and(u8::is_ascii_digit) || digits == 0 {
        return None;
    }
    let start = digits_end - digits;
    let value = before[start..digits_end].iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some((value, start))
}
