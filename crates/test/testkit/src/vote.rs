//! What operators say, with signatures that name their author: nobody forges, operators lie.

use aequa_types::message::ValueReply;
use aequa_types::statement::{CommitClaim, RoundChangeClaim};
use aequa_types::{
    Certificate, CheckedEvidence, Claim, Digest, DutyId, Evidence, Height, InstanceId, Message,
    OperatorIndex, PrePrepare, Prepared, Round, Seal, Signature, Signed, Statement, Value, ValueBytes,
    Verified,
};

/// The instance of a block.
pub fn at(height: u64) -> InstanceId {
    InstanceId::Block(Height(height))
}

/// A digest of nothing.
pub fn digest(byte: u8) -> Digest {
    Digest::repeat_byte(byte)
}

/// What a client posted for a duty.
pub fn duty_value(duty: DutyId, bytes: impl AsRef<[u8]>) -> Value {
    Value::duty(duty, ValueBytes(bytes.as_ref().into()))
}

/// What may be said in a place, by an operator yet to be named.
#[derive(Debug, Clone)]
pub struct Vote {
    pub(crate) instance: InstanceId,
    pub(crate) round: Round,
    pub(crate) claim: Claim,
    pub(crate) has_share: bool,
}

/// Any claim.
pub fn vote(instance: impl Into<InstanceId>, round: u64, claim: Claim) -> Vote {
    Vote { instance: instance.into(), round: Round(round), claim, has_share: false }
}

/// A PREPREPARE without its value.
pub fn preprepare(instance: impl Into<InstanceId>, round: u64, digest: Digest) -> Vote {
    vote(instance, round, Claim::PrePrepare(digest))
}

/// A PREPARE.
pub fn prepare(instance: impl Into<InstanceId>, round: u64, digest: Digest) -> Vote {
    vote(instance, round, Claim::Prepare(digest))
}

/// A COMMIT without a share of the seal.
pub fn commit(instance: impl Into<InstanceId>, round: u64, digest: Digest) -> Vote {
    vote(instance, round, Claim::Commit(CommitClaim { digest, seal: None }))
}

/// A ROUND-CHANGE into `round`, with what was prepared before.
pub fn change(instance: impl Into<InstanceId>, round: u64, prepared: Option<(u64, Digest)>) -> Vote {
    let prepared = prepared.map(|(round, digest)| Prepared { round: Round(round), digest });
    vote(instance, round, Claim::RoundChange(RoundChangeClaim { prepared }))
}

impl Vote {
    /// A COMMIT with its author's share of the seal.
    pub fn with_share(self) -> Self {
        Self { has_share: true, ..self }
    }

    /// What this operator says; its share is one that names it.
    pub fn statement(&self, author: u8) -> Statement {
        self.completed(author, |_| Seal::repeat_byte(author))
    }

    /// The same with a signature that names it.
    pub fn by(&self, author: u8) -> Signed {
        Signed { statement: self.statement(author), signature: Signature::repeat_byte(author) }
    }

    /// The same of each of them.
    pub fn by_each(&self, authors: impl IntoIterator<Item = u8>) -> Vec<Signed> {
        authors.into_iter().map(|author| self.by(author)).collect()
    }

    /// A certificate of the COMMITs of each of them.
    pub fn certificate(&self, authors: impl IntoIterator<Item = u8>) -> Certificate {
        self.certificate_of(&self.by_each(authors))
    }

    pub(crate) fn certificate_of(&self, commits: &[Signed]) -> Certificate {
        let digest = self.statement(0).digest().unwrap();
        Certificate::from_commits(self.instance, self.round, digest, commits)
    }

    pub(crate) fn completed(&self, author: u8, share: impl FnOnce(&Statement) -> Seal) -> Statement {
        let Self { instance, round, claim, has_share } = self.clone();
        let mut statement = Statement { instance, round, author: OperatorIndex(author), claim };
        let share = has_share.then(|| share(&statement));
        if let Claim::Commit(CommitClaim { seal, .. }) = &mut statement.claim {
            *seal = share.or(*seal);
        }
        statement
    }
}

/// Two PREPAREs of one operator in one place.
pub fn double_vote(author: u8, instance: impl Into<InstanceId>, round: u64) -> CheckedEvidence {
    let instance = instance.into();
    let vote = |byte| prepare(instance, round, digest(byte)).by(author);
    CheckedEvidence::attest(Evidence::new(vote(1), vote(2)).unwrap())
}

/// A proposal that justifies nothing.
pub fn unjustified(proposal: Signed, value: ValueBytes) -> PrePrepare {
    PrePrepare { proposal, value, round_changes: Vec::new(), prepares: Vec::new() }
}

/// A message whose signatures are believed; none when its value cannot be decoded.
pub fn believed(message: Message, value: impl FnOnce(ValueBytes) -> Option<Value>) -> Option<Verified> {
    Some(match message {
        Message::PrePrepare(PrePrepare { proposal, value: bytes, round_changes, prepares }) => {
            Verified::PrePrepare { proposal, value: value(bytes)?, round_changes, prepares }
        }
        Message::Prepare(vote) => Verified::Prepare(vote),
        Message::Commit(vote) => Verified::Commit(vote),
        Message::RoundChange(message) => Verified::RoundChange(message),
        Message::Decided(message) => Verified::Decided(message.certificate),
        Message::ValueRequest(message) => Verified::ValueRequest(message),
        Message::ValueReply(ValueReply { instance, value: bytes }) => {
            Verified::ValueReply { instance, value: value(bytes)? }
        }
    })
}
