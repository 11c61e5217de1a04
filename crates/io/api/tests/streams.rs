//! Event streams (contract: http, section 4.1).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_api::STREAMS_MAX;
use aequa_api::backend::{
    CheckpointRef, EVENT_QUEUE, EventBody, Fence, Options, Readiness, TxStatus, TxView,
};
use aequa_types::{Digest, Height, TxHash};
use common::{Running, Stream};
use std::sync::atomic::Ordering::SeqCst;

async fn open(running: &Running, query: &str, headers: &[(&str, &str)]) -> Stream {
    let mut stream =
        Stream::open(running.server.validator_api(), &format!("/v1/events{query}"), headers).await;
    let head = stream.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
    stream
}

fn tx(byte: u8) -> EventBody {
    let hash = TxHash::repeat_byte(byte);
    EventBody::Tx(TxView { hash, status: TxStatus::Pending, height: None, index: None, reason: None })
}

#[tokio::test]
async fn blocks_are_the_default_topic_with_id_event_and_one_json_line() {
    let running = Running::start(Options::default()).await;
    let mut stream = open(&running, "", &[]).await;
    running.node.announce(0, 1, tx(1));
    let block = running.node.decide(vec![]);
    let event = stream.until("\n\n").await;
    assert!(event.contains("id: 1-0\n") && event.contains("event: block\n"), "{event}");
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["digest"], serde_json::json!(block.block.header.digest()));
    assert_eq!(data["certificate"]["height"], 1);
}

#[tokio::test]
async fn only_the_topics_asked_for_are_sent() {
    let running = Running::start(Options::default()).await;
    let mut stream = open(&running, "?topics=tx,checkpoint,readiness", &[]).await;
    running.node.decide(vec![]);
    running.node.announce(1, 1, tx(1));
    running.node.announce(
        1,
        2,
        EventBody::Checkpoint(CheckpointRef { height: Height(1), block_root: Digest::ZERO }),
    );
    running.node.announce(1, 3, EventBody::Readiness(Readiness::default()));
    let events = stream.until("\"reasons\":[]}\n\n").await;
    let topics: Vec<_> = events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(topics, ["tx", "checkpoint", "readiness"]);
    let ids: Vec<_> = events.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["1-1", "1-2", "1-3"]);
}

#[tokio::test]
async fn a_reader_resumes_from_stored_blocks_without_gap_or_repetition() {
    let running = Running::start(Options::default()).await;
    for _ in 0..5 {
        running.node.decide(vec![]);
    }
    let ids = |events: &str| -> Vec<String> {
        events.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
    };
    let mut by_height = open(&running, "?from_height=3", &[]).await;
    let mut by_id = open(&running, "", &[("Last-Event-ID", "3-7")]).await;
    for _ in 0..3 {
        running.node.decide(vec![]);
    }
    assert_eq!(ids(&by_height.until("id: 8-0\n").await), ["3-0", "4-0", "5-0", "6-0", "7-0", "8-0"]);
    assert_eq!(ids(&by_id.until("id: 8-0\n").await), ["4-0", "5-0", "6-0", "7-0", "8-0"]);
}

#[tokio::test]
async fn bad_resume_points_and_topics_are_refused() {
    let running = Running::start(Options::default()).await;
    for _ in 0..3 {
        running.node.decide(vec![]);
    }
    *running.node.pruned_below.lock().unwrap() = 3;
    running.get("/v1/events?from_height=1").await.assert_refusal(410, "PRUNED");
    running.send("GET", "/v1/events", &[("Last-Event-ID", "1-0")], b"").await.assert_refusal(410, "PRUNED");
    running.get("/v1/events?from_height=x").await.assert_refusal(400, "BAD_HEIGHT");
    running.get("/v1/events?topics=block,weather").await.assert_refusal(400, "BAD_REQUEST");
    for bad in ["7", "a-b", "1-", "-1"] {
        running
            .send("GET", "/v1/events", &[("Last-Event-ID", bad)], b"")
            .await
            .assert_refusal(400, "BAD_REQUEST");
    }
}

#[tokio::test]
async fn an_empty_last_event_id_is_none() {
    let running = Running::start(Options::default()).await;
    running.node.decide(vec![]);
    let mut stream = open(&running, "", &[("Last-Event-ID", "")]).await;
    running.node.decide(vec![]);
    assert!(stream.until("\n\n").await.contains("id: 2-0\n"));
    let mut replay = open(&running, "?from_height=1", &[("Last-Event-ID", "")]).await;
    assert!(replay.until("\n\n").await.contains("id: 1-0\n"));
}

#[tokio::test]
async fn the_streams_of_one_address_leave_room_for_others_and_for_its_own_requests() {
    let running = Running::start(Options { connections_max: 64, ..Options::default() }).await;
    let mut streams = Vec::new();
    // A quarter of the connections for streams, half of that for one shared address.
    for _ in 0..8 {
        streams.push(open(&running, "", &[]).await);
    }
    running.get("/v1/events").await.assert_refusal(503, "TOO_MANY_STREAMS");
    // Behind a proxy on this machine, somebody else.
    let forwarded = [("X-Forwarded-For", "192.0.2.1")];
    streams.push(open(&running, "", &forwarded).await);
    assert_eq!(running.get("/health").await.status, 200);
    assert_eq!(running.post("/v1/duty", r#"{"type":"sync","height":1}"#).await.status, 202);
    assert_eq!(running.metric(r#"api_turned_away_total{reason="streams",service="api"}"#), 1);
}

#[tokio::test]
async fn a_slow_reader_is_told_that_it_lagged_and_closed() {
    let running = Running::start(Options::default()).await;
    let stream = open(&running, "?topics=tx", &[]).await;
    // No await between the sends: on one thread the reader cannot keep up.
    for n in 0..=EVENT_QUEUE as u64 {
        running.node.announce(1, n + 1, tx(1));
    }
    let rest = stream.rest().await;
    assert!(rest.contains("event: lagged\n"), "{rest}");
}

#[tokio::test]
async fn a_fence_is_the_last_event_of_every_stream() {
    let running = Running::start(Options::default()).await;
    let stream = open(&running, "", &[]).await;
    running.node.fenced.store(true, SeqCst);
    running.node.decide(vec![]);
    let fence = Fence { since: "2026-01-01T00:00:00Z".into(), reason: "2/4 peers".into() };
    running.node.announce(1, 1, EventBody::Fence(fence));
    let rest = stream.rest().await;
    assert_eq!(rest.matches("event: ").count(), 1, "{rest}");
    assert!(rest.contains("event: fence\n") && rest.contains("2/4 peers"), "{rest}");
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let running = Running::start(Options::default()).await;
    let mut streams = Vec::new();
    // An address gets half of them at most: the limit is filled from several.
    for n in 0..STREAMS_MAX {
        let from = std::net::SocketAddr::from(([127, 0, 1, (n / 60) as u8 + 1], 0));
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from).unwrap();
        let mut stream = socket.connect(running.server.validator_api()).await.unwrap();
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        streams.push(stream);
    }
    running.get("/v1/events").await.assert_refusal(503, "TOO_MANY_STREAMS");
    drop(streams.pop());
    loop {
        // The server notices the closed socket when it is next polled.
        let mut stream = Stream::open(running.server.validator_api(), "/v1/events", &[]).await;
        if stream.until("\r\n").await.contains("200") {
            break;
        }
    }
}

#[tokio::test]
async fn stopping_ends_the_streams() {
    let running = Running::start(Options::default()).await;
    let stream = open(&running, "", &[]).await;
    running.server.stop().await;
    stream.rest().await;
}
