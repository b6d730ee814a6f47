//! The writer: report and payload in, ZIP out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufWriter, Read, Seek, Write};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

use super::limited::Limited;
use super::verify::largest_tag_file;
use super::zip_reader::ZIP64_FROM;
use super::{BundleError, BundleSummary, Options, PROFILE_IDENTIFIER, PayloadSource, html, index_csv, layout, names};
use crate::model::report::{ItemReport, MAX_REPORT_BYTES, Report};
use crate::model::text::display_safe;
use crate::model::work::Work;

/// `bagit.txt` (RFC 8493 §2.1.1).
pub(super) const DECLARATION: &[u8] = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";
pub(super) const BUFFER: usize = 128 * 1024;

/// Writes the bundle of `report` to `out`. Puts the report's items in canonical order and sets their `path` and
/// `withheld`, so that what the caller shows is what the bundle says.
///
/// # Errors
/// See [`BundleError`]; what was written so far is to be thrown away.
pub fn write<W: Write + Seek>(
    report: &mut Report,
    sources: &dyn PayloadSource,
    options: &Options,
    out: W,
    work: &Work,
) -> Result<BundleSummary, BundleError> {
    let root = layout::root(report);
    layout::order(report)?;
    layout::place(report, &root, options.withhold);
    let report = &*report;

    let mut payload: Vec<(&str, &str, u64, &ItemReport)> = Vec::new();
    let mut payload_bytes = 0_u64;
    for item in &report.items {
        if let (Some(path), Some(sha256), Some(size)) = (&item.path, &item.sha256, item.size) {
            payload.push((path, sha256, size, item));
            payload_bytes = payload_bytes.saturating_add(size);
        }
    }
    // Manifests are sorted by path: easy to compare by eye, and the order in which members follow one another.
    payload.sort_unstable_by_key(|(path, ..)| *path);

    let mut manifest = String::new();
    for (path, sha256, ..) in &payload {
        let _ = writeln!(manifest, "{sha256}  {path}");
    }
    for path in options.attachments.keys() {
        let ours = ["bagit.txt", "bag-info.txt", "index.html", "lisez-moi.txt", "index.csv", "report.json", "fetch.txt"];
        let folded = names::fold(path);
        let safe = path.split('/').all(|c| names::component(c, "x", names::MAX_COMPONENT) == c);
        let taken = ours.contains(&folded.as_str()) || folded.starts_with("manifest-") || folded.starts_with("tagmanifest-");
        if !safe || taken || folded == "data" || folded.starts_with("data/") || root.len() + 1 + path.len() > names::MAX_PATH {
            return Err(BundleError::Attachment(path.clone()));
        }
    }

    let mut tags = Tags { zip: ZipWriter::new(out), root: &root, work, listed: BTreeMap::new() };
    tags.bytes("bagit.txt", DECLARATION)?;
    tags.bytes("bag-info.txt", bag_info(report, payload.len() as u64, payload_bytes).as_bytes())?;
    let page = html::PageOptions { previews: &options.previews, link_base: Some("") };
    let page_bytes = tags.write("index.html", |out| html::render_to(report, &page, out))?;
    tags.bytes("LISEZ-MOI.txt", read_me(report).as_bytes())?;
    tags.bytes("index.csv", &index_csv::render(report)?)?;
    tags.write("report.json", |out| report_json(report, out))?;
    tags.bytes("manifest-sha256.txt", manifest.as_bytes())?;
    for (path, attached) in &options.attachments {
        tags.bytes(path, attached)?;
    }
    let mut tagmanifest = String::new();
    for (path, sha256) in &tags.listed {
        let _ = writeln!(tagmanifest, "{sha256}  {path}");
    }
    let tagmanifest_sha256 = hex::encode(Sha256::digest(tagmanifest.as_bytes()));
    tags.bytes("tagmanifest-sha256.txt", tagmanifest.as_bytes())?;

    let mut zip = tags.zip;
    // RFC 8493 §2.1.2 wants the payload directory even when nothing is in it.
    zip.add_directory(format!("{root}/data"), member(0).unix_permissions(0o755))?;
    let mut buffer = vec![0; BUFFER];
    for (path, sha256, size, item) in &payload {
        zip.start_file(format!("{root}/{path}"), member(*size))?;
        copy(item, sha256, *size, sources, &mut zip, &mut buffer, work)?;
    }
    zip.finish()?.flush()?;

    Ok(BundleSummary {
        root,
        payload_files: payload.len() as u64,
        payload_bytes,
        withheld: report.items.iter().filter_map(|i| i.withheld.map(|why| (i.id.clone(), why))).collect(),
        tagmanifest_sha256,
        page_bytes,
    })
}

/// Streams one item, and stops the build where the source gives other bytes than those that were checked.
fn copy(
    item: &ItemReport,
    sha256: &str,
    size: u64,
    sources: &dyn PayloadSource,
    out: &mut impl Write,
    buffer: &mut [u8],
    work: &Work,
) -> Result<(), BundleError> {
    let failed = |source| BundleError::Source { item: item.id.clone(), source };
    let changed = |found: String| BundleError::Changed { item: item.id.clone(), expected: format!("{size} bytes, {sha256}"), found };
    let payload = sources.open(&item.id).map_err(failed)?;
    if payload.size != size || !payload.sha256.eq_ignore_ascii_case(sha256) {
        return Err(changed(format!("{} bytes, {}", payload.size, payload.sha256)));
    }
    // One byte more than expected is enough to know that the source is longer.
    let mut reader = payload.reader.take(size.saturating_add(1));
    let mut hasher = Sha256::new();
    let mut seen = 0_u64;
    loop {
        // Bytes of files are no steps: how many there may be is the intake's to say. It can still be stopped.
        if let Some(why) = work.ended() {
            return Err(why.into());
        }
        let n = match reader.read(buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed(e)),
        };
        seen += n as u64;
        if seen > size {
            return Err(changed(format!("more than {size} bytes")));
        }
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n])?;
    }
    let found = hex::encode(hasher.finalize());
    if seen != size || found != sha256 {
        return Err(changed(format!("{seen} bytes, {found}")));
    }
    Ok(())
}

/// Nothing is deflated. Most proofs are compressed already, and a deflate stream has many spellings of one content:
/// stored, every byte of a bundle is either covered by a digest or fixed by [`super::zip_reader`], so that any changed
/// byte is found, and the bytes do not depend on the version of a compressor.
fn member(size: u64) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        // 1980-01-01 00:00, the earliest that a ZIP can say: it says nothing.
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644)
        .system(System::Unix)
        .large_file(size >= ZIP64_FROM)
}

/// The tag files, written one after the other and hashed on the way.
struct Tags<'a, W: Write + Seek> {
    zip: ZipWriter<W>,
    root: &'a str,
    work: &'a Work,
    /// SHA-256 by path.
    listed: BTreeMap<String, String>,
}

impl<W: Write + Seek> Tags<'_, W> {
    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<u64, BundleError> {
        self.write(path, |out| Ok(out.write_all(bytes)?))
    }

    /// Writes one; returns its size, bytes.
    fn write(
        &mut self,
        path: &str,
        content: impl FnOnce(&mut Limited<'_, &mut ZipWriter<W>>) -> Result<(), BundleError>,
    ) -> Result<u64, BundleError> {
        // None reaches the size from which ZIP64 is needed.
        self.zip.start_file(format!("{}/{path}", self.root), member(0))?;
        let mut out = Limited::new(&mut self.zip, path, largest_tag_file(path), self.work);
        let written = content(&mut out);
        out.checked(written)?;
        let (size, sha256) = out.finish();
        self.listed.insert(path.to_owned(), sha256);
        Ok(size)
    }
}

/// Writes `report.json` as it stands in a bundle to `out`; returns its size, bytes.
///
/// # Errors
/// [`BundleError`]: it would be larger than what is read again, `out` cannot be written, or `work` has ended.
pub fn write_report(report: &Report, out: impl Write, work: &Work) -> Result<u64, BundleError> {
    let mut out = Limited::new(out, "report.json", MAX_REPORT_BYTES, work);
    report_json(report, &mut out)?;
    Ok(out.finish().0)
}

/// `report.json`: indented, keys in declaration order, a line feed at the end.
fn report_json<W: Write>(report: &Report, out: &mut Limited<'_, W>) -> Result<(), BundleError> {
    // JSON comes in pieces of a few bytes.
    let mut buffered = BufWriter::with_capacity(BUFFER, &mut *out);
    let written = serde_json::to_writer_pretty(&mut buffered, report).map_err(BundleError::from);
    let written = written.and_then(|()| Ok(buffered.write_all(b"\n").and_then(|()| buffered.flush())?));
    // What is left in the buffer after a failure goes nowhere.
    let _ = buffered.into_parts();
    out.checked(written)
}

fn bag_info(report: &Report, files: u64, bytes: u64) -> String {
    let mut info = String::new();
    let mut line = |label: &str, value: &str| {
        // One line per value: a name with a line feed must not add a label.
        let value = display_safe(value, 200);
        let value = value.trim();
        if !value.is_empty() {
            let _ = writeln!(info, "{label}: {value}");
        }
    };
    line("Source-Organization", report.candidature.company.as_deref().unwrap_or_default());
    line("External-Description", &format!("{} — {}", report.pipeline.title.fr, report.candidature.number));
    line("External-Identifier", &report.id);
    line("Bag-Group-Identifier", &report.candidature.number);
    // Never the clock of this machine: the day of the deposit, as the submission states it.
    if let Some(day) = report.submitted_at.as_deref().and_then(day) {
        line("Bagging-Date", day);
    }
    line("Payload-Oxum", &format!("{bytes}.{files}"));
    line("Bag-Software-Agent", &report.producer);
    line("BagIt-Profile-Identifier", PROFILE_IDENTIFIER);
    info
}

/// `2026-02-20T11:59:00+01:00` → `2026-02-20`.
fn day(moment: &str) -> Option<&str> {
    let day = moment.get(..10)?;
    day.parse::<jiff::civil::Date>().is_ok().then_some(day)
}

/// For whoever opens the folder without knowing what it is. A byte-order mark and CRLF, for old editors.
fn read_me(report: &Report) -> String {
    let number = display_safe(&report.candidature.number, 60);
    let text = format!(
        "\
Dossier de preuves, candidature {number}
========================================

Ouvrez index.html dans un navigateur : la page fonctionne sans réseau.
index.csv donne la même liste pour un tableur, report.json pour un programme.
Les fichiers déposés sont dans le dossier data, rangés par chapitre, exigence et preuve ;
certains noms ont été simplifiés, les noms d'origine sont dans index.csv.

Extrayez toute l'archive avant d'ouvrir la page, sinon les liens vers les fichiers ne mènent nulle part.

Pour vérifier que rien n'a changé depuis la constitution du dossier :
    greffier verify CHEMIN
ou tout autre outil qui connaît BagIt 1.0 (RFC 8493) :
    bagit.py --validate CHEMIN

Référence : {id}


Evidence bundle, application {number}
=====================================

Open index.html in a browser: the page works without a network.
index.csv holds the same list for a spreadsheet, report.json for a program.
Deposited files are in the data folder, by chapter, requirement and proof;
some names were simplified, the original ones are in index.csv.

Extract the whole archive before opening the page, otherwise links to files lead nowhere.

To check that nothing changed since the bundle was made:
    greffier verify PATH
or any other tool that knows BagIt 1.0 (RFC 8493):
    bagit.py --validate PATH

Reference: {id}
",
        id = report.id
    );
    format!("\u{FEFF}{}", text.replace('\n', "\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_the_submissions_own_or_nothing() {
        assert_eq!(day("2026-02-20T11:59:00+01:00"), Some("2026-02-20"));
        for wrong in ["", "2026-02-30T00:00:00Z", "20/02/2026 12:00", "é2026-02-20"] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}
