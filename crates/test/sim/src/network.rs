//! Links between nodes: latency, loss, duplicates, partitions; and what travels on them.

use crate::keys::{SimKeys, mix};
use crate::node::Kind;
use crate::plan::{MESSAGE_KINDS, PREPARE};
use crate::sights::fault;
use crate::trace;
use crate::traitor::Treason;
use crate::world::{ALL, Event, World};
use aequa_replica::Input;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{CheckedEvidence, CheckedTransaction, Height, Message, OperatorIndex};
use ssz::Encode as _;
use std::collections::BTreeSet;

/// A question that gets no answer is given up after this long.
const FETCH_TIMEOUT_MS: u64 = 500;
/// Blocks in one answer: few, so that catching up takes several questions.
const FETCH_BLOCKS_MAX: usize = 6;
/// How much later an old message comes again.
const REPLAY_MS: (u64, u64) = (500, 8000);
/// Shortest and longest partition.
const PARTITION_MS: (u64, u64) = (300, 6000);

impl World {
    /// A node sends a message to one operator or to all others.
    pub(crate) fn emit(&mut self, id: usize, to: Option<OperatorIndex>, message: Message) {
        let node = &self.nodes[id];
        let (operator, kind) = (node.operator, node.kind);
        let receivers: Vec<usize> = (0..self.nodes.len())
            .filter(|other| {
                let peer = self.nodes[*other].operator;
                peer != operator && to.is_none_or(|to| to == peer)
            })
            .collect();
        match kind {
            Kind::Honest if self.nodes[id].is_honest() => {
                let pause_ms = self.plan.params.round_timeout_ms / 3;
                self.oracle.sends(operator, &message, self.now_ms, pause_ms);
            }
            Kind::Honest => self.oracle.sends_from_copy(operator, &message),
            Kind::Twin => {}
            Kind::Traitor(traits) => {
                if self.is_calm() && self.plan.silent_at_last {
                    return;
                }
                let mut treason = Treason {
                    keys: SimKeys { operator, seals: self.plan.seals },
                    traits,
                    conspiracy: &self.conspiracy,
                    dice: &mut self.dice,
                    faults: &mut self.faults,
                };
                for (receivers, message) in treason.alter(message, &receivers) {
                    self.post(id, &receivers, message);
                }
                return;
            }
        }
        self.post(id, &receivers, message);
    }

    fn post(&mut self, id: usize, receivers: &[usize], message: Message) {
        if !self.plan.traitors.is_empty() {
            self.conspiracy.overhear(&mut self.dice, &message);
        }
        let mark = trace::mark(&message);
        self.note(id, mark, || format!("sends {} to {receivers:?}", trace::describe(&message)));
        let kind = number(&message);
        self.messages += receivers.len() as u64;
        self.bytes += (message.ssz_bytes_len() * receivers.len()) as u64;
        let from = self.nodes[id].operator;
        if let Message::Commit(commit) = &message {
            self.oracle.shares(commit);
        }
        let Some(message) = self.verifier.message(message) else {
            return self.fault(fault::REFUSED);
        };
        if let aequa_types::Verified::Decided(certificate) = &message {
            self.oracle.decides(certificate);
        }
        for to in receivers {
            let copies = self.copies(id, *to, kind);
            for _ in 0..copies {
                let latency_ms = self.latency_ms(id, *to);
                let input = Box::new(Input::Message { from, message: message.clone() });
                self.after(latency_ms, Event::Input { node: *to, life: None, input });
            }
            if copies > 0 && !self.is_calm() && self.dice.chance(self.plan.replay) {
                self.fault(fault::REPLAYED);
                let late_ms = self.dice.between(REPLAY_MS.0, REPLAY_MS.1);
                let input = Box::new(Input::Message { from, message: message.clone() });
                self.after(late_ms, Event::Input { node: *to, life: None, input });
            }
        }
    }

    /// How often a message arrives.
    fn copies(&mut self, from: usize, to: usize, kind: usize) -> usize {
        if self.blocked.contains(&(from, to)) {
            self.fault(fault::BLOCKED);
            return 0;
        }
        if self.is_calm() {
            return 1;
        }
        let lost = self.dice.chance(self.plan.drop) || self.dice.chance(self.plan.drop_by_kind[kind]);
        if lost {
            self.fault(fault::DROPPED);
            return 0;
        }
        if self.dice.chance(self.plan.duplicate) {
            self.fault(fault::DUPLICATED);
            return 2;
        }
        1
    }

    /// How long a message takes over this link. Links have their own length for the whole run.
    fn latency_ms(&mut self, from: usize, to: usize) -> u64 {
        let (fastest, slowest) = self.plan.latency_ms;
        let link = mix(self.seed ^ ((from as u64) << 32) ^ to as u64);
        let distance_ms = link % (self.plan.distance_ms + 1);
        let latency_ms = distance_ms + self.dice.between(fastest, slowest);
        if !self.is_calm() && self.dice.chance(self.plan.slow) {
            self.fault(fault::SLOW);
            return latency_ms * 10;
        }
        latency_ms
    }

    /// Whether anything that is no consensus message gets through now.
    fn reaches(&mut self, from: usize, to: usize) -> bool {
        let open = !self.blocked.contains(&(from, to));
        open && (self.is_calm() || !self.dice.chance(self.plan.drop))
    }

    pub(crate) fn spread(&mut self, id: usize, transaction: &CheckedTransaction) {
        for to in (0..self.nodes.len()).filter(|to| *to != id) {
            if self.reaches(id, to) {
                let latency_ms = self.latency_ms(id, to);
                let input = Box::new(Input::Transactions(vec![(transaction.clone(), None)]));
                self.after(latency_ms, Event::Input { node: to, life: None, input });
            }
        }
    }

    /// Evidence on its way to every member; each checks it before its core sees it.
    pub(crate) fn gossip_evidence(&mut self, id: usize, evidence: &CheckedEvidence) {
        let node = &self.nodes[id];
        let silent = self.is_calm() && self.plan.silent_at_last && matches!(node.kind, Kind::Traitor(_));
        if silent || !self.verifier.evidence(evidence) {
            return;
        }
        for to in (0..self.nodes.len()).filter(|to| *to != id) {
            if self.reaches(id, to) {
                let latency_ms = self.latency_ms(id, to);
                let input = Box::new(Input::Evidence(evidence.clone()));
                self.after(latency_ms, Event::Input { node: to, life: None, input });
            }
        }
    }

    pub(crate) fn tell_height(&mut self, id: usize) {
        let node = &self.nodes[id];
        let (from, mut height, up, kind) = (node.operator, node.store.tip(), node.is_up(), node.kind);
        if !up {
            return;
        }
        if let Kind::Traitor(traits) = kind
            && traits.false_height
        {
            self.fault(fault::FALSE_HEIGHT);
            height = Height(height.0 + self.dice.between(1, 50));
        }
        for to in (0..self.nodes.len()).filter(|to| *to != id) {
            if self.reaches(id, to) {
                let latency_ms = self.latency_ms(id, to);
                let input = Box::new(Input::PeerHeight { from, height });
                self.after(latency_ms, Event::Input { node: to, life: None, input });
            }
        }
    }

    /// A node asks an operator for blocks. Every question is answered once, if only by a failure.
    pub(crate) fn fetch(&mut self, id: usize, from: OperatorIndex, height: Height) {
        self.note(id, height.0, || format!("asks {from} for block {height}"));
        let life = self.nodes[id].life;
        let peers: Vec<usize> =
            (0..self.nodes.len()).filter(|peer| self.nodes[*peer].operator == from && *peer != id).collect();
        if peers.is_empty() {
            return self.fetch_fails(id, life, from);
        }
        let peer = self.dice.pick(&peers);
        if !self.reaches(id, peer) {
            return self.fetch_fails(id, life, from);
        }
        let latency_ms = self.latency_ms(id, peer);
        self.after(latency_ms, Event::FetchAsked { asker: id, life, peer, height });
    }

    pub(crate) fn serve(&mut self, asker: usize, life: u64, peer: usize, height: Height) {
        let from = self.nodes[peer].operator;
        let up = self.nodes[peer].is_up();
        let denies = match self.nodes[peer].kind {
            Kind::Traitor(traits) => {
                (self.is_calm() && self.plan.silent_at_last)
                    || traits.hoard
                    || self.dice.chance(traits.withhold)
            }
            Kind::Honest | Kind::Twin => false,
        };
        if !up || denies || !self.reaches(peer, asker) {
            return self.fetch_fails(asker, life, from);
        }
        let store = &self.nodes[peer].store;
        let blocks: Vec<_> = (height.0..=store.tip().0)
            .take(FETCH_BLOCKS_MAX)
            .map_while(|height| store.block(Height(height)))
            .map(|stored| (stored.block.clone(), stored.certificate.clone()))
            .collect();
        if !blocks.iter().all(|(block, certificate)| self.verifier.certified(block, certificate)) {
            return self.fetch_fails(asker, life, from);
        }
        let latency_ms = self.latency_ms(peer, asker);
        let input = Box::new(Input::Fetched { from, blocks });
        self.after(latency_ms, Event::Input { node: asker, life: Some(life), input });
    }

    /// A node asks an operator what it has seen of this one. A lost question or answer is no answer.
    pub(crate) fn inquire(&mut self, id: usize, of: OperatorIndex) {
        // Traitors know what they do.
        if matches!(self.nodes[id].kind, Kind::Traitor(_)) {
            return;
        }
        let life = self.nodes[id].life;
        for peer in 0..self.nodes.len() {
            if self.nodes[peer].operator == of && self.reaches(id, peer) {
                let latency_ms = self.latency_ms(id, peer);
                self.after(latency_ms, Event::Inquired { asker: id, life, peer });
            }
        }
    }

    /// Says what a node has seen of the asker. A traitor may hide it, and cannot invent anything.
    pub(crate) fn testify(&mut self, asker: usize, life: u64, peer: usize) {
        let about = self.nodes[asker].operator;
        let node = &self.nodes[peer];
        let Some(replica) = node.replica().filter(|replica| replica.may_testify()) else { return };
        let (from, kind) = (node.operator, node.kind);
        let mut testimony = CheckedTestimony {
            certified: node.store.certified(),
            signed: replica.newest_statements_of(about),
            bound: replica.bound(),
        };
        if let Kind::Traitor(traits) = kind {
            if self.is_calm() && self.plan.silent_at_last {
                return;
            }
            if traits.lie || traits.hoard {
                testimony = CheckedTestimony::default();
                self.fault(fault::FALSE_TESTIMONY);
            }
        }
        if self.reaches(peer, asker) {
            let latency_ms = self.latency_ms(peer, asker);
            let input = Box::new(Input::Testimony { from, testimony });
            self.after(latency_ms, Event::Input { node: asker, life: Some(life), input });
        }
    }

    fn fetch_fails(&mut self, asker: usize, life: u64, from: OperatorIndex) {
        self.fault(fault::FETCH_FAILED);
        let input = Box::new(Input::FetchFailed { from });
        self.after(FETCH_TIMEOUT_MS, Event::Input { node: asker, life: Some(life), input });
    }

    /// Cuts a random part of the nodes off, both ways or one way, for a while.
    pub(crate) fn partition(&mut self) {
        if self.is_calm() {
            return;
        }
        self.sometimes(self.plan.partition_every_ms, Event::Partition);
        let side: Vec<bool> = self.nodes.iter().map(|_| self.dice.chance(400)).collect();
        let (outward, inward) = self.dice.pick(&[(true, true), (true, true), (true, false), (false, true)]);
        let mut pairs = Vec::new();
        for (a, b) in (0..side.len()).flat_map(|a| (0..side.len()).map(move |b| (a, b))) {
            let cut = (side[a] && !side[b] && outward) || (!side[a] && side[b] && inward);
            if cut && self.blocked.insert((a, b)) {
                pairs.push((a, b));
            }
        }
        if pairs.is_empty() {
            return;
        }
        self.fault(if outward && inward { fault::PARTITION } else { fault::ONE_WAY });
        self.note(ALL, pairs.len() as u64, || format!("partition {pairs:?}"));
        let lasts_ms = self.dice.between(PARTITION_MS.0, PARTITION_MS.1);
        self.after(lasts_ms, Event::Heal(pairs));
    }

    /// Pairs can talk again, and notice.
    pub(crate) fn heal(&mut self, pairs: Vec<(usize, usize)>) {
        let mut met = BTreeSet::new();
        for (a, b) in pairs {
            self.blocked.remove(&(a, b));
            met.insert((a.min(b), a.max(b)));
        }
        for (a, b) in met {
            self.connect(a, b);
        }
    }

    /// Both ends of a link learn that it is up.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        let open = !self.blocked.contains(&(a, b)) && !self.blocked.contains(&(b, a));
        if !open || !self.nodes[a].is_up() || !self.nodes[b].is_up() {
            return;
        }
        for (node, peer) in [(a, b), (b, a)] {
            let latency_ms = self.latency_ms(peer, node);
            let input = Box::new(Input::PeerConnected(self.nodes[peer].operator));
            self.after(latency_ms, Event::Input { node, life: None, input });
        }
    }
}

fn number(message: &Message) -> usize {
    let number = match message {
        Message::PrePrepare(_) => 0,
        Message::Prepare(_) => PREPARE,
        Message::Commit(_) => 2,
        Message::RoundChange(_) => 3,
        Message::Decided(_) => 4,
        Message::ValueRequest(_) => 5,
        Message::ValueReply(_) => 6,
    };
    debug_assert!(number < MESSAGE_KINDS);
    number
}
