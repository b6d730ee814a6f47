//! One integration binary: every module drives the real thing.

mod bundle;
mod check;
mod docs;
mod gazelle;
mod hostile;
mod sandbox;
mod seal;
mod support;
