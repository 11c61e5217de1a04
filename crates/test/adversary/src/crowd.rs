//! Strangers at the APIs of nodes: what is cheap to send and dear to take, and whoever takes a place and keeps
//! it, all at once. A neighbour among them only wants to know how the node is.

use crate::AdversaryError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Pause of a greedy stranger between an answer and its next question.
const GREEDY_EVERY: Duration = Duration::from_millis(250);
/// Pause between two bytes of one who trickles.
const TRICKLE_EVERY: Duration = Duration::from_millis(500);
/// How long one who does not read stays before it comes again, unless it is sent away.
const DEAF_FOR: Duration = Duration::from_secs(20);
/// Bytes that a stranger's socket takes unread, about.
const RECEIVE_BYTES: u32 = 4096;
/// Addresses strangers come from.
const ADDRESSES: u32 = 8;
/// Pause of the neighbour between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest the neighbour waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds until the next slot is posted for. Posted again, the same costs as much to take; decided, each is kept, and
/// what is shown of them grows until a list is full of them, after 100 s.
const SLOT_SECONDS: u64 = 1;
/// Objects in the payload of a duty that is taken: with as many values as there may be.
const TAKEN_OBJECTS: usize = 4_990;
/// Objects in one that fills a body and is refused.
const BOMB_OBJECTS: usize = 140_000;

/// How a stranger behaves on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Asks, reads the answer, and asks again.
    Greedy,
    /// Asks once and never reads.
    Deaf,
    /// Asks a byte at a time.
    Trickling,
}

/// One kind of stranger.
struct Kind {
    name: &'static str,
    manner: Manner,
    /// What it sends, so many seconds after the crowd came.
    request: fn(u64) -> Vec<u8>,
}

const KINDS: [Kind; 17] = [
    Kind {
        name: "streams from the start",
        manner: Manner::Deaf,
        request: |_| get("/v1/events?from_height=1"),
    },
    Kind {
        name: "streams of duties",
        manner: Manner::Deaf,
        request: |_| get("/v1/events?topics=duty,block,tx"),
    },
    Kind { name: "lists of duties, unread", manner: Manner::Deaf, request: |_| get("/v1/duty?limit=100") },
    Kind { name: "lists of blocks, unread", manner: Manner::Deaf, request: |_| get("/v1/blocks?limit=100") },
    Kind { name: "blocks, unread", manner: Manner::Deaf, request: |_| get("/v1/blocks/latest") },
    Kind { name: "at the upstream", manner: Manner::Deaf, request: |_| get("/eth/v1/node/version") },
    Kind { name: "tunnels", manner: Manner::Deaf, request: |_| upgrade() },
    Kind { name: "idle", manner: Manner::Deaf, request: |_| Vec::new() },
    Kind { name: "slow heads", manner: Manner::Trickling, request: |_| get("/v1/blocks/1") },
    Kind { name: "slow bodies", manner: Manner::Trickling, request: |_| duty(1, TAKEN_OBJECTS) },
    Kind { name: "lists of duties", manner: Manner::Greedy, request: |_| get("/v1/duty?limit=100") },
    Kind { name: "lists of blocks", manner: Manner::Greedy, request: |_| get("/v1/blocks?limit=100") },
    Kind { name: "blocks", manner: Manner::Greedy, request: |_| get("/v1/blocks/latest") },
    Kind { name: "evidence", manner: Manner::Greedy, request: |_| get("/v1/evidence") },
    Kind {
        name: "duties",
        manner: Manner::Greedy,
        request: |seconds| duty(1 + seconds / SLOT_SECONDS, TAKEN_OBJECTS),
    },
    Kind { name: "duties of a mebibyte", manner: Manner::Greedy, request: |_| duty(1, BOMB_OBJECTS) },
    Kind { name: "transactions of a mebibyte", manner: Manner::Greedy, request: |_| large_transaction() },
];

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

fn upgrade() -> Vec<u8> {
    let head =
        "GET /eth/v1/tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    head.as_bytes().to_vec()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// The same duty at every node, so that all agree on it when it may be.
fn duty(slot: u64, objects: usize) -> Vec<u8> {
    let payload = vec![r#"{"":0}"#; objects].join(",");
    post("/v1/duty", &format!(r#"{{"type":"sync","height":{slot},"payload":[{payload}]}}"#))
}

fn large_transaction() -> Vec<u8> {
    let data = "00".repeat(500_000);
    post("/v1/tx", &format!(r#"{{"type":"plaintext_v1","data":"0x{data}"}}"#))
}

/// What became of one kind of stranger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// Connections it made.
    pub connections: u64,
    /// Answers it read, by status.
    pub answers: BTreeMap<u16, u64>,
}

/// How the neighbour was served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Times it asked.
    pub asked: u64,
    /// Times it was not told 200 within its patience, and what it got.
    pub failures: Vec<String>,
    /// Longest wait for an answer.
    pub slowest: Duration,
}

#[derive(Debug, Default)]
struct Tally {
    received: BTreeMap<&'static str, Received>,
    served: Served,
}

/// Where a node is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    pub api: SocketAddr,
    pub monitoring: SocketAddr,
}

/// Strangers at work; they go when it is dropped.
pub(crate) struct Crowd {
    tasks: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
}

impl Crowd {
    /// Sends `of_each` strangers of every kind to every node, and one neighbour. Must be called inside a tokio
    /// runtime.
    pub fn gather(nodes: &[Doors], of_each: u32) -> Self {
        let (mut tasks, tally) = (JoinSet::new(), Arc::new(Mutex::new(Tally::default())));
        let start = Instant::now();
        for node in nodes {
            for (number, kind) in (0..of_each).flat_map(|number| KINDS.iter().map(move |kind| (number, kind)))
            {
                tasks.spawn(haunt(kind, number, node.api, start, Arc::clone(&tally)));
            }
            if of_each > 0 {
                tasks.spawn(look(node.api, "/health", Arc::clone(&tally)));
                tasks.spawn(look(node.monitoring, "/livez", Arc::clone(&tally)));
            }
        }
        Self { tasks, tally }
    }

    /// Sends everybody away; what they received, by kind, and how the neighbour was served.
    pub async fn leave(mut self) -> (BTreeMap<&'static str, Received>, Served) {
        self.tasks.shutdown().await;
        let tally = std::mem::take(&mut *self.tally.lock());
        (tally.received, tally.served)
    }
}

/// Comes again and again, until it is dropped.
async fn haunt(kind: &'static Kind, number: u32, api: SocketAddr, start: Instant, tally: Arc<Mutex<Tally>>) {
    loop {
        if let Ok(stream) = connect(number, api).await {
            tally.lock().received.entry(kind.name).or_default().connections += 1;
            let request = || (kind.request)(start.elapsed().as_secs());
            // However it ends, the stranger comes again.
            let _ = match kind.manner {
                Manner::Deaf => deafly(stream, &request()).await,
                Manner::Trickling => trickling(stream, &request()).await,
                Manner::Greedy => greedily(stream, request, kind.name, &tally).await,
            };
        }
        tokio::time::sleep(GREEDY_EVERY).await;
    }
}

/// From one of many addresses, with so little room for what comes that nothing is lost from sight in it.
async fn connect(number: u32, api: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    // All of 127/8 is this machine.
    let own = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number % ADDRESSES);
    socket.bind((own, 0).into())?;
    socket.connect(api).await
}

async fn deafly(mut stream: TcpStream, request: &[u8]) -> std::io::Result<()> {
    stream.write_all(request).await?;
    tokio::time::sleep(DEAF_FOR).await;
    Ok(())
}

async fn trickling(mut stream: TcpStream, request: &[u8]) -> std::io::Result<()> {
    for byte in request {
        stream.write_all(std::slice::from_ref(byte)).await?;
        tokio::time::sleep(TRICKLE_EVERY).await;
    }
    Ok(())
}

async fn greedily(
    mut stream: TcpStream,
    request: impl Fn() -> Vec<u8>,
    name: &'static str,
    tally: &Mutex<Tally>,
) -> std::io::Result<()> {
    loop {
        stream.write_all(&request()).await?;
        let status = answer(&mut stream).await?;
        *tally.lock().received.entry(name).or_default().answers.entry(status).or_default() += 1;
        tokio::time::sleep(GREEDY_EVERY).await;
    }
}

/// Reads an answer to its end; its status.
async fn answer(stream: &mut TcpStream) -> std::io::Result<u16> {
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let (mut head, mut page) = (Vec::new(), [0; 16 * 1024]);
    let (end, text) = loop {
        let bytes = stream.read(&mut page).await?;
        head.extend_from_slice(&page[..bytes]);
        let end = head.windows(4).position(|window| window == b"\r\n\r\n");
        match end {
            Some(end) => break (end + 4, String::from_utf8_lossy(&head[..end]).to_ascii_lowercase()),
            None if bytes == 0 || head.len() > page.len() => return Err(broken()),
            None => {}
        }
    };
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => {
            let mut left = length.saturating_sub(head.len() - end);
            while left > 0 {
                let bytes = stream.read(&mut page).await?;
                left = left.saturating_sub(bytes);
                if bytes == 0 {
                    return Err(broken());
                }
            }
        }
        None => {
            // In chunks, the last of which is empty.
            let mut last = head.split_off(head.len().saturating_sub(5).max(end));
            while !last.ends_with(b"0\r\n\r\n") {
                let bytes = stream.read(&mut page).await?;
                if bytes == 0 {
                    return Err(broken());
                }
                last.extend_from_slice(&page[..bytes]);
                last.drain(..last.len().saturating_sub(5));
            }
        }
    }
    Ok(status)
}

/// Asks once a second how the node is, over a connection of its own each time.
async fn look(door: SocketAddr, path: &'static str, tally: Arc<Mutex<Tally>>) {
    loop {
        let start = Instant::now();
        let status = tokio::time::timeout(PATIENCE, async {
            let mut stream = TcpStream::connect(door).await?;
            stream.write_all(&get(path)).await?;
            answer(&mut stream).await
        });
        let failure = match status.await {
            Ok(Ok(200)) => None,
            Ok(Ok(status)) => Some(format!("{path}: {status}")),
            Ok(Err(error)) => Some(format!("{path}: {error}")),
            Err(_) => Some(format!("{path}: nothing within {} s", PATIENCE.as_secs())),
        };
        {
            let served = &mut tally.lock().served;
            served.asked += 1;
            served.slowest = served.slowest.max(start.elapsed());
            served.failures.extend(failure);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// An upstream that takes every connection and never answers; it goes when it is dropped.
pub(crate) struct Mute {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Mute {
    pub async fn listen() -> Result<Self, AdversaryError> {
        let fail = |error: std::io::Error| AdversaryError::Process {
            what: "the upstream".into(),
            why: error.to_string(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                // Those that were given up are let go.
                held.retain(|stream: &TcpStream| !is_over(stream));
                held.push(stream);
            }
        });
        Ok(Self { address, _task: task })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Whether the other side has closed; reads what it sent.
fn is_over(stream: &TcpStream) -> bool {
    let mut page = [0; 1024];
    loop {
        match stream.try_read(&mut page) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(text: &'static str) -> std::io::Result<u16> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut asking = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut answering, _) = listener.accept().await.unwrap();
        // In pieces, as a network may deliver them.
        for piece in text.as_bytes().chunks(7) {
            answering.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(answering);
        answer(&mut asking).await
    }

    #[tokio::test]
    async fn answers_are_read_to_their_end_and_broken_ones_are_none() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await.unwrap(), 200);
        let chunked = "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(answered(chunked).await.unwrap(), 503);
        assert!(answered("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").await.is_err());
        assert!(answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab").await.is_err());
    }

    #[tokio::test]
    async fn every_kind_comes_again_after_it_was_sent_away_and_the_neighbour_counts_what_it_gets() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let door = listener.local_addr().unwrap();
        let crowd = Crowd::gather(&[Doors { api: door, monitoring: door }], 1);
        for _ in 0..2 * (KINDS.len() + 2) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
        }
        let (received, served) = crowd.leave().await;
        assert!(received.values().all(|received| received.connections > 0));
        assert_eq!(served.failures.len() as u64, served.asked);
    }

    #[tokio::test]
    async fn a_mute_upstream_takes_requests_and_says_nothing() {
        let mute = Mute::listen().await.unwrap();
        let mut stream = TcpStream::connect(mute.address).await.unwrap();
        stream.write_all(&get("/")).await.unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(nothing.is_err());
    }
}
