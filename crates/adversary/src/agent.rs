//! Plays attacks in turn, at a rate, and keeps the books.

use crate::AdversaryError;
use crate::attack::{Attack, Scene, Sending};
use crate::dice::Dice;
use crate::ear::Ear;
use crate::endpoints::{Endpoints, Visitor};
use crate::follower::Follower;
use crate::traitor::Traitor;
use crate::verdicts::Verdicts;
use aequa_p2p::{Config, Member, Network, Topic, Unobserved};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one attack has the word before the next: several heights, so that each leads once or twice.
const TURN: Duration = Duration::from_secs(5);
/// Pause before the same attack is played again when it found nothing to do.
const IDLE: Duration = Duration::from_millis(10);
/// Longest wait for a first connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// What to do to a cluster.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names of attacks, or `all`.
    pub attacks: Vec<String>,
    /// Messages per second; an attack may multiply it.
    pub rate: u32,
    /// For how long.
    pub time: Duration,
    /// Where all chance comes from.
    pub seed: u64,
    /// Monitoring addresses of the nodes, as URLs, for what their verifiers say.
    pub monitoring: Vec<String>,
    /// Test endpoints to visit beside the network.
    pub endpoints: Endpoints,
}

/// What one attack did, and what was said to it.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Messages handed to the transport, one per receiver.
    pub sent: u64,
    /// Time it was played.
    pub time: Duration,
    /// What all nodes' verifiers counted meanwhile, honest traffic included.
    pub verdicts: Verdicts,
}

/// What all attacks did, by name.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// One entry per attack.
    pub attacks: BTreeMap<&'static str, Entry>,
    /// Answers of the test endpoints: attack and status to number.
    pub answers: BTreeMap<(&'static str, u16), u64>,
}

impl Books {
    /// What everybody counted over all attacks.
    pub fn verdicts(&self) -> Verdicts {
        let mut sum = Verdicts::default();
        self.attacks.values().for_each(|entry| sum.add(&entry.verdicts));
        sum
    }

    /// The books as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, entry) in &self.attacks {
            lines.push(format!("{name}: {} sent in {:.0} s", entry.sent, entry.time.as_secs_f64()));
            lines.push(format!("    verified: {}", counts(&entry.verdicts.coarse())));
            lines.push(format!("    refused:  {}", counts(&entry.verdicts.fine())));
        }
        for ((name, status), number) in &self.answers {
            lines.push(format!("{name}: {number} answered with {status}"));
        }
        lines
    }
}

fn counts(counts: &BTreeMap<String, f64>) -> String {
    let texts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if texts.is_empty() { "nothing".into() } else { texts.join(", ") }
}

/// An operator at work against its cluster.
pub struct Agent {
    traitor: Arc<Traitor>,
    ear: Arc<Ear>,
    network: Network,
    http: reqwest::Client,
}

impl Agent {
    /// Joins the cluster as the operator it is. Must be called inside a tokio runtime.
    pub async fn join(traitor: Traitor) -> Result<Self, AdversaryError> {
        let traitor = Arc::new(traitor);
        let follower = Arc::new(Follower::new(&traitor.lock));
        let ear = Arc::new(Ear::new(Arc::clone(&follower)));
        let lock = traitor.lock.lock();
        let members = lock.operators.iter().map(|operator| Member {
            operator: operator.index,
            peer_id: operator.peer_id.clone(),
            addrs: operator.multiaddrs.clone(),
        });
        let seed = traitor.identity.seed();
        let mut config = Config::new(*seed, lock.cluster_id, traitor.index, members.collect());
        // The lower peer id opens streams: the traitor may have to be dialled.
        config.listen = lock.operators[traitor.index.as_usize()].multiaddrs.clone();
        let network = aequa_p2p::start(config, Arc::clone(&ear) as _, Arc::new(Unobserved))?;
        tokio::spawn(follower.follow(network.clone(), Arc::clone(&traitor)));
        let agent = Self { traitor, ear, network, http: reqwest::Client::new() };
        agent.until_connected().await?;
        Ok(agent)
    }

    async fn until_connected(&self) -> Result<(), AdversaryError> {
        let connected = async {
            while self.network.connected().is_empty() {
                tokio::time::sleep(IDLE).await;
            }
        };
        tokio::time::timeout(CONNECT_PATIENCE, connected).await.map_err(|_| AdversaryError::Timeout {
            what: "a connection to any operator".into(),
            seconds: CONNECT_PATIENCE.as_secs(),
        })
    }

    /// Plays the attacks of a plan in turn until its time is over. `tell` hears of every turn.
    pub async fn play(&self, plan: &Plan, mut tell: impl FnMut(String)) -> Result<Books, AdversaryError> {
        let mut attacks = crate::attack::named(&plan.attacks)
            .map_err(|name| AdversaryError::Usage(format!("there is no attack {name}")))?;
        if attacks.is_empty() || plan.rate == 0 {
            return Err(AdversaryError::Usage("nothing to do: no attack, or a rate of 0".into()));
        }
        let mut dice = Dice::new(plan.seed);
        let mut books = Books::default();
        let visitor = Visitor::start(&plan.endpoints, Arc::clone(&self.traitor), Arc::clone(&self.ear), plan);
        let end = Instant::now() + plan.time;
        // Short plans still let every attack have its turn.
        let turn = TURN.min(plan.time / u32::try_from(attacks.len()).unwrap_or(1));
        let mut places = (0..attacks.len()).cycle();
        while let Some(place) = places.next().filter(|_| Instant::now() < end) {
            let attack = attacks[place].as_mut();
            let before = Verdicts::of(&self.http, &plan.monitoring).await;
            let start = Instant::now();
            let sent = self.turn(attack, plan.rate, &mut dice, (start + turn).min(end)).await;
            let after = Verdicts::of(&self.http, &plan.monitoring).await;
            let entry = books.attacks.entry(attack.name()).or_default();
            entry.sent += sent;
            entry.time += start.elapsed();
            entry.verdicts.add(&after.since(&before));
            let connected = self.network.connected().len();
            let tip = self.ear.follower.tip();
            tell(format!("{}: {sent} sent, height {tip}, {connected} operators connected", attack.name()));
        }
        books.answers = visitor.stop().await;
        Ok(books)
    }

    /// One attack's turn; how much it sent.
    async fn turn(&self, attack: &mut dyn Attack, rate: u32, dice: &mut Dice, end: Instant) -> u64 {
        let mut sent = 0;
        let pause = Duration::from_secs(1) / rate.saturating_mul(attack.intensity()).max(1);
        while Instant::now() < end {
            let sendings = attack.play(&mut Scene::new(&self.traitor, dice, &self.ear));
            let count = u32::try_from(sendings.len()).unwrap_or(u32::MAX);
            sent += sendings.iter().map(|sending| self.send(sending)).sum::<u64>();
            tokio::time::sleep(pause.saturating_mul(count).max(IDLE)).await;
        }
        sent
    }

    /// Sends; to how many.
    fn send(&self, sending: &Sending) -> u64 {
        let others = self.traitor.others();
        match &sending.to {
            _ if sending.gossip => {
                self.network.gossip(Topic::Tx, &sending.frame);
                1
            }
            Some(to) => {
                to.iter().for_each(|operator| self.network.send(*operator, Topic::Qbft, &sending.frame));
                to.len() as u64
            }
            None => {
                self.network.broadcast(Topic::Qbft, &sending.frame);
                others.len() as u64
            }
        }
    }

    /// Leaves the cluster.
    pub async fn leave(self) {
        self.network.shutdown().await;
    }
}
