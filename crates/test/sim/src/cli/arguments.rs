//! What can be asked for, and the command that asks for it again.

use aequa_sim::{Extent, Options};
use aequa_types::{Domain, InstanceId};
use clap::Parser;
use std::num::NonZeroUsize;

/// Seeds of the campaign in CI: three to four minutes on two cores.
pub const CI_SEEDS: u64 = 6_000;

/// Run a whole cluster in virtual time: the production replicas on a network, disks and clocks that fail
#[derive(Debug, Parser)]
#[command(name = "aequa-sim", after_help = help())]
pub struct Arguments {
    /// Run so many seeds [default: the campaign of CI]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["seed", "scale"])]
    seeds: Option<u64>,
    /// First seed of the campaign [default: 0]
    #[arg(long, value_name = "S", conflicts_with_all = ["seed", "scale"])]
    from: Option<u64>,
    /// Go on with further seeds until so many instances have been decided in total
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["seed", "scale"])]
    instances: Option<u64>,
    /// Threads; the outcome does not depend on them [default: one per core]
    #[arg(long, value_name = "J", value_parser = count(256), conflicts_with_all = ["seed", "scale"])]
    jobs: Option<usize>,
    /// Run this one seed, twice, and compare the two runs
    #[arg(long, value_name = "X", conflicts_with = "scale")]
    seed: Option<u64>,
    /// Print everything that happens
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Print only what concerns one instance, e.g. block/17 or attester/3
    #[arg(long, value_name = "INSTANCE", requires = "trace", value_parser = instance)]
    only: Option<InstanceId>,
    /// Count what a height costs without faults in clusters of 4 to 100, and how that grows
    #[arg(long, conflicts_with_all = ["nodes", "honest", "calm"])]
    scale: bool,
    /// What is not left to the seed.
    #[command(flatten)]
    pub pins: Pins,
}

/// What is fixed for every run instead of being left to its seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "What is not left to the seed")]
pub struct Pins {
    /// Operators, 1 to 100 [default: the seed draws 1, 4, 7 or 10]
    #[arg(long, value_name = "N", value_parser = count(100))]
    pub nodes: Option<usize>,
    /// Virtual milliseconds under faults, up to an hour [default: 12000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=3_600_000))]
    pub safety_ms: Option<u64>,
    /// Heights to be added once the faults are over, up to 1000 [default: 4]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(..=1000))]
    pub heights: Option<u64>,
    /// No operator lies
    #[arg(long)]
    pub honest: bool,
    /// Nothing fails and nobody lies
    #[arg(long, conflicts_with = "honest")]
    pub calm: bool,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Many seeds.
    Campaign {
        /// Which ones.
        extent: Extent,
        /// Threads.
        jobs: NonZeroUsize,
    },
    /// One seed.
    Single {
        /// The seed.
        seed: u64,
        /// Whether everything that happens is printed.
        trace: bool,
        /// The only instance of interest.
        only: Option<InstanceId>,
    },
    /// The table of costs.
    Scale,
}

impl Arguments {
    /// What is asked for.
    pub fn task(&self) -> Task {
        if self.scale {
            return Task::Scale;
        }
        if let Some(seed) = self.seed {
            return Task::Single { seed, trace: self.trace, only: self.only };
        }
        // Whoever asks for instances alone gets as many seeds as it takes.
        let unasked = if self.instances.is_some() { 0 } else { CI_SEEDS };
        let extent = Extent {
            first: self.from.unwrap_or(0),
            seeds: self.seeds.unwrap_or(unasked),
            instances: self.instances.unwrap_or(0),
        };
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let jobs = self.jobs.and_then(NonZeroUsize::new).unwrap_or_else(cores);
        Task::Campaign { extent, jobs }
    }
}

impl Pins {
    /// The options of a run.
    pub fn options(&self) -> Options {
        let defaults = Options::default();
        Options {
            nodes: self.nodes,
            safety_ms: self.safety_ms.unwrap_or(defaults.safety_ms),
            liveness_heights: self.heights.unwrap_or(defaults.liveness_heights),
            honest: self.honest,
            calm: self.calm,
            ..defaults
        }
    }

    /// The command that repeats a seed under these pins and shows one instance, or everything.
    pub fn command(&self, seed: u64, only: Option<InstanceId>) -> String {
        let mut command = format!("cargo xtask sim --seed {seed} --trace");
        let numbers = [
            ("--nodes", self.nodes.map(|nodes| nodes as u64)),
            ("--safety-ms", self.safety_ms),
            ("--heights", self.heights),
        ];
        if let Some(instance) = only {
            command += &format!(" --only {}", named(instance));
        }
        for (flag, number) in numbers {
            command += &number.map_or(String::new(), |number| format!(" {flag} {number}"));
        }
        for (flag, _) in [("--honest", self.honest), ("--calm", self.calm)].iter().filter(|(_, set)| *set) {
            command += &format!(" {flag}");
        }
        command
    }
}

fn help() -> String {
    format!(
        "\
Without arguments: the campaign of CI, {CI_SEEDS} seeds, three to four minutes on two cores.

A seed draws a cluster, its faults and its load, and gives the same run every time. First
there are faults: messages lost, doubled and late, partitions, crashes at any point, torn
disks, operators that lie. Then they end, and every honest node must make progress. All the
while oracles watch: one decision per instance, no operator contradicts itself, nothing is
sent before it is durable, the same state everywhere.

  cargo xtask sim                                  what CI runs
  cargo xtask sim --seeds 100000                   a long campaign
  cargo xtask sim --instances 1000000              until a million instances are decided
  cargo xtask sim --from 10000 --seeds 500 --nodes 7
  cargo xtask sim --seed 17 --trace | less         everything that happens in one run
  cargo xtask sim --seed 17 --trace --only block/5 one instance of it
  cargo xtask sim --scale                          messages and bytes per height, n = 4 to 100

A failing seed prints the trace of the instance and the one command that repeats it. Run
twice and compared is every {every}th seed of a campaign, and every single one.

Exit code: 0 all held; 1 a violation, or a situation that a campaign of at least {least}
seeds with nothing pinned never reached; 2 usage.",
        every = aequa_sim::REPEAT_EVERY,
        least = super::campaign::SEEDS_FOR_ALL_SITUATIONS,
    )
}

/// A number from 1 to this one.
fn count(most: usize) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    // The range is within u64, so its numbers fit on every machine that can run a cluster.
    clap::value_parser!(u64).range(1..=most as u64).map(|number| number as usize)
}

/// An instance as the command line takes it.
pub fn named(instance: InstanceId) -> String {
    format!("{}/{}", instance.domain().name(), instance.number())
}

fn instance(text: &str) -> Result<InstanceId, String> {
    let parsed = text.split_once('/').and_then(|(name, number)| {
        let domain = Domain::ALL.into_iter().find(|domain| domain.name() == name)?;
        Some(domain.instance(number.parse().ok()?))
    });
    parsed.ok_or_else(|| "an instance is block, attester, proposer or sync, a slash and a number".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{DutyKind, Height, Slot};
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("aequa-sim").chain(line.split_whitespace()))
    }

    fn task(line: &str) -> Task {
        parsed(line).unwrap().task()
    }

    fn extent(line: &str) -> Extent {
        match task(line) {
            Task::Campaign { extent, .. } => extent,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_argument_is_the_campaign_of_ci_and_the_help_says_how_long_it_is() {
        assert_eq!(extent(""), Extent { first: 0, seeds: CI_SEEDS, instances: 0 });
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains(&format!("{CI_SEEDS} seeds")));
    }

    #[test]
    fn seeds_and_instances_make_the_extent() {
        assert_eq!(extent("--seeds 9 --from 4"), Extent { first: 4, seeds: 9, instances: 0 });
        assert_eq!(extent("--instances 5"), Extent { first: 0, seeds: 0, instances: 5 });
        assert_eq!(extent("--instances 5 --seeds 2"), Extent { first: 0, seeds: 2, instances: 5 });
        let jobs = NonZeroUsize::new(3).unwrap();
        assert!(matches!(task("--jobs 3"), Task::Campaign { jobs: found, .. } if found == jobs));
        assert_eq!(task("--scale --heights 3"), Task::Scale);
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused_as_usage() {
        for line in [
            "--seed 1 --seeds 2",
            "--seed 1 --from 2",
            "--seed 1 --instances 2",
            "--seed 1 --jobs 2",
            "--seed 1 --scale",
            "--scale --seeds 3",
            "--scale --nodes 4",
            "--scale --calm",
            "--honest --calm",
        ] {
            let error = parsed(line).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (ErrorKind::ArgumentConflict, 2), "{line}");
        }
        for line in ["--trace", "--seed 1 --only block/2", "--only block/2"] {
            let error = parsed(line).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (ErrorKind::MissingRequiredArgument, 2), "{line}");
        }
    }

    #[test]
    fn numbers_out_of_bounds_and_unknown_instances_are_refused() {
        for line in [
            "--nodes 0",
            "--nodes 101",
            "--seeds 0",
            "--instances 0",
            "--jobs 0",
            "--jobs 257",
            "--heights 1001",
            "--safety-ms 3600001",
            "--seed -1",
            "--seed 1 --trace --only block",
            "--seed 1 --trace --only blocks/1",
            "--seed 1 --trace --only block/x",
        ] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parsed("--nodes 100").unwrap().pins.nodes, Some(100));
    }

    #[test]
    fn the_command_that_repeats_a_seed_asks_for_the_same_run() {
        let instance = InstanceId::duty(DutyKind::Proposer, Slot(3));
        for line in ["", "--nodes 7 --safety-ms 10 --heights 0 --honest", "--calm --heights 20"] {
            let pins = parsed(line).unwrap().pins;
            for only in [None, Some(instance)] {
                let command = pins.command(17, only);
                let again = parsed(command.strip_prefix("cargo xtask sim ").unwrap()).unwrap();
                assert_eq!(again.task(), Task::Single { seed: 17, trace: true, only });
                assert_eq!(again.pins.options(), pins.options());
            }
        }
        let pins = Pins { nodes: Some(4), ..Pins::default() };
        let command = pins.command(17, Some(InstanceId::Block(Height(5))));
        assert_eq!(command, "cargo xtask sim --seed 17 --trace --only block/5 --nodes 4");
    }
}
