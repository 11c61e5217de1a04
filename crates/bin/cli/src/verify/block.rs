//! `dvt-node verify-block`: is this block what the cluster decided?
//!
//! Nothing is trusted but the lock or the group key given: not the file, not the node it came from.
//! With the lock everything is checked; with the group key alone, what one public key can show.

use super::{Verdict, check_origin, load_lock, proof_in_words, read_file, read_input, tell};
use crate::client::{ClientError, NodeClient};
use crate::flags::{path, text};
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::seal::{GroupKey, KEY_BYTES};
use aequa_crypto::verify::Verifier;
use aequa_node::config::not_in_this_version;
use aequa_node::exit::ExitError;
use aequa_node::runtime;
use aequa_types::json::{BLOCK_JSON_BYTES_MAX, BlockJson, CertificateJson};
use aequa_types::{CertifiedBlock, Height, InstanceId};
use clap::Args;
use std::path::PathBuf;

/// Check a block with nothing but the cluster lock or the group key
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("key").required(true).args(["lock", "group_key"])))]
#[command(group(clap::ArgGroup::new("source").required(true).args(["block", "url"])))]
pub struct VerifyBlockArgs {
    /// Cluster lock to check against
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub lock: Option<PathBuf>,
    /// Group key to check against: 96 bytes as hex
    #[arg(long, value_name = "HEX", value_parser = text())]
    pub group_key: Option<String>,
    /// Block as JSON; - is stdin
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub block: Option<PathBuf>,
    /// Node to ask for the block
    #[arg(long, value_name = "URL", requires = "height", value_parser = text())]
    pub url: Option<String>,
    /// Height of the block to ask for
    #[arg(long, value_name = "N", requires = "url", conflicts_with = "block")]
    pub height: Option<u64>,
    /// Certificate to check instead of the block's own
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub certificate: Option<PathBuf>,
    /// Not in this version
    #[arg(long, hide = true, value_parser = path())]
    pub policy: Option<PathBuf>,
}

/// What a block is checked against.
enum Anchor {
    Lock(Box<VerifiedLock>),
    GroupKey(Box<GroupKey>),
}

/// Checks one block; the exit code tells invalid (1) from could-not-check (3).
pub fn verify_block(args: &VerifyBlockArgs) -> Result<(), ExitError> {
    if args.policy.is_some() {
        return Err(not_in_this_version("--policy"));
    }
    let anchor = anchor(args)?;
    let text = block_text(args)?;
    let certificate =
        args.certificate.as_deref().map(|path| read_file(path, BLOCK_JSON_BYTES_MAX)).transpose()?;
    if let Anchor::GroupKey(_) = anchor
        && lacks_seal(&text, certificate.as_deref())
    {
        return Err(ExitError::unchecked(
            "the certificate is a list of commits, a group key cannot check it",
        )
        .hint("use --lock, or fetch the block again: the group seal follows the decision by a moment"));
    }
    tell(verdict(&anchor, &text, certificate.as_deref(), args.height.map(Height)))
}

/// Whether the block holds commits where a group key needs the seal. What does not parse is judged later.
fn lacks_seal(block: &[u8], certificate: Option<&[u8]>) -> bool {
    let certificate = match certificate {
        Some(text) => CertificateJson::parse(text).ok(),
        None => BlockJson::parse(block).ok().map(|certified| certified.certificate),
    };
    certificate.is_some_and(|certificate| certificate.group_seal().is_none())
}

fn verdict(anchor: &Anchor, block: &[u8], certificate: Option<&[u8]>, height: Option<Height>) -> Verdict {
    let mut certified =
        BlockJson::parse(block).map_err(|error| format!("the block does not parse: {error}"))?;
    if let Some(text) = certificate {
        certified.certificate = CertificateJson::parse(text)
            .map_err(|error| format!("the certificate does not parse: {error}"))?;
    }
    let found = certified.block.header.height;
    if let Some(wanted) = height.filter(|wanted| *wanted != found) {
        return Err(format!("asked for height {wanted}, got {found}"));
    }
    let mut checks = vec![format!("block {found} with {} transactions", certified.block.header.items)];
    checks.extend(match anchor {
        Anchor::Lock(lock) => by_lock(lock, certified)?,
        Anchor::GroupKey(key) => by_group_key(key, &certified)?,
    });
    Ok(checks)
}

fn by_lock(lock: &VerifiedLock, certified: CertifiedBlock) -> Verdict {
    let origin = check_origin(lock, &certified.block.header)?;
    let verifier = Verifier::new(lock);
    let (block, certificate) = verifier.certified_block(certified).map_err(|refusal| refusal.to_string())?;
    Ok(vec![
        origin,
        proof_in_words(&certificate, lock.quorum().quorum()),
        "roots and counts in the header are those of the content".into(),
        format!("{} transaction signatures", block.items().len()),
        format!("digest {}", block.digest()),
    ])
}

fn by_group_key(key: &GroupKey, certified: &CertifiedBlock) -> Verdict {
    let CertifiedBlock { block, certificate } = certified;
    let (header, digest) = (&block.header, block.header.digest());
    if certificate.instance != InstanceId::Block(header.height) || certificate.digest != digest {
        return Err("the certificate is of another block".into());
    }
    let seal = certificate.group_seal().ok_or("the certificate has no group seal")?;
    let message = certificate.decision().seal_bytes(&header.cluster_id);
    key.verify(&message, seal).map_err(|error| format!("seal: {error}"))?;
    if header.payload_root != block.payload_root() {
        return Err("payload_root is not the root of the items".into());
    }
    if header.evidence_root != block.evidence_root() {
        return Err("evidence_root is not the root of the evidence".into());
    }
    if usize::try_from(header.items) != Ok(block.items.len()) {
        return Err(format!("the header says {} items, there are {}", header.items, block.items.len()));
    }
    Ok(vec![
        format!("seal of the group, round {}", certificate.round),
        "roots and counts in the header are those of the content".into(),
        "transaction signatures are vouched for by the seal; --lock checks them too".into(),
        format!("digest {digest}, cluster {}", header.cluster_id),
    ])
}

fn anchor(args: &VerifyBlockArgs) -> Result<Anchor, ExitError> {
    if let Some(path) = &args.lock {
        return Ok(Anchor::Lock(Box::new(load_lock(path)?)));
    }
    let text = args.group_key.as_deref().unwrap_or_default();
    let mut bytes = [0u8; KEY_BYTES];
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)
        .map_err(|_| ExitError::usage(format!("--group-key must be {} hex digits", 2 * KEY_BYTES)))?;
    let key =
        GroupKey::from_bytes(&bytes).map_err(|error| ExitError::usage(format!("--group-key: {error}")))?;
    Ok(Anchor::GroupKey(Box::new(key)))
}

fn block_text(args: &VerifyBlockArgs) -> Result<Vec<u8>, ExitError> {
    match (&args.block, &args.url, args.height) {
        (Some(path), ..) => read_input(path, BLOCK_JSON_BYTES_MAX),
        (None, Some(url), Some(height)) => ask(url, height),
        _ => Err(ExitError::usage("give --block FILE, or --url URL and --height N")),
    }
}

fn ask(url: &str, height: u64) -> Result<Vec<u8>, ExitError> {
    let node = NodeClient::new(url).map_err(ExitError::usage)?;
    let answer: Result<Option<Vec<u8>>, ClientError> = runtime()?.block_on(node.block(height));
    answer
        .map_err(ExitError::unchecked)?
        .ok_or_else(|| ExitError::unchecked(format!("{} has no block {height}", node.shown())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_crypto::lock;
    use aequa_crypto::transaction::{AccountKey, sign};
    use aequa_testkit::{CHAIN_ID, Keyring, at, commit, plaintext_with};
    use aequa_types::{Block, OperatorIndex};
    use std::path::Path;

    fn block(keys: &Keyring) -> Block {
        let key = AccountKey::generate().unwrap();
        let items = vec![sign(CHAIN_ID, plaintext_with(key.address(), 0, 5, &[1, 2]), &key)];
        let mut block = aequa_testkit::block(keys.cluster_id(), 1, keys.cluster_id(), items);
        block.header.policy_hash = keys.dealt.lock.consensus.builder_policy_hash;
        block.header.proposer = OperatorIndex(0);
        block
    }

    /// A block decided by the single operator of the cluster, sealed or with its commit.
    fn certified(keys: &Keyring, sealed: bool) -> CertifiedBlock {
        let block = block(keys);
        let commit = commit(at(1), 0, block.header.digest());
        let unsealed = keys.certificate(&commit, &[0]);
        let certificate = if sealed { keys.sealed(unsealed.decision()) } else { unsealed };
        CertifiedBlock { block, certificate }
    }

    fn text(certified: &CertifiedBlock) -> Vec<u8> {
        serde_json::to_vec(&BlockJson::from(certified)).unwrap()
    }

    fn by_lock(keys: &Keyring) -> Anchor {
        Anchor::Lock(Box::new(lock::verify(keys.lock.lock()).unwrap()))
    }

    fn by_key(keys: &Keyring) -> Anchor {
        Anchor::GroupKey(Box::new(*keys.lock.group_key()))
    }

    #[test]
    fn a_decided_block_is_valid_by_lock_and_by_group_key() {
        let keys = Keyring::of(1);
        for sealed in [true, false] {
            verdict(&by_lock(&keys), &text(&certified(&keys, sealed)), None, Some(Height(1))).unwrap();
        }
        verdict(&by_key(&keys), &text(&certified(&keys, true)), None, None).unwrap();
    }

    #[test]
    fn a_group_key_cannot_check_commits_and_does_not_call_them_invalid() {
        let keys = Keyring::of(1);
        let (sealed, commits) = (certified(&keys, true), certified(&keys, false));
        assert!(!lacks_seal(&text(&sealed), None));
        assert!(lacks_seal(&text(&commits), None));
        let seal = serde_json::to_vec(&CertificateJson::from(&sealed.certificate)).unwrap();
        assert!(!lacks_seal(&text(&commits), Some(&seal)), "the certificate beside it counts");
        assert!(!lacks_seal(b"no block", None), "that is for the parser to judge");
    }

    #[test]
    fn a_block_with_any_changed_digit_is_invalid() {
        let keys = Keyring::of(1);
        for (anchor, sealed) in [(by_lock(&keys), true), (by_lock(&keys), false), (by_key(&keys), true)] {
            let good = text(&certified(&keys, sealed));
            let digits =
                (0..good.len()).filter(|at| good[*at].is_ascii_digit() || (b'a'..=b'f').contains(&good[*at]));
            for at in digits.step_by(7) {
                let mut bad = good.clone();
                bad[at] = if bad[at] == b'1' { b'2' } else { b'1' };
                assert!(verdict(&anchor, &bad, None, None).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn blocks_of_another_cluster_height_or_certificate_are_invalid() {
        let (keys, other) = (Keyring::of(1), Keyring::of(1));
        let good = certified(&keys, true);
        assert!(verdict(&by_lock(&other), &text(&good), None, None).is_err());
        assert!(verdict(&by_key(&other), &text(&good), None, None).is_err());
        assert!(verdict(&by_lock(&keys), &text(&good), None, Some(Height(2))).is_err());
        let own = serde_json::to_vec(&CertificateJson::from(&certified(&keys, false).certificate)).unwrap();
        // Another block has another digest: its certificate proves nothing here.
        assert!(verdict(&by_lock(&keys), &text(&good), Some(&own), None).is_err());
        let same = serde_json::to_vec(&CertificateJson::from(&good.certificate)).unwrap();
        verdict(&by_lock(&keys), &text(&good), Some(&same), None).unwrap();
    }

    #[test]
    fn a_block_of_four_needs_three_commits() {
        let keys = Keyring::of(4);
        let verdict = verdict(&by_lock(&keys), &text(&certified(&keys, false)), None, None);
        assert!(verdict.unwrap_err().contains("quorum"));
    }

    #[test]
    fn what_cannot_be_read_is_not_called_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, block) = (dir.path().join("lock"), dir.path().join("block"));
        let args = |lock: &Path, block: &Path| VerifyBlockArgs {
            lock: Some(lock.to_owned()),
            group_key: None,
            block: Some(block.to_owned()),
            url: None,
            height: None,
            certificate: None,
            policy: None,
        };
        let keys = Keyring::of(1);
        let code = |lock: &Path, block: &Path| verify_block(&args(lock, block)).map_err(|error| error.code);
        assert_eq!(code(&lock, &block), Err(3), "no lock");
        std::fs::write(&lock, keys.dealt.lock.to_json()).unwrap();
        assert_eq!(code(&lock, &block), Err(3), "no block");
        std::fs::write(&block, "{}").unwrap();
        assert_eq!(code(&lock, &block), Err(1), "no block of ours");
        std::fs::write(&block, text(&certified(&keys, true))).unwrap();
        assert_eq!(code(&lock, &block), Ok(()));
        std::fs::write(&lock, keys.dealt.lock.to_json().replace("\"epoch\": 0", "\"epoch\": 1")).unwrap();
        assert_eq!(code(&lock, &block), Err(3), "a lock that does not verify");
        let bad_key = VerifyBlockArgs { lock: None, group_key: Some("00".into()), ..args(&lock, &block) };
        assert_eq!(verify_block(&bad_key).unwrap_err().code, 2);
    }
}
