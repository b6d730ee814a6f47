//! RabbitMQ as a queue.
use super::config::QueueConfig;
use super::{Queue, QueueError};
use std::sync::Arc;
/// Stub.
#[derive(Debug)]
pub struct AmqpQueue;
impl AmqpQueue {
    /// Stub.
    pub fn open(_c: &QueueConfig) -> Result<Arc<dyn Queue>, QueueError> {
        Err(QueueError::Refused { queue: "amqp".into(), what: "not built yet".into(), source: None })
    }
}
