//! One thing that was tried before work starts: a limit or capability of the outside world compared with what we need.

use serde::Serialize;

/// What was tried, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What: `vault create-only`, `broker quorum queues`.
    pub name: String,
    /// Whether work may start.
    pub ok: bool,
    /// What was seen, and where it is not enough, what to change.
    pub detail: String,
}

impl Probe {
    /// It is as it must be.
    pub fn passed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, detail: detail.into() }
    }
    /// It is not: `detail` says what to change.
    pub fn failed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: false, detail: detail.into() }
    }
}
