//! Sharing a secret, and telling whether public shares belong together.

use super::{GroupKey, Polynomial, PublicShare, Scheme, SecretShare, coordinate};
use crate::Error;
use crate::bls::SecretKey;
use crate::bls::curve::{self, Point, SCALAR_BITS, Scalar};
use aequa_types::OperatorIndex;
use aequa_types::limits::OPERATORS_MAX;
use sha2::{Digest as _, Sha512};

/// A freshly shared key.
#[derive(Debug)]
pub struct Dealing<S: Scheme> {
    /// The key of the whole group.
    pub group_key: GroupKey<S>,
    /// One per operator, in order.
    pub public_shares: Vec<PublicShare<S>>,
    /// One per operator, in order; each goes to its operator and nowhere else.
    pub secret_shares: Vec<SecretShare<S>>,
}

/// Shares a new key: a random polynomial of degree `threshold` − 1, and its value for every operator.
///
/// Whoever calls this holds the group's secret for a moment: it is a trusted dealer.
pub fn deal<S: Scheme>(threshold: usize, operators: usize) -> Result<Dealing<S>, Error> {
    split(&SecretKey::generate()?, threshold, operators)
}

/// Shares a key that somebody has: as above, through its secret. The key stays as it was.
pub fn split<S: Scheme>(
    secret: &SecretKey<S>,
    threshold: usize,
    operators: usize,
) -> Result<Dealing<S>, Error> {
    if threshold == 0 || threshold > operators || operators > OPERATORS_MAX {
        return Err(Error::ImpossibleThreshold { threshold, operators });
    }
    let group_key = GroupKey { key: secret.public().point };
    loop {
        let polynomial = Polynomial::sharing(secret, threshold)?;
        // At most 100 operators, so that an index is a byte.
        let secret_shares: Option<Vec<SecretShare<S>>> =
            (0..operators as u8).map(|operator| polynomial.share(OperatorIndex(operator))).collect();
        if let Some(secret_shares) = secret_shares {
            let public_shares = secret_shares.iter().map(SecretShare::public).collect();
            return Ok(Dealing { group_key, public_shares, secret_shares });
        }
    }
}

/// Whether the group key and **every** share lie on one polynomial of degree `threshold` − 1.
///
/// The group key is the value at 0. A vector of values comes from such a polynomial exactly when it
/// is orthogonal to the dual code, so one combination with a hashed word of that code decides; a word
/// that hides a foreign share exists with probability 2^-255. When it fails, every value is left out
/// in turn: if the rest agrees without exactly one, that one is named.
pub fn shares_on_one_polynomial<S: Scheme>(
    group_key: &GroupKey<S>,
    shares: &[PublicShare<S>],
    threshold: usize,
) -> Result<(), Error> {
    let operators = shares.len();
    if threshold == 0 || threshold > operators || operators > OPERATORS_MAX {
        return Err(Error::ImpossibleThreshold { threshold, operators });
    }
    let mut values = vec![Value { x: 0, point: group_key.key }];
    for (position, share) in shares.iter().enumerate() {
        if shares[..position].iter().any(|earlier| earlier.operator() == share.operator()) {
            return Err(Error::DuplicateShare(share.operator()));
        }
        values.push(Value { x: coordinate(share.operator()), point: share.key });
    }
    if on_one_polynomial(&values, threshold) {
        return Ok(());
    }
    Err(Error::NotOnePolynomial { foreign: foreign(&values, threshold) })
}

#[derive(Clone)]
struct Value<P> {
    x: u64,
    point: P,
}

/// Needs more values than the threshold to say anything; any `threshold` values are on a polynomial.
fn on_one_polynomial<P: Point>(values: &[Value<P>], threshold: usize) -> bool {
    let Some(free) = values.len().checked_sub(threshold).filter(|free| *free > 0) else {
        return true;
    };
    let transcript = transcript(values, threshold);
    let mask: Vec<Scalar> = (0..free as u64).map(|index| Scalar::challenge(&transcript, index)).collect();
    let word: Vec<Scalar> = values.iter().map(|own| dual_code_entry(own, values, &mask)).collect();
    curve::sum(values.iter().map(|value| &value.point).zip(&word), SCALAR_BITS).is_none()
}

/// mask(x) / ∏ (x − other x): the entry at x of a word of the dual Reed–Solomon code.
fn dual_code_entry<P>(own: &Value<P>, values: &[Value<P>], mask: &[Scalar]) -> Scalar {
    let x = Scalar::from_u64(own.x);
    let below = values
        .iter()
        .filter(|other| other.x != own.x)
        .fold(Scalar::from_u64(1), |product, other| product.mul(&x.sub(&Scalar::from_u64(other.x))));
    let above = mask.iter().rev().fold(Scalar::from_u64(0), |sum, a| sum.mul(&x).add(a));
    above.mul(&below.inverse())
}

fn transcript<P: Point>(values: &[Value<P>], threshold: usize) -> [u8; 64] {
    let mut hasher = Sha512::new_with_prefix(b"aequa/one-polynomial/v1\0");
    hasher.update((threshold as u64).to_be_bytes());
    for value in values {
        hasher.update(value.x.to_be_bytes());
        hasher.update(value.point.compress());
    }
    hasher.finalize().into()
}

fn foreign<P: Point>(values: &[Value<P>], threshold: usize) -> Option<String> {
    if values.len() <= threshold + 1 {
        return None;
    }
    let mut suspects = (0..values.len()).filter(|left_out| {
        let mut rest = values.to_vec();
        rest.remove(*left_out);
        on_one_polynomial(&rest, threshold)
    });
    match (suspects.next(), suspects.next()) {
        (Some(0), None) => Some("the group key".into()),
        (Some(suspect), None) => Some(format!("the share of operator {}", values[suspect].x - 1)),
        _ => None,
    }
}
