//! Duties: posts of the own client, messages of members, giving up.

use super::Replica;
use crate::duties::Aside;
use crate::io::Ticket;
use aequa_qbft::Event;
use aequa_signing::Keys;
use aequa_types::{Certificate, Decided, DutyId, InstanceId, Message, OperatorIndex, Round, Value, Verified};

impl<K: Keys> Replica<K> {
    /// A client's candidate: it stands if it is the first.
    pub(super) fn post_duty(&mut self, duty: DutyId, value: Value, ticket: Ticket) {
        if !self.duties.post(&mut self.cx, duty, &value, ticket) || self.begin_duty(duty) {
            return;
        }
        // It was there without a candidate: decided and waiting for its value, or left of an earlier life.
        let id = duty.into();
        self.hand_over(id, self.cx.config.me, Verified::ValueReply { instance: id, value: value.clone() });
        if let Some(round) = self.instances.round(id) {
            self.drive(id, Event::Input { round, value });
        }
    }

    /// Begins a duty, with what members said of it before; false when it was there.
    fn begin_duty(&mut self, duty: DutyId) -> bool {
        let id = duty.into();
        if self.instances.contains(id) {
            return false;
        }
        self.instances.open(id);
        self.drive(id, Event::Start);
        for (from, message) in self.duties.take_early(duty) {
            self.take_duty_message(id, from, message);
        }
        true
    }

    /// A member's message about a duty. Only what this operator's client has posted for, and what a quorum has decided,
    /// has an instance.
    pub(super) fn deliver_duty(&mut self, duty: DutyId, from: OperatorIndex, message: Verified) {
        let id = duty.into();
        if self.instances.contains(id) {
            return self.take_duty_message(id, from, message);
        }
        self.watch_message(&message);
        match self.duties.without_instance(&mut self.cx, duty, from, message) {
            Aside::Nothing => {}
            Aside::LateCommit(vote) => self.add_to_seal(&vote),
            Aside::Begins(message) => {
                self.instances.open(id);
                self.hand_over(id, from, message);
                // The value is asked for until it comes.
                self.put_off_resending(id);
            }
        }
    }

    fn take_duty_message(&mut self, id: InstanceId, from: OperatorIndex, message: Verified) {
        self.duties.saw(&message);
        self.watch_message(&message);
        self.hand_over(id, from, message);
    }

    /// A duty was decided.
    pub(super) fn duty_ended(&mut self, duty: DutyId, certificate: &Certificate) {
        self.announce(duty.into(), certificate);
        self.open_seal(certificate);
        self.forget_ended_duties();
    }

    /// Operators whose clients have not posted learn of the decision from the leader of its round. Beyond round 0 the instance
    /// tells everybody itself.
    fn announce(&mut self, id: InstanceId, certificate: &Certificate) {
        let led = self.cx.elector.leader(id, certificate.round) == self.cx.config.me;
        if led && self.instances.round(id) == Some(Round(0)) {
            let decided = Decided { certificate: certificate.clone() };
            self.cx.out.broadcast(Message::Decided(decided));
        }
    }

    /// Gives up duties that are past any use.
    pub(super) fn expire_duties(&mut self) {
        for duty in self.duties.expire(&mut self.cx) {
            self.instances.forget(duty.into());
            self.witness.forget(duty.into());
            self.cx.out.cancel_timers(duty.into());
        }
        self.forget_ended_duties();
    }

    /// Forgets instances of duties that ended too long ago to be shown from memory, with what they
    /// wait for. The store knows them, and the signer that nothing is signed there any more.
    fn forget_ended_duties(&mut self) {
        let of_duties = self.instances.duties();
        let forgotten: Vec<DutyId> = of_duties.filter(|duty| self.duties.state(*duty).is_none()).collect();
        for duty in forgotten {
            let id = duty.into();
            self.instances.forget(id);
            self.witness.forget(id);
            self.seals.retain(|decision, _| decision.instance != id);
            self.signer.guard_mut().close(duty);
        }
        self.duties
            .watermarks()
            .for_each(|watermark| self.signer.guard_mut().raise_watermark(watermark.into()));
    }
}
