//! The ground floor: every type that travels between rooms, and nothing that does I/O.
//!
//! Goals:
//! 1. *Facts* (what a file is) and *findings* (what a rule says of it) are different types, so that a
//!    changed rule is replayed over old facts without touching a file.
//! 2. Everything here is serialisable and versioned: what crosses the sandbox pipe, the queue, the store
//!    and `report.json` is one of these types.
//! 3. What a person reads is French and English, side by side, and comes from `messages/*.toml`.

pub mod distinct;
pub mod errors;
pub mod event;
pub mod facts;
pub mod finding;
pub mod format;
pub mod gazelle;
pub mod message;
pub mod messages;
pub mod place;
pub mod probe;
pub mod report;
pub mod rounds;
pub mod submission;
pub mod text;
pub mod work;

pub use facts::{Facts, Signal};
pub use finding::{Category, Code, Finding, Severity, Verdict};
pub use format::Format;
pub use place::Place;
pub use text::{Lang, Text};
