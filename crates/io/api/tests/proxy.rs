//! Everything no route takes (contract: http, section 6).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_api::backend::Options;
use aequa_api::{STREAMS_MAX, TUNNELS_MAX};
use common::{Running, Stream};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// An upstream that takes one connection.
struct Upstream {
    listener: TcpListener,
    address: SocketAddr,
}

impl Upstream {
    async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    async fn node_before_it(&self, prefix: &str) -> Running {
        self.small_node_before_it(prefix, aequa_api::CONNECTIONS_MAX).await
    }

    async fn small_node_before_it(&self, prefix: &str, connections_max: usize) -> Running {
        let upstream = Some(format!("http://{}{prefix}", self.address).parse().unwrap());
        Running::start(Options { upstream, connections_max, ..Options::default() }).await
    }

    /// Takes a connection and reads a request head.
    async fn accept(&self) -> (TcpStream, String) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap().to_ascii_lowercase())
    }
}

#[tokio::test]
async fn method_path_query_headers_and_body_pass_and_hop_by_hop_headers_do_not() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("/prefix/").await;
    let headers = [
        ("X-Custom", "kept"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Trace-ID", "trace-9"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "secret"),
        ("Keep-Alive", "timeout=5"),
    ];
    let answer = async {
        let (mut stream, head) = upstream.accept().await;
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 418 I'm a teapot\r\nX-Up: 1\r\nKeep-Alive: 1\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 5\r\n\r\nhello")
            .await
            .unwrap();
        (head, body)
    };
    let (reply, (head, body)) = tokio::join!(running.send("PUT", "/a/b?c=%20d", &headers, b"body"), answer);
    assert!(head.starts_with("put /prefix/a/b?c=%20d http/1.1\r\n"), "{head}");
    assert_eq!(&body, b"body");
    assert!(head.contains("x-custom: kept\r\n") && head.contains("x-trace-id: trace-9\r\n"), "{head}");
    assert!(head.contains("x-forwarded-for: 10.0.0.1, 127.0.0.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", upstream.address)), "{head}");
    for gone in ["te:", "proxy-authorization", "keep-alive", "connection: close"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert_eq!((reply.status, reply.text()), (418, "hello"));
    assert_eq!((reply.header("x-up"), reply.header("x-hop")), (Some("1"), None));
    assert_eq!(reply.header("keep-alive"), None);
    assert!(running.exposition().contains(r#"api_requests_total{code="4xx",route="proxy"} 1"#));
}

#[tokio::test]
async fn tx_plain_goes_upstream_while_the_tx_api_is_off() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let answer = async {
        let (mut stream, head) = upstream.accept().await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        head
    };
    let (reply, head) = tokio::join!(running.post("/v1/tx/plain", "{}"), answer);
    assert_eq!(reply.status, 204);
    assert!(head.starts_with("post /v1/tx/plain http/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_502() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let dead = async { drop(upstream.accept().await) };
    let (reply, ()) = tokio::join!(running.post("/x", "y"), dead);
    reply.assert_text_error(502, "upstream error");
    drop(upstream);
    running.get("/x").await.assert_text_error(502, "upstream error");
}

#[tokio::test]
async fn response_bytes_pass_as_they_come() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let mut client = Stream::open(running.server.validator_api(), "/stream", &[]).await;
    let (mut stream, _) = upstream.accept().await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
    client.until("first").await;
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    client.until("second").await;
}

#[tokio::test]
async fn request_bytes_pass_as_they_come_and_beyond_a_mebibyte() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let mut client = TcpStream::connect(running.server.validator_api()).await.unwrap();
    let size = 3 << 20;
    let head = format!("POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\nfirst");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut stream, _) = upstream.accept().await;
    let mut first = [0; 5];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    let send = async { client.write_all(&vec![7; size - 5]).await.unwrap() };
    let receive = async {
        let mut rest = vec![0; size - 5];
        stream.read_exact(&mut rest).await.unwrap();
        assert!(rest.iter().all(|byte| *byte == 7));
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_body_for_the_upstream_that_does_not_come_is_answered() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let length = [("Content-Length", "5")];
    let client = Stream::open(running.server.validator_api(), "/up", &length).await;
    let _waiting = upstream.accept().await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("BODY_TIMEOUT"), "{answer}");
    assert_eq!(running.metric(r#"api_requests_total{code="408",route="proxy"}"#), 1);
}

#[tokio::test]
async fn an_accepted_upgrade_becomes_a_tunnel() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "k")];
    let mut client = TcpStream::connect(running.server.validator_api()).await.unwrap();
    let mut head = "GET /ws HTTP/1.1\r\nHost: localhost\r\n".to_owned();
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    client.write_all((head + "\r\n").as_bytes()).await.unwrap();
    let (mut stream, head) = upstream.accept().await;
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfrom upstream")
        .await
        .unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"from upstream") {
        seen.push(client.read_u8().await.unwrap());
    }
    assert!(seen.starts_with(b"HTTP/1.1 101 "));
    client.write_all(b"from client").await.unwrap();
    let mut back = [0; 11];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"from client");
    running.node.fenced.store(true, std::sync::atomic::Ordering::SeqCst);
    stream.write_all(b"after").await.unwrap();
    assert_eq!(client.read(&mut back).await.unwrap(), 0, "no byte passes a fence, and no tunnel is kept");
}

#[tokio::test]
async fn a_body_on_its_way_breaks_off_when_the_node_fences() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let mut client = Stream::open(running.server.validator_api(), "/stream", &[]).await;
    let (mut stream, _) = upstream.accept().await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbefore").await.unwrap();
    client.until("before").await;
    running.node.fenced.store(true, std::sync::atomic::Ordering::SeqCst);
    stream.write_all(b"after!").await.unwrap();
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn no_upgrade_but_websocket_passes() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    for (protocol, connection) in
        [("h2c", "Upgrade, HTTP2-Settings"), ("websocket, h2c", "upgrade"), ("TLS/1.0", "upgrade")]
    {
        let head = format!(
            "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\nUpgrade: {protocol}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        let mut client = TcpStream::connect(running.server.validator_api()).await.unwrap();
        client.write_all(head.as_bytes()).await.unwrap();
        let (mut stream, head) = upstream.accept().await;
        for gone in ["upgrade", "http2-settings"] {
            assert!(!head.contains(gone), "{protocol}: {gone} in {head}");
        }
        // Whatever the upstream then says, there is no tunnel.
        let switch = format!("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\nTUNNEL");
        stream.write_all(switch.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 502", "{protocol}");
    }
}

#[tokio::test]
async fn a_request_that_comes_back_ends_at_its_first_turn() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let answer = async {
        let (mut stream, head) = upstream.accept().await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        head
    };
    let via = [("Via", "1.1 another")];
    let (_, head) = tokio::join!(running.send("GET", "/x", &via, b""), answer);
    let via = head.lines().find_map(|line| line.strip_prefix("via: ")).unwrap();
    assert!(via.starts_with("1.1 another, 1.1 aequa-"), "{via}");
    // The upstream is a way back to either listener, to an own route or to the proxy.
    for path in ["/x", "/v1/duty", "/health"] {
        running.send("GET", path, &[("Via", via)], b"").await.assert_refusal(508, "LOOP_DETECTED");
        let monitoring = running.server.monitoring();
        let reply = common::request(monitoring, "GET", path, &[("Via", via)], b"").await;
        reply.assert_refusal(508, "LOOP_DETECTED");
    }
}

#[tokio::test]
async fn a_path_stays_below_the_prefix_and_an_own_route_is_no_path_of_the_upstream() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("/prefix").await;
    for climbs in ["/../admin", "/%2e%2e/admin", "/a/..%2f..%2fadmin", "/v1/../v1/blocks/1", "/v1/./blocks/1"]
    {
        running.get(climbs).await.assert_refusal(400, "BAD_PATH");
    }
    for own in ["//v1/blocks/1", "/v1/blocks/1/", "/v1/%64uty", "//health"] {
        let reply = running.get(own).await;
        reply.assert_text_error(404, "404 page not found");
        assert!(reply.header("x-aequa-reason").unwrap().contains("spelled otherwise"));
    }
    let answer = async {
        let (mut stream, head) = upstream.accept().await;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        head
    };
    let (reply, head) = tokio::join!(running.get("//eth/v1/node/version"), answer);
    assert_eq!(reply.status, 204);
    assert!(head.starts_with("get /prefix//eth/v1/node/version http/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn status_codes_of_the_upstream_make_at_most_nine_series() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    for code in [200, 299, 404, 418, 499, 503, 599, 600, 999] {
        let answer = async {
            let (mut stream, _) = upstream.accept().await;
            let head = format!("HTTP/1.1 {code} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
        };
        let (reply, ()) = tokio::join!(running.get("/x"), answer);
        assert_eq!(reply.status, code);
    }
    let exposition = running.exposition();
    let series: Vec<_> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("api_requests_total{code=\"")?.split_once("\",route=\"proxy\"}"))
        .collect();
    assert_eq!(series, [("2xx", " 2"), ("4xx", " 3"), ("5xx", " 2"), ("6xx", " 1"), ("9xx", " 1")]);
}

#[tokio::test]
async fn an_upstream_that_hangs_closes_neither_own_routes_nor_streams_and_is_answered_for() {
    let upstream = Upstream::bind().await;
    // A quarter of them for the upstream, half of that for one shared address.
    let running = upstream.small_node_before_it("", 64).await;
    let mut hanging = Vec::new();
    for _ in 0..8 {
        let client = Stream::open(running.server.validator_api(), "/hang", &[]).await;
        hanging.push((client, upstream.accept().await));
    }
    running.get("/hang").await.assert_refusal(503, "TOO_MANY_PROXIED");
    assert_eq!(running.metric(r#"api_turned_away_total{reason="proxied",service="api"}"#), 1);
    assert_eq!(running.post("/v1/duty", r#"{"type":"sync","height":1}"#).await.status, 202);
    let mut stream = Stream::open(running.server.validator_api(), "/v1/events", &[]).await;
    assert!(stream.until("\r\n").await.contains("200"));
    let answer = hanging[0].0.until("upstream timeout\n").await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}

#[tokio::test]
async fn a_tunnel_does_not_make_way_for_newcomers() {
    let upstream = Upstream::bind().await;
    let running = upstream.small_node_before_it("", 32).await;
    let address = running.server.validator_api();
    let headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let mut client = Stream::open(address, "/ws", &headers).await;
    let (mut stream, _) = upstream.accept().await;
    let switch = b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(switch).await.unwrap();
    client.until("\r\n\r\n").await;
    let mut newcomers = Vec::new();
    for _ in 0..64 {
        newcomers.push(TcpStream::connect(address).await.unwrap());
    }
    // The last newcomers are counted when this answer comes.
    assert_eq!(running.get("/health").await.status, 200);
    assert!(running.metric(r#"api_turned_away_total{reason="evicted",service="api"}"#) > 0);
    stream.write_all(b"still there").await.unwrap();
    client.until("still there").await;
}

#[tokio::test]
async fn tunnels_have_places_of_their_own_and_none_is_free_before_it_ends() {
    let upstream = Upstream::bind().await;
    let running = upstream.node_before_it("").await;
    let address = running.server.validator_api();
    let headers = [("Connection", "Upgrade"), ("Upgrade", "WebSocket")];
    let open = async || {
        let mut client = Stream::open(address, "/ws", &headers).await;
        let (mut stream, _) = upstream.accept().await;
        stream
            .write_all(b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
        (client, stream)
    };
    let mut tunnels = Vec::new();
    // Half of them for one shared address.
    for _ in 0..TUNNELS_MAX / 2 {
        tunnels.push(open().await);
    }
    let ask = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let refused = async || {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        answer == *b"HTTP/1.1 503"
    };
    assert!(refused().await);
    assert_eq!(running.metric(r#"api_turned_away_total{reason="tunnels",service="api"}"#), 1);
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX / 2 {
        let mut stream = Stream::open(address, "/v1/events", &[]).await;
        assert!(stream.until("\r\n").await.contains("200"));
        streams.push(stream);
    }
    assert_eq!(running.get("/health").await.status, 200);
    drop(tunnels.pop());
    // The tunnel ends when the node has seen that both sides are closed.
    while refused().await {}
}
