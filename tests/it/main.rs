//! One integration binary: every module drives the real thing.

mod browser;
mod bundle;
mod check;
mod deposit;
mod docs;
mod gazelle;
mod hostile;
mod previews;
mod sandbox;
mod seal;
mod support;
