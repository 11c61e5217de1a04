//! Secret numbers modulo the group order.

use super::curve::Scalar;
use crate::Error;
use crate::kept::Kept;
use zeroize::Zeroizing;

/// A secret element of the scalar field: a part of a key, or what hides one. Zeroised when dropped; arithmetic
/// takes the same time for all values; `Debug` does not show it.
#[derive(Clone)]
pub struct SecretScalar(Kept<Scalar>);

impl SecretScalar {
    /// A new scalar from the operating system's randomness.
    pub fn random() -> Result<Self, Error> {
        Ok(Self(Kept::new(Scalar::random()?)))
    }

    /// 64 big-endian bytes modulo the group order: evenly distributed if they are, with a bias below 2^-250.
    pub fn from_wide_bytes(bytes: &[u8; 64]) -> Self {
        Self(Kept::new(Scalar::reduce(bytes)))
    }

    /// Parses 32 big-endian bytes below the group order; 0 is a scalar, though not a key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let invalid = Error::InvalidKey { what: "secret scalar", reason: "not below the group order" };
        Ok(Self(Kept::new(Scalar::from_be_bytes(bytes).ok_or(invalid)?)))
    }

    /// 32 big-endian bytes.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_be_bytes())
    }

    /// The sum.
    pub fn add(&self, other: &Self) -> Self {
        Self(Kept::new(self.0.add(&other.0)))
    }

    /// The product.
    pub fn mul(&self, other: &Self) -> Self {
        Self(Kept::new(self.0.mul(&other.0)))
    }

    /// The product with a public number.
    pub(crate) fn times(&self, factor: &Scalar) -> Self {
        Self(Kept::new(self.0.mul(factor)))
    }

    pub(crate) fn as_scalar(&self) -> &Scalar {
        &self.0
    }
}

impl std::fmt::Debug for SecretScalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretScalar")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

    fn order_plus(difference: i8) -> [u8; 32] {
        let mut bytes: [u8; 32] = hex::decode(ORDER).unwrap().try_into().unwrap();
        bytes[31] = bytes[31].wrapping_add_signed(difference);
        bytes
    }

    fn small(number: u8) -> SecretScalar {
        let mut bytes = [0; 32];
        bytes[31] = number;
        SecretScalar::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn a_scalar_is_below_the_group_order() {
        assert_eq!(*SecretScalar::from_bytes(&order_plus(-1)).unwrap().to_bytes(), order_plus(-1));
        assert_eq!(*small(0).to_bytes(), [0; 32]);
        for bytes in [order_plus(0), order_plus(1), [0xff; 32]] {
            assert!(SecretScalar::from_bytes(&bytes).is_err());
        }
    }

    #[test]
    fn arithmetic_is_modulo_the_group_order() {
        let last = SecretScalar::from_bytes(&order_plus(-1)).unwrap();
        assert_eq!(*last.add(&small(3)).to_bytes(), *small(2).to_bytes());
        assert_eq!(*last.mul(&last).to_bytes(), *small(1).to_bytes());
        assert_eq!(*small(5).mul(&small(7)).to_bytes(), *small(35).to_bytes());
    }

    #[test]
    fn wide_bytes_are_reduced() {
        let mut wide = [0; 64];
        wide[32..].copy_from_slice(&order_plus(2));
        assert_eq!(*SecretScalar::from_wide_bytes(&wide).to_bytes(), *small(2).to_bytes());
        // 2^256, one bit above 32 bytes, is 2^255 twice.
        let mut wide = [0; 64];
        wide[31] = 1;
        let half = small(128).mul(&SecretScalar::from_wide_bytes(&{
            let mut bytes = [0; 64];
            bytes[32] = 1;
            bytes
        }));
        assert_eq!(*SecretScalar::from_wide_bytes(&wide).to_bytes(), *half.add(&half).to_bytes());
    }

    #[test]
    fn debug_output_does_not_contain_the_scalar() {
        assert_eq!(format!("{:?}", small(43)), "SecretScalar");
        assert_ne!(*SecretScalar::random().unwrap().to_bytes(), *SecretScalar::random().unwrap().to_bytes());
    }
}
