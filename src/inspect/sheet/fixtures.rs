//! Workbooks made in code, for the tests of this folder.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;

use super::{Context, Facts};
use crate::inspect::Limits;
use crate::model::facts::{CellValue, SheetFacts};

/// What a reader says of `bytes` with default limits.
pub fn facts_by(read: fn(&[u8], &mut Context, &mut Facts), bytes: &[u8]) -> Facts {
    facts_within(read, bytes, Limits::default())
}

/// What a reader says of `bytes` within `limits`.
pub fn facts_within(read: fn(&[u8], &mut Context, &mut Facts), bytes: &[u8], limits: Limits) -> Facts {
    let mut facts = Facts::of_size(bytes.len() as u64);
    read(bytes, &mut Context::new(limits), &mut facts);
    facts
}

/// Sheet `index` of a workbook.
pub fn sheet(facts: &Facts, index: usize) -> &SheetFacts {
    &facts.workbook().unwrap().sheets[index]
}

/// The codes of the signals, in order.
pub fn codes(facts: &Facts) -> Vec<&str> {
    facts.signals.iter().map(|s| s.code.as_str()).collect()
}

/// A text cell.
pub fn text(row: u32, column: u32, text: &str) -> (u32, u32, CellValue) {
    (row, column, CellValue::Text(text.to_owned()))
}

/// A number cell.
pub fn number(row: u32, column: u32, n: f64) -> (u32, u32, CellValue) {
    (row, column, CellValue::Number(n))
}

/// A ZIP container of these parts, deflated.
pub fn package(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A minimal xlsx of one sheet `F` with this worksheet XML and shared strings.
pub fn xlsx_of(worksheet: &str, shared_strings: &str) -> Vec<u8> {
    package(&[
        ("_rels/.rels", br#"<Relationships><Relationship Id="r" Type="x/officeDocument" Target="xl/workbook.xml"/></Relationships>"#),
        ("xl/workbook.xml", br#"<workbook xmlns:r="r"><sheets><sheet name="F" sheetId="1" r:id="a"/></sheets></workbook>"#),
        (
            "xl/_rels/workbook.xml.rels",
            br#"<Relationships><Relationship Id="a" Type="x/worksheet" Target="worksheets/s.xml"/><Relationship Id="b" Type="x/sharedStrings" Target="/xl/sharedStrings.xml"/></Relationships>"#,
        ),
        ("xl/worksheets/s.xml", worksheet.as_bytes()),
        ("xl/sharedStrings.xml", shared_strings.as_bytes()),
    ])
}

/// An ods with this content of `office:spreadsheet` and these automatic styles.
pub fn ods_of(styles: &str, spreadsheet: &str) -> Vec<u8> {
    package(&[("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"), ("content.xml", flat(styles, spreadsheet).as_bytes())])
}

/// The XML of such a document.
pub fn flat(styles: &str, spreadsheet: &str) -> String {
    format!(
        "<office:document-content xmlns:office=\"o\" xmlns:table=\"t\" xmlns:text=\"x\" xmlns:style=\"s\">\
         <office:automatic-styles>{styles}</office:automatic-styles>\
         <office:body><office:spreadsheet>{spreadsheet}</office:spreadsheet></office:body></office:document-content>"
    )
}
