//! What the store proves of an account.

use super::ledger::Store;
use aequa_chain::{Account, State};
use aequa_storage::StorageError;
use aequa_storage::chain_store::ChainStore as _;
use aequa_types::Address;
use aequa_types::json::AccountProofJson;
use std::sync::Arc;

/// The rows of an address in the state before the last block, whose header has the root of that state under its
/// certificate; `None` before the first block.
pub fn account_proof(store: &Store, address: &Address) -> Result<Option<AccountProofJson>, StorageError> {
    let Some(tip) = store.latest()? else { return Ok(None) };
    let Some(certified) = store.certified_header(tip.height)? else { return Ok(None) };
    let Some(proven_at) = tip.height.previous() else { return Ok(None) };
    // Of a snapshot: blocks may be stored meanwhile.
    let stored = Arc::new(store.state_at(proven_at)?);
    let proof = State::open(stored.clone()).and_then(|state| state.prove_all(Account::keys(address)));
    // What could not be read looks like damage.
    stored.check_reads()?;
    let proof = proof.map_err(|error| StorageError::ChainCorrupt { reason: error.to_string() })?;
    Ok(Some(AccountProofJson::new((&proof).into(), &certified)))
}
