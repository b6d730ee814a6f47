//! Where in a file something was seen: page, cell, archive member, package part, byte, second.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Lang, display_safe};

/// A place inside one item. Fields that do not apply are absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Place {
    /// Path through nested archives, outermost first (untrusted names).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Part of an office package (`word/document.xml`) or stream of an OLE file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Page or slide, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Sheet name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// Cell in A1 notation (`C7`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// Line of a text file, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Byte offset, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte: Option<u64>,
    /// Seconds from the start of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<f64>,
}

impl Place {
    /// A page or slide, from 1.
    pub fn page(page: u32) -> Self {
        Self { page: Some(page), ..Self::default() }
    }
    /// A spreadsheet cell, in A1 notation.
    pub fn cell(sheet: impl Into<String>, cell: impl Into<String>) -> Self {
        Self { sheet: Some(sheet.into()), cell: Some(cell.into()), ..Self::default() }
    }
    /// A part of an office package, or an OLE stream.
    pub fn part(part: impl Into<String>) -> Self {
        Self { part: Some(part.into()), ..Self::default() }
    }
    /// A member of an archive.
    pub fn member(name: impl Into<String>) -> Self {
        Self { members: vec![name.into()], ..Self::default() }
    }
    /// A byte offset, from 0.
    pub fn byte(byte: u64) -> Self {
        Self { byte: Some(byte), ..Self::default() }
    }
    /// A text line, from 1.
    pub fn line(line: u64) -> Self {
        Self { line: Some(line), ..Self::default() }
    }
    /// A moment of a video, in seconds.
    pub fn second(second: f64) -> Self {
        Self { second: Some(second), ..Self::default() }
    }
    /// The same place, seen from outside the archive member `name`.
    pub fn inside(mut self, name: &str) -> Self {
        self.members.insert(0, name.to_owned());
        self
    }
    /// Whether nothing is known of the place.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The place as a person reads it, safe for a terminal: `preuve.zip › page 3`, `Feuil1!C7`.
    pub fn show(&self, lang: Lang) -> String {
        let mut pieces: Vec<String> = self.members.iter().map(|m| display_safe(m, 120)).collect();
        if let Some(part) = &self.part {
            pieces.push(display_safe(part, 120));
        }
        let mut spot = String::new();
        match (&self.sheet, &self.cell) {
            (Some(sheet), Some(cell)) => spot = format!("{}!{}", display_safe(sheet, 60), display_safe(cell, 20)),
            (Some(sheet), None) => spot = display_safe(sheet, 60),
            (None, Some(cell)) => spot = display_safe(cell, 20),
            (None, None) => {}
        }
        let mut add = |s: String| {
            if !spot.is_empty() {
                spot.push_str(", ");
            }
            let _ = write!(spot, "{s}");
        };
        if let Some(page) = self.page {
            add(format!("page {page}"));
        }
        if let Some(line) = self.line {
            add(match lang {
                Lang::Fr => format!("ligne {line}"),
                Lang::En => format!("line {line}"),
            });
        }
        if let Some(byte) = self.byte {
            add(match lang {
                Lang::Fr => format!("octet {byte}"),
                Lang::En => format!("byte {byte}"),
            });
        }
        if let Some(second) = self.second {
            add(format!("{second:.1} s"));
        }
        if !spot.is_empty() {
            pieces.push(spot);
        }
        pieces.join(" › ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_inside_an_archive_reads_from_outside_in() {
        let place = Place::cell("Feuil1", "C7").inside("versions.xlsx").inside("dépôt.zip");
        assert_eq!(place.show(Lang::Fr), "dépôt.zip › versions.xlsx › Feuil1!C7");
    }

    #[test]
    fn line_and_byte_speak_the_language() {
        let place = Place { line: Some(3), byte: Some(9), ..Place::default() };
        assert_eq!(place.show(Lang::Fr), "ligne 3, octet 9");
        assert_eq!(place.show(Lang::En), "line 3, byte 9");
    }
}
