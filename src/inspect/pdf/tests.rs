//! The inspector as a whole, on files made here.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::inspect::Limits;
use crate::model::messages;

/// Writes PDFs: objects by number, then a sound table and trailer.
struct Builder {
    bytes: Vec<u8>,
    offsets: Vec<(u32, usize)>,
    trailer: String,
}

impl Builder {
    fn new() -> Self {
        Self { bytes: b"%PDF-1.7\n%\xE2\xE3\xCF\xD3\n".to_vec(), offsets: Vec::new(), trailer: String::new() }
    }
    fn object(mut self, num: u32, body: impl AsRef<[u8]>) -> Self {
        self.offsets.push((num, self.bytes.len()));
        self.bytes.extend_from_slice(format!("{num} 0 obj\n").as_bytes());
        self.bytes.extend_from_slice(body.as_ref());
        self.bytes.extend_from_slice(b"\nendobj\n");
        self
    }
    fn stream(self, num: u32, entries: &str, data: &[u8]) -> Self {
        let mut body = format!("<< {entries} /Length {} >>\nstream\n", data.len()).into_bytes();
        body.extend_from_slice(data);
        body.extend_from_slice(b"\nendstream");
        self.object(num, body)
    }
    fn trailer(mut self, entries: &str) -> Self {
        self.trailer.push_str(entries);
        self
    }
    /// A catalogue with `extra`, and one page with `page` that shows `text`.
    fn document(extra: &str, page: &str, text: &str) -> Self {
        Self::new()
            .object(1, format!("<< /Type /Catalog /Pages 2 0 R {extra} >>"))
            .object(2, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>")
            .object(
                3,
                format!(
                    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R
                        /Resources << /Font << /F1 5 0 R >> >> {page} >>"
                ),
            )
            .stream(4, "", format!("BT /F1 12 Tf 72 700 Td ({text}) Tj ET").as_bytes())
            .object(5, "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    }
    fn finish(mut self) -> Vec<u8> {
        let start = self.bytes.len();
        self.offsets.sort_unstable();
        let size = self.offsets.last().map_or(1, |(num, _)| num + 1);
        let mut table = format!("xref\n0 {size}\n0000000000 65535 f \n");
        for num in 1..size {
            match self.offsets.iter().rev().find(|(n, _)| *n == num) {
                Some((_, at)) => table.push_str(&format!("{at:010} 00000 n \n")),
                None => table.push_str("0000000000 00000 f \n"),
            }
        }
        table.push_str(&format!("trailer\n<< /Size {size} /Root 1 0 R {} >>\nstartxref\n{start}\n%%EOF\n", self.trailer));
        self.bytes.extend_from_slice(table.as_bytes());
        self.bytes
    }
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn facts_of(bytes: &[u8]) -> Facts {
    // The clock is the process's: tests beside this one run on it too.
    facts_within(bytes, Limits { max_cpu_ms: 600_000, ..Limits::default() })
}

fn facts_within(bytes: &[u8], limits: Limits) -> Facts {
    let mut facts = Facts::of_size(bytes.len() as u64);
    inspect(bytes, &mut Context::new(limits), &mut facts);
    for signal in &facts.signals {
        let message = messages::get(&signal.code).unwrap_or_else(|| panic!("{} has no text", signal.code));
        for text in [&message.reason, &message.remedy] {
            let shown = messages::fill(&text.fr, &signal.args, crate::model::Lang::Fr);
            assert!(!shown.contains('—') || signal.code.as_str() == "pdf-signature", "{}: {shown}", signal.code);
        }
    }
    facts
}

fn codes(bytes: &[u8]) -> Vec<String> {
    facts_of(bytes).signals.iter().map(|s| s.code.to_string()).collect()
}

fn text(facts: &Facts) -> String {
    facts.text.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = memmem::find(bytes, from.as_bytes()).unwrap_or_else(|| panic!("fixture lacks {from}"));
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

// ---- structure --------------------------------------------------------------------------------------

#[test]
fn a_sound_document_has_facts_and_no_signal() {
    let facts = facts_of(
        &Builder::document("", "", "Pi\\350ce jointe")
            .object(6, "<< /Title (Guide) /CreationDate (D:20250903151900+02'00') >>")
            .trailer("/Info 6 0 R")
            .finish(),
    );
    assert!(facts.signals.is_empty(), "{:?}", facts.signals);
    let pdf = facts.pdf().unwrap();
    assert_eq!((pdf.version.as_str(), pdf.pages), ("1.7", 1));
    assert_eq!(pdf.page_facts[0], PageFacts { chars: 11, images: 0, blank: false });
    assert_eq!(facts.text[0].place, Place::page(1));
    assert_eq!(text(&facts), "Pièce jointe");
    assert_eq!(facts.metadata["title"], "Guide");
    assert_eq!(facts.metadata["created"], "2025-09-03T15:19:00+02:00");
}

#[test]
fn a_table_that_is_off_is_repaired_and_said() {
    let sound = Builder::document("", "", "lisible").finish();
    let at = memmem::rfind(&sound, b"startxref\n").unwrap() + 10;
    let mut broken = sound[..at].to_vec();
    broken.extend_from_slice(b"7\n%%EOF\n");
    let facts = facts_of(&broken);
    assert!(facts.has("pdf-damaged") && facts.signals.len() == 1, "{:?}", facts.signals);
    assert_eq!(text(&facts), "lisible");
}

#[test]
fn an_entry_that_points_elsewhere_is_found_by_scanning() {
    let sound = Builder::document("", "", "lisible").finish();
    let at = memmem::find(&sound, b"4 0 obj").unwrap();
    let facts = facts_of(&replaced(&sound, &format!("{at:010} 00000 n"), "0000000030 00000 n"));
    assert!(facts.has("pdf-damaged"));
    assert_eq!(text(&facts), "lisible");
}

#[test]
fn a_file_cut_before_its_trailer_is_corrupt() {
    let sound = Builder::document("", "", "perdu").finish();
    let cut = &sound[..memmem::find(&sound, b"xref\n0 ").unwrap()];
    assert_eq!(codes(cut), ["pdf-corrupt"]);
    assert_eq!(codes(b"%PDF-1.4"), ["pdf-corrupt"]);
}

#[test]
fn wrong_lengths_missing_ends_and_wrong_sizes_are_damage_without_loss() {
    let sound = Builder::document("", "", "lisible").finish();
    for (from, to) in [("/Length 38", "/Length 12"), ("/Length 38", "/Lenght 38"), ("endobj\n2 0", "      \n2 0"), ("/Size 6", "/Size 9")] {
        let facts = facts_of(&replaced(&sound, from, to));
        assert!(facts.has("pdf-damaged") && facts.signals.len() == 1, "{from}: {:?}", facts.signals);
        assert_eq!(text(&facts), "lisible", "{from}");
    }
}

#[test]
fn a_page_that_is_not_there_is_lost_content() {
    let facts = facts_of(&replaced(&Builder::document("", "", "a").finish(), "/Kids [3 0 R]", "/Kids [3 0 R 9 0 R]"));
    // The table no longer fits either, and the heavier finding covers both.
    assert!(facts.has("pdf-content-lost") && !facts.has("pdf-damaged"), "{:?}", facts.signals);
}

#[test]
fn no_pages_is_told_apart_from_unreadable_pages() {
    let none = Builder::new().object(1, "<< /Type /Catalog /Pages 2 0 R >>").object(2, "<< /Type /Pages /Kids [] /Count 0 >>");
    assert_eq!(codes(&none.finish()), ["pdf-no-pages"]);
    let lost = Builder::new().object(1, "<< /Type /Catalog /Pages 2 0 R >>").object(2, "<< /Type /Pages /Kids [7 0 R] /Count 1 >>");
    assert_eq!(codes(&lost.finish()), ["pdf-corrupt"]);
}

#[test]
fn offsets_may_count_from_the_header_or_from_the_first_byte() {
    let sound = Builder::document("", "", "x").finish();
    let shifted = [b"\n\n\n".as_slice(), &sound].concat();
    assert!(codes(&shifted).is_empty());
    let mut absolute = Builder::document("", "", "x");
    absolute.bytes.splice(0..0, *b"\n\n\n");
    absolute.offsets.iter_mut().for_each(|(_, at)| *at += 3);
    assert!(codes(&absolute.finish()).is_empty());
}

/// A file whose objects 1–3 stand in an object stream named by a cross-reference stream.
fn packed(catalogue: &str) -> Vec<u8> {
    let objects = [
        catalogue.to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>".to_owned(),
    ];
    let (mut head, mut body) = (String::new(), String::new());
    for (i, object) in objects.iter().enumerate() {
        head.push_str(&format!("{} {} ", i + 1, body.len()));
        body.push_str(object);
        body.push(' ');
    }
    let pack = zlib(format!("{head}{body}").as_bytes());
    let file = Builder::new().stream(4, "", b"0 0 5 5 re f");
    let file = file.stream(5, &format!("/Type /ObjStm /N 3 /First {} /Filter /FlateDecode", head.len()), &pack);
    let start = file.bytes.len();
    let mut rows = vec![0u8, 0, 0, 0];
    for index in 0..3u8 {
        rows.extend_from_slice(&[2, 0, 5, index]);
    }
    for (_, at) in &file.offsets {
        rows.push(1);
        rows.extend_from_slice(&u16::try_from(*at).unwrap().to_be_bytes());
        rows.push(0);
    }
    rows.push(1);
    rows.extend_from_slice(&u16::try_from(start).unwrap().to_be_bytes());
    rows.push(0);
    let entries = "/Type /XRef /W [1 2 1] /Size 7 /Root 1 0 R /Filter /FlateDecode";
    let mut bytes = file.stream(6, entries, &zlib(&rows)).bytes;
    bytes.extend_from_slice(format!("startxref\n{start}\n%%EOF\n").as_bytes());
    bytes
}

#[test]
fn object_streams_and_cross_reference_streams_are_read() {
    let facts = facts_of(&packed("<< /Type /Catalog /Pages 2 0 R >>"));
    assert!(facts.signals.is_empty(), "{:?}", facts.signals);
    assert_eq!(facts.pdf().unwrap().pages, 1);
}

#[test]
fn cycles_end() {
    let file = Builder::new()
        .object(1, "<< /Type /Catalog /Pages 2 0 R /Outlines 8 0 R >>")
        .object(2, "<< /Type /Pages /Kids [3 0 R 2 0 R] /Count 1 >>")
        .object(3, "<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /XObject << /X 6 0 R >> >> >>")
        .object(4, "<< /Length 4 0 R >>\nstream\n/X Do\nendstream")
        .stream(6, "/Subtype /Form /Resources << /XObject << /X 6 0 R >> >>", b"/X Do 0 0 1 1 re f")
        .object(7, "7 0 R")
        .object(8, "<< /First 9 0 R /Extra 7 0 R >>")
        .object(9, "<< /Title (A) /Next 9 0 R /First 9 0 R /Dest [3 0 R /Fit] >>")
        .finish();
    let facts = facts_of(&file);
    let pdf = facts.pdf().unwrap();
    assert_eq!(pdf.pages, 1);
    assert!(!pdf.page_facts[0].blank);
    assert_eq!(pdf.outline.len(), 1);
    assert_eq!(pdf.outline[0].page, Some(1));
}

// ---- budget -----------------------------------------------------------------------------------------

#[test]
fn a_hundred_object_streams_of_sixty_mebibytes_end_as_a_bomb() {
    let pack = zlib(&vec![b' '; 60 << 20]);
    let mut file = Builder::document("", "", "x");
    for num in 10..110 {
        file = file.stream(num, "/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode", &pack);
    }
    assert_eq!(codes(&file.finish()), ["bomb-inflated"]);
}

#[test]
fn a_page_that_inflates_without_end_is_a_bomb_and_scripts_are_still_seen() {
    let file = Builder::document("/OpenAction << /S /JavaScript /JS (app.alert\\(1\\)) >>", "", "x");
    let file = file.stream(4, "/Filter [/FlateDecode /FlateDecode]", &zlib(&zlib(&vec![b' '; 40 << 20])));
    let facts = facts_within(&file.finish(), Limits { max_inflated_bytes: 20 << 20, max_cpu_ms: 600_000, ..Limits::default() });
    assert!(facts.has("bomb-inflated") && facts.has("pdf-javascript"), "{:?}", facts.signals);
}

#[test]
fn more_entries_than_any_document_has_are_refused() {
    let rows = zlib(&vec![0u8; file::MAX_ENTRIES + 10]);
    let mut file = Builder::new();
    let start = file.bytes.len();
    file = file.stream(1, "/Type /XRef /W [1 0 0] /Size 9999999 /Root 1 0 R /Filter /FlateDecode", &rows);
    file.bytes.extend_from_slice(format!("startxref\n{start}\n%%EOF\n").as_bytes());
    assert_eq!(codes(&file.bytes), ["pdf-too-many-objects"]);
}

// ---- encryption -------------------------------------------------------------------------------------

/// Encrypts a document with lopdf: AES-256 (revision 6).
fn encrypted(user_password: &str) -> Vec<u8> {
    let plain = Builder::document("", "", "confidentiel").trailer("/ID [(0123456789abcdef) (0123456789abcdef)]").finish();
    let mut document = lopdf::Document::load_mem(&plain).unwrap();
    let aes: std::sync::Arc<dyn lopdf::encryption::crypt_filters::CryptFilter> =
        std::sync::Arc::new(lopdf::encryption::crypt_filters::Aes256CryptFilter);
    let version = lopdf::EncryptionVersion::V5 {
        encrypt_metadata: true,
        crypt_filters: std::collections::BTreeMap::from([(b"StdCF".to_vec(), aes)]),
        file_encryption_key: &[7; 32],
        stream_filter: b"StdCF".to_vec(),
        string_filter: b"StdCF".to_vec(),
        owner_password: "owner",
        user_password,
        permissions: lopdf::Permissions::PRINTABLE,
    };
    document.encrypt(&lopdf::EncryptionState::try_from(version).unwrap()).unwrap();
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_password_is_an_obstacle_and_an_empty_one_is_a_restriction() {
    let locked = facts_of(&encrypted("secret"));
    assert!(locked.has("pdf-encrypted") && locked.pdf().unwrap().encrypted && locked.text.is_empty());
    let open = facts_of(&encrypted(""));
    assert!(open.has("pdf-restricted") && open.signals.len() == 1, "{:?}", open.signals);
    assert_eq!(text(&open), "confidentiel");
}

#[test]
fn a_certificate_handler_is_named() {
    let file = Builder::document("", "", "x").object(8, "<< /Filter /Adobe.PubSec /V 4 >>").trailer("/Encrypt 8 0 R");
    let facts = facts_of(&file.finish());
    assert_eq!(facts.signals[0].args["handler"], crate::model::finding::Arg::from("Adobe.PubSec"));
}

// ---- active content ---------------------------------------------------------------------------------

#[test]
fn scripts_are_found_in_object_streams_and_behind_escaped_names() {
    let file = packed("<< /Type /Catalog /Pages 2 0 R /Open#41ction << /S /J#61va#53cript /JS <6170702E616C65727428> >> >>");
    let facts = facts_of(&file);
    assert_eq!(facts.signals[0].code.as_str(), "pdf-javascript");
    assert_eq!(facts.signals[0].args["script"], crate::model::finding::Arg::from("app.alert("));
}

#[test]
fn scripts_in_name_trees_fields_without_form_and_streams_are_found() {
    let names = Builder::document("/Names << /JavaScript << /Names [(a) 8 0 R] >> >>", "", "x")
        .object(8, "<< /S 9 0 R /JS 10 0 R >>")
        .object(9, "/JavaScript")
        .stream(10, "/Filter /FlateDecode", &zlib(b"this.print()"));
    assert_eq!(codes(&names.finish()), ["pdf-javascript"]);
    let field = Builder::document("", "/Annots [8 0 R]", "x")
        .object(8, "<< /Subtype /Widget /Rect [0 0 1 1] /Parent 9 0 R >>")
        .object(9, "<< /FT /Tx /AA << /K << /S /JavaScript /JS (x\\(\\)) >> >> >>");
    assert_eq!(codes(&field.finish()), ["pdf-javascript", "pdf-form"]);
}

#[test]
fn a_script_of_a_replaced_revision_is_not_reported() {
    let mut bytes = Builder::document("/OpenAction << /S /JavaScript /JS (x) >>", "", "x").finish();
    assert_eq!(codes(&bytes), ["pdf-javascript"]);
    let previous = memmem::rfind(&bytes, b"xref\n0 ").unwrap();
    let catalogue = bytes.len();
    bytes.extend_from_slice(b"1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n");
    let start = bytes.len();
    let table =
        format!("xref\n1 1\n{catalogue:010} 00000 n \ntrailer\n<< /Size 6 /Root 1 0 R /Prev {previous} >>\nstartxref\n{start}\n%%EOF\n");
    bytes.extend_from_slice(table.as_bytes());
    assert!(codes(&bytes).is_empty());
}

#[test]
fn launch_and_remote_actions_are_told_with_their_page_and_links_are_not() {
    let file = |action: &str| Builder::document("", &format!("/Annots [<< /Subtype /Link /Rect [0 0 1 1] /A << {action} >> >>]"), "x");
    let facts = facts_of(&file("/S /Launch /Win << /F (cmd.exe) >>").finish());
    assert_eq!((facts.signals[0].code.as_str(), &facts.signals[0].place), ("pdf-launch", &Place::page(1)));
    assert_eq!(codes(&file("/S /GoToR /F (autre.pdf) /D [0 /Fit]").finish()), ["pdf-action-remote"]);
    assert_eq!(codes(&file("/S /SubmitForm /F << /FS /URL /F (https://exemple.fr) >>").finish()), ["pdf-action-remote"]);
    assert!(codes(&file("/S /URI /URI (https://esante.gouv.fr)").finish()).is_empty());
    assert!(codes(&file("/S /URI /URI (https://exemple.fr/javascript:)").finish()).is_empty());
    let open = Builder::document("/OpenAction << /S /URI /URI (https://exemple.fr) >>", "", "x");
    assert_eq!(codes(&open.finish()), ["pdf-action-remote"]);
}

#[test]
fn a_link_whose_address_is_a_script_is_a_warning_where_the_script_does_something() {
    let link = |address: &str| {
        Builder::document("", &format!("/Annots [<< /Subtype /Link /Rect [0 0 1 1] /A << /S /URI /URI ({address}) >> >>]"), "x")
    };
    for idle in [
        "javascript:void\\(0\\)",
        "javascript:;",
        "JavaScript:",
        "javascript:void\\(0\\);",
        "javascript://",
        "javascript:return false",
        "javascript:void%280%29",
    ] {
        assert!(codes(&link(idle).finish()).is_empty(), "{idle}");
    }
    for active in [
        "javascript:window.print\\(\\);",
        "Java\\nScript:app.alert\\(1\\)",
        "vbscript:x",
        "javascript:void\\(0\\);alert\\(1\\)",
        "javascript://%0aalert\\(1\\)",
    ] {
        assert_eq!(codes(&link(active).finish()), ["pdf-link-script"], "{active}");
    }
}

#[test]
fn launching_a_document_beside_is_no_program() {
    let launch = |entries: &str| {
        Builder::document("", &format!("/Annots [<< /Subtype /Link /Rect [0 0 1 1] /A << /S /Launch {entries} >> >>]"), "x")
    };
    for document in
        ["/F (annexe.pdf)", "/F << /Type /Filespec /F (../Annexe 2.XLSX) /UF (../Annexe 2.XLSX) >>", "/F (a.docx) /Win << /F (a.docx) >>"]
    {
        assert_eq!(codes(&launch(document).finish()), ["pdf-action-remote"], "{document}");
    }
    for program in [
        "/F (annexe.exe)",
        "/F (annexe.pdf.lnk)",
        "/F (annexe)",
        "/F (a.xlsm)",
        "/F (page.html)",
        "/F (a.pdf) /Win << /F (cmd.exe) >>",
        "/F (a.pdf) /Win << /F (a.pdf) /P (/c calc) >>",
        "/F (a.pdf) /Unix << >>",
    ] {
        assert_eq!(codes(&launch(program).finish()), ["pdf-launch"], "{program}");
    }
}

#[test]
fn usage_rights_of_a_form_are_no_signature() {
    let rights = "<< /Type /Sig /Filter /Adobe.PPKLite /SubFilter /adbe.pkcs7.detached /ByteRange [0 10 20 10] /Contents <00>";
    let by_method = format!("{rights} /Reference [<< /TransformMethod /UR3 >>] >>");
    for perms in ["/Perms << /UR3 8 0 R >>", "/AcroForm << /Fields [] >> /Perms << /UR 8 0 R >>"] {
        for object in [by_method.clone(), format!("{rights} >>")] {
            let facts = facts_of(&Builder::document(perms, "", "x").object(8, object).finish());
            assert!(facts.signals.is_empty() && facts.pdf().unwrap().signatures.is_empty(), "{:?}", facts.signals);
        }
    }
    let direct = Builder::document(&format!("/Perms << /UR3 {rights} >> >>"), "", "x");
    assert!(codes(&direct.finish()).is_empty());
    // The certifying signature stands in the same dictionary and is one.
    let certified = Builder::document("/Perms << /DocMDP 8 0 R >>", "", "x").object(8, format!("{rights} >>"));
    assert_eq!(codes(&certified.finish()), ["pdf-signature", "pdf-signature-not-covering"]);
}

#[test]
fn an_attachment_of_no_known_format_is_only_named() {
    for data in [&b""[..], &[0x13, 0x37, 0x00, 0xfe, 0x92, 0x01, 0x88][..]] {
        let file = Builder::document("/Names << /EmbeddedFiles << /Names [(a) 8 0 R] >> >>", "", "x")
            .object(8, "<< /Type /Filespec /F (mesures.dat) /EF << /F 9 0 R >> >>")
            .stream(9, "/Type /EmbeddedFile", data);
        assert_eq!(codes(&file.finish()), ["pdf-embedded-files"]);
    }
}

#[test]
fn attachments_are_named_and_programs_told_apart() {
    let names = "/Names << /EmbeddedFiles << /Names [(a) 8 0 R (b) 10 0 R] >> >>";
    let file = Builder::document(names, "", "x")
        .object(8, "<< /Type /Filespec /F (donnees.xml) /UF (donn\\351es.xml) /EF << /F 9 0 R >> >>")
        .stream(9, "/Type /EmbeddedFile", b"<a/>")
        .object(10, "<< /Type /Filespec /F (setup.exe) /EF << /F 9 0 R >> >>")
        .finish();
    let facts = facts_of(&file);
    let mut found = codes(&file);
    found.sort_unstable();
    assert_eq!(found, ["pdf-embedded-executable", "pdf-embedded-files"]);
    assert!(facts.signals.iter().any(|s| s.args["name"] == crate::model::finding::Arg::from("données.xml")));
}

#[test]
fn media_portfolios_xfa_and_external_data_are_seen() {
    let media = Builder::document("", "/Annots [<< /Subtype /RichMedia /Rect [0 0 1 1] >>]", "x").finish();
    assert_eq!(codes(&media), ["pdf-rich-media"]);
    assert_eq!(codes(&Builder::document("/Collection << /View /T >>", "", "x").finish()), ["pdf-portfolio"]);
    assert_eq!(codes(&Builder::document("/AcroForm << /XFA (x) /Fields [] >>", "", "x").finish()), ["pdf-xfa"]);
    let external = Builder::document("", "/PieceInfo 8 0 R", "x").stream(8, "/F (//serveur/x.dat)", b"");
    assert_eq!(codes(&external.finish()), ["pdf-external-stream"]);
}

#[test]
fn an_encrypted_document_behind_a_wrapper_page_is_encrypted() {
    let file = Builder::document("/AF [8 0 R]", "", "x")
        .object(8, "<< /Type /Filespec /F (a.pdf) /AFRelationship /EncryptedPayload /EF << /F 9 0 R >> >>")
        .stream(9, "/Type /EmbeddedFile", b"?");
    assert!(codes(&file.finish()).contains(&"pdf-encrypted".to_owned()));
}

#[test]
fn a_signature_field_is_no_form() {
    let widget = |kind: &str| format!("/Annots [<< /Subtype /Widget /Rect [0 0 1 1] /FT /{kind} /T (a) >>]");
    assert_eq!(codes(&Builder::document("", &widget("Tx"), "x").finish()), ["pdf-form"]);
    assert!(codes(&Builder::document("", &widget("Sig"), "x").finish()).is_empty());
}

#[test]
fn what_is_added_after_a_signature_is_said_unless_it_is_validation_data() {
    let build = |extra: &str, end: usize| {
        let value = format!("<< /Type /Sig /SubFilter /ETSI.CAdES.detached /Contents <00> /ByteRange [0 10 20 {:06}] >>", end - 20);
        Builder::document(extra, "/PieceInfo 8 0 R", "x").object(8, value).finish()
    };
    let size = build("", 20).len();
    let whole = facts_of(&build("", size));
    assert!(whole.pdf().unwrap().signatures[0].covers_whole_file);
    assert_eq!(whole.pdf().unwrap().signatures[0].sub_filter, "ETSI.CAdES.detached");
    assert_eq!(codes(&build("", size)), ["pdf-signature"]);
    assert_eq!(codes(&build("", size - 100)), ["pdf-signature", "pdf-signature-not-covering"]);
}

/// A signed document, and behind it a revision of `objects` and, where `root` is given, a new catalogue with it.
fn signed_then(objects: &[(u32, &str)]) -> Vec<u8> {
    let value =
        |end: usize| format!("<< /Type /Sig /SubFilter /ETSI.CAdES.detached /Contents <00> /ByteRange [0 10 20 {:06}] >>", end - 20);
    let build = |end: usize| Builder::document("/AcroForm << /Fields [8 0 R] >>", "", "montant 100").object(8, value(end)).finish();
    let mut bytes = build(build(20).len());
    let previous = memmem::rfind(&bytes, b"xref\n0").unwrap();
    let mut table = String::from("xref\n");
    for (num, body) in objects {
        table.push_str(&format!("{num} 1\n{:010} 00000 n \n", bytes.len()));
        bytes.extend_from_slice(format!("{num} 0 obj\n{body}\nendobj\n").as_bytes());
    }
    let start = bytes.len();
    let size = objects.iter().map(|(num, _)| num + 1).max().unwrap_or(0).max(9);
    table.push_str(&format!("trailer\n<< /Size {size} /Root 1 0 R /Prev {previous} >>\nstartxref\n{start}\n%%EOF\n"));
    bytes.extend_from_slice(table.as_bytes());
    bytes
}

#[test]
fn long_term_validation_data_behind_a_signature_is_no_change_and_a_replaced_page_is_one() {
    let catalogue = "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [8 0 R 13 0 R] >> /DSS 10 0 R >>";
    let store = (10, "<< /Certs [11 0 R] /VRI << /A1 << /Cert [11 0 R] >> >> >>");
    let certificate = (11, "<< /Length 3 >>\nstream\nabc\nendstream");
    let page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R
                        /Resources << /Font << /F1 5 0 R >> >> /Annots [13 0 R] >>";
    let field = (13, "<< /Type /Annot /Subtype /Widget /FT /Sig /Rect [0 0 0 0] /V 14 0 R >>");
    let stamp = (14, "<< /Type /DocTimeStamp /SubFilter /ETSI.RFC3161 >>");
    let sound = [(1, catalogue), (3, page), store, certificate, field, stamp];
    assert_eq!(codes(&signed_then(&sound)), ["pdf-signature"]);
    let content = (4, "<< /Length 44 >>\nstream\nBT /F1 12 Tf 72 700 Td (montant 100000) Tj ET\nendstream");
    let other_pages = "<< /Type /Catalog /Pages 15 0 R /AcroForm << /Fields [8 0 R] >> /DSS 10 0 R >>";
    let visible = (13, "<< /Type /Annot /Subtype /Widget /FT /Sig /Rect [0 0 500 800] /V 14 0 R >>");
    let note = (13, "<< /Type /Annot /Subtype /FreeText /Rect [0 0 500 800] /Contents (montant 5) >>");
    let smuggled = (10, "<< /Certs [11 0 R] /X 3 0 R >>");
    for changed in [
        vec![(1, catalogue), store, certificate, content],
        vec![content],
        vec![(1, other_pages), store, certificate],
        vec![(1, catalogue), (3, page), store, certificate, visible, stamp],
        vec![(1, catalogue), (3, page), store, certificate, note],
        vec![(1, catalogue), smuggled, certificate, content],
    ] {
        let told = codes(&signed_then(&changed));
        assert!(told.contains(&"pdf-signature-not-covering".to_owned()), "{changed:?}: {told:?}");
    }
}

// ---- pictures ---------------------------------------------------------------------------------------

fn with_picture(entries: &str, data: &[u8]) -> Vec<u8> {
    let resources = "/Resources << /Font << /F1 5 0 R >> /XObject << /I 8 0 R >> >>";
    Builder::document("", resources, "x")
        .stream(4, "", b"/I Do BT /F1 9 Tf (texte) Tj ET")
        .stream(8, &format!("/Subtype /Image {entries}"), data)
        .finish()
}

#[test]
fn a_picture_whose_data_ends_early_is_content_lost() {
    let flate = "/Width 300 /Height 200 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode";
    assert!(codes(&with_picture(flate, &zlib(&[7; 300 * 200 * 3]))).is_empty());
    // Less than a row short: nothing that anybody sees.
    assert!(codes(&with_picture(flate, &zlib(&[7; 300 * 200 * 3 - 20]))).is_empty());
    assert_eq!(codes(&with_picture(flate, &zlib(&[7; 300 * 70 * 3]))), ["pdf-content-lost"]);
    assert_eq!(
        codes(&with_picture(&flate.replace("/DeviceRGB", "[/Indexed /DeviceRGB 1 <000000FFFFFF>]"), &zlib(&[7; 900]))),
        ["pdf-content-lost"]
    );
    let mut jpeg = Vec::new();
    let pixels: Vec<u8> = (0..320 * 240u32).flat_map(|i| [(i % 320) as u8, (i / 320) as u8, (i * 7 % 251) as u8]).collect();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 80);
    image::ImageEncoder::write_image(encoder, &pixels, 320, 240, image::ExtendedColorType::Rgb8).unwrap();
    let dct = "/Width 320 /Height 240 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode";
    assert!(codes(&with_picture(dct, &jpeg)).is_empty());
    assert_eq!(codes(&with_picture(dct, &jpeg[..jpeg.len() / 3])), ["pdf-content-lost"]);
}

#[test]
fn a_picture_that_no_reader_can_hold_is_refused() {
    let huge = "/Width 60000 /Height 60000 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode";
    assert_eq!(codes(&with_picture(huge, &zlib(&[0; 900]))), ["pdf-image-too-many-pixels"]);
}

#[test]
fn a_stream_that_inflates_out_of_proportion_is_a_bomb() {
    let content = zlib(&zlib(&vec![b' '; 80 << 20]));
    let file = Builder::document("", "", "x").stream(4, "/Filter [/FlateDecode /FlateDecode]", &content).finish();
    assert!(codes(&file).contains(&"pdf-bomb-ratio".to_owned()), "{:?}", codes(&file));
}

#[test]
fn bitmap_fonts_of_tex_name_character_codes() {
    let shown = |names: &str, text: &str| {
        let font = format!(
            "<< /Type /Font /Subtype /Type3 /FontMatrix [0.01 0 0 0.01 0 0] /FontBBox [0 0 1 1] /CharProcs << >> /Encoding << /Type /Encoding /Differences [0 {names}] >> /FirstChar 0 /LastChar 9 /Widths [50 50 50 50 50 50 50 50 50 50] >>"
        );
        let content = format!("BT /F1 12 Tf 72 700 Td <{text}> Tj ET");
        let file = Builder::document("", "", "x").stream(4, "", content.as_bytes()).object(5, font).finish();
        self::text(&facts_of(&file))
    };
    assert_eq!(shown("/a80 /a114 /a101 /a117 /a118", "0001020304"), "Preuv");
    assert_eq!(shown("/c12 /c110", "0001"), "fin");
    assert_eq!(shown("/g50 /g4F /g4B", "000102"), "POK");
    assert_eq!(shown("/P /r /e", "000102"), "Pre");
}

// ---- pages ------------------------------------------------------------------------------------------

fn page_with(content: &str) -> Vec<u8> {
    let resources = "/Resources << /Font << /F1 5 0 R >> /XObject << /I 8 0 R >> >>";
    Builder::document("", resources, "x")
        .stream(4, "", content.as_bytes())
        .stream(8, "/Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8", b"0")
        .finish()
}

#[test]
fn blank_scanned_and_drawn_pages_are_told_apart() {
    assert_eq!(codes(&page_with("1 g 0 0 595 842 re f BT /F1 9 Tf ( ) Tj ET")), ["pdf-blank"]);
    assert_eq!(codes(&page_with("/I Do")), ["pdf-scanned"]);
    assert_eq!(codes(&page_with("BI /W 1 /H 1 /BPC 8 /CS /G ID x EI /I Do")), ["pdf-scanned"]);
    assert!(codes(&page_with("0 0 5 5 re f")).is_empty());
    assert!(codes(&page_with("/I Do BT /F1 9 Tf 3 Tr (couche) Tj ET")).is_empty());
}

#[test]
fn spaces_and_lines_are_inferred_from_positions() {
    let shown = |content: &str| text(&facts_of(&page_with(content)));
    assert_eq!(shown("BT /F1 10 Tf [(De) -40 (mande) -300 (de) -300 (preuve)] TJ ET"), "Demande de preuve");
    assert_eq!(shown("BT /F1 10 Tf (ligne un) Tj 0 -12 Td (ligne deux) Tj ET"), "ligne un ligne deux");
    assert_eq!(shown("BT /F1 10 Tf 12 TL (a) Tj T* (b) Tj (c) ' ET"), "a b c");
    assert_eq!(shown("BT /F1 10 Tf [(syst`) 530 (eme, gar) 10 (c) 530 (\\270on, `code`)] TJ ET"), "système, garçon, `code`");
    assert_eq!(shown("BT /F1 12 Tf (il) Tj 12 0 Td (dit) Tj ET"), "il dit");
    assert_eq!(shown("q 2 0 0 2 0 0 cm BT /F1 10 Tf 1 0 0 1 0 0 Tm (un) Tj 1 0 0 1 60 0 Tm (deux) Tj ET Q"), "un deux");
}

#[test]
fn text_of_forms_and_of_filled_fields_is_read() {
    let file = Builder::document("", "/Annots [8 0 R] /Resources << /XObject << /X 9 0 R >> >>", "x")
        .stream(4, "", b"/X Do")
        .object(8, "<< /Subtype /FreeText /Rect [0 0 9 9] /AP << /N 10 0 R >> >>")
        .stream(9, "/Subtype /Form /Resources << /Font << /F1 5 0 R >> >>", b"BT /F1 9 Tf (formulaire) Tj ET")
        .stream(10, "/Subtype /Form /Resources << /Font << /F1 5 0 R >> >>", b"BT /F1 9 Tf (saisie) Tj ET");
    assert_eq!(text(&facts_of(&file.finish())), "formulaire saisie");
}

#[test]
fn composite_fonts_need_their_map() {
    let font = |map: &str| {
        let shown = "<0001000200010002000100020001000200010002000100020001000200010002>".repeat(2);
        Builder::document("", "", "x")
            .stream(4, "", format!("BT /F1 9 Tf {} Tj ET", shown.replace("><", "")).as_bytes())
            .object(5, format!("<< /Type /Font /Subtype /Type0 /Encoding /Identity-H /DescendantFonts [<< >>] {map} >>"))
            .stream(8, "", b"2 beginbfchar <0001> <00E9> <0002> <0074> endbfchar")
            .finish()
    };
    assert!(text(&facts_of(&font("/ToUnicode 8 0 R"))).starts_with("étét"));
    assert_eq!(codes(&font("")), ["pdf-text-unmappable"]);
}

#[test]
fn pages_are_listed_in_ranges() {
    assert_eq!(shown(&[1, 2, 3, 7, 9, 10]), "1–3, 7, 9–10");
}

#[test]
fn every_code_used_here_has_its_texts() {
    let sources = [include_str!("mod.rs"), include_str!("active.rs"), include_str!("../../assess/documentation.rs")];
    let mut seen = 0;
    for piece in sources.iter().flat_map(|s| s.split("Signal::new(\"").skip(1)) {
        let code = piece.split('"').next().unwrap();
        assert!(messages::all().contains_key(code), "{code}");
        seen += 1;
    }
    assert!(seen > 25);
}

// ---- hostile bytes ----------------------------------------------------------------------------------

fn rich() -> Vec<u8> {
    Builder::document(
        "/Outlines 8 0 R /Metadata 12 0 R /Names << /Dests << /Names [(d) [3 0 R /Fit]] >> >>",
        "/Annots [<< /Subtype /Widget /Rect [0 0 1 1] /FT /Tx /AP << /N 11 0 R >> >>]",
        "texte",
    )
    .object(8, "<< /First 9 0 R >>")
    .object(9, "<< /Title (Un) /Dest (d) /Next 10 0 R >>")
    .object(10, "<< /Title (Deux) /A << /S /GoTo /D (d) >> >>")
    .stream(11, "/Subtype /Form /Filter /ASCIIHexDecode", b"30203020312031207265206620")
    .stream(12, "/Type /Metadata", b"<x><dc:title>Titre</dc:title></x>")
    .finish()
}

#[test]
fn the_fixture_of_the_mutation_test_is_sound() {
    assert_eq!(codes(&rich()), ["pdf-form"]);
    assert_eq!(facts_of(&rich()).pdf().unwrap().outline.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn mutated_files_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..12),
        packed_one in any::<bool>(),
    ) {
        let mut bytes = if packed_one { packed("<< /Type /Catalog /Pages 2 0 R >>") } else { rich() };
        for (at, byte, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => _ = bytes.remove(at),
                _ => bytes.truncate(at),
            }
        }
        let limits = Limits { max_inflated_bytes: 1 << 20, ..Limits::default() };
        inspect(&bytes, &mut Context::new(limits), &mut Facts::default());
    }
}
