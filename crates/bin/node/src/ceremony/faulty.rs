//! An operator that lies in a ceremony: what an honest one would deal and send goes in, what a faulty one does comes out.
//! For tests of real processes, in builds with the feature `e2e` only.

use super::part::Part;
use aequa_dkg::{Ceremony, Claim, CommitClaim, Definition, Message, Outbound, Statement};
use aequa_types::{Digest, OperatorIndex};
use std::str::FromStr;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Deals the operator after it the shares of another.
    BadShare,
    /// Commits to one dealing before operators of odd numbers, and to another before those of even ones.
    TwoCommits,
    /// Commits and says nothing any more.
    Silence,
}

impl FromStr for Misbehaviour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bad-share" => Ok(Self::BadShare),
            "two-commits" => Ok(Self::TwoCommits),
            "silence" => Ok(Self::Silence),
            _ => Err("must be bad-share, two-commits or silence".into()),
        }
    }
}

impl Misbehaviour {
    /// Changes what is dealt, before anything is said.
    pub fn corrupt(self, ceremony: &mut Ceremony, definition: &Definition, me: OperatorIndex) {
        if self == Self::BadShare {
            // Operators are counted in a byte.
            let next = OperatorIndex((me.0 + 1) % definition.quorum().operators() as u8);
            ceremony.deal_badly_to(&[next]);
        }
    }
}

impl Part<'_> {
    /// What is sent in the place of what an honest operator would send.
    pub(super) fn instead(&self, outbound: Outbound) -> Vec<Outbound> {
        let is_commit = match outbound.message() {
            Message::Statement(said) => said.author == self.me && matches!(said.claim, Claim::Commit(_)),
            Message::Part(_) | Message::Agreement(_) | Message::Summary(_) => false,
        };
        match self.member.fault {
            Some(Misbehaviour::Silence) if !is_commit => Vec::new(),
            Some(Misbehaviour::TwoCommits) if is_commit => self.two_commits(outbound),
            Some(Misbehaviour::BadShare | Misbehaviour::TwoCommits | Misbehaviour::Silence) | None => {
                vec![outbound]
            }
        }
    }

    fn two_commits(&self, outbound: Outbound) -> Vec<Outbound> {
        let (definition, me) = (&self.plan.machine, self.me);
        let (receivers, commit): (Vec<_>, _) = match outbound {
            Outbound::Broadcast(commit) => (definition.quorum().members().collect(), commit),
            Outbound::Send(to, commit) => (vec![to], commit),
        };
        let parts = (0..definition.parts()).map(|_| Digest::repeat_byte(1)).collect();
        let claim = Claim::Commit(CommitClaim { parts });
        let other = Message::Statement(Statement::sign(&definition.ceremony(), me, claim, &self.signer));
        let said = |to: OperatorIndex| if to.0.is_multiple_of(2) { other.clone() } else { commit.clone() };
        receivers.into_iter().filter(|to| *to != me).map(|to| Outbound::Send(to, said(to))).collect()
    }
}
