//! A folder on disk as a submission: by its own `submission.json`, or by how it is laid out.
//!
//! Plain layout: `candidature.toml` at the top; `<slot folder>/…` for the eligibility slots; anything else is
//! filed under the deepest folder whose name is a proof id (`INS.02/INS.02.01.01/capture.png`). Ids that hold
//! a slash may be nested folders (`DMP/UX.10/…`) or written with `-` or `_` (`DMP-UX.10.01`). Links stand in
//! shortcuts and lists ([`shortcuts`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;

use super::{Source, SourceError, Sources, shortcuts};
use crate::model::distinct::Distinct;
use crate::model::submission::{Candidature, ChangeRequest, Content, FileRef, FiledUnder, Item, LinkRef, SCHEMA, Stage, Submission};
use crate::pipeline::{Loaded, ids};

/// Largest `candidature.toml` that is parsed, bytes. Honest ones have a thousand; a parsed document takes up to a hundred times
/// its size in memory, and the console's server parses what vendors upload.
const MAX_DESCRIPTION: u64 = 64 * 1024;

/// Largest `submission.json` that is parsed, bytes: 5,000 items, what a deposit through the console may have, of 400 bytes.
const MAX_DOCUMENT: u64 = 2 * 1024 * 1024;

/// Deepest nesting of a `submission.json`: twice that of the schema.
const MAX_NESTING: usize = 16;

/// Most items of one folder: a file of links has one for each line.
const MAX_ITEMS: usize = 50_000;

/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 32;

/// Why a submission could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file or folder cannot be read.
    #[error("SUBMISSION-UNREADABLE: {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The document is not what it must be.
    #[error("SUBMISSION-MALFORMED: {path}:{message}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// `line:column: why`, or ` why` where no line is at fault.
        message: String,
    },
}

/// `candidature.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    #[serde(default)]
    demarche: Option<String>,
    #[serde(default)]
    stage: Stage,
    #[serde(default = "first")]
    revision: u32,
    #[serde(default)]
    submitted_at: Option<String>,
    #[serde(default)]
    requests: Vec<ChangeRequest>,
    #[serde(default)]
    candidature: Candidature,
}

fn first() -> u32 {
    1
}

/// What the top of a deposit says of itself, before its items are known.
#[derive(Debug)]
pub struct Opened {
    root: PathBuf,
    document: Document,
}

#[derive(Debug)]
enum Document {
    Submission(Box<Submission>),
    Folder(Box<Description>),
}

/// Reads what `path` says of itself: a submission document, or a folder with one, or a plain folder.
///
/// # Errors
/// [`FolderError`], with line and column for malformed documents.
pub fn open(path: &Path) -> Result<Opened, FolderError> {
    let unreadable = |source| FolderError::Unreadable { path: path.to_owned(), source };
    if path.metadata().map_err(unreadable)?.is_file() {
        // The parent of a bare `submission.json` is the empty path, which no system call takes for the working directory.
        let root = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        return Ok(Opened { root, document: Document::Submission(Box::new(read_submission(path)?)) });
    }
    let document = path.join("submission.json");
    if document.is_file() {
        return Ok(Opened { root: path.to_owned(), document: Document::Submission(Box::new(read_submission(&document)?)) });
    }
    let description = path.join("candidature.toml");
    let described = if description.is_file() {
        let text = read_text(&description, MAX_DESCRIPTION)?;
        toml::from_str(&text).map_err(|e| {
            let (line, column) = position(&text, e.span().map_or(0, |s| s.start));
            FolderError::Malformed { path: description.clone(), message: format!("{line}:{column}: {}", e.message()) }
        })?
    } else {
        Description {
            demarche: None,
            stage: Stage::default(),
            revision: 1,
            submitted_at: None,
            requests: Vec::new(),
            candidature: Candidature::default(),
        }
    };
    Ok(Opened { root: path.to_owned(), document: Document::Folder(Box::new(described)) })
}

fn read_submission(path: &Path) -> Result<Submission, FolderError> {
    parse_submission(&read_text(path, MAX_DOCUMENT)?).map_err(|message| FolderError::Malformed { path: path.to_owned(), message })
}

/// A submission document.
///
/// # Errors
/// `line:column: why`, or ` why` where no line is at fault.
pub fn parse_submission(text: &str) -> Result<Submission, String> {
    if nesting(text) > MAX_NESTING {
        return Err(format!(" nested deeper than {MAX_NESTING}"));
    }
    let submission: Submission = serde_json::from_str(text).map_err(|e| {
        // serde_json repeats the position at the end of its words.
        let words = e.to_string();
        let words = words.split(" at line ").next().unwrap_or_default().to_owned();
        format!("{}:{}: {words}", e.line(), e.column())
    })?;
    if submission.schema != SCHEMA {
        return Err(format!(" schema is `{}`, this version reads `{SCHEMA}`", submission.schema));
    }
    // Everything is told of an item by its id: two of one id would share facts, and one would hide behind the other.
    let mut ids = BTreeSet::new();
    if let Some(twice) = submission.items.iter().find(|item| !ids.insert(item.id.as_str())) {
        return Err(format!("item id `{}` stands twice", twice.id));
    }
    Ok(submission)
}

/// How deep objects and arrays of a JSON text are nested, without parsing it: items are flattened, for which serde keeps whatever
/// it does not know in memory before it can refuse it.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The text of a document of at most `max` bytes; a larger one is refused before it is decoded.
fn read_text(path: &Path, max: u64) -> Result<String, FolderError> {
    let unreadable = |source| FolderError::Unreadable { path: path.to_owned(), source };
    let malformed = |message| FolderError::Malformed { path: path.to_owned(), message };
    let mut bytes = Vec::new();
    let read = File::open(path).map_err(unreadable)?.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > max {
        return Err(malformed(format!(" larger than {max} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|e| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, e.utf8_error())))?;
    // Windows editors begin a file with a byte-order mark.
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}

/// Line and column, from 1, of a byte offset.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

impl Opened {
    /// The folder whose every file is taken for an item; none where a document lists the items.
    pub fn walked(&self) -> Option<&Path> {
        matches!(self.document, Document::Folder(_)).then_some(self.root.as_path())
    }

    /// Id of the démarche, where the deposit names one.
    pub fn demarche(&self) -> Option<&str> {
        match &self.document {
            Document::Submission(s) => Some(&s.demarche),
            Document::Folder(d) => d.demarche.as_deref(),
        }
    }

    /// The submission and where its bytes are.
    ///
    /// # Errors
    /// [`FolderError::Unreadable`] when a folder cannot be listed, [`FolderError::Malformed`] when it has too many items.
    pub fn into_submission(self, loaded: &Loaded) -> Result<(Submission, FolderSources), FolderError> {
        let mut paths = BTreeMap::new();
        let submission = match self.document {
            Document::Submission(submission) => *submission,
            Document::Folder(described) => {
                let mut found = Vec::new();
                walk(&self.root, &self.root, 0, &mut found)?;
                found.sort();
                let mut items = Vec::new();
                let (mut objects, mut ids) = (Distinct::default(), Distinct::default());
                for (relative, path) in found {
                    // Names that are not UTF-8 may look the same once shown: each keeps its own bytes and its own id.
                    let object = objects.give(&relative);
                    for mut item in items_of(loaded, &relative, &path) {
                        item.id = ids.give(&item.id);
                        if let Content::File(file) = &mut item.content {
                            file.object.clone_from(&object);
                        }
                        items.push(item);
                    }
                    if items.len() > MAX_ITEMS {
                        let message = format!(" more than {MAX_ITEMS} files and links");
                        return Err(FolderError::Malformed { path: self.root, message });
                    }
                    paths.insert(object, path);
                }
                // Ids are made of file names, and reports show them.
                crate::assess::privacy::mask_ids(&mut items, &loaded.pipeline.guards.privacy);
                Submission {
                    schema: SCHEMA.into(),
                    demarche: loaded.pipeline.id.clone(),
                    candidature: described.candidature,
                    stage: described.stage,
                    revision: described.revision,
                    submitted_at: described.submitted_at,
                    requests: described.requests,
                    items,
                }
            }
        };
        Ok((submission, FolderSources { root: self.root, paths }))
    }
}

/// Everything below `folder` that somebody deposited: (path with `/`, real path).
fn walk(root: &Path, folder: &Path, depth: usize, found: &mut Vec<(String, PathBuf)>) -> Result<(), FolderError> {
    let unreadable = |source| FolderError::Unreadable { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if shortcuts::is_noise(&name, &path) {
            continue;
        }
        // Not followed: a symbolic link is listed as an item and refused when it is opened.
        let kind = entry.file_type().map_err(unreadable)?;
        // A folder that cannot be listed is an item that cannot be read: the others are looked at all the same.
        if kind.is_dir() && depth < MAX_DEPTH && walk(root, &path, depth + 1, found).is_ok() {
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let relative: Vec<String> = relative.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        let relative = relative.join("/");
        if relative == "candidature.toml" {
            continue;
        }
        found.push((relative, path));
    }
    Ok(())
}

fn items_of(loaded: &Loaded, relative: &str, path: &Path) -> Vec<Item> {
    let mut folders: Vec<&str> = relative.split('/').collect();
    let name = folders.pop().unwrap_or(relative);
    let filed_under = filed_under(loaded, &folders);
    let link = |url: String, n: usize| Item {
        id: if n == 0 { relative.to_owned() } else { format!("{relative}#{n}") },
        filed_under: filed_under.clone(),
        content: Content::Link(LinkRef { url }),
    };
    if let Some(links) = shortcuts::links(name, path) {
        let alone = links.len() == 1 && !shortcuts::is_list(name);
        return links.into_iter().enumerate().map(|(n, url)| link(url, if alone { 0 } else { n + 1 })).collect();
    }
    let file = FileRef { object: relative.to_owned(), name: name.to_owned(), size: None, media_type: None, sha256: None };
    vec![Item { id: relative.to_owned(), filed_under, content: Content::File(file) }]
}

fn filed_under(loaded: &Loaded, folders: &[&str]) -> FiledUnder {
    if let Some(slot) = folders.iter().find_map(|folder| loaded.pipeline.slot_in_folder(folder)) {
        return FiledUnder::Slot(slot.id.clone());
    }
    // The deepest folder wins; of the spellings that end there, the longest (`DMP/UX.10.01`, then `UX.10.01`).
    for end in (1..=folders.len()).rev() {
        for start in 0..end {
            if let Some(preuve) = loaded.preuve(&folders[start..end].join("/")) {
                return FiledUnder::Preuve(preuve.id.clone());
            }
        }
    }
    // Not in the catalogue: filed as it is named, so that the finding can say what is wrong with the name.
    let named = folders.iter().rev().find_map(|f| ids::canonical(f));
    FiledUnder::Preuve(named.or_else(|| folders.last().map(|f| (*f).to_owned())).unwrap_or_default())
}

/// Opens items below one folder, never outside it.
#[derive(Debug)]
pub struct FolderSources {
    root: PathBuf,
    /// Real paths of walked items, whose names may not be UTF-8.
    paths: BTreeMap<String, PathBuf>,
}

impl FolderSources {
    fn resolve(&self, object: &str) -> Result<PathBuf, SourceError> {
        if let Some(path) = self.paths.get(object) {
            return Ok(path.clone());
        }
        let path = Path::new(object);
        let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let somewhere = path.components().any(|c| matches!(c, Component::Normal(_)));
        if !inside || !somewhere {
            return Err(SourceError::NotAFile(object.to_owned()));
        }
        Ok(self.root.join(path))
    }
}

#[async_trait]
impl Sources for FolderSources {
    async fn open(&self, _item: &str, file: &FileRef) -> Result<Source, SourceError> {
        self.open_now(file).map(|file| Source { file, digest: None })
    }
}

impl FolderSources {
    /// Opens the bytes of one file for reading.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn open_now(&self, file: &FileRef) -> Result<File, SourceError> {
        open_file(&self.resolve(&file.object)?, Some(&self.root), &file.object)
    }
}

/// Opens an ordinary file for reading, without following a symbolic link anywhere below `root`.
///
/// # Errors
/// See [`SourceError`].
pub fn open_file(path: &Path, root: Option<&Path>, object: &str) -> Result<File, SourceError> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    // O_NONBLOCK: a FIFO with the name of a proof must not hold the run up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = match root.and_then(|r| path.strip_prefix(r).ok().map(|p| (r, p))) {
        Some((root, relative)) => rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|dir| rustix::fs::openat2(&dir, relative, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH)),
        None => rustix::fs::open(path, flags, Mode::empty()),
    };
    let file = match opened {
        Ok(descriptor) => File::from(descriptor),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(SourceError::Missing(object.to_owned())),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::XDEV | rustix::io::Errno::ISDIR | rustix::io::Errno::NXIO) => {
            return Err(SourceError::NotAFile(object.to_owned()));
        }
        Err(e) => return Err(SourceError::Unreadable { object: object.to_owned(), source: e.into() }),
    };
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(SourceError::NotAFile(object.to_owned())),
        Err(source) => Err(SourceError::Unreadable { object: object.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_never_leaves_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.txt")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("etc")).unwrap();
        let sources = FolderSources { root: dir.path().to_owned(), paths: BTreeMap::new() };
        let open = |object: &str| {
            sources.open_now(&FileRef { object: object.into(), name: "n".into(), size: None, media_type: None, sha256: None })
        };
        assert!(open("a.txt").is_ok());
        for outside in ["/etc/passwd", "../a.txt", "x/../../a.txt", "link.txt", "etc/passwd", "", "."] {
            assert!(matches!(open(outside), Err(SourceError::NotAFile(_))), "{outside}");
        }
        assert!(matches!(open("b.txt"), Err(SourceError::Missing(_))));
    }

    #[test]
    fn a_pipe_with_the_name_of_a_proof_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("capture.png");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(matches!(open_file(&pipe, Some(dir.path()), "capture.png"), Err(SourceError::NotAFile(_))));
    }

    fn items(dir: &Path) -> (Submission, FolderSources) {
        let loaded = crate::pipeline::load(Path::new("pipelines/lgc-vague-2.toml")).unwrap();
        open(dir).unwrap().into_submission(&loaded).unwrap()
    }

    #[test]
    fn links_are_read_in_the_encodings_that_notepad_writes() {
        let dir = tempfile::tempdir().unwrap();
        let utf16 = |s: &str| [0xFF, 0xFE].into_iter().chain(s.encode_utf16().flat_map(u16::to_le_bytes)).collect::<Vec<u8>>();
        std::fs::write(dir.path().join("a.url"), b"[InternetShortcut]\r\nComment=\xe9t\xe9\r\nURL=https://h/a\r\n").unwrap();
        std::fs::write(dir.path().join("b.url"), utf16("URL=https://h/b\r\n")).unwrap();
        std::fs::write(dir.path().join("liens.txt"), "\u{FEFF}https://h/c\r\n").unwrap();
        let (submission, _) = items(dir.path());
        let urls: Vec<_> = submission.items.iter().map(|i| &i.content).collect();
        let link = |url: &str| Content::Link(LinkRef { url: url.into() });
        assert_eq!(urls, [&link("https://h/a"), &link("https://h/b"), &link("https://h/c")]);
    }

    #[test]
    fn names_that_look_the_same_keep_their_own_bytes() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [(&b"x\xfe.png"[..], "1"), (b"x\xff.png", "2")] {
            // Some file systems take UTF-8 only: then there is nothing to confuse.
            if std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), bytes).is_err() {
                return;
            }
        }
        let (submission, sources) = items(dir.path());
        let ids: BTreeSet<_> = submission.items.iter().map(|i| i.id.as_str()).collect();
        assert_eq!(ids.len(), 2, "{ids:?}");
        let mut seen = BTreeSet::new();
        for item in &submission.items {
            let Content::File(file) = &item.content else { panic!("{item:?}") };
            assert_eq!(file.name, "x\u{FFFD}.png");
            let mut text = String::new();
            sources.open_now(file).unwrap().read_to_string(&mut text).unwrap();
            seen.insert(text);
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn a_document_that_names_an_item_twice_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let item = r#"{"id":"a","preuve":"INS.01","link":{"url":"https://h/"}}"#;
        let text = format!(r#"{{"schema":"{SCHEMA}","demarche":"lgc-vague-2","candidature":{{}},"items":[{item},{item}]}}"#);
        std::fs::write(dir.path().join("submission.json"), text).unwrap();
        assert!(matches!(open(dir.path()), Err(FolderError::Malformed { message, .. }) if message.contains("`a` stands twice")));
    }

    #[test]
    fn a_document_that_is_too_large_is_refused_before_it_is_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            let refused = open(dir.path()).err();
            std::fs::remove_file(dir.path().join(name)).unwrap();
            refused.map(|e| e.to_string())
        };
        let toml =
            |bytes: u64| format!("[candidature]\nnumber = \"{}\"", "1".repeat(bytes as usize - "[candidature]\nnumber = \"\"".len()));
        assert_eq!(refused("candidature.toml", &toml(MAX_DESCRIPTION)), None);
        // Malformed from its first byte: the size is what is told.
        let larger = format!("={}", toml(MAX_DESCRIPTION));
        assert!(refused("candidature.toml", &larger).unwrap().ends_with("candidature.toml: larger than 65536 bytes"));
        let larger = "]".repeat(MAX_DOCUMENT as usize + 1);
        assert!(refused("submission.json", &larger).unwrap().ends_with("submission.json: larger than 2097152 bytes"));
        let item = |n: usize| format!(r#"{{"id":"{n}","preuve":"INS.01","file":{{"object":"{n:0100}","name":"n"}}}}"#);
        let items = (0..5_000).map(item).collect::<Vec<_>>().join(",");
        let honest = format!(r#"{{"schema":"{SCHEMA}","demarche":"lgc-vague-2","candidature":{{}},"items":[{items}]}}"#);
        assert_eq!(refused("submission.json", &honest), None, "as many items as a deposit may have");
    }

    #[test]
    fn what_nests_too_deep_is_refused_before_it_is_parsed() {
        let deep =
            |n: usize| format!(r#"{{"schema":"{SCHEMA}","items":[{{"id":"1","preuve":"x","zzz":{}1{}}}]}}"#, "[".repeat(n), "]".repeat(n));
        assert!(parse_submission(&deep(100_000)).unwrap_err().ends_with("nested deeper than 16"));
        assert!(!parse_submission(&deep(MAX_NESTING - 3)).unwrap_err().contains("nested"));
        assert_eq!(nesting(r#"{"a":"[[[\"[[","b":[]}"#), 2, "what stands in a string is text");
    }

    #[test]
    fn a_file_of_links_that_is_too_large_is_an_item_like_any_other() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("liens.txt"), "https://h/\n".repeat(10_000)).unwrap();
        let (submission, _) = items(dir.path());
        assert!(matches!(submission.items.as_slice(), [Item { content: Content::File(file), .. }] if file.name == "liens.txt"));
    }

    #[test]
    fn folders_of_links_have_no_more_items_than_are_allowed() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..2 {
            std::fs::create_dir(dir.path().join(n.to_string())).unwrap();
            std::fs::write(dir.path().join(format!("{n}/liens.txt")), "a\n".repeat(MAX_ITEMS / 2 + n)).unwrap();
        }
        let loaded = crate::pipeline::load(Path::new("pipelines/lgc-vague-2.toml")).unwrap();
        let refused = |dir: &Path| open(dir).unwrap().into_submission(&loaded).err().map(|e| e.to_string());
        assert!(refused(dir.path()).is_some_and(|e| e.contains("more than 50000 files and links")));
        std::fs::write(dir.path().join("1/liens.txt"), "a\n".repeat(MAX_ITEMS / 2)).unwrap();
        assert_eq!(refused(dir.path()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_description_or_document_makes_the_parser_fail(text in "[\\[\\]{}=.,:\"'\\\\a-c0-9\n \u{e9}]{0,300}") {
            let dir = tempfile::tempdir().unwrap();
            for name in ["candidature.toml", "submission.json"] {
                std::fs::write(dir.path().join(name), &text).unwrap();
                let _ = open(dir.path());
            }
        }
    }

    #[test]
    fn positions_count_from_one() {
        assert_eq!(position("ab\ncd", 4), (2, 2));
        assert_eq!(position("", 9), (1, 1));
    }
}
