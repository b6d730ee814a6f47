//! Metrics, health and console of the real binary, over HTTP and in a real browser.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::gazelle::tls;
use crate::support::{command, root};

/// `greffier serve` over a folder of its own; ended when dropped.
pub struct Served {
    child: Child,
    pub address: String,
    pub folder: tempfile::TempDir,
}

impl Served {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
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

pub fn serve(http: &str) -> Served {
    serve_at("127.0.0.1:0", http).expect("a port that is free")
}

/// `None`: the server ended before it said where it listens.
pub fn serve_at(listen: &str, http: &str) -> Option<Served> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &format!("listen = \"{listen}\"\n{http}"));
    let mut serving = command();
    // Providers and clients of these tests are on this machine.
    serving.env("NO_PROXY", "127.0.0.1").arg("--config").arg(config).arg("serve");
    let mut child = serving.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the binary runs");
    let mut told = BufReader::new(child.stderr.take().expect("standard error"));
    let mut line = String::new();
    let address = loop {
        line.clear();
        if told.read_line(&mut line).expect("a line") == 0 {
            child.wait().expect("its end");
            return None;
        }
        // Shown where a test fails.
        eprint!("{line}");
        if let Some((_, address)) = line.trim().strip_prefix("greffier: http").and_then(|rest| rest.split_once("://")) {
            break address.trim_end_matches('/').to_owned();
        }
    };
    // Whatever else it says must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
    Some(Served { child, address, folder })
}

/// Sends a request as it stands; gives status and everything that was answered.
pub fn ask(served: &Served, request: &str) -> (u16, String) {
    ask_at(&served.address, TcpStream::connect(&served.address).expect("a connection"), request)
}

pub fn ask_at(address: &str, mut stream: impl Read + Write, request: &str) -> (u16, String) {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut sent = head.replace('\n', "\r\n").replace("HOST", address);
    sent.push_str(&format!("\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(sent.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, answer)
}

pub const TOKEN: &str = "correct-horse-battery";

#[test]
fn a_server_tells_how_it_is_and_answers_only_its_own_names_and_pages() {
    let served = serve("");
    assert_eq!(ask(&served, "GET /livez HTTP/1.1\nHost: HOST").0, 200);
    // Conditions are looked at in the background: the first look may still be under way.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(300);
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
fn secrets_may_come_from_what_gives_them_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("token");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0)
        .expect("a pipe");
    let writing = pipe.clone();
    // Whoever reads it a second time waits for somebody who writes, and nobody does.
    std::thread::spawn(move || std::fs::write(writing, format!("{TOKEN}\n")));
    let (told, served) = std::sync::mpsc::channel();
    let settings = format!("token_file = \"{}\"", pipe.display());
    std::thread::spawn(move || told.send(serve(&settings)));
    let served = served.recv_timeout(std::time::Duration::from_secs(120)).expect("the token was read twice");
    assert_eq!(ask(&served, "GET /metrics HTTP/1.1\nHost: HOST").0, 401);
    assert_eq!(ask(&served, &format!("GET /metrics HTTP/1.1\nHost: HOST\nAuthorization: Bearer {TOKEN}")).0, 200);
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
    assert!(ask(&served, "GET /parked HTTP/1.1\nHost: HOST\nAccept: text/html").1.contains("location: /login?to=%2Fparked\r\n"));
    // Logging out ends the session here: a copy of the cookie opens nothing any more.
    let logout = format!("POST /logout HTTP/1.1\nHost: HOST\nSec-Fetch-Site: same-origin\nCookie: {cookie}");
    let (status, answer) = ask(&served, &logout);
    assert!(status == 303 && answer.contains("Max-Age=0"), "{answer}");
    assert_eq!(ask(&served, &format!("GET / HTTP/1.1\nHost: HOST\nCookie: {cookie}")).0, 401);
}

/// Asks until it is told to wait, and how long.
pub fn refused(mut tries: impl FnMut() -> (u16, String), before: u16) -> u64 {
    // One attempt comes back every six seconds: a machine so slow that 500 never run into it ends nowhere.
    for _ in 0..500 {
        let (status, answer) = tries();
        if status == 429 {
            let wait = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("how long");
            return wait.parse().expect("seconds");
        }
        assert_eq!(status, before, "{answer}");
    }
    panic!("nobody was told to wait")
}

#[test]
fn whoever_guesses_is_told_to_wait_and_the_next_address_is_not() {
    let served = serve(&format!("token = \"{TOKEN}\"\ntrust_forwarded_for = true"));
    let from = |address: &str, request: &str| {
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        ask(&served, &format!("{head}\nX-Forwarded-For: 6.6.6.6, {address}\n\n{body}"))
    };
    let bearer = |address: &str, token: &str| from(address, &format!("GET /metrics HTTP/1.1\nHost: HOST\nAuthorization: Bearer {token}"));
    let login = |address: &str, token: &str| {
        let form = "Sec-Fetch-Site: same-origin\nContent-Type: application/x-www-form-urlencoded";
        from(address, &format!("POST /login HTTP/1.1\nHost: HOST\n{form}\n\ntoken={token}"))
    };
    for _ in 0..50 {
        assert_eq!(bearer("192.0.2.1", TOKEN).0, 200, "the right token never waits");
    }
    assert_eq!(refused(|| bearer("192.0.2.1", "wrong-horse-battery"), 401), 6);
    assert_eq!(refused(|| login("192.0.2.2", "wrong-horse-battery"), 403), 6);
    // Health says no more to who guesses there.
    let probe = |address: &str| from(address, "GET /readyz HTTP/1.1\nHost: HOST\nAuthorization: Bearer wrong-horse-battery").0;
    assert!((0..30).all(|_| probe("192.0.2.3") != 429));
    assert_eq!(bearer("192.0.2.4", TOKEN).0, 200, "one address does not wait for another");
    assert_eq!(login("192.0.2.4", TOKEN).0, 303);
}

#[test]
fn one_address_gets_so_many_requests_in_a_minute_and_health_is_not_counted() {
    let served = serve("requests_per_minute = 60");
    // All at once on one connection: to escape, every single answer would have to take a second.
    let mut stream = TcpStream::connect(&served.address).expect("a connection");
    let one = format!("GET /static/mark.svg HTTP/1.1\r\nHost: {}\r\n\r\n", served.address);
    let last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{}{last}", one.repeat(299)).as_bytes()).expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers");
    let [taken, refused] = ["HTTP/1.1 200", "HTTP/1.1 429"].map(|status| answers.matches(status).count());
    assert!(taken >= 60 && refused > 0 && taken + refused == 300, "{taken} and {refused}");
    assert!(answers.contains("retry-after: 1\r\n"));
    assert!((0..100).all(|_| ask(&served, "GET /livez HTTP/1.1\nHost: HOST").0 == 200));
}

#[test]
fn the_console_speaks_tls_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, tls::CERTIFICATE).expect("a certificate");
    std::fs::write(&key, tls::KEY).expect("a key");
    let files = format!("certificate_file = \"{}\"\nkey_file = \"{}\"", certificate.display(), key.display());
    // Beyond loopback, as it is meant to be reached.
    let served = serve_at("0.0.0.0:0", &format!("token = \"{TOKEN}\"\n{files}")).expect("a port that is free");
    let address = served.address.replace("0.0.0.0", "127.0.0.1");

    ::greffier::tls::install_tls_provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(tls::AUTHORITY.as_bytes()).expect("PEM")).expect("an authority");
    let config = std::sync::Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let secret = |request: &str| {
        let client = rustls::ClientConnection::new(config.clone(), "gazelle.test".try_into().expect("a name")).expect("a client");
        let stream = rustls::StreamOwned::new(client, TcpStream::connect(&address).expect("a connection"));
        ask_at("gazelle.test", stream, request)
    };
    assert_eq!(secret("GET /livez HTTP/1.1\nHost: HOST").0, 200);
    let (status, page) = secret("GET / HTTP/1.1\nHost: HOST\nAccept: text/html");
    assert!(status == 303 && page.contains("strict-transport-security: max-age="), "{page}");
    let form = "Sec-Fetch-Site: same-origin\nContent-Type: application/x-www-form-urlencoded";
    let (status, answer) = secret(&format!("POST /login HTTP/1.1\nHost: HOST\n{form}\n\ntoken={TOKEN}"));
    let cookie = answer.lines().find_map(|l| l.strip_prefix("set-cookie: ")).expect("a session");
    assert!(status == 303 && cookie.starts_with("__Host-greffier=") && cookie.ends_with("; Secure"), "{cookie}");
    // In clear it says nothing.
    let mut clear = TcpStream::connect(&address).expect("a connection");
    let mut said = Vec::new();
    clear.write_all(b"GET /livez HTTP/1.1\r\nHost: gazelle.test\r\n\r\n").expect("sent");
    let _ = clear.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&said));
}

/// Files below a folder; none where there is no folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("readable").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn what_was_uploaded_for_a_pre_check_lies_under_a_name_of_ours_and_in_the_vault() {
    let served = serve("");
    let own = "Host: HOST\nSec-Fetch-Site: same-origin\nContent-Type: application/json";
    let (status, answer) = ask(&served, &format!("POST /deposit HTTP/1.1\n{own}"));
    assert_eq!(status, 200, "{answer}");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let draft = serde_json::from_str::<serde_json::Value>(body).expect("JSON")["draft"].as_str().expect("a draft").to_owned();
    let put = format!("PUT /deposit/{draft}/file?path=INS.01%2Fnote.txt HTTP/1.1\n{own}\n\nUne note.");
    assert_eq!(ask(&served, &put).0, 204);
    let (status, answer) = ask(&served, &format!("POST /deposit/{draft} HTTP/1.1\n{own}\n\n{{\"demarche\":\"lgc-vague-2\"}}"));
    assert_eq!(status, 200, "{answer}");
    let [staged, outcomes] = ["staging/greffier-precheck", "vault/outcomes"].map(|folder| served.folder.path().join(folder));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(300);
    while files(&outcomes).is_empty() {
        assert!(std::time::Instant::now() < deadline, "no outcome: {:?}", files(&staged));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let holds = |folder: &Path| files(folder).iter().any(|path| std::fs::read(path).is_ok_and(|bytes| bytes == b"Une note."));
    assert!(holds(&staged), "it is swept when it is old, and not before: the job may be told again");
    assert!(holds(&served.folder.path().join("vault/vault")), "the vault keeps it");
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
    // An answer that takes more than its eight seconds, on a busy machine, is told by the same code as one that says no.
    let until = |arguments: &[&str], settings: &[(&str, &str)], expected: Option<i32>, words: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(300);
        loop {
            let (code, said) = health(arguments, settings);
            if code == expected && said.contains(words) {
                break said;
            }
            assert!(std::time::Instant::now() < deadline, "{code:?} {said}");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    };
    // Found where the configuration says, and through no proxy.
    let listen = [("GREFFIER_HTTP__LISTEN", served.address.as_str()), ("http_proxy", "http://127.0.0.1:9")];
    until(&["--lang", "en"], &listen, Some(0), "is ready");
    assert_eq!(health(&["--url", &url, "--live"], &[]), (Some(0), "✔ Ce worker avance.\n".into()));
    // The vault goes away: it is alive, and not ready. Why is for those who have the token.
    std::fs::rename(served.folder.path().join("vault"), served.folder.path().join("away")).expect("moved");
    let said = until(&["--url", &url], &[], Some(1), "n'est pas prêt");
    assert!(said.lines().any(|line| line == "  vault"), "{said}");
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
#[ignore = "needs Chromium and Python; run by scripts/test"]
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
