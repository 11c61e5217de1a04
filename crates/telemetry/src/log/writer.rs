//! The thread that owns the output, so that nobody else waits for it.

use super::Format;
use super::line::line;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Most lines waiting for the output: a few seconds of a busy node at level debug.
pub const LINES_MAX: usize = 8192;
/// Longest wait of a flush: a stuck terminal must not stop a node from stopping.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);

enum Job {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sending side of the output.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: SyncSender<Job>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn start(output: impl Write + Send + 'static, format: Format) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_lines(BufWriter::new(output), &queue, &counter, format))?;
        Ok(Self { jobs, dropped })
    }

    /// Queues a line, or drops it when the queue is full.
    pub(super) fn send(&self, line: Vec<u8>) {
        if self.jobs.try_send(Job::Line(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        let (done, wait) = sync_channel(1);
        let mut job = Job::Flush(done);
        while let Err(TrySendError::Full(back)) = self.jobs.try_send(job) {
            if Instant::now() >= deadline {
                return;
            }
            job = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A write that fails is not retried: stdout is gone, and the node must not be.
fn write_lines(mut output: impl Write, queue: &Receiver<Job>, dropped: &AtomicU64, format: Format) {
    let mut reported = 0;
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Line(line) => {
                    let _ = output.write_all(&line);
                }
                Job::Flush(done) => {
                    let _ = output.flush();
                    let _ = done.send(());
                }
            }
            report_drops(&mut output, dropped, &mut reported, format);
            next = queue.try_recv().ok();
        }
        let _ = output.flush();
    }
}

fn report_drops(output: &mut impl Write, dropped: &AtomicU64, reported: &mut u64, format: Format) {
    let total = dropped.load(Relaxed);
    if total > *reported {
        let pairs = [("count".to_owned(), (total - *reported).to_string())];
        let _ = output.write_all(&line(format, "warn", "log_dropped", &pairs));
        *reported = total;
    }
}
