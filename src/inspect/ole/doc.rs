//! Word 97–2003 documents ([MS-DOC]) and, as far as their header goes, Word 6 and 95.
//!
//! The text is found the way Word finds it: File Information Block → piece table (`Clx`) → pieces (§2.4.1).

use super::cfb::{CompoundFile, u16_at, u32_at};
use super::damaged_stream;
use crate::inspect::office::{Fields, TextSink};
use crate::inspect::{Context, Exceeded};
use crate::model::facts::OfficeFacts;
use crate::model::{Facts, Place, Signal};

const STREAM: &str = "WordDocument";
/// `FibBase.wIdent` of Word 97 and later (§2.5.2).
const WORD_97: u16 = 0xA5EC;
/// Of Word 6 and 95.
const WORD_6: u16 = 0xA5DC;

/// Bits of `FibBase` at offset 10.
const ENCRYPTED: u16 = 0x0100;
const TABLE_1: u16 = 0x0200;
const OBFUSCATED: u16 = 0x8000;

/// Offsets in the FIB of `fcClx` and `lcbClx` (§2.5.6, 33rd pair of `FibRgFcLcb97`).
const FC_CLX: usize = 0x01A2;
const LCB_CLX: usize = 0x01A6;

/// Reads the document; whether it can be read at all.
pub fn inspect(file: &CompoundFile<'_>, detail: &mut OfficeFacts, ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let Some(entry) = file.stream(STREAM) else { return Ok(false) };
    let word = file.read(entry).0;
    let (Some(ident), Some(flags)) = (u16_at(&word, 0), u16_at(&word, 10)) else {
        damaged_stream(facts, STREAM, "FIB", 0);
        return Ok(false);
    };
    // Word 95 far-east and early betas wrote neighbouring values; Word opens them.
    let is_97 = ident == WORD_97 && u16_at(&word, 2).is_some_and(|n_fib| n_fib >= 0x00C0);
    let is_old = matches!(ident, WORD_6 | WORD_97 | 0xA5DB | 0xA697..=0xA699) && !is_97;
    if !is_97 && !is_old {
        damaged_stream(facts, STREAM, "FIB wIdent", 0);
        return Ok(false);
    }
    if flags & ENCRYPTED != 0 {
        let method = if flags & OBFUSCATED != 0 { "XOR" } else { "RC4" };
        facts.push(Signal::new("office-encrypted").at(Place::part(STREAM)).arg("method", method));
        return Ok(false);
    }
    if is_old { old_text(&word, detail, ctx, facts) } else { pieces(file, &word, flags, detail, ctx, facts) }
}

/// Word 6 and 95: the text of a document that was not fast-saved stands in one piece (`fcMin`..`fcMac`).
fn old_text(word: &[u8], detail: &mut OfficeFacts, ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let (start, end) = (u32_at(word, 0x18).unwrap_or(0) as usize, u32_at(word, 0x1C).unwrap_or(0) as usize);
    if start < 32 || end < start || end > word.len() {
        damaged_stream(facts, STREAM, "FIB fcMin, fcMac", 0x18);
        return Ok(false);
    }
    ctx.budget.inflate((end - start) as u64)?;
    let mut text = Text::new();
    text.push(&encoding_rs::WINDOWS_1252.decode_without_bom_handling(&word[start..end]).0, ctx, facts);
    text.finish(detail, ctx, facts);
    Ok(true)
}

fn pieces(
    file: &CompoundFile<'_>,
    word: &[u8],
    flags: u16,
    detail: &mut OfficeFacts,
    ctx: &mut Context,
    facts: &mut Facts,
) -> Result<bool, Exceeded> {
    let table_name = if flags & TABLE_1 != 0 { "1Table" } else { "0Table" };
    let Some(table) = file.stream(table_name).map(|e| file.read(e).0) else {
        facts.push(Signal::new("office-part-missing").at(Place::part(table_name)).arg("part", table_name));
        return Ok(false);
    };
    let clx = (|| {
        let (at, len) = (u32_at(word, FC_CLX)? as usize, u32_at(word, LCB_CLX)? as usize);
        table.get(at..at.checked_add(len)?).filter(|clx| !clx.is_empty())
    })();
    let Some(plc) = clx.and_then(piece_table) else {
        damaged_stream(facts, STREAM, "FIB fcClx, lcbClx", FC_CLX);
        return Ok(false);
    };
    // n + 1 positions of 4 bytes, then n descriptors of 8 (§2.8.35).
    let count = plc.len().saturating_sub(4) / 12;
    let mut text = Text::new();
    let mut intact = count > 0;
    for i in 0..count {
        let (Some(from), Some(to), Some(fc)) = (u32_at(plc, i * 4), u32_at(plc, i * 4 + 4), u32_at(plc, (count + 1) * 4 + i * 8 + 2))
        else {
            intact = false;
            break;
        };
        // §2.9.73: bit 30 says one byte per character, at half the offset.
        let (compressed, fc) = (fc & 0x4000_0000 != 0, fc & 0x3FFF_FFFF);
        let chars = to.saturating_sub(from) as usize;
        let (at, len) = if compressed { (fc as usize / 2, Some(chars)) } else { (fc as usize, chars.checked_mul(2)) };
        let piece = len.and_then(|len| word.get(at..at.checked_add(len)?)).filter(|_| to >= from);
        let Some(piece) = piece else {
            intact = false;
            break;
        };
        ctx.budget.inflate(piece.len() as u64)?;
        let encoding = if compressed { encoding_rs::WINDOWS_1252 } else { encoding_rs::UTF_16LE };
        text.push(&encoding.decode_without_bom_handling(piece).0, ctx, facts);
    }
    text.finish(detail, ctx, facts);
    if !intact {
        damaged_stream(facts, table_name, "Clx PlcPcd", 0);
    }
    Ok(intact)
}

/// Finds the piece table behind the property modifiers of a `Clx` (§2.9.38).
fn piece_table(clx: &[u8]) -> Option<&[u8]> {
    let mut at = 0usize;
    loop {
        match clx.get(at)? {
            1 => at = at.checked_add(3 + usize::from(u16_at(clx, at + 1)?))?,
            2 => {
                let len = u32_at(clx, at + 1)? as usize;
                return clx.get(at + 5..(at + 5).checked_add(len)?);
            }
            _ => return None,
        }
    }
}

/// Text with its marks: paragraphs, cells, fields, pictures (§2.4.1).
struct Text {
    sink: TextSink,
    fields: Fields,
    pictures: u32,
}

impl Text {
    fn new() -> Self {
        Self { sink: TextSink::new(Place::default()), fields: Fields::default(), pictures: 0 }
    }

    fn push(&mut self, text: &str, ctx: &mut Context, facts: &mut Facts) {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| (c as u32) < 0x20 && c != '\t') {
            let (run, marked) = rest.split_at(at);
            self.run(run, ctx, facts);
            match marked.as_bytes().first() {
                Some(0x13) => self.fields.begin(STREAM, facts),
                Some(0x14) => self.fields.separate(STREAM, facts),
                Some(0x15) => self.fields.end(STREAM, facts),
                Some(0x01 | 0x08) => self.pictures = self.pictures.saturating_add(1),
                Some(0x07 | 0x0B..=0x0E) => self.sink.end_paragraph(ctx, facts),
                _ => {}
            }
            rest = marked.get(1..).unwrap_or_default();
        }
        self.run(rest, ctx, facts);
    }

    fn run(&mut self, run: &str, ctx: &mut Context, facts: &mut Facts) {
        if self.fields.in_instruction() {
            self.fields.push(run);
        } else if !run.is_empty() {
            self.sink.push(run, ctx, facts);
        }
    }

    fn finish(self, detail: &mut OfficeFacts, ctx: &mut Context, facts: &mut Facts) {
        self.fields.finish(STREAM, facts);
        detail.images = self.pictures;
        detail.chars = self.sink.finish(ctx, facts);
    }
}
