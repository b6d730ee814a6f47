//! Metrics, health and console of the real binary, over HTTP and in a real browser.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{command, root};

/// `greffier serve` over a folder of its own; ended when dropped.
struct Served {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration over `folder`.
fn configuration(folder: &Path, http: &str) -> std::path::PathBuf {
    let path = folder.join("greffier.toml");
    let data = folder.display();
    let text = format!(
        "[staging]\npath = \"{data}/staging\"\n[vault]\npath = \"{data}/vault\"\n[queue]\npath = \"{data}/queue.sqlite\"\n[http]\n{http}\n"
    );
    std::fs::write(&path, text).expect("a configuration");
    path
}

fn serve(http: &str) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &format!("listen = \"127.0.0.1:0\"\n{http}"));
    let mut child =
        command().arg("--config").arg(config).arg("serve").stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the binary runs");
    let mut told = BufReader::new(child.stderr.take().expect("standard error"));
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(told.read_line(&mut line).expect("a line") > 0, "the server ended before it said where it listens");
        if let Some(address) = line.trim().strip_prefix("greffier: http://") {
            break address.trim_end_matches('/').to_owned();
        }
    };
    // Whatever else it says must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
    Served { child, address, folder }
}

/// Sends a request as it stands; gives status and everything that was answered.
fn ask(served: &Served, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&served.address).expect("a connection");
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut sent = head.replace('\n', "\r\n").replace("HOST", &served.address);
    sent.push_str(&format!("\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(sent.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, answer)
}

const TOKEN: &str = "correct-horse-battery";

#[test]
fn a_server_tells_how_it_is_and_answers_only_its_own_names_and_pages() {
    let served = serve("");
    assert_eq!(ask(&served, "GET /livez HTTP/1.1\nHost: HOST").0, 200);
    // Conditions are looked at in the background: the first look may still be under way.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while ask(&served, "GET /readyz HTTP/1.1\nHost: HOST").0 != 200 {
        assert!(std::time::Instant::now() < deadline, "never ready");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let (status, metrics) = ask(&served, "GET /metrics HTTP/1.1\nHost: HOST");
    assert_eq!(status, 200);
    for series in ["greffier_queue_up 1\n", "greffier_queue_ready{place=\"submission\"} 0\n", "process_resident_memory_bytes "] {
        assert!(metrics.contains(series), "{series}\n{metrics}");
    }
    let (status, page) = ask(&served, "GET / HTTP/1.1\nHost: HOST");
    assert_eq!(status, 200);
    let policy = page.lines().find_map(|l| l.strip_prefix("content-security-policy: ")).expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.contains("<style") && !page.contains("style=") && !page.contains("onclick="), "nothing is inline");

    assert_eq!(ask(&served, "GET / HTTP/1.1\nHost: evil.example").0, 421, "DNS rebinding");
    for foreign in ["", "\nOrigin: http://evil.example", "\nSec-Fetch-Site: cross-site", "\nSec-Fetch-Site: same-site"] {
        let request = format!("POST /parked/requeue HTTP/1.1\nHost: HOST{foreign}\nContent-Type: application/x-www-form-urlencoded\n\nid=");
        assert_eq!(ask(&served, &request).0, 403, "{foreign:?}");
        let request = format!("POST /deposit HTTP/1.1\nHost: HOST{foreign}");
        assert_eq!(ask(&served, &request).0, 403, "{foreign:?}");
    }
    let own =
        "POST /parked/requeue HTTP/1.1\nHost: HOST\nSec-Fetch-Site: same-origin\nContent-Type: application/x-www-form-urlencoded\n\nid=";
    assert_eq!(ask(&served, own).0, 303);
    assert_eq!(ask(&served, "GET /submissions/..%2f..%2fetc HTTP/1.1\nHost: HOST").0, 404);
    assert_eq!(ask(&served, "GET /lang?set=en&to=//evil.example HTTP/1.1\nHost: HOST").1.matches("location: /\r\n").count(), 1);
}

#[test]
fn with_a_token_nothing_but_health_is_open() {
    let served = serve(&format!("token = \"{TOKEN}\""));
    for closed in ["/", "/metrics", "/submissions", "/parked", "/deposit", "/nothing"] {
        assert_eq!(ask(&served, &format!("GET {closed} HTTP/1.1\nHost: HOST")).0, 401, "{closed}");
        let bearer = format!("GET {closed} HTTP/1.1\nHost: HOST\nAuthorization: Bearer {TOKEN}");
        assert_ne!(ask(&served, &bearer).0, 401, "{closed}");
    }
    assert_eq!(ask(&served, "GET /livez HTTP/1.1\nHost: HOST").0, 200);
    assert!(!ask(&served, "GET /readyz HTTP/1.1\nHost: HOST").1.contains("\"why\""));
    let (status, page) = ask(&served, "GET / HTTP/1.1\nHost: HOST\nAccept: text/html");
    assert!(status == 303 && page.contains("location: /login\r\n"), "{page}");
    let login = |token: &str| {
        let form = "Content-Type: application/x-www-form-urlencoded";
        ask(&served, &format!("POST /login HTTP/1.1\nHost: HOST\nSec-Fetch-Site: same-origin\n{form}\n\ntoken={token}"))
    };
    assert_eq!(login("wrong-horse-battery").0, 403);
    let (status, answer) = login(TOKEN);
    assert_eq!(status, 303);
    let cookie = answer.lines().find_map(|l| l.strip_prefix("set-cookie: ")).expect("a session");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair");
    assert_eq!(ask(&served, &format!("GET / HTTP/1.1\nHost: HOST\nCookie: {cookie}")).0, 200);
    // A session alone changes nothing: another site may make a browser send it where SameSite is not known.
    let foreign = format!("POST /deposit HTTP/1.1\nHost: HOST\nCookie: {cookie}\nOrigin: http://evil.example");
    assert_eq!(ask(&served, &foreign).0, 403);
    assert!((0..12).map(|_| login("wrong-horse-battery").0).any(|status| status == 429), "guessing is slowed down");
}

/// `greffier health`, with what it said.
fn health(arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = command().arg("health").args(arguments).envs(settings.iter().copied()).output().expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn health_is_asked_by_command_and_told_by_exit_code() {
    let served = serve(&format!("token = \"{TOKEN}\""));
    let url = format!("http://{}", served.address);
    let until = |arguments: &[&str], settings: &[(&str, &str)], expected: Option<i32>| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
        loop {
            let (code, said) = health(arguments, settings);
            if code == expected {
                break said;
            }
            assert!(std::time::Instant::now() < deadline, "{code:?} {said}");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    };
    // Found where the configuration says, and through no proxy.
    let listen = [("GREFFIER_HTTP__LISTEN", served.address.as_str()), ("http_proxy", "http://127.0.0.1:9")];
    assert!(until(&["--lang", "en"], &listen, Some(0)).contains("is ready"));
    assert_eq!(health(&["--url", &url, "--live"], &[]), (Some(0), "✔ Ce worker avance.\n".into()));
    // The vault goes away: it is alive, and not ready. Why is for those who have the token.
    std::fs::rename(served.folder.path().join("vault"), served.folder.path().join("away")).expect("moved");
    let said = until(&["--url", &url], &[], Some(1));
    assert!(said.contains("n'est pas prêt") && said.lines().any(|line| line == "  vault"), "{said}");
    assert_eq!(health(&["--url", &url, "--live"], &[]).0, Some(0));

    let (code, said) = health(&["--url", &format!("{url}/nothing/here/")], &[]);
    assert!(code == Some(1) && said.contains("HTTP 401"), "{code:?} {said}");
    drop(served);
    let (code, said) = health(&["--url", &url], &[]);
    assert!(code == Some(1) && said.contains("ne répond pas"), "{code:?} {said}");
    let (code, said) = health(&[], &[("GREFFIER_HTTP__LISTEN", "")]);
    assert!(code == Some(2) && said.contains("HTTP-ADDRESS"), "{code:?} {said}");
}

#[test]
fn beyond_loopback_without_protection_it_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    for http in ["listen = \"0.0.0.0:0\"".to_owned(), format!("listen = \"0.0.0.0:0\"\ntoken = \"{TOKEN}\"")] {
        let config = configuration(folder.path(), &http);
        let output = command().arg("--config").arg(config).arg("worker").output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("HTTP-UNPROTECTED") && said.contains("http."), "{said}");
    }
}

#[test]
fn the_console_works_in_a_browser() {
    let Some(python) = std::env::var_os("GREFFIER_TEST_PYTHON").filter(|p| !p.is_empty()) else {
        panic!("GREFFIER_TEST_PYTHON is not set: see tests/it/browser.rs")
    };
    let served = serve("");
    let home = tempfile::tempdir().expect("a folder");
    let mut looking = Command::new(&python);
    looking.arg(root().join("tests/browser/test_console.py")).arg(format!("http://{}", served.address)).arg(served.folder.path());
    looking.arg(crate::support::program());
    looking.env("HOME", home.path()).env("TMPDIR", home.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = looking.output().unwrap_or_else(|e| panic!("GREFFIER_TEST_PYTHON={}: {e}", python.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "test_console.py: {}\n{}{said}", output.status, String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("\nOK") && !said.contains("Ran 0 tests") && !said.contains("skipped"), "{said}");
}
