//! Names inside a bundle: safe to unpack on Windows, macOS and Linux, whatever the vendor called the file.
//!
//! Goals:
//! 1. A name that comes out of here can be created, opened and deleted on NTFS, APFS and ext4, from Explorer and
//!    from a terminal: no reserved device name, no forbidden or invisible character, no trailing dot or space.
//! 2. The same inputs give the same names: collisions are told apart by `-2`, `-3`… in the bundle's canonical
//!    order, and two names that differ only by case or by Unicode form collide.
//! 3. An honest name stays what it was, accents included.
//!
//! Sources: Microsoft « Naming Files, Paths, and Namespaces »; RFC 8493 §2.1.3 (percent-encoding in manifests, which
//! the most used validator does not undo: `%`, CR and LF are therefore renamed); Unicode UAX #9 and #15.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use unicode_normalization::UnicodeNormalization as _;

use crate::model::text::is_unsafe_to_show;

/// Longest component, in UTF-8 bytes. File systems allow 255; checksums, sync tools and suffixes need room.
pub const MAX_COMPONENT: usize = 120;

/// Longest path inside the ZIP, top folder included, in UTF-8 bytes. Windows refuses 260 characters counted from the
/// drive letter, and Explorer still does on most desktops.
pub const MAX_PATH: usize = 240;

/// Device names that Windows gives to a driver whatever extension follows.
const RESERVED: &[&str] = &["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];

/// Extensions that a double click in Explorer, Finder or a file manager runs, installs or opens in a browser with
/// scripts on. None is a format that a proof may have.
const RUNS_WHEN_OPENED: &[&str] = &[
    "apk",
    "app",
    "application",
    "appx",
    "bat",
    "chm",
    "class",
    "cmd",
    "com",
    "command",
    "cpl",
    "desktop",
    "dll",
    "dmg",
    "exe",
    "gadget",
    "hta",
    "htm",
    "html",
    "inf",
    "iso",
    "jar",
    "js",
    "jse",
    "lnk",
    "mht",
    "mhtml",
    "msc",
    "msi",
    "msix",
    "msp",
    "pif",
    "pkg",
    "ps1",
    "psm1",
    "py",
    "pyw",
    "rdp",
    "reg",
    "scf",
    "scr",
    "sct",
    "settingcontent-ms",
    "sh",
    "shtml",
    "svg",
    "swf",
    "sys",
    "url",
    "vb",
    "vbe",
    "vbs",
    "vhd",
    "vhdx",
    "website",
    "wsc",
    "wsf",
    "wsh",
    "xbap",
    "xht",
    "xhtml",
    "xll",
];

/// Whether opening a file of this name from a file manager or a page could run something.
pub fn runs_when_opened(name: &str) -> bool {
    // Judged on the safe name: `a.exe.` and `a.exe ` are `a.exe` to Windows.
    let safe = component(name, "x", MAX_COMPONENT);
    extension(&safe).is_some_and(|e| RUNS_WHEN_OPENED.binary_search(&e.to_ascii_lowercase().as_str()).is_ok())
}

/// A requirement id as a folder name: `DMP/UX.10.01` → `DMP-UX.10.01`.
pub fn id_component(id: &str, fallback: &str, max_bytes: usize) -> String {
    component(&id.replace(['/', '\\'], "-"), fallback, max_bytes)
}

/// One path component made from an untrusted name; `fallback` when nothing is left of it. Idempotent.
/// The result holds at most `max_bytes` bytes (never less than 16 are used).
pub fn component(untrusted: &str, fallback: &str, max_bytes: usize) -> String {
    let cleaned: String = untrusted.nfc().map(replace).collect();
    // NFC may bring back nothing forbidden: every replacement is ASCII and composes with nothing before it.
    let trimmed = cleaned.trim_matches(' ').trim_end_matches(['.', ' ']).trim_start_matches(' ');
    let mut name = if trimmed.is_empty() { fallback.to_owned() } else { trimmed.to_owned() };
    // Hidden on Unix (`.htaccess`), an option to a command (`-rf`), a home directory (`~x`), or a combining mark
    // that would attach itself to the separator before it.
    if name.starts_with(['.', '-', '~']) || name.chars().next().is_some_and(unicode_normalization::char::is_combining_mark) {
        name.insert(0, '_');
    }
    if is_reserved(&name) {
        name.insert(0, '_');
    }
    cap(&name, max_bytes.max(16))
}

fn replace(c: char) -> char {
    match c {
        '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | '%' => '_',
        c if is_unsafe_to_show(c) || is_invisible(c) => '_',
        c if c.is_whitespace() => ' ',
        c => c,
    }
}

/// Characters that take no space, so that two names could look equal, and those no two systems agree on.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}' | '\u{2060}'..='\u{206F}'
        | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFF}' | '\u{E000}'..='\u{F8FF}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{10FFFF}')
        || (u32::from(c) & 0xFFFE) == 0xFFFE
        || matches!(c, '\u{FDD0}'..='\u{FDEF}')
}

fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ').to_uppercase();
    if RESERVED.contains(&stem.as_str()) {
        return true;
    }
    let mut chars = stem.chars();
    let port: String = chars.by_ref().take(3).collect();
    // Windows also reserves the superscript digits (COM¹).
    (port == "COM" || port == "LPT") && matches!((chars.next(), chars.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
}

/// The extension worth keeping when a name is cut: the last one, short and ASCII.
fn extension(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && (1..=18).contains(&extension.len()) && extension.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .then_some(extension)
}

/// `name` cut to `max_bytes`, its extension kept where at least twelve bytes of stem stay: a shorter stem could be
/// cut down to a device name.
fn cap(name: &str, max_bytes: usize) -> String {
    if name.len() <= max_bytes {
        return name.to_owned();
    }
    let tail = extension(name).filter(|e| e.len() + 13 <= max_bytes).map(|e| format!(".{e}")).unwrap_or_default();
    let stem = name.strip_suffix(tail.as_str()).unwrap_or(name);
    let mut kept = prefix(stem, max_bytes - tail.len()).to_owned();
    // Replaced rather than trimmed: `CON` and a hundred spaces must not become `CON`.
    if kept.ends_with(['.', ' ']) {
        kept.pop();
        kept.push('_');
    }
    kept + &tail
}

/// The longest prefix of at most `max_bytes` bytes that ends between characters.
fn prefix(s: &str, max_bytes: usize) -> &str {
    let mut end = s.len().min(max_bytes);
    while !s.is_char_boundary(end) {
        end -= 1;
    }
    &s[..end]
}

/// What two names share when some file system takes them for the same: case and Unicode form folded.
pub fn fold(name: &str) -> String {
    name.nfkc().collect::<String>().to_uppercase().to_lowercase().nfkc().collect()
}

/// Gives out names that no file system confuses, first come first served.
#[derive(Debug, Default)]
pub struct Namer {
    taken: BTreeSet<String>,
    folders: BTreeMap<(String, String), String>,
    /// The next number by series and digits: see [`Namer::take`].
    next: HashMap<(String, u32), u64>,
}

impl Namer {
    /// The folder for `id` under `parent` (a path of this namer, or empty): the same one each time it is asked for,
    /// and never the one of another id.
    pub fn folder(&mut self, parent: &str, id: &str, fallback: &str, max_bytes: usize) -> String {
        let key = (parent.to_owned(), id.to_owned());
        if let Some(path) = self.folders.get(&key) {
            return path.clone();
        }
        let path = self.take(parent, &id_component(id, fallback, max_bytes), max_bytes, false);
        self.folders.insert(key, path.clone());
        path
    }

    /// A path for the file `name` inside `folder`. `max_path` bounds the whole, in bytes.
    pub fn file(&mut self, folder: &str, name: &str, fallback: &str, max_path: usize) -> String {
        let room = max_path.saturating_sub(folder.len() + 1).min(MAX_COMPONENT);
        self.take(folder, &component(name, fallback, room), room, true)
    }

    fn take(&mut self, parent: &str, name: &str, max_bytes: usize, has_extension: bool) -> String {
        let join = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        let path = join(name);
        if self.taken.insert(fold(&path)) {
            return path;
        }
        // Names of one series differ by their number only. The next number is kept for each series, as it is cut to its length:
        // searching from 2 on each time would take quadratic time where thousands of items have one name. A number that was
        // tried is taken for good, so that none is tried twice.
        let mut digits = 1;
        loop {
            let (first, after) = (if digits == 1 { 2 } else { 10_u64.pow(digits - 1) }, 10_u64.pow(digits));
            let (stem, extension) = series(name, digits as usize, max_bytes, has_extension);
            let next = self.next.entry((fold(&join(&format!("{stem}-{extension}"))), digits)).or_insert(first);
            if *next == after {
                digits += 1;
                continue;
            }
            let path = join(&format!("{stem}-{next}{extension}"));
            *next += 1;
            if self.taken.insert(fold(&path)) {
                return path;
            }
        }
    }
}

/// What stands before and after the number where `capture.png` becomes `capture-2.png`, cut so that a number of `digits` fits into
/// `max_bytes`. An id has no extension: `INS.02` → `INS.02-2`.
fn series(name: &str, digits: usize, max_bytes: usize, has_extension: bool) -> (&str, String) {
    let extension = extension(name).filter(|e| has_extension && e.len() + 13 <= max_bytes);
    let (stem, tail) = match extension {
        Some(extension) => (&name[..name.len() - extension.len() - 1], format!(".{extension}")),
        None => (name, String::new()),
    };
    let kept = prefix(stem, max_bytes.saturating_sub(1 + digits + tail.len())).trim_end_matches(['.', ' ']);
    (if kept.is_empty() { "_" } else { kept }, tail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn safe(name: &str) -> String {
        component(name, "fichier", MAX_COMPONENT)
    }

    fn assert_is_safe(name: &str, max: usize) {
        assert!(!name.is_empty() && name.len() <= max, "{name:?}");
        assert!(!name.contains(['<', '>', ':', '"', '/', '\\', '|', '?', '*', '%', '\r', '\n', '\0']), "{name:?}");
        assert!(!name.ends_with(['.', ' ']) && !name.starts_with([' ', '.', '-', '~']), "{name:?}");
        assert!(!name.chars().any(|c| is_unsafe_to_show(c) || is_invisible(c)), "{name:?}");
        assert!(!is_reserved(name), "{name:?}");
        assert_eq!(name.nfc().collect::<String>(), name, "not NFC: {name:?}");
    }

    #[test]
    fn honest_names_stay_as_they_are() {
        for name in
            ["Écran d'accueil n°2 (après).png", "INS.02.01.01 – capture.pdf", "日本語.txt", "archive.tar.gz", "a_b-c+d=e&f#g;h.docx"]
        {
            assert_eq!(safe(name), name);
        }
    }

    #[test]
    fn hostile_names_become_plain_ones() {
        for (hostile, plain) in [
            ("../../etc/passwd", "_.._.._etc_passwd"),
            ("C:\\Windows\\x.dll", "C__Windows_x.dll"),
            ("nul.txt", "_nul.txt"),
            ("NUL", "_NUL"),
            ("com1 .log", "_com1 .log"),
            ("COM¹.png", "_COM¹.png"),
            ("console.png", "console.png"),
            ("a\u{202e}gnp.exe", "a_gnp.exe"),
            ("100%25.png", "100_25.png"),
            ("a\r\nb.png", "a__b.png"),
            ("trailing. . .", "trailing"),
            ("   ", "fichier"),
            ("", "fichier"),
            ("...", "fichier"),
            (".htaccess", "_.htaccess"),
            ("-rf", "_-rf"),
            ("e\u{301}cran.png", "écran.png"),
            ("\u{301}a.png", "_\u{301}a.png"),
            ("a\u{00a0}b.png", "a b.png"),
            ("a\u{200b}b.png", "a_b.png"),
            ("<img src=x onerror=alert(1)>.png", "_img src=x onerror=alert(1)_.png"),
        ] {
            assert_eq!(safe(hostile), plain, "{hostile:?}");
            assert_is_safe(&safe(hostile), MAX_COMPONENT);
        }
    }

    #[test]
    fn long_names_keep_their_extension() {
        let long = safe(&format!("{}.png", "é".repeat(300)));
        assert!(long.len() <= MAX_COMPONENT && long.ends_with("é.png"), "{long}");
    }

    #[test]
    fn proof_ids_with_a_slash_become_one_folder() {
        assert_eq!(id_component("DMP/UX.10.01", "x", MAX_COMPONENT), "DMP-UX.10.01");
    }

    #[test]
    fn names_that_differ_by_case_or_unicode_form_are_told_apart() {
        let mut namer = Namer::default();
        let mut file = |name| namer.file("data", name, "fichier", MAX_PATH);
        assert_eq!(file("Capture.png"), "data/Capture.png");
        assert_eq!(file("capture.PNG"), "data/capture-2.PNG");
        assert_eq!(file("capture-2.png"), "data/capture-2-2.png");
        assert_eq!(file("capture.png"), "data/capture-3.png");
        assert_eq!(file("écran.png"), "data/écran.png");
        assert_eq!(file("e\u{301}cran.png"), "data/écran-2.png");
        assert_eq!(file("Straße"), "data/Straße");
        assert_eq!(file("STRASSE"), "data/STRASSE-2");
    }

    #[test]
    fn thousands_of_items_of_one_name_are_named_in_linear_time() {
        // Names that are cut differ by what the cut removes, and share their series.
        let long = |n: u32| format!("{}{n:05}.png", "x".repeat(MAX_COMPONENT - 9));
        let mut namer = Namer::default();
        let mut seen = BTreeSet::new();
        for n in 0..20_000 {
            assert!(seen.insert(namer.file("data", "capture.png", "fichier", MAX_PATH)));
            assert!(seen.insert(namer.file("data", &long(n / 2), "fichier", MAX_PATH)));
        }
        assert!(seen.contains("data/capture-20000.png"));
        assert!(seen.iter().all(|path| path.len() <= MAX_PATH));
    }

    #[test]
    fn two_ids_never_share_a_folder_and_one_id_always_has_the_same() {
        let mut namer = Namer::default();
        assert_eq!(namer.folder("data", "DMP/UX.10", "x", 40), "data/DMP-UX.10");
        assert_eq!(namer.folder("data", "DMP-UX.10", "x", 40), "data/DMP-UX.10-2");
        assert_eq!(namer.folder("data", "DMP/UX.10", "x", 40), "data/DMP-UX.10");
    }

    #[test]
    fn what_a_double_click_runs_is_known_by_its_name() {
        assert!(RUNS_WHEN_OPENED.is_sorted());
        for name in ["a.exe", "a.EXE", "facture.pdf.js", "a.exe. ", "page.html", "x.settingcontent-ms"] {
            assert!(runs_when_opened(name), "{name}");
        }
        for name in ["a.pdf", "exe", "a.png", "a.xlsx", "a.txt", "js.pdf"] {
            assert!(!runs_when_opened(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_becomes_safe_and_stays_the_same_the_second_time(name in ".*", max in 16usize..200) {
            let once = component(&name, "fichier", max);
            assert_is_safe(&once, max);
            prop_assert_eq!(component(&once, "fichier", max), once);
        }

        #[test]
        fn any_list_of_names_becomes_unique_and_bounded(names in proptest::collection::vec("(\\PC|[aA\u{301}é.\\-2 ]){0,40}", 0..40)) {
            let mut namer = Namer::default();
            let mut seen = BTreeSet::new();
            for name in &names {
                let path = namer.file("data/ins/INS.02", name, "fichier", 80);
                prop_assert!(path.len() <= 80, "{}", path);
                let last = path.rsplit('/').next().unwrap_or_default();
                assert_is_safe(last, 80);
                prop_assert!(seen.insert(fold(&path)), "{} twice", path);
            }
        }
    }
}
