//! Keys that sign whatever they are given.

use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Decision, InstanceId, OperatorIndex, PrePrepare, Prepared, Round, RoundChange, Seal, Signed, Statement,
    ValueBytes,
};

/// The keys of one operator, with no guard before them.
pub trait Unguarded {
    /// Whose keys they are.
    fn operator(&self) -> OperatorIndex;

    /// Its signature over a statement, whoever the author is said to be.
    fn sign(&self, statement: Statement) -> Signed;

    /// Its share of the seal.
    fn share(&self, decision: Decision) -> Option<Seal>;

    /// A statement under its own name.
    fn say(&self, instance: InstanceId, round: Round, claim: Claim) -> Signed {
        self.say_as(self.operator(), instance, round, claim)
    }

    /// A statement under another's name and its own signature.
    fn say_as(&self, author: OperatorIndex, instance: InstanceId, round: Round, claim: Claim) -> Signed {
        self.sign(Statement { instance, round, author, claim })
    }

    /// Its PREPARE.
    fn prepare(&self, of: Decision) -> Signed {
        self.say(of.instance, of.round, Claim::Prepare(of.digest))
    }

    /// Its COMMIT with the share that belongs to it.
    fn commit(&self, of: Decision) -> Signed {
        let claim = CommitClaim { digest: of.digest, seal: self.share(of) };
        self.say(of.instance, of.round, Claim::Commit(claim))
    }

    /// Its ROUND-CHANGE with this claim and this evidence.
    fn change(
        &self,
        instance: InstanceId,
        round: Round,
        prepared: Option<Prepared>,
        prepares: Vec<Signed>,
    ) -> RoundChange {
        let change = self.say(instance, round, Claim::RoundChange(RoundChangeClaim { prepared }));
        RoundChange { change, prepares }
    }

    /// Its proposal of a value, justified by nothing.
    fn propose(&self, of: Decision, value: ValueBytes) -> PrePrepare {
        let proposal = self.say(of.instance, of.round, Claim::PrePrepare(of.digest));
        PrePrepare { proposal, value, round_changes: Vec::new(), prepares: Vec::new() }
    }
}
