//! The two ways to use the curve: which group the signatures are in, and under which ciphersuite.

use super::curve::Point;
use aequa_types::Seal;
use alloy_primitives::FixedBytes;
use blst::{blst_p1_affine, blst_p2_affine, blst_scalar, min_pk, min_sig};
use std::fmt::Debug;

mod sealed {
    pub trait Sealed {}
}

/// How a group signs (draft-irtf-cfrg-bls-signature).
pub trait Scheme: sealed::Sealed + Copy + Eq + Debug {
    /// The ciphersuite's tag: what separates these signatures from those of every other use of the curve.
    const CIPHERSUITE: &'static [u8];
    /// The tag of proofs of possession, section 4.2.3 of the draft: no signature of a message is one.
    const POSSESSION: &'static [u8];
    /// A key of the group, or a public share.
    type Key: Point;
    /// A signature, whole or partial, as a point.
    type Point: Point;
    /// A signature, whole or partial, as it is sent.
    type Signature: Copy + Eq + Debug + AsRef<[u8]> + From<<Self::Point as Point>::Bytes>;
    /// A secret in the hands of `blst`: zeroised when dropped, used in constant time.
    type Secret: Clone;

    /// Parses a big-endian scalar; none for zero and from the group order on.
    fn secret(bytes: &[u8]) -> Option<Self::Secret>;
    /// The scalar as a secret; none for zero.
    fn secret_of(scalar: &blst_scalar) -> Option<Self::Secret>;
    /// The big-endian scalar.
    fn secret_bytes(secret: &Self::Secret) -> [u8; 32];
    /// The public half.
    fn key(secret: &Self::Secret) -> Self::Key;
    /// The signature of a message, hashed under `tag`.
    fn sign(secret: &Self::Secret, message: &[u8], tag: &[u8]) -> Self::Point;
}

/// `$blst` is the module of `blst` with this scheme's types.
macro_rules! scheme {
    ($name:ident, $blst:ident, $key:ty, $point:ty, $signature:ty, $ciphersuite:literal, $possession:literal) => {
        impl sealed::Sealed for $name {}

        impl Scheme for $name {
            const CIPHERSUITE: &'static [u8] = $ciphersuite;
            const POSSESSION: &'static [u8] = $possession;
            type Key = $key;
            type Point = $point;
            type Signature = $signature;
            type Secret = $blst::SecretKey;

            fn secret(bytes: &[u8]) -> Option<Self::Secret> {
                Self::Secret::from_bytes(bytes).ok()
            }

            fn secret_of(scalar: &blst_scalar) -> Option<Self::Secret> {
                <&Self::Secret>::try_from(scalar).ok().cloned()
            }

            fn secret_bytes(secret: &Self::Secret) -> [u8; 32] {
                secret.to_bytes()
            }

            fn key(secret: &Self::Secret) -> Self::Key {
                secret.sk_to_pk().into()
            }

            fn sign(secret: &Self::Secret, message: &[u8], tag: &[u8]) -> Self::Point {
                secret.sign(message, tag, &[]).into()
            }
        }
    };
}

/// Small signatures: 48-byte points of G1, under keys that are 96-byte points of G2. The chain's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinSig;

scheme! {
    MinSig, min_sig, blst_p2_affine, blst_p1_affine, Seal,
    b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_", b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"
}

/// Small keys: 48-byte points of G1, with signatures that are 96-byte points of G2. Ethereum's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinPk;

scheme! {
    MinPk, min_pk, blst_p1_affine, blst_p2_affine, FixedBytes<96>,
    b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_", b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
}
