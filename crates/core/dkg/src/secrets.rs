//! What an operator knows and nobody else.
//!
//! All chance of a ceremony is drawn before it, as one seed, and kept: coefficients, ephemeral keys and weights are
//! derived from it. So a restart makes the same dealing again, to the byte, and never a second one.

use crate::{Definition, Error, SecretShares};
use aequa_crypto::bls::{Scheme, SecretKey, SecretScalar};
use aequa_crypto::encryption::DecryptionKey;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::threshold::{Polynomial, SecretShare};
use aequa_types::OperatorIndex;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

const COEFFICIENT: &[u8] = b"aequa/dkg-coefficient/v1\0";
const EPHEMERAL: &[u8] = b"aequa/dkg-ephemeral/v1\0";
const WEIGHTS: &[u8] = b"aequa/dkg-weights/v1\0";

/// The secrets of one operator in one ceremony. Zeroised when dropped; `Debug` shows public halves only.
#[derive(Debug)]
pub struct Secrets {
    identity: IdentityKey,
    decryption: DecryptionKey,
    seed: Seed,
    old: Option<SecretShares>,
}

struct Seed(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

impl Secrets {
    /// The operator's keys, and 32 random bytes that are durable before the ceremony begins and used for no other.
    pub fn new(identity: IdentityKey, decryption: DecryptionKey, seed: Zeroizing<[u8; 32]>) -> Self {
        Self { identity, decryption, seed: Seed(seed), old: None }
    }

    /// The same with the operator's old shares, to deal them anew.
    pub fn with_old(self, shares: SecretShares) -> Self {
        Self { old: Some(shares), ..self }
    }

    pub(crate) fn old(&self) -> Option<&SecretShares> {
        self.old.as_ref()
    }

    pub(crate) fn identity(&self) -> &IdentityKey {
        &self.identity
    }

    pub(crate) fn decryption(&self) -> &DecryptionKey {
        &self.decryption
    }

    /// The operator's polynomial for a key, through its old share if that is dealt anew. One that is 0 at an operator's coordinate is passed over, which happens
    /// once in 2^248.
    pub(crate) fn polynomial<S: Scheme>(
        &self,
        definition: &Definition,
        key: usize,
        old: Option<&SecretShare<S>>,
    ) -> Result<Polynomial<S>, Error> {
        for attempt in 0..u8::MAX {
            let coefficients = (0..definition.quorum().quorum()).map(|degree| {
                if let Some(old) = old.filter(|_| degree == 0) {
                    return SecretKey::from_bytes(old.to_bytes().as_slice());
                }
                let place = [key as u64, degree as u64, u64::from(attempt)];
                let scalar = SecretScalar::from_wide_bytes(&self.derive(definition, COEFFICIENT, &place));
                SecretKey::from_bytes(scalar.to_bytes().as_slice())
            });
            let Ok(coefficients) = coefficients.collect::<Result<Vec<SecretKey<S>>, _>>() else { continue };
            let polynomial = Polynomial::of_coefficients(coefficients)?;
            if definition.quorum().members().all(|receiver| polynomial.share(receiver).is_some()) {
                return Ok(polynomial);
            }
        }
        Err(Error::Crypto(aequa_crypto::Error::Randomness("the seed gives no polynomial".into())))
    }

    /// The key that a part of the dealing is encrypted with.
    pub(crate) fn ephemeral(&self, definition: &Definition, part: u16) -> DecryptionKey {
        let derived = self.derive(definition, EPHEMERAL, &[u64::from(part)]);
        let mut bytes = Zeroizing::new([0u8; 32]);
        bytes.copy_from_slice(&derived[..32]);
        DecryptionKey::from_bytes(&bytes)
    }

    /// What a dealer must not know, to weight the shares it deals.
    pub(crate) fn weights(&self, definition: &Definition, dealer: OperatorIndex) -> Zeroizing<[u8; 32]> {
        let derived = self.derive(definition, WEIGHTS, &[u64::from(dealer.0)]);
        let mut bytes = Zeroizing::new([0u8; 32]);
        bytes.copy_from_slice(&derived[..32]);
        bytes
    }

    fn derive(&self, definition: &Definition, label: &[u8], place: &[u64]) -> Zeroizing<[u8; 64]> {
        let mut info = label.to_vec();
        place.iter().for_each(|number| info.extend_from_slice(&number.to_be_bytes()));
        let mut derived = Zeroizing::new([0u8; 64]);
        let hkdf = Hkdf::<Sha256>::new(Some(definition.ceremony().as_slice()), self.seed.0.as_slice());
        // 64 bytes are two blocks of the 255 that HKDF gives.
        hkdf.expand(&info, derived.as_mut_slice()).expect("HKDF gives 64 bytes");
        derived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{definition, secrets};
    use aequa_crypto::bls::{MinPk, MinSig};

    #[test]
    fn a_seed_gives_the_same_polynomials_again_and_another_for_every_key_and_ceremony() {
        let (one, other) = (definition(4, 1), definition(4, 2));
        let polynomial = |definition: &Definition, key| {
            secrets(0).polynomial::<MinPk>(definition, key, None).unwrap().commitments()
        };
        assert_eq!(polynomial(&one, 1), polynomial(&one, 1));
        assert_ne!(polynomial(&one, 1), polynomial(&one, 2));
        assert_ne!(polynomial(&one, 1), polynomial(&other, 1));
        let chain = secrets(0).polynomial::<MinSig>(&one, 0, None).unwrap();
        assert_eq!(chain.commitments().threshold(), 3);
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let seed = [0xabu8; 32];
        let (identity, decryption) = (IdentityKey::from_seed(&seed), DecryptionKey::from_bytes(&seed));
        let shown = format!("{:?}", Secrets::new(identity, decryption, Zeroizing::new(seed)));
        assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
    }
}
