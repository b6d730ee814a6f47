//! Small PDF documents: text in Helvetica, an outline, metadata.

use super::pack::zlib;

/// A chapter of a document: its outline title and its lines.
pub struct Chapter {
    /// Title in the outline and on the page.
    pub title: String,
    /// Lines under it.
    pub lines: Vec<String>,
}

/// A PDF 1.7 document with one outline entry for each chapter.
pub fn pdf(title: &str, chapters: &[Chapter]) -> Vec<u8> {
    const LINES: usize = 46;
    const COLUMNS: usize = 92;
    let mut pages: Vec<Vec<String>> = Vec::new();
    let mut starts = Vec::new();
    for chapter in chapters {
        starts.push(pages.len());
        let mut page = vec![format!("#{}", chapter.title), String::new()];
        for line in chapter.lines.iter().flat_map(|line| wrap(line, COLUMNS)) {
            if page.len() == LINES {
                pages.push(std::mem::take(&mut page));
            }
            page.push(line);
        }
        pages.push(page);
    }

    // Objects: 1 catalogue, 2 pages, 3 font, 4 bold font, 5 information, 6 outline, then outline entries, then
    // two for each page.
    let first_entry = 7;
    let first_page = first_entry + chapters.len();
    let mut objects: Vec<Vec<u8>> = Vec::new();
    objects.push(b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R /PageMode /UseOutlines /Lang (fr-FR) >>".to_vec());
    let kids: Vec<String> = (0..pages.len()).map(|n| format!("{} 0 R", first_page + 2 * n)).collect();
    objects.push(format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()).into_bytes());
    for font in ["Helvetica", "Helvetica-Bold"] {
        objects.push(format!("<< /Type /Font /Subtype /Type1 /BaseFont /{font} /Encoding /WinAnsiEncoding >>").into_bytes());
    }
    let mut information = b"<< /Title ".to_vec();
    information.extend(unicode_string(title));
    information.extend(b" /Producer (greffier fixtures) /CreationDate (D:20260115100000+01'00') >>");
    objects.push(information);
    let count = chapters.len();
    objects
        .push(format!("<< /Type /Outlines /First {first_entry} 0 R /Last {} 0 R /Count {count} >>", first_entry + count - 1).into_bytes());
    for (n, chapter) in chapters.iter().enumerate() {
        let mut entry = b"<< /Title ".to_vec();
        entry.extend(unicode_string(&chapter.title));
        entry.extend(format!(" /Parent 6 0 R /Dest [{} 0 R /XYZ 56 800 0]", first_page + 2 * starts[n]).bytes());
        if n > 0 {
            entry.extend(format!(" /Prev {} 0 R", first_entry + n - 1).bytes());
        }
        if n + 1 < count {
            entry.extend(format!(" /Next {} 0 R", first_entry + n + 1).bytes());
        }
        entry.extend(b" >>");
        objects.push(entry);
    }
    for (n, lines) in pages.iter().enumerate() {
        let content = first_page + 2 * n + 1;
        objects.push(format!("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents {content} 0 R >>").into_bytes());
        let mut drawn = b"BT 15 TL 56 790 Td\n".to_vec();
        for line in lines {
            let (font, line) = match line.strip_prefix('#') {
                Some(title) => ("/F2 15 Tf ", title),
                None => ("/F1 10 Tf ", line.as_str()),
            };
            drawn.extend(font.bytes());
            drawn.push(b'(');
            drawn.extend(win_ansi(line));
            drawn.extend(b") Tj T*\n");
        }
        drawn.extend(format!("/F1 8 Tf 0 -20 Td (Page {}) Tj ET\n", n + 1).bytes());
        let packed = zlib(&drawn);
        let mut stream = format!("<< /Length {} /Filter /FlateDecode >>\nstream\n", packed.len()).into_bytes();
        stream.extend(packed);
        stream.extend(b"\nendstream");
        objects.push(stream);
    }

    let mut file = b"%PDF-1.7\n%\xE2\xE3\xCF\xD3\n".to_vec();
    let mut offsets = Vec::new();
    for (n, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file.extend(format!("{} 0 obj\n", n + 1).bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let xref = file.len();
    file.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for offset in offsets {
        file.extend(format!("{offset:010} 00000 n \n").bytes());
    }
    file.extend(format!("trailer\n<< /Size {} /Root 1 0 R /Info 5 0 R >>\nstartxref\n{xref}\n%%EOF\n", objects.len() + 1).bytes());
    file
}

fn wrap(line: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.last_mut().expect("starts with one");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// A literal string in WinAnsiEncoding, escaped.
fn win_ansi(text: &str) -> Vec<u8> {
    let (encoded, ..) = encoding_rs::WINDOWS_1252.encode(text);
    encoded.iter().flat_map(|b| if matches!(b, b'(' | b')' | b'\\') { vec![b'\\', *b] } else { vec![*b] }).collect()
}

/// A text string in UTF-16 with byte order mark, in hexadecimal.
fn unicode_string(text: &str) -> Vec<u8> {
    let hex: String = text.encode_utf16().map(|unit| format!("{unit:04X}")).collect();
    format!("<FEFF{hex}>").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_by_others() {
        let lines = (0..60).map(|n| format!("Ligne {n} : l'été (œuvre)")).collect();
        let file = pdf("Éssai", &[Chapter { title: "Un".into(), lines }, Chapter { title: "Deux".into(), lines: vec![] }]);
        let read = lopdf::Document::load_mem(&file).unwrap();
        assert_eq!(read.get_pages().len(), 3);
        let text = read.extract_text(&[1]).unwrap();
        assert!(text.contains("Ligne 0 : l'été (œuvre)"), "{text}");
    }
}
