//! What the inspectors of images and videos share: how a walk stops, and how metadata is kept.

use super::budget::Exceeded;
use crate::model::Facts;

/// Entries of metadata kept per file, and characters per name and per value.
const MAX_ENTRIES: usize = 64;
const MAX_NAME_CHARS: usize = 80;
const MAX_VALUE_CHARS: usize = 500;

/// Why a walk ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// A signal says why.
    Told,
    /// The budget ended.
    Exceeded(Exceeded),
}

impl From<Exceeded> for Stop {
    fn from(exceeded: Exceeded) -> Self {
        Self::Exceeded(exceeded)
    }
}

/// Keeps one entry of metadata, folded and bounded; the first of a name wins.
pub(super) fn add_metadata(facts: &mut Facts, name: &str, value: &str) {
    // Cut before folding: a value may be megabytes long.
    let cut = value.char_indices().nth(MAX_VALUE_CHARS).map_or(value, |(end, _)| value.get(..end).unwrap_or(value));
    let folded = super::fold_whitespace(cut);
    if !folded.is_empty() && facts.metadata.len() < MAX_ENTRIES {
        let name = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
        facts.metadata.entry(name).or_insert(folded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_folded_and_bounded() {
        let mut facts = Facts::default();
        add_metadata(&mut facts, "a\nb", "  one\r\n\ttwo \0");
        add_metadata(&mut facts, "ab", "later");
        add_metadata(&mut facts, "empty", " \n ");
        add_metadata(&mut facts, "long", &"é".repeat(2000));
        assert_eq!(facts.metadata["ab"], "one two");
        assert!(!facts.metadata.contains_key("empty"));
        assert_eq!(facts.metadata["long"].chars().count(), MAX_VALUE_CHARS);
        (0..1000).for_each(|n| add_metadata(&mut facts, &n.to_string(), "x"));
        assert_eq!(facts.metadata.len(), MAX_ENTRIES);
    }
}
