//! One seed.

use super::arguments::Pins;
use super::excerpt::concerns;
use super::{failure, say, say_counts};
use aequa_sim::{Options, run_twice};
use aequa_types::InstanceId;

/// Runs a seed twice and says what happened. Whether all of it held.
pub fn main(seed: u64, trace: bool, only: Option<InstanceId>, pins: &Pins) -> bool {
    let report = run_twice(seed, &Options { trace, ..pins.options() });
    report.trace.iter().filter(|line| concerns(line, only)).for_each(say);
    say(format!(
        "seed {seed}: n = {}, {} blocks and {} instances in {} virtual ms, {} events, {} messages, {} bytes, log {:016x}",
        report.nodes,
        report.totals.heights,
        report.totals.instances,
        report.totals.virtual_ms,
        report.totals.events,
        report.totals.messages,
        report.totals.bytes,
        report.log_hash
    ));
    say_counts("reached", &report.totals.sights);
    say_counts("faults", &report.totals.faults);
    let Some(violation) = &report.violation else { return true };
    failure::tell(&report, violation, pins);
    false
}
