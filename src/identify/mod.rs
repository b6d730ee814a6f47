//! True format from bytes and structure.

use crate::model::Facts;

/// Tells what `bytes` are and records it on `facts`.
pub fn identify(_bytes: &[u8], _facts: &mut Facts) {}
