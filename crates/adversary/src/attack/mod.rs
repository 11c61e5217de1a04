//! The attacks. Each is one type; its name is what `--attack` takes.

mod bad_signature;
mod bare_commit;
mod equivocation;
mod flood;
mod forgery;
mod id_mismatch;
mod replay;
mod withholding;
mod wrong_round;

pub use crate::scene::{Scene, Sending};

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
mod tests {
    use super::*;
    use std::collections::BTreeSet;

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
