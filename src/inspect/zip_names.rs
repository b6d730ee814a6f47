//! Names of a container that are one and the same file once it is unpacked, although no two of them are equal.
//!
//! Empty and `.` segments mean nothing in a path (POSIX.1-2017 §4.13), Windows ignores dots and spaces at the end of a name, and
//! Windows and macOS compare names composed and without case. Nor can a file be the folder of another. Unpacked, one of two such
//! entries replaces the other or cannot be written, and which one depends on the tool.

use unicode_normalization::UnicodeNormalization as _;

/// Two entries that cannot both be unpacked, by their positions in the list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clash {
    /// The later of the two entries; the file, where the other needs it to be a folder.
    pub entry: usize,
    /// The other.
    pub other: usize,
    /// What is wrong.
    pub kind: ClashKind,
}

/// Why two entries cannot both be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClashKind {
    /// Both are the same file.
    SamePath,
    /// One is a file, and the folder of the other.
    FileAndFolder,
}

/// The segments of `name` as file systems compare them, joined by NUL, which sorts before every character: whatever stands in a
/// folder then follows the folder itself at once.
fn key(name: &str) -> String {
    let composed: String = name.nfc().collect::<String>().to_lowercase();
    let mut key = String::with_capacity(composed.len());
    for segment in composed.split(['/', '\\']).map(|s| s.trim_end_matches([' ', '.'])).filter(|s| !s.is_empty()) {
        if !key.is_empty() {
            key.push('\0');
        }
        key.push_str(segment);
    }
    key
}

/// The clashes among `names`, each as the container writes it, in the order of the names they concern. Equal names are not
/// among them: they have a finding of their own. Folders (names that end with a slash) may come as often as they like.
pub fn clashes(names: &[&str]) -> Vec<Clash> {
    let is_folder = |i: usize| names.get(i).is_some_and(|n| n.ends_with(['/', '\\']));
    let mut sorted: Vec<(String, usize)> = names.iter().enumerate().map(|(i, n)| (key(n), i)).filter(|(k, _)| !k.is_empty()).collect();
    sorted.sort_unstable();
    let mut found = Vec::new();
    // The last file seen among entries of the key at hand, and the last folder.
    let (mut file, mut folder): (Option<usize>, Option<usize>) = (None, None);
    let mut last = "";
    for (key, i) in &sorted {
        let i = *i;
        if key != last {
            let inside = !last.is_empty() && key.strip_prefix(last).is_some_and(|rest| rest.starts_with('\0'));
            if let Some(file) = file.filter(|_| inside) {
                found.push(Clash { entry: file, other: i, kind: ClashKind::FileAndFolder });
            }
            (file, folder) = (None, None);
            last = key;
        }
        if is_folder(i) {
            if let Some(file) = file {
                found.push(Clash { entry: file, other: i, kind: ClashKind::FileAndFolder });
            }
            folder = Some(i);
        } else {
            if let Some(folder) = folder {
                found.push(Clash { entry: i, other: folder, kind: ClashKind::FileAndFolder });
            }
            if let Some(file) = file.filter(|f| names.get(*f) != names.get(i)) {
                found.push(Clash { entry: i, other: file, kind: ClashKind::SamePath });
            }
            file = Some(i);
        }
    }
    found.sort_unstable_by_key(|c| (c.entry, c.other));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(names: &[&str]) -> Vec<ClashKind> {
        clashes(names).into_iter().map(|c| c.kind).collect()
    }

    #[test]
    fn names_that_differ_in_what_paths_ignore_are_the_same_file() {
        for pair in [["a/b", "a//b"], ["a/b", "a/./b"], ["a", "./a"], ["a/b", "a\\b"], ["a./b", "a/b "], ["É.txt", "e\u{301}.TXT"]] {
            assert_eq!(clashes(&pair), [Clash { entry: 1, other: 0, kind: ClashKind::SamePath }], "{pair:?}");
        }
        assert_eq!(kinds(&["a", "./a", ".//a"]), [ClashKind::SamePath; 2]);
    }

    #[test]
    fn a_file_is_no_folder_of_another() {
        assert_eq!(clashes(&["rapport", "rapport/x"]), [Clash { entry: 0, other: 1, kind: ClashKind::FileAndFolder }]);
        assert_eq!(kinds(&["rapport/x/y", "Rapport"]), [ClashKind::FileAndFolder]);
        assert_eq!(kinds(&["rapport/", "rapport"]), [ClashKind::FileAndFolder]);
        assert_eq!(kinds(&["rapport", "rapport !", "rapport/x"]), [ClashKind::FileAndFolder], "names that sort in between");
    }

    #[test]
    fn honest_archives_have_no_clash() {
        assert_eq!(kinds(&["d/", "d/e/", "d/e/f.txt", "d/e/", "./", "d/ef", "d.txt", "d/e.txt"]), []);
        assert_eq!(kinds(&["a", "a"]), [], "equal names have a finding of their own");
        assert_eq!(kinds(&["rapport.pdf", "rapport/annexe.pdf", "rapport-2/annexe.pdf"]), []);
    }
}
