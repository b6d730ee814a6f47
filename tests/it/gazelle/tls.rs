//! HTTPS itself: a real handshake on the one TLS stack, with an authority of our own.

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greffier::gazelle::guard::Lookup;
use greffier::gazelle::{GazelleClient, GazelleConfig, GazellePolicy};
use greffier::model::gazelle::{GazelleOutcome, Unreachable};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{OID, host, quick};

/// Made for tests and used nowhere else, for the name `gazelle.test`; the authority's key was thrown away.
pub const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBqzCCAVGgAwIBAgIUX2k+f7j7kgRxOxXPDj+Hl6Ny1DIwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXZ3JlZmZpZXIgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIzMTky
ODM0WhgPMjEyNjEwMzAxOTI4MzRaMCIxIDAeBgNVBAMMF2dyZWZmaWVyIHRlc3Qg
YXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENCmmhIYLL+qL9sxW
LFM/FVzZidYqRH2WV4xvYT1/F00I33qJjvu4PZFs+4HJ+P9+lS6/KkGKsWl6JIUL
wPp28qNjMGEwHQYDVR0OBBYEFDqCpbmx9MUd74QsrbB0tIBPL8rMMB8GA1UdIwQY
MBaAFDqCpbmx9MUd74QsrbB0tIBPL8rMMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0P
AQH/BAQDAgIEMAoGCCqGSM49BAMCA0gAMEUCIHDDhx0jTwXXQOSw7GP5CxyJ7hDL
GXYeOeU0htyDNMS5AiEArqJit9X6USYafWOSXMBXXdf7XEvbSceQ228GZ/QDnfM=
-----END CERTIFICATE-----";
pub const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBtzCCAV6gAwIBAgIUAQK22ECbqVYLRWJWKLwltECuHJAwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXZ3JlZmZpZXIgdGVzdCBhdXRob3JpdHkwIBcNMjYxMTIzMTky
ODM0WhgPMjEyNjEwMzAxOTI4MzRaMBcxFTATBgNVBAMMDGdhemVsbGUudGVzdDBZ
MBMGByqGSM49AgEGCCqGSM49AwEHA0IABK0HrmPfvPbn9nhrC5LaPqL8382gzB5S
5PWaBGoI2/XmkAYdGsmDEAGBfvb/IbR717yP1hAPiaK8ToT29zLGK7CjezB5MBcG
A1UdEQQQMA6CDGdhemVsbGUudGVzdDAJBgNVHRMEAjAAMBMGA1UdJQQMMAoGCCsG
AQUFBwMBMB0GA1UdDgQWBBRvrvQBf6vhLEf7HXY1XHKrvUSFPzAfBgNVHSMEGDAW
gBQ6gqW5sfTFHe+ELK2wdLSATy/KzDAKBggqhkjOPQQDAgNHADBEAiA7VVGQZDUR
rPCjfrhT0mL+cGjCXyhWqxfxlnGA9dfpDgIgCkXozO74lQCI5IO+kFPd5ZfL8XwF
3NjDWMOeYDlzfo8=
-----END CERTIFICATE-----";
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7mY/76TgQuxichYm
498CY4jvL1QxsWZjBWcM5f0yE6OhRANCAAStB65j37z25/Z4awuS2j6i/N/NoMwe
UuT1mgRqCNv15pAGHRrJgxABgX72/yG0e9e8j9YQD4mivE6E9vcyxiuw
-----END PRIVATE KEY-----";

#[derive(Debug)]
struct Loopback;
impl Lookup for Loopback {
    fn lookup(&self, _: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    }
}

/// An HTTPS server that answers every request with one report. Gives its port and a count of requests read.
fn serve() -> (u16, Arc<AtomicUsize>) {
    crate::watchdog::watch();
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), socket);
            let mut head = Vec::new();
            let mut byte = [0u8; 1];
            while !head.ends_with(b"\r\n\r\n") && tls.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            if !head.is_empty() {
                count.fetch_add(1, Ordering::SeqCst);
                let body = r#"{"overallResult":"PASSED","dateTime":"2025-09-30T12:44:06Z","reports":[]}"#;
                let _ = write!(tls, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            }
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
    });
    (port, served)
}

fn client(name: &str, port: u16, config: GazelleConfig) -> (GazelleClient, String) {
    let policy = GazellePolicy { hosts: vec![host(name, port)], oid_arcs: vec![] };
    let config = GazelleConfig { allow_loopback: vec![format!("{name}:{port}")], max_attempts: 1, ..config };
    let client = GazelleClient::with_lookup(config, policy, Arc::new(Loopback)).unwrap();
    (client, format!("https://{name}:{port}/evs/report.seam?oid={OID}"))
}

#[tokio::test]
async fn a_report_is_fetched_over_https_from_a_server_that_is_trusted() {
    let (port, served) = serve();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, AUTHORITY).unwrap();
    let trusting = GazelleConfig { extra_ca_file: Some(file), ..quick(&[]) };
    let (client_, link) = client("gazelle.test", port, trusting.clone());
    let facts = client_.fetch(&link).await;
    assert!(facts.report().is_some(), "{:?}", facts.outcome);
    assert!(served.load(Ordering::SeqCst) >= 1);

    // The same server under a name that its certificate does not carry.
    let before = served.load(Ordering::SeqCst);
    let (client_, link) = client("other.test", port, trusting);
    let outcome = client_.fetch(&link).await.outcome;
    assert!(matches!(outcome, GazelleOutcome::Unreachable { reason: Unreachable::Tls, .. }), "{outcome:?}");
    assert_eq!(served.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_request() {
    let (port, served) = serve();
    let (client, link) = client("gazelle.test", port, quick(&[]));
    let outcome = client.fetch(&link).await.outcome;
    assert!(matches!(outcome, GazelleOutcome::Unreachable { reason: Unreachable::Tls, .. }), "{outcome:?}");
    assert_eq!(served.load(Ordering::SeqCst), 0);
}

#[test]
fn an_authority_file_that_holds_none_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let build = || GazelleClient::new(GazelleConfig { extra_ca_file: Some(file.clone()), ..quick(&[]) }, GazellePolicy::default());
    assert!(build().is_err());
    std::fs::write(&file, "nothing").unwrap();
    assert!(build().is_err());
}
