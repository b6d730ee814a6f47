//! Every input that was a find once goes through its target again.

use std::collections::BTreeSet;
use std::path::Path;

use super::{TARGETS, run};

fn names(dir: &str) -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(dir);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_was_found_once_stays_fixed() {
    for target in names("regressions") {
        for name in names(&format!("regressions/{target}")) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(&target).join(&name);
            let input = std::fs::read(&path).unwrap();
            let held = std::panic::catch_unwind(|| run(&target, &input));
            assert!(held.is_ok(), "fuzz/regressions/{target}/{name} fails again: see above");
        }
    }
}

#[test]
fn every_target_has_a_program() {
    let programs: BTreeSet<String> = names("fuzz_targets").iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(programs, targets);
}
