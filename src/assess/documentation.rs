//! What the product documentation says: a pure reading of facts already gathered, for the verifier.
//!
//! Goals:
//! 1. The verifier gets a map of the documentation: which document, how many pages, its bookmarks, and for
//!    each topic of the reference the pages that mention it.
//! 2. Matching is that of a careful reader in a hurry: whole words, in order, whatever their case, accents,
//!    hyphens or plural. It proves presence, never absence: what is not found is a notice.
//! 3. Topics, terms and profiles come from the pipeline's files, never from here.

use std::collections::BTreeSet;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;

use crate::model::facts::{Detail, MAX_SIGNALS_PER_CODE, OutlineEntry};
use crate::model::work::Work;
use crate::model::{Facts, Place, Signal, Text};
use crate::pipeline::documentation::{DocumentationConfig, Topic};

/// A profile that the candidature declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredProfile {
    /// Id, as in [`Topic::profiles`].
    pub id: String,
    /// Name for people.
    pub title: String,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentationReading {
    /// Documents, in the order they were met; at most [`MAX_DOCUMENTS`] of them.
    pub documents: Vec<DocumentReading>,
    /// One per topic that applies, in the order of the configuration.
    pub mentions: Vec<Mention>,
    /// What a rule may care about.
    pub signals: Vec<Signal>,
}

/// One document of the documentation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentReading {
    /// Path through archives, outermost first (untrusted); empty for the item itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Title its metadata states, untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Pages, where they were counted or stated.
    pub pages: u32,
    /// Characters of text that were searched.
    pub chars: u64,
    /// Bookmarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outline: Vec<OutlineEntry>,
}

/// Where a topic is mentioned.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mention {
    /// Topic id.
    pub topic: String,
    /// Topic name.
    pub title: Text,
    /// Declared profiles it belongs to; empty = all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Mentions in the text.
    pub count: u64,
    /// Terms that were found, as configured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<String>,
    /// First pages that mention it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// First bookmarks that name it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bookmarks: Vec<Bookmark>,
}

/// A bookmark that names a topic.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bookmark {
    /// Its title, untrusted.
    pub title: String,
    /// Where it leads.
    pub place: Place,
}

/// Documents that are listed; all are searched. An archive may have ten thousand members.
const MAX_DOCUMENTS: usize = 500;

/// Reads the documentation: every file of one slot (PDF, office document, or archives of them).
pub fn read<'f>(
    files: impl IntoIterator<Item = &'f Facts>,
    config: &DocumentationConfig,
    declared: &[DeclaredProfile],
    work: &Work,
) -> DocumentationReading {
    let mut sources = Vec::new();
    for facts in files {
        collect(facts, &mut Vec::new(), &mut sources, work);
    }
    let mut reading = DocumentationReading::default();
    for source in work.each(&sources) {
        reading.describe(source, config);
    }
    let searchable: Vec<Searchable> = sources.iter().flat_map(searchable).take_while(|s| work.read(s.words.len())).collect();
    let applies = |topic: &&Topic| topic.profiles.is_empty() || topic.profiles.iter().any(|id| declared.iter().any(|p| p.id == *id));
    reading.mentions = config.topics.iter().filter(applies).map(|topic| mention(topic, declared, &searchable, config, work)).collect();
    // Nothing is said of topics where there is nothing to read.
    if searchable.iter().any(|s| !s.outline) {
        reading.absences(config, declared);
    }
    reading
}

/// A document and its path, which the documents of one archive share.
struct Source<'f> {
    members: Vec<Rc<str>>,
    facts: &'f Facts,
}

fn collect<'f>(facts: &'f Facts, path: &mut Vec<Rc<str>>, sources: &mut Vec<Source<'f>>, work: &Work) {
    let readable = matches!(facts.detail, Some(Detail::Pdf(_) | Detail::Office(_))) || !facts.text.is_empty();
    if readable && facts.members().is_empty() {
        sources.push(Source { members: path.clone(), facts });
    }
    // The depth of archives in archives was bounded when the facts were made.
    for member in work.each(facts.members()) {
        if let Some(inner) = &member.facts {
            path.push(member.name.as_str().into());
            collect(inner, path, sources, work);
            path.pop();
        }
    }
}

impl DocumentationReading {
    fn describe(&mut self, source: &Source, config: &DocumentationConfig) {
        let facts = source.facts;
        let pages = match &facts.detail {
            Some(Detail::Pdf(pdf)) => pdf.pages,
            Some(Detail::Office(office)) => office.stated_pages.or(office.slides).unwrap_or(0),
            _ => 0,
        };
        let outline = facts.pdf().map(|pdf| pdf.outline.clone()).unwrap_or_default();
        let chars: u64 = facts.text.iter().map(|chunk| chunk.text.chars().count() as u64).sum();
        let title = facts.metadata.get("title").cloned();
        let shown = title.clone().or_else(|| source.members.last().map(ToString::to_string)).unwrap_or_else(|| "PDF".to_owned());
        let members = || source.members.iter().map(ToString::to_string).collect::<Vec<_>>();
        let place = || Place { members: members(), ..Place::default() };
        // A PDF that cannot be opened has a finding of its own.
        if let Some(pdf) = facts.pdf().filter(|pdf| pdf.pages > 0) {
            if chars == 0 {
                self.say(Signal::new("documentation-no-text"), |signal| {
                    signal.at(place()).arg("title", shown.as_str()).arg("pages", pages)
                });
            }
            if pdf.outline.is_empty() && pages >= config.long_document_pages {
                self.say(Signal::new("documentation-no-outline"), |signal| {
                    signal.at(place()).arg("title", shown.as_str()).arg("pages", pages)
                });
            }
        }
        if self.documents.len() < MAX_DOCUMENTS {
            self.documents.push(DocumentReading { members: members(), title, pages, chars, outline });
        }
    }

    /// Says something of one document; past the number of documents that are named, they are counted.
    fn say(&mut self, signal: Signal, about: impl FnOnce(Signal) -> Signal) {
        let mut same = self.signals.iter_mut().filter(|s| s.code == signal.code);
        match same.nth(MAX_SIGNALS_PER_CODE - 1) {
            Some(last) => last.more += 1,
            None => self.signals.push(about(signal)),
        }
    }

    fn absences(&mut self, config: &DocumentationConfig, declared: &[DeclaredProfile]) {
        let absent: BTreeSet<&str> =
            self.mentions.iter().filter(|m| m.count == 0 && m.bookmarks.is_empty()).map(|m| m.topic.as_str()).collect();
        let mut signals = Vec::new();
        for topic in config.topics.iter().filter(|t| absent.contains(t.id.as_str())) {
            let signal = Signal::new("documentation-topic-absent").arg("topic", topic.title.fr.as_str());
            signals.push(signal.arg("terms", topic.terms.join(", ")));
        }
        for profile in declared {
            let own: Vec<&Topic> = config.topics.iter().filter(|t| t.profiles.contains(&profile.id)).collect();
            if !own.is_empty() && own.iter().all(|t| absent.contains(t.id.as_str())) {
                let signal = Signal::new("documentation-profile-absent").arg("profile", profile.title.as_str());
                signals.push(signal.arg("topics", own.len()));
            }
        }
        self.signals.extend(signals);
    }
}

/// A page of text or a bookmark, ready for matching.
struct Searchable {
    words: String,
    /// The same with words cut at a line end joined again; absent where there are none.
    joined: Option<String>,
    place: Place,
    /// The way to its document.
    members: Vec<Rc<str>>,
    /// A bookmark's title, as written.
    title: String,
    outline: bool,
}

impl Searchable {
    fn seen_from_outside(&self) -> Place {
        let mut place = self.place.clone();
        place.members.splice(0..0, self.members.iter().map(ToString::to_string));
        place
    }
}

fn searchable<'s>(source: &'s Source<'_>) -> impl Iterator<Item = Searchable> + 's {
    let text = source.facts.text.iter().map(move |chunk| {
        let joined = join_hyphenated(&chunk.text).map(|text| words(&text));
        Searchable {
            words: words(&chunk.text),
            joined,
            place: chunk.place.clone(),
            members: source.members.clone(),
            title: String::new(),
            outline: false,
        }
    });
    let outline = source.facts.pdf().map(|pdf| pdf.outline.as_slice()).unwrap_or_default();
    let bookmarks = outline.iter().map(move |entry| Searchable {
        words: words(&entry.title),
        joined: None,
        place: entry.page.map_or_else(Place::default, Place::page),
        members: source.members.clone(),
        title: entry.title.clone(),
        outline: true,
    });
    text.chain(bookmarks)
}

fn mention(topic: &Topic, declared: &[DeclaredProfile], sources: &[Searchable], config: &DocumentationConfig, work: &Work) -> Mention {
    let mut mention = Mention { topic: topic.id.clone(), title: topic.title.clone(), ..Mention::default() };
    mention.profiles = topic.profiles.iter().filter(|id| declared.iter().any(|p| p.id == **id)).cloned().collect();
    // Aliases that differ by case or accents only are one term.
    let mut terms: Vec<(String, &String)> = topic.terms.iter().map(|t| (words(t), t)).filter(|(w, _)| !w.trim().is_empty()).collect();
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms.dedup_by(|a, b| a.0 == b.0);
    let mut found = BTreeSet::new();
    for source in sources {
        if !work.read(source.words.len() * terms.len()) {
            break;
        }
        let mut here = 0;
        for (term, written) in &terms {
            let count = occurrences(&source.words, term).max(source.joined.as_deref().map_or(0, |text| occurrences(text, term)));
            if count > 0 {
                here += count;
                found.insert((*written).clone());
            }
        }
        if here == 0 {
            continue;
        }
        if source.outline {
            if mention.bookmarks.len() < config.max_places {
                mention.bookmarks.push(Bookmark { title: source.title.clone(), place: source.seen_from_outside() });
            }
        } else {
            mention.count += here;
            if mention.places.len() < config.max_places {
                let place = source.seen_from_outside();
                if mention.places.last() != Some(&place) {
                    mention.places.push(place);
                }
            }
        }
    }
    mention.terms = found.into_iter().collect();
    mention
}

/// How often `term` occurs in `text`, both as [`words`] writes them.
fn occurrences(text: &str, term: &str) -> u64 {
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = rest.find(term) {
        count += 1;
        // The space that ends this match may begin the next one.
        rest = rest.get(at + term.len() - 1..).unwrap_or_default();
    }
    count
}

/// ` identite nationale de sante `: lower case, no accents, one space around each word, plural marks gone
/// (a final `s` or `x` of words longer than three letters), so that equal words are equal bytes.
fn words(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + 2);
    let mut word = String::new();
    let mut close = |word: &mut String| {
        if word.chars().count() > 3 && word.ends_with(['s', 'x']) {
            word.pop();
        }
        if !word.is_empty() {
            words.push(' ');
            words.push_str(word);
            word.clear();
        }
    };
    for c in text.nfkd() {
        match c {
            'œ' | 'Œ' => word.push_str("oe"),
            'æ' | 'Æ' => word.push_str("ae"),
            _ if unicode_normalization::char::is_combining_mark(c) => {}
            // A soft hyphen is not seen.
            '\u{AD}' => {}
            _ if c.is_alphanumeric() => word.extend(c.to_lowercase()),
            _ => close(&mut word),
        }
    }
    close(&mut word);
    words.push(' ');
    words
}

/// Joins words cut at a line end (`identi- fication`); `None` where there are none.
fn join_hyphenated(text: &str) -> Option<String> {
    let mut joined = String::new();
    let mut last = 0;
    for (at, hyphen) in text.match_indices(['-', '\u{2010}']) {
        let after = at + hyphen.len();
        let before_is_letter = text[..at].chars().next_back().is_some_and(char::is_alphabetic);
        let rest = text[after..].trim_start();
        if before_is_letter && rest.len() < text.len() - after && rest.starts_with(char::is_lowercase) {
            joined.push_str(&text[last..at]);
            last = text.len() - rest.len();
        }
    }
    if last == 0 {
        return None;
    }
    joined.push_str(&text[last..]);
    Some(joined)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::facts::{ArchiveFacts, MemberFacts, PdfFacts, TextChunk};

    fn read<'f>(
        files: impl IntoIterator<Item = &'f Facts>,
        config: &DocumentationConfig,
        declared: &[DeclaredProfile],
    ) -> DocumentationReading {
        super::read(files, config, declared, &Work::unbounded())
    }

    fn pdf(pages: &[&str], outline: &[&str]) -> Facts {
        let entry = |title: &&str| OutlineEntry { level: 0, title: (*title).to_owned(), page: Some(1) };
        let chunk = |(text, page): (&&str, u32)| TextChunk { place: Place::page(page), text: (*text).to_owned() };
        Facts {
            detail: Some(Detail::Pdf(PdfFacts {
                pages: u32::try_from(pages.len()).unwrap(),
                outline: outline.iter().map(entry).collect(),
                ..PdfFacts::default()
            })),
            text: pages.iter().zip(1u32..).filter(|(text, _)| !text.is_empty()).map(chunk).collect(),
            ..Facts::default()
        }
    }

    fn topic(id: &str, terms: &[&str], profiles: &[&str]) -> Topic {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Topic { id: id.to_owned(), title: Text::new(id, id), terms: owned(terms), profiles: owned(profiles) }
    }

    fn config(topics: Vec<Topic>) -> DocumentationConfig {
        DocumentationConfig { topics, ..DocumentationConfig::default() }
    }

    fn codes(reading: &DocumentationReading) -> Vec<&str> {
        reading.signals.iter().map(|s| s.code.as_str()).collect()
    }

    #[test]
    fn phrases_are_found_whatever_their_accents_case_and_plural() {
        let facts = pdf(&["L'IDENTITE NATIONALE DE SANTÉ (INS).", "Les identités nationales de santé, cœur du métier"], &[]);
        let config = config(vec![topic("ins", &["identité nationale de santé", "INS"], &[]), topic("coeur", &["coeur"], &[])]);
        let reading = read([&facts], &config, &[]);
        assert_eq!(reading.mentions[0].count, 3);
        assert_eq!(reading.mentions[0].places, [Place::page(1), Place::page(2)]);
        assert_eq!(reading.mentions[1].count, 1);
        assert!(codes(&reading).is_empty());
    }

    #[test]
    fn parts_of_words_are_no_mention() {
        let reading = read([&pdf(&["inscription, moins, INSi"], &[])], &config(vec![topic("ins", &["INS"], &[])]), &[]);
        assert_eq!(reading.mentions[0].count, 0);
        assert_eq!(codes(&reading), ["documentation-topic-absent"]);
    }

    #[test]
    fn words_cut_at_a_line_end_are_found() {
        let facts = pdf(&["la messa- gerie sécurisée et le compte-rendu"], &[]);
        let config = config(vec![topic("mss", &["messagerie sécurisée"], &[]), topic("cr", &["compte rendu"], &[])]);
        let reading = read([&facts], &config, &[]);
        assert_eq!(reading.mentions.iter().map(|m| m.count).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn places_inside_an_archive_start_with_the_member() {
        let member = MemberFacts { name: "guide.pdf".into(), facts: Some(Box::new(pdf(&["DMP"], &[]))), ..MemberFacts::default() };
        let archive = ArchiveFacts { members: vec![member], ..ArchiveFacts::default() };
        let facts = Facts { detail: Some(Detail::Archive(archive)), ..Facts::default() };
        let reading = read([&facts], &config(vec![topic("dmp", &["DMP"], &[])]), &[]);
        assert_eq!(reading.documents[0].members, ["guide.pdf"]);
        assert_eq!(reading.mentions[0].places, [Place::page(1).inside("guide.pdf")]);
    }

    #[test]
    fn a_scan_is_said_to_have_no_text_and_nothing_is_said_of_topics() {
        let reading = read([&pdf(&["", ""], &[])], &config(vec![topic("dmp", &["DMP"], &[])]), &[]);
        assert_eq!(codes(&reading), ["documentation-no-text"]);
    }

    #[test]
    fn a_long_document_without_bookmarks_is_noted() {
        let pages = vec!["texte"; 30];
        assert_eq!(codes(&read([&pdf(&pages, &[])], &config(vec![]), &[])), ["documentation-no-outline"]);
        assert!(codes(&read([&pdf(&pages, &["Accueil"])], &config(vec![]), &[])).is_empty());
    }

    #[test]
    fn topics_of_undeclared_profiles_are_not_asked_for() {
        let topics = vec![topic("ciba", &["CIBA"], &["ciba"]), topic("msp", &["coordination"], &["msp"])];
        let declared = [DeclaredProfile { id: "ciba".into(), title: "CIBA".into() }];
        let reading = read([&pdf(&["Bienvenue"], &[])], &config(topics), &declared);
        assert_eq!(reading.mentions.iter().map(|m| m.topic.as_str()).collect::<Vec<_>>(), ["ciba"]);
        assert_eq!(codes(&reading), ["documentation-topic-absent", "documentation-profile-absent"]);
    }

    #[test]
    fn a_bookmark_alone_is_a_mention() {
        let reading = read([&pdf(&["texte"], &["3. Gestion du DMP"])], &config(vec![topic("dmp", &["dmp"], &[])]), &[]);
        assert_eq!(reading.mentions[0].bookmarks[0].title, "3. Gestion du DMP");
        assert!(codes(&reading).is_empty());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<DocumentationConfig>("topicz = []").is_err());
        assert_eq!(toml::from_str::<DocumentationConfig>("").unwrap(), DocumentationConfig::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}", term in ".{0,20}") {
            read([&pdf(&[&text], &[&text])], &config(vec![topic("t", &[&term], &[])]), &[]);
            let once = words(&text);
            prop_assert!(once.starts_with(' ') && once.ends_with(' '));
        }
    }
}
