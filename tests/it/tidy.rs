//! The source is in the order that ARCHITECTURE.md promises: imports point down its table of rooms, and every file says
//! what it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::root;

/// Imports that point up the table, each with the reason why it is still there. An entry that no import needs any more fails
/// the test, so that the list only gets shorter.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/assess/mod.rs", "antivirus", "`Examined` carries what the scanner said, whose type is the scanner's; it belongs into `model`"),
    (
        "src/identify/package.rs",
        "inspect",
        "the readers of ZIP directories and XML stand in `inspect` until there is a room for containers",
    ),
    ("src/identify/polyglot.rs", "inspect", "as `package.rs`: it needs the reader of ZIP directories"),
    ("src/ops/machine.rs", "config", "a report on this machine reads the whole configuration; putting a worker together belongs above"),
];

/// The rooms of one line of the table: those of a line know nothing of each other.
type Floor = BTreeSet<String>;

#[test]
fn imports_point_down_the_table_of_rooms() {
    let floors = floors(&std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap());
    let level = |room: &str| floors.iter().position(|floor| floor.contains(room));
    let mut needed: BTreeSet<&(&str, &str, &str)> = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut rooms = BTreeSet::new();
    for (path, source) in sources() {
        let room = room(&path);
        rooms.insert(room.clone());
        let Some(own) = level(&room) else { continue };
        for imported in imported(&path, &source).into_iter().filter(|imported| *imported != room) {
            let exception = EXCEPTIONS.iter().find(|(file, room, _)| *file == path && *room == imported);
            match level(&imported) {
                Some(other) if other > own => {}
                Some(_) if exception.is_some() => needed.extend(exception),
                Some(_) => wrong.push(format!("{path} imports `{imported}`, which does not stand below `{room}`")),
                None => wrong.push(format!("{path} imports `{imported}`, which is no room of the table")),
            }
        }
    }
    assert!(wrong.is_empty(), "imports point down the table « The rooms » of ARCHITECTURE.md only:\n{}", wrong.join("\n"));
    let unneeded: Vec<_> = EXCEPTIONS.iter().filter(|exception| !needed.contains(exception)).collect();
    assert!(unneeded.is_empty(), "no import needs these exceptions any more: remove them from {}: {unneeded:?}", file!());
    let listed: BTreeSet<String> = floors.into_iter().flatten().collect();
    assert_eq!(listed, rooms, "left: rooms of the table in ARCHITECTURE.md; right: what is in src");
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent: Vec<_> = sources().into_iter().filter(|(_, source)| !source.starts_with("//! ")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "a file opens with `//!` and a sentence for those who have never seen it: {silent:?}");
}

/// The rooms by line of the table « The rooms », from the top.
fn floors(page: &str) -> Vec<Floor> {
    let section = page.split("\n## The rooms\n").nth(1).expect("ARCHITECTURE.md has a section « The rooms »");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let named =
        |cell: &str| cell.split('`').filter_map(|word| word.strip_prefix("src/")).map(|r| r.trim_end_matches(".rs").to_owned()).collect();
    rows.map(|cell| named(&format!("`{cell}"))).collect()
}

/// Every source file by its path from the root.
fn sources() -> BTreeMap<String, String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(&root().join("src"), &mut found);
    let named = |path: PathBuf| {
        let source = std::fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), source)
    };
    found.into_iter().map(named).collect()
}

/// The room that a file belongs to: the folder or the file directly below `src`.
fn room(path: &str) -> String {
    let inside = path.strip_prefix("src/").unwrap();
    inside.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The rooms that a file names, in `use` or in the middle of an expression. Comments may link upwards, and so may tests.
fn imported(path: &str, source: &str) -> BTreeSet<String> {
    // Modules that are compiled for tests alone stand in files of these names, or at the end of the file they test.
    let name = path.rsplit('/').next().unwrap();
    if name.ends_with("tests.rs") || name == "fixtures.rs" {
        return BTreeSet::new();
    }
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    // From a file directly below a room, `super::super` is the crate itself.
    let to_the_crate = "super::".repeat(path.matches('/').count() - usize::from(name == "mod.rs"));
    let mut rooms = BTreeSet::new();
    for start in ["crate::", &to_the_crate] {
        for (at, _) in code.match_indices(start) {
            let goes_on = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'));
            if !goes_on {
                rooms.extend(first_segments(&code[at + start.len()..]));
            }
        }
    }
    rooms
}

/// The first segments of the paths that follow: one, or those of a list in braces.
fn first_segments(path: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(list) = path.strip_prefix('{') else { return vec![word(path)] };
    let mut segments = vec![word(list)];
    let mut open = 1;
    for (at, c) in list.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            ',' if open == 1 => segments.push(word(&list[at + 1..])),
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

#[test]
fn paths_are_read_out_of_sources() {
    let read = |path: &str, source: &str| imported(path, source).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(read("src/a/b.rs", "use crate::{one::{x, y}, two as t,\n three};\nfn f() { crate::four::g() }"), "four one three two");
    assert_eq!(read("src/a/b.rs", "/// See [`crate::one`].\nuse super::c;\nuse super::super::two::x;"), "two");
    assert_eq!(read("src/a/mod.rs", "use super::one::x;\nuse self::b;"), "one");
    assert_eq!(read("src/a.rs", "use super::one;\nmacro_rules! m { () => { $crate::two::f() } }\nuse other_crate::three;"), "one two");
    assert_eq!(read("src/a/b.rs", "#[serde(with = \"crate::one\")]\n#[cfg(test)]\nmod tests {\nuse crate::two;"), "one");
    assert_eq!(read("src/a/tests.rs", "use crate::two;"), "");
    let table =
        "# A\n\n## The rooms\n\n| room | does |\n|---|---|\n| `src/a`, `src/b.rs` | `src/x` |\n| `src/c` | |\n\n## Then\n| `src/d` | |\n";
    let expected: Vec<Floor> = [vec!["a", "b"], vec!["c"]].map(|f| f.into_iter().map(str::to_owned).collect()).into();
    assert_eq!(floors(table), expected);
}
