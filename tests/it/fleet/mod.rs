//! Workers as processes, between real queues and stores: what they promise when all is well, and when it is not.

mod client;
mod contract;
mod faults;
pub mod harness;
mod jobs;
mod kills;
mod soak;
mod traces;
