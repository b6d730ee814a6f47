//! The command line: one file per subcommand, and no logic of its own.

pub mod verify;
