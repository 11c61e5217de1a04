//! The thread that owns the output, so that nobody else waits for it.
//!
//! One queue keeps the order of lines. Below `warn` a line finds room only in its first part, so that
//! nothing of lesser weight can push a warning or an error out.

use super::Format;
use super::line::line;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Level;

/// Most lines waiting for the output: a few seconds of a busy node at level debug.
pub const LINES_MAX: usize = 8192;
/// Further places for warnings and errors: as repeated ones are counted and not written, more than a node
/// has to say in the hours until somebody sees to an output that is stuck.
pub const GRAVE_LINES_MAX: usize = 16_384;
/// Longest wait of a flush: a stuck terminal must not stop a node from stopping.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The sending side of the output.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to write, or to flush.
    filled: Condvar,
    /// Something was flushed.
    flushed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Lines ever queued, taken by the thread, and flushed by it.
    queued: u64,
    taken: u64,
    flushed: u64,
    dropped: Dropped,
    closed: bool,
}

/// Lines that found no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Dropped {
    all: u64,
    /// Warnings and errors among them.
    grave: u64,
}

impl Writer {
    pub(super) fn start(output: impl Write + Send + 'static, format: Format) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let of_thread = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || of_thread.write_lines(BufWriter::new(output), format))?;
        Ok(Self { queue })
    }

    /// Queues a line, or drops it when there is no room for its level.
    pub(super) fn send(&self, line: Vec<u8>, level: Level) {
        let grave = level <= Level::WARN;
        let room = if grave { LINES_MAX + GRAVE_LINES_MAX } else { LINES_MAX };
        let mut state = self.queue.state.lock();
        if state.lines.len() < room {
            state.lines.push_back(line);
            state.queued += 1;
            self.queue.filled.notify_one();
        } else {
            state.dropped.all += 1;
            state.dropped.grave += u64::from(grave);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.queue.state.lock().dropped.all
    }

    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        let mut state = self.queue.state.lock();
        let wanted = state.queued;
        self.queue.filled.notify_one();
        while state.flushed < wanted {
            if self.queue.flushed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
        self.queue.state.lock().closed = true;
        self.queue.filled.notify_one();
    }
}

impl Queue {
    /// A write that fails is not retried: stdout is gone, and the node must not be.
    fn write_lines(&self, mut output: impl Write, format: Format) {
        let mut told = Dropped::default();
        loop {
            let (next, dropped) = self.next();
            if let Some(next) = next {
                let _ = output.write_all(&next);
            }
            tell_drops(&mut output, dropped, &mut told, format);
            let mut state = self.state.lock();
            if state.lines.is_empty() {
                let taken = state.taken;
                drop(state);
                let _ = output.flush();
                state = self.state.lock();
                state.flushed = taken;
                self.flushed.notify_all();
                if state.closed && state.lines.is_empty() {
                    return;
                }
            }
        }
    }

    /// Waits for a line, or for the order to flush or to end.
    fn next(&self) -> (Option<Vec<u8>>, Dropped) {
        let mut state = self.state.lock();
        if state.lines.is_empty() && !state.closed {
            self.filled.wait(&mut state);
        }
        let next = state.lines.pop_front();
        state.taken += u64::from(next.is_some());
        (next, state.dropped)
    }
}

fn tell_drops(output: &mut impl Write, dropped: Dropped, told: &mut Dropped, format: Format) {
    let (all, grave) = (dropped.all - told.all, dropped.grave - told.grave);
    if all == 0 {
        return;
    }
    let mut pairs = vec![("count".to_owned(), all.to_string())];
    if grave > 0 {
        pairs.push(("warnings".to_owned(), grave.to_string()));
    }
    let _ = output.write_all(&line(format, "warn", "log_dropped", &pairs));
    *told = dropped;
}
