//! Previews with the real renderers, which these tests need: Debian's `poppler-utils` and `ffmpeg`.

use std::path::Path;

use crate::support::{command, root};

/// Checks `dossier` into `out` with the real binary, with these variables added.
fn check(dossier: &Path, out: &Path, variables: &[(&str, &str)]) -> String {
    let output = command()
        .args(["check", "--offline", "--out"])
        .args([out, dossier])
        .env("GREFFIER_LOG__FILTER", "greffier=info")
        .envs(variables.iter().copied())
        .output()
        .expect("the binary runs");
    assert!(matches!(output.status.code(), Some(0..=2)), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.join("index.html").is_file(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A deposit of one PDF of two pages, one video of ten seconds, and a broken one of each.
fn deposit(folder: &Path) {
    let copy = |from: &str, to: &str| {
        let to = folder.join(to);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(root().join("fixtures/dossiers/lgc-demo").join(from), to).expect("a fixture");
    };
    copy("documentation/guide-utilisateur.pdf", "INS.02.01.01/guide.pdf");
    copy("preuves/INS.08/INS.08.01.02/demonstration.mp4", "INS.08.01.02/film.mp4");
    let half = |path: &str, to: &str| {
        let bytes = std::fs::read(folder.join(path)).expect("a file");
        std::fs::create_dir_all(folder.join(to).parent().expect("a folder")).expect("a folder");
        std::fs::write(folder.join(to), &bytes[..bytes.len() / 2]).expect("a file");
    };
    half("INS.08.01.02/film.mp4", "INS.17.01.02/film.mp4");
}

fn captions(page: &str) -> Vec<&str> {
    page.split("<figcaption>").skip(1).filter_map(|rest| rest.split("</figcaption>").next()).collect()
}

#[test]
#[ignore = "needs pdftoppm and ffmpeg; run by scripts/test"]
fn pages_and_frames_are_drawn_the_same_every_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let dossier = folder.path().join("depot");
    deposit(&dossier);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    check(&dossier, &one, &[]);
    let page = std::fs::read_to_string(one.join("index.html")).expect("a page");
    let captions = captions(&page);
    assert!(captions.contains(&"page 1") && captions.contains(&"page 2"), "{captions:?}");
    assert!(captions.iter().filter(|c| c.starts_with("0:")).count() >= 2, "{captions:?}");
    check(&dossier, &two, &[]);
    assert_eq!(page, std::fs::read_to_string(two.join("index.html")).expect("a page"));
}

#[test]
#[ignore = "needs pdftoppm and ffmpeg; run by scripts/test"]
fn without_renderers_only_the_pictures_are_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let dossier = folder.path().join("depot");
    deposit(&dossier);
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    check(&dossier, &with, &[]);
    check(&dossier, &without, &[("GREFFIER_PREVIEW__PDF_RENDERER", "none"), ("GREFFIER_PREVIEW__VIDEO_RENDERER", "none")]);
    let read = |name: &str| [&with, &without].map(|out| std::fs::read_to_string(out.join(name)).expect("an output"));
    let [drawn, plain] = read("report.json");
    assert_eq!(drawn, plain, "previews are no part of the report");
    let [drawn, plain] = read("index.html");
    assert!(!captions(&drawn).is_empty() && captions(&plain).is_empty());
}

#[test]
fn a_renderer_that_is_named_must_be_there_and_one_that_fails_is_only_logged() {
    let folder = tempfile::tempdir().expect("a folder");
    let dossier = folder.path().join("depot");
    deposit(&dossier);
    let out = folder.path().join("out");
    let said = check(&dossier, &out, &[("GREFFIER_PREVIEW__PDF_RENDERER", "/bin/false")]);
    assert!(said.contains("a renderer drew nothing"), "{said}");
    let report = std::fs::read_to_string(out.join("report.json")).expect("a report");
    assert!(!report.contains("/bin/false"));
    let output = command()
        .args(["check", "--offline", "fixtures/dossiers/lgc-clean"])
        .env("GREFFIER_PREVIEW__VIDEO_RENDERER", "/nowhere/ffmpeg")
        .output()
        .expect("the binary runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("PREVIEW-RENDERER"), "{output:?}");
    assert_ne!(output.status.code(), Some(0));
}
