//! The sandbox, with the real binary as its child: what a taken-over child tries must not succeed.

use std::io::Write as _;
use std::path::PathBuf;

use greffier::check::previews::PreviewConfig;
use greffier::inspect::Limits;
use greffier::sandbox::{Drill, Mechanism, Rendered, Renderer, Sandbox, SandboxConfig, SandboxError};

use crate::support::program;

async fn sandbox(config: SandboxConfig) -> Sandbox {
    Sandbox::start_with_program(config, Limits::default(), program()).await.expect("this machine can isolate children")
}

fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.reopen().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_escape_and_excess_is_stopped_and_named() {
    let config = SandboxConfig { cpu_seconds: 1, wall_seconds: LONG, max_reply_bytes: 1 << 20, ..SandboxConfig::default() };
    let sandbox = sandbox(config).await;
    for drill in Drill::ALL {
        let ended = sandbox.drill(drill).await;
        let expected = match drill {
            Drill::Memory => "sandbox-memory",
            Drill::Cpu => "sandbox-cpu",
            Drill::Stack | Drill::Panic => "sandbox-crash",
            Drill::OpenFile | Drill::Socket | Drill::Execute | Drill::Thread | Drill::ExecutableMemory => "sandbox-syscall",
            Drill::Flood => "sandbox-reply",
            Drill::HalfAnswer => {
                assert!(matches!(ended, Err(SandboxError::Protocol(_))), "{drill:?}: {ended:?}");
                continue;
            }
        };
        assert_eq!(ended.unwrap_or_else(|e| panic!("{drill:?}: {e}")), expected, "{drill:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn allowing_a_mechanism_to_be_missing_does_not_switch_it_off() {
    let allow_missing = [Mechanism::Seccomp, Mechanism::Landlock, Mechanism::DroppedUser].into();
    let sandbox = sandbox(SandboxConfig { allow_missing, ..SandboxConfig::default() }).await;
    assert!(sandbox.missing().is_empty());
    assert_eq!(sandbox.drill(Drill::OpenFile).await.unwrap(), "sandbox-syscall");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_does_not_answer_in_time_is_a_technical_failure() {
    // It must be started in this time too.
    let config = SandboxConfig { wall_seconds: 5, cpu_seconds: 600, ..SandboxConfig::default() };
    let sandbox = sandbox(config).await;
    assert_eq!(sandbox.drill(Drill::Cpu).await.unwrap(), "sandbox-wall");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_and_a_plain_file_are_described() {
    let sandbox = sandbox(SandboxConfig::default()).await;
    let facts = sandbox.inspect(file(b"")).await.unwrap();
    assert!(facts.has("file-empty"));
    let facts = sandbox.inspect(file(b"Bonjour,\nvoici la preuve.\n")).await.unwrap();
    assert_eq!(facts.size, 26);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_too_large_to_map_is_said_not_to_be_checked() {
    let sandbox = sandbox(SandboxConfig { max_mapped_bytes: 4096, ..SandboxConfig::default() }).await;
    let facts = sandbox.inspect(file(&[b'a'; 5000])).await.unwrap();
    assert!(facts.has("file-too-large-to-inspect"));
    assert_eq!(facts.size, 5000);
}

#[test]
fn a_child_dies_with_its_parent() {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};
    let request = serde_json::json!({
        "task": { "drill": "cpu" }, "parent": 0, "sandbox": SandboxConfig { cpu_seconds: 300, ..SandboxConfig::default() }, "limits": Limits::default(),
    });
    // A shell as the parent: it starts a child that computes without end, says its pid, and waits.
    let request = request.to_string().replace("\"parent\":0", "\"parent\":'\"$$\"'");
    let script = format!("\"$0\" __inspect '{request}' </dev/null >/dev/null & echo $!; wait");
    let mut shell = Command::new("sh").arg("-c").arg(script).arg(program()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child: u32 = line.trim().parse().unwrap();
    let status = || std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
    let wait_until = |reached: &dyn Fn() -> bool, what: &str| {
        for _ in 0..6_000 {
            if reached() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{what}: {}", status());
    };
    wait_until(&|| status().contains("Seccomp:\t2"), "the child never locked itself in");
    shell.kill().unwrap();
    shell.wait().unwrap();
    wait_until(&|| status().is_empty() || status().contains("State:\tZ"), "the child outlived its parent");
}

/// Longer than a second of work takes on a busy machine, seconds.
const LONG: u64 = 300;

/// A program of Debian's base system as a renderer: perl can try anything.
fn perl(wall_seconds: u64) -> Renderer {
    Renderer {
        program: "/usr/bin/perl".into(),
        reads: PreviewConfig::default().readable,
        memory_bytes: 256 << 20,
        cpu_seconds: 1,
        wall_seconds,
        max_output_bytes: 4096,
    }
}

async fn run_perl(content: &[u8], wall_seconds: u64, script: &str) -> Rendered {
    let arguments = ["-e".to_owned(), script.to_owned()];
    sandbox(SandboxConfig::default()).await.render(file(content), &perl(wall_seconds), &arguments).await.expect("a renderer can be run")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renderer_reads_its_file_and_can_do_nothing_else() {
    let script = r#"
        $| = 1;
        my $direct = <STDIN>;
        open(my $again, "<", "/proc/self/fd/0") or print "path: $!\n";
        my $by_path = <$again>;
        print "read\n" if $direct eq "the file" and $by_path eq "the file";
        print "escaped: passwd\n" if open(my $f, "<", "/etc/passwd");
        print "escaped: home\n" if opendir(my $d, "/");
        print "escaped: proc\n" if open(my $f, "<", "/proc/self/environ");
        print "escaped: write\n" if open(my $f, ">", "/tmp/greffier-renderer-was-here");
        print "escaped: write the file\n" if open(my $f, "+<", "/proc/self/fd/0");
        print "escaped: mkdir\n" if mkdir("/tmp/greffier-renderer-was-here");
        print "escaped: unlink\n" if unlink("/proc/self/fd/0");
        print "escaped: $_\n" for grep { socket(my $s, $_, 1, 0) } 1, 2, 10, 16;
        print "escaped: kill\n" if kill(0, getppid());
        my $child = fork();
        if (defined $child) { print "escaped: fork\n"; exit 0; }
        exec { "/usr/bin/env" } "env";
        print "held\n";
    "#;
    assert_eq!(run_perl(b"the file", LONG, script).await, Rendered::Output(b"read\nheld\n".to_vec()));
    assert!(!PathBuf::from("/tmp/greffier-renderer-was-here").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renderer_that_dies_floods_or_lingers_gives_nothing() {
    for (wall_seconds, script, why) in [
        (LONG, "print 'x' x 5000", "it answered more than 4096 bytes"),
        (1, "sleep 600", "it did not end within 1 s"),
        (LONG, "kill 'SEGV', $$; $x .= 'x' x 1048576 while 1", "it ended with"),
        (LONG, "exit 3", "it ended with exit status: 3"),
    ] {
        let Rendered::Nothing(said) = run_perl(b"", wall_seconds, script).await else { panic!("{script}: pixels") };
        assert!(said.starts_with(why), "{script}: {said}");
    }
    let Rendered::Nothing(said) = run_perl(b"", LONG, "1 while 1").await else { panic!("pixels") };
    assert!(said.contains("signal: 24"), "SIGXCPU: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_renderer_draws_is_decoded_in_a_child_too() {
    let sandbox = sandbox(SandboxConfig::default()).await;
    let pixels = [b"P6\n4 2\n255\n".as_slice(), &[200; 24]].concat();
    let jpegs = sandbox.pictures(&pixels.repeat(2), 64).await.unwrap();
    assert!(jpegs.len() == 2 && jpegs.iter().all(|j| j.starts_with(&[0xFF, 0xD8, 0xFF])));
    assert!(sandbox.pictures(b"P6\n4 2\n255\nshort", 64).await.unwrap().is_empty());
}
