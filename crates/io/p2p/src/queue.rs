//! What waits to be written to one member on one topic.
//!
//! A queue is *down* (no connection: frames are dropped), *waiting* (a connection, but no stream yet) or
//! *up*. Each stream that serves it has a turn; a newer stream ends the older one's turn. One whose frames may
//! be missed drops the oldest when its member does not read; any other overflows.

use crate::topic::Topic;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Most frames waiting for a member: slow peers must not cost memory.
pub const QUEUE_FRAMES_MAX: usize = 1024;
/// Most bytes waiting for a member.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;

/// What became of a frame handed to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It will be written.
    Yes,
    /// Not connected: dropped.
    Dropped,
    /// The member does not read what it must not miss: everything was dropped, its connection is to be closed.
    Overflow,
}

/// The right to write what is queued.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    number: u64,
    wake: Arc<Notify>,
}

impl Turn {
    /// Whether both are the same turn of a queue.
    pub fn is(&self, other: &Turn) -> bool {
        self.number == other.number
    }

    /// Waits until there may be something to do.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    may_be_missed: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    finishing: bool,
    turn: Option<Turn>,
    turns: u64,
    frames: VecDeque<(Bytes, Option<u64>)>,
    bytes: usize,
}

impl Queue {
    /// A queue of a topic, down.
    pub fn of(topic: Topic) -> Self {
        Self { may_be_missed: topic.may_be_missed(), state: Mutex::default() }
    }

    /// Adds a frame; one waiting under the same key is dropped in its favour.
    pub fn push(&self, frame: Bytes, supersedes: Option<u64>) -> Queued {
        let mut state = self.state.lock();
        if !state.connected {
            return Queued::Dropped;
        }
        if supersedes.is_some() {
            state.remove(supersedes);
        }
        state.bytes += frame.len();
        state.frames.push_back((frame, supersedes));
        match &state.turn {
            Some(_) if state.is_over() && !self.may_be_missed => {
                state.clear();
                return Queued::Overflow;
            }
            Some(turn) => turn.wake.notify_one(),
            // Nobody is slow: the newest frames are the ones still wanted.
            None => {}
        }
        state.drop_oldest();
        Queued::Yes
    }

    /// A connection exists: keep what comes until its stream is open.
    pub fn connected(&self) {
        self.state.lock().connected = true;
    }

    /// A stream is open and writes from now on.
    pub fn begin_turn(&self) -> Turn {
        let mut state = self.state.lock();
        state.end_turn();
        state.connected = true;
        state.turns += 1;
        let turn = Turn { number: state.turns, wake: Arc::new(Notify::new()) };
        turn.wake.notify_one();
        state.turn = Some(turn.clone());
        turn
    }

    /// The stream of this turn is gone; `false` when a newer one had taken over already.
    pub fn end_turn(&self, turn: &Turn) -> bool {
        let mut state = self.state.lock();
        let current = state.is_turn(turn);
        if current {
            state.end_turn();
        }
        current
    }

    /// No connection is left, or the peer does not speak the topic.
    pub fn disconnected(&self) {
        let mut state = self.state.lock();
        state.connected = false;
        state.end_turn();
        state.clear();
    }

    /// The turn ends when all that is queued was taken.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        state.connected = false;
        state.finishing = true;
        if let Some(turn) = &state.turn {
            turn.wake.notify_one();
        }
    }

    /// Moves frames of about `bytes_max` together into `batch`, at least one if there is one. `false` when
    /// the turn is over.
    pub fn take(&self, turn: &Turn, bytes_max: usize, batch: &mut Vec<Bytes>) -> bool {
        let mut state = self.state.lock();
        if !state.is_turn(turn) || (state.finishing && state.frames.is_empty()) {
            return false;
        }
        let mut bytes = 0;
        while let Some((frame, _)) = state.frames.front() {
            let len = frame.len();
            bytes += len;
            if bytes > bytes_max && !batch.is_empty() {
                break;
            }
            state.bytes -= len;
            batch.extend(state.frames.pop_front().map(|(frame, _)| frame));
        }
        true
    }
}

impl State {
    fn is_turn(&self, turn: &Turn) -> bool {
        self.turn.as_ref().is_some_and(|current| current.is(turn))
    }

    fn is_over(&self) -> bool {
        self.frames.len() > QUEUE_FRAMES_MAX || self.bytes > QUEUE_BYTES_MAX
    }

    fn end_turn(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.wake.notify_one();
        }
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, key: Option<u64>) {
        if let Some(at) = self.frames.iter().position(|(_, waiting)| *waiting == key)
            && let Some((old, _)) = self.frames.remove(at)
        {
            self.bytes -= old.len();
        }
    }

    fn drop_oldest(&mut self) {
        while self.is_over() {
            match self.frames.pop_front() {
                Some((old, _)) => self.bytes -= old.len(),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn drain(queue: &Queue, turn: &Turn) -> Vec<Bytes> {
        let mut batch = Vec::new();
        assert!(queue.take(turn, usize::MAX, &mut batch));
        batch
    }

    #[test]
    fn frames_wait_for_a_stream_but_not_for_a_connection() {
        let queue = Queue::default();
        assert_eq!(queue.push(frame("lost"), None), Queued::Dropped);
        queue.connected();
        assert_eq!(queue.push(frame("kept"), None), Queued::Yes);
        let turn = queue.begin_turn();
        assert_eq!(drain(&queue, &turn), ["kept"]);
        queue.disconnected();
        assert_eq!(queue.push(frame("lost"), None), Queued::Dropped);
        assert!(!queue.take(&turn, 1, &mut Vec::new()));
    }

    #[test]
    fn a_newer_stream_ends_the_turn_of_the_older() {
        let queue = Queue::default();
        let old = queue.begin_turn();
        let new = queue.begin_turn();
        queue.push(frame("x"), None);
        assert!(!queue.take(&old, 1, &mut Vec::new()));
        assert!(!queue.end_turn(&old));
        assert_eq!(drain(&queue, &new), ["x"]);
        assert!(queue.end_turn(&new));
    }

    #[test]
    fn the_newest_message_of_a_key_replaces_the_one_waiting() {
        let queue = Queue::default();
        let turn = queue.begin_turn();
        for (text, key) in [("a1", Some(1)), ("b", None), ("c1", Some(2)), ("a2", Some(1)), ("d", None)] {
            queue.push(frame(text), key);
        }
        assert_eq!(drain(&queue, &turn), ["b", "c1", "a2", "d"]);
    }

    #[test]
    fn a_batch_stops_at_its_size_but_never_at_nothing() {
        let queue = Queue::default();
        let turn = queue.begin_turn();
        for text in ["aaaa", "bb", "cc"] {
            queue.push(frame(text), None);
        }
        let take = || {
            let mut batch = Vec::new();
            queue.take(&turn, 3, &mut batch);
            batch.len()
        };
        assert_eq!([take(), take(), take(), take()], [1, 1, 1, 0]);
    }

    #[test]
    fn a_member_that_does_not_read_overflows_its_queue_at_the_limit() {
        let queue = Queue::default();
        let _turn = queue.begin_turn();
        for _ in 0..QUEUE_FRAMES_MAX {
            assert_eq!(queue.push(frame("x"), None), Queued::Yes);
        }
        assert_eq!(queue.push(frame("x"), None), Queued::Overflow);
        let big = Bytes::from(vec![0; QUEUE_BYTES_MAX]);
        assert_eq!(queue.push(big.clone(), None), Queued::Yes);
        assert_eq!(queue.push(frame("x"), None), Queued::Overflow);
    }

    #[test]
    fn a_member_that_does_not_read_misses_the_oldest_of_what_may_be_missed() {
        let queue = Queue::of(Topic::Tx);
        let turn = queue.begin_turn();
        for _ in 0..QUEUE_FRAMES_MAX {
            assert_eq!(queue.push(frame("old"), None), Queued::Yes);
        }
        assert_eq!(queue.push(frame("new"), None), Queued::Yes);
        let batch = drain(&queue, &turn);
        assert_eq!((batch.len(), batch.last()), (QUEUE_FRAMES_MAX, Some(&frame("new"))));
    }

    #[test]
    fn a_finishing_queue_is_written_to_its_end() {
        let queue = Queue::default();
        let turn = queue.begin_turn();
        queue.push(frame("last"), None);
        queue.finish();
        assert_eq!(queue.push(frame("too late"), None), Queued::Dropped);
        assert_eq!(drain(&queue, &turn), ["last"]);
        assert!(!queue.take(&turn, 1, &mut Vec::new()));
    }

    #[test]
    fn without_a_stream_the_oldest_frames_give_way() {
        let queue = Queue::default();
        queue.connected();
        queue.push(frame("first"), None);
        for _ in 0..QUEUE_FRAMES_MAX {
            assert_eq!(queue.push(frame("x"), None), Queued::Yes);
        }
        let turn = queue.begin_turn();
        let batch = drain(&queue, &turn);
        assert_eq!((batch.len(), &batch[0][..]), (QUEUE_FRAMES_MAX, &b"x"[..]));
    }
}
