//! Office 97–2003 binaries.

pub mod cfb;

use super::Context;
use crate::model::Facts;

/// Describes one file of this family.
pub fn inspect(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
