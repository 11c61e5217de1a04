//! The same faults over the test endpoints of nodes, in the original's form.

use crate::agent::Plan;
use crate::dice::Dice;
use crate::ear::Ear;
use crate::scene::Scene;
use crate::traitor::Traitor;
use aequa_types::{Claim, Message, Signed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ssz::Encode as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Made-up peers when nobody says how many.
const IDS_MAX_DEFAULT: u64 = 1024;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Visits per second and kind of endpoint: they are for correctness, the network is for load.
const VISITS_PER_SECOND: u32 = 10;

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

type Answers = BTreeMap<(&'static str, u16), u64>;

/// Visits endpoints beside the attacks on the network.
pub(crate) struct Visitor {
    stop: tokio::sync::watch::Sender<bool>,
    work: JoinHandle<Answers>,
}

impl Visitor {
    pub fn start(endpoints: &Endpoints, traitor: Arc<Traitor>, ear: Arc<Ear>, plan: &Plan) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let visits = Visits {
            endpoints: endpoints.clone(),
            http: reqwest::Client::new(),
            dice: Dice::new(plan.seed.wrapping_add(1)),
            traitor,
            ear,
            answers: Answers::new(),
            turn: 0,
        };
        Self { stop, work: tokio::spawn(visits.run(stopped)) }
    }

    pub async fn stop(self) -> Answers {
        // The work may have ended by itself: there was nothing to visit.
        let _ = self.stop.send(true);
        self.work.await.unwrap_or_default()
    }
}

struct Visits {
    endpoints: Endpoints,
    http: reqwest::Client,
    dice: Dice,
    traitor: Arc<Traitor>,
    ear: Arc<Ear>,
    answers: Answers,
    turn: u64,
}

impl Visits {
    async fn run(mut self, stopped: tokio::sync::watch::Receiver<bool>) -> Answers {
        if self.endpoints.qbft.is_empty() && self.endpoints.p2p.is_empty() {
            return self.answers;
        }
        while !*stopped.borrow() {
            self.turn += 1;
            for (name, body) in self.messages() {
                for url in self.endpoints.qbft.clone() {
                    self.visit(name, &url, body.clone()).await;
                }
            }
            let id = format!("{}{}", self.endpoints.id_prefix, self.turn % self.endpoints.ids_max);
            for url in self.endpoints.p2p.clone() {
                let body = json!({ "id": id }).to_string();
                let url = url.trim_end_matches('/').trim_end_matches("/connect").to_owned();
                self.visit("http/connect", &format!("{url}/connect"), body.clone()).await;
                self.visit("http/disconnect", &format!("{url}/disconnect"), body).await;
            }
            tokio::time::sleep(Duration::from_secs(1) / VISITS_PER_SECOND).await;
        }
        self.answers
    }

    async fn visit(&mut self, name: &'static str, url: &str, body: String) {
        let answer = self.http.post(url).timeout(PATIENCE).body(body).send().await;
        let status = answer.map_or(0, |answer| answer.status().as_u16());
        *self.answers.entry((name, status)).or_default() += 1;
    }

    /// One message of each kind of fault, and one that is none.
    fn messages(&mut self) -> Vec<(&'static str, String)> {
        let mut scene = Scene::new(&self.traitor, &mut self.dice, &self.ear);
        let (instance, said) = (scene.instance(), scene.said());
        let digest = scene.proposed_or_invented(&said);
        let invented = scene.invented();
        let prepare = self.traitor.say(instance, said.round, Claim::Prepare(digest));
        let commit = self.traitor.commit(instance, said.round, invented);
        let good = fields("prepare", &prepare, &Message::Prepare(prepare.clone()));
        let with = |key: &str, value: Value| {
            let mut changed = good.clone();
            changed[key] = value;
            changed.to_string()
        };
        let other = self.traitor.others().first().map_or(0, |operator| operator.0);
        vec![
            ("http/valid", good.to_string()),
            ("http/replay", good.to_string()),
            ("http/wrong-round", with("Round", json!(0))),
            ("http/far-round", {
                let far =
                    self.traitor.say(instance, aequa_types::Round(u64::MAX - 1), Claim::Prepare(digest));
                fields("prepare", &far, &Message::Prepare(far.clone())).to_string()
            }),
            ("http/id-mismatch", with("ID", json!("another"))),
            ("http/author-mismatch", with("From", json!(other.to_string()))),
            ("http/unauthorized", with("From", json!("nobody"))),
            ("http/bare-commit", fields("commit", &commit, &Message::Commit(commit.clone())).to_string()),
            ("http/empty-signature", with("Sig", json!(""))),
            ("http/short-signature", with("Sig", json!(STANDARD.encode([1; 63])))),
            ("http/height", with("Height", json!(u64::MAX))),
            ("http/bad-json", "{".into()),
        ]
    }
}

/// A message as the original spelt it, complete.
fn fields(kind: &str, signed: &Signed, message: &Message) -> Value {
    // Votes of the original count from 1.
    let round = signed.round.0 + 1;
    json!({
        "From": signed.author.to_string(),
        "Height": signed.instance.height.0,
        "Round": round,
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
}
