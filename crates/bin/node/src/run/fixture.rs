//! What the tests of this folder share: a dealt cluster, and what surrounds a core.

use super::budget::Budgets;
use super::command::Command;
use super::context::Context;
use super::facts::Facts;
use super::ledger::Store;
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::verify::Verifier;
use aequa_replica::RoundRobin;
use aequa_storage::chain_store::{ChainOptions, FjallChainStore};
use aequa_telemetry::Metrics;
use aequa_testkit::Keyring;
use aequa_types::sync::Status;
use aequa_types::{ConsensusParams, Height, OperatorIndex};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The keys of a cluster of four that waits for nothing between blocks.
pub fn keys() -> Keyring {
    Keyring::with(4, ConsensusParams { block_interval_ms: 0, ..ConsensusParams::default() })
}

/// What surrounds operator `me`, over an empty store in `dir`.
pub fn context(dir: &Path, lock: &VerifiedLock, me: u8, core: mpsc::Sender<Command>) -> Arc<Context> {
    let (cluster, quorum) = (lock.cluster_id(), lock.quorum());
    let store: Store = Arc::new(FjallChainStore::open(dir, cluster, ChainOptions::default()).unwrap());
    let status = Status {
        cluster_id: cluster,
        lock_hash: lock.lock().lock_hash,
        policy_hash: cluster,
        height: Height(0),
        digest: cluster,
        wall_clock_ms: 0,
    };
    Arc::new(Context {
        me: OperatorIndex(me),
        quorum,
        checkpoint_interval: 100,
        elector: Arc::new(RoundRobin(quorum)),
        locks: super::context::Locks::new([lock]),
        status,
        verifier: Arc::new(Verifier::new(lock)),
        store,
        facts: Arc::new(Facts::new(quorum, Vec::new(), Height(0), cluster)),
        metrics: Arc::new(Metrics::new()),
        core,
        wanted: Default::default(),
        budgets: Budgets::new(quorum),
        given: Default::default(),
        warnings: Default::default(),
    })
}
