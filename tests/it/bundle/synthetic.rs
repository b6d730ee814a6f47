//! An invented candidature with the shape of a real one: 8 chapters, 239 proofs, every verdict, every kind of file,
//! and names that nobody should trust. Shared by the integration tests and by `examples/demo_bundle.rs`.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use greffier::bundle::{Payload, PayloadSource, Preview};
use greffier::model::facts::{
    ArchiveFacts, Detail, ImageFacts, MemberFacts, PageFacts, PdfFacts, TextChunk, TextFacts, TrackFacts, TrackKind, VideoFacts,
};
use greffier::model::finding::Arg;
use greffier::model::report::{
    ChapterReport, ItemReport, ObsoleteColumn, ObsoleteRow, PipelineRef, PreuveReport, Report, SCHEMA, SlotReport, TopicMention, Totals,
};
use greffier::model::submission::{Candidature, ChangeRequest, FiledUnder, Stage};
use greffier::model::{Category, Code, Facts, Finding, Format, Place, Severity, Text, Verdict};
use sha2::{Digest, Sha256};

/// A file name that is markup, breaks lines, turns text around and looks like a formula.
pub const HOSTILE: &str =
    "=<img src=x onerror=\"document.title='pwned'\">\u{202e}gnp.\r\n</script><script>document.title='pwned'</script>.png";

const CHAPTERS: [(&str, &str, &str, &str, usize); 8] = [
    ("ins", "INS", "Gestion de l'Identité Nationale de Santé", "Management of the national health identity", 81),
    ("dmp", "DMP/UX", "Consultation et Alimentation du DMP / Mon espace santé", "Reading and feeding the shared medical record", 35),
    ("mss", "MSS", "Gestion de la MSSanté", "Secure health messaging", 56),
    ("ssi", "SSI", "Sécurité des SI", "Security of information systems", 10),
    ("psc", "IDENT", "Identification électronique & ProSanté Connect", "Electronic identification & ProSanté Connect", 7),
    ("doc", "PARTAGE", "Gestion et partage des documents de santé", "Management and sharing of health documents", 37),
    ("autres", "AF", "Autres fonctionnalités", "Other functions", 7),
    ("socles", "ORDN/CONF", "Conformité aux autres services socles", "Conformity to other core services", 6),
];

/// Payload in memory, by item id.
#[derive(Default)]
pub struct Memory(pub BTreeMap<String, Vec<u8>>);

impl PayloadSource for Memory {
    fn open(&self, item: &str) -> io::Result<Payload<'_>> {
        let bytes = self.0.get(item).ok_or(io::ErrorKind::NotFound)?;
        Ok(Payload { reader: Box::new(Cursor::new(bytes)), size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) })
    }
}

/// A finding with texts of its own.
pub fn finding(code: &str, category: Category, severity: Severity, place: Place) -> Finding {
    Finding {
        code: Code::parse(code),
        severity,
        category,
        place,
        summary: Text::new(
            match severity {
                Severity::Error => "Le document est protégé par un mot de passe",
                Severity::Warning => "La page semble être une image numérisée sans texte",
                Severity::Fatal => "Le contrôle n'a pas pu être mené à terme",
                Severity::Notice => "Le document porte le nom de son auteur",
            },
            match severity {
                Severity::Error => "The document is protected by a password",
                Severity::Warning => "The page looks like a scan without text",
                Severity::Fatal => "The check could not be completed",
                Severity::Notice => "The document holds its author's name",
            },
        ),
        reason: Text::new(
            "Le fichier demande un mot de passe pour être lu (chiffrement AES, clé de 256 bits).",
            "The file asks for a password before it can be read (AES encryption, 256-bit key).",
        ),
        remedy: Text::new(
            "Dans Word : Fichier > Informations > Protéger le document > Chiffrer avec mot de passe, effacez le mot de passe, puis enregistrez et déposez à nouveau.",
            "In Word: File > Info > Protect Document > Encrypt with Password, clear the password, then save and deposit again.",
        ),
        args: BTreeMap::from([("bits".to_owned(), Arg::Int(256))]),
        more: 0,
    }
}

/// One item with these bytes, and the bytes in `memory`.
pub fn item(memory: &mut Memory, id: &str, filed_under: FiledUnder, name: &str, bytes: Vec<u8>) -> ItemReport {
    let item = ItemReport {
        id: id.to_owned(),
        filed_under,
        name: name.to_owned(),
        link: false,
        sha256: Some(hex::encode(Sha256::digest(&bytes))),
        size: Some(bytes.len() as u64),
        verdict: Verdict::Accepted,
        findings: vec![],
        path: None,
        withheld: None,
        facts: Some(Facts::of_size(bytes.len() as u64).into()),
        facts_of: None,
        gazelle: None,
    };
    memory.0.insert(id.to_owned(), bytes);
    item
}

/// A report with nothing in it.
pub fn empty() -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        id: "0f".repeat(32),
        producer: "greffier 0.1.0, inspectors 1".to_owned(),
        pipeline: PipelineRef {
            id: "lgc-vague-2".into(),
            version: "2026-01".into(),
            title: Text::new("LGC vague 2", "LGC wave 2"),
            profiles: Default::default(),
            sha256: "ab".repeat(32),
            catalogue_version: "0.1-invente".into(),
            catalogue_source: "libellés inventés".into(),
        },
        candidature: Candidature {
            number: "IZCYKCWXGY".into(),
            company: Some("Éditeur de démonstration SAS".into()),
            product: Some("MédiLogiciel".into()),
            version: Some("12.4".into()),
            profiles: vec!["general".into(), "ciba".into()],
            referenced_vague_1: Some(false),
            identifiers: BTreeMap::from([("nie".into(), "E-8954230".into()), ("nil".into(), "324294731".into())]),
        },
        stage: Stage::Dossier,
        revision: 1,
        submitted_at: Some("2026-02-18T16:42:10+01:00".into()),
        verdict: Verdict::Accepted,
        findings: vec![],
        items: vec![],
        chapters: vec![],
        preuves: vec![],
        slots: vec![],
        obsolete_versions: vec![],
        obsolete_columns: vec![],
        documentation: vec![],
        round: None,
        limitations: vec![],
        totals: Totals::default(),
    }
}

/// The whole candidature, its bytes, and previews.
pub fn candidature() -> (Report, Memory, BTreeMap<String, Vec<Preview>>) {
    let mut report = empty();
    let mut memory = Memory::default();
    let mut previews = BTreeMap::new();

    for (id, fr, en, required) in [
        ("documentation", "Documentation du produit", "Product documentation", true),
        ("versions-obsoletes", "Versions obsolètes", "Obsolete versions", false),
        ("cnda", "Justificatif CNDA", "CNDA proof", true),
    ] {
        let mut slot = SlotReport { id: id.into(), title: Text::new(fr, en), required, items: vec![], verdict: None };
        if id != "cnda" {
            let item_id = format!("slot-{id}");
            let mut item =
                item(&mut memory, &item_id, FiledUnder::Slot(id.into()), &format!("{fr}.pdf"), format!("%PDF-1.7 {id}").into_bytes());
            describe(&mut item, 0);
            slot.items.push(item_id);
            slot.verdict = Some(item.verdict);
            report.items.push(item);
        }
        report.slots.push(slot);
    }

    let mut n = 0_usize;
    for (chapter, prefix, fr, en, count) in CHAPTERS {
        let mut of_chapter = ChapterReport {
            id: chapter.into(),
            title: Text::new(fr, en),
            expected: count as u32,
            provided: 0,
            rejected: 0,
            warned: 0,
            undetermined: 0,
        };
        for k in 0..count {
            n += 1;
            let (exigence, scenario) = (format!("{prefix}.{:02}", k / 6 + 1), format!("{prefix}.{:02}.{:02}", k / 6 + 1, k % 6 / 3 + 1));
            let id = format!("{scenario}.{:02}", k % 3 + 1);
            let mut preuve = PreuveReport {
                id: id.clone(),
                title: format!("Copies d'écran ou capture vidéo montrant le résultat attendu n°{n} (libellé inventé)"),
                chapter: chapter.into(),
                exigence,
                exigence_title: "Le système DOIT permettre à l'utilisateur de réaliser l'opération décrite, dans les conditions du référentiel (libellé inventé).".into(),
                scenario,
                scenario_title: "L'utilisateur réalise l'opération sur un dossier de test\n1. Ouvrir le dossier d'un patient de test\n2. Lancer l'opération depuis le menu principal\n3. Constater que l'identité affichée est qualifiée\n4. Constater que l'opération est tracée, avec sa date et son auteur".into(),
                criticite: ["Majeure", "Critique", "Mineure"][n % 3].into(),
                conditional: n.is_multiple_of(41),
                items: vec![],
                verdict: None,
            };
            if !n.is_multiple_of(37) && !n.is_multiple_of(41) {
                for copy in 0..(1 + usize::from(n.is_multiple_of(5))) {
                    let item_id = format!("p{n:03}-{copy}");
                    let name = match n {
                        7 => HOSTILE.to_owned(),
                        13 => "nul.txt".to_owned(),
                        14 => "installateur.exe".to_owned(),
                        _ if n.is_multiple_of(4) => format!("Démonstration {id} (vidéo).mp4"),
                        _ if n.is_multiple_of(3) => format!("Attestation sur l'honneur n°{n}.pdf"),
                        _ if n.is_multiple_of(11) => format!("IHE_XDM {n}.zip"),
                        _ => format!("Écran {} – {id}.png", copy + 1),
                    };
                    let mut item = item(
                        &mut memory,
                        &item_id,
                        FiledUnder::Preuve(id.clone()),
                        &name,
                        format!("octets de {item_id} ").repeat(20 + n % 7).into_bytes(),
                    );
                    describe(&mut item, n);
                    if n % 47 == 5 {
                        item.link = true;
                        item.sha256 = None;
                        item.size = None;
                        item.facts = None;
                        item.name = "https://interop.esante.gouv.fr/evs/report.seam?oid=1.3.6.1.4.1.12559.11.36.9&privacyKey=…".into();
                        item.gazelle = Some(gazelle_passed());
                        memory.0.remove(&item_id);
                    } else if matches!(item.facts.as_ref().and_then(|f| f.format), Some(Format::Png)) && n.is_multiple_of(2) {
                        previews.insert(item_id.clone(), vec![Preview { bytes: picture(n), caption: None }]);
                    } else if matches!(item.facts.as_ref().and_then(|f| f.format), Some(Format::Mp4)) && n.is_multiple_of(8) {
                        let frame = |s: usize| Preview {
                            bytes: picture(n + s),
                            caption: Some(Text::new(format!("0:{s:02}"), format!("0:{s:02}"))),
                        };
                        previews.insert(item_id.clone(), vec![frame(0), frame(20), frame(40)]);
                    }
                    preuve.items.push(item_id);
                    preuve.verdict = Some(match preuve.verdict {
                        Some(Verdict::Rejected) => Verdict::Rejected,
                        _ => item.verdict,
                    });
                    report.items.push(item);
                }
                of_chapter.provided += 1;
                match preuve.verdict {
                    Some(Verdict::Rejected) => of_chapter.rejected += 1,
                    Some(Verdict::AcceptedWithWarnings) => of_chapter.warned += 1,
                    Some(Verdict::Undetermined) => of_chapter.undetermined += 1,
                    _ => {}
                }
            }
            report.preuves.push(preuve);
        }
        report.chapters.push(of_chapter);
    }
    let mut stray = item(&mut memory, "stray", FiledUnder::Preuve("XYZ/99.01.01".into()), "inconnu.pdf", b"%PDF-1.4 ?".to_vec());
    stray.verdict = Verdict::AcceptedWithWarnings;
    stray.findings.push(finding("submission-unknown-preuve", Category::Surplus, Severity::Warning, Place::default()));
    report.items.push(stray);

    report.verdict = Verdict::Rejected;
    report.findings = vec![finding("deadline-near", Category::Deadline, Severity::Warning, Place::default())];
    for (row, version, end) in [(4, "10.1", "2024-06-30"), (5, "11.0", "2025-12-31"), (6, "<b>11.2</b>", "=1+1")] {
        report.obsolete_versions.push(ObsoleteRow {
            item: "slot-versions-obsoletes".into(),
            sheet: "Feuil1".into(),
            row,
            values: BTreeMap::from([
                ("version".into(), version.into()),
                ("date-fin".into(), end.into()),
                ("type-de-fin".into(), "Fin de maintenance".into()),
            ]),
            unread: BTreeMap::from([("date-fin-support".into(), if row == 4 { "fin <b>2023" } else { "" }.into())]),
        });
    }
    let column = |id: &str, title: &str| ObsoleteColumn { id: id.into(), title: title.into() };
    report.obsolete_columns = vec![column("version", "Version"), column("type-de-fin", "Type de fin"), column("vide", "Commentaire")];
    report.documentation.push(TopicMention {
        topic: "ins".into(),
        title: Text::new("Identité nationale de santé", "National health identity"),
        count: 14,
        places: vec![("slot-documentation".into(), Place::page(3)), ("slot-documentation".into(), Place::page(17))],
    });
    report.documentation.push(TopicMention { topic: "mss".into(), title: Text::new("MSSanté", "MSSanté"), count: 0, places: vec![] });
    report.limitations = vec![
        Text::new(
            "Aucun antivirus n'est configuré : les fichiers n'ont pas été analysés.",
            "No antivirus is configured: files were not scanned.",
        ),
        Text::new(
            "Les signatures électroniques sont relevées, leur validité n'est pas vérifiée.",
            "Electronic signatures are listed, their validity is not checked.",
        ),
    ];
    let totals = &mut report.totals;
    totals.items = report.items.len() as u32;
    totals.bytes = report.items.iter().filter_map(|i| i.size).sum();
    totals.links = report.items.iter().filter(|i| i.link).count() as u32;
    totals.files = totals.items - totals.links;
    totals.preuves_expected = report.preuves.len() as u32;
    totals.preuves_provided = report.preuves.iter().filter(|p| !p.items.is_empty()).count() as u32;
    second_round(&mut report);
    (report, memory, previews)
}

/// Makes the report that of a second revision, against an invented first one: proof 1 was another file, proof 2 had
/// nothing, proof 3 had one file more, the file of proof 4 was filed elsewhere.
fn second_round(report: &mut Report) {
    let mut previous = report.clone();
    report.revision = 2;
    let first = |report: &Report, n: usize| report.preuves[n].items[0].clone();
    let [one, two, three, four] = [0, 1, 2, 3].map(|n| first(report, n));
    let before = |previous: &mut Report, id: &str, change: &dyn Fn(&mut ItemReport)| {
        previous.items.iter_mut().filter(|i| i.id == id).for_each(change);
    };
    before(&mut previous, &one, &|item| {
        item.sha256 = Some("ee".repeat(32));
        item.verdict = Verdict::Rejected;
        item.findings.push(finding("pdf-truncated", Category::Corrupt, Severity::Error, Place::byte(512)));
    });
    previous.items.retain(|i| i.id != two);
    previous.preuves[1].items.clear();
    let mut gone = previous.items.iter().find(|i| i.id == three).expect("the item of proof 3").clone();
    gone.id = "retire".into();
    gone.name = HOSTILE.replace(".png", "-ancien.png");
    gone.sha256 = Some("dd".repeat(32));
    gone.findings.push(finding("image-blank", Category::Quality, Severity::Warning, Place::default()));
    previous.preuves[2].items.push(gone.id.clone());
    previous.items.push(gone);
    let elsewhere = previous.preuves[5].id.clone();
    before(&mut previous, &four, &|item| item.filed_under = FiledUnder::Preuve(elsewhere.clone()));
    let request = |n: usize, text: &str| ChangeRequest { preuve: report.preuves[n].id.clone(), text: text.into() };
    let requests = [
        request(0, "La capture est illisible : merci de la refaire.\n<script>document.title='pwned'</script>"),
        request(8, "L'identité affichée n'est pas celle d'un patient de test."),
    ];
    report.round = Some(greffier::assess::rounds::diff(&previous, report, &requests, &|id| Some(id.to_owned())).expect("the same deposit"));
}

fn describe(item: &mut ItemReport, n: usize) {
    let Some(facts) = item.facts.as_mut().map(std::sync::Arc::make_mut) else { return };
    let (format, detail) = match item.name.rsplit('.').next() {
        Some("pdf") => (
            Format::Pdf,
            Detail::Pdf(PdfFacts {
                version: "1.7".into(),
                pages: 3 + (n % 20) as u32,
                page_facts: vec![PageFacts::default()],
                ..PdfFacts::default()
            }),
        ),
        Some("mp4") => (
            Format::Mp4,
            Detail::Video(VideoFacts {
                container: "isom".into(),
                duration: Some(61.0 + n as f64),
                tracks: vec![TrackFacts {
                    kind: TrackKind::Video,
                    codec: "avc1".into(),
                    duration: None,
                    width: Some(1280),
                    height: Some(720),
                    samples: None,
                }],
                ..VideoFacts::default()
            }),
        ),
        Some("zip") => (
            Format::Zip,
            Detail::Archive(ArchiveFacts {
                entries: 2,
                layout: Some("ihe-xdm".into()),
                members: vec![
                    MemberFacts { name: "INDEX.HTM".into(), ..MemberFacts::default() },
                    MemberFacts { name: "../\u{202e}évasion<script>.xml".into(), ..MemberFacts::default() },
                ],
                ..ArchiveFacts::default()
            }),
        ),
        Some("txt") => (Format::Txt, Detail::Text(TextFacts { lines: 12, ..TextFacts::default() })),
        Some("exe") => (Format::Exe, Detail::Text(TextFacts::default())),
        _ => (Format::Png, Detail::Image(ImageFacts { width: 1920, height: 1080, decoded: true, ..ImageFacts::default() })),
    };
    facts.format = Some(format);
    facts.detail = Some(detail);
    if matches!(format, Format::Pdf | Format::Txt) {
        facts.text.push(TextChunk {
            place: Place::page(1),
            text: format!("Je soussigné atteste la conformité du téléservice, élément n°{n} </script><b>gras</b>. ").repeat(12),
        });
    }
    match n % 29 {
        3 if n > 0 => {
            item.findings.push(finding("pdf-encrypted", Category::Encrypted, Severity::Error, Place::page(2)));
            item.findings.push(finding("metadata-author", Category::Privacy, Severity::Notice, Place::default()));
            item.verdict = Verdict::Rejected;
        }
        9 | 17 => {
            let mut warning = finding("pdf-scanned", Category::Quality, Severity::Warning, Place::page(1));
            warning.more = 2;
            item.findings.push(warning);
            item.verdict = Verdict::AcceptedWithWarnings;
        }
        21 if n > 100 => {
            item.findings.push(finding("sandbox-unavailable", Category::Technical, Severity::Fatal, Place::default()));
            item.verdict = Verdict::Undetermined;
        }
        _ if n.is_multiple_of(6) => item.findings.push(finding("metadata-author", Category::Privacy, Severity::Notice, Place::default())),
        _ => {}
    }
    if format == Format::Exe {
        item.findings.push(finding("format-not-accepted", Category::Format, Severity::Error, Place::default()));
        item.verdict = Verdict::Rejected;
    }
}

/// A small PNG that looks like a screenshot.
fn picture(seed: usize) -> Vec<u8> {
    let mut image = image::RgbImage::new(192, 108);
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let band = (y / 12 + seed as u32) % 5;
        let ink = y % 12 > 4 && y % 12 < 8 && x > 16 && x < 60 + band * 25;
        *pixel = image::Rgb(if y < 14 {
            [0, 0, 145]
        } else if ink {
            [90, 90, 90]
        } else {
            [245, 245, 250]
        });
    }
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).expect("a PNG in memory");
    png.into_inner()
}

/// A report that passed, as `check` leaves it in a report.
fn gazelle_passed() -> greffier::model::gazelle::GazelleFacts {
    use greffier::model::gazelle::{Counters, GazelleFacts, GazelleOutcome, GazelleReport, Generation, LinkFacts, Pin, TestResult};
    let mut report = GazelleReport::empty(Generation::GvrXml);
    report.declared_result = Some(TestResult::Passed);
    report.computed_result = Some(TestResult::Passed);
    report.computed_counters = Counters { assertions: 412, warnings: 3, ..Counters::default() };
    let link = LinkFacts {
        shown: "https://interop.referencement.esante.gouv.fr/evs/report.seam?oid=1.2.3".into(),
        id: "ab".repeat(32),
        ..LinkFacts::default()
    };
    let pin = Pin {
        schema: "greffier/gazelle-pin/1".into(),
        link: link.clone(),
        fetched_at: "2026-02-01T10:00:00Z".into(),
        fetched_by: "greffier".into(),
        needed_credential: false,
        exchanges: Vec::new(),
        bodies: std::collections::BTreeMap::new(),
    };
    let outcome = GazelleOutcome::Fetched { report: Box::new(report), pin: Box::new(pin) };
    GazelleFacts { link, outcome, replayed: None, drift: Vec::new() }
}
