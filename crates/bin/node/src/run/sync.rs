//! Questions between operators: where are you, give me blocks, and what have you seen of me.

use super::budget::timed;
use super::context::Context;
use aequa_p2p::{Message as Frame, Network};
use aequa_replica::Input;
use aequa_storage::chain_store::ChainStore;
use aequa_types::limits::{SYNC_BLOCKS_MAX, SYNC_FRAME_BYTES_MAX};
use aequa_types::sync::{BlocksRequest, Status, SyncReply, SyncRequest};
use aequa_types::{Certificate, CertifiedBlock, CheckedBlock, Height, OperatorIndex};
use bytes::Bytes;
use ssz::Encode;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often every connected operator is asked for its status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// A reply is filled with blocks up to this size, leaving room for the last one's certificate.
const REPLY_BYTES: usize = SYNC_FRAME_BYTES_MAX - 512 * 1024;
/// Clock offsets above this are worth a warning (contract: logs, section 4).
const CLOCK_OFFSET_WARN_MS: i64 = 200;

type Blocks = Vec<(Arc<CheckedBlock>, Certificate)>;

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answered.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The answer was no list of blocks.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// A block or its certificate does not hold.
    #[error("block does not hold: {0}")]
    BadBlock(String),
}

impl FetchError {
    /// Label of `swarm_sync_errors_total`.
    pub fn reason(&self) -> &'static str {
        match self {
            FetchError::NoAnswer(_) => "timeout",
            FetchError::Malformed(_) => "bad_chunk",
            FetchError::BadBlock(_) => "bad_cert",
        }
    }
}

/// The question for blocks from `height` upwards.
fn blocks_request(height: Height) -> SyncRequest {
    SyncRequest::Blocks(BlocksRequest { from: height, limit: aequa_types::limits::SYNC_BLOCKS_MAX })
}

/// The frame of a question.
pub fn question(request: &SyncRequest) -> Frame {
    Frame::new(request.kind(), Bytes::from(request.as_ssz_bytes()))
}

/// What blocking work gives, and how long a thread was busy with it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<(T, Duration)> {
    tokio::task::spawn_blocking(move || timed(work)).await.ok()
}

/// The blocks that are asked for, as far as they go into one answer.
pub fn read_blocks(context: &Context, request: BlocksRequest) -> Vec<CertifiedBlock> {
    let tip = context.facts.tip_height();
    let mut blocks = Vec::new();
    let mut bytes = 0;
    let mut height = request.from;
    while height <= tip && (blocks.len() as u64) < request.limit.min(SYNC_BLOCKS_MAX) {
        let Ok(Some(block)) = context.store.block(height) else { break };
        bytes += block.ssz_bytes_len();
        if bytes > REPLY_BYTES && !blocks.is_empty() {
            break;
        }
        blocks.push(block);
        height = height.next();
    }
    blocks
}

/// Fetches and verifies certified blocks from `height` upwards.
pub async fn fetch(
    network: &Weak<Network>,
    context: &Arc<Context>,
    from: OperatorIndex,
    height: Height,
) -> Result<Blocks, FetchError> {
    let network = network.upgrade().ok_or_else(|| FetchError::NoAnswer("network is down".into()))?;
    let question = question(&blocks_request(height));
    let answer = network.request(from, &question).await.map_err(|e| FetchError::NoAnswer(e.to_string()))?;
    let reply = aequa_types::decode("sync reply", &answer.body, SYNC_FRAME_BYTES_MAX)
        .map_err(|error| FetchError::Malformed(error.to_string()))?;
    let SyncReply::Blocks(blocks) = reply else { return Err(FetchError::Malformed("not blocks".into())) };
    check_asked_for(&blocks, height)?;
    let context = Arc::clone(context);
    let verify = move || {
        let verified: Result<Blocks, _> =
            blocks.into_iter().map(|block| context.verifier.certified_block(block)).collect();
        let result = if verified.is_ok() { "ok" } else { "fail" };
        context.metrics.state_sync_verified_total.inc([result]);
        verified.map_err(|refusal| FetchError::BadBlock(refusal.to_string()))
    };
    tokio::task::spawn_blocking(verify).await.map_err(|e| FetchError::NoAnswer(e.to_string()))?
}

/// Whether these are blocks that were asked for, in their order: of others nothing is verified, however genuine they
/// are.
fn check_asked_for(blocks: &[CertifiedBlock], from: Height) -> Result<(), FetchError> {
    if blocks.len() as u64 > SYNC_BLOCKS_MAX {
        let number = blocks.len();
        return Err(FetchError::Malformed(format!("{number} blocks, the limit is {SYNC_BLOCKS_MAX}")));
    }
    let mut expected = from;
    for block in blocks {
        let found = block.block.header.height;
        if found != expected {
            return Err(FetchError::Malformed(format!("block {found} where {expected} was asked for")));
        }
        expected = expected.next();
    }
    Ok(())
}

/// Asks every other operator for its status, each on a task of its own so that a silent one delays nobody,
/// for as long as the network lives.
pub fn watch_peers(network: &Weak<Network>, context: &Arc<Context>) {
    for operator in context.quorum.members().filter(|operator| *operator != context.me) {
        let (network, context) = (network.clone(), Arc::clone(context));
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(STATUS_INTERVAL);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let Some(connected) = network.upgrade().map(|network| network.connected()) else { return };
                if connected.contains(&operator) {
                    let _ = ask_status(&network, &context, operator).await;
                }
            }
        });
    }
}

/// Asks a member for its status; `None` when it does not answer, or belongs elsewhere.
pub async fn ask_status(
    network: &Weak<Network>,
    context: &Arc<Context>,
    operator: OperatorIndex,
) -> Option<()> {
    let network = network.upgrade()?;
    let request = SyncRequest::Status(context.own_status());
    let start = Instant::now();
    let question = question(&request);
    let answer = network.request(operator, &question).await.ok()?;
    let rtt_ms = start.elapsed().as_secs_f64() * 1000.0;
    let Ok(SyncReply::Status(status)) = aequa_types::decode("sync reply", &answer.body, 1024) else {
        return None;
    };
    let offset_ms = clock_offset_ms(status.wall_clock_ms, crate::wall_ms(), rtt_ms);
    context.facts.update_peer(operator, |peer| {
        peer.rtt_ms = Some(rtt_ms);
        peer.clock_offset_ms = Some(offset_ms);
    });
    context.metrics.clock_offset_ms.set([&operator.to_string()], offset_ms as f64);
    let peer = context.facts.peers().into_iter().nth(operator.as_usize()).unwrap_or_default();
    if offset_ms.abs() > CLOCK_OFFSET_WARN_MS
        && let Some(suppressed) = context.warns("clock_offset", operator)
    {
        tracing::warn!(target: "event", peer_id = peer.peer_id, offset_ms, suppressed, "clock_offset");
    }
    take_status(context, operator, &status).await
}

/// How far a member's clock is ahead of ours, when its answer was half of `rtt_ms` on its way. The member may
/// claim any time: beyond ten years the difference is cut.
fn clock_offset_ms(theirs_ms: u64, ours_ms: u64, rtt_ms: f64) -> i64 {
    const OFFSET_MAX_MS: i128 = 10 * 365 * 86_400_000;
    let offset_ms = (i128::from(theirs_ms) - i128::from(ours_ms)).saturating_add((rtt_ms / 2.0) as i128);
    offset_ms.clamp(-OFFSET_MAX_MS, OFFSET_MAX_MS) as i64
}

/// Notes how far a member is; `None` when it belongs elsewhere and gets no answer.
pub async fn take_status(context: &Context, from: OperatorIndex, status: &Status) -> Option<()> {
    let own = &context.status;
    let is_member = status.cluster_id == own.cluster_id;
    if is_member && context.locks.said(from, &status.lock_hash) >= context.quorum.weak_quorum() {
        // One of them is honest: other operators are in force, and what this one signs is for nobody.
        context.facts.set_left_behind();
        context.input(Input::Superseded).await;
    }
    if !is_member || !context.locks.has(&status.lock_hash) {
        if let Some(suppressed) = context.warns("p2p_dkg_cluster", from) {
            let err = format!("operator {from} runs under another cluster lock");
            tracing::warn!(target: "event", result = "error", err, suppressed, "p2p_dkg_cluster");
        }
        return None;
    }
    context.facts.update_peer(from, |peer| {
        peer.height = Some(status.height);
        peer.heard = Some(Instant::now());
    });
    context.input(Input::PeerHeight { from, height: status.height }).await;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{Block, Header, InstanceId, Proof};

    #[test]
    fn only_blocks_that_were_asked_for_are_looked_into() {
        let block = |height: u64| {
            let certificate = Certificate {
                instance: InstanceId::Block(Height(height)),
                round: Default::default(),
                digest: Default::default(),
                proof: Proof::Commits(Vec::new()),
            };
            let header = Header {
                cluster_id: Default::default(),
                height: Height(height),
                parent_root: Default::default(),
                timestamp_ms: 1,
                proposer: OperatorIndex(0),
                policy_hash: Default::default(),
                payload_root: Default::default(),
                evidence_root: Default::default(),
                state_root: Default::default(),
                leader_proof: Default::default(),
                total_fees: Default::default(),
                total_bids: Default::default(),
                items: 0,
            };
            let block = Block { header, items: Default::default(), evidence: Default::default() };
            CertifiedBlock { block, certificate }
        };
        let check = |heights: &[u64]| {
            let blocks: Vec<CertifiedBlock> = heights.iter().copied().map(block).collect();
            check_asked_for(&blocks, Height(7)).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[7, 8, 9]), Ok(()));
        assert!(check(&[6, 7]).unwrap_err().contains("block 6 where 7 was asked for"), "old ones");
        assert!(check(&[7, 9]).is_err() && check(&[7, 7]).is_err() && check(&[8]).is_err());
        let too_many: Vec<u64> = (7..=7 + SYNC_BLOCKS_MAX).collect();
        assert!(check(&too_many).unwrap_err().contains("the limit is 64"));
    }

    #[test]
    fn a_member_may_claim_any_time_and_harms_nobody() {
        let now = 1_800_000_000_000;
        assert_eq!(clock_offset_ms(now + 700, now, 20.0), 710);
        assert_eq!(clock_offset_ms(now - 700, now, 20.0), -690);
        for theirs in [0, 1 << 63, u64::MAX] {
            for ours in [0, now, u64::MAX] {
                assert!(clock_offset_ms(theirs, ours, f64::MAX).abs() <= 10 * 365 * 86_400_000);
            }
        }
    }
}
