//! greffier: checks the proofs of a candidature and lays a verification-ready bundle before a verifier.
//!
//! Start with `ARCHITECTURE.md`; rooms are listed there in the direction data flows.

pub mod cli;
pub mod identify;
pub mod inspect;
pub mod model;
pub mod pipeline;
