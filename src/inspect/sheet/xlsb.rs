use super::*;
pub fn xlsb(_bytes: &[u8], _ctx: &mut Context, _facts: &mut Facts) {}
