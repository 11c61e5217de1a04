//! What comes out: the keys of the group, and this operator's shares of them.

use crate::board::Board;
use crate::dealing::{PublicPart, Shares};
use crate::secrets::Secrets;
use crate::statement::DealingId;
use crate::{Definition, Error};
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
    /// What this operator has.
    pub secret: SecretShares,
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
        let dealers = DealersOfAll::new(&qualified)?;
        let chain = sums(&dealers.chain, &commitments(&dealt, |part| &part.chain))?;
        let validators = sums(&dealers.validators, &commitments(&dealt, |part| &part.validators))?;
        let chain = chain.first().ok_or(Error::Undecided)?;
        Ok(Self {
            qualified,
            chain: shared_key(definition, chain)?,
            validators: validators
                .iter()
                .map(|commitments| shared_key(definition, commitments))
                .collect::<Result<_, _>>()?,
        })
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
        let dealers = DealersOfAll::new(&qualified)?;
        let chain = shares(&dealers.chain, &all, |own| &own.chain)?;
        let validators = shares(&dealers.validators, &all, |own| &own.validators)?;
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

/// Those whose dealings are added up, for keys of both schemes.
struct DealersOfAll {
    chain: Dealers<MinSig>,
    validators: Dealers<MinPk>,
}

impl DealersOfAll {
    fn new(qualified: &[DealingId]) -> Result<Self, Error> {
        let dealers: Vec<OperatorIndex> = qualified.iter().map(|dealing| dealing.dealer).collect();
        Ok(Self { chain: Dealers::of_new_key(&dealers)?, validators: Dealers::of_new_key(&dealers)? })
    }
}

/// A dealing as the parts it came in.
type Dealt<'a> = Vec<&'a PublicPart>;

fn qualified(board: &Board) -> Result<(Vec<DealingId>, Vec<Dealt<'_>>), Error> {
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
    dealt: &[Dealt<'a>],
    of: impl Fn(&'a PublicPart) -> &'a Vec<Commitments<S>>,
) -> Vec<Vec<&'a Commitments<S>>> {
    dealt.iter().map(|parts| parts.iter().flat_map(|part| of(part)).collect()).collect()
}

/// For each key the sum over the dealers.
fn sums<S: Scheme>(
    dealers: &Dealers<S>,
    dealt: &[Vec<&Commitments<S>>],
) -> Result<Vec<Commitments<S>>, Error> {
    let keys = dealt.first().map_or(0, Vec::len);
    let sum = |key: usize| {
        let of_key: Vec<Commitments<S>> =
            dealt.iter().filter_map(|own| own.get(key)).map(|own| (*own).clone()).collect();
        Ok(dealers.commitments(&of_key)?)
    };
    (0..keys).map(sum).collect()
}

fn shares<S: Scheme>(
    dealers: &Dealers<S>,
    dealt: &[Shares],
    of: impl Fn(&Shares) -> &Vec<SecretShare<S>>,
) -> Result<Vec<SecretShare<S>>, Error> {
    let keys = dealt.first().map_or(0, |own| of(own).len());
    let sum = |key: usize| {
        let of_key: Vec<SecretShare<S>> = dealt.iter().filter_map(|own| of(own).get(key)).cloned().collect();
        Ok(dealers.share(&of_key)?)
    };
    (0..keys).map(sum).collect()
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
