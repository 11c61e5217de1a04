//! What a member may cost: one table, one mechanism.
//!
//! Members are let in by the lock and may lie all the same. Whatever one of them can make this node do for
//! it is a [`Call`] with a row in the table: answers, bytes and time per second, of each member by itself.
//! Who asks for more waits for its turn, or goes without an answer where nothing can wait; nobody else does.

use aequa_p2p::TokenBucket;
use aequa_types::{OperatorIndex, Quorum};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Seconds of a row that may be used at once: what follows a reconnection comes in one rush.
const BURST_SECONDS: f64 = 4.0;
/// More than anybody can use: what a row does not count.
const UNCOUNTED: f64 = 1e15;
const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// Something a member makes this node do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// "Where are you?"
    Status,
    /// "Give me certified blocks."
    Blocks,
    /// "What have you seen of this operator?"
    Testimony,
    /// "Which state can I have?"
    Snapshot,
    /// "Give me a part of a state."
    State,
    /// "Give me a value."
    Value,
    /// What it says of consensus has to be verified.
    Check,
    /// Its transactions have to be verified: by themselves, for they must never keep votes waiting.
    Transactions,
    /// What it gossips has to be verified.
    Gossip,
}

/// What one member may have of a call per second.
struct Row {
    answers: f64,
    bytes: f64,
    /// Of one thread.
    busy: Duration,
}

impl Call {
    const ALL: [Call; 9] = [
        Call::Status,
        Call::Blocks,
        Call::Testimony,
        Call::Snapshot,
        Call::State,
        Call::Value,
        Call::Check,
        Call::Transactions,
        Call::Gossip,
    ];

    fn row(self) -> Row {
        let row = |answers, bytes, busy_ms| Row { answers, bytes, busy: Duration::from_millis(busy_ms) };
        match self {
            // Asked once a second, and before a testimony.
            Call::Status => row(4.0, 4.0 * KIB, 20),
            // Sixty-four blocks each: a node that comes back asks as fast as it executes.
            Call::Blocks => row(32.0, 8.0 * MIB, 250),
            // Asked twice a second by whoever has to know before it signs.
            Call::Testimony => row(4.0, 256.0 * KIB, 100),
            // Asked once a second by whoever is far behind; it has two blocks in it.
            Call::Snapshot => row(2.0, 4.0 * MIB, 50),
            // Half a megabyte each: a state of a gigabyte takes a minute from two members.
            Call::State => row(64.0, 16.0 * MIB, 250),
            // An instance asks three times per timeout for what it lacks, and it lacks one value.
            Call::Value => row(32.0, 8.0 * MIB, 50),
            // Half a core; a full block of transactions never seen before takes about a second.
            Call::Check | Call::Transactions | Call::Gossip => row(UNCOUNTED, UNCOUNTED, 500),
        }
    }
}

/// The accounts of all members.
pub struct Budgets {
    members: Vec<[Account; Call::ALL.len()]>,
}

struct Account {
    /// Questions of a kind are answered one after the other.
    turn: tokio::sync::Mutex<()>,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    answers: TokenBucket,
    bytes: TokenBucket,
    busy: TokenBucket,
}

/// A question whose turn has come.
pub struct Turn<'a> {
    account: &'a Account,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// What the answer cost.
    pub fn charge(self, bytes: usize, busy: Duration) {
        self.account.charge(bytes, busy, Instant::now());
    }
}

/// Works, and says how long this thread was busy with it: on a machine that has no time, waiting costs nobody
/// anything.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let cpu_time = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let (seconds, nanoseconds) = (time.tv_sec.try_into(), time.tv_nsec.try_into());
        Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
    };
    let before = cpu_time();
    let done = work();
    (done, cpu_time().saturating_sub(before))
}

impl Budgets {
    /// Full accounts for the members of a cluster.
    pub fn new(quorum: Quorum) -> Self {
        let now = Instant::now();
        let accounts = |_| Call::ALL.map(|call| Account::new(&call.row(), now));
        Self { members: quorum.members().map(accounts).collect() }
    }

    /// Waits until `member` may have one more answer. `None` for whoever is no member.
    pub async fn turn(&self, member: OperatorIndex, call: Call) -> Option<Turn<'_>> {
        let account = self.account(member, call)?;
        let turn = account.turn.lock().await;
        while let Err(wait) = account.take(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
        Some(Turn { account, _turn: turn })
    }

    /// Waits until what came from `member` before is done. `None` while that is not paid for.
    pub async fn turn_unless_in_debt(&self, member: OperatorIndex, call: Call) -> Option<Turn<'_>> {
        let account = self.account(member, call)?;
        let turn = account.turn.lock().await;
        account.take(Instant::now()).ok()?;
        Some(Turn { account, _turn: turn })
    }

    /// Whether `member` may have one more answer at once; takes it if so.
    pub fn take(&self, member: OperatorIndex, call: Call) -> bool {
        self.account(member, call).is_some_and(|account| account.take(Instant::now()).is_ok())
    }

    /// What was done for `member` without a turn.
    pub fn charge(&self, member: OperatorIndex, call: Call, bytes: usize, busy: Duration) {
        if let Some(account) = self.account(member, call) {
            account.charge(bytes, busy, Instant::now());
        }
    }

    /// How long `member` has to be left alone for its debt to be paid.
    pub fn debt(&self, member: OperatorIndex, call: Call) -> Duration {
        self.account(member, call).map_or(Duration::ZERO, |account| account.debt(Instant::now()))
    }

    fn account(&self, member: OperatorIndex, call: Call) -> Option<&Account> {
        self.members.get(member.as_usize())?.get(call as usize)
    }
}

impl Account {
    fn new(row: &Row, now: Instant) -> Self {
        let bucket = |per_second: f64| TokenBucket::new(per_second, per_second * BURST_SECONDS, now);
        let buckets = Buckets {
            answers: bucket(row.answers),
            bytes: bucket(row.bytes),
            busy: bucket(row.busy.as_secs_f64()),
        };
        Self { turn: tokio::sync::Mutex::default(), buckets: Mutex::new(buckets) }
    }

    /// Takes one answer, unless an earlier one is not paid for: then how long that will take.
    fn take(&self, now: Instant) -> Result<(), Duration> {
        let buckets = &mut *self.buckets.lock();
        match buckets.debt(now) {
            Duration::ZERO => {
                buckets.answers.borrow(1.0, now);
                Ok(())
            }
            debt => Err(debt),
        }
    }

    fn charge(&self, bytes: usize, busy: Duration, now: Instant) {
        let buckets = &mut *self.buckets.lock();
        buckets.bytes.borrow(bytes as f64, now);
        buckets.busy.borrow(busy.as_secs_f64(), now);
    }

    fn debt(&self, now: Instant) -> Duration {
        self.buckets.lock().debt(now)
    }
}

impl Buckets {
    fn debt(&mut self, now: Instant) -> Duration {
        let all = [&mut self.answers, &mut self.bytes, &mut self.busy];
        all.into_iter().map(|bucket| bucket.borrow(0.0, now)).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: u64 = 20;

    fn account(call: Call, now: Instant) -> Account {
        Account::new(&call.row(), now)
    }

    /// Answers of a call that one member gets in [`SECONDS`], each of this cost, asking without end.
    fn answers(call: Call, bytes: usize, busy: Duration) -> u64 {
        let start = Instant::now();
        let (account, mut now, mut got) = (account(call, start), start, 0);
        while now < start + Duration::from_secs(SECONDS) {
            match account.take(now) {
                Ok(()) => {
                    account.charge(bytes, busy, now);
                    got += 1;
                }
                Err(wait) => now += wait.max(Duration::from_micros(1)),
            }
        }
        got
    }

    #[test]
    fn a_member_gets_no_more_answers_than_its_row_says_however_often_it_asks() {
        for call in Call::ALL.into_iter().filter(|call| call.row().answers < UNCOUNTED) {
            let most = call.row().answers * (SECONDS as f64 + BURST_SECONDS) + 2.0;
            let got = answers(call, 0, Duration::ZERO) as f64;
            assert!(got <= most && got >= most - 4.0, "{call:?}: {got} of {most}");
        }
    }

    #[test]
    fn answers_are_fewer_where_they_are_large_or_dear() {
        for call in Call::ALL {
            let row = call.row();
            let dear = (row.bytes < UNCOUNTED).then_some((row.bytes as usize, Duration::ZERO));
            for (bytes, busy) in dear.into_iter().chain([(0, row.busy)]) {
                // One such answer per second, and those of the burst, of which the last is a debt.
                let most = SECONDS + BURST_SECONDS as u64 + 2;
                assert!(answers(call, bytes, busy) <= most, "{call:?}");
            }
        }
    }

    #[tokio::test]
    async fn gossip_is_checked_piece_by_piece_and_its_debt_keeps_no_vote_waiting() {
        let budgets = Budgets::new(Quorum::of(4).unwrap());
        let member = OperatorIndex(1);
        let turn = budgets.turn_unless_in_debt(member, Call::Gossip).await.unwrap();
        let mut next = Box::pin(budgets.turn_unless_in_debt(member, Call::Gossip));
        assert!(futures::poll!(next.as_mut()).is_pending(), "it does not pass before the first is paid for");
        turn.charge(0, Duration::from_secs(60));
        assert!(next.await.is_none());
        assert_eq!(budgets.debt(member, Call::Check), Duration::ZERO);
        assert!(budgets.turn_unless_in_debt(OperatorIndex(2), Call::Gossip).await.is_some());
    }

    #[test]
    fn waiting_for_a_processor_costs_nothing() {
        let pause = Duration::from_millis(50);
        let (_, busy) = timed(|| std::thread::sleep(pause));
        assert!(busy < pause / 2, "{busy:?}");
    }

    #[tokio::test]
    async fn one_members_questions_cost_no_other_member_and_no_other_call_anything() {
        let budgets = Budgets::new(Quorum::of(4).unwrap());
        let greedy = OperatorIndex(1);
        while budgets.take(greedy, Call::Value) {}
        assert!(budgets.debt(greedy, Call::Value) > Duration::ZERO);
        assert!(budgets.take(OperatorIndex(2), Call::Value));
        assert!(budgets.take(greedy, Call::Status));
        assert!(budgets.turn(greedy, Call::Blocks).await.is_some());
        assert!(budgets.turn(OperatorIndex(4), Call::Blocks).await.is_none(), "no member");
    }
}
