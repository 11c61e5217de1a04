//! The lines of a trace that concern one instance.

use aequa_types::{Domain, InstanceId};

/// Lines of an excerpt that are shown: what one reads before turning to the whole trace.
const LINES_MAX: usize = 120;

/// The newest lines about an instance.
#[derive(Debug, PartialEq, Eq)]
pub struct Excerpt<'a> {
    /// How many lines before these are not among them.
    pub left_out: usize,
    /// The lines.
    pub lines: Vec<&'a str>,
}

impl<'a> Excerpt<'a> {
    /// The newest lines of a trace that concern this instance, or the newest of all.
    pub fn of(trace: &'a [String], instance: Option<InstanceId>) -> Self {
        let lines = trace.iter().map(String::as_str);
        let mut lines: Vec<&str> =
            lines.filter(|line| !is_routine(line) && concerns(line, instance)).collect();
        let left_out = lines.len().saturating_sub(LINES_MAX);
        lines.drain(..left_out);
        Self { left_out, lines }
    }
}

/// Whether a line names this instance or none at all: crashes, restarts and partitions are nobody's own.
pub fn concerns(line: &str, instance: Option<InstanceId>) -> bool {
    let Some(wanted) = instance else { return true };
    let mut names = names(line).peekable();
    if names.peek().is_none() { !is_routine(line) } else { names.any(|name| name == wanted) }
}

/// A look at who is ahead happens all the time and says nothing about anybody.
fn is_routine(line: &str) -> bool {
    line.ends_with(": CatchUp")
}

/// Every instance a line names: as `block/17` or `block 17`, or the way Rust prints one.
fn names(line: &str) -> impl Iterator<Item = InstanceId> {
    let forms = Domain::ALL.into_iter().flat_map(|domain| {
        let name = domain.name();
        let shown = match domain {
            Domain::Block => "Block(Height(".to_owned(),
            Domain::Duty(kind) => format!("kind: {kind:?}, slot: Slot("),
        };
        [format!("{name}/"), format!("{name} "), shown].map(|form| (domain, form))
    });
    // The timer that belongs to a block without naming one.
    let forms = forms.chain([(Domain::Block, "Propose(Height(".to_owned())]);
    forms.flat_map(|(domain, form)| {
        let numbers: Vec<u64> = line
            .match_indices(&form)
            .filter(|(at, _)| !line[..*at].ends_with(|before: char| before.is_alphanumeric()))
            .filter_map(|(at, _)| leading_number(&line[at + form.len()..]))
            .collect();
        numbers.into_iter().map(move |number| domain.instance(number))
    })
}

fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{DutyKind, Height, Slot};

    const BLOCK_1: InstanceId = InstanceId::Block(Height(1));
    const SYNC_1: InstanceId = InstanceId::duty(DutyKind::Sync, Slot(1));

    fn shown(line: &str) -> [bool; 2] {
        [BLOCK_1, SYNC_1].map(|instance| concerns(line, Some(instance)))
    }

    #[test]
    fn an_instance_is_found_in_every_way_of_naming_it() {
        for line in [
            "    122 node 1: sends prepare block/1 r0 48374b to [0, 2, 3]",
            "    152 node 0: commits block 1 48374b of round 0",
            "    152 node 0: seals block 1",
            "    160 node 2: enters round 1 of block/1",
            "    121 node 1: Propose(Height(1))",
            "    300 node 1: Round { instance: Block(Height(1)), round: Round(0) }",
            "    300 node 1: Resend(Block(Height(1)))",
        ] {
            assert_eq!(shown(line), [true, false], "{line}");
        }
        for line in [
            "    9 node 0: sends commit sync/1 r0 aabbcc to [1]",
            "    300 node 1: Resend(Duty(DutyId { kind: Sync, slot: Slot(1) }))",
        ] {
            assert_eq!(shown(line), [false, true], "{line}");
        }
    }

    #[test]
    fn an_instance_is_not_found_in_the_names_of_others() {
        for line in [
            "    122 node 1: sends prepare block/17 r0 48374b to [0, 2, 3]",
            "    122 node 1: sends prepare block/21 r1 48374b to [1]",
            "    152 node 0: commits block 10 48374b of round 1",
            "    121 node 1: Propose(Height(11))",
            "    300 node 1: Resend(Duty(DutyId { kind: Attester, slot: Slot(1) }))",
            "    300 node 1: CatchUp",
            "    300 node 1: sends decided attester/1 r0 aabbcc to [0]",
        ] {
            assert_eq!(shown(line), [false, false], "{line}");
        }
    }

    #[test]
    fn what_happens_to_hosts_and_links_concerns_every_instance() {
        for line in [
            "    500 node 3: crashes; 2 records and 1 blocks lost",
            "    700 node 3: starts at height 4, goes on from 5",
            "    800 node 18446744073709551615: partition [(0, 1)]",
        ] {
            assert_eq!(shown(line), [true, true], "{line}");
        }
    }

    #[test]
    fn an_excerpt_keeps_the_newest_lines_and_counts_the_others() {
        let lines = |count: usize| (0..count).map(|n| format!("{n} node 0: seals block 1")).collect();
        let (fits, exceeds): (Vec<String>, Vec<String>) = (lines(LINES_MAX), lines(LINES_MAX + 1));
        let whole = Excerpt::of(&fits, Some(BLOCK_1));
        assert_eq!((whole.left_out, whole.lines.len()), (0, LINES_MAX));
        let newest = Excerpt::of(&exceeds, None);
        assert_eq!((newest.left_out, newest.lines[0]), (1, "1 node 0: seals block 1"));
        let nothing = Excerpt { left_out: 0, lines: Vec::new() };
        assert_eq!(Excerpt::of(&exceeds, Some(SYNC_1)), nothing);
        assert_eq!(Excerpt::of(&["9 node 1: CatchUp".to_owned()], None), nothing);
    }
}
