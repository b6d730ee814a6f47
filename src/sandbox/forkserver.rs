//! Where children come from: a small process of ours that has started once, and from then on only forks.
//!
//! Executing a program of this size costs a millisecond before it reads its first byte: the loader relocates some
//! 75,000 pointers, and every page it writes is copied. So this binary is executed once for all files, without a file,
//! and waits. For each child the parent sends it a request and three descriptors; it forks, and the fork takes the
//! descriptors as its standard ones, forgets everything else, and goes on as [`super::child`] or [`super::render`] say.
//!
//! 1. **A child is a process of its own**, as before: its own memory, locked in before it reads one byte, and gone after
//!    its one file. The server never sees a file's bytes, nor an answer: nothing of one file can reach the next.
//! 2. **The parent stays the parent** (`CLONE_PARENT`): it kills, waits, and learns how a child ended without asking the
//!    server, and a child dies with it.
//! 3. **Signals from a terminal do not reach children**: the server leaves the group of its parent and ignores what asks
//!    to end. Whether to go on with a file is the parent's to say.
//! 4. A server that dies or stands still is replaced; it ends by itself when its parent is gone.
//! 5. Children of one server share where their code and data lie. **A child that crashes costs the server**: what a file learns
//!    by crashing, if only whether it did, is no longer true for the next.

#![expect(unsafe_code, reason = "clone(2), signal(2) and close_range(2) have no safe wrapper")]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::child::EXIT_NO_ANSWER;
use super::wire::Order;

/// First argument of the server's process.
pub const FORK_ARGUMENT: &str = "__forkserver";

/// Largest order, bytes of JSON: what one datagram holds, well above what any order needs.
const MAX_ORDER: usize = 64 * 1024;

/// How long a server may take to fork. It does nothing else, so that one that takes longer is stuck, and all jobs with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Standard input, output and error of a child.
const DESCRIPTORS: usize = 3;

/// The parent's side. Cheap to clone; the server ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct ForkServer {
    orders: mpsc::Sender<Asked>,
}

/// What the thread that keeps a server is asked.
enum Asked {
    /// A child.
    Child(Birth),
    /// The next child from a new server.
    NewServer,
}

/// A child that was asked for.
struct Birth {
    order: Vec<u8>,
    descriptors: [OwnedFd; DESCRIPTORS],
    /// Nobody waits there any more: the child is killed, by being dropped.
    born: oneshot::Sender<Result<OwnedChild, Unborn>>,
}

impl ForkServer {
    /// Starts the thread that keeps a server of `program`; the server itself starts with the first order.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(program: PathBuf) -> io::Result<Self> {
        let (orders, asked) = mpsc::channel();
        // A thread of its own, for as long as children may be wanted: for the kernel the parent of a child is a thread,
        // and the child is killed when that ends.
        std::thread::Builder::new().name("forkserver".into()).spawn(move || keep(&program, &asked))?;
        Ok(Self { orders })
    }

    /// A child with `file` as its standard input that does what `order` says. It is killed when it is dropped.
    ///
    /// # Errors
    /// The system gives no process, pipe or descriptor.
    pub(super) async fn spawn(&self, order: &Order, file: std::fs::File) -> io::Result<Child> {
        let order = serde_json::to_vec(order)?;
        // What a server that died may have started is never heard: each attempt has pipes of its own.
        match self.attempt(order.clone(), file.try_clone()?).await {
            Err(Unborn { server_gone: true, why }) => {
                tracing::warn!(
                    error = &why as &dyn std::error::Error,
                    "the process that starts inspection processes has ended; another takes its place"
                );
                self.attempt(order, file).await
            }
            attempt => attempt,
        }
        .map_err(|unborn| unborn.why)
    }

    /// Lets children come from a new server from now on: those of one server have their code and data at the same addresses, and
    /// what a file learns by making its child crash must not serve the next.
    pub(super) fn renew(&self) {
        // Where that thread is gone, the next child says so.
        let _ = self.orders.send(Asked::NewServer);
    }

    async fn attempt(&self, order: Vec<u8>, file: std::fs::File) -> Result<Child, Unborn> {
        let (stdout, stdout_of_child) = pipe_from_child()?;
        let (stderr, stderr_of_child) = pipe_from_child()?;
        let (born, birth) = oneshot::channel();
        let no_thread = || io::Error::other("the thread that starts children is gone");
        let asked = Birth { order, descriptors: [file.into(), stdout_of_child, stderr_of_child], born };
        self.orders.send(Asked::Child(asked)).map_err(|_| no_thread())?;
        let process = birth.await.map_err(|_| no_thread())??;
        Ok(Child { process, stdout, stderr })
    }
}

/// Why there is no child.
struct Unborn {
    /// The server has ended: another may succeed.
    server_gone: bool,
    why: io::Error,
}

impl From<io::Error> for Unborn {
    fn from(why: io::Error) -> Self {
        Self { server_gone: false, why }
    }
}

impl Unborn {
    fn server_gone(why: impl Into<io::Error>) -> Self {
        Self { server_gone: true, why: why.into() }
    }
}

/// A pipe: our end, and the one the child writes to, which blocks like any program's output.
fn pipe_from_child() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (sender, receiver) = pipe::pipe()?;
    Ok((receiver, sender.into_blocking_fd()?))
}

/// A child and what it says. Killed when dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: OwnedChild,
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

impl Child {
    /// Ends the child; nothing where it has ended.
    pub(super) fn kill(&self) {
        self.process.kill();
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    /// The system does not say how it ended.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.ended().await
    }
}

/// A child of ours: to be killed and reaped by whoever drops it.
#[derive(Debug)]
struct OwnedChild {
    /// Gone once it has been reaped.
    pidfd: Option<OwnedFd>,
}

impl OwnedChild {
    /// A descriptor of the child `pid`, which nobody but us can reap: the number cannot have been given to another.
    fn of(pid: Pid) -> io::Result<Self> {
        Ok(Self { pidfd: Some(pidfd_open(pid, PidfdFlags::empty())?) })
    }

    fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            // It fails only where the child has ended already.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// How the child ended; waits for it.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let Some(pidfd) = &self.pidfd else { return Err(io::ErrorKind::NotFound.into()) };
        // SAFETY: the descriptor is open for as long as `pidfd` is borrowed, which is longer than the watch.
        let watch = unsafe { AsyncFd::register_with_interest(pidfd.as_fd(), tokio::io::Interest::READABLE) }?;
        // Readable once it has ended.
        let _ = watch.readable().await?;
        drop(watch);
        let status = wait_for(pidfd.as_fd())?;
        self.pidfd = None;
        Ok(status)
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        self.kill();
        if let Some(pidfd) = self.pidfd.take() {
            // What was killed ends within moments, unless the file it reads is on a storage that hangs: nobody waits for it.
            reap_aside(move || wait_for(pidfd.as_fd()).map(|_| ()));
        }
    }
}

/// Waits for a process that was killed in a thread of its own.
fn reap_aside(wait: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let reaper = std::thread::Builder::new().name("reaper".into()).spawn(move || {
        if let Err(error) = wait() {
            tracing::debug!(error = &error as &dyn std::error::Error, "a process that was killed cannot be waited for");
        }
    });
    if let Err(error) = reaper {
        tracing::warn!(error = &error as &dyn std::error::Error, "a process that was killed stays in the process table");
    }
}

fn wait_for(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    loop {
        let ended = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))?;
        let Some(ended) = ended else { continue };
        // As wait(2) encodes it.
        return Ok(match (ended.exit_status(), ended.terminating_signal()) {
            (Some(code), _) => ExitStatus::from_raw(code << 8),
            (None, Some(signal)) => ExitStatus::from_raw(signal),
            (None, None) => continue,
        });
    }
}

/// Hands orders to a server until nobody is left who could give one.
fn keep(program: &Path, asked: &mpsc::Receiver<Asked>) {
    let mut server: Option<Server> = None;
    while let Ok(asked) = asked.recv() {
        let Asked::Child(Birth { order, descriptors, born }) = asked else {
            server = None;
            continue;
        };
        let child = ask(&mut server, program, &order, &descriptors);
        // The child's ends must be the child's alone, or its silence would never end.
        drop(descriptors);
        let _ = born.send(child);
    }
}

/// A child, from the server at hand or from a new one.
fn ask(server: &mut Option<Server>, program: &Path, order: &[u8], descriptors: &[OwnedFd; DESCRIPTORS]) -> Result<OwnedChild, Unborn> {
    let running = match server {
        Some(running) => running,
        None => server.insert(Server::start(program)?),
    };
    let child = running.send(order, descriptors).and_then(|()| running.child());
    if child.as_ref().is_err_and(|unborn| unborn.server_gone) {
        *server = None;
    }
    child
}

/// A running server.
#[derive(Debug)]
struct Server {
    process: std::process::Child,
    socket: OwnedFd,
}

impl Server {
    fn start(program: &Path) -> io::Result<Self> {
        let (socket, of_server) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for waiting in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&socket, waiting, Some(PATIENCE))?;
        }
        let process = Command::new(program)
            .arg(FORK_ARGUMENT)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(of_server))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, socket })
    }

    fn send(&self, order: &[u8], descriptors: &[OwnedFd; DESCRIPTORS]) -> Result<(), Unborn> {
        if order.len() > MAX_ORDER {
            return Err(io::Error::other(format!("an order of {} bytes; at most {MAX_ORDER} are taken", order.len())).into());
        }
        let borrowed = [descriptors[0].as_fd(), descriptors[1].as_fd(), descriptors[2].as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
            return Err(io::Error::other("no room for descriptors").into());
        }
        // A datagram: all of it or nothing.
        rustix::io::retry_on_intr(|| rustix::net::sendmsg(&self.socket, &[IoSlice::new(order)], &mut control, SendFlags::NOSIGNAL))
            .map_err(Unborn::server_gone)?;
        Ok(())
    }

    /// The child that the last order made.
    fn child(&self) -> Result<OwnedChild, Unborn> {
        let mut answer = [0; size_of::<i32>()];
        let received = rustix::io::retry_on_intr(|| rustix::net::recv(&self.socket, &mut answer, RecvFlags::empty()));
        let (length, _) = received.map_err(Unborn::server_gone)?;
        if length != answer.len() {
            return Err(Unborn::server_gone(io::ErrorKind::UnexpectedEof));
        }
        let answer = i32::from_ne_bytes(answer);
        if answer <= 0 {
            return Err(io::Error::from_raw_os_error(answer.saturating_neg()).into());
        }
        let Some(pid) = Pid::from_raw(answer) else { return Err(Unborn::server_gone(io::ErrorKind::InvalidData)) };
        OwnedChild::of(pid).map_err(|why| {
            // It runs, and nobody would ever hear of it.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            why.into()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing: what it has started is ours.
        let _ = self.process.kill();
        if let Ok(Some(status)) = self.process.try_wait() {
            tracing::debug!(%status, "the process that starts inspection processes has ended");
            return;
        }
        let waited = self.process.id();
        reap_aside(move || {
            let Some(pid) = i32::try_from(waited).ok().and_then(Pid::from_raw) else { return Ok(()) };
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()))?;
            Ok(())
        });
    }
}

/// Sees to it that ended children can be asked how they ended: whoever starts this program may have left SIGCHLD ignored, and
/// then the kernel forgets them at once (wait(2)). To be called before any runtime exists.
pub fn expect_children() {
    // SAFETY: restores the default disposition, which installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Entry point of the server's process. Never returns.
pub fn main() -> ! {
    super::child::keep_panic_locations();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let socket = rustix::stdio::stdin();
    let mut order = vec![0; MAX_ORDER];
    loop {
        let Ok((length, descriptors)) = receive(socket, &mut order) else { std::process::exit(EXIT_NO_ANSWER) };
        let Some(descriptors) = descriptors else {
            // The parent is gone.
            std::process::exit(0)
        };
        let answer = match fork_sibling() {
            Ok(None) => become_child(&order[..length], descriptors),
            Ok(Some(pid)) => pid,
            Err(error) => error.raw_os_error().unwrap_or(libc::EAGAIN).saturating_neg(),
        };
        drop(descriptors);
        if rustix::net::send(socket, &answer.to_ne_bytes(), SendFlags::NOSIGNAL).is_err() {
            std::process::exit(0)
        }
    }
}

/// One order; no descriptors where there is nobody any more who could give one.
fn receive(socket: BorrowedFd<'_>, order: &mut [u8]) -> io::Result<(usize, Option<[OwnedFd; DESCRIPTORS]>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(order)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    if received.bytes == 0 {
        return Ok((0, None));
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("an order is too long"));
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    let descriptors = descriptors.try_into().map_err(|_| io::Error::other("an order without its descriptors"))?;
    Ok((received.bytes, Some(descriptors)))
}

/// Forks a child of our own parent; `None` in the child.
///
/// glibc and musl know no such fork, so this is the system call itself. What their `fork` does besides is for programs
/// with several threads; this one has one, and `abort` asks the kernel for the thread's number (glibc 2.34, musl).
fn fork_sibling() -> io::Result<Option<i32>> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has a copy of this memory, and goes on with the same stack at the same place. The
    // process has one thread, so no lock can be held by another. Null for the stack and for what the flags do not ask for;
    // the order of those differs between architectures, their value does not.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0_usize, 0_usize, 0_usize, 0_usize) };
    match i32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) if pid > 0 => Ok(Some(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The child goes on from here, with its three descriptors and no other.
fn become_child(order: &[u8], descriptors: [OwnedFd; DESCRIPTORS]) -> ! {
    let [stdin, stdout, stderr] = &descriptors;
    let taken = rustix::stdio::dup2_stdin(stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(stdout))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr))
        .is_ok();
    // Numbers above the standard ones: those received are among them, so nothing above was overwritten by `dup2`.
    debug_assert!(descriptors.iter().all(|d| d.as_raw_fd() > 2));
    std::mem::forget(descriptors);
    // SAFETY: closes descriptors that nothing in this process refers to any more; Linux 5.9, older than Landlock.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } == 0;
    match serde_json::from_slice::<Order>(order) {
        Ok(Order::Inspect(request)) if taken && closed => super::child::main(&request),
        Ok(Order::Render(request)) if taken && closed => super::render::main(&request),
        // SAFETY: ends this process at once.
        _ => unsafe { libc::_exit(EXIT_NO_ANSWER) },
    }
}
