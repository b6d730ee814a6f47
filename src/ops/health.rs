//! Whether the process lives, and whether it is ready.
//!
//! Alive is what makes progress: `/livez` fails when jobs are under way and none has gone a step further for too long
//! ([`State::stalled_for`](crate::worker::state::State::stalled_for)), so that whoever supervises us starts us again. Ready is what could take a job now: every condition names itself and
//! says why it does not hold. The two are never mixed: restarting a worker mends no broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::antivirus::AntivirusConfig;
use crate::antivirus::clamd::Engine;
use crate::metrics::Metrics;
use crate::model::text::display_safe;
use crate::queue::{Depth, Health as QueueHealth, Queue};
use crate::store::{Key, Store};

/// What must hold for work to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The queue answers.
    Queue,
    /// What was uploaded can be read.
    Staging,
    /// The vault answers.
    Vault,
    /// Engines answer, where they are required.
    Antivirus,
    /// The worker has begun, and is not draining.
    Worker,
    /// The OpenID provider of the console was found.
    Login,
}

impl Condition {
    /// Whether it must hold to be ready. Without the provider jobs go on, and so does the console for those with a token: to
    /// say « not ready » would shut them out too.
    pub fn is_needed(self) -> bool {
        self != Self::Login
    }
}

/// Why a condition does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmet {
    /// Which.
    pub condition: Condition,
    /// Why, for people; one line.
    pub why: String,
}

/// Conditions, and what the queue said last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<State>);

#[derive(Debug)]
struct State {
    draining: AtomicBool,
    conditions: Mutex<BTreeMap<Condition, Result<(), String>>>,
    depths: Mutex<Option<Seen>>,
}

/// What the queue said last.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// What waits where.
    pub depths: Vec<Depth>,
}

impl Health {
    /// Ready once each of `conditions` has been told to hold.
    pub fn new(conditions: &[Condition]) -> Self {
        let unknown = || Err("not looked at yet".to_owned());
        Self(Arc::new(State {
            draining: AtomicBool::new(false),
            conditions: Mutex::new(conditions.iter().map(|c| (*c, unknown())).collect()),
            depths: Mutex::new(None),
        }))
    }

    /// No more jobs are taken.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether no more jobs are taken.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// A condition holds, or does not and why.
    pub fn set(&self, condition: Condition, holds: Result<(), String>) {
        let holds = holds.map_err(|why| display_safe(&why, 300));
        let before = self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner).insert(condition, holds.clone());
        match &holds {
            Err(why) if before.as_ref() != Some(&holds) => tracing::warn!(condition = ?condition, why, "not ready"),
            Ok(()) if matches!(before, Some(Err(_))) => tracing::info!(condition = ?condition, "ready"),
            _ => {}
        }
    }

    /// What does not hold; empty = ready.
    pub fn unmet(&self) -> Vec<Unmet> {
        let conditions = self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unmet: Vec<_> = conditions
            .iter()
            .filter_map(|(condition, holds)| Some(Unmet { condition: *condition, why: holds.as_ref().err()?.clone() }))
            .collect();
        if self.is_draining() {
            unmet.retain(|u| u.condition != Condition::Worker);
            unmet.push(Unmet { condition: Condition::Worker, why: "draining: jobs under way are ended, no more are taken".into() });
        }
        unmet
    }

    /// What the queue said last; `None` before it said anything.
    pub fn queue_seen(&self) -> Option<Seen> {
        self.0.depths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the queue how it is and what waits, again and again; for metrics, readiness and the console. Ends when dropped.
    pub async fn follow_queue(self, queue: Arc<dyn Queue>, metrics: Metrics, every: Duration) {
        let mut health = queue.health();
        loop {
            let state = health.borrow_and_update().clone();
            let mut holds = match state {
                QueueHealth::Up => Ok(()),
                QueueHealth::Down(why) => Err(why),
            };
            if holds.is_ok() {
                match tokio::time::timeout(every.max(Duration::from_secs(5)), queue.status()).await {
                    Ok(Ok(depths)) => {
                        let at = Timestamp::now();
                        metrics.queue_seen(&depths, at);
                        *self.0.depths.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { at, depths });
                    }
                    Ok(Err(error)) => holds = Err(error.to_string()),
                    Err(_) => holds = Err("it does not say what waits, in time".to_owned()),
                }
            }
            metrics.set_queue_up(holds.is_ok());
            self.set(Condition::Queue, holds);
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                // A queue that is gone for good tells no more changes: the clock goes on.
                changed = health.changed() => if changed.is_err() { tokio::time::sleep(every).await },
            }
        }
    }

    /// Asks every antivirus engine whether it answers, again and again. Ends when dropped.
    pub async fn follow_antivirus(self, config: AntivirusConfig, every: Duration) {
        let connect = Duration::from_millis(config.connect_timeout_ms);
        let engines: Vec<_> = config.engines.iter().map(|address| Engine::new(address, connect, connect)).collect();
        loop {
            let mut holds = Ok(());
            for engine in &engines {
                if let Err(error) = engine.ping().await {
                    holds = Err(format!("{}: {error}", engine.name()));
                }
            }
            self.set(Condition::Antivirus, holds);
            tokio::time::sleep(every).await;
        }
    }

    /// Asks a store for an object again and again, whether or not it is there. Ends when dropped.
    pub async fn follow_store(self, condition: Condition, store: Arc<dyn Store>, every: Duration) {
        let key = Key::ours("health");
        loop {
            let holds = match tokio::time::timeout(every.max(Duration::from_secs(10)), store.stat(&key)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("{} does not answer in time", store.name())),
            };
            self.set(condition, holds);
            tokio::time::sleep(every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_condition_was_told_to_hold() {
        let health = Health::new(&[Condition::Queue, Condition::Vault]);
        assert_eq!(health.unmet().len(), 2, "what was never looked at does not hold");
        health.set(Condition::Queue, Ok(()));
        health.set(Condition::Vault, Err("down\u{1b}[31m\nagain".into()));
        assert_eq!(health.unmet(), [Unmet { condition: Condition::Vault, why: "down\u{FFFD}[31m\u{FFFD}again".into() }]);
        health.set(Condition::Vault, Ok(()));
        assert_eq!(health.unmet(), []);
        health.drain();
        assert!(matches!(health.unmet().as_slice(), [Unmet { condition: Condition::Worker, .. }]));
    }
}
