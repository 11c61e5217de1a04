//! Plays attacks in turn, at a rate, and keeps the books.

use crate::AdversaryError;
use crate::attack::{Attack, Scene, Sending};
use crate::ear::Ear;
use crate::endpoints::{Answers, Endpoints, Visitor};
use crate::follower::Follower;
use crate::scene::Way;
use crate::traitor::Traitor;
use crate::verdicts::{Look, Verdicts};
use aequa_byzantine::Dice;
use aequa_p2p::{Config, Member, Message as Frame, Network, Topic, Unobserved};
use aequa_types::{Height, OperatorIndex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long one attack has the word before the next: several heights, so that each leads once or twice.
const TURN: Duration = Duration::from_secs(5);
/// Turns of each attack a short plan still has room for: what an attack does to memory shows when it comes back.
const TURNS_MIN: u32 = 4;
/// Longest wait for the first opportunity of an attack: many heights, and it leads one of n.
const CHANCE_PATIENCE: Duration = Duration::from_secs(60);
/// Longest time an attack plays on for a first refusal to be counted: nodes under attack have a queue to work
/// through.
const VERDICT_PATIENCE: Duration = Duration::from_secs(10);
/// Pause before the same attack is played again when it found nothing to do.
const IDLE: Duration = Duration::from_millis(10);
/// Questions under way at a time: what the transport lets a member have with four others, and as many waiting.
const QUESTIONS_MAX: usize = 128;
/// Longest wait for connections.
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
    /// Messages handed to the transport, one per receiver that was connected.
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
    /// Answers of the test endpoints, by name of the visit.
    pub visits: BTreeMap<&'static str, Answers>,
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
        for (name, Answers { seen, .. }) in &self.visits {
            let seen: Vec<String> =
                seen.iter().map(|(status, number)| format!("{number} x {status}")).collect();
            lines.push(format!("{name}: answered {}", seen.join(", ")));
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
    questions: Arc<Semaphore>,
}

impl Agent {
    /// Joins the cluster as the operator it is, and waits for a first connection. Must be called inside a
    /// tokio runtime.
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
        let mut config = Config::new(&seed, lock.cluster_id, traitor.index, members.collect());
        // The lower peer id opens streams: the traitor may have to be dialled.
        config.listen = lock.operators[traitor.index.as_usize()].multiaddrs.clone();
        let network = aequa_p2p::start(config, Arc::clone(&ear) as _, Arc::new(Unobserved))?;
        tokio::spawn(follower.follow(network.clone(), Arc::clone(&traitor)));
        let questions = Arc::new(Semaphore::new(QUESTIONS_MAX));
        let agent = Self { traitor, ear, network, http: reqwest::Client::new(), questions };
        agent.until_connected(1).await?;
        Ok(agent)
    }

    /// Waits until so many operators are connected at once.
    pub async fn until_connected(&self, operators: usize) -> Result<(), AdversaryError> {
        let connected = async {
            while self.connected().len() < operators {
                tokio::time::sleep(IDLE).await;
            }
        };
        tokio::time::timeout(CONNECT_PATIENCE, connected).await.map_err(|_| AdversaryError::Timeout {
            what: format!("connections to {operators} operators"),
            seconds: CONNECT_PATIENCE.as_secs(),
        })
    }

    /// Operators it is connected to now.
    pub fn connected(&self) -> Vec<OperatorIndex> {
        self.network.connected()
    }

    /// The last height of the chain it has followed.
    pub fn height(&self) -> Height {
        self.ear.follower.tip()
    }

    /// Plays the attacks of a plan in turn until its time is over, each at least until it had an opportunity.
    /// `tell` hears of every turn.
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
        let turns = TURNS_MIN.saturating_mul(u32::try_from(attacks.len()).unwrap_or(1));
        let turn = TURN.min(plan.time / turns);
        let mut places = (0..attacks.len()).cycle();
        let mut turns_left = attacks.len();
        while let Some(place) = places.next().filter(|_| turns_left > 0 || Instant::now() < end) {
            turns_left = turns_left.saturating_sub(1);
            let attack = &mut attacks[place];
            let entry = books.attacks.entry(attack.name).or_default();
            let sent = self.act(attack, entry, plan, &mut dice, turn).await;
            let (tip, connected) = (self.height(), self.connected().len());
            tell(format!("{}: {sent} sent, height {tip}, {connected} operators connected", attack.name));
        }
        books.visits = visitor.stop().await;
        Ok(books)
    }

    /// Plays an attack for a turn, and on until all it must be refused as was counted once: what comes after its
    /// height was decided is only old. Enters what came of it; how much was sent.
    async fn act(
        &self,
        attack: &mut Attack,
        entry: &mut Entry,
        plan: &Plan,
        dice: &mut Dice,
        turn: Duration,
    ) -> u64 {
        let before = Look::at(&self.http, &plan.monitoring).await;
        let start = Instant::now();
        let chance = if entry.sent == 0 { CHANCE_PATIENCE } else { Duration::ZERO };
        let mut sent = self.turn(attack, plan.rate, dice, start + turn, start + chance).await;
        let deadline = Instant::now() + VERDICT_PATIENCE;
        let verdicts = loop {
            let verdicts = Look::at(&self.http, &plan.monitoring).await.since(&before);
            let counted = |result: &&str| verdicts.refused(result) + entry.verdicts.refused(result) > 0.0;
            let now = Instant::now();
            let judged = plan.monitoring.is_empty() || attack.refused_as.iter().all(counted);
            if judged || now > deadline {
                break verdicts;
            }
            sent += self.turn(attack, plan.rate, dice, now + IDLE, now).await;
        };
        entry.sent += sent;
        entry.time += start.elapsed();
        entry.verdicts.add(&verdicts);
        sent
    }

    /// One attack's turn until `end`, or until it had an opportunity, but not beyond `patience`; how much it
    /// sent.
    async fn turn(
        &self,
        attack: &mut Attack,
        rate: u32,
        dice: &mut Dice,
        end: Instant,
        patience: Instant,
    ) -> u64 {
        let mut sent = 0;
        let pause = Duration::from_secs(1) / rate.saturating_mul(attack.intensity).max(1);
        while Instant::now() < end || (sent == 0 && Instant::now() < patience) {
            let sendings = attack.play(&mut Scene::new(&self.traitor, dice, &self.ear));
            let count = u32::try_from(sendings.len()).unwrap_or(u32::MAX);
            sent += sendings.iter().map(|sending| self.send(sending)).sum::<u64>();
            tokio::time::sleep(pause.saturating_mul(count).max(IDLE)).await;
        }
        sent
    }

    /// Sends; to how many that are connected. The transport drops the rest.
    fn send(&self, sending: &Sending) -> u64 {
        let connected = self.connected();
        match &sending.to {
            _ if sending.way == Way::Transactions => {
                self.network.broadcast(Topic::Tx, &sending.frame);
                connected.len() as u64
            }
            _ if sending.way == Way::Question => {
                connected.iter().filter(|operator| self.question(**operator, &sending.frame)).count() as u64
            }
            Some(to) => {
                to.iter().for_each(|operator| self.network.send(*operator, Topic::Qbft, &sending.frame));
                to.iter().filter(|operator| connected.contains(operator)).count() as u64
            }
            None => {
                self.network.broadcast(Topic::Qbft, &sending.frame);
                connected.len() as u64
            }
        }
    }

    /// Asks, unless too many questions are under way; nobody waits for the answer.
    fn question(&self, operator: OperatorIndex, frame: &Frame) -> bool {
        let Ok(place) = Arc::clone(&self.questions).try_acquire_owned() else { return false };
        let (network, frame) = (self.network.clone(), frame.clone());
        tokio::spawn(async move {
            let _place = place;
            let _ = network.request(operator, &frame).await;
        });
        true
    }

    /// Leaves the cluster.
    pub async fn leave(self) {
        self.network.shutdown().await;
    }
}
