//! Operators with keys that name no secret, and what their peers say to them.
#![allow(dead_code, unused_imports)]

pub mod cluster;
pub mod operator;

use aequa_chain::{Chain, MemoryState, State, StateRead, Tip};
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Elector, Input, Keys, Now, Permit, Recovery, Replica, RoundRobin, Timer};
pub use aequa_replica::{Outbound, StoreWrite, Tell, TimerChange, Work};
use aequa_testkit::{Vote, at as at_height};
use aequa_types::{
    Address, BuilderPolicy, Certificate, CheckedBlock, CheckedTransaction, ClusterId, ConsensusParams,
    Digest, Height, InstanceId, Message, OperatorIndex, Quorum, Record, Round, RoundChange, Seal, Signature,
    Signed, Value, Verified,
};
use std::sync::Arc;

pub use aequa_testkit::{Dice, change, checked, duty_value, has, pick, plaintext, prepare, preprepare, runs};
pub use operator::{Effect, Operator};

pub const CLUSTER: ClusterId = ClusterId::repeat_byte(7);
/// Wall clock of every node at the start.
pub const EPOCH_MS: u64 = 1_000_000;

/// Signs by naming the author: verification happens before the replica.
pub struct PlainKeys;

impl Keys for PlainKeys {
    fn sign(&self, permit: Permit) -> Signed {
        let statement = permit.into_statement();
        Signed { signature: Signature::repeat_byte(statement.author.0), statement }
    }

    fn share(&self, permit: &Permit) -> Option<Seal> {
        Some(Seal::repeat_byte(permit.statement().author.0))
    }
}

pub fn quorum() -> Quorum {
    Quorum::of(4).unwrap()
}

/// Who leads a round, with four operators.
pub fn leader(instance: impl Into<InstanceId>, round: u64) -> OperatorIndex {
    RoundRobin(quorum()).leader(instance.into(), Round(round))
}

pub fn at(elapsed_ms: u64) -> Now {
    Now { elapsed_ms, wall_ms: EPOCH_MS + elapsed_ms }
}

/// Operator `me` of `operators`, with the parameters clusters have by default.
pub fn config(me: u8, operators: usize) -> Config {
    Config {
        cluster_id: CLUSTER,
        me: OperatorIndex(me),
        quorum: Quorum::of(operators).unwrap(),
        params: ConsensusParams::default(),
        limits: Limits::default(),
        builder: false,
        seals: true,
        sessions_max: 0,
        first_height: Height(1),
        last_height: None,
    }
}

/// Operator `me` of four at genesis, bound by what `recovery` remembers, before its first step.
pub fn replica(me: u8, recovery: Recovery) -> Operator {
    replica_of(config(me, 4), recovery)
}

/// The same after its first step.
pub fn started(me: u8, recovery: Recovery) -> Operator {
    let mut replica = replica(me, recovery);
    replica.start(at(0));
    replica
}

pub fn replica_of(config: Config, recovery: Recovery) -> Operator {
    let chain = Chain::genesis(CLUSTER, config.quorum);
    replica_on(chain, config, recovery)
}

/// The same on a chain that is not the genesis of all.
pub fn replica_on(chain: Chain, config: Config, recovery: Recovery) -> Operator {
    let mempool = Mempool::new(config.limits, BuilderPolicy::default()).unwrap();
    Operator::new(recovery, |recovery| Replica::new(config, PlainKeys, chain, mempool, recovery))
}

/// The genesis with a row that nobody else has there, and the root of it.
pub fn wrong_genesis(quorum: Quorum) -> Chain {
    let right = Chain::genesis(CLUSTER, quorum);
    let mut later = right.clone();
    let applied = later.apply(&block(&right, OperatorIndex(0), EPOCH_MS)).unwrap();
    let mut rows = MemoryState::default();
    rows.write(Height(0), &applied.changes);
    let stored: Arc<dyn StateRead> = Arc::new(rows);
    let state_root = State::open(stored.clone()).unwrap().root(&CLUSTER, Height(0));
    Chain::open(CLUSTER, quorum, stored, Tip { state_root, ..*right.tip() }).unwrap()
}

pub fn deliver(replica: &mut Operator, now: Now, from: u8, message: Verified) -> Vec<Effect> {
    replica.step(now, Input::Message { from: OperatorIndex(from), message })
}

/// The messages among effects, whoever gets them.
pub fn sent(effects: &[Effect]) -> Vec<&Message> {
    pick!(effects, Effect::Send(Outbound::Broadcast(message) | Outbound::Send(_, message)) => message)
        .collect()
}

/// The messages among effects that everybody gets.
pub fn broadcast(effects: &[Effect]) -> Vec<&Message> {
    pick!(effects, Effect::Send(Outbound::Broadcast(message)) => message).collect()
}

/// The timers these effects set, with when they fire.
pub fn timers(effects: &[Effect]) -> impl Iterator<Item = (Timer, u64)> {
    pick!(effects, Effect::Timer(TimerChange::Set { timer, at_ms }) => (*timer, *at_ms))
}

/// The records these effects make durable.
pub fn records(effects: &[Effect]) -> Vec<Record> {
    pick!(effects, Effect::Persist(record) => record.clone()).collect()
}

/// The digest a PREPARE among these effects names.
pub fn prepared(effects: &[Effect]) -> Option<Digest> {
    pick!(sent(effects), Message::Prepare(vote) => vote.digest()).flatten().next()
}

/// A COMMIT as operators with shares of a seal make it.
pub fn commit(instance: impl Into<InstanceId>, round: u64, digest: Digest) -> Vote {
    aequa_testkit::commit(instance, round, digest).with_share()
}

pub fn round_change(author: u8, instance: impl Into<InstanceId>, round: u64) -> Verified {
    let change = change(instance, round, None).by(author);
    Verified::RoundChange(RoundChange { change, prepares: Vec::new() })
}

/// A proposal of a value nobody prepared before, with the ROUND-CHANGEs of `changing` where it needs them.
pub fn proposal(
    author: u8,
    instance: impl Into<InstanceId>,
    round: u64,
    value: Value,
    changing: &[u8],
) -> Verified {
    let instance = instance.into();
    let proposal = preprepare(instance, round, value.digest()).by(author);
    let changing = if round > 0 { changing } else { &[] };
    let round_changes = change(instance, round, None).by_each(changing.iter().copied());
    Verified::PrePrepare { proposal, value, round_changes, prepares: Vec::new() }
}

/// A block as its proposer hands it to everybody in round 0.
pub fn proposed(block: &Arc<CheckedBlock>) -> Input {
    let header = block.header();
    let value = Value::block(block.clone());
    let message = proposal(header.proposer.0, InstanceId::Block(header.height), 0, value, &[]);
    Input::Message { from: header.proposer, message }
}

/// Blocks as operator 1 answers with them.
pub fn fetched(blocks: &[Arc<CheckedBlock>]) -> Input {
    let blocks = blocks.iter().map(|block| (block.clone(), certificate(block))).collect();
    Input::Fetched { from: OperatorIndex(1), blocks }
}

/// The block after the tip of `chain`, empty, as `proposer` would build it.
pub fn block(chain: &Chain, proposer: OperatorIndex, timestamp_ms: u64) -> Arc<CheckedBlock> {
    Arc::new(
        chain.build_block(proposer, timestamp_ms, BuilderPolicy::default().hash(), Vec::new(), &[]).unwrap(),
    )
}

/// COMMITs of operators 0, 1 and 2 in round 0.
pub fn certificate(block: &CheckedBlock) -> Certificate {
    commit(at_height(block.header().height.0), 0, block.digest()).certificate(0..3)
}

/// Blocks 1 to `count` of an empty chain, led in turn.
pub fn blocks(count: u64) -> Vec<Arc<CheckedBlock>> {
    let mut chain = Chain::genesis(CLUSTER, quorum());
    let mut next = |height| {
        let block = block(&chain, leader(at_height(height), 0), EPOCH_MS + height);
        chain.apply(&block).unwrap();
        block
    };
    (1..=count).map(&mut next).collect()
}

pub fn transaction(sender: u8, nonce: u64) -> CheckedTransaction {
    checked(plaintext(Address::repeat_byte(sender), nonce, 10))
}
