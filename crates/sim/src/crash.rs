//! Going down and coming back: what a restarted node knows is what its disk gives it.

use crate::keys::SimKeys;
use crate::node::{CrashPoint, Timers};
use crate::oracle::Violation;
use crate::plan::Sabotage;
use crate::sights::{self, fault};
use crate::world::{Event, World};
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Effect, Recovery, Replica};
use aequa_types::{Domain, InstanceId, Message, Record, Value};

/// How many of the newest blocks may still get their seal after a restart.
const UNSEALED_BLOCKS: usize = 32;
/// Shortest and longest time down.
const DOWN_MS: (u64, u64) = (50, 4000);

impl World {
    /// Takes a random node down, more often in the middle of its next turn than between two.
    pub(crate) fn crash_somebody(&mut self) {
        if self.is_calm() {
            return;
        }
        self.sometimes(self.plan.crash_every_ms, Event::CrashSomebody);
        let node = self.dice.index(self.nodes.len());
        let point = self.dice.pick(&[
            None,
            Some(CrashPoint::BeforeSync),
            Some(CrashPoint::BeforeSync),
            Some(CrashPoint::BeforeSend),
            Some(CrashPoint::WhileSending),
            Some(CrashPoint::WhileStoring),
        ]);
        if point.is_none() && self.nodes[node].is_up() {
            self.fault(fault::CRASH_IDLE);
        }
        self.after(0, Event::Crash { node, point });
    }

    /// Down now, or at this point of the next turn.
    pub(crate) fn crash(&mut self, id: usize, point: Option<CrashPoint>) {
        if !self.nodes[id].is_up() {
            return;
        }
        if point.is_some() {
            self.nodes[id].doomed = point;
            return;
        }
        self.count_pools(id);
        let node = &mut self.nodes[id];
        node.replica = None;
        node.turn = None;
        node.doomed = None;
        node.inbox.clear();
        node.timers = Timers::default();
        node.wake_at = None;
        node.life += 1;
        let before = node.log.records().len();
        let (kept, lost) = node.log.crash(&mut self.dice);
        if node.is_honest() {
            for record in &node.log.records()[before..] {
                self.oracle.synced(node.operator, record);
            }
        }
        let blocks = node.store.crash(&mut self.dice);
        self.note(id, lost as u64, || format!("crashes; {lost} records and {blocks} blocks lost"));
        if lost > 0 {
            self.sight(sights::TORN_LOST);
            if kept > 0 {
                self.sight(sights::TORN_KEPT);
            }
        }
        if blocks > 0 {
            self.sight(sights::STORE_LOST);
        }
        let down_ms = self.dice.between(DOWN_MS.0, DOWN_MS.1);
        self.after(down_ms, Event::Restart { node: id });
    }

    /// Up again, from disk.
    pub(crate) fn restart(&mut self, id: usize) {
        if self.nodes[id].is_up() {
            return;
        }
        if self.is_sabotaged(Sabotage::ForgetLog) {
            self.nodes[id].log.forget();
        }
        if self.is_sabotaged(Sabotage::ForgetStore) {
            self.nodes[id].log.forget();
            self.nodes[id].store.forget();
        }
        let Some(mut replica) = self.restored(id) else { return };
        let node = &mut self.nodes[id];
        node.born_ms = self.now_ms;
        let effects = replica.start(node.clocks(self.now_ms));
        let (operator, tip) = (node.operator, *replica.chain().tip());
        let before = node.store.tip();
        node.replica = Some(replica);
        self.note(id, tip.height.0, || format!("starts at height {before}, goes on from {}", tip.height));
        if self.nodes[id].is_honest() {
            self.oracle.restarts(operator, tip.height, tip.digest);
            self.observe_start(&effects);
        }
        self.observe(id, &effects, None);
        self.take_effects(id, effects);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != id) {
            self.connect(id, peer);
        }
    }

    fn restored(&mut self, id: usize) -> Option<Replica<SimKeys>> {
        let node = &self.nodes[id];
        let operator = node.operator;
        let chain = match node.store.chain(self.cluster, self.plan.quorum) {
            Ok(chain) => chain,
            Err(error) => {
                let reason = format!("store does not restore: {error}");
                self.oracle.complain(Violation::Halted { operator, reason });
                return None;
            }
        };
        let records = node.log.records().to_vec();
        let values: Vec<(InstanceId, Value)> = records
            .iter()
            .filter_map(|record| match record {
                Record::Value(record) => {
                    let value = self.verifier.value(record.instance, record.value.clone())?;
                    Some((record.instance, value))
                }
                _ => None,
            })
            .collect();
        let closed_duties = node.store.duties();
        let unsealed = node.store.unsealed(UNSEALED_BLOCKS);
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
            record: self.options.record,
        };
        let keys = SimKeys { seals: self.plan.seals, operator };
        let evidence = node.store.evidence();
        let recovery = Recovery { records, values, closed_duties, unsealed, evidence, ..Recovery::default() };
        Some(Replica::new(config, keys, chain, mempool, recovery))
    }

    fn observe_start(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Commit { .. } => self.sight(sights::FINISHED_AFTER_RESTART),
                Effect::Broadcast(Message::PrePrepare(message))
                    if message.proposal.instance.domain == Domain::Block =>
                {
                    self.sight(sights::PROPOSAL_RESENT)
                }
                Effect::Broadcast(Message::Prepare(_) | Message::Commit(_) | Message::RoundChange(_)) => {
                    self.sight(sights::VOTE_RESENT)
                }
                _ => {}
            }
        }
    }
}
