//! `aequa-bench`: one table of what a cluster does on this machine, beside a bare probe and a peer.

use aequa_bench::campaign::Campaign;
use aequa_bench::error::BenchError;
use aequa_bench::machine::Machine;
use aequa_bench::probe::{self, ProbeArgs};
use aequa_bench::store::{self, OpenArgs, StoreArgs};
use aequa_bench::{plan, report};
use aequa_node::console;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where a file system in memory is on most machines.
const SHARED_MEMORY: &str = "/dev/shm";

/// Measures clusters of dvt-node processes on this machine, and beside each, in turns, a bare probe: three
/// hops, a synced log, the same signatures, and nothing else. One line per row; ratios are ours divided by
/// theirs. Leave the machine alone meanwhile: every row is a contest for its processors.
#[derive(Debug, Parser)]
#[command(name = "aequa-bench", disable_version_flag = true, args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:\n  \
    all rows, ten seconds each:          aequa-bench\n  \
    one kind of row, three rounds:       aequa-bench --only 'small n=4' --rounds 3\n  \
    what a log of every block costs:     aequa-bench --only 'n=4 memory' -- --log.level warn\n  \
    the table of docs/benchmarks.md:     aequa-bench --rounds 3 --peer BINARY --write\n  \
    the block store by itself:           aequa-bench store")]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// Length of each run, without the warm-up
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Runs of each row, ours, probe and peer in turns; the medians are shown
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Only rows that have this in their name; --list shows the names
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Show the names of the rows, and measure nothing
    #[arg(long)]
    list: bool,
    /// The program dvt-node, built with --release
    #[arg(long, value_name = "PATH", default_value = "target/release/dvt-node")]
    nodes_binary: PathBuf,
    /// A program to measure beside ours, called as: NODE NODES PORT FOLDER ed|bls BYTES SECONDS THREADS; its
    /// last words have finals/s=, p50= and p99=
    #[arg(long, value_name = "BINARY")]
    peer: Option<PathBuf>,
    /// A folder on a file system in memory [default: /dev/shm, where there is one]
    #[arg(long, value_name = "DIR")]
    memory_dir: Option<PathBuf>,
    /// A folder on a disk [default: beside the program dvt-node]
    #[arg(long, value_name = "DIR")]
    disk_dir: Option<PathBuf>,
    /// Write the table to docs/benchmarks.md; all rows of it
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// Further flags of every node
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// One node of the probe; this program starts them itself
    #[command(hide = true)]
    ProbeNode(ProbeArgs),
    /// The block store by itself: beside its engine and a file, and how starts and memory grow; some minutes
    Store(StoreArgs),
    /// One start; `store` starts it itself
    #[command(hide = true)]
    StoreOpen(OpenArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.part {
        Some(Part::ProbeNode(args)) => {
            probe::run(args).map(|()| true).map_err(|error| BenchError::process("probe", error.to_string()))
        }
        Some(Part::Store(args)) => store::run(args).map(|()| true),
        Some(Part::StoreOpen(args)) => store::open(args).map(|()| true),
        None => run(cli),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            console::complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Whether every row of ours was measured.
fn run(cli: Cli) -> Result<bool, BenchError> {
    let rows = plan::matching(cli.only.as_deref());
    if rows.is_empty() {
        return Err(BenchError::Usage("no row has that in its name; --list shows them".into()));
    }
    if cli.list {
        rows.iter().for_each(console::line);
        return Ok(true);
    }
    let write = cli.write;
    let how = how(&cli);
    let campaign = campaign(cli, rows)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::system("cannot start the runtime"))?;
    let outcomes = runtime.block_on(campaign.run())?;
    if write {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/benchmarks.md");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        let text = report::document(&outcomes, &Machine::here(&campaign.disk), &how);
        // Sections are about what other programs measure.
        let text = text + before.find("\n## ").map_or("", |at| &before[at..]);
        std::fs::write(&path, text).map_err(BenchError::system("cannot write docs/benchmarks.md"))?;
    }
    Ok(outcomes.iter().all(|outcome| outcome.ours.is_some()))
}

fn campaign(cli: Cli, rows: Vec<plan::Row>) -> Result<Campaign, BenchError> {
    for program in cli.peer.iter().chain([&cli.nodes_binary]) {
        if !program.is_file() {
            return Err(BenchError::Usage(format!("{} is no program", program.display())));
        }
    }
    let memory = cli.memory_dir.or_else(|| Some(PathBuf::from(SHARED_MEMORY)).filter(|dir| dir.is_dir()));
    let beside = cli.nodes_binary.parent().unwrap_or(Path::new(".")).to_owned();
    Ok(Campaign {
        rows,
        seconds: cli.seconds,
        rounds: cli.rounds,
        flags: cli.flags,
        peer: cli.peer,
        memory: memory.ok_or_else(|| {
            BenchError::Usage(format!("{SHARED_MEMORY} does not exist: name a folder with --memory-dir"))
        })?,
        disk: cli.disk_dir.unwrap_or(beside),
        node: cli.nodes_binary,
    })
}

/// How the figures of a document came about.
fn how(cli: &Cli) -> String {
    let runs = match cli.rounds {
        1 => "one run".to_owned(),
        rounds => format!("medians of {rounds} runs in turns"),
    };
    let flags = match cli.flags.is_empty() {
        true => String::new(),
        false => format!(", nodes with `{}`", cli.flags.join(" ")),
    };
    format!("({runs} of {} s each after a warm-up{flags}).", cli.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_document_says_how_its_figures_came_about() {
        let cli = Cli::parse_from(["x", "--rounds", "3", "--", "--log.level", "warn"]);
        assert_eq!(
            how(&cli),
            "(medians of 3 runs in turns of 10 s each after a warm-up, nodes with `--log.level warn`)."
        );
        assert_eq!(how(&Cli::parse_from(["x", "--seconds", "5"])), "(one run of 5 s each after a warm-up).");
    }
}
