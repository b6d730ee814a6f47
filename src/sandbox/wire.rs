//! What parent and child say to each other: the order as JSON, the reply as length-prefixed JSON.
//!
//! The reply may come from a child that a file took over: the parent reads a bounded number of bytes and
//! accepts nothing but one complete, well-formed [`Reply`].
//!
//! A child says [`LOCKED_IN`] as soon as it is, before it looks at one byte of its file. What is said before that is not the
//! file's doing, and what a child says after it, it cannot take back: a file cannot pass off what it does as a failure of
//! the machine.

use serde::{Deserialize, Serialize};

use super::render::RenderRequest;
use super::{Mechanism, SandboxConfig};
use crate::inspect::Limits;
use crate::model::Format;
use crate::model::facts::Facts;

/// What a child is started for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Order {
    /// Read a file, with our own parsers.
    Inspect(Request),
    /// Become a renderer.
    Render(RenderRequest),
}

/// What the child is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What to do once locked in.
    pub task: Task,
    /// Process id of the parent: a child whose parent is already another process dies at once.
    pub parent: u32,
    /// How to lock in.
    pub sandbox: SandboxConfig,
    /// The budget.
    pub limits: Limits,
}

/// What a child does once it is locked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Say what is missing.
    Probe,
    /// Describe the file.
    Inspect,
    /// Make a small picture of an image.
    Thumbnail {
        /// What the file was found to be.
        format: Format,
        /// Largest side, pixels.
        max_side: u32,
    },
    /// Make small pictures of what a renderer drew: PPM images, one after the other.
    Pictures {
        /// Largest side, pixels.
        max_side: u32,
    },
    /// Try one thing that must not succeed, as a taken-over child would.
    Drill(Drill),
}

/// An escape or an excess that the sandbox must stop. `greffier doctor` and the tests run them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drill {
    /// Allocate without end.
    Memory,
    /// Compute without end.
    Cpu,
    /// Overflow the stack.
    Stack,
    /// Open a file that everybody may read.
    OpenFile,
    /// Open a network socket.
    Socket,
    /// Start a program.
    Execute,
    /// Start a thread.
    Thread,
    /// Make memory executable.
    ExecutableMemory,
    /// Panic.
    Panic,
    /// Answer more than the parent takes.
    Flood,
    /// Answer half and end.
    HalfAnswer,
    /// Answer nothing and end well.
    NoAnswer,
    /// Answer with facts that no inspection gives.
    LyingAnswer,
    /// Blame the machine: say that it cannot isolate the child, which is isolated.
    BlameTheMachine,
    /// Send a signal to the parent.
    SignalParent,
}

impl Drill {
    /// Every drill.
    pub const ALL: [Self; 15] = [
        Self::Memory,
        Self::Cpu,
        Self::Stack,
        Self::OpenFile,
        Self::Socket,
        Self::Execute,
        Self::Thread,
        Self::ExecutableMemory,
        Self::Panic,
        Self::Flood,
        Self::HalfAnswer,
        Self::NoAnswer,
        Self::LyingAnswer,
        Self::BlameTheMachine,
        Self::SignalParent,
    ];
}

/// What the child answers. Its kind comes first, as a key: beside the fields, a large answer would have to be held whole
/// before any of it could be read as what it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// What the file is.
    Facts {
        /// The facts.
        facts: Box<Facts>,
    },
    /// A small picture, or none where the image does not decode within limits.
    Thumbnail {
        /// JPEG bytes, Base64.
        jpeg: Option<String>,
    },
    /// Small pictures, in the order they were drawn; those that do not decode end the list.
    Pictures {
        /// JPEG bytes, Base64.
        jpegs: Vec<String>,
    },
    /// An inspector panicked. The message is withheld: it may quote the file.
    Panicked {
        /// Source file and line.
        location: String,
    },
    /// A required mechanism is missing; nothing was read.
    Unavailable {
        /// Which.
        mechanism: String,
        /// What the system answered.
        reason: String,
    },
    /// Answer to a probe.
    Probe {
        /// Mechanisms missing and allowed to be.
        missing: Vec<(Mechanism, String)>,
    },
}

/// First byte of what a child says once every door is closed.
pub const LOCKED_IN: u8 = b'L';

/// First byte of what a child says that could not lock itself in; its reply is [`Reply::Unavailable`].
pub const NOT_LOCKED_IN: u8 = b'U';

const PREFIX: usize = 8;

/// Whether the child had closed every door when it ended, however it ended.
pub fn is_locked_in(bytes: &[u8]) -> bool {
    bytes.first() == Some(&LOCKED_IN)
}

/// `length (8 bytes, little-endian) ‖ JSON`: a child killed half-way is told from one that finished. One byte stands before it,
/// [`LOCKED_IN`] or [`NOT_LOCKED_IN`], which the child writes apart.
pub fn encode(reply: &Reply) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![0; PREFIX];
    serde_json::to_writer(&mut bytes, reply)?;
    let length = (bytes.len() - PREFIX) as u64;
    bytes[..PREFIX].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// What is no reply. It quotes nothing of what was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// Not one whole reply.
    #[error("{announced} bytes announced, {received} received")]
    Length {
        /// As the prefix says.
        announced: u64,
        /// After the prefix.
        received: u64,
    },
    /// Nothing, or less than a prefix.
    #[error("no answer")]
    Nothing,
    /// No JSON of a reply.
    #[error("malformed answer at byte {0}")]
    Malformed(usize),
    /// A reply that does not fit the state its child was in.
    #[error("an answer of another state")]
    State,
}

/// Reads all that a child said: its state, and one complete reply.
///
/// # Errors
/// [`Garbage`].
pub fn decode(bytes: &[u8]) -> Result<Reply, Garbage> {
    let (state, rest) = bytes.split_first().ok_or(Garbage::Nothing)?;
    let (prefix, body) = rest.split_first_chunk::<PREFIX>().ok_or(Garbage::Nothing)?;
    let (announced, received) = (u64::from_le_bytes(*prefix), body.len() as u64);
    if announced != received {
        return Err(Garbage::Length { announced, received });
    }
    let reply = serde_json::from_slice(body).map_err(|e| Garbage::Malformed(e.column()))?;
    let expected = if matches!(reply, Reply::Unavailable { .. }) { NOT_LOCKED_IN } else { LOCKED_IN };
    if *state == expected { Ok(reply) } else { Err(Garbage::State) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(reply: &Reply) -> Vec<u8> {
        [vec![LOCKED_IN], encode(reply).unwrap()].concat()
    }

    #[test]
    fn a_child_that_is_locked_in_cannot_say_that_it_is_not() {
        let mut bytes = said(&Reply::Unavailable { mechanism: "seccomp".into(), reason: "none".into() });
        assert_eq!(decode(&bytes).unwrap_err(), Garbage::State);
        bytes[0] = NOT_LOCKED_IN;
        assert!(matches!(decode(&bytes), Ok(Reply::Unavailable { .. })));
        let mut bytes = said(&Reply::Facts { facts: Box::new(Facts::of_size(7)) });
        bytes[0] = NOT_LOCKED_IN;
        assert_eq!(decode(&bytes).unwrap_err(), Garbage::State);
    }

    #[test]
    fn a_reply_survives_the_wire() {
        let bytes = said(&Reply::Facts { facts: Box::new(Facts::of_size(7)) });
        let Reply::Facts { facts } = decode(&bytes).unwrap() else { panic!() };
        assert_eq!(facts.size, 7);
    }

    #[test]
    fn a_reply_cut_anywhere_is_refused() {
        let bytes = said(&Reply::Facts { facts: Box::new(Facts::of_size(7)) });
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
