//! The keys of a dealt cluster, dealt anew in one place.

use aequa_crypto::dealer::{DealtCluster, OperatorSecrets};
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::lock::warnings;
use aequa_crypto::seal::{Aggregate, PublicShare, SecretShare};
use aequa_crypto::threshold::{Dealers, Polynomial};
use aequa_types::definition::Definition;
use aequa_types::lock::{Key32, Operator};
use aequa_types::{Height, OperatorIndex, Quorum, Seal, Signature};

/// The cluster of the next epoch: in each place an operator of before, or a stranger. Those at `signers` have signed.
pub fn reshared(
    parent: &DealtCluster,
    places: &[Option<usize>],
    activation_height: Height,
    signers: &[usize],
) -> DealtCluster {
    let quorum = Quorum::of(places.len()).unwrap();
    let identities: Vec<IdentityKey> = places
        .iter()
        .map(|place| match place {
            Some(place) => IdentityKey::from_seed(&parent.operators[*place].identity.seed()),
            None => IdentityKey::generate().unwrap(),
        })
        .collect();
    let operators = quorum.members().zip(&identities).map(|(index, identity)| Operator {
        index,
        peer_id: identity.public().peer_id(),
        identity_key: Key32::from(identity.public().to_bytes()),
        ..parent.lock.operators[0].clone()
    });
    let definition = Definition::following(&parent.lock, operators.collect(), activation_height).unwrap();
    let shares = new_shares(parent, quorum);
    let public: Vec<PublicShare> = shares.iter().map(SecretShare::public).collect();
    let mut lock = definition.lock();
    lock.sequencer.group_key = parent.lock.sequencer.group_key;
    lock.sequencer.public_shares = public.iter().map(|share| share.to_bytes().into()).collect();
    lock.lock_hash = lock.compute_lock_hash();
    let message = lock.lock_hash.as_slice();
    let seals: Vec<Seal> = shares.iter().map(|share| share.sign(message)).collect();
    lock.signature_aggregate = Aggregate::new(message, &public).sum(&seals).unwrap();
    lock.node_signatures = (0..places.len())
        .map(|place| match signers.contains(&place) {
            true => identities[place].sign(message),
            false => Signature::default(),
        })
        .collect();
    let operators = quorum
        .members()
        .zip(identities.into_iter().zip(shares))
        .map(|(index, (identity, share))| OperatorSecrets {
            index,
            identity,
            share,
            validator_shares: Vec::new(),
        })
        .collect();
    DealtCluster { lock, operators, warnings: warnings(quorum) }
}

/// Shares of the same secret, as q of the old operators deal it anew.
fn new_shares(parent: &DealtCluster, quorum: Quorum) -> Vec<SecretShare> {
    let threshold = parent.lock.threshold as usize;
    let old: Vec<&SecretShare> =
        parent.operators.iter().take(threshold).map(|operator| &operator.share).collect();
    let public: Vec<PublicShare> = old.iter().map(|share| share.public()).collect();
    let dealers = Dealers::resharing(threshold, &public).unwrap();
    let polynomials: Vec<_> =
        old.iter().map(|share| Polynomial::resharing(share, quorum.quorum()).unwrap()).collect();
    let share = |operator: OperatorIndex| {
        let dealt: Vec<SecretShare> =
            polynomials.iter().map(|polynomial| polynomial.share(operator).unwrap()).collect();
        dealers.share(&dealt).unwrap()
    };
    quorum.members().map(share).collect()
}
