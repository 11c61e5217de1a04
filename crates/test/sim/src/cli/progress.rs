//! How far a campaign is: a bar in a terminal, elsewhere a line now and then.

use aequa_sim::{Campaign, Extent};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Time between two looks of the bar, so that its clock goes on during long runs.
const TICK: Duration = Duration::from_millis(500);

/// Where it is shown: on standard error, results alone go to standard output.
pub struct Progress {
    extent: Extent,
    start: Instant,
    view: View,
}

enum View {
    Bar(ProgressBar),
    Plain { next: Duration },
}

impl Progress {
    pub fn new(extent: Extent) -> Self {
        let view = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(goal(&extent, &Campaign::default()).1);
            let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(message(&extent, &Campaign::default()));
            bar.enable_steady_tick(TICK);
            View::Bar(bar)
        } else {
            View::Plain { next: PLAIN_EVERY }
        };
        Self { extent, start: Instant::now(), view }
    }

    /// Shows the state of things.
    pub fn show(&mut self, campaign: &Campaign) {
        let elapsed = self.start.elapsed();
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_message(message(&self.extent, campaign));
                bar.set_position(goal(&self.extent, campaign).0);
            }
            View::Plain { next } if elapsed >= *next => {
                *next = elapsed + PLAIN_EVERY;
                // Nobody may be reading.
                let _ = writeln!(std::io::stderr().lock(), "{}", plain(&self.extent, campaign, elapsed));
            }
            View::Plain { .. } => {}
        }
    }

    /// Makes room for the results.
    pub fn end(self) {
        if let View::Bar(bar) = self.view {
            bar.finish_and_clear();
        }
    }
}

/// How much is done of how much.
fn goal(extent: &Extent, campaign: &Campaign) -> (u64, u64) {
    match extent.instances {
        0 => (campaign.runs, extent.seeds),
        instances => (campaign.totals.instances.min(instances), instances),
    }
}

fn message(extent: &Extent, campaign: &Campaign) -> String {
    let hours = campaign.totals.virtual_ms as f64 / 3_600_000.0;
    let of = |whole: u64| if whole > 0 { format!(" of {whole}") } else { String::new() };
    let (seeds, instances) = (of(extent.seeds), of(extent.instances));
    format!(
        "{}{seeds} seeds, {}{instances} instances, {hours:.1} virtual hours",
        campaign.runs, campaign.totals.instances
    )
}

fn plain(extent: &Extent, campaign: &Campaign, elapsed: Duration) -> String {
    let (done, all) = goal(extent, campaign);
    let left = elapsed.as_secs_f64() * (all - done) as f64 / done.max(1) as f64;
    let percent = 100 * done / all.max(1);
    let (message, seconds) = (message(extent, campaign), elapsed.as_secs_f64());
    format!("{percent:>3} %  {message}, {seconds:.0} s, about {left:.0} s left")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_sim::Totals;

    #[test]
    fn a_plain_line_tells_what_is_done_and_what_is_left() {
        let totals = Totals { instances: 700, virtual_ms: 5_400_000, ..Totals::default() };
        let campaign = Campaign { runs: 25, totals, ..Campaign::default() };
        let of = |extent| plain(&extent, &campaign, Duration::from_secs(10));
        assert_eq!(
            of(Extent { first: 0, seeds: 100, instances: 0 }),
            " 25 %  25 of 100 seeds, 700 instances, 1.5 virtual hours, 10 s, about 30 s left"
        );
        let line = of(Extent { first: 0, seeds: 0, instances: 1400 });
        assert!(
            line.starts_with(" 50 %  25 seeds, 700 of 1400 instances") && line.ends_with("about 10 s left")
        );
        assert!(of(Extent { first: 0, seeds: 30, instances: 600 }).starts_with("100 %"));
    }
}
