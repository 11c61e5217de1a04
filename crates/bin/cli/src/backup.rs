//! `dvt-node backup` and `dvt-node restore`: an operator's folder as one encrypted file, and back.

use crate::flags::path;
use aequa_node::audit::{entries, record_or_complain};
use aequa_node::backup::{self, Backup, Contents, Restore};
use aequa_node::console;
use aequa_node::exit::ExitError;
use clap::Args;
use std::path::PathBuf;

/// Back up an operator's folder into one encrypted file, also while its node runs
#[derive(Debug, Args)]
#[command(
    after_help = "In it are the keys with their passwords, the lock, the settings, and whose folder it is. Votes \
                        and blocks are not: a restored node asks the other operators what it has signed.\n\n\
                        Example: openssl rand -hex 24 > pw; chmod 600 pw; \
                        dvt-node backup --data-dir node0 --password-file pw --out node0.backup"
)]
pub struct BackupArgs {
    /// The operator's folder
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
    /// Folder of its keystores [default: keys in --data-dir]
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub keys_dir: Option<PathBuf>,
    /// File to make; it must not exist
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub out: PathBuf,
    /// File with the password, at least 12 characters. Keep it apart from the backup
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub password_file: PathBuf,
}

/// Restore an operator's folder from a backup
#[derive(Debug, Args)]
#[command(
    after_help = "The restored node signs nothing at or below what the original may have signed, however old the \
                        backup is. Stop the original first: of two that run, one stops as soon as it sees the other."
)]
pub struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub from: PathBuf,
    /// Folder to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub data_dir: PathBuf,
    /// File with the password
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub password_file: PathBuf,
}

/// `dvt-node backup`.
pub fn backup(args: BackupArgs) -> Result<(), ExitError> {
    let keys_dir = args.keys_dir.unwrap_or_else(|| args.data_dir.join("keys"));
    let BackupArgs { data_dir, out, password_file, .. } = args;
    let request = Backup { data_dir, keys_dir, out, password_file };
    let contents = backup::backup(&request)?;
    record_or_complain(&request.data_dir, &entries::backed_up(&contents, &request.out));
    let (Contents { cluster, files, .. }, to) = (contents, request.out.display());
    console::line(format!("{files} files of an operator of {cluster} are in {to}, encrypted"));
    console::line("keep the password elsewhere: whoever has both is this operator");
    Ok(())
}

/// `dvt-node restore`.
pub fn restore(args: RestoreArgs) -> Result<(), ExitError> {
    let RestoreArgs { from, data_dir, password_file } = args;
    let request = Restore { from, data_dir, password_file };
    let contents = backup::restore(&request)?;
    record_or_complain(&request.data_dir, &entries::restored(&contents, &request.from));
    let to = request.data_dir.display();
    let Contents { cluster, quorum, operators, files } = contents;
    console::line(format!("{files} files of an operator of {cluster} are in {to}"));
    console::line("what this operator has signed is not in a backup. When its node starts, it waits for");
    console::line(format!(
        "answers of {quorum} of the {operators} operators, and signs nothing that the original may have signed."
    ));
    console::line("stop the original before: of two that run, one stops as soon as it sees the other.");
    console::line(format!("  dvt-node --data-dir {to}"));
    Ok(())
}
