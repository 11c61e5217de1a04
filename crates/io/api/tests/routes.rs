//! The new routes (contract: http, sections 2, 4, 5 and 9).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_api::backend::{Admission, NotReady, Options};
use aequa_api::{BLOCKS_SHOWN_MAX, BackendError};
use aequa_types::json::{AccountProofJson, BlockJson};
use aequa_types::{CertifiedBlock, Height, Slot, TxBody};
use common::{Running, SENDER, account_proof, certified_header, checkpoint, envelope, plain_tx};
use serde::Deserialize as _;
use serde_json::json;
use ssz::Decode as _;
use std::sync::atomic::Ordering::SeqCst;

#[tokio::test]
async fn submitting_answers_with_hash_result_sender_and_nonce() {
    let running = Running::with_tx_api().await;
    let reply = running.post("/v1/tx", envelope(json!({}))).await;
    let hash = running.node.submitted.lock().unwrap()[0].body.hash();
    assert_eq!(reply.status, 202);
    assert_eq!(
        reply.json(),
        json!({"hash": hash, "result": "ok", "sender": format!("{SENDER:#x}"), "nonce": 3})
    );
}

#[tokio::test]
async fn refused_transactions_have_a_code_and_say_why() {
    let running = Running::with_tx_api().await;
    for (verdict, status, code) in [
        (Admission::Invalid, 400, "TX_INVALID"),
        (Admission::Old, 409, "TX_OLD"),
        (Admission::Dup, 409, "TX_DUP"),
        (Admission::Overflow, 429, "POOL_FULL"),
        (Admission::SenderLimit, 429, "SENDER_LIMIT"),
    ] {
        *running.node.verdict.lock().unwrap() = Ok(verdict);
        let reply = running.post("/v1/tx", envelope(json!({}))).await;
        reply.assert_refusal(status, code);
        assert_eq!(reply.json()["message"], format!("because {}", verdict.name()));
        assert_eq!(reply.header("retry-after").is_some(), status == 429);
    }
    *running.node.verdict.lock().unwrap() = Err(BackendError::NotReady);
    running.post("/v1/tx", envelope(json!({}))).await.assert_refusal(503, "NOT_READY");
    let reply = running.post("/v1/tx", envelope(json!({"gas": 0}))).await;
    reply.assert_refusal(400, "TX_INVALID");
    assert_eq!(reply.json()["message"], "gas: must be greater than 0");
    running.post("/v1/tx", "{").await.assert_refusal(400, "TX_INVALID");
    running.post("/v1/tx", envelope(json!({"type": "private_v1"}))).await.assert_refusal(503, "DISABLED");
    running.post("/v1/tx", " ".repeat((1 << 20) + 1)).await.assert_refusal(413, "BODY_TOO_LARGE");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    running.send("POST", "/v1/tx", &form, b"{}").await.assert_refusal(415, "BAD_CONTENT_TYPE");
    running.get("/v1/tx").await.assert_refusal(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn a_transaction_is_found_with_its_proof() {
    let running = Running::with_tx_api().await;
    let block = running.node.decide((0..5).map(plain_tx).collect());
    let hash = plain_tx(4).body.hash();
    let found = running.get(&format!("/v1/tx/{hash}")).await.json();
    assert_eq!(found, json!({"hash": hash, "status": "included", "height": 1, "index": 4}));
    let proof = running.get(&format!("/v1/tx/{hash}?proof=1")).await.json()["proof"].clone();
    assert_eq!(proof["payload_root"], json!(block.block.header.payload_root));
    assert_eq!(proof["branch"].as_array().unwrap().len(), 15);
    let unknown = plain_tx(99).body.hash();
    running.get(&format!("/v1/tx/{unknown}")).await.assert_refusal(404, "UNKNOWN_TX");
    for bad in ["0x12", "zz", "%ff", &"0".repeat(64)] {
        running.get(&format!("/v1/tx/{bad}")).await.assert_refusal(400, "BAD_HASH");
    }
}

#[tokio::test]
async fn accounts_and_pool_counts_are_by_type() {
    let running = Running::with_tx_api().await;
    let zeros = json!({"plaintext_v1": 0, "auction_bid_v1": 0, "private_v1": 0});
    let nonces = json!({"plaintext_v1": 7, "auction_bid_v1": 0, "private_v1": 0});
    let expected = json!({"address": format!("{SENDER:#x}"), "nonces": nonces, "pending": zeros});
    assert_eq!(running.get(&format!("/v1/accounts/{SENDER}")).await.json(), expected);
    running.get("/v1/accounts/0x12").await.assert_refusal(400, "BAD_ADDRESS");
    let with_proof = format!("/v1/accounts/{SENDER}?proof=1");
    assert_eq!(running.get(&with_proof).await.json(), expected, "nothing is certified yet");
    let block = running.node.decide(vec![]);
    let answer = running.get(&with_proof).await.json();
    let shown = AccountProofJson::deserialize(&answer["proof"]).unwrap();
    assert_eq!(shown, account_proof(&certified_header(&block)));
    assert_eq!((&answer["nonces"], &answer["proof"]["height"]), (&expected["nonces"], &json!(0)));
    assert_eq!(running.get(&format!("/v1/accounts/{SENDER}?proof=0")).await.json(), expected);
    let counts = json!({"plaintext_v1": {"pending": 2, "future": 1, "bytes": 400}});
    assert_eq!(running.get("/v1/mempool").await.json(), counts);
}

#[tokio::test]
async fn blocks_come_as_json_and_as_canonical_ssz() {
    let running = Running::start(Options::default()).await;
    running.get("/v1/blocks/latest").await.assert_refusal(404, "UNKNOWN_HEIGHT");
    running.node.decide(vec![]);
    let block = running.node.decide(vec![plain_tx(0)]);
    for path in ["/v1/blocks/2", "/v1/blocks/latest"] {
        let reply = running.get(path).await;
        assert_eq!(BlockJson::parse(&reply.body).unwrap(), *block);
        let accept = [("Accept", "application/octet-stream;q=0.9, */*;q=0.1")];
        let reply = running.send("GET", path, &accept, b"").await;
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        assert_eq!(CertifiedBlock::from_ssz_bytes(&reply.body).unwrap(), *block);
    }
    let certificate = running.get("/v1/blocks/2/certificate").await.json();
    assert_eq!(certificate["digest"], json!(block.block.header.digest()));
    assert_eq!((&certificate["height"], &certificate["round"]), (&json!(2), &json!(0)));
    assert_eq!(certificate["signers"], json!([0, 1, 2]));
}

#[tokio::test]
async fn heights_that_are_bad_unknown_or_pruned_are_told_apart() {
    let running = Running::start(Options::default()).await;
    for _ in 0..3 {
        running.node.decide(vec![]);
    }
    *running.node.pruned_below.lock().unwrap() = 2;
    for suffix in ["", "/certificate"] {
        for bad in ["x", "-1", "1e3", "0x10", "+1", "01", "4611686018427387905", "99999999999999999999999"] {
            running.get(&format!("/v1/blocks/{bad}{suffix}")).await.assert_refusal(400, "BAD_HEIGHT");
        }
        for unknown in [0u64, 4, 1 << 62] {
            running.get(&format!("/v1/blocks/{unknown}{suffix}")).await.assert_refusal(404, "UNKNOWN_HEIGHT");
        }
        running.get(&format!("/v1/blocks/1{suffix}")).await.assert_refusal(410, "PRUNED");
    }
    running.get("/v1/blocks?from=1").await.assert_refusal(410, "PRUNED");
    running.get("/v1/blocks?from=x").await.assert_refusal(400, "BAD_HEIGHT");
    running.get("/v1/blocks?limit=101").await.assert_refusal(400, "BAD_REQUEST");
    running.get("/v1/blocks?limit=0").await.assert_refusal(400, "BAD_REQUEST");
}

#[tokio::test]
async fn headers_are_ascending_and_the_newest_by_default() {
    let running = Running::start(Options::default()).await;
    assert_eq!(running.get("/v1/blocks").await.json(), json!({"headers": []}));
    for _ in 0..30 {
        running.node.decide(vec![]);
    }
    let heights = |reply: common::Reply| -> Vec<u64> {
        let body = reply.json();
        body["headers"].as_array().unwrap().iter().map(|header| header["height"].as_u64().unwrap()).collect()
    };
    assert_eq!(heights(running.get("/v1/blocks").await), (11..=30).collect::<Vec<_>>());
    assert_eq!(heights(running.get("/v1/blocks?from=29&limit=5").await), [29, 30]);
    assert_eq!(heights(running.get("/v1/blocks?from=0&limit=2").await), [1, 2]);
    assert_eq!(heights(running.get("/v1/blocks?limit=100").await).len(), 30);
}

#[tokio::test]
async fn evidence_is_listed_from_a_height_and_a_bad_height_is_refused() {
    let running = Running::start(Options::default()).await;
    assert_eq!(
        running.get("/v1/evidence").await.json(),
        json!({"committed": [], "pending": [], "next": null})
    );
    *running.node.evidence.lock().unwrap() = common::evidence_view();
    let all = running.get("/v1/evidence?from=7").await.json();
    assert_eq!(all["committed"][0]["committed_height"], 7);
    assert_eq!(all["committed"][0]["evidence"]["kind"], "prepare");
    assert_eq!(all["committed"][0]["evidence"]["operator"], 2);
    assert_eq!(all["pending"].as_array().unwrap().len(), 1);
    let later = running.get("/v1/evidence?from=8").await.json();
    assert_eq!((later["committed"].clone(), later["pending"].clone()), (json!([]), all["pending"].clone()));
    for bad in ["?from=", "?from=x", "?from=1e3", "?from=-1", "?from=9223372036854775808"] {
        running.get(&format!("/v1/evidence{bad}")).await.assert_refusal(400, "BAD_HEIGHT");
    }
}

#[tokio::test]
async fn state_roots_answer_in_both_dialects() {
    let running = Running::start(Options::default()).await;
    running.node.decide(vec![]);
    let root = "09".repeat(32);
    let reply = running.get("/v1/state-root?height=1").await.json();
    let expected = json!({
        "height": 1, "root": format!("0x{root}"), "history_root": format!("0x{}", "08".repeat(32)),
        "certified": true, "fenced": false,
    });
    assert_eq!(reply, expected);
    for bad in ["", "?height=", "?height=x", "?height=1e3", "?height=9223372036854775808"] {
        running.get(&format!("/v1/state-root{bad}")).await.assert_refusal(400, "BAD_HEIGHT");
    }
    running.get("/v1/state-root?height=9223372036854775807").await.assert_refusal(404, "UNKNOWN_HEIGHT");

    let alias = |query: &'static str| running.get(query);
    assert_eq!(alias("/api/state-root?ledger=1").await.json(), json!({"ledger": 1, "root": root}));
    let missing = alias("/api/state-root?ledger=5").await;
    assert_eq!((missing.status, missing.json()), (404, json!({"error": "No state root found for ledger 5"})));
    let text = "ledger query parameter is required and must be a number";
    for bad in ["/api/state-root", "/api/state-root?ledger=1e3", "/api/state-root?ledger=0x10"] {
        let reply = alias(bad).await;
        assert_eq!((reply.status, reply.json()), (400, json!({"error": text})));
    }
    running.node.replaying.store(true, SeqCst);
    running.get("/v1/state-root?height=1").await.assert_refusal(503, "NOT_READY");
    let reply = alias("/api/state-root?ledger=1").await;
    assert_eq!((reply.status, reply.json()), (503, json!({"error": "not ready", "code": "NOT_READY"})));
}

#[tokio::test]
async fn checkpoints_are_those_of_heights_whose_next_block_is_decided() {
    let running = Running::start(Options::default()).await;
    let blocks: Vec<_> = (0..4).map(|_| running.node.decide(vec![])).collect();
    let expected = serde_json::to_value(checkpoint(&blocks[1], &blocks[2])).unwrap();
    for path in ["/v1/checkpoints/2", "/v1/checkpoints/latest"] {
        let shown = running.get(path).await.json();
        assert_eq!(shown, expected, "{path}");
        assert_eq!((&shown["height"], &shown["next"]["header"]["height"]), (&json!(2), &json!(3)));
    }
    let stable = running.get("/status").await.json()["stable_checkpoint"].clone();
    assert_eq!(stable, json!({"height": 2, "block_root": expected["block_root"]}));
    running.get("/v1/checkpoints/4").await.assert_refusal(404, "UNKNOWN_HEIGHT");
    let five = running.node.decide(vec![]);
    let latest = running.get("/v1/checkpoints/latest").await.json();
    assert_eq!(latest, serde_json::to_value(checkpoint(&blocks[3], &five)).unwrap());
}

#[tokio::test]
async fn heights_without_a_checkpoint_say_why() {
    let running = Running::start(Options::default()).await;
    running.get("/v1/checkpoints/latest").await.assert_refusal(404, "UNKNOWN_HEIGHT");
    for bad in ["x", "-1", "1e3", "01", "4611686018427387905", "1"] {
        running.get(&format!("/v1/checkpoints/{bad}")).await.assert_refusal(400, "BAD_HEIGHT");
    }
    let odd = running.get("/v1/checkpoints/7").await.json()["message"].clone();
    assert_eq!(odd, "height: must be a multiple of 2, the checkpoint interval of the cluster");
    for unknown in [0u64, 2, 1 << 62] {
        running.get(&format!("/v1/checkpoints/{unknown}")).await.assert_refusal(404, "UNKNOWN_HEIGHT");
    }
    (0..6).for_each(|_| drop(running.node.decide(vec![])));
    *running.node.pruned_below.lock().unwrap() = 3;
    running.get("/v1/checkpoints/2").await.assert_refusal(410, "PRUNED");
    assert_eq!(running.get("/v1/checkpoints/4").await.status, 200);
}

#[tokio::test]
async fn duties_are_read_singly_and_newest_first() {
    let running = Running::start(Options::default()).await;
    for (kind, height) in [("attester", 1), ("sync", 2), ("attester", 3)] {
        running.post("/v1/duty", json!({"type": kind, "height": height}).to_string()).await;
    }
    let duty = running.get("/v1/duty?type=attester&height=3").await.json();
    assert_eq!(
        (&duty["type"], &duty["height"], &duty["status"]),
        (&json!("attester"), &json!(3), &json!("deciding"))
    );
    for key in ["round", "digest", "value", "signature", "certificate", "refused_by", "reason", "timeline"] {
        assert!(duty.get(key).is_some(), "{key}");
    }
    let heights = |body: serde_json::Value| -> Vec<u64> {
        body["duties"].as_array().unwrap().iter().map(|duty| duty["height"].as_u64().unwrap()).collect()
    };
    assert_eq!(heights(running.get("/v1/duty").await.json()), [3, 2, 1]);
    assert_eq!(heights(running.get("/v1/duty?type=attester&limit=1").await.json()), [3]);
    assert_eq!(heights(running.get("/v1/duty?before=3").await.json()), [2, 1]);
    running.get("/v1/duty?type=sync&height=9").await.assert_refusal(404, "UNKNOWN_DUTY");
    assert_eq!(heights(running.get("/v1/duty?height=3").await.json()), [3]);
    assert!(heights(running.get("/v1/duty?height=9").await.json()).is_empty());
    assert_eq!(running.get("/v1/duty").await.json().get("next"), None);
    *running.node.duties_next.lock().unwrap() = Some(Slot(2));
    assert_eq!(running.get("/v1/duty?type=proposer").await.json(), json!({"duties": [], "next": 2}));
    for bad in ["type=block", "height=01", "type=sync&height=x", "limit=0", "limit=101", "before=-1"] {
        running.get(&format!("/v1/duty?{bad}")).await.assert_refusal(400, "BAD_REQUEST");
    }
}

#[tokio::test]
async fn liveness_readiness_and_status_are_on_both_listeners() {
    let running = Running::start(Options::default()).await;
    for address in [running.server.validator_api(), running.server.monitoring()] {
        let get = |path: &'static str| common::request(address, "GET", path, &[], b"");
        assert_eq!(get("/livez").await.json(), json!({"live": true}));
        assert_eq!(get("/readyz").await.json(), json!({"ready": true}));
        let status = get("/status").await.json();
        assert_eq!(
            (&status["live"], &status["ready"], &status["fence"]),
            (&json!(true), &json!(true), &json!(null))
        );
    }
    *running.node.reasons.lock().unwrap() = vec![NotReady::Syncing, NotReady::Clock];
    let reply = running.monitoring("/readyz").await;
    reply.assert_refusal(503, "NOT_READY");
    assert_eq!(reply.json()["reasons"], json!(["syncing", "clock"]));
    assert_eq!(running.get("/status").await.json()["reasons"], json!(["syncing", "clock"]));
    assert_eq!(running.get("/v1/cluster").await.json()["threshold"], 3);
}

#[tokio::test]
async fn a_stuck_event_loop_is_not_live_and_health_still_answers() {
    let running = Running::start(Options::default()).await;
    running.node.dead.store(true, SeqCst);
    assert_eq!(running.monitoring("/livez").await.status, 503);
    assert_eq!(running.get("/status").await.json()["live"], false);
    assert_eq!(running.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_fenced_node_answers_diagnosis_only() {
    let running = Running::with_tx_api().await;
    (0..3).for_each(|_| drop(running.node.decide(vec![])));
    running.node.fenced.store(true, SeqCst);
    for path in [
        "/health",
        "/livez",
        "/status",
        "/v1/cluster",
        "/v1/evidence",
        "/v1/state-root?height=1",
        "/v1/checkpoints/latest",
        "/v1/checkpoints/2",
    ] {
        assert_eq!(running.get(path).await.status, 200, "{path}");
    }
    assert_eq!(running.monitoring("/metrics").await.status, 200);
    let ready = running.get("/readyz").await;
    ready.assert_refusal(503, "NOT_READY");
    assert_eq!(ready.json()["reasons"], json!(["fenced"]));
    for path in
        ["/v1/blocks/1", "/v1/blocks", "/v1/events", "/v1/duty", "/v1/mempool", "/nowhere", "/openapi.json"]
    {
        let reply = running.get(path).await;
        reply.assert_refusal(503, "SELF_FENCED");
        assert_eq!(reply.header("retry-after"), Some("30"));
    }
    for path in ["/v1/duty", "/v1/tx", "/v1/tx/plain", "/v1/txs"] {
        running.post(path, envelope(json!({}))).await.assert_refusal(503, "SELF_FENCED");
    }
    assert!(running.node.submitted.lock().unwrap().is_empty());
    let alias = running.get("/api/state-root?ledger=1").await;
    assert_eq!((alias.status, &alias.json()["code"]), (503, &json!("SELF_FENCED")));
}

#[tokio::test]
async fn trace_ids_are_kept_when_acceptable_and_made_otherwise() {
    let running = Running::start(Options::default()).await;
    let running = &running;
    let sent = |id: String| async move { running.send("GET", "/health", &[("X-Trace-ID", &id)], b"").await };
    assert_eq!(sent("abc-1:2_3.4".into()).await.header("x-trace-id"), Some("abc-1:2_3.4"));
    for bad in ["with space".to_owned(), "q\"uote".into(), "x".repeat(129)] {
        let reply = sent(bad).await;
        assert!(reply.header("x-trace-id").unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    }
    assert!(running.get("/nowhere").await.header("x-trace-id").is_some());
}

#[tokio::test]
async fn requests_are_counted_under_their_route_template() {
    let running = Running::with_tx_api().await;
    running.get("/v1/blocks/5").await;
    running.get("/v1/blocks/6").await;
    running.get("/a/b/c").await;
    running.get("/health").await;
    let text = running.monitoring("/metrics").await;
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = text.text();
    for line in [
        r#"api_requests_total{code="404",route="/v1/blocks/{height}"} 2"#,
        r#"api_requests_total{code="404",route="proxy"} 1"#,
        r#"api_requests_total{code="200",route="/health"} 1"#,
        r#"api_latency_ms_count{route="/v1/blocks/{height}"} 2"#,
        "dvt_up 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("route=\"/metrics\""), "a scrape shows the state before itself");
    assert!(running.exposition().contains(r#"api_requests_total{code="200",route="/metrics"} 1"#));
    assert!(running.exposition().contains(r#"service_op_ms_count{op="start",service="monitoring"} 1"#));
}

#[tokio::test]
async fn an_address_over_its_rate_is_told_when_to_come_back() {
    let running = Running::start(Options { rate_limit: 1, ..Options::default() }).await;
    assert_eq!(running.get("/v1/cluster").await.status, 200);
    let reply = running.get("/v1/cluster").await;
    reply.assert_refusal(429, "RATE_LIMITED");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(running.get("/health").await.status, 200);
}

#[tokio::test]
async fn every_route_is_in_the_document_and_answers() {
    let running = Running::with_tx_api().await;
    let document = running.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/health",
        "/livez",
        "/readyz",
        "/status",
        "/metrics",
        "/v1/duty",
        "/v1/tx",
        "/v1/txs",
        "/v1/tx/plain",
        "/v1/tx/auction",
        "/v1/tx/private",
        "/v1/tx/{hash}",
        "/v1/accounts/{address}",
        "/v1/mempool",
        "/v1/blocks",
        "/v1/blocks/latest",
        "/v1/blocks/{height}",
        "/v1/blocks/{height}/certificate",
        "/v1/cluster",
        "/v1/checkpoints/latest",
        "/v1/checkpoints/{height}",
        "/v1/state-root",
        "/api/state-root",
        "/v1/evidence",
        "/v1/events",
        "/openapi.json",
    ] {
        assert!(paths.contains_key(path), "{path} is not documented");
    }
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let address =
                if path == "/metrics" { running.server.monitoring() } else { running.server.validator_api() };
            if path == "/v1/events" {
                continue;
            }
            let path = path.replace("{height}", "1").replace("{hash}", "x").replace("{address}", "x");
            let reply = common::request(address, &method, &path, &[], b"").await;
            assert_ne!(reply.text(), "404 page not found\n", "{method} {path}");
            assert_ne!(reply.status, 405, "{method} {path}");
        }
    }
    assert_eq!(
        document["components"]["schemas"]["ErrorBody"]["required"],
        json!(["code", "message", "trace_id"])
    );
    let without = Running::start(Options::default()).await.get("/openapi.json").await.json();
    let paths = without["paths"].as_object().unwrap();
    assert!(paths.contains_key("/v1/blocks") && !paths.contains_key("/v1/tx"), "only what is there");
}

#[tokio::test]
async fn a_block_too_large_for_one_piece_arrives_whole() {
    let running = Running::start(Options::default()).await;
    let large = |nonce| {
        let mut transaction = plain_tx(nonce);
        let TxBody::Plaintext(body) = &mut transaction.body else { panic!() };
        body.payload = vec![nonce as u8; 65_536].try_into().unwrap();
        transaction
    };
    let block = running
        .node
        .decide((0..20).map(|nonce| if nonce % 3 == 0 { large(nonce) } else { plain_tx(nonce) }).collect());
    let reply = running.get("/v1/blocks/1").await;
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"), "it is written while it is sent");
    assert_eq!(BlockJson::parse(&reply.body).unwrap(), *block);
}

#[tokio::test]
async fn blocks_being_shown_are_few_and_the_next_reader_waits_for_a_place() {
    let running = Running::start(Options::default()).await;
    let mut transaction = plain_tx(0);
    let TxBody::Plaintext(body) = &mut transaction.body else { panic!() };
    body.payload = vec![7; 65_536].try_into().unwrap();
    let items: Vec<_> = std::iter::repeat_n(transaction, 200).collect();
    running.node.decide(items);
    // More than sockets take by themselves, and nobody reads.
    let address = running.server.validator_api();
    let mut held = Vec::new();
    // Behind a proxy may be many: one address has half of the places.
    for _ in 0..BLOCKS_SHOWN_MAX / 2 {
        held.push(common::Stream::open(address, "/v1/blocks/1", &[]).await);
    }
    for stream in &mut held {
        stream.until("\r\n\r\n").await;
    }
    let (block, evidence) = tokio::join!(running.get("/v1/blocks/1"), running.get("/v1/evidence"));
    block.assert_refusal(503, "TOO_MANY_BLOCKS");
    evidence.assert_refusal(503, "TOO_MANY_BLOCKS");
    assert_eq!(running.get("/v1/blocks").await.status, 200, "headers need no place");
    assert_eq!(running.get("/v1/blocks/1/certificate").await.status, 200, "nor do certificates");
    drop(held);
    while running.get("/v1/blocks/1").await.status == 503 {}
}

#[tokio::test]
async fn a_height_is_a_number_and_an_amount_a_string() {
    let running = Running::start(Options::default()).await;
    running.node.decide(vec![plain_tx(0)]);
    let header = running.get("/v1/blocks/1").await.json()["header"].clone();
    assert_eq!((&header["height"], &header["total_fees"]), (&json!(Height(1)), &json!("5")));
}
