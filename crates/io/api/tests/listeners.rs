//! Binding, bounds and stopping (contract: http, sections 1 and 2).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_api::backend::Options;
use aequa_api::{ApiError, Config, Server};
use common::{Node, Running, raw, request};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let running = Running::start(Options::default()).await;
    let taken = running.server.validator_api().to_string();
    let config = Config {
        validator_api: "127.0.0.1:0".into(),
        monitoring: taken.clone(),
        options: Options::default(),
    };
    let error = Server::start(Arc::new(Node::default()), &config).await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Bind { service: "monitoring", addr, .. } if *addr == taken),
        "{error}"
    );
}

#[tokio::test]
async fn an_unusable_upstream_is_refused_at_start() {
    let options = Options { upstream: Some("https://beacon".parse().unwrap()), ..Options::default() };
    let any = "127.0.0.1:0".to_owned();
    let config = Config { validator_api: any.clone(), monitoring: any, options };
    let error = Server::start(Arc::new(Node::default()), &config).await.unwrap_err();
    assert!(matches!(error, ApiError::Upstream { .. }));
}

#[tokio::test]
async fn a_head_above_16_kib_is_refused() {
    let running = Running::start(Options::default()).await;
    let head = |fill: usize| {
        format!(
            "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Fill: {}\r\n\r\n",
            "x".repeat(fill)
        )
    };
    let address = running.server.validator_api();
    assert_eq!(raw(address, head(15 * 1024).as_bytes()).await.status, 200);
    assert_eq!(raw(address, head(17 * 1024).as_bytes()).await.status, 431);
}

#[tokio::test]
async fn nonsense_is_answered_and_closed() {
    let running = Running::start(Options::default()).await;
    for bytes in [&b"nonsense\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        assert_eq!(raw(running.server.validator_api(), bytes).await.status, 400);
    }
    assert_eq!(running.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_thousand_slow_clients_do_not_keep_a_validator_out() {
    let running = Running::start(Options::default()).await;
    let mut slow = Vec::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(running.server.validator_api()).await.unwrap();
        let _ = stream.write_all(b"POST /v1/duty HTTP/1.1\r\nHost: t").await;
        slow.push(stream);
    }
    assert_eq!(running.post("/v1/duty", r#"{"type":"sync","height":1}"#).await.status, 202);
}

#[tokio::test]
async fn a_head_that_does_not_end_costs_its_connection() {
    let running = Running::start(Options::default()).await;
    let mut stream = TcpStream::connect(running.server.validator_api()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: t").await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let running = Running::start(Options::default()).await;
    let mut stream = TcpStream::connect(running.server.validator_api()).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\nok") {
            seen.push(stream.read_u8().await.unwrap());
        }
    }
}

#[tokio::test]
async fn stopping_lets_a_request_in_flight_end_and_takes_no_more() {
    let running = Running::start(Options::default()).await;
    let address = running.server.validator_api();
    let mut stream = in_flight(address).await;
    let (answer, ()) = tokio::join!(finish(&mut stream), running.server.stop());
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_slow_request_on_one_listener_does_not_put_off_the_end_of_the_other() {
    let running = Running::start(Options::default()).await;
    let (api, monitoring) = (running.server.validator_api(), running.server.monitoring());
    let mut stream = in_flight(api).await;
    let watch = async {
        while TcpStream::connect(monitoring).await.is_ok() {
            tokio::task::yield_now().await;
        }
        finish(&mut stream).await
    };
    let (answer, ()) = tokio::join!(watch, running.server.stop());
    assert!(answer.starts_with("HTTP/1.1 202 "), "monitoring ended only after it: {answer}");
}

/// A request whose body is still to come, and whose handler waits for it.
async fn in_flight(address: SocketAddr) -> TcpStream {
    in_flight_to(address, "/v1/duty").await
}

async fn in_flight_to(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body once the handler waits for it.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100"));
    stream
}

/// Sends the body; the answer, empty when the server gave up before.
async fn finish(stream: &mut TcpStream) -> String {
    let _ = stream.write_all(br#"{"type":"sync"}"#).await;
    rest(stream).await
}

/// What comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_and_reads_nothing() {
    let running = Running::with_tx_api().await;
    let evil = [("Origin", "https://evil.example"), ("Content-Type", "application/json")];
    for path in ["/v1/duty", "/v1/tx", "/v1/tx/plain", "/v1/tx/auction", "/v1/tx/private", "/any/thing"] {
        let body = br#"{"type":"sync","height":1}"#;
        running.send("POST", path, &evil, body).await.assert_refusal(403, "FOREIGN_ORIGIN");
        running.send("OPTIONS", path, &evil, b"").await.assert_refusal(403, "FOREIGN_ORIGIN");
        if path.starts_with("/v1") {
            let form = [("Content-Type", "text/plain")];
            running.send("POST", path, &form, body).await.assert_refusal(415, "BAD_CONTENT_TYPE");
        }
    }
    running.send("GET", "/v1/events", &evil, b"").await.assert_refusal(403, "FOREIGN_ORIGIN");
    assert!(running.node.duties.lock().unwrap().is_empty());
    assert!(running.node.submitted.lock().unwrap().is_empty());
    let monitoring = running.server.monitoring();
    request(monitoring, "GET", "/status", &evil, b"").await.assert_refusal(403, "FOREIGN_ORIGIN");
    assert_eq!(request(monitoring, "GET", "/metrics", &evil, b"").await.status, 200);
}

#[tokio::test]
async fn a_name_that_its_owner_points_here_reaches_neither_listener() {
    let running = Running::start(Options::default()).await;
    for address in [running.server.validator_api(), running.server.monitoring()] {
        for path in ["/status", "/health", "/metrics", "/no/route"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n");
            raw(address, head.as_bytes()).await.assert_refusal(421, "MISDIRECTED");
        }
        let none = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
        raw(address, none).await.assert_refusal(400, "BAD_HOST");
        let two = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        raw(address, two).await.assert_refusal(400, "BAD_HOST");
        let connect = b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n";
        raw(address, connect).await.assert_refusal(405, "METHOD_NOT_ALLOWED");
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_make_way_for_a_validator_and_are_told_so() {
    let running = Running::start(Options { connections_max: 32, ..Options::default() }).await;
    let address = running.server.validator_api();
    let mut slow = Vec::new();
    for _ in 0..32 {
        slow.push(in_flight(address).await);
    }
    assert_eq!(running.post("/v1/duty", r#"{"type":"sync","height":1}"#).await.status, 202);
    let answer = rest(&mut slow[0]).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("TOO_MANY_CONNECTIONS"), "{answer}");
    assert_eq!(running.metric(r#"api_turned_away_total{reason="evicted",service="api"}"#), 1);
    let answer = finish(&mut slow[31]).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[tokio::test]
async fn who_finds_no_place_is_told_so_and_counted() {
    let running = Running::start(Options { connections_max: 32, ..Options::default() }).await;
    let address = running.server.validator_api();
    running.node.stuck.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut waiting = Vec::new();
    for n in 1..=32 {
        let mut stream = in_flight(address).await;
        stream.write_all(br#"{"type":"sync"}"#).await.unwrap();
        while running.node.duties.lock().unwrap().len() < n {
            tokio::task::yield_now().await;
        }
        waiting.push(stream);
    }
    let reply = running.get("/health").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.json()["code"], "TOO_MANY_CONNECTIONS");
    assert_eq!(running.metric(r#"api_turned_away_total{reason="connections",service="api"}"#), 1);
    assert_eq!(running.monitoring("/livez").await.status, 200, "monitoring has places of its own");
    drop(waiting.pop());
    // The node notices the closed connection when it is next polled.
    while running.get("/health").await.status != 200 {}
}

#[tokio::test]
async fn a_client_behind_a_proxy_is_limited_by_its_own_address() {
    let running = Running::start(Options { rate_limit: 1, ..Options::default() }).await;
    let from = |address: &'static str| [("X-Forwarded-For", address)];
    let status = async |headers: &[(&str, &str)]| running.send("GET", "/status", headers, b"").await.status;
    while status(&from("192.0.2.1")).await != 429 {}
    assert_eq!(status(&from("192.0.2.2")).await, 200);
}

#[tokio::test]
async fn a_body_below_the_least_rate_is_answered_counted_and_costs_its_connection() {
    let running = Running::with_tx_api().await;
    let address = running.server.validator_api();
    let (mut text, mut json) = (in_flight(address).await, in_flight_to(address, "/v1/tx").await);
    let (text, json) = tokio::join!(rest(&mut text), rest(&mut json));
    assert!(text.starts_with("HTTP/1.1 400 ") && text.ends_with("\r\n\r\nread error\n"), "{text}");
    assert!(json.starts_with("HTTP/1.1 408 ") && json.contains("BODY_TIMEOUT"), "{json}");
    assert_eq!(running.metric(r#"api_turned_away_total{reason="slow",service="api"}"#), 2);
    assert_eq!(running.metric(r#"api_requests_total{code="400",route="/v1/duty"}"#), 1);
    assert_eq!(running.metric(r#"api_requests_total{code="408",route="/v1/tx"}"#), 1);
}
