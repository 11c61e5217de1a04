//! Four operators order transactions and certify every block; anybody can check one with the lock.

use crate::harness::{Cluster, Shape, Verdict, Wallet, envelope, output, until};
use aequa_types::Proof;
use std::path::Path;
use std::process::Output;

const WALLETS: u64 = 4;
const EACH: u64 = 10;
/// Positions of a block file at which one byte is changed.
const FLIPS: usize = 48;
const QUORUM: usize = 3;

#[test]
fn four_operators_seal_real_transactions_and_anybody_can_check_it() {
    let cluster = Cluster::start(Shape::default());
    let (height, tip) = order_transactions(&cluster);
    for node in &cluster.nodes {
        for height in 1..=tip {
            until(&format!("a group seal on block {height} of {}", node.dir.display()), || {
                node.block(height).filter(|block| block.certificate.group_seal().is_some())
            });
        }
    }
    roots_are_equal(&cluster, tip);
    for node in &cluster.nodes {
        let url = format!("http://127.0.0.1:{}", node.api);
        let by_lock = verify(&cluster.lock(), &["--url", &url, "--height", &height.to_string()]);
        assert!(by_lock.status.success(), "{by_lock:?}");
        assert!(String::from_utf8_lossy(&by_lock.stdout).contains("seal of the group"), "{by_lock:?}");
    }
    let key =
        cluster.nodes[0].get("/v1/cluster").json()["sequencer"]["group_key"].as_str().unwrap().to_owned();
    let file = save_block(&cluster, height);
    let by_key = output(&["verify-block", "--group-key", &key, "--block", &file]);
    assert!(by_key.status.success(), "{by_key:?}");
    changed_bytes_are_invalid(&cluster, &file);
}

#[test]
fn without_threshold_signing_a_quorum_of_commits_is_the_certificate() {
    let flags = ["--enable-tss=false", "--enable-tss-sign=false"].map(String::from).to_vec();
    let cluster = Cluster::start(Shape { flags, ..Shape::default() });
    let (height, tip) = order_transactions(&cluster);
    for node in &cluster.nodes {
        for height in 1..=tip {
            let certificate = node.block(height).unwrap().certificate;
            let Proof::Commits(commits) = certificate.proof else { panic!("a group seal on {height}") };
            assert_eq!(commits.len(), QUORUM, "block {height}");
        }
        let url = format!("http://127.0.0.1:{}", node.api);
        let checked = verify(&cluster.lock(), &["--url", &url, "--height", &height.to_string()]);
        assert!(checked.status.success(), "{checked:?}");
        assert!(String::from_utf8_lossy(&checked.stdout).contains("3 commit signatures"), "{checked:?}");
    }
    roots_are_equal(&cluster, tip);
    changed_bytes_are_invalid(&cluster, &save_block(&cluster, height));
}

#[test]
fn with_progress_no_round_changes() {
    // Rounds far longer than any hiccup of this machine.
    let cluster = Cluster::start(Shape { round_timeout_ms: 20_000, ..Shape::default() });
    cluster.until_all_at(30);
    for node in &cluster.nodes {
        assert_eq!(node.metric("qbft_view_changes_total"), None, "{}", node.dir.display());
        assert_eq!(node.metric("swarm_consensus_faults_total"), None, "{}", node.dir.display());
    }
    let proposers: Vec<u8> = (1..=30)
        .map(|height| {
            let block = cluster.nodes[0].block(height).unwrap();
            assert_eq!(block.certificate.round.0, 0, "block {height}");
            block.block.header.proposer.0
        })
        .collect();
    assert!(
        proposers.windows(4).all(|four| (0..4).all(|i| four.contains(&i))),
        "leaders take turns: {proposers:?}"
    );
}

#[test]
fn what_cannot_be_checked_is_neither_valid_nor_invalid() {
    let cluster = Cluster::make(Shape { nodes: 1, ..Shape::default() });
    let lock = cluster.lock();
    let nobody = format!("http://127.0.0.1:{}", cluster.nodes[0].api);
    assert_eq!(verify(&lock, &["--url", &nobody, "--height", "1"]).status.code(), Some(3));
    assert_eq!(verify(&lock, &["--block", "no-such-file.json"]).status.code(), Some(3));
    assert_eq!(verify(Path::new("no-such-lock.json"), &["--block", "b.json"]).status.code(), Some(3));
    assert_eq!(verify(&lock, &[]).status.code(), Some(2));
}

/// Gets transactions into blocks by way of every node; a height with some of them, and the tip
/// all nodes have reached.
fn order_transactions(cluster: &Cluster) -> (u64, u64) {
    let wallets: Vec<Wallet> = (0..WALLETS).map(|_| Wallet::new()).collect();
    let mut hashes = Vec::new();
    for nonce in 0..EACH {
        for (wallet, node) in wallets.iter().zip(&cluster.nodes) {
            let transaction =
                if nonce % 2 == 0 { wallet.plain(nonce / 2, nonce) } else { wallet.bid(nonce / 2, 7) };
            let verdict = Verdict::of(node, &envelope(&transaction));
            assert!(verdict.is_accepted(), "{verdict:?}");
            hashes.push(transaction.body.hash());
        }
    }
    let heights: Vec<u64> = hashes
        .iter()
        .map(|hash| {
            until(&format!("transaction {hash} in a block"), || {
                let view = cluster.nodes[0].get(&format!("/v1/tx/{hash}")).json();
                view["height"].as_u64().filter(|_| view["status"] == "included")
            })
        })
        .collect();
    let tip = heights.iter().max().unwrap() + 2;
    cluster.until_all_at(tip);
    (heights[0], tip)
}

fn roots_are_equal(cluster: &Cluster, tip: u64) {
    for height in 1..=tip {
        let root = |i: usize| {
            let answer = cluster.nodes[i].get(&format!("/v1/state-root?height={height}")).json();
            (answer["root"].clone(), answer["history_root"].clone())
        };
        let first = root(0);
        assert!(first.0.is_string() && first.1.is_string(), "{first:?}");
        (1..4).for_each(|i| assert_eq!(root(i), first, "height {height} of node {i}"));
    }
}

fn verify(lock: &Path, args: &[&str]) -> Output {
    output(&[&["verify-block", "--lock", &lock.to_string_lossy()], args].concat())
}

fn save_block(cluster: &Cluster, height: u64) -> String {
    let path = cluster.scratch().join("block.json");
    std::fs::write(&path, cluster.nodes[3].get(&format!("/v1/blocks/{height}")).body).unwrap();
    path.to_string_lossy().into_owned()
}

/// One changed byte, at positions all over the file, makes every copy invalid.
fn changed_bytes_are_invalid(cluster: &Cluster, file: &str) {
    let lock = cluster.lock();
    let whole = verify(&lock, &["--block", file]);
    assert!(whole.status.success(), "{whole:?}");
    let block = std::fs::read(file).unwrap();
    let changed_file = format!("{file}.changed");
    for position in (0..FLIPS).map(|i| i * block.len() / FLIPS + i % 7).filter(|at| *at < block.len()) {
        let mut changed = block.clone();
        changed[position] ^= 1;
        std::fs::write(&changed_file, &changed).unwrap();
        let checked = verify(&lock, &["--block", &changed_file]);
        assert_eq!(checked.status.code(), Some(1), "byte {position}: {checked:?}");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(said.contains("invalid: "), "byte {position}: {said}");
    }
}
