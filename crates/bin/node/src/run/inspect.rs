//! Looks through everything that is stored for what is not what was written: disks forget, and memory flips bits.

use super::context::Context;
use super::fence::Divergence;
use super::ledger::Store;
use super::sync::blocking;
use aequa_chain::{State, StateRead};
use aequa_storage::StorageError;
use aequa_storage::chain_store::ChainStore as _;
use aequa_types::{ClusterId, Height};
use alloy_primitives::B256;
use std::sync::Arc;
use std::time::Duration;

/// When it begins after a start.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// How long from one inspection to the next.
const AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);
/// Blocks read at a time; each may be a megabyte.
const BLOCKS_AT_A_TIME: u64 = 16;
/// Pause between them: nothing waits for an inspection.
const PAUSE: Duration = Duration::from_millis(2);

/// Ends when something is damaged.
pub async fn damage(context: Arc<Context>) -> Divergence {
    tokio::time::sleep(FIRST_AFTER).await;
    loop {
        let (store, cluster_id) = (Arc::clone(&context.store), context.status.cluster_id);
        let found = blocking(move || inspect(&store, &cluster_id)).await;
        match found.map(|(found, _)| found) {
            Some(Ok(Some(divergence))) => return divergence,
            Some(Ok(None)) => tracing::debug!("everything stored is what was written"),
            Some(Err(error)) => tracing::debug!(%error, "not everything could be looked at"),
            None => {}
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// The state after the last block, and all blocks.
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
    let mut height = store.first_height()?.unwrap_or(tip);
    while height <= tip {
        if height.0.is_multiple_of(BLOCKS_AT_A_TIME) {
            std::thread::sleep(PAUSE);
        }
        // One that was pruned meanwhile is not missing.
        if let Some(certified) = store.block(height)?
            && certified.block.payload_root() != certified.block.header.payload_root
        {
            return Ok(Some(format!("block {height} has other transactions than its header says")));
        }
        height = height.next();
    }
    Ok(None)
}
