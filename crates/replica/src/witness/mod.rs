//! What operators were seen to say.

pub(crate) mod heard;
pub(crate) mod seen;
