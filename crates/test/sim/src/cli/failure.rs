//! What went wrong, the trace of it, and the command that repeats it.

use super::arguments::{Pins, named};
use super::excerpt::Excerpt;
use super::say;
use aequa_sim::{Options, Report, Totals, Violation, run, running};

/// Lines shown before the place where two runs part.
const BEFORE_PARTING: usize = 10;

/// Shows what led to a violation, then names it, and last how to repeat it.
pub fn tell(report: &Report, violation: &Violation, pins: &Pins) {
    let Report { seed, nodes, totals: Totals { virtual_ms, .. }, .. } = report;
    let instance = violation.instance();
    let traced = || run(*seed, &Options { trace: true, ..pins.options() });
    let lines = if let Violation::Unrepeatable { .. } = violation {
        parting(&traced().trace, &traced().trace)
    } else if report.trace.is_empty() {
        excerpt(&traced(), violation)
    } else {
        // All of it has been shown.
        Vec::new()
    };
    if !lines.is_empty() {
        let of = instance.map_or(String::new(), |instance| format!(", {}", named(instance)));
        say(format!("trace of seed {seed}{of}:"));
    }
    lines.iter().for_each(say);
    say(format!("seed {seed} failed, n = {nodes}, after {virtual_ms} virtual ms: {violation}"));
    say(format!("repeat with: {}", pins.command(*seed, instance)));
}

/// What is worth reading of a traced run that should have failed in this way.
fn excerpt(report: &Report, violation: &Violation) -> Vec<String> {
    let Excerpt { left_out, lines } = Excerpt::of(&report.trace, violation.instance());
    let before = (left_out > 0).then(|| format!("({left_out} lines before these are left out)"));
    let differs = report.violation.as_ref() != Some(violation);
    let after = differs.then(|| "run again, the seed does not fail in this way".to_owned());
    before.into_iter().chain(lines.into_iter().map(str::to_owned)).chain(after).collect()
}

/// Where two runs of one seed part.
fn parting(first: &[String], second: &[String]) -> Vec<String> {
    let common = first.iter().zip(second).take_while(|(first, second)| first == second).count();
    if common == first.len() && common == second.len() {
        return vec!["two runs with a trace were the same; what differs is seen only sometimes".to_owned()];
    }
    let before = first[common.saturating_sub(BEFORE_PARTING)..common].iter().cloned();
    let next = |run: &[String]| run.get(common).cloned().unwrap_or_else(|| "the end".to_owned());
    before.chain([format!("first run:  {}", next(first)), format!("second run: {}", next(second))]).collect()
}

/// From now on a panic in a run says which seed it was, and how to repeat it. The process ends with it:
/// what is a panic here would be the death of a node.
pub fn explain_panics(pins: Pins) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        if let Some(seed) = running() {
            say(format!("seed {seed} failed: the code panicked, see above"));
            say(format!("repeat with: {}", pins.command(seed, None)));
            std::process::exit(1);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_place_where_two_runs_part_is_shown_with_what_came_before() {
        let found = parting(&lines("a b c d"), &lines("a b x"));
        assert_eq!(found, ["a", "b", "first run:  c", "second run: x"]);
        assert_eq!(parting(&lines("a"), &lines("a b")).last().unwrap(), "second run: b");
        let long: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        assert_eq!(parting(&long, &long[..40])[0], "30");
        assert!(parting(&long, &long)[0].contains("only sometimes"));
    }
}
