//! `dvt-node create-cluster`: what is asked for, and what to do with it.

use crate::flags::{CHAIN_IDS, SettingFlags, path, text};
use crate::staking::StakingFlags;
use aequa_node::cluster::{
    BASE_P2P_PORT, BASE_PORT, MAINNET_CHAIN_ID, MAINNET_FORK, NewCluster, make, monitoring_offset,
};
use aequa_node::config::LOCK_FILE;
use aequa_node::console;
use aequa_node::deposits::DEPOSITS_FILE;
use aequa_node::exit::ExitError;
use aequa_types::Quorum;
use clap::Args;
use std::path::PathBuf;

/// Make the lock and all keys of a cluster in one place, for development only
#[derive(Debug, Args)]
pub struct CreateClusterArgs {
    /// Operators, 1 to 64
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Folder to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: PathBuf,
    /// Name of the cluster
    #[arg(long, default_value = "aequa-devnet", value_parser = text())]
    pub name: String,
    /// EIP-712 chain id: a transaction is valid in every cluster with the same [default: one of its own]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(CHAIN_IDS))]
    pub chain_id: Option<u64>,
    /// Shares needed for a seal; only ceil(2n/3) is possible
    #[arg(long, value_name = "Q")]
    pub threshold: Option<u8>,
    /// Cheap key derivation: whoever reads the keystores needs no password
    #[arg(long)]
    pub insecure_keys: bool,
    /// API of node i on this port + i, monitoring on this port + 20 + i
    #[arg(long, value_name = "PORT", default_value_t = BASE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub base_port: u16,
    /// Peer to peer port of node i: this + i
    #[arg(long, value_name = "PORT", default_value_t = BASE_P2P_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub base_p2p_port: u16,
    /// What the cluster does on Ethereum.
    #[command(flatten)]
    pub staking: StakingFlags,
    /// Parameters of the cluster.
    #[command(flatten)]
    pub shared: SettingFlags<false>,
}

/// `dvt-node create-cluster`.
pub fn create_cluster(args: CreateClusterArgs) -> Result<(), ExitError> {
    let new = request_of(args)?;
    let warnings = make(&new)?;
    let out = new.out.display();
    console::line(format!("made a cluster of {} operators in {out}", new.nodes));
    console::line("");
    console::line("FOR DEVELOPMENT ONLY: this command has seen every key of the cluster, and whoever can");
    console::line("read the folder has them all.");
    if new.insecure_keys {
        console::line("The keystores use a cheap key derivation (--insecure-keys): guessing is nearly free.");
    }
    warnings.iter().for_each(|warning| console::line(format!("warning: {warning}")));
    if !new.staking.validators.is_empty() {
        let validators = new.staking.validators.len();
        console::line(format!("{validators} validators; what to deposit is in {out}/{DEPOSITS_FILE}"));
    }
    console::line("");
    console::line("start every node in its own terminal:");
    for node in 0..new.nodes {
        console::line(format!("  dvt-node --data-dir {out}/node{node}"));
    }
    console::line("check a block:");
    console::line(format!(
        "  dvt-node verify-block --lock {out}/{LOCK_FILE} --url http://127.0.0.1:{} --height 1",
        new.base_port
    ));
    Ok(())
}

fn request_of(args: CreateClusterArgs) -> Result<NewCluster, ExitError> {
    let staking = args.staking.resolve(false)?;
    let quorum = Quorum::of(args.nodes.into()).map_or(0, Quorum::quorum);
    if args.threshold.is_some_and(|threshold| usize::from(threshold) != quorum) {
        return Err(ExitError::usage(format!(
            "--threshold must be {quorum} for {} operators: ceil(2n/3)",
            args.nodes
        )));
    }
    if args.insecure_keys && args.chain_id == Some(MAINNET_CHAIN_ID) {
        return Err(ExitError::usage("--insecure-keys is refused for chain id 1"));
    }
    if args.insecure_keys && !staking.validators.is_empty() && MAINNET_FORK == staking.fork_version {
        return Err(ExitError::usage("--insecure-keys is refused for validators of mainnet")
            .hint("name another network with --fork-version, for example hoodi"));
    }
    let last = u16::from(args.nodes - 1);
    let ports = [
        args.base_port.checked_add(monitoring_offset(args.nodes) + last),
        args.base_p2p_port.checked_add(last),
    ];
    if ports.contains(&None) {
        return Err(ExitError::usage("the ports of the last node would be above 65535"));
    }
    Ok(NewCluster {
        params: args.shared.params()?.over_defaults()?,
        out: args.out,
        nodes: args.nodes,
        name: args.name,
        chain_id: args.chain_id,
        insecure_keys: args.insecure_keys,
        base_port: args.base_port,
        base_p2p_port: args.base_p2p_port,
        reached_at: Vec::new(),
        staking,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_node::config::Settings;
    use std::os::unix::fs::PermissionsExt as _;

    fn args(line: &str) -> CreateClusterArgs {
        match crate::cli::parse(line.split(' ').map(str::to_owned)) {
            Ok(crate::cli::Command::CreateCluster(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cluster_has_a_lock_and_a_folder_per_operator_with_private_keys() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("c");
        let line =
            format!("create-cluster --nodes 4 --insecure-keys --block-interval-ms 7 --out {}", out.display());
        create_cluster(args(&line)).unwrap();
        let lock = std::fs::read_to_string(out.join(LOCK_FILE)).unwrap();
        let verified = aequa_crypto::lock::load(&lock).unwrap();
        assert_eq!(verified.lock().consensus.params.block_interval_ms, 7);
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 5);
        for node in 0..4 {
            let node = out.join(format!("node{node}"));
            assert_eq!(std::fs::read_to_string(node.join(LOCK_FILE)).unwrap(), lock);
            assert_eq!(std::fs::metadata(node.join("keys")).unwrap().permissions().mode() & 0o777, 0o700);
            let mut keys: Vec<_> =
                std::fs::read_dir(node.join("keys")).unwrap().map(|entry| entry.unwrap()).collect();
            keys.sort_by_key(std::fs::DirEntry::file_name);
            let names: Vec<_> = keys.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
            assert_eq!(
                names,
                ["identity.json", "identity.txt", "keystore-sequencer.json", "keystore-sequencer.txt"]
            );
            for key in keys {
                assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o400);
            }
        }
        let again = create_cluster(args(&line)).unwrap_err();
        assert_eq!(again.code, 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_cluster_with_validators_has_their_shares_and_deposits_and_refuses_those_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("c");
        let line = format!(
            "create-cluster --nodes 4 --insecure-keys --validators 2 --fork-version hoodi --withdrawal-address \
             0x00000000000000000000000000000000000000aa --deposit-eth 1,31 --out {}",
            out.display()
        );
        create_cluster(args(&line)).unwrap();
        let lock = aequa_crypto::lock::load(&std::fs::read_to_string(out.join(LOCK_FILE)).unwrap()).unwrap();
        let deposits: Vec<serde_json::Value> =
            serde_json::from_str(&std::fs::read_to_string(out.join(DEPOSITS_FILE)).unwrap()).unwrap();
        assert_eq!(deposits.len(), 4);
        let mut keys: Vec<_> = deposits.iter().map(|row| row["pubkey"].as_str().unwrap()).collect();
        assert!(keys.is_sorted());
        keys.dedup();
        assert_eq!(keys.len(), 2);
        let load = |node: &str| {
            let mut settings = Settings::default();
            let data_dir = aequa_node::config::keys::find("data-dir").unwrap();
            let node = out.join(node).to_string_lossy().into_owned();
            settings.set(data_dir, vec![node], aequa_node::config::Source::Flag).unwrap();
            let config = aequa_node::config::RunConfig::resolve(settings, []).unwrap();
            aequa_node::keys::load_operator(&config, &aequa_telemetry::Metrics::new())
        };
        assert_eq!(load("node0").unwrap().lock.validators().len(), lock.validators().len());

        // The share of another operator, and one that is missing.
        let (own, other) = (out.join("node0/keys/keystore-1.json"), out.join("node1/keys/keystore-1.json"));
        std::fs::remove_file(&own).unwrap();
        let missing = load("node0").unwrap_err();
        assert!(missing.code == 4 && missing.message.contains("share of validator 1"), "{missing:?}");
        std::fs::copy(&other, &own).unwrap();
        let foreign = load("node0").unwrap_err();
        assert!(foreign.code == 4 && foreign.message.contains("not the share of operator 0"), "{foreign:?}");
    }

    #[test]
    fn keys_that_are_there_are_shared_in_the_order_of_their_numbers() {
        use aequa_crypto::bls::{MinPk, SecretKey};
        use aequa_crypto::keystore::{Cost, Keystore, Label};
        let dir = tempfile::tempdir().unwrap();
        let (out, keys) = (dir.path().join("c"), dir.path().join("keys"));
        std::fs::create_dir(&keys).unwrap();
        let mut expected = Vec::new();
        for number in [2, 10] {
            let key = SecretKey::<MinPk>::generate().unwrap();
            let keystore =
                Keystore::encrypt(key.to_bytes().as_slice(), "pass", Label::default(), Cost::Insecure)
                    .unwrap();
            for (end, text) in [("json", keystore.to_json()), ("txt", "pass\n".to_owned())] {
                let path = keys.join(format!("keystore-{number}.{end}"));
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
            expected.push(key.public().to_bytes());
        }
        let line = |validators: u8| {
            args(&format!(
                "create-cluster --nodes 4 --insecure-keys --validators {validators} --fork-version hoodi \
                 --withdrawal-address 0x00000000000000000000000000000000000000aa --split-keystores {} --out {}",
                keys.display(),
                out.display()
            ))
        };
        assert_eq!(create_cluster(line(3)).unwrap_err().code, 2, "two keystores for three validators");
        create_cluster(line(2)).unwrap();
        let lock = aequa_crypto::lock::load(&std::fs::read_to_string(out.join(LOCK_FILE)).unwrap()).unwrap();
        let made: Vec<_> = lock.validators().iter().map(|validator| validator.group_key.to_bytes()).collect();
        assert_eq!(made, expected);
    }

    #[test]
    fn the_node_file_is_a_configuration_of_its_own_ports() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("c");
        let line = format!(
            "create-cluster --nodes 2 --insecure-keys --base-port 7000 --base-p2p-port 8000 --out {}",
            out.display()
        );
        create_cluster(args(&line)).unwrap();
        let mut settings = Settings::default();
        let data_dir = aequa_node::config::keys::find("data-dir").unwrap();
        let node = out.join("node1").to_string_lossy().into_owned();
        settings.set(data_dir, vec![node], aequa_node::config::Source::Flag).unwrap();
        let config = aequa_node::config::RunConfig::resolve(settings, []).unwrap();
        assert_eq!(config.validator_api.port(), 7001);
        assert_eq!(config.monitoring.port(), 7021);
        assert_eq!(config.p2p.listen, ["/ip4/127.0.0.1/tcp/8001"]);
        assert!(config.enable_tx_api && config.enable_builder && config.seals());
    }

    #[test]
    fn what_an_interrupted_run_left_is_removed_by_the_next_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("c");
        let left = dir.path().join(".c.tmp-1");
        std::fs::create_dir_all(left.join("node0/keys")).unwrap();
        std::fs::write(left.join("node0/keys/identity.txt"), b"secret").unwrap();
        let line = format!("create-cluster --nodes 1 --insecure-keys --out {}", out.display());
        let warnings = make(&request_of(args(&line)).unwrap()).unwrap();
        assert!(warnings.iter().any(|warning| warning.contains(".c.tmp-1")), "{warnings:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_made_is_usage() {
        for line in [
            "create-cluster --nodes 4 --threshold 2 --out x",
            "create-cluster --nodes 4 --insecure-keys --chain-id 1 --out x",
            "create-cluster --nodes 4 --validators 1 --out x",
            "create-cluster --nodes 4 --compounding --out x",
            "create-cluster --nodes 4 --split-keystores d --out x",
            "create-cluster --nodes 4 --validators 1 --withdrawal-address \
             0x00000000000000000000000000000000000000aa --out x",
            "create-cluster --nodes 4 --validators 1 --fork-version mainnet --insecure-keys --withdrawal-address \
             0x00000000000000000000000000000000000000aa --out x",
            "create-cluster --nodes 4 --validators 1 --fork-version hoodi --deposit-eth 33 --withdrawal-address \
             0x00000000000000000000000000000000000000aa --out x",
            "create-cluster --nodes 64 --base-port 65500 --out x",
            "create-cluster --nodes 4 --round-timeout-ms 50 --round-timeout-cap-ms 20 --out x",
        ] {
            assert_eq!(request_of(args(line)).unwrap_err().code, 2, "{line}");
        }
    }
}
