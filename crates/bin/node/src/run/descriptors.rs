//! How many files and sockets the process may open, and who gets them.
//!
//! Clients must never use up the descriptors that the vote log needs for its next segment: a node that cannot
//! write its votes ends. So the limit is raised as far as the system allows, storage and members have their
//! share, and the listeners take no more connections than the rest is good for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of everything that is neither a client's nor a member's: vote log, signing database, journal and block
/// store (64 files of it), listeners, timers and wake-ups of the runtime; some 120 in all, and room to spare.
const RESERVED: usize = 256;

/// Raises the soft limit to the hard one. Whatever is said against it, the old one still holds.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Most connections of the API beside `members_max` of members.
pub fn api_connections(members_max: u32) -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    let members = usize::try_from(members_max).unwrap_or(usize::MAX);
    let rest = limit.unwrap_or(usize::MAX).saturating_sub(RESERVED.saturating_add(members));
    let connections = aequa_api::connections_within(rest);
    if connections < aequa_api::CONNECTIONS_MAX {
        let limit = limit.unwrap_or(usize::MAX);
        let text = format!(
            "of {limit} file descriptors {RESERVED} are kept for storage and {members} for members: the API takes \
             {connections} connections instead of {}; a higher limit (ulimit -n) gives more",
            aequa_api::CONNECTIONS_MAX
        );
        tracing::warn!(target: "event", text, "warning");
    }
    connections
}
