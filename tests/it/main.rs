//! One integration binary: every module drives the real thing.

mod antivirus;
mod browser;
mod bundle;
mod check;
mod deposit;
mod docs;
mod doctor;
mod gazelle;
mod hostile;
mod ops;
mod queue;
mod sandbox;
mod seal;
mod support;
