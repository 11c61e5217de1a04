//! `dvt-node dkg`: keys that nobody holds.

mod reshare;

use crate::flags::{CHAIN_IDS, SettingFlags, path, text};
use crate::staking::StakingFlags;
use aequa_node::ceremony::member::{self, Member};
use aequa_node::ceremony::own::{OPERATOR_FILE, OperatorCard, OwnKeys};
use aequa_node::ceremony::{self, DEFINITION_FILE, Plan};
use aequa_node::cluster::{Addresses, BASE_P2P_PORT, BASE_PORT};
use aequa_node::config::LOCK_FILE;
use aequa_node::console;
use aequa_node::deposits::DEPOSITS_FILE;
use aequa_node::exit::ExitError;
use aequa_node::files;
use aequa_node::obol;
use aequa_telemetry::log;
use aequa_types::Quorum;
use aequa_types::definition::{DEFINITION_VERSION, Definition, ValidatorGroup};
use aequa_types::obol::imported::ImportedCluster;
use clap::{Args, Subcommand};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// Make keys that nobody holds: one operator's part of the key ceremony
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    after_help = "1. Every operator:  dvt-node dkg id --data-dir DIR --name NAME --address MULTIADDR\n\
                        2. One of them:     dvt-node dkg new --operator FILE ... --out cluster-definition.json\n\
                        3. Every operator:  dvt-node dkg --definition cluster-definition.json --data-dir DIR\n\n\
                        It goes on without f operators that are away, and whoever is killed starts the same command \
                        again. On one machine, all in one: dvt-node dkg local --nodes 4 --out DIR\n\n\
                        Other operators for a cluster that runs, with the same keys: dvt-node dkg reshare --help"
)]
pub struct DkgArgs {
    /// What else there is to do.
    #[command(subcommand)]
    pub command: Option<DkgCommand>,
    /// One operator's part.
    #[command(flatten)]
    pub member: MemberArgs,
}

/// One operator's part.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// The definition that all operators have, byte for byte
    #[arg(long, value_name = "FILE", value_parser = path(), required = true)]
    pub definition: Option<PathBuf>,
    /// The operator's folder, with the keys that dkg id made
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// Of a resharing: the lock before it, for an operator that has it not in its folder; locks of earlier epochs may
    /// follow, so that blocks without a seal can be checked too
    #[arg(long, value_name = "FILE", value_delimiter = ',', value_parser = path())]
    pub lock: Vec<PathBuf>,
    /// Multiaddrs to listen on [default: those of the definition, of a resharing with ports 500 above them]
    #[arg(long = "p2p.listen", value_name = "MULTIADDR", value_delimiter = ',', value_parser = text())]
    pub p2p_listen: Vec<String>,
    /// Seconds that operators that are away are waited for in each step, once enough are there
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait: u64,
    /// Give up after so many seconds; the same command goes on
    #[arg(long, value_name = "S", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: u64,
    /// API of the node, for its node.toml
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from(([127, 0, 0, 1], BASE_PORT)))]
    pub validator_api: SocketAddr,
    /// Metrics of the node, for its node.toml; those of the ceremony are in DIR/dkg/metrics.prom
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from(([127, 0, 0, 1], BASE_PORT + 20)))]
    pub monitoring: SocketAddr,
    /// Write log events from this level on as JSON lines on stderr [default: none]
    #[arg(long = "log.level", value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log_level: Option<String>,
    /// Lie: bad-share, two-commits or silence; test builds only
    #[cfg(feature = "e2e")]
    #[arg(long = "e2e.fault", value_name = "FAULT")]
    pub fault: Option<ceremony::faulty::Misbehaviour>,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub enum DkgCommand {
    Id(IdArgs),
    New(NewArgs),
    Reshare(reshare::ReshareArgs),
    Local(LocalArgs),
    Verify(VerifyArgs),
}

/// Make this operator's identity, and print what the others need of it
#[derive(Debug, Args)]
pub struct IdArgs {
    /// The operator's folder; keys that are there are kept
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// What people call the operator
    #[arg(long, value_name = "NAME", value_parser = text())]
    pub name: String,
    /// Where the others reach it, for example /ip4/192.0.2.1/tcp/31000; may be given more than once
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',', value_parser = text())]
    pub address: Vec<String>,
}

/// Write the definition: everything that the operators agree on
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The operator.json of each operator, in the order they are to have
    #[arg(long, value_name = "FILE", required = true, num_args = 1.., value_delimiter = ',', value_parser = path())]
    pub operator: Vec<PathBuf>,
    /// File to make
    #[arg(long, value_name = "FILE", default_value = DEFINITION_FILE, value_parser = path())]
    pub out: PathBuf,
    /// The imported-validators.json of any of the operators: the cluster takes over the validators of an Obol cluster
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub imported: Option<PathBuf>,
    /// What it says.
    #[command(flatten)]
    pub cluster: ClusterFlags,
}

/// What a definition says of the cluster.
#[derive(Debug, Args)]
pub struct ClusterFlags {
    /// Name of the cluster
    #[arg(long, default_value = "aequa", value_parser = text())]
    pub name: String,
    /// EIP-712 chain id: a transaction is valid in every cluster with the same [default: one of its own]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(CHAIN_IDS))]
    pub chain_id: Option<u64>,
    /// What the cluster does on Ethereum.
    #[command(flatten)]
    pub staking: StakingFlags,
    /// Parameters of the cluster.
    #[command(flatten)]
    pub shared: SettingFlags<false>,
}

/// Run a whole ceremony on this machine, each operator in a process of its own
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// Operators
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: u8,
    /// Folder to make, with one folder per operator; a ceremony that was interrupted there goes on
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: PathBuf,
    /// API of node i on this port + i, monitoring on this port + 20 + i
    #[arg(long, value_name = "PORT", default_value_t = BASE_PORT, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub base_port: u16,
    /// Peer to peer port of node i: this + i
    #[arg(long, value_name = "PORT", default_value_t = BASE_P2P_PORT, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub base_p2p_port: u16,
    /// What the definition says.
    #[command(flatten)]
    pub cluster: ClusterFlags,
}

/// Check a transcript offline, with nothing but the definition
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The transcript: dkg/dkg-*.dat of an operator's folder
    #[arg(value_name = "TRANSCRIPT", value_parser = path())]
    pub transcript: PathBuf,
    /// The definition of the ceremony
    #[arg(long, value_name = "FILE", default_value = DEFINITION_FILE, value_parser = path())]
    pub definition: PathBuf,
    /// Of a resharing: the lock before it
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub lock: Option<PathBuf>,
}

/// `dvt-node dkg`.
pub fn dkg(args: DkgArgs) -> Result<(), ExitError> {
    match args.command {
        None => take_part(args.member),
        Some(DkgCommand::Id(args)) => id(args),
        Some(DkgCommand::New(args)) => new(args),
        Some(DkgCommand::Reshare(args)) => reshare::reshare(args),
        Some(DkgCommand::Local(args)) => local(args),
        Some(DkgCommand::Verify(args)) => verify(&args),
    }
}

fn take_part(args: MemberArgs) -> Result<(), ExitError> {
    let definition = args.definition.ok_or_else(|| ExitError::usage("--definition is missing"))?;
    let member = Member {
        definition,
        locks: args.lock,
        addresses: Addresses {
            validator_api: args.validator_api,
            monitoring: args.monitoring,
            p2p: args.p2p_listen,
        },
        data_dir: args.data_dir,
        wait: Duration::from_secs(args.wait),
        timeout: Duration::from_secs(args.timeout),
        #[cfg(feature = "e2e")]
        fault: args.fault,
    };
    let _log = match args.log_level {
        Some(level) => {
            let level = level.parse().map_err(ExitError::usage)?;
            Some(log::init_to(std::io::stderr(), log::Format::Json, level).map_err(ExitError::failure)?)
        }
        None => None,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ExitError::failure)?;
    let lock = runtime.block_on(member::run(&member))?;
    let at = member.data_dir.display();
    console::line(format!("group key {}", lock.lock().sequencer.group_key));
    console::line(format!("lock hash {}", lock.lock().lock_hash));
    match lock.lock().activation_height {
        None => console::line(format!("start the node:  dvt-node --data-dir {at}")),
        Some(height) => {
            let height = height.0;
            console::line(format!("in force from height {height} on: a node that runs changes by itself"));
            console::line(format!("a new operator starts its node now:  dvt-node --data-dir {at}"));
            console::line("the node of an operator that leaves ends by itself before that height");
        }
    }
    Ok(())
}

fn id(args: IdArgs) -> Result<(), ExitError> {
    let card = OwnKeys::ensure(&args.data_dir)?.card(args.name, args.address);
    let file = args.data_dir.join(OPERATOR_FILE);
    files::replace(&file, card.to_json().as_bytes(), files::PUBLIC)
        .map_err(|error| ExitError::failure(format!("cannot write {}: {error}", file.display())))?;
    console::line(card.to_json().trim_end());
    console::line(format!("it is in {}: give it to whoever writes the definition", file.display()));
    Ok(())
}

fn new(args: NewArgs) -> Result<(), ExitError> {
    let cards = args.operator.iter().map(|file| OperatorCard::read(file)).collect::<Result<Vec<_>, _>>()?;
    let imported = args.imported.map(|file| obol::read_imported(&file)).transpose()?;
    let definition = define(args.cluster, cards, imported)?;
    write_definition(&args.out, &definition)?;
    console::line(format!("{}: {}", args.out.display(), definition.definition_hash));
    console::line("send it to all operators. Each starts, in any order and at any time of the ceremony:");
    console::line(format!("  dvt-node dkg --definition {} --data-dir DIR", args.out.display()));
    Ok(())
}

fn write_definition(out: &Path, definition: &Definition) -> Result<(), ExitError> {
    if files::is_there(out) {
        return Err(ExitError::failure(format!("{} exists", out.display())).hint("choose another --out"));
    }
    files::replace(out, definition.to_json().as_bytes(), files::PUBLIC)
        .map_err(|error| ExitError::failure(format!("cannot write {}: {error}", out.display())))
}

fn define(
    flags: ClusterFlags,
    cards: Vec<OperatorCard>,
    imported: Option<ImportedCluster>,
) -> Result<Definition, ExitError> {
    let staking = flags.staking.resolve(imported.is_some())?;
    if staking.split.is_some() {
        return Err(ExitError::usage("--split-keystores is for create-cluster: a ceremony makes new keys"));
    }
    let quorum = Quorum::of(cards.len()).ok_or_else(|| ExitError::usage("no operators"))?;
    let operators = quorum.members().zip(cards).map(|(index, card)| card.operator(index));
    let operators = operators.collect::<Result<Vec<_>, String>>().map_err(ExitError::usage)?;
    let fork_version =
        imported.as_ref().map_or(staking.fork_version.into(), |imported| imported.fork_version);
    let imported = imported.map(|imported| obol::validators_of(&imported, &operators)).transpose();
    let imported = imported.map_err(|reason| ExitError::usage(format!("--imported: {reason}")))?;
    let count = staking.validators.len() as u64;
    let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut definition = Definition {
        version: DEFINITION_VERSION.into(),
        name: flags.name,
        created_at: created.as_secs(),
        chain_id: 0,
        fork_version,
        threshold: quorum.quorum() as u64,
        operators,
        consensus: flags.shared.params()?.over_defaults()?.into(),
        builders: staking.builders,
        validators: staking
            .validators
            .into_iter()
            .take(1)
            .map(|one| ValidatorGroup::new(count, one))
            .collect(),
        imported,
        resharing: None,
        definition_hash: Default::default(),
    };
    definition.seal(flags.chain_id);
    definition.check_form().map_err(ExitError::usage)?;
    Ok(Plan::new(definition, None).map_err(ExitError::usage)?.definition)
}

fn verify(args: &VerifyArgs) -> Result<(), ExitError> {
    let verified = ceremony::verify(&args.definition, args.lock.as_slice(), &args.transcript)?;
    for blame in &verified.blames {
        let who = verified.plan.name_of(blame.operator);
        let proof = if blame.proof.is_some() { "proven" } else { "in this transcript, which proves nothing" };
        console::line(format!("operator {who} {}: {proof}", blame.fault));
    }
    let result = verified.result?;
    let dealers = result.qualified.iter().map(|dealing| verified.plan.name_of(dealing.dealer));
    let dealers: Vec<String> = dealers.collect();
    console::line(format!("valid: keys made from the dealings of operators {}", dealers.join(", ")));
    console::line(format!("group key 0x{}", hex::encode(result.chain.group_key.to_bytes())));
    for (number, validator) in result.validators.iter().enumerate() {
        console::line(format!("validator {number} 0x{}", hex::encode(validator.group_key.to_bytes())));
    }
    Ok(())
}

fn local(args: LocalArgs) -> Result<(), ExitError> {
    let out = &args.out;
    let fail = |error: std::io::Error| ExitError::failure(format!("cannot make {}: {error}", out.display()));
    std::fs::create_dir_all(out).map_err(fail)?;
    let definition = out.join(DEFINITION_FILE);
    let addresses = |node| Addresses::on_loopback(node, args.nodes, args.base_port, args.base_p2p_port);
    if files::is_there(&definition) {
        console::line(format!("going on with {}", definition.display()));
    } else {
        let mut cards = Vec::new();
        for node in 0..args.nodes {
            let own = OwnKeys::ensure(&out.join(format!("node{node}")))?;
            cards.push(own.card(format!("operator-{node}"), addresses(node).p2p));
        }
        write_definition(&definition, &define(args.cluster, cards, None)?)?;
    }
    let mut running = Vec::new();
    for node in 0..args.nodes {
        running.push((node, Running(start(out, node, &addresses(node), &definition).map_err(fail)?)));
    }
    let mut failed = Vec::new();
    for (node, mut member) in running {
        if !member.0.wait().map_err(fail)?.success() {
            failed.push(node.to_string());
        }
    }
    if !failed.is_empty() {
        let nodes = failed.join(", ");
        return Err(ExitError::failure(format!("operators {nodes} did not finish"))
            .hint(format!("see dkg.log in their folders in {}; the same command goes on", out.display())));
    }
    for name in [LOCK_FILE, DEPOSITS_FILE] {
        let made = out.join("node0").join(name);
        if files::is_there(&made) {
            std::fs::copy(made, out.join(name)).map_err(fail)?;
        }
    }
    let lock = aequa_node::keys::load_lock(&out.join(LOCK_FILE))?;
    console::line(format!("all {} operators have the lock {}", args.nodes, lock.lock().lock_hash));
    console::line("start every node in its own terminal:");
    for node in 0..args.nodes {
        console::line(format!("  dvt-node --data-dir {}/node{node}", out.display()));
    }
    Ok(())
}

/// An operator's process: none outlives the command. The same command goes on.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is no error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Operator 0 shows its progress here, the others in files.
fn start(out: &Path, node: u8, addresses: &Addresses, definition: &Path) -> std::io::Result<Child> {
    let dir = out.join(format!("node{node}"));
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["dkg", "--definition"]).arg(definition).arg("--data-dir").arg(&dir);
    command.args(["--validator-api", &addresses.validator_api.to_string()]);
    command.args(["--monitoring", &addresses.monitoring.to_string()]);
    command.args(["--p2p.listen", &addresses.p2p.join(",")]).stdin(Stdio::null());
    if node > 0 {
        let log = File::create(dir.join("dkg.log"))?;
        command.stdout(log.try_clone()?).stderr(log);
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> DkgArgs {
        match crate::cli::parse(line.split(' ').map(str::to_owned)) {
            Ok(crate::cli::Command::Dkg(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn operators_that_give_their_cards_get_one_definition() {
        let dir = tempfile::tempdir().unwrap();
        let mut cards = Vec::new();
        for node in 0..4 {
            let folder = dir.path().join(format!("node{node}"));
            let line = format!("dkg id --data-dir {} --name n{node}", folder.display());
            dkg(args(&line)).unwrap();
            let card = std::fs::read_to_string(folder.join(OPERATOR_FILE)).unwrap();
            dkg(args(&line)).unwrap();
            let again = std::fs::read_to_string(folder.join(OPERATOR_FILE)).unwrap();
            assert_eq!(card, again, "keys that are there are kept");
            cards.push(folder.join(OPERATOR_FILE).display().to_string());
        }
        let out = dir.path().join("d.json");
        let address = "0x00000000000000000000000000000000000000aa";
        dkg(args(&format!(
            "dkg new --operator {} --out {} --validators 3 --fork-version hoodi --withdrawal-address {address}",
            cards.join(","),
            out.display()
        )))
        .unwrap();
        let plan = Plan::load(&out, &[]).unwrap();
        assert_eq!((plan.definition.operators.len(), plan.machine.validators()), (4, 3));
        let text = std::fs::read_to_string(&out).unwrap();
        std::fs::write(&out, text.replace("\"count\": 3", "\"count\": 4")).unwrap();
        assert_eq!(Plan::load(&out, &[]).unwrap_err().code, 4);
        let twice =
            format!("dkg new --operator {0} {0} --out {1}", cards[0], dir.path().join("e.json").display());
        assert_eq!(dkg(args(&twice)).unwrap_err().code, 2, "one operator twice");
    }

    #[test]
    fn what_is_missing_is_usage() {
        for line in ["dkg", "dkg --data-dir x", "dkg id --data-dir x", "dkg new", "dkg local", "dkg verify"] {
            let refused = crate::cli::parse(line.split(' ').map(str::to_owned)).unwrap_err();
            assert_eq!(refused.code, 2, "{line}");
        }
    }
}
