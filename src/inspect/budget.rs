//! The budget of one item, counted once over its whole recursion whatever sizes an archive declares.
//!
//! One unit is about a nanosecond of the slowest way to run this program: a build without optimisation, whose libraries are
//! optimised. What a file does per unit costs the same within a factor of three there, so that `max_work` ends every file
//! before `max_cpu_ms` does; an optimised build needs a fraction of it.

use std::cell::Cell;
use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Facts, Signal};

/// Units of one [`Budget::tick`]: a step of a loop whose body handles something small, such as a box, a chunk or a record.
const STEP: u64 = 1_000;
/// Units of one archive member or one decoded stream on top of its bytes: setting a decoder up takes about as long as
/// inflating ten kilobytes.
const STREAM: u64 = 40_000;
/// Units of a byte that comes out of a stream, the first look at it included.
const INFLATED_BYTE: u64 = 4;

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
    /// Work of the inspection, in units counted from what is read; the same file always takes the same number. A unit is about
    /// what a slow core does in one nanosecond.
    pub max_work: u64,
    /// CPU time of the inspection, milliseconds: the last resort behind `max_work`, below the child's hard limit so that the
    /// inspection ends with facts. Facts that this limit ended depend on the machine and are not final.
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
            max_work: 5_000_000_000,
            max_cpu_ms: 18_000,
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
    /// Too much work, counted in units.
    Work,
    /// Too much CPU time; unlike the other limits, where it strikes depends on the machine.
    Clock,
}

/// What is left for one item.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    inflated: u64,
    members: u64,
    text: usize,
    /// Counted behind a shared reference: most parsers only borrow the budget.
    work: Cell<u64>,
    clock: fn() -> Duration,
    started: Duration,
}

impl Budget {
    /// A full budget; the CPU clock of this process starts now.
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, cpu_time)
    }

    /// A full budget whose last resort is `clock`, which tells the time spent so far and need not start at zero.
    pub fn with_clock(limits: Limits, clock: fn() -> Duration) -> Self {
        Self { limits, inflated: 0, members: 0, text: 0, work: Cell::new(0), clock, started: clock() }
    }

    /// Units of work counted so far.
    pub fn worked(&self) -> u64 {
        self.work.get()
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

    /// Counts `bytes` that came out of a compressed stream, and the work of a fast decoder such as inflate.
    ///
    /// # Errors
    /// [`Exceeded::Inflated`], or as [`Budget::work`].
    pub fn inflate(&mut self, bytes: u64) -> Result<(), Exceeded> {
        self.inflated = self.inflated.saturating_add(bytes);
        if self.inflated > self.limits.max_inflated_bytes {
            return Err(Exceeded::Inflated);
        }
        self.work(bytes.saturating_mul(INFLATED_BYTE))
    }

    /// Counts one archive member.
    ///
    /// # Errors
    /// [`Exceeded::Members`], or as [`Budget::work`].
    pub fn member(&mut self) -> Result<(), Exceeded> {
        self.members += 1;
        if self.members > self.limits.max_members {
            return Err(Exceeded::Members);
        }
        self.stream()
    }

    /// Counts setting up one decoder.
    ///
    /// # Errors
    /// As [`Budget::work`].
    pub fn stream(&self) -> Result<(), Exceeded> {
        self.work(STREAM)
    }

    /// Counts one small step; call it in every loop whose length the file decides.
    ///
    /// # Errors
    /// As [`Budget::work`].
    pub fn tick(&self) -> Result<(), Exceeded> {
        self.work(STEP)
    }

    /// Counts `units` of work. Loops over something small call it once for many turns, with the sum.
    ///
    /// # Errors
    /// [`Exceeded::Work`] once the units are used up, for good; [`Exceeded::Clock`] where the machine is too slow for them.
    pub fn work(&self, units: u64) -> Result<(), Exceeded> {
        let worked = self.work.get().saturating_add(units);
        self.work.set(worked);
        if worked > self.limits.max_work {
            return Err(Exceeded::Work);
        }
        let spent = (self.clock)().saturating_sub(self.started);
        if spent.as_millis() > u128::from(self.limits.max_cpu_ms) { Err(Exceeded::Clock) } else { Ok(()) }
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
        self.stream()?;
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
            Self::Work => Signal::new("bomb-time").arg("limit", limits.max_work),
            Self::Clock => Signal::new("inspect-clock").arg("limit_ms", limits.max_cpu_ms),
        };
        if !facts.has(signal.code.as_str()) {
            facts.push(signal);
        }
    }
}

/// CPU time of this process, not the time of day: a busy machine must not turn an honest file into a bomb.
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

    #[test]
    fn work_ends_at_the_same_unit_whatever_the_clock_says() {
        let budget = Budget::with_clock(Limits { max_work: 5_000, ..Limits::default() }, || Duration::ZERO);
        assert_eq!((0..10).take_while(|_| budget.tick().is_ok()).count(), 5);
        assert_eq!(budget.work(0), Err(Exceeded::Work), "used up for good");
    }

    #[test]
    fn the_clock_is_a_last_resort_with_a_code_of_its_own() {
        thread_local!(static NOW: Cell<u64> = const { Cell::new(0) });
        let budget = Budget::with_clock(Limits::default(), || Duration::from_millis(NOW.get()));
        assert_eq!(budget.tick(), Ok(()));
        NOW.set(Limits::default().max_cpu_ms + 1);
        assert_eq!(budget.tick(), Err(Exceeded::Clock));
        let mut facts = Facts::of_size(1);
        Exceeded::Clock.record(&mut facts, &budget);
        assert!(facts.has("inspect-clock") && !facts.has("bomb-time"));
    }
}
