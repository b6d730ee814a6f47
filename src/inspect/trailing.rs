//! What hides behind, or beside, a picture or a video: a second format in the same bytes.
//!
//! Goals:
//! 1. Tell an honest trailer (a phone's second picture, zero padding) from another document riding along.
//! 2. Name a second format only on evidence that a reader of that format would accept: a magic number
//!    alone turns up by chance in megabytes of compressed data.

use memchr::memmem;

use crate::model::Format;

/// A ZIP reader looks for the end-of-central-directory record in the last 22 + 65,535 bytes (APPNOTE 4.3.16).
const EOCD_WINDOW: usize = 22 + 65_535;
/// A PDF reader accepts a header anywhere in the first 1,024 bytes (ISO 32000-1, annex H.3.4.1).
const PDF_HEADER_WINDOW: usize = 1024;
/// HTML is sniffed at the start of text; this much of a trailer is looked at.
const TEXT_WINDOW: usize = 4096;

const SEVEN_ZIP: &[u8] = b"7z\xbc\xaf\x27\x1c";
const RAR: &[u8] = b"Rar!\x1a\x07";

/// Padding before a camera's trailer is shorter than this.
const TRAILER_HEAD: usize = 64;

/// What the bytes after the end of a document are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trailer {
    /// Zero or `0xFF` padding only.
    Padding,
    /// What cameras and phones append: the kind, as makers call it.
    Camera(&'static str),
    /// Another document or a program.
    Document(Format),
    /// Not recognised.
    Unknown,
}

/// Classifies `trailer`, the bytes after the end of a document.
pub fn classify(trailer: &[u8]) -> Trailer {
    if trailer.iter().all(|b| matches!(b, 0 | 0xFF)) {
        return Trailer::Padding;
    }
    if let Some(format) = document(trailer) {
        return Trailer::Document(format);
    }
    let start = skip_padding(trailer);
    if start.starts_with(&[0xFF, 0xD8, 0xFF]) {
        return Trailer::Camera("MPF (JPEG)");
    }
    // The first box of an MP4 starts with its size, whose first bytes are zeros.
    let head = trailer.get(..TRAILER_HEAD.min(trailer.len())).unwrap_or_default();
    if memmem::find(head, b"ftyp").is_some() || memmem::find(trailer, b"MotionPhoto_Data").is_some() {
        return Trailer::Camera("Motion Photo (MP4)");
    }
    if trailer.ends_with(b"SEFT") {
        return Trailer::Camera("Samsung SEFT");
    }
    Trailer::Unknown
}

/// The second format that `bytes`, a whole file of another format, opens as; `None` when there is none.
/// Looks at what readers look at: the end for ZIP, the first kilobyte for PDF.
pub fn second_format(bytes: &[u8]) -> Option<Format> {
    if is_zip_at_end(bytes) {
        return Some(Format::Zip);
    }
    let head = bytes.get(..PDF_HEADER_WINDOW.min(bytes.len())).unwrap_or_default();
    (memmem::find(head, b"%PDF-").is_some() && memmem::find(bytes, b"startxref").is_some()).then_some(Format::Pdf)
}

/// The document that `bytes`, a whole file of another format, carries anywhere and that its readers would open: poppler, MuPDF
/// and qpdf look for a PDF header past the first kilobyte too, RAR and 7-Zip unpack archives that start behind a program.
/// Each magic number is confirmed by what follows it, as it turns up by chance in gigabytes of compressed pictures.
pub fn carried_format(bytes: &[u8]) -> Option<Format> {
    if let Some(format) = second_format(bytes) {
        return Some(format);
    }
    let after = |at: usize| bytes.get(at..).unwrap_or_default();
    // What no object follows after the first header follows after none.
    let is_numbered = |at: &usize| after(*at).get(5).is_some_and(u8::is_ascii_digit);
    if let Some(at) = memmem::find_iter(bytes, b"%PDF-").find(is_numbered) {
        let found = |mark: &[u8]| memmem::find(after(at), mark).is_some();
        if found(b" obj") && (found(b"trailer") || found(b"startxref")) {
            return Some(Format::Pdf);
        }
    }
    // The start header of 7-Zip has a checksum of its own (7zFormat.txt, *Signature Header*).
    let is_7z = |at: usize| {
        let checksum = after(at).get(8..).and_then(<[u8]>::first_chunk).map(|c| u32::from_le_bytes(*c));
        after(at).get(12..32).is_some_and(|header| checksum == Some(crc32fast::hash(header)))
    };
    if memmem::find_iter(bytes, SEVEN_ZIP).any(is_7z) {
        return Some(Format::SevenZip);
    }
    // A seventh byte 0, or 1 and 0, tells the version (RAR 5.0 technical note, *RAR 5.0 signature*).
    let is_rar = |at: usize| matches!(after(at).get(6..8), Some([0, _] | [1, 0]));
    memmem::find_iter(bytes, RAR).any(is_rar).then_some(Format::Rar)
}

/// A document or program inside `trailer`.
fn document(trailer: &[u8]) -> Option<Format> {
    let start = skip_padding(trailer);
    if is_zip_at_end(trailer) || start.starts_with(b"PK\x03\x04") {
        return Some(Format::Zip);
    }
    if memmem::find(trailer, b"%PDF-").is_some() {
        return Some(Format::Pdf);
    }
    if is_windows_program(start) {
        return Some(Format::Exe);
    }
    let magics: [(&[u8], Format); 7] = [
        (b"\x7fELF", Format::Elf),
        (RAR, Format::Rar),
        (SEVEN_ZIP, Format::SevenZip),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Format::Ole),
        (b"{\\rtf", Format::Rtf),
        (b"SQLite format 3\0", Format::Sqlite),
        (b"#!/", Format::Script),
    ];
    if let Some((_, format)) = magics.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(*format);
    }
    // RAR and 7-Zip stubs are found wherever they start; their signatures are six bytes or more.
    for (magic, format) in &magics[1..3] {
        if memmem::find(trailer, magic).is_some() {
            return Some(*format);
        }
    }
    let text = start.get(..TEXT_WINDOW.min(start.len())).unwrap_or_default().to_ascii_lowercase();
    let marks: [&[u8]; 5] = [b"<html", b"<!doctype html", b"<script", b"<?php", b"<svg"];
    marks.iter().any(|mark| memmem::find(&text, mark).is_some()).then_some(Format::Html)
}

/// Whether a ZIP reader would find a central directory that ends with `bytes`.
fn is_zip_at_end(bytes: &[u8]) -> bool {
    let window = bytes.get(bytes.len().saturating_sub(EOCD_WINDOW)..).unwrap_or_default();
    let Some(at) = memmem::rfind(window, b"PK\x05\x06") else { return false };
    let Some(record) = window.get(at..).filter(|r| r.len() >= 22) else { return false };
    let comment = usize::from(u16::from_le_bytes([record[20], record[21]]));
    let entries = u16::from_le_bytes([record[10], record[11]]);
    comment <= record.len() - 22 && (entries == 0 || memmem::find(bytes, b"PK\x01\x02").is_some())
}

/// `MZ` with a PE header where its `e_lfanew` points.
fn is_windows_program(bytes: &[u8]) -> bool {
    if !bytes.starts_with(b"MZ") {
        return false;
    }
    let Some(pointer) = bytes.get(0x3C..0x40) else { return false };
    let pe = u32::from_le_bytes([pointer[0], pointer[1], pointer[2], pointer[3]]) as usize;
    pe.checked_add(4).and_then(|end| bytes.get(pe..end)) == Some(b"PE\0\0")
}

fn skip_padding(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| !matches!(b, 0 | b'\r' | b'\n' | b' ' | b'\t')).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zip_of_one() -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("a.txt", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, b"hello").unwrap();
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn padding_and_camera_trailers_are_not_documents() {
        assert_eq!(classify(&[0; 512]), Trailer::Padding);
        assert_eq!(classify(&[0, 0, 0xFF, 0xD8, 0xFF, 0xE1, 0, 8]), Trailer::Camera("MPF (JPEG)"));
        assert_eq!(classify(b"\0\0\0\x18ftypmp42...."), Trailer::Camera("Motion Photo (MP4)"));
        assert_eq!(classify(b"some notes"), Trailer::Unknown);
    }

    #[test]
    fn documents_in_a_trailer_are_named() {
        assert_eq!(classify(&zip_of_one()), Trailer::Document(Format::Zip));
        assert_eq!(classify(b"xx%PDF-1.4\n"), Trailer::Document(Format::Pdf));
        assert_eq!(classify(b"\r\n<HTML><body>"), Trailer::Document(Format::Html));
        let mut exe = vec![0u8; 0x84];
        exe[..2].copy_from_slice(b"MZ");
        exe[0x3C] = 0x80;
        exe[0x80..0x84].copy_from_slice(b"PE\0\0");
        assert_eq!(classify(&exe), Trailer::Document(Format::Exe));
        exe[0x80] = b'X';
        assert_eq!(classify(&exe), Trailer::Unknown);
    }

    #[test]
    fn a_magic_number_alone_is_not_a_zip() {
        let mut bytes = vec![7u8; 1000];
        bytes[500..504].copy_from_slice(b"PK\x05\x06");
        assert_eq!(second_format(&bytes), None);
        let mut carried = vec![7u8; 1000];
        carried.extend(zip_of_one());
        assert_eq!(second_format(&carried), Some(Format::Zip));
    }

    #[test]
    fn documents_in_the_middle_of_a_file_are_found_where_their_readers_open_them() {
        let within = |document: &[u8]| [&vec![7u8; 5000][..], document, &vec![7u8; 100_000]].concat();
        assert_eq!(carried_format(&within(b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>startxref 9 %%EOF")), Some(Format::Pdf));
        assert_eq!(carried_format(&within(b"%PDF-1.4\nhello")), None, "no reader finds an object in it");
        let header = [0u8; 20];
        let archive = [SEVEN_ZIP, &[0, 4], &crc32fast::hash(&header).to_le_bytes(), &header].concat();
        assert_eq!(carried_format(&within(&archive)), Some(Format::SevenZip));
        assert_eq!(carried_format(&within(&archive[..31])), None);
        assert_eq!(carried_format(&within(b"Rar!\x1a\x07\x01\x00")), Some(Format::Rar));
        assert_eq!(carried_format(&within(b"Rar!\x1a\x07\x63")), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_classified(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = classify(&bytes);
            let _ = carried_format(&bytes);
        }
    }
}
