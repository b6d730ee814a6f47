//! Gazelle: recognises links to validation reports, fetches them safely, reads every generation of them into one
//! model, keeps a copy, and says what a rule may care about.
//!
//! ```text
//! link ──recognise──▶ guard ──▶ fetch ──bodies──▶ scrub ──▶ pin ──copies──▶ report ──▶ facts ──assess──▶ signals
//! ```
//!
//! Goals:
//! 1. *A link is hostile input.* It is taken apart, and the calls are built anew from its pieces; the guard sees every
//!    hop; bodies are bounded in size, depth and time.
//! 2. *The copy outlives the link.* Facts are read from the pinned copy and from nothing else, so a replay years
//!    later says what was said today.
//! 3. *The tested document stays out.* It may hold health data: it is digested and dropped before anything is kept.
//! 4. *Whose fault it is* is decided once, here: a wrong or private link is the vendor's, a server that does not answer
//!    is nobody's, and nothing that could not be checked is ever called clean.
//! 5. *A copy opens for its owner only*: see [`pin`]. What the server refuses is never answered from a copy.
//!
//! Start with [`GazelleClient::fetch`] and [`assess`](assess::assess).

pub mod assess;
pub mod config;
pub mod fetch;
pub mod guard;
pub mod link;
pub mod pin;
pub mod polite;
pub mod report;
pub mod scrub;

pub use assess::assess;
pub use config::{GazelleConfig, GazellePolicy};
pub use fetch::{ClientError, GazelleClient};
pub use link::redact;
pub use pin::{CopyId, DirPins, MemoryPins, NoPins, Owner, PinSource};
