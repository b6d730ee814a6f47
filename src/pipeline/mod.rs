//! Declared rules of a démarche: loaded and validated, without a queue or a store in sight.

pub mod columns;
