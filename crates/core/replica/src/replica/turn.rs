//! One instance takes an event; its effects are carried on.

use super::Replica;
use crate::agreement::{Agreement, Ended, Proposal};
use crate::blocks::Blocks;
use crate::duties::Duties;
use crate::io::{Notice, Timer};
use crate::output::Outbound;
use aequa_qbft::{Effect, Event, Instance, Note};
use aequa_signing::Keys;
use aequa_types::message::ValueRequest;
use aequa_types::{Certificate, Digest, InstanceId, Message, OperatorIndex, Round, Value, Verified};

/// What is particular about this instance.
fn of<'a>(id: InstanceId, blocks: &'a Blocks, duties: &'a Duties) -> &'a dyn Agreement {
    match id {
        InstanceId::Block(_) => blocks,
        InstanceId::Duty(_) => duties,
    }
}

/// The same, to be told something.
fn of_mut<'a>(id: InstanceId, blocks: &'a mut Blocks, duties: &'a mut Duties) -> &'a mut dyn Agreement {
    match id {
        InstanceId::Block(_) => blocks,
        InstanceId::Duty(_) => duties,
    }
}

impl<K: Keys> Replica<K> {
    /// Lets one instance take an event, and carries its effects on.
    pub(super) fn drive(&mut self, id: InstanceId, event: Event) {
        let agreement = of(id, &self.blocks, &self.duties);
        let effects = self.instances.step(id, event, agreement, &self.cx, &mut self.signer);
        for effect in effects {
            self.carry_on(id, effect);
        }
    }

    /// Gives a message to its instance, and the share of a COMMIT to the seal.
    pub(super) fn hand_over(&mut self, id: InstanceId, from: OperatorIndex, message: Verified) {
        let commit = if let Verified::Commit(vote) = &message { Some(vote.clone()) } else { None };
        self.drive(id, Event::Message { carrier: from, message });
        if let Some(vote) = commit {
            self.add_to_seal(&vote);
        }
    }

    fn carry_on(&mut self, id: InstanceId, effect: Effect) {
        match effect {
            Effect::Persist(record) => self.cx.out.record(record),
            Effect::Broadcast(message) => {
                self.cx.out.broadcast(message);
                self.put_off_resending(id);
            }
            Effect::Send(to, message) => self.cx.out.send(Outbound::Send(to, message)),
            Effect::SetTimer(round) => self.set_round_timer(id, round),
            Effect::KeepSending(round) => self.set_resend_timer(id, round),
            Effect::NeedInput(round) => self.propose(id, round),
            Effect::NeedValue(digest) => self.fetch_value(id, digest),
            Effect::Decided { value, certificate } => self.on_decided(id, value, certificate),
            Effect::Note(note) => self.on_note(id, note),
        }
    }

    /// The leader of `round` needs a value.
    pub(super) fn propose(&mut self, id: InstanceId, round: Round) {
        let agreement = of_mut(id, &mut self.blocks, &mut self.duties);
        let proposal = agreement.propose(&mut self.cx, id, round);
        self.carry_out(id, round, proposal);
    }

    /// What the leader of `round` does.
    pub(super) fn carry_out(&mut self, id: InstanceId, round: Round, proposal: Proposal) {
        match proposal {
            Proposal::Value(value) => self.drive(id, Event::Input { round, value }),
            Proposal::Later => {}
            Proposal::Pass => self.drive(id, Event::Timeout(round)),
        }
    }

    /// A value that is decided and not here.
    fn fetch_value(&mut self, id: InstanceId, digest: Digest) {
        match of(id, &self.blocks, &self.duties).value(id, digest) {
            Some(value) => {
                let (carrier, message) = (self.cx.config.me, Verified::ValueReply { instance: id, value });
                self.drive(id, Event::Message { carrier, message });
            }
            None => {
                let request = ValueRequest { instance: id, digest };
                self.cx.out.broadcast(Message::ValueRequest(request));
            }
        }
    }

    fn on_decided(&mut self, id: InstanceId, value: Value, certificate: Certificate) {
        self.cx.out.cancel_timers(id);
        self.decide(id, value, &certificate);
    }

    /// Carries a decision out, whether it was made now or before a restart.
    pub(super) fn decide(&mut self, id: InstanceId, value: Value, certificate: &Certificate) {
        let agreement = of_mut(id, &mut self.blocks, &mut self.duties);
        match agreement.decided(&mut self.cx, id, value, certificate) {
            Some(Ended::Block(height)) => {
                self.height_ended(height, certificate);
                self.begin_height();
            }
            Some(Ended::Duty(duty)) => self.duty_ended(duty, certificate),
            None => {}
        }
    }

    fn on_note(&mut self, id: InstanceId, note: Note) {
        let accepted = match &note {
            Note::ProposalAccepted(_, digest) => {
                self.instances.get(id).and_then(|instance| instance.value(digest))
            }
            Note::RoundEntered(_)
            | Note::PrepareQuorum(_)
            | Note::CommitQuorum(_)
            | Note::TimedOut(..)
            | Note::Refused(..)
            | Note::Conflict(_)
            | Note::SignerRefused(_) => None,
        };
        let agreement = of_mut(id, &mut self.blocks, &mut self.duties);
        agreement.noted(&self.cx, id, &note, accepted);
        self.cx.out.notify(Notice::Consensus(id, note));
    }

    fn set_round_timer(&mut self, id: InstanceId, round: Round) {
        let agreement = of(id, &self.blocks, &self.duties);
        if !agreement.is_idle() {
            let timeout_ms = agreement.timeout_ms(&self.cx.config.params, round);
            self.cx.set_timer(Timer::Round { instance: id, round }, timeout_ms);
        }
    }

    fn set_resend_timer(&mut self, id: InstanceId, round: Round) {
        let timeout_ms = of(id, &self.blocks, &self.duties).timeout_ms(&self.cx.config.params, round);
        self.cx.set_timer(Timer::Resend(id), timeout_ms / 3);
    }

    /// What was sent just now need not be sent again before a third of a timeout has passed. A round has few
    /// messages of one's own, so this cannot go on for ever.
    pub(super) fn put_off_resending(&mut self, id: InstanceId) {
        let open = self.instances.get(id).filter(|instance| instance.decided().is_none());
        if let Some(round) = open.map(Instance::round) {
            self.set_resend_timer(id, round);
        }
    }

    pub(super) fn resend(&mut self, id: InstanceId) {
        let Some((round, newest)) = self.instances.newest(id) else { return };
        newest.into_iter().for_each(|message| self.cx.out.broadcast(message));
        self.set_resend_timer(id, round);
    }
}
