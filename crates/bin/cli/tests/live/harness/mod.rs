//! Processes, ports, HTTP and waiting, for all live tests.

mod cluster;
mod damage;
mod http;
mod node;
mod ports;
mod promises;
mod wallet;

pub use cluster::{Cluster, Shape};
pub use damage::{change_state, flip_in_files, flip_in_state};
pub use http::Answer;
#[cfg(feature = "e2e")]
pub use http::request;
pub use node::{Node, command, copy_dir, output, tail};
pub use ports::Ports;
pub use promises::Promises;
pub use wallet::{CHAIN_ID, Verdict, Wallet, envelope};

use std::time::{Duration, Instant};

/// Deadline of a condition. Debug builds share two cores with everything else: ten times what it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Wait between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

/// Waits until `probe` finds something; panics with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// As [`until`], with more patience or less.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Looks again and again for `time`, and panics as soon as `holds` does not.
#[track_caller]
pub fn throughout(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(holds(), "{what}");
        std::thread::sleep(POLL);
    }
}
