//! Prints the facts of files as JSON, without sandbox or rules: for people who work on an inspector.
//! `cargo run --example facts -- FILE…` (never on files you do not trust).

use greffier::inspect::{Context, Limits, inspect};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let brief = std::env::args().any(|a| a == "--brief");
    for path in std::env::args().skip(1).filter(|a| a != "--brief") {
        let bytes = std::fs::read(&path)?;
        let facts = inspect(&bytes, &mut Context::new(Limits::default()));
        if brief {
            let codes: Vec<_> = facts.signals.iter().map(|s| s.code.to_string()).collect();
            println!("{path}\t{}\t{}", facts.format.map_or("?", |f| f.code()), codes.join(","));
        } else {
            println!("{}", serde_json::json!({ "path": path, "facts": facts }));
        }
    }
    Ok(())
}
