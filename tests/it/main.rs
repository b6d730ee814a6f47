//! One integration binary: every module drives the real thing.

mod browser;
mod bundle;
mod check;
mod deposit;
mod docs;
mod gazelle;
mod hostile;
mod sandbox;
mod seal;
mod store;
mod support;
