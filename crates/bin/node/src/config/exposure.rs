//! What a listener beyond loopback means while neither TLS nor a token stands before it (contract: http,
//! section 1): a warning for what the original offered too, a refusal for what signs for whoever asks.

use super::keys::{self, Key};
use super::{Settings, address};
use crate::exit::ExitError;

/// Listeners that answer without TLS and token.
const LISTENERS: [Key; 2] = [keys::VALIDATOR_API, keys::MONITORING];
/// Listeners of features that sign; empty while they are off.
const SIGNING_LISTENERS: [Key; 2] = [keys::REMOTE_SIGNER, keys::GRPC];

/// Warnings about listeners that strangers may reach; an error as soon as they could have something signed
/// with validator keys.
pub fn check(settings: &Settings) -> Result<Vec<String>, ExitError> {
    let signing = SIGNING_LISTENERS.into_iter().filter(|key| !settings.text(*key).is_empty());
    let signing: Vec<Key> = signing.collect();
    let mut warnings = Vec::new();
    for key in LISTENERS.iter().chain(&signing) {
        let address = address(settings, *key)?;
        if address.ip().to_canonical().is_loopback() {
            continue;
        }
        let open = format!("--{} listens on {address} without TLS or token", key.name);
        let feature = settings.switch(keys::ETH_ENABLE).then_some(keys::ETH_ENABLE);
        if let Some(feature) = feature.as_ref().or(signing.first()) {
            return Err(ExitError::usage(format!("{open}, which --{} forbids", feature.name)).hint(
                "let it listen on 127.0.0.1, and a reverse proxy with TLS and authentication before it",
            ));
        }
        warnings.push(format!("{open}: whoever reaches it may use it"));
    }
    Ok(warnings)
}
