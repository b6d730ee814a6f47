//! Comparing labels that people and spreadsheets spell differently.
//!
//! The agency's catalogue, the platform's screens and a vendor's folder names write the same chapter or
//! profile with other accents, cases, spaces, dashes and apostrophes. Two labels are the same when their folds are.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The form in which labels are compared: compatibility-decomposed (NFKD), without accents, lower case, every
/// run of characters that are neither letters nor digits (spaces, NBSP, dashes, apostrophes, `/`) made one space.
/// `&` is read « et ».
pub fn fold(label: &str) -> String {
    let mut folded = String::with_capacity(label.len());
    let mut gap = false;
    let mut push = |c: char, gap: &mut bool| {
        if *gap && !folded.is_empty() {
            folded.push(' ');
        }
        *gap = false;
        folded.push(c);
    };
    for c in label.nfkd() {
        if is_combining_mark(c) {
            continue;
        }
        if c == '&' {
            gap = true;
            push('e', &mut gap);
            push('t', &mut gap);
            gap = true;
        } else if c.is_alphanumeric() {
            for lower in c.to_lowercase() {
                // Lower-casing can bring a mark back (İ → i + U+0307).
                if !is_combining_mark(lower) {
                    push(lower, &mut gap);
                }
            }
        } else {
            gap = true;
        }
    }
    folded
}

/// Whether two labels are the same but for spelling.
pub fn same(a: &str, b: &str) -> bool {
    fold(a) == fold(b)
}

/// The candidate nearest to `word`, when it is near enough to be a slip of the pen: at most one edit in
/// three characters (insertion, deletion, substitution, swap of neighbours). One or two letters say too little.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = word.chars().count() / 3;
    candidates.into_iter().map(|c| (edits(word, c), c)).filter(|(d, _)| *d <= allowed).min_by_key(|(d, c)| (*d, c.len())).map(|(_, c)| c)
}

/// Optimal string alignment distance.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitution = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitution.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_label_are_the_same() {
        for (a, b) in [
            ("Gestion de l'Identité Nationale de Santé", "GESTION DE L’IDENTITE NATIONALE\u{a0}DE SANTE"),
            ("Consultation et Alimentation du DMP / Mon espace santé", "consultation et alimentation du dmp/mon espace sante"),
            ("Identification électronique & ProSanté Connect", "Identification électronique et ProSanté Connect"),
            ("Médecin de ville - LGC : CIBA", "Médecin de ville – LGC: CIBA"),
            ("Périmètre", "Pe\u{301}rime\u{300}tre"),
        ] {
            assert!(same(a, b), "{a} / {b}: {:?} {:?}", fold(a), fold(b));
        }
        assert!(!same("Vague 1", "Vague 2"));
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_word_and_another_word_does_not() {
        let known = ["max_files", "max_size", "formats", "folders"];
        assert_eq!(nearest("max_flies", known), Some("max_files"));
        assert_eq!(nearest("format", known), Some("formats"));
        assert_eq!(nearest("colour", known), None);
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(label in "\\PC{0,40}") {
            prop_assert_eq!(fold(&fold(&label)), fold(&label));
        }
    }
}
