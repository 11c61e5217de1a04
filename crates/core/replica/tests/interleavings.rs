//! Timers that are over do nothing, whenever they fire: a replica that gets every timer it ever set, again
//! and at any moment, behaves like one whose host cancels in time.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{Input, Now, Recovery, Timer};
use aequa_types::{CheckedBlock, Height, InstanceId, Message, OperatorIndex, Round, Value, Verified};
use common::{
    Dice, Effect, Operator, Outbound, StoreWrite, TimerChange, at, block, certificate, commit, config,
    deliver, leader, prepare, proposal, replica_of, round_change, runs,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Interleavings of a run.
const INTERLEAVINGS: u64 = 1_500;
const STEPS: usize = 30;

/// Two replicas that see the same, but for the stale timers: those one of them gets, the other does not.
struct Pair {
    disturbed: Operator,
    model: Operator,
    now_ms: u64,
    /// Timers that run, as a host keeps them.
    running: BTreeMap<(Option<InstanceId>, u8), (u64, Timer)>,
    /// Every timer ever set.
    ever: BTreeSet<Timer>,
    /// The block proposed last at the live height.
    proposed: Option<Arc<CheckedBlock>>,
}

impl Pair {
    fn new(me: u8) -> Self {
        let fresh = || {
            let config = aequa_replica::Config { seals: false, ..config(me, 4) };
            replica_of(config, Recovery::default())
        };
        let mut pair = Self {
            disturbed: fresh(),
            model: fresh(),
            now_ms: 0,
            running: BTreeMap::new(),
            ever: BTreeSet::new(),
            proposed: None,
        };
        let effects = pair.model.start(at(0));
        assert_eq!(format!("{effects:?}"), format!("{:?}", pair.disturbed.start(at(0))));
        pair.note(effects);
        pair
    }

    fn now(&self) -> Now {
        at(self.now_ms)
    }

    fn live(&self) -> InstanceId {
        InstanceId::Block(self.model.chain().tip().height.next())
    }

    /// Gives both the same, which must do the same.
    fn input(&mut self, input: Input) {
        let now = self.now();
        let effects = self.model.step(now, input.clone());
        let disturbed = self.disturbed.step(now, input.clone());
        assert_eq!(format!("{effects:?}"), format!("{disturbed:?}"), "after {input:?}");
        self.note(effects);
    }

    fn message(&mut self, from: u8, message: Verified) {
        self.input(Input::Message { from: OperatorIndex(from), message });
    }

    /// What a host does with the effects.
    fn note(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Timer(TimerChange::Set { timer, at_ms }) => {
                    self.running.insert(timer.slot(), (at_ms, timer));
                    self.ever.insert(timer);
                }
                Effect::Timer(TimerChange::Cancel(id)) => self.running.retain(|(of, _), _| *of != Some(id)),
                Effect::Store(StoreWrite::Commit { .. }) => self.proposed = None,
                Effect::Send(Outbound::Broadcast(Message::PrePrepare(message))) => {
                    let value = Value::block(block_of(&message.value.0));
                    self.proposed = value.as_block().cloned();
                }
                _ => {}
            }
        }
    }

    fn fire_next(&mut self) {
        let next = self.running.iter().min_by_key(|(_, (at_ms, _))| *at_ms);
        let Some((slot, (at_ms, timer))) = next.map(|(slot, timer)| (*slot, *timer)) else { return };
        self.running.remove(&slot);
        self.now_ms = self.now_ms.max(at_ms);
        self.input(Input::Timer(timer));
    }

    /// Whether this timer has nothing to do any more, by the height and round that are now.
    fn is_over(&self, timer: Timer) -> bool {
        let (round, _) = self.model.round_and_leader();
        match timer {
            Timer::Round { instance, round: of } => instance < self.live() || of < round,
            Timer::Propose(height) => {
                InstanceId::Block(height) < self.live() || round > Round(0) || self.proposed.is_some()
            }
            Timer::Resend(instance) => instance < self.live(),
            Timer::CatchUp => false,
        }
    }

    fn fire_stale(&mut self, dice: &mut Dice) {
        let over: Vec<Timer> = self.ever.iter().copied().filter(|timer| self.is_over(*timer)).collect();
        if over.is_empty() {
            return;
        }
        let timer = over[dice.below(over.len())];
        let effects = self.disturbed.step(self.now(), Input::Timer(timer));
        assert!(effects.is_empty(), "{timer:?} is over and does {effects:?}");
    }

    /// One of the other operators says something of the live height that fits.
    fn peer_speaks(&mut self, dice: &mut Dice, me: u8) {
        let (live, (Round(round), leads)) = (self.live(), self.model.round_and_leader());
        let author = (me + 1 + dice.below(3) as u8) % 4;
        let digest = self.proposed.as_ref().map(|block| block.digest());
        match (dice.below(8), digest) {
            (0, _) => self.message(author, round_change(author, live, round + 1)),
            (1 | 2, None) if leads.0 != me => {
                let changing: Vec<u8> = (0..4).filter(|other| *other != me).collect();
                let block = block(self.model.chain(), leads, self.now().wall_ms);
                self.proposed = Some(block.clone());
                self.message(leads.0, proposal(leads.0, live, round, Value::block(block), &changing));
            }
            (3, _) => {
                let leads = leader(live, 0);
                let block = block(self.model.chain(), leads, self.now().wall_ms);
                let blocks = vec![(block.clone(), certificate(&block))];
                self.input(Input::Fetched { from: OperatorIndex(author), blocks });
            }
            (4..=5, Some(digest)) => {
                self.message(author, Verified::Prepare(prepare(live, round, digest).by(author)));
            }
            (6..=7, Some(digest)) => {
                self.message(author, Verified::Commit(commit(live, round, digest).by(author)));
            }
            _ => {}
        }
    }
}

fn block_of(bytes: &[u8]) -> Arc<CheckedBlock> {
    let block = aequa_types::decode("block", bytes, aequa_types::limits::VALUE_BYTES_MAX).unwrap();
    Arc::new(CheckedBlock::attest(block, Vec::new()))
}

#[test]
fn no_timer_outlives_its_round_or_its_height() {
    let (mut heights, mut rounds) = (0, 0);
    let interleavings = runs(INTERLEAVINGS);
    for seed in 0..interleavings {
        let mut dice = Dice(seed);
        let me = dice.below(4) as u8;
        let mut pair = Pair::new(me);
        for _ in 0..STEPS {
            match dice.below(10) {
                0 | 1 => pair.fire_next(),
                2..=4 => pair.fire_stale(&mut dice),
                _ => pair.peer_speaks(&mut dice, me),
            }
            rounds += u64::from(pair.model.round_and_leader().0 > Round(0));
        }
        assert_eq!(pair.disturbed.round_and_leader(), pair.model.round_and_leader(), "seed {seed}");
        assert_eq!(pair.disturbed.held(), pair.model.held(), "seed {seed}");
        heights += pair.model.chain().tip().height.0;
    }
    assert!(
        heights > interleavings && rounds > interleavings,
        "{heights} heights, {rounds} steps in a later round"
    );
}

#[test]
fn a_proposal_due_in_round_0_is_not_made_in_a_later_one() {
    // Operator 1 leads round 0 of block 1; the others give the round up before its interval is over.
    let mut replica = replica_of(config(1, 4), Recovery::default());
    replica.start(at(0));
    let first = InstanceId::Block(Height(1));
    for author in [0, 2, 3] {
        deliver(&mut replica, at(500), author, round_change(author, first, 1));
    }
    assert_eq!(replica.round_and_leader().0, Round(1));
    assert!(replica.step(at(1000), Input::Timer(Timer::Propose(Height(1)))).is_empty());
}
