//! Pure: facts + pipeline + submission → findings → verdict. No I/O here.

pub mod documentation;
