//! Who did what, and how a third party can check it.

use crate::dealing::{Part, PublicPart, Shown};
use crate::statement::{Claim, Statement};
use crate::{Definition, Error};
use aequa_crypto::encryption::Disclosure;
use aequa_types::{Evidence, OperatorIndex};

/// What an operator did, or did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// It claimed two things in one place.
    #[error("claimed two things in one place")]
    Equivocation,
    /// It voted for two things in one place.
    #[error("voted for two things in one place")]
    DoubleVote,
    /// It dealt what is no dealing.
    #[error("dealt a malformed dealing")]
    BadDealing,
    /// It dealt an operator shares that do not belong to its commitments.
    #[error("dealt bad shares")]
    BadShares,
    /// It complained about good shares, or showed something else.
    #[error("complained without reason")]
    FalseComplaint,
    /// It opened something else than its good shares.
    #[error("opened wrong shares")]
    BadOpening,
    /// It committed to nothing.
    #[error("sent no commit")]
    NoCommit,
    /// It committed, and showed no dealing.
    #[error("showed no dealing")]
    NoDealing,
    /// It acknowledged none of the dealings.
    #[error("acknowledged no dealing")]
    NoAck,
    /// It did not confirm the keys.
    #[error("did not confirm the keys")]
    NoDone,
}

/// What shows it. Everything in it is signed by the accused, or opens what the accused signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Two statements of one place.
    Statements(Statement, Statement),
    /// Two votes of one place.
    Votes(Evidence),
    /// The dealer's commit, and the part of the dealing that is malformed.
    Dealing(Statement, Part),
    /// The dealer's commit, a part, and the statement that opens a ciphertext in it.
    Shares {
        /// The dealer's.
        commit: Statement,
        /// The part.
        part: Part,
        /// A complaint or a share_open.
        opening: Statement,
    },
}

/// What an operator is blamed for. Without a proof it is silent, for the one who says so: others may have heard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// Who.
    pub operator: OperatorIndex,
    /// What for.
    pub fault: Fault,
    /// What shows it to everybody.
    pub proof: Option<Box<Proof>>,
}

impl Blame {
    pub(crate) fn proven(operator: OperatorIndex, fault: Fault, proof: Proof) -> Self {
        Self { operator, fault, proof: Some(Box::new(proof)) }
    }

    pub(crate) fn silent(operator: OperatorIndex, fault: Fault) -> Self {
        Self { operator, fault, proof: None }
    }

    /// Whether the proof shows that this operator did this. Needs the definition and nothing else.
    pub fn verify(&self, definition: &Definition) -> Result<(), Error> {
        let proof = self.proof.as_deref().ok_or(Error::BadProof("there is none"))?;
        let (operator, fault) = match proof {
            Proof::Statements(one, other) => (contradiction(definition, one, other)?, Fault::Equivocation),
            Proof::Votes(evidence) => (double_vote(definition, evidence)?, Fault::DoubleVote),
            Proof::Dealing(commit, part) => {
                check_part(definition, commit, part)?;
                if PublicPart::read(definition, part).is_ok() {
                    return Err(Error::BadProof("the dealing is well formed"));
                }
                (commit.author, Fault::BadDealing)
            }
            Proof::Shares { commit, part, opening } => judge(definition, commit, part, opening)?,
        };
        let is_this = operator == self.operator && fault == self.fault;
        if is_this { Ok(()) } else { Err(Error::BadProof("it shows something else")) }
    }
}

fn contradiction(
    definition: &Definition,
    one: &Statement,
    other: &Statement,
) -> Result<OperatorIndex, Error> {
    for statement in [one, other] {
        statement.check(definition).map_err(|_| Error::BadProof("a statement does not hold"))?;
    }
    let is_contradiction =
        one.author == other.author && one.claim.place() == other.claim.place() && one.claim != other.claim;
    if is_contradiction { Ok(one.author) } else { Err(Error::BadProof("the statements agree")) }
}

fn double_vote(definition: &Definition, evidence: &Evidence) -> Result<OperatorIndex, Error> {
    let operator = evidence.offence().operator;
    let participant = definition.receiver(operator).ok_or(Error::BadProof("of a stranger"))?;
    for vote in [evidence.first(), evidence.second()] {
        let held = participant.identity.verify(&definition.agreement(), vote);
        held.map_err(|_| Error::BadProof("a vote does not hold"))?;
    }
    Ok(operator)
}

/// The part is the one that its dealer committed to.
fn check_part(definition: &Definition, commit: &Statement, part: &Part) -> Result<(), Error> {
    commit.check(definition).map_err(|_| Error::BadProof("the commit does not hold"))?;
    let Claim::Commit(claim) = &commit.claim else { return Err(Error::BadProof("no commit")) };
    let committed = claim.parts.get(usize::from(part.index));
    if commit.author == part.dealer && committed == Some(&part.hash(definition)) {
        Ok(())
    } else {
        Err(Error::BadProof("the part is not the one that was committed to"))
    }
}

/// Who is guilty, of the one who dealt and the one who opened.
fn judge(
    definition: &Definition,
    commit: &Statement,
    part: &Part,
    opening: &Statement,
) -> Result<(OperatorIndex, Fault), Error> {
    check_part(definition, commit, part)?;
    opening.check(definition).map_err(|_| Error::BadProof("the opening does not hold"))?;
    if opening.claim.dealing() != commit.committed(&definition.ceremony()) {
        return Err(Error::BadProof("the opening is of another dealing"));
    }
    let public =
        PublicPart::read(definition, part).map_err(|_| Error::BadProof("the dealing is malformed"))?;
    let (disclosure, fault) = match &opening.claim {
        Claim::Complaint(complaint) if complaint.part == part.index => {
            (complaint.disclosure(), Fault::FalseComplaint)
        }
        Claim::ShareOpen(opened) => match opened.disclosures.get(usize::from(part.index)) {
            Some(disclosure) => (Disclosure(*disclosure), Fault::BadOpening),
            None => return Err(Error::BadProof("the opening is of another part")),
        },
        Claim::Complaint(_) | Claim::Commit(_) | Claim::Receipt(_) | Claim::Ack(_) | Claim::Done(_) => {
            return Err(Error::BadProof("the opening is of another part"));
        }
    };
    match (public.shown(definition, opening.author, &disclosure), fault) {
        (Shown::Bad, Fault::FalseComplaint) => Ok((commit.author, Fault::BadShares)),
        (Shown::Good(_), Fault::BadOpening) => Err(Error::BadProof("the shares are good")),
        (Shown::Nothing | Shown::Good(_) | Shown::Bad, fault) => Ok((opening.author, fault)),
    }
}
