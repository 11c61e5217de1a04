//! The state as a whole: given to members that are far behind, and taken from them.
//!
//! ```text
//!  far behind f+1 members ─▶ offers ─▶ f+1 alike, certified ─▶ parts from all of them ─▶ a store that is next
//! ```
//!
//! Taken is the state after a block whose successor's certificate shows its root: nothing of it has to be believed. Only
//! the history root is in no header; it is what f+1 members say alike. Parts go into a draft beside the block store
//! (see `aequa_storage::chain_store::ChainDraft`); when it is complete the node begins again, and the draft takes the
//! place of the store before anything is read from it. Meanwhile the node fetches blocks as ever: whichever is first.

use super::context::Context;
use super::sync::{self, FetchError, blocking};
use aequa_chain::{Part, Place, RootRefusal, State, StateRead, Transfer};
use aequa_p2p::Network;
use aequa_storage::StorageError;
use aequa_storage::chain_store::{ChainDraft, ChainStore as _, Roots};
use aequa_types::limits::SYNC_FRAME_BYTES_MAX;
use aequa_types::sync::{
    Snapshot, SnapshotRequest, StatePart, StateRequest, StateRow, SyncReply, SyncRequest, TableRows,
};
use aequa_types::{CertifiedBlock, ClusterId, Digest, Height, OperatorIndex};
use alloy_primitives::B256;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// So many checkpoint intervals behind, the state is had sooner than the blocks.
const INTERVALS_BEHIND: u64 = 10;
/// So long without a new block, one interval is enough: nobody may have the blocks any more.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked whether this node is far behind.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait after an attempt that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
/// How often progress is logged.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Rows of a part in bytes, about.
const PART_BYTES: usize = 512 << 10;

/// The newest state this node can give, after a block at or below the height asked for.
pub fn offer(context: &Context, request: SnapshotRequest) -> Result<Option<Snapshot>, StorageError> {
    let store = &context.store;
    let newest = context.facts.tip_height().0.saturating_sub(1).min(request.at_most.0);
    let height = Height(newest - newest % context.checkpoint_interval);
    if height == Height(0) || height < store.lowest_state()? {
        return Ok(None);
    }
    let (Some(block), Some(next), Some(roots)) =
        (store.block(height)?, store.block(height.next())?, store.roots(height)?)
    else {
        return Ok(None);
    };
    let at = Arc::new(store.state_at(height)?);
    let state = State::open(Arc::clone(&at) as Arc<dyn StateRead>);
    at.check_reads()?;
    // A damaged state is not offered.
    let Ok(state) = state else { return Ok(None) };
    let tables = state.counts().into_iter().map(|(table, rows)| TableRows { table, rows }).collect();
    Ok(Some(Snapshot { block, next, history_root: roots.history_root, tables, tree: state.tree_root() }))
}

/// A part of a state; none when there is no such state or place, or it is damaged there.
pub fn part(context: &Context, request: StateRequest) -> Result<Option<StatePart>, StorageError> {
    let Some(place) = Place::of(request.depth, request.path) else { return Ok(None) };
    let at = Arc::new(context.store.state_at(request.height)?);
    let part =
        State::open(Arc::clone(&at) as Arc<dyn StateRead>).and_then(|state| state.part(place, PART_BYTES));
    at.check_reads()?;
    let Ok(Part { page, rows }) = part else { return Ok(None) };
    let rows = rows.into_iter().map(|(key, value)| StateRow { key, value }).collect();
    Ok(Some(StatePart { page: page.unwrap_or_default(), rows }))
}

/// Why no state could be taken over this time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no {needed} members offer the same state")]
    NoOffer { needed: usize },
    #[error("nobody is left who gives parts of it; the last one: {0}")]
    NobodyLeft(FetchError),
    #[error("what came is not the state of block {0}")]
    NotTheState(Height),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Failure {
    /// Label of `swarm_sync_errors_total`.
    fn reason(&self) -> &'static str {
        match self {
            Failure::NoOffer { .. } => "no_peer",
            Failure::NobodyLeft(error) => error.reason(),
            Failure::NotTheState(_) | Failure::Storage(_) => "bad_chunk",
        }
    }
}

/// A state that is certified, and who has it.
struct Offered {
    snapshot: Snapshot,
    members: Vec<OperatorIndex>,
}

/// Takes the state over when this node is far behind.
pub struct Joining {
    /// Where the block store is.
    pub chain_dir: PathBuf,
    /// The members.
    pub network: Weak<Network>,
    /// What the rooms of the node share.
    pub context: Arc<Context>,
}

impl Joining {
    /// Ends when a store with a newer state is complete, and is to take the place of the present one.
    pub async fn ready(self) {
        let mut moved = (self.context.facts.tip_height(), Instant::now());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let tip = self.context.facts.tip_height();
            if tip > moved.0 {
                moved = (tip, Instant::now());
            }
            let far = if moved.1.elapsed() >= STUCK_AFTER { 1 } else { INTERVALS_BEHIND };
            let ahead = self.context.facts.best_peer_height().0.saturating_sub(tip.0);
            if ahead < far * self.context.checkpoint_interval {
                continue;
            }
            match self.take().await {
                Ok(height) => {
                    tracing::info!(target: "event", op = "fetch", result = "ok", height = height.0, "snapshot");
                    return;
                }
                Err(error) => {
                    self.context.metrics.swarm_sync_errors_total.inc([error.reason()]);
                    let height = self.context.facts.tip_height().0;
                    tracing::warn!(target: "event", op = "fetch", result = "error", height, err = %error, "snapshot");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn take(&self) -> Result<Height, Failure> {
        let offered = self.choose().await?;
        let height = offered.snapshot.block.block.header.height;
        let (draft, mut transfer) = self.open_draft(&offered).await?;
        self.fetch(&offered, &draft, &mut transfer).await?;
        let roots = Roots {
            state_root: offered.snapshot.next.block.header.state_root,
            history_root: offered.snapshot.history_root,
        };
        let (cluster_id, block) = (self.context.status.cluster_id, offered.snapshot.block);
        self.stored(move || {
            draft.put(&[transfer.finish()])?;
            let state = State::open(Arc::clone(draft.state()) as Arc<dyn StateRead>);
            let found = state.map(|state| state.root(&cluster_id, height));
            draft.state().check_reads()?;
            if found != Ok(roots.state_root) {
                return Err(Failure::NotTheState(height));
            }
            draft.complete(&block, roots)?;
            Ok(height)
        })
        .await
    }

    /// The newest certified state that f+1 members have alike.
    async fn choose(&self) -> Result<Offered, Failure> {
        // The newest of some may be one interval above that of others: which all have is asked for again.
        let newest = self.offers(Height(u64::MAX)).await;
        let mut heights: Vec<Height> =
            newest.iter().map(|(_, offer)| offer.block.block.header.height).collect();
        heights.sort_unstable_by(|one, other| other.cmp(one));
        let needed = self.context.quorum.weak_quorum();
        let none = || Failure::NoOffer { needed };
        let at_most = heights.get(needed - 1).copied().ok_or_else(none)?;
        let mut alike: BTreeMap<(Digest, B256), Vec<(OperatorIndex, Snapshot)>> = BTreeMap::new();
        for (member, offer) in self.offers(at_most).await {
            alike
                .entry((offer.block.certificate.digest, offer.history_root))
                .or_default()
                .push((member, offer));
        }
        let chosen = alike.into_values().find(|members| members.len() >= needed).ok_or_else(none)?;
        let members = chosen.iter().map(|(member, _)| *member).collect();
        let (_, snapshot) = chosen.into_iter().next().ok_or_else(none)?;
        Ok(Offered { snapshot, members })
    }

    /// What the members offer, as far as it is certified and ahead of this node.
    async fn offers(&self, at_most: Height) -> Vec<(OperatorIndex, Snapshot)> {
        let connected = self.network.upgrade().map(|network| network.connected()).unwrap_or_default();
        let mut asked = JoinSet::new();
        for member in connected {
            let (network, context) = (self.network.clone(), Arc::clone(&self.context));
            asked.spawn(async move {
                let request = SyncRequest::Snapshot(SnapshotRequest { at_most });
                let SyncReply::Snapshot(mut offers) = ask(&network, member, &request).await.ok()? else {
                    return None;
                };
                let offer = offers.pop().filter(|_| offers.is_empty())?;
                let (checked, _) = blocking(move || is_certified(&context, &offer).then_some(offer)).await?;
                Some((member, checked?))
            });
        }
        let own = self.context.facts.tip_height();
        let offers = asked.join_all().await.into_iter().flatten();
        offers.filter(|(_, offer)| offer.block.block.header.height > own).collect()
    }

    /// The draft, with what is missing of it. One of another state is thrown away.
    async fn open_draft(&self, offered: &Offered) -> Result<(ChainDraft, Transfer), Failure> {
        let (chain_dir, cluster_id) = (self.chain_dir.clone(), self.context.status.cluster_id);
        let height = offered.snapshot.block.block.header.height;
        let transfer = transfer_of(&cluster_id, &offered.snapshot);
        let mut transfer = transfer.map_err(|_| Failure::NotTheState(height))?;
        self.stored(move || {
            let mut draft = match ChainDraft::open(&chain_dir, cluster_id) {
                Ok(draft) => draft,
                // What was begun cannot be gone on with.
                Err(error) if error.may_pass() => return Err(error.into()),
                Err(_) => {
                    ChainDraft::discard(&chain_dir)?;
                    ChainDraft::open(&chain_dir, cluster_id)?
                }
            };
            transfer.resume(&**draft.state());
            draft.state().check_reads()?;
            if transfer.progress().0 == 0 && draft.state().above(&[]).is_some() {
                drop(draft);
                ChainDraft::discard(&chain_dir)?;
                draft = ChainDraft::open(&chain_dir, cluster_id)?;
            }
            let (rows, of) = transfer.progress();
            tracing::info!(target: "event", op = "offer", result = "ok", height = height.0, rows, of, "snapshot");
            Ok((draft, transfer))
        })
        .await
    }

    /// Fetches every part that is missing, one from each member at a time. Who gives none, or a wrong one, is not asked
    /// again.
    async fn fetch(
        &self,
        offered: &Offered,
        draft: &ChainDraft,
        transfer: &mut Transfer,
    ) -> Result<(), Failure> {
        let height = offered.snapshot.block.block.header.height;
        let mut members: BTreeSet<OperatorIndex> = offered.members.iter().copied().collect();
        let (started, mut told, mut chunks) = (Instant::now(), Instant::now(), 0u64);
        let had = transfer.progress().0;
        while !transfer.is_complete() {
            let mut asked = JoinSet::new();
            for (place, member) in transfer.wanted(members.len()).into_iter().zip(members.clone()) {
                let network = self.network.clone();
                asked.spawn(async move { (place, member, ask_part(&network, member, height, place).await) });
            }
            for (place, member, answer) in asked.join_all().await {
                let taken = answer.and_then(|part| {
                    transfer.take(place, &part).map_err(|refusal| FetchError::Malformed(refusal.to_string()))
                });
                match taken {
                    Ok(changes) => {
                        tokio::task::block_in_place(|| draft.put(&changes))?;
                        chunks += 1;
                    }
                    Err(error) => {
                        self.context.metrics.swarm_sync_errors_total.inc([error.reason()]);
                        let (operator, err) = (member.0, error.to_string());
                        tracing::warn!(target: "event", op = "fetch", result = "left", height = height.0, operator, err, "snapshot");
                        members.remove(&member);
                        if members.is_empty() {
                            return Err(Failure::NobodyLeft(error));
                        }
                    }
                }
            }
            let (rows, of) = transfer.progress();
            self.context.metrics.swarm_sync_progress_ratio.set([], rows as f64 / of.max(1) as f64);
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let eta_s = eta(started.elapsed(), rows - had, of - rows).as_secs();
                tracing::info!(target: "event", op = "fetch", result = "running", height = height.0, chunks, rows, of, eta_s, "snapshot");
            }
        }
        Ok(())
    }

    /// Blocking work with the draft.
    async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let height = self.context.facts.tip_height();
        blocking(work).await.map_or(Err(Failure::NotTheState(height)), |(done, _)| done)
    }
}

/// How long the rest takes at the speed so far.
fn eta(taken: Duration, rows: u64, left: u64) -> Duration {
    Duration::from_secs_f64(taken.as_secs_f64() * left as f64 / rows.max(1) as f64)
}

/// The transfer of a state, if its counts and its tree are those of the root in the next header.
fn transfer_of(cluster_id: &ClusterId, offer: &Snapshot) -> Result<Transfer, RootRefusal> {
    let counts: Vec<(u8, u64)> = offer.tables.iter().map(|table| (table.table, table.rows)).collect();
    let (height, certified) = (offer.block.block.header.height, offer.next.block.header.state_root);
    Transfer::begin(cluster_id, height, certified, &counts, offer.tree)
}

/// Whether a quorum decided both blocks, the second is the child of the first, and what is offered is the state that it
/// names.
fn is_certified(context: &Context, offer: &Snapshot) -> bool {
    let Snapshot { block, next, .. } = offer;
    let holds = |block: &CertifiedBlock| context.verifier.certified_block(block.clone()).is_ok();
    let (header, child) = (&block.block.header, &next.block.header);
    header.cluster_id == context.status.cluster_id
        && child.height == header.height.next()
        && child.parent_root == header.digest()
        && header.height.0.is_multiple_of(context.checkpoint_interval)
        && transfer_of(&context.status.cluster_id, offer).is_ok()
        && holds(block)
        && holds(next)
}

async fn ask(
    network: &Weak<Network>,
    member: OperatorIndex,
    request: &SyncRequest,
) -> Result<SyncReply, FetchError> {
    let network = network.upgrade().ok_or_else(|| FetchError::NoAnswer("network is down".into()))?;
    let answer = network.request(member, &sync::question(request)).await;
    let answer = answer.map_err(|error| FetchError::NoAnswer(error.to_string()))?;
    aequa_types::decode("sync reply", &answer.body, SYNC_FRAME_BYTES_MAX)
        .map_err(|error| FetchError::Malformed(error.to_string()))
}

async fn ask_part(
    network: &Weak<Network>,
    member: OperatorIndex,
    height: Height,
    place: Place,
) -> Result<Part, FetchError> {
    let (depth, path) = place.parts();
    let request = SyncRequest::State(StateRequest { height, depth, path });
    let SyncReply::State(StatePart { page, rows }) = ask(network, member, &request).await? else {
        return Err(FetchError::Malformed("not a part of a state".into()));
    };
    let page = Some(page).filter(|page| !page.is_empty());
    Ok(Part { page, rows: rows.into_iter().map(|StateRow { key, value }| (key, value)).collect() })
}
