//! Stream filters (ISO 32000-2 §7.4), decoded under the item's budget.
//!
//! Every byte that comes out of a filter is counted, whatever the file declares; no more than
//! [`MAX_DECODED`] bytes of one stream are kept in memory (the rest is counted and dropped), so that a
//! bomb meets the budget and not the address-space limit. Picture codecs are left alone.

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress, Status};

use super::lexer::is_space;
use super::object::{Dict, Object};
use crate::inspect::budget::{Budget, Exceeded};

/// Bytes of one decoded stream kept in memory.
pub const MAX_DECODED: usize = 64 * 1024 * 1024;
/// Filters on one stream; real files have one or two.
const MAX_FILTERS: usize = 8;

/// How a decoding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// To its end.
    Whole,
    /// Longer than [`MAX_DECODED`]; the head is kept.
    Cut,
    /// To its end, yet its checksum is wrong or missing: viewers do not look at it.
    Unchecked,
    /// The data is damaged; what came out before is kept.
    Damaged,
    /// A filter that is not text-bearing (picture codecs) or is unknown.
    Opaque,
}

/// A decoded stream.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// What came out.
    pub bytes: Cow<'a, [u8]>,
    /// Whether all of it did.
    pub outcome: Outcome,
}

/// Units of work of a byte whose prediction is undone.
const PREDICTED_BYTE: u64 = 12;

/// Decodes `raw` through `filters` (name and parameters, all direct objects).
///
/// # Errors
/// [`Exceeded`] when the budget ends.
pub fn decode<'a>(raw: Cow<'a, [u8]>, filters: &[(Vec<u8>, Dict)], budget: &mut Budget) -> Result<Decoded<'a>, Exceeded> {
    let mut decoded = Decoded { bytes: raw, outcome: Outcome::Whole };
    for (i, (name, params)) in filters.iter().enumerate() {
        budget.stream()?;
        let mut sink = Sink { bytes: Vec::new(), cut: false, budget };
        let outcome = match name.as_slice() {
            _ if i >= MAX_FILTERS => return Ok(Decoded { outcome: Outcome::Opaque, ..decoded }),
            b"FlateDecode" | b"Fl" => flate(&decoded.bytes, &mut sink)?,
            b"LZWDecode" | b"LZW" => sound(lzw(&decoded.bytes, params.get("EarlyChange").int() != Some(0), &mut sink)?),
            b"ASCIIHexDecode" | b"AHx" => sound(ascii_hex(&decoded.bytes, &mut sink)?),
            b"ASCII85Decode" | b"A85" => sound(ascii_85(&decoded.bytes, &mut sink)?),
            b"RunLengthDecode" | b"RL" => sound(run_length(&decoded.bytes, &mut sink)?),
            b"Crypt" => continue,
            _ => return Ok(Decoded { outcome: Outcome::Opaque, ..decoded }),
        };
        let cut = if sink.cut { Outcome::Cut } else { Outcome::Whole };
        decoded.outcome = decoded.outcome.max(outcome).max(cut);
        let bytes = sink.bytes;
        if params.get("Predictor").int().is_some_and(|predictor| predictor > 1) {
            budget.work(bytes.len() as u64 * PREDICTED_BYTE)?;
        }
        decoded.bytes = Cow::Owned(unpredict(bytes, params));
    }
    Ok(decoded)
}

/// Where decoded bytes go: counted always, kept up to [`MAX_DECODED`].
struct Sink<'b> {
    bytes: Vec<u8>,
    cut: bool,
    budget: &'b mut Budget,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Exceeded> {
        self.budget.inflate(bytes.len() as u64)?;
        let room = MAX_DECODED.saturating_sub(self.bytes.len());
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }
}

const fn sound(sound: bool) -> Outcome {
    if sound { Outcome::Whole } else { Outcome::Damaged }
}

/// zlib (RFC 1950).
fn flate(input: &[u8], sink: &mut Sink) -> Result<Outcome, Exceeded> {
    // Producers put line ends before the data; readers skip them.
    let input = input.trim_ascii_start();
    if input.is_empty() || inflate(input, true, &mut |bytes| sink.put(bytes))? {
        return Ok(Outcome::Whole);
    }
    // Damaged, or only the checksum behind the data is: the data alone tells.
    let Some(body) = input.get(2..) else { return Ok(Outcome::Damaged) };
    let whole = inflate(body, false, &mut |bytes| sink.budget.inflate(bytes.len() as u64))?;
    Ok(if whole { Outcome::Unchecked } else { Outcome::Damaged })
}

/// Inflates `input`, with or without zlib's frame; returns whether it came to its end.
fn inflate(input: &[u8], framed: bool, put: &mut dyn FnMut(&[u8]) -> Result<(), Exceeded>) -> Result<bool, Exceeded> {
    let mut state = Decompress::new(framed);
    let mut chunk = vec![0u8; 64 * 1024];
    let mut rest = input;
    loop {
        let (before_in, before_out) = (state.total_in(), state.total_out());
        let status = state.decompress(rest, &mut chunk, FlushDecompress::None);
        let taken = usize::try_from(state.total_in() - before_in).unwrap_or(usize::MAX);
        let made = usize::try_from(state.total_out() - before_out).unwrap_or(usize::MAX);
        put(chunk.get(..made).unwrap_or_default())?;
        rest = rest.get(taken..).unwrap_or_default();
        match status {
            Ok(Status::StreamEnd) => return Ok(true),
            Ok(_) if taken == 0 && made == 0 => return Ok(false),
            Ok(_) => {}
            Err(_) => return Ok(false),
        }
    }
}

/// LZW with codes of 9 to 12 bits (§7.4.4).
fn lzw(input: &[u8], early_change: bool, sink: &mut Sink) -> Result<bool, Exceeded> {
    const CLEAR: usize = 256;
    const END: usize = 257;
    // Each entry: code of its prefix, its last byte, its length.
    let mut table: Vec<(u16, u8, u16)> = Vec::with_capacity(4096);
    let reset = |table: &mut Vec<(u16, u8, u16)>| {
        table.clear();
        #[expect(clippy::cast_possible_truncation, reason = "0..258, and only the first 256 are looked up")]
        table.extend((0..258u16).map(|i| (u16::MAX, i as u8, 1)));
    };
    reset(&mut table);
    let (mut bits, mut held, mut width) = (0u32, 0u32, 9u32);
    let mut previous: Option<u16> = None;
    let mut out = Vec::with_capacity(4096);
    let mut bytes = input.iter();
    loop {
        while held < width {
            let Some(byte) = bytes.next() else {
                sink.put(&out)?;
                // A missing end-of-data mark is common and harmless.
                return Ok(true);
            };
            bits = (bits << 8 | u32::from(*byte)) & 0x00FF_FFFF;
            held += 8;
        }
        held -= width;
        let code = (bits >> held & ((1 << width) - 1)) as usize;
        if code == END {
            sink.put(&out)?;
            return Ok(true);
        }
        if code == CLEAR {
            reset(&mut table);
            width = 9;
            previous = None;
            continue;
        }
        let first_of = |table: &[(u16, u8, u16)], mut code: u16| {
            while let Some((prefix @ 0..=4095, _, _)) = table.get(usize::from(code)) {
                code = *prefix;
            }
            table.get(usize::from(code)).map_or(0, |e| e.1)
        };
        if let Some(previous) = previous {
            if code > table.len() || (code == table.len() && table.len() >= 4096) {
                sink.put(&out)?;
                return Ok(false);
            }
            if table.len() < 4096 {
                #[expect(clippy::cast_possible_truncation, reason = "codes have 12 bits")]
                let origin = if code == table.len() { previous } else { code as u16 };
                let length = table.get(usize::from(previous)).map_or(1, |e| e.2);
                table.push((previous, first_of(&table, origin), length.saturating_add(1)));
            }
        } else if code >= 256 {
            sink.put(&out)?;
            return Ok(false);
        }
        #[expect(clippy::cast_possible_truncation, reason = "codes have 12 bits")]
        let mut at = code as u16;
        previous = Some(at);
        let start = out.len();
        while let Some((prefix, byte, _)) = table.get(usize::from(at)) {
            out.push(*byte);
            at = *prefix;
        }
        out[start..].reverse();
        if out.len() >= 32 * 1024 {
            sink.put(&out)?;
            out.clear();
        }
        width = match table.len() + usize::from(early_change) {
            0..512 => 9,
            512..1024 => 10,
            1024..2048 => 11,
            _ => 12,
        };
    }
}

fn ascii_hex(input: &[u8], sink: &mut Sink) -> Result<bool, Exceeded> {
    let mut out = Vec::with_capacity(input.len() / 2);
    let mut high = None;
    let mut sound = true;
    for byte in input {
        match (char::from(*byte).to_digit(16), high) {
            (Some(digit), None) => high = Some(digit),
            (Some(digit), Some(first)) => {
                out.push((first << 4 | digit) as u8);
                high = None;
            }
            (None, _) if *byte == b'>' => break,
            (None, _) if is_space(*byte) => {}
            (None, _) => sound = false,
        }
    }
    if let Some(first) = high {
        out.push((first << 4) as u8);
    }
    sink.put(&out)?;
    Ok(sound)
}

fn ascii_85(input: &[u8], sink: &mut Sink) -> Result<bool, Exceeded> {
    let mut out = Vec::with_capacity(input.len() / 5 * 4);
    let mut group = [0u8; 5];
    let mut held = 0;
    let mut sound = true;
    let value = |group: &[u8; 5]| group.iter().fold(0u64, |v, d| v * 85 + u64::from(*d));
    for byte in input.strip_prefix(b"<~").unwrap_or(input) {
        match byte {
            b'~' => break,
            b'z' if held == 0 => out.extend_from_slice(&[0; 4]),
            b'!'..=b'u' => {
                group[held] = byte - b'!';
                held += 1;
                if held == 5 {
                    let word = value(&group);
                    sound &= u32::try_from(word).is_ok();
                    out.extend_from_slice(&((word & 0xFFFF_FFFF) as u32).to_be_bytes());
                    held = 0;
                }
            }
            _ if is_space(*byte) => {}
            _ => sound = false,
        }
    }
    if held > 1 {
        group[held..].fill(84);
        let word = (value(&group) & 0xFFFF_FFFF) as u32;
        out.extend_from_slice(&word.to_be_bytes()[..held - 1]);
    }
    sink.put(&out)?;
    Ok(sound)
}

fn run_length(input: &[u8], sink: &mut Sink) -> Result<bool, Exceeded> {
    let mut out = Vec::with_capacity(64 * 1024);
    let mut rest = input;
    let mut sound = true;
    while let [length @ (0..=127 | 129..=255), after @ ..] = rest {
        if *length < 128 {
            let n = usize::from(*length) + 1;
            sound &= n <= after.len();
            out.extend_from_slice(&after[..n.min(after.len())]);
            rest = after.get(n..).unwrap_or_default();
        } else if let [byte, next @ ..] = after {
            out.extend_from_slice(&[*byte; 128][..257 - usize::from(*length)]);
            rest = next;
        } else {
            sound = false;
            rest = &[];
        }
        if out.len() >= 32 * 1024 {
            sink.put(&out)?;
            out.clear();
        }
    }
    sink.put(&out)?;
    Ok(sound)
}

/// Undoes a predictor (§7.4.4.4): PNG rows, or TIFF differences of 8 bits.
fn unpredict(mut bytes: Vec<u8>, params: &Dict) -> Vec<u8> {
    let small = |key: &str, default: usize, max: usize| {
        let value = params.get(key).int().and_then(|n| usize::try_from(n).ok());
        value.unwrap_or(default).clamp(1, max)
    };
    let (colors, bits) = (small("Colors", 1, 64), small("BitsPerComponent", 8, 16));
    let columns = small("Columns", 1, 1 << 24);
    let pixel = (colors * bits).div_ceil(8);
    let row = (colors * bits * columns).div_ceil(8);
    match params.get("Predictor").int() {
        Some(2) if bits == 8 => {
            for line in bytes.chunks_mut(row) {
                for i in pixel..line.len() {
                    line[i] = line[i].wrapping_add(line[i - pixel]);
                }
            }
            bytes
        }
        Some(10..) => {
            let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
            let mut above = vec![0u8; row.min(bytes.len())];
            for line in bytes.chunks_mut(row + 1) {
                let [kind, line @ ..] = line else { break };
                // Readers take an unknown predictor for none.
                crate::inspect::image::filter::unfilter(*kind, pixel, above.get(..line.len()).unwrap_or(above.as_slice()), line);
                out.extend_from_slice(line);
                above.clear();
                above.extend_from_slice(line);
            }
            out
        }
        _ => bytes,
    }
}

/// Names and parameters of a stream's filters, given the (resolved) values of `/Filter` and `/DecodeParms`.
pub fn chain(filter: &Object, params: &Object) -> Vec<(Vec<u8>, Dict)> {
    match filter {
        Object::Name(name) => {
            let params = params.dict().or_else(|| params.items().first().and_then(Object::dict));
            vec![(name.clone(), params.cloned().unwrap_or_default())]
        }
        Object::Array(names) => names
            .iter()
            .take(MAX_FILTERS + 1)
            .enumerate()
            .filter_map(|(i, name)| {
                let own = params.items().get(i).and_then(Object::dict);
                let own = own.or_else(|| params.dict().filter(|_| names.len() == 1));
                Some((name.name()?.to_vec(), own.cloned().unwrap_or_default()))
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::inspect::budget::Limits;

    fn run(name: &str, params: Dict, input: &[u8]) -> (Vec<u8>, Outcome) {
        let mut budget = Budget::new(Limits::default());
        let decoded = decode(Cow::Borrowed(input), &[(name.as_bytes().to_vec(), params)], &mut budget).unwrap();
        (decoded.bytes.into_owned(), decoded.outcome)
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_cut_flate_stream_keeps_its_head_and_says_so() {
        let text = b"Le dossier est complet. ".repeat(400);
        let packed = zlib(&text);
        assert_eq!(run("FlateDecode", Dict::default(), &packed), (text.clone(), Outcome::Whole));
        let (head, outcome) = run("FlateDecode", Dict::default(), &packed[..packed.len() / 2]);
        assert_eq!(outcome, Outcome::Damaged);
        assert!(text.starts_with(&head) && !head.is_empty());
    }

    #[test]
    fn a_wrong_checksum_is_told_apart_from_wrong_data() {
        let mut packed = zlib(b"Le dossier est complet.");
        *packed.last_mut().unwrap() ^= 1;
        assert_eq!(run("FlateDecode", Dict::default(), &packed), (b"Le dossier est complet.".to_vec(), Outcome::Unchecked));
        assert_eq!(run("FlateDecode", Dict::default(), b"not zlib at all").1, Outcome::Damaged);
    }

    #[test]
    fn a_bomb_behind_two_filters_meets_the_budget() {
        let bomb = zlib(&zlib(&vec![0u8; 300 << 20]));
        let mut budget = Budget::new(Limits { max_inflated_bytes: 100 << 20, ..Limits::default() });
        let filters = vec![(b"FlateDecode".to_vec(), Dict::default()); 2];
        assert_eq!(decode(Cow::Borrowed(&bomb), &filters, &mut budget).err(), Some(Exceeded::Inflated));
    }

    #[test]
    fn the_text_filters_decode_the_examples_of_the_standard() {
        assert_eq!(run("ASCIIHexDecode", Dict::default(), b"48 65 6c 6C 6f7>").0, b"Hellop");
        assert_eq!(run("ASCII85Decode", Dict::default(), b"87cUR\nD]i,\"Ebo80~>").0, b"Hello World!");
        assert_eq!(run("RunLengthDecode", Dict::default(), &[2, b'a', b'b', b'c', 254, b'z', 128]).0, b"abczzz");
        // §7.4.4.2, example 2.
        let lzw = [0x80, 0x0B, 0x60, 0x50, 0x22, 0x0C, 0x0C, 0x85, 0x01];
        assert_eq!(run("LZWDecode", Dict::default(), &lzw).0, [45, 45, 45, 45, 45, 65, 45, 45, 45, 66]);
    }

    #[test]
    fn png_rows_are_restored() {
        let params = Dict(vec![(b"Predictor".to_vec(), Object::Int(12)), (b"Columns".to_vec(), Object::Int(3))]);
        let packed = zlib(&[2, 1, 2, 3, 2, 1, 1, 1]);
        assert_eq!(run("FlateDecode", params, &packed).0, [1, 2, 3, 2, 3, 4]);
    }

    proptest! {
        #[test]
        fn no_filter_panics_on_any_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            name in prop::sample::select(vec!["FlateDecode", "LZWDecode", "ASCIIHexDecode", "ASCII85Decode", "RunLengthDecode"]),
            predictor in 0i64..16, columns in any::<i64>(), colors in any::<i64>(),
        ) {
            let params = Dict(vec![
                (b"Predictor".to_vec(), Object::Int(predictor)),
                (b"Columns".to_vec(), Object::Int(columns)),
                (b"Colors".to_vec(), Object::Int(colors)),
            ]);
            run(name, params, &bytes);
        }
    }
}
