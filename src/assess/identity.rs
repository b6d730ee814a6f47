//! What a rule says of the submission document: candidature, profiles, identifiers, dependencies, deadline.

use jiff::Timestamp;

use crate::model::Signal;
use crate::model::facts::MAX_SIGNALS_PER_CODE;
use crate::model::submission::{Stage, Submission};
use crate::pipeline::Loaded;

/// The signals of the submission itself.
pub fn signals(loaded: &Loaded, submission: &Submission) -> Vec<Signal> {
    let mut out = Vec::new();
    number(loaded, submission, &mut out);
    profiles(loaded, submission, &mut out);
    deadline(loaded, submission, &mut out);
    if !matches!(submission.stage, Stage::Chapter { .. }) {
        identifiers(loaded, submission, &mut out);
        dependencies(loaded, submission, &mut out);
    }
    if let Stage::Chapter { chapter } = &submission.stage
        && loaded.pipeline.chapter(chapter).is_none()
    {
        out.push(Signal::new("chapter-unknown").arg("chapter", chapter.as_str()));
    }
    out
}

fn matches_whole(pattern: &str, value: &str) -> bool {
    // A malformed pattern was refused when the pipeline was loaded.
    crate::pipeline::whole(pattern).is_ok_and(|r| r.is_match(value))
}

fn number(loaded: &Loaded, submission: &Submission, out: &mut Vec<Signal>) {
    let number = &submission.candidature.number;
    if number.trim().is_empty() {
        out.push(Signal::new("candidature-number-missing"));
    } else if let Some(pattern) = &loaded.pipeline.candidature_number
        && !matches_whole(pattern, number)
    {
        out.push(Signal::new("candidature-number-shape").arg("number", number.as_str()).arg("pattern", pattern.as_str()));
    }
}

fn profiles(loaded: &Loaded, submission: &Submission, out: &mut Vec<Signal>) {
    let known = &loaded.pipeline.profiles;
    let unknown = |chosen: &&String| !known.iter().any(|p| p.id == **chosen);
    for (n, chosen) in submission.candidature.profiles.iter().filter(unknown).enumerate() {
        if let Some(last) = out.last_mut().filter(|_| n >= MAX_SIGNALS_PER_CODE) {
            last.more += 1;
        } else {
            let ids: Vec<_> = known.iter().map(|p| p.id.as_str()).collect();
            out.push(Signal::new("profile-unknown").arg("profile", chosen.as_str()).arg("known", ids.join(", ")));
        }
    }
    if submission.candidature.profiles.is_empty() && known.iter().any(|p| !p.always) {
        out.push(Signal::new("profiles-not-stated"));
    }
    if submission.candidature.referenced_vague_1.is_none() {
        out.push(Signal::new("vague-1-not-stated"));
    }
}

fn identifiers(loaded: &Loaded, submission: &Submission, out: &mut Vec<Signal>) {
    let given = &submission.candidature.identifiers;
    let referenced = submission.candidature.referenced_vague_1 == Some(true);
    for rule in &loaded.pipeline.identifiers {
        let value = given.get(&rule.id).map_or("", String::as_str);
        let asked = !rule.only_if_referenced_vague_1 || referenced;
        if value.trim().is_empty() {
            if rule.required && asked {
                out.push(Signal::new("identifier-missing").arg("id", rule.id.as_str()).arg("title", rule.title.fr.as_str()));
            } else if rule.recommended && asked {
                out.push(Signal::new("identifier-recommended").arg("id", rule.id.as_str()).arg("title", rule.title.fr.as_str()));
            }
            continue;
        }
        if value.chars().any(char::is_whitespace) {
            out.push(Signal::new("identifier-spaces").arg("title", rule.title.fr.as_str()).arg("value", value));
        } else if let Some(pattern) = &rule.pattern
            && !matches_whole(pattern, value)
        {
            out.push(
                Signal::new("identifier-shape").arg("title", rule.title.fr.as_str()).arg("value", value).arg("pattern", pattern.as_str()),
            );
        }
    }
    let unknown = |id: &&String| !loaded.pipeline.identifiers.iter().any(|r| r.id == **id);
    for (n, id) in given.keys().filter(unknown).enumerate() {
        if let Some(last) = out.last_mut().filter(|_| n >= MAX_SIGNALS_PER_CODE) {
            last.more += 1;
        } else {
            out.push(Signal::new("identifier-unknown").arg("id", id.as_str()));
        }
    }
}

fn dependencies(loaded: &Loaded, submission: &Submission, out: &mut Vec<Signal>) {
    let given = &submission.candidature.identifiers;
    for dependency in &loaded.pipeline.dependencies {
        let asked: Vec<&str> = dependency.identifiers.iter().map(String::as_str).collect();
        let started = asked.iter().any(|id| given.get(*id).is_some_and(|v| !v.trim().is_empty()));
        if !asked.is_empty() && !started {
            out.push(
                Signal::new("dependency-not-shown")
                    .arg("title_fr", dependency.title.fr.as_str())
                    .arg("title_en", dependency.title.en.as_str())
                    .arg("identifiers", asked.join(", ")),
            );
        }
    }
}

fn deadline(loaded: &Loaded, submission: &Submission, out: &mut Vec<Signal>) {
    let Some(stated) = &submission.submitted_at else {
        out.push(Signal::new("submitted-at-missing"));
        return;
    };
    let Ok(submitted) = stated.parse::<Timestamp>() else {
        out.push(Signal::new("submitted-at-malformed").arg("value", stated.as_str()));
        return;
    };
    // The published dates bind the first submission; a corrected one answers the verifier's own calendar.
    if submission.revision > 1 {
        return;
    }
    let Some(deadline) = loaded.pipeline.deadline(&submission.stage) else { return };
    let shown = deadline.strftime("%d/%m/%Y %H:%M").to_string();
    let local = submitted.to_zoned_datetime(deadline.time_zone().clone()).strftime("%d/%m/%Y %H:%M:%S").to_string();
    let zone = loaded.pipeline.time_zone.as_str();
    if submitted > deadline.timestamp() {
        out.push(Signal::new("deadline-passed").arg("deadline", shown).arg("submitted", local).arg("zone", zone));
    } else {
        let left = deadline.timestamp().as_second() - submitted.as_second();
        if left < i64::from(loaded.pipeline.deadlines.near_hours) * 3600 {
            out.push(Signal::new("deadline-near").arg("deadline", shown).arg("hours", left / 3600).arg("zone", zone));
        }
    }
}
