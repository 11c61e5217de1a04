//! Long links: a proxy before every node that lets each byte wait.
//!
//! Each direction is delayed by the same time; order is kept, and bandwidth is that of the machine. A caller is
//! accepted at once and waits for the node behind the proxy, as a packet would on its way.

use crate::error::BenchError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes taken from a socket at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks on their way in one direction of one connection: 128 MiB if all are full, far more than any link of
/// a test carries in its delay.
const CHUNKS_MAX: usize = 2048;
/// Pause before a node that does not listen yet is called again.
const RETRY: Duration = Duration::from_millis(20);
/// Longest wait for one.
const RETRIES_MAX: u32 = 500;

/// Proxies before the nodes of a cluster; gone when dropped.
#[derive(Debug)]
pub struct Links {
    carried: Arc<AtomicU64>,
    /// Kept for its drop.
    _tasks: JoinSet<()>,
}

impl Links {
    /// Listens on each port `from` and forwards to `to`.
    pub async fn open(ports: &[(u16, u16)], delay: Duration) -> Result<Self, BenchError> {
        let carried = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        for (from, to) in ports.iter().copied() {
            let listener = TcpListener::bind(("127.0.0.1", from)).await;
            let listener = listener.map_err(BenchError::system(format!("cannot listen on port {from}")))?;
            tasks.spawn(accept(listener, to, delay, carried.clone()));
        }
        Ok(Self { carried, _tasks: tasks })
    }

    /// Bytes that came through so far, in both directions.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, to: u16, delay: Duration, carried: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        // An accept fails for the caller's sake, or for want of descriptors: the next may succeed.
        let Ok((caller, _)) = listener.accept().await else { continue };
        connections.spawn(connect(caller, to, delay, carried.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until either side ends it.
async fn connect(caller: TcpStream, to: u16, delay: Duration, carried: Arc<AtomicU64>) {
    let Some(node) = call(to).await else { return };
    if caller.set_nodelay(true).and_then(|()| node.set_nodelay(true)).is_err() {
        return;
    }
    let ((from_caller, to_caller), (from_node, to_node)) = (caller.into_split(), node.into_split());
    let there = forward(from_caller, to_node, delay, &carried);
    let back = forward(from_node, to_caller, delay, &carried);
    let _ = tokio::join!(there, back);
}

async fn call(port: u16) -> Option<TcpStream> {
    for _ in 0..RETRIES_MAX {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(node) => return Some(node),
            Err(_) => sleep(RETRY).await,
        }
    }
    None
}

/// Copies until the end, every byte later by `delay`; the end too.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
    carried: &AtomicU64,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let bytes = from.read_buf(&mut chunk).await?;
            let due = Instant::now() + delay;
            if sender.send((due, chunk)).await.is_err() || bytes == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            to.write_all(&chunk).await?;
            carried.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const DELAY: Duration = Duration::from_millis(40);

    #[tokio::test(start_paused = true)]
    async fn every_byte_comes_late_by_the_delay_and_in_order() {
        let ((mut near, from), (to, mut far)) = (duplex(1 << 20), duplex(1 << 20));
        tokio::spawn(async move { forward(from, to, DELAY, &AtomicU64::new(0)).await });
        let began = Instant::now();
        for number in 0..10u8 {
            near.write_all(&[number; 3]).await.unwrap();
            sleep(Duration::from_millis(5)).await;
        }
        for number in 0..10u8 {
            let mut bytes = [0; 3];
            far.read_exact(&mut bytes).await.unwrap();
            let late = began.elapsed() - Duration::from_millis(5) * u32::from(number);
            assert_eq!(bytes, [number; 3]);
            // The timer's grain is a millisecond; what was read later waited in the socket.
            assert!(late >= DELAY, "{number} came after {late:?}");
        }
        assert!(began.elapsed() <= DELAY + Duration::from_millis(51), "each waited for itself only");
    }

    #[tokio::test(start_paused = true)]
    async fn much_at_once_is_as_late_as_little() {
        let ((mut near, from), (to, mut far)) = (duplex(1 << 20), duplex(1 << 20));
        tokio::spawn(async move { forward(from, to, DELAY, &AtomicU64::new(0)).await });
        let began = Instant::now();
        let sent: Vec<u8> = (0..1 << 22).map(|byte: u32| byte.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        tokio::spawn(async move { near.write_all(&sent).await.unwrap() });
        let mut received = vec![0; expected.len()];
        far.read_exact(&mut received).await.unwrap();
        assert_eq!(received, expected);
        assert!(began.elapsed() <= DELAY + Duration::from_millis(2), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_comes_late_too() {
        let ((near, from), (to, mut far)) = (duplex(1 << 10), duplex(1 << 10));
        tokio::spawn(async move { forward(from, to, DELAY, &AtomicU64::new(0)).await });
        let began = Instant::now();
        drop(near);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(began.elapsed() >= DELAY);
    }
}
