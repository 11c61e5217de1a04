//! Some senders that share the requests to one node.

use super::pace::Pace;
use super::sender::{Envelope, Sender};
use super::tally::Tally;
use super::{STALE, Shared};
use crate::client::{ClientError, NodeClient};
use aequa_types::limits::{TX_BATCH_MAX, TX_ENVELOPE_BYTES_MAX};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Open transactions per account: below the pool's cap of 64 per sender.
const OPEN_MAX: usize = 48;
/// Most transactions in one request: more would not be cheaper, and keep the first of them waiting.
const BATCH_MAX: usize = 250;
const _: () = assert!(BATCH_MAX <= TX_BATCH_MAX);
/// Bytes of an envelope beside its payload, and more.
const ENVELOPE_BYTES: usize = 1024;
/// How long transactions that are due wait for others to share their request.
const GATHER: Duration = Duration::from_millis(10);
/// Wait before what was refused or not answered is tried again.
const BACKOFF: Duration = Duration::from_millis(100);
/// Longest time one transaction is tried.
const TRY_FOR: Duration = Duration::from_secs(60);

/// One lane.
#[derive(Debug)]
pub(super) struct Lane {
    senders: Vec<Sender>,
    /// Whose turn it is.
    turn: usize,
    node: usize,
    pace: Pace,
    /// When to look next for what got lost.
    looks: Instant,
}

/// A transaction of a batch.
#[derive(Debug)]
struct Line {
    /// Which of the lane.
    sender: usize,
    text: String,
    what: What,
}

#[derive(Debug)]
enum What {
    Good {
        nonce: u64,
    },
    /// It must be refused, for this.
    Bad {
        name: &'static str,
    },
}

impl Lane {
    /// A lane that starts at `node`.
    pub(super) fn new(senders: Vec<Sender>, node: usize, pace: Pace) -> Self {
        Self { senders, turn: 0, node, pace, looks: Instant::now() + STALE }
    }

    /// Submits until the plan is through.
    pub(super) async fn submit_all(&mut self, shared: &Shared) {
        let mut gather = tokio::time::interval(GATHER);
        gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shared.remaining.load(Ordering::Relaxed) > 0 && self.senders.iter().any(|sender| !sender.broken)
        {
            self.resend_stale(shared).await;
            if self.pace.is_set() {
                gather.tick().await;
            }
            let lines = self.gather(shared);
            if !lines.is_empty() {
                self.deliver(shared, lines).await;
            } else if !self.pace.is_set() {
                // All senders have as many open as they may have.
                let _ = tokio::time::timeout(STALE / 10, shared.block_arrived.notified()).await;
            }
        }
    }

    /// Signs what is due of senders that have room, as much as one request takes.
    fn gather(&mut self, shared: &Shared) -> Vec<Line> {
        let mut begun = Vec::new();
        let mut lines = Vec::new();
        for (at, due, number) in self.pick(shared) {
            let (sender, every) = (&mut self.senders[at], shared.plan.bad_every);
            let (Envelope { text, hash }, what) = if every > 0 && number % every == 0 {
                let (name, envelope) = sender.bad(shared, number / every);
                (envelope, What::Bad { name })
            } else {
                let (nonce, envelope) = sender.next(shared);
                (envelope, What::Good { nonce })
            };
            if let What::Good { nonce } = what {
                begun.push((sender.address(), nonce, hash, due));
            }
            lines.push(Line { sender: at, text, what });
        }
        let mut tally = shared.tally.lock();
        begun.into_iter().for_each(|(sender, nonce, hash, due)| tally.begin(sender, nonce, hash, due));
        lines
    }

    /// Who is to submit, since when it is due, and which one of the plan it is.
    fn pick(&mut self, shared: &Shared) -> Vec<(usize, Instant, u64)> {
        let mut rooms: Vec<usize> = {
            let tally = shared.tally.lock();
            let room = |sender: &Sender| OPEN_MAX.saturating_sub(tally.open(&sender.address()));
            self.senders.iter().map(|sender| if sender.broken { 0 } else { room(sender) }).collect()
        };
        let (mut picked, mut passed, now) = (Vec::new(), 0, Instant::now());
        while picked.len() < batch_max(shared) && passed < rooms.len() {
            let at = self.turn % rooms.len();
            self.turn += 1;
            if rooms[at] == 0 {
                passed += 1;
                continue;
            }
            let Some(due) = self.pace.take(now) else { break };
            let Some(number) = shared.take() else { break };
            rooms[at] -= 1;
            passed = 0;
            picked.push((at, due, number));
        }
        picked
    }

    /// Submits until each is accepted or refused for good.
    async fn deliver(&mut self, shared: &Shared, mut lines: Vec<Line>) {
        let deadline = Instant::now() + TRY_FOR;
        let mut unanswered = false;
        loop {
            let answers = self.submit(shared, &lines).await;
            let may_try = Instant::now() < deadline;
            match answers {
                Err(error) if error.is_retryable() && may_try => {
                    unanswered = true;
                    self.node += 1;
                }
                Err(ClientError::Refused { status: 429, code, .. }) if may_try => {
                    shared.tally.lock().refused(format!("{code}, tried again"));
                }
                answers => {
                    let answers = answers.unwrap_or_else(|error| vec![Err(error); lines.len()]);
                    let mut tally = shared.tally.lock();
                    let settle = |(line, answer)| self.settle(&mut tally, line, answer, unanswered, may_try);
                    lines = lines.into_iter().zip(answers).filter_map(settle).collect();
                }
            }
            if lines.is_empty() {
                return;
            }
            tokio::time::sleep(BACKOFF).await;
        }
    }

    async fn submit(
        &self,
        shared: &Shared,
        lines: &[Line],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        shared.nodes[self.node % shared.nodes.len()].submit_all(&lines).await
    }

    /// Writes down what became of a line; gives it back when it is to be tried again.
    fn settle(
        &mut self,
        tally: &mut Tally,
        line: Line,
        answer: Result<(), ClientError>,
        unanswered: bool,
        may_try: bool,
    ) -> Option<Line> {
        let sender = &mut self.senders[line.sender];
        let nonce = match line.what {
            What::Good { nonce } => nonce,
            What::Bad { name } => {
                settle_bad(tally, name, answer);
                return None;
            }
        };
        match answer {
            Ok(()) => sender.accepted(tally, nonce, line.text),
            // An earlier attempt arrived although its answer did not.
            Err(ClientError::Refused { status: 409, .. }) if unanswered => {
                sender.accepted(tally, nonce, line.text);
            }
            Err(ClientError::Refused { status: 429, code, .. }) if may_try => {
                tally.refused(format!("{code}, tried again"));
                return Some(line);
            }
            Err(error) => sender.rejected(tally, nonce, &error),
        }
        None
    }

    /// Sends what was accepted and is in no block for too long once more, to the next node: of each sender the
    /// oldest. When that node had not heard of it, what follows it is as lost, and is sent as well; known or too
    /// old only says that it had arrived.
    pub(super) async fn resend_stale(&mut self, shared: &Shared) {
        let now = Instant::now();
        if now < self.looks {
            return;
        }
        let stale: Vec<(&Sender, u64)> = {
            let tally = shared.tally.lock();
            self.senders.iter().filter_map(|sender| Some((sender, sender.stale(&tally, now)?))).collect()
        };
        self.looks = now + if stale.is_empty() { STALE / 5 } else { STALE };
        self.node += usize::from(!stale.is_empty());
        let node = &shared.nodes[self.node % shared.nodes.len()];
        let oldest: Vec<&str> =
            stale.iter().filter_map(|(sender, nonce)| sender.sent_from(*nonce).next()).collect();
        let Some(taken) = submit_parts(shared, node, &oldest).await else { return };
        let lost = stale.iter().zip(taken).filter(|(_, taken)| *taken);
        let follow: Vec<&str> = lost.flat_map(|((sender, nonce), _)| sender.sent_from(nonce + 1)).collect();
        submit_parts(shared, node, &follow).await;
    }
}

/// Submits to one node, whatever it says: which of them it took. None when it does not answer.
async fn submit_parts(shared: &Shared, node: &NodeClient, lines: &[&str]) -> Option<Vec<bool>> {
    let mut taken = Vec::with_capacity(lines.len());
    for part in lines.chunks(batch_max(shared)) {
        taken.extend(node.submit_all(part).await.ok()?.iter().map(Result::is_ok));
    }
    Some(taken)
}

/// Most transactions in one request, of the size of the plan.
fn batch_max(shared: &Shared) -> usize {
    let payload = usize::try_from(shared.plan.payload_bytes).unwrap_or(usize::MAX);
    let each = payload.saturating_mul(2).saturating_add(ENVELOPE_BYTES);
    (TX_ENVELOPE_BYTES_MAX / each).clamp(1, BATCH_MAX)
}

fn settle_bad(tally: &mut Tally, name: &'static str, answer: Result<(), ClientError>) {
    match answer {
        Err(ClientError::Refused { code, message, .. }) if !code.is_empty() && !message.is_empty() => {
            tally.refused(format!("{name}: {code}"));
        }
        Err(error) => tally.violation(format!("a transaction with {name} got no reason: {error}")),
        Ok(()) => tally.violation(format!("a transaction with {name} was accepted")),
    }
}
