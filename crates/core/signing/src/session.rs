//! Adding up partial signatures to one signature of the group.
//!
//! Beside the decision, never before it: q shares of one root are handed out to be
//! combined and verified once. Only when that fails are shares judged singly; a bad share inside a
//! well-signed COMMIT names its maker, is left out from then on, and the next one takes its place.
//!
//! ```text
//!            a place                  q shares
//!  waiting ───────────▶ gathering ───────────────▶ combining ──▶ signed
//!     ▲                   │    ▲                       │
//!     └───────────────────┘    └───── bad shares ──────┘
//!       one with q shares waits
//! ```
//!
//! # Rules of places
//!
//! 1. At most `open_max` sessions are open, which is to gather or to combine. Those beyond wait, and collect shares
//!    all the same: a session that waits loses nothing.
//! 2. A free place goes to the session that has waited longest of those with q shares, else of all.
//! 3. No session with q shares waits for one without: the newest that gathers gives up its place to it.
//!
//! So whenever a session has q shares, one is being combined, and every combination ends. Who waits for seals to catch
//! up (see [`SEALS_PENDING_MAX`]) therefore never waits for an operator whose share does not come.

use aequa_types::{OperatorIndex, Quorum, Seal};
use std::collections::{BTreeMap, BTreeSet};

/// How many decisions may wait for their seal, with all shares there, before this operator stops proposing new blocks:
/// sealing that cannot keep up must slow the chain, not grow a queue.
pub const SEALS_PENDING_MAX: usize = 32;

/// q shares of distinct operators.
pub type Shares<Partial = Seal> = Vec<(OperatorIndex, Partial)>;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The signature exists.
    Signed,
    /// So many operators gave bad shares that the good ones cannot be q.
    Failed,
    /// What it is of is too old for anybody to send shares of it.
    Overdue,
}

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// No place: it waits from now on.
    Refused,
    /// It has a place, and gathers shares.
    Opened,
    /// q shares are handed out to be combined.
    Gathered,
    /// Some of them were bad: it gathers again.
    Spoilt,
    /// It is no more.
    Ended(SessionEnd),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    Gathering,
    Combining,
}

#[derive(Debug, Clone)]
struct Session<Partial> {
    /// Sessions that began earlier have a smaller one.
    number: u64,
    place: Place,
    shares: BTreeMap<OperatorIndex, Partial>,
    blamed: BTreeSet<OperatorIndex>,
}

/// Everything that waits for the group's signature, by what is signed: shares of two roots never add up.
///
/// The chain has one key, so its root is the [`Decision`](aequa_types::Decision), its partial signature a
/// share of the seal. Of validators there are many: their root is key and signing root together.
#[derive(Debug, Clone)]
pub struct Sessions<Root, Partial = Seal> {
    quorum: Quorum,
    open_max: usize,
    all: BTreeMap<Root, Session<Partial>>,
    begun: u64,
    waiting: usize,
    /// Operators whose share was bad before: theirs are taken last, or every signature would cost a second try.
    distrusted: BTreeSet<OperatorIndex>,
    events: Vec<(Root, SessionEvent)>,
    handed_out: Vec<(Root, Shares<Partial>)>,
}

impl<Root: Ord + Copy, Partial: Copy> Sessions<Root, Partial> {
    /// Nothing has begun; at most `open_max` sessions are open at a time, 0 = any number.
    pub fn new(quorum: Quorum, open_max: usize) -> Self {
        Self {
            quorum,
            open_max: if open_max == 0 { usize::MAX } else { open_max },
            all: BTreeMap::new(),
            begun: 0,
            waiting: 0,
            distrusted: BTreeSet::new(),
            events: Vec::new(),
            handed_out: Vec::new(),
        }
    }

    /// Begins to collect shares of this root, or adds these to what is collected.
    pub fn begin(&mut self, root: Root, shares: impl IntoIterator<Item = (OperatorIndex, Partial)>) {
        if !self.all.contains_key(&root) {
            let session = Session {
                number: self.begun,
                place: Place::Waiting,
                shares: shares.into_iter().collect(),
                blamed: BTreeSet::new(),
            };
            self.all.insert(root, session);
            self.begun += 1;
            self.waiting += 1;
            self.give_places();
            if self.all.get(&root).is_some_and(|session| session.place == Place::Waiting) {
                self.events.push((root, SessionEvent::Refused));
            }
            return;
        }
        shares.into_iter().for_each(|(operator, share)| self.add(&root, operator, share));
    }

    /// A further share, if it is still of use. The first of an operator counts.
    pub fn add(&mut self, root: &Root, operator: OperatorIndex, share: Partial) {
        let Some(session) = self.all.get_mut(root) else { return };
        session.shares.entry(operator).or_insert(share);
        self.hand_out(*root);
        self.give_places();
    }

    /// The signature exists.
    pub fn close(&mut self, root: &Root) {
        self.end(*root, SessionEnd::Signed);
        self.give_places();
    }

    /// These shares are bad; perhaps others suffice.
    pub fn blame(&mut self, root: &Root, operators: &[OperatorIndex]) {
        self.distrusted.extend(operators);
        let Some(session) = self.all.get_mut(root).filter(|session| session.place == Place::Combining) else {
            return;
        };
        session.blamed.extend(operators);
        session.place = Place::Gathering;
        let hopeful = self.quorum.operators().saturating_sub(session.blamed.len());
        if hopeful < self.quorum.quorum() {
            self.end(*root, SessionEnd::Failed);
        } else {
            self.events.push((*root, SessionEvent::Spoilt));
            self.hand_out(*root);
        }
        self.give_places();
    }

    /// Gives up on what is not kept; of each session is said whether it has all it needs but the signature.
    pub fn retain(&mut self, is_kept: impl Fn(&Root, bool) -> bool) {
        let lost = |(root, session): &(&Root, &Session<Partial>)| !is_kept(root, self.has_quorum(session));
        let overdue: Vec<Root> = self.all.iter().filter(lost).map(|(root, _)| *root).collect();
        overdue.into_iter().for_each(|root| self.end(root, SessionEnd::Overdue));
        self.give_places();
    }

    /// What happened since this was asked last, in its order.
    pub fn take_events(&mut self) -> Vec<(Root, SessionEvent)> {
        std::mem::take(&mut self.events)
    }

    /// What is to be combined since this was asked last: q shares of each. [`close`](Self::close) or
    /// [`blame`](Self::blame) answers.
    pub fn take_handed_out(&mut self) -> Vec<(Root, Shares<Partial>)> {
        std::mem::take(&mut self.handed_out)
    }

    /// Sessions that have all they need but the signature.
    pub fn pending(&self) -> usize {
        self.all.values().filter(|session| self.has_quorum(session)).count()
    }

    /// Sessions that have a place.
    pub fn open(&self) -> usize {
        self.all.len() - self.waiting
    }

    /// All sessions, those that wait included.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nothing waits for a signature.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn has_quorum(&self, session: &Session<Partial>) -> bool {
        let good = session.shares.keys().filter(|operator| !session.blamed.contains(operator));
        session.place == Place::Combining || good.count() >= self.quorum.quorum()
    }

    fn end(&mut self, root: Root, end: SessionEnd) {
        let Some(session) = self.all.remove(&root) else { return };
        self.waiting -= usize::from(session.place == Place::Waiting);
        self.events.push((root, SessionEvent::Ended(end)));
    }

    /// Rules 1 to 3 of places.
    fn give_places(&mut self) {
        while let Some((root, has_quorum)) = self.next_waiting() {
            if self.open() >= self.open_max {
                let Some(gathering) = self.newest_gathering().filter(|_| has_quorum) else { return };
                self.place(gathering, Place::Waiting);
                self.waiting += 1;
                self.events.push((gathering, SessionEvent::Refused));
            }
            self.place(root, Place::Gathering);
            self.waiting -= 1;
            self.events.push((root, SessionEvent::Opened));
            self.hand_out(root);
        }
    }

    /// The next to get a place, and whether it has q shares.
    fn next_waiting(&self) -> Option<(Root, bool)> {
        if self.waiting == 0 {
            return None;
        }
        let waiting = self.all.iter().filter(|(_, session)| session.place == Place::Waiting);
        let ranked = waiting.map(|(root, session)| (!self.has_quorum(session), session.number, *root));
        ranked.min_by_key(|(lacks, number, _)| (*lacks, *number)).map(|(lacks, _, root)| (root, !lacks))
    }

    fn newest_gathering(&self) -> Option<Root> {
        let gathering = self.all.iter().filter(|(_, session)| session.place == Place::Gathering);
        gathering.max_by_key(|(_, session)| session.number).map(|(root, _)| *root)
    }

    fn place(&mut self, root: Root, place: Place) {
        if let Some(session) = self.all.get_mut(&root) {
            session.place = place;
        }
    }

    /// Hands q shares out, if they are there and the session gathers.
    fn hand_out(&mut self, root: Root) {
        let Some(session) = self.all.get_mut(&root).filter(|session| session.place == Place::Gathering)
        else {
            return;
        };
        let good = session.shares.iter().filter(|(operator, _)| !session.blamed.contains(operator));
        let mut shares: Shares<Partial> = good.map(|(operator, share)| (*operator, *share)).collect();
        if shares.len() < self.quorum.quorum() {
            return;
        }
        shares.sort_by_key(|(operator, _)| (self.distrusted.contains(operator), *operator));
        shares.truncate(self.quorum.quorum());
        session.place = Place::Combining;
        self.events.push((root, SessionEvent::Gathered));
        self.handed_out.push((root, shares));
    }
}

#[cfg(test)]
mod tests;
