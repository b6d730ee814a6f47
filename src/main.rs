//! The binary: the inspection child first, then the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As the system gives them: a file name on the command line need not be UTF-8.
    let mut arguments = std::env::args_os();
    let first = arguments.nth(1);
    // Before any runtime, logger or argument parser exists: a child locks itself in first.
    if first.as_ref().is_some_and(|a| a == greffier::sandbox::CHILD_ARGUMENT) {
        greffier::sandbox::child::main(arguments.next().and_then(|a| a.into_string().ok()));
    }
    if first.is_some_and(|a| a == greffier::sandbox::render::RENDER_ARGUMENT) {
        greffier::sandbox::render::main(arguments.next().and_then(|a| a.into_string().ok()));
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(greffier::cli::run()),
        Err(e) => {
            eprintln!("greffier: the runtime could not be started: {e}");
            ExitCode::from(greffier::cli::EXIT_UNDETERMINED)
        }
    }
}
