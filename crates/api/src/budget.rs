//! Places of requests that last as long as their client likes: event streams, what goes to the upstream, and
//! tunnels. Each kind has its own, so that none of them takes those of another or of the node's own routes.

use crate::clients::Client;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

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

/// The budgets of one listener.
#[derive(Debug)]
pub(crate) struct Budgets {
    pub streams: Arc<Budget>,
    pub proxied: Arc<Budget>,
    pub tunnels: Arc<Budget>,
}

impl Budgets {
    /// Shares of `connections`: a quarter, a quarter, an eighth.
    pub fn within(connections: usize) -> Self {
        let budget = |name, max: usize, per_client_max| {
            Arc::new(Budget { name, max, per_client_max, open: Mutex::default() })
        };
        Self {
            streams: budget("streams", STREAMS_MAX.min(connections / 4), STREAMS_PER_CLIENT_MAX),
            proxied: budget("proxied", PROXIED_MAX.min(connections / 4), PROXIED_PER_CLIENT_MAX),
            tunnels: budget("tunnels", TUNNELS_MAX.min(connections / 8), TUNNELS_PER_CLIENT_MAX),
        }
    }
}

/// Places of one kind of request.
#[derive(Debug)]
pub(crate) struct Budget {
    pub name: &'static str,
    max: usize,
    per_client_max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Budget {
    /// A place for `client`. A shared address gets half of all, whoever stands behind it.
    pub fn take(self: &Arc<Self>, client: Client) -> Option<Permit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&client.network).copied().unwrap_or_default();
        let own_max = if client.is_shared { self.max.div_ceil(2) } else { self.per_client_max };
        if all >= self.max || own >= own_max {
            return None;
        }
        open.insert(client.network, own + 1);
        Some(Permit { budget: Arc::clone(self), client: client.network })
    }
}

/// A place; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    client: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.budget.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
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
            let shared = taken(budget, client([127, 0, 0, 1]));
            assert_eq!(shared.len(), budget.max / 2, "{}", budget.name);
            let mut others = Vec::new();
            for n in 1..=255 {
                others.extend(taken(budget, client([192, 0, 2, n])));
            }
            assert_eq!(shared.len() + others.len(), budget.max, "{}", budget.name);
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
