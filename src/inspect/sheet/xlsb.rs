//! Excel binary workbooks ([MS-XLSB]): the frames of every record are walked, then calamine decodes.
//!
//! The format is rare in deposits. calamine reads it in order, one record in a buffer, but trusts lengths and
//! indexes; so a workbook is given to it only where every part is a whole chain of records that fit, and
//! its panics on inner fields are contained: such a file is `sheet-unread`, and the verifier opens it.

use std::io::Cursor;

use calamine::{Reader as _, SheetType, SheetVisible, Xlsb};

use super::collect::{Collector, sheet_place};
use super::part::Fault;
use super::xlsx::{Package, report, value_of};
use super::{Context, Facts, MAX_COLUMNS, MAX_ROWS, WorkbookFacts};
use crate::inspect::contained;
use crate::model::Signal;
use crate::model::facts::CellValue;

/// Bytes of all binary parts together; calamine holds the shared strings twice over.
const MAX_PART_BYTES: usize = 64 * 1024 * 1024;

/// Describes the cells of an Excel binary workbook on `facts`.
pub fn xlsb(bytes: &[u8], ctx: &mut Context, facts: &mut Facts) {
    let mut out = Collector::new(ctx.budget.limits());
    let mut workbook = WorkbookFacts::default();
    if let Err(fault) = read(bytes, ctx, facts, &mut out, &mut workbook) {
        report(&fault, ctx, facts);
        out.cut_here();
    }
    out.finish(ctx, facts, workbook);
}

fn read(bytes: &[u8], ctx: &mut Context, facts: &mut Facts, out: &mut Collector, workbook: &mut WorkbookFacts) -> Result<(), Fault> {
    let mut package = Package::open(bytes)?;
    if package.find("xl/workbook.bin").is_none() {
        return Err(Fault::Damaged("xl/workbook.bin is missing".to_owned()));
    }
    let mut total = 0usize;
    for (name, index) in package.parts_that_end_with(".bin") {
        // Settings of a printer and embedded objects are no records.
        if !(name == "xl/workbook.bin"
            || name == "xl/sharedstrings.bin"
            || name == "xl/styles.bin"
            || name.starts_with("xl/worksheets/sheet"))
        {
            continue;
        }
        let part = package.read(index, &mut ctx.budget).map_err(|f| f.in_part(&name))?;
        total += part.len();
        if total > MAX_PART_BYTES {
            facts.push(Signal::new("sheet-unread").arg("detail", format!("binary parts of more than {MAX_PART_BYTES} bytes")));
            return Ok(());
        }
        walk(&part, ctx).map_err(|f| f.in_part(&name))?;
    }
    let unread = |facts: &mut Facts, detail: String| facts.push(Signal::new("sheet-unread").arg("detail", detail));
    let mut book = match contained(|| Xlsb::new(Cursor::new(bytes))) {
        Some(Ok(book)) => book,
        Some(Err(e)) => {
            unread(facts, e.to_string());
            return Ok(());
        }
        None => {
            unread(facts, "the reader stopped".to_owned());
            return Ok(());
        }
    };
    workbook.date_1904 = book.has_1904_epoch();
    for sheet in book.sheets_metadata().to_vec() {
        if !out.sheet(&sheet.name, sheet.visible != SheetVisible::Visible) {
            break;
        }
        if sheet.typ != SheetType::WorkSheet {
            out.has_drawings = true;
            continue;
        }
        match contained(|| cells(&mut book, &sheet.name, ctx, out)) {
            Some(Ok(())) => {}
            Some(Err(Fault::Damaged(detail))) => {
                facts.push(Signal::new("sheet-unread").at(sheet_place(&sheet.name)).arg("detail", detail));
                out.cut_here();
            }
            Some(Err(fault)) => return Err(fault),
            None => {
                facts.push(Signal::new("sheet-unread").at(sheet_place(&sheet.name)).arg("detail", "the reader stopped"));
                out.cut_here();
            }
        }
    }
    Ok(())
}

fn cells(book: &mut Xlsb<Cursor<&[u8]>>, name: &str, ctx: &Context, out: &mut Collector) -> Result<(), Fault> {
    let mut reader = book.worksheet_cells_reader(name).map_err(|e| Fault::Damaged(e.to_string()))?;
    for turn in 0u64.. {
        if turn.is_multiple_of(512) {
            ctx.budget.work(512 * super::RECORD)?;
        }
        let Some(cell) = reader.next_cell().map_err(|e| Fault::Damaged(e.to_string()))? else { break };
        let (row, column) = cell.get_position();
        let (row, column) = (row.saturating_add(1).min(MAX_ROWS), column.saturating_add(1).min(MAX_COLUMNS));
        let Some(value) = value_of(cell.get_value()) else { continue };
        if let CellValue::Error(shown) = &value {
            out.error(row, column, shown);
        }
        out.count(row, column, 1);
        out.keep(row, column, value);
    }
    Ok(())
}

/// Walks the frames of a part ([MS-XLSB] §2.1.4): a type of one or two bytes, a length of one to four, data.
fn walk(part: &[u8], ctx: &Context) -> Result<(), Fault> {
    let cut = |at: usize| Fault::Damaged(format!("record cut at byte {at}"));
    let mut at = 0usize;
    for turn in 0u64.. {
        if turn.is_multiple_of(1024) {
            ctx.budget.work(1024 * super::RECORD)?;
        }
        let Some(first) = part.get(at) else { break };
        let start = at;
        at += if first & 0x80 != 0 { 2 } else { 1 };
        let mut len = 0usize;
        for shift in [0u32, 7, 14, 21] {
            let byte = part.get(at).ok_or_else(|| cut(start))?;
            at += 1;
            len |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at = at.checked_add(len).filter(|end| *end <= part.len()).ok_or_else(|| cut(start))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Limits;
    use proptest::prelude::*;

    #[test]
    fn frames_must_fit_the_part() {
        let ctx = Context::new(Limits::default());
        assert!(walk(&[], &ctx).is_ok());
        assert!(walk(&[0x81, 0x01, 0x02, 0xAA, 0xBB, 0x05, 0x00], &ctx).is_ok());
        assert!(walk(&[0x05, 0x02, 0xAA], &ctx).is_err());
        assert!(walk(&[0x05, 0xFF, 0xFF, 0xFF, 0x7F], &ctx).is_err());
        assert!(walk(&[0x85], &ctx).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked(part in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = walk(&part, &Context::new(Limits::default()));
        }
    }
}
