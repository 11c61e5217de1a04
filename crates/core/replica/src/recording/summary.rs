//! What came of an instance, and whether it came of it again.

use crate::recording::timeline::{list, signers};
use crate::recording::{Comparison, End, Replay};
use aequa_qbft::Effect;
use aequa_types::{Digest, OperatorIndex, Round};

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The value.
    pub digest: Digest,
    /// The round whose COMMITs decided it.
    pub round: Round,
    /// Who signed those, where they were seen.
    pub signers: Vec<OperatorIndex>,
    /// Whether the group seal was seen.
    pub sealed: bool,
}

/// The decision of a replay.
pub fn decision(replay: &Replay) -> Option<Decision> {
    let newest = replay.certificate.as_ref()?;
    let first = replay.played.iter().flat_map(|played| &played.effects).find_map(|effect| {
        if let Effect::Decided { certificate, .. } = effect { Some(certificate) } else { None }
    });
    Some(Decision {
        digest: newest.digest,
        round: newest.round,
        signers: signers(first.unwrap_or(newest)),
        sealed: newest.group_seal().is_some(),
    })
}

/// What came of it: the decision, and whether everything was made again.
pub fn summary(replay: &Replay, comparison: Option<&Comparison>) -> Vec<String> {
    let mut lines = vec![in_words(decision(replay))];
    let (events, own) = (replay.events, replay.statements.len());
    let played = format!("replayed: {events} events, {own} own statements");
    match (&replay.end, comparison) {
        (End::Differs(difference), _) => lines.push(format!("differs: {difference}")),
        (End::Incomplete(number), _) => {
            lines.push(format!("the recording is not whole: something is missing before entry {number}"));
        }
        (End::Absent, _) => lines.push("the recording has nothing of this instance".into()),
        (End::Reproduced, None) => lines.push(format!("{played}, all made again; the vote log was not read")),
        (End::Reproduced, Some(comparison)) => {
            lines.push(format!("{played}, {}", against_the_log(comparison)));
            let Comparison { different, missing, ahead, unrecorded, .. } = comparison;
            for (what, places) in [
                ("differs from the vote log", different),
                ("recorded, and missing in the vote log", missing),
                ("recorded at the end, and not in the vote log", ahead),
                ("in the vote log, not in the recording", unrecorded),
            ] {
                lines.extend(places.iter().map(|place| format!("{what}: {place}")));
            }
        }
    }
    lines.extend(replay.lost().iter().map(|place| format!("the vote log did not give back: {place}")));
    lines
}

fn against_the_log(comparison: &Comparison) -> String {
    let Comparison { equal, pruned, .. } = comparison;
    let mut text = match (comparison.agrees(), equal) {
        (true, 0) => "all made again; the vote log no longer holds them".to_owned(),
        (true, _) => "all equal to the vote log".to_owned(),
        (false, _) => format!("{equal} equal to the vote log"),
    };
    if *equal > 0 && *pruned > 0 {
        text.push_str(&format!(" ({pruned} pruned from it)"));
    }
    text
}

fn in_words(decision: Option<Decision>) -> String {
    let Some(Decision { digest, round, signers, sealed }) = decision else {
        return "not decided in this recording".into();
    };
    let commits = if signers.is_empty() { String::new() } else { format!(", COMMITs of {}", list(&signers)) };
    let seal = if sealed { ", sealed by the group" } else { "" };
    format!("decided {digest} in round {round}{commits}{seal}")
}
