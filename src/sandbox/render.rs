//! Somebody else's program that draws a vendor's file, locked in: pages of PDF and frames of videos, for previews.
//!
//! Renderers are large programs in C and C++ that read hostile files; greffier links none of them and needs none. Where
//! the operator has one installed, it runs like this:
//! 1. A child like any other ([`super::forkserver`]) locks itself in and then becomes the renderer (`execve`): resource limits, no new
//!    privileges, Landlock, another user where the parent is root, death with its parent, seccomp. All of it outlives
//!    the exec.
//! 2. **Landlock** leaves reading what a program needs to start (shared libraries, fonts, their configuration: the
//!    folders listed in [`Renderer::reads`]) and the one file on its standard input; executing nothing but the renderer
//!    and the dynamic loader; writing nothing; no TCP.
//! 3. **seccomp** must be wider than for our own parsers: a program that starts opens libraries, maps code, and may
//!    start threads. The list still has no `socket`, `connect` or any other call of the network, no `fork`, `vfork` or
//!    `clone` of a process, no signal to another process (`tgkill` to itself is the only one), no `ptrace`, `ioctl`, `mount`, `unshare`, `bpf`, `io_uring`, `keyctl`, `memfd_create`,
//!    and nothing that creates, renames, removes or changes files. What is not listed answers `ENOSYS` instead of
//!    killing: programs probe for new calls and fall back.
//! 4. It answers with pixels (PPM) on its standard output. They are as untrusted as the file: bounded, and decoded in an
//!    ordinary inspection child ([`super::Sandbox::pictures`]), never here.
//!
//! A renderer that dies, floods or takes too long costs a preview and a log line. It is never a finding: an old renderer
//! says nothing about a vendor's file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::child::{Occupant, lock_in};
use super::wire::Order;
use super::{Conversation, Death, Sandbox, SandboxConfig, SandboxError};

/// Exit code of a process that could not lock itself in or could not become the renderer; it says why on its standard
/// error, which until then is ours alone.
const EXIT_NOT_STARTED: i32 = 71;

/// A program that draws files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renderer {
    /// Absolute path of an executable (not a script: nothing but this and the dynamic loader may be executed).
    pub program: PathBuf,
    /// Folders and files it may read besides the file; what does not exist is passed over.
    pub reads: Vec<PathBuf>,
    /// Address space, bytes.
    pub memory_bytes: u64,
    /// CPU time, seconds.
    pub cpu_seconds: u64,
    /// Wall-clock time, seconds.
    pub wall_seconds: u64,
    /// Largest answer, bytes.
    pub max_output_bytes: u64,
}

/// What the process is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RenderRequest {
    program: PathBuf,
    arguments: Vec<String>,
    reads: Vec<PathBuf>,
    parent: u32,
    sandbox: SandboxConfig,
}

/// How a renderer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rendered {
    /// It said this and ended well: pixels, presumably.
    Output(Vec<u8>),
    /// It did not, in words for a log. What it wrote on its standard error is withheld: it may quote the file.
    Nothing(String),
}

impl Sandbox {
    /// Runs `renderer` with `arguments`, and with `file` as its standard input: at its beginning for programs that read
    /// it, and as `/proc/self/fd/0` for those that want a path.
    ///
    /// # Errors
    /// Only what neither the file nor the renderer can be blamed for.
    pub async fn render(&self, file: File, renderer: &Renderer, arguments: &[String]) -> Result<Rendered, SandboxError> {
        let user_id = self.config.user_id;
        let file = tokio::task::spawn_blocking(move || readable_by(file, user_id))
            .await
            .map_err(|e| SandboxError::Protocol(e.to_string()))?
            .map_err(SandboxError::Io)?;
        let request = RenderRequest {
            program: renderer.program.clone(),
            arguments: arguments.to_vec(),
            reads: renderer.reads.clone(),
            parent: std::process::id(),
            sandbox: SandboxConfig { memory_bytes: renderer.memory_bytes, cpu_seconds: renderer.cpu_seconds, ..self.config.clone() },
        };
        let child = self.children.spawn(&Order::Render(request), file).await.map_err(SandboxError::Spawn)?;
        let wall = Duration::from_secs(renderer.wall_seconds);
        let nothing = |why: String| Ok(Rendered::Nothing(why));
        match super::converse(child, renderer.max_output_bytes, wall).await? {
            Conversation::CutShort(Death::Wall) => nothing(format!("it did not end within {} s", renderer.wall_seconds)),
            Conversation::CutShort(_) => nothing(format!("it answered more than {} bytes", renderer.max_output_bytes)),
            Conversation::Ended { status, reply, .. } if status.success() => Ok(Rendered::Output(reply)),
            Conversation::Ended { status, complaint, .. } if status.code() == Some(EXIT_NOT_STARTED) => {
                Err(SandboxError::Unavailable { mechanism: "renderer".into(), reason: String::from_utf8_lossy(&complaint).trim().into() })
            }
            Conversation::Ended { status, .. } => nothing(format!("it ended with {status}")),
        }
    }
}

/// The same bytes, in a file that `user_id` may open by path as well: a descriptor can be read by whoever holds it, but
/// opening `/proc/self/fd/0` asks for permission again, which the user that a child of root becomes may not have.
fn readable_by(mut file: File, user_id: u32) -> std::io::Result<File> {
    let told = file.metadata()?;
    let root = rustix::process::geteuid().is_root();
    if !root || told.mode() & 0o004 != 0 || (told.uid() == user_id && told.mode() & 0o400 != 0) {
        return Ok(file);
    }
    // Without a name: nobody else finds it, and it goes with its last descriptor.
    let mut copy = tempfile::tempfile()?;
    file.rewind()?;
    std::io::copy(&mut file, &mut copy)?;
    copy.flush()?;
    std::os::unix::fs::fchown(&copy, Some(user_id), None)?;
    copy.rewind()?;
    Ok(copy)
}

/// Entry point of the process that becomes a renderer. Never returns.
pub(super) fn main(request: &RenderRequest) -> ! {
    let why = match lock_in(&request.sandbox, request.parent, Occupant::Renderer { program: &request.program, reads: &request.reads }) {
        Ok(_) => {
            let failed = std::process::Command::new(&request.program)
                .args(request.arguments.iter().map(OsStr::new))
                .env_clear()
                // One language, one place for numbers' dots; and no home where configuration might be looked for.
                .env("LC_ALL", "C")
                .env("HOME", "/nonexistent")
                .exec();
            format!("{} cannot be executed: {failed}", request.program.display())
        }
        Err((mechanism, reason)) => format!("{}: {reason}", mechanism.as_str()),
    };
    eprintln!("{why}");
    std::process::exit(EXIT_NOT_STARTED)
}

/// Where dynamic loaders stand (glibc and musl): executing a program executes its loader.
const LOADERS: [&str; 4] =
    ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"];

/// What Landlock leaves to a renderer.
pub(super) fn landlock_for(program: &Path, reads: &[PathBuf]) -> Result<(), String> {
    use landlock::{AccessFs, PathBeneath, PathFd, RulesetCreatedAttr as _};
    super::child::landlock_ruleset(|mut ruleset| {
        let file = AccessFs::ReadFile;
        for path in reads {
            let Ok(open) = PathFd::new(path) else { continue };
            let access = if path.is_dir() { file | AccessFs::ReadDir } else { file.into() };
            ruleset = ruleset.add_rule(PathBeneath::new(open, access)).map_err(|e| e.to_string())?;
        }
        for path in LOADERS.iter().map(Path::new).filter(|p| p.exists()).chain([program]) {
            let open = PathFd::new(path).map_err(|e| e.to_string())?;
            ruleset = ruleset.add_rule(PathBeneath::new(open, file | AccessFs::Execute)).map_err(|e| e.to_string())?;
        }
        ruleset.add_rule(PathBeneath::new(std::io::stdin(), file)).map_err(|e| e.to_string())
    })
}

/// The calls of a program that starts, reads files, computes in one or more threads, and writes what it found.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn seccomp_for_renderers() -> Result<(), String> {
    use std::collections::BTreeMap;

    use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

    let plain = [
        // Descriptors it has or opens; which paths it may open is Landlock's to say.
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_preadv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_lseek,
        libc::SYS_openat,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_fstatfs,
        libc::SYS_statfs,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_readlinkat,
        libc::SYS_getdents64,
        libc::SYS_getcwd,
        libc::SYS_fadvise64,
        libc::SYS_dup,
        libc::SYS_ppoll,
        // Memory, code included: libraries are mapped.
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        // Threads and signals of its own.
        libc::SYS_futex,
        libc::SYS_set_robust_list,
        libc::SYS_set_tid_address,
        libc::SYS_rseq,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Clocks and what it may know of itself and of the machine.
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_times,
        libc::SYS_getrusage,
        libc::SYS_getrandom,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_uname,
        libc::SYS_sysinfo,
        libc::SYS_getcpu,
        // The one exec; Landlock lets nothing but the renderer and the loader through.
        libc::SYS_execve,
    ];
    // Calls with a path of their own, from before the `…at` family, that newer architectures do not have.
    #[cfg(target_arch = "x86_64")]
    let old = [
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_readlink,
        libc::SYS_poll,
        libc::SYS_arch_prctl,
        libc::SYS_time,
        libc::SYS_getrlimit,
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let old: [i64; 0] = [];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = plain.into_iter().chain(old).map(|call| (call, Vec::new())).collect();
    let only = |argument: u8, length: SeccompCmpArgLen, operation: SeccompCmpOp, value: u64| -> Result<Vec<SeccompRule>, String> {
        let condition = SeccompCondition::new(argument, length, operation, value).map_err(|e| e.to_string())?;
        Ok(vec![SeccompRule::new(vec![condition]).map_err(|e| e.to_string())?])
    };
    let thread = u64::try_from(libc::CLONE_THREAD).map_err(|e| e.to_string())?;
    // Threads, not processes. `clone3` hides its flags behind a pointer and is not listed: the C library falls back.
    rules.insert(libc::SYS_clone, only(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), thread)?);
    // It may signal itself only. Another user or another Landlock domain would keep it from others as well, but not every
    // deployment has the one and not every kernel the other (Landlock ABI 6).
    rules.insert(libc::SYS_tgkill, super::child::signals_to_itself()?);
    // Without `F_SETOWN` and its kin, by which the kernel sends signals in its name.
    let harmless = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_GETLK];
    let mut descriptors = Vec::new();
    for command in harmless.into_iter().chain([libc::F_SETLK, libc::F_SETLKW]) {
        let command = u64::try_from(command).map_err(|e| e.to_string())?;
        descriptors.extend(only(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?);
    }
    rules.insert(libc::SYS_fcntl, descriptors);
    // Reading its own limits: process 0 is the caller, and no new limit is given.
    let itself = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0).map_err(|e| e.to_string())?;
    let no_new_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0).map_err(|e| e.to_string())?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![itself, no_new_limit]).map_err(|e| e.to_string())?]);
    let name = u64::try_from(libc::PR_SET_NAME).map_err(|e| e.to_string())?;
    rules.insert(libc::SYS_prctl, only(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, name)?);
    let architecture = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    let refusal = SeccompAction::Errno(u32::try_from(libc::ENOSYS).map_err(|e| e.to_string())?);
    let filter = SeccompFilter::new(rules, refusal, SeccompAction::Allow, architecture).map_err(|e| e.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn seccomp_for_renderers() -> Result<(), String> {
    Err(format!("no allow-list was written for {}", std::env::consts::ARCH))
}
