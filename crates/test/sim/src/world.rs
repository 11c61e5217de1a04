//! Virtual time: the queue of events, and what each of them does.

use crate::client::Client;
use crate::node::{CrashPoint, Kind, Node};
use crate::oracle::{Oracle, Violation, blocks};
use crate::plan::{Options, Plan, Sabotage};
use crate::recording;
use crate::report::Report;
use crate::sights::{self, Counts, fault};
use crate::totals::Totals;
use crate::trace::Trace;
use crate::traitor::Conspiracy;
use crate::verifier::Verifier;
use aequa_byzantine::Dice;
use aequa_host::intake::Intake;
use aequa_replica::{Input, Replica};
use aequa_types::{ClusterId, Height, OperatorIndex};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// A run of up to ten operators that handles more events than this is going in circles; more of them send
/// more, by the square.
const EVENTS_MAX: u64 = 3_000_000;
/// Without faults, what honest nodes hold against one operator is in the chain this many blocks later.
const EVIDENCE_WITHIN_BLOCKS: u64 = 10;
/// In a line of the trace: it concerns the whole cluster.
pub(crate) const ALL: usize = usize::MAX;
/// How often nodes tell each other how far they are, as the node does.
const STATUS_EVERY_MS: u64 = 1000;

/// Something that happens at a moment of virtual time.
pub(crate) enum Event {
    /// An input reaches a node; when `life` is given, only in that life.
    Input { node: usize, life: Option<u64>, input: Box<Input> },
    /// Votes may have waited long enough in a node's intake.
    Overdue { node: usize, life: u64 },
    /// A timer of a node is due.
    Wake { node: usize, life: u64 },
    /// The sync of a node's turn is finished.
    Synced { node: usize, life: u64 },
    /// The store of a node is durable up to this height.
    Flushed { node: usize, life: u64, height: Height, writes: usize },
    /// A question for blocks reaches `peer`.
    FetchAsked { asker: usize, life: u64, peer: usize, height: Height },
    /// A question what was signed reaches `peer`.
    Inquired { asker: usize, life: u64, peer: usize },
    /// Node down, at once or somewhere in its next turn.
    Crash { node: usize, point: Option<CrashPoint> },
    /// Node up.
    Restart { node: usize },
    /// Somebody goes down.
    CrashSomebody,
    /// Clocks are set.
    ClocksStep,
    /// The network falls apart.
    Partition,
    /// These pairs can talk again.
    Heal(Vec<(usize, usize)>),
    /// A client submits something.
    Client,
    /// A client posts a duty.
    Duty,
    /// A node tells the others how far it is.
    Status { node: usize },
    /// The faults are over.
    Calm,
}

struct Scheduled {
    at_ms: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ms, self.sequence) == (other.at_ms, other.sequence)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.sequence).cmp(&(other.at_ms, other.sequence))
    }
}

/// What is demanded once the faults are over.
pub(crate) struct Goal {
    /// Height every honest node must reach.
    pub(crate) height: Height,
    /// Heights above this one must be sealed: all their messages were sent without faults.
    pub(crate) sealed_above: Height,
    deadline_ms: u64,
    within_ms: u64,
}

/// One run.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) plan: Plan,
    pub(crate) cluster: ClusterId,
    pub(crate) dice: Dice,
    pub(crate) now_ms: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    events: u64,
    pub(crate) nodes: Vec<Node>,
    /// Directed pairs of nodes that cannot talk.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    pub(crate) goal: Option<Goal>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) sights: Counts,
    pub(crate) faults: Counts,
    pub(crate) verifier: Verifier,
    pub(crate) conspiracy: Conspiracy,
    pub(crate) client: Client,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice, &options);
        let cluster = ClusterId::repeat_byte(0xC1);
        let nodes = populate(&mut dice, &plan);
        let honest = nodes.iter().filter(|node| node.is_honest()).map(|node| node.operator).collect();
        let quorum = plan.quorum;
        let mut world = Self {
            seed,
            cluster,
            now_ms: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            events: 0,
            nodes,
            blocked: BTreeSet::new(),
            goal: None,
            oracle: Oracle::new(cluster, quorum.operators(), honest),
            trace: Trace::new(options.trace),
            sights: Counts::new(),
            faults: Counts::new(),
            verifier: Verifier::new(cluster, quorum),
            conspiracy: Conspiracy::default(),
            client: Client::default(),
            messages: 0,
            bytes: 0,
            options,
            plan,
            dice,
        };
        world.seed_events();
        world
    }

    fn seed_events(&mut self) {
        for node in 0..self.nodes.len() {
            let up_ms = self.dice.below(200);
            self.after(up_ms, Event::Restart { node });
            let told_ms = self.dice.between(1, STATUS_EVERY_MS);
            self.after(told_ms, Event::Status { node });
        }
        for operator in self.plan.twins.clone() {
            self.trace.note(&[operator.0.into()], || format!("operator {operator} is twins"));
            *self.faults.entry(fault::TWINS).or_default() += 1;
        }
        self.after(self.options.safety_ms, Event::Calm);
        self.after(100, Event::Client);
        self.sometimes(self.plan.duty_every_ms, Event::Duty);
        self.sometimes(self.plan.crash_every_ms, Event::CrashSomebody);
        self.sometimes(self.plan.partition_every_ms, Event::Partition);
        self.sometimes(self.plan.clock_step_every_ms, Event::ClocksStep);
        let plan = self.plan.clone();
        self.trace.note(&[self.seed], || format!("{plan:?}"));
    }

    /// Schedules an event.
    pub(crate) fn after(&mut self, delay_ms: u64, event: Event) {
        self.sequence += 1;
        let at_ms = self.now_ms + delay_ms;
        self.queue.push(Reverse(Scheduled { at_ms, sequence: self.sequence, event }));
    }

    /// Schedules something that happens every `mean_ms`, give or take; 0 is never.
    pub(crate) fn sometimes(&mut self, mean_ms: u64, event: Event) {
        if mean_ms > 0 {
            let delay_ms = self.dice.between(mean_ms / 4, mean_ms * 2);
            self.after(delay_ms, event);
        }
    }

    pub(crate) fn sight(&mut self, sight: &'static str) {
        *self.sights.entry(sight).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// A line of the trace, and words of its hash.
    pub(crate) fn note(&mut self, node: usize, word: u64, line: impl FnOnce() -> String) {
        let now_ms = self.now_ms;
        self.trace.note(&[now_ms, node as u64, word], || match node {
            ALL => format!("{now_ms:>7} {}", line()),
            _ => format!("{now_ms:>7} node {node}: {}", line()),
        });
    }

    /// Lets everything happen until a violation, the goal, or the deadline.
    pub(crate) fn run(mut self) -> Report {
        while self.oracle.violation.is_none() && !self.is_done() {
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now_ms = next.at_ms;
            self.events += 1;
            if let Some(goal) = &self.goal
                && self.now_ms > goal.deadline_ms
            {
                let (within_ms, detail) = (goal.within_ms, self.standing());
                self.oracle.complain(Violation::Stalled { within_ms, detail });
            }
            let tens = (self.nodes.len() as u64).div_ceil(10);
            let events = EVENTS_MAX * tens * tens;
            if self.events > events {
                self.oracle.complain(Violation::Endless { events });
            }
            self.handle(next.event);
        }
        self.report()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Input { node, life, input } => {
                let process = &self.nodes[node];
                if process.is_up() && life.is_none_or(|life| life == process.life) {
                    self.take_in(node, *input);
                }
            }
            Event::Overdue { node, life } if life == self.nodes[node].life => self.take_in_overdue(node),
            Event::Wake { node, life } if life == self.nodes[node].life => {
                self.nodes[node].wake_at = None;
                self.turn(node);
            }
            Event::Synced { node, life } if life == self.nodes[node].life => self.finish_turn(node),
            Event::Flushed { node, life, height, writes } if life == self.nodes[node].life => {
                self.flushed(node, height, writes)
            }
            Event::Overdue { .. } | Event::Wake { .. } | Event::Synced { .. } | Event::Flushed { .. } => {}
            Event::FetchAsked { asker, life, peer, height } => self.serve(asker, life, peer, height),
            Event::Inquired { asker, life, peer } => self.testify(asker, life, peer),
            Event::Crash { node, point } => self.crash(node, point),
            Event::Restart { node } => self.restart(node),
            Event::CrashSomebody => self.crash_somebody(),
            Event::ClocksStep => self.clocks_step(),
            Event::Partition => self.partition(),
            Event::Heal(pairs) => self.heal(pairs),
            Event::Client => self.client_acts(),
            Event::Duty => self.duty_posted(),
            Event::Status { node } => {
                self.tell_height(node);
                self.after(STATUS_EVERY_MS, Event::Status { node });
            }
            Event::Calm => self.calm(),
        }
    }

    /// The faults end; from now on progress is demanded.
    fn calm(&mut self) {
        let start = self.oracle.highest();
        let params = &self.plan.params;
        let heights = self.options.liveness_heights;
        let faulty_max = self.plan.quorum.faulty_max() as u32;
        // Rounds that were far apart meet within a few capped timeouts; then each height may cost
        // one round per faulty leader, and one more where clocks disagree for good.
        let rounds = faulty_max + 2 + u32::from(self.plan.clock_step_every_ms > 0);
        let per_height_ms = params.block_interval_ms
            + (params.round_timeout_ms << rounds).min((4 + u64::from(rounds)) * params.round_timeout_cap_ms);
        let within_ms = 12 * params.round_timeout_cap_ms + (heights + 3) * per_height_ms + 10_000;
        self.goal = Some(Goal {
            height: Height(start.0 + heights + 2),
            sealed_above: Height(start.0 + 2),
            deadline_ms: self.now_ms + within_ms,
            within_ms,
        });
        self.note(ALL, start.0, || format!("the faults are over at height {start}"));
        let blocked = std::mem::take(&mut self.blocked);
        self.heal(blocked.into_iter().collect());
        self.freeze_all_but_a_quorum();
        for node in 0..self.nodes.len() {
            self.nodes[node].doomed = None;
            self.nodes[node].disk.disarm();
            self.nodes[node].disk_will_fail = false;
            self.restart(node);
        }
        self.demand_evidence(start, per_height_ms);
    }

    /// In some runs q honest operators have to go on alone, with nobody to spare and nobody coming back.
    fn freeze_all_but_a_quorum(&mut self) {
        if !self.plan.frozen_at_last {
            return;
        }
        let careless = &self.plan.careless;
        let mut alive: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_honest() && !careless.contains(&self.nodes[*node].operator))
            .collect();
        while alive.len() > self.oracle.quorum() {
            alive.swap_remove(self.dice.index(alive.len()));
        }
        for node in (0..self.nodes.len()).filter(|node| !alive.contains(node)) {
            if self.nodes[node].is_up() {
                self.down(node);
            }
            self.nodes[node].frozen = true;
            self.fault(fault::FROZEN);
        }
        self.note(ALL, alive.len() as u64, || format!("only {alive:?} go on"));
    }

    /// Evidence that honest nodes have when the faults end must be committed within a number of blocks.
    fn demand_evidence(&mut self, start: Height, per_height_ms: u64) {
        let contradicting = (self.plan.traitors.len() + self.plan.twins.len()).max(1) as u64;
        let blocks = EVIDENCE_WITHIN_BLOCKS * contradicting;
        let honest = self.nodes.iter().filter(|node| node.is_bound_to_get_on());
        for evidence in honest.filter_map(Node::replica).flat_map(Replica::pending_evidence) {
            self.oracle.demands(evidence, Height(start.0 + blocks));
        }
        if let Some(goal) = self.goal.as_mut().filter(|_| !self.oracle.is_satisfied(start)) {
            goal.within_ms += blocks * per_height_ms;
            goal.deadline_ms += blocks * per_height_ms;
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.goal.is_some()
    }

    fn is_done(&self) -> bool {
        let Some(goal) = &self.goal else { return false };
        let mut bound = self.nodes.iter().filter(|node| node.is_bound_to_get_on());
        bound.all(|node| {
            let tip = node.store.tip();
            tip >= goal.height && self.unsealed(node, goal).is_none() && self.oracle.is_satisfied(tip)
        })
    }

    /// The first block of the goal that has no group seal at this node.
    fn unsealed(&self, node: &Node, goal: &Goal) -> Option<Height> {
        let mut heights = (goal.sealed_above.0 + 1..=goal.height.0).map(Height);
        heights.find(|height| {
            let stored = node.store.block(*height);
            self.plan.seals && stored.is_none_or(|stored| stored.certificate.group_seal().is_none())
        })
    }

    /// Who is where, for the report of a stall.
    fn standing(&self) -> String {
        let bound = self.nodes.iter().enumerate().filter(|(_, node)| node.is_bound_to_get_on());
        let lines = bound.map(|(id, node)| {
            let round = node.replica().map_or(0, |replica| replica.round_and_leader().0.0);
            let unsealed = self.goal.as_ref().and_then(|goal| self.unsealed(node, goal));
            let seals = unsealed.map_or(String::new(), |height| format!(", block {height} not sealed"));
            format!("node {id} at height {} in round {round}{seals}", node.store.tip())
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    fn report(mut self) -> Report {
        if self.is_done() && self.nodes.iter().any(|node| node.frozen) {
            self.sight(sights::QUORUM_ALONE);
        }
        for node in 0..self.nodes.len() {
            self.count_pools(node);
        }
        Report {
            seed: self.seed,
            nodes: self.plan.quorum.operators(),
            violation: self.oracle.violation.clone(),
            log_hash: self.trace.hash,
            totals: Totals {
                virtual_ms: self.now_ms,
                events: self.events,
                heights: blocks(self.oracle.instances()) as u64,
                instances: self.oracle.instances().count() as u64,
                messages: self.messages,
                bytes: self.bytes,
                sights: self.sights,
                faults: self.faults,
            },
            trace: self.trace.lines.unwrap_or_default(),
            recordings: recording::of(self.plan.quorum, self.cluster, &self.plan.params, self.nodes),
        }
    }

    pub(crate) fn is_sabotaged(&self, by: Sabotage) -> bool {
        self.options.sabotage == Some(by)
    }
}

fn populate(dice: &mut Dice, plan: &Plan) -> Vec<Node> {
    let mut nodes = Vec::new();
    let intake = || Intake::new(plan.quorum, plan.seals);
    let skew = |dice: &mut Dice| dice.between(0, 2 * plan.skew_ms) as i64 - plan.skew_ms as i64;
    for operator in plan.quorum.members() {
        let traits =
            plan.traitors.iter().find(|(traitor, _)| *traitor == operator).map(|(_, traits)| *traits);
        let kind = match traits {
            Some(traits) => Kind::Traitor(traits),
            None if plan.twins.contains(&operator) => Kind::Twin,
            None => Kind::Honest,
        };
        nodes.push(Node::new(operator, kind, skew(dice), intake()));
    }
    let twins: Vec<OperatorIndex> = plan.twins.clone();
    nodes.extend(twins.into_iter().map(|operator| Node::new(operator, Kind::Twin, skew(dice), intake())));
    nodes
}
