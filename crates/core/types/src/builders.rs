//! Whom a cluster buys the blocks of its validators from, and on what terms: part of the policy in the lock, so that no
//! operator and no client chooses for itself.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use ssz_types::VariableList;
use ssz_types::typenum::{U8, U256};
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

/// Most builders of a cluster.
pub const BUILDERS_MAX: usize = 8;
/// Longest URL of one in bytes.
pub const BUILDER_URL_BYTES_MAX: usize = 256;
/// A boost of this many percent prefers neither the builders' blocks nor own ones (`builder_boost_factor` of the beacon
/// API).
pub const BOOST_NEUTRAL: u64 = 100;

/// External builders, and what their bids have to be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuilderTerms {
    /// Where they are asked, in the order they are to be; 1 to [`BUILDERS_MAX`] of them.
    pub urls: Vec<String>,
    /// A bid below this many gwei is not taken.
    pub min_bid_gwei: u64,
    /// By how many percent of its value a bid counts beside an own block; 0 takes own ones always.
    pub boost_percent: u64,
    /// The most that a builder may be owed outside of its block, in gwei; 0 takes no such promise.
    pub max_payment_gwei: u64,
}

#[derive(TreeHash)]
struct BuilderTermsSsz {
    urls: VariableList<VariableList<u8, U256>, U8>,
    min_bid_gwei: u64,
    boost_percent: u64,
    max_payment_gwei: u64,
}

impl BuilderTerms {
    /// Whether they can be followed.
    pub fn check(&self) -> Result<(), String> {
        if self.urls.is_empty() || self.urls.len() > BUILDERS_MAX {
            return Err(format!("urls: {}, must be 1 to {BUILDERS_MAX}", self.urls.len()));
        }
        for (position, url) in self.urls.iter().enumerate() {
            let at = |reason: String| Err(format!("urls[{position}]: {reason}"));
            if url.len() > BUILDER_URL_BYTES_MAX {
                return at(format!("{} bytes, must be {BUILDER_URL_BYTES_MAX} at most", url.len()));
            }
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let is_plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
            if !rest.is_some_and(is_plain) {
                return at("must begin with https:// or http:// and have no spaces".into());
            }
            if self.urls[..position].contains(url) {
                return at("appears twice".into());
            }
        }
        Ok(())
    }

    /// hash_tree_root.
    pub fn root(&self) -> B256 {
        let url = |url: &String| {
            VariableList::new(url.bytes().take(BUILDER_URL_BYTES_MAX).collect()).unwrap_or_default()
        };
        let urls: Vec<VariableList<u8, U256>> = self.urls.iter().take(BUILDERS_MAX).map(url).collect();
        BuilderTermsSsz {
            urls: VariableList::new(urls).unwrap_or_default(),
            min_bid_gwei: self.min_bid_gwei,
            boost_percent: self.boost_percent,
            max_payment_gwei: self.max_payment_gwei,
        }
        .tree_hash_root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> BuilderTerms {
        BuilderTerms {
            urls: vec!["https://0xab@relay.example".into(), "http://10.0.0.1:18550".into()],
            min_bid_gwei: 10_000_000,
            boost_percent: BOOST_NEUTRAL,
            max_payment_gwei: 0,
        }
    }

    #[test]
    fn every_field_is_hashed() {
        let changes: [&dyn Fn(&mut BuilderTerms); 6] = [
            &|terms| terms.urls.swap(0, 1),
            &|terms| terms.urls[0].push('x'),
            &|terms| drop(terms.urls.pop()),
            &|terms| terms.min_bid_gwei += 1,
            &|terms| terms.boost_percent += 1,
            &|terms| terms.max_payment_gwei += 1,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut changed = terms();
            change(&mut changed);
            assert_ne!(changed.root(), terms().root(), "{number}");
        }
    }

    #[test]
    fn terms_that_nobody_can_follow_are_refused_by_name() {
        assert_eq!(terms().check(), Ok(()));
        let refused = |urls: Vec<String>| BuilderTerms { urls, ..terms() }.check().unwrap_err();
        assert!(refused(vec![]).starts_with("urls: 0"));
        assert!(refused((0..9).map(|n| format!("https://r{n}")).collect()).starts_with("urls: 9"));
        assert!(refused(vec!["https://a".into(), "https://a".into()]).contains("urls[1]: appears twice"));
        for bad in ["", "ftp://a", "https://", "https://a b", "a.example"] {
            assert!(refused(vec![bad.into()]).starts_with("urls[0]"), "{bad}");
        }
        assert!(refused(vec![format!("https://{}", "a".repeat(256))]).contains("must be 256 at most"));
    }
}
