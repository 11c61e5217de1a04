//! What a replica does before it takes part: it follows the chain, asks the members, and signs nothing.

use super::Replica;
use crate::io::{DutyAdmission, Halt, Input, Notice, Timer};
use crate::output::{Outbound, Tell};
use crate::rejoin::{Finished, Rejoin};
use crate::sync::CATCH_UP_INTERVAL_MS;
use aequa_signing::Keys;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{Certificate, CheckedBlock, Domain, Height, InstanceId, OperatorIndex, Signed, Verified};
use std::sync::Arc;

impl<K: Keys> Replica<K> {
    /// Whether it still has to hear what members saw it sign: it follows the chain and signs nothing.
    pub fn is_rejoining(&self) -> bool {
        self.rejoin.is_some()
    }

    /// Whether its chain has come to where it once was. Who signed in a height had decided the one before;
    /// until that is here again, an answer of this replica would not be that of an honest signer.
    pub fn may_testify(&self) -> bool {
        let (guard, next) = (self.signer.guard(), InstanceId::Block(self.height()));
        !guard.has_lost_history() && guard.highest_bound(Domain::Block) <= Some(next)
    }

    /// What this replica has seen of `operator`, to be shown to it.
    pub fn newest_statements_of(&self, operator: OperatorIndex) -> Vec<Signed> {
        self.witness.newest_of(operator, self.blocks.early_statements_of(operator))
    }

    /// The highest instance of each domain in which this operator is bound, where there is one.
    pub fn bound(&self) -> Vec<InstanceId> {
        let highest = Domain::ALL.into_iter().filter_map(|domain| self.signer.guard().highest_bound(domain));
        highest.filter(|instance| instance.number() > 0).collect()
    }

    /// Takes an input before it takes part.
    pub(super) fn take_rejoining(&mut self, mut rejoin: Rejoin, input: Input) -> Option<Rejoin> {
        match input {
            Input::Testimony { from, testimony } => return self.hear(rejoin, from, &testimony),
            Input::Fetched { from, blocks } => self.fetched_rejoining(&mut rejoin, from, blocks),
            Input::PeerConnected(operator) => {
                self.cx.out.send(Outbound::Inquire(operator));
                // It accuses by itself: nothing of it has to be signed.
                self.blocks.gossip_evidence(&mut self.cx);
            }
            Input::Timer(Timer::CatchUp) => {
                rejoin.ask(&mut self.cx);
                self.fetch_if_behind();
                self.cx.set_timer(Timer::CatchUp, CATCH_UP_INTERVAL_MS);
            }
            Input::Message { from, message } => {
                // What it carries of our own stops an old copy, and is abstained from after a loss.
                self.watch_message(&message);
                self.note_height(from, &message)
            }
            Input::Duty { duty, ticket, .. } => match rejoin.room_for_duty(duty) {
                Some(duties) => duties.push(input),
                None => self.cx.out.tell(Tell::DutyAdmission(ticket, DutyAdmission::Overloaded)),
            },
            Input::Timer(_) => {}
            Input::Statement(_)
            | Input::Evidence(_)
            | Input::Transactions(_)
            | Input::Combined { .. }
            | Input::FetchFailed { .. }
            | Input::PeerHeight { .. }
            | Input::EndEpoch(_)
            | Input::Superseded
            | Input::MayLead(_) => self.take(input),
        }
        Some(rejoin)
    }

    /// The chain moves; what this operator may add to it waits.
    fn fetched_rejoining(
        &mut self,
        rejoin: &mut Rejoin,
        from: OperatorIndex,
        blocks: Vec<(Arc<CheckedBlock>, Certificate)>,
    ) {
        self.sync.answered(from, blocks, self.cx.chain.tip().height, self.cx.now.elapsed_ms);
        while let Some(fetched) = self.next_fetched() {
            if !self.execute_fetched(&fetched) {
                return;
            }
            rejoin.owe_share(fetched);
        }
        self.finish_decided();
        self.fetch_if_behind();
    }

    /// A member has answered; when it was the last that is needed, this operator takes part.
    fn hear(
        &mut self,
        mut rejoin: Rejoin,
        from: OperatorIndex,
        testimony: &CheckedTestimony,
    ) -> Option<Rejoin> {
        if from == self.cx.config.me {
            return Some(rejoin);
        }
        rejoin.hear(from, testimony);
        for certified in testimony.certified.iter().filter_map(|instance| instance.height()) {
            self.sync.shown(from, certified);
            self.sync.certified(certified);
        }
        testimony.signed.iter().for_each(|signed| self.signer.guard_mut().was_shown(signed.instance));
        self.compare(testimony);
        if !rejoin.is_over() {
            return Some(rejoin);
        }
        let shown = self.signer.guard_mut().take_shown();
        if shown.is_some() || rejoin.is_newcomer() {
            let watermarks = rejoin.watermarks(&shown.unwrap_or_default());
            watermarks
                .iter()
                .for_each(|(seen, watermark)| self.signer.guard_mut().abstain(*seen, *watermark));
            let watermarks: Vec<InstanceId> =
                watermarks.into_iter().map(|(_, watermark)| watermark).collect();
            self.cx.out.raise_watermarks(watermarks.clone());
            self.cx.out.trust();
            self.cx.out.notify(Notice::Abstaining(watermarks));
        }
        let Finished { owed, duties } = rejoin.finish();
        for (_, block, certificate) in owed {
            self.add_share(block, &certificate);
        }
        self.begin();
        duties.into_iter().for_each(|duty| self.take(duty));
        None
    }

    /// What a member has seen of this operator.
    pub(super) fn compare(&mut self, testimony: &CheckedTestimony) {
        for signed in &testimony.signed {
            self.stop_if_unknown(signed);
        }
    }

    /// A statement of ours that we know nothing of means that the key is used elsewhere, or that the
    /// directory is older than what was signed.
    pub(super) fn stop_if_unknown(&mut self, signed: &Signed) -> bool {
        let (operator, instance) = (self.cx.config.me, signed.instance);
        if signed.author != operator || self.signer.guard_mut().recognise(signed) {
            return false;
        }
        // Whoever showed it may not be there the next time it asks.
        self.cx.out.raise_watermarks([instance]);
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
            self.fetch_if_behind();
        }
    }
}
