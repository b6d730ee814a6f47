//! What those who run the fleet see of it: metrics, health, and the console.

pub mod machine;
pub mod metrics;
