//! The sandbox, with the real binary as its child: what a taken-over child tries must not succeed.

use std::io::Write as _;
use std::path::PathBuf;

use greffier::check::previews::PreviewConfig;
use greffier::inspect::Limits;
use greffier::sandbox::{Drill, Mechanism, Rendered, Renderer, Sandbox, SandboxConfig};

async fn sandbox(config: SandboxConfig) -> Sandbox {
    Sandbox::start_with_program(config, Limits::default(), crate::support::program()).await.expect("this machine can isolate children")
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
            Drill::OpenFile | Drill::Socket | Drill::Execute | Drill::Thread | Drill::ExecutableMemory | Drill::SignalParent => {
                "sandbox-syscall"
            }
            Drill::Flood => "sandbox-reply",
            Drill::HalfAnswer | Drill::NoAnswer | Drill::LyingAnswer | Drill::BlameTheMachine => "sandbox-protocol",
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

/// Processes that `parent` is the parent of: the one that forks, and the children it has forked.
fn processes_of(parent: u32) -> Vec<Process> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    all.filter_map(Process::of).filter(|p| p.parent == parent).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    group: u32,
    /// Since the machine started; with the pid, no other process.
    started: u64,
    /// Hundredths of a second, in itself.
    cpu: u64,
    locked_in: bool,
}

impl Process {
    /// What /proc tells of it; `None` where it is gone, or only waits to be reaped.
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |n: usize| fields[n].parse::<u64>().ok();
        let locked_in = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?.contains("Seccomp:\t2");
        let (parent, group) = (u32::try_from(number(1)?).ok()?, u32::try_from(number(2)?).ok()?);
        (fields[0] != "Z").then_some(Self { pid, parent, group, started: number(19)?, cpu: number(11)?, locked_in })
    }

    fn is_running(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid.cast_signed()).unwrap(), signal).unwrap();
    }
}

fn wait_until<T>(what: &str, mut reached: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6_000 {
        if let Some(reached) = reached() {
            return reached;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("never: {what}")
}

/// `greffier doctor`, and the child in which it computes without end.
fn a_doctor_at_its_drills() -> (std::process::Child, Process, Process) {
    use std::os::unix::process::CommandExt as _;
    let doctor = crate::support::command().arg("doctor").process_group(0).stdout(std::process::Stdio::null()).spawn().unwrap();
    let computing = wait_until("a child that computes", || processes_of(doctor.id()).into_iter().find(|p| p.locked_in && p.cpu > 20));
    let server = processes_of(doctor.id()).into_iter().find(|p| !p.locked_in).expect("the process that forks");
    (doctor, server, computing)
}

#[test]
fn children_and_what_forks_them_die_with_their_parent() {
    let (mut doctor, server, computing) = a_doctor_at_its_drills();
    doctor.kill().unwrap();
    doctor.wait().unwrap();
    wait_until("the end of both", || (!server.is_running() && !computing.is_running()).then_some(()));
}

#[test]
fn what_a_terminal_sends_to_a_group_does_not_reach_children() {
    use rustix::process::Signal;
    let (mut doctor, server, computing) = a_doctor_at_its_drills();
    assert!(server.group != doctor.id() && computing.group == server.group, "{server:?} {computing:?}");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        server.signal(signal);
        computing.signal(signal);
    }
    // Both go on: the drill ends as it must, and the next child comes from the same server.
    assert!(doctor.wait().unwrap().success());
    assert!(!server.is_running(), "it outlived its parent");
}

/// Runs the test `name` again in a process of its own, whose children are its alone. True in that process; false where it
/// has been done.
fn alone(name: &str) -> bool {
    if std::env::var_os("GREFFIER_TEST_ALONE").is_some() {
        return true;
    }
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("GREFFIER_TEST_ALONE", "1")
        .status();
    assert!(again.unwrap().success());
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_replaced() {
    if !alone("sandbox::a_server_that_dies_is_replaced") {
        return;
    }
    let sandbox = sandbox(SandboxConfig::default()).await;
    let ourselves = std::process::id();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let [server] = processes_of(ourselves)[..] else { panic!("one server and no child: {:?}", processes_of(ourselves)) };
        assert!(!servers.contains(&server.pid));
        servers.push(server.pid);
        server.signal(rustix::process::Signal::KILL);
        let facts = sandbox.inspect(file(b"Bonjour.\n")).await.unwrap();
        assert_eq!(facts.size, 9);
    }
    // One that stands still is replaced too.
    let [still] = processes_of(ourselves)[..] else { panic!("one server and no child") };
    still.signal(rustix::process::Signal::STOP);
    assert_eq!(sandbox.inspect(file(b"Bonjour.\n")).await.unwrap().size, 9);
    wait_until("its end", || (!still.is_running()).then_some(()));
    // A crash costs the server: the next child has its code elsewhere. What only takes too much does not.
    let server = || processes_of(ourselves)[0].pid;
    let before = server();
    assert_eq!(sandbox.inspect(file(b"Bonjour.\n")).await.unwrap().size, 9);
    assert_eq!(server(), before);
    // So does garbage for an answer: the child was taken over, and knows where its code lies.
    for (drill, ended) in [(Drill::Stack, "sandbox-crash"), (Drill::HalfAnswer, "sandbox-protocol")] {
        let before = server();
        assert_eq!(sandbox.drill(drill).await.unwrap(), ended);
        assert_eq!(sandbox.inspect(file(b"Bonjour.\n")).await.unwrap().size, 9);
        assert_ne!(server(), before, "{drill:?}");
    }
    drop(sandbox);
    wait_until("the end of the server", || processes_of(ourselves).is_empty().then_some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_children_at_once_answer_for_their_own_file() {
    let sandbox = sandbox(SandboxConfig::default()).await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..200_usize {
        let sandbox = sandbox.clone();
        all.spawn(async move { (n, sandbox.inspect(file(&vec![b'a'; n])).await.unwrap().size) });
    }
    while let Some(one) = all.join_next().await {
        let (n, size) = one.unwrap();
        assert_eq!(size, n as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_nobody_waits_for_is_killed_and_reaped() {
    if !alone("sandbox::a_child_that_nobody_waits_for_is_killed_and_reaped") {
        return;
    }
    let sandbox = sandbox(SandboxConfig { cpu_seconds: 300, wall_seconds: 300, ..SandboxConfig::default() }).await;
    let ourselves = std::process::id();
    let drill = tokio::spawn(async move { sandbox.drill(Drill::Cpu).await });
    let child = wait_until("a child that computes", || processes_of(ourselves).into_iter().find(|p| p.locked_in && p.cpu > 20));
    drill.abort();
    wait_until("its end", || (!PathBuf::from(format!("/proc/{}", child.pid)).exists()).then_some(()));
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

/// Every call by which a process reaches another: none goes through, whoever the other belongs to. That a call is refused by
/// the kernel's own rules (`EPERM`, `ESRCH`) would depend on users and kernels; `ENOSYS` is the filter's answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_renderer_can_signal_itself_and_no_other_process() {
    let other = std::process::id();
    let calls = [
        ("kill", libc::SYS_kill, format!("{other}, 0")),
        ("kill itself", libc::SYS_kill, "$me, 0".into()),
        ("tkill", libc::SYS_tkill, format!("{other}, 0")),
        ("tgkill", libc::SYS_tgkill, format!("{other}, {other}, 0")),
        ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, format!("{other}, 0, $room")),
        ("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, format!("{other}, {other}, 0, $room")),
        ("pidfd_open", libc::SYS_pidfd_open, format!("{other}, 0")),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, "0, 0, 0, 0".into()),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, "0, 0, 0".into()),
        ("prlimit64", libc::SYS_prlimit64, format!("{other}, 7, 0, $room")),
        ("prlimit64 set", libc::SYS_prlimit64, format!("{other}, 7, $room, 0")),
        ("prlimit64 set its own", libc::SYS_prlimit64, "0, 7, $room, 0".into()),
        ("fcntl F_SETOWN", libc::SYS_fcntl, format!("0, {}, {other}", libc::F_SETOWN)),
        ("fcntl F_SETOWN_EX", libc::SYS_fcntl, "0, 15, $room".into()),
        ("fcntl F_SETSIG", libc::SYS_fcntl, "0, 10, 9".into()),
        ("setpriority", libc::SYS_setpriority, format!("0, {other}, 19")),
        ("sched_setaffinity", libc::SYS_sched_setaffinity, format!("{other}, 8, $room")),
        ("ptrace", libc::SYS_ptrace, format!("16, {other}, 0, 0")),
        ("process_vm_readv", libc::SYS_process_vm_readv, format!("{other}, 0, 0, 0, 0, 0")),
        ("process_vm_writev", libc::SYS_process_vm_writev, format!("{other}, 0, 0, 0, 0, 0")),
        ("kcmp", libc::SYS_kcmp, format!("$me, {other}, 0, 0, 0")),
    ];
    let mut script = "my $room = \"\\0\" x 128; my $me = $$ + 0; my $got;\n".to_owned();
    for (name, number, arguments) in calls {
        // ENOSYS is 38 wherever Linux runs Debian's perl.
        script += &format!("$got = syscall({number}, {arguments}); print \"reached: {name} $got $!\\n\" unless $got == -1 and $! == 38;\n");
    }
    script += &format!("print \"itself\\n\" if syscall({}, $me, $me, 0) == 0;\n", libc::SYS_tgkill);
    script += &format!("print \"its limits\\n\" if syscall({}, 0, 7, 0, $room) == 0;\n", libc::SYS_prlimit64);
    let Rendered::Output(said) = run_perl(b"", LONG, &script).await else { panic!("perl did not run") };
    assert_eq!(String::from_utf8_lossy(&said), "itself\nits limits\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_clock_ends_is_no_fact_until_it_has_ended_twice() {
    use greffier::check::Examiner;
    use greffier::check::facts_cache::FactsCache;
    let dir = tempfile::tempdir().unwrap();
    let cache = FactsCache::new(dir.path());
    // A second of processor time is not enough for a text of this size; a minute is.
    let bytes = b"Bonjour, voici la preuve numero 1.\n".repeat(1_600_000);
    let limits = Limits { max_cpu_ms: 600_000, ..Limits::default() };
    let start = async |cpu_seconds| {
        let config = SandboxConfig { cpu_seconds, wall_seconds: 600, ..SandboxConfig::default() };
        Sandbox::start_with_program(config, limits.clone(), crate::support::program()).await.expect("isolation")
    };
    let source = || greffier::check::Source { file: file(&bytes), digest: None };
    let slow = Examiner::new(start(1).await, Some(cache.clone()), 1);
    let once = slow.examine(source()).await;
    assert!(once.facts.as_ref().unwrap().has("sandbox-cpu"), "{once:?}");
    let sha256 = once.sha256.unwrap();
    assert_eq!(cache.get(&sha256, &limits).await, None);
    // A faster machine (more time, here) that shares the cache reads it.
    let fast = Examiner::new(start(600).await, Some(cache.clone()), 1).examine(source()).await;
    assert!(!fast.was_known && fast.facts.unwrap().signals.iter().all(|s| !s.code.as_str().starts_with("sandbox-")));
    // With a cache of its own, the slow machine gives up after the second time, and says the same from then on.
    let other = tempfile::tempdir().unwrap();
    let slow = Examiner::new(start(1).await, Some(FactsCache::new(other.path())), 1);
    for code in ["sandbox-cpu", "sandbox-repeated", "sandbox-repeated"] {
        let looked = slow.examine(source()).await;
        assert!(looked.facts.as_ref().unwrap().has(code), "{code}: {looked:?}");
    }
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
