//! One integration binary: a module per domain.

mod gazelle;
