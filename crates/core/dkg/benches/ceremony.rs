//! What a ceremony costs one operator in processor time: n = 4, 7 and 10 operators, V = 1, 100 and 1,000 validators.
//!
//! | line | what |
//! |---|---|
//! | `deal` | making the own dealing |
//! | `check` | reading what the others send, and their signatures |
//! | `whole` | all of it, from the start to the shares: deal, check, every share and possession, the agreement |
//!
//! Nothing is sent and nothing written: one ceremony is played in memory, and what reached operator 0 in it is given to
//! it again and again. The large ones take minutes, so name what is wanted:
//! `cargo bench -p aequa-dkg --bench ceremony -- 'n=4 V=100 '`.

use aequa_crypto::encryption::DecryptionKey;
use aequa_crypto::identity::IdentityKey;
use aequa_dkg::{
    Ceremony, Definition, Entry, Error, Input, Outbound, Output, Participant, Promise, Secrets, Timing,
    TranscriptStore,
};
use aequa_types::{ClusterId, OperatorIndex};
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

const OPERATORS: [u8; 3] = [4, 7, 10];
const VALIDATORS: [usize; 3] = [1, 100, 1000];
/// Whose time is taken.
const ME: OperatorIndex = OperatorIndex(0);
/// Nobody is away, so that no timer is needed.
const NOW_MS: u64 = 0;

/// A transcript in memory.
#[derive(Default)]
struct Memory(BTreeSet<Promise>);

impl TranscriptStore for Memory {
    type Error = Infallible;

    fn append(&mut self, entries: &[Entry]) -> Result<(), Infallible> {
        self.0.extend(entries.iter().filter_map(Entry::promise));
        Ok(())
    }

    fn holds(&self, promise: &Promise) -> bool {
        self.0.contains(promise)
    }
}

/// An operator's keys are its number.
fn keys(operator: OperatorIndex) -> (IdentityKey, DecryptionKey) {
    let seed = [operator.0 + 1; 32];
    (IdentityKey::from_seed(&seed), DecryptionKey::from_bytes(&seed))
}

fn secrets(operator: OperatorIndex) -> Secrets {
    let (identity, decryption) = keys(operator);
    Secrets::new(identity, decryption, Zeroizing::new([operator.0 + 1; 32]))
}

fn definition(operators: u8, validators: usize) -> Result<Arc<Definition>, Error> {
    let participant = |operator| {
        let (identity, decryption) = keys(OperatorIndex(operator));
        Participant { identity: identity.public(), encryption: decryption.public() }
    };
    let participants = (0..operators).map(participant).collect();
    let threshold = (2 * usize::from(operators)).div_ceil(3);
    Definition::new(ClusterId::repeat_byte(operators), participants, threshold, validators).map(Arc::new)
}

/// One operator with its transcript.
struct Member {
    ceremony: Ceremony,
    transcript: Memory,
}

impl Member {
    fn new(definition: &Arc<Definition>, me: OperatorIndex) -> Result<Self, Error> {
        let ceremony = Ceremony::new(Arc::clone(definition), me, secrets(me), Timing::default())?;
        Ok(Self { ceremony, transcript: Memory::default() })
    }

    fn start(&mut self) -> Vec<Outbound> {
        let output = self.ceremony.start(NOW_MS);
        self.carry_out(output)
    }

    fn take(&mut self, definition: &Definition, from: OperatorIndex, bytes: &[u8]) -> Vec<Outbound> {
        let Ok(message) = definition.check(bytes) else { return Vec::new() };
        let output = self.ceremony.step(NOW_MS, Input::Received { from, message });
        self.carry_out(output)
    }

    fn carry_out(&mut self, mut output: Output) -> Vec<Outbound> {
        drop(output.take_timers());
        let Ok(durable) = output.persisted(&mut self.transcript);
        durable.send
    }
}

/// Who handed it over, and what it is.
type Heard = Vec<(OperatorIndex, Vec<u8>)>;

/// Plays a ceremony among all, and keeps what reached [`ME`] until it had its shares.
fn play(definition: &Arc<Definition>) -> Result<Heard, Error> {
    let operators: Vec<OperatorIndex> = definition.quorum().members().collect();
    let mut members: Vec<Member> =
        operators.iter().map(|operator| Member::new(definition, *operator)).collect::<Result<_, _>>()?;
    let mut queue: VecDeque<(OperatorIndex, OperatorIndex, Vec<u8>)> = VecDeque::new();
    let post = |queue: &mut VecDeque<_>, from: OperatorIndex, sent: Vec<Outbound>| {
        for outbound in sent {
            let bytes = outbound.message().encode();
            match outbound {
                Outbound::Broadcast(_) => {
                    let others = operators.iter().filter(|to| **to != from);
                    others.for_each(|to| queue.push_back((from, *to, bytes.clone())));
                }
                Outbound::Send(to, _) => queue.push_back((from, to, bytes)),
            }
        }
    };
    for (from, member) in operators.iter().zip(&mut members) {
        let sent = member.start();
        post(&mut queue, *from, sent);
    }
    let mut heard = Heard::new();
    while members[ME.as_usize()].ceremony.outcome().is_none()
        && let Some((from, to, bytes)) = queue.pop_front()
    {
        let sent = members[to.as_usize()].take(definition, from, &bytes);
        post(&mut queue, to, sent);
        if to == ME {
            heard.push((from, bytes));
        }
    }
    assert!(members[ME.as_usize()].ceremony.outcome().is_some(), "a ceremony without faults ends");
    Ok(heard)
}

fn again(definition: &Arc<Definition>, heard: &Heard) -> Option<Ceremony> {
    let mut me = Member::new(definition, ME).ok()?;
    drop(me.start());
    heard.iter().for_each(|(from, bytes)| drop(me.take(definition, *from, bytes)));
    assert!(me.ceremony.outcome().is_some(), "what was heard once is heard again");
    Some(me.ceremony)
}

fn ceremonies(c: &mut Criterion) {
    let mut group = c.benchmark_group("dkg");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    for (operators, validators) in OPERATORS.into_iter().flat_map(|n| VALIDATORS.map(|v| (n, v))) {
        let Ok(definition) = definition(operators, validators) else { return };
        // Played when it is asked for first, since most runs name a few.
        let played = OnceCell::new();
        let heard = || played.get_or_init(|| play(&definition).unwrap_or_default());
        let id = |what: &str| format!("n={operators} V={validators} {what}");
        group.bench_function(id("deal"), |b| b.iter(|| Member::new(&definition, ME)));
        group.bench_function(id("check"), |b| {
            let heard = heard();
            b.iter(|| heard.iter().filter(|(_, bytes)| definition.check(bytes).is_ok()).count())
        });
        group.bench_function(id("whole"), |b| {
            b.iter_batched(heard, |heard| again(&definition, heard), BatchSize::PerIteration)
        });
    }
    group.finish();
}

criterion_group!(costs, ceremonies);
criterion_main!(costs);
