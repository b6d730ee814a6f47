//! What a submission may keep in memory, decided by position: the same submission keeps the same, in whatever order its items end.

use std::collections::BTreeMap;

/// Room for the first groups of a submission. A group (items that name one object) stands at its first position; it has room if
/// the weights of all groups up to and including it fit.
///
/// Groups are weighed as they end, in any order. What is held at any moment fits: a group that is known not to fit stays so,
/// since the groups that are not weighed yet can only add to what stands before it.
#[derive(Debug)]
pub struct Room {
    max: u64,
    total: u64,
    held: BTreeMap<usize, u64>,
    /// No group from here on has room.
    end: usize,
}

impl Room {
    /// For weights of `max` in all.
    pub fn new(max: u64) -> Self {
        Self { max, total: 0, held: BTreeMap::new(), end: usize::MAX }
    }

    /// Weighs a group (once; again changes nothing), and says whether the end has moved: other groups lost their room.
    pub fn weigh(&mut self, group: usize, weight: u64) -> bool {
        if group >= self.end || self.held.contains_key(&group) {
            return false;
        }
        self.held.insert(group, weight);
        self.total = self.total.saturating_add(weight);
        let before = self.end;
        while self.total > self.max
            && let Some((last, weight)) = self.held.pop_last()
        {
            self.total -= weight;
            self.end = last;
        }
        self.end != before
    }

    /// Whether this group has room, as far as is known.
    pub fn has(&self, group: usize) -> bool {
        group < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_follows_from_positions_and_never_exceeds(
            weights in proptest::collection::vec(0_u64..50, 0..40),
            max in 0_u64..400,
            order in any::<u64>(),
        ) {
            let mut arrivals: Vec<usize> = (0..weights.len()).collect();
            arrivals.sort_by_key(|n| (*n as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
            let mut room = Room::new(max);
            let mut held: Vec<usize> = Vec::new();
            for n in arrivals {
                room.weigh(n, weights[n]);
                held.push(n);
                held.retain(|n| room.has(*n));
                prop_assert!(held.iter().map(|n| weights[*n]).sum::<u64>() <= max);
            }
            let mut sum = 0;
            let expected: Vec<usize> = (0..weights.len()).take_while(|n| { sum += weights[*n]; sum <= max }).collect();
            held.sort_unstable();
            prop_assert_eq!(held, expected);
        }
    }
}
