#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| greffier::fuzzing::run("rules", input));
