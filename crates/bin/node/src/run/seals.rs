//! The sealing thread: combines shares and verifies the result, off the path of decisions.
//!
//! Jobs of a few milliseconds are one batch: all its seals are verified together under the one group
//! key at the price of two pairings, so the cost per block falls as blocks come faster. Nobody waits for
//! a seal: the certificate of commits exists already.

use super::command::Command;
use super::report_op;
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::seal::{Combiner, GroupKey};
use aequa_replica::{Input, Shares};
use aequa_telemetry::Metrics;
use aequa_types::{ClusterId, Decision, OperatorIndex, Seal};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Seals verified together at most: bounds how long the first of a batch waits.
const BATCH_MAX: usize = 16;
/// A job waits this long for others to share its verification.
const GATHER: Duration = Duration::from_millis(15);

/// Shares to be combined.
#[derive(Debug, Clone)]
pub struct SealJob {
    /// What the seal is of.
    pub decision: Decision,
    /// q or more shares.
    pub shares: Shares,
}

/// Hands jobs to the thread.
pub struct SealWorker {
    jobs: std_mpsc::Sender<SealJob>,
    thread: JoinHandle<()>,
    /// Where it is counted; absent where it will have nothing to do.
    metrics: Option<Arc<Metrics>>,
}

impl SealWorker {
    /// Starts the thread for the key of this cluster; results go back to the core as inputs. No more than
    /// `sessions_max` jobs come at a time, 0 = any number.
    pub fn start(
        lock: &VerifiedLock,
        sessions_max: usize,
        metrics: Option<Arc<Metrics>>,
        core: mpsc::Sender<Command>,
    ) -> std::io::Result<Self> {
        let start = Instant::now();
        // Unbounded here, bounded at the source: the replica holds block proposals back while 32 wait, and few
        // duties are open at a time.
        let (jobs, inbox) = std_mpsc::channel::<SealJob>();
        let (cluster, group_key) = (lock.cluster_id(), *lock.group_key());
        let bench = Bench { cluster, group_key, combiner: Arc::new(lock.combiner()) };
        // Nobody is waited for who cannot come.
        let batch_max = if sessions_max == 0 { BATCH_MAX } else { BATCH_MAX.min(sessions_max) };
        let thread = std::thread::Builder::new().name("seals".into()).spawn(move || {
            while let Ok(first) = inbox.recv() {
                let mut batch = vec![first];
                let until = Instant::now() + GATHER;
                while batch.len() < batch_max
                    && let Ok(next) = inbox.recv_timeout(until.saturating_duration_since(Instant::now()))
                {
                    batch.push(next);
                }
                for result in bench.work(&batch) {
                    if core.blocking_send(Command::Inputs(vec![result])).is_err() {
                        return;
                    }
                }
            }
        })?;
        metrics.iter().for_each(|metrics| report_op(metrics, "tss", "start", start));
        Ok(Self { jobs, thread, metrics })
    }

    /// Ends the thread when it is through with what it has begun. Its results must have nobody to wait for.
    pub fn stop(self) {
        let start = Instant::now();
        let Self { jobs, thread, metrics } = self;
        drop(jobs);
        // A panic has ended the process.
        let _ = thread.join();
        metrics.iter().for_each(|metrics| report_op(metrics, "tss", "stop", start));
    }

    /// Queues a job.
    pub fn submit(&self, job: SealJob) {
        let _ = self.jobs.send(job);
    }
}

struct Bench {
    cluster: ClusterId,
    group_key: GroupKey,
    combiner: Arc<Combiner>,
}

impl Bench {
    fn work(&self, jobs: &[SealJob]) -> Vec<Input> {
        let messages: Vec<Vec<u8>> = jobs.iter().map(|job| job.decision.seal_bytes(&self.cluster)).collect();
        let combined: Vec<Option<Seal>> =
            jobs.iter().map(|job| self.combiner.combine(&job.shares).ok()).collect();
        let batch: Vec<(Vec<u8>, Seal)> =
            messages.iter().zip(&combined).filter_map(|(m, seal)| Some((m.clone(), (*seal)?))).collect();
        let all_good = self.group_key.verify_batch(&batch).is_ok();
        jobs.iter()
            .zip(&messages)
            .zip(combined)
            .map(|((job, message), seal)| {
                let result = match seal.filter(|_| all_good) {
                    Some(seal) => Ok(seal),
                    None => self.judge(job, message),
                };
                Input::Combined { decision: job.decision, result }
            })
            .collect()
    }

    /// The slow way: verify alone, and name who spoilt it.
    fn judge(&self, job: &SealJob, message: &[u8]) -> Result<Seal, Vec<OperatorIndex>> {
        match self.combiner.sign(message, &job.shares) {
            Ok(combined) => combined.signature.ok_or(combined.bad),
            Err(_) => Err(job.shares.iter().map(|(operator, _)| *operator).collect()),
        }
    }
}
