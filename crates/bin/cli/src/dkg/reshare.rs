//! `dvt-node dkg reshare`: the definition of a resharing.

use super::write_definition;
use crate::flags::path;
use aequa_node::ceremony::own::OperatorCard;
use aequa_node::ceremony::{DEFINITION_FILE, MEETING_PORT_OFFSET, Plan};
use aequa_node::config::LOCK_FILE;
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_node::keys::load_lock;
use aequa_types::definition::Definition;
use aequa_types::lock::Operator;
use aequa_types::{Height, OperatorIndex, Quorum};
use clap::Args;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Write the definition of a resharing: the same keys, under new shares of these operators
///
/// The nodes go on meanwhile. From the activation height on only the new shares sign; what was signed before stays. A
/// quorum of the operators of now has to take part, and no more than f may be new at once.
#[derive(Debug, Args)]
#[command(
    after_help = "1. Whoever is new:  dvt-node dkg id --data-dir DIR --name NAME --address MULTIADDR\n\
                  2. One of them:     dvt-node dkg reshare --lock cluster-lock.json --add operator.json \\\n\
                  \x20                        --activation-height 50000 --out reshare.json\n\
                  3. All of the new operators, and who leaves, beside the nodes that run:\n\
                  \x20                   dvt-node dkg --definition reshare.json --data-dir DIR\n\
                  \x20   and who is new adds --lock cluster-lock.json\n\n\
                  Without --add, --remove and --replace the same operators get new shares: what somebody has copied \
                  of the old ones is worth nothing from then on. Operators meet on ports 500 above those of their \
                  nodes. Any quorum of the operators of now will do, those that leave among them: where one that \
                  stays is away, one that leaves deals and signs in its place, and gets no share. Its node ends by \
                  itself before the activation height; then its folder is to be removed.\n\n\
                  Leave minutes until the activation height. When it comes before the ceremony has ended, the chain \
                  waits: start the ceremony again wherever it does not run, also with who leaves; see \
                  docs/adr/0029-epochs.md. Never remove the folder next."
)]
pub struct ReshareArgs {
    /// The lock in force
    #[arg(long, value_name = "FILE", default_value = LOCK_FILE, value_parser = path())]
    pub lock: PathBuf,
    /// The operator.json of an operator that comes; may be given more than once
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub add: Vec<PathBuf>,
    /// Index of an operator that leaves; the last one takes its place. May be given more than once
    #[arg(long, value_name = "INDEX")]
    pub remove: Vec<u8>,
    /// Index of an operator, and the operator.json of the one in its place; may be given more than once
    #[arg(long, value_name = "INDEX=FILE", value_parser = replacement)]
    pub replace: Vec<(u8, PathBuf)>,
    /// First height that the new operators decide: far enough away for the ceremony to be over
    #[arg(long, value_name = "HEIGHT", value_parser = clap::value_parser!(u64).range(2..))]
    pub activation_height: u64,
    /// The new operators may tolerate fewer faults than those of now
    #[arg(long)]
    pub lower_faults: bool,
    /// File to make
    #[arg(long, value_name = "FILE", default_value = DEFINITION_FILE, value_parser = path())]
    pub out: PathBuf,
}

fn replacement(text: &str) -> Result<(u8, PathBuf), String> {
    let (index, file) = text.split_once('=').ok_or("must be INDEX=FILE")?;
    let index = index.parse().map_err(|_| format!("{index:?} is no index"))?;
    if file.is_empty() { Err("must be INDEX=FILE".into()) } else { Ok((index, PathBuf::from(file))) }
}

pub(super) fn reshare(args: ReshareArgs) -> Result<(), ExitError> {
    let lock = load_lock(&args.lock)?;
    let operators = operators(&lock.lock().operators, &args)?;
    let after = Quorum::of(operators.len()).ok_or_else(|| ExitError::usage("no operators are left"))?;
    let before = lock.quorum();
    if after.faulty_max() < before.faulty_max() && !args.lower_faults {
        return Err(ExitError::usage(format!(
            "{} operators tolerate {} faults, and {} of now tolerate {}",
            after.operators(),
            after.faulty_max(),
            before.operators(),
            before.faulty_max()
        ))
        .hint("say --lower-faults if that is what you want"));
    }
    let definition = Definition::following(lock.lock(), operators, Height(args.activation_height));
    let definition = definition.map_err(ExitError::usage)?;
    let plan = Plan::new(definition, Some(lock)).map_err(ExitError::usage)?;
    write_definition(&args.out, &plan.definition)?;
    tell(&args, &plan, before);
    Ok(())
}

fn tell(args: &ReshareArgs, plan: &Plan, before: Quorum) {
    let (out, definition) = (args.out.display(), &plan.definition);
    console::line(format!("{out}: {}", definition.definition_hash));
    let operators = definition.operators.len();
    console::line(format!(
        "{} operators become {operators} at height {}",
        before.operators(),
        args.activation_height
    ));
    console::line(format!(
        "at least {} of the operators of now take part, whether they stay or leave, and all that are new; their nodes go \
         on, and they meet on ports {MEETING_PORT_OFFSET} above them:",
        before.quorum()
    ));
    console::line(format!("  dvt-node dkg --definition {out} --data-dir DIR"));
    console::line(format!(
        "  dvt-node dkg --definition {out} --data-dir DIR --lock {}    (who is new)",
        args.lock.display()
    ));
}

/// The operators of the next epoch, each in its place. As few as can be change theirs.
fn operators(before: &[Operator], args: &ReshareArgs) -> Result<Vec<Operator>, ExitError> {
    let named: Vec<u8> =
        args.remove.iter().copied().chain(args.replace.iter().map(|(index, _)| *index)).collect();
    let distinct: BTreeSet<u8> = named.iter().copied().collect();
    if distinct.len() < named.len() {
        return Err(ExitError::usage("an operator is named twice in --remove and --replace"));
    }
    if let Some(index) = distinct.iter().find(|index| usize::from(**index) >= before.len()) {
        return Err(ExitError::usage(format!("there is no operator {index} in {}", args.lock.display())));
    }
    let card =
        |file: &PathBuf| OperatorCard::read(file)?.operator(OperatorIndex(0)).map_err(ExitError::usage);
    let mut operators = before.to_vec();
    for (index, file) in &args.replace {
        operators[usize::from(*index)] = card(file)?;
    }
    let removed: BTreeSet<u8> = args.remove.iter().copied().collect();
    for index in removed.into_iter().rev() {
        operators.swap_remove(usize::from(index));
    }
    for file in &args.add {
        operators.push(card(file)?);
    }
    let quorum = Quorum::of(operators.len()).ok_or_else(|| ExitError::usage("no operators are left"))?;
    quorum.members().zip(&mut operators).for_each(|(index, operator)| operator.index = index);
    Ok(operators)
}
