//! TO BE WRITTEN.

use super::Context;
use crate::model::Facts;

/// Describes one file of this family.
pub fn inspect(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
