//! What the agreement asks of this operator: who leads, whether a value may be prepared, its signature.

use crate::Definition;
use crate::agreement::{dealings_of, leader};
use crate::board::Board;
use crate::secrets::Secrets;
use crate::statement::{Claim, DealingId, Place};
use aequa_qbft::{Host, Justified, Validity};
use aequa_types::{OperatorIndex, Round, Signed, Statement, Value};

pub(super) struct Judge<'a> {
    pub definition: &'a Definition,
    pub me: OperatorIndex,
    pub secrets: &'a Secrets,
    pub board: &'a Board,
}

impl Host for Judge<'_> {
    fn leader(&self, round: Round) -> OperatorIndex {
        leader(self.definition, round)
    }

    // R6
    fn validate(&mut self, round: Round, value: &Value, justified: Justified) -> Validity {
        let Some(dealings) = dealings_of(self.definition, value) else {
            return Validity::Invalid("no list of enough dealers".into());
        };
        match justified {
            Justified::Fresh if dealings.len() < self.definition.dealings_of_round(round) => {
                Validity::Invalid("fewer dealings than an early round asks for".into())
            }
            // f+1 honest operators found it valid. What became known since then must not keep a value from being
            // decided that may be decided already.
            Justified::Prepared => Validity::Valid,
            Justified::Fresh => {
                let judged =
                    dealings.into_iter().map(|dealing| judge(self.definition, self.board, self.me, dealing));
                judged.fold(Validity::Valid, worse)
            }
        }
    }

    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        // The instance remembers what it signed, the transcript holds it, and the output asks the transcript.
        let sign = || self.secrets.identity().sign_statement(&self.definition.agreement(), statement);
        self.definition.is_receiver(self.me).then(sign)
    }
}

/// Whether a dealing may be qualified, as far as is known here. What is lacking comes in time, since everybody sends
/// everything to who lacks it.
pub(super) fn judge(
    definition: &Definition,
    board: &Board,
    me: OperatorIndex,
    dealing: DealingId,
) -> Validity {
    if !board.is_eligible(dealing.dealer) {
        return Validity::Invalid(format!("operator {} is guilty", dealing.dealer));
    }
    let is_acked =
        board.said(me, Place::Ack(dealing.dealer)).is_some_and(|ack| ack.claim == Claim::Ack(dealing));
    let is_held_by_quorum = board.acks(dealing) >= definition.quorum().quorum();
    if is_acked && board.is_certified(dealing) && is_held_by_quorum {
        Validity::Valid
    } else {
        Validity::Unknown
    }
}

fn worse(one: Validity, other: Validity) -> Validity {
    match (one, other) {
        (Validity::Invalid(reason), _) | (_, Validity::Invalid(reason)) => Validity::Invalid(reason),
        (Validity::Unknown, _) | (_, Validity::Unknown) => Validity::Unknown,
        (Validity::Valid, Validity::Valid) => Validity::Valid,
    }
}
