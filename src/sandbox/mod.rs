//! The child process in which every format parser runs: start it, limit it, watch it, kill it.
//!
//! Goals:
//! 1. A hostile file is a finding, not an incident. The parsers run in a process of its own for every file, forked
//!    from this program's own binary ([`forkserver`]), with the file as its standard input (a read-only descriptor)
//!    and nothing else.
//! 2. The child locks itself in before it reads one byte of the file: resource limits, no new privileges,
//!    Landlock without any rule, another user where the parent is root, death with its parent, and a
//!    seccomp allow-list that kills on the first other system call. See [`child`].
//! 3. Whatever happens to the child once it is locked in is told as a finding on the file (`sandbox-memory`,
//!    `sandbox-protocol`…), garbage for an answer included, so that one file never holds up its deposit. Only a child that
//!    could not be started or could not lock itself in is our own failure. What follows from the bytes is cached like
//!    any fact; what the clock ended is not (`check::facts_cache`).
//! 4. A mechanism that this machine lacks is named, and nothing runs without it unless the operator lists it
//!    under `sandbox.allow_missing`.

mod child;
mod drill;
pub mod forkserver;
pub(crate) mod heard;
pub mod render;
pub(crate) mod wire;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use crate::inspect::Limits;
use crate::model::facts::Facts;
use crate::model::{Format, Signal};
use forkserver::{Child, ForkServer};
pub use render::{Rendered, Renderer};
use wire::Order;
pub use wire::{Drill, Reply, Request, Task};

/// One way in which the child is locked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// `setrlimit(2)`: address space, CPU, file size, descriptors, core.
    ResourceLimits,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Landlock: no file system, no TCP.
    Landlock,
    /// Another user and no groups, where the parent is root.
    DroppedUser,
    /// `PR_SET_PDEATHSIG`.
    ParentDeath,
    /// seccomp allow-list.
    Seccomp,
}

impl Mechanism {
    /// The word used in configuration and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResourceLimits => "resource-limits",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Landlock => "landlock",
            Self::DroppedUser => "dropped-user",
            Self::ParentDeath => "parent-death",
            Self::Seccomp => "seccomp",
        }
    }
}

/// Largest picture that a child may send, bytes: some times what a preview of the largest side takes.
const MAX_PICTURE_BYTES: usize = 4 * 1024 * 1024;

/// How children are limited. Configuration `[sandbox]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// Address space of a child, bytes (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// CPU time of a child, seconds (`RLIMIT_CPU`); the last resort behind `inspect.max_cpu_ms`.
    pub cpu_seconds: u64,
    /// Wall-clock time of a child, seconds.
    pub wall_seconds: u64,
    /// Largest answer of a child, bytes.
    pub max_reply_bytes: u64,
    /// Files larger than this are identified but not read further, bytes; below `memory_bytes`.
    pub max_mapped_bytes: u64,
    /// User id that a child takes where the parent is root (`nobody` on Debian).
    pub user_id: u32,
    /// Mechanisms that may be missing. Empty: everything is required.
    pub allow_missing: BTreeSet<Mechanism>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 512 * 1024 * 1024,
            // Twice what the costliest file takes up to `inspect.max_work` in a build without optimisation.
            cpu_seconds: 20,
            wall_seconds: 60,
            // What an honest file can say: a million characters of up to four bytes, a hundred thousand cells with as much text
            // again, ten thousand members. About 20 MB; as values in memory up to ten times that, below a child's own memory.
            max_reply_bytes: 32 * 1024 * 1024,
            max_mapped_bytes: 192 * 1024 * 1024,
            user_id: 65_534,
            allow_missing: BTreeSet::new(),
        }
    }
}

/// Why a file could not be inspected, through no fault of the file.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The child could not be started.
    #[error("the inspection process could not be started")]
    Spawn(#[source] std::io::Error),
    /// The child could not lock itself in.
    #[error("this machine cannot isolate the inspection process: {mechanism} is unavailable ({reason})")]
    Unavailable {
        /// What is missing.
        mechanism: String,
        /// What the system answered.
        reason: String,
    },
    /// The child was killed from outside.
    #[error("the inspection process was killed from outside")]
    Killed,
    /// The child ended before it was locked in, and so before it read anything.
    #[error("the inspection process ended before it was isolated ({0})")]
    NotLockedIn(String),
    /// The child that only tries the sandbox, without a file, did not do what it was asked.
    #[error("the inspection process broke its protocol: {0}")]
    Protocol(String),
    /// Reading from the child failed.
    #[error("the answer of the inspection process could not be read")]
    Io(#[source] std::io::Error),
}

/// Starts inspection children. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    config: SandboxConfig,
    limits: Limits,
    children: ForkServer,
    missing: Vec<(Mechanism, String)>,
}

impl Sandbox {
    /// Starts one empty child to learn what this machine offers.
    ///
    /// # Errors
    /// [`SandboxError::Unavailable`] for the first mechanism that is missing and not allowed to be.
    pub async fn start(config: SandboxConfig, limits: Limits) -> Result<Self, SandboxError> {
        // The kernel keeps the running binary reachable here even after an upgrade has replaced it on disk.
        let program = PathBuf::from("/proc/self/exe");
        Self::start_with_program(config, limits, program).await
    }

    /// Like [`Sandbox::start`], with the binary to execute: for tests, whose own binary is not ours.
    ///
    /// # Errors
    /// As [`Sandbox::start`].
    pub async fn start_with_program(config: SandboxConfig, limits: Limits, program: PathBuf) -> Result<Self, SandboxError> {
        let children = ForkServer::start(program).map_err(SandboxError::Spawn)?;
        let mut sandbox = Self { config, limits, children, missing: Vec::new() };
        let nothing = std::fs::File::open("/dev/null").map_err(SandboxError::Spawn)?;
        match sandbox.run(nothing, Task::Probe).await? {
            Ending::Replied(Reply::Probe { missing }) => sandbox.missing = missing,
            Ending::Replied(Reply::Unavailable { mechanism, reason }) => return Err(SandboxError::Unavailable { mechanism, reason }),
            Ending::Replied(_) => return Err(SandboxError::Protocol("unexpected answer to the probe".into())),
            Ending::Died(death) => return Err(SandboxError::Protocol(format!("the probe died: {death:?}"))),
        }
        Ok(sandbox)
    }

    /// Mechanisms this machine lacks and the operator allowed to be missing, with the system's answer.
    pub fn missing(&self) -> &[(Mechanism, String)] {
        &self.missing
    }

    /// The inspection limits every child gets; part of the identity of facts.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Describes one file. A child that dies of the file gives facts that say so.
    ///
    /// # Errors
    /// Only what is not the file's doing.
    pub async fn inspect(&self, file: std::fs::File) -> Result<Facts, SandboxError> {
        let size = file.metadata().map_err(SandboxError::Io)?.len();
        match self.run(file, Task::Inspect).await? {
            Ending::Replied(Reply::Facts { facts }) => match heard::check(&facts, size, &self.limits) {
                Ok(()) => Ok(*facts),
                Err(why) => Ok(self.facts_of_dead(size, &self.garbage(why))),
            },
            Ending::Replied(Reply::Panicked { location }) => {
                tracing::error!(location, "an inspector panicked; the file gets a finding");
                let mut facts = Facts::of_size(size);
                facts.push(Signal::new("sandbox-crash").arg("how", format!("panic {location}")));
                Ok(facts)
            }
            Ending::Replied(Reply::Unavailable { mechanism, reason }) => Err(SandboxError::Unavailable { mechanism, reason }),
            Ending::Replied(Reply::Probe { .. } | Reply::Thumbnail { .. } | Reply::Pictures { .. }) => {
                Ok(self.facts_of_dead(size, &self.garbage("an answer of another kind")))
            }
            Ending::Died(death) => Ok(self.facts_of_dead(size, &death)),
        }
    }

    /// Facts of a file whose child gave none.
    fn facts_of_dead(&self, size: u64, death: &Death) -> Facts {
        tracing::warn!(death = ?death, size, "an inspection process gave no facts of its file; the file gets a finding");
        let mut facts = Facts::of_size(size);
        facts.push(self.signal_of(death));
        facts
    }

    /// What a child answered that a file took over, presumably. It has learned where the code of its server lies: the next
    /// child comes from another.
    fn garbage(&self, why: &str) -> Death {
        tracing::warn!(why, "the answer of an inspection process is not believed; the next one comes from a new server");
        self.children.renew();
        Death::Protocol
    }

    /// One picture as a child sends it; `None` where it is no JPEG.
    fn jpeg(&self, base64: &str) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let jpeg = base64::engine::general_purpose::STANDARD.decode(base64).ok();
        let jpeg = jpeg.filter(|bytes| bytes.starts_with(&[0xFF, 0xD8, 0xFF]) && bytes.len() <= MAX_PICTURE_BYTES);
        if jpeg.is_none() {
            self.no_picture(&self.garbage("a picture that is none"));
        }
        jpeg
    }

    fn no_picture(&self, death: &Death) {
        tracing::warn!(death = ?death, "an inspection process gave no picture of its file; the page goes without");
    }

    /// A small JPEG of an image, made in a child like everything that reads a vendor's bytes; `None` where the
    /// picture does not decode within limits or the child died of it.
    ///
    /// # Errors
    /// As [`Sandbox::inspect`].
    pub async fn thumbnail(&self, file: std::fs::File, format: Format, max_side: u32) -> Result<Option<Vec<u8>>, SandboxError> {
        match self.run(file, Task::Thumbnail { format, max_side }).await? {
            Ending::Replied(Reply::Thumbnail { jpeg: Some(jpeg) }) => Ok(self.jpeg(&jpeg)),
            Ending::Replied(Reply::Thumbnail { jpeg: None } | Reply::Panicked { .. }) | Ending::Died(_) => Ok(None),
            Ending::Replied(Reply::Unavailable { mechanism, reason }) => Err(SandboxError::Unavailable { mechanism, reason }),
            Ending::Replied(_) => {
                self.no_picture(&self.garbage("an answer of another kind"));
                Ok(None)
            }
        }
    }

    /// Small JPEG pictures of the PPM images that a renderer drew, decoded in a child: pixels that come from a program
    /// which read a vendor's bytes are a vendor's bytes. Empty where they do not decode or the child died of them.
    ///
    /// # Errors
    /// As [`Sandbox::inspect`].
    pub async fn pictures(&self, ppm: &[u8], max_side: u32) -> Result<Vec<Vec<u8>>, SandboxError> {
        use std::io::Write as _;
        let memory = rustix::fs::memfd_create("pixels", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| SandboxError::Io(e.into()))?;
        let mut memory = std::fs::File::from(memory);
        memory.write_all(ppm).map_err(SandboxError::Io)?;
        match self.run(memory, Task::Pictures { max_side }).await? {
            Ending::Replied(Reply::Pictures { jpegs }) => Ok(jpegs.iter().map_while(|jpeg| self.jpeg(jpeg)).collect()),
            Ending::Replied(Reply::Panicked { .. }) | Ending::Died(_) => Ok(Vec::new()),
            Ending::Replied(Reply::Unavailable { mechanism, reason }) => Err(SandboxError::Unavailable { mechanism, reason }),
            Ending::Replied(_) => {
                self.no_picture(&self.garbage("an answer of another kind"));
                Ok(Vec::new())
            }
        }
    }

    /// Runs one drill and says how it ended: the code of the signal that a file doing the same would get.
    ///
    /// # Errors
    /// As [`Sandbox::inspect`]; [`SandboxError::Protocol`] also when the sandbox did not hold.
    pub async fn drill(&self, drill: Drill) -> Result<String, SandboxError> {
        let nothing = std::fs::File::open("/dev/null").map_err(SandboxError::Spawn)?;
        match self.run(nothing, Task::Drill(drill)).await? {
            Ending::Died(death) => Ok(self.signal_of(&death).code.to_string()),
            Ending::Replied(Reply::Panicked { .. }) => Ok("sandbox-crash".into()),
            Ending::Replied(Reply::Facts { facts }) if heard::check(&facts, 0, &self.limits).is_err() => Ok("sandbox-protocol".into()),
            Ending::Replied(_) => Err(SandboxError::Protocol(format!("the sandbox did not hold: {drill:?} went through"))),
        }
    }

    fn signal_of(&self, death: &Death) -> Signal {
        match death {
            Death::Memory => Signal::new("sandbox-memory").arg("limit_bytes", self.config.memory_bytes),
            Death::Cpu => Signal::new("sandbox-cpu").arg("limit_s", self.config.cpu_seconds),
            Death::Wall => Signal::new("sandbox-wall").arg("limit_s", self.config.wall_seconds),
            Death::Reply => Signal::new("sandbox-reply").arg("limit_bytes", self.config.max_reply_bytes),
            Death::Protocol => Signal::new("sandbox-protocol"),
            Death::Syscall => Signal::new("sandbox-syscall"),
            Death::Crash(how) => Signal::new("sandbox-crash").arg("how", how.as_str()),
        }
    }

    async fn run(&self, file: std::fs::File, task: Task) -> Result<Ending, SandboxError> {
        let request = Request { task, parent: std::process::id(), sandbox: self.config.clone(), limits: self.limits.clone() };
        let child = self.children.spawn(&Order::Inspect(request), file).await.map_err(SandboxError::Spawn)?;
        let wall = Duration::from_secs(self.config.wall_seconds);
        match converse(child, self.config.max_reply_bytes, wall).await? {
            Conversation::CutShort(death) => Ok(Ending::Died(death)),
            Conversation::Ended { status, reply, .. } if status.success() => {
                // A hundred milliseconds for the largest: too long for a thread that others wait for.
                let decoding = tokio::task::spawn_blocking(move || (wire::decode(&reply), wire::is_locked_in(&reply))).await;
                match decoding {
                    Ok((Ok(reply), _)) => Ok(Ending::Replied(reply)),
                    Ok((Err(why), true)) => Ok(Ending::Died(self.garbage(&why.to_string()))),
                    Ok((Err(why), false)) => Err(SandboxError::NotLockedIn(why.to_string())),
                    Err(e) => Err(SandboxError::Io(std::io::Error::other(e))),
                }
            }
            // SIGXCPU comes before SIGKILL where the file is to blame: this one came from outside (an operator, the
            // kernel's out-of-memory killer, our own end). What else asks a process to end, children ignore.
            Conversation::Ended { status, .. } if status.signal() == Some(libc::SIGKILL) => Err(SandboxError::Killed),
            Conversation::Ended { status, reply, .. } if !wire::is_locked_in(&reply) => Err(SandboxError::NotLockedIn(status.to_string())),
            Conversation::Ended { status, complaint, .. } => {
                self.children.renew();
                Ok(Ending::Died(Death::of(status, &complaint)))
            }
        }
    }
}

/// Listens to a child until it ends, says more than `max_reply` bytes, or has had `wall` of time.
async fn converse(mut child: Child, max_reply: u64, wall: Duration) -> Result<Conversation, SandboxError> {
    let (stdout, stderr) = (&mut child.stdout, &mut child.stderr);
    let mut reply = Vec::new();
    let mut complaint = Vec::new();
    let answer = async {
        stdout.take(max_reply + 1).read_to_end(&mut reply).await.map_err(Talk::Io)?;
        if reply.len() as u64 > max_reply { Err(Talk::TooMuch) } else { Ok(()) }
    };
    // The complaint is only looked at for the allocator's own words; it may quote the file and is never logged.
    let complain = async {
        (&mut *stderr).take(64 * 1024).read_to_end(&mut complaint).await.map_err(Talk::Io)?;
        tokio::io::copy(stderr, &mut tokio::io::sink()).await.map(|_| ()).map_err(Talk::Io)
    };
    // The first of the two to fail ends both: a child that floods is not listened to any longer.
    let talk = async { tokio::try_join!(answer, complain) };
    let ended = tokio::time::timeout(wall, talk).await;
    if !matches!(ended, Ok(Ok(_))) {
        child.kill();
        let _ = child.wait().await;
    }
    match ended {
        Err(_) => return Ok(Conversation::CutShort(Death::Wall)),
        Ok(Err(Talk::TooMuch)) => return Ok(Conversation::CutShort(Death::Reply)),
        Ok(Err(Talk::Io(e))) => return Err(SandboxError::Io(e)),
        Ok(Ok(_)) => {}
    }
    let status = child.wait().await.map_err(SandboxError::Io)?;
    Ok(Conversation::Ended { status, reply, complaint })
}

/// How a conversation with a child went.
enum Conversation {
    /// It closed its mouth and ended.
    Ended {
        status: std::process::ExitStatus,
        reply: Vec<u8>,
        /// The first of what it wrote on its standard error.
        complaint: Vec<u8>,
    },
    /// It was killed: [`Death::Wall`] or [`Death::Reply`].
    CutShort(Death),
}

/// Why a conversation with a child was ended before its time.
enum Talk {
    TooMuch,
    Io(std::io::Error),
}

enum Ending {
    Replied(Reply),
    Died(Death),
}

#[derive(Debug)]
enum Death {
    Memory,
    Cpu,
    Wall,
    Reply,
    /// An answer that is none, or that no inspection gives.
    Protocol,
    Syscall,
    Crash(String),
}

impl Death {
    fn of(status: std::process::ExitStatus, complaint: &[u8]) -> Self {
        let says = |words: &[u8]| memchr::memmem::find(complaint, words).is_some();
        match status.signal() {
            // What the standard library prints before it aborts on a failed allocation.
            Some(libc::SIGABRT) if says(b"memory allocation of") => Self::Memory,
            Some(libc::SIGABRT) if says(b"capacity overflow") => Self::Memory,
            Some(libc::SIGXCPU) => Self::Cpu,
            Some(libc::SIGSYS) => Self::Syscall,
            Some(_) if says(b"has overflowed its stack") => Self::Crash("stack".into()),
            Some(signal) => Self::Crash(format!("signal {signal}")),
            None => Self::Crash(format!("exit {}", status.code().unwrap_or(-1))),
        }
    }
}

/// Facts of a file that is too large to be mapped into a child: what it is, and that nothing more was read.
pub(crate) fn facts_of_large_file(head: &[u8], size: u64, limit: u64) -> Facts {
    let mut facts = Facts::of_size(size);
    crate::identify::identify(head, &mut facts);
    // Structure that stands at the end of the file was not seen: only what the first bytes say is kept.
    facts.signals.clear();
    if facts.format.is_some_and(|f| f == Format::Txt || f == Format::Csv) {
        facts.format = None;
    }
    facts.push(Signal::new("file-too-large-to-inspect").arg("size_bytes", size).arg("limit_bytes", limit));
    facts
}
