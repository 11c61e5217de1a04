//! Some of the faults over the test endpoints of nodes, in the original's form.

use crate::agent::Plan;
use crate::ear::Ear;
use crate::scene::Scene;
use crate::traitor::{Traitor, Unguarded as _};
use aequa_byzantine::Dice;
use aequa_types::{Block, Decision, InstanceId, Message, PrePrepare, Prepared, Round, Signed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ssz::Encode as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Made-up peers when nobody says how many.
const IDS_MAX_DEFAULT: u64 = 1024;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Visits per second of each kind and endpoint: they are for correctness, the network is for load.
const VISITS_PER_SECOND: u32 = 4;
/// Heights above the one being agreed that a node takes messages of without keeping them. A valid proposal
/// there is judged like any other, and is in nobody's way.
const TAKEN_NOT_KEPT: std::ops::RangeInclusive<i64> = 5..=7;
/// Variables of the contract for parts of the original's agent that this one has not: set, they are refused.
const UNSUPPORTED: [&str; 4] = ["ENDPOINTS_TX", "ENDPOINTS_DUTY", "ATTACK_BEAST", "BEAST_GROUP_PUBKEY_B64"];

/// Which test endpoints to visit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// URLs of `/e2e/qbft`.
    pub qbft: Vec<String>,
    /// URLs that `/e2e/p2p/…` is appended to.
    pub p2p: Vec<String>,
    /// What made-up peers are called.
    pub id_prefix: String,
    /// How many of them there are.
    pub ids_max: u64,
}

impl Endpoints {
    /// From the variables of the contract: `ENDPOINTS_QBFT`, `ENDPOINTS_P2P`, `P2P_ID_PREFIX`, `P2P_MAX_IDS`.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let text = |name: &str| variable(name).filter(|value| !value.is_empty());
        if let Some(name) = UNSUPPORTED.into_iter().find(|name| text(name).is_some()) {
            return Err(format!("{name}: this agent has no such attack"));
        }
        let list = |name: &str| -> Vec<String> {
            let text = text(name).unwrap_or_default();
            text.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect()
        };
        let ids_max = match text("P2P_MAX_IDS") {
            None => IDS_MAX_DEFAULT,
            Some(number) => number
                .parse()
                .ok()
                .filter(|ids| *ids > 0)
                .ok_or_else(|| format!("P2P_MAX_IDS: {number:?} is not an integer above 0"))?,
        };
        Ok(Self {
            qbft: list("ENDPOINTS_QBFT"),
            p2p: list("ENDPOINTS_P2P"),
            id_prefix: text("P2P_ID_PREFIX").unwrap_or_else(|| "X".into()),
            ids_max,
        })
    }
}

/// What was answered to one kind of visit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// Statuses the contract allows; the first is the one it is about, the others come when a height ends on
    /// the way.
    pub expected: &'static [u16],
    /// Status to number; 0 is no answer.
    pub seen: BTreeMap<u16, u64>,
}

impl Answers {
    /// Whether the contract's answer was seen, and none that it does not allow.
    pub fn are_as_expected(&self) -> bool {
        let allowed = self.seen.keys().all(|status| self.expected.contains(status));
        allowed && self.expected.first().is_some_and(|status| self.seen.contains_key(status))
    }
}

/// What was answered, by name of the visit.
pub(crate) type Visited = BTreeMap<&'static str, Answers>;

/// Visits endpoints beside the attacks on the network.
pub(crate) struct Visitor {
    stop: oneshot::Sender<()>,
    work: JoinHandle<Visited>,
}

impl Visitor {
    pub fn start(endpoints: &Endpoints, traitor: Arc<Traitor>, ear: Arc<Ear>, plan: &Plan) -> Self {
        let (stop, stopped) = oneshot::channel();
        let visits = Visits {
            endpoints: endpoints.clone(),
            http: reqwest::Client::new(),
            dice: Dice::new(plan.seed.wrapping_add(1)),
            traitor,
            ear,
            visited: Visited::new(),
        };
        Self { stop, work: tokio::spawn(visits.run(stopped)) }
    }

    pub async fn stop(self) -> Visited {
        // The work may have ended by itself: there was nothing to visit.
        let _ = self.stop.send(());
        self.work.await.unwrap_or_default()
    }
}

struct Visits {
    endpoints: Endpoints,
    http: reqwest::Client,
    dice: Dice,
    traitor: Arc<Traitor>,
    ear: Arc<Ear>,
    visited: Visited,
}

impl Visits {
    async fn run(mut self, stopped: oneshot::Receiver<()>) -> Visited {
        if !(self.endpoints.qbft.is_empty() && self.endpoints.p2p.is_empty()) {
            // What is under way when told to stop is not counted.
            tokio::select! {
                () = self.rounds() => {}
                _ = stopped => {}
            }
        }
        self.visited
    }

    async fn rounds(&mut self) {
        for turn in 1.. {
            for kind in KINDS {
                // Heights end fast: what is said of one is said at once, to all nodes.
                let visits = kind(&mut Scene::new(&self.traitor, &mut self.dice, &self.ear));
                for Visit { name, expected, body } in visits {
                    let urls = self.endpoints.qbft.clone();
                    self.visit(name, expected, &urls, &body).await;
                }
            }
            let id = format!("{}{}", self.endpoints.id_prefix, turn % self.endpoints.ids_max);
            for url in self.endpoints.p2p.clone() {
                let body = json!({ "id": id }).to_string();
                let url = url.trim_end_matches('/').trim_end_matches("/connect").to_owned();
                self.visit("http/connect", &[403], &[format!("{url}/connect")], &body).await;
                self.visit("http/disconnect", &[403], &[format!("{url}/disconnect")], &body).await;
            }
            tokio::time::sleep(Duration::from_secs(1) / VISITS_PER_SECOND).await;
        }
    }

    async fn visit(&mut self, name: &'static str, expected: &'static [u16], urls: &[String], body: &str) {
        let answers = urls.iter().map(|url| {
            let request = self.http.post(url).timeout(PATIENCE).body(body.to_owned());
            async move { request.send().await.map_or(0, |answer| answer.status().as_u16()) }
        });
        let seen = futures::future::join_all(answers).await;
        let answers = self.visited.entry(name).or_default();
        answers.expected = expected;
        seen.into_iter().for_each(|status| *answers.seen.entry(status).or_default() += 1);
    }
}

/// One message to an endpoint, and what it may be answered with.
#[derive(Debug, Clone)]
struct Visit {
    name: &'static str,
    expected: &'static [u16],
    body: String,
}

/// Taken; refused when its height ended on the way.
const TAKEN: &[u16] = &[200, 202];
/// Refused, whatever happens meanwhile.
const REFUSED: &[u16] = &[202];

/// Messages of each kind of fault, and some that are none, one kind of message after another.
const KINDS: [fn(&mut Scene<'_>) -> Vec<Visit>; 4] = [votes, proposals, round_changes, no_message];

fn no_message(_: &mut Scene<'_>) -> Vec<Visit> {
    vec![Visit { name: "http/bad-json", expected: &[400], body: "{".into() }]
}

fn visit(name: &'static str, expected: &'static [u16], fields: Value) -> Visit {
    Visit { name, expected, body: fields.to_string() }
}

fn with(fields: &Value, key: &str, value: Value) -> Value {
    let mut changed = fields.clone();
    changed[key] = value;
    changed
}

fn votes(scene: &mut Scene<'_>) -> Vec<Visit> {
    let (traitor, of) = (scene.traitor, scene.vote());
    let fields_of = |prepare: Signed| fields("prepare", &prepare, &Message::Prepare(prepare.clone()));
    let prepare_of = |round: Round| fields_of(traitor.prepare(Decision { round, ..of }));
    // Of the height that comes next: on a busy machine this one is over when the visit arrives.
    let next = Decision { instance: scene.instance_at(1), round: Round(0), digest: of.digest };
    let good = fields_of(traitor.prepare(next));
    let commit = traitor.commit(Decision { digest: scene.invented(), ..next });
    let other = scene.others().first().map_or(0, |operator| operator.0);
    vec![
        visit("http/valid", TAKEN, good.clone()),
        visit("http/replay", TAKEN, good.clone()),
        visit("http/wrong-round", REFUSED, with(&good, "Round", json!(0))),
        visit("http/impossible-round", REFUSED, prepare_of(Round(u64::MAX - 1))),
        // A node that is behind takes it for a message that came early.
        visit("http/far-round", &[202, 200], prepare_of(Round(of.round.0 + 1000))),
        visit("http/id-mismatch", REFUSED, with(&good, "ID", json!("another"))),
        visit("http/author-mismatch", REFUSED, with(&good, "From", json!(other.to_string()))),
        visit("http/unauthorized", REFUSED, with(&good, "From", json!("nobody"))),
        visit("http/bare-commit", TAKEN, fields("commit", &commit, &Message::Commit(commit.clone()))),
        visit("http/empty-signature", REFUSED, with(&good, "Sig", json!(""))),
        visit("http/short-signature", REFUSED, with(&good, "Sig", json!(STANDARD.encode([1; 63])))),
        visit("http/height", REFUSED, with(&good, "Height", json!(u64::MAX))),
    ]
}

fn proposals(scene: &mut Scene<'_>) -> Vec<Visit> {
    let mut visits = Vec::new();
    let Some(block) = scene.block() else { return visits };
    let at = |offset: i64| scene.instance_at(offset);
    let led = |offset: &i64| scene.traitor.leads(at(*offset), Round(0));
    // Nobody leads two heights that follow each other.
    if let Some(usurped) = (0..=1).find(|offset| !led(offset)) {
        let proposal = proposal(scene, at(usurped), Round(0), &block, Vec::new());
        visits.push(visit("http/preprepare-usurped", REFUSED, proposed("preprepare", proposal)));
    }
    if let Some(early) = TAKEN_NOT_KEPT.into_iter().find(led) {
        let valid = proposed("preprepare", proposal(scene, at(early), Round(0), &block, Vec::new()));
        visits.push(visit("http/preprepare-valueless", REFUSED, with(&valid, "Payload", json!(""))));
        visits.push(visit("http/preprepare-round", REFUSED, with(&valid, "Round", json!(1))));
        visits.push(visit("http/preprepare", TAKEN, valid));
    }
    let instance = scene.instance_at(1);
    let round = scene.traitor.next_led(instance, Round(1));
    let own = scene.traitor.change(instance, round, None, Vec::new()).change;
    let repeated = vec![own; scene.quorum().quorum()];
    // What justifies it is looked at by its instance, which comes after the answer.
    let bare = proposed("new_view", proposal(scene, instance, round, &block, Vec::new()));
    let forged = proposed("new_view", proposal(scene, instance, round, &block, repeated));
    visits.push(visit("http/new-view-round", REFUSED, with(&bare, "Round", json!(0))));
    visits.push(visit("http/new-view", TAKEN, bare));
    visits.push(visit("http/new-view-forged", REFUSED, forged));
    visits
}

/// A proposal of this block as if it were one of that height.
fn proposal(
    scene: &Scene<'_>,
    instance: InstanceId,
    round: Round,
    block: &Block,
    round_changes: Vec<Signed>,
) -> PrePrepare {
    let mut block = block.clone();
    block.header.height = instance.height().unwrap_or_default();
    PrePrepare { round_changes, ..scene.proposal(round, &block) }
}

fn proposed(kind: &str, proposal: PrePrepare) -> Value {
    let signed = proposal.proposal.clone();
    fields(kind, &signed, &Message::PrePrepare(proposal))
}

fn round_changes(scene: &mut Scene<'_>) -> Vec<Visit> {
    let (traitor, of, instance) = (scene.traitor, scene.vote(), scene.instance_at(1));
    let own = traitor.prepare(of);
    let prepared = Prepared { round: of.round, digest: of.digest };
    let changed = |prepared: Option<Prepared>, prepares: Vec<Signed>| {
        let change = traitor.change(instance, of.round.next(), prepared, prepares);
        let signed = change.change.clone();
        fields("view_change", &signed, &Message::RoundChange(change))
    };
    vec![
        visit("http/view-change", TAKEN, changed(None, Vec::new())),
        visit("http/view-change-forged", REFUSED, changed(Some(prepared), vec![own.clone(), own])),
    ]
}

/// A message as the original spelt it, complete.
fn fields(kind: &str, signed: &Signed, message: &Message) -> Value {
    let votes_from_1 = matches!(kind, "prepare" | "commit");
    json!({
        "From": signed.author.to_string(),
        "Height": signed.instance.number(),
        "Round": signed.round.0 + u64::from(votes_from_1),
        "Type": kind,
        "Payload": STANDARD.encode(message.as_ssz_bytes()),
        "ID": signed.digest().unwrap_or_default(),
        "TraceID": "adversary",
        "Sig": STANDARD.encode(signed.signature.as_slice()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::tests::Stage;
    use std::collections::BTreeSet;

    #[test]
    fn endpoints_come_from_the_variables_of_the_contract() {
        let none = Endpoints::from_env(|_| None).unwrap();
        assert_eq!((none.qbft.len(), none.id_prefix.as_str(), none.ids_max), (0, "X", 1024));
        let some = Endpoints::from_env(|name| match name {
            "ENDPOINTS_QBFT" => Some("http://a/e2e/qbft, http://b/e2e/qbft".into()),
            "P2P_MAX_IDS" => Some("7".into()),
            _ => None,
        });
        let some = some.unwrap();
        assert_eq!((some.qbft.len(), some.p2p.len(), some.ids_max), (2, 0, 7));
        assert!(Endpoints::from_env(|name| (name == "P2P_MAX_IDS").then(|| "0".into())).is_err());
    }

    #[test]
    fn variables_of_attacks_that_do_not_exist_are_refused_when_set() {
        for name in UNSUPPORTED {
            let with =
                |value: &'static str| Endpoints::from_env(|asked| (asked == name).then(|| value.to_owned()));
            assert!(with("http://a").unwrap_err().starts_with(name));
            assert!(with("").is_ok(), "empty is not set");
        }
    }

    #[test]
    fn every_type_of_the_endpoint_is_visited_and_no_two_visits_share_a_name() {
        let mut stage = Stage::new();
        stage.at_height(|scene| {
            TAKEN_NOT_KEPT.into_iter().any(|offset| scene.traitor.leads(scene.instance_at(offset), Round(0)))
        });
        let visits = KINDS.into_iter().flat_map(|kind| kind(&mut stage.scene())).collect::<Vec<_>>();
        let names: BTreeSet<&str> = visits.iter().map(|visit| visit.name).collect();
        assert_eq!(names.len(), visits.len());
        let taken = visits.iter().filter(|visit| visit.expected == TAKEN);
        let types: BTreeSet<String> = taken
            .map(|visit| serde_json::from_str::<Value>(&visit.body).unwrap()["Type"].as_str().unwrap().into())
            .collect();
        let all = ["preprepare", "new_view", "prepare", "commit", "view_change"].map(String::from);
        assert_eq!(types, BTreeSet::from(all));
    }

    #[test]
    fn answers_must_contain_the_contracts_and_nothing_it_does_not_allow() {
        let answers =
            |expected, seen: &[(u16, u64)]| Answers { expected, seen: seen.iter().copied().collect() };
        assert!(answers(TAKEN, &[(200, 1), (202, 9)]).are_as_expected());
        for (expected, seen) in [
            (TAKEN, &[(202, 9)][..]),
            (TAKEN, &[]),
            (TAKEN, &[(200, 9), (0, 1)]),
            (REFUSED, &[(202, 9), (200, 1)]),
            (REFUSED, &[(0, 9)]),
        ] {
            assert!(!answers(expected, seen).are_as_expected(), "{seen:?}");
        }
    }
}
