//! Transactions that wait, offered to the others again until a block holds them.
//!
//! A transaction is spread once and reaches whoever is connected then. Without empty blocks, one that a single node holds
//! would wait for other traffic for ever: f+1 operators have to have work before a height begins.

use aequa_mempool::Mempool;
use aequa_types::{CheckedTransaction, TxHash};
use std::collections::VecDeque;

/// How long a transaction waits before it is offered again: under ordinary load it is in a block by then.
const AGAIN_MS: u64 = 10_000;
/// How long after a connection is made its streams are open.
const LINK_SETTLES_MS: u64 = 1_000;
/// Bytes of one offer: one frame holds them, and two offers a second crowd nothing out.
const OFFER_BYTES_MAX: usize = 60 * 1024;
/// Transactions looked at for one offer.
const LOOKED_AT_MAX: usize = 512;
/// Most transactions remembered as waiting: as many as the pools hold by default.
const WAITING_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy)]
struct Waiting {
    hash: TxHash,
    /// Whether a client of this node waits for it.
    own: bool,
    offered_ms: u64,
}

/// What was admitted and may still wait, in the order of the last offer.
#[derive(Debug, Default)]
pub(super) struct Offers {
    waiting: VecDeque<Waiting>,
    /// When a new link may be relied on; what was offered before it is due then.
    linked_ms: u64,
}

impl Offers {
    /// A transaction was admitted, and has been gossiped by the node of its client.
    pub(super) fn add(&mut self, hash: TxHash, own: bool, now_ms: u64) {
        self.waiting.push_back(Waiting { hash, own, offered_ms: now_ms });
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
        }
    }

    /// An operator that may have missed everything is connected.
    pub(super) fn connected(&mut self, now_ms: u64) {
        self.linked_ms = now_ms.saturating_add(LINK_SETTLES_MS);
    }

    fn take_due(&mut self, now_ms: u64) -> Option<Waiting> {
        let offered_ms = self.waiting.front()?.offered_ms;
        let missed = offered_ms < self.linked_ms && self.linked_ms <= now_ms;
        (missed || now_ms.saturating_sub(offered_ms) >= AGAIN_MS).then(|| self.waiting.pop_front())?
    }

    /// What has waited too long: what clients of this node wait for, and everything when no block is decided, because
    /// the node it came from may be gone.
    pub(super) fn due(&mut self, pool: &Mempool, stalled_ms: u64, now_ms: u64) -> Vec<CheckedTransaction> {
        let stalled = stalled_ms >= AGAIN_MS;
        let mut offer: Vec<CheckedTransaction> = Vec::new();
        let mut bytes = 0;
        for _ in 0..LOOKED_AT_MAX {
            let Some(next) = self.take_due(now_ms) else { break };
            let Some(transaction) = pool.get(&next.hash) else { continue };
            if next.own || stalled {
                if !offer.is_empty() && bytes + transaction.bytes() > OFFER_BYTES_MAX {
                    self.waiting.push_front(next);
                    break;
                }
                bytes += transaction.bytes();
                offer.push(transaction.clone());
            }
            self.waiting.push_back(Waiting { offered_ms: now_ms, ..next });
        }
        offer
    }
}
