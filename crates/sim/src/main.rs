//! Runs the simulator from the command line.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod rerun;

use aequa_sim::{Campaign, Counts, Options, Report, SIGHTS};
use std::io::Write as _;
use std::process::ExitCode;

const USAGE: &str =
    "usage: aequa-sim [--seeds N] [--from S] [--nodes N] [--safety-ms MS] [--heights K] [--honest]
       aequa-sim --seed X [--trace] [--nodes N] [--safety-ms MS] [--heights K] [--honest]
       aequa-sim --recording DIR --height H";

struct Arguments {
    first: u64,
    seeds: u64,
    single: bool,
    options: Options,
}

fn main() -> ExitCode {
    if rerun::is_meant() {
        return rerun::main();
    }
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if arguments.single { one(&arguments) } else { many(&arguments) }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { first: 0, seeds: 1000, single: false, options: Options::default() };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value.parse().map_err(|_| format!("{word}: '{value}' is not a number"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--from" => arguments.first = number()?,
            "--seed" => (arguments.first, arguments.seeds, arguments.single) = (number()?, 1, true),
            "--nodes" => {
                let nodes = usize::try_from(number()?).unwrap_or(usize::MAX);
                if !(1..=100).contains(&nodes) {
                    return Err("--nodes takes 1 to 100".into());
                }
                arguments.options.nodes = Some(nodes);
            }
            "--safety-ms" => arguments.options.safety_ms = number()?,
            "--heights" => arguments.options.liveness_heights = number()?,
            "--honest" => arguments.options.honest = true,
            "--trace" => arguments.options.trace = true,
            _ => return Err(format!("unknown argument '{word}'")),
        }
    }
    if arguments.options.trace && !arguments.single {
        return Err("--trace goes with --seed".into());
    }
    Ok(arguments)
}

fn one(arguments: &Arguments) -> ExitCode {
    let report = aequa_sim::run(arguments.first, &arguments.options);
    let mut out = std::io::stdout().lock();
    for line in &report.trace {
        // A closed pipe ends the reader's interest, not the run.
        let _ = writeln!(out, "{line}");
    }
    println!(
        "seed {}: n={}, {} heights in {} virtual ms, {} events, {} messages, {} bytes, log {:016x}",
        report.seed,
        report.nodes,
        report.heights,
        report.virtual_ms,
        report.events,
        report.messages,
        report.bytes,
        report.log_hash
    );
    print_counts("reached", &report.sights);
    print_counts("faults", &report.faults);
    verdict(report.violation.is_some().then_some(&report), &arguments.options)
}

fn many(arguments: &Arguments) -> ExitCode {
    let end = arguments.first.saturating_add(arguments.seeds);
    let start = std::time::Instant::now();
    let campaign = aequa_sim::campaign(arguments.first..end, &arguments.options, |so_far| {
        if so_far.runs.is_multiple_of(100) {
            eprintln!("{}", summary(so_far, start));
        }
    });
    println!("{}", summary(&campaign, start));
    print_counts("reached", &campaign.sights);
    print_counts("faults", &campaign.faults);
    for sight in campaign.missing() {
        println!("never reached: {sight}");
    }
    println!("{} of {} situations reached", SIGHTS.len() - campaign.missing().len(), SIGHTS.len());
    verdict(campaign.failure.as_ref(), &arguments.options)
}

fn summary(campaign: &Campaign, start: std::time::Instant) -> String {
    format!(
        "{} seeds, {:.2} virtual hours, {} blocks, {} instances, {} events, {:.0} s",
        campaign.runs,
        campaign.virtual_ms as f64 / 3_600_000.0,
        campaign.heights,
        campaign.instances,
        campaign.events,
        start.elapsed().as_secs_f64()
    )
}

fn print_counts(title: &str, counts: &Counts) {
    println!("{title}:");
    for (name, count) in counts {
        println!("  {count:>9}  {name}");
    }
}

fn verdict(failure: Option<&Report>, options: &Options) -> ExitCode {
    let Some(report) = failure else { return ExitCode::SUCCESS };
    if let Some(violation) = &report.violation {
        println!("seed {} failed: {violation}", report.seed);
    }
    let defaults = Options::default();
    let mut command = format!("cargo run -p aequa-sim -- --seed {} --trace", report.seed);
    if let Some(nodes) = options.nodes {
        command += &format!(" --nodes {nodes}");
    }
    if options.safety_ms != defaults.safety_ms {
        command += &format!(" --safety-ms {}", options.safety_ms);
    }
    if options.liveness_heights != defaults.liveness_heights {
        command += &format!(" --heights {}", options.liveness_heights);
    }
    if options.honest {
        command += " --honest";
    }
    println!("repeat with: {command}");
    ExitCode::FAILURE
}
