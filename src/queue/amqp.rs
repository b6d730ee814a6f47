//! RabbitMQ as a queue.
