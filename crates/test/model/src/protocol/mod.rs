//! QBFT, abstractly: the rules of the reference over all schedules, by exhaustive search.
//!
//! Written from the description of the protocol and not from `aequa-qbft`, with types of its own, so
//! that it is a second and independent statement of the rules.
//!
//! # What is modelled
//!
//! * n = 4, f = 1, q = 3: three honest operators and one that is faulty in every way. It has no
//!   state: whatever it could sign counts as said, to whom it likes, at any time. It cannot forge.
//! * The network delivers in any order, late, selectively, or never. Statements of honest operators
//!   are a set that only grows, and a rule may fire as soon as a quorum *can be shown* to the
//!   operator: a vote that is delivered without completing a quorum changes nothing, so this covers
//!   every order of delivery. Justifications mix any honest ROUND-CHANGEs with any of the faulty one.
//! * Timers fire at any time (R4, and so R10, which lets one run out early), f+1 ROUND-CHANGEs pull up (R5), a justified proposal does too (R1).
//! * Every assignment of leaders to rounds, the faulty operator leading any number of them: what any
//!   leader policy could draw.
//! * Restarts: all is durable but the accepted proposal, which the own PREPARE brings back.
//!
//! # What is not
//!
//! Invalid values (an honest operator ignores them), values apart from their digests, other
//! instances, seals, and time. Liveness is not checked: with rounds bounded, a faulty last leader
//! leaves states from which nothing is decided. The simulator demands progress instead.
//!
//! # Bound
//!
//! Two values and a number of rounds. Two rounds are what an attack on agreement needs: a decision,
//! and a round change that loses it.

mod rules;
mod state;

pub use rules::Rules;
pub use state::{Claim, Honest, Leader, Operators, Prepared, Rounds, Said, State};

use stateright::{Model, Property};

/// Number of honest operators.
pub const HONEST: usize = 3;
/// f.
const FAULTY_MAX: usize = 1;
/// q = ceil(2n/3).
const QUORUM: usize = 3;

/// An honest operator.
pub type Operator = usize;
/// Attempt within the instance, from 0.
pub type Round = u8;

/// What is voted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Value {
    A,
    B,
}

impl Value {
    /// All values.
    pub const ALL: [Value; 2] = [Value::A, Value::B];
}

/// A guard that is removed, to see whether the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// 2f votes are taken for a quorum.
    QuorumOfTwoF,
    /// R1 does not ask whether something was prepared in this round.
    DoublePrepare,
    /// A restart loses everything the operator knew.
    RestartAmnesia,
    /// A proposal of a later round need not be the highest prepared value.
    IgnoreHighestPrepared,
    /// A ROUND-CHANGE may claim a prepared value without its PREPAREs.
    RoundChangeWithoutQuorum,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 5] = [
        Mutation::QuorumOfTwoF,
        Mutation::DoublePrepare,
        Mutation::RestartAmnesia,
        Mutation::IgnoreHighestPrepared,
        Mutation::RoundChangeWithoutQuorum,
    ];
}

/// Two honest operators never decide differently.
pub const AGREEMENT: &str = "agreement";
/// An honest operator makes one statement of each kind per round.
pub const ONE_STATEMENT: &str = "one statement per round and kind";
/// What was decided was committed by q operators in one round.
pub const DECISION_HAS_QUORUM: &str = "a decision has a quorum";
/// A restarted operator is where it was.
pub const RESTART_IS_NOTHING: &str = "a restart changes nothing";
/// A value is decided above round 0 because it was prepared before.
const DECIDED_AGAIN: &str = "a decision on a value prepared before";

/// The model: the rules and the bound.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// Number of rounds.
    pub rounds: Round,
    /// The guard that is missing, if any.
    pub mutation: Option<Mutation>,
    /// Whether the faulty operator leads every round, or every assignment of leaders is tried. It can do
    /// whatever an honest leader does, so for agreement the first is as good.
    pub faulty_leads: bool,
    /// Check this property alone. A search for one thing ends with the shortest way to it.
    pub only: Option<&'static str>,
}

impl Protocol {
    /// The protocol as it is.
    pub fn of_rounds(rounds: Round) -> Self {
        Self { rounds, mutation: None, faulty_leads: false, only: None }
    }

    /// The protocol with a guard missing, at two rounds, until `property` is broken.
    pub fn mutated(mutation: Mutation, property: &'static str) -> Self {
        Self { rounds: 2, mutation: Some(mutation), faulty_leads: true, only: Some(property) }
    }

    /// The property that shows a mutation soonest. Two statements in one round are no disagreement yet,
    /// but the shortest way to one.
    pub fn first_broken_by(mutation: Mutation) -> &'static str {
        match mutation {
            Mutation::DoublePrepare | Mutation::RestartAmnesia => ONE_STATEMENT,
            Mutation::QuorumOfTwoF | Mutation::IgnoreHighestPrepared | Mutation::RoundChangeWithoutQuorum => {
                AGREEMENT
            }
        }
    }

    fn rules(&self) -> Rules {
        Rules { mutation: self.mutation }
    }
}

/// One thing that one honest operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// START, R6.
    Propose { operator: Operator, value: Value },
    /// R1.
    Accept { operator: Operator, round: Round, value: Value },
    /// R2.
    Commit { operator: Operator, value: Value },
    /// R3, R8.
    Decide { operator: Operator, round: Round, value: Value },
    /// R4, R5.
    ChangeRound { operator: Operator, round: Round },
    /// R9.
    Seal { operator: Operator },
    /// A crash, and what is left of the operator afterwards.
    Restart { operator: Operator },
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    /// One per assignment of leaders, up to renaming the honest operators.
    fn init_states(&self) -> Vec<State> {
        let mut assignments: Vec<Vec<Leader>> = vec![Vec::new()];
        for _ in 0..self.rounds {
            assignments = assignments.iter().flat_map(|leaders| with_next_leader(leaders)).collect();
        }
        assignments.retain(|leaders| !self.faulty_leads || leaders.iter().all(|l| *l == Leader::Faulty));
        let state = |leaders| State { leaders, honest: Default::default(), said: Said::default() };
        assignments.into_iter().map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let rules = self.rules();
        for operator in 0..HONEST {
            for value in Value::ALL {
                if rules.proposes(state, operator, value) {
                    actions.push(Action::Propose { operator, value });
                }
                for round in 0..self.rounds {
                    if rules.accepts(state, operator, round, value) {
                        actions.push(Action::Accept { operator, round, value });
                    }
                    if rules.decides(state, operator, round, value) {
                        actions.push(Action::Decide { operator, round, value });
                    }
                }
            }
            if let Some(value) = rules.commits(state, operator) {
                actions.push(Action::Commit { operator, value });
            }
            for round in (0..self.rounds).filter(|round| rules.changes(state, operator, *round)) {
                actions.push(Action::ChangeRound { operator, round });
            }
            if rules.seals(state, operator).is_some() {
                actions.push(Action::Seal { operator });
            }
            actions.push(Action::Restart { operator });
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Propose { operator, value } => {
                let me = &mut state.honest[operator];
                me.proposed_in.insert(me.round);
                state.said.say(operator, me.round, Claim::Propose(value));
            }
            Action::Accept { operator, round, value } => {
                let me = &mut state.honest[operator];
                (me.round, me.accepted) = (round, Some(value));
                me.prepared_in.insert(round);
                state.said.say(operator, round, Claim::Prepare(value));
            }
            Action::Commit { operator, value } => {
                let me = &mut state.honest[operator];
                me.prepared = Some(Prepared { round: me.round, value });
                me.committed_in.insert(me.round);
                state.said.say(operator, me.round, Claim::Commit(value));
            }
            Action::Decide { operator, round, value } => {
                state.honest[operator].decided = Some((round, value));
            }
            Action::ChangeRound { operator, round } => {
                let me = &mut state.honest[operator];
                (me.round, me.accepted) = (round, None);
                state.said.say(operator, round, Claim::Change(me.prepared));
            }
            Action::Seal { operator } => {
                let (round, value) = self.rules().seals(last, operator)?;
                state.honest[operator].committed_in.insert(round);
                state.said.say(operator, round, Claim::Commit(value));
            }
            Action::Restart { operator } => state.honest[operator] = self.restarted(last, operator),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(AGREEMENT, |_, state| agreement(state)),
            Property::always(ONE_STATEMENT, |_, state| one_statement(state)),
            Property::always(DECISION_HAS_QUORUM, |_, state| decisions_have_quorums(state)),
            Property::always(RESTART_IS_NOTHING, |model: &Protocol, state| {
                (0..HONEST).all(|operator| model.restarted(state, operator) == state.honest[operator])
            }),
            Property::sometimes("a decision in round 0", |_, state| decided_in(state, 0)),
            Property::sometimes(DECIDED_AGAIN, |_, state| decided_again(state)),
            Property::sometimes("A is decided", |_, state| decided(state, Value::A)),
            Property::sometimes("B is decided", |_, state| decided(state, Value::B)),
        ];
        properties.retain(|property| self.rounds > 1 || property.name != DECIDED_AGAIN);
        properties.retain(|property| self.only.is_none_or(|only| property.name == only));
        properties
    }
}

impl Protocol {
    fn restarted(&self, state: &State, operator: Operator) -> Honest {
        if self.mutation == Some(Mutation::RestartAmnesia) {
            return Honest::default();
        }
        let before = &state.honest[operator];
        let own = |value: &Value| state.said.by(before.round, Claim::Prepare(*value)).contains(operator);
        Honest { accepted: Value::ALL.into_iter().find(own), ..before.clone() }
    }
}

/// The assignments one round longer. A new honest leader has the first name nobody led under yet.
fn with_next_leader(leaders: &[Leader]) -> Vec<Vec<Leader>> {
    let named = leaders.iter().filter_map(|leader| match leader {
        Leader::Honest(operator) => Some(operator + 1),
        Leader::Faulty => None,
    });
    let names = named.max().unwrap_or(0) + 1;
    let honest = (0..names.min(HONEST)).map(Leader::Honest);
    std::iter::once(Leader::Faulty).chain(honest).map(|next| [leaders, &[next]].concat()).collect()
}

fn decisions(state: &State) -> impl Iterator<Item = (Round, Value)> {
    state.honest.iter().filter_map(|honest| honest.decided)
}

fn agreement(state: &State) -> bool {
    Value::ALL.into_iter().filter(|value| decided(state, *value)).count() <= 1
}

fn one_statement(state: &State) -> bool {
    (0..HONEST).all(|operator| {
        (0..state.leaders.len() as Round).all(|round| {
            let own: Vec<Claim> = state
                .said
                .of(round)
                .filter(|(_, authors)| authors.contains(operator))
                .map(|(claim, _)| claim)
                .collect();
            own.iter().all(|one| own.iter().all(|other| !one.contradicts(*other)))
        })
    })
}

/// Counts for itself, and not by the rule that made the decision.
fn decisions_have_quorums(state: &State) -> bool {
    decisions(state)
        .all(|(round, value)| state.said.by(round, Claim::Commit(value)).count() + FAULTY_MAX >= QUORUM)
}

fn decided_in(state: &State, round: Round) -> bool {
    decisions(state).any(|(of, _)| of == round)
}

fn decided(state: &State, value: Value) -> bool {
    decisions(state).any(|(_, of)| of == value)
}

/// A decision above round 0, on what a ROUND-CHANGE of that round called prepared.
fn decided_again(state: &State) -> bool {
    decisions(state).any(|(round, value)| {
        let mut changes = state.said.of(round);
        changes.any(|(claim, _)| matches!(claim, Claim::Change(Some(prepared)) if prepared.value == value))
    })
}
