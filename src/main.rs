//! The binary: the inspection child first, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As the system gives them: a file name on the command line need not be UTF-8.
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|a| a == greffier::sandbox::CHILD_ARGUMENT) {
        // Before any runtime, logger or argument parser exists: the child locks itself in first.
        greffier::sandbox::child::main(arguments.next().and_then(|a| a.into_string().ok()));
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(greffier::cli::run()),
        Err(e) => {
            eprintln!("greffier: the runtime could not be started: {e}");
            ExitCode::from(greffier::cli::EXIT_UNDETERMINED)
        }
    }
}
