//! Facts: what a file *is*. Content only: no name, no policy, no clock, so that they are cached under
//! `sha256 + inspector version` and are true wherever the same bytes turn up.

mod archive;
mod image;
mod lean;
mod office;
mod pdf;
pub(crate) mod shared;
mod sheet;
mod text;
mod video;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use archive::{ArchiveFacts, MemberFacts};
pub use image::{GpsPosition, ImageFacts};
pub use lean::{LeftOut, Measured};
pub use office::OfficeFacts;
pub use pdf::{OutlineEntry, PageFacts, PdfFacts, SignatureFacts};
pub use sheet::{CellValue, SheetFacts, WorkbookFacts, serial_date};
pub use text::{TableFacts, TextFacts};
pub use video::{TrackFacts, TrackKind, VideoFacts};

use super::finding::{Arg, Code};
use super::format::Format;
use super::place::Place;

/// Bumped whenever an inspector may say something else of the same bytes; part of every cache key.
pub const INSPECTOR_VERSION: &str = "4";

/// At most this many signals of one code are kept per file; the rest is counted in [`Signal::more`].
pub const MAX_SIGNALS_PER_CODE: usize = 20;

/// Everything known of one file, or of one archive member.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Size in bytes.
    pub size: u64,
    /// True format; absent when nothing known matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// How the format was told: magic bytes, structure, and what `infer` answered.
    #[serde(default)]
    pub identification: Identification,
    /// What a rule may care about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signal>,
    /// What only this family of formats has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// Readable text, in reading order, capped; for search, coherence and privacy checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub text: Vec<TextChunk>,
    /// Whether `text` was cut at the cap.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_truncated: bool,
    /// Descriptive metadata found inside (title, author, producer, dates…): key → value, untrusted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// What was left out of these facts once the rules had read it; only in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
}

/// How a format was told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identification {
    /// What decided, for a curious reader: `magic %PDF-1.7`, `OPC main part word/document.xml`.
    pub basis: String,
    /// Media type that `infer` gives for the first bytes, where it gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infer: Option<String>,
    /// Other formats the same bytes open as (polyglots).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Format>,
}

/// Something an inspector saw that a rule may care about. Its code is the code of the finding it makes
/// where a pipeline's policy does not say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Code, shared with findings.
    pub code: Code,
    /// Where.
    #[serde(default, skip_serializing_if = "Place::is_empty")]
    pub place: Place,
    /// Values that fill the texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Arg>,
    /// How many more of the same were seen and not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Signal {
    /// A signal without place or values.
    pub fn new(code: &'static str) -> Self {
        Self { code: Code::of(code), place: Place::default(), args: BTreeMap::new(), more: 0 }
    }
    /// Adds where it was seen.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }
    /// Adds a value for the texts (`{name}` in `messages/*.toml`).
    #[must_use]
    pub fn arg(mut self, name: &str, value: impl Into<Arg>) -> Self {
        self.args.insert(name.to_owned(), value.into());
        self
    }
}

/// A piece of text and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextChunk {
    /// Page, slide, sheet, line.
    #[serde(default, skip_serializing_if = "Place::is_empty")]
    pub place: Place,
    /// The text, whitespace folded.
    pub text: String,
}

/// What only one family of formats has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Detail {
    /// PDF.
    Pdf(PdfFacts),
    /// Word and PowerPoint in any of their packages.
    Office(OfficeFacts),
    /// Spreadsheets and CSV.
    Workbook(WorkbookFacts),
    /// PNG and JPEG.
    Image(ImageFacts),
    /// Video containers.
    Video(VideoFacts),
    /// Plain text.
    Text(TextFacts),
    /// ZIP archives.
    Archive(ArchiveFacts),
}

impl Facts {
    /// Facts of `size` bytes, nothing known yet.
    pub fn of_size(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    /// Records a signal; past [`MAX_SIGNALS_PER_CODE`] of one code, only the count grows.
    pub fn push(&mut self, signal: Signal) {
        let same = self.signals.iter().filter(|s| s.code == signal.code).count();
        if same < MAX_SIGNALS_PER_CODE {
            self.signals.push(signal);
        } else if let Some(last) = self.signals.iter_mut().rev().find(|s| s.code == signal.code) {
            last.more = last.more.saturating_add(1).saturating_add(signal.more);
        }
    }

    /// Whether a signal of this code was recorded on this file (members not counted).
    pub fn has(&self, code: &str) -> bool {
        self.signals.iter().any(|s| s.code.as_str() == code)
    }

    /// Whether a signal of this code was recorded here or in any member.
    pub fn has_anywhere(&self, code: &str) -> bool {
        self.has(code) || self.members().iter().any(|m| m.facts.as_deref().is_some_and(|f| f.has_anywhere(code)))
    }

    /// Members, where this is an archive.
    pub fn members(&self) -> &[MemberFacts] {
        match &self.detail {
            Some(Detail::Archive(archive)) => &archive.members,
            _ => &[],
        }
    }

    /// The workbook, where this is a spreadsheet.
    pub fn workbook(&self) -> Option<&WorkbookFacts> {
        match &self.detail {
            Some(Detail::Workbook(workbook)) => Some(workbook),
            _ => None,
        }
    }

    /// The PDF facts, where this is a PDF.
    pub fn pdf(&self) -> Option<&PdfFacts> {
        match &self.detail {
            Some(Detail::Pdf(pdf)) => Some(pdf),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_signal_is_counted_not_kept() {
        let mut facts = Facts::default();
        for n in 0..100u64 {
            facts.push(Signal::new("csv-formula").at(Place::line(n)));
        }
        assert_eq!(facts.signals.len(), MAX_SIGNALS_PER_CODE);
        assert_eq!(facts.signals.last().unwrap().more, 80);
    }
}
