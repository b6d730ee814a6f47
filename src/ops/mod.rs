//! What those who run the fleet see of it: health, the console, and the metrics served.
//!
//! Goals:
//! 1. **Looking changes nothing.** Metrics, health and console only read what worker, queue and vault say; the few things
//!    the console does (requeue, deposit) go through the same traits as everybody's.
//! 2. **Closed by default.** Loopback only; beyond it a token or an OpenID provider, and TLS, or no start at all ([`config`]).
//! 3. **Everything shown is untrusted**: escaped, control and bidirectional characters replaced, and the page may run
//!    nothing but the one script it came with ([`guard`]).
//!
//! `health` and `board` are told what happens; the rest looks.

pub mod board;
pub mod client;
pub mod config;
mod console;
pub mod deposit;
mod guard;
pub mod health;
pub mod http;
pub mod ledger;
mod listen;
pub mod machine;
mod oidc;

pub use oidc::probe as login_probes;

use std::collections::HashMap;
use std::hash::Hash;

/// Leaves room for one more: while there are `most`, the one that `order` puts first goes.
fn make_room<K: Clone + Eq + Hash, V, T: Ord>(entries: &mut HashMap<K, V>, most: usize, order: impl Fn(&V) -> T) {
    while entries.len() >= most {
        let Some(first) = entries.iter().min_by_key(|(_, value)| order(value)).map(|(key, _)| key.clone()) else { break };
        entries.remove(&first);
    }
}

/// 128 random bits, hexadecimal: what only one browser shall know.
fn secret() -> std::io::Result<String> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0_u8; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| std::io::Error::other("the system gives no random numbers"))?;
    Ok(hex::encode(bytes))
}
