//! Excel workbooks in BIFF ([MS-XLS]; BIFF2 to BIFF5 after the OpenOffice.org documentation of the format):
//! the records that say whether the workbook opens and what it does, not its cells.

use super::cfb::{CompoundFile, u16_at, u32_at};
use super::damaged_stream;
use crate::inspect::office::shown;
use crate::inspect::{Context, Exceeded};
use crate::model::{Facts, Place, Signal};

const EOF: u16 = 0x000A;
const FILEPASS: u16 = 0x002F;
const BOUNDSHEET: u16 = 0x0085;
const SUPBOOK: u16 = 0x01AE;
const EXTERNSHEET: u16 = 0x0017;
const DCONN: u16 = 0x0876;

/// No version defines a record type from here on (§2.3: 0x08D6 and the chart records up to 0x106A are the last).
const UNKNOWN_FROM: u16 = 0x1100;

const SUBSTREAM_MACRO: u16 = 0x0040;

/// Records between two looks at the clock.
const RECORDS_PER_TICK: usize = 1_024;

/// Reads the workbook streams; whether cells can be read.
pub fn inspect(file: &CompoundFile<'_>, ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let mut readable = false;
    for name in ["Workbook", "Book"] {
        let Some(entry) = file.stream(name) else { continue };
        let bytes = file.read(entry).0;
        readable |= stream(&bytes, name, ctx, facts)?;
    }
    Ok(readable)
}

/// One record.
struct Record<'a> {
    at: usize,
    id: u16,
    data: &'a [u8],
}

/// The record at `at`; `None` where the stream ends first.
fn record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let (id, len) = (u16_at(bytes, at)?, usize::from(u16_at(bytes, at + 2)?));
    let start = at + 4;
    Some(Record { at, id, data: bytes.get(start..start + len)? })
}

/// BIFF version by the record that begins a substream: 2, 3, 4, 5 or 8.
fn version(record: &Record<'_>) -> Option<u8> {
    match (record.id, u16_at(record.data, 0)) {
        (0x0009, Some(_)) => Some(2),
        (0x0209, Some(_)) => Some(3),
        (0x0409, Some(_)) => Some(4),
        (0x0809, Some(0x0600)) => Some(8),
        (0x0809, Some(_)) => Some(5),
        _ => None,
    }
}

struct BoundSheet {
    position: usize,
    kind: u8,
    name: String,
}

/// Walks a workbook stream; whether its cells can be read.
///
/// # Errors
/// When the budget of the item ends.
pub fn stream(bytes: &[u8], name: &str, ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let Some((first, version)) = record(bytes, 0).and_then(|r| version(&r).map(|v| (r, v))) else {
        damaged_stream(facts, name, "BOF", 0);
        return Ok(false);
    };
    let mut sheets = Vec::new();
    if version <= 4 && u16_at(first.data, 2) == Some(SUBSTREAM_MACRO) {
        macro_sheet(facts, name, "");
    }
    let mut at = first.at + 4 + first.data.len();
    let mut depth = 1usize;
    for n in 0usize.. {
        if n.is_multiple_of(RECORDS_PER_TICK) {
            ctx.budget.work(RECORDS_PER_TICK as u64 * 100)?;
        }
        let Some(record) = record(bytes, at) else {
            damaged_stream(facts, name, "EOF", at);
            return Ok(false);
        };
        at += 4 + record.data.len();
        match record.id {
            EOF => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            FILEPASS => {
                facts.push(
                    Signal::new("office-encrypted")
                        .at(Place { byte: Some(record.at as u64), ..Place::part(name) })
                        .arg("method", method(&record, version)),
                );
                return Ok(false);
            }
            BOUNDSHEET => sheets.extend(bound_sheet(&record, version)),
            SUPBOOK => external_book(&record, name, facts),
            EXTERNSHEET if version == 5 => external_sheet(&record, name, facts),
            DCONN => facts.push(
                Signal::new("office-data-connection")
                    .at(Place { byte: Some(record.at as u64), ..Place::part(name) })
                    .arg("target", "DConn"),
            ),
            // An empty one is what LibreOffice leaves behind a chart (0xFFFF): readers step over it.
            UNKNOWN_FROM.. if !record.data.is_empty() => {
                damaged_stream(facts, name, "record type", record.at);
                return Ok(false);
            }
            _ if self::version(&record).is_some() => depth += 1,
            _ => {}
        }
    }
    let mut intact = true;
    for sheet in &sheets {
        // Kind 6 is a Visual Basic module of Excel 5 and 95, whose code stands in a storage of its own.
        match sheet.kind {
            1 => macro_sheet(facts, name, &sheet.name),
            6 => facts.push(Signal::new("office-macro-vba").at(Place { sheet: Some(shown(&sheet.name)), ..Place::part(name) })),
            _ => {}
        }
        if sheet.kind != 6
            && let Err(broken) = walk_sheet(bytes, sheet.position, ctx)?
        {
            intact = false;
            damaged_stream(facts, name, broken, sheet.position);
        }
    }
    Ok(intact)
}

fn macro_sheet(facts: &mut Facts, stream: &str, sheet: &str) {
    let place = Place {
        sheet: Some(shown(sheet)).filter(|s| !s.is_empty()),
        part: Some(stream.to_owned()).filter(|s| !s.is_empty()),
        ..Place::default()
    };
    facts.push(Signal::new("office-macro-xlm").at(place));
}

/// A sheet's substream: from BOF to EOF, charts nested inside.
fn walk_sheet(bytes: &[u8], position: usize, ctx: &mut Context) -> Result<Result<(), &'static str>, Exceeded> {
    let Some(first) = record(bytes, position).filter(|r| version(r).is_some()) else { return Ok(Err("BOUNDSHEET BOF")) };
    let mut at = position + 4 + first.data.len();
    let mut depth = 1usize;
    for n in 0usize.. {
        if n.is_multiple_of(RECORDS_PER_TICK) {
            ctx.budget.work(RECORDS_PER_TICK as u64 * 100)?;
        }
        let Some(record) = record(bytes, at) else { return Ok(Err("EOF")) };
        at += 4 + record.data.len();
        if record.id >= UNKNOWN_FROM && !record.data.is_empty() {
            return Ok(Err("record type"));
        }
        if record.id == EOF {
            depth -= 1;
            if depth == 0 {
                break;
            }
        } else if version(&record).is_some() {
            depth += 1;
        }
    }
    Ok(Ok(()))
}

/// §2.4.117.
fn method(record: &Record<'_>, version: u8) -> &'static str {
    match (version, u16_at(record.data, 0), u16_at(record.data, 2)) {
        (8, Some(1), Some(1)) => "RC4",
        (8, Some(1), _) => "RC4 CryptoAPI",
        _ => "XOR",
    }
}

/// §2.4.28; BIFF5 has the same layout with a one-byte string.
fn bound_sheet(record: &Record<'_>, version: u8) -> Option<BoundSheet> {
    let position = u32_at(record.data, 0)? as usize;
    let kind = *record.data.get(5)?;
    let len = usize::from(*record.data.get(6)?);
    let name = if version == 8 {
        let wide = record.data.get(7)? & 1 != 0;
        let raw = record.data.get(8..).unwrap_or_default();
        let raw = raw.get(..raw.len().min(if wide { len * 2 } else { len })).unwrap_or_default();
        if wide {
            encoding_rs::UTF_16LE.decode_without_bom_handling(raw).0.into_owned()
        } else {
            raw.iter().map(|b| char::from(*b)).collect()
        }
    } else {
        let raw = record.data.get(7..).unwrap_or_default();
        encoding_rs::WINDOWS_1252.decode_without_bom_handling(raw.get(..raw.len().min(len)).unwrap_or_default()).0.into_owned()
    };
    Some(BoundSheet { position, kind, name })
}

/// §2.4.271: another workbook, or a DDE or OLE source (`application\x03topic`, §2.5.277).
fn external_book(record: &Record<'_>, stream: &str, facts: &mut Facts) {
    let Some(len) = u16_at(record.data, 2) else { return };
    if matches!(len, 0x0401 | 0x3A01) || !(1..=0x00FF).contains(&len) {
        return;
    }
    let Some(wide) = record.data.get(4).map(|f| f & 1 != 0) else { return };
    let raw = record.data.get(5..).unwrap_or_default();
    let raw = raw.get(..raw.len().min(usize::from(len) * if wide { 2 } else { 1 })).unwrap_or_default();
    let path: String = if wide {
        encoding_rs::UTF_16LE.decode_without_bom_handling(raw).0.into_owned()
    } else {
        raw.iter().map(|b| char::from(*b)).collect()
    };
    let place = Place { byte: Some(record.at as u64), ..Place::part(stream) };
    let sheets = u16_at(record.data, 0).unwrap_or(0);
    if sheets == 0 && path.contains('\u{3}') {
        facts.push(Signal::new("office-dde").at(place).arg("command", shown(&path.replace('\u{3}', " "))));
    } else if !path.trim_matches(|c: char| c.is_control() || c == ' ').is_empty() {
        facts.push(Signal::new("office-linked-workbook").at(place).arg("target", shown(&virtual_path(&path))));
    }
}

fn external_sheet(record: &Record<'_>, stream: &str, facts: &mut Facts) {
    let raw = record.data.get(1..).unwrap_or_default();
    let path: String = raw.iter().map(|b| char::from(*b)).collect();
    let place = Place { byte: Some(record.at as u64), ..Place::part(stream) };
    // Byte 1 begins an encoded path, 2 this sheet, 3 this workbook, 4 itself, 0x3A add-in functions.
    match raw.first() {
        Some(1) => facts.push(Signal::new("office-linked-workbook").at(place).arg("target", shown(&virtual_path(&path)))),
        Some(0x20..) if path.contains('\u{3}') => {
            facts.push(Signal::new("office-dde").at(place).arg("command", shown(&path.replace('\u{3}', " "))))
        }
        _ => {}
    }
}

/// Virtual paths write separators as control characters (§2.5.277).
fn virtual_path(path: &str) -> String {
    path.chars()
        .filter_map(|c| match c {
            '\u{1}' | '\u{4}'..='\u{8}' => None,
            '\u{2}' | '\u{3}' => Some('\\'),
            c if c.is_control() => None,
            c => Some(c),
        })
        .collect()
}
