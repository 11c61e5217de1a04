//! What one listener knows about who may come in, and what it says of those it turns away.

use crate::activity::Overdue;
use crate::backend::Options;
use crate::budget::{Budget, Budgets, Permit, Purpose};
use crate::clients::{Client, Clients};
use crate::connections::{Connections, Full};
use crate::guard::Guard;
use crate::reply::Refusal;
use aequa_telemetry::Metrics;
use aequa_telemetry::log::{Admit, RateLimiter};
use http::StatusCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The way into one listener.
#[derive(Debug)]
pub(crate) struct Door {
    pub service: &'static str,
    pub metrics: Arc<Metrics>,
    pub guard: Guard,
    pub clients: Clients,
    pub connections: Arc<Connections>,
    pub budgets: Budgets,
    told: RateLimiter<&'static str>,
}

/// Why somebody is turned away or cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// All connections wait for us.
    Connections,
    /// The client has all the connections it may have.
    Client,
    /// It kept us waiting longest when somebody else came.
    Evicted,
    /// It is too slow.
    Slow,
    /// A budget is used up.
    Budget(Purpose),
}

impl TurnedAway {
    fn name(self) -> &'static str {
        match self {
            TurnedAway::Connections => "connections",
            TurnedAway::Client => "client",
            TurnedAway::Evicted => "evicted",
            TurnedAway::Slow => "slow",
            TurnedAway::Budget(Purpose::Streams) => "streams",
            TurnedAway::Budget(Purpose::Proxied) => "proxied",
            TurnedAway::Budget(Purpose::Tunnels) => "tunnels",
            TurnedAway::Budget(Purpose::Blocks) => "blocks",
            TurnedAway::Budget(Purpose::Bodies) => "bodies",
            TurnedAway::Budget(Purpose::Batched) => "batches",
        }
    }
}

impl From<Full> for TurnedAway {
    fn from(full: Full) -> Self {
        match full {
            Full::Client => TurnedAway::Client,
            Full::Listener => TurnedAway::Connections,
        }
    }
}

impl Door {
    pub fn new(service: &'static str, metrics: Arc<Metrics>, guard: Guard, options: &Options) -> Arc<Self> {
        Arc::new(Self {
            service,
            metrics,
            guard,
            clients: Clients::new(&options.trusted_proxies),
            connections: Connections::new(options.connections_max),
            budgets: Budgets::within(options.connections_max),
            told: RateLimiter::new(),
        })
    }

    /// A place of `budget` for `client`, or a refusal.
    pub fn take(&self, budget: &Arc<Budget>, client: Client) -> Result<Permit, Refusal> {
        budget.take(client).ok_or_else(|| self.no_place(budget, client))
    }

    /// So many places, and those that are left within `patience` will do.
    pub async fn take_within(
        &self,
        budget: &Arc<Budget>,
        client: Client,
        places: usize,
        patience: Duration,
    ) -> Result<Permit, Refusal> {
        budget.take_within(client, places, patience).await.ok_or_else(|| self.no_place(budget, client))
    }

    fn no_place(&self, budget: &Budget, client: Client) -> Refusal {
        self.turned_away(TurnedAway::Budget(budget.purpose), client);
        let (code, what) = match budget.purpose {
            Purpose::Streams => ("TOO_MANY_STREAMS", "event streams are open"),
            Purpose::Proxied => ("TOO_MANY_PROXIED", "requests are with the upstream"),
            Purpose::Tunnels => ("TOO_MANY_TUNNELS", "tunnels are open"),
            Purpose::Blocks => ("TOO_MANY_BLOCKS", "blocks are shown"),
            Purpose::Bodies => ("TOO_MANY_BODIES", "large bodies are held"),
            Purpose::Batched => ("TOO_MANY_TXS", "transactions of batches are admitted"),
        };
        let message = format!("no more {what} at once, or by this client");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_soon()
    }

    /// Counts and tells, as often as the log's limits allow.
    pub fn turned_away(&self, why: TurnedAway, client: Client) {
        let reason = why.name();
        self.metrics.api_turned_away_total.inc([self.service, reason]);
        if let Admit::Write { suppressed } = self.told.admit("api_turned_away", &reason, Instant::now()) {
            let (service, client) = (self.service, client.network.to_string());
            tracing::warn!(target: "event", service, reason, client, suppressed, "api_turned_away");
        }
    }

    /// The client has used up its time; what ends a mere silence is nothing to tell.
    pub fn overdue(&self, why: Overdue, client: Client) {
        match why {
            Overdue::Idle => {}
            Overdue::Slow => self.turned_away(TurnedAway::Slow, client),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_telemetry::metrics::Format;
    use aequa_types::limits::TX_BATCH_MAX;

    #[tokio::test]
    async fn a_batch_that_finds_no_room_is_refused_by_name_and_counted() {
        let door = Door::new("api", Arc::new(Metrics::new()), Guard::new(&[]), &Options::default());
        let client = door.clients.connecting([192, 0, 2, 1].into());
        let take = || door.take_within(&door.budgets.batched, client, TX_BATCH_MAX, Duration::ZERO);
        let _held = take().await.unwrap();
        let refused = take().await.unwrap_err();
        assert_eq!((refused.status, refused.code), (StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_TXS"));
        assert!(refused.retry_after_s.is_some());
        let counted = r#"api_turned_away_total{reason="batches",service="api"} 1"#;
        assert!(door.metrics.render(Format::Text).contains(counted));
    }
}
