//! What requests leave in the log (contract: logs).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_api::backend::Options;
use aequa_telemetry::log;
use common::{Running, envelope};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tracing_subscriber::layer::SubscriberExt as _;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_request_is_one_declared_line_that_a_client_cannot_forge() {
    let output = Output::default();
    let (layer, guard) = log::layer(output.clone(), log::Format::Json, log::Level::Info).unwrap();
    // Test runtimes have one thread, so the subscriber sees the server's tasks too.
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let running = Running::start(Options { tx_api: true, ..Options::default() }).await;
    let forged = "/x%0a%7b%22msg%22:%22forged%22%7d?q=%22a&msg=forged";
    let evil = [("X-Trace-ID", r#"a","msg":"forged"#), ("User-Agent", "{\"msg\":\"forged\"}")];
    running.send("GET", forged, &evil, b"").await;
    running.send("POST", "/v1/tx/plain", &[("X-Trace-ID", "t-1")], envelope(json!({})).as_bytes()).await;
    running.post("/v1/tx/plain", envelope(json!({"type": "\n{\"msg\":\"forged\"}"}))).await;
    running.server.stop().await;
    guard.flush();

    let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        log::check(line).unwrap();
    }
    let requests: Vec<_> = lines.iter().filter(|line| line["msg"] == "api_request").collect();
    assert_eq!(requests.len(), 3, "{text}");
    assert_eq!((&requests[0]["route"], &requests[0]["code"]), (&json!("proxy"), &json!(404)));
    assert!(requests[0]["trace_id"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!((&requests[1]["result"], &requests[1]["trace_id"]), (&json!("accepted"), &json!("t-1")));
    assert_eq!(requests[1]["bytes"], envelope(json!({})).len());
    assert_eq!(requests[2]["result"], "error");
    assert!(requests[2]["err"].as_str().unwrap().starts_with("invalid tx: type: "));
    let messages: Vec<_> = lines.iter().map(|line| line["msg"].as_str().unwrap()).collect();
    assert_eq!(messages.iter().filter(|msg| **msg == "listen").count(), 2);
    assert_eq!(messages.iter().filter(|msg| **msg == "service_op").count(), 4);
}
