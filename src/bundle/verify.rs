//! Checks a bundle again, offline: a ZIP or the folder it was unpacked to, ours or any other BagIt bag.
//!
//! Goals:
//! 1. **Every problem is named with its file**, not only the first: missing, extra, changed, renamed.
//! 2. **Nothing is trusted**: the ZIP has one reading only ([`super::zip_reader`]), no path leaves the bag, no link
//!    is followed, nothing is fetched, nothing is written, and a member inflates to what it declares or is stopped.
//! 3. **Both ways**: every file listed is there, every file there is listed, and `report.json` tells the same digests.
//!
//! What cannot be told: *which* byte differs (a bag holds digests, not originals), and whether somebody who rewrote the
//! files rewrote the manifests as well; a seal over `tagmanifest-sha256.txt` tells that.
//!
//! Source: RFC 8493, and the cases of the public BagIt conformance suite.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256, Sha512};
use unicode_normalization::UnicodeNormalization as _;

use super::zip_reader::{ContainerError, Member, MemberError, ZipReader};
use super::{PROFILE_IDENTIFIER, names};
use crate::model::report::{MAX_REPORT_BYTES, Report};
use crate::model::text::display_safe;
use crate::model::{Text, Verdict};

/// The schema of [`VerifyReport`] as JSON.
pub const SCHEMA: &str = "greffier/verify/1";

/// Largest manifest that is read into memory, bytes: 200,000 files whose paths are as long as they may be.
const MAX_MANIFEST: u64 = 64 * 1024 * 1024;
/// Largest `bagit.txt` and `bag-info.txt` that are read into memory, bytes.
const MAX_DECLARATION: u64 = 1024 * 1024;
/// Largest tag file of another kind that is written, bytes: pages, tables, copies of Gazelle reports. They are only hashed.
const MAX_PAGE: u64 = 256 * 1024 * 1024;

/// Bytes that the tag file at `path` may have: what is written is what is read again.
pub(super) fn largest_tag_file(path: &str) -> u64 {
    match path {
        "report.json" => MAX_REPORT_BYTES,
        "bagit.txt" | "bag-info.txt" => MAX_DECLARATION,
        "manifest-sha256.txt" | "tagmanifest-sha256.txt" => MAX_MANIFEST,
        _ => MAX_PAGE,
    }
}

/// Most files in a bag.
const MAX_FILES: usize = super::zip_reader::MAX_MEMBERS;
/// Deepest folder of an unpacked bag.
const MAX_DEPTH: usize = 64;
/// At most this many problems of one kind are listed; the rest is counted.
const MAX_PER_KIND: usize = 200;

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Always `greffier/verify/1`.
    pub schema: &'static str,
    /// No problem at all; warnings do not count.
    pub valid: bool,
    /// What the bundle says of itself; absent where it is another kind of bag or cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Identity>,
    /// `report.json` itself, for whoever goes on from here (seal, next round).
    #[serde(skip)]
    pub report: Option<Box<Report>>,
    /// Files read and hashed.
    pub files: u64,
    /// Their bytes, inflated.
    pub bytes: u64,
    /// SHA-256 of `tagmanifest-sha256.txt`, hex: what a seal signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tagmanifest_sha256: Option<String>,
    /// What makes the bundle invalid, in the order it was found.
    pub problems: Vec<Problem>,
    /// What a reader should know and that breaks no rule.
    pub warnings: Vec<Problem>,
    /// Problems and warnings beyond those listed.
    pub more: u64,
}

/// Which bundle it is, from `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identity {
    /// Report id.
    pub id: String,
    /// Candidature number (untrusted).
    pub candidature: String,
    /// Revision.
    pub revision: u32,
    /// Verdict over the whole.
    pub verdict: Verdict,
    /// Items listed.
    pub items: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// Which file, inside the bag (untrusted).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where in the ZIP, or in the file that `path` names: the offset of the first byte that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What it means.
    pub message: Text,
    /// The values: expected and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $fr:literal, $en:literal;)*) => {
        /// Kinds of problems; the kebab-case name is stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum ProblemKind { $(#[doc = $en] $kind,)* }
        impl ProblemKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];
            /// One line for people.
            pub fn text(self) -> Text { match self { $(Self::$kind => Text::new($fr, $en),)* } }
        }
    };
}

kinds! {
    NotABag: "aucun bagit.txt : ce n'est pas un dossier BagIt", "no bagit.txt: this is not a BagIt bag";
    Container: "ce n'est pas une archive ZIP complète", "this is not a complete ZIP archive";
    Layout: "l'archive n'a pas exactement la forme qu'écrit greffier, un autre logiciel pourrait en extraire autre chose ; extrayez-la et vérifiez le dossier obtenu", "the archive is not laid out exactly as greffier writes it, another program may extract something else; extract it and verify the folder";
    SizeLies: "le contenu ne correspond pas à ce que l'archive annonce", "the content is not what the archive declares";
    Unreadable: "fichier illisible", "the file cannot be read";
    Duplicate: "le même nom figure deux fois", "the same name stands twice";
    SpecialFile: "ni fichier ni dossier (lien symbolique, périphérique)", "neither a file nor a folder (symbolic link, device)";
    UnsafePath: "le chemin sort du dossier ou n'est pas portable", "the path leaves the bag or is not portable";
    OutsideRoot: "fichier hors du dossier du bundle", "a file stands outside the bag's folder";
    TooLarge: "trop grand pour être vérifié", "too large to be checked";
    Declaration: "bagit.txt est malformé", "bagit.txt is malformed";
    Version: "version de BagIt non prise en charge", "unsupported BagIt version";
    Encoding: "encodage des fichiers de service non pris en charge", "unsupported encoding of tag files";
    BagInfo: "bag-info.txt est malformé", "bag-info.txt is malformed";
    Oxum: "la taille ou le nombre des fichiers diffère de Payload-Oxum", "sizes or counts differ from Payload-Oxum";
    Fetch: "fetch.txt demande de télécharger des fichiers : refusé", "fetch.txt asks to download files: refused";
    NoManifest: "aucun manifeste de contenu", "no payload manifest";
    ManifestLine: "ligne de manifeste malformée", "malformed manifest line";
    ManifestForm: "le manifeste n'est pas écrit comme greffier l'écrit", "the manifest is not written as greffier writes it";
    ManifestDuplicate: "le même fichier figure deux fois dans le manifeste", "the manifest lists the same file twice";
    Algorithm: "algorithme d'empreinte non pris en charge", "unsupported checksum algorithm";
    Missing: "fichier annoncé et absent", "a listed file is missing";
    Extra: "fichier présent et annoncé nulle part", "a file is present and listed nowhere";
    Changed: "le contenu a changé", "the content has changed";
    WrongCase: "le nom diffère par les majuscules", "the name differs by case";
    UnicodeForm: "le nom diffère par sa forme Unicode", "the name differs by its Unicode form";
    NotDecoded: "le nom porte « % » sans être encodé dans le manifeste", "the name holds `%` and the manifest does not encode it";
    LinePrefix: "le manifeste écrit le chemin avec un préfixe « ./ » ou « * »", "the manifest writes the path with a `./` or `*` prefix";
    ReportMissing: "report.json est absent", "report.json is missing";
    ReportMalformed: "report.json n'est pas lisible par cette version", "report.json cannot be read by this version";
    ReportDisagrees: "report.json ne dit pas la même chose que le contenu", "report.json disagrees with the content";
    NotOurs: "ce dossier BagIt n'a pas été constitué par greffier : seules les règles BagIt sont vérifiées", "this bag was not made by greffier: only BagIt rules are checked";
}

/// Checks the bundle at `path`: a ZIP file, or the folder it was unpacked to.
///
/// # Errors
/// Only when `path` itself cannot be opened. Whatever is wrong inside is in the report.
pub fn verify(path: &Path) -> io::Result<VerifyReport> {
    let mut check = Check::default();
    let opened = if std::fs::metadata(path)?.is_dir() { Files::folder(path, &mut check)? } else { Files::zip(path, &mut check)? };
    if let Some(mut files) = opened {
        check.bag(&mut files);
    }
    Ok(check.finish())
}

// ---------------------------------------------------------------------------------------------- files of a bag

enum Origin {
    Zip(Box<ZipReader<File>>),
    Folder,
}

/// Where a file's bytes are.
#[derive(Debug, Clone)]
enum Spot {
    Member(usize),
    Path(PathBuf),
}

struct Files {
    origin: Origin,
    /// Path inside the bag → size and place.
    files: BTreeMap<String, (u64, Spot)>,
}

impl Files {
    fn zip(path: &Path, check: &mut Check) -> io::Result<Option<Self>> {
        let zip = match ZipReader::open(File::open(path)?) {
            Ok(zip) => zip,
            Err(ContainerError::Io(e)) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(e),
            Err(e) => {
                let (kind, at) = match &e {
                    ContainerError::NotAZip { at } => (ProblemKind::Container, *at),
                    ContainerError::TooLarge { at } => (ProblemKind::TooLarge, *at),
                    ContainerError::Differs { at, .. } => (ProblemKind::Layout, *at),
                    ContainerError::Io(_) => (ProblemKind::Container, 0),
                };
                check.problem_at(kind, None, Some(at), Some(e.to_string()));
                return Ok(None);
            }
        };
        let mut found: BTreeMap<String, (u64, Spot)> = BTreeMap::new();
        let mut names = Names::default();
        for (index, member) in zip.members.iter().enumerate() {
            let name = member.name.as_str();
            if !is_portable(name.strip_suffix('/').unwrap_or(name)) {
                check.problem_at(ProblemKind::UnsafePath, Some(name), Some(member.header), None);
                continue;
            }
            if name.ends_with('/') {
                continue;
            }
            names.add(name, check);
            found.insert(name.to_owned(), (member.size, Spot::Member(index)));
        }
        names.finish(check);
        let root = match found
            .keys()
            .filter_map(|n| n.strip_suffix("bagit.txt"))
            .filter(|p| p.is_empty() || p.matches('/').count() == 1)
            .min_by_key(|p| p.len())
        {
            Some(prefix) if prefix.is_empty() || prefix.ends_with('/') => prefix.to_owned(),
            _ => {
                check.problem(ProblemKind::NotABag, None, None);
                return Ok(None);
            }
        };
        order(&zip.members, &root, check);
        let mut files = BTreeMap::new();
        for (name, place) in found {
            match name.strip_prefix(&root) {
                Some(inside) => {
                    files.insert(inside.to_owned(), place);
                }
                None => check.problem(ProblemKind::OutsideRoot, Some(&name), None),
            }
        }
        Ok(Some(Self { origin: Origin::Zip(Box::new(zip)), files }))
    }

    fn folder(path: &Path, check: &mut Check) -> io::Result<Option<Self>> {
        let mut root = path.to_path_buf();
        if std::fs::symlink_metadata(root.join("bagit.txt")).is_err() {
            // What an archive manager leaves: a folder with the bag's folder in it.
            let inside: Vec<PathBuf> = std::fs::read_dir(path)?
                .filter_map(Result::ok)
                // A link leads to a folder that is not inside.
                .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|e| e.path())
                .filter(|p| std::fs::symlink_metadata(p.join("bagit.txt")).is_ok())
                .collect();
            match inside.as_slice() {
                [one] => root.clone_from(one),
                _ => {
                    check.problem(ProblemKind::NotABag, None, None);
                    return Ok(None);
                }
            }
        }
        let mut files = BTreeMap::new();
        let mut names = Names::default();
        let mut todo = vec![(root.clone(), String::new(), 0_usize)];
        while let Some((folder, prefix, depth)) = todo.pop() {
            let mut entries: Vec<_> = std::fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let raw = entry.file_name();
                let name = format!("{prefix}{}", raw.to_string_lossy());
                // The entry's own type: a link is never followed.
                let kind = entry.file_type()?;
                if raw.to_str().is_none() || !is_portable(&name) {
                    check.problem(ProblemKind::UnsafePath, Some(&name), None);
                } else if kind.is_dir() && depth < MAX_DEPTH {
                    todo.push((entry.path(), format!("{name}/"), depth + 1));
                } else if kind.is_file() && files.len() < MAX_FILES {
                    names.add(&name, check);
                    files.insert(name, (entry.metadata()?.len(), Spot::Path(entry.path())));
                } else if kind.is_file() || kind.is_dir() {
                    check.problem(ProblemKind::TooLarge, Some(&name), None);
                } else {
                    check.problem(ProblemKind::SpecialFile, Some(&name), None);
                }
            }
        }
        names.finish(check);
        Ok(Some(Self { origin: Origin::Folder, files }))
    }

    fn size(&self, path: &str) -> Option<u64> {
        self.files.get(path).map(|(size, _)| *size)
    }

    fn read(&mut self, path: &str, sink: &mut dyn FnMut(&[u8])) -> Result<(), MemberError> {
        let Some((_, spot)) = self.files.get(path).cloned() else { return Err(io::Error::from(io::ErrorKind::NotFound).into()) };
        match (&mut self.origin, spot) {
            (Origin::Zip(zip), Spot::Member(index)) => zip.read(index, sink),
            (Origin::Folder, Spot::Path(path)) => {
                let mut file = open_plain(&path)?;
                let mut buffer = vec![0; 128 * 1024];
                loop {
                    match file.read(&mut buffer) {
                        Ok(0) => return Ok(()),
                        Ok(n) => sink(&buffer[..n]),
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(e.into()),
                    }
                }
            }
            _ => Err(io::Error::from(io::ErrorKind::InvalidInput).into()),
        }
    }
}

/// Opens a file that was a plain one when its folder was listed. What has been put in its place since is not followed,
/// and a pipe does not block.
fn open_plain(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("no longer a plain file")) }
}

/// Names that some system takes for one: unpacking or copying the bag there writes one file over the other.
#[derive(Default)]
struct Names {
    files: BTreeMap<String, String>,
    folders: BTreeMap<String, String>,
}

impl Names {
    fn add(&mut self, name: &str, check: &mut Check) {
        let folded = names::fold(name);
        for (at, _) in name.match_indices('/') {
            let folder = name.get(..at).unwrap_or_default();
            match self.folders.get(&names::fold(folder)) {
                Some(other) if other != folder => check.problem(ProblemKind::Duplicate, Some(folder), Some(other.clone())),
                Some(_) => {}
                None => {
                    self.folders.insert(names::fold(folder), folder.to_owned());
                }
            }
        }
        if let Some(other) = self.files.insert(folded, name.to_owned()) {
            check.problem(ProblemKind::Duplicate, Some(name), (other != name).then_some(other));
        }
    }

    /// A file and a folder of one name cannot both be unpacked.
    fn finish(&self, check: &mut Check) {
        for (_, name) in self.files.iter().filter(|(folded, _)| self.folders.contains_key(*folded)) {
            check.problem(ProblemKind::Duplicate, Some(name), Some("a file and a folder".into()));
        }
    }
}

/// The order in which the writer lays members out: tag files, attachments by name, the tag manifest, the payload folder,
/// and the payload by path. No other folder has a record of its own.
fn order(members: &[Member], root: &str, check: &mut Check) {
    const TAGS: [&str; 7] = ["bagit.txt", "bag-info.txt", "index.html", "LISEZ-MOI.txt", "index.csv", "report.json", "manifest-sha256.txt"];
    let rank = |name: &str| match name {
        "tagmanifest-sha256.txt" => TAGS.len() + 1,
        "data/" => TAGS.len() + 2,
        payload if payload.starts_with("data/") => TAGS.len() + 3,
        tag => TAGS.iter().position(|t| *t == tag).unwrap_or(TAGS.len()),
    };
    let mut before: Option<(usize, &str)> = None;
    for member in members {
        let Some(name) = member.name.strip_prefix(root) else { continue };
        let place = (rank(name), name);
        // Two of one name are another problem.
        if before.is_some_and(|before| before > place) || (name.ends_with('/') && name != "data/") {
            check.problem_at(
                ProblemKind::Layout,
                Some(name),
                Some(member.header),
                Some(format!("byte {}: expected another member", member.header)),
            );
            return;
        }
        before = Some(place);
    }
}

/// Whether a path stays inside the bag on every system: relative, no `..`, no backslash, no drive, nothing invisible
/// that could start a command or a home directory.
fn is_portable(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\\', '\0'])
        && !path.chars().any(char::is_control)
        && !path.starts_with(['/', '~'])
        && !matches!(path.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic())
        && path.split('/').all(|component| !matches!(component, "" | "." | ".."))
}

// ---------------------------------------------------------------------------------------------- the checks

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Sha256,
    Sha512,
}

/// One line of a manifest, decoded.
struct Listed {
    /// Path as the manifest means it.
    path: String,
    /// Path as it is written, where that differs.
    raw: Option<String>,
    checksum: String,
}

#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    more: u64,
    invalid: bool,
    files: u64,
    bytes: u64,
    identity: Option<Identity>,
    parsed: Option<Box<Report>>,
    tagmanifest_sha256: Option<String>,
}

impl Check {
    fn problem(&mut self, kind: ProblemKind, path: Option<&str>, detail: Option<String>) {
        self.problem_at(kind, path, None, detail);
    }

    fn problem_at(&mut self, kind: ProblemKind, path: Option<&str>, offset: Option<u64>, detail: Option<String>) {
        self.invalid = true;
        Self::note(&mut self.problems, &mut self.more, kind, path, offset, detail);
    }

    fn warning(&mut self, kind: ProblemKind, path: Option<&str>, detail: Option<String>) {
        Self::note(&mut self.warnings, &mut self.more, kind, path, None, detail);
    }

    fn note(list: &mut Vec<Problem>, more: &mut u64, kind: ProblemKind, path: Option<&str>, offset: Option<u64>, detail: Option<String>) {
        if list.iter().filter(|p| p.kind == kind).count() >= MAX_PER_KIND {
            *more += 1;
            return;
        }
        let path = path.map(|p| display_safe(p, 300));
        list.push(Problem { kind, path, offset, message: kind.text(), detail: detail.map(|d| display_safe(&d, 400)) });
    }

    fn finish(self) -> VerifyReport {
        VerifyReport {
            schema: SCHEMA,
            valid: !self.invalid,
            bundle: self.identity,
            report: self.parsed,
            files: self.files,
            bytes: self.bytes,
            tagmanifest_sha256: self.tagmanifest_sha256,
            problems: self.problems,
            warnings: self.warnings,
            more: self.more,
        }
    }

    /// A tag file's bytes; what is wrong with it is noted.
    fn tag_file(&mut self, files: &mut Files, path: &str) -> Option<Vec<u8>> {
        let size = files.size(path)?;
        // A foreign bag may have manifests of other algorithms.
        let most = largest_tag_file(path).min(MAX_MANIFEST);
        let too_large = |check: &mut Self| check.problem(ProblemKind::TooLarge, Some(path), Some(format!("more than {most} bytes")));
        if size > most {
            too_large(self);
            return None;
        }
        let mut bytes = Vec::new();
        let mut grown = false;
        // The size of a file in a folder may have changed since the folder was listed.
        let read = files.read(path, &mut |piece| {
            grown |= (bytes.len() + piece.len()) as u64 > most;
            if !grown {
                bytes.extend_from_slice(piece);
            }
        });
        match read {
            Ok(()) if grown => {
                too_large(self);
                None
            }
            Ok(()) => Some(bytes),
            Err(e) => {
                self.unreadable(path, &e);
                None
            }
        }
    }

    fn unreadable(&mut self, path: &str, error: &MemberError) {
        let (kind, offset) = match error {
            MemberError::Lies { at, .. } => (ProblemKind::SizeLies, Some(*at)),
            MemberError::Io(_) => (ProblemKind::Unreadable, None),
        };
        self.problem_at(kind, Some(path), offset, Some(error.to_string()));
    }

    fn bag(&mut self, files: &mut Files) {
        let Some(encoding) = self.declaration(files) else { return };
        if files.files.contains_key("fetch.txt") {
            self.problem(ProblemKind::Fetch, Some("fetch.txt"), None);
        }
        let info = self.bag_info(files, encoding);
        let value = |label: &str| info.iter().find(|(l, _)| l.eq_ignore_ascii_case(label)).map(|(_, v)| v.as_str());
        let ours = value("BagIt-Profile-Identifier") == Some(PROFILE_IDENTIFIER);
        self.oxum(files, &info);

        if ours && let Some(bytes) = self.tag_file(files, "bagit.txt") {
            self.exact("bagit.txt", &bytes, super::bag::DECLARATION, ProblemKind::Declaration);
        }
        let manifests = self.manifests(files, encoding, "manifest-");
        let tag_manifests = self.manifests(files, encoding, "tagmanifest-");
        if manifests.is_empty() || (ours && !manifests.contains_key(&Algorithm::Sha256)) {
            self.problem(ProblemKind::NoManifest, Some("manifest-sha256.txt"), None);
        }
        if ours && !tag_manifests.contains_key(&Algorithm::Sha256) {
            self.problem(ProblemKind::NoManifest, Some("tagmanifest-sha256.txt"), None);
        }

        if ours {
            for (name, listed) in [("manifest-sha256.txt", &manifests), ("tagmanifest-sha256.txt", &tag_manifests)] {
                let Some(listed) = listed.get(&Algorithm::Sha256) else { continue };
                let mut lines: Vec<(&str, &str)> = listed.iter().map(|l| (l.path.as_str(), l.checksum.as_str())).collect();
                lines.sort_unstable();
                let expected: String = lines.iter().map(|(path, checksum)| format!("{checksum}  {path}\n")).collect();
                if let Some(bytes) = self.tag_file(files, name) {
                    self.exact(name, &bytes, expected.as_bytes(), ProblemKind::ManifestForm);
                }
            }
        }

        // Every file is read once, whatever number of manifests list it.
        let wanted: BTreeSet<Algorithm> = manifests.keys().chain(tag_manifests.keys()).copied().chain([Algorithm::Sha256]).collect();
        let digests = self.hash(files, &wanted);
        self.tagmanifest_sha256 = digests.get("tagmanifest-sha256.txt").and_then(|d| d.get(&Algorithm::Sha256)).cloned();

        let mut listed_payload = BTreeSet::new();
        for (algorithm, lines) in &manifests {
            let listed = self.compare(files, &digests, *algorithm, lines);
            // RFC 8493 §2.1.3: every payload file stands in every payload manifest.
            let unlisted: Vec<String> = files.files.keys().filter(|p| p.starts_with("data/") && !listed.contains(*p)).cloned().collect();
            for path in unlisted {
                self.problem(ProblemKind::Extra, Some(&path), None);
            }
            listed_payload.extend(listed);
        }
        let mut listed_tags = BTreeSet::new();
        for (algorithm, lines) in &tag_manifests {
            listed_tags.extend(self.compare(files, &digests, *algorithm, lines));
        }
        // A tag manifest cannot list itself. Greffier writes one; of other bags, those that were read as manifests.
        let tag_manifest_names: BTreeSet<String> = files
            .files
            .keys()
            .filter(|p| match p.strip_prefix("tagmanifest-").and_then(|p| p.strip_suffix(".txt")) {
                Some(algorithm) => algorithm == "sha256" || (!ours && !algorithm.contains('/')),
                None => false,
            })
            .cloned()
            .collect();
        let stray: Vec<String> = files
            .files
            .keys()
            .filter(|p| !p.starts_with("data/") && !tag_manifest_names.contains(*p) && !listed_tags.contains(*p))
            .cloned()
            .collect();
        for path in stray {
            // BagIt lets other bags carry files that no manifest lists; ours list all, so one more was slipped in.
            if ours {
                self.problem(ProblemKind::Extra, Some(&path), None);
            } else if !tag_manifests.is_empty() {
                self.warning(ProblemKind::Extra, Some(&path), None);
            }
        }
        if ours {
            self.report(files, &digests, value("External-Identifier"));
        } else {
            self.warning(ProblemKind::NotOurs, None, None);
        }
    }

    /// Of our own bags, a tag file with one spelling: names the first byte that differs.
    fn exact(&mut self, path: &str, found: &[u8], expected: &[u8], kind: ProblemKind) {
        if found != expected && !self.problems.iter().any(|p| p.path.as_deref() == Some(path)) {
            let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
            self.problem_at(kind, Some(path), Some(at as u64), Some(format!("byte {at}")));
        }
    }

    /// `bagit.txt` (RFC 8493 §2.1.1). Gives the encoding of the other tag files.
    fn declaration(&mut self, files: &mut Files) -> Option<&'static encoding_rs::Encoding> {
        let Some(bytes) = self.tag_file(files, "bagit.txt") else {
            if !files.files.contains_key("bagit.txt") {
                self.problem(ProblemKind::NotABag, None, None);
            }
            return None;
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = lines(&text).collect();
        let (Some(version), Some(encoding), 2) = (
            lines.first().and_then(|l| l.strip_prefix("BagIt-Version: ")),
            lines.get(1).and_then(|l| l.strip_prefix("Tag-File-Character-Encoding: ")),
            lines.len(),
        ) else {
            self.problem(ProblemKind::Declaration, Some("bagit.txt"), None);
            return None;
        };
        let is_number = |s: &str| !s.is_empty() && s.len() < 4 && s.bytes().all(|b| b.is_ascii_digit());
        match version.trim().split_once('.') {
            Some((major, minor)) if is_number(major) && is_number(minor) => {
                if !matches!(version.trim(), "1.0" | "0.97" | "0.96" | "0.95" | "0.94" | "0.93") {
                    self.problem(ProblemKind::Version, Some("bagit.txt"), Some(version.to_owned()));
                    return None;
                }
            }
            _ => {
                self.problem(ProblemKind::Declaration, Some("bagit.txt"), Some(version.to_owned()));
                return None;
            }
        }
        let known = encoding_rs::Encoding::for_label(encoding.trim().as_bytes());
        if known.is_none() {
            self.problem(ProblemKind::Encoding, Some("bagit.txt"), Some(encoding.to_owned()));
        }
        known
    }

    fn decoded(&mut self, files: &mut Files, path: &str, encoding: &'static encoding_rs::Encoding) -> Option<String> {
        let bytes = self.tag_file(files, path)?;
        let (text, _, damaged) = encoding.decode(&bytes);
        if damaged {
            self.problem(ProblemKind::Encoding, Some(path), Some(format!("not {}", encoding.name())));
        }
        Some(text.into_owned())
    }

    /// `bag-info.txt` (RFC 8493 §2.2.2): labels and values in order, folded lines joined.
    fn bag_info(&mut self, files: &mut Files, encoding: &'static encoding_rs::Encoding) -> Vec<(String, String)> {
        let Some(text) = self.decoded(files, "bag-info.txt", encoding) else { return Vec::new() };
        let mut info: Vec<(String, String)> = Vec::new();
        for line in lines(&text).filter(|l| !l.trim().is_empty()) {
            match (line.split_once(':'), info.last_mut()) {
                (_, Some((_, value))) if line.starts_with([' ', '\t']) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                (Some((label, value)), _) if !label.trim().is_empty() && !line.starts_with([' ', '\t']) => {
                    info.push((label.trim().to_owned(), value.trim().to_owned()));
                }
                _ => self.problem(ProblemKind::BagInfo, Some("bag-info.txt"), Some(line.to_owned())),
            }
        }
        info
    }

    /// `Payload-Oxum: octets.files` against the sizes on hand, before anything is inflated.
    fn oxum(&mut self, files: &Files, info: &[(String, String)]) {
        let stated: Vec<&str> =
            info.iter().filter(|(label, _)| label.eq_ignore_ascii_case("Payload-Oxum")).map(|(_, value)| value.as_str()).collect();
        if stated.len() > 1 {
            self.problem(ProblemKind::BagInfo, Some("bag-info.txt"), Some("Payload-Oxum".into()));
        }
        let payload = files.files.iter().filter(|(path, _)| path.starts_with("data/"));
        let (octets, count) = payload.fold((0_u64, 0_u64), |(o, c), (_, (size, _))| (o.saturating_add(*size), c + 1));
        for stated in stated {
            if stated != format!("{octets}.{count}") {
                self.problem(ProblemKind::Oxum, Some("bag-info.txt"), Some(format!("expected {stated}, found {octets}.{count}")));
            }
        }
    }

    /// Reads every manifest of one kind.
    fn manifests(&mut self, files: &mut Files, encoding: &'static encoding_rs::Encoding, prefix: &str) -> BTreeMap<Algorithm, Vec<Listed>> {
        let names: Vec<String> = files
            .files
            .keys()
            .filter(|p| !p.contains('/') && p.starts_with(prefix) && p.ends_with(".txt") && p.len() > prefix.len() + 4)
            .cloned()
            .collect();
        let mut manifests = BTreeMap::new();
        for name in names {
            let written = &name[prefix.len()..name.len() - 4];
            let (algorithm, length) = match written.to_ascii_lowercase().replace('-', "").as_str() {
                "sha256" => (Algorithm::Sha256, 64),
                "sha512" => (Algorithm::Sha512, 128),
                _ => {
                    self.problem(ProblemKind::Algorithm, Some(&name), Some(written.to_owned()));
                    continue;
                }
            };
            let Some(text) = self.decoded(files, &name, encoding) else { continue };
            let mut listed: Vec<Listed> = Vec::new();
            let mut seen = BTreeSet::new();
            for (number, line) in lines(&text).enumerate().filter(|(_, l)| !l.is_empty()) {
                let at = format!("line {}", number + 1);
                let Some(mut entry) = self.manifest_line(&name, line, length) else {
                    self.problem(ProblemKind::ManifestLine, Some(&name), Some(at));
                    continue;
                };
                let in_payload = entry.path.starts_with("data/");
                if !is_portable(&entry.path) || in_payload != (prefix == "manifest-") {
                    self.problem(ProblemKind::UnsafePath, Some(&entry.path), Some(format!("{name}, {at}")));
                    continue;
                }
                if !seen.insert(entry.path.clone()) {
                    self.problem(ProblemKind::ManifestDuplicate, Some(&entry.path), Some(format!("{name}, {at}")));
                    continue;
                }
                if let Some(raw) = entry.raw.take_if(|raw| !files.files.contains_key(&entry.path) && files.files.contains_key(raw)) {
                    // Tools that do not encode `%` are common, and the file they mean is there.
                    self.warning(ProblemKind::NotDecoded, Some(&raw), Some(format!("{name}, {at}")));
                    entry.path = raw;
                }
                listed.push(entry);
            }
            manifests.insert(algorithm, listed);
        }
        manifests
    }

    fn manifest_line(&mut self, manifest: &str, line: &str, checksum_length: usize) -> Option<Listed> {
        let (checksum, rest) = line.split_once([' ', '\t'])?;
        let mut path = rest.trim_start_matches([' ', '\t']);
        if checksum.len() != checksum_length || !checksum.bytes().all(|b| b.is_ascii_hexdigit()) || path.is_empty() {
            return None;
        }
        for prefix in ["*", "./"] {
            if let Some(stripped) = path.strip_prefix(prefix) {
                self.warning(ProblemKind::LinePrefix, Some(path), Some(manifest.to_owned()));
                path = stripped;
            }
        }
        let decoded = percent_decode(path);
        Some(Listed { raw: (decoded != path).then(|| path.to_owned()), path: decoded, checksum: checksum.to_ascii_lowercase() })
    }

    /// Hashes every file once.
    fn hash(&mut self, files: &mut Files, wanted: &BTreeSet<Algorithm>) -> BTreeMap<String, BTreeMap<Algorithm, String>> {
        let mut digests = BTreeMap::new();
        let paths: Vec<String> = files.files.keys().cloned().collect();
        for path in paths {
            let mut sha256 = wanted.contains(&Algorithm::Sha256).then(Sha256::new);
            let mut sha512 = wanted.contains(&Algorithm::Sha512).then(Sha512::new);
            let mut bytes = 0_u64;
            let read = files.read(&path, &mut |piece| {
                bytes += piece.len() as u64;
                if let Some(hasher) = &mut sha256 {
                    hasher.update(piece);
                }
                if let Some(hasher) = &mut sha512 {
                    hasher.update(piece);
                }
            });
            self.bytes += bytes;
            match read {
                Ok(()) => {
                    self.files += 1;
                    let mut of_file = BTreeMap::new();
                    if let Some(hasher) = sha256 {
                        of_file.insert(Algorithm::Sha256, hex::encode(hasher.finalize()));
                    }
                    if let Some(hasher) = sha512 {
                        of_file.insert(Algorithm::Sha512, hex::encode(hasher.finalize()));
                    }
                    digests.insert(path, of_file);
                }
                // A tag file that was read before was named before.
                Err(e) if !self.problems.iter().any(|p| p.path.as_deref() == Some(&path)) => self.unreadable(&path, &e),
                Err(_) => {}
            }
        }
        digests
    }

    /// Compares one manifest with what is there; gives the files it accounts for.
    fn compare(
        &mut self,
        files: &Files,
        digests: &BTreeMap<String, BTreeMap<Algorithm, String>>,
        algorithm: Algorithm,
        lines: &[Listed],
    ) -> BTreeSet<String> {
        let exact: BTreeSet<&str> = lines.iter().map(|l| l.path.as_str()).collect();
        let mut by_fold: BTreeMap<String, &str> = BTreeMap::new();
        for path in files.files.keys().filter(|p| !exact.contains(p.as_str())) {
            by_fold.insert(names::fold(path), path);
        }
        let mut accounted = BTreeSet::new();
        for line in lines {
            let mut there = line.path.as_str();
            if !files.files.contains_key(there) {
                match by_fold.get(&names::fold(there)) {
                    // What macOS makes of an accent when it unpacks.
                    Some(other) if other.nfc().eq(there.nfc()) => {
                        self.warning(ProblemKind::UnicodeForm, Some(there), None);
                        there = other;
                    }
                    Some(other) => {
                        self.problem(ProblemKind::WrongCase, Some(there), Some(format!("found {other}")));
                        there = other;
                    }
                    None => {
                        self.problem(ProblemKind::Missing, Some(there), None);
                        continue;
                    }
                }
            }
            accounted.insert(there.to_owned());
            // A file that could not be read was named when it was read.
            let Some(found) = digests.get(there).and_then(|d| d.get(&algorithm)) else { continue };
            if *found != line.checksum {
                self.problem(ProblemKind::Changed, Some(there), Some(format!("expected {}, found {found}", line.checksum)));
            }
        }
        accounted
    }

    /// `report.json` against the payload, both ways.
    fn report(&mut self, files: &mut Files, digests: &BTreeMap<String, BTreeMap<Algorithm, String>>, identifier: Option<&str>) {
        const NAME: &str = "report.json";
        if !files.files.contains_key(NAME) {
            self.problem(ProblemKind::ReportMissing, Some(NAME), None);
            return;
        }
        let Some(bytes) = self.tag_file(files, NAME) else { return };
        let report: Report = match serde_json::from_slice(&bytes) {
            Ok(report) => report,
            Err(e) => {
                self.problem(ProblemKind::ReportMalformed, Some(NAME), Some(e.to_string()));
                return;
            }
        };
        if report.schema != crate::model::report::SCHEMA {
            self.problem(ProblemKind::ReportMalformed, Some(NAME), Some(report.schema.clone()));
        }
        if identifier != Some(report.id.as_str()) {
            self.problem(ProblemKind::ReportDisagrees, Some("bag-info.txt"), Some("External-Identifier".into()));
        }
        let mut told = BTreeSet::new();
        for item in &report.items {
            let Some(path) = &item.path else { continue };
            if !told.insert(path.as_str()) {
                self.problem(ProblemKind::ReportDisagrees, Some(path), Some("two items, one file".into()));
            }
            // A missing or unreadable file was named by the manifest already, unless the report alone knows it.
            let Some(size) = files.size(path) else {
                self.problem(ProblemKind::ReportDisagrees, Some(path), Some(format!("item {}: no such file", item.id)));
                continue;
            };
            let Some(found) = digests.get(path).and_then(|d| d.get(&Algorithm::Sha256)) else { continue };
            if item.sha256.as_deref() != Some(found) || item.size != Some(size) {
                let expected = item.sha256.as_deref().unwrap_or("none");
                self.problem(
                    ProblemKind::ReportDisagrees,
                    Some(path),
                    Some(format!("item {}: expected {expected}, found {found}", item.id)),
                );
            }
        }
        let untold: Vec<String> = files.files.keys().filter(|p| p.starts_with("data/") && !told.contains(p.as_str())).cloned().collect();
        for path in untold {
            self.problem(ProblemKind::ReportDisagrees, Some(&path), Some("no item has this file".into()));
        }
        self.identity = Some(Identity {
            id: display_safe(&report.id, 80),
            candidature: display_safe(&report.candidature.number, 80),
            revision: report.revision,
            verdict: report.verdict,
            items: report.items.len() as u64,
        });
        self.parsed = Some(Box::new(report));
    }
}

/// Lines ended by LF, CR or CRLF (RFC 8493 §2.1).
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r'])).unwrap_or(text);
    let mut rest = (!text.is_empty()).then_some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        match current.find(['\r', '\n']) {
            Some(at) => {
                let after = &current[at..];
                rest = Some(after.strip_prefix("\r\n").unwrap_or(&after[1..]));
                Some(&current[..at])
            }
            None => rest.take(),
        }
    })
}

/// Undoes the three escapes of RFC 8493 §2.1.3 and no other.
fn percent_decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at(at);
        decoded.push_str(before);
        let (c, length) = match after.get(1..3).map(str::to_ascii_lowercase).as_deref() {
            Some("0a") => ('\n', 3),
            Some("0d") => ('\r', 3),
            Some("25") => ('%', 3),
            _ => ('%', 1),
        };
        decoded.push(c);
        rest = &after[length..];
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_as_the_rfc_lets_them() {
        assert_eq!(lines("a\nb\r\nc\rd").collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\n\nb\n").collect::<Vec<_>>(), ["a", "", "b"]);
        assert_eq!(lines("").count(), 0);
    }

    #[test]
    fn three_escapes_are_undone_and_no_other() {
        assert_eq!(percent_decode("data/a%25b%0Ac%0dd%41%"), "data/a%b\nc\rd%41%");
        assert_eq!(percent_decode("%é%2"), "%é%2");
    }

    #[test]
    fn paths_that_leave_the_bag_are_known() {
        for path in ["../x", "data/../../x", "/etc/passwd", "data//x", "./x", "~root/x", "C:/x", "data\\x", "data/\u{7}", ""] {
            assert!(!is_portable(path), "{path:?}");
        }
        for path in ["data/x", "data/a..b", "data/..a", "data/a:b", "é/ü.png"] {
            assert!(is_portable(path), "{path:?}");
        }
    }

    #[test]
    fn every_kind_speaks_both_languages() {
        for kind in ProblemKind::ALL {
            let text = kind.text();
            assert!(!text.fr.is_empty() && !text.en.is_empty() && text.fr != text.en, "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(path in ".*") {
            let _ = percent_decode(&path);
            let _ = lines(&path).count();
        }
    }
}
