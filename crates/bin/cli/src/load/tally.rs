//! What was submitted and what became of it: every accepted transaction is included exactly once,
//! in nonce order, and every rejected one has its reason.

use super::histogram::Latencies;
use aequa_types::{Address, TxHash};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Most broken promises written down word by word; more are only counted.
const VIOLATIONS_SHOWN: usize = 20;

/// What became of the transactions of one load.
#[derive(Debug, Default)]
pub struct Tally {
    accounts: HashMap<Address, Account>,
    counts: Counts,
    rejected: BTreeMap<String, u64>,
    latencies: Latencies,
    violations: Vec<String>,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted by a node.
    pub accepted: u64,
    /// Found in a block.
    pub included: u64,
    /// Rejected with a reason.
    pub rejected: u64,
    /// Promises broken.
    pub violations: u64,
}

/// The tally when all is over.
#[derive(Debug, Clone)]
pub struct Summary {
    /// How many of each.
    pub counts: Counts,
    /// Rejections by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Accepted and never found in a block.
    pub missing: u64,
    /// Median from submission to certified block.
    pub p50: Option<Duration>,
    /// 99th percentile of the same.
    pub p99: Option<Duration>,
    /// Broken promises, the first few.
    pub violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Account {
    /// Nonce the next included transaction must have.
    next: u64,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    hash: TxHash,
    since: Instant,
    accepted: bool,
    included: bool,
}

impl Tally {
    /// A transaction is about to be submitted.
    pub fn begin(&mut self, sender: Address, nonce: u64, hash: TxHash, now: Instant) {
        let open = Open { hash, since: now, accepted: false, included: false };
        self.accounts.entry(sender).or_default().open.insert(nonce, open);
    }

    /// A node accepted it.
    pub fn accepted(&mut self, sender: Address, nonce: u64) {
        self.counts.accepted += 1;
        let Some(account) = self.accounts.get_mut(&sender) else { return };
        match account.open.get_mut(&nonce) {
            // A block can be seen before the answer to the submission.
            Some(open) if open.included => drop(account.open.remove(&nonce)),
            Some(open) => open.accepted = true,
            None => {}
        }
    }

    /// No node took it.
    pub fn rejected(&mut self, sender: Address, nonce: u64, reason: String) {
        let open = self.accounts.get_mut(&sender).and_then(|account| account.open.remove(&nonce));
        if open.is_some_and(|open| open.included) {
            self.violation(format!("nonce {nonce} of {sender} was rejected ({reason}) and included"));
        }
        self.refused(reason);
    }

    /// One attempt was refused with this reason; the transaction itself may be tried again.
    pub fn refused(&mut self, reason: String) {
        self.counts.rejected += 1;
        *self.rejected.entry(reason).or_default() += 1;
    }

    /// A promise was broken.
    pub fn violation(&mut self, what: String) {
        self.counts.violations += 1;
        if self.violations.len() < VIOLATIONS_SHOWN {
            self.violations.push(what);
        }
    }

    /// A certified block arrived. Items of accounts that are not ours are ignored.
    pub fn block(
        &mut self,
        height: u64,
        items: impl IntoIterator<Item = (Address, u64, TxHash)>,
        now: Instant,
    ) {
        for (address, nonce, hash) in items {
            let Some(account) = self.accounts.get_mut(&address) else { continue };
            if nonce != account.next {
                let expected = account.next;
                self.violation(format!("block {height} has nonce {nonce} of {address}, expected {expected}"));
                continue;
            }
            account.next += 1;
            match account.open.get_mut(&nonce) {
                Some(open) if open.hash == hash => {
                    self.latencies.record(now.saturating_duration_since(open.since));
                    self.counts.included += 1;
                    open.included = true;
                    if open.accepted {
                        account.open.remove(&nonce);
                    }
                }
                _ => self
                    .violation(format!("block {height} has nonce {nonce} of {address} with foreign content")),
            }
        }
    }

    /// Transactions of `sender` submitted and in no block yet.
    pub fn open(&self, sender: &Address) -> usize {
        self.accounts.get(sender).map_or(0, |account| account.open.len())
    }

    /// Since when the oldest of them waits, with its nonce.
    pub fn oldest(&self, sender: &Address) -> Option<(u64, Instant)> {
        let account = self.accounts.get(sender)?;
        account.open.iter().find(|(_, open)| open.accepted).map(|(nonce, open)| (*nonce, open.since))
    }

    /// Nonces below this one are in blocks.
    pub fn next_included(&self, sender: &Address) -> u64 {
        self.accounts.get(sender).map_or(0, |account| account.next)
    }

    /// How many of each so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Latency below which `percent` of the included ones lie.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        self.latencies.percentile(percent)
    }

    /// Accepted and not in a block yet.
    pub fn missing(&self) -> u64 {
        let open = self.accounts.values().flat_map(|account| account.open.values());
        open.filter(|open| open.accepted && !open.included).count() as u64
    }

    /// The end result.
    pub fn summary(&self) -> Summary {
        Summary {
            counts: self.counts,
            rejected: self.rejected.clone(),
            missing: self.missing(),
            p50: self.percentile(50.0),
            p99: self.percentile(99.0),
            violations: self.violations.clone(),
        }
    }
}

impl Summary {
    /// Whether every promise was kept.
    pub fn holds(&self) -> bool {
        self.counts.violations == 0 && self.missing == 0
    }

    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let Counts { accepted, included, rejected, violations } = self.counts;
        let ms = |value: Option<Duration>| {
            value.map_or("-".into(), |value| format!("{:.1} ms", value.as_secs_f64() * 1e3))
        };
        let mut lines = vec![
            format!(
                "transactions: {accepted} accepted, {included} included, {} missing, {rejected} rejected",
                self.missing
            ),
            format!("latency from submission to certified block: p50 {}, p99 {}", ms(self.p50), ms(self.p99)),
        ];
        lines.extend(self.rejected.iter().map(|(reason, count)| format!("rejected {count} times: {reason}")));
        if violations > 0 {
            lines.push(format!("{violations} promises broken:"));
            lines.extend(self.violations.iter().map(|what| format!("  {what}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(nonces: u64) -> (Tally, Address, Instant) {
        let (mut tally, sender, now) = (Tally::default(), Address::repeat_byte(1), Instant::now());
        (0..nonces).for_each(|nonce| tally.begin(sender, nonce, hash(nonce), now));
        (tally, sender, now)
    }

    fn hash(nonce: u64) -> TxHash {
        TxHash::from(alloy_primitives::U256::from(nonce))
    }

    #[test]
    fn accepted_and_included_in_order_holds() {
        let (mut tally, sender, now) = tally(3);
        tally.accepted(sender, 0);
        tally.block(1, [(sender, 0, hash(0)), (sender, 1, hash(1))], now + Duration::from_millis(10));
        tally.accepted(sender, 1);
        tally.accepted(sender, 2);
        assert_eq!((tally.missing(), tally.open(&sender)), (1, 1));
        tally.block(2, [(sender, 2, hash(2)), (Address::ZERO, 9, hash(9))], now);
        let summary = tally.summary();
        assert!(summary.holds(), "{summary:?}");
        assert_eq!(summary.counts, Counts { accepted: 3, included: 3, rejected: 0, violations: 0 });
    }

    #[test]
    fn what_is_missing_twice_out_of_order_or_foreign_breaks_the_promise() {
        type Item = (u64, u64);
        let cases: [&[Item]; 4] =
            [&[(0, 0)], &[(0, 0), (0, 0), (1, 1)], &[(1, 1), (0, 0)], &[(0, 5), (1, 1)]];
        for items in cases {
            let (mut tally, sender, now) = tally(2);
            (0..2).for_each(|nonce| tally.accepted(sender, nonce));
            tally.block(1, items.iter().map(|(nonce, content)| (sender, *nonce, hash(*content))), now);
            assert!(!tally.summary().holds(), "{items:?}");
        }
    }

    #[test]
    fn a_rejected_transaction_has_its_reason_and_must_not_be_included() {
        let (mut tally, sender, now) = tally(1);
        tally.rejected(sender, 0, "409 TX_OLD: too old".into());
        assert!(tally.summary().holds());
        assert_eq!(tally.summary().rejected["409 TX_OLD: too old"], 1);
        tally.block(1, [(sender, 0, hash(0))], now);
        assert!(!tally.summary().holds());
    }
}
