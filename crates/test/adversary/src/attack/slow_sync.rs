//! Help that comes too late.

use super::{Scene, Sending};
use aequa_types::Height;
use aequa_types::sync::SyncRequest;
use std::time::{Duration, Instant};

/// How long after its turn it still answers slowly.
const LINGER: Duration = Duration::from_secs(1);
/// How far above the chain it claims to be.
const AHEAD: u64 = 500;

/// Claims to be far ahead, and takes nearly as long as anybody waits to give no blocks.
pub(super) fn play(scene: &mut Scene<'_>) -> Vec<Sending> {
    scene.memory().slow_until = Some(Instant::now() + LINGER);
    let mut status = scene.ear.follower.status();
    status.height = Height(scene.instance().number() + AHEAD);
    vec![Sending::question(&SyncRequest::Status(status))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::tests::Stage;

    #[test]
    fn it_claims_to_be_ahead_and_is_slow_from_then_on() {
        let mut stage = Stage::new();
        let sendings = play(&mut stage.scene());
        let claim = aequa_types::decode::<SyncRequest>("question", &sendings[0].frame.body, 1024).unwrap();
        let SyncRequest::Status(status) = claim else { panic!() };
        assert!(status.height.0 > stage.scene().instance().number());
        assert!(stage.scene().memory().slow_until.is_some_and(|until| until > Instant::now()));
    }
}
