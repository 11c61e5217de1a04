//! What operators send each other in a ceremony, and the check that comes before everything else.
//!
//! ```text
//! bytes ──► Definition::check ──► Checked ──► Ceremony::step
//!                 └──► Refusal (costs its sender, changes nothing)
//! ```

use crate::dealing::Part;
use crate::limits::FRAME_BYTES_MAX;
use crate::statement::{Place, Statement};
use crate::{Definition, Refusal, agreement};
use aequa_types::{Digest, Evidence, OperatorIndex, Record, Verified};
use sha2::{Digest as _, Sha256};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};

/// A message as it travels; nothing in it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Message {
    /// What an operator signed; perhaps relayed by another.
    Statement(Statement),
    /// A part of a dealing; perhaps relayed.
    Part(Part),
    /// Of the agreement on the qualified dealers.
    Agreement(aequa_types::Message),
    /// What its sender has: who has more sends it the rest.
    Summary(Summary),
}

/// What an operator has of the transcript. Nobody signs it: the connection says whose it is, and it asks for
/// nothing but what everybody may have.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Summary {
    /// Counts summaries from 1: whose turn it is to send parts that their dealer does not send. 0 in an answer, which
    /// nobody answers with another.
    pub attempt: u64,
    /// The dealing that each operator committed to: zeros for none, ones for two different ones.
    pub commits: Vec<Digest>,
    /// For each author and [`Place`] in order, whether a statement is there.
    pub said: Vec<bool>,
    /// For each dealer and part in order, whether it is there.
    pub parts: Vec<bool>,
    /// Whether the qualified dealers are known.
    pub is_decided: bool,
}

impl Summary {
    fn is_sized(&self, definition: &Definition) -> bool {
        let dealers = definition.participants().count();
        self.commits.len() == dealers
            && self.said.len() == places(definition).count()
            && self.parts.len() == dealers * usize::from(definition.parts())
    }
}

/// An entry of the transcript: durable before anything that rests on it leaves the node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Entry {
    /// What an operator signed.
    Statement(Statement),
    /// A part of a dealing.
    Part(Part),
    /// Of this operator's record of the agreement.
    Vote(Record),
    /// That an operator voted for two things in one place.
    Evidence(Evidence),
}

/// The hash of what an operator binds itself to by sending it.
pub type Promise = Digest;

fn promise(bytes: &impl ssz::Encode) -> Promise {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes.as_ssz_bytes())))
}

impl Entry {
    /// What this entry keeps the operator to.
    pub fn promise(&self) -> Option<Promise> {
        match self {
            Self::Statement(statement) => Some(promise(statement)),
            Self::Part(part) => Some(promise(part)),
            Self::Vote(record) => record.statement().map(promise),
            Self::Evidence(_) => None,
        }
    }
}

impl Message {
    /// What must be in the transcript before this leaves.
    pub fn promise(&self) -> Option<Promise> {
        match self {
            Self::Statement(statement) => Some(promise(statement)),
            Self::Part(part) => Some(promise(part)),
            Self::Agreement(message) => message.statement().map(promise),
            Self::Summary(_) => None,
        }
    }

    /// Name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Statement(statement) => statement.claim.name(),
            Self::Part(_) => "share",
            Self::Agreement(_) => "qual",
            Self::Summary(_) => "summary",
        }
    }

    /// The bytes that are sent.
    pub fn encode(&self) -> Vec<u8> {
        self.as_ssz_bytes()
    }
}

impl Checked {
    /// Name in logs and metrics. Unlike [`Message::name`] it tells a proposal of the qualified dealers from votes on one.
    pub fn name(&self) -> &'static str {
        match &self.content {
            Content::Statement(statement) => statement.claim.name(),
            Content::Part(_) => "share",
            Content::Agreement(Verified::PrePrepare { .. }) => "proposal",
            Content::Agreement(_) => "qual",
            Content::Summary(_) => "summary",
        }
    }
}

/// A message that is well formed, of this ceremony, and signed by those who are said to have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub(crate) content: Content,
}

// Moved once into `step`, never stored.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Statement(Statement),
    Part(Part),
    Agreement(Verified),
    Summary(Summary),
}

impl Definition {
    /// Checks everything about a message that needs no state of the ceremony, cheap things first.
    pub fn check(&self, bytes: &[u8]) -> Result<Checked, Refusal> {
        let content = match aequa_types::decode("message", bytes, FRAME_BYTES_MAX)? {
            Message::Statement(statement) => {
                statement.check(self)?;
                Content::Statement(statement)
            }
            Message::Part(part) => {
                self.check_place(&part)?;
                Content::Part(part)
            }
            Message::Agreement(message) => Content::Agreement(agreement::check(self, message)?),
            Message::Summary(summary) => {
                if !summary.is_sized(self) {
                    return Err(Refusal::Nonsense("summary of another size"));
                }
                Content::Summary(summary)
            }
        };
        Ok(Checked { content })
    }

    /// A part carries no signature: whether its dealer dealt it the commit says.
    pub(crate) fn check_place(&self, part: &Part) -> Result<(), Refusal> {
        if !self.is_dealer(part.dealer) {
            return Err(Refusal::NotMember(part.dealer));
        }
        if part.index >= self.parts() {
            return Err(Refusal::Nonsense("part above the last one"));
        }
        Ok(())
    }
}

/// What a summary says of nobody's commit, and of one who committed twice.
pub(crate) const NO_COMMIT: Digest = Digest::ZERO;
pub(crate) const TWO_COMMITS: Digest = Digest::repeat_byte(0xff);

/// All authors with all places, in the order of [`Summary::said`]. Who leaves says nothing but its commit.
pub(crate) fn places(definition: &Definition) -> impl Iterator<Item = (OperatorIndex, Place)> {
    definition.quorum().members().flat_map(|author| Place::all(definition).map(move |place| (author, place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{definition, identity};
    use crate::statement::Claim;
    use aequa_types::ValueBytes;

    fn summary() -> Summary {
        Summary {
            attempt: 0,
            commits: vec![Digest::ZERO; 4],
            said: vec![false; 4 * 17],
            parts: vec![true; 4],
            is_decided: false,
        }
    }

    #[test]
    fn what_is_too_large_or_no_message_is_refused_before_anything_else() {
        let definition = definition(4, 1);
        let too_large = definition.check(&vec![0; FRAME_BYTES_MAX + 1]).unwrap_err();
        assert!(matches!(too_large, Refusal::Malformed(aequa_types::DecodeError::TooLarge { .. })));
        let good = Message::Summary(summary()).encode();
        assert!(definition.check(&good).is_ok());
        for cut in 0..good.len() {
            assert!(matches!(
                definition.check(&good[..cut]),
                Err(Refusal::Malformed(_) | Refusal::Nonsense(_))
            ));
        }
        let longer = [good.as_slice(), &[2]].concat();
        assert!(definition.check(&longer).is_err());
    }

    #[test]
    fn messages_of_strangers_or_of_another_size_are_refused() {
        let definition = definition(4, 1);
        let short = Summary { said: vec![false], ..summary() };
        assert!(matches!(definition.check(&Message::Summary(short).encode()), Err(Refusal::Nonsense(_))));
        let part = |dealer, index| {
            let body = ValueBytes(vec![1].into());
            Message::Part(Part { dealer: OperatorIndex(dealer), index, body }).encode()
        };
        assert!(definition.check(&part(3, 0)).is_ok());
        assert!(matches!(definition.check(&part(4, 0)), Err(Refusal::NotMember(_))));
        assert!(matches!(definition.check(&part(3, 1)), Err(Refusal::Nonsense(_))));
    }

    #[test]
    fn a_message_of_another_ceremony_is_refused() {
        let (here, elsewhere) = (definition(4, 1), definition(4, 2));
        let claim = Claim::Done(Digest::ZERO);
        let statement = Statement::sign(&elsewhere.ceremony(), OperatorIndex(0), claim, &identity(0));
        let message = Message::Statement(statement).encode();
        assert!(elsewhere.check(&message).is_ok());
        assert_eq!(here.check(&message), Err(Refusal::BadSignature(OperatorIndex(0))));
    }

    #[test]
    fn encodings_are_frozen() {
        let ceremony = definition(4, 1).ceremony();
        let claim = Claim::Done(Digest::ZERO);
        let statement = Statement::sign(&ceremony, OperatorIndex(0), claim, &identity(0));
        let part = Part { dealer: OperatorIndex(1), index: 2, body: ValueBytes(vec![3, 4].into()) };
        let request = aequa_types::message::ValueRequest {
            instance: agreement::INSTANCE,
            digest: Digest::repeat_byte(5),
        };
        let mut hasher = Sha256::new();
        for message in [
            Message::Statement(statement.clone()),
            Message::Part(part.clone()),
            Message::Agreement(aequa_types::Message::ValueRequest(request)),
            Message::Summary(summary()),
        ] {
            hasher.update(message.encode());
        }
        for entry in [Entry::Statement(statement), Entry::Part(part)] {
            hasher.update(entry.as_ssz_bytes());
        }
        let golden = "e0fabe8b8e59969b9368f990eed3025d3fc0123f159bca4a0ab886eb70d4e835";
        assert_eq!(hex::encode(hasher.finalize()), golden);
    }

    #[test]
    fn a_message_and_its_entry_make_the_same_promise() {
        let definition = definition(4, 1);
        let statement = Statement::sign(
            &definition.ceremony(),
            OperatorIndex(0),
            Claim::Done(Digest::ZERO),
            &identity(0),
        );
        let message = Message::Statement(statement.clone());
        assert_eq!(message.promise(), Entry::Statement(statement).promise());
        assert_eq!(Message::Summary(summary()).promise(), None);
    }
}
