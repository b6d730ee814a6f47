//! greffier: checks the proofs of a candidature and lays a verification-ready bundle before a verifier.
//!
//! Start with `ARCHITECTURE.md`; rooms are listed there in the direction data flows.

pub mod antivirus;
pub mod assess;
pub mod bundle;
pub mod check;
pub mod cli;
pub mod config;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gazelle;
pub mod identify;
pub mod inspect;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod pipeline;
pub mod queue;
pub mod sandbox;
pub mod seal;
pub mod store;
pub mod tls;
pub mod worker;
