//! Subcommands: one file each, human output, `--json`, exit codes. No logic lives here.

pub mod catalogue;
pub mod pipeline;
