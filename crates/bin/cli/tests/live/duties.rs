//! Opaque duties: one value per type and slot, agreed and signed by all, known after a restart.

use crate::harness::{Answer, Cluster, Node, Shape, until};
use serde_json::{Value, json};

const DUTY: &str = "/v1/duty?type=attester&height=7";

#[test]
fn a_duty_that_the_clients_of_a_quorum_post_is_signed_by_all_and_never_changes() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.until_all_at(2);
    let payload = json!({"slot": 7, "root": "0xabcd", "text": "über"});
    // The client of operator 0 has not posted: it learns what the others decided.
    (1..4).for_each(|node| post(&cluster.nodes[node], &payload));
    let first = signed(&cluster.nodes[0]);
    assert_eq!(first["value"], payload);
    assert_eq!(first["certificate"]["seal"], first["signature"]);
    all_agree(&cluster, &first);

    // Too late with other data, and in time with the same.
    let other = json!({"slot": 7, "root": "0xother"});
    for node in &cluster.nodes {
        let answer = post_at(node, "attester", 7, &other);
        assert_eq!((answer.status, answer.text().as_str()), (409, "too late\n"));
        let stands = answer.header("x-aequa-digest").map(Value::from);
        assert_eq!(stands.as_ref(), Some(&first["digest"]));
        post(node, &payload);
    }
    let tip = cluster.tip();
    cluster.until_all_at(tip + 5);
    all_agree(&cluster, &first);

    let ended = cluster.nodes[3].stop();
    assert!(ended.status.success());
    cluster.nodes[3].start();
    cluster.nodes[2].kill();
    cluster.nodes[2].start();
    assert_eq!(post_at(&cluster.nodes[3], "attester", 7, &json!("again other data")).status, 409);
    all_agree(&cluster, &first);
    let list = cluster.nodes[3].get("/v1/duty").json();
    assert_eq!(list["duties"][0]["digest"], first["digest"], "{list}");
}

#[test]
fn duties_of_different_types_and_slots_run_side_by_side() {
    let cluster = Cluster::start(Shape::default());
    cluster.until_all_at(2);
    let duties: Vec<(&str, u64)> = ["attester", "proposer", "sync"]
        .into_iter()
        .flat_map(|kind| (10..13).map(move |slot| (kind, slot)))
        .collect();
    for (n, (kind, slot)) in duties.iter().enumerate() {
        for node in &cluster.nodes {
            assert_eq!(post_at(node, kind, *slot, &json!({"n": n})).status, 202);
        }
    }
    for (n, (kind, slot)) in duties.iter().enumerate() {
        for node in &cluster.nodes {
            let path = format!("/v1/duty?type={kind}&height={slot}");
            let view = until(&format!("{path} signed at {}", node.dir.display()), || {
                Some(node.get(&path).json()).filter(|view| view["status"] == "signed")
            });
            assert_eq!(view["value"], json!({"n": n}));
        }
    }
}

/// A stranger at one operator's API, and clients that disagree, make nobody sign.
#[test]
fn what_fewer_than_a_quorum_of_clients_posted_is_signed_by_nobody() {
    let cluster = Cluster::start(Shape::default());
    cluster.until_all_at(2);
    for slot in 100..150 {
        post_at(&cluster.nodes[0], "attester", slot, &json!({"by": "a stranger"}));
    }
    for (n, node) in cluster.nodes.iter().enumerate() {
        assert_eq!(post_at(node, "sync", 7, &json!({"by": n})).status, 202);
        if n > 0 {
            assert_eq!(post_at(node, "attester", 100, &json!({"by": "honest clients"})).status, 202);
        }
    }
    for node in &cluster.nodes[1..] {
        let view = until("the honest clients' duty is signed", || {
            let view = node.get("/v1/duty?type=attester&height=100").json();
            Some(view).filter(|view| view["status"] == "signed")
        });
        assert_eq!(view["value"], json!({"by": "honest clients"}));
        until("the clients' disagreement shows", || {
            let view = node.get("/v1/duty?type=sync&height=7").json();
            let digests = view["digests"].as_array()?;
            (view["status"] == "undecided" && digests.len() > 1).then_some(())
        });
        assert_eq!(node.get("/v1/duty?type=attester&height=101").status, 404);
    }
}

#[test]
fn a_duty_far_above_the_others_and_one_nobody_could_show_are_refused_with_the_limit() {
    let cluster = Cluster::start(Shape::default());
    cluster.until_all_at(2);
    let node = &cluster.nodes[0];
    cluster.nodes.iter().for_each(|node| post(node, &json!(1)));
    signed(node);
    let answer = |height: u64, payload: &str| {
        let body = format!(r#"{{"type": "attester", "height": {height}, "round": 0, "payload": {payload}}}"#);
        let answer = node.post("/v1/duty", body.as_bytes());
        (answer.status, answer.text().trim().to_owned())
    };
    assert_eq!(answer(1 << 61, "1"), (400, "height out of range".into()));
    // Each of these numbers has 4 bytes here and 21 in canonical form.
    let grows = format!("[{}1]", "1e20,".repeat(100_000));
    assert_eq!(answer(8, &grows), (400, "invalid json".into()));
    assert_eq!(node.get("/v1/duty?type=attester&height=8").status, 404);
}

fn post_at(node: &Node, kind: &str, slot: u64, payload: &Value) -> Answer {
    let body = json!({"type": kind, "height": slot, "round": 0, "payload": payload}).to_string();
    node.post("/v1/duty", body.as_bytes())
}

fn post(node: &Node, payload: &Value) {
    let answer = post_at(node, "attester", 7, payload);
    assert_eq!((answer.status, answer.text().as_str()), (202, ""));
}

fn signed(node: &Node) -> Value {
    until(&format!("the duty signed at {}", node.dir.display()), || {
        let answer = node.get(DUTY);
        Some(answer.json()).filter(|view| view["status"] == "signed" && view["signature"].is_string())
    })
}

/// The group signature over one statement is unique: all nodes have the same one.
fn all_agree(cluster: &Cluster, first: &Value) {
    for node in &cluster.nodes {
        let view = signed(node);
        for field in ["digest", "value"] {
            assert_eq!(view[field], first[field], "{field} at {}", node.dir.display());
        }
        if view["round"] == first["round"] {
            assert_eq!(view["signature"], first["signature"], "at {}", node.dir.display());
        }
    }
}
