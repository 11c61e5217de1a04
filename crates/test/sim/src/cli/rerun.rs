//! `aequa-sim --recording DIR --height H`: what real nodes recorded, under the simulator's checks.

use aequa_sim::run_recordings;
use aequa_types::{Domain, DutyKind};
use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Run a height again as real nodes recorded it, and check each recording and all of them together
#[derive(Debug, Parser)]
#[command(name = "aequa-sim", after_help = HELP)]
struct Arguments {
    /// Data directory of a node that ran with --record; repeatable
    #[arg(long = "recording", value_name = "DIR", required = true, value_parser = path())]
    recordings: Vec<PathBuf>,
    /// Height of the block, or slot of the duty
    #[arg(long, value_name = "H")]
    height: u64,
    /// A duty instead of a block
    #[arg(long, value_name = "TYPE", value_parser = ["attester", "proposer", "sync"])]
    duty: Option<String>,
    /// Cluster lock [default: cluster-lock.json in each directory]
    #[arg(long, value_name = "FILE", value_parser = path())]
    cluster_lock: Option<PathBuf>,
}

const HELP: &str = "\
Checked are: every signature; that each node's core, run again, says and decides the
same; one statement per operator, round and kind; that nothing was sent before it was
durable, and no COMMIT without its ground; one decision with its quorum, the same at
all nodes named.

  aequa-sim --recording c/node0 --recording c/node1 --height 17

Exit code: 0 all of it holds, 1 something does not, 2 usage, 3 not recorded or not readable.";

fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    NonEmptyStringValueParser::new().map(PathBuf::from)
}

/// Whether the command line is about recordings.
pub fn is_meant() -> bool {
    std::env::args().any(|word| word == "--recording" || word.starts_with("--recording="))
}

/// Reads the command line, runs the recordings, and says what came of it.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let domain = arguments.duty.as_deref().and_then(DutyKind::named).map_or(Domain::Block, Domain::Duty);
    let instance = domain.instance(arguments.height);
    let rerun = match run_recordings(&arguments.recordings, arguments.cluster_lock.as_deref(), instance) {
        Ok(rerun) => rerun,
        Err(problem) => {
            let _ = writeln!(std::io::stderr().lock(), "{problem}");
            return ExitCode::from(3);
        }
    };
    let mut out = std::io::stdout().lock();
    for line in rerun.lines.iter().chain(&rerun.violations) {
        // A closed pipe ends the reader's interest, not the check.
        let _ = writeln!(out, "{line}");
    }
    match rerun.violations.len() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
