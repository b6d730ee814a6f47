//! Numbers here are made up, or are the published examples named in [`PrivacyPolicy`].

use proptest::prelude::*;

use super::*;
use crate::assess::fixtures;
use crate::model::facts::{ArchiveFacts, MemberFacts, OutlineEntry, PdfFacts, TextChunk, WorkbookFacts};

/// Made up: a man, May 1985, Versailles, with the right key.
const REAL: &str = "185057864608497";
/// The example of the ANS.
const TEST: &str = "279035121518989";

fn policy() -> PrivacyPolicy {
    PrivacyPolicy::default()
}

fn seen(text: &str, policy: &PrivacyPolicy) -> Vec<Hit> {
    scan(text, "", &Counted { policy, work: &Work::unbounded() })
}

fn numbers(text: &str) -> Vec<String> {
    seen(text, &policy()).into_iter().map(|h| h.number).collect()
}

/// The key, worked out another way: digit by digit, letters replaced as the INSEE writes it.
fn key_of(body: &str) -> u32 {
    let digits = body.replace("2A", "19").replace("2B", "18");
    97 - digits.bytes().fold(0, |n, b| (n * 10 + u32::from(b - b'0')) % 97)
}

fn with_key(body: &str) -> String {
    format!("{body}{:02}", key_of(body))
}

#[test]
fn published_specimens_have_the_key_that_is_computed() {
    for number in ["279035121518989", "255081416802538", "269054958815780"] {
        assert_eq!(with_key(&number[..BODY]), number);
        assert_eq!(numbers(number), [number]);
    }
    assert_eq!(with_key(&REAL[..BODY]), REAL);
}

#[test]
fn corsica_counts_as_19_and_18() {
    // The two ways of writing the rule agree: 2A → 20 less a million, 2B → 20 less two millions.
    for (letter, less) in [("2A", 1_000_000u64), ("2B", 2_000_000)] {
        let body = format!("18505{letter}004123");
        let as_twenty: u64 = format!("1850520{}", "004123").parse().unwrap();
        let key = 97 - (as_twenty - less) % 97;
        assert_eq!(u64::from(key_of(&body)), key);
        assert_eq!(numbers(&format!("{body}{key:02}")), [format!("{body}{key:02}")]);
        assert_eq!(numbers(&format!("{}{key:02}", body.to_lowercase())), [format!("{body}{key:02}")]);
        assert_eq!(numbers(&format!("1 85 05 {letter} 004 123 {key:02}")), [format!("{body}{key:02}")]);
    }
}

#[test]
fn every_usual_separator_is_read() {
    for text in [
        "185057864608497",
        "1 85 05 78 646 084 97",
        "1\u{a0}85\u{a0}05\u{a0}78\u{a0}646\u{a0}084\u{a0}97",
        "1\u{202f}85\u{2009}05\u{202f}78 646\u{a0}084 97",
        "1.85.05.78.646.084.97",
        "1-85-05-78-646-084-97",
        "1 85 05 78 646 084 / 97",
        "1850578646084 97",
        "1850578646084-97",
        "1850578646084 clé 97",
        "1850578646084 (clé : 97)",
        "1 8505 78646084 97",
        "1 85 05 78646 084 97",
        "1 8 5 0 5 7 8 6 4 6 0 8 4 9 7",
        "NIR185057864608497",
        "ligne 12 : 3 1 85 05 78 646 084 97 x",
        "PID|||185057864608497^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.8&ISO^INS",
        "<id extension=\"185057864608497\" root=\"1.2.250.1.213.1.4.8\"/>",
        "185057864608497@patient.mssante.fr",
        "2026-185057864608497.pdf",
        "a,185057864608497,b",
        "n°185057864608497.",
    ] {
        assert_eq!(numbers(text), [REAL], "{text}");
    }
}

#[test]
fn overseas_and_foreign_births_are_read() {
    for body in ["1850597411084", "2991298818001", "1850599109084", "1500596001084", "2210693012345"] {
        assert_eq!(numbers(&with_key(body)), [with_key(body)], "{body}");
    }
    let reunion = with_key("1850597411084");
    assert_eq!(numbers(&format!("1 85 05 974 11 084 {}", &reunion[BODY..])), [reunion]);
}

#[test]
fn other_numbers_are_left_alone() {
    for text in [
        // OIDs, versions, decimals.
        "1.2.250.1.213.1.4.8",
        "1.3.6.1.4.1.12559.11.36.8.3.19",
        "2.16.840.1.113883.2.8.3.1.185057864608497",
        "1.85057864608497",
        "0.185057864608497",
        "0,185057864608497",
        "185057864608497.25",
        // Longer runs and words.
        "9185057864608497",
        "1850578646084973",
        "a185057864608497",
        "185057864608497f",
        "FR76 1850 5786 4608 4974 3567 890",
        "FR7618505786460849743567890",
        // Cards (Luhn), SIRET (Luhn), telephones, barcodes, moments.
        "371449635398431",
        "3714 496353 98431",
        "4970 1012 3456 7890",
        "732 829 320 00074",
        "73282932000074",
        "01 85 05 78 64",
        "+33 1 85 05 78 64",
        "3017620422003",
        "1740123456789",
        "20250930124406137",
        "2025-09-30T12:44:06.137",
        "30/09/2025 12:44",
        // Structure: month 13, département 00, commune 000 and 991, order 000, sex 5.
        &with_key("1851378646084"),
        &with_key("1850500646084"),
        &with_key("1850578000084"),
        &with_key("1850578991084"),
        &with_key("1850578646000"),
        &with_key("5850578646084"),
        // A wrong key.
        "185057864608471",
        "NIR : 185057864608471",
        "NIR : 1 85 05 78 646 084 71",
        // Cut elsewhere than between fields.
        "18 50 57 86 46 08 497",
        "185 057 864 608 497",
        "1850-5786-4608-497",
        "",
    ] {
        assert_eq!(numbers(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn temporary_numbers_and_unknown_months_need_groups_or_a_word() {
    for body in ["3850578646084", "4850578646084", "7850578646084", "8850578646084", "1852078646084", "1855078646084", "2859978646084"] {
        let number = with_key(body);
        let grouped = format!(
            "{} {} {} {} {} {} {}",
            &number[..1],
            &number[1..3],
            &number[3..5],
            &number[5..7],
            &number[7..10],
            &number[10..13],
            &number[13..]
        );
        assert_eq!(numbers(&number), Vec::<String>::new(), "{number}");
        assert_eq!(numbers(&grouped), [number.as_str()]);
        assert_eq!(numbers(&format!("matricule INS : {number}")), [number.as_str()]);
        assert_eq!(numbers(&format!("{number}^^^&1.2.250.1.213.1.4.9&ISO^INS")), [number]);
    }
}

#[test]
fn thirteen_characters_need_a_word_that_names_them() {
    let body = &REAL[..BODY];
    for text in [
        "NIR : {}",
        "N° de sécurité sociale {}",
        "Numéro de Securité Sociale : {}",
        "n° de sécu : {}",
        "Matricule INS {}",
        "numeroSecu={}",
        "{\"ins\": \"{}\"}",
        "NIR {} 12/03/2024",
        "NIR 1 85 05 78 646 084 75011 Paris",
        "{}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.8&ISO^INS",
    ] {
        assert_eq!(numbers(&text.replacen("{}", body, 1)), [body], "{text}");
    }
    for text in ["{}", "facture {}", "INS gencod {}", "NIR du 12 mars, dossier {}", "INS timestamp={}", "NIR : {}5", "secure {}"] {
        assert_eq!(numbers(&text.replacen("{}", body, 1)), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn test_identities_are_told_apart_by_number_prefix_and_authority() {
    let is_test = |text: &str, policy: &PrivacyPolicy| seen(text, policy).iter().map(|h| h.is_test).collect::<Vec<_>>();
    assert_eq!(is_test(TEST, &policy()), [true]);
    assert_eq!(is_test(&format!("NIR {}", &TEST[..BODY]), &policy()), [true]);
    assert_eq!(is_test(REAL, &policy()), [false]);
    assert_eq!(is_test(&format!("{REAL}^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS"), &policy()), [true]);
    assert_eq!(is_test(&format!("root=\"1.2.250.1.213.1.4.11\" extension=\"{REAL}\""), &policy()), [true]);
    // Another authority of the same arc, a longer arc, or a real one beside it: real.
    assert_eq!(is_test(&format!("{REAL}^^^&1.2.250.1.213.1.4.100&ISO"), &policy()), [false]);
    assert_eq!(
        is_test(&format!("root=\"1.2.250.1.213.1.4.10\" extension=\"x\"/> {REAL} root=\"1.2.250.1.213.1.4.8\""), &policy()),
        [false]
    );
    let hl7 = format!("{TEST}^^^&1.2.250.1.213.1.4.10&ISO^INS~{REAL}^^^&1.2.250.1.213.1.4.8&ISO^INS");
    assert_eq!(is_test(&hl7, &policy()), [true, false]);
    let declared = PrivacyPolicy { test_prefixes: vec!["1 85 05 786".into(), String::new()], ..policy() };
    assert_eq!(is_test(REAL, &declared), [true]);
    assert_eq!(is_test("NIR 2 69 05 49 588 157 80", &PrivacyPolicy { test_numbers: vec![], ..policy() }), [false]);
}

#[test]
fn the_mask_keeps_sex_and_year_only() {
    assert_eq!(mask(REAL), "1 85 ** ** *** *** **");
    assert_eq!(mask(&REAL[..BODY]), "1 85 ** ** *** ***");
    let text = format!("é{REAL}, {TEST}; NIR:1 85 05 78 646 084 97");
    // A letter before it makes the first one part of a longer word.
    assert_eq!(masked_text(&text, &policy()), Some(format!("é{REAL}, {TEST}; NIR:1 85 ** ** *** *** **")));
    assert_eq!(masked_text("rien", &policy()), None);
    assert_eq!(masked_text(TEST, &policy()), None);
}

fn chunk(place: Place, text: &str) -> TextChunk {
    TextChunk { place, text: text.into() }
}

fn sheet(values: Vec<(u32, u32, CellValue)>) -> Facts {
    let sheets = vec![SheetFacts { name: "Patients".into(), values, ..SheetFacts::default() }];
    Facts { detail: Some(Detail::Workbook(WorkbookFacts { sheets, ..WorkbookFacts::default() })), ..Facts::default() }
}

fn text(value: &str) -> CellValue {
    CellValue::Text(value.into())
}

fn found(name: &str, facts: &Facts) -> Vec<(String, Place, u64)> {
    signals(name, Some(facts), &policy(), &Work::unbounded()).into_iter().map(|s| (s.code.to_string(), s.place, s.more)).collect()
}

fn nir(place: Place) -> (String, Place, u64) {
    ("privacy-nir".into(), place, 0)
}

#[test]
fn a_number_is_said_once_at_its_first_page() {
    let facts = Facts {
        text: vec![
            chunk(Place::page(2), &format!("x {REAL} y {REAL}")),
            chunk(Place::page(3), "1 85 05 78 646 084 97"),
            chunk(Place::page(4), TEST),
        ],
        ..Facts::default()
    };
    assert_eq!(found("a.pdf", &facts), [("privacy-nir".into(), Place::page(2), 2), ("privacy-test-nir".into(), Place::page(4), 0)]);
}

#[test]
fn cells_are_read_as_text_as_numbers_under_a_header_and_beside_their_key() {
    let key = CellValue::Number(97.0);
    let facts =
        sheet(vec![(1, 1, text("NIR")), (1, 2, text("Nom")), (2, 1, CellValue::Number(1_850_578_646_084.0)), (2, 2, text("DUPONT"))]);
    assert_eq!(found("a.xlsx", &facts), [nir(Place::cell("Patients", "A2"))]);
    for value in [text("185057864608497"), CellValue::Number(185_057_864_608_497.0), text("Patient 1 85 05 78 646 084 97")] {
        assert_eq!(found("a.xlsx", &sheet(vec![(9, 28, value)])), [nir(Place::cell("Patients", "AB9"))]);
    }
    let beside = sheet(vec![(2, 1, CellValue::Number(1_850_578_646_084.0)), (2, 2, key.clone())]);
    assert_eq!(found("a.xlsx", &beside), [nir(Place::cell("Patients", "A2"))]);
    let left = sheet(vec![(2, 1, text("N° INS")), (2, 2, text("1850578646084"))]);
    assert_eq!(found("a.xlsx", &left), [nir(Place::cell("Patients", "B2"))]);
    for nothing in [
        vec![(2, 1, CellValue::Number(1_850_578_646_084.0)), (2, 3, key.clone())],
        vec![(2, 1, CellValue::Number(1_850_578_646_084.0)), (3, 2, key.clone())],
        vec![(2, 1, CellValue::Number(1_850_578_646_084.0)), (2, 2, CellValue::Number(71.0))],
        vec![(1, 1, text("EAN")), (2, 1, CellValue::Number(1_850_578_646_084.0))],
        vec![(1, 1, CellValue::Number(185_057_864_608_497.5)), (1, 2, CellValue::Number(f64::NAN)), (1, 3, CellValue::Number(1e300))],
        vec![(u32::MAX, u32::MAX, CellValue::Number(1_850_578_646_084.0))],
    ] {
        assert_eq!(found("a.xlsx", &sheet(nothing.clone())), [], "{nothing:?}");
    }
}

#[test]
fn the_text_of_a_workbook_does_not_repeat_its_cells() {
    let mut facts = sheet(vec![(1, 1, text(REAL))]);
    facts.text.push(chunk(Place::default(), &format!("Patients {REAL}")));
    assert_eq!(found("a.xlsx", &facts), [nir(Place::cell("Patients", "A1"))]);
}

#[test]
fn metadata_bookmarks_names_and_members_are_read_and_names_never_shown() {
    let inner = Facts { metadata: BTreeMap::from([("title".into(), format!("Dossier {REAL}"))]), ..Facts::default() };
    let members = vec![MemberFacts { name: format!("x/{REAL}.pdf"), facts: Some(Box::new(inner)), ..MemberFacts::default() }];
    let archive = Facts { detail: Some(Detail::Archive(ArchiveFacts { members, ..ArchiveFacts::default() })), ..Facts::default() };
    let shown = "x/1 85 ** ** *** *** **.pdf";
    assert_eq!(
        found("patient_185057864608497.zip", &archive),
        [("privacy-nir-name".into(), Place::default(), 1), nir(Place::part("title").inside(shown))]
    );
    let outline = vec![OutlineEntry { level: 0, title: REAL.into(), page: Some(7) }];
    let pdf = Facts { detail: Some(Detail::Pdf(PdfFacts { outline, ..PdfFacts::default() })), ..Facts::default() };
    assert_eq!(found("a.pdf", &pdf), [nir(Place::page(7))]);
    let by_key = Facts { metadata: BTreeMap::from([("NIR".into(), REAL[..BODY].into())]), ..Facts::default() };
    assert_eq!(found("a.docx", &by_key), [nir(Place::part("NIR"))]);
}

#[test]
fn a_file_of_patients_is_counted_not_kept() {
    let number = |n: u32| with_key(&format!("1850578646{n:03}"));
    let all: Vec<String> = (1..=100).map(number).collect();
    let facts = Facts { text: vec![chunk(Place::line(1), &all.join(" ; "))], ..Facts::default() };
    let signals = signals("a.txt", Some(&facts), &policy(), &Work::unbounded());
    assert_eq!(signals.len(), MAX_SIGNALS_PER_CODE);
    assert_eq!(signals.iter().map(|s| 1 + s.more).sum::<u64>(), 100);
}

/// A report with the number in every field that takes text from outside.
fn report_full_of(number: &str) -> Report {
    let mut facts = sheet(vec![
        (1, 1, text("NIR")),
        (2, 1, CellValue::Number(185_057_864_608_497.0)),
        (3, 1, text(number)),
        (4, 1, CellValue::Number(1_850_578_646_084.0)),
        (4, 2, CellValue::Number(97.0)),
    ]);
    if let Some(Detail::Workbook(workbook)) = &mut facts.detail {
        workbook.sheets[0].name = format!("F {number}");
    }
    facts.identification.basis = format!("part {number}");
    facts.text.push(chunk(Place { sheet: Some(number.into()), ..Place::default() }, &format!("a {number} b")));
    facts.metadata.insert(format!("clé {number}"), format!("v {number}"));
    facts.push(Signal::new("file-name-unsafe").at(Place::member(format!("{number}.pdf"))).arg("name", number));
    let outline = vec![OutlineEntry { level: 0, title: number.into(), page: None }];
    let signature = crate::model::facts::SignatureFacts { name: Some(number.into()), ..Default::default() };
    let pdf =
        Facts { detail: Some(Detail::Pdf(PdfFacts { outline, signatures: vec![signature], ..PdfFacts::default() })), ..Facts::default() };
    let members = [facts, pdf].map(|f| MemberFacts { name: format!("{number}/a"), facts: Some(Box::new(f)), ..MemberFacts::default() });
    let archive =
        Facts { detail: Some(Detail::Archive(ArchiveFacts { members: members.into(), ..ArchiveFacts::default() })), ..Facts::default() };
    let mut item = fixtures::item("a", number, &format!("{number}.zip"), "aa");
    item = fixtures::with_signal(item, Signal::new("file-name-unsafe").at(Place::part(number)).arg("name", number));
    item.facts = Some(Arc::new(archive));
    let mut report = fixtures::report(1, vec![item]);
    report.findings = report.items[0].findings.clone();
    report.obsolete_versions.push(crate::model::report::ObsoleteRow {
        item: "a".into(),
        sheet: number.into(),
        row: 1,
        values: BTreeMap::from([("v".into(), number.into())]),
        unread: BTreeMap::from([("w".into(), number.into())]),
    });
    report.documentation.push(crate::model::report::TopicMention {
        topic: "t".into(),
        title: Text::default(),
        count: 1,
        places: vec![("a".into(), Place::part(number))],
    });
    report
}

#[test]
fn after_redaction_the_report_holds_the_number_nowhere() {
    let mut report = report_full_of(REAL);
    let before = serde_json::to_string(&report).unwrap();
    assert!(before.matches(REAL).count() > 20);
    redact_report(&mut report, &policy(), &Work::unbounded());
    let after = serde_json::to_string(&report).unwrap();
    assert!(!after.contains(REAL) && !after.contains(&REAL[..BODY]), "{after}");
    assert!(after.contains("1 85 ** ** *** *** **"));
    // And again: nothing is left to mask.
    let mut again = report.clone();
    redact_report(&mut again, &policy(), &Work::unbounded());
    assert_eq!(again, report);
}

#[test]
fn a_gazelle_report_is_masked_too() {
    let json = serde_json::json!({
        "generation": "gvr-xml", "sub_reports": [{ "name": REAL, "sub_reports": [{ "name": format!("PID|{REAL}^") }] }], "metadata": { "k": REAL },
    });
    let Ok(mut report) = serde_json::from_value::<GazelleReport>(json) else { panic!("the sample follows the model") };
    redact_gazelle(&mut report, &Counted { policy: &policy(), work: &Work::unbounded() });
    let after = serde_json::to_string(&report).unwrap();
    assert!(!after.contains(REAL) && after.matches("1 85 ** ** *** *** **").count() == 3, "{after}");
}

#[test]
fn redaction_leaves_test_identities_and_everything_else_as_it_was() {
    let mut report = report_full_of(TEST);
    if let Some(Detail::Archive(archive)) = report.items[0].facts.as_mut().and_then(|f| Arc::make_mut(f).detail.as_mut())
        && let Some(Detail::Workbook(workbook)) = archive.members[0].facts.as_mut().and_then(|f| f.detail.as_mut())
    {
        workbook.sheets[0].values.retain(|(_, _, v)| matches!(v, CellValue::Text(_)));
    }
    let before = report.clone();
    redact_report(&mut report, &policy(), &Work::unbounded());
    assert_eq!(report, before);
}

#[test]
fn ids_made_of_names_are_masked_and_stay_different() {
    use crate::model::submission::{Content, LinkRef};
    let other = with_key("1850578646085");
    let item =
        |id: String| Item { id, filed_under: FiledUnder::Slot(String::new()), content: Content::Link(LinkRef { url: String::new() }) };
    let mut items = [REAL, &other, "plain"].map(|n| item(format!("d/{n}.png")));
    mask_ids(&mut items, &policy());
    assert_eq!(items.map(|i| i.id), ["d/1 85 ** ** *** *** **.png", "d/1 85 ** ** *** *** **.png~2", "d/plain.png"]);
}

#[test]
fn columns_have_the_names_of_spreadsheets() {
    assert_eq!([a1(1, 1), a1(2, 26), a1(3, 27), a1(1_048_576, 16384)], ["A1", "Z2", "AA3", "XFD1048576"]);
}

proptest! {
    #[test]
    fn fifteen_digits_match_exactly_when_structure_and_key_are_right(number in "[0-9]{15}") {
        let part = |from: usize, to: usize| number[from..to].parse::<u32>().unwrap();
        let place = match part(5, 7) {
            0 => false,
            97 | 98 => (1..=90).contains(&part(8, 10)),
            _ => (1..=990).contains(&part(7, 10)),
        };
        let expected = matches!(part(0, 1), 1 | 2) && (1..=12).contains(&part(3, 5)) && place && part(10, 13) > 0
            && key_of(&number[..BODY]) == part(13, 15);
        prop_assert_eq!(!numbers(&number).is_empty(), expected);
    }

    #[test]
    fn a_right_number_is_found_in_any_grouping_and_surrounding(
        sex in 1u32..=2, year in 0u32..100, month in 1u32..=12, department in 1u32..=95, commune in 1u32..=990, order in 1u32..=999,
        cuts in proptest::collection::vec(any::<bool>(), 6), space in proptest::sample::select(vec![" ", "\u{a0}", "\u{202f}", "\u{2009}"]),
        before in "[a-zé ]{0,10}[ :(\"«]", after in "([ ,;)\"»][a-zé ]{0,10})?",
    ) {
        let fields = [format!("{sex}"), format!("{year:02}"), format!("{month:02}"), format!("{department:02}"), format!("{commune:03}"), format!("{order:03}")];
        let number = with_key(&fields.concat());
        let mut written = String::new();
        for (field, cut) in fields.iter().zip(&cuts) {
            written.push_str(field);
            if *cut {
                written.push_str(space);
            }
        }
        written.push_str(&number[BODY..]);
        let text = format!("{before}{written}{after}");
        prop_assert_eq!(numbers(&text), [number.clone()]);
        let masked = masked_text(&text, &policy()).unwrap();
        prop_assert!(!masked.contains(&written));
        prop_assert!(masked.starts_with(&before) && masked.ends_with(&after));
    }

    #[test]
    fn arbitrary_text_never_panics_and_masking_leaves_nothing(text in "(\\PC|[0-9 .\u{a0}AB]){0,120}") {
        if let Some(masked) = masked_text(&text, &policy()) {
            prop_assert_eq!(masked_text(&masked, &policy()), None);
        }
    }

    #[test]
    fn a_wrong_key_is_no_number(body in "[12][0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[1-8][0-9])[0-8][0-9][1-9][0-9]{2}[1-9]", wrong in 1u32..97) {
        let key = (key_of(&body) - 1 + wrong) % 97 + 1;
        prop_assert_eq!(numbers(&format!("{body}{key:02}")), Vec::<String>::new());
    }

    #[test]
    fn names_and_contexts_never_panic(name in "\\PC{0,60}", key in "\\PC{0,40}", value in "\\PC{0,60}") {
        let facts = Facts { metadata: BTreeMap::from([(key, value)]), ..Facts::default() };
        let _ = signals(&name, Some(&facts), &policy(), &Work::unbounded());
    }
}

#[test]
fn a_number_does_not_hide_behind_typography() {
    let shown = "1 85 ** ** *** *** **";
    let between = |piece: &str| REAL.chars().map(String::from).collect::<Vec<_>>().join(piece);
    let digits = |zero: u32| REAL.bytes().filter_map(|b| char::from_u32(zero + u32::from(b - b'0'))).collect::<String>();
    let mut hidden: Vec<String> =
        ["\u{AD}", "\u{200B}", "\u{200C}", "\u{200D}", "\u{2060}", "\u{FEFF}", "\u{200E}", "\u{FE0F}", "\u{FFFD}"].map(between).into();
    hidden.extend([0xFF10, 0x660, 0x966, 0x1D7CE, 0x2080].map(digits));
    hidden.push(REAL.replacen("7", "\u{AD}７\u{200B}", 1));
    hidden.extend(
        ["\u{A0}", "\u{2009}", "\u{202F}", "\u{2007}", "\u{3000}", "\u{2800}"].map(|s| ["1", "85", "05", "78", "646", "084", "97"].join(s)),
    );
    hidden.push("１\u{A0}８５\u{A0}０５\u{A0}７８\u{A0}６４６\u{A0}０８４\u{A0}９７".into());
    for number in hidden {
        let text = format!("é {number} suite");
        assert_eq!(numbers(&text), [REAL], "{number:?}");
        assert_eq!(masked_text(&text, &policy()), Some(format!("é {shown} suite")), "{number:?}");
        // A name says what it is by a number that stands alone in it.
        assert_eq!(masked_text(&number, &policy()).as_deref(), Some(shown));
    }
    let label = format!("N\u{AD}I\u{AD}R : {}", &REAL[..BODY]);
    assert_eq!(numbers(&label), [&REAL[..BODY]]);
}

#[test]
fn what_was_found_as_written_is_still_found() {
    // The invisible character parts the number from a digit; both readings count.
    assert_eq!(numbers(&format!("7\u{200B}{REAL}")), [REAL]);
    assert_eq!(numbers(&format!("{REAL} puis \u{200B}{REAL}\u{AD}, {REAL}")), [REAL, REAL, REAL]);
}

fn row(values: &[CellValue]) -> Vec<(u32, u32, CellValue)> {
    values.iter().enumerate().map(|(n, value)| (5, n as u32 + 2, value.clone())).collect()
}

#[test]
fn a_number_spread_over_adjacent_cells_is_found_at_the_first_and_masked_in_all() {
    let texts = |pieces: &[&str]| row(&pieces.iter().map(|p| text(p)).collect::<Vec<_>>());
    let fields = texts(&["1", "85", "05", "78", "646", "084", "97"]);
    let groups = texts(&["185057", "8646", "084", "97"]);
    let single: Vec<String> = REAL.chars().map(String::from).collect();
    let single = texts(&single.iter().map(String::as_str).collect::<Vec<_>>());
    let full_width = texts(&["１", "８５", "0\u{200B}5", "78", "646", "084", "97"]);
    let numbers = [1.0, 85.0, 5.0, 78.0, 646.0, 84.0, 97.0].map(CellValue::Number);
    let mut named = vec![(5, 1, text("N° de sécurité sociale"))];
    named.extend(row(&numbers));
    for values in [fields, full_width, single, named] {
        let mut facts = sheet(values.clone());
        assert_eq!(found("a.xlsx", &facts), [nir(Place::cell("Patients", "B5"))], "{values:?}");
        redact(&mut facts, &Counted { policy: &policy(), work: &Work::unbounded() });
        assert_eq!(found("a.xlsx", &facts), []);
        let cells: Vec<String> = facts.workbook().unwrap().sheets[0].values.iter().map(|(.., v)| format!("{v:?}")).collect();
        assert!(cells.contains(&"Text(\"1 85 ** ** *** *** **\")".to_owned()), "{cells:?}");
        let pieces = values.iter().filter(|(_, column, _)| *column >= 2).count();
        assert_eq!(cells.iter().filter(|c| c.contains("**")).count(), pieces, "{cells:?}");
    }
    // Cut where no field ends.
    assert_eq!(found("a.xlsx", &sheet(groups)), []);
    // Nothing names them, or the key is wrong, or another column stands between.
    let wrong = texts(&["1", "85", "05", "78", "646", "084", "96"]);
    let mut apart = row(&["1", "85", "05", "78", "646", "084"].map(text));
    apart.push((5, 9, text("97")));
    for nothing in [row(&numbers), wrong, apart] {
        assert_eq!(found("a.xlsx", &sheet(nothing.clone())), [], "{nothing:?}");
    }
    // Scores from 0 to 9, one a column: a key by chance is no number where more columns follow.
    let scores: Vec<CellValue> = REAL.bytes().chain(*b"3").map(|b| CellValue::Number(f64::from(b - b'0'))).collect();
    assert_eq!(found("a.xlsx", &sheet(row(&scores))), []);
}

proptest! {
    #[test]
    fn typography_makes_no_number_of_digits_without_a_key(digits in "[0-9]{13,20}", piece in proptest::sample::select(vec!["", "\u{AD}", "\u{200B}", "\u{A0}"]), zero in proptest::sample::select(vec![0x30u32, 0xFF10, 0x660])) {
        let is_number = |n: &[u8]| {
            let n = std::str::from_utf8(n).unwrap();
            key_of(&n[..BODY]) == n[BODY..].parse::<u32>().unwrap()
        };
        // Where white space parts them, any fifteen may be one.
        prop_assume!(!digits.as_bytes().windows(WHOLE).any(is_number));
        let written: Vec<String> = digits.bytes().filter_map(|b| char::from_u32(zero + u32::from(b - b'0'))).map(String::from).collect();
        prop_assert_eq!(numbers(&written.join(piece)), Vec::<String>::new());
    }

    #[test]
    fn masking_what_is_seen_leaves_nothing(text in "(\\PC|[0-9０-９٠-٩ .\u{a0}\u{ad}\u{200b}\u{fffd}AB]){0,120}") {
        if let Some(masked) = masked_text(&text, &policy()) {
            prop_assert_eq!(masked_text(&masked, &policy()), None);
        }
    }
}
