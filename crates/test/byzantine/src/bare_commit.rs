//! COMMITs that no quorum of PREPAREs stands behind.

use crate::Unguarded;
use aequa_types::{Decision, Digest, InstanceId, Message, Round, Signed};

/// The COMMIT that a PREPARE leads to, at once.
pub fn of(keys: &impl Unguarded, prepare: &Signed) -> Option<Message> {
    let (instance, round) = (prepare.instance, prepare.round);
    Some(Message::Commit(keys.commit(Decision { instance, round, digest: prepare.digest()? })))
}

/// To what was proposed, in the next round too; and to what nobody proposed, ahead of all others.
pub fn commits(keys: &impl Unguarded, of: Decision, ahead: InstanceId, invented: Digest) -> [Message; 3] {
    let next = Decision { round: of.round.next(), ..of };
    let ahead = Decision { instance: ahead, round: Round(0), digest: invented };
    [of, next, ahead].map(|of| Message::Commit(keys.commit(of)))
}
