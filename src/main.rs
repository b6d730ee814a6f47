//! The binary: the inspection child first, then the command line.

fn main() {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some(greffier::sandbox::CHILD_ARGUMENT) {
        greffier::sandbox::child::main(arguments.next());
    }
}
