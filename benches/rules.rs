//! What each rule costs over its worst input, and over one twice as large: linear rules take about twice as long.
//!
//! ```text
//! cargo bench --bench rules
//! ```
//! Ends with 1 where a rule takes more than [`MAX_RATIO`] times as long over an input twice as large, in each of several tries.

#[path = "rules/cases.rs"]
mod cases;

use std::time::{Duration, Instant};

use cases::CASES;
use greffier::model::work::Work;

/// Twice the input, and room for logarithms and caches.
const MAX_RATIO: f64 = 2.3;
const ROUNDS: usize = 7;
const TRIES: usize = 3;

fn main() {
    println!("{:<62}{:>8}{:>12}{:>12}{:>8}{:>12}", "", "size", "ms", "ms, twice", "ratio", "steps");
    let mut slow = Vec::new();
    for case in CASES {
        let (one, two) = ((case.prepare)(case.size), (case.prepare)(2 * case.size));
        let best = |run: &dyn Fn(&Work)| {
            let times = (0..ROUNDS).map(|_| {
                let since = Instant::now();
                run(&Work::unbounded());
                since.elapsed()
            });
            times.min().unwrap_or(Duration::MAX).as_secs_f64() * 1000.0
        };
        let mut tries = (0..TRIES).map(|_| (best(&*one), best(&*two)));
        let mut shown = tries.next().unwrap_or_default();
        while shown.1 / shown.0 > MAX_RATIO
            && let Some(again) = tries.next()
        {
            shown = again;
        }
        let work = Work::unbounded();
        one(&work);
        let ratio = shown.1 / shown.0;
        let steps = if case.counts { work.spent().to_string() } else { "—".to_owned() };
        println!("{:<62}{:>8}{:>12.2}{:>12.2}{ratio:>8.2}{steps:>12}", case.name, case.size, shown.0, shown.1);
        if ratio > MAX_RATIO {
            slow.push(case.name);
        }
    }
    if !slow.is_empty() {
        eprintln!("not linear: {}", slow.join("; "));
        std::process::exit(1);
    }
}
