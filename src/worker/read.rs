//! A message becomes a job, or a reason why it never can be one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::check::folder::parse_submission;
use crate::model::message::{Envelope, MAX_JOB, ParkReason, SUBMISSION_REQUESTED};
use crate::model::submission::{Submission, count_items};
use crate::model::text::display_safe;
use crate::pipeline::{self, Loaded, PipelineError};

/// Not JSON of a submission.
pub const MALFORMED: &str = "JOB-MALFORMED";
/// Larger than a job may be.
pub const TOO_LARGE: &str = "JOB-TOO-LARGE";
/// More items than a submission may have, or than may name one file.
pub const TOO_MANY_ITEMS: &str = "JOB-TOO-MANY-ITEMS";
/// A type or version of message that this program does not read.
pub const TYPE_UNKNOWN: &str = "JOB-TYPE-UNKNOWN";
/// A démarche without pipeline here.
pub const DEMARCHE_UNKNOWN: &str = "JOB-DEMARCHE-UNKNOWN";

/// The rules of every démarche that this worker knows, loaded once: a rules file with a mistake is a reason not to start.
#[derive(Debug, Clone, Default)]
pub struct Pipelines(BTreeMap<String, Arc<Loaded>>);

impl Pipelines {
    /// Every `*.toml` of `folders`; of two with the same id, the one in the earlier folder.
    ///
    /// # Errors
    /// [`PipelineError`] of the first that cannot be used.
    pub fn load(folders: &[std::path::PathBuf]) -> Result<Self, PipelineError> {
        let mut all = BTreeMap::new();
        for folder in folders {
            // Folders that are not there hold nothing: the usual places are a list of maybes.
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut paths: Vec<_> =
                entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
            paths.sort();
            for path in paths {
                let loaded = pipeline::load(&path)?;
                all.entry(loaded.pipeline.id.clone()).or_insert_with(|| Arc::new(loaded));
            }
        }
        Ok(Self(all))
    }

    /// The rules of a démarche.
    pub fn get(&self, id: &str) -> Option<&Arc<Loaded>> {
        self.0.get(id)
    }

    /// Every démarche.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Loaded>> {
        self.0.values()
    }
}

/// The submission in a message, and the rules it asks for.
///
/// # Errors
/// Why it is parked: nothing that waiting would mend.
pub fn job(message: &Envelope, pipelines: &Pipelines) -> Result<(Submission, Arc<Loaded>), ParkReason> {
    if message.body.len() > MAX_JOB {
        return Err(ParkReason::new(TOO_LARGE, format!("{} bytes, at most {MAX_JOB}", message.body.len())));
    }
    if message.kind != SUBMISSION_REQUESTED {
        let kind = display_safe(&message.kind, 120);
        return Err(ParkReason::new(TYPE_UNKNOWN, format!("type `{kind}`, this version reads `{SUBMISSION_REQUESTED}`")));
    }
    let text = std::str::from_utf8(&message.body).map_err(|e| ParkReason::new(MALFORMED, format!("not UTF-8: {e}")))?;
    let submission = parse_submission(text).map_err(|why| ParkReason::new(MALFORMED, display_safe(&why, 500)))?;
    count_items(&submission.items).map_err(|why| ParkReason::new(TOO_MANY_ITEMS, why))?;
    let Some(loaded) = pipelines.get(&submission.demarche) else {
        let known: Vec<_> = pipelines.0.keys().map(String::as_str).collect();
        let wanted = display_safe(&submission.demarche, 120);
        return Err(ParkReason::new(DEMARCHE_UNKNOWN, format!("`{wanted}` is none of {}", known.join(", "))));
    };
    Ok((submission, Arc::clone(loaded)))
}
