//! Drills: what a taken-over child would try, tried on purpose, to see the sandbox hold.
//!
//! Each does its worst and then answers as if nothing had happened; an answer is the failure of the sandbox.

#![expect(unsafe_code, reason = "drills do what an exploit would: map executable memory, end without unwinding")]

use std::hint::black_box;
use std::io::Write as _;

use super::child::PANIC_LOCATION;
use super::wire::{Drill, Reply};
use crate::model::facts::Facts;

/// Does `drill` in an already locked-in child of `parent`.
pub fn run(drill: Drill, parent: u32) -> Reply {
    match drill {
        Drill::Memory => {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            loop {
                kept.push(black_box(vec![1u8; 1 << 20]));
            }
        }
        Drill::Cpu => {
            let mut n = 0u64;
            loop {
                n = black_box(n.wrapping_add(1));
            }
        }
        Drill::Stack => {
            black_box(deeper(1));
        }
        Drill::OpenFile => {
            black_box(std::fs::File::open("/etc/passwd").is_ok());
        }
        Drill::Socket => {
            black_box(std::net::TcpStream::connect(("127.0.0.1", 9)).is_ok());
        }
        Drill::Execute => {
            black_box(std::process::Command::new("/bin/true").status().is_ok());
        }
        Drill::Thread => {
            black_box(std::thread::Builder::new().spawn(|| ()).is_ok());
        }
        Drill::ExecutableMemory => {
            use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
            // SAFETY: a fresh mapping that nothing refers to; never reached where the sandbox holds.
            let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE) };
            black_box(mapped.is_ok());
        }
        Drill::Panic => {
            let caught = std::panic::catch_unwind(|| panic!("the text of a document"));
            return match caught {
                Err(_) => Reply::Panicked { location: PANIC_LOCATION.lock().map(|l| l.clone()).unwrap_or_default() },
                Ok(()) => held_not(),
            };
        }
        Drill::Flood => {
            let noise = [b'x'; 64 * 1024];
            let mut stdout = std::io::stdout().lock();
            while stdout.write_all(&noise).is_ok() {}
        }
        Drill::HalfAnswer => {
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(&[200, 0, 0, 0, 0, 0, 0, 0, b'{']).and_then(|()| stdout.flush());
            // SAFETY: ends this process at once, which is the drill.
            unsafe { libc::_exit(0) }
        }
        // SAFETY: ends this process at once, which is the drill.
        Drill::NoAnswer => unsafe { libc::_exit(0) },
        Drill::LyingAnswer => return Reply::Facts { facts: Box::new(Facts::of_size(u64::MAX)) },
        Drill::BlameTheMachine => return Reply::Unavailable { mechanism: "seccomp".into(), reason: "a lie".into() },
        Drill::SignalParent => {
            // Signal 0 asks only whether a signal could be sent.
            // SAFETY: a system call without pointers.
            black_box(unsafe { libc::syscall(libc::SYS_tgkill, parent, parent, 0) });
        }
    }
    held_not()
}

fn held_not() -> Reply {
    Reply::Probe { missing: Vec::new() }
}

fn deeper(n: u64) -> u64 {
    let room = black_box([n; 512]);
    if n == u64::MAX { 0 } else { deeper(n + 1) + room[3] }
}
