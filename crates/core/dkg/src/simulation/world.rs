//! The network, the disks and the clock.

use super::byzantine::Misbehaviour;
use crate::fixture::{definition, participant, secrets};
use crate::{
    Ceremony, Checked, Definition, Entry, Input, Message, Notice, OldKeys, Outbound, Output, Promise,
    SecretShares, Secrets, Timer, Timing, TranscriptStore,
};
use aequa_testkit::Dice;
use aequa_types::OperatorIndex;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

/// Virtual time after which a ceremony that has not ended is stuck.
const END_MS: u64 = 900_000;
pub(super) const TIMING: Timing =
    Timing { commits_ms: 4_000, verdicts_ms: 4_000, round_ms: 2_000, resend_ms: 700 };

#[derive(Default, Clone)]
pub(super) struct Disk {
    pub entries: Vec<Entry>,
    promises: BTreeSet<Promise>,
}

impl TranscriptStore for Disk {
    type Error = Infallible;

    fn append(&mut self, entries: &[Entry]) -> Result<(), Infallible> {
        self.promises.extend(entries.iter().filter_map(Entry::promise));
        self.entries.extend_from_slice(entries);
        Ok(())
    }

    fn holds(&self, promise: &Promise) -> bool {
        self.promises.contains(promise)
    }
}

/// What happens to messages and nodes, in percent.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub loss: usize,
    pub repeat: usize,
    pub crash: usize,
    pub delay_ms: usize,
}

pub(super) struct Node {
    pub ceremony: Option<Ceremony>,
    pub disk: Disk,
    timers: BTreeMap<u8, (Timer, u64)>,
    pub misbehaviour: Option<Misbehaviour>,
    /// When it is started; none for who stays away.
    start_ms: Option<u64>,
    /// Number of the write at which it crashes, and whether the write survives.
    crash_at: Option<(usize, bool)>,
    pub writes: usize,
    pub notices: Vec<Notice>,
}

enum Event {
    Start(usize),
    Arrive { to: usize, from: OperatorIndex, bytes: Vec<u8> },
    Fire { node: usize, timer: Timer, at_ms: u64 },
}

pub(super) struct World {
    pub definition: Arc<Definition>,
    pub nodes: Vec<Node>,
    /// The keys of each node, and its old shares.
    keys: Vec<(u8, Option<SecretShares>)>,
    /// Nodes that hear nobody else in this time, and are heard by nobody else.
    partition: Option<(Vec<usize>, Range<u64>)>,
    pub faults: Faults,
    pub dice: Dice,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    now_ms: u64,
    /// All that left honest nodes.
    pub sent: Vec<(OperatorIndex, Message)>,
    pub crashes: usize,
    /// How long it goes on after the end.
    linger_ms: u64,
    /// What was checked: the same bytes say the same to everybody.
    checked: BTreeMap<Vec<u8>, Option<Checked>>,
}

impl World {
    pub fn new(operators: usize, validators: usize, seed: u64, faults: Faults) -> Self {
        let node = |_| Node {
            ceremony: None,
            disk: Disk::default(),
            timers: BTreeMap::new(),
            misbehaviour: None,
            start_ms: Some(0),
            crash_at: None,
            writes: 0,
            notices: Vec::new(),
        };
        Self {
            definition: Arc::new(definition(operators, validators)),
            nodes: (0..operators).map(node).collect(),
            keys: (0..operators as u8).map(|number| (number, None)).collect(),
            partition: None,
            faults,
            dice: Dice(seed),
            events: BTreeMap::new(),
            sequence: 0,
            now_ms: 0,
            sent: Vec::new(),
            crashes: 0,
            linger_ms: 0,
            checked: BTreeMap::new(),
        }
    }

    /// Keys of a ceremony that ended, dealt anew to operators with these keys, each with the index of the old one whose
    /// shares it holds.
    pub fn anew(old: &World, operators: &[(u8, Option<usize>)], seed: u64, faults: Faults) -> Self {
        Self::anew_with(old, operators, &[], seed, faults)
    }

    /// The same, and these old ones leave; their nodes come after the others.
    pub fn anew_with(
        old: &World,
        operators: &[(u8, Option<usize>)],
        leavers: &[(u8, Option<usize>)],
        seed: u64,
        faults: Faults,
    ) -> Self {
        let everybody = [operators, leavers].concat();
        let public = &old.ceremony(old.honest()[0]).outcome().unwrap().public;
        let keys = OldKeys {
            threshold: old.definition.quorum().quorum(),
            holders: everybody
                .iter()
                .map(|(_, holder)| holder.map(|holder| OperatorIndex(holder as u8)))
                .collect(),
            leavers: leavers.iter().map(|(number, _)| participant(*number)).collect(),
            chain: public.chain.clone(),
            validators: public.validators.clone(),
        };
        let participants = operators.iter().map(|(number, _)| participant(*number)).collect();
        let mut ceremony = old.definition.ceremony();
        ceremony.0[31] ^= 1 + seed as u8;
        let threshold = (2 * operators.len()).div_ceil(3);
        let definition = Definition::resharing(ceremony, participants, threshold, keys).unwrap();
        let shares = |holder: usize| old.ceremony(holder).outcome().unwrap().secret.clone().unwrap();
        Self {
            definition: Arc::new(definition),
            keys: everybody.iter().map(|(number, holder)| (*number, holder.map(shares))).collect(),
            ..Self::new(everybody.len(), 0, seed, faults)
        }
    }

    /// When it ended.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub fn secrets(&self, node: usize) -> Secrets {
        let (number, old) = &self.keys[node];
        let secrets = secrets(*number);
        match old {
            Some(old) => secrets.with_old(old.clone()),
            None => secrets,
        }
    }

    pub fn lingering(mut self, linger_ms: u64) -> Self {
        self.linger_ms = linger_ms;
        self
    }

    pub fn absent(mut self, node: usize) -> Self {
        self.nodes[node].start_ms = None;
        self
    }

    pub fn divided(mut self, side: Vec<usize>, time_ms: Range<u64>) -> Self {
        self.partition = Some((side, time_ms));
        self
    }

    pub fn late(mut self, node: usize, start_ms: u64) -> Self {
        self.nodes[node].start_ms = Some(start_ms);
        self
    }

    pub fn lying(mut self, node: usize, misbehaviour: Misbehaviour) -> Self {
        self.nodes[node].misbehaviour = Some(misbehaviour);
        self
    }

    pub fn crashing_at(mut self, node: usize, write: usize, survives: bool) -> Self {
        self.nodes[node].crash_at = Some((write, survives));
        self
    }

    pub fn is_present(&self, node: usize) -> bool {
        self.nodes[node].start_ms.is_some()
    }

    /// Those that follow the rules, and are there.
    pub fn honest(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| self.nodes[*node].misbehaviour.is_none() && self.is_present(*node))
            .collect()
    }

    /// Those of them that get shares.
    pub fn receivers(&self) -> Vec<usize> {
        let gets = |node: &usize| self.definition.is_receiver(OperatorIndex(*node as u8));
        self.honest().into_iter().filter(gets).collect()
    }

    /// The shares of one that has them.
    pub fn shares(&self, node: usize) -> &SecretShares {
        self.ceremony(node).outcome().unwrap().secret.as_ref().unwrap()
    }

    pub fn ceremony(&self, node: usize) -> &Ceremony {
        self.nodes[node].ceremony.as_ref().unwrap()
    }

    /// Runs until every honest operator that is there has finished.
    pub fn run(mut self) -> Self {
        for node in 0..self.nodes.len() {
            if let Some(start_ms) = self.nodes[node].start_ms {
                let jitter = self.dice.below(1_500) as u64;
                self.schedule(start_ms + jitter, Event::Start(node));
            }
        }
        let mut over_ms = None;
        while let Some(((at_ms, _), event)) = self.events.pop_first() {
            assert!(at_ms < END_MS, "stuck: {}", self.state());
            self.now_ms = at_ms;
            match event {
                Event::Start(node) => self.start(node),
                Event::Arrive { to, from, bytes } => self.arrive(to, from, &bytes),
                Event::Fire { node, timer, at_ms } => self.fire(node, timer, at_ms),
            }
            if self.is_over() {
                let over_ms = *over_ms.get_or_insert(at_ms);
                if at_ms >= over_ms + self.linger_ms {
                    break;
                }
            }
        }
        assert!(self.is_over(), "silence: {}", self.state());
        self
    }

    fn is_over(&self) -> bool {
        let is_done = |node: &usize| self.nodes[*node].ceremony.as_ref().is_some_and(Ceremony::is_finished);
        self.honest().iter().all(is_done)
    }

    fn state(&self) -> String {
        let of = |node: &usize| match &self.nodes[*node].ceremony {
            None => format!("{node}: down"),
            Some(ceremony) => format!(
                "{node}: {:?} {:?}",
                ceremony.progress(),
                ceremony.blames().iter().map(|blame| (blame.operator, blame.fault)).collect::<Vec<_>>()
            ),
        };
        self.honest().iter().map(of).collect::<Vec<_>>().join("\n")
    }

    fn schedule(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at_ms, self.sequence), event);
    }

    fn start(&mut self, node: usize) {
        let me = OperatorIndex(node as u8);
        let entries = self.nodes[node].disk.entries.clone();
        let mut ceremony =
            Ceremony::restore(self.definition.clone(), me, self.secrets(node), TIMING, entries).unwrap();
        if let Some(misbehaviour) = &self.nodes[node].misbehaviour {
            misbehaviour.corrupt(&mut ceremony);
        }
        let output = ceremony.start(self.now_ms);
        self.nodes[node].ceremony = Some(ceremony);
        self.carry_out(node, output);
    }

    fn arrive(&mut self, to: usize, from: OperatorIndex, bytes: &[u8]) {
        let checked = match self.checked.get(bytes) {
            Some(checked) => checked.clone(),
            None => {
                let checked = self.definition.check(bytes).ok();
                self.checked.insert(bytes.to_vec(), checked.clone());
                checked
            }
        };
        let Some(message) = checked else {
            let refused = self.definition.check(bytes).err();
            assert!(self.nodes[from.as_usize()].misbehaviour.is_some(), "of honest {from}: {refused:?}");
            return;
        };
        let Some(ceremony) = &mut self.nodes[to].ceremony else { return };
        let output = ceremony.step(self.now_ms, Input::Received { from, message });
        self.carry_out(to, output);
    }

    fn fire(&mut self, node: usize, timer: Timer, at_ms: u64) {
        let slot = slot(timer);
        if self.nodes[node].timers.get(&slot) != Some(&(timer, at_ms)) {
            return;
        }
        self.nodes[node].timers.remove(&slot);
        let Some(ceremony) = &mut self.nodes[node].ceremony else { return };
        let output = ceremony.step(self.now_ms, Input::Timer(timer));
        self.carry_out(node, output);
    }

    fn carry_out(&mut self, node: usize, mut output: Output) {
        for change in output.take_timers() {
            self.nodes[node].timers.insert(slot(change.timer), (change.timer, change.at_ms));
            self.schedule(change.at_ms, Event::Fire { node, timer: change.timer, at_ms: change.at_ms });
        }
        if !output.persist().is_empty() && self.crashes_now(node, &output) {
            return;
        }
        let Ok(durable) = output.persisted(&mut self.nodes[node].disk);
        self.nodes[node].notices.extend(durable.tell);
        for outbound in durable.send {
            self.send(node, outbound);
        }
    }

    /// A crash loses the write, or only what was to be sent.
    fn crashes_now(&mut self, node: usize, output: &Output) -> bool {
        self.nodes[node].writes += 1;
        let planned = self.nodes[node].crash_at.filter(|(write, _)| *write == self.nodes[node].writes);
        let is_honest = self.nodes[node].misbehaviour.is_none();
        let by_chance = is_honest && self.dice.chance(self.faults.crash);
        if planned.is_none() && !by_chance {
            return false;
        }
        let survives = planned.map_or_else(|| self.dice.chance(50), |(_, survives)| survives);
        if survives {
            // All of it, or what was written of it.
            let entries = output.persist();
            let torn = self.dice.chance(50);
            let kept = if torn { self.dice.below(entries.len() + 1) } else { entries.len() };
            let Ok(()) = self.nodes[node].disk.append(&entries[..kept]);
        }
        self.nodes[node].ceremony = None;
        self.nodes[node].timers.clear();
        self.crashes += 1;
        let down_ms = 1 + self.dice.below(2_000) as u64;
        self.schedule(self.now_ms + down_ms, Event::Start(node));
        true
    }

    fn send(&mut self, from: usize, outbound: Outbound) {
        let me = OperatorIndex(from as u8);
        let receivers: Vec<usize> = match &outbound {
            Outbound::Broadcast(_) => (0..self.nodes.len()).filter(|to| *to != from).collect(),
            Outbound::Send(to, _) => vec![to.as_usize()],
        };
        let message = outbound.message().clone();
        if self.nodes[from].misbehaviour.is_none() {
            self.sent.push((me, message.clone()));
        }
        for to in receivers {
            let frames = match &self.nodes[from].misbehaviour {
                None => vec![message.encode()],
                Some(lie) => lie.frames(&self.definition, me, to, &message, &mut self.dice),
            };
            if !self.is_divided(from, to) {
                frames.into_iter().for_each(|bytes| self.transmit(to, me, bytes));
            }
        }
    }

    fn is_divided(&self, from: usize, to: usize) -> bool {
        let divides = |(side, time_ms): &(Vec<usize>, Range<u64>)| {
            time_ms.contains(&self.now_ms) && side.contains(&from) != side.contains(&to)
        };
        self.partition.as_ref().is_some_and(divides)
    }

    fn transmit(&mut self, to: usize, from: OperatorIndex, bytes: Vec<u8>) {
        if self.dice.chance(self.faults.loss) {
            return;
        }
        let copies = 1 + usize::from(self.dice.chance(self.faults.repeat));
        for _ in 0..copies {
            let delay_ms = 1 + self.dice.below(self.faults.delay_ms.max(1)) as u64;
            self.schedule(self.now_ms + delay_ms, Event::Arrive { to, from, bytes: bytes.clone() });
        }
    }
}

fn slot(timer: Timer) -> u8 {
    match timer {
        Timer::Commits => 0,
        Timer::Verdicts => 1,
        Timer::Round(_) => 2,
        Timer::Resend => 3,
    }
}
