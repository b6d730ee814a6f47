//! Office 97–2003 binaries and other compound files: Word, Excel, PowerPoint, encrypted Open XML packages.
//!
//! Goals:
//! 1. The directory says what the file is; its streams are then checked as far as the application needs them
//!    to open the document, no further: old writers are sloppy elsewhere.
//! 2. Macros, controls and embedded objects are told by their storages, wherever they nest.
//!
//! Cells belong to [`super::sheet`], called at the end for workbooks that can be read.

pub mod cfb;
mod doc;
mod ppt;
mod properties;
mod xls;

use std::collections::BTreeSet;

use super::office::{self, shown};
use super::xml::{self, XmlError};
use super::{Context, Exceeded, sheet};
use crate::model::facts::{Detail, OfficeFacts};
use crate::model::{Facts, Format, Place, Signal};
use cfb::{CompoundFile, u16_at, u32_at};

/// Describes a file and, for workbooks, its cells.
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    if inspect_package(bytes, ctx, facts) && facts.format == Some(Format::Xls) {
        sheet::xls(bytes, ctx, facts);
    }
}

/// Describes the file without reading cells; whether its content can be read further.
pub fn inspect_package(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) -> bool {
    let read = if bytes.starts_with(&cfb::MAGIC) || facts.format != Some(Format::Xls) {
        compound(bytes, ctx, facts)
    } else {
        // BIFF2 to BIFF5 also stand alone, without a compound file around them.
        xls::stream(bytes, "", ctx, facts)
    };
    match read {
        Ok(readable) => readable,
        Err(exceeded) => {
            exceeded.record(facts, &ctx.budget);
            false
        }
    }
}

/// Tells what a compound file is by the streams of its root.
fn kind(file: &CompoundFile<'_>) -> Option<Format> {
    let has = |name: &str| file.stream(name).is_some();
    if has("EncryptedPackage") || has("EncryptionInfo") {
        Some(Format::OoxmlEncrypted)
    } else if has("WordDocument") {
        Some(Format::Doc)
    } else if has("Workbook") || has("Book") {
        Some(Format::Xls)
    } else if has("PowerPoint Document") || has("PP40") || file.entries.iter().any(|e| e.path == "PP97_DUALSTORAGE") {
        Some(Format::Ppt)
    } else {
        None
    }
}

fn compound(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let file = match CompoundFile::open(bytes) {
        Ok(file) => file,
        Err(damage) => {
            facts.push(Signal::new("office-container-damaged").arg("detail", damage.to_string()));
            return Ok(false);
        }
    };
    let told = facts.format;
    if let Some(format) = kind(&file) {
        facts.format = Some(format);
    } else if facts.format.is_none() {
        facts.format = Some(Format::Ole);
    }
    if file.broken_tree {
        facts.push(Signal::new("office-container-damaged").arg("detail", cfb::Damage::BrokenTree.to_string()));
    }
    let damaged = file.damaged_streams(&ctx.budget)?;
    for (entry, damage) in &damaged {
        facts.push(
            Signal::new("office-part-damaged")
                .at(Place::part(entry.path.as_str()))
                .arg("part", shown(&entry.path))
                .arg("detail", damage.to_string()),
        );
    }
    properties::read(&file, facts);
    if rights_managed(&file) {
        facts.push(Signal::new("office-rights-managed"));
        return Ok(false);
    }
    let mut detail = OfficeFacts::default();
    let readable = match facts.format {
        Some(Format::OoxmlEncrypted) => encrypted_package(&file, ctx, facts)?,
        Some(Format::Doc) => doc::inspect(&file, &mut detail, ctx, facts)?,
        Some(Format::Xls) => xls::inspect(&file, ctx, facts)?,
        Some(Format::Ppt) => ppt::inspect(&file, &mut detail, ctx, facts)?,
        // Told to be a document, but nothing of one inside.
        _ if matches!(told, Some(Format::Doc | Format::Xls | Format::Ppt)) => {
            let stream = told.map_or("", main_stream);
            facts.push(Signal::new("office-part-missing").at(Place::part(stream)).arg("part", stream));
            false
        }
        _ => true,
    };
    storages(&file, ctx, facts)?;
    if matches!(facts.format, Some(Format::Doc | Format::Ppt)) {
        detail.stated_pages = facts.metadata.remove("pages").and_then(|n| n.parse().ok());
        if readable && detail.chars == 0 && detail.images == 0 && damaged.is_empty() && !facts.has("office-embedded-object") {
            facts.push(Signal::new("office-blank"));
        }
        facts.detail = Some(Detail::Office(detail));
    } else {
        facts.metadata.remove("pages");
    }
    Ok(readable && !damaged.iter().any(|(entry, _)| entry.name.eq_ignore_ascii_case("Workbook") || entry.name.eq_ignore_ascii_case("Book")))
}

fn main_stream(format: Format) -> &'static str {
    match format {
        Format::Doc => "WordDocument",
        Format::Xls => "Workbook",
        _ => "PowerPoint Document",
    }
}

/// Rights management ([MS-OFFCRYPTO] §2.2): the content is encrypted for named persons.
fn rights_managed(file: &CompoundFile<'_>) -> bool {
    file.entries.iter().any(|e| {
        e.name == "\u{9}DRMContent" || (e.path.starts_with("\u{6}DataSpaces/TransformInfo/") && e.name.starts_with("DRMEncrypted"))
    })
}

/// An Open XML package encrypted whole ([MS-OFFCRYPTO] §2.3): never readable here; damaged or not.
fn encrypted_package(file: &CompoundFile<'_>, ctx: &mut Context, facts: &mut Facts) -> Result<bool, Exceeded> {
    let info = file.stream("EncryptionInfo").map(|e| file.read(e).0).unwrap_or_default();
    let method = match (u16_at(&info, 0), u16_at(&info, 2)) {
        (Some(4), Some(4)) => "ECMA-376 agile",
        (Some(2..=4), Some(2)) => "ECMA-376 standard",
        (Some(3 | 4), Some(3)) => "ECMA-376 extensible",
        _ => "?",
    };
    facts.push(Signal::new("office-encrypted").at(Place::part("EncryptionInfo")).arg("method", method));
    let mut damage = |stream: &str, detail: String| {
        facts.push(Signal::new("office-part-damaged").at(Place::part(stream)).arg("part", stream).arg("detail", shown(&detail)));
    };
    if method == "ECMA-376 agile" {
        match xml::walk(info.get(8..).unwrap_or_default(), &ctx.budget, |_, _| {}) {
            Err(XmlError::Exceeded(exceeded)) => return Err(exceeded),
            Err(error) => damage("EncryptionInfo", error.to_string()),
            Ok(_) => {}
        }
    } else if method == "?" {
        damage("EncryptionInfo", format!("version {:?}.{:?}", u16_at(&info, 0), u16_at(&info, 2)));
    } else if method == "ECMA-376 standard" && u32_at(&info, 8).is_none_or(|len| len as usize + 12 > info.len() || len < 32) {
        damage("EncryptionInfo", "header size".to_owned());
    }
    match file.stream("EncryptedPackage") {
        Some(package) => {
            let content = file.read(package).0;
            let declared = u64::from(u32_at(&content, 0).unwrap_or(u32::MAX)) | u64::from(u32_at(&content, 4).unwrap_or(0)) << 32;
            if declared > (content.len() as u64).saturating_sub(8) {
                damage("EncryptedPackage", format!("{declared} > {}", content.len()));
            }
        }
        None => damage("EncryptedPackage", "absent".to_owned()),
    }
    Ok(false)
}

/// Macros, controls, objects and signatures, by their storages.
fn storages(file: &CompoundFile<'_>, ctx: &mut Context, facts: &mut Facts) -> Result<(), Exceeded> {
    let mut projects = BTreeSet::new();
    for entry in file.entries.iter().filter(|e| e.is_stream) {
        ctx.budget.tick()?;
        let (parent, grandparent) = parents(&entry.path);
        let is_vba = entry.name.eq_ignore_ascii_case("_VBA_PROJECT")
            || (entry.name.eq_ignore_ascii_case("dir")
                && parent.rsplit('/').next().is_some_and(|p| p.to_ascii_uppercase().contains("VBA")));
        if is_vba && projects.insert(if grandparent.is_empty() { parent } else { grandparent }) {
            facts.push(Signal::new("office-macro-vba").at(Place::part(grandparent_or(parent, grandparent))));
        }
        let is_control =
            entry.name == "Ctls" || entry.name.eq_ignore_ascii_case("\u{3}OCXNAME") || entry.name.eq_ignore_ascii_case("\u{3}OCXDATA");
        if is_control && !facts.has("office-activex") {
            facts.push(Signal::new("office-activex").at(Place::part(entry.path.as_str())));
        }
    }
    for entry in &file.entries {
        let (parent, _) = parents(&entry.path);
        let is_object = !entry.is_stream
            && ((parent.is_empty() && entry.name.starts_with("MBD"))
                || (parent.eq_ignore_ascii_case("ObjectPool") && entry.name.starts_with('_')));
        if is_object {
            let is_control = file.stream(&format!("{}/\u{3}OCXNAME", entry.path)).is_some();
            if !is_control {
                office::embedded_storage(file, &entry.path, ctx, facts)?;
            }
        } else if !entry.is_stream && parent.is_empty() && entry.name.starts_with("LNK") {
            facts.push(Signal::new("office-linked-object").at(Place::part(entry.path.as_str())).arg("target", shown(&entry.name)));
        } else if parent.is_empty() && (entry.name == "_signatures" || entry.name == "_xmlsignatures") {
            facts.push(Signal::new("office-signed").at(Place::part(entry.path.as_str())));
        } else if facts.format == Some(Format::Ole) && parent.is_empty() && entry.name == "\u{1}Ole10Native" {
            office::embedded_storage(file, "", ctx, facts)?;
        }
    }
    Ok(())
}

/// Paths of the storage that holds an entry, and of the one around it.
fn parents(path: &str) -> (&str, &str) {
    let parent = path.rsplit_once('/').map_or("", |(p, _)| p);
    (parent, parent.rsplit_once('/').map_or("", |(p, _)| p))
}

fn grandparent_or<'p>(parent: &'p str, grandparent: &'p str) -> &'p str {
    if grandparent.is_empty() { parent } else { grandparent }
}

/// Records that the structure inside a stream is damaged.
fn damaged_stream(facts: &mut Facts, stream: &str, detail: &str, byte: usize) {
    let place = Place { byte: Some(byte as u64), part: Some(stream.to_owned()).filter(|s| !s.is_empty()), ..Place::default() };
    facts.push(Signal::new("office-stream-invalid").at(place).arg("part", shown(stream)).arg("detail", detail));
}

#[cfg(test)]
mod tests;
