//! Cheap deterministic keys: everything is a keyed hash that everybody can recompute.
//!
//! No operator of a run breaks cryptography; a traitor signs with its own key only, because the
//! simulator makes no other signature for it. So unforgeability needs no hardness here.

use aequa_byzantine::Unguarded;
use aequa_replica::{Keys, Permit};
use aequa_types::{Decision, OperatorIndex, Seal, Signature, Signed, Statement};
use ssz::Encode;
use std::collections::BTreeSet;

/// The secret keys of one operator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimKeys {
    pub(crate) seals: bool,
    pub(crate) operator: OperatorIndex,
}

impl Keys for SimKeys {
    fn sign(&self, permit: Permit) -> Signed {
        sign(self.operator, permit.into_statement())
    }

    fn share(&self, permit: &Permit) -> Option<Seal> {
        let decision = permit.statement().decision().filter(|_| self.seals)?;
        Some(share(self.operator, decision))
    }
}

/// Of traitors, who give shares also where seals are off.
impl Unguarded for SimKeys {
    fn operator(&self) -> OperatorIndex {
        self.operator
    }

    fn sign(&self, statement: Statement) -> Signed {
        sign(self.operator, statement)
    }

    fn share(&self, decision: Decision) -> Option<Seal> {
        Some(share(self.operator, decision))
    }
}

/// `operator`'s signature over `statement`, whoever its author claims to be.
pub(crate) fn sign(operator: OperatorIndex, statement: Statement) -> Signed {
    let signature = signature(operator, &statement);
    Signed { statement, signature }
}

/// Whether the author made this statement.
pub(crate) fn holds(signed: &Signed) -> bool {
    signed.signature == signature(signed.author, &signed.statement)
}

/// `operator`'s share of the seal.
pub(crate) fn share(operator: OperatorIndex, decision: Decision) -> Seal {
    seal(u64::from(operator.0) + 1, decision)
}

/// The group's seal.
pub(crate) fn group_seal(decision: Decision) -> Seal {
    seal(0, decision)
}

/// Combines shares as the sealing thread does: the group seal, or who spoilt it; from fewer than `quorum`
/// nobody's fault, and no seal.
pub(crate) fn combine(
    quorum: usize,
    decision: Decision,
    shares: &[(OperatorIndex, Seal)],
) -> Result<Seal, Vec<OperatorIndex>> {
    let bad: Vec<OperatorIndex> = shares
        .iter()
        .filter(|(operator, given)| *given != share(*operator, decision))
        .map(|(operator, _)| *operator)
        .collect();
    let distinct: BTreeSet<OperatorIndex> = shares.iter().map(|(operator, _)| *operator).collect();
    let whole = bad.is_empty() && distinct.len() >= quorum;
    if whole { Ok(group_seal(decision)) } else { Err(bad) }
}

/// A 64-bit fingerprint; not for adversaries.
pub(crate) fn fingerprint(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(start ^ bytes.len() as u64), |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(state ^ u64::from_le_bytes(word))
    })
}

/// Spreads every bit of `word` over the result.
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let word = (word ^ (word >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word ^ (word >> 32)
}

fn signature(operator: OperatorIndex, statement: &Statement) -> Signature {
    let tag = fingerprint(u64::from(operator.0), &statement.as_ssz_bytes());
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8..16].copy_from_slice(&mix(tag).to_le_bytes());
    Signature::from(bytes)
}

fn seal(maker: u64, Decision { instance, round, digest }: Decision) -> Seal {
    let mut preimage = instance.as_ssz_bytes();
    preimage.extend_from_slice(&round.0.to_le_bytes());
    preimage.extend_from_slice(digest.as_slice());
    let tag = fingerprint(mix(maker ^ 0x5EA1), &preimage);
    let mut bytes = [0; 48];
    bytes[..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8..16].copy_from_slice(&mix(tag).to_le_bytes());
    Seal::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::{at, digest};
    use aequa_types::Round;

    fn prepare(author: u8) -> Statement {
        aequa_testkit::prepare(at(3), 1, digest(4)).statement(author)
    }

    #[test]
    fn a_statement_signed_with_another_key_does_not_hold() {
        assert!(holds(&sign(OperatorIndex(1), prepare(1))));
        assert!(!holds(&sign(OperatorIndex(2), prepare(1))));
    }

    #[test]
    fn a_share_of_another_round_is_named_as_bad() {
        let of = |round| Decision { instance: at(3), round: Round(round), digest: digest(4) };
        let shares = [0u8, 1, 2].map(|operator| {
            let operator = OperatorIndex(operator);
            (operator, share(operator, of(u64::from(operator.0 / 2))))
        });
        assert_eq!(combine(3, of(0), &shares), Err(vec![OperatorIndex(2)]));
        assert!(combine(2, of(0), &shares[..2]).is_ok());
        assert_eq!(combine(3, of(0), &shares[..2]), Err(Vec::new()), "too few");
    }
}
