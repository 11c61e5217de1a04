//! Running a model and keeping what came of it.

use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, CheckerBuilder, Expectation, HasDiscoveries, Model, Representative};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// What a search found.
#[derive(Debug)]
pub struct Outcome {
    /// States reached, as often as they were reached.
    pub states: usize,
    /// Different states.
    pub unique: usize,
    /// Steps of the longest way that was followed.
    pub depth: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// Properties that must hold and do not, and situations that must occur and never did.
    pub failures: Vec<&'static str>,
    /// Per property the way to a state that shows or breaks it: its steps, readable.
    pub discoveries: BTreeMap<&'static str, Vec<String>>,
}

/// Searches breadth first until everything is seen, or every property was shown or broken.
pub fn search<M>(checker: CheckerBuilder<M>) -> Outcome
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let start = Instant::now();
    finish(checker.finish_when(HasDiscoveries::All).spawn_bfs().join(), start)
}

/// As [`search`], and says every few seconds how far it is.
pub fn search_aloud<M>(checker: CheckerBuilder<M>, say: fn(String)) -> Outcome
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let start = Instant::now();
    let checker = checker.finish_when(HasDiscoveries::All).spawn_bfs();
    finish(checker.join_and_report(&mut Progress { say }), start)
}

/// Searches depth first, taking states that differ only by the names of operators for one.
pub fn search_up_to_names<M>(checker: CheckerBuilder<M>) -> Outcome
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + Representative + 'static,
    M::Action: Clone + Debug + PartialEq,
{
    let start = Instant::now();
    finish(checker.symmetry().finish_when(HasDiscoveries::All).spawn_dfs().join(), start)
}

fn finish<M>(checker: impl Checker<M>, start: Instant) -> Outcome
where
    M: Model,
    M::State: Clone + Debug + Hash + PartialEq,
    M::Action: Clone + Debug + PartialEq,
{
    let model = checker.model();
    let found = checker.discoveries();
    let failures = model.properties().into_iter().filter(|property| {
        found.contains_key(property.name) == (property.expectation != Expectation::Sometimes)
    });
    let failures = failures.map(|property| property.name).collect();
    let discoveries = found.into_iter().map(|(name, path)| {
        (name, path.into_actions().iter().map(|action| model.format_action(action)).collect())
    });
    Outcome {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth().saturating_sub(1),
        elapsed: start.elapsed(),
        failures,
        discoveries: discoveries.collect(),
    }
}

/// Says how far a search is.
struct Progress {
    say: fn(String),
}

impl<M: Model> Reporter<M> for Progress {
    fn report_checking(&mut self, data: ReportData) {
        let (unique, depth, seconds) = (data.unique_states, data.max_depth, data.duration.as_secs());
        (self.say)(format!("{unique} states, {depth} steps deep, {seconds} s"));
    }

    fn report_discoveries(&mut self, _: &M, _: BTreeMap<&'static str, ReportDiscovery<M>>)
    where
        M::Action: Debug + PartialEq,
        M::State: Debug + Hash + PartialEq,
    {
    }

    fn delay(&self) -> Duration {
        Duration::from_secs(5)
    }
}
