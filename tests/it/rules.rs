//! The steps that rules count grow no faster than their input: they are the budget of a job, and must not run out for an honest one.

#[path = "../../benches/rules/cases.rs"]
mod cases;

use cases::CASES;
use greffier::model::work::Work;

#[test]
fn steps_over_twice_the_worst_input_are_about_twice_as_many() {
    for case in CASES.iter().filter(|case| case.counts) {
        let steps = |size: usize| {
            let work = Work::unbounded();
            (case.prepare)(size)(&work);
            work.spent()
        };
        let (one, two) = (steps(case.size), steps(2 * case.size));
        assert!(one >= case.size as u64 / 64, "{}: {one} steps over {} are too few to be counted", case.name, case.size);
        assert!(two as f64 <= 2.3 * one as f64, "{}: {one} steps, then {two}", case.name);
    }
}

#[test]
fn a_rule_ends_where_its_steps_are_used_up() {
    for case in CASES.iter().filter(|case| case.counts) {
        let run = (case.prepare)(case.size);
        let whole = Work::unbounded();
        run(&whole);
        let half = Work::new(whole.spent() / 2);
        run(&half);
        assert!(half.ended().is_some(), "{}", case.name);
        assert!(half.spent() <= whole.spent(), "{}: went on after its end", case.name);
    }
}
