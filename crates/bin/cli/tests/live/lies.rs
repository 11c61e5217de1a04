//! Operators that lie in a key ceremony, as processes: the others end it with the same keys and without them.

use crate::ceremony::{Member, Operators, report};
use crate::harness::until;

const LIAR: usize = 3;
const HONEST: [usize; 3] = [0, 1, 2];

/// A ceremony in which one lies, until the others have a lock that is the same and signs with any quorum of shares.
fn held(fault: &str) -> Operators {
    let operators = Operators::new(1);
    let mut members: Vec<Member> = HONEST.iter().map(|node| operators.take_part(*node)).collect();
    members.push(operators.lie(LIAR, fault));
    until("locks of three", || operators.locks(&HONEST));
    members.iter_mut().for_each(|member| drop((member.kill(), member.wait())));
    operators.agree(&HONEST);
    operators
}

/// Every honest transcript says this of the liar, and all say the same.
fn named(operators: &Operators, says: &str) {
    for node in HONEST {
        let verified = operators.verified_by(node);
        let blames: Vec<&str> = verified.lines().filter(|line| line.starts_with("operator ")).collect();
        assert_eq!(blames, [format!("operator {LIAR} {says}")], "node {node}");
        assert!(verified.contains("valid: keys made from the dealings of operators 0, 1, 2\n"), "{verified}");
    }
}

#[test]
fn e2e_a_dealer_of_one_bad_share_is_named_with_a_proof_and_left_out() {
    let operators = held("bad-share");
    named(&operators, "dealt bad shares: proven");
    for node in HONEST {
        assert!(report(&operators.folder(node)).contains("operator 3 is to blame: BadShares, proven"));
    }
}

#[test]
fn e2e_a_dealer_that_is_silent_after_its_commit_is_named_without_a_proof_and_left_out() {
    let operators = held("silence");
    named(&operators, "showed no dealing: in this transcript, which proves nothing");
}

#[test]
fn e2e_a_dealer_that_commits_to_two_dealings_is_named_with_a_proof_and_left_out() {
    let operators = held("two-commits");
    named(&operators, "claimed two things in one place: proven");
}
