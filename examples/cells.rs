use greffier::inspect::{Context, Limits, sheet, text};
use greffier::model::{Facts, Format};
fn main() {
    let brief = std::env::args().any(|a| a == "--brief");
    for path in std::env::args().skip(1).filter(|a| a != "--brief") {
        let bytes = std::fs::read(&path).unwrap();
        let mut ctx = Context::new(Limits::default());
        let mut facts = Facts::of_size(bytes.len() as u64);
        let ext = path.rsplit('.').next().unwrap();
        facts.format = Format::from_extension(ext).next();
        match ext {
            "xlsx" | "xlsm" => sheet::xlsx(&bytes, &mut ctx, &mut facts),
            "xlsb" => sheet::xlsb(&bytes, &mut ctx, &mut facts),
            "xls" => sheet::xls(&bytes, &mut ctx, &mut facts),
            "ods" => sheet::ods(&bytes, &mut ctx, &mut facts),
            _ => text::inspect(&bytes, &mut ctx, &mut facts),
        }
        if brief {
            let codes: Vec<_> = facts
                .signals
                .iter()
                .map(|s| {
                    format!("{}{:?}", s.code, s.args.get("detail").or(s.args.get("formula")).or(s.args.get("value")).map(|a| a.to_string()))
                })
                .collect();
            let n = facts.workbook().map_or(0, |w| w.sheets.iter().map(|s| s.cells).sum());
            let k: usize = facts.workbook().map_or(0, |w| w.sheets.iter().map(|s| s.values.len()).sum());
            println!("{path}\t{n}/{k}\t{}", codes.join(","));
        } else {
            println!("{}", serde_json::json!({ "path": path, "facts": facts }));
        }
    }
}
