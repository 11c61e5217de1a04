//! Operators with keys that name no secret, and what their peers say to them.
#![allow(dead_code, unused_imports)]

#[path = "../../../qbft/tests/common/chance.rs"]
pub mod chance;
pub mod cluster;
pub mod operator;

use aequa_chain::Chain;
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Input, Keys, Now, Permit, Recovery, Replica};
pub use aequa_replica::{Outbound, StoreWrite, Tell, TimerChange, Work};
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::transaction::{Payload, TxSignature};
use aequa_types::{
    Address, BuilderPolicy, Certificate, CheckedBlock, CheckedTransaction, ClusterId, ConsensusParams,
    Digest, Height, InstanceId, Message, OperatorIndex, PlaintextV1, Prepared, Quorum, Round, RoundChange,
    Seal, Signature, Signed, Statement, Transaction, TxBody, Value, Verified,
};
use std::sync::Arc;

pub use chance::*;
pub use operator::{Effect, Operator};

pub const CLUSTER: ClusterId = ClusterId::repeat_byte(7);
/// Wall clock of every node at the start.
pub const EPOCH_MS: u64 = 1_000_000;

/// Signs with nothing: verification happens before the replica.
pub struct PlainKeys;

impl Keys for PlainKeys {
    fn sign(&self, permit: Permit) -> Signed {
        Signed { statement: permit.into_statement(), signature: Signature::ZERO }
    }

    fn share(&self, _: &Permit) -> Option<Seal> {
        Some(Seal::repeat_byte(3))
    }
}

pub fn quorum() -> Quorum {
    Quorum::of(4).unwrap()
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
        record: false,
    }
}

/// Operator `me` of four at genesis, bound by what `recovery` remembers, before its first step.
pub fn replica(me: u8, recovery: Recovery) -> Operator {
    replica_of(config(me, 4), recovery)
}

pub fn replica_of(config: Config, recovery: Recovery) -> Operator {
    let chain = Chain::genesis(CLUSTER, config.quorum);
    let mempool = Mempool::new(config.limits, BuilderPolicy::default()).unwrap();
    Operator::new(recovery, |recovery| Replica::new(config, PlainKeys, chain, mempool, recovery))
}

pub fn deliver(replica: &mut Operator, now: Now, from: u8, message: Verified) -> Vec<Effect> {
    replica.step(now, Input::Message { from: OperatorIndex(from), message })
}

/// The messages among effects, whoever gets them.
pub fn sent(effects: &[Effect]) -> Vec<&Message> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(Outbound::Broadcast(message)) | Effect::Send(Outbound::Send(_, message)) => {
                Some(message)
            }
            _ => None,
        })
        .collect()
}

/// The digest a PREPARE among these effects names.
pub fn prepared(effects: &[Effect]) -> Option<Digest> {
    sent(effects).into_iter().find_map(|message| match message {
        Message::Prepare(vote) => vote.digest(),
        _ => None,
    })
}

pub fn signed(author: u8, instance: impl Into<InstanceId>, round: u64, claim: Claim) -> Signed {
    let statement =
        Statement { instance: instance.into(), round: Round(round), author: OperatorIndex(author), claim };
    Signed { statement, signature: Signature::ZERO }
}

pub fn prepare(author: u8, instance: impl Into<InstanceId>, round: u64, digest: Digest) -> Signed {
    signed(author, instance, round, Claim::Prepare(digest))
}

pub fn commit(author: u8, instance: impl Into<InstanceId>, round: u64, digest: Digest) -> Signed {
    let seal = Some(Seal::repeat_byte(author));
    signed(author, instance, round, Claim::Commit(CommitClaim { digest, seal }))
}

pub fn change(author: u8, instance: impl Into<InstanceId>, round: u64, prepared: Option<Prepared>) -> Signed {
    signed(author, instance, round, Claim::RoundChange(RoundChangeClaim { prepared }))
}

pub fn round_change(author: u8, instance: impl Into<InstanceId>, round: u64) -> Verified {
    let change = change(author, instance, round, None);
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
    let proposal = signed(author, instance, round, Claim::PrePrepare(value.digest()));
    let changing = if round > 0 { changing } else { &[] };
    let round_changes = changing.iter().map(|author| change(*author, instance, round, None)).collect();
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
    let (instance, digest) = (InstanceId::Block(block.header().height), block.digest());
    let commits: Vec<Signed> = (0..3).map(|author| commit(author, instance, 0, digest)).collect();
    Certificate::from_commits(instance, Round(0), digest, &commits)
}

/// Blocks 1 to `count` of an empty chain, led in turn.
pub fn blocks(count: u64) -> Vec<Arc<CheckedBlock>> {
    let mut chain = Chain::genesis(CLUSTER, quorum());
    let mut next = |height| {
        let leader = aequa_replica::Elector::leader(
            &aequa_replica::RoundRobin(quorum()),
            InstanceId::Block(Height(height)),
            Round(0),
        );
        let block = block(&chain, leader, EPOCH_MS + height);
        chain.apply(&block).unwrap();
        block
    };
    (1..=count).map(&mut next).collect()
}

pub fn transaction(sender: u8, nonce: u64) -> CheckedTransaction {
    let from = Address::repeat_byte(sender);
    let body =
        TxBody::Plaintext(PlaintextV1 { from, nonce, gas: 21_000, fee: 10, payload: Payload::default() });
    CheckedTransaction::attest(Transaction { body, sig: TxSignature::ZERO })
}
