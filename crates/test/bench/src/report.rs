//! The table, for a terminal and for `docs/benchmarks.md`.

use crate::figures::Figures;
use crate::machine::Machine;
use crate::plan::{Content, Row};

/// What came of a row.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The row.
    pub row: Row,
    /// Medians of ours; none when it failed.
    pub ours: Option<Figures>,
    /// Medians of the probe, where it has such a row.
    pub probe: Option<Figures>,
    /// Medians of the peer, where it was asked for and has such a row.
    pub peer: Option<Figures>,
}

/// Title and width in a terminal of every column.
const COLUMNS: [(&str, usize); 12] = [
    ("row", 36),
    ("blocks/s", 8),
    ("beside", 20),
    ("p50 ms", 7),
    ("p99 ms", 7),
    ("cpu ms", 7),
    ("MiB", 5),
    ("KiB sent", 8),
    ("probe", 7),
    ("ratio", 6),
    ("peer", 7),
    ("ratio", 6),
];

/// What stands where nothing was measured.
const NOTHING: &str = "-";

/// The first line in a terminal.
pub fn title() -> String {
    aligned(&COLUMNS.map(|(title, _)| title.to_owned()))
}

/// A line in a terminal.
pub fn line(outcome: &Outcome) -> String {
    aligned(&cells(outcome))
}

/// The whole document.
pub fn document(outcomes: &[Outcome], machine: &Machine, how: &str) -> String {
    let mut text = String::from(HEAD);
    text.push_str(&format!("Measured on {}: {}\n{how}\n\n", machine.date, machine.description));
    text.push_str(&marked(&COLUMNS.map(|(title, _)| title.to_owned())));
    text.push_str(&format!("|{}\n", "---|".repeat(COLUMNS.len())));
    outcomes.iter().for_each(|outcome| text.push_str(&marked(&cells(outcome))));
    text.push_str(FOOT);
    text
}

fn cells(outcome: &Outcome) -> [String; COLUMNS.len()] {
    let Outcome { row, ours, probe, peer } = outcome;
    let of = |figure: fn(&Figures) -> Option<f64>, digits| number(ours.as_ref().and_then(figure), digits);
    let ratio = |other: &Option<Figures>| {
        number(ours.as_ref().zip(other.as_ref()).and_then(|(ours, other)| ours.ratio_to(other)), 2)
    };
    [
        row.to_string(),
        of(|ours| Some(ours.blocks_per_s), 0),
        ours.as_ref().and_then(|ours| beside(row, ours)).unwrap_or_default(),
        of(|ours| ours.p50_ms, 1),
        of(|ours| ours.p99_ms, 1),
        of(|ours| ours.cpu_ms, 2),
        of(|ours| ours.resident_mib, 0),
        of(|ours| ours.sent_bytes.map(|bytes| bytes / 1024.0), 1),
        number(probe.map(|probe| pace(&probe)), 0),
        ratio(probe),
        number(peer.map(|peer| pace(&peer)), 0),
        ratio(peer),
    ]
}

/// What is to be known of a row beside blocks per second.
fn beside(row: &Row, ours: &Figures) -> Option<String> {
    if !row.delay.is_zero() {
        let delays = ours.mean_ms? / (row.delay.as_secs_f64() * 1e3);
        return Some(format!("{delays:.2} delays"));
    }
    match row.content {
        Content::Small => None,
        Content::Large => {
            Some(format!("{:.1} MB/s at {:.2} MB", ours.megabytes_per_s()?, ours.block_bytes? / 1e6))
        }
        Content::Transactions => Some(format!("{:.0} tx/s", ours.transactions_per_s?)),
    }
}

/// What the ratio is of.
fn pace(other: &Figures) -> f64 {
    other.megabytes_per_s().unwrap_or(other.blocks_per_s)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| format!("{value:.digits$}"))
}

fn aligned(cells: &[String; COLUMNS.len()]) -> String {
    let mut line = String::new();
    for (cell, (title, width)) in cells.iter().zip(COLUMNS) {
        match title {
            "row" => line.push_str(&format!("{cell:<width$}")),
            _ => line.push_str(&format!("  {cell:>width$}")),
        }
    }
    line
}

fn marked(cells: &[String; COLUMNS.len()]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench --write`. All processes of a row run on one machine, on loopback: the figures are \
contests for its processors. Compare ratios within one table, never figures of two.

";

const FOOT: &str = "
| column | meaning |
|---|---|
| row | what blocks carry, operators, the file system of everything that is kept, whether every block gets the \
group's seal, one-way delay of the links |
| blocks/s | decided by every operator, with a block interval of 0 |
| beside | megabytes of payload per second and per block; transactions in blocks per second; or the mean of a \
decision in link delays |
| p50, p99 | of a decision, from the histogram `swarm_consensus_round_duration_seconds` of all nodes, by \
interpolation within a bucket; of long links from the times in the headers |
| cpu ms | processor time per block and node |
| MiB | the most resident memory of any node |
| KiB sent | to members, per block and node |
| probe | blocks/s, or MB/s of 1 MB blocks, of the bare path: three hops, a synced log, the same signatures, nothing \
else; then ours divided by it |
| peer | the same of the program given with `--peer`; then ours divided by it |

A `-` is what was not measured: the probe has no transactions, the peer neither those nor long links.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::rows;

    fn outcome(content: Content) -> Outcome {
        let row = rows().into_iter().find(|row| row.content == content).unwrap();
        let ours = Figures {
            blocks_per_s: 50.0,
            block_bytes: (content == Content::Large).then_some(500_000.0),
            transactions_per_s: Some(1234.0),
            p50_ms: Some(3.25),
            ..Figures::default()
        };
        let probe = Figures { blocks_per_s: 200.0, block_bytes: ours.block_bytes.map(|_| 1e6), ..ours };
        Outcome { row, ours: Some(ours), probe: Some(probe), peer: None }
    }

    #[test]
    fn a_line_has_figures_ratios_and_dashes() {
        let cells = cells(&outcome(Content::Small));
        assert_eq!(cells[0], "small n=4 memory");
        assert_eq!(cells[1..4], ["50", "", "3.2"]);
        assert_eq!(cells[8..], ["200", "0.25", "-", "-"]);
        let large = super::cells(&outcome(Content::Large));
        assert_eq!((large[2].as_str(), large[8].as_str()), ("25.0 MB/s at 0.50 MB", "200"));
        assert_eq!(large[9], "0.12", "of content, not of blocks");
        assert_eq!(super::cells(&outcome(Content::Transactions))[2], "1234 tx/s");
    }

    #[test]
    fn long_links_are_counted_in_delays() {
        let mut outcome = outcome(Content::Small);
        outcome.row.delay = std::time::Duration::from_millis(40);
        outcome.ours = outcome.ours.map(|ours| Figures { mean_ms: Some(130.0), ..ours });
        assert_eq!(cells(&outcome)[2], "3.25 delays");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let failed = Outcome { ours: None, probe: None, ..outcome(Content::Small) };
        let lines = [title(), line(&outcome(Content::Large)), line(&failed)];
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:#?}");
        for row in rows() {
            assert!(row.to_string().len() <= COLUMNS[0].1, "{row}");
        }
    }

    #[test]
    fn the_document_says_when_and_where() {
        let machine = Machine { date: "2026-11-30".into(), description: "2 × a processor".into() };
        let text = document(&[outcome(Content::Small)], &machine, "10 s per row");
        assert!(text.contains("Measured on 2026-11-30: 2 × a processor\n10 s per row\n"), "{text}");
        let columns = |line: &str| line.matches('|').count();
        let table: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("| row")).take(3).collect();
        assert!(table.iter().all(|line| columns(line) == COLUMNS.len() + 1), "{table:#?}");
    }
}
