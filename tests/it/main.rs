//! One integration binary: every module drives the real thing.

mod sandbox;
