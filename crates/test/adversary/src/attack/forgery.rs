//! Claims with evidence that does not show them.

use super::{Play, Scene, Sending};
use aequa_types::statement::{CommitClaim, RoundChangeClaim};
use aequa_types::{Certificate, Claim, Decided, InstanceId, Message, OperatorIndex, Prepared, Round, Signed};

/// Round changes, proposals and certificates justified by foreign, repeated, missing or stolen statements.
#[derive(Default)]
pub struct Forgery;

impl Play for Forgery {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        let digest = scene.proposed_or_invented(&said);
        let (round, next) = (said.round, said.round.next());
        let own = scene.traitor.say(instance, round, Claim::Prepare(digest));
        let stolen = by_everybody(scene, instance, round, &Claim::Prepare(digest));
        let foreign = scene.memory().prepares_before(instance);
        let foreign: Vec<Signed> = foreign.into_iter().take(scene.quorum().quorum()).collect();
        let repeated = vec![own.clone(); scene.quorum().quorum()];
        let heard: Vec<Signed> = said.prepares.iter().take(scene.quorum().quorum() - 1).cloned().collect();
        let prepared = Some(Prepared { round, digest });
        let claims = [
            (prepared, stolen),
            (prepared, foreign),
            (prepared, repeated),
            (prepared, heard.clone()),
            (prepared, Vec::new()),
            (None, vec![own.clone()]),
            (Some(Prepared { round: next, digest }), heard),
            (Some(Prepared { round: Round(u64::MAX), digest }), vec![own]),
        ];
        let mut sendings: Vec<Sending> = claims
            .into_iter()
            .map(|(prepared, prepares)| {
                Sending::all(&Message::RoundChange(scene.change(instance, next, prepared, prepares)))
            })
            .collect();
        sendings.extend(self.proposals(scene, instance, next));
        sendings.push(Sending::all(&self.certificate(scene, instance, round)));
        sendings
    }
}

impl Forgery {
    fn proposals(&self, scene: &Scene<'_>, instance: InstanceId, from: Round) -> Vec<Sending> {
        let round = scene.next_led(instance, from);
        let Some(block) = scene.block(0) else { return Vec::new() };
        let claim = Claim::RoundChange(RoundChangeClaim { prepared: None });
        let own = scene.traitor.say(instance, round, claim.clone());
        let elsewhere = scene.traitor.say(scene.instance_at(-1), round, claim.clone());
        let quorum = scene.quorum().quorum();
        let justifications = [
            Vec::new(),
            vec![own.clone()],
            vec![own; quorum],
            vec![elsewhere; quorum],
            by_everybody(scene, instance, round, &claim),
        ];
        justifications
            .into_iter()
            .map(|changes| Sending::all(&Message::PrePrepare(scene.proposal(round, &block, changes))))
            .collect()
    }

    /// A decision nobody made.
    fn certificate(&self, scene: &mut Scene<'_>, instance: InstanceId, round: Round) -> Message {
        let digest = scene.invented();
        let commits =
            by_everybody(scene, instance, round, &Claim::Commit(CommitClaim { digest, seal: None }));
        let certificate = Certificate::from_commits(instance, round, digest, &commits);
        Message::Decided(Decided { certificate })
    }
}

/// What everybody is made to say, under the traitor's signature.
fn by_everybody(scene: &Scene<'_>, instance: InstanceId, round: Round, claim: &Claim) -> Vec<Signed> {
    let members: Vec<OperatorIndex> = scene.quorum().members().take(scene.quorum().quorum()).collect();
    members.into_iter().map(|member| scene.traitor.say_as(member, instance, round, claim.clone())).collect()
}
