//! The key ceremony: one process per operator, one of them away, one killed again and again.
//!
//! `campaign` does so at random, `CEREMONY_RUNS` times (`cargo xtask ceremonies`).

use crate::harness::{Node, Ports, command, output, tail, until, within};
use aequa_crypto::keystore::Keystore;
use aequa_crypto::seal::SecretShare;
use aequa_testkit::Dice;
use aequa_types::OperatorIndex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// One operator's part, as a process that ends with the test.
pub struct Member(Child);

impl std::ops::Deref for Member {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Operators that are to be, each with its folder.
pub struct Operators {
    dir: tempfile::TempDir,
    ports: Vec<Ports>,
}

impl Drop for Operators {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (0..self.ports.len()).for_each(|node| eprint!("{}", tail(&self.folder(node).join("dkg.log"))));
        }
    }
}

impl Operators {
    pub fn new(validators: u16) -> Self {
        Self::of(4, validators)
    }

    fn of(count: usize, validators: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<Ports> = (0..count).map(|_| Ports::take()).collect();
        let operators = Self { dir, ports };
        let cards: Vec<String> = (0..count).map(|node| operators.card(node)).collect();
        let (cards, out) = (cards.join(","), operators.definition());
        let (out, count) = (out.to_string_lossy(), validators.to_string());
        let mut new = vec!["dkg", "new", "--operator", &cards, "--out", &out, "--block-interval-ms", "100"];
        if validators > 0 {
            new.extend(["--validators", &count, "--fork-version", "hoodi"]);
            new.extend(["--withdrawal-address", "0x00000000000000000000000000000000000000aa"]);
        }
        let written = output(&new);
        assert!(written.status.success(), "{written:?}");
        operators
    }

    /// Makes an operator's identity; gives the file that the others need.
    fn card(&self, node: usize) -> String {
        let (folder, name) = (self.folder(node), format!("n{node}"));
        let address = format!("/ip4/127.0.0.1/tcp/{}", self.ports[node].transport());
        let id =
            ["dkg", "id", "--data-dir", &folder.to_string_lossy(), "--name", &name, "--address", &address];
        assert!(output(&id).status.success());
        folder.join("operator.json").to_string_lossy().into_owned()
    }

    /// One more operator; its operator.json.
    pub fn newcomer(&mut self) -> String {
        self.ports.push(Ports::take());
        self.card(self.ports.len() - 1)
    }

    /// Folder for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The node of an operator, not started.
    pub fn node(&self, node: usize) -> Node {
        let ports = &self.ports[node];
        Node::new(self.folder(node), ports.api(), ports.monitoring(), Vec::new())
    }

    pub fn folder(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("node{node}"))
    }

    fn definition(&self) -> PathBuf {
        self.dir.path().join("definition.json")
    }

    /// One operator's part, in a process of its own.
    pub fn take_part(&self, node: usize) -> Member {
        self.take_part_in(node, &self.definition(), None)
    }

    /// The same of an operator that lies: `--e2e.fault` of builds with the test endpoints.
    pub fn lie(&self, node: usize, fault: &str) -> Member {
        self.spawn(node, &self.definition(), &["--e2e.fault", fault])
    }

    /// One operator's part in a ceremony of this definition, after this lock.
    pub fn take_part_in(&self, node: usize, definition: &Path, lock: Option<&Path>) -> Member {
        let lock = lock.map(|lock| lock.to_string_lossy().into_owned());
        let more: Vec<&str> = lock.iter().flat_map(|lock| ["--lock", lock]).collect();
        self.spawn(node, definition, &more)
    }

    fn spawn(&self, node: usize, definition: &Path, more: &[&str]) -> Member {
        let (folder, ports) = (self.folder(node), &self.ports[node]);
        let log = File::options().create(true).append(true).open(folder.join("dkg.log")).unwrap();
        let (folder, definition) = (folder.to_string_lossy(), definition.to_string_lossy());
        let api = format!("127.0.0.1:{}", ports.api());
        let monitoring = format!("127.0.0.1:{}", ports.monitoring());
        let mut member = command(&["dkg", "--definition", &definition, "--data-dir", &folder, "--wait", "4"]);
        member.args(["--timeout", "120", "--validator-api", &api, "--monitoring", &monitoring]);
        member.args(more);
        Member(member.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// A series of the last process of this node.
    fn metric(&self, node: usize, series: &str) -> Option<f64> {
        let text = std::fs::read_to_string(self.folder(node).join("dkg/metrics.prom")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    pub fn lock(&self, node: usize) -> Option<String> {
        std::fs::read_to_string(self.folder(node).join("cluster-lock.json")).ok()
    }

    /// Locks of all of these.
    pub fn locks(&self, nodes: &[usize]) -> Option<Vec<String>> {
        nodes.iter().map(|node| self.lock(*node)).collect()
    }

    /// What a transcript says of an operator's ceremony.
    pub fn verified_by(&self, node: usize) -> String {
        let transcript = std::fs::read_dir(self.folder(node).join("dkg"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "dat"))
            .unwrap();
        let definition = self.definition();
        let (transcript, definition) = (transcript.to_string_lossy(), definition.to_string_lossy());
        let checked = output(&["dkg", "verify", &transcript, "--definition", &definition]);
        assert!(checked.status.success(), "{checked:?}");
        String::from_utf8(checked.stdout).unwrap()
    }
}

impl Operators {
    /// An operator's share of the sequencer key, from its keystore.
    pub fn share(&self, node: usize) -> SecretShare {
        let keystore = self.folder(node).join("keys/keystore-sequencer.json");
        let password = std::fs::read_to_string(keystore.with_extension("txt")).unwrap();
        let keystore = Keystore::from_json(&std::fs::read_to_string(keystore).unwrap()).unwrap();
        SecretShare::from_bytes(OperatorIndex(node as u8), &keystore.decrypt(&password).unwrap()).unwrap()
    }

    /// Everybody has the same lock, whoever signed it, and any quorum's shares make its group's signature.
    pub fn agree(&self, present: &[usize]) {
        let locks: Vec<_> = present
            .iter()
            .map(|node| aequa_crypto::lock::load(&self.lock(*node).unwrap()).unwrap())
            .collect();
        assert!(locks.iter().all(|lock| lock.lock().lock_hash == locks[0].lock().lock_hash));
        let (first, quorum) = (locks[0].clone(), locks[0].quorum().quorum());
        let mut seals = BTreeSet::new();
        for left in 0..present.len() {
            let some = present.iter().cycle().skip(left).take(quorum).map(|node| self.share(*node));
            let shares: Vec<_> = some.map(|share| (share.operator(), share.sign(b"block"))).collect();
            let seal = aequa_crypto::seal::combine(quorum, &shares).unwrap();
            assert!(first.group_key().verify(b"block", &seal).is_ok());
            seals.insert(seal);
            assert_eq!(seals.len(), 1, "whoever signs, the signature is the same");
            let fewer = aequa_crypto::seal::combine(quorum - 1, &shares[1..]).unwrap();
            assert!(first.group_key().verify(b"block", &fewer).is_err(), "one share less makes nothing");
        }
    }
}

/// What operators that lie may do.
const FAULTS: [&str; 3] = ["bad-share", "two-commits", "silence"];

/// Ceremonies at random: four operators or seven, keys of validators or none, up to f away or, in builds with the test
/// endpoints, lying, one killed at any moments.
#[test]
fn campaign() {
    const RUNS: u64 = 3;
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (runs, seed) = (setting("CEREMONY_RUNS").unwrap_or(RUNS), setting("CEREMONY_SEED").unwrap_or(now));
    eprintln!("CEREMONY_SEED={seed}");
    let mut told = BTreeMap::<String, usize>::new();
    for run in 0..runs {
        let mut dice = Dice(seed.wrapping_mul(1_000_003).wrapping_add(run));
        let count = if dice.chance(25) { 7 } else { 4 };
        let operators = Operators::of(count, [0, 1, 100][dice.below(3)]);
        let faulty_max = (count - 1) / 3;
        let away = if dice.chance(30) { dice.below(faulty_max + 1) } else { 0 };
        let has_liar = cfg!(feature = "e2e") && away < faulty_max && dice.chance(50);
        let liar = has_liar.then(|| (count - 1, FAULTS[dice.below(FAULTS.len())]));
        let honest: Vec<usize> = (away..count - usize::from(has_liar)).collect();
        let mut members: Vec<(usize, Member)> =
            honest.iter().map(|node| (*node, operators.take_part(*node))).collect();
        let mut lying = liar.map(|(node, fault)| operators.lie(node, fault));
        let victim = dice.below(members.len());
        for _ in 0..1 + dice.below(4) {
            std::thread::sleep(Duration::from_millis(dice.below(1_500) as u64));
            let (node, member) = &mut members[victim];
            // It may have ended by itself.
            let _ = member.kill();
            member.wait().unwrap();
            *member = operators.take_part(*node);
        }
        let are_all_here = away == 0 && liar.is_none();
        if !are_all_here {
            // Nobody comes any more: those that have finished would wait for minutes.
            // Each encrypts a hundred keystores, on two cores.
            within(Duration::from_secs(300), "locks of all that are there", || operators.locks(&honest));
            members.iter_mut().map(|(_, member)| member).chain(&mut lying).for_each(|member| {
                let _ = member.kill();
            });
        }
        for (node, member) in &mut members {
            let status = member.wait().unwrap();
            assert!(!are_all_here || status.success(), "run {run}: {}", report(&operators.folder(*node)));
        }
        operators.agree(&honest);
        let said: Vec<String> = honest.iter().map(|node| operators.verified_by(*node)).collect();
        let results = said.iter().map(|said| said.lines().filter(|line| !line.starts_with("operator ")));
        let results: BTreeSet<Vec<&str>> = results.map(Iterator::collect).collect();
        assert_eq!(results.len(), 1, "run {run}: transcripts say the same");
        let proven: BTreeSet<&str> =
            said.iter().flat_map(|said| said.lines()).filter(|line| line.ends_with(": proven")).collect();
        let is_proven = match liar {
            // Who could show it is the first, and may be away.
            Some((_, "bad-share")) => away == 0,
            Some((_, fault)) => fault != "silence",
            None => false,
        };
        assert_eq!(!proven.is_empty(), is_proven, "run {run}: {proven:?}");
        let names_liar =
            |line: &&str| liar.is_some_and(|(node, _)| line.starts_with(&format!("operator {node} ")));
        assert!(proven.iter().all(names_liar), "run {run}: {proven:?}");
        let lies = liar.map_or("nobody lies", |(_, fault)| fault);
        eprintln!("run {run}: {} of {count} operators, {lies}", count - away);
        *told.entry(format!("{count} operators, {away} away, {lies}")).or_default() += 1;
    }
    told.iter().for_each(|(what, runs)| eprintln!("{runs:>4} × {what}"));
    eprintln!("{runs} ceremonies: every lock and signature the same, nobody proven guilty but liars");
}

pub fn report(path: &Path) -> String {
    std::fs::read_to_string(path.join("dkg.log")).unwrap_or_default()
}

#[test]
fn a_ceremony_in_which_one_is_killed_again_and_again_makes_a_cluster_that_decides() {
    let operators = Operators::new(2);
    let mut members: Vec<Member> = (0..4).map(|node| operators.take_part(node)).collect();
    let began = Instant::now();
    let dkg = operators.folder(2).join("dkg");
    for life in 1..8 {
        std::thread::sleep(Duration::from_millis(life * 90));
        if life == 7 {
            // However slow the machine is: its last life is to go on from something.
            until("it has committed", || std::fs::read_dir(&dkg).ok()?.flatten().find(is_filled));
        }
        // It may have ended by itself.
        let _ = members[2].kill();
        members[2].wait().unwrap();
        members[2] = operators.take_part(2);
    }
    for (node, member) in members.iter_mut().enumerate() {
        let status = member.wait().unwrap();
        assert!(status.success(), "node {node}: {}", report(&operators.folder(node)));
    }
    assert!(began.elapsed() < Duration::from_secs(120));
    let lock = operators.lock(0).unwrap();
    for node in 1..4 {
        assert_eq!(operators.lock(node).as_ref(), Some(&lock), "node {node}");
        assert_eq!(operators.verified_by(node), operators.verified_by(0));
        assert!(!operators.folder(node).join("dkg/seed.json").exists(), "nobody needs it any more");
    }
    let verified = aequa_crypto::lock::load(&lock).unwrap();
    assert_eq!(verified.validators().len(), 2);
    for node in 0..4 {
        assert_eq!(operators.metric(node, "tss_sessions_total{result=\"ok\"}"), Some(1.0), "node {node}");
        let went_on = operators.metric(node, "tss_recovery_total{result=\"ok\"}");
        assert_eq!(went_on, (node == 2).then_some(1.0), "node {node}");
        assert_eq!(operators.metric(node, "tss_persist_errors_total"), None);
    }
    for kind in ["propose", "commit", "reveal", "ack"] {
        let series = format!("tss_msgs_total{{type=\"{kind}\"}}");
        assert!((0..4).any(|node| operators.metric(node, &series) > Some(0.0)), "{series}");
    }
    assert!(operators.metric(0, "tss_persist_ms_count") > Some(5.0));

    let mut nodes: Vec<Node> = (0..4).map(|node| operators.node(node)).collect();
    nodes.iter_mut().for_each(Node::start);
    until("five blocks", || nodes[0].height().filter(|height| *height >= 5));
}

#[test]
fn a_ceremony_ends_without_one_that_is_away_and_gives_it_its_shares_later() {
    let operators = Operators::new(0);
    let mut members: Vec<Member> = (0..3).map(|node| operators.take_part(node)).collect();
    until("locks of three", || operators.locks(&[0, 1, 2]));
    let before = aequa_crypto::lock::load(&operators.lock(0).unwrap()).unwrap();
    members.push(operators.take_part(3));
    for (node, member) in members.iter_mut().enumerate() {
        let status = member.wait().unwrap();
        assert!(status.success(), "node {node}: {}", report(&operators.folder(node)));
    }
    let lock = operators.lock(3).unwrap();
    for node in 0..3 {
        assert_eq!(operators.lock(node).as_ref(), Some(&lock), "the late one has signed it too");
    }
    let after = aequa_crypto::lock::load(&lock).unwrap();
    assert_eq!(before.lock().lock_hash, after.lock().lock_hash, "the same keys");
    let config = operators.folder(3);
    let started = output(&["--data-dir", &config.to_string_lossy(), "--operator", "2"]);
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(said.contains("the identity key is that of operator 3"), "its shares load: {said}");
}

#[test]
fn operators_with_different_definitions_are_shown_the_first_line_that_differs() {
    let operators = Operators::new(0);
    let cards: Vec<String> = (0..4).map(|node| operators.card(node)).collect();
    let other = operators.scratch().join("other.json");
    let out = other.to_string_lossy();
    let new = ["dkg", "new", "--operator", &cards.join(","), "--out", &out, "--name", "another"];
    assert!(output(&new).status.success());
    let mut members = [operators.take_part(0), operators.take_part_in(3, &other, None)];
    for (node, of, line) in [
        (0, 3, r#"is "\"name\": \"aequa\"," here and "\"name\": \"another\"," there"#),
        (3, 0, r#"is "\"name\": \"another\"," here and "\"name\": \"aequa\"," there"#),
    ] {
        let said = until("the difference", || {
            Some(report(&operators.folder(node))).filter(|said| said.contains("line "))
        });
        assert!(said.contains(&format!("operator {of} has another definition")), "{said}");
        assert!(said.contains(line), "{said}");
    }
    members.iter_mut().for_each(|member| drop(member.kill()));
}

#[test]
fn an_operator_that_commits_twice_is_named_with_a_proof_and_the_others_end_without_it() {
    let operators = Operators::new(1);
    let folder = operators.folder(3);
    let commits = |node: usize| {
        let dkg = operators.folder(node).join("dkg");
        std::fs::read_dir(dkg).ok()?.flatten().find(is_filled)
    };
    // It commits before one of the others, and again, from another seed, before the rest.
    let mut first = [operators.take_part(0), operators.take_part(3)];
    until("operator 0 has heard its commit", || {
        commits(0).filter(|entry| entry.metadata().unwrap().len() > 700)
    });
    first.iter_mut().for_each(|member| drop((member.kill(), member.wait())));
    std::fs::remove_dir_all(folder.join("dkg")).unwrap();
    let mut members: Vec<Member> = (0..4).map(|node| operators.take_part(node)).collect();
    until("locks of three", || operators.locks(&[0, 1, 2]));
    members.iter_mut().for_each(|member| drop((member.kill(), member.wait())));
    operators.agree(&[0, 1, 2]);
    for node in 0..3 {
        let verified = operators.verified_by(node);
        assert!(verified.contains("operator 3 claimed two things in one place: proven"), "{verified}");
        assert!(report(&operators.folder(node)).contains("operator 3 is to blame"), "node {node}");
    }
}

#[test]
fn who_is_not_in_the_definition_takes_no_part() {
    let operators = Operators::new(0);
    let stranger = operators.dir.path().join("stranger");
    let folder = stranger.to_string_lossy();
    assert!(output(&["dkg", "id", "--data-dir", &folder, "--name", "x"]).status.success());
    let definition = operators.definition();
    let refused = output(&["dkg", "--definition", &definition.to_string_lossy(), "--data-dir", &folder]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("does not name the identity"));
    assert!(!stranger.join("dkg").exists(), "nothing was written");
}

#[test]
fn an_operator_that_went_down_while_the_lock_was_signed_needs_only_the_lock_of_another() {
    let operators = Operators::new(1);
    let mut members: Vec<Member> = (0..4).map(|node| operators.take_part(node)).collect();
    assert!(members.iter_mut().all(|member| member.wait().unwrap().success()));
    let folder = operators.folder(3);
    let settings = std::fs::read_to_string(folder.join("node.toml")).unwrap();
    for lost in ["cluster-lock.json", "node.toml", "keys/keystore-sequencer.json", "keys/keystore-0.txt"] {
        std::fs::remove_file(folder.join(lost)).unwrap();
    }
    std::fs::copy(operators.folder(0).join("cluster-lock.json"), folder.join("cluster-lock.json")).unwrap();
    assert!(operators.take_part(3).wait().unwrap().success(), "{}", report(&folder));
    operators.agree(&[0, 1, 2, 3]);
    assert_eq!(operators.metric(3, "tss_recovery_total{result=\"fallback\"}"), Some(1.0));
    assert!(folder.join("keys/keystore-0.txt").exists());
    assert_eq!(
        std::fs::read_to_string(folder.join("node.toml")).unwrap(),
        settings,
        "it listens where it did"
    );

    // Keys of another ceremony are never overwritten.
    let other = Operators::new(0);
    let (mine, theirs) =
        (folder.join("keys/keystore-sequencer.json"), other.folder(0).join("keys/identity.json"));
    std::fs::remove_file(&mine).unwrap();
    std::fs::copy(theirs, &mine).unwrap();
    let before = std::fs::read(&mine).unwrap();
    assert!(!operators.take_part(3).wait().unwrap().success());
    assert!(report(&folder).contains("never overwritten"), "{}", report(&folder));
    assert_eq!(std::fs::read(&mine).unwrap(), before);
}

#[test]
fn two_processes_in_one_folder_and_a_lost_seed_are_refused() {
    let operators = Operators::new(0);
    let mut alone = operators.take_part(0);
    let dkg = operators.folder(0).join("dkg");
    until("it has committed", || std::fs::read_dir(&dkg).ok()?.flatten().find(is_filled));
    let second = operators.take_part(0).wait().unwrap();
    assert_eq!(second.code(), Some(4), "{}", report(&operators.folder(0)));
    alone.kill().unwrap();
    alone.wait().unwrap();
    std::fs::rename(dkg.join("seed.json"), dkg.join("seed.old")).unwrap();
    let without = operators.take_part(0).wait().unwrap();
    assert_eq!(without.code(), Some(4), "{}", report(&operators.folder(0)));
    assert!(report(&operators.folder(0)).contains("contradict itself"));
}

/// A transcript with more in it than its header.
fn is_filled(entry: &std::fs::DirEntry) -> bool {
    entry.path().extension().is_some_and(|end| end == "dat")
        && entry.metadata().is_ok_and(|data| data.len() > 42)
}
