//! One integration binary: every module drives the real thing.

mod docs;
mod sandbox;
mod seal;
mod support;
