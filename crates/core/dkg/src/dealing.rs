//! A dealing: one polynomial for each key, committed to, and every receiver's shares encrypted to it.
//!
//! ```text
//! part p of a dealing ─┬─ ephemeral key
//!                      ├─ for each key: commitments a₀·G … , possession of a₀
//!                      └─ for each receiver: its shares of these keys, encrypted
//! ```
//!
//! # Rules
//!
//! 1. Whether a dealing is well formed everybody can tell alike: points, thresholds, possessions, the ephemeral key
//!    and the lengths of ciphertexts. Whether the shares in a ciphertext are good only its receiver can tell, and
//!    show to everybody.
//! 2. A ciphertext is bound to ceremony, dealer, part and receiver.

use crate::limits::PART_BYTES_MAX;
use crate::secrets::Secrets;
use crate::{Definition, Error, SharedKey};
use aequa_crypto::bls::{MinPk, MinSig, Possession, PublicKey, Scheme, verify_possessions};
use aequa_crypto::encryption::{Disclosure, EncryptionKey, OVERHEAD_BYTES, SharedSecret};
use aequa_crypto::threshold::{Commitments, Polynomial, SecretShare, verify_shares};
use aequa_types::{Digest, OperatorIndex, ValueBytes};
use alloy_primitives::{B256, FixedBytes};
use sha2::{Digest as _, Sha256};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};
use zeroize::Zeroizing;

const PART_TAG: &[u8] = b"aequa/dkg-part/v1\0";
const SHARE_TAG: &[u8] = b"aequa/dkg-share/v1\0";
/// Bytes of one share.
const SHARE_BYTES: usize = 32;

/// A part of a dealing as it travels. It needs no signature: its dealer signed its hash.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// Who dealt it.
    pub dealer: OperatorIndex,
    /// Which part, from 0.
    pub index: u16,
    /// Its content.
    pub body: ValueBytes,
}

impl Part {
    /// What its dealer commits to.
    pub fn hash(&self, definition: &Definition) -> Digest {
        let mut hasher = Sha256::new_with_prefix(PART_TAG);
        hasher.update(definition.ceremony());
        hasher.update([self.dealer.0]);
        hasher.update(self.index.to_be_bytes());
        hasher.update(&self.body.0);
        Digest::from(<[u8; 32]>::from(hasher.finalize()))
    }
}

#[derive(Encode, Decode)]
struct Body {
    ephemeral: B256,
    chain: Vec<ChainKey>,
    validators: Vec<ValidatorKey>,
    ciphertexts: Vec<Vec<u8>>,
}

#[derive(Encode, Decode)]
struct ChainKey {
    points: Vec<FixedBytes<96>>,
    possession: FixedBytes<48>,
}

#[derive(Encode, Decode)]
struct ValidatorKey {
    points: Vec<FixedBytes<48>>,
    possession: FixedBytes<96>,
}

/// One receiver's shares of the keys of a part, or of all. Zeroised when dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shares {
    pub chain: Vec<SecretShare<MinSig>>,
    pub validators: Vec<SecretShare<MinPk>>,
}

impl Shares {
    pub fn extend(&mut self, other: Self) {
        self.chain.extend(other.chain);
        self.validators.extend(other.validators);
    }
}

/// The parts of this operator's own dealing: the same ones whenever they are made.
pub(crate) fn deal(
    definition: &Definition,
    dealer: OperatorIndex,
    secrets: &Secrets,
) -> Result<Vec<Part>, Error> {
    (0..definition.parts()).map(|index| deal_part(definition, dealer, secrets, index)).collect()
}

fn deal_part(
    definition: &Definition,
    dealer: OperatorIndex,
    secrets: &Secrets,
    index: u16,
) -> Result<Part, Error> {
    let (mut chain, mut validators) = (Vec::<Polynomial<MinSig>>::new(), Vec::<Polynomial<MinPk>>::new());
    for key in definition.keys_of_part(index) {
        let old = secrets.old().filter(|_| definition.old().is_some());
        match key.checked_sub(1) {
            None => chain.push(secrets.polynomial(definition, key, old.map(|old| &old.chain))?),
            Some(validator) => {
                let old = old.and_then(|old| old.validators.get(validator));
                validators.push(secrets.polynomial(definition, key, old)?);
            }
        }
    }
    let ephemeral = secrets.ephemeral(definition, index);
    let mut ciphertexts = Vec::new();
    for receiver in definition.quorum().members() {
        let Some(participant) = definition.receiver(receiver) else { continue };
        let mut plaintext = Zeroizing::new(Vec::with_capacity(definition.keys() * SHARE_BYTES));
        chain.iter().for_each(|polynomial| append_share(&mut plaintext, polynomial, receiver));
        validators.iter().for_each(|polynomial| append_share(&mut plaintext, polynomial, receiver));
        let shared = ephemeral.shared(&participant.encryption);
        ciphertexts.push(shared.encrypt(&context(definition, dealer, index, receiver), &plaintext));
    }
    let chain = chain.iter().map(|polynomial| ChainKey {
        points: polynomial.commitments().to_bytes().into_iter().map(FixedBytes).collect(),
        possession: polynomial.prove_possession().0,
    });
    let validators = validators.iter().map(|polynomial| ValidatorKey {
        points: polynomial.commitments().to_bytes().into_iter().map(FixedBytes).collect(),
        possession: polynomial.prove_possession().0,
    });
    let body = Body {
        ephemeral: B256::from(ephemeral.public().to_bytes()),
        chain: chain.collect(),
        validators: validators.collect(),
        ciphertexts,
    };
    let body = body.as_ssz_bytes();
    assert!(body.len() <= PART_BYTES_MAX, "the definition cuts parts so that each fits into a frame");
    Ok(Part { dealer, index, body: ValueBytes(body.into()) })
}

fn append_share<S: Scheme>(plaintext: &mut Vec<u8>, polynomial: &Polynomial<S>, receiver: OperatorIndex) {
    // The polynomial was chosen so that every share exists.
    if let Some(share) = polynomial.share(receiver) {
        plaintext.extend_from_slice(share.to_bytes().as_slice());
    }
}

/// What a faulty operator of a test deals: the same part, but each victim gets the shares of the operator after it,
/// encrypted as its own must be.
#[cfg(any(test, feature = "e2e"))]
pub(crate) fn with_wrong_shares(
    definition: &Definition,
    secrets: &Secrets,
    part: &Part,
    victims: &[OperatorIndex],
) -> Option<Part> {
    let mut body: Body = aequa_types::decode("part", &part.body.0, PART_BYTES_MAX).ok()?;
    let honest = body.ciphertexts.clone();
    let ephemeral = secrets.ephemeral(definition, part.index);
    let context = |receiver| context(definition, part.dealer, part.index, receiver);
    let shared = |receiver| Some(ephemeral.shared(&definition.participant(receiver)?.encryption));
    for victim in victims {
        let next = OperatorIndex((victim.0 + 1) % definition.quorum().operators() as u8);
        let foreign = shared(next)?.decrypt(&context(next), honest.get(next.as_usize())?).ok()?;
        *body.ciphertexts.get_mut(victim.as_usize())? = shared(*victim)?.encrypt(&context(*victim), &foreign);
    }
    Some(Part { body: ValueBytes(body.as_ssz_bytes().into()), ..part.clone() })
}

/// The hashes that a commit to these parts lists.
pub(crate) fn part_hashes(definition: &Definition, parts: &[Part]) -> Vec<Digest> {
    parts.iter().map(|part| part.hash(definition)).collect()
}

fn context(definition: &Definition, dealer: OperatorIndex, part: u16, receiver: OperatorIndex) -> Vec<u8> {
    let mut context = [SHARE_TAG, definition.ceremony().as_slice(), &[dealer.0, receiver.0]].concat();
    context.extend_from_slice(&part.to_be_bytes());
    context
}

/// A part that is well formed (rule 1).
#[derive(Debug, Clone)]
pub(crate) struct PublicPart {
    dealer: OperatorIndex,
    index: u16,
    ephemeral: EncryptionKey,
    pub chain: Vec<Commitments<MinSig>>,
    pub validators: Vec<Commitments<MinPk>>,
    ciphertexts: Vec<Vec<u8>>,
}

/// What a disclosure of a receiver shows.
#[derive(Debug)]
pub(crate) enum Shown {
    /// Nothing: it is not what receiver and dealer have in common.
    Nothing,
    /// Shares that are not those of the commitments.
    Bad,
    /// The shares of the commitments.
    Good(Shares),
}

impl PublicPart {
    /// Checks what everybody can check; says what is wrong.
    pub fn read(definition: &Definition, part: &Part) -> Result<Self, &'static str> {
        // Thousands of ceremonies of tests see the same few dealings.
        #[cfg(test)]
        return tests::remembered(definition, part);
        #[cfg(not(test))]
        Self::read_anew(definition, part)
    }

    fn read_anew(definition: &Definition, part: &Part) -> Result<Self, &'static str> {
        let body: Body = aequa_types::decode("part", &part.body.0, PART_BYTES_MAX)
            .map_err(|_| "the bytes are no part of a dealing")?;
        let keys = definition.keys_of_part(part.index);
        let chain_keys = usize::from(keys.contains(&0));
        if body.chain.len() != chain_keys || body.validators.len() != keys.len() - chain_keys {
            return Err("another number of keys");
        }
        let ciphertext_bytes = keys.len() * SHARE_BYTES + OVERHEAD_BYTES;
        let is_sized = body.ciphertexts.iter().all(|ciphertext| ciphertext.len() == ciphertext_bytes);
        if body.ciphertexts.len() != definition.quorum().operators() || !is_sized {
            return Err("ciphertexts of another number or length");
        }
        let ephemeral =
            EncryptionKey::from_bytes(&body.ephemeral.0).map_err(|_| "the ephemeral key is none")?;
        let threshold = definition.quorum().quorum();
        let chain = body.chain.iter().map(|key| {
            let points: Vec<[u8; 96]> = key.points.iter().map(|point| point.0).collect();
            commitments::<MinSig>(threshold, Commitments::from_bytes(&points), key.possession)
        });
        let validators = body.validators.iter().map(|key| {
            let points: Vec<[u8; 48]> = key.points.iter().map(|point| point.0).collect();
            commitments::<MinPk>(threshold, Commitments::from_bytes(&points), key.possession)
        });
        let public = Self {
            dealer: part.dealer,
            index: part.index,
            ephemeral,
            chain: proven(chain.collect::<Result<_, _>>()?)?,
            validators: proven(validators.collect::<Result<_, _>>()?)?,
            ciphertexts: body.ciphertexts,
        };
        if !public.deals_old_shares(definition) {
            return Err("another secret than the dealer's old share");
        }
        Ok(public)
    }

    /// Of a key dealt anew the constant terms are the dealer's old shares.
    fn deals_old_shares(&self, definition: &Definition) -> bool {
        let Some(old) = definition.old() else { return true };
        let Some(holder) = definition.holder(self.dealer) else { return false };
        let keys = definition.keys_of_part(self.index);
        let of_validators = old.validators.iter().skip(keys.start.saturating_sub(1));
        let chain = self.chain.iter().all(|own| is_old_share(own, &old.chain, holder));
        chain && self.validators.iter().zip(of_validators).all(|(own, key)| is_old_share(own, key, holder))
    }

    /// This operator's shares, if they are good. `None` says that they are bad; a dealer passes for a good one by
    /// chance with probability 2^-128.
    pub fn open(
        &self,
        definition: &Definition,
        receiver: OperatorIndex,
        secrets: &Secrets,
    ) -> Option<Shares> {
        let shares = self.decrypt(definition, receiver, &secrets.decryption().shared(&self.ephemeral))?;
        let weights = secrets.weights(definition, self.dealer);
        let is_good = verify_shares(&weights, &self.chain, &shares.chain).is_ok()
            && verify_shares(&weights, &self.validators, &shares.validators).is_ok();
        is_good.then_some(shares)
    }

    /// Shows this operator's shares to everybody.
    pub fn disclose(&self, secrets: &Secrets) -> Disclosure {
        secrets.decryption().disclose(&self.ephemeral)
    }

    /// What a receiver's disclosure shows: the same to everybody, so that each share is verified on its own.
    pub fn shown(&self, definition: &Definition, receiver: OperatorIndex, disclosure: &Disclosure) -> Shown {
        let Some(participant) = definition.receiver(receiver) else { return Shown::Nothing };
        let Ok(shared) = disclosure.open(&participant.encryption, &self.ephemeral) else {
            return Shown::Nothing;
        };
        let Some(shares) = self.decrypt(definition, receiver, &shared) else { return Shown::Bad };
        let is_good = self.chain.iter().zip(&shares.chain).all(|(own, share)| own.verify(share).is_ok())
            && self.validators.iter().zip(&shares.validators).all(|(own, share)| own.verify(share).is_ok());
        if is_good { Shown::Good(shares) } else { Shown::Bad }
    }

    /// The shares in a receiver's ciphertext, if there are as many as keys.
    fn decrypt(
        &self,
        definition: &Definition,
        receiver: OperatorIndex,
        shared: &SharedSecret,
    ) -> Option<Shares> {
        let context = context(definition, self.dealer, self.index, receiver);
        let plaintext = shared.decrypt(&context, self.ciphertexts.get(receiver.as_usize())?).ok()?;
        let (chain, validators) = plaintext.split_at_checked(self.chain.len() * SHARE_BYTES)?;
        Some(Shares { chain: read_shares(receiver, chain)?, validators: read_shares(receiver, validators)? })
    }
}

fn read_shares<S: Scheme>(receiver: OperatorIndex, bytes: &[u8]) -> Option<Vec<SecretShare<S>>> {
    bytes.chunks(SHARE_BYTES).map(|share| SecretShare::from_bytes(receiver, share).ok()).collect()
}

fn is_old_share<S: Scheme>(own: &Commitments<S>, key: &SharedKey<S>, holder: OperatorIndex) -> bool {
    let old = key.public_shares.get(holder.as_usize());
    old.is_some_and(|old| own.group_key().to_bytes().as_ref() == old.to_bytes().as_ref())
}

type Proven<S> = (Commitments<S>, Possession<S>);

fn commitments<S: Scheme>(
    threshold: usize,
    commitments: Result<Commitments<S>, aequa_crypto::Error>,
    possession: S::Signature,
) -> Result<Proven<S>, &'static str> {
    let commitments = commitments.map_err(|_| "a commitment is no point")?;
    if commitments.threshold() != threshold {
        return Err("commitments of another threshold");
    }
    Ok((commitments, Possession(possession)))
}

fn proven<S: Scheme>(keys: Vec<Proven<S>>) -> Result<Vec<Commitments<S>>, &'static str> {
    let proofs: Vec<(PublicKey<S>, Possession<S>)> =
        keys.iter().map(|(commitments, possession)| (commitments.group_key().into(), *possession)).collect();
    verify_possessions(&proofs).map_err(|_| "possession of a key is not proven")?;
    Ok(keys.into_iter().map(|(commitments, _)| commitments).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixture::{definition, secrets};
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Reads a part once and for all.
    pub(super) fn remembered(definition: &Definition, part: &Part) -> Result<PublicPart, &'static str> {
        type Known = BTreeMap<(Digest, u16), Result<PublicPart, &'static str>>;
        thread_local!(static KNOWN: RefCell<Known> = const { RefCell::new(BTreeMap::new()) });
        let place = (part.hash(definition), part.index);
        KNOWN.with_borrow_mut(|known| {
            known.entry(place).or_insert_with(|| PublicPart::read_anew(definition, part)).clone()
        })
    }

    fn dealt() -> (Definition, Part) {
        let definition = definition(4, 2);
        let part = deal(&definition, OperatorIndex(1), &secrets(1)).unwrap().remove(0);
        (definition, part)
    }

    fn body_of(part: &Part) -> Body {
        aequa_types::decode("part", &part.body.0, PART_BYTES_MAX).unwrap()
    }

    fn with(part: &Part, change: impl FnOnce(&mut Body)) -> Part {
        let mut body = body_of(part);
        change(&mut body);
        Part { body: ValueBytes(body.as_ssz_bytes().into()), ..part.clone() }
    }

    /// The same dealing with a proof of possession of another key.
    pub(crate) fn with_foreign_possession(part: &Part) -> Part {
        with(part, |body| body.chain[0].possession = FixedBytes::repeat_byte(0x11))
    }

    #[test]
    fn every_receiver_finds_good_shares_and_shows_them_if_it_must() {
        let (definition, part) = dealt();
        let public = PublicPart::read(&definition, &part).unwrap();
        for receiver in definition.quorum().members() {
            let shares = public.open(&definition, receiver, &secrets(receiver.0)).unwrap();
            assert_eq!((shares.chain.len(), shares.validators.len()), (1, 2));
            let disclosure = public.disclose(&secrets(receiver.0));
            let Shown::Good(shown) = public.shown(&definition, receiver, &disclosure) else { panic!() };
            assert_eq!(shown.chain[0].to_bytes(), shares.chain[0].to_bytes());
            let of_another = OperatorIndex((receiver.0 + 1) % 4);
            assert!(matches!(public.shown(&definition, of_another, &disclosure), Shown::Nothing));
            assert!(public.open(&definition, of_another, &secrets(receiver.0)).is_none());
        }
    }

    #[test]
    fn a_bad_share_is_shown_to_everybody() {
        let (definition, part) = dealt();
        let bad = with_wrong_shares(&definition, &secrets(1), &part, &[OperatorIndex(3)]).unwrap();
        let garbage = with(&part, |body| body.ciphertexts[3][0] ^= 1);
        for part in [bad, garbage] {
            let public = PublicPart::read(&definition, &part).unwrap();
            assert!(public.open(&definition, OperatorIndex(3), &secrets(3)).is_none());
            let disclosure = public.disclose(&secrets(3));
            assert!(matches!(public.shown(&definition, OperatorIndex(3), &disclosure), Shown::Bad));
            assert!(
                public.open(&definition, OperatorIndex(2), &secrets(2)).is_some(),
                "the others' are good"
            );
        }
    }

    #[test]
    fn a_malformed_part_is_refused_by_everybody() {
        let (definition, part) = dealt();
        let changes: [fn(&mut Body); 12] = [
            |body| body.ephemeral = B256::ZERO,
            |body| body.chain.clear(),
            |body| _ = body.validators.pop(),
            |body| _ = body.chain[0].points.pop(),
            |body| body.validators[0].points.push(FixedBytes::ZERO),
            |body| body.validators[1].points[2] = FixedBytes::ZERO,
            |body| body.validators.swap(0, 1),
            |body| body.validators[0].possession = body.validators[1].possession,
            |body| body.chain[0].possession = FixedBytes::ZERO,
            |body| _ = body.ciphertexts.pop(),
            |body| body.ciphertexts[1].push(0),
            |body| body.ciphertexts[1].clear(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            // Swapped keys with their proofs are a dealing, though another one.
            let is_well_formed = number == 6;
            let changed = with(&part, change);
            assert_eq!(PublicPart::read(&definition, &changed).is_ok(), is_well_formed, "change {number}");
            assert_ne!(changed.hash(&definition), part.hash(&definition));
        }
        let cut = Part { body: ValueBytes(part.body.0[1..].into()), ..part };
        assert!(PublicPart::read(&definition, &cut).is_err());
    }

    #[test]
    fn a_dealing_in_parts_has_every_key() {
        let definition = definition(4, 260);
        let parts = deal(&definition, OperatorIndex(0), &secrets(0)).unwrap();
        let public: Vec<PublicPart> =
            parts.iter().map(|part| PublicPart::read(&definition, part).unwrap()).collect();
        let validators: usize = public.iter().map(|part| part.validators.len()).sum();
        assert_eq!((parts.len(), validators), (2, 260));
        assert!(PublicPart::read(&definition, &Part { index: 1, ..parts[0].clone() }).is_err());
    }

    #[test]
    fn the_encoding_of_a_dealing_is_frozen() {
        let (definition, part) = dealt();
        let golden = "4c081765777f93b816c175992583f4c7ba45ced08f5fbca712bf3eb0f10988d7";
        assert_eq!(hex::encode(part.hash(&definition)), golden);
    }
}
