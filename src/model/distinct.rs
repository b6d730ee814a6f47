//! Names that are told apart by a number, whatever is asked for.

use std::collections::{HashMap, HashSet};

/// Gives out each name once: `a`, then `a~2`, `a~3`… In linear time, however often the same one is asked for.
#[derive(Debug, Default)]
pub struct Distinct {
    taken: HashSet<String>,
    /// The next number to try, by the name that was asked for.
    next: HashMap<String, u64>,
}

impl Distinct {
    /// `wanted`, or the first of `wanted~2`, `wanted~3`… that is free; taken from now on.
    pub fn give(&mut self, wanted: &str) -> String {
        if self.taken.insert(wanted.to_owned()) {
            return wanted.to_owned();
        }
        let next = self.next.entry(wanted.to_owned()).or_insert(2);
        loop {
            // A number is tried once: what is taken stays taken.
            let name = format!("{wanted}~{next}");
            *next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

impl FromIterator<String> for Distinct {
    fn from_iter<I: IntoIterator<Item = String>>(taken: I) -> Self {
        Self { taken: taken.into_iter().collect(), next: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_next_number() {
        let mut names: Distinct = ["a~3".to_owned()].into_iter().collect();
        assert_eq!(["a", "a", "a", "b", "a~2", "a"].map(|n| names.give(n)), ["a", "a~2", "a~4", "b", "a~2~2", "a~5"]);
    }

    #[test]
    fn one_name_for_many_is_linear() {
        let mut names = Distinct::default();
        let given: HashSet<String> = (0..50_000).map(|_| names.give("a")).collect();
        assert_eq!(given.len(), 50_000);
    }
}
