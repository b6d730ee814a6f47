//! Identity numbers of patients (NIR, matricule INS) in text, cells, metadata and names, before a person sees them.
//!
//! Goals:
//! 1. A real patient's number is caught wherever a file shows text, and the finding says where, masked: the number
//!    itself is written nowhere, neither in a finding nor, after [`redact_report`], anywhere else in the report.
//!    The share keys of Gazelle links, which open a report to whoever holds them, are masked alike ([`share_keys`]).
//! 2. A number is told by its structure and its key, not by its length: OIDs, cards, IBANs, SIRETs, telephones,
//!    barcodes and timestamps are left alone. What the key does not confirm needs a word beside it (« NIR », « INS »).
//! 3. Test identities, which every honest proof is full of, are told apart and only noted.
//!
//! Structure: décret n° 82-103 du 22 janvier 1982, article 4 (INSEE): sex, year, month, place of birth (département
//! and commune, or 99 and the country), order, and a key that makes the whole divisible by 97.

mod share_keys;
mod typography;

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::model::distinct::Distinct;
use crate::model::facts::{CellValue, Detail, Facts, MAX_SIGNALS_PER_CODE, SheetFacts};
use crate::model::finding::Arg;
use crate::model::gazelle::{GazelleFacts, GazelleOutcome, GazelleReport};
use crate::model::report::{ItemReport, Report};
use crate::model::submission::{ChangeRequest, FiledUnder, Item};
use crate::model::work::Work;
use crate::model::{Finding, Place, Signal, Text};
use crate::pipeline::guards::PrivacyPolicy;

/// Characters of a number without its key.
const BODY: usize = 13;
/// Characters of a number with its key.
const WHOLE: usize = 15;
/// Separators that stand between two fields: bit n is a separator before character n.
const FIELD_CUTS: u16 = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 10;
/// Overseas, the département has three digits and the commune two.
const OVERSEAS_CUTS: u16 = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 10;
/// A separator between every two characters: a form with one box a digit.
const EVERY_CUT: u16 = 0b1_1111_1111_1110;
/// This many separators in the right places are no accident.
const GROUPED: u32 = 4;
/// How far a word that names the number may stand before it, in characters.
const LABEL_REACH: usize = 48;
/// How far the OID of the assigning authority may stand, in bytes (`^^^ASIP-SANTE-INS-NIR&1.2.250…`).
const OID_REACH: usize = 96;
/// Arc of the ANS under which the authorities of matricules INS are.
const INS_ARC: &str = "1.2.250.1.213.1.4.";
/// The authorities of real identities: INS-NIR and INS-NIA.
const REAL_OIDS: [&str; 2] = ["1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.9"];

/// Words that name such a number.
const LABELS: &[&str] = &["nir", "nia", "nirpp", "ins", "nss", "ssn", "insee", "secu", "assure", "matricule"];
/// Words that name another number of the same length, or a moment.
const OTHERS: &[&str] = &[
    "ts",
    "time",
    "timestamp",
    "epoch",
    "date",
    "horodatage",
    "ean",
    "gtin",
    "gencod",
    "isbn",
    "imei",
    "siret",
    "iban",
    "oid",
    "uuid",
    "port",
    "tel",
    "telephone",
];

/// A number seen in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hit {
    /// Where in the text, bytes.
    range: Range<usize>,
    /// 13 or 15 characters without separators, capitals.
    number: String,
    /// Belongs to nobody.
    is_test: bool,
}

/// The policy (among it, test numbers that are no person's) and the steps that reading for numbers may take.
struct Counted<'a> {
    policy: &'a PrivacyPolicy,
    work: &'a Work,
}

impl Deref for Counted<'_> {
    type Target = PrivacyPolicy;

    fn deref(&self) -> &PrivacyPolicy {
        self.policy
    }
}

/// The signals of one file: of its name, then of everything it shows, members included.
pub fn signals(name: &str, facts: Option<&Facts>, policy: &PrivacyPolicy, work: &Work) -> Vec<Signal> {
    let policy = &Counted { policy, work };
    let mut seen = Seen::default();
    for hit in scan(name, "", policy) {
        seen.add(&hit, true, Place::default);
    }
    if let Some(facts) = facts {
        walk(facts, &mut Vec::new(), policy, &mut seen);
    }
    seen.out
}

/// `text` with every real-looking number masked; `None` where there is none.
pub fn masked_text(text: &str, policy: &PrivacyPolicy) -> Option<String> {
    masked_in_context(text, "", &Counted { policy, work: &Work::unbounded() })
}

/// Masks the numbers in everything that the report shows of a file.
pub fn redact_facts(facts: &mut Facts, policy: &PrivacyPolicy, work: &Work) {
    redact(facts, &Counted { policy, work });
}

fn redact(facts: &mut Facts, policy: &Counted<'_>) {
    let mask = |text: &mut String| mask_in_place(text, "", policy);
    mask(&mut facts.identification.basis);
    for signal in &mut facts.signals {
        redact_args(&mut signal.args, policy);
        redact_place(&mut signal.place, policy);
    }
    for chunk in &mut facts.text {
        mask(&mut chunk.text);
        redact_place(&mut chunk.place, policy);
    }
    facts.metadata = std::mem::take(&mut facts.metadata)
        .into_iter()
        .map(|(mut key, mut value)| {
            mask_in_place(&mut value, &key, policy);
            mask_in_place(&mut key, "", policy);
            (key, value)
        })
        .collect();
    match &mut facts.detail {
        // A table that the name did not settle is shown nowhere, and holds the same numbers as the text.
        Some(Detail::Text(text)) => text.as_table = None,
        Some(Detail::Workbook(workbook)) => {
            for sheet in &mut workbook.sheets {
                redact_cells(sheet, policy);
                mask(&mut sheet.name);
            }
        }
        Some(Detail::Pdf(pdf)) => {
            pdf.outline.iter_mut().for_each(|entry| mask(&mut entry.title));
            for signature in &mut pdf.signatures {
                signature.name.iter_mut().chain(&mut signature.date).for_each(mask);
            }
        }
        Some(Detail::Archive(archive)) => {
            for member in &mut archive.members {
                mask(&mut member.name);
                if let Some(inner) = &mut member.facts {
                    redact(inner, policy);
                }
            }
        }
        Some(Detail::Office(_) | Detail::Image(_) | Detail::Video(_)) | None => {}
    }
}

/// Masks the numbers in everything said of one item. Its id stays, it is what the item is called by: see [`mask_ids`].
pub fn redact_item(item: &mut ItemReport, policy: &PrivacyPolicy, work: &Work) {
    let policy = &Counted { policy, work };
    mask_in_place(&mut item.name, "", policy);
    // A folder of a name that is no id is shown as it is named.
    let (FiledUnder::Slot(place) | FiledUnder::Preuve(place)) = &mut item.filed_under;
    mask_in_place(place, "", policy);
    item.findings.iter_mut().for_each(|f| redact_finding(f, policy));
    if let Some(facts) = &mut item.facts {
        redact(Arc::make_mut(facts), policy);
    }
    if let Some(GazelleFacts { outcome: GazelleOutcome::Fetched { report, .. }, .. }) = &mut item.gazelle {
        redact_gazelle(report, policy);
    }
}

/// A verifier's requests may quote a patient's number: masked like everything else that is shown.
pub fn masked_requests(requests: &[ChangeRequest], policy: &PrivacyPolicy) -> Vec<ChangeRequest> {
    let masked = |r: &ChangeRequest| ChangeRequest { text: masked_text(&r.text, policy).unwrap_or_else(|| r.text.clone()), ..r.clone() };
    requests.iter().map(masked).collect()
}

/// Masks the numbers in the ids of items that were made from file names; ids stay different from one another.
/// To be done before anything refers to an item by its id.
pub fn mask_ids(items: &mut [Item], policy: &PrivacyPolicy) {
    let mut ids: Distinct = items.iter().map(|i| i.id.clone()).collect();
    for item in items {
        if let Some(masked) = masked_text(&item.id, policy) {
            item.id = ids.give(&masked);
        }
    }
}

/// Masks the numbers in a whole report: the last step before anybody sees it.
pub fn redact_report(report: &mut Report, policy: &PrivacyPolicy, work: &Work) {
    work.each(&mut report.items).for_each(|i| redact_item(i, policy, work));
    let policy = &Counted { policy, work };
    report.findings.iter_mut().for_each(|f| redact_finding(f, policy));
    for row in &mut report.obsolete_versions {
        row.values.values_mut().chain(row.unread.values_mut()).for_each(|v| mask_in_place(v, "", policy));
        mask_in_place(&mut row.sheet, "", policy);
    }
    for mention in &mut report.documentation {
        mention.places.iter_mut().for_each(|(_, place)| redact_place(place, policy));
    }
}

/// Masks the numbers in a finding: a name that is wrong for another reason must not carry the number either.
fn redact_finding(finding: &mut Finding, policy: &Counted<'_>) {
    for Text { fr, en } in [&mut finding.summary, &mut finding.reason, &mut finding.remedy] {
        mask_in_place(fr, "", policy);
        mask_in_place(en, "", policy);
    }
    redact_args(&mut finding.args, policy);
    redact_place(&mut finding.place, policy);
}

fn redact_args(args: &mut BTreeMap<String, Arg>, policy: &Counted<'_>) {
    for value in args.values_mut() {
        if let Arg::Str(text) = value {
            mask_in_place(text, "", policy);
        }
    }
}

fn redact_place(place: &mut Place, policy: &Counted<'_>) {
    for text in place.members.iter_mut().chain(&mut place.part).chain(&mut place.sheet) {
        mask_in_place(text, "", policy);
    }
}

/// A report nests and has dozens of texts: it is masked as the JSON it will be written as.
fn redact_gazelle(report: &mut GazelleReport, policy: &Counted<'_>) {
    let masked = serde_json::to_value(&*report).and_then(|mut json| {
        redact_json(&mut json, policy);
        serde_json::from_value(json)
    });
    match masked {
        Ok(masked) => *report = masked,
        // It came from such JSON; were this ever wrong, what lists nothing also shows nobody.
        Err(_) => {
            report.sub_reports.clear();
            report.objects.clear();
            report.metadata.clear();
        }
    }
}

fn redact_json(value: &mut serde_json::Value, policy: &Counted<'_>) {
    use serde_json::Value;
    // Sub-reports were nested to a bounded depth when they were read.
    match value {
        Value::String(text) => mask_in_place(text, "", policy),
        Value::Array(values) => values.iter_mut().for_each(|v| redact_json(v, policy)),
        Value::Object(fields) => fields.values_mut().for_each(|v| redact_json(v, policy)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn redact_cells(sheet: &mut SheetFacts, policy: &Counted<'_>) {
    for found in cells(sheet, policy) {
        for further in found.further.clone() {
            if let Some((_, _, value)) = sheet.values.get_mut(further)
                && found.hits.iter().any(|h| !h.is_test)
            {
                *value = CellValue::Text("**".into());
            }
        }
        let Some((_, _, value)) = sheet.values.get_mut(found.first) else { continue };
        *value = match value {
            CellValue::Text(text) if found.further.is_empty() => CellValue::Text(replaced(text, &found.hits)),
            _ => match found.hits.iter().find(|h| !h.is_test) {
                Some(hit) => CellValue::Text(mask(&hit.number)),
                None => continue,
            },
        };
    }
    for (_, _, value) in &mut sheet.values {
        if let CellValue::Text(text) = value
            && let Some(masked) = share_keys::masked(text)
        {
            *text = masked;
        }
    }
    sheet.shown.iter_mut().for_each(|(_, _, shown)| mask_in_place(shown, "", policy));
}

fn mask_in_place(text: &mut String, context: &str, policy: &Counted<'_>) {
    if let Some(masked) = masked_in_context(text, context, policy) {
        *text = masked;
    }
}

fn masked_in_context(text: &str, context: &str, policy: &Counted<'_>) -> Option<String> {
    let hits = scan(text, context, policy);
    let masked = hits.iter().any(|h| !h.is_test).then(|| replaced(text, &hits));
    share_keys::masked(masked.as_deref().unwrap_or(text)).or(masked)
}

fn replaced(text: &str, hits: &[Hit]) -> String {
    let mut out = String::with_capacity(text.len() + 8 * hits.len());
    let mut from = 0;
    for hit in hits.iter().filter(|h| !h.is_test) {
        out.push_str(&text[from..hit.range.start]);
        out.push_str(&mask(&hit.number));
        from = hit.range.end;
    }
    out.push_str(&text[from..]);
    out
}

/// `1 85 ** ** *** *** **`: enough to find the number in the file, too little to know whose it is.
fn mask(number: &str) -> String {
    let key = if number.len() == WHOLE { " **" } else { "" };
    format!("{} {} ** ** *** ***{key}", &number[..1], &number[1..3])
}

/// Numbers seen in one item: each is said once, where it was first seen, and counted from then on.
#[derive(Debug, Default)]
struct Seen {
    /// Position in `out` by (number without key, in a name).
    known: BTreeMap<(String, bool), usize>,
    out: Vec<Signal>,
}

impl Seen {
    /// Counts a number; `place` is only worked out where it is said.
    fn add(&mut self, hit: &Hit, in_name: bool, place: impl FnOnce() -> Place) {
        let key = (hit.number[..BODY].to_owned(), in_name);
        if let Some(n) = self.known.get(&key) {
            self.out[*n].more += 1;
            return;
        }
        let signal = if hit.is_test {
            Signal::new("privacy-test-nir")
        } else if in_name {
            Signal::new("privacy-nir-name")
        } else {
            Signal::new("privacy-nir")
        };
        // At most three codes, each said a bounded number of times.
        let same = self.out.iter().filter(|s| s.code == signal.code).count();
        let at = if same < MAX_SIGNALS_PER_CODE {
            self.out.push(signal.at(place()).arg("number", mask(&hit.number)).arg("characters", hit.number.len()));
            self.out.len() - 1
        } else {
            // A file of patients: past the cap only the count grows.
            let Some(last) = self.out.iter().rposition(|s| s.code == signal.code) else { return };
            self.out[last].more += 1;
            last
        };
        self.known.insert(key, at);
    }

    fn knows(&self, hit: &Hit) -> bool {
        self.known.contains_key(&(hit.number[..BODY].to_owned(), false))
    }
}

/// Everything a file shows. `members` is the way to it through archives, masked.
fn walk(facts: &Facts, members: &mut Vec<String>, policy: &Counted<'_>, seen: &mut Seen) {
    let at = |place: Place, members: &[String]| {
        let mut place = place;
        redact_place(&mut place, policy);
        place.members.splice(0..0, members.iter().cloned());
        place
    };
    match &facts.detail {
        Some(Detail::Workbook(workbook)) => {
            for sheet in &workbook.sheets {
                // A CSV has one sheet without name.
                let name = || (!sheet.name.is_empty()).then(|| sheet.name.clone());
                for hit in scan(&sheet.name, "", policy) {
                    seen.add(&hit, false, || at(Place { sheet: name(), ..Place::default() }, members));
                }
                for found in cells(sheet, policy) {
                    let (row, column, _) = &sheet.values[found.first];
                    for hit in &found.hits {
                        let cell = || Place { sheet: name(), cell: Some(a1(*row, *column)), ..Place::default() };
                        seen.add(hit, false, || at(cell(), members));
                    }
                }
            }
        }
        Some(Detail::Pdf(pdf)) => {
            for entry in &pdf.outline {
                for hit in scan(&entry.title, "", policy) {
                    seen.add(&hit, false, || at(Place { page: entry.page, ..Place::default() }, members));
                }
            }
            for name in pdf.signatures.iter().filter_map(|s| s.name.as_deref()) {
                for hit in scan(name, "", policy) {
                    seen.add(&hit, false, || at(Place::part("/Sig"), members));
                }
            }
        }
        Some(Detail::Archive(_) | Detail::Office(_) | Detail::Image(_) | Detail::Video(_) | Detail::Text(_)) | None => {}
    }
    for chunk in &facts.text {
        // Hits come in the order of the text: the lines before each are counted on from those before the last.
        let (mut read, mut lines) = (0, 0);
        for hit in scan(&chunk.text, "", policy) {
            lines += memchr::memchr_iter(b'\n', &chunk.text.as_bytes()[read..hit.range.start]).count() as u64;
            read = hit.range.start;
            // The text of a workbook repeats its cells, and its cells are the better place.
            if facts.workbook().is_some() && seen.knows(&hit) {
                continue;
            }
            let place = || Place { line: chunk.place.line.map(|line| line + lines), ..chunk.place.clone() };
            seen.add(&hit, false, || at(place(), members));
        }
    }
    for (key, value) in &facts.metadata {
        for hit in scan(value, key, policy).into_iter().chain(scan(key, "", policy)) {
            seen.add(&hit, false, || at(Place::part(key.as_str()), members));
        }
    }
    for member in policy.work.each(facts.members()) {
        let hits = scan(&member.name, "", policy);
        let shown = masked_in_context(&member.name, "", policy).unwrap_or_else(|| member.name.clone());
        for hit in &hits {
            seen.add(hit, true, || at(Place::member(shown.as_str()), members));
        }
        if let Some(inner) = &member.facts {
            members.push(shown);
            walk(inner, members, policy, seen);
            members.pop();
        }
    }
}

/// Cells of a sheet that hold numbers.
struct CellHits {
    /// Position in the values of the sheet.
    first: usize,
    hits: Vec<Hit>,
    /// The cells after it over which one number is spread.
    further: Range<usize>,
}

/// The cells of a sheet that hold a number, alone or spread over adjacent cells.
fn cells(sheet: &SheetFacts, policy: &Counted<'_>) -> Vec<CellHits> {
    let mut found = Vec::new();
    // The first text of a column is its header; values come row by row.
    let mut headers: HashMap<u32, &str> = HashMap::new();
    let mut resume = 0;
    for (position, (row, column, value)) in policy.work.each(sheet.values.iter().enumerate()) {
        let beside =
            |n: usize, c: Option<u32>| sheet.values.get(n).filter(|(r, there, _)| r == row && Some(*there) == c).map(|(_, _, v)| v);
        let left = match position.checked_sub(1).and_then(|n| beside(n, column.checked_sub(1))) {
            Some(CellValue::Text(text)) => text.as_str(),
            _ => "",
        };
        if position >= resume
            && let Some((hit, end)) = spread(sheet, position, &headers, left, policy)
        {
            found.push(CellHits { first: position, hits: vec![hit], further: position + 1..end });
            resume = end;
        }
        if let CellValue::Text(text) = value {
            headers.entry(*column).or_insert(text);
        }
        if position < resume {
            continue;
        }
        let shown = match value {
            CellValue::Text(text) => std::borrow::Cow::Borrowed(text.as_str()),
            // Thirteen to fifteen digits: below 2^53, so that the number is the one that was typed.
            CellValue::Number(n) if n.fract() == 0.0 && (1e12..1e15).contains(n) => format!("{n:.0}").into(),
            _ => continue,
        };
        // The cell may be its own header, which names nothing.
        let header = headers.get(column).copied().filter(|h| !std::ptr::eq(*h, &*shown)).unwrap_or("");
        let mut hits = [header, left].iter().map(|context| scan(&shown, context, policy)).find(|h| !h.is_empty()).unwrap_or_default();
        if hits.is_empty()
            && let Some(key) = beside(position + 1, column.checked_add(1)).and_then(two_digits)
            && let Some(hit) = body_with_key(&shown, key, policy)
        {
            hits.push(hit);
        }
        if !hits.is_empty() {
            found.push(CellHits { first: position, hits, further: 0..0 });
        }
    }
    found
}

/// A number spread over adjacent cells of a row from `first` on, one field, one group or one digit each; and the position after
/// its last cell.
///
/// Rows of figures are common and one in 97 has a key by chance. So the figures stand in the cells as they do in a number
/// (`05`, `084`); or something names them, and cells that hold numbers may have lost their leading zeros.
fn spread(sheet: &SheetFacts, first: usize, headers: &HashMap<u32, &str>, left: &str, policy: &Counted<'_>) -> Option<(Hit, usize)> {
    /// Where the fields of a number and of its key end.
    const ENDS: [usize; 7] = [1, 3, 5, 7, 10, 13, WHOLE];
    let (row, column, value) = sheet.values.get(first)?;
    let (opening, _) = figures(value)?;
    if !opening.starts_with(['1', '2']) {
        return None;
    }
    let is_there = |n: usize, c: Option<u32>| sheet.values.get(n).filter(|(r, there, _)| r == row && Some(*there) == c);
    // As written, and with the zeros that numbers lost.
    let (mut written, mut padded) = (String::new(), String::new());
    let (mut digits, mut digits_padded) = (0, 0);
    let (mut written_end, mut padded_end) = (None, None);
    let mut singles = true;
    let mut names = vec![left];
    for n in 0..WHOLE {
        let at = u32::try_from(n).ok().and_then(|n| column.checked_add(n));
        let Some((_, there, value)) = is_there(first + n, at) else { break };
        let Some((figures, is_number)) = figures(value) else { break };
        names.extend(headers.get(there));
        singles &= figures.len() == 1;
        let boundary = ENDS.iter().copied().find(|end| *end >= digits_padded + figures.len());
        let width = boundary.filter(|_| is_number).map_or(figures.len(), |end| end - digits_padded);
        for (text, count, width) in [(&mut written, &mut digits, figures.len()), (&mut padded, &mut digits_padded, width)] {
            if *count > 0 && *count < WHOLE {
                text.push(' ');
            }
            if *count < WHOLE {
                text.extend(std::iter::repeat_n('0', width - figures.len()));
                text.push_str(&figures);
            }
            *count += width;
        }
        if digits == WHOLE && n > 0 {
            written_end = Some(first + n + 1);
        }
        if digits_padded == WHOLE && n > 0 {
            padded_end = Some(first + n + 1);
        }
        if digits >= WHOLE && digits_padded >= WHOLE {
            break;
        }
    }
    let is_named = || {
        let of = |name: &&str| name.len() <= 8 * LABEL_REACH;
        let key_last = names.last().filter(|n| of(n)).is_some_and(|n| matches!(plain(n).trim(), "cle" | "clef" | "key"));
        names.iter().filter(|n| of(n)).any(|n| names_it(n)) || key_last
    };
    let stands_alone = |end: usize| {
        let is_figure = |cell: Option<&(u32, u32, CellValue)>| cell.is_some_and(|(_, _, v)| figures(v).is_some());
        let after = u32::try_from(end - first).ok().and_then(|n| column.checked_add(n));
        !is_figure(first.checked_sub(1).and_then(|n| is_there(n, column.checked_sub(1)))) && !is_figure(is_there(end, after))
    };
    let read = |text: &str| hit_at(text, 0, "", policy).filter(|h| h.number.len() == WHOLE && h.range.end == text.len());
    if let Some(end) = written_end
        && let Some(hit) = read(&written)
        && (!singles || stands_alone(end) || is_named())
    {
        return Some((hit, end));
    }
    let end = padded_end?;
    let hit = read(&padded)?;
    is_named().then_some((hit, end))
}

/// The figures of a cell that may be a piece of a number, and whether it was a number to the spreadsheet.
fn figures(value: &CellValue) -> Option<(String, bool)> {
    match value {
        CellValue::Text(text) if text.len() <= 4 * WHOLE => {
            let text = typography::plain(text).map_or_else(|| text.trim().to_owned(), |plain| plain.text.trim().to_owned());
            let is_piece = text.bytes().all(|b| b.is_ascii_digit()) || matches!(text.as_str(), "2A" | "2B" | "2a" | "2b");
            (is_piece && (1..WHOLE).contains(&text.len())).then_some((text, false))
        }
        // Below the fourteen digits that a piece has at most.
        CellValue::Number(n) if n.fract() == 0.0 && (0.0..1e14).contains(n) => Some((format!("{n:.0}"), true)),
        _ => None,
    }
}

/// A key alone in a cell.
fn two_digits(value: &CellValue) -> Option<u8> {
    match value {
        CellValue::Text(text) => text.trim().parse().ok().filter(|key| (1..=97).contains(key)),
        CellValue::Number(n) if n.fract() == 0.0 && (1.0..=97.0).contains(n) => Some(*n as u8),
        _ => None,
    }
}

/// A cell that holds thirteen characters and nothing else, whose key stands in the next one.
fn body_with_key(shown: &str, key: u8, policy: &Counted<'_>) -> Option<Hit> {
    let start = shown.len() - shown.trim_start().len();
    let read = Read::at(shown, start)?;
    let body = read.body()?;
    (read.length == BODY && shown[read.ends[BODY - 1]..].trim().is_empty() && body.is_plain && body.key == key).then(|| {
        let number = format!("{}{key:02}", read.text(BODY));
        Hit { range: 0..shown.len(), is_test: policy.knows(&number), number }
    })
}

/// `A1` notation of a row and a column, both from 1.
fn a1(row: u32, column: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = column;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'A' + (rest % 26) as u8));
        rest /= 26;
    }
    letters.iter().rev().collect::<String>() + &row.to_string()
}

impl PrivacyPolicy {
    /// Whether a number (13 or 15 characters) is one of the declared test numbers, however those are spaced.
    fn knows(&self, number: &str) -> bool {
        let plain = |declared: &String| declared.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
        self.test_numbers.iter().map(plain).any(|t| t.len() >= BODY && t[..BODY] == number[..BODY])
            || self.test_prefixes.iter().map(plain).any(|p| !p.is_empty() && number.starts_with(&p))
    }
}

/// The numbers in `text`, in order. `context` is what names the text elsewhere: a column header, a metadata key.
///
/// The text is read as it is written, then once more as it is seen: without invisible characters, its digits plain ones.
fn scan(text: &str, context: &str, policy: &Counted<'_>) -> Vec<Hit> {
    if !policy.work.read(text.len()) {
        return Vec::new();
    }
    let mut hits = scan_plain(text, context, policy);
    if let Some(plain) = typography::plain(text) {
        let more = scan_plain(&plain.text, context, policy).into_iter().map(|hit| Hit { range: plain.origin(text, hit.range), ..hit });
        let written = std::mem::take(&mut hits);
        // Both lists are in order. Where two overlap, the one that was read as it is written stays.
        let mut written = written.into_iter().peekable();
        for hit in more {
            while let Some(before) = written.next_if(|w| w.range.start < hit.range.end) {
                hits.push(before);
            }
            if hits.last().is_none_or(|last| last.range.end <= hit.range.start) {
                hits.push(hit);
            }
        }
        hits.extend(written);
    }
    hits
}

fn scan_plain(text: &str, context: &str, policy: &Counted<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut resume = 0;
    let bytes = text.as_bytes();
    for (start, byte) in bytes.iter().enumerate() {
        // A digit is never inside a longer UTF-8 sequence: `start` is a character boundary.
        if start < resume || !matches!(byte, b'1'..=b'4' | b'7' | b'8') || (start > 0 && bytes[start - 1].is_ascii_digit()) {
            continue;
        }
        if let Some(hit) = hit_at(text, start, context, policy) {
            resume = hit.range.end;
            hits.push(hit);
        }
    }
    hits
}

fn hit_at(text: &str, start: usize, context: &str, policy: &Counted<'_>) -> Option<Hit> {
    let read = Read::at(text, start)?;
    let body = read.body()?;
    let before = Before::of(text, start)?;
    let labelled = || is_labelled(text, start, context) || has_ins_oid(text, start, read.ends[BODY - 1]);
    let of = |length: usize| {
        let number = read.text(length);
        let range = start..read.ends[length - 1];
        let is_test = policy.knows(&number) || stands_beside_test_oid(text, &range, policy);
        Hit { range, number, is_test }
    };
    let grouped = body.cuts.count_ones() >= GROUPED;

    if read.length == WHOLE {
        let key_is_apart = read.cuts >> BODY & 1 == 1;
        let ends = ends_well(text, read.ends[WHOLE - 1]);
        if ends && read.key() == Some(body.key) {
            // A dot, a dash or a slash here and there makes a version, a date or a decimal number.
            let loose = body.cuts != 0 && !grouped && !read.is_spaced;
            let sure = body.is_plain && !loose && (before == Before::Clear || grouped || !key_is_apart);
            return (sure || (grouped && before == Before::Clear) || labelled()).then(|| of(WHOLE));
        }
        // Two more digits that are no key make another number, unless they are clearly something else.
        if !key_is_apart || (ends && grouped) {
            return None;
        }
    }
    let alone = ends_well(text, read.ends[BODY - 1]) && (read.length == BODY || read.cuts >> BODY & 1 == 1);
    (alone && (body.is_plain || grouped) && labelled()).then(|| of(BODY))
}

/// What stands right before a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that belongs to it.
    Clear,
    /// A digit and a dash, a slash or the like: `2024-`.
    Joined,
}

impl Before {
    /// `None` where the number is the tail of something longer.
    fn of(text: &str, start: usize) -> Option<Self> {
        let mut back = text[..start].chars().rev();
        let Some(last) = back.next() else { return Some(Self::Clear) };
        if last.is_alphabetic() {
            // `NIR1850578…` names it; `FR761…` and `a1850…` are something else.
            let word: String = text[..start].chars().rev().take_while(|c| c.is_alphabetic()).take(12).collect();
            let word: String = word.chars().rev().flat_map(char::to_lowercase).collect();
            return LABELS.contains(&word.as_str()).then_some(Self::Clear);
        }
        if last.is_alphanumeric() {
            return None;
        }
        let digit_before = back.next().is_some_and(|c| c.is_ascii_digit());
        match last {
            '.' if digit_before => None,
            ',' if digit_before => {
                // `0,185057800608436` is a ratio; `12,185057800608436` may well be two columns.
                let whole: String = text[..start - 1].chars().rev().take_while(char::is_ascii_digit).take(3).collect();
                (whole != "0").then_some(Self::Joined)
            }
            '-' | '/' | '_' | ':' if digit_before => Some(Self::Joined),
            _ => Some(Self::Clear),
        }
    }
}

/// Whether a number may end here: what follows does not go on with it.
fn ends_well(text: &str, end: usize) -> bool {
    let mut after = text[end..].chars();
    match after.next() {
        None => true,
        Some(c) if c.is_alphanumeric() => false,
        Some('.') => !after.next().is_some_and(|c| c.is_ascii_digit()),
        Some(_) => true,
    }
}

/// Up to fifteen characters of a number, read with whatever separates them.
#[derive(Debug)]
struct Read {
    characters: [u8; WHOLE],
    length: usize,
    /// Where each character ends in the text, bytes.
    ends: [usize; WHOLE],
    /// Bit n: a separator before character n.
    cuts: u16,
    /// Separated by white space, where separated at all.
    is_spaced: bool,
}

impl Read {
    fn at(text: &str, start: usize) -> Option<Self> {
        let mut read = Self { characters: [0; WHOLE], length: 0, ends: [0; WHOLE], cuts: 0, is_spaced: true };
        let bytes = text.as_bytes();
        let mut at = start;
        let mut kind: Option<char> = None;
        while read.length < WHOLE {
            match bytes.get(at) {
                Some(digit) if digit.is_ascii_digit() => read.push(*digit, at),
                // Corsica: the second character of the département.
                Some(letter @ (b'A' | b'B' | b'a' | b'b')) if read.length == 6 && read.characters[5] == b'2' => {
                    read.push(letter.to_ascii_uppercase(), at);
                }
                _ if read.length == 0 || read.cuts >> read.length & 1 == 1 => break,
                _ => {
                    let found = if read.length == BODY { before_key(&text[at..]) } else { separator(&text[at..]) };
                    let Some((separator, length)) = found else { break };
                    if !bytes.get(at + length).is_some_and(|b| b.is_ascii_digit()) {
                        break;
                    }
                    if read.length < BODY {
                        if *kind.get_or_insert(separator) != separator {
                            break;
                        }
                        read.is_spaced &= separator == ' ';
                    }
                    read.cuts |= 1 << read.length;
                    at += length;
                    continue;
                }
            }
            at += 1;
        }
        if read.length > BODY && read.length < WHOLE {
            // One digit more is no key; joined to the rest it makes another number altogether.
            if read.cuts >> BODY & 1 == 0 {
                return None;
            }
            read.length = BODY;
        }
        (read.length >= BODY).then_some(read)
    }

    fn push(&mut self, character: u8, at: usize) {
        self.characters[self.length] = character;
        self.ends[self.length] = at + 1;
        self.length += 1;
    }

    fn text(&self, length: usize) -> String {
        self.characters[..length].iter().map(|b| char::from(*b)).collect()
    }

    fn key(&self) -> Option<u8> {
        (self.length == WHOLE && self.cuts >> (BODY + 1) & 1 == self.cuts >> 2 & 1)
            .then(|| (self.characters[13] - b'0') * 10 + (self.characters[14] - b'0'))
    }

    fn value(&self, from: usize, to: usize) -> Option<u32> {
        self.characters[from..to].iter().try_fold(0, |n, c| c.is_ascii_digit().then(|| n * 10 + u32::from(c - b'0')))
    }

    /// The thirteen characters, where they have the structure of a number and are cut between its fields.
    fn body(&self) -> Option<Body> {
        let sex = self.value(0, 1)?;
        let month = self.value(3, 5)?;
        let commune = self.value(7, 10)?;
        let order = self.value(10, 13)?;
        let (is_overseas, place_exists) = match self.value(5, 7) {
            // Only Corsica has a letter. Communes are numbered to 989; 990 stands for one that is not known.
            None => (false, (1..=990).contains(&commune)),
            Some(0) => return None,
            Some(97 | 98) => (true, (1..=90).contains(&(commune % 100))),
            Some(_) => (false, (1..=990).contains(&commune)),
        };
        let is_month = matches!(month, 1..=12 | 20..=42 | 50..=99);
        if !matches!(sex, 1..=4 | 7 | 8) || !is_month || !place_exists || order == 0 {
            return None;
        }
        let cuts = self.cuts & EVERY_CUT;
        let allowed = if is_overseas { FIELD_CUTS | OVERSEAS_CUTS } else { FIELD_CUTS };
        if cuts & !allowed != 0 && cuts != EVERY_CUT {
            return None;
        }
        // Sexes 3, 4, 7 and 8 are those of waiting and temporary numbers (NIA), months past 12 those of births
        // whose month is not known: rare enough to ask for more than a key that one number in 97 has by chance.
        let is_plain = matches!(sex, 1 | 2) && matches!(month, 1..=12);
        Some(Body { key: self.expected_key(), is_plain, cuts })
    }

    /// 97 less the remainder; « 2A » counts as 19 and « 2B » as 18.
    fn expected_key(&self) -> u8 {
        let digits = |n: u64, c: &u8| n * 10 + u64::from(c - b'0');
        let department = match &self.characters[5..7] {
            b"2A" => 19,
            b"2B" => 18,
            two => two.iter().fold(0, digits),
        };
        let before = self.characters[..5].iter().fold(0, digits);
        let after = self.characters[7..BODY].iter().fold(0, digits);
        // 97 − remainder lies between 1 and 97.
        (97 - ((before * 100 + department) * 1_000_000 + after) % 97) as u8
    }
}

/// What the first thirteen characters say.
#[derive(Debug)]
struct Body {
    key: u8,
    is_plain: bool,
    cuts: u16,
}

/// One separator between two fields, and its length in bytes; all kinds of white space are one kind.
fn separator(text: &str) -> Option<(char, usize)> {
    let first = text.chars().next()?;
    match first {
        c if c.is_whitespace() => {
            let length = text.chars().take_while(|c| c.is_whitespace()).take(2).map(char::len_utf8).sum();
            Some((' ', length))
        }
        '-' | '\u{2010}'..='\u{2013}' => Some(('-', first.len_utf8())),
        '.' | '_' | '/' | '\u{B7}' => Some((first, first.len_utf8())),
        _ => None,
    }
}

/// What may stand between a number and its key: white space, one mark, the word « clé ».
fn before_key(text: &str) -> Option<(char, usize)> {
    /// Longest that is looked at, characters.
    const REACH: usize = 12;
    let blank = |text: &str| text.chars().take_while(|c| c.is_whitespace()).take(2).map(char::len_utf8).sum::<usize>();
    let mut at = blank(text);
    if let Some(mark) =
        text[at..].chars().next().filter(|c| matches!(c, '-' | '\u{2010}'..='\u{2013}' | '.' | '_' | '/' | '|' | ',' | ';' | '('))
    {
        at += mark.len_utf8();
        at += blank(&text[at..]);
    }
    let word: String = text[at..].chars().take_while(|c| c.is_alphabetic()).take(REACH).collect();
    if !word.is_empty() {
        if !matches!(plain(&word).as_str(), "cle" | "clef" | "key") {
            return None;
        }
        at += word.len();
        at += text[at..].chars().take_while(|c| c.is_whitespace() || matches!(c, ':' | '=')).take(4).map(char::len_utf8).sum::<usize>();
    }
    (at > 0).then_some((' ', at))
}

/// Lower case, accents of the words we look for removed.
fn plain(text: &str) -> String {
    let unaccented = |c| match c {
        'é' | 'è' | 'ê' => 'e',
        'û' => 'u',
        other => other,
    };
    text.chars().flat_map(char::to_lowercase).map(unaccented).collect()
}

/// Whether a word beside it names the number: before it without another number between, or in the context.
fn is_labelled(text: &str, start: usize, context: &str) -> bool {
    let from = text[..start].char_indices().rev().take(LABEL_REACH).last().map_or(start, |(n, _)| n);
    let tail = &text[from..start];
    let tail = tail.rfind(|c: char| c.is_ascii_digit()).map_or(tail, |n| &tail[n + 1..]);
    // Bytes first: a header is as long as its author likes, and there may be one look at it for each cell below.
    names_it(tail) || (context.len() <= LABEL_REACH * 8 && context.chars().count() <= LABEL_REACH * 2 && names_it(context))
}

fn names_it(text: &str) -> bool {
    let mut words: Vec<String> = vec![String::new()];
    let mut was_lower = false;
    for c in text.chars() {
        // `numeroSecu` is two words.
        if !c.is_alphabetic() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.push(c);
        }
        was_lower = c.is_lowercase();
    }
    let words: Vec<String> = words.iter().filter(|w| !w.is_empty()).map(|w| plain(w)).collect();
    let named = words.iter().any(|w| LABELS.contains(&w.as_str()))
        || words.windows(2).any(|pair| pair[0].starts_with("securit") && matches!(pair[1].as_str(), "sociale" | "social"))
        || words.windows(2).any(|pair| pair[0] == "social" && pair[1] == "security");
    named && !words.last().is_some_and(|w| OTHERS.contains(&w.as_str()))
}

/// The text around a number in which its assigning authority would stand.
fn around<'t>(text: &'t str, range: &Range<usize>) -> (&'t str, &'t str) {
    let after = &text[range.end..text.floor_char_boundary(range.end.saturating_add(OID_REACH).min(text.len()))];
    // HL7 v2 (CX): the authority follows, and ends with the repetition or the field.
    if after.starts_with('^') {
        return ("", after.split(['~', '|']).next().unwrap_or(after));
    }
    (&text[text.floor_char_boundary(range.start.saturating_sub(OID_REACH))..range.start], after)
}

/// OIDs of authorities of matricules INS in `text`.
fn ins_oids(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(INS_ARC).map(|(at, _)| {
        let rest = &text[at + INS_ARC.len()..];
        let last = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        &text[at..at + INS_ARC.len() + last]
    })
}

fn has_ins_oid(text: &str, start: usize, end: usize) -> bool {
    let (before, after) = around(text, &(start..end));
    ins_oids(before).chain(ins_oids(after)).next().is_some()
}

fn stands_beside_test_oid(text: &str, range: &Range<usize>, policy: &Counted<'_>) -> bool {
    let (before, after) = around(text, range);
    let mut is_test = false;
    for oid in ins_oids(before).chain(ins_oids(after)) {
        // Beside both, it is taken for real: a wrong warning costs less than a patient's identity.
        if REAL_OIDS.contains(&oid) {
            return false;
        }
        is_test |= policy.test_oids.iter().any(|t| t == oid);
    }
    is_test
}

#[cfg(test)]
mod tests;
