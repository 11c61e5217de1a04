//! What a block costs in signatures. Compare ratios within one run, never figures across runs.

use aequa_crypto::identity::IdentityKey;
use aequa_crypto::seal::{Combiner, deal};
use aequa_crypto::threshold::{self, MinPk};
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

/// As a validator's key signs.
fn min_pk(c: &mut Criterion) {
    let Ok(dealing) = threshold::deal::<MinPk>(3, 4) else { return };
    let shares: Vec<_> =
        dealing.secret_shares[..3].iter().map(|share| (share.operator(), share.sign(&[7; 32]))).collect();
    let combiner = threshold::Combiner::new(3, dealing.group_key, dealing.public_shares);
    let Ok(signature) = combiner.combine(&shares) else { return };
    c.bench_function("min-pk/combine 3 of 4", |b| b.iter(|| combiner.combine(&shares)));
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

criterion_group!(costs, statements, seals, min_pk, transactions);
criterion_main!(costs);
