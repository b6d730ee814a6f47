//! Number formats (ECMA-376 Part 1 §18.8.30 and §18.8.31): what a cell shows for the number it holds.
//!
//! A version typed as `1.10` is stored as the number 1.1 and the format `0.00`. A rule that compares versions needs what a person
//! sees. Only what tables of this kind use is rendered: digits, literals, thousands, percent, and dates of day, month and year.
//! Everything else (fractions, exponents, conditions, times) answers `None`, and the plain number stands.
//!
//! The decimal mark is a full stop, as versions are written; the thousands mark is a space and months are French, as Excel shows
//! them on a French system.

use jiff::civil::Date;

/// Characters of a format code that are read; Excel allows 255 (Excel specifications and limits).
const MAX_CODE_CHARS: usize = 255;
/// Numbers from here on are not rendered: they are identifiers rather than versions or counts, and the masking of national
/// identifiers (13 digits and more) must find them in one place only.
const LARGEST: f64 = 1e10;
/// Digits after the decimal mark that are rendered; Excel shows 30 at most, a double holds 17.
const MAX_DECIMALS: usize = 15;

/// The code of a built-in format that shows a number otherwise than it is (ECMA-376 Part 1 §18.8.30), dates as French Excel has them.
pub(super) fn built_in(id: u16) -> Option<&'static str> {
    Some(match id {
        1 => "0",
        2 => "0.00",
        3 | 37 | 38 => "#,##0",
        4 | 39 | 40 => "#,##0.00",
        9 => "0%",
        10 => "0.00%",
        14 => "dd/mm/yyyy",
        15 => "d-mmm-yy",
        16 => "d-mmm",
        17 => "mmm-yy",
        _ => return None,
    })
}

/// One piece of a format section.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// `0`: a digit, always shown. `false` for `#` and `?`: shown where it counts.
    Digit(bool),
    /// The decimal mark.
    Point,
    /// The thousands mark.
    Comma,
    /// Text shown as it stands.
    Literal(char),
    /// `%`.
    Percent,
    /// A run of one date letter.
    Day(usize),
    /// See [`Piece::Day`].
    Month(usize),
    /// See [`Piece::Day`].
    Year(usize),
}

/// The first section of a code in pieces; `None` where it holds what is not rendered. `General` and `@` need no rendering.
fn pieces(code: &str) -> Option<Vec<Piece>> {
    let mut out = Vec::new();
    let mut chars = code.chars().take(MAX_CODE_CHARS).peekable();
    while let Some(c) = chars.next() {
        match c {
            ';' => break,
            '0' => out.push(Piece::Digit(true)),
            '#' | '?' => out.push(Piece::Digit(false)),
            '.' => out.push(Piece::Point),
            ',' => out.push(Piece::Comma),
            '%' => out.push(Piece::Percent),
            '"' => out.extend(chars.by_ref().take_while(|c| *c != '"').map(Piece::Literal)),
            '\\' => out.push(Piece::Literal(chars.next()?)),
            // A space as wide as the next character, or a fill: nothing that can be read.
            '_' | '*' => {
                chars.next()?;
            }
            '[' => {
                let inside: String = chars.by_ref().take_while(|c| *c != ']').collect();
                // `[$€-40C]` is a currency sign with its locale, `[Red]` a colour; a condition or elapsed time decides what is shown.
                if let Some(currency) = inside.strip_prefix('$') {
                    out.extend(currency.split('-').next().unwrap_or_default().chars().map(Piece::Literal));
                } else if inside.starts_with(['<', '>', '='])
                    || matches!(inside.to_ascii_lowercase().as_str(), "h" | "hh" | "m" | "mm" | "s" | "ss")
                {
                    return None;
                }
            }
            'd' | 'D' | 'j' | 'J' | 'm' | 'M' | 'y' | 'Y' | 'a' | 'A' => {
                let letter = c.to_ascii_lowercase();
                let mut run = 1;
                while chars.next_if(|next| next.to_ascii_lowercase() == letter).is_some() {
                    run += 1;
                }
                out.push(match letter {
                    // French Excel writes `jj/mm/aaaa`; some programs store it as it is typed.
                    'd' | 'j' => Piece::Day(run),
                    'm' => Piece::Month(run),
                    // `AM/PM` belongs to a time.
                    'a' if run == 1 => return None,
                    _ => Piece::Year(run),
                });
            }
            // A fraction; between day and month it is a literal.
            '/' if matches!(out.last(), Some(Piece::Digit(_))) => return None,
            ' ' | '-' | '+' | '/' | '(' | ')' | ':' | '\'' | '$' | '€' | '\u{A0}' | '\u{202F}' => out.push(Piece::Literal(c)),
            _ => return None,
        }
    }
    Some(out)
}

/// Whether the code shows a date.
fn is_date(pieces: &[Piece]) -> bool {
    pieces.iter().any(|p| matches!(p, Piece::Day(_) | Piece::Month(_) | Piece::Year(_)))
}

/// What a cell of this format shows for `number`, where that is not the plain number.
pub(super) fn show_number(number: f64, code: &str) -> Option<String> {
    if !number.is_finite() || number.abs() >= LARGEST {
        return None;
    }
    let pieces = pieces(code)?;
    if is_date(&pieces) || number < 0.0 && code.contains(';') {
        return None;
    }
    let is_slot = |p: &Piece| matches!(p, Piece::Digit(_));
    let point = pieces.iter().position(|p| *p == Piece::Point).unwrap_or(pieces.len());
    let (whole_part, rest) = pieces.split_at(point);
    let last_slot = whole_part.iter().rposition(is_slot);
    let first_slot = whole_part.iter().position(is_slot);
    // A comma behind the last digit divides by a thousand: the number shown is then another one.
    if !pieces.iter().any(is_slot) || whole_part.iter().rposition(|p| *p == Piece::Comma) > last_slot && whole_part.contains(&Piece::Comma)
    {
        return None;
    }
    let decimals = rest.iter().filter(|p| is_slot(p)).count();
    if decimals > MAX_DECIMALS || rest.iter().skip(1).any(|p| matches!(p, Piece::Comma | Piece::Point)) {
        return None;
    }
    let percent = pieces.contains(&Piece::Percent);
    let scaled = if percent { number.abs() * 100.0 } else { number.abs() };
    let digits = format!("{scaled:.decimals$}");
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let grouped = whole_part.contains(&Piece::Comma);
    let mut shown = String::new();
    // Digits fill the places before the mark from the right; the first place takes those that are left.
    let mut left: Vec<char> = whole.chars().collect();
    let mut taken = 0usize;
    let mut reversed: Vec<char> = Vec::new();
    let mut take_one = |out: &mut Vec<char>, left: &mut Vec<char>, always: bool| {
        let zero_only = left.len() == 1 && left.first() == Some(&'0') && !always && taken == 0;
        match if zero_only { None } else { left.pop() } {
            Some(digit) => {
                if grouped && taken > 0 && taken.is_multiple_of(3) {
                    out.push(' ');
                }
                out.push(digit);
                taken += 1;
            }
            None if always => {
                if grouped && taken > 0 && taken.is_multiple_of(3) {
                    out.push(' ');
                }
                out.push('0');
                taken += 1;
            }
            None => {}
        }
    };
    for (index, piece) in whole_part.iter().enumerate().rev() {
        match piece {
            Piece::Digit(always) => {
                take_one(&mut reversed, &mut left, *always);
                if Some(index) == first_slot && !(left.len() == 1 && left.first() == Some(&'0') && !always) {
                    while !left.is_empty() {
                        take_one(&mut reversed, &mut left, false);
                    }
                }
            }
            Piece::Literal(c) => reversed.push(*c),
            Piece::Percent => reversed.push('%'),
            _ => {}
        }
    }
    if number < 0.0 && digits.bytes().any(|b| matches!(b, b'1'..=b'9')) {
        shown.push('-');
    }
    shown.extend(reversed.iter().rev());
    let optional = rest.iter().rev().filter(|p| is_slot(p)).take_while(|p| **p == Piece::Digit(false)).count();
    let needless = fraction.bytes().rev().take(optional).take_while(|b| *b == b'0').count();
    let mut fraction = fraction.get(..fraction.len() - needless).unwrap_or_default().chars();
    for piece in rest {
        match piece {
            Piece::Point => shown.push('.'),
            Piece::Digit(_) => shown.extend(fraction.next()),
            Piece::Literal(c) => shown.push(*c),
            Piece::Percent => shown.push('%'),
            _ => {}
        }
    }
    let shown = shown.trim().to_owned();
    (!shown.is_empty() && shown != plain(number)).then_some(shown)
}

/// What a cell of this format shows for a day, where that is not the whole day in figures.
pub(super) fn show_date(date: Date, code: &str) -> Option<String> {
    const MONTHS: [&str; 12] =
        ["janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"];
    const SHORT: [&str; 12] = ["janv", "févr", "mars", "avr", "mai", "juin", "juil", "août", "sept", "oct", "nov", "déc"];
    let pieces = pieces(code)?;
    let has = |wanted: fn(&Piece) -> bool| pieces.iter().any(wanted);
    let whole = has(|p| matches!(p, Piece::Day(_))) && has(|p| matches!(p, Piece::Month(_))) && has(|p| matches!(p, Piece::Year(_)));
    if !is_date(&pieces) || whole {
        return None;
    }
    let month = usize::try_from(date.month() - 1).ok()?;
    let mut shown = String::new();
    for piece in &pieces {
        match piece {
            Piece::Day(1) => shown.push_str(&date.day().to_string()),
            Piece::Day(2) => shown.push_str(&format!("{:02}", date.day())),
            Piece::Month(1) => shown.push_str(&date.month().to_string()),
            Piece::Month(2) => shown.push_str(&format!("{:02}", date.month())),
            Piece::Month(3) => shown.push_str(SHORT.get(month)?),
            Piece::Month(4) => shown.push_str(MONTHS.get(month)?),
            Piece::Year(1 | 2) => shown.push_str(&format!("{:02}", date.year() % 100)),
            Piece::Year(_) => shown.push_str(&format!("{:04}", date.year())),
            Piece::Literal(c) => shown.push(*c),
            Piece::Point => shown.push('.'),
            Piece::Comma => shown.push(','),
            // A weekday, or digits beside a date.
            _ => return None,
        }
    }
    Some(shown.trim().to_owned())
}

/// A number as it stands in facts.
pub(super) fn plain(number: f64) -> String {
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_shown_as_excel_shows_them() {
        for (number, code, shown) in [
            (1.1, "0.00", Some("1.10")),
            (1.0, "0.0", Some("1.0")),
            (1.1, "0.0", None),
            (1.1, "General", None),
            (1.1, "@", None),
            (1250.0, "#,##0", Some("1 250")),
            (0.5, "0%", Some("50%")),
            (421.0, "0\".\"0\".\"0", Some("4.2.1")),
            (1042.0, "0\\.0\\.0", Some("10.4.2")),
            (1.1, "\"v\"0.00", Some("v1.10")),
            (7.0, "000", Some("007")),
            (31_122_025.0, "00\"/\"00\"/\"0000", Some("31/12/2025")),
            (12.0, "0\" clients\"", Some("12 clients")),
            (1234.5, "#,##0.00 [$€-40C]", Some("1 234.50 €")),
            (1.5, "0.0##", None),
            (2.0, "0.##", Some("2.")),
            (1250.0, "0,", None),
            (0.4, "#", None),
            (-1.1, "0.00", Some("-1.10")),
            (1_850_578_646_084.0, "0.00", None),
            (1.5, "# ?/?", None),
            (1.5, "0.00E+00", None),
            (1.5, "[>1]0.00", None),
        ] {
            assert_eq!(show_number(number, code).as_deref(), shown, "{number} as {code}");
        }
    }

    #[test]
    fn dates_without_a_day_are_shown_without_one() {
        let day = Date::constant(2025, 12, 31);
        for (code, shown) in [
            ("mmm-yy", Some("déc-25")),
            ("mm/yyyy", Some("12/2025")),
            ("mmmm aaaa", Some("décembre 2025")),
            ("yyyy", Some("2025")),
            ("d-mmm", Some("31-déc")),
            ("dd/mm/yyyy", None),
            ("jj/mm/aaaa", None),
            ("[$-40C]d mmmm yyyy;@", None),
            ("hh:mm", None),
        ] {
            assert_eq!(show_date(day, code).as_deref(), shown, "{code}");
        }
    }

    proptest! {
        #[test]
        fn any_code_and_number_are_rendered_or_not(number in any::<f64>(), code in "[0#?.,%\"\\\\;a-zA-Z€ \\[\\]$*_-]{0,40}") {
            let _ = show_number(number, &code);
            let _ = show_date(Date::constant(2024, 2, 29), &code);
        }
        #[test]
        fn two_decimals_are_always_two(n in -100_000i32..100_000) {
            let number = f64::from(n) / 100.0;
            let shown = show_number(number, "0.00").unwrap_or_else(|| plain(number));
            prop_assert_eq!(shown.trim_start_matches('-').split_once('.').map(|(_, d)| d.len()), Some(2));
        }
    }
}
