//! What this operator has of the transcript: facts that everybody who has them judges alike.
//!
//! Nothing here asks for a clock or a secret. All entries that are kept can be sent to who lacks them, so that what
//! one honest operator knows all of them know in the end.

use crate::blame::{Blame, Fault, Proof};
use crate::dealing::{Part, PublicPart, Shares, Shown};
use crate::limits::{ANSWER_BYTES_MAX, COMMITS_KEPT};
use crate::message::{Message, NO_COMMIT, Summary, TWO_COMMITS, places};
use crate::statement::{Claim, ComplaintClaim, DealingId, Place, ShareOpenClaim, Statement};
use crate::{Definition, Refusal};
use aequa_crypto::encryption::Disclosure;
use aequa_types::{Digest, Evidence, OperatorIndex};
use ssz::Encode as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The transcript as facts.
pub(crate) struct Board {
    definition: Arc<Definition>,
    commits: BTreeMap<OperatorIndex, Vec<Statement>>,
    said: BTreeMap<(OperatorIndex, Place), Statement>,
    parts: BTreeMap<(OperatorIndex, u16), Part>,
    public: BTreeMap<(OperatorIndex, u16), PublicPart>,
    /// Shares that were opened, by dealer and by who opened them. Not secret any more.
    opened: BTreeMap<(OperatorIndex, OperatorIndex), Shares>,
    disqualified: BTreeSet<OperatorIndex>,
    qualified: Option<Vec<DealingId>>,
    blames: Vec<Blame>,
}

impl Board {
    pub fn new(definition: Arc<Definition>) -> Self {
        Self {
            definition,
            commits: BTreeMap::new(),
            said: BTreeMap::new(),
            parts: BTreeMap::new(),
            public: BTreeMap::new(),
            opened: BTreeMap::new(),
            disqualified: BTreeSet::new(),
            qualified: None,
            blames: Vec::new(),
        }
    }

    /// What was proven so far.
    pub fn blames(&self) -> &[Blame] {
        &self.blames
    }

    /// The dealings that were agreed on.
    pub fn qualified(&self) -> Option<&[DealingId]> {
        self.qualified.as_deref()
    }

    /// Whether an operator committed.
    pub fn has_committed(&self, dealer: OperatorIndex) -> bool {
        self.commits.contains_key(&dealer)
    }

    /// Who committed.
    pub fn committed(&self) -> impl Iterator<Item = OperatorIndex> {
        self.commits.keys().copied()
    }

    /// The dealing of a dealer that counts: the agreed one, or the only one it committed to.
    pub fn dealing(&self, dealer: OperatorIndex) -> Option<DealingId> {
        self.commit(dealer)?.committed(&self.definition.ceremony())
    }

    fn commit(&self, dealer: OperatorIndex) -> Option<&Statement> {
        let commits = self.commits.get(&dealer)?;
        let agreed = self.qualified.iter().flatten().find(|dealing| dealing.dealer == dealer);
        match (agreed, commits.as_slice()) {
            (Some(agreed), commits) => {
                commits.iter().find(|commit| commit.committed(&self.definition.ceremony()) == Some(*agreed))
            }
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    pub fn said(&self, author: OperatorIndex, place: Place) -> Option<&Statement> {
        self.said.get(&(author, place))
    }

    /// How many said this of a dealer.
    fn count(&self, place: Place, claim: &Claim) -> usize {
        let members = self.definition.quorum().members();
        members.filter(|author| self.said(*author, place).is_some_and(|said| said.claim == *claim)).count()
    }

    /// Whether q operators saw the commit before they showed a dealing of their own.
    pub fn is_certified(&self, dealing: DealingId) -> bool {
        let receipts = self.count(Place::Receipt(dealing.dealer), &Claim::Receipt(dealing));
        receipts >= self.definition.quorum().quorum()
    }

    /// How many have their shares of a dealing.
    pub fn acks(&self, dealing: DealingId) -> usize {
        self.count(Place::Ack(dealing.dealer), &Claim::Ack(dealing))
    }

    /// Whether a dealer may be qualified: it did nothing that excludes it, as far as is known here.
    pub fn is_eligible(&self, dealer: OperatorIndex) -> bool {
        !self.disqualified.contains(&dealer)
    }

    /// All parts of the dealing that counts, if they are here and well formed.
    pub fn public(&self, dealer: OperatorIndex) -> Option<Vec<&PublicPart>> {
        (0..self.definition.parts()).map(|index| self.public.get(&(dealer, index))).collect()
    }

    /// Whether the last part of this dealer's dealing is here: of the own one, then all of them.
    pub fn is_shown(&self, dealer: OperatorIndex) -> bool {
        self.parts.contains_key(&(dealer, self.definition.parts().saturating_sub(1)))
    }

    /// Whether somebody showed bad shares of this dealer.
    pub fn has_complaint(&self, dealer: OperatorIndex) -> bool {
        let mut members = self.definition.quorum().members();
        members.any(|author| self.said.contains_key(&(author, Place::Complaint(dealer))))
    }

    /// Shares of a dealing that others opened.
    pub fn opened(&self, dealer: OperatorIndex) -> impl Iterator<Item = &Shares> {
        let all = (dealer, OperatorIndex(0))..=(dealer, OperatorIndex(u8::MAX));
        self.opened.range(all).map(|(_, shares)| shares)
    }

    /// Keeps a statement whose form and signature were checked.
    pub fn keep(&mut self, statement: &Statement) -> Result<(), Refusal> {
        match &statement.claim {
            Claim::Commit(_) => self.keep_commit(statement),
            Claim::Receipt(dealing) | Claim::Ack(dealing) => {
                let is_known = self.commits.get(&dealing.dealer).is_some_and(|commits| {
                    let ceremony = self.definition.ceremony();
                    commits.iter().any(|commit| commit.committed(&ceremony) == Some(*dealing))
                });
                if !is_known {
                    return Err(Refusal::NotNow("of a commit that is not here"));
                }
                self.put(statement)
            }
            Claim::Complaint(complaint) => self.keep_complaint(statement, complaint),
            Claim::ShareOpen(opened) => self.keep_opening(statement, opened),
            Claim::Done(_) => self.put(statement),
        }
    }

    fn keep_commit(&mut self, statement: &Statement) -> Result<(), Refusal> {
        let dealer = statement.author;
        let agreed = self.qualified.iter().flatten().find(|dealing| dealing.dealer == dealer).copied();
        let is_wanted = agreed.is_some() && statement.committed(&self.definition.ceremony()) == agreed;
        let commits = self.commits.entry(dealer).or_default();
        if commits.iter().any(|commit| commit.claim == statement.claim) {
            return Err(Refusal::Stale);
        }
        if commits.len() >= COMMITS_KEPT {
            if !is_wanted {
                return Err(Refusal::Stale);
            }
            commits.pop();
        }
        commits.push(statement.clone());
        if let [one, other] = commits.as_slice() {
            let proof = Proof::Statements(one.clone(), other.clone());
            self.disqualified.insert(dealer);
            self.blame(Blame::proven(dealer, Fault::Equivocation, proof));
        }
        if is_wanted {
            self.forget_other_parts(dealer);
        }
        Ok(())
    }

    /// Puts a statement in its place, unless its author put another one there.
    fn put(&mut self, statement: &Statement) -> Result<(), Refusal> {
        let place = (statement.author, statement.claim.place());
        match self.said.get(&place) {
            None => {
                self.said.insert(place, statement.clone());
                Ok(())
            }
            Some(first) if first.claim == statement.claim => Err(Refusal::Stale),
            Some(first) => {
                let proof = Proof::Statements(first.clone(), statement.clone());
                Err(self.guilty(Blame::proven(statement.author, Fault::Equivocation, proof)))
            }
        }
    }

    fn keep_complaint(&mut self, statement: &Statement, complaint: &ComplaintClaim) -> Result<(), Refusal> {
        if self.said.contains_key(&(statement.author, statement.claim.place())) {
            return Err(Refusal::Stale);
        }
        let (dealer, index) = (complaint.dealing.dealer, complaint.part);
        let (Some(commit), Some(part), Some(public)) =
            (self.commit(dealer), self.parts.get(&(dealer, index)), self.public.get(&(dealer, index)))
        else {
            return Err(Refusal::NotNow("of a dealing that is not here"));
        };
        if commit.committed(&self.definition.ceremony()) != Some(complaint.dealing) {
            return Err(Refusal::NotNow("of another dealing"));
        }
        let proof = Proof::Shares { commit: commit.clone(), part: part.clone(), opening: statement.clone() };
        match public.shown(&self.definition, statement.author, &complaint.disclosure()) {
            Shown::Bad => {
                self.disqualified.insert(dealer);
                self.blame(Blame::proven(dealer, Fault::BadShares, proof));
                self.put(statement)
            }
            Shown::Nothing | Shown::Good(_) => {
                Err(self.guilty(Blame::proven(statement.author, Fault::FalseComplaint, proof)))
            }
        }
    }

    /// Shares are opened after the agreement, of a dealer who dealt bad ones, for those who got them.
    fn keep_opening(&mut self, statement: &Statement, opened: &ShareOpenClaim) -> Result<(), Refusal> {
        if self.said.contains_key(&(statement.author, statement.claim.place())) {
            return Err(Refusal::Stale);
        }
        let dealer = opened.dealing.dealer;
        let is_agreed = self.qualified.iter().flatten().any(|dealing| *dealing == opened.dealing);
        if !is_agreed || !self.has_complaint(dealer) {
            return Err(Refusal::NotNow("nobody asked for shares of this dealing"));
        }
        let (Some(commit), Some(public)) = (self.commit(dealer), self.public(dealer)) else {
            return Err(Refusal::NotNow("of a dealing that is not here"));
        };
        let mut all = Shares::default();
        for ((public, disclosure), index) in public.into_iter().zip(&opened.disclosures).zip(0u16..) {
            match public.shown(&self.definition, statement.author, &Disclosure(*disclosure)) {
                Shown::Good(shares) => all.extend(shares),
                Shown::Nothing | Shown::Bad => {
                    let Some(part) = self.parts.get(&(dealer, index)) else { continue };
                    let proof = Proof::Shares {
                        commit: commit.clone(),
                        part: part.clone(),
                        opening: statement.clone(),
                    };
                    return Err(self.guilty(Blame::proven(statement.author, Fault::BadOpening, proof)));
                }
            }
        }
        self.opened.insert((dealer, statement.author), all);
        self.put(statement)
    }

    /// Keeps a part of a dealing that was committed to.
    pub fn keep_part(&mut self, part: &Part) -> Result<(), Refusal> {
        let Some(commit) = self.commit(part.dealer) else {
            return Err(Refusal::NotNow("of a commit that is not here"));
        };
        let place = (part.dealer, part.index);
        if self.parts.contains_key(&place) {
            return Err(Refusal::Stale);
        }
        if !is_committed(&self.definition, commit, part) {
            return Err(Refusal::Nonsense("part that its dealer did not commit to"));
        }
        match PublicPart::read(&self.definition, part) {
            Ok(public) => {
                self.public.insert(place, public);
            }
            Err(_) => {
                let proof = Proof::Dealing(commit.clone(), part.clone());
                self.disqualified.insert(part.dealer);
                self.blame(Blame::proven(part.dealer, Fault::BadDealing, proof));
            }
        }
        self.parts.insert(place, part.clone());
        Ok(())
    }

    /// Takes over the agreement: its dealings are those that count.
    pub fn qualify(&mut self, dealings: Vec<DealingId>) {
        if self.qualified.is_some() {
            return;
        }
        let dealers: Vec<OperatorIndex> = dealings.iter().map(|dealing| dealing.dealer).collect();
        self.qualified = Some(dealings);
        dealers.into_iter().for_each(|dealer| self.forget_other_parts(dealer));
    }

    /// Of one who dealt twice only the agreed dealing is of use.
    fn forget_other_parts(&mut self, dealer: OperatorIndex) {
        let Some(commit) = self.commit(dealer).cloned() else {
            self.parts.retain(|(of, _), _| *of != dealer);
            return self.public.retain(|(of, _), _| *of != dealer);
        };
        let definition = self.definition.clone();
        let is_other = |part: &Part| part.dealer == dealer && !is_committed(&definition, &commit, part);
        let others: Vec<_> =
            self.parts.iter().filter(|(_, part)| is_other(part)).map(|(place, _)| *place).collect();
        for place in others {
            self.parts.remove(&place);
            self.public.remove(&place);
        }
    }

    /// Keeps two votes of one place.
    pub fn keep_evidence(&mut self, evidence: Evidence) -> Result<(), Refusal> {
        let operator = evidence.offence().operator;
        let blame = Blame::proven(operator, Fault::DoubleVote, Proof::Votes(evidence));
        blame.verify(&self.definition).map_err(|_| Refusal::Nonsense("evidence that does not hold"))?;
        self.blame(blame);
        Ok(())
    }

    /// Remembers a proven fault, each once of each operator: more of the same say nothing new.
    pub fn blame(&mut self, blame: Blame) {
        let is_same = |known: &Blame| known.operator == blame.operator && known.fault == blame.fault;
        if !self.blames.iter().any(is_same) {
            self.blames.push(blame);
        }
    }

    fn guilty(&mut self, blame: Blame) -> Refusal {
        self.blame(blame.clone());
        Refusal::Guilty(Box::new(blame))
    }

    /// What is here, for others to see what is not.
    pub fn summary(&self, attempt: u64) -> Summary {
        let commits = self.definition.participants().map(|dealer| self.commit_summary(dealer));
        let parts = self
            .definition
            .participants()
            .flat_map(|dealer| (0..self.definition.parts()).map(move |part| (dealer, part)));
        Summary {
            attempt,
            commits: commits.collect(),
            said: places(&self.definition).map(|place| self.said.contains_key(&place)).collect(),
            parts: parts.map(|place| self.parts.contains_key(&place)).collect(),
            is_decided: self.qualified.is_some(),
        }
    }

    fn commit_summary(&self, dealer: OperatorIndex) -> Digest {
        match (self.dealing(dealer), self.commits.get(&dealer)) {
            (Some(dealing), _) => dealing.hash,
            // Who knows of two needs no third, unless one was agreed on.
            (None, Some(commits)) if commits.len() >= COMMITS_KEPT && !self.is_agreed_dealer(dealer) => {
                TWO_COMMITS
            }
            (None, _) => NO_COMMIT,
        }
    }

    fn is_agreed_dealer(&self, dealer: OperatorIndex) -> bool {
        self.qualified.iter().flatten().any(|dealing| dealing.dealer == dealer)
    }

    /// Whether its sender has statements that are not here.
    pub fn lacks(&self, summary: &Summary) -> bool {
        let theirs = places(&self.definition).zip(&summary.said).filter(|(_, has)| **has);
        theirs.into_iter().any(|(place, _)| !self.said.contains_key(&place))
    }

    /// What its sender lacks, in an order in which it can be kept. Parts of others are `me`'s to send in turn.
    pub fn lacking(&self, me: OperatorIndex, summary: &Summary) -> Vec<Message> {
        let definition = &self.definition;
        let mut lacking = Vec::new();
        for (dealer, theirs) in definition.participants().zip(&summary.commits) {
            let ours = self.commit_summary(dealer);
            if *theirs == TWO_COMMITS || *theirs == ours && ours != NO_COMMIT {
                continue;
            }
            let commits = self.commits.get(&dealer).into_iter().flatten();
            lacking.extend(commits.cloned().map(Message::Statement));
        }
        let said = || places(definition).zip(&summary.said).filter(|(_, has)| !**has);
        let statements = |is_before: bool| {
            said().filter_map(move |(place, _)| {
                let is_receipt = matches!(place.1, Place::Receipt(_));
                let statement = self.said.get(&place).filter(|_| is_receipt == is_before)?;
                Some(Message::Statement(statement.clone()))
            })
        };
        lacking.extend(statements(true));
        let dealers = definition.participants();
        let places = dealers.flat_map(|dealer| (0..definition.parts()).map(move |part| (dealer, part)));
        for (place, _) in places.zip(&summary.parts).filter(|(_, has)| !**has) {
            let operators = definition.quorum().operators() as u64;
            let turn = (u64::from(place.0.0) + summary.attempt % operators) % operators;
            let is_ours = place.0 == me || turn == u64::from(me.0);
            if let Some(part) = self.parts.get(&place).filter(|_| is_ours) {
                lacking.push(Message::Part(part.clone()));
            }
        }
        lacking.extend(statements(false));
        let mut bytes = 0;
        lacking.retain(|message| {
            bytes += message.ssz_bytes_len();
            bytes <= ANSWER_BYTES_MAX
        });
        lacking
    }
}

fn is_committed(definition: &Definition, commit: &Statement, part: &Part) -> bool {
    let Claim::Commit(claim) = &commit.claim else { return false };
    claim.parts.get(usize::from(part.index)) == Some(&part.hash(definition))
}

#[cfg(test)]
mod tests;
