//! Flags about the validators of a new cluster.

use crate::flags::{path, text};
use aequa_node::cluster::Staking;
use aequa_node::deposits::fork_version;
use aequa_node::exit::ExitError;
use aequa_types::Address;
use aequa_types::builders::{BOOST_NEUTRAL, BuilderTerms};
use aequa_types::validator::{
    ETHER, GAS_LIMIT_DEFAULT, VALIDATORS_MAX, ValidatorPolicy, WithdrawalCredentials,
};
use clap::Args;
use std::path::PathBuf;

/// What the cluster does on Ethereum.
#[derive(Debug, Args)]
pub struct StakingFlags {
    /// Ethereum validators, 0 to 1000; they need --fork-version and --withdrawal-address
    #[arg(long, value_name = "V", default_value_t = 0, help_heading = "Validators",
        value_parser = clap::value_parser!(u16).range(0..=VALIDATORS_MAX as i64))]
    pub validators: u16,
    /// Their network: mainnet, hoodi, holesky, sepolia, gnosis, chiado, or the version of its genesis fork
    #[arg(long, value_name = "NETWORK", value_parser = fork_version, help_heading = "Validators")]
    pub fork_version: Option<[u8; 4]>,
    /// Where their balances go; it can never be changed
    #[arg(long, value_name = "ADDRESS", help_heading = "Validators")]
    pub withdrawal_address: Option<Address>,
    /// Credentials of kind 0x02: balances grow to 2048 ETH (EIP-7251) instead of being paid out above 32
    #[arg(long, help_heading = "Validators")]
    pub compounding: bool,
    /// Who gets the fees of their blocks [default: --withdrawal-address]
    #[arg(long, value_name = "ADDRESS", help_heading = "Validators")]
    pub fee_recipient: Option<Address>,
    /// Gas limit they vote for
    #[arg(long, value_name = "GAS", default_value_t = GAS_LIMIT_DEFAULT, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Validators")]
    pub target_gas_limit: u64,
    /// External builder to buy blocks from; may be given up to 8 times, in the order they are to be asked
    #[arg(long, value_name = "URL", value_parser = text(), help_heading = "Validators")]
    pub builder_url: Vec<String>,
    /// Bids of builders below this are not taken
    #[arg(long, value_name = "GWEI", default_value_t = 0, help_heading = "Validators")]
    pub builder_min_bid: u64,
    /// Percent of its value that a bid counts beside an own block
    #[arg(long, value_name = "PERCENT", default_value_t = BOOST_NEUTRAL, help_heading = "Validators")]
    pub builder_boost: u64,
    /// Most that a builder may owe outside of its block
    #[arg(long, value_name = "GWEI", default_value_t = 0, help_heading = "Validators")]
    pub builder_max_payment: u64,
    /// Deposits of each, in whole ETH, in the order they are to be made
    #[arg(long, value_name = "ETH", value_delimiter = ',', default_value = "32", value_parser = clap::value_parser!(u64).range(1..=2048), help_heading = "Validators")]
    pub deposit_eth: Vec<u64>,
    /// Share the keys of the keystore*.json of this folder, each with its password in a .txt beside it, instead of
    /// new ones. Nothing else may sign with them any more
    #[arg(long, value_name = "DIR", value_parser = path(), help_heading = "Validators")]
    pub split_keystores: Option<PathBuf>,
}

impl StakingFlags {
    fn builders(&self) -> Result<Option<BuilderTerms>, ExitError> {
        if self.builder_url.is_empty() {
            let is_given = self.builder_min_bid > 0
                || self.builder_max_payment > 0
                || self.builder_boost != BOOST_NEUTRAL;
            return match is_given {
                true => Err(ExitError::usage("terms for builders, and no builder: add --builder-url")),
                false => Ok(None),
            };
        }
        let terms = BuilderTerms {
            urls: self.builder_url.clone(),
            min_bid_gwei: self.builder_min_bid,
            boost_percent: self.builder_boost,
            max_payment_gwei: self.builder_max_payment,
        };
        terms.check().map_err(|reason| ExitError::usage(format!("--builder-url: {reason}")))?;
        Ok(Some(terms))
    }

    /// The validators asked for, if their policy is one that Ethereum takes, and the builders for them or for
    /// imported ones.
    pub fn resolve(self, has_imported: bool) -> Result<Staking, ExitError> {
        let fork_version = self.fork_version.unwrap_or_default();
        let builders = self.builders()?;
        if self.validators == 0 {
            let useless = [
                (self.withdrawal_address.is_some(), "--withdrawal-address"),
                (self.fee_recipient.is_some(), "--fee-recipient"),
                (self.compounding, "--compounding"),
                (self.split_keystores.is_some(), "--split-keystores"),
                (builders.is_some() && !has_imported, "--builder-url"),
            ];
            return match useless.iter().find(|(given, _)| *given) {
                Some((_, flag)) => {
                    Err(ExitError::usage(format!("{flag} is for validators: add --validators")))
                }
                None => Ok(Staking { fork_version, builders, ..Staking::default() }),
            };
        }
        if self.fork_version.is_none() {
            return Err(ExitError::usage("validators need --fork-version")
                .hint("the network they are for, for example hoodi"));
        }
        let address = self.withdrawal_address.ok_or_else(|| {
            ExitError::usage("validators need --withdrawal-address")
                .hint("an address of yours on the execution layer: balances go there, for ever")
        })?;
        let withdrawal_credentials = match self.compounding {
            true => WithdrawalCredentials::compounding(address),
            false => WithdrawalCredentials::execution(address),
        };
        let policy = ValidatorPolicy {
            fee_recipient: self.fee_recipient.unwrap_or(address),
            withdrawal_credentials,
            target_gas_limit: self.target_gas_limit,
            deposits_gwei: self.deposit_eth.iter().map(|ether| ether * ETHER).collect(),
        };
        policy.check().map_err(ExitError::usage)?;
        let validators = vec![policy; self.validators.into()];
        Ok(Staking { fork_version, validators, builders, split: self.split_keystores })
    }
}
