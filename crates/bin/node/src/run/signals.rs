//! What a process may be told, heard from its first moment on.
//!
//! Until the node runs, a request to stop ends it there and then, with the exit code of an orderly end: what it
//! has on disk stands a kill at any moment. Once it runs, the first request begins the orderly end, and the
//! second ends it at once. Other signals that tools send are not reasons to stop.

use aequa_telemetry::log::LogGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::{io, thread};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Exit code of a second request to stop.
const IMPATIENT: i32 = 130;

/// Ears on a thread of their own: nothing the node is busy with keeps it from hearing.
pub struct Signals {
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

#[derive(Default)]
struct Shared {
    runs: AtomicBool,
    log: OnceLock<LogGuard>,
}

struct Streams {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let streams = {
            let _inside = runtime.enter();
            Streams {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
                user_1: signal(SignalKind::user_defined1())?,
                user_2: signal(SignalKind::user_defined2())?,
            }
        };
        let (tell, stop) = watch::channel(false);
        let shared = Arc::new(Shared::default());
        let hearer = Arc::clone(&shared);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(hear(streams, &hearer, &tell)))?;
        Ok(Self { shared, stop })
    }

    /// Where to write what there is to say.
    pub fn log_to(&self, log: LogGuard) {
        // Set once: a process has one log.
        let _ = self.shared.log.set(log);
    }

    /// From now on there is something to bring to an end.
    pub fn runs(&self) {
        self.shared.runs.store(true, Ordering::SeqCst);
    }

    /// Whether there was a request to stop.
    pub fn is_stop_requested(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for the request to stop.
    pub async fn stop_requested(&self) {
        // Its thread ends with the process.
        let _ = self.stop.clone().wait_for(|told| *told).await;
    }
}

async fn hear(mut streams: Streams, shared: &Shared, tell: &watch::Sender<bool>) {
    loop {
        tokio::select! {
            _ = streams.interrupt.recv() => stop(shared, tell),
            _ = streams.terminate.recv() => stop(shared, tell),
            _ = streams.hangup.recv() => {
                warn("SIGHUP: nothing to reload, logs go to stdout and there are no TLS certificates");
            }
            _ = streams.user_1.recv() => warn("SIGUSR1: it has no meaning here and is ignored"),
            _ = streams.user_2.recv() => warn("SIGUSR2: it has no meaning here and is ignored"),
        }
    }
}

fn stop(shared: &Shared, tell: &watch::Sender<bool>) {
    if !shared.runs.load(Ordering::SeqCst) {
        warn("told to stop before the start was over");
        if let Some(log) = shared.log.get() {
            log.flush();
        }
        std::process::exit(0);
    }
    if tell.send_replace(true) {
        std::process::exit(IMPATIENT);
    }
}

fn warn(text: &str) {
    tracing::warn!(target: "event", text, "warning");
}
