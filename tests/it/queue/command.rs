//! `greffier queue`, as operators use it.
