//! Whether the treason is proven as far as it can be, and nobody else accused.

use super::report::Check;
use crate::attack::Provable;
use serde_json::Value;

/// What one honest node knows of evidence.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Its count of distinct evidence.
    pub counted: f64,
    /// Whom its log accuses.
    pub accused: Vec<Value>,
    /// The first page of what it shows; none when it gives no answer.
    pub page: Option<Value>,
}

impl Known {
    /// Pieces in blocks up to a height.
    fn committed(&self, tip: u64) -> Option<Vec<&Value>> {
        let pieces = self.page.as_ref()?["committed"].as_array()?;
        Some(pieces.iter().filter(|piece| piece["committed_height"].as_u64() <= Some(tip)).collect())
    }
}

/// What must hold of all honest nodes, of which each had executed the block at `tip` when it was asked.
pub(super) fn checks(known: &[Known], traitor: u8, provable: Provable, tip: u64) -> Vec<Check> {
    let fits = |some: bool, none: bool| match provable {
        Provable::Always => some,
        Provable::Perhaps => true,
        Provable::Never => none,
    };
    let counts: Vec<f64> = known.iter().map(|node| node.counted).collect();
    let accused: Vec<&Value> = known.iter().flat_map(|node| &node.accused).collect();
    let innocent = accused.iter().filter(|operator| ***operator != traitor).count();
    // One page: blocks do not change, so up to a height all have the first pieces are the same for everybody.
    let pages: Vec<Option<Vec<&Value>>> = known.iter().map(|node| node.committed(tip)).collect();
    let pieces = pages.iter().flatten().map(Vec::len).min().unwrap_or_default();
    let just = pages.iter().flatten().flatten().all(|piece| piece["evidence"]["operator"] == traitor);
    let told = pages.iter().all(Option::is_some) && pages.windows(2).all(|pair| pair[0] == pair[1]);
    vec![
        Check {
            what: match provable {
                Provable::Always => "every honest node has evidence",
                Provable::Perhaps => "evidence is possible and not required",
                Provable::Never => "no node has evidence: nothing was contradicted",
            },
            holds: fits(counts.iter().all(|count| *count > 0.0), counts.iter().all(|count| *count == 0.0)),
            found: format!("counted by the nodes: {counts:?}"),
        },
        Check {
            what: "evidence accuses the traitor and nobody else",
            holds: innocent == 0 && fits(!accused.is_empty(), accused.is_empty()),
            found: format!("{} log events, {innocent} against honest operators", accused.len()),
        },
        Check {
            what: "evidence in blocks is the same for everybody, and against the traitor",
            holds: told && just && fits(pieces > 0, pieces == 0),
            found: format!("{pieces} pieces up to height {tip} on the first page of /v1/evidence"),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A node whose blocks carry evidence against these operators at these heights.
    fn node(pieces: &[(u64, u8)]) -> Known {
        let piece = |(height, operator): &(u64, u8)| json!({ "committed_height": height, "evidence": { "operator": operator } });
        Known {
            counted: pieces.len() as f64,
            accused: pieces.iter().map(|(_, operator)| json!(operator)).collect(),
            page: Some(json!({ "committed": pieces.iter().map(piece).collect::<Vec<_>>() })),
        }
    }

    fn hold(known: &[Known], provable: Provable) -> bool {
        checks(known, 4, provable, 10).iter().all(|check| check.holds)
    }

    #[test]
    fn nodes_are_compared_up_to_the_height_all_have() {
        let (behind, ahead) = (node(&[(7, 4)]), node(&[(7, 4), (11, 4)]));
        assert!(hold(&[behind.clone(), ahead], Provable::Always));
        assert!(!hold(&[behind, node(&[(8, 4)])], Provable::Always), "another block");
    }

    #[test]
    fn a_node_that_shows_nothing_fails_the_trial() {
        let silent = Known { page: None, ..node(&[(7, 4)]) };
        assert!(!hold(&[silent.clone(), silent], Provable::Always));
    }

    #[test]
    fn evidence_is_asked_for_where_the_attack_leaves_it_and_only_there() {
        let (some, none) = (node(&[(7, 4)]), node(&[]));
        let judge = |known: &Known| {
            [Provable::Never, Provable::Perhaps, Provable::Always]
                .map(|provable| hold(&[known.clone(), known.clone()], provable))
        };
        assert_eq!(judge(&some), [false, true, true]);
        assert_eq!(judge(&none), [true, true, false]);
        assert_eq!(judge(&node(&[(7, 3)])), [false; 3], "an innocent");
    }
}
