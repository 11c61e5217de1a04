//! The agreement on the qualified dealers: one instance of `aequa-qbft` over an opaque value.
//!
//! Its value is the list of dealers, ascending, each with the hash of its dealing. It travels as the value of a duty
//! whose kind and slot mean nothing here, under [`Definition::agreement`], a name that signs nothing else.

use crate::limits::ROUND_MAX;
use crate::statement::DealingId;
use crate::{Definition, Refusal};
use aequa_types::message::ValueReply;
use aequa_types::{
    Certificate, DutyId, DutyKind, InstanceId, Kind, Message, OperatorIndex, PrePrepare, Proof, Round,
    Signed, Slot, Value, ValueBytes, Verified,
};
use ssz::{Decode as _, Encode as _};

const DUTY: DutyId = DutyId { kind: DutyKind::Attester, slot: Slot(0) };
/// The one instance of a ceremony.
pub(crate) const INSTANCE: InstanceId = InstanceId::Duty(DUTY);

/// The value that qualifies these dealings.
pub(crate) fn value_of(dealings: &[DealingId]) -> Value {
    Value::duty(DUTY, ValueBytes(dealings.to_vec().as_ssz_bytes().into()))
}

/// A value from its bytes.
pub(crate) fn value(bytes: ValueBytes) -> Value {
    Value::duty(DUTY, bytes)
}

/// The dealings that a value qualifies, if there are enough, ascending, of dealers.
pub(crate) fn dealings_of(definition: &Definition, value: &Value) -> Option<Vec<DealingId>> {
    let bytes = &value.bytes().0;
    if bytes.len() > definition.participants().count() * <DealingId as ssz::Encode>::ssz_fixed_len() {
        return None;
    }
    let dealings = Vec::<DealingId>::from_ssz_bytes(bytes).ok()?;
    let is_ascending = dealings.windows(2).all(|pair| pair[0].dealer < pair[1].dealer);
    let are_members = dealings.iter().all(|dealing| definition.is_dealer(dealing.dealer));
    (is_ascending && are_members && dealings.len() >= definition.dealings_needed()).then_some(dealings)
}

/// Who leads a round: all in turn.
pub(crate) fn leader(definition: &Definition, round: Round) -> OperatorIndex {
    // Below the number of operators, which is a byte.
    OperatorIndex((round.0 % definition.quorum().operators() as u64) as u8)
}

/// Checks everything about a message that needs no state: sizes, form, members, signatures.
pub(crate) fn check(definition: &Definition, message: Message) -> Result<Verified, Refusal> {
    if message.instance() != INSTANCE {
        return Err(Refusal::Nonsense("vote of another instance"));
    }
    match message {
        Message::PrePrepare(message) => pre_prepare(definition, message),
        Message::Prepare(vote) => {
            check_vote(definition, &vote, Kind::Prepare)?;
            Ok(Verified::Prepare(vote))
        }
        Message::Commit(vote) => {
            check_vote(definition, &vote, Kind::Commit)?;
            Ok(Verified::Commit(vote))
        }
        Message::RoundChange(message) => {
            check_vote(definition, &message.change, Kind::RoundChange)?;
            check_votes(definition, &message.prepares, Kind::Prepare)?;
            Ok(Verified::RoundChange(message))
        }
        Message::Decided(message) => {
            check_certificate(definition, &message.certificate)?;
            Ok(Verified::Decided(message.certificate))
        }
        Message::ValueRequest(request) => Ok(Verified::ValueRequest(request)),
        Message::ValueReply(ValueReply { instance, value }) => {
            Ok(Verified::ValueReply { instance, value: checked_value(definition, value)? })
        }
    }
}

fn pre_prepare(definition: &Definition, message: PrePrepare) -> Result<Verified, Refusal> {
    let PrePrepare { proposal, value, round_changes, prepares } = message;
    let value = checked_value(definition, value)?;
    if proposal.digest() != Some(value.digest()) {
        return Err(Refusal::Nonsense("value is not the proposed one"));
    }
    check_vote(definition, &proposal, Kind::PrePrepare)?;
    check_votes(definition, &round_changes, Kind::RoundChange)?;
    check_votes(definition, &prepares, Kind::Prepare)?;
    Ok(Verified::PrePrepare { proposal, value, round_changes, prepares })
}

fn checked_value(definition: &Definition, bytes: ValueBytes) -> Result<Value, Refusal> {
    let value = value(bytes);
    let is_list = dealings_of(definition, &value).is_some();
    if is_list { Ok(value) } else { Err(Refusal::Nonsense("value is no list of enough dealers")) }
}

/// A certificate holds when q operators committed, each of them once. The seal of a group is none yet.
pub(crate) fn check_certificate(definition: &Definition, certificate: &Certificate) -> Result<(), Refusal> {
    let Proof::Commits(commits) = &certificate.proof else {
        return Err(Refusal::Nonsense("certificate with a seal of a key that does not exist"));
    };
    let is_ascending = commits.windows(2).all(|pair| pair[0].operator < pair[1].operator);
    if !is_ascending || commits.len() < definition.quorum().quorum() {
        return Err(Refusal::Nonsense("certificate without a quorum"));
    }
    check_votes(definition, &certificate.commits(), Kind::Commit)
}

fn check_votes(definition: &Definition, votes: &[Signed], kind: Kind) -> Result<(), Refusal> {
    if votes.len() > definition.quorum().operators() {
        return Err(Refusal::Nonsense("more votes than operators"));
    }
    votes.iter().try_for_each(|vote| check_vote(definition, vote, kind))
}

fn check_vote(definition: &Definition, vote: &Signed, kind: Kind) -> Result<(), Refusal> {
    if vote.kind() != kind || vote.instance != INSTANCE || vote.round.0 > ROUND_MAX {
        return Err(Refusal::Nonsense("vote of another kind, instance or age"));
    }
    let author = definition.receiver(vote.author).ok_or(Refusal::NotMember(vote.author))?;
    let held = author.identity.verify(&definition.agreement(), vote);
    held.map_err(|_| Refusal::BadSignature(vote.author))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{definition, identity};
    use aequa_types::message::Decided;
    use aequa_types::statement::CommitClaim;
    use aequa_types::{Claim, ClusterId, Digest, Seal, Statement};

    fn dealings(dealers: &[u8]) -> Vec<DealingId> {
        let dealing =
            |dealer: &u8| DealingId { dealer: OperatorIndex(*dealer), hash: Digest::repeat_byte(*dealer) };
        dealers.iter().map(dealing).collect()
    }

    fn vote(cluster: &ClusterId, author: u8, claim: Claim) -> Signed {
        let statement =
            Statement { instance: INSTANCE, round: Round(0), author: OperatorIndex(author), claim };
        identity(author).sign_statement(cluster, statement)
    }

    #[test]
    fn a_value_is_a_list_of_enough_dealers_in_order() {
        let definition = definition(4, 1);
        for dealers in [&[0, 1][..], &[0, 1, 2], &[1, 2, 3], &[0, 1, 2, 3]] {
            let value = value_of(&dealings(dealers));
            assert_eq!(dealings_of(&definition, &value), Some(dealings(dealers)));
        }
        for dealers in [&[0][..], &[0, 2, 1], &[0, 1, 1], &[1, 2, 4], &[0, 1, 2, 3, 4]] {
            assert_eq!(dealings_of(&definition, &value_of(&dealings(dealers))), None, "{dealers:?}");
        }
        assert_eq!(dealings_of(&definition, &value(ValueBytes(vec![0; 34].into()))), None);
    }

    #[test]
    fn votes_are_believed_under_the_name_of_the_agreement_only() {
        let definition = definition(4, 1);
        let claim = || Claim::Prepare(Digest::ZERO);
        let good = vote(&definition.agreement(), 1, claim());
        assert!(check(&definition, Message::Prepare(good.clone())).is_ok());
        assert!(check(&definition, Message::Commit(good)).is_err(), "of another kind");
        let of_cluster = vote(&definition.ceremony(), 1, claim());
        let refused = check(&definition, Message::Prepare(of_cluster));
        assert_eq!(refused, Err(Refusal::BadSignature(OperatorIndex(1))));
    }

    #[test]
    fn a_certificate_needs_a_quorum_of_distinct_commits() {
        let definition = definition(4, 1);
        let digest = value_of(&dealings(&[0, 1, 2])).digest();
        let commit =
            |author| vote(&definition.agreement(), author, Claim::Commit(CommitClaim { digest, seal: None }));
        let decided = |authors: &[u8]| {
            let commits: Vec<Signed> = authors.iter().map(|author| commit(*author)).collect();
            let certificate = Certificate::from_commits(INSTANCE, Round(0), digest, &commits);
            check(&definition, Message::Decided(Decided { certificate }))
        };
        assert!(decided(&[0, 2, 3]).is_ok());
        assert!(decided(&[0, 2]).is_err() && decided(&[0, 0, 2]).is_err());
        let sealed =
            Certificate { instance: INSTANCE, round: Round(0), digest, proof: Proof::Group(Seal::ZERO) };
        assert!(check_certificate(&definition, &sealed).is_err());
    }
}
