//! The rules and predicates of QBFT as the reference states them, each as a question about a state.

use super::state::{Claim, Leader, Prepared, State};
use super::{FAULTY_MAX, HONEST, Mutation, Operator, QUORUM, Round, Value};
use std::collections::BTreeSet;

/// The rules in force: those of the protocol, or with one guard removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The guard that is missing.
    pub mutation: Option<Mutation>,
}

impl Rules {
    /// How many distinct operators decide.
    fn quorum(self) -> usize {
        if self.mutation == Some(Mutation::QuorumOfTwoF) { 2 * FAULTY_MAX } else { QUORUM }
    }

    /// Whether q operators can be shown to have made a statement: the faulty one has if that helps.
    fn is_quorum(self, state: &State, round: Round, claim: Claim) -> bool {
        state.said.by(round, claim).count() + FAULTY_MAX >= self.quorum()
    }

    /// R1: whether `operator` may accept a proposal of `value` in `round`.
    pub fn accepts(self, state: &State, operator: Operator, round: Round, value: Value) -> bool {
        let me = &state.honest[operator];
        let open = round > me.round || (round == me.round && me.accepted.is_none());
        let first = !me.prepared_in.contains(round);
        let free = self.mutation == Some(Mutation::DoublePrepare) && round >= me.round;
        let proposed = match state.leaders[usize::from(round)] {
            Leader::Faulty => true,
            Leader::Honest(leader) => state.said.by(round, Claim::Propose(value)).contains(leader),
        };
        me.decided.is_none() && (free || (open && first)) && proposed && self.justified(state, round, value)
    }

    /// R2: the value whose PREPARE quorum lets `operator` commit in its round.
    pub fn commits(self, state: &State, operator: Operator) -> Option<Value> {
        let me = &state.honest[operator];
        let open = me.decided.is_none() && !me.committed_in.contains(me.round);
        me.accepted.filter(|value| open && self.is_quorum(state, me.round, Claim::Prepare(*value)))
    }

    /// R3 and R8: whether q COMMITs of one round can be shown for `value`.
    pub fn decides(self, state: &State, operator: Operator, round: Round, value: Value) -> bool {
        state.honest[operator].decided.is_none() && self.is_quorum(state, round, Claim::Commit(value))
    }

    /// R4 and R5: whether `operator` may give up its round for `round`. The timer may fire at any time;
    /// f+1 ROUND-CHANGEs are one of an honest operator at or above `round` and one of the faulty.
    pub fn changes(self, state: &State, operator: Operator, round: Round) -> bool {
        let me = &state.honest[operator];
        let timer = round == me.round + 1;
        let ahead = || state.said.highest_change_beside(operator).is_some_and(|highest| highest >= round);
        me.decided.is_none() && (timer || (round > me.round && ahead()))
    }

    /// START and R6: whether `operator`, leading its round, may propose `value`.
    pub fn proposes(self, state: &State, operator: Operator, value: Value) -> bool {
        let me = &state.honest[operator];
        let leads = state.leaders[usize::from(me.round)] == Leader::Honest(operator);
        leads
            && me.decided.is_none()
            && !me.proposed_in.contains(me.round)
            && self.justified(state, me.round, value)
    }

    /// R9: what `operator` decided without having committed in that round.
    pub fn seals(self, state: &State, operator: Operator) -> Option<(Round, Value)> {
        let me = &state.honest[operator];
        me.decided.filter(|(round, _)| !me.committed_in.contains(*round))
    }

    /// Whether a justification of PREPREPARE(round, value) can be put together from what was said.
    fn justified(self, state: &State, round: Round, value: Value) -> bool {
        round == 0
            || self.highest_prepared(state, round).into_iter().any(|highest| match highest {
                None => true,
                Some(prepared) => {
                    prepared.value == value || self.mutation == Some(Mutation::IgnoreHighestPrepared)
                }
            })
    }

    /// `HighestPrepared(Q)` for every Q of q ROUND-CHANGEs of `round`. Nothing when there is no such Q.
    fn highest_prepared(self, state: &State, round: Round) -> BTreeSet<Option<Prepared>> {
        let mut choices = BTreeSet::from([(0, None)]);
        for operator in 0..HONEST {
            let own: Vec<Option<Prepared>> = state
                .said
                .of(round)
                .filter(|(_, authors)| authors.contains(operator))
                .filter_map(|(claim, _)| match claim {
                    Claim::Change(prepared) => Some(prepared),
                    _ => None,
                })
                .collect();
            add_one_of(&mut choices, &own);
        }
        add_one_of(&mut choices, &self.claims_of_the_faulty(state, round));
        choices.into_iter().filter(|(count, _)| *count == self.quorum()).map(|(_, highest)| highest).collect()
    }

    /// What the faulty operator's ROUND-CHANGE may claim: nothing, or what it can show PREPAREs for.
    fn claims_of_the_faulty(self, state: &State, round: Round) -> Vec<Option<Prepared>> {
        let unproven = self.mutation == Some(Mutation::RoundChangeWithoutQuorum);
        let claims = (0..round)
            .flat_map(|round| Value::ALL.map(|value| Prepared { round, value }))
            .filter(|p| unproven || self.is_quorum(state, p.round, Claim::Prepare(p.value)));
        std::iter::once(None).chain(claims.map(Some)).collect()
    }
}

/// Extends every choice of ROUND-CHANGEs (how many, and what is highest) by one of one more author.
fn add_one_of(choices: &mut BTreeSet<(usize, Option<Prepared>)>, claims: &[Option<Prepared>]) {
    for (count, highest) in choices.clone() {
        for claim in claims {
            let round = |prepared: &Option<Prepared>| prepared.map(|prepared| prepared.round);
            // Two values prepared in one round: the one shown may be either.
            if round(claim) >= round(&highest) {
                choices.insert((count + 1, *claim));
            }
            if round(&highest) >= round(claim) {
                choices.insert((count + 1, highest));
            }
        }
    }
}
