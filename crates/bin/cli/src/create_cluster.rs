//! `dvt-node create-cluster`: what is asked for, and what to do with it.

use crate::flags::{CHAIN_IDS, SettingFlags, path, text};
use aequa_node::cluster::{BASE_P2P_PORT, BASE_PORT, MAINNET_CHAIN_ID, NewCluster, make, monitoring_offset};
use aequa_node::config::{LOCK_FILE, not_in_this_version};
use aequa_node::console;
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
    /// Validator keys; only 0 in this version
    #[arg(long, hide = true, default_value_t = 0)]
    pub validators: u32,
    /// Not in this version
    #[arg(long, hide = true, value_parser = text())]
    pub fork_version: Option<String>,
    /// Not in this version
    #[arg(long, hide = true, value_parser = path())]
    pub split_keystores: Option<PathBuf>,
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
    for (given, what) in [
        (args.validators > 0, "--validators"),
        (args.fork_version.is_some(), "--fork-version"),
        (args.split_keystores.is_some(), "--split-keystores"),
    ] {
        if given {
            return Err(not_in_this_version(what));
        }
    }
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
            "create-cluster --nodes 4 --split-keystores d --out x",
            "create-cluster --nodes 64 --base-port 65500 --out x",
            "create-cluster --nodes 4 --round-timeout-ms 50 --round-timeout-cap-ms 20 --out x",
        ] {
            assert_eq!(request_of(args(line)).unwrap_err().code, 2, "{line}");
        }
    }
}
