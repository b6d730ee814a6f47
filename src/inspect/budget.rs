//! The budget of one item, counted once over its whole recursion whatever sizes an archive declares.

use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Facts, Signal};

/// What one item may cost. Configuration `[inspect]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes that may come out of compressed streams, over the whole recursion.
    pub max_inflated_bytes: u64,
    /// Archive members, over the whole recursion.
    pub max_members: u64,
    /// Archives inside archives: 1 = only the item itself is opened.
    pub max_depth: u32,
    /// CPU time of the inspection, milliseconds, below the child's hard limit so that it ends with facts.
    pub max_cpu_ms: u64,
    /// Characters of text kept.
    pub max_text_chars: usize,
    /// Spreadsheet cells kept (all are counted).
    pub max_cells: usize,
    /// Pixels of one image that may be decoded.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_inflated_bytes: 512 * 1024 * 1024,
            max_members: 10_000,
            max_depth: 4,
            max_cpu_ms: 7_000,
            max_text_chars: 1_000_000,
            max_cells: 100_000,
            max_pixels: 120_000_000,
        }
    }
}

/// Which limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Too many bytes inflated.
    Inflated,
    /// Too many members.
    Members,
    /// Too deep.
    Depth,
    /// Too much CPU time.
    Time,
}

/// What is left for one item.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    inflated: u64,
    members: u64,
    text: usize,
    started: Duration,
}

impl Budget {
    /// A full budget; the clock starts now.
    pub fn new(limits: Limits) -> Self {
        Self { limits, inflated: 0, members: 0, text: 0, started: cpu_time() }
    }

    /// The limits this budget started from.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes inflated so far.
    pub fn inflated(&self) -> u64 {
        self.inflated
    }

    /// How many more bytes may be inflated.
    pub fn inflated_left(&self) -> u64 {
        self.limits.max_inflated_bytes.saturating_sub(self.inflated)
    }

    /// Counts `bytes` that came out of a compressed stream, and looks at the clock.
    ///
    /// # Errors
    /// [`Exceeded::Inflated`] or [`Exceeded::Time`].
    pub fn inflate(&mut self, bytes: u64) -> Result<(), Exceeded> {
        self.inflated = self.inflated.saturating_add(bytes);
        if self.inflated > self.limits.max_inflated_bytes {
            return Err(Exceeded::Inflated);
        }
        self.tick()
    }

    /// Counts one archive member.
    ///
    /// # Errors
    /// [`Exceeded::Members`] or [`Exceeded::Time`].
    pub fn member(&mut self) -> Result<(), Exceeded> {
        self.members += 1;
        if self.members > self.limits.max_members {
            return Err(Exceeded::Members);
        }
        self.tick()
    }

    /// Looks at the CPU clock; call it in every loop whose length the file decides.
    ///
    /// # Errors
    /// [`Exceeded::Time`].
    pub fn tick(&self) -> Result<(), Exceeded> {
        if cpu_time().saturating_sub(self.started).as_millis() > u128::from(self.limits.max_cpu_ms) { Err(Exceeded::Time) } else { Ok(()) }
    }

    /// Reserves room for up to `chars` characters of text; returns how many may be kept.
    pub fn take_text(&mut self, chars: usize) -> usize {
        let room = self.limits.max_text_chars.saturating_sub(self.text).min(chars);
        self.text += room;
        room
    }

    /// Reads an inflating `reader` to its end, counting every byte.
    ///
    /// # Errors
    /// [`ReadError::Exceeded`] when the budget ends first, [`ReadError::Io`] when the stream is damaged
    /// (what was read before is lost: a damaged stream proves nothing).
    pub fn read_to_end(&mut self, reader: &mut dyn Read) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0u8; 64 * 1024];
        loop {
            let n = reader.read(&mut chunk)?;
            if n == 0 {
                return Ok(bytes);
            }
            self.inflate(n as u64)?;
            bytes.extend_from_slice(&chunk[..n]);
        }
    }
}

/// Why a compressed stream was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The budget ended first.
    #[error("the budget of the item is spent ({0:?})")]
    Exceeded(Exceeded),
    /// The stream is damaged.
    #[error("damaged stream: {0}")]
    Io(#[from] std::io::Error),
}

impl From<Exceeded> for ReadError {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

impl Exceeded {
    /// Records on `facts` that the budget ended here (once per file).
    pub fn record(self, facts: &mut Facts, budget: &Budget) {
        let limits = budget.limits();
        let signal = match self {
            Self::Inflated => Signal::new("bomb-inflated").arg("limit_bytes", limits.max_inflated_bytes),
            Self::Members => Signal::new("bomb-members").arg("limit", limits.max_members),
            Self::Depth => Signal::new("bomb-depth").arg("limit", limits.max_depth),
            Self::Time => Signal::new("bomb-time").arg("limit_ms", limits.max_cpu_ms),
        };
        if !facts.has(signal.code.as_str()) {
            facts.push(signal);
        }
    }
}

/// CPU time of this process: a busy machine must not turn an honest file into a bomb.
fn cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inflated_is_counted_whatever_is_declared() {
        let mut budget = Budget::new(Limits { max_inflated_bytes: 100_000, ..Limits::default() });
        assert_eq!(budget.read_to_end(&mut std::io::repeat(0).take(100_000)).unwrap().len(), 100_000);
        let over = budget.read_to_end(&mut std::io::repeat(0).take(1));
        assert!(matches!(over, Err(ReadError::Exceeded(Exceeded::Inflated))));
    }
}
