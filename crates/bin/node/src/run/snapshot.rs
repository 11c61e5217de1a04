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
//!
//! A state that is being given stays readable for as long as somebody asks for parts of it, however many blocks come
//! meanwhile. Whoever begins again goes on with the state its draft is of, while members give it.

use super::context::Context;
use super::ledger::Store;
use super::sync::{self, FetchError, blocking};
use aequa_chain::{Part, Place, RootRefusal, State, StateRead, Transfer};
use aequa_p2p::Network;
use aequa_storage::StorageError;
use aequa_storage::chain_store::{ChainDraft, ChainOptions, ChainStore as _, Roots, StateAt};
use aequa_types::limits::SYNC_FRAME_BYTES_MAX;
use aequa_types::sync::{
    Snapshot, SnapshotRequest, StatePart, StateRequest, StateRow, SyncReply, SyncRequest, TableRows,
};
use aequa_types::{CertifiedBlock, ClusterId, Digest, Height, OperatorIndex};
use alloy_primitives::B256;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// So many checkpoint intervals behind, the state is had sooner than the blocks.
const INTERVALS_BEHIND: u64 = 10;
/// So long without a new block, one interval is enough, where nobody gives the next block any more.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked whether this node is far behind.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait after an attempt that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
/// How often progress is logged.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Rows of a part in bytes, about.
const PART_BYTES: usize = 512 << 10;
/// States that are kept readable for others.
const GIVEN_MAX: usize = 4;
/// How long one is kept that nobody asks for.
const GIVEN_FOR: Duration = Duration::from_secs(60);
/// How long one is kept at most: meanwhile the engine drops nothing of what changed since.
const GIVEN_AT_MOST: Duration = Duration::from_secs(3600);

/// States that members are being given, each as it was, while somebody asks for it.
#[derive(Debug, Default)]
pub struct GivenStates(Mutex<Vec<Given>>);

#[derive(Debug)]
struct Given {
    height: Height,
    state: StateAt,
    since: Instant,
    asked: Instant,
}

impl GivenStates {
    /// One that is kept, or else one that the store has.
    fn get(&self, store: &Store, height: Height) -> Result<StateAt, StorageError> {
        let mut given = self.0.lock();
        match given.iter_mut().find(|given| given.height == height) {
            Some(kept) => {
                kept.asked = Instant::now();
                Ok(kept.state.again())
            }
            None => store.state_at(height),
        }
    }

    /// Keeps one that is offered, in place of the one that nobody has asked for longest.
    fn keep(&self, height: Height, state: StateAt) {
        let mut given = self.0.lock();
        if given.iter().any(|kept| kept.height == height) {
            return;
        }
        if given.len() >= GIVEN_MAX {
            let oldest = given.iter().enumerate().min_by_key(|(_, kept)| kept.asked);
            let oldest = oldest.map(|(at, _)| at);
            oldest.map(|at| given.swap_remove(at));
        }
        let now = Instant::now();
        given.push(Given { height, state, since: now, asked: now });
    }

    /// The highest one at or below a height.
    fn highest(&self, at_most: Height) -> Option<Height> {
        self.0.lock().iter().map(|kept| kept.height).filter(|height| *height <= at_most).max()
    }

    /// Lets those go that nobody asks for any more.
    fn let_go(&self) {
        let is_kept = |kept: &Given| kept.asked.elapsed() < GIVEN_FOR && kept.since.elapsed() < GIVEN_AT_MOST;
        self.0.lock().retain(is_kept);
    }
}

/// The newest state this node can give, after a block at or below the height asked for.
pub fn offer(context: &Context, request: SnapshotRequest) -> Result<Option<Snapshot>, StorageError> {
    let store = &context.store;
    let newest = context.facts.tip_height().0.saturating_sub(1).min(request.at_most.0);
    let mut height = Height(newest - newest % context.checkpoint_interval);
    if height < store.lowest_state()? {
        // Somebody was given one, and has begun again.
        height = context.given.highest(height).unwrap_or_default();
    }
    if height == Height(0) {
        return Ok(None);
    }
    let (Some(block), Some(next), Some(roots)) =
        (store.block(height)?, store.block(height.next())?, store.roots(height)?)
    else {
        return Ok(None);
    };
    let at = Arc::new(context.given.get(store, height)?);
    let state = State::open(Arc::clone(&at) as Arc<dyn StateRead>);
    at.check_reads()?;
    // A damaged state is not offered.
    let Ok(state) = state else { return Ok(None) };
    context.given.keep(height, at.again());
    let tables = state.counts().into_iter().map(|(table, rows)| TableRows { table, rows }).collect();
    Ok(Some(Snapshot { block, next, history_root: roots.history_root, tables, tree: state.tree_root() }))
}

/// A part of a state; none when there is no such state or place, or it is damaged there.
pub fn part(context: &Context, request: StateRequest) -> Result<Option<StatePart>, StorageError> {
    let Some(place) = Place::of(request.depth, request.path) else { return Ok(None) };
    let at = Arc::new(context.given.get(&context.store, request.height)?);
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

impl Offered {
    fn height(&self) -> Height {
        self.snapshot.block.block.header.height
    }
}

/// Takes the state over when this node is far behind.
pub struct Joining {
    /// How a block store is made.
    pub options: ChainOptions,
    /// Where the block store is.
    pub chain_dir: PathBuf,
    /// The members.
    pub network: Weak<Network>,
    /// What the rooms of the node share.
    pub context: Arc<Context>,
    /// Whether this node keeps all blocks it has had.
    pub keeps_all: bool,
}

impl Joining {
    /// Ends when a store with a newer state is complete, and is to take the place of the present one.
    pub async fn ready(self) {
        let mut moved = (self.context.facts.tip_height(), Instant::now());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.context.given.let_go();
            let tip = self.context.facts.tip_height();
            if tip > moved.0 {
                moved = (tip, Instant::now());
            }
            let (is_stuck, interval) = (moved.1.elapsed() >= STUCK_AFTER, self.context.checkpoint_interval);
            let theirs = self.context.facts.best_peer_height();
            let ahead = theirs.0.saturating_sub(tip.0);
            if ahead < interval && theirs > Height(0) {
                self.forget_draft().await;
            }
            // Its blocks go with a store that is replaced: only when nobody else has those that follow.
            let is_dear = self.keeps_all && tip > Height(0);
            let is_far = ahead >= INTERVALS_BEHIND * interval && !is_dear;
            let is_left = !is_far && is_stuck && ahead >= interval && !self.somebody_has(tip.next()).await;
            if !is_far && !is_left {
                continue;
            }
            if is_dear {
                let text = format!(
                    "no member has block {} any more: the state is taken as a whole, and blocks up to {tip} go",
                    tip.next()
                );
                tracing::warn!(target: "event", text, "warning");
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
        let height = offered.height();
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

    /// What was begun is not needed any more: the blocks were first.
    async fn forget_draft(&self) {
        let chain_dir = self.chain_dir.clone();
        let forget = move || match ChainDraft::exists(&chain_dir) {
            true => ChainDraft::discard(&chain_dir),
            false => Ok(()),
        };
        if let Some((Err(error), _)) = blocking(forget).await {
            tracing::debug!(%error, "a draft of the state is left");
        }
    }

    /// Whether a connected member gives the block at a height.
    async fn somebody_has(&self, height: Height) -> bool {
        let connected = self.network.upgrade().map(|network| network.connected()).unwrap_or_default();
        let mut asked = JoinSet::new();
        for member in connected {
            let (network, context) = (self.network.clone(), Arc::clone(&self.context));
            asked.spawn(async move { sync::fetch(&network, &context, member, height).await });
        }
        asked.join_all().await.into_iter().any(|blocks| blocks.is_ok_and(|blocks| !blocks.is_empty()))
    }

    /// A certified state that f+1 members have alike: the one that was begun with, or else the newest.
    async fn choose(&self) -> Result<Offered, Failure> {
        if let Some(begun) = self.begun().await?
            && let Some(offered) = self.alike(begun).await
            && offered.height() == begun
        {
            return Ok(offered);
        }
        // The newest of some may be one interval above that of others: which all have is asked for again.
        let newest = self.offers(Height(u64::MAX)).await;
        let mut heights: Vec<Height> =
            newest.iter().map(|(_, offer)| offer.block.block.header.height).collect();
        heights.sort_unstable_by(|one, other| other.cmp(one));
        let needed = self.context.quorum.weak_quorum();
        let none = || Failure::NoOffer { needed };
        let at_most = heights.get(needed - 1).copied().ok_or_else(none)?;
        self.alike(at_most).await.ok_or_else(none)
    }

    /// After which block the state is that was begun with in an earlier attempt.
    async fn begun(&self) -> Result<Option<Height>, Failure> {
        let (chain_dir, cluster_id) = (self.chain_dir.clone(), self.context.status.cluster_id);
        let options = self.options.clone();
        self.stored(move || {
            if !ChainDraft::exists(&chain_dir) {
                return Ok(None);
            }
            // One that cannot be opened is thrown away when it is to be filled.
            let draft = ChainDraft::open(&chain_dir, cluster_id, options);
            Ok(draft.and_then(|draft| draft.height()).unwrap_or_default())
        })
        .await
    }

    /// The state that f+1 members give alike, after a block at or below a height.
    async fn alike(&self, at_most: Height) -> Option<Offered> {
        let mut alike: BTreeMap<(Digest, B256), Vec<(OperatorIndex, Snapshot)>> = BTreeMap::new();
        for (member, offer) in self.offers(at_most).await {
            alike
                .entry((offer.block.certificate.digest, offer.history_root))
                .or_default()
                .push((member, offer));
        }
        let needed = self.context.quorum.weak_quorum();
        let chosen = alike.into_values().find(|members| members.len() >= needed)?;
        let members = chosen.iter().map(|(member, _)| *member).collect();
        let (_, snapshot) = chosen.into_iter().next()?;
        Some(Offered { snapshot, members })
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
        let height = offered.height();
        let transfer = transfer_of(&cluster_id, &offered.snapshot);
        let mut transfer = transfer.map_err(|_| Failure::NotTheState(height))?;
        let options = self.options.clone();
        self.stored(move || {
            let open = || ChainDraft::open(&chain_dir, cluster_id, options.clone());
            let mut draft = match open() {
                Ok(draft) => draft,
                // What was begun cannot be gone on with.
                Err(error) if error.may_pass() => return Err(error.into()),
                Err(_) => {
                    ChainDraft::discard(&chain_dir)?;
                    open()?
                }
            };
            transfer.resume(&**draft.state());
            draft.state().check_reads()?;
            if transfer.progress().0 == 0 && draft.state().above(&[]).is_some() {
                drop(draft);
                ChainDraft::discard(&chain_dir)?;
                draft = open()?;
            }
            draft.begin(height)?;
            let (rows, of) = transfer.progress();
            tracing::info!(target: "event", op = "offer", result = "ok", height = height.0, rows, of, "snapshot");
            Ok((draft, transfer))
        })
        .await
    }

    /// Fetches every part that is missing, one from each member at a time; the last ones from all who have nothing else to
    /// do, so that nobody is waited for. Who gives none, or a wrong one, is not asked again.
    async fn fetch(
        &self,
        offered: &Offered,
        draft: &ChainDraft,
        transfer: &mut Transfer,
    ) -> Result<(), Failure> {
        let height = offered.height();
        let mut idle: BTreeSet<OperatorIndex> = offered.members.iter().copied().collect();
        let (mut asked, mut under_way) = (JoinSet::new(), BTreeMap::<Place, usize>::new());
        let (started, mut told, mut chunks) = (Instant::now(), Instant::now(), 0u64);
        let had = transfer.progress().0;
        while !transfer.is_complete() {
            let wanted = transfer.wanted(offered.members.len());
            while let Some(member) = idle.pop_first() {
                let asked_for = |place: &&Place| under_way.get(*place).copied().unwrap_or_default();
                let Some(place) = wanted.iter().min_by_key(asked_for).copied() else { break };
                *under_way.entry(place).or_default() += 1;
                let network = self.network.clone();
                asked.spawn(async move { (place, member, ask_part(&network, member, height, place).await) });
            }
            let nobody = || Failure::NobodyLeft(FetchError::NoAnswer("nobody is asked".into()));
            let Ok((place, member, answer)) = asked.join_next().await.ok_or_else(nobody)? else { continue };
            // Another member was faster where several were asked.
            let is_late = !transfer.is_missing(place);
            let taken = answer.and_then(|part| match is_late {
                true => Ok(Vec::new()),
                false => {
                    transfer.take(place, &part).map_err(|refusal| FetchError::Malformed(refusal.to_string()))
                }
            });
            under_way.entry(place).and_modify(|members| *members -= 1);
            match taken {
                Ok(changes) => {
                    tokio::task::block_in_place(|| draft.put(&changes))?;
                    chunks += u64::from(!is_late);
                    under_way.retain(|place, _| transfer.is_missing(*place));
                    idle.insert(member);
                }
                Err(error) => {
                    self.context.metrics.swarm_sync_errors_total.inc([error.reason()]);
                    let (operator, err) = (member.0, error.to_string());
                    tracing::warn!(target: "event", op = "fetch", result = "left", height = height.0, operator, err, "snapshot");
                    if idle.is_empty() && asked.is_empty() {
                        return Err(Failure::NobodyLeft(error));
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

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_chain::Change;
    use aequa_storage::{BlockCommit, FjallChainStore};
    use aequa_testkit::{at, block, commit};

    const CLUSTER: ClusterId = ClusterId::repeat_byte(0xc1);
    const ROW: &[u8] = b"row";

    /// A store that keeps two states, after so many blocks, each of which writes its height.
    fn store(dir: &std::path::Path, blocks: u64) -> Store {
        let options = ChainOptions { states_kept: 2, ..ChainOptions::default() };
        let store = Arc::new(FjallChainStore::open(dir, CLUSTER, options).unwrap());
        extend(&store, blocks);
        store
    }

    fn extend(store: &Store, blocks: u64) {
        for _ in 0..blocks {
            let tip = store.latest().unwrap();
            let (height, parent) = tip.map_or((1, CLUSTER), |tip| (tip.height.0 + 1, tip.digest));
            let block = block(CLUSTER, height, parent, Vec::new());
            let certificate = commit(at(height), 0, block.header.digest()).certificate(0..3);
            let value = |height: u64| Some(height.to_be_bytes().to_vec()).filter(|_| height > 0);
            let change = Change { key: ROW.into(), before: value(height - 1), after: value(height) };
            let commit = BlockCommit {
                block: &block,
                certificate: &certificate,
                tx_hashes: &[],
                changes: &[change],
                state_root: B256::ZERO,
                history_root: B256::ZERO,
            };
            store.commit(&commit).unwrap();
        }
    }

    fn row(state: &StateAt) -> u64 {
        u64::from_be_bytes(state.get(ROW).unwrap().try_into().unwrap())
    }

    #[test]
    fn a_state_that_is_being_given_outlives_the_states_that_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (store, given) = (store(dir.path(), 10), GivenStates::default());
        given.keep(Height(10), given.get(&store, Height(10)).unwrap());
        extend(&store, 20);
        store.flush().unwrap();
        assert!(store.state_at(Height(10)).is_err(), "the store has forgotten it");
        assert_eq!(row(&given.get(&store, Height(10)).unwrap()), 10);
        assert_eq!(row(&given.get(&store, Height(30)).unwrap()), 30, "of others there is what the store has");
        assert!(given.get(&store, Height(11)).is_err());
        assert_eq!(
            [9, 10, 99].map(|most| given.highest(Height(most))),
            [None, Some(Height(10)), Some(Height(10))]
        );
        given.let_go();
        assert!(given.highest(Height(10)).is_some(), "somebody has just asked for it");
    }

    #[test]
    fn few_states_are_given_at_a_time_and_the_one_that_is_asked_for_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (store, given) = (store(dir.path(), 1), GivenStates::default());
        given.keep(Height(1), store.state_at(Height(1)).unwrap());
        for height in 2..=2 + 2 * GIVEN_MAX as u64 {
            extend(&store, 1);
            given.get(&store, Height(1)).unwrap();
            given.keep(Height(height), store.state_at(Height(height)).unwrap());
        }
        assert_eq!(given.0.lock().len(), GIVEN_MAX);
        assert_eq!(row(&given.get(&store, Height(1)).unwrap()), 1);
    }
}
