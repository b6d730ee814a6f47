//! The child's side: lock in, read the file, describe it, answer, end.
//!
//! Runs before any runtime, logger or argument parser exists, on the only thread there is. The order below
//! matters: what needs privileges or file access comes before what takes them away, and seccomp comes last.

#![expect(unsafe_code, reason = "limits, privileges and signals are set by system calls that no safe wrapper has")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::wire::{self, Reply, Request, Task};
use super::{Mechanism, SandboxConfig, drill, facts_of_large_file, render};
use crate::inspect::{Context, inspect, preview};

/// Where the last panic happened; the message is never kept, it may quote the file.
pub(super) static PANIC_LOCATION: Mutex<String> = Mutex::new(String::new());

/// Exit code of a child that could not even answer.
pub(super) const EXIT_NO_ANSWER: i32 = 70;

/// From now on a panic leaves its place, for the answer.
pub(super) fn keep_panic_locations() {
    std::panic::set_hook(Box::new(|info| {
        if let (Some(at), Ok(mut kept)) = (info.location(), PANIC_LOCATION.lock()) {
            *kept = format!("{}:{}", at.file(), at.line());
        }
    }));
}

/// Entry point of the child. Never returns.
pub(super) fn main(request: &Request) -> ! {
    let sent = match prepare(request) {
        Ok(ready) => say(&[wire::LOCKED_IN]).and_then(|()| send(&answer(request, ready))),
        Err(unavailable) => say(&[wire::NOT_LOCKED_IN]).and_then(|()| send(&unavailable)),
    };
    // `_exit`: destructors and exit handlers have nothing left to do and might need a forbidden call.
    // SAFETY: _exit(2) takes no pointer and does not return; nothing of this process is used afterwards.
    unsafe { libc::_exit(if sent.is_some() { 0 } else { EXIT_NO_ANSWER }) }
}

/// To the parent, at once.
fn say(bytes: &[u8]) -> Option<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).ok()
}

fn send(reply: &Reply) -> Option<()> {
    say(&wire::encode(reply).ok()?)
}

/// A child behind closed doors that has not yet read anything.
struct Ready {
    file: Mapped,
    ctx: Context,
    missing: Vec<(Mechanism, String)>,
}

/// Takes what is needed from outside and closes the doors; or says what this machine does not offer.
fn prepare(request: &Request) -> Result<Ready, Reply> {
    // Mapped before the doors close; not one byte is read before they are closed.
    let file = match map_standard_input(request.sandbox.max_mapped_bytes) {
        Ok(file) => file,
        Err(e) => return Err(Reply::Unavailable { mechanism: "mmap".into(), reason: e.to_string() }),
    };
    // Reads the clock for the first time, which may look the vDSO up in ways that are forbidden later.
    let ctx = Context::new(request.limits.clone());
    match lock_in(&request.sandbox, request.parent, Occupant::Parser) {
        Ok(missing) => Ok(Ready { file, ctx, missing }),
        Err((mechanism, reason)) => Err(Reply::Unavailable { mechanism: mechanism.as_str().into(), reason }),
    }
}

fn answer(request: &Request, ready: Ready) -> Reply {
    let Ready { file, mut ctx, missing } = ready;
    match request.task {
        Task::Probe => return Reply::Probe { missing },
        Task::Drill(drill) => return drill::run(drill, request.parent),
        Task::Inspect | Task::Thumbnail { .. } | Task::Pictures { .. } => {}
    }
    // The context is not looked at again after a panic: nothing of it can be seen half-changed.
    let described = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        if let Task::Thumbnail { format, max_side } = request.task {
            let jpeg = preview::thumbnail(file.bytes, format, max_side).map(|jpeg| BASE64.encode(jpeg));
            return Reply::Thumbnail { jpeg };
        }
        if let Task::Pictures { max_side } = request.task {
            let jpegs = preview::pictures(file.bytes, max_side).into_iter().map(|jpeg| BASE64.encode(jpeg)).collect();
            return Reply::Pictures { jpegs };
        }
        let facts = if file.size > file.bytes.len() as u64 {
            facts_of_large_file(file.bytes, file.size, request.sandbox.max_mapped_bytes)
        } else {
            inspect(file.bytes, &mut ctx)
        };
        Reply::Facts { facts: Box::new(facts) }
    }));
    match described {
        Ok(reply) => reply,
        Err(_) => Reply::Panicked { location: PANIC_LOCATION.lock().map(|l| l.clone()).unwrap_or_default() },
    }
}

struct Mapped {
    bytes: &'static [u8],
    size: u64,
}

fn map_standard_input(max: u64) -> std::io::Result<Mapped> {
    let stat = rustix::fs::fstat(rustix::stdio::stdin())?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let length = usize::try_from(size.min(max)).unwrap_or(0);
    if length == 0 {
        return Ok(Mapped { bytes: &[], size });
    }
    // SAFETY: a fresh private read-only mapping chosen by the kernel, never unmapped. If somebody shortens the
    // file meanwhile, reading past its end raises SIGBUS, which ends this child and nothing else.
    let bytes = unsafe {
        let start = rustix::mm::mmap(
            std::ptr::null_mut(),
            length,
            rustix::mm::ProtFlags::READ,
            rustix::mm::MapFlags::PRIVATE,
            rustix::stdio::stdin(),
            0,
        )?;
        std::slice::from_raw_parts(start.cast::<u8>(), length)
    };
    Ok(Mapped { bytes, size })
}

/// One door to close, or the system's answer.
type Step<'a> = &'a dyn Fn() -> Result<(), String>;

/// Who is locked in.
#[derive(Clone, Copy)]
pub(super) enum Occupant<'a> {
    /// Our own parsers, which have everything they need.
    Parser,
    /// A program that is yet to start: see [`render`].
    Renderer {
        /// What it is.
        program: &'a Path,
        /// What it may read.
        reads: &'a [PathBuf],
    },
}

impl Occupant<'_> {
    fn landlock(self) -> Result<(), String> {
        match self {
            Self::Parser => landlock_ruleset(Ok),
            Self::Renderer { program, reads } => render::landlock_for(program, reads),
        }
    }

    fn seccomp(self) -> Result<(), String> {
        match self {
            Self::Parser => seccomp_allow_list(),
            Self::Renderer { .. } => render::seccomp_for_renderers(),
        }
    }

    /// Descriptors open at once; the loader opens libraries one after the other.
    fn open_files(self) -> u64 {
        match self {
            Self::Parser => 16,
            Self::Renderer { .. } => 64,
        }
    }
}

/// Closes every door. Returns what was missing and allowed to be.
pub(super) fn lock_in(
    config: &SandboxConfig,
    parent: u32,
    occupant: Occupant<'_>,
) -> Result<Vec<(Mechanism, String)>, (Mechanism, String)> {
    let mut missing = Vec::new();
    let steps: [(Mechanism, Step<'_>); 6] = [
        (Mechanism::ResourceLimits, &|| resource_limits(config, occupant.open_files())),
        (Mechanism::NoNewPrivileges, &no_new_privileges),
        (Mechanism::Landlock, &|| occupant.landlock()),
        (Mechanism::DroppedUser, &|| drop_user(config.user_id)),
        // After the change of user, which clears it (prctl(2)).
        (Mechanism::ParentDeath, &|| die_with_parent(parent)),
        (Mechanism::Seccomp, &|| occupant.seccomp()),
    ];
    for (mechanism, step) in steps {
        if let Err(reason) = step() {
            if !config.allow_missing.contains(&mechanism) {
                return Err((mechanism, reason));
            }
            missing.push((mechanism, reason));
        }
    }
    Ok(missing)
}

fn resource_limits(config: &SandboxConfig, open_files: u64) -> Result<(), String> {
    let limits = [
        (libc::RLIMIT_AS, config.memory_bytes, config.memory_bytes),
        // SIGXCPU at the soft limit tells the parent why; SIGKILL one second later if it did not end.
        (libc::RLIMIT_CPU, config.cpu_seconds, config.cpu_seconds + 1),
        (libc::RLIMIT_FSIZE, 0, 0),
        (libc::RLIMIT_CORE, 0, 0),
        (libc::RLIMIT_NOFILE, open_files, open_files),
    ];
    for (resource, soft, hard) in limits {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: `limit` is a valid rlimit for the duration of the call.
        check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    }
    // SAFETY: plain prctl without pointers. Not dumpable: no ptrace, no core, /proc/self belongs to root.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}

fn no_new_privileges() -> Result<(), String> {
    // SAFETY: plain prctl without pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Landlock over everything it knows, `except` for the rules that are added: none for our own parsers.
pub(super) fn landlock_ruleset(
    except: impl FnOnce(landlock::RulesetCreated) -> Result<landlock::RulesetCreated, String>,
) -> Result<(), String> {
    use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
    // ABI 1 (Linux 5.13) is the least we call isolation; what newer kernels add is taken where it exists.
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(|r| {
            r.set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(ABI::V5))?
                .handle_access(AccessNet::from_all(ABI::V5))?
                .scope(Scope::from_all(ABI::V6))?
                .create()
        })
        .map_err(|e| e.to_string())?;
    let status = except(ruleset)?.restrict_self().map_err(|e| e.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("not enforced by this kernel".into()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn drop_user(user_id: u32) -> Result<(), String> {
    // SAFETY: calls without pointers, or with a null list of length zero.
    unsafe {
        if libc::geteuid() != 0 {
            // Already somebody without privileges; only root can become somebody else.
            return Ok(());
        }
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(user_id, user_id, user_id))?;
        check(libc::setresuid(user_id, user_id, user_id))
    }
}

fn die_with_parent(parent: u32) -> Result<(), String> {
    // SAFETY: plain prctl and getppid without pointers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        // The parent may have died before the line above.
        if u32::try_from(libc::getppid()) != Ok(parent) {
            libc::_exit(EXIT_NO_ANSWER);
        }
    }
    Ok(())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn seccomp_allow_list() -> Result<(), String> {
    use std::collections::BTreeMap;

    use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

    // What a single-threaded program needs to compute, allocate, answer on an open pipe and end. No call that
    // takes a path, an address or another process is here.
    let plain = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_sched_yield,
        libc::SYS_getpid,
        libc::SYS_gettid,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = plain.into_iter().map(|call| (call, Vec::new())).collect();
    // Memory may be mapped or re-protected, but never made executable.
    let not_executable = || -> Result<Vec<SeccompRule>, String> {
        let exec = u64::try_from(libc::PROT_EXEC).unwrap_or(4);
        let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(exec), 0).map_err(|e| e.to_string())?;
        Ok(vec![SeccompRule::new(vec![condition]).map_err(|e| e.to_string())?])
    };
    rules.insert(libc::SYS_mmap, not_executable()?);
    rules.insert(libc::SYS_mprotect, not_executable()?);
    rules.insert(libc::SYS_tgkill, signals_to_itself()?);
    let architecture = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture).map_err(|e| e.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

/// `abort` sends its own process a signal by `tgkill`; no other process may be sent one. The process has been forked and stays
/// the same through `execve`, so that its number is known here for good.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn signals_to_itself() -> Result<Vec<seccompiler::SeccompRule>, String> {
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
    let ourselves = u64::from(std::process::id());
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, ourselves).map_err(|e| e.to_string())?;
    Ok(vec![SeccompRule::new(vec![condition]).map_err(|e| e.to_string())?])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn seccomp_allow_list() -> Result<(), String> {
    Err(format!("no allow-list was written for {}", std::env::consts::ARCH))
}

fn check(returned: libc::c_int) -> Result<(), String> {
    if returned == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
}
