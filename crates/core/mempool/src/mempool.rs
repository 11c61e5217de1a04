//! The pools together: admission, removal, and what they hold.

use crate::pool::{Pool, Rank, Space, SpaceId};
use crate::queue::Entry;
use crate::removal::Departures;
use crate::room::{Newcomer, Place, Plan};
use crate::{Admission, Limits, Nonces, PolicyError, RemovalReason, Removals, Removed, validate_policy};
use aequa_types::{Address, BuilderPolicy, CheckedTransaction, Height, Transaction, TxHash, TxKind};
use std::collections::{BTreeMap, BTreeSet};

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxStatus {
    /// Held and ready to be proposed.
    Pending,
    /// Held until the nonces before it arrive.
    Future,
    /// Held once, gone now, and not because this node saw it included.
    Dropped(RemovalReason),
}

/// Where a held transaction is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    kind: TxKind,
    sender: Address,
    nonce: u64,
}

/// Typed transaction pools; see the crate documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mempool {
    limits: Limits,
    policy: BuilderPolicy,
    /// One per type, in the policy's order.
    pools: Vec<Pool>,
    spaces: Vec<Space>,
    by_hash: BTreeMap<TxHash, Slot>,
    by_admission: BTreeSet<(Height, TxHash)>,
    in_flight: BTreeSet<TxHash>,
    departures: Departures,
}

impl Mempool {
    /// Empty pools for the types of `policy`.
    pub fn new(limits: Limits, policy: BuilderPolicy) -> Result<Self, PolicyError> {
        validate_policy(&policy)?;
        let pools =
            policy.order.iter().filter_map(|kind| Some(Pool::new(*kind, SpaceId::of(*kind)?))).collect();
        Ok(Self {
            limits,
            policy,
            pools,
            spaces: SpaceId::ALL.map(|id| Space::new(id, &limits)).into(),
            by_hash: BTreeMap::new(),
            by_admission: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            departures: Departures::default(),
        })
    }

    /// The caps in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The policy blocks are built by.
    pub fn policy(&self) -> &BuilderPolicy {
        &self.policy
    }

    /// What [`Mempool::admit`] would refuse `tx` for, found before its hash and signature are worth
    /// computing. `bytes` is the size of its SSZ form.
    pub fn precheck(
        &self,
        transaction: &Transaction,
        bytes: usize,
        nonces: &dyn Nonces,
    ) -> Result<(), Admission> {
        self.assess(&Newcomer::new(&transaction.body, bytes), nonces).map(|_| ())
    }

    /// Takes a checked transaction in at the current `height`, or says why not. A refusal changes nothing.
    pub fn admit(&mut self, tx: CheckedTransaction, height: Height, nonces: &dyn Nonces) -> Admission {
        let newcomer = Newcomer::new(tx.body(), tx.bytes());
        self.follow(newcomer.kind, newcomer.sender, nonces);
        match self.assess(&newcomer, nonces) {
            Err(refusal) => refusal,
            Ok(plan) => {
                let state = nonces.nonce(&newcomer.sender, newcomer.kind);
                self.carry_out(plan, tx, height, state)
            }
        }
    }

    /// Names the transactions of the proposals being agreed: until the next call or decision they are
    /// neither replaced nor evicted.
    pub fn set_in_flight(&mut self, hashes: &[TxHash]) {
        self.in_flight = hashes.iter().copied().collect();
    }

    /// Follows a decided block: `included` are its items, `nonces` the state after it.
    pub fn on_decided(
        &mut self,
        height: Height,
        included: &[CheckedTransaction],
        nonces: &dyn Nonces,
    ) -> Removals {
        self.in_flight.clear();
        let hashes: BTreeSet<TxHash> = included.iter().map(CheckedTransaction::hash).collect();
        let queues: BTreeSet<(TxKind, Address)> =
            included.iter().map(|tx| (tx.body().kind(), tx.body().from())).collect();
        let mut removals = Removals::default();
        for (kind, sender) in queues {
            let state = nonces.nonce(&sender, kind);
            self.advance(kind, sender, state, &hashes, &mut removals);
        }
        for hash in &hashes {
            self.departures.forget(hash);
        }
        self.expire(height, &mut removals);
        removals
    }

    /// The held transaction of this hash.
    pub fn get(&self, hash: &TxHash) -> Option<&CheckedTransaction> {
        self.entry(self.by_hash.get(hash)?).map(|entry| &entry.tx)
    }

    /// Where a transaction stands; `None` when it was never seen, was included, or is long forgotten.
    pub fn status(&self, hash: &TxHash) -> Option<TxStatus> {
        let Some(slot) = self.by_hash.get(hash) else {
            return self.departures.dropped(hash).map(TxStatus::Dropped);
        };
        let queue = self.pool(slot.kind)?.queue(&slot.sender)?;
        Some(if queue.is_pending(slot.nonce) { TxStatus::Pending } else { TxStatus::Future })
    }

    /// The nonce a sender should use next: the state's plus its contiguous transactions here.
    pub fn pending_nonce(&self, sender: &Address, kind: TxKind, nonces: &dyn Nonces) -> u64 {
        let state = nonces.nonce(sender, kind);
        let queue = self.pool(kind).and_then(|pool| pool.queue(sender));
        queue.filter(|queue| queue.base() == state).map_or(state, |queue| queue.expected())
    }

    /// Transactions of `kind` held, futures included.
    pub fn len(&self, kind: TxKind) -> usize {
        self.pool(kind).map_or(0, Pool::transactions)
    }

    /// Transactions of `kind` that are ready to be proposed.
    pub fn pending_len(&self, kind: TxKind) -> usize {
        self.pool(kind).map_or(0, Pool::pending)
    }

    /// Bytes of the transactions of `kind` held.
    pub fn bytes(&self, kind: TxKind) -> usize {
        self.pool(kind).map_or(0, Pool::bytes)
    }

    /// Whether nothing is held at all.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Whether a proposal could hold anything.
    pub fn has_pending(&self) -> bool {
        self.pools.iter().any(|pool| pool.pending() > 0)
    }

    /// How many transactions of `kind` ever left for `reason`.
    pub fn removed_total(&self, kind: TxKind, reason: RemovalReason) -> u64 {
        self.departures.total(kind, reason)
    }

    pub(crate) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    pub(crate) fn pool(&self, kind: TxKind) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.kind == kind)
    }

    pub(crate) fn space(&self, id: SpaceId) -> &Space {
        &self.spaces[id as usize]
    }

    pub(crate) fn is_in_flight(&self, hash: &TxHash) -> bool {
        self.in_flight.contains(hash)
    }

    pub(crate) fn hash_of(&self, rank: &Rank) -> Option<TxHash> {
        self.entry(&Slot::of(rank)).map(|entry| entry.tx.hash())
    }

    pub(crate) fn bytes_of(&self, rank: &Rank) -> usize {
        self.entry(&Slot::of(rank)).map_or(0, |entry| entry.tx.bytes())
    }

    fn entry(&self, slot: &Slot) -> Option<&Entry> {
        self.pool(slot.kind)?.queue(&slot.sender)?.get(slot.nonce)
    }

    fn carry_out(&mut self, plan: Plan, tx: CheckedTransaction, height: Height, state: u64) -> Admission {
        for victim in &plan.victims {
            self.remove(&Slot::of(victim), RemovalReason::Evicted);
        }
        let slot = Slot { kind: tx.body().kind(), sender: tx.body().from(), nonce: tx.body().nonce() };
        let hash = tx.hash();
        let replaced = self.edit(slot.kind, slot.sender, state, |queue| queue.insert(tx, height)).flatten();
        if let Some(replaced) = replaced {
            self.forget(slot.kind, &replaced, RemovalReason::Replaced);
        }
        self.by_hash.insert(hash, slot);
        self.by_admission.insert((height, hash));
        match plan.place {
            Place::Pending | Place::Taken { .. } => Admission::Ok,
            Place::Future => Admission::Future,
        }
    }

    /// Brings one queue to the state's nonce, should the host have moved the state without telling.
    fn follow(&mut self, kind: TxKind, sender: Address, nonces: &dyn Nonces) {
        let state = nonces.nonce(&sender, kind);
        let behind =
            self.pool(kind).and_then(|pool| pool.queue(&sender)).is_some_and(|queue| queue.base() != state);
        if behind {
            self.advance(kind, sender, state, &BTreeSet::new(), &mut Removals::default());
        }
    }

    fn advance(
        &mut self,
        kind: TxKind,
        sender: Address,
        state: u64,
        included: &BTreeSet<TxHash>,
        removals: &mut Removals,
    ) {
        let moved = self.edit(kind, sender, state, |queue| {
            let expected = queue.expected();
            let gone = queue.rebase(state);
            let promoted: Vec<TxHash> = queue.pending_from(expected).map(|entry| entry.tx.hash()).collect();
            (gone, promoted)
        });
        let Some((gone, promoted)) = moved else { return };
        removals.promoted.extend(promoted);
        for entry in gone {
            let reason = if included.contains(&entry.tx.hash()) {
                RemovalReason::Included
            } else {
                RemovalReason::Stale
            };
            removals.removed.push(self.forget(kind, &entry, reason));
        }
    }

    fn expire(&mut self, height: Height, removals: &mut Removals) {
        while let Some((admitted, hash)) = self.by_admission.first().copied() {
            if height.0.saturating_sub(admitted.0) < self.limits.expiry_heights {
                break;
            }
            self.by_admission.pop_first();
            if let Some(slot) = self.by_hash.get(&hash).copied() {
                removals.removed.extend(self.remove(&slot, RemovalReason::Expired));
            }
        }
    }

    fn remove(&mut self, slot: &Slot, reason: RemovalReason) -> Option<Removed> {
        let base = self.pool(slot.kind)?.queue(&slot.sender)?.base();
        let entry = self.edit(slot.kind, slot.sender, base, |queue| queue.remove(slot.nonce)).flatten()?;
        Some(self.forget(slot.kind, &entry, reason))
    }

    /// Drops an entry that has left its queue from the indexes.
    fn forget(&mut self, kind: TxKind, entry: &Entry, reason: RemovalReason) -> Removed {
        let removed = Removed { kind, hash: entry.tx.hash(), reason };
        self.by_hash.remove(&removed.hash);
        self.by_admission.remove(&(entry.admitted, removed.hash));
        self.departures.note(removed);
        removed
    }

    fn edit<R>(
        &mut self,
        kind: TxKind,
        sender: Address,
        base: u64,
        change: impl FnOnce(&mut crate::queue::Queue) -> R,
    ) -> Option<R> {
        let pool = self.pools.iter_mut().find(|pool| pool.kind == kind)?;
        let space = self.spaces.iter_mut().find(|space| space.id == pool.space)?;
        Some(pool.edit(space, sender, base, change))
    }
}

impl Slot {
    fn of(rank: &Rank) -> Self {
        Self { kind: rank.kind, sender: rank.sender, nonce: rank.nonce }
    }
}
