//! What a step asks for, thing by thing: two steps can be compared although neither is carried out.

use super::{Outbound, Output, StoreWrite, Tell, TimerChange, Work};
use crate::io::{Halt, Notice};
use aequa_types::{CheckedTransaction, InstanceId, Record};
use std::fmt::{self, Debug, Write as _};
use std::hash::{Hash, Hasher};
use std::mem::discriminant;

/// One thing that a step asks for.
#[derive(Debug)]
enum Asked<'a> {
    Record(&'a Record),
    Watermark(InstanceId),
    Timer(&'a TimerChange),
    Send(&'a Outbound),
    Work(&'a Work),
    Store(&'a StoreWrite),
    Trust,
    Tell(&'a Tell),
    Halt(&'a Halt),
}

impl Output {
    /// A CRC-32 of each thing that is asked for, in order: the same step always gives the same. Blocks and transactions
    /// count with their digests, what is told with its words.
    pub fn checksums(&self) -> Vec<u32> {
        let checksum = |asked: Asked<'_>| {
            let mut hasher = crc32fast::Hasher::new();
            asked.hash(&mut hasher);
            hasher.finalize()
        };
        self.asked().map(checksum).collect()
    }

    /// The thing with this position among the checksums, in words.
    pub fn words_of(&self, position: usize) -> Option<String> {
        self.asked().nth(position).map(|asked| format!("{asked:?}"))
    }

    fn asked(&self) -> impl Iterator<Item = Asked<'_>> {
        let (persist, after) = (&self.persist, &self.after);
        let records = persist.records.iter().map(Asked::Record);
        let watermarks = persist.watermarks.iter().copied().map(Asked::Watermark);
        records
            .chain(watermarks)
            .chain(self.timers.iter().map(Asked::Timer))
            .chain(after.send.iter().map(Asked::Send))
            .chain(after.work.iter().map(Asked::Work))
            .chain(after.store.iter().map(Asked::Store))
            .chain(after.trusted.then_some(Asked::Trust))
            .chain(after.tell.iter().map(Asked::Tell))
            .chain(self.halt.iter().map(Asked::Halt))
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        discriminant(self).hash(state);
        match self {
            Asked::Record(record) => record.hash(state),
            Asked::Watermark(instance) => instance.hash(state),
            Asked::Timer(change) => change.hash(state),
            Asked::Send(outbound) => hash_outbound(outbound, state),
            Asked::Work(Work::Combine { decision, shares }) => (decision, shares).hash(state),
            Asked::Work(Work::RecallDuty { to, duty, recall }) => (to, duty, recall).hash(state),
            Asked::Store(write) => hash_write(write, state),
            Asked::Trust => {}
            Asked::Tell(Tell::Admission(ticket, hash, admission)) => {
                (ticket, hash).hash(state);
                hash_words(admission, state);
            }
            Asked::Tell(tell @ Tell::DutyAdmission(..)) => hash_words(tell, state),
            Asked::Tell(Tell::Notice(notice)) => hash_notice(notice, state),
            Asked::Halt(halt) => hash_words(halt, state),
        }
    }
}

fn hash_outbound<H: Hasher>(outbound: &Outbound, state: &mut H) {
    discriminant(outbound).hash(state);
    match outbound {
        Outbound::Broadcast(message) => message.hash(state),
        Outbound::Send(to, message) => (to, message).hash(state),
        Outbound::Spread(transaction) => transaction.root().hash(state),
        Outbound::Offer(transactions) => {
            transactions.iter().map(CheckedTransaction::root).for_each(|root| root.hash(state));
        }
        Outbound::GossipEvidence(evidence) => evidence.hash(state),
        Outbound::Fetch { from, height } => (from, height).hash(state),
        Outbound::Inquire(operator) => operator.hash(state),
    }
}

fn hash_write<H: Hasher>(write: &StoreWrite, state: &mut H) {
    discriminant(write).hash(state);
    match write {
        // Its rows are in the root.
        StoreWrite::Commit { block, certificate, applied, live } => {
            (block.digest(), certificate, applied.state_root, applied.history_root, live).hash(state);
        }
        StoreWrite::Sealed(certificate) => certificate.hash(state),
        StoreWrite::CommitDuty { duty, outcome, watermark } => {
            (duty, outcome.to_bytes(), watermark).hash(state);
        }
        StoreWrite::KeepEvidence(pending) => pending.iter().for_each(|evidence| evidence.hash(state)),
    }
}

fn hash_notice<H: Hasher>(notice: &Notice, state: &mut H) {
    discriminant(notice).hash(state);
    match notice {
        Notice::BlockDecided { block, certificate, latency_ms, live } => {
            (block.digest(), certificate, latency_ms, live).hash(state);
        }
        Notice::Proposed { height, round, block, rejected } => {
            (height, round, block.digest(), rejected.len()).hash(state);
        }
        Notice::Removed(removals) => (removals.removed.len(), &removals.promoted).hash(state),
        Notice::Evidence(evidence) => evidence.hash(state),
        Notice::Sealed(_)
        | Notice::Session(..)
        | Notice::DutyEnded { .. }
        | Notice::Consensus(..)
        | Notice::ShareBlamed { .. }
        | Notice::BestPeerHeight(_)
        | Notice::RootCompared(_)
        | Notice::RootDiffers { .. }
        | Notice::ClusterDiverged { .. }
        | Notice::Rejoining { .. }
        | Notice::Abstaining(_) => hash_words(notice, state),
    }
}

fn hash_words<H: Hasher>(said: &impl Debug, state: &mut H) {
    /// What is written into a hash.
    struct Hashed<'a, H>(&'a mut H);

    impl<H: Hasher> fmt::Write for Hashed<'_, H> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }

    // A hash never fails.
    let _ = write!(Hashed(state), "{said:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{DutyAdmission, Ticket, Timer};
    use aequa_mempool::Admission;
    use aequa_testkit::{at, checked, commit, digest, double_vote, plaintext, prepare};
    use aequa_types::{
        Address, Decision, DutyId, DutyKind, Height, Message, OperatorIndex, Recall, Round, Slot,
    };
    use std::collections::BTreeSet;

    /// An output that asks for one thing.
    fn asking(ask: impl FnOnce(&mut Output)) -> Output {
        let mut output = Output::default();
        ask(&mut output);
        output
    }

    #[test]
    fn whatever_differs_in_what_is_asked_for_has_another_checksum() {
        let vote = |round| prepare(at(7), round, digest(1)).by(1);
        let duty = DutyId { kind: DutyKind::Sync, slot: Slot(9) };
        let decision = |byte| Decision { instance: at(7), round: Round(1), digest: digest(byte) };
        let transaction = |nonce| checked(plaintext(Address::repeat_byte(3), nonce, 1));
        let certificate = |byte| commit(at(7), 0, digest(byte)).certificate(0..3);
        let mut outputs = Vec::new();
        for n in 1..=2u8 {
            let (round, operator) = (u64::from(n), OperatorIndex(n));
            let recall = Work::RecallDuty { to: operator, duty, recall: Recall::Value(digest(n)) };
            let combine = Work::Combine { decision: decision(n), shares: Vec::new() };
            let hash = digest(n);
            let admission = if n == 1 { Admission::Ok } else { Admission::Dup };
            outputs.extend([
                asking(|out| out.record(Record::Prepare(vote(round)))),
                asking(|out| out.raise_watermarks([at(round)])),
                asking(|out| out.set_timer(Timer::CatchUp, round)),
                asking(|out| out.cancel_timers(at(round))),
                asking(|out| out.broadcast(Message::Prepare(vote(round)))),
                asking(|out| out.send(Outbound::Send(operator, Message::Prepare(vote(1))))),
                asking(|out| out.send(Outbound::Spread(transaction(round)))),
                asking(|out| out.send(Outbound::Offer(vec![transaction(round)]))),
                asking(|out| out.send(Outbound::GossipEvidence(double_vote(n, at(7), 0)))),
                asking(|out| out.send(Outbound::Fetch { from: operator, height: Height(1) })),
                asking(|out| out.send(Outbound::Inquire(operator))),
                asking(|out| out.work(recall)),
                asking(|out| out.work(combine)),
                asking(|out| out.store(StoreWrite::Sealed(certificate(n)))),
                asking(|out| out.store(StoreWrite::KeepEvidence(vec![double_vote(n, at(7), 0)]))),
                asking(|out| out.tell(Tell::Admission(Ticket(1), hash, Admission::Ok))),
                asking(|out| out.tell(Tell::Admission(Ticket(2), hash, admission))),
                asking(|out| out.tell(Tell::DutyAdmission(Ticket(round), DutyAdmission::Ended))),
                asking(|out| out.notify(Notice::BestPeerHeight(Height(round)))),
                asking(|out| out.notify(Notice::Sealed(certificate(n)))),
                asking(|out| out.halt(Halt::Impossible(n.to_string()))),
            ]);
        }
        outputs.push(asking(Output::trust));
        let checksums: Vec<Vec<u32>> = outputs.iter().map(Output::checksums).collect();
        assert!(checksums.iter().all(|checksums| checksums.len() == 1));
        assert_eq!(checksums.iter().collect::<BTreeSet<_>>().len(), outputs.len());
        assert_eq!(
            checksums,
            outputs.iter().map(Output::checksums).collect::<Vec<_>>(),
            "and always the same"
        );
    }

    #[test]
    fn the_words_are_those_of_the_thing_at_the_place_of_its_checksum() {
        let mut output = asking(|out| out.broadcast(Message::Prepare(prepare(at(7), 0, digest(1)).by(1))));
        output.raise_watermarks([at(3)]);
        assert_eq!(output.checksums().len(), 2);
        assert!(output.words_of(0).unwrap().starts_with("Watermark"));
        assert!(output.words_of(1).unwrap().starts_with("Send"));
        assert_eq!(output.words_of(2), None);
    }
}
