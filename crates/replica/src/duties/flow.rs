//! How duties move: posted by a client, agreed with the members, decided, expired, asked about.

use crate::duties::states::Opening;
use crate::io::{DutyAdmission, Notice, Recall, Ticket};
use crate::output::{StoreWrite, Tell, Work};
use crate::replica::{Replica, leader};
use crate::signer::Keys;
use aequa_qbft::Event;
use aequa_types::message::ValueRequest;
use aequa_types::record::ValueRecord;
use aequa_types::{
    Certificate, Decided, Digest, DutyId, DutyKind, InstanceId, Message, OperatorIndex, Record, Round, Value,
    Verified,
};

impl<K: Keys> Replica<K> {
    /// A client's candidate: it stands if it is the first.
    pub(crate) fn post_duty(&mut self, duty: DutyId, value: Value, ticket: Ticket) {
        // One of f+1 members is honest: its client wants the duty too.
        let is_wanted = self.early_duties.members_about(duty) >= self.config.quorum.weak_quorum();
        let opening = self.duties.post(duty, value.clone(), is_wanted, self.now.elapsed_ms);
        let admission = match opening {
            Opening::First | Opening::Again => DutyAdmission::Accepted,
            Opening::Ended => DutyAdmission::Ended,
            Opening::Below(watermark) => DutyAdmission::Forgotten { watermark },
            Opening::Full => DutyAdmission::Overloaded,
            Opening::Above(highest) => DutyAdmission::TooHigh { highest },
        };
        if opening == Opening::First {
            let record = ValueRecord { instance: duty.into(), value: value.bytes().clone() };
            self.out.record(Record::Value(record));
        }
        self.out.tell(Tell::DutyAdmission(ticket, admission));
        if opening == Opening::First && !self.begin_duty(duty) {
            // It was there without a candidate: decided and waiting for its value, or left of an earlier life.
            let reply = Verified::ValueReply { instance: duty.into(), value: value.clone() };
            self.hand_over(duty.into(), self.config.me, reply);
            self.offer_candidate(duty, value);
        }
    }

    /// Begins a duty, with what members said of it before; false when it was there.
    fn begin_duty(&mut self, duty: DutyId) -> bool {
        let id = duty.into();
        if self.instances.contains_key(&id) {
            return false;
        }
        self.open_instance(id);
        self.drive(id, Event::Start);
        for (from, message) in self.early_duties.take(duty) {
            self.take_duty_message(id, from, message);
        }
        true
    }

    /// A member's message about a duty. Only what this operator's client has posted for, and what a quorum has decided,
    /// has an instance.
    pub(crate) fn deliver_duty(&mut self, duty: DutyId, from: OperatorIndex, message: Verified) {
        let id = duty.into();
        if self.instances.contains_key(&id) {
            return self.take_duty_message(id, from, message);
        }
        self.witness_message(&message);
        if self.duties.is_closed(duty) {
            return self.asked_about_closed(duty, from, &message);
        }
        if !matches!(message, Verified::Decided(_)) {
            return self.early_duties.keep(from, message);
        }
        if self.duties.learn(duty, self.now.elapsed_ms) {
            self.open_instance(id);
            self.hand_over(id, from, message);
            // The value is asked for until it comes.
            self.put_off_resending(id);
        }
    }

    fn take_duty_message(&mut self, id: InstanceId, from: OperatorIndex, message: Verified) {
        if let Verified::PrePrepare { proposal: signed, .. } | Verified::Prepare(signed) = &message {
            self.duties.saw(signed);
        }
        self.witness_message(&message);
        self.hand_over(id, from, message);
    }

    /// A duty whose instance is gone: late shares still count for its seal, questions go to the store.
    fn asked_about_closed(&mut self, duty: DutyId, from: OperatorIndex, message: &Verified) {
        let recall = match message {
            Verified::Commit(vote) => {
                if let Some(ready) = self.sealing.add(vote) {
                    self.combine(duty.into(), ready);
                }
                return;
            }
            Verified::RoundChange(_) => Recall::Certificate,
            Verified::ValueRequest(request) => Recall::Value(request.digest),
            Verified::PrePrepare { .. }
            | Verified::Prepare(_)
            | Verified::Decided(_)
            | Verified::ValueReply { .. } => return,
        };
        if self.duties.may_answer(from, self.now.elapsed_ms) {
            self.out.work(Work::RecallDuty { to: from, duty, recall });
        }
    }

    fn offer_candidate(&mut self, duty: DutyId, value: Value) {
        let id = duty.into();
        let Some(round) = self.instances.get(&id).map(aequa_qbft::Instance::round) else { return };
        self.drive(id, Event::Input { round, value });
    }

    /// The leader needs a value: what its client posted, and nothing else.
    pub(crate) fn need_duty_value(&mut self, duty: DutyId, round: Round) {
        if let Some(value) = self.duties.candidate(duty).cloned() {
            self.drive(duty.into(), Event::Input { round, value });
        }
    }

    /// A value that is decided and not here: a member may have proposed it before this operator took part.
    pub(crate) fn fetch_value(&mut self, id: InstanceId, digest: Digest) {
        match id.as_duty().and_then(|duty| self.early_duties.value(duty, digest)) {
            Some(value) => {
                let (carrier, message) = (self.config.me, Verified::ValueReply { instance: id, value });
                self.drive(id, Event::Message { carrier, message });
            }
            None => {
                let request = ValueRequest { instance: id, digest };
                self.out.broadcast(Message::ValueRequest(request));
            }
        }
    }

    pub(crate) fn duty_decided(&mut self, duty: DutyId, value: Value, certificate: Certificate) {
        self.duties.decide(duty, value.clone(), certificate.clone(), self.now.elapsed_ms);
        self.early_duties.take(duty);
        let decided = Some((value, certificate.clone()));
        let watermark = self.duties.watermark(duty.kind);
        self.out.store(StoreWrite::CommitDuty { duty, decided, watermark });
        self.out.notify(Notice::DutyEnded { duty, certificate: Some(certificate.clone()) });
        self.announce(duty.into(), &certificate);
        self.open_seal(&certificate);
        self.forget_duty_instances();
    }

    /// Operators whose clients have not posted learn of the decision from the leader of its round. Beyond round 0 the instance
    /// tells everybody itself.
    fn announce(&mut self, id: InstanceId, certificate: &Certificate) {
        let led = leader(self.config.quorum, id, certificate.round) == self.config.me;
        let untold = self.instances.get(&id).is_some_and(|instance| instance.round() == Round(0));
        if led && untold {
            let decided = Decided { certificate: certificate.clone() };
            self.out.broadcast(Message::Decided(decided));
        }
    }

    pub(crate) fn expire_duties(&mut self) {
        for duty in self.duties.expire(self.now.elapsed_ms) {
            let id = duty.into();
            self.instances.remove(&id);
            self.witness.forget(id);
            self.early_duties.take(duty);
            self.out.cancel_timers(id);
            let watermark = self.duties.watermark(duty.kind);
            self.out.store(StoreWrite::CommitDuty { duty, decided: None, watermark });
            self.out.notify(Notice::DutyEnded { duty, certificate: None });
        }
        self.forget_duty_instances();
    }

    /// Forgets instances of duties that ended too long ago to be shown from memory, with what they
    /// wait for. The store knows them, and the signer that nothing is signed there any more.
    fn forget_duty_instances(&mut self) {
        let of_duties = self.instances.keys().filter_map(|id| id.as_duty());
        let forgotten: Vec<DutyId> = of_duties.filter(|duty| self.duties.state(*duty).is_none()).collect();
        for duty in forgotten {
            let id = duty.into();
            self.instances.remove(&id);
            self.witness.forget(id);
            self.sealing.close(id);
            self.signer.close(duty);
        }
        for kind in DutyKind::ALL {
            if let Some(slot) = self.duties.watermark(kind) {
                self.signer.raise_floor(InstanceId::duty(kind, slot));
            }
        }
    }
}
