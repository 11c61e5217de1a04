//! What the others say the state is: a proposal states the root after its parent, under the signature of its leader.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::Chain;
use aequa_mempool::Mempool;
use aequa_replica::{Elector, Halt, Notice, Recovery, Replica, RootComparison, RoundRobin};
use aequa_testkit::digest;
use aequa_types::{
    BuilderPolicy, CheckedBlock, ConsensusParams, Digest, Height, InstanceId, OperatorIndex, Quorum, Round,
    Value, Verified,
};
use common::cluster::Cluster;
use common::{
    CLUSTER, Dice, Effect, Operator, PlainKeys, Tell, at, block, certificate, config, deliver, fetched, has,
    pick, proposal, replica_of, runs, started, wrong_genesis,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const FIRST: InstanceId = InstanceId::Block(Height(1));
const ME: u8 = 0;

fn fresh() -> Operator {
    started(ME, Recovery::default())
}

/// Operator 0 of four with another threshold than f+1.
fn diverging_at(members: usize) -> Operator {
    let config = config(ME, 4);
    let chain = Chain::genesis(CLUSTER, config.quorum);
    let mempool = Mempool::new(config.limits, BuilderPolicy::default()).unwrap();
    let mut replica = Operator::new(Recovery::default(), |recovery| {
        Replica::new(config, PlainKeys, chain, mempool, recovery).diverging_at(members)
    });
    replica.start(at(0));
    replica
}

/// A block like this one that says something else of what is before it.
fn altered(block: &CheckedBlock, root: Digest, parent: Digest) -> Arc<CheckedBlock> {
    let mut altered = block.block().clone();
    altered.header.state_root = root;
    altered.header.parent_root = parent;
    Arc::new(CheckedBlock::attest(altered, Vec::new()))
}

/// The round that `author` leads at the height of `block`, the nth one.
fn round_of(quorum: Quorum, height: Height, author: u8, nth: u64) -> u64 {
    let elector = RoundRobin(quorum);
    let leads = |round: &u64| elector.leader(InstanceId::Block(height), Round(*round)).0 == author;
    (0..).filter(leads).nth(nth as usize).unwrap()
}

/// What `author` proposes in its nth round at the height after the tip: a block of its own, with this root.
fn says(chain: &Chain, author: u8, nth: u64, root: Digest) -> Verified {
    let tip = chain.tip();
    let own = block(chain, OperatorIndex(author), at(1).wall_ms);
    let own = altered(&own, root, tip.digest);
    let height = tip.height.next();
    let round = round_of(Quorum::of(4).unwrap(), height, author, nth);
    proposal(author, InstanceId::Block(height), round, Value::block(own), &[])
}

/// Delivers what operators say of the state after the tip: (author, nth round of it, root).
fn hear(node: &mut Operator, said: &[(u8, u64, Digest)]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (author, nth, root) in said {
        let message = says(node.chain(), *author, *nth, *root);
        effects.extend(deliver(node, at(0), *author, message));
    }
    effects
}

fn halts(effects: &[Effect]) -> Vec<Halt> {
    pick!(effects, Effect::Halt(halt) => halt.clone()).collect()
}

/// Whose other root was told.
fn told(effects: &[Effect]) -> Vec<(u8, Digest)> {
    let told = pick!(effects, Effect::Tell(Tell::Notice(Notice::RootDiffers { operator, theirs, .. })) => {
        (operator.0, *theirs)
    });
    told.collect()
}

fn compared(effects: &[Effect]) -> Vec<RootComparison> {
    pick!(effects, Effect::Tell(Tell::Notice(Notice::RootCompared(result))) => *result).collect()
}

fn is_split(effects: &[Effect]) -> bool {
    has!(effects, Effect::Tell(Tell::Notice(Notice::ClusterDiverged { .. })))
}

#[test]
fn k3_one_member_with_another_root_is_told_once_and_halts_nobody() {
    let mut node = fresh();
    let effects =
        hear(&mut node, &[(1, 0, digest(9)), (1, 0, digest(9)), (1, 1, digest(8)), (1, 2, digest(9))]);
    assert_eq!((told(&effects), halts(&effects)), (vec![(1, digest(9))], Vec::new()));
    assert_eq!(compared(&effects), [RootComparison::Disagree; 3], "a repetition is not compared again");
    let ours = node.chain().tip().state_root;
    let differs = pick!(effects, Effect::Tell(Tell::Notice(Notice::RootDiffers { height, ours, .. })) => {
        (*height, *ours)
    });
    assert_eq!(differs.collect::<Vec<_>>(), [(Height(0), ours)]);
}

#[test]
fn k3_f_plus_one_members_at_one_other_root_halt_the_node_and_are_named() {
    let mut node = fresh();
    assert_eq!(halts(&hear(&mut node, &[(1, 0, digest(9)), (2, 0, digest(8))])), []);
    let halt = halts(&hear(&mut node, &[(3, 0, digest(9))])).pop().unwrap();
    let Halt::Diverged { height, root, reason, backers } = halt else { panic!("{halt}") };
    assert_eq!((height, root), (Height(0), digest(9)));
    assert_eq!(backers, [1, 3].map(OperatorIndex));
    assert_eq!(reason, format!("2/4 members sign root {}", "09".repeat(32)));
}

#[test]
fn k3_as_many_as_the_threshold_says_halt_a_node_and_one_less_do_not() {
    let mut node = diverging_at(3);
    let all = [1, 2, 3].map(|author| (author, 0, digest(9)));
    assert_eq!(halts(&hear(&mut node, &all[..2])), []);
    assert_eq!(halts(&hear(&mut node, &all[2..])).len(), 1);
}

#[test]
fn k3_where_f_is_none_one_other_member_alone_halts_nobody() {
    let chain = Chain::genesis(CLUSTER, Quorum::of(3).unwrap());
    let mut node = replica_of(config(ME, 3), Recovery::default());
    node.start(at(0));
    let mut other = |author: u8| {
        let own = altered(&block(&chain, OperatorIndex(author), at(1).wall_ms), digest(9), CLUSTER);
        let round = round_of(Quorum::of(3).unwrap(), Height(1), author, 0);
        deliver(&mut node, at(0), author, proposal(author, FIRST, round, Value::block(own), &[]))
    };
    assert_eq!(halts(&other(1)), []);
    assert_eq!(halts(&other(2)).len(), 1, "it is against two");
}

#[test]
fn k3_where_every_root_is_another_the_cluster_has_diverged_and_nobody_halts() {
    let mut node = fresh();
    let before = hear(&mut node, &[(1, 0, digest(7)), (2, 0, digest(8))]);
    assert!(!is_split(&before), "the third may yet back one of them");
    let effects = hear(&mut node, &[(3, 0, digest(9)), (3, 1, digest(6))]);
    let ours = node.chain().tip().state_root;
    let splits: Vec<_> =
        pick!(effects, Effect::Tell(Tell::Notice(Notice::ClusterDiverged { height, roots })) => (*height, roots.clone()))
            .collect();
    let [(height, roots)] = &splits[..] else { panic!("{splits:?}") };
    let roots: BTreeMap<Digest, Vec<OperatorIndex>> = roots.iter().cloned().collect();
    let backed = |root, operator| (root, vec![OperatorIndex(operator)]);
    let expected = [backed(ours, ME), backed(digest(7), 1), backed(digest(8), 2), backed(digest(9), 3)];
    assert_eq!((*height, roots), (Height(0), expected.into()));
    assert_eq!(halts(&[before, effects].concat()), []);
}

#[test]
fn k2_who_says_nothing_of_our_tip_counts_neither_for_nor_against_us() {
    let chain = Chain::genesis(CLUSTER, Quorum::of(4).unwrap());
    let (tip, own) = (*chain.tip(), |author: u8| block(&chain, OperatorIndex(author), at(1).wall_ms));
    let round = |author| round_of(Quorum::of(4).unwrap(), Height(1), author, 0);
    let send = |author: u8, round: u64, block: Arc<CheckedBlock>| {
        (author, proposal(author, FIRST, round, Value::block(block), &[1, 2, 3]))
    };
    let elsewhere = |author| send(author, round(author), altered(&own(author), digest(9), digest(5)));
    let of_another = |author, first| send(author, round(author), altered(&own(first), digest(9), tip.digest));
    let not_leading = |author| send(author, round(author) + 1, altered(&own(author), digest(9), tip.digest));
    let other_height = |author: u8| {
        let mut block = altered(&own(author), digest(9), tip.digest).block().clone();
        block.header.height = Height(2);
        send(author, round(author), Arc::new(CheckedBlock::attest(block, Vec::new())))
    };
    for said in [
        [elsewhere(1), elsewhere(2), elsewhere(3)],
        [of_another(1, 2), of_another(2, 1), of_another(3, 1)],
        [not_leading(1), not_leading(2), not_leading(3)],
        [other_height(1), other_height(2), other_height(3)],
    ] {
        let mut node = fresh();
        let effects: Vec<Effect> = said
            .into_iter()
            .flat_map(|(author, message)| deliver(&mut node, at(0), author, message))
            .collect();
        assert_eq!((halts(&effects), told(&effects)), (Vec::new(), Vec::new()));
        assert!(!is_split(&effects));
        assert!(compared(&effects).iter().all(|result| *result == RootComparison::Unknown));
    }
}

#[test]
fn a_member_counts_with_the_root_of_its_highest_round() {
    let mut node = fresh();
    let ours = node.chain().tip().state_root;
    let effects = hear(&mut node, &[(1, 1, ours), (1, 0, digest(9)), (2, 0, digest(9))]);
    assert_eq!(halts(&effects), [], "what it said before it was repaired is shown again");
    assert_eq!(told(&effects), [(2, digest(9))]);
    assert_eq!(halts(&hear(&mut node, &[(1, 2, digest(9))])).len(), 1);
}

#[test]
fn the_roots_of_one_height_say_nothing_at_the_next() {
    let mut node = fresh();
    hear(&mut node, &[(1, 0, digest(9))]);
    let next = block(node.chain(), OperatorIndex(1), at(1).wall_ms);
    node.step(at(0), fetched(&[next]));
    assert_eq!(node.chain().tip().height, Height(1));
    let effects = hear(&mut node, &[(2, 0, digest(9))]);
    assert_eq!((halts(&effects), told(&effects)), (Vec::new(), vec![(2, digest(9))]));
    assert_eq!(halts(&hear(&mut node, &[(1, 0, digest(9))])).len(), 1);
}

#[test]
fn who_is_told_of_a_certified_root_names_those_who_certified_it() {
    let quorum = Quorum::of(4).unwrap();
    let mut node = common::replica_on(wrong_genesis(quorum), config(ME, 4), Recovery::default());
    node.start(at(0));
    let right = block(&Chain::genesis(CLUSTER, quorum), OperatorIndex(1), at(1).wall_ms);
    let halt = halts(&node.step(at(0), fetched(std::slice::from_ref(&right)))).pop().unwrap();
    let Halt::Diverged { height, root, backers, .. } = halt else { panic!("{halt}") };
    assert_eq!((height, root), (Height(0), right.header().state_root));
    let signers: Vec<OperatorIndex> =
        certificate(&right).commits().iter().map(|commit| commit.author).collect();
    assert_eq!(backers, signers);
}

/// What the node should have made of all it was told: the last root of each member by its round.
#[derive(Default)]
struct Model {
    last: BTreeMap<u8, (u64, Option<Digest>)>,
}

impl Model {
    fn hear(&mut self, author: u8, round: u64, root: Option<Digest>) {
        let last = self.last.entry(author).or_insert((round, root));
        if round > last.0 {
            *last = (round, root);
        }
    }

    /// The largest number of members at one root that is not `ours`.
    fn against(&self, ours: Digest) -> usize {
        let roots: BTreeSet<Digest> = self.last.values().filter_map(|(_, root)| *root).collect();
        let backers = |root: Digest| self.last.values().filter(|(_, said)| *said == Some(root)).count();
        roots.into_iter().filter(|root| *root != ours).map(backers).max().unwrap_or_default()
    }
}

/// Blocks of authors at height 1 by what they state, made once each.
#[derive(Default)]
struct Said(BTreeMap<(u8, Digest, Digest), Value>);

impl Said {
    fn value(&mut self, chain: &Chain, author: u8, root: Digest, parent: Digest) -> Value {
        let value =
            || Value::block(altered(&block(chain, OperatorIndex(author), at(1).wall_ms), root, parent));
        self.0.entry((author, root, parent)).or_insert_with(value).clone()
    }
}

/// One node hears f liars, who say anything, and the honest, all of whom have its own root, or, where its state is wrong,
/// another. Gives whether it halted, and how many members were told of.
fn hear_liars(said: &mut Said, seed: u64, is_wrong: bool) -> (bool, usize) {
    let mut dice = Dice(seed);
    let quorum = Quorum::of([4, 7, 10][dice.below(3)]).unwrap();
    let (n, f) = (quorum.operators(), quorum.faulty_max());
    let chain = Chain::genesis(CLUSTER, quorum);
    let (ours, tip) = (chain.tip().state_root, *chain.tip());
    let honest = if is_wrong { digest(1) } else { ours };
    let mut node = replica_of(config(ME, n), Recovery::default());
    node.start(at(0));
    let mut liars = BTreeSet::new();
    while liars.len() < f {
        liars.insert(1 + dice.below(n - 1) as u8);
    }
    let (mut model, mut differing) = (Model::default(), 0);
    for _ in 0..3 * n {
        let author = 1 + dice.below(n - 1) as u8;
        let lies = liars.contains(&author);
        let root = if lies { [ours, digest(1), digest(2), digest(3)][dice.below(4)] } else { honest };
        let parent = if lies && dice.chance(20) { digest(4) } else { tip.digest };
        let round = round_of(quorum, Height(1), author, dice.below(3) as u64);
        let message = proposal(author, FIRST, round, said.value(&chain, author, root, parent), &[]);
        model.hear(author, round, (parent == tip.digest).then_some(root));
        let effects = deliver(&mut node, at(0), author, message);
        assert!(!is_split(&effects), "seed {seed}: the honest are f+1 and more");
        for (operator, _) in told(&effects) {
            assert!(is_wrong || liars.contains(&operator), "seed {seed}");
            differing += 1;
        }
        let against = model.against(ours);
        let halted = !halts(&effects).is_empty();
        assert_eq!(halted, against > f, "seed {seed}: {against} of {n} stand against it");
        if halted {
            return (true, differing);
        }
    }
    (false, differing)
}

#[test]
fn k4_f_liars_with_any_mix_of_roots_halt_no_honest_node() {
    let (mut said, mut differing) = (Said::default(), 0);
    for seed in 0..runs(10_000) {
        let (halted, told) = hear_liars(&mut said, seed, false);
        assert!(!halted, "seed {seed}: liars make an honest node halt");
        differing += told;
    }
    assert!(differing > 10_000, "{differing}");
}

#[test]
fn k3_a_node_with_a_wrong_state_halts_as_soon_as_f_plus_one_say_the_same() {
    let (mut said, mut halted) = (Said::default(), 0);
    for seed in 0..runs(1_000) {
        halted += u64::from(hear_liars(&mut said, seed, true).0);
    }
    assert!(halted > 900, "{halted} of 1000 runs");
}

/// Four, of whom the last one has another state than the rest.
fn with_one_wrong() -> Cluster {
    let mut cluster = Cluster::new(4, ConsensusParams::default());
    cluster.start_with_wrong_state(3);
    cluster
}

#[test]
fn k4_one_wrong_state_halts_its_node_and_the_others_go_on() {
    let mut cluster = with_one_wrong();
    assert!(cluster.run_until(|cluster| cluster.nodes[3].halt.is_some(), 10_000));
    assert!(cluster.run_until(|cluster| (0..3).all(|id| cluster.nodes[id].height() >= 5), 60_000));
}

#[test]
fn k3_a_cluster_with_one_silent_and_one_wrong_goes_on_by_itself() {
    let mut cluster = with_one_wrong();
    cluster.cut.insert(2);
    assert!(cluster.run_until(|cluster| cluster.nodes[3].halt.is_some(), 60_000));
    let Some(Halt::Diverged { backers, .. }) = &cluster.nodes[3].halt else { panic!() };
    assert_eq!(*backers, [0, 1].map(OperatorIndex));
    assert!((0..3).all(|id| cluster.nodes[id].height() == 0), "nothing is decided without it");
    cluster.restart_without_chain(3);
    let deadline_ms = cluster.now_ms + 120_000;
    let goes_on =
        cluster.run_until(|cluster| [0, 1, 3].iter().all(|id| cluster.nodes[*id].height() >= 3), deadline_ms);
    assert!(goes_on);
    let roots = [0, 1, 3].map(|id: usize| cluster.nodes[id].committed[2].0.header().state_root);
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}

#[test]
fn k2_a_member_that_was_away_is_told_of_by_nobody() {
    let mut cluster = Cluster::new(4, ConsensusParams::default());
    assert!(cluster.run_until(|cluster| cluster.nodes[0].height() >= 2, 60_000));
    cluster.cut.insert(2);
    assert!(cluster.run_until(|cluster| cluster.nodes[0].height() >= 6, 120_000));
    cluster.rejoin(2);
    assert!(cluster.run_until(|cluster| cluster.nodes.iter().all(|node| node.height() >= 9), 240_000));
    for node in &cluster.nodes {
        assert!(!has!(node.notices, Notice::RootDiffers { .. } | Notice::ClusterDiverged { .. }));
        assert!(has!(node.notices, Notice::RootCompared(RootComparison::Agree)));
    }
}
