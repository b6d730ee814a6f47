//! greffier: checks the proofs of a candidature and lays a verification-ready bundle before a verifier.
//!
//! Start with `ARCHITECTURE.md`; rooms are listed there in the direction data flows. Those that parse nothing are left
//! out of the fuzzer's build (`cfg(fuzzing)`), which is slow to make.

pub mod antivirus;
pub mod assess;
pub mod bundle;
pub mod check;
#[cfg(not(fuzzing))]
pub mod cli;
#[cfg(not(fuzzing))]
pub mod config;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gazelle;
pub mod identify;
pub mod inspect;
#[cfg(not(fuzzing))]
pub mod metrics;
pub mod model;
#[cfg(not(fuzzing))]
pub mod ops;
pub mod pipeline;
pub mod queue;
pub mod sandbox;
pub mod seal;
pub mod store;
pub mod telemetry;
pub mod tls;
#[cfg(not(fuzzing))]
pub mod worker;
