//! Messages for one operator's eyes: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869) and ChaCha20-Poly1305 (RFC 8439).
//!
//! ```text
//! sender's DecryptionKey ──┐                                        ┌─ encrypt, decrypt
//!                          ├─ shared ─► SharedSecret (x·y·G) ──HKDF─┤
//! receiver's EncryptionKey ┘                 ▲                      └─ one key for each context
//!                                            └── Disclosure::open: the same, for everybody
//! ```
//!
//! A sender makes a key for one occasion and sends its public half along. A receiver who got something it should not
//! have can *show* it: a [`Disclosure`] is the shared secret with a proof that it is that (Chaum and Pedersen, 1992),
//! and opens the ciphertext to all. It says nothing of the receiver's key, or of what others sent it.
//!
//! # Rules
//!
//! 1. A public key is a canonical encoding of a point of the prime-order subgroup, not the identity, or is refused.
//!    On the Edwards form of the curve its sign is 0 by agreement, and the secret's sign is chosen to fit: so that
//!    both sides compute the same point, and a proof has an equation to be about.
//! 2. The key of a ciphertext is derived from the shared secret, both public keys and the caller's context, which is
//!    authenticated as well. A context is used for one message; therefore the nonce is zero.
//! 3. A disclosed point is of the prime-order subgroup: with a small component it would still satisfy the proof for
//!    every eighth challenge, decrypt to nothing, and accuse an honest sender.
//! 4. The nonce of a proof is hashed from the secret and both points, as in RFC 8032: one disclosure for one secret.

use crate::Error;
use crate::kept::Kept;
use alloy_primitives::FixedBytes;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use curve25519_dalek::traits::IsIdentity as _;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// Bytes by which a ciphertext is longer than its plaintext.
pub const OVERHEAD_BYTES: usize = 16;

const KEY_TAG: &[u8] = b"aequa/encryption/v1\0";
const NONCE_TAG: &[u8] = b"aequa/disclosure-nonce/v1\0";
const CHALLENGE_TAG: &[u8] = b"aequa/disclosure/v1\0";

/// The secret half of a key that others encrypt to. Zeroised when dropped; `Debug` shows the public half only.
pub struct DecryptionKey {
    secret: Kept<Secret>,
    public: EncryptionKey,
}

#[derive(ZeroizeOnDrop)]
struct Secret {
    bytes: [u8; 32],
    /// The public point's, with the sign of rule 1.
    scalar: Scalar,
}

impl DecryptionKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(&bytes))
    }

    /// The key of 32 secret bytes, as RFC 7748 reads them.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut clamped = clamp_integer(*bytes);
        // Modulo the group order: the points it is multiplied with have that order.
        let mut scalar = Scalar::from_bytes_mod_order(clamped);
        clamped.zeroize();
        let mut point = EdwardsPoint::mul_base(&scalar);
        if is_negative(&point) {
            (scalar, point) = (-scalar, -point);
        }
        let public = EncryptionKey { point, bytes: point.to_montgomery().to_bytes() };
        Self { secret: Kept::new(Secret { bytes: *bytes, scalar }), public }
    }

    /// The secret bytes, for the keystore.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.bytes)
    }

    /// The public half.
    pub fn public(&self) -> EncryptionKey {
        self.public
    }

    /// What this key and another have in common.
    pub fn shared(&self, other: &EncryptionKey) -> SharedSecret {
        SharedSecret::of(&self.public, other, other.point * self.secret.scalar)
    }

    /// Shows everybody what this key and another have in common.
    pub fn disclose(&self, other: &EncryptionKey) -> Disclosure {
        let point = other.point * self.secret.scalar;
        let nonce = Zeroizing::new(self.nonce(other));
        let (u, v) = (EdwardsPoint::mul_base(&nonce), other.point * *nonce);
        let challenge = challenge(&self.public, other, &point, &u, &v);
        let response = *nonce + challenge * self.secret.scalar;
        let parts = [point.compress().to_bytes(), challenge.to_bytes(), response.to_bytes()];
        Disclosure(FixedBytes::from_slice(&parts.concat()))
    }

    fn nonce(&self, other: &EncryptionKey) -> Scalar {
        let hasher = Sha512::new_with_prefix(NONCE_TAG).chain_update(self.secret.bytes);
        let digest = hasher.chain_update(self.public.bytes).chain_update(other.bytes).finalize();
        let digest = Zeroizing::new(<[u8; 64]>::from(digest));
        Scalar::from_bytes_mod_order_wide(&digest)
    }
}

impl std::fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DecryptionKey(of {:?})", self.public)
    }
}

/// The public half: what is encrypted to it only its holder reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EncryptionKey {
    point: EdwardsPoint,
    bytes: [u8; 32],
}

impl EncryptionKey {
    /// Parses an X25519 public key (rule 1).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidKey { what: "encryption key", reason };
        let point = MontgomeryPoint(*bytes).to_edwards(0).ok_or(invalid("not a point of the curve"))?;
        if point.to_montgomery().to_bytes() != *bytes {
            return Err(invalid("not in canonical form"));
        }
        if point.is_identity() || !point.is_torsion_free() {
            return Err(invalid("not in the prime-order subgroup"));
        }
        Ok(Self { point, bytes: *bytes })
    }

    /// The 32-byte encoding.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.bytes
    }
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncryptionKey({})", hex::encode(self.bytes))
    }
}

/// What two keys have in common. Zeroised when dropped.
pub struct SharedSecret {
    bytes: Zeroizing<[u8; 32]>,
    /// The public keys, the smaller one first.
    keys: [[u8; 32]; 2],
}

impl SharedSecret {
    fn of(one: &EncryptionKey, other: &EncryptionKey, point: EdwardsPoint) -> Self {
        let mut keys = [one.bytes, other.bytes];
        keys.sort_unstable();
        Self { bytes: Zeroizing::new(point.to_montgomery().to_bytes()), keys }
    }

    /// The X25519 output itself (RFC 7748, section 6.1).
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.bytes.clone()
    }

    /// Encrypts the one message of this context (rule 2).
    pub fn encrypt(&self, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: plaintext, aad: context };
        // It fails from 256 GiB on.
        self.cipher(context).encrypt(&Nonce::default(), payload).expect("a message fits into memory")
    }

    /// The message, if the ciphertext was made of one for this context.
    pub fn decrypt(&self, context: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let payload = Payload { msg: ciphertext, aad: context };
        let plaintext = self.cipher(context).decrypt(&Nonce::default(), payload);
        plaintext.map(Zeroizing::new).map_err(|_| Error::BadCiphertext)
    }

    fn cipher(&self, context: &[u8]) -> ChaCha20Poly1305 {
        let mut key = Zeroizing::new([0u8; 32]);
        let salt = [KEY_TAG, &self.keys[0], &self.keys[1]].concat();
        let derivation = Hkdf::<Sha256>::new(Some(&salt), self.bytes.as_slice());
        // 32 bytes are one block of the 255 that HKDF gives.
        derivation.expand(context, key.as_mut_slice()).expect("HKDF gives 32 bytes");
        ChaCha20Poly1305::new(Key::from_slice(key.as_slice()))
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret")
    }
}

/// A shared secret made public by the holder of one of its keys: point 32, challenge 32, response 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Disclosure(pub FixedBytes<96>);

impl Disclosure {
    /// The secret, if it is what the holder and the other have in common.
    pub fn open(&self, holder: &EncryptionKey, other: &EncryptionKey) -> Result<SharedSecret, Error> {
        let [point, claimed, response] = [0, 32, 64].map(|at| {
            let mut part = [0u8; 32];
            part.copy_from_slice(&self.0[at..at + 32]);
            part
        });
        let point = subgroup_point(point).ok_or(Error::BadProof)?;
        let scalar =
            |bytes| Option::<Scalar>::from(Scalar::from_canonical_bytes(bytes)).ok_or(Error::BadProof);
        let (claimed, response) = (scalar(claimed)?, scalar(response)?);
        let u = EdwardsPoint::mul_base(&response) - holder.point * claimed;
        let v = other.point * response - point * claimed;
        if challenge(holder, other, &point, &u, &v) != claimed {
            return Err(Error::BadProof);
        }
        Ok(SharedSecret::of(holder, other, point))
    }
}

/// Rule 3.
fn subgroup_point(bytes: [u8; 32]) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(bytes).decompress()?;
    let is_usable = point.compress().to_bytes() == bytes && !point.is_identity() && point.is_torsion_free();
    is_usable.then_some(point)
}

fn challenge(
    holder: &EncryptionKey,
    other: &EncryptionKey,
    point: &EdwardsPoint,
    u: &EdwardsPoint,
    v: &EdwardsPoint,
) -> Scalar {
    let mut hasher = Sha512::new_with_prefix(CHALLENGE_TAG);
    for point in [&holder.point, &other.point, point, u, v] {
        hasher.update(point.compress().to_bytes());
    }
    Scalar::from_bytes_mod_order_wide(&hasher.finalize().into())
}

fn is_negative(point: &EdwardsPoint) -> bool {
    point.compress().to_bytes()[31] & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::EIGHT_TORSION;

    fn key(seed: u8) -> DecryptionKey {
        DecryptionKey::from_bytes(&[seed; 32])
    }

    fn bytes(hex: &str) -> [u8; 32] {
        hex::decode(hex).unwrap().try_into().unwrap()
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn the_shared_secret_is_that_of_rfc_7748() {
        let alice = DecryptionKey::from_bytes(&bytes(
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        ));
        let bob = DecryptionKey::from_bytes(&bytes(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        ));
        let public = |key: &DecryptionKey| hex::encode(key.public().to_bytes());
        assert_eq!(public(&alice), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert_eq!(public(&bob), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let shared = alice.shared(&bob.public()).to_bytes();
        assert_eq!(
            hex::encode(shared.as_slice()),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
        );
        assert_eq!(bob.shared(&alice.public()).to_bytes(), shared);
    }

    #[test]
    fn a_message_is_read_by_its_receiver_and_for_its_context_only() {
        for seed in 0..16 {
            let (sender, receiver, other) = (key(seed), key(seed + 100), key(seed + 200));
            let ciphertext = sender.shared(&receiver.public()).encrypt(b"context", b"message");
            assert_eq!(ciphertext.len(), 7 + OVERHEAD_BYTES);
            let shared = receiver.shared(&sender.public());
            assert_eq!(shared.decrypt(b"context", &ciphertext).unwrap().as_slice(), b"message");
            assert_eq!(shared.decrypt(b"another", &ciphertext).err(), Some(Error::BadCiphertext));
            let foreign = other.shared(&sender.public()).decrypt(b"context", &ciphertext);
            assert_eq!(foreign.err(), Some(Error::BadCiphertext));
            for position in 0..ciphertext.len() {
                let mut changed = ciphertext.clone();
                changed[position] ^= 1;
                assert!(shared.decrypt(b"context", &changed).is_err());
            }
        }
    }

    #[test]
    fn a_disclosure_opens_the_ciphertext_to_all_and_every_flipped_bit_is_refused() {
        for seed in 0..8 {
            let (sender, receiver) = (key(seed), key(seed + 100));
            let ciphertext = sender.shared(&receiver.public()).encrypt(b"context", b"message");
            let disclosure = receiver.disclose(&sender.public());
            let opened = disclosure.open(&receiver.public(), &sender.public()).unwrap();
            assert_eq!(opened.decrypt(b"context", &ciphertext).unwrap().as_slice(), b"message");
            assert!(disclosure.open(&sender.public(), &receiver.public()).is_err(), "of the other key");
            assert!(disclosure.open(&receiver.public(), &key(77).public()).is_err(), "with another key");
            for bit in (0..768).step_by(7) {
                let mut forged = disclosure;
                forged.0[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(forged.open(&receiver.public(), &sender.public()).err(), Some(Error::BadProof));
            }
        }
    }

    /// Every eighth challenge hides a point of order 8 from the equation.
    #[test]
    fn a_disclosed_point_with_a_small_component_is_refused() {
        let (holder, other) = (key(1), key(2).public());
        let point = other.point * holder.secret.scalar + EIGHT_TORSION[1];
        let forged = (0..u64::MAX).map(Scalar::from).find_map(|nonce| {
            let (u, v) = (EdwardsPoint::mul_base(&nonce), other.point * nonce);
            let challenge = challenge(&holder.public, &other, &point, &u, &v);
            let response = nonce + challenge * holder.secret.scalar;
            challenge.to_bytes()[0].is_multiple_of(8).then(|| {
                assert!(other.point * response - point * challenge == v, "the equation holds");
                [point.compress().to_bytes(), challenge.to_bytes(), response.to_bytes()].concat()
            })
        });
        let forged = Disclosure(FixedBytes::from_slice(&forged.unwrap()));
        assert_eq!(forged.open(&holder.public(), &other).err(), Some(Error::BadProof));
    }

    #[test]
    fn points_of_small_order_and_second_encodings_are_no_keys() {
        for point in EIGHT_TORSION {
            assert!(EncryptionKey::from_bytes(&point.to_montgomery().to_bytes()).is_err());
        }
        let twisted = (key(1).public.point + EIGHT_TORSION[1]).to_montgomery().to_bytes();
        assert!(EncryptionKey::from_bytes(&twisted).is_err(), "outside the subgroup");
        let mut second = key(1).public().to_bytes();
        second[31] |= 0x80;
        assert!(EncryptionKey::from_bytes(&second).is_err(), "the bit that RFC 7748 ignores");
        let public = key(1).public();
        assert_eq!(EncryptionKey::from_bytes(&public.to_bytes()), Ok(public));
    }

    #[test]
    fn debug_output_does_not_contain_a_secret() {
        let (key, other) = (key(0xab), key(1));
        for shown in [format!("{key:?}"), format!("{:?}", key.shared(&other.public()))] {
            assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
        }
        let shared = key.shared(&other.public()).to_bytes();
        assert!(!format!("{:?}", key.shared(&other.public())).contains(&hex::encode(shared.as_slice())));
        assert_ne!(*DecryptionKey::generate().unwrap().to_bytes(), *key.to_bytes());
    }
}
