//! Signatures that do not hold, in places where one is looked for.

use crate::{Dice, Unguarded};
use aequa_types::{Claim, Decision, Digest, Message, Seal, Signature, Signed};

/// No point of the curve.
const NO_POINT: Seal = Seal::repeat_byte(0xBA);

/// PREPAREs with bent, swapped, empty and random signatures.
pub fn prepares(keys: &impl Unguarded, dice: &mut Dice, of: Decision) -> [Message; 5] {
    let good = keys.prepare(of);
    let other = keys.prepare(Decision { round: of.round.next(), ..of });
    let mut bent = good.signature;
    let bit = dice.index(512);
    bent.0[bit / 8] ^= 1 << (bit % 8);
    let random = Signature::from(dice.bytes::<64>());
    [bent, other.signature, Signature::ZERO, random, Signature::repeat_byte(0xff)]
        .map(|signature| Message::Prepare(Signed { signature, ..good.clone() }))
}

/// COMMITs, signed well, whose share is no point, or that of another digest.
pub fn commits(keys: &impl Unguarded, of: Decision) -> Vec<Message> {
    let borrowed = keys.share(Decision { digest: Digest::ZERO, ..of });
    let seals = [Some(NO_POINT), borrowed].into_iter().flatten();
    seals.map(|seal| Message::Commit(with_seal(keys, keys.commit(of), seal))).collect()
}

/// Spoils the share of a COMMIT that has one and signs it again; whether there was one.
pub fn spoil(keys: &impl Unguarded, message: &mut Message) -> bool {
    let Message::Commit(vote) = message else { return false };
    let sealed = matches!(&vote.claim, Claim::Commit(commit) if commit.seal.is_some());
    if sealed {
        *vote = with_seal(keys, vote.clone(), NO_POINT);
    }
    sealed
}

fn with_seal(keys: &impl Unguarded, vote: Signed, seal: Seal) -> Signed {
    let mut statement = vote.statement;
    if let Claim::Commit(commit) = &mut statement.claim {
        commit.seal = Some(seal);
    }
    keys.sign(statement)
}
