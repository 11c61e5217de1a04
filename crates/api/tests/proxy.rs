//! Everything no route takes (contract: http, section 6).
#![allow(clippy::unwrap_used)]

mod common;

use aequa_api::backend::Options;
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
        let upstream = Some(format!("http://{}{prefix}", self.address).parse().unwrap());
        Running::start(Options { upstream, ..Options::default() }).await
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
    assert!(running.exposition().contains(r#"api_requests_total{code="418",route="proxy"} 1"#));
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
