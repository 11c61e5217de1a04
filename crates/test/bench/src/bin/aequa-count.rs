//! `aequa-count`: does one operation many times, for a tool that counts instructions; `cargo xtask count` runs it.

use aequa_bench::count::{OPERATIONS, TIMES};
use aequa_node::console;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Does one operation many times, for a tool that counts its instructions.
#[derive(Debug, Parser)]
#[command(name = "aequa-count", disable_version_flag = true)]
struct Cli {
    /// Its name; without one all names are shown, with how often each is done
    operation: Option<String>,
    /// A folder for what it keeps; must not exist
    #[arg(long, value_name = "DIR", requires = "operation")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Cli { operation, dir } = Cli::parse();
    let Some(wanted) = operation else {
        OPERATIONS.iter().for_each(|(name, _)| console::line(format!("{TIMES} {name}")));
        return ExitCode::SUCCESS;
    };
    let Some((_, run)) = OPERATIONS.iter().find(|(name, _)| *name == wanted) else {
        console::complain(format!("no operation is called {wanted}"));
        return ExitCode::from(2);
    };
    match run(&dir.unwrap_or_else(|| PathBuf::from("aequa-count"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(error);
            ExitCode::FAILURE
        }
    }
}
