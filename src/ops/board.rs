//! What is under way, as it happens: which job is at which stage, and its items as they end.
//!
//! It is made of the events that workers tell, as they pass through the queue of this process ([`Board::watching`]) or come
//! back to it as replies. It is only ever looked at: nothing is decided by it, and losing it loses nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::model::event::{About, BUNDLE_READY, ITEM_CHECKED, ItemChecked, Outcome, SUBMISSION_DELAYED};
use crate::model::event::{
    SUBMISSION_PARKED, SUBMISSION_RECEIVED, SUBMISSION_REJECTED, SubmissionDelayed, SubmissionParked, SubmissionReceived,
};
use crate::model::message::Envelope;
use crate::model::submission::FiledUnder;
use crate::model::text::display_safe;
use crate::model::{Severity, Text, Verdict};
use crate::queue::QueueError;
use crate::queue::observed::{Operation, QueueObserver};

/// How long a job that has ended is still shown as it was.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// Jobs shown at once.
const MAX_JOBS: usize = 500;
/// Items of one job that are shown; the rest is counted.
const MAX_LINES: usize = 2_000;
/// What the pace is told of.
const HOUR: Duration = Duration::from_secs(3600);
/// Ends remembered for the pace.
const MAX_PACE: usize = 100_000;
/// Events that a slow reader may lag behind before it misses some.
const LAG: usize = 512;

/// Everything under way. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    jobs: BTreeMap<String, Job>,
    /// When jobs were published, for the pace; of the last hour.
    published: VecDeque<Instant>,
}

#[derive(Debug)]
struct Job {
    about: About,
    began: Timestamp,
    done: u64,
    total: u64,
    lines: Vec<Line>,
    ended: Option<(Instant, End)>,
    /// Whoever looks at this job. Made with the first of them: a channel has room for [`LAG`] events from the start, and
    /// most jobs are never looked at.
    readers: Option<broadcast::Sender<Live>>,
}

/// One item that has been looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// File name or link (made safe to show).
    pub name: String,
    /// Where it is filed (made safe to show).
    pub filed: String,
    /// Its verdict by itself.
    pub verdict: Verdict,
    /// The heaviest thing found, where there is any.
    pub summary: Option<Text>,
    /// Number of findings heavier than a remark.
    pub findings: usize,
}

/// How a job left the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum End {
    /// Its outcome is there.
    Published {
        /// The verdict.
        verdict: Verdict,
    },
    /// Set aside.
    Parked {
        /// Code of the reason.
        code: String,
    },
    /// Tried again later, or by somebody else.
    Later,
}

/// Something that happened to one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "with")]
pub enum Live {
    /// An item has been looked at.
    Item {
        /// Which, and how.
        line: Line,
        /// Items looked at.
        done: u64,
        /// Items in all.
        total: u64,
    },
    /// It left the worker.
    End(End),
}

/// One job as it is now.
#[derive(Debug, Clone)]
pub struct UnderWay {
    /// Which.
    pub about: About,
    /// When it was begun.
    pub began: Timestamp,
    /// Items looked at.
    pub done: u64,
    /// Items in all.
    pub total: u64,
    /// Items that have been looked at, in order of completion.
    pub lines: Vec<Line>,
    /// How it ended, where it has.
    pub ended: Option<End>,
}

#[derive(Debug)]
struct Watching {
    board: Board,
    observer: Arc<dyn QueueObserver>,
}

impl QueueObserver for Watching {
    fn called(&self, operation: Operation, error: Option<&QueueError>, took: Duration) {
        self.observer.called(operation, error, took);
    }

    fn announced(&self, event: &Envelope) {
        self.board.told(event);
        self.observer.announced(event);
    }
}

impl Job {
    fn shown(&self, with_lines: bool) -> UnderWay {
        UnderWay {
            about: self.about.clone(),
            began: self.began,
            done: self.done,
            total: self.total,
            lines: if with_lines { self.lines.clone() } else { Vec::new() },
            ended: self.ended.as_ref().map(|(_, end)| end.clone()),
        }
    }

    /// Nobody listening is no error, and the channel of those who have gone is given up.
    fn tell(&mut self, live: Live) {
        if self.readers.as_ref().is_some_and(|readers| readers.send(live).is_err()) {
            self.readers = None;
        }
    }
}

impl Board {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job is begun, or begun again.
    pub fn begin(&self, about: &About, total: u64) {
        let jobs = &mut self.shown().jobs;
        jobs.retain(|_, job| job.ended.as_ref().is_none_or(|(since, _)| since.elapsed() < REMEMBERED));
        if jobs.len() >= MAX_JOBS && !jobs.contains_key(&about.job) {
            let longest = jobs.iter().filter_map(|(id, job)| Some((job.ended.as_ref()?.0, id.clone()))).min();
            let Some((_, longest)) = longest else { return };
            jobs.remove(&longest);
        }
        // Those who look at an earlier try go on looking.
        let readers = jobs.remove(&about.job).and_then(|job| job.readers);
        let began = Timestamp::now();
        let job = Job { about: about.clone(), began, done: 0, total, lines: Vec::new(), ended: None, readers };
        jobs.insert(about.job.clone(), job);
    }

    /// One of its items has been looked at.
    pub fn item(&self, checked: &ItemChecked) {
        let (FiledUnder::Slot(filed) | FiledUnder::Preuve(filed)) = &checked.filed_under;
        let heavy = checked.findings.iter().filter(|finding| finding.severity > Severity::Notice);
        let summary = heavy.clone().max_by_key(|finding| finding.severity).map(|finding| finding.summary.clone());
        let line = Line {
            name: display_safe(&checked.name, 200),
            filed: display_safe(filed, 100),
            verdict: checked.verdict,
            summary: summary.map(|t| Text::new(display_safe(&t.fr, 300), display_safe(&t.en, 300))),
            findings: heavy.count(),
        };
        if let Some(job) = self.shown().jobs.get_mut(&checked.job) {
            job.done = job.done.max(checked.done);
            job.total = checked.total;
            if job.lines.len() < MAX_LINES {
                job.lines.push(line.clone());
            }
            job.tell(Live::Item { line, done: job.done, total: job.total });
        }
    }

    /// It left the worker.
    pub fn end(&self, job: &str, end: End) {
        let shown = &mut *self.shown();
        if let Some(job) = shown.jobs.get_mut(job) {
            job.ended = Some((Instant::now(), end.clone()));
            job.tell(Live::End(end.clone()));
            // Its report says more, and stays.
            if matches!(end, End::Published { .. }) {
                job.lines = Vec::new();
            }
        }
        if matches!(end, End::Published { .. }) {
            let now = Instant::now();
            while shown.published.front().is_some_and(|at| now.duration_since(*at) > HOUR) || shown.published.len() >= MAX_PACE {
                shown.published.pop_front();
            }
            shown.published.push_back(now);
        }
    }

    /// Copies an event of a worker elsewhere; what cannot be read is left out.
    pub fn told(&self, event: &Envelope) {
        let body = event.body.as_slice();
        match event.kind.as_str() {
            SUBMISSION_RECEIVED => {
                if let Ok(SubmissionReceived { about, items, .. }) = serde_json::from_slice(body) {
                    self.begin(&about, items);
                }
            }
            ITEM_CHECKED => {
                if let Ok(checked) = serde_json::from_slice::<ItemChecked>(body) {
                    self.item(&checked);
                }
            }
            BUNDLE_READY | SUBMISSION_REJECTED => {
                if let Ok(Outcome { about, verdict, .. }) = serde_json::from_slice(body) {
                    self.end(&about.job, End::Published { verdict });
                }
            }
            SUBMISSION_PARKED => {
                if let Ok(SubmissionParked { about: Some(about), reason, .. }) = serde_json::from_slice(body) {
                    self.end(&about.job, End::Parked { code: reason.code });
                }
            }
            SUBMISSION_DELAYED => {
                if let Ok(SubmissionDelayed { job, .. }) = serde_json::from_slice(body) {
                    self.end(&job, End::Later);
                }
            }
            _ => {}
        }
    }

    /// Also shows what passes through a queue that `observer` watches.
    pub fn watching(&self, observer: Arc<dyn QueueObserver>) -> Arc<dyn QueueObserver> {
        Arc::new(Watching { board: self.clone(), observer })
    }

    /// Jobs published in the last minute and in the last hour, as far as this process has seen.
    pub fn pace(&self) -> (usize, usize) {
        let now = Instant::now();
        let shown = self.shown();
        let within = |limit: Duration| shown.published.iter().rev().take_while(|at| now.duration_since(**at) <= limit).count();
        (within(Duration::from_secs(60)), within(HOUR))
    }

    /// Jobs that have not ended, the longest under way first.
    pub fn under_way(&self) -> Vec<UnderWay> {
        let mut all: Vec<_> = self.shown().jobs.values().filter(|job| job.ended.is_none()).map(|job| job.shown(false)).collect();
        all.sort_by_key(|job| job.began);
        all
    }

    /// One job with its items, and what happens to it from now on.
    pub fn follow(&self, job: &str) -> Option<(UnderWay, broadcast::Receiver<Live>)> {
        self.shown()
            .jobs
            .get_mut(job)
            .map(|job| (job.shown(true), job.readers.get_or_insert_with(|| broadcast::channel(LAG).0).subscribe()))
    }
}
