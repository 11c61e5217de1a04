//! `POST /v1/txs` (contract: http, section 4).
#![allow(clippy::unwrap_used)]

mod common;

use aequa_api::backend::{Admission, Options};
use aequa_api::{BODY_BYTES_MAX, BackendError};
use aequa_types::limits::TX_BATCH_MAX;
use common::{Reply, Running, SENDER, bid_envelope, envelope};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::SeqCst;

const LINES: &[(&str, &str)] = &[("Content-Type", "application/x-ndjson")];
const ARRAY: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// The same envelopes as an array and line by line.
async fn post_both(running: &Running, envelopes: &[String]) -> [Reply; 2] {
    let array = format!("[{}]", envelopes.join(","));
    let lines = envelopes.join("\n");
    [
        running.send("POST", "/v1/txs", ARRAY, array.as_bytes()).await,
        running.send("POST", "/v1/txs", LINES, lines.as_bytes()).await,
    ]
}

fn of(reply: &Reply, field: &str) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json().as_array().unwrap().iter().map(|answer| answer[field].clone()).collect()
}

fn nonces(nonces: impl IntoIterator<Item = u64>) -> Vec<String> {
    nonces.into_iter().map(|nonce| envelope(json!({ "nonce": nonce }))).collect()
}

#[tokio::test]
async fn every_transaction_has_its_answer_in_the_order_of_the_lines() {
    let running = Running::with_tx_api().await;
    for reply in post_both(&running, &nonces([3, 1, 2])).await {
        let hash = running.node.submitted.lock().unwrap()[0].body.hash();
        let sender = format!("{SENDER:#x}");
        let first = json!({"status": 202, "hash": hash, "result": "ok", "sender": sender, "nonce": 3});
        assert_eq!(reply.json()[0], first);
        assert_eq!(of(&reply, "nonce"), [3, 1, 2]);
        assert!(reply.header("x-trace-id").is_some());
    }
    let submitted: Vec<u64> =
        running.node.submitted.lock().unwrap().iter().map(|transaction| transaction.body.nonce()).collect();
    assert_eq!(submitted, [3, 1, 2, 3, 1, 2]);
    assert_eq!(running.metric(r#"api_requests_total{code="200",route="/v1/txs"}"#), 2);
}

#[tokio::test]
async fn a_bad_line_has_its_own_error_and_costs_the_others_nothing() {
    let running = Running::with_tx_api().await;
    *running.node.known_nonces.lock().unwrap() = vec![4];
    let envelopes = [
        envelope(json!({"nonce": 1})),
        envelope(json!({"gas": 0})),
        bid_envelope(json!({"type": "auction_bid_v1", "nonce": 2})),
        envelope(json!({"nonce": 4})),
        "17".into(),
        envelope(json!({"type": "private_v1"})),
        envelope(json!({"nonce": 5})),
    ];
    for reply in post_both(&running, &envelopes).await {
        assert_eq!(of(&reply, "status"), [202, 400, 202, 409, 400, 503, 202]);
        let codes = ["TX_INVALID", "TX_DUP", "TX_INVALID", "DISABLED"];
        let refused = of(&reply, "code").into_iter().filter(|code| !code.is_null());
        assert_eq!(refused.collect::<Vec<_>>(), codes);
        let answers = reply.json();
        assert_eq!(
            answers[1],
            json!({"status": 400, "code": "TX_INVALID", "message": "gas: must be greater than 0"})
        );
        assert_eq!(answers[3]["message"], "because dup");
        assert_eq!(answers[2]["nonce"], 2);
    }
    assert_eq!(running.metric(r#"mempool_in_total{result="invalid"}"#), 4, "what never reached the pool");
    assert_eq!(running.node.submitted.lock().unwrap().len(), 8);
    let broken = format!("{}\n{{\"a\":1,\"a\":2}}\r\n\n{{\n", envelope(json!({})));
    let reply = running.send("POST", "/v1/txs", LINES, broken.as_bytes()).await;
    assert_eq!(of(&reply, "status"), [202, 400, 400], "each line is a text of its own");
    let all_bad = running.send("POST", "/v1/txs", LINES, b"{}\n{}").await;
    assert_eq!(of(&all_bad, "status"), [400, 400]);
}

#[tokio::test]
async fn the_pools_refusals_are_those_of_a_single_transaction() {
    let running = Running::with_tx_api().await;
    for (verdict, status, code) in [
        (Admission::Invalid, 400, "TX_INVALID"),
        (Admission::Old, 409, "TX_OLD"),
        (Admission::Dup, 409, "TX_DUP"),
        (Admission::Overflow, 429, "POOL_FULL"),
        (Admission::SenderLimit, 429, "SENDER_LIMIT"),
    ] {
        *running.node.verdict.lock().unwrap() = Ok(verdict);
        for reply in post_both(&running, &nonces([1])).await {
            let message = format!("because {}", verdict.name());
            assert_eq!(reply.json(), json!([{"status": status, "code": code, "message": message}]));
        }
    }
    *running.node.verdict.lock().unwrap() = Err(BackendError::NotReady);
    for reply in post_both(&running, &nonces([1])).await {
        reply.assert_refusal(503, "NOT_READY");
    }
}

#[tokio::test]
async fn a_body_that_is_no_batch_is_refused_as_a_whole() {
    let running = Running::with_tx_api().await;
    let many = nonces(0..TX_BATCH_MAX as u64 + 1);
    for reply in post_both(&running, &many).await {
        reply.assert_refusal(400, "TXS_INVALID");
        assert_eq!(reply.json()["message"], "body: has more than 1000 transactions");
    }
    for reply in post_both(&running, &[]).await {
        reply.assert_refusal(400, "TXS_INVALID");
        assert_eq!(reply.json()["message"], "body: has no transaction, must have 1 to 1000");
    }
    let one = envelope(json!({}));
    for bad in ["", "{", &one, &format!("{one}\n{one}"), &format!("[{one}"), "[{\"a\":1,\"a\":1}]"] {
        let reply = running.post("/v1/txs", bad).await;
        reply.assert_refusal(400, "TXS_INVALID");
        assert!(reply.json()["message"].as_str().unwrap().starts_with("not valid JSON: "), "{bad}");
    }
    for headers in [ARRAY, LINES] {
        let large = vec![b' '; BODY_BYTES_MAX + 1];
        running.send("POST", "/v1/txs", headers, &large).await.assert_refusal(413, "BODY_TOO_LARGE");
        let blank = vec![b' '; BODY_BYTES_MAX];
        running.send("POST", "/v1/txs", headers, &blank).await.assert_refusal(400, "TXS_INVALID");
    }
    for other in ["text/plain", "application/jsonl", "application/x-www-form-urlencoded"] {
        let reply = running.send("POST", "/v1/txs", &[("Content-Type", other)], b"[]").await;
        reply.assert_refusal(415, "BAD_CONTENT_TYPE");
        let says = "Content-Type: must be application/json or application/x-ndjson";
        assert_eq!(reply.json()["message"], says);
    }
    running.send("POST", "/v1/tx", LINES, one.as_bytes()).await.assert_refusal(415, "BAD_CONTENT_TYPE");
    running.get("/v1/txs").await.assert_refusal(405, "METHOD_NOT_ALLOWED");
    assert!(running.node.submitted.lock().unwrap().is_empty());
    for reply in post_both(&running, &many[1..]).await {
        assert_eq!(of(&reply, "status"), vec![202; TX_BATCH_MAX], "as many as there may be");
    }
}

#[tokio::test]
async fn each_transaction_of_a_batch_counts_as_a_request() {
    let running = Running::start(Options { tx_api: true, rate_limit: 10, ..Options::default() }).await;
    let batch = nonces(0..200).join("\n");
    let reply = running.send("POST", "/v1/txs", LINES, batch.as_bytes()).await;
    assert_eq!(of(&reply, "status"), vec![202; 200]);
    let next = running.post("/v1/tx", envelope(json!({}))).await;
    next.assert_refusal(429, "RATE_LIMITED");
    let wait: u32 = next.header("retry-after").unwrap().parse().unwrap();
    assert!((15..=20).contains(&wait), "what it owes: {wait}");
}

#[tokio::test]
async fn batches_that_are_with_the_node_are_bounded_and_the_next_waits_for_room() {
    let running = Running::with_tx_api().await;
    running.node.stuck.store(true, SeqCst);
    let address = running.server.validator_api();
    let batch = nonces(0..TX_BATCH_MAX as u64).join("\n");
    let post = || {
        let batch = batch.clone();
        tokio::spawn(
            async move { common::request(address, "POST", "/v1/txs", LINES, batch.as_bytes()).await },
        )
    };
    let until_submitted = async |batches: usize| {
        while running.node.submitted.lock().unwrap().len() < batches * TX_BATCH_MAX {
            tokio::task::yield_now().await;
        }
    };
    // One address of a shared kind has room for two of the largest.
    let held = [post(), post()];
    until_submitted(2).await;
    running.node.stuck.store(false, SeqCst);
    let waiting = post();
    assert_eq!(running.post("/v1/tx", envelope(json!({}))).await.status, 202, "a single one needs no room");
    assert_eq!(running.node.submitted.lock().unwrap().len(), 2 * TX_BATCH_MAX + 1);
    // Whose client goes away leaves its room.
    held.iter().for_each(|request| request.abort());
    assert_eq!(waiting.await.unwrap().status, 200);
}
