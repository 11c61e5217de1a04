//! Whether a devnet ended as it should.

/// How it ended.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    /// Blocks decided.
    pub(super) decided: u64,
    /// Somebody asked to stop before the work was done.
    pub(super) interrupted: bool,
    /// How often a node ended that was not told to.
    pub(super) deaths: usize,
    /// Whether all promises about transactions were kept.
    pub(super) kept: bool,
    /// Whether the state roots of all nodes are equal; none when not all told theirs.
    pub(super) roots_equal: Option<bool>,
    /// What went wrong when the nodes were stopped.
    pub(super) stopping: Vec<String>,
}

impl Ending {
    /// What is wrong with it, one sentence each.
    pub(super) fn faults(self) -> Vec<String> {
        let Self { decided, interrupted, deaths, kept, roots_equal, stopping: mut faults } = self;
        if deaths > 0 {
            faults.push(format!("{deaths} times a node ended that was not told to"));
        }
        if decided == 0 && !interrupted {
            faults.push("nothing was decided".into());
        }
        if !kept {
            faults.push("accepted transactions were not included exactly once, in order".into());
        }
        match roots_equal {
            Some(true) => {}
            Some(false) => faults.push("state roots differ".into()),
            // The dead are a fault of their own.
            None if interrupted || deaths > 0 => {}
            None => faults.push("not all nodes told their state root".into()),
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Ending {
        Ending {
            decided: 7,
            interrupted: false,
            deaths: 0,
            kept: true,
            roots_equal: Some(true),
            stopping: Vec::new(),
        }
    }

    #[test]
    fn roots_that_were_not_compared_are_a_fault_unless_there_is_a_reason() {
        assert_eq!(good().faults(), Vec::<String>::new());
        let unknown = Ending { roots_equal: None, ..good() };
        assert_eq!(unknown.clone().faults(), ["not all nodes told their state root"]);
        assert!(Ending { interrupted: true, ..unknown.clone() }.faults().is_empty());
        let died = Ending { deaths: 1, ..unknown }.faults();
        assert_eq!(died, ["1 times a node ended that was not told to"]);
    }

    #[test]
    fn whatever_else_goes_wrong_is_told() {
        let cases = [
            Ending { decided: 0, ..good() },
            Ending { kept: false, ..good() },
            Ending { roots_equal: Some(false), ..good() },
            Ending { roots_equal: Some(false), interrupted: true, ..good() },
            Ending { stopping: vec!["node 1 did not stop".into()], ..good() },
        ];
        for case in cases {
            assert_eq!(case.clone().faults().len(), 1, "{case:?}");
        }
        assert!(Ending { decided: 0, interrupted: true, ..good() }.faults().is_empty());
    }
}
