//! What the modules share: running the real binary, and small files to run it on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The real binary: the one built beside these tests, or for a soak the one that `GREFFIER_TEST_PROGRAM` names.
pub fn program() -> PathBuf {
    crate::watchdog::watch();
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

/// The binary, from the root of the source tree, without the caller's settings, and with time enough on a busy machine.
pub fn command() -> Command {
    let mut command = Command::new(program());
    command.current_dir(root()).env_remove("GREFFIER_CONFIG");
    for (name, _) in std::env::vars_os() {
        if ["GREFFIER_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // A file that a busy machine does not look at in time is undetermined, and a picture that it does not draw in time is left
    // out. What bounds a child's work is its CPU time, which stays as it is.
    command.env("GREFFIER_SANDBOX__WALL_SECONDS", "900").env("GREFFIER_PREVIEW__WALL_SECONDS", "900");
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

/// An address at which nobody listens, and nobody will while these tests run: a port that was let go could be the next one
/// that another test gets.
pub fn nobody() -> std::net::SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    // Bound, and never listened on.
    std::mem::forget(socket);
    address
}

/// The Python that `scripts/test` prepares, with what tests and examples import.
pub fn python() -> PathBuf {
    let named = std::env::var_os("GREFFIER_TEST_PYTHON");
    PathBuf::from(named.expect("GREFFIER_TEST_PYTHON is not set: run ./scripts/test, which prepares what tests need"))
}

/// `docs/asyncapi.yaml`, read by somebody else's YAML.
pub struct Contract(pub serde_json::Value);

impl Contract {
    pub fn read() -> Self {
        let code = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1], encoding='utf-8')), sys.stdout)";
        let output = Command::new(python()).args(["-c", code]).arg(root().join("docs/asyncapi.yaml")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The message of a type.
    pub fn message(&self, kind: &str) -> &serde_json::Value {
        let messages = self.0["components"]["messages"].as_object().unwrap();
        messages.values().find(|m| m["name"] == kind).unwrap_or_else(|| panic!("no message `{kind}`"))
    }

    /// What a reference leads to: a place in the contract, or a file beside it.
    pub fn resolve(&self, reference: &str) -> serde_json::Value {
        match reference.strip_prefix('#') {
            Some(pointer) => self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere")).clone(),
            None => {
                let path = root().join("docs").join(reference);
                let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                serde_json::from_slice(&text).unwrap()
            }
        }
    }

    /// Compares with a schema, or with one that is referred to.
    pub fn validate(&self, schema: &serde_json::Value, instance: &serde_json::Value, what: &str) {
        let schema = schema["$ref"].as_str().map_or_else(|| schema.clone(), |reference| self.resolve(reference));
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(instance).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{what} is not as its schema says: {errors:#?}\n{instance:#}");
    }
}
