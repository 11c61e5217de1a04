//! From events to entries, while the replica runs.

use crate::io::Now;
use aequa_qbft::{Event, Host, Instance, Justified, Validity};
use aequa_types::record::{ProposalRecord, ValueRecord};
use aequa_types::recording::{
    Answers, Candidate, Connected, Entry, Fetched, Happening, Heard, Moment, Opened, Resent, Said, Step,
    Upgraded,
};
use aequa_types::{
    Certificate, Digest, InstanceId, OperatorIndex, Prepared, Record, Round, Signed, Statement, Value,
    Verified,
};
use std::collections::BTreeSet;

/// Values known to be in the recording. Forgetting one costs writing it a second time.
const VALUES_REMEMBERED_MAX: usize = 256;

/// Turns what happens to instances into entries of the recording.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    values: BTreeSet<(InstanceId, Digest)>,
    /// Instances the vote log gave back, until the first step says when that was.
    restored: Vec<(InstanceId, Vec<Record>)>,
    /// What was not taken yet.
    entries: Vec<Entry>,
}

impl Recorder {
    /// What was recorded since the last call.
    pub(crate) fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// The log gave this instance back, before the first step.
    pub(crate) fn restored(&mut self, instance: InstanceId, records: &[Record]) {
        self.restored.push((instance, records.to_vec()));
    }

    /// The first step: instances from the log are open.
    pub(crate) fn started(&mut self, now: Now) {
        for (instance, records) in std::mem::take(&mut self.restored) {
            self.opened(instance, records.len() as u64, now);
            records.into_iter().for_each(|record| self.entries.push(Entry::Bound(record)));
        }
    }

    /// An instance is open; so many records of the log follow.
    pub(crate) fn opened(&mut self, instance: InstanceId, bound: u64, now: Now) {
        // In another life the recording of its values may have been cut off.
        self.values.retain(|(of, _)| *of != instance);
        self.entries.push(Entry::Opened(Opened { instance, at: moment(now), bound }));
    }

    /// Lets an instance take an event, and records it with what the host answered.
    pub(crate) fn step(
        &mut self,
        instance: &mut Instance,
        host: impl Host,
        event: Event,
        now: Now,
    ) -> Vec<aequa_qbft::Effect> {
        let id = instance.id();
        let happened = self.happening(id, instance.round(), &event);
        let mut witness = Witness { host, answers: Answers::default() };
        let effects = instance.step(&mut witness, event);
        let decided = effects.iter().find_map(|effect| {
            if let aequa_qbft::Effect::Decided { certificate, .. } = effect {
                Some(Prepared { round: certificate.round, digest: certificate.digest })
            } else {
                None
            }
        });
        let step = Step { instance: id, at: moment(now), happened, answers: witness.answers, decided };
        self.entries.push(Entry::Step(step));
        effects
    }

    pub(crate) fn upgraded(&mut self, certificate: &Certificate, now: Now) {
        self.entries.push(Entry::Upgraded(Upgraded { at: moment(now), certificate: certificate.clone() }));
    }

    pub(crate) fn resent(&mut self, instance: InstanceId, now: Now) {
        self.entries.push(Entry::Resent(Resent { instance, at: moment(now) }));
    }

    pub(crate) fn connected(&mut self, operator: OperatorIndex, now: Now) {
        self.entries.push(Entry::Connected(Connected { operator, at: moment(now) }));
    }

    pub(crate) fn fetched(
        &mut self,
        from: OperatorIndex,
        certificate: Certificate,
        commit: Option<Signed>,
        now: Now,
    ) {
        self.entries.push(Entry::Fetched(Fetched { at: moment(now), from, certificate, commit }));
    }

    fn happening(&mut self, id: InstanceId, round: Round, event: &Event) -> Happening {
        match event {
            Event::Start => Happening::Start(round),
            Event::Timeout(round) => Happening::Timeout(*round),
            Event::Input { round, value } => {
                Happening::Input(Candidate { round: *round, digest: self.value(id, value) })
            }
            Event::Message { carrier, message } => {
                Happening::Message(Heard { carrier: *carrier, said: self.said(id, message) })
            }
        }
    }

    fn said(&mut self, id: InstanceId, message: &Verified) -> Said {
        match message {
            Verified::PrePrepare { proposal, value, round_changes, prepares } => {
                self.value(id, value);
                Said::PrePrepare(ProposalRecord {
                    proposal: proposal.clone(),
                    round_changes: round_changes.clone(),
                    prepares: prepares.clone(),
                })
            }
            Verified::Prepare(vote) => Said::Prepare(vote.clone()),
            Verified::Commit(vote) => Said::Commit(vote.clone()),
            Verified::RoundChange(message) => Said::RoundChange(message.clone()),
            Verified::Decided(certificate) => Said::Decided(certificate.clone()),
            Verified::ValueRequest(request) => Said::ValueRequest(*request),
            Verified::ValueReply { value, .. } => Said::Value(self.value(id, value)),
        }
    }

    /// Writes a value unless it is there; gives its digest.
    fn value(&mut self, instance: InstanceId, value: &Value) -> Digest {
        if self.values.len() >= VALUES_REMEMBERED_MAX {
            self.values.clear();
        }
        if self.values.insert((instance, value.digest())) {
            self.entries.push(Entry::Value(ValueRecord { instance, value: value.bytes().clone() }));
        }
        value.digest()
    }
}

/// A host that is listened to.
struct Witness<H> {
    host: H,
    answers: Answers,
}

impl<H: Host> Host for Witness<H> {
    fn leader(&self, round: Round) -> OperatorIndex {
        self.host.leader(round)
    }

    fn validate(&mut self, round: Round, value: &Value, justified: Justified) -> Validity {
        let validity = self.host.validate(round, value, justified);
        self.answers.verdicts.push(validity == Validity::Valid);
        validity
    }

    fn sign(&mut self, statement: Statement) -> Option<Signed> {
        let signed = self.host.sign(statement);
        self.answers.signatures.push(signed.clone());
        signed
    }
}

fn moment(now: Now) -> Moment {
    Moment { elapsed_ms: now.elapsed_ms, wall_ms: now.wall_ms }
}
