//! A member that runs under another lock.

use super::{Scene, Sending};
use aequa_types::sync::SyncRequest;

/// Introduces itself as one of another cluster, which everybody has to warn about.
pub(super) fn play(scene: &mut Scene<'_>) -> Vec<Sending> {
    let mut status = scene.ear.follower.status();
    status.lock_hash = scene.invented();
    vec![Sending::question(&SyncRequest::Status(status))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::tests::Stage;

    #[test]
    fn no_two_locks_are_the_same() {
        let mut stage = Stage::new();
        let mut frame = || play(&mut stage.scene()).remove(0).frame;
        assert_ne!(frame().body, frame().body);
    }
}
