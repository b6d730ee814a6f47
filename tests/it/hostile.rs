//! Hostile files, made here, run through the real binary: each gets a finding that says what it is, and none
//! takes more than a child's share of memory and CPU.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use zip::write::SimpleFileOptions;

use crate::support::{codes, inspect};

fn written(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A workbook with two cells at the ends of the sheet.
pub fn corner_cells() -> Vec<u8> {
    zip_of(&[
        (
            "[Content_Types].xml",
            br#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>"#,
        ),
        (
            "_rels/.rels",
            br#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
        ),
        (
            "xl/workbook.xml",
            br#"<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Feuil1" sheetId="1" r:id="rId1"/></sheets></workbook>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            br#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
        ),
        (
            "xl/worksheets/sheet1.xml",
            br#"<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData></worksheet>"#,
        ),
    ])
}

/// 40 members of 30 MB of zeros.
pub fn forty_times_thirty_megabytes() -> Vec<u8> {
    let zeros = vec![0u8; 30_000_000];
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut first: Option<Vec<u8>> = None;
    for n in 0..40 {
        // Compressed once; the same deflated bytes serve every member.
        if first.is_none() {
            let mut one = zip::ZipWriter::new(Cursor::new(Vec::new()));
            one.start_file("zeros", SimpleFileOptions::default()).unwrap();
            one.write_all(&zeros).unwrap();
            first = Some(one.finish().unwrap().into_inner());
        }
        let mut one = zip::ZipArchive::new(Cursor::new(first.clone().unwrap())).unwrap();
        writer.raw_copy_file_rename(one.by_index_raw(0).unwrap(), format!("image-{n:02}.bmp")).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A member that declares 100 bytes and inflates to 50 MB.
pub fn lying_zip() -> Vec<u8> {
    let mut bytes = zip_of(&[("notes.txt", &vec![b'a'; 50_000_000])]);
    let lie = 100u32.to_le_bytes();
    let local = memchr::memmem::find(&bytes, b"PK\x03\x04").unwrap();
    bytes[local + 22..local + 26].copy_from_slice(&lie);
    let central = memchr::memmem::rfind(&bytes, b"PK\x01\x02").unwrap();
    bytes[central + 24..central + 28].copy_from_slice(&lie);
    bytes
}

/// A square grey-scale PNG of `side` pixels, all black.
pub fn huge_png(side: u32) -> Vec<u8> {
    fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
        out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(kind);
        crc.update(data);
        out.extend(kind);
        out.extend(data);
        out.extend(crc.finalize().to_be_bytes());
    }
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(side.to_be_bytes());
    header.extend(side.to_be_bytes());
    header.extend([1, 0, 0, 0, 0]);
    chunk(&mut png, b"IHDR", &header);
    let mut idat = ZlibEncoder::new(Vec::new(), Compression::best());
    let row = vec![0u8; 1 + side as usize / 8];
    for _ in 0..side {
        idat.write_all(&row).unwrap();
    }
    chunk(&mut png, b"IDAT", &idat.finish().unwrap());
    chunk(&mut png, b"IEND", &[]);
    png
}

/// A PDF of `streams` object streams that each inflate to 60 MiB.
pub fn pdf_of_object_streams(streams: usize) -> Vec<u8> {
    let mut body = ZlibEncoder::new(Vec::new(), Compression::best());
    body.write_all(b"9000 0 << >> ").unwrap();
    let blanks = vec![b' '; 1 << 20];
    for _ in 0..60 {
        body.write_all(&blanks).unwrap();
    }
    let body = body.finish().unwrap();
    let mut pdf =
        b"%PDF-1.5\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [] /Count 0 >>\nendobj\n".to_vec();
    let mut offsets = vec![9usize, 9 + 49];
    offsets[0] = memchr::memmem::find(&pdf, b"1 0 obj").unwrap();
    offsets[1] = memchr::memmem::find(&pdf, b"2 0 obj").unwrap();
    for n in 0..streams {
        offsets.push(pdf.len());
        write!(pdf, "{} 0 obj\n<< /Type /ObjStm /N 1 /First 7 /Filter /FlateDecode /Length {} >>\nstream\n", n + 3, body.len()).unwrap();
        pdf.extend(&body);
        pdf.extend(b"\nendstream\nendobj\n");
    }
    // A cross-reference stream: objects 0 to streams+2 in the file, then one compressed object per stream.
    let xref_at = pdf.len();
    let mut table = vec![0u8; 7];
    for offset in &offsets {
        table.push(1);
        table.extend(u32::try_from(*offset).unwrap().to_be_bytes());
        table.extend([0, 0]);
    }
    for n in 0..streams {
        table.push(2);
        table.extend(u32::try_from(n + 3).unwrap().to_be_bytes());
        table.extend([0, 0]);
    }
    let size = offsets.len() + 1 + streams;
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::best());
    deflated.write_all(&table).unwrap();
    let deflated = deflated.finish().unwrap();
    write!(
        pdf,
        "{} 0 obj\n<< /Type /XRef /Size {size} /W [1 4 2] /Root 1 0 R /Filter /FlateDecode /Length {} >>\nstream\n",
        size,
        deflated.len()
    )
    .unwrap();
    pdf.extend(&deflated);
    write!(pdf, "\nendstream\nendobj\nstartxref\n{xref_at}\n%%EOF\n").unwrap();
    pdf
}

/// A ZIP inside a ZIP inside a ZIP…
fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = zip_of(&[("fond.txt", b"le fond")]);
    for _ in 0..levels {
        bytes = zip_of(&[("encore.zip", &bytes)]);
    }
    bytes
}

fn categories(item: &serde_json::Value) -> Vec<String> {
    item["findings"].as_array().unwrap().iter().map(|f| f["category"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn two_cells_at_the_ends_of_a_sheet_are_two_cells() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = corner_cells();
    assert!(bytes.len() < 3_000);
    let items = inspect(&[&written(dir.path(), "coins.xlsx", &bytes)]);
    assert_ne!(items[0]["verdict"], "rejected", "{}", items[0]["findings"]);
    assert_eq!(items[0]["facts"]["detail"]["sheets"][0]["cells"], 2);
}

/// Archives of other tools, and one that declares a dictionary of 4 GiB: no decoder asks the child for what it may not have.
#[test]
fn members_of_every_method_that_is_read_are_described_in_the_child() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/zip");
    let names = ["deflate64-7zip", "bzip2-python", "lzma-7zip", "zstandard-zstd", "xz-7zip"];
    let mut files: Vec<PathBuf> = names.iter().map(|name| seeds.join(format!("{name}.zip"))).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut lying = std::fs::read(&files[2]).unwrap();
    lying[38 + 5..38 + 9].copy_from_slice(&[0xFF; 4]);
    files.push(written(dir.path(), "dictionnaire.zip", &lying));
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    for (file, item) in files.iter().zip(inspect(&paths)) {
        let member = &item["facts"]["detail"]["members"][0];
        assert_eq!(member["size"], 1360, "{}: {:?}", file.display(), codes(&item));
        assert_eq!(member["facts"]["format"], "txt", "{}", file.display());
        let expected: &[&str] = if file.ends_with("deflate64-7zip.zip") { &[] } else { &["zip-method-uncommon"] };
        assert_eq!(codes(&item), expected, "{}", file.display());
    }
    // A window that is really asked for: the size, too, is declared as 100 MiB, in both headers.
    let directory = lying.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    for at in [22, directory + 24] {
        lying[at..at + 4].copy_from_slice(&(100u32 << 20).to_le_bytes());
    }
    let asks = written(dir.path(), "fenetre.zip", &lying);
    assert_eq!(codes(&inspect(&[&asks])[0]), ["zip-method-unsupported"]);
}

#[test]
fn bombs_end_with_a_finding_of_their_kind() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        written(dir.path(), "quarante.zip", &forty_times_thirty_megabytes()),
        written(dir.path(), "poupees.zip", &nested(30)),
        written(dir.path(), "immense.png", &huge_png(20_000)),
        written(dir.path(), "flux.pdf", &pdf_of_object_streams(100)),
    ];
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    for (file, item) in files.iter().zip(inspect(&paths)) {
        assert_eq!(item["verdict"], "rejected", "{}", file.display());
        assert!(categories(&item).contains(&"bomb".to_owned()), "{}: {:?}", file.display(), codes(&item));
        assert!(!codes(&item).iter().any(|c| c.starts_with("sandbox-")), "{} ended by the sandbox: {:?}", file.display(), codes(&item));
    }
}

#[test]
fn an_archive_that_lies_about_sizes_is_told_and_counted_by_what_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let item = &inspect(&[&written(dir.path(), "menteur.zip", &lying_zip())])[0];
    assert_eq!(item["verdict"], "rejected");
    assert!(codes(item).iter().any(|c| c.starts_with("zip-")), "{:?}", codes(item));
}

#[test]
fn hostile_names_are_inert_wherever_they_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let name = "a\u{1b}[2J\u{202e}gnp.txt";
    written(dir.path(), name, b"Une preuve.\nDeux lignes.\n");
    let output = crate::support::command().args(["--color=never", "inspect"]).arg(dir.path()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
    assert!(shown.contains("file-name-deceptive"), "{shown}");
}

#[test]
fn one_bad_file_never_stops_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(b"x").unwrap();
    let good = written(dir.path(), "b.txt", b"Bonjour.\n");
    let absent = dir.path().join("a.txt");
    let noise = written(dir.path(), "c.bin", &deflated.finish().unwrap());
    let items = inspect(&[&absent, &good, &noise]);
    assert_eq!(items.len(), 3);
    assert_eq!(codes(&items[0]), ["item-source-missing"]);
    assert_eq!(items[1]["verdict"], "accepted");
    assert_eq!(items[2]["verdict"], "rejected");
}
