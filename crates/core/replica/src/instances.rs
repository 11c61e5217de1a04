//! Every open consensus instance, and how one takes an event.

use crate::agreement::{Agreement, Proposed};
use crate::context::Context;
use aequa_qbft::{Effect, Event, Host, Instance, Justified, Restored, Validity};
use aequa_signing::{Keys, Signer};
use aequa_types::{
    Certificate, DutyId, Height, InstanceId, Message, OperatorIndex, Quorum, Round, Signed, Statement, Value,
};
use std::collections::BTreeMap;

/// Decided block instances kept to answer stragglers and to collect late seal shares.
pub(crate) const INSTANCES_KEPT: u64 = 32;

/// Bytes of duty messages sent to an operator that connects: a quarter of its queue. The rest follows with
/// the regular re-sending.
const RESENT_DUTY_BYTES_MAX: usize = 4 << 20;

/// The oldest decided block kept in memory when the tip is at `height`.
pub(crate) fn oldest_kept(height: Height) -> Height {
    Height(height.0.saturating_sub(INSTANCES_KEPT))
}

/// The instances of blocks and duties.
pub(crate) struct Instances {
    me: OperatorIndex,
    quorum: Quorum,
    all: BTreeMap<InstanceId, Instance>,
}

impl Instances {
    pub(crate) fn new(me: OperatorIndex, quorum: Quorum) -> Self {
        Self { me, quorum, all: BTreeMap::new() }
    }

    /// Continues an instance of an earlier life.
    pub(crate) fn restore(&mut self, id: InstanceId, restored: Restored) {
        self.all.insert(id, Instance::restore(id, self.me, self.quorum, restored));
    }

    /// Begins an instance that is not there yet.
    pub(crate) fn open(&mut self, id: InstanceId) {
        self.all.entry(id).or_insert_with(|| Instance::new(id, self.me, self.quorum));
    }

    pub(crate) fn get(&self, id: InstanceId) -> Option<&Instance> {
        self.all.get(&id)
    }

    pub(crate) fn contains(&self, id: InstanceId) -> bool {
        self.all.contains_key(&id)
    }

    /// The round of an instance, if it is there.
    pub(crate) fn round(&self, id: InstanceId) -> Option<Round> {
        self.get(id).map(Instance::round)
    }

    /// The decision of an instance, when its value is there too.
    pub(crate) fn decision(&self, id: InstanceId) -> Option<(Value, Certificate)> {
        let instance = self.get(id)?;
        let certificate = instance.decided()?;
        Some((instance.value(&certificate.digest)?.clone(), certificate.clone()))
    }

    /// The duties that have an instance.
    pub(crate) fn duties(&self) -> impl Iterator<Item = DutyId> {
        self.all.keys().filter_map(|id| id.as_duty())
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Lets one instance take an event; nothing when it is not there.
    pub(crate) fn step<K: Keys>(
        &mut self,
        id: InstanceId,
        event: Event,
        agreement: &dyn Agreement,
        cx: &Context,
        signer: &mut Signer<K>,
    ) -> Vec<Effect> {
        let Some(instance) = self.all.get_mut(&id) else { return Vec::new() };
        instance.step(&mut View { id, agreement, cx, signer }, event)
    }

    /// The seal of what an instance decided.
    pub(crate) fn upgrade(&mut self, certificate: &Certificate) {
        if let Some(open) = self.all.get_mut(&certificate.instance) {
            open.upgrade(certificate.clone());
        }
    }

    /// The newest own messages of an instance that has not decided; `None` when there is no such instance.
    pub(crate) fn newest(&self, id: InstanceId) -> Option<(Round, Vec<Message>)> {
        let instance = self.get(id).filter(|instance| instance.decided().is_none())?;
        Some((instance.round(), instance.newest()))
    }

    /// What an operator that connects may have missed.
    pub(crate) fn newest_for(&mut self, operator: OperatorIndex) -> Vec<Message> {
        self.all.values_mut().for_each(|instance| instance.forget_answers(operator));
        let mut duty_bytes_left = RESENT_DUTY_BYTES_MAX;
        let mut newest = Vec::new();
        // Blocks come first in the order of instances, and are few.
        for (id, instance) in &self.all {
            for message in instance.newest() {
                if !id.is_block() {
                    let bytes = message.body_bytes();
                    if bytes > duty_bytes_left {
                        continue;
                    }
                    duty_bytes_left -= bytes;
                }
                newest.push(message);
            }
        }
        newest
    }

    pub(crate) fn forget(&mut self, id: InstanceId) {
        self.all.remove(&id);
    }

    /// Forgets blocks below `oldest`.
    pub(crate) fn forget_blocks_below(&mut self, oldest: Height) {
        self.all.extract_if(..InstanceId::Block(oldest), |_, _| true).for_each(drop);
    }
}

/// What an instance may ask of the replica around it.
struct View<'a, K> {
    id: InstanceId,
    agreement: &'a dyn Agreement,
    cx: &'a Context,
    signer: &'a mut Signer<K>,
}

impl<K: Keys> Host for View<'_, K> {
    fn leader(&self, round: Round) -> OperatorIndex {
        self.cx.elector.leader(self.id, round)
    }

    fn validate(&mut self, round: Round, value: &Value, justified: Justified) -> Validity {
        let proposed = Proposed { round, proposer: self.leader(round), value, justified };
        self.agreement.validate(self.cx, self.id, &proposed)
    }

    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        self.signer.sign(statement).ok()
    }
}
