//! One integration binary: every module drives the real thing.

mod antivirus;
mod browser;
mod bundle;
mod check;
mod deposit;
mod docs;
mod doctor;
mod fleet;
mod gazelle;
mod hostile;
mod login;
mod ops;
mod previews;
mod queue;
mod rules;
mod sandbox;
mod seal;
mod store;
mod support;
