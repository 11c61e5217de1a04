//! What members say: bounded, decoded and checked on the tasks that read it, judged by the machine.
//!
//! A member is heard again when what it said before was judged. So nobody has more than one message waiting, none keeps
//! others from being heard, and what the machine refuses costs its sender as what does not decode.

use super::meeting::{DEFINITION_FRAME_BYTES_MAX, DefinitionClaim};
use super::signing::Chunk;
use aequa_crypto::lock::signing::LockShare;
use aequa_dkg::{Checked, Definition, RefusalKind};
use aequa_p2p::{GossipVerdict, Handler, Message as Frame, Topic, Verdict};
use aequa_types::lock::LeaverSignature;
use aequa_types::{OperatorIndex, wire};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Largest frame with a share of the lock, or a signature of it.
const LOCK_SHARE_BYTES_MAX: usize = 1024;
/// Largest frame with shares of what validators sign.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What members say.
pub enum Said {
    /// Something of the ceremony.
    Ceremony(Box<Checked>),
    /// Shares of what validators sign.
    Validators(Chunk),
    /// A signature of the lock.
    Lock(LockShare),
    /// That of an operator that leaves.
    Leaver(LeaverSignature),
    /// It has another definition.
    OtherDefinition(DefinitionClaim),
}

/// What comes across the desk.
pub enum Event {
    /// A member can be told something from now on.
    Met(OperatorIndex),
    /// A member has said something.
    Heard(Heard),
}

/// Something that was said, and where to tell what it was worth.
pub struct Heard {
    /// Who said it.
    pub from: OperatorIndex,
    /// What.
    pub said: Said,
    /// Hears the verdict.
    pub judge: oneshot::Sender<Verdict>,
}

/// Takes what members send.
pub struct Desk {
    machine: Arc<Definition>,
    queue: mpsc::Sender<Event>,
    /// Who has said that it has the same definition.
    agreed: Mutex<BTreeSet<OperatorIndex>>,
}

impl Desk {
    /// A desk, and what comes across it.
    pub fn new(machine: Arc<Definition>) -> (Self, mpsc::Receiver<Event>) {
        // Every member waits for the verdict on one message, and is met again when it has lost its connection.
        let (queue, events) = mpsc::channel(2 * machine.participants().count());
        (Self { machine, queue, agreed: Mutex::default() }, events)
    }

    /// Hears which definition a member has.
    fn compare(&self, from: OperatorIndex, claim: DefinitionClaim) -> Result<Said, Verdict> {
        if claim.hash == self.machine.ceremony() {
            self.agreed.lock().insert(from);
            return Err(Verdict::Accept);
        }
        self.agreed.lock().remove(&from);
        Ok(Said::OtherDefinition(claim))
    }

    /// What was said, or the verdict where there is nothing to judge.
    fn check(&self, from: OperatorIndex, frame: &Frame) -> Result<Said, Verdict> {
        match frame.kind {
            wire::DEFINITION => aequa_types::decode("definition", &frame.body, DEFINITION_FRAME_BYTES_MAX)
                .map_err(|_| Verdict::Malformed)
                .and_then(|claim| self.compare(from, claim)),
            _ if !self.agreed.lock().contains(&from) => Err(Verdict::Useless),
            wire::CEREMONY => {
                let checked = tokio::task::block_in_place(|| self.machine.check(&frame.body));
                checked
                    .map(|message| Said::Ceremony(Box::new(message)))
                    .map_err(|refusal| verdict(refusal.kind()))
            }
            wire::VALIDATOR_SHARES => aequa_types::decode("shares", &frame.body, CHUNK_BYTES_MAX)
                .map(Said::Validators)
                .map_err(|_| Verdict::Malformed),
            wire::LOCK_SHARE => aequa_types::decode("share", &frame.body, LOCK_SHARE_BYTES_MAX)
                .map(Said::Lock)
                .map_err(|_| Verdict::Malformed),
            wire::LEAVER_SIGNATURE => aequa_types::decode("signature", &frame.body, LOCK_SHARE_BYTES_MAX)
                .map(Said::Leaver)
                .map_err(|_| Verdict::Malformed),
            _ => Err(Verdict::Unknown),
        }
    }
}

/// What a refusal of the machine costs.
pub fn verdict(kind: RefusalKind) -> Verdict {
    match kind {
        RefusalKind::PeerFault => Verdict::BadSignature,
        RefusalKind::Stale | RefusalKind::NotNow => Verdict::Useless,
    }
}

impl Handler for Desk {
    fn frame(&self, from: OperatorIndex, topic: Topic, frame: Frame) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            if topic != Topic::Dkg {
                return Verdict::Unknown;
            }
            match self.check(from, &frame) {
                Ok(said) => {
                    let (judge, judged) = oneshot::channel();
                    // Without a verdict the machine has ended.
                    let _ = self.queue.send(Event::Heard(Heard { from, said, judge })).await;
                    judged.await.unwrap_or(Verdict::Unknown)
                }
                Err(verdict) => verdict,
            }
        })
    }

    fn gossip(&self, _: OperatorIndex, _: Topic, _: Frame) -> BoxFuture<'_, GossipVerdict> {
        Box::pin(async { GossipVerdict::Ignore })
    }

    fn request(&self, _: OperatorIndex, _: Frame) -> BoxFuture<'_, Option<Frame>> {
        Box::pin(async { None })
    }

    fn connected(&self, operator: OperatorIndex) {
        // Where there is no room it is told with the next of what is said again and again.
        let _ = self.queue.try_send(Event::Met(operator));
    }

    fn disconnected(&self, _: OperatorIndex) {}
}
