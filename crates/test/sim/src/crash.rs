//! Going down and coming back: what a restarted node knows is what its disk gives it.

use crate::alarms::Alarms;
use crate::keys::SimKeys;
use crate::node::{CrashPoint, Kind};
use crate::oracle::Violation;
use crate::plan::Sabotage;
use crate::promises::{Found, Promises, WAL};
use crate::ram::Failure;
use crate::sights::{self, fault};
use crate::store::Stored;
use crate::world::{Event, World};
use aequa_chain::StateRead;
use aequa_host::Host;
use aequa_host::intake::Intake;
use aequa_host::recording::{ReadState, Start};
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Halt, Recovery, Replica, SigningHistory};
use aequa_storage::StorageError;
use aequa_types::{Digest, Height, InstanceId, OperatorIndex, Record, Value, VoteKey};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// How many of the newest blocks may still get their seal after a restart.
const UNSEALED_BLOCKS: usize = 32;
/// In a thousand crashes: how many take many nodes down at once.
const CRASH_MANY: u64 = 80;
/// Shortest and longest time down.
const DOWN_MS: (u64, u64) = (50, 4000);
/// In a thousand ends of a node: how many leave a block store that it does not trust.
const STORE_DAMAGED: u64 = 60;
/// Calls to the disk until a prepared failure: a turn makes four, and ten when a file is replaced.
const DISK_CALLS: u64 = 14;

/// Operations of turns until a prepared end: a turn has one to ten.
const TURN_OPERATIONS: u64 = 10;

impl World {
    /// Takes a random node down, more often in the middle of its next turn than between two.
    pub(crate) fn crash_somebody(&mut self) {
        if self.is_calm() {
            return;
        }
        self.sometimes(self.plan.crash_every_ms, Event::CrashSomebody);
        if self.dice.chance(CRASH_MANY) {
            return self.crash_many();
        }
        let node = self.dice.index(self.nodes.len());
        let point = self.dice.pick(&[
            None,
            Some(CrashPoint::InDisk),
            Some(CrashPoint::InDisk),
            Some(CrashPoint::InDisk),
            Some(CrashPoint::OnDiskError),
            Some(CrashPoint::InTurn),
            Some(CrashPoint::InTurn),
            Some(CrashPoint::InTurn),
            Some(CrashPoint::InTurn),
        ]);
        if point.is_none() && self.nodes[node].is_up() {
            self.fault(fault::CRASH_IDLE);
        }
        self.after(0, Event::Crash { node, point });
    }

    /// Everybody goes down at once, or as many as members that could remember for the others.
    fn crash_many(&mut self) {
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        let weak = self.plan.quorum.weak_quorum();
        let count = self.dice.pick(&[weak, nodes.len()]);
        self.fault(fault::CRASH_MANY);
        for _ in 0..count.min(nodes.len()) {
            let node = nodes.swap_remove(self.dice.index(nodes.len()));
            self.after(0, Event::Crash { node, point: None });
        }
    }

    /// Down now, or at this point of the next turn.
    pub(crate) fn crash(&mut self, id: usize, point: Option<CrashPoint>) {
        if !self.nodes[id].is_up() {
            return;
        }
        match point {
            None => self.down(id),
            Some(CrashPoint::InDisk) => {
                let torn = self.dice.below(1 << 32);
                self.prepare_disk_failure(id, Failure::Ends { torn });
            }
            Some(CrashPoint::OnDiskError) => self.prepare_disk_failure(id, Failure::Fails),
            Some(CrashPoint::InTurn) => {
                let left = self.dice.below(TURN_OPERATIONS);
                self.nodes[id].doomed = Some(left);
            }
        }
    }

    fn prepare_disk_failure(&mut self, id: usize, failure: Failure) {
        let calls = self.dice.below(DISK_CALLS);
        let node = &mut self.nodes[id];
        node.disk.arm(calls, failure);
        node.disk_will_fail = true;
    }

    /// A call to the disk has failed: the node ends, and that is all right if the failure was prepared.
    pub(crate) fn disk_failed(&mut self, id: usize, error: &StorageError) {
        let node = &self.nodes[id];
        let may_fail = !matches!(error, StorageError::Contradiction { .. });
        if let Some(manner) = node.prepared_failure().filter(|_| may_fail) {
            self.fault(manner);
            return self.down(id);
        }
        let (operator, reason) = (node.operator, format!("log or signing database: {error}"));
        self.oracle.complain(Violation::Halted { operator, reason });
    }

    /// The process ends, and perhaps the machine with it.
    pub(crate) fn down(&mut self, id: usize) {
        self.count_pools(id);
        let power_cut = self.dice.chance(600);
        let node = &mut self.nodes[id];
        node.turn = None;
        node.told.clear();
        node.begins = false;
        node.promises = None;
        node.hearing.clear();
        node.host = None;
        node.doomed = None;
        node.disk_will_fail = false;
        node.intake = Intake::new(self.plan.quorum, self.plan.seals);
        node.waits = false;
        node.inbox.clear();
        node.owed.clear();
        node.wake_at = None;
        node.life += 1;
        let sectors = if power_cut {
            node.disk.cut(&mut self.dice)
        } else {
            node.disk.kill();
            0
        };
        let blocks = node.store.crash(&mut self.dice);
        self.fault(if power_cut { fault::POWER_CUT } else { fault::KILLED });
        self.note(id, sectors as u64, || {
            let how = if power_cut { "loses power" } else { "is killed" };
            format!("{how}; {sectors} sectors and {blocks} blocks lost")
        });
        if blocks > 0 {
            self.sight(sights::STORE_LOST);
        }
        self.mishandle(id, power_cut);
        self.set_store_aside(id);
        let down_ms = self.dice.between(DOWN_MS.0, DOWN_MS.1);
        self.after(down_ms, Event::Restart { node: id });
    }

    /// What a careless or faulty operator does to its directory while the node is down.
    fn mishandle(&mut self, id: usize, power_cut: bool) {
        if matches!(self.nodes[id].kind, Kind::Traitor(traits) if traits.amnesia) {
            self.nodes[id].lose_directory();
            return self.fault(fault::AMNESIA);
        }
        if self.is_calm() || !self.plan.careless.contains(&self.nodes[id].operator) {
            return;
        }
        let act = self.dice.below(12);
        let with_blocks = self.dice.chance(500);
        let node = &mut self.nodes[id];
        match act {
            0..3 => {
                let copy = node.directory();
                node.copies.push(copy);
            }
            3..6 => {
                node.lose_directory();
                node.is_lost = true;
                node.limbo.clear();
                if with_blocks {
                    node.store.forget();
                }
                self.forgets(id);
                self.fault(fault::DIRECTORY_LOST);
                self.note(id, 0, || "its log and signing database are lost".into());
            }
            // The signing database outlives the end of the log, unless a power cut took it in the same moment.
            6 if !power_cut => {
                let bytes = self.dice.between(1, 200) as usize;
                let node = &mut self.nodes[id];
                // Decisions in it go with it; peers have them.
                node.disk.rot(Path::new(WAL), bytes);
                self.oracle.falls_back(node.operator, node.store.tip());
                self.fault(fault::LOG_ROTTEN);
                self.note(id, 0, || format!("the last {bytes} bytes of its log rot"));
            }
            7..9 if !self.options.honest => {
                // Of any age: the last turn's, or the first one's.
                let number = self.dice.index(node.copies.len().max(1));
                if !node.restore_copy(number) {
                    return;
                }
                // What it signed since may reach it as something it knows nothing of: it counts as faulty.
                node.restored = true;
                node.limbo.clear();
                let reliable = self.reliable_but(id);
                self.oracle.returns_on_copy(self.nodes[id].operator, &reliable);
                self.fault(fault::COPY_RESTORED);
                self.note(id, 0, || "runs on an old copy of its directory from now on".into());
            }
            9..12 => {
                if !self.nodes[id].store.spoil(self.cluster, self.plan.quorum) {
                    return;
                }
                // Decisions in its log cannot be executed on it.
                let node = &self.nodes[id];
                self.oracle.falls_back(node.operator, node.store.tip());
                self.fault(fault::STATE_SPOILED);
                self.note(id, 0, || "has another state than it wrote".into());
            }
            _ => {}
        }
    }

    /// The node finds its block store damaged, and sets it aside: log and signing database stay. It comes back with
    /// nothing, or with the state of another node. As many others as it takes to have an honest one among them have
    /// all blocks, and keep them.
    fn set_store_aside(&mut self, id: usize) {
        let node = &self.nodes[id];
        let (operator, tip) = (node.operator, node.store.tip());
        let is_sound = node.is_honest() && !node.is_lost && !self.plan.careless.contains(&operator);
        if self.is_calm() || !is_sound || tip == Height(0) || !self.dice.chance(STORE_DAMAGED) {
            return;
        }
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|other| {
                let node = &self.nodes[*other];
                let keeps = node.is_honest() && !node.frozen && !self.plan.careless.contains(&node.operator);
                *other != id && keeps && node.store.is_whole() && node.store.tip() >= tip
            })
            .collect();
        if others.len() < self.plan.quorum.weak_quorum() {
            return;
        }
        let from = others[self.dice.index(others.len())];
        let height = Height(self.dice.between(1, self.nodes[from].store.tip().0));
        let given = match self.dice.chance(500) {
            true => self.nodes[from].store.give(&self.cluster, height),
            false => None,
        };
        self.fault(fault::STORE_DAMAGED);
        let node = &mut self.nodes[id];
        (node.is_repairing, node.set_aside) = (true, node.set_aside.max(tip));
        match given {
            Some(given) => {
                let digest = given.0.block.digest();
                self.nodes[id].store.begin_with(given);
                self.oracle.takes_over(operator, height, digest);
                self.sight(sights::STATE_TAKEN);
                self.note(id, height.0, || {
                    format!(
                        "sets its block store aside, and takes the state after block {height} of node {from}"
                    )
                });
            }
            None => {
                self.nodes[id].store.forget();
                self.oracle.falls_back(operator, Height(0));
                self.note(id, 0, || "sets its block store aside".into());
            }
        }
    }

    /// A node whose state was spoiled has noticed it, and sets its store aside.
    pub(crate) fn fenced(&mut self, id: usize, halt: &Halt) {
        self.sight(sights::FENCED);
        self.note(id, 0, || format!("fences itself: {halt}"));
        let node = &mut self.nodes[id];
        let (operator, tip) = (node.operator, node.store.tip());
        (node.is_repairing, node.set_aside) = (true, node.set_aside.max(tip));
        node.store.forget();
        self.oracle.falls_back(operator, Height(0));
        self.down(id);
    }

    /// Log and signing database are gone. What it signed is known to others, who keep what they signed themselves.
    fn forgets(&mut self, id: usize) {
        let (operator, tip) = (self.nodes[id].operator, self.nodes[id].store.tip());
        self.oracle.falls_back(operator, tip);
        let reliable = self.reliable_but(id);
        self.oracle.forgets(operator, reliable);
    }

    /// The operators that will not lose what they signed or heard, without the one of this node.
    fn reliable_but(&self, id: usize) -> BTreeSet<OperatorIndex> {
        let (operator, careless) = (self.nodes[id].operator, &self.plan.careless);
        let honest = self.nodes.iter().filter(|node| node.is_honest()).map(|node| node.operator);
        honest.filter(|other| *other != operator && !careless.contains(other)).collect()
    }

    /// Up again, from disk.
    pub(crate) fn restart(&mut self, id: usize) {
        if self.nodes[id].is_up() || self.nodes[id].frozen {
            return;
        }
        if self.is_sabotaged(Sabotage::ForgetLog) {
            self.nodes[id].lose_directory();
        }
        if self.is_sabotaged(Sabotage::ForgetStore) {
            self.nodes[id].lose_directory();
            self.nodes[id].store.forget();
        }
        if !self.is_calm() && self.dice.chance(self.plan.crash_in_recovery) {
            let failure = Failure::Ends { torn: self.dice.below(1 << 32) };
            self.prepare_disk_failure(id, failure);
        }
        let node = &mut self.nodes[id];
        let found = match Promises::open(&node.disk, self.cluster, node.operator, node.is_lost) {
            Ok((promises, found)) => {
                node.promises = Some(promises);
                node.is_lost = false;
                found
            }
            Err(error) => {
                if node.disk_will_fail {
                    self.fault(fault::CRASH_RECOVERING);
                }
                return self.disk_failed(id, &error);
            }
        };
        self.examine(id, &found);
        let Some(host) = self.recovered(id, found) else { return };
        let node = &mut self.nodes[id];
        node.born_ms = self.now_ms;
        node.begins = true;
        node.host = Some(host);
        node.alarms = Alarms::default();
        self.host_turn(id, None);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != id) {
            self.connect(id, peer);
        }
        if !self.nodes[id].may_lead {
            self.tell_whether_to_lead(id);
        }
    }

    /// The first turn of a life has finished what was decided before it.
    pub(crate) fn started(&mut self, id: usize, stored: Height) {
        let node = &self.nodes[id];
        let (operator, honest) = (node.operator, node.is_honest());
        let Some(replica) = node.replica() else { return };
        let (tip, asks) = (*replica.chain().tip(), replica.is_rejoining());
        self.note(id, tip.height.0, || {
            let asking = if asks { ", and asks what it signed" } else { "" };
            format!("starts at height {stored}, goes on from {}{asking}", tip.height)
        });
        if !honest {
            return;
        }
        // What it stored in the moment in which it went down, nobody has heard of yet.
        let unheard: Vec<Height> = (1..=stored.0)
            .rev()
            .map(Height)
            .take_while(|height| !self.oracle.knows(operator, *height))
            .collect();
        for height in unheard.into_iter().rev() {
            if let Some(Stored { block, certificate, applied }) = self.nodes[id].store.block(height) {
                self.oracle.commits(operator, block, certificate, applied);
            }
        }
        self.oracle.restarts(operator, tip.height, tip.digest);
    }

    /// What log and signing database gave back is durable now. (That they do not contradict each other was checked when they were opened.)
    fn examine(&mut self, id: usize, found: &Found) {
        let node = &mut self.nodes[id];
        let known: BTreeSet<VoteKey> =
            found.records.iter().filter_map(Record::statement).map(|signed| signed.vote_key()).collect();
        let alone = found.votes.iter().map(|vote| vote.key).filter(|key| !known.contains(key));
        node.half_known = alone.filter(|key| !node.store.has(key.instance)).collect();
        let half_known = !node.half_known.is_empty();
        let (operator, honest, limbo) = (node.operator, node.is_honest(), std::mem::take(&mut node.limbo));
        let kept = limbo.iter().filter(|record| found.records.contains(record)).count();
        if kept < limbo.len() {
            self.sight(sights::TORN_LOST);
            if kept > 0 {
                self.sight(sights::TORN_KEPT);
            }
        }
        let seen = [
            (found.torn, sights::TORN_TAIL),
            (found.unreadable > 0, sights::TORN_MARK),
            (half_known, sights::MARK_ALONE),
        ];
        for (_, sight) in seen.into_iter().filter(|(seen, _)| *seen) {
            self.sight(sight);
        }
        if !honest {
            return;
        }
        for record in &found.records {
            self.oracle.synced(operator, record);
        }
    }

    fn recovered(&mut self, id: usize, found: Found) -> Option<Host<SimKeys>> {
        let values = self.values_in(&found.records);
        let node = &self.nodes[id];
        let operator = node.operator;
        let read = Arc::new(ReadState::new(node.store.state()));
        let state: Arc<dyn StateRead> = match self.options.record {
            true => Arc::<ReadState>::clone(&read),
            false => node.store.state(),
        };
        let chain = match node.store.chain(self.cluster, self.plan.quorum, state) {
            Ok(chain) => chain,
            Err(error) => {
                let reason = format!("store does not restore: {error}");
                self.oracle.complain(Violation::Halted { operator, reason });
                return None;
            }
        };
        let limits = Limits { per_sender: 16, expiry_heights: 40, ..Limits::default() };
        let mempool = Mempool::new(limits, self.plan.params.builder.clone()).ok()?;
        let config = Config {
            cluster_id: self.cluster,
            me: operator,
            quorum: self.plan.quorum,
            params: self.plan.params.clone(),
            limits,
            builder: true,
            seals: self.plan.seals,
            sessions_max: self.plan.sessions_max,
            first_height: Height(1),
            last_height: None,
        };
        let keys = SimKeys { seals: self.plan.seals, operator };
        let recovery = Recovery {
            values,
            closed_duties: node.store.duties(),
            newest_duties: node.store.newest_duties(),
            duty_watermarks: node.store.watermarks(),
            votes: found.votes,
            watermarks: found.watermarks,
            history: self.history_of(id, found.suspect),
            unsealed: node.store.unsealed(UNSEALED_BLOCKS),
            evidence: node.store.evidence(),
            records: found.records,
        };
        let start = self
            .options
            .record
            .then(|| Start::of(Digest::ZERO, &config, chain.tip(), self.plan.quorum, &recovery));
        let host = Host::new(Replica::new(config, keys, chain, mempool, recovery));
        Some(match start {
            Some(start) => host.recorded(start, read),
            None => host,
        })
    }

    /// Traitors ask nobody: they know what they do.
    fn history_of(&self, id: usize, suspect: bool) -> SigningHistory {
        let node = &self.nodes[id];
        match node.kind {
            Kind::Traitor(_) => SigningHistory::Trusted,
            // Two that begin together; each restart asks, and hears of the other.
            Kind::Twin if node.life == 0 => SigningHistory::Trusted,
            Kind::Twin | Kind::Honest if suspect => SigningHistory::Lost,
            Kind::Twin | Kind::Honest => SigningHistory::Unverified,
        }
    }

    fn values_in(&mut self, records: &[Record]) -> Vec<(InstanceId, Value)> {
        let mut values = Vec::new();
        for record in records {
            if let Record::Value(record) = record
                && let Some(value) = self.verifier.value(record.instance, record.value.clone())
            {
                values.push((record.instance, value));
            }
        }
        values
    }
}
