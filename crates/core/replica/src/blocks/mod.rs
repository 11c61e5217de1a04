//! Heights of the chain: when to propose, what to accept, what a decision does; and what waits for a block.

mod early;
mod evidence;
mod offers;

pub(crate) use early::latest_early;

use crate::agreement::{Agreement, Ended, Proposal, Proposed, timeout_ms};
use crate::context::Context;
use crate::io::{Halt, Notice, Ticket, Timer};
use crate::output::{Outbound, StoreWrite, Tell};
use aequa_chain::{Chain, ChainError, FRESH_WITHIN_MS, Freshness, HeaderError};
use aequa_mempool::{Admission, Mempool, Nonces, Selection};
use aequa_qbft::{Justified, Note, Validity};
use aequa_signing::SEALS_PENDING_MAX;
use aequa_types::{
    Address, Certificate, CheckedBlock, CheckedEvidence, CheckedTransaction, ConsensusParams, Height,
    InstanceId, OperatorIndex, Round, Signed, TimestampMs, TxHash, TxKind, Value, Verified,
};
use early::Early;
use evidence::EvidencePool;
use offers::Offers;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rounds whose new blocks carry the proposer's clock: the first leader may be down, and the second one's block
/// still tells the time. Where both found no quorum, clocks may disagree, and later blocks carry the millisecond
/// after their parent, which nobody refuses.
const CLOCK_ROUNDS: Round = Round(2);

/// Rounds without a decision after which it is no longer a leader or two that are down: f and one more, within these.
const STALLED_ROUNDS: std::ops::RangeInclusive<u64> = 3..=6;

/// When the next block may be proposed, and why not yet.
#[derive(Debug, Clone, Default)]
struct Pacing {
    /// When the proposal of the last decided block was accepted here.
    last_proposal_ms: Option<u64>,
    /// When the proposal being agreed was accepted here.
    accepted_ms: Option<u64>,
    /// Empty blocks are off and there is nothing to agree on: no proposal, no round timer.
    idle: bool,
    /// When the height began, or its work came.
    begun_ms: u64,
    /// This operator leads round 0 and holds its proposal back.
    held: Option<Held>,
    /// Operators that have voted in the height while this node was idle.
    stirring: BTreeSet<OperatorIndex>,
    /// Their newest ROUND-CHANGEs meanwhile, with who handed them over.
    held_back: BTreeMap<OperatorIndex, (OperatorIndex, Verified)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Until there is a transaction or evidence.
    Work,
    /// Until fewer decisions wait for their seal.
    Seals,
}

/// The height being agreed, and what waits for its block.
#[derive(Debug)]
pub(crate) struct Blocks {
    pool: Mempool,
    offers: Offers,
    evidence: EvidencePool,
    early: Early,
    pacing: Pacing,
}

/// The chain's nonces as the pools ask for them.
struct ChainNonces<'a>(&'a Chain);

impl Nonces for ChainNonces<'_> {
    fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        self.0.state().nonce(sender, kind)
    }
}

/// The height being agreed.
fn current(cx: &Context) -> Height {
    cx.chain.tip().height.next()
}

impl Blocks {
    pub(crate) fn new(pool: Mempool) -> Self {
        Self {
            pool,
            offers: Offers::default(),
            evidence: EvidencePool::default(),
            early: Early::default(),
            pacing: Pacing::default(),
        }
    }

    /// The pools, for readers.
    pub(crate) fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Evidence that is not committed yet, in the order of offences.
    pub(crate) fn evidence(&self) -> impl Iterator<Item = &CheckedEvidence> {
        self.evidence.all()
    }

    /// How many pieces of it.
    pub(crate) fn evidence_len(&self) -> usize {
        self.evidence.len()
    }

    /// How many messages came early.
    pub(crate) fn early_len(&self) -> usize {
        self.early.len()
    }

    /// What this operator said in heights that have not begun here.
    pub(crate) fn early_statements_of(&self, operator: OperatorIndex) -> impl Iterator<Item = &Signed> {
        self.early.statements_of(operator)
    }

    /// Whether there is something to agree on, and several rounds have brought no decision.
    pub(crate) fn has_stalled(&self, cx: &Context) -> bool {
        let params = &cx.config.params;
        let down = cx.config.quorum.faulty_max() as u64;
        let rounds = (down + 1).clamp(*STALLED_ROUNDS.start(), *STALLED_ROUNDS.end());
        let rounds_ms: u64 = (0..rounds).map(|round| timeout_ms(params, Round(round))).sum();
        let waited_ms = cx.now.elapsed_ms.saturating_sub(self.pacing.begun_ms);
        !self.pacing.idle && waited_ms > rounds_ms + params.block_interval_ms
    }

    /// A height begins; `restored` when the vote log knows of it.
    pub(crate) fn begin(&mut self, cx: &Context, restored: bool) {
        self.pacing.held = None;
        self.pacing.accepted_ms = None;
        self.pacing.stirring.clear();
        self.pacing.held_back.clear();
        self.pacing.begun_ms = cx.now.elapsed_ms;
        self.pacing.idle = !restored && !cx.config.params.empty_blocks && !self.has_work(cx);
    }

    /// Keeps a member's message of a height that has not begun.
    pub(crate) fn keep_early(
        &mut self,
        cx: &Context,
        height: Height,
        from: OperatorIndex,
        message: Verified,
    ) {
        self.early.keep(current(cx), height, from, message);
    }

    /// Hands out what came early for this height.
    pub(crate) fn take_early(&mut self, height: Height) -> Vec<(OperatorIndex, Verified)> {
        self.early.take(height)
    }

    /// A message of the height being idled in: its leader's proposal begins it, and so do votes of f+1
    /// operators. One operator alone cannot make the cluster busy, so that a ROUND-CHANGE is held back until then.
    /// Gives the message that is to be handed on.
    pub(crate) fn stir(
        &mut self,
        cx: &mut Context,
        from: OperatorIndex,
        message: Verified,
    ) -> Option<Verified> {
        if self.pacing.idle {
            self.wake_if_stirred(cx, &message);
        }
        match &message {
            Verified::RoundChange(change) if self.pacing.idle => {
                self.pacing.held_back.insert(change.change.author, (from, message));
                None
            }
            Verified::PrePrepare { .. }
            | Verified::Prepare(_)
            | Verified::Commit(_)
            | Verified::RoundChange(_)
            | Verified::Decided(_)
            | Verified::ValueRequest(_)
            | Verified::ValueReply { .. } => Some(message),
        }
    }

    /// What was held back while nothing was to be agreed on, one ROUND-CHANGE of each operator.
    pub(crate) fn take_held_back(&mut self) -> Vec<(OperatorIndex, Verified)> {
        match self.pacing.idle {
            true => Vec::new(),
            false => std::mem::take(&mut self.pacing.held_back).into_values().collect(),
        }
    }

    fn wake_if_stirred(&mut self, cx: &mut Context, message: &Verified) {
        let quorum = cx.config.quorum;
        let mut stirred_by = |operator| {
            self.pacing.stirring.insert(operator);
            self.pacing.stirring.len() >= quorum.weak_quorum()
        };
        let begins = match message {
            Verified::PrePrepare { proposal, .. } => {
                proposal.author == cx.elector.leader(proposal.instance, proposal.round)
            }
            Verified::Prepare(vote) | Verified::Commit(vote) => stirred_by(vote.author),
            Verified::RoundChange(message) => stirred_by(message.change.author),
            Verified::Decided(_) => true,
            Verified::ValueRequest(_) | Verified::ValueReply { .. } => false,
        };
        if begins {
            self.wake(cx);
        }
    }

    /// There is something to agree on after all.
    fn wake(&mut self, cx: &mut Context) {
        if self.pacing.idle {
            self.pacing.idle = false;
            self.pacing.begun_ms = cx.now.elapsed_ms;
            let instance = InstanceId::Block(current(cx));
            let timeout_ms = self.timeout_ms(&cx.config.params, Round(0));
            cx.set_timer(Timer::Round { instance, round: Round(0) }, timeout_ms);
        }
        if self.pacing.held == Some(Held::Work) && self.has_work(cx) {
            self.pacing.held = None;
            self.wait_for_interval(cx, current(cx));
        }
    }

    fn has_work(&self, cx: &Context) -> bool {
        !self.evidence.is_empty() || (cx.config.builder && self.pool.has_pending())
    }

    fn lacks_work(&self, cx: &Context) -> bool {
        !cx.config.params.empty_blocks && !self.has_work(cx)
    }

    /// Admits transactions; clients get their answer, peers get the transaction.
    pub(crate) fn admit(
        &mut self,
        cx: &mut Context,
        transactions: Vec<(CheckedTransaction, Option<Ticket>)>,
    ) {
        let height = cx.chain.tip().height;
        for (transaction, ticket) in transactions {
            let hash: TxHash = transaction.hash();
            let admission = self.pool.admit(transaction.clone(), height, &ChainNonces(&cx.chain));
            if admission.is_held() && cx.config.quorum.operators() > 1 {
                self.offers.add(hash, ticket.is_some(), cx.now.elapsed_ms);
            }
            if let Some(ticket) = ticket {
                cx.out.tell(Tell::Admission(ticket, hash, admission));
                if admission.is_held() {
                    cx.out.send(Outbound::Spread(transaction));
                }
            }
            if admission == Admission::Ok {
                self.wake(cx);
            }
        }
    }

    /// An operator that may have missed everything is connected.
    pub(crate) fn connected(&mut self, cx: &Context) {
        self.offers.connected(cx.now.elapsed_ms);
    }

    /// Offers transactions that have waited too long; no block was decided for so long.
    pub(crate) fn offer_again(&mut self, cx: &mut Context, stalled_ms: u64) {
        let offer = self.offers.due(&self.pool, stalled_ms, cx.now.elapsed_ms);
        if !offer.is_empty() {
            cx.out.send(Outbound::Offer(offer));
        }
    }

    /// Evidence noticed here or gossiped by a member: what is new is spread, told, and proposed.
    pub(crate) fn take_evidence(&mut self, cx: &mut Context, evidence: CheckedEvidence) {
        if self.evidence.admit(&cx.chain, evidence.clone()) {
            cx.out.send(Outbound::GossipEvidence(evidence.clone()));
            cx.out.notify(Notice::Evidence(evidence));
            self.wake(cx);
        }
    }

    /// What an earlier life stored, in case the gossip of it was lost with that life.
    pub(crate) fn restore_evidence(&mut self, cx: &Context, stored: Vec<CheckedEvidence>) {
        self.evidence.restore(&cx.chain, stored);
    }

    /// Spreads everything pending again.
    pub(crate) fn gossip_evidence(&self, cx: &mut Context) {
        for evidence in self.evidence.all().cloned() {
            cx.out.send(Outbound::GossipEvidence(evidence));
        }
    }

    /// Gives the host the evidence that is pending when that has changed, once per step.
    pub(crate) fn keep_evidence(&mut self, cx: &mut Context) {
        self.evidence.keep(&mut cx.out);
    }

    /// The leader of round 0 proposes when the block interval is over.
    fn wait_for_interval(&mut self, cx: &mut Context, height: Height) {
        if self.lacks_work(cx) {
            self.pacing.held = Some(Held::Work);
            return;
        }
        let interval_ms = cx.config.params.block_interval_ms;
        let due_ms = self.pacing.last_proposal_ms.map_or(0, |last| last.saturating_add(interval_ms));
        cx.set_timer(Timer::Propose(height), due_ms.saturating_sub(cx.now.elapsed_ms));
    }

    /// The block interval is over, and nothing was proposed in round 0. Later, while there is a reason to hold back.
    pub(crate) fn interval_over(&mut self, cx: &mut Context, seals_pending: usize) -> Proposal {
        if self.lacks_work(cx) {
            self.pacing.held = Some(Held::Work);
            return Proposal::Later;
        }
        if seals_pending >= SEALS_PENDING_MAX {
            self.pacing.held = Some(Held::Seals);
            return Proposal::Later;
        }
        self.build(cx, Round(0))
    }

    /// Whether a proposal that was held back for seals may go on.
    pub(crate) fn seals_caught_up(&mut self, seals_pending: usize) -> bool {
        let goes_on = self.pacing.held == Some(Held::Seals) && seals_pending < SEALS_PENDING_MAX;
        if goes_on {
            self.pacing.held = None;
        }
        goes_on
    }

    fn build(&self, cx: &mut Context, round: Round) -> Proposal {
        if !cx.may_lead && round < CLOCK_ROUNDS {
            return Proposal::Pass;
        }
        let selection = match cx.config.builder {
            true => self.pool.propose(&ChainNonces(&cx.chain)),
            false => Selection::default(),
        };
        let clock_ms = if round < CLOCK_ROUNDS { cx.now.wall_ms } else { 0 };
        let built = cx.chain.build_block(
            cx.config.me,
            cx.chain.next_timestamp_ms(clock_ms),
            cx.config.params.builder.hash(),
            selection.items,
            &self.evidence.choose(),
        );
        let block = match built {
            Ok(block) => Arc::new(block),
            Err(error) => {
                cx.out.halt(Halt::Impossible(format!("own block cannot be built: {error}")));
                return Proposal::Later;
            }
        };
        let rejected = selection.rejected;
        cx.out.notify(Notice::Proposed { height: current(cx), round, block: block.clone(), rejected });
        Proposal::Value(Value::block(block))
    }

    /// Executes a decided block and moves the tip; false when that cannot be.
    pub(crate) fn execute(
        &mut self,
        cx: &mut Context,
        block: Arc<CheckedBlock>,
        certificate: &Certificate,
        live: bool,
    ) -> bool {
        let height = block.header().height;
        let applied = match cx.chain.apply(&block) {
            Ok(applied) => applied,
            Err(error) => {
                let reason = format!("decided block {height} cannot be executed: {error}");
                let is_ours = matches!(
                    error,
                    ChainError::Damaged { .. } | ChainError::Header(HeaderError::StateRoot { .. })
                );
                let root = block.header().state_root;
                let backers = certificate.commits().iter().map(|commit| commit.author).collect();
                let before = height.previous().unwrap_or_default();
                cx.out.halt(match is_ours {
                    true => Halt::Diverged { height: before, root, reason, backers },
                    false => Halt::Impossible(reason),
                });
                return false;
            }
        };
        let now_ms = cx.now.elapsed_ms;
        let removals = self.pool.on_decided(height, block.items(), &ChainNonces(&cx.chain));
        let latency_ms = self.pacing.accepted_ms.map(|accepted| now_ms.saturating_sub(accepted));
        self.pacing.last_proposal_ms = self.pacing.accepted_ms.take().or(Some(now_ms));
        let certificate = certificate.clone();
        cx.out.store(StoreWrite::Commit {
            block: block.clone(),
            certificate: certificate.clone(),
            applied,
            live,
        });
        if !self.evidence.is_empty() || !block.evidence().is_empty() {
            self.evidence.sift(&cx.chain);
        }
        cx.out.notify(Notice::BlockDecided { block, certificate, latency_ms, live });
        cx.out.notify(Notice::Removed(removals));
        true
    }
}

impl Agreement for Blocks {
    fn propose(&mut self, cx: &mut Context, id: InstanceId, round: Round) -> Proposal {
        if round > Round(0) {
            return self.build(cx, round);
        }
        if let Some(height) = id.height() {
            self.wait_for_interval(cx, height);
        }
        Proposal::Later
    }

    fn validate(&self, cx: &Context, _id: InstanceId, proposed: &Proposed<'_>) -> Validity {
        let Some(block) = proposed.value.as_block() else {
            return Validity::Invalid("a value of another kind".into());
        };
        let fresh = match proposed.justified {
            Justified::Prepared => Ok(()),
            Justified::Fresh => check_fresh(cx, proposed.round, block, proposed.proposer),
        };
        fresh.map_or_else(Validity::Invalid, |()| Validity::Valid)
    }

    /// In round 0 the leader waits for the block interval first.
    fn timeout_ms(&self, params: &ConsensusParams, round: Round) -> u64 {
        let pause_ms = if round == Round(0) { params.block_interval_ms } else { 0 };
        timeout_ms(params, round).saturating_add(pause_ms)
    }

    fn is_idle(&self) -> bool {
        self.pacing.idle
    }

    /// Transactions of a proposal being agreed are not replaced under it.
    fn noted(&mut self, cx: &Context, _id: InstanceId, note: &Note, accepted: Option<&Value>) {
        if !matches!(note, Note::ProposalAccepted(..)) {
            return;
        }
        self.pacing.accepted_ms = Some(cx.now.elapsed_ms);
        if let Some(block) = accepted.and_then(Value::as_block) {
            let hashes: Vec<TxHash> = block.tx_hashes().collect();
            self.pool.set_in_flight(&hashes);
        }
    }

    fn decided(
        &mut self,
        cx: &mut Context,
        _id: InstanceId,
        value: Value,
        certificate: &Certificate,
    ) -> Option<Ended> {
        let Some(block) = value.as_block().cloned() else {
            cx.out.halt(Halt::Impossible("a block instance decided a value that is no block".into()));
            return None;
        };
        let height = block.header().height;
        self.execute(cx, block, certificate, true).then_some(Ended::Block(height))
    }
}

/// ProcessProposal: why a fresh block may not be prepared in `round`.
///
/// With empty blocks off, round 0 is for work only. A height that was begun must still end when its work
/// has gone, so later rounds may be empty.
fn check_fresh(
    cx: &Context,
    round: Round,
    block: &CheckedBlock,
    proposer: OperatorIndex,
) -> Result<(), String> {
    let (chain, params) = (&cx.chain, &cx.config.params);
    let policy = &params.builder;
    let is_empty = block.items().is_empty() && block.evidence().is_empty();
    if !params.empty_blocks && round == Round(0) && is_empty {
        return Err("an empty block in round 0".into());
    }
    let now_ms: TimestampMs = cx.now.wall_ms;
    let fresh = Freshness { now_ms, behind_ms: fresh_within_ms(params, round) };
    chain.check_header(block, proposer, policy.hash(), Some(fresh)).map_err(|error| error.to_string())?;
    aequa_mempool::check_items(policy, &ChainNonces(chain), block.items()).map_err(|error| error.to_string())
}

/// How far behind the local clock a block first proposed in `round` may be: where messages take longer than
/// the least, no round would ever be fresh enough, however long rounds grow.
fn fresh_within_ms(params: &ConsensusParams, round: Round) -> u64 {
    timeout_ms(params, round).max(FRESH_WITHIN_MS)
}
