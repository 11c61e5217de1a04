//! Running programs and saying so.

use crate::failure::Failure;
use crate::tree;
use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Prints a line. A reader that went away is no reason to stop a check.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line to standard error.
pub fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "xtask: {line}");
}

/// The cargo that runs this program, in the root of the repository.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = program(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(args);
    command
}

/// A program in the root of the repository.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(tree::root());
    command
}

/// Runs a program with its output shown; an error unless it succeeds.
pub fn run(mut command: Command) -> Result<(), Failure> {
    let line = describe(&command);
    say(format!("$ {line}"));
    let status = command.status().map_err(|source| Failure::Start { command: line.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Failure::Program { command: line, status }) }
}

/// Runs a program and returns what it wrote.
pub fn capture(mut command: Command) -> Result<Output, Failure> {
    command.output().map_err(|source| Failure::Start { command: describe(&command), source })
}

/// Runs a program and returns its standard output; an error unless it succeeds.
pub fn read(mut command: Command) -> Result<String, Failure> {
    command.stderr(Stdio::inherit());
    let line = describe(&command);
    let output = capture(command)?;
    if !output.status.success() {
        return Err(Failure::Program { command: line, status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program can be run: it is installed, and says its version.
pub fn is_installed(mut command: Command) -> bool {
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The python of the folder `venv`, into which this version of a package of PyPI is installed unless it is there; none
/// where that fails.
pub fn python_with(venv: &Path, package: &str, version: &str) -> Option<PathBuf> {
    let (python, done) = (venv.join("bin/python"), venv.join("installed"));
    if done.exists() {
        return Some(python);
    }
    let mut make = program("python3");
    make.args(["-m", "venv"]).arg(venv);
    run(make).ok()?;
    let mut install = program(&venv.join("bin/pip").to_string_lossy());
    install.args(["install", "--quiet", "--disable-pip-version-check"]);
    install.arg(format!("{package}=={version}"));
    run(install).ok()?;
    std::fs::write(done, "").ok()?;
    Some(python)
}

/// The command line as a human would type it.
fn describe(command: &Command) -> String {
    let name = std::path::Path::new(command.get_program())
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(name).chain(args).collect::<Vec<_>>().join(" ")
}
