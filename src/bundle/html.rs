//! `index.html`: what a verifier opens first, and what `greffier check` leaves beside its report.
//!
//! Goals:
//! 1. **One file, no network**: style and script inline, allowed by hash in a policy that allows nothing else, so that
//!    a page taken from a ZIP on a locked-down desktop works, and nothing hostile in it can.
//! 2. **Everything is HTML**: without script the page reads and prints whole; script only filters, searches and
//!    switches language and theme.
//! 3. **What needs attention first**, then completeness, then every proof in catalogue order with what is to be
//!    checked beside what was deposited.
//! 4. **Untrusted text is text**: escaped by the template engine, control and bidirectional characters replaced,
//!    direction isolated (`<bdi>`), lengths bounded; ids in the page are numbers of ours.
//!
//! Facts are prepared here as a view (plain words, figures formatted in both languages); the template only lays out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::limited::Limited;
use super::verify::largest_tag_file;
use super::{BundleError, Preview};
use crate::model::facts::{Detail, Facts, TrackKind};
use crate::model::format::{Family, Format};
use crate::model::gazelle::GazelleFacts;
use crate::model::messages::bytes;
use crate::model::report::{ItemReport, ObsoleteRow, PreuveReport, Report};
use crate::model::rounds::{Answer, Change, FindingRef, ItemChange, ItemRef, RoundDiff};
use crate::model::submission::{FiledUnder, Stage};
use crate::model::text::{Lang, display_safe};
use crate::model::work::Work;
use crate::model::{Finding, Severity, Text, Verdict};

const TEMPLATE: &str = include_str!("templates/index.html");
const STYLE: &str = include_str!("templates/index.css");
const SCRIPT: &str = include_str!("templates/index.js");

/// Largest picture that is put into the page, bytes.
pub const MAX_PREVIEW: usize = 256 * 1024;
/// Pictures of one item.
const MAX_PREVIEWS: usize = 8;
/// Pictures of the whole page, bytes before Base64: a page of 239 proofs stays near 3 MB.
const MAX_PREVIEW_BYTES: usize = 1_536 * 1024;
/// Room of the first picture of an item, and of each further one: pixels across and down.
const FIRST_BOX: (u32, u32) = (240, 300);
const FURTHER_BOX: (u32, u32) = (160, 160);
/// Text of one item that can be searched, bytes.
const MAX_SEARCH: usize = 2_048;
/// Members of an archive that are listed.
const MAX_MEMBERS: usize = 60;
/// Items or findings listed of what changed between two revisions.
const MAX_CHANGES: usize = 200;
/// Rows of the obsolete-versions table.
const MAX_ROWS: usize = 2_000;

/// How the page is made.
#[derive(Debug, Clone, Copy)]
pub struct PageOptions<'a> {
    /// Pictures by item id.
    pub previews: &'a BTreeMap<String, Vec<Preview>>,
    /// What stands before `data/…` in links: `Some("")` inside a bundle; a relative or `file:` address ending in `/`
    /// elsewhere; `None` when the payload is not reachable from the page, and names are shown without a link.
    pub link_base: Option<&'a str>,
}

/// The page, as text.
///
/// # Errors
/// As [`render_to`].
pub fn render(report: &Report, options: &PageOptions, work: &Work) -> Result<String, BundleError> {
    let mut page = Vec::new();
    render_to(report, options, &mut Limited::new(&mut page, "index.html", largest_tag_file("index.html"), work))?;
    String::from_utf8(page).map_err(|e| io::Error::other(e).into())
}

/// Writes the page to `out`, piece by piece.
///
/// # Errors
/// As [`render`]; or `out` cannot be written.
pub fn write(report: &Report, options: &PageOptions, out: impl Write, work: &Work) -> Result<(), BundleError> {
    render_to(report, options, &mut Limited::new(out, "index.html", largest_tag_file("index.html"), work))
}

/// Writes the page, piece by piece.
///
/// # Errors
/// [`BundleError`]: `out` cannot be written, has no room for it, or its work has ended; or the template itself is wrong.
pub(super) fn render_to<W: Write>(report: &Report, options: &PageOptions, out: &mut Limited<'_, W>) -> Result<(), BundleError> {
    let view = View::new(report, options);
    let search = json_for_script(&view.search)?;
    let values = context! {
        v => Value::from(Serde(&view)),
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        search => Value::from_safe_string(search),
        csp => Value::from_safe_string(policy()),
    };
    let template = environment().get_template("index.html")?;
    let mut buffered = BufWriter::with_capacity(super::bag::BUFFER, &mut *out);
    let rendered = template.render_captured_to(values, &mut buffered).map(|_| ());
    let flushed = buffered.flush();
    // What is left in the buffer after a failure goes nowhere.
    let _ = buffered.into_parts();
    out.checked(rendered.map_err(BundleError::from).and_then(|()| Ok(flushed?)))
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::Html);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        // The default delimiters cannot be wrong.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.unwrap_or_default());
        // The template is part of the binary and every test renders it.
        env.add_template("index.html", TEMPLATE).unwrap_or_else(|e| panic!("embedded templates/index.html is malformed: {e:#}"));
        env
    })
}

/// The page's Content-Security-Policy: nothing but its own style, its own script and pictures inside it.
fn policy() -> String {
    let hash = |text: &str| BASE64.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data: 'self'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// JSON that cannot leave its `<script type="application/json">`: no `<`, `>`, `&`, no line separators.
fn json_for_script(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(value)?;
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    Ok(safe)
}

// ---------------------------------------------------------------------------------------------- the view

/// A status a person reads: icon, word, and the name filters know it by.
#[derive(Debug, Clone, Serialize)]
struct Status {
    key: &'static str,
    icon: &'static str,
    word: Text,
}

impl Status {
    fn of(verdict: Verdict) -> Self {
        let (key, icon) = match verdict {
            Verdict::Accepted => ("accepted", "ok"),
            Verdict::AcceptedWithWarnings => ("warned", "warn"),
            Verdict::Rejected => ("rejected", "no"),
            Verdict::Undetermined => ("undetermined", "unk"),
        };
        let word = match verdict {
            Verdict::Accepted => Text::new("Accepté", "Accepted"),
            Verdict::AcceptedWithWarnings => Text::new("Avec réserves", "With warnings"),
            Verdict::Rejected => Text::new("Rejeté", "Rejected"),
            Verdict::Undetermined => Text::new("Indéterminé", "Undetermined"),
        };
        Self { key, icon, word }
    }
    fn missing(conditional: bool) -> Self {
        if conditional {
            Self { key: "optional", icon: "none", word: Text::new("Sans objet ?", "Not applicable?") }
        } else {
            Self { key: "missing", icon: "none", word: Text::new("Manquante", "Missing") }
        }
    }
}

#[derive(Serialize)]
struct View {
    number: String,
    title: String,
    company: String,
    pipeline: Text,
    stage: Text,
    revision: u32,
    submitted: Option<Text>,
    profiles: Vec<Text>,
    vague_1: Option<bool>,
    verdict: Status,
    sentence: Text,
    advice: Text,
    tiles: Vec<Tile>,
    round: Option<RoundView>,
    findings: Vec<FindingView>,
    /// Items rejected, and undetermined: what their findings have in common, heaviest use first.
    rejected: Vec<CauseView>,
    rejected_items: usize,
    undetermined: Vec<CauseView>,
    undetermined_items: usize,
    missing: Vec<MissingView>,
    missing_slots: Vec<Text>,
    filters: Vec<FilterView>,
    chapters: Vec<ChapterView>,
    slots: Vec<UnitView>,
    groups: Vec<GroupView>,
    stray: Vec<ItemView>,
    units: u32,
    obsolete: Option<ObsoleteView>,
    documentation: Vec<TopicView>,
    limitations: Vec<Text>,
    identifiers: Vec<(String, String)>,
    references: Vec<(Text, String)>,
    /// Searchable text by item number; not in the HTML.
    #[serde(skip)]
    search: BTreeMap<usize, String>,
}

#[derive(Serialize)]
struct Tile {
    key: &'static str,
    figure: String,
    of: Option<String>,
    label: Text,
}

/// One thing to fix, and everywhere it is to be fixed.
#[derive(Serialize)]
struct CauseView {
    finding: FindingView,
    places: Vec<CausePlace>,
}

#[derive(Serialize)]
struct CausePlace {
    item: usize,
    name: String,
    filed: String,
    place: Text,
    more: u64,
}

#[derive(Serialize)]
struct MissingView {
    unit: usize,
    id: String,
    title: String,
}

#[derive(Serialize)]
struct FilterView {
    key: &'static str,
    label: Text,
    count: u32,
}

#[derive(Serialize)]
struct ChapterView {
    anchor: usize,
    title: Text,
    expected: u32,
    provided: u32,
    rejected: u32,
    warned: u32,
    undetermined: u32,
    status: Status,
}

#[derive(Serialize)]
struct GroupView {
    anchor: usize,
    title: Text,
    count: Option<String>,
    exigences: Vec<ExigenceView>,
}

#[derive(Serialize)]
struct ExigenceView {
    id: String,
    title: String,
    scenarios: Vec<ScenarioView>,
}

#[derive(Serialize)]
struct ScenarioView {
    id: String,
    title: String,
    steps: Vec<String>,
    units: Vec<UnitView>,
}

/// A proof or a slot: what is asked for, and what was deposited.
#[derive(Serialize)]
struct UnitView {
    anchor: usize,
    id: String,
    title: Text,
    criticite: String,
    conditional: bool,
    status: Status,
    items: Vec<ItemView>,
    /// Something here is not what it was in the revision before.
    changed: bool,
    /// What was here in the revision before and is in none of the items now.
    removed: Vec<GoneView>,
}

/// An item of the revision before that is no longer there.
#[derive(Serialize)]
struct GoneView {
    name: String,
    filed: String,
    was: Text,
}

/// What became of an item since the revision before.
#[derive(Serialize)]
struct ChangeView {
    key: &'static str,
    word: Text,
    /// Verdict or place it had.
    was: Option<Text>,
}

/// « Depuis la révision N ».
#[derive(Serialize)]
struct RoundView {
    previous: u32,
    same_rules: bool,
    tiles: Vec<Tile>,
    requests: Vec<RequestView>,
    resolved: Vec<DriftView>,
    new: Vec<DriftView>,
    still: usize,
    removed: Vec<GoneView>,
    removed_more: usize,
    provided: Vec<(Option<usize>, String)>,
    missing: Vec<(Option<usize>, String)>,
    /// Units that the filter shows.
    units: usize,
}

/// One request « A modifier » and what was done about it.
#[derive(Serialize)]
struct RequestView {
    unit: Option<usize>,
    preuve: String,
    text: String,
    status: Status,
    items: Vec<(usize, String)>,
}

/// Findings of one kind that came or went, and where.
#[derive(Serialize)]
struct DriftView {
    status: &'static str,
    icon: &'static str,
    code: String,
    summary: Text,
    places: Vec<DriftPlace>,
    more: usize,
}

#[derive(Serialize)]
struct DriftPlace {
    item: Option<usize>,
    filed: String,
    name: String,
    place: Text,
}

#[derive(Serialize)]
struct ItemView {
    anchor: usize,
    name: String,
    filed: String,
    link: bool,
    href: Option<String>,
    path: Option<String>,
    status: Status,
    change: Option<ChangeView>,
    withheld: Option<Text>,
    format: Option<String>,
    size: Option<Text>,
    figures: Vec<Text>,
    /// What is seen at once: the image, the first page, the first frame.
    preview: Option<PreviewView>,
    /// What is seen on demand: further pages, the time-line.
    previews: Vec<PreviewView>,
    previews_word: Text,
    findings: Vec<FindingView>,
    notices: Vec<FindingView>,
    members: Vec<String>,
    members_more: u64,
    gazelle: Vec<(Text, String)>,
    sha256: Option<String>,
}

#[derive(Serialize)]
struct PreviewView {
    uri: String,
    /// Size on the page, pixels: known before the picture is decoded, so that nothing moves under the reader.
    width: u32,
    height: u32,
    caption: Text,
}

#[derive(Serialize)]
struct FindingView {
    key: &'static str,
    icon: &'static str,
    word: Text,
    code: String,
    place: Text,
    summary: Text,
    reason: Text,
    remedy: Text,
    more: u64,
}

#[derive(Serialize)]
struct ObsoleteView {
    columns: Vec<String>,
    rows: Vec<(String, Vec<ObsoleteCell>)>,
    more: usize,
}

#[derive(Serialize)]
struct ObsoleteCell {
    text: String,
    /// Whether a finding says that this is not what is expected; an empty one was left blank.
    is_unread: bool,
}

#[derive(Serialize)]
struct TopicView {
    title: Text,
    count: u32,
    places: Vec<(Option<usize>, String, Text)>,
}

impl View {
    fn new(report: &Report, options: &PageOptions) -> Self {
        let numbers: BTreeMap<&str, usize> = report.items.iter().enumerate().map(|(i, item)| (item.id.as_str(), i)).collect();
        let history = History::new(report.round.as_ref());
        let pictures = Pictures::new(report, options);
        let item_view = |id: &String| {
            let number = *numbers.get(id.as_str())?;
            Some(ItemView::new(number, report.items.get(number)?, options, &pictures, &history))
        };
        // Units by what is filed there, for links from the section on the round.
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut unit = 0_usize;
        let mut next = || {
            unit += 1;
            unit
        };
        let mut listed: BTreeSet<&str> = BTreeSet::new();

        let mut slots = Vec::new();
        let mut missing_slots = Vec::new();
        for slot in &report.slots {
            if slot.items.is_empty() && slot.required {
                missing_slots.push(slot.title.clone());
            }
            listed.extend(slot.items.iter().map(String::as_str));
            let filed_under = FiledUnder::Slot(slot.id.clone());
            let anchor = next();
            places.insert(slot.id.clone(), anchor);
            slots.push(UnitView {
                anchor,
                id: String::new(),
                title: text(&slot.title),
                criticite: String::new(),
                conditional: false,
                status: slot.verdict.map_or_else(
                    || match slot.required {
                        true => Status::missing(false),
                        false => Status { word: Text::new("Facultatif", "Optional"), ..Status::missing(true) },
                    },
                    Status::of,
                ),
                items: slot.items.iter().filter_map(item_view).collect(),
                changed: history.touched(&slot.items, &filed_under),
                removed: history.removed_from(&filed_under),
            });
        }

        let mut missing = Vec::new();
        let mut groups: Vec<GroupView> = Vec::new();
        let chapter_ids: Vec<&str> = {
            let mut ids: Vec<&str> = report.chapters.iter().map(|c| c.id.as_str()).collect();
            for preuve in &report.preuves {
                if !ids.contains(&preuve.chapter.as_str()) {
                    ids.push(&preuve.chapter);
                }
            }
            ids
        };
        for (anchor, chapter_id) in chapter_ids.iter().enumerate() {
            let chapter = report.chapters.iter().find(|c| c.id == *chapter_id);
            let mut exigences: Vec<ExigenceView> = Vec::new();
            for preuve in report.preuves.iter().filter(|p| p.chapter == *chapter_id) {
                listed.extend(preuve.items.iter().map(String::as_str));
                let filed_under = FiledUnder::Preuve(preuve.id.clone());
                let anchor = next();
                places.insert(preuve.id.clone(), anchor);
                let view = UnitView {
                    anchor,
                    id: line(&preuve.id),
                    title: Text::new(paragraph(&preuve.title), paragraph(&preuve.title)),
                    criticite: line(&preuve.criticite),
                    conditional: preuve.conditional,
                    status: preuve.verdict.map_or_else(|| Status::missing(preuve.conditional), Status::of),
                    items: preuve.items.iter().filter_map(item_view).collect(),
                    changed: history.touched(&preuve.items, &filed_under),
                    removed: history.removed_from(&filed_under),
                };
                if view.status.key == "missing" {
                    missing.push(MissingView { unit: view.anchor, id: view.id.clone(), title: display_safe(&preuve.title, 160) });
                }
                scenario_of(&mut exigences, preuve).units.push(view);
            }
            if chapter.is_some() || !exigences.is_empty() {
                groups.push(GroupView {
                    anchor,
                    title: chapter.map_or_else(|| Text::new(line(chapter_id), line(chapter_id)), |c| text(&c.title)),
                    count: chapter.map(|c| format!("{}/{}", c.provided, c.expected)),
                    exigences,
                });
            }
        }
        let stray: Vec<ItemView> = report
            .items
            .iter()
            .enumerate()
            .filter(|(_, i)| !listed.contains(i.id.as_str()))
            .map(|(n, i)| ItemView::new(n, i, options, &pictures, &history))
            .collect();

        let rejected = causes(report, Verdict::Rejected, Severity::Error);
        let undetermined = causes(report, Verdict::Undetermined, Severity::Fatal);

        // Units, not items: what the filters show.
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let of_units = groups.iter().flat_map(|g| &g.exigences).flat_map(|e| &e.scenarios).flat_map(|s| &s.units).chain(&slots);
        let mut units = 0;
        let mut changed_units = 0;
        for view in of_units {
            units += 1;
            changed_units += usize::from(view.changed);
            *counts.entry(view.status.key).or_default() += 1;
        }
        for view in &stray {
            units += 1;
            changed_units += usize::from(view.change.as_ref().is_some_and(|c| c.key != "unchanged"));
            *counts.entry(view.status.key).or_default() += 1;
        }
        let count = |key: &str| counts.get(key).copied().unwrap_or(0);
        let filters = vec![
            FilterView { key: "all", label: Text::new("Toutes", "All"), count: units },
            FilterView { key: "rejected", label: Text::new("Rejetées", "Rejected"), count: count("rejected") },
            FilterView { key: "warned", label: Text::new("Avec réserves", "With warnings"), count: count("warned") },
            FilterView { key: "undetermined", label: Text::new("Indéterminées", "Undetermined"), count: count("undetermined") },
            FilterView { key: "missing", label: Text::new("Manquantes", "Missing"), count: count("missing") },
        ];

        let items_with = |verdict: Verdict| report.items.iter().filter(|i| i.verdict == verdict).count();
        let totals = &report.totals;
        let mut tiles = Vec::new();
        if totals.preuves_expected > 0 {
            tiles.push(Tile {
                key: if totals.preuves_provided < totals.preuves_expected { "missing" } else { "plain" },
                figure: totals.preuves_provided.to_string(),
                of: Some(totals.preuves_expected.to_string()),
                label: Text::new("preuves fournies", "proofs provided"),
            });
        }
        tiles.push(Tile {
            key: "plain",
            figure: report.items.len().to_string(),
            of: None,
            label: Text::new(format!("éléments déposés, {}", size(totals.bytes).fr), format!("items deposited, {}", size(totals.bytes).en)),
        });
        for (verdict, key, label) in [
            (Verdict::Rejected, "rejected", Text::new("rejetés", "rejected")),
            (Verdict::AcceptedWithWarnings, "warned", Text::new("avec réserves", "with warnings")),
            (Verdict::Undetermined, "undetermined", Text::new("indéterminés", "undetermined")),
        ] {
            let n = items_with(verdict);
            tiles.push(Tile { key: if n == 0 { "plain" } else { key }, figure: n.to_string(), of: None, label });
        }

        let (sentence, advice) = sentence(report, items_with);
        let candidature = &report.candidature;
        let product =
            [candidature.product.as_deref(), candidature.version.as_deref()].into_iter().flatten().map(line).collect::<Vec<_>>().join(" ");
        let mut search = BTreeMap::new();
        for (number, item) in report.items.iter().enumerate() {
            let text = item.facts.as_deref().map(searchable).unwrap_or_default();
            if !text.is_empty() {
                search.insert(number, text);
            }
        }

        Self {
            number: line(&candidature.number),
            title: if product.is_empty() { line(&candidature.number) } else { product },
            company: candidature.company.as_deref().map(line).unwrap_or_default(),
            pipeline: text(&report.pipeline.title),
            stage: stage(report),
            revision: report.revision,
            submitted: report.submitted_at.as_deref().map(moment),
            profiles: candidature
                .profiles
                .iter()
                .map(|id| report.pipeline.profiles.get(id).map_or_else(|| Text::new(line(id), line(id)), text))
                .collect(),
            vague_1: candidature.referenced_vague_1,
            verdict: Status::of(report.verdict),
            sentence,
            advice,
            tiles,
            round: report.round.as_ref().map(|round| RoundView::new(round, report, &numbers, &places, changed_units)),
            findings: report.findings.iter().map(FindingView::new).collect(),
            rejected,
            rejected_items: items_with(Verdict::Rejected),
            undetermined,
            undetermined_items: items_with(Verdict::Undetermined),
            missing,
            missing_slots,
            filters,
            chapters: report
                .chapters
                .iter()
                .enumerate()
                .map(|(anchor, c)| ChapterView {
                    anchor,
                    title: text(&c.title),
                    expected: c.expected,
                    provided: c.provided,
                    rejected: c.rejected,
                    warned: c.warned,
                    undetermined: c.undetermined,
                    status: match (c.rejected, c.provided < c.expected, c.undetermined, c.warned) {
                        (1.., ..) => Status { word: Text::new("À corriger", "To be fixed"), ..Status::of(Verdict::Rejected) },
                        (_, true, ..) => Status { word: Text::new("Incomplet", "Incomplete"), ..Status::missing(false) },
                        (_, _, 1.., _) => Status::of(Verdict::Undetermined),
                        (_, _, _, 1..) => Status::of(Verdict::AcceptedWithWarnings),
                        _ => Status::of(Verdict::Accepted),
                    },
                })
                .collect(),
            slots,
            groups,
            stray,
            units,
            obsolete: obsolete(report),
            documentation: report
                .documentation
                .iter()
                .map(|topic| TopicView {
                    title: text(&topic.title),
                    count: topic.count,
                    places: topic
                        .places
                        .iter()
                        .take(12)
                        .map(|(id, place)| {
                            let number = numbers.get(id.as_str()).copied();
                            let name = number.and_then(|n| report.items.get(n)).map(|i| line(&i.name)).unwrap_or_else(|| line(id));
                            (number, name, Text::new(place.show(Lang::Fr), place.show(Lang::En)))
                        })
                        .collect(),
                })
                .collect(),
            limitations: report.limitations.iter().map(text).chain(pictures.left_out()).collect(),
            identifiers: candidature.identifiers.iter().map(|(k, v)| (line(k), line(v))).collect(),
            references: vec![
                (Text::new("Rapport", "Report"), line(&report.id)),
                (
                    Text::new("Règles", "Rules"),
                    format!("{} {} ({})", line(&report.pipeline.id), line(&report.pipeline.version), line(&report.pipeline.sha256)),
                ),
                (
                    Text::new("Catalogue", "Catalogue"),
                    format!("{}, {}", line(&report.pipeline.catalogue_version), line(&report.pipeline.catalogue_source)),
                ),
                (Text::new("Produit par", "Made by"), line(&report.producer)),
            ],
            search,
        }
    }
}

/// What weighs `severity` in items of this verdict, grouped by what is wrong and how to fix it: eleven documents with
/// a password are one thing to explain.
fn causes(report: &Report, verdict: Verdict, severity: Severity) -> Vec<CauseView> {
    let mut causes: Vec<CauseView> = Vec::new();
    let mut known: BTreeMap<[&str; 3], usize> = BTreeMap::new();
    for (number, item) in report.items.iter().enumerate().filter(|(_, item)| item.verdict == verdict) {
        for finding in item.findings.iter().filter(|f| f.severity == severity) {
            let view = FindingView::new(finding);
            let place =
                CausePlace { item: number, name: line(&item.name), filed: filed(item), place: view.place.clone(), more: finding.more };
            let at = *known.entry([finding.code.as_str(), &finding.remedy.fr, &finding.remedy.en]).or_insert(causes.len());
            match causes.get_mut(at) {
                Some(cause) => cause.places.push(place),
                None => causes.push(CauseView { finding: view, places: vec![place] }),
            }
        }
    }
    // Stable: causes of equal weight stay in the order of the catalogue.
    causes.sort_by_key(|c| std::cmp::Reverse(c.places.len()));
    causes
}

/// The scenario of a proof, made where it is not there yet; the catalogue lists proofs of one scenario together.
fn scenario_of<'a>(exigences: &'a mut Vec<ExigenceView>, preuve: &PreuveReport) -> &'a mut ScenarioView {
    let id = line(&preuve.exigence);
    let at = exigences.iter().position(|e| e.id == id).unwrap_or_else(|| {
        exigences.push(ExigenceView { id, title: paragraph(&preuve.exigence_title), scenarios: Vec::new() });
        exigences.len() - 1
    });
    let scenarios = &mut exigences[at].scenarios;
    let id = line(&preuve.scenario);
    let at = scenarios.iter().position(|s| s.id == id).unwrap_or_else(|| {
        let (title, steps) = steps(&preuve.scenario_title);
        scenarios.push(ScenarioView { id, title, steps, units: Vec::new() });
        scenarios.len() - 1
    });
    &mut scenarios[at]
}

/// Whether a browser that follows a link to this file runs nothing of it: a format that it shows without scripts, or
/// hands to another program, under a name by which it takes the file for that format. Of a local file the extension
/// alone decides, and content is guessed where the extension is unknown; so both must agree. What is missing here can
/// still be opened from its folder.
fn is_inert_in_a_browser(format: Format, path: &str) -> bool {
    let inert = match format.family() {
        Family::Pdf | Family::Ooxml | Family::Odf | Family::Ole | Family::Text | Family::Image | Family::Video | Family::Zip => true,
        Family::Other => matches!(
            format,
            Format::Json
                | Format::Rtf
                | Format::Gif
                | Format::Bmp
                | Format::Tiff
                | Format::Webp
                | Format::Heif
                | Format::Mkv
                | Format::Audio
                | Format::Rar
                | Format::SevenZip
                | Format::Dicom
        ),
    };
    let file_name = path.rsplit('/').next().unwrap_or(path);
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    inert
        && extension.is_some_and(|extension| {
            match format.family() {
                // Text has no signature that would keep a browser from guessing: only names that it knows as plain.
                Family::Text => matches!(extension.as_str(), "txt" | "csv"),
                // Flat OpenDocument is XML.
                _ => extension != "fods" && format.extensions().contains(&extension.as_str()),
            }
        })
}

impl ItemView {
    fn new(number: usize, item: &ItemReport, options: &PageOptions, pictures: &Pictures, history: &History) -> Self {
        let (notices, findings): (Vec<&Finding>, Vec<&Finding>) = item.findings.iter().partition(|f| f.severity == Severity::Notice);
        let facts = item.facts.as_deref();
        let mut previews = pictures.of(&item.id);
        let preview = if previews.is_empty() { None } else { Some(previews.remove(0)) };
        let archive_members = facts.map(Facts::members).unwrap_or_default();
        Self {
            anchor: number,
            name: line(&item.name),
            filed: filed(item),
            link: item.link,
            href: item
                .path
                .as_deref()
                .filter(|path| facts.and_then(|f| f.format).is_some_and(|format| is_inert_in_a_browser(format, path)))
                .and_then(|path| options.link_base.map(|base| format!("{base}{}", percent_encode(path)))),
            path: item.path.as_deref().map(|p| display_safe(p, 300)),
            status: Status::of(item.verdict),
            change: history.of(&item.id),
            withheld: item.withheld.map(|w| w.label()),
            format: facts.and_then(|f| f.format).map(|f| f.label().to_owned()),
            size: item.size.map(size),
            figures: facts.map(figures).unwrap_or_default(),
            preview,
            previews_word: match facts.map(|f| &f.detail) {
                Some(Some(Detail::Video(_))) => Text::new("Images le long de la vidéo", "Frames along the video"),
                _ => Text::new("Pages suivantes", "Further pages"),
            },
            previews,
            findings: findings.into_iter().map(FindingView::new).collect(),
            notices: notices.into_iter().map(FindingView::new).collect(),
            members: archive_members
                .iter()
                .take(MAX_MEMBERS)
                .map(|m| match m.facts.as_ref().and_then(|f| f.format) {
                    Some(format) => format!("{} — {}", display_safe(&m.name, 160), format.label()),
                    None => display_safe(&m.name, 160),
                })
                .collect(),
            members_more: archive_members.len().saturating_sub(MAX_MEMBERS) as u64,
            gazelle: item.gazelle.as_ref().map(gazelle_rows).unwrap_or_default(),
            sha256: item.sha256.as_deref().map(line),
        }
    }
}

impl FindingView {
    fn new(finding: &Finding) -> Self {
        let (key, icon, word) = severity(finding.severity);
        Self {
            key,
            icon,
            word,
            code: line(finding.code.as_str()),
            place: Text::new(finding.place.show(Lang::Fr), finding.place.show(Lang::En)),
            summary: text(&finding.summary),
            reason: text(&finding.reason),
            remedy: text(&finding.remedy),
            more: finding.more,
        }
    }
}

// ---------------------------------------------------------------------------------------------- the round before

/// What is known of the revision before, by item and by place; empty for a first deposit.
#[derive(Default)]
struct History<'a> {
    same_rules: bool,
    changes: BTreeMap<&'a str, &'a ItemChange>,
    /// Items that left a place: removed, or filed elsewhere now.
    gone: BTreeMap<&'a FiledUnder, Vec<(&'a ItemRef, Change)>>,
}

impl<'a> History<'a> {
    fn new(round: Option<&'a RoundDiff>) -> Self {
        let Some(round) = round else { return Self::default() };
        let mut history = Self { same_rules: round.same_rules, ..Self::default() };
        for change in &round.items {
            if let Some(now) = &change.now {
                history.changes.insert(&now.id, change);
            }
            let left = |before: &&ItemRef| change.now.as_ref().is_none_or(|now| now.place != before.place);
            if let Some(before) = change.before.as_ref().filter(left) {
                history.gone.entry(&before.place).or_default().push((before, change.change));
            }
        }
        history
    }

    fn of(&self, item: &str) -> Option<ChangeView> {
        let change = self.changes.get(item)?;
        let (key, word) = match change.change {
            // Under other rules the verdict was given anew, even where the bytes are the same.
            Change::Unchanged if self.same_rules => ("unchanged", Text::new("Inchangé, verdict repris", "Unchanged, verdict carried over")),
            Change::Unchanged => ("unchanged", Text::new("Inchangé", "Unchanged")),
            Change::Changed => ("changed", Text::new("Modifié", "Changed")),
            Change::Added => ("added", Text::new("Ajouté", "Added")),
            Change::Moved => ("moved", Text::new("Déplacé", "Moved")),
            Change::Removed => ("removed", Text::new("Retiré", "Removed")),
        };
        let was = match (&change.before, &change.now) {
            (Some(before), Some(now)) if before.place != now.place => {
                let place = place_name(&before.place);
                Some(Text::new(format!("avant : {place}"), format!("before: {place}")))
            }
            (Some(before), _) if change.change == Change::Changed => {
                let word = Status::of(before.verdict).word;
                Some(Text::new(format!("avant : {}", word.fr.to_lowercase()), format!("before: {}", word.en.to_lowercase())))
            }
            _ => None,
        };
        Some(ChangeView { key, word, was })
    }

    /// Whether a verifier has something to look at here that was not there, or not so, before.
    fn touched(&self, items: &[String], place: &FiledUnder) -> bool {
        let other = |id: &String| self.changes.get(id.as_str()).is_some_and(|c| c.change != Change::Unchanged);
        self.gone.contains_key(place) || items.iter().any(other)
    }

    fn removed_from(&self, place: &FiledUnder) -> Vec<GoneView> {
        let here = self.gone.get(place).map(Vec::as_slice).unwrap_or_default();
        here.iter().take(MAX_MEMBERS).map(|(item, change)| GoneView::new(item, *change)).collect()
    }
}

impl GoneView {
    fn new(item: &ItemRef, change: Change) -> Self {
        let word = Status::of(item.verdict).word;
        let (fr, en) = if change == Change::Removed { ("retiré", "removed") } else { ("déposé ailleurs", "filed elsewhere") };
        Self {
            name: line(&item.name),
            filed: place_name(&item.place),
            was: Text::new(
                format!("{fr} ; verdict d'alors : {}", word.fr.to_lowercase()),
                format!("{en}; verdict then: {}", word.en.to_lowercase()),
            ),
        }
    }
}

impl RoundView {
    fn new(round: &RoundDiff, report: &Report, numbers: &BTreeMap<&str, usize>, places: &BTreeMap<String, usize>, units: usize) -> Self {
        let counts = &round.counts;
        let carried = if round.same_rules { (", verdict repris", ", verdict carried over") } else { ("", "") };
        let tiles = [
            (counts.unchanged, "inchangé", "unchanged", carried),
            (counts.changed, "modifié", "changed", ("", "")),
            (counts.added, "ajouté", "added", ("", "")),
            (counts.moved, "déplacé", "moved", ("", "")),
            (counts.removed, "retiré", "removed", ("", "")),
        ];
        let tile = |(n, fr, en, more): (u32, &str, &str, (&str, &str))| {
            let label = Text::new(format!("{fr}{}{}", if n < 2 { "" } else { "s" }, more.0), format!("{en}{}", more.1));
            Tile { key: "plain", figure: n.to_string(), of: None, label }
        };
        let name = |id: &str| numbers.get(id).and_then(|n| Some((*n, line(&report.items.get(*n)?.name))));
        let requests = round.requests.iter().map(|request| RequestView {
            unit: places.get(&request.preuve).copied(),
            preuve: line(&request.preuve),
            text: paragraph(&request.text),
            status: match request.answer {
                Answer::Answered => Status { key: "accepted", icon: "ok", word: Text::new("Élément modifié", "Item changed") },
                Answer::Removed => Status { key: "warned", icon: "warn", word: Text::new("Élément retiré", "Item removed") },
                Answer::Unanswered => Status { key: "rejected", icon: "no", word: Text::new("Sans réponse", "Not answered") },
            },
            items: request.items.iter().filter_map(|id| name(id)).collect(),
        });
        let now: BTreeMap<&str, (&ItemRef, Option<usize>)> = round
            .items
            .iter()
            .filter_map(|c| c.now.as_ref())
            .map(|item| (item.id.as_str(), (item, numbers.get(item.id.as_str()).copied())))
            .collect();
        // What is resolved was said of the item before; the link leads to what stands in its place.
        let before: BTreeMap<&str, (&ItemRef, Option<usize>)> = round
            .items
            .iter()
            .filter_map(|c| Some((c.before.as_ref()?, c.now.as_ref())))
            .map(|(item, now)| (item.id.as_str(), (item, now.and_then(|now| numbers.get(now.id.as_str()).copied()))))
            .collect();
        let removed: Vec<&ItemRef> = round.items.iter().filter(|c| c.change == Change::Removed).filter_map(|c| c.before.as_ref()).collect();
        let unit = |id: &String| (places.get(id).copied(), line(id));
        Self {
            previous: round.previous_revision,
            same_rules: round.same_rules,
            tiles: tiles.into_iter().map(tile).collect(),
            requests: requests.collect(),
            resolved: drift(&round.resolved, &before),
            new: drift(&round.new, &now),
            still: round.still.len(),
            removed: removed.iter().take(MAX_CHANGES).map(|item| GoneView::new(item, Change::Removed)).collect(),
            removed_more: removed.len().saturating_sub(MAX_CHANGES),
            provided: round.newly_provided.iter().map(unit).collect(),
            missing: round.newly_missing.iter().map(unit).collect(),
            units,
        }
    }
}

/// Findings that came or went, of one kind together, the heaviest first; remarks are left to the items.
fn drift(findings: &[FindingRef], items: &BTreeMap<&str, (&ItemRef, Option<usize>)>) -> Vec<DriftView> {
    let mut kinds: Vec<(Severity, DriftView)> = Vec::new();
    for finding in findings.iter().filter(|f| f.severity > Severity::Notice) {
        let (key, icon, _) = severity(finding.severity);
        let code = line(finding.code.as_str());
        let at = kinds.iter().position(|(s, k)| *s == finding.severity && k.code == code).unwrap_or_else(|| {
            let view = DriftView { status: key, icon, code, summary: text(&finding.summary), places: Vec::new(), more: 0 };
            kinds.push((finding.severity, view));
            kinds.len() - 1
        });
        let kind = &mut kinds[at].1;
        if kind.places.len() >= MAX_CHANGES {
            kind.more += 1;
            continue;
        }
        let item = finding.item.as_deref().and_then(|id| items.get(id));
        kind.places.push(DriftPlace {
            item: item.and_then(|(_, number)| *number),
            filed: item.map(|(item, _)| place_name(&item.place)).or_else(|| finding.subject.as_deref().map(line)).unwrap_or_default(),
            name: item.map(|(item, _)| line(&item.name)).unwrap_or_default(),
            place: Text::new(finding.place.show(Lang::Fr), finding.place.show(Lang::En)),
        });
    }
    // Stable: kinds of equal weight stay in the order of the report.
    kinds.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    kinds.into_iter().map(|(_, kind)| kind).collect()
}

/// What a severity is called, and how it is drawn.
fn severity(severity: Severity) -> (&'static str, &'static str, Text) {
    match severity {
        Severity::Notice => ("notice", "info", Text::new("À noter", "Note")),
        Severity::Warning => ("warned", "warn", Text::new("Réserve", "Warning")),
        Severity::Fatal => ("undetermined", "unk", Text::new("Technique", "Technical")),
        Severity::Error => ("rejected", "no", Text::new("Erreur", "Error")),
    }
}

// ---------------------------------------------------------------------------------------------- words and figures

/// One line of untrusted text.
fn line(untrusted: &str) -> String {
    display_safe(untrusted, 300)
}

/// Untrusted text whose line breaks mean something.
fn paragraph(untrusted: &str) -> String {
    let lines: Vec<String> = untrusted.lines().map(|l| display_safe(l.trim(), 2_000)).filter(|l| !l.is_empty()).collect();
    lines.join("\n")
}

fn text(text: &Text) -> Text {
    Text::new(display_safe(&text.fr, 2_000), display_safe(&text.en, 2_000))
}

fn filed(item: &ItemReport) -> String {
    place_name(&item.filed_under)
}

fn place_name(place: &FiledUnder) -> String {
    match place {
        FiledUnder::Slot(id) | FiledUnder::Preuve(id) => line(id),
    }
}

fn plural(n: usize, one: &str, many: &str) -> String {
    // French and English agree from two on; French also writes zero in the singular, which never shows here.
    format!("{n} {}", if n < 2 { one } else { many })
}

fn sentence(report: &Report, items_with: impl Fn(Verdict) -> usize) -> (Text, Text) {
    let rejected = items_with(Verdict::Rejected);
    let blocking = report.findings.iter().filter(|f| f.severity == Severity::Error).count();
    match report.verdict {
        Verdict::Accepted => (
            Text::new("Accepté : aucun défaut de forme n'a été trouvé", "Accepted: no formal defect was found"),
            Text::new(
                "Le fond des preuves reste à apprécier par le vérificateur.",
                "The substance of the proofs remains for the verifier to judge.",
            ),
        ),
        Verdict::AcceptedWithWarnings => (
            Text::new("Accepté, avec des réserves à examiner", "Accepted, with warnings to look at"),
            Text::new(
                "Rien n'est bloquant ; les réserves sont signalées à leur place.",
                "Nothing is blocking; warnings are shown where they belong.",
            ),
        ),
        Verdict::Rejected => {
            let mut fr = Vec::new();
            let mut en = Vec::new();
            if rejected > 0 {
                fr.push(plural(rejected, "élément à corriger", "éléments à corriger"));
                en.push(plural(rejected, "item to fix", "items to fix"));
            }
            if blocking > 0 {
                fr.push(plural(blocking, "constat bloquant sur l'ensemble", "constats bloquants sur l'ensemble"));
                en.push(plural(blocking, "blocking finding on the whole", "blocking findings on the whole"));
            }
            (
                Text::new(format!("Rejeté : {}", fr.join(", ")), format!("Rejected: {}", en.join(", "))),
                Text::new(
                    "Chaque motif est donné ci-dessous avec la correction attendue de l'éditeur.",
                    "Each reason is given below with the fix expected of the vendor.",
                ),
            )
        }
        Verdict::Undetermined => (
            Text::new("Indéterminé : des contrôles n'ont pas pu être menés à terme", "Undetermined: some checks could not be completed"),
            Text::new(
                "Il s'agit d'un incident technique, qui n'est pas imputable à l'éditeur ; le dossier est à contrôler de nouveau.",
                "This is a technical incident and not the vendor's fault; the file must be checked again.",
            ),
        ),
    }
}

fn stage(report: &Report) -> Text {
    match &report.stage {
        Stage::Eligibility => Text::new("Éligibilité", "Eligibility"),
        Stage::Dossier => Text::new("Dossier complet", "Whole file"),
        Stage::Chapter { chapter } => {
            let title = report.chapters.iter().find(|c| c.id == *chapter).map(|c| text(&c.title));
            let title = title.unwrap_or_else(|| Text::new(line(chapter), line(chapter)));
            Text::new(format!("Chapitre « {} »", title.fr), format!("Chapter “{}”", title.en))
        }
    }
}

/// `2026-02-20T11:59:00+01:00` → `20/02/2026 à 11:59 (UTC+01:00)`; anything else as it stands.
fn moment(stated: &str) -> Text {
    let parts = stated.get(..16).and_then(|s| s.replace('T', " ").parse::<jiff::civil::DateTime>().ok());
    let Some(civil) = parts else { return Text::new(line(stated), line(stated)) };
    let offset = match stated.rfind(['+', '-', 'Z', 'z']).filter(|at| *at >= 16).and_then(|at| stated.get(at..)) {
        Some("Z" | "z") => " (UTC)".to_owned(),
        Some(offset) => format!(" (UTC{})", line(offset)),
        None => String::new(),
    };
    Text::new(
        format!("{:02}/{:02}/{:04} à {:02}:{:02}{offset}", civil.day(), civil.month(), civil.year(), civil.hour(), civil.minute()),
        format!("{:04}-{:02}-{:02} at {:02}:{:02}{offset}", civil.year(), civil.month(), civil.day(), civil.hour(), civil.minute()),
    )
}

/// `1,2 Mo` / `1.2 MB` (powers of ten); bytes below a thousand.
fn size(n: u64) -> Text {
    let (divisor, fr, en) = match n {
        0..1_000 => {
            let n = i64::try_from(n).unwrap_or(i64::MAX);
            return Text::new(bytes(n, Lang::Fr), bytes(n, Lang::En));
        }
        1_000..1_000_000 => (1_000, "ko", "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "Mo", "MB"),
        _ => (1_000_000_000, "Go", "GB"),
    };
    // Tenths, rounded down: a file is never shown larger than it is.
    let tenths = n / (divisor / 10);
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if whole >= 100 {
        return Text::new(format!("{whole} {fr}"), format!("{whole} {en}"));
    }
    Text::new(format!("{whole},{tenth} {fr}"), format!("{whole}.{tenth} {en}"))
}

fn duration(seconds: f64) -> Text {
    if !seconds.is_finite() || !(0.0..360_000.0).contains(&seconds) {
        return Text::new("durée inconnue", "unknown duration");
    }
    // Below 100 hours: fits.
    let s = seconds.round() as u64;
    let shown = match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, s) => format!("{h} h {m:02} min {s:02} s"),
    };
    Text::new(shown.clone(), shown)
}

fn counted(n: u64, fr: (&str, &str), en: (&str, &str)) -> Text {
    Text::new(format!("{n} {}", if n < 2 { fr.0 } else { fr.1 }), format!("{n} {}", if n == 1 { en.0 } else { en.1 }))
}

fn same(s: String) -> Text {
    Text::new(s.clone(), s)
}

/// What a verifier wants to know of a file before opening it.
fn figures(facts: &Facts) -> Vec<Text> {
    let mut figures = Vec::new();
    match &facts.detail {
        Some(Detail::Pdf(pdf)) => {
            figures.push(counted(pdf.pages.into(), ("page", "pages"), ("page", "pages")));
            if !pdf.signatures.is_empty() {
                figures.push(counted(
                    pdf.signatures.len() as u64,
                    ("signature (non validée)", "signatures (non validées)"),
                    ("signature (not validated)", "signatures (not validated)"),
                ));
            }
        }
        Some(Detail::Office(office)) => {
            if let Some(slides) = office.slides {
                figures.push(counted(slides.into(), ("diapositive", "diapositives"), ("slide", "slides")));
            } else if let Some(pages) = office.stated_pages {
                figures.push(counted(pages.into(), ("page annoncée", "pages annoncées"), ("stated page", "stated pages")));
            }
            if office.images > 0 {
                figures.push(counted(office.images.into(), ("image", "images"), ("picture", "pictures")));
            }
        }
        Some(Detail::Workbook(book)) => {
            figures.push(counted(book.sheets.len() as u64, ("feuille", "feuilles"), ("sheet", "sheets")));
            figures.push(counted(book.sheets.iter().map(|s| s.cells).sum(), ("cellule", "cellules"), ("cell", "cells")));
        }
        Some(Detail::Image(image)) => figures.push(same(format!("{} × {} px", image.width, image.height))),
        Some(Detail::Video(video)) => {
            if let Some(seconds) = video.duration {
                figures.push(duration(seconds));
            }
            if let Some(track) = video.tracks.iter().find(|t| t.kind == TrackKind::Video) {
                if let (Some(width), Some(height)) = (track.width, track.height) {
                    figures.push(same(format!("{width} × {height} px")));
                }
                figures.push(same(display_safe(&track.codec, 24)));
            }
            if !video.tracks.iter().any(|t| t.kind == TrackKind::Audio) {
                figures.push(Text::new("sans son", "no sound"));
            }
        }
        Some(Detail::Text(text)) => figures.push(counted(text.lines, ("ligne", "lignes"), ("line", "lines"))),
        Some(Detail::Archive(archive)) => {
            figures.push(counted(archive.entries, ("fichier", "fichiers"), ("member", "members")));
            if let Some(layout) = &archive.layout {
                figures.push(same(display_safe(layout, 24)));
            }
        }
        None => {}
    }
    figures
}

/// Extracted text for the search box, members of archives included, cut at [`MAX_SEARCH`] bytes.
fn searchable(facts: &Facts) -> String {
    fn gather(facts: &Facts, into: &mut String, depth: u8) {
        for chunk in &facts.text {
            if into.len() >= MAX_SEARCH {
                return;
            }
            let room = MAX_SEARCH - into.len();
            into.extend(display_safe(&chunk.text, room).chars().chain([' ']));
        }
        for member in facts.members().iter().filter_map(|m| m.facts.as_deref()) {
            if depth < 4 {
                gather(member, into, depth + 1);
            }
        }
    }
    let mut all = String::new();
    gather(facts, &mut all, 0);
    let mut end = all.len().min(MAX_SEARCH);
    while !all.is_char_boundary(end) {
        end -= 1;
    }
    all.truncate(end);
    all.trim_end().to_owned()
}

/// The « points de contrôle » of a scenario: its lines that are numbered, bulleted or called steps; what stands
/// before them is its title.
pub fn steps(scenario: &str) -> (String, Vec<String>) {
    let mut title: Vec<String> = Vec::new();
    let mut steps: Vec<String> = Vec::new();
    for raw in scenario.lines() {
        let raw = raw.trim();
        if raw.is_empty() {
            continue;
        }
        match step(raw) {
            Some(step) => steps.push(display_safe(step, 2_000)),
            // A line that goes on with the step above it.
            None => match steps.last_mut() {
                Some(last) => {
                    last.push('\n');
                    last.push_str(&display_safe(raw, 2_000));
                }
                None => title.push(display_safe(raw, 2_000)),
            },
        }
    }
    (title.join("\n"), steps)
}

/// The text of a step line without its mark, or `None` where it is no step.
fn step(line: &str) -> Option<&str> {
    if let Some(rest) = line.strip_prefix(['-', '–', '—', '•', '·', '▪', '◦', '*', '➢', '→', '✓', '☐']) {
        let rest = rest.trim_start();
        return (!rest.is_empty()).then_some(rest);
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    if (1..=2).contains(&digits) {
        let rest = line[digits..].trim_start_matches('°');
        let after = rest.strip_prefix([')', '.', ':', '-', '/'])?;
        return after.starts_with([' ', '\u{a0}', '\u{202f}', '\t']).then(|| after.trim_start());
    }
    // « Étape 1 : … » keeps its words: verifiers cite them.
    let lower: String = line.chars().take(8).flat_map(char::to_lowercase).collect();
    ((lower.starts_with("étape ") || lower.starts_with("etape ")) && line.chars().nth(6).is_some_and(|c| c.is_ascii_digit()))
        .then_some(line)
}

/// Which pictures the page has room for. The first picture of every item comes before the second of any.
struct Pictures<'a> {
    shown: BTreeMap<&'a str, Vec<&'a Preview>>,
    total: usize,
}

impl<'a> Pictures<'a> {
    fn new(report: &'a Report, options: &PageOptions<'a>) -> Self {
        let mut pictures = Self { shown: BTreeMap::new(), total: 0 };
        let mut room = MAX_PREVIEW_BYTES;
        let mut full: BTreeSet<&str> = BTreeSet::new();
        for rank in 0..MAX_PREVIEWS {
            for item in &report.items {
                let of_item = options.previews.get(&item.id).and_then(|all| all.get(rank));
                let Some(preview) = of_item.filter(|p| media_type(&p.bytes).is_some()) else { continue };
                pictures.total += 1;
                match room.checked_sub(preview.bytes.len()) {
                    Some(left) if !full.contains(item.id.as_str()) => {
                        room = left;
                        pictures.shown.entry(&item.id).or_default().push(preview);
                    }
                    // Nor the smaller ones after it: a time-line without its middle would mislead.
                    _ => {
                        full.insert(&item.id);
                    }
                }
            }
        }
        pictures
    }

    fn of(&self, item: &str) -> Vec<PreviewView> {
        let shown = self.shown.get(item).into_iter().flatten().enumerate();
        shown.filter_map(|(rank, p)| preview(p, if rank == 0 { FIRST_BOX } else { FURTHER_BOX })).collect()
    }

    /// What is to be said where there was not room for all.
    fn left_out(&self) -> Option<Text> {
        let shown: usize = self.shown.values().map(Vec::len).sum();
        let left = self.total - shown;
        (left > 0).then(|| {
            Text::new(
                format!("Pour que cette page reste légère, {left} aperçu(x) sur {} n'y sont pas ; les fichiers y sont tous.", self.total),
                format!("To keep this page light, {left} preview(s) of {} are not in it; all files are.", self.total),
            )
        })
    }
}

/// What a picture is, by its first bytes; `None` for anything that does not belong into the page.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        _ if bytes.len() > MAX_PREVIEW => None,
        [0xFF, 0xD8, 0xFF, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some("image/png"),
        _ => None,
    }
}

fn preview(preview: &Preview, room: (u32, u32)) -> Option<PreviewView> {
    let media_type = media_type(&preview.bytes)?;
    // A picture whose size cannot be told is shown as large as there is room.
    let (width, height) = dimensions(&preview.bytes).unwrap_or(room);
    let (width, height) = fitted(width.max(1), height.max(1), room);
    Some(PreviewView {
        uri: format!("data:{media_type};base64,{}", BASE64.encode(&preview.bytes)),
        width,
        height,
        caption: preview.caption.as_ref().map(text).unwrap_or_default(),
    })
}

/// A picture's size scaled down to fit into `room`, proportions kept.
fn fitted(width: u32, height: u32, room: (u32, u32)) -> (u32, u32) {
    let (width, height, wide, high) = (u64::from(width), u64::from(height), u64::from(room.0), u64::from(room.1));
    let (w, h) = if width <= wide && height <= high {
        (width, height)
    } else if width * high > height * wide {
        (wide, height * wide / width)
    } else {
        (width * high / height, high)
    };
    // Below the room, which fits.
    (w.max(1) as u32, h.max(1) as u32)
}

/// Width and height that a JPEG (the first frame header) or a PNG (its first chunk) states.
fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    let two = |at: usize| bytes.get(at..at + 2).map(|b| u32::from(b[0]) << 8 | u32::from(b[1]));
    if bytes.first() == Some(&0x89) {
        let four = |at: usize| Some(two(at)? << 16 | two(at + 2)?);
        return Some((four(16)?, four(20)?));
    }
    let mut at = 2;
    loop {
        match *bytes.get(at + 1)? {
            // SOF0 to SOF15, but for the three numbers among them that mean something else.
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => return Some((two(at + 7)?, two(at + 5)?)),
            _ => at += 2 + two(at + 2)? as usize,
        }
    }
}

/// What a Gazelle report says, for a verifier: result, counters, validator, date, tested objects, the copy kept.
pub fn gazelle_rows(facts: &GazelleFacts) -> Vec<(Text, String)> {
    let mut rows = Vec::new();
    let mut row = |fr: &str, en: &str, value: String| {
        if !value.is_empty() {
            rows.push((Text::new(fr, en), display_safe(&value, 300)));
        }
    };
    let Some(report) = facts.report() else { return rows };
    let result = report.computed_result.or(report.declared_result);
    row("Résultat", "Result", result.map_or_else(String::new, |r| r.to_string()));
    let c = &report.computed_counters;
    if c.assertions > 0 {
        row("Assertions", "Assertions", c.assertions.to_string());
        row("Erreurs", "Errors", (c.errors + c.unexpected).to_string());
        row("Avertissements", "Warnings", c.warnings.to_string());
        row("Indéterminées", "Undefined", c.undefined.to_string());
    }
    row("Date", "Date", report.date.as_ref().map(|d| d.at.clone()).unwrap_or_default());
    let method = &report.method;
    let join = |parts: [&Option<String>; 2]| parts.iter().filter_map(|p| p.as_deref()).collect::<Vec<_>>().join(" ");
    row("Service", "Service", join([&method.service, &method.service_version]));
    let validator = if method.validator_name.is_some() { &method.validator_name } else { &method.validator_id };
    row("Validateur", "Validator", join([validator, &method.validator_version]));
    for object in report.objects.iter().take(4) {
        row("Objet testé", "Tested object", object.name.clone().unwrap_or_default());
    }
    row("Identifiant", "Identifier", facts.link.result_id.clone().unwrap_or_default());
    row("Copie conservée", "Copy kept", format!("gazelle/{}/", crate::gazelle::pin::directory(&facts.link.id)));
    rows
}

/// A cell of the table: what was understood, or what stands there where that is not what is expected.
fn obsolete_cell(row: &ObsoleteRow, column: &str) -> ObsoleteCell {
    match row.unread.get(column) {
        Some(unread) => ObsoleteCell { text: line(unread), is_unread: true },
        None => ObsoleteCell { text: row.values.get(column).map(|v| line(v)).unwrap_or_default(), is_unread: false },
    }
}

fn obsolete(report: &Report) -> Option<ObsoleteView> {
    if report.obsolete_versions.is_empty() {
        return None;
    }
    // Columns that some row fills, in the pipeline's order; what it does not know follows, under its id.
    let filled: BTreeSet<&String> = report.obsolete_versions.iter().flat_map(|r| r.values.keys().chain(r.unread.keys())).collect();
    let known = report.obsolete_columns.iter().filter(|c| filled.contains(&c.id)).map(|c| (&c.id, line(&c.title)));
    let unknown = filled.iter().filter(|id| !report.obsolete_columns.iter().any(|c| c.id == ***id));
    let (columns, titles): (Vec<&String>, Vec<String>) = known.chain(unknown.map(|id| (*id, line(&id.replace(['-', '_'], " "))))).unzip();
    Some(ObsoleteView {
        columns: titles,
        rows: report
            .obsolete_versions
            .iter()
            .take(MAX_ROWS)
            .map(|row| {
                let place = format!("{}!{}", display_safe(&row.sheet, 60), row.row);
                (place, columns.iter().map(|c| obsolete_cell(row, c)).collect())
            })
            .collect(),
        more: report.obsolete_versions.len().saturating_sub(MAX_ROWS),
    })
}

/// A path as a relative URL: every byte outside RFC 3986's unreserved set is encoded, `/` apart.
pub fn percent_encode(path: &str) -> String {
    let mut url = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_style_and_script_that_are_inside() {
        let policy = policy();
        for text in [STYLE, SCRIPT] {
            let hash = BASE64.encode(Sha256::digest(text.as_bytes()));
            assert!(policy.contains(&format!("'sha256-{hash}'")), "{policy}");
            // What stands between the tags is what was hashed: no end tag inside, no carriage return.
            assert!(!text.contains("</") && !text.contains('\r'));
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn json_cannot_leave_its_element() {
        let json = json_for_script(&"</script><!--<script>&\u{2028}").unwrap();
        assert!(!json.contains(['<', '>', '&', '\u{2028}']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "</script><!--<script>&\u{2028}");
    }

    #[test]
    fn steps_are_told_from_the_title() {
        let (title, found) = steps(
            "Vérifier la recherche d'INS\n1. Ouvrir un dossier\n2) Lancer la recherche\n   suite de l'étape\nÉtape 3 : Constater\n- le retour\n2026 est une année",
        );
        assert_eq!(title, "Vérifier la recherche d'INS");
        assert_eq!(
            found,
            ["Ouvrir un dossier", "Lancer la recherche\nsuite de l'étape", "Étape 3 : Constater", "le retour\n2026 est une année"]
        );
        assert_eq!(steps("INS.02 sans étape"), ("INS.02 sans étape".to_owned(), vec![]));
        assert_eq!(steps("1.5 Mo au plus").1.len(), 0);
    }

    #[test]
    fn sizes_and_moments_read_well() {
        assert_eq!(size(999).fr, "999 octets");
        assert_eq!(size(1_234_567), Text::new("1,2 Mo", "1.2 MB"));
        assert_eq!(size(999_999).fr, "999 ko");
        assert_eq!(moment("2026-02-20T11:59:00+01:00").fr, "20/02/2026 à 11:59 (UTC+01:00)");
        assert_eq!(moment("hier").fr, "hier");
        assert_eq!(duration(125.4).fr, "2 min 05 s");
        assert_eq!(duration(f64::NAN).en, "unknown duration");
    }

    #[test]
    fn links_are_percent_encoded() {
        assert_eq!(percent_encode("data/ins/é #1?.png"), "data/ins/%C3%A9%20%231%3F.png");
    }

    #[test]
    fn only_pictures_become_previews() {
        let with = |bytes: &[u8]| preview(&Preview { bytes: bytes.to_vec(), caption: None }, FIRST_BOX).is_some();
        assert!(with(&[0xFF, 0xD8, 0xFF, 0xE0]));
        assert!(!with(b"<svg onload=alert(1)>"));
        assert!(!with(&[[0xFF, 0xD8, 0xFF].as_slice(), &[0; MAX_PREVIEW]].concat()));
    }

    #[test]
    fn pictures_have_their_size_before_they_are_decoded() {
        let picture = image::DynamicImage::new_rgb8(320, 453);
        for format in [image::ImageFormat::Jpeg, image::ImageFormat::Png] {
            let mut bytes = std::io::Cursor::new(Vec::new());
            picture.write_to(&mut bytes, format).unwrap();
            assert_eq!(dimensions(bytes.get_ref()), Some((320, 453)));
            for cut in 0..bytes.get_ref().len().min(200) {
                let _ = dimensions(&bytes.get_ref()[..cut]);
            }
        }
        assert_eq!(fitted(320, 453, FIRST_BOX), (211, 300));
        assert_eq!(fitted(1000, 1, FIRST_BOX), (240, 1));
        assert_eq!(fitted(20, 10, FIRST_BOX), (20, 10));
    }
}
