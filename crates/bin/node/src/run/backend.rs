//! The node as the API sees it: questions to the board, the store and the core.

use super::account_proof::account_proof;
use super::checkpoint;
use super::command::Command;
use super::context::Context;
use super::duty_view;
use super::facts::SILENT_FOR;
use super::ledger::Store;
use super::submit::{self, ChainView, Checks};
use aequa_api::backend::{
    AccountView, Answer, Backend, BackendError, CheckpointRef, CommittedEvidence, DutyPage, DutyQuery,
    DutyRequest, DutyView, EVIDENCE_BLOCKS_MAX, Event, EvidenceView, Fence, MempoolView, NotReady, PeerView,
    PerType, PoolCounts, Readiness, StateRootView, Status, Submission, TxStatus, TxView,
};
use aequa_host::clocks::{OFFSET_MAX_MS, is_alone};
use aequa_mempool as pool;
use aequa_replica::{DUTIES_FAR_MAX, DUTY_SLOTS_AHEAD, DUTY_SLOTS_NEAR, DutyAdmission, Replica};
use aequa_storage::StorageError;
use aequa_storage::chain_store::ChainStore;
use aequa_telemetry::Metrics;
use aequa_types::json::{AccountProofJson, CheckpointJson, EvidenceJson};
use aequa_types::{
    Address, CertifiedBlock, CertifiedHeader, DutyId, Header, Height, OperatorIndex, Transaction, TxHash,
    TxKind,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, broadcast, oneshot};

/// Behind for this long is no longer a blip.
const BEHIND: Duration = Duration::from_secs(10);
/// A core that has left a question unanswered for so long hangs: no turn takes that long.
const HUNG_AFTER: Duration = Duration::from_secs(5);
/// How long a client waits for the core. What it asked for may still be done.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most reads of the store at one time. Each holds a thread and up to a whole block, and more would not be faster.
const READS_MAX: usize = 8;

/// The running node behind the API.
pub struct NodeBackend {
    /// What the network side shares.
    pub context: Arc<Context>,
    /// Where events come from.
    pub events: broadcast::Sender<Arc<Event>>,
    /// The lock's public parts, which are all of it: it holds keys and signatures, no secrets.
    pub cluster: Bytes,
    /// Names of the optional features that are on.
    pub features: Vec<String>,
    /// When the node started.
    pub started: Instant,
    /// Places of reads.
    pub reads: Reads,
    /// Threads for signatures.
    pub checks: Checks,
}

/// Places of reads of the store.
pub struct Reads(Arc<Semaphore>);

impl Default for Reads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READS_MAX)))
    }
}

impl NodeBackend {
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Replica<super::keys::OperatorKeys>) -> T + Send + 'static,
    ) -> Answer<T> {
        let (answer, answered) = oneshot::channel();
        let ask = Command::Ask(Box::new(move |replica| {
            // The asker may have gone away.
            let _ = answer.send(question(replica));
        }));
        self.answer(ask, answered).await
    }

    /// What the core answers to a command, unless that takes too long.
    async fn answer<T>(&self, command: Command, answered: oneshot::Receiver<T>) -> Answer<T> {
        let answer = async {
            self.context.core.send(command).await.ok()?;
            answered.await.ok()
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.ok().flatten().ok_or(BackendError::NotReady)
    }

    /// Reads the store on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StorageError> + Send + 'static,
    ) -> Answer<T> {
        let store = Arc::clone(&self.context.store);
        let place = Arc::clone(&self.reads.0).acquire_owned().await.map_err(|_| BackendError::NotReady)?;
        let result = tokio::task::spawn_blocking(move || {
            // Until it is done, also when nobody waits for it any more.
            let _place = place;
            read(&store)
        });
        let result = result.await;
        let internal = |error: &dyn std::fmt::Display| BackendError::Internal(error.to_string());
        result.map_err(|error| internal(&error))?.map_err(|error| internal(&error))
    }
}

impl NodeBackend {
    /// The others' clocks minus this node's.
    fn clock_offsets_ms(&self) -> impl Iterator<Item = i64> {
        self.context.facts.peers().into_iter().filter_map(|peer| peer.clock_offset_ms)
    }

    /// Refuses what only the operators in force could take up.
    fn check_in_force(&self) -> Answer<()> {
        if self.context.facts.is_left_behind() { Err(BackendError::LeftBehind) } else { Ok(()) }
    }

    /// Whether a proposal of this node would be a good one. Every other reason for not being ready keeps it from
    /// signing anyway, or holds for all nodes at once, and somebody has to lead.
    pub fn may_lead(&self) -> bool {
        !is_alone(self.clock_offsets_ms(), self.context.quorum)
    }
}

impl Backend for NodeBackend {
    fn metrics(&self) -> &Arc<Metrics> {
        &self.context.metrics
    }

    fn readiness(&self) -> Readiness {
        let facts = &self.context.facts;
        let off = self.clock_offsets_ms().filter(|offset| offset.unsigned_abs() > OFFSET_MAX_MS).count();
        let checks = [
            (NotReady::Stopping, facts.is_stopping()),
            (NotReady::Starting, !facts.is_started()),
            (NotReady::Fenced, facts.is_fenced()),
            (NotReady::StorageError, facts.is_storage_failed()),
            (NotReady::Replaying, facts.is_rejoining()),
            (NotReady::InsufficientPeers, facts.quorum_lost_for(self.context.me) >= SILENT_FOR),
            (NotReady::Syncing, facts.behind_for().is_some_and(|behind| behind >= BEHIND)),
            (NotReady::NoProgress, facts.is_stalled() || facts.core_silent_for() >= HUNG_AFTER),
            (NotReady::LeftBehind, facts.is_left_behind()),
            (NotReady::NotSigning, facts.is_rejoining() || facts.is_abstaining()),
            (NotReady::Clock, 2 * off > self.context.quorum.operators().saturating_sub(1).max(1)),
        ];
        Readiness {
            reasons: checks.into_iter().filter(|(_, holds)| *holds).map(|(reason, _)| reason).collect(),
        }
    }

    async fn live(&self) -> bool {
        self.ask(|_| ()).await.is_ok()
    }

    async fn status(&self) -> Status {
        let facts = &self.context.facts;
        let (round, leader) = facts.agreeing();
        let others = facts.peers().into_iter().enumerate().filter(|(i, _)| *i != self.context.me.as_usize());
        let peers = others.map(|(i, peer)| PeerView {
            operator: OperatorIndex(u8::try_from(i).unwrap_or(u8::MAX)),
            connected: peer.answers(),
            peer_id: peer.peer_id,
            rtt_ms: peer.rtt_ms,
            height: peer.height,
        });
        Status {
            version: crate::version::VERSION.into(),
            build: crate::version::GIT_HASH.into(),
            cluster_id: self.context.status.cluster_id,
            operator: self.context.me,
            height: facts.tip_height(),
            round,
            leader,
            stable_checkpoint: facts.stable_checkpoint(),
            operator_set_root: None,
            policy_hash: self.context.status.policy_hash,
            fenced: facts.is_fenced(),
            fence: facts.fence().map(|mark| Fence { since: rfc3339(mark.since), reason: mark.reason() }),
            peers: peers.collect(),
            live: true,
            ready: true,
            reasons: Vec::new(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            config_version: 1,
            features: self.features.clone(),
        }
    }

    fn fenced(&self) -> bool {
        self.context.facts.is_fenced()
    }

    fn cluster(&self) -> Bytes {
        self.cluster.clone()
    }

    async fn submit(&self, transactions: Vec<Transaction>) -> Answer<Vec<Submission>> {
        self.check_in_force()?;
        // Nonce, caps and gap first: they cost nothing, a signature costs the sender's flood.
        let prechecked = self.ask(move |replica| submit::precheck(replica, transactions)).await?;
        let checked = self.checks.check(&self.context, prechecked).await?;
        let admissible: Vec<_> = checked.iter().flatten().cloned().collect();
        let admissions = match admissible.is_empty() {
            true => Vec::new(),
            false => {
                let (answer, answered) = oneshot::channel();
                self.answer(Command::Submit(admissible, answer), answered).await?
            }
        };
        submit::submissions(checked, admissions)
    }

    async fn transaction(&self, hash: TxHash) -> Answer<Option<TxView>> {
        // The pool first: what leaves it for a block is in the store by the time it answers.
        let status = self.ask(move |replica| replica.mempool().status(&hash)).await?;
        if let Some((height, index)) = self.read(move |store| store.transaction(&hash)).await? {
            let index = Some(u64::from(index));
            let included = TxStatus::Included;
            return Ok(Some(TxView { hash, status: included, height: Some(height), index, reason: None }));
        }
        let unshared = self.context.facts.is_alone(self.context.me).then_some("unshared");
        Ok(status.map(|status| {
            let (status, reason) = match status {
                pool::TxStatus::Pending => (TxStatus::Pending, unshared),
                pool::TxStatus::Future => (TxStatus::Future, unshared),
                pool::TxStatus::Dropped(reason) => (TxStatus::Dropped, Some(reason.name())),
            };
            TxView { hash, status, height: None, index: None, reason: reason.map(str::to_owned) }
        }))
    }

    async fn account(&self, address: Address) -> Answer<AccountView> {
        self.ask(move |replica| {
            let nonces = ChainView(replica);
            let next = |kind| replica.chain().nonce(&address, kind);
            let pending =
                |kind| replica.mempool().pending_nonce(&address, kind, &nonces).saturating_sub(next(kind));
            AccountView { address, nonces: per_type(next), pending: per_type(pending) }
        })
        .await
    }

    async fn account_proof(&self, address: Address) -> Answer<Option<AccountProofJson>> {
        self.read(move |store| account_proof(store, &address)).await
    }

    async fn mempool(&self) -> Answer<MempoolView> {
        self.ask(|replica| {
            let mempool = replica.mempool();
            let counts = |kind| {
                let pending = mempool.pending_len(kind) as u64;
                let future = (mempool.len(kind) as u64).saturating_sub(pending);
                PoolCounts { pending, future, bytes: mempool.bytes(kind) as u64 }
            };
            MempoolView(TxKind::ALL.into_iter().map(|kind| (kind, counts(kind))).collect())
        })
        .await
    }

    fn latest_height(&self) -> Height {
        self.context.facts.tip_height()
    }

    async fn block(&self, height: Height) -> Answer<Option<Arc<CertifiedBlock>>> {
        if height > self.latest_height() {
            return Ok(None);
        }
        let block = self.read(move |store| kept(store, height, store.block(height)?)).await??;
        Ok(block.map(Arc::new))
    }

    async fn certified_header(&self, height: Height) -> Answer<Option<CertifiedHeader>> {
        if height > self.latest_height() {
            return Ok(None);
        }
        self.read(move |store| kept(store, height, store.certified_header(height)?)).await?
    }

    async fn headers(&self, from: Height, limit: usize) -> Answer<Vec<Header>> {
        let tip = self.latest_height();
        let mut headers = self.read(move |store| store.headers(from, limit)).await?;
        headers.retain(|header| header.height <= tip);
        Ok(headers)
    }

    async fn state_root(&self, height: Height) -> Answer<Option<StateRootView>> {
        let roots = self.read(move |store| kept(store, height, store.roots(height)?)).await??;
        // The next header carries this root under its own certificate.
        let certified = height < self.latest_height();
        Ok(roots.map(|roots| StateRootView {
            height,
            root: roots.state_root,
            history_root: Some(roots.history_root),
            certified,
            fenced: self.context.facts.is_fenced(),
        }))
    }

    fn checkpoint_interval(&self) -> u64 {
        self.context.checkpoint_interval
    }

    fn stable_checkpoint(&self) -> Option<CheckpointRef> {
        self.context.facts.stable_checkpoint()
    }

    async fn checkpoint(&self, height: Height) -> Answer<Option<CheckpointJson>> {
        if height >= self.latest_height() {
            return Ok(None);
        }
        self.read(move |store| kept(store, height, checkpoint::checkpoint(store, height)?)).await?
    }

    async fn evidence(&self, from: Height) -> Answer<EvidenceView> {
        // The core only says where it is: the pieces are in the blocks.
        let (pending, mut heights) = self
            .ask(move |replica| {
                let committed = replica.chain().state().all_evidence().map(|(_, committed)| committed.height);
                let heights: BTreeSet<Height> = committed.filter(|height| *height >= from).collect();
                (replica.pending_evidence().cloned().collect::<Vec<_>>(), heights)
            })
            .await?;
        let next = heights.iter().nth(EVIDENCE_BLOCKS_MAX).copied();
        if let Some(next) = next {
            heights.split_off(&next);
        }
        self.read(move |store| {
            // One block at a time: of its megabytes only the evidence stays.
            let mut committed = Vec::new();
            for committed_height in heights {
                let Some(certified) = store.block(committed_height)? else { continue };
                let pieces = certified.block.evidence.iter().map(EvidenceJson::from);
                committed.extend(pieces.map(|evidence| CommittedEvidence { committed_height, evidence }));
            }
            let pending = pending.iter().map(|evidence| EvidenceJson::from(&**evidence)).collect();
            Ok(EvidenceView { committed, pending, next })
        })
        .await
    }

    async fn submit_duty(&self, duty: DutyRequest) -> Answer<()> {
        self.check_in_force()?;
        let DutyRequest { id, payload, .. } = duty;
        // What the other operators would refuse is refused here, where the client hears why.
        let value = self.context.verifier.value(id.into(), payload);
        let value = value.map_err(|refusal| BackendError::Invalid {
            what: "invalid json",
            reason: format!("payload: {refusal}"),
        })?;
        let digest = value.digest();
        let (answer, answered) = oneshot::channel();
        let post = Command::Duty(id, value, answer);
        match self.answer(post, answered).await? {
            DutyAdmission::Accepted => Ok(()),
            DutyAdmission::Ended => {
                match self.duty(id).await?.and_then(|duty| duty.digest) {
                    // As good as if it had come in time.
                    Some(stands) if stands == digest => Ok(()),
                    stands => Err(BackendError::DutyEnded { stands }),
                }
            }
            DutyAdmission::Forgotten { watermark } => Err(BackendError::DutyForgotten { watermark }),
            DutyAdmission::Overloaded => Err(BackendError::Overloaded),
            DutyAdmission::TooHigh { highest } => Err(BackendError::Invalid {
                what: "height out of range",
                reason: format!(
                    "height: must be at most {highest} now: more than {DUTIES_FAR_MAX} duties further than {DUTY_SLOTS_NEAR} slots from the last decided one are not begun at a time, and none further than {DUTY_SLOTS_AHEAD}"
                ),
            }),
        }
    }

    async fn duty(&self, duty: DutyId) -> Answer<Option<DutyView>> {
        if let Some(state) = self.ask(move |replica| replica.duty(duty).cloned()).await? {
            return Ok(Some(duty_view::live(duty, &state)));
        }
        let stored = self.read(move |store| store.duty(duty)).await?;
        Ok(stored.and_then(|stored| duty_view::stored(duty, &stored)))
    }

    async fn duties(&self, query: DutyQuery) -> Answer<DutyPage> {
        let DutyQuery { kind, before, limit } = query;
        let fits = move |duty: &DutyId| {
            kind.is_none_or(|kind| duty.kind == kind) && before.is_none_or(|before| duty.slot < before)
        };
        let live = self
            .ask(move |replica| replica.duties().map(|(duty, _)| duty).filter(fits).collect::<Vec<_>>())
            .await?;
        let (stored, next) = self.read(move |store| store.duty_instances(kind, before, limit)).await?;
        // What is below comes with the next page.
        let live = live.into_iter().filter(|duty| next.is_none_or(|next| duty.slot >= next));
        let all: BTreeSet<DutyId> = live.chain(stored).collect();
        let mut newest_first: Vec<DutyId> = all.into_iter().collect();
        newest_first.sort_by_key(|duty| std::cmp::Reverse((duty.slot, duty.kind)));
        let next = next.filter(|_| newest_first.len() <= limit);
        newest_first.truncate(limit);
        Ok(DutyPage { duties: newest_first, next })
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }
}

fn per_type(count: impl Fn(TxKind) -> u64) -> PerType {
    PerType {
        plaintext_v1: count(TxKind::PlaintextV1),
        auction_bid_v1: count(TxKind::AuctionBidV1),
        private_v1: 0,
    }
}

/// Seconds since 1970 as the API writes a time.
fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// What was found at a height, unless the store begins above it.
fn kept<T>(store: &Store, height: Height, found: Option<T>) -> Result<Answer<Option<T>>, StorageError> {
    let is_gone = found.is_none() && store.first_height()?.is_some_and(|first| height < first);
    Ok(if is_gone && height > Height(0) { Err(BackendError::Pruned) } else { Ok(found) })
}

#[cfg(test)]
mod tests;
