//! SPDX licence expressions, as far as crates use them.
//!
//! ```text
//! any  = all ("OR" all)*        all  = one ("AND" one)*
//! one  = "(" any ")" | id ["WITH" exception]
//! ```
//!
//! The old `MIT/Apache-2.0` means OR. `id WITH exception` must be allowed as it is written.

/// Whether an expression can be satisfied with allowed licences. What is not understood is not allowed.
pub fn is_allowed(expression: &str, allows: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allows };
    reader.any().is_some_and(|allowed| allowed && reader.words.is_empty())
}

struct Reader<'a> {
    words: &'a [&'a str],
    allows: &'a dyn Fn(&str) -> bool,
}

impl<'a> Reader<'a> {
    fn any(&mut self) -> Option<bool> {
        let mut allowed = self.all()?;
        while self.take("OR") {
            allowed |= self.all()?;
        }
        Some(allowed)
    }

    fn all(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let allowed = self.any()?;
            return self.take(")").then_some(allowed);
        }
        let id = self.word()?;
        if self.take("WITH") {
            let exception = self.word()?;
            return Some((self.allows)(&format!("{id} WITH {exception}")));
        }
        Some((self.allows)(id))
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }

    fn word(&mut self) -> Option<&'a str> {
        let (word, rest) = self.words.split_first()?;
        if ["OR", "AND", "WITH", "(", ")"].contains(word) {
            return None;
        }
        self.words = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> bool {
        is_allowed(expression, &|id| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&id))
    }

    #[test]
    fn one_side_of_or_and_both_sides_of_and_must_be_allowed() {
        for expression in
            ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "ISC AND (GPL-3.0 OR MIT)", "GPL-3.0 AND X OR MIT"]
        {
            assert!(allowed(expression), "{expression}");
        }
        for expression in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND X", "X OR MIT AND Y"] {
            assert!(!allowed(expression), "{expression}");
        }
    }

    #[test]
    fn an_exception_belongs_to_its_licence() {
        assert!(allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(!allowed("Apache-2.0"));
        assert!(!allowed("MIT WITH Something"));
    }

    #[test]
    fn what_is_not_understood_is_not_allowed() {
        for expression in ["", "OR", "MIT OR", "(MIT", "MIT)", "MIT ISC", "MIT WITH", "()"] {
            assert!(!allowed(expression), "{expression}");
        }
    }
}
