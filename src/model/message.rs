//! What travels through queues: jobs in, events out. References and words, never bytes of a proof.
//!
//! Every message is a CloudEvent 1.0 in binary content mode (CloudEvents AMQP binding §3.1): attributes are properties of
//! the message, the body is JSON. `docs/asyncapi.yaml` is the contract.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The CloudEvents version that every message states.
pub const SPEC_VERSION: &str = "1.0";
/// Media type of every body.
pub const JSON: &str = "application/json";
/// Type of a job: the body is a [`Submission`](super::submission::Submission).
pub const SUBMISSION_REQUESTED: &str = "greffier.submission.requested.v1";
/// Largest body of a job, bytes: some 20 000 items.
pub const MAX_JOB: usize = 8 * 1024 * 1024;

/// Which queue a job waits in, the most urgent first. One lane never waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// A person waits for the answer: a pre-check.
    Interactive,
    /// A deposit.
    Submission,
    /// Done again: changed rules over old deposits, repairs.
    Replay,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Submission, Self::Replay];

    /// Whether jobs of this lane are checks ahead of any deposit: other jobs, with outcomes of their own.
    pub fn is_precheck(self) -> bool {
        self == Self::Interactive
    }

    /// The word in routing keys, configuration and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Submission => "submission",
            Self::Replay => "replay",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == word).ok_or(())
    }
}

/// A message as a queue carries it: attributes, and a body that the queue does not read.
///
/// Everything in it is untrusted until the worker has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// CloudEvents `id`: the same when the same thing is announced again.
    pub id: String,
    /// CloudEvents `type`.
    pub kind: String,
    /// CloudEvents `source`: who says so.
    pub source: String,
    /// CloudEvents `subject`: the job or item it is about.
    pub subject: Option<String>,
    /// CloudEvents `time`.
    pub time: Option<Timestamp>,
    /// Media type of the body.
    pub content_type: String,
    /// Given by the sender of a job, and repeated on every event about it.
    pub correlation_id: Option<String>,
    /// Queue that also gets the events of this job.
    pub reply_to: Option<String>,
    /// W3C trace context: the span that sent it where jobs are traced, else carried on as it came.
    pub traceparent: Option<String>,
    /// What fairness counts by: the candidature number. Absent: a sender of its own.
    pub candidature: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Envelope {
    /// A message with an id, a type, a source and a JSON body, and nothing else.
    pub fn new(id: impl Into<String>, kind: impl Into<String>, source: impl Into<String>, body: Vec<u8>) -> Self {
        Self {
            id: id.into(),
            kind: kind.into(),
            source: source.into(),
            subject: None,
            time: None,
            content_type: JSON.to_owned(),
            correlation_id: None,
            reply_to: None,
            traceparent: None,
            candidature: None,
            body,
        }
    }
}

/// Why something was parked: a stable code (it has a help page) and words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParkReason {
    /// `JOB-MALFORMED`, `JOB-UNDETERMINED`…: `docs/errors/` has a page for each.
    pub code: String,
    /// One line, English; no secret, no document text.
    pub detail: String,
}

impl ParkReason {
    /// A code with its detail.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into() }
    }
}
