use super::*;
use aequa_chain::{StateRead, StoredRow};
use aequa_testkit::{at, block, commit, double_vote, plaintext_with, unsigned};
use aequa_types::{Address, ClusterId, Digest, DutyId, DutyKind, Height, Proof, Round, Seal, Slot};
use fjall::{Database, KeyspaceCreateOptions};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

const CLUSTER: ClusterId = ClusterId::repeat_byte(0xc1);

fn open(dir: &Path) -> Result<FjallChainStore, StorageError> {
    FjallChainStore::open(dir, CLUSTER, ChainOptions::default())
}

fn change(key: Vec<u8>, before: Option<Vec<u8>>, after: Option<Vec<u8>>) -> Change {
    Change { key, before, after }
}

fn tip_value(height: u64) -> Vec<u8> {
    height.to_be_bytes().to_vec()
}

/// Everything that is in a state.
fn entries(state: &dyn StateRead) -> Vec<StoredRow> {
    std::iter::successors(state.above(&[]), |(key, _)| state.above(key)).collect()
}

/// Everything that is in the state after these blocks.
fn entries_after(decisions: &[Decision]) -> Vec<StoredRow> {
    let mut state = aequa_chain::MemoryState::default();
    for decision in decisions {
        state.write(decision.block.header.height, &decision.changes);
    }
    entries(&state)
}

/// A block with everything it changes, as a decision would bring it.
#[derive(Clone)]
struct Decision {
    block: Block,
    certificate: Certificate,
    tx_hashes: Vec<TxHash>,
    changes: Vec<Change>,
    state_root: B256,
    history_root: B256,
}

impl Decision {
    fn new(height: u64, parent: Digest, payload_bytes: usize) -> Self {
        let body = plaintext_with(Address::repeat_byte(1), height, 1, &vec![7; payload_bytes]);
        let tx_hashes = vec![body.hash()];
        let block = block(CLUSTER, height, parent, vec![unsigned(body)]);
        let certificate = commits(height, block.header.digest());
        // One row of its own, and one that every block overwrites.
        let last = height.checked_sub(1).filter(|last| *last > 0);
        let changes = vec![
            change([b"row/".as_slice(), &height.to_be_bytes()].concat(), None, Some(vec![height as u8; 20])),
            change(b"tip/".to_vec(), last.map(tip_value), Some(tip_value(height))),
        ];
        let root = |kind: u8| B256::left_padding_from(&[&[kind], height.to_be_bytes().as_slice()].concat());
        Self { block, certificate, tx_hashes, changes, state_root: root(1), history_root: root(2) }
    }

    fn digest(&self) -> Digest {
        self.certificate.digest
    }

    fn commit(&self) -> BlockCommit<'_> {
        BlockCommit {
            block: &self.block,
            certificate: &self.certificate,
            tx_hashes: &self.tx_hashes,
            changes: &self.changes,
            state_root: self.state_root,
            history_root: self.history_root,
        }
    }

    fn certified(&self) -> CertifiedBlock {
        CertifiedBlock { block: self.block.clone(), certificate: self.certificate.clone() }
    }
}

fn commits(height: u64, digest: Digest) -> Certificate {
    commit(at(height), 0, digest).certificate(0..3)
}

fn sealed(height: u64, digest: Digest, byte: u8) -> Certificate {
    Certificate { proof: Proof::Group(Seal::repeat_byte(byte)), ..commits(height, digest) }
}

/// Blocks 1 to `n`, each the child of the one before.
fn chain(n: u64, payload_bytes: usize) -> Vec<Decision> {
    let mut parent = CLUSTER;
    (1..=n)
        .map(|height| {
            let decision = Decision::new(height, parent, payload_bytes);
            parent = decision.digest();
            decision
        })
        .collect()
}

fn stored(decisions: &[Decision]) -> (tempfile::TempDir, FjallChainStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for decision in decisions {
        assert_eq!(store.commit(&decision.commit()).unwrap(), Committed::New);
    }
    (dir, store)
}

/// The store holds the first so many of `decisions`, whole, and nothing of the others.
fn assert_is_prefix(store: &FjallChainStore, decisions: &[Decision]) -> usize {
    let tip = store.latest().unwrap();
    let n = tip.map_or(0, |tip| tip.height.0 as usize);
    let (there, missing) = decisions.split_at(n);
    for decision in there {
        let height = decision.block.header.height;
        assert_eq!(store.block(height).unwrap(), Some(decision.certified()));
        assert_eq!(store.transaction(&decision.tx_hashes[0]).unwrap(), Some((height, 0)));
        let roots = Roots { state_root: decision.state_root, history_root: decision.history_root };
        assert_eq!(store.roots(height).unwrap(), Some(roots));
    }
    for decision in missing {
        let height = decision.block.header.height;
        assert_eq!(store.block(height).unwrap(), None);
        assert_eq!(store.transaction(&decision.tx_hashes[0]).unwrap(), None);
        assert_eq!(store.roots(height).unwrap(), None);
    }
    assert_eq!(tip.map(|tip| tip.digest), there.last().map(Decision::digest));
    assert_eq!(entries(store), entries_after(there));
    for height in 1..=there.len() {
        let state = store.state_at(Height(height as u64)).unwrap();
        assert_eq!(entries(&state), entries_after(&there[..height]), "height {height}");
    }
    n
}

#[test]
fn f1_latest_of_1_to_100_000_written_in_random_order_is_100_000() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::builder(dir.path()).open().unwrap();
    let keyspace = database.keyspace("heights", KeyspaceCreateOptions::default).unwrap();
    // 70,001 is coprime to 100,000: a permutation.
    let mut batch = database.batch();
    for n in 0..100_000u64 {
        batch.insert(&keyspace, keys::height_key(Height(n * 70_001 % 100_000 + 1)), []);
    }
    batch.commit().unwrap();
    let last = keyspace.last_key_value().unwrap().key().unwrap();
    assert_eq!(keys::height_of_key(&last).unwrap(), Height(100_000));
    let heights: Vec<u64> =
        keyspace.iter().map(|guard| keys::height_of_key(&guard.key().unwrap()).unwrap().0).collect();
    assert_eq!(heights, (1..=100_000).collect::<Vec<_>>());
}

#[test]
fn headers_are_read_without_their_bodies() {
    let decisions = chain(5, 100);
    let (_dir, store) = stored(&decisions);
    let header = |height: usize| decisions[height - 1].block.header.clone();
    // Whatever has become of the bodies: they are not looked at.
    for height in 1..=5u64 {
        store.damage_body(Height(height));
    }
    assert_eq!(store.headers(Height(2), 3).unwrap(), [header(2), header(3), header(4)]);
    assert_eq!(store.headers(Height(5), 100).unwrap(), [header(5)]);
    assert_eq!(store.headers(Height(6), 100).unwrap(), []);
    let certified = store.certified_header(Height(3)).unwrap().unwrap();
    assert_eq!((certified.header, certified.certificate), (header(3), decisions[2].certificate.clone()));
    assert_eq!(store.certified_header(Height(6)).unwrap(), None);
    assert!(store.block(Height(3)).is_err());
}

#[test]
fn f1_state_rows_cannot_be_read_as_blocks() {
    let decisions = chain(1, 10);
    let (_dir, store) = stored(&[]);
    let mut decision = decisions[0].clone();
    let digest = decision.block.header.digest().to_vec();
    decision.changes = vec![change(Height(7).0.to_be_bytes().to_vec(), None, Some(digest))];
    store.commit(&decision.commit()).unwrap();
    assert_eq!(store.block(Height(7)).unwrap(), None);
    assert_eq!(store.roots(Height(7)).unwrap(), None);
    assert_eq!(store.latest().unwrap().unwrap().height, Height(1));
}

#[test]
fn an_empty_store_has_no_tip_and_starts_with_block_1_of_its_cluster() {
    let (_dir, store) = stored(&[]);
    assert_eq!(store.latest().unwrap(), None);
    let second = Decision::new(2, CLUSTER, 10);
    assert!(matches!(store.commit(&second.commit()), Err(StorageError::Gap { expected: Height(1), .. })));
    let orphan = Decision::new(1, Digest::ZERO, 10);
    assert!(matches!(store.commit(&orphan.commit()), Err(StorageError::WrongParent { .. })));
    let zero = Decision::new(0, CLUSTER, 10);
    assert!(matches!(store.commit(&zero.commit()), Err(StorageError::Gap { .. })));
    assert_eq!(assert_is_prefix(&store, &chain(3, 10)), 0);
}

#[test]
fn f2_the_same_block_again_changes_nothing() {
    let decisions = chain(3, 10);
    let (_dir, store) = stored(&decisions);
    for decision in &decisions {
        let again =
            Decision { changes: vec![change(b"x".to_vec(), None, Some(vec![1]))], ..decision.clone() };
        assert_eq!(store.commit(&again.commit()).unwrap(), Committed::Same);
    }
    assert_eq!(assert_is_prefix(&store, &decisions), 3);
}

#[test]
fn f2_another_block_at_a_height_is_a_conflict_and_the_first_stays() {
    let decisions = chain(3, 10);
    let (_dir, store) = stored(&decisions);
    for height in 1..=3 {
        let other = Decision::new(height, decisions[height as usize - 1].block.header.parent_root, 11);
        let error = store.commit(&other.commit()).unwrap_err();
        assert!(matches!(error, StorageError::Conflict { stored, offered, .. }
                if stored == decisions[height as usize - 1].digest() && offered == other.digest()));
    }
    assert_eq!(assert_is_prefix(&store, &decisions), 3);
}

#[test]
fn f2_gaps_and_wrong_parents_are_refused() {
    let decisions = chain(4, 10);
    let (_dir, store) = stored(&decisions[..2]);
    let gap = store.commit(&decisions[3].commit()).unwrap_err();
    assert!(matches!(gap, StorageError::Gap { expected: Height(3), offered: Height(4) }));
    let orphan = Decision::new(3, decisions[0].digest(), 10);
    assert!(matches!(store.commit(&orphan.commit()), Err(StorageError::WrongParent { .. })));
    assert_eq!(assert_is_prefix(&store, &decisions), 2);
    store.commit(&decisions[2].commit()).unwrap();
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let good = chain(1, 10).remove(0);
    let (_dir, store) = stored(&[]);
    let bad: [(&str, Decision); 6] = [
        ("digest", Decision { certificate: commits(1, Digest::ZERO), ..good.clone() }),
        ("height", Decision { certificate: commits(2, good.digest()), ..good.clone() }),
        ("hashes", Decision { tx_hashes: vec![], ..good.clone() }),
        ("key of the state", Decision { changes: vec![change(vec![], None, Some(vec![1]))], ..good.clone() }),
        ("255 bytes", Decision { changes: vec![change(vec![1; 256], None, Some(vec![1]))], ..good.clone() }),
        ("cluster", {
            let mut other = good.clone();
            other.block.header.cluster_id = ClusterId::ZERO;
            other.certificate = commits(1, other.block.header.digest());
            other
        }),
    ];
    for (name, decision) in bad {
        assert!(matches!(store.commit(&decision.commit()), Err(StorageError::Mismatch { .. })), "{name}");
    }
    assert_eq!(assert_is_prefix(&store, std::slice::from_ref(&good)), 0);
    store.commit(&good.commit()).unwrap();
}

#[test]
fn a_group_seal_replaces_commits_and_is_never_replaced() {
    let decisions = chain(1, 10);
    let (_dir, store) = stored(&decisions);
    let digest = decisions[0].digest();
    let height = Height(1);
    let certificate = || store.block(height).unwrap().unwrap().certificate;

    let more_commits = Certificate { round: Round(1), ..commits(1, digest) };
    assert!(!store.put_certificate(height, &more_commits).unwrap());
    assert_eq!(certificate(), decisions[0].certificate);

    assert!(store.put_certificate(height, &sealed(1, digest, 1)).unwrap());
    assert!(!store.put_certificate(height, &sealed(1, digest, 2)).unwrap());
    assert!(!store.put_certificate(height, &decisions[0].certificate).unwrap());
    assert_eq!(certificate(), sealed(1, digest, 1));

    let other = store.put_certificate(height, &sealed(1, Digest::ZERO, 1));
    assert!(matches!(other, Err(StorageError::Conflict { .. })));
    let elsewhere = store.put_certificate(height, &sealed(2, digest, 1));
    assert!(matches!(elsewhere, Err(StorageError::Mismatch { .. })));
    let unknown = store.put_certificate(Height(2), &sealed(2, digest, 1));
    assert!(matches!(unknown, Err(StorageError::UnknownHeight { .. })));
}

#[test]
fn values_above_64_kib_and_up_to_a_full_block_survive_reopening() {
    let mut decisions = chain(1, 65_536);
    let mut full = Decision::new(2, decisions[0].digest(), 0);
    let transaction = decisions[0].block.items[0].clone();
    full.block.items = vec![transaction; 46].try_into().unwrap();
    full.certificate = commits(2, full.block.header.digest());
    full.tx_hashes = (0..46).map(TxHash::with_last_byte).collect();
    decisions.push(full);
    let (dir, store) = stored(&decisions);
    store.flush().unwrap();
    drop(store);
    let store = open(dir.path()).unwrap();
    for decision in &decisions {
        assert_eq!(store.block(decision.block.header.height).unwrap(), Some(decision.certified()));
    }
    assert_eq!(store.transaction(&TxHash::with_last_byte(45)).unwrap(), Some((Height(2), 45)));
}

#[test]
fn a_store_of_another_cluster_or_held_by_another_process_is_refused() {
    let (dir, store) = stored(&chain(1, 10));
    assert!(matches!(open(dir.path()), Err(StorageError::InUse { .. })));
    drop(store);
    let other = FjallChainStore::open(dir.path(), ClusterId::ZERO, ChainOptions::default());
    let Err(error) = other else { panic!("opened") };
    assert!(matches!(error, StorageError::ForeignDirectory { .. }) && error.is_safety_refusal());
    assert_eq!(assert_is_prefix(&open(dir.path()).unwrap(), &chain(1, 10)), 1);
}

#[test]
fn readers_never_see_part_of_a_commit() {
    let decisions = chain(200, 100);
    let (_dir, store) = stored(&[]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for decision in &decisions {
                store.commit(&decision.commit()).unwrap();
            }
        });
        loop {
            let state = store.state_at(StateRead::height(&store)).unwrap();
            assert_eq!(entries(&state), entries_after(&decisions[..state.height().0 as usize]));
            if let Some(tip) = store.latest().unwrap() {
                assert!(store.block(tip.height).unwrap().is_some());
                if tip.height == Height(200) {
                    break;
                }
            }
        }
    });
}

#[test]
fn duty_results_are_listed_newest_first() {
    let (_dir, store) = stored(&[]);
    let duty = |kind, slot| DutyId { kind, slot: Slot(slot) };
    for slot in [5, 300, 1, 256] {
        store.put_duty(duty(DutyKind::Attester, slot), &slot.to_be_bytes()).unwrap();
    }
    store.put_duty(duty(DutyKind::Sync, 256), b"sync").unwrap();
    store.put_duty(duty(DutyKind::Sync, 256), b"later").unwrap();
    assert_eq!(store.duty(duty(DutyKind::Sync, 256)).unwrap().unwrap(), b"later");
    assert_eq!(store.duty(duty(DutyKind::Proposer, 256)).unwrap(), None);

    let list = |kind, before: Option<u64>, limit| -> Vec<(DutyKind, u64)> {
        let found = store.duties(kind, before.map(Slot), limit).unwrap();
        found.into_iter().map(|(duty, _)| (duty.kind, duty.slot.0)).collect()
    };
    let (a, s) = (DutyKind::Attester, DutyKind::Sync);
    assert_eq!(list(None, None, 10), [(a, 300), (s, 256), (a, 256), (a, 5), (a, 1)]);
    assert_eq!(list(Some(a), None, 2), [(a, 300), (a, 256)]);
    assert_eq!(list(None, Some(256), 10), [(a, 5), (a, 1)]);
    assert_eq!(list(Some(s), Some(300), 10), [(s, 256)]);

    assert_eq!(store.duty_instances(Some(s), Some(Slot(300)), 1).unwrap(), (vec![duty(s, 256)], None));

    assert_eq!(store.prune_duties_below(Slot(256)).unwrap(), 2);
    assert_eq!(list(None, None, 10), [(a, 300), (s, 256), (a, 256)]);
}

#[test]
fn a_watermark_is_stored_with_the_duty_that_raised_it_and_never_goes_down() {
    let (dir, store) = stored(&[]);
    let duty = |kind, slot| DutyId { kind, slot: Slot(slot) };
    let (a, s) = (DutyKind::Attester, DutyKind::Sync);
    for slot in 1..=6 {
        store
            .close_duty(duty(a, slot), b"{}", Some(Slot(slot / 2)).filter(|watermark| watermark.0 > 0))
            .unwrap();
    }
    store.close_duty(duty(s, 2), b"{}", None).unwrap();
    store.close_duty(duty(a, 9), b"{}", Some(Slot(1))).unwrap();
    store.close_duty(duty(a, 8), b"{}", None).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.duty_watermarks().unwrap(), [duty(a, 3)]);
    let closed = [duty(s, 2), duty(a, 4), duty(a, 5), duty(a, 6), duty(a, 8), duty(a, 9)];
    assert_eq!(store.closed_duties().unwrap(), closed);

    store.prune_duties_below(Slot(6)).unwrap();
    let watermarks = [a, DutyKind::Proposer, s].map(|kind| duty(kind, 5));
    assert_eq!(store.duty_watermarks().unwrap(), watermarks, "what was pruned stays closed");
    assert_eq!(store.closed_duties().unwrap(), [duty(a, 6), duty(a, 8), duty(a, 9)]);
}

#[test]
fn a_rare_duty_is_found_in_searches_of_bounded_length_that_follow_each_other() {
    let (_dir, store) = stored(&[]);
    let duty = |kind, slot| DutyId { kind, slot: Slot(slot) };
    let slots = DUTIES_SEARCHED_MAX as u64 * 3 / 2;
    for slot in 0..slots {
        store.put_duty(duty(DutyKind::Attester, slot), b"{}").unwrap();
        if slot % 2 == 0 {
            store.put_duty(duty(DutyKind::Proposer, slot), b"{}").unwrap();
        }
    }
    for slot in [1, slots - 1] {
        store.put_duty(duty(DutyKind::Sync, slot), b"{}").unwrap();
    }
    let (mut found, mut before, mut searches) = (Vec::new(), None, 0);
    loop {
        let (some, next) = store.duty_instances(Some(DutyKind::Sync), before, 5).unwrap();
        found.extend(some);
        searches += 1;
        if next.is_none() {
            break;
        }
        before = next;
    }
    assert_eq!(found, [duty(DutyKind::Sync, slots - 1), duty(DutyKind::Sync, 1)]);
    assert_eq!(searches, 3);
    let all = store.duty_instances(None, None, 5).unwrap();
    assert_eq!((all.0.len(), all.1), (5, None), "what is found soon ends the search");
}

#[test]
fn more_closed_duties_than_any_window_come_back() {
    let (_dir, store) = stored(&[]);
    for slot in 0..3000 {
        store.close_duty(DutyId { kind: DutyKind::Proposer, slot: Slot(slot) }, b"{}", None).unwrap();
    }
    assert_eq!(store.closed_duties().unwrap().len(), 3000);
}

#[test]
fn what_was_committed_without_a_flush_survives_the_process() {
    let decisions = chain(20, 1000);
    let (dir, store) = stored(&decisions[..10]);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(assert_is_prefix(&store, &decisions), 10);
    for decision in &decisions[10..] {
        store.commit(&decision.commit()).unwrap();
    }
    drop(store);
    assert_eq!(assert_is_prefix(&open(dir.path()).unwrap(), &decisions), 20);
}

/// A copy of a directory as a crash would leave it. Journals are preallocated: their zero tails are
/// not copied.
fn crash_image(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            crash_image(&path, &target);
        } else {
            let mut bytes = fs::read(&path).unwrap();
            if is_journal(&path) {
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            }
            fs::write(&target, bytes).unwrap();
        }
    }
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

fn journal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| is_journal(path)).max().unwrap()
}

#[test]
fn f4_a_journal_cut_anywhere_gives_whole_blocks_only() {
    let decisions = chain(12, 300);
    let (dir, store) = stored(&decisions);
    let image = tempfile::tempdir().unwrap();
    crash_image(dir.path(), image.path());
    drop(store);
    let whole = fs::read(journal(image.path())).unwrap();
    // 200 points spread over everything behind the first write, which made the store.
    let first = whole.len() / 20;
    let mut seen = std::collections::BTreeSet::new();
    for point in 0..200 {
        let cut = first + (whole.len() - first) * point / 199;
        fs::write(journal(image.path()), &whole[..cut]).unwrap();
        let crashed = tempfile::tempdir().unwrap();
        crash_image(image.path(), crashed.path());
        let store = open(crashed.path()).unwrap();
        seen.insert(assert_is_prefix(&store, &decisions));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (0..=12).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_order_of_offers_and_restarts_stores_a_prefix(offers in proptest::collection::vec(0usize..8, 1..40), restarts: u8) {
        let decisions = chain(8, 50);
        let (dir, mut store) = stored(&[]);
        let mut tip = 0;
        for (n, offer) in offers.into_iter().enumerate() {
            let committed = store.commit(&decisions[offer].commit());
            match offer.cmp(&tip) {
                std::cmp::Ordering::Less => prop_assert_eq!(committed.unwrap(), Committed::Same),
                std::cmp::Ordering::Equal => prop_assert_eq!(committed.unwrap(), Committed::New),
                std::cmp::Ordering::Greater => {
                    let is_gap = matches!(committed, Err(StorageError::Gap { .. }));
                    prop_assert!(is_gap);
                },
            }
            tip = tip.max(if offer == tip { tip + 1 } else { 0 });
            if n < 8 && restarts >> n & 1 == 1 {
                drop(store);
                store = open(dir.path()).unwrap();
            }
        }
        prop_assert_eq!(assert_is_prefix(&store, &decisions), tip);
    }
}

fn evidence(round: u64) -> Evidence {
    Evidence::clone(&double_vote(2, at(1), round))
}

#[test]
fn rows_a_block_removes_are_gone_and_were_there_before() {
    let mut decisions = chain(3, 10);
    let gone = decisions[0].changes[0].clone();
    decisions[1].changes.push(change(gone.key.clone(), gone.after.clone(), None));
    decisions[2].changes.push(change(gone.key.clone(), None, Some(b"again".to_vec())));
    let (dir, store) = stored(&decisions);
    let kept = |store: &FjallChainStore| -> Vec<_> {
        (1..=3).map(|height| store.state_at(Height(height)).unwrap().get(&gone.key)).collect()
    };
    let expected = [gone.after.clone(), None, Some(b"again".to_vec())];
    assert_eq!(kept(&store), expected);
    let second = entries(&store.state_at(Height(2)).unwrap());
    assert_eq!(second, entries_after(&decisions[..2]));
    drop(store);
    assert_eq!(kept(&open(dir.path()).unwrap()), expected);
}

#[test]
fn a_state_stays_as_it_was_whatever_is_stored_after_it() {
    let decisions = chain(5, 10);
    let (_dir, store) = stored(&decisions[..2]);
    let second = store.state_at(Height(2)).unwrap();
    for decision in &decisions[2..] {
        store.commit(&decision.commit()).unwrap();
    }
    assert_eq!(entries(&second), entries_after(&decisions[..2]));
    second.check_reads().unwrap();
    assert!(matches!(store.state_at(Height(6)), Err(StorageError::UnknownHeight { height: Height(6) })));
    assert_eq!(entries(&store.state_at(Height(0)).unwrap()), []);
}

#[test]
fn states_below_the_kept_ones_are_gone_with_their_versions() {
    let kept = ChainOptions::default().states_kept;
    let last = kept + 10;
    let decisions = chain(last, 0);
    let (_dir, store) = stored(&decisions);
    assert_eq!(store.lowest_state().unwrap(), Height(10));
    assert!(matches!(store.state_at(Height(9)), Err(StorageError::UnknownHeight { .. })));
    for height in [10, 11, last - 1, last] {
        let state = store.state_at(Height(height)).unwrap();
        assert_eq!(entries(&state), entries_after(&decisions[..height as usize]));
    }
    assert_eq!(store.versions() as u64, 2 * kept, "two changes for each kept block");
}

#[test]
fn f6_blocks_below_a_height_are_forgotten_and_all_others_stay() {
    let decisions = chain(40, 100);
    let (dir, store) = stored(&decisions);
    assert_eq!(store.prune_blocks_below(Height(31)).unwrap(), 30);
    assert_eq!(store.prune_blocks_below(Height(31)).unwrap(), 0);
    assert!(
        !store.put_certificate(Height(7), &decisions[6].certificate).unwrap(),
        "a seal that comes too late"
    );
    assert!(store.put_certificate(Height(41), &commits(41, Digest::ZERO)).is_err(), "of no block yet");
    let check = |store: &FjallChainStore| {
        assert_eq!(store.first_height().unwrap(), Some(Height(31)));
        for decision in &decisions {
            let height = decision.block.header.height;
            let kept = height >= Height(31);
            assert_eq!(store.block(height).unwrap(), kept.then(|| decision.certified()));
            assert_eq!(store.roots(height).unwrap().is_some(), kept);
            assert_eq!(store.transaction(&decision.tx_hashes[0]).unwrap().is_some(), kept);
        }
        assert_eq!(entries(store), entries_after(&decisions), "the state is that of all blocks");
    };
    check(&store);
    drop(store);
    let store = open(dir.path()).unwrap();
    check(&store);
    assert_eq!(store.prune_blocks_below(Height(1000)).unwrap(), 9, "the last block stays");
    let next = Decision::new(41, decisions[39].digest(), 10);
    assert_eq!(store.commit(&next.commit()).unwrap(), Committed::New);
}

#[test]
fn pending_evidence_is_there_after_a_restart_and_replaced_whole() {
    let (dir, store) = stored(&[]);
    assert_eq!(store.pending_evidence().unwrap(), []);
    store.put_pending_evidence(&[evidence(0), evidence(1)]).unwrap();
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.pending_evidence().unwrap(), [evidence(0), evidence(1)]);
    store.put_pending_evidence(&[evidence(2)]).unwrap();
    assert_eq!(store.pending_evidence().unwrap(), [evidence(2)]);
    store.put_pending_evidence(&[]).unwrap();
    assert_eq!(store.pending_evidence().unwrap(), []);
}

#[test]
fn a_store_of_an_earlier_layout_is_refused() {
    let (dir, store) = stored(&[]);
    drop(store);
    let database = Database::builder(dir.path()).open().unwrap();
    let meta = database.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
    meta.insert(b"schema", 2u16.to_be_bytes()).unwrap();
    drop((meta, database));
    assert!(matches!(open(dir.path()), Err(StorageError::OlderVersion { found: 2, .. })));
}

#[test]
fn a_store_whose_making_was_interrupted_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let chain = dir.path().join("chain");
    // What the engine leaves when it is killed while it makes a store, and cannot open.
    fs::create_dir_all(dir.path().join("chain.tmp-0/keyspaces")).unwrap();
    fs::write(dir.path().join("chain.tmp-0/0.jnl"), b"").unwrap();
    for _ in 0..2 {
        let store = open(&chain).unwrap();
        assert_eq!(store.latest().unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

/// All bytes of all files of a store.
fn bytes_below(dir: &Path) -> Vec<u8> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { bytes_below(&path) } else { fs::read(path).unwrap() }).collect()
}

#[test]
fn an_encrypted_store_says_the_same_and_its_files_do_not() {
    let (decisions, secret) = (chain(5, 100), b"a result that is nobody's business");
    let duty = DutyId { kind: DutyKind::Attester, slot: Slot(7) };
    let shown = [Some(1), None].map(|byte: Option<u8>| {
        let dir = tempfile::tempdir().unwrap();
        let with = |byte: Option<u8>| {
            let key = byte.map(|byte| StoreKey::new([byte; 32]));
            FjallChainStore::open(dir.path(), CLUSTER, ChainOptions { key, ..ChainOptions::default() })
        };
        let store = with(byte).unwrap();
        decisions.iter().for_each(|decision| assert!(store.commit(&decision.commit()).is_ok()));
        store.close_duty(duty, secret, None).unwrap();
        store.flush().unwrap();
        drop(store);
        for wrong in [None, Some(1), Some(2)].into_iter().filter(|wrong| *wrong != byte) {
            assert!(matches!(with(wrong), Err(StorageError::WrongKey { .. })), "{wrong:?} for {byte:?}");
        }
        let store = with(byte).unwrap();
        assert_eq!(assert_is_prefix(&store, &decisions), 5);
        assert_eq!(entries(&store), entries_after(&decisions));
        assert_eq!(entries(&store.state_at(Height(3)).unwrap()), entries_after(&decisions[..3]));
        assert_eq!(store.duty(duty).unwrap().as_deref(), Some(secret.as_slice()));
        assert_eq!(store.duties(None, None, 9).unwrap(), [(duty, secret.to_vec())]);
        drop(store);
        bytes_below(dir.path()).windows(secret.len()).any(|bytes| bytes == secret)
    });
    assert_eq!(shown, [false, true]);
}
