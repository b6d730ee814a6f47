//! How many typing errors lie between two short texts.

/// The edits between `a` and `b` where there are at most `max`: optimal string alignment, so that two neighbours swapped count
/// once. `None` where there are more.
///
/// Takes time in proportion to `max` times the shorter length, and ends at the first character past which too many are certain:
/// it is asked of every cell against every known header.
pub fn within(a: &str, b: &str, max: usize) -> Option<usize> {
    // A character has four bytes at most.
    if a.len().abs_diff(b.len()) > 4 * max {
        return None;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > max {
        return None;
    }
    // Only cells within `max` of the diagonal can be `max` or less; the others count as more.
    let beyond = max + 1;
    let mut before: Vec<usize> = vec![beyond; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).map(|n| n.min(beyond)).collect();
    let mut line: Vec<usize> = vec![beyond; b.len() + 1];
    let mut least_before = 0;
    for (i, x) in a.iter().enumerate() {
        let (from, to) = (i.saturating_sub(max), (i + max + 1).min(b.len()));
        line[from] = if from == 0 { (i + 1).min(beyond) } else { beyond };
        let mut least = line[from];
        for (j, y) in b.iter().enumerate().take(to).skip(from) {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(line[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            line[j + 1] = best.min(beyond);
            least = least.min(best);
        }
        if let Some(past) = line.get_mut(to + 1) {
            *past = beyond;
        }
        // A swap reaches back over one line.
        if least > max && least_before > max {
            return None;
        }
        least_before = least;
        (before, last, line) = (last, line, before);
    }
    last.last().copied().filter(|n| *n <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn it_agrees_with_the_whole_computation(a in "[abé]{0,9}", b in "[abé]{0,9}", max in 0usize..4) {
            let whole = strsim::osa_distance(&a, &b);
            proptest::prop_assert_eq!(within(&a, &b, max), (whole <= max).then_some(whole));
        }
    }
}
