//! Routing: which component takes which input, and what its events mean to the others.
//!
//! | input | taken by | and then |
//! |---|---|---|
//! | message about a block | `Witness`, then `Blocks` (early), `BlockSync` (too high), or `Roots` and its instance | the share of a COMMIT goes to the session |
//! | message about a duty | `Witness`, then its instance or `Duties` | late shares go to the session, questions to the store |
//! | statement, evidence | `Witness`, `Blocks` | what is new is gossiped, and is work for a block |
//! | transactions | `Blocks` | work may end an idle height |
//! | duty of a client | `Duties` | the first begins an instance |
//! | timer | its instance, `Blocks` (propose), or all that is done now and then | |
//! | seal combined | `Sessions` | the certificate is stored; a held proposal may go on |
//! | fetched blocks, heights of peers | `BlockSync`, `Blocks` | the next height begins; our share is added |
//! | end of the epoch, superseded | the guard | no height above it begins |
//! | connected | `Instances`, `Blocks` | newest messages and evidence are sent again |
//! | testimony | the guard | one of ours that it does not know stops the node |
//!
//! | decided | then |
//! |---|---|
//! | a block | executed, stored; its session opens; what lies 32 heights below is forgotten, and the guard's watermark rises; the next height begins |
//! | a duty | stored with its watermark; its leader announces it; its session opens; ended ones are forgotten and closed in the guard |
//!
//! While it rejoins, [`Replica::step`] gives inputs to `rejoin` instead.
//!
//! | module | one idea |
//! |---|---|
//! | `recovery` | what a restart gives back to each component |
//! | `turn` | one instance takes an event; its effects are carried on |
//! | `heights` | blocks: beginning a height, members' messages, fetched blocks |
//! | `duty` | duties: posts, members' messages, giving up |
//! | `seals` | the group seal of what was decided |
//! | `rejoin` | what happens before it takes part, and with what members say later |

mod duty;
mod heights;
mod recovery;
mod rejoin;
mod seals;
mod turn;

use crate::blocks::Blocks;
use crate::context::Context;
use crate::duties::{Duties, DutyState};
use crate::instances::Instances;
use crate::io::{Config, Input, Now, Recovery, Timer};
use crate::output::{Outbound, Output};
use crate::rejoin::Rejoin;
use crate::roots::Roots;
use crate::sync::{BlockSync, CATCH_UP_INTERVAL_MS};
use crate::witness::{Witness, statements_of};
use aequa_chain::Chain;
use aequa_mempool::Mempool;
use aequa_signing::{Guard, Keys, Sessions, Signer, elector};
use aequa_types::{
    CheckedEvidence, Decision, DutyId, Height, InstanceId, OperatorIndex, Round, Signed, Subject, Verified,
};

/// What a replica keeps in memory beside chain and pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Block instances: the one being agreed, and decided ones for stragglers.
    pub block_instances: usize,
    /// Duty instances, open and recent.
    pub duty_instances: usize,
    /// Messages of heights and duties that have not begun here.
    pub early_messages: usize,
    /// Statements that later ones are compared with.
    pub statements: usize,
    /// Evidence that is not committed yet.
    pub evidence: usize,
    /// Signing sessions, those that wait for a place included.
    pub sessions: usize,
}

/// One operator's state machine. See the crate documentation.
pub struct Replica<K> {
    cx: Context,
    signer: Signer<K>,
    instances: Instances,
    blocks: Blocks,
    duties: Duties,
    sync: BlockSync,
    seals: Sessions<Decision>,
    witness: Witness,
    roots: Roots,
    /// Until enough members have said what they saw this operator sign. Consensus does not ask for it: steps and the start do, and readers.
    rejoin: Option<Rejoin>,
}

impl<K: Keys> Replica<K> {
    /// A replica that continues from `chain`, bound by everything `recovery` remembers.
    pub fn new(config: Config, keys: K, chain: Chain, mempool: Mempool, recovery: Recovery) -> Self {
        let (me, quorum) = (config.me, config.quorum);
        let mut guard = Guard::new(recovery.history);
        config.last_height.into_iter().for_each(|last| guard.end_after(last));
        let mut replica = Self {
            signer: Signer::new(keys, config.seals, guard),
            instances: Instances::new(me, quorum),
            blocks: Blocks::new(mempool),
            duties: Duties::new(me, quorum),
            sync: BlockSync::new(quorum),
            seals: Sessions::new(quorum, config.sessions_max),
            witness: Witness::default(),
            roots: Roots::new(quorum),
            rejoin: Rejoin::begin(recovery.history, quorum),
            cx: Context {
                elector: elector(config.params.leader, quorum),
                may_lead: true,
                config,
                chain,
                now: Now { elapsed_ms: 0, wall_ms: 0 },
                out: Output::default(),
            },
        };
        // What operators of earlier epochs have decided is fetched, and their seals are theirs.
        replica.sync.certified(replica.cx.config.first_height);
        replica.recover(recovery);
        replica
    }

    /// The same, which halts when so many other members have signed one root other than its own: f+1, and never less
    /// than two, where nobody says how many.
    pub fn diverging_at(mut self, members: usize) -> Self {
        self.roots.set_threshold(members);
        self
    }

    /// The first step: finishes what was decided before the restart, and begins the next height.
    pub fn start(&mut self, now: Now) -> Output {
        self.cx.now = now;
        self.sync.progressed(now.elapsed_ms);
        match self.rejoin.take() {
            Some(mut rejoin) => {
                self.finish_decided();
                rejoin.ask(&mut self.cx);
                self.rejoin = Some(rejoin);
            }
            None => self.begin(),
        }
        self.cx.set_timer(Timer::CatchUp, CATCH_UP_INTERVAL_MS);
        self.blocks.gossip_evidence(&mut self.cx);
        self.take_output()
    }

    /// Takes one input; returns what is to be done.
    pub fn step(&mut self, now: Now, input: Input) -> Output {
        self.cx.now = now;
        match self.rejoin.take() {
            Some(rejoin) => self.rejoin = self.take_rejoining(rejoin, input),
            None => self.take(input),
        }
        self.take_output()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Message { from, message } => self.deliver(from, message),
            Input::Statement(signed) => self.watch([&signed]),
            Input::Evidence(evidence) => self.take_evidence(evidence),
            Input::Transactions(transactions) => self.blocks.admit(&mut self.cx, transactions),
            Input::Duty { duty, value, ticket } => self.post_duty(duty, value, ticket),
            Input::Timer(timer) => self.on_timer(timer),
            Input::Combined { decision, result } => self.on_combined(decision, result),
            Input::Fetched { from, blocks } => self.on_fetched(from, blocks),
            Input::FetchFailed { from } => {
                self.sync.failed(from, self.cx.now.elapsed_ms);
                self.fetch_if_behind();
            }
            Input::PeerHeight { from, height } => {
                self.sync.shown(from, height);
                self.fetch_if_behind();
            }
            Input::MayLead(may_lead) => self.cx.may_lead = may_lead,
            Input::EndEpoch(last) => self.end_epoch_after(last),
            Input::Superseded => self.end_superseded(),
            Input::PeerConnected(operator) => self.on_connected(operator),
            Input::Testimony { testimony, .. } => self.compare(&testimony),
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Round { instance, round } => self.drive(instance, aequa_qbft::Event::Timeout(round)),
            Timer::Resend(id) => self.resend(id),
            Timer::Propose(height) => self.propose_block(height),
            Timer::CatchUp => {
                self.expire_duties();
                let stalled_ms = self.sync.idle_ms(self.cx.now.elapsed_ms);
                self.blocks.offer_again(&mut self.cx, stalled_ms);
                // Who leads may have missed what is known here, and this operator does not lead.
                if !self.cx.may_lead {
                    self.blocks.gossip_evidence(&mut self.cx);
                }
                self.fetch_if_behind();
                self.cx.set_timer(Timer::CatchUp, CATCH_UP_INTERVAL_MS);
            }
        }
    }

    fn on_connected(&mut self, operator: OperatorIndex) {
        for message in self.instances.newest_for(operator) {
            self.cx.out.send(Outbound::Send(operator, message));
        }
        self.blocks.connected(&self.cx);
        self.blocks.gossip_evidence(&mut self.cx);
        self.cx.out.send(Outbound::Inquire(operator));
    }

    fn deliver(&mut self, from: OperatorIndex, message: Verified) {
        if message.statement().is_some_and(|signed| self.stop_if_unknown(signed)) {
            return;
        }
        match message.instance() {
            InstanceId::Block(height) => self.deliver_block(height, from, message),
            InstanceId::Duty(duty) => self.deliver_duty(duty, from, message),
        }
    }

    /// Compares every statement of a message with what its author said before.
    fn watch_message(&mut self, message: &Verified) {
        self.watch(statements_of(message));
        if let Verified::Decided(certificate) = message {
            // Its height is decided by this: whatever we said there, nothing is at stake any more.
            certificate.commits().iter().for_each(|commit| self.see(commit));
        }
    }

    /// Compares verified statements, and stops the node at one of its own that it does not know.
    fn watch<'a>(&mut self, statements: impl IntoIterator<Item = &'a Signed>) {
        for signed in statements {
            if !self.stop_if_foreign(signed) {
                self.see(signed);
            }
        }
    }

    fn see(&mut self, signed: &Signed) {
        let round = self.instances.round(signed.instance);
        if let Some(evidence) = self.witness.see(&mut self.cx, signed, round) {
            self.take_evidence(evidence);
        }
    }

    /// Evidence noticed here or gossiped by a member.
    fn take_evidence(&mut self, evidence: CheckedEvidence) {
        // One of two contradicting statements of ours is not from here.
        if [evidence.first(), evidence.second()].into_iter().any(|signed| self.stop_if_foreign(signed)) {
            return;
        }
        self.blocks.take_evidence(&mut self.cx, evidence);
    }

    fn take_output(&mut self) -> Output {
        self.blocks.keep_evidence(&mut self.cx);
        self.carry_on_sessions();
        self.cx.out.vote(self.signer.guard_mut().take_fresh());
        std::mem::take(&mut self.cx.out)
    }

    /// At and below these, each in its domain, this operator signs nothing any more.
    pub fn signing_watermarks(&self) -> impl Iterator<Item = InstanceId> {
        self.signer.guard().watermarks()
    }

    /// The chain, for readers.
    pub fn chain(&self) -> &Chain {
        &self.cx.chain
    }

    /// The pools, for readers.
    pub fn mempool(&self) -> &Mempool {
        self.blocks.pool()
    }

    /// Evidence that is not committed yet, in the order of offences.
    pub fn pending_evidence(&self) -> impl Iterator<Item = &CheckedEvidence> {
        self.blocks.evidence()
    }

    /// The round of the height being agreed, and its leader.
    pub fn round_and_leader(&self) -> (Round, OperatorIndex) {
        let id = InstanceId::Block(self.height());
        let round = self.instances.round(id).unwrap_or_default();
        (round, self.cx.elector.leader(id, round))
    }

    /// Whether there is something to agree on, and several rounds have brought no decision.
    pub fn has_stalled(&self) -> bool {
        !self.is_rejoining() && self.blocks.has_stalled(&self.cx)
    }

    /// The height up to which this operator signs no block, where that is at or above the one being agreed on.
    pub fn abstains_up_to(&self) -> Option<Height> {
        self.signing_watermarks().find_map(InstanceId::height).filter(|watermark| *watermark >= self.height())
    }

    /// The highest decided height any peer has shown.
    pub fn best_peer_height(&self) -> Height {
        self.sync.best()
    }

    /// What is known of a duty in this life.
    pub fn duty(&self, duty: DutyId) -> Option<&DutyState> {
        self.duties.state(duty)
    }

    /// Duties known in this life, open and recent, in no particular order.
    pub fn duties(&self) -> impl Iterator<Item = (DutyId, &DutyState)> {
        self.duties.all()
    }

    /// Whether the vote log must keep these records when blocks up to `stored` are durable.
    pub fn needs(&self, Subject { instance, heard }: Subject, stored: Height) -> bool {
        match instance {
            // What was heard in the last height is still to be told to an operator that comes back older.
            InstanceId::Block(height) => height >= stored,
            // Closed duties are durable in the store before their instance is forgotten.
            InstanceId::Duty(duty) => self.duties.is_open(duty) || (heard && self.witness.heard_of(duty)),
        }
    }

    /// Signing sessions that are open: those that wait for a place are not.
    pub fn open_sessions(&self) -> usize {
        self.seals.open()
    }

    /// How much is kept in memory; all of it is bounded.
    pub fn held(&self) -> Held {
        let duty_instances = self.instances.duties().count();
        Held {
            block_instances: self.instances.len() - duty_instances,
            duty_instances,
            early_messages: self.blocks.early_len() + self.duties.early_len(),
            statements: self.witness.len(),
            evidence: self.blocks.evidence_len(),
            sessions: self.seals.len(),
        }
    }

    /// The last height of these operators, once that is known.
    pub fn last_height(&self) -> Option<Height> {
        self.signer.guard().last_height()
    }

    /// Whether the last height of these operators is decided and executed: the next ones decide what follows.
    pub fn has_epoch_ended(&self) -> bool {
        self.last_height().is_some_and(|last| self.cx.chain.tip().height >= last)
    }

    /// Decisions whose seals have all their shares and are not made yet.
    pub fn seals_pending(&self) -> usize {
        self.seals.pending()
    }

    /// The height being agreed.
    fn height(&self) -> Height {
        self.cx.chain.tip().height.next()
    }
}
