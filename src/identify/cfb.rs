//! OLE compound files ([MS-CFB]): told by the streams of their root storage, then by its class.
//!
//! The reader is small and tolerant on purpose: a document whose allocation table is damaged must still be
//! told as the document it was, so that its inspector can say that it is damaged.

use std::collections::BTreeSet;

use super::{Told, u16_le, u32_le};
use crate::model::format::Format;

/// [MS-CFB] §2.2.
pub(super) const MAGIC: &[u8] = &[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1];
/// Directory entries read: an office document has some dozens, one with many embedded objects some thousands.
const MAX_ENTRIES: usize = 20_000;
/// No sector, and its neighbours with a meaning ([MS-CFB] §2.1).
const LAST_SECTOR: u32 = 0xFFFF_FFFA;

#[derive(Debug)]
struct Entry {
    name: String,
    left: u32,
    right: u32,
    child: u32,
    class: [u8; 16],
}

pub(super) fn tell(bytes: &[u8]) -> Option<Told> {
    if !bytes.starts_with(MAGIC) {
        return None;
    }
    let entries = directory(bytes);
    let root = root_names(&entries);
    let class = entries.first().map(|e| e.class).unwrap_or_default();
    let told = by_names(&root)
        .or_else(|| by_class(class))
        // A damaged tree: any entry is better than none, and then the names alone, wherever they stand.
        .or_else(|| by_names(&entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>()))
        .or_else(|| if root.is_empty() { by_raw_names(bytes) } else { None });
    Some(told.unwrap_or_else(|| Told::new(Format::Ole, "OLE compound file of another kind")))
}

fn by_names(names: &[&str]) -> Option<Told> {
    let has = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let told = |format, name: &str| Some(Told::new(format, format!("OLE stream {name}")));
    // [MS-OFFCRYPTO] §2.3.4; IRM-protected documents keep their content in DRMContent instead.
    if has("EncryptedPackage") || has("\u{9}DRMContent") {
        return told(Format::OoxmlEncrypted, "EncryptedPackage");
    }
    if has("WordDocument") {
        return told(Format::Doc, "WordDocument");
    }
    if has("PowerPoint Document") || has("PP40") || has("PP97_DUALSTORAGE") {
        return told(Format::Ppt, "PowerPoint Document");
    }
    if has("Workbook") || has("Book") {
        return told(Format::Xls, "Workbook");
    }
    if names
        .iter()
        .any(|n| n.starts_with("__substg1.0_") || n.starts_with("__properties_version1.0") || n.starts_with("__nameid_version1.0"))
    {
        return told(Format::Msg, "__substg1.0");
    }
    None
}

/// Root storage classes, as they stand in the file (first three groups little-endian).
fn by_class(class: [u8; 16]) -> Option<Told> {
    const OFFICE_TAIL: [u8; 8] = [0xC0, 0, 0, 0, 0, 0, 0, 0x46];
    let head = u32::from_le_bytes([class[0], class[1], class[2], class[3]]);
    let office = class[4..8] == [0; 4] && class[8..] == OFFICE_TAIL;
    let format = match head {
        0x0002_0900 | 0x0002_0906 | 0x0002_0907 if office => Format::Doc,
        0x0002_0810 | 0x0002_0811 | 0x0002_0820 | 0x0002_0821 if office => Format::Xls,
        0x000C_1082 | 0x000C_1084 | 0x000C_1086 if office => Format::Msi,
        0x0002_0D0B if office => Format::Msg,
        0x6481_8D10 | 0xEA7B_AE70 | 0x6481_8D11 => Format::Ppt,
        _ => return None,
    };
    Some(Told::new(format, format!("OLE class {head:08X}")))
}

/// What remains of a file without a readable directory: its stream names, in UTF-16.
fn by_raw_names(bytes: &[u8]) -> Option<Told> {
    let find = |name: &str| {
        let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        memchr::memmem::find(bytes, &wide)
    };
    [
        ("EncryptedPackage", Format::OoxmlEncrypted),
        ("WordDocument", Format::Doc),
        ("PowerPoint Document", Format::Ppt),
        ("Workbook", Format::Xls),
        ("Book", Format::Xls),
        ("__substg1.0_", Format::Msg),
    ]
    .into_iter()
    .find(|(name, _)| find(name).is_some())
    .map(|(name, format)| Told::new(format, format!("OLE stream name {name} in a damaged directory")))
}

/// The directory entries, along the sector chain, or straight on where the chain is damaged.
fn directory(bytes: &[u8]) -> Vec<Entry> {
    let shift = u16_le(bytes, 30).filter(|shift| (7..=16).contains(shift)).unwrap_or(9);
    let sector_size = 1usize << shift;
    let offset = |sector: u32| (sector as usize).checked_add(1).and_then(|n| n.checked_mul(sector_size));
    let per_sector = sector_size / 4;
    let fat = fat_sectors(bytes, sector_size);
    let next = |sector: u32| -> Option<u32> {
        let table = *fat.get(sector as usize / per_sector)?;
        u32_le(bytes, offset(table)?.checked_add(4 * (sector as usize % per_sector))?)
    };
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    let mut sector = u32_le(bytes, 48).unwrap_or(0);
    while sector < LAST_SECTOR && seen.insert(sector) && entries.len() < MAX_ENTRIES {
        let Some(start) = offset(sector) else { break };
        if start >= bytes.len() {
            break;
        }
        for n in 0..sector_size / 128 {
            if let Some(entry) = start.checked_add(n * 128).and_then(|at| read_entry(bytes, at)) {
                entries.push(entry);
            }
        }
        sector = match next(sector) {
            Some(next) if next < LAST_SECTOR => next,
            // The end, or no table to say so: files written in one go keep the directory together.
            Some(0xFFFF_FFFE) => break,
            _ => sector.saturating_add(1),
        };
        // Straight on only as long as it looks like a directory.
        let looks = offset(sector).and_then(|at| bytes.get(at..at.checked_add(128)?)).is_some_and(looks_like_entry);
        if !looks {
            break;
        }
    }
    entries
}

/// Sectors of the allocation table: the first 109 stand in the header, the others in a chain (§2.5).
fn fat_sectors(bytes: &[u8], sector_size: usize) -> Vec<u32> {
    let mut fat: Vec<u32> = (0..109).map_while(|n| u32_le(bytes, 76 + 4 * n)).take_while(|s| *s < LAST_SECTOR).collect();
    let per_sector = sector_size / 4;
    let mut sector = u32_le(bytes, 68).unwrap_or(u32::MAX);
    let mut seen = BTreeSet::new();
    while sector < LAST_SECTOR && seen.insert(sector) {
        let Some(start) = (sector as usize).checked_add(1).and_then(|n| n.checked_mul(sector_size)) else { break };
        let at = |n: usize| start.checked_add(4 * n).and_then(|at| u32_le(bytes, at));
        fat.extend((0..per_sector.saturating_sub(1)).map_while(at).take_while(|s| *s < LAST_SECTOR));
        let Some(next) = at(per_sector.saturating_sub(1)) else { break };
        sector = next;
    }
    fat
}

/// §2.6.1: a name of at most 32 UTF-16 units, its length, a type of 0 (free), 1, 2 or 5, a colour of 0 or 1.
fn looks_like_entry(entry: &[u8]) -> bool {
    let name_len = u16_le(entry, 64).unwrap_or(u16::MAX);
    name_len <= 64 && matches!(entry.get(66), Some(0 | 1 | 2 | 5)) && matches!(entry.get(67), Some(0 | 1))
}

fn read_entry(bytes: &[u8], at: usize) -> Option<Entry> {
    let raw = bytes.get(at..at.checked_add(128)?)?;
    let units: Vec<u16> =
        raw.get(..64)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).take_while(|u| *u != 0).collect();
    Some(Entry {
        name: String::from_utf16_lossy(&units),
        left: u32_le(raw, 68)?,
        right: u32_le(raw, 72)?,
        child: u32_le(raw, 76)?,
        class: raw.get(80..96)?.try_into().ok()?,
    })
}

/// Names directly under the root: an embedded workbook must not make a Word document a workbook.
fn root_names(entries: &[Entry]) -> Vec<&str> {
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    let mut todo: Vec<u32> = entries.first().map(|root| root.child).into_iter().collect();
    while let Some(id) = todo.pop() {
        let Some(entry) = entries.get(id as usize) else { continue };
        if !seen.insert(id) {
            continue;
        }
        names.push(entry.name.as_str());
        todo.push(entry.left);
        todo.push(entry.right);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;

    fn compound(streams: &[&str]) -> Vec<u8> {
        let mut file = ::cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
        for stream in streams {
            if let Some((storage, _)) = stream.rsplit_once('/') {
                file.create_storage_all(storage).unwrap();
            }
            file.create_stream(stream).unwrap().write_all(&[7; 5000]).unwrap();
        }
        file.flush().unwrap();
        file.into_inner().into_inner()
    }

    fn format(bytes: &[u8]) -> Option<Format> {
        tell(bytes).map(|t| t.format)
    }

    #[test]
    fn root_streams_tell_the_document() {
        assert_eq!(format(&compound(&["/WordDocument", "/1Table"])), Some(Format::Doc));
        assert_eq!(format(&compound(&["/Workbook"])), Some(Format::Xls));
        assert_eq!(format(&compound(&["/Book"])), Some(Format::Xls));
        assert_eq!(format(&compound(&["/PowerPoint Document"])), Some(Format::Ppt));
        assert_eq!(format(&compound(&["/EncryptionInfo", "/EncryptedPackage"])), Some(Format::OoxmlEncrypted));
        assert_eq!(format(&compound(&["/__properties_version1.0", "/__substg1.0_0037001F"])), Some(Format::Msg));
        assert_eq!(format(&compound(&["/VisioDocument"])), Some(Format::Ole));
    }

    #[test]
    fn an_embedded_workbook_leaves_the_document_a_document() {
        assert_eq!(format(&compound(&["/ObjectPool/_1/Workbook", "/WordDocument"])), Some(Format::Doc));
        assert_eq!(format(&compound(&["/Other/Workbook"])), Some(Format::Xls), "better than nothing when the root says nothing");
    }

    #[test]
    fn a_damaged_allocation_table_still_tells() {
        let mut bytes = compound(&["/WordDocument"]);
        for byte in &mut bytes[68..512] {
            *byte = 0xFF;
        }
        assert_eq!(format(&bytes), Some(Format::Doc));
        bytes.truncate(bytes.len() / 2);
        assert!(tell(&bytes).is_some());
    }
}
