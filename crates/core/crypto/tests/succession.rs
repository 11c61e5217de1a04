//! Locks that follow one another, and what each epoch's operators may say.

#![allow(clippy::unwrap_used, clippy::panic)]

use aequa_crypto::dealer::{DealtCluster, OperatorSecrets};
use aequa_crypto::lock::signing::{check_leaver_signature, sign_as_leaver};
use aequa_crypto::lock::{LockError, VerifiedLock, check_succession, verify};
use aequa_crypto::seal::combine;
use aequa_crypto::verify::{Refusal, Verifier};
use aequa_testkit::{block, dealt, reshared};
use aequa_types::lock::{ClusterLock, LeaverSignature};
use aequa_types::{Certificate, CertifiedBlock, Digest, Height, InstanceId, OperatorIndex, Proof, Round};

const AT: Height = Height(50);
const ALL: [usize; 7] = [0, 1, 2, 3, 4, 5, 6];

fn following(parent: &DealtCluster, places: &[Option<usize>], signers: &[usize]) -> Result<(), String> {
    let next = reshared(parent, places, AT, signers);
    let next = verify(&next.lock).map_err(|error| error.to_string())?;
    check_succession(&verified(&parent.lock), &next).map_err(|error| error.to_string())
}

fn verified(lock: &ClusterLock) -> VerifiedLock {
    verify(lock).unwrap()
}

fn kept(places: &[usize]) -> Vec<Option<usize>> {
    places.iter().copied().map(Some).collect()
}

#[test]
fn operators_come_go_and_are_replaced_one_at_a_time() {
    let four = dealt(4);
    let replaced = [Some(0), Some(1), Some(2), None];
    let added = [Some(0), Some(1), Some(2), Some(3), None];
    assert_eq!(following(&four, &kept(&[0, 1, 2, 3]), &ALL), Ok(()), "refresh");
    assert_eq!(following(&four, &added, &ALL), Ok(()), "five");
    assert_eq!(following(&four, &replaced, &ALL), Ok(()), "another fourth");
    let five = reshared(&four, &added, AT, &ALL);
    let back = reshared(&five, &kept(&[0, 1, 2, 3]), Height(90), &ALL);
    assert_eq!(check_succession(&verified(&five.lock), &verified(&back.lock)), Ok(()));
    assert_eq!(back.lock.sequencer.group_key, four.lock.sequencer.group_key);
    assert_eq!(back.lock.cluster_id, four.lock.cluster_id);
    assert_eq!(back.lock.epoch, 2);
}

#[test]
fn more_newcomers_than_may_be_faulty_are_refused() {
    let four = dealt(4);
    let two_new = following(&four, &[Some(0), Some(1), None, None], &ALL).unwrap_err();
    assert!(two_new.starts_with("operators: 2 are new"), "{two_new}");
    let moved = following(&four, &kept(&[1, 0, 2, 3]), &ALL).unwrap_err();
    assert!(moved.starts_with("operators: 2 are new"), "{moved}");
    // The last one takes the place of one that leaves.
    let five = reshared(&four, &[Some(0), Some(1), Some(2), Some(3), None], AT, &ALL);
    let swapped = reshared(&five, &kept(&[0, 4, 2, 3]), Height(90), &ALL);
    assert_eq!(check_succession(&verified(&five.lock), &verified(&swapped.lock)), Ok(()));
}

#[test]
fn without_a_quorum_of_the_operators_before_nothing_follows() {
    let four = dealt(4);
    let replaced = [Some(0), Some(1), Some(2), None];
    // Three sign, which is a quorum of the new operators; one of them was none before.
    let refused = following(&four, &replaced, &[0, 1, 3]).unwrap_err();
    assert!(refused.starts_with("node_signatures: 2 of operators of the lock before"), "{refused}");
    assert_eq!(following(&four, &replaced, &[0, 1, 2]), Ok(()));
}

/// The next lock of four, in which another has the place of operator 3, with signatures of these as leavers.
fn with_leavers(
    parent: &DealtCluster,
    signers: &[usize],
    leavers: &[&OperatorSecrets],
) -> Result<(), String> {
    let mut next = reshared(parent, &[Some(0), Some(1), Some(2), None], AT, signers).lock;
    next.leaver_signatures = leavers.iter().map(|one| sign_as_leaver(&next, &one.identity)).collect();
    next.leaver_signatures.sort_by_key(|leaver| leaver.identity_key);
    let next = verify(&next).map_err(|error| error.to_string())?;
    assert_eq!(verify(&ClusterLock::from_json(&next.lock().to_json()).unwrap()).unwrap().lock(), next.lock());
    check_succession(&verified(&parent.lock), &next).map_err(|error| error.to_string())
}

#[test]
fn any_quorum_of_the_operators_before_will_do_those_that_leave_among_them() {
    let (four, other) = (dealt(4), dealt(4));
    let [_, stays, _, leaves] = four.operators.as_slice() else { panic!("four") };
    // Of the new operators 0, 1 and the new one have signed: a quorum of them, and two of before.
    let signers = [0, 1, 3];
    assert_eq!(with_leavers(&four, &signers, &[leaves]), Ok(()));
    let refused =
        |signers: &[usize], leavers: &[&OperatorSecrets]| with_leavers(&four, signers, leavers).unwrap_err();
    let none = refused(&signers, &[]);
    assert!(none.starts_with("node_signatures: 2 of operators of the lock before, must be 3"), "{none}");
    let twice = refused(&signers, &[leaves, leaves]);
    assert_eq!(twice, "leaver_signatures[1].identity_key: not in ascending order");
    let stranger = refused(&signers, &[&other.operators[3]]);
    assert_eq!(stranger, "leaver_signatures[0].identity_key: not that of an operator of the lock before");
    for signers in [&[0, 1, 3][..], &[0, 2, 3]] {
        let in_both = refused(signers, &[stays]);
        assert_eq!(in_both, "leaver_signatures[0].identity_key: that of an operator of this lock");
    }
}

#[test]
fn a_leavers_signature_is_of_this_lock_and_of_one_who_leaves() {
    let four = dealt(4);
    let parent = verified(&four.lock);
    let next = reshared(&four, &[Some(0), Some(1), Some(2), None], AT, &[0, 1, 3]).lock;
    let other = reshared(&four, &[Some(0), Some(1), Some(2), None], Height(60), &[0, 1, 3]).lock;
    let [stays, _, _, leaves] = four.operators.as_slice() else { panic!("four") };
    assert_eq!(check_leaver_signature(&parent, &next, &sign_as_leaver(&next, &leaves.identity)), Ok(()));
    let of_other = sign_as_leaver(&other, &leaves.identity);
    for wrong in [
        of_other,
        sign_as_leaver(&next, &stays.identity),
        sign_as_leaver(&next, &dealt(4).operators[3].identity),
        LeaverSignature { signature: Default::default(), ..of_other },
    ] {
        assert!(check_leaver_signature(&parent, &next, &wrong).is_err());
    }
    let mut forged = next.clone();
    forged.leaver_signatures = vec![of_other];
    let refused = verify(&forged).unwrap_err().to_string();
    assert!(refused.starts_with("leaver_signatures[0].signature"), "{refused}");
    let mut first = four.lock.clone();
    first.leaver_signatures = vec![sign_as_leaver(&first, &dealt(4).operators[0].identity)];
    assert_eq!(verify(&first).unwrap_err().to_string(), "leaver_signatures: nobody leaves at epoch 0");
}

#[test]
fn what_may_not_change_is_named_when_it_does() {
    let (four, other) = (dealt(4), dealt(4));
    let next = reshared(&four, &kept(&[0, 1, 2, 3]), AT, &ALL);
    let item = |parent: &DealtCluster, next: &DealtCluster| match check_succession(
        &verified(&parent.lock),
        &verified(&next.lock),
    ) {
        Err(LockError::Item { item, .. }) => item,
        other => panic!("{other:?}"),
    };
    assert_eq!(item(&other, &next), "parent_lock_hash");
    assert_eq!(item(&next, &next), "parent_lock_hash");
    let at_once = reshared(&next, &kept(&[0, 1, 2, 3]), AT, &ALL);
    assert_eq!(item(&four, &at_once), "parent_lock_hash", "an epoch is left out");
    assert_eq!(item(&next, &at_once), "activation_height", "an epoch without a height");
}

#[test]
fn shares_of_two_epochs_make_no_seal() {
    let four = dealt(4);
    let next = reshared(&four, &kept(&[0, 1, 2, 3]), AT, &ALL);
    let (old, new) = (verified(&four.lock), verified(&next.lock));
    let share = |cluster: &DealtCluster, operator: usize| {
        let secrets = &cluster.operators[operator];
        (secrets.index, secrets.share.sign(b"message"))
    };
    for of_old in 0..=3 {
        let mixed: Vec<_> =
            (0..3).map(|operator| share(if operator < of_old { &four } else { &next }, operator)).collect();
        let seal = combine(3, &mixed).unwrap();
        let holds = old.group_key().verify(b"message", &seal).is_ok();
        assert_eq!(holds, of_old == 0 || of_old == 3, "{of_old} old shares");
    }
    for secrets in &four.operators {
        assert!(new.check_own_share(secrets.index, &secrets.share).is_err(), "an old share is refused");
    }
}

#[test]
fn blocks_of_an_epoch_are_judged_by_its_operators_and_those_of_an_unknown_one_by_the_seal() {
    let four = dealt(4);
    let five = reshared(&four, &[Some(0), Some(1), Some(2), Some(3), None], AT, &ALL);
    let back = reshared(&five, &kept(&[0, 1, 2, 3]), Height(90), &ALL);
    let (first, second, last) = (verified(&four.lock), verified(&five.lock), verified(&back.lock));
    let certified = |height: u64, is_sealed: bool| {
        let mut block = block(first.cluster_id(), height, Digest::ZERO, Vec::new());
        block.header.proposer = OperatorIndex(4);
        let (instance, digest) = (InstanceId::Block(Height(height)), block.header.digest());
        let round = Round(0);
        let mut certificate = Certificate { instance, round, digest, proof: Proof::Commits(Vec::new()) };
        if is_sealed {
            let message = certificate.decision().seal_bytes(&first.cluster_id());
            let shares: Vec<_> =
                back.operators[..3].iter().map(|one| (one.index, one.share.sign(&message))).collect();
            certificate = Certificate::sealed(certificate.decision(), combine(3, &shares).unwrap());
        }
        CertifiedBlock { block, certificate }
    };
    let knows_all = Verifier::with_history(&last, &[first.clone(), second.clone()]);
    let knows_last = Verifier::new(&last);
    assert!(knows_all.certified_block(certified(60, true)).is_ok(), "operator 4 was one then");
    for height in [40, 100] {
        assert!(knows_all.certified_block(certified(height, true)).is_err(), "and not at {height}");
    }
    assert!(knows_last.certified_block(certified(60, true)).is_ok());
    assert!(knows_last.certified_block(certified(40, true)).is_ok());
    assert!(knows_last.certified_block(certified(100, true)).is_err());
    let unsealed = knows_last.certified_block(certified(60, false)).unwrap_err();
    assert!(matches!(unsealed, Refusal::OutOfBounds(_)), "nobody knows whose COMMITs these would be");
}
