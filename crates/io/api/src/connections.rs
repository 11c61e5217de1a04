//! Places of connections (contract: http, section 2; slow clients must not keep others out).
//!
//! When no place is left, a newcomer takes that of the connection whose client has kept us waiting longest;
//! only when all wait for us is it turned away. Requests that last as long as their client likes have budgets
//! ([`crate::budget`]) which together leave three eighths of the places to the node's own routes.

use crate::activity::Activity;
use crate::clients::Client;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Most connections of the validator API: each costs a task and up to two buffers of 16 KiB.
pub const CONNECTIONS_MAX: usize = 1024;
/// Most connections of one client; those behind a shared address are told apart by request, not by
/// connection.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 64;
/// Fewest connections, however few descriptors there are: less serves nobody.
const CONNECTIONS_MIN: usize = 32;
/// Connections of the API for each of monitoring: a handful of scrapers.
const API_PER_MONITORING: usize = 4;

/// Most connections of monitoring beside `connections` of the API.
pub(crate) fn monitoring_max(connections: usize) -> usize {
    connections / API_PER_MONITORING
}

/// Most connections of the API such that both listeners and the upstream need at most `descriptors`.
pub fn connections_within(descriptors: usize) -> usize {
    let fixed = crate::server::FAREWELLS_MAX * 2 + crate::proxy::IDLE_UPSTREAM_MAX;
    // One each, one in four for monitoring, three in eight again towards the upstream.
    let connections = descriptors.saturating_sub(fixed) * 8 / 13;
    connections.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// Open connections of one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    open: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    client: Client,
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// A connection's place; leaving it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    id: u64,
    pub activity: Arc<Activity>,
    /// The client sends a body so slowly that it is not waited for any longer.
    pub too_slow: CancellationToken,
    /// That, or somebody else has taken the place.
    pub evicted: CancellationToken,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The client has all it may have.
    Client,
    /// All places are taken.
    Listener,
}

impl Connections {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::default() })
    }

    /// Most connections that have a place.
    pub fn max(&self) -> usize {
        self.max
    }

    /// A place for a new connection, and whose it was.
    pub fn admit(self: &Arc<Self>, client: Client) -> Result<(Place, Option<Client>), Full> {
        let mut table = self.table();
        let of_client = table.open.values().filter(|entry| entry.client == client).count();
        let evicted = if !client.is_shared && of_client >= CONNECTIONS_PER_CLIENT_MAX {
            Some(table.evict(|entry| entry.client == client).ok_or(Full::Client)?)
        } else if table.open.len() >= self.max {
            Some(table.evict(|_| true).ok_or(Full::Listener)?)
        } else {
            None
        };
        let id = table.next_id;
        table.next_id += 1;
        let (activity, too_slow) = (Arc::new(Activity::new()), CancellationToken::new());
        let told = too_slow.child_token();
        let entry = Entry { client, activity: Arc::clone(&activity), evicted: told.clone() };
        table.open.insert(id, entry);
        let place = Place { connections: Arc::clone(self), id, activity, too_slow, evicted: told };
        Ok((place, evicted))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn evict(&mut self, candidate: impl Fn(&Entry) -> bool) -> Option<Client> {
        let candidates = self.open.iter().filter(|(_, entry)| candidate(entry));
        let (_, victim) =
            candidates.filter_map(|(id, entry)| Some((entry.activity.waited_for_since()?, *id))).min()?;
        let entry = self.open.remove(&victim)?;
        entry.evicted.cancel();
        Some(entry.client)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use std::net::{IpAddr, Ipv4Addr};

    fn client(address: impl Into<IpAddr>) -> Client {
        Clients::default().connecting(address.into())
    }

    fn stranger(n: u32) -> Client {
        client((n + 1).to_be_bytes())
    }

    #[test]
    fn a_newcomer_takes_the_place_of_who_kept_us_waiting_longest() {
        let connections = Connections::new(CONNECTIONS_MAX);
        let mut places: Vec<_> =
            (0..CONNECTIONS_PER_CLIENT_MAX).map(|_| connections.admit(stranger(1)).unwrap().0).collect();
        let busy = places[0].activity.begin();
        let (place, whose) = connections.admit(stranger(1)).unwrap();
        assert_eq!(whose, Some(stranger(1)));
        places.push(place);
        assert!(!places[0].evicted.is_cancelled(), "it waits for us");
        assert!(places[1].evicted.is_cancelled());
        assert_eq!(connections.table().open.len(), CONNECTIONS_PER_CLIENT_MAX);
        drop((places, busy));
        assert!(connections.table().open.is_empty());
    }

    #[test]
    fn a_newcomer_is_turned_away_when_all_wait_for_us() {
        let connections = Connections::new(CONNECTIONS_MAX);
        let places: Vec<_> =
            (0..CONNECTIONS_MAX as u32).map(|n| connections.admit(stranger(n)).unwrap().0).collect();
        let busy: Vec<_> = places.iter().map(|place| place.activity.begin()).collect();
        assert_eq!(connections.admit(client(Ipv4Addr::LOCALHOST)).unwrap_err(), Full::Listener);
        drop(busy);
        assert!(connections.admit(client(Ipv4Addr::LOCALHOST)).is_ok());
    }

    #[test]
    fn a_client_has_64_places_a_network_of_64_bits_too_and_a_shared_address_all() {
        let connections = Connections::new(CONNECTIONS_MAX);
        let taken = |client: &dyn Fn(u16) -> Client| {
            let places: Vec<_> = (0..=CONNECTIONS_PER_CLIENT_MAX as u16)
                .map_while(|n| connections.admit(client(n)).ok())
                .map(|(place, _)| (place.activity.begin(), place))
                .collect();
            places.len()
        };
        assert_eq!(taken(&|_| stranger(7)), CONNECTIONS_PER_CLIENT_MAX);
        let of_64 = |n| client(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, n, n, n, n));
        assert_eq!(taken(&of_64), CONNECTIONS_PER_CLIENT_MAX);
        assert_eq!(taken(&|_| client(Ipv4Addr::LOCALHOST)), CONNECTIONS_PER_CLIENT_MAX + 1);
    }

    #[test]
    fn connections_follow_from_descriptors_between_a_least_and_a_most() {
        assert_eq!((connections_within(0), connections_within(usize::MAX / 8)), (32, CONNECTIONS_MAX));
        let connections = connections_within(640);
        let needed = connections + monitoring_max(connections) + connections * 3 / 8;
        assert!(needed <= 640 && needed > 500, "{needed}");
    }
}
