//! How duties move: posted by a client, joined through a member, decided, expired, asked about.

use crate::duties::Opening;
use crate::io::{DutyAdmission, Effect, Notice, Recall, Ticket};
use crate::replica::Replica;
use crate::signer::Keys;
use aequa_qbft::{Event, Instance};
use aequa_types::message::ValueReply;
use aequa_types::{Certificate, Domain, InstanceId, Message, OperatorIndex, Round, Value, Verified};

impl<K: Keys> Replica<K> {
    /// A client's candidate: it stands if it is the first, and the members learn of it.
    pub(crate) fn post_duty(&mut self, instance: InstanceId, value: Value, ticket: Ticket) {
        let opening = self.duties.post(self.config.me, instance, self.now.elapsed_ms);
        let admission = match opening {
            Opening::Open | Opening::Closed => DutyAdmission::Accepted,
            Opening::Full => DutyAdmission::Overloaded,
            Opening::Above(highest) => DutyAdmission::TooHigh { highest },
        };
        self.out.push(Effect::DutyReply(ticket, admission));
        if opening != Opening::Open {
            return;
        }
        self.begin_duty(instance);
        if self.duties.offer(instance, value.clone()) {
            let share = ValueReply { instance, value: value.bytes().clone() };
            self.out.push(Effect::Broadcast(Message::ValueReply(share)));
            self.offer_to_instance(instance, value);
        }
    }

    /// Whether a member's message about a duty is to be taken; opens the duty if need be.
    pub(crate) fn join_duty(&mut self, id: InstanceId, from: OperatorIndex, message: &Verified) -> bool {
        let now_ms = self.now.elapsed_ms;
        let begins = match message {
            Verified::ValueReply { .. } => {
                self.duties.shared(id, from, now_ms);
                true
            }
            Verified::PrePrepare { .. } | Verified::Prepare(_) | Verified::RoundChange(_) => {
                self.duties.voted(id, from, now_ms);
                true
            }
            Verified::Commit(_) | Verified::Decided(_) | Verified::ValueRequest(_) => false,
        };
        if !self.instances.contains_key(&id) {
            if self.duties.is_closed(id) {
                self.asked_about_closed(id, from, message);
                return false;
            }
            if !begins || self.duties.join(id, from, now_ms) != Opening::Open {
                return false;
            }
            self.begin_duty(id);
        }
        if let Verified::ValueReply { value, .. } = message {
            self.adopt_candidate(id, value.clone());
        }
        true
    }

    /// A duty whose instance is gone: late shares still count for its seal, questions go to the store.
    fn asked_about_closed(&mut self, id: InstanceId, from: OperatorIndex, message: &Verified) {
        let recall = match message {
            Verified::Commit(vote) => {
                if let Some(ready) = self.sealing.add(vote) {
                    self.combine(id, ready);
                }
                return;
            }
            Verified::RoundChange(_) => Recall::Certificate,
            Verified::ValueRequest(request) => Recall::Value(request.digest),
            _ => return,
        };
        if self.duties.may_answer(from, self.now.elapsed_ms) {
            self.out.push(Effect::RecallDuty { to: from, instance: id, recall });
        }
    }

    fn begin_duty(&mut self, id: InstanceId) {
        if !self.instances.contains_key(&id) {
            self.open_instance(id);
            self.drive(id, Event::Start);
        }
    }

    /// A member's candidate waits in round 0, so that the own client's may still come first.
    fn adopt_candidate(&mut self, id: InstanceId, value: Value) {
        self.duties.adopt(id, value);
        if self.instances.get(&id).is_some_and(|instance| instance.round() > Round(0)) {
            self.offer_any_candidate(id);
        }
    }

    /// Proposes what there is, if this operator leads and has not proposed yet.
    pub(crate) fn offer_any_candidate(&mut self, id: InstanceId) {
        if let Some(value) = self.duties.any_candidate(id) {
            self.offer_to_instance(id, value);
        }
    }

    fn offer_to_instance(&mut self, id: InstanceId, value: Value) {
        let Some(round) = self.instances.get(&id).map(Instance::round) else { return };
        self.drive(id, Event::Input { round, value });
    }

    /// The leader needs a value. In round 0 a member's candidate is used only when the time to send
    /// again has come without one of the own client.
    pub(crate) fn need_duty_value(&mut self, id: InstanceId, round: Round) {
        let value = match round {
            Round(0) => self.duties.candidate(id),
            _ => self.duties.any_candidate(id),
        };
        if let Some(value) = value {
            self.drive(id, Event::Input { round, value });
        }
    }

    pub(crate) fn duty_decided(&mut self, id: InstanceId, value: Value, certificate: Certificate) {
        self.duties.decide(id, value.clone(), certificate.clone(), self.now.elapsed_ms);
        let decided = Some((value, certificate.clone()));
        self.out.push(Effect::CommitDuty {
            instance: id,
            decided,
            watermark: self.duties.watermark(id.domain),
        });
        let ended = Notice::DutyEnded { instance: id, certificate: Some(certificate.clone()) };
        self.out.push(Effect::Notify(ended));
        self.open_seal(&certificate);
        self.forget_duty_instances();
    }

    pub(crate) fn expire_duties(&mut self) {
        for id in self.duties.expire(self.now.elapsed_ms) {
            self.instances.remove(&id);
            self.witness.forget(id);
            self.out.push(Effect::CancelTimers(id));
            let watermark = self.duties.watermark(id.domain);
            self.out.push(Effect::CommitDuty { instance: id, decided: None, watermark });
            self.out.push(Effect::Notify(Notice::DutyEnded { instance: id, certificate: None }));
        }
        self.forget_duty_instances();
    }

    /// Forgets instances of duties that ended too long ago to be shown from memory, with what they
    /// wait for. The store knows them, and the signer what lies above the watermark.
    fn forget_duty_instances(&mut self) {
        let duties = &self.duties;
        let gone = |id: &InstanceId| id.domain != Domain::Block && duties.state(*id).is_none();
        let forgotten: Vec<InstanceId> = self.instances.keys().copied().filter(gone).collect();
        for id in forgotten {
            self.instances.remove(&id);
            self.witness.forget(id);
            self.sealing.close(id);
        }
        for domain in Domain::ALL {
            if let Some(mark) = self.duties.watermark(domain) {
                self.signer.raise_floor(domain, mark);
            }
        }
    }
}
