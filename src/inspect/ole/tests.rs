//! Compound files are made here, stream by stream.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::inspect::Limits;

pub(crate) fn compound_of(streams: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut file = ::cfb::CompoundFile::create_with_version(::cfb::Version::V3, std::io::Cursor::new(Vec::new())).unwrap();
    for (path, content) in streams {
        if let Some((storage, _)) = path.rsplit_once('/') {
            file.create_storage_all(format!("/{storage}")).unwrap();
        }
        file.create_stream(format!("/{path}")).unwrap().write_all(content).unwrap();
    }
    file.flush().unwrap();
    file.into_inner().into_inner()
}

fn describe_as(bytes: &[u8], format: Option<Format>) -> Facts {
    let mut facts = Facts { format, ..Facts::of_size(bytes.len() as u64) };
    inspect_package(bytes, &mut Context::new(Limits::default()), &mut facts);
    facts
}

fn describe(streams: &[(&str, Vec<u8>)]) -> Facts {
    describe_as(&compound_of(streams), None)
}

fn codes(facts: &Facts) -> Vec<&str> {
    facts.signals.iter().map(|s| s.code.as_str()).collect()
}

// Word ---------------------------------------------------------------------------------------------------

/// `WordDocument` and `1Table` of a document with one piece of 8-bit text.
fn word(text: &[u8], flags: u16) -> Vec<(&'static str, Vec<u8>)> {
    const TEXT_AT: u32 = 1024;
    let mut stream = vec![0u8; TEXT_AT as usize];
    stream[..2].copy_from_slice(&0xA5ECu16.to_le_bytes());
    stream[2..4].copy_from_slice(&0x00C1u16.to_le_bytes());
    stream[10..12].copy_from_slice(&(flags | 0x0200).to_le_bytes());
    stream.extend_from_slice(text);
    let mut clx = vec![2u8];
    clx.extend_from_slice(&16u32.to_le_bytes());
    clx.extend_from_slice(&0u32.to_le_bytes());
    clx.extend_from_slice(&(text.len() as u32).to_le_bytes());
    clx.extend_from_slice(&[0, 0]);
    clx.extend_from_slice(&(0x4000_0000u32 | (TEXT_AT * 2)).to_le_bytes());
    clx.extend_from_slice(&[0, 0]);
    stream[0x01A2..0x01A6].copy_from_slice(&0u32.to_le_bytes());
    stream[0x01A6..0x01AA].copy_from_slice(&(clx.len() as u32).to_le_bytes());
    vec![("WordDocument", stream), ("1Table", clx)]
}

#[test]
fn a_word_document_gives_its_text_and_no_signal() {
    let facts = describe(&word(b"Bonjour\rle\x07monde \xE9\r", 0));
    assert_eq!((facts.format, codes(&facts)), (Some(Format::Doc), vec![]));
    assert_eq!(facts.text[0].text, "Bonjour le monde é");
}

#[test]
fn a_dde_field_of_a_word_document_is_found() {
    assert_eq!(codes(&describe(&word(b"a\x13 DDEAUTO cmd \x14result\x15\r", 0))), ["office-dde"]);
    assert_eq!(codes(&describe(&word(b"a\x13 PAGE \x141\x15\r", 0))), [""; 0]);
}

#[test]
fn an_encrypted_word_document_is_told() {
    assert_eq!(codes(&describe(&word(b"noise", 0x0100))), ["office-encrypted"]);
}

#[test]
fn damage_of_a_word_document_is_told() {
    let mut streams = word(b"Bonjour\r", 0);
    streams[0].1[0] = 0;
    assert_eq!(codes(&describe(&streams)), ["office-stream-invalid"]);
    let mut streams = word(b"Bonjour\r", 0);
    streams[0].1.truncate(1026);
    assert_eq!(codes(&describe(&streams)), ["office-stream-invalid"]);
    assert_eq!(codes(&describe(&word(b"Bonjour\r", 0)[..1])), ["office-part-missing"]);
}

#[test]
fn a_truncated_compound_file_is_damaged() {
    let bytes = compound_of(&word(&[b'a'; 20_000], 0));
    let facts = describe_as(&bytes[..bytes.len() - 8_000], Some(Format::Doc));
    assert!(
        facts.signals.iter().any(|s| matches!(s.code.as_str(), "office-part-damaged" | "office-container-damaged")),
        "{:?}",
        codes(&facts)
    );
    assert_eq!(codes(&describe_as(&bytes[..100], Some(Format::Doc))), ["office-container-damaged"]);
}

// Storages -----------------------------------------------------------------------------------------------

#[test]
fn macros_and_controls_are_told_by_their_storages() {
    let mut streams = word(b"a\r", 0);
    streams.push(("Macros/VBA/dir", vec![1]));
    streams.push(("Macros/VBA/_VBA_PROJECT", vec![1]));
    assert_eq!(codes(&describe(&streams)), ["office-macro-vba"]);
    let mut streams = word(b"a\r", 0);
    streams.push(("ObjectPool/_1/\u{3}OCXNAME", vec![1]));
    assert_eq!(codes(&describe(&streams)), ["office-activex"]);
}

#[test]
fn an_embedded_program_is_unwrapped() {
    let mut native = vec![0, 0, 0, 0, 2, 0];
    native.extend_from_slice(b"facture.pdf.exe\0C:\\x\0\0\0\x03\0\x02\0\0\0C\0\x01\0\0\0x");
    let mut streams = word(b"a\r", 0);
    streams.push(("ObjectPool/_1/\u{1}Ole10Native", native));
    let facts = describe(&streams);
    assert_eq!(codes(&facts), ["office-embedded-program"]);
    assert_eq!(facts.signals[0].args["object"].to_string(), "facture.pdf.exe");
}

#[test]
fn encrypted_and_rights_managed_packages_are_told() {
    let agile = [&[4, 0, 4, 0, 0x40, 0, 0, 0][..], b"<?xml version='1.0'?><encryption/>"].concat();
    let package = [&16u64.to_le_bytes()[..], &[7; 16]].concat();
    let facts = describe(&[("EncryptionInfo", agile.clone()), ("EncryptedPackage", package.clone())]);
    assert_eq!((facts.format, codes(&facts)), (Some(Format::OoxmlEncrypted), vec!["office-encrypted"]));
    let cut = describe(&[("EncryptionInfo", agile.clone()), ("EncryptedPackage", package[..12].to_vec())]);
    assert_eq!(codes(&cut), ["office-encrypted", "office-part-damaged"]);
    let managed = describe(&[("EncryptedPackage", package), ("\u{6}DataSpaces/TransformInfo/DRMEncryptedTransform/\u{6}Primary", vec![1])]);
    assert_eq!(codes(&managed), ["office-rights-managed"]);
}

#[test]
fn the_summary_is_read() {
    let mut set = vec![0u8; 48];
    set[44..48].copy_from_slice(&48u32.to_le_bytes());
    let (title, author) = ("Preuve n° 1", b"Zo\xEB\0");
    let mut body = Vec::new();
    for (id, at) in [(2u32, 24u32), (4, 24 + 8 + 16), (1, 200)] {
        body.extend_from_slice(&id.to_le_bytes());
        body.extend_from_slice(&(at + 8).to_le_bytes());
    }
    let mut section = [&0u32.to_le_bytes()[..], &3u32.to_le_bytes(), &body].concat();
    section.extend_from_slice(&[30, 0, 0, 0]);
    section.extend_from_slice(&12u32.to_le_bytes());
    section.extend(title.chars().map(|c| u8::try_from(c as u32).unwrap()).chain([0; 5]));
    section.extend_from_slice(&[30, 0, 0, 0]);
    section.extend_from_slice(&4u32.to_le_bytes());
    section.extend_from_slice(author);
    set.extend(section);
    let mut streams = word(b"a\r", 0);
    streams.push(("\u{5}SummaryInformation", set));
    let facts = describe(&streams);
    assert_eq!(facts.metadata["author"], "Zoë");
    assert_eq!(facts.metadata["title"], title);
}

// Excel --------------------------------------------------------------------------------------------------

fn record(id: u16, data: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &(data.len() as u16).to_le_bytes(), data].concat()
}

fn bof(kind: u16) -> Vec<u8> {
    record(0x0809, &[&0x0600u16.to_le_bytes()[..], &kind.to_le_bytes(), &[0; 12]].concat())
}

/// A workbook with one sheet of this kind and extra global records.
fn workbook(kind: u8, extra: &[u8]) -> Vec<u8> {
    let sheet_record = |position: u32| record(0x0085, &[&position.to_le_bytes()[..], &[0, kind, 2, 0], b"S1"].concat());
    let position = bof(5).len() + extra.len() + sheet_record(0).len() + 4;
    [bof(5), extra.to_vec(), sheet_record(position as u32), record(0x000A, &[]), bof(0x10), record(0x000A, &[])].concat()
}

#[test]
fn an_ordinary_workbook_gives_no_signal() {
    let facts = describe(&[("Workbook", workbook(0, &[]))]);
    assert_eq!((facts.format, codes(&facts)), (Some(Format::Xls), vec![]));
}

#[test]
fn what_a_workbook_does_is_told_by_its_records() {
    let supbook = |path: &str, sheets: u16| {
        let data = [&sheets.to_le_bytes()[..], &(path.len() as u16).to_le_bytes(), &[0], path.as_bytes()].concat();
        record(0x01AE, &data)
    };
    assert_eq!(codes(&describe(&[("Workbook", workbook(1, &[]))])), ["office-macro-xlm"]);
    assert_eq!(codes(&describe(&[("Workbook", workbook(6, &[]))])), ["office-macro-vba"]);
    assert_eq!(codes(&describe(&[("Workbook", workbook(0, &record(0x002F, &[1, 0, 1, 0])))])), ["office-encrypted"]);
    assert_eq!(codes(&describe(&[("Workbook", workbook(0, &supbook("cmd\u{3}/c calc", 0)))])), ["office-dde"]);
    assert_eq!(codes(&describe(&[("Workbook", workbook(0, &supbook("\u{1}Autre.xls", 1)))])), ["office-linked-workbook"]);
    assert_eq!(codes(&describe(&[("Workbook", workbook(0, &record(0x01AE, &[1, 0, 1, 4])))])), [""; 0], "itself");
}

#[test]
fn a_workbook_cut_between_records_is_damaged() {
    let whole = workbook(0, &[]);
    for cut in [2, 10, whole.len() - 20, whole.len() - 4] {
        assert_eq!(codes(&describe(&[("Workbook", whole[..cut].to_vec())])), ["office-stream-invalid"], "{cut}");
    }
}

#[test]
fn a_bare_biff_stream_is_walked() {
    let sheet = [record(0x0209, &[0, 0, 0x10, 0, 0, 0]), record(0x000A, &[])].concat();
    assert_eq!(codes(&describe_as(&sheet, Some(Format::Xls))), [""; 0]);
    let macros = [record(0x0409, &[0, 0, 0x40, 0, 0, 0]), record(0x000A, &[])].concat();
    assert_eq!(codes(&describe_as(&macros, Some(Format::Xls))), ["office-macro-xlm"]);
    assert_eq!(codes(&describe_as(&sheet[..8], Some(Format::Xls))), ["office-stream-invalid"]);
}

// PowerPoint ---------------------------------------------------------------------------------------------

fn atom(head: u16, kind: u16, data: &[u8]) -> Vec<u8> {
    [&head.to_le_bytes()[..], &kind.to_le_bytes(), &(data.len() as u32).to_le_bytes(), data].concat()
}

/// A presentation of one slide.
fn presentation(token: u32, slide: &[u8], in_document: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let slide_list = atom(0x000F, 0x0FF0, &atom(0, 0x03F3, &[&2u32.to_le_bytes()[..], &[0; 16]].concat()));
    let document = atom(0x000F, 0x03E8, &[slide_list, in_document.to_vec()].concat());
    let slide = atom(0x000F, 0x03EE, slide);
    let slide_at = document.len() as u32;
    let directory_at = slide_at + slide.len() as u32;
    let directory = atom(0, 0x1772, &[(1u32 | (2 << 20)).to_le_bytes(), 0u32.to_le_bytes(), slide_at.to_le_bytes()].concat());
    let edit_at = directory_at + directory.len() as u32;
    let edit = atom(0, 0x0FF5, &[0u32, 0, 0, directory_at, 1, 3, 0].map(u32::to_le_bytes).concat());
    let user = atom(0, 0x0FF6, &[20u32, token, edit_at].map(u32::to_le_bytes).concat());
    vec![("PowerPoint Document", [document, slide, directory, edit].concat()), ("Current User", user)]
}

const PLAIN: u32 = 0xE391_C05F;

#[test]
fn a_presentation_gives_the_text_of_its_slides() {
    let facts = describe(&presentation(PLAIN, &atom(0, 0x0FA8, b"Bonjour"), &[]));
    assert_eq!((facts.format, codes(&facts)), (Some(Format::Ppt), vec![]));
    assert_eq!(facts.text.iter().map(|t| (t.place.page, t.text.as_str())).collect::<Vec<_>>(), [(Some(1), "Bonjour")]);
    assert!(matches!(&facts.detail, Some(Detail::Office(o)) if o.slides == Some(1)));
}

#[test]
fn encrypted_and_damaged_presentations_are_told() {
    assert_eq!(codes(&describe(&presentation(0xF3D1_C4DF, &[], &[]))), ["office-encrypted"]);
    let mut cut = presentation(PLAIN, &atom(0, 0x0FA8, b"Bonjour"), &[]);
    let len = cut[0].1.len();
    cut[0].1.truncate(len - 10);
    assert_eq!(codes(&describe(&cut)), ["office-stream-invalid"]);
    let overlong = [&[0u8, 0, 0xA8, 0x0F, 0xFF, 0xFF, 0, 0][..], b"Bonjour"].concat();
    assert_eq!(codes(&describe(&presentation(PLAIN, &overlong, &[]))), ["office-stream-invalid"]);
    assert_eq!(codes(&describe(&presentation(PLAIN, &[], &[])[..1])), ["office-part-missing"]);
}

#[test]
fn macros_and_controls_of_a_presentation_are_told() {
    let vba = atom(0, 0x0400, &[9u32, 1, 2].map(u32::to_le_bytes).concat());
    assert_eq!(codes(&describe(&presentation(PLAIN, &atom(0, 0x0FA8, b"a"), &vba))), ["office-macro-vba"]);
    let control = atom(0, 0x0FC3, &[1u32, 2, 1, 0, 9, 0].map(u32::to_le_bytes).concat());
    assert_eq!(codes(&describe(&presentation(PLAIN, &atom(0, 0x0FA8, b"a"), &control))), ["office-activex"]);
    let run = atom(0, 0x0FF3, &[0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(codes(&describe(&presentation(PLAIN, &[atom(0, 0x0FA8, b"a"), run].concat(), &[]))), ["office-launch"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn mutated_streams_never_panic(which in 0usize..3, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut streams = match which {
            0 => word(b"a\x13 DDE \x14b\x15\r", 0),
            1 => vec![("Workbook", workbook(1, &record(0x01AE, &[0, 0, 3, 0, 0, b'a', 3, b'b'])))],
            _ => presentation(PLAIN, &atom(0, 0x0FA8, b"Bonjour"), &atom(0, 0x0400, &[2u32, 1, 2].map(u32::to_le_bytes).concat())),
        };
        for (at, value) in edits {
            for (_, content) in &mut streams {
                let at = at.index(content.len());
                content[at] = value;
            }
        }
        describe(&streams);
    }

    #[test]
    fn mutated_containers_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let mut streams = word(b"Bonjour\r", 0);
        streams.push(("ObjectPool/_1/\u{1}Ole10Native", vec![2; 90]));
        let mut bytes = compound_of(&streams);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        describe_as(&bytes, None);
    }

    #[test]
    fn arbitrary_biff_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut stream = bof(5);
        stream.extend(bytes);
        describe_as(&stream, Some(Format::Xls));
    }
}
