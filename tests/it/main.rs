//! One integration binary: every module drives the real thing.

mod docs;
mod hostile;
mod sandbox;
mod support;
