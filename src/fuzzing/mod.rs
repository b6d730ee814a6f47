//! What the fuzzer drives: every parser that reads what others wrote, and what must hold of its answer.
//!
//! Goals:
//! 1. One function per target, from bytes to nothing: it panics where something that must hold does not. The
//!    programs under `fuzz/` only hand it the fuzzer's bytes.
//! 2. What was found once is never lost: the inputs under `fuzz/regressions/TARGET/` go through the same functions
//!    in the ordinary tests, which need no fuzzer.
//! 3. No parser is made public for it: this room is inside the crate, and built for tests and the fuzzer alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a target panics where something that must hold does not; never part of the program"
)]

mod files;
mod messages;
mod papers;
mod parts;
mod reports;
#[cfg(test)]
mod tests;

/// What takes an input, and panics where something does not hold.
type Target = fn(&[u8]);

/// Every target by name; the names are those of the programs in `fuzz/fuzz_targets/` and of the folders of inputs.
pub const TARGETS: &[(&str, Target)] = &[
    ("bundle", papers::bundle),
    ("child", reports::child),
    ("gazelle_link", messages::gazelle_link),
    ("gazelle_report", messages::gazelle_report),
    ("identify", files::identify),
    ("image", files::image),
    ("message", messages::message),
    ("names", papers::names),
    ("odf", files::odf),
    ("ole", files::ole),
    ("ole_streams", files::ole_streams),
    ("ooxml", files::ooxml),
    ("pdf", files::pdf),
    ("pipeline", papers::pipeline),
    ("rules", reports::rules),
    ("seal", papers::seal),
    ("submission", reports::submission),
    ("text", files::text),
    ("video", files::video),
    ("zip", files::zip),
];

/// Runs the target of this name.
///
/// # Panics
/// Where there is none, and wherever the target finds what must not be.
pub fn run(target: &str, input: &[u8]) {
    // libFuzzer's own hook ends the process at any panic, also at one that an inspector contains. What is not contained
    // ends it all the same.
    #[cfg(fuzzing)]
    {
        static HOOK: std::sync::Once = std::sync::Once::new();
        HOOK.call_once(|| drop(std::panic::take_hook()));
    }
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.unwrap_or_else(|| panic!("no target is called `{target}`")).1(input);
}
