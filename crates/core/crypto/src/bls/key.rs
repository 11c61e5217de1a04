//! Single keys, and the proof that somebody has the secret of one.

use super::curve::{Point as _, Scalar};
use super::{KeyBytes, Scheme, SecretScalar, parse_key, verify_one, verify_sum};
use crate::Error;
use crate::kept::Kept;
use zeroize::Zeroizing;

/// A secret key. Zeroised when dropped; `Debug` shows the public half only.
#[derive(Clone)]
pub struct SecretKey<S: Scheme> {
    secret: Kept<S::Secret>,
}

impl<S: Scheme> SecretKey<S> {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        loop {
            // Zero comes up once in 2^255 and is drawn again.
            if let Some(secret) = S::secret_of(&Scalar::random()?.to_scalar()) {
                return Ok(Self { secret: Kept::new(secret) });
            }
        }
    }

    /// Parses a big-endian scalar between 1 and the group order − 1.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse("secret key", bytes)
    }

    pub(crate) fn parse(what: &'static str, bytes: &[u8]) -> Result<Self, Error> {
        let invalid = Error::InvalidKey { what, reason: "not a scalar between 1 and the group order" };
        Ok(Self { secret: Kept::new(S::secret(bytes).ok_or(invalid)?) })
    }

    /// The key of a scalar; none for 0.
    pub(crate) fn of_scalar(scalar: &SecretScalar) -> Option<Self> {
        Some(Self { secret: Kept::new(S::secret_of(&scalar.as_scalar().to_scalar())?) })
    }

    pub(crate) fn to_scalar(&self) -> SecretScalar {
        // A key is below the group order.
        SecretScalar::from_bytes(&self.to_bytes()).expect("a secret key is a scalar")
    }

    /// The big-endian scalar, for the keystore.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(S::secret_bytes(&self.secret))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey<S> {
        PublicKey { point: S::key(&self.secret) }
    }

    /// This key's signature of `message`.
    pub fn sign(&self, message: &[u8]) -> S::Signature {
        S::sign(&self.secret, message, S::CIPHERSUITE).compress().into()
    }

    /// Shows that this secret belongs to its public half, for those who will add that to others.
    pub fn prove_possession(&self) -> Possession<S> {
        let key = self.public().to_bytes();
        Possession(S::sign(&self.secret, key.as_ref(), S::POSSESSION).compress().into())
    }
}

impl<S: Scheme> std::fmt::Debug for SecretKey<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
}

/// A proof of possession, as it is sent: a signature of the key by its own secret, under a tag of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Possession<S: Scheme>(pub S::Signature);

/// The key under which one secret's signatures verify.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey<S: Scheme> {
    pub(crate) point: S::Key,
}

impl<S: Scheme> PublicKey<S> {
    /// Parses a compressed point: on the curve, in the subgroup, not the identity.
    pub fn from_bytes(bytes: &KeyBytes<S>) -> Result<Self, Error> {
        Ok(Self { point: parse_key("public key", bytes)? })
    }

    /// The compressed point.
    pub fn to_bytes(&self) -> KeyBytes<S> {
        self.point.compress()
    }

    /// Whether `signature` is this key's signature of `message`.
    pub fn verify(&self, message: &[u8], signature: &S::Signature) -> Result<(), Error> {
        verify_one::<S>(&self.point, message, signature)
    }

    /// The key as one that may be added to others, if `possession` shows that somebody has its secret.
    pub fn proven(self, possession: &Possession<S>) -> Result<ProvenKey<S>, Error> {
        let key = self.to_bytes();
        verify_sum::<S>(S::POSSESSION, [(&self.point, key.as_ref())].into_iter(), &possession.0)?;
        Ok(ProvenKey { key: self })
    }

    /// The key as one that may be added to others, on the word of the caller that possession of its secret was
    /// proven elsewhere: Ethereum asks for a proof with every deposit. Without one, whoever chose the key last
    /// can sign for all.
    pub fn proven_elsewhere(self) -> ProvenKey<S> {
        ProvenKey { key: self }
    }
}

impl<S: Scheme> std::fmt::Debug for PublicKey<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.to_bytes()))
    }
}

/// A public key whose secret somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenKey<S: Scheme> {
    key: PublicKey<S>,
}

impl<S: Scheme> ProvenKey<S> {
    /// The key itself.
    pub fn key(&self) -> &PublicKey<S> {
        &self.key
    }
}
