//! Duties: which are open and closed, how they move, which slots a client may open.

pub(crate) mod early;
pub(crate) mod flow;
pub(crate) mod states;
pub(crate) mod window;
