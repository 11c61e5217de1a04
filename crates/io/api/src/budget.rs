//! Places of requests that last as long as their client likes: event streams, what goes to the upstream, tunnels,
//! blocks being shown, large bodies on their way in, and transactions submitted together. Each kind has its own, so that none of them takes those of another or of the node's own routes.

use crate::clients::Client;
use aequa_types::limits::TX_BATCH_MAX;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Most event streams open at once: each holds a connection and a place in the event queue.
pub const STREAMS_MAX: usize = 256;
/// Most event streams of one client: as many tabs as somebody keeps open.
const STREAMS_PER_CLIENT_MAX: usize = 24;
/// Most requests at the upstream at once: each holds two connections.
pub const PROXIED_MAX: usize = 256;
/// Most of one client; with its streams and tunnels it still has connections left for own routes.
const PROXIED_PER_CLIENT_MAX: usize = 16;
/// Most tunnels open at once: each holds two connections, for hours.
pub const TUNNELS_MAX: usize = 128;
/// Most tunnels of one client.
const TUNNELS_PER_CLIENT_MAX: usize = 16;
/// Most blocks being shown at once: up to 8 MiB each while a client takes it.
pub const BLOCKS_SHOWN_MAX: usize = 8;
/// Most blocks being shown to one client: whoever takes them slowly waits for itself.
const BLOCKS_PER_CLIENT_MAX: usize = 2;
/// What each place of large bodies stands for: a body takes one after the other as it arrives, so that no slow
/// client holds the room of others.
pub(crate) const BODY_PLACE_BYTES: usize = 16 * 1024;
/// Most places of large bodies: 32 MiB for all that are held at one time.
pub(crate) const BODY_PLACES_MAX: usize = 2048;
/// Most of one client: eight of the largest bodies.
const BODY_PLACES_PER_CLIENT_MAX: usize = 512;

/// Most transactions of batches with the node at once: what the core may find in its queue beside everything else.
const BATCHED_MAX: usize = 4096;
/// Most of one client: one of the largest batches.
const BATCHED_PER_CLIENT_MAX: usize = 1024;
const _: () = assert!(TX_BATCH_MAX <= BATCHED_PER_CLIENT_MAX && TX_BATCH_MAX <= BATCHED_MAX / 2);

/// The budgets of one listener.
#[derive(Debug)]
pub(crate) struct Budgets {
    pub streams: Arc<Budget>,
    pub proxied: Arc<Budget>,
    pub tunnels: Arc<Budget>,
    pub blocks: Arc<Budget>,
    pub bodies: Arc<Budget>,
    pub batched: Arc<Budget>,
}

impl Budgets {
    /// Shares of `connections`: a quarter, a quarter, an eighth. Blocks, bodies and batches are counted by what they hold.
    pub fn within(connections: usize) -> Self {
        let budget = |purpose, max: usize, per_client_max| {
            Arc::new(Budget { purpose, max, per_client_max, open: Mutex::default(), left: Notify::new() })
        };
        Self {
            streams: budget(Purpose::Streams, STREAMS_MAX.min(connections / 4), STREAMS_PER_CLIENT_MAX),
            proxied: budget(Purpose::Proxied, PROXIED_MAX.min(connections / 4), PROXIED_PER_CLIENT_MAX),
            tunnels: budget(Purpose::Tunnels, TUNNELS_MAX.min(connections / 8), TUNNELS_PER_CLIENT_MAX),
            blocks: budget(Purpose::Blocks, BLOCKS_SHOWN_MAX, BLOCKS_PER_CLIENT_MAX),
            bodies: budget(Purpose::Bodies, BODY_PLACES_MAX, BODY_PLACES_PER_CLIENT_MAX),
            batched: budget(Purpose::Batched, BATCHED_MAX, BATCHED_PER_CLIENT_MAX),
        }
    }
}

/// What places are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Streams,
    Proxied,
    Tunnels,
    Blocks,
    Bodies,
    Batched,
}

/// Places of one kind of request.
#[derive(Debug)]
pub(crate) struct Budget {
    pub purpose: Purpose,
    max: usize,
    per_client_max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
    left: Notify,
}

impl Budget {
    /// A place for `client`. A shared address gets half of all, whoever stands behind it, and a quarter is left for
    /// those: who comes from this machine or by a proxy finds a place, however many others there are.
    pub fn take(self: &Arc<Self>, client: Client) -> Option<Permit> {
        self.take_many(client, 1)
    }

    /// So many places at one time, or none.
    fn take_many(self: &Arc<Self>, client: Client, places: usize) -> Option<Permit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&client.network).copied().unwrap_or_default();
        let own_max = if client.is_shared { self.max.div_ceil(2) } else { self.per_client_max };
        let all_max = if client.is_shared { self.max } else { self.max - self.max / 4 };
        if all + places > all_max || own + places > own_max {
            return None;
        }
        open.insert(client.network, own + places);
        Some(Permit { budget: Arc::clone(self), client: client.network, places })
    }

    /// So many places for `client` as soon as they are there; none when it takes longer than `patience`.
    pub async fn take_within(
        self: &Arc<Self>,
        client: Client,
        places: usize,
        patience: Duration,
    ) -> Option<Permit> {
        let waiting = async {
            loop {
                // From before the look, so that no place left in between is missed.
                let left = self.left.notified();
                if let Some(permit) = self.take_many(client, places) {
                    return permit;
                }
                left.await;
            }
        };
        tokio::time::timeout(patience, waiting).await.ok()
    }
}

/// Places; dropping it frees them.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    client: IpAddr,
    places: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.budget.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.client) {
            *own -= self.places;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
        drop(open);
        self.budget.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use crate::connections::{CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX};

    fn client(address: [u8; 4]) -> Client {
        Clients::default().connecting(address.into())
    }

    #[tokio::test]
    async fn who_waits_for_a_place_gets_the_one_that_is_left_and_slow_ones_wait_for_themselves() {
        let budgets = Budgets::within(CONNECTIONS_MAX);
        let (slow, quick) = (client([192, 0, 2, 1]), client([192, 0, 2, 2]));
        let mut held = taken(&budgets.blocks, slow);
        assert_eq!(held.len(), BLOCKS_PER_CLIENT_MAX);
        let within = |client, ms| budgets.blocks.take_within(client, 1, Duration::from_millis(ms));
        assert!(within(slow, 1).await.is_none());
        assert!(within(quick, 1).await.is_some());
        let mut waiting = std::pin::pin!(within(slow, 60_000));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        held.pop();
        assert!(waiting.await.is_some());
    }

    #[test]
    fn batches_of_one_client_or_of_all_together_are_no_more_transactions_than_the_core_may_find() {
        let budget = &Budgets::within(CONNECTIONS_MAX).batched;
        let held = |client| -> Vec<Permit> {
            std::iter::from_fn(|| budget.take_many(client, TX_BATCH_MAX)).collect()
        };
        let of_one = held(client([192, 0, 2, 1]));
        assert_eq!(of_one.len(), 1);
        let others: Vec<_> = (2..=9).flat_map(|n| held(client([192, 0, 2, n]))).collect();
        let own = held(client([127, 0, 0, 1]));
        assert_eq!((others.len(), own.len()), (2, 1), "a quarter is left for this machine");
        drop((of_one, others, own));
        assert!(budget.open.lock().unwrap().is_empty());
    }

    fn taken(budget: &Arc<Budget>, client: Client) -> Vec<Permit> {
        std::iter::from_fn(|| budget.take(client)).collect()
    }

    #[test]
    fn no_client_and_no_budget_takes_all_and_own_routes_keep_places() {
        let budgets = Budgets::within(CONNECTIONS_MAX);
        let kinds = [&budgets.streams, &budgets.proxied, &budgets.tunnels];
        let of_one: usize = kinds.map(|budget| taken(budget, client([192, 0, 2, 1])).len()).iter().sum();
        assert!(of_one < CONNECTIONS_PER_CLIENT_MAX, "{of_one}");
        let of_all: usize = kinds.map(|budget| budget.max).iter().sum();
        assert_eq!(of_all, CONNECTIONS_MAX * 5 / 8);
        for budget in kinds {
            let shared = || taken(budget, client([127, 0, 0, 1]));
            assert_eq!(shared().len(), budget.max / 2, "{:?}", budget.purpose);
            let mut others = Vec::new();
            for n in 1..=255 {
                others.extend(taken(budget, client([192, 0, 2, n])));
            }
            assert_eq!(
                (others.len(), shared().len()),
                (budget.max * 3 / 4, budget.max / 4),
                "{:?}",
                budget.purpose
            );
        }
    }

    #[test]
    fn a_place_that_is_left_is_free_again_and_nothing_is_remembered() {
        let budgets = Budgets::within(CONNECTIONS_MAX);
        let permits = taken(&budgets.tunnels, client([192, 0, 2, 1]));
        assert_eq!(permits.len(), TUNNELS_PER_CLIENT_MAX);
        drop(permits);
        assert!(budgets.tunnels.open.lock().unwrap().is_empty());
        assert!(budgets.tunnels.take(client([192, 0, 2, 1])).is_some());
    }
}
