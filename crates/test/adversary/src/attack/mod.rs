//! The attacks. Each is one type; its name is what `--attack` takes.

mod bad_signature;
mod bare_commit;
mod equivocation;
mod flood;
mod forgery;
mod id_mismatch;
mod nested_json;
mod questions;
mod replay;
mod slow_sync;
mod withholding;
mod wrong_lock;
mod wrong_round;

pub use crate::scene::{Scene, Sending};

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
pub trait Attack: Send {
    /// What `--attack` takes.
    fn name(&self) -> &'static str;

    /// What it does, in one sentence.
    fn about(&self) -> &'static str;

    /// How many times the asked rate it sends at.
    fn intensity(&self) -> u32 {
        1
    }

    /// What the verifiers must count some of it as, in the words of their metrics; none when all of it is valid,
    /// or which part is not depends on the moment.
    fn refused_as(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it leaves evidence.
    fn provable(&self) -> Provable;

    /// The next sendings; none when the moment offers nothing.
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending>;
}

/// All attacks, in the order they are played in.
pub fn all() -> Vec<Box<dyn Attack>> {
    vec![
        Box::<equivocation::Leader>::default(),
        Box::<equivocation::Voter>::default(),
        Box::<withholding::Withholding>::default(),
        Box::<bare_commit::BareCommit>::default(),
        Box::<replay::Replay>::default(),
        Box::<wrong_round::WrongRound>::default(),
        Box::<forgery::Forgery>::default(),
        Box::<id_mismatch::IdMismatch>::default(),
        Box::<bad_signature::BadSignature>::default(),
        Box::<flood::Flood>::default(),
        Box::<nested_json::NestedJson>::default(),
        Box::<questions::Questions>::default(),
        Box::<wrong_lock::WrongLock>::default(),
        Box::<slow_sync::SlowSync>::default(),
    ]
}

/// The attacks of these names, `all` being every one; the unknown name otherwise.
pub fn named(names: &[String]) -> Result<Vec<Box<dyn Attack>>, String> {
    if names.iter().any(|name| name == "all") {
        return Ok(all());
    }
    let find = |name: &String| all().into_iter().find(|attack| attack.name() == name).ok_or(name.clone());
    names.iter().map(find).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::ear::Ear;
    use crate::follower::Follower;
    use crate::traitor::Traitor;
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
        let names: BTreeSet<_> = all().iter().map(|attack| attack.name()).collect();
        assert_eq!(names.len(), all().len());
        for name in names {
            assert_eq!(named(&[name.to_owned()]).unwrap()[0].name(), name);
        }
        assert_eq!(named(&["replay".into(), "all".into()]).unwrap().len(), all().len());
        assert_eq!(named(&["nonsense".into()]).err(), Some("nonsense".into()));
    }
}
