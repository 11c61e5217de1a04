//! A cluster of bare instances under the test's thumb: nothing moves unless the test moves it.
#![allow(dead_code, unused_imports)]

use aequa_qbft::{Effect, Event, Host, Instance, Justified, Note, Restored, Validity};
use aequa_testkit::{believed, duty_value};
use aequa_types::{
    Certificate, Digest, DutyId, DutyKind, InstanceId, Message, OperatorIndex, Quorum, Record, Round,
    RoundChange, Signature, Signed, Slot, Statement, Value, Verified,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use aequa_testkit::{Dice, has, pick, runs};

pub const DUTY: DutyId = DutyId { kind: DutyKind::Attester, slot: Slot(7) };
pub const INSTANCE: InstanceId = InstanceId::Duty(DUTY);

pub fn value(tag: u8) -> Value {
    duty_value(DUTY, [tag; 4])
}

pub fn preprepare(author: u8, round: u64, value: &Value) -> Signed {
    aequa_testkit::preprepare(INSTANCE, round, value.digest()).by(author)
}

pub fn prepare(author: u8, round: u64, value: &Value) -> Signed {
    aequa_testkit::prepare(INSTANCE, round, value.digest()).by(author)
}

pub fn commit(author: u8, round: u64, value: &Value) -> Signed {
    aequa_testkit::commit(INSTANCE, round, value.digest()).by(author)
}

pub fn proposal(author: u8, round: u64, value: &Value) -> Verified {
    justified_proposal(author, round, value, Vec::new(), Vec::new())
}

pub fn justified_proposal(
    author: u8,
    round: u64,
    value: &Value,
    round_changes: Vec<Signed>,
    prepares: Vec<Signed>,
) -> Verified {
    let proposal = preprepare(author, round, value);
    Verified::PrePrepare { proposal, value: value.clone(), round_changes, prepares }
}

pub fn change(author: u8, round: u64, prepared: Option<(u64, &Value)>) -> Signed {
    let prepared = prepared.map(|(round, value)| (round, value.digest()));
    aequa_testkit::change(INSTANCE, round, prepared).by(author)
}

pub fn round_change(author: u8, round: u64, prepared: Option<(u64, &Value)>) -> Verified {
    let prepares = prepared.map_or(Vec::new(), |(round, value)| quorum_of(|i| prepare(i, round, value)));
    Verified::RoundChange(RoundChange { change: change(author, round, prepared), prepares })
}

/// The statements of operators 0, 1, 2: a quorum of four.
pub fn quorum_of(make: impl Fn(u8) -> Signed) -> Vec<Signed> {
    (0..3).map(make).collect()
}

/// Leader of round r is operator r mod n; values with first byte 0 are invalid.
pub struct TestHost {
    pub me: OperatorIndex,
    pub operators: usize,
    pub validations: usize,
    pub refuse_to_sign: bool,
    /// Whether what a quorum has prepared may be prepared again.
    pub repeats: bool,
    /// Whether what values are compared with is here.
    pub knows: bool,
    pub made: BTreeMap<(Round, aequa_types::Kind), BTreeSet<Signed>>,
}

impl TestHost {
    pub fn new(me: u8, operators: usize) -> Self {
        Self {
            me: OperatorIndex(me),
            operators,
            validations: 0,
            refuse_to_sign: false,
            repeats: true,
            knows: true,
            made: BTreeMap::new(),
        }
    }
}

impl Host for TestHost {
    fn leader(&self, round: Round) -> OperatorIndex {
        OperatorIndex((round.0 % self.operators as u64) as u8)
    }
    fn validate(&mut self, _: Round, value: &Value, justified: Justified) -> Validity {
        let holds = match justified {
            Justified::Fresh => {
                self.validations += 1;
                value.bytes().0.first() != Some(&0)
            }
            Justified::Prepared => self.repeats,
        };
        match (self.knows, holds) {
            (false, _) => Validity::Unknown,
            (true, true) => Validity::Valid,
            (true, false) => Validity::Invalid("first byte".into()),
        }
    }
    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        if self.refuse_to_sign {
            return None;
        }
        assert_eq!(statement.author, self.me, "only own statements are signed");
        let signed = Signed { signature: Signature::repeat_byte(self.me.0), statement };
        self.made.entry((signed.round, signed.kind())).or_default().insert(signed.clone());
        Some(signed)
    }
}

/// One operator: instance, host, and everything it ever put out.
pub struct Node {
    pub instance: Instance,
    pub host: TestHost,
    pub effects: Vec<Effect>,
    pub input: Option<Value>,
}

impl Node {
    pub fn new(me: u8, operators: usize) -> Self {
        let quorum = Quorum::of(operators).unwrap();
        let instance = Instance::new(INSTANCE, OperatorIndex(me), quorum);
        let mut node =
            Self { instance, host: TestHost::new(me, operators), effects: Vec::new(), input: None };
        node.event(Event::Start);
        node
    }

    /// Takes an event, answers requests for input, and returns the new effects.
    pub fn event(&mut self, event: Event) -> Vec<Effect> {
        let mut new = self.instance.step(&mut self.host, event);
        let asked = pick!(new, Effect::NeedInput(round) => *round).next();
        if let (Some(round), Some(value)) = (asked, self.input.clone()) {
            new.extend(self.instance.step(&mut self.host, Event::Input { round, value }));
        }
        self.effects.extend(new.iter().cloned());
        new
    }

    pub fn receive(&mut self, from: u8, message: Verified) -> Vec<Effect> {
        self.event(Event::Message { carrier: OperatorIndex(from), message })
    }

    pub fn prepare_from(&mut self, from: u8, round: u64, value: &Value) -> Vec<Effect> {
        self.receive(from, Verified::Prepare(prepare(from, round, value)))
    }

    pub fn commit_from(&mut self, from: u8, round: u64, value: &Value) -> Vec<Effect> {
        self.receive(from, Verified::Commit(commit(from, round, value)))
    }

    pub fn timeout(&mut self) -> Vec<Effect> {
        self.event(Event::Timeout(self.instance.round()))
    }

    pub fn decided(&self) -> Option<Digest> {
        self.instance.decided().map(|certificate| certificate.digest)
    }

    pub fn certificate(&self) -> Certificate {
        self.instance.decided().cloned().unwrap()
    }

    pub fn records(&self) -> Vec<Record> {
        pick!(self.effects, Effect::Persist(record) => record.clone()).collect()
    }

    /// Loses everything but the durable records, and starts again.
    pub fn crash_and_restart(&mut self) -> Vec<Effect> {
        self.restart_with(self.records())
    }

    /// Starts again with nothing but these records.
    pub fn restart_with(&mut self, records: Vec<Record>) -> Vec<Effect> {
        let values = pick!(records, Record::Value(value) => Value::duty(DUTY, value.value.clone())).collect();
        let quorum = Quorum::of(self.host.operators).unwrap();
        self.instance = Instance::restore(INSTANCE, self.host.me, quorum, Restored { records, values });
        self.event(Event::Start)
    }
}

pub fn sent(effects: &[Effect]) -> Vec<Message> {
    pick!(effects, Effect::Broadcast(message) | Effect::Send(_, message) => message.clone()).collect()
}

pub fn notes(effects: &[Effect]) -> Vec<Note> {
    pick!(effects, Effect::Note(note) => note.clone()).collect()
}

pub fn conflicts(effects: &[Effect]) -> Vec<(Signed, Signed)> {
    pick!(effects, Effect::Note(Note::Conflict(pair)) => (**pair).clone()).collect()
}

pub fn sends_commit(effects: &[Effect]) -> bool {
    has!(sent(effects), Message::Commit(_))
}

/// What a proposal among these effects proposes.
pub fn proposed(effects: &[Effect]) -> Option<Digest> {
    pick!(sent(effects), Message::PrePrepare(message) => message.proposal.digest()).flatten().next()
}

pub fn verified(message: Message) -> Verified {
    believed(message, |bytes| Some(Value::duty(DUTY, bytes))).unwrap()
}

/// Everything a node says of itself was durable before it was sent.
pub fn assert_durable_when_sent(node: &Node) {
    let mut durable: Vec<Signed> = Vec::new();
    for effect in &node.effects {
        match effect {
            Effect::Persist(record) => durable.extend(record.statement().cloned()),
            Effect::Broadcast(message) | Effect::Send(_, message) => {
                assert!(message.statement().is_none_or(|own| durable.contains(own)), "{message:?}");
            }
            _ => {}
        }
    }
}

/// n operators and a network that the test may cut.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub down: BTreeSet<usize>,
    queue: VecDeque<(usize, usize, Message)>,
}

impl Cluster {
    pub fn new(operators: usize) -> Self {
        let mut nodes: Vec<Node> = (0..operators).map(|me| Node::new(me as u8, operators)).collect();
        for (me, node) in nodes.iter_mut().enumerate() {
            node.input = Some(value(10 + me as u8));
        }
        Self { nodes, down: BTreeSet::new(), queue: VecDeque::new() }
    }

    pub fn start(&mut self) {
        for node in 0..self.nodes.len() {
            let effects = self.nodes[node].event(Event::Start);
            self.post(node, &effects);
            if node == 0 && !self.down.contains(&0) {
                let value = self.nodes[0].input.clone().unwrap();
                let effects = self.nodes[0].event(Event::Input { round: Round(0), value });
                self.post(0, &effects);
            }
        }
    }

    pub fn post(&mut self, from: usize, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Broadcast(message) => {
                    for to in (0..self.nodes.len()).filter(|to| *to != from) {
                        self.queue.push_back((from, to, message.clone()));
                    }
                }
                Effect::Send(to, message) => self.queue.push_back((from, to.as_usize(), message.clone())),
                Effect::NeedValue(digest) => {
                    let request = aequa_types::message::ValueRequest { instance: INSTANCE, digest: *digest };
                    for to in (0..self.nodes.len()).filter(|to| *to != from) {
                        self.queue.push_back((from, to, Message::ValueRequest(request)));
                    }
                }
                _ => {}
            }
        }
    }

    /// Delivers everything until the network is silent; what goes to or comes from a node that is down is lost.
    pub fn settle(&mut self) {
        self.settle_unless(|_, _, _| false);
    }

    pub fn settle_unless(&mut self, lost: impl Fn(usize, usize, &Message) -> bool) {
        while let Some((from, to, message)) = self.queue.pop_front() {
            if !lost(from, to, &message) {
                self.deliver(from, to, message);
            }
        }
    }

    /// Delivers one message, any of those under way, sometimes leaving a copy under way; or loses it.
    pub fn deliver_any(&mut self, dice: &mut Dice) {
        if self.queue.is_empty() {
            return;
        }
        let at = dice.below(self.queue.len());
        let Some((from, to, message)) = self.queue.swap_remove_back(at) else { return };
        if dice.chance(10) {
            self.queue.push_back((from, to, message.clone()));
        }
        if dice.chance(90) {
            self.deliver(from, to, message);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if self.down.contains(&from) || self.down.contains(&to) {
            return;
        }
        let effects = self.nodes[to].receive(from as u8, verified(message));
        self.post(to, &effects);
    }

    /// Delivers what was sent up to now, and nothing it leads to.
    pub fn deliver_what_is_under_way(&mut self) {
        for _ in 0..self.queue.len() {
            if let Some((from, to, message)) = self.queue.pop_front() {
                self.deliver(from, to, message);
            }
        }
    }

    /// What the host does from time to time: everybody sends its newest messages again.
    pub fn send_again(&mut self) {
        for node in 0..self.nodes.len() {
            let again: Vec<Effect> =
                self.nodes[node].instance.newest().into_iter().map(Effect::Broadcast).collect();
            self.post(node, &again);
        }
    }

    pub fn timeout(&mut self, nodes: impl IntoIterator<Item = usize>) {
        for node in nodes {
            let effects = self.nodes[node].timeout();
            self.post(node, &effects);
        }
    }

    pub fn restart(&mut self, node: usize) {
        let effects = self.nodes[node].crash_and_restart();
        self.post(node, &effects);
    }

    pub fn decisions(&self) -> Vec<Option<Digest>> {
        self.nodes.iter().map(Node::decided).collect()
    }
}
