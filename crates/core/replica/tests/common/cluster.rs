//! Whole clusters on a clock that the test moves. Links are perfect unless an operator is cut off; for
//! faults of every other kind there is the simulator.

use super::{
    EPOCH_MS, Effect, Operator, Outbound, StoreWrite, Tell, TimerChange, Work, config, replica_of,
    replica_on, wrong_genesis,
};
use aequa_qbft::Note;
use aequa_replica::{Halt, Input, Notice, Now, Recovery, SigningHistory, Timer};
use aequa_testkit::believed;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{
    Certificate, CheckedBlock, CheckedTransaction, ConsensusParams, Digest, Height, InstanceId, Message,
    OperatorIndex, Record, Round, Seal, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a message takes.
const LATENCY_MS: u64 = 5;

/// One operator with its host: timers, store, and a list of what it was told.
pub struct Node {
    pub replica: Operator,
    /// What it stored, in order.
    pub committed: Vec<(Arc<CheckedBlock>, Certificate)>,
    pub sealed: BTreeSet<InstanceId>,
    pub notices: Vec<Notice>,
    /// What it wrote to its vote log.
    pub records: Vec<Record>,
    /// Why it stopped: one whose state was made wrong may.
    pub halt: Option<Halt>,
    may_halt: bool,
    /// Round timers it started.
    pub timers_started: Vec<(InstanceId, Round)>,
    /// How far its wall clock is ahead.
    pub clock_ahead_ms: i64,
    timers: BTreeMap<(Option<InstanceId>, u8), (u64, Timer)>,
    born_ms: u64,
}

impl Node {
    pub fn height(&self) -> u64 {
        self.replica.chain().tip().height.0
    }

    /// Notes of its instances that `wanted` picks.
    pub fn notes(&self, wanted: impl Fn(&Note) -> bool) -> usize {
        self.notices
            .iter()
            .filter(|notice| matches!(notice, Notice::Consensus(_, note) if wanted(note)))
            .count()
    }

    /// Rounds that ended without a decision, and rounds entered after them.
    pub fn faults(&self) -> usize {
        self.notes(|note| matches!(note, Note::TimedOut(..) | Note::RoundEntered(_)))
    }

    fn clock(&self, now_ms: u64) -> Now {
        let wall_ms = (EPOCH_MS + now_ms).saturating_add_signed(self.clock_ahead_ms);
        Now { elapsed_ms: now_ms - self.born_ms, wall_ms }
    }
}

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub now_ms: u64,
    /// Operators nobody hears and who hear nobody.
    pub cut: BTreeSet<usize>,
    /// Operators whose seal shares are bad.
    pub spoilers: BTreeSet<OperatorIndex>,
    /// How long a sealing takes.
    pub sealing_ms: u64,
    /// Whether members show no statements of others, as when they have restarted.
    pub forgetful: bool,
    params: ConsensusParams,
    sessions_max: usize,
    queue: BTreeMap<(u64, u64), (usize, Input)>,
    sequence: u64,
    /// Values by digest, as every node would decode them.
    values: BTreeMap<Digest, Value>,
}

impl Cluster {
    pub fn new(operators: usize, params: ConsensusParams) -> Self {
        Self::limited(operators, params, 0)
    }

    /// One whose operators have this many signing sessions open at a time.
    pub fn limited(operators: usize, params: ConsensusParams, sessions_max: usize) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            now_ms: 0,
            cut: BTreeSet::new(),
            spoilers: BTreeSet::new(),
            sealing_ms: LATENCY_MS,
            forgetful: false,
            params,
            sessions_max,
            queue: BTreeMap::new(),
            sequence: 0,
            values: BTreeMap::new(),
        };
        for me in 0..operators {
            let node = cluster.fresh(me, operators, SigningHistory::Trusted);
            cluster.nodes.push(node);
        }
        (0..operators).for_each(|id| cluster.start(id));
        cluster
    }

    fn fresh(&self, me: usize, operators: usize, history: SigningHistory) -> Node {
        let recovery = Recovery { history, ..Recovery::default() };
        self.node(replica_of(self.config(me, operators), recovery))
    }

    fn config(&self, me: usize, operators: usize) -> aequa_replica::Config {
        aequa_replica::Config {
            params: self.params.clone(),
            builder: true,
            sessions_max: self.sessions_max,
            ..config(me as u8, operators)
        }
    }

    fn node(&self, replica: Operator) -> Node {
        Node {
            replica,
            committed: Vec::new(),
            sealed: BTreeSet::new(),
            notices: Vec::new(),
            records: Vec::new(),
            halt: None,
            may_halt: false,
            timers_started: Vec::new(),
            clock_ahead_ms: 0,
            timers: BTreeMap::new(),
            born_ms: self.now_ms,
        }
    }

    fn start(&mut self, id: usize) {
        let now = self.nodes[id].clock(self.now_ms);
        let effects = self.nodes[id].replica.start(now);
        self.carry_out(id, effects);
    }

    /// Loses everything this operator had, and starts it again in an empty directory, as the node does
    /// ([`SigningHistory::Unverified`]), or in one that says that it had something ([`SigningHistory::Lost`]).
    pub fn restart_with_nothing(&mut self, id: usize, history: SigningHistory) {
        let node = self.fresh(id, self.nodes.len(), history);
        self.restart(id, node);
    }

    /// Starts an operator, which has not begun yet, with a state that nobody else has.
    pub fn start_with_wrong_state(&mut self, id: usize) {
        let config = self.config(id, self.nodes.len());
        let replica = replica_on(wrong_genesis(config.quorum), config, Recovery::default());
        let node = Node { may_halt: true, ..self.node(replica) };
        self.restart(id, node);
    }

    /// Starts an operator again that has lost its chain and nothing else, as after a fence.
    pub fn restart_without_chain(&mut self, id: usize) {
        let records = std::mem::take(&mut self.nodes[id].records);
        let value = |bytes| self.values.values().find(|value| value.bytes() == bytes).cloned();
        let values = records.iter().filter_map(|record| match record {
            Record::Value(record) => Some((record.instance, value(&record.value)?)),
            _ => None,
        });
        let values = values.collect();
        let history = SigningHistory::Unverified;
        let recovery = Recovery { records, values, history, ..Recovery::default() };
        let node = self.node(replica_of(self.config(id, self.nodes.len()), recovery));
        self.restart(id, node);
    }

    fn restart(&mut self, id: usize, node: Node) {
        self.queue.retain(|_, (to, _)| *to != id);
        self.nodes[id] = node;
        self.start(id);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != id) {
            self.input(id, Input::PeerConnected(OperatorIndex(peer as u8)));
            self.input(peer, Input::PeerConnected(OperatorIndex(id as u8)));
        }
    }

    pub fn submit(&mut self, transaction: CheckedTransaction) {
        for id in 0..self.nodes.len() {
            self.input(id, Input::Transactions(vec![(transaction.clone(), None)]));
        }
    }

    /// Transactions reach everybody who is connected.
    fn spread(&mut self, from: usize, transactions: &[CheckedTransaction]) {
        let reached = |to: &usize| *to != from && !self.cut.contains(&from) && !self.cut.contains(to);
        for to in (0..self.nodes.len()).filter(reached).collect::<Vec<_>>() {
            let peers = transactions.iter().map(|transaction| (transaction.clone(), None)).collect();
            self.input(to, Input::Transactions(peers));
        }
    }

    /// An operator that was cut off is reached again, and both ends notice.
    pub fn rejoin(&mut self, id: usize) {
        self.cut.remove(&id);
        for peer in
            (0..self.nodes.len()).filter(|peer| *peer != id && !self.cut.contains(peer)).collect::<Vec<_>>()
        {
            self.input(id, Input::PeerConnected(OperatorIndex(peer as u8)));
            self.input(peer, Input::PeerConnected(OperatorIndex(id as u8)));
        }
    }

    pub fn run_for(&mut self, span_ms: u64) {
        let end_ms = self.now_ms + span_ms;
        self.run_until(|cluster| cluster.now_ms > end_ms, end_ms);
        self.now_ms = end_ms;
    }

    /// Runs until the condition holds; false when it does not by `deadline_ms`.
    pub fn run_until(&mut self, mut condition: impl FnMut(&Self) -> bool, deadline_ms: u64) -> bool {
        while !condition(self) {
            let message = self.queue.first_key_value().map(|((at_ms, _), _)| (*at_ms, None));
            let timers = self.nodes.iter().enumerate().flat_map(|(id, node)| {
                node.timers.iter().map(move |(slot, (at_ms, _))| (*at_ms + node.born_ms, Some((id, *slot))))
            });
            let Some((at_ms, what)) = message.into_iter().chain(timers).min_by_key(|(at_ms, _)| *at_ms)
            else {
                return false;
            };
            if at_ms > deadline_ms {
                return false;
            }
            self.now_ms = self.now_ms.max(at_ms);
            match what {
                None => {
                    if let Some((_, (to, input))) = self.queue.pop_first() {
                        self.step(to, input);
                    }
                }
                Some((id, slot)) => {
                    if let Some((_, timer)) = self.nodes[id].timers.remove(&slot) {
                        self.step(id, Input::Timer(timer));
                    }
                }
            }
        }
        true
    }

    fn step(&mut self, id: usize, input: Input) {
        if self.nodes[id].halt.is_some() {
            return;
        }
        let now = self.nodes[id].clock(self.now_ms);
        let effects = self.nodes[id].replica.step(now, input);
        self.carry_out(id, effects);
    }

    pub fn input(&mut self, to: usize, input: Input) {
        self.input_after(LATENCY_MS, to, input);
    }

    fn input_after(&mut self, span_ms: u64, to: usize, input: Input) {
        self.sequence += 1;
        self.queue.insert((self.now_ms + span_ms, self.sequence), (to, input));
    }

    fn message(&mut self, from: usize, to: usize, message: &Message) {
        if self.cut.contains(&from) || self.cut.contains(&to) {
            return;
        }
        let value = |bytes| self.values.values().find(|value| *value.bytes() == bytes).cloned();
        if let Some(message) = believed(message.clone(), value) {
            self.input(to, Input::Message { from: OperatorIndex(from as u8), message });
        }
    }

    fn inquire(&mut self, id: usize, of: OperatorIndex) {
        let member = &self.nodes[of.as_usize()];
        if member.replica.may_testify() && !self.cut.contains(&of.as_usize()) {
            let seen = member.replica.newest_statements_of(OperatorIndex(id as u8));
            let testimony = CheckedTestimony {
                certified: vec![InstanceId::Block(Height(member.height()))],
                signed: if self.forgetful { Vec::new() } else { seen },
                bound: member.replica.bound(),
            };
            self.input(id, Input::Testimony { from: of, testimony });
        }
    }

    fn carry_out(&mut self, id: usize, effects: Vec<Effect>) {
        let halt = effects.iter().find_map(|effect| match effect {
            Effect::Halt(halt) => Some(halt.clone()),
            _ => None,
        });
        if let Some(halt) = halt {
            assert!(self.nodes[id].may_halt, "operator {id} halts: {halt}");
            self.nodes[id].halt = Some(halt);
            self.nodes[id].timers.clear();
            return;
        }
        for effect in &effects {
            if let Effect::Tell(Tell::Notice(Notice::Proposed { block, .. })) = effect {
                self.values.insert(block.digest(), Value::block(block.clone()));
            }
        }
        for effect in effects {
            match effect {
                Effect::Send(Outbound::Broadcast(message)) => {
                    (0..self.nodes.len()).filter(|to| *to != id).for_each(|to| self.message(id, to, &message))
                }
                Effect::Send(Outbound::Send(to, message)) => self.message(id, to.as_usize(), &message),
                Effect::Send(Outbound::Spread(transaction)) => self.spread(id, &[transaction]),
                Effect::Send(Outbound::Offer(transactions)) => self.spread(id, &transactions),
                Effect::Send(Outbound::Fetch { from, height }) => self.fetch(id, from, height),
                Effect::Send(Outbound::Inquire(of)) => self.inquire(id, of),
                Effect::Work(Work::Combine { decision, shares }) => {
                    let bad: Vec<OperatorIndex> = shares
                        .iter()
                        .map(|(operator, _)| *operator)
                        .filter(|operator| self.spoilers.contains(operator))
                        .collect();
                    let result = if bad.is_empty() { Ok(Seal::repeat_byte(9)) } else { Err(bad) };
                    self.input_after(self.sealing_ms, id, Input::Combined { decision, result });
                }
                Effect::Timer(TimerChange::Set { timer, at_ms }) => {
                    if let Timer::Round { instance, round } = timer {
                        self.nodes[id].timers_started.push((instance, round));
                    }
                    self.nodes[id].timers.insert(timer.slot(), (at_ms, timer));
                }
                Effect::Timer(TimerChange::Cancel(instance)) => {
                    self.nodes[id].timers.retain(|(of, _), _| *of != Some(instance));
                }
                Effect::Store(StoreWrite::Commit { block, certificate, .. }) => {
                    self.nodes[id].committed.push((block, certificate));
                }
                Effect::Store(StoreWrite::Sealed(certificate)) => {
                    self.nodes[id].sealed.insert(certificate.instance);
                }
                Effect::Tell(Tell::Notice(notice)) => {
                    self.nodes[id].notices.push(notice);
                }
                Effect::Persist(record) => self.nodes[id].records.push(record),
                _ => {}
            }
        }
    }

    fn fetch(&mut self, id: usize, from: OperatorIndex, height: Height) {
        let peer = &self.nodes[from.as_usize()];
        let wanted = peer.committed.iter().filter(|(block, _)| block.header().height >= height);
        let blocks: Vec<_> = wanted.cloned().collect();
        let reachable = !self.cut.contains(&id) && !self.cut.contains(&from.as_usize());
        let input = match reachable && !blocks.is_empty() {
            true => Input::Fetched { from, blocks },
            false => Input::FetchFailed { from },
        };
        self.input(id, input);
    }
}
