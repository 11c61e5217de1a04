//! `dvt-node import-obol`: the validators of an Obol cluster, taken over.

use crate::flags::path;
use aequa_node::audit::{entries, record_or_complain};
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_node::obol::bind::{self, Bind};
use aequa_node::obol::import::{self, Import, Report};
use aequa_types::Address;
use aequa_types::lock::Key32;
use aequa_types::validator::ValidatorKey;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Take over the validators of an Obol cluster: one operator's part
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "1. Every operator makes a new identity, and binds it with the key its node has there:\n   \
                        dvt-node dkg id --data-dir DIR --name NAME --address MULTIADDR\n   \
                        dvt-node import-obol bind --lock .charon/cluster-lock.json \
                        --enr-key .charon/charon-enr-private-key --data-dir DIR\n   \
                        and sends its binding.json to all others.\n\
                        2. Every operator stops its Obol node and its validator client, for good, and exports what the \
                        client has signed (EIP-3076).\n\
                        3. Every operator imports, with the bindings of all:\n   \
                        dvt-node import-obol --lock .charon/cluster-lock.json --keystores .charon/validator_keys\n     \
                        --slashing-protection history.json --binding b0.json b1.json b2.json b3.json --data-dir DIR\n\
                        4. One of them writes a definition with the operators in the order of the Obol lock, and all \
                        run the ceremony:\n   \
                        dvt-node dkg new --operator o0.json o1.json o2.json o3.json --imported \
                        DIR/imported-validators.json\n   \
                        dvt-node dkg --definition cluster-definition.json --data-dir DIR\n\n\
                        Never run both: two that sign with one key are slashed. Imported keys do not sign until two \
                        finalized epochs have passed without an attestation of theirs.\n\n\
                        Locks of versions 1.6 to 1.11 are read. The lock must have the threshold ceil(2n/3)."
)]
pub struct ImportObolArgs {
    /// What else there is to do.
    #[command(subcommand)]
    pub command: Option<ImportObolCommand>,
    /// The import.
    #[command(flatten)]
    pub import: ImportArgs,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub enum ImportObolCommand {
    Bind(BindArgs),
}

/// The import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The cluster-lock.json of the Obol cluster
    #[arg(long, value_name = "FILE", value_parser = path(), required = true)]
    pub lock: Option<PathBuf>,
    /// Folder with this operator's keystores, each keystore*.json with its password in the .txt beside it
    #[arg(long, value_name = "DIR", value_parser = path(), required = true)]
    pub keystores: Option<PathBuf>,
    /// What the validators have signed, exported from this operator's validator client (EIP-3076). Refused without
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub slashing_protection: Option<PathBuf>,
    /// The bindings of all operators, in any order
    #[arg(long, value_name = "FILE", value_parser = path(), required = true, num_args = 1.., value_delimiter = ',')]
    pub binding: Vec<PathBuf>,
    /// This operator's new folder, with the identity that dkg id made
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// Public key of a validator that never signed anything, so that the history does not have it; may be repeated
    #[arg(long, value_name = "PUBKEY")]
    pub never_signed: Vec<ValidatorKey>,
    /// Root of the genesis validators, of a network that is not known by name
    #[arg(long, value_name = "HEX")]
    pub genesis_validators_root: Option<Key32>,
    /// Wallets.
    #[command(flatten)]
    pub wallets: WalletArgs,
}

/// Bind this operator's new identity to the key of its Obol node
#[derive(Debug, Args)]
pub struct BindArgs {
    /// The cluster-lock.json of the Obol cluster
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub lock: PathBuf,
    /// The key of this operator's node there: charon-enr-private-key
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub enr_key: PathBuf,
    /// This operator's new folder, with the identity that dkg id made
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// File to make [default: binding.json in --data-dir]
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub out: Option<PathBuf>,
    /// Wallets.
    #[command(flatten)]
    pub wallets: WalletArgs,
}

/// Wallets of operators.
#[derive(Debug, Args)]
pub struct WalletArgs {
    /// Wallet of an operator that is a contract, such as a Safe: its signatures are not checked; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub contract: Vec<Address>,
}

/// `dvt-node import-obol`.
pub fn import_obol(args: ImportObolArgs) -> Result<(), ExitError> {
    match args.command {
        None => import(args.import),
        Some(ImportObolCommand::Bind(args)) => bind(args),
    }
}

fn import(args: ImportArgs) -> Result<(), ExitError> {
    let slashing_protection = args.slashing_protection.ok_or_else(|| {
        ExitError::refused(
            "--slashing-protection is missing: without what they have signed, keys are not taken over",
        )
        .hint("stop the validator client and export its slashing protection, as an EIP-3076 file")
    })?;
    let missing = |flag: &str| ExitError::usage(format!("--{flag} is missing"));
    let request = Import {
        lock: args.lock.ok_or_else(|| missing("lock"))?,
        keystores: args.keystores.ok_or_else(|| missing("keystores"))?,
        slashing_protection,
        bindings: args.binding,
        data_dir: args.data_dir,
        contracts: args.wallets.contract.into_iter().collect(),
        never_signed: args.never_signed.into_iter().collect(),
        genesis_validators_root: args.genesis_validators_root,
    };
    let Report { imported, unchecked } = import::import(&request)?;
    record_or_complain(&request.data_dir, &entries::imported(&imported));
    for item in unchecked {
        console::line(format!("not checked, only the chain can: {item}"));
    }
    let (count, operator) = (imported.validators.len(), imported.operator);
    let dir = request.data_dir.display();
    console::line(format!(
        "{count} validators of {:?} are in {dir}, with the shares of operator {operator}",
        imported.name
    ));
    console::line("they may not sign yet: the old cluster must stay stopped, on all machines");
    console::line("when all operators have imported, one of them writes the definition of the new cluster:");
    console::line(format!(
        "  dvt-node dkg new --operator FILE ... --imported {dir}/imported-validators.json"
    ));
    Ok(())
}

fn bind(args: BindArgs) -> Result<(), ExitError> {
    let BindArgs { lock, enr_key, data_dir, out, wallets } = args;
    let contracts = wallets.contract.into_iter().collect();
    let (binding, out) = bind::make(&Bind { lock, enr_key, data_dir, out, contracts })?;
    console::line(binding.to_json().trim_end());
    console::line(format!("operator {} is bound: send {} to all others", binding.operator, out.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, parse};
    use aequa_node::exit::code;

    fn args(line: &str) -> ImportObolArgs {
        match parse(line.split(' ').map(str::to_owned)) {
            Ok(Command::ImportObol(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_import_without_a_history_is_refused_and_says_what_to_do() {
        let error =
            import_obol(args("import-obol --lock l --keystores k --binding a b --data-dir d")).unwrap_err();
        assert_eq!(error.code, code::REFUSED);
        assert!(
            error.message.contains("--slashing-protection") && error.hint.contains("EIP-3076"),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_or_malformed_is_usage() {
        for line in [
            "import-obol",
            "import-obol --lock l --keystores k",
            "import-obol --keystores k --binding b",
            "import-obol --lock l --keystores k --binding b --never-signed 0x11",
            "import-obol --lock l --keystores k --binding b --contract 0x11",
            "import-obol bind --lock l",
        ] {
            let refused = parse(line.split(' ').map(str::to_owned)).unwrap_err();
            assert_eq!(refused.code, code::USAGE, "{line}");
        }
    }
}
