//! One integration binary: every module drives the real thing.

mod docs;
mod gazelle;
mod hostile;
mod sandbox;
mod support;
