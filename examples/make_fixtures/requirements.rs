//! The fixture catalogue: the shape of the LGC vague 2 requirement list (8 chapters, 239 proofs for the demonstration
//! candidature), ids in the agency's grammar, and wording that is invented from end to end.

use greffier::pipeline::catalogue::Preuve;

/// What a vendor would hand in for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Capture,
    Video,
    Attestation,
    Document,
    Tableau,
    Texte,
    Message,
    Lien,
}

/// A proof and what answers it.
#[derive(Debug, Clone)]
pub struct Requirement {
    pub preuve: Preuve,
    pub kind: Kind,
}

const GENERAL: &str = "Médecin de ville - LGC : Profil Général";
const CIBA: &str = "Médecin de ville - LGC : CIBA";
const TRAITANT: &str = "Médecin de ville - LGC : Médecin traitant et Suivi de l'enfant";
const SEC: &str = "Médecin de ville - LGC : Structure d'exercice coordonné";
const PRESCRIPTION: &str = "Médecin de ville - LGC : Prescription médicale structurée";

const V1: &str = "Vague 1";
const V2: &str = "Vague 2";

/// Exigences of one family of ids, cut into scenarios and proofs until `proofs` are reached.
struct Family {
    chapter: &'static str,
    prefix: &'static str,
    perimetre: &'static str,
    profiles: &'static [&'static str],
    proofs: usize,
    fonction: &'static str,
    /// What the exigences are about.
    objects: &'static [&'static str],
}

const OBJECTS_INS: &[&str] = &[
    "l'appel au téléservice INSi",
    "l'identité qualifiée d'un patient fictif",
    "les traits stricts de l'identité",
    "le matricule INS et son OID",
    "la récupération de l'INS par carte Vitale",
    "la vérification de l'INS",
    "l'historique des changements d'identité",
    "le statut de confiance de l'identité",
    "le Datamatrix INS",
    "la gestion des doublons",
];
const OBJECTS_DMP: &[&str] = &[
    "l'historique des documents consultés",
    "l'alimentation en fin de consultation",
    "l'opposition du patient",
    "la suppression d'un document",
    "l'accès en mode bris de glace",
    "les documents marqués comme nouveaux",
    "la recherche par type de document",
];
const OBJECTS_MSS: &[&str] = &[
    "l'envoi d'un courrier à un confrère",
    "la réception d'un compte rendu",
    "la messagerie citoyenne du patient",
    "l'annuaire national",
    "le rattachement automatique au dossier",
    "l'accusé de lecture",
    "les pièces jointes IHE_XDM",
    "la boîte aux lettres organisationnelle",
];
const OBJECTS_SSI: &[&str] = &[
    "la journalisation des accès",
    "la politique de mots de passe",
    "la gestion des habilitations",
    "les sauvegardes",
    "la mise à jour des composants",
];
const OBJECTS_PSC: &[&str] =
    &["l'authentification par Pro Santé Connect", "la déconnexion", "le changement d'utilisateur", "la double authentification"];
const OBJECTS_DOC: &[&str] = &[
    "le volet de synthèse médicale",
    "la lettre de liaison",
    "le document CDA de niveau 3",
    "l'ordonnance structurée",
    "les métadonnées XDS",
    "l'affichage d'un document reçu",
    "la feuille de style",
];
const OBJECTS_AUTRES: &[&str] =
    &["la prise de rendez-vous", "le tableau de bord de patientèle", "l'export du dossier", "l'aide à la décision"];

/// In chapter order. With the six proofs of the last chapter, those asked of the demonstration candidature (profiles
/// général, médecin traitant, prescription; not referenced in vague 1) are 81 + 35 + 56 + 10 + 7 + 37 + 7 + 6 = 239.
const FAMILIES: &[Family] = &[
    Family {
        chapter: "Gestion de l'Identité Nationale de Santé",
        prefix: "INS",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 52,
        fonction: "Qualifier l'identité",
        objects: OBJECTS_INS,
    },
    Family {
        chapter: "Gestion de l'Identité Nationale de Santé",
        prefix: "INS/va1",
        perimetre: V1,
        profiles: &[GENERAL],
        proofs: 29,
        fonction: "Qualifier l'identité",
        objects: OBJECTS_INS,
    },
    Family {
        chapter: "Consultation et Alimentation du DMP / Mon espace santé",
        prefix: "DMP/HISTO",
        perimetre: V2,
        profiles: &[TRAITANT],
        proofs: 12,
        fonction: "Consulter",
        objects: OBJECTS_DMP,
    },
    Family {
        chapter: "Consultation et Alimentation du DMP / Mon espace santé",
        prefix: "DMP/AIRS",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 11,
        fonction: "Alimenter",
        objects: OBJECTS_DMP,
    },
    Family {
        chapter: "Consultation et Alimentation du DMP / Mon espace santé",
        prefix: "DMP/va1",
        perimetre: V1,
        profiles: &[GENERAL],
        proofs: 12,
        fonction: "Alimenter",
        objects: OBJECTS_DMP,
    },
    Family {
        chapter: "Consultation et Alimentation du DMP / Mon espace santé",
        prefix: "DMP/SEC",
        perimetre: V2,
        profiles: &[SEC],
        proofs: 6,
        fonction: "Partager",
        objects: OBJECTS_DMP,
    },
    Family {
        chapter: "Gestion de la MSSanté",
        prefix: "MSS/UX",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 24,
        fonction: "Échanger entre professionnels",
        objects: OBJECTS_MSS,
    },
    Family {
        chapter: "Gestion de la MSSanté",
        prefix: "MSS/PAT",
        perimetre: V2,
        profiles: &[TRAITANT, CIBA],
        proofs: 10,
        fonction: "Échanger avec le patient",
        objects: OBJECTS_MSS,
    },
    Family {
        chapter: "Gestion de la MSSanté",
        prefix: "MSS/va1",
        perimetre: V1,
        profiles: &[GENERAL],
        proofs: 22,
        fonction: "Échanger entre professionnels",
        objects: OBJECTS_MSS,
    },
    Family {
        chapter: "Gestion de la MSSanté",
        prefix: "MSS/CIBA",
        perimetre: V1,
        profiles: &[CIBA],
        proofs: 8,
        fonction: "Échanger entre professionnels",
        objects: OBJECTS_MSS,
    },
    Family {
        chapter: "Sécurité des SI",
        prefix: "SSI/GEN",
        perimetre: V2,
        profiles: &[],
        proofs: 7,
        fonction: "Protéger",
        objects: OBJECTS_SSI,
    },
    Family {
        chapter: "Sécurité des SI",
        prefix: "SSI/va1",
        perimetre: V1,
        profiles: &[GENERAL],
        proofs: 3,
        fonction: "Protéger",
        objects: OBJECTS_SSI,
    },
    Family {
        chapter: "Identification électronique & ProSanté Connect",
        prefix: "PSC/AUTH",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 5,
        fonction: "S'authentifier",
        objects: OBJECTS_PSC,
    },
    Family {
        chapter: "Identification électronique & ProSanté Connect",
        prefix: "PSC/va1",
        perimetre: V1,
        profiles: &[GENERAL],
        proofs: 2,
        fonction: "S'authentifier",
        objects: OBJECTS_PSC,
    },
    Family {
        chapter: "Gestion et partage des documents de santé",
        prefix: "DOC/STRUCT",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 15,
        fonction: "Produire des documents",
        objects: OBJECTS_DOC,
    },
    Family {
        chapter: "Gestion et partage des documents de santé",
        prefix: "ORDN/EPRES",
        perimetre: V2,
        profiles: &[PRESCRIPTION],
        proofs: 10,
        fonction: "Prescrire",
        objects: OBJECTS_DOC,
    },
    Family {
        chapter: "Gestion et partage des documents de santé",
        prefix: "SCN_DB/CO",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 6,
        fonction: "Scénario cœur de métier",
        objects: OBJECTS_DOC,
    },
    Family {
        chapter: "Gestion et partage des documents de santé",
        prefix: "DOC/va1",
        perimetre: V1,
        profiles: &[GENERAL],
        proofs: 6,
        fonction: "Produire des documents",
        objects: OBJECTS_DOC,
    },
    Family {
        chapter: "Gestion et partage des documents de santé",
        prefix: "DOC/SEC",
        perimetre: V2,
        profiles: &[SEC],
        proofs: 9,
        fonction: "Produire des documents",
        objects: OBJECTS_DOC,
    },
    Family {
        chapter: "Autres fonctionnalités",
        prefix: "AF/RDV",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 4,
        fonction: "Organiser",
        objects: OBJECTS_AUTRES,
    },
    Family {
        chapter: "Autres fonctionnalités",
        prefix: "LGC.AF/TB",
        perimetre: V2,
        profiles: &[GENERAL],
        proofs: 1,
        fonction: "Organiser",
        objects: OBJECTS_AUTRES,
    },
    Family {
        chapter: "Autres fonctionnalités",
        prefix: "AF/va1",
        perimetre: V1,
        profiles: &[GENERAL],
        proofs: 2,
        fonction: "Organiser",
        objects: OBJECTS_AUTRES,
    },
];

/// The last chapter, exactly as the demonstration screens show it.
const SOCLES: &[(&str, usize, &str)] = &[
    ("APCV.01", 1, "la lecture de l'application carte Vitale"),
    ("ON/PSC.60", 1, "le raccordement d'un outil numérique à Pro Santé Connect"),
    ("ORDN/CONF.01", 1, "la conformité de l'ordonnance numérique"),
    ("ORDN/CONF.04", 2, "la conformité des messages de l'ordonnance numérique"),
    ("ORDN/CONF.05", 1, "l'attestation de conformité de l'ordonnance numérique"),
];

/// Scenarios of successive exigences: how many proofs each has.
const SHAPES: &[&[usize]] = &[&[2, 1], &[1], &[3], &[1, 1, 1], &[2], &[1, 2], &[4]];

/// How proofs follow one another; mostly screen copies, as in the agency's published drafts.
const KINDS: &[Kind] = &[
    Kind::Capture,
    Kind::Capture,
    Kind::Capture,
    Kind::Attestation,
    Kind::Capture,
    Kind::Capture,
    Kind::Document,
    Kind::Capture,
    Kind::Capture,
    Kind::Lien,
    Kind::Capture,
    Kind::Capture,
    Kind::Tableau,
    Kind::Capture,
    Kind::Texte,
    Kind::Capture,
    Kind::Capture,
    Kind::Message,
    Kind::Capture,
    Kind::Capture,
    Kind::Video,
    Kind::Capture,
    Kind::Capture,
];

/// Every requirement, in chapter order.
pub fn lgc() -> Vec<Requirement> {
    let mut all: Vec<Requirement> = Vec::new();
    for family in FAMILIES {
        let mut left = family.proofs;
        let mut number = match family.perimetre {
            V1 => 50,
            _ => 0,
        };
        let mut shape = SHAPES.iter().cycle();
        while left > 0 {
            number += 1;
            let exigence = format!("{}.{number:02}", family.prefix);
            let object = family.objects[(number as usize - 1) % family.objects.len()];
            for (n, proofs) in shape.next().expect("endless").iter().enumerate() {
                let proofs = (*proofs).min(left);
                left -= proofs;
                let scenario = format!("{exigence}.{:02}", n + 1);
                for proof in 1..=proofs {
                    push(&mut all, family, &exigence, &scenario, &format!("{scenario}.{proof:02}"), object);
                }
            }
        }
    }
    anomalies(&mut all);
    for (exigence, proofs, object) in SOCLES {
        let family = Family {
            chapter: "Conformité aux autres services socles",
            prefix: "",
            perimetre: V2,
            profiles: &[GENERAL],
            proofs: *proofs,
            fonction: "Services socles",
            objects: &[],
        };
        let scenario = format!("{exigence}.01");
        for proof in 1..=*proofs {
            push(&mut all, &family, exigence, &scenario, &format!("{scenario}.{proof:02}"), object);
        }
    }
    all
}

fn push(all: &mut Vec<Requirement>, family: &Family, exigence: &str, scenario: &str, id: &str, object: &str) {
    let kind = KINDS[all.len() % KINDS.len()];
    let title = match kind {
        Kind::Capture => format!("Copie d'écran horodatée montrant {object}."),
        Kind::Video => format!("Capture vidéo du scénario complet sur {object}, sans coupure."),
        Kind::Attestation => format!("Attestation sur l'honneur signée portant sur {object}."),
        Kind::Document => format!("Document décrivant {object} dans le logiciel."),
        Kind::Tableau => format!("Extraction sous forme de tableau portant sur {object}."),
        Kind::Texte => format!("Description textuelle ou trace technique portant sur {object}."),
        Kind::Message => format!("Message ou archive IHE_XDM produit lors du test sur {object}."),
        Kind::Lien => format!("Lien vers le rapport de l'espace de tests portant sur {object}."),
    };
    let conditional = all.len() % 67 == 40;
    all.push(Requirement {
        preuve: Preuve {
            id: id.to_owned(),
            title,
            chapter: family.chapter.to_owned(),
            fonction: family.fonction.to_owned(),
            exigence: exigence.to_owned(),
            exigence_title: format!("Le système DOIT permettre à l'utilisateur de gérer {object}."),
            scenario: scenario.to_owned(),
            scenario_title: format!(
                "Vérifier {object} ({scenario}).\nÉtape 1 : ouvrir le dossier du patient fictif TEST-{}.\nÉtape 2 : réaliser l'action attendue sur {object}.\nÉtape 3 : vérifier que le résultat est affiché, daté et enregistré.",
                char::from(b'A' + (super::picture::seed(scenario) % 8) as u8)
            ),
            profiles: family.profiles.iter().map(|p| (*p).to_owned()).collect(),
            perimetre: family.perimetre.to_owned(),
            criticite: ["Majeure", "Critique", "Mineure", "Non définie"][all.len() % 4].to_owned(),
            conditional,
            comment: if conditional { "Exigence conditionnelle : si le logiciel propose la fonction.".to_owned() } else { String::new() },
            ..Preuve::default()
        },
        kind,
    });
}

/// The irregularities that published catalogues really have: a scenario numbered like an exigence with a proof numbered
/// like a scenario, and a scenario without proof number.
fn anomalies(all: &mut [Requirement]) {
    let level = all.iter_mut().filter(|r| r.preuve.exigence == "DMP/HISTO.02").collect::<Vec<_>>();
    for (n, requirement) in level.into_iter().enumerate() {
        requirement.preuve.scenario = "DMP/HISTO.02".to_owned();
        requirement.preuve.id = format!("DMP/HISTO.02.{:02}", n + 1);
    }
    if let Some(implicit) = all.iter_mut().find(|r| r.preuve.exigence == "INS/va1.52") {
        implicit.preuve.implicit = true;
        implicit.preuve.id.clone_from(&implicit.preuve.scenario);
    }
}

/// A handful for the second démarche, with the forms of id that only hospital catalogues have.
pub fn dpi() -> Vec<Preuve> {
    let preuve = |id: &str, scenario: &str, exigence: &str, chapter: &str, profile: &str, title: &str| Preuve {
        id: id.to_owned(),
        title: title.to_owned(),
        chapter: chapter.to_owned(),
        exigence: exigence.to_owned(),
        scenario: scenario.to_owned(),
        profiles: vec![format!("Hôpital - DPI : {profile}")],
        perimetre: V2.to_owned(),
        ..Preuve::default()
    };
    vec![
        preuve(
            "INS.02.01.01",
            "INS.02.01",
            "INS.02",
            "ins",
            "Profil Général",
            "Copie d'écran de l'appel au téléservice INSi depuis le dossier hospitalier.",
        ),
        preuve(
            "INS.02.01.02",
            "INS.02.01",
            "INS.02",
            "ins",
            "Profil Général",
            "Copie d'écran du statut de l'identité au bureau des entrées.",
        ),
        preuve(
            "INS.07.01.01",
            "INS.07.01",
            "INS.07",
            "ins",
            "Urgences",
            "Capture vidéo de la création d'une identité provisoire aux urgences.",
        ),
        preuve(
            "MSS/UX.DPI.2.01.01",
            "MSS/UX.DPI.2.01",
            "MSS/UX.DPI.2",
            "mssante",
            "Profil Général",
            "Copie d'écran de l'envoi d'une lettre de liaison.",
        ),
        preuve(
            "MSS.UX/DPI.3.01.01",
            "MSS.UX/DPI.3.01",
            "MSS.UX/DPI.3",
            "mssante",
            "Urgences",
            "Copie d'écran de la réception d'un message aux urgences.",
        ),
    ]
}
