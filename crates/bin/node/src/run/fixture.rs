//! What the tests of this folder share: a dealt cluster, and what surrounds a core.

use super::budget::Budgets;
use super::command::Command;
use super::context::Context;
use super::facts::Facts;
use super::ledger::Store;
use aequa_crypto::dealer::{DealRequest, DealtCluster, deal_cluster};
use aequa_crypto::lock::{self, VerifiedLock};
use aequa_crypto::verify::Verifier;
use aequa_replica::RoundRobin;
use aequa_storage::chain_store::{ChainOptions, FjallChainStore};
use aequa_telemetry::Metrics;
use aequa_types::sync::Status;
use aequa_types::{ConsensusParams, Height, OperatorIndex};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Chain id of the cluster's transactions.
pub const CHAIN_ID: u64 = 1337;

/// A cluster of four that waits for nothing between blocks.
pub fn dealt() -> (DealtCluster, VerifiedLock) {
    let dealt = deal_cluster(DealRequest {
        name: "test".into(),
        nodes: 4,
        chain_id: Some(CHAIN_ID),
        fork_version: [0; 4],
        params: ConsensusParams { block_interval_ms: 0, ..ConsensusParams::default() },
        multiaddrs: vec![],
        created_at: 0,
    })
    .unwrap();
    let verified = lock::verify(&dealt.lock).unwrap();
    (dealt, verified)
}

/// What surrounds operator `me`, over an empty store in `dir`.
pub fn context(dir: &Path, lock: &VerifiedLock, me: u8, core: mpsc::Sender<Command>) -> Arc<Context> {
    let (cluster, quorum) = (lock.cluster_id(), lock.quorum());
    let store: Store = Arc::new(FjallChainStore::open(dir, cluster, ChainOptions::default()).unwrap());
    let status = Status {
        cluster_id: cluster,
        lock_hash: cluster,
        policy_hash: cluster,
        height: Height(0),
        digest: cluster,
        wall_clock_ms: 0,
    };
    Arc::new(Context {
        me: OperatorIndex(me),
        quorum,
        elector: Arc::new(RoundRobin(quorum)),
        status,
        verifier: Arc::new(Verifier::new(lock)),
        store,
        facts: Arc::new(Facts::new(quorum, Vec::new(), Height(0), cluster)),
        metrics: Arc::new(Metrics::new()),
        core,
        wanted: Default::default(),
        budgets: Budgets::new(quorum),
        warnings: Default::default(),
    })
}
