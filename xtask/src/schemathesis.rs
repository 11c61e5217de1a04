//! schemathesis against a cluster of our own: do the nodes do what `/openapi.json` says?
//!
//! The tester comes from PyPI into a folder of the build output; where that cannot be reached the chore
//! says so and ends well. The nodes are those of `dvt-node devnet`, which ends them when it ends.

use crate::failure::Failure;
use crate::shell::{cargo, program, python_with, run, say};
use crate::tree;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The version the exceptions in `schemathesis.toml` were written for.
const VERSION: &str = "4.32.5";
/// What the tester may and may not expect, with the reasons.
const CONFIG: &str = "xtask/schemathesis.toml";
/// API of node i; monitoring is 20 above.
const BASE_PORT: u16 = 47_600;
/// Peer to peer port of node i.
const BASE_P2P_PORT: u16 = 47_700;
/// Where a node says whether it is ready, above [`BASE_PORT`].
const MONITORING: u16 = 20;
/// How long four nodes may take to be ready: keys are opened one after the other.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a run takes when nobody says.
const SECONDS: &str = "120";

/// `cargo xtask schemathesis [--max-examples N] [--seconds S]`.
pub fn schemathesis(args: &[String]) -> Result<(), Failure> {
    let limits = limits(args)?;
    let dir = tree::target().join("schemathesis");
    let venv = dir.join(VERSION);
    let Some(tester) = python_with(&venv, "schemathesis", VERSION).map(|_| venv.join("bin/schemathesis"))
    else {
        say(format!("skipped: schemathesis {VERSION} cannot be installed here: no python3, or no PyPI"));
        return Ok(());
    };
    run(cargo(&["build", "--workspace", "--bin", "dvt-node"]))?;
    let cluster = Cluster::start(&dir.join(format!("cluster-{}", std::process::id())))?;
    let mut tests = program(&tester.to_string_lossy());
    // Every check is on unless the configuration says otherwise; named here, they could not be turned off there.
    tests.args(["--config-file", CONFIG, "run", "--continue-on-failure", "--no-color"]);
    tests.args(&limits).arg(format!("http://127.0.0.1:{BASE_PORT}/openapi.json"));
    let result = run(tests);
    let alive = (0..4).all(|node| answers(BASE_PORT + MONITORING + node, "/livez"));
    say(format!("logs of the nodes: {}", cluster.dir.display()));
    match alive {
        true => result,
        false => Err(Failure::Findings {
            check: "schemathesis",
            findings: vec!["a node does not live any more".into()],
        }),
    }
}

/// The flags of the tester for ours.
fn limits(args: &[String]) -> Result<Vec<String>, Failure> {
    let (mut examples, mut seconds) = (None, SECONDS.to_owned());
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        let number = || {
            let number = rest.clone().next().filter(|value| value.parse::<u32>().is_ok_and(|n| n > 0));
            number.cloned().ok_or_else(|| Failure::Usage(format!("{flag} takes a number")))
        };
        match flag.as_str() {
            "--max-examples" => examples = Some(number()?),
            "--seconds" => seconds = number()?,
            other => return Err(Failure::Usage(format!("cargo xtask schemathesis has no {other}"))),
        }
        rest.next();
    }
    let mut limits = vec!["--max-time".to_owned(), seconds];
    limits.extend(examples.into_iter().flat_map(|examples| ["--max-examples".to_owned(), examples]));
    Ok(limits)
}

/// A devnet of four nodes with the transaction API on; it ends with this value.
struct Cluster {
    dir: PathBuf,
    devnet: Child,
}

impl Cluster {
    fn start(dir: &Path) -> Result<Self, Failure> {
        let node = tree::target().join("debug/dvt-node");
        let mut devnet = program(&node.to_string_lossy());
        devnet.args(["devnet", "--base-port", &BASE_PORT.to_string()]);
        devnet.args(["--base-p2p-port", &BASE_P2P_PORT.to_string(), "--dir"]).arg(dir);
        devnet.stdin(Stdio::null()).stdout(Stdio::null());
        let start = |source| Failure::Start { command: "dvt-node devnet".into(), source };
        let mut cluster = Self { dir: dir.into(), devnet: devnet.spawn().map_err(start)? };
        let deadline = Instant::now() + READY_WITHIN;
        while !(0..4).all(|node| answers(BASE_PORT + MONITORING + node, "/readyz")) {
            if let Ok(Some(status)) = cluster.devnet.try_wait() {
                return Err(Failure::Program { command: "dvt-node devnet".into(), status });
            }
            if Instant::now() > deadline {
                let findings = vec![format!("the nodes were not ready within {} s", READY_WITHIN.as_secs())];
                return Err(Failure::Findings { check: "schemathesis", findings });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The nodes follow their parent.
        let _ = self.devnet.kill();
        let _ = self.devnet.wait();
    }
}

/// Whether a local server answers a path with 200.
fn answers(port: u16, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(&head == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_and_time_is_always_bounded() {
        let of = |line: &[&str]| limits(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]).unwrap(), ["--max-time", SECONDS]);
        let both = of(&["--max-examples", "500", "--seconds", "60"]).unwrap();
        assert_eq!(both, ["--max-time", "60", "--max-examples", "500"]);
        for bad in [&["--seconds"][..], &["--seconds", "0"], &["--max-examples", "x"], &["--fast"]] {
            assert_eq!(of(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
