//! TO BE WRITTEN.

use super::Context;
use crate::model::Facts;

/// Describes one file of this family.
pub fn inspect(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
pub fn xlsx(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
pub fn xlsb(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
pub fn xls(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
pub fn ods(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
pub fn csv(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
