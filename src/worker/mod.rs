//! The loop that joins queue, store, check and bundle.

pub mod config;
