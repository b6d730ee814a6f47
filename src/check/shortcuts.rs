//! What desktops make of a deposit's folder: shortcuts to web pages, lists of links, and files that are no part of it.
//!
//! 1. A link is taken from whatever a vendor saved it as: a Windows shortcut (`*.url`), a macOS one (`*.webloc`), a line of
//!    `liens.txt`, or a text that holds nothing but addresses.
//! 2. What a desktop leaves behind is passed over only where it is what its name says, so that nothing hides there.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use memchr::memmem;

use crate::inspect::zip::APPLE_DOUBLE;

/// Largest file that is read for links, bytes.
const MAX_LINKS: u64 = 64 * 1024;

/// Files and folders that desktops and version control leave behind, lower case.
const NOISE: &[&str] = &[
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    ".ds_store",
    "__macosx",
    ".git",
    ".svn",
    "~lock",
    ".spotlight-v100",
    ".trashes",
    ".fseventsd",
    ".directory",
    "$recycle.bin",
];

/// Whether the entry `name` at `path` is left behind by a desktop and no part of the deposit.
pub fn is_noise(name: &str, path: &Path) -> bool {
    let lower = name.to_lowercase();
    if NOISE.contains(&lower.as_str()) || lower.starts_with(".~lock") || lower.starts_with("~$") {
        return true;
    }
    // The picture of a folder is in the resource fork, which other systems do not carry: the file itself is empty.
    if lower == "icon\r" || lower == "icon\u{f00d}" {
        return std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == 0);
    }
    lower.starts_with("._") && starts_with(path, APPLE_DOUBLE)
}

fn starts_with(path: &Path, magic: &[u8]) -> bool {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
    let mut head = Vec::new();
    is_file && File::open(path).is_ok_and(|file| file.take(magic.len() as u64).read_to_end(&mut head).is_ok()) && head == magic
}

/// The addresses that a file stands for; `None` where it is a file like any other.
pub fn links(name: &str, path: &Path) -> Option<Vec<String>> {
    let lower = name.to_lowercase();
    if !std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file()) {
        return None;
    }
    if lower.ends_with(".url") {
        return text_of(path)?.lines().find_map(shortcut_url).map(|url| vec![url]);
    }
    if lower.ends_with(".webloc") {
        return webloc_url(&bytes_of(path)?).map(|url| vec![url]);
    }
    if is_list(name) {
        let text = text_of(path)?;
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        // What has no address stays as it is written: the finding shows it.
        return Some(lines.map(|line| address_in(line).unwrap_or(line).to_owned()).collect());
    }
    if lower.ends_with(".txt") {
        let text = text_of(path)?;
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let only_addresses = !lines.is_empty() && lines.iter().all(|line| address_in(line) == Some(*line));
        return only_addresses.then(|| lines.into_iter().map(str::to_owned).collect());
    }
    None
}

/// Whether a file of this name is a list of links, one for each line.
pub fn is_list(name: &str) -> bool {
    ["liens.txt", "links.txt"].iter().any(|list| name.eq_ignore_ascii_case(list))
}

/// The bytes of a file; `None` where it cannot be read or is too large for links: it is then an item like any other, with its
/// own finding.
fn bytes_of(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).ok()?.take(MAX_LINKS + 1).read_to_end(&mut bytes).ok()?;
    (read as u64 <= MAX_LINKS).then_some(bytes)
}

/// The text of a file, whatever its encoding: a vendor's Notepad writes Windows-1252 and UTF-16 too.
fn text_of(path: &Path) -> Option<String> {
    bytes_of(path).map(|bytes| encoding_rs::UTF_8.decode(&bytes).0.into_owned())
}

/// The first web address of a line: « Rapport 1 : https://… ».
fn address_in(line: &str) -> Option<&str> {
    let lower = line.to_ascii_lowercase();
    let start = ["https://", "http://"].iter().filter_map(|scheme| lower.find(scheme)).min()?;
    let address = line.get(start..)?.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '«' | '»')).next()?;
    // Punctuation of the sentence around it.
    Some(address.trim_end_matches([',', ';', ')', '.'])).filter(|address| address.len() > "https://".len())
}

/// `URL=…` of a Windows Internet shortcut.
fn shortcut_url(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    key.trim().eq_ignore_ascii_case("url").then(|| value.trim().to_owned())
}

/// The address in a property list of macOS, XML or binary.
fn webloc_url(bytes: &[u8]) -> Option<String> {
    if bytes.starts_with(b"bplist00") {
        let at = memmem::find(bytes, b"http")?;
        return String::from_utf8(bytes.get(at..at.checked_add(ascii_length_before(bytes, at)?)?)?.to_vec()).ok();
    }
    let text = encoding_rs::UTF_8.decode(bytes).0;
    let (_, after) = text.split_once("<key>URL</key>")?;
    let (_, value) = after.split_once("<string>")?;
    let (value, _) = value.split_once("</string>")?;
    quick_xml::escape::unescape(value.trim()).ok().map(std::borrow::Cow::into_owned)
}

/// Length of the ASCII string of a binary property list whose first character stands at `at`: in the low half of its marker
/// `0x5n`, or after the marker `0x5F` as an integer object of one or two bytes.
fn ascii_length_before(bytes: &[u8], at: usize) -> Option<usize> {
    let before = |n: usize| at.checked_sub(n).and_then(|i| bytes.get(i)).copied();
    if before(3) == Some(0x5F) && before(2) == Some(0x10) {
        return before(1).map(usize::from);
    }
    if before(4) == Some(0x5F) && before(3) == Some(0x11) {
        return Some(usize::from(u16::from_be_bytes([before(2)?, before(1)?])));
    }
    before(1).filter(|marker| (0x50..0x5F).contains(marker)).map(|marker| usize::from(marker & 0x0F))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn links_of(name: &str, bytes: &[u8]) -> Option<Vec<String>> {
        let (_dir, path) = written(name, bytes);
        links(name, &path)
    }

    #[test]
    fn shortcuts_of_both_desktops_give_their_address() {
        assert_eq!(shortcut_url("URL=https://h/evs/report.seam?oid=1.2"), Some("https://h/evs/report.seam?oid=1.2".into()));
        assert_eq!(shortcut_url("IconFile=x"), None);
        let xml = b"<?xml version=\"1.0\"?><plist><dict><key>URL</key>\n<string>https://h/x?a=1&amp;b=2</string></dict></plist>";
        assert_eq!(links_of("a.webloc", xml), Some(vec!["https://h/x?a=1&b=2".into()]));
        let long = format!("https://h/{}", "x".repeat(30));
        let binary = [b"bplist00\xd1\x01\x02\x53URL\x5f\x10".as_slice(), &[long.len() as u8], long.as_bytes(), b"\x08\x0b\x0f"].concat();
        assert_eq!(links_of("a.webloc", &binary), Some(vec![long]));
        assert_eq!(links_of("a.webloc", b"bplist00\xd1\x01\x02\x53URL\x5ahttps://h/\x08"), Some(vec!["https://h/".into()]));
        assert_eq!(links_of("a.webloc", b"not a property list"), None);
    }

    #[test]
    fn a_text_of_addresses_is_links_and_any_other_text_is_a_file() {
        assert_eq!(links_of("lien gazelle.txt", b"https://h/a\r\n\r\n"), Some(vec!["https://h/a".into()]));
        assert_eq!(links_of("deux.TXT", b"https://h/a\nhttp://h/b"), Some(vec!["https://h/a".into(), "http://h/b".into()]));
        assert_eq!(links_of("note.txt", b"voir https://h/a"), None);
        assert_eq!(links_of("vide.txt", b"\n"), None);
        assert_eq!(links_of("journal.log", b"https://h/a"), None);
    }

    #[test]
    fn a_line_of_a_list_may_say_what_its_address_is() {
        let list = "# rapports\nRapport 1 : https://h/a\nhttps://h/b ; passé\n« https://h/c »\nà venir\n";
        assert_eq!(links_of("liens.txt", list.as_bytes()).unwrap(), ["https://h/a", "https://h/b", "https://h/c", "à venir"]);
    }

    #[test]
    fn what_desktops_leave_behind_is_noise_and_nothing_hides_there() {
        let noise = |name: &str, bytes: &[u8]| {
            let (_dir, path) = written(name, bytes);
            is_noise(name, &path)
        };
        assert!(noise("._capture.png", b"\x00\x05\x16\x07\x00\x02") && noise("Icon\r", b"") && noise("Thumbs.db", b"x"));
        assert!(noise("~$rapport.docx", b"x") && noise(".~lock.a.odt#", b"x"));
        assert!(!noise("._capture.png", b"MZ") && !noise("Icon\r", b"MZ") && !noise("capture.png", b"x"));
    }
}
