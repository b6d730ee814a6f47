//! Gazelle, end to end: real requests to a server of ours that speaks the documented protocol.

mod pins;
mod protocol;
mod server;
mod ssrf;
pub mod tls;
mod variants;
