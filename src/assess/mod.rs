//! Pure rules: facts and pipeline in, findings out. No I/O.

pub mod obsolete_versions;
