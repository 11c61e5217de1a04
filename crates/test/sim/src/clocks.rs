//! Wall clocks that are set while nodes run: by a leap second, an administrator, a machine that wakes up. Timers
//! run on another clock and do not notice.

use crate::sights::fault;
use crate::world::{ALL, Event, World};
use aequa_host::clocks::is_alone;
use aequa_replica::Input;
use aequa_types::OperatorIndex;
use std::collections::BTreeMap;

/// How far a clock is set in milliseconds, either way: a leap second, just beyond what a fresh block may be off,
/// a minute, a day.
const STEPS_MS: [i64; 4] = [1_000, 2_500, 60_000, 86_400_000];

impl World {
    /// Sets the clocks of one operator, of f, of f+1 or of all, and all of them by the same.
    pub(crate) fn clocks_step(&mut self) {
        if self.is_calm() {
            return;
        }
        self.sometimes(self.plan.clock_step_every_ms, Event::ClocksStep);
        let (all, quorum) = (self.nodes.len(), self.plan.quorum);
        let wanted = self.dice.pick(&[1, quorum.faulty_max(), quorum.weak_quorum(), all]);
        let step_ms = self.dice.pick(&STEPS_MS) * self.dice.pick(&[-1, 1]);
        let mut nodes: Vec<usize> = (0..all).collect();
        while nodes.len() > wanted {
            nodes.swap_remove(self.dice.index(nodes.len()));
        }
        nodes.iter().for_each(|node| self.nodes[*node].skew_ms += step_ms);
        self.fault(fault::CLOCKS_STEPPED);
        self.note(ALL, nodes.len() as u64, || format!("the clocks of {nodes:?} are set by {step_ms} ms"));
        self.compare_clocks();
    }

    /// Nodes notice whether their clocks are off.
    fn compare_clocks(&mut self) {
        for id in 0..self.nodes.len() {
            let mine = self.nodes[id].skew_ms;
            // Of twins the others see one.
            let offsets = self.nodes.iter().map(|node| (node.operator, node.skew_ms - mine));
            let mut of_others: BTreeMap<OperatorIndex, i64> = offsets.collect();
            of_others.remove(&self.nodes[id].operator);
            let may_lead = !is_alone(of_others.into_values(), self.plan.quorum);
            if self.nodes[id].may_lead != may_lead {
                self.nodes[id].may_lead = may_lead;
                self.tell_whether_to_lead(id);
            }
        }
    }

    /// A node is told whether it may lead, after a change and after a start.
    pub(crate) fn tell_whether_to_lead(&mut self, id: usize) {
        let (life, input) = (Some(self.nodes[id].life), Input::MayLead(self.nodes[id].may_lead));
        self.after(0, Event::Input { node: id, life, input: Box::new(input) });
    }
}
