//! The test endpoints of builds with the feature `e2e`: every row of contract http, section 7, over real HTTP.

use crate::harness::{Answer, Cluster, Node, Shape, command, request, until};
use aequa_adversary::traitor::{Traitor, Unguarded as _};
use aequa_types::statement::CommitClaim;
use aequa_types::{Claim, Digest, Height, InstanceId, Message, Round, Signed};
use serde_json::{Value, json};
use ssz::Encode as _;

/// Operator whose node does not run: its key is the test's.
const OURS: usize = 3;

#[test]
fn e2e_messages_get_the_answers_of_the_contract_and_are_counted() {
    let mut cluster = Cluster::make(Shape { round_timeout_ms: 500, ..Shape::default() });
    cluster.nodes[..OURS].iter_mut().for_each(Node::start);
    let node = &cluster.nodes[0];
    let tip = until("a few blocks", || node.height().filter(|height| *height >= 3));
    let traitor = Traitor::load(&cluster.nodes[OURS].dir).unwrap();
    let door = Door::of(node);

    commits_get_their_answers(node, &door, &traitor, tip);
    // A vote of a round above the window: of the height being agreed, which does not wait for the test.
    until("a far round is refused as such", || {
        let vote = prepare(&traitor, node.height()? + 1, Round(1000), "an id");
        let series = "qbft_msg_verified_total{result=\"round_oob\"}";
        let before = node.metric(series).unwrap_or_default();
        let answer = door.qbft(fields("prepare", &vote, "an id").to_string().as_bytes());
        assert_eq!(answer.status, 202, "round 1000 is taken");
        (node.metric(series).unwrap_or_default() > before).then_some(())
    });
    for body in ["{", "", "[]", r#"{"Height":-1}"#, r#"{"Sig":"!"}"#] {
        let answer = door.qbft(body.as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), (400, "bad json\n"), "{body}");
    }
    assert_eq!(door.qbft(&vec![b' '; (1 << 20) + 1]).status, 400);
    assert_eq!(request(door.qbft, "GET", "/e2e/qbft", "", b"").unwrap().status, 405);

    let told = |result: &str| {
        let is = |line: &Value| line["msg"] == "qbft_attack" && line["result"] == result;
        node.log().iter().any(is).then_some(())
    };
    until("the log tells of what was taken", || told("ok"));
    until("and of what was refused", || told("rejected"));
    for line in node.log().iter().filter(|line| line["msg"] == "qbft_attack") {
        assert_eq!(aequa_telemetry::log::check(line), Ok(()), "{line}");
    }
    let goal = cluster.tip() + 3;
    until("blocks go on", || {
        cluster.nodes[..OURS].iter().all(|node| node.height() >= Some(goal)).then_some(())
    });
}

/// One vote, in all the forms that are taken or refused.
fn commits_get_their_answers(node: &Node, door: &Door, traitor: &Traitor, tip: u64) {
    // A COMMIT of a decided height may still complete a seal: it is not too old.
    let commit = commit(traitor, tip, "an id");
    let bare = fields("commit", &commit, "an id");
    let mut whole = bare.clone();
    whole["Payload"] = base64(&Message::Commit(commit.clone()).as_ssz_bytes()).into();
    for (body, code, result) in [
        (bare.clone(), 200, "type=\"commit\""),
        (whole.clone(), 200, "result=\"replay\""),
        (changed(&bare, "Sig", json!("")), 202, "result=\"sig_invalid\""),
        (changed(&whole, "Sig", json!("")), 202, "result=\"sig_invalid\""),
        (changed(&bare, "Sig", json!(base64(&[7; 64]))), 202, "result=\"sig_invalid\""),
        (changed(&bare, "From", json!("2")), 202, "result=\"sig_invalid\""),
        (changed(&bare, "From", json!("nobody")), 202, "result=\"unauthorized\""),
        (changed(&bare, "From", json!("")), 202, "result=\"error\""),
        (changed(&bare, "ID", json!("")), 202, "result=\"error\""),
        (changed(&bare, "Round", json!(0)), 202, "result=\"error\""),
        (changed(&bare, "Type", json!("nonsense")), 202, "result=\"error\""),
        (changed(&whole, "Height", json!(tip + 1)), 202, "result=\"error\""),
        (changed(&bare, "Height", json!(u64::MAX)), 202, "result=\"round_oob\""),
        (changed(&changed(&bare, "Type", json!("prepare")), "Height", json!(1)), 202, "result=\"old\""),
    ] {
        let series = format!("qbft_msg_verified_total{{{result}}}");
        let before = node.metric(&series).unwrap_or_default();
        let answer = door.qbft(body.to_string().as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), (code, ""), "{body}");
        assert!(node.metric(&series).unwrap_or_default() > before, "{series} did not move for {body}");
    }
}

#[test]
fn e2e_made_up_peers_go_through_the_gates() {
    let cluster = Cluster::start(Shape::default());
    let node = &cluster.nodes[0];
    let door = Door::of(node);
    for path in ["connect", "disconnect"] {
        let refused = door.peer(path, "X0001");
        assert_eq!((refused.status, refused.json()), (403, json!({"result": "denied"})), "{path}");
        let peers = node.status().unwrap()["peers"].clone();
        let member = peers[0]["peer_id"].as_str().unwrap().to_owned();
        assert_eq!(door.peer(path, &member).status, 200, "{path}");
    }
    assert_eq!(node.metric("p2p_conn_attempts_total{result=\"denied\"}"), Some(2.0));
}

#[test]
fn e2e_the_port_of_signing_says_that_it_is_there_and_counts_who_asks() {
    let cluster = Cluster::start(Shape::default());
    let node = &cluster.nodes[0];
    let door = Door::of(node);
    for _ in 0..2 {
        let answer = request(door.tss, "GET", "/health", "", b"").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(request(door.tss, "POST", "/e2e/nothing", "", b"{}").unwrap().status, 404);
    assert_eq!(node.metric("tss_e2e_requests_total{code=\"200\"}"), Some(2.0));
    assert_eq!(node.metric("tss_e2e_requests_total{code=\"404\"}"), Some(1.0));
    assert_eq!(node.metric("tss_e2e_latency_ms_count"), Some(3.0));
    let told = || {
        let lines = node.log();
        let lines: Vec<_> = lines.iter().filter(|line| line["msg"] == "tss_attack").cloned().collect();
        (lines.len() == 3).then_some(lines)
    };
    for line in until("the log tells of all three", told) {
        assert_eq!(aequa_telemetry::log::check(&line), Ok(()), "{line}");
    }
}

#[test]
fn e2e_builds_say_so() {
    let version = command(&["version", "--json"]).output().unwrap();
    let version: Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(version["features"], json!(["e2e"]));
    let binary = std::fs::read(env!("CARGO_BIN_EXE_dvt-node")).unwrap();
    assert!(binary.windows(5).any(|bytes| bytes == b"/e2e/"), "what the release is searched for is here");
}

/// Where a node's test endpoints listen.
struct Door {
    qbft: u16,
    tss: u16,
    p2p: u16,
}

impl Door {
    fn of(node: &Node) -> Self {
        let port = |service: &str| {
            until(&format!("{service} listens"), || {
                let is = |line: &&Value| line["msg"] == "listen" && line["service"] == service;
                let log = node.log();
                log.iter().find(is)?["addr"].as_str()?.rsplit_once(':')?.1.parse().ok()
            })
        };
        Self { qbft: port("e2e_qbft"), tss: port("e2e_tss"), p2p: port("e2e_p2p") }
    }

    fn qbft(&self, body: &[u8]) -> Answer {
        request(self.qbft, "POST", "/e2e/qbft", "", body).unwrap()
    }

    fn peer(&self, path: &str, id: &str) -> Answer {
        let body = json!({ "id": id }).to_string();
        request(self.p2p, "POST", &format!("/e2e/p2p/{path}"), "", body.as_bytes()).unwrap()
    }
}

/// A COMMIT without a share, as the fields of the original can say it.
fn commit(traitor: &Traitor, height: u64, id: &str) -> Signed {
    let digest = Digest::from(ethereum_hashing::hash_fixed(id.as_bytes()));
    let claim = Claim::Commit(CommitClaim { digest, seal: None });
    traitor.say(InstanceId::Block(Height(height)), Round(0), claim)
}

fn prepare(traitor: &Traitor, height: u64, round: Round, id: &str) -> Signed {
    let digest = Digest::from(ethereum_hashing::hash_fixed(id.as_bytes()));
    traitor.say(InstanceId::Block(Height(height)), round, Claim::Prepare(digest))
}

fn fields(kind: &str, signed: &Signed, id: &str) -> Value {
    json!({
        "From": signed.author.to_string(),
        "Height": signed.instance.number(),
        "Round": signed.round.0 + 1,
        "Type": kind,
        "ID": id,
        "TraceID": "t-1",
        "Sig": base64(signed.signature.as_slice()),
    })
}

fn changed(fields: &Value, key: &str, value: Value) -> Value {
    let mut changed = fields.clone();
    changed[key] = value;
    changed
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
