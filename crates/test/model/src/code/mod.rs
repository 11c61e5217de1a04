//! The production core itself, driven by the checker.
//!
//! Three honest operators run `aequa_qbft::Instance` behind the production `Signer`; the fourth is
//! faulty and not run at all: see [`faulty`] for all it can send. Where `protocol` checks that the
//! rules are right, this checks that the code follows them on every schedule within the bound.
//!
//! # Steps
//!
//! An operator is given at once what makes a rule fire, and nothing else: below a quorum messages
//! only wait. What has been sent may be delivered to anybody at any time or never.
//!
//! * Votes for one value that make a quorum, the faulty one among them.
//! * Proposals. A faulty leader offers every justification it can put together, until one is taken.
//! * To the leader of a round every choice of ROUND-CHANGEs that with its own is a quorum, with the
//!   claims and lies of the faulty one, and either value as its input. To others an honest
//!   ROUND-CHANGE and the faulty one's, which pull up (R5). That of a leader alone (R10) does what a timer does. DECIDED.
//! * Timers fire at any time.
//! * Crashes: see [`Crashes`].
//!
//! # Properties
//!
//! Agreement, one statement per round and kind, q distinct COMMITs behind every decision, and nothing
//! sent before the records it depends on.
//!
//! # Bound
//!
//! Two values; one round with crashes at any time in the tests, two rounds with a crash after every
//! step in `cargo xtask model --deep`. Within that the search is exhaustive for the steps above. Not covered:
//! messages that arrive one by one around other events (the tests of `aequa-qbft` and the simulator do),
//! a faulty operator whose first vote keeps its second from being counted (which only weakens it), and
//! writes torn within one step (the simulator does).

pub mod faulty;
mod node;

pub use node::Node;

use aequa_qbft::Event;
use aequa_types::statement::Claim;
use aequa_types::{
    Certificate, Digest, DutyId, DutyKind, InstanceId, Message, OperatorIndex, PrePrepare, Quorum, Round,
    Signed, Slot, Value, ValueBytes, Verified,
};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// Number of honest operators; they are operators 0, 1 and 2.
const HONEST: usize = 3;
/// The faulty operator.
pub const FAULTY: OperatorIndex = OperatorIndex(3);
const DUTY: DutyId = DutyId { kind: DutyKind::Attester, slot: Slot(7) };
const INSTANCE: InstanceId = InstanceId::Duty(DUTY);
/// The two values.
static VALUES: LazyLock<[Value; 2]> =
    LazyLock::new(|| [b"a", b"b"].map(|bytes| Value::duty(DUTY, ValueBytes(bytes.as_slice().into()))));

/// A promise that is not kept around the core, to see whether the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The instance takes 2f votes for a quorum.
    QuorumOfTwoF,
    /// An operator may lose its vote log, once, and its signer then forgets what it signed.
    ForgetfulSigner,
    /// Messages leave before their records are durable: a crash loses those of the last step.
    SendBeforeSync,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 3] =
        [Mutation::QuorumOfTwoF, Mutation::ForgetfulSigner, Mutation::SendBeforeSync];
}

/// The arithmetic the instances are given; three operators have a quorum of two.
fn cluster(mutation: Option<Mutation>) -> Quorum {
    let operators = if mutation == Some(Mutation::QuorumOfTwoF) { HONEST } else { HONEST + 1 };
    Quorum::of(operators).unwrap_or_else(|| unreachable!("there are operators"))
}

/// No two honest operators decide differently.
pub const AGREEMENT: &str = "agreement";
/// No key signs two statements of one kind in one round.
pub const ONE_STATEMENT: &str = "one statement per round and kind";
/// A decision has q distinct COMMITs of one round, none of them made up.
pub const DECISION_HAS_QUORUM: &str = "a decision has a quorum";
/// Records come before what depends on them.
pub const PERSIST_BEFORE_SEND: &str = "persist before send";
/// A value is decided above round 0 because it was prepared before.
const DECIDED_AGAIN: &str = "a decision on a value prepared before";
/// The properties that must hold in every state.
pub const ALWAYS: [&str; 4] = [AGREEMENT, ONE_STATEMENT, DECISION_HAS_QUORUM, PERSIST_BEFORE_SEND];

/// When operators crash; they start again from their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crashes {
    /// Never.
    Never,
    /// All of them after every step: nothing but the records ever takes effect.
    AfterEveryStep,
    /// Any of them between any two steps.
    AnyTime,
}

/// The model of the code.
#[derive(Debug, Clone)]
pub struct Code {
    /// Who leads each round; their number is the number of rounds.
    pub leaders: Vec<OperatorIndex>,
    /// When operators crash.
    pub crashes: Crashes,
    /// The promise that is not kept, if any.
    pub mutation: Option<Mutation>,
    /// Check this property alone.
    pub only: Option<&'static str>,
}

/// All honest operators; the network is what they sent.
#[derive(Debug, Clone)]
pub struct State {
    nodes: [(u64, Arc<Node>); HONEST],
}

impl State {
    /// Everything honest operators sent.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.nodes.iter().flat_map(|(_, node)| node.sent())
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|(_, node)| &**node)
    }

    fn with(&self, operator: usize, node: Node) -> Self {
        let mut nodes = self.nodes.clone();
        nodes[operator] = (node.fingerprint(), Arc::new(node));
        Self { nodes }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.nodes.iter().zip(&other.nodes).all(|(one, two)| one.0 == two.0)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nodes.iter().for_each(|(fingerprint, _)| state.write_u64(*fingerprint));
    }
}

/// One step of one honest operator.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Action {
    /// Messages arrive; one after the other until it makes a statement.
    Deliver { to: usize, messages: Vec<Verified> },
    /// ROUND-CHANGEs reach the leader of its round, which then gets a candidate of its own.
    Lead { operator: usize, changes: Vec<Verified>, input: Value },
    /// The timer fires.
    Timeout { operator: usize },
    /// A crash and a start.
    Restart { operator: usize },
}

impl Model for Code {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = |me: usize| {
            let node = Node::new(OperatorIndex(me as u8), self.mutation, &self.leaders);
            (node.fingerprint(), Arc::new(node))
        };
        vec![State { nodes: std::array::from_fn(node) }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (operator, node) in state.nodes().enumerate() {
            if self.crashes == Crashes::AnyTime {
                actions.push(Action::Restart { operator });
            }
            // A node that has decided only answers.
            if node.decided().is_some() {
                continue;
            }
            let deliveries = self.deliveries(state, operator);
            actions.extend(deliveries.into_iter().map(|messages| Action::Deliver { to: operator, messages }));
            for changes in self.quorums_to_lead_with(state, operator) {
                let lead =
                    |input: &Value| Action::Lead { operator, changes: changes.clone(), input: input.clone() };
                actions.extend(VALUES.iter().map(lead));
            }
            if node.instance().round().0 + 1 < self.leaders.len() as u64 {
                actions.push(Action::Timeout { operator });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let (Action::Deliver { to: operator, .. }
        | Action::Lead { operator, .. }
        | Action::Timeout { operator }
        | Action::Restart { operator }) = action;
        let before = &last.nodes[operator].1;
        let mut node = (**before).clone();
        let arrives = |message| Event::Message { carrier: FAULTY, message };
        match action {
            Action::Deliver { messages, .. } => {
                for message in messages {
                    node.step(&self.leaders, arrives(message));
                    if node.has_acted_since(before) {
                        break;
                    }
                }
            }
            Action::Lead { changes, input, .. } => {
                changes.into_iter().for_each(|change| node.step(&self.leaders, arrives(change)));
                let round = node.instance().round();
                node.step(&self.leaders, Event::Input { round, value: input });
            }
            Action::Timeout { .. } => {
                let round = node.instance().round();
                node.step(&self.leaders, Event::Timeout(round));
            }
            Action::Restart { .. } => {
                node.restart(&self.leaders, self.mutation);
                let next = last.with(operator, node);
                return (next != *last).then_some(next);
            }
        }
        if !node.has_acted_since(before) {
            return None;
        }
        if self.crashes == Crashes::AfterEveryStep {
            node.restart(&self.leaders, self.mutation);
        }
        Some(last.with(operator, node))
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Deliver { to, messages } => format!("to {to}: {}", describe_all(messages)),
            Action::Lead { operator, changes, input } => {
                format!("to {operator}: {}; its input is {}", describe_all(changes), name(&input.digest()))
            }
            Action::Timeout { operator } => format!("the timer of {operator} fires"),
            Action::Restart { operator } => format!("{operator} crashes and starts again"),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(AGREEMENT, |_, state| agreement(state)),
            Property::always(ONE_STATEMENT, |_, state| consistent(state)),
            Property::always(DECISION_HAS_QUORUM, |_, state| decisions_have_quorums(state)),
            Property::always(PERSIST_BEFORE_SEND, |_, state| kept_promises(state)),
            Property::sometimes("a decision in round 0", |_, state| decided_in(state, Round(0))),
            Property::sometimes(DECIDED_AGAIN, |_, state| decided_again(state)),
            Property::sometimes("a is decided", |_, state| decided(state, &VALUES[0])),
            Property::sometimes("b is decided", |_, state| decided(state, &VALUES[1])),
        ];
        properties.retain(|property| self.leaders.len() > 1 || property.name != DECIDED_AGAIN);
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}

impl Code {
    /// The code as it is.
    pub fn of(leaders: &[u8], crashes: Crashes) -> Self {
        let leaders = leaders.iter().copied().map(OperatorIndex).collect();
        Self { leaders, crashes, mutation: None, only: None }
    }

    /// The code in one round of the faulty leader with a promise not kept, until `property` is broken.
    pub fn mutated(mutation: Mutation, property: &'static str) -> Self {
        Self { mutation: Some(mutation), only: Some(property), ..Self::of(&[FAULTY.0], Crashes::AnyTime) }
    }

    /// The property that shows a mutation soonest.
    pub fn first_broken_by(mutation: Mutation) -> &'static str {
        match mutation {
            Mutation::QuorumOfTwoF => AGREEMENT,
            Mutation::ForgetfulSigner | Mutation::SendBeforeSync => ONE_STATEMENT,
        }
    }

    /// Everything that may arrive at an operator next, but what makes it lead.
    fn deliveries(&self, state: &State, to: usize) -> Vec<Vec<Verified>> {
        let node = &state.nodes[to].1;
        let me = OperatorIndex(to as u8);
        let mut deliveries = Vec::new();
        for round in (0..self.leaders.len() as u64).map(Round) {
            for value in VALUES.iter() {
                deliveries.push(self.proposals(state, round, value));
                let mut prepares = self.quorum_for(state, me, round, value, is_prepare);
                prepares.push(faulty::prepare(round, value));
                deliveries.push(prepares.into_iter().map(Verified::Prepare).collect());
                let mut commits = self.quorum_for(state, me, round, value, is_commit);
                commits.push(faulty::commit(round, value));
                let value = Verified::ValueReply { instance: INSTANCE, value: value.clone() };
                deliveries.push(commits.into_iter().map(Verified::Commit).chain([value]).collect());
            }
            if round > node.instance().round() {
                let ahead = honest_changes(state, me, round).into_iter().take(1);
                deliveries.extend(ahead.map(|change| vec![change, bare_change(state, round)]));
            }
        }
        deliveries.extend(state.messages().filter_map(|message| match message {
            Message::Decided(decided) => {
                let value = VALUES.iter().find(|value| value.digest() == decided.certificate.digest)?.clone();
                let reply = Verified::ValueReply { instance: INSTANCE, value };
                Some(vec![Verified::Decided(decided.certificate.clone()), reply])
            }
            _ => None,
        }));
        deliveries.retain(|messages| !messages.is_empty());
        deliveries
    }

    /// What makes an operator that leads its round propose: in round 0 nothing, above it each choice of
    /// ROUND-CHANGEs that with its own are q, those of the faulty operator first: a lie must not help.
    fn quorums_to_lead_with(&self, state: &State, operator: usize) -> Vec<Vec<Verified>> {
        let me = OperatorIndex(operator as u8);
        let round = state.nodes[operator].1.instance().round();
        if self.leaders[round.0 as usize] != me {
            return Vec::new();
        }
        if round == Round(0) {
            return vec![Vec::new()];
        }
        let honest = honest_changes(state, me, round);
        let faulty = faulty::round_changes(state, round).into_iter().map(Verified::RoundChange);
        let mut quorums: Vec<Vec<Verified>> = faulty
            .flat_map(|own| honest.iter().map(move |change| vec![own.clone(), change.clone()]))
            .collect();
        quorums.push(honest);
        quorums
    }

    /// All proposals of a value in a round.
    fn proposals(&self, state: &State, round: Round, value: &Value) -> Vec<Verified> {
        if self.leaders[round.0 as usize] == FAULTY {
            return faulty::proposals(state, round, value);
        }
        let honest = state.messages().filter_map(|message| match message {
            Message::PrePrepare(proposal) if proposal.proposal.round == round => verified(proposal, value),
            _ => None,
        });
        honest.collect()
    }

    /// As many honest votes of others as `me` needs beside its own and the faulty one.
    fn quorum_for(
        &self,
        state: &State,
        me: OperatorIndex,
        round: Round,
        value: &Value,
        kind: fn(&Message) -> Option<&Signed>,
    ) -> Vec<Signed> {
        let votes = state
            .messages()
            .filter_map(kind)
            .filter(|vote| vote.round == round && vote.digest() == Some(value.digest()));
        let (own, others): (Vec<&Signed>, Vec<&Signed>) = votes.partition(|vote| vote.author == me);
        let missing = cluster(self.mutation).quorum() - 1 - own.len();
        others.into_iter().take(missing).cloned().collect()
    }
}

/// The ROUND-CHANGEs of a round by other honest operators.
fn honest_changes(state: &State, me: OperatorIndex, round: Round) -> Vec<Verified> {
    let changes = state.messages().filter_map(|message| match message {
        Message::RoundChange(message) if message.change.round == round && message.change.author != me => {
            Some(Verified::RoundChange(message.clone()))
        }
        _ => None,
    });
    changes.collect()
}

fn bare_change(state: &State, round: Round) -> Verified {
    Verified::RoundChange(faulty::round_changes(state, round).swap_remove(0))
}

fn is_prepare(message: &Message) -> Option<&Signed> {
    if let Message::Prepare(vote) = message { Some(vote) } else { None }
}

fn is_commit(message: &Message) -> Option<&Signed> {
    if let Message::Commit(vote) = message { Some(vote) } else { None }
}

fn verified(message: &PrePrepare, value: &Value) -> Option<Verified> {
    (message.proposal.digest() == Some(value.digest())).then(|| Verified::PrePrepare {
        proposal: message.proposal.clone(),
        value: value.clone(),
        round_changes: message.round_changes.clone(),
        prepares: message.prepares.clone(),
    })
}

fn agreement(state: &State) -> bool {
    VALUES.iter().filter(|value| decided(state, value)).count() <= 1
}

fn consistent(state: &State) -> bool {
    !state.nodes().any(Node::contradicts_itself)
}

fn kept_promises(state: &State) -> bool {
    state.nodes().all(|node| node.broken().is_none())
}

fn decided(state: &State, value: &Value) -> bool {
    state.nodes().filter_map(Node::decided).any(|certificate| certificate.digest == value.digest())
}

fn decided_in(state: &State, round: Round) -> bool {
    state.nodes().filter_map(Node::decided).any(|certificate| certificate.round == round)
}

/// A decision above round 0, on what an honest ROUND-CHANGE of that round called prepared.
fn decided_again(state: &State) -> bool {
    state.nodes().filter_map(Node::decided).any(|certificate| {
        state.messages().any(|message| match message {
            Message::RoundChange(message) => {
                message.change.round == certificate.round
                    && message.change.digest() == Some(certificate.digest)
            }
            _ => false,
        })
    })
}

fn decisions_have_quorums(state: &State) -> bool {
    let made = |vote: &Signed| {
        vote.author == FAULTY || state.messages().filter_map(is_commit).any(|own| own == vote)
    };
    let holds = |certificate: &Certificate| {
        let commits = certificate.commits();
        let authors: BTreeSet<OperatorIndex> = commits.iter().map(|vote| vote.author).collect();
        authors.len() >= HONEST && commits.iter().all(made)
    };
    state.nodes().filter_map(Node::decided).all(holds)
}

fn describe_all(messages: &[Verified]) -> String {
    let mut all: Vec<String> = messages.iter().map(describe).collect();
    all.dedup();
    all.join(", ")
}

fn describe(message: &Verified) -> String {
    match message {
        Verified::PrePrepare { proposal, .. } => statement(proposal),
        Verified::Prepare(vote) | Verified::Commit(vote) => statement(vote),
        Verified::RoundChange(message) => {
            let prepares: Vec<String> = message.prepares.iter().map(statement).collect();
            format!("{} [{}]", statement(&message.change), prepares.join(", "))
        }
        Verified::Decided(certificate) => {
            format!("DECIDED({}, {})", certificate.round, name(&certificate.digest))
        }
        Verified::ValueRequest(request) => format!("a request for {}", name(&request.digest)),
        Verified::ValueReply { value, .. } => format!("the value {}", name(&value.digest())),
    }
}

/// `author:KIND(round, value)`.
fn statement(signed: &Signed) -> String {
    let (author, round) = (signed.author, signed.round);
    match &signed.claim {
        Claim::PrePrepare(digest) => format!("{author}:PREPREPARE({round}, {})", name(digest)),
        Claim::Prepare(digest) => format!("{author}:PREPARE({round}, {})", name(digest)),
        Claim::Commit(commit) => format!("{author}:COMMIT({round}, {})", name(&commit.digest)),
        Claim::RoundChange(change) => match change.prepared {
            Some(prepared) => {
                format!("{author}:ROUND-CHANGE({round}, {}, {})", prepared.round, name(&prepared.digest))
            }
            None => format!("{author}:ROUND-CHANGE({round}, ⊥)"),
        },
    }
}

fn name(digest: &Digest) -> &'static str {
    if *digest == VALUES[0].digest() { "a" } else { "b" }
}
