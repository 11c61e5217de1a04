//! Prints what the models were searched for and what was found.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use aequa_model::code::{self, Code, Crashes, FAULTY};
use aequa_model::protocol::{self, Protocol};
use aequa_model::run::{Outcome, search, search_aloud, search_up_to_names};
use stateright::Model as _;
use std::process::ExitCode;

const USAGE: &str = "usage: aequa-model [--rounds N] [--deep] [--trace]

  --rounds N  rounds of the protocol, 1 to 4 (default 2); above 2 the faulty operator leads all of them
  --deep      the code in two rounds too, for every leader of the first and the second: this takes long
  --trace     the steps to what each mutation breaks";

#[derive(Debug, Clone, Copy)]
struct Arguments {
    rounds: u8,
    deep: bool,
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut table = Table { trace: arguments.trace, failed: false };
    table.protocol(arguments.rounds);
    table.code(arguments.deep);
    table.mutations(arguments.deep);
    ExitCode::from(u8::from(table.failed))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { rounds: 2, deep: false, trace: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => {
                let rounds = words.next().and_then(|number| number.parse().ok());
                arguments.rounds = rounds
                    .filter(|rounds| (1..=4).contains(rounds))
                    .ok_or_else(|| "--rounds takes 1 to 4".to_owned())?;
            }
            "--deep" => arguments.deep = true,
            "--trace" => arguments.trace = true,
            _ => return Err(format!("unknown argument '{word}'")),
        }
    }
    Ok(arguments)
}

/// What is printed, and whether anything in it is not as it must be.
struct Table {
    trace: bool,
    failed: bool,
}

impl Table {
    fn protocol(&mut self, rounds: u8) {
        println!("{:<44}{:>11}{:>11}{:>7}{:>9}  verdict", "model", "states", "unique", "steps", "time");
        let model = Protocol::of_rounds(rounds);
        if rounds <= 2 {
            self.holds(&format!("protocol, {rounds} rounds, any leaders"), &search(model.checker()));
        } else {
            let model = Protocol { faulty_leads: true, ..model };
            let outcome = search_up_to_names(model.checker().threads(threads()));
            self.holds(&format!("protocol, {rounds} rounds, up to names"), &outcome);
        }
    }

    fn code(&mut self, deep: bool) {
        let faulty = FAULTY.0;
        let one = Code::of(&[faulty], Crashes::AnyTime);
        self.holds("code, 1 round, crashes at any time", &search(one.checker()));
        if !deep {
            return;
        }
        for leaders in [[0, 1], [0, 0], [faulty, 0], [0, faulty], [faulty, faulty]] {
            let model = Code::of(&leaders, Crashes::AfterEveryStep);
            let outcome = search_aloud(model.checker().threads(threads()), |line| eprintln!("  {line}"));
            self.holds(&format!("code, led by {} then {}, crashes", leaders[0], leaders[1]), &outcome);
        }
    }

    fn mutations(&mut self, deep: bool) {
        println!("\n{:<44}{:<36}{:>7}{:>11}{:>9}", "mutation", "breaks", "steps", "unique", "time");
        for mutation in protocol::Mutation::ALL {
            let mut properties = vec![Protocol::first_broken_by(mutation)];
            if deep && !properties.contains(&protocol::AGREEMENT) {
                properties.push(protocol::AGREEMENT);
            }
            for property in properties {
                let outcome = search(Protocol::mutated(mutation, property).checker());
                self.found(&format!("protocol, {mutation:?}"), property, &outcome);
            }
        }
        for mutation in code::Mutation::ALL {
            let property = Code::first_broken_by(mutation);
            let outcome = search(Code::mutated(mutation, property).checker());
            self.found(&format!("code, {mutation:?}"), property, &outcome);
        }
    }

    fn holds(&mut self, name: &str, outcome: &Outcome) {
        let verdict = match outcome.failures[..] {
            [] => "holds".to_owned(),
            ref failures => format!("FAILS: {}", failures.join(", ")),
        };
        let Outcome { states, unique, depth, .. } = outcome;
        let seconds = outcome.elapsed.as_secs_f64();
        println!("{name:<44}{states:>11}{unique:>11}{depth:>7}{seconds:>7.1} s  {verdict}");
        self.failed |= !outcome.failures.is_empty();
        for failure in &outcome.failures {
            self.print_steps(outcome.discoveries.get(failure));
        }
    }

    fn found(&mut self, name: &str, property: &'static str, outcome: &Outcome) {
        let steps = outcome.discoveries.get(property);
        let found = steps.map_or("NOT FOUND".to_owned(), |steps| steps.len().to_string());
        let (unique, seconds) = (outcome.unique, outcome.elapsed.as_secs_f64());
        println!("{name:<44}{property:<36}{found:>7}{unique:>11}{seconds:>7.1} s");
        self.failed |= steps.is_none();
        if self.trace {
            self.print_steps(steps);
        }
    }

    fn print_steps(&self, steps: Option<&Vec<String>>) {
        for (index, step) in steps.into_iter().flatten().enumerate() {
            println!("    {:>2}. {step}", index + 1);
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
