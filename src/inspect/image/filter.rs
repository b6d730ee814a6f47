//! The filters of PNG rows (ISO/IEC 15948, clause 9), which PDF streams use as predictors too (ISO 32000-2, 7.4.4.4).

/// Reverses the filter of one row in place; `step` is the number of bytes of a pixel, at least 1, and `previous` the row above,
/// unfiltered. Returns false, and leaves the row as it is, for a filter that does not exist.
///
/// The loops count by hand: this runs for every byte of every picture, and iterators with closures cost several times as much
/// where nothing is optimised.
pub(in crate::inspect) fn unfilter(filter: u8, step: usize, previous: &[u8], row: &mut [u8]) -> bool {
    let length = row.len().min(previous.len());
    let (row, previous) = (&mut row[..length], &previous[..length]);
    // The first pixel has no neighbour to the left: it counts as zero.
    let first = step.clamp(1, length.max(1)).min(length);
    let step = step.max(1);
    let mut i = 0;
    match filter {
        0 => {}
        1 => {
            i = first;
            while i < length {
                row[i] = sum(row[i], row[i - step]);
                i += 1;
            }
        }
        2 => {
            while i < length {
                row[i] = sum(row[i], previous[i]);
                i += 1;
            }
        }
        3 => {
            while i < first {
                row[i] = sum(row[i], previous[i] / 2);
                i += 1;
            }
            while i < length {
                row[i] = sum(row[i], ((row[i - step] as u32 + previous[i] as u32) / 2) as u8);
                i += 1;
            }
        }
        4 => {
            while i < first {
                row[i] = sum(row[i], previous[i]);
                i += 1;
            }
            while i < length {
                row[i] = sum(row[i], paeth(row[i - step], previous[i], previous[i - step]));
                i += 1;
            }
        }
        _ => return false,
    }
    true
}

/// Bytes add modulo 256 (9.2).
const fn sum(a: u8, b: u8) -> u8 {
    ((a as u32 + b as u32) & 0xFF) as u8
}

/// Whichever of the neighbours is nearest to left + above − corner (9.4).
const fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let (a, b, c) = (left as i32, above as i32, corner as i32);
    let (from_left, from_above, from_corner) = (distance(b, c), distance(a, c), distance(a + b, c + c));
    if from_left <= from_above && from_left <= from_corner {
        left
    } else if from_above <= from_corner {
        above
    } else {
        corner
    }
}

const fn distance(a: i32, b: i32) -> i32 {
    if a < b { b - a } else { a - b }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clause 9.2 word for word, byte by byte.
    fn by_the_book(filter: u8, step: usize, previous: &[u8], row: &[u8]) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for (i, x) in row.iter().enumerate() {
            let a = if i >= step { out[i - step] } else { 0 };
            let (b, c) = (previous[i], if i >= step { previous[i - step] } else { 0 });
            let p = i32::from(a) + i32::from(b) - i32::from(c);
            let nearest = [a, b, c].into_iter().min_by_key(|n| (p - i32::from(*n)).abs()).unwrap();
            out.push(x.wrapping_add([0, a, b, a.midpoint(b), nearest][usize::from(filter)]));
        }
        out
    }

    proptest::proptest! {
        #[test]
        fn every_filter_is_reversed_as_the_standard_says(
            filter in 0u8..5,
            step in 1usize..9,
            rows in proptest::collection::vec((proptest::num::u8::ANY, proptest::num::u8::ANY), 0..64),
        ) {
            let (previous, mut row): (Vec<u8>, Vec<u8>) = rows.into_iter().unzip();
            let expected = by_the_book(filter, step, &previous, &row);
            proptest::prop_assert!(unfilter(filter, step, &previous, &mut row));
            proptest::prop_assert_eq!(row, expected);
        }
    }

    #[test]
    fn a_filter_that_does_not_exist_is_refused() {
        assert!(!unfilter(5, 3, &[0; 9], &mut [0; 9]));
    }
}
