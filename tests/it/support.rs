//! What the modules share: running the real binary, and small files to run it on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The real binary: the one built beside these tests, or for a soak the one that `GREFFIER_TEST_PROGRAM` names.
pub fn program() -> PathBuf {
    std::env::var_os("GREFFIER_TEST_PROGRAM").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_greffier")), PathBuf::from)
}

/// The root of the source tree.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the binary from the root of the source tree, without the caller's settings.
pub fn greffier(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the binary runs")
}

/// The binary, from the root of the source tree, without the caller's settings.
pub fn command() -> Command {
    let mut command = Command::new(program());
    command.current_dir(root()).env_remove("GREFFIER_CONFIG");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GREFFIER_") {
            command.env_remove(name);
        }
    }
    command
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

/// Every line of `greffier inspect --json` over `paths`.
pub fn inspect(paths: &[&Path]) -> Vec<serde_json::Value> {
    let mut command = command();
    command.args(["inspect", "--json"]).args(paths);
    let output = command.output().expect("the binary runs");
    stdout(&output).lines().map(|l| serde_json::from_str(l).expect("one JSON object a line")).collect()
}

/// Codes of an item's findings.
pub fn codes(item: &serde_json::Value) -> Vec<String> {
    item["findings"].as_array().into_iter().flatten().map(|f| f["code"].as_str().unwrap_or_default().to_owned()).collect()
}
