//! The original routes, row by row (contract: http, section 3).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_api::BackendError;
use aequa_api::backend::{Admission, Options};
use aequa_types::{Digest, DutyId, DutyKind, Slot};
use common::{Running, bid_envelope, envelope, is_bid};
use serde_json::{Value, json};

#[tokio::test]
async fn health_answers_ok_to_any_method() {
    let running = Running::start(Options::default()).await;
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let reply = running.send(method, "/health", &[], b"").await;
        assert_eq!((reply.status, reply.text()), (200, "ok"), "{method}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    assert_eq!(running.monitoring("/health").await.text(), "ok");
}

#[tokio::test]
async fn a_valid_duty_is_202_without_a_body() {
    let running = Running::start(Options::default()).await;
    for (name, kind) in
        [("attester", DutyKind::Attester), ("proposer", DutyKind::Proposer), ("sync", DutyKind::Sync)]
    {
        let body = json!({"type": name, "height": "7", "round": 1, "payload": {"a": [1]}, "unknown": true});
        let headers = [("X-Trace-ID", "trace-1")];
        let reply = running.send("POST", "/v1/duty", &headers, body.to_string().as_bytes()).await;
        assert_eq!((reply.status, reply.text()), (202, ""));
        let duty = running.node.duties.lock().unwrap().pop().unwrap();
        assert_eq!((duty.id, duty.round.0), (DutyId { kind, slot: Slot(7) }, 1));
        assert_eq!((&*duty.payload.0, duty.trace_id.as_str()), (br#"{"a":[1]}"#.as_slice(), "trace-1"));
    }
}

#[tokio::test]
async fn duty_refusals_are_the_contracts_texts() {
    let running = Running::start(Options::default()).await;
    let deep = format!(r#"{{"type":"sync","payload":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    let many = format!(r#"{{"type":"sync","payload":[{}]}}"#, vec!["{}"; 10_000].join(","));
    let long = format!(r#"{{"type":"sync","payload":"{}"}}"#, "x".repeat(65_535));
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (b"".into(), "empty"),
        (vec![b' '; (1 << 20) + 1], "read error"),
        (b"{".into(), "invalid json"),
        (b" ".into(), "invalid json"),
        (b"[]".into(), "invalid json"),
        (b"null".into(), "invalid json"),
        (br#"{"type":"sync"} {}"#.into(), "invalid json"),
        (br#"{"type":"sync","type":"sync"}"#.into(), "invalid json"),
        (br#"{"type":"sync","payload":{"a":1,"a":1}}"#.into(), "invalid json"),
        (br#"{"type":1}"#.into(), "invalid json"),
        (br#"{"type":"sync","height":-1}"#.into(), "invalid json"),
        (br#"{"type":"sync","height":1.5}"#.into(), "invalid json"),
        (br#"{"type":"sync","height":1e3}"#.into(), "invalid json"),
        (br#"{"type":"sync","height":"0x10"}"#.into(), "invalid json"),
        (br#"{"type":"sync","height":18446744073709551616}"#.into(), "invalid json"),
        (br#"{"type":"sync","round":[]}"#.into(), "invalid json"),
        (br#"{"type":"block","round":"x"}"#.into(), "invalid json"),
        (deep.into_bytes(), "invalid json"),
        (many.into_bytes(), "invalid json"),
        (long.into_bytes(), "invalid json"),
        (br#"{"type":"sync","height":"007"}"#.into(), "invalid json"),
        (br#"{"type":"sync","payload":{"amount":9007199254740993}}"#.into(), "invalid json"),
        (br#"{"type":"sync","payload":[-9007199254740992]}"#.into(), "invalid json"),
        (br#"{"type":"sync","payload":1e400}"#.into(), "invalid json"),
        (br#"{"type":"sync","payload":"\ud800"}"#.into(), "invalid json"),
        (b"{}".into(), "invalid type"),
        (br#"{"type":null}"#.into(), "invalid type"),
        (br#"{"type":"block"}"#.into(), "invalid type"),
        (br#"{"type":"Attester"}"#.into(), "invalid type"),
        (br#"{"type":"block","height":4611686018427387905}"#.into(), "invalid type"),
        (
            br#"{"type":"sync","height":4611686018427387905,"round":1099511627777}"#.into(),
            "height out of range",
        ),
        (br#"{"type":"sync","height":1,"round":1099511627777}"#.into(), "round out of range"),
    ];
    for (body, text) in rows {
        let reply = running.post("/v1/duty", &body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        assert_eq!(reply.text(), format!("{text}\n"), "{shown}");
        reply.assert_text_error(400, text);
    }
    assert!(running.node.duties.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_reason_of_a_refused_duty_names_field_and_limit() {
    let running = Running::start(Options::default()).await;
    let many = format!(r#"{{"payload":[{}]}}"#, vec!["0"; 10_000].join(","));
    let long = format!(r#"{{"payload":"{}"}}"#, "x".repeat(65_535));
    for (body, field, limit) in [
        (r#"{"height":-1}"#, "height: ", "18446744073709551615"),
        (r#"{"height":"01"}"#, "height: ", "without leading zeros"),
        (r#"{"payload":[1,9007199254740993]}"#, "payload: ", "9007199254740993 is an integer beyond"),
        (r#"{"payload":1e400}"#, "payload: ", "1.7976931348623157e308"),
        (r#"{"payload":0.1234567890123456789}"#, "payload: ", "17 at most"),
        (many.as_str(), "not valid JSON", "more than 10000 values"),
        (long.as_str(), "payload: ", "has 65537 bytes, the limit is 65536"),
    ] {
        let reply = running.post("/v1/duty", body).await;
        let reason = reply.header("x-aequa-reason").unwrap();
        assert!(reason.starts_with(field) && reason.contains(limit), "{reason}");
    }
}

#[tokio::test]
async fn a_payload_of_exactly_64_kib_is_taken_and_shown_as_it_is_signed() {
    let running = Running::start(Options::default()).await;
    let sample = r#"{"type":"sync","height":2,"payload":{"b": 1E2, "a": "\u00e4"}}"#;
    assert_eq!(running.post("/v1/duty", sample).await.status, 202);
    let largest = format!(r#"{{"type":"sync","height":3,"payload":"{}"}}"#, "x".repeat(65_534));
    assert_eq!(running.post("/v1/duty", largest).await.status, 202);
    let shown = running.get("/v1/duty?type=sync&height=2").await;
    assert!(shown.text().contains(r#""value":{"a":"ä","b":100}"#), "{}", shown.text());
    let list = running.get("/v1/duty").await.json();
    let duties = list["duties"].as_array().unwrap();
    assert_eq!(duties.len(), 2);
    assert_eq!(duties[0]["value"].as_str().unwrap().len(), 65_534);
    assert_eq!(running.get("/v1/duty?before=1").await.json(), json!({"duties": []}));
}

#[tokio::test]
async fn the_bounds_of_height_and_round_are_allowed() {
    let running = Running::start(Options::default()).await;
    let body = json!({"type": "sync", "height": 1u64 << 62, "round": 1u64 << 40});
    assert_eq!(running.post("/v1/duty", body.to_string()).await.status, 202);
}

#[tokio::test]
async fn a_body_of_exactly_one_mebibyte_is_read() {
    let running = Running::start(Options::default()).await;
    let mut body = br#"{"type":"sync"}"#.to_vec();
    body.resize(1 << 20, b' ');
    assert_eq!(running.post("/v1/duty", &body).await.status, 202);
    body.push(b' ');
    running.post("/v1/duty", &body).await.assert_text_error(400, "read error");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_a_read_error() {
    let running = Running::start(Options::default()).await;
    for path in ["/v1/duty", "/v1/tx/plain"] {
        let running = if path == "/v1/duty" { &running } else { &Running::with_tx_api().await };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n"
        );
        let reply = common::raw(running.server.validator_api(), head.as_bytes()).await;
        reply.assert_text_error(400, "read error");
    }
}

#[tokio::test]
async fn other_methods_are_405_in_the_originals_words() {
    let running = Running::with_tx_api().await;
    for path in ["/v1/duty", "/v1/tx/plain", "/v1/tx/auction", "/v1/tx/private"] {
        for method in ["PUT", "DELETE", "PATCH"] {
            running.send(method, path, &[], b"").await.assert_text_error(405, "method not allowed");
        }
    }
    running.get("/v1/tx/plain").await.assert_text_error(405, "method not allowed");
    let head = running.send("HEAD", "/v1/duty", &[], b"").await;
    assert_eq!((head.status, head.text()), (405, ""));
}

#[tokio::test]
async fn a_full_duty_queue_is_503_overloaded() {
    let running = Running::start(Options::default()).await;
    *running.node.duty_answer.lock().unwrap() = Err(BackendError::Overloaded);
    let reply = running.post("/v1/duty", r#"{"type":"sync"}"#).await;
    reply.assert_text_error(503, "overloaded");
    assert_eq!(reply.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn a_slot_the_node_cannot_take_is_400_with_the_limit_in_the_reason() {
    let running = Running::start(Options::default()).await;
    let reason = "height: must be at most 65541".to_owned();
    *running.node.duty_answer.lock().unwrap() =
        Err(BackendError::Invalid { what: "height out of range", reason: reason.clone() });
    let reply = running.post("/v1/duty", r#"{"type":"sync","height":99999}"#).await;
    reply.assert_text_error(400, "height out of range");
    assert_eq!(reply.header("x-aequa-reason"), Some(reason.as_str()));
}

#[tokio::test]
async fn a_duty_that_comes_too_late_is_409_with_what_stands_and_one_too_old_is_410() {
    let running = Running::start(Options::default()).await;
    let stands = Digest::repeat_byte(7);
    let post = |error: BackendError| {
        *running.node.duty_answer.lock().unwrap() = Err(error);
        running.post("/v1/duty", r#"{"type":"sync","height":9}"#)
    };
    let reply = post(BackendError::DutyEnded { stands: Some(stands) }).await;
    reply.assert_text_error(409, "too late");
    assert_eq!(reply.header("x-aequa-digest"), Some(stands.to_string().as_str()));
    let reply = post(BackendError::DutyEnded { stands: None }).await;
    reply.assert_text_error(409, "too late");
    assert_eq!(reply.header("x-aequa-digest"), None);
    let reply = post(BackendError::DutyForgotten { watermark: Slot(12) }).await;
    reply.assert_text_error(410, "too old");
    let reason = "height: must be above 12, below which duties are over and forgotten";
    assert_eq!(reply.header("x-aequa-reason"), Some(reason));
}

#[tokio::test]
async fn a_failure_of_the_node_is_not_told_to_the_client() {
    let running = Running::start(Options::default()).await;
    *running.node.duty_answer.lock().unwrap() = Err(BackendError::Internal("disk /dev/secret".into()));
    let reply = running.post("/v1/duty", r#"{"type":"sync"}"#).await;
    reply.assert_text_error(500, "internal error");
    assert!(!format!("{reply:?}").contains("secret"));
}

#[tokio::test]
async fn tx_routes_do_not_exist_while_the_tx_api_is_off() {
    let running = Running::start(Options::default()).await;
    for path in ["/v1/tx/plain", "/v1/tx/auction", "/v1/tx/private", "/v1/tx", "/v1/txs"] {
        running.post(path, envelope(json!({}))).await.assert_text_error(404, "404 page not found");
    }
    for path in ["/v1/mempool", "/v1/tx/0x00", "/v1/accounts/0x00", "/", "/nowhere"] {
        running.get(path).await.assert_text_error(404, "404 page not found");
    }
    assert!(running.exposition().contains(r#"api_requests_total{code="404",route="proxy"} 10"#));
}

#[tokio::test]
async fn the_pools_verdict_is_the_answer() {
    let running = Running::with_tx_api().await;
    for (verdict, result) in [(Admission::Ok, "ok"), (Admission::Future, "future")] {
        *running.node.verdict.lock().unwrap() = Ok(verdict);
        let reply = running.post("/v1/tx/plain", envelope(json!({}))).await;
        assert_eq!((reply.status, reply.text()), (202, ""));
        assert_eq!(reply.header("x-aequa-tx-result"), Some(result));
        let hash = running.node.submitted.lock().unwrap().pop().unwrap().body.hash();
        assert_eq!(reply.header("x-aequa-tx-hash"), Some(hash.to_string().as_str()));
    }
    for (verdict, status, text) in [
        (Admission::Old, 409, "old nonce"),
        (Admission::Dup, 409, "duplicate"),
        (Admission::Invalid, 400, "invalid tx"),
        (Admission::Overflow, 429, "pool full"),
        (Admission::SenderLimit, 429, "pool full"),
    ] {
        *running.node.verdict.lock().unwrap() = Ok(verdict);
        let reply = running.post("/v1/tx/plain", envelope(json!({}))).await;
        reply.assert_text_error(status, text);
        assert_eq!(reply.header("retry-after").is_some(), status == 429);
        assert_eq!(reply.header("x-aequa-reason"), Some(format!("because {}", verdict.name()).as_str()));
        assert_eq!(reply.header("x-aequa-tx-result"), Some(verdict.name()));
    }
}

#[tokio::test]
async fn a_bad_envelope_never_reaches_the_pool() {
    let running = Running::with_tx_api().await;
    let long = format!("0x{}", "00".repeat(65_537));
    let rows: Vec<(String, u16, &str)> = vec![
        ("".into(), 400, "invalid json"),
        ("{".into(), 400, "invalid json"),
        ("[]".into(), 400, "invalid json"),
        (format!("{}{}", envelope(json!({})), "{}"), 400, "invalid json"),
        (r#"{"nonce":1,"nonce":1}"#.into(), 400, "invalid json"),
        ("{}".into(), 400, "invalid tx"),
        (envelope(json!({"type": "other_v1"})), 400, "invalid tx"),
        (envelope(json!({"gas": 0})), 400, "invalid tx"),
        (envelope(json!({"nonce": -1})), 400, "invalid tx"),
        (envelope(json!({"from": "nobody"})), 400, "invalid tx"),
        (envelope(json!({"sig": "0x00"})), 400, "invalid tx"),
        (envelope(json!({"bid": 1})), 400, "invalid tx"),
        (envelope(json!({"payload": long})), 400, "invalid tx"),
        (envelope(json!({"type": "private_v1", "gas": 0})), 503, "beast disabled"),
        (" ".repeat((1 << 20) + 1), 400, "read error"),
    ];
    for (body, status, text) in rows {
        let reply = running.post("/v1/tx/plain", &body).await;
        assert_eq!(reply.text(), format!("{text}\n"), "{}", &body[..body.len().min(80)]);
        reply.assert_text_error(status, text);
    }
    assert!(running.node.submitted.lock().unwrap().is_empty());
    assert_eq!(running.node.metrics.mempool_in_total.value(["invalid"]), 8);
    let reply = running.post("/v1/tx/plain", envelope(json!({"gas": 0}))).await;
    assert_eq!(reply.header("x-aequa-reason"), Some("gas: must be greater than 0"));
}

#[tokio::test]
async fn auction_and_private_routes_take_their_own_type_only() {
    let running = Running::with_tx_api().await;
    for kind in [json!({"type": "auction_bid_v1"}), json!({"type": ""}), json!({"type": Value::Null})] {
        assert_eq!(running.post("/v1/tx/auction", bid_envelope(kind)).await.status, 202);
        assert!(is_bid(&running.node.submitted.lock().unwrap().pop().unwrap()));
    }
    let bid = bid_envelope(json!({"type": "auction_bid_v1"}));
    assert_eq!(running.post("/v1/tx/plain", &bid).await.status, 202, "plain takes every type it knows");
    running.post("/v1/tx/auction", envelope(json!({}))).await.assert_text_error(400, "invalid tx");
    let private = envelope(json!({"type": "private_v1"}));
    running.post("/v1/tx/auction", &private).await.assert_text_error(400, "invalid tx");
    running.post("/v1/tx/private", &private).await.assert_text_error(503, "beast disabled");
    running.post("/v1/tx/private", "{}").await.assert_text_error(503, "beast disabled");
    running.post("/v1/tx/private", "[]").await.assert_text_error(400, "invalid json");
    running.post("/v1/tx/private", envelope(json!({}))).await.assert_text_error(400, "invalid tx");
}

#[tokio::test]
async fn a_node_that_cannot_take_transactions_is_503() {
    let running = Running::with_tx_api().await;
    for error in [BackendError::Overloaded, BackendError::NotReady] {
        *running.node.verdict.lock().unwrap() = Err(error);
        running.post("/v1/tx/plain", envelope(json!({}))).await.assert_text_error(503, "overloaded");
    }
}
