//! Programs that measure themselves: the probe, and the peer. One process per node, and a line of each at the end.

use crate::error::BenchError;
use crate::figures::{Figures, WARM_UP, quantile_of};
use crate::link::Links;
use crate::plan::Row;
use crate::ports;
use crate::probe::Scheme;
use crate::usage::Look;
use aequa_node::process::{Process, command, tail};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time they have for everything but the measurement.
const PATIENCE: Duration = Duration::from_secs(40);
/// Time between two looks at what they wrote.
const POLL: Duration = Duration::from_millis(100);
/// Last lines shown of one that ended.
const LOG_LINES: usize = 4;
/// Threads of a node of the peer.
const PEER_THREADS: &str = "2";

/// The probe on a row; none where the row has something that it has not.
pub async fn probe(row: &Row, dir: &Path, seconds: u64) -> Result<Option<Figures>, BenchError> {
    let Some(bytes) = row.value_bytes() else { return Ok(None) };
    let nodes = u16::from(row.nodes);
    let port = ports::free(2 * nodes)?;
    let is_long = !row.delay.is_zero();
    let dial_port = if is_long { port + nodes } else { port };
    let between: Vec<_> = (0..nodes).map(|node| (dial_port + node, port + node)).collect();
    let _links = match is_long {
        true => Some(Links::open(&between, row.delay).await?),
        false => None,
    };
    let scheme = if row.sealed { Scheme::Sealed } else { Scheme::Ed25519 };
    let program = std::env::current_exe().map_err(BenchError::system("cannot find this program"))?;
    let args = |node: u8| {
        let numbers =
            [("--me", node.to_string()), ("--nodes", nodes.to_string()), ("--port", port.to_string())];
        let more = [("--dial-port", dial_port.to_string()), ("--bytes", bytes.to_string())];
        let rest = [("--scheme", scheme.name().to_owned()), ("--seconds", seconds.to_string())];
        let mut args = vec!["probe-node".to_owned(), "--dir".into(), dir.to_string_lossy().into_owned()];
        for (name, value) in numbers.into_iter().chain(more).chain(rest) {
            args.extend([name.to_owned(), value]);
        }
        args
    };
    let contestant = Contestant { who: "probe", program: &program, dir, pace: "blocks/s" };
    let mut figures = contestant.run(row.nodes, args, seconds).await?;
    figures.block_bytes = (bytes >= 1 << 20).then_some(bytes as f64);
    Ok(Some(figures))
}

/// The peer on a row; none where the row has something that it has not.
pub async fn peer(
    program: &Path,
    row: &Row,
    dir: &Path,
    seconds: u64,
) -> Result<Option<Figures>, BenchError> {
    let Some(bytes) = row.value_bytes().filter(|_| row.delay.is_zero()) else { return Ok(None) };
    let port = ports::free(u16::from(row.nodes))?;
    let scheme = if row.sealed { "bls" } else { "ed" };
    let args = |node: u8| {
        let folder = dir.join(node.to_string()).to_string_lossy().into_owned();
        let (place, size) = ([node.to_string(), row.nodes.to_string(), port.to_string()], bytes.to_string());
        let rest = [folder, scheme.to_owned(), size, seconds.to_string(), PEER_THREADS.to_owned()];
        place.into_iter().chain(rest).collect()
    };
    let contestant = Contestant { who: "peer", program, dir, pace: "finals/s" };
    let mut figures = contestant.run(row.nodes, args, seconds).await?;
    figures.block_bytes = (bytes >= 1 << 20).then_some(bytes as f64);
    Ok(Some(figures))
}

struct Contestant<'a> {
    who: &'static str,
    program: &'a Path,
    dir: &'a Path,
    /// What it calls its blocks per second.
    pace: &'static str,
}

impl Contestant<'_> {
    async fn run(
        &self,
        nodes: u8,
        args: impl Fn(u8) -> Vec<String>,
        seconds: u64,
    ) -> Result<Figures, BenchError> {
        let (mut processes, mut outputs) = (Vec::new(), Vec::new());
        for node in 0..nodes {
            let output = self.dir.join(format!("{}.{node}", self.who));
            let started = Process::spawn(command(self.program, &args(node)), &output, &output);
            processes.push(started.map_err(BenchError::system(format!("cannot start the {}", self.who)))?);
            outputs.push(output);
        }
        let (lines, used) = self.wait(&mut processes, &outputs, seconds).await?;
        let mut figures = figures_of(&lines, self.pace).ok_or_else(|| {
            BenchError::process(self.who, format!("it said something else:\n{}", lines.join("\n")))
        })?;
        if let Some((before, after)) = used {
            after.charge(&before, &mut figures);
        }
        Ok(figures)
    }

    /// The lines of all, and two looks at what was used while all measured.
    async fn wait(
        &self,
        processes: &mut [Process],
        outputs: &[PathBuf],
        seconds: u64,
    ) -> Result<(Vec<String>, Option<(Look, Look)>), BenchError> {
        let began = Instant::now();
        let (mut first, mut last) = (None, None);
        let patience = PATIENCE + Duration::from_secs(seconds);
        while began.elapsed() < patience {
            let lines: Vec<String> = outputs.iter().filter_map(|output| self.line_of(output)).collect();
            if lines.len() == outputs.len() {
                return Ok((lines, first.zip(last)));
            }
            // A second after the warm-up of the slower one of the two, until the first has measured.
            if lines.is_empty() && began.elapsed() > WARM_UP + Duration::from_secs(1) {
                last = Look::at(processes).or(last);
                first = first.or(last);
            }
            for (process, output) in processes.iter_mut().zip(outputs) {
                if let Some(status) = process.ended().filter(|_| self.line_of(output).is_none()) {
                    let last = tail(output, LOG_LINES).unwrap_or_default().join("\n");
                    return Err(BenchError::process(self.who, format!("{status}\n{last}")));
                }
            }
            tokio::time::sleep(POLL).await;
        }
        let what = format!("figures of all nodes of the {}", self.who);
        Err(BenchError::Timeout { what, seconds: patience.as_secs() })
    }

    fn line_of(&self, output: &Path) -> Option<String> {
        let text = std::fs::read_to_string(output).ok()?;
        let line = text.lines().find(|line| value(line, self.pace).is_some())?;
        Some(line.to_owned())
    }
}

/// Medians of what the nodes say of one run.
fn figures_of(lines: &[String], pace: &str) -> Option<Figures> {
    let median = |key: &str| {
        let mut values: Vec<f64> = lines.iter().filter_map(|line| value(line, key)).collect();
        quantile_of(&mut values, 0.5)
    };
    Some(Figures {
        blocks_per_s: median(pace)?,
        p50_ms: median("p50"),
        p99_ms: median("p99"),
        sent_bytes: median("sent/block"),
        ..Figures::default()
    })
}

/// The number after `key=` in a line of words.
fn value(line: &str, key: &str) -> Option<f64> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_both_are_understood() {
        let probe = |pace: u32| format!("blocks/s={pace}.0 p50=1.250 p99=3.000 sent/block=1845");
        let figures = figures_of(&[probe(800), probe(802), probe(900)], "blocks/s").unwrap();
        assert_eq!(
            (figures.blocks_per_s, figures.p50_ms, figures.sent_bytes),
            (802.0, Some(1.25), Some(1845.0))
        );
        let peer = "me=0 scheme=ed n=4 size=32 secs=10.0 finals=2810 finals/s=281.0 MB/s=0.0 nulls=0 \
                    own_lat_ms p50=3.80 p90=5.00 p99=9.10 (k=702)";
        let figures = figures_of(&[peer.to_owned()], "finals/s").unwrap();
        assert_eq!((figures.blocks_per_s, figures.p99_ms, figures.sent_bytes), (281.0, Some(9.1), None));
        assert_eq!(figures_of(&["nothing".to_owned()], "finals/s"), None);
    }
}
