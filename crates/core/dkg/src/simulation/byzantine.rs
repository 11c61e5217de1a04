//! What faulty operators do: an honest dealing or message in, faulty ones out.

use crate::dealing::{self, tests::with_foreign_possession};
use crate::fixture::{identity, secrets};
use crate::{
    Ceremony, Claim, CommitClaim, ComplaintClaim, Definition, Fault, Message, Part, ShareOpenClaim, Statement,
};
use aequa_crypto::encryption::DecryptionKey;
use aequa_testkit::Dice;
use aequa_types::{Digest, OperatorIndex, Signed};
use alloy_primitives::FixedBytes;

#[derive(Debug, Clone)]
pub(super) enum Misbehaviour {
    /// Deals these operators shares of another dealing.
    BadShares(Vec<u8>),
    /// Deals what is no dealing.
    Malformed,
    /// Deals another secret than its old share.
    AnotherSecret,
    /// Commits to one dealing before some, and to another before others.
    TwoDealings,
    /// Commits and says nothing any more.
    SilentAfterCommit,
    /// Shows its dealing to one operator only, of its own accord.
    Selective,
    /// Complains about the good shares of this dealer.
    ComplainsWithout(u8),
    /// Complains and discloses nonsense.
    ComplainsNonsense(u8),
    /// Opens nonsense when shares are asked for.
    OpensNonsense,
    /// Votes for two values.
    TwoVotes,
    /// Confirms two results.
    TwoDones,
    /// Changes a bit of what it sends, or adds what is no message.
    Noise,
}

impl Misbehaviour {
    /// What a proof will show; none for what proves nothing.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::BadShares(_) => Some(Fault::BadShares),
            Self::Malformed | Self::AnotherSecret => Some(Fault::BadDealing),
            Self::TwoDealings | Self::TwoDones => Some(Fault::Equivocation),
            Self::ComplainsWithout(_) | Self::ComplainsNonsense(_) => Some(Fault::FalseComplaint),
            Self::OpensNonsense => Some(Fault::BadOpening),
            Self::TwoVotes => Some(Fault::DoubleVote),
            Self::SilentAfterCommit | Self::Selective | Self::Noise => None,
        }
    }

    /// Puts another dealing in the place of its own, before it commits to it.
    pub fn corrupt(&self, ceremony: &mut Ceremony) {
        match self {
            Self::BadShares(victims) => {
                ceremony.deal_badly_to(&victims.iter().copied().map(OperatorIndex).collect::<Vec<_>>());
            }
            Self::Malformed => ceremony.corrupt(|_, part| with_foreign_possession(part)),
            Self::AnotherSecret => ceremony.corrupt(|definition, part| {
                let other = dealing::deal(definition, part.dealer, &secrets(part.dealer.0)).unwrap();
                other[usize::from(part.index)].clone()
            }),
            Self::TwoDealings
            | Self::SilentAfterCommit
            | Self::Selective
            | Self::ComplainsWithout(_)
            | Self::ComplainsNonsense(_)
            | Self::OpensNonsense
            | Self::TwoVotes
            | Self::TwoDones
            | Self::Noise => {}
        }
    }

    /// What one receiver gets in the place of an honest message.
    pub fn frames(
        &self,
        definition: &Definition,
        me: OperatorIndex,
        to: usize,
        message: &Message,
        dice: &mut Dice,
    ) -> Vec<Vec<u8>> {
        let sign =
            |claim| Message::Statement(Statement::sign(&definition.ceremony(), me, claim, &identity(me.0)));
        let own_claim = match message {
            Message::Statement(statement) if statement.author == me => Some(&statement.claim),
            Message::Statement(_) | Message::Part(_) | Message::Agreement(_) | Message::Summary(_) => None,
        };
        let own_part = matches!(message, Message::Part(part) if part.dealer == me);
        let mut messages = vec![message.clone()];
        match (self, own_claim) {
            (Self::SilentAfterCommit, claim) => {
                messages.retain(|_| matches!(claim, Some(Claim::Commit(_))));
            }
            (Self::Selective, _) => messages
                .retain(|_| !own_part || to == (usize::from(me.0) + 1) % definition.quorum().operators()),
            (Self::TwoDealings, Some(Claim::Commit(_))) if to.is_multiple_of(2) => {
                let parts = dealing::part_hashes(definition, &other_dealing(definition, me));
                messages = vec![sign(Claim::Commit(CommitClaim { parts }))];
            }
            (Self::TwoDealings, _) if own_part && to.is_multiple_of(2) => {
                messages = other_dealing(definition, me).into_iter().map(Message::Part).collect();
            }
            (Self::ComplainsWithout(dealer) | Self::ComplainsNonsense(dealer), Some(Claim::Ack(dealing)))
                if dealing.dealer.0 == *dealer =>
            {
                let is_nonsense = matches!(self, Self::ComplainsNonsense(_));
                let disclosure = match is_nonsense {
                    true => FixedBytes::repeat_byte(9),
                    false => {
                        let ephemeral = secrets(*dealer).ephemeral(definition, 0).public();
                        DecryptionKey::from_bytes(&[me.0; 32]).disclose(&ephemeral).0
                    }
                };
                messages =
                    vec![sign(Claim::Complaint(ComplaintClaim { dealing: *dealing, part: 0, disclosure }))];
            }
            (Self::OpensNonsense, Some(Claim::ShareOpen(opened))) => {
                let disclosures = opened.disclosures.iter().map(|_| FixedBytes::repeat_byte(7)).collect();
                messages = vec![sign(Claim::ShareOpen(ShareOpenClaim { disclosures, ..opened.clone() }))];
            }
            (Self::TwoDones, Some(Claim::Done(_))) => {
                messages.push(sign(Claim::Done(Digest::repeat_byte(1))))
            }
            (Self::TwoVotes, _) => messages.extend(second_vote(definition, me, message)),
            (
                Self::BadShares(_)
                | Self::Malformed
                | Self::AnotherSecret
                | Self::TwoDealings
                | Self::ComplainsWithout(_)
                | Self::ComplainsNonsense(_)
                | Self::OpensNonsense
                | Self::TwoDones
                | Self::Noise,
                _,
            ) => {}
        }
        let mut frames: Vec<Vec<u8>> = messages.iter().map(Message::encode).collect();
        if matches!(self, Self::Noise) {
            frames.extend(noise(&frames, dice));
        }
        frames
    }
}

/// A dealing of another seed.
fn other_dealing(definition: &Definition, me: OperatorIndex) -> Vec<Part> {
    dealing::deal(definition, me, &secrets(me.0 + 100)).unwrap()
}

fn second_vote(definition: &Definition, me: OperatorIndex, message: &Message) -> Option<Message> {
    let Message::Agreement(aequa_types::Message::Prepare(vote)) = message else { return None };
    let mut statement = vote.statement.clone();
    statement.claim = aequa_types::Claim::Prepare(Digest::repeat_byte(5));
    let vote: Signed = identity(me.0).sign_statement(&definition.agreement(), statement);
    Some(Message::Agreement(aequa_types::Message::Prepare(vote)))
}

/// The frame with a bit flipped, cut short, and random bytes.
fn noise(frames: &[Vec<u8>], dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut noise = Vec::new();
    for frame in frames {
        let mut flipped = frame.clone();
        let bit = dice.below(8 * flipped.len());
        flipped[bit / 8] ^= 1 << (bit % 8);
        noise.push(flipped);
        noise.push(frame[..dice.below(frame.len())].to_vec());
        noise.push((0..dice.below(200)).map(|_| dice.below(256) as u8).collect());
    }
    noise
}
