//! A node whose state is not what it wrote: it notices, fences itself, has the state again from the others, and is one
//! of them again.

use crate::harness::{
    Cluster, Node, Shape, Verdict, Wallet, change_state, envelope, flip_in_files, flip_in_state, output,
    until,
};
use aequa_storage::FenceMark;
use aequa_telemetry::log::check;
use aequa_types::Height;
use aequa_types::json::parse_address;
use alloy_primitives::B256;
use serde_json::{Value, json};
use std::time::Instant;

const VICTIM: usize = 3;

/// Four that have decided some blocks, and an account that has sent something.
fn cluster() -> (Cluster, Wallet) {
    let shape = Shape { block_interval_ms: 100, checkpoint_interval: 10, ..Shape::default() };
    let (cluster, wallet) = (Cluster::start(shape), Wallet::new());
    assert!(Verdict::of(&cluster.nodes[0], &envelope(&wallet.plain(0, 1))).is_accepted());
    until("it is in the state", || {
        let sent = |node: &Node| node.get(&format!("/v1/accounts/{}", wallet.address())).json();
        cluster.nodes.iter().all(|node| sent(node)["nonces"]["plaintext_v1"] == 1).then_some(())
    });
    cluster.until_all_at(25);
    (cluster, wallet)
}

fn row_of(wallet: &Wallet) -> Vec<u8> {
    [&[1], &parse_address(&wallet.address()).unwrap()[..], &[1]].concat()
}

fn events(node: &Node) -> Vec<Value> {
    let names =
        ["SELF_FENCED", "FENCE_RESTORED", "RECONCILIATION_START", "RECONCILIATION_COMPLETE", "UNFENCED"];
    let lines = node.log().into_iter();
    lines.filter(|line| names.iter().any(|name| line["msg"] == *name)).collect()
}

/// Starts the victim, and waits until it has what the others have.
#[track_caller]
fn until_it_is_repaired(cluster: &mut Cluster, wallet: &Wallet) {
    let started = Instant::now();
    let before = events(&cluster.nodes[VICTIM]);
    // A fence that was set in an earlier life counts.
    let before = before.iter().rposition(|line| line["msg"] == "SELF_FENCED").unwrap_or(before.len());
    cluster.nodes[VICTIM].spawn();
    let node = &cluster.nodes[VICTIM];
    let events = || events(node).split_off(before);
    let seen = |name: &str| events().iter().any(|line| line["msg"] == name);
    until("it fences itself", || seen("SELF_FENCED").then_some(()));
    eprintln!("fenced after {:?}", started.elapsed());
    until("it is one of them again", || seen("UNFENCED").then_some(()));
    eprintln!("unfenced after {:?}", started.elapsed());
    until("it is ready", || (node.try_get("/readyz")?.status == 200).then_some(()));
    let order: Vec<String> = events().iter().map(|line| line["msg"].as_str().unwrap().into()).collect();
    let place = |name: &str| order.iter().position(|seen| seen == name).unwrap_or(usize::MAX);
    assert!(place("SELF_FENCED") < place("FENCE_RESTORED"), "the marker comes first: {order:?}");
    assert!(place("RECONCILIATION_COMPLETE") < place("UNFENCED"), "{order:?}");
    assert!(!node.dir.join("fence").exists());
    assert!(node.dir.join("chain.damaged").exists(), "kept for whoever wants to know");
    assert_eq!(node.status().unwrap()["fenced"], false);
    let tip = cluster.tip() + 5;
    cluster.until_all_at(tip);
    let root = |node: &Node| node.get(&format!("/v1/state-root?height={tip}")).json()["root"].clone();
    let roots: Vec<Value> = cluster.nodes.iter().map(root).collect();
    assert!(roots.iter().all(|root| root.is_string() && *root == roots[0]), "{roots:?}");
    let account = node.get(&format!("/v1/accounts/{}", wallet.address())).json();
    assert_eq!(account["nonces"]["plaintext_v1"], 1);
}

#[test]
fn k4_a_row_damaged_on_the_disk_is_noticed_and_repaired() {
    let (mut cluster, wallet) = cluster();
    cluster.nodes[VICTIM].stop();
    flip_in_state(&cluster.nodes[VICTIM].dir, &row_of(&wallet));
    until_it_is_repaired(&mut cluster, &wallet);
}

#[test]
fn k5_a_state_without_its_root_is_not_served_from_a_single_moment() {
    let (mut cluster, wallet) = cluster();
    cluster.nodes[VICTIM].stop();
    // The page at the top of the tree.
    flip_in_state(&cluster.nodes[VICTIM].dir, &[0, 0]);
    until_it_is_repaired(&mut cluster, &wallet);
}

#[test]
fn l2_a_fence_that_was_set_stands_whatever_kills_the_node() {
    let (mut cluster, wallet) = cluster();
    cluster.nodes[VICTIM].stop();
    flip_in_state(&cluster.nodes[VICTIM].dir, &[0, 0]);
    // Alone it can be repaired by nobody.
    for node in &mut cluster.nodes[..VICTIM] {
        node.stop();
    }
    for _ in 0..3 {
        cluster.nodes[VICTIM].start();
        let node = &cluster.nodes[VICTIM];
        until("it says so", || (node.status()?["fenced"] == true).then_some(()));
        let data = node.get("/v1/blocks/latest");
        assert_eq!((data.status, data.json()["code"].clone()), (503, "SELF_FENCED".into()));
        assert!(data.header("retry-after").is_some());
        assert_eq!(node.get("/health").status, 200);
        let ready = node.get("/readyz");
        assert!(ready.status == 503 && ready.text().contains("fenced"), "{}", ready.text());
        cluster.nodes[VICTIM].kill();
        assert!(cluster.nodes[VICTIM].dir.join("fence").exists());
    }
    for node in &mut cluster.nodes[..VICTIM] {
        node.start();
    }
    until_it_is_repaired(&mut cluster, &wallet);
    let set = events(&cluster.nodes[VICTIM]).iter().filter(|line| line["msg"] == "SELF_FENCED").count();
    assert_eq!(set, 1, "once per fence");
}

#[test]
fn a_file_damaged_behind_the_engine_is_noticed_or_does_no_harm() {
    let (mut cluster, wallet) = cluster();
    cluster.nodes[VICTIM].stop();
    assert!(flip_in_files(&cluster.nodes[VICTIM].dir, &row_of(&wallet)) > 0);
    cluster.nodes[VICTIM].spawn();
    let node = &cluster.nodes[VICTIM];
    until("it is ready", || (node.try_get("/readyz")?.status == 200).then_some(()));
    let tip = cluster.tip() + 70;
    cluster.until_all_at(tip);
    let root = |node: &Node| node.get(&format!("/v1/state-root?height={tip}")).json()["root"].clone();
    assert_eq!(root(&cluster.nodes[VICTIM]), root(&cluster.nodes[0]));
    let account = node.get(&format!("/v1/accounts/{}", wallet.address())).json();
    assert_eq!(account["nonces"]["plaintext_v1"], 1);
}

#[test]
fn m3_two_of_four_that_fence_themselves_at_once_are_both_repaired() {
    let (mut cluster, wallet) = cluster();
    let damaged = [2, VICTIM];
    for victim in damaged {
        cluster.nodes[victim].stop();
        flip_in_state(&cluster.nodes[victim].dir, &[0, 0]);
    }
    for victim in damaged {
        cluster.nodes[victim].spawn();
    }
    for victim in damaged {
        let node = &cluster.nodes[victim];
        until("it is one of them again", || {
            events(node).iter().any(|line| line["msg"] == "UNFENCED").then_some(())
        });
        until("it is ready", || (node.try_get("/readyz")?.status == 200).then_some(()));
        assert!(node.dir.join("chain.damaged").exists());
    }
    cluster.until_all_at(cluster.tip() + 5);
    let account = cluster.nodes[VICTIM].get(&format!("/v1/accounts/{}", wallet.address())).json();
    assert_eq!(account["nonces"]["plaintext_v1"], 1);
}

/// What the engine has in memory is right; what it reads from the disk it checks.
#[test]
fn a_file_damaged_under_a_running_node_does_no_harm_and_is_noticed_when_it_is_read() {
    let (mut cluster, wallet) = cluster();
    let account = |node: &Node| node.get(&format!("/v1/accounts/{}", wallet.address())).json();
    assert!(flip_in_files(&cluster.nodes[VICTIM].dir, &row_of(&wallet)) > 0);
    let tip = cluster.tip() + 30;
    cluster.until_all_at(tip);
    cluster.nodes[VICTIM].stop();
    cluster.nodes[VICTIM].spawn();
    let node = &cluster.nodes[VICTIM];
    until("it is ready", || (node.try_get("/readyz")?.status == 200).then_some(()));
    let tip = cluster.tip() + 5;
    cluster.until_all_at(tip);
    let root = |node: &Node| node.get(&format!("/v1/state-root?height={tip}")).json()["root"].clone();
    assert_eq!(root(&cluster.nodes[VICTIM]), root(&cluster.nodes[0]));
    assert_eq!(account(&cluster.nodes[VICTIM]), account(&cluster.nodes[0]));
}

#[test]
fn m3_a_node_that_gives_up_names_a_command_that_lets_it_begin_again() {
    let (mut cluster, wallet) = cluster();
    cluster.nodes[VICTIM].stop();
    let dir = cluster.nodes[VICTIM].dir.clone();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let often = FenceMark {
        height: Height(20),
        root: B256::ZERO,
        backers: Vec::new(),
        reason: FenceMark::reason_of("a row differs"),
        since: now,
        attempts: 4,
        first_attempt: now - 100,
        is_set_aside: false,
    };
    often.set(&dir).unwrap();
    cluster.nodes[VICTIM].spawn();
    assert_eq!(cluster.nodes[VICTIM].until_ended().code(), Some(1));
    let log = cluster.nodes[VICTIM].log();
    let given_up = log.iter().find(|line| line["msg"] == "RECONCILIATION_REQUIRES_REPLAY").unwrap();
    let action = given_up["action"].as_str().unwrap().replace("TEXT", "memory-replaced");
    let mut words = action.split(' ');
    assert_eq!(words.next(), Some("dvt-node"));
    let words: Vec<&str> = words.collect();
    assert!(!output(&words[..words.len() - 2]).status.success(), "not of another folder");
    let done = output(&words);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(output(&words).status.code(), Some(1), "there is no fence any more");
    assert!(!dir.join("chain").exists(), "what was not trusted is not gone on with");
    cluster.nodes[VICTIM].start();
    cluster.until_all_at(cluster.tip() + 5);
    let account = cluster.nodes[VICTIM].get(&format!("/v1/accounts/{}", wallet.address())).json();
    assert_eq!(account["nonces"]["plaintext_v1"], 1);
    assert_eq!(output(&words).status.code(), Some(4), "not while a node runs there");
    let shown = output(&["audit", "show", "--data-dir", &dir.to_string_lossy()]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let told = ["fence    given_up ", "unfence reason=memory-replaced "];
    let places: Vec<usize> = told.iter().map(|told| shown.find(told).expect(told)).collect();
    assert!(places.is_sorted(), "{shown}");
}

/// Lines of an event.
fn lines(node: &Node, event: &str) -> Vec<Value> {
    node.log().into_iter().filter(|line| line["msg"] == event).collect()
}

#[test]
fn k3_a_wrong_state_is_noticed_by_what_others_propose_where_nothing_can_be_decided() {
    const OTHERS: [usize; 2] = [0, 1];
    const SILENT: usize = 2;
    // The pause is long: whoever stops at its beginning leaves nothing behind that is half agreed on.
    let shape = Shape { block_interval_ms: 2000, round_timeout_ms: 500, ..Shape::default() };
    let mut cluster = Cluster::start(shape);
    cluster.until_all_at(1);
    cluster.nodes[SILENT].stop();
    let tip = cluster.tip() + 1;
    let at_tip = |cluster: &Cluster, id: usize| cluster.nodes[id].height() == Some(tip);
    until("a block without the silent one", || {
        [0, 1, VICTIM].iter().all(|id| at_tip(&cluster, *id)).then_some(())
    });
    cluster.nodes[1].stop();
    cluster.nodes[VICTIM].stop();
    let lock = aequa_crypto::lock::load(&std::fs::read_to_string(cluster.lock()).unwrap()).unwrap();
    let wrong = change_state(&cluster.nodes[VICTIM].dir, lock.cluster_id());
    assert_eq!(wrong.height, Height(tip));
    cluster.nodes[1].start();
    cluster.nodes[VICTIM].spawn();
    let fenced = until("it fences itself", || lines(&cluster.nodes[VICTIM], "SELF_FENCED").pop());
    let root = cluster.nodes[0].get(&format!("/v1/state-root?height={tip}")).json()["root"].clone();
    let root = root.as_str().unwrap().trim_start_matches("0x").to_owned();
    assert_eq!(fenced["reason"], format!("2/4 members sign root {root}"));
    assert_eq!((&fenced["height"], &fenced["backers"]), (&json!(tip), &json!(OTHERS)));
    // The first of them was told of; the second one made it stop, and is named by the fence.
    let told = lines(&cluster.nodes[VICTIM], "DIVERGENCE_DETECTED");
    let [told] = &told[..] else { panic!("{told:?}") };
    let local = format!("{:x}", wrong.state_root);
    let expected =
        json!({"height": tip, "ledger": tip, "localRoot": local, "peerRoot": root, "historyDiffers": false});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(told[name], *value, "{name}");
    }
    assert!(OTHERS.iter().any(|of| told["operator"] == *of), "{told}");
    assert!(told["peer"].as_str().is_some_and(|peer| !peer.is_empty()), "{told}");
    until("it is one of them again", || {
        (!lines(&cluster.nodes[VICTIM], "UNFENCED").is_empty()).then_some(())
    });
    let goes_on = |id: &usize| cluster.nodes[*id].height() >= Some(tip + 2);
    until("the three go on by themselves", || [0, 1, VICTIM].iter().all(goes_on).then_some(()));
    for id in OTHERS {
        assert_eq!(lines(&cluster.nodes[id], "SELF_FENCED"), Vec::<Value>::new());
        assert_eq!(lines(&cluster.nodes[id], "CLUSTER_DIVERGED"), Vec::<Value>::new());
    }
    let log = cluster.nodes[VICTIM].log();
    log.iter().for_each(|line| check(line).unwrap_or_else(|why| panic!("{why}: {line}")));
}
