//! What comes out: the keys of the group, and this operator's shares of them.

use crate::board::Board;
use crate::dealing::{PublicPart, Shares};
use crate::secrets::Secrets;
use crate::statement::DealingId;
use crate::{Definition, Error, OldKeys};
use aequa_crypto::bls::{MinPk, MinSig, Scheme};
use aequa_crypto::threshold::{Commitments, Dealers, GroupKey, PublicShare, SecretShare, recover};
use aequa_types::{Digest, OperatorIndex};
use sha2::{Digest as _, Sha256};

const RESULT_TAG: &[u8] = b"aequa/dkg-result/v1\0";

/// A key of the group: what it verifies under, and what each operator's share verifies under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedKey<S: Scheme> {
    /// The key of the group.
    pub group_key: GroupKey<S>,
    /// One for each operator, in order.
    pub public_shares: Vec<PublicShare<S>>,
}

/// What everybody may know of a ceremony that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicResult {
    /// Whose dealings are in the keys.
    pub qualified: Vec<DealingId>,
    /// The chain's key.
    pub chain: SharedKey<MinSig>,
    /// The validators' keys, in order.
    pub validators: Vec<SharedKey<MinPk>>,
}

/// What one operator alone knows of it. Zeroised when dropped.
#[derive(Debug, Clone)]
pub struct SecretShares {
    /// Its share of the chain's key.
    pub chain: SecretShare<MinSig>,
    /// Its shares of the validators' keys, in order.
    pub validators: Vec<SecretShare<MinPk>>,
}

/// All of it.
#[derive(Debug)]
pub struct Outcome {
    /// What everybody has alike.
    pub public: PublicResult,
    /// What this operator has; nothing where it leaves.
    pub secret: Option<SecretShares>,
}

impl PublicResult {
    /// What operators sign who have these keys.
    pub fn hash(&self, definition: &Definition) -> Digest {
        let mut hasher = Sha256::new_with_prefix(RESULT_TAG);
        hasher.update(definition.ceremony());
        hasher.update((self.qualified.len() as u64).to_be_bytes());
        for dealing in &self.qualified {
            hasher.update([dealing.dealer.0]);
            hasher.update(dealing.hash);
        }
        hasher.update(self.chain.group_key.to_bytes());
        self.chain.public_shares.iter().for_each(|share| hasher.update(share.to_bytes()));
        hasher.update((self.validators.len() as u64).to_be_bytes());
        for validator in &self.validators {
            hasher.update(validator.group_key.to_bytes());
            validator.public_shares.iter().for_each(|share| hasher.update(share.to_bytes()));
        }
        Digest::from(<[u8; 32]>::from(hasher.finalize()))
    }

    /// The sum of the qualified dealings, if they are all here.
    pub(crate) fn of(definition: &Definition, board: &Board) -> Result<Self, Error> {
        let (qualified, dealt) = qualified(board)?;
        let sum = Sum { definition, qualified: &qualified };
        let chain = sum.keys(&commitments(&dealt, |part| &part.chain), old_chain)?;
        let validators = sum.keys(&commitments(&dealt, |part| &part.validators), old_validator)?;
        let chain = chain.into_iter().next().ok_or(Error::Undecided)?;
        Ok(Self { qualified, chain, validators })
    }
}

impl SecretShares {
    /// This operator's shares of the sum; none as long as those of a dealer who dealt it bad ones lack.
    pub(crate) fn of(
        definition: &Definition,
        board: &Board,
        me: OperatorIndex,
        secrets: &Secrets,
    ) -> Result<Option<Self>, Error> {
        let (qualified, dealt) = qualified(board)?;
        let mut all = Vec::new();
        for (dealing, parts) in qualified.iter().zip(&dealt) {
            let own = parts.iter().map(|part| part.open(definition, me, secrets));
            let own: Option<Vec<Shares>> = own.collect();
            let own = match own {
                Some(parts) => parts.into_iter().fold(Shares::default(), |mut all, part| {
                    all.extend(part);
                    all
                }),
                None => match recovered(definition, board, me, dealing.dealer)? {
                    Some(own) => own,
                    None => return Ok(None),
                },
            };
            all.push(own);
        }
        let sum = Sum { definition, qualified: &qualified };
        let chain = sum.shares(&all, |own| &own.chain, old_chain)?;
        let validators = sum.shares(&all, |own| &own.validators, old_validator)?;
        let chain = chain.into_iter().next().ok_or(Error::Undecided)?;
        Ok(Some(Self { chain, validators }))
    }

    /// Whether each belongs to the key in its place.
    pub(crate) fn check(&self, public: &PublicResult) -> Result<(), Error> {
        check_share(&self.chain, &public.chain)?;
        self.validators.iter().zip(&public.validators).try_for_each(|(own, key)| check_share(own, key))
    }
}

fn check_share<S: Scheme>(own: &SecretShare<S>, key: &SharedKey<S>) -> Result<(), Error> {
    let is_own = key.public_shares.get(own.operator().as_usize()) == Some(&own.public());
    if is_own { Ok(()) } else { Err(aequa_crypto::Error::BadShare(own.operator()).into()) }
}

/// A dealing as the parts it came in.
type Parts<'a> = Vec<&'a PublicPart>;

fn qualified(board: &Board) -> Result<(Vec<DealingId>, Vec<Parts<'_>>), Error> {
    let qualified = board.qualified().ok_or(Error::Undecided)?.to_vec();
    let dealt = qualified.iter().map(|dealing| {
        let is_here = board.dealing(dealing.dealer) == Some(*dealing);
        let parts = board.public(dealing.dealer).filter(|_| is_here);
        parts.ok_or(Error::MissingDealing(dealing.dealer))
    });
    let dealt = dealt.collect::<Result<_, _>>()?;
    Ok((qualified, dealt))
}

/// For each dealer the commitments of its keys in order.
fn commitments<'a, S: Scheme>(
    dealt: &[Parts<'a>],
    of: impl Fn(&'a PublicPart) -> &'a Vec<Commitments<S>>,
) -> Vec<Vec<&'a Commitments<S>>> {
    dealt.iter().map(|parts| parts.iter().flat_map(|part| of(part)).collect()).collect()
}

fn old_chain(old: &OldKeys, _: usize) -> Option<&SharedKey<MinSig>> {
    Some(&old.chain)
}

fn old_validator(old: &OldKeys, key: usize) -> Option<&SharedKey<MinPk>> {
    old.validators.get(key)
}

/// Finds the old key of a number, among those of one scheme.
type OldKey<S> = fn(&OldKeys, usize) -> Option<&SharedKey<S>>;

/// The dealings that are added up.
struct Sum<'a> {
    definition: &'a Definition,
    qualified: &'a [DealingId],
}

impl Sum<'_> {
    /// How much each dealing of a key counts: a new key is their plain sum, of an old one each is a share.
    fn dealers<S: Scheme>(&self, key: usize, old_key: OldKey<S>) -> Result<Dealers<S>, Error> {
        let dealers: Vec<OperatorIndex> = self.qualified.iter().map(|dealing| dealing.dealer).collect();
        let Some(old) = self.definition.old() else { return Ok(Dealers::of_new_key(&dealers)?) };
        let old_key = old_key(old, key).ok_or(Error::Undecided)?;
        let share = |dealer: &OperatorIndex| {
            let holder = self.definition.holder(*dealer)?;
            old_key.public_shares.get(holder.as_usize()).copied()
        };
        let shares: Vec<PublicShare<S>> = dealers.iter().filter_map(share).collect();
        Ok(Dealers::resharing(old.threshold, &shares)?)
    }

    fn keys<S: Scheme>(
        &self,
        dealt: &[Vec<&Commitments<S>>],
        old_key: OldKey<S>,
    ) -> Result<Vec<SharedKey<S>>, Error> {
        let keys = dealt.first().map_or(0, Vec::len);
        let sum = |key: usize| {
            let of_key: Vec<Commitments<S>> =
                dealt.iter().filter_map(|own| own.get(key)).map(|own| (*own).clone()).collect();
            shared_key(self.definition, &self.dealers(key, old_key)?.commitments(&of_key)?)
        };
        (0..keys).map(sum).collect()
    }

    fn shares<S: Scheme>(
        &self,
        dealt: &[Shares],
        of: impl Fn(&Shares) -> &Vec<SecretShare<S>>,
        old_key: OldKey<S>,
    ) -> Result<Vec<SecretShare<S>>, Error> {
        let keys = dealt.first().map_or(0, |own| of(own).len());
        let sum = |key: usize| {
            let of_key: Vec<SecretShare<S>> =
                dealt.iter().filter_map(|own| of(own).get(key)).cloned().collect();
            Ok(self.dealers(key, old_key)?.share(&of_key)?)
        };
        (0..keys).map(sum).collect()
    }
}

fn shared_key<S: Scheme>(
    definition: &Definition,
    commitments: &Commitments<S>,
) -> Result<SharedKey<S>, Error> {
    let members = definition.quorum().members();
    let public_shares =
        members.map(|operator| commitments.public_share(operator)).collect::<Result<_, _>>()?;
    Ok(SharedKey { group_key: commitments.group_key(), public_shares })
}

/// This operator's shares of a dealing, of those that q others opened.
fn recovered(
    definition: &Definition,
    board: &Board,
    me: OperatorIndex,
    dealer: OperatorIndex,
) -> Result<Option<Shares>, Error> {
    let opened: Vec<&Shares> = board.opened(dealer).collect();
    if opened.len() < definition.quorum().quorum() {
        return Ok(None);
    }
    let threshold = definition.quorum().quorum();
    Ok(Some(Shares {
        chain: recovered_of(me, threshold, &opened, |own| &own.chain)?,
        validators: recovered_of(me, threshold, &opened, |own| &own.validators)?,
    }))
}

fn recovered_of<S: Scheme>(
    me: OperatorIndex,
    threshold: usize,
    opened: &[&Shares],
    of: impl Fn(&Shares) -> &Vec<SecretShare<S>>,
) -> Result<Vec<SecretShare<S>>, Error> {
    let keys = opened.first().map_or(0, |own| of(own).len());
    let recovered = |key: usize| {
        let of_key: Vec<SecretShare<S>> = opened.iter().filter_map(|own| of(own).get(key)).cloned().collect();
        Ok(recover(me, threshold, &of_key)?)
    };
    (0..keys).map(recovered).collect()
}
