//! Other operators for a cluster that runs: the keys stay, the shares change, and no block is missed.

use super::ceremony::{Member, Operators, report};
use crate::harness::{Answer, Node, Wallet, envelope, output, tail, until, within};
use aequa_crypto::lock::{VerifiedLock, check_succession, load};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Heights between the beginning of a ceremony and the change, at ten a second.
const AHEAD: u64 = 150;
/// The same where one is waited for that does not come.
const FAR_AHEAD: u64 = 350;
/// For so long they are waited for: at ten a second they take half a minute.
const PATIENCE_FAR_AHEAD: Duration = Duration::from_secs(180);

/// A cluster that decides, and its operators.
struct Running {
    // Before the folder: the nodes end before it goes.
    nodes: Vec<Node>,
    operators: Operators,
    wallet: Wallet,
    nonce: u64,
    /// What everybody agrees on for the change that is under way.
    plan: Change,
}

/// A change of operators.
#[derive(Default)]
struct Change {
    number: usize,
    activation: u64,
    newcomers: BTreeSet<usize>,
}

impl Running {
    fn of_four() -> Self {
        let operators = Operators::new(1);
        let mut members: Vec<Member> = (0..4).map(|node| operators.take_part(node)).collect();
        assert!(members.iter_mut().all(|member| member.wait().unwrap().success()));
        let mut nodes: Vec<Node> = (0..4).map(|node| operators.node(node)).collect();
        nodes.iter_mut().for_each(Node::spawn);
        nodes.iter_mut().for_each(Node::await_up);
        Self { operators, nodes, wallet: Wallet::new(), nonce: 0, plan: Change::default() }
    }

    fn lock(&self, node: usize) -> VerifiedLock {
        load(&self.operators.lock(node).unwrap()).unwrap()
    }

    fn tip(&self) -> u64 {
        self.nodes.iter().filter_map(Node::height).max().unwrap_or_default()
    }

    /// A transaction, at one that stays: who has left takes what nobody includes any more.
    fn submit(&mut self) {
        let taken = self.submit_to(0).is_some_and(|answer| answer.status < 300);
        self.nonce += u64::from(taken);
    }

    fn submit_to(&self, node: usize) -> Option<Answer> {
        let chain_id = self.lock(0).lock().chain_id;
        let body = envelope(&self.wallet.plain_for(chain_id, self.nonce, 1));
        let json = "Content-Type: application/json\r\n";
        self.nodes[node].request("POST", "/v1/tx", json, &body).ok()
    }

    /// The definition of a change that begins soon.
    fn define(&mut self, how: &[&str], newcomers: &[usize]) {
        self.define_for(AHEAD, how, newcomers);
    }

    fn define_for(&mut self, ahead: u64, how: &[&str], newcomers: &[usize]) {
        self.plan = Change {
            number: self.plan.number + 1,
            activation: self.tip() + ahead,
            newcomers: newcomers.iter().copied().collect(),
        };
        let lock = self.operators.folder(0).join("cluster-lock.json");
        let (lock, out) = (lock.to_string_lossy().into_owned(), self.definition());
        let height = self.plan.activation.to_string();
        let mut args = vec!["dkg", "reshare", "--lock", &lock, "--activation-height", &height, "--out", &out];
        args.extend(how);
        let written = output(&args);
        assert!(written.status.success(), "{written:?}");
    }

    fn definition(&self) -> String {
        self.operators
            .scratch()
            .join(format!("reshare{}.json", self.plan.number))
            .to_string_lossy()
            .into_owned()
    }

    fn take_part(&self, node: usize) -> Member {
        let lock = self.operators.folder(0).join("cluster-lock.json");
        let more = if self.plan.newcomers.contains(&node) { Some(lock) } else { None };
        self.operators.take_part_in(node, Path::new(&self.definition()), more.as_deref())
    }

    /// The ceremony among these, under load, to its end; new operators start their nodes.
    fn hold(&mut self, members: &[usize]) {
        let mut running: Vec<(usize, Member)> =
            members.iter().map(|node| (*node, self.take_part(*node))).collect();
        for (node, member) in &mut running {
            let status = until("the end of a member", || {
                self.submit();
                member.try_wait().unwrap()
            });
            assert!(status.success(), "{}", report(&self.operators.folder(*node)));
        }
        for node in self.plan.newcomers.clone() {
            let mut newcomer = self.operators.node(node);
            newcomer.start();
            self.nodes.push(newcomer);
        }
    }

    /// Waits until these nodes have decided blocks of the new epoch, and compares everything they have.
    fn has_changed(&mut self, before: &VerifiedLock, nodes: &[usize]) -> VerifiedLock {
        let beyond = self.plan.activation + 10;
        until("blocks of the next epoch", || {
            self.submit();
            let has_changed = |node: &&usize| {
                let height = self.nodes[**node].height();
                height >= Some(beyond) && self.lock(**node).lock().epoch == before.lock().epoch + 1
            };
            (nodes.iter().filter(has_changed).count() == nodes.len()).then_some(())
        });
        let after = self.lock(nodes[0]);
        check_succession(before, &after).unwrap();
        let digests = self.nodes[nodes[0]].digests(beyond);
        for node in nodes {
            assert_eq!(self.nodes[*node].digests(beyond), digests, "node {node}");
            assert_eq!(self.lock(*node).lock().lock_hash, after.lock().lock_hash, "node {node}");
            assert!(
                !self.operators.folder(*node).join("next").exists(),
                "node {node} has nothing left to do"
            );
        }
        let sealed = until("seals of both epochs", || {
            let heights = [self.plan.activation - 1, self.plan.activation + 1];
            let seals =
                heights.map(|height| self.nodes[nodes[0]].block(height)?.certificate.group_seal().copied());
            seals.iter().all(Option::is_some).then_some(heights)
        });
        for height in sealed {
            let certificate = self.nodes[nodes[0]].block(height).unwrap().certificate;
            let seal = certificate.group_seal().copied().unwrap();
            let message = certificate.decision().seal_bytes(&after.cluster_id());
            assert!(
                before.group_key().verify(&message, &seal).is_ok(),
                "block {height}: one key for all epochs"
            );
        }
        after
    }
}

#[test]
fn four_operators_become_five_and_four_again_under_load() {
    let mut running = Running::of_four();
    let four = running.lock(0);
    let old_share = running.operators.share(0);
    let card = running.operators.newcomer();
    running.define(&["--add", &card], &[4]);
    running.hold(&[0, 1, 2, 3, 4]);
    let five = running.has_changed(&four, &[0, 1, 2, 3, 4]);
    assert_eq!((five.quorum().operators(), five.lock().epoch), (5, 1));
    let share = running.operators.share(0);
    assert_ne!(share.public(), old_share.public());
    assert!(five.check_own_share(old_share.operator(), &old_share).is_err(), "the old share is useless");

    // Operator 1 leaves, and operator 4 takes its place.
    running.define(&["--remove", "1"], &[]);
    running.hold(&[0, 2, 3, 4]);
    let four_again = running.has_changed(&five, &[0, 2, 3, 4]);
    assert_eq!((four_again.quorum().operators(), four_again.lock().epoch), (4, 2));
    assert_eq!(four_again.validators()[0].group_key, four.validators()[0].group_key);

    // Another one comes, who knows nothing of the first epoch but its blocks.
    let card = running.operators.newcomer();
    running.define(&["--replace", &format!("1={card}")], &[5]);
    running.hold(&[0, 2, 3, 5]);
    let third = running.has_changed(&four_again, &[0, 2, 3, 5]);
    assert_eq!((third.quorum().operators(), third.lock().epoch), (4, 3));
    assert!(running.nonce > 0, "transactions were taken all the time");
}

#[test]
fn an_operator_is_replaced_while_another_is_killed_again_and_again() {
    let mut running = Running::of_four();
    let before = running.lock(0);
    let card = running.operators.newcomer();
    running.define(&["--replace", &format!("3={card}")], &[4]);
    let mut members: Vec<(usize, Member)> =
        [0, 1, 2, 4].into_iter().map(|node| (node, running.take_part(node))).collect();
    for life in 1..6 {
        std::thread::sleep(Duration::from_millis(life * 110));
        let (node, member) = &mut members[2];
        // It may have ended by itself.
        let _ = member.kill();
        member.wait().unwrap();
        *member = running.take_part(*node);
        // And its node, which may have promised something.
        running.nodes[2].kill();
        running.nodes[2].start();
    }
    for (node, member) in &mut members {
        assert!(member.wait().unwrap().success(), "{}", report(&running.operators.folder(*node)));
    }
    let mut newcomer = running.operators.node(4);
    newcomer.start();
    running.nodes.push(newcomer);
    let after = running.has_changed(&before, &[0, 1, 2, 4]);
    assert_eq!((after.quorum().operators(), after.lock().epoch), (4, 1));
    let height = running.nodes[3].height().unwrap();
    assert!(height < running.plan.activation, "who was replaced decides nothing: {height}");
}

#[test]
fn an_operator_that_leaves_deals_and_signs_in_the_place_of_one_that_is_away() {
    let mut running = Running::of_four();
    let before = running.lock(0);
    let card = running.operators.newcomer();
    running.define_for(FAR_AHEAD, &["--replace", &format!("3={card}")], &[4]);
    // Operator 2 stays and is not there; operator 3 leaves and is.
    let mut members: Vec<Member> = [0, 1, 3, 4].into_iter().map(|node| running.take_part(node)).collect();
    until("the lock of the next epoch", || {
        running.submit();
        running.operators.lock(4)
    });
    let mut newcomer = running.operators.node(4);
    newcomer.start();
    running.nodes.push(newcomer);
    within(PATIENCE_FAR_AHEAD, "the end of who has left", || {
        running.submit();
        (!running.nodes[3].is_running()).then_some(())
    });
    let ended = running.nodes[3].until_ended();
    assert!(ended.success(), "{ended}");
    let said = tail(&running.nodes[3].log_path());
    let last = running.plan.activation - 1;
    assert!(said.contains(&format!("has left the cluster: block {last} was the last")), "{said}");
    assert!(!running.operators.folder(3).join("next/keys").exists(), "who leaves gets no share");
    until("blocks of the next epoch, without who is away", || {
        running.submit();
        (running.nodes[0].height() > Some(last + 10)).then_some(())
    });
    let lock = running.lock(0);
    assert!(lock.signed().map(|operator| operator.0).eq([0, 1, 3]), "the new one has the place of the old");
    assert_eq!(lock.lock().leaver_signatures.len(), 1);
    assert_eq!(running.lock(2).lock().epoch, 0, "nobody has told it of another lock");
    until("who was left behind takes nothing", || {
        let answer = running.submit_to(2)?;
        (answer.status == 503 && answer.text().contains("LEFT_BEHIND")).then_some(())
    });

    // Who has left is gone: the others hand on what it has said.
    let _ = members[2].kill();
    members[2].wait().unwrap();
    members.push(running.take_part(2));
    running.has_changed(&before, &[0, 1, 2, 4]);
    assert!(running.nonce > 0, "transactions were taken all the time");
    let dealt = report(&running.operators.folder(2));
    assert!(dealt.contains("from the dealings of 0, 1, 3 (leaves)"), "{dealt}");
    members.iter_mut().for_each(|member| drop(member.kill()));
}

#[test]
fn an_operator_that_was_away_from_the_ceremony_gets_its_share_when_the_others_have_changed() {
    let mut running = Running::of_four();
    let before = running.lock(0);
    running.define_for(FAR_AHEAD, &[], &[]);
    let mut members: Vec<Member> = (0..3).map(|node| running.take_part(node)).collect();
    let last = running.plan.activation - 1;
    within(PATIENCE_FAR_AHEAD, "three have changed", || {
        let changed = (0..3).filter(|node| running.lock(*node).lock().epoch == 1);
        (changed.count() == 3 && running.nodes[0].height() > Some(last + 3)).then_some(())
    });
    assert_eq!(running.lock(3).lock().epoch, 0, "nobody has told it of another lock");
    members.push(running.take_part(3));
    let after = running.has_changed(&before, &[0, 1, 2, 3]);
    assert_eq!(after.signed().count(), 3, "it has promised nothing, and signs nothing");
    members.iter_mut().for_each(|member| drop(member.kill()));
}

#[test]
fn a_refresh_makes_old_shares_useless_and_too_late_a_height_is_refused() {
    let mut running = Running::of_four();
    let before = running.lock(0);
    running.define(&[], &[]);
    running.hold(&[0, 1, 2, 3]);
    let after = running.has_changed(&before, &[0, 1, 2, 3]);
    for node in 0..4u8 {
        assert_ne!(after.public_shares()[usize::from(node)], before.public_shares()[usize::from(node)]);
    }
    running.define(&[], &[]);
    until("the height has passed", || (running.tip() > running.plan.activation + 1).then_some(()));
    let mut members: Vec<Member> = (0..4).map(|node| running.take_part(node)).collect();
    for member in &mut members {
        assert_eq!(member.wait().unwrap().code(), Some(4), "{}", report(&running.operators.folder(0)));
    }
    assert!(report(&running.operators.folder(0)).contains("the activation height has come, and no lock"));
    let tip = running.tip();
    until("blocks go on", || (running.tip() > tip + 5).then_some(()));
}
