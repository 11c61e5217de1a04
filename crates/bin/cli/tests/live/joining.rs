//! A node far behind takes the state as a whole, and goes on from there.

use crate::harness::{Cluster, Node, Shape, Verdict, Wallet, envelope, until};
use std::time::Duration;

const NEWCOMER: usize = 3;
/// Far behind is ten of them.
const CHECKPOINT_INTERVAL: u32 = 10;
const SENDERS: usize = 60;
/// So few that the first are soon gone, and so many that what a test has just seen is there.
const KEEP: &str = "--storage.keep-blocks=100";

/// Three of four run, and these accounts have sent something; the fourth has never been there.
fn three_far_ahead() -> (Cluster, Vec<Wallet>) {
    let shape = Shape {
        block_interval_ms: 20,
        round_timeout_ms: 300,
        checkpoint_interval: CHECKPOINT_INTERVAL,
        // Nobody can give the first blocks any more.
        flags: vec![KEEP.into()],
        ..Shape::default()
    };
    let mut cluster = Cluster::make(shape);
    cluster.nodes[..NEWCOMER].iter_mut().for_each(Node::spawn);
    cluster.nodes[..NEWCOMER].iter_mut().for_each(Node::await_up);
    let wallets: Vec<Wallet> = (0..SENDERS).map(|_| Wallet::new()).collect();
    for wallet in &wallets {
        assert!(Verdict::of(&cluster.nodes[0], &envelope(&wallet.plain(0, 1))).is_accepted());
    }
    until("a chain that is far ahead", || (cluster.tip() >= 150).then_some(()));
    until("the first block is gone", || (cluster.nodes[0].get("/v1/blocks/1").status == 410).then_some(()));
    (cluster, wallets)
}

fn snapshots(node: &Node, op: &str, result: &str) -> usize {
    let lines = node.log().into_iter();
    lines.filter(|line| line["msg"] == "snapshot" && line["op"] == op && line["result"] == result).count()
}

/// Waits until the newcomer has decided with the others, and has what they have.
#[track_caller]
fn until_it_is_one_of_them(cluster: &Cluster, wallets: &[Wallet]) {
    let newcomer = &cluster.nodes[NEWCOMER];
    until("it is ready", || (newcomer.try_get("/readyz")?.status == 200).then_some(()));
    let tip = cluster.tip() + 20;
    cluster.until_all_at(tip);
    let root = |node: &Node| node.get(&format!("/v1/state-root?height={tip}")).json()["root"].clone();
    let roots: Vec<_> = cluster.nodes.iter().map(root).collect();
    assert!(roots.iter().all(|root| root.is_string() && *root == roots[0]), "{roots:?}");
    for wallet in wallets {
        let account = format!("/v1/accounts/{}", wallet.address());
        assert_eq!(newcomer.get(&account).json()["nonces"]["plaintext_v1"], 1);
    }
}

#[test]
fn o_a_newcomer_takes_the_state_as_a_whole_and_votes() {
    let (mut cluster, wallets) = three_far_ahead();
    let before = cluster.tip();
    cluster.nodes[NEWCOMER].start();
    until("the state is taken over", || {
        (snapshots(&cluster.nodes[NEWCOMER], "apply", "ok") > 0).then_some(())
    });
    until_it_is_one_of_them(&cluster, &wallets);
    let newcomer = &cluster.nodes[NEWCOMER];
    let gone = newcomer.get("/v1/blocks/1");
    assert_eq!((gone.status, gone.json()["code"].clone()), (410, "PRUNED".into()));
    let first =
        (1..).map(|n| n * u64::from(CHECKPOINT_INTERVAL)).find(|height| newcomer.block(*height).is_some());
    assert!(first >= Some(before - before % u64::from(CHECKPOINT_INTERVAL) - 10), "it began at {first:?}");
    until("it signs blocks", || {
        newcomer.metric("block_sign_total{result=\"ok\"}").filter(|signed| *signed > 0.0)
    });

    // It is one of three that are needed.
    cluster.nodes[0].kill();
    let tip = cluster.tip();
    until("blocks go on with it", || (cluster.tip() > tip + 5).then_some(()));
    // And begins again from what it has.
    cluster.nodes[0].start();
    cluster.nodes[NEWCOMER].kill();
    cluster.nodes[NEWCOMER].start();
    until_it_is_one_of_them(&cluster, &wallets);
    assert_eq!(snapshots(&cluster.nodes[NEWCOMER], "apply", "ok"), 1);
}

#[test]
fn o_a_newcomer_killed_at_any_moment_takes_the_state_in_the_end() {
    let (mut cluster, wallets) = three_far_ahead();
    for moment in 0..10 {
        cluster.nodes[NEWCOMER].spawn();
        std::thread::sleep(Duration::from_millis(300 + 250 * moment));
        cluster.nodes[NEWCOMER].kill();
    }
    cluster.nodes[NEWCOMER].start();
    until_it_is_one_of_them(&cluster, &wallets);
    // Killed right after it was taken over, it did not come to say so.
    assert_eq!(cluster.nodes[NEWCOMER].get("/v1/blocks/1").status, 410);
    let left = |name: &str| cluster.nodes[NEWCOMER].dir.join(name).exists();
    assert!(!left("chain.draft") && !left("chain.next"));
}

/// A node that keeps all blocks, and was away while the others made so many that a state would be had sooner.
fn away(shape: Shape) -> Cluster {
    let mut cluster = Cluster::make(shape);
    cluster.nodes[NEWCOMER].flags.retain(|flag| !flag.starts_with("--storage.keep-blocks"));
    cluster.start_all();
    cluster.until_all_at(20);
    cluster.nodes[NEWCOMER].stop();
    let tip = cluster.tip();
    until("a chain that is far ahead", || (cluster.tip() >= tip + 200).then_some(()));
    cluster.nodes[NEWCOMER].start();
    cluster
}

fn shape(flags: &[&str]) -> Shape {
    let flags = flags.iter().map(|flag| flag.to_string()).collect();
    let checkpoint_interval = CHECKPOINT_INTERVAL;
    Shape { block_interval_ms: 20, round_timeout_ms: 300, checkpoint_interval, flags, ..Shape::default() }
}

#[test]
fn who_keeps_all_blocks_fetches_them_however_long_it_was_away() {
    let cluster = away(shape(&[]));
    until_it_is_one_of_them(&cluster, &[]);
    let node = &cluster.nodes[NEWCOMER];
    assert!((1..=100).all(|height| node.block(height).is_some()));
    assert_eq!(snapshots(node, "fetch", "ok"), 0);
}

#[test]
fn who_keeps_all_blocks_takes_a_state_only_where_nobody_has_them() {
    let cluster = away(shape(&[KEEP]));
    let node = &cluster.nodes[NEWCOMER];
    until("the state is taken over", || (snapshots(node, "apply", "ok") == 1).then_some(()));
    until_it_is_one_of_them(&cluster, &[]);
    let said = |line: &serde_json::Value| {
        line["text"].as_str().is_some_and(|text| text.contains("no member has block"))
    };
    assert!(node.log().iter().any(said), "it says what goes");
}
