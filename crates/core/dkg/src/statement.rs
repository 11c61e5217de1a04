//! What an operator signs in a ceremony.
//!
//! One signature covers `tag ‖ ceremony id ‖ SSZ(author, claim)`. An honest operator claims one thing in each
//! [`Place`], for ever; two different claims of one author in one place prove that it equivocates.

use crate::{Definition, Refusal};
use aequa_crypto::encryption::Disclosure;
use aequa_crypto::identity::IdentityKey;
use aequa_types::{ClusterId, Digest, OperatorIndex, Signature};
use alloy_primitives::FixedBytes;
use sha2::{Digest as _, Sha256};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};

/// Separates what is signed in ceremonies from everything else an operator key signs.
pub const STATEMENT_TAG: &[u8] = b"aequa/dkg/v1\0";
const DEALING_TAG: &[u8] = b"aequa/dkg-dealing/v1\0";

/// What is claimed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Claim {
    /// "These are the hashes of the parts of my dealing."
    Commit(CommitClaim),
    /// "I saw this commit before I showed my dealing to anybody."
    Receipt(DealingId),
    /// "I have this dealing, and my shares in it are good."
    Ack(DealingId),
    /// "My shares in this part are bad: see for yourselves."
    Complaint(ComplaintClaim),
    /// "Here are my shares in this dealing, for one who got bad ones."
    ShareOpen(ShareOpenClaim),
    /// "I have my shares of the keys whose public halves have this hash."
    Done(Digest),
}

/// The content of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CommitClaim {
    /// The hash of each part.
    pub parts: Vec<Digest>,
}

/// A dealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct DealingId {
    /// Who dealt it.
    pub dealer: OperatorIndex,
    /// The hash of what its dealer committed to.
    pub hash: Digest,
}

/// The content of a complaint.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ComplaintClaim {
    /// Which dealing.
    pub dealing: DealingId,
    /// Which part of it.
    pub part: u16,
    /// Opens the author's ciphertext in it to all.
    pub disclosure: FixedBytes<96>,
}

/// The content of a share_open.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ShareOpenClaim {
    /// Which dealing.
    pub dealing: DealingId,
    /// Opens the author's ciphertext in each part to all.
    pub disclosures: Vec<FixedBytes<96>>,
}

/// Where an honest operator claims one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Its commit.
    Commit,
    /// Its receipt for a dealer's commit.
    Receipt(OperatorIndex),
    /// Its ack of a dealer's dealing.
    Ack(OperatorIndex),
    /// Its complaint about a dealer.
    Complaint(OperatorIndex),
    /// Its share_open of a dealer's dealing.
    ShareOpen(OperatorIndex),
    /// Its done.
    Done,
}

impl Place {
    /// All places of an author but its commit, in the order of summaries.
    pub(crate) fn all(definition: &Definition) -> impl Iterator<Item = Self> + '_ {
        let kinds: [fn(OperatorIndex) -> Self; 4] =
            [Self::Receipt, Self::Ack, Self::Complaint, Self::ShareOpen];
        let of_dealers = kinds.into_iter().flat_map(|kind| definition.participants().map(kind));
        of_dealers.chain([Self::Done])
    }
}

impl Claim {
    /// Where it stands.
    pub fn place(&self) -> Place {
        match self {
            Self::Commit(_) => Place::Commit,
            Self::Receipt(dealing) => Place::Receipt(dealing.dealer),
            Self::Ack(dealing) => Place::Ack(dealing.dealer),
            Self::Complaint(complaint) => Place::Complaint(complaint.dealing.dealer),
            Self::ShareOpen(opened) => Place::ShareOpen(opened.dealing.dealer),
            Self::Done(_) => Place::Done,
        }
    }

    /// The dealing it is about.
    pub fn dealing(&self) -> Option<DealingId> {
        match self {
            Self::Receipt(dealing) | Self::Ack(dealing) => Some(*dealing),
            Self::Complaint(complaint) => Some(complaint.dealing),
            Self::ShareOpen(opened) => Some(opened.dealing),
            Self::Commit(_) | Self::Done(_) => None,
        }
    }

    /// Name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commitments",
            Self::Receipt(_) => "receipt",
            Self::Ack(_) => "ack",
            Self::Complaint(_) => "complaint",
            Self::ShareOpen(_) => "share_open",
            Self::Done(_) => "done",
        }
    }
}

/// A claim and its author's signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// Who claims it. The signature decides, not the carrier.
    pub author: OperatorIndex,
    /// What is claimed.
    pub claim: Claim,
    /// ed25519 signature of the author over [`Statement::signing_bytes`].
    pub signature: Signature,
}

impl Statement {
    /// Signs a claim.
    pub fn sign(ceremony: &ClusterId, author: OperatorIndex, claim: Claim, key: &IdentityKey) -> Self {
        let mut statement = Self { author, claim, signature: Signature::ZERO };
        statement.signature = key.sign(&statement.signing_bytes(ceremony));
        statement
    }

    /// What the author signs.
    pub fn signing_bytes(&self, ceremony: &ClusterId) -> Vec<u8> {
        let mut bytes = [STATEMENT_TAG, ceremony.as_slice()].concat();
        self.author.ssz_append(&mut bytes);
        self.claim.ssz_append(&mut bytes);
        bytes
    }

    /// Whether it is well formed in this ceremony and signed by its author.
    pub fn check(&self, definition: &Definition) -> Result<(), Refusal> {
        let author = definition.participant(self.author).ok_or(Refusal::NotMember(self.author))?;
        if let Some(dealing) = self.claim.dealing()
            && !definition.is_dealer(dealing.dealer)
        {
            return Err(Refusal::NotMember(dealing.dealer));
        }
        let parts = definition.parts();
        let is_sized = match &self.claim {
            Claim::Commit(_) if !definition.is_dealer(self.author) => {
                return Err(Refusal::Nonsense("commit of one who has nothing to deal"));
            }
            Claim::Commit(commit) => commit.parts.len() == usize::from(parts),
            Claim::Complaint(complaint) => complaint.part < parts,
            Claim::ShareOpen(opened) => opened.disclosures.len() == usize::from(parts),
            Claim::Receipt(_) | Claim::Ack(_) | Claim::Done(_) => true,
        };
        if !matches!(self.claim, Claim::Commit(_)) && !definition.is_receiver(self.author) {
            return Err(Refusal::Nonsense("verdict of one who gets no share"));
        }
        if !is_sized {
            return Err(Refusal::Nonsense("statement of another number of parts"));
        }
        let bytes = self.signing_bytes(&definition.ceremony());
        author.identity.verify_bytes(&bytes, &self.signature).map_err(|_| Refusal::BadSignature(self.author))
    }

    /// The dealing that a commit promises.
    pub fn committed(&self, ceremony: &ClusterId) -> Option<DealingId> {
        let Claim::Commit(commit) = &self.claim else { return None };
        Some(DealingId { dealer: self.author, hash: dealing_hash(ceremony, self.author, &commit.parts) })
    }
}

impl ComplaintClaim {
    pub(crate) fn disclosure(&self) -> Disclosure {
        Disclosure(self.disclosure)
    }
}

/// One hash over all parts of a dealing.
pub(crate) fn dealing_hash(ceremony: &ClusterId, dealer: OperatorIndex, parts: &[Digest]) -> Digest {
    let mut hasher = Sha256::new_with_prefix(DEALING_TAG);
    hasher.update(ceremony);
    hasher.update([dealer.0]);
    parts.iter().for_each(|part| hasher.update(part));
    Digest::from(<[u8; 32]>::from(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{definition, identity};

    fn claims() -> Vec<Claim> {
        let dealing = DealingId { dealer: OperatorIndex(2), hash: Digest::repeat_byte(2) };
        let disclosure = FixedBytes::repeat_byte(3);
        vec![
            Claim::Commit(CommitClaim { parts: vec![Digest::repeat_byte(1)] }),
            Claim::Receipt(dealing),
            Claim::Ack(dealing),
            Claim::Complaint(ComplaintClaim { dealing, part: 0, disclosure }),
            Claim::ShareOpen(ShareOpenClaim { dealing, disclosures: vec![disclosure] }),
            Claim::Done(Digest::repeat_byte(4)),
        ]
    }

    fn sign(claim: Claim) -> Statement {
        Statement::sign(&definition(4, 1).ceremony(), OperatorIndex(1), claim, &identity(1))
    }

    #[test]
    fn a_statement_holds_for_its_author_and_ceremony_only() {
        let (here, elsewhere) = (definition(4, 1), definition(4, 2));
        for claim in claims() {
            let statement = sign(claim);
            assert_eq!(statement.check(&here), Ok(()));
            let other_ceremony = Definition::clone(&elsewhere);
            assert_eq!(statement.check(&other_ceremony), Err(Refusal::BadSignature(OperatorIndex(1))));
            let moved = Statement { author: OperatorIndex(2), ..statement.clone() };
            assert_eq!(moved.check(&here), Err(Refusal::BadSignature(OperatorIndex(2))));
            let stranger = Statement { author: OperatorIndex(4), ..statement };
            assert_eq!(stranger.check(&here), Err(Refusal::NotMember(OperatorIndex(4))));
        }
    }

    #[test]
    fn statements_of_strange_dealers_or_parts_are_refused() {
        let definition = definition(4, 1);
        let dealing = DealingId { dealer: OperatorIndex(4), hash: Digest::ZERO };
        assert_eq!(sign(Claim::Ack(dealing)).check(&definition), Err(Refusal::NotMember(OperatorIndex(4))));
        for parts in [0, 2] {
            let claim = Claim::Commit(CommitClaim { parts: vec![Digest::ZERO; parts] });
            assert!(matches!(sign(claim).check(&definition), Err(Refusal::Nonsense(_))));
        }
    }

    #[test]
    fn every_kind_has_a_place_and_a_name_of_its_own() {
        let mut names: Vec<&str> = claims().iter().map(Claim::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 6);
        let mut places: Vec<Place> = claims().iter().map(Claim::place).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 6);
        assert_eq!(Place::all(&definition(4, 1)).count(), 4 * 4 + 1);
    }

    #[test]
    fn signed_bytes_are_frozen() {
        let mut hasher = Sha256::new();
        for claim in claims() {
            hasher.update(sign(claim).signing_bytes(&ClusterId::repeat_byte(7)));
        }
        let golden = "8afdf3f7ade34e3b9dcc455ce6da0bfcc1c75e7a5c516355310399d3f186485e";
        assert_eq!(hex::encode(hasher.finalize()), golden);
        let hash = dealing_hash(&ClusterId::ZERO, OperatorIndex(1), &[Digest::ZERO]);
        let golden = "f8137590d34adabde230d2666288656c9d4941e01a58f19a003420a76f3f4f74";
        assert_eq!(hex::encode(hash), golden);
    }
}
