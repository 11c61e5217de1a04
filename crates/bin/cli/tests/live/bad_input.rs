//! What the API of a running node gets that it should not: the contract's status, a message that names field
//! and limit, an empty pool, and a node that goes on.

use crate::harness::{CHAIN_ID, Cluster, Node, Shape, Verdict, Wallet, envelope, until};
use serde_json::{Value, json};

const GARBAGE: usize = 500;

#[test]
fn bad_input_gets_its_answer_and_never_reaches_the_pool() {
    let cluster = Cluster::start(Shape { nodes: 1, ..Shape::default() });
    let node = &cluster.nodes[0];
    transactions(node);
    duties(node);
    reads(node);
    framing(node);
    pools_are_empty(node);
    alive(node);
}

#[test]
fn random_garbage_does_not_disturb_a_node() {
    let mut cluster = Cluster::start(Shape { nodes: 1, ..Shape::default() });
    let node = &cluster.nodes[0];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut answers = 0;
    for _ in 0..GARBAGE {
        let (sent, status) = match garbage(&mut dice) {
            Garbage::Bytes(bytes) => {
                let answer = node.raw(&bytes).unwrap_or_default();
                let status =
                    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|code| code.parse().ok());
                (bytes, status)
            }
            Garbage::Request { method, path, body } => {
                let json = "Content-Type: application/json\r\n";
                let answer = node.request(method, &path, json, &body);
                ([path.as_bytes(), b" ", &body].concat(), answer.ok().map(|answer| answer.status))
            }
        };
        answers += usize::from(status.is_some());
        assert_ne!(status, Some(500), "{}", String::from_utf8_lossy(&sent));
    }
    assert!(answers > GARBAGE / 4, "hardly anything was answered: {answers}");
    pools_are_empty(node);
    alive(node);
    assert!(cluster.nodes[0].is_running());
}

/// What is sent, and the status, code and words of the message it must get.
type Case = (&'static str, Vec<u8>, u16, &'static str, &'static [&'static str]);

fn transactions(node: &Node) {
    let wallet = Wallet::new();
    let good = wallet.plain(0, 5);
    let text = String::from_utf8(envelope(&good)).unwrap();
    let changed = |field: &str, value: Value| changed(&text, field, value);
    let oversized = vec![b' '; (1 << 20) + 1];
    let large = changed("payload", json!(format!("0x{}", "00".repeat(65_537))));
    let cases: Vec<Case> = vec![
        ("an oversized body", oversized, 413, "BODY_TOO_LARGE", &["1048576"]),
        ("an oversized payload", large, 400, "TX_INVALID", &["payload", "65536"]),
        ("nothing", vec![], 400, "TX_INVALID", &[]),
        ("half an object", text.as_bytes()[..40].to_vec(), 400, "TX_INVALID", &[]),
        ("trailing data", format!("{text}x").into_bytes(), 400, "TX_INVALID", &[]),
        ("a key twice", text.replacen('{', "{\"fee\":\"5\",", 1).into_bytes(), 400, "TX_INVALID", &["fee"]),
        ("deep nesting", "[".repeat(2000).into_bytes(), 400, "TX_INVALID", &[]),
        ("no UTF-8", vec![b'{', 0xff, 0xfe, b'}'], 400, "TX_INVALID", &[]),
        ("a wrong signature", envelope_with_sig_of(&text), 400, "TX_INVALID", &["sig"]),
        ("a short signature", changed("sig", json!("0x00")), 400, "TX_INVALID", &["sig", "65"]),
        ("another chain", envelope(&wallet.plain_for(CHAIN_ID + 1, 0, 5)), 400, "TX_INVALID", &["sig"]),
        ("a far-future nonce", envelope(&wallet.plain(1_000_000, 5)), 400, "TX_INVALID", &["nonce", "64"]),
        (
            "an unknown type",
            changed("type", json!("plaintext_v9")),
            400,
            "TX_INVALID",
            &["type", "plaintext_v9"],
        ),
        ("a private one", changed("type", json!("private_v1")), 503, "DISABLED", &[]),
        ("bad hex", changed("from", json!("0x12zz")), 400, "TX_INVALID", &["from", "40 hex digits"]),
        ("bad bytes", changed("payload", json!("0x1")), 400, "TX_INVALID", &["payload", "hex"]),
        (
            "a negative nonce",
            changed("nonce", json!(-1)),
            400,
            "TX_INVALID",
            &["nonce", "18446744073709551615"],
        ),
        ("half a gas", changed("gas", json!(0.5)), 400, "TX_INVALID", &["gas"]),
        ("no gas", changed("gas", json!(0)), 400, "TX_INVALID", &["gas", "greater than 0"]),
        ("a bid without bid", changed("type", json!("auction_bid_v1")), 400, "TX_INVALID", &["bid"]),
    ];
    for (what, body, status, code, words) in cases {
        let verdict = Verdict::of(node, &body);
        assert_eq!((verdict.status, verdict.code.as_str()), (status, code), "{what}: {verdict:?}");
        assert!(!verdict.message.is_empty(), "{what}: no message");
        words.iter().for_each(|word| assert!(verdict.message.contains(word), "{what}: {verdict:?}"));
    }
    let typed = |kind: &str| {
        node.request("POST", "/v1/tx", &format!("Content-Type: {kind}\r\n"), text.as_bytes()).unwrap()
    };
    assert_eq!(typed("text/plain").status, 415);
    plain_transactions(node, &text);
    stale_nonce(node, &wallet);
}

/// The route that answers in plain words.
fn plain_transactions(node: &Node, good: &str) {
    for (body, status, said) in [
        (b"".to_vec(), 400, "invalid json\n"),
        (b"{".to_vec(), 400, "invalid json\n"),
        (changed(good, "type", json!("nonsense")), 400, "invalid tx\n"),
        (envelope_with_sig_of(good), 400, "invalid tx\n"),
        (changed(good, "type", json!("private_v1")), 503, "beast disabled\n"),
        (vec![b' '; (1 << 20) + 1], 400, "read error\n"),
    ] {
        let answer = node.post("/v1/tx/plain", &body);
        assert_eq!((answer.status, answer.text().as_str()), (status, said));
        assert!(
            answer.head.to_ascii_lowercase().contains("x-content-type-options: nosniff"),
            "{}",
            answer.head
        );
    }
}

/// An envelope with another value of a field.
fn changed(envelope: &str, field: &str, value: Value) -> Vec<u8> {
    let mut json: Value = serde_json::from_str(envelope).unwrap();
    json[field] = value;
    json.to_string().into_bytes()
}

/// A nonce that a block has used up.
fn stale_nonce(node: &Node, wallet: &Wallet) {
    let first = wallet.plain(0, 5);
    assert!(Verdict::of(node, &envelope(&first)).is_accepted());
    let hash = first.body.hash();
    until("the first transaction in a block", || {
        (node.get(&format!("/v1/tx/{hash}")).json()["status"] == "included").then_some(())
    });
    for fee in [5, 500] {
        let verdict = Verdict::of(node, &envelope(&wallet.plain(0, fee)));
        assert_eq!((verdict.status, verdict.code.as_str()), (409, "TX_OLD"), "{verdict:?}");
        assert!(verdict.message.contains("nonce"), "{verdict:?}");
    }
}

fn envelope_with_sig_of(text: &str) -> Vec<u8> {
    let mut json: Value = serde_json::from_str(text).unwrap();
    let other: Value = serde_json::from_slice(&envelope(&Wallet::new().plain(0, 5))).unwrap();
    json["sig"] = other["sig"].clone();
    json.to_string().into_bytes()
}

fn duties(node: &Node) {
    let far = format!("{{\"type\":\"sync\",\"height\":{}}}", (1u64 << 62) + 1);
    let round = format!("{{\"type\":\"sync\",\"height\":1,\"round\":{}}}", (1u64 << 40) + 1);
    for (body, said) in [
        ("", "empty\n"),
        ("{", "invalid json\n"),
        ("{\"type\":\"sync\",\"height\":-1}", "invalid json\n"),
        ("{\"type\":\"sync\",\"height\":1.5}", "invalid json\n"),
        ("{\"type\":7,\"height\":1}", "invalid json\n"),
        ("{\"height\":1}", "invalid type\n"),
        ("{\"type\":\"block\",\"height\":1}", "invalid type\n"),
        (far.as_str(), "height out of range\n"),
        (round.as_str(), "round out of range\n"),
    ] {
        let answer = node.post("/v1/duty", body.as_bytes());
        assert_eq!((answer.status, answer.text().as_str()), (400, said), "{body}");
    }
    let big = node.post("/v1/duty", &vec![b' '; (1 << 20) + 1]);
    assert_eq!((big.status, big.text().as_str()), (400, "read error\n"));
    let put = node.request("PUT", "/v1/duty", "", b"").unwrap();
    assert_eq!((put.status, put.text().as_str()), (405, "method not allowed\n"));
}

fn reads(node: &Node) {
    for (path, status, code) in [
        ("/v1/blocks/abc", 400, "BAD_HEIGHT"),
        ("/v1/blocks/-1", 400, "BAD_HEIGHT"),
        ("/v1/blocks/99999999999999999999999", 400, "BAD_HEIGHT"),
        ("/v1/blocks/9999999", 404, "UNKNOWN_HEIGHT"),
        ("/v1/state-root", 400, "BAD_HEIGHT"),
        ("/v1/state-root?height=0x10", 400, "BAD_HEIGHT"),
        ("/v1/state-root?height=9999999", 404, "UNKNOWN_HEIGHT"),
        ("/v1/tx/0x12", 400, "BAD_HASH"),
        ("/v1/accounts/0x12", 400, "BAD_ADDRESS"),
        ("/v1/duty?type=block&height=1", 400, "BAD_REQUEST"),
        ("/v1/duty?type=sync&height=424242", 404, "UNKNOWN_DUTY"),
    ] {
        let answer = node.get(path);
        let json = answer.json();
        assert_eq!((answer.status, json["code"].as_str()), (status, Some(code)), "{path}: {}", answer.text());
        assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{path}: {json}");
        assert!(json["trace_id"].is_string(), "{path}: {json}");
    }
    let unknown = node.get(&format!("/v1/tx/0x{}", "ab".repeat(32)));
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (404, Some("UNKNOWN_TX")));
    let nothing = node.get("/no/such/route");
    assert_eq!((nothing.status, nothing.text().as_str()), (404, "404 page not found\n"));
}

fn framing(node: &Node) {
    let long = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "a".repeat(20_000));
    let answer = node.raw(long.as_bytes()).unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "a head above 16 KiB was taken");
    let forged = "X-Trace-ID: \"}\\n{\"msg\":\"forged\r\n";
    let answer = node.request("GET", "/health", forged, b"").unwrap();
    assert_eq!(answer.status, 200);
    assert!(!answer.head.contains("forged"), "{}", answer.head);
    let kept = node.request("GET", "/health", "X-Trace-ID: my-trace.1\r\n", b"").unwrap();
    assert!(kept.head.contains("my-trace.1"), "{}", kept.head);
}

fn pools_are_empty(node: &Node) {
    let pools = node.get("/v1/mempool").json();
    for (kind, pool) in pools.as_object().unwrap() {
        assert_eq!((&pool["pending"], &pool["future"]), (&json!(0), &json!(0)), "{kind}: {pools}");
    }
}

fn alive(node: &Node) {
    assert_eq!(node.get("/livez").status, 200);
    let height = node.height().unwrap();
    until("blocks go on", || node.height().filter(|now| *now > height));
    assert!(!node.log().iter().any(|line| line["msg"] == "fatal"));
}

/// A reproducible sequence (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.roll(most)).map(|_| u8::try_from(self.roll(256)).unwrap()).collect()
    }
}

enum Garbage {
    /// Noise, a head that is none, a body that does not come.
    Bytes(Vec<u8>),
    /// Well framed, without sense.
    Request { method: &'static str, path: String, body: Vec<u8> },
}

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"];
const PATHS: [&str; 20] = [
    "/v1/tx",
    "/v1/tx/plain",
    "/v1/tx/auction",
    "/v1/tx/private",
    "/v1/duty",
    "/v1/blocks/",
    "/v1/blocks/latest",
    "/v1/state-root?height=",
    "/api/state-root?ledger=",
    "/v1/accounts/",
    "/v1/events?from_height=zz",
    "/v1/evidence",
    "/v1/checkpoints/latest",
    "/status",
    "/readyz",
    "/..%2f..%2fetc",
    "/%00",
    "/v1/mempool?x[]=1",
    "//",
    "/v1/tx/0x",
];

fn garbage(dice: &mut Dice) -> Garbage {
    let method = METHODS[dice.roll(METHODS.len())];
    let suffix = if dice.roll(3) == 0 { hex::encode(dice.bytes(40)) } else { String::new() };
    let path = format!("{}{suffix}", PATHS[dice.roll(PATHS.len())]);
    let body = match dice.roll(5) {
        0 => dice.bytes(600),
        1 => b"{\"type\":\"attester\",\"height\":\"x\"}".to_vec(),
        2 => "[".repeat(dice.roll(4000)).into_bytes(),
        3 => format!("{{\"nonce\":{},\"sig\":null}}", "9".repeat(1 + dice.roll(400))).into_bytes(),
        _ => b"{}".to_vec(),
    };
    match dice.roll(5) {
        0 => Garbage::Bytes(dice.bytes(2000)),
        1 => Garbage::Bytes([method.as_bytes(), b" ", path.as_bytes(), b" HTTP/9.9\r\n", &body].concat()),
        2 => {
            let length = body.len() + dice.roll(70_000);
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
            Garbage::Bytes([head.as_bytes(), &body].concat())
        }
        _ => Garbage::Request { method, path, body },
    }
}
