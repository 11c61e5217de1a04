//! Scalars and points of BLS12-381, over the C interface of `blst`.
//!
//! `unsafe`, since `blst` has no safe form of scalar-field arithmetic, of
//! a single multiplication on the calling thread, or of hashing to a bare point. Every call below
//! passes pointers to live, initialised values of the type the C prototype names, and lengths taken
//! from the slices themselves; the functions keep no pointer. Only public values are multiplied here:
//! signing with a secret goes through `blst`'s own constant-time interface.
#![allow(unsafe_code)]

use crate::Error;
use blst::*;
use sha2::{Digest as _, Sha512};
use std::any::Any;
use zeroize::{Zeroize as _, Zeroizing};

/// An element of the scalar field. Zeroised when dropped, since it may be a share.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Scalar(blst_fr);

impl Drop for Scalar {
    fn drop(&mut self) {
        self.0.l.zeroize();
    }
}

impl Scalar {
    pub(crate) fn from_u64(number: u64) -> Self {
        let limbs = [number, 0, 0, 0];
        let mut out = blst_fr::default();
        // SAFETY: `limbs` holds the four words the function reads.
        unsafe { blst_fr_from_uint64(&mut out, limbs.as_ptr()) };
        Self(out)
    }

    /// 64 bytes reduced modulo the group order; the bias is below 2^-250.
    pub(crate) fn reduce(bytes: &[u8; 64]) -> Self {
        let mut scalar = blst_scalar::default();
        let mut out = blst_fr::default();
        // SAFETY: pointer and length are those of `bytes`. The result of the first call only says
        // whether the scalar is zero, which is a field element like any other.
        unsafe {
            blst_scalar_from_be_bytes(&mut scalar, bytes.as_ptr(), bytes.len());
            blst_fr_from_scalar(&mut out, &scalar);
        }
        Self(out)
    }

    /// Big-endian, below the group order.
    pub(crate) fn from_be_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let mut scalar = blst_scalar::default();
        let mut out = blst_fr::default();
        // SAFETY: the array has the 32 bytes that the first function reads.
        let is_canonical = unsafe {
            blst_scalar_from_bendian(&mut scalar, bytes.as_ptr());
            blst_scalar_fr_check(&scalar)
        };
        // SAFETY: one scalar into one field element.
        unsafe { blst_fr_from_scalar(&mut out, &scalar) };
        let out = Self(out);
        is_canonical.then_some(out)
    }

    pub(crate) fn to_be_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // SAFETY: the array has room for the 32 bytes that are written.
        unsafe { blst_bendian_from_scalar(bytes.as_mut_ptr(), &self.to_scalar()) };
        bytes
    }

    pub(crate) fn random() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0u8; 64]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self::reduce(&bytes))
    }

    /// A challenge: the `index`-th scalar of `transcript`.
    pub(crate) fn challenge(transcript: &[u8; 64], index: u64) -> Self {
        let digest = Sha512::new().chain_update(transcript).chain_update(index.to_be_bytes()).finalize();
        Self::reduce(&digest.into())
    }

    /// The number that its lowest bits are, whole bytes of them.
    pub(crate) fn lowest_bits(&self, bits: usize) -> Self {
        let mut bytes = self.to_be_bytes();
        let kept = (bits / 8).min(bytes.len());
        let cut = bytes.len() - kept;
        bytes[..cut].fill(0);
        // What is cut off a number below the group order leaves one that is.
        Self::from_be_bytes(&bytes).unwrap_or_else(|| self.clone())
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: three field elements, see the module documentation.
        unsafe { blst_fr_add(&mut out, &self.0, &other.0) };
        Self(out)
    }

    pub(crate) fn sub(&self, other: &Self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: as in `add`.
        unsafe { blst_fr_sub(&mut out, &self.0, &other.0) };
        Self(out)
    }

    pub(crate) fn mul(&self, other: &Self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: as in `add`.
        unsafe { blst_fr_mul(&mut out, &self.0, &other.0) };
        Self(out)
    }

    /// The inverse; zero for zero, which no caller passes: coordinates are distinct.
    pub(crate) fn inverse(&self) -> Self {
        let mut out = blst_fr::default();
        // SAFETY: two field elements.
        unsafe { blst_fr_eucl_inverse(&mut out, &self.0) };
        Self(out)
    }

    pub(crate) fn to_scalar(&self) -> blst_scalar {
        let mut out = blst_scalar::default();
        // SAFETY: one field element into one scalar.
        unsafe { blst_scalar_from_fr(&mut out, &self.0) };
        out
    }
}

/// Bits of a full scalar.
pub(crate) const SCALAR_BITS: usize = 255;
/// Bits of a batch weight: a batch with a bad seal passes with probability 2^-128.
pub(crate) const WEIGHT_BITS: usize = 128;

/// Hashes a message to G1 under the ciphersuite's tag.
pub(crate) fn hash_to_g1(message: &[u8], tag: &[u8]) -> blst_p1_affine {
    let mut point = blst_p1::default();
    let mut out = blst_p1_affine::default();
    // SAFETY: pointers and lengths of the two slices; the empty augmentation has length 0, so its
    // pointer is not read.
    unsafe {
        blst_hash_to_g1(
            &mut point,
            message.as_ptr(),
            message.len(),
            tag.as_ptr(),
            tag.len(),
            std::ptr::null(),
            0,
        );
        blst_p1_to_affine(&mut out, &point);
    }
    out
}

/// A point of G1 or of G2, in the affine form.
pub trait Point: Copy + Eq + Any {
    /// The compressed form.
    type Bytes: AsRef<[u8]> + for<'a> TryFrom<&'a [u8]>;
    /// A sum of points, not yet in the affine form.
    type Sum: Default;

    /// The neutral element.
    const IDENTITY: Self;

    /// Parses a point of the curve, perhaps outside the subgroup.
    fn uncompress(bytes: &[u8]) -> Result<Self, BLST_ERROR>;
    /// Whether the point is in the subgroup, and not the identity.
    fn validate(&self) -> Result<(), BLST_ERROR>;
    /// Whether it is the neutral element.
    fn is_identity(&self) -> bool {
        *self == Self::IDENTITY
    }
    /// The compressed form.
    fn compress(&self) -> Self::Bytes;
    /// Adds ± `factor` · point, of the lowest `bits` bits of the little-endian factor, all of which it has.
    fn add_to(&self, sum: &mut Self::Sum, factor: &[u8], bits: usize, is_negative: bool);
    /// Multiplies a sum with the lowest `bits` bits of the little-endian factor, all of which it has.
    fn multiply(sum: &mut Self::Sum, factor: &[u8], bits: usize);
    /// Σ factor · point: of each factor the lowest `bits` bits, in as many whole bytes as hold them, little-endian and
    /// one after the other.
    fn multiply_all(points: &[Self], factors: &[u8], bits: usize) -> Self::Sum;
    /// Adds the point as it is.
    fn add_once_to(&self, sum: &mut Self::Sum);
    /// The affine form; none for the identity.
    fn of_sum(sum: &Self::Sum) -> Option<Self>;
}

/// `$safe` is the type of `blst`'s safe interface whose points lie in this group.
macro_rules! point {
    (
        $affine:ty, $sum:ty, $safe:ty, $bytes:literal, $zero:expr,
        $from_affine:ident, $mult:ident, $cneg:ident, $add:ident, $add_affine:ident, $to_affine:ident, $is_inf:ident,
        $mult_all:ident, $scratch:ident
    ) => {
        impl Point for $affine {
            type Bytes = [u8; $bytes];
            type Sum = $sum;

            // Zeros are how `blst` writes the identity in the affine form.
            const IDENTITY: Self = Self { x: $zero, y: $zero };

            fn uncompress(bytes: &[u8]) -> Result<Self, BLST_ERROR> {
                Ok(<$safe>::uncompress(bytes)?.into())
            }

            fn validate(&self) -> Result<(), BLST_ERROR> {
                <$safe>::from(*self).validate()
            }

            fn compress(&self) -> [u8; $bytes] {
                <$safe>::from(*self).compress()
            }

            fn add_to(&self, sum: &mut $sum, factor: &[u8], bits: usize, is_negative: bool) {
                assert!(bits <= 8 * factor.len(), "no bit outside the factor is read");
                let mut term = <$sum>::default();
                // SAFETY: `bits` is within `factor`, and the rest are points, see the module documentation.
                unsafe {
                    $from_affine(&mut term, self);
                    $mult(&mut term, &term, factor.as_ptr(), bits);
                    $cneg(&mut term, is_negative);
                    $add(sum, sum, &term);
                }
            }

            fn multiply(sum: &mut $sum, factor: &[u8], bits: usize) {
                assert!(bits <= 8 * factor.len(), "no bit outside the factor is read");
                // SAFETY: as in `add_to`; the product may take the place of the point.
                unsafe { $mult(sum, sum, factor.as_ptr(), bits) };
            }

            fn multiply_all(points: &[Self], factors: &[u8], bits: usize) -> $sum {
                assert_eq!(factors.len(), points.len() * bits.div_ceil(8), "one factor for each point");
                let mut out = <$sum>::default();
                if points.is_empty() {
                    return out;
                }
                // SAFETY: it only computes a size, in bytes, a multiple of that of a limb.
                let scratch = unsafe { $scratch(points.len()) };
                let mut scratch = vec![limb_t::default(); scratch.div_ceil(size_of::<limb_t>())];
                // A null pointer says that points and factors follow each other.
                let points_at = [points.as_ptr(), std::ptr::null()];
                let factors_at = [factors.as_ptr(), std::ptr::null()];
                // SAFETY: as many points as are said, a factor for each (asserted above), and the scratch space
                // that was asked for. The pointers are to slices that live on.
                unsafe {
                    $mult_all(
                        &mut out,
                        points_at.as_ptr(),
                        points.len(),
                        factors_at.as_ptr(),
                        bits,
                        scratch.as_mut_ptr(),
                    );
                }
                out
            }

            fn add_once_to(&self, sum: &mut $sum) {
                // SAFETY: two points into one, which may be one of them.
                unsafe { $add_affine(sum, sum, self) };
            }

            fn of_sum(sum: &$sum) -> Option<Self> {
                let mut out = Self::default();
                // SAFETY: one point into its affine form.
                let is_identity = unsafe {
                    $to_affine(&mut out, sum);
                    $is_inf(sum)
                };
                (!is_identity).then_some(out)
            }
        }
    };
}

point! {
    blst_p1_affine, blst_p1, min_pk::PublicKey, 48, blst_fp { l: [0; 6] },
    blst_p1_from_affine, blst_p1_mult, blst_p1_cneg, blst_p1_add_or_double,
    blst_p1_add_or_double_affine, blst_p1_to_affine, blst_p1_is_inf,
    blst_p1s_mult_pippenger, blst_p1s_mult_pippenger_scratch_sizeof
}
point! {
    blst_p2_affine, blst_p2, min_sig::PublicKey, 96, blst_fp2 { fp: [blst_fp { l: [0; 6] }; 2] },
    blst_p2_from_affine, blst_p2_mult, blst_p2_cneg, blst_p2_add_or_double,
    blst_p2_add_or_double_affine, blst_p2_to_affine, blst_p2_is_inf,
    blst_p2s_mult_pippenger, blst_p2s_mult_pippenger_scratch_sizeof
}

/// Fewest points that are multiplied together (Pippenger's algorithm): 67 are more than twice as fast, 16 hardly.
const TOGETHER_MIN: usize = 16;

/// Σ scalar · point, of the lowest `bits` bits of each scalar; none for the identity.
pub(crate) fn sum<'a, P: Point>(terms: impl Iterator<Item = (&'a P, &'a Scalar)>, bits: usize) -> Option<P> {
    let (points, factors): (Vec<P>, Vec<blst_scalar>) =
        terms.map(|(point, scalar)| (*point, scalar.to_scalar())).unzip();
    if points.len() >= TOGETHER_MIN {
        let factors: Vec<u8> =
            factors.iter().flat_map(|factor| factor.b[..bits.div_ceil(8)].to_vec()).collect();
        return P::of_sum(&P::multiply_all(&points, &factors, bits));
    }
    let mut sum = P::Sum::default();
    for (point, factor) in points.iter().zip(&factors) {
        point.add_to(&mut sum, &factor.b, bits, false);
    }
    P::of_sum(&sum)
}

/// Whether e(signature, generator of G2) = e(hash, key): the equation of every BLS signature here.
pub(crate) fn pairing_holds(signature: &blst_p1_affine, hash: &blst_p1_affine, key: &blst_p2_affine) -> bool {
    // SAFETY: the function returns a pointer to a constant that lives as long as the program.
    let generator = unsafe { &*blst_p2_affine_generator() };
    let left = blst_fp12::miller_loop(generator, signature);
    let right = blst_fp12::miller_loop(key, hash);
    blst_fp12::finalverify(&left, &right)
}

/// Lagrange coefficients at 0 as whole numbers over one denominator: `λ_i = whole_i · inverse`.
///
/// Operators' coordinates are small, so the numerators are too: for four operators at most 4 bits, and the
/// denominator is 1 for three of the four signer sets. Multiplying a point by them costs next to nothing.
pub(crate) struct Lagrange {
    whole: Vec<i64>,
    inverse: Option<Scalar>,
}

impl Lagrange {
    /// For distinct, non-zero coordinates; none when a numerator does not fit into an `i64`.
    pub(crate) fn at_zero(coordinates: &[u64]) -> Option<Self> {
        let points: Vec<i128> = coordinates.iter().map(|x| i128::from(*x)).collect();
        let mut fractions = Vec::with_capacity(points.len());
        for own in &points {
            let (mut above, mut below) = (1i128, 1i128);
            for other in points.iter().filter(|other| *other != own) {
                above = above.checked_mul(*other)?;
                below = below.checked_mul(other - own)?;
                let common = gcd(above, below);
                (above, below) = (above / common, below / common);
            }
            fractions.push(if below < 0 { (-above, -below) } else { (above, below) });
        }
        let denominator =
            fractions.iter().try_fold(1i128, |all, (_, below)| all.checked_mul(below / gcd(all, *below)))?;
        let whole = fractions
            .iter()
            .map(|(above, below)| i64::try_from(above.checked_mul(denominator / below)?).ok())
            .collect::<Option<Vec<i64>>>()?;
        let inverse = match u64::try_from(denominator).ok()? {
            1 => None,
            denominator => Some(Scalar::from_u64(denominator).inverse()),
        };
        Some(Self { whole, inverse })
    }

    /// Σ λ · point; none for the identity.
    pub(crate) fn sum<P: Point>(&self, points: &[P]) -> Option<P> {
        let mut total = P::Sum::default();
        for (point, whole) in points.iter().zip(&self.whole) {
            let bits = (u64::BITS - whole.unsigned_abs().leading_zeros()) as usize;
            point.add_to(&mut total, &whole.unsigned_abs().to_le_bytes(), bits, *whole < 0);
        }
        let total = P::of_sum(&total)?;
        match &self.inverse {
            None => Some(total),
            Some(inverse) => sum([(&total, inverse)].into_iter(), SCALAR_BITS),
        }
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    // At most the smaller of two numbers that were products of checked i128.
    i128::try_from(a).unwrap_or(1).max(1)
}

/// Lagrange coefficients at 0 for the given distinct, non-zero coordinates.
pub(crate) fn lagrange_at_zero(coordinates: &[u64]) -> Vec<Scalar> {
    lagrange_at(0, coordinates)
}

/// Lagrange coefficients at `x` for the given distinct coordinates, none of which is `x`.
pub(crate) fn lagrange_at(x: u64, coordinates: &[u64]) -> Vec<Scalar> {
    let x = Scalar::from_u64(x);
    // Seen from x, which is then 0.
    let points: Vec<Scalar> = coordinates.iter().map(|own| Scalar::from_u64(*own).sub(&x)).collect();
    points
        .iter()
        .map(|own| {
            let mut above = Scalar::from_u64(1);
            let mut below = Scalar::from_u64(1);
            for other in points.iter().filter(|other| *other != own) {
                above = above.mul(other);
                below = below.mul(&other.sub(own));
            }
            above.mul(&below.inverse())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::{MinPk, MinSig, Scheme};

    /// Σ scalar · point without a shortcut.
    fn one_by_one<P: Point>(points: &[P], scalars: &[Scalar], bits: usize) -> Option<P> {
        let mut sum = P::Sum::default();
        for (point, scalar) in points.iter().zip(scalars) {
            point.add_to(&mut sum, &scalar.to_scalar().b, bits, false);
        }
        P::of_sum(&sum)
    }

    fn together_is_one_by_one<S: Scheme>() {
        let of = |number: u64| S::key(&S::secret_of(&Scalar::from_u64(number).to_scalar()).unwrap());
        for size in [0, 1, 2, 15, 16, 17, 40] {
            let scalars: Vec<Scalar> = (0..size).map(|index| Scalar::challenge(&[7; 64], index)).collect();
            let mut points: Vec<S::Key> = (1..=size).map(of).collect();
            if size > 15 {
                // The identity, one point twice, and one with its opposite.
                points[0] = S::Key::IDENTITY;
                points[2] = points[1];
                let minus_one = Scalar::from_u64(0).sub(&Scalar::from_u64(1));
                points[4] = one_by_one(&points[3..4], &[minus_one], SCALAR_BITS).unwrap();
            }
            for bits in [SCALAR_BITS, WEIGHT_BITS] {
                let expected = one_by_one(&points, &scalars, bits);
                assert!(sum(points.iter().zip(&scalars), bits) == expected, "{size} points, {bits} bits");
            }
        }
        let zero = Scalar::from_u64(0);
        let points: Vec<S::Key> = (1..=20).map(of).collect();
        assert!(sum(points.iter().map(|point| (point, &zero)), SCALAR_BITS).is_none());
    }

    #[test]
    fn a_sum_of_many_points_is_that_of_each() {
        together_is_one_by_one::<MinSig>();
        together_is_one_by_one::<MinPk>();
    }
}
