//! ZIP archives: what is inside, and whether everybody who opens them sees the same.
//!
//! Goals:
//! 1. Every member is described by the same inspectors as a file deposited alone, one at a time, under the
//!    one budget of the item.
//! 2. An archive that two programs may unpack differently is told apart: duplicates, overlaps, headers that
//!    contradict each other, names that leave the folder.
//! 3. Nothing is written anywhere: names are data.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;

use super::zip_index::{MAX_MEMBER_BYTES, MemberError, ZipEntry, ZipError, ZipField, ZipIndex, ZipProblem, ZipProblemKind};
use super::zip_methods::{self, BZIP2, DEFLATE64, LZMA, MAX_WINDOW, XZ, ZSTANDARD};
use super::zip_names::{ClashKind, clashes};
use super::{Context, Exceeded};
use crate::model::facts::{ArchiveFacts, Detail, Facts, MemberFacts};
use crate::model::format::Family;
use crate::model::text::is_unsafe_to_show;
use crate::model::{Place, Signal};

/// What no honest archive reaches: this many bytes at this ratio. Deflate alone stops at 1,032:1, so that
/// the second pair means one value repeated over and over; it means the same where a method has no such end (BZIP2, LZMA).
const BOMB_RATIOS: [(u64, u64); 2] = [(100 * 1024 * 1024, 100), (16 * 1024 * 1024, 500)];
/// NTFS, ext4 and APFS: one name of a path.
const MAX_NAME_PIECE: usize = 255;
/// Windows without long paths: the whole path, the folder of extraction not counted.
const MAX_NAME: usize = 240;
/// AppleDouble (RFC 1740): what macOS adds beside every file.
pub(crate) const APPLE_DOUBLE: &[u8] = &[0x00, 0x05, 0x16, 0x07];
/// Names under which Windows starts a program whatever the content looks like.
const SCRIPT_EXTENSIONS: &[&str] =
    &["bat", "cmd", "com", "cpl", "hta", "jse", "lnk", "msc", "pif", "ps1", "psm1", "reg", "scf", "scr", "url", "vbe", "vbs", "wsf", "wsh"];

/// Describes a ZIP archive and, recursively, its members.
pub fn inspect(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    if ctx.depth >= ctx.budget.limits().max_depth {
        Exceeded::Depth.record(facts, &ctx.budget);
        return;
    }
    let index = match ZipIndex::open(bytes) {
        Ok(index) => index,
        Err(error) => {
            facts.push(unreadable(error, bytes));
            facts.detail = Some(Detail::Archive(ArchiveFacts::default()));
            return;
        }
    };
    let mut archive = ArchiveFacts { entries: index.count, ..ArchiveFacts::default() };
    for problem in &index.problems {
        if let Some(signal) = describe(problem, &index) {
            facts.push(signal);
        }
    }
    describe_names(&index, ctx.budget.limits().max_members, facts);
    let before = ctx.budget.inflated();
    if let Err(exceeded) = read_members(&index, ctx, facts, &mut archive) {
        exceeded.record(facts, &ctx.budget);
    }
    let inflated = ctx.budget.inflated().saturating_sub(before);
    let ratio = inflated / (bytes.len() as u64).max(1);
    if BOMB_RATIOS.iter().any(|(size, times)| inflated >= *size && ratio >= *times) {
        facts.push(Signal::new("zip-bomb-ratio").arg("size_bytes", bytes.len()).arg("inflated_bytes", inflated).arg("ratio", ratio));
    }
    describe_layout(&index, facts, &mut archive);
    facts.detail = Some(Detail::Archive(archive));
}

/// The signal of an archive without a readable directory.
fn unreadable(error: ZipError, bytes: &[u8]) -> Signal {
    // §8.5.3: the first volume starts with this marker.
    let first_volume = bytes.starts_with(b"PK\x07\x08");
    match error {
        ZipError::NoEnd if first_volume => Signal::new("zip-split"),
        ZipError::NoEnd => Signal::new("zip-no-directory").arg("size_bytes", bytes.len()),
        ZipError::Split => Signal::new("zip-split"),
        ZipError::NoDirectory { byte } => Signal::new("zip-directory-damaged").at(Place::byte(byte)).arg("entries", 0),
        ZipError::DirectoryDamaged { entries, byte } => Signal::new("zip-directory-damaged").at(Place::byte(byte)).arg("entries", entries),
    }
}

/// The signal of one structural problem; `None` where every common tool reads on and reads the same.
fn describe(problem: &ZipProblem, index: &ZipIndex<'_>) -> Option<Signal> {
    let mut place = Place::byte(problem.byte);
    if let Some(entry) = problem.entry.and_then(|i| index.entries.get(i)) {
        place = place.inside(&entry.name);
    }
    let signal = match problem.kind {
        ZipProblemKind::LocalHeaderMissing | ZipProblemKind::DataOutside => Signal::new("zip-member-missing"),
        ZipProblemKind::HeadersDisagree(ZipField::Date) => Signal::new("zip-irregular").arg("field", ZipField::Date.as_str()),
        ZipProblemKind::HeadersDisagree(field) => Signal::new("zip-headers-disagree").arg("field", field.as_str()),
        ZipProblemKind::DescriptorDisagrees => Signal::new("zip-headers-disagree").arg("field", "data descriptor"),
        ZipProblemKind::Comment => Signal::new("zip-irregular").arg("field", "file comment"),
        ZipProblemKind::ExtraField => Signal::new("zip-extra-field"),
        ZipProblemKind::ExtraPadding => return None,
        ZipProblemKind::Overlap => Signal::new("zip-overlap"),
        ZipProblemKind::Gap => Signal::new("zip-hidden-data").arg("hidden_bytes", index.hidden),
        ZipProblemKind::GapBeforeEnd => Signal::new("zip-directory-disagrees").arg("field", ZipField::DirectorySize.as_str()),
        ZipProblemKind::EndDisagrees(field) => Signal::new("zip-directory-disagrees").arg("field", field.as_str()),
        ZipProblemKind::SecondEnd => Signal::new("zip-directory-disagrees").arg("field", "end of central directory record"),
        // Line ends and zeros that mail programs, transfers and tape blocks leave: every program reads on.
        ZipProblemKind::Trailing if index.trailing_is_padding() => return None,
        ZipProblemKind::Trailing => Signal::new("zip-trailing-data").arg("trailing_bytes", index.trailing),
        ZipProblemKind::Leading => Signal::new("zip-leading-data").arg("leading_bytes", index.leading),
        ZipProblemKind::NulInName => Signal::new("zip-name-nul"),
        ZipProblemKind::NameEncoding => Signal::new("zip-name-encoding"),
        // The budget of members is far lower and says so.
        ZipProblemKind::TooManyEntries => return None,
    };
    Some(signal.at(place))
}

/// Names that escape, that hide, that no file system takes, that come twice.
/// Past the budget of members the archive is refused anyway.
fn describe_names(index: &ZipIndex<'_>, max_members: u64, facts: &mut Facts) {
    let mut exact: BTreeMap<&str, u32> = BTreeMap::new();
    let mut folded: BTreeMap<String, &str> = BTreeMap::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut names: Vec<&str> = Vec::new();
    for entry in index.entries.iter().take(usize::try_from(max_members).unwrap_or(usize::MAX)) {
        let name = entry.name.as_str();
        let at = || Place::member(name);
        if let Some(how) = escapes(name) {
            facts.push(Signal::new("zip-name-escapes").at(at()).arg("how", how));
        } else if name.contains('\\') {
            facts.push(Signal::new("zip-name-backslash").at(at()));
        }
        // NUL has its own signal, from the index.
        if name.chars().any(|c| c != '\0' && is_unsafe_to_show(c)) {
            facts.push(Signal::new("zip-name-control").at(at()));
        }
        if is_unportable(name) {
            facts.push(Signal::new("zip-name-unportable").at(at()));
        }
        let seen = exact.entry(name).or_default();
        *seen += 1;
        if *seen == 2 {
            facts.push(Signal::new("zip-duplicate-name").at(at()));
        } else if *seen == 1 {
            // As Windows and macOS compare names: composed, case folded, one kind of slash.
            let key = name.nfc().collect::<String>().to_lowercase().replace('\\', "/").trim_end_matches('/').to_owned();
            if let Some(other) = folded.insert(key, name).filter(|other| other.ends_with('/') == name.ends_with('/')) {
                facts.push(Signal::new("zip-duplicate-case").at(at()).arg("other", other));
                told.insert(name);
            }
        }
        if entry.is_symlink() {
            facts.push(Signal::new("zip-symlink").at(at()));
        }
        names.push(name);
    }
    for clash in clashes(&names) {
        let (Some(name), Some(other)) = (names.get(clash.entry), names.get(clash.other)) else { continue };
        let signal = match clash.kind {
            ClashKind::SamePath if told.contains(name) => continue,
            ClashKind::SamePath => Signal::new("zip-duplicate-path"),
            ClashKind::FileAndFolder => Signal::new("zip-file-and-folder"),
        };
        facts.push(signal.at(Place::member(*name)).arg("other", *other));
    }
}

/// How a name leaves the folder it is extracted to; `None` when it stays.
fn escapes(name: &str) -> Option<&'static str> {
    let slashed = name.replace('\\', "/");
    let mut chars = slashed.chars();
    if slashed.starts_with('/') {
        return Some("/");
    }
    if chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':') {
        return Some("C:");
    }
    slashed
        .split('/')
        .any(|piece| piece == ".." || (piece.starts_with("..") && piece.trim_end_matches([' ', '.']).is_empty()))
        .then_some("..")
}

/// Whether Windows refuses the name, or changes it.
fn is_unportable(name: &str) -> bool {
    const DEVICES: &[&str] = &["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let reserved = |piece: &str| {
        let stem = piece.split('.').next().unwrap_or(piece).trim_end().to_ascii_uppercase();
        let numbered =
            |prefix: &str| stem.strip_prefix(prefix).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit() && n != "0");
        DEVICES.contains(&stem.as_str()) || numbered("COM") || numbered("LPT")
    };
    name.is_empty()
        || name.chars().count() > MAX_NAME
        || name.split(['/', '\\']).any(|piece| {
            piece.chars().count() > MAX_NAME_PIECE
                || reserved(piece)
                || piece.contains(['<', '>', ':', '"', '|', '?', '*'])
                || (piece != "." && piece != ".." && piece.ends_with([' ', '.']))
        })
}

/// Pictures whose facts are kept while an archive is read.
const MAX_KNOWN_PICTURES: usize = 256;

/// Reads members one at a time; each is dropped before the next.
fn read_members(index: &ZipIndex<'_>, ctx: &mut Context, facts: &mut Facts, archive: &mut ArchiveFacts) -> Result<(), Exceeded> {
    let xdm = is_xdm(index);
    let mut files = 0u64;
    let mut pictures: BTreeMap<[u8; 32], Facts> = BTreeMap::new();
    for entry in &index.entries {
        ctx.budget.member()?;
        if entry.is_dir() {
            continue;
        }
        if is_finder_noise(index, entry) {
            continue;
        }
        files += 1;
        let mut member = MemberFacts { name: entry.name.clone(), compressed: entry.compressed, ..MemberFacts::default() };
        let at = || Place::member(entry.name.as_str());
        if has_script_name(&entry.name) {
            facts.push(Signal::new("zip-script-member").at(at()));
        }
        match index.member(entry, ctx) {
            Ok(content) => {
                if content.unused > 0 {
                    facts.push(Signal::new("zip-member-damaged").at(at()));
                }
                // Windows makes Deflate64 by itself and opens it, so that there is nothing to tell whoever verifies on it. An XDM
                // medium goes to programs of others besides, and the library most of them are made with (java.util.zip) does not.
                if zip_methods::is_uncommon(entry.method) || (xdm && entry.method == DEFLATE64) {
                    facts.push(Signal::new("zip-method-uncommon").at(at()).arg("method", method_name(entry.method)));
                }
                let content = content.bytes;
                archive.inflated = archive.inflated.saturating_add(content.len() as u64);
                member.size = Some(content.len() as u64);
                let digest: [u8; 32] = Sha256::digest(&content).into();
                member.sha256 = Some(hex::encode(digest));
                // A link's content is the path it points to, not a document.
                if content.is_empty() && !entry.is_symlink() {
                    // Ordinary in archives (markers, package files); a whole deposit that is empty is another matter.
                    let mut nothing = Facts::of_size(0);
                    nothing.push(Signal::new("zip-member-empty"));
                    member.facts = Some(Box::new(nothing));
                } else if !entry.is_symlink() {
                    ctx.depth += 1;
                    // The same picture, such as a logo in each folder, is decoded once. Its facts are small, unlike those of
                    // documents, which hold text that the budget counts.
                    let mut inner = match pictures.get(&digest) {
                        Some(known) => known.clone(),
                        None => super::inspect(&content, ctx),
                    };
                    if inner.format.is_some_and(|f| f.family() == Family::Image) && pictures.len() < MAX_KNOWN_PICTURES {
                        pictures.entry(digest).or_insert_with(|| inner.clone());
                    }
                    // Data beside a document is ordinary in an archive; deposited alone it would prove nothing.
                    for signal in &mut inner.signals {
                        let softened = match signal.code.as_str() {
                            "file-unknown-format" => Signal::new("zip-member-unknown-format"),
                            // The lock that Word or Excel leaves beside a document that is open while the folder is zipped.
                            "file-office-lock" if is_lock_name(&entry.name) => Signal::new("zip-member-office-lock"),
                            _ => continue,
                        };
                        *signal = Signal { args: std::mem::take(&mut signal.args), ..softened };
                    }
                    member.facts = Some(Box::new(inner));
                    ctx.depth -= 1;
                }
            }
            Err(MemberError::Exceeded(exceeded)) => {
                archive.members.push(member);
                return Err(exceeded);
            }
            // The index has already told where its bytes should stand.
            Err(MemberError::Missing) => {}
            Err(error) => facts.push(failure(error).at(at())),
        }
        archive.members.push(member);
    }
    if files == 0 {
        facts.push(Signal::new("zip-empty").arg("entries", index.count));
    }
    Ok(())
}

/// The signal of a member that could not be read.
fn failure(error: MemberError) -> Signal {
    match error {
        MemberError::Encrypted => Signal::new("zip-encrypted"),
        MemberError::Unsupported(method) => Signal::new("zip-method-unsupported").arg("method", method_name(method)),
        MemberError::Window { method, bytes } => Signal::new("zip-method-unsupported")
            .arg("method", method_name(method))
            .arg("window_bytes", bytes)
            .arg("limit_bytes", MAX_WINDOW),
        MemberError::Size { declared, real } => Signal::new("zip-member-size").arg("declared_bytes", declared).arg("real_bytes", real),
        MemberError::TooLarge => Signal::new("zip-member-too-large").arg("limit_bytes", MAX_MEMBER_BYTES),
        // `Missing` and `Exceeded` are described elsewhere: by the index, by the budget.
        MemberError::Damaged | MemberError::Crc | MemberError::Missing | MemberError::Exceeded(_) => Signal::new("zip-member-damaged"),
    }
}

/// Compression methods by number (§4.4.5).
fn method_name(method: u16) -> String {
    let name = match method {
        1 => "Shrink",
        6 => "Implode",
        DEFLATE64 => "Deflate64",
        BZIP2 => "BZIP2",
        LZMA => "LZMA",
        ZSTANDARD => "Zstandard",
        XZ => "XZ",
        96 => "JPEG",
        97 => "WavPack",
        98 => "PPMd",
        _ => return method.to_string(),
    };
    format!("{name} ({method})")
}

/// What macOS adds beside every file; only where the content is really that, so that nothing hides there.
fn is_finder_noise(index: &ZipIndex<'_>, entry: &ZipEntry) -> bool {
    let file = entry.name.rsplit('/').next().unwrap_or_default();
    if file == ".DS_Store" {
        return index.peek(entry, 8).starts_with(b"\x00\x00\x00\x01Bud1");
    }
    file.starts_with("._") && index.peek(entry, 4) == APPLE_DOUBLE
}

/// Names that the office suites give to their locks: Microsoft's (`~$rapport.docx`), LibreOffice's (`.~lock.rapport.odt#`).
fn is_lock_name(name: &str) -> bool {
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    file.starts_with("~$") || file.starts_with(".~lock.")
}

fn has_script_name(name: &str) -> bool {
    name.trim_end_matches([' ', '.'])
        .rsplit_once('.')
        .is_some_and(|(_, extension)| SCRIPT_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// A name as IHE XDM compares them.
fn xdm_name(entry: &ZipEntry) -> String {
    entry.name.to_ascii_uppercase().replace('\\', "/")
}

fn is_xdm(index: &ZipIndex<'_>) -> bool {
    index.entries.iter().any(|e| xdm_name(e).starts_with("IHE_XDM/"))
}

/// IHE XDM (ITI TF-2 §3.32.4.1.2): `INDEX.HTM`, `README.TXT` and `IHE_XDM/SUBSET01/METADATA.XML`.
fn describe_layout(index: &ZipIndex<'_>, facts: &mut Facts, archive: &mut ArchiveFacts) {
    if !is_xdm(index) {
        return;
    }
    let names: BTreeSet<String> = index.entries.iter().map(xdm_name).collect();
    let metadata = names.iter().any(|n| n.starts_with("IHE_XDM/") && n.ends_with("/METADATA.XML"));
    let missing: Vec<&str> = [
        (names.contains("INDEX.HTM"), "INDEX.HTM"),
        (names.contains("README.TXT"), "README.TXT"),
        (metadata, "IHE_XDM/SUBSET01/METADATA.XML"),
    ]
    .into_iter()
    .filter_map(|(present, name)| (!present).then_some(name))
    .collect();
    archive.layout = Some("ihe-xdm".to_owned());
    if !missing.is_empty() {
        facts.push(Signal::new("zip-xdm-incomplete").arg("missing", missing.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::inspect::zip_index::tests::{archive, replace, stored};
    use crate::inspect::{Limits, inspect as inspect_any};
    use crate::model::Format;

    fn facts(bytes: &[u8]) -> Facts {
        inspect_any(bytes, &mut Context::new(Limits::default()))
    }

    fn codes(facts: &Facts) -> Vec<&str> {
        facts.signals.iter().map(|s| s.code.as_str()).collect()
    }

    #[test]
    fn members_are_described_like_files_deposited_alone() {
        let facts = facts(&archive(&[("dossier/note.txt", b"hello"), ("b.txt", b"")]));
        assert!(facts.signals.is_empty(), "{:?}", facts.signals);
        let [note, empty] = facts.members() else { panic!("two members") };
        assert_eq!(note.sha256.as_deref(), Some("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"));
        assert_eq!(note.facts.as_ref().unwrap().format, Some(Format::Txt));
        assert!(empty.facts.as_ref().unwrap().has("zip-member-empty"));
    }

    #[test]
    fn names_that_escape_hide_or_collide_are_told() {
        let told = |name: &str| {
            let placeholder = "x".repeat(name.len());
            let bytes = replace(&archive(&[(&placeholder, b"1")]), placeholder.as_bytes(), name.as_bytes());
            codes(&facts(&bytes)).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        for name in ["../evil", "/etc/passwd", "C:\\evil", "a/../../b", "..\\evil", "\\\\server\\share"] {
            assert!(told(name).contains(&"zip-name-escapes".to_owned()), "{name}");
        }
        assert_eq!(told("dir\\file.txt"), ["zip-name-backslash"]);
        assert_eq!(told("a\u{202e}fdp.txt"), ["zip-name-control"]);
        assert_eq!(told("aux.txt"), ["zip-name-unportable"]);
        assert_eq!(told("what?.txt"), ["zip-name-unportable"]);
        assert_eq!(told("run.bat"), ["zip-script-member"]);
        for name in ["a..b/c...d.txt", "com0.txt", "auxiliaire.txt", "compte rendu (v1.2) été.txt", "./a.txt"] {
            assert!(told(name).is_empty(), "{name}: {:?}", told(name));
        }
    }

    #[test]
    fn the_same_name_twice_is_told_with_and_without_case() {
        let two = archive(&[("file1", b"1"), ("file2", b"2")]);
        assert_eq!(codes(&facts(&replace(&two, b"file2", b"file1"))), ["zip-duplicate-name"]);
        assert_eq!(codes(&facts(&replace(&two, b"file2", b"FILE1"))), ["zip-duplicate-case"]);
    }

    #[test]
    fn names_that_are_one_path_and_files_that_are_folders_are_told() {
        let told = |names: &[&str]| {
            let members: Vec<(&str, &[u8])> = names.iter().map(|n| (*n, b"1".as_slice())).collect();
            let signals = facts(&archive(&members)).signals;
            signals.into_iter().map(|s| (s.code.as_str().to_owned(), s.place.members.concat(), s.args)).collect::<Vec<_>>()
        };
        for (names, code) in [
            (["a/b", "a//b"], "zip-duplicate-path"),
            (["a/b", "a/./b"], "zip-duplicate-path"),
            (["a", "./a"], "zip-duplicate-path"),
            (["a/x", "a"], "zip-file-and-folder"),
        ] {
            let told = told(&names);
            assert_eq!(told.len(), 1, "{names:?}: {told:?}");
            assert_eq!((told[0].0.as_str(), told[0].1.as_str()), (code, names[1]));
            assert!(format!("{:?}", told[0].2).contains(names[0]), "both names are said: {told:?}");
        }
        assert!(told(&["a/b", "a/c", "ab", "a.txt"]).is_empty());
    }

    #[test]
    fn an_archive_of_folders_and_finder_noise_is_empty() {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_directory("d/", SimpleFileOptions::default()).unwrap();
        writer.start_file("__MACOSX/._a", SimpleFileOptions::default()).unwrap();
        writer.write_all(&[0, 5, 22, 7, 0, 2, 0, 0]).unwrap();
        assert_eq!(codes(&facts(&writer.finish().unwrap().into_inner())), ["zip-empty"]);
        assert_eq!(codes(&facts(&archive(&[]))), ["zip-empty"]);
        let hidden = facts(&archive(&[("__MACOSX/._a", b"MZ not AppleDouble")]));
        assert_eq!(hidden.members().len(), 1, "what is not AppleDouble does not hide behind its name");
    }

    #[test]
    fn a_lock_of_office_beside_a_document_is_a_notice() {
        let mut lock = vec![0u8; 162];
        lock[0] = 5;
        lock[1..6].copy_from_slice(b"Alice");
        // The length of the name again, before the name in UTF-16.
        lock[54] = 5;
        let told = |name: &str| {
            let facts = facts(&archive(&[("note.txt", b"bonjour"), (name, &lock)]));
            facts.members()[1].facts.as_ref().unwrap().signals.iter().map(|s| s.code.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told("dossier/~$rapport.docx"), ["zip-member-office-lock"]);
        assert_eq!(told("rapport.docx"), ["file-office-lock"], "a lock that bears the name of the document was put in its place");
    }

    #[test]
    fn padding_behind_an_archive_is_nothing_and_anything_else_is_told() {
        let sound = archive(&[("note.txt", b"bonjour")]);
        for padding in [&b"\n"[..], b"\r\n", &[0; 512], b"\r\n\x1a"] {
            assert!(facts(&[&sound[..], padding].concat()).signals.is_empty());
        }
        assert_eq!(codes(&facts(&[&sound[..], b"\nMZ"].concat())), ["zip-trailing-data"]);
    }

    #[test]
    fn links_and_programs_are_told() {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        writer.start_file("tool", SimpleFileOptions::default()).unwrap();
        writer.write_all(b"\x7FELF and more").unwrap();
        let facts = facts(&writer.finish().unwrap().into_inner());
        assert_eq!(codes(&facts), ["zip-symlink"]);
        assert!(facts.has_anywhere("file-executable"));
    }

    #[test]
    fn archives_are_opened_down_to_the_limit_of_depth() {
        let mut bytes = archive(&[("a.txt", b"deep")]);
        for _ in 0..5 {
            bytes = stored(&[("inner.zip", &bytes)]);
        }
        let facts = facts(&bytes);
        assert!(facts.signals.is_empty() && facts.has_anywhere("bomb-depth"));
        let shallow = Limits { max_depth: 1, ..Limits::default() };
        let one = inspect_any(&archive(&[("a.txt", b"x")]), &mut Context::new(shallow));
        assert!(!one.has_anywhere("bomb-depth"), "one level is the item itself");
    }

    #[test]
    fn a_bomb_is_told_by_its_ratio_and_by_the_budget() {
        let zeros = vec![0u8; 20 * 1024 * 1024];
        let bomb = archive(&[("zeros", &zeros)]);
        assert_eq!(codes(&facts(&bomb)), ["zip-bomb-ratio"]);
        let tight = Limits { max_inflated_bytes: 1024 * 1024, ..Limits::default() };
        let facts = inspect_any(&bomb, &mut Context::new(tight));
        assert_eq!(codes(&facts), ["bomb-inflated"]);
        let many: Vec<(String, &[u8])> = (0..30).map(|n| (n.to_string(), b"x".as_slice())).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(n, c)| (n.as_str(), *c)).collect();
        let few = Limits { max_members: 10, ..Limits::default() };
        assert_eq!(codes(&inspect_any(&archive(&many), &mut Context::new(few))), ["bomb-members"]);
    }

    #[test]
    fn an_xdm_archive_is_recognised_and_must_be_complete() {
        let members: [(&str, &[u8]); 4] = [
            ("INDEX.HTM", b"<html>"),
            ("README.TXT", b"x"),
            ("IHE_XDM/SUBSET01/METADATA.XML", b"<?xml version='1.0'?><a/>"),
            ("IHE_XDM/SUBSET01/DOC.XML", b"<?xml version='1.0'?><a/>"),
        ];
        let layout = |f: &Facts| match &f.detail {
            Some(Detail::Archive(archive)) => archive.layout.clone(),
            _ => None,
        };
        let complete = facts(&archive(&members));
        assert_eq!(layout(&complete).as_deref(), Some("ihe-xdm"));
        assert!(complete.signals.is_empty());
        assert_eq!(codes(&facts(&archive(&members[2..]))), ["zip-xdm-incomplete"]);
        assert_eq!(layout(&facts(&archive(&[("a.txt", b"x")]))), None);
    }

    #[test]
    fn a_cut_archive_is_told_as_such() {
        let bytes = archive(&[("a.txt", b"some content"), ("b.txt", b"more")]);
        let facts = facts(&bytes[..bytes.len() - 30]);
        assert_eq!(facts.format, Some(Format::Zip));
        assert_eq!(codes(&facts), ["zip-no-directory"]);
    }

    #[test]
    fn both_ends_of_a_split_archive_are_told_as_such() {
        let whole = stored(&[("a.bin", &[1, 2, 3, 0, 0, 0, 7, 8]), ("b.bin", &[0; 50])]);
        let first = [b"PK\x07\x08", &whole[..60]].concat();
        let mut last = whole[50..].to_vec();
        let end = memchr::memmem::rfind(&last, b"PK\x05\x06").unwrap();
        last[end + 4] = 1;
        for volume in [first, last] {
            let facts = facts(&volume);
            assert_eq!((facts.format, codes(&facts)), (Some(Format::Zip), vec!["zip-split"]));
        }
    }

    #[test]
    fn every_code_of_the_two_rooms_has_its_message() {
        let sources = [include_str!("zip.rs"), include_str!("../identify/mod.rs"), include_str!("../identify/polyglot.rs")];
        for source in sources {
            for code in source.split("Signal::new(\"").skip(1).filter_map(|s| s.split('"').next()) {
                assert!(crate::model::messages::all().contains_key(code), "{code}");
            }
        }
    }
}
