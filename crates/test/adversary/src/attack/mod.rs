//! The attacks. Each is one type; its name is what `--attack` takes.

mod flood;
mod id_mismatch;
mod nested_json;
mod questions;
mod slow_sync;
mod statements;
mod wrong_lock;

pub use crate::scene::{Scene, Sending};
use statements::in_places;

/// Whether honest nodes can prove an attack: with two statements that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provable {
    /// It contradicts nothing it has said.
    Never,
    /// It does not care.
    Perhaps,
    /// It contradicts itself before everybody's eyes.
    Always,
}

/// One way to be faulty.
pub struct Attack {
    /// What `--attack` takes.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// How many times the asked rate it sends at.
    pub intensity: u32,
    /// What the verifiers must count some of it as, in the words of their metrics; none when all of it is valid,
    /// or which part is not depends on the moment.
    pub refused_as: &'static [&'static str],
    /// Whether it leaves evidence.
    pub provable: Provable,
    acts: Box<dyn Play>,
}

impl Attack {
    /// At the asked rate, contradicting nothing, with nothing that must be refused.
    fn of(name: &'static str, acts: impl Play + 'static) -> Self {
        let acts = Box::new(acts);
        Self { name, about: "", intensity: 1, refused_as: &[], provable: Provable::Never, acts }
    }

    /// The next sendings; none when the moment offers nothing.
    pub fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        self.acts.play(scene)
    }
}

/// What an attack does at a moment.
trait Play: Send {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending>;
}

impl<F: FnMut(&mut Scene<'_>) -> Vec<Sending> + Send> Play for F {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        self(scene)
    }
}

/// All attacks, in the order they are played in.
pub fn all() -> Vec<Attack> {
    in_statements().into_iter().chain(on_the_network()).collect()
}

/// What is said that should not be.
fn in_statements() -> [Attack; 9] {
    [
        Attack {
            about: "when it leads: two valid blocks, one to each half, with votes for both; both proposals to one operator",
            provable: Provable::Always,
            ..Attack::of("equivocating-leader", in_places(statements::equivocating_leader))
        },
        Attack {
            about: "PREPARE and COMMIT for two digests in one round, and two different ROUND-CHANGEs, to everybody",
            provable: Provable::Always,
            ..Attack::of("equivocating-voter", in_places(statements::equivocating_voter))
        },
        Attack {
            about: "votes for digests whose value nobody gets; when it leads, the block to one operator and its digest to all",
            ..Attack::of("withheld-value", in_places(statements::withheld_value))
        },
        Attack {
            about: "well-signed COMMITs with good shares before any PREPARE, for proposed and invented digests, now and ahead",
            provable: Provable::Always,
            ..Attack::of("bare-commit", statements::bare_commit)
        },
        Attack {
            about: "votes and proposals of everybody, byte for byte, of this height and of old ones",
            refused_as: &["replay"],
            ..Attack::of("replay", statements::replay)
        },
        Attack {
            about: "well-signed votes, round changes and proposals of past, far and impossible rounds",
            refused_as: &["round_oob"],
            provable: Provable::Perhaps,
            ..Attack::of("wrong-round", statements::wrong_round)
        },
        Attack {
            about: "ROUND-CHANGEs with foreign, repeated or too few PREPAREs; proposals and certificates with forged quorums",
            refused_as: &["bad_justification"],
            provable: Provable::Perhaps,
            ..Attack::of("forged-justification", statements::forged_justification)
        },
        Attack {
            about: "statements whose author is another operator or nobody, and proposals of a round somebody else leads",
            refused_as: &["unauthorized", "sig_invalid"],
            ..Attack::of("id-mismatch", id_mismatch::play)
        },
        Attack {
            about: "votes with bent, swapped, empty and random signatures; well-signed COMMITs with bad seal shares",
            refused_as: &["sig_invalid"],
            provable: Provable::Perhaps,
            ..Attack::of("bad-signature", statements::bad_signature)
        },
    ]
}

/// What costs others more than it costs the attacker.
fn on_the_network() -> [Attack; 5] {
    [
        Attack {
            about: "valid but useless votes and questions at ten times the rate, heights up to 2^64-1, frames at the limit, junk; once more than is read",
            intensity: 10,
            provable: Provable::Perhaps,
            ..Attack::of("flood", flood::Flood::default())
        },
        Attack {
            about: "values of nested JSON at the limit, for duties nobody asked about and in answer to questions for others",
            ..Attack::of("nested-json", nested_json::NestedJson::default())
        },
        Attack {
            about: "questions for blocks, testimony, status and values at ten times the rate, over and over the same",
            intensity: 10,
            ..Attack::of("questions", questions::Questions::default())
        },
        Attack {
            about: "status of a member that runs under another lock, each worth a warning",
            ..Attack::of("wrong-lock", wrong_lock::play)
        },
        Attack {
            about: "claims to be far ahead, and answers questions for blocks with nothing, as late as it can",
            ..Attack::of("slow-sync", slow_sync::play)
        },
    ]
}

/// The attacks of these names, `all` being every one; the unknown name otherwise.
pub fn named(names: &[String]) -> Result<Vec<Attack>, String> {
    if names.iter().any(|name| name == "all") {
        return Ok(all());
    }
    let find = |name: &String| all().into_iter().find(|attack| attack.name == name).ok_or(name.clone());
    names.iter().map(find).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ear::Ear;
    use crate::follower::Follower;
    use crate::traitor::Traitor;
    use aequa_byzantine::Dice;
    use aequa_types::InstanceId;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// What an attack is played on: a fresh cluster of five, in which nobody has said anything.
    pub(crate) struct Stage {
        traitor: Traitor,
        dice: Dice,
        ear: Ear,
    }

    impl Stage {
        pub(crate) fn new() -> Self {
            let traitor = Traitor::of_test();
            let ear = Ear::new(Arc::new(Follower::new(&traitor.lock)));
            Self { traitor, dice: Dice::new(1), ear }
        }

        pub(crate) fn scene(&mut self) -> Scene<'_> {
            Scene::new(&self.traitor, &mut self.dice, &self.ear)
        }

        /// Goes on to a height whose scene is wanted: each operator leads one of five.
        pub(crate) fn at_height(&mut self, wanted: impl Fn(&Scene<'_>) -> bool) -> InstanceId {
            for _ in 0..5 {
                let scene = self.scene();
                if wanted(&scene) {
                    return scene.instance();
                }
                self.ear.follower.grow(self.traitor.index);
            }
            panic!("no such height");
        }
    }

    #[test]
    fn attacks_are_found_by_their_names_and_no_two_share_one() {
        let names: BTreeSet<_> = all().iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all().len());
        for name in names {
            assert_eq!(named(&[name.to_owned()]).unwrap()[0].name, name);
        }
        assert_eq!(named(&["replay".into(), "all".into()]).unwrap().len(), all().len());
        assert_eq!(named(&["nonsense".into()]).err(), Some("nonsense".into()));
    }
}
