//! The summary information of a compound file ([MS-OLEPS]): title, author, dates.

use super::cfb::{CompoundFile, u16_at, u32_at};
use crate::inspect::fold_whitespace;
use crate::model::Facts;

/// Properties looked at in one set; the standard ones are 19.
const MAX_PROPERTIES: usize = 256;

/// Reads `\x05SummaryInformation` into the metadata, as far as it can be read.
pub fn read(file: &CompoundFile<'_>, facts: &mut Facts) {
    let Some(entry) = file.stream("\u{5}SummaryInformation") else { return };
    let stream = file.read(entry).0;
    let Some(start) = u32_at(&stream, 44).map(|at| at as usize) else { return };
    let Some(set) = stream.get(start..) else { return };
    let count = (u32_at(set, 4).unwrap_or(0) as usize).min(MAX_PROPERTIES);
    let mut found: Vec<(u32, usize)> = Vec::new();
    for i in 0..count {
        let (Some(id), Some(at)) = (u32_at(set, 8 + i * 8), u32_at(set, 12 + i * 8)) else { break };
        found.push((id, at as usize));
    }
    let code_page = found.iter().find(|(id, _)| *id == 1).and_then(|(_, at)| u16_at(set, at.checked_add(4)?)).unwrap_or(1252);
    for (id, at) in found {
        let key = match id {
            2 => "title",
            3 => "subject",
            4 => "author",
            5 => "keywords",
            6 => "description",
            7 => "template",
            8 => "last-modified-by",
            12 => "created",
            13 => "modified",
            14 => "pages",
            18 => "application",
            _ => continue,
        };
        let value = set.get(at..).and_then(|value| show(value, code_page)).unwrap_or_default();
        let value: String = fold_whitespace(&value).chars().take(500).collect();
        if !value.is_empty() {
            facts.metadata.insert(key.to_owned(), value);
        }
    }
}

/// A typed value (§2.15): strings, times and integers.
fn show(value: &[u8], code_page: u16) -> Option<String> {
    let body = value.get(4..)?;
    match u16_at(value, 0)? {
        // VT_LPSTR
        30 => {
            let len = u32_at(body, 0)? as usize;
            let raw = body.get(4..4usize.checked_add(len.min(4_096))?)?;
            Some(decode(raw, code_page).trim_end_matches('\0').to_owned())
        }
        // VT_LPWSTR
        31 => {
            let len = (u32_at(body, 0)? as usize).min(4_096);
            let raw = body.get(4..4 + len * 2)?;
            Some(encoding_rs::UTF_16LE.decode_without_bom_handling(raw).0.trim_end_matches('\0').to_owned())
        }
        // VT_FILETIME: 100 ns since 1601-01-01; zero and durations are no dates.
        64 => {
            let ticks = u64::from(u32_at(body, 0)?) | u64::from(u32_at(body, 4)?) << 32;
            let seconds = i64::try_from(ticks / 10_000_000).ok()? - 11_644_473_600;
            (seconds > 0).then(|| jiff::Timestamp::from_second(seconds).ok().map(|t| t.to_string())).flatten()
        }
        // VT_I4
        3 => u32_at(body, 0).map(|n| n.to_string()),
        _ => None,
    }
}

fn decode(raw: &[u8], code_page: u16) -> String {
    let encoding = match code_page {
        65001 => encoding_rs::UTF_8,
        1200 => encoding_rs::UTF_16LE,
        10000 => encoding_rs::MACINTOSH,
        932 => encoding_rs::SHIFT_JIS,
        936 => encoding_rs::GBK,
        949 => encoding_rs::EUC_KR,
        950 => encoding_rs::BIG5,
        874 | 1250..=1258 => {
            encoding_rs::Encoding::for_label(format!("windows-{code_page}").as_bytes()).unwrap_or(encoding_rs::WINDOWS_1252)
        }
        _ => encoding_rs::WINDOWS_1252,
    };
    encoding.decode_without_bom_handling(raw).0.into_owned()
}
