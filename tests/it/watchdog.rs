//! A test that hangs is named, with what its processes logged, and ends the run: otherwise a run in CI would be cut off without
//! a word about which test it was.
//!
//! Helpers that start something (a process, a fleet, a queue, a bucket) call [`watch`] on the thread of the test. Each test
//! has [`BOUND`] from its first call on; `GREFFIER_TEST_BOUND_SECONDS` replaces it, for measurements and slow machines.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// The slowest test takes three minutes on a quiet machine, and each wait within one is bounded by four.
const BOUND: Duration = Duration::from_secs(20 * 60);
/// How much of each log is shown, bytes: its end, where the reason stands.
const LOG_SHOWN: usize = 20_000;

/// A test that is under way.
struct Watched {
    name: String,
    since: Instant,
    /// Processes that it started, each in a group of its own, and their logs.
    processes: BTreeMap<u32, PathBuf>,
}

static TESTS: Mutex<BTreeMap<u64, Watched>> = Mutex::new(BTreeMap::new());

fn tests() -> MutexGuard<'static, BTreeMap<u64, Watched>> {
    TESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry of this thread's test, removed when the thread ends: libtest runs each test on a thread of its own.
struct Entry(u64);

impl Drop for Entry {
    fn drop(&mut self) {
        tests().remove(&self.0);
    }
}

thread_local! {
    static ENTRY: OnceCell<Entry> = const { OnceCell::new() };
}

/// Watches the test that runs on this thread; nothing on the threads of a runtime.
pub fn watch() {
    let _ = entry();
}

/// Shows this log, and ends this process, when the test hangs.
pub fn started(process: u32, log: PathBuf) {
    if let Some(entry) = entry()
        && let Some(test) = tests().get_mut(&entry)
    {
        test.processes.insert(process, log);
    }
}

/// The process is gone: its number may soon be another's.
pub fn ended(process: u32) {
    tests().values_mut().for_each(|test| drop(test.processes.remove(&process)));
}

fn entry() -> Option<u64> {
    // libtest names threads after their tests: `module::test`.
    let name = std::thread::current().name().filter(|name| name.contains("::"))?.to_owned();
    static GUARD: Once = Once::new();
    GUARD.call_once(|| drop(std::thread::spawn(guard)));
    ENTRY.with(|entry| {
        let number = entry.get_or_init(|| {
            let mut tests = tests();
            let number = tests.last_key_value().map_or(0, |(last, _)| last + 1);
            tests.insert(number, Watched { name, since: Instant::now(), processes: BTreeMap::new() });
            Entry(number)
        });
        Some(number.0)
    })
}

fn bound() -> Duration {
    let seconds = std::env::var("GREFFIER_TEST_BOUND_SECONDS").ok();
    seconds.map_or(BOUND, |text| Duration::from_secs(text.parse().unwrap_or_else(|e| panic!("GREFFIER_TEST_BOUND_SECONDS: {e}"))))
}

/// Looks at all tests until one has hung, then ends this process.
fn guard() {
    let bound = bound();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let tests = tests();
        let Some(hung) = tests.values().find(|test| test.since.elapsed() > bound) else { continue };
        let mut said = format!("\ntest {} still runs after {} s: it hangs, and ends this run\n", hung.name, bound.as_secs());
        for (process, log) in &hung.processes {
            let log = std::fs::read(log).unwrap_or_default();
            let end = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]).into_owned();
            said += &format!("--- log of process {process}\n{end}\n");
        }
        // Not `eprintln!`, which libtest may hold back with the output of the test that started this thread.
        let _ = std::io::stderr().write_all(said.as_bytes());
        for process in tests.values().flat_map(|test| test.processes.keys()) {
            if let Some(group) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
        }
        std::process::abort();
    }
}

#[test]
fn a_test_that_hangs_is_named_with_the_log_of_what_it_started() {
    use std::os::unix::process::ExitStatusExt as _;
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "watchdog::child::hangs", "--ignored"])
        .env("GREFFIER_TEST_BOUND_SECONDS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(Signal::ABORT.as_raw()), "{said}");
    assert!(said.contains("test watchdog::child::hangs still runs after 1 s") && said.contains("the last line of its log"), "{said}");
    let process: i32 = said.split("log of process ").nth(1).and_then(|rest| rest.lines().next()).unwrap().parse().unwrap();
    // Gone, or a zombie that the system has not taken away yet.
    let runs = || std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    let since = Instant::now();
    while runs() {
        assert!(since.elapsed() < Duration::from_secs(60), "process {process} outlived the test that started it");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Run by the test above.
mod child {
    use std::os::unix::process::CommandExt as _;

    #[test]
    #[ignore = "run by a_test_that_hangs_is_named_with_the_log_of_what_it_started"]
    fn hangs() {
        super::watch();
        let mut log = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut log, b"the last line of its log\n").unwrap();
        let mut sleeping = std::process::Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        super::started(sleeping.id(), log.path().to_owned());
        let _ = sleeping.wait();
    }
}
