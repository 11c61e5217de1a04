//! Who is connected, and who is too slow (contract: http, section 2; slow clients must not keep
//! others out).
//!
//! A connection is `Head` until its request head is complete, `Busy` while requests are being
//! answered, `Idle` between them. When a cap is reached, a newcomer takes the place of the oldest
//! connection that has nothing to show; only when all are busy is it turned away.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// Most connections of one listener: each costs a task and up to two buffers of 16 KiB.
pub const CONNECTIONS_MAX: usize = 1024;
/// Most connections of one address.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// Longest time a request head may take.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest silence between requests, and longest time a client may refuse to take bytes.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Open connections of one listener.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    open: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// A connection's place; leaving it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    id: u64,
    pub activity: Arc<Activity>,
    pub evicted: CancellationToken,
}

impl Connections {
    /// A place for a new connection, or none.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut table = lock(&self.table);
        let of_address = table.open.values().filter(|entry| entry.address == address).count();
        if of_address >= CONNECTIONS_PER_ADDRESS_MAX {
            table.evict(|entry| entry.address == address)?;
        } else if table.open.len() >= CONNECTIONS_MAX {
            table.evict(|_| true)?;
        }
        let id = table.next_id;
        table.next_id += 1;
        let (activity, evicted) = (Arc::new(Activity::new()), CancellationToken::new());
        let entry = Entry { address, activity: Arc::clone(&activity), evicted: evicted.clone() };
        table.open.insert(id, entry);
        Some(Place { connections: Arc::clone(self), id, activity, evicted })
    }
}

impl Table {
    /// Ends the connection that has had nothing to show for the longest time, unfinished heads first.
    fn evict(&mut self, candidate: impl Fn(&Entry) -> bool) -> Option<()> {
        let victim = self
            .open
            .iter()
            .filter(|(_, entry)| candidate(entry))
            .filter_map(|(id, entry)| entry.activity.evictable().map(|rank| (rank, *id)))
            .min()?
            .1;
        self.open.remove(&victim)?.evicted.cancel();
        Some(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.connections.table).open.remove(&self.id);
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    blocked_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Head(Instant),
    Idle(Instant),
    Busy(usize),
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State { phase: Phase::Head(Instant::now()), blocked_since: None }))
    }

    /// A request has begun; it ends when the value is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        let mut state = lock(&self.0);
        let others = if let Phase::Busy(requests) = state.phase { requests } else { 0 };
        state.phase = Phase::Busy(others + 1);
        Busy(Arc::clone(self))
    }

    /// Whether the client has used up its patience.
    pub fn is_overdue(&self, now: Instant) -> bool {
        let state = lock(&self.0);
        let waited = |since: Instant| now.saturating_duration_since(since);
        let blocked = state.blocked_since.is_some_and(|since| waited(since) > IDLE_TIME_MAX);
        blocked
            || match state.phase {
                Phase::Head(since) => waited(since) > HEAD_TIME_MAX,
                Phase::Idle(since) => waited(since) > IDLE_TIME_MAX,
                Phase::Busy(_) => false,
            }
    }

    /// Rank among those that may be ended, lowest first; none when busy.
    fn evictable(&self) -> Option<Phase> {
        Some(lock(&self.0).phase).filter(|phase| !matches!(phase, Phase::Busy(_)))
    }

    fn received(&self) {
        let mut state = lock(&self.0);
        if matches!(state.phase, Phase::Idle(_)) {
            state.phase = Phase::Head(Instant::now());
        }
    }

    fn write_blocked(&self, blocked: bool) {
        let mut state = lock(&self.0);
        state.blocked_since =
            if blocked { state.blocked_since.or_else(|| Some(Instant::now())) } else { None };
    }
}

/// A request being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = lock(&self.0.0);
        if let Phase::Busy(requests) = state.phase {
            state.phase = if requests > 1 { Phase::Busy(requests - 1) } else { Phase::Idle(Instant::now()) };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket that reports what passes through it.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    pub inner: S,
    pub activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.activity.write_blocked(result.is_pending());
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.activity.write_blocked(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_slow_head_an_idle_and_a_blocked_client_run_out_of_patience_and_a_busy_one_does_not() {
        let activity = Arc::new(Activity::new());
        let now = Instant::now();
        let (head, idle) = (HEAD_TIME_MAX + Duration::from_secs(1), IDLE_TIME_MAX + Duration::from_secs(1));
        assert!(!activity.is_overdue(now));
        assert!(activity.is_overdue(now + head));
        let busy = activity.begin();
        assert!(!activity.is_overdue(now + 10 * idle));
        activity.write_blocked(true);
        assert!(activity.is_overdue(now + idle));
        activity.write_blocked(false);
        drop(busy);
        assert!(!activity.is_overdue(now + head));
        assert!(activity.is_overdue(Instant::now() + idle));
        activity.received();
        assert!(activity.is_overdue(Instant::now() + head));
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_oldest_that_shows_nothing() {
        let connections = Arc::new(Connections::default());
        let mut places: Vec<_> =
            (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| connections.admit(HOME).unwrap()).collect();
        let busy = places[0].activity.begin();
        places.push(connections.admit(HOME).unwrap());
        assert!(!places[0].evicted.is_cancelled(), "it is busy");
        assert!(places[1].evicted.is_cancelled());
        assert_eq!(lock(&connections.table).open.len(), CONNECTIONS_PER_ADDRESS_MAX);
        drop((places, busy));
        assert!(lock(&connections.table).open.is_empty());
    }

    #[test]
    fn a_newcomer_is_turned_away_when_all_are_busy() {
        let connections = Arc::new(Connections::default());
        let places: Vec<_> = (0..CONNECTIONS_MAX as u32)
            .map(|n| connections.admit(IpAddr::from((n + 1).to_be_bytes())).unwrap())
            .collect();
        let busy: Vec<_> = places.iter().map(|place| place.activity.begin()).collect();
        assert!(connections.admit(HOME).is_none());
        drop(busy);
        assert!(connections.admit(HOME).is_some());
    }
}
