//! What a block costs in signatures. Compare ratios within one run, never figures across runs.

use aequa_crypto::bls::{self, MinPk, MinSig, ProvenKey, Scheme, SecretKey, SignatureSet};
use aequa_crypto::ecvrf::VrfKey;
use aequa_crypto::identity::{IdentityKey, MemberIdentity};
use aequa_crypto::seal::{Combiner, deal};
use aequa_crypto::threshold;
use aequa_crypto::transaction::{AccountKey, check, sign};
use aequa_types::statement::Claim;
use aequa_types::{
    ClusterId, Digest, Height, InstanceId, OperatorIndex, PlaintextV1, Round, Seal, Statement, TxBody,
};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// Seals verified together: the most the sealing thread of a node gathers.
const BATCH: u8 = 16;

fn statements(c: &mut Criterion) {
    let Ok(key) = IdentityKey::generate() else { return };
    let cluster = ClusterId::repeat_byte(1);
    let statement = Statement {
        instance: InstanceId::Block(Height(1)),
        round: Round(0),
        author: OperatorIndex(0),
        claim: Claim::Prepare(Digest::repeat_byte(2)),
    };
    let signed = key.sign_statement(&cluster, statement.clone());
    let public = key.public();
    c.bench_function("statement/sign", |b| b.iter(|| key.sign_statement(&cluster, statement.clone())));
    c.bench_function("statement/verify", |b| b.iter(|| public.verify(&cluster, &signed)));
    let member = MemberIdentity::new(public);
    c.bench_function("statement/verify of a member", |b| b.iter(|| member.verify(&cluster, &signed)));
}

fn seals(c: &mut Criterion) {
    let Ok(dealing) = deal(3, 4) else { return };
    let shares = |message: &[u8]| -> Vec<(OperatorIndex, Seal)> {
        dealing.secret_shares[..3].iter().map(|share| (share.operator(), share.sign(message))).collect()
    };
    let combiner = Combiner::new(3, dealing.group_key, dealing.public_shares.clone());
    let of_one = shares(b"block");
    let Ok(seal) = combiner.combine(&of_one) else { return };
    let batch: Vec<(Vec<u8>, Seal)> = (0..BATCH)
        .filter_map(|height| Some((vec![height; 64], combiner.combine(&shares(&[height; 64])).ok()?)))
        .collect();
    c.bench_function("seal/sign a share", |b| b.iter(|| dealing.secret_shares[0].sign(b"block")));
    c.bench_function("seal/combine 3 of 4", |b| b.iter(|| combiner.combine(&of_one)));
    c.bench_function("seal/verify one", |b| b.iter(|| dealing.group_key.verify(b"block", &seal)));
    c.bench_function("seal/verify 16 together", |b| b.iter(|| dealing.group_key.verify_batch(&batch)));
}

/// Combining at the thresholds of small clusters and of the largest.
fn combining<S: Scheme>(c: &mut Criterion, name: &str) {
    for (threshold, operators) in [(3, 4), (5, 7), (7, 10), (9, 13), (67, 100)] {
        let Ok(dealing) = threshold::deal::<S>(threshold, operators) else { return };
        // The last ones, whose coefficients are the largest.
        let last = &dealing.secret_shares[operators - threshold..];
        let shares: Vec<_> = last.iter().map(|share| (share.operator(), share.sign(&[7; 32]))).collect();
        let combiner = threshold::Combiner::new(threshold, dealing.group_key, dealing.public_shares);
        let id = format!("{name}/combine {threshold} of {operators}");
        c.bench_function(&id, |b| b.iter(|| combiner.combine(&shares)));
    }
}

/// One message signed by a hundred: acceptance D4 asks for a factor of 20. In a batch, each its own message.
fn hundred<S: Scheme>(c: &mut Criterion, name: &str) {
    let secrets: Vec<SecretKey<S>> = (0..100).filter_map(|_| SecretKey::generate().ok()).collect();
    let keys: Vec<ProvenKey<S>> = secrets.iter().map(|key| key.public().proven_elsewhere()).collect();
    let signatures: Vec<S::Signature> = secrets.iter().map(|key| key.sign(b"message")).collect();
    let Ok(sum) = bls::aggregate::<S>(&signatures) else { return };
    let pairs: Vec<_> = keys.iter().map(|key| *key.key()).zip(signatures).collect();
    let single = || pairs.iter().all(|(key, signature)| key.verify(b"message", signature).is_ok());
    let messages: Vec<[u8; 1]> = (0..100).map(|number| [number]).collect();
    let sets: Vec<SignatureSet<'_, S>> = secrets
        .iter()
        .zip(&messages)
        .map(|(secret, message)| SignatureSet {
            key: secret.public(),
            message,
            signature: secret.sign(message),
        })
        .collect();
    c.bench_function(&format!("{name}/sign"), |b| b.iter(|| secrets[0].sign(b"message")));
    c.bench_function(&format!("{name}/d4 verify 100 singly"), |b| b.iter(single));
    c.bench_function(&format!("{name}/d4 verify 100 aggregated"), |b| {
        b.iter(|| bls::fast_aggregate_verify(&keys, b"message", &sum))
    });
    c.bench_function(&format!("{name}/verify 100 in a batch"), |b| b.iter(|| bls::verify_batch(&sets)));
}

fn keys_of_both_schemes(c: &mut Criterion) {
    combining::<MinSig>(c, "min-sig");
    combining::<MinPk>(c, "min-pk");
    hundred::<MinSig>(c, "min-sig");
    hundred::<MinPk>(c, "min-pk");
}

fn vrf(c: &mut Criterion) {
    let key = VrfKey::from_seed(&[7; 32]);
    let (public, proof) = (key.public(), key.prove(b"height 7"));
    c.bench_function("vrf/prove", |b| b.iter(|| key.prove(b"height 7")));
    c.bench_function("vrf/verify", |b| b.iter(|| public.verify(b"height 7", &proof)));
}

/// As a validator's key signs.
fn min_pk(c: &mut Criterion) {
    let Ok(dealing) = threshold::deal::<MinPk>(3, 4) else { return };
    let shares: Vec<_> =
        dealing.secret_shares[..3].iter().map(|share| (share.operator(), share.sign(&[7; 32]))).collect();
    let combiner = threshold::Combiner::new(3, dealing.group_key, dealing.public_shares);
    let Ok(signature) = combiner.combine(&shares) else { return };
    c.bench_function("min-pk/verify one", |b| b.iter(|| dealing.group_key.verify(&[7; 32], &signature)));
}

fn transactions(c: &mut Criterion) {
    let Ok(key) = AccountKey::generate() else { return };
    let body = TxBody::Plaintext(PlaintextV1 {
        from: key.address(),
        nonce: 0,
        gas: 21_000,
        fee: 10,
        payload: vec![7; 64].try_into().unwrap_or_default(),
    });
    let transaction = sign(1337, body, &key);
    c.bench_function("transaction/check", |b| {
        b.iter_batched(|| transaction.clone(), |transaction| check(1337, transaction), BatchSize::SmallInput)
    });
}

criterion_group!(costs, statements, seals, min_pk, keys_of_both_schemes, vrf, transactions);
criterion_main!(costs);
