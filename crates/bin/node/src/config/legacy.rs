//! Environment of the original that no flag carries.

use super::sources::not_in_this_version;
use crate::exit::ExitError;

/// Bytes of the key of old encrypted share files.
const KEY_BYTES: usize = 32;

/// Checks the old variables: what they ask for is either so already, or refused.
///
/// Shares are always encrypted here. Encryption demanded without a usable key still fails closed,
/// because somebody relies on a key that is not there. `read` is how a key file is read.
pub fn check(
    lookup: impl Fn(&str) -> Option<String>,
    read: impl Fn(&str) -> std::io::Result<Vec<u8>>,
) -> Result<(), ExitError> {
    let given = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let on =
        |name: &str| given(name).is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "no" | "off"));
    if on("AEQUA_BEAST_EARLY_SHARE") {
        return Err(not_in_this_version("AEQUA_BEAST_EARLY_SHARE"));
    }
    if !on("AEQUA_TSS_KEYSTORE_ENCRYPT") {
        return Ok(());
    }
    let bytes = match (given("AEQUA_TSS_KEYSTORE_KEY"), given("AEQUA_TSS_KEYSTORE_KEY_FILE")) {
        (Some(text), _) => hex::decode(&text).unwrap_or_default().len(),
        (None, Some(path)) => read(&path).map(|bytes| bytes.len()).unwrap_or_default(),
        (None, None) => 0,
    };
    if bytes == KEY_BYTES {
        return Ok(());
    }
    Err(ExitError::failure("AEQUA_TSS_KEYSTORE_ENCRYPT is on, but there is no usable key").hint(
        "set AEQUA_TSS_KEYSTORE_KEY to 64 hex digits or AEQUA_TSS_KEYSTORE_KEY_FILE to a file of 32 bytes, \
         or unset it: keystores are always encrypted",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<(), ExitError> {
        check(
            |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
            |path| if path == "good" { Ok(vec![0; 32]) } else { Ok(vec![0; 31]) },
        )
    }

    #[test]
    fn encryption_without_a_usable_key_fails_closed() {
        let encrypt = ("AEQUA_TSS_KEYSTORE_ENCRYPT", "1");
        let key = "ab".repeat(32);
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[encrypt, ("AEQUA_TSS_KEYSTORE_KEY", &key)]), Ok(()));
        assert_eq!(with(&[encrypt, ("AEQUA_TSS_KEYSTORE_KEY_FILE", "good")]), Ok(()));
        for bad in [
            vec![encrypt],
            vec![encrypt, ("AEQUA_TSS_KEYSTORE_KEY", "xyz")],
            vec![encrypt, ("AEQUA_TSS_KEYSTORE_KEY_FILE", "short")],
        ] {
            assert_eq!(with(&bad).unwrap_err().code, 1, "{bad:?}");
        }
    }

    #[test]
    fn early_shares_are_refused() {
        assert_eq!(with(&[("AEQUA_BEAST_EARLY_SHARE", "1")]).unwrap_err().code, 2);
        assert_eq!(with(&[("AEQUA_BEAST_EARLY_SHARE", "0")]), Ok(()));
    }
}
