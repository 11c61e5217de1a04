//! `dvt-node tx new-account`, and how such a key is read again.

use crate::flags::path;
use aequa_crypto::transaction::AccountKey;
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_node::files;
use aequa_node::keys::read_secret;
use clap::Args;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest key file in bytes: 64 hex digits, a prefix and white space.
const KEY_FILE_BYTES_MAX: usize = 128;

/// Make a key and print its address
#[derive(Debug, Args)]
pub struct NewAccountArgs {
    /// File to write the secret key to; without it, the key is printed
    #[arg(long, value_name = "FILE", value_parser = path())]
    out: Option<PathBuf>,
}

/// Makes a key.
pub fn new_account(args: &NewAccountArgs) -> Result<(), ExitError> {
    let key = AccountKey::generate().map_err(ExitError::failure)?;
    let secret = Zeroizing::new(format!("{}\n", hex::encode(key.to_bytes().as_slice())));
    match &args.out {
        Some(path) => {
            files::write_new(path, secret.as_bytes(), files::SECRET).map_err(|error| {
                ExitError::failure(format!("cannot write {}: {error}", path.display()))
                    .hint("keys are never overwritten: choose another file")
            })?;
            console::line(format!("secret key in {}", path.display()));
        }
        None => console::line(format!("secret key {}", secret.trim())),
    }
    console::line(format!("address {:#x}", key.address()));
    Ok(())
}

/// The key in a file.
pub fn read_key(path: &Path) -> Result<AccountKey, ExitError> {
    let fail = |why: String| {
        ExitError::failure(format!("cannot use the key in {}: {why}", path.display()))
            .hint("it must hold 64 hex digits; dvt-node tx new-account --out FILE makes one")
    };
    let mut warnings = Vec::new();
    let text = read_secret(path, None, KEY_FILE_BYTES_MAX, &mut warnings, |error| fail(error.to_string()))?;
    warnings.iter().for_each(console::complain);
    let digits = text.trim();
    let mut bytes = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), bytes.as_mut_slice())
        .map_err(|error| fail(error.to_string()))?;
    AccountKey::from_bytes(&bytes).map_err(|error| fail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_written_once_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let args = NewAccountArgs { out: Some(path.clone()) };
        new_account(&args).unwrap();
        read_key(&path).unwrap();
        assert_eq!(new_account(&args).unwrap_err().code, 1);
        for bad in ["", "zz", &"00".repeat(32), &"ab".repeat(33)] {
            let path = dir.path().join(format!("bad{}", bad.len()));
            files::write_new(&path, bad.as_bytes(), files::SECRET).unwrap();
            assert_eq!(read_key(&path).unwrap_err().code, 1);
        }
    }

    /// A pipe would make the command wait for whoever never comes.
    #[test]
    fn a_key_that_others_can_read_and_a_pipe_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        files::write_new(&path, "11".repeat(32).as_bytes(), files::PUBLIC).unwrap();
        let error = read_key(&path).unwrap_err();
        assert!(error.hint.starts_with("chmod go-rwx"), "{error:?}");
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(read_key(&pipe).unwrap_err().message.contains("no regular file"));
    }
}
