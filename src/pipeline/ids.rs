//! Requirement, scenario and proof ids: one canonical form for the agency's many spellings.
//!
//! The base of requirements writes `SC.INS.02`, screens write `INS.02`, requirement texts cite `SC. INS.02` with a
//! no-break space, FAQ answers cite `LGC.DMP/UX.10.01`. Ids are compared in a canonical form without white space
//! and without the `SC.` or `CH.` that the platform drops for display; the level (exigence, scénario, preuve)
//! never follows from the number of dots: published catalogues hold proofs numbered like scenarios.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;

/// Prefixes that name a product family; some sources write them and others do not.
const PRODUCTS: &[&str] = &["LGC", "DPI", "PFI", "SGL", "RIS", "DB", "LGO", "DUI"];

/// Longest id that is looked at, in bytes: real ones stay under 40.
const LONGEST: usize = 120;

struct Grammar {
    /// The grammar of the LGC references, tested on 984 of them.
    usual: Regex,
    /// `MSS/UX.DPI.2`, `MSS.UX/DPI.2`: forms of hospital catalogues, tolerated.
    hospital: Regex,
}

#[expect(clippy::expect_used, reason = "the grammar is made of constants, and tests compile it")]
fn grammar() -> &'static Grammar {
    static GRAMMAR: OnceLock<Grammar> = OnceLock::new();
    GRAMMAR.get_or_init(|| {
        let tail = r"\.(\d{1,3})(?:\.(BIS|TER|QUATER))?(?:\.(\d{2}))?(?:\.(\d{2}))?$";
        let products = PRODUCTS.join("|");
        Grammar {
            usual: Regex::new(&format!(r"^(?:(?P<prefix>SC|CH|{products})\.)?(?P<family>[A-Z]+(?:[/_-][A-Za-z0-9]+)*){tail}"))
                .expect("the grammar is a constant"),
            hospital: Regex::new(&format!(
                r"^(?:(?P<prefix>SC|CH|{products})\.)?(?P<family>[A-Z]+/[A-Z]+\.(?:{products})|[A-Z]+\.[A-Z]+/(?:{products})){tail}"
            ))
            .expect("the grammar is a constant"),
        }
    })
}

/// What separates nothing: white space (with U+00A0 and U+202F) and the invisible characters that
/// spreadsheets carry along.
fn is_ignored(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}' | '\u{00AD}')
}

/// `spelled` without white space and invisible characters.
pub fn compact(spelled: &str) -> String {
    spelled.chars().filter(|c| !is_ignored(*c)).collect()
}

/// The canonical form of an id, or `None` where `spelled` is no id: `SC.\u{a0}DMP/HISTO.01` → `DMP/HISTO.01`.
/// A product prefix (`LGC.`) stays: dropping it could join two ids; [`Index`] finds an id with or without it.
pub fn canonical(spelled: &str) -> Option<String> {
    if spelled.len() > LONGEST * 4 {
        return None;
    }
    let compact = compact(spelled);
    if compact.len() > LONGEST {
        return None;
    }
    let grammar = grammar();
    let captures = grammar.usual.captures(&compact).or_else(|| grammar.hospital.captures(&compact))?;
    let dropped = captures.name("prefix").filter(|p| matches!(p.as_str(), "SC" | "CH")).map_or(0, |p| p.end() + 1);
    Some(compact[dropped..].to_owned())
}

/// How many numbers a canonical id ends in (`BIS` not counted): 1 looks like an exigence, 2 like a scénario, 3 like
/// a preuve. Only good for a remark: the catalogue's column decides.
pub fn numbers(canonical: &str) -> usize {
    canonical.split('.').skip(1).filter(|part| part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty()).count()
}

/// The folder that holds the files of an id: `/` cannot be in a file name.
pub fn folder_name(canonical: &str) -> String {
    canonical.replace('/', "_")
}

/// The key under which all spellings meet: no white space, capitals, one separator, no prefix.
fn loose(spelled: &str) -> String {
    let key: String = compact(spelled)
        .chars()
        .flat_map(char::to_uppercase)
        .map(|c| if matches!(c, '/' | '_' | '-' | '\\' | ':' | '\u{2215}' | '\u{2044}') { '-' } else { c })
        .collect();
    let prefix = key.split('.').next().unwrap_or_default();
    // `SC.01` is a family named SC, not a prefix: something else than a number must follow.
    let rest = key.get(prefix.len() + 1..).unwrap_or_default();
    if (matches!(prefix, "SC" | "CH") || PRODUCTS.contains(&prefix)) && rest.starts_with(|c: char| !c.is_ascii_digit()) {
        rest.to_owned()
    } else {
        key
    }
}

/// Finds ids in any of the agency's spellings, and in those of folder names (`DMP_HISTO.01.01.01`).
#[derive(Debug, Clone, Default)]
pub struct Index {
    exact: BTreeMap<String, usize>,
    /// `None` where two ids differ only by what the loose key drops: no guess is made then.
    loose: BTreeMap<String, Option<usize>>,
}

impl Index {
    /// An index over canonical ids, by position.
    pub fn new<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index = Self::default();
        for (position, id) in ids.into_iter().enumerate() {
            index.exact.entry(id.to_owned()).or_insert(position);
            index
                .loose
                .entry(loose(id))
                .and_modify(|known| {
                    if known.is_some_and(|other| other != position) {
                        *known = None;
                    }
                })
                .or_insert(Some(position));
        }
        index
    }

    /// The position of the id that `spelled` means.
    pub fn find(&self, spelled: &str) -> Option<usize> {
        if spelled.len() > LONGEST * 4 {
            return None;
        }
        self.exact
            .get(spelled)
            .or_else(|| canonical(spelled).and_then(|id| self.exact.get(&id)))
            .copied()
            .or_else(|| self.loose.get(&loose(spelled)).copied().flatten())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_agencys_spellings_have_one_canonical_form() {
        for (spelled, expected) in [
            ("INS.02", "INS.02"),
            ("SC.INS.02", "INS.02"),
            ("SC.\u{a0}DMP/HISTO.01", "DMP/HISTO.01"),
            (" SC. INS.02.01\u{a0}", "INS.02.01"),
            ("CH.INS.02", "INS.02"),
            ("INS/va1.62.01", "INS/va1.62.01"),
            ("SC.MSS/va1.13.01", "MSS/va1.13.01"),
            ("SCN_DB/CO.01.04.01", "SCN_DB/CO.01.04.01"),
            ("LGC.DMP/UX.10.01", "LGC.DMP/UX.10.01"),
            ("ORDN/CONF.04.01.02", "ORDN/CONF.04.01.02"),
            ("DMP/AIRS.07.BIS.01", "DMP/AIRS.07.BIS.01"),
            ("ON/PSC.60", "ON/PSC.60"),
            ("MSS/UX.DPI.2", "MSS/UX.DPI.2"),
            ("MSS/UX.PFI.12", "MSS/UX.PFI.12"),
            ("SC.MSS.UX/DPI.2", "MSS.UX/DPI.2"),
        ] {
            assert_eq!(canonical(spelled).as_deref(), Some(expected), "{spelled}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for spelled in ["", "INS", "INS.", "ins.02", "INS.02.1.1", "../INS.02", "INS.02/..", "INS.02.01.01.01", "capture 2", "INS.0002"] {
            assert_eq!(canonical(spelled), None, "{spelled}");
        }
        assert_eq!(canonical(&"A".repeat(100_000)), None);
    }

    #[test]
    fn an_index_finds_prefixes_folders_and_cases() {
        let index = Index::new(["INS.02.01.01", "DMP/HISTO.01.01.01", "INS/va1.62.01.01", "SCN_DB/CO.01.04.01", "LGC.DMP/UX.10.01"]);
        for (spelled, position) in [
            ("SC.INS.02.01.01", 0),
            ("LGC.INS.02.01.01", 0),
            ("ins.02.01.01", 0),
            ("DMP_HISTO.01.01.01", 1),
            ("DMP-HISTO.01.01.01", 1),
            ("SC. DMP/HISTO.01.01.01", 1),
            ("INS_VA1.62.01.01", 2),
            ("SCN_DB_CO.01.04.01", 3),
            ("DMP/UX.10.01", 4),
        ] {
            assert_eq!(index.find(spelled), Some(position), "{spelled}");
        }
        assert_eq!(index.find("INS.02.01.02"), None);
        assert_eq!(index.find("INS.02"), None);
    }

    #[test]
    fn an_index_does_not_guess_between_two_ids() {
        let index = Index::new(["LGC.DMP/UX.10.01", "DPI.DMP/UX.10.01"]);
        assert_eq!(index.find("DMP/UX.10.01"), None);
        assert_eq!(index.find("DPI.DMP/UX.10.01"), Some(1));
    }

    #[test]
    fn numbers_are_counted_without_suffixes() {
        assert_eq!(numbers("INS.02"), 1);
        assert_eq!(numbers("INS/va1.62.01"), 2);
        assert_eq!(numbers("DMP/AIRS.07.BIS.01.02"), 3);
    }

    fn id() -> impl Strategy<Value = String> {
        (
            prop::sample::select(vec!["", "SC.", "CH.", "LGC.", "DPI."]),
            "[A-Z]{1,5}([/_-][A-Za-z0-9]{1,5}){0,2}",
            1u32..999,
            prop::sample::select(vec!["", ".BIS", ".TER"]),
            prop::option::of(0u32..99),
            prop::option::of(0u32..99),
        )
            .prop_map(|(prefix, family, n, suffix, scenario, preuve)| {
                let mut id = format!("{prefix}{family}.{n:02}{suffix}");
                for part in [scenario, preuve].into_iter().flatten() {
                    id.push_str(&format!(".{part:02}"));
                }
                id
            })
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent(id in id()) {
            let once = canonical(&id).expect("generated by the grammar");
            prop_assert_eq!(canonical(&once), Some(once.clone()));
            prop_assert!(!once.starts_with("SC.") || once[3..].starts_with(|c: char| c.is_ascii_digit()));
        }

        #[test]
        fn white_space_anywhere_changes_nothing(id in id(), at in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec!['\u{a0}', ' ', '\u{202f}', '\t', '\u{200b}'])), 0..4)) {
            let mut spelled: Vec<char> = id.chars().collect();
            for (index, space) in at {
                spelled.insert(index.index(spelled.len() + 1), space);
            }
            prop_assert_eq!(canonical(&spelled.into_iter().collect::<String>()), canonical(&id));
        }

        #[test]
        fn an_index_finds_what_it_holds(id in id()) {
            let canonical = canonical(&id).unwrap();
            let index = Index::new([canonical.as_str()]);
            for spelled in [id.clone(), format!("SC.{canonical}"), folder_name(&canonical), canonical.to_lowercase()] {
                // « SC. » before a product prefix or a family of its own name is nobody's spelling.
                if !spelled.starts_with("SC.SC.") && !spelled.starts_with("SC.CH.") && PRODUCTS.iter().all(|p| !spelled.starts_with(&format!("SC.{p}."))) {
                    prop_assert_eq!(index.find(&spelled), Some(0), "{}", spelled);
                }
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,60}") {
            let _ = canonical(&text);
            let _ = Index::new(["INS.02"]).find(&text);
        }
    }
}
