//! `dvt-node verify-proof`: is this what the cluster remembers of an address?
//!
//! Nothing is trusted but the lock: not the file, not the node it came from. Proven are the rows of the address after
//! one block. What an answer of the API says beside its proof is the word of its node.

use super::{Verdict, check_header, load_lock, read_input, tell};
use crate::client::NodeClient;
use crate::flags::{path, text};
use aequa_chain::{Account, StateProof};
use aequa_crypto::lock::VerifiedLock;
use aequa_node::exit::ExitError;
use aequa_node::runtime;
use aequa_types::Address;
use aequa_types::json::{ACCOUNT_PROOF_JSON_BYTES_MAX, AccountProofJson, parse_address};
use clap::Args;
use serde::Deserialize;
use std::path::PathBuf;

/// Check what the cluster remembers of an address with nothing but the cluster lock
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["proof", "url"])))]
#[command(after_help = VERIFY_PROOF_HELP)]
pub struct VerifyProofArgs {
    /// Cluster lock to check against
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub lock: PathBuf,
    /// Answer of /v1/accounts/{address}?proof=1 as JSON; - is stdin
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub proof: Option<PathBuf>,
    /// Node to ask for it
    #[arg(long, value_name = "URL", requires = "address", value_parser = text())]
    pub url: Option<String>,
    /// Address it has to be about [default with --proof: the one it names]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub address: Option<Address>,
}

/// What a reader of `verify-proof --help` wants to know beside the flags.
const VERIFY_PROOF_HELP: &str = "\
Proven are the next nonce of each type and the credit of the address after one block,
against the state root in the header of the next block, which the cluster has certified.
nonces and pending beside the proof are the node's word.

  curl -s 'http://127.0.0.1:4600/v1/accounts/<address>?proof=1' > account.json
  dvt-node verify-proof --lock cluster-lock.json --proof account.json

Exit code: 0 valid, 1 invalid, 2 usage, 3 could not check.";

/// The part of the answer that is looked at.
#[derive(Deserialize)]
struct Answer {
    address: String,
    proof: Option<AccountProofJson>,
}

/// Checks one account; the exit code tells invalid (1) from could-not-check (3).
pub fn verify_proof(args: &VerifyProofArgs) -> Result<(), ExitError> {
    let lock = load_lock(&args.lock)?;
    let text = proof_text(args)?;
    if serde_json::from_slice::<Answer>(&text).is_ok_and(|answer| answer.proof.is_none()) {
        return Err(ExitError::unchecked("there is no proof in it")
            .hint("ask for it with ?proof=1; before the first block there is none"));
    }
    tell(verdict(&lock, &text, args.address))
}

fn verdict(lock: &VerifiedLock, text: &[u8], wanted: Option<Address>) -> Verdict {
    if text.len() > ACCOUNT_PROOF_JSON_BYTES_MAX {
        return Err(format!("the answer is longer than {ACCOUNT_PROOF_JSON_BYTES_MAX} bytes"));
    }
    let unreadable = |error: &dyn std::fmt::Display| format!("the proof does not parse: {error}");
    let answer: Answer = serde_json::from_slice(text).map_err(|error| unreadable(&error))?;
    let address = parse_address(&answer.address).map_err(|error| unreadable(&error))?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != address) {
        return Err(format!("asked for {wanted:#x}, got {address:#x}"));
    }
    let json = answer.proof.ok_or("there is no proof in it")?;
    let (state, certified) = json.into_parts().map_err(|error| unreadable(&error))?;
    let proof = StateProof::try_from(state).map_err(|error| unreadable(&error))?;
    let header = &certified.header;
    let mut checks = check_header(lock, header, &certified.certificate)?;
    let proven_at = header.height.previous().ok_or("no state is before block 0")?;
    let root = proof.root(&lock.cluster_id(), proven_at).map_err(|error| error.to_string())?;
    if root != header.state_root {
        return Err(format!(
            "the rows have state root {root}, block {} says {}",
            header.height, header.state_root
        ));
    }
    let rows = proof.rows.len();
    checks.push(format!("{rows} rows have the state root {root} that block {} carries", header.height));
    let account = Account::proven(&address, &proof).map_err(|error| error.to_string())?;
    checks.push(format!("after block {proven_at}, {address:#x} has {}", in_words(&account)));
    Ok(checks)
}

fn in_words(account: &Account) -> String {
    let nonces = account.nonces.iter().map(|(kind, next)| format!("next nonce {next} of {}", kind.name()));
    nonces.chain([format!("credit {}", account.credit)]).collect::<Vec<_>>().join(", ")
}

fn proof_text(args: &VerifyProofArgs) -> Result<Vec<u8>, ExitError> {
    match (&args.proof, &args.url, &args.address) {
        (Some(path), ..) => read_input(path, ACCOUNT_PROOF_JSON_BYTES_MAX),
        (None, Some(url), Some(address)) => {
            let node = NodeClient::new(url).map_err(ExitError::usage)?;
            runtime()?.block_on(node.account_proof(address)).map_err(ExitError::unchecked)
        }
        _ => Err(ExitError::usage("give --proof FILE, or --url URL and --address ADDRESS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_chain::State;
    use aequa_testkit::{Keyring, at, block, commit};
    use aequa_types::{CertifiedHeader, Height, OperatorIndex};
    use serde_json::{Value, json};

    const OF: Address = Address::repeat_byte(0xa1);

    /// An account with nonces and no credit after block 4, decided by the operator of the cluster.
    fn answer(keys: &Keyring) -> Value {
        let nonces = Account::keys(&OF).into_iter().take(2);
        let others = (1..30).map(|byte| Account::keys(&Address::repeat_byte(byte)).remove(0));
        let rows = nonces.chain(others).map(|key| (key, 9u64.to_be_bytes().to_vec()));
        let state = State::from_rows(rows).unwrap();
        let mut header = block(keys.cluster_id(), 5, keys.cluster_id(), vec![]).header;
        header.policy_hash = keys.dealt.lock.consensus.builder_policy_hash;
        header.proposer = OperatorIndex(0);
        header.state_root = state.root(&keys.cluster_id(), Height(4));
        let certificate = keys.certificate(&commit(at(5), 0, header.digest()), &[0]);
        let proof = state.prove_all(Account::keys(&OF)).unwrap();
        let proof = AccountProofJson::new((&proof).into(), &CertifiedHeader { header, certificate });
        json!({"address": format!("{OF:#x}"), "proof": proof})
    }

    fn of(lock: &VerifiedLock, answer: &Value, wanted: Option<Address>) -> Verdict {
        verdict(lock, answer.to_string().as_bytes(), wanted)
    }

    #[test]
    fn a_certified_account_is_valid_and_said_in_words() {
        let keys = Keyring::of(1);
        for wanted in [None, Some(OF)] {
            let checks = of(&keys.lock, &answer(&keys), wanted).unwrap();
            let told = checks.join("\n");
            for part in
                ["builder policy", "1 commit signatures", "3 rows have the state root", "after block 4"]
            {
                assert!(told.contains(part), "no {part:?} in\n{told}");
            }
            assert!(told.ends_with("next nonce 9 of plaintext_v1, next nonce 9 of auction_bid_v1, credit 0"));
        }
    }

    #[test]
    fn any_digit_changed_in_an_answer_makes_it_invalid() {
        let keys = Keyring::of(1);
        let good = answer(&keys).to_string().into_bytes();
        let digits =
            (0..good.len()).filter(|at| good[*at].is_ascii_digit() || (b'a'..=b'f').contains(&good[*at]));
        for at in digits.step_by(5) {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'1' { b'2' } else { b'1' };
            assert!(verdict(&keys.lock, &bad, None).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_address_cluster_or_state_is_invalid() {
        let (keys, other) = (Keyring::of(1), Keyring::of(1));
        let good = answer(&keys);
        assert!(of(&other.lock, &good, None).unwrap_err().contains("cluster"));
        assert!(of(&keys.lock, &good, Some(Address::ZERO)).unwrap_err().contains("asked for"));
        let mut renamed = good.clone();
        renamed["address"] = format!("{:#x}", Address::repeat_byte(3)).into();
        assert!(of(&keys.lock, &renamed, None).unwrap_err().contains("nothing is proven"));
        let mut moved = good.clone();
        moved["proof"]["height"] = 3.into();
        assert!(of(&keys.lock, &moved, None).unwrap_err().contains("height"));
        let mut bare = good;
        bare["proof"] = Value::Null;
        assert!(of(&keys.lock, &bare, None).is_err());
    }

    #[test]
    fn what_cannot_be_checked_is_neither_valid_nor_invalid() {
        let dir = tempfile::tempdir().unwrap();
        let (lock, proof) = (dir.path().join("lock"), dir.path().join("proof"));
        let code = || {
            let args =
                VerifyProofArgs { lock: lock.clone(), proof: Some(proof.clone()), url: None, address: None };
            verify_proof(&args).map_err(|error| error.code)
        };
        let keys = Keyring::of(1);
        assert_eq!(code(), Err(3), "no lock");
        std::fs::write(&lock, keys.dealt.lock.to_json()).unwrap();
        assert_eq!(code(), Err(3), "no file");
        std::fs::write(&proof, json!({"address": format!("{OF:#x}"), "nonces": {}}).to_string()).unwrap();
        assert_eq!(code(), Err(3), "no proof in it");
        std::fs::write(&proof, "{}").unwrap();
        assert_eq!(code(), Err(1), "no answer of ours");
        std::fs::write(&proof, answer(&keys).to_string()).unwrap();
        assert_eq!(code(), Ok(()));
    }
}
