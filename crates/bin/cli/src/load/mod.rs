//! Signed load on a cluster, and what becomes of it.
//!
//! Keys live in this process. Every account belongs to one [`lane::Lane`], a task that gathers what is due of its
//! accounts, signs it and submits it in one request to one node, and to another node when that one does not
//! answer. Blocks are read back from the API, and [`tally::Tally`] compares.

mod follow;
mod histogram;
mod lane;
mod pace;
mod sender;
mod stall;
mod tally;

pub use follow::{Seen, follow};
pub use tally::{Counts, Summary};

use crate::client::NodeClient;
use aequa_node::exit::ExitError;
use aequa_types::CertifiedBlock;
use lane::Lane;
use pace::Pace;
use parking_lot::Mutex;
use sender::Sender;
use stall::StallDetector;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Tasks that submit to one node; each has one request under way, so that one signs while another one waits.
const LANES_PER_NODE: usize = 2;
/// Time after which an accepted transaction that is in no block is sent again, to another node: a node
/// that dies takes its pool with it.
const STALE: Duration = Duration::from_secs(5);
/// Longest time in which nothing at all may happen while there is still something to submit.
const SUBMIT_STALL_TIMEOUT: Duration = Duration::from_secs(90);

/// What to submit.
#[derive(Debug, Clone, Copy)]
pub struct LoadPlan {
    /// Senders.
    pub accounts: u32,
    /// Transactions per second; none = as fast as they are taken.
    pub tps: Option<u32>,
    /// Transactions in all; none = until stopped.
    pub count: Option<u64>,
    /// Bytes of each payload.
    pub payload_bytes: u32,
    /// Every so many is bad on purpose; 0 = none.
    pub bad_every: u64,
}

/// Accounts that can carry a rate when a transaction takes a few seconds from submission to block.
pub fn accounts_for(tps: Option<u32>) -> u32 {
    tps.map_or(256, |tps| (tps / 8).clamp(16, 4096))
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    nodes: Vec<NodeClient>,
    plan: LoadPlan,
    chain_id: u64,
    tally: Mutex<Tally>,
    /// Submissions still to make; below 0 there are none.
    remaining: AtomicI64,
    started: AtomicU64,
    /// Lanes that still submit.
    submitting: AtomicUsize,
    block_arrived: Notify,
    stall: Mutex<StallDetector>,
}

impl Load {
    /// Starts to submit, and to read blocks.
    pub async fn start(nodes: Vec<NodeClient>, plan: LoadPlan) -> Result<Self, ExitError> {
        let mut load = Self::prepare(nodes, plan).await?;
        let tip = tip(&load.shared.nodes).await?;
        let mut blocks = follow(load.shared.nodes.clone(), tip + 1);
        let (shared, stop) = (load.shared.clone(), load.stop.clone());
        load.tasks.spawn(async move {
            while let Some(Some(seen)) = stop.run_until_cancelled(blocks.recv()).await {
                shared.observe(&seen);
            }
        });
        Ok(load)
    }

    /// Starts to submit; whoever calls this feeds the blocks to [`Load::observe`].
    pub async fn prepare(nodes: Vec<NodeClient>, plan: LoadPlan) -> Result<Self, ExitError> {
        let chain_id = chain_id(&nodes).await?;
        let lanes = lanes(&plan, nodes.len())?;
        let shared = Arc::new(Shared {
            nodes,
            plan,
            chain_id,
            tally: Mutex::default(),
            remaining: AtomicI64::new(
                plan.count.and_then(|count| i64::try_from(count).ok()).unwrap_or(i64::MAX),
            ),
            started: AtomicU64::new(0),
            submitting: AtomicUsize::new(lanes.len()),
            block_arrived: Notify::new(),
            stall: Mutex::new(StallDetector::new(Instant::now())),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for lane in lanes {
            tasks.spawn(work(shared.clone(), lane, stop.clone()));
        }
        Ok(Self { shared, tasks, stop })
    }

    /// Feeds one block.
    pub fn observe(&self, seen: &Seen) {
        self.shared.observe(seen);
    }

    /// How many of each so far.
    pub fn counts(&self) -> Counts {
        self.shared.tally.lock().counts()
    }

    /// Latency below which `percent` lie.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        self.shared.tally.lock().percentile(percent)
    }

    /// Waits until everything of the plan was submitted, telling the counts every second. Gives up when
    /// nothing moves.
    pub async fn watch(&self, mut tell: impl FnMut(Counts)) {
        let mut ticker = tokio::time::interval(Duration::from_secs(1));
        let mut last = (self.counts(), Instant::now());
        while self.shared.submitting.load(Ordering::Relaxed) > 0 && last.1.elapsed() < SUBMIT_STALL_TIMEOUT {
            ticker.tick().await;
            let counts = self.counts();
            if counts != last.0 {
                last = (counts, Instant::now());
            }
            tell(counts);
        }
    }

    /// Whether there is nothing more to wait for: nobody submits, so that nothing becomes accepted any more,
    /// and every accepted transaction is in a block.
    pub fn is_drained(&self) -> bool {
        self.shared.submitting.load(Ordering::Acquire) == 0 && self.shared.tally.lock().missing() == 0
    }

    /// Whether waiting longer is in vain: no blocks arrive, or many that bring nothing.
    pub fn has_stalled(&self) -> bool {
        self.shared.stall.lock().has_stalled(Instant::now())
    }

    /// Submits nothing new. What was accepted is still sent again when it gets lost. The time for what is open
    /// begins now.
    pub fn stop(&self) {
        self.shared.remaining.store(0, Ordering::Relaxed);
        *self.shared.stall.lock() = StallDetector::new(Instant::now());
    }

    /// Waits for what is open as long as there is hope, and sums up.
    pub async fn finish(self) -> Summary {
        self.stop();
        while !self.is_drained() && !self.has_stalled() {
            let _ =
                tokio::time::timeout(Duration::from_millis(200), self.shared.block_arrived.notified()).await;
        }
        self.close().await
    }

    /// Sums up as it is.
    pub async fn close(mut self) -> Summary {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.shared.tally.lock().summary()
    }
}

impl Shared {
    fn observe(&self, seen: &Seen) {
        let CertifiedBlock { block, .. } = &seen.block;
        let items = block.items.iter().map(|item| (item.body.from(), item.body.nonce(), item.body.hash()));
        let brought = {
            let mut tally = self.tally.lock();
            let before = tally.counts().included;
            tally.block(block.header.height.0, items, seen.at);
            tally.counts().included > before
        };
        self.stall.lock().block(brought, Instant::now());
        self.block_arrived.notify_waiters();
    }

    /// Takes one submission from the plan: its number, or none when the plan is through.
    fn take(&self) -> Option<u64> {
        (self.remaining.fetch_sub(1, Ordering::Relaxed) > 0)
            .then(|| self.started.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

async fn chain_id(nodes: &[NodeClient]) -> Result<u64, ExitError> {
    let mut last = None;
    for node in nodes {
        match node.cluster().await {
            Ok(info) => return Ok(info.chain_id),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| ExitError::usage("no node to submit to"), ExitError::failure))
}

/// The lowest tip any node reports: nothing of ours can be below it.
async fn tip(nodes: &[NodeClient]) -> Result<u64, ExitError> {
    let mut lowest = None;
    for node in nodes {
        if let Ok(status) = node.status().await {
            lowest = Some(lowest.map_or(status.height, |height: u64| height.min(status.height)));
        }
    }
    lowest.ok_or_else(|| ExitError::failure("no node answers"))
}

/// New accounts, dealt out to lanes; neighbours start at different nodes.
fn lanes(plan: &LoadPlan, nodes: usize) -> Result<Vec<Lane>, ExitError> {
    let accounts = usize::try_from(plan.accounts.max(1)).unwrap_or(1);
    let lanes = (nodes.max(1) * LANES_PER_NODE).min(accounts);
    let paces = Pace::shares(plan.tps, lanes, Instant::now());
    let lane = |(number, pace)| -> Result<Lane, ExitError> {
        let own = (number..accounts).step_by(lanes);
        let senders = own.map(|_| Sender::new()).collect::<Result<_, _>>().map_err(ExitError::failure)?;
        Ok(Lane::new(senders, number, pace))
    };
    paces.into_iter().enumerate().map(lane).collect()
}

/// One lane. When the plan is through, what got lost on the way is still its to send again.
async fn work(shared: Arc<Shared>, mut lane: Lane, stop: CancellationToken) {
    let work = async {
        lane.submit_all(&shared).await;
        shared.submitting.fetch_sub(1, Ordering::Release);
        loop {
            tokio::time::sleep(STALE / 5).await;
            lane.resend_stale(&shared).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{Address, TxHash};

    /// A load whose one lane is in the middle of a submission.
    fn submitting() -> Load {
        let shared = Shared {
            nodes: Vec::new(),
            plan: LoadPlan { accounts: 1, tps: None, count: None, payload_bytes: 0, bad_every: 0 },
            chain_id: 1,
            tally: Mutex::default(),
            remaining: AtomicI64::new(0),
            started: AtomicU64::new(1),
            submitting: AtomicUsize::new(1),
            block_arrived: Notify::new(),
            stall: Mutex::new(StallDetector::new(Instant::now())),
        };
        Load { shared: Arc::new(shared), tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    #[test]
    fn a_submission_under_way_may_still_be_accepted_and_is_waited_for() {
        let (load, sender, now) = (submitting(), Address::ZERO, Instant::now());
        load.shared.tally.lock().begin(sender, 0, TxHash::ZERO, now);
        assert!(!load.is_drained(), "its answer is still to come");
        load.shared.tally.lock().accepted(sender, 0);
        load.shared.submitting.store(0, Ordering::Release);
        assert!(!load.is_drained(), "it is in no block");
        load.shared.tally.lock().block(1, [(sender, 0, TxHash::ZERO)], now);
        assert!(load.is_drained());
    }

    #[test]
    fn stopping_leaves_nothing_to_take() {
        let load = submitting();
        load.shared.remaining.store(5, Ordering::Relaxed);
        assert_eq!(load.shared.take(), Some(2));
        load.stop();
        assert_eq!(load.shared.take(), None);
    }
}
