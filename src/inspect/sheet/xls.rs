use super::*;
pub fn xls(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
