//! One file on disk as a queue.
