//! What a cluster remembers, checked by whoever has its lock: an account by its proof, and the state of a stopped node.

use crate::harness::{
    Cluster, Node, Shape, Verdict, Wallet, copy_dir, envelope, flip_in_files, flip_in_state, output, until,
};
use aequa_crypto::verify::Verifier;
use aequa_telemetry::log::check;
use aequa_types::json::{CheckpointJson, parse_address};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;

/// Positions of an answer at which one byte is changed.
const FLIPS: usize = 32;

fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

fn url(node: &Node) -> String {
    format!("http://127.0.0.1:{}", node.api)
}

/// Gets two plain transactions and a bid of a wallet into blocks; a height that every node has passed by then.
fn spend(cluster: &Cluster, wallet: &Wallet) -> u64 {
    let sent = [wallet.plain(0, 1), wallet.plain(1, 1), wallet.bid(0, 7)];
    for transaction in &sent {
        assert!(Verdict::of(&cluster.nodes[0], &envelope(transaction)).is_accepted());
    }
    let heights = sent.iter().map(|transaction| {
        let path = format!("/v1/tx/{}", transaction.body.hash());
        until("a transaction in a block", || cluster.nodes[0].get(&path).json()["height"].as_u64())
    });
    let height = heights.max().unwrap();
    cluster.until_all_at(height + 2);
    height
}

#[test]
fn an_account_is_proven_by_the_lock_alone_and_a_changed_proof_is_not() {
    let cluster = Cluster::start(Shape::default());
    let (lock, wallet) = (cluster.lock().to_string_lossy().into_owned(), Wallet::new());
    let height = spend(&cluster, &wallet);
    let verify = |further: &[&str]| output(&[&["verify-proof", "--lock", &lock], further].concat());
    for node in &cluster.nodes {
        let told = verify(&["--url", &url(node), "--address", &wallet.address()]);
        assert_eq!(told.status.code(), Some(0), "{}", said(&told));
        for part in ["next nonce 2 of plaintext_v1", "next nonce 1 of auction_bid_v1", "credit 7", "valid"] {
            assert!(said(&told).contains(part), "no {part:?} in\n{}", said(&told));
        }
    }
    let nobody = Wallet::new().address();
    let absent = verify(&["--url", &url(&cluster.nodes[1]), "--address", &nobody]);
    assert_eq!(absent.status.code(), Some(0), "{}", said(&absent));
    assert!(said(&absent).contains("next nonce 0 of plaintext_v1") && said(&absent).contains("credit 0"));

    let answer = cluster.nodes[2].get(&format!("/v1/accounts/{}?proof=1", wallet.address())).json();
    assert!(answer["proof"]["height"].as_u64() >= Some(height), "{answer}");
    let file = cluster.scratch().join("account.json");
    let path = file.to_string_lossy().into_owned();
    let judge = |text: &[u8]| {
        std::fs::write(&file, text).unwrap();
        verify(&["--proof", &path]).status.code()
    };
    assert_eq!(judge(answer.to_string().as_bytes()), Some(0));
    let proof = json!({"address": answer["address"], "proof": answer["proof"]}).to_string().into_bytes();
    assert_eq!(judge(&proof), Some(0), "the node's word beside it is not needed");
    let digits = (0..proof.len()).filter(|at| proof[*at].is_ascii_digit());
    let digits: Vec<usize> = digits.collect();
    for at in digits.iter().step_by(digits.len() / FLIPS) {
        let mut bad = proof.clone();
        bad[*at] = if bad[*at] == b'1' { b'2' } else { b'1' };
        assert_eq!(judge(&bad), Some(1), "byte {at}");
    }
    assert_eq!(verify(&["--proof", &path, "--address", &nobody]).status.code(), Some(1));
    assert_eq!(verify(&["--proof", "no-such-file.json"]).status.code(), Some(3));
    assert_eq!(verify(&["--url", "http://127.0.0.1:9", "--address", &nobody]).status.code(), Some(3));
    assert_eq!(verify(&["--url", &url(&cluster.nodes[0])]).status.code(), Some(2));
}

#[test]
fn a5_a_checkpoint_is_the_same_at_every_node_and_holds_under_the_lock_alone() {
    let shape = Shape { checkpoint_interval: 5, ..Shape::default() };
    let mut cluster = Cluster::start(shape);
    cluster.until_all_at(11);
    let lock = aequa_crypto::lock::load(&std::fs::read_to_string(cluster.lock()).unwrap()).unwrap();
    let verifier = Verifier::new(&lock);
    let mut same = Vec::new();
    for node in &cluster.nodes {
        let mut shown = node.get("/v1/checkpoints/10").json();
        let parts = serde_json::from_value::<CheckpointJson>(shown.clone()).unwrap().into_parts().unwrap();
        for part in &parts {
            verifier.certified_header(&part.header, &part.certificate).unwrap();
        }
        for block in ["block", "next"] {
            shown[block]["certificate"].take();
        }
        same.push(shown);
        let latest = node.get("/v1/checkpoints/latest").json();
        assert!(latest["height"].as_u64() >= Some(10), "{latest}");
        let stable = until("it is in the log", || {
            node.log().into_iter().find(|line| line["msg"] == "checkpoint_stable" && line["height"] == 10)
        });
        check(&stable).unwrap();
        for field in ["block_root", "state_root", "history_root"] {
            assert_eq!(stable[field], same[0][field], "{field}");
        }
        assert!(node.metric("checkpoint_stable_height") >= Some(10.0));
    }
    assert!(same.iter().all(|shown| *shown == same[0]), "{same:?}");
    let root = cluster.nodes[0].get("/v1/state-root?height=10").json();
    assert_eq!((&same[0]["state_root"], &same[0]["history_root"]), (&root["root"], &root["history_root"]));
    let odd = cluster.nodes[0].get("/v1/checkpoints/7");
    assert_eq!((odd.status, &odd.json()["code"]), (400, &json!("BAD_HEIGHT")));
    assert_eq!(cluster.nodes[0].get("/v1/checkpoints/1000000").status, 404);
    // What is known of it survives the process, and the cluster it belongs to.
    cluster.nodes.iter_mut().for_each(|node| assert!(node.stop().status.success()));
    cluster.nodes[2].start();
    let stable = cluster.nodes[2].status().unwrap()["stable_checkpoint"].clone();
    let latest = cluster.nodes[2].get("/v1/checkpoints/latest").json();
    assert_eq!((&stable["height"], &stable["block_root"]), (&latest["height"], &latest["block_root"]));
    assert!(stable["height"].as_u64() >= Some(10), "{stable}");
}

fn verify_state(dir: &Path, height: u64, further: &[&str]) -> Output {
    let (dir, height) = (dir.to_string_lossy().into_owned(), height.to_string());
    output(&[&["verify-state", "--data-dir", &dir, "--height", &height], further].concat())
}

#[track_caller]
fn ends_with(code: i32, ran: &Output) -> String {
    assert_eq!(ran.status.code(), Some(code), "{}", said(ran));
    said(ran)
}

#[test]
fn the_state_of_a_stopped_node_is_the_certified_one_until_a_byte_of_it_is_changed() {
    let mut cluster = Cluster::start(Shape::default());
    let wallet = Wallet::new();
    let height = spend(&cluster, &wallet);
    assert!(cluster.nodes[3].stop().status.success());
    let dir = cluster.nodes[3].dir.clone();
    let root = cluster.nodes[0].get(&format!("/v1/state-root?height={height}")).json()["root"].clone();
    let root = root.as_str().unwrap();
    let peer = url(&cluster.nodes[1]);

    let told = ends_with(0, &verify_state(&dir, height, &["--trusted-root", root, "--full"]));
    assert!(told.contains("all rows and pages") && told.contains("verified"), "{told}");
    let told = ends_with(0, &verify_state(&dir, height, &["--peer", &peer]));
    assert!(told.contains(&format!("header of block {}", height + 1)), "one peer with a certificate: {told}");
    let next = cluster.scratch().join("next.json");
    std::fs::write(&next, cluster.nodes[2].get(&format!("/v1/blocks/{}", height + 1)).body).unwrap();
    ends_with(0, &verify_state(&dir, height, &["--certificate", &next.to_string_lossy()]));

    let other = format!("0x{}", "ab".repeat(32));
    let json = ends_with(1, &verify_state(&dir, height, &["--trusted-root", &other, "--json"]));
    let outcome: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let expected = json!({
        "height": height, "local_root": root, "trusted_root": other, "verified": false,
        "first_difference": null, "error": null,
    });
    assert_eq!(outcome, expected);
    ends_with(2, &verify_state(&dir, height, &["--trusted-root", ""]));
    let in_use = ends_with(3, &verify_state(&cluster.nodes[0].dir, height, &["--trusted-root", root]));
    assert!(in_use.contains("hint: stop the node"), "{in_use}");
    ends_with(3, &verify_state(&dir, 1 << 40, &["--trusted-root", root]));

    let mut row = vec![1];
    row.extend(parse_address(&wallet.address()).unwrap());
    row.push(1);
    let through_the_engine = cluster.scratch().join("engine");
    copy_dir(&dir, &through_the_engine);
    flip_in_state(&through_the_engine, &row);
    let damaged = verify_state(&through_the_engine, height, &["--trusted-root", root, "--full", "--json"]);
    let outcome: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    ends_with(1, &damaged);
    let place = json!({"table": "nonces", "key": format!("{}01", wallet.address())});
    assert_eq!(outcome["first_difference"], place, "{outcome}");
    let behind_the_engine = cluster.scratch().join("files");
    copy_dir(&dir, &behind_the_engine);
    assert!(flip_in_files(&behind_the_engine, &row) > 0, "the row is in some file");
    // The engine keeps checksums: what does not have its own cannot be read.
    ends_with(3, &verify_state(&behind_the_engine, height, &["--trusted-root", root, "--full"]));
}

#[test]
fn at_the_tip_f_plus_one_operators_have_to_say_the_same_root() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.until_all_at(3);
    for gone in [1, 2] {
        assert!(cluster.nodes[gone].stop().status.success());
    }
    // Two of four decide nothing.
    let tip = until("the two that are left at one height", || {
        let heights = [0, 3].map(|node: usize| cluster.nodes[node].height());
        heights[0].filter(|height| heights[1] == Some(*height))
    });
    assert!(cluster.nodes[3].stop().status.success());
    cluster.nodes[1].start();
    until("node 1 at the tip", || cluster.nodes[1].height().filter(|height| *height >= tip));
    let (dir, one, other) = (cluster.nodes[3].dir.clone(), url(&cluster.nodes[0]), url(&cluster.nodes[1]));
    let told = ends_with(0, &verify_state(&dir, tip, &["--peer", &one, "--peer", &other]));
    assert!(told.contains("2 operators say it, 2 needed; it is not signed yet"), "{told}");
    ends_with(3, &verify_state(&dir, tip, &["--peer", &one]));
    ends_with(3, &verify_state(&dir, tip, &["--peer", &one, "--peer", &one]));
    ends_with(0, &verify_state(&dir, tip - 1, &["--peer", &one]));
}
