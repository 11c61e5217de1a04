//! What signing together costs beside the same work done with `blst` alone: at t = 3, 5, 7 and 9, one operator signs,
//! t shares are combined, one signature is verified. Ratios are of lines with the same end, within one run:
//! `seal/sign 3 of 4` to `seal/sign raw`, `seal/combine 5 of 7` to `seal/combine raw 5`.
//!
//! `cargo xtask bench costs threshold` runs all of it, `cargo bench -p aequa-crypto --bench threshold -- combine` what is
//! named so.

use aequa_crypto::bls::{MinPk, MinSig, Scheme};
use aequa_crypto::threshold;
use aequa_types::OperatorIndex;
use blst::{MultiPoint as _, blst_p1_affine, blst_p2_affine, min_pk, min_sig};
use criterion::{Criterion, criterion_group, criterion_main};

/// Thresholds, each of the smallest cluster that has it.
const GROUPS: [(usize, usize); 4] = [(3, 4), (5, 7), (7, 10), (9, 13)];
/// A seed of `blst` keys.
const SEED: [u8; 32] = [7; 32];
/// What is signed: as long as a signing root.
const MESSAGE: [u8; 32] = [9; 32];
/// Bits of a scalar of the group, as `blst` takes them where it does not know better.
const SCALAR_BITS: usize = 255;

fn together<S: Scheme>(c: &mut Criterion, name: &str) {
    for (threshold, operators) in GROUPS {
        let Ok(dealing) = threshold::deal::<S>(threshold, operators) else { return };
        // The last ones, whose coefficients are the largest.
        let last = &dealing.secret_shares[operators - threshold..];
        let shares: Vec<(OperatorIndex, S::Signature)> =
            last.iter().map(|share| (share.operator(), share.sign(&MESSAGE))).collect();
        let (key, first) = (dealing.group_key, dealing.secret_shares[0].clone());
        let combiner = threshold::Combiner::new(threshold, key, dealing.public_shares);
        let Ok(signature) = combiner.combine(&shares) else { return };
        let of = format!("{threshold} of {operators}");
        c.bench_function(&format!("{name}/sign {of}"), |b| b.iter(|| first.sign(&MESSAGE)));
        c.bench_function(&format!("{name}/combine {of}"), |b| b.iter(|| combiner.combine(&shares)));
        c.bench_function(&format!("{name}/verify {of}"), |b| b.iter(|| key.verify(&MESSAGE, &signature)));
        // As a node does it: all shares combined, and the result verified.
        c.bench_function(&format!("{name}/combine and verify {of}"), |b| {
            b.iter(|| combiner.sign(&MESSAGE, &shares))
        });
    }
}

/// The same with nothing around it. Combining is to read t points and to multiply each with a scalar, in one go.
macro_rules! raw {
    ($function:ident, $blst:ident, $affine:ty, $scheme:ty, $name:literal) => {
        fn $function(c: &mut Criterion) {
            let tag = <$scheme>::CIPHERSUITE;
            let Ok(secret) = $blst::SecretKey::key_gen(&SEED, &[]) else { return };
            let (key, signature) = (secret.sk_to_pk(), secret.sign(&MESSAGE, tag, &[]));
            let bytes = signature.compress();
            c.bench_function(concat!($name, "/sign raw"), |b| {
                b.iter(|| secret.sign(&MESSAGE, tag, &[]).compress())
            });
            c.bench_function(concat!($name, "/verify raw"), |b| {
                b.iter(|| {
                    let signature = $blst::Signature::uncompress(&bytes)?;
                    match signature.verify(true, &MESSAGE, tag, &[], &key, false) {
                        blst::BLST_ERROR::BLST_SUCCESS => Ok(()),
                        refused => Err(refused),
                    }
                })
            });
            for (threshold, _) in GROUPS {
                let scalars = vec![0x5a; 32 * threshold];
                c.bench_function(&format!("{}/combine raw {threshold}", $name), |b| {
                    b.iter(|| {
                        let read = |_| $blst::Signature::uncompress(&bytes).map(<$affine>::from);
                        let points: Result<Vec<$affine>, _> = (0..threshold).map(read).collect();
                        points.map(|points| points.as_slice().mult(&scalars, SCALAR_BITS))
                    })
                });
            }
        }
    };
}

raw!(raw_seal, min_sig, blst_p1_affine, MinSig, "seal");
raw!(raw_duty, min_pk, blst_p2_affine, MinPk, "duty");

fn seal(c: &mut Criterion) {
    together::<MinSig>(c, "seal");
    raw_seal(c);
}

fn duty(c: &mut Criterion) {
    together::<MinPk>(c, "duty");
    raw_duty(c);
}

criterion_group!(costs, seal, duty);
criterion_main!(costs);
