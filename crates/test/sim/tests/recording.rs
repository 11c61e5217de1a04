//! What the replicas of simulated nodes took in is run again, and they ask for the same.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_host::recording::{Difference, ENTRY_BYTES_MAX, Entry, InputEntry, Step};
use aequa_sim::{Options, Recording, Replayed, Report, run};
use aequa_types::Height;
use ssz::Encode as _;
use std::sync::Arc;

fn recorded(seed: u64, nodes: usize) -> Report {
    let options = Options { nodes: Some(nodes), safety_ms: 6_000, record: true, ..Options::default() };
    let report = run(seed, &options);
    assert_eq!(report.violation, None, "seed {seed}");
    report
}

/// Whether a replay of everything went through all that it has to, to show anything.
fn is_everything(seen: &Replayed) -> bool {
    [seen.restarts, seen.decided, seen.fetched].into_iter().all(|count| count > 0)
}

#[test]
fn every_life_of_every_node_asks_for_the_same_again() {
    let mut seen = Replayed::default();
    let mut replay = |seed, nodes| {
        for recording in recorded(seed, nodes).recordings {
            let replayed = recording.replay().unwrap_or_else(|difference| {
                panic!("seed {seed}, operator {}: {difference}", recording.operator)
            });
            assert!(replayed.starts > 0 && replayed.steps > 0);
            seen.starts += replayed.starts;
            seen.restarts += replayed.restarts;
            seen.steps += replayed.steps;
            seen.decided += replayed.decided;
            seen.fetched += replayed.fetched;
        }
    };
    replay(100, 7);
    replay(200, 1);
    (0..12).for_each(|seed| replay(seed, 4));
    assert!(is_everything(&seen), "{seen:?}");
}

#[test]
fn recording_changes_nothing() {
    for seed in 0..3 {
        let with = recorded(seed, 4);
        let options = Options { nodes: Some(4), safety_ms: 6_000, ..Options::default() };
        let without = run(seed, &options);
        assert_eq!(with.log_hash, without.log_hash, "seed {seed}");
        assert!(without.recordings.iter().all(|recording| recording.entries.is_empty()));
    }
}

fn decoded(entry: &[u8]) -> Entry {
    aequa_types::decode("entry", entry, ENTRY_BYTES_MAX).unwrap()
}

/// The first life of an honest node that took much in it, and its steps.
fn a_long_life() -> (Recording, Vec<Entry>, Vec<Step>) {
    let first_life = |recording: Recording| {
        let mut entries: Vec<Entry> = recording.entries.iter().map(|entry| decoded(entry)).collect();
        let next = entries.iter().skip(1).position(|entry| matches!(entry, Entry::Start(_)));
        entries.truncate(next.map_or(entries.len(), |next| next + 1));
        let steps = entries.iter().filter_map(|entry| match entry {
            Entry::Step(step) => Some((**step).clone()),
            Entry::Start(_) | Entry::TurnEnded(_) => None,
        });
        let steps: Vec<Step> = steps.collect();
        (recording, entries, steps)
    };
    let honest = (0..10).flat_map(|seed| recorded(seed, 4).recordings).filter(|recording| recording.honest);
    honest.map(first_life).find(|(.., steps)| steps.len() > 200).unwrap()
}

/// What comes of a replay after something was done to the steps.
fn after(change: impl Fn(&mut Vec<Step>)) -> Result<Replayed, Difference> {
    let (mut recording, mut entries, mut steps) = a_long_life();
    change(&mut steps);
    let mut changed = steps.into_iter();
    entries.retain_mut(|entry| {
        if let Entry::Step(step) = entry {
            let Some(next) = changed.next() else { return false };
            *step = Arc::new(next);
        }
        true
    });
    recording.entries = entries.iter().map(|entry| entry.as_ssz_bytes()).collect();
    recording.replay()
}

/// Whether a message made this operator ask for several things.
fn tells(step: &Step) -> bool {
    matches!(step.input, InputEntry::Message(_)) && step.checksums.len() > 2
}

/// What the first such step asked for.
fn told(steps: &mut [Step]) -> &mut Vec<u32> {
    &mut steps.iter_mut().find(|step| tells(step)).unwrap().checksums
}

#[test]
fn the_first_step_that_asks_for_something_else_is_named() {
    assert!(after(|_| {}).is_ok());
    let of = |found: Result<Replayed, Difference>| match found {
        Err(Difference::Output { step, position, .. }) => (step, position),
        other => panic!("{other:?}"),
    };
    // As a core that asks for more than was recorded, for less, or for another thing.
    let (step, position) = of(after(|steps| {
        told(steps).remove(1);
    }));
    assert_eq!(position, 2);
    let (same, _) = of(after(|steps| told(steps).push(7)));
    assert_eq!(same, step);
    assert_eq!(of(after(|steps| told(steps)[0] ^= 1)), (step, 1));
}

#[test]
fn what_was_not_recorded_is_missed_and_nothing_is_made_up_for_it() {
    let found = after(|steps| steps.iter_mut().for_each(|step| step.signed.clear()));
    assert!(matches!(found, Err(Difference::Statement { .. })), "{found:?}");
    let found = after(|steps| steps.iter_mut().for_each(|step| step.reads = Default::default()));
    assert!(matches!(found, Err(Difference::Read { .. })), "{found:?}");
    // Without an input that told something, the next ones find another replica.
    let found = after(|steps| {
        let first = steps.iter().position(tells).unwrap();
        steps.remove(first);
    });
    assert!(found.is_err(), "{found:?}");
}

#[test]
fn a_message_that_its_author_did_not_sign_is_refused() {
    let found = after(|steps| {
        for step in steps {
            if let InputEntry::Message((_, aequa_types::Message::Prepare(vote))) = &mut step.input {
                vote.signature = aequa_types::Signature::ZERO;
            }
        }
    });
    assert!(matches!(found, Err(Difference::Input { .. })), "{found:?}");
}

#[test]
fn a_recording_without_its_start_or_of_another_height_is_not_run() {
    let report = recorded(0, 4);
    let mut recording = report.recordings.into_iter().next().unwrap();
    let ended = |entry: &Vec<u8>| matches!(decoded(entry), Entry::TurnEnded(_));
    let first = recording.entries.iter().position(ended).unwrap();
    recording.entries[first] = Entry::TurnEnded(Height(9_999)).as_ssz_bytes();
    let found = recording.replay();
    assert!(matches!(found, Err(Difference::Tip { recorded: Height(9_999), .. })), "{found:?}");
    recording.entries.remove(0);
    assert!(matches!(recording.replay(), Err(Difference::Start { .. })));
}
