//! Everything in a PDF that acts, reaches out, or carries something else inside (ISO 32000-2 §12.6, §7.11,
//! §12.5, §12.7, §12.8).
//!
//! Goals: every object that the trailer leads to is looked at once, in whatever stream it hides and however
//! its names are written; what hangs on a page's annotations is told with its page. Dead revisions are not
//! looked at: no reader opens them.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::file::File;
use super::object::{Dict, Object, Stream, text_string};
use super::pages::Pages;
use crate::inspect::budget::{Budget, Exceeded};
use crate::model::facts::SignatureFacts;
use crate::model::{Facts, Place, Signal};

/// Embedded files that are named and opened.
const MAX_EMBEDDED: usize = 200;
/// Signatures kept.
const MAX_SIGNATURES: usize = 100;
/// Characters of a script that are shown.
const SCRIPT_PREVIEW: usize = 120;

/// A file inside the file.
#[derive(Debug)]
pub struct Embedded {
    /// Name, untrusted.
    pub name: String,
    /// Its bytes.
    pub stream: Option<Rc<Object>>,
    /// Where it hangs.
    pub place: Place,
}

/// What the walk found besides signals.
#[derive(Debug, Default)]
pub struct Found {
    /// Embedded files, capped.
    pub embedded: Vec<Embedded>,
    /// Signatures with a value, and where the signed range ends.
    pub signatures: Vec<(SignatureFacts, Option<u64>)>,
    /// Form fields shown on pages, signature fields not counted.
    pub widgets: u64,
    /// Streams other than pictures, for a check of their data.
    pub streams: Vec<u32>,
    /// Pictures.
    pub pictures: Vec<u32>,
}

/// Walks everything. Signals go to `facts`.
///
/// # Errors
/// [`Exceeded`] when the budget ends.
pub fn walk(file: &mut File, root: &Dict, pages: &Pages, facts: &mut Facts, budget: &mut Budget) -> Result<Found, Exceeded> {
    let mut walk = Walk {
        seen: BTreeSet::new(),
        pages: pages.listed.iter().filter_map(|page| page.num).collect(),
        queue: Vec::new(),
        later: Vec::new(),
        usage_rights: Vec::new(),
        found: Found::default(),
    };
    walk.document(file, root, facts, budget)?;
    for (page, number) in pages.listed.iter().zip(1u32..) {
        for key in PER_PAGE {
            let value = page.dict.dict_or_empty().get(key).clone();
            walk.from(file, &value, &Place::page(number), facts, budget)?;
        }
        // An additional action of the page itself.
        let actions = file.entry(page.dict.dict_or_empty(), "AA", budget)?;
        walk.automatic_of(file, &actions, &Place::page(number), facts, budget)?;
    }
    // The encryption dictionary is no content.
    let trailer = Dict(file.trailer.0.iter().filter(|(key, _)| key != b"Encrypt").cloned().collect());
    walk.later.push(Object::Dict(trailer));
    while let Some(object) = walk.later.pop() {
        walk.from(file, &object, &Place::default(), facts, budget)?;
    }
    Ok(walk.found)
}

/// What of a page is looked at with its page; the rest is shared between pages.
const PER_PAGE: [&str; 2] = ["Annots", "AA"];

struct Walk {
    seen: BTreeSet<u32>,
    /// Pages whose [`PER_PAGE`] entries were looked at already.
    pages: BTreeSet<u32>,
    queue: Vec<u32>,
    /// What leads away from an annotation: looked at without its page.
    later: Vec<Object>,
    /// Signature dictionaries that the catalogue names as usage rights (§12.8.6).
    usage_rights: Vec<Rc<Object>>,
    found: Found,
}

impl Walk {
    /// What only the catalogue says.
    fn document(&mut self, file: &mut File, root: &Dict, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
        if root.has("Collection") {
            facts.push(Signal::new("pdf-portfolio"));
        }
        let form = file.entry(root, "AcroForm", budget)?;
        if form.dict_or_empty().has("XFA") {
            facts.push(Signal::new("pdf-xfa"));
        }
        let permissions = file.entry(root, "Perms", budget)?;
        for usage in ["UR", "UR3"] {
            if permissions.dict_or_empty().has(usage) {
                self.usage_rights.push(file.entry(permissions.dict_or_empty(), usage, budget)?);
            }
        }
        let open = file.entry(root, "OpenAction", budget)?;
        automatic(file, &open, &Place::default(), facts, budget)
    }

    fn from(&mut self, file: &mut File, object: &Object, place: &Place, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
        self.value(file, object, place, facts, budget)?;
        while let Some(num) = self.queue.pop() {
            let object = file.get(num, budget)?;
            // Pages are reached again from the tree, without the page of the annotation that names them.
            let page = object.dict().is_some_and(|d| ["Page", "Pages", "Catalog"].iter().any(|kind| d.is("Type", kind)));
            if page && place.page.is_some() {
                self.seen.remove(&num);
                self.later.push(Object::Ref(num));
                continue;
            }
            if self.pages.contains(&num) {
                self.action(file, object.dict_or_empty(), place, facts, budget)?;
                for (_, value) in object.dict_or_empty().0.iter().filter(|(key, _)| !PER_PAGE.iter().any(|k| k.as_bytes() == key)) {
                    self.value(file, value, place, facts, budget)?;
                }
                continue;
            }
            self.value(file, &object, place, facts, budget)?;
        }
        Ok(())
    }

    fn automatic_of(
        &self,
        file: &mut File,
        actions: &Object,
        place: &Place,
        facts: &mut Facts,
        budget: &mut Budget,
    ) -> Result<(), Exceeded> {
        for (_, action) in &actions.dict_or_empty().0 {
            let action = file.resolve(action, budget)?;
            automatic(file, &action, place, facts, budget)?;
        }
        Ok(())
    }

    // Nesting of direct objects is bounded by the lexer.
    fn value(&mut self, file: &mut File, object: &Object, place: &Place, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
        match object {
            Object::Ref(num) if self.seen.insert(*num) => self.queue.push(*num),
            Object::Array(items) => {
                for item in items {
                    self.value(file, item, place, facts, budget)?;
                }
            }
            Object::Dict(dict) => self.dictionary(file, dict, place, facts, budget)?,
            Object::Stream(stream) => {
                self.stream(file, stream, place, facts, budget)?;
                self.dictionary(file, &stream.dict, place, facts, budget)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn stream(&mut self, file: &mut File, stream: &Stream, place: &Place, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
        let dict = &stream.dict;
        // `/F` in a stream dictionary means that the data stands in another file (§7.3.8.2); a name here is
        // the inline-image abbreviation of `/Filter`, written by mistake.
        let external = file.entry(dict, "F", budget)?;
        if matches!(&*external, Object::Str(_) | Object::Dict(_)) {
            let target = file_name(file, &external, budget)?;
            facts.push(Signal::new("pdf-external-stream").at(place.clone()).arg("target", target));
        }
        let kind = if dict.is("Subtype", "Image") { &mut self.found.pictures } else { &mut self.found.streams };
        kind.push(stream.num);
        Ok(())
    }

    fn dictionary(&mut self, file: &mut File, dict: &Dict, place: &Place, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
        self.action(file, dict, place, facts, budget)?;
        self.annotation(file, dict, place, facts, budget)?;
        // A wrapper page around an encrypted document (ISO 32000-2 §7.6.7): the proof itself is locked.
        if dict.is("AFRelationship", "EncryptedPayload") {
            facts.push(Signal::new("pdf-encrypted").arg("handler", "EncryptedPayload"));
        }
        if dict.has("EF") {
            self.embedded(file, dict, place, budget)?;
        }
        if dict.has("ByteRange") && dict.has("Contents") && !self.grants_usage(file, dict, budget)? {
            self.signature(file, dict, budget)?;
        }
        if dict.has("AA") {
            let actions = file.entry(dict, "AA", budget)?;
            self.automatic_of(file, &actions, place, facts, budget)?;
        }
        for (key, value) in &dict.0 {
            // These lead from an annotation back to the whole document.
            let away = place.page.is_some() && matches!(key.as_slice(), b"Parent" | b"P" | b"Dest" | b"D" | b"IRT" | b"Pg");
            if away {
                self.later.push(value.clone());
            } else {
                self.value(file, value, place, facts, budget)?;
            }
        }
        Ok(())
    }

    fn action(&mut self, file: &mut File, dict: &Dict, place: &Place, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
        let kind = if dict.has("S") { file.entry(dict, "S", budget)? } else { Rc::new(Object::Null) };
        let kind = kind.name().unwrap_or_default();
        if kind == b"JavaScript" || (dict.has("JS") && matches!(kind, b"" | b"Rendition")) {
            let script = file.entry(dict, "JS", budget)?;
            let source = match &*script {
                Object::Str(source) => text_string(source),
                Object::Stream(stream) => text_string(&file.decode(stream, budget)?.bytes),
                // A name tree `/JS` of something else entirely.
                _ if kind != b"JavaScript" => return Ok(()),
                _ => String::new(),
            };
            let preview = crate::inspect::fold_whitespace(&source.chars().take(4 * SCRIPT_PREVIEW).collect::<String>());
            let preview: String = preview.chars().take(SCRIPT_PREVIEW).collect();
            facts.push(Signal::new("pdf-javascript").at(place.clone()).arg("script", preview));
            return Ok(());
        }
        match kind {
            b"Launch" => {
                let mut target = file.entry(dict, "F", budget)?;
                if *target == Object::Null {
                    let windows = file.entry(dict, "Win", budget)?;
                    target = file.entry(windows.dict_or_empty(), "F", budget)?;
                }
                let target = file_name(file, &target, budget)?;
                let windows = file.entry(dict, "Win", budget)?;
                let parameters = windows.dict_or_empty().has("P") || dict.has("Mac") || dict.has("Unix");
                let elsewhere = file.entry(windows.dict_or_empty(), "F", budget)?;
                let elsewhere = file_name(file, &elsewhere, budget)?;
                // Without parameters, the target is opened as a double click would open it (§12.6.4.6).
                let document = !parameters && is_document(&target) && (elsewhere.is_empty() || is_document(&elsewhere));
                facts.push(if document {
                    Signal::new("pdf-action-remote").at(place.clone()).arg("action", "Launch").arg("target", target)
                } else {
                    Signal::new("pdf-launch").at(place.clone()).arg("target", target)
                });
            }
            b"GoToR" | b"GoToE" | b"SubmitForm" | b"ImportData" => {
                let target = file.entry(dict, "F", budget)?;
                let target = file_name(file, &target, budget)?;
                let kind = String::from_utf8_lossy(kind).into_owned();
                facts.push(Signal::new("pdf-action-remote").at(place.clone()).arg("action", kind).arg("target", target));
            }
            // A link is ordinary (ISO 32000-1 §12.6.4.7 allows any URI). Browsers print the script links of web pages into the PDF,
            // where no reader runs them; most of them did nothing in the page either.
            b"URI" => {
                let target = file.entry(dict, "URI", budget)?;
                let target = text_string(target.string().unwrap_or_default());
                if script_of(&target).is_some_and(|script| !does_nothing(&script)) {
                    let preview: String = crate::inspect::fold_whitespace(&target).chars().take(SCRIPT_PREVIEW).collect();
                    facts.push(Signal::new("pdf-link-script").at(place.clone()).arg("script", preview));
                }
            }
            b"Rendition" | b"Movie" | b"Sound" | b"RichMediaExecute" | b"GoTo3DView" if !dict.is("Type", "StructElem") => {
                let kind = String::from_utf8_lossy(kind).into_owned();
                facts.push(Signal::new("pdf-rich-media").at(place.clone()).arg("kind", kind));
            }
            _ => {}
        }
        Ok(())
    }

    fn annotation(&mut self, file: &mut File, dict: &Dict, place: &Place, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
        if !dict.has("Subtype") {
            return Ok(());
        }
        let kind = file.entry(dict, "Subtype", budget)?;
        match kind.name().unwrap_or_default() {
            kind @ (b"Movie" | b"Sound" | b"Screen" | b"RichMedia" | b"3D") if dict.has("Rect") => {
                let kind = String::from_utf8_lossy(kind).into_owned();
                facts.push(Signal::new("pdf-rich-media").at(place.clone()).arg("kind", kind));
            }
            // A field that waits for a signature, or holds one, asks nothing else of whoever opens the file.
            b"Widget" if !inherits_signature(file, dict, budget)? => self.found.widgets += 1,
            _ => {}
        }
        Ok(())
    }

    fn embedded(&mut self, file: &mut File, dict: &Dict, place: &Place, budget: &mut Budget) -> Result<(), Exceeded> {
        if self.found.embedded.len() >= MAX_EMBEDDED {
            return Ok(());
        }
        let files = file.entry(dict, "EF", budget)?;
        let mut stream = None;
        for key in ["UF", "F", "DOS", "Unix", "Mac"] {
            let object = file.entry(files.dict_or_empty(), key, budget)?;
            if object.stream().is_some() {
                stream = Some(object);
                break;
            }
        }
        let name = file_name(file, &Object::Dict(dict.clone()), budget)?;
        self.found.embedded.push(Embedded { name, stream, place: place.clone() });
        Ok(())
    }

    /// Whether a signature dictionary only marks a form that Adobe Reader may fill in (§12.8.2.3), which is no signature of a
    /// person: its transform method, or the permissions of the catalogue that hold it, say so.
    fn grants_usage(&self, file: &mut File, dict: &Dict, budget: &mut Budget) -> Result<bool, Exceeded> {
        let references = file.entry(dict, "Reference", budget)?;
        for reference in references.items() {
            let reference = file.resolve(reference, budget)?;
            let method = file.entry(reference.dict_or_empty(), "TransformMethod", budget)?;
            if ["UR", "UR3"].iter().any(|usage| method.is_name(usage)) {
                return Ok(true);
            }
        }
        Ok(self.usage_rights.iter().any(|rights| rights.dict() == Some(dict)))
    }

    fn signature(&mut self, file: &mut File, dict: &Dict, budget: &mut Budget) -> Result<(), Exceeded> {
        if self.found.signatures.len() >= MAX_SIGNATURES {
            return Ok(());
        }
        let name_of = |object: &Object| object.name().map(|n| String::from_utf8_lossy(n).into_owned());
        let string_of = |object: &Object| object.string().map(text_string).filter(|s| !s.trim().is_empty());
        let sub_filter = name_of(&*file.entry(dict, "SubFilter", budget)?).unwrap_or_default();
        let name = string_of(&*file.entry(dict, "Name", budget)?);
        let date = string_of(&*file.entry(dict, "M", budget)?).map(|d| super::metadata::iso_date(&d));
        let range = file.entry(dict, "ByteRange", budget)?;
        let range: Vec<u64> = range.items().iter().filter_map(|n| u64::try_from(n.int()?).ok()).collect();
        let end = match range.as_slice() {
            [0, .., start, len] => start.checked_add(*len),
            _ => None,
        };
        // What `inspect` knows of the whole file decides whether that covers it.
        self.found.signatures.push((SignatureFacts { sub_filter, name, date, covers_whole_file: false }, end));
        Ok(())
    }
}

/// The script that an address consists of, percent-encoding undone. Readers skip white space and controls in a scheme (WHATWG
/// URL §4.4).
fn script_of(address: &str) -> Option<String> {
    const LONGEST: usize = 4 * SCRIPT_PREVIEW;
    let visible: String = address.chars().filter(|c| !c.is_whitespace() && !c.is_control()).take(LONGEST).collect();
    let (scheme, script) = visible.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("javascript") && !scheme.eq_ignore_ascii_case("vbscript") {
        return None;
    }
    Some(String::from_utf8_lossy(&crate::inspect::percent_decode(script)).into_owned())
}

/// Scripts by which web pages say « this link leads nowhere »: nothing, a comment, `void(0)`, a constant.
fn does_nothing(script: &str) -> bool {
    // A comment ends with its line.
    if script.trim_start().starts_with("//") && !script.trim().contains(['\n', '\r', '\u{2028}', '\u{2029}']) {
        return true;
    }
    let script: String = script.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let idle = |statement: &str| {
        let value = statement.strip_prefix("return").unwrap_or(statement);
        let value = value.strip_prefix("void").unwrap_or(value).trim_matches(['(', ')', '\'', '"']);
        matches!(value, "" | "0" | "1" | "null" | "undefined" | "false" | "true" | "{}")
    };
    script.split(';').all(idle)
}

/// Extensions that open in a reader, an office suite or a player, and run nothing by themselves.
const DOCUMENT_EXTENSIONS: [&str; 28] = [
    "pdf", "docx", "dotx", "xlsx", "xltx", "pptx", "ppsx", "doc", "xls", "ppt", "pps", "odt", "ods", "odp", "odg", "rtf", "txt", "csv",
    "png", "jpg", "jpeg", "gif", "bmp", "tif", "tiff", "mp4", "mov", "avi",
];

/// Whether the name of a target is that of a document.
fn is_document(target: &str) -> bool {
    let name = target.rsplit(['/', '\\', ':']).next().unwrap_or_default().trim_end_matches([' ', '.', '\0']);
    name.rsplit_once('.').is_some_and(|(_, extension)| DOCUMENT_EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Links are ordinary; a link that the reader follows by itself is not.
fn automatic(file: &mut File, action: &Object, place: &Place, facts: &mut Facts, budget: &mut Budget) -> Result<(), Exceeded> {
    let Some(dict) = action.dict() else { return Ok(()) };
    if file.entry(dict, "S", budget)?.is_name("URI") {
        let target = file.entry(dict, "URI", budget)?;
        let target = text_string(target.string().unwrap_or_default());
        facts.push(Signal::new("pdf-action-remote").at(place.clone()).arg("action", "URI").arg("target", target));
    }
    Ok(())
}

/// Whether a widget belongs to a signature field; the type may stand on its parents (§12.7.4.1).
fn inherits_signature(file: &mut File, dict: &Dict, budget: &mut Budget) -> Result<bool, Exceeded> {
    let mut kind = file.entry(dict, "FT", budget)?;
    let mut parent = file.entry(dict, "Parent", budget)?;
    for _ in 0..16 {
        if *kind != Object::Null {
            break;
        }
        kind = file.entry(parent.dict_or_empty(), "FT", budget)?;
        parent = file.entry(parent.dict_or_empty(), "Parent", budget)?;
    }
    Ok(kind.is_name("Sig"))
}

/// The name in a file specification (§7.11.2), a plain string, or a URL.
fn file_name(file: &mut File, specification: &Object, budget: &mut Budget) -> Result<String, Exceeded> {
    let name = match specification {
        Object::Str(name) => text_string(name),
        Object::Dict(dict) => {
            let mut name = String::new();
            for key in ["UF", "F", "Unix", "DOS", "Mac", "Desc"] {
                let value = file.entry(dict, key, budget)?;
                if let Some(value) = value.string() {
                    name = text_string(value);
                    break;
                }
            }
            name
        }
        _ => String::new(),
    };
    Ok(name.chars().take(300).collect())
}
