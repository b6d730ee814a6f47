//! The binary: where inspection processes come from first, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As the system gives them: a file name on the command line need not be UTF-8.
    let mut arguments = std::env::args_os();
    // Before any runtime, logger or argument parser exists: what forks must have one thread, and hold nothing.
    if arguments.nth(1).is_some_and(|a| a == greffier::sandbox::forkserver::FORK_ARGUMENT) {
        greffier::sandbox::forkserver::main();
    }
    greffier::sandbox::forkserver::expect_children();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(greffier::cli::run()),
        Err(e) => {
            eprintln!("greffier: the runtime could not be started: {e}");
            ExitCode::from(greffier::cli::EXIT_UNDETERMINED)
        }
    }
}
