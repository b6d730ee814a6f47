//! `greffier check` as a hostile or a hurried person runs it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::{command, root, stdout};

fn deposit(dir: &Path) -> PathBuf {
    let deposit = dir.join("depot");
    std::fs::create_dir_all(deposit.join("INS.01")).unwrap();
    std::fs::write(deposit.join("INS.01/note.txt"), "Une note.").unwrap();
    deposit
}

#[test]
fn a_bare_document_name_finds_its_files_from_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"schema":"greffier/submission/1","demarche":"lgc-vague-2","candidature":{},
        "items":[{"id":"a","preuve":"INS.01","file":{"object":"note.txt","name":"note.txt"}}]}"#;
    std::fs::write(dir.path().join("submission.json"), text).unwrap();
    std::fs::write(dir.path().join("note.txt"), "Une note.").unwrap();
    let pipeline = root().join("pipelines/lgc-vague-2.toml");
    let output = command()
        .current_dir(dir.path())
        .args(["check", "submission.json", "--offline", "--json", "--pipeline"])
        .arg(pipeline)
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["items"][0]["size"], 9, "{}", report["items"][0]);
}

#[test]
fn a_reader_that_leaves_does_not_make_a_rejection_an_acceptance() {
    let dir = tempfile::tempdir().unwrap();
    let deposit = deposit(dir.path());
    for arguments in [&["check", "--offline"][..], &["inspect"][..]] {
        let empty = deposit.join("INS.01/vide.pdf");
        std::fs::write(&empty, "").unwrap();
        let path = if arguments[0] == "check" { &deposit } else { &empty };
        let mut child = command().args(arguments).arg(path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before the first line is written.
        drop(child.stdout.take());
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{arguments:?}: {complaint}");
        assert_eq!(complaint, "");
    }
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let deposit = deposit(dir.path());
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let run = |arguments: &[&std::ffi::OsStr]| {
        let output = command().args(["check", "--offline"]).arg(&deposit).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, code) in [
        ([std::ffi::OsStr::new("--stage"), std::ffi::OsStr::new("no-such-chapter")], "CHECK-UNKNOWN-STAGE"),
        ([std::ffi::OsStr::new("--out"), deposit.join("out").as_os_str()], "OUTPUT-INSIDE-DEPOSIT"),
        ([std::ffi::OsStr::new("--out"), file.as_os_str()], "OUTPUT-UNWRITABLE"),
    ] {
        let (status, said) = run(&arguments);
        assert!(status == Some(2) && said.contains(code), "{status:?} {said}");
    }
    assert!(!deposit.join("out").exists());
}

#[test]
fn the_key_of_a_share_link_is_written_nowhere() {
    const KEY: &str = "SeCrEtKeY0123456789";
    let dir = tempfile::tempdir().unwrap();
    let deposit = deposit(dir.path());
    let link = format!("https://interop.esante.gouv.fr/evs/report.seam?oid=1.2.3&privacyKey={KEY}");
    let folder = deposit.join("INS.01");
    std::fs::write(folder.join("liens.txt"), &link).unwrap();
    std::fs::write(folder.join("note.txt"), format!("Voir {link} pour le rapport.")).unwrap();
    std::fs::write(folder.join("table.csv"), format!("cas;lien\n1;{link}\n2;x\n")).unwrap();
    std::fs::write(folder.join(format!("report.seam?oid=1&privacyKey={KEY}.txt")), "Une note.").unwrap();
    std::fs::write(folder.join(format!("report.seam?oid=1&privacyKey={KEY}.url")), format!("URL={link}")).unwrap();
    let out = dir.path().join("out");
    let output = command().args(["-vv", "check", "--offline", "--all", "--no-cache", "--out"]).arg(&out).arg(&deposit).output().unwrap();
    let shows = |bytes: &[u8]| memchr::memmem::find(bytes, KEY.as_bytes()).is_some();
    assert!(!shows(&output.stdout) && !shows(&output.stderr), "{}", stdout(&output));
    for entry in std::fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        assert!(path.extension().is_none_or(|e| e == "zip") || !shows(&bytes), "{}", path.display());
        if path.extension().is_some_and(|e| e == "zip") {
            let archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
            assert!(archive.file_names().all(|n| n.is_ok_and(|n| !n.contains(KEY))));
        }
    }
}
