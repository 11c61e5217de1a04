//! A thousand signed transactions, good and bad: each accepted one is in one block, once, in the order of
//! its sender's nonces; each rejected one got its reason.

use crate::harness::{CHAIN_ID, Cluster, Shape, Verdict, Wallet, envelope, output, until};
use aequa_types::{TxHash, TxKind};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ACCOUNTS: usize = 40;
const GOOD_EACH: u64 = 20;
const BAD_EACH: usize = 5;

/// Books of one account.
#[derive(Default)]
struct Books {
    accepted: BTreeSet<TxHash>,
    /// What was wrong, and what the node said.
    rejected: Vec<(&'static str, Verdict)>,
}

#[test]
fn a_thousand_transactions_each_end_in_one_block_or_with_a_reason() {
    let cluster = Cluster::start(Shape::default());
    let books: Vec<Books> = std::thread::scope(|scope| {
        let shards: Vec<_> = (0..4)
            .map(|shard| {
                let cluster = &cluster;
                scope.spawn(move || {
                    (shard..ACCOUNTS).step_by(4).map(|i| account(cluster, i)).collect::<Vec<_>>()
                })
            })
            .collect();
        shards.into_iter().flat_map(|shard| shard.join().unwrap()).collect()
    });
    let accepted: BTreeSet<TxHash> = books.iter().flat_map(|books| &books.accepted).copied().collect();
    let rejected: Vec<_> = books.iter().flat_map(|books| &books.rejected).collect();
    assert_eq!(accepted.len(), ACCOUNTS * GOOD_EACH as usize, "every good one was accepted");
    assert_eq!(accepted.len() + rejected.len(), 1000);

    let node = &cluster.nodes[0];
    for hash in &accepted {
        until(&format!("{hash} in a block"), || {
            (node.get(&format!("/v1/tx/{hash}")).json()["status"] == "included").then_some(())
        });
    }
    let tip = cluster.tip() + 1;
    cluster.until_all_at(tip);
    for node in &cluster.nodes {
        in_blocks_once_and_in_order(&accepted, (1..=tip).map(|height| node.block(height).unwrap()));
    }
    for (what, verdict) in rejected {
        let (status, code, reason) = expected(what);
        assert_eq!((verdict.status, verdict.code.as_str()), (status, code), "{what}: {verdict:?}");
        assert!(verdict.message.contains(reason), "{what}: {verdict:?}");
    }
    until("empty pools", || {
        let pools = node.get("/v1/mempool").json();
        let empty = |pool: &Value| pool["pending"] == 0 && pool["future"] == 0;
        pools.as_object().unwrap().values().all(empty).then_some(())
    });
}

#[test]
fn the_command_line_makes_signs_sends_and_follows_a_transaction() {
    let cluster = Cluster::start(Shape::default());
    let url = format!("http://127.0.0.1:{}", cluster.nodes[2].api);
    let key = cluster.scratch().join("alice.key").to_string_lossy().into_owned();
    let said = |args: &[&str]| {
        let done = output(args);
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    said(&["tx", "new-account", "--out", &key]);
    let again = output(&["tx", "new-account", "--out", &key]);
    assert_eq!(again.status.code(), Some(1), "a key was overwritten: {again:?}");
    let send = |what: &[&str]| {
        let to = ["tx", "send", "--url", &url, "--key-file", &key, "--wait=60"];
        said(&[&to[..], what].concat())
    };
    let sent = send(&["--payload", "hello", "--fee", "3"]);
    assert!(sent.contains("(nonce 0): ok") && sent.contains("included in block"), "{sent}");
    let bid = send(&["--type", "auction_bid_v1", "--bid", "9"]);
    assert!(bid.contains("included in block"), "{bid}");
    let hash = sent.split_whitespace().find(|word| word.starts_with("0x")).unwrap();
    let status = said(&["tx", "status", "--url", &url, hash]);
    assert!(status.contains("included"), "{status}");
    let stale = output(&["tx", "send", "--url", &url, "--key-file", &key, "--nonce", "0"]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&stale.stderr).contains("TX_OLD"), "{stale:?}");
}

#[test]
fn a_load_submits_good_and_bad_ones_together_and_its_books_agree() {
    let cluster = Cluster::start(Shape::default());
    let url = |node: usize| format!("http://127.0.0.1:{}", cluster.nodes[node].api);
    let urls = [url(0), url(1)].join(",");
    let load = ["tx", "load", "--url", &urls, "--count", "1200", "--accounts", "24", "--bad-every", "6"];
    let done = output(&load);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{done:?}");
    for expected in ["1000 accepted, 1000 included, 0 missing, 200 rejected", "bad hex: TX_INVALID"] {
        assert!(said.contains(expected), "nothing of {expected:?} in\n{said}");
    }
    let posted = |route: &str, code: u16| {
        let series = format!(r#"api_requests_total{{code="{code}",route="{route}"}}"#);
        cluster.nodes.iter().filter_map(|node| node.metric(&series)).sum::<f64>()
    };
    assert_eq!(posted("/v1/tx", 202), 0.0, "none by itself");
    let requests = posted("/v1/txs", 200);
    assert!(requests > 0.0 && requests < 600.0, "{requests} requests for 1200 transactions");
}

/// Sends what one account has to send, its good nonces out of order, to nodes in turn.
fn account(cluster: &Cluster, i: usize) -> Books {
    let wallet = Wallet::new();
    let mut books = Books::default();
    let node = |n: usize| &cluster.nodes[(i + n) % 4];
    // Pairs in reverse: the second of each waits for the first.
    for nonce in (0..GOOD_EACH).map(|n| n ^ 1) {
        let transaction = wallet.plain(nonce, nonce * 31 % 97 + i as u64);
        // One node per account: nonces may not overtake each other on the way between nodes.
        let verdict = Verdict::of(node(0), &envelope(&transaction));
        assert!(verdict.is_accepted(), "nonce {nonce}: {verdict:?}");
        books.accepted.insert(transaction.body.hash());
    }
    for (n, what) in BAD.iter().cycle().skip(i).take(BAD_EACH).enumerate() {
        let verdict = Verdict::of(node(n), &bad(&wallet, what));
        books.rejected.push((what, verdict));
    }
    books
}

const BAD: [&str; 8] = [
    "another chain id",
    "a nonce far ahead",
    "an unsigned change",
    "no gas",
    "an unknown type",
    "bad hex",
    "somebody else's signature",
    "a field of another type",
];

fn bad(wallet: &Wallet, what: &str) -> Vec<u8> {
    let good = wallet.plain(GOOD_EACH, 5);
    let changed = |field: &str, value: Value| {
        let mut json: Value = serde_json::from_slice(&envelope(&good)).unwrap();
        json[field] = value;
        json.to_string().into_bytes()
    };
    match what {
        "another chain id" => envelope(&wallet.plain_for(CHAIN_ID + 1, GOOD_EACH, 5)),
        "a nonce far ahead" => envelope(&wallet.plain(1_000_000, 5)),
        "an unsigned change" => changed("fee", json!("6")),
        "no gas" => changed("gas", json!(0)),
        "an unknown type" => changed("type", json!("plaintext_v0")),
        "bad hex" => changed("sig", json!("0xzz")),
        "somebody else's signature" => {
            let other: Value = serde_json::from_slice(&envelope(&Wallet::new().plain(GOOD_EACH, 5))).unwrap();
            changed("sig", other["sig"].clone())
        }
        _ => changed("bid", json!("6")),
    }
}

/// Status, code, and a word the message must have.
fn expected(what: &str) -> (u16, &'static str, &'static str) {
    let word = match what {
        "a nonce far ahead" => "nonce",
        "no gas" => "gas",
        "an unknown type" => "type",
        "a field of another type" => "bid",
        _ => "sig",
    };
    (400, "TX_INVALID", word)
}

fn in_blocks_once_and_in_order(
    accepted: &BTreeSet<TxHash>,
    blocks: impl Iterator<Item = aequa_types::CertifiedBlock>,
) {
    let mut seen = BTreeSet::new();
    let mut next: BTreeMap<(String, TxKind), u64> = BTreeMap::new();
    for block in blocks {
        for item in block.block.items.iter() {
            let (body, height) = (&item.body, block.block.header.height);
            assert!(accepted.contains(&body.hash()), "block {height} has a transaction nobody was told of");
            assert!(seen.insert(body.hash()), "{} is in two blocks, the second is {height}", body.hash());
            let next = next.entry((format!("{:#x}", body.from()), body.kind())).or_default();
            assert_eq!(body.nonce(), *next, "a nonce out of order in block {height}");
            *next += 1;
        }
    }
    assert_eq!(seen.len(), accepted.len(), "accepted transactions are missing");
}
