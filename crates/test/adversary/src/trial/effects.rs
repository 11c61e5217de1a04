//! Whether the attacks were any: what came of them where they were aimed at.
//!
//! A cluster that withstands attacks nobody made has shown nothing.

use super::report::Check;
use crate::agent::Books;
use crate::attack::Attack;
use crate::verdicts::Verdicts;
use std::time::Duration;

/// What verifiers counted while nobody attacked, and for how long.
#[derive(Debug, Clone, Default)]
pub(super) struct Quiet {
    pub verdicts: Verdicts,
    pub time: Duration,
}

impl Quiet {
    /// What would have been counted in `time` without an attack.
    fn expected(&self, result: &str, time: Duration) -> f64 {
        match self.time.is_zero() {
            true => 0.0,
            false => self.verdicts.refused(result) * time.as_secs_f64() / self.time.as_secs_f64(),
        }
    }
}

/// What must hold of the books.
pub(super) fn checks(attacks: &[Attack], books: &Books, quiet: &Quiet, endpoints: bool) -> Vec<Check> {
    let mut checks = vec![arrived(attacks, books), refused(attacks, books, quiet)];
    checks.extend(endpoints.then(|| answered(books)));
    checks
}

/// Every attack was sent to somebody.
fn arrived(attacks: &[Attack], books: &Books) -> Check {
    let sent = |attack: &Attack| books.attacks.get(attack.name).map_or(0, |entry| entry.sent);
    let idle: Vec<&str> =
        attacks.iter().filter(|attack| sent(attack) == 0).map(|attack| attack.name).collect();
    Check {
        what: "every attack was sent to connected operators",
        holds: idle.is_empty() && !attacks.is_empty(),
        found: match idle.is_empty() {
            true => format!("all {}", attacks.len()),
            false => format!("nothing of {}", idle.join(", ")),
        },
    }
}

/// How far a count must lie above the usual one, in standard deviations of what happens at random.
const DEVIATIONS: f64 = 4.0;

/// What must be refused was counted as that, more than honest operators cause by themselves.
fn refused(attacks: &[Attack], books: &Books, quiet: &Quiet) -> Check {
    let (mut moved, mut missing) = (Vec::new(), Vec::new());
    for attack in attacks {
        let entry = books.attacks.get(attack.name).cloned().unwrap_or_default();
        for result in attack.refused_as {
            let (counted, usual) = (entry.verdicts.refused(result), quiet.expected(result, entry.time));
            let found = if counted > usual + DEVIATIONS * usual.sqrt() { &mut moved } else { &mut missing };
            found.push(match usual > 0.0 {
                true => format!("{}: {counted:.0} {result} (usual {usual:.0})", attack.name),
                false => format!("{}: {counted:.0} {result}", attack.name),
            });
        }
    }
    Check {
        what: "what is refused is counted in the contract's words",
        holds: missing.is_empty(),
        found: match missing.is_empty() {
            true => moved.join(", "),
            false => format!("not {}", missing.join(", ")),
        },
    }
}

/// Every visit to the test endpoints was answered as the contract says.
fn answered(books: &Books) -> Check {
    let wrong: Vec<String> = books
        .visits
        .iter()
        .filter(|(_, answers)| !answers.are_as_expected())
        .map(|(name, answers)| format!("{name}: {:?}, expected {:?}", answers.seen, answers.expected))
        .collect();
    let visits: u64 = books.visits.values().flat_map(|answers| answers.seen.values()).sum();
    Check {
        what: "the test endpoints answer every kind of message as the contract says",
        holds: wrong.is_empty() && visits > 0,
        found: match wrong.is_empty() {
            true => format!("{visits} answers to {} kinds", books.visits.len()),
            false => wrong.join("; "),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Entry;
    use crate::attack;
    use crate::endpoints::Answers;

    fn named(name: &str) -> Vec<Attack> {
        attack::named(&[name.to_owned()]).unwrap()
    }

    fn replayed(sent: u64, counted: u32) -> Books {
        let verdicts = Verdicts::parse(&format!("qbft_msg_verified_total{{result=\"replay\"}} {counted}"));
        let entry = Entry { sent, time: Duration::from_secs(10), verdicts };
        Books { attacks: [("replay", entry)].into(), ..Books::default() }
    }

    fn hold(checks: &[Check]) -> Vec<bool> {
        checks.iter().map(|check| check.holds).collect()
    }

    #[test]
    fn an_attack_that_was_not_made_fails_the_trial() {
        let quiet = Quiet::default();
        let judge = |books: &Books| hold(&checks(&named("replay"), books, &quiet, false));
        assert_eq!(judge(&replayed(1, 1)), [true, true]);
        assert_eq!(judge(&replayed(0, 1)), [false, true], "nobody was connected");
        assert_eq!(judge(&replayed(1, 0)), [true, false], "nobody looked at it");
        assert_eq!(judge(&Books::default()), [false, false], "it never had its turn");
    }

    #[test]
    fn what_honest_operators_repeat_by_themselves_is_no_effect() {
        let verdicts = Verdicts::parse("qbft_msg_verified_total{result=\"replay\"} 30");
        let quiet = Quiet { verdicts, time: Duration::from_secs(6) };
        let judge = |counted: u32| hold(&checks(&named("replay"), &replayed(9, counted), &quiet, false));
        assert_eq!(judge(78), [true, false]);
        assert_eq!(judge(79), [true, true]);
    }

    #[test]
    fn endpoints_that_do_not_answer_fail_the_trial() {
        let judge = |seen: &[(u16, u64)]| {
            let answers = Answers { expected: &[202], seen: seen.iter().copied().collect() };
            let books = Books { visits: [("http/id-mismatch", answers)].into(), ..replayed(1, 1) };
            checks(&named("replay"), &books, &Quiet::default(), true)[2].holds
        };
        assert!(judge(&[(202, 4)]));
        assert!(!judge(&[(0, 4)]), "no answer");
        assert!(!judge(&[(202, 4), (200, 1)]), "taken");
        let unvisited = checks(&named("replay"), &replayed(1, 1), &Quiet::default(), true);
        assert!(!unvisited[2].holds, "nobody went there");
    }

    #[test]
    fn every_word_an_attack_is_to_be_refused_with_is_one_of_the_contract() {
        let words = ["unauthorized", "old", "round_oob", "sig_invalid", "replay", "bad_justification"];
        for attack in attack::all() {
            assert!(attack.refused_as.iter().all(|word| words.contains(word)), "{}", attack.name);
        }
    }
}
