//! What the model remembers: the honest operators, and everything any of them ever said.

use super::{HONEST, Operator, Round, Value};
use std::collections::BTreeMap;

/// A (round, value) that a quorum prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prepared {
    /// Round of the PREPARE quorum.
    pub round: Round,
    /// What it names.
    pub value: Value,
}

/// What a statement claims. Signatures cannot be forged, so it is known who said what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// PREPREPARE.
    Propose(Value),
    /// PREPARE.
    Prepare(Value),
    /// COMMIT.
    Commit(Value),
    /// ROUND-CHANGE, with what its author last saw prepared.
    Change(Option<Prepared>),
}

impl Claim {
    /// Whether one operator must not say both of these in one round.
    pub fn contradicts(self, other: Claim) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other) && self != other
    }
}

/// A set of honest operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operators(u8);

impl Operators {
    /// Whether `operator` is one of them.
    pub fn contains(self, operator: Operator) -> bool {
        self.0 & (1 << operator) != 0
    }

    /// How many they are.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    fn with(self, operator: Operator) -> Self {
        Self(self.0 | (1 << operator))
    }
}

/// The network: what honest operators said, for ever. It is never lost and may be delivered to
/// anybody at any time or never, so a rule may fire as soon as what it needs has been said.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Said(BTreeMap<(Round, Claim), Operators>);

impl Said {
    /// Adds a statement.
    pub fn say(&mut self, author: Operator, round: Round, claim: Claim) {
        let authors = self.0.entry((round, claim)).or_default();
        *authors = authors.with(author);
    }

    /// The honest operators that made a statement.
    pub fn by(&self, round: Round, claim: Claim) -> Operators {
        self.0.get(&(round, claim)).copied().unwrap_or_default()
    }

    /// Every statement of one round with its authors.
    pub fn of(&self, round: Round) -> impl Iterator<Item = (Claim, Operators)> {
        self.0.iter().filter(move |((of, _), _)| *of == round).map(|((_, claim), authors)| (*claim, *authors))
    }

    /// The highest round for which somebody but `operator` sent a ROUND-CHANGE.
    pub fn highest_change_beside(&self, operator: Operator) -> Option<Round> {
        let others =
            |authors: &Operators| (0..HONEST).any(|other| other != operator && authors.contains(other));
        let mut changes = self.0.iter().filter(|((_, claim), _)| matches!(claim, Claim::Change(_)));
        changes.rfind(|(_, authors)| others(authors)).map(|((round, _), _)| *round)
    }
}

/// Rounds in which an operator knows it has made a statement of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rounds(u8);

impl Rounds {
    /// Whether `round` is one of them.
    pub fn contains(self, round: Round) -> bool {
        self.0 & (1 << round) != 0
    }

    /// Adds a round.
    pub fn insert(&mut self, round: Round) {
        self.0 |= 1 << round;
    }
}

/// One honest operator. All but `accepted` is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Honest {
    /// The round it is in.
    pub round: Round,
    /// The proposal accepted in this round.
    pub accepted: Option<Value>,
    /// The last PREPARE quorum it acted on.
    pub prepared: Option<Prepared>,
    /// Rounds of its PREPREPAREs.
    pub proposed_in: Rounds,
    /// Rounds of its PREPAREs.
    pub prepared_in: Rounds,
    /// Rounds of its COMMITs.
    pub committed_in: Rounds,
    /// What it decided, and the round of the commits.
    pub decided: Option<(Round, Value)>,
}

/// Who leads a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leader {
    /// The faulty operator.
    Faulty,
    /// An honest one.
    Honest(Operator),
}

/// The whole of the cluster but the faulty operator, which has no state: it can always say anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// Who leads each round; fixed from the start.
    pub leaders: Vec<Leader>,
    /// The honest operators.
    pub honest: [Honest; HONEST],
    /// What they said.
    pub said: Said,
}

impl State {
    /// The state with the honest operators in another order: operator `i` becomes `order[i]`.
    fn renamed(&self, order: [Operator; HONEST]) -> Self {
        let mut honest = self.honest.clone();
        for (from, to) in order.into_iter().enumerate() {
            honest[to] = self.honest[from].clone();
        }
        let rename = |authors: Operators| {
            (0..HONEST)
                .filter(|i| authors.contains(*i))
                .fold(Operators::default(), |all, i| all.with(order[i]))
        };
        let said = self.said.0.iter().map(|(statement, authors)| (*statement, rename(*authors))).collect();
        let leaders = self.leaders.iter().map(|leader| match leader {
            Leader::Honest(operator) => Leader::Honest(order[*operator]),
            Leader::Faulty => Leader::Faulty,
        });
        Self { leaders: leaders.collect(), honest, said: Said(said) }
    }

    /// Everything about an operator but its name: it, the rounds it leads, what it said.
    fn anonymous(&self, operator: Operator) -> (&Honest, Vec<bool>, Vec<bool>) {
        let leads = self.leaders.iter().map(|leader| *leader == Leader::Honest(operator)).collect();
        (
            &self.honest[operator],
            leads,
            self.said.0.values().map(|authors| authors.contains(operator)).collect(),
        )
    }
}

/// Nothing tells the honest operators apart but their names: of all ways to name them, the one that
/// sorts them. Those that sort alike are alike in everything.
impl stateright::Representative for State {
    fn representative(&self) -> Self {
        let mut sorted: [Operator; HONEST] = std::array::from_fn(|operator| operator);
        sorted.sort_by_cached_key(|operator| self.anonymous(*operator));
        let mut order = [0; HONEST];
        for (name, operator) in sorted.into_iter().enumerate() {
            order[operator] = name;
        }
        self.renamed(order)
    }
}
