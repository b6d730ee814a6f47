//! The real server under hostile clients, with raw sockets: slow ones, many at once, and documents made to cost memory.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::ops::{Served, TOKEN, ask, ask_at, serve};

/// Longer than any deadline of the server that these tests set, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection from an address of loopback of its own.
fn connect_from(source: [u8; 4], served: &Served) -> TcpStream {
    let address: SocketAddr = served.address.parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::from(source), 0).into()).expect("a source");
        socket.connect(address).await.expect("a connection").into_std().expect("a stream")
    });
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends a byte now and then until the server closes the connection; says after how long, and what it answered.
fn drip(mut stream: TcpStream, every: Duration) -> (Duration, String) {
    let began = Instant::now();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    stream.set_read_timeout(Some(every)).expect("a timeout");
    while began.elapsed() < PATIENCE {
        let _ = stream.write_all(b"a");
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    (began.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

/// A draft on the deposit page.
fn draft(served: &Served) -> String {
    let (status, answer) = ask(served, "POST /deposit HTTP/1.1\nHost: HOST\nSec-Fetch-Site: same-origin");
    assert_eq!(status, 200, "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    body["draft"].as_str().expect("a draft").to_owned()
}

/// Asks every probe, from an address of its own.
fn probes_answer_within_a_second(served: &Served, what: &str) {
    for path in ["/livez", "/readyz", "/metrics"] {
        let began = Instant::now();
        let stream = connect_from([127, 0, 0, 200], served);
        let (status, answer) = ask_at(&served.address, stream, &format!("GET {path} HTTP/1.1\nHost: HOST\nAuthorization: Bearer {TOKEN}"));
        let took = began.elapsed();
        assert!(status == 200 || path == "/readyz" && answer.contains("\"ready\":false"), "{what}: {path}: {answer}");
        assert!(took < Duration::from_secs(1), "{what}: {path} took {took:?}");
    }
}

#[test]
fn health_answers_within_a_second_beside_three_hundred_dripping_connections() {
    // Deadlines are far away: what makes room is the limit, not the clock.
    let served = serve("head_seconds = 600");
    let mut held: Vec<_> = (0..300_usize)
        .map(|n| {
            let mut stream = connect_from([127, 0, 0, 11 + (n % 3) as u8], &served);
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ").expect("sent");
            stream
        })
        .collect();
    for round in 0..3 {
        for stream in &mut held {
            // Those that the server closed are gone.
            let _ = stream.write_all(b"a");
        }
        probes_answer_within_a_second(&served, &format!("dripping heads, round {round}"));
        // The console too: a connection that waits for a head gives way.
        assert_eq!(ask(&served, "GET / HTTP/1.1\nHost: HOST").0, 200);
    }
}

#[test]
fn health_answers_while_every_connection_runs_an_upload_and_others_are_told_to_wait() {
    let served = serve("head_seconds = 600\nmax_connections = 16");
    let held: Vec<_> = (0..4)
        .flat_map(|client| {
            let id = draft(&served);
            let served = &served;
            (0..4).map(move |n| {
                let mut stream = connect_from([127, 0, 0, 11 + client], served);
                let head = format!(
                    "PUT /deposit/{id}/file?path={n} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).expect("sent");
                // The server reads the body: a connection whose head was not read yet would give way.
                let mut wanted = [0; 25];
                stream.read_exact(&mut wanted).expect("the body is wanted");
                assert_eq!(&wanted, b"HTTP/1.1 100 Continue\r\n\r\n");
                stream.write_all(b"x").expect("sent");
                stream
            })
        })
        .collect();
    // A flood of connections that send nothing takes only what is reserved, and gives way there too.
    let flood: Vec<_> = (0..100).map(|_| connect_from([127, 0, 0, 50], &served)).collect();
    probes_answer_within_a_second(&served, "uploads under way");
    let (status, answer) = ask(&served, "GET / HTTP/1.1\nHost: HOST");
    assert!(status == 503 && answer.contains("retry-after: ") && answer.contains("Trop de connexions"), "{answer}");
    for mut stream in held {
        stream.write_all(&[b'x'; 999]).expect("the upload goes on");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 204");
    }
    drop(flood);
    assert_eq!(ask(&served, "GET / HTTP/1.1\nHost: HOST").0, 200);
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let served = serve("head_seconds = 1");
    let mut slow = connect_from([127, 0, 0, 11], &served);
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ").expect("sent");
    let (took, _) = drip(slow, Duration::from_millis(100));
    assert!(took < PATIENCE, "a byte now and then keeps a head open");
    let mut silent = connect_from([127, 0, 0, 11], &served);
    assert_eq!(silent.read(&mut [0; 100]).expect("closed, not timed out"), 0);
    let mut idle = connect_from([127, 0, 0, 11], &served);
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    idle.read_to_end(&mut answer).expect("answered, and closed after a while");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn an_upload_of_one_byte_at_a_time_is_ended_and_one_that_moves_is_not() {
    let served = serve("head_seconds = 1\nleast_bytes_per_second = 1000");
    let id = draft(&served);
    let put = |name: &str| {
        let mut stream = connect_from([127, 0, 0, 11], &served);
        let head = format!(
            "PUT /deposit/{id}/file?path={name} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 60000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    };
    let (took, answer) = drip(put("slow"), Duration::from_millis(100));
    assert!(took < PATIENCE, "a byte now and then keeps an upload open");
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("DEPOSIT-TOO-SLOW") && answer.contains("trop lentement"), "{answer}");
    // Far longer than the deadline of a head, and at more than the least rate.
    let mut steady = put("steady");
    for _ in 0..12 {
        steady.write_all(&[b'x'; 5_000]).expect("the upload goes on");
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut answer = [0; 12];
    steady.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 204");
}

#[test]
fn an_answer_that_is_not_read_does_not_hold_its_connection() {
    let served = serve("head_seconds = 1\nleast_bytes_per_second = 1000000\nmax_connections = 8");
    // More answers than buffers hold, asked for at once, and none read.
    let mut stream = connect_from([127, 0, 0, 11], &served);
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let request = "GET /static/console.js HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let began = Instant::now();
    let closed = loop {
        match stream.write_all(request.as_bytes()) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break true,
        }
        if began.elapsed() > PATIENCE {
            break false;
        }
    };
    assert!(closed, "a client that reads nothing keeps its connection");
}

#[test]
fn a_request_names_one_host_and_speaks_http_1_only() {
    let served = serve("");
    assert_eq!(ask(&served, "GET / HTTP/1.1\nHost: HOST\nHost: evil.example").0, 400);
    assert_eq!(ask(&served, "GET http://evil.example/ HTTP/1.1\nHost: HOST").0, 400);
    assert_eq!(ask(&served, "POST /deposit HTTP/1.1\nHost: HOST\nSec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site").0, 403);
    let mut stream = connect_from([127, 0, 0, 11], &served);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_large_description_is_refused_and_costs_no_memory() {
    let served = serve("");
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", served.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let own = "Host: HOST\nSec-Fetch-Site: same-origin\nContent-Type: application/json";
    let warm = draft(&served);
    assert_eq!(ask(&served, &format!("PUT /deposit/{warm}/file?path=a HTTP/1.1\n{own}\n\nx")).0, 204);
    let before = peak();
    let documents = [
        ("candidature.toml", format!("a = [{}]", "1,".repeat(4_000_000))),
        ("candidature.toml", format!("a = [{}]", "1,".repeat(32_000))),
        ("candidature.toml", format!("a = {}", "[".repeat(65_000))),
        ("submission.json", format!("{{\"items\":[{{\"zzz\":[{}1]}}]}}", "[],".repeat(600_000))),
        ("submission.json", "[".repeat(8_000_000)),
    ];
    for (name, document) in documents {
        let id = draft(&served);
        assert_eq!(ask(&served, &format!("PUT /deposit/{id}/file?path={name} HTTP/1.1\n{own}\n\n{document}")).0, 204);
        let (status, answer) = ask(&served, &format!("POST /deposit/{id} HTTP/1.1\n{own}\n\n{{}}"));
        assert!(status == 422 && answer.contains("SUBMISSION-MALFORMED"), "{name}: {answer}");
    }
    let grown = peak().saturating_sub(before) / 1024;
    assert!(grown < 64, "{grown} MB more");
}
