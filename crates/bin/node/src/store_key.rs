//! The key of an encrypted block store: from a file or the environment, never from the command line, where others can
//! see it.

use crate::exit::ExitError;
use crate::keys::read_secret;
use aequa_storage::chain_store::StoreKey;
use std::path::Path;
use zeroize::Zeroizing;

/// Variable with the key, where no file is named.
pub const KEY_VARIABLE: &str = "AEQUA_STORAGE_KEY";
/// Longest key file in bytes: the digits, and what editors put around them.
const KEY_FILE_BYTES_MAX: usize = 128;
const HINT: &str =
    "make one with: (umask 077; head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \\n' > store.key)";

/// The key in `file` or, without one, in [`KEY_VARIABLE`]: 64 hex digits. Where the store `encrypts` there has to be one,
/// and elsewhere none: nothing is in plain text that somebody believes encrypted.
pub fn of_node(encrypts: bool, file: Option<&Path>) -> Result<Option<StoreKey>, ExitError> {
    match (encrypts, given(file)?) {
        (true, None) => Err(ExitError::failure(format!(
            "--storage.encrypt is on, and there is no key: name a file with --storage.key-file, or set {KEY_VARIABLE}"
        ))
        .hint(HINT)),
        (false, Some(_)) => {
            Err(ExitError::usage("a key of the block store is given, and --storage.encrypt is off")
                .hint("switch it on, or take the key away"))
        }
        (_, key) => Ok(key),
    }
}

/// The key, if one is given.
pub fn given(file: Option<&Path>) -> Result<Option<StoreKey>, ExitError> {
    let variable = || std::env::var(KEY_VARIABLE).ok().filter(|text| !text.is_empty());
    let Some(file) = file else {
        return variable().map(Zeroizing::new).map(|text| key(&text, KEY_VARIABLE)).transpose();
    };
    let mut warnings = Vec::new();
    let unreadable =
        |error: &std::io::Error| ExitError::failure(format!("cannot read {}: {error}", file.display()));
    let text = read_secret(file, None, KEY_FILE_BYTES_MAX, &mut warnings, unreadable)?;
    for text in warnings {
        tracing::warn!(target: "event", text, "warning");
    }
    key(&text, &file.display().to_string()).map(Some)
}

fn key(text: &str, at: &str) -> Result<StoreKey, ExitError> {
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).map_err(|_| {
        ExitError::failure(format!("{at}: the key of the block store has 64 hex digits")).hint(HINT)
    })?;
    Ok(StoreKey::new(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    #[test]
    fn a_store_is_encrypted_with_a_key_that_is_there_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            let mut file =
                std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            path
        };
        let good = file("good", &format!("{}\n", "5a".repeat(32)));
        assert!(of_node(true, Some(&good)).unwrap().is_some());
        assert!(of_node(false, None).unwrap().is_none());
        assert_eq!(of_node(true, None).unwrap_err().code, 1);
        assert_eq!(of_node(false, Some(&good)).unwrap_err().code, 2);
        for bad in ["", "5a", &"5a".repeat(31), &"xy".repeat(32), &"5a".repeat(33)] {
            let path = file(&format!("bad{}", bad.len()), bad);
            let refusal = of_node(true, Some(&path)).unwrap_err();
            assert!(refusal.message.contains("64 hex digits"), "{refusal}");
        }
        assert!(of_node(true, Some(&dir.path().join("nowhere"))).is_err());
    }
}
