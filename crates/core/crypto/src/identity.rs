//! Operator identity: one ed25519 key per operator.
//!
//! The key signs consensus statements and the cluster lock, and names the operator on the network:
//! its libp2p peer id is derived from it. Verification is strict (no small-order points, canonical
//! encodings), so that a signature has one meaning for everybody.

use crate::Error;
use crate::kept::Kept;
use aequa_types::{ClusterId, Signature, Signed, Statement};
use curve25519_dalek::edwards::EdwardsBasepointTable;
use curve25519_dalek::traits::BasepointTable as _;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

/// An operator's secret key. Zeroised when dropped; `Debug` shows the public half only.
pub struct IdentityKey {
    key: Kept<SigningKey>,
}

impl IdentityKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of an RFC 8032 seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: Kept::new(SigningKey::from_bytes(seed)) }
    }

    /// The seed, for the keystore.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> PublicIdentity {
        PublicIdentity { key: self.key.verifying_key() }
    }

    /// Signs a consensus statement for `cluster`.
    pub fn sign_statement(&self, cluster: &ClusterId, statement: Statement) -> Signed {
        let signature = self.sign(&statement.signing_bytes(cluster));
        Signed { statement, signature }
    }

    /// Signs bytes as they are; the caller sees to it that they mean one thing only.
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature::from(self.key.sign(bytes).to_bytes())
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdentityKey(of {:?})", self.public())
    }
}

/// The encoding of the identity of the curve.
const IDENTITY_POINT: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
};

/// An operator's public key, decompressed once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicIdentity {
    key: VerifyingKey,
}

impl PublicIdentity {
    /// Parses a key: a canonically encoded point of the prime-order subgroup, not the identity.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidKey { what: "identity key", reason };
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| invalid("not a point of the curve"))?;
        let point = key.to_edwards();
        if point.compress().to_bytes() != *bytes {
            return Err(invalid("not in canonical form"));
        }
        if key.is_weak() || !point.is_torsion_free() {
            return Err(invalid("not in the prime-order subgroup"));
        }
        Ok(Self { key })
    }

    /// The 32-byte encoding.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Whether the author's signature covers exactly this statement in `cluster`.
    pub fn verify(&self, cluster: &ClusterId, signed: &Signed) -> Result<(), Error> {
        self.verify_bytes(&signed.statement.signing_bytes(cluster), &signed.signature)
    }

    /// Whether `signature` covers exactly `bytes`.
    ///
    /// As strict as `verify_strict`, which decompresses `R` to see whether it has a small order. The key is of
    /// the prime-order subgroup, so that the `R` of an equation that holds is too: there only the identity has one.
    pub fn verify_bytes(&self, bytes: &[u8], signature: &Signature) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        if *signature.r_bytes() == IDENTITY_POINT {
            return Err(Error::BadSignature);
        }
        self.key.verify(bytes, &signature).map_err(|_| Error::BadSignature)
    }

    /// The libp2p peer id: base58btc of the identity multihash of the protobuf-encoded key.
    pub fn peer_id(&self) -> String {
        // Multihash: code 0 (identity), 36 bytes. Protobuf: field 1 = 1 (ed25519), field 2 = 32 bytes.
        let mut bytes = vec![0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
        bytes.extend_from_slice(self.key.as_bytes());
        base58(&bytes)
    }
}

impl std::fmt::Debug for PublicIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicIdentity({})", hex::encode(self.key.as_bytes()))
    }
}

/// A public key whose multiples are known beforehand (30 KiB), for those whose signatures are checked all the time: a
/// check takes three quarters of what it takes without.
#[derive(Clone)]
pub struct MemberIdentity {
    public: PublicIdentity,
    multiples: Box<EdwardsBasepointTable>,
}

impl MemberIdentity {
    /// Computes the multiples.
    pub fn new(public: PublicIdentity) -> Self {
        Self { public, multiples: Box::new(EdwardsBasepointTable::create(&public.key.to_edwards())) }
    }

    /// As [`PublicIdentity::verify`].
    pub fn verify(&self, cluster: &ClusterId, signed: &Signed) -> Result<(), Error> {
        self.verify_bytes(&signed.statement.signing_bytes(cluster), &signed.signature)
    }

    /// As [`PublicIdentity::verify_bytes`]: `R = sB - kA`, in this form and in no other (RFC 8032, section 5.1.7, without
    /// the cofactor).
    fn verify_bytes(&self, bytes: &[u8], signature: &Signature) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(*signature.s_bytes()));
        let s = s.ok_or(Error::BadSignature)?;
        let public = self.public.key.as_bytes();
        let hash = Sha512::new().chain_update(signature.r_bytes()).chain_update(public).chain_update(bytes);
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let nonce = (EdwardsPoint::mul_base(&s) - self.multiples.mul_base(&k)).compress();
        let holds = nonce.as_bytes() == signature.r_bytes() && nonce.to_bytes() != IDENTITY_POINT;
        if holds { Ok(()) } else { Err(Error::BadSignature) }
    }
}

/// Base 58 with the Bitcoin alphabet: the number in base 58, a `1` for every leading zero byte.
fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u8> = Vec::with_capacity(bytes.len() * 138 / 100 + 1);
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    digits.resize(digits.len() + zeros, 0);
    digits.iter().rev().map(|digit| char::from(ALPHABET[usize::from(*digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{Claim, Digest, Height, InstanceId, OperatorIndex, Round};

    fn key(seed: u8) -> IdentityKey {
        IdentityKey::from_seed(&[seed; 32])
    }

    fn statement() -> Statement {
        Statement {
            instance: InstanceId::Block(Height(7)),
            round: Round(2),
            author: OperatorIndex(1),
            claim: Claim::Prepare(Digest::repeat_byte(9)),
        }
    }

    #[test]
    fn a_statement_verifies_under_its_key_and_cluster_only() {
        let cluster = ClusterId::repeat_byte(1);
        let signed = key(1).sign_statement(&cluster, statement());
        assert_eq!(key(1).public().verify(&cluster, &signed), Ok(()));
        assert_eq!(key(2).public().verify(&cluster, &signed), Err(Error::BadSignature));
        assert_eq!(key(1).public().verify(&ClusterId::repeat_byte(2), &signed), Err(Error::BadSignature));
    }

    #[test]
    fn every_changed_field_and_every_flipped_bit_of_the_signature_is_refused() {
        let cluster = ClusterId::repeat_byte(1);
        let public = key(1).public();
        let signed = key(1).sign_statement(&cluster, statement());
        let changes: [fn(&mut Statement); 4] = [
            |statement| statement.instance = InstanceId::Block(Height(8)),
            |statement| statement.round = Round(3),
            |statement| statement.author = OperatorIndex(2),
            |statement| statement.claim = Claim::PrePrepare(Digest::repeat_byte(9)),
        ];
        for change in changes {
            let mut forged = signed.clone();
            change(&mut forged.statement);
            assert_eq!(public.verify(&cluster, &forged), Err(Error::BadSignature));
        }
        for bit in 0..512 {
            let mut forged = signed.clone();
            forged.signature.0[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(public.verify(&cluster, &forged), Err(Error::BadSignature), "bit {bit}");
        }
    }

    /// The holder of a key can make one for any bytes, without a nonce.
    fn nonce_is_identity(key: &IdentityKey, bytes: &[u8]) -> Signature {
        let public = key.public().to_bytes();
        let hash = Sha512::new().chain_update(IDENTITY_POINT).chain_update(public).chain_update(bytes);
        let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let s = challenge * SigningKey::from_bytes(&key.seed()).to_scalar();
        Signature::from_slice(&[IDENTITY_POINT, s.to_bytes()].concat())
    }

    #[test]
    fn a_signature_whose_nonce_is_the_identity_is_refused() {
        let (key, bytes) = (key(1), b"anything");
        let signature = nonce_is_identity(&key, bytes);
        let lenient = ed25519_dalek::Signature::from_bytes(&signature.0);
        assert!(key.public().key.verify(bytes, &lenient).is_ok(), "its equation holds");
        assert_eq!(key.public().verify_bytes(bytes, &signature), Err(Error::BadSignature));
    }

    /// Of good signatures and of those that are wrong in one bit or in their form.
    #[test]
    fn with_known_multiples_the_same_signatures_hold() {
        for seed in 1..9 {
            let (key, bytes) = (key(seed), [seed; 40]);
            let (public, member) = (key.public(), MemberIdentity::new(key.public()));
            let both = |bytes: &[u8], signature: &Signature| {
                let said = member.verify_bytes(bytes, signature);
                assert_eq!(said, public.verify_bytes(bytes, signature));
                said.is_ok()
            };
            let signature = key.sign(&bytes);
            assert!(both(&bytes, &signature));
            assert!(!both(&bytes[1..], &signature));
            for bit in 0..512 {
                let mut forged = signature;
                forged.0[bit / 8] ^= 1 << (bit % 8);
                assert!(!both(&bytes, &forged), "bit {bit}");
            }
            // s + q: the same scalar in another form.
            let mut malleable = signature;
            let order = Scalar::ZERO - Scalar::ONE;
            let mut carry = 1;
            for (byte, add) in malleable.0[32..].iter_mut().zip(order.to_bytes()) {
                let sum = u16::from(*byte) + u16::from(add) + carry;
                (*byte, carry) = (sum as u8, sum >> 8);
            }
            assert!(!both(&bytes, &malleable), "s + q");
            let forged = nonce_is_identity(&key, &bytes);
            assert!(!both(&bytes, &forged));
        }
    }

    #[test]
    fn identity_and_small_order_points_are_no_keys() {
        assert!(PublicIdentity::from_bytes(&IDENTITY_POINT).is_err());
        assert!(PublicIdentity::from_bytes(&[0u8; 32]).is_err(), "order 4");
        // y = p + 1, the identity written a second way.
        let mut second = [0xffu8; 32];
        second[0] = 0xee;
        second[31] = 0x7f;
        assert!(PublicIdentity::from_bytes(&second).is_err());
        let public = key(3).public();
        assert_eq!(PublicIdentity::from_bytes(&public.to_bytes()), Ok(public));
    }

    #[test]
    fn a_key_survives_its_seed() {
        let generated = IdentityKey::generate().unwrap();
        assert_eq!(IdentityKey::from_seed(&generated.seed()).public(), generated.public());
        assert_ne!(IdentityKey::generate().unwrap().public(), generated.public());
    }

    #[test]
    fn debug_output_does_not_contain_the_seed() {
        let key = IdentityKey::from_seed(&[0xab; 32]);
        let shown = format!("{key:?}");
        assert!(!shown.contains("abababab"), "{shown}");
        assert!(!shown.contains("171, 171"), "{shown}");
    }

    #[test]
    fn rfc_8032_test_1_is_reproduced() {
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = IdentityKey::from_seed(&seed.try_into().unwrap());
        assert_eq!(
            hex::encode(key.public().to_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(
            hex::encode(key.sign(b"")),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555\
             fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        );
    }

    #[test]
    fn base58_matches_known_encodings() {
        assert_eq!(base58(b""), "");
        assert_eq!(base58(&[0, 0]), "11");
        assert_eq!(base58(b"Hello World!"), "2NEpo7TZRRrLZSi2U");
        assert_eq!(base58(&[0x00, 0x00, 0x28, 0x7f, 0xb4, 0xcd]), "11233QC4");
    }

    #[test]
    fn peer_ids_of_ed25519_keys_have_the_known_prefix() {
        let peer_id = key(1).public().peer_id();
        assert!(peer_id.starts_with("12D3KooW"), "{peer_id}");
        assert_eq!(peer_id.len(), 52);
        assert_ne!(peer_id, key(2).public().peer_id());
    }
}
