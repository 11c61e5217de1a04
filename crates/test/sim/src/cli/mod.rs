//! The command line of the simulator.
//!
//! | module | one idea |
//! |---|---|
//! | `arguments` | what can be asked for, and the command that asks for it again |
//! | `campaign` | many seeds: what is run, what is said of it |
//! | `progress` | how far a campaign is, while it runs |
//! | `single` | one seed |
//! | `failure` | what went wrong, the trace of it, and the command that repeats it |
//! | `excerpt` | the lines of a trace that concern one instance |
//! | `scale` | what a height costs in clusters of growing size |

mod arguments;
mod campaign;
mod excerpt;
mod failure;
mod progress;
mod scale;
mod single;

use arguments::{Arguments, Task};
use clap::Parser as _;
use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// Reads the command line and does what it asks for.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    failure::explain_panics(arguments.pins.clone());
    let held = match arguments.task() {
        Task::Campaign { extent, jobs } => campaign::main(extent, jobs, &arguments.pins),
        Task::Single { seed, trace, only } => single::main(seed, trace, only, &arguments.pins),
        Task::Scale => scale::main(&arguments.pins),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a line. A closed pipe ends the reader's interest, not the run.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints counts with their names.
fn say_counts(title: &str, counts: &aequa_sim::Counts) {
    say(format!("{title}:"));
    for (name, count) in counts.iter().filter(|(_, count)| **count > 0) {
        say(format!("  {count:>12}  {name}"));
    }
}
