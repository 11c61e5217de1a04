//! Looks through everything that is stored for what is not what was written: disks forget, and memory flips bits.

use super::context::Context;
use super::fence::Divergence;
use super::ledger::Store;
use super::sync::blocking;
use aequa_chain::{State, StateRead};
use aequa_storage::StorageError;
use aequa_storage::chain_store::ChainStore as _;
use aequa_types::{Block, ClusterId, Digest, Height};
use alloy_primitives::B256;
use std::sync::Arc;
use std::time::Duration;

/// When it begins after a start.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// The least pause from one inspection to the next.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// The pause as a multiple of how long the inspection took: a thousandth of a core is spent, whatever there is to inspect.
const PAUSE_PER_WORK: u32 = 1000;
/// The longest pause.
const AGAIN_WITHIN: Duration = Duration::from_secs(6 * 3600);
/// Blocks read at a time; each may be a megabyte.
const BLOCKS_AT_A_TIME: u64 = 16;
/// Pause between them: nothing waits for an inspection.
const PAUSE: Duration = Duration::from_millis(2);

/// Ends when something is damaged.
pub async fn damage(context: Arc<Context>) -> Divergence {
    tokio::time::sleep(FIRST_AFTER).await;
    loop {
        let (store, cluster_id) = (Arc::clone(&context.store), context.status.cluster_id);
        let mut pause = AGAIN_WITHIN;
        if let Some((found, took)) = blocking(move || inspect(&store, &cluster_id)).await {
            pause = pause_after(took);
            match found {
                Ok(Some(divergence)) => return divergence,
                Ok(None) => tracing::debug!(?took, "everything stored is what was written"),
                Err(error) => tracing::debug!(%error, "not everything could be looked at"),
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn pause_after(took: Duration) -> Duration {
    took.saturating_mul(PAUSE_PER_WORK).clamp(AGAIN_AFTER, AGAIN_WITHIN)
}

/// The state after the last block, and all blocks with what is stored beside them.
fn inspect(store: &Store, cluster_id: &ClusterId) -> Result<Option<Divergence>, StorageError> {
    let Some(tip) = store.latest()? else { return Ok(None) };
    match inspect_parts(store, cluster_id, tip.height, tip.state_root) {
        Ok(found) => Ok(found.map(|reason| Divergence { height: tip.height, root: tip.state_root, reason })),
        Err(error) => Divergence::in_store(&error, tip.height).map_or(Err(error), |found| Ok(Some(found))),
    }
}

fn inspect_parts(
    store: &Store,
    cluster_id: &ClusterId,
    tip: Height,
    root: B256,
) -> Result<Option<String>, StorageError> {
    let at = Arc::new(store.state_at(tip)?);
    let state = State::open(Arc::clone(&at) as Arc<dyn StateRead>);
    let checked = state.and_then(|state| state.check().map(|()| state.root(cluster_id, tip)));
    at.check_reads()?;
    match checked {
        Ok(found) if found == root => {}
        Ok(found) => {
            return Ok(Some(format!("the state has root {found}, its block was executed to {root}")));
        }
        Err(error) => return Ok(Some(error.to_string())),
    }
    let (mut height, mut before) = (store.first_height()?.unwrap_or(tip), None);
    while height <= tip {
        if height.0.is_multiple_of(BLOCKS_AT_A_TIME) {
            std::thread::sleep(PAUSE);
        }
        // One that was pruned meanwhile is not missing.
        let block = store.block(height)?.map(|certified| certified.block);
        let roots = store.roots(height)?;
        if let Some(reason) = block.as_ref().and_then(|block| fault_of(block, before)) {
            return Ok(Some(format!("block {height} {reason}")));
        }
        before = block.zip(roots).map(|(block, roots)| (block.header.digest(), roots.state_root));
        height = height.next();
    }
    Ok(None)
}

/// What is wrong with a block that follows one with this digest, after which the state had this root.
fn fault_of(block: &Block, before: Option<(Digest, B256)>) -> Option<&'static str> {
    let header = &block.header;
    if block.payload_root() != header.payload_root {
        return Some("has other transactions than its header says");
    }
    let (digest, state_root) = before?;
    if header.parent_root != digest {
        return Some("is not the child of the block before");
    }
    (header.state_root != state_root).then_some("says another state root than is stored for the block before")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::block;

    #[test]
    fn a_small_state_is_looked_at_often_and_a_large_one_costs_no_more() {
        assert_eq!(pause_after(Duration::from_millis(3)), Duration::from_secs(10));
        assert_eq!(pause_after(Duration::from_secs(20)), Duration::from_secs(20_000));
        assert_eq!(pause_after(Duration::MAX), AGAIN_WITHIN);
    }

    #[test]
    fn a_block_that_does_not_fit_to_what_is_stored_beside_it_is_found() {
        let (cluster, parent) = (ClusterId::repeat_byte(1), B256::repeat_byte(5));
        let good = block(cluster, 7, parent, Vec::new());
        let root = good.header.state_root;
        assert_eq!(fault_of(&good, None), None);
        assert_eq!(fault_of(&good, Some((parent, root))), None);
        assert!(fault_of(&good, Some((B256::ZERO, root))).unwrap().contains("child"));
        assert!(fault_of(&good, Some((parent, B256::repeat_byte(9)))).unwrap().contains("state root"));
        let mut other = good;
        other.header.payload_root = B256::repeat_byte(9);
        assert!(fault_of(&other, None).unwrap().contains("transactions"));
    }
}
