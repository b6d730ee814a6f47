//! Places for inspection children: how many run at once, and whose turn it is.
//!
//! Goals:
//! 1. The machine is never asked for more children than it has memory for, however many submissions are under way.
//! 2. The urgent go first: a person's small check does not wait for a replay.
//! 3. Equals take turns: a submission of 239 proofs gets one place in two beside another, not the first 239.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A fixed number of places. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Those who wait, by urgency (0 first), then one queue per party in the order of their turns.
    waiting: BTreeMap<u8, VecDeque<Party>>,
}

#[derive(Debug)]
struct Party {
    name: Arc<str>,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// In whose name a place is asked for.
#[derive(Debug, Clone)]
pub struct Turn {
    /// 0 is the most urgent.
    pub urgency: u8,
    /// Who takes turns with others of the same urgency: a submission.
    pub party: Arc<str>,
}

impl Default for Turn {
    fn default() -> Self {
        Self { urgency: 0, party: Arc::from("") }
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place(Option<Arc<Shared>>);

impl Places {
    /// `total` places, at least one.
    pub fn new(total: usize) -> Self {
        let total = total.max(1);
        Self(Arc::new(Shared { total, state: Mutex::new(State { free: total, waiting: BTreeMap::new() }) }))
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// How many are taken.
    pub fn busy(&self) -> usize {
        self.0.total - self.0.lock().free
    }

    /// Waits for a place. Dropping the wait gives up the turn.
    pub async fn take(&self, turn: &Turn) -> Place {
        let wait = {
            let mut state = self.0.lock();
            if state.free > 0 && state.waiting.is_empty() {
                state.free -= 1;
                return Place(Some(Arc::clone(&self.0)));
            }
            let (sender, wait) = oneshot::channel();
            let parties = state.waiting.entry(turn.urgency).or_default();
            match parties.iter_mut().find(|p| p.name == turn.party) {
                Some(party) => party.waiting.push_back(sender),
                None => parties.push_back(Party { name: Arc::clone(&turn.party), waiting: VecDeque::from([sender]) }),
            }
            wait
        };
        // The sender lives in the shared state until it is used, and `self` keeps that alive: it cannot be lost.
        wait.await.unwrap_or(Place(None))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; were it so, the counts would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who is next; takes them out of the queue, and puts their party behind the others.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        loop {
            let mut entry = self.waiting.first_entry()?;
            let parties = entry.get_mut();
            let Some(mut party) = parties.pop_front() else {
                entry.remove();
                continue;
            };
            let next = party.waiting.pop_front();
            if !party.waiting.is_empty() {
                parties.push_back(party);
            }
            if parties.is_empty() {
                entry.remove();
            }
            if next.is_some() {
                return next;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        let mut state = shared.lock();
        while let Some(next) = state.next() {
            match next.send(Place(Some(Arc::clone(&shared)))) {
                Ok(()) => return,
                // Whoever waited has gone. The place inside must not give itself back while the lock is held.
                Err(mut place) => drop(place.0.take()),
            }
        }
        state.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn turn(urgency: u8, party: &str) -> Turn {
        Turn { urgency, party: party.into() }
    }

    #[tokio::test]
    async fn equals_take_turns_and_the_urgent_go_first() {
        let places = Places::new(1);
        let held = places.take(&turn(1, "x")).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (urgency, party) in [(1, "big"), (1, "big"), (1, "big"), (1, "small"), (2, "replay"), (0, "person")] {
            let (places, order) = (places.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let place = places.take(&turn(urgency, party)).await;
                order.lock().unwrap().push(party);
                drop(place);
            }));
            // Each must have queued before the next one does.
            tokio::task::yield_now().await;
        }
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["person", "big", "small", "big", "big", "replay"]);
        assert_eq!(places.busy(), 0);
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_no_place() {
        let places = Places::new(1);
        let held = places.take(&Turn::default()).await;
        let gone = turn(0, "gone");
        let mut given_up = Box::pin(places.take(&gone));
        assert!((&mut given_up).now_or_never().is_none());
        let other = places.clone();
        let waits = tokio::spawn(async move { drop(other.take(&turn(0, "stays")).await) });
        tokio::task::yield_now().await;
        drop(given_up);
        drop(held);
        waits.await.unwrap();
        assert_eq!(places.busy(), 0);
        drop(places.take(&Turn::default()).await);
    }
}
