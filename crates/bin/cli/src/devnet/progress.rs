//! What a devnet shows while it runs: live lines in a terminal, plain lines elsewhere.

use crate::client::NodeStatus;
use crate::load::Counts;
use aequa_node::console;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Rates are over this many looks.
const WINDOW: usize = 10;
/// Looks between two plain lines.
const PLAIN_EVERY: u32 = 5;

/// Everything shown.
#[derive(Debug)]
pub(super) struct View {
    /// Last certified height.
    pub(super) height: u64,
    /// Transactions in blocks seen.
    pub(super) transactions: u64,
    /// State of each node.
    pub(super) nodes: Vec<NodeView>,
    /// Counts and p50, p99 of the load.
    pub(super) load: Option<(Counts, Option<Duration>, Option<Duration>)>,
    history: VecDeque<(Instant, u64, u64)>,
}

/// One node.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeView {
    /// Its height; none until it answers.
    pub(super) height: Option<u64>,
    state: String,
}

impl View {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            height: 0,
            transactions: 0,
            nodes: vec![NodeView::default(); nodes],
            load: None,
            history: VecDeque::new(),
        }
    }

    /// One line about the cluster; the rates are those since the looks before.
    fn cluster_line(&mut self) -> String {
        self.history.push_back((Instant::now(), self.height, self.transactions));
        if self.history.len() > WINDOW {
            self.history.pop_front();
        }
        let (blocks, transactions) = self.rates();
        let mut line = format!("height {}  {blocks:.1} blocks/s  {transactions:.0} tx/s", self.height);
        if let Some((counts, p50, p99)) = &self.load {
            line.push_str(&format!(
                "  p50 {} p99 {}  accepted {} included {} rejected {}",
                ms(*p50),
                ms(*p99),
                counts.accepted,
                counts.included,
                counts.rejected
            ));
        }
        line
    }

    fn rates(&self) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.history.front(), self.history.back()) else {
            return (0.0, 0.0);
        };
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        if seconds == 0.0 {
            return (0.0, 0.0);
        }
        // Heights start late: the first look happens before the first block is read.
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        (rate(first.1, last.1), rate(first.2, last.2))
    }
}

impl NodeView {
    /// Takes a node's answer; none means it did not answer.
    pub(super) fn update(&mut self, status: Option<NodeStatus>) {
        match status {
            Some(status) => {
                let connected = status.peers.iter().filter(|peer| peer.connected).count();
                let state = if status.ready { "ready".to_owned() } else { status.reasons.join(", ") };
                self.height = Some(status.height);
                self.state =
                    format!("{state}  round {}  {connected}/{} peers", status.round, status.peers.len());
            }
            None => self.state = "no answer".into(),
        }
    }

    fn line(&self, node: usize) -> String {
        let height = self.height.map_or("-".into(), |height| height.to_string());
        format!("node {node}: height {height}  {}", self.state)
    }
}

/// Where it is shown.
pub(super) enum Progress {
    /// Lines that are rewritten.
    Live {
        /// All lines.
        all: MultiProgress,
        /// First the cluster, then the nodes.
        lines: Vec<ProgressBar>,
    },
    /// Lines one after another.
    Plain {
        /// Looks until the next.
        wait: u32,
    },
}

impl Progress {
    pub(super) fn new(nodes: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Progress::Plain { wait: 0 };
        }
        let all = MultiProgress::new();
        let style =
            ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        let lines =
            (0..=nodes).map(|_| all.add(ProgressBar::no_length().with_style(style.clone()))).collect();
        Progress::Live { all, lines }
    }

    /// Shows the state of things.
    pub(super) fn show(&mut self, view: &mut View) {
        let cluster = view.cluster_line();
        match self {
            Progress::Live { lines, .. } => {
                let nodes = view.nodes.iter().enumerate().map(|(node, view)| view.line(node));
                for (bar, text) in lines.iter().zip(std::iter::once(cluster).chain(nodes)) {
                    bar.set_message(text);
                    bar.tick();
                }
            }
            Progress::Plain { wait } if *wait > 0 => *wait -= 1,
            Progress::Plain { wait } => {
                *wait = PLAIN_EVERY - 1;
                let heights: Vec<_> = view
                    .nodes
                    .iter()
                    .map(|node| node.height.map_or("-".into(), |height| height.to_string()))
                    .collect();
                console::line(format!("{cluster}  nodes {}", heights.join(" ")));
            }
        }
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        match self {
            Progress::Live { all, .. } => drop(all.println(text)),
            Progress::Plain { .. } => console::line(text),
        }
    }

    /// Leaves the last state on the screen.
    pub(super) fn finish(&self) {
        if let Progress::Live { lines, .. } = self {
            lines.iter().for_each(ProgressBar::abandon);
        }
    }
}

fn ms(value: Option<Duration>) -> String {
    value.map_or("-".into(), |value| format!("{:.0} ms", value.as_secs_f64() * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_between_the_looks() {
        let mut view = View::new(1);
        let now = Instant::now();
        view.history.extend([(now, 10, 100), (now + Duration::from_secs(2), 20, 400)]);
        assert_eq!(view.rates(), (5.0, 150.0));
        assert!(View::new(1).cluster_line().contains("0.0 blocks/s"));
    }

    #[test]
    fn a_silent_node_keeps_its_last_height() {
        let mut node = NodeView::default();
        let status =
            serde_json::from_str(r#"{"height":7,"ready":true,"peers":[{"connected":true}]}"#).unwrap();
        node.update(Some(status));
        assert!(node.line(0).contains("height 7  ready") && node.line(0).contains("1/1 peers"));
        node.update(None);
        assert_eq!(node.line(0), "node 0: height 7  no answer");
    }
}
