//! Every open consensus instance, and how one takes an event.

use crate::agreement::{Agreement, Proposed};
use crate::context::Context;
use crate::io::Now;
use crate::recording::Recorder;
use aequa_qbft::{Effect, Event, Host, Instance, Justified, Restored, Validity};
use aequa_signing::{Keys, Signer};
use aequa_types::recording::Entry;
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

/// The instances of blocks and duties, with the recording of what they take.
pub(crate) struct Instances {
    me: OperatorIndex,
    quorum: Quorum,
    all: BTreeMap<InstanceId, Instance>,
    /// None when nothing is recorded.
    recorder: Option<Recorder>,
}

impl Instances {
    pub(crate) fn new(me: OperatorIndex, quorum: Quorum, record: bool) -> Self {
        Self { me, quorum, all: BTreeMap::new(), recorder: record.then(Recorder::default) }
    }

    /// Continues an instance of an earlier life.
    pub(crate) fn restore(&mut self, id: InstanceId, restored: Restored) {
        if let Some(recorder) = &mut self.recorder {
            recorder.restored(id, &restored.records);
        }
        self.all.insert(id, Instance::restore(id, self.me, self.quorum, restored));
    }

    /// Begins an instance that is not there yet.
    pub(crate) fn open(&mut self, id: InstanceId, now: Now) {
        if !self.all.contains_key(&id) {
            self.all.insert(id, Instance::new(id, self.me, self.quorum));
            self.record(|recorder| recorder.opened(id, 0, now));
        }
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
        let mut view = View { id, agreement, cx, signer };
        match &mut self.recorder {
            Some(recorder) => recorder.step(instance, view, event, cx.now),
            None => instance.step(&mut view, event),
        }
    }

    /// The seal of what an instance decided.
    pub(crate) fn upgrade(&mut self, certificate: &Certificate, now: Now) {
        if let Some(open) = self.all.get_mut(&certificate.instance) {
            open.upgrade(certificate.clone());
            self.record(|recorder| recorder.upgraded(certificate, now));
        }
    }

    /// The newest own messages of an instance that has not decided; `None` when there is no such instance.
    pub(crate) fn newest(&mut self, id: InstanceId, now: Now) -> Option<(Round, Vec<Message>)> {
        let instance = self.all.get(&id).filter(|instance| instance.decided().is_none())?;
        let (round, newest) = (instance.round(), instance.newest());
        if !newest.is_empty() {
            self.record(|recorder| recorder.resent(id, now));
        }
        Some((round, newest))
    }

    /// What an operator that connects may have missed.
    pub(crate) fn newest_for(&mut self, operator: OperatorIndex, now: Now) -> Vec<Message> {
        self.record(|recorder| recorder.connected(operator, now));
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

    /// The first step of this life.
    pub(crate) fn started(&mut self, now: Now) {
        self.record(|recorder| recorder.started(now));
    }

    /// A block was fetched, and answered with a COMMIT of our own.
    pub(crate) fn fetched(
        &mut self,
        from: OperatorIndex,
        certificate: Certificate,
        commit: Option<Signed>,
        now: Now,
    ) {
        self.record(|recorder| recorder.fetched(from, certificate, commit, now));
    }

    /// What was recorded since the last call.
    pub(crate) fn take_recorded(&mut self) -> Vec<Entry> {
        self.recorder.as_mut().map(Recorder::take).unwrap_or_default()
    }

    fn record(&mut self, add: impl FnOnce(&mut Recorder)) {
        self.recorder.as_mut().map(add);
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
