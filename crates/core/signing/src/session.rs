//! Adding up partial signatures to one signature of the group.
//!
//! Beside the decision, never before it: q shares of one root are handed out to be
//! combined and verified once. Only when that fails are shares judged singly; a bad share inside a
//! well-signed COMMIT names its maker, is left out from then on, and the next one takes its place.

use aequa_types::{OperatorIndex, Seal};
use std::collections::{BTreeMap, BTreeSet};

/// How many decisions may wait for their seal before this operator stops proposing new blocks:
/// sealing that cannot keep up must slow the chain, not grow a queue.
pub const SEALS_PENDING_MAX: usize = 32;

/// q shares of distinct operators.
pub type Shares<Partial = Seal> = Vec<(OperatorIndex, Partial)>;

#[derive(Debug, Clone)]
struct Session<Partial> {
    shares: BTreeMap<OperatorIndex, Partial>,
    blamed: BTreeSet<OperatorIndex>,
    in_flight: bool,
}

/// Everything that waits for the group's signature, by what is signed: shares of two roots never add up.
///
/// The chain has one key, so its root is the [`Decision`](aequa_types::Decision), its partial signature a
/// share of the seal. Of validators there are many: their root is key and signing root together.
#[derive(Debug, Clone)]
pub struct Sessions<Root, Partial = Seal> {
    quorum: usize,
    open: BTreeMap<Root, Session<Partial>>,
    /// Operators whose share was bad before: theirs are taken last, or every signature would cost a second try.
    distrusted: BTreeSet<OperatorIndex>,
}

impl<Root: Ord, Partial: Copy> Sessions<Root, Partial> {
    /// Nothing is open; `quorum` shares make a signature.
    pub fn new(quorum: usize) -> Self {
        Self { quorum, open: BTreeMap::new(), distrusted: BTreeSet::new() }
    }

    /// Begins to collect shares of this root; gives them when there are enough.
    pub fn open(
        &mut self,
        root: Root,
        shares: impl IntoIterator<Item = (OperatorIndex, Partial)>,
    ) -> Option<Shares<Partial>> {
        let shares = shares.into_iter().collect();
        let session =
            self.open.entry(root).insert_entry(Session { shares, blamed: BTreeSet::new(), in_flight: false });
        ready(self.quorum, &self.distrusted, session.into_mut())
    }

    /// A further share, if it is still of use.
    pub fn add(&mut self, root: &Root, operator: OperatorIndex, share: Partial) -> Option<Shares<Partial>> {
        let session = self.open.get_mut(root)?;
        session.shares.entry(operator).or_insert(share);
        ready(self.quorum, &self.distrusted, session)
    }

    /// The signature exists.
    pub fn close(&mut self, root: &Root) {
        self.open.remove(root);
    }

    /// These shares are bad; perhaps others suffice.
    pub fn blame(&mut self, root: &Root, operators: &[OperatorIndex]) -> Option<Shares<Partial>> {
        self.distrusted.extend(operators);
        let session = self.open.get_mut(root)?;
        session.blamed.extend(operators);
        session.in_flight = false;
        ready(self.quorum, &self.distrusted, session)
    }

    /// Gives up on what is not kept.
    pub fn retain(&mut self, is_kept: impl Fn(&Root) -> bool) {
        self.open.retain(|root, _| is_kept(root));
    }

    /// Combinations under way.
    pub fn in_flight(&self) -> usize {
        self.open.values().filter(|session| session.in_flight).count()
    }
}

/// The shares to combine now, if there are enough and none are under way.
fn ready<Partial: Copy>(
    quorum: usize,
    distrusted: &BTreeSet<OperatorIndex>,
    session: &mut Session<Partial>,
) -> Option<Shares<Partial>> {
    let good = session.shares.iter().filter(|(operator, _)| !session.blamed.contains(operator));
    let mut shares: Shares<Partial> = good.map(|(operator, share)| (*operator, *share)).collect();
    shares.sort_by_key(|(operator, _)| (distrusted.contains(operator), *operator));
    shares.truncate(quorum);
    if session.in_flight || shares.len() < quorum {
        return None;
    }
    session.in_flight = true;
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1;

    fn of(operators: &[u8]) -> Shares {
        operators.iter().map(|operator| (OperatorIndex(*operator), Seal::repeat_byte(*operator))).collect()
    }

    fn add(sessions: &mut Sessions<u64>, root: u64, operator: u8) -> Option<Shares> {
        sessions.add(&root, OperatorIndex(operator), Seal::repeat_byte(operator))
    }

    #[test]
    fn shares_of_another_root_are_never_added_up() {
        let mut sessions = Sessions::new(3);
        assert_eq!(sessions.open(FIRST, of(&[0, 1])), None);
        assert_eq!(add(&mut sessions, 2, 2), None);
        assert_eq!(add(&mut sessions, FIRST, 3), Some(of(&[0, 1, 3])));
    }

    #[test]
    fn shares_of_one_signing_root_under_two_keys_are_never_added_up() {
        let mut sessions: Sessions<(&str, u64), [u8; 96]> = Sessions::new(2);
        let share = |operator: u8| (OperatorIndex(operator), [operator; 96]);
        assert_eq!(sessions.open(("one", FIRST), [share(0)]), None);
        assert_eq!(sessions.open(("other", FIRST), [share(1)]), None);
        assert_eq!(sessions.add(&("one", FIRST), OperatorIndex(2), [2; 96]), Some(vec![share(0), share(2)]));
    }

    #[test]
    fn a_blamed_share_is_replaced_by_a_later_one() {
        let mut sessions = Sessions::new(3);
        assert_eq!(sessions.open(FIRST, of(&[0, 1, 2])), Some(of(&[0, 1, 2])));
        assert_eq!(sessions.blame(&FIRST, &[OperatorIndex(1)]), None);
        assert_eq!(add(&mut sessions, FIRST, 3), Some(of(&[0, 2, 3])));
        assert_eq!(sessions.in_flight(), 1);
        sessions.close(&FIRST);
        assert_eq!(sessions.in_flight(), 0);
        assert_eq!(sessions.open(2, of(&[0, 1, 2, 3])), Some(of(&[0, 2, 3])), "taken last from now on");
    }

    #[test]
    fn one_operator_has_one_share_and_while_shares_are_combined_none_are_handed_out() {
        let mut sessions = Sessions::new(3);
        assert_eq!(sessions.open(FIRST, of(&[0, 1])), None);
        assert_eq!(add(&mut sessions, FIRST, 1), None);
        assert_eq!(add(&mut sessions, FIRST, 2), Some(of(&[0, 1, 2])));
        assert_eq!(add(&mut sessions, FIRST, 3), None);
    }

    #[test]
    fn what_is_given_up_is_collected_for_no_more() {
        let mut sessions = Sessions::new(2);
        sessions.open(FIRST, of(&[0]));
        sessions.open(2, of(&[0]));
        sessions.retain(|root| *root > FIRST);
        assert_eq!(add(&mut sessions, FIRST, 1), None);
        assert_eq!(add(&mut sessions, 2, 1), Some(of(&[0, 1])));
    }
}
