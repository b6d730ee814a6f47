//! Facts as a report keeps them: without the content that only rules read.

use std::io::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ArchiveFacts, Detail, Facts, MemberFacts, PdfFacts, SheetFacts, TableFacts, TextChunk, TextFacts, WorkbookFacts};

/// Text of one file, its members included, that stays in a report so that its page can be searched, bytes.
const EXCERPT: usize = 2_048;
/// Pages of a PDF that are described one by one in a report.
const PAGES: usize = 1_000;
/// Bookmarks of a PDF that stay in a report.
const BOOKMARKS: usize = 200;

/// What was left out of facts, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeftOut {
    /// Text, bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub text_bytes: u64,
    /// Values of cells.
    #[serde(skip_serializing_if = "is_zero")]
    pub cells: u64,
    /// Descriptions of single pages.
    #[serde(skip_serializing_if = "is_zero")]
    pub pages: u64,
    /// Bookmarks.
    #[serde(skip_serializing_if = "is_zero")]
    pub bookmarks: u64,
    /// Everything but size and format: the submission holds more facts than a report keeps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub details: bool,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// How large facts are, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// As JSON, bytes.
    pub json_bytes: u64,
    /// SHA-256 of that JSON.
    pub sha256: [u8; 32],
}

impl Measured {
    /// About what they take in memory, bytes: a short cell or member takes three times its JSON, text takes once.
    pub fn in_memory(&self) -> u64 {
        self.json_bytes.saturating_mul(3)
    }
}

#[derive(Default)]
struct Measure {
    bytes: u64,
    hasher: Sha256,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn cells_of(book: &WorkbookFacts) -> u64 {
    book.sheets.iter().map(|sheet| sheet.values.len() as u64).sum()
}

fn without_cells(book: &WorkbookFacts) -> WorkbookFacts {
    let sheets = book.sheets.iter().map(|sheet| SheetFacts { name: sheet.name.clone(), values: Vec::new(), shown: Vec::new(), ..*sheet });
    WorkbookFacts { sheets: sheets.collect(), date_1904: book.date_1904, delimiter: book.delimiter, encoding: book.encoding.clone() }
}

impl Facts {
    /// Their size and digest, without making their JSON in memory.
    pub fn measure(&self) -> Measured {
        // Buffered: JSON comes in pieces of a few bytes.
        let mut out = std::io::BufWriter::with_capacity(16 * 1024, Measure::default());
        // Plain values always serialise, and counting never fails.
        let _ = serde_json::to_writer(&mut out, self);
        match out.into_inner() {
            Ok(measure) => Measured { json_bytes: measure.bytes, sha256: measure.hasher.finalize().into() },
            Err(_) => Measured::default(),
        }
    }

    /// Without text (but a first excerpt, for the search of the page), values of cells, and long lists of pages and bookmarks;
    /// what is left out is counted. Identity, signals, members and figures stay.
    #[must_use]
    pub fn lean(&self) -> Self {
        self.lean_within(&mut { EXCERPT })
    }

    fn lean_within(&self, room: &mut usize) -> Self {
        let mut left = LeftOut::default();
        let mut text = Vec::new();
        for chunk in &self.text {
            let mut end = chunk.text.len().min(*room);
            while !chunk.text.is_char_boundary(end) {
                end -= 1;
            }
            if end > 0 {
                text.push(TextChunk { place: chunk.place.clone(), text: chunk.text[..end].to_owned() });
                *room -= end;
            }
            left.text_bytes += (chunk.text.len() - end) as u64;
        }
        let detail = self.detail.as_ref().map(|detail| match detail {
            Detail::Workbook(book) => {
                left.cells = cells_of(book);
                Detail::Workbook(without_cells(book))
            }
            Detail::Text(text) => {
                let table = text.as_table.as_ref();
                left.cells = table.map_or(0, |table| cells_of(&table.workbook));
                let table =
                    table.map(|table| Box::new(TableFacts { workbook: without_cells(&table.workbook), signals: table.signals.clone() }));
                Detail::Text(TextFacts { encoding: text.encoding.clone(), as_table: table, ..*text })
            }
            Detail::Pdf(pdf) => {
                left.pages = pdf.page_facts.len().saturating_sub(PAGES) as u64;
                left.bookmarks = pdf.outline.len().saturating_sub(BOOKMARKS) as u64;
                Detail::Pdf(PdfFacts {
                    version: pdf.version.clone(),
                    pages: pdf.pages,
                    page_facts: pdf.page_facts.iter().take(PAGES).cloned().collect(),
                    outline: pdf.outline.iter().take(BOOKMARKS).cloned().collect(),
                    signatures: pdf.signatures.clone(),
                    encrypted: pdf.encrypted,
                })
            }
            Detail::Archive(archive) => Detail::Archive(ArchiveFacts {
                entries: archive.entries,
                inflated: archive.inflated,
                layout: archive.layout.clone(),
                members: archive
                    .members
                    .iter()
                    .map(|member| MemberFacts {
                        name: member.name.clone(),
                        compressed: member.compressed,
                        size: member.size,
                        sha256: member.sha256.clone(),
                        facts: member.facts.as_ref().map(|inner| Box::new(inner.lean_within(room))),
                    })
                    .collect(),
            }),
            Detail::Office(_) | Detail::Image(_) | Detail::Video(_) => detail.clone(),
        });
        Self {
            size: self.size,
            format: self.format,
            identification: self.identification.clone(),
            signals: self.signals.clone(),
            detail,
            text,
            text_truncated: self.text_truncated,
            metadata: self.metadata.clone(),
            left_out: (left != LeftOut::default()).then_some(left).or(self.left_out),
        }
    }

    /// Size and format only, for a submission that holds more facts than a report keeps.
    #[must_use]
    pub fn without_details(&self) -> Self {
        Self {
            format: self.format,
            left_out: Some(LeftOut { details: true, ..self.left_out.unwrap_or_default() }),
            ..Self::of_size(self.size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::CellValue;

    #[test]
    fn content_goes_and_is_counted_at_every_level() {
        let sheet = SheetFacts {
            name: "s".into(),
            cells: 3,
            values: (0..3).map(|n| (n, 0, CellValue::Text("x".into()))).collect(),
            ..SheetFacts::default()
        };
        let inner = Facts {
            detail: Some(Detail::Workbook(WorkbookFacts { sheets: vec![sheet], ..WorkbookFacts::default() })),
            text: vec![TextChunk { place: crate::model::Place::default(), text: "é".repeat(EXCERPT) }],
            ..Facts::of_size(7)
        };
        let member = MemberFacts { name: "a.xlsx".into(), facts: Some(Box::new(inner)), ..MemberFacts::default() };
        let whole =
            Facts { detail: Some(Detail::Archive(ArchiveFacts { members: vec![member], ..ArchiveFacts::default() })), ..Facts::of_size(9) };
        let lean = whole.lean();
        assert_eq!(lean.left_out, None);
        let inner = lean.members()[0].facts.as_deref().unwrap();
        assert_eq!(inner.left_out, Some(LeftOut { cells: 3, text_bytes: EXCERPT as u64, ..LeftOut::default() }));
        assert_eq!((inner.workbook().unwrap().sheets[0].cells, inner.workbook().unwrap().sheets[0].values.len()), (3, 0));
        assert_eq!(inner.text[0].text.len(), EXCERPT);
        assert_eq!(lean.lean(), lean, "what is lean stays as it is");
        assert!(whole.measure().json_bytes > lean.measure().json_bytes);
    }
}
