//! The answer to the vendor: what to fix, where, why and how, ready to paste into the platform's messaging.
//!
//! Goals:
//! 1. Plain text that reads well in a narrow field: no markup, no table, at most [`MAX_CHARS`] characters; what does
//!    not fit is counted, never cut in the middle.
//! 2. The heaviest first, one proof at a time; the same remedy is written once.
//! 3. Nothing hostile and nothing secret: names are made safe, identity numbers masked, share keys removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::OnceLock;

use regex::Regex;

use super::privacy;
use crate::model::report::{ItemReport, Report};
use crate::model::submission::{FiledUnder, Stage};
use crate::model::text::display_safe;
use crate::model::{Category, Finding, Lang, Severity};
use crate::pipeline::guards::PrivacyPolicy;

/// Longest message, characters: what a messaging field takes without trouble.
pub const MAX_CHARS: usize = 4000;
/// Longest reason or remedy, characters.
const MAX_SENTENCE: usize = 420;
/// Longest name or title, characters.
const MAX_NAME: usize = 90;
/// Findings of one code on one item that are written out; the rest is counted.
const SHOWN_PER_CODE: usize = 3;
/// Kept free for « et N autres » and the closing, characters.
const RESERVE: usize = 420;

/// The message for `report` in `lang`.
pub fn vendor_message(report: &Report, lang: Lang) -> String {
    let words = Words { lang };
    let errors = places(report, Severity::Error);
    let missing: Vec<&Finding> = report.findings.iter().filter(|f| f.severity >= Severity::Warning && is_missing_proof(f)).collect();
    let warnings = places(report, Severity::Warning);
    let fatal = all(report).filter(|(_, f)| f.severity == Severity::Fatal).count();
    let to_fix = errors.iter().map(Place::count).sum::<usize>() + missing.iter().filter(|f| f.severity == Severity::Error).count();

    let mut message = Message { text: opening(report, words, to_fix, fatal), is_full: false, left_out: 0 };
    if !errors.is_empty() {
        message.heading(words.say("À CORRIGER", "TO FIX"));
        let mut explained = BTreeSet::new();
        for place in &errors {
            message.place(place, words, &mut explained);
        }
    }
    if !missing.is_empty() {
        message.heading(words.say("PREUVES MANQUANTES", "MISSING PROOFS"));
        let ids = missing.iter().filter_map(|f| f.args.get("preuve")).map(|a| clean(&a.to_string(), 60));
        message.list(ids, words);
    }
    if !warnings.is_empty() {
        message.heading(words.say("POINTS D'ATTENTION (le dépôt n'est pas bloqué)", "POINTS OF ATTENTION (the deposit is not blocked)"));
        for place in &warnings {
            message.short(place, words);
        }
    }
    if message.left_out > 0 {
        let n = message.left_out;
        let _ = match lang {
            Lang::Fr if n == 1 => write!(message.text, "\n… et 1 autre point, voir le rapport.\n"),
            Lang::Fr => write!(message.text, "\n… et {n} autres points, voir le rapport.\n"),
            Lang::En if n == 1 => write!(message.text, "\n… and 1 more point, see the report.\n"),
            Lang::En => write!(message.text, "\n… and {n} more points, see the report.\n"),
        };
    }
    message.text.push_str(&closing(words, to_fix));
    message.text
}

#[derive(Clone, Copy)]
struct Words {
    lang: Lang,
}

impl Words {
    fn say(self, fr: &'static str, en: &'static str) -> &'static str {
        match self.lang {
            Lang::Fr => fr,
            Lang::En => en,
        }
    }

    fn quote(self, what: &str) -> String {
        match self.lang {
            Lang::Fr => format!("« {what} »"),
            Lang::En => format!("“{what}”"),
        }
    }
}

fn opening(report: &Report, words: Words, to_fix: usize, fatal: usize) -> String {
    let number = if report.candidature.number.is_empty() { "—".to_owned() } else { clean(&report.candidature.number, 40) };
    let part = match &report.stage {
        Stage::Eligibility => words.say(", étape « Éligibilité »", ", “Eligibility” step").to_owned(),
        Stage::Chapter { chapter } => {
            let title = report.chapters.iter().find(|c| c.id == *chapter).map_or(chapter.as_str(), |c| c.title.get(words.lang));
            format!(", {} {}", words.say("chapitre", "chapter"), words.quote(&clean(title, MAX_NAME)))
        }
        Stage::Dossier => String::new(),
    };
    let mut text = match words.lang {
        Lang::Fr => format!("Bonjour,\n\nLe dépôt de la candidature {number} (révision {}{part}) a été vérifié. ", report.revision),
        Lang::En => format!("Hello,\n\nThe deposit of candidature {number} (revision {}{part}) has been checked. ", report.revision),
    };
    let _ = match (words.lang, to_fix) {
        (Lang::Fr, 0) => writeln!(text, "Aucune correction n'est demandée."),
        (Lang::Fr, 1) => writeln!(text, "Un point est à corriger avant l'examen du dossier."),
        (Lang::Fr, n) => writeln!(text, "{n} points sont à corriger avant l'examen du dossier."),
        (Lang::En, 0) => writeln!(text, "No correction is asked for."),
        (Lang::En, 1) => writeln!(text, "One point must be fixed before the file is examined."),
        (Lang::En, n) => writeln!(text, "{n} points must be fixed before the file is examined."),
    };
    if fatal > 0 {
        let _ = match words.lang {
            Lang::Fr => writeln!(
                text,
                "Par ailleurs, {fatal} contrôle(s) n'ont pas abouti pour une raison technique : vous n'avez rien à corriger à ce titre, ils seront relancés."
            ),
            Lang::En => writeln!(
                text,
                "Besides, {fatal} check(s) did not end for a technical reason: you have nothing to fix there, they will be run again."
            ),
        };
    }
    text
}

fn closing(words: Words, to_fix: usize) -> String {
    let ask = match (words.lang, to_fix) {
        (_, 0) => "",
        (Lang::Fr, _) => {
            "\nMerci de corriger ces points puis de soumettre à nouveau. Les éléments inchangés n'ont pas à être déposés une seconde fois.\n"
        }
        (Lang::En, _) => "\nPlease fix these points and submit again. Unchanged items need not be deposited a second time.\n",
    };
    format!(
        "{ask}\n{}\n",
        words.say("Cordialement,\nLe service de vérification des candidatures", "Kind regards,\nThe candidature verification service")
    )
}

/// Findings of one weight about one proof, slot, or the deposit as a whole.
struct Place<'a> {
    /// Where the items are filed; `None` for the deposit as a whole.
    filed: Option<&'a FiledUnder>,
    /// Wording of the proof or name of the slot, for people.
    title: Option<Titled<'a>>,
    findings: Vec<(Option<&'a ItemReport>, &'a Finding)>,
}

enum Titled<'a> {
    Wording(&'a str),
    Name(&'a crate::model::Text),
}

impl Place<'_> {
    /// Points, repeated ones included once: what a person has to do.
    fn count(&self) -> usize {
        self.findings.len()
    }

    fn heading(&self, words: Words) -> String {
        let title = match &self.title {
            Some(Titled::Wording(wording)) => clean(wording, MAX_NAME),
            Some(Titled::Name(name)) => clean(name.get(words.lang), MAX_NAME),
            None => String::new(),
        };
        match self.filed {
            None => words.say("Dépôt dans son ensemble", "The deposit as a whole").to_owned(),
            Some(FiledUnder::Slot(id)) => {
                format!("{} {}", words.say("Pièce", "Document"), words.quote(&if title.is_empty() { clean(id, MAX_NAME) } else { title }))
            }
            Some(FiledUnder::Preuve(id)) if id.is_empty() => words.say("Fichiers non classés", "Files filed nowhere").to_owned(),
            Some(FiledUnder::Preuve(id)) => {
                let dash = if title.is_empty() { String::new() } else { format!(" – {title}") };
                format!("{} {}{dash}", words.say("Preuve", "Proof"), clean(id, 60))
            }
        }
    }
}

/// Every finding of the report, items first as they are shown.
fn all(report: &Report) -> impl Iterator<Item = (Option<&ItemReport>, &Finding)> {
    let of_items = report.items.iter().flat_map(|i| i.findings.iter().map(move |f| (Some(i), f)));
    of_items.chain(report.findings.iter().map(|f| (None, f)))
}

/// Missing proofs are listed together: two hundred of them have one remedy.
fn is_missing_proof(finding: &Finding) -> bool {
    finding.category == Category::Missing && finding.args.contains_key("preuve")
}

fn places(report: &Report, severity: Severity) -> Vec<Place<'_>> {
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut known: BTreeMap<Option<&FiledUnder>, usize> = BTreeMap::new();
    let titles = Titles::new(report);
    for (item, finding) in all(report).filter(|(_, f)| f.severity == severity) {
        if item.is_none() && is_missing_proof(finding) {
            continue;
        }
        let filed = item.map(|i| &i.filed_under);
        let at = *known.entry(filed).or_insert(places.len());
        match places.get_mut(at) {
            Some(place) => place.findings.push((item, finding)),
            None => places.push(Place { filed, title: filed.and_then(|f| titles.of(f)), findings: vec![(item, finding)] }),
        }
    }
    places
}

/// Titles of proofs and slots by id.
struct Titles<'a> {
    preuves: BTreeMap<&'a str, &'a str>,
    slots: BTreeMap<&'a str, &'a crate::model::Text>,
}

impl<'a> Titles<'a> {
    fn new(report: &'a Report) -> Self {
        Self {
            preuves: report.preuves.iter().map(|p| (p.id.as_str(), p.title.as_str())).collect(),
            slots: report.slots.iter().map(|s| (s.id.as_str(), &s.title)).collect(),
        }
    }

    fn of(&self, filed: &FiledUnder) -> Option<Titled<'a>> {
        match filed {
            FiledUnder::Preuve(id) => self.preuves.get(id.as_str()).map(|title| Titled::Wording(title)),
            FiledUnder::Slot(id) => self.slots.get(id.as_str()).map(|title| Titled::Name(title)),
        }
    }
}

/// The message as it grows, and what no longer fitted.
struct Message {
    text: String,
    is_full: bool,
    /// Points that are not written out.
    left_out: usize,
}

impl Message {
    /// Adds `block` where it fits; once something was left out, so is all that follows it.
    fn add(&mut self, block: &str, points: usize) -> bool {
        self.is_full = self.is_full || self.text.chars().count() + block.chars().count() > MAX_CHARS - RESERVE;
        if self.is_full {
            self.left_out += points;
        } else {
            self.text.push_str(block);
        }
        !self.is_full
    }

    fn heading(&mut self, heading: &str) {
        self.add(&format!("\n{heading}\n"), 0);
    }

    /// What, where, why and how for one place.
    fn place(&mut self, place: &Place<'_>, words: Words, explained: &mut BTreeSet<String>) {
        let mut heading = format!("\n{}\n", place.heading(words));
        let mut by_code: BTreeMap<(&str, Option<&str>), usize> = BTreeMap::new();
        for (item, finding) in &place.findings {
            let seen = by_code.entry((finding.code.as_str(), item.map(|i| i.id.as_str()))).or_default();
            *seen += 1;
            if *seen > SHOWN_PER_CODE || self.is_full {
                // The first ones say what is wrong and how to fix all of them.
                self.left_out += 1;
                continue;
            }
            let mut block = heading.clone();
            let summary = clean(finding.summary.get(words.lang), MAX_NAME * 2);
            let reason = clean(finding.reason.get(words.lang), MAX_SENTENCE);
            let more = match (finding.more, words.lang) {
                (0, _) => String::new(),
                (n, Lang::Fr) => format!(" (et {n} fois de plus)"),
                (n, Lang::En) => format!(" (and {n} more times)"),
            };
            let _ = writeln!(block, "- {}{summary}. {reason}{more}", position(*item, finding, words));
            let remedy = clean(finding.remedy.get(words.lang), MAX_SENTENCE);
            let is_new = !explained.contains(&remedy);
            if is_new {
                let _ = writeln!(block, "  {} {remedy}", words.say("Comment faire :", "How:"));
            }
            if self.add(&block, 1) {
                heading.clear();
                explained.insert(remedy);
            }
        }
    }

    /// One line a warning.
    fn short(&mut self, place: &Place<'_>, words: Words) {
        let heading = place.heading(words);
        let name = heading.split(" – ").next().unwrap_or(&heading);
        let mut lines: Vec<(String, usize)> = Vec::new();
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for (item, finding) in &place.findings {
            let line = format!("- {name}, {}{}\n", position(*item, finding, words), clean(finding.summary.get(words.lang), MAX_NAME * 2));
            let at = *known.entry(line.clone()).or_insert(lines.len());
            match lines.get_mut(at) {
                Some((_, n)) => *n += 1,
                None => lines.push((line, 1)),
            }
        }
        for (line, points) in lines {
            self.add(&line, points);
        }
    }

    /// Short things, separated by commas, as many as fit in one line of reasonable length.
    fn list(&mut self, things: impl Iterator<Item = String>, words: Words) {
        const LONGEST: usize = 600;
        let things: Vec<String> = things.collect();
        let mut line = String::new();
        let mut shown = 0;
        for thing in &things {
            if line.chars().count() + thing.chars().count() > LONGEST {
                break;
            }
            if shown > 0 {
                line.push_str(", ");
            }
            line.push_str(thing);
            shown += 1;
        }
        let rest = things.len() - shown;
        if rest > 0 {
            let _ = match words.lang {
                Lang::Fr => write!(line, " et {rest} autres, voir le rapport"),
                Lang::En => write!(line, " and {rest} more, see the report"),
            };
        }
        let _ = match words.lang {
            Lang::Fr => write!(line, ".\n  Comment faire : déposez au moins un fichier ou un lien pour chacune.\n"),
            Lang::En => write!(line, ".\n  How: deposit at least one file or link for each.\n"),
        };
        self.add(&line, things.len());
    }
}

/// « fichier « a.zip », b.png, page 3 : », or nothing for the whole deposit.
fn position(item: Option<&ItemReport>, finding: &Finding, words: Words) -> String {
    let Some(item) = item else { return String::new() };
    let kind = if item.link { words.say("lien", "link") } else { words.say("fichier", "file") };
    let place = finding.place.show(words.lang);
    let place = if place.is_empty() { String::new() } else { format!(", {}", clean(&place, MAX_NAME * 2)) };
    let colon = words.say(" : ", ": ");
    format!("{kind} {}{place}{colon}", words.quote(&clean(&item.name, MAX_NAME)))
}

/// One line, safe to paste, without identity numbers or share keys.
#[expect(clippy::expect_used, reason = "the pattern is a constant that tests compile")]
fn clean(untrusted: &str, max_chars: usize) -> String {
    static KEYS: OnceLock<Regex> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        Regex::new(r#"(?i)\b((?:privacy|readAccess|api|access)_?key|token|signature|x-amz-[a-z-]+)=[^\s&"'»”]+"#)
            .expect("the pattern is a constant")
    });
    let line = untrusted.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = keys.replace_all(&line, "$1=…");
    let masked = privacy::masked_text(&line, &PrivacyPolicy::default());
    display_safe(masked.as_deref().unwrap_or(&line), max_chars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::fixtures::{item, report, with_finding, with_signal};
    use crate::model::{Place as At, Signal};

    fn rejected() -> Report {
        let mut link = with_finding(
            item("l", "INS.03.01.01", "https://h/evs/report.seam?oid=1.2&privacyKey=SECRET", ""),
            "link-not-accepted",
            At::default(),
        );
        link.link = true;
        let mut report = report(
            2,
            vec![
                with_finding(
                    with_finding(
                        item("a", "INS.01.01.01", "capture 1 85 05 78 006 084 91.zip", "aa"),
                        "zip-encrypted",
                        At::member("écran.png"),
                    ),
                    "privacy-nir-name",
                    At::default(),
                ),
                with_finding(item("b", "INS.01.01.01", "b\u{202e}gnp.zip", "bb"), "zip-encrypted", At::default()),
                with_signal(
                    item("c", "INS.02.01.01", "c.docx", "cc"),
                    Signal::new("privacy-nir").at(At::page(3)).arg("number", "1 85 ** ** *** *** **").arg("characters", 15),
                ),
                link,
            ],
        );
        let missing = Signal::new("preuve-missing").arg("preuve", "INS.04.01.01").arg("title", "Copie d'écran");
        report.findings.extend(crate::assess::policy::finding(&missing, &std::collections::BTreeMap::new()));
        report
    }

    #[test]
    fn a_rejected_deposit_in_french() {
        insta::assert_snapshot!(vendor_message(&rejected(), Lang::Fr));
    }

    #[test]
    fn a_rejected_deposit_in_english() {
        insta::assert_snapshot!(vendor_message(&rejected(), Lang::En));
    }

    #[test]
    fn an_accepted_deposit() {
        insta::assert_snapshot!(vendor_message(&report(1, vec![item("a", "INS.01.01.01", "a.png", "aa")]), Lang::Fr));
    }

    #[test]
    fn neither_numbers_nor_keys_nor_hidden_characters_are_in_the_message() {
        for lang in [Lang::Fr, Lang::En] {
            let message = vendor_message(&rejected(), lang);
            for secret in ["084 91", "185057800608491", "SECRET", "\u{202e}"] {
                assert!(!message.contains(secret), "{secret}: {message}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let items = (0..300)
            .map(|n| with_finding(item(&format!("i{n}"), "INS.01.01.01", &format!("{n}.zip"), "aa"), "zip-encrypted", At::default()));
        let report = report(1, items.collect());
        let message = vendor_message(&report, Lang::Fr);
        assert!(message.chars().count() <= MAX_CHARS, "{}", message.chars().count());
        let shown = message.lines().filter(|l| l.starts_with("- ")).count();
        assert!(message.contains(&format!("… et {} autres points, voir le rapport.", 300 - shown)), "{message}");
        assert!(message.contains("300 points sont à corriger"));
        assert_eq!(message.matches("Comment faire").count(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_message_is_longer_than_the_limit(names in proptest::collection::vec("\\PC{0,400}", 0..60), more in 0u64..u64::MAX) {
            let items = names.iter().enumerate().map(|(n, name)| {
                let signal = Signal { more, ..Signal::new("file-name-unsafe").arg("name", name.as_str()) };
                with_signal(item(&n.to_string(), name, name, "aa"), signal)
            });
            let mut report = report(1, items.collect());
            report.candidature.number = names.concat();
            for lang in [Lang::Fr, Lang::En] {
                proptest::prop_assert!(vendor_message(&report, lang).chars().count() <= MAX_CHARS);
            }
        }
    }
}
