//! A verifiable random function: ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381.
//!
//! ```text
//! VrfKey, input ──prove──► VrfProof (Γ ‖ c ‖ s, 80 bytes) ──PublicVrfKey::verify──► VrfOutput (64 bytes)
//! ```
//!
//! Only the holder of the key can say what the output of an input is, and can say one thing only. Everybody
//! else learns it with the proof. The steps below carry the section numbers of the RFC.
//!
//! # What is refused
//!
//! 1. A key that is no canonical point, or of small order (section 5.4.5): its output would be known to all.
//! 2. A proof of another length than 80 bytes, whose Γ is no canonical point, or whose `s` is not below the
//!    group order: a second encoding of one proof.
//! 3. A proof of an older draft, whose challenge was hashed without the key and without the trailing octet.
//!
//! # Time
//!
//! The secret scalar and the nonce are multiplied in constant time. How many tries the hash to the curve takes
//! (section 5.4.1.1) follows from the key and the input, both of which are public here.

use crate::Error;
use crate::kept::Kept;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use sha2::{Digest as _, Sha512};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// Size of a proof in bytes: Γ 32, c 16, s 32.
pub const PROOF_BYTES: usize = 80;
/// Size of an output in bytes.
pub const OUTPUT_BYTES: usize = 64;

/// `suite_string` of the ciphersuite (section 5.5).
const SUITE: u8 = 0x03;
/// What a hash of the ciphersuite is for, and what ends its input.
const ENCODE_TO_CURVE: u8 = 0x01;
const CHALLENGE: u8 = 0x02;
const PROOF_TO_HASH: u8 = 0x03;
const END: u8 = 0x00;
/// Length of a challenge in bytes.
const CHALLENGE_BYTES: usize = 16;

/// An operator's secret key. Zeroised when dropped; `Debug` shows the public half only.
pub struct VrfKey {
    secret: Kept<Secret>,
    public: PublicVrfKey,
}

/// What RFC 8032, section 5.1.5, makes of a seed.
#[derive(ZeroizeOnDrop)]
struct Secret {
    seed: [u8; 32],
    scalar: Scalar,
    nonce_prefix: [u8; 32],
}

impl VrfKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of an RFC 8032 seed. A seed of its own: an identity's key signs, this one proves.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let mut digest: [u8; 64] = Sha512::digest(seed).into();
        let mut secret = Secret { seed: *seed, scalar: Scalar::ZERO, nonce_prefix: [0; 32] };
        secret.nonce_prefix.copy_from_slice(&digest[32..]);
        let mut clamped = [0u8; 32];
        clamped.copy_from_slice(&digest[..32]);
        digest.zeroize();
        clamped[0] &= 0b1111_1000;
        clamped[31] &= 0b0111_1111;
        clamped[31] |= 0b0100_0000;
        // Modulo the group order: the points it is multiplied with have that order.
        secret.scalar = Scalar::from_bytes_mod_order(clamped);
        clamped.zeroize();
        let point = EdwardsPoint::mul_base(&secret.scalar);
        let public = PublicVrfKey { point, bytes: point.compress().to_bytes() };
        Self { secret: Kept::new(secret), public }
    }

    /// The seed, for the keystore.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.seed)
    }

    /// The public half.
    pub fn public(&self) -> PublicVrfKey {
        self.public
    }

    /// The proof of what the output of `input` is (section 5.1).
    pub fn prove(&self, input: &[u8]) -> VrfProof {
        let hash = self.public.encode_to_curve(input);
        let hash_bytes = hash.compress().to_bytes();
        let gamma = hash * self.secret.scalar;
        let nonce = Zeroizing::new(self.nonce(&hash_bytes));
        let (u, v) = (EdwardsPoint::mul_base(&nonce), hash * *nonce);
        let challenge = self.public.challenge(&hash_bytes, &gamma, &u, &v);
        let response = *nonce + scalar_of(&challenge) * self.secret.scalar;
        VrfProof { gamma, challenge, response }
    }

    /// Section 5.4.2.2: RFC 8032's nonce, so that no chance is needed and one input has one proof.
    fn nonce(&self, hash: &[u8; 32]) -> Scalar {
        let digest = Sha512::new().chain_update(self.secret.nonce_prefix).chain_update(hash).finalize();
        let digest = Zeroizing::new(<[u8; 64]>::from(digest));
        Scalar::from_bytes_mod_order_wide(&digest)
    }
}

impl std::fmt::Debug for VrfKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VrfKey(of {:?})", self.public)
    }
}

/// The key under which an operator's proofs verify.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicVrfKey {
    point: EdwardsPoint,
    bytes: [u8; 32],
}

impl PublicVrfKey {
    /// Parses a key: a canonically encoded point that is not of small order (section 5.4.5).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidKey { what: "vrf key", reason };
        let point = point_of(bytes).ok_or(invalid("not a canonical point of the curve"))?;
        if point.is_small_order() {
            return Err(invalid("of small order"));
        }
        Ok(Self { point, bytes: *bytes })
    }

    /// The 32-byte encoding.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.bytes
    }

    /// The output of `input`, if `proof` is this key's proof of it (section 5.3).
    pub fn verify(&self, input: &[u8], proof: &VrfProof) -> Result<VrfOutput, Error> {
        let VrfProof { gamma, challenge, response } = proof;
        let hash = self.encode_to_curve(input);
        let minus_challenge = -scalar_of(challenge);
        let u = EdwardsPoint::vartime_double_scalar_mul_basepoint(&minus_challenge, &self.point, response);
        let v = EdwardsPoint::vartime_multiscalar_mul([response, &minus_challenge], [&hash, gamma]);
        if self.challenge(&hash.compress().to_bytes(), gamma, &u, &v) != *challenge {
            return Err(Error::BadProof);
        }
        Ok(proof.to_hash())
    }

    /// Section 5.4.1.1: hashes with a counter until the digest is a point. The salt is the key.
    fn encode_to_curve(&self, input: &[u8]) -> EdwardsPoint {
        // Every other digest is the y of a point: 256 in a row that are not happen to one input in 2^256.
        let tries = (0..=u8::MAX).filter_map(|counter| {
            let digest = Sha512::new()
                .chain_update([SUITE, ENCODE_TO_CURVE])
                .chain_update(self.bytes)
                .chain_update(input)
                .chain_update([counter, END])
                .finalize();
            let mut bytes = [0u8; 32];
            bytes.copy_from_slice(&digest[..32]);
            Some(point_of(&bytes)?.mul_by_cofactor())
        });
        let mut points = tries.filter(|point| !point.is_identity());
        points.next().expect("one of 256 digests is a point")
    }

    /// Section 5.4.3: the challenge of the five points of a proof.
    fn challenge(
        &self,
        hash: &[u8; 32],
        gamma: &EdwardsPoint,
        u: &EdwardsPoint,
        v: &EdwardsPoint,
    ) -> [u8; CHALLENGE_BYTES] {
        let mut hasher = Sha512::new_with_prefix([SUITE, CHALLENGE]);
        hasher.update(self.bytes);
        hasher.update(hash);
        for point in [gamma, u, v] {
            hasher.update(point.compress().as_bytes());
        }
        hasher.update([END]);
        let mut challenge = [0; CHALLENGE_BYTES];
        challenge.copy_from_slice(&hasher.finalize()[..CHALLENGE_BYTES]);
        challenge
    }
}

impl std::fmt::Debug for PublicVrfKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicVrfKey({})", hex::encode(self.bytes))
    }
}

/// A proof in its one encoding; whether it proves anything, [`PublicVrfKey::verify`] tells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VrfProof {
    gamma: EdwardsPoint,
    challenge: [u8; CHALLENGE_BYTES],
    response: Scalar,
}

impl VrfProof {
    /// Parses Γ ‖ c ‖ s (section 5.4.4).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let malformed = Error::MalformedProof;
        let bytes: &[u8; PROOF_BYTES] = bytes.try_into().map_err(|_| malformed("not 80 bytes"))?;
        let (mut gamma, mut challenge, mut response) = ([0; 32], [0; CHALLENGE_BYTES], [0; 32]);
        gamma.copy_from_slice(&bytes[..32]);
        challenge.copy_from_slice(&bytes[32..48]);
        response.copy_from_slice(&bytes[48..]);
        let gamma = point_of(&gamma).ok_or(malformed("gamma is not a canonical point of the curve"))?;
        let response = Option::from(Scalar::from_canonical_bytes(response))
            .ok_or(malformed("s is not below the group order"))?;
        Ok(Self { gamma, challenge, response })
    }

    /// Γ ‖ c ‖ s.
    pub fn to_bytes(&self) -> [u8; PROOF_BYTES] {
        let mut bytes = [0; PROOF_BYTES];
        bytes[..32].copy_from_slice(self.gamma.compress().as_bytes());
        bytes[32..48].copy_from_slice(&self.challenge);
        bytes[48..].copy_from_slice(self.response.as_bytes());
        bytes
    }

    /// The output that this proof is for (`proof_to_hash`, section 5.2): of one's own proofs, and of those
    /// that were verified. Of any other it is the output of nothing.
    pub fn to_hash(&self) -> VrfOutput {
        let digest = Sha512::new()
            .chain_update([SUITE, PROOF_TO_HASH])
            .chain_update(self.gamma.mul_by_cofactor().compress().as_bytes())
            .chain_update([END])
            .finalize();
        VrfOutput(digest.into())
    }
}

impl std::fmt::Debug for VrfProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VrfProof({})", hex::encode(self.to_bytes()))
    }
}

/// What the function gives for an input: 64 bytes that look like chance to whoever has no proof.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VrfOutput(pub [u8; OUTPUT_BYTES]);

impl std::fmt::Debug for VrfOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VrfOutput({})", hex::encode(self.0))
    }
}

/// RFC 8032, section 5.1.3. The library takes encodings from the field order on, and a sign of zero; these come
/// back otherwise.
fn point_of(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(*bytes).decompress()?;
    (point.compress().to_bytes() == *bytes).then_some(point)
}

/// Little-endian, as everything of this ciphersuite.
fn scalar_of(challenge: &[u8; CHALLENGE_BYTES]) -> Scalar {
    let mut bytes = [0; 32];
    bytes[..CHALLENGE_BYTES].copy_from_slice(challenge);
    Scalar::from_bytes_mod_order(bytes)
}

#[cfg(test)]
mod tests;
