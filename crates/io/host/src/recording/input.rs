//! An input as it is written, and back.

use aequa_replica::{Input, Ticket, Timer};
use aequa_types::sync::CheckedTestimony;
use aequa_types::{
    Block, Certificate, CheckedBlock, CheckedEvidence, CheckedTransaction, Decision, Digest, Evidence,
    Height, InstanceId, Message, OperatorIndex, Round, Seal, Signed, Transaction, Value, ValueBytes,
    Verified,
};
use ssz_derive::{Decode, Encode};
use std::sync::Arc;

/// An [`Input`] as it is written: that of the same name, in the forms that travel.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum InputEntry {
    /// None: the first step of a process.
    Started(u8),
    /// Who handed it over, and what.
    Message((OperatorIndex, Message)),
    /// A statement whose message came too late.
    Statement(Signed),
    /// Evidence of a member.
    Evidence(Evidence),
    /// Each with the ticket of its client.
    Transactions(Vec<(Transaction, Option<u64>)>),
    /// Duty, candidate, ticket.
    Duty((InstanceId, ValueBytes, u64)),
    /// Of a round.
    RoundTimer((InstanceId, Round)),
    /// Of messages that are sent again.
    ResendTimer(InstanceId),
    /// Of a block that may be proposed.
    ProposeTimer(Height),
    /// Of the regular look around.
    CatchUpTimer(u8),
    /// The seal of a decision: instance, round, digest.
    Combined((InstanceId, Round, Digest, Seal)),
    /// The same, and whose shares were bad.
    Spoilt((InstanceId, Round, Digest, Vec<OperatorIndex>)),
    /// Who sent them, and what.
    Fetched((OperatorIndex, Vec<(Block, Certificate)>)),
    /// Who was asked.
    FetchFailed(OperatorIndex),
    /// Who, and how far.
    PeerHeight((OperatorIndex, Height)),
    /// Whether this operator may lead.
    MayLead(bool),
    /// The last height.
    EndEpoch(Height),
    /// Nothing more to say.
    Superseded(u8),
    /// Who.
    PeerConnected(OperatorIndex),
    /// Who answers; what is certified, signed, bound.
    Testimony((OperatorIndex, Vec<InstanceId>, Vec<Signed>, Vec<InstanceId>)),
}

impl InputEntry {
    /// The first step of a process.
    pub(crate) const STARTED: Self = Self::Started(0);

    pub(crate) fn of(input: &Input) -> Self {
        match input {
            Input::Message { from, message } => Self::Message((*from, message.to_message())),
            Input::Statement(signed) => Self::Statement(signed.clone()),
            Input::Evidence(evidence) => Self::Evidence(Evidence::clone(evidence)),
            Input::Transactions(all) => {
                let each = all.iter().map(|(transaction, ticket)| {
                    (transaction.transaction().clone(), ticket.map(|Ticket(number)| number))
                });
                Self::Transactions(each.collect())
            }
            Input::Duty { duty, value, ticket } => {
                Self::Duty(((*duty).into(), value.bytes().clone(), ticket.0))
            }
            Input::Timer(Timer::Round { instance, round }) => Self::RoundTimer((*instance, *round)),
            Input::Timer(Timer::Resend(instance)) => Self::ResendTimer(*instance),
            Input::Timer(Timer::Propose(height)) => Self::ProposeTimer(*height),
            Input::Timer(Timer::CatchUp) => Self::CatchUpTimer(0),
            Input::Combined { decision: Decision { instance, round, digest }, result } => match result {
                Ok(seal) => Self::Combined((*instance, *round, *digest, *seal)),
                Err(blamed) => Self::Spoilt((*instance, *round, *digest, blamed.clone())),
            },
            Input::Fetched { from, blocks } => {
                let each =
                    blocks.iter().map(|(block, certificate)| (block.block().clone(), certificate.clone()));
                Self::Fetched((*from, each.collect()))
            }
            Input::FetchFailed { from } => Self::FetchFailed(*from),
            Input::PeerHeight { from, height } => Self::PeerHeight((*from, *height)),
            Input::MayLead(may_lead) => Self::MayLead(*may_lead),
            Input::EndEpoch(last) => Self::EndEpoch(*last),
            Input::Superseded => Self::Superseded(0),
            Input::PeerConnected(operator) => Self::PeerConnected(*operator),
            Input::Testimony { from, testimony } => {
                let CheckedTestimony { certified, signed, bound } = testimony.clone();
                Self::Testimony((*from, certified, signed, bound))
            }
        }
    }

    /// The input again; `None` for the first step. Messages are checked once more: who makes a
    /// [`Verified`] has to. All else was checked before it was recorded, and is taken as it is.
    pub(super) fn into_input(
        self,
        check: &mut dyn FnMut(Message) -> Result<Verified, String>,
    ) -> Result<Option<Input>, String> {
        Ok(Some(match self {
            Self::Started(_) => return Ok(None),
            Self::Message((from, message)) => Input::Message { from, message: check(message)? },
            Self::Statement(signed) => Input::Statement(signed),
            Self::Evidence(evidence) => Input::Evidence(CheckedEvidence::attest(evidence)),
            Self::Transactions(all) => {
                let each = all.into_iter().map(|(transaction, ticket)| {
                    (CheckedTransaction::attest(transaction), ticket.map(Ticket))
                });
                Input::Transactions(each.collect())
            }
            Self::Duty((instance, value, ticket)) => {
                let duty = instance.as_duty().ok_or("a duty that is a block")?;
                Input::Duty { duty, value: Value::duty(duty, value), ticket: Ticket(ticket) }
            }
            Self::RoundTimer((instance, round)) => Input::Timer(Timer::Round { instance, round }),
            Self::ResendTimer(instance) => Input::Timer(Timer::Resend(instance)),
            Self::ProposeTimer(height) => Input::Timer(Timer::Propose(height)),
            Self::CatchUpTimer(_) => Input::Timer(Timer::CatchUp),
            Self::Combined((instance, round, digest, seal)) => {
                Input::Combined { decision: Decision { instance, round, digest }, result: Ok(seal) }
            }
            Self::Spoilt((instance, round, digest, blamed)) => {
                Input::Combined { decision: Decision { instance, round, digest }, result: Err(blamed) }
            }
            Self::Fetched((from, blocks)) => {
                let each = blocks.into_iter().map(|(block, certificate)| (attested(block), certificate));
                Input::Fetched { from, blocks: each.collect() }
            }
            Self::FetchFailed(from) => Input::FetchFailed { from },
            Self::PeerHeight((from, height)) => Input::PeerHeight { from, height },
            Self::MayLead(may_lead) => Input::MayLead(may_lead),
            Self::EndEpoch(last) => Input::EndEpoch(last),
            Self::Superseded(_) => Input::Superseded,
            Self::PeerConnected(operator) => Input::PeerConnected(operator),
            Self::Testimony((from, certified, signed, bound)) => {
                Input::Testimony { from, testimony: CheckedTestimony { certified, signed, bound } }
            }
        }))
    }

    /// The instance it is about, where it is about one.
    pub(super) fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Message((_, message)) => Some(message.instance()),
            Self::Statement(signed) => Some(signed.instance),
            Self::Duty((instance, ..))
            | Self::RoundTimer((instance, _))
            | Self::ResendTimer(instance)
            | Self::Combined((instance, ..))
            | Self::Spoilt((instance, ..)) => Some(*instance),
            Self::ProposeTimer(height) => Some(InstanceId::Block(*height)),
            Self::Started(_)
            | Self::Evidence(_)
            | Self::Transactions(_)
            | Self::CatchUpTimer(_)
            | Self::Fetched(_)
            | Self::FetchFailed(_)
            | Self::PeerHeight(_)
            | Self::MayLead(_)
            | Self::EndEpoch(_)
            | Self::Superseded(_)
            | Self::PeerConnected(_)
            | Self::Testimony(_) => None,
        }
    }

    pub(super) fn is_about(&self, instance: InstanceId) -> bool {
        if let Self::Fetched((_, blocks)) = self {
            return blocks.iter().any(|(_, certificate)| certificate.instance == instance);
        }
        self.instance() == Some(instance)
    }
}

/// A block that was checked before it was recorded.
pub(super) fn attested(block: Block) -> Arc<CheckedBlock> {
    let items = block.items.iter().cloned().map(CheckedTransaction::attest).collect();
    Arc::new(CheckedBlock::attest(block, items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{ENTRY_BYTES_MAX, Entry, Reads, Step};
    use aequa_testkit::{
        at, believed, checked, commit, digest, double_vote, duty_value, plaintext, prepare, preprepare,
        unjustified,
    };
    use aequa_types::message::{ValueReply, ValueRequest};
    use aequa_types::{Address, ClusterId, Decided, DutyId, DutyKind, RoundChange, Slot};
    use ssz::Encode as _;

    const ME: OperatorIndex = OperatorIndex(2);
    const DUTY: DutyId = DutyId { kind: DutyKind::Sync, slot: Slot(9) };

    fn block() -> Block {
        aequa_testkit::block(
            ClusterId::repeat_byte(4),
            7,
            digest(1),
            vec![transaction().transaction().clone()],
        )
    }

    fn transaction() -> CheckedTransaction {
        checked(plaintext(Address::repeat_byte(3), 1, 2))
    }

    fn value() -> Value {
        Value::block(attested(block()))
    }

    fn believed_block(bytes: ValueBytes) -> Option<Value> {
        let block = aequa_types::decode("block", &bytes.0, ENTRY_BYTES_MAX).ok()?;
        Some(Value::block(attested(block)))
    }

    fn verified(message: Message) -> Result<Verified, String> {
        believed(message, believed_block).ok_or_else(|| "not believed".into())
    }

    fn messages() -> Vec<Message> {
        let value = value();
        let vote = || prepare(at(7), 1, value.digest()).by(1);
        let proposal = preprepare(at(7), 0, value.digest()).by(0);
        let change =
            RoundChange { change: aequa_testkit::change(at(7), 2, None).by(3), prepares: vec![vote()] };
        let certificate = commit(at(7), 1, value.digest()).certificate(0..3);
        vec![
            Message::PrePrepare(unjustified(proposal, value.bytes().clone())),
            Message::Prepare(vote()),
            Message::Commit(commit(at(7), 1, value.digest()).with_share().by(1)),
            Message::RoundChange(change),
            Message::Decided(Decided { certificate }),
            Message::ValueRequest(ValueRequest { instance: at(7), digest: digest(5) }),
            Message::ValueReply(ValueReply { instance: at(7), value: value.bytes().clone() }),
        ]
    }

    fn every_input() -> Vec<Input> {
        let vote = || prepare(at(7), 1, digest(1)).by(1);
        let decision = Decision { instance: at(7), round: Round(1), digest: digest(1) };
        let certificate = commit(at(7), 1, digest(1)).certificate(0..3);
        let testimony = CheckedTestimony {
            certified: vec![at(6)],
            signed: vec![vote()],
            bound: vec![at(8), DUTY.into()],
        };
        let of_messages = messages()
            .into_iter()
            .map(|message| Input::Message { from: ME, message: verified(message).unwrap() });
        let rest = [
            Input::Statement(vote()),
            Input::Evidence(double_vote(1, at(7), 0)),
            Input::Transactions(vec![(transaction(), None), (transaction(), Some(Ticket(3)))]),
            Input::Duty { duty: DUTY, value: duty_value(DUTY, b"1"), ticket: Ticket(4) },
            Input::Timer(Timer::Round { instance: at(7), round: Round(1) }),
            Input::Timer(Timer::Resend(DUTY.into())),
            Input::Timer(Timer::Propose(Height(7))),
            Input::Timer(Timer::CatchUp),
            Input::Combined { decision, result: Ok(Seal::repeat_byte(4)) },
            Input::Combined { decision, result: Err(vec![ME]) },
            Input::Fetched { from: ME, blocks: vec![(attested(block()), certificate)] },
            Input::FetchFailed { from: ME },
            Input::PeerHeight { from: ME, height: Height(9) },
            Input::MayLead(false),
            Input::EndEpoch(Height(12)),
            Input::Superseded,
            Input::PeerConnected(ME),
            Input::Testimony { from: ME, testimony },
        ];
        of_messages.chain(rest).collect()
    }

    fn step(input: InputEntry) -> Entry {
        let reads = Reads {
            values: vec![(vec![1], None), (vec![2], Some(vec![3]))],
            above: vec![(vec![4], Some((vec![5], vec![6]))), (vec![7], None)],
        };
        let signed = vec![prepare(at(7), 1, digest(1)).by(2)];
        let step = Step { elapsed_ms: 5, wall_ms: 6, input, reads, signed, checksums: vec![7, 8] };
        Entry::Step(step.into())
    }

    #[test]
    fn every_input_is_read_back_as_it_was_written() {
        for input in every_input() {
            let entry = InputEntry::of(&input);
            let bytes = step(entry.clone()).as_ssz_bytes();
            let read = aequa_types::decode::<Entry>("entry", &bytes, ENTRY_BYTES_MAX).unwrap();
            assert_eq!(read, step(entry.clone()));
            let again = entry.into_input(&mut verified).unwrap().unwrap();
            assert_eq!(format!("{again:?}"), format!("{input:?}"));
        }
        assert!(InputEntry::STARTED.into_input(&mut verified).unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_refused_is_no_input() {
        let entry = InputEntry::Message((ME, messages().remove(1)));
        assert_eq!(entry.into_input(&mut |_| Err("no".into())).unwrap_err(), "no");
    }

    #[test]
    fn an_input_is_about_its_instance_and_fetched_blocks_about_their_heights() {
        let about = |input: &Input, instance| InputEntry::of(input).is_about(instance);
        let all = every_input();
        let of_seven = all.iter().filter(|input| about(input, at(7))).count();
        assert_eq!(of_seven, 7 + 1 + 2 + 2 + 1, "messages, statement, timers, seals, block");
        assert_eq!(all.iter().filter(|input| about(input, DUTY.into())).count(), 2);
        assert_eq!(all.iter().filter(|input| about(input, at(8))).count(), 0);
    }

    /// Its encoding changes on purpose only: with the version of the recording's files.
    #[test]
    fn the_encoding_is_the_one_of_version_2() {
        let entries = every_input().into_iter().map(|input| step(InputEntry::of(&input)));
        let all: Vec<u8> = entries.flat_map(|entry| entry.as_ssz_bytes()).collect();
        assert_eq!(crc32fast::hash(&all), 2_406_836_750);
    }
}
