//! One integration binary: every module drives the real thing.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers included")]

mod antivirus;
mod browser;
mod budget;
mod bundle;
mod check;
mod clients;
mod deposit;
mod docs;
mod doctor;
mod fleet;
mod frozen;
mod gazelle;
mod hostile;
mod login;
mod ops;
mod previews;
mod queue;
mod rules;
mod sandbox;
mod seal;
mod settings;
mod store;
mod support;
mod tidy;
mod watchdog;
