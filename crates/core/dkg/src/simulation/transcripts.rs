//! Transcripts that are read again, and ceremonies that go on from them.

use super::world::{Faults, World};
use crate::fixture::{definition, identity, secrets};
use crate::{
    Ceremony, Claim, ComplaintClaim, DealingId, Entry, Error, Input, Message, Notice, Outbound, Output, Part,
    Refusal, Statement, Timing, limits, verify_transcript,
};
use aequa_types::{Digest, OperatorIndex, ValueBytes};
use alloy_primitives::FixedBytes;

const CALM: Faults = Faults { loss: 0, repeat: 0, crash: 0, delay_ms: 50 };
const ME: OperatorIndex = OperatorIndex(0);
const OTHER: OperatorIndex = OperatorIndex(1);

fn ended() -> World {
    World::new(4, 1, 1, CALM).run()
}

fn restored(world: &World, entries: Vec<Entry>) -> Result<Ceremony, Error> {
    Ceremony::restore(world.definition.clone(), ME, secrets(0), Timing::default(), entries)
}

/// What leaves, after it was made durable.
fn carried_out(world: &mut World, mut output: Output) -> (Vec<Outbound>, Vec<Notice>) {
    output.take_timers();
    let Ok(durable) = output.persisted(&mut world.nodes[0].disk);
    (durable.send, durable.tell)
}

#[test]
fn a_transcript_is_what_it_was_after_its_encoding() {
    for entry in ended().nodes[0].disk.entries.iter() {
        let bytes = ssz::Encode::as_ssz_bytes(entry);
        assert_eq!(&aequa_types::decode::<Entry>("entry", &bytes, 2 << 20).unwrap(), entry);
    }
}

#[test]
fn a_transcript_without_its_end_is_no_proof() {
    let world = ended();
    let entries = &world.nodes[0].disk.entries;
    let is_done = |entry: &Entry| matches!(entry, Entry::Statement(Statement { claim: Claim::Done(_), .. }));
    let without = |is_left_out: &dyn Fn(&Entry) -> bool| {
        let rest = entries.iter().filter(|entry| !is_left_out(entry)).cloned().collect();
        verify_transcript(&world.definition, rest)
    };
    assert!(without(&|_| false).is_ok());
    assert_eq!(without(&is_done), Err(Error::Unconfirmed { confirmed: 0, quorum: 3 }));
    assert_eq!(without(&|entry| matches!(entry, Entry::Vote(_))), Err(Error::Undecided));
    let of_another = |entry: &Entry| matches!(entry, Entry::Part(part) if part.dealer == OTHER);
    assert_eq!(without(&of_another), Err(Error::MissingDealing(OTHER)));
}

#[test]
fn a_transcript_with_a_changed_or_foreign_entry_is_refused_by_its_number() {
    let world = ended();
    let entries = &world.nodes[0].disk.entries;
    for (position, entry) in entries.iter().enumerate() {
        let mut changed = entries.clone();
        match entry {
            Entry::Statement(statement) => {
                let signature = FixedBytes::repeat_byte(1);
                changed[position] = Entry::Statement(Statement { signature, ..statement.clone() });
            }
            Entry::Part(part) => {
                changed[position] = Entry::Part(Part { body: ValueBytes(vec![1].into()), ..part.clone() });
            }
            Entry::Vote(_) | Entry::Evidence(_) => continue,
        }
        let refused = verify_transcript(&world.definition, changed).unwrap_err();
        assert!(matches!(refused, Error::Entry { position: at, .. } if at == position), "{refused}");
    }
    let elsewhere = verify_transcript(&definition(4, 2), entries.clone()).unwrap_err();
    assert!(matches!(elsewhere, Error::Entry { position: 0, .. }), "{elsewhere}");
}

#[test]
fn secrets_of_another_operator_are_refused() {
    let world = World::new(4, 1, 1, CALM);
    let of = |me, secret| {
        let definition = world.definition.clone();
        Ceremony::new(definition, OperatorIndex(me), secrets(secret), Timing::default()).err()
    };
    assert_eq!(of(0, 0), None);
    assert_eq!(of(0, 1), Some(Error::ForeignSecrets(ME)));
    assert_eq!(of(4, 4), Some(Error::ForeignSecrets(OperatorIndex(4))));
}

#[test]
fn a_finished_operator_restarts_finished_and_serves_who_comes_late() {
    let mut world = ended();
    let mut ceremony = restored(&world, world.nodes[0].disk.entries.clone()).unwrap();
    let output = ceremony.start(0);
    let (_, told) = carried_out(&mut world, output);
    assert!(told.contains(&Notice::Finished) && ceremony.is_finished());
    assert_eq!(ceremony.outcome().unwrap().public, world.ceremony(1).outcome().unwrap().public);

    let mut late = Ceremony::new(world.definition.clone(), OTHER, secrets(1), Timing::default()).unwrap();
    let mut disk = super::world::Disk::default();
    let mut output = late.start(0);
    output.take_timers();
    let Ok(durable) = output.persisted(&mut disk);
    let summary = durable.send.iter().find(|sent| matches!(sent.message(), Message::Summary(_))).unwrap();
    let message = world.definition.check(&summary.message().encode()).unwrap();
    let ask = |ceremony: &mut Ceremony, now_ms| {
        ceremony.step(now_ms, Input::Received { from: OTHER, message: message.clone() })
    };
    let output = ask(&mut ceremony, 1_000);
    let (answer, _) = carried_out(&mut world, output);
    assert!(answer.len() > 4 + 16 + 16, "the transcript");
    assert!(answer.iter().all(|sent| matches!(sent, Outbound::Send(OTHER, _))), "to who asks");
    for (now_ms, is_answered) in [(1_001, false), (1_499, false), (1_500, true)] {
        let output = ask(&mut ceremony, now_ms);
        assert_eq!(!carried_out(&mut world, output).0.is_empty(), is_answered, "at {now_ms}");
    }
}

#[test]
fn statements_in_the_own_name_from_outside_are_refused() {
    let mut world = World::new(4, 1, 1, CALM);
    let mut ceremony = restored(&world, Vec::new()).unwrap();
    let output = ceremony.start(0);
    let _ = carried_out(&mut world, output);
    let claim = Claim::Done(Digest::ZERO);
    let statement = Statement::sign(&world.definition.ceremony(), ME, claim, &identity(0));
    let message = world.definition.check(&Message::Statement(statement).encode()).unwrap();
    let output = ceremony.step(1, Input::Received { from: OTHER, message });
    assert!(output.persist().is_empty());
    let (_, told) = carried_out(&mut world, output);
    assert_eq!(told, [Notice::Refused { from: OTHER, refusal: Refusal::OwnName }]);
}

#[test]
fn false_complaints_are_judged_up_to_their_number_and_no_more() {
    let mut world = ended();
    let mut ceremony = restored(&world, world.nodes[0].disk.entries.clone()).unwrap();
    let output = ceremony.start(0);
    let _ = carried_out(&mut world, output);
    let dealing: DealingId = ceremony.outcome().unwrap().public.qualified[2];
    let mut judged = 0;
    for nonsense in 0..2 * limits::FALSE_OPENINGS_MAX as u8 {
        let disclosure = FixedBytes::repeat_byte(nonsense);
        let claim = Claim::Complaint(ComplaintClaim { dealing, part: 0, disclosure });
        let statement = Statement::sign(&world.definition.ceremony(), OTHER, claim, &identity(1));
        let message = world.definition.check(&Message::Statement(statement).encode()).unwrap();
        let output = ceremony.step(1, Input::Received { from: OTHER, message });
        let (_, told) = carried_out(&mut world, output);
        let is_judged =
            |notice: &Notice| matches!(notice, Notice::Refused { refusal: Refusal::Guilty(_), .. });
        judged += u32::from(told.iter().any(is_judged));
    }
    assert_eq!(judged, limits::FALSE_OPENINGS_MAX);
    // The proof is kept for the next life.
    let again = restored(&world, world.nodes[0].disk.entries.clone()).unwrap();
    let blame = again.blames().into_iter().find(|blame| blame.operator == OTHER).unwrap();
    assert_eq!(blame.verify(&world.definition), Ok(()));
}
