//! What a rule says of one file: name, declared type and content against each other and against the slot.

use std::sync::Arc;

use crate::model::facts::{Detail, Facts, MAX_SIGNALS_PER_CODE};
use crate::model::format::Family;
use crate::model::text::is_unsafe_to_show;
use crate::model::work::Work;
use crate::model::{Format, Place, Signal};
use crate::pipeline::{FormatSet, SizeLimit};

use super::Examined;

/// What the sender declared of a file.
#[derive(Debug)]
pub struct Declared<'a> {
    /// File name (untrusted).
    pub name: &'a str,
    /// Size, bytes.
    pub size: Option<u64>,
    /// Media type.
    pub media_type: Option<&'a str>,
    /// SHA-256, hex.
    pub sha256: Option<&'a str>,
}

/// What a slot or a proof accepts.
#[derive(Debug, Clone)]
pub struct FileRules<'a> {
    /// Largest file.
    pub max_size: SizeLimit,
    /// What « Mo » means, bytes.
    pub bytes_per_mo: u64,
    /// Accepted formats.
    pub formats: &'a FormatSet,
    /// Accepted as an archive of `formats` beyond the number of files.
    pub overflow: Option<&'a FormatSet>,
    /// Whether the members of an archive must be of `formats` too (eligibility slots).
    pub members_follow: bool,
}

/// Longest file name that every common file system takes, bytes of UTF-8.
const MAX_NAME_BYTES: usize = 255;

/// The signals of one file.
pub fn signals(declared: &Declared<'_>, looked: &Examined, rules: Option<&FileRules<'_>>, work: &Work) -> Vec<Signal> {
    let mut out = Vec::new();
    name(declared.name, &mut out);
    if let (Some(said), Some(seen)) = (declared.size, looked.size)
        && said != seen
    {
        out.push(Signal::new("file-size-differs").arg("declared_bytes", said).arg("received_bytes", seen));
    }
    if let (Some(said), Some(seen)) = (declared.sha256, &looked.sha256)
        && !said.eq_ignore_ascii_case(seen)
    {
        out.push(Signal::new("file-digest-differs").arg("declared", said).arg("received", seen.as_str()));
    }
    if let (Some(rules), Some(size)) = (rules, looked.size)
        && !rules.max_size.allows(size, rules.bytes_per_mo)
    {
        let signal = if rules.max_size.inclusive { Signal::new("file-too-big") } else { Signal::new("file-not-below-limit") };
        out.push(
            signal
                .arg("size_bytes", size)
                .arg("limit_bytes", rules.max_size.bytes(rules.bytes_per_mo))
                .arg("limit_mo", rules.max_size.mo.to_string())
                .arg("mo_bytes", rules.bytes_per_mo),
        );
    }
    if let Some(facts) = &looked.facts {
        let format = facts.format.map(|format| named_format(format, declared.name));
        extension(declared.name, format, facts, &mut out);
        media_type(declared, format, &mut out);
        if let (Some(rules), Some(format)) = (rules, format) {
            accepted(format, facts, rules, work, &mut out);
        }
    }
    out
}

fn name(name: &str, out: &mut Vec<Signal>) {
    if name.chars().any(|c| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')) {
        out.push(Signal::new("file-name-deceptive").arg("name", name));
    } else if name.chars().any(|c| is_unsafe_to_show(c) && !joins_or_marks(c)) || name.contains(['/', '\\']) {
        out.push(Signal::new("file-name-unsafe").arg("name", name));
    }
    if name.len() > MAX_NAME_BYTES {
        out.push(Signal::new("file-name-too-long").arg("length", name.len()).arg("limit", MAX_NAME_BYTES));
    }
    match extension_of(name) {
        None => out.push(Signal::new("file-no-extension").arg("name", name)),
        // `facture.pdf.exe`: the only extension that counts starts a program.
        Some(extension) if is_dangerous(&extension) => {
            out.push(Signal::new("file-name-dangerous").arg("extension", extension.as_str()));
        }
        Some(_) => {}
    }
}

/// Joiners and direction marks, which names in Arabic, Persian or Hindi and names copied from a web page hold, and which every file
/// system and desktop takes: they reorder and hide no letter of another script.
const fn joins_or_marks(c: char) -> bool {
    matches!(c, '\u{200C}'..='\u{200F}' | '\u{061C}')
}

/// The extension of a name, lower case; trailing dots and spaces do not count (Windows drops them).
pub fn extension_of(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next()?.trim_end_matches(['.', ' ']);
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty() && extension.len() <= 16).then(|| extension.to_lowercase())
}

fn is_dangerous(extension: &str) -> bool {
    Format::from_extension(extension).any(Format::is_executable)
        || matches!(
            extension,
            "hta" | "pif" | "cpl" | "reg" | "url" | "wsf" | "jse" | "vbe" | "msc" | "application" | "appx" | "scf" | "iso" | "img" | "vhd"
        )
}

fn extension(name: &str, format: Option<Format>, facts: &Facts, out: &mut Vec<Signal>) {
    let Some(extension) = extension_of(name) else { return };
    let Some(format) = format else {
        // Zeros, noise, a header overwritten: the name is all that is left of the document.
        let promised = Format::from_extension(&extension).any(|f| f.family() != Family::Other);
        if promised && facts.size > 0 && facts.has("file-unknown-format") {
            out.push(Signal::new("file-content-unrecognised").arg("extension", extension.as_str()));
        }
        return;
    };
    if format.extensions().contains(&extension.as_str()) {
        return;
    }
    let promised: Vec<Format> = Format::from_extension(&extension).collect();
    if promised.is_empty() {
        out.push(
            Signal::new("file-extension-unknown")
                .arg("extension", extension.as_str())
                .arg("format", format.label())
                .arg("usual", format.extensions()[0]),
        );
        return;
    }
    if promised.iter().any(|p| are_interchangeable(*p, format)) {
        return;
    }
    let siblings = promised.iter().any(|p| are_siblings(*p, format));
    let signal = if siblings { Signal::new("file-extension-sibling") } else { Signal::new("file-extension-mismatch") };
    out.push(signal.arg("extension", extension.as_str()).arg("format", format.label()).arg("usual", format.extensions()[0]));
}

/// The facts with the format that the name settles (see [`named_format`]).
pub fn as_named(facts: Option<Arc<Facts>>, name: &str) -> Option<Arc<Facts>> {
    let mut facts = facts?;
    // Shared as long as the name says nothing else.
    if is_renamed(&facts, name) {
        rename(Arc::make_mut(&mut facts), name);
    }
    Some(facts)
}

/// Whether the name of a file, or of a member inside, settles another format than its bytes.
pub fn is_renamed(facts: &Facts, name: &str) -> bool {
    facts.format.is_some_and(|format| named_format(format, name) != format)
        || facts.members().iter().any(|m| m.facts.as_ref().is_some_and(|facts| is_renamed(facts, &m.name)))
}

fn rename(facts: &mut Facts, name: &str) {
    let was = facts.format;
    facts.format = was.map(|format| named_format(format, name));
    if facts.format != was {
        // A script named `.txt` opens in an editor: nothing runs it.
        facts.signals.retain(|s| s.code.as_str() != "file-executable");
    }
    if facts.format == Some(Format::Csv)
        && let Some(Detail::Text(text)) = &mut facts.detail
        && let Some(table) = text.as_table.take()
    {
        facts.detail = Some(Detail::Workbook(table.workbook));
        table.signals.into_iter().for_each(|signal| facts.push(signal));
    }
    if let Some(Detail::Archive(archive)) = &mut facts.detail {
        for member in &mut archive.members {
            if let Some(facts) = &mut member.facts {
                rename(facts, &member.name);
            }
        }
    }
}

/// Bytes cannot tell a table of one column from lines of text, nor regular lines of a log from a table: between these two,
/// whose readers are the same, what the sender called it is what it is. Whatever else is readable as text and is named `.txt` or
/// `.csv` (a message, a trace, a page, a script) opens as text everywhere, and is text.
fn named_format(format: Format, name: &str) -> Format {
    match (format, extension_of(name).as_deref()) {
        (Format::Txt, Some("csv")) => Format::Csv,
        (Format::Csv, Some("txt")) => Format::Txt,
        (
            Format::Xml | Format::Json | Format::Html | Format::Svg | Format::Eml | Format::Script | Format::PostScript,
            Some(extension @ ("txt" | "csv")),
        ) => {
            if extension == "csv" {
                Format::Csv
            } else {
                Format::Txt
            }
        }
        _ => format,
    }
}

/// Every reader takes one for the other: the difference is a matter of taste.
fn are_interchangeable(promised: Format, found: Format) -> bool {
    let texts = [Format::Txt, Format::Csv];
    let mp4s = [Format::Mp4, Format::F4v, Format::M4a];
    (texts.contains(&promised) && texts.contains(&found)) || (mp4s.contains(&promised) && mp4s.contains(&found))
}

/// Common viewers open one under the other's name, but not all of them.
fn are_siblings(promised: Format, found: Format) -> bool {
    let base_media = [Format::Mp4, Format::Mov, Format::F4v, Format::M4a, Format::ThreeGp];
    (promised.family() == Family::Image && found.family() == Family::Image)
        || (base_media.contains(&promised) && base_media.contains(&found))
}

fn media_type(declared: &Declared<'_>, format: Option<Format>, out: &mut Vec<Signal>) {
    let (Some(said), Some(format)) = (declared.media_type, format) else { return };
    let said = said.split(';').next().unwrap_or(said).trim().to_ascii_lowercase();
    // What browsers send when they do not know says nothing.
    if matches!(said.as_str(), "" | "application/octet-stream" | "binary/octet-stream" | "application/x-download") {
        return;
    }
    let fits = |f: Format| f.media_types().contains(&said.as_str());
    if fits(format) || Format::ALL.iter().any(|f| fits(*f) && are_interchangeable(*f, format)) {
        return;
    }
    // An encrypted document keeps the media type of what it holds.
    if format == Format::OoxmlEncrypted && said.contains("officedocument") {
        return;
    }
    out.push(Signal::new("file-media-type-mismatch").arg("declared", said).arg("format", format.label()));
}

fn accepted(format: Format, facts: &Facts, rules: &FileRules<'_>, work: &Work, out: &mut Vec<Signal>) {
    if format == Format::OoxmlEncrypted {
        // What is inside cannot be told; « encrypted » says what to do.
        return;
    }
    let is_overflow = rules.overflow.is_some_and(|set| accepts(set, format));
    if accepts(rules.formats, format) || is_overflow {
        // Nothing to say.
    } else if rules.formats.unconfirmed.contains(&format) {
        out.push(Signal::new("format-unconfirmed").arg("format", format.label()));
    } else {
        let accepted: Vec<_> = rules.formats.accepted.iter().chain(&rules.formats.unconfirmed).map(|f| f.extensions()[0]).collect();
        out.push(Signal::new("format-not-accepted").arg("format", format.label()).arg("accepted", accepted.join(", ")));
    }
    if format == Format::Zip && (rules.members_follow || is_overflow) {
        let mut seen = 0;
        for member in work.each(facts.members()) {
            let Some(inner) = member.facts.as_deref() else { continue };
            if let Some(found) = inner.format
                && !accepts(rules.formats, found)
                && !rules.formats.unconfirmed.contains(&found)
                && found != Format::OoxmlEncrypted
            {
                seen += 1;
                match out.last_mut() {
                    Some(last) if seen > MAX_SIGNALS_PER_CODE => last.more += 1,
                    _ => out.push(Signal::new("archive-member-format").at(Place::member(&member.name)).arg("format", found.label())),
                }
            }
        }
    }
}

fn accepts(set: &FormatSet, format: Format) -> bool {
    set.accepted.iter().any(|a| *a == format || are_interchangeable(*a, format) && *a != Format::M4a && format != Format::M4a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(declared: &Declared<'_>, looked: &Examined, rules: Option<&FileRules<'_>>) -> Vec<String> {
        signals(declared, looked, rules, &Work::unbounded()).iter().map(|s| s.code.to_string()).collect()
    }

    fn named(name: &str) -> Declared<'_> {
        Declared { name, size: None, media_type: None, sha256: None }
    }

    fn a(format: Format, size: u64) -> Examined {
        Examined {
            size: Some(size),
            sha256: Some("ab".into()),
            facts: Some(Facts { format: Some(format), ..Facts::of_size(size) }.into()),
            ..Examined::default()
        }
    }

    fn pdf_below_15_mo(formats: &FormatSet) -> FileRules<'_> {
        FileRules {
            max_size: SizeLimit { mo: 15.0, inclusive: false },
            bytes_per_mo: 1_000_000,
            formats,
            overflow: None,
            members_follow: true,
        }
    }

    #[test]
    fn a_strict_limit_refuses_exactly_that_size_and_takes_one_byte_less() {
        let formats = FormatSet { accepted: vec![Format::Pdf], unconfirmed: vec![] };
        let rules = pdf_below_15_mo(&formats);
        assert_eq!(codes(&named("a.pdf"), &a(Format::Pdf, 15_000_000), Some(&rules)), ["file-not-below-limit"]);
        assert!(codes(&named("a.pdf"), &a(Format::Pdf, 14_999_999), Some(&rules)).is_empty());
    }

    #[test]
    fn an_inclusive_limit_takes_exactly_that_size_and_refuses_one_byte_more() {
        let formats = FormatSet { accepted: vec![Format::Pdf], unconfirmed: vec![] };
        let rules = FileRules { max_size: SizeLimit { mo: 10.0, inclusive: true }, ..pdf_below_15_mo(&formats) };
        assert!(codes(&named("a.pdf"), &a(Format::Pdf, 10_000_000), Some(&rules)).is_empty());
        assert_eq!(codes(&named("a.pdf"), &a(Format::Pdf, 10_000_001), Some(&rules)), ["file-too-big"]);
    }

    #[test]
    fn a_docx_named_pdf_is_mislabeled_and_a_png_named_jpg_is_a_sibling() {
        assert_eq!(codes(&named("a.pdf"), &a(Format::Docx, 1), None), ["file-extension-mismatch"]);
        assert_eq!(codes(&named("a.jpg"), &a(Format::Png, 1), None), ["file-extension-sibling"]);
        assert!(codes(&named("a.JPEG"), &a(Format::Jpeg, 1), None).is_empty());
        assert!(codes(&named("a.csv"), &a(Format::Txt, 1), None).is_empty());
    }

    #[test]
    fn the_name_settles_text_against_table_and_nothing_else() {
        let named = |format, name| as_named(a(format, 1).facts, name).and_then(|f| f.format);
        assert_eq!(named(Format::Txt, "une colonne.CSV"), Some(Format::Csv));
        assert_eq!(named(Format::Csv, "journal.txt"), Some(Format::Txt));
        assert_eq!(named(Format::Csv, "table.log"), Some(Format::Csv));
        assert_eq!(named(Format::Html, "liens.csv"), Some(Format::Csv));
        assert_eq!(named(Format::Xml, "trace.txt"), Some(Format::Txt));
        assert_eq!(named(Format::Html, "reponse.txt"), Some(Format::Txt));
        assert_eq!(named(Format::Script, "commandes.txt"), Some(Format::Txt));
        assert_eq!(named(Format::Eml, "message.txt"), Some(Format::Txt));
        assert_eq!(named(Format::Script, "commandes.sh"), Some(Format::Script));
        assert_eq!(named(Format::Docx, "page.txt"), Some(Format::Docx));
        assert_eq!(named(Format::Txt, "a.pdf"), Some(Format::Txt));
        assert_eq!(as_named(None, "a.csv"), None);
    }

    #[test]
    fn a_text_named_csv_is_judged_as_the_table_that_a_spreadsheet_makes_of_it() {
        use crate::inspect::{Context, Limits, inspect};
        use crate::model::facts::{ArchiveFacts, MemberFacts};

        let looked = |text: &str| inspect(text.as_bytes(), &mut Context::new(Limits::default()));
        let command = looked("=cmd|'/c calc'!A1\r\n");
        assert_eq!((command.format, command.has("sheet-formula-program")), (Some(Format::Txt), false));
        let as_csv = as_named(Some(Arc::new(command.clone())), "a.csv").unwrap();
        assert!(as_csv.format == Some(Format::Csv) && as_csv.has("csv-formula") && as_csv.has("sheet-formula-program"));
        assert!(!as_named(Some(Arc::new(command.clone())), "a.txt").unwrap().has("sheet-formula-program"));
        let titled =
            as_named(Some(Arc::new(looked("Versions de mon logiciel\n\nproduit;version;date\nAlpha;1.0;2024-01-01\n"))), "a.csv").unwrap();
        assert_eq!(titled.workbook().unwrap().sheets[0].values.len(), 7);
        // As a member of an archive too.
        let member = |name: &str| MemberFacts { name: name.into(), facts: Some(Box::new(command.clone())), ..MemberFacts::default() };
        let members = vec![member("d/a.csv"), member("d/a.txt")];
        let archive = Facts {
            format: Some(Format::Zip),
            detail: Some(Detail::Archive(ArchiveFacts { members, ..ArchiveFacts::default() })),
            ..Facts::default()
        };
        let archive = as_named(Some(Arc::new(archive)), "a.zip").unwrap();
        let said: Vec<_> = archive.members().iter().map(|m| m.facts.as_ref().unwrap().has("sheet-formula-program")).collect();
        assert_eq!(said, [true, false]);
    }

    #[test]
    fn scripts_pages_and_messages_named_as_text_are_text() {
        use crate::inspect::{Context, Limits, inspect};

        for (name, text) in [
            ("commandes.txt", "#!/bin/bash\ncurl -v https://exemple/\n"),
            ("reponse.txt", "<!DOCTYPE html>\n<html><body>200 OK</body></html>\n"),
            ("signature.txt", "%PDF- est la signature des fichiers PDF\n"),
            ("liens.csv", "<a href=\"https://exemple/1\">un</a>,1\n<a href=\"https://exemple/2\">deux</a>,2\n"),
            ("message.txt", "Return-Path: <a@x>\r\nReceived: from x by y\r\nFrom: a@x\r\nTo: b@y\r\nSubject: CR\r\n\r\nBonjour\r\n"),
            ("memoire.txt", "\\documentclass{article}\n\\begin{document}\nété\n\\end{document}\n"),
        ] {
            let facts = as_named(Some(Arc::new(inspect(text.as_bytes(), &mut Context::new(Limits::default())))), name).unwrap();
            let looked = Examined { size: Some(facts.size), facts: Some(facts.clone()), ..Examined::default() };
            assert_eq!(codes(&named(name), &looked, None), Vec::<String>::new(), "{name}");
            assert_eq!(facts.signals, [], "{name}");
            assert!(!facts.text.is_empty(), "{name}");
        }
    }

    #[test]
    fn joiners_and_direction_marks_in_names_are_no_fault() {
        for name in ["نامه\u{200C}ها.pdf", "क्\u{200D}ष.pdf", "\u{200E}capture.pdf", "👩\u{200D}⚕️.pdf"] {
            assert!(codes(&named(name), &a(Format::Pdf, 1), None).is_empty(), "{name:?}");
        }
        assert_eq!(codes(&named("a\u{200B}b.pdf"), &a(Format::Pdf, 1), None), ["file-name-unsafe"]);
        assert_eq!(codes(&named("a\u{2066}b.pdf"), &a(Format::Pdf, 1), None), ["file-name-deceptive"]);
    }

    #[test]
    fn names_that_deceive_are_told() {
        assert!(codes(&named("rapport\u{202e}fdp.exe"), &a(Format::Exe, 1), None).contains(&"file-name-deceptive".to_owned()));
        assert!(codes(&named("facture.pdf.exe"), &a(Format::Exe, 1), None).contains(&"file-name-dangerous".to_owned()));
        assert!(codes(&named("facture.pdf .. "), &a(Format::Pdf, 1), None).is_empty());
        assert_eq!(codes(&named("capture"), &a(Format::Png, 1), None), ["file-no-extension"]);
    }

    #[test]
    fn a_declared_digest_or_size_that_differs_is_told() {
        let declared = Declared { name: "a.pdf", size: Some(2), media_type: Some("image/png"), sha256: Some("AB") };
        assert_eq!(codes(&declared, &a(Format::Pdf, 1), None), ["file-size-differs", "file-media-type-mismatch"]);
        let declared = Declared { name: "a.pdf", size: Some(1), media_type: Some("application/pdf; charset=binary"), sha256: Some("cd") };
        assert_eq!(codes(&declared, &a(Format::Pdf, 1), None), ["file-digest-differs"]);
    }

    #[test]
    fn unconfirmed_formats_get_a_notice_and_others_are_refused() {
        let formats = FormatSet { accepted: vec![Format::Png], unconfirmed: vec![Format::Pdf] };
        let rules = pdf_below_15_mo(&formats);
        assert_eq!(codes(&named("a.pdf"), &a(Format::Pdf, 1), Some(&rules)), ["format-unconfirmed"]);
        assert_eq!(codes(&named("a.gif"), &a(Format::Gif, 1), Some(&rules)), ["format-not-accepted"]);
    }
}
