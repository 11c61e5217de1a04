//! Which of a member's connections carries its streams.
//!
//! Two nodes that dial each other at the same moment get two connections. A node that lost power and comes
//! back gets a second one too, while its peer still believes in the first. What helps in one case hurts in the
//! other, so they are told apart by age: beside a young connection a second one is a spare, kept until a ping
//! has had the time to prove the first; beside an old one it means that the member lost it.
//!
//! Only the side that opens streams decides and closes; the other side follows the streams.

use libp2p::swarm::ConnectionId;
use std::time::{Duration, Instant};

/// A connection younger than a handshake may take can have been dialled at the same moment as its double.
const YOUNG: Duration = Duration::from_secs(10);
/// How long a spare is kept: longer than a dead connection goes unnoticed (ping interval and timeout).
const SPARE: Duration = Duration::from_secs(40);
/// How long a connection that was replaced may finish what it carries.
const LINGER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Connections {
    /// Whether this side opens the streams.
    opens: bool,
    /// The newest last.
    live: Vec<(ConnectionId, Instant)>,
    current: Option<ConnectionId>,
    retired: Vec<(Instant, ConnectionId)>,
}

impl Connections {
    pub fn new(opens: bool) -> Self {
        Self { opens, live: Vec::new(), current: None, retired: Vec::new() }
    }

    /// The connection for streams, if there is any.
    pub fn current(&self) -> Option<ConnectionId> {
        self.current
    }

    pub fn contains(&self, id: ConnectionId) -> bool {
        self.live.iter().any(|(live, _)| *live == id)
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub fn ids(&self) -> Vec<ConnectionId> {
        self.live.iter().map(|(id, _)| *id).collect()
    }

    /// A connection is there. Says whether streams are to move to it.
    pub fn opened(&mut self, id: ConnectionId, dialled: bool, now: Instant) -> bool {
        self.live.push((id, now));
        let Some(current) = self.current else {
            self.current = Some(id);
            return true;
        };
        if !self.opens {
            return false;
        }
        // Own dials are made without a connection: one that exists by now is as young as the dial.
        let came_back = !dialled && self.age(current, now) > YOUNG;
        let (loser, after) = if came_back { (current, LINGER) } else { (id, SPARE) };
        self.retired.push((now + after, loser));
        if came_back {
            self.current = Some(id);
        }
        came_back
    }

    /// The other side chose this connection for its streams.
    pub fn follow(&mut self, id: ConnectionId) {
        self.current = Some(id);
    }

    /// A connection is gone. Says whether streams are to move to [`Self::current`].
    pub fn closed(&mut self, id: ConnectionId) -> bool {
        self.live.retain(|(live, _)| *live != id);
        self.retired.retain(|(_, retired)| *retired != id);
        if self.current != Some(id) {
            return false;
        }
        self.current = self.live.last().map(|(id, _)| *id);
        self.retired.retain(|(_, retired)| Some(*retired) != self.current);
        self.current.is_some()
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.opens);
    }

    /// When [`Self::due`] has something to say.
    pub fn deadline(&self) -> Option<Instant> {
        self.retired.iter().map(|(at, _)| *at).min()
    }

    /// Connections to close now.
    pub fn due(&self, now: Instant) -> Vec<ConnectionId> {
        self.retired.iter().filter(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    fn age(&self, id: ConnectionId, now: Instant) -> Duration {
        let since = self.live.iter().find(|(live, _)| *live == id).map_or(now, |(_, since)| *since);
        now.saturating_duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn of_two_connections_made_at_once_the_first_stays_and_the_second_is_a_spare() {
        for dialled in [true, false] {
            let now = Instant::now();
            let mut connections = Connections::new(true);
            assert!(connections.opened(id(1), !dialled, now));
            assert!(!connections.opened(id(2), dialled, now + YOUNG));
            assert_eq!(connections.current(), Some(id(1)));
            assert!(connections.due(now + SPARE).is_empty());
            assert_eq!(connections.due(now + YOUNG + SPARE), [id(2)]);
            assert_eq!(connections.deadline(), Some(now + YOUNG + SPARE));
        }
    }

    #[test]
    fn a_spare_takes_over_when_the_first_dies() {
        let now = Instant::now();
        let mut connections = Connections::new(true);
        connections.opened(id(1), true, now);
        connections.opened(id(2), false, now);
        assert!(connections.closed(id(1)));
        assert_eq!(connections.current(), Some(id(2)));
        assert_eq!(connections.deadline(), None, "it is no spare any more");
        assert!(!connections.closed(id(2)));
        assert!(connections.is_empty());
        assert_eq!(connections.current(), None);
    }

    #[test]
    fn a_member_that_comes_back_replaces_its_old_connection() {
        let now = Instant::now();
        let later = now + YOUNG + Duration::from_secs(1);
        let mut connections = Connections::new(true);
        connections.opened(id(1), true, now);
        assert!(connections.opened(id(2), false, later));
        assert_eq!(connections.current(), Some(id(2)));
        assert_eq!(connections.due(later + LINGER), [id(1)]);
    }

    #[test]
    fn the_side_that_opens_nothing_follows_and_closes_nothing() {
        let now = Instant::now();
        let mut connections = Connections::new(false);
        connections.opened(id(1), true, now);
        assert!(!connections.opened(id(2), false, now + Duration::from_secs(60)));
        connections.follow(id(2));
        assert_eq!(connections.current(), Some(id(2)));
        assert_eq!(connections.deadline(), None);
    }
}
