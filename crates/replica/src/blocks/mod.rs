//! Heights of the chain: when to propose, what to accept, what a decision does.

pub(crate) mod evidence;
pub(crate) mod offers;

use crate::inquiry::OwedShare;
use crate::io::{Halt, Notice, Ticket, Timer};
use crate::output::{Outbound, StoreWrite, Tell};
use crate::replica::{INSTANCES_KEPT, Replica, decision, leader, timeout_ms};
use crate::sealing::SEALS_PENDING_MAX;
use crate::signer::Keys;
use aequa_chain::{Chain, FRESH_WITHIN_MS, Freshness};
use aequa_mempool::{Admission, Nonces, Selection};
use aequa_qbft::{Event, Phase};
use aequa_types::record::ValueRecord;
use aequa_types::statement::{Claim, CommitClaim};
use aequa_types::{
    Address, Certificate, CheckedBlock, CheckedTransaction, ConsensusParams, Digest, Height, InstanceId,
    Message, OperatorIndex, Record, Round, Signed, Statement, TimestampMs, TxHash, TxKind, Value, Verified,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rounds whose new blocks carry the proposer's clock: the first leader may be down, and the second one's block
/// still tells the time. Where both found no quorum, clocks may disagree, and later blocks carry the millisecond
/// after their parent, which nobody refuses.
const CLOCK_ROUNDS: Round = Round(2);

/// Rounds without a decision after which it is no longer a leader or two that are down: f and one more, within these.
const STALLED_ROUNDS: std::ops::RangeInclusive<u64> = 3..=6;

/// When the next block may be proposed, and why not yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pacing {
    /// When the proposal of the last decided block was accepted here.
    last_proposal_ms: Option<u64>,
    /// When the proposal being agreed was accepted here.
    accepted_ms: Option<u64>,
    /// Empty blocks are off and there is nothing to agree on: no proposal, no round timer.
    pub(crate) idle: bool,
    /// When the height began, or its work came.
    begun_ms: u64,
    /// This operator leads round 0 and holds its proposal back.
    held: Option<Held>,
    /// Operators that have voted in the height while this node was idle.
    stirring: BTreeSet<OperatorIndex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Until there is a transaction or evidence.
    Work,
    /// Until fewer decisions wait for their seal.
    Seals,
}

/// The chain's nonces as the pools ask for them.
pub(crate) struct ChainNonces<'a>(pub &'a Chain);

impl Nonces for ChainNonces<'_> {
    fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        self.0.state().nonce(sender, kind)
    }
}

/// ProcessProposal: why a fresh block may not be prepared in `round`.
///
/// With empty blocks off, round 0 is for work only. A height that was begun must still end when its work
/// has gone, so later rounds may be empty.
pub(crate) fn check_fresh(
    chain: &Chain,
    params: &ConsensusParams,
    round: Round,
    block: &CheckedBlock,
    proposer: OperatorIndex,
    wall_ms: TimestampMs,
) -> Result<(), String> {
    let policy = &params.builder;
    let is_empty = block.items().is_empty() && block.evidence().is_empty();
    if !params.empty_blocks && round == Round(0) && is_empty {
        return Err("an empty block in round 0".into());
    }
    let fresh = Freshness { now_ms: wall_ms, behind_ms: fresh_within_ms(params, round) };
    chain.check_header(block, proposer, policy.hash(), Some(fresh)).map_err(|error| error.to_string())?;
    aequa_mempool::check_items(policy, &ChainNonces(chain), block.items()).map_err(|error| error.to_string())
}

/// How far behind the local clock a block first proposed in `round` may be: where messages take longer than
/// the least, no round would ever be fresh enough, however long rounds grow.
fn fresh_within_ms(params: &ConsensusParams, round: Round) -> u64 {
    timeout_ms(params, round).max(FRESH_WITHIN_MS)
}

impl<K: Keys> Replica<K> {
    /// Whether there is something to agree on, and several rounds have brought no decision.
    pub fn has_stalled(&self) -> bool {
        let params = &self.config.params;
        let down = self.config.quorum.faulty_max() as u64;
        let rounds = (down + 1).clamp(*STALLED_ROUNDS.start(), *STALLED_ROUNDS.end());
        let rounds_ms: u64 = (0..rounds).map(|round| timeout_ms(params, Round(round))).sum();
        let waited_ms = self.now.elapsed_ms.saturating_sub(self.pacing.begun_ms);
        !self.pacing.idle && !self.is_inquiring() && waited_ms > rounds_ms + params.block_interval_ms
    }

    /// The height up to which this operator signs no block, where that is at or above the one being agreed on.
    pub fn abstains_up_to(&self) -> Option<Height> {
        let next = self.chain.tip().height.next();
        self.signing_floors().find_map(InstanceId::height).filter(|floor| *floor >= next)
    }

    /// Blocks decided before a restart but not yet executed: the store had lost them, or their parent.
    fn finish_decided(&mut self) {
        loop {
            let id = InstanceId::Block(self.chain.tip().height.next());
            let Some((value, certificate)) = self.instances.get(&id).and_then(decision) else { return };
            let Some(block) = value.as_block().cloned() else { return };
            if !self.commit_block(block, certificate, true) {
                return;
            }
        }
    }

    /// Executes what is decided already, opens the instance of the next height and hands it what
    /// came early.
    pub(crate) fn begin_height(&mut self) {
        self.finish_decided();
        if self.is_inquiring() {
            return;
        }
        let height = self.chain.tip().height.next();
        if height <= self.fetched_only {
            return self.fetch_if_behind();
        }
        let id = InstanceId::Block(height);
        self.pacing.held = None;
        self.pacing.accepted_ms = None;
        self.pacing.stirring.clear();
        self.pacing.begun_ms = self.now.elapsed_ms;
        let restored = self.instances.contains_key(&id);
        self.pacing.idle = !restored && !self.config.params.empty_blocks && !self.has_work();
        self.open_instance(id);
        self.drive(id, Event::Start);
        for (from, message) in self.early.take(height) {
            // Also after they have decided it: later COMMITs may hold the share a seal still needs.
            if self.chain.tip().height.next() == height {
                self.stir(&message);
            }
            self.hand_over(id, from, message);
        }
    }

    fn has_work(&self) -> bool {
        !self.pending.is_empty() || (self.config.builder && self.mempool.has_pending())
    }

    /// A member's message about a block.
    pub(crate) fn deliver_block(&mut self, height: Height, from: OperatorIndex, message: Verified) {
        self.witness_message(&message);
        let current = self.chain.tip().height.next();
        if height > current {
            if let Some(decided) = height.previous() {
                self.catchup.shown(from, decided);
            }
            self.early.keep(current, height, from, message);
            return self.fetch_if_behind();
        }
        if height == current {
            if height <= self.fetched_only {
                return self.fetch_if_behind();
            }
            self.stir(&message);
        }
        self.hand_over(InstanceId::Block(height), from, message);
    }

    /// A message of the height being idled in: its leader's proposal begins it, and so do votes of f+1
    /// operators. One operator alone cannot make the cluster busy.
    pub(crate) fn stir(&mut self, message: &Verified) {
        if !self.pacing.idle {
            return;
        }
        let begins = match message {
            Verified::PrePrepare { proposal, .. } => {
                proposal.author == leader(self.config.quorum, proposal.instance, proposal.round)
            }
            Verified::Prepare(vote) | Verified::Commit(vote) => self.stirred_by(vote.author),
            Verified::RoundChange(message) => self.stirred_by(message.change.author),
            Verified::Decided(_) => true,
            Verified::ValueRequest(_) | Verified::ValueReply { .. } => false,
        };
        if begins {
            self.wake();
        }
    }

    fn stirred_by(&mut self, operator: OperatorIndex) -> bool {
        self.pacing.stirring.insert(operator);
        self.pacing.stirring.len() >= self.config.quorum.weak_quorum()
    }

    /// There is something to agree on after all.
    pub(crate) fn wake(&mut self) {
        if self.pacing.idle {
            self.pacing.idle = false;
            self.pacing.begun_ms = self.now.elapsed_ms;
            let id = InstanceId::Block(self.chain.tip().height.next());
            self.set_round_timer(id, Round(0));
        }
        if self.pacing.held == Some(Held::Work) && self.has_work() {
            self.pacing.held = None;
            self.need_block(self.chain.tip().height.next(), Round(0));
        }
    }

    /// Admits transactions; clients get their answer, peers get the transaction.
    pub(crate) fn admit(&mut self, transactions: Vec<(CheckedTransaction, Option<Ticket>)>) {
        let height = self.chain.tip().height;
        for (transaction, ticket) in transactions {
            let hash: TxHash = transaction.hash();
            let admission = self.mempool.admit(transaction.clone(), height, &ChainNonces(&self.chain));
            if admission.is_held() && self.config.quorum.operators() > 1 {
                self.offers.add(hash, ticket.is_some(), self.now.elapsed_ms);
            }
            if let Some(ticket) = ticket {
                self.out.tell(Tell::Admission(ticket, hash, admission));
                if admission.is_held() {
                    self.out.send(Outbound::Gossip(transaction));
                }
            }
            if admission == Admission::Ok {
                self.wake();
            }
        }
    }

    /// The leader of `round` needs a block to propose.
    pub(crate) fn need_block(&mut self, height: Height, round: Round) {
        if round > Round(0) {
            return self.build_and_propose(height, round);
        }
        if self.lacks_work() {
            self.pacing.held = Some(Held::Work);
            return;
        }
        let interval_ms = self.config.params.block_interval_ms;
        let due_ms = self.pacing.last_proposal_ms.map_or(0, |last| last.saturating_add(interval_ms));
        self.set_timer(Timer::Propose(height), due_ms.saturating_sub(self.now.elapsed_ms));
    }

    fn lacks_work(&self) -> bool {
        !self.config.params.empty_blocks && !self.has_work()
    }

    /// The block interval is over. A later round has asked for a block of its own.
    pub(crate) fn propose_block(&mut self, height: Height) {
        let id = InstanceId::Block(height);
        let open = self.instances.get(&id).is_some_and(|instance| {
            let idle = instance.round() == Round(0) && instance.phase() == Phase::Idle;
            idle && instance.decided().is_none()
        });
        if !open || height != self.chain.tip().height.next() {
            return;
        }
        if self.lacks_work() {
            self.pacing.held = Some(Held::Work);
            return;
        }
        if self.sealing.in_flight() >= SEALS_PENDING_MAX {
            self.pacing.held = Some(Held::Seals);
            return;
        }
        self.build_and_propose(height, Round(0));
    }

    /// A seal was finished: a proposal held back for it may go on.
    pub(crate) fn seal_backlog_changed(&mut self) {
        if self.pacing.held == Some(Held::Seals) && self.sealing.in_flight() < SEALS_PENDING_MAX {
            self.pacing.held = None;
            self.propose_block(self.chain.tip().height.next());
        }
    }

    fn build_and_propose(&mut self, height: Height, round: Round) {
        let selection = match self.config.builder {
            true => self.mempool.propose(&ChainNonces(&self.chain)),
            false => Selection::default(),
        };
        let clock_ms = if round < CLOCK_ROUNDS { self.now.wall_ms } else { 0 };
        let timestamp_ms = self.chain.next_timestamp_ms(clock_ms);
        let policy_hash = self.config.params.builder.hash();
        let built = self.chain.build_block(
            self.config.me,
            timestamp_ms,
            policy_hash,
            selection.items,
            &self.pending.choose(),
        );
        let block = match built {
            Ok(block) => Arc::new(block),
            Err(error) => {
                return self.out.halt(Halt::Impossible(format!("own block cannot be built: {error}")));
            }
        };
        let rejected = selection.rejected;
        self.out.notify(Notice::Proposed { height, round, block: block.clone(), rejected });
        self.drive(InstanceId::Block(height), Event::Input { round, value: Value::block(block) });
    }

    /// Transactions of a proposal being agreed are not replaced under it.
    pub(crate) fn proposal_accepted(&mut self, id: InstanceId, digest: &Digest) {
        self.pacing.accepted_ms = Some(self.now.elapsed_ms);
        let value = self.instances.get(&id).and_then(|instance| instance.value(digest));
        if let Some(block) = value.and_then(Value::as_block) {
            let hashes: Vec<TxHash> = block.tx_hashes().collect();
            self.mempool.set_in_flight(&hashes);
        }
    }

    pub(crate) fn block_decided(&mut self, value: Value, certificate: Certificate) {
        let Some(block) = value.as_block().cloned() else {
            return self
                .out
                .halt(Halt::Impossible("a block instance decided a value that is no block".into()));
        };
        if self.commit_block(block, certificate, true) {
            self.begin_height();
        }
    }

    /// Executes a decided block and moves the tip; false when that cannot be.
    fn commit_block(&mut self, block: Arc<CheckedBlock>, certificate: Certificate, live: bool) -> bool {
        let applied = match self.chain.apply(&block) {
            Ok(applied) => applied,
            Err(error) => {
                let height = block.header().height;
                self.out
                    .halt(Halt::Impossible(format!("decided block {height} cannot be executed: {error}")));
                return false;
            }
        };
        let height = block.header().height;
        let now_ms = self.now.elapsed_ms;
        let removals = self.mempool.on_decided(height, block.items(), &ChainNonces(&self.chain));
        self.catchup.progressed(now_ms);
        let latency_ms = self.pacing.accepted_ms.map(|accepted| now_ms.saturating_sub(accepted));
        self.pacing.last_proposal_ms = self.pacing.accepted_ms.take().or(Some(now_ms));
        self.out.store(StoreWrite::Commit {
            block: block.clone(),
            certificate: certificate.clone(),
            applied,
            live,
        });
        let decided =
            Notice::BlockDecided { block: block.clone(), certificate: certificate.clone(), latency_ms, live };
        self.out.notify(decided);
        self.out.notify(Notice::Removed(removals));
        self.open_seal(&certificate);
        self.forget_instances_below(height);
        self.evidence_committed(&block, height);
        true
    }

    /// Certified blocks from a peer: the chain moves without this operator's vote.
    pub(crate) fn on_fetched(&mut self, from: OperatorIndex, blocks: Vec<(Arc<CheckedBlock>, Certificate)>) {
        let before = self.chain.tip().height;
        self.catchup.answered(from, blocks, before, self.now.elapsed_ms);
        while let Some((from, block, certificate)) = self.catchup.take(self.chain.tip().height.next()) {
            let next = block.header().height;
            self.witness(&certificate.commits());
            self.out.cancel_timers(InstanceId::Block(next));
            self.instances.remove(&InstanceId::Block(next));
            if !self.commit_block(block.clone(), certificate.clone(), false) {
                return;
            }
            let commit = match &mut self.inquiry {
                Some(inquiry) => {
                    inquiry.owe_share(from, block, certificate.clone());
                    None
                }
                None => self.add_share(block, &certificate),
            };
            self.record(|recorder, now, out| recorder.fetched(from, certificate, commit, now, out));
        }
        if self.chain.tip().height > before {
            self.begin_height();
        }
        self.fetch_if_behind();
    }

    /// Gives the shares of blocks that were fetched while nothing could be signed.
    pub(crate) fn add_owed_shares(&mut self, owed: impl IntoIterator<Item = OwedShare>) {
        for OwedShare { from, block, certificate } in owed {
            let commit = self.add_share(block, &certificate);
            if commit.is_some() {
                self.record(|recorder, now, out| recorder.fetched(from, certificate, commit, now, out));
            }
        }
    }

    /// R9 for a fetched block: its certificate decides it. This operator's share may be the one the others
    /// still need for their seal, also when the giver had the seal and kept it to itself. Only for heights
    /// whose shares are still collected. The log takes the decision first, as for one made here.
    fn add_share(&mut self, block: Arc<CheckedBlock>, certificate: &Certificate) -> Option<Signed> {
        let asked_for = certificate.instance.number().saturating_add(INSTANCES_KEPT) > self.catchup.best().0;
        if !self.config.seals || !asked_for {
            return None;
        }
        let (instance, round) = (certificate.instance, certificate.round);
        let claim = Claim::Commit(CommitClaim { digest: certificate.digest, seal: None });
        let statement = Statement { instance, round, author: self.config.me, claim };
        let vote = self.signer.sign(statement)?;
        let value = Value::block(block).bytes().clone();
        self.out.record(Record::Value(ValueRecord { instance, value }));
        self.out.record(Record::Decided(certificate.clone()));
        self.out.record(Record::Commit(vote.clone()));
        self.out.broadcast(Message::Commit(vote.clone()));
        if let Some(ready) = self.sealing.add(&vote) {
            self.combine(instance, ready);
        }
        Some(vote)
    }

    /// Asks peers that are ahead for blocks.
    pub(crate) fn fetch_if_behind(&mut self) {
        let tip = self.chain.tip().height;
        while let Some((from, height)) = self.catchup.next(tip, self.now.elapsed_ms) {
            self.out.notify(Notice::BestPeerHeight(self.catchup.best()));
            self.out.send(Outbound::Fetch { from, height });
        }
    }
}
