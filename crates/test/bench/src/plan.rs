//! What is measured: the rows of the table.

use std::fmt;
use std::time::Duration;

/// Bytes of a small value: an empty block of ours, and what probe and peer carry beside it.
const SMALL_BYTES: usize = 32;
/// Bytes of a large one.
const LARGE_BYTES: usize = 1 << 20;
/// One-way delay of a long link.
const LONG_LINK: Duration = Duration::from_millis(40);

/// Which file system everything is kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One in memory.
    Memory,
    /// One on a disk.
    Disk,
}

/// What blocks carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Small,
    /// Transactions of the largest payload, as many as a block of 1 MiB takes.
    Large,
    /// Small transactions, as many as are taken.
    Transactions,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What blocks carry.
    pub content: Content,
    /// Operators.
    pub nodes: u8,
    /// Where it is kept.
    pub place: Place,
    /// Whether there is a seal on every block.
    pub sealed: bool,
    /// One-way delay of every link.
    pub delay: Duration,
}

impl Row {
    /// Bytes of a value of the probe and the peer; none where they have nothing like it.
    pub fn value_bytes(&self) -> Option<usize> {
        match self.content {
            Content::Small => Some(SMALL_BYTES),
            Content::Large => Some(LARGE_BYTES),
            Content::Transactions => None,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = match self.content {
            Content::Small => "small",
            Content::Large => "1 MB",
            Content::Transactions => "transactions",
        };
        let place = match self.place {
            Place::Memory => "memory",
            Place::Disk => "disk",
        };
        write!(f, "{content} n={} {place}", self.nodes)?;
        if self.sealed {
            f.write_str(" sealed")?;
        }
        match self.delay {
            Duration::ZERO => Ok(()),
            delay => write!(f, " {} ms links", delay.as_millis()),
        }
    }
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |content, nodes, place, delay, seals: &[bool]| {
        rows.extend(seals.iter().map(|sealed| Row { content, nodes, place, sealed: *sealed, delay }));
    };
    for (nodes, place) in [(4, Place::Memory), (4, Place::Disk), (1, Place::Memory), (7, Place::Memory)] {
        add(Content::Small, nodes, place, Duration::ZERO, &[false, true]);
    }
    add(Content::Large, 4, Place::Memory, Duration::ZERO, &[false]);
    add(Content::Large, 4, Place::Disk, Duration::ZERO, &[false]);
    add(Content::Transactions, 4, Place::Memory, Duration::ZERO, &[false, true]);
    add(Content::Small, 4, Place::Memory, LONG_LINK, &[false, true]);
    rows
}

/// The rows whose names have these words in them.
pub fn matching(only: Option<&str>) -> Vec<Row> {
    let wanted = |row: &Row| only.is_none_or(|only| row.to_string().contains(only));
    rows().into_iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_rows_apart() {
        let mut names: Vec<String> = rows().iter().map(Row::to_string).collect();
        assert!(names.contains(&"small n=4 memory sealed 40 ms links".to_owned()), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rows().len());
    }

    #[test]
    fn rows_are_chosen_by_a_part_of_their_names() {
        assert_eq!(matching(None), rows());
        assert!(matching(Some("n=7")).iter().all(|row| row.nodes == 7));
        assert_eq!(matching(Some("n=7")).len(), 2);
        assert_eq!(matching(Some("nothing like it")), []);
    }
}
