//! The chain, followed by asking honest nodes for certified blocks and executing them.
//!
//! A traitor that wants its proposals taken must know the parent and its state root as everybody does.

use crate::traitor::Traitor;
use aequa_chain::Chain;
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::verify::Verifier;
use aequa_node::wall_ms;
use aequa_p2p::{Message as Frame, Network};
use aequa_types::Height;
use aequa_types::limits::{SYNC_BLOCKS_MAX, SYNC_FRAME_BYTES_MAX};
use aequa_types::sync::{BlocksRequest, Status, SyncReply, SyncRequest};
use bytes::Bytes;
use parking_lot::Mutex;
use ssz::Encode as _;
use std::sync::Arc;
use std::time::Duration;

/// Time between two questions: several per block.
const ASK_EVERY: Duration = Duration::from_millis(60);

/// Keeps up with the chain.
pub(crate) struct Follower {
    verifier: Verifier,
    chain: Mutex<Chain>,
    status: Status,
}

impl Follower {
    pub fn new(lock: &VerifiedLock) -> Self {
        let status = Status {
            cluster_id: lock.cluster_id(),
            lock_hash: lock.lock().lock_hash,
            policy_hash: lock.lock().consensus.builder_policy_hash,
            height: Height(0),
            digest: lock.cluster_id(),
            wall_clock_ms: 0,
        };
        let chain = Chain::genesis(lock.cluster_id(), lock.quorum());
        let chain = chain.begun_at(lock.lock().created_at.saturating_mul(1000));
        Self { verifier: Verifier::new(lock), chain: Mutex::new(chain), status }
    }

    /// The last height executed.
    pub fn tip(&self) -> Height {
        self.chain.lock().tip().height
    }

    /// The chain as far as it was followed.
    pub fn chain(&self) -> Chain {
        self.chain.lock().clone()
    }

    /// Goes on by an empty block of `proposer`.
    #[cfg(test)]
    pub fn grow(&self, proposer: aequa_types::OperatorIndex) {
        let mut chain = self.chain.lock();
        let timestamp = chain.next_timestamp_ms(0);
        let block = chain.build_block(proposer, timestamp, self.status.policy_hash, Vec::new(), &[]).unwrap();
        chain.apply(&block).unwrap();
    }

    /// Tells others how far it is, so that they take it for one of them; gives no blocks.
    pub fn answer(&self, question: &Frame) -> Option<Frame> {
        let question = aequa_types::decode::<SyncRequest>("sync request", &question.body, 1024).ok()?;
        let SyncRequest::Status(_) = question else { return None };
        let answer = SyncReply::Status(self.status());
        Some(Frame::new(answer.kind(), Bytes::from(answer.as_ssz_bytes())))
    }

    /// Where it is.
    pub fn status(&self) -> Status {
        let tip = *self.chain.lock().tip();
        let (height, digest) = (tip.height, tip.digest);
        Status { height, digest, wall_clock_ms: wall_ms(), ..self.status.clone() }
    }

    /// Asks one operator after the other, for as long as the network lives.
    pub async fn follow(self: Arc<Self>, network: Network, traitor: Arc<Traitor>) {
        for operator in traitor.others().into_iter().cycle() {
            tokio::time::sleep(ASK_EVERY).await;
            let from = self.tip().next();
            let request = SyncRequest::Blocks(BlocksRequest { from, limit: SYNC_BLOCKS_MAX });
            let question = Frame::new(request.kind(), Bytes::from(request.as_ssz_bytes()));
            if network.connected().contains(&operator)
                && let Ok(answer) = network.request(operator, &question).await
            {
                let follower = Arc::clone(&self);
                // Seals are checked, which takes milliseconds.
                let _ = tokio::task::spawn_blocking(move || follower.take(&answer)).await;
            }
        }
    }

    fn take(&self, answer: &Frame) {
        let reply = aequa_types::decode::<SyncReply>("sync reply", &answer.body, SYNC_FRAME_BYTES_MAX);
        let Ok(SyncReply::Blocks(blocks)) = reply else { return };
        for certified in blocks {
            let Ok((block, _)) = self.verifier.certified_block(certified) else { return };
            // A block that is no child of the tip came from two answers at once.
            if self.chain.lock().apply(&block).is_err() {
                return;
            }
        }
    }
}
