//! Small office documents: OOXML, OpenDocument, and an Excel 97 workbook. Each holds what the standard asks for and
//! nothing that acts.

use super::pack::{Zip, compound};

const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";
const RELATIONSHIPS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

/// Text for XML content and attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn content_types(overrides: &[(&str, &str)], defaults: &[(&str, &str)]) -> Vec<u8> {
    let mut xml = format!(
        "{XML}<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/><Default Extension=\"xml\" ContentType=\"application/xml\"/>"
    );
    for (extension, kind) in defaults {
        xml += &format!("<Default Extension=\"{extension}\" ContentType=\"{kind}\"/>");
    }
    for (part, kind) in overrides {
        xml += &format!("<Override PartName=\"{part}\" ContentType=\"{kind}\"/>");
    }
    (xml + "</Types>").into_bytes()
}

fn relationships(of: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut xml = format!("{XML}<Relationships xmlns=\"{RELATIONSHIPS}\">");
    for (id, kind, target) in of {
        let kind = if kind.contains(':') { (*kind).to_owned() } else { format!("{OFFICE}/{kind}") };
        xml += &format!("<Relationship Id=\"{id}\" Type=\"{kind}\" Target=\"{target}\"/>");
    }
    (xml + "</Relationships>").into_bytes()
}

const CORE_TYPE: &str = "application/vnd.openxmlformats-package.core-properties+xml";
const CORE: &str = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties";

fn core(title: &str) -> Vec<u8> {
    format!("{XML}<cp:coreProperties xmlns:cp=\"http://schemas.openxmlformats.org/package/2006/metadata/core-properties\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\" xmlns:dcterms=\"http://purl.org/dc/terms/\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><dc:title>{}</dc:title><dcterms:created xsi:type=\"dcterms:W3CDTF\">2026-01-15T10:00:00Z</dcterms:created></cp:coreProperties>", escape(title)).into_bytes()
}

/// A Word document of these paragraphs.
pub fn docx(title: &str, paragraphs: &[String]) -> Vec<u8> {
    let mut body =
        format!("<w:p><w:r><w:rPr><w:b/><w:sz w:val=\"32\"/></w:rPr><w:t xml:space=\"preserve\">{}</w:t></w:r></w:p>", escape(title));
    for paragraph in paragraphs {
        body += &format!("<w:p><w:r><w:t xml:space=\"preserve\">{}</w:t></w:r></w:p>", escape(paragraph));
    }
    let document = format!(
        "{XML}<w:document xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\"><w:body>{body}<w:sectPr><w:pgSz w:w=\"11906\" w:h=\"16838\"/></w:sectPr></w:body></w:document>"
    );
    Zip::default()
        .file(
            "[Content_Types].xml",
            &content_types(
                &[
                    ("/word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"),
                    ("/docProps/core.xml", CORE_TYPE),
                ],
                &[],
            ),
        )
        .file("_rels/.rels", &relationships(&[("rId1", "officeDocument", "word/document.xml"), ("rId2", CORE, "docProps/core.xml")]))
        .file("docProps/core.xml", &core(title))
        .file("word/document.xml", document.as_bytes())
        .finish()
}

/// A cell of a sheet.
#[derive(Clone)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Number(f64),
    /// A date as Excel counts days.
    Date(u32),
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// A workbook of one sheet. `macros` makes it one with a VBA project (xlsm).
pub fn xlsx(sheet: &str, rows: &[Vec<Cell>], macros: bool) -> Vec<u8> {
    let mut data = String::new();
    for (row, cells) in rows.iter().enumerate() {
        if cells.is_empty() {
            continue;
        }
        data += &format!("<row r=\"{}\">", row + 1);
        for (column, cell) in cells.iter().enumerate() {
            let place = format!("{}{}", char::from(b'A' + column as u8), row + 1);
            data += &match cell {
                Cell::Text(text) if text.is_empty() => String::new(),
                Cell::Text(text) => format!("<c r=\"{place}\" t=\"inlineStr\"><is><t xml:space=\"preserve\">{}</t></is></c>", escape(text)),
                Cell::Number(number) => format!("<c r=\"{place}\"><v>{number}</v></c>"),
                Cell::Date(days) => format!("<c r=\"{place}\" s=\"1\"><v>{days}</v></c>"),
            };
        }
        data += "</row>";
    }
    const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let widest = rows.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let worksheet = format!(
        "{XML}<worksheet xmlns=\"{MAIN}\"><dimension ref=\"A1:{}{}\"/><sheetData>{data}</sheetData></worksheet>",
        char::from(b'A' + widest as u8 - 1),
        rows.len().max(1)
    );
    let workbook = format!(
        "{XML}<workbook xmlns=\"{MAIN}\" xmlns:r=\"{OFFICE}\"><sheets><sheet name=\"{}\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>",
        escape(sheet)
    );
    let styles = format!(
        "{XML}<styleSheet xmlns=\"{MAIN}\"><fonts count=\"1\"><font><sz val=\"11\"/><name val=\"Calibri\"/></font></fonts><fills count=\"2\"><fill><patternFill patternType=\"none\"/></fill><fill><patternFill patternType=\"gray125\"/></fill></fills><borders count=\"1\"><border><left/><right/><top/><bottom/><diagonal/></border></borders><cellStyleXfs count=\"1\"><xf numFmtId=\"0\" fontId=\"0\" fillId=\"0\" borderId=\"0\"/></cellStyleXfs><cellXfs count=\"2\"><xf numFmtId=\"0\" fontId=\"0\" fillId=\"0\" borderId=\"0\" xfId=\"0\"/><xf numFmtId=\"14\" fontId=\"0\" fillId=\"0\" borderId=\"0\" xfId=\"0\" applyNumberFormat=\"1\"/></cellXfs></styleSheet>"
    );
    let kind = if macros {
        "application/vnd.ms-excel.sheet.macroEnabled.main+xml"
    } else {
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    };
    let defaults: &[_] = if macros { &[("bin", "application/vnd.ms-office.vbaProject")] } else { &[] };
    let mut parts = vec![("rId1", "worksheet", "worksheets/sheet1.xml"), ("rId2", "styles", "styles.xml")];
    if macros {
        parts.push(("rId3", "http://schemas.microsoft.com/office/2006/relationships/vbaProject", "vbaProject.bin"));
    }
    let zip = Zip::default()
        .file(
            "[Content_Types].xml",
            &content_types(
                &[
                    ("/xl/workbook.xml", kind),
                    ("/xl/worksheets/sheet1.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"),
                    ("/xl/styles.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"),
                ],
                defaults,
            ),
        )
        .file("_rels/.rels", &relationships(&[("rId1", "officeDocument", "xl/workbook.xml")]))
        .file("xl/workbook.xml", workbook.as_bytes())
        .file("xl/_rels/workbook.xml.rels", &relationships(&parts))
        .file("xl/styles.xml", styles.as_bytes())
        .file("xl/worksheets/sheet1.xml", worksheet.as_bytes());
    if macros {
        // The shape of a VBA project without a line of code: what makes a workbook a macro workbook.
        let project =
            b"ID=\"{00000000-0000-0000-0000-000000000000}\"\r\nDocument=ThisWorkbook/&H00000000\r\nName=\"VBAProject\"\r\n".to_vec();
        let vba = compound([0; 16], &[("PROJECT", project), ("PROJECTwm", vec![0, 0])]);
        return zip.file("xl/vbaProject.bin", &vba).finish();
    }
    zip.finish()
}

/// A presentation of one slide.
pub fn pptx(title: &str, lines: &[String]) -> Vec<u8> {
    const P: &str = "xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\" xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\" xmlns:p=\"http://schemas.openxmlformats.org/presentationml/2006/main\"";
    const GROUP: &str = "<p:nvGrpSpPr><p:cNvPr id=\"1\" name=\"\"/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>";
    const MAP: &str = "bg1=\"lt1\" tx1=\"dk1\" bg2=\"lt2\" tx2=\"dk2\" accent1=\"accent1\" accent2=\"accent2\" accent3=\"accent3\" accent4=\"accent4\" accent5=\"accent5\" accent6=\"accent6\" hlink=\"hlink\" folHlink=\"folHlink\"";
    let shape = |id: u32, name: &str, y: u32, paragraphs: &[String]| {
        let text: String =
            paragraphs.iter().map(|p| format!("<a:p><a:r><a:rPr lang=\"fr-FR\"/><a:t>{}</a:t></a:r></a:p>", escape(p))).collect();
        format!(
            "<p:sp><p:nvSpPr><p:cNvPr id=\"{id}\" name=\"{name}\"/><p:cNvSpPr txBox=\"1\"/><p:nvPr/></p:nvSpPr><p:spPr><a:xfrm><a:off x=\"500000\" y=\"{y}\"/><a:ext cx=\"8000000\" cy=\"1200000\"/></a:xfrm><a:prstGeom prst=\"rect\"><a:avLst/></a:prstGeom></p:spPr><p:txBody><a:bodyPr/><a:lstStyle/>{text}</p:txBody></p:sp>"
        )
    };
    let slide = format!(
        "{XML}<p:sld {P}><p:cSld><p:spTree>{GROUP}{}{}</p:spTree></p:cSld><p:clrMapOvr><a:masterClrMapping/></p:clrMapOvr></p:sld>",
        shape(2, "Titre", 400_000, &[title.to_owned()]),
        shape(3, "Texte", 1_800_000, lines)
    );
    let master = format!(
        "{XML}<p:sldMaster {P}><p:cSld><p:spTree>{GROUP}</p:spTree></p:cSld><p:clrMap {MAP}/><p:sldLayoutIdLst><p:sldLayoutId id=\"2147483649\" r:id=\"rId1\"/></p:sldLayoutIdLst></p:sldMaster>"
    );
    let layout = format!(
        "{XML}<p:sldLayout {P} type=\"blank\"><p:cSld name=\"Vide\"><p:spTree>{GROUP}</p:spTree></p:cSld><p:clrMapOvr><a:masterClrMapping/></p:clrMapOvr></p:sldLayout>"
    );
    let presentation = format!(
        "{XML}<p:presentation {P}><p:sldMasterIdLst><p:sldMasterId id=\"2147483648\" r:id=\"rId1\"/></p:sldMasterIdLst><p:sldIdLst><p:sldId id=\"256\" r:id=\"rId2\"/></p:sldIdLst><p:sldSz cx=\"9144000\" cy=\"6858000\"/><p:notesSz cx=\"6858000\" cy=\"9144000\"/></p:presentation>"
    );
    let colours: String =
        ["dk1", "lt1", "dk2", "lt2", "accent1", "accent2", "accent3", "accent4", "accent5", "accent6", "hlink", "folHlink"]
            .iter()
            .enumerate()
            .map(|(n, name)| {
                format!(
                    "<a:{name}><a:srgbClr val=\"{:06X}\"/></a:{name}>",
                    [
                        0u32, 0xFF_FFFF, 0x44_546A, 0xE7_E6E6, 0x44_72C4, 0xED_7D31, 0xA5_A5A5, 0xFF_C000, 0x5B_9BD5, 0x70_AD47, 0x05_63C1,
                        0x95_4F72
                    ][n]
                )
            })
            .collect();
    const FONT: &str = "<a:latin typeface=\"Calibri\"/><a:ea typeface=\"\"/><a:cs typeface=\"\"/>";
    const FILL: &str = "<a:solidFill><a:schemeClr val=\"phClr\"/></a:solidFill>";
    let line = format!("<a:ln w=\"9525\">{FILL}</a:ln>");
    const EFFECT: &str = "<a:effectStyle><a:effectLst/></a:effectStyle>";
    let theme = format!(
        "{XML}<a:theme xmlns:a=\"http://schemas.openxmlformats.org/drawingml/2006/main\" name=\"Office\"><a:themeElements><a:clrScheme name=\"Office\">{colours}</a:clrScheme><a:fontScheme name=\"Office\"><a:majorFont>{FONT}</a:majorFont><a:minorFont>{FONT}</a:minorFont></a:fontScheme><a:fmtScheme name=\"Office\"><a:fillStyleLst>{FILL}{FILL}{FILL}</a:fillStyleLst><a:lnStyleLst>{line}{line}{line}</a:lnStyleLst><a:effectStyleLst>{EFFECT}{EFFECT}{EFFECT}</a:effectStyleLst><a:bgFillStyleLst>{FILL}{FILL}{FILL}</a:bgFillStyleLst></a:fmtScheme></a:themeElements></a:theme>"
    );
    const KIND: &str = "application/vnd.openxmlformats-officedocument.presentationml";
    let kinds = ["presentation.main", "slideMaster", "slideLayout", "slide"].map(|k| format!("{KIND}.{k}+xml"));
    Zip::default()
        .file(
            "[Content_Types].xml",
            &content_types(
                &[
                    ("/ppt/presentation.xml", &kinds[0]),
                    ("/ppt/slideMasters/slideMaster1.xml", &kinds[1]),
                    ("/ppt/slideLayouts/slideLayout1.xml", &kinds[2]),
                    ("/ppt/slides/slide1.xml", &kinds[3]),
                    ("/ppt/theme/theme1.xml", "application/vnd.openxmlformats-officedocument.theme+xml"),
                ],
                &[],
            ),
        )
        .file("_rels/.rels", &relationships(&[("rId1", "officeDocument", "ppt/presentation.xml")]))
        .file("ppt/presentation.xml", presentation.as_bytes())
        .file(
            "ppt/_rels/presentation.xml.rels",
            &relationships(&[
                ("rId1", "slideMaster", "slideMasters/slideMaster1.xml"),
                ("rId2", "slide", "slides/slide1.xml"),
                ("rId3", "theme", "theme/theme1.xml"),
            ]),
        )
        .file("ppt/slideMasters/slideMaster1.xml", master.as_bytes())
        .file(
            "ppt/slideMasters/_rels/slideMaster1.xml.rels",
            &relationships(&[("rId1", "slideLayout", "../slideLayouts/slideLayout1.xml"), ("rId2", "theme", "../theme/theme1.xml")]),
        )
        .file("ppt/slideLayouts/slideLayout1.xml", layout.as_bytes())
        .file(
            "ppt/slideLayouts/_rels/slideLayout1.xml.rels",
            &relationships(&[("rId1", "slideMaster", "../slideMasters/slideMaster1.xml")]),
        )
        .file("ppt/slides/slide1.xml", slide.as_bytes())
        .file("ppt/slides/_rels/slide1.xml.rels", &relationships(&[("rId1", "slideLayout", "../slideLayouts/slideLayout1.xml")]))
        .file("ppt/theme/theme1.xml", theme.as_bytes())
        .finish()
}

const ODF: &str = "xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\" xmlns:table=\"urn:oasis:names:tc:opendocument:xmlns:table:1.0\" xmlns:draw=\"urn:oasis:names:tc:opendocument:xmlns:drawing:1.0\" xmlns:presentation=\"urn:oasis:names:tc:opendocument:xmlns:presentation:1.0\" xmlns:style=\"urn:oasis:names:tc:opendocument:xmlns:style:1.0\" xmlns:svg=\"urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0\" xmlns:fo=\"urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0\" office:version=\"1.3\"";

fn open_document(kind: &str, body: &str) -> Vec<u8> {
    let media_type = format!("application/vnd.oasis.opendocument.{kind}");
    let manifest = format!(
        "{XML}<manifest:manifest xmlns:manifest=\"urn:oasis:names:tc:opendocument:xmlns:manifest:1.0\" manifest:version=\"1.3\"><manifest:file-entry manifest:full-path=\"/\" manifest:version=\"1.3\" manifest:media-type=\"{media_type}\"/><manifest:file-entry manifest:full-path=\"content.xml\" manifest:media-type=\"text/xml\"/><manifest:file-entry manifest:full-path=\"styles.xml\" manifest:media-type=\"text/xml\"/></manifest:manifest>"
    );
    let content = format!(
        "{XML}<office:document-content {ODF}><office:automatic-styles/><office:body>{body}</office:body></office:document-content>"
    );
    let styles = format!(
        "{XML}<office:document-styles {ODF}><office:styles/><office:automatic-styles><style:page-layout style:name=\"pm1\"><style:page-layout-properties fo:page-width=\"28cm\" fo:page-height=\"21cm\"/></style:page-layout></office:automatic-styles><office:master-styles><style:master-page style:name=\"Default\" style:page-layout-name=\"pm1\"/></office:master-styles></office:document-styles>"
    );
    Zip::default()
        .stored("mimetype", media_type.as_bytes())
        .file("content.xml", content.as_bytes())
        .file("styles.xml", styles.as_bytes())
        .file("META-INF/manifest.xml", manifest.as_bytes())
        .finish()
}

/// An OpenDocument text.
pub fn odt(title: &str, paragraphs: &[String]) -> Vec<u8> {
    let body: String = paragraphs.iter().map(|p| format!("<text:p>{}</text:p>", escape(p))).collect();
    open_document("text", &format!("<office:text><text:h text:outline-level=\"1\">{}</text:h>{body}</office:text>", escape(title)))
}

/// An OpenDocument workbook.
pub fn ods(sheet: &str, rows: &[Vec<String>]) -> Vec<u8> {
    let rows: String = rows
        .iter()
        .map(|cells| {
            let cells: String = cells
                .iter()
                .map(|c| format!("<table:table-cell office:value-type=\"string\"><text:p>{}</text:p></table:table-cell>", escape(c)))
                .collect();
            format!("<table:table-row>{cells}</table:table-row>")
        })
        .collect();
    open_document(
        "spreadsheet",
        &format!("<office:spreadsheet><table:table table:name=\"{}\">{rows}</table:table></office:spreadsheet>", escape(sheet)),
    )
}

/// An OpenDocument presentation of one page.
pub fn odp(title: &str, lines: &[String]) -> Vec<u8> {
    let text: String =
        std::iter::once(title.to_owned()).chain(lines.iter().cloned()).map(|l| format!("<text:p>{}</text:p>", escape(&l))).collect();
    open_document(
        "presentation",
        &format!(
            "<office:presentation><draw:page draw:name=\"page1\" draw:master-page-name=\"Default\"><draw:frame svg:width=\"24cm\" svg:height=\"12cm\" svg:x=\"2cm\" svg:y=\"2cm\"><draw:text-box>{text}</draw:text-box></draw:frame></draw:page></office:presentation>"
        ),
    )
}

/// An Excel 97–2003 workbook ([MS-XLS], BIFF8) of one sheet of texts.
pub fn xls(sheet: &str, rows: &[Vec<String>]) -> Vec<u8> {
    fn record(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
        out.extend(kind.to_le_bytes());
        out.extend((data.len() as u16).to_le_bytes());
        out.extend(data);
    }
    let words = |words: &[u16]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let begin = |kind: u16| [words(&[0x0600, kind, 0x0DBB, 0x07CC]), vec![0, 0, 0, 0, 6, 0, 0, 0]].concat();
    let text = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let name = text(sheet);

    let mut globals = Vec::new();
    record(&mut globals, 0x0809, &begin(5));
    record(&mut globals, 0x0042, &words(&[1200]));
    record(&mut globals, 0x003D, &words(&[0, 0, 0x4000, 0x2000, 0x38, 0, 0, 1, 600]));
    let font = [words(&[220, 0, 0x7FFF, 400, 0]), vec![0, 0, 0, 0, 7, 1], text("Calibri")].concat();
    for _ in 0..4 {
        record(&mut globals, 0x0031, &font);
    }
    for n in 0..16 {
        // Fifteen style formats, then the one that cells use.
        let kind = if n == 15 { 1 } else { 0xFFF5 };
        record(&mut globals, 0x00E0, &[words(&[0, 0, kind, 0x20]), vec![0; 8], words(&[0x20C0, 0])].concat()[..20]);
    }
    record(&mut globals, 0x0293, &[0, 0x80, 0, 0xFF]);
    let after = globals.len() + 4 + 8 + name.len() + 4;
    let mut bound = (after as u32).to_le_bytes().to_vec();
    bound.extend([0, 0, sheet.encode_utf16().count() as u8, 1]);
    bound.extend(&name);
    record(&mut globals, 0x0085, &bound);
    record(&mut globals, 0x000A, &[]);
    assert_eq!(globals.len(), after);

    record(&mut globals, 0x0809, &begin(0x10));
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u16;
    record(
        &mut globals,
        0x0200,
        &[(0u32).to_le_bytes().to_vec(), (rows.len() as u32).to_le_bytes().to_vec(), words(&[0, columns, 0])].concat(),
    );
    for (row, cells) in rows.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            let mut label = words(&[row as u16, column as u16, 15, cell.encode_utf16().count() as u16]);
            label.push(1);
            label.extend(text(cell));
            record(&mut globals, 0x0204, &label);
        }
    }
    record(&mut globals, 0x023E, &words(&[0x06B6, 0, 0, 0x40, 0, 0, 0, 0, 0]));
    record(&mut globals, 0x000A, &[]);
    let class = [0x20, 0x08, 0x02, 0, 0, 0, 0, 0, 0xC0, 0, 0, 0, 0, 0, 0, 0x46];
    compound(class, &[("Workbook", globals)])
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use calamine::Reader;

    use super::*;

    #[test]
    fn workbooks_are_read_by_others() {
        let rows = [vec!["Version".to_owned(), "Fin de vie".to_owned()], vec!["4.2 é".to_owned(), "31/12/2025".to_owned()]];
        let xls = xls("Versions", &rows);
        let mut read: calamine::Xls<_> = calamine::Xls::new(Cursor::new(xls)).unwrap();
        let range = read.worksheet_range("Versions").unwrap();
        assert_eq!(range.get((1, 0)).unwrap().to_string(), "4.2 é");
        let cells: Vec<Vec<Cell>> = rows.iter().map(|r| r.iter().cloned().map(Cell::Text).collect()).collect();
        let mut read: calamine::Xlsx<_> = calamine::Xlsx::new(Cursor::new(xlsx("Versions", &cells, true))).unwrap();
        assert_eq!(read.worksheet_range("Versions").unwrap().get((1, 1)).unwrap().to_string(), "31/12/2025");
        let mut read: calamine::Ods<_> = calamine::Ods::new(Cursor::new(ods("Versions", &rows))).unwrap();
        assert_eq!(read.worksheet_range("Versions").unwrap().get((0, 1)).unwrap().to_string(), "Fin de vie");
    }
}
