//! What a rules file must satisfy beyond its types: ids unique, references declared, limits, dates and patterns
//! that mean something. Every problem is reported, none stops the others.

use std::collections::BTreeMap;

use super::catalogue::{self, Catalogue};
use super::document::{Kind, Problem, Source, Step, at};
use super::labels::{fold, nearest};
use super::{Pipeline, SizeLimit, ids};
use crate::model::messages;

struct Check<'a, 't> {
    source: &'a Source<'t>,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_, '_> {
    fn report(&mut self, steps: &[Step], kind: Kind) {
        let problem = self.source.problem(steps, kind);
        self.problems.push(problem);
    }

    fn schema(&mut self, found: &str, expected: &'static str) {
        if found != expected {
            self.report(at!["schema"], Kind::Schema { found: found.to_owned(), expected });
        }
    }

    fn filled(&mut self, steps: &[Step], name: &'static str, value: &str) {
        if value.trim().is_empty() {
            self.report(steps, Kind::Empty(name));
        }
    }

    /// Ids of one list: well formed and unique.
    fn ids<'i>(&mut self, list: &'static str, what: &'static str, ids: impl Iterator<Item = &'i str>) {
        let mut seen = BTreeMap::new();
        for (position, id) in ids.enumerate() {
            let steps = at![list, position, "id"];
            if !is_id(id) {
                self.report(steps, Kind::IdShape(id.to_owned()));
            }
            if let Some(first) = seen.insert(id, position) {
                let by = self.line_of(at![list, first, "id"]);
                self.report(steps, Kind::Duplicate { what, value: id.to_owned(), by });
            }
        }
    }

    /// « line 12 », for what was there first.
    fn line_of(&self, steps: &[Step]) -> String {
        self.source.position(steps).map_or_else(String::new, |(line, _)| format!("line {line}"))
    }

    /// Labels by which something is recognised: unique over the list, in any spelling.
    fn labels<'l>(&mut self, list: &'static str, key: &'static str, what: &'static str, labels: impl Iterator<Item = &'l [String]>) {
        let mut taken: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for (position, labels) in labels.enumerate() {
            for (at, label) in labels.iter().enumerate() {
                let steps = at![list, position, key, at];
                self.filled(steps, what, label);
                let (first, first_at) = *taken.entry(fold(label)).or_insert((position, at));
                // Two spellings of one label beside each other are harmless.
                if first != position {
                    let by = self.line_of(at![list, first, key, first_at]);
                    self.report(steps, Kind::Duplicate { what, value: label.clone(), by });
                }
            }
        }
    }

    fn reference<'k>(&mut self, steps: &[Step], what: &'static str, value: &str, known: impl Iterator<Item = &'k str>) {
        let known: Vec<&str> = known.collect();
        if !known.contains(&value) {
            let nearest = nearest(value, known.iter().copied()).map(str::to_owned);
            let known = known.into_iter().map(str::to_owned).collect();
            self.report(steps, Kind::Dangling { what, value: value.to_owned(), nearest, known });
        }
    }

    fn limit(&mut self, steps: &[Step], limit: SizeLimit) {
        if !(limit.mo.is_finite() && limit.mo > 0.0) {
            self.report(steps, Kind::Zero("mo"));
        }
    }

    fn pattern(&mut self, steps: &[Step], pattern: Option<&str>) {
        if let Some(Err(error)) = pattern.map(super::whole) {
            // The crate draws the pattern over several lines; its last line says what is wrong.
            let said = error.to_string();
            let reason = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            self.report(steps, Kind::Regex(reason));
        }
    }
}

/// Lower-case words joined by `-`.
fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && id.split('-').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Checks a pipeline.
pub(super) fn pipeline(pipeline: &Pipeline, source: &Source<'_>, problems: &mut Vec<Problem>) {
    let mut check = Check { source, problems };
    check.schema(&pipeline.schema, super::SCHEMA);
    if !is_id(&pipeline.id) {
        check.report(at!["id"], Kind::IdShape(pipeline.id.clone()));
    }
    check.filled(at!["version"], "version", &pipeline.version);
    check.filled(at!["catalogue"], "catalogue", &pipeline.catalogue);
    check.pattern(at!["candidature_number"], pipeline.candidature_number.as_deref());
    if pipeline.bytes_per_mo == 0 {
        check.report(at!["bytes_per_mo"], Kind::Zero("bytes_per_mo"));
    }

    let zone = jiff::tz::TimeZone::get(&pipeline.time_zone).ok();
    if zone.is_none() {
        check.report(at!["time_zone"], Kind::TimeZone(pipeline.time_zone.clone()));
    }
    for (key, value) in [("eligibility", &pipeline.deadlines.eligibility), ("preuves", &pipeline.deadlines.preuves)] {
        if let Some(value) = value {
            deadline(&mut check, at!["deadlines", key], value, zone.clone());
        }
    }

    check.ids("profiles", "profile", pipeline.profiles.iter().map(|p| p.id.as_str()));
    check.labels("profiles", "labels", "label", pipeline.profiles.iter().map(|p| p.labels.as_slice()));
    for (at, profile) in pipeline.profiles.iter().enumerate() {
        if profile.labels.is_empty() {
            check.report(at!["profiles", at, "labels"], Kind::Empty("labels"));
        }
    }
    for (at, label) in pipeline.other_profiles.iter().enumerate() {
        if let Some(profile) = pipeline.profile(label) {
            let by = format!("profile `{}`", profile.id);
            check.report(at!["other_profiles", at], Kind::Duplicate { what: "label", value: label.clone(), by });
        }
    }
    for (key, list) in [("referenced", &pipeline.vague_1.referenced), ("not_referenced", &pipeline.vague_1.not_referenced)] {
        if list.is_empty() {
            check.report(at!["vague_1", key], Kind::Empty("périmètres"));
        }
    }

    check.ids("chapters", "chapter", pipeline.chapters.iter().map(|c| c.id.as_str()));
    check.labels("chapters", "labels", "label", pipeline.chapters.iter().map(|c| c.labels.as_slice()));
    let mut titles = BTreeMap::new();
    for (at, chapter) in pipeline.chapters.iter().enumerate() {
        check.filled(at!["chapters", at, "title", "fr"], "title", &chapter.title.fr);
        if let Some(by) = titles.insert(fold(&chapter.title.fr), &chapter.id) {
            let kind = Kind::Duplicate { what: "title", value: chapter.title.fr.clone(), by: format!("chapter `{by}`") };
            check.report(at!["chapters", at, "title", "fr"], kind);
        }
    }

    check.ids("identifiers", "identifier", pipeline.identifiers.iter().map(|i| i.id.as_str()));
    for (at, identifier) in pipeline.identifiers.iter().enumerate() {
        check.pattern(at!["identifiers", at, "pattern"], identifier.pattern.as_deref());
    }

    check.ids("dependencies", "dependency", pipeline.dependencies.iter().map(|d| d.id.as_str()));
    for (at, dependency) in pipeline.dependencies.iter().enumerate() {
        for (n, identifier) in dependency.identifiers.iter().enumerate() {
            let known = pipeline.identifiers.iter().map(|i| i.id.as_str());
            check.reference(at!["dependencies", at, "identifiers", n], "identifier", identifier, known);
        }
        for (n, after) in dependency.after.iter().enumerate() {
            let known = pipeline.dependencies.iter().map(|d| d.id.as_str());
            check.reference(at!["dependencies", at, "after", n], "dependency", after, known);
        }
        if let Some(slot) = &dependency.slot {
            check.reference(at!["dependencies", at, "slot"], "slot", slot, pipeline.slots.iter().map(|s| s.id.as_str()));
        }
        if waits_for_itself(pipeline, &dependency.id) {
            check.report(at!["dependencies", at, "after"], Kind::Cycle(dependency.id.clone()));
        }
    }

    for (name, set) in &pipeline.formats {
        if set.accepted.is_empty() && set.unconfirmed.is_empty() {
            check.report(at!["formats", name], Kind::Empty("accepted"));
        }
        let mut seen = BTreeMap::new();
        for (key, list) in [("accepted", &set.accepted), ("unconfirmed", &set.unconfirmed)] {
            for (at, format) in list.iter().enumerate() {
                if let Some(by) = seen.insert(*format, key) {
                    let kind = Kind::Duplicate { what: "format", value: format.code().to_owned(), by: format!("`{by}`") };
                    check.report(at!["formats", name, key, at], kind);
                }
            }
        }
    }

    let sets = || pipeline.formats.keys().map(String::as_str);
    check.ids("slots", "slot", pipeline.slots.iter().map(|s| s.id.as_str()));
    check.labels("slots", "folders", "folder", pipeline.slots.iter().map(|s| s.folders.as_slice()));
    for (at, slot) in pipeline.slots.iter().enumerate() {
        if slot.max_files == 0 {
            check.report(at!["slots", at, "max_files"], Kind::Zero("max_files"));
        }
        check.limit(at!["slots", at, "max_size", "mo"], slot.max_size);
        check.reference(at!["slots", at, "formats"], "format set", &slot.formats, sets());
        if let Some(overflow) = &slot.overflow_formats {
            check.reference(at!["slots", at, "overflow_formats"], "format set", overflow, sets());
        }
    }
    if let Some(Err(contradiction)) = pipeline.versions_obsoletes.as_ref().map(|model| model.check()) {
        check.report(at!["versions_obsoletes"], Kind::Columns(contradiction.to_string()));
    }
    for (at, topic) in pipeline.documentation.iter().flat_map(|d| &d.topics).enumerate() {
        for (n, profile) in topic.profiles.iter().enumerate() {
            let profiles = pipeline.profiles.iter().map(|p| p.id.as_str());
            check.reference(at!["documentation", "topics", at, "profiles", n], "profile", profile, profiles);
        }
    }
    if pipeline.preuves.max_items == 0 {
        check.report(at!["preuves", "max_items"], Kind::Zero("max_items"));
    }
    check.limit(at!["preuves", "max_size", "mo"], pipeline.preuves.max_size);
    check.reference(at!["preuves", "formats"], "format set", &pipeline.preuves.formats, sets());

    for code in pipeline.severities.keys() {
        if !messages::all().contains_key(code) {
            let nearest = nearest(code, messages::all().keys().map(String::as_str)).map(str::to_owned);
            check.report(at!["severities", code], Kind::UnknownFinding { code: code.clone(), nearest });
        }
    }
}

fn deadline(check: &mut Check<'_, '_>, steps: &[Step], value: &str, zone: Option<jiff::tz::TimeZone>) {
    let expected = "a date and time such as `2026-02-20T12:00:00`";
    let civil: jiff::civil::DateTime = match value.parse() {
        // A date alone would silently mean midnight, the first instant of the last day.
        Ok(civil) if value.contains(['T', ' ', 't']) => civil,
        Ok(_) => return check.report(steps, Kind::Date { value: value.to_owned(), expected, reason: "the time is missing".to_owned() }),
        Err(error) => return check.report(steps, Kind::Date { value: value.to_owned(), expected, reason: error.to_string() }),
    };
    let Some(zone) = zone else { return };
    let name = zone.iana_name().unwrap_or_default().to_owned();
    let why = match zone.into_ambiguous_zoned_datetime(civil).offset() {
        jiff::tz::AmbiguousOffset::Unambiguous { .. } => return,
        jiff::tz::AmbiguousOffset::Gap { .. } => "does not exist (the clock skips it)",
        jiff::tz::AmbiguousOffset::Fold { .. } => "comes twice (the clock is set back)",
    };
    check.report(steps, Kind::LocalTime { value: value.to_owned(), why, zone: name });
}

fn waits_for_itself(pipeline: &Pipeline, id: &str) -> bool {
    let mut to_visit: Vec<&str> = vec![id];
    let mut visited: Vec<&str> = Vec::new();
    while let Some(next) = to_visit.pop() {
        for dependency in pipeline.dependencies.iter().filter(|d| d.id == next) {
            for after in &dependency.after {
                if after == id {
                    return true;
                }
                if !visited.contains(&after.as_str()) {
                    visited.push(after);
                    to_visit.push(after);
                }
            }
        }
    }
    false
}

/// Checks a catalogue, alone or against the pipeline that names it.
pub(super) fn catalogue(catalogue: &Catalogue, pipeline: Option<&Pipeline>, source: &Source<'_>, problems: &mut Vec<Problem>) {
    let mut check = Check { source, problems };
    check.schema(&catalogue.schema, catalogue::SCHEMA);
    check.filled(at!["version"], "version", &catalogue.version);
    check.filled(at!["source"], "source", &catalogue.source);
    if let Err(error) = catalogue.date.parse::<jiff::civil::Date>() {
        let kind = Kind::Date { value: catalogue.date.clone(), expected: "a date such as `2026-01-31`", reason: error.to_string() };
        check.report(at!["date"], kind);
    }
    if catalogue.preuves.is_empty() {
        check.report(at!["preuves"], Kind::Empty("preuves"));
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, preuve) in catalogue.preuves.iter().enumerate() {
        for (key, id, required) in [("id", &preuve.id, true), ("exigence", &preuve.exigence, true), ("scenario", &preuve.scenario, false)] {
            if let Some(why) = cannot_be_an_id(id, required) {
                check.report(at!["preuves", at, key], Kind::RequirementId(id.clone(), why));
            }
        }
        if let Some(first) = seen.insert(&preuve.id, at) {
            let by = check.line_of(at!["preuves", first, "id"]);
            check.report(at!["preuves", at, "id"], Kind::Duplicate { what: "proof", value: preuve.id.clone(), by });
        }
        let Some(pipeline) = pipeline else { continue };
        if pipeline.chapter(&preuve.chapter).is_none() {
            let known: Vec<String> = pipeline.chapters.iter().map(|c| c.id.clone()).collect();
            let nearest = nearest(&preuve.chapter, known.iter().map(String::as_str)).map(str::to_owned);
            let kind = Kind::Dangling { what: "chapter of the pipeline", value: preuve.chapter.clone(), nearest, known };
            check.report(at!["preuves", at, "chapter"], kind);
        }
        for (n, joined) in preuve.profiles.iter().enumerate() {
            for label in catalogue::split_profiles(joined, |label| pipeline.knows_profile_label(label)) {
                if !pipeline.knows_profile_label(&label) {
                    let labels = || pipeline.profiles.iter().flat_map(|p| &p.labels).map(String::as_str);
                    let nearest = nearest(&label, labels()).map(str::to_owned);
                    let known = labels().map(str::to_owned).collect();
                    let kind =
                        Kind::Dangling { what: "profile of the pipeline (`profiles` or `other_profiles`)", value: label, nearest, known };
                    check.report(at!["preuves", at, "profiles", n], kind);
                }
            }
        }
        let perimetres = || pipeline.vague_1.referenced.iter().chain(&pipeline.vague_1.not_referenced);
        if !preuve.perimetre.trim().is_empty() && !perimetres().any(|p| fold(p) == fold(&preuve.perimetre)) {
            let mut known: Vec<String> = perimetres().cloned().collect();
            known.sort();
            known.dedup();
            let nearest = nearest(&preuve.perimetre, known.iter().map(String::as_str)).map(str::to_owned);
            let kind = Kind::Dangling { what: "périmètre of `vague_1`", value: preuve.perimetre.clone(), nearest, known };
            check.report(at!["preuves", at, "perimetre"], kind);
        }
    }
}

/// Why `id` cannot name a requirement. Ids outside the agency's grammar are let through, because published
/// catalogues hold some; those that could not be a folder of the bundle are not.
pub(super) fn cannot_be_an_id(id: &str, required: bool) -> Option<&'static str> {
    if id.is_empty() {
        return required.then_some("it is empty");
    }
    if id.len() > 100 {
        return Some("it is longer than 100 bytes");
    }
    if ids::compact(id) != id {
        return Some("it holds white space");
    }
    if !id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-')) {
        return Some("it holds characters other than letters, digits, `.`, `/`, `_` and `-`");
    }
    if id.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with('.')) {
        return Some("it would not be a safe folder name");
    }
    (ids::canonical(id).is_some_and(|canonical| canonical != id)).then_some("it is not in canonical form (`SC.` and `CH.` are left out)")
}
