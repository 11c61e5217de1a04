//! What happens while the members are asked what this operator signed, and with what they say later.

use super::Replica;
use crate::inquiry::Heard;
use crate::io::{DutyAdmission, Halt, Input, Memory, Notice, Timer};
use crate::output::{Outbound, Tell};
use crate::sync::CATCH_UP_INTERVAL_MS;
use aequa_signing::Keys;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{Domain, Height, InstanceId, OperatorIndex, Signed, Verified};

impl<K: Keys> Replica<K> {
    /// Whether it still has to hear what members saw it sign: it follows the chain and signs nothing.
    pub fn is_inquiring(&self) -> bool {
        self.inquiry.is_some()
    }

    /// Whether its chain has come to where it once was. Who signed in a height had decided the one before;
    /// until that is here again, an answer of this replica would not be that of an honest signer.
    pub fn may_testify(&self) -> bool {
        let next = InstanceId::Block(self.height());
        !self.has_lost_memory() && self.signer.guard.highest_bound(Domain::Block) <= Some(next)
    }

    /// What this replica has seen of `operator`, to be shown to it.
    pub fn newest_statements_of(&self, operator: OperatorIndex) -> Vec<Signed> {
        self.witness.newest_of(operator, self.blocks.early_statements_of(operator))
    }

    /// The highest instance of each domain in which this operator is bound, where there is one.
    pub fn bound(&self) -> Vec<InstanceId> {
        let highest = Domain::ALL.into_iter().filter_map(|domain| self.signer.guard.highest_bound(domain));
        highest.filter(|instance| instance.number() > 0).collect()
    }

    /// Takes an input while the members are being asked.
    pub(super) fn step_inquiring(&mut self, input: Input) {
        match input {
            Input::Testimony { from, testimony } => self.hear(from, &testimony),
            Input::PeerConnected(operator) => {
                self.cx.out.send(Outbound::Inquire(operator));
                // It accuses by itself: nothing of it has to be signed.
                self.blocks.gossip_evidence(&mut self.cx);
            }
            Input::Timer(Timer::CatchUp) => {
                self.ask_members();
                self.sync.fetch_if_behind(&mut self.cx);
                self.cx.set_timer(Timer::CatchUp, CATCH_UP_INTERVAL_MS);
            }
            Input::Message { from, message } => {
                // What it carries of our own stops an old copy, and is abstained from after a loss.
                self.watch_message(&message);
                self.note_height(from, &message)
            }
            Input::Duty { duty, ticket, .. } => {
                let room = self.inquiry.as_mut().and_then(|inquiry| inquiry.room_for_duty(duty));
                match room {
                    Some(duties) => duties.push(input),
                    None => self.cx.out.tell(Tell::DutyAdmission(ticket, DutyAdmission::Overloaded)),
                }
            }
            Input::Timer(_) => {}
            Input::Statement(_)
            | Input::Evidence(_)
            | Input::Transactions(_)
            | Input::Combined { .. }
            | Input::Fetched { .. }
            | Input::FetchFailed { .. }
            | Input::PeerHeight { .. } => self.take(input),
        }
    }

    /// Asks who has not answered, now and then.
    pub(super) fn ask_members(&mut self) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.ask(&mut self.cx);
        }
    }

    fn hear(&mut self, from: OperatorIndex, testimony: &CheckedTestimony) {
        let Some(inquiry) = self.inquiry.as_mut().filter(|_| from != self.cx.config.me) else { return };
        inquiry.hear(from, testimony);
        for certified in testimony.certified.iter().filter_map(|instance| instance.height()) {
            self.sync.shown(from, certified);
            self.sync.certified(certified);
        }
        if !self.has_lost_memory() {
            self.compare(testimony);
        }
        let Some(inquiry) = self.inquiry.take_if(|inquiry| inquiry.is_over()) else { return };
        let memory = inquiry.memory();
        let Heard { floors, seen, duties, owed } = inquiry.end();
        if memory == Memory::Lost {
            for floor in &floors {
                self.signer.guard.abstain(seen.of(floor.domain()), *floor);
            }
            self.cx.out.raise_floors(floors.clone());
            self.cx.out.trust();
            self.cx.out.notify(Notice::Abstaining(floors));
        }
        self.add_owed_shares(owed);
        self.begin();
        duties.into_iter().for_each(|duty| self.take(duty));
    }

    fn has_lost_memory(&self) -> bool {
        self.inquiry.as_ref().is_some_and(|inquiry| inquiry.memory() == Memory::Lost)
    }

    /// What a member has seen of this operator, heard by one that knows what it signed.
    pub(super) fn compare(&mut self, testimony: &CheckedTestimony) {
        for signed in &testimony.signed {
            self.stop_if_unknown(signed);
        }
    }

    /// A statement of ours that we know nothing of means that the key is used elsewhere, or that the
    /// directory is older than what was signed.
    pub(super) fn stop_if_unknown(&mut self, signed: &Signed) -> bool {
        let (operator, instance) = (self.cx.config.me, signed.instance);
        if signed.author != operator || self.signer.guard.knows(signed) {
            return false;
        }
        if let Some(inquiry) = self.inquiry.as_mut().filter(|inquiry| inquiry.memory() == Memory::Lost) {
            inquiry.signed(instance);
            return false;
        }
        // Whoever showed it may not be there the next time it asks.
        self.cx.out.raise_floors([instance]);
        self.cx.out.halt(Halt::SignedElsewhere { operator, instance });
        true
    }

    /// The same for what comes with other statements, where old ones are. At a decided height nothing is at
    /// stake any more.
    pub(super) fn stop_if_foreign(&mut self, signed: &Signed) -> bool {
        let over = signed.instance.height().is_some_and(|height| height <= self.cx.chain.tip().height);
        !over && self.stop_if_unknown(signed)
    }

    fn note_height(&mut self, from: OperatorIndex, message: &Verified) {
        if let Some(decided) = message.instance().height().and_then(Height::previous) {
            self.sync.shown(from, decided);
            self.sync.fetch_if_behind(&mut self.cx);
        }
    }
}
