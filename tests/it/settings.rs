//! Which files of settings and rules are obeyed, with the real binary: a deposit does not set the tool that checks it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{command, root};

/// A folder of the user's with a deposit in it: `received/`, with one proof.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let desk = Self(dir);
        desk.write("received/candidature.toml", "[candidature]\nnumber = \"QWHTRVBNZP\"\nproduct = \"Cabinet\"\n");
        desk.write("received/INS.02/INS.02.01.01/note.txt", "Bonjour, voici la preuve.\n");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        self.mode(name, 0o644);
    }

    fn mode(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Runs the binary from `folder`, with the rules of the source tree named unless `folder` has some.
    fn run(&self, folder: &str, arguments: &[&str]) -> Output {
        let mut command = command();
        if !self.path(folder).join("pipelines").exists() {
            let folders = format!("[{:?}]", root().join("pipelines").to_str().unwrap());
            command.env("GREFFIER_PIPELINES__FOLDERS", folders);
        }
        command.current_dir(self.path(folder)).args(arguments).output().unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused(output: &Output, code: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", said(output));
    assert!(said(output).contains(code), "{}", said(output));
}

/// Settings whose effect can be seen: what is said is said in English.
const ENGLISH: &str = "[check]\nlang = \"en\"\n";

#[test]
fn settings_that_come_with_a_deposit_are_refused_unless_they_are_named() {
    let desk = Desk::new();
    desk.write("received/greffier.toml", ENGLISH);
    for arguments in [
        ["check", ".", "--offline"].as_slice(),
        &["check", "../received", "--offline"],
        &["check", "INS.02", "--offline", "--json"],
        &["inspect", "INS.02", "."],
        &["inspect", "candidature.toml"],
        &["submit", ".", "--no-wait"],
    ] {
        let output = desk.run("received", arguments);
        // What is only a part of the deposit does not hold its top.
        if arguments.contains(&"INS.02") && !arguments.contains(&".") {
            assert_ne!(output.status.code(), Some(2), "{}", said(&output));
        } else {
            refused(&output, "CONFIG-IN-DEPOSIT");
        }
    }
    // Through a link as well, either way.
    std::fs::rename(desk.path("received/greffier.toml"), desk.path("elsewhere.toml")).unwrap();
    std::os::unix::fs::symlink("../elsewhere.toml", desk.path("received/greffier.toml")).unwrap();
    refused(&desk.run("received", &["check", ".", "--offline"]), "CONFIG-IN-DEPOSIT");
    std::os::unix::fs::symlink("received/deep.toml", desk.path("greffier.toml")).unwrap();
    desk.write("received/deep.toml", ENGLISH);
    refused(&desk.run("", &["check", "received", "--offline"]), "CONFIG-IN-DEPOSIT");
    // Named, it is the user's choice.
    let named = desk.run("received", &["--config", "greffier.toml", "check", ".", "--offline"]);
    assert!(named.status.code() != Some(2) && !said(&named).contains("Settings read from"), "{}", said(&named));
}

#[test]
fn the_users_own_settings_are_obeyed_and_it_is_said_which() {
    let desk = Desk::new();
    desk.write("greffier.toml", ENGLISH);
    let output = desk.run("", &["check", "received", "--offline"]);
    assert_eq!(said(&output).lines().filter(|line| *line == "Settings read from ./greffier.toml").count(), 1, "{}", said(&output));
    let output = desk.run("", &["check", "received", "--offline", "--json"]);
    assert!(!said(&output).contains("Settings read from"), "{}", said(&output));
    let output = desk.run("", &["-v", "queue", "status"]);
    assert!(said(&output).contains("settings were read from a file"), "{}", said(&output));
    std::fs::remove_file(desk.path("greffier.toml")).unwrap();
    let output = desk.run("", &["check", "received", "--offline"]);
    assert!(!said(&output).contains("greffier.toml"), "{}", said(&output));
}

#[test]
fn settings_that_others_could_have_written_are_refused() {
    let desk = Desk::new();
    desk.write("greffier.toml", ENGLISH);
    let check = || desk.run("", &["check", "received", "--offline"]);
    for mode in [0o664, 0o646, 0o666] {
        desk.mode("greffier.toml", mode);
        refused(&check(), "CONFIG-UNTRUSTED");
    }
    desk.mode("greffier.toml", 0o644);
    for (mode, obeyed) in [(0o777, false), (0o775, false), (0o1777, true), (0o755, true)] {
        desk.mode("", mode);
        let output = check();
        if obeyed {
            assert!(said(&output).contains("Settings read from"), "{mode:o}: {}", said(&output));
        } else {
            refused(&output, "CONFIG-UNTRUSTED");
        }
    }
    // Only root can give files away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(desk.path("greffier.toml"), Some(65_534), None).unwrap();
        refused(&check(), "CONFIG-UNTRUSTED");
    }
}

#[test]
fn rules_that_come_with_a_deposit_are_refused_unless_they_are_named() {
    let copy = |desk: &Desk, folder: &str| {
        let to = desk.path(folder);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(root().join("pipelines")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
            let rules = std::fs::read_to_string(&entry).unwrap();
            let rules = rules.replace("../fixtures", root().join("fixtures").to_str().unwrap());
            std::fs::write(to.join(entry.file_name().unwrap()), rules).unwrap();
        }
    };
    let desk = Desk::new();
    copy(&desk, "received/pipelines");
    refused(&desk.run("received", &["check", ".", "--offline"]), "CONFIG-IN-DEPOSIT");
    refused(&desk.run("received", &["inspect", "--slot", "preuve", "candidature.toml"]), "CONFIG-IN-DEPOSIT");
    // A deposit names rules by their id: a file of this machine is not its to choose.
    for evil in [Path::new("pipelines/lgc-vague-2.toml").to_owned(), desk.path("received/pipelines/lgc-vague-2.toml")] {
        let text = format!("demarche = {:?}\n", evil.to_str().unwrap());
        std::fs::write(desk.path("received/candidature.toml"), text).unwrap();
        refused(&desk.run("", &["check", "received", "--offline"]), "PIPELINE-NOT-FOUND");
    }
    // The user's own, beside the deposit, as long as nobody else can write them.
    let desk = Desk::new();
    copy(&desk, "pipelines");
    let check = || desk.run("", &["check", "received", "--offline"]);
    assert_ne!(check().status.code(), Some(2), "{}", said(&check()));
    desk.mode("pipelines", 0o777);
    refused(&check(), "CONFIG-UNTRUSTED");
}
