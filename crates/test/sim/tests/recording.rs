//! What simulated nodes recorded is run again by the production core, and comes out the same.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_replica::recording::{Difference, End, What, summary, timeline};
use aequa_sim::{Options, Recording, Report, audit, run};
use aequa_types::recording::{Entry, Happening, Heard, Numbered, Said, Step};
use aequa_types::{Claim, Digest, Domain, InstanceId, Kind, Record, Round, Signature};
use std::collections::BTreeSet;

fn recorded(seed: u64, nodes: usize) -> Report {
    let options =
        Options { nodes: Some(nodes), safety_ms: 6_000, record: true, trace: false, ..Options::default() };
    let report = run(seed, &options);
    assert_eq!(report.violation, None, "seed {seed}");
    report
}

/// What a replay of everything must have seen at least once to show anything.
#[derive(Debug, Default)]
struct Seen {
    instances: usize,
    statements: usize,
    restarts: usize,
    fetched: usize,
    equal: usize,
    pruned: usize,
}

impl Seen {
    fn is_everything(&self) -> bool {
        let all = [self.statements, self.restarts, self.fetched, self.equal, self.pruned];
        all.into_iter().all(|count| count > 0)
    }

    fn replay_all(&mut self, seed: u64, recording: &Recording) {
        for instance in recording.instances() {
            let (replay, comparison) = recording.replay(instance);
            let told = || summary(&replay, Some(&comparison)).join("\n");
            let at = format!("seed {seed}, operator {}, {instance:?}", recording.operator);
            assert_eq!(replay.end, End::Reproduced, "{at}:\n{}", told());
            // A turn is recorded once it is durable. One that was being written when the node went down may be
            // in the log alone; whatever is recorded is in the log, or pruned from it, or rotten on the disk.
            let whole = comparison.missing.is_empty() && comparison.ahead.is_empty();
            assert!(comparison.different.is_empty(), "{at}:\n{}", told());
            assert!(whole || recording.log_rotten, "{at}:\n{}", told());
            assert!(!timeline(&replay).is_empty(), "{at}");
            self.instances += 1;
            self.statements += replay.statements.len();
            self.equal += comparison.equal;
            self.pruned += comparison.pruned;
            for played in &replay.played {
                match &played.what {
                    What::Opened { records, .. } => self.restarts += usize::from(!records.is_empty()),
                    What::Fetched { .. } => self.fetched += 1,
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn every_instance_of_every_node_makes_the_same_statements_again() {
    let mut seen = Seen::default();
    let mut replay = |seed, nodes| {
        recorded(seed, nodes).recordings.iter().for_each(|recording| seen.replay_all(seed, recording));
        seen.is_everything()
    };
    replay(100, 7);
    replay(200, 1);
    assert!((0..60).any(|seed| replay(seed, 4)), "{seen:?}");
}

#[test]
fn honest_recordings_agree_with_each_other_and_tell_of_those_that_lie() {
    let contradicted = |report: &Report| {
        report.totals.sights.get("contradiction of a traitor noticed").is_some_and(|count| *count > 0)
    };
    let (mut told, mut seen) = (0, 0);
    for report in (0..40).map(|seed| recorded(seed, 4)).filter(contradicted).take(2) {
        let honest: Vec<&Recording> = report.recordings.iter().filter(|node| node.honest).collect();
        let instances: BTreeSet<InstanceId> = honest.iter().flat_map(|node| node.instances()).collect();
        for instance in instances {
            let (violations, evidence) = audit(&honest, instance);
            assert_eq!(violations, Vec::<String>::new(), "seed {}, {instance:?}", report.seed);
            told += evidence.len();
            seen += 1;
        }
    }
    assert!(told > 0 && seen > 10, "{told} contradictions in {seen} instances");
}

#[test]
fn recording_changes_nothing() {
    for seed in 0..3 {
        let with = recorded(seed, 4);
        let options = Options { nodes: Some(4), safety_ms: 6_000, ..Options::default() };
        let without = run(seed, &options);
        assert_eq!(with.log_hash, without.log_hash, "seed {seed}");
        assert!(without.recordings.is_empty());
    }
}

/// A recording of a block that its operator prepared, committed and decided in round 0, by votes it heard.
fn of_a_plain_block() -> (Recording, InstanceId) {
    let report = recorded(1, 4);
    let recordings = report.recordings.into_iter();
    let found = recordings.flat_map(|recording| {
        let blocks: Vec<InstanceId> =
            recording.instances().into_iter().filter(|id| id.domain() == Domain::Block).collect();
        blocks.into_iter().map(move |id| (recording.clone(), id))
    });
    let mut plain = found.filter(|(recording, id)| {
        let (replay, _) = recording.replay(*id);
        let kinds: Vec<Kind> = replay.statements.iter().map(|own| own.signed.kind()).collect();
        let of_this =
            |numbered: &&Numbered| numbered.entry.as_ref().is_some_and(|e| e.instance() == Some(*id));
        let prepares = recording.entries.iter().filter(of_this).filter(|numbered| is_prepare(numbered));
        kinds == [Kind::Prepare, Kind::Commit] && replay.certificate.is_some() && prepares.count() >= 2
    });
    plain.next().unwrap()
}

/// The end of a replay after something was done to the entries of the instance.
fn end_after(change: impl Fn(&mut Vec<Numbered>)) -> End {
    let (mut recording, id) = of_a_plain_block();
    recording.entries.retain(|numbered| numbered.entry.as_ref().is_some_and(|e| e.instance() == Some(id)));
    assert_eq!(recording.replay(id).0.end, End::Reproduced);
    change(&mut recording.entries);
    recording.replay(id).0.end
}

fn steps(entries: &mut [Numbered]) -> impl Iterator<Item = &mut Step> {
    entries.iter_mut().filter_map(|numbered| match &mut numbered.entry {
        Some(Entry::Step(step)) => Some(step),
        _ => None,
    })
}

fn is_prepare(numbered: &Numbered) -> bool {
    matches!(&numbered.entry, Some(Entry::Step(Step { happened: Happening::Message(heard), .. }))
        if matches!(heard.said, Said::Prepare(_)))
}

#[test]
fn a_core_that_would_say_something_else_is_told_from_one_that_says_the_same() {
    // Without the votes it heard, it would have neither committed nor decided then.
    let end = end_after(|entries| entries.retain(|numbered| !is_prepare(numbered)));
    let made = match &end {
        End::Differs(Difference::Decision { made, .. } | Difference::Statement { made, .. }) => made,
        _ => panic!("{end:?}"),
    };
    assert_eq!(made, "nothing");
    // Had the value been refused, it would not have prepared it.
    let end = end_after(|entries| steps(entries).for_each(|step| step.answers.verdicts.fill(false)));
    assert!(matches!(&end, End::Differs(Difference::Statement { made, .. }) if made == "nothing"), "{end:?}");
    // It asks for a verdict, and signs, where the recording says it did not.
    let end = end_after(|entries| steps(entries).for_each(|step| step.answers.verdicts.clear()));
    assert!(matches!(end, End::Differs(Difference::Question { .. })), "{end:?}");
    let end = end_after(|entries| steps(entries).for_each(|step| step.answers.signatures.clear()));
    let unsigned =
        matches!(&end, End::Differs(Difference::Statement { recorded, .. }) if recorded == "nothing");
    assert!(unsigned, "{end:?}");
    // It decides where the recording says it did not.
    let end = end_after(|entries| steps(entries).for_each(|step| step.decided = None));
    assert!(matches!(end, End::Differs(Difference::Decision { .. })), "{end:?}");
}

#[test]
fn a_statement_that_its_author_did_not_sign_is_named() {
    let end = end_after(|entries| {
        for step in steps(entries) {
            for signed in step.answers.signatures.iter_mut().flatten() {
                signed.signature = Signature::ZERO;
            }
        }
    });
    assert!(matches!(end, End::Differs(Difference::BadEntry { .. })), "own: {end:?}");
    let end = end_after(|entries| {
        for step in steps(entries) {
            if let Happening::Message(Heard { said: Said::Prepare(vote), .. }) = &mut step.happened {
                vote.signature = Signature::ZERO;
            }
        }
    });
    assert!(matches!(end, End::Differs(Difference::BadEntry { .. })), "heard: {end:?}");
}

#[test]
fn a_recording_that_is_not_whole_is_never_called_reproduced() {
    for gone in 0..8 {
        let end = end_after(|entries| {
            let gone = gone.min(entries.len() - 2);
            entries[gone].entry = None;
        });
        assert!(matches!(end, End::Incomplete(_)), "entry {gone}: {end:?}");
    }
    assert!(matches!(end_after(|entries| drop(entries.remove(0))), End::Incomplete(_)), "no beginning");
    assert_eq!(end_after(Vec::clear), End::Absent);
}

#[test]
fn the_vote_log_has_the_last_word() {
    let (mut recording, id) = of_a_plain_block();
    let [prepare, commit] = [0, 1].map(|n| recording.replay(id).0.statements[n].signed.clone());
    recording.log = vec![Record::Commit(commit)];
    let (replay, comparison) = recording.replay(id);
    assert!(comparison.agrees() && comparison.equal == 1 && comparison.pruned == 1);
    assert!(summary(&replay, Some(&comparison))[1].ends_with("all equal to the vote log (1 pruned from it)"));

    recording.log = vec![Record::Prepare(prepare.clone())];
    let (replay, comparison) = recording.replay(id);
    assert_eq!((comparison.equal, comparison.pruned, comparison.missing.len()), (1, 0, 1));
    let told = "recorded, and missing in the vote log: the Commit of round 0";
    assert!(comparison.contradicts() && summary(&replay, Some(&comparison)).contains(&told.to_owned()));

    let mut other = prepare.clone();
    other.statement.claim = Claim::Prepare(Digest::repeat_byte(1));
    recording.log = vec![Record::Prepare(other)];
    assert_eq!(recording.replay(id).1.different.len(), 1);

    let mut later = prepare;
    later.statement.round = Round(5);
    recording.log = vec![Record::Prepare(later)];
    let comparison = recording.replay(id).1;
    assert_eq!((comparison.different.len(), comparison.unrecorded.len()), (0, 1));
    assert!(!comparison.agrees());
}
