//! What parent and child say to each other: the order as JSON, the reply as length-prefixed JSON.
//!
//! The reply may come from a child that a file took over: the parent reads a bounded number of bytes and
//! accepts nothing but one complete, well-formed [`Reply`].

use serde::{Deserialize, Serialize};

use super::render::RenderRequest;
use super::{Mechanism, SandboxConfig, SandboxError};
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
}

impl Drill {
    /// Every drill.
    pub const ALL: [Self; 11] = [
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

const PREFIX: usize = 8;

/// `length (8 bytes, little-endian) ‖ JSON`: a child killed half-way is told from one that finished.
pub fn encode(reply: &Reply) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![0; PREFIX];
    serde_json::to_writer(&mut bytes, reply)?;
    let length = (bytes.len() - PREFIX) as u64;
    bytes[..PREFIX].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Reads one complete reply.
pub fn decode(bytes: &[u8]) -> Result<Reply, SandboxError> {
    let (prefix, body) = bytes.split_first_chunk::<PREFIX>().ok_or_else(|| SandboxError::Protocol("no answer".into()))?;
    if u64::from_le_bytes(*prefix) != body.len() as u64 {
        return Err(SandboxError::Protocol(format!("{} bytes announced, {} received", u64::from_le_bytes(*prefix), body.len())));
    }
    serde_json::from_slice(body).map_err(|e| SandboxError::Protocol(format!("malformed answer at byte {}", e.column())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reply_survives_the_wire() {
        let bytes = encode(&Reply::Facts { facts: Box::new(Facts::of_size(7)) }).unwrap();
        let Reply::Facts { facts } = decode(&bytes).unwrap() else { panic!() };
        assert_eq!(facts.size, 7);
    }

    #[test]
    fn a_reply_cut_anywhere_is_refused() {
        let bytes = encode(&Reply::Facts { facts: Box::new(Facts::of_size(7)) }).unwrap();
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
