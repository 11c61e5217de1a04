//! A cluster of bare instances under the test's thumb: nothing moves unless the test moves it.
#![allow(dead_code, unused_imports)]

pub mod chance;

use aequa_qbft::{Effect, Event, Host, Instance, Justified, Note, Restored, Validity};
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Certificate, Digest, DutyId, DutyKind, InstanceId, Message, OperatorIndex, Prepared, Quorum, Record,
    Round, RoundChange, Signature, Signed, Slot, Statement, Value, ValueBytes, Verified,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use chance::*;

pub const DUTY: DutyId = DutyId { kind: DutyKind::Attester, slot: Slot(7) };
pub const INSTANCE: InstanceId = InstanceId::Duty(DUTY);

pub fn value(tag: u8) -> Value {
    Value::duty(DUTY, ValueBytes(vec![tag; 4].into()))
}

/// Signs by naming the author: in these tests nobody forges, operators lie.
pub fn signed(author: u8, round: u64, claim: Claim) -> Signed {
    let statement =
        Statement { instance: INSTANCE, round: Round(round), author: OperatorIndex(author), claim };
    Signed { statement, signature: Signature::repeat_byte(author) }
}

pub fn prepare(author: u8, round: u64, value: &Value) -> Signed {
    signed(author, round, Claim::Prepare(value.digest()))
}

pub fn commit(author: u8, round: u64, value: &Value) -> Signed {
    signed(author, round, Claim::Commit(CommitClaim { digest: value.digest(), seal: None }))
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
    Verified::PrePrepare {
        proposal: signed(author, round, Claim::PrePrepare(value.digest())),
        value: value.clone(),
        round_changes,
        prepares,
    }
}

pub fn change(author: u8, round: u64, prepared: Option<(u64, &Value)>) -> Signed {
    let prepared = prepared.map(|(round, value)| Prepared { round: Round(round), digest: value.digest() });
    signed(author, round, Claim::RoundChange(RoundChangeClaim { prepared }))
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
        let asked = new.iter().find_map(|effect| match effect {
            Effect::NeedInput(round) => Some(*round),
            _ => None,
        });
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
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Persist(record) => Some(record.clone()),
                _ => None,
            })
            .collect()
    }

    /// Loses everything but the durable records, and starts again.
    pub fn crash_and_restart(&mut self) -> Vec<Effect> {
        self.restart_with(self.records())
    }

    /// Starts again with nothing but these records.
    pub fn restart_with(&mut self, records: Vec<Record>) -> Vec<Effect> {
        let values = records
            .iter()
            .filter_map(|record| match record {
                Record::Value(value) => Some(Value::duty(DUTY, value.value.clone())),
                _ => None,
            })
            .collect();
        let quorum = Quorum::of(self.host.operators).unwrap();
        self.instance = Instance::restore(INSTANCE, self.host.me, quorum, Restored { records, values });
        self.event(Event::Start)
    }
}

pub fn sent(effects: &[Effect]) -> Vec<Message> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Broadcast(message) | Effect::Send(_, message) => Some(message.clone()),
            _ => None,
        })
        .collect()
}

pub fn notes(effects: &[Effect]) -> Vec<Note> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Note(note) => Some(note.clone()),
            _ => None,
        })
        .collect()
}

pub fn conflicts(effects: &[Effect]) -> Vec<(Signed, Signed)> {
    let conflict = |note| match note {
        Note::Conflict(pair) => Some(*pair),
        _ => None,
    };
    notes(effects).into_iter().filter_map(conflict).collect()
}

pub fn sends_commit(effects: &[Effect]) -> bool {
    sent(effects).iter().any(|message| matches!(message, Message::Commit(_)))
}

/// What a proposal among these effects proposes.
pub fn proposed(effects: &[Effect]) -> Option<Digest> {
    sent(effects).into_iter().find_map(|message| match message {
        Message::PrePrepare(proposal) => proposal.proposal.digest(),
        _ => None,
    })
}

pub fn verified(message: Message) -> Verified {
    let value = |bytes: ValueBytes| Value::duty(DUTY, bytes);
    match message {
        Message::PrePrepare(m) => Verified::PrePrepare {
            proposal: m.proposal,
            value: value(m.value),
            round_changes: m.round_changes,
            prepares: m.prepares,
        },
        Message::Prepare(vote) => Verified::Prepare(vote),
        Message::Commit(vote) => Verified::Commit(vote),
        Message::RoundChange(m) => Verified::RoundChange(m),
        Message::Decided(m) => Verified::Decided(m.certificate),
        Message::ValueRequest(m) => Verified::ValueRequest(m),
        Message::ValueReply(m) => Verified::ValueReply { instance: m.instance, value: value(m.value) },
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
