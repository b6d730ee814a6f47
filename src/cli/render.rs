//! What a person reads in a terminal. Every name shown here is untrusted and made safe.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use anstyle::{AnsiColor, Style as Ansi};
use unicode_width::UnicodeWidthStr as _;

use crate::model::facts::{Detail, Facts};
use crate::model::gazelle::GazelleFacts;
use crate::model::report::{ItemReport, Report};
use crate::model::text::{display_safe, is_unsafe_to_show};
use crate::model::{Finding, Lang, Severity, Text, Verdict, messages};

/// Findings of one code shown in full; the rest is named on one line.
const SHOWN_PER_CODE: usize = 5;

/// Language and colours. Colours are dropped by `anstream` where the output is not a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    lang: Lang,
    bold: Ansi,
    dim: Ansi,
    red: Ansi,
    yellow: Ansi,
    green: Ansi,
    magenta: Ansi,
}

impl Style {
    /// The style of `lang`.
    pub fn new(lang: Lang) -> Self {
        let colour = |c: AnsiColor| Ansi::new().fg_color(Some(c.into()));
        Self {
            lang,
            bold: Ansi::new().bold(),
            dim: Ansi::new().dimmed(),
            red: colour(AnsiColor::Red),
            yellow: colour(AnsiColor::Yellow),
            green: colour(AnsiColor::Green),
            magenta: colour(AnsiColor::Magenta),
        }
    }

    fn say(&self, fr: &'static str, en: &'static str) -> &'static str {
        match self.lang {
            Lang::Fr => fr,
            Lang::En => en,
        }
    }

    fn verdict(&self, verdict: Verdict) -> (Ansi, &'static str) {
        match verdict {
            Verdict::Accepted => (self.green, "✔"),
            Verdict::AcceptedWithWarnings => (self.yellow, "!"),
            Verdict::Rejected => (self.red, "✘"),
            Verdict::Undetermined => (self.magenta, "?"),
        }
    }

    fn severity(&self, severity: Severity) -> (Ansi, &'static str) {
        match severity {
            Severity::Notice => (self.dim, "·"),
            Severity::Warning => (self.yellow, "!"),
            Severity::Fatal => (self.magenta, "?"),
            Severity::Error => (self.red, "✘"),
        }
    }
}

fn paint(style: Ansi, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// One line on standard output.
///
/// # Errors
/// Standard output is closed.
pub fn print_line(line: &str) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{line}")
}

/// One JSON text on standard output. JSON leaves DEL, C1 controls and bidirectional overrides as they are, and a
/// terminal obeys them: they are written as the escapes that any reader takes for the same.
///
/// # Errors
/// Standard output is closed.
pub fn print_json(json: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", terminal_safe_json(json))
}

/// Outside strings, JSON has no such character but line ends, and inside it an escape means the same.
fn terminal_safe_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| *c != '\n' && is_unsafe_to_show(*c)) {
        let _ = write!(out, "{}\\u{:04x}", &rest[..at], u32::from(c));
        rest = &rest[at + c.len_utf8()..];
    }
    out + rest
}

/// One loose file: what it is, then what is wrong with it.
///
/// # Errors
/// Standard output is closed.
pub fn loose_item(style: &Style, path: &Path, item: &ItemReport) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let (colour, mark) = style.verdict(item.verdict);
    let shown = display_safe(&path.to_string_lossy(), 300);
    writeln!(out, "{} {}  {}", paint(colour, mark), paint(style.bold, &shown), paint(colour, item.verdict.label().get(style.lang)))?;
    writeln!(out, "  {}", paint(style.dim, &what_it_is(style, item)))?;
    for finding in &item.findings {
        print_finding(style, &mut out, finding, "  ")?;
    }
    Ok(())
}

fn print_finding(style: &Style, out: &mut impl io::Write, finding: &Finding, indent: &str) -> io::Result<()> {
    let (colour, mark) = style.severity(finding.severity);
    let place = finding.place.show(style.lang);
    let place = if place.is_empty() { String::new() } else { format!("  [{place}]") };
    writeln!(
        out,
        "{indent}{} {}{}  {}",
        paint(colour, mark),
        paint(colour, finding.summary.get(style.lang)),
        place,
        paint(style.dim, finding.code.as_str())
    )?;
    writeln!(out, "{indent}    {}", one_line(finding.reason.get(style.lang)))?;
    if finding.severity >= Severity::Warning {
        writeln!(out, "{indent}    → {}", one_line(finding.remedy.get(style.lang)))?;
    }
    if finding.more > 0 {
        writeln!(out, "{indent}    {}", paint(style.dim, &format!("(+{} {})", finding.more, style.say("autres", "more"))))?;
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    display_safe(&text.split_whitespace().collect::<Vec<_>>().join(" "), 2000)
}

fn what_it_is(style: &Style, item: &ItemReport) -> String {
    let mut pieces = Vec::new();
    match item.facts.as_ref().and_then(|f| f.format) {
        Some(format) => pieces.push(format.label().to_owned()),
        None => pieces.push(style.say("format inconnu", "unknown format").to_owned()),
    }
    if let Some(size) = item.size {
        pieces.push(messages::bytes(i64::try_from(size).unwrap_or(i64::MAX), style.lang));
    }
    if let Some(facts) = &item.facts {
        pieces.extend(measures(style, facts));
    }
    if let Some(sha256) = &item.sha256 {
        pieces.push(format!("sha256 {}…", &sha256.get(..16).unwrap_or(sha256)));
    }
    pieces.join(" · ")
}

/// Pages, sheets, pixels, seconds: what sizes a document for a person.
fn measures(style: &Style, facts: &Facts) -> Vec<String> {
    let mut out = Vec::new();
    match &facts.detail {
        Some(Detail::Pdf(pdf)) => out.push(format!("{} page(s)", pdf.pages)),
        Some(Detail::Office(office)) => {
            if let Some(slides) = office.slides {
                out.push(format!("{slides} {}", style.say("diapositive(s)", "slide(s)")));
            } else if let Some(pages) = office.stated_pages {
                out.push(format!("{pages} page(s)"));
            }
        }
        Some(Detail::Workbook(book)) => {
            let cells: u64 = book.sheets.iter().map(|s| s.cells).sum();
            out.push(format!(
                "{} {}, {cells} {}",
                book.sheets.len(),
                style.say("feuille(s)", "sheet(s)"),
                style.say("cellule(s)", "cell(s)")
            ));
        }
        Some(Detail::Image(image)) => out.push(format!("{} × {} px", image.width, image.height)),
        Some(Detail::Video(video)) => {
            if let Some(seconds) = video.duration {
                out.push(format!("{seconds:.1} s"));
            }
            out.extend(video.tracks.iter().take(4).map(|t| display_safe(t.codec.trim(), 20)));
        }
        Some(Detail::Text(text)) => out.push(format!("{} {}, {}", text.lines, style.say("ligne(s)", "line(s)"), text.encoding)),
        Some(Detail::Archive(archive)) => {
            out.push(format!("{} {}", archive.entries, style.say("fichier(s) dans l'archive", "file(s) in the archive")))
        }
        None => {}
    }
    out
}

/// One Gazelle link: what the report says, then what is wrong with it.
///
/// # Errors
/// Standard output is closed.
pub fn gazelle(style: &Style, facts: &GazelleFacts, verdict: Verdict, findings: &[Finding]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let (colour, mark) = style.verdict(verdict);
    let shown = display_safe(&facts.link.shown, 300);
    writeln!(out, "{} {}  {}", paint(colour, mark), paint(style.bold, &shown), paint(colour, verdict.label().get(style.lang)))?;
    for (name, value) in crate::bundle::html::gazelle_rows(facts) {
        writeln!(out, "  {:<16} {value}", name.get(style.lang))?;
    }
    for finding in findings {
        print_finding(style, &mut out, finding, "  ")?;
    }
    Ok(())
}

/// The whole report of a submission: verdict, what to fix, warnings, completeness.
///
/// # Errors
/// Standard output is closed.
pub fn report(style: &Style, report: &Report, all: bool) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let title = report.pipeline.title.get(style.lang);
    let number = if report.candidature.number.is_empty() { "—" } else { &report.candidature.number };
    writeln!(
        out,
        "{} · {} {} · {} {}",
        paint(style.bold, title),
        style.say("candidature", "candidature"),
        display_safe(number, 40),
        style.say("révision", "revision"),
        report.revision
    )?;
    writeln!(
        out,
        "{}",
        paint(
            style.dim,
            &format!("{} {} · {}", report.pipeline.id, report.pipeline.version, display_safe(&report.pipeline.catalogue_source, 200))
        )
    )?;
    writeln!(out)?;

    let sections = [
        (Severity::Error, style.say("À corriger", "To fix")),
        (Severity::Fatal, style.say("Indéterminé (technique)", "Undetermined (technical)")),
        (Severity::Warning, style.say("À vérifier", "To look at")),
        (Severity::Notice, style.say("Pour information", "For information")),
    ];
    for (severity, heading) in sections {
        if severity == Severity::Notice && !all {
            continue;
        }
        section(style, &mut out, report, severity, heading, all)?;
    }
    completeness(style, &mut out, report)?;
    for limitation in &report.limitations {
        writeln!(out, "{} {}", paint(style.magenta, "?"), one_line(limitation.get(style.lang)))?;
    }
    let (colour, mark) = style.verdict(report.verdict);
    writeln!(out, "{} {}", paint(colour, mark), paint(colour.bold(), &sentence(style, report)))?;
    Ok(())
}

/// A finding and the item it is on; none for the submission as a whole.
type Placed<'a> = (Option<&'a ItemReport>, &'a Finding);

fn section(style: &Style, out: &mut impl io::Write, report: &Report, severity: Severity, heading: &str, all: bool) -> io::Result<()> {
    let mut by_code: BTreeMap<&str, (&Text, Vec<Placed<'_>>)> = BTreeMap::new();
    let whole = report.findings.iter().map(|f| (None, f));
    let of_items = report.items.iter().flat_map(|i| i.findings.iter().map(move |f| (Some(i), f)));
    for (item, finding) in whole.chain(of_items).filter(|(_, f)| f.severity == severity) {
        by_code.entry(finding.code.as_str()).or_insert((&finding.summary, Vec::new())).1.push((item, finding));
    }
    if by_code.is_empty() {
        return Ok(());
    }
    let total: usize = by_code.values().map(|(_, l)| l.len()).sum();
    writeln!(out, "{}", paint(style.bold, &format!("{heading} ({total})")))?;
    let (colour, mark) = style.severity(severity);
    for (code, (summary, list)) in by_code {
        let count = if list.len() > 1 { format!(" × {}", list.len()) } else { String::new() };
        writeln!(out, "{} {}{count}  {}", paint(colour, mark), paint(colour, summary.get(style.lang)), paint(style.dim, code))?;
        let shown = if all { list.len() } else { SHOWN_PER_CODE };
        for (item, finding) in list.iter().take(shown) {
            let place = finding.place.show(style.lang);
            let at = item
                .map(|i| display_safe(&i.id, 200))
                .into_iter()
                .chain((!place.is_empty()).then_some(place))
                .collect::<Vec<_>>()
                .join(" › ");
            if !at.is_empty() {
                writeln!(out, "    {}", paint(style.bold, &at))?;
            }
            writeln!(out, "      {}", one_line(finding.reason.get(style.lang)))?;
        }
        if list.len() > shown {
            let places: Vec<_> =
                list[shown..].iter().take(12).map(|(item, f)| item.map_or_else(|| subject(f), |i| display_safe(&i.id, 80))).collect();
            let dots = if list.len() - shown > places.len() { "…" } else { "" };
            writeln!(out, "    + {} : {}{dots}", list.len() - shown, places.join(", "))?;
        }
        if severity >= Severity::Warning
            && let Some((_, first)) = list.first()
        {
            writeln!(out, "    → {}", one_line(first.remedy.get(style.lang)))?;
        }
    }
    writeln!(out)
}

/// What a finding of the whole submission is about, for short lists.
fn subject(finding: &Finding) -> String {
    ["preuve", "id", "title_fr"].iter().find_map(|k| finding.args.get(*k)).map_or_else(String::new, |a| display_safe(&a.to_string(), 60))
}

fn completeness(style: &Style, out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    if report.slots.is_empty() && report.chapters.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<[String; 5]> = vec![[
        style.say("Chapitre ou pièce", "Chapter or document").into(),
        style.say("Preuves", "Proofs").into(),
        style.say("Rejetées", "Rejected").into(),
        style.say("Réserves", "Warnings").into(),
        style.say("Indéterm.", "Undeterm.").into(),
    ]];
    let dash = |n: u32| if n == 0 { "–".to_owned() } else { n.to_string() };
    for slot in &report.slots {
        let is = |v: Verdict| u32::from(slot.verdict == Some(v));
        rows.push([
            slot.title.get(style.lang).to_owned(),
            if slot.items.is_empty() && !slot.required { "–".into() } else { slot.items.len().to_string() },
            dash(is(Verdict::Rejected)),
            dash(is(Verdict::AcceptedWithWarnings)),
            dash(is(Verdict::Undetermined)),
        ]);
    }
    for chapter in &report.chapters {
        rows.push([
            chapter.title.get(style.lang).to_owned(),
            format!("{}/{}", chapter.provided, chapter.expected),
            dash(chapter.rejected),
            dash(chapter.warned),
            dash(chapter.undetermined),
        ]);
    }
    let widths: Vec<usize> = (0..5).map(|c| rows.iter().map(|r| r[c].width()).max().unwrap_or(0)).collect();
    for (n, row) in rows.iter().enumerate() {
        let mut line = format!("{}{}", row[0], " ".repeat(widths[0].saturating_sub(row[0].width())));
        for c in 1..5 {
            line.push_str("  ");
            line.push_str(&" ".repeat(widths[c].saturating_sub(row[c].width())));
            line.push_str(&row[c]);
        }
        writeln!(out, "{}", if n == 0 { paint(style.dim, &line) } else { line })?;
    }
    writeln!(out)
}

fn sentence(style: &Style, report: &Report) -> String {
    let count = |v: Verdict| report.totals.verdicts.get(v.as_str()).copied().unwrap_or(0);
    let missing = report.totals.preuves_expected - report.totals.preuves_provided.min(report.totals.preuves_expected);
    match style.lang {
        Lang::Fr => format!(
            "Dossier {} : {} élément(s), dont {} rejeté(s), {} avec réserves, {} indéterminé(s) ; {} preuve(s) manquante(s) sur {}.",
            report.verdict.label().fr,
            report.totals.items,
            count(Verdict::Rejected),
            count(Verdict::AcceptedWithWarnings),
            count(Verdict::Undetermined),
            missing,
            report.totals.preuves_expected
        ),
        Lang::En => format!(
            "Submission {}: {} item(s), {} rejected, {} with warnings, {} undetermined; {} of {} proofs missing.",
            report.verdict.label().en,
            report.totals.items,
            count(Verdict::Rejected),
            count(Verdict::AcceptedWithWarnings),
            count(Verdict::Undetermined),
            missing,
            report.totals.preuves_expected
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_shown_in_a_terminal_commands_nothing_and_says_the_same() {
        let hostile = "a\u{1b}[31m\u{9b}31m\u{7f}\u{202e}gnp\u{2028}é\n";
        let value = serde_json::json!({ "name": hostile });
        let shown = terminal_safe_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!shown.chars().any(|c| c != '\n' && is_unsafe_to_show(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
