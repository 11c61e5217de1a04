use super::*;
use crate::dealing::{deal, part_hashes};
use crate::fixture::{definition, identity, secrets};
use crate::{CommitClaim, RefusalKind};
use alloy_primitives::FixedBytes;

struct Scene {
    definition: Arc<Definition>,
    board: Board,
}

impl Scene {
    fn new() -> Self {
        let definition = Arc::new(definition(4, 1));
        Self { board: Board::new(definition.clone()), definition }
    }

    fn sign(&self, author: u8, claim: Claim) -> Statement {
        Statement::sign(&self.definition.ceremony(), OperatorIndex(author), claim, &identity(author))
    }

    fn say(&mut self, author: u8, claim: Claim) -> Result<(), Refusal> {
        let statement = self.sign(author, claim);
        assert_eq!(statement.check(&self.definition), Ok(()));
        self.board.keep(&statement)
    }

    /// A dealer's dealing, or another one of it.
    fn dealing(&self, dealer: u8, version: u8) -> (Statement, DealingId, Part) {
        let parts = deal(&self.definition, OperatorIndex(dealer), &secrets(dealer + 50 * version)).unwrap();
        let hashes = part_hashes(&self.definition, &parts);
        let commit = self.sign(dealer, Claim::Commit(CommitClaim { parts: hashes }));
        let dealing = commit.committed(&self.definition.ceremony()).unwrap();
        (commit, dealing, parts[0].clone())
    }

    fn deal(&mut self, dealer: u8) -> DealingId {
        let (commit, dealing, part) = self.dealing(dealer, 0);
        self.board.keep(&commit).unwrap();
        self.board.keep_part(&part).unwrap();
        dealing
    }
}

#[test]
fn a_commit_is_certified_by_a_quorum_of_receipts_and_not_before() {
    let mut scene = Scene::new();
    let (commit, dealing, _) = scene.dealing(1, 0);
    let too_early = scene.say(0, Claim::Receipt(dealing)).unwrap_err();
    assert_eq!(too_early.kind(), RefusalKind::NotNow);
    scene.board.keep(&commit).unwrap();
    for author in 0..3 {
        assert!(!scene.board.is_certified(dealing));
        scene.say(author, Claim::Receipt(dealing)).unwrap();
        assert_eq!(scene.say(author, Claim::Receipt(dealing)), Err(Refusal::Stale));
    }
    assert!(scene.board.is_certified(dealing) && scene.board.acks(dealing) == 0);
}

#[test]
fn a_second_commit_disqualifies_and_a_third_is_not_kept() {
    let mut scene = Scene::new();
    let [first, second, third] = [0, 1, 2].map(|version| scene.dealing(1, version).0);
    scene.board.keep(&first).unwrap();
    assert_eq!(scene.board.keep(&first), Err(Refusal::Stale));
    assert!(scene.board.is_eligible(OperatorIndex(1)));
    scene.board.keep(&second).unwrap();
    assert!(!scene.board.is_eligible(OperatorIndex(1)));
    assert_eq!(scene.board.keep(&third), Err(Refusal::Stale));
    assert_eq!(scene.board.commits[&OperatorIndex(1)].len(), COMMITS_KEPT);
    assert_eq!(scene.board.dealing(OperatorIndex(1)), None, "neither counts");
    let [blame] = scene.board.blames() else { panic!() };
    assert_eq!((blame.operator, blame.fault), (OperatorIndex(1), Fault::Equivocation));
    assert_eq!(blame.verify(&scene.definition), Ok(()));
}

#[test]
fn the_agreed_dealing_counts_whatever_else_its_dealer_committed_to() {
    let mut scene = Scene::new();
    let [first, second, third] = [0, 1, 2].map(|version| scene.dealing(1, version));
    scene.board.keep(&first.0).unwrap();
    scene.board.keep_part(&first.2).unwrap();
    scene.board.keep(&second.0).unwrap();
    scene.board.qualify(vec![third.1]);
    assert_eq!(scene.board.dealing(OperatorIndex(1)), None);
    assert!(scene.board.public(OperatorIndex(1)).is_none(), "parts of another dealing are of no use");
    scene.board.keep(&third.0).unwrap();
    scene.board.keep_part(&third.2).unwrap();
    assert_eq!(scene.board.dealing(OperatorIndex(1)), Some(third.1));
    assert!(scene.board.public(OperatorIndex(1)).is_some());
    let refused = scene.board.keep_part(&first.2).unwrap_err();
    assert_eq!(refused.kind(), RefusalKind::Stale);
}

#[test]
fn only_parts_that_were_committed_to_are_kept() {
    let mut scene = Scene::new();
    let ((commit, _, part), (_, _, other)) = (scene.dealing(1, 0), scene.dealing(1, 1));
    assert_eq!(scene.board.keep_part(&part).unwrap_err().kind(), RefusalKind::NotNow);
    scene.board.keep(&commit).unwrap();
    assert_eq!(scene.board.keep_part(&other).unwrap_err().kind(), RefusalKind::PeerFault);
    scene.board.keep_part(&part).unwrap();
    assert_eq!(scene.board.keep_part(&part), Err(Refusal::Stale));
}

#[test]
fn a_second_claim_in_a_place_proves_guilt_and_the_first_stays() {
    let mut scene = Scene::new();
    scene.say(2, Claim::Done(Digest::repeat_byte(1))).unwrap();
    let Err(Refusal::Guilty(blame)) = scene.say(2, Claim::Done(Digest::repeat_byte(2))) else { panic!() };
    assert_eq!((blame.operator, blame.verify(&scene.definition)), (OperatorIndex(2), Ok(())));
    assert!(scene.say(2, Claim::Done(Digest::repeat_byte(3))).is_err());
    assert_eq!(scene.board.blames().len(), 1, "more of the same say nothing new");
    let kept = scene.board.said(OperatorIndex(2), Place::Done).unwrap();
    assert_eq!(kept.claim, Claim::Done(Digest::repeat_byte(1)));
}

#[test]
fn shares_are_opened_of_agreed_dealings_with_a_complaint_only() {
    let mut scene = Scene::new();
    let dealing = scene.deal(1);
    let public = scene.board.public(OperatorIndex(1)).unwrap()[0].clone();
    let open =
        Claim::ShareOpen(ShareOpenClaim { dealing, disclosures: vec![public.disclose(&secrets(2)).0] });
    assert_eq!(scene.say(2, open.clone()).unwrap_err().kind(), RefusalKind::NotNow);
    scene.board.qualify(vec![dealing]);
    assert_eq!(scene.say(2, open).unwrap_err().kind(), RefusalKind::NotNow);
}

#[test]
fn a_false_complaint_disqualifies_nobody_and_names_its_author() {
    let mut scene = Scene::new();
    let dealing = scene.deal(1);
    let public = scene.board.public(OperatorIndex(1)).unwrap()[0].clone();
    for disclosure in [public.disclose(&secrets(2)).0, FixedBytes::repeat_byte(1)] {
        let complaint = Claim::Complaint(ComplaintClaim { dealing, part: 0, disclosure });
        let Err(Refusal::Guilty(blame)) = scene.say(2, complaint) else { panic!() };
        assert_eq!((blame.operator, blame.fault), (OperatorIndex(2), Fault::FalseComplaint));
        assert_eq!(blame.verify(&scene.definition), Ok(()));
        let framed = Blame { operator: OperatorIndex(1), fault: Fault::BadShares, ..*blame };
        assert!(framed.verify(&scene.definition).is_err());
    }
    assert!(scene.board.is_eligible(OperatorIndex(1)) && !scene.board.has_complaint(OperatorIndex(1)));
}

#[test]
fn a_proof_of_other_messages_does_not_hold() {
    let mut scene = Scene::new();
    let (commit, dealing, part) = scene.dealing(1, 0);
    let other = scene.dealing(2, 0);
    let verify =
        |proof: Proof, fault| Blame::proven(OperatorIndex(1), fault, proof).verify(&scene.definition);
    assert!(verify(Proof::Dealing(commit.clone(), part.clone()), Fault::BadDealing).is_err(), "well formed");
    assert!(verify(Proof::Dealing(commit.clone(), other.2.clone()), Fault::BadDealing).is_err());
    assert!(verify(Proof::Statements(commit.clone(), commit.clone()), Fault::Equivocation).is_err());
    assert!(verify(Proof::Statements(commit.clone(), other.0), Fault::Equivocation).is_err());
    let mut forged = scene.dealing(1, 1).0;
    forged.signature = commit.signature;
    assert!(verify(Proof::Statements(commit.clone(), forged), Fault::Equivocation).is_err());
    let opening = scene.sign(3, Claim::Ack(dealing));
    assert!(verify(Proof::Shares { commit, part, opening }, Fault::BadShares).is_err());
    assert!(Blame::silent(OperatorIndex(1), Fault::NoCommit).verify(&scene.definition).is_err());
    let _ = scene.deal(1);
}

#[test]
fn what_one_lacks_another_sends_in_an_order_in_which_it_is_kept() {
    let mut full = Scene::new();
    for dealer in 0..4 {
        let dealing = full.deal(dealer);
        for author in 0..4 {
            full.say(author, Claim::Receipt(dealing)).unwrap();
            full.say(author, Claim::Ack(dealing)).unwrap();
        }
    }
    full.board.keep(&full.dealing(3, 1).0).unwrap();
    full.say(1, Claim::Done(Digest::ZERO)).unwrap();
    let mut empty = Scene::new();
    let mut sent = 0;
    for attempt in 0..4 {
        for message in full.board.lacking(OperatorIndex(0), &empty.board.summary(attempt)) {
            sent += 1;
            match message {
                Message::Statement(statement) => assert_eq!(empty.board.keep(&statement), Ok(())),
                // Of the one who dealt twice.
                Message::Part(part) if part.dealer == OperatorIndex(3) => {}
                Message::Part(part) => assert_eq!(empty.board.keep_part(&part), Ok(())),
                Message::Agreement(_) | Message::Summary(_) => panic!(),
            }
        }
    }
    let (here, there) = (full.board.summary(0), empty.board.summary(0));
    assert_eq!((here.commits, here.said), (there.commits, there.said));
    assert_eq!(here.parts[..3], there.parts[..3]);
    assert!((5 + 16 + 16 + 1 + 4..=5 + 16 + 16 + 1 + 8).contains(&sent), "{sent}: nothing is sent twice");
}

#[test]
fn parts_of_others_are_sent_by_one_operator_at_a_time() {
    let mut full = Scene::new();
    (0..4).for_each(|dealer| _ = full.deal(dealer));
    let empty = Scene::new();
    for attempt in 0..4 {
        let summary = empty.board.summary(attempt);
        let parts = |me: u8| {
            let lacking = full.board.lacking(OperatorIndex(me), &summary).into_iter();
            lacking.filter(|message| matches!(message, Message::Part(_))).count()
        };
        let sent: usize = (0..4).map(parts).sum();
        assert!((4..=8).contains(&sent), "the dealer itself, and one more");
    }
}

/// The number is another operator's, and unsigned.
#[test]
fn whatever_attempt_a_summary_is_each_part_is_sent_by_somebody() {
    let mut scene = Scene::new();
    for dealer in [0, 3] {
        scene.deal(dealer);
    }
    let said = vec![true; places(&scene.definition).count()];
    for attempt in [0, 1, 2, u64::MAX - 1, u64::MAX] {
        let summary = crate::Summary {
            attempt,
            commits: vec![Digest::ZERO; 4],
            said: said.clone(),
            parts: vec![false; 4],
            is_decided: false,
        };
        let sent = (0..4).flat_map(|me| scene.board.lacking(OperatorIndex(me), &summary));
        let parts = sent.filter_map(|message| match message {
            Message::Part(part) => Some(part.dealer.0),
            Message::Statement(_) | Message::Agreement(_) | Message::Summary(_) => None,
        });
        let dealers: std::collections::BTreeSet<u8> = parts.collect();
        assert!(dealers.into_iter().eq([0, 3]), "attempt {attempt}");
    }
}
