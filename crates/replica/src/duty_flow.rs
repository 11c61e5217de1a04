//! How duties move: posted by a client, joined through a member, decided, expired.

use crate::io::{DutyAdmission, Effect, Notice, Ticket};
use crate::replica::Replica;
use crate::signer::Keys;
use aequa_qbft::{Event, Instance};
use aequa_types::message::ValueReply;
use aequa_types::{Certificate, InstanceId, Message, Round, Value, Verified};

impl<K: Keys> Replica<K> {
    /// A client's candidate: it stands if it is the first, and the members learn of it.
    pub(crate) fn post_duty(&mut self, instance: InstanceId, value: Value, ticket: Ticket) {
        let over = self.duties.is_closed(instance);
        if !over && !self.open_duty(instance) {
            return self.out.push(Effect::DutyReply(ticket, DutyAdmission::Overloaded));
        }
        self.out.push(Effect::DutyReply(ticket, DutyAdmission::Accepted));
        if !over && self.duties.offer(instance, value.clone()) {
            let share = ValueReply { instance, value: value.bytes().clone() };
            self.out.push(Effect::Broadcast(Message::ValueReply(share)));
            self.offer_to_instance(instance, value);
        }
    }

    /// Whether a member's message about a duty is to be taken; opens the duty if need be.
    pub(crate) fn join_duty(&mut self, instance: InstanceId, message: &Verified) -> bool {
        if self.instances.contains_key(&instance) {
            // Known; fall through to a candidate offered by a member.
        } else if self.duties.is_closed(instance) || !self.open_duty(instance) {
            return false;
        }
        if let Verified::ValueReply { value, .. } = message
            && self.duties.offer(instance, value.clone())
        {
            self.offer_to_instance(instance, value.clone());
        }
        true
    }

    fn open_duty(&mut self, instance: InstanceId) -> bool {
        if self.duties.is_open(instance) {
            return true;
        }
        if !self.duties.open(instance, self.now.elapsed_ms) {
            return false;
        }
        let fresh = Instance::new(instance, self.config.me, self.config.quorum);
        self.instances.insert(instance, fresh);
        self.drive(instance, Event::Start);
        true
    }

    fn offer_to_instance(&mut self, id: InstanceId, value: Value) {
        let Some(round) = self.instances.get(&id).map(Instance::round) else { return };
        self.drive(id, Event::Input { round, value });
    }

    /// The leader needs a value: the candidate, as soon as there is one.
    pub(crate) fn need_duty_value(&mut self, id: InstanceId, round: Round) {
        if let Some(value) = self.duties.candidate(id) {
            self.drive(id, Event::Input { round, value });
        }
    }

    pub(crate) fn duty_decided(&mut self, id: InstanceId, value: Value, certificate: Certificate) {
        self.duties.decide(id, value.clone(), certificate.clone(), self.now.elapsed_ms);
        self.out.push(Effect::CommitDuty { instance: id, decided: Some((value, certificate.clone())) });
        let ended = Notice::DutyEnded { instance: id, certificate: Some(certificate.clone()) };
        self.out.push(Effect::Notify(ended));
        self.open_seal(&certificate);
        self.forget_duty_instances();
    }

    pub(crate) fn expire_duties(&mut self) {
        for id in self.duties.expire(self.now.elapsed_ms) {
            self.instances.remove(&id);
            self.out.push(Effect::CancelTimers(id));
            self.out.push(Effect::CommitDuty { instance: id, decided: None });
            self.out.push(Effect::Notify(Notice::DutyEnded { instance: id, certificate: None }));
        }
        self.forget_duty_instances();
    }

    /// Instances of duties nobody can ask about any more.
    fn forget_duty_instances(&mut self) {
        let duties = &self.duties;
        let domain_of_blocks = aequa_types::Domain::Block;
        self.instances.retain(|id, _| id.domain == domain_of_blocks || duties.state(*id).is_some());
        for domain in aequa_types::Domain::ALL {
            if let Some(mark) = duties.watermark(domain) {
                self.signer.raise_floor(domain, mark);
            }
        }
    }
}
