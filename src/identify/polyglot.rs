//! Two formats in the same bytes, and what stands after the end of a document.
//!
//! Office formats embed other files for good reasons; only what stands *outside* the structure of the first
//! format is told here.

use super::{Told, is_zip_based, magic, pdf_header};
use crate::inspect::zip_index::ZipIndex;
use crate::model::facts::Facts;
use crate::model::format::{Family, Format};
use crate::model::{Place, Signal};

/// A PDF writer may leave a line end or some padding after `%%EOF`; more than this is something else.
const PDF_TAIL: usize = 1024;

/// Looks for a second format and for data after the end.
pub(super) fn look(bytes: &[u8], told: &Told, facts: &mut Facts) {
    let mut also = told.also.clone();
    let mut add = |format: Format| {
        if format != told.format && !also.contains(&format) {
            also.push(format);
        }
    };
    if is_zip_based(told.format) {
        if told.format != Format::Zip
            && let Ok(index) = ZipIndex::open(bytes)
            && index.trailing > 0
        {
            let tail = bytes.get(bytes.len().saturating_sub(usize::try_from(index.trailing).unwrap_or(0))..).unwrap_or(&[]);
            if tail.iter().any(|b| *b != 0) {
                facts.push(trailing(bytes, tail, told.format));
            }
        }
        if told.leading > 0 && pdf_header(bytes).is_some_and(|at| at < told.leading) {
            add(Format::Pdf);
        }
    } else if told.format.family() != Family::Text && zip_at_end(bytes).is_some() {
        add(Format::Zip);
    }
    match told.format {
        Format::Png | Format::Jpeg | Format::Gif => {
            if pdf_header(bytes).is_some() && memchr::memmem::find(bytes, b"endobj").is_some() {
                add(Format::Pdf);
            }
            // What is unknown behind an image is described by the inspector of images.
            if let Some(format) = image_end(bytes, told.format).and_then(|end| bytes.get(end..)).and_then(behind) {
                add(format);
            }
        }
        Format::Pdf => {
            let tail = pdf_tail(bytes);
            let meaning = tail.iter().any(|b| !b.is_ascii_whitespace() && *b != 0);
            match behind(tail) {
                Some(format) if format != Format::Html => add(format),
                // A web application that went on writing its page after the document.
                Some(_) => facts.push(trailing(bytes, tail, Format::Pdf)),
                None if meaning && tail.len() > PDF_TAIL && zip_at_end(bytes).is_none() => facts.push(trailing(bytes, tail, Format::Pdf)),
                None => {}
            }
        }
        _ => {}
    }
    also.sort_unstable();
    // A program that unpacks itself is both by trade; it is told as a program.
    if told.format != Format::Exe {
        for other in &also {
            facts.push(Signal::new("file-polyglot").arg("format", told.format.label()).arg("other", other.label()));
        }
    }
    facts.identification.also = also;
}

fn trailing(bytes: &[u8], tail: &[u8], format: Format) -> Signal {
    Signal::new("file-trailing-data")
        .at(Place::byte(bytes.len().saturating_sub(tail.len()) as u64))
        .arg("trailing_bytes", tail.len())
        .arg("format", format.label())
}

/// A ZIP whose end record closes the file: what a ZIP reader sees, whatever stands before.
pub(super) fn zip_at_end(bytes: &[u8]) -> Option<ZipIndex<'_>> {
    let window = bytes.get(bytes.len().saturating_sub(22 + 0xFFFF)..)?;
    memchr::memmem::rfind(window, b"PK\x05\x06")?;
    let index = ZipIndex::open(bytes).ok()?;
    let readable = index.entries.iter().take(64).any(|e| !index.peek(e, 1).is_empty() || e.encrypted || e.is_dir() || e.declared == 0);
    (index.trailing == 0 && index.count > 0 && readable).then_some(index)
}

/// The format of what follows a document, where it is one that hides well there.
fn behind(tail: &[u8]) -> Option<Format> {
    let start = tail.iter().position(|b| !b.is_ascii_whitespace() && *b != 0)?;
    let tail = tail.get(start..)?;
    if tail.starts_with(b"PK\x03\x04") {
        return Some(Format::Zip);
    }
    if tail.starts_with(b"%PDF-") {
        return Some(Format::Pdf);
    }
    if let Some(format) = magic::tell(tail).map(|t| t.format)
        && (format.is_executable() || matches!(format, Format::Rar | Format::SevenZip))
    {
        return Some(format);
    }
    let head = String::from_utf8_lossy(tail.get(..tail.len().min(64))?).to_ascii_lowercase();
    if head.starts_with("<html") || head.starts_with("<!doctype html") || head.starts_with("<script") {
        return Some(Format::Html);
    }
    head.starts_with("<?php").then_some(Format::Script)
}

/// Where an image ends by its own structure; `None` where it is cut.
fn image_end(bytes: &[u8], format: Format) -> Option<usize> {
    match format {
        Format::Png => png_end(bytes),
        Format::Jpeg => jpeg_end(bytes),
        _ => None,
    }
}

/// After the IEND chunk (PNG §5.6).
fn png_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 8usize;
    loop {
        let len = super::u32_be(bytes, at)? as usize;
        let kind = bytes.get(at.checked_add(4)?..at.checked_add(8)?)?;
        at = at.checked_add(12)?.checked_add(len)?;
        if kind == b"IEND" {
            return Some(at);
        }
    }
}

/// After the EOI marker (ITU-T T.81 §B.1): segments are skipped by their length, entropy-coded data is
/// searched for the next marker.
fn jpeg_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 2usize;
    loop {
        let marker = *bytes.get(at.checked_add(1)?)?;
        if *bytes.get(at)? != 0xFF {
            return None;
        }
        match marker {
            0xD9 => return at.checked_add(2),
            // Fill bytes, restarts and TEM stand alone.
            0xFF => at = at.checked_add(1)?,
            0x01 | 0xD0..=0xD8 => at = at.checked_add(2)?,
            _ => {
                let len = u16::from_be_bytes([*bytes.get(at.checked_add(2)?)?, *bytes.get(at.checked_add(3)?)?]);
                at = at.checked_add(2)?.checked_add(usize::from(len))?;
                if marker == 0xDA {
                    // Entropy-coded data: the next 0xFF that is neither stuffed nor a restart.
                    let data = bytes.get(at..)?;
                    let next = memchr::memchr_iter(0xFF, data).find(|i| !matches!(data.get(i + 1), Some(0 | 0xD0..=0xD7 | 0xFF) | None))?;
                    at = at.checked_add(next)?;
                }
            }
        }
    }
}

/// What stands after the last `%%EOF` (ISO 32000-1 §7.5.5).
fn pdf_tail(bytes: &[u8]) -> &[u8] {
    memchr::memmem::rfind(bytes, b"%%EOF").and_then(|at| bytes.get(at + 5..)).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::write::SimpleFileOptions;

    use crate::identify::identify;
    use crate::model::facts::Facts;
    use crate::model::format::Format;

    const PDF: &[u8] = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\nstartxref\n9\n%%EOF\n";
    const JPEG: &[u8] = &[0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0, 0, 0xFF, 0xDA, 0, 2, 1, 2, 0xFF, 0, 3, 0xFF, 0xD9];

    fn archive() -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("a.txt", SimpleFileOptions::default()).unwrap();
        writer.write_all(b"hello").unwrap();
        writer.finish().unwrap().into_inner()
    }

    fn told(bytes: &[u8]) -> Facts {
        let mut facts = Facts::of_size(bytes.len() as u64);
        identify(bytes, &mut facts);
        facts
    }

    #[test]
    fn an_archive_behind_a_pdf_or_an_image_is_told() {
        for (first, format) in [(PDF, Format::Pdf), (JPEG, Format::Jpeg)] {
            let facts = told(&[first, &archive()].concat());
            assert_eq!(facts.format, Some(format));
            assert_eq!(facts.identification.also, [Format::Zip]);
            assert!(facts.has("file-polyglot"));
        }
    }

    #[test]
    fn an_archive_that_stores_a_pdf_first_is_only_an_archive() {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("a.pdf", SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
        writer.write_all(PDF).unwrap();
        let facts = told(&writer.finish().unwrap().into_inner());
        assert_eq!(facts.format, Some(Format::Zip));
        assert!(facts.identification.also.is_empty() && facts.signals.is_empty());
    }

    #[test]
    fn a_program_behind_an_image_is_told() {
        let mut exe = vec![0u8; 256];
        exe[..2].copy_from_slice(b"MZ");
        exe[60] = 128;
        exe[128..132].copy_from_slice(b"PE\0\0");
        let facts = told(&[JPEG, &exe].concat());
        assert_eq!(facts.identification.also, [Format::Exe]);
    }

    #[test]
    fn junk_around_a_pdf_is_told_and_line_ends_are_not() {
        assert!(told(&[b"HTTP/1.1 200 OK\r\n\r\n", PDF].concat()).has("file-leading-data"));
        assert!(told(&[PDF, &[b'x'; 5000]].concat()).has("file-trailing-data"));
        assert!(told(&[PDF, b"<html>page</html>"].concat()).has("file-trailing-data"));
        assert!(told(&[b"\r\n\xEF\xBB\xBF", PDF, b"\r\n\0\0"].concat()).signals.is_empty());
    }
}
