//! One operator of a cluster of four, with keys that name no secret.

use aequa_chain::Chain;
use aequa_mempool::{Limits, Mempool};
use aequa_replica::{Config, Keys, Recovery, Replica};
use aequa_types::{
    BuilderPolicy, ClusterId, ConsensusParams, Digest, InstanceId, OperatorIndex, Quorum, Round, Seal,
    Signature, Signed, Statement,
};

pub const CLUSTER: ClusterId = ClusterId::repeat_byte(7);

/// Signs with nothing: verification happens before the replica.
pub struct PlainKeys;

impl Keys for PlainKeys {
    fn sign(&self, statement: Statement) -> Signed {
        Signed { statement, signature: Signature::ZERO }
    }

    fn seal(&self, _: InstanceId, _: Round, _: &Digest) -> Option<Seal> {
        Some(Seal::repeat_byte(3))
    }
}

pub fn quorum() -> Quorum {
    Quorum::of(4).unwrap()
}

/// Operator `me` at genesis, bound by what `recovery` remembers, before its first step.
pub fn replica(me: u8, recovery: Recovery) -> Replica<PlainKeys> {
    let limits = Limits::default();
    let config = Config {
        cluster_id: CLUSTER,
        me: OperatorIndex(me),
        quorum: quorum(),
        params: ConsensusParams::default(),
        limits,
        builder: false,
        seals: true,
        record: false,
    };
    let mempool = Mempool::new(limits, BuilderPolicy::default()).unwrap();
    Replica::new(config, PlainKeys, Chain::genesis(CLUSTER, quorum()), mempool, recovery)
}
