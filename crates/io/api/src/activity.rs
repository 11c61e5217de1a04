//! What a connection is doing, and for how long we have waited for its client.
//!
//! A connection is `Head` until its request head is complete, `Busy` while requests are being answered, `Idle`
//! between them. Head and idle time are bounded. While a body comes in or an answer goes out, a client is
//! judged by progress: it has some patience to use up, and every byte that passes gives a little back, so
//! that only who stays below [`BYTES_PER_S_MIN`] runs out of it, however long the body is.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest time a request head may take.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest silence between requests.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest silence, both ways, of what has a place of its own: event streams and websockets that live send
/// something, those whose peer vanished do not.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Slowest client: half of what a telephone modem carried.
pub const BYTES_PER_S_MIN: u32 = 4096;
/// How long a client below that rate may keep us waiting for its body: a lost packet or two.
pub const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// How long one may keep us waiting to take an answer: the kernel's buffers are full before it starts.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// What an idle connection is taken to be younger when one has to make way: its client has shown that it
/// finishes what it begins.
const IDLE_CREDIT: Duration = crate::request::BODY_TIME_MAX;

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    body: Patience,
    answer: Patience,
    /// The request has a place of its own kind; it need not make way for others.
    keeps_place: bool,
    /// When a byte passed last, in either direction.
    moved: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head(Instant),
    Idle(Instant),
    Busy { since: Instant, requests: usize },
}

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing more is asked.
    Idle,
    /// The client is too slow.
    Slow,
}

impl Activity {
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State {
            phase: Phase::Head(now),
            body: Patience::of(BODY_PATIENCE),
            answer: Patience::of(ANSWER_PATIENCE),
            keeps_place: false,
            moved: now,
        }))
    }

    /// A request has begun; it ends when the value is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state();
        state.phase = match state.phase {
            Phase::Busy { since, requests } => Phase::Busy { since, requests: requests + 1 },
            Phase::Head(_) | Phase::Idle(_) => Phase::Busy { since: Instant::now(), requests: 1 },
        };
        state.body = Patience::of(BODY_PATIENCE);
        state.keeps_place = false;
        Busy(Arc::clone(self))
    }

    /// The request being answered has a place that nobody else may take.
    pub fn keep_place(&self) {
        self.state().keeps_place = true;
    }

    /// Whether the client has used up its time.
    pub fn overdue(&self, now: Instant) -> Option<Overdue> {
        let state = self.state();
        let waited = |since: Instant| now.saturating_duration_since(since);
        let slow = state.body.is_over(now) || state.answer.is_over(now);
        match state.phase {
            _ if slow => Some(Overdue::Slow),
            Phase::Head(since) if waited(since) > HEAD_TIME_MAX => Some(Overdue::Slow),
            Phase::Idle(since) if waited(since) > IDLE_TIME_MAX => Some(Overdue::Idle),
            Phase::Busy { .. } if state.keeps_place && waited(state.moved) > SILENCE_MAX => {
                Some(Overdue::Idle)
            }
            Phase::Head(_) | Phase::Idle(_) | Phase::Busy { .. } => None,
        }
    }

    /// Since when we have been waiting for the client; none while it waits for us. Who has kept us waiting
    /// longest makes way first.
    pub fn waited_for_since(&self) -> Option<Instant> {
        let state = self.state();
        match state.phase {
            Phase::Head(since) => Some(since),
            Phase::Idle(since) => Some(since + IDLE_CREDIT),
            Phase::Busy { since, .. } => {
                let waits = state.body.waiting_since.or(state.answer.waiting_since).is_some();
                (waits && !state.keeps_place).then_some(since)
            }
        }
    }

    pub fn is_busy(&self) -> bool {
        matches!(self.state().phase, Phase::Busy { .. })
    }

    /// When a byte passed last, in either direction.
    pub fn moved(&self) -> Instant {
        self.state().moved
    }

    fn received(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.moved = now;
        if matches!(state.phase, Phase::Idle(_)) {
            state.phase = Phase::Head(now);
        }
    }

    fn sent(&self, result: &Poll<io::Result<usize>>) {
        let now = Instant::now();
        let mut state = self.state();
        match result {
            Poll::Pending => state.answer.wait(now),
            Poll::Ready(sent) => {
                state.moved = now;
                state.answer.passed(sent.as_ref().copied().unwrap_or_default(), now);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time a client may keep us waiting, spent by waiting and earned by bytes.
#[derive(Debug)]
struct Patience {
    max: Duration,
    left: Duration,
    waiting_since: Option<Instant>,
}

impl Patience {
    fn of(max: Duration) -> Self {
        Self { max, left: max, waiting_since: None }
    }

    fn wait(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    fn passed(&mut self, bytes: usize, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
        let earned = Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / BYTES_PER_S_MIN;
        self.left = self.max.min(self.left + earned);
    }

    fn is_over(&self, now: Instant) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_duration_since(since) > self.left)
    }
}

/// A request being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Phase::Busy { since, requests } = state.phase {
            state.phase = match requests {
                0 | 1 => Phase::Idle(Instant::now()),
                _ => Phase::Busy { since, requests: requests - 1 },
            };
        }
    }
}

/// A request body that reports how it comes in.
#[derive(Debug)]
pub(crate) struct WatchedBody {
    pub body: Incoming,
    pub activity: Arc<Activity>,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let mut state = self.activity.state();
        if frame.is_pending() {
            state.body.wait(Instant::now());
        }
        let frame = ready!(frame);
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        state.body.passed(bytes, Instant::now());
        drop(state);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.activity.state().body.waiting_since = None;
    }
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
        self.activity.sent(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.activity.sent(&result);
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

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_head_and_an_idle_client_run_out_of_time_and_one_that_waits_for_us_does_not() {
        let activity = Arc::new(Activity::new());
        let now = Instant::now();
        assert_eq!(activity.overdue(now), None);
        assert_eq!(activity.overdue(now + HEAD_TIME_MAX + SECOND), Some(Overdue::Slow));
        let busy = activity.begin();
        assert_eq!(activity.overdue(now + 10 * IDLE_TIME_MAX), None);
        drop(busy);
        assert_eq!(activity.overdue(now + HEAD_TIME_MAX + SECOND), None);
        assert_eq!(activity.overdue(Instant::now() + IDLE_TIME_MAX + SECOND), Some(Overdue::Idle));
        activity.received();
        assert_eq!(activity.overdue(Instant::now() + HEAD_TIME_MAX + SECOND), Some(Overdue::Slow));
    }

    #[test]
    fn a_request_with_a_place_of_its_own_ends_after_a_long_silence() {
        let activity = Arc::new(Activity::new());
        let _busy = activity.begin();
        activity.keep_place();
        let now = activity.moved();
        assert_eq!(activity.overdue(now + SILENCE_MAX), None);
        assert_eq!(activity.overdue(now + SILENCE_MAX + SECOND), Some(Overdue::Idle));
        activity.sent(&Poll::Ready(Ok(1)));
        assert_eq!(activity.overdue(now + SILENCE_MAX), None);
        assert_eq!(activity.overdue(Instant::now() + SILENCE_MAX + SECOND), Some(Overdue::Idle));
    }

    #[test]
    fn a_client_is_judged_by_progress_and_not_by_time() {
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        let mut fast = Patience::of(BODY_PATIENCE);
        let mut slow = Patience::of(BODY_PATIENCE);
        for second in 0..1000 {
            assert!(!fast.is_over(at(second)), "{second} s at the least rate");
            fast.wait(at(second));
            fast.passed(BYTES_PER_S_MIN as usize, at(second + 1));
        }
        let ended = (0..1000).find(|second| {
            slow.wait(at(*second));
            let over = slow.is_over(at(second + 1));
            slow.passed(BYTES_PER_S_MIN as usize / 2, at(second + 1));
            over
        });
        assert!(ended.is_some_and(|second| second <= 21), "{ended:?} s at half the least rate");
    }

    #[test]
    fn what_was_fast_once_has_no_credit_for_later() {
        let start = Instant::now();
        let mut patience = Patience::of(ANSWER_PATIENCE);
        patience.passed(1 << 30, start);
        patience.wait(start);
        assert!(!patience.is_over(start + ANSWER_PATIENCE));
        assert!(patience.is_over(start + ANSWER_PATIENCE + SECOND));
    }

    #[test]
    fn we_wait_for_heads_bodies_and_readers_but_not_for_those_with_a_place_of_their_own() {
        let activity = Arc::new(Activity::new());
        assert!(activity.waited_for_since().is_some(), "a head");
        let busy = activity.begin();
        assert_eq!(activity.waited_for_since(), None, "it waits for us");
        activity.state().body.wait(Instant::now());
        assert!(activity.waited_for_since().is_some(), "a body");
        activity.state().body.passed(1, Instant::now());
        activity.sent(&Poll::Pending);
        assert!(activity.waited_for_since().is_some(), "a reader");
        activity.keep_place();
        assert_eq!(activity.waited_for_since(), None, "a stream");
        drop(busy);
        assert!(activity.waited_for_since().is_some(), "idle");
    }
}
