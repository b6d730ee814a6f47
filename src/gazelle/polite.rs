//! Politeness: how often and how many at once one host is asked, and how long to wait after it said no.
//!
//! Gazelle is a shared public server; its owner's own client leaves 13 seconds between two validations. Reading
//! reports is lighter, but a chapter may hold eighty links.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::config::GazelleConfig;

/// The gates of all hosts.
#[derive(Debug)]
pub struct Politeness {
    interval: Duration,
    concurrent: usize,
    hosts: Mutex<HashMap<String, Arc<Gate>>>,
}

/// One host.
#[derive(Debug)]
pub struct Gate {
    turns: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    next: Mutex<Instant>,
    interval: Duration,
}

impl Politeness {
    /// Gates with the limits of `config`.
    pub fn new(config: &GazelleConfig) -> Self {
        Self {
            interval: Duration::from_millis(config.min_interval_ms),
            concurrent: config.max_concurrent_per_host.max(1) as usize,
            hosts: Mutex::new(HashMap::new()),
        }
    }

    /// The gate of `host`. Hosts come from the allow-list, so there are few.
    pub fn gate(&self, host: &str) -> Arc<Gate> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(hosts.entry(host.to_owned()).or_insert_with(|| {
            let semaphore = || Arc::new(Semaphore::new(self.concurrent));
            Arc::new(Gate { turns: semaphore(), slots: semaphore(), next: Mutex::new(Instant::now()), interval: self.interval })
        }))
    }
}

impl Gate {
    /// Waits until it is the turn of one more link to this host. A link's own time starts then: eighty links to
    /// one slow host must not run out of it while they queue.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    /// Waits for a slot and for the moment of the next request. The slot is free again when the answer is dropped.
    pub async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        loop {
            let at = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if *next <= now {
                    *next = now + self.interval;
                    return Some(slot);
                }
                *next
            };
            // The moment may move while we sleep (another request, a `Retry-After`), so it is looked at again.
            tokio::time::sleep_until(at).await;
        }
    }

    /// Nobody asks this host again before `wait` has passed.
    pub fn hold(&self, wait: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now() + wait);
    }
}

/// The wait before attempt `attempt` (1 = the second one): exponential, capped, the upper half drawn at random so
/// that workers do not come back together.
pub fn backoff(config: &GazelleConfig, attempt: u32) -> Duration {
    let full = config.backoff_base_ms.saturating_mul(1u64 << attempt.saturating_sub(1).min(20)).min(config.backoff_max_ms);
    Duration::from_millis(full / 2 + random() % (full / 2 + 1))
}

/// A random number; good enough for jitter.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Seconds that a `Retry-After` header asks to wait: a number, or a date (RFC 9110 §10.2.3).
pub fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(86_400)));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let seconds = at.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now: jiff::Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 01 Mar 2026 12:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 01 Mar 2026 11:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999", now), Some(Duration::from_secs(86_400)));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn waits_grow_and_stay_under_their_cap() {
        let config = GazelleConfig { backoff_base_ms: 100, backoff_max_ms: 1_000, ..GazelleConfig::default() };
        for attempt in 1..40 {
            let full = (100u64 << (attempt - 1).min(10)).min(1_000);
            let wait = backoff(&config, attempt).as_millis() as u64;
            assert!((full / 2..=full).contains(&wait), "{attempt}: {wait}");
        }
    }

    #[tokio::test]
    async fn requests_to_one_host_are_spaced_and_limited() {
        let config = GazelleConfig { min_interval_ms: 30, max_concurrent_per_host: 2, ..GazelleConfig::default() };
        let politeness = Politeness::new(&config);
        let gate = politeness.gate("h");
        let start = Instant::now();
        let first = gate.enter().await;
        let second = gate.enter().await;
        // A sleep is never shorter than asked, so this holds however loaded the machine is.
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(gate.slots.available_permits(), 0);
        drop((first, second));
        // Before, not after: the machine may do something else in between.
        let held = Instant::now();
        gate.hold(Duration::from_millis(60));
        gate.enter().await;
        assert!(held.elapsed() >= Duration::from_millis(60));
        assert_eq!(politeness.gate("other").slots.available_permits(), 2);
    }
}
