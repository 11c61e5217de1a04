//! What a caller asks for, and what a seed makes of it: every run draws its own mix of faults.

use crate::traitor::Traits;
use aequa_byzantine::Dice;
use aequa_types::{BuilderPolicy, ConsensusParams, OperatorIndex, Quorum};

/// What a run is to be like, where that is not left to the seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Number of operators; drawn from 1, 4, 7 and 10 when not given.
    pub nodes: Option<usize>,
    /// Virtual time under faults, in milliseconds.
    pub safety_ms: u64,
    /// Heights every honest node must add after the faults have ended.
    pub liveness_heights: u64,
    /// Whether decisions are sealed; drawn when not given.
    pub seals: Option<bool>,
    /// Whether every operator is honest, whatever the seed draws. Directories may still be lost.
    pub honest: bool,
    /// Whether nothing fails: no lies, no losses, no crashes. For counting what a height costs.
    pub calm: bool,
    /// Breaks the simulated host on purpose.
    pub sabotage: Option<Sabotage>,
    /// Keeps a readable line of everything that happened in the report.
    pub trace: bool,
    /// Keeps what every node recorded in the report; the run itself is the same.
    pub record: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: None,
            safety_ms: 12_000,
            liveness_heights: 4,
            seals: None,
            honest: false,
            calm: false,
            sabotage: None,
            trace: false,
            record: false,
        }
    }
}

/// Ways to break what the replica relies on. They exist to show that the oracles can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Messages leave the node although their records were never made durable.
    SendBeforeSync,
    /// A restarting node finds its vote log empty.
    ForgetLog,
    /// A restarting node finds both its block store and its vote log empty.
    ForgetStore,
    /// More operators are traitors than the protocol bears: they propose and vote for two blocks.
    TooManyTraitors,
}

/// Kinds of message that the network may be told to lose more often than others.
pub(crate) const MESSAGE_KINDS: usize = 7;
/// The number of PREPAREs among them.
pub(crate) const PREPARE: usize = 1;

/// Everything a seed decides before the first event.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) quorum: Quorum,
    pub(crate) params: ConsensusParams,
    pub(crate) seals: bool,
    /// Signing sessions that are open at a time; 0 is any number.
    pub(crate) sessions_max: usize,
    pub(crate) traitors: Vec<(OperatorIndex, Traits)>,
    /// Operators that run as two replicas with one key.
    pub(crate) twins: Vec<OperatorIndex>,
    /// Honest operators that lose their directory or run on an old copy of it, within what may be faulty.
    pub(crate) careless: Vec<OperatorIndex>,
    /// Traitors fall silent when the faults end; otherwise they go on.
    pub(crate) silent_at_last: bool,
    /// When the faults end, all but q honest operators stay as they are for good.
    pub(crate) frozen_at_last: bool,
    pub(crate) latency_ms: (u64, u64),
    /// The slowest link takes up to this much longer than the fastest.
    pub(crate) distance_ms: u64,
    /// Messages in a thousand that take ten times as long.
    pub(crate) slow: u64,
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    /// Messages in a thousand that come a second time, much later.
    pub(crate) replay: u64,
    pub(crate) drop_by_kind: [u64; MESSAGE_KINDS],
    /// Mean time between crashes of any node; 0 is never.
    pub(crate) crash_every_ms: u64,
    /// Starts in a thousand during which the node goes down again.
    pub(crate) crash_in_recovery: u64,
    /// Mean time between partitions; 0 is never.
    pub(crate) partition_every_ms: u64,
    /// Longest sync of the vote log.
    pub(crate) sync_ms: u64,
    pub(crate) flush_every: u64,
    pub(crate) client_every_ms: u64,
    /// Mean time between duties; 0 is never.
    pub(crate) duty_every_ms: u64,
    /// Where slots begin, and whether they jump: as far as an abstaining operator does not see.
    pub(crate) first_slot: u64,
    pub(crate) slots_jump: bool,
    /// Clocks differ by up to this much from true time, either way.
    pub(crate) skew_ms: u64,
    /// Mean time between moments at which clocks are set; 0 is never.
    pub(crate) clock_step_every_ms: u64,
}

impl Plan {
    pub(crate) fn draw(dice: &mut Dice, options: &Options) -> Self {
        let plan = Self::draw_faults(dice, options);
        if options.calm { plan.without_faults() } else { plan }
    }

    /// Fair weather: what is left is latency, load, and the work itself, the same for clusters of any size.
    fn without_faults(self) -> Self {
        let params = ConsensusParams {
            round_timeout_ms: 1000,
            round_timeout_cap_ms: 8000,
            block_interval_ms: 500,
            empty_blocks: true,
            ..self.params
        };
        Self {
            params,
            seals: true,
            sessions_max: 0,
            latency_ms: (5, 50),
            sync_ms: 4,
            client_every_ms: 150,
            traitors: Vec::new(),
            twins: Vec::new(),
            careless: Vec::new(),
            frozen_at_last: false,
            distance_ms: 0,
            slow: 0,
            drop: 0,
            duplicate: 0,
            replay: 0,
            drop_by_kind: [0; MESSAGE_KINDS],
            crash_every_ms: 0,
            crash_in_recovery: 0,
            partition_every_ms: 0,
            duty_every_ms: 0,
            first_slot: 0,
            slots_jump: false,
            skew_ms: 0,
            clock_step_every_ms: 0,
            ..self
        }
    }

    fn draw_faults(dice: &mut Dice, options: &Options) -> Self {
        let drawn = [1, 4, 4, 4, 7, 7, 10][dice.index(7)];
        let nodes = options.nodes.unwrap_or(drawn);
        // No cluster has more than 100 operators, nor none at all.
        let quorum = Quorum::of(nodes.clamp(1, 100)).unwrap_or_else(|| unreachable!("1 to 100"));
        let Cast { traitors, twins, careless } = Cast::draw(dice, quorum, options);
        let lossy = dice.chance(700);
        let mut drop_by_kind = [0; MESSAGE_KINDS];
        if dice.chance(350) {
            drop_by_kind[dice.index(MESSAGE_KINDS)] = dice.between(300, 900);
        }
        // A hoarder does best when the others do not hear each other's PREPAREs.
        if traitors.iter().any(|(_, traits)| traits.hoard) && dice.chance(500) {
            drop_by_kind[PREPARE] = dice.between(400, 900);
        }
        let fastest_ms = dice.between(1, 20);
        let mut plan = Self {
            quorum,
            params: draw_params(dice, nodes),
            seals: options.seals.unwrap_or(dice.chance(700)),
            sessions_max: 0,
            traitors,
            twins,
            careless,
            silent_at_last: dice.chance(500),
            frozen_at_last: dice.chance(300),
            latency_ms: (fastest_ms, fastest_ms + dice.between(1, 60)),
            distance_ms: dice.pick(&[0, 0, 30, 150]),
            slow: dice.pick(&[0, 5, 50]),
            drop: if lossy { dice.pick(&[5, 50, 200]) } else { 0 },
            duplicate: dice.pick(&[0, 20, 100]),
            replay: dice.pick(&[0, 5, 30]),
            drop_by_kind,
            crash_every_ms: dice.pick(&[0, 600, 1500, 4000]),
            crash_in_recovery: dice.pick(&[0, 100, 400]),
            partition_every_ms: dice.pick(&[0, 1500, 4000]),
            sync_ms: dice.pick(&[1, 4, 20]),
            flush_every: dice.pick(&[1, 3, 10]),
            client_every_ms: dice.pick(&[40, 150, 600]),
            duty_every_ms: dice.pick(&[0, 0, 700]),
            first_slot: 0,
            slots_jump: false,
            skew_ms: dice.pick(&[0, 50, 400]),
            clock_step_every_ms: dice.pick(&[0, 0, 3000]),
        };
        // Honest operators that lose their directories are sure to say nothing twice only in slots near those of
        // the others.
        if plan.duty_every_ms > 0 && !options.honest {
            plan.first_slot = dice.pick(&[0, 40_000]);
            plan.slots_jump = dice.chance(300);
        }
        plan.sessions_max = dice.pick(&[0, 0, 1, 2]);
        plan
    }
}

fn draw_params(dice: &mut Dice, nodes: usize) -> ConsensusParams {
    // A lone operator without a pause would decide a block per sync and crowd out the other runs.
    let block_interval_ms = if nodes == 1 { 200 } else { dice.pick(&[0, 100, 500]) };
    let round_timeout_ms = dice.pick(&[300, 600, 1000]);
    ConsensusParams {
        round_timeout_ms,
        round_timeout_cap_ms: round_timeout_ms * dice.pick(&[2, 8]),
        block_interval_ms,
        empty_blocks: dice.chance(750),
        // Small blocks, so that pools fill up behind them.
        builder: BuilderPolicy { max_n: dice.pick(&[2, 8, 64]), ..BuilderPolicy::default() },
        ..ConsensusParams::default()
    }
}

/// Who is not, or not always, what an operator should be.
struct Cast {
    traitors: Vec<(OperatorIndex, Traits)>,
    twins: Vec<OperatorIndex>,
    careless: Vec<OperatorIndex>,
}

impl Cast {
    /// Up to f operators in all.
    fn draw(dice: &mut Dice, quorum: Quorum, options: &Options) -> Self {
        let mut cast = Self { traitors: Vec::new(), twins: Vec::new(), careless: Vec::new() };
        let mut members: Vec<OperatorIndex> = quorum.members().collect();
        if options.sabotage == Some(Sabotage::TooManyTraitors) {
            let colluding = members.into_iter().take(quorum.weak_quorum());
            cast.traitors = colluding.map(|operator| (operator, Traits::forking())).collect();
            return cast;
        }
        // Who lost its memory hears q others before it takes part again.
        let may_ask = quorum.operators() > quorum.quorum();
        for _ in 0..dice.between(0, quorum.faulty_max() as u64) {
            let operator = members.swap_remove(dice.index(members.len()));
            let part = dice.below(1000);
            match part {
                _ if options.honest && !may_ask => {}
                _ if options.honest => cast.careless.push(operator),
                0..200 => cast.twins.push(operator),
                200..500 if may_ask => cast.careless.push(operator),
                _ => cast.traitors.push((operator, Traits::draw(dice))),
            }
        }
        cast
    }
}
