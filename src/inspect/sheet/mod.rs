//! Spreadsheets: the cells of xlsx, xlsb, xls, ods and CSV, read into one [`WorkbookFacts`].
//!
//! Goals:
//! 1. **Nothing is allocated by a number that the file declares.** Dimensions, string counts and repeat
//!    counts are compared with what is really there; cells are counted without end and kept up to
//!    [`Limits::max_cells`](super::Limits::max_cells).
//! 2. **calamine never meets hostile bytes.** It decodes the cells of xlsx, xlsb and xls (number formats, shared
//!    strings, BIFF records), but it indexes buffers and reserves memory on the file's word. So each
//!    container is first walked here, within the budget, and calamine gets a small package of our making
//!    with the parts that proved sound. What calamine alone refuses is `sheet-unread`, never
//!    `sheet-corrupt`: an honest file is not rejected because a library does not know a record.
//! 3. **OpenDocument and CSV are read by us**, streaming: repeated cells are counted, not expanded.
//! 4. What a sheet can *do* is described too: formulas that start programs or carry data away
//!    ([`formula`]). Macros, encryption and external links belong to the package inspectors, which call
//!    these functions.

mod collect;
mod csv;
#[cfg(test)]
mod fixtures;
mod formula;
mod number_format;
mod ods;
mod part;
mod xls;
mod xlsb;
mod xlsx;

pub(crate) use self::csv::as_table;
pub use self::csv::csv;
pub use self::ods::ods;
pub use self::xls::xls;
pub use self::xlsb::xlsb;
pub use self::xlsx::xlsx;

use super::Context;
use crate::model::Facts;
use crate::model::facts::WorkbookFacts;

/// Units of work of one record or cell.
const RECORD: u64 = 300;

/// The widest sheet of Excel and `LibreOffice` (16,384 columns, `XFD`).
pub const MAX_COLUMNS: u32 = 16_384;
/// The tallest sheet of Excel and `LibreOffice`.
pub const MAX_ROWS: u32 = 1_048_576;

/// A cell's name in A1 notation; both numbers count from 1.
pub fn a1(row: u32, column: u32) -> String {
    let mut letters = Vec::new();
    let mut n = column.max(1);
    while n > 0 {
        let digit = (n - 1) % 26;
        letters.push(char::from(b'A' + u8::try_from(digit).unwrap_or(0)));
        n = (n - 1) / 26;
    }
    letters.iter().rev().collect::<String>() + &row.to_string()
}

/// Reads `C7` or `$C$7` into (row, column) from 1; absent where it is no cell of the largest sheet.
pub(crate) fn parse_a1(name: &str) -> Option<(u32, u32)> {
    let mut column = 0u32;
    let mut row = 0u32;
    for c in name.bytes().filter(|c| *c != b'$') {
        match c {
            b'A'..=b'Z' | b'a'..=b'z' if row == 0 => {
                column = column.checked_mul(26)?.checked_add(u32::from(c.to_ascii_uppercase() - b'A') + 1)?;
            }
            b'0'..=b'9' => row = row.checked_mul(10)?.checked_add(u32::from(c - b'0'))?,
            _ => return None,
        }
    }
    ((1..=MAX_COLUMNS).contains(&column) && (1..=MAX_ROWS).contains(&row)).then_some((row, column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a1_names_run_through_the_alphabet() {
        assert_eq!(a1(1, 1), "A1");
        assert_eq!(a1(7, 26), "Z7");
        assert_eq!(a1(7, 27), "AA7");
        assert_eq!(a1(MAX_ROWS, MAX_COLUMNS), "XFD1048576");
        assert_eq!(parse_a1("XFE1"), None);
        assert_eq!(parse_a1("A1048577"), None);
        assert_eq!(parse_a1("A0"), None);
        assert_eq!(parse_a1("7C"), None);
    }

    proptest! {
        #[test]
        fn a1_names_round_trip(row in 1..=MAX_ROWS, column in 1..=MAX_COLUMNS) {
            prop_assert_eq!(parse_a1(&a1(row, column)), Some((row, column)));
        }
        #[test]
        fn any_text_is_a_cell_name_or_not(name in ".*") {
            let _ = parse_a1(&name);
        }
    }
}
