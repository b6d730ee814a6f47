//! `index.html` in a real browser: of a dossier checked by the real binary, and of an invented candidature that holds
//! what no dossier of ours does (hostile names, a second round).
//!
//! `tests/browser/test_index.py` does the looking. It needs Debian's `chromium` and `chromium-driver`, and a Python
//! with `selenium` that `GREFFIER_TEST_PYTHON` names; without them these tests fail, since a page that nobody opened
//! is not known to work.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::greffier::bundle::{Options, write};

use crate::bundle::synthetic;
use crate::support::{greffier, root};

/// Unpacks a bundle; gives the bag's folder.
fn unpack(bundle: &Path, into: &Path) -> PathBuf {
    let mut zip = zip::ZipArchive::new(File::open(bundle).expect("a bundle")).expect("a readable ZIP");
    zip.extract(into).expect("extraction");
    std::fs::read_dir(into).expect("the folder").next().expect("one folder").expect("readable").path()
}

/// Opens the bag's page in the browser.
fn look(bag: &Path, arguments: &[&str]) {
    let Some(python) = std::env::var_os("GREFFIER_TEST_PYTHON").filter(|p| !p.is_empty()) else {
        panic!(
            "GREFFIER_TEST_PYTHON is not set. This test opens index.html in Chromium: install the packages chromium and \
             chromium-driver, make a Python environment with selenium, and set GREFFIER_TEST_PYTHON to its python."
        )
    };
    // A home of its own, so that browsers started at the same time share no profile and no lock.
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new(&python)
        .arg(root().join("tests/browser/test_index.py"))
        .arg(bag)
        .args(arguments)
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|e| panic!("GREFFIER_TEST_PYTHON={}: {e}", python.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "test_index.py: {}\n{}{said}", output.status, String::from_utf8_lossy(&output.stdout));
    // What ran is said last; a run without a test would pass for a good one.
    assert!(said.contains("\nOK") && !said.contains("Ran 0 tests") && !said.contains("skipped"), "{said}");
}

#[test]
#[ignore = "needs Chromium and Python; run by scripts/test"]
fn the_page_of_a_checked_dossier_works_in_a_browser() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    // 1: the dossier has defects on purpose.
    let checked = greffier(&["check", "fixtures/dossiers/lgc-demo", "--offline", "--out", out.to_str().expect("UTF-8")]);
    assert_eq!(checked.status.code(), Some(1), "{}", String::from_utf8_lossy(&checked.stderr));
    let bundles: Vec<PathBuf> = std::fs::read_dir(&out)
        .expect("the output folder")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "zip"))
        .collect();
    let [bundle] = bundles.as_slice() else { panic!("one bundle is expected: {bundles:?}") };
    look(&unpack(bundle, &folder.path().join("bag")), &[]);
}

#[test]
#[ignore = "needs Chromium and Python; run by scripts/test"]
fn the_page_of_a_second_round_with_hostile_names_works_in_a_browser() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut report, memory, previews) = synthetic::candidature();
    let bundle = folder.path().join("bundle.zip");
    write(
        &mut report,
        &memory,
        &Options { previews, ..Options::default() },
        File::create(&bundle).expect("a file"),
        &::greffier::model::work::Work::unbounded(),
    )
    .expect("a bundle");
    look(&unpack(&bundle, &folder.path().join("bag")), &["--synthetic"]);
}
