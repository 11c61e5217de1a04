//! What everybody agreed on before the ceremony.

use crate::limits::{PART_BYTES_MAX, PART_KEYS_MAX, VALIDATORS_MAX};
use crate::{Error, SharedKey};
use aequa_crypto::bls::{MinPk, MinSig};
use aequa_crypto::encryption::{EncryptionKey, OVERHEAD_BYTES};
use aequa_crypto::identity::PublicIdentity;
use aequa_types::limits::OPERATORS_MAX;
use aequa_types::{ClusterId, Digest, OperatorIndex, Quorum, Round};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// Separates votes on the qualified dealers from those of the cluster that will have the same id.
const AGREEMENT_TAG: &[u8] = b"aequa/dkg-agreement/v1\0";

/// An operator as the others know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// Under which it signs.
    pub identity: PublicIdentity,
    /// To which its shares are encrypted.
    pub encryption: EncryptionKey,
}

/// Keys that exist and are dealt anew: to other operators, or to the same ones under other shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldKeys {
    /// How many old shares find a secret: so many must be dealt anew.
    pub threshold: usize,
    /// For each participant, and after them for each that leaves, its index among the old operators, if it was one and
    /// deals its shares.
    pub holders: Vec<Option<OperatorIndex>>,
    /// Old operators that deal their shares and get none. Here they have the places after the participants.
    pub leavers: Vec<Participant>,
    /// The chain's key.
    pub chain: SharedKey<MinSig>,
    /// The validators' keys.
    pub validators: Vec<SharedKey<MinPk>>,
}

/// A ceremony: who deals and receives which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    ceremony: ClusterId,
    agreement: ClusterId,
    /// Those that get shares, and those that leave.
    participants: Vec<Participant>,
    /// Of those that get shares.
    quorum: Quorum,
    validators: usize,
    old: Option<OldKeys>,
}

impl Definition {
    /// A ceremony named by the hash of all that was agreed on, among these operators, for the chain's key and those
    /// of so many validators. The threshold is said and must be the quorum: nobody shall believe in another one.
    pub fn new(
        ceremony: ClusterId,
        participants: Vec<Participant>,
        threshold: usize,
        validators: usize,
    ) -> Result<Self, Error> {
        let wrong = |what: String| Err(Error::Definition(what));
        let operators = participants.len();
        let Some(quorum) = Quorum::of(operators).filter(|_| operators <= OPERATORS_MAX) else {
            return wrong(format!("{operators} operators, must be 1 to {OPERATORS_MAX}"));
        };
        if threshold != quorum.quorum() {
            let quorum = quorum.quorum();
            return wrong(format!("threshold {threshold}, must be {quorum} for {operators} operators"));
        }
        if validators > VALIDATORS_MAX {
            return wrong(format!("{validators} validators, must be at most {VALIDATORS_MAX}"));
        }
        for (position, one) in participants.iter().enumerate() {
            for (before, other) in participants[..position].iter().enumerate() {
                if one.identity == other.identity || one.encryption == other.encryption {
                    return wrong(format!("operators {before} and {position} have a key in common"));
                }
            }
        }
        let agreement = Sha256::new_with_prefix(AGREEMENT_TAG).chain_update(ceremony).finalize();
        let agreement = Digest::from(<[u8; 32]>::from(agreement));
        Ok(Self { ceremony, agreement, participants, quorum, validators, old: None })
    }

    /// A ceremony in which holders of old shares deal keys anew: the keys stay, all shares are others. With those that
    /// leave they are as many as operators may be at most.
    pub fn resharing(
        ceremony: ClusterId,
        participants: Vec<Participant>,
        threshold: usize,
        old: OldKeys,
    ) -> Result<Self, Error> {
        let mut definition = Self::new(ceremony, participants, threshold, old.validators.len())?;
        let wrong = |what: &str| Err(Error::Definition(what.into()));
        let operators = old.chain.public_shares.len();
        if old.validators.iter().any(|key| key.public_shares.len() != operators) {
            return wrong("old keys of different operators");
        }
        let mut holders: Vec<OperatorIndex> = old.holders.iter().flatten().copied().collect();
        holders.sort_unstable();
        if holders.windows(2).any(|pair| pair[0] == pair[1]) {
            return wrong("two participants hold the same old share");
        }
        for leaver in &old.leavers {
            if definition.participants.iter().any(|other| other.identity == leaver.identity) {
                return wrong("one who leaves has another place");
            }
            definition.participants.push(*leaver);
        }
        if definition.participants.len() > OPERATORS_MAX {
            return wrong("more operators than there may be, with those that leave");
        }
        let of_leavers = old.holders.iter().skip(definition.quorum.operators());
        if of_leavers.into_iter().any(Option::is_none) {
            return wrong("one who leaves has nothing to deal");
        }
        if old.holders.len() != definition.participants.len()
            || holders.iter().any(|holder| holder.as_usize() >= operators)
        {
            return wrong("holders that are no operators");
        }
        if old.threshold == 0 || holders.len() < old.threshold {
            return wrong("fewer holders than the old threshold");
        }
        Ok(Self { old: Some(old), ..definition })
    }

    /// The keys that are dealt anew, if they are.
    pub fn old(&self) -> Option<&OldKeys> {
        self.old.as_ref()
    }

    /// Which of the old shares a participant deals.
    pub(crate) fn holder(&self, operator: OperatorIndex) -> Option<OperatorIndex> {
        *self.old.as_ref()?.holders.get(operator.as_usize())?
    }

    /// Everybody who takes part: those that get shares, and those that leave.
    pub fn participants(&self) -> impl Iterator<Item = OperatorIndex> + use<> {
        // As many as operators may be, which is a byte.
        (0..self.participants.len() as u8).map(OperatorIndex)
    }

    /// Whether this operator gets shares, and has a say in which dealings they are made of: everybody but who leaves.
    pub fn is_receiver(&self, operator: OperatorIndex) -> bool {
        self.quorum.contains(operator)
    }

    /// Whether this operator deals: every one deals a new key, holders deal one anew.
    pub fn is_dealer(&self, operator: OperatorIndex) -> bool {
        match self.old {
            None => self.quorum.contains(operator),
            Some(_) => self.holder(operator).is_some(),
        }
    }

    /// Who deals.
    pub fn dealers(&self) -> impl Iterator<Item = OperatorIndex> {
        self.participants().filter(|operator| self.is_dealer(*operator))
    }

    /// Who deals and gets shares. Who deals and leaves is not waited for, where these will do.
    pub(crate) fn staying(&self) -> impl Iterator<Item = OperatorIndex> {
        self.dealers().filter(|operator| self.is_receiver(*operator))
    }

    /// How many dealings a key should have: q of a new one, of an old one as many as its threshold says.
    pub fn dealings_wanted(&self) -> usize {
        self.old.as_ref().map_or(self.quorum.quorum(), |old| old.threshold)
    }

    /// How many dealings a key needs: f+1 of a new one, so that one honest dealer is among them.
    pub fn dealings_needed(&self) -> usize {
        self.old.as_ref().map_or(self.quorum.weak_quorum(), |old| old.threshold)
    }

    /// How many a round of the agreement asks for: when each operator has led one in vain, no more than are needed.
    pub(crate) fn dealings_of_round(&self, round: Round) -> usize {
        let is_early = round.0 < self.quorum.operators() as u64;
        if is_early { self.dealings_wanted() } else { self.dealings_needed() }
    }

    /// The name of the ceremony: part of every signed byte.
    pub fn ceremony(&self) -> ClusterId {
        self.ceremony
    }

    /// The name under which votes on the qualified dealers are signed. The cluster will be called as the ceremony
    /// is, and shall not find votes of its own in it.
    pub fn agreement(&self) -> ClusterId {
        self.agreement
    }

    /// How many operators get shares, and how many of them are needed.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// How many validators there are.
    pub fn validators(&self) -> usize {
        self.validators
    }

    /// Who has this place, if anybody.
    pub fn participant(&self, operator: OperatorIndex) -> Option<&Participant> {
        self.participants.get(operator.as_usize())
    }

    /// Who gets shares in this place, if anybody.
    pub(crate) fn receiver(&self, operator: OperatorIndex) -> Option<&Participant> {
        self.participant(operator).filter(|_| self.is_receiver(operator))
    }

    /// How many keys there are: the chain's, which is number 0, and those of the validators.
    pub fn keys(&self) -> usize {
        self.validators + 1
    }

    /// In how many parts a dealing is sent.
    pub fn parts(&self) -> u16 {
        // At most 1,001 keys, at least one in each.
        self.keys().div_ceil(self.keys_per_part()) as u16
    }

    /// The numbers of the keys in a part.
    pub fn keys_of_part(&self, part: u16) -> Range<usize> {
        let per_part = self.keys_per_part();
        let start = (usize::from(part) * per_part).min(self.keys());
        start..(start + per_part).min(self.keys())
    }

    /// So many that a part of them fits into a frame.
    fn keys_per_part(&self) -> usize {
        let (operators, threshold) = (self.quorum.operators(), self.quorum.quorum());
        // Commitments, possession, shares, offsets; points of the chain's key are twice as long.
        let per_key = threshold * 48 + 96 + operators * 32 + 16;
        let fixed = 64 + threshold * 48 + operators * (OVERHEAD_BYTES + 4);
        ((PART_BYTES_MAX - fixed) / per_key).min(PART_KEYS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::participants;

    fn definition(operators: usize, threshold: usize, validators: usize) -> Result<Definition, Error> {
        Definition::new(ClusterId::ZERO, participants(operators), threshold, validators)
    }

    #[test]
    fn the_threshold_is_the_quorum_and_sizes_are_bounded() {
        assert!(definition(4, 3, VALIDATORS_MAX).is_ok());
        for (operators, threshold, validators) in
            [(4, 2, 1), (4, 4, 1), (0, 0, 1), (4, 3, VALIDATORS_MAX + 1)]
        {
            assert!(matches!(definition(operators, threshold, validators), Err(Error::Definition(_))));
        }
    }

    #[test]
    fn two_operators_with_one_key_are_refused_by_name() {
        let mut participants = participants(4);
        participants[3].encryption = participants[1].encryption;
        let refused = Definition::new(ClusterId::ZERO, participants, 3, 0);
        assert_eq!(refused, Err(Error::Definition("operators 1 and 3 have a key in common".into())));
    }

    #[test]
    fn parts_hold_every_key_once_and_fit_into_a_frame() {
        for (operators, validators, parts) in
            [(4, 0, 1), (4, 255, 1), (4, 256, 2), (4, 1000, 4), (100, 1000, 7)]
        {
            let definition = definition(operators, (2 * operators).div_ceil(3), validators).unwrap();
            assert_eq!(definition.parts(), parts, "{validators} validators of {operators}");
            let keys: Vec<usize> = (0..parts).flat_map(|part| definition.keys_of_part(part)).collect();
            assert!(keys.into_iter().eq(0..validators + 1));
        }
    }

    #[test]
    fn a_round_asks_for_a_quorum_of_dealings_until_every_operator_has_led_one() {
        let definition = definition(4, 3, 0).unwrap();
        let asked = [0, 3, 4, 100].map(|round| definition.dealings_of_round(Round(round)));
        assert_eq!(asked, [3, 3, 2, 2]);
    }

    #[test]
    fn votes_of_a_ceremony_are_signed_under_another_name_than_those_of_its_cluster() {
        let definition = definition(4, 3, 0).unwrap();
        assert_ne!(definition.agreement(), definition.ceremony());
        assert_eq!(&definition.agreement()[..4], [0xf7, 0x51, 0xff, 0x31]);
    }
}
